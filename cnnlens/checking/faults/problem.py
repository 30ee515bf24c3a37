"""What every search for a fault shares: a layer that is no rounding, hypotheses about it, and the test of one.

A hypothesis is the layer computed another way: other weights, inputs, activation or operation, or the same results in
another order. It explains the recording only when float32 noise is all that is left in every channel; anything less is
not told. Most hypotheses are tried on a few examples and channels, and what fits there is held against all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic
from cnnlens.checking.noise.case import Array, Case, map_arrays
from cnnlens.checking.noise.condition import selects
from cnnlens.checking.noise.nonfinite import channels
from cnnlens.checking.noise.prediction import Prediction, predict
from cnnlens.checking.noise.tally import Tally
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import CONFIG_ERRORS
from cnnlens.reference.keras.convolution import Convolution
from cnnlens.reference.keras.dense import Dense

__all__ = ["Hypothesis", "Problem", "Weights", "channels", "number"]

Weights = Mapping[str, Array]
View = Callable[[Array], Array]

_SAMPLE = 1 << 18  # outputs that a hypothesis is first tried on
_FEW = 12  # channels that it is first tried on


@dataclass(frozen=True)
class Hypothesis:
    """Says what may have happened, and computes it.

    Attributes:
        text: What is said if it fits.
        change: Makes the case that the recording came from out of the case as it should be.
        view: What was done to the results afterwards; None for nothing.
        narrow: Whether some of the output channels can be tried alone.
    """

    text: str
    change: Callable[[Case], Case] = field(default=lambda case: case)
    view: View | None = None
    narrow: bool = True


def number(value: float) -> str:
    """Write a factor or a value with as many digits as it is known to: ``1.0001``, ``0.001``, ``1e-05``."""
    off = abs(value - 1)
    if 0 < off < 0.1:
        decimals = min(int(np.ceil(-np.log10(off))) + 2, 9)
        return f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return f"{value:.4g}"


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
        return self.floor - 0.5

    @cached_property
    def faulty(self) -> Array:
        """List the numbers of the channels that are not rounding."""
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
        used = int((self.tally.count > 0).sum())
        return used <= 1 or self.faulty.size > 0.7 * used

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
        return predict(self.sample, self.base)

    def attempt(self, case: Case, view: View | None = None) -> Tally | None:
        """Compare a changed case with its output: its errors, or None where it does not even have the shape."""
        try:
            made = predict(case, self.base)
            if view is not None:
                low = view(made.low)
                made = Prediction(low, low if made.high is made.low else view(made.high), view(made.scale))
        except (CnnlensError, *CONFIG_ERRORS):
            return None
        if made.low.shape != case.output.shape:
            return None
        tally = Tally(self.tally.terms)
        tally.add(case, made)
        return tally

    def fits(self, tally: Tally | None, slack: float = 0.0) -> bool:
        """Tell whether nothing but rounding is left."""
        if tally is None or not np.isfinite(tally.squares).all():
            return False
        if selects(self.case.operation):
            return tally.worst == 0
        needed = self.needed - slack
        return tally.bits >= needed and not tally.below(needed).any()

    def explains(self, hypothesis: Hypothesis) -> bool:
        """Tell whether a hypothesis explains the recording: on a few channels, a few examples, then on all."""
        stages = [self.few if hypothesis.narrow else None, self.sample]
        for stage in stages:
            if stage is None:
                continue
            if not self._near(hypothesis, stage):
                return False
            tally = self._try(hypothesis, stage)
            if not self.fits(tally, 0.5 if stage is not self.sample else 0.0):
                return False
            if stage is self.sample and not self._gains(tally):
                return False
        if self.sample is self.case or self.sample.count == self.case.count:
            return True
        return all(self.fits(self._try(hypothesis, part), 1.0) for _, part in self.case.parts())

    def _near(self, hypothesis: Hypothesis, case: Case) -> bool:
        """A quick look in float32, without scales: most hypotheses are nowhere near."""
        try:
            changed = hypothesis.change(case)
            weights, args, kwargs = map_arrays((dict(changed.weights), changed.args, dict(changed.kwargs)), _narrow)
            made = np.asarray(changed.operation(weights, *args, **kwargs))
            if hypothesis.view is not None:
                made = hypothesis.view(made)
        except (CnnlensError, *CONFIG_ERRORS):
            return False
        output = np.asarray(case.output)
        if made.shape != output.shape:
            return False
        apart = made - output
        finite = np.isfinite(apart)
        off, size = np.square(apart[finite]).sum(), np.square(output[finite]).sum()
        level = self.base.format.level if self.base is not EXACT else 14.0
        return bool(off <= size * 4.0 ** -(level - 3))

    def _gains(self, tally: Tally | None) -> bool:
        """Whether a hypothesis that fits leaves clearly less than was there: a fit always leaves a little less."""
        if tally is None:
            return False
        before = self._plain
        return (
            tally.bits >= before.bits + 1
            or tally.channel_bits.min(initial=np.inf) >= before.channel_bits.min(initial=np.inf) + 1.5
            or (tally.worst < before.worst / 4)
        )

    @cached_property
    def _plain(self) -> Tally:
        """The errors of the sample as the model says it."""
        tally = Tally(self.tally.terms)
        tally.add(self.sample, self.expected)
        return tally

    def _try(self, hypothesis: Hypothesis, case: Case) -> Tally | None:
        try:
            changed = hypothesis.change(case)
        except (CnnlensError, *CONFIG_ERRORS):
            return None
        return self.attempt(changed, hypothesis.view)

    def ranked(self, hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
        """Sort hypotheses with fitted numbers, the best fitting first; the earlier of two that are as good."""
        scored: list[tuple[float, Hypothesis]] = []
        for place, hypothesis in enumerate(hypotheses):
            tally = self._try(hypothesis, self.sample)
            lowest = -np.inf if tally is None else float(tally.channel_bits.min(initial=60.0))
            scored.append((0.05 * place - lowest, hypothesis))
        return [hypothesis for _, hypothesis in sorted(scored, key=lambda one: one[0])]

    def rows(self, array: Array) -> Array:
        """Turn an array shaped like the output into ``(positions, channels)``."""
        axis = self.sample.channel(array)
        return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]) if array.ndim > 1 else array[:, None]


def _narrow(x: Array) -> Array:
    return x.astype(np.float32, copy=False) if x.dtype.kind == "f" else x


def _spread(numbers: Array, count: int) -> Array:
    """At most ``count`` of the numbers, evenly taken."""
    if numbers.size <= count:
        return numbers
    return numbers[np.linspace(0, numbers.size - 1, count).astype(int)]
