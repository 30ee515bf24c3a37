"""Operations that are computed in steps, and what an arithmetic does to what they hand on from one to the next.

How far an honest result of such an operation may be off cannot be told from its operands and its output alone: who
wants to know goes through the steps with another ``Rounding``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.operation import Array, Operation, Weights

__all__ = ["EXACT", "Rounding", "Stepwise", "dense"]


class Rounding:
    """Says what an arithmetic does to the intermediate results of a step; this one does nothing."""

    def unbiased(self, z: Array) -> Array:
        """Round a sum of products ``z`` before a bias is added, where that is stored."""
        return z

    def total(self, z: Array, spread: Callable[[], Array]) -> Array:
        """Round a sum of products ``z``; ``spread()`` is the root of the sum of their squares."""
        return z

    def product(self, a: Array, b: Array, z: Array) -> Array:
        """Round ``z``, the matrix product of ``a`` and ``b``."""
        return z

    def average(self, shares: Array, value: Array, y: Array) -> Array:
        """Round ``y``, the matrix product of ``shares``, of which each row sums up to 1, and ``value``."""
        return y

    def value(self, y: Array) -> Array:
        """Round one operation's result."""
        return y

    def function(self, activation: Activation, x: Array, y: Array) -> Array:
        """Round what an activation made of ``x``."""
        return y


EXACT = Rounding()


class Stepwise(Operation):
    """Computes a layer whose steps each round: a recurrence, attention, an expression."""

    #: Whether it makes sums over what was computed alike at many places, of which equal ones have equal errors.
    alike = False

    def rounded(self, rounding: Rounding, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        """Give the layer with its intermediate results as ``rounding`` leaves them."""
        raise NotImplementedError

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        return self.rounded(EXACT, weights, *args, **kwargs)


def dense(x: Array, kernel: Array, bias: Array | None, rounding: Rounding) -> Array:
    """Compute ``x @ kernel + bias`` of rows ``x``, rounded."""
    z = rounding.unbiased(x @ kernel)
    if bias is not None:
        z += bias

    def spread() -> Array:
        squares = np.square(x) @ np.square(kernel)
        return np.sqrt(squares if bias is None else squares + np.square(bias))

    return rounding.total(z, spread)
