"""Feature maps as pictures: a grid of maps, rows of signals, or bars where a layer gives one number a channel.

Each map has its own range of colours, and says its largest value: with one range for all, the loudest of 64 maps leaves
most others dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.markers import CARETDOWNBASE, CARETUPBASE
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import ACTIVATIONS, INFINITE, NAN, WEIGHTS, colour_map, paint, scale_of
from cnnlens.plot.grid import clipped_note, dress_plot, grid, heat, places, unmarked
from cnnlens.plot.sheet import DPI, INK, PALE, RULE, families, plain, room, sheet
from cnnlens.plot.tiles import columns_for, shrink
from cnnlens.plot.values import (
    Floats,
    Note,
    broken_notes,
    chosen,
    extremes,
    few,
    joined,
    limits_of,
    normalised,
    number,
    own_ends,
    real_numbers,
)
from cnnlens.text import printable

__all__ = ["AXES", "feature_maps", "one_example"]

_BAR = "#6b2f8a"
_ARROW = 4  # pixels: a narrower bar that goes on beyond an end has no arrow
_OUTSIDE = 42  # pixels that arrow and number of a bar take outside the plot
_SLICES = 8  # of a volume's depth that are drawn
_MOST_NAMED = 40  # bars with a class name each; of more, the largest are drawn
_LARGEST_NAMED = 20

AXES = {1: "C", 2: "NC", 3: "CHW", 4: "NCHW", 5: "NCDHW"}
"""How the axes of feature maps are read where nobody says it: by how many there are."""

_KNOWN_AXES = ("C", "CL", "CHW", "CDHW", "NC", "NCL", "NCHW", "NCDHW")


def one_example(array: Any, axes: str | None, index: int | None) -> tuple[Any, str]:
    """Pick the example that is drawn: ``(C, *spatial)`` of it, and how the axes were read, in words.

    Args:
        array: Anything with axes; of one that is read from disk when it is sliced, only the example is read.
        axes: Letters for its axes, such as ``"NCHW"`` or ``"CDHW"``; None reads them as `AXES` says.
        index: Which example, where there is an axis N; None where there is one alone.

    Raises:
        CnnlensError: The axes can be read in two ways, or do not fit; there are several examples and none is chosen.
    """
    if not hasattr(array, "shape"):
        array = np.asarray(array)
    shape = tuple(array.shape)
    if axes is not None:
        axes = str(axes).upper()
        if axes not in _KNOWN_AXES or len(axes) != len(shape):
            fitting = " or ".join(f"'{one}'" for one in _KNOWN_AXES if len(one) == len(shape)) or "of no such array"
            raise CnnlensError(f"axes '{printable(axes)}' do not fit feature maps of shape {shape}; axes are {fitting}")
    elif len(shape) not in AXES:
        raise CnnlensError(f"feature maps: an array of 1 to 5 axes is needed, not of shape {shape}")
    elif len(shape) == 3 and shape[0] == 1 and shape[1] > 1:
        raise CnnlensError(
            f"feature maps of shape {shape} may be one map, axes='CHW', or {shape[1]} signals of one example, "
            "axes='NCL'; say which"
        )
    axes = axes or AXES[len(shape)]
    if axes[0] != "N":
        if index is not None:
            way = f"'{AXES[len(shape) + 1]}'" if len(shape) < 5 else "those with N"
            raise CnnlensError(
                f"index {index}: {shape} is read as {', '.join(axes)}, one example; axes with N are {way}"
            )
        return array, ""
    count = shape[0]
    said = f"{shape} read as {', '.join(axes)}"
    if index is None and count != 1:
        raise CnnlensError(
            f"{said}: {count} examples, and one is drawn; name it with index 0 to {count - 1}"
            + (", or say axes='CDHW' for the maps of one volume" if len(shape) == 4 else "")
            + (", or say axes='CL' for the signals of one example" if len(shape) == 2 else "")
        )
    place = 0 if index is None else index
    if not -count <= place < count:
        raise CnnlensError(f"{said}: there is no example {place}; there are 0 to {count - 1}")
    return array[place % count], f"example {place % count} of {said}" if count > 1 else said


def feature_maps(
    array: ArrayLike,
    *,
    channels: Sequence[int] | str | None = None,
    labels: Sequence[str] | None = None,
    limits: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | Colormap | None = None,
    columns: int | None = None,
    title: str | None = None,
    subtitle: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw the feature maps ``(C, *spatial)`` of one example as ``plot.feature_maps`` says."""
    values = real_numbers(array, "feature maps", 1, 4)
    title = title if title is not None else "feature maps" if values.ndim > 1 else "activations"
    del array  # the caller's last hold on large maps may be this one: they go as soon as they are shrunk
    total = len(values)
    if columns is not None and columns < 1:
        raise CnnlensError(f"columns: a grid needs at least one, not {columns}")
    if columns is not None and values.ndim < 3:
        what = "bars" if values.ndim == 1 else "rows"
        raise CnnlensError(f"columns: one number or signal a channel is drawn as {what}, without tiles; leave it out")
    if labels is not None:
        labels = [str(one) for one in labels] if not isinstance(labels, str) else [labels]
        if values.ndim > 1:
            raise CnnlensError(f"labels name channels of one number each, and these are maps of {values.shape[1:]}")
        if len(labels) != total:
            raise CnnlensError(f"{len(labels)} labels do not fit {total} channels; give one for each")
    names = chosen(channels, total)
    said = f"{len(names)} of {total} channels" if channels is not None else ""
    if labels is not None and channels is None and total > _MOST_NAMED:
        names = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:_LARGEST_NAMED].tolist()
        said = f"the {_LARGEST_NAMED} largest of {total:,} channels"
    if len(names) != total or channels is not None:
        values = values[names]
    lows, highs = extremes(values)
    whole = bool(np.isfinite(values).all()) if values.ndim == 1 else _whole(values)
    notes = [] if whole else broken_notes(values, "channel", names)
    if values.ndim == 1:
        if limits == "each" or cmap is not None:
            raise CnnlensError(
                f"{'cmap' if cmap is not None else 'limits'}: one number a channel is drawn as a bar; "
                "leave it out, or give vmin and vmax"
            )
        found = limits_of(values[None], weights=False, limits="shared", vmin=vmin, vmax=vmax)
        low, high = float(found.low), float(found.high)
        if vmin is None and vmax is None:  # colours are even about 0, a plot need not be
            low, high = min(float(lows.min()), 0.0), max(float(highs.max()), 0.0)
            high = high if high > low else 1.0
        mirrored = found.signed and (vmin is not None or vmax is not None)
        asked = vmin is not None or mirrored, vmax is not None or mirrored
        return _bars(values, names, labels, (low, high), asked, title, [subtitle, said], notes, ax)
    level = [(name, low) for name, low, high in zip(names, lows, highs, strict=True) if low == high]
    if not whole:  # what holds no number is not 0
        broken = {name for name, one in zip(names, values, strict=True) if not np.isfinite(one).all()}
        level = [(name, low) for name, low in level if name not in broken]
    dead = [name for name, low in level if low == 0]
    if dead:
        notes.append((f"{len(dead)} of {len(names)} are 0 everywhere: {few(dead)}", None))
    constant = [name for name, low in level if low != 0]
    if constant and values[0].size > 1:
        notes.append((f"{len(constant)} of {len(names)} are the same everywhere: {few(constant)}", None))
    found = limits_of(values, weights=False, limits=limits, vmin=vmin, vmax=vmax, ends=(lows, highs))
    colours = colour_map(cmap, WEIGHTS if found.signed else ACTIVATIONS)
    if found.clipped.any():
        some = [name for name, one in zip(names, found.clipped.tolist(), strict=True) if one]
        notes.append((f"values beyond the ends of the colours in {len(some)} of {len(names)}: {few(some)}", None))
    largest = None
    if found.each:
        largest = (np.where(-lows > highs, lows, highs) if found.signed else highs).tolist()
        for place in () if whole else range(len(values)):
            if not np.isfinite(values[place]).any():
                largest[place] = float(values[place].max())
    if values.ndim == 2:
        shown, low, high = normalised(values, found)
        if found.each:
            said = joined(said, f"{found.said}, which stands at its right")
        return heat(
            shown, colours, low, high, ("position", "channel"), title, [subtitle, said], notes,
            scale_of(colours, low, high, found.extend), ax, row_names=names, largest=largest,
            bar_ticks=own_ends(found),
        )  # fmt: skip
    depth = values.size // math.prod(values.shape[:1] + values.shape[-2:])
    if values.ndim == 4 and depth > 1:
        kept: list[int] = np.linspace(0, depth - 1, min(depth, _SLICES)).round().astype(int).tolist()
        values = values[:, kept]
        some_slices = f"depth slices {few(kept, _SLICES)} of {depth}" if depth > _SLICES else f"{depth} depth slices"
        said = joined(said, f"{some_slices} side by side")
    elif values.ndim == 4:
        values = values[:, 0]
    factor = _reduction(values.shape, columns)
    if factor > 1:
        values = shrink(values, factor, factor, "mean")
        said = joined(said, f"each pixel the mean of {factor} × {factor}")
    painted = np.empty((*values.shape, 3), np.uint8)
    starts, ends = np.broadcast_to(found.low, len(values)).tolist(), np.broadcast_to(found.high, len(values)).tolist()
    for place, (low, high) in enumerate(zip(starts, ends, strict=True)):
        painted[place] = paint(values[place], colours, low, high)
    low, high = (-1.0 if found.signed else 0.0, 1.0) if found.each else (float(found.low), float(found.high))
    return grid(
        painted, title, [subtitle, said, found.said], notes, scale_of(colours, low, high, found.extend), ax,
        columns=columns, names=names, largest=largest, bar_ticks=own_ends(found),
    )  # fmt: skip


