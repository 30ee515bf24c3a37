"""One kernel between what goes into it and the feature map that comes out: what a convolution does, in one picture.

The picture for a first lesson: input, kernel with its numbers, bias, activation, and result with their sizes. The input
alone is a picture too.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import ACTIVATIONS, WEIGHTS, colour_map, paint, rgb, scale_of
from cnnlens.plot.grid import any_clipped, clipped_cells, clipped_note, grid
from cnnlens.plot.sheet import INK, PALE, RULE, families, put, room, sheet, show
from cnnlens.plot.tiles import mosaic
from cnnlens.plot.values import Floats, broken_notes, limits_of, number, real_numbers, ticks

__all__ = ["image", "kernel_and_map"]

_SIDE = 420  # pixels of a panel: a multiple of most sizes of maps, so that their cells come out equal
_WIDEST = 1260  # pixels of all panels
_BETWEEN = 150
_CELLS = 49  # weights that are written into their cells
_DIGITS = 62  # pixels that a written weight takes


class _Panel(NamedTuple):
    name: str
    painted: NDArray[np.uint8]  # (H, W, 3)
    bar: ScalarMappable | None
    numbers: Floats | None = None
    rows: int = 1  # of tiles
    columns: int = 1


def kernel_and_map(
    kernel: ArrayLike,
    image: ArrayLike | None,
    feature_map: ArrayLike,
    *,
    bias: float | None = None,
    activation: str | None = None,
    cmap: str | Colormap | None = None,
    title: str = "kernel and feature map",
    subtitle: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw arrays as ``plot.kernel_and_map`` says."""
    weights = real_numbers(kernel, "the kernel", 3, 3)
    result = real_numbers(feature_map, "the feature map", 2, 2)
    found = limits_of(weights[None], weights=True, limits="shared")
    made = limits_of(result[None], weights=False, limits="shared")
    notes = [*broken_notes(weights, "input channel"), *broken_notes(result[None], "", [0])]
    reds = colour_map(None, WEIGHTS)
    shades = colour_map(cmap, WEIGHTS if made.signed else ACTIVATIONS)
    panels: list[_Panel] = []
    columns = max(1, math.ceil(math.sqrt(len(weights))))
    if image is not None:
        seen = real_numbers(image, "the image", 3, 3)
        colours = "in colour" if seen.shape[0] == 3 else ""
        panels.append(
            _Panel(
                f"input  {_sizes(seen)} {colours}".strip(),
                _picture(seen, columns),
                None,
                None,
                *_rows(len(seen), columns),
            )
        )
    low, high = float(found.low), float(found.high)
    kernels = _tiled(paint(weights, reds, low, high), columns)
    panels.append(
        _Panel(
            f"kernel  {_sizes(weights)}",
            kernels,
            scale_of(reds, low, high),
            weights,
            math.ceil(len(weights) / columns),
            columns,
        )
    )
    low, high = float(made.low), float(made.high)
    panels.append(
        _Panel(f"feature map  {_sizes(result)}", paint(result, shades, low, high), scale_of(shades, low, high))
    )

    aspects = [panel.painted.shape[1] / panel.painted.shape[0] for panel in panels]
    side = min(_SIDE, int(_WIDEST / sum(aspects)))
    widths = [max(1, round(side * aspect)) for aspect in aspects]
    # In a narrow place the steps have no room between the panels.
    narrow = ax is not None and room(ax)[0] < 0.85 * (sum(widths) + _BETWEEN * (len(panels) - 1))
    between = 60 if narrow else _BETWEEN
    width = sum(widths) + between * (len(panels) - 1)
    tiled = any(panel.rows > 1 for panel in panels[:1])
    steps = _steps(bias, activation)
    said = [subtitle, "; ".join(["the sum", *steps])] if narrow and steps else [subtitle]
    frame = sheet(
        width, side, ax=ax, title=title, subtitle=said, notes=notes, left=34 if tiled else 0, top=26, bottom=70
    )  # fmt: skip
    frame.set_axis_off()
    parent: Any = frame.get_figure(root=False)
    whole = frame.get_position(original=True)
    shrunk = frame.get_window_extent().width * 150 / cast(Figure, frame.get_figure(root=True)).dpi / width

    def box(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
        return (
            whole.x0 + x / width * whole.width,
            whole.y0 + y / side * whole.height,
            wide / width * whole.width,
            high / side * whole.height,
        )

    left = 0
    for index, (panel, wide) in enumerate(zip(panels, widths, strict=True)):
        axes: Axes = parent.add_axes(box(left, 0, wide, side))
        show(axes, panel.painted)
        axes.set_aspect("auto")
        for spine in axes.spines.values():
            spine.set_color(RULE)
        axes.set_xticks([])
        named = [
            (panel.painted.shape[0] * (row + 0.5) / panel.rows, str(row * panel.columns)) for row in range(panel.rows)
        ]
        axes.set_yticks([place for place, _ in named if panel.rows > 1], [text for _, text in named if panel.rows > 1])
        axes.tick_params(length=0, pad=3, labelsize=6, labelcolor=PALE, labelfontfamily=families())
        put(axes, panel.name, shift=(0, 9), color=PALE, limit=max(8, int((wide + between * 0.7) * shrunk / 8.6)))
        if panel.numbers is not None:
            _write_numbers(axes, panel, side / panel.painted.shape[0] * shrunk)
        if index:
            last = index == len(panels) - 1
            middle = (left - between / 2) / width
            put(
                frame,
                "→" if last else "∗",
                at=(middle, 0.5),
                size=22 * min(1, shrunk),
                color=PALE,
                ha="center",
                va="center",
            )
            for line, text in enumerate(steps if last and not narrow else ()):
                shift = (0.0, -34.0 - 24 * line)
                put(frame, text, at=(middle, 0.5), shift=shift, size=7, color=PALE, ha="center", va="top", limit=22)
        if panel.bar is not None:
            rail = parent.add_axes(box(left + wide * 0.1, -30 / shrunk, wide * 0.8, 12 / shrunk))
            bar = parent.colorbar(panel.bar, cax=rail, orientation="horizontal")
            bar.outline.set_visible(False)
            named = ticks(cast(float, panel.bar.norm.vmin), cast(float, panel.bar.norm.vmax), 5)
            rail.set_xticks([place for place, _ in named], [text for _, text in named])
            rail.minorticks_off()
            rail.tick_params(length=0, labelsize=7, labelcolor=PALE, pad=4, labelfontfamily=families())
        left += wide + between
    return cast(Figure, frame.get_figure(root=True))


def image(
    array: ArrayLike,
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | Colormap | None = None,
    title: str = "image",
    subtitle: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw the picture ``(C, H, W)`` or ``(H, W)`` as ``plot.image`` says."""
    values = real_numbers(array, "the image", 2, 3)
    values = values[None] if values.ndim == 2 else values
    count = len(values)
    notes = broken_notes(values, "channel")
    found = limits_of(values.reshape(1, -1), weights=False, limits="shared", vmin=vmin, vmax=vmax)
    beyond = clipped_cells(values, found)
    if beyond is not None:
        notes.append(clipped_note(beyond, "channels" if count > 1 else "", range(count)))
    if count == 3:
        if cmap is not None:
            raise CnnlensError(
                "cmap colours one channel, and this image has three: it is drawn in its own; leave cmap out"
            )
        painted, bar = _in_colour(values, float(found.low), float(found.high))[None], None
        said = f"in colour, {number(float(found.low))} to {number(float(found.high))}"
        beyond = None if beyond is None else any_clipped(beyond[None])
    else:
        low, high = float(found.low), float(found.high)
        colours = colour_map("gray" if cmap is None else cmap, ACTIVATIONS)
        painted, bar = paint(values, colours, low, high), scale_of(colours, low, high, found.extend)
        said = f"{count} channels" if count > 1 else ""
    if max(painted.shape[1:3]) > 2000:
        step = math.ceil(max(painted.shape[1:3]) / 2000)
        painted, said = painted[:, ::step, ::step], f"{said}, every {step}th pixel".strip(", ")
        beyond = None if beyond is None else beyond[:, ::step, ::step]
    return grid(painted, title, [subtitle, said], notes, bar, ax, clipped=beyond)


def _rows(count: int, columns: int) -> tuple[int, int]:
    """Rows and columns of so many tiles; a picture in colour is one."""
    return (1, 1) if count in (1, 3) else (math.ceil(count / columns), columns)


def _sizes(values: Floats) -> str:
    return " × ".join(map(str, values.shape))


def _steps(bias: float | None, activation: str | None) -> list[str]:
    """What happens between the sum and the map, a line each."""
    lines = [] if bias is None else [f"{'−' if bias < 0 else '+'} {number(abs(bias))} (bias)"]
    return lines + ([activation] if activation else [])


def _write_numbers(axes: Axes, panel: _Panel, cell: float) -> None:
    """The weights of a small kernel, each in its cell."""
    weights = cast(Floats, panel.numbers)
    if len(weights) > 1 or weights.size > _CELLS or cell < _DIGITS:
        return
    for (row, column), value in np.ndenumerate(weights[0]):
        dark = panel.painted[row, column].astype(float) @ (0.299, 0.587, 0.114) < 130
        axes.text(
            column + 0.5, row + 0.5, number(float(value), 2), ha="center", va="center",
            fontsize=min(9, 3.2 + cell / 22), color="white" if dark else INK, family=families(),
        )  # fmt: skip


def _in_colour(values: Floats, low: float, high: float) -> NDArray[np.uint8]:
    """``(3, H, W)`` as ``(H, W, 3)``."""
    return np.stack([paint(plane, "gray", low, high)[..., 0] for plane in values], axis=-1)


def _picture(image: Floats, columns: int) -> NDArray[np.uint8]:
    """``(C, H, W)`` as people would see it: over its own range, grey or RGB; other counts as a grid of maps."""
    found = limits_of(image.reshape(1, -1), weights=False, limits="shared")
    low, high = float(found.low), float(found.high)
    if image.shape[0] == 1:
        return paint(image[0], "gray", low, high)
    if image.shape[0] == 3:
        return _in_colour(image, low, high)
    return _tiled(paint(image, WEIGHTS if found.signed else ACTIVATIONS, low, high), columns)


def _tiled(painted: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """``(K, H, W, 3)`` as one picture, row by row, with a thin line between tiles."""
    if len(painted) == 1:
        return painted[0]
    height, width = painted.shape[1:3]
    rows = math.ceil(len(painted) / columns)
    scale = max(1, min((_SIDE // columns - 3) // width, (_SIDE // rows - 3) // height))
    return mosaic(painted, columns, scale=scale, gap=3, frame=1, fill=(255, 255, 255), line=rgb(RULE)).image
