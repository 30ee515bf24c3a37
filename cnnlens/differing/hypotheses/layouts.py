"""Every way in which one array may be another in a wrong order: flipped, swapped, poured without a transpose, reversed.

Each way is a chain of moves from B's stored array to A's. Ways that move every element alike for the shapes at hand are
one way with several names; which kernel values lie where then decides, never a shape, since square kernels have them
all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, permutations
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.cause import Cause, Causes, Kind
from cnnlens.differing.items import Item
from cnnlens.differing.moves import Chain, Flip, Move, Reshape, Take, Transpose

__all__ = ["Box", "Way", "Ways", "plan"]

Array: TypeAlias = NDArray[Any]
Box: TypeAlias = tuple[int, ...]

_SPATIAL = "DHW"
_SAMPLE = 256  # elements on which ways are told apart and tried first
_ROWS = 16  # output channels among them
_UNKNOWN = 4  # axes of an array without known axes up to which every order is tried
_NAMES = 8  # further names that one way may have
_IN_AND_OUT = Cause(Kind.IN_AND_OUT)


@dataclass(frozen=True)
class Way:
    """Describes one way in which B's array may be A's.

    Attributes:
        causes: What was done to B; the normal way's cause says nothing.
        chain: From B's stored array to A's.
        rank: How far from the normal way; the plain before the contrived.
        natural: Whether it is how the two frameworks differ anyway, and no mistake.
        others: What else the same moves may be called.
    """

    causes: Causes
    chain: Chain
    rank: float
    natural: bool = False
    others: tuple[Causes, ...] = ()


@dataclass(frozen=True)
class Ways:
    """Holds the ways between two shapes, and where their values lie.

    Attributes:
        ways: Told apart; the natural ones first, then in order of rank.
        places: Flat places in A's stored array, one row for each of some output channels.
        sources: For each way, the same places in B's stored array.
    """

    ways: tuple[Way, ...]
    places: Array
    sources: Array


@dataclass(frozen=True)
class _Side:
    """What the ways depend on, of one array."""

    chain: Chain
    axes: tuple[str, ...]
    kernel: bool
    framework: str
    letters: str
    multiplier: tuple[int, int]
    gates: tuple[int, tuple[tuple[str, str], ...]] | None = None


def plan(a: Item, b: Item, boxes: Sequence[Box] = ()) -> Ways:
    """List the ways from ``b`` to ``a``; ``boxes`` are maps ``(C, *spatial)`` that may have been flattened in front."""
    kernel = a.is_kernel or b.is_kernel
    return _plan(_side(a, kernel), _side(b, kernel), tuple(boxes))


def _side(item: Item, kernel: bool) -> _Side:
    weight = item.weight
    groups = weight.geometry.groups
    multiplier = item.shape[0] // groups if item.shape and groups > 1 and item.shape[0] % groups == 0 else 1
    split = (groups, multiplier) if multiplier > 1 and (len(item.shape) < 2 or item.shape[1] == 1) else (0, 0)
    letters = item.letters if item.exact else "".join(item.axes)
    gates = None if item.gates is None else (item.gates[0], tuple(item.gates[1].items()))
    return _Side(item.chain, item.axes, kernel, weight.framework, letters, split, gates)


@lru_cache(maxsize=512)
def _plan(a: _Side, b: _Side, boxes: tuple[Box, ...]) -> Ways:
    shape = a.chain.target
    places = _places(shape)
    flat = a.chain.back(places.reshape(-1))
    found: dict[bytes, Way] = {}
    sources: dict[bytes, Array] = {}
    for way in sorted(_ways(a, b, boxes), key=lambda way: (not way.natural, way.rank)):
        where = way.chain.back(flat)
        key = where.tobytes()
        if key not in found:
            found[key], sources[key] = way, where.reshape(places.shape)
        elif not found[key].natural and way.causes != found[key].causes:
            found[key] = replace(found[key], others=(*found[key].others, way.causes)[:_NAMES])
    table = np.stack([sources[key] for key in found]) if found else np.zeros((0, *places.shape), np.int64)
    return Ways(tuple(found.values()), flat.reshape(places.shape), table)


def _places(shape: tuple[int, ...]) -> Array:
    """Flat places in a canonical array: all of a small one, else some of each of a few output channels."""
    total = prod(shape)
    rows = shape[0] if shape else 1
    if total <= _SAMPLE:
        return np.arange(total).reshape(rows if len(shape) > 1 and rows else 1, -1)
    generator = np.random.default_rng(total)
    if len(shape) < 2:
        return np.sort(generator.choice(total, _SAMPLE, replace=False))[None]
    each = total // rows
    count = min(_ROWS, rows)
    chosen = np.sort(generator.choice(rows, count, replace=False))
    inside = np.stack([generator.choice(each, min(_SAMPLE // count, each), replace=False) for _ in chosen])
    return chosen[:, None] * each + inside


def _ways(a: _Side, b: _Side, boxes: tuple[Box, ...]) -> Iterator[Way]:
    back = a.chain.inverse()

    def way(causes: Causes, rank: float, *moves: Move, natural: bool = False) -> Iterator[Way]:
        chain = b.chain.then(*moves)
        if chain.target != a.chain.target:
            if _long(chain.target) != _long(a.chain.target):
                return
            chain = chain.then(Reshape(a.chain.target))
        yield Way(causes, chain.followed_by(back), rank, natural)

    yield from way((Cause(Kind.SAME),), 0.0, natural=True)
    for causes, rank, moves in _mistakes(a, b):
        yield from way(causes, rank, *moves)
    if a.multiplier[0] or b.multiplier[0]:
        yield from _split(a, b, way)
    for number, box in enumerate(boxes):
        yield from _flattened(a, b, box, number)
    yield from _poured(a, b)
    for number, box in enumerate(boxes):
        if b.kernel:
            yield from _poured_maps(a, b, box, number)


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _mistakes(a: _Side, b: _Side) -> Iterator[tuple[Causes, float, tuple[Move, ...]]]:
    """Swaps, flips and reversals of canonical axes, and other orders of gates, one or two at a time."""
    shape, axes = b.chain.target, b.axes
    named = not any(letter.startswith("axis") for letter in axes)
    spatial = [axis for axis, letter in enumerate(axes) if letter in _SPATIAL]
    if not named:  # a kind that no table knows: any of its axes may have been turned
        spatial = list(range(len(axes))) if len(axes) <= _UNKNOWN else []
    count = len(axes)
    swaps: list[tuple[Cause, float, Move]] = []
    for order in permutations(spatial):
        if order != tuple(spatial):
            full = list(range(count))
            for axis, taken in zip(spatial, order, strict=True):
                full[axis] = taken
            fields = (("axes", tuple(axes[axis] for axis in spatial)), ("order", tuple(axes[axis] for axis in order)))
            swaps.append((Cause(Kind.SWAPPED, "", fields), 1.2, Transpose(tuple(full))))
    io: list[tuple[Cause, float, Move]] = []
    if b.kernel and count > 1:
        io.append((_IN_AND_OUT, 1.3, Transpose((1, 0, *range(2, count)))))
    long = [axis for axis in spatial if shape[axis] > 1]
    flips: list[tuple[Cause, float, Move]] = [
        (Cause(Kind.FLIPPED, "".join(axes[axis] for axis in chosen)), 1.1, Flip(chosen))
        for size in range(1, len(long) + 1)
        for chosen in combinations(long, size)
    ]
    reverse: list[tuple[Cause, float, Move]] = []
    channel = 1 if b.kernel and count > 1 else 0
    if count and shape[channel] > 1 and (b.kernel or count == 1):
        fields = (("axis", channel), ("channels", shape[channel]), ("inputs", b.kernel))
        reverse.append((Cause(Kind.REVERSED, "", fields), 1.4, Flip((channel,))))
    plain: list[list[tuple[Cause, float, tuple[Move, ...]]]] = [
        [(cause, rank, (move,)) for cause, rank, move in kind] for kind in (swaps, flips, io, reverse)
    ]
    plain[2] += _inside_gates(b)
    kinds = [list(_gates(a, b)), *plain]
    for kind in kinds:
        for cause, rank, moves in kind:
            yield (cause,), rank, moves
    if not named:
        return
    for first, second in combinations(kinds, 2):
        for cause, rank, moves in first:
            for other, extra, further in second:
                yield (cause, other), rank + extra + 1, (*moves, *further)


def _gates(a: _Side, b: _Side) -> Iterator[tuple[Cause, float, tuple[Move, ...]]]:
    """The gates of a recurrent layer in every other order: that of A's framework or of another first."""
    if b.gates is None or a.gates is None:
        return
    axis, shape = b.gates[0], b.chain.target
    named = dict(b.gates[1])
    canonical, expected = named["canonical"], named.get(b.framework, named["canonical"])
    of_a = named.get(a.framework, canonical)
    opened = _opened_gates(b)
    for letters in permutations(canonical):
        order = "".join(letters)
        if order == expected:
            continue
        # Where gate k of the canonical order lies among what is now taken for it, if B holds them in this order.
        entries = tuple(canonical.index(expected[order.index(gate)]) for gate in canonical)
        known = next((name for name, held in named.items() if held == order and name != "canonical"), "")
        frameworks = (a.framework, b.framework)
        fields = (("order", order), ("known", known), ("expected", expected), ("a", of_a), ("frameworks", frameworks))
        rank = 1.05 if order == of_a else 1.06 if known else 1.15
        yield Cause(Kind.GATES, order, fields), rank, (Reshape(opened), Take(axis, entries, "gates"), Reshape(shape))