def _whole(values: Floats) -> bool:
    """Whether all is finite, found without a copy of the whole."""
    return all(bool(np.isfinite(one.min()) and np.isfinite(one.max())) for one in values)


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
    ends: tuple[float, float],
    asked: tuple[bool, bool],
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note],
    ax: Axes | None,
) -> Figure:
    """One bar a channel; with the numbers where there is room.

    Args:
        asked: Which of the ``ends`` were asked for: the plot ends there, and bars that go on end in an arrow.
    """
    count = len(values)
    low, high = ends
    shown = np.where(np.isfinite(values), values, 0)
    bad = ~np.isfinite(values)
    beyond = np.where(bad, 0, (values > high).astype(np.int8) - (values < low)).astype(np.int8)
    across = 1080 if ax is None else max(room(ax)[0] - 110, 1)
    ticks = places(count, across) if labels is None else range(count)
    longest = max(4, int(across / count / 10))
    texts = [str(names[place]) if labels is None else labels[names[place]] for place in ticks]
    slanted = labels is not None and max(map(len, texts)) > longest
    shown_texts = [plain(text, 24 if slanted else longest) for text in texts]
    room_below = 34 + int(max(len(text) for text, _ in shown_texts) * 6.5) if slanted else 62
    width = 0.72 if count <= 130 else 1.0
    wide = across / count * width  # pixels of a bar
    if beyond.any():
        note = clipped_note(beyond, "channels", names, "the ends")
        notes = [*notes, *(unmarked([note], beyond if wide >= _ARROW else None))]
    # What stands over or under a bar that goes to an end which was asked for stands outside.
    over = _OUTSIDE * int(asked[1] and bool((shown > 0.94 * high).any()))
    under = _OUTSIDE * int(asked[0] and bool((beyond < 0).any() or (shown < min(0.94 * low, 0.0)).any()))
    ax = sheet(
        1080, 420, ax=ax, title=title, subtitle=subtitle, notes=notes, left=90, right=20, top=over,
        bottom=room_below + under, stretch=True,
    )  # fmt: skip
    edges = np.arange(count)[:, None] + np.array([-width / 2, width / 2])
    # Bars and gaps as one outline: a thousand channels are as quick as ten.
    steps = np.stack([shown, np.zeros_like(shown)], axis=1).ravel()[: 2 * count - 1]
    ax.stairs(steps, edges.ravel(), fill=True, color=_BAR, linewidth=0)
    for colour, some in ((NAN, np.isnan(values)), (INFINITE, np.isinf(values))):
        for place in np.flatnonzero(some):
            ax.axvspan(place - width / 2, place + width / 2, color=colour, linewidth=0)
    ax.axhline(0, color=RULE, linewidth=0.8)
    ax.set_xlim(-0.7, count - 0.3)
    ax.set_ylim(low if asked[0] else low * 1.12, high if asked[1] else high * 1.12)
    arrow = min(wide * 72 / DPI, 9.0)  # points
    for sign, end, marker in ((1, high, CARETUPBASE), (-1, low, CARETDOWNBASE)):
        some = np.flatnonzero(beyond == sign)
        if len(some) and wide >= _ARROW:
            ax.plot(
                some, np.full(len(some), end), linestyle="none", marker=marker, markersize=arrow, color=_BAR,
                markeredgewidth=0, clip_on=False,
            )  # fmt: skip
    if across >= 44 * count:
        texts_over = [
            number(value) if broken else text
            for value, broken, text in zip(values.tolist(), bad.tolist(), digits(shown), strict=True)
        ]
        for place, (value, text) in enumerate(zip(shown.tolist(), texts_over, strict=True)):
            up = beyond[place] > 0 or (beyond[place] == 0 and value >= 0)
            away = 3 + (arrow * 0.75 if beyond[place] else 0)
            ax.annotate(
                text, (place, min(max(value, low), high)), (0, away if up else -away), textcoords="offset points",
                ha="center", va="bottom" if up else "top", fontsize=7, color=INK if bad[place] else PALE,
                family=families(),
            )  # fmt: skip
    dress_plot(ax, "" if labels else "channel", "activation")
    ax.tick_params(axis="x", pad=3 + under * 72 / DPI)
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    ax.set_xticks(list(ticks), [text for text, _ in shown_texts], parse_math=False, **turned)
    for tick, (_, fonts) in zip(ax.get_xticklabels(), shown_texts, strict=True):
        tick.set_fontfamily(fonts)
    return cast(Figure, ax.get_figure(root=True))


