"""Two networks part by part: paired, each pair of arrays examined, and what belongs to several arrays put together.

A batch norm folded into a convolution shows in three layers, a bias that only one side has may be all zeros, and which
map was flattened in front of a Dense stands in another layer: all of that is joined here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from cnnlens.differing.biases import SHARED, biases_examined, part_alone, shared_sum
from cnnlens.differing.cause import Cause, Kind, Status
from cnnlens.differing.examination import Examination, examine
from cnnlens.differing.finding import Finding
from cnnlens.differing.folding import unfold
from cnnlens.differing.hypotheses.layouts import Box
from cnnlens.differing.items import Item
from cnnlens.differing.other_sizes import function_of, repeated, shifted_rows
from cnnlens.differing.pairing import Pair, Pairing, pair
from cnnlens.differing.parts import PROJECTIONS, Part, biases_as, parts_of
from cnnlens.differing.proof import same
from cnnlens.network.network import Network

__all__ = ["Compared", "PartPair", "investigate"]

# What an array that is missing stands for: with these values everywhere the layer computes the same without it.
_NEUTRAL = {
    "bias": 0.0, "bias_ih": 0.0, "bias_hh": 0.0, "beta": 0.0, "gamma": 1.0, "scale": 1.0, "moving_mean": 0.0,
    "moving_variance": 1.0,
}  # fmt: skip
_NORM_VECTORS = ("gamma", "beta", "moving_mean", "moving_variance")
_WORDS = frozenset(["kernel", *_NEUTRAL, "embeddings", "alpha", "recurrent_kernel"])
_OPEN = (Status.ANOTHER_SHAPE, Status.ANOTHER, Status.DIFFERS, Status.FINE_TUNED)
_FACTORS = 6  # height and width pairs that are tried where a Dense's map is not known

_Channels: TypeAlias = tuple[int | None, int | None]


@dataclass
class Compared:
    """Pairs two arrays of a pair of parts; one side is None where the other has none."""

    role: str
    a: Item | None
    b: Item | None
    finding: Finding


@dataclass
class PartPair:
    """Holds a pair of parts, or a part of one side alone, with what was found out about its arrays."""

    a: Part | None
    b: Part | None
    how: str
    arrays: list[Compared] = field(default_factory=lambda: list[Compared]())
    notes: list[str] = field(default_factory=lambda: list[str]())
    folded: Cause | None = None  # a part of one side alone: what became of it, where the other's arrays say so

    @property
    def kernel(self) -> Compared | None:
        """Give its kernel, or what stands for one."""
        return next((one for one in self.arrays if one.role == "kernel"), None)

    def of(self, role: str) -> Compared | None:
        return next((one for one in self.arrays if one.role == role), None)


def investigate(a: Network, b: Network, say: Callable[[str], object]) -> list[PartPair]:
    """Examine every pair of parts in A's order, then what only B has, and say how far it is."""
    sides = parts_of(a), parts_of(b)
    pairing = _gathered(pair(*sides))
    found: list[PartPair] = []
    channels: _Channels = (None, None)
    for number, one in enumerate(pairing.pairs, 1):
        say(f"comparing layer {number:,} of {len(pairing.pairs):,}")
        found.append(_examined(one, channels))
        kernels = one.a.kernel, one.b.kernel
        if kernels[0] is not None and kernels[1] is not None:
            channels = kernels[0].shape[0], kernels[1].shape[0]
    found += [PartPair(part, None, "", [_alone(item, None) for item in part.items.values()]) for part in pairing.only_a]
    found += [PartPair(None, part, "", [_alone(None, item) for item in part.items.values()]) for part in pairing.only_b]
    found.sort(key=_place)
    _folds(found)
    return found


def _gathered(pairing: Pairing) -> Pairing:
    """Parts of one side alone whose arrays the other holds one by one: a layer that somebody wrote by hand."""
    pairs, only_a, only_b = list(pairing.pairs), list(pairing.only_a), list(pairing.only_b)
    for whole, lone, turned in ((only_a, only_b, False), (only_b, only_a, True)):
        for part in [part for part in whole if len(part.items) > 1]:
            held = _held_apart(part, lone)
            if held is None:
                continue
            whole.remove(part)
            for one in held.values():
                lone.remove(one)
            last = max(held.values(), key=lambda one: one.order)
            shown = ", ".join(one.name for one in held.values() if one is not last)
            items = {role: next(iter(one.items.values())) for role, one in held.items()}
            other = replace(last, items=items, family=part.family, half=f"with {shown}")
            pairs.append(Pair(other, part, "values") if turned else Pair(part, other, "values"))
    pairs.sort(key=lambda one: one.a.order)
    return Pairing(tuple(pairs), tuple(only_a), tuple(only_b))


