"""One output of a call as it was recorded, in pieces, and what an audit has found out about it so far.

Recordings are read some inputs at a time, as often as a trial asks for them, so that what is held is never more than a
block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic
from cnnlens.checking.noise.case import Beside, Case
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, Format, fits, to_format
from cnnlens.checking.noise.prediction import Prediction, predict
from cnnlens.checking.noise.tally import Tally
from cnnlens.network.graph import Call

__all__ = ["Block", "Blocks", "Evidence", "Finite", "Predictions"]

Array = NDArray[Any]
Predictions = dict[tuple[Any, ...], Prediction]


class Block(NamedTuple):
    """Holds some of the inputs of a call: the first one's number, ``args`` and ``kwargs`` as ``audit`` takes them, and
    what was recorded."""

    first: int
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    output: NDArray[Any] | Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Blocks:
    """One output of a call, as cases of some inputs each; ``index`` where the call has several.

    ``known`` keeps predictions for other recordings of the same call on the same inputs; None where there are none.
    """

    call: Call
    weights: Mapping[str, Array]
    blocks: Callable[[], Iterable[Block]]
    index: int | None
    known: Predictions | None = None

    def predicted(self, first: int, part: Case) -> Prediction:
        """Predict a part in exact arithmetic."""
        if self.known is None:
            return predict(part)
        key = (self.call.name, self.index, first, part.count)
        if key not in self.known:
            self.known[key] = predict(part)
        return self.known[key]

    def cases(self) -> Iterator[tuple[int, Case]]:
        """Each block as a case, with the number of its first example."""
        layer, axis, index = self.call.layer, self.call.channel_axis, self.index
        for block in self.blocks():
            output = block.output if index is None else cast("Sequence[Array]", block.output)[index]
            case = Case.of(layer, axis, self.weights, tuple(block.args), block.kwargs, np.asarray(output))
            if index is not None:
                case = case.picked(index)
            yield block.first * (case.folded[1] if case.folded else 1), case

    def parts(self) -> Iterator[tuple[int, Case]]:
        """The same in pieces that float64 has room for."""
        for first, case in self.cases():
            for start, part in case.parts():
                yield first + start, part


@dataclass
class Evidence:
    """An output that is not bit-equal, and what is known of it.

    ``case`` is a first block, ``tally`` the errors of all; ``base`` and ``left`` are the arithmetic that most of it is
    explained by, and the errors under that; ``doubt`` is the arithmetic that would explain too few outputs. ``seen``
    is what factor less one on the outputs of any channel would have been found, under the arithmetic that was.
    ``explained``: whether a fault is searched for a name.
    """

    blocks: Blocks
    case: Case
    tally: Tally
    floor: float
    proved: Collection[str] = ()
    explained: bool = True
    base: Arithmetic = EXACT
    left: Tally = field(init=False)
    doubt: Arithmetic | None = None
    seen: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.tally
        self.seen = self.tally.seen(self.floor)

    @cached_property
    def halves(self) -> list[Format]:
        """List the 16-bit formats that every output is a number of."""
        return [half for half in (BFLOAT16, FLOAT16) if all(fits(part.output, half) for _, part in self.blocks.parts())]


@dataclass(frozen=True)
class Finite(Blocks):
    """The same without strays."""

    def cases(self) -> Iterator[tuple[int, Case]]:
        """Each block as ``Blocks`` gives it, its strays mended in the format that its numbers are of."""
        for first, case in super().cases():
            half = next((half for half in (BFLOAT16, FLOAT16) if fits(case.output, half)), None)
            output, strayed = np.array(case.output), np.zeros(case.output.shape, np.bool_)
            for start, part in case.parts():
                low = predict(part).low
                with np.errstate(all="ignore"):  # a number of float64 may be none of the format's
                    exact = low.astype(output.dtype)
                    mended = exact if half is None else to_format(low, half).astype(output.dtype)
                at = slice(start, start + part.count) if case.splits else ...
                strayed[at] = np.isfinite(exact) != np.isfinite(part.output)
                output[at] = np.where(strayed[at], np.where(np.isfinite(mended), mended, 0), part.output)
            given: dict[str, Any] = {one.name: getattr(case, one.name) for one in dataclasses.fields(Case)}
            yield first, cast("Any", Beside)(**{**given, "output": output, "strayed": strayed})
