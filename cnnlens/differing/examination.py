"""One pair of arrays under examination: from the plainest hypothesis to the farthest, and no further than needed.

Whether an array is another's rearrangement is seen on a few hundred elements and confirmed on all, by running the line
of NumPy that is printed. Only what no rearrangement explains is looked at for factors, steps and orders of channels,
and only what none of these explains is called related, or another model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.cause import Cause, Causes, Kind, Status
from cnnlens.differing.finding import Finding
from cnnlens.differing.hypotheses.kinship import LEAST, kinship
from cnnlens.differing.hypotheses.layouts import Box, Way, Ways, plan
from cnnlens.differing.hypotheses.orders import bit_sums, exact_orders, near_orders
from cnnlens.differing.hypotheses.rounding import FORMATS, representable, rounded, rounding_text, rounds_to
from cnnlens.differing.items import Item, spaced
from cnnlens.differing.moves import Chain, Reshape, Take
from cnnlens.differing.proof import Line, proven, same
from cnnlens.differing.value_changes import ArrayPair, value_change

__all__ = ["Examination", "examine"]

Array: TypeAlias = NDArray[Any]

_PROBE = 64  # elements that equal arrays are first compared on
_PROMISING = 0.3  # correlation (or mean squared cosine of rows) on the sample from which a way is looked at closely
_CLOSE = 1 << 14  # elements of the closer look
_UNCHANGED = 0.05  # of the sample: fewer are equal where all numbers were rounded or trained
_DOUBTFUL = 0.7  # correlation on the sample below which a way is no rival of a certain one
_SAME: Causes = (Cause(Kind.SAME),)
_TOLD = 4  # numbers from which all of them being of a format says that they were rounded to it
_CERTAIN = 0.98  # correlation above which channels are not looked for elsewhere


def examine(a: Item, b: Item, boxes: Sequence[Box] = ()) -> Finding:
    """Find what turns ``b`` into ``a``; ``boxes`` are maps that may have been flattened in front of them."""
    return Examination(a, b, tuple(boxes)).result()


@dataclass
class Examination(ArrayPair):
    """Holds two arrays, and what is found out about them on the way; ``boxes`` as :func:`examine` takes them."""

    boxes: tuple[Box, ...] = ()

    def simply_equal(self) -> Finding | None:
        """Give the finding if the arrays are equal as they are, and None without further search if they are not."""
        normal = self._normal() if self.a.size == self.b.size else None
        return self._equal(normal) if normal is not None and self._as_they_are(normal) else None

    def result(self) -> Finding:
        a, b = self.a, self.b
        if a.size != b.size or (a.sizes != b.sizes and sorted(self.x.shape) == sorted(self.y.shape) == [0]):
            return Finding(Status.ANOTHER_SHAPE, ())
        equal = self.simply_equal()
        if equal is not None:
            return equal
        normal = self._normal()
        if not np.issubdtype(self.x.dtype, np.number) or not np.issubdtype(self.y.dtype, np.number):
            return Finding(Status.DIFFERS, (), residual=1.0)
        return (
            self._constant()
            or self._nonfinite()
            or self._rearranged()
            or (None if self._changed_everywhere() else self._reordered())
            or self._nearest(self._near())
            or self._unexplained(normal)
        )

    # -- equal ---------------------------------------------------------------------------------------------------------

    def _normal(self) -> Chain | None:
        """From B's stored array to A's as the two frameworks have it; None where the shapes do not allow it."""
        chain = self.b.chain
        if chain.target != self.a.shape:
            if tuple(s for s in chain.target if s != 1) != tuple(s for s in self.a.shape if s != 1):
                return None
            chain = chain.then(Reshape(self.a.shape))
        return chain.followed_by(self.a.chain.inverse())

    def _as_they_are(self, chain: Chain) -> bool:
        """Whether a few elements are equal."""
        if not self.x.size:
            return True
        places = spaced(self.x.size, _PROBE)
        return same(self.x.reshape(-1)[places], self.y.reshape(-1)[chain.back(places)])

    def _equal(self, chain: Chain) -> Finding | None:
        line = self._line(chain)
        if line is None:
            return None
        stored = self.a.letters, self.b.letters
        if not chain.moves or stored[0] == stored[1] or not all(stored):
            return Finding(Status.EQUAL, _SAME, line, chain=chain)
        return Finding(Status.EQUAL, _SAME, line, chain=chain, stored=stored)

    def _line(self, chain: Chain) -> Line | None:
        """The chain as a proven line."""
        text, names = chain.text(self.variable)
        return proven(Line(self.target, text, names), self.b.sources, self.x)

    # -- constants -----------------------------------------------------------------------------------------------------

    def _constant(self) -> Finding | None:
        """Arrays of one value tell nothing of an order, and a factor between them means nothing."""
        ends = [_only_value(array) for array in (self.x, self.y)]
        if ends[0] is None and ends[1] is None:
            return None
        fields = (("a", ends[0]), ("b", ends[1]))
        return Finding(Status.DIFFERS, (Cause(Kind.CONSTANT, "", fields),), residual=self._apart())

    def _nonfinite(self) -> Finding | None:
        """NaN and infinities that one side has more of: no hypothesis about numbers explains them."""
        counts = [_lost(array) for array in (self.x, self.y)]
        if counts[0] == counts[1] or self._overflowed():
            return None
        fields = (("a", counts[0]), ("b", counts[1]))
        return Finding(Status.DIFFERS, (Cause(Kind.NONFINITE, "", fields),), residual=1.0)

    def _overflowed(self) -> bool:
        """Whether a narrower file's infinities are the other's numbers, which are too large for it."""
        if self.x.dtype.kind != "f" or self.y.dtype.kind != "f" or self.x.dtype.itemsize == self.y.dtype.itemsize:
            return False
        narrow, wide = sorted((self.x, self.y), key=lambda array: array.dtype.itemsize)
        with np.errstate(over="ignore"):
            return _lost(wide.astype(narrow.dtype)) == _lost(narrow)

    def _apart(self) -> float:
        normal = self._normal()
        if normal is None:
            return 1.0
        return kinship(self.canonical(self.x), self.canonical(normal.apply(self.y))).distance

    # -- rearranged ----------------------------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> Ways:
        return plan(self.a, self.b, self.boxes)

    @cached_property
    def sampled(self) -> tuple[Array, Array]:
        """Give A's sample, and B's under every way."""
        return self.x.reshape(-1)[self.plan.places], self.y.reshape(-1)[self.plan.sources]

    @cached_property
    def narrow(self) -> tuple[tuple[str, str], ...]:
        """Give the formats that one side's numbers are all of and the other's are not, with that side."""
        found: list[tuple[str, str]] = []
        for name in FORMATS:
            few = [representable(z, name) for z in (self.sampled[0], self.y.reshape(-1)[self.plan.sources[:1]])]
            if few[0] != few[1]:
                side = "A" if few[0] else "B"
                item = self.a if few[0] else self.b
                if representable(item.stored, name) and (_kept_as(item, name) or item.size >= _TOLD):
                    found.append((side, name))
        # What fits two formats is told by the one that its file keeps it in, else by the one that the other rounds to.
        return tuple(sorted(found, key=lambda one: not _kept_as(self.a if one[0] == "A" else self.b, one[1])))

    def _rearranged(self) -> Finding | None:
        few_a, few_b = self.sampled
        tries: list[tuple[str, str, Array, Array]] = [("", "", few_a, few_b)]
        for side, name in self.narrow:
            tries.append((side, name, few_a if side == "A" else rounded(few_a, name),
                          few_b if side == "B" else rounded(few_b, name)))  # fmt: skip
        for side, name, x, y in tries:
            fits = ((y == x) | (np.isnan(y) & np.isnan(x))).all(axis=(1, 2)) if y.dtype.kind == "f" else (
                (y == x).all(axis=(1, 2)))  # fmt: skip
            hits: list[tuple[Way, Line]] = []
            for place in np.flatnonzero(fits):
                way = self.plan.ways[int(place)]
                line = self._line(way.chain) if not side else self._rounded_line(way.chain, side, name)
                if line is not None:
                    hits.append((way, line))
                    if way.natural:
                        break
            if hits:
                return self._hit(hits, side, name)
        return None

    def _rounded_line(self, chain: Chain, side: str, name: str) -> Line | None:
        variable = self.variable
        if side == "B":
            text, names = chain.text(variable)
            line = Line(self.target, text, names, f"to the rounding of {name}")
            return proven(line, self.b.sources, self.x, lambda made, wanted: rounds_to(made, wanted, name))
        dtype = self.y.dtype
        text, names = chain.text(rounding_text(name, variable, dtype))
        return proven(Line(self.target, text, names), self.b.sources, self.x)

    def _hit(self, hits: list[tuple[Way, Line]], side: str, name: str) -> Finding:
        way, line = hits[0]
        causes, status = way.causes, Status.EXPLAINED
        also = way.others
        if way.natural and not name:
            flattened = causes[0].kind is Kind.FLATTENED
            return Finding(Status.EQUAL, _SAME, line, chain=way.chain, flattened=flattened)
        if name:
            rounding = _rounding(side, name)
            if way.natural and _kept_as(self.a if side == "A" else self.b, name):
                status = Status.STORED_OTHERWISE
            causes = (rounding,) if way.natural else (*causes, rounding)
        if len(hits) > 1 and not hits[0][0].natural:
            possible = tuple(one.causes for one, _ in hits)
            return Finding(Status.AMBIGUOUS, causes, line, 0.0, way.chain, None, possible, also)
        residual = 0.0 if not name else self._left(way.chain)
        return Finding(status, causes, line, residual, way.chain, also=also)

    def _left(self, chain: Chain) -> float:
        return kinship(self.canonical(self.x), self.canonical(chain.apply(self.y))).distance

    # -- near ----------------------------------------------------------------------------------------------------------

    def _promising(self) -> Iterator[Way]:
        """The ways under which the sample is correlated, the best first, on a closer look."""
        few_a, few_b = (z.astype(np.float64) for z in self.sampled)
        if not few_b.shape[0]:
            return
        with np.errstate(all="ignore"):
            x, y = _finite(few_a), _finite(few_b)
            along, size = (x * y).sum(axis=2), (np.square(x).sum(axis=1), np.square(y).sum(axis=2))
            whole = np.abs(along.sum(axis=1)) / np.sqrt(size[0].sum() * size[1].sum(axis=1))
            rows = np.square(along) / (size[0] * size[1])
            score = np.maximum(_finite(whole), _finite(rows).mean(axis=1))
        chosen = [int(place) for place in np.argsort(-score, kind="stable")[:6] if score[place] > _PROMISING]
        if chosen and score[chosen[0]] > _CERTAIN and (len(chosen) < 2 or score[chosen[1]] < _DOUBTFUL):
            yield self.plan.ways[chosen[0]]  # a closer look could not change this
            return
        closer: list[tuple[float, Way]] = []
        for place in chosen:
            way = self.plan.ways[place]
            closer.append((self._score(way), way))
        best = max((score for score, _ in closer), default=0.0)
        # Where two ways are as good, the plainer one: a kernel that is nearly symmetric is no proof of a flip.
        alike = sorted((one for one in closer if one[0] >= best - 0.02), key=lambda one: one[1].rank)
        yield from (way for score, way in alike[:3] if score > _PROMISING)

    @cached_property
    def closer(self) -> tuple[Array, Array]:
        """Pick flat places in A's stored array for a closer look, a row an output channel for some, with A's values."""
        rows = self.a.shape[0] if len(self.a.shape) > 1 else 1
        places = self.a.chain.back(_close_places(rows, self.a.size // max(rows, 1)))
        return places, _finite(self.x.reshape(-1)[places].astype(np.float64))

    def _score(self, way: Way) -> float:
        places, x = self.closer
        y = _finite(self.y.reshape(-1)[way.chain.back(places)].astype(np.float64))
        with np.errstate(all="ignore"):
            along, sizes = (x * y).sum(axis=1), (np.square(x).sum(axis=1), np.square(y).sum(axis=1))
            whole = abs(float(along.sum())) / float(np.sqrt(sizes[0].sum() * sizes[1].sum()))
            rows_fit = _finite(np.square(along) / (sizes[0] * sizes[1]))
        return max(whole, float(rows_fit.mean()) if len(self.a.shape) > 1 else 0.0)

    def _near(self) -> Finding | None:
        for way in self._promising():
            found = value_change(self, way.chain, () if way.natural else way.causes, len(self.plan.ways))
            if found is not None:
                return replace(found, also=way.others)
        return None

    # -- reordered -----------------------------------------------------------------------------------------------------

    @cached_property
    def _plain_ways(self) -> list[Way]:
        return [way for way in self.plan.ways if way.rank < 1.3]

    def _changed_everywhere(self) -> bool:
        """Whether every number changed a little: a channel in another place leaves it as it is, or changes it a lot."""
        if not self.plan.ways or self.narrow or self.x.dtype.kind != "f" or self.y.dtype.kind != "f":
            return False
        x, y = (z.astype(np.float64).reshape(-1) for z in (self.sampled[0], self.sampled[1][0]))
        with np.errstate(all="ignore"):
            close = float(x @ y) > _CERTAIN * float(np.sqrt((x @ x) * (y @ y)))
        return x.size >= _PROBE and close and float((x == y).mean()) < _UNCHANGED

    def _reordered(self) -> Finding | None:
        """Channels in another order, number by number."""
        ways = self._plain_ways
        if not ways:
            return None
        tries: list[tuple[str, str]] = [("", ""), *self.narrow]
        for side, name in tries:
            x = rounded(self.x, name) if side == "B" else self.x
            y = rounded(self.y, name) if side == "A" else self.y
            # The plain sum is one quick pass; a change of signs can leave it as it is, so equal ones get a second look.
            if side == "" and (self.a.bits != self.b.bits or bit_sums(x) != bit_sums(y)):
                continue
            if side and any(bit_sums(x, squares) != bit_sums(y, squares) for squares in (False, True)):
                continue
            for way in ways:
                orders = exact_orders(self.canonical(x), self.canonical(way.chain.apply(y)))
                if orders is not None:
                    found = self._in_order(way, orders, side, name)
                    if found is not None:
                        return found
            if not side:
                return Finding(Status.EXPLAINED, (Cause(Kind.REARRANGED),))
        return None

    def _nearest(self, before: Finding | None) -> Finding | None:
        """Channels in another order that were rounded, scaled or trained as well, where that explains more."""
        near = before.kinship if before is not None and before.status is Status.FINE_TUNED else None
        if before is not None and (near is None or near.correlation > _CERTAIN):
            return before
        for way in self._plain_ways[:1]:
            orders = near_orders(self.canonical(self.x), self.canonical(way.chain.apply(self.y)))
            if orders is None:
                continue
            chain = self._taken(way.chain, orders)
            causes = (_order_cause(orders, self.a),)
            found = value_change(self, chain, causes, len(self.plan.ways), _order_detail(orders))
            own = found.kinship if found is not None else None
            if own is not None and (near is None or abs(own.correlation) > near.correlation + 0.02):
                return found
        return before

    def _taken(self, chain: Chain, orders: tuple[tuple[int, ...], tuple[int, ...]]) -> Chain:
        moves = [Take(axis, order, ("order", "inputs")[axis]) for axis, order in enumerate(orders) if order]
        return chain.followed_by(self.a.chain).then(*moves).followed_by(self.a.chain.inverse())

    def _in_order(
        self, way: Way, orders: tuple[tuple[int, ...], tuple[int, ...]], side: str, name: str
    ) -> Finding | None:
        chain = self._taken(way.chain, orders)
        line = self._rounded_line(chain, side, name) if side else self._line(chain)
        if line is None:
            return None
        causes: Causes = (_order_cause(orders, self.a),)
        if not way.natural:
            causes = (*way.causes, *causes)
        if side:
            causes = (*causes, _rounding(side, name))
        detail = _order_detail(orders)
        residual = self._left(chain) if side else 0.0
        return Finding(Status.EXPLAINED, causes, line, residual, chain, detail=detail)

    # -- unexplained ---------------------------------------------------------------------------------------------------

    def _unexplained(self, normal: Chain | None) -> Finding:
        if normal is None:
            return Finding(Status.ANOTHER_SHAPE, (), residual=1.0)
        near = kinship(self.canonical(self.x), self.canonical(normal.apply(self.y)), len(self.plan.ways))
        if not near.tellable or near.correlation > LEAST:
            return Finding(Status.DIFFERS, (), None, near.distance, normal, near)
        fields = (("distance", near.distance), ("correlation", near.correlation), ("chance", near.level))
        return Finding(Status.ANOTHER, (Cause(Kind.ANOTHER, "", fields),), None, near.distance, normal, near)


# -- small things ------------------------------------------------------------------------------------------------------


def _finite(x: Array) -> Array:
    """Zeros for what is no number; the array itself where all are."""
    with np.errstate(all="ignore"):
        return x if np.isfinite(x.sum()) else np.nan_to_num(x, posinf=0.0, neginf=0.0)


@lru_cache(maxsize=256)
def _close_places(rows: int, each: int) -> Array:
    """Flat places in a canonical array of ``rows`` rows: some of each of some rows."""
    generator = np.random.default_rng(rows * each)
    taken = min(rows, 64)
    count = min(each, _CLOSE // taken)
    chosen = np.sort(generator.choice(rows, taken, replace=False))
    inside = np.sort(generator.choice(each, count, replace=False)) if count < each else np.arange(each)
    return chosen[:, None] * each + inside


def _kept_as(item: Item, name: str) -> bool:
    """Whether the array's file keeps it in the format."""
    short = {"float16": "f2", "float32": "f4"}.get(name, name)
    return item.weight.stored.stored_dtype.strip("<>=|") in (name, short)


def _lost(array: Array) -> int:
    """How many numbers are none, or infinite."""
    return array.size - int(np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0


def _only_value(array: Array) -> float | None:
    flat = array.reshape(-1)
    if not flat.size:
        return None
    first = flat[0]
    few = flat[:: max(flat.size // _PROBE, 1)]
    return float(first) if bool((few == first).all()) and bool((flat == first).all()) else None


def _rounding(side: str, name: str) -> Cause:
    return Cause(Kind.ROUNDED, name, (("side", side),))


def _order_cause(orders: tuple[tuple[int, ...], tuple[int, ...]], item: Item) -> Cause:
    moved = [order != tuple(range(len(order))) for order in orders]
    where = "" if moved[0] and moved[1] else "out" if moved[0] else "in"
    return Cause(Kind.PERMUTED, where, (("out", orders[0]), ("in", orders[1]), ("kernel", item.is_kernel)))


def _order_detail(orders: tuple[tuple[int, ...], tuple[int, ...]]) -> dict[str, Any]:
    return {"out_order": list(orders[0]), "in_order": list(orders[1])}
