"""Speed against exactness: a row a configuration, the exact ones first, and on it a point for each speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnlens.errors import CnnlensError
from cnnlens.plot.front import Size, typed
from cnnlens.plot.sheet import INK, PALE, RULE, SMALL, placed, plain, room, sheet

__all__ = ["Speed", "Track", "speed_against_bits"]

_COLOURS = ("#2166ac", "#e08214", "#4d9221", "#762a83", "#7d858f", "#01665e", "#8c510a")
_WRONG, _GRID = "#b2182b", "#eceef1"
_SPEEDS, _ROW, _HEAD, _FOOT = 860, 38, 34, 14  # pixels: the width of speeds, a row, what is over and under a group's
_CHARACTER, _BITS, _GAP = 9.4, 64, 36  # pixels of a character of a name, of the column of bits, and beside the speeds
_BESIDE = 26  # pixels between two points, for both to have their label
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Speed:
    """Holds a point: what stands under it, images a second, and the interval that these are known to be in."""

    label: str
    speed: float
    low: float
    high: float


@dataclass(frozen=True)
class Track:
    """Holds a row of `speed_against_bits`.

    Attributes:
        name: What was measured, such as ``keras-jax native``.
        series: What its colour says, such as the backend.
        group: How exact that is, in a word such as ``float32``: rows of a group stand together, under it.
        bits: Effective bits; infinite where nothing is rounded.
        speeds: At least one, such as one a batch.
        wrong: Whether no rounding explains the errors, so that these are speeds of a wrong answer.
    """

    name: str
    series: str
    group: str
    bits: float
    speeds: Sequence[Speed]
    wrong: bool = False


def speed_against_bits(
    tracks: Sequence[Track],
    *about: str,
    title: str | None = None,
    subtitle: str | None = None,
    size: Size = None,
    dpi: float | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw how fast each of several was and how exact: the most exact group first, in each the fastest first.

    Args:
        tracks: What was measured, at least one.
        about: Lines under the title, where no ``subtitle`` is given.
        title, subtitle, size, dpi, ax: As in `kernels`.

    Returns:
        The figure, or ``ax``: images a second to the right, by powers of ten, with intervals; names and bits at the
        left.

    Raises:
        CnnlensError: There is nothing to draw.

    >>> import cnnlens
    >>> from cnnlens.plot.tradeoff import Speed, Track, speed_against_bits
    >>> speeds = [Speed("1", 210.0, 200.0, 230.0), Speed("32", 900.0, 880.0, 930.0)]
    >>> figure = speed_against_bits([Track("jax strict", "jax", "float32", 22.8, speeds)])
    >>> cnnlens.plot.save(figure, "speed.png").name
    'speed.png'
    """
    typed({"title": title, "subtitle": subtitle, "size": size, "dpi": dpi, "ax": ax})
    said = about if subtitle is None else (subtitle,)
    drawn = partial(_drawn, tracks, "speed against exactness" if title is None else title, said)
    return placed(drawn, ax=ax, size=size, dpi=dpi)


