"""Are two arrays of one origin, further trained, or do they merely have the same shape?

Two independent arrays of n numbers correlate by chance, by about one over the root of n. A correlation is taken for
kinship only where chance would reach it less often than once in a million arrays, however many ways were tried, and
where it is more than what two trainings of one architecture share anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt, tanh
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FALSE_ALARM", "LEAST", "Kinship", "kinship", "noise_level"]

Array: TypeAlias = NDArray[Any]

FALSE_ALARM = 1e-6
"""How often unrelated arrays may be taken for related ones, for one array and all ways tried together."""

LEAST = 0.3
"""The correlation from which arrays are of one origin; trained networks share less than this by their statistics."""

_PART = 1 << 15  # elements that the correlation is taken over, of some output channels where there are more


@dataclass(frozen=True)
class Kinship:
    """Says how two arrays are related.

    Attributes:
        correlation: Of their elements, the mean of each tap taken off.
        level: What chance reaches once in a million; 1 where there are too few elements to tell.
        distance: ``|x - y| / |x|``.
    """

    correlation: float
    level: float
    distance: float

    @property
    def related(self) -> bool:
        return self.correlation > max(self.level, LEAST)

    @property
    def tellable(self) -> bool:
        """Tell whether there are numbers enough for a relation to show."""
        return self.level < 0.95


@lru_cache(maxsize=1024)
def noise_level(count: int, tries: int = 1) -> float:
    """Give the correlation that ``count`` independent pairs reach in one of ``tries`` with probability ``FALSE_ALARM``.

    Fisher: the inverse hyperbolic tangent of a correlation is normal with variance 1 / (count - 3).
    """
    if count < 5:
        return 1.0
    z = NormalDist().inv_cdf(1 - FALSE_ALARM / max(tries, 1) / 2)
    return tanh(z / sqrt(count - 3))


def _product(x: Array, y: Array) -> float:
    """The sum of the products, without a copy of either."""
    return float(np.einsum(x, [*range(x.ndim)], y, [*range(x.ndim)], []))


def kinship(x: Array, y: Array, tries: int = 1) -> Kinship:
    """Relate two canonical arrays; large ones by some of their output channels."""
    if x.size > _PART:
        step = -(-x.size // _PART)
        x, y = x[::step], y[::step]
    x, y = x.astype(np.float64), y.astype(np.float64)
    count = x.size
    with np.errstate(all="ignore"):
        finite = np.isfinite(x.sum() + y.sum())  # a sum is no number where an element is none
    if not finite:
        good = np.isfinite(x) & np.isfinite(y)
        count = int(good.sum())
        x, y = np.where(good, x, 0.0), np.where(good, y, 0.0)
    size = float(np.sqrt(_product(x, x)))
    away = x - y
    distance = float(np.sqrt(_product(away, away))) / size if size else float("inf")
    axes = (0, 1) if x.ndim > 2 and x.shape[0] * x.shape[1] >= 16 else None
    x, y = x - x.mean(axis=axes, keepdims=True), y - y.mean(axis=axes, keepdims=True)
    taps = x.size // (x.shape[0] * x.shape[1]) if axes else 1
    norm = float(np.sqrt(_product(x, x) * _product(y, y)))
    correlation = _product(x, y) / norm if norm else 0.0
    correlation = min(max(correlation, -1.0), 1.0)
    return Kinship(correlation, noise_level(count - taps, tries), distance)
