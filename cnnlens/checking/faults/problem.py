"""What every search for a fault shares: a layer that is no rounding, hypotheses about it, and the trial of one.

A hypothesis is the layer computed another way: other weights, inputs, activation or operation, or the same results in
another order. It explains the recording only when float32 noise is all that is left in every channel and NaN and
infinity stand where they do in the recording; anything less is not told. Most hypotheses are tried on a few examples
and channels, and what fits there is held against all.

Rivals are compared in bits: how many each leaves to be said of every output, and how many its own fitted numbers take.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic
from cnnlens.checking.noise.case import Array, Beside, Case, map_arrays, narrow
from cnnlens.checking.noise.condition import selects
from cnnlens.checking.noise.nonfinite import channels, strays
from cnnlens.checking.noise.prediction import Prediction, errors, predict, ratios
from cnnlens.checking.noise.tally import Tally
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import CONFIG_ERRORS
from cnnlens.reference.keras.convolution import Convolution
from cnnlens.reference.keras.dense import Dense

__all__ = [
    "FITTED", "ROUND", "SIGHT", "Hypothesis", "Problem", "Trial", "View", "Weights", "channels", "excused", "mapped",
    "moved", "number", "rounded",
]  # fmt: skip

Weights = Mapping[str, Array]
View = Callable[[Prediction], Prediction]

FITTED = 26.0
"""Bits that a number fitted to the recording takes: as many as one output can give away (``Problem.left``), so that as
many numbers as outputs explain nothing."""
ROUND = 8.0
"""The same for a number as people and programs write them, such as 0.5 or 1.001."""

SIGHT = 22.0
"""Errors of so many bits are near float32's own rounding, of weights too, and are no more to be said."""

_SAMPLE = 1 << 18  # outputs that a hypothesis is first tried on
_FEW = 12  # channels that it is first tried on
_REPEATED = 2.0  # bits that an output tells at most if it is zero, an end of the activation or equal to another
_DULL = 0.25  # bits by which two explanations of one output may differ for no reason


@dataclass(frozen=True)
class Hypothesis:
    """Says what may have happened, and computes it.

    Attributes:
        text: What is said if it fits.
        change: Makes the case that the recording came from out of the case as it should be.
        view: What was done to the results afterwards; None for nothing.
        narrow: Whether some of the output channels can be tried alone.
        cost: The bits that its fitted or chosen numbers take (``FITTED``, ``ROUND``, the logarithm of the choices).
        claim: What it is about, where several hypotheses say the same with other numbers: the first that fits stands.
    """

    text: str
    change: Callable[[Case], Case] = field(default=lambda case: case)
    view: View | None = None
    narrow: bool = True
    cost: float = 0.0
    claim: str = ""


@dataclass(frozen=True)
class Trial:
    """Holds a hypothesis that fits, and the bits that it leaves to be said of each output of the sample."""

    hypothesis: Hypothesis
    left: Array

    def over(self, other: Trial) -> float:
        """Count the bits by which it explains the outputs better than another, the numbers of both paid for."""
        apart = other.left - self.left
        gained = float((np.sign(apart) * np.maximum(np.abs(apart) - _DULL, 0)).sum())
        return gained + other.hypothesis.cost - self.hypothesis.cost


def excused(case: Case, made: Prediction) -> Prediction:
    """Excuse strays, which are told by themselves: what the recording has there is what is predicted."""
    if not isinstance(case, Beside):
        return made
    low, high = (np.where(np.isfinite(case.output), one, case.output) for one in (made.low, made.high))
    return Prediction(low, low if made.high is made.low else high, made.scale)


def moved(function: Callable[[Array], Array]) -> View:
    """Make the view of results that only change places: the scale of their noise moves along."""

    def view(made: Prediction) -> Prediction:
        low = function(made.low)
        return Prediction(low, low if made.high is made.low else function(made.high), function(made.scale))

    return view


def mapped(function: Callable[[Array], Array]) -> View:
    """Make the view of results that a rising or falling function of single numbers changes."""

    def view(made: Prediction) -> Prediction:
        low, high, step = function(made.low), function(made.high), made.scale * 2.0**-20
        slope = np.maximum(np.abs(function(made.low + step) - low), np.abs(function(made.low - step) - low)) * 2.0**20
        scale = np.hypot(slope, low)
        return Prediction(low, low, scale) if made.high is made.low else Prediction(
            np.minimum(low, high), np.maximum(low, high), scale)  # fmt: skip

    return view


def number(value: float) -> str:
    """Write a factor or a value with as many digits as it is known to: ``1.0001``, ``0.001``, ``1e-05``."""
    off = abs(value - 1)
    if 0 < off < 0.1:
        decimals = min(int(np.ceil(-np.log10(off))) + 2, 9)
        return f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return f"{value:.4g}"


