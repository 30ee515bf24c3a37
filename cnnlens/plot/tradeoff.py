"""Speed against exactness: a row a configuration, the exact ones first, and on it a point for each speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from cnnlens.errors import CnnlensError
from cnnlens.plot.grid import dress_plot
from cnnlens.plot.sheet import INK, PALE, RULE, SMALL, plain, put, sheet
from cnnlens.plot.values import Note

__all__ = ["Speed", "Track", "speed_against_bits"]

_COLOURS = ("#2166ac", "#e08214", "#4d9221", "#762a83", "#7d858f", "#01665e", "#8c510a")
_WRONG = "#b2182b"
_WIDTH, _ROW, _HEAD, _BOTTOM = 900, 38, 30, 62
_CHARACTER = 9.4  # pixels of one at the size of labels
_BITS = 84  # pixels of the column of bits
_BESIDE = 22  # pixels between two points, for both to have their label
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
    tracks: Sequence[Track], *, title: str = "speed against exactness", subtitle: Sequence[str] = ()
) -> Figure:
    """Draw how fast each of several was and how exact: the most exact group first, in each the fastest first.

    Args:
        tracks: What was measured, at least one.
        title, subtitle: As in `kernels`.

    Returns:
        The figure: images a second to the right, by powers of ten, with intervals; names and bits at the left.

    Raises:
        CnnlensError: There is nothing to draw.

    >>> from cnnlens.plot.tradeoff import Speed, Track, speed_against_bits
    >>> speeds = [Speed("1", 210.0, 200.0, 230.0), Speed("32", 900.0, 880.0, 930.0)]
    >>> figure = speed_against_bits([Track("jax strict", "jax", "float32", 22.8, speeds)])
    >>> cnnlens.plot.save(figure, "speed.png").name
    'speed.png'
    """
    tracks = [track for track in tracks if track.speeds]
    if not tracks:
        raise CnnlensError("nothing was both timed and audited, so there is nothing to draw")
    groups = _grouped(tracks)
    series = list(dict.fromkeys(track.series for track in tracks))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(series)}
    notes: list[Note] = [(name, colours[name]) for name in series] if len(series) > 1 else []
    left = int(min(max(len(track.name) for track in tracks), 44) * _CHARACTER) + _BITS + 24
    height = sum(_HEAD + _ROW * len(group) for group in groups)
    ax = sheet(
        _WIDTH, height, ax=None, title=title, subtitle=subtitle, notes=notes, left=left, bottom=_BOTTOM, top=16
    )  # fmt: skip
    dress_plot(ax, "images / s", "")
    ax.set_xscale("log")
    ax.set_ylim(height, 0)
    ax.set_yticks([])
    low = min(one.low for track in tracks for one in track.speeds) / 1.15
    high = max(one.high for track in tracks for one in track.speeds) * 1.15
    ax.set_xlim(low, high)
    _dress_speeds(ax, low, high)
    top = 0
    for group in groups:
        ax.axhline(top, color=RULE, linewidth=0.8, clip_on=False, zorder=1)
        put(ax, group[0].group, at=(0, 1 - top / height), shift=(-left + 2, -12), size=SMALL,
            color=_WRONG if group[0].wrong else INK, fontweight="bold", va="center")  # fmt: skip
        top += _HEAD
        for track in group:
            _draw(ax, track, colours[track.series], top + _ROW / 2, height, math.log(high / low))
            top += _ROW
    put(ax, "bits", at=(0, 1), shift=(-14, -12), size=SMALL, ha="right", va="center")
    return cast(Figure, ax.get_figure(root=True))


def _grouped(tracks: Sequence[Track]) -> list[list[Track]]:
    """The rows by group: the group with the most bits first, what is wrong last; in each the fastest first."""
    groups: dict[tuple[bool, str], list[Track]] = {}
    for track in tracks:
        groups.setdefault((track.wrong, track.group), []).append(track)
    ordered = sorted(groups, key=lambda key: (key[0], -max(track.bits for track in groups[key])))
    return [sorted(groups[key], key=lambda track: -max(one.speed for one in track.speeds)) for key in ordered]


def _dress_speeds(ax: Axes, low: float, high: float) -> None:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in decades for step in _STEPS]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) > 10:
        inside = [tick for tick in inside if f"{tick:e}"[0] == "1"]
    ax.xaxis.set_major_locator(FixedLocator(inside))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{tick:,.0f}" if tick >= 1 else f"{tick:g}" for tick in inside]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.grid(visible=True, color="#eceef1", linewidth=0.8)
    ax.yaxis.grid(visible=False)


def _draw(ax: Axes, track: Track, colour: str, y: float, height: float, width: float) -> None:
    """One row: its name and bits at the left, its points joined."""
    at = (0.0, 1 - y / height)
    put(ax, track.name, at=at, shift=(-_BITS - 14, 0), size=SMALL, color=INK, ha="right", va="center", limit=44)
    bits = "all" if math.isinf(track.bits) else f"{max(track.bits, 0.0):.1f}"
    put(ax, bits, at=at, shift=(-14, 0), size=SMALL, color=_WRONG if track.wrong else INK, ha="right", va="center")
    line = sorted(track.speeds, key=lambda one: one.speed)
    speeds = [one.speed for one in line]
    errors = [[one.speed - one.low for one in line], [one.high - one.speed for one in line]]
    ax.plot(speeds, [y] * len(line), color=colour, linewidth=1.0, alpha=0.45, zorder=2)
    ax.errorbar(speeds, [y] * len(line), xerr=errors, fmt="none", ecolor=colour, elinewidth=1.3, capsize=3.0, zorder=3)
    ax.plot(
        speeds, [y] * len(line), linestyle="none", marker="x" if track.wrong else "o", markersize=6.5, zorder=4,
        markerfacecolor=colour, markeredgecolor=_WRONG if track.wrong else "white", markeredgewidth=0.8,
    )  # fmt: skip
    drawn = -math.inf
    for index, one in enumerate(line):
        x = math.log(one.speed) / width * _WIDTH
        next_x = math.log(line[-1].speed) / width * _WIDTH
        if x - drawn < _BESIDE or (index < len(line) - 1 and next_x - x < _BESIDE):
            continue  # its neighbour's label, which is nearer to an end, would be under it too
        drawn = x
        shown, families = plain(one.label, 12)
        ax.annotate(
            shown, (one.speed, y), (0, -5.5), textcoords="offset points", ha="center", va="top", fontsize=6.0,
            color=PALE, family=families, parse_math=False, zorder=5,
        )  # fmt: skip
