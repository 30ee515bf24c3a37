"""How weights are distributed, before and after training, with the law that they were drawn from.

All arrays share their bins and are drawn as densities, so that two of different size compare, and a density fits them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

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
from cnnlens.plot.sheet import INK, PALE, RULE, number, plain, sheet
from cnnlens.plot.values import Note, joined, real_numbers
from cnnlens.text import printable

__all__ = ["Density", "histogram", "histograms"]

_PANEL, _BETWEEN, _HEAD, _BODY, _FOOT = 230, 30, 40, 92, 40  # pixels of one of many histograms
_BROKEN = "#c4261d"
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


def histogram(
    array: ArrayLike | Mapping[str, ArrayLike],
    *,
    density: Density | None = None,
    bins: int | None = None,
    title: str = "weights",
    subtitle: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw how the values of one or more arrays are distributed, over the same bins, as densities (each area is 1).

    Args:
        array: Weights of any shape, or several by name, such as ``{"trained": a, "untrained": b}``.
        density: The initializer's exact distribution, drawn as a line: ``pdf``, ``support`` and ``name``.
        bins: How many; None chooses by the number of values (twice its cube root, 20 to 120).
        title, subtitle, ax: As in `kernels`.

    Returns:
        The figure. Mean and standard deviation of each array stand in the legend.

    Raises:
        CnnlensError: No values, no finite values, or no real numbers.

    >>> import cnnlens.sample
    >>> kernel = cnnlens.open(cnnlens.sample.MODEL)["conv2d"].kernel
    >>> figure = cnnlens.plot.histogram({"trained": kernel.array}, title="conv2d")
    >>> cnnlens.plot.save(figure, "weights.png").name
    'weights.png'
    >>> cnnlens.plot.histogram([])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: weights: the array of shape (0,) has no values to draw
    """
    named = dict(array) if isinstance(array, Mapping) else {"": cast(ArrayLike, array)}
    if not named:
        raise CnnlensError("there are no weights to draw a histogram of")
    values = {name: real_numbers(one, name or "weights", 0, 99) for name, one in named.items()}
    finite = {name: np.clip(one[np.isfinite(one)].astype(np.float64), -MOST, MOST) for name, one in values.items()}
    notes: list[Note] = []
    for name, one in values.items():
        broken = one.size - len(finite[name])
        if broken:
            notes.append((joined(name, f"{broken:,} of {one.size:,} values are NaN or infinite, left out", ": "), None))
    drawn = {name: one for name, one in finite.items() if len(one)}
    if not drawn:
        raise CnnlensError("no value is finite, so there is no histogram to draw")
    low = min(float(one.min()) for one in drawn.values())
    high = max(float(one.max()) for one in drawn.values())
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1 / MOST):
        low, high = low - max(0.5 * abs(low), 0.5), high + max(0.5 * abs(high), 0.5)
    most = max(len(one) for one in drawn.values())
    edges = np.linspace(low, high, (bins or int(np.clip(2 * most ** (1 / 3), 20, 120))) + 1)

    ax = sheet(1080, 560, ax=ax, title=title, subtitle=[subtitle], notes=notes, left=70, bottom=62)
    top = 0.0
    means: list[tuple[float, str]] = []
    for index, (name, one) in enumerate(drawn.items()):
        numbers = statistics(np.asarray(named[name]))
        colour = _SERIES[index % len(_SERIES)]
        said = f"mean {number(numbers.mean)}, std {number(numbers.std)}, {len(one):,} values"
        if one.min() == one.max():  # as a bar it would be so high that nothing else could be seen
            said = f"all {len(one):,} values are {number(float(one[0]))}"
            ax.axvline(float(one[0]), color=colour, linewidth=2.4, label=joined(printable(name), said, ":  "))
            continue
        heights = np.histogram(one, edges)[0] / (len(one) * np.diff(edges))
        top = max(top, float(heights.max()))
        ax.stairs(heights, edges, fill=True, color=colour, alpha=0.5 if index == 0 else 0.3, linewidth=0)
        ax.stairs(heights, edges, color=colour, linewidth=1.2, label=joined(printable(name), said, ":  "))
        means.append((numbers.mean, colour))
    span = high - low
    left, right = low - 0.03 * span, high + 0.03 * span
    if density is not None:
        top = max(top, _draw_density(ax, density, left, right))
    for index, (mean, colour) in enumerate(means):
        ax.plot([mean, mean], [0, top * 1.03], color=colour, linewidth=1.1, linestyle=(4 * index, (4, 4)))
    ax.set_xlim(left, right)
    dress_plot(ax, "weight", "density")
    legend = ax.legend(
        frameon=False, loc="upper left", borderaxespad=0.2, handlelength=1.6, labelcolor=INK,
        prop={"size": 8, "family": "DejaVu Sans"},
    )  # fmt: skip
    for text in legend.get_texts():
        shown, families = plain(text.get_text(), 120)
        text.set(text=shown, family=families, parse_math=False, usetex=False)
    # The legend has the top of the plot to itself: whatever is drawn, it covers nothing.
    ax.set_ylim(0, (top or 1.0) * 1.03 / (1 - 0.055 * len(legend.get_texts()) - 0.01))
    return cast(Figure, ax.get_figure(root=True))


