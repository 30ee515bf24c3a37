"""Sums without rounding, which come out the same in whatever order, in however many parts they were made.

Floating-point addition rounds, so that two halves of a data set would not add up to the whole. Here a number's 53 bits
are added as integers, to one of a few counters that stand for its power of two (the superaccumulator of Kulisch); what
is rounded is the one number that is asked for in the end.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExactSums", "square_over"]

Floats = NDArray[np.float64]

_OCTAVES = 8  # powers of two that share a counter
_LOW = 30  # bits of a number's lower half: of 60, for its 53 are moved up by less than eight
_ROWS = 1 << 22  # that are added in float64 before integers take over
_SPLIT = 134217729.0  # 2 ** 27 + 1: halves a float64 (T. J. Dekker, 1971)


class ExactSums:
    """Adds up finite float64 numbers, a sum a column, exactly.

    >>> import numpy as np
    >>> from cnnlens.statistics.exact import ExactSums
    >>> sums = ExactSums(1)
    >>> sums.add(np.array([[1e16], [1.0], [-1e16]]))
    >>> [float(one) for one in sums.totals()]  # 0.0 in float64
    [1.0]
    """

    def __init__(self, columns: int) -> None:
        self._first = 0  # the counter that stands for the lowest power of two
        self._counters: NDArray[np.int64] = np.zeros((2, columns, 1), np.int64)
        self._infinite: NDArray[np.bool_] = np.zeros(columns, np.bool_)

    def add(self, values: Floats) -> None:
        """Add numbers ``(N, columns)``; a sum that one of them does not leave finite stays infinite."""
        for start in range(0, len(values), _ROWS):
            self._add(values[start : start + _ROWS])

    def _add(self, values: Floats) -> None:
        finite = np.isfinite(values)
        if not finite.all():
            self._infinite |= ~finite.all(axis=0)
            values = np.where(finite, values, 0.0)
        fraction, power = np.frexp(values)
        counter = power >> 3
        whole = (fraction * 2.0**53).astype(np.int64) << (power & (_OCTAVES - 1))
        self._reach(int(counter.min(initial=0)), int(counter.max(initial=0)))
        _, columns, counters = self._counters.shape
        key = (counter - self._first + np.arange(columns, dtype=np.int64) * counters).ravel()
        for half, part in enumerate((whole >> _LOW, whole & ((1 << _LOW) - 1))):
            found = np.bincount(key, part.ravel(), columns * counters)  # exact: 30 bits, and 22 for the rows
            self._counters[half] += found.astype(np.int64).reshape(columns, counters)

    def merge(self, other: ExactSums) -> None:
        """Add what another has added."""
        last = other._first + other._counters.shape[2]
        self._reach(other._first, last - 1)
        self._counters[:, :, other._first - self._first : last - self._first] += other._counters
        self._infinite |= other._infinite

    def totals(self) -> list[Fraction | None]:
        """Give each sum as it is; None where it is not finite."""
        high, low = self._counters.tolist()
        return [None if broken else self._total(a, b) for broken, a, b in zip(self._infinite, high, low, strict=True)]

    def _total(self, high: list[int], low: list[int]) -> Fraction:
        whole = 0
        for upper, lower in zip(reversed(high), reversed(low), strict=True):
            whole = (whole << _OCTAVES) + (upper << _LOW) + lower
        return whole * Fraction(2) ** (self._first * _OCTAVES - 53)

    def _reach(self, low: int, high: int) -> None:
        """Have counters from ``low`` to ``high``."""
        before, after = max(self._first - low, 0), max(high - self._first - self._counters.shape[2] + 1, 0)
        if before or after:
            self._counters = np.pad(self._counters, ((0, 0), (0, 0), (before, after)))
            self._first -= before

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ExactSums) and self.totals() == other.totals()

    __hash__ = None  # pyright: ignore[reportAssignmentType] - it changes


def square_over(values: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Compute ``values ** 2 / counts`` as two float64 numbers whose sum has 104 bits, for much of it cancels."""
    with np.errstate(over="ignore", invalid="ignore"):
        square = values * values
        upper, lower = _halves(values)
        rest = ((upper * upper - square) + 2 * upper * lower) + lower * lower
        found = square / counts
        product = found * counts
        upper, lower = _halves(found)
        return found, ((square - product) - ((upper * counts - product) + lower * counts) + rest) / counts


def _halves(values: Floats) -> tuple[Floats, Floats]:
    moved = values * _SPLIT
    upper = moved - (moved - values)
    return upper, values - upper
