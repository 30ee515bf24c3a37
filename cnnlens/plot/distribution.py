"""How weights are distributed, before and after training, with the law that they were drawn from.

Densities make two arrays of different size comparable, and fit the law; counts are what the course draws. Where a law
ends, as a uniform one does, bins end too: no bar stands half in and half out of what can be drawn.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError
from cnnlens.network.kernel import statistics
from cnnlens.plot.colours import MOST
from cnnlens.plot.grid import MOST_PIXELS, dress_plot
from cnnlens.plot.sheet import INK, PALE, RULE, families, plain, room, sheet
from cnnlens.plot.tiles import columns_for
from cnnlens.plot.values import Note, joined, number, real_numbers
from cnnlens.text import printable

__all__ = ["MINUS", "Binned", "Density", "bin_values", "finite_values", "histogram", "histograms", "law_curve"]

_PANEL, _BETWEEN, _HEAD, _BODY, _FOOT = 230, 30, 40, 92, 40  # pixels of one of many histograms
_BROKEN = "#c4261d"
MINUS = re.compile(r"(?<![\w)])-(?=[\d.])")  # of a number
_SERIES = ("#2166ac", "#7d858f", "#e08214", "#4d9221")  # the trained weights first


class Density(Protocol):
    """Gives the distribution that an initializer draws from, as `cnnlens.network.untrained.keras.density` returns it.

    Where it has them, ``parameters`` (text) and ``atoms`` (values with a probability of their own) are drawn too.

    >>> import cnnlens.sample
    >>> from cnnlens.network.untrained.keras import density
    >>> kernel = cnnlens.open(cnnlens.sample.MODEL)["conv2d"].kernel
    >>> law = density("glorot_uniform", kernel.to("keras").shape)
    >>> law.name, [round(end, 4) for end in law.support]
    ('uniform', [-0.1421, 0.1421])
    >>> figure = cnnlens.plot.histogram(kernel.array, density=law)
    """

    @property
    def name(self) -> str: ...
    @property
    def support(self) -> tuple[float, float]: ...
    def pdf(self, x: NDArray[np.float64], /) -> NDArray[np.float64]: ...


class Binned(NamedTuple):
    """Says how many of an array's finite values lie in each bin.

    Attributes:
        counts: ``(B,)`` integers, none where no value is finite.
        edges: ``(B + 1,)``, the last bin closed on both sides, as ``numpy.histogram`` has it.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


_FEWEST_IN_LAW = 6  # bins between the ends of a law: fewer do not show its shape
_MOST_OUTSIDE = 240  # on each side of it
_MOST_BINS = 10_000


def bin_values(
    arrays: Mapping[str, NDArray[np.float64]], density: Density | None = None, bins: int | None = None
) -> dict[str, Binned]:
    """Count the finite values of each array in bins.

    Args:
        arrays: Finite numbers by name, one axis.
        density: The law that the last array was drawn from. Where its support is finite, bins end where it does.
        bins: So many for each array, over its own range (over the law's, of the one that was drawn from it): with one
            array that is ``numpy.histogram(array, bins)``. None takes one width for all: twice the cube root of the
            number of values, 20 to 120 bins, and at least six between the ends of the law.

    >>> import numpy as np
    >>> from cnnlens.plot.distribution import bin_values
    >>> bin_values({"": np.array([0.0, 1.0, 1.0, 2.0])}, bins=2)[""].counts.tolist()
    [1, 3]
    """
    if bins is not None and not 1 <= bins <= _MOST_BINS:
        raise CnnlensError(f"bins must be from 1 to {_MOST_BINS:,}, not {bins}")
    law = density.support if density is not None and all(map(math.isfinite, density.support)) else None
    if law is not None and not law[1] - law[0] > 1e-9 * max(map(abs, law)):
        law = None
    full = {name: one for name, one in arrays.items() if len(one)}
    found = {name: Binned(np.zeros(0, np.int64), np.zeros(0)) for name in arrays}
    if not full:
        return found
    last = list(arrays)[-1]
    if bins is not None:
        for name, one in full.items():
            inside = law is not None and name == last and len(arrays) > 1
            ends = law if inside and law[0] <= one.min() and one.max() <= law[1] else None  # pyright: ignore
            low, high = ends if ends is not None else (float(one.min()), float(one.max()))
            if high - low <= max(1e-9 * max(abs(low), abs(high)), 1 / MOST):
                low, high = low - 0.5, high + 0.5
            counts, edges = np.histogram(one, bins, (low, high))
            found[name] = Binned(counts, edges)
        return found
    low = min(float(one.min()) for one in full.values())
    high = max(float(one.max()) for one in full.values())
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1 / MOST):
        low, high = low - max(0.5 * abs(low), 0.5), high + max(0.5 * abs(high), 0.5)
    wanted = int(np.clip(2 * max(map(len, full.values())) ** (1 / 3), 20, 120))
    edges = np.linspace(low, high, wanted + 1)
    if law is not None and low < law[1] and high > law[0]:
        width = law[1] - law[0]
        inside = max(_FEWEST_IN_LAW, round(width / (high - low) * wanted))
        step = width / inside
        before, behind = (max(0, math.ceil(away / step - 1e-6)) for away in (law[0] - low, high - law[1]))
        # Far outside the law, as many bins of its width would be more than can be seen: those there are wider.
        before, behind = min(before, _MOST_OUTSIDE), min(behind, _MOST_OUTSIDE)
        ends = min(low, law[0] - step * before), max(high, law[1] + step * behind)
        edges = np.concatenate([
            np.linspace(ends[0], law[0], before + 1)[:-1], np.linspace(*law, inside + 1),
            np.linspace(law[1], ends[1], behind + 1)[1:],
        ])  # fmt: skip
    for name, one in full.items():
        found[name] = Binned(np.histogram(one, edges)[0], edges.astype(np.float64))
    return found


