"""Whole commands and the reference's throughput against the usual way with Keras, both sides in turn, as ratios.

Every figure is the median of several runs, A B A B …, so that a machine whose speed drifts moves both sides.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnlens import sample

ROOT = Path(__file__).parent.parent
PEERS = "benchmarks.peers"


@dataclass(frozen=True)
class Row:
    """One measurement: ``ratio`` is how many times better cnnlens is than its peer; ``goal`` what it should reach."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    goal: float

    def __str__(self) -> str:
        verdict = "ok" if self.ratio >= self.goal else "SHORT"
        return (
            f"{self.name:58} {self.ours:10.3f} {self.peer:10.3f} {self.unit:9} ratio {self.ratio:7.2f}  "
            f"(goal {self.goal:g}) {verdict}"
        )


def environment() -> dict[str, str]:
    return {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def _seconds(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        command, env=environment(), cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def in_turn(ours: Callable[[], float], peer: Callable[[], float], runs: int) -> tuple[float, float]:
    ours(), peer()  # warm: files in the page cache, byte code compiled
    pairs = [(ours(), peer()) for _ in range(runs)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def summary(model: Path, runs: int = 5) -> Row:
    """``cnnlens summary`` against load_model and printing the same, cold processes."""
    ours = [sys.executable, "-m", "cnnlens", "summary", str(model)]
    peer = [sys.executable, "-m", f"{PEERS}.keras_summary", str(model)]
    a, b = in_turn(lambda: _seconds(ours), lambda: _seconds(peer), runs)
    return Row(f"summary of {model.name}, whole process", a, b, "s", b / a, 10)


def kernels(model: Path, runs: int = 5) -> Row:
    """``cnnlens kernels`` against the notebook recipe, cold processes."""
    with tempfile.TemporaryDirectory() as folder:
        ours = [sys.executable, "-m", "cnnlens", "kernels", str(model), "-o", f"{folder}/a.png"]
        peer = [sys.executable, "-m", f"{PEERS}.keras_kernels", str(model), f"{folder}/b.png"]
        a, b = in_turn(lambda: _seconds(ours), lambda: _seconds(peer), runs)
    return Row(f"kernels of {model.name}, whole process", a, b, "s", b / a, 4)


def grid(tiles: int = 512, runs: int = 5) -> Row:
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

        def peer() -> float:
            start = time.perf_counter()
            figure, axes = pyplot.subplots(16, tiles // 16, figsize=(tiles / 32, 8))
            for index, ax in enumerate(axes.flat):
                ax.imshow(array[index, 0], cmap="RdBu_r", vmin=-3, vmax=3)
                ax.axis("off")
            figure.savefig(Path(folder) / "b.png")
            pyplot.close(figure)
            return time.perf_counter() - start

        a, b = in_turn(ours, peer, runs)
    return Row(f"a grid of {tiles} tiles", a, b, "s", b / a, 5)


def extraction(images: Path | None = None, count: int = 10_000, runs: int = 3) -> list[Row]:
    """Both convolutions of the sample for many images: the reference in float32 against ``Model.predict`` under TF."""
    array = _images(images, count)
    layers = "conv2d,conv2d_1"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", array)

        def rate(command: list[str]) -> float:
            done = subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True, text=True)
            return statistics.median(float(line) for line in done.stdout.split())

        for batch in (32, 256):
            common = [str(sample.MODEL), f"{folder}/images.npy", layers, str(batch), str(runs)]
            ours = [sys.executable, "-m", "benchmarks.speed", "extract", *common]
            peer = [sys.executable, "-m", f"{PEERS}.keras_predict", *common]
            a, b = in_turn(lambda: rate(ours), lambda: rate(peer), 2)  # noqa: B023
            rows.append(Row(f"{count:,} images, two convolutions, predict batch {batch}", a, b, "images/s", a / b, 1))
    return rows


def _images(path: Path | None, count: int) -> np.ndarray:
    """``(N, 28, 28, 1)`` float32: Fashion-MNIST's test images where they are, else noise of the same size."""
    debian = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
    if path is None and not debian.exists():
        return np.random.default_rng(0).random((count, 28, 28, 1), np.float32)
    from cnnlens.inputs import images

    return np.ascontiguousarray(np.moveaxis(images.load(path or debian, shape=(1, 28, 28)).array[:count], 1, -1))


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
        command = [sys.executable, "-m", "benchmarks.speed", "resnet", folder]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    peak, seconds = json.loads(done.stdout)
    return Row(f"ResNet50 float64, all layers kept ({seconds:.1f} s)", peak, 4.0, "GB", 4.0 / peak, 1)


def resnet(folder: str) -> None:
    """The measured process of ``memory``."""
    from cnnlens import open as open_model

    network = open_model(Path(folder) / "ResNet50.keras")
    image = np.load(Path(folder) / "ResNet50.input.npy")
    start = time.perf_counter()
    maps = network.run(np.moveaxis(image, -1, 1))
    seconds = time.perf_counter() - start
    assert len(maps) == len(network.layers)
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, seconds]))


def run() -> list[Row]:
    """Every row, printed as it is measured."""
    rows: list[Row] = []
    for make in (
        lambda: [summary(sample.MODEL)],
        lambda: [kernels(sample.MODEL)],
        lambda: [grid()],
        extraction,
        lambda: [memory()],
    ):
        for row in make():
            print(row, flush=True)
            rows.append(row)
    return rows


if __name__ == "__main__":
    {"extract": extract, "resnet": resnet}[sys.argv[1]](*sys.argv[2:])
