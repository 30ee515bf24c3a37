"""What is known of one layer's feature maps: added up example by example, in a memory that does not grow with them.

Everything is a sum without rounding, an extreme, a count, or a sample that the examples' own bytes decide. So it does
not matter in which batches, in how many parts or on how many machines the examples came: parts merge to the whole, bit
for bit.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.summary import COLUMNS, drawn
from cnnlens.errors import CnnlensError
from cnnlens.statistics.exact import ExactSums, square_over
from cnnlens.text import printable

__all__ = ["QUANTILES", "Exciting", "LayerStats"]

Floats = NDArray[np.float64]
Array = NDArray[Any]

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_AT = {name: place for place, name in enumerate(COLUMNS)}
_COUNTED = ("zeros", "finite", "nan", "inf", "-inf")
_BLOCKS = 16  # of a sample, before they are made one
_FEW = 16  # exciting inputs that are looked for one after the other
# The rank of a quantile of n values drawn evenly is off by more than this over the root of n once in a hundred times
# (Dvoretzky, Kiefer, Wolfowitz; Massart's constant).
_CONFIDENCE = math.sqrt(math.log(2 / 0.01) / 2)


@dataclass(frozen=True)
class Exciting:
    """Names an input that excites a channel: its index among all, its name, and the activation."""

    index: int
    name: str
    value: float


class LayerStats:
    """Holds the statistics of one layer's feature maps over a data set, a number a channel.

    Arrays are ``(C,)`` float64. Statistics are over the finite values of all examples and positions; NaN and infinities
    are counted apart. A channel with no finite value has NaN.

    Attributes:
        name, kind: The layer (or tensor), and its kind.
        shape: Of one example: ``(C, *spatial)``; the first example's, where sizes vary.
        count: How many examples it has seen.
        names: Of the inputs that are exciting to some channel, by index.
        positions: How many places a map has.
        by: What makes an input exciting to a channel: ``max``, its largest activation there, or ``mean``.

    >>> import cnnlens.sample
    >>> layer = cnnlens.stats(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, layers=["conv2d"])["conv2d"]
    >>> layer.shape, layer.count
    ((32, 28, 28), 10)
    >>> layer.mean.shape, bool((layer.min >= 0).all())  # it ends in a ReLU
    ((32,), True)
    >>> layer.quantile(0.5).shape, layer.rank_error  # ten images are few enough for all of their values
    ((32,), 0.0)
    >>> len(layer.exciting[3]), layer.exciting[3][0].value == float(layer.max[3])
    (5, True)
    """

    def __init__(
        self, name: str, kind: str, shape: tuple[int, ...], *, top: int = 5, by: str = "max", most: int = 1 << 14
    ) -> None:
        self.name, self.kind, self.shape, self.by = name, kind, shape, by
        self.count = 0
        self.names: dict[int, str] = {}
        channels = shape[0] if shape else 1
        self.positions = math.prod(shape[1:])
        self._most = most
        self._max, self._min = np.full(channels, -np.inf), np.full(channels, np.inf)
        self._counts: dict[str, NDArray[np.int64]] = {name: np.zeros(channels, np.int64) for name in _COUNTED}
        self._sums, self._squares = ExactSums(channels), ExactSums(channels)
        # Of each channel the ``_kept`` best, or as many as came: scores, and whose they are.
        self._kept, self._top = top, np.zeros((0, channels))
        self._where = np.zeros((0, channels), np.int64)
        # A sample: of blocks of examples, their numbers and values (N, C, drawn).
        self._sample: list[tuple[NDArray[np.int64], Array]] = []
        self._drawn = drawn(1, self.positions, most)

    def add(self, rows: Floats) -> None:
        """Add examples, as ``cnnlens.backend.summary.summary`` made them of their feature maps."""
        columns = np.ascontiguousarray(np.moveaxis(rows[..., : len(COLUMNS)], 2, 0))
        most, least, sums, squares, finite = (columns[_AT[one]] for one in ("max", "min", "sum", "squares", "finite"))
        self._max, self._min = np.maximum(self._max, most.max(0)), np.minimum(self._min, least.min(0))
        for name, counts in self._counts.items():
            counts += columns[_AT[name]].sum(0).astype(np.int64)
        self._sums.add(sums)
        self._squares.add(np.concatenate((squares, *square_over(sums, np.maximum(finite, 1)))))
        with np.errstate(invalid="ignore"):
            score = most if self.by == "max" else np.where(finite > 0, sums / finite, -np.inf)
        score = np.where(np.isnan(score), -np.inf, score)  # of a sum that leaves float64 in both directions
        self._rank(score, np.arange(self.count, self.count + len(rows)))
        self.count += len(rows)
        self._sample.append((rows[:, 0, _AT["number"]].astype(np.int64), rows[..., len(COLUMNS) :]))
        self._thin()
        self._forget()

    def merge(self, other: LayerStats) -> LayerStats:
        """Give the statistics of this one's examples and, behind them, the other's.

        Raises:
            CnnlensError: they are of another layer or were made otherwise.
        """
        mine, its = (
            {"layer": one.name, "kind": one.kind, "channels": len(one._max), "top": one._kept, "by": one.by,
             "sample": one._most, "positions": one.positions}
            for one in (self, other)
        )  # fmt: skip
        for what, value in mine.items():
            if value != its[what]:
                raise CnnlensError(
                    f"'{printable(self.name)}': its {what} is {printable(value)} here and {printable(its[what])} "
                    "there; merge statistics that were made alike"
                )
        whole = copy.deepcopy(self)
        whole._max, whole._min = np.maximum(self._max, other._max), np.minimum(self._min, other._min)
        for name, counts in whole._counts.items():
            counts += other._counts[name]
        whole._sums.merge(other._sums)
        whole._squares.merge(other._squares)
        whole._rank(other._top, other._where + self.count)
        whole.names |= {index + self.count: name for index, name in other.names.items()}
        whole.count += other.count
        kept = set(whole._where.ravel().tolist())
        whole.names = {index: name for index, name in whole.names.items() if index in kept}
        whole._sample += other._sample
        whole._thin(other._drawn)
        whole._forget()
        return whole

    def _rank(self, score: Floats, where: NDArray[np.int64]) -> None:
        """Keep the best; of equal ones, those that came first."""
        scores = np.concatenate([self._top, score])
        places = np.concatenate([self._where, np.broadcast_to(where.reshape(len(score), -1), score.shape)])
        if self._kept > _FEW:
            best = np.argsort(-scores, axis=0, kind="stable")[: self._kept]
            self._top, self._where = np.take_along_axis(scores, best, 0), np.take_along_axis(places, best, 0)
            return
        every = np.arange(scores.shape[1], dtype=np.int64)
        kept = min(self._kept, len(scores))
        self._top, self._where = np.empty((kept, len(every))), np.empty((kept, len(every)), np.int64)
        for place in range(kept):  # faster than to sort all
            best = scores.argmax(axis=0)
            self._top[place], self._where[place] = scores[best, every], places[best, every]
            scores[best, every] = -np.inf

    def _thin(self, other: tuple[int, int] | None = None) -> None:
        """Keep of the sample what so many examples leave of it."""
        now = drawn(self.count, self.positions, self._most)
        first = 0 if now != self._drawn or other is not None else max(len(self._sample) - 1, 0)
        many, one_in = self._drawn = now
        self._sample[first:] = [
            (numbers[kept], _halved(values[kept, :, :many]))
            for numbers, values in self._sample[first:]
            for kept in [(numbers >> 16) % one_in == 0]
        ]
        if len(self._sample) > _BLOCKS and len({values.shape[1:] for _, values in self._sample}) == 1:
            numbers, values = zip(*self._sample, strict=True)
            self._sample = [(np.concatenate(numbers), np.concatenate(values))]

    def _forget(self) -> None:
        for name in ("_moments", "_values"):
            self.__dict__.pop(name, None)

    # -- what is asked -----------------------------------------------------------------------------------------------

    @cached_property
    def _moments(self) -> tuple[Floats, Floats, float, float]:
        """Mean and variance of each channel and of all, from sums that nothing has rounded."""
        means, variances = np.full(len(self._max), np.nan), np.full(len(self._max), np.nan)
        sums, squares = self._sums.totals(), self._squares.totals()
        counts = [int(one) for one in self._counts["finite"]]
        for channel, (total, square, count) in enumerate(zip(sums, squares, counts, strict=True)):
            if count and total is not None:
                means[channel] = total / count
            if count and (total is None or square is None):
                variances[channel] = math.inf
            elif count and total is not None and square is not None:
                variances[channel] = max((square - total * total / count) / count, Fraction(0))
        known = [one for one in sums if one is not None]
        whole, number = sum(known), sum(counts)
        if not number or len(known) < len(sums) or None in squares:
            return means, variances, math.nan, math.nan
        square = sum(cast("list[Any]", squares))
        return means, variances, float(whole / number), float((square - whole * whole / number) / number)

    @property
    def mean(self) -> Floats:
        """Give the mean of each channel."""
        return self._moments[0]

    @property
    def variance(self) -> Floats:
        """Give the variance of each channel, over all values and not less one."""
        return self._moments[1]

    @property
    def std(self) -> Floats:
        """Give the standard deviation of each channel."""
        return np.sqrt(self.variance)

    @property
    def max(self) -> Floats:
        """Give the largest finite value of each channel."""
        return np.where(self._counts["finite"] > 0, self._max, np.nan)

    @property
    def min(self) -> Floats:
        """Give the smallest finite value of each channel."""
        return np.where(self._counts["finite"] > 0, self._min, np.nan)

    @property
    def zeros(self) -> Floats:
        """Give the share of each channel's values that are 0."""
        return self._counts["zeros"] / np.maximum(self.values, 1)

    @property
    def values(self) -> NDArray[np.int64]:
        """Count the values of each channel, finite or not."""
        return sum((self._counts[name] for name in _COUNTED[1:]), np.zeros(len(self._max), np.int64))

    @property
    def nan(self) -> NDArray[np.int64]:
        """Count the NaN of each channel."""
        return self._counts["nan"]

    @property
    def infinite(self) -> NDArray[np.int64]:
        """Count the infinities of each channel, of both signs."""
        return self._counts["inf"] + self._counts["-inf"]

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Tell which channels were never above 0."""
        return (self._max <= 0) & (self._counts["inf"] + self._counts["nan"] == 0)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Tell which channels had one value everywhere."""
        return (self._max == self._min) & (self._counts["finite"] == self.values)

    @cached_property
    def _values(self) -> Floats:
        """The sample, ``(values, C)``, sorted; what is not finite is NaN and behind."""
        if not any(len(values) for _, values in self._sample):
            return np.full((1, len(self._max)), np.nan)
        found = np.concatenate([values.transpose(0, 2, 1).reshape(-1, len(self._max)) for _, values in self._sample])
        return np.sort(np.where(np.isfinite(found), found, np.nan).astype(np.float64), axis=0)

    def quantile(self, share: float) -> Floats:
        """Give a quantile of each channel: that of a sample, whose rank may be ``rank_error`` off.

        >>> import cnnlens.sample
        >>> layer = cnnlens.stats(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, layers=["dense_1"])["dense_1"]
        >>> bool((layer.quantile(1.0) == layer.max).all())
        True
        """
        if not 0 <= share <= 1:
            raise CnnlensError(f"a quantile is a share of the values, from 0 to 1, not {share:g}")
        if not np.isnan(self._values).any():
            return np.quantile(self._values, share, axis=0)
        return np.array([_quantile(column, share) for column in self._values.T])

    @property
    def rank_error(self) -> float:
        """Say how far off a quantile's rank may be, a share of the values, in 99 of 100 cases; 0: all were taken.

        Of equal inputs the same places are drawn, so that they tell no more than one of them would; 1: none was drawn.
        """
        if len(self._values) == self.values.max(initial=0):
            return 0.0
        alike = np.unique(np.concatenate([numbers for numbers, _ in self._sample]), return_counts=True)[1]
        if not alike.size:
            return 1.0
        once = len(self._values) * (float(alike.sum()) / float((alike**2).sum()))  # as many as count (L. Kish, 1965)
        return min(_CONFIDENCE / math.sqrt(once), 1.0)

    @property
    def all_mean(self) -> float:
        """Give the mean over all channels."""
        return self._moments[2]

    @property
    def all_std(self) -> float:
        """Give the standard deviation over all channels."""
        return math.sqrt(max(self._moments[3], 0)) if self._moments[3] == self._moments[3] else math.nan

    def all_quantile(self, share: float) -> float:
        """Give a quantile over all channels."""
        return _quantile(self._values.ravel(), share)

    @property
    def exciting(self) -> list[list[Exciting]]:
        """List for each channel the inputs that excite it most, the most first."""
        return [
            [
                Exciting(int(place), self.names.get(int(place), str(place)), float(score))
                for place, score in zip(places, scores, strict=True)
                if score > -math.inf
            ]
            for places, scores in zip(self._where.T, self._top.T, strict=True)
        ]


def _quantile(values: Floats, share: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if known.size else math.nan


def _halved(values: Array) -> Array:
    """The values as float32 where that loses nothing, as of maps of float32: they then take half of the memory."""
    if values.dtype == np.float32:
        return np.array(values)
    with np.errstate(over="ignore", invalid="ignore"):
        small = values.astype(np.float32)
    lost = small != values
    return np.array(values) if lost.any() and not np.isnan(values[lost]).all() else small
