"""What of a part's values no transpose, flip or permutation changes: cheap sums that find a part among its like.

Names do not pair layers, and neither does order where branches run side by side. A part that is not equal to the one at
its place is looked for by these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.hypotheses.orders import bit_sums
from cnnlens.differing.items import Item, spaced
from cnnlens.differing.parts import Part

__all__ = ["Fingerprint", "alike", "fingerprint", "resemblance", "shared_roles"]

Array: TypeAlias = NDArray[Any]

_PROBE = 64
_SMALL = 1 << 12  # elements up to which the dearer sum is taken too


@dataclass(frozen=True)
class Fingerprint:
    """Holds sums over the bit patterns of a part's arrays, with their sizes, by role."""

    sums: tuple[tuple[str, int, tuple[int, int]], ...]


def fingerprint(part: Part, roles: Sequence[str]) -> Fingerprint:
    """Sum up the arrays of these roles."""
    found: list[tuple[str, int, tuple[int, int]]] = []
    for role in roles:
        item = part.items[role]
        if item.stored.dtype.kind in "fiub":
            # A change of signs can leave the plain sum of a few numbers as it is.
            sums = bit_sums(item.stored) if item.size < _SMALL else (item.bits, 0)
            found.append((role, item.size, sums))
    return Fingerprint(tuple(found))


def shared_roles(a: Part, b: Part) -> list[str]:
    """List the roles that both have, with arrays of one size."""
    return [role for role, item in a.items.items() if role in b.items and b.items[role].size == item.size]


def _comparable(a: Item, b: Item) -> bool:
    return a.shape == b.shape or [s for s in a.shape if s != 1] == [s for s in b.shape if s != 1]


def alike(a: Part, b: Part) -> bool:
    """Tell whether a few elements of every shared array are equal, each in its canonical place."""
    roles = shared_roles(a, b)
    for role in roles:
        one = a.items[role]
        other = b.items[role].seen_as(one, b.known)
        one = one.seen_as(other, a.known)
        if not _comparable(one, other):
            return False
        if not one.size:
            continue
        places = spaced(one.size, _PROBE)
        x, y = one.at(places), other.at(places)
        if not ((x == y) | (_nan(x) & _nan(y))).all():
            return False
    return bool(roles)


def _nan(x: Array) -> Array:
    return np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)


def resemblance(a: Part, b: Part) -> float:
    """Correlate a sample of their main arrays, each in its canonical place; 0 where there is none."""
    one, other = a.main, b.main
    if one is None or other is None or one.size != other.size or one.size < 8:
        return 0.0
    other = other.seen_as(one, b.known)
    return abs(float((one.direction * other.direction).sum())) if _comparable(one, other) else 0.0
