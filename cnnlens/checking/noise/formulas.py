"""What the formulas of norms, roots of squares and interpolation lose that moving their operands does not show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.summation import rounded_alike
from cnnlens.reference.keras.normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from cnnlens.reference.operation import normalise_axis

__all__ = ["ANYTHING", "NORMS", "fast_variance", "flushed_squares", "positions", "without_square"]

Array = NDArray[Any]

_STEP = 2.0**-24
_Norm = LayerNormalization | GroupNormalization | RMSNormalization | UnitNormalization
NORMS = (LayerNormalization, GroupNormalization, RMSNormalization, UnitNormalization)
_NO_SQUARE = 2.0**126
#: A scale so large that any number is within it.
ANYTHING = 1e100


def _groups(operation: _Norm, x: Array) -> tuple[Array, tuple[int, ...]]:
    """The operand, cut into groups where a layer has such, and the axes that one norm is over."""
    if not isinstance(operation, GroupNormalization):
        return x, tuple(normalise_axis(each, x.ndim) for each in operation.axes)
    axis = normalise_axis(operation.axis, x.ndim)
    groups = x.shape[axis] if operation.groups == -1 else operation.groups
    grouped = x.reshape(*x.shape[:axis], groups, -1, *x.shape[axis + 1 :])
    return grouped, tuple(place for place in range(1, grouped.ndim) if place != axis)


def fast_variance(operation: LayerNormalization | GroupNormalization, weights: Mapping[str, Array], x: Array) -> Array:
    """Compute what the usual formulas lose beside a large mean, as it shows in the output: the variance as
    ``mean(x^2) - mean(x)^2`` (JAX computes it so), and the result as ``x * inv + (beta - mean * inv)``."""
    grouped, axes = _groups(operation, x)

    def mean_of(values: Array) -> Array:
        return values.mean(axis=axes, keepdims=True)

    def spread_out(values: Array) -> Array:
        """One number a group, as it stands beside each of its values."""
        return np.broadcast_to(values, grouped.shape).reshape(x.shape)

    mean, variance, square = mean_of(grouped), grouped.var(axis=axes, keepdims=True), np.square(grouped)
    alike = rounded_alike(mean_of, grouped, mean)
    of_variance = np.square(mean) + 2 * np.abs(mean) * alike + rounded_alike(mean_of, square, mean_of(square))
    # What is lost of the variance may be most of it, or more than there is: the root of that is NaN.
    total = variance + operation.epsilon
    least = total - 4 * _STEP * of_variance
    nothing = spread_out(least <= total * 2.0**-8)
    least = np.maximum(least, total * 2.0**-8)
    silent = {name: np.zeros_like(array) if name == "beta" else array for name, array in weights.items()}
    lost = spread_out(of_variance / np.sqrt(total * least)) * operation(silent, x)
    # Keras computes x * inv + (beta - mean * inv): where the mean is large beside the deviation, both products are
    # large, and their roundings stay when they cancel.
    scaled = axes if isinstance(operation, LayerNormalization) else (normalise_axis(operation.axis, x.ndim),)
    gamma = weights.get("gamma", np.ones(()))
    sizes = [x.shape[place] if place in scaled else 1 for place in range(x.ndim)]
    factor = gamma.reshape(sizes) if gamma.size == math.prod(sizes) else np.abs(gamma).max(initial=1.0)
    offset = factor * spread_out((np.abs(mean) + alike) / np.sqrt(least))
    return np.where(nothing, ANYTHING, np.sqrt(np.square(lost) + np.square(offset)))


def without_square(operation: _Norm, x: Array) -> Array:
    """Find outputs whose norm is over a number that float32 has no square of: it is infinite, and what is divided by
    that is anything."""
    grouped, axes = _groups(operation, x)
    lost = np.square(grouped).max(axis=axes, keepdims=True, initial=0.0) >= _NO_SQUARE
    return np.broadcast_to(lost, grouped.shape).reshape(x.shape)


def flushed_squares(x: Array, y: Array) -> Array:
    """Compute what a root ``y`` of a sum of squares loses where squares are below float32's normal numbers: some of
    their digits, or all of them where they are flushed to zero."""
    lost = max(x.size // max(y.size, 1), 1) * 2.0**-126
    with np.errstate(all="ignore"):
        return np.minimum(lost / np.abs(y), math.sqrt(lost)) * 2.0**20


def positions(x: Array, y: Array, first: int, count: int = 2) -> Array:
    """Compute what sampling positions in float32 lose, squared: they are off by a part of the position, which moves
    the output by the slope of the operand there.

    Args:
        x: The operand; ``y``: the output; axes ``first`` to ``first + count`` of both are resized.
    """
    total = np.zeros_like(y)
    axes = [axis for axis in range(first, first + count) if axis < min(x.ndim, y.ndim)]
    for axis in axes:
        if x.shape[axis] < 2:
            continue
        steps = np.abs(np.diff(x, axis=axis))
        slope = np.maximum(
            np.take(steps, [0, *range(steps.shape[axis])], axis), np.take(steps, [*range(steps.shape[axis]), -1], axis)
        )
        for other in axes:  # what bicubic windows reach, and where each output lies
            slope = _reached(slope, other)
            slope = np.take(slope, _nearest(x.shape[other], y.shape[other]), axis=other)
        shape = [1] * y.ndim
        shape[axis] = -1
        place = np.arange(1, y.shape[axis] + 1, dtype=np.float64).reshape(shape) * (x.shape[axis] / y.shape[axis])
        total += np.square(slope * place)
    return total


def _reached(slope: Array, axis: int) -> Array:
    """The largest within two places along an axis."""
    size = slope.shape[axis]
    places: Array = np.arange(size, dtype=np.int64)
    near = [np.take(slope, np.clip(places + shift, 0, size - 1), axis) for shift in (-2, -1, 0, 1, 2)]
    return np.max(near, axis=0)


def _nearest(size: int, wanted: int) -> Array:
    places: Array = (np.arange(wanted) + 0.5) * (size / wanted)
    return np.clip(places.astype(np.int64), 0, size - 1)
