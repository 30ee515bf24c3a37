"""What statistics need of a batch of feature maps: a few numbers an example and channel, made in one pass over them.

It runs inside the worker, under an interpreter that may have NumPy and one framework alone, so that maps are neither
turned nor written nor sent. Data are read as they are, a cache-sized block at a time. Each row is a function of its own
example alone, whatever batch that came in: this is why runs can be merged exactly.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLUMNS", "drawn", "example_numbers", "places", "summary"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Of the finite values: largest, smallest (-inf and inf where there are none), sum, sum of squares around their own
# mean, how many are 0, how many there are; how many others; and the example's number.
COLUMNS = ("max", "min", "sum", "squares", "zeros", "finite", "nan", "inf", "-inf", "number")
_MEASURED = len(COLUMNS) - 1
_BLOCK, _GROUP = 1 << 17, 1 << 20  # numbers: 0.5 MB in float32, and how many of them are finished at once
# How many numbers are added in their own type before float64 takes over: one after the other, or along a contiguous
# axis, which NumPy does in several sums at once.
_ADDED, _ADDED_AT_ONCE = 8, 96
# How often the squares of the mean may hold those around it, by bytes a number, before these are summed by themselves:
# eight float32 added up may be off by 3e-7 of their sum, always in the same way where a map is of few colours.
_LOST = {4: 1.0, 8: 1e6}
_FEW = 8  # one channel of so many, or fewer, is taken out of an example to be summed again


def example_numbers(inputs: Sequence[Array]) -> NDArray[np.uint32]:
    """Give each example a number that its bytes alone decide: in every batch and run the same is drawn of it."""
    found = np.zeros(len(inputs[0]), np.uint32)
    for array in inputs:
        plain = np.ascontiguousarray(array).reshape(len(found), -1).view(np.uint8)
        found[:] = [zlib.crc32(row.data, int(before)) for row, before in zip(plain, found, strict=True)]
    return found


def drawn(count: int, positions: int, most: int) -> tuple[int, int]:
    """Say how many values of each map, of one example in how many, make a sample of ``most`` values or fewer.

    Each is a part of what fewer examples would have had, so that samples shrink to that of more.
    """
    if count * positions <= most:
        return positions, 1
    if count <= most:
        return min(1 << int(math.log2(most // count)), positions), 1
    return 1, 1 << math.ceil(math.log2(count / most))


def places(rows: NDArray[np.uint32], positions: int, wanted: int) -> NDArray[np.int64]:
    """Choose ``wanted`` of the positions of each example's maps; fewer are the first of more.

    They start anywhere, as the example's number says, and go on in steps of the golden section, which spread evenly.
    """
    step = max(round(positions * 0.6180339887), 1)
    while math.gcd(step, positions) > 1:
        step -= 1
    return (rows[:, None] + np.arange(min(wanted, positions), dtype=np.int64) * step) % positions


def summary(maps: Array, rows: NDArray[np.uint32], wanted: int) -> Array:
    """Reduce feature maps ``(N, C, *spatial)``, in any order of memory, to ``(N, C, len(COLUMNS) + drawn)``.

    Extremes and counts are exact. Sums are made of sums of a few numbers in the maps' own type, added up in float64:
    off by less than a millionth of what was added, and those of squares by as little of themselves.

    Args:
        maps: Numbers. Complex ones are measured by their magnitudes, and what they become is complex too: with no
            imaginary part, it says of what it was made.
        rows: Of ``example_numbers``.
        wanted: How many values of each map are drawn, behind the columns: all of them where there are no more.
    """
    if maps.dtype.kind == "c":
        return summary(np.abs(maps), rows, wanted).astype(np.complex128)
    maps = maps[:, None] if maps.ndim == 1 else maps
    count, channels = maps.shape[:2]
    positions = math.prod(maps.shape[2:])
    if maps.dtype.kind != "f" or maps.dtype.itemsize not in _LOST:
        maps = maps.astype(np.float32 if maps.dtype.itemsize < 3 else np.float64)
    turned = np.moveaxis(maps, 1, -1)
    last = maps.ndim > 2 and turned.flags.c_contiguous
    flat = turned.reshape(count, positions, channels) if last else maps.reshape(count, channels, positions)
    drawn = places(rows, positions, wanted)
    # A column lies by itself in memory while it is filled, and beside the others in the end.
    columns = np.empty((len(COLUMNS) + drawn.shape[1], count, channels))
    result = np.moveaxis(columns, 0, 2)
    if not result.size or not positions:
        return np.zeros(result.shape)
    result[..., 5:_MEASURED] = (positions, 0, 0, 0)
    with np.errstate(invalid="ignore", over="ignore"):
        if last:
            _fill(flat, result)
        else:
            _fill(flat.reshape(-1, positions, 1), np.moveaxis(columns.reshape(len(columns), -1, 1), 0, 2))
    every = np.arange(count, dtype=np.int64)[:, None]
    taken = flat[every, drawn] if last else flat[every, :, drawn]  # (N, drawn, C) either way
    result[..., _MEASURED] = rows[:, None]
    result[..., len(COLUMNS) :] = np.moveaxis(taken, 1, 2)
    return np.ascontiguousarray(result)


def _fill(flat: Array, into: Floats) -> None:
    """Fill the columns that are measured of maps ``(N, P, C)``: at once where that keeps enough of the squares around
    the mean, else around a number close to it, else in float64."""
    positions, channels = flat.shape[1:]
    _measure(flat, into)
    good = _settled(into, positions, flat.dtype)
    off = np.isfinite(into[..., 2]) & ~good
    rows = np.flatnonzero(off.sum(1) * _FEW >= channels)
    each = max(_GROUP // (positions * channels), 1)
    for here in (rows[at : at + each] for at in range(0, len(rows), each)):
        close = np.clip(into[here, :, 2] / positions, into[here, :, 1], into[here, :, 0]).astype(flat.dtype)
        apart = np.empty((len(here), channels, _MEASURED))
        _measure(flat[here] - close[:, None], apart)
        known = _settled(apart, positions, flat.dtype) & off[here]
        sums = apart[..., 2] + close.astype(np.float64) * positions
        for column, found in ((2, sums), (3, apart[..., 3])):
            into[here, :, column] = np.where(known, found, into[here, :, column])
        good[here] |= known
    again = np.argwhere(~good)
    each = max(_GROUP // positions, 1)
    for example, channel in (again[at : at + each].T for at in range(0, len(again), each)):
        into[example, channel, :_MEASURED] = _carefully(flat[example, :, channel].astype(np.float64))


def _settled(into: Floats, positions: int, dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Make sums of squares those around the mean, and tell which of them enough is left of: not where they are small
    beside the mean's, or too small for the maps' own type. Of maps that hold one value everything is known."""
    of_mean = into[..., 2] ** 2 / positions
    one_value = np.isfinite(into[..., 2]) & (into[..., 0] == into[..., 1])
    into[..., 2] = np.where(one_value, into[..., 0] * positions, into[..., 2])
    left = into[..., 3] = np.where(one_value, 0.0, into[..., 3] - of_mean)
    normal = positions * float(np.finfo(dtype).tiny / np.finfo(dtype).eps)
    return one_value | (np.isfinite(left) & (of_mean <= _LOST[dtype.itemsize] * left) & (left >= normal))


