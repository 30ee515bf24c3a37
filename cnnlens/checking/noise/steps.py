"""The scale of rounding noise of layers that are computed in steps: a random walk through them.

Moving the operands of a recurrence a little does not show what float32 makes of it: ``1 - z`` of a gate that is all but
open keeps no digit that was not there before, and what a step rounds, the steps after it may amplify. So every
intermediate result of every step is moved by the noise that it has itself, a few times over. The same goes for
attention, whose softmax makes much of what its projections and its scores rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.case import Picked, arrays_of, map_arrays
from cnnlens.checking.noise.propagation import inner_loss, propagate
from cnnlens.checking.noise.summation import averages_alike, products_alike
from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.operation import Operation
from cnnlens.reference.stepwise import Rounding, Stepwise

__all__ = ["Stored", "step_by_step"]

Array = NDArray[Any]

_STEP = 2.0**-24
_DRAWS = 8
_AS_INFINITE = 1e4  # of which every gate is what it is of infinity


class _Noise(Rounding):
    """Moves each result by the scale of its rounding noise, up or down by chance."""

    def __init__(self, generator: np.random.Generator, alike: bool) -> None:
        self._generator = generator
        self._alike = alike

    def _moved(self, y: Array, scale: Array) -> Array:
        ups = self._by_value(y) if self._alike else self._generator.integers(0, 2, y.shape, np.int8)
        signs = ups * np.int8(2) - np.int8(1)
        return y + signs * (scale * _STEP)

    def _by_value(self, y: Array) -> Array:
        """Zeros and ones, the same for equal numbers: equal tokens have equal errors, of which no average has less."""
        one, other = (np.uint32(odd | 1) for odd in self._generator.integers(1 << 30, 1 << 32, 2).tolist())
        with np.errstate(all="ignore"):
            mixed = np.asarray(y, np.float32, order="C").view(np.uint32) * one
            mixed ^= mixed >> np.uint32(15)
            mixed *= other
        return (mixed >> np.uint32(31)).astype(np.int8)

    def total(self, z: Array, spread: Callable[[], Array]) -> Array:
        return self._moved(z, np.hypot(spread(), z))

    def product(self, a: Array, b: Array, z: Array) -> Array:
        alike = products_alike(np.matmul, a, b, z)
        return self._moved(z, np.sqrt(np.square(a) @ np.square(b) + np.square(z) + np.square(alike)))

    def average(self, shares: Array, value: Array, y: Array) -> Array:
        alike = averages_alike(shares, value, y)
        return self._moved(y, np.sqrt(np.square(shares) @ np.square(value) + np.square(y) + np.square(alike)))

    def value(self, y: Array) -> Array:
        return self._moved(y, y)

    def function(self, activation: Activation, x: Array, y: Array) -> Array:
        if not activation.elementwise:
            return self._moved(y, propagate(activation, x, np.zeros_like(x))[1])
        loss = inner_loss(activation.name, x)
        return self._moved(y, y if loss is None else np.hypot(y, loss))


class Stored(Rounding):
    """Stores each result in a format, as a framework does that computes a layer one operation after the other."""

    def __init__(self, stored: Callable[[Array], Array]) -> None:
        self._stored = stored

    def unbiased(self, z: Array) -> Array:
        return self._stored(z)

    def total(self, z: Array, spread: Callable[[], Array]) -> Array:
        return self._stored(z)

    def product(self, a: Array, b: Array, z: Array) -> Array:
        return self._stored(z)

    def average(self, shares: Array, value: Array, y: Array) -> Array:
        return self._stored(y)

    def value(self, y: Array) -> Array:
        return self._stored(y)

    def function(self, activation: Activation, x: Array, y: Array) -> Array:
        return self._stored(y)


def _without_infinity(x: Array) -> Array:
    return np.where(np.isinf(x), np.copysign(_AS_INFINITE, x), x) if x.dtype.kind == "f" else x


def step_by_step(
    operation: Operation,
    stepwise: Stepwise,
    weights: Mapping[str, Array],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    y: Array,
) -> Array:
    """Compute the noise's scale at each output ``y`` of ``operation``: ``stepwise``, or one of its outputs."""
    generator = np.random.default_rng(7)
    total = np.square(y)
    if any(np.isinf(x).any() for x in arrays_of((args, kwargs)) if x.dtype.kind == "f"):
        # Beside infinities that gates have turned into numbers the others move as they do beside large ones.
        args, kwargs = map_arrays(args, _without_infinity), map_arrays(kwargs, _without_infinity)
        y = np.asarray(operation(weights, *args, **kwargs))
    for _ in range(_DRAWS):
        moved = stepwise.rounded(_Noise(generator, stepwise.alike), weights, *args, **kwargs)
        if isinstance(operation, Picked):
            moved = operation.pick(moved)
        change = np.asarray((np.asarray(moved) - y) / _STEP)
        total += np.square(np.nan_to_num(change, copy=False, nan=0.0, posinf=0.0, neginf=0.0)) / _DRAWS
    return np.sqrt(total)