def digits(values: NDArray[np.floating[Any]]) -> list[str]:
    """Write numbers with as many decimals as tell the largest, and none as 0 or 1 that is less or more.

    >>> import numpy as np
    >>> digits(np.array([0.99987, 0.00013, 0.0, 1.0]))
    ['>0.999', '<0.001', '0', '1']
    >>> digits(np.array([12.0, -0.003]))
    ['12.0', '>−0.1']
    """
    most = float(np.abs(values).max()) or 1.0
    if not 1e-12 < most < 1e5:
        return [number(value) for value in values.tolist()]
    decimals = int(np.clip(2 - math.floor(math.log10(most)), 0, 14))
    decimals = 3 if most == 1 else decimals
    least = 10.0**-decimals
    texts: list[str] = []
    for value in values.tolist():
        text = f"{value:.{decimals}f}"
        if value in (0.0, 1.0, -1.0):
            text = f"{value:.0f}".replace("-0", "0")
        elif float(text) == 0:
            text = f"<{least:.{decimals}f}" if value > 0 else f">-{least:.{decimals}f}"
        elif abs(value) < 1 and abs(float(text)) >= 1:
            end = f"{1 - least:.{decimals}f}"
            text = f">{end}" if value > 0 else f"<-{end}"
        texts.append(text.replace("-", "−"))
    return texts