def _drawn(tracks: Sequence[Track], title: str, subtitle: Sequence[str], ax: Axes | None) -> Figure:
    tracks = [track for track in tracks if track.speeds]
    if not tracks:
        raise CnnlensError("nothing was both timed and audited, so there is nothing to draw")
    groups = _grouped(tracks)
    series = list(dict.fromkeys(track.series for track in tracks))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(series)}
    bits = int(min(max(len(track.name) for track in tracks), 44) * _CHARACTER) + _BITS  # where their column ends
    left, width = bits + _GAP, bits + 2 * _GAP + _SPEEDS
    height = sum(_HEAD + _ROW * len(group) + _FOOT for group in groups)
    low = min(one.low for track in tracks for one in track.speeds)
    high = max(max(one.high for track in tracks for one in track.speeds), low * 1.01)

    def place(speed: float) -> float:
        return left + _SPEEDS * math.log(speed / low) / math.log(high / low)

    ax = sheet(width, height, ax=ax, title=title, subtitle=subtitle, top=14, bottom=52)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_axis_off()
    for tick in _ticks(low, high):
        ax.plot([place(tick)] * 2, [0, height], color=_GRID, linewidth=0.8, zorder=0)
        _write(ax, f"{tick:,.0f}" if tick >= 1 else f"{tick:g}", place(tick), height + 16, ha="center")
    _write(ax, "images / s", left + _SPEEDS / 2, height + 42, size=8.5, ha="center")
    _write(ax, "bits", bits, _HEAD / 2, ha="right")
    top = 0
    for group in groups:
        ax.plot([0, width], [top, top], color=RULE, linewidth=0.8, clip_on=False, zorder=1)
        _write(ax, group[0].group, 0, top + _HEAD / 2, _WRONG if group[0].wrong else INK, fontweight="bold")
        top += _HEAD
        for track in group:
            ink = _WRONG if track.wrong else INK
            _write(ax, track.name, 0, top + _ROW / 2, ink, limit=44)
            shown = "all" if math.isinf(track.bits) else f"{max(track.bits, 0.0):.1f}"
            _write(ax, shown, bits, top + _ROW / 2, ink, ha="right")
            _draw(ax, track, colours[track.series], top + _ROW / 2, place)
            top += _ROW
        top += _FOOT
    ax.plot([0, width], [height, height], color=RULE, linewidth=0.8, clip_on=False, zorder=1)
    return cast(Figure, ax.get_figure(root=True))


def _grouped(tracks: Sequence[Track]) -> list[list[Track]]:
    """The rows by group: the group with the most bits first, what is wrong last; in each the fastest first."""
    groups: dict[tuple[bool, str], list[Track]] = {}
    for track in tracks:
        groups.setdefault((track.wrong, track.group), []).append(track)
    ordered = sorted(groups, key=lambda key: (key[0], -max(track.bits for track in groups[key])))
    return [sorted(groups[key], key=lambda track: -max(one.speed for one in track.speeds)) for key in ordered]


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [step * 10.0**power for power in decades for step in _STEPS if low <= step * 10.0**power <= high]
    return inside if len(inside) <= 10 else [tick for tick in inside if f"{tick:e}"[0] == "1"]


def _draw(ax: Axes, track: Track, colour: str, y: float, place: Callable[[float], float]) -> None:
    """The points of a row with their intervals, joined; under each its label where there is room for it."""
    line = sorted(track.speeds, key=lambda one: one.speed)
    places = [place(one.speed) for one in line]
    ax.plot([places[0], places[-1]], [y, y], color=colour, linewidth=1.0, alpha=0.45, zorder=2)
    for one, x in zip(line, places, strict=True):
        ends = place(one.low), place(one.high)
        ax.plot(ends, [y, y], color=colour, linewidth=2.6, alpha=0.55, solid_capstyle="butt", zorder=3)
        ax.plot([x], [y], color=colour, marker="x" if track.wrong else "o", markersize=6.5, zorder=4,
                markeredgecolor=_WRONG if track.wrong else colour, markeredgewidth=1.6 * track.wrong)  # fmt: skip
    labelled = -math.inf
    for index, (one, x) in enumerate(zip(line, places, strict=True)):
        if x - labelled < _BESIDE or (index < len(line) - 1 and places[-1] - x < _BESIDE):
            continue  # it would touch its neighbour's, which is nearer to an end
        labelled = x
        _write(ax, one.label, x, y + 18, size=6.0, ha="center", limit=12)


def _write(
    ax: Axes, text: str, x: float, y: float, color: str = PALE, size: float = SMALL, limit: int = 60, **how: Any
) -> None:
    shown, families = plain(text, limit)
    smaller = min(room(ax)[0] / (ax.get_xlim()[1] - ax.get_xlim()[0]), 1.0)  # in the caller's axes
    ax.text(
        x, y, shown, fontsize=smaller * size, color=color, va="center_baseline", family=families, parse_math=False,
        usetex=False, clip_on=False, **how,
    )  # fmt: skip
