"""Many small pictures in one array: where each tile lies, and the copy that puts it there.

One image a grid instead of one axes a tile is what makes 512 kernels draw in a blink, and it keeps every cell of every
kernel a whole number of pixels wide, so that nothing is ever interpolated. NumPy only: no figure is needed to test it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mosaic", "columns_for", "mosaic", "shrink", "strip"]

_AT_ONCE = 16  # rows of a small map that are made together


class Mosaic(NamedTuple):
    """Holds a grid of tiles in one array, row by row.

    Attributes:
        image: ``(height, width[, colour])``, of the tiles' dtype.
        boxes: ``(K, 4)`` integers, for each tile its top row, left column, height and width in ``image``.

    >>> import cnnlens
    >>> import numpy as np
    >>> grid = cnnlens.plot.mosaic(np.arange(8).reshape(2, 2, 2), columns=2)
    >>> grid.boxes.tolist()  # top, left, height, width of each tile
    [[0, 0, 2, 2], [0, 3, 2, 2]]
    """

    image: NDArray[Any]
    boxes: NDArray[np.int64]


def columns_for(count: int, *, tile_height: int = 1, tile_width: int = 1) -> int:
    """Choose how many columns make a grid of ``count`` tiles about 1.6 times as wide as high, with few empty places.

    Examples: 32 square tiles go 8 to a row, 64 go 8, 512 go 32, 10 go 5.
    """
    ideal = math.sqrt(count * 1.6 * tile_height / tile_width)

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(columns / ideal)) + 2 * (1 - count / (rows * columns)) + (0.3 if count % columns else 0)

    return min(range(1, max(1, min(count, math.ceil(3 * ideal))) + 1), key=cost)


def mosaic(
    tiles: NDArray[Any],
    columns: int | None = None,
    *,
    scale: int | tuple[int, int] = 1,
    gap: int | tuple[int, int] = 1,
    frame: int = 0,
    fill: Any = 0,
    line: Any = None,
) -> Mosaic:
    """Lay ``tiles`` out row by row.

    Args:
        tiles: ``(K, H, W)`` or ``(K, H, W, colours)``, any dtype; K at least 1.
        columns: Tiles in a row; None chooses (`columns_for`).
        scale: Pixels a cell, down and across: cells are repeated, never interpolated.
        gap: Pixels between tiles, down and across. The outer rim has no gap.
        frame: Width in pixels of a line around each tile, drawn inside the gap and so also around the whole.
        fill: Value (or colour) of the gaps and of empty places.
        line: Value (or colour) of the frame; `fill` where None.

    Returns:
        The image and where each tile lies in it. Tile k is ``image[top : top + height, left : left + width]``, and with
        ``scale=1`` that is ``tiles[k]`` itself.

    Raises:
        ValueError: No tiles, tiles of another rank, or a frame that does not fit into the gap.

    >>> import cnnlens
    >>> import numpy as np
    >>> grid = cnnlens.plot.mosaic(np.arange(1, 9).reshape(2, 2, 2), columns=2)
    >>> grid.image
    array([[1, 2, 0, 5, 6],
           [3, 4, 0, 7, 8]])
    """
    if tiles.ndim not in (3, 4) or tiles.shape[0] == 0:
        raise ValueError(f"tiles must be (K, H, W) or (K, H, W, colours) with K >= 1, not {tiles.shape}")
    if frame and 2 * frame > min(gap if isinstance(gap, tuple) else (gap,)):
        raise ValueError(f"two frames of {frame} px do not fit into a gap of {gap} px")
    down, across = (scale, scale) if isinstance(scale, int) else scale
    gap_down, gap_across = (gap, gap) if isinstance(gap, int) else gap
    count, height, width = tiles.shape[0], tiles.shape[1] * down, tiles.shape[2] * across
    columns = columns or columns_for(count, tile_height=height, tile_width=width)
    rows = math.ceil(count / columns)
    pitch_down, pitch_across = height + gap_down, width + gap_across
    colours = tiles.shape[3:]

    # One more gap than needed on each side, cut away at the end: then the whole grid is one reshape.
    cells = np.empty((rows * columns, pitch_down, pitch_across, *colours), tiles.dtype)
    cells[:] = fill
    if frame:
        cells[:count, : height + 2 * frame, : width + 2 * frame] = fill if line is None else line
    body = cells[:count, frame : frame + height, frame : frame + width]
    body[:] = tiles if down == across == 1 else tiles.repeat(down, axis=1).repeat(across, axis=2)
    grid = cells.reshape(rows, columns, pitch_down, pitch_across, *colours)
    image = grid.swapaxes(1, 2).reshape(rows * pitch_down, columns * pitch_across, *colours)
    image = image[: rows * pitch_down - gap_down + 2 * frame, : columns * pitch_across - gap_across + 2 * frame]

    places = np.arange(count, dtype=np.int64)
    row, column = places // columns, places % columns
    boxes = np.stack(
        [frame + row * pitch_down, frame + column * pitch_across, np.full(count, height), np.full(count, width)], axis=1
    )
    return Mosaic(np.ascontiguousarray(image), boxes)


def strip(slices: NDArray[Any], *, scale: int, gap: int, fill: Any) -> NDArray[Any]:
    """Lay slices of volumes side by side: ``(K, D, H, W, colours)`` to ``(K, H * scale, wide, colours)``."""
    count, depth, height, width, colours = slices.shape
    pitch = width * scale + gap
    out = np.empty((count, height * scale, depth, pitch, colours), slices.dtype)
    out[:] = fill
    out[:, :, :, : width * scale] = slices.repeat(scale, axis=2).repeat(scale, axis=3).swapaxes(1, 2)
    return out.reshape(count, height * scale, depth * pitch, colours)[:, :, : depth * pitch - gap]


def shrink(values: NDArray[np.floating[Any]], down: int, across: int, how: str) -> NDArray[np.floating[Any]]:
    """Reduce blocks of ``down`` x ``across`` cells of the last two axes to one cell each; the last may be smaller.

    Args:
        values: ``(..., H, W)``.
        how: ``"mean"``, or ``"extreme"`` for the value of largest magnitude with its sign. Both carry NaN on, and the
            extreme carries infinities on, so that no broken weight disappears in a picture that is too small for it.
    """
    if down == across == 1:
        return values
    height, width = values.shape[-2:]
    rows, columns = -(-height // down), -(-width // across)
    out = np.empty((*values.shape[:-2], rows, columns), values.dtype)

    def reduced(part: NDArray[Any], operation: np.ufunc) -> NDArray[Any]:
        return _folded(_folded(part, down, -2, operation), across, -1, operation)

    # Some rows at a time, so that what is on the way from a large map to a small one never doubles it.
    for start in range(0, rows, _AT_ONCE):
        part = values[..., start * down : (start + _AT_ONCE) * down, :]
        target = out[..., start : start + _AT_ONCE, :]
        if how == "extreme":
            high, low = reduced(part, np.maximum), reduced(part, np.minimum)
            target[...] = np.where(-low > high, low, high)
        else:
            with np.errstate(invalid="ignore"):  # Inf - Inf is NaN, and is drawn as such
                target[...] = reduced(part, np.add)
    if how == "mean":
        lasts = (height - (rows - 1) * down, width - (columns - 1) * across)
        sizes = np.outer([down] * (rows - 1) + [lasts[0]], [across] * (columns - 1) + [lasts[1]])
        out /= sizes.astype(values.dtype)
    return out


def _folded(values: NDArray[Any], step: int, axis: int, operation: np.ufunc) -> NDArray[Any]:
    """Each ``step`` entries of an axis as one, by whole arrays: ``reduceat`` goes from number to number."""
    moved = values.swapaxes(axis, 0)
    out = moved[::step].copy(order="K")
    for place in range(1, min(step, len(moved))):
        part = moved[place::step]
        operation(out[: len(part)], part, out=out[: len(part)])
    return out.swapaxes(axis, 0)
