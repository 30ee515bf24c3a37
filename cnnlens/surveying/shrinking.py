"""A disagreement made small: the plainest setting, the smallest sizes and the plainest input that still show it.

Candidates are tried many at once, as branches of one network. Options become plain in all ways together, so that two
of which each would do alone are told from two that are needed; then values become plainer, then sizes smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.auditing import audit_recording
from cnnlens.network.graph import Ref
from cnnlens.network.network import Network
from cnnlens.surveying.drawing import CLASSES, draw, rows_of
from cnnlens.surveying.networks import branch, network_of
from cnnlens.surveying.running import Kept, Outcome, Under, computed, run
from cnnlens.surveying.setting import Setting, each

__all__ = ["Numbers", "numbers", "shrink", "size"]

Array = NDArray[Any]

_MOST = 48  # candidates of one disagreement at a step
_FEW = 6  # of one failure, each of which costs a run of its own
_WAVE = 6  # tried together, of one disagreement


@dataclass(frozen=True)
class Numbers:
    """Holds what one small setting makes of one small input, and where it is farthest from what it should be.

    Attributes:
        inputs: One example of each operand, in the call's own axes, with the batch; ``batch``: the examples among which
            it was computed, at ``row``.
        place: Where the two are farthest apart, in the output's own axes, the batch being left out.
        computed, expected: The two numbers there.
    """

    inputs: tuple[Array, ...]
    batch: tuple[Array, ...]
    row: int
    place: tuple[int, ...]
    computed: float
    expected: float


def shrink(found: Mapping[Setting, Outcome], under: Under) -> dict[Setting, tuple[Setting, Outcome]]:
    """Make each disagreeing setting as small as it goes under a backend while it shows a fault of the same sort.

    At each step the smallest candidates are tried first, a few of each disagreement together; most do.
    """
    small = dict(zip(found, found, strict=True))
    for step in (_plainer, _simpler, _fewer, _smaller):
        left = {
            one: sorted(_distinct(step(now), now), key=size)[: _MOST if found[one].disagrees else _FEW]
            for one, now in small.items()
        }
        while any(left.values()):
            wave = {one: several[: _WAVE if found[one].disagrees else 1] for one, several in left.items()}
            only = {each: (found[one].inputs or ("",))[0] for one, several in wave.items() for each in several}
            alone = [each for one, several in wave.items() if not found[one].disagrees for each in several]
            outcomes = _tried(only, alone, under, only)
            for one, several in wave.items():
                showing = [each for each in several if _shows(outcomes[each], found[one])]
                if showing and size(showing[0]) < size(small[one]):
                    small[one] = showing[0]
                left[one] = [] if showing else left[one][len(several) :]
    ends = _tried(small.values(), [now for one, now in small.items() if not found[one].disagrees], under, None)
    return {one: (now, ends[now]) if ends[now].fault else (one, found[one]) for one, now in small.items()}


def _shows(outcome: Outcome, found: Outcome) -> bool:
    """Whether a smaller case shows the same: a fault's name is lost among few numbers, a refusal says what it is."""
    return outcome.fault == found.fault and (found.disagrees or outcome.alike == found.alike)


def _tried(
    settings: Iterable[Setting], alone: Iterable[Setting], under: Under, only: Mapping[Setting, str] | None
) -> dict[Setting, Outcome]:
    """Run settings; each of ``alone``, which is likely to fail, by itself: it would take others with it."""
    single = dict.fromkeys(alone)
    outcomes = run([one for one in dict.fromkeys(settings) if one not in single], under, only=only)
    for one in single:
        outcomes |= run([one], under, only=only)
    return outcomes


def size(setting: Setting) -> tuple[float, ...]:
    """Order settings: options that are not plain, how far down their tables, then the numbers in and out."""
    plain = setting.unlike_plain
    down = sum(_down(setting, name) for name in plain)
    sizes = [math.prod(one.shape) for one in setting.call.operands]
    own = [math.prod(each(v)) for name, v in setting.options.items() if name in setting.family.sizes]
    weights = sum(map(math.prod, setting.call.weights.values()))
    return len(plain) + (not setting.ones and bool(weights)), down, sum(sizes), sum(own), weights


def _down(setting: Setting, name: str) -> int:
    values = list(setting.family.options[name])
    return values.index(setting.options[name]) if setting.options[name] in values else len(values)


def _distinct(candidates: Iterable[Setting | None], now: Setting) -> Iterator[Setting]:
    yield from dict.fromkeys(each for each in candidates if each is not None and each != now)


def _plainer(now: Setting) -> Iterator[Setting | None]:
    """With options at their plainest value, the most of them first."""
    plain = {name: now.family.options[name][0] for name in now.unlike_plain}
    for count in range(len(plain), 0, -1):
        for some in combinations(plain, count):
            changed = now.changed(**{name: plain[name] for name in some})
            yield changed
            if count >= len(plain) - 1 and now.call.weights and changed is not None:
                yield replace(changed, ones=True)


def _simpler(now: Setting) -> Iterator[Setting | None]:
    """With plainer values of the options that are left, and arrays of ones."""
    if now.call.weights:
        yield replace(now, ones=True)
    ways = [(name, now.family.options[name][: _down(now, name) + 1]) for name in now.unlike_plain]
    for values in product(*(several for _, several in ways)):
        changed = now.changed(**dict(zip((name for name, _ in ways), values, strict=True)))
        yield changed
        if changed is not None and changed.call.weights:
            yield replace(changed, ones=True)


