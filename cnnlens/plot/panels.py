"""The same array read in several ways, a panel each: what a wrong transpose looks like.

Made for a class: the right reading first, the wrong ones after it in red, all on the same grid of cells, and under each
the line of NumPy that did it. A number in each cell says which value stands there.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import WEIGHTS, paint, rgb, scale_of
from cnnlens.plot.grid import Clipped, clipped_cells, mark_cells
from cnnlens.plot.sheet import DPI, INK, PALE, RULE, put, sheet, show, width_of
from cnnlens.plot.tiles import mosaic
from cnnlens.plot.values import Floats, Limits, Note, broken_notes, largest, limits_of, real_numbers

__all__ = ["WRONG", "Panel", "Room", "fold", "panels", "room_for"]

WIDTH = 1500  # pixels for all panels of a row
_BETWEEN, _MARGIN = 36, 24
_HEAD, _LINE, _AFTER = 34, 18, 22
_HIGHEST = 500  # pixels of the tiles of a panel, from top to bottom
_TALLEST, _LOWEST = 60, 24  # pixels of a cell's height
_SMALLEST = 5.4  # points of a number in a cell
_GAP, _LABEL = 8, 20  # between tiles across, and above each tile that has a name
_RIGHT, WRONG = "#1a7f37", "#c4261d"
_MOST = 100  # cells of a side of a tile
_DIGIT = 0.64 * DPI / 72  # pixels of a digit, for each point of its size


class Panel(NamedTuple):
    """Describes one panel: tiles, and what stands over, in and under them.

    Attributes:
        title: A few words.
        tiles: ``(rows, columns, H, W)`` real numbers, or ``(rows, columns, H, W, 3)`` colours from 0 to 255.
        right: Whether it is the right one.
        lines: What stands under it, a line each.
        numbers: ``(rows, columns, H, W)`` integers that are written into the cells, or None.
        wrong: Which of the numbers stand in a wrong place, ``(rows, columns, H, W)``, or None.
        labels: What stands over each tile, row by row; may be empty.
        said: What stands over the panel at its right.

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
    numbers: NDArray[Any] | None = None
    wrong: NDArray[Any] | None = None
    labels: Sequence[str] = ()
    said: str = ""


class Room(NamedTuple):
    """Says what has room in each of some panels: panels in a row, and tiles and cells of a panel, down and across."""

    columns: int
    tiles: tuple[int, int]
    cells: tuple[int, int]