def _measure(flat: Array, into: Floats) -> None:
    """Fill the first columns of maps ``(N, P, C)``: a few numbers each are made one of their own type, a block at a
    time that the cache holds, and then these. Where a map is not finite, its sums are not."""
    count, positions, channels = flat.shape
    many = min(max(_GROUP // (positions * channels), 1), count)
    most, axis = (_ADDED, 1) if channels > 1 else (_ADDED_AT_ONCE, 2)
    each = min(range(most // 2, most + 1), key=lambda one: positions // one + positions % one)
    rows = positions // each + positions % each
    # Space that is at hand again and again, where more would be the system's, page by page.
    space, zeros = np.empty((4, many, rows, channels), flat.dtype), np.empty((many, rows, channels), np.uint8)
    step = min(max(_BLOCK // (positions * channels), 1), many)
    wide = max(_BLOCK // (step * each * channels), 1) * channels
    mask = np.empty(step * each * min(wide, rows * channels), np.bool_)
    bare = True
    for start in range(0, count, many):
        stop = min(start + many, count)
        parts = space[:, : stop - start], zeros[: stop - start], mask
        bare = _measured(flat[start:stop], into[start:stop], parts, (each, axis, step, wide), bare)


def _measured(
    flat: Array, into: Floats, space: tuple[Array, Array, Array], sizes: tuple[int, int, int, int], bare: bool
) -> bool:
    """Fill them of so many maps as there is space for; give whether these are ``bare``, if those before were.

    What a ReLU leaves, 0 and more and no -0.0, keeps its order as whole numbers, of which the largest tells that all
    are such: one that is negative, -0.0 or NaN is larger than these.
    """
    count, positions, channels = flat.shape
    (found, zeros, mask), (each, axis, step, wide) = space, sizes
    made, letters = positions // each, "nkq" if axis == 1 else "nqk"
    rest, width, whole = flat[:, made * each :], made * channels, np.dtype(f"u{flat.itemsize}")
    for array, last in zip((*found, zeros), (rest, rest, rest, rest * rest, rest == 0), strict=True):
        array[:, made:] = last
    main = flat.reshape(count, -1)[:, : each * width].reshape(count, *((each, width) if axis == 1 else (width, each)))
    high, low, sums, squares, none = (array.reshape(count, -1)[:, :width] for array in (*found, zeros))
    starts = ((row, column) for row in range(0, count, step) for column in range(0, width, wide))
    places = [(slice(row, row + step), slice(column, column + wide)) for row, column in starts]

    def blocks() -> Iterator[tuple[tuple[slice, slice], Array]]:
        return ((here, main[here[0], :, here[1]] if axis == 1 else main[here]) for here in places)

    extremes = [] if bare else [(np.fmax, high), (np.fmin, low)]
    for here, block in blocks():
        np.equal(block, 0, out=(is_zero := mask[: block.size].reshape(block.shape)))
        np.einsum(f"{letters}->nq", is_zero.view(np.uint8), out=none[here])
        np.einsum(f"{letters}->nq", block, out=sums[here])
        np.einsum(f"{letters},{letters}->nq", block, block, out=squares[here])
        if bare:
            np.maximum.reduce(block.view(whole), axis, out=high.view(whole)[here])
        for function, out in extremes:
            function.reduce(block, axis, out=out[here])
    into[..., 4] = _narrowed(np.add, zeros, 255 // each)
    if bare:
        highest = _narrowed(np.maximum, found[0].view(whole))
        into[..., 0] = highest.view(flat.dtype)
        bare = bool(highest.max() <= np.array(np.inf, flat.dtype).view(whole))
        extremes = (
            [] if bare and into[..., 4].all() else [(np.fmin, low)] if bare else [(np.fmax, high), (np.fmin, low)]
        )
        for here, block in blocks() if extremes else ():
            for function, out in extremes:
                function.reduce(block, axis, out=out[here])
    into[..., 1] = _narrowed(np.fmin, found[1]) if extremes else 0
    if not bare:
        into[..., 0] = _narrowed(np.fmax, found[0])
    for column, array in enumerate(found[2:], 2):
        into[..., column] = np.einsum("npc->nc", array, dtype=np.float64, casting="safe")
    return bare


def _narrowed(function: np.ufunc, values: Array, at_once: int = 8) -> Array:
    """Reduce ``(N, P, C)`` to ``(N, C)`` by what no order matters to, first ``at_once`` rows that are long, so that
    little is lost between them; small whole numbers to float64."""
    count, rows, channels = values.shape
    many = rows // at_once
    parts = [values[:, many * at_once :]]
    if many:
        head = values[:, : many * at_once].reshape(count, at_once, many * channels)
        parts.append(function.reduce(head, 1, dtype=values.dtype).reshape(count, many, channels))
    wide = np.float64 if values.dtype == np.uint8 else values.dtype
    found = [function.reduce(part, 1, dtype=wide) for part in parts if part.shape[1]]
    return found[0] if len(found) == 1 else function(*found)


def _carefully(maps: Floats) -> Floats:
    """The columns of maps ``(N, P)`` that hold what is not finite, or numbers far from 0 and close to each other."""
    finite = np.isfinite(maps)
    counts = finite.sum(1)
    known = np.where(finite, maps, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        total = known.sum(1)
        apart = np.where(finite, known - (total / np.maximum(counts, 1))[:, None], 0.0)
        squares = (apart**2).sum(1) - apart.sum(1) ** 2 / np.maximum(counts, 1)
    others = (np.isnan(maps).sum(1), np.isposinf(maps).sum(1), np.isneginf(maps).sum(1))
    high, low = np.where(finite, maps, -np.inf).max(1), np.where(finite, maps, np.inf).min(1)
    return np.stack((high, low, total, np.maximum(squares, 0.0), (maps == 0).sum(1), counts, *others), axis=1)
