"""One output of a call as it was recorded, in pieces, and what an audit has found out about it so far.

Recordings are read some inputs at a time, as often as a trial asks for them, so that what is held is never more than a
block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic
from cnnlens.checking.noise.case import Case
from cnnlens.checking.noise.tally import Tally
from cnnlens.network.graph import Call

__all__ = ["Block", "Blocks", "Evidence"]

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

    def case_of(self, example: int) -> Case:
        """The block that has an example."""
        cases = self.cases()
        _, found = next(cases)
        for first, case in cases:
            if first > example:
                break
            found = case
        return found


@dataclass
class Evidence:
    """An output that is not bit-equal, and what is known of it.

    ``case`` is a first block, ``tally`` the errors of all; ``base`` and ``left`` are the arithmetic that most of it is
    explained by, and the errors under that; ``doubt`` is the arithmetic that would explain too few outputs. ``seen``
    is what factor less one on the outputs of any channel would have been found, under the arithmetic that was.
    """

    blocks: Blocks
    case: Case
    tally: Tally
    floor: float
    proved: Collection[str] = ()
    base: Arithmetic = EXACT
    left: Tally = field(init=False)
    doubt: Arithmetic | None = None
    seen: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.tally
        self.seen = self.tally.seen(self.floor)