def _opened_gates(side: _Side) -> tuple[int, ...]:
    """The canonical shape with gates and units as two axes."""
    axis, orders = side.gates or (0, ())
    shape, count = side.chain.target, len(dict(orders)["canonical"])
    return (*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :])


def _inside_gates(b: _Side) -> Iterator[tuple[Cause, float, tuple[Move, ...]]]:
    """Square blocks of a recurrent kernel, one a gate, each left as it was where it should have been transposed."""
    if b.gates is None or b.gates[0] or len(b.chain.target) != 2:
        return
    opened = _opened_gates(b)
    if opened[1] == opened[2]:
        yield _IN_AND_OUT, 1.3, (Reshape(opened), Transpose((0, 2, 1)), Reshape(b.chain.target))


def _split(a: _Side, b: _Side, way: Any) -> Iterator[Way]:
    """Output channels of a depthwise convolution counted multiplier first, on either side."""
    channels, multiplier = a.multiplier if a.multiplier[0] else b.multiplier
    shape = b.chain.target
    if not shape or shape[0] != channels * multiplier:
        return
    swap = Transpose((1, 0, *range(2, len(shape) + 1)))
    for first, second in ((multiplier, channels), (channels, multiplier)):
        moves = (Reshape((first, second, *shape[1:])), swap, Reshape(shape))
        yield from way((Cause(Kind.MULTIPLIER),), 1.5, *moves)


