"""The reference against Keras on every layer of keras.applications' models.

The largest difference of each layer is given as a part of the layer's largest value: 1e-5 is what float32 rounding
leaves room for in networks this deep.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import cnnlens
from benchmarks.harness import Options, Report, output, peer

NAMES = (
    "MobileNetV2 MobileNetV3Small EfficientNetB0 EfficientNetV2B0 ResNet50 ResNet50V2 DenseNet121 Xception "
    "NASNetMobile ConvNeXtTiny VGG16 InceptionV3 InceptionResNetV2"
).split()
SMALL = ("MobileNetV3Small", "MobileNetV2")  # the ones that the tests run
LIMIT = 1e-5


@dataclass(frozen=True)
class Agreement:
    """How far the reference and Keras are apart: at the worst layer, and at the output."""

    name: str
    layers: int
    worst: float
    worst_layer: str
    seconds: float


def write_models(folder: Path, names: list[str], backend: str = "tensorflow") -> None:
    """Have Keras save the models and its own feature maps, in a process of its own."""
    output(peer("keras_applications", folder, *names), backend)


def compare(folder: Path, name: str, dtype: str = "float32") -> Agreement:
    """Run the reference on a model that ``write_models`` made and hold every layer against Keras."""
    network = cnnlens.open(folder / f"{name}.keras")
    image = np.load(folder / f"{name}.input.npy")
    start = time.perf_counter()
    maps = network.run(np.moveaxis(image, -1, 1), dtype=dtype)
    seconds = time.perf_counter() - start
    worst, worst_layer = 0.0, ""
    names = json.loads((folder / name / "names.json").read_text())
    for index, layer in enumerate(names):
        theirs = np.load(folder / name / f"{index}.npy")
        ours = maps[layer]
        if theirs.ndim > 2:
            theirs = np.moveaxis(theirs, -1, 1)
        if ours.shape != theirs.shape:
            raise AssertionError(f"{name} {layer}: shape {ours.shape}, and Keras has {theirs.shape}")
        difference = np.abs(ours.astype(np.float64) - theirs).max() / max(np.abs(theirs).max(), 1e-30)
        if not difference <= worst:
            worst, worst_layer = float(difference), layer
    return Agreement(name, len(names), worst, worst_layer, seconds)


def run(options: Options, report: Report) -> None:
    """Compare each, one at a time so that the disk holds one model's feature maps alone."""
    results: list[Agreement] = []
    for name in options.names or (SMALL if options.small else NAMES):
        folder = Path(tempfile.mkdtemp(prefix="cnnlens-bench-"))
        try:
            write_models(folder, [name])
            found = compare(folder, name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        results.append(found)
        verdict = "ok" if found.worst <= LIMIT else "TOO FAR"
        print(
            f"{name:18} {found.layers:4} layers   worst {found.worst:.1e} at {found.worst_layer:30} "
            f"{found.seconds:6.2f} s   {verdict}",
            flush=True,
        )
    report.found = [asdict(one) for one in results]
    report.good &= all(one.worst <= LIMIT for one in results)
