"""The same kernel read in several ways, a panel each: what a wrong transpose looks like.

Made for a class: the right reading first, the wrong ones after it in red, all with the same colours, and under each the
line of NumPy that did it.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import WEIGHTS, paint, rgb, scale_of
from cnnlens.plot.sheet import INK, PALE, RULE, put, sheet, show
from cnnlens.plot.tiles import mosaic
from cnnlens.plot.values import Note, broken_notes, largest, real_numbers

__all__ = ["Panel", "panels"]

_WIDTH = 1500  # pixels for all panels of a row
_ROOM = 430  # pixels of height that a panel may take
_BETWEEN = 56
_HEAD, _LINES = 34, 3
_FOOT = 18 * _LINES + 8
_RIGHT, _WRONG = "#1a7f37", "#c4261d"
_MOST = 100  # cells of a side of a tile


class Panel(NamedTuple):
    """Describes one panel: tiles, and what stands over and under them.

    Attributes:
        title: A few words.
        tiles: ``(rows, columns, H, W)`` real numbers.
        right: Whether it is the right one.
        lines: What stands under it, a line each.

    >>> import cnnlens
    >>> import numpy as np
    >>> panel = cnnlens.plot.Panel("as stored", np.zeros((1, 2, 3, 3)), right=True, lines=["kernel"])
    >>> panel.title, panel.tiles.shape, panel.right
    ('as stored', (1, 2, 3, 3), True)
    """

    title: str
    tiles: NDArray[Any]
    right: bool = False
    lines: Sequence[str] = ()


def panels(
    readings: Sequence[Panel],
    *,
    title: str = "readings",
    subtitle: Sequence[str] = (),
    columns: int | None = None,
    notes: Sequence[Note] = (),
    bar: bool = True,
    limit: float | None = None,
) -> Figure:
    """Draw panels of tiles side by side, coloured alike: red above zero, blue below.

    Args:
        readings: The panels, at least one; their tiles may differ in shape.
        title, subtitle: As in ``plot.kernels``, the subtitle as lines.
        columns: Panels in a row; None chooses.
        notes: Lines under the picture.
        bar: Whether there is a colour bar.
        limit: The weight that gets the full colour; None takes the largest magnitude drawn.

    Returns:
        The figure: one axes a panel after the frame's, each with one image.

    Raises:
        CnnlensError: No panel, nothing to draw in one, or no real numbers.

    >>> import cnnlens
    >>> import numpy as np
    >>> kernel = np.arange(18.0).reshape(1, 2, 3, 3)
    >>> right = cnnlens.plot.Panel("right", kernel, right=True, lines=["kernel"])
    >>> wrong = cnnlens.plot.Panel("H and W swapped", kernel.swapaxes(2, 3), lines=["kernel.swapaxes(2, 3)"])
    >>> figure = cnnlens.plot.panels([right, wrong])
    >>> cnnlens.plot.panels([])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: there is no reading to draw
    """
    if not readings:
        raise CnnlensError("there is no reading to draw")
    arrays = [real_numbers(one.tiles, f"the reading '{one.title}'", 4, 4)[:, :, :_MOST, :_MOST] for one in readings]
    bound = max(largest(array, limit) for array in arrays)
    shapes = [array.shape for array in arrays]
    aspect = shapes[0][1] * (shapes[0][3] + 1) / (shapes[0][0] * (shapes[0][2] + 1))
    columns = min(columns or (3 if aspect < 2.4 else 2 if aspect < 5 else 1), len(readings))
    columns = 2 if len(readings) == 4 and columns == 3 else columns
    width = (_WIDTH - (columns - 1) * _BETWEEN) // columns
    scale = max(1, min(_fitting(shape, width) for shape in shapes))
    images = [_tiled(paint(array, WEIGHTS, -bound, bound), scale) for array in arrays]
    rows = math.ceil(len(readings) / columns)
    heights = [max(image.shape[0] for image in images[row * columns : (row + 1) * columns]) for row in range(rows)]
    height = sum(heights) + rows * (_HEAD + _FOOT) + (rows - 1) * 26
    cell = max(width if columns > 1 else 0, *(image.shape[1] for image in images))
    whole_width = columns * cell + (columns - 1) * _BETWEEN
    notes = [*broken_notes(arrays[0], ""), *notes]
    frame = sheet(
        whole_width, height, ax=None, title=title, subtitle=list(subtitle), notes=notes,
        bar=scale_of(WEIGHTS, -bound, bound) if bar else None, bar_ticks=[-bound, 0.0, bound] if bar else (),
    )  # fmt: skip
    frame.set_axis_off()
    figure = cast(Figure, frame.get_figure(root=True))
    whole = frame.get_position()
    top = 0
    for row in range(rows):
        for column, index in enumerate(range(row * columns, min((row + 1) * columns, len(readings)))):
            image, one = images[index], readings[index]
            high, wide = image.shape[:2]
            x, y = column * (cell + _BETWEEN), height - top - _HEAD - high
            box = (
                whole.x0 + x / whole_width * whole.width,
                whole.y0 + y / height * whole.height,
                wide / whole_width * whole.width,
                high / height * whole.height,
            )
            axes = figure.add_axes(box)
            show(axes, image)
            axes.set_xticks([])
            axes.set_yticks([])
            colour = _RIGHT if one.right else _WRONG
            for spine in axes.spines.values():
                spine.set_color(colour if one.right else RULE)
                spine.set_linewidth(1.6 if one.right else 0.8)
            room = int(cell / 8.6)
            put(axes, "✓" if one.right else "✗", shift=(0, 10), size=10, color=colour, fontweight="bold")
            put(axes, one.title, shift=(24, 10), size=9, color=INK if one.right else _WRONG, limit=room)
            folded = [part for line in one.lines for part in _folded(line, max(int(cell / 8.2), 20))][:_LINES]
            for number, line in enumerate(folded):
                put(axes, line, at=(0, 0), shift=(0, -20 - 18 * number), size=7, color=PALE)
        top += heights[row] + _HEAD + _FOOT + 26
    return figure


def _folded(line: str, characters: int) -> list[str]:
    """A line that fits; one of NumPy is broken in front of a method where that is enough."""
    pieces = re.split(r"(?<=[)\]])(?=\.)", line)
    found = [""]
    for piece in pieces:
        if found[-1] and len(found[-1]) + len(piece) > characters:
            found.append("")
        found[-1] += piece
    return [part for whole in found for part in textwrap.wrap(whole, characters)]


def _gap(rows: int, columns: int) -> int:
    """Pixels between tiles, as many as still look like a gap where there are many tiles."""
    return 8 if max(rows, columns) <= 12 else 4


def _fitting(shape: tuple[int, ...], width: int) -> int:
    """Pixels a cell, so that a panel of ``(rows, columns, H, W)`` fits."""
    rows, columns, down, across = shape
    gap = _gap(rows, columns)
    return int(min((width / columns - gap) / across, (_ROOM / rows - gap) / down, 30))


def _tiled(painted: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """``(rows, columns, H, W, 3)`` as one picture."""
    rows, columns, down, across, _ = painted.shape
    tiles = painted.reshape(rows * columns, down, across, 3)
    gap = _gap(rows, columns)
    frame = 1 if rows * columns > 1 else 0
    return mosaic(
        tiles, columns, scale=scale, gap=gap if frame else 0, frame=frame, fill=255, line=rgb(RULE)
    ).image  # fmt: skip