def histograms(panels: Sequence[tuple[str, ArrayLike]], *, title: str = "weights", subtitle: str = "") -> Figure:
    """Draw the histograms of many arrays on one page, small, each over its own range with zero in it.

    Args:
        panels: A name and the weights, of any shape, for each; at least one.
        title, subtitle: As in `kernels`.

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
    columns = max(min(len(panels), 3), round(math.sqrt(len(panels) * (_HEAD + _BODY + _FOOT) / (_PANEL + _BETWEEN))))
    rows = math.ceil(len(panels) / columns)
    width = columns * (_PANEL + _BETWEEN) - _BETWEEN
    height = rows * (_HEAD + _BODY + _FOOT)
    if max(width, height) > MOST_PIXELS:
        raise CnnlensError(f"{len(panels)} histograms do not fit on one page; draw those of one layer at a time")
    values = [real_numbers(one, name, 0, 99).ravel(order="K") for name, one in panels]
    ax = sheet(width, height, ax=None, title=title, subtitle=[subtitle], top=14)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_axis_off()
    outlines: list[NDArray[np.float64]] = []
    lines: list[list[tuple[float, float]]] = []
    zeros: list[list[tuple[float, float]]] = []
    for index, ((name, array), one) in enumerate(zip(panels, values, strict=True)):
        left, top = index % columns * (_PANEL + _BETWEEN), index // columns * (_HEAD + _BODY + _FOOT)
        floor = top + _HEAD + _BODY
        finite = np.clip(one[np.isfinite(one)].astype(np.float64), -MOST, MOST)
        shape, broken = np.asarray(array).shape, one.size - len(finite)
        said = " × ".join(map(str, shape)) + (f" · std {number(float(finite.std()))}" if len(finite) else "")
        _write(ax, name, left, top + 15, 8, INK, 25)
        _write(ax, said, left, top + 33, 6.5, PALE, 40)
        if broken:
            _write(ax, f"{broken:,} not finite", left + _PANEL / 2, floor + 15, 6, _BROKEN, 24, ha="center")
        lines.append([(left, floor), (left + _PANEL, floor)])
        if not len(finite):
            continue
        low, high = min(float(finite.min()), 0.0), max(float(finite.max()), 0.0)
        if high == low:
            _write(ax, "every value is 0", left + _PANEL / 2, floor - 8, 6.5, PALE, 40, ha="center")
            continue
        edges = np.linspace(low, high, int(np.clip(2 * len(finite) ** (1 / 3), 20, 64)) + 1)
        heights = np.histogram(finite, edges)[0]
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
    shown, families = plain(text, limit)
    ax.text(
        x, y, shown, fontsize=size, color=color, family=families, ha=ha, va="baseline", parse_math=False, usetex=False
    )  # fmt: skip


def _draw_density(ax: Axes, density: Density, left: float, right: float) -> float:
    """The initializer's density as a line, its atoms as dots with a stem; returns the highest density drawn."""
    x = np.linspace(left, right, 2000)
    # Where the support ends, a density may jump: one place on each side makes the edge upright.
    ends = [end for end in density.support if left < end < right]
    x = np.sort(np.concatenate([x, *(np.nextafter(end, [-np.inf, end, np.inf]) for end in ends)]))
    y = np.asarray(density.pdf(x), np.float64)
    what = joined(density.name, str(getattr(density, "parameters", "")), " ")
    label: str | None = f"initializer, exact:  {printable(what, 90)}"
    atoms: Sequence[tuple[float, float]] = getattr(density, "atoms", ())
    top = float(np.max(y, where=np.isfinite(y), initial=0.0))
    if top > 0:
        ax.plot(x, y, color=INK, linewidth=1.3, label=label)
        label = None
    for place, share in atoms:
        ax.axvline(place, color=INK, linewidth=1.3, linestyle=(0, (1, 1.5)), label=label)
        if share < 1:
            moved = ax.get_xaxis_transform()
            ax.text(place, 0.5, f" {share:.3g}", transform=moved, fontsize=7.5, color=INK, family="DejaVu Sans")
        label = None
    if label is not None:
        ax.plot([], [], color=INK, linewidth=1.3, label=label + " (outside this range)")
    return top