_FLAT_LETTERS = {2: "CW", 3: "CHW", 4: "CDHW"}


def _natural(side: _Side, rank: int) -> tuple[int, ...]:
    """The order of (C, *spatial) in which the side's framework flattens."""
    return (*range(1, rank), 0) if side.framework == "keras" else tuple(range(rank))


def _flattened(a: _Side, b: _Side, box: Box, number: int) -> Iterator[Way]:
    """The flattened axis of a Dense (or of a vector) in another order of its map's axes, on either side."""
    rank = len(box)
    if rank not in _FLAT_LETTERS:
        return
    natural = [_natural(side, rank) for side in (a, b)]
    orders = list(permutations(range(rank)))
    pairs = [(natural[0], natural[1])]
    pairs += [(natural[0], order) for order in orders if order != natural[1]]
    pairs += [(order, natural[1]) for order in orders if order != natural[0]]
    for place, (order_a, order_b) in enumerate(pairs):
        shown = [_named(box, order) for order in (order_a, order_b)]
        rank_of = 1.0 + 0.1 * number + (0.0 if not place else 0.01 if place < len(orders) else 0.02)
        chain = _between(a, b, box, order_a, order_b)
        fields = (("inputs", b.kernel), ("a", shown[0]), ("b", shown[1]), ("expected", _named(box, natural[1])))
        flat = Cause(Kind.FLATTENED, "", fields)
        if chain is not None:
            yield Way((flat,), chain, rank_of, not place)
        turned = _between(a, b, box, order_a, order_b, True) if b.kernel and place < len(orders) else None
        if turned is not None:
            causes = (flat, _IN_AND_OUT) if place else (_IN_AND_OUT,)
            yield Way(causes, turned, rank_of + (0.3 if not place else 2.0))


def _named(box: Box, order: Sequence[int]) -> str:
    return f"({', '.join(_FLAT_LETTERS[len(box)][axis] for axis in order)})"


