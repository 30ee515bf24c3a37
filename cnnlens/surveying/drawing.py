"""The numbers that settings are tried on: plain ones, and those at which arithmetic parts ways.

Each class is a few examples of one batch: one run shows all of them, and an audit can be asked about each alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.network.network import Network

__all__ = ["CLASSES", "draw", "rows_of"]

Array = NDArray[np.float32]
_TINY = np.float32(2.0**-126)  # the smallest normal number of float32
_LARGE = np.float32(1e15)  # its square is a number, and sums of a thousand such squares are


def _normal(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.standard_normal(shape, np.float32)


def _constant(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.full(shape, 0.7, np.float32)


def _one_hot(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    x = np.zeros(shape, np.float32)
    x.reshape(-1)[random.integers(x.size)] = 1
    return x


def _zeros(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    x = np.zeros(shape, np.float32)
    x[random.random(shape) < 0.5] = -0.0
    return x


def _subnormal(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return _normal(random, shape) * np.float32(_TINY / 8)


def _large(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return _normal(random, shape) * _LARGE


def _spread(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Of both signs and all sizes from 2**-20 to 2**7, where functions of single numbers bend."""
    return _normal(random, shape) * np.exp2(random.uniform(-20, 7, shape)).astype(np.float32)


def _with(value: float) -> Callable[[np.random.Generator, tuple[int, ...]], Array]:
    def drawn(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        x = _normal(random, shape)
        x.reshape(-1)[random.integers(x.size)] = value
        return x

    return drawn


CLASSES: Mapping[str, tuple[int, Callable[[np.random.Generator, tuple[int, ...]], Array]]] = {
    "normal": (2, _normal), "constant": (1, _constant), "one-hot": (1, _one_hot), "signed zeros": (1, _zeros),
    "subnormal": (1, _subnormal), "large": (1, _large), "spread": (2, _spread), "one NaN": (1, _with(np.nan)),
    "one infinity": (1, _with(np.inf)), "one -infinity": (1, _with(-np.inf)),
}  # fmt: skip
"""Each class of inputs: how many examples it has, and what draws one."""


def rows_of(name: str) -> tuple[int, int]:
    """Say where the examples of a class stand in a batch."""
    counts = {one: count for one, (count, _) in CLASSES.items()}
    start = sum(list(counts.values())[: list(counts).index(name)])
    return start, start + counts[name]


def draw(network: Network) -> list[NDArray[Any]]:
    """Draw a batch for each input of a network, canonical ``(N, C, *spatial)``: by its shape, and the same every time.

    Whole numbers are drawn where an input takes them, from below the number that its layer's name ends with.
    """
    drawn: list[NDArray[Any]] = []
    for place, ref in enumerate(network.inputs):
        shape = tuple(size or 1 for size in (network.canonical_shape(ref) or ())[1:])
        config = network.calls_by_name[ref.call].layer.config
        random = np.random.default_rng(zlib.crc32(f"{ref.name.partition('_')[0]} {shape} {place}".encode()))
        rows = [(count, made) for count, made in CLASSES.values()]
        below = int(ref.name.rpartition("_")[2]) if ref.name.startswith("index") else 0
        total = sum(count for count, _ in rows)
        if below:
            drawn.append(random.integers(0, below, (total, *shape)).astype(config.get("dtype", "int32")))
        else:
            drawn.append(np.stack([made(random, shape) for count, made in rows for _ in range(count)]))
    return drawn