def finite_values(array: ArrayLike, name: str) -> tuple[NDArray[np.float64], int]:
    """Give the finite numbers of an array as one axis, and how many there are in all."""
    values = real_numbers(array, name, 0, 99)
    return np.clip(values[np.isfinite(values)].astype(np.float64), -MOST, MOST), values.size


def _beyond(finite: NDArray[np.float64]) -> list[str]:
    """Of what ``finite_values`` gave, that some is larger than it is drawn."""
    beyond = int((np.abs(finite) >= MOST).sum())
    return [f"{beyond:,} of {len(finite):,} values are ±{MOST:g} or beyond, drawn there"] if beyond else []


def histogram(
    array: ArrayLike | Mapping[str, ArrayLike],
    *,
    density: Density | None = None,
    bins: int | None = None,
    counts: bool = False,
    title: str = "weights",
    subtitle: str = "",
    ax: Axes | None = None,
    binned: dict[str, Binned] | None = None,
) -> Figure:
    """Draw how values are distributed as ``plot.histogram`` says; ``binned`` takes what was counted."""
    named = dict(array) if isinstance(array, Mapping) else {"": cast(ArrayLike, array)}
    if not named:
        raise CnnlensError("there are no weights to draw a histogram of")
    finite: dict[str, NDArray[np.float64]] = {}
    notes: list[Note] = []
    for name, one in named.items():
        finite[name], size = finite_values(one, name or "weights")
        notes += [(joined(name, note, ": "), None) for note in _beyond(finite[name])]
        if size > len(finite[name]):
            broken = f"{size - len(finite[name]):,} of {size:,} values are NaN or infinite, left out"
            notes.append((joined(name, broken, ": "), None))
    binned = {} if binned is None else binned
    binned.update(bin_values(finite, density, bins))
    drawn = {name: one for name, one in finite.items() if len(one)}
    if not drawn:
        raise CnnlensError("no value is finite, so there is no histogram to draw")

    widest = max(binned[name].edges[-1] for name in drawn), min(binned[name].edges[0] for name in drawn)
    low, high = float(widest[1]), float(widest[0])
    span = high - low
    left, right = low - 0.03 * span, high + 0.03 * span
    bars: list[tuple[str, NDArray[np.float64], NDArray[np.float64], str]] = []
    lines: list[tuple[float, str, str]] = []
    means: list[tuple[float, str]] = []
    top = 0.0
    for index, (name, one) in enumerate(drawn.items()):
        numbers = statistics(np.asarray(named[name]))
        colour = _SERIES[index % len(_SERIES)]
        label = printable(name)
        if one.min() == one.max() and not counts:  # as a bar it would be so high that nothing else could be seen
            said = f"all {len(one):,} values are {number(float(one[0]))}"
            lines.append((float(one[0]), colour, joined(label, said, ":  ")))
            continue
        got, edges = binned[name]
        heights = got.astype(np.float64) if counts else got / (len(one) * np.diff(edges))
        said = f"mean {number(numbers.mean)}, std {number(numbers.std)}, {len(one):,} values"
        bars.append((joined(label, said, ":  "), heights, edges, colour))
        top = max(top, float(heights.max()))
        means.append((numbers.mean, colour))
    last = list(drawn)[-1]
    scale = float(len(drawn[last]) * np.diff(binned[last].edges).min()) if counts else 1.0
    law = None
    if density is not None:
        law = law_curve(density, left, right, scale)
        top = max(top, float(np.max(law[1], where=np.isfinite(law[1]), initial=0.0)))

    ax = sheet(
        1080, 560, ax=ax, title=title, subtitle=[subtitle], notes=notes, left=90, right=20, bottom=62, stretch=True
    )
    for place, colour, label in lines:
        ax.plot([place, place], [0, (top or 1.0) * 1.03], color=colour, linewidth=2.4, label=label)
    for index, (label, heights, edges, colour) in enumerate(bars):
        ax.stairs(heights, edges, fill=True, color=colour, alpha=0.5 if index == 0 else 0.3, linewidth=0)
        ax.stairs(heights, edges, color=colour, linewidth=1.2, label=label)
    if density is not None and law is not None:
        _draw_density(ax, density, *law, (top or 1.0) * 1.03, counts)
    for index, (mean, colour) in enumerate(means):
        ax.plot([mean, mean], [0, top * 1.03], color=colour, linewidth=1.1, linestyle=(4 * index, (4, 4)))
    ax.set_xlim(left, right)
    # The legend has the top of the plot to itself: whatever is drawn, it covers nothing.
    wide, tall = room(ax)
    told = {text: textwrap.wrap(text, max(20, int((wide - 60) / 10.5)), max_lines=3) for text in _told(ax)}
    ax.set_ylim(0, (top or 1.0) * 1.03 / max(1 - (27 * sum(map(len, told.values())) + 10) / tall, 0.3))
    dress_plot(ax, "weight", "count" if counts else "density", (top or 1.0) * 1.03)
    if not top:
        ax.set_yticks([])
    legend = ax.legend(
        frameon=False, loc="upper left", borderaxespad=0.2, handlelength=1.6, labelcolor=INK, borderpad=0.2,
        prop={"size": 8, "family": families()},
    )  # fmt: skip
    for text in legend.get_texts():
        lines_shown = [plain(line, 200) for line in told[text.get_text()]]
        fonts = list(dict.fromkeys(font for _, named_fonts in lines_shown for font in named_fonts))
        shown = "\n".join(line for line, _ in lines_shown)
        text.set(text=shown, family=fonts, parse_math=False, usetex=False)
    return cast(Figure, ax.get_figure(root=True))


