"""Which part of A is which part of B, without a look at names: by order, kind and sizes first, then by values.

An alignment of the two sequences gives the first guess. Wherever a pair's values then disagree, its parts are looked
for among all others of their size: branches stand in another order in every framework, and only values know them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnlens.differing.fingerprints import alike, fingerprint, resemblance, shared_roles
from cnnlens.differing.parts import Part

__all__ = ["Pair", "Pairing", "pair"]

_MOST = 1 << 22  # cells of the alignment's table
_GROUP = 64  # parts of one size whose every pair is looked at
_ITSELF = 0.95  # correlation at which a pair that order made stays
_SURE = 0.5  # correlation by which parts find each other


@dataclass(frozen=True)
class Pair:
    """Holds two parts that belong together; ``how``: ``order`` or, where order would have paired others, ``values``."""

    a: Part
    b: Part
    how: str = "order"


@dataclass(frozen=True)
class Pairing:
    """Holds the pairs in A's order, and what is left of either side."""

    pairs: tuple[Pair, ...]
    only_a: tuple[Part, ...]
    only_b: tuple[Part, ...]


def pair(a: Sequence[Part], b: Sequence[Part]) -> Pairing:
    """Pair the parts of two networks."""
    matched = _aligned(a, b)
    how = dict.fromkeys(matched.items(), "order")
    # A part that was rounded or trained further still resembles its own; there is no need to look for it elsewhere.
    unsettled = [(i, j) for i, j in matched.items() if not alike(a[i], b[j]) and resemblance(a[i], b[j]) < _ITSELF]
    loose_a = [i for i, _ in unsettled] + [i for i in range(len(a)) if i not in matched]
    taken = set(matched.values())
    loose_b = [j for _, j in unsettled] + [j for j in range(len(b)) if j not in taken]
    for i, j in _by_values(a, b, loose_a, loose_b, matched):
        _give(matched, how, i, j, a, b)
    pairs = tuple(Pair(a[i], b[j], how.get((i, j), "order")) for i, j in sorted(matched.items()))
    used = set(matched.values())
    return Pairing(
        pairs,
        tuple(part for i, part in enumerate(a) if i not in matched),
        tuple(part for j, part in enumerate(b) if j not in used),
    )


def _give(
    matched: dict[int, int], how: dict[tuple[int, int], str], i: int, j: int, a: Sequence[Part], b: Sequence[Part]
) -> None:
    """Pair ``i`` with ``j``; those who lose their partners get each other's where they fit."""
    if matched.get(i) == j:
        return
    other_i = next((one for one, two in matched.items() if two == j), None)
    other_j = matched.get(i)
    matched[i] = j
    how[i, j] = "values"
    if other_i is not None:
        del matched[other_i]
        if other_j is not None and _score(a[other_i], b[other_j]) > 0:
            matched[other_i] = other_j


def _by_values(
    a: Sequence[Part], b: Sequence[Part], loose_a: list[int], loose_b: list[int], matched: dict[int, int]
) -> list[tuple[int, int]]:
    """Pairs among the loose parts whose values say that they belong together."""
    groups_a, groups_b = defaultdict[Any, list[int]](list), defaultdict[Any, list[int]](list)
    for i in loose_a:
        groups_a[_sizes(a[i])].append(i)
    for j in loose_b:
        groups_b[_sizes(b[j])].append(j)
    found: list[tuple[int, int]] = []
    for sizes, ones in groups_a.items():
        others = groups_b.get(sizes, [])
        if not others or (len(ones) == 1 and len(others) == 1 and matched.get(ones[0]) == others[0]):
            continue
        found += _in_group(a, b, ones, others, matched)
    return found


def _sizes(part: Part) -> tuple[int, ...]:
    main = part.main
    return main.sizes if main is not None else ()


