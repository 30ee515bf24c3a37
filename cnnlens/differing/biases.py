"""The biases of a recurrent cell, where Keras has one and PyTorch two: added, left out, or in each other's place.

What the two come to decides. An LSTM adds them, and so do the gates of a GRU but its candidate, whose recurrent bias
stands behind the reset gate: there only the same rows compute the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.cause import Cause, Kind, Status
from cnnlens.differing.examination import examine
from cnnlens.differing.finding import Finding
from cnnlens.differing.hypotheses.layouts import plan
from cnnlens.differing.hypotheses.rounding import rounding_apart
from cnnlens.differing.items import Item
from cnnlens.differing.proof import Line, proven

__all__ = ["SHARED", "biases_examined", "part_alone", "shared_sum"]

Array: TypeAlias = NDArray[Any]

_BIASES = ("input bias", "recurrent bias")


def biases_examined(a: Item, b: Item, found: Finding) -> Finding:
    """Give what explains a cell's bias better than ``found``, which is what the arrays say of themselves."""
    if found.equal or (found.status is Status.EXPLAINED and found.has(Kind.GATES)):
        return found
    if a.chain.target == b.chain.target and len(a.shape) == 2 and a.shape[0] == 2 and a.gates is not None:
        return _rows(a, b) or found
    return part_alone(a, b, found, _BIASES)


def part_alone(a: Item, b: Item, found: Finding, names: Sequence[str] = ()) -> Finding:
    """Give the finding that one side holds a part of what the other's arrays come to, where that is so."""
    if found.equal or (found.status is Status.EXPLAINED and not found.has(Kind.SCALED)):
        return found
    for side, item, other in (("A", a, b), ("B", b, a)):
        if len(other.joined) != 2 or item.joined:
            continue
        called = names or [one.variable for one in other.joined]
        for held, part in enumerate(other.joined):
            if part.size != item.size:
                continue
            part = part.seen_as(item, known=False)
            one = examine(a, part) if side == "A" else examine(part, b)
            # Factors have something to fit with: a part as it is says more, and a part with factors no more.
            if one.equal or (one.status is Status.EXPLAINED and not found.has(Kind.SCALED)):
                causes = tuple(cause for cause in one.causes if cause.kind is not Kind.SAME)
                return replace(one, status=Status.EXPLAINED, causes=(_left_out(side, called, held), *causes),
                               stored=None)  # fmt: skip
    return found


def _left_out(side: str, names: Sequence[str], held: int) -> Cause:
    fields = (("side", side), ("held", names[held]), ("missing", names[1 - held]))
    return Cause(Kind.LEFT_OUT, names[1 - held], fields)


def _summed(side: str, *, same: bool) -> Cause:
    return Cause(Kind.SUMMED, "", (("side", side), ("same", same)))


# What may have become of the rows of a GRU's bias, as NumPy on the right ones.
_OF_ROWS: tuple[tuple[str, Callable[[str], Cause]], ...] = (
    ("{}[::-1]", lambda side: Cause(Kind.EXCHANGED, "", (("a", "input bias"), ("b", "recurrent bias")))),
    ("{} * [[1], [0]]", lambda side: _left_out(side, _BIASES, 0)),
    ("{} * [[0], [1]]", lambda side: _left_out(side, _BIASES, 1)),
    ("{}.sum(axis=0) * [[1], [0]]", lambda side: _summed(side, same=False)),
    ("{}.sum(axis=0) * [[0], [1]]", lambda side: _summed(side, same=False)),
)


def _rows(a: Item, b: Item) -> Finding | None:
    """The two rows of a GRU: input and recurrent bias."""
    dtypes = a.stored.dtype, b.stored.dtype
    chain = b.chain.followed_by(a.chain.inverse())

    def holds(made: Array, wanted: Array) -> bool:
        return bool(rounding_apart(wanted, made, dtypes))

    x, y = (_by_gates(item) for item in (a, b))
    if holds(y, x):
        return Finding(Status.STORED_OTHERWISE, (_summed("", same=True),), chain=chain)
    gates = [way for way in plan(a, b).ways if [one.kind for one in way.causes] == [Kind.GATES]]
    for causes, straight in [((), chain), *((way.causes, way.chain) for way in gates)]:
        for side, of, to, way in (("A", b, a, straight), ("B", a, b, straight.inverse())):
            text, names = way.text(of.variable)
            for change, cause in _OF_ROWS:
                line = Line(to.target, change.format(text), names, f"to {min(dtypes, key=_bytes).name}'s rounding")
                if proven(line, of.sources, to.stored, holds) is not None:
                    made = line if side == "A" else None
                    return Finding(Status.EXPLAINED, (*causes, cause(side)), made, chain=straight)
    return None


def _bytes(dtype: np.dtype[Any]) -> int:
    return dtype.itemsize


def _by_gates(item: Item) -> Array:
    """What a GRU computes with: the sum of both biases, and the candidate's recurrent one by itself."""
    _, orders = item.gates or (0, {})
    order = orders["canonical"]
    rows = item.chain.apply(item.stored).astype(np.float64).reshape(2, len(order), -1)
    return np.concatenate([rows.sum(axis=0), rows[1:, order.index("n")]])


def shared_sum(arrays: Mapping[str, tuple[Item, Item]]) -> bool:
    """Tell whether two pairs of biases that a cell adds have one sum."""
    pairs = [arrays[role] for role in ("bias_ih", "bias_hh") if role in arrays]
    if len(pairs) != len(_BIASES) or len({item.stored.shape for pair in pairs for item in pair}) > 1:
        return False
    x, y = (first.stored.astype(np.float64) + second.stored for first, second in zip(*pairs, strict=True))
    return bool(rounding_apart(x, y, [item.stored.dtype for pair in pairs for item in pair]))


SHARED: tuple[Cause, ...] = (_summed("", same=True),)