def _held_apart(part: Part, lone: Sequence[Part]) -> dict[str, Part] | None:
    """For each array of a part, another part that holds it and nothing else."""
    found: dict[str, Part] = {}
    for role, item in part.items.items():
        fits = [one for one in lone if len(one.items) == 1 and one not in found.values()]
        for one in fits:
            other = next(iter(one.items.values()))
            if other.sizes == item.sizes and Examination(item, other).simply_equal() is not None:
                found[role] = one
                break
        else:
            return None
    return found


def _place(one: PartPair) -> tuple[float, int]:
    if one.a is not None:
        return (one.a.order, 0)
    return (float("inf"), one.b.order if one.b is not None else 0)


def _alone(a: Item | None, b: Item | None) -> Compared:
    item = a or b
    role = item.role if item is not None else ""
    return Compared(role, a, b, Finding(Status.MISSING, (), residual=1.0))


def _examined(one: Pair, channels: _Channels) -> PartPair:
    found = PartPair(one.a, one.b, one.how)
    for role, a, b in _arrays(one):
        if a is None or b is None:
            found.arrays.append(_missing(role, a, b))
            continue
        seen_b = b.seen_as(a, one.b.known)
        seen_a = a.seen_as(seen_b, one.a.known)
        boxes = _boxes(seen_a, seen_b, one, channels)
        finding = examine(seen_a, seen_b, boxes)
        if role == "bias" and one.a.family == "recurrent":
            finding = biases_examined(seen_a, seen_b, finding)
        elif seen_a.joined or seen_b.joined:
            finding = part_alone(seen_a, seen_b, finding)
        if finding.status in _OPEN:
            better = (find(seen_a, seen_b) for find in (shifted_rows, repeated, function_of))
            finding = next((one for one in better if one is not None), finding)
        found.arrays.append(Compared(role, seen_a, seen_b, finding))
    _exchanged(found)
    _shared_biases(found)
    _projections(found)
    for side in (one.a, one.b):
        found.notes += [f"{name} is a counter and no weight" for name in side.skipped]
    return found


def _arrays(one: Pair) -> Iterator[tuple[str, Item | None, Item | None]]:
    """The arrays of both by role; what only one side calls so is matched by its size."""
    items, others = biases_as(one.a.items, one.b.items), biases_as(one.b.items, one.a.items)
    left = {role: item for role, item in others.items() if role not in items}
    for role, item in items.items():
        other = others.get(role)
        if other is None:
            fits = [name for name, candidate in left.items() if candidate.sizes == item.sizes]
            name = next((name for name in fits if not (role in _WORDS and name in _WORDS)), None)
            other = left.pop(name) if name is not None else None
        yield role if role in _WORDS or other is None else other.role, item, other
    yield from ((role, None, item) for role, item in left.items())


def _missing(role: str, a: Item | None, b: Item | None) -> Compared:
    item = a or b
    neutral = _NEUTRAL.get(role)
    if item is not None and neutral is not None and bool((item.stored == neutral).all()):
        cause = Cause(Kind.SAME, "", (("everywhere", neutral),))
        return Compared(role, a, b, Finding(Status.STORED_OTHERWISE, (cause,)))
    return Compared(role, a, b, Finding(Status.MISSING, (Cause(Kind.MISSING),), residual=1.0))