def _fewer(now: Setting) -> Iterator[Setting | None]:
    """With windows that are long along one axis alone, and one channel."""
    few = {name: 1 for name, value in now.options.items() if name in now.family.sizes and isinstance(value, int)}
    yield now.changed(**few)
    yield from (now.changed(**{name: 1}) for name in few)
    long = [name for name, value in now.options.items() if isinstance(value, tuple) and name not in now.family.sizes]
    for axis in range(len(now.options["size"]) if "size" in now.options and "size" in now.family.sizes else 0):
        for few_ in ({}, few):
            changes = {name: _only(now.options[name], axis) for name in long if len(now.options[name]) > axis}
            size = _only(now.options["size"], axis)
            yield now.changed(**few_, **changes)
            yield now.changed(**few_, **changes, size=size)


def _only(values: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return tuple(value if place == axis or not isinstance(value, int) else 1 for place, value in enumerate(values))


def _smaller(now: Setting) -> Iterator[Setting | None]:
    """With smaller sizes, the smallest first."""
    names = [name for name in now.family.options if name in now.family.sizes]
    ranges: list[list[Any]] = []
    for name in names:
        value = now.options[name]
        ranges.append(
            list(product(*(range(1, one + 1) for one in each(value))))
            if isinstance(value, tuple)
            else [*range(1, value + 1)]
        )
    every = sorted(product(*ranges), key=lambda values: sum(math.prod(each(v)) for v in values))
    valid = (now.changed(**dict(zip(names, values, strict=True))) for values in every)
    yield from (one for one in valid if one is not None)


def numbers(setting: Setting, outcome: Outcome, under: Under) -> Numbers | None:
    """Find a plain input that shows a setting's fault, and the two numbers; None where none shows it again.

    The batch is as large as those of the sweep: some faults hang on that.
    """
    network = network_of([setting])
    name, ends, drawn = branch(0, setting), network.outputs[0], draw(network)
    for given in (_plain_inputs(drawn, outcome), drawn):
        kept = computed(network, under, given)
        for row in range(kept.count):
            audit = dict(audit_recording(network, replace(kept, rows=(row, row + 1))))[name]
            if not audit.verdict.passes(under.precision):
                return _numbers(network, kept, row, name, ends)
    return None


def _numbers(network: Network, kept: Kept, row: int, name: str, ends: Ref) -> Numbers | None:
    batch = {ref.name: np.asarray(kept.maps[ref.name]) for ref in network.inputs}
    wide = {one: array.astype(np.float64) if array.dtype.kind == "f" else array for one, array in batch.items()}
    with np.errstate(all="ignore"):
        given = {one: array[row : row + 1] for one, array in wide.items()}
        expected = network.own_axes(ends, np.asarray(network.run(given, [name])[name]))[0]
    came = network.own_axes(ends, np.asarray(kept.maps[name]))[row]
    if came.shape != expected.shape:
        return None
    place = tuple(map(int, np.unravel_index(int(_apart(came, expected).argmax()), came.shape)))
    whole = tuple(network.own_axes(ref, batch[ref.name]) for ref in network.inputs)
    one = tuple(array[row : row + 1] for array in whole)
    return Numbers(one, whole, row, place, float(came[place]), float(expected[place]))


def _apart(came: Array, expected: Array) -> NDArray[np.float64]:
    """How far two outputs are apart, NaN and infinity in one of them alone being farthest."""
    with np.errstate(all="ignore"):
        apart = np.abs(came.astype(np.float64) - expected.astype(np.float64)) / (np.abs(expected) + 1e-30)
    apart[(came == expected) | (np.isnan(came) & np.isnan(expected))] = 0
    apart[np.isfinite(came) != np.isfinite(expected)] = np.inf
    return np.nan_to_num(apart, nan=np.finfo(np.float64).max, posinf=np.inf)


def _plain_inputs(drawn: Sequence[Array], outcome: Outcome) -> list[Array]:
    """Candidates for each input, the plainest first: counted numbers, ones, and those that showed it; as many as were
    drawn."""
    total = sum(count for count, _ in CLASSES.values())
    finite = [one for one in outcome.inputs if not one.startswith("one ")] or outcome.inputs
    starts = [rows_of(one) for one in finite] or [(0, total)]
    rows = [row for start, stop in starts for row in range(start, stop)]
    return [np.resize(_candidates(one, rows), (total, *one.shape[1:])) for one in drawn]


def _candidates(drawn: Array, rows: Sequence[int]) -> Array:
    kept = drawn[rows]
    if drawn.dtype.kind != "f":
        return kept
    shape = drawn.shape[1:]
    odd = ~np.isfinite(kept)
    plain = [np.arange(1, math.prod(shape) + 1, dtype=np.float32).reshape(shape), np.ones(shape, np.float32)]
    if odd.any():
        among = [(x, o) for x, o in zip(kept, odd, strict=True) if o.any()]
        return np.stack([np.where(o, x, one) for one in (0 * plain[1], *plain) for x, o in among])
    with np.errstate(all="ignore"):
        whole = [np.rint(np.clip(x * 4, -9, 9)) for x in kept]
    return np.stack([*plain, *whole, *kept]).astype(np.float32)
