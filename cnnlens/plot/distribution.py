"""How weights are distributed, before and after training, with the law that they were drawn from.

All arrays share their bins and are drawn as densities, so that two of different size compare, and a density fits them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError
from cnnlens.network.kernel import statistics
from cnnlens.plot.colours import MOST
from cnnlens.plot.grid import dress_plot
from cnnlens.plot.sheet import INK, number, plain, sheet
from cnnlens.plot.values import Note, joined, real_numbers
from cnnlens.text import printable

__all__ = ["Density", "histogram"]

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