def _told(ax: Axes) -> list[str]:
    """What the legend will say."""
    return ax.get_legend_handles_labels()[1]


def histograms(
    panels: Sequence[tuple[str, ArrayLike]],
    *,
    bins: int | None = None,
    title: str = "weights",
    subtitle: str = "",
    ax: Axes | None = None,
    binned: list[Binned] | None = None,
) -> Figure:
    """Draw the histograms of many arrays on one page, small, each over its own range with zero in it.

    Args:
        panels: A name and the weights, of any shape, for each; at least one.
        bins: How many each has; None chooses by its number of values, 20 to 64.
        binned: Takes what was counted, for each.

    Returns:
        The figure: one axes, measured in pixels, with a panel after the other, row by row.

    Raises:
        CnnlensError: No panel, more than fit on one page, an empty array, or no real numbers.

    >>> import cnnlens.sample
    >>> from cnnlens.plot.distribution import histograms
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> figure = histograms([(name, net[name].kernel.array) for name in ("conv2d", "conv2d_1", "dense")])
    >>> cnnlens.plot.save(figure, "all.png").name
    'all.png'
    """
    if not panels:
        raise CnnlensError("there are no weights to draw a histogram of")
    columns = columns_for(len(panels), tile_height=_HEAD + _BODY + _FOOT, tile_width=_PANEL + _BETWEEN)
    rows = math.ceil(len(panels) / columns)
    width = columns * (_PANEL + _BETWEEN) - _BETWEEN
    height = rows * (_HEAD + _BODY + _FOOT)
    if max(width, height) > MOST_PIXELS:
        raise CnnlensError(f"{len(panels)} histograms do not fit on one page; draw those of one layer at a time")
    values = [finite_values(one, name) for name, one in panels]
    if bins is not None and not 1 <= bins <= _MOST_BINS:
        raise CnnlensError(f"bins must be from 1 to {_MOST_BINS:,}, not {bins}")
    ax = sheet(width, height, ax=ax, title=title, subtitle=[subtitle], top=14)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_axis_off()
    outlines: list[NDArray[np.float64]] = []
    lines: list[list[tuple[float, float]]] = []
    zeros: list[list[tuple[float, float]]] = []
    counted: list[Binned] = [] if binned is None else binned
    for index, ((name, array), (finite, size)) in enumerate(zip(panels, values, strict=True)):
        left, top = index % columns * (_PANEL + _BETWEEN), index // columns * (_HEAD + _BODY + _FOOT)
        floor = top + _HEAD + _BODY
        shape, broken = np.asarray(array).shape, size - len(finite)
        said = " × ".join(map(str, shape)) + (
            f" · std {number(statistics(np.asarray(array)).std)}" if len(finite) else ""
        )
        _write(ax, name, left, top + 15, 8, INK, 25)
        _write(ax, said, left, top + 33, 6.5, PALE, 40)
        if broken:
            _write(ax, f"{broken:,} not finite", left + _PANEL / 2, floor + 15, 6, _BROKEN, 24, ha="center")
        lines.append([(left, floor), (left + _PANEL, floor)])
        if not len(finite):
            counted.append(Binned(np.zeros(0, np.int64), np.zeros(0)))
            continue
        low, high = min(float(finite.min()), 0.0), max(float(finite.max()), 0.0)
        if high == low:
            _write(ax, "every value is 0", left + _PANEL / 2, floor - 8, 6.5, PALE, 40, ha="center")
            counted.append(Binned(*np.histogram(finite, 1)))
            continue
        heights, edges = np.histogram(finite, bins or int(np.clip(2 * len(finite) ** (1 / 3), 20, 64)), (low, high))
        counted.append(Binned(heights, edges))
        x = left + (edges - low) / (high - low) * _PANEL
        y = floor - heights / heights.max() * (_BODY - 10)
        steps = np.stack([np.repeat(x, 2)[1:-1], np.repeat(y, 2)], axis=1)
        outlines.append(np.concatenate([[(x[0], floor)], steps, [(x[-1], floor)]]))
        zero = left - low / (high - low) * _PANEL
        zeros.append([(zero, floor), (zero, top + _HEAD + 4)])
        for end, place, side in ((low, left, "left"), (high, left + _PANEL, "right")):
            _write(ax, number(end), place, floor + 15, 6, PALE, 12, ha=side)
    ax.add_collection(PolyCollection(outlines, facecolors=to_rgba(_SERIES[0], 0.5), edgecolors="none"))
    ax.add_collection(LineCollection(outlines, colors=_SERIES[0], linewidths=0.9))
    ax.add_collection(LineCollection(zeros, colors=INK, linewidths=0.7))
    ax.add_collection(LineCollection(lines, colors=RULE, linewidths=0.8))
    return cast(Figure, ax.get_figure(root=True))


