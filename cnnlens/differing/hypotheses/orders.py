"""Channels in another order: which one is which, found by values that do not depend on where they stand.

A row's sum of bit patterns is exact in any order, so rows are recognised while their columns are still shuffled. Rows
that were rounded or scaled as well are matched by their direction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.proof import same

__all__ = ["bit_sums", "exact_orders", "near_orders"]

Array: TypeAlias = NDArray[Any]
Order: TypeAlias = tuple[int, ...]

_BLOCK = 1 << 20
_COLUMNS = 128  # elements of a row by which near rows are matched
_PROBED = 32  # of them, before the others are looked at
_FEWEST = 12  # with fewer, chance finds a match
_MOST = 8192  # rows of which every pair is looked at
_ALIKE = 0.9  # cosine of rows that are taken for the same


def _bits(x: Array) -> Array:
    """The elements as whole numbers that are equal where the elements are."""
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    wide = np.ascontiguousarray(wide) + wide.dtype.type(0)  # -0.0 becomes 0.0
    return wide.view({4: np.uint32, 8: np.uint64, 2: np.uint16, 1: np.uint8}[wide.dtype.itemsize])


def bit_sums(x: Array, squares: bool = True) -> tuple[int, int]:
    """Sum an array's bit patterns twice, modulo 2**64: the same for the same numbers in any order."""
    plain = square = 0
    flat = x.reshape(-1) if x.flags.c_contiguous else x.ravel()
    for at in range(0, flat.size, _BLOCK // 4):
        bits = _bits(flat[at : at + _BLOCK // 4])
        plain += int(bits.sum(dtype=np.uint64))
        if squares:
            wide = bits.astype(np.uint64)
            square += int((wide * wide).sum(dtype=np.uint64))
    return plain % (1 << 64), square % (1 << 64)


def _keys(x: Array, axis: int) -> list[tuple[int, int]]:
    rows = np.moveaxis(x, axis, 0)
    each = max(x.size // max(rows.shape[0], 1), 1)
    step = max(_BLOCK // each, 1)
    found: list[tuple[int, int]] = []
    for at in range(0, rows.shape[0], step):
        part = rows[at : at + step]
        bits = _bits(part.reshape(part.shape[0], -1)).astype(np.uint64)
        found += zip(bits.sum(axis=1).tolist(), (bits * bits).sum(axis=1).tolist(), strict=True)
    return found


def _matched(keys: Sequence[Any], others: Sequence[Any]) -> Order | None:
    """For each key the place of the same one among the others, its own place first; None where one is missing."""
    places: dict[Any, list[int]] = defaultdict(list)
    order = [-1] * len(keys)
    for place, other in enumerate(others):
        if keys[place] == other:
            order[place] = place
        else:
            places[other].append(place)
    for place, key in enumerate(keys):
        if order[place] < 0:
            if not places[key]:
                return None
            order[place] = places[key].pop(0)
    return tuple(order)


def exact_orders(x: Array, y: Array) -> tuple[Order, Order] | None:
    """Find orders of the first two axes with ``x == y[first][:, second]``; of a vector the second is empty."""
    first = _matched(_keys(x, 0), _keys(y, 0))
    if first is None:
        return None
    taken = y.take(first, axis=0)
    if x.ndim < 2:
        return (first, ()) if same(x, taken) else None
    straight = tuple(range(x.shape[1]))
    if same(x, taken):
        return first, straight
    second = _matched(_keys(x, 1), _keys(y, 1))
    if second is None or not same(x, taken.take(second, axis=1)):
        return None
    return first, second


def near_orders(x: Array, y: Array) -> tuple[Order, Order] | None:
    """Find an order of the first or of the second axis under which rows point the same way, one to one."""
    if x.ndim < 2:
        return None
    straight = tuple(tuple(range(size)) for size in x.shape[:2])
    for axis in (0, 1):
        order = _near(np.moveaxis(x, axis, 0), np.moveaxis(y, axis, 0))
        if order is not None and order != straight[axis]:
            return (order, straight[1]) if axis == 0 else (straight[0], order)
    return None


def _directions(rows: Array, where: tuple[Array, ...]) -> Array:
    """Some elements of each row, made a row of length one."""
    taken = rows[(slice(None), *where)].astype(np.float32)
    with np.errstate(all="ignore"):
        return np.nan_to_num(taken / np.sqrt(np.square(taken).sum(axis=1, keepdims=True)))


def _near(x: Array, y: Array) -> Order | None:
    rows, each = x.shape[0], x.size // max(x.shape[0], 1)
    if rows < 2 or rows > _MOST or each < _FEWEST:
        return None
    drawn = np.random.default_rng(each).integers(0, each, _COLUMNS)
    chosen: Array = np.asarray(range(each) if each <= _COLUMNS else sorted({int(place) for place in drawn}))
    few, all_of = np.unravel_index(chosen[:_PROBED], x.shape[1:]), np.unravel_index(chosen, x.shape[1:])
    probe = np.abs(_directions(x[:16], few) @ _directions(y, few).T)
    if np.median(probe.max(axis=1)) < _ALIKE:
        return None
    alike = np.abs(_directions(x, all_of) @ _directions(y, all_of).T)
    order = alike.argmax(axis=1)
    if len(set(order.tolist())) < rows or np.median(alike.max(axis=1)) < _ALIKE or alike.max(axis=1).min() < 0.5:
        return None
    return tuple(int(place) for place in order)