def rounded(value: float) -> list[tuple[float, float]]:
    """List the round numbers next to a fitted one, and itself, each with the bits that it takes."""
    off = abs(value - 1)
    digits = 2 - int(np.floor(np.log10(off))) - 1 if off > 1e-9 else 9
    found = dict.fromkeys((round(value, max(min(digits, 7), 3)), float(f"{value:.3g}")), ROUND)
    return [*found.items(), (value, FITTED)]


@dataclass
class Problem:
    """Holds a layer whose errors no arithmetic explains.

    Attributes:
        case: All of it; ``base``: the arithmetic that it otherwise ran in.
        tally: The errors against the reference under that arithmetic.
        floor: The bits that float32 leaves; infinite for layers that only select.
    """

    case: Case
    base: Arithmetic
    tally: Tally
    floor: float

    @cached_property
    def needed(self) -> float:
        """Give the effective bits that an explanation must leave."""
        if self.base.stored:
            return self.base.format.level + 4
        if self.base is not EXACT:
            return max(self.floor - 4, 14.5)
        return min(self.floor, 20.0) - 0.5

    @property
    def total(self) -> int:
        """Count the channels; an output of one axis or none has one, whatever the tally calls so."""
        return self.tally.count.size if self.case.output.ndim > 1 else 1

    @property
    def used(self) -> int:
        """Count the channels with anything to compare."""
        return min(int((self.tally.count > 0).sum()), self.total)

    @cached_property
    def faulty(self) -> Array:
        """List the numbers of the channels that are not rounding."""
        if self.total == 1:
            return np.zeros(1, np.int64)
        if self.base is EXACT:
            marked = self.tally.faulty(min(self.floor, 22.0))
        else:
            marked = self.tally.below(self.needed) | self.tally.outliers(self.needed if self.base.stored else 17.5)
        if not marked.any():  # it is the worst output alone that gave the layer away
            marked = self.tally.channel_bits == self.tally.channel_bits.min(initial=np.inf)
        return np.flatnonzero(marked)

    @cached_property
    def whole(self) -> bool:
        """Tell whether (nearly) every channel is faulty: then no channel by itself is to blame."""
        return self.used <= 1 or self.faulty.size > 0.7 * self.used

    @property
    def narrow(self) -> bool:
        """Tell whether the arithmetic does explain most channels, so that it is no guess."""
        used = self.tally.channel_bits[self.tally.count > 0]
        return bool(used.size) and float(np.median(used)) >= self.needed

    @cached_property
    def sample(self) -> Case:
        """Pick a few examples, those with the worst output among them."""
        case = self.case
        if not case.splits:
            return case
        each = max(case.output.size // max(case.count, 1), 1)
        taken = max(_SAMPLE // each, 1)
        first = self.tally.position[0] if self.tally.position else 0
        first = max(min(first, case.count - taken), 0)
        return case.part(slice(first, first + taken))

    @cached_property
    def few(self) -> Case | None:
        """Reduce the sample to a few output channels, where the layer's kind allows to leave the others out."""
        operation = self.sample.operation
        if not isinstance(operation, Dense | Convolution) or getattr(operation, "groups", 1) != 1:
            return None
        axis = self.sample.channel(self.sample.output)
        total = self.sample.output.shape[axis] if self.sample.output.ndim else 0
        if total <= 2 * _FEW or not (operation.activation is None or operation.activation.elementwise):
            return None
        rest = np.setdiff1d(np.arange(total), self.faulty)
        kept = np.sort(np.concatenate([_spread(self.faulty, _FEW - 2), _spread(rest, 2)]))
        weights = {name: array[..., kept] for name, array in self.sample.weights.items() if name in ("kernel", "bias")}
        fewer = copy.copy(operation)
        setattr(fewer, "units" if isinstance(fewer, Dense) else "filters", kept.size)
        output = np.take(self.sample.output, kept, axis=axis)
        return replace(self.sample, operation=fewer, weights=weights, output=output)

    @cached_property
    def expected(self) -> Prediction:
        """Compute what the sample should give."""
        return excused(self.sample, predict(self.sample, self.base))

    def attempt(self, case: Case, view: View | None = None) -> tuple[Prediction, Tally] | None:
        """Compare a changed case with its output; None where shapes differ or NaN and infinity stand elsewhere.

        What is not finite where the recording is explains nothing, and every output that the plain comparison counts
        is counted here. All trials and fits come through this one place.
        """
        try:
            made = predict(case, self.base) if view is None else view(predict(case, self.base))
            if made.low.shape == case.output.shape:
                made = excused(case, made)
        except (CnnlensError, *CONFIG_ERRORS):
            return None
        if made.low.shape != case.output.shape or not np.isfinite(made.scale[np.isfinite(case.output)]).all():
            return None
        if any(strays(case, side) is not None for side in {id(one): one for one in (made.low, made.high)}.values()):
            return None
        tally = Tally(self.tally.terms)
        tally.add(case, made)
        return made, tally

    def left(self, made: Prediction) -> Array:
        """Count the bits that a prediction for the sample leaves to be said of each output, in one measure for all."""
        case = self.sample
        output = np.asarray(case.output, np.float64)
        scale = np.fmax(np.hypot(self.expected.scale, output), np.abs(output))
        ratio = np.abs(ratios(errors(case, made), scale, self.tally.terms))
        sight = SIGHT if self.base is EXACT else self.needed + 3
        bits = np.asarray(np.log2(1 + np.where(np.isfinite(output), np.nan_to_num(ratio, nan=16.0), 0.0) * 2.0**sight))
        np.minimum(bits, _REPEATED, out=bits, where=self._repeated)
        return bits

    @cached_property
    def _repeated(self) -> Array:
        output = np.asarray(self.sample.output, np.float32)
        near = np.ascontiguousarray(output).view(np.int32) >> 6  # alike to a hundredth of a thousandth
        _, places, counts = np.unique(near, return_inverse=True, return_counts=True)
        return (output == 0) | np.isin(output, self._ends) | (counts[places].reshape(output.shape) > 1)

    @property
    def _ends(self) -> Array:
        """Where the layer's activation levels off, such as the 1 of a softmax: hardly any input would give another."""
        own = getattr(self.sample.operation, "activation", None)
        if own is None or not own.elementwise:
            return np.ones(int(own is not None and own.name == "softmax"), np.float32)
        with np.errstate(all="ignore"):
            ends: Array = own.apply(np.array([-1e30, 1e30], np.float32))
        return ends[np.isfinite(ends)]

    @cached_property
    def plain(self) -> Trial:
        """Give what is left where nothing is supposed."""
        return Trial(Hypothesis("nothing is wrong"), self.left(self.expected))

    def fits(self, tally: Tally, slack: float = 0.0) -> bool:
        """Tell whether nothing but rounding is left."""
        if not np.isfinite(tally.squares).all():
            return False
        needed = self.needed - slack
        if self.base is EXACT:
            return tally.clean(needed)
        return tally.bits >= needed and not tally.below(needed).any()

    def trial(self, hypothesis: Hypothesis) -> Trial | None:
        """Try a hypothesis on a few channels, a few examples, then on all; None where it does not explain them."""
        few = self.few if hypothesis.narrow else None
        if few is not None and self._try(hypothesis, few, 0.5) is None:
            return None
        found = self._try(hypothesis, self.sample, 0.0)
        if found is None:
            return None
        for _, part in self.case.parts() if self.sample.count < self.case.count else ():
            if self._try(hypothesis, part, 1.0) is None:
                return None
        return Trial(hypothesis, self.left(found))

    def holds(self, hypothesis: Hypothesis) -> bool:
        """Tell whether a hypothesis that was found elsewhere leaves nothing but rounding here."""
        return all(self._try(hypothesis, part, 1.0) is not None for _, part in self.case.parts())

    def _try(self, hypothesis: Hypothesis, case: Case, slack: float) -> Prediction | None:
        try:
            changed = hypothesis.change(case)
            if not self._near(changed, hypothesis.view):
                return None
        except (CnnlensError, *CONFIG_ERRORS):
            return None
        found = self.attempt(changed, hypothesis.view)
        if found is None or not self.fits(found[1], slack):
            return None
        # Where what is supposed may not round, nothing is left at all.
        exact = not hypothesis.cost and selects(changed.operation)
        return None if exact and found[1].worst > 0 else found[0]

    def _near(self, case: Case, view: View | None) -> bool:
        """A quick look in float32, without scales: most hypotheses are nowhere near."""
        weights, args, kwargs = map_arrays((dict(case.weights), case.args, dict(case.kwargs)), narrow)
        made = np.asarray(case.operation(weights, *args, **kwargs))
        if view is not None:
            made = view(Prediction(made, made, np.zeros_like(made))).low
        output = np.asarray(case.output)
        apart = (np.asarray(made, np.float64) - output)[np.isfinite(output)]
        if not np.isfinite(apart).all():  # float32 may overflow where the trial does not
            return True
        size = np.square(output[np.isfinite(output)], dtype=np.float64).sum()
        level = self.base.format.level if self.base is not EXACT else 14.0
        return bool(np.square(apart).sum() <= size * 4.0 ** -(level - 3))

    def rows(self, array: Array) -> Array:
        """Turn an array shaped like the output into ``(positions, channels)``."""
        axis = self.sample.channel(array)
        return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]) if array.ndim > 1 else array.reshape(-1, 1)


def _spread(numbers: Array, count: int) -> Array:
    """At most ``count`` of the numbers, evenly taken."""
    if numbers.size <= count:
        return numbers
    return numbers[np.linspace(0, numbers.size - 1, count).astype(int)]
