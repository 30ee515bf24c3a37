"""Whole commands and the reference's throughput against the usual way with Keras."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import Options, Report, Row, cnnlens, in_turn, output, peer, seconds
from cnnlens import sample

_COUNT = 10_000  # images


def summary(runs: int) -> Row:
    """``cnnlens summary`` against load_model and printing the same, cold processes."""
    sides = {
        "ours": lambda: seconds(cnnlens("summary", sample.MODEL)),
        "peer": lambda: seconds(peer("keras_summary", sample.MODEL)),
    }
    taken = in_turn(sides, runs)
    return Row.of(f"summary of {sample.MODEL.name}, whole process", taken["ours"], taken["peer"], "s", 1 / 10)


def kernels(runs: int) -> Row:
    """``cnnlens kernels`` against the notebook recipe, cold processes."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            "ours": lambda: seconds(cnnlens("kernels", sample.MODEL, "-o", f"{folder}/a.png")),
            "peer": lambda: seconds(peer("keras_kernels", sample.MODEL, f"{folder}/b.png")),
        }
        taken = in_turn(sides, runs)
    return Row.of(f"kernels of {sample.MODEL.name}, whole process", taken["ours"], taken["peer"], "s", 1 / 4)


def grid(runs: int, tiles: int = 512) -> Row:
    """One mosaic against one ``plt.subplots`` axes a tile, saved as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    from cnnlens import plot

    array = np.random.default_rng(0).normal(size=(tiles, 1, 3, 3)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:

        def ours() -> float:
            start = time.perf_counter()
            plot.save(plot.kernels(array), Path(folder) / "a.png")
            return time.perf_counter() - start

        def subplots() -> float:
            start = time.perf_counter()
            figure, axes = pyplot.subplots(16, tiles // 16, figsize=(tiles / 32, 8))
            for index, ax in enumerate(axes.flat):
                ax.imshow(array[index, 0], cmap="RdBu_r", vmin=-3, vmax=3)
                ax.axis("off")
            figure.savefig(Path(folder) / "b.png")
            pyplot.close(figure)
            return time.perf_counter() - start

        taken = in_turn({"ours": ours, "peer": subplots}, runs)
    return Row.of(f"a grid of {tiles} tiles", taken["ours"], taken["peer"], "s", 1 / 5)


def extraction(batch: int, count: int) -> Row:
    """Both convolutions of the sample for many images: the reference in float32 against ``Model.predict`` under TF."""
    from benchmarks.cases import fashion

    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", fashion("t10k", count)[..., None].astype(np.float32) / 255)
        common = [sample.MODEL, f"{folder}/images.npy", "conv2d,conv2d_1", batch, 3]
        ours = [sys.executable, "-m", "benchmarks.speed", "extract", *map(str, common)]
        sides = {
            "ours": lambda: statistics.median(map(float, output(ours).split())),
            "peer": lambda: statistics.median(map(float, output(peer("keras_predict", *common)).split())),
        }
        taken = in_turn(sides, 2)
    name = f"{count:,} images, two convolutions, predict batch {batch}"
    return Row.of(name, taken["ours"], taken["peer"], "images/s", 1)


def extract(model: str, images: str, layers: str, batch: str, repeats: str) -> None:
    """The reference's side of ``extraction``, in a process of its own; ``batch`` is Keras' affair."""
    from cnnlens import open as open_model
    from cnnlens.reference.executor import Executor

    del batch
    executor = Executor(open_model(model), dtype="float32", layers=layers.split(","))
    array = np.load(images)
    executor.run(array[:256])
    for _ in range(int(repeats)):
        start = time.perf_counter()
        executor.run(array)
        print(len(array) / (time.perf_counter() - start), flush=True)


def memory() -> Row:
    """ResNet50 at 224 x 224, one image, float64, every layer kept: peak memory of the whole process in GB."""
    from benchmarks.applications import write_models

    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder), ["ResNet50"])
        peak, took = json.loads(output([sys.executable, "-m", "benchmarks.speed", "resnet", folder]))
    return Row.limit(f"ResNet50 float64, all layers kept ({took:.1f} s)", peak, 4.0, "GB")


def resnet(folder: str) -> None:
    """The measured process of ``memory``."""
    from cnnlens import open as open_model

    network = open_model(Path(folder) / "ResNet50.keras")
    image = np.load(Path(folder) / "ResNet50.input.npy")
    start = time.perf_counter()
    maps = network.run(np.moveaxis(image, -1, 1))
    took = time.perf_counter() - start
    assert len(maps) == len(network.layers)
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, took]))


def run(options: Options, report: Report) -> None:
    """Every row."""
    runs, count = (1, 256) if options.small else (5, _COUNT)
    for make in (summary, kernels, grid):
        report.row(make(runs))
    for batch in (32, 256):
        report.row(extraction(batch, count))
    report.row(memory())


if __name__ == "__main__":
    {"extract": extract, "resnet": resnet}[sys.argv[1]](*sys.argv[2:])
