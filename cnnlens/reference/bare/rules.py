"""Shape rules for bare ops: what comes out of an op, from shapes alone.

Most shapes follow from one of a few rules. Where the result's shape is as involved as the function itself (slicing,
stacking, reshaping), the function is run on arrays of single bytes that share one cell, once for each of two guesses
of the unknown sizes: what changes between the guesses is unknown in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.keras.merging import broadcast_shape
from cnnlens.reference.operation import Array, Shape

__all__ = [
    "Rule",
    "Settings",
    "agreed",
    "axes_of",
    "broadcast",
    "is_shape",
    "matmul",
    "nothing",
    "probed",
    "reduced",
    "same",
    "shape_of",
]

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """Says what an op computes.

    Attributes:
        function: ``function(settings, *operands)`` to an array or a list of arrays.
        shape: ``shape(settings, *operands)``, with shapes where arrays are, to a shape or a list of shapes.
        operands: Names of the leading arguments that are data; empty where any number may come.
        settings: Names of what may follow them by place.
    """

    function: Callable[..., Any]
    shape: Callable[..., Any]
    operands: tuple[str, ...] = ("x",)
    settings: tuple[str, ...] = ()


def is_shape(value: Any) -> bool:
    """Tell whether an argument stands for an array: a tuple of sizes, as JSON's lists never are."""
    return isinstance(value, tuple) and all(size is None or isinstance(size, int) for size in cast("Any", value))


def shape_of(value: Any) -> Shape:
    """Give the shape of an operand: as given, of a constant, or of a number."""
    return cast("Shape", value) if is_shape(value) else tuple(np.shape(value))


def same(settings: Settings, x: Any, *rest: Any) -> Shape:
    """Give the shape of the first operand."""
    return shape_of(x)


def broadcast(settings: Settings, *operands: Any) -> Shape:
    """Give the shape of all operands spread over each other."""
    return broadcast_shape(*(shape_of(value) for value in operands))


def axes_of(value: Any, rank: int) -> tuple[int, ...]:
    """Read an axis, several, or None for all, counted from the front."""
    if value is None:
        return tuple(range(rank))
    items = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else [value]
    if any(not -rank <= int(item) < rank for item in items):
        raise UnsupportedLayerError(f"axis {value} is outside an array of {rank} axes")
    return tuple(int(item) % rank for item in items)


def reduced(settings: Settings, x: Any) -> Shape:
    """Give the shape without the axes reduced over, or with ones there."""
    shape = shape_of(x)
    axes = axes_of(settings.get("axis"), len(shape))
    keep = bool(settings.get("keepdims", False))
    return tuple(1 if place in axes else size for place, size in enumerate(shape) if keep or place not in axes)


def _matmul(settings: Settings, a: Any, b: Any) -> Any:
    return np.matmul(a, b)


def matmul(settings: Settings, a: Any, b: Any) -> Shape:
    """Give the shape of rows of the first by columns of the second, leading axes spread."""
    first, second = shape_of(a), shape_of(b)
    if len(first) < 2 or len(second) < 2:
        return cast("Shape", probed(_matmul)(settings, a, b))
    if None not in (first[-1], second[-2]) and first[-1] != second[-2]:
        raise UnsupportedLayerError(f"shapes do not fit together: {first}, {second}")
    return (*broadcast_shape(first[:-2], second[:-2]), first[-2], second[-1])


def probed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the shape rule that runs the function itself on arrays of bytes without memory of their own."""

    def rule(settings: Settings, *operands: Any) -> Any:
        first, second = (function(settings, *[_probe(value, guess) for value in operands]) for guess in (2, 3))
        return agreed(first, second)

    return rule


def _probe(value: Any, guess: int) -> Any:
    if is_shape(value):
        return nothing(cast("Shape", value), guess)
    if isinstance(value, list) and any(is_shape(item) for item in cast("list[Any]", value)):
        return [_probe(item, guess) for item in cast("list[Any]", value)]
    return cast("Any", value)


def nothing(shape: Shape, guess: int) -> Array:
    """Make an array of bytes without memory of its own, of this shape where unknown sizes are ``guess``."""
    return np.broadcast_to(np.zeros((), np.int8), [guess if size is None else size for size in shape])


def agreed(first: Any, second: Any) -> Any:
    """Give the shape, or the shapes, of what came of two guesses: what changes between them is unknown."""
    if isinstance(first, list | tuple):
        return [agreed(a, b) for a, b in zip(cast("Sequence[Any]", first), second, strict=True)]
    return tuple(a if a == b else None for a, b in zip(np.shape(first), np.shape(second), strict=True))
