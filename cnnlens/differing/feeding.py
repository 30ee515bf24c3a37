"""B's steps on other tensors than B's own: what they would give if they were given what A has in their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.tracing import Trace, TracedCall
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import CONFIG_ERRORS

__all__ = ["Feeding", "in_axes_of"]

Array: TypeAlias = NDArray[Any]

_DEPTH = 12  # steps that B may take where A takes one


def in_axes_of(step: TracedCall, array: Array) -> Array:
    """A canonical array in the own axes of the step's network."""
    return array if array.ndim < 3 or step.call.channel_axis == 1 else np.moveaxis(array, 1, -1)


class Feeding:
    """Gives steps of B other tensors than B's own: those of A that stand in their places.

    Attributes:
        taken: By the name of B's tensor what stands for it, in canonical axes.
    """

    def __init__(self, b: Trace) -> None:
        self.b = b
        self.taken: dict[str, Array] = {}
        self._steps = {step.name: step for step in b.steps}
        self._moved: set[str] = set()  # tensors that come of what was taken
        self._made: dict[str, TracedCall] = {}

    def take(self, step: TracedCall, array: Array) -> None:
        """Let everything behind ``step`` be computed of ``array``."""
        self.taken[step.name] = array
        self._moved.add(step.name)
        for one in self.b.steps:
            if one.name not in self._moved and not self._moved.isdisjoint(one.inputs):
                self._moved.add(one.name)
        self._made.clear()

    def step(self, name: str) -> TracedCall:
        """Compute the step of this name on what its inputs are now; as B has it where nothing in front has changed.

        Raises:
            CnnlensError: The inputs do not fit.
        """
        step = self._steps[name]
        if self._moved.isdisjoint(step.inputs):
            return step
        if name not in self._made:
            self._made[name] = step.on(self._value)
        return self._made[name]

    def _value(self, name: str) -> Array:
        """A tensor in B's own axes."""
        if name not in self._moved:
            return self.b.own[name]
        step = self._steps[name]
        return in_axes_of(step, self.taken[name]) if name in self.taken else self.step(name).output

    def fed(self, step: TracedCall) -> TracedCall | None:
        """Compute the step as :meth:`step` does; None where its inputs do not fit."""
        try:
            return self.step(step.name)
        except (CnnlensError, *CONFIG_ERRORS):
            return None

    def near(self, sources: Sequence[str]) -> list[tuple[int, TracedCall]]:
        """List B's steps, as B has them, that come of these tensors within a few steps, with how many."""
        reach = dict.fromkeys(sources, 0)
        found: list[tuple[int, TracedCall]] = []
        for step in self.b.steps:
            depths = [reach[name] for name in step.inputs if name in reach]
            if depths and max(depths) < _DEPTH and step.name not in reach:
                reach[step.name] = max(depths) + 1
                found.append((reach[step.name], step))
        return found
