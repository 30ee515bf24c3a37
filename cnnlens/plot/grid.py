"""Painted tiles to a figure: how large a cell is, which labels stay readable, and where they go.

Small grids number each tile above it; large ones number rows and columns. What does not fit is shrunk or refused, and
the picture says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import paint, rgb, scale_ticks
from cnnlens.plot.sheet import PALE, RULE, decorate, room, sheet, show
from cnnlens.plot.tiles import Mosaic, columns_for, mosaic, shrink, strip
from cnnlens.plot.values import Floats, Note

__all__ = ["MOST_PIXELS", "dress_plot", "grid", "heat", "places", "refuse_too_many"]

_LABELLED = 46  # pixels: a smaller tile does not carry its own number
_LABEL = 20  # pixels that the number over a tile takes
_LARGEST_TILE = 300
_BETWEEN_SLICES = 2
MOST_PIXELS = 6000  # a side; about what viewers still open


def grid(
    painted: NDArray[np.uint8],
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note],
    bar: ScalarMappable | None,
    ax: Axes | None,
    *,
    columns: int | None = None,
    names: Sequence[int] | None = None,
    both: bool = False,
    number_columns: bool = False,
    rows_inside: bool = False,
) -> Figure:
    """Draw painted tiles ``(K, [D,] H, W, 3)`` as one image, with as many labels as stay readable.

    Args:
        names: The numbers of the tiles; None counts from 0.
        both: Rows are output channels and columns input channels.
        number_columns: The columns are what a person counts: label them from 0.
        rows_inside: The rows of cells inside a tile are what is counted at the left.
    """
    count, *slices, height, width, _ = painted.shape
    depth = slices[0] if slices else 1
    names = range(count) if names is None else names
    if columns is not None and columns < 1:
        raise CnnlensError(f"a grid needs at least one column, not {columns}")
    columns = min(columns or columns_for(count, tile_height=height, tile_width=width * depth), count)
    rows = math.ceil(count / columns)
    refuse_too_many(rows, columns, height, width * depth)
    if ax is not None:
        space = room(ax)
    elif both or count > 512:
        space = (1860, 1860)
    else:
        space = (1180, 1000)

    def fitting(gap: int, head: int) -> int:
        across = (space[0] / columns - gap - (depth - 1) * _BETWEEN_SLICES) / (width * depth)
        down = (space[1] / rows - gap - head) / height
        return int(min(across, down, _LARGEST_TILE / max(height, width)))

    gap, head, scale = 10, _LABEL, fitting(10, _LABEL)
    own_numbers = not both and not number_columns and scale * min(height, width * depth) >= _LABELLED and count > 1
    if not own_numbers:
        head = 0
        gap = next((gap for gap, least in ((10, 60), (6, 18), (4, 8), (2, 3)) if fitting(gap, 0) * height >= least), 1)
        scale = fitting(gap, 0)
    scale = max(1, scale)
    fill = (255, 255, 255) if gap >= 3 else rgb(RULE)
    if slices:
        tiles = strip(painted, scale=scale, gap=_BETWEEN_SLICES, fill=rgb(RULE))
        laid = mosaic(tiles, columns, gap=(gap + head, gap), frame=int(gap >= 3), fill=fill, line=rgb(RULE))
    else:
        laid = mosaic(
            painted, columns, scale=scale, gap=(gap + head, gap), frame=int(gap >= 3), fill=fill, line=rgb(RULE)
        )  # fmt: skip
    labels_left = [] if own_numbers or rows_inside else _row_labels(laid, rows, columns, names, both)
    if rows_inside:
        step = _step(height, scale)
        labels_left = [(float(laid.boxes[0, 0]) + (row + 0.5) * scale, str(row)) for row in range(0, height, step)]
    labels_top: list[tuple[float, str]] = []
    if (both or number_columns or not own_numbers) and columns > 1:
        pitch = int(laid.boxes[1, 1] - laid.boxes[0, 1])
        step = _step(columns, pitch, 44)
        sign = "" if both or number_columns else "+"
        labels_top = [
            (float(laid.boxes[column, 1] + laid.boxes[column, 3] / 2), f"{sign}{column}")
            for column in range(0, columns, step)
        ]
    image_height, image_width = laid.image.shape[:2]
    ax = sheet(
        image_width,
        image_height,
        ax=ax,
        title=title,
        subtitle=subtitle,
        notes=notes,
        left=46 if labels_left else 0,
        top=(24 if labels_top else 0) + (head if own_numbers else 0),
        bar=bar,
        bar_ticks=scale_ticks(bar) if bar is not None else (),
    )
    show(ax, laid.image)
    decorate(ax, labels_left, labels_top)
    if own_numbers:
        for name, (row, column, _, _) in zip(names, laid.boxes.tolist(), strict=True):
            ax.text(column, row - 5, str(name), fontsize=6.5, color=PALE, family="DejaVu Sans", va="baseline")
    said = (
        [f"output {k // columns}, input {k % columns}" for k in range(count)] if both else [f"tile {k}" for k in names]
    )
    setattr(ax, "format_coord", _pointer(laid, said, scale, width))  # noqa: B010 (made to be replaced)
    return cast(Figure, ax.get_figure(root=True))


def refuse_too_many(rows: int, columns: int, height: int, width: int) -> None:
    """Refuse a grid that has no place for a pixel a cell, before its colours take memory.

    Raises:
        CnnlensError: It would be larger than a picture can be.
    """
    if max(rows * (height + 1), columns * (width + 1)) > MOST_PIXELS:
        raise CnnlensError(
            f"{rows} x {columns} tiles of {height} x {width} do not fit into one picture; choose fewer channels"
        )


def _step(count: int, pitch: float, room_px: float = 24) -> int:
    """Every how many-th of ``count`` things, ``pitch`` pixels apart, can have a label: 1, 2, 4, 8, ..."""
    step = 1
    while step * pitch < room_px and step < count:
        step *= 2
    return step


def _row_labels(laid: Mosaic, rows: int, columns: int, names: Sequence[int], both: bool) -> list[tuple[float, str]]:
    if rows == 1 and not both:
        return []
    step = _step(rows, float(laid.boxes[columns, 0] - laid.boxes[0, 0]) if rows > 1 else 99)
    return [
        (
            float(laid.boxes[row * columns, 0] + laid.boxes[row * columns, 2] / 2),
            str(row if both else names[row * columns]),
        )
        for row in range(0, rows, step)
    ]


def _pointer(laid: Mosaic, names: Sequence[str], scale: int, width: int) -> Callable[[float, float], str]:
    """What an interactive window says about the place under the pointer; ``width`` is that of a slice, in cells."""

    def text(x: float, y: float) -> str:
        top, left, high, wide = laid.boxes.T
        hit = np.flatnonzero((top <= y) & (y < top + high) & (left <= x) & (x < left + wide))
        if not len(hit):
            return ""
        tile = int(hit[0])
        piece, inside = divmod(x - int(left[tile]), width * scale + _BETWEEN_SLICES)
        if inside >= width * scale:
            return ""
        slices = f", slice {int(piece)}" if wide[tile] > width * scale else ""
        return f"{names[tile]}{slices}, row {int((y - int(top[tile])) // scale)}, column {int(inside // scale)}"

    return text


def heat(
    values: Floats,
    colours: str,
    low: float,
    high: float,
    names: tuple[str, str],
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note],
    bar: ScalarMappable | None,
    ax: Axes | None,
    row_names: Sequence[int] | None = None,
) -> Figure:
    """Draw a matrix as one image; each value at least one pixel, or a block's largest magnitude if it is too big."""
    rows, columns = values.shape
    space = room(ax) if ax is not None else (1180, 760)
    down, across = math.ceil(rows / max(space[1], 1)), math.ceil(columns / max(space[0], 1))
    said = list(subtitle)
    if down * across > 1:
        values = shrink(values, down, across, "extreme")
        said.append(f"each pixel the largest magnitude of {down} × {across} values")
    scale_across = max(1, min(space[0] // values.shape[1], 60))
    scale_down = max(1, min(space[1] // values.shape[0], 60))
    scale_down = min(scale_down, max(4 * scale_across, 8))
    scale_across = min(scale_across, max(4 * scale_down, 8))
    image = paint(values, colours, low, high).repeat(scale_down, axis=0).repeat(scale_across, axis=1)
    height, width = image.shape[:2]
    ax = sheet(
        width, height, ax=ax, title=title, subtitle=said, notes=notes, left=76, bottom=62,
        bar=bar, bar_ticks=scale_ticks(bar) if bar is not None else (),
    )  # fmt: skip
    show(ax, image, columns, rows)
    decorate(
        ax,
        [
            (place + 0.5, str(place if row_names is None else row_names[place]))
            for place in places(rows, height)
            if names[1]
        ],
        [(place + 0.5, str(place)) for place in places(columns, width)],
        above=False,
    )
    ax.set_xlabel(names[0], fontsize=8, color=PALE, family="DejaVu Sans")
    ax.set_ylabel(names[1], fontsize=8, color=PALE, family="DejaVu Sans")
    return cast(Figure, ax.get_figure(root=True))


def places(count: int, pixels: int) -> range:
    """Choose round places along an axis, at least 44 pixels apart."""
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000):
        if pixels / count * step >= 44:
            return range(0, count, step)
    return range(0, count, max(1, count))


def dress_plot(ax: Axes, x: str, y: str) -> None:
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.set_xlabel(x, fontsize=8.5, color=PALE, family="DejaVu Sans", labelpad=6)
    ax.set_ylabel(y, fontsize=8.5, color=PALE, family="DejaVu Sans", labelpad=8)
    ax.set_axisbelow(True)
    ax.yaxis.grid(visible=True, color="#eceef1", linewidth=0.8)
