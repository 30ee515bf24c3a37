"""One output of a call as it was recorded, in pieces, and what an audit has found out about it so far.

Recordings are read some inputs at a time, as often as a trial asks for them, so that what is held is never more than a
block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic
from cnnlens.checking.noise.case import Case
from cnnlens.checking.noise.prediction import predict
from cnnlens.checking.noise.tally import Tally
from cnnlens.network.graph import Call

__all__ = ["Block", "Blocks", "Evidence", "Finite"]

Array = NDArray[Any]


class Block(NamedTuple):
    """Holds some of the inputs of a call: the first one's number, ``args`` and ``kwargs`` as ``audit`` takes them, and
    what was recorded."""

    first: int
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    output: NDArray[Any] | Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Blocks:
    """One output of a call, as cases of some inputs each; ``index`` where the call has several."""

    call: Call
    weights: Mapping[str, Array]
    blocks: Callable[[], Iterable[Block]]
    index: int | None

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
    explained by, and the errors under that; ``doubt`` is the arithmetic that would explain too few outputs.
    """

    blocks: Blocks
    case: Case
    tally: Tally
    floor: float
    proved: Collection[str] = ()
    base: Arithmetic = EXACT
    left: Tally = field(init=False)
    doubt: Arithmetic | None = None

    def __post_init__(self) -> None:
        self.left = self.tally


@dataclass(frozen=True)
class Finite(Blocks):
    """The same without strays: with what the reference has where one side alone is a number."""

    def cases(self) -> Iterator[tuple[int, Case]]:
        """Each block as ``Blocks`` gives it; nothing can be measured at a stray, and nothing is left there."""
        for first, case in super().cases():
            output = np.array(case.output)
            for start, part in case.parts():
                low = predict(part).low.astype(output.dtype)
                rows = output[start : start + part.count] if case.splits else output
                np.copyto(rows, low, where=np.isfinite(low) != np.isfinite(rows))
            yield first, replace(case, output=output)