def _boxes(a: Item, b: Item, one: Pair, channels: _Channels) -> Sequence[Box]:
    """The maps ``(C, *spatial)`` that may have been flattened in front of two arrays."""
    known = [item.weight.geometry.flatten for item in (a, b)]
    said = [(flatten[-1], *flatten[:-1]) for flatten in known if flatten]
    if said:
        return list(dict.fromkeys(said))
    if a.is_kernel and len(a.shape) == 2 and len(b.shape) == 2:
        size = a.shape[1]
    elif len(a.shape) == 1 and one.a.family != "conv" and one.a.family != "dense":
        size = a.shape[0]
    else:
        return ()
    found: list[Box] = []
    for count in dict.fromkeys(channels):
        if count and size % count == 0 and size // count > 1:
            area = size // count
            sides = [side for side in range(1, area + 1) if area % side == 0]
            sides.sort(key=lambda side: abs(side - area / side))
            found += [(count, side, area // side) for side in sides[:_FACTORS]]
    return found


# -- arrays that took each other's place -------------------------------------------------------------------------------


def _exchanged(found: PartPair) -> None:
    """Vectors of a normalisation under each other's names: gamma for beta, mean for variance."""
    vectors = [one for one in found.arrays if one.role in _NORM_VECTORS and one.a is not None and one.b is not None]
    wrong = [one for one in vectors if not one.finding.equal]
    if len(wrong) < 2:
        return
    for first in wrong:
        for second in wrong:
            if first is second or first.a is None or second.b is None or first.b is None:
                continue
            if second.b.sizes != first.a.sizes or first.finding.has(Kind.EXCHANGED):
                continue
            if _constant(first.a) and (second.a is None or _constant(second.a) or not _alike(second.a, first.b)):
                continue  # ones stand in many places
            if first.a.chain == second.b.chain and not same(*(z.stored.reshape(-1)[:1] for z in (first.a, second.b))):
                continue
            other = Examination(first.a, second.b).simply_equal()
            if other is not None:
                fields = (("a", first.role), ("b", second.role))
                causes = (Cause(Kind.EXCHANGED, "", fields),)
                first.finding = replace(other, status=Status.EXPLAINED, causes=causes, stored=None)


def _projections(found: PartPair) -> None:
    """Query, key and value of an attention layer, each found under another's name."""
    names = [part.half for part in (found.a, found.b) if part is not None]
    if names[0] != names[1] and set(names) <= set(PROJECTIONS):
        cause = Cause(Kind.EXCHANGED, "", (("a", names[0]), ("b", names[1])))
        for one in found.arrays:
            if one.finding.equal:
                one.finding = replace(one.finding, status=Status.EXPLAINED, causes=(cause,), stored=None)


def _constant(item: Item) -> bool:
    return bool((item.stored == item.stored.reshape(-1)[:1]).all())


def _alike(a: Item, b: Item) -> bool:
    return a.sizes == b.sizes and Examination(a, b).simply_equal() is not None


def _shared_biases(found: PartPair) -> None:
    """Two biases that a cell adds, where both sides have two."""
    both = {one.role: (one.a, one.b) for one in found.arrays if one.a is not None and one.b is not None}
    wrong = [one for one in found.arrays if one.role in ("bias_ih", "bias_hh") and not one.finding.equal]
    if wrong and shared_sum(both):
        for one in wrong:
            one.finding = Finding(Status.STORED_OTHERWISE, SHARED)


# -- folded batch norms ------------------------------------------------------------------------------------------------


def _folds(found: Sequence[PartPair]) -> None:
    """Batch norms of one side that the other folded into the layer in front of them, or into the one behind."""
    for lone in found:
        norm, side = (lone.a, "A") if lone.b is None else (lone.b, "B")
        if norm is None or (lone.a is not None and lone.b is not None) or norm.family != "norm":
            continue
        for host, axis in _hosts(found, norm, side):
            if host.a is None or host.b is None or host.kernel is None:
                continue
            folded = unfold((host.a, host.b), norm, side, host.kernel.finding, axis)
            if folded is None:
                continue
            host.kernel.finding = folded.kernel
            _set_bias(host, folded.bias)
            lone.folded = folded.norm
            for one in lone.arrays:
                one.finding = replace(one.finding, status=Status.EXPLAINED, causes=(folded.norm,), residual=0.0)
            break


def _hosts(found: Sequence[PartPair], norm: Part, side: str) -> list[tuple[PartPair, int]]:
    """The pairs whose factors may be the norm's, and along which axis: the nearest before it, then those behind."""
    size = max((item.size for item in norm.items.values()), default=0)
    fits: list[tuple[int, PartPair, int]] = []
    for one in found:
        kernel = one.kernel
        own = one.a if side == "A" else one.b
        if kernel is None or kernel.a is None or kernel.b is None or own is None:
            continue
        before = norm.order - own.order
        if kernel.a.shape[0] == size:
            fits.append((before if before > 0 else 1 << 30, one, 0))
        if len(kernel.a.shape) > 1 and kernel.a.shape[1] == size and before < 0:
            fits.append(((1 << 20) - before, one, 1))
    return [(one, axis) for _, one, axis in sorted(fits, key=lambda fit: fit[0])]


def _set_bias(host: PartPair, bias: Finding | None) -> None:
    if bias is None:
        return
    one = host.of("bias")
    if one is not None:
        one.finding = bias
