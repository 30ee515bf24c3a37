"""What more than one part measures on: models, the layers that are wanted of them, and images.

Fashion-MNIST's 60,000 training images where Debian's package ``dataset-fashion-mnist`` has put them, else noise of the
same size and type in their place.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import output, peer
from cnnlens import sample

__all__ = ["NAMES", "Case", "case", "fashion"]

NAMES = ("sample", "MobileNetV2")
FASHION = Path("/usr/share/datasets/fashion-mnist")
_ALL = {"train": 60_000, "t10k": 10_000}
_SIZE = 96  # pixels a side, of MobileNetV2
_LAYERS = {"sample": "conv2d,conv2d_1", "MobileNetV2": "Conv1,block_3_expand,block_6_expand,block_16_project"}


@dataclass(frozen=True)
class Case:
    """A model, the layers that are wanted, and images ``(N, H, W, C)`` of bytes in a file, ``batch`` at a time."""

    name: str
    model: Path
    layers: str
    images: Path
    count: int
    batch: int

    def told(self, backend: str, device: str) -> list[str]:
        """The arguments with which a command of cnnlens streams it."""
        return [
            str(self.model), "--inputs", str(self.images), "--scale", "0..1", "--backend", backend, "--device", device,
            "--layers", self.layers,
        ]  # fmt: skip

    @property
    def by_hand(self) -> list[str]:
        """The arguments with which ``peers/keras_dataset.py`` does."""
        return [str(self.model), self.layers, str(self.images), str(self.batch)]


def fashion(which: str, count: int) -> NDArray[np.uint8]:
    """The first images of ``train`` or ``t10k``, ``(count, 28, 28)``."""
    path = FASHION / f"{which}-images-idx3-ubyte.gz"
    if not path.exists():
        return np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
    pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    return pixels.reshape(_ALL[which], 28, 28)[:count]


def case(name: str, count: int, folder: Path) -> Case:
    """Make a case of ``count`` images; what it needs is written into ``folder``."""
    layers, images = _LAYERS[name], folder / f"{name}-{count}.npy"
    if name == "sample":
        pixels: NDArray[Any] = fashion("train", count)[..., None]
        model, batch = sample.MODEL, 256
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (count, _SIZE, _SIZE, 3), np.uint8)
        model, batch = folder / f"{name}.keras", 32
        if not model.exists():
            output(peer("keras_loops", "save", name, _SIZE, folder), "keras-jax")
    if not images.exists():
        np.save(images, pixels)
    return Case(name, model, layers, images, count, batch)