def _opened(side: _Side, box: Box, order: Sequence[int], turned: bool = False) -> Chain | None:
    """From a stored array to ``(out, C, *spatial)`` (a vector: ``(C, *spatial)``), its map flattened in ``order``."""
    stored, flat, rank = side.chain.source, prod(box), len(box)
    inside = tuple(box[axis] for axis in order)
    straight = [list(order).index(axis) for axis in range(rank)]
    if not side.kernel:
        long = [size for size in stored if size != 1]
        return Chain(stored).then(Reshape(inside), Transpose(tuple(straight))) if long == [flat] else None
    if len(stored) != 2:
        return None
    first = (side.framework == "keras") != turned  # whether the inputs are the first axis
    if stored[0 if first else 1] != flat:
        return None
    if first:
        return Chain(stored).then(Reshape((*inside, stored[1])), Transpose((rank, *straight)))
    return Chain(stored).then(Reshape((stored[0], *inside)), Transpose((0, *(1 + axis for axis in straight))))


def _between(
    a: _Side, b: _Side, box: Box, order_a: Sequence[int], order_b: Sequence[int], turned: bool = False
) -> Chain | None:
    """From B's stored array to A's where both have the map ``box`` flattened, each in its own order."""
    end, start = _opened(a, box, order_a), _opened(b, box, order_b, turned)
    if end is None or start is None or end.target != start.target:
        return None
    return start.followed_by(end.inverse())


def _poured_maps(a: _Side, b: _Side, box: Box, number: int) -> Iterator[Way]:
    """A Dense's kernel taken as (out, C, *spatial) in some order and poured into the other's shape."""
    rank = len(box)
    if rank not in _FLAT_LETTERS:
        return
    opened = [_opened(side, box, _natural(side, rank)) for side in (a, b)]
    letters = "O" + _FLAT_LETTERS[rank]
    for side, whole in zip("AB", opened, strict=True):
        if whole is None:
            continue
        for order in permutations(range(rank + 1)):
            source = _ordered(letters, order)
            rank_of = (2.05 if side == "A" else 2.25) + 0.1 * number + 0.01 * _far(order)
            if side == "A":
                shape = tuple(whole.target[axis] for axis in order)
                chain = Chain(b.chain.source).then(Reshape(shape), Transpose(tuple(int(i) for i in np.argsort(order))))
                chain = chain.followed_by(whole.inverse())
            else:
                chain = whole.then(Transpose(order), Reshape(a.chain.source))
            if prod(chain.target) == prod(a.chain.source):
                fields = (("side", side), ("read", source), ("into", ""))
                yield Way((Cause(Kind.RESHAPED, "", fields),), chain, rank_of)


def _poured(a: _Side, b: _Side) -> Iterator[Way]:
    """Reshaped where it should have been transposed: every order in which either side may have been read."""
    stored_a, stored_b = a.chain.source, b.chain.source
    if prod(stored_a) != prod(stored_b) or len(_long(stored_a)) < 2:
        return
    for start, letters, rank in _starts(b):
        for order in permutations(range(len(stored_a))):
            shape = tuple(stored_a[axis] for axis in order)
            source = _ordered(a.letters, order)
            chain = start.then(Reshape(shape), Transpose(tuple(int(axis) for axis in np.argsort(order))))
            fields = (("side", "A"), ("read", source), ("into", letters))
            yield Way((Cause(Kind.RESHAPED, "", fields),), chain, 2.0 + rank + 0.01 * _far(order))
    for end, letters, rank in _starts(a):
        for order in permutations(range(len(stored_b))):
            chain = Chain(stored_b).then(Transpose(order), Reshape(end.target)).followed_by(end.inverse())
            source = _ordered(b.letters, order)
            fields = (("side", "B"), ("read", source), ("into", letters))
            yield Way((Cause(Kind.RESHAPED, "", fields),), chain, 2.2 + rank + 0.01 * _far(order))


def _starts(side: _Side) -> Iterator[tuple[Chain, str, float]]:
    """An array as it is stored, and in canonical order where that is another."""
    yield Chain(side.chain.source), side.letters or "its shape", 0.0
    if any(isinstance(move, Transpose) for move in side.chain.moves):
        yield side.chain, "".join(side.axes), 0.1


def _ordered(letters: str, order: Sequence[int]) -> str:
    axes = re.findall(r"\([^)]*\)|.", letters)
    return "".join(axes[axis] for axis in order) if len(axes) == len(order) else str(tuple(order))


def _far(order: Sequence[int]) -> int:
    return sum(1 for place, axis in enumerate(order) if place != axis)
