"""Arrays that are each other's but for what was added, cut off, repeated, or computed of them before they were stored.

A table of embeddings with a row for padding, a head with a background class, one slope where there are many, a standard
deviation under a variance's name: each is shown by numbers that are equal, and by nothing that is only near.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.cause import Cause, Kind, Status
from cnnlens.differing.finding import Finding
from cnnlens.differing.hypotheses.rounding import rounding_apart
from cnnlens.differing.hypotheses.scales import EPSILONS
from cnnlens.differing.items import Item
from cnnlens.differing.proof import Line, proven, same

__all__ = ["function_of", "repeated", "shifted_rows"]

Array: TypeAlias = NDArray[Any]

_MOST = 8  # rows that one side may have more
_SHIFTS = 3  # rows by which tables of one size may be off
_LEAST = 8  # numbers that must be equal


def shifted_rows(a: Item, b: Item) -> Finding | None:
    """Tell whether rows of the canonical first axis are the other's, further down or further up."""
    if len(a.shape) < 2 or a.shape[1:] != b.shape[1:] or 0 in a.shape or not (a.exact and b.exact):
        return None
    rows, others = a.shape[0], b.shape[0]
    if abs(rows - others) > _MOST or (rows == others and a.role != "embeddings"):
        return None
    x, y = (item.chain.apply(item.stored) for item in (a, b))
    reach = abs(rows - others) or _SHIFTS
    for shift in sorted(range(-reach, reach + 1), key=abs):
        first, second = max(shift, 0), max(-shift, 0)  # A's row `first` is B's row `second`
        count = min(rows - first, others - second)
        if (rows == others and not shift) or 2 * count < max(rows, others) or x[:count].size < _LEAST:
            continue
        part = x[first : first + count]
        if same(part, y[second : second + count]) and not (part == part.reshape(-1)[0]).all():
            fields = (("a", (first + 1, first + count)), ("b", (second + 1, second + count)), ("of", (rows, others)),
                      ("channels", a.is_kernel))  # fmt: skip
            cause = Cause(Kind.SHIFTED, "", fields)
            return Finding(Status.EXPLAINED, (cause,), _rows_line(a, b, (second, count)) if count == rows else None)
    return None


def _rows_line(a: Item, b: Item, rows: tuple[int, int]) -> Line | None:
    """A's array where it is a piece of B's."""
    axis = b.stored_axis(0)
    if axis is None:
        return None
    first, count = rows
    piece = f"{b.variable}[{':, ' * axis}{first or ''}:{first + count}]"
    shape = tuple(count if place == axis else size for place, size in enumerate(b.chain.source))
    moves = _between(a, b, shape)
    return None if moves is None else proven(Line(a.target, piece + moves, {}), b.sources, a.stored)


def _between(a: Item, b: Item, shape: tuple[int, ...]) -> str | None:
    """The transpose from B's stored axes to A's, as text; None where it needs a reshape."""
    order = [b.stored_axis(axis) for axis in range(len(b.shape))], [a.stored_axis(axis) for axis in range(len(a.shape))]
    if any(place is None for places in order for place in places) or len(shape) != len(a.shape):
        return None
    straight = [order[0][order[1].index(place)] for place in range(len(shape))]
    return "" if straight == list(range(len(shape))) else f".transpose({', '.join(map(str, straight))})"


def repeated(a: Item, b: Item) -> Finding | None:
    """Tell whether slopes (PReLU) are the other's, the same all along the axes that one side has more."""
    if a.role != "alpha" or a.size == b.size or 0 in (a.size, b.size):
        return None
    many, few = (a, b) if a.size > b.size else (b, a)
    x, y = (item.chain.apply(item.stored) for item in (many, few))
    wide = y.reshape(-1, *(1,) * (x.ndim - 1)) if y.size in (1, x.shape[0]) else None
    if wide is None or not same(x, np.broadcast_to(wide, x.shape)):
        return None
    stored = few.stored.reshape(-1)
    text = f"np.broadcast_to({b.variable}.reshape(-1), {a.stored.shape})"
    if many is b:
        text = f"{b.variable}.reshape(-1)[{-stored.size}:].reshape({', '.join(map(str, a.stored.shape))})"
    line = proven(Line(a.target, text, {}), b.sources, a.stored)
    return Finding(Status.STORED_OTHERWISE, (Cause(Kind.REPEATED, "", (("side", "A" if many is a else "B"),)),), line)


def _functions() -> Iterator[tuple[str, str, float]]:
    yield "np.sqrt({})", "standard deviation", 0.0
    yield "1 / {}", "inverse", 0.0
    for epsilon in EPSILONS:
        root = f"np.sqrt({{}} + {epsilon!r})" if epsilon else "np.sqrt({})"
        yield f"1 / {root}", "inverse standard deviation", epsilon


def function_of(a: Item, b: Item) -> Finding | None:
    """Tell whether one side's variance is the other's standard deviation, or an inverse of either."""
    if a.role != "moving_variance" or a.shape != b.shape or a.size < 2 or len(a.stored.shape) != 1:
        return None
    dtypes = a.stored.dtype, b.stored.dtype

    def holds(made: Array, wanted: Array) -> bool:
        return bool(np.isfinite(made).all() and rounding_apart(wanted, made, dtypes))

    found: list[Finding] = []
    for side, of, to in (("A", b, a), ("B", a, b)):
        for text, name, epsilon in _functions():
            line = Line(to.target, text.format(of.variable), {}, "to float32's rounding")
            if proven(line, of.sources, to.stored, holds) is not None:
                cause = Cause(Kind.FUNCTION, name, (("side", side), ("name", name), ("epsilon", epsilon)))
                found.append(Finding(Status.EXPLAINED, (cause,), line if side == "A" else None))
    return found[0] if len({one.tag for one in found}) == 1 else None