def _in_group(
    a: Sequence[Part], b: Sequence[Part], ones: list[int], others: list[int], matched: dict[int, int]
) -> list[tuple[int, int]]:
    roles = shared_roles(a[ones[0]], b[others[0]])
    main = a[ones[0]].main
    roles = [role for role in roles if main is not None and a[ones[0]].items[role].size == main.size]
    if not roles:
        return []
    found: list[tuple[int, int]] = []
    prints = defaultdict[Any, list[int]](list)
    for j in others:
        if all(role in b[j].items for role in roles):
            prints[fingerprint(b[j], roles)].append(j)
    left = list(ones)
    free = set(others)
    for i in ones:
        if not all(role in a[i].items for role in roles):
            continue
        same = [j for j in prints.get(fingerprint(a[i], roles), []) if j in free]
        if same:
            own = matched.get(i)
            j = own if own in same else min(same, key=lambda one: abs(b[one].order - a[i].order))
            found.append((i, j))
            left.remove(i)
            free.discard(j)
    if 0 < len(left) <= _GROUP and 0 < len(free) <= _GROUP:
        found += _resembling(a, b, left, sorted(free), matched)
    return found


def _resembling(
    a: Sequence[Part], b: Sequence[Part], left: list[int], free: list[int], matched: dict[int, int]
) -> list[tuple[int, int]]:
    """Rounded or further trained parts find each other by correlation, where order gives a worse one."""
    scored = sorted(((resemblance(a[i], b[j]), i, j) for i in left for j in free), reverse=True)
    found: list[tuple[int, int]] = []
    used_a: set[int] = set()
    used_b: set[int] = set()
    for score, i, j in scored:
        if score < _SURE or i in used_a or j in used_b:
            continue
        used_a.add(i)
        used_b.add(j)
        if matched.get(i) != j:
            found.append((i, j))
    return found


# -- alignment ---------------------------------------------------------------------------------------------------------


def _score(a: Part, b: Part) -> float:
    """How well two parts fit by kind and sizes alone; 0 where they cannot be one."""
    if a.signature == b.signature:
        one, other = a.main, b.main
        straight = one is not None and other is not None and one.shape == other.shape
        full = len(shared_roles(a, b)) == max(len(a.items), len(b.items))
        weight = 3.0 if a.kernel is not None else 2.0
        return weight + 0.5 * straight + 0.25 * full
    if _sizes(a) == _sizes(b) and a.kernel is not None and b.kernel is not None:
        return 1.5
    if _sizes(a) == _sizes(b) and (not a.known or not b.known) and a.main and b.main and a.main.size > 1:
        return 1.0
    if a.family == b.family and a.kernel is not None and b.kernel is not None:
        same = len(a.kernel.shape) == len(b.kernel.shape)
        return 0.4 if same else 0.0
    return 0.2 if a.family == b.family else 0.0


def _aligned(a: Sequence[Part], b: Sequence[Part]) -> dict[int, int]:
    """An order-keeping pairing with the best sum of scores."""
    signatures = [[part.signature for part in side] for side in (a, b)]
    start = 0
    while start < min(len(a), len(b)) and signatures[0][start] == signatures[1][start]:
        start += 1
    matched = {place: place for place in range(start)}
    rest_a, rest_b = a[start:], b[start:]
    if len(rest_a) * len(rest_b) > _MOST:
        return matched
    matched.update({i + start: j + start for i, j in _table(rest_a, rest_b)})
    return matched


def _table(a: Sequence[Part], b: Sequence[Part]) -> list[tuple[int, int]]:
    """Needleman and Wunsch's alignment; gaps cost nothing, and a pair is worth its score."""
    known: dict[Any, float] = {}

    def score(one: Part, other: Part) -> float:
        key = (one.signature, other.signature, len(one.items), len(other.items), one.main and one.main.shape,
               other.main and other.main.shape)  # fmt: skip
        if key not in known:
            known[key] = _score(one, other)
        return known[key]

    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        row, below = best[i], best[i + 1]
        for j in range(len(b) - 1, -1, -1):
            worth = score(a[i], b[j])
            paired = below[j + 1] + worth if worth else -1.0
            row[j] = max(paired, below[j], row[j + 1])
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        worth = score(a[i], b[j])
        if worth and best[i][j] == best[i + 1][j + 1] + worth:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found
