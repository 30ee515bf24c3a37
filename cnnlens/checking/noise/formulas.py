"""What the formulas of norms, roots of squares and interpolation lose that moving their operands does not show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.nonfinite import ANYTHING, NEARLY
from cnnlens.checking.noise.summation import rounded_alike
from cnnlens.reference.keras.normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from cnnlens.reference.operation import Operation, normalise_axis

__all__ = ["NORMS", "fast_variance", "over_squares", "positions", "root_of_squares"]

Array = NDArray[Any]

NORMS = (LayerNormalization, GroupNormalization, RMSNormalization, UnitNormalization)
# Of a variance, what must be left beside what a fast formula may lose of it: a result of less is a guess.
_KEPT = 0.6


def _groups(operation: Operation, x: Array) -> tuple[Array, tuple[int, ...]]:
    """The operand, cut into groups where a layer has such, and the axes that one norm is over."""
    if isinstance(operation, LayerNormalization | RMSNormalization | UnitNormalization):
        return x, tuple(normalise_axis(each, x.ndim) for each in operation.axes)
    if operation.kind == "Normalize":
        axis = operation.config.get("axis", -1)
        listed = cast("list[int]", axis if isinstance(axis, list | tuple) else [axis])
        return x, tuple(normalise_axis(each, x.ndim) for each in listed)
    if not isinstance(operation, GroupNormalization):
        return x, (0, *range(2, x.ndim))  # PyTorch's instance norm: each example is a channel of one
    axis = normalise_axis(operation.axis, x.ndim)
    groups = x.shape[axis] if operation.groups == -1 else operation.groups
    grouped = x.reshape(*x.shape[:axis], groups, -1, *x.shape[axis + 1 :])
    return grouped, tuple(place for place in range(1, grouped.ndim) if place != axis)


def fast_variance(operation: Operation, weights: Mapping[str, Array], x: Array, y: Array) -> Array:
    """Compute what the usual formulas lose beside a large mean, as it shows in the output: the variance as
    ``mean(x^2) - mean(x)^2`` (JAX computes it so), and the result as ``x * inv + (beta - mean * inv)``.

    Args:
        operation: A layer or a group norm, or PyTorch's instance norm.
        weights: Its vectors as ``gamma`` and ``beta``; ``x``: its operand; ``y``: what it gives.
    """
    grouped, axes = _groups(operation, x)

    def mean_of(values: Array) -> Array:
        return values.mean(axis=axes, keepdims=True)

    def spread_out(values: Array) -> Array:
        """One number a group, as it stands beside each of its values."""
        return np.broadcast_to(values, grouped.shape).reshape(x.shape)

    mean, square = mean_of(grouped), np.square(grouped)
    deviations = np.square(grouped - mean)
    variance = mean_of(deviations)
    alike = rounded_alike(mean_of, grouped, mean)
    # Of the two large numbers themselves the formula loses four units at most, a quarter of what a scale stands for.
    of_variance = np.square(mean) / 4 + 2 * np.abs(mean) * alike + rounded_alike(mean_of, square, mean_of(square))
    # Others sum squares of deviations, of which those of a map's zeros, behind a ReLU, are equal.
    of_variance = np.maximum(of_variance, rounded_alike(mean_of, deviations, variance))
    # What is lost of the variance may be most of it, or more than there is: the root of that is NaN.
    total = variance + float(operation.config.get("epsilon", getattr(operation, "epsilon", 0.0)))
    least = total - 2.0**-20 * of_variance
    nothing = spread_out(least <= total * _KEPT)
    least = np.maximum(least, total * _KEPT)
    gamma, beta = (_beside(operation, weights, role, x) for role in ("gamma", "beta"))
    lost = spread_out(of_variance / np.sqrt(total * least)) * (y - beta)
    # Keras computes x * inv + (beta - mean * inv): where the mean is large beside the deviation, both products are
    # large, and their roundings stay when they cancel.
    offset = gamma * spread_out((np.abs(mean) + alike) / np.sqrt(least))
    return np.where(nothing, ANYTHING, np.sqrt(np.square(lost) + np.square(offset)))


def _beside(operation: Operation, weights: Mapping[str, Array], role: str, x: Array) -> Array:
    """A vector of a norm as it stands beside its operand."""
    if isinstance(operation, LayerNormalization):
        scaled = [normalise_axis(each, x.ndim) for each in operation.axes]
    else:
        scaled = [normalise_axis(getattr(operation, "axis", 1), x.ndim)]
    vector = weights.get(role, np.full((), float(role == "gamma")))
    sizes = [x.shape[place] if place in scaled else 1 for place in range(x.ndim)]
    return vector.reshape(sizes) if vector.size == math.prod(sizes) else vector


def over_squares(operation: Operation, x: Array, y: Array) -> Array:
    """Compute what a norm loses that divides by a sum of squares: if they are equal they round alike, and if float32
    has not their sum, what is divided by that is anything."""
    grouped, axes = _groups(operation, x)

    def sum_of(values: Array) -> Array:
        return values.sum(axis=axes, keepdims=True)

    squares = np.square(grouped)
    sums = sum_of(squares)
    alike: Array | float = 0.0
    if not isinstance(operation, LayerNormalization | GroupNormalization):  # a variance has had its own
        alike = rounded_alike(sum_of, squares, sums) / np.maximum(2 * sums, 1e-300)
    relative, lost = (
        np.broadcast_to(each, grouped.shape).reshape(x.shape) for each in (np.asarray(alike), sums >= NEARLY)
    )
    return np.where(lost, ANYTHING, relative * np.abs(y))


def root_of_squares(operation: Operation, x: Array, y: Array) -> Array:
    """Compute what a root ``y`` of a sum of squares, or of their mean, loses: squares below float32's normal numbers
    have some of their digits or none, those beyond its last number are infinite, and equal ones round alike."""
    terms = max(x.size // max(y.size, 1), 1)
    lost = terms * 2.0**-126
    with np.errstate(all="ignore"):
        found = np.minimum(lost / np.abs(y), math.sqrt(lost)) * 2.0**20
        if operation.kind == "Norm" and operation.config.get("ord") in (None, 2):

            def sum_of(values: Array) -> Array:
                above, below = (np.asarray(operation({}, np.sqrt(np.maximum(one, 0)))) for one in (values, -values))
                return np.square(above) - np.square(below)

            found += rounded_alike(sum_of, np.square(x), np.square(y)) / np.maximum(2 * np.abs(y), 1e-150)
        return np.where(np.square(y) * terms >= NEARLY, ANYTHING, found)


def positions(x: Array, y: Array, first: int, count: int = 2, reach: int = 2) -> Array:
    """Compute what sampling positions in float32 lose, squared: they are off by a part of the position, which moves
    the output by the slope of the operand there.

    Args:
        x: The operand; ``y``: the output; axes ``first`` to ``first + count`` of both are resized.
        reach: How many places the windows reach to either side.
    """
    total = np.zeros_like(y)
    axes = [axis for axis in range(first, first + count) if axis < min(x.ndim, y.ndim)]
    for axis in axes:
        if x.shape[axis] < 2:
            continue
        # Beside what is no number the others still have their slopes.
        steps = np.nan_to_num(np.abs(np.diff(x, axis=axis)), copy=False, nan=0.0, posinf=0.0)
        slope = np.maximum(
            np.take(steps, [0, *range(steps.shape[axis])], axis), np.take(steps, [*range(steps.shape[axis]), -1], axis)
        )
        for other in axes:  # what windows reach, and where each output lies
            slope = _reached(slope, other, reach)
            slope = np.take(slope, _nearest(x.shape[other], y.shape[other]), axis=other)
        shape = [1] * y.ndim
        shape[axis] = -1
        place = np.arange(1, y.shape[axis] + 1, dtype=np.float64).reshape(shape) * (x.shape[axis] / y.shape[axis])
        total += np.square(slope * place)
    return total


def _reached(slope: Array, axis: int, reach: int) -> Array:
    """The largest within so many places along an axis."""
    size = slope.shape[axis]
    places: Array = np.arange(size, dtype=np.int64)
    near = [np.take(slope, np.clip(places + shift, 0, size - 1), axis) for shift in range(-reach, reach + 1)]
    return np.max(near, axis=0)


def _nearest(size: int, wanted: int) -> Array:
    places: Array = (np.arange(wanted) + 0.5) * (size / wanted)
    return np.clip(places.astype(np.int64), 0, size - 1)
