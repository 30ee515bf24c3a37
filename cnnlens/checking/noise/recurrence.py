"""The scale of rounding noise of recurrent layers: a random walk through their steps.

Moving the operands of a recurrence a little does not show what float32 makes of it: ``1 - z`` of a gate that is all but
open keeps no digit that was not there before, and what a step rounds, the steps after it may amplify. So every
intermediate result of every step is moved by the noise that it has itself, a few times over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.case import Picked
from cnnlens.checking.noise.propagation import inner_loss
from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.keras.cells import Rounding
from cnnlens.reference.keras.recurrent import Bidirectional, Recurrent
from cnnlens.reference.operation import Operation

__all__ = ["step_by_step"]

Array = NDArray[Any]

_STEP = 2.0**-24
_DRAWS = 8


class _Noise(Rounding):
    """Moves each result by the scale of its rounding noise, up or down by chance."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def _moved(self, y: Array, scale: Array) -> Array:
        signs = self._generator.integers(0, 2, y.shape, np.int8) * np.int8(2) - np.int8(1)
        return y + signs * (scale * _STEP)

    def total(self, z: Array, spread: Callable[[], Array]) -> Array:
        return self._moved(z, np.hypot(spread(), z))

    def value(self, y: Array) -> Array:
        return self._moved(y, y)

    def function(self, activation: Activation, x: Array, y: Array) -> Array:
        loss = inner_loss(activation.name, x)
        return self._moved(y, y if loss is None else np.hypot(y, loss))


def step_by_step(
    operation: Operation,
    recurrent: Recurrent | Bidirectional,
    weights: Mapping[str, Array],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    y: Array,
) -> Array:
    """Compute the noise's scale at each output ``y`` of ``operation``: ``recurrent``, or one of its outputs."""
    generator = np.random.default_rng(7)
    total = np.square(y)
    for _ in range(_DRAWS):
        moved = recurrent.rounded(_Noise(generator), weights, *args, **kwargs)
        if isinstance(operation, Picked):
            moved = operation.pick(moved)
        change = np.asarray((np.asarray(moved) - y) / _STEP)
        total += np.square(np.nan_to_num(change, copy=False, nan=0.0, posinf=0.0, neginf=0.0)) / _DRAWS
    return np.sqrt(total)
