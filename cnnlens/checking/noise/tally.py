"""Errors of a layer, gathered part by part: for the layer, each channel and the worst output.

Only sums are kept, so a batch of any size costs the memory of its channels, and parts may be added up afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.case import Case
from cnnlens.checking.noise.nonfinite import ANYTHING
from cnnlens.checking.noise.prediction import Prediction, errors, ratios
from cnnlens.reference.keras.dense import Dense

__all__ = ["WORST", "Tally", "bits"]

Array = NDArray[Any]


# A systematic error below this, in units of the noise's scale, is what rounding may be: numbers on a coarse grid, such
# as small differences of large inputs, are rounded alike.
_VISIBLE = 2.0**-20.5
# The same for sums of many terms, as bits of a sum of one: where a map is all but constant, every output of a channel
# has the same rounding error, which grows with the root of the terms (seen: 2^-20.4 at 960 terms, one channel in 160).
_VISIBLE_SUMS = 24.5

_SURE = 12  # in units of its own uncertainty, what a factor must be to be no chance
_SUMMED = 2.0**-12  # of the noise's scale, what is no step of a format's
_MOVED = 10.0  # so many results a step away are seen
WORST = 4.5  #: bits that the worst of many outputs may be below a floor: errors 16 times as large as the mean one
_LUCK = 4  # of the same: by how much chance may have leant to the other side
_NEXT_TO_NONE = 0.02  # of all outputs
_NO_CHANCE = 18.0  # nats
_OVER = 1.1  # what noise may take from a fault at the limit
_COLUMNS = 32  # so many columns say how large the rounding of one is


def bits(squares: Any, count: Any) -> Any:
    """Compute effective bits of a sum of squared ratios over ``count`` outputs; infinite where there is no error."""
    with np.errstate(all="ignore"):
        return -0.5 * np.log2(squares / np.maximum(count, 1))


def _allowance(count: Array, spread: float) -> Array:
    """The bits below a floor that chance may leave so many outputs: ``spread``, and more if they are few."""
    return spread + 2.2 / np.sqrt(np.maximum(count, 1))


def _slopes(count: Array, squares: Array, along: Array, size: Array) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        slope = along / size
        left = np.maximum(squares - slope * along, 1e-300)
        sure = np.abs(slope) * np.sqrt(size * np.maximum(count - 1, 1) / left)
    return np.nan_to_num(slope), np.where(count > 8, np.nan_to_num(sure, posinf=1e300), 0.0)


def _seen(factors: Array) -> float:
    most = float(factors.max(initial=0.0))
    return most if most < 1 else float("inf")


@dataclass
class Tally:
    """Holds sums over the outputs that are not zero on both sides.

    Attributes:
        count, squares, along, size: A channel each: outputs, squared errors, errors times outputs, squared outputs
            (errors and outputs in units of the noise's scale); ``missed``: outputs that are a number on one side alone;
            ``hits``: outputs with an error that shows.
        unknown: How many outputs are numbers that could be compared with nothing.
        worst: The largest ratio; ``position``: its index in the recorded (folded) output; ``error``: its error.
        alike: Whether channels are columns of one matrix product.
        examples: ``count, squares, along, size`` of each example of the batch, where examples are computed one by one.
        step: The last bit of a number format beside one, ``quantum`` that of its smallest numbers; ``steps`` is then
            the largest error in units of the output's last bit, beside what sums lose.
    """

    terms: int
    count: Array = field(default_factory=lambda: np.zeros(0))
    squares: Array = field(default_factory=lambda: np.zeros(0))
    along: Array = field(default_factory=lambda: np.zeros(0))
    size: Array = field(default_factory=lambda: np.zeros(0))
    missed: Array = field(default_factory=lambda: np.zeros(0))
    hits: Array = field(default_factory=lambda: np.zeros(0))
    unknown: int = 0
    worst: float = 0.0
    error: float = 0.0
    position: tuple[int, ...] = ()
    alike: bool = False
    examples: dict[int, Array] = field(default_factory=lambda: dict[int, Array]())
    step: float = 0.0
    quantum: float = 0.0
    steps: float = 0.0

    def add(self, case: Case, prediction: Prediction, first: int = 0) -> None:
        """Add a part of the batch, whose first example is number ``first``."""
        error = errors(case, prediction)
        output = np.asarray(case.output, np.float64)
        ratio = ratios(error, prediction.scale, self.terms)
        compared = ~np.isnan(ratio) & (prediction.scale < ANYTHING)
        self.unknown += int((np.isfinite(output) & ~compared).sum())
        counted = compared & ((output != 0) | (prediction.low != 0) | (prediction.high != 0))
        ratio[~counted] = 0
        axis = case.channel(error)
        self.alike = isinstance(case.operation, Dense)
        others = tuple(place for place in range(error.ndim) if place != axis)
        relative = np.where(counted & np.isfinite(output), ratios(output, prediction.scale, self.terms, 1e6), 0.0)
        letters = "abcdefgh"[: error.ndim]
        equation = f"{letters},{letters}->{letters[axis] if error.ndim else ''}"
        sums = (
            counted.sum(axis=others, dtype=np.float64),
            np.einsum(equation, ratio, ratio),
            np.einsum(equation, ratio, relative),
            np.einsum(equation, relative, relative),
            np.isinf(error).sum(axis=others, dtype=np.float64),
        )
        if not self.count.size:
            sized = [np.zeros(np.atleast_1d(one).shape) for one in sums]
            self.count, self.squares, self.along, self.size, self.missed = sized
            self.hits = np.zeros_like(self.count)
        self.count += sums[0]
        self.squares += sums[1]
        self.along += sums[2]
        self.size += sums[3]
        self.missed += sums[4]
        self.hits += (np.abs(ratio) > _VISIBLE).sum(axis=others, dtype=np.float64)
        if case.splits and ratio.ndim:
            one, other = (each.reshape(ratio.shape[0], -1) for each in (ratio, relative))
            products = [np.einsum("ij,ij->i", a, b) for a, b in ((one, one), (one, other), (other, other))]
            counts = counted.reshape(one.shape).sum(axis=1, dtype=np.float64)
            sums_each: Array = np.stack([counts, *products], axis=1)
            self.examples.update((first + row, sums_each[row]) for row in range(len(sums_each)))
        if self.step:
            with np.errstate(all="ignore"):
                last = np.maximum(np.abs(output) * self.step, self.quantum)
                steps = np.abs(error) / (last + prediction.scale * _SUMMED)
            self.steps = max(self.steps, float(np.where(counted, steps, 0.0).max(initial=0.0)))
        np.abs(ratio, out=ratio)
        place = int(ratio.argmax()) if ratio.size else 0
        if ratio.size and ratio.flat[place] > self.worst:
            index = tuple(int(i) for i in np.unravel_index(place, ratio.shape))
            self.worst, self.error = float(ratio.flat[place]), float(error.flat[place])
            self.position = (index[0] + first, *index[1:]) if index else index

    @property
    def bits(self) -> float:
        """Compute the effective bits of the layer."""
        return float(bits(self.squares.sum(), self.count.sum()))

    @property
    def channel_bits(self) -> Array:
        """Compute the effective bits of each channel."""
        return bits(self.squares, self.count)

    def few_inputs(self, floor: float, steps: int = 1) -> list[int]:
        """List the inputs that are no rounding where all others clearly are, and those are half at least; each is
        ``steps`` examples."""
        sums: dict[int, Array] = {}
        for number, found in self.examples.items():
            sums[number // steps] = sums.get(number // steps, 0) + found
        each = {number: float(bits(squares, count)) for number, (count, squares, _, _) in sums.items() if count}
        good = min((one for one in each.values() if one >= floor), default=floor)
        hit = [number for number, one in each.items() if one < floor]
        apart = all(each[number] < min(good, floor + 3) - 3 for number in hit)
        return hit if apart and 2 * len(hit) <= len(each) else []

    @property
    def slopes(self) -> tuple[Array, Array]:
        """Give each channel's systematic factor less one, and that in units of its own uncertainty."""
        return _slopes(self.count, self.squares, self.along, self.size)

    def inputs_off(self, floor: float, factor: float = np.inf) -> bool:
        """Tell whether any example by itself has too few bits, or is off by more than ``factor`` as a whole."""
        if not self.examples:
            return False
        count, squares, along, size = np.stack(list(self.examples.values())).T
        slope, sure = _slopes(count, squares, along, size)
        low = (count > 0) & (bits(squares, count) < floor - _allowance(count, 1.0))
        return bool((low | ((np.abs(slope) > factor) & (sure > _SURE))).any())

    def below(self, floor: float, *, spread: float = 1.0) -> Array:
        """Find channels with fewer bits than rounding leaves: ``spread`` below the floor, more if outputs are few."""
        if not self.count.size:
            return np.zeros(0, np.bool_)
        return self.channel_bits < floor - _allowance(self.count, spread)

    def alone(self) -> Array:
        """Find columns of a matrix product whose errors are many times those of all others: the columns are computed
        alike, so that a thousand of them say how large the rounding of one is, better than any floor."""
        return (self.count > 0) & (self.channel_bits < self._alone_below)

    @property
    def _alone_below(self) -> Array:
        """The bits below which a column stands alone; none where channels are no columns, or too few."""
        used = self.count > 0
        if not self.alike or used.sum() < _COLUMNS:
            return np.full(self.count.shape, -np.inf)
        middle = min(float(np.median(self.channel_bits[used])), 24.0)
        return middle - 3.0 - 1.4 / np.sqrt(np.maximum(self.count, 1))

    def seen(self, floor: float, step: float | None = None) -> float:
        """Compute what factor less one on the outputs of one channel would have been found, whichever channel it is.

        Args:
            floor: The bits that a layer needs.
            step: For errors beyond a narrower arithmetic, the last bit of the format that results are stored in, or 0.

        Returns:
            Infinite where a channel is lost in the noise, so that 0 would do as well; NaN where nothing is to be seen.
        """
        used = self.count > 0
        if not used.any():
            return float("nan")
        least = floor - _allowance(self.count, 1.0)
        if step is None:
            least = np.maximum(least, self._alone_below)
        with np.errstate(all="ignore"):
            found = _OVER * 2.0 ** -least[used] / self._size[used]
        if step:
            # A small factor moves some of the stored results, by a whole step: as many as it is parts of one.
            some = np.maximum(2 * np.square(found) / step, _MOVED * step / self.count[used])
            found = np.where(found < step, some, 2 * found)
        return _seen(found)

    def systematic(self, least: float) -> Array:
        """Find channels off by a factor that is no chance and above ``least``."""
        return self.leaning(least) & (np.abs(self.slopes[0]) * self._size > self._visible)

    def seen_leaning(self, least: float) -> float:
        """Compute what factor less one on one channel ``leaning`` would have found, whichever channel it is."""
        used = self.count > 0
        with np.errstate(all="ignore"):
            chance = 2.0**-self.channel_bits / self._size / np.sqrt(np.maximum(self.count - 1, 1))
        # What leans one way already has to be turned to the other.
        found = _OVER * (np.abs(self.slopes[0]) + np.maximum(least, (_SURE + _LUCK) * chance))
        found = np.where(self.count > 8, found, np.inf)
        return _seen(found[used])

    def leaning(self, least: float) -> Array:
        """Find channels whose outputs are larger or smaller by a factor above ``least`` that is no chance."""
        slope, sure = self.slopes
        return (np.abs(slope) > least) & (sure > _SURE)

    def leans(self, least: float) -> bool:
        """Tell whether a channel is ``leaning``, or the layer as a whole."""
        slope, sure = _slopes(*(np.atleast_1d(one.sum()) for one in (self.count, self.squares, self.along, self.size)))
        return bool(self.leaning(least).any() or ((np.abs(slope) > least) & (sure > _SURE)).any())

    @property
    def _visible(self) -> float:
        return max(_VISIBLE, 2.0**-_VISIBLE_SUMS * max(self.terms, 1) ** 0.5)

    @property
    def _size(self) -> Array:
        """How large the outputs of each channel are, in units of the noise's scale."""
        return np.sqrt(self.size / np.maximum(self.count, 1))

    def outliers(self, enough: float = 20.0) -> Array:
        """Find channels apart from the rest: fewer bits (``enough`` are never too few), or a factor of their own."""
        if not self.count.size:
            return np.zeros(0, np.bool_)
        used = self.count > 0
        each = np.minimum(self.channel_bits, 60.0)
        middle = float(np.median(each[used])) if used.any() else 0.0
        low = used & (each < min(middle, enough + 2.5) - 2.5 - 2.2 / np.sqrt(np.maximum(self.count, 1)))
        slope, sure = self.slopes
        common = float(np.median(slope[used])) if used.sum() > 2 else 0.0
        own = np.abs(slope - common)
        # An uncertainty of the slope is slope / sure; what all channels share is the arithmetic's.
        with np.errstate(all="ignore"):
            chance = np.where(sure > 0, np.abs(slope) / sure, np.inf)
        return low | ((own > 2.0**-16) & (own > 8 * chance) & (own * self._size > self._visible))

    def apart(self) -> Array:
        """Find channels with far more errors than chance gives one where the others have next to none: what explains
        those does not explain these."""
        hits, count = self.hits, self.count
        with np.errstate(all="ignore"):
            rest = (hits.sum() - hits + 1) / (count.sum() - count + 1)
            share = hits / count
            # Chernoff's bound on a binomial's tail, in nats.
            sure = count * (
                share * np.log(share / rest) + np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - rest)), 0)
            )
        return (count > 0) & (rest < _NEXT_TO_NONE) & (share > rest) & (sure > _NO_CHANCE)

    def faulty(self, floor: float) -> Array:
        """Find channels that are not rounding of a format with at least ``floor`` bits."""
        return self.below(floor) | self.alone() | self.systematic(2.0 ** -(min(floor, 19.0)))

    def clean(self, floor: float) -> bool:
        """Tell whether layer, channels and worst output are rounding."""
        worst = -np.log2(self.worst) if self.worst else np.inf
        # A few sums of many terms may have bad luck together; of few terms, 20 bits have room for that.
        walk = 25.0 - 0.5 * np.log2(max(self.terms, 2) / 2)
        least = min(floor, walk - 2.2 / max(float(self.count.sum()), 1.0) ** 0.5)
        right = self.bits >= least and worst >= floor - WORST and not self.faulty(floor).any()
        return bool(right and not self.inputs_off(floor))