def _write(ax: Axes, text: str, x: float, y: float, size: float, color: str, limit: int, ha: str = "left") -> None:
    shown, fonts = plain(text, limit)
    ax.text(
        x, y, shown, fontsize=size, color=color, family=fonts, ha=ha, va="baseline", parse_math=False, usetex=False
    )  # fmt: skip


def law_curve(
    density: Density, left: float, right: float, scale: float = 1.0, places: int = 2000
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute an initializer's density at about so many places from ``left`` to ``right``, times ``scale``.

    >>> import numpy as np
    >>> from cnnlens.network.untrained import keras as initializers
    >>> law = initializers.density("glorot_uniform", (3, 3, 1, 32))
    >>> x, y = law_curve(law, -1, 1, places=3)
    >>> len(x), float(y.max()) == 1 / (law.support[1] - law.support[0])
    (9, True)
    """
    x = np.linspace(left, right, places)
    # Where the support ends, a density may jump: one place on each side makes the edge upright.
    ends = [end for end in density.support if left < end < right]
    x = np.sort(np.concatenate([x, *(np.nextafter(end, [-np.inf, end, np.inf]) for end in ends)]))
    return x, np.asarray(density.pdf(x), np.float64) * scale


def _draw_density(
    ax: Axes, density: Density, x: NDArray[np.float64], y: NDArray[np.float64], top: float, counts: bool
) -> None:
    """The initializer's density as a line, its atoms as dots with a stem."""
    what = joined(density.name, str(getattr(density, "parameters", "")), " ")
    expected = "initializer, expected counts:" if counts else "initializer, exact:"
    label: str | None = f"{expected}  {MINUS.sub('−', printable(what, 90))}"
    atoms: Sequence[tuple[float, float]] = getattr(density, "atoms", ())
    if np.any(np.isfinite(y) & (y > 0)):
        ax.plot(x, y, color=INK, linewidth=1.3, label=label)
        label = None
    for place, share in atoms:
        ax.plot([place, place], [0, top], color=INK, linewidth=1.3, linestyle=(0, (1, 1.5)), label=label)
        if share < 1:
            ax.text(place, top / 2, f" {share:.3g}", fontsize=7.5, color=INK, family=families())
        label = None
    if label is not None:
        ax.plot([], [], color=INK, linewidth=1.3, label=label + " (outside this range)")
