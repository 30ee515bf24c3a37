"""A layer's kernels as one small PNG, for where a picture stands beside a table: quick, whatever the layer's size."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.plot.colours import WEIGHTS, paint, paint_rgb
from cnnlens.plot.sheet import number
from cnnlens.plot.tiles import mosaic, strip
from cnnlens.plot.values import largest, real_numbers

__all__ = ["thumbnail"]

_WIDE, _HIGH = 640, 160  # pixels
_MOST_CELLS = 24_000  # of noise, that is a PNG of 100 kB at most
_LARGEST_CELL = 10
_GAP = 4
_LINE = (128, 128, 128, 110)  # seen on light and on dark


def thumbnail(array: NDArray[Any]) -> tuple[bytes, str]:
    """Draw as many kernels as a small picture holds, each cell a whole number of pixels, and say which they are.

    Args:
        array: Canonical weights, real numbers: ``(out, in / groups, *spatial)`` or ``(out, in)``.

    Returns:
        A PNG, transparent between the kernels, a thin line around each, and the words that belong under it.

    >>> import numpy as np
    >>> from cnnlens.plot import thumbnail
    >>> png, said = thumbnail(np.ones((500, 2, 7, 5), np.float32))
    >>> png[:4], said
    (b'\\x89PNG', 'the first 360 of 500 kernels, input channel 0 of 2; white is 0, full colour ±1')
    """
    outs, ins, *spatial = array.shape
    if math.prod(spatial) == 1 or len(spatial) > 3:  # a dense layer, or kernels of 1 x 1: one cell a weight
        return _matrix(array)
    depth, height, width = least = ([1, 1, *spatial])[-3:]
    height, width = min(height, _HIGH // 2), min(width, _WIDE // 2)
    depth = min(depth, max(_WIDE // 2 // (width + 1), 1))
    rows, columns, scale = _fitting(outs, height, (width + 1) * depth - 1)
    colour = ins == 3 and len(spatial) == 2
    some = array[: rows * columns] if colour else array[: rows * columns, :1]
    some = some.reshape(*some.shape[:2], *least)[:, :, :depth, :height, :width]
    values = real_numbers(some, "weights", 5, 5)
    bound = largest(values)
    said = [_counted(len(values), outs, "kernels")]
    if (depth, height, width) != tuple(least):
        said.append(f"of each the first {depth} × {height} × {width} weights of {' × '.join(map(str, least))}")
    if depth > 1:
        said.append("depth slices side by side")
    if colour:
        painted, zero = paint_rgb(values[:, :, 0], bound)[:, None], "grey"
        said.append("three input channels as RGB")
    else:
        painted, zero = paint(values[:, 0], WEIGHTS, -bound, bound), "white"
        said += [f"input channel 0 of {ins:,}"] if ins > 1 else []
    clear = np.zeros(4, np.uint8)
    tiles = strip(_clear(painted), scale=scale, gap=1, fill=clear)
    laid = mosaic(tiles, min(columns, len(tiles)), gap=_GAP, frame=1, fill=clear, line=_LINE)
    return _png(laid.image), f"{', '.join(said)}; {zero} is 0, full colour ±{number(bound)}"


def _fitting(count: int, height: int, width: int) -> tuple[int, int, int]:
    """Rows, columns and pixels a cell: the largest cells with which all kernels fit, or the smallest that are seen."""
    for scale in range(_LARGEST_CELL, 1, -1):
        columns = max(_WIDE // (width * scale + _GAP), 1)
        rows = max(min(_HIGH // (height * scale + _GAP), _MOST_CELLS // (columns * width * height)), 1)
        if rows * columns >= count or scale == 2:
            return rows, columns, scale
    raise AssertionError


def _matrix(array: NDArray[Any]) -> tuple[bytes, str]:
    outs, ins = array.shape[0], math.prod(array.shape[1:])
    some = array[: _HIGH // 2]
    some = real_numbers(some.reshape(len(some), -1)[:, : _WIDE // 2], "weights", 2, 2)
    scale = max(min(_WIDE // some.shape[1], _HIGH // some.shape[0], _LARGEST_CELL), 1)
    bound = largest(some)
    painted = paint(some, WEIGHTS, -bound, bound).repeat(scale, axis=0).repeat(scale, axis=1)
    rows, columns = _counted(some.shape[0], outs, "outputs"), _counted(some.shape[1], ins, "inputs")
    laid = mosaic(_clear(painted)[None], 1, gap=2, frame=1, line=_LINE)
    return _png(laid.image), f"rows: {rows}, columns: {columns}; white is 0, full colour ±{number(bound)}"


def _clear(painted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours with room for what is transparent, none of which is yet."""
    return np.concatenate([painted, np.full((*painted.shape[:-1], 1), 255, np.uint8)], axis=-1)


def _counted(shown: int, of: int, what: str) -> str:
    what = what if of != 1 else what[:-1]
    return f"the first {shown:,} of {of:,} {what}" if shown < of else f"{of:,} {what}"


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