def room_for(count: int, tiles: tuple[int, int], cells: tuple[int, int], digits: int, *, wrap: bool) -> Room:
    """Choose how many tiles and cells of each panel are drawn, so that ``digits`` can be read in a cell.

    Args:
        count: Panels.
        tiles, cells: How many there are, down and across.
        digits: Of the longest number in a cell.
        wrap: Whether the tiles are one row that may go on in the next.
    """
    least = max(24, math.ceil(_SMALLEST * _DIGIT * digits + 6))

    def fitting(columns: int) -> Room:
        width = _width_of(columns)
        across = min(cells[1], max(width // least, 1))
        if across < cells[1] and several:  # parts of two tiles tell more than a part of one
            across = max((width - _GAP) // 2 // least, 1)
        most = min(math.prod(tiles) if wrap else tiles[1], max((width + _GAP) // (across * least + _GAP), 1))
        found: list[tuple[int, bool, int, Room]] = []
        for many in range(1, most + 1) if wrap else (most,):
            wanted = math.ceil(math.prod(tiles) / many) if wrap else tiles[0]
            wide = _cell_of(columns, many, across)
            high = _height_of(wide, wanted, cells[0], gap)
            down = min(cells[0], max(_HIGHEST // high, 1))
            if down < cells[0] and wanted > 1:
                down = max((_HIGHEST - gap) // 2 // high, 1)
            rows = max(min(wanted, (_HIGHEST + gap) // (down * high + gap)), 1)
            rows = min(rows, math.prod(tiles) // many) if wrap else rows  # no place stays free
            flat = wide > 3.5 * high
            found.append(
                (rows * many, not flat, rows * (down * high + gap), Room(columns, (rows, many), (down, across)))
            )
        return max(found)[3]

    several = math.prod(tiles) > 1
    gap = _gaps(several)[0]
    choices = {1: (1,), 2: (2, 1), 3: (3, 1), 4: (2,), 5: (3, 2), 6: (3, 2), 7: (4, 3), 8: (4, 2)}
    rooms = [fitting(columns) for columns in choices[min(count, 8)]]
    for room in rooms:  # the first in which whole tiles have room, and two of them where there are
        if room.cells == cells and math.prod(room.tiles) >= min(math.prod(tiles), 2):
            return room
    return rooms[0]


def _width_of(columns: int) -> int:
    return (WIDTH - (columns - 1) * _BETWEEN) // columns


def _cell_of(columns: int, tiles: int, across: int) -> int:
    """Pixels of a cell's width, with ``tiles`` of ``across`` cells side by side in each of ``columns`` panels."""
    return max((_width_of(columns) - (tiles - 1) * _GAP) // (tiles * across), 1)


def _height_of(wide: int, rows: int, down: int, gap: int) -> int:
    """Pixels of a cell's height, of cells ``wide``: as wide, but where ``rows`` tiles of ``down`` then have no room."""
    most = (_HIGHEST - (rows - 1) * gap) // (rows * down)
    return max(min(wide, _TALLEST, max(most, _LOWEST)), 1)


def _gaps(labelled: bool) -> tuple[int, int]:
    """Pixels between rows of tiles, and over the first one."""
    return (_LABEL + 2, _LABEL) if labelled else (_GAP, 0)


def panels(
    readings: Sequence[Panel],
    *,
    title: str = "readings",
    subtitle: Sequence[str] = (),
    columns: int | None = None,
    aside: Sequence[str] = (),
    notes: Sequence[Note] = (),
    bar: bool = True,
    limit: float | None = None,
) -> Figure:
    """Draw panels of tiles side by side, numbers coloured alike: red above zero, blue below.

    Args:
        readings: The panels, at least one; their tiles may differ in shape.
        title, subtitle: As in ``plot.kernels``, the subtitle as lines.
        columns: Panels in a row; None chooses.
        aside: Paragraphs that stand in the place of a panel where the last row has one free, and else under the title.
        notes: Lines under the picture.
        bar: Whether there is a colour bar.
        limit: The weight that gets the full colour; None takes the one that ``plot.kernels`` would of all that is
            drawn, so that a single large weight pales no other. What lies beyond carries a triangle.

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
    weights = [
        real_numbers(one.tiles, f"the reading '{one.title}'", 4, 4)[:, :, :_MOST, :_MOST]
        for one in readings
        if one.tiles.ndim != 5
    ]
    found = _limits(weights, limit) if weights else None
    bound = 0.0 if found is None else float(found.high)
    marks = [None if found is None else clipped_cells(array[None], found) for array in weights]
    columns = min(columns or min(len(readings), 3), len(readings))
    width = _width_of(columns)
    wide = min(_cell_of(columns, one.tiles.shape[1], min(one.tiles.shape[3], _MOST)) for one in readings)
    high = min(
        _height_of(wide, one.tiles.shape[0], min(one.tiles.shape[2], _MOST), _gaps(bool(one.labels))[0])
        for one in readings
    )
    scale = (high, wide)
    painted = iter([paint(array, WEIGHTS, -bound, bound) for array in weights])
    images = [_tiled(one.tiles if one.tiles.ndim == 5 else next(painted), scale, bool(one.labels)) for one in readings]
    beside = all(36 + width_of(one.title, 9) + width_of(one.said, 7.5) <= width for one in readings)
    folds = [
        [*([] if beside or not one.said else [one.said]), *(part for line in one.lines for part in fold(line, width))]
        for one in readings
    ]
    marked = iter(marks)
    signs = [None if one.tiles.ndim == 5 else next(marked) for one in readings]
    ways = (("above (▲)", 1), ("below (▼)", -1))
    beyond = " and ".join(said for said, way in ways if any(one is not None and way in one for one in signs))
    marked_note: list[Note] = [(f"cells {beyond} the colours are marked", None)] if beyond else []
    rows = math.ceil(len(readings) / columns)
    longest = max((len(str(int(one.numbers.max()))) for one in readings if one.numbers is not None), default=1)
    size = min((scale[1] - 5) / (_DIGIT * longest), scale[0] / 3.4, 9.0)

    def row_of(row: int) -> slice:
        return slice(row * columns, (row + 1) * columns)

    heights = [_HEAD + max(image.shape[0] for image in images[row_of(row)]) for row in range(rows)]
    heights = [high + 10 + _LINE * max(len(lines) for lines in folds[row_of(row)]) for row, high in enumerate(heights)]
    free = columns * rows > len(readings) and bool(aside)
    height = sum(heights) + (rows - 1) * _AFTER
    whole_width = max(columns * width + (columns - 1) * _BETWEEN, *(image.shape[1] for image in images))
    said = () if free else textwrap.wrap(" ".join(aside), int(whole_width / 9.7))
    frame = sheet(
        whole_width, height, ax=None, title=title, subtitle=[*subtitle, "" if found is None else found.said, *said],
        notes=[*(broken_notes(weights[0], "") if weights else ()), *marked_note, *notes],
        bar=None if found is None or not bar else scale_of(WEIGHTS, -bound, bound, found.extend),
        bar_ticks=[-bound, 0.0, bound] if bar and weights else (), margin=_MARGIN,
    )  # fmt: skip
    frame.set_axis_off()
    for number, (one, image, lines, beyonds) in enumerate(zip(readings, images, folds, signs, strict=True)):
        row, column = divmod(number, columns)
        top = sum(heights[:row]) + row * _AFTER + _HEAD
        axes = _inside(frame, column * (width + _BETWEEN), top, image.shape[1], image.shape[0])
        show(axes, image)
        axes.set_xticks([])
        axes.set_yticks([])
        _dress(axes, one if beside else one._replace(said=""), width, lines, image, scale, size)
        if beyonds is not None:
            _mark(axes, one, beyonds[0], scale, image)
    if free:
        left, top = (len(readings) % columns) * (width + _BETWEEN), sum(heights[:-1]) + (rows - 1) * _AFTER
        _write_aside(_inside(frame, left, top, width, heights[-1]), aside, width)
    return cast(Figure, frame.get_figure(root=True))


def _inside(frame: Axes, left: int, top: int, width: int, height: int) -> Axes:
    """An axes of these pixels inside another's, of which it hides nothing."""
    figure = cast(Figure, frame.get_figure(root=True))
    whole, size = frame.get_position(), figure.get_size_inches() * DPI
    x, y = whole.x0 + left / size[0], whole.y1 - (top + height) / size[1]
    return figure.add_axes((x, y, width / size[0], height / size[1]))


def _dress(
    axes: Axes,
    one: Panel,
    width: int,
    lines: Sequence[str],
    image: NDArray[np.uint8],
    scale: tuple[int, int],
    size: float,
) -> None:
    colour = _RIGHT if one.right else WRONG
    for spine in axes.spines.values():
        spine.set_visible(False)
    put(axes, "✓" if one.right else "✗", shift=(0, 10), size=10, color=colour, fontweight="bold")
    put(axes, one.title, shift=(24, 10), size=9, color=INK if one.right else WRONG, limit=int((width - 30) / 10))
    if one.said:
        put(axes, one.said, shift=(width, 10), size=7.5, color=colour, horizontalalignment="right")
    for number, line in enumerate(lines):
        put(axes, line, at=(0, 0), shift=(0, -20 - _LINE * number), size=7, color=PALE)
    for index, label in enumerate(one.labels):
        x, y = _corner(one, index, scale)
        put(axes, label, shift=(x, 5 - y), size=6.5, color=PALE, limit=40)
    if one.numbers is None:
        return
    rows, columns, down, across = one.numbers.shape
    for place in np.ndindex(rows, columns, down, across):
        x, y = _corner(one, place[0] * columns + place[1], scale)
        middle = (x + (place[3] + 0.5) * scale[1], -(y + (place[2] + 0.5) * scale[0]))
        wrong = one.wrong is not None and bool(one.wrong[place])
        red, green, blue = image[int(-middle[1]), int(middle[0])].tolist()
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 120
        put(
            axes, int(one.numbers[place]), shift=middle, size=size,
            color="white" if dark else WRONG if wrong and one.tiles.ndim == 5 else INK,
            horizontalalignment="center", verticalalignment="center_baseline",
        )  # fmt: skip


def _limits(weights: Sequence[Floats], limit: float | None) -> Limits:
    """Which weight of all that are drawn gets the full colour."""
    flat = np.concatenate([array.reshape(1, -1) for array in weights], axis=1)
    bound = None if limit is None else largest(flat, limit)
    return limits_of(flat, weights=True, vmin=None if bound is None else -bound, vmax=bound)


def _mark(axes: Axes, one: Panel, beyonds: Clipped, scale: tuple[int, int], image: NDArray[np.uint8]) -> None:
    """A triangle in each cell beyond the colours: over the number in its middle, or under it."""
    aside = 0.0 if one.numbers is None else 0.36
    cells = np.argwhere(beyonds)
    corners = [_corner(one, int(row * one.tiles.shape[1] + column), scale) for row, column, _, _ in cells]
    places = [
        (left + (across + 0.5) * scale[1], top + (down + 0.5 - aside * sign) * scale[0])
        for (left, top), (_, _, down, across), sign in zip(corners, cells, beyonds[tuple(cells.T)], strict=True)
    ]
    middles = np.array(places).reshape(-1, 2)
    column, row = middles.astype(np.intp).T
    mark_cells(axes, middles, beyonds[tuple(cells.T)], min(scale) * (0.6 - aside), image[row, column])


def _corner(one: Panel, index: int, scale: tuple[int, int]) -> tuple[int, int]:
    """Left and top of a tile in its panel's picture, in pixels."""
    row, column = divmod(index, one.tiles.shape[1])
    gap, rim = _gaps(bool(one.labels))
    return column * (one.tiles.shape[3] * scale[1] + _GAP), rim + row * (one.tiles.shape[2] * scale[0] + gap)


def _write_aside(axes: Axes, paragraphs: Sequence[str], width: int) -> None:
    axes.set_axis_off()
    down = 4
    for paragraph in paragraphs:
        for line in textwrap.wrap(paragraph, int(width / 9.8)):
            down += 24
            put(axes, line, shift=(0, -down), size=9, color=INK)
        down += 14


def fold(line: str, width: int) -> list[str]:
    """Break a line where it is wider than ``width`` pixels; one of NumPy in front of a method where that is enough."""
    characters = max(int(width / 7.9), 20)
    found = [""]
    for piece in re.split(r"(?<=[)\]])(?=[.[])|(?<=, )(?=')", line):
        if found[-1] and len(found[-1]) + len(piece) > characters:
            found.append("")
        found[-1] += piece
    return [part for whole in found for part in textwrap.wrap(whole, characters)]


def _tiled(painted: NDArray[np.uint8], scale: tuple[int, int], labelled: bool) -> NDArray[np.uint8]:
    """``(rows, columns, H, W, 3)`` as one picture, a thin line between the cells that are large."""
    rows, columns, down, across, _ = painted.shape
    gap, rim = _gaps(labelled)
    tiles = painted.reshape(rows * columns, down, across, 3).repeat(scale[0], axis=1).repeat(scale[1], axis=2)
    if min(scale) > 12:
        tiles[:, scale[0] - 1 :: scale[0]] = tiles[:, :, scale[1] - 1 :: scale[1]] = 255
    tiles[:, -1:] = tiles[:, :, -1:] = tiles[:, :1] = tiles[:, :, :1] = rgb(RULE)
    image = mosaic(tiles, columns, gap=(gap, _GAP), fill=255).image
    return np.concatenate([np.full((rim, *image.shape[1:]), 255, np.uint8), image])
