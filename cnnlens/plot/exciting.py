"""The inputs that excite each channel of a layer most: a row a channel, what it answers to beside its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Unpack, cast, overload

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.activations import digits
from cnnlens.plot.front import Look, Size, typed
from cnnlens.plot.grid import MOST_PIXELS
from cnnlens.plot.sheet import PALE, placed, put, room, sheet, show
from cnnlens.plot.tiles import shrink
from cnnlens.plot.values import few

__all__ = ["exciting"]

_TILE = 64  # pixels of a picture, about
_WIDTH, _HEIGHT = 1500, 1500  # pixels that a sheet should fill before it grows
_UNDER = 19  # pixels for the number under a picture
_BETWEEN = 6
_LEFT = 40  # for a channel's number
_APART = 26  # between two columns of channels


class _Exciting(Look, total=False):
    silent: Sequence[int]


@overload
def exciting(rows: Sequence[Sequence[tuple[ArrayLike, float]]], *, ax: Axes, **options: Unpack[_Exciting]) -> Axes: ...
@overload
def exciting(
    rows: Sequence[Sequence[tuple[ArrayLike, float]]], *, ax: None = None, **options: Unpack[_Exciting]
) -> Figure: ...
def exciting(
    rows: Sequence[Sequence[tuple[ArrayLike, float]]],
    *,
    silent: Sequence[int] = (),
    title: str | None = None,
    subtitle: str | None = None,
    size: Size = None,
    dpi: float | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw for each channel of a layer the inputs that excite it most, the most first, with their activations.

    Args:
        rows: For each channel its inputs: a picture ``(C, H, W)`` with one channel or three, of any range, and the
            activation. All are drawn over one range, from the lowest value of all pictures to the highest.
        silent: Channels that answered to nothing: they are named in a note and not drawn.
        title, subtitle, size, dpi, ax: As in `kernels`.

    Returns:
        The figure, or ``ax``; channels stand in as many columns as make it about as wide as high.

    Raises:
        CnnlensError: no picture, no pictures of one size, or more than fit into one.

    >>> import cnnlens
    >>> import numpy as np
    >>> pictures = np.random.default_rng(0).random((3, 1, 28, 28))
    >>> figure = cnnlens.plot.exciting([[(pictures[0], 3.2), (pictures[1], 3.0)], [(pictures[2], 1.5)]])
    >>> cnnlens.plot.exciting([])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: there is no input to draw
    """
    typed({"title": title, "subtitle": subtitle, "size": size, "dpi": dpi, "ax": ax})
    drawn = partial(_drawn, rows, silent, "exciting inputs" if title is None else title, subtitle or "")
    return placed(drawn, ax=ax, size=size, dpi=dpi)


def _drawn(
    rows: Sequence[Sequence[tuple[ArrayLike, float]]], silent: Sequence[int], title: str, subtitle: str, ax: Axes | None
) -> Figure:
    shown = [channel for channel in range(len(rows)) if channel not in set(silent) and len(rows[channel])]
    if not shown:
        raise CnnlensError("there is no input to draw")
    most = max(len(rows[channel]) for channel in shown)
    painted, scale = _painted([np.asarray(picture) for channel in shown for picture, _ in rows[channel]])
    height, width = painted.shape[1] * scale, painted.shape[2] * scale
    across, down = _LEFT + most * (width + _BETWEEN) - _BETWEEN, height + _UNDER + _BETWEEN
    ideal = math.sqrt(len(shown) * down * _WIDTH / (_HEIGHT * (across + _APART)))
    columns = max(1, min(len(shown), round(ideal)))
    lines = math.ceil(len(shown) / columns)
    whole_width, whole_height = columns * (across + _APART) - _APART, lines * down - _BETWEEN
    if max(whole_width, whole_height) > MOST_PIXELS:
        raise CnnlensError(
            f"{len(shown):,} channels with {most} pictures of {width} x {height} do not fit into one sheet; "
            "ask for fewer with top, or for a layer with fewer channels"
        )
    image = np.full((whole_height, whole_width, 3), 255, np.uint8)
    labels: list[tuple[str, int, int, bool]] = []
    taken = 0
    said = iter(digits(np.array([value for channel in shown for _, value in rows[channel]], np.float64)))
    for place, channel in enumerate(shown):
        column, line = divmod(place, lines)
        left, top = column * (across + _APART) + _LEFT, line * down
        labels.append((str(channel), left - 8, top + height // 2, True))
        for at in range(len(rows[channel])):
            x = left + at * (width + _BETWEEN)
            image[top : top + height, x : x + width] = painted[taken].repeat(scale, axis=0).repeat(scale, axis=1)
            labels.append((next(said), x, top + height + 4, False))
            taken += 1
    alike = [channel for channel in shown if len({value for _, value in rows[channel]}) == 1 < len(rows[channel])]
    notes = [
        (f"{what}: channel{'s' * (len(found) > 1)} {few(found)}", None)
        for what, found in (("alike to all that are shown", alike), ("never above 0, and not drawn", silent))
        if found
    ]
    ax = sheet(
        whole_width, whole_height, ax=ax, title=title,
        subtitle=[subtitle, "a row a channel, the most exciting input first; under each its activation"], notes=notes,
        top=10,
    )  # fmt: skip
    show(ax, image)
    ax.set_axis_off()
    smaller = min(room(ax)[0] / whole_width, 1.0)  # in the caller's axes
    for text, x, y, is_channel in labels:
        put(
            ax, text, at=(x / whole_width, 1 - y / whole_height), size=smaller * (8.5 if is_channel else 6.5),
            color=PALE, ha="right" if is_channel else "left", va="center" if is_channel else "top",
        )  # fmt: skip
    return cast(Figure, ax.get_figure(root=True))


def _painted(pictures: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.uint8], int]:
    """Pictures as ``(K, H, W, 3)`` over one range, made smaller where they are large; and pixels a cell."""
    shapes = {picture.shape for picture in pictures}
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 3 or shape[0] not in (1, 3):
        raise CnnlensError(f"pictures (1, H, W) or (3, H, W) of one size were expected, {shape} came; leave -o out")
    values = np.stack(pictures).astype(np.float64)
    factor = max(1, round(max(shape[1:]) / _TILE))
    if factor > 1:
        values = shrink(values, factor, factor, "mean")
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    half = high / 2 - low / 2  # the whole may be more than float64 holds
    unit = np.nan_to_num((values / 2 - low / 2) / (half if half > 0 else 1.0)).clip(0, 1)
    colours = np.rint(unit * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.broadcast_to(colours, (*colours.shape[:3], 3)).copy(), max(1, round(_TILE / max(values.shape[2:])))
