"""Numbers that went through a narrower format: float16, bfloat16, or eight bits with a step.

For the two float formats the rounding is done again and must give the very same numbers. A quantiser may have chosen
its step in several ways, so there a step is found for which no value is off by more than half of it and every value is
a whole number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.proof import same, tiles
from cnnlens.network.weight import to_bfloat16

__all__ = ["FORMATS", "Quantised", "levels_of", "quantised", "representable", "rounded", "rounding_apart",
           "rounding_text", "rounds_to", "steplike"]  # fmt: skip

Array: TypeAlias = NDArray[Any]

_LEVELS = 256
_ROWS = 16  # of which each is looked at
_HALF = 0.505  # of a step: what rounding moves a value by at most, and a little for the step's own rounding
_WHOLE = 4e-3  # of a step: how near to a whole number of steps every value must be
_PROBE = 4096
_BLOCK = 1 << 14
_BLOCKS = 8
_TILE = 1 << 16  # elements that are worked on at a time: what is computed of them stays in the cache
_EACH = 4  # numbers that a step of their own must explain
_TOLD = 16  # pairs of equal numbers that are expected of rows on steps before their absence says that there are none


def _float16(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(x.dtype)


def _float32(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return x.astype(np.float32).astype(x.dtype)


FORMATS: Mapping[str, Callable[[Array], Array]] = {"float16": _float16, "bfloat16": to_bfloat16, "float32": _float32}
_SLACK: Mapping[int, float] = {2: 2.0**-10, 4: 2.0**-21, 8: 2.0**-48}  # by bytes: one or two roundings, or four


def rounded(x: Array, name: str) -> Array:
    """Round ``x`` to a format of ``FORMATS``, in its own dtype."""
    return FORMATS[name](x)


def rounds_to(made: Array, wanted: Array, name: str) -> bool:
    """Tell whether ``made`` is ``wanted`` rounded to a format, NaN for NaN."""
    narrow = name == "float16" and made.dtype == np.float16 and wanted.dtype.kind == "f"

    def alike(x: Array, y: Array) -> bool:
        if narrow:
            with np.errstate(over="ignore"):
                half = y.astype(np.float16)
            # Bit patterns are compared ten times as fast; where they differ, a zero may have another sign.
            return bool((half.view(np.uint16) == x.view(np.uint16)).all()) or same(x, half)
        return same(x, rounded(y, name))

    return made.shape == wanted.shape and all(alike(made[piece], wanted[piece]) for piece in tiles(made, wanted, _TILE))


def rounding_text(name: str, variable: str, dtype: np.dtype[Any]) -> str:
    """Write NumPy that rounds ``variable`` to the format and widens it again."""
    if name == "float16":
        return f"{variable}.astype(np.float16).astype(np.{dtype.name})"
    if name == "float32":
        return f"{variable}.astype(np.float32).astype(np.{dtype.name})"
    bits = f"{variable}.view(np.uint32)"
    return f"(({bits} + 0x7FFF + ({bits} >> 16 & 1)) & 0xFFFF0000).view(np.float32)"


def representable(x: Array, name: str) -> bool:
    """Tell whether every number of ``x`` is one of the format; asked of a few first."""
    if x.dtype.kind != "f":
        return False
    if x.dtype == np.float16:
        return name != "bfloat16"
    flat = x.reshape(-1) if x.flags.c_contiguous else x.ravel()
    few = flat[:: max(flat.size // _PROBE, 1)][:_PROBE]
    blocks = (flat[at : at + _TILE] for at in range(0, flat.size, _TILE))
    return all(bool(((rounded(part, name) == part) | np.isnan(part)).all()) for part in chain((few,), blocks))


def rounding_apart(x: Array, y: Array, dtypes: Sequence[np.dtype[Any]]) -> str:
    """Name the format by whose rounding alone two arrays are apart: a few units in the last place; else empty.

    Args:
        dtypes: Of both as they are stored: the coarser one is the format.
    """
    if any(dtype.kind != "f" for dtype in dtypes):
        return ""
    coarse = min(dtypes, key=lambda dtype: dtype.itemsize)
    slack = _SLACK.get(coarse.itemsize)
    wide = [np.asarray(z, np.float64) for z in (x, y)]
    with np.errstate(all="ignore"):
        size = float(np.sqrt(np.square(wide[0]).mean())) if x.size else 0.0
        # A sum that cancels, of two biases say, keeps the rounding of what it was made of.
        floor = (0.0 if slack is None else slack / 4) * size
        near = np.abs(wide[0] - wide[1]) <= (slack or 0.0) * np.abs(wide[0]) + floor
    return coarse.name if slack is not None and np.isfinite(floor) and bool(near.all()) else ""


@dataclass(frozen=True)
class Quantised:
    """Says how numbers were put on steps.

    Attributes:
        axis: The axis that has a step for each entry; None for one step.
        steps: The step, or one for each entry of the axis; ``offsets``: what the level 0 stands for.
        scheme: ``symmetric`` or ``affine``, or empty where the numbers do not say.
    """

    axis: int | None
    steps: Array
    offsets: Array
    scheme: str

    def spread(self, ndim: int) -> tuple[Array, Array]:
        """Shape steps and offsets to go with an array of ``ndim`` axes."""
        shape = [1] * ndim
        if self.axis is not None:
            shape[self.axis] = -1
        return self.steps.reshape(shape), self.offsets.reshape(shape)


def steplike(y: Array) -> bool:
    """Tell whether ``y`` may stand on few levels: each of some rows, on either axis, has at most 256 values."""
    if y.ndim < 2 or not y.size:
        return False
    for axis in (0, 1):
        rows = np.moveaxis(y, axis, 0)
        few = [row.reshape(-1)[:_PROBE] for row in rows[:: max(rows.shape[0] // _ROWS, 1)][:_ROWS]]
        if few[0].size > _LEVELS:
            few = few[:: max(len(few) // 4, 1)][:4]
        counts = [_distinct(row) for row in few]
        if max(counts) > _LEVELS:
            continue
        # Rows of fewer numbers than there are levels must still hold some twice.
        size = few[0].size
        if sum(counts) < size * len(few) or len(few) * size * (size - 1) < _TOLD * 2 * _LEVELS:
            return True
    return False


def _distinct(row: Array) -> int:
    ordered = np.sort(row)
    return 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def levels_of(x: Array, y: Array) -> Quantised | None:
    """Find the steps with which the whole numbers of ``y`` are ``x``: a file that keeps levels and not values."""
    if x.ndim < 2 or y.dtype.kind not in "iu" or x.dtype.kind != "f":
        return None
    for axis in (None, 0, 1):
        if axis is not None and x.size < _EACH * x.shape[axis]:
            continue  # a step for every number or two fits anything
        others = tuple(place for place in range(x.ndim) if place != axis)
        with np.errstate(all="ignore"):
            above = np.multiply(x, y, dtype=np.float64).sum(axis=others, keepdims=True)
            steps = above / np.square(y, dtype=np.float64).sum(axis=others, keepdims=True)
            fits = np.abs(x - steps * y) <= (_HALF + 0.05) * np.abs(steps)
        if np.isfinite(steps).all() and float(fits.mean()) > 0.999:
            flat = np.abs(steps).reshape(-1)
            return Quantised(axis, flat, np.zeros_like(flat), "whole numbers")
    return None


def quantised(x: Array, y: Array) -> Quantised | None:
    """Tell whether ``y`` is ``x`` put on at most 256 steps; both canonical. Large arrays are looked at in part."""
    if x.ndim < 2 or not x.size:
        return None  # vectors are not quantised, and on a few numbers any steps fit
    for axis in (None, 0, 1):
        if axis is not None and (x.shape[axis] < 2 or x.size < _EACH * x.shape[axis]):
            continue
        for guess in chain(_formulas(x, axis), _found(y, axis)):
            if _on_steps(x, y, guess):
                return guess
    return None


def _reduced(x: Array, axis: int | None) -> tuple[Array, Array]:
    others = tuple(place for place in range(x.ndim) if place != axis)
    if axis is None:
        return np.array([x.min()], np.float64), np.array([x.max()], np.float64)
    return x.min(axis=others).astype(np.float64), x.max(axis=others).astype(np.float64)


def _formulas(x: Array, axis: int | None) -> Iterator[Quantised]:
    """The steps that the usual quantisers choose for ``x``."""
    low, high = _reduced(x, axis)
    largest = np.maximum(np.abs(low), np.abs(high))
    zero = np.zeros_like(low)
    for levels in (127, 128, 127.5):
        yield Quantised(axis, np.maximum(largest / levels, 1e-300), zero, "symmetric")
    span = np.maximum(high, 0) - np.minimum(low, 0)
    yield Quantised(axis, np.maximum(span / 255, 1e-300), zero, "affine")
    yield Quantised(axis, np.maximum((high - low) / 255, 1e-300), low, "affine")


def _found(y: Array, axis: int | None) -> Iterator[Quantised]:
    """The step that the numbers themselves show, where there are enough of them on few levels."""
    rows = y.reshape(1, -1) if axis is None else np.moveaxis(y, axis, 0).reshape(y.shape[axis], -1)
    if rows.shape[1] < 64 or rows.shape[0] > 4096:
        return
    steps, offsets = np.ones(rows.shape[0]), np.zeros(rows.shape[0])
    for place, row in enumerate(rows):
        levels = np.unique(row if row.size <= 1 << 20 else row[: 1 << 20]).astype(np.float64)
        if levels.size < 2:
            continue
        gaps = np.diff(levels)
        gaps = gaps[gaps > 1e-6 * (levels[-1] - levels[0])]
        if not gaps.size or levels.size > _LEVELS or row.size < 3 * levels.size:
            return
        step = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
        # The smallest gaps carry the rounding of the levels; the whole range, counted in steps, does not.
        step = float(levels[-1] - levels[0]) / max(round(float(levels[-1] - levels[0]) / step), 1)
        steps[place] = step
        offsets[place] = 0.0 if _near_whole(levels / step) else levels[0]
    yield Quantised(axis, steps, offsets, "symmetric" if not offsets.any() else "affine")


def _near_whole(values: Array) -> bool:
    return bool((np.abs(values - np.rint(values)) <= _WHOLE).all())


def _on_steps(x: Array, y: Array, guess: Quantised) -> bool:
    """Whether every number of ``y`` is a whole number of steps, and the nearest one to ``x``'s."""
    step, offset = guess.spread(x.ndim)
    low, high = _reduced(y, guess.axis)
    size = max(abs(float(high.max())), abs(float(low.min())))
    with np.errstate(all="ignore"):
        if float(np.nanmax((high - low) / guess.steps, initial=0.0)) + 0.9 > _LEVELS:
            return False
    for rows in _blocks(x):
        part = step if step.shape[0] == 1 else step[rows], offset if offset.shape[0] == 1 else offset[rows]
        some, made = x[rows].astype(np.float64), y[rows].astype(np.float64)
        with np.errstate(all="ignore"):
            level = (made - part[1]) / part[0]
            off = np.abs(level - np.rint(level))
            apart = np.abs(some - made) / part[0]
        # A step is known to float32's rounding, which adds up over the levels.
        slack = _WHOLE + 2.0**-22 * size / part[0]
        if not ((off <= slack) | (part[0] <= 1e-300)).all():
            return False
        ends = np.abs(level) >= 126.5  # the outermost levels take what lies beyond them
        if not ((apart <= _HALF) | ends | (made == some)).all():
            return False
        if (np.ptp(level, axis=None) if level.size else 0) > 2 * _LEVELS:
            return False
        near = apart[np.isfinite(apart)]
        if near.size and near.max() > 8:
            return False
    return True


def _blocks(x: Array) -> Iterator[slice]:
    """A small block first, for most guesses are wrong everywhere; then more of them, all over the array."""
    each = x.size // x.shape[0]
    rows = max(_PROBE // each, 1)
    yield slice(0, rows)
    block = max(_BLOCK // each, 1)
    apart = max(x.shape[0] // _BLOCKS, block)
    for start in range(rows, x.shape[0], apart):
        yield slice(start, start + block)
