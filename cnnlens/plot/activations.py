"""Feature maps as pictures: a grid of maps, rows of signals, or bars where a layer gives one number a channel.

All channels share one range, from zero up, so that a channel that says little looks dark beside one that says much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import ACTIVATIONS, INFINITE, NAN, paint, scale_of
from cnnlens.plot.grid import dress_plot, grid, heat, places
from cnnlens.plot.sheet import PALE, RULE, number, plain, sheet
from cnnlens.plot.tiles import columns_for, shrink
from cnnlens.plot.values import Floats, Note, broken_notes, extremes, few, joined, real_numbers, span, value_range

__all__ = ["feature_maps"]

_BAR = "#6b2f8a"
_SLICES = 8  # of a volume's depth that are drawn


def feature_maps(
    array: ArrayLike,
    *,
    title: str = "feature maps",
    subtitle: str = "",
    channels: Sequence[int] | None = None,
    limits: Sequence[float] | str | None = None,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the feature maps of one layer for one input, dark to bright.

    Args:
        array: Canonical activations of one example, real numbers: ``(C, H, W)``; ``(C, L)`` (one row a channel);
            ``(C, D, H, W)`` (at most eight depth slices side by side); ``(C,)`` (a bar a channel).
        channels: Which channels, in this order; None draws all.
        limits: Darkest and brightest value. None takes 0 or the lowest value, and the highest, of all channels, so that
            channels compare; ``"each"`` stretches every channel by itself.
        labels: What the channels of a ``(C,)`` mean, such as the classes of a classifier.
        title, subtitle, columns, ax: As in `kernels`.

    Returns:
        The figure, with one image for the grid and one colour bar in the units of the activations.

    Raises:
        CnnlensError: No such channel, nothing to draw, no real numbers, or too many tiles for one picture.

    >>> import cnnlens
    >>> import numpy as np
    >>> figure = cnnlens.plot.feature_maps(np.zeros((32, 28, 28)), channels=[0, 3], title="conv2d")
    >>> len(figure.axes)  # the grid and its colour bar
    2
    >>> cnnlens.plot.feature_maps(np.zeros((32, 28, 28)), channels=[32])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: there is no channel 32; the layer has channels 0 to 31
    """
    values = real_numbers(array, "feature maps", 1, 4)
    del array  # the caller's last hold on large maps may be this one: they go as soon as they are shrunk
    total = len(values)
    names = list(range(total))
    if labels is not None and (values.ndim > 1 or len(labels) != len(values)):
        raise CnnlensError(f"{len(labels)} labels do not fit feature maps of shape {values.shape}")
    if channels is not None:
        wrong = [channel for channel in channels if not 0 <= channel < len(values)]
        if wrong or not len(channels):
            which = f"there is no channel {wrong[0]}" if wrong else "no channel was asked for"
            raise CnnlensError(f"{which}; the layer has {span(len(values))}")
        names = list(channels)
        values = values[names]
    lows, highs = extremes(values)
    whole = bool(np.isfinite(lows).all() and np.isfinite(highs).all())
    notes = [] if whole else broken_notes(values, "channel", names)
    dead = [name for name, low, high in zip(names, lows, highs, strict=True) if low == high == 0]
    if dead and values.ndim > 1:
        notes.append((f"{len(dead)} of {len(names)} are 0 everywhere: {few(dead)}", None))
    low, high = value_range(np.stack([lows, highs]) if whole else values, limits)
    said = f"{len(names)} of {total} channels" if channels is not None else ""
    if values.ndim == 1:
        return _bars(values, names, labels, title, [subtitle, said], notes, ax)
    if limits == "each":
        said = joined(said, "each channel stretched by itself")
        ranges = np.array([value_range(one[None], None) for one in values])
        starts, ends = ranges.T.reshape(2, -1, *[1] * (values.ndim - 1))
        values, low, high = (values - starts) / (ends - starts), 0.0, 1.0
    bar = None if limits == "each" else scale_of(ACTIVATIONS, low, high)
    if values.ndim == 2:
        return heat(
            values, ACTIVATIONS, low, high, ("position", "channel"), title, [subtitle, said], notes, bar, ax, names
        )
    depth = values.size // math.prod(values.shape[:1] + values.shape[-2:])
    if values.ndim == 4 and depth > 1:
        kept: list[int] = np.linspace(0, depth - 1, min(depth, _SLICES)).round().astype(int).tolist()
        values = values[:, kept]
        some = f"depth slices {few(kept, _SLICES)} of {depth}" if depth > _SLICES else f"{depth} depth slices"
        said = joined(said, f"{some} side by side")
    elif values.ndim == 4:
        values = values[:, 0]
    factor = _reduction(values.shape, columns)
    if factor > 1:
        values = shrink(values, factor, factor, "mean")
        said = joined(said, f"each pixel the mean of {factor} × {factor}")
    painted = paint(values, ACTIVATIONS, low, high)
    return grid(painted, title, [subtitle, said], notes, bar, ax, columns=columns, names=names)


