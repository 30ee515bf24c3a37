"""What statistics need of a batch of feature maps: a few numbers an example and channel, made in one pass over them.

It runs inside the worker, under an interpreter that may have NumPy and one framework alone, so that maps are neither
turned nor written nor sent. Data are read as they are and added up in float64, a cache-sized block at a time. Each row
is a function of its own example alone, whatever batch that came in: this is why runs can be merged exactly.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLUMNS", "example_numbers", "parts", "parts_of", "places", "summary"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Of the finite values: largest, smallest (-inf and inf where there are none), sum, sum of squares around their own
# mean, how many are 0, how many there are; how many others; and the example's number.
COLUMNS = ("max", "min", "sum", "squares", "zeros", "finite", "nan", "inf", "-inf", "number")
_MEASURED = len(COLUMNS) - 1
_BLOCK = 1 << 17  # numbers: 0.5 MB in float32, and 1 MB beside it in float64
_INFINITY = 0x7F800000  # float32's, as a whole number
_PARTS = 16
_LOST_OF_PARTS = 1e2  # the same of sums of float32
_LOST = 1e6  # how often the squares of the mean may hold those around it, before these are summed by themselves


def example_numbers(inputs: Sequence[Array]) -> NDArray[np.uint32]:
    """Give each example a number that its bytes alone decide: in every batch and run the same is drawn of it."""
    found = np.zeros(len(inputs[0]), np.uint32)
    for array in inputs:
        plain = np.ascontiguousarray(array).reshape(len(found), -1).view(np.uint8)
        found[:] = [zlib.crc32(row.data, int(before)) for row, before in zip(plain, found, strict=True)]
    return found


def places(rows: NDArray[np.uint32], positions: int, wanted: int) -> NDArray[np.int64]:
    """Choose ``wanted`` of the positions of each example's maps; fewer are the first of more.

    They start anywhere, as the example's number says, and go on in steps of the golden section, which spread evenly.
    """
    step = max(round(positions * 0.6180339887), 1)
    while math.gcd(step, positions) > 1:
        step -= 1
    return (rows[:, None] + np.arange(min(wanted, positions), dtype=np.int64) * step) % positions


def parts_of(positions: int) -> int:
    """Say into how many parts ``parts`` takes maps apart; 1 where it is not worth it."""
    return max(part for part in range(1, _PARTS + 1) if positions % part == 0) if positions >= 4 * _PARTS else 1


def parts(maps: Any, ops: Any) -> list[Any]:
    """Put the parts of each map ``(N, P, C)`` upon each other: largest, smallest, sum, sum of squares and zeros.

    Each is float32 ``(N, P / parts, C)``. A compiler that fuses makes all of them in one pass over the maps.

    Args:
        maps: A framework's tensor of float32; ``parts_of(P)`` is more than 1.
        ops: Operations with the names that ``keras.ops`` has.
    """
    size = int(maps.shape[1]) // parts_of(int(maps.shape[1]))
    first, *others = (maps[:, at : at + size] for at in range(0, int(maps.shape[1]), size))
    high = low = total = first
    squares, zeros = first * first, ops.cast(ops.equal(first, 0), "float32")
    for part in others:
        high, low = ops.maximum(high, part), ops.minimum(low, part)
        total, squares = total + part, squares + part * part
        zeros = zeros + ops.cast(ops.equal(part, 0), "float32")
    return [high, low, total, squares, zeros]


def summary(maps: Array, rows: NDArray[np.uint32], wanted: int, made: Sequence[Array] | None = None) -> Floats:
    """Reduce feature maps ``(N, C, *spatial)``, in any order of memory, to ``(N, C, len(COLUMNS) + drawn)``.

    Args:
        maps: Real numbers.
        rows: Of ``example_numbers``.
        wanted: How many values of each map are drawn, behind the columns: all of them where there are no more.
        made: What ``parts`` made of float32 maps. Sums of few float32 numbers, added up in float64, are good for ten
            digits, or for less where much of them cancels: there the maps themselves are looked at.
    """
    maps = maps[:, None] if maps.ndim == 1 else maps
    count, channels = maps.shape[:2]
    positions = math.prod(maps.shape[2:])
    if maps.dtype.kind != "f" or maps.dtype.itemsize < 4:
        maps = maps.astype(np.float32 if maps.dtype.itemsize < 3 else np.float64)
    turned = np.moveaxis(maps, 1, -1)
    last = maps.ndim > 2 and turned.flags.c_contiguous
    flat = turned.reshape(count, positions, channels) if last else maps.reshape(count, channels, positions)
    drawn = places(rows, positions, wanted)
    result = np.empty((count, channels, len(COLUMNS) + drawn.shape[1]))
    if not result.size or not positions:
        result[:] = 0
        return result
    step = min(max(1, _BLOCK // (positions * channels)), count)
    deep = min(max(1, _BLOCK // (step * channels)), positions)
    if made is not None and last:
        again = _from_parts(result, positions, made)
        result[again, :, :_MEASURED] = summary(maps[again], rows[again], 0)[..., :_MEASURED]
    axis, space = 1 if last else 2, np.empty(step * deep * channels)
    for start in range(0, count, step) if made is None or not last else ():
        rows_here = flat[start : start + step]
        pieces = [
            _piece(rows_here[:, at : at + deep] if last else rows_here[:, :, at : at + deep], axis, space)
            for at in range(0, positions, deep)
        ]
        highs, lows, sums, squares, zeros = (np.stack(one) for one in zip(*pieces, strict=True))
        here = result[start : start + step]
        here[..., 0], here[..., 1] = highs.max(0), lows.min(0)
        here[..., 2], here[..., 4] = sums.sum(0), zeros.sum(0)
        here[..., 5:_MEASURED] = (positions, 0, 0, 0)
        with np.errstate(invalid="ignore", over="ignore"):
            of_mean = here[..., 2] ** 2 / positions
            here[..., 3] = squares.sum(0) - of_mean
            doubtful = ~np.isfinite(here[..., 2] + here[..., 3]) | (of_mean > _LOST * np.abs(here[..., 3]))
        for one, channel in np.argwhere(doubtful):
            values = rows_here[one, :, channel] if last else rows_here[one, channel]
            here[one, channel, :_MEASURED] = _carefully(values.astype(np.float64))
    every = np.arange(count, dtype=np.int64)[:, None]
    taken = flat[every, drawn] if last else flat[every, :, drawn]  # (N, drawn, C) either way
    result[..., _MEASURED] = rows[:, None]
    result[..., len(COLUMNS) :] = np.moveaxis(taken, 1, 2)
    return result


def _piece(block: Array, axis: int, space: Floats) -> tuple[Array, Array, Floats, Floats, Array]:
    """Largest, smallest, sum, sum of squares and zeros along ``axis`` of a block that the cache holds.

    ``space`` is for the block in float64. einsum adds along any axis at the speed of the cache, ``sum`` along a
    contiguous one alone.
    """
    letters, wide = "npc" if axis == 1 else "ncp", space[: block.size].reshape(block.shape)
    np.copyto(wide, block)
    ones, zeros = (block == 0).view(np.uint8), np.zeros((len(block), block.shape[3 - axis]), np.int64)
    for at in range(0, block.shape[axis], 255):  # as many as a byte can count
        zeros += np.einsum(f"{letters}->nc", ones[:, at : at + 255] if axis == 1 else ones[:, :, at : at + 255])
    with np.errstate(invalid="ignore", over="ignore"):
        return (
            *_extremes(block, axis, bool(zeros.all())),
            np.einsum(f"{letters}->nc", wide),
            np.einsum(f"{letters},{letters}->nc", wide, wide),
            zeros,
        )


def _from_parts(result: Floats, positions: int, made: Sequence[Array]) -> NDArray[np.int64]:
    """Fill the columns of finite maps from their parts; give the examples for which that is not good enough."""
    high, low, total, squares, zeros = made
    result[..., 0], result[..., 1] = _most(high, np.maximum, 1), _most(low, np.minimum, 1)
    with np.errstate(invalid="ignore", over="ignore"):
        result[..., 2] = np.einsum("npc->nc", total.astype(np.float64))
        of_mean = result[..., 2] ** 2 / positions
        result[..., 3] = np.einsum("npc->nc", squares.astype(np.float64)) - of_mean
        result[..., 4], result[..., 5:_MEASURED] = np.einsum("npc->nc", zeros.astype(np.float64)), (positions, 0, 0, 0)
        good = np.isfinite(result[..., 2] + result[..., 3]) & (of_mean <= _LOST_OF_PARTS * np.abs(result[..., 3]))
    return np.flatnonzero(~good.all(axis=1))


def _extremes(block: Array, axis: int, has_zeros: bool) -> tuple[Array, Array]:
    """The largest and the smallest. What a ReLU leaves, 0 and more, needs one pass: read as whole numbers such floats
    keep their order, and one that is negative, -0.0 or NaN is larger than all of them."""
    if has_zeros and block.dtype == np.float32:
        found = _most(block.view(np.uint32), np.maximum, axis)
        if found.max(initial=0) <= _INFINITY:
            return found.view(np.float32), np.zeros(found.shape, np.float32)
    return _most(block, np.maximum, axis), _most(block, np.minimum, axis)


def _most(block: Array, operation: np.ufunc, axis: int) -> Array:
    """``operation.reduce``: along an axis that is not contiguous, one half put upon the other again and again."""
    while axis == 1 and block.shape[1] > 8:
        half = block.shape[1] // 2
        folded = operation(block[:, :half], block[:, half : 2 * half])
        if block.shape[1] % 2:
            operation(folded[:, 0], block[:, -1], out=folded[:, 0])
        block = folded
    return operation.reduce(block, axis=axis)


def _carefully(values: Floats) -> tuple[float, ...]:
    """The columns of one map that holds what is not finite, or numbers far from 0 and close to each other."""
    finite = values[np.isfinite(values)]
    others = (np.isnan(values).sum(), np.isposinf(values).sum(), np.isneginf(values).sum())
    if not finite.size:
        return (-math.inf, math.inf, 0, 0, 0, 0, *others)
    total = math.fsum(finite)
    with np.errstate(over="ignore", invalid="ignore"):
        apart = finite - total / finite.size
        squares = max(float((apart**2).sum() - apart.sum() ** 2 / finite.size), 0.0)
    return (finite.max(), finite.min(), total, squares, (finite == 0).sum(), finite.size, *others)
