"""Painted tiles to a figure: how large a cell is, which labels stay readable, and where they go.

Small grids number each tile above it; large ones number rows and columns. What does not fit is shrunk or refused, and
the picture says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import paint, rgb
from cnnlens.plot.sheet import INK, PALE, RULE, beside_image, decorate, families, free, sheet, show
from cnnlens.plot.tiles import Mosaic, columns_for, mosaic, shrink, strip
from cnnlens.plot.values import Floats, Limits, Note, few, number, ticks

__all__ = [
    "MOST_PIXELS", "Clipped", "any_clipped", "clipped_cells", "clipped_note", "dress_plot", "grid", "heat",
    "mark_cells", "places", "refuse_too_many", "unmarked",
]  # fmt: skip

_LABELLED = 46  # pixels: a smaller tile does not carry its own number
_LABEL = 20  # pixels that the number over a tile takes
_DIGIT = 8.8  # pixels of one digit of it
_LARGEST_TILE, _LARGEST_ALONE, _LARGEST_OF_BOTH = 300, 560, 80
_MARKED = 10  # pixels: a smaller cell carries no mark
_UP, _DOWN = " (▲)", " (▼)"  # how a note names the marks
_BETWEEN_SLICES = 2
MOST_PIXELS = 6000  # a side; about what viewers still open

Clipped = NDArray[np.int8]
"""Cells beyond the ends of the colours: 1 above, -1 below, else 0; in the shape of the values."""


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
    both: tuple[Sequence[int], Sequence[int]] | None = None,
    number_columns: bool = False,
    rows_inside: Sequence[int] | None = None,
    clipped: Clipped | None = None,
    largest: Sequence[float] | None = None,
    bar_ticks: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Draw painted tiles ``(K, [D,] H, W, 3)`` as one image, with as many labels as stay readable.

    Args:
        names: The numbers of the tiles; None counts from 0.
        both: Rows are these output channels and columns these input channels.
        number_columns: The columns are what a person counts: label them from 0.
        rows_inside: The rows of cells inside a tile are what is counted at the left, by these numbers.
        clipped: Which cells lie beyond the colours, ``(K, [D,] H, W)``; they carry a mark.
        largest: The largest value of each tile, which is written over it where there is room; NaN or an infinity where
            it holds nothing else.
    """
    count, *slices, height, width, _ = painted.shape
    depth = slices[0] if slices else 1
    names = range(count) if names is None else names
    chosen = columns
    columns = min(columns or columns_for(count, tile_height=height, tile_width=width * depth), count)
    rows = math.ceil(count / columns)
    refuse_too_many(rows, columns, height, width * depth)
    if ax is not None:
        # What is written over the tiles and beside them is not known yet: room for all of it is left.
        guess = width * depth * columns > 6 * height * rows
        space = free(
            ax, title=title, subtitle=[*subtitle, "-"], notes=notes, left=46, top=24, bar=bar is not None, flat=guess
        )
        if chosen is None and not both and not number_columns:  # the place has its own proportions
            fits = [
                (
                    int(
                        min(
                            (space[0] / wide - 10) / width / depth,
                            (space[1] / -(-count // wide) - 10 - _LABEL) / height,
                        )
                    ),
                    count - wide * -(-count // wide),  # less the empty places
                )
                for wide in range(1, count + 1)
            ]
            columns = 1 + fits.index(max(fits))
            rows = math.ceil(count / columns)
    elif both or count > 512:
        space = (1860, 1860)
    else:
        space = (1180, 1000)
    most = _LARGEST_OF_BOTH if both else _LARGEST_ALONE if count == 1 else _LARGEST_TILE

    def fitting(gap: int, head: int) -> int:
        across = (space[0] / columns - gap - (depth - 1) * _BETWEEN_SLICES) / (width * depth)
        down = (space[1] / rows - gap - head) / height
        return int(min(across, down, most / math.sqrt(height * width)))

    gap, head, scale = 10, _LABEL, max(1, fitting(10, _LABEL))
    tile = scale * width * depth + (depth - 1) * _BETWEEN_SLICES
    own_numbers = not both and not number_columns and min(scale * height, tile) >= _LABELLED and count > 1
    over: list[str] = []
    if largest is not None and (own_numbers or count == 1):
        index = max(len(str(name)) for name in names) if own_numbers else 0
        for digits in (3, 2):
            over = [number(one, digits) for one in largest]
            if (index + max(map(len, over)) + 1) * _DIGIT <= tile + gap / 2:
                break
        else:
            over = []
    if not own_numbers and not over:
        head = 0
        gap = next((gap for gap, least in ((10, 60), (6, 18), (4, 8), (2, 3)) if fitting(gap, 0) * height >= least), 1)
        scale = fitting(gap, 0)
    scale = max(1, scale)
    across = scale  # pixels of a cell; those of one-dimensional kernels need not be square
    if rows_inside:
        across = max(scale, min(5 * scale, int((space[0] / columns - gap) / width), round(640 / (columns * width))))
    finite = [one for one in largest or () if math.isfinite(one)]
    if finite:
        ends = f"from {number(min(finite))} to {number(max(finite))}"
        own, all_of = (
            ("that value", "those values") if min(finite) < 0 else ("its largest value", "their largest values")
        )
        numbered = f"the number over it is {own}" if over else f"{all_of} are {ends}"
        subtitle = [*subtitle[:-1], f"{subtitle[-1]}; {numbered}"]
    fill = (255, 255, 255) if gap >= 3 else rgb(RULE)
    cell = (scale, across)
    if slices:
        tiles = strip(painted, scale=scale, gap=_BETWEEN_SLICES, fill=rgb(RULE))
        laid = mosaic(tiles, columns, gap=(gap + head, gap), frame=int(gap >= 3), fill=fill, line=rgb(RULE))
    else:
        laid = mosaic(
            painted, columns, scale=cell, gap=(gap + head, gap), frame=int(gap >= 3), fill=fill, line=rgb(RULE)
        )  # fmt: skip
    labels_left = [] if own_numbers or rows_inside else _row_labels(laid, rows, columns, names, both)
    if rows_inside:
        step = _step(height, scale)
        first = float(laid.boxes[0, 0])
        labels_left = [(first + (row + 0.5) * scale, str(rows_inside[row])) for row in range(0, height, step)]
    labels_top: list[tuple[float, str]] = []
    if (both or number_columns or not own_numbers) and columns > 1:
        pitch = int(laid.boxes[1, 1] - laid.boxes[0, 1])
        step = _step(columns, pitch, 44)
        sign = "" if number_columns else "+"
        counted = [str(one) for one in both[1]] if both else [f"{sign}{one}" for one in range(columns)]
        labels_top = [
            (float(laid.boxes[column, 1] + laid.boxes[column, 3] / 2), counted[column])
            for column in range(0, columns, step)
        ]
    image_height, image_width = laid.image.shape[:2]
    ax = sheet(
        image_width,
        image_height,
        ax=ax,
        title=title,
        subtitle=subtitle,
        notes=unmarked(notes, clipped if scale >= _MARKED or own_numbers else None),
        left=46 if labels_left else 0,
        top=(24 if labels_top else 0) + head,
        bar=bar,
        bar_ticks=bar_ticks,
    )
    show(ax, laid.image)
    decorate(ax, labels_left, labels_top)
    boxes: list[list[int]] = laid.boxes.tolist() if own_numbers or over else []
    beyond = clipped.reshape(count, -1) if clipped is not None and clipped.any() else None
    if beyond is not None and scale >= _MARKED:
        places, signs = _cells(laid, cast(Clipped, clipped).reshape(count, depth, height, width), scale, across)
        column, row = places.astype(np.intp).T
        mark_cells(ax, places, signs, scale, laid.image[row, column])
    small: dict[str, Any] = {"fontsize": 6.5, "color": PALE, "family": families(), "va": "baseline"}
    for place, (row, column, _, wide) in enumerate(boxes):
        mark = "" if beyond is None or scale >= _MARKED else " ▲" * bool((beyond[place] > 0).any())
        mark += "" if beyond is None or scale >= _MARKED else " ▼" * bool((beyond[place] < 0).any())
        if own_numbers:
            ax.text(column, row - 5, f"{names[place]}{mark}", **small)
        if over:
            ax.text(column + wide, row - 5, over[place], ha="right", **small)
    if both:
        said = [f"output {both[0][k // columns]}, input {both[1][k % columns]}" for k in range(count)]
    else:
        said = [f"tile {k}" for k in names]
    setattr(ax, "format_coord", _pointer(laid, said, scale, across, width))  # noqa: B010 (made to be replaced)
    return cast(Figure, ax.get_figure(root=True))


def clipped_cells(values: Floats, limits: Limits) -> Clipped | None:
    """Tell which values lie beyond the ends; None where none does."""
    if not limits.clipped.any():
        return None
    low, high = (end.reshape(-1, *[1] * (values.ndim - 1)) for end in (limits.low, limits.high))
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(values)
        return (((values > high) & finite).astype(np.int8) - ((values < low) & finite)).astype(np.int8)


def any_clipped(clipped: Clipped) -> Clipped:
    """Which pixels in colour, ``(K, H, W)`` of ``(K, 3, H, W)``, have a channel beyond the ends."""
    return np.where((clipped > 0).any(1), 1, -(clipped < 0).any(1).astype(np.int8)).astype(np.int8)


def clipped_note(clipped: Clipped, what: str, names: Sequence[int], ends: str = "the colours") -> Note:
    """Say how many values lie beyond the colours, and in which entries of the first axis where these have a name.

    The signs in it are those of the marks; where none is drawn, `grid` and `heat` leave them out.
    """
    flat = clipped.reshape(len(clipped), -1)
    hit = [names[place] for place in np.flatnonzero(flat.any(axis=1)).tolist()]
    above, below = int((flat > 0).sum()), int((flat < 0).sum())
    sides = " and ".join(
        f"{count:,} {word}" for count, word in ((above, f"above{_UP}"), (below, f"below{_DOWN}")) if count
    )
    where = f", in {what} {few(hit)}" if what else ""
    return f"beyond {ends}: {sides}, of {flat.size:,} values{where}", None


def unmarked(notes: Sequence[Note], drawn: Clipped | None) -> list[Note]:
    """Leave out of notes the signs of marks that are not ``drawn``."""
    signs = [sign for sign, side in ((_UP, 1), (_DOWN, -1)) if drawn is None or side not in drawn]
    for sign in signs:
        notes = [(text.replace(sign, ""), colour) for text, colour in notes]
    return list(notes)


def _cells(laid: Mosaic, clipped: Clipped, scale: int, across: int) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """The middles of the clipped cells in the mosaic, ``(n, 2)`` of x and y, and whether each is above or below."""
    tile, piece, row, column = np.nonzero(clipped)
    pitch = clipped.shape[-1] * across + _BETWEEN_SLICES
    x = laid.boxes[tile, 1] + piece * pitch + (column + 0.5) * across
    y = laid.boxes[tile, 0] + (row + 0.5) * scale
    return np.stack([x, y], axis=1), clipped[tile, piece, row, column]


def mark_cells(ax: Axes, places: Floats, signs: NDArray[np.int8], cell: float, painted: NDArray[np.uint8]) -> None:
    """Draw a small triangle in each clipped cell, white or dark, whichever its colour ``(n, 3)`` lets be seen."""
    size = min(max(cell * 0.16, 3.0), 9.0)
    dark = painted @ (0.299, 0.587, 0.114) < 140
    for sign, marker in ((1, "^"), (-1, "v")):
        for color, behind in (("white", dark), (INK, ~dark)):
            some = places[(signs == sign) & behind]
            if len(some):
                ax.plot(some[:, 0], some[:, 1], marker, color=color, markersize=size, markeredgewidth=0, clip_on=False)


def refuse_too_many(rows: int, columns: int, height: int, width: int) -> None:
    """Refuse a grid that has no place for a pixel a cell, before its colours take memory.

    Raises:
        CnnlensError: It would be larger than a picture can be.
    """
    down, across = MOST_PIXELS // (height + 1), MOST_PIXELS // (width + 1)
    if rows > down or columns > across:
        fits = f"{down} x {across} of them do: choose fewer" if down and across else "nor would one of them"
        raise CnnlensError(f"{rows:,} x {columns:,} tiles of {height} x {width} do not fit into one picture; {fits}")


def _step(count: int, pitch: float, room_px: float = 24) -> int:
    """Every how many-th of ``count`` things, ``pitch`` pixels apart, can have a label: 1, 2, 4, 8, ..."""
    step = 1
    while step * pitch < room_px and step < count:
        step *= 2
    return step


def _row_labels(
    laid: Mosaic, rows: int, columns: int, names: Sequence[int], both: tuple[Sequence[int], Sequence[int]] | None
) -> list[tuple[float, str]]:
    if len(names) == 1 and not both:
        return []
    step = _step(rows, float(laid.boxes[columns, 0] - laid.boxes[0, 0]) if rows > 1 else 99)
    return [
        (
            float(laid.boxes[row * columns, 0] + laid.boxes[row * columns, 2] / 2),
            str(both[0][row] if both else names[row * columns]),
        )
        for row in range(0, rows, step)
    ]


def _pointer(laid: Mosaic, names: Sequence[str], scale: int, across: int, width: int) -> Callable[[float, float], str]:
    """What an interactive window says about the place under the pointer; ``width`` is that of a slice, in cells."""

    def text(x: float, y: float) -> str:
        top, left, high, wide = laid.boxes.T
        hit = np.flatnonzero((top <= y) & (y < top + high) & (left <= x) & (x < left + wide))
        if not len(hit):
            return ""
        tile = int(hit[0])
        piece, inside = divmod(x - int(left[tile]), width * across + _BETWEEN_SLICES)
        if inside >= width * across:
            return ""
        slices = f", slice {int(piece)}" if wide[tile] > width * across else ""
        return f"{names[tile]}{slices}, row {int((y - int(top[tile])) // scale)}, column {int(inside // across)}"

    return text


def heat(
    values: Floats,
    colours: Colormap,
    low: float,
    high: float,
    names: tuple[str, str],
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note],
    bar: ScalarMappable | None,
    ax: Axes | None,
    *,
    row_names: Sequence[int] | None = None,
    clipped: Clipped | None = None,
    largest: Sequence[float] | None = None,
    bar_ticks: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Draw a matrix as one image; each value at least one pixel, or a block's largest magnitude if it is too big.

    Args:
        names: What the columns and the rows are; rows without a name have no numbers.
        row_names: The numbers of the rows; None counts from 0.
        clipped: Which cells lie beyond the colours, in the shape of the values; they carry a mark.
        largest: The largest value of each row, which is written at its right.
    """
    rows, columns = values.shape
    said = list(subtitle)
    left, right, bottom = 76 if names[1] else 0, 66 if largest is not None else 0, 62
    dressed: dict[str, Any] = {"left": left, "right": right, "bottom": bottom, "bar": bar is not None}
    space = (1180, 760) if ax is None else free(ax, title=title, subtitle=[*said, "-"], notes=notes, **dressed)
    down, across = math.ceil(rows / space[1]), math.ceil(columns / space[0])
    if down * across > 1:
        values = shrink(values, down, across, "extreme")
        said.append(f"each pixel the largest magnitude of {down} × {across} values")
    scale_across = max(1, min(space[0] // values.shape[1], 120))
    scale_down = max(1, min(space[1] // values.shape[0], 120))
    scale_down = min(scale_down, max(4 * scale_across, 16))
    scale_across = min(scale_across, max(4 * scale_down, 8, 480 // values.shape[1]))
    painted = paint(values, colours, low, high)
    image = painted.repeat(scale_down, axis=0).repeat(scale_across, axis=1)
    height, width = image.shape[:2]
    marked = down * across == 1 and min(scale_down, scale_across) >= _MARKED
    ax = sheet(
        width, height, ax=ax, title=title, subtitle=said, notes=unmarked(notes, clipped if marked else None), left=left,
        right=right, bottom=bottom, bar=bar, bar_ticks=bar_ticks,
    )  # fmt: skip
    show(ax, image, columns, rows)
    numbered = [(place, str(place if row_names is None else row_names[place])) for place in places(rows, height, 26)]
    decorate(
        ax,
        [(place + 0.5, text) for place, text in numbered if names[1]],
        [(place + 0.5, str(place)) for place in places(columns, width)],
        above=False,
    )
    if largest is not None:
        beside_image(ax, [(place + 0.5, number(largest[place])) for place, _ in numbered])
    if clipped is not None and marked:
        row, column = np.nonzero(clipped)
        middles, cell = np.stack([column, row], axis=1) + 0.5, min(scale_down, scale_across)
        mark_cells(ax, middles, clipped[row, column], cell, painted[row, column])
    ax.set_xlabel(names[0], fontsize=8, color=PALE, family=families())
    if height >= 70:
        ax.set_ylabel(names[1], fontsize=8, color=PALE, family=families())
    return cast(Figure, ax.get_figure(root=True))


def places(count: int, pixels: int, least: int = 44) -> range:
    """Choose round places along an axis, at least so many pixels apart."""
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000):
        if pixels / count * step >= least:
            return range(0, count, step)
    return range(0, count, max(1, count))


def dress_plot(ax: Axes, x: str, y: str, top: float | None = None) -> None:
    """Give a plot of numbers its axes: round ticks with true minus signs, up to ``top``, pale lines, no box."""
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.set_xlabel(x, fontsize=8.5, color=PALE, family=families(), labelpad=6)
    ax.set_ylabel(y, fontsize=8.5, color=PALE, family=families(), labelpad=8)
    bottom, highest = ax.get_ylim()
    for axis, (low, high), most in ((ax.xaxis, ax.get_xlim(), 9), (ax.yaxis, (bottom, top or highest), 7)):
        named = ticks(low, high, most)
        axis.set_ticks([place for place, _ in named], [text for _, text in named])
    ax.set_axisbelow(True)
    ax.yaxis.grid(visible=True, color="#eceef1", linewidth=0.8)