def _reduction(shape: tuple[int, ...], columns: int | None) -> int:
    """By how much maps of ``(C, [D,] H, W)`` must shrink so that their grid still fits into one picture."""
    height, width = shape[-2], shape[-1] * (shape[1] if len(shape) == 4 else 1)
    wide = columns or columns_for(shape[0], tile_height=height, tile_width=width)
    needed = max(wide * width / 2000, math.ceil(shape[0] / wide) * height / 2000)
    return max(1, math.ceil(needed)) if needed > 1.2 else 1


def _bars(
    values: Floats,
    names: Sequence[int],
    labels: Sequence[str] | None,
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note],
    ax: Axes | None,
) -> Figure:
    """One bar a channel; with the numbers where there is room."""
    ax = sheet(1080, 420, ax=ax, title=title, subtitle=subtitle, notes=notes, left=70, bottom=62)
    count = len(values)
    shown = np.where(np.isfinite(values), values, 0)
    width = 0.72 if count <= 130 else 1.0
    edges = np.arange(count)[:, None] + np.array([-width / 2, width / 2])
    # Bars and gaps as one outline: a thousand channels are as quick as ten.
    steps = np.stack([shown, np.zeros_like(shown)], axis=1).ravel()[: 2 * count - 1]
    ax.stairs(steps, edges.ravel(), fill=True, color=_BAR, linewidth=0)
    for colour, bad in ((NAN, np.isnan(values)), (INFINITE, np.isinf(values))):
        for place in np.flatnonzero(bad):
            ax.axvspan(place - width / 2, place + width / 2, color=colour, linewidth=0)
    ax.axhline(0, color=RULE, linewidth=0.8)
    ax.set_xlim(-0.7, count - 0.3)
    low, high = value_range(shown[None], None)
    ax.set_ylim(low * 1.12, high * 1.12)
    if count <= 24:
        # As many digits as tell the largest: of 1.0 and 0.0000003 nobody wants to read the second.
        decimals = int(np.clip(2 - math.floor(math.log10(max(-low, high))), 0, 12))
        for place, value in enumerate(shown.tolist()):
            digits = f"{value:.{decimals}f}" if max(-low, high) < 1e5 else number(value)
            up = value >= 0
            ax.annotate(
                digits.replace("-", "−"), (place, value), (0, 3 if up else -3), textcoords="offset points",
                ha="center", va="bottom" if up else "top", fontsize=7, color=PALE, family="DejaVu Sans",
            )  # fmt: skip
    dress_plot(ax, "" if labels else "channel", "activation")
    ticks = places(count, 1080) if labels is None else range(count)
    longest = max(4, int(1080 / count / 9))
    texts = [plain(names[place] if labels is None else labels[names[place]], longest) for place in ticks]
    ax.set_xticks(list(ticks), [text for text, _ in texts], parse_math=False)
    for tick, (_, families) in zip(ax.get_xticklabels(), texts, strict=True):
        tick.set_fontfamily(families)
    return cast(Figure, ax.get_figure(root=True))
