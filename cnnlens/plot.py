"""Pictures of what a network learned: arrays in canonical axes in, a matplotlib Figure out.

Each grid is one image in which every cell of a kernel or feature map is a whole number of pixels, coloured here and
not by matplotlib, because NaN, infinities and the gaps between tiles each need a colour of their own. Nothing is shown
on a screen and nothing is kept: the figure is the caller's, and `save` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError
from cnnlens.figures import INK, PALE, RULE, Note, check_target, decorate, number, plain, put, room, save, sheet
from cnnlens.kernel import statistics
from cnnlens.mosaic import Mosaic, columns_for, mosaic, shrink, strip
from cnnlens.text import printable

__all__ = [
    "check_target",
    "feature_maps",
    "histogram",
    "kernel_and_map",
    "kernels",
    "mosaic",
    "save",
]

WEIGHTS, ACTIVATIONS = "RdBu_r", "magma"
NAN, INFINITE = "#27e833", "#00d5ff"  # in neither colour map
_BAR = "#6b2f8a"
_LABELLED = 46  # pixels: a smaller tile does not carry its own number
_LABEL = 20  # pixels that the number over a tile takes
_LARGEST_TILE = 300
_MOST_PIXELS = 6000  # a side; about what viewers still open
_SERIES = ("#2166ac", "#7d858f", "#e08214", "#4d9221")  # of histograms, the trained weights first
_SIDE = 420  # pixels of a kernel beside its map: a multiple of most sizes of maps
_SLICES = 8  # of a volume's depth that are drawn

Floats = NDArray[np.floating[Any]]


class Density(Protocol):
    """The distribution that an initializer draws from, as `cnnlens.initializers.density` returns it.

    Where it has them, ``parameters`` (text) and ``atoms`` (values with a probability of their own) are drawn too.
    """

    @property
    def name(self) -> str: ...
    @property
    def support(self) -> tuple[float, float]: ...
    def pdf(self, x: NDArray[np.float64], /) -> NDArray[np.float64]: ...


def kernels(
    array: ArrayLike,
    *,
    channel: int | str | None = None,
    title: str = "kernels",
    subtitle: str = "",
    limit: float | None = None,
    columns: int | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The kernels of one layer, red above zero and blue below, white at zero.

    Args:
        array: Canonical weights, real numbers: ``(out, in / groups, *spatial)`` with one to three spatial axes (one tile
            a kernel, for volumes its depth slices side by side; one-dimensional kernels as one row each), or
            ``(out, in)`` or ``(n,)`` (one cell a weight).
        channel: Which input channel: an index, ``"all"`` for a grid of output rows and input columns, ``"rgb"`` for
            three channels as one colour picture. None takes ``"rgb"`` where there are three and else channel 0.
            Matrices and vectors are always drawn whole.
        title, subtitle: What the picture is of. They may come from a file: unsafe characters are escaped.
        limit: The weight that gets the full colour; None takes the largest magnitude drawn.
        columns: Tiles in a row; None chooses.
        ax: Draw into this axes instead of into a new figure.

    Returns:
        The figure, with one image for the grid and one colour bar (none for RGB).

    Raises:
        CnnlensError: No such channel, nothing to draw, no real numbers, or too many tiles for one picture.
    """
    values = _real(array, "weights", 1, 5)
    if values.ndim <= 2:
        return _weight_matrix(np.atleast_2d(values), title, subtitle, limit, ax)
    inputs = values.shape[1]
    chosen = ("rgb" if inputs == 3 and values.ndim == 4 else 0) if channel is None else channel
    if isinstance(chosen, str) and chosen not in ("all", "rgb"):
        raise CnnlensError(f"channel '{printable(chosen)}' is not known; give a number, 'all' or 'rgb'")
    if chosen == "rgb" and (inputs != 3 or values.ndim != 4):
        raise CnnlensError(
            f"RGB needs two-dimensional kernels of 3 input channels, not {values.shape}; give a number or 'all'"
        )
    if isinstance(chosen, int) and not 0 <= chosen < inputs:
        raise CnnlensError(f"there is no input channel {chosen}; the layer has {_span(inputs)}")
    if isinstance(chosen, int):
        values = values[:, chosen : chosen + 1]
    said = f"input channel {chosen} of {inputs}" if isinstance(chosen, int) and inputs > 1 else ""
    notes = _broken(values, "kernel")
    if not np.any(values):
        notes.append(("every weight is 0", None))
    bound = _bound(values, limit)

    if values.ndim == 3:  # (out, in, K): one tile an input channel, one row a kernel
        painted = _paint(values.swapaxes(0, 1), WEIGHTS, -bound, bound)
        return _grid(
            painted, title, [subtitle, _joined(said, "one row a kernel")], notes, _bar(WEIGHTS, -bound, bound), ax,
            columns=len(painted), column_names="input channel" if inputs > 1 else "", rows_inside=True,
        )  # fmt: skip
    if chosen == "rgb":
        painted = _paint_rgb(values, bound)
        said = f"RGB of 3 input channels: grey is 0, full colour ±{number(bound)}"
        return _grid(painted, title, [subtitle, said], notes, None, ax, columns=columns)
    painted = _paint(values, WEIGHTS, -bound, bound)
    outs, ins, *spatial = values.shape
    painted = painted.reshape(outs * ins, *spatial, 3)
    if len(spatial) == 3:
        said = _joined(said, f"the {spatial[0]} depth slices of a kernel side by side" if spatial[0] > 1 else "")
    both = chosen == "all" and inputs > 1
    if both:
        said = _joined("rows are output channels, columns are input channels", said)
    return _grid(
        painted, title, [subtitle, said], notes, _bar(WEIGHTS, -bound, bound), ax,
        columns=ins if both else columns, both=both,
    )  # fmt: skip


def feature_maps(
    array: ArrayLike,
    *,
    title: str = "feature maps",
    subtitle: str = "",
    channels: Sequence[int] | None = None,
    limits: tuple[float, float] | str | None = None,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The feature maps of one layer for one input, dark to bright.

    Args:
        array: Canonical activations of one example, real numbers: ``(C, H, W)``; ``(C, L)`` (one row a channel);
            ``(C, D, H, W)`` (at most eight depth slices side by side); ``(C,)`` (a bar a channel).
        channels: Which channels, in this order; None draws all.
        limits: Darkest and brightest value. None takes 0 or the lowest value, and the highest, of all channels, so that
            channels compare; ``"each"`` stretches every channel by itself.
        labels: What the channels of a ``(C,)`` mean, such as the classes of a classifier.
        title, subtitle, columns, ax: As in `kernels`.

    Raises:
        CnnlensError: No such channel, nothing to draw, no real numbers, or too many tiles for one picture.
    """
    values = _real(array, "feature maps", 1, 4)
    total = len(values)
    names = list(range(total))
    if labels is not None and (values.ndim > 1 or len(labels) != len(values)):
        raise CnnlensError(f"{len(labels)} labels do not fit feature maps of shape {values.shape}")
    if channels is not None:
        wrong = [channel for channel in channels if not 0 <= channel < len(values)]
        if wrong or not len(channels):
            which = f"there is no channel {wrong[0]}" if wrong else "no channel was asked for"
            raise CnnlensError(f"{which}; the layer has {_span(len(values))}")
        names = list(channels)
        values = values[names]
    notes = _broken(values, "channel", names)
    flat = values.reshape(len(values), -1)
    dead = [name for name, row in zip(names, flat, strict=True) if not row.any()]
    if dead and values.ndim > 1:
        notes.append((f"{len(dead)} of {len(names)} are 0 everywhere: {_few(dead)}", None))
    low, high = _range(flat, limits)
    said = f"{len(names)} of {total} channels" if channels is not None else ""
    if values.ndim == 1:
        return _bars(values, names, labels, title, [subtitle, said], notes, ax)
    if limits == "each":
        said = _joined(said, "each channel stretched by itself")
        lows, highs = zip(*(_range(row[None], None) for row in flat), strict=True)
        flat = (flat - np.asarray(lows)[:, None]) / (np.asarray(highs) - np.asarray(lows))[:, None]
        values, low, high = flat.reshape(values.shape), 0.0, 1.0
    bar = None if limits == "each" else _bar(ACTIVATIONS, low, high)
    if values.ndim == 2:
        return _heat(values, ACTIVATIONS, low, high, ("position", "channel"), title, [subtitle, said], notes, ax, bar)
    if values.ndim == 4 and values.shape[1] > 1:
        depth = values.shape[1]
        kept = np.linspace(0, depth - 1, min(depth, _SLICES)).round().astype(int)
        values = values[:, kept]
        some = f"depth slices {_few(kept.tolist(), _SLICES)} of {depth}" if depth > _SLICES else f"{depth} depth slices"
        said = _joined(said, f"{some} side by side")
    elif values.ndim == 4:
        values = values[:, 0]
    factor = _reduction(values.shape, columns)
    if factor > 1:
        values = shrink(values, factor, factor, "mean")
        said = _joined(said, f"each pixel the mean of {factor} × {factor}")
    painted = _paint(values, ACTIVATIONS, low, high)
    return _grid(painted, title, [subtitle, said], notes, bar, ax, columns=columns, names=names)


def histogram(
    array: ArrayLike | Mapping[str, ArrayLike],
    *,
    density: Density | None = None,
    bins: int | None = None,
    title: str = "weights",
    subtitle: str = "",
    ax: Axes | None = None,
) -> Figure:
    """How the values of one or more arrays are distributed, over the same bins, as densities (each area is 1).

    Args:
        array: Weights of any shape, or several by name, such as ``{"trained": a, "untrained": b}``.
        density: The initializer's exact distribution, drawn as a line: ``pdf``, ``support`` and ``name``.
        bins: How many; None chooses by the number of values (twice its cube root, 20 to 120).
        title, subtitle, ax: As in `kernels`.

    Returns:
        The figure. Mean and standard deviation of each array stand in the legend.

    Raises:
        CnnlensError: No values, no finite values, or no real numbers.
    """
    named = dict(cast(Mapping[str, ArrayLike], array)) if isinstance(array, Mapping) else {"": cast(ArrayLike, array)}
    if not named:
        raise CnnlensError("there are no weights to draw a histogram of")
    values = {name: _real(one, name or "weights", 0, 99) for name, one in named.items()}
    finite = {name: one[np.isfinite(one)].astype(np.float64) for name, one in values.items()}
    notes: list[Note] = []
    for name, one in values.items():
        broken = one.size - len(finite[name])
        if broken:
            notes.append((_joined(name, f"{broken:,} of {one.size:,} values are NaN or infinite, left out", ": "), None))
    drawn = {name: one for name, one in finite.items() if len(one)}
    if not drawn:
        raise CnnlensError("no value is finite, so there is no histogram to draw")
    low = min(float(one.min()) for one in drawn.values())
    high = max(float(one.max()) for one in drawn.values())
    if not high - low > 1e-9 * max(abs(low), abs(high)):
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
            ax.axvline(float(one[0]), color=colour, linewidth=2.4, label=_joined(printable(name), said, ":  "))
            continue
        heights = np.histogram(one, edges)[0] / (len(one) * np.diff(edges))
        top = max(top, float(heights.max()))
        ax.stairs(heights, edges, fill=True, color=colour, alpha=0.5 if index == 0 else 0.3, linewidth=0)
        ax.stairs(heights, edges, color=colour, linewidth=1.2, label=_joined(printable(name), said, ":  "))
        means.append((numbers.mean, colour))
    span = high - low
    left, right = low - 0.03 * span, high + 0.03 * span
    if density is not None:
        top = max(top, _draw_density(ax, density, left, right))
    for index, (mean, colour) in enumerate(means):
        ax.plot([mean, mean], [0, top * 1.03], color=colour, linewidth=1.1, linestyle=(4 * index, (4, 4)))
    ax.set_xlim(left, right)
    _dress_plot(ax, "weight", "density")
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
    what = _joined(density.name, str(getattr(density, "parameters", "")), " ")
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


def kernel_and_map(
    kernel: ArrayLike,
    image: ArrayLike | None,
    feature_map: ArrayLike,
    *,
    title: str = "kernel and feature map",
    subtitle: str = "",
) -> Figure:
    """What goes in, the kernel that it meets, and the feature map that comes out, side by side.

    Args:
        kernel: ``(in, H, W)``, one kernel of a layer.
        image: ``(C, H, W)``, what the layer saw: drawn grey (C = 1), in colour (C = 3, over its own range) or as a grid.
            None leaves it out.
        feature_map: ``(H, W)``, what the kernel made of it.
        title, subtitle: As in `kernels`.

    Raises:
        CnnlensError: An array of another rank, nothing to draw, or no real numbers.
    """
    weights = _real(kernel, "the kernel", 3, 3)
    result = _real(feature_map, "the feature map", 2, 2)
    bound = _bound(weights, None)
    low, high = _range(result[None], None)
    notes = [*_broken(weights, "input channel"), *_broken(result[None], "", [0])]
    panels: list[tuple[str, NDArray[np.uint8]]] = []
    if image is not None:
        seen = _real(image, "the image", 3, 3)
        panels.append((f"input  {' × '.join(map(str, seen.shape))}", _picture(seen)))
    panels.append((f"kernel  {' × '.join(map(str, weights.shape))}", _tiled(_paint(weights, WEIGHTS, -bound, bound))))
    panels.append((f"feature map  {' × '.join(map(str, result.shape))}", _paint(result, ACTIVATIONS, low, high)))

    side, between = _SIDE, 120
    width = side * len(panels) + between * (len(panels) - 1)
    frame = sheet(width, side, ax=None, title=title, subtitle=[subtitle], notes=notes, top=26, bottom=70)
    frame.set_axis_off()
    figure = cast(Figure, frame.get_figure(root=True))
    whole = frame.get_position()
    for index, (name, painted) in enumerate(panels):
        scale = max(1, side // max(painted.shape[:2]))
        enlarged = painted.repeat(scale, axis=0).repeat(scale, axis=1)
        high_px, wide_px = min(side, enlarged.shape[0]), min(side, enlarged.shape[1])
        x = index * (side + between) + (side - wide_px) / 2
        y = (side - high_px) / 2
        box = (
            whole.x0 + x / width * whole.width,
            whole.y0 + y / side * whole.height,
            wide_px / width * whole.width,
            high_px / side * whole.height,
        )
        panel = figure.add_axes(box)
        _show(panel, enlarged)
        for spine in panel.spines.values():
            spine.set_color(RULE)
        panel.set_xticks([])
        panel.set_yticks([])
        put(panel, name, shift=(0, 9), color=PALE)
        if index:
            sign = "→" if index == len(panels) - 1 else "∗"
            place = (index * (side + between) - between / 2) / width
            put(frame, sign, at=(place, 0.5), size=22, color=PALE, ha="center", va="center")
        kind = {"kernel": _bar(WEIGHTS, -bound, bound), "feature": _bar(ACTIVATIONS, low, high)}.get(name.split()[0])
        if kind is not None:
            left, right = index * (side + between) + side * 0.15, side * 0.7
            rail = figure.add_axes(
                (
                    whole.x0 + left / width * whole.width,
                    whole.y0 - 30 / side * whole.height,
                    right / width * whole.width,
                    12 / side * whole.height,
                )
            )
            ends = (-bound, 0.0, bound) if name.startswith("kernel") else (low, high)
            bar = figure.colorbar(kind, cax=rail, orientation="horizontal", ticks=list(ends))
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
            rail.set_xticks(list(ends), [number(end) for end in ends])
            rail.tick_params(length=0, labelsize=7.5, labelcolor=PALE, pad=4)
    return figure


# ---------------------------------------------------------------------------------------------------- what is drawn


def _real(array: ArrayLike, what: str, least: int, most: int) -> Floats:
    """``array`` as real numbers of a rank between ``least`` and ``most``, with at least one value."""
    values = np.asarray(array)
    if values.dtype.kind not in "fiub":
        raise CnnlensError(f"{what}: real numbers are needed, not {values.dtype}; there is nothing to draw")
    if not least <= values.ndim <= most:
        ranks = f"{least}" if least == most else f"{least} to {most}"
        raise CnnlensError(f"{what}: an array of {ranks} axes is needed, not of shape {values.shape}")
    if values.size == 0:
        raise CnnlensError(f"{what}: the array of shape {values.shape} has no values to draw")
    return values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32, copy=False)


def _bound(values: Floats, limit: float | None) -> float:
    if limit is not None:
        if not (math.isfinite(limit) and limit > 0):
            raise CnnlensError(f"the colour limit must be a number above 0, not {limit}")
        return float(limit)
    return float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0)) or 1.0


def _range(values: Floats, limits: tuple[float, float] | str | None) -> tuple[float, float]:
    if isinstance(limits, str) and limits != "each":
        raise CnnlensError(f"limits '{printable(limits)}' are not known; give two numbers or 'each'")
    if isinstance(limits, tuple):
        if not (math.isfinite(limits[0]) and math.isfinite(limits[1]) and limits[0] < limits[1]):
            raise CnnlensError(f"the limits must be two numbers, the lower one first, not {limits}")
        return float(limits[0]), float(limits[1])
    finite = np.isfinite(values)
    low = float(np.min(values, where=finite, initial=0.0))
    high = float(np.max(values, where=finite, initial=-math.inf))
    high = max(high, 0.0) if math.isfinite(high) else 0.0
    return (low, high) if high > low else (low, low + 1.0)


def _broken(values: Floats, what: str, names: Sequence[int] | None = None) -> list[Note]:
    """Which entries of the first axis hold NaN or infinities, said with the colour they are drawn in."""
    notes: list[Note] = []
    flat = values.reshape(len(values), -1)
    for word, colour, bad in (("NaN", NAN, np.isnan(flat)), ("Inf", INFINITE, np.isinf(flat))):
        if bad.any():
            hit = np.flatnonzero(bad.any(axis=1)).tolist()
            which = [names[index] for index in hit] if names is not None else hit
            where = f" in {what} {_few(which)}" if what else ""
            notes.append((f"{int(bad.sum()):,} × {word}{where}", colour))
    return notes


def _few(numbers: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"


def _span(count: int) -> str:
    return f"channels 0 to {count - 1}" if count > 1 else "channel 0 only"


def _joined(left: str, right: str, by: str = "  ·  ") -> str:
    return left + by + right if left and right else left or right


# ------------------------------------------------------------------------------------------------ values to colours


def _colour(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _paint(values: Floats, colours: str, low: float, high: float) -> NDArray[np.uint8]:
    """Each value's colour, ``values.shape + (3,)``; NaN and infinities in their own."""
    finite = np.isfinite(values)
    safe = np.where(finite, values, low)
    # Halves, so that the range of float64's largest numbers does not overflow.
    place = np.clip((safe / 2 - low / 2) / (high / 2 - low / 2), 0, 1)
    table = (colormaps[colours](np.linspace(0, 1, 256), bytes=True))[:, :3]
    painted = table[np.rint(place * 255).astype(np.uint8)]
    if not finite.all():
        painted[np.isnan(values)] = _colour(NAN)
        painted[np.isinf(values)] = _colour(INFINITE)
    return painted


def _paint_rgb(values: Floats, bound: float) -> NDArray[np.uint8]:
    """``(out, 3, H, W)`` to ``(out, H, W, 3)``: grey where all three weights are 0."""
    finite = np.isfinite(values)
    place = np.clip(0.5 + np.where(finite, values, 0) / bound / 2, 0, 1)
    painted = np.moveaxis(np.rint(place * 255).astype(np.uint8), 1, -1).copy()
    painted[np.isinf(values).any(axis=1)] = _colour(INFINITE)
    painted[np.isnan(values).any(axis=1)] = _colour(NAN)
    return painted


def _picture(image: Floats) -> NDArray[np.uint8]:
    """``(C, H, W)`` as people would see it: over its own range, grey or RGB; other counts as a grid of maps."""
    low, high = _range(image.reshape(1, -1), None)
    if image.shape[0] == 1:
        return _paint(image[0], "gray", low, high)
    if image.shape[0] == 3:
        return np.stack([_paint(plane, "gray", low, high)[..., 0] for plane in image], axis=-1)
    return _tiled(_paint(image, ACTIVATIONS, low, high))


def _tiled(painted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if len(painted) == 1:
        return painted[0]
    height, width = painted.shape[1:3]
    columns = math.ceil(math.sqrt(len(painted) * height / width))
    scale = max(1, min((_SIDE // columns - 2) // width, (_SIDE // math.ceil(len(painted) / columns) - 2) // height))
    return mosaic(painted, columns, scale=scale, gap=2 if scale > 2 else 1, fill=255).image


def _bar(colours: str, low: float, high: float) -> ScalarMappable:
    return ScalarMappable(Normalize(low, high), colormaps[colours])


def _ticks(bar: ScalarMappable) -> list[float]:
    low, high = cast(float, bar.norm.vmin), cast(float, bar.norm.vmax)
    if low == -high:
        return [low, low / 2, 0.0, high / 2, high]
    return [low, 0.0, high] if low < -0.15 * high < 0 else [low, (low + high) / 2, high]


# ------------------------------------------------------------------------------------------------- colours to figure


def _show(ax: Axes, image: NDArray[np.uint8]) -> None:
    height, width = image.shape[:2]
    ax.imshow(image, interpolation="none", extent=(0, width, height, 0), aspect="equal", resample=False)


def _reduction(shape: tuple[int, ...], columns: int | None) -> int:
    """By how much maps of ``(C, [D,] H, W)`` must shrink so that their grid still fits into one picture."""
    height, width = shape[-2], shape[-1] * (shape[1] if len(shape) == 4 else 1)
    wide = columns or columns_for(shape[0], tile_height=height, tile_width=width)
    needed = max(wide * width / 2000, math.ceil(shape[0] / wide) * height / 2000)
    return max(1, math.ceil(needed)) if needed > 1.2 else 1


def _grid(
    painted: NDArray[np.uint8],
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note],
    bar: ScalarMappable | None,
    ax: Axes | None,
    *,
    columns: int | None = None,
    names: Sequence[int] | None = None,
    both: bool = False,
    column_names: str = "",
    rows_inside: bool = False,
) -> Figure:
    """A grid of painted tiles ``(K, [D,] H, W, 3)`` as one image, with as many labels as stay readable.

    Args:
        names: The numbers of the tiles; None counts from 0.
        both: Rows are output channels and columns input channels.
        column_names: What the columns are; labels them so.
        rows_inside: The rows of cells inside a tile are what is counted at the left.
    """
    count, *slices, height, width, _ = painted.shape
    depth = slices[0] if slices else 1
    names = range(count) if names is None else names
    if columns is not None and columns < 1:
        raise CnnlensError(f"a grid needs at least one column, not {columns}")
    columns = min(columns or columns_for(count, tile_height=height, tile_width=width * depth), count)
    rows = math.ceil(count / columns)
    if ax is not None:
        space = room(ax)
    elif both or count > 512:
        space = (1860, 1860)
    else:
        space = (1180, 1000)

    def fitting(gap: int, head: int) -> int:
        across = (space[0] / columns - gap - (depth - 1) * 2) / (width * depth)
        down = (space[1] / rows - gap - head) / height
        return int(min(across, down, _LARGEST_TILE / max(height, width)))

    gap, head, scale = 10, _LABEL, fitting(10, _LABEL)
    own_numbers = not both and not column_names and scale * min(height, width * depth) >= _LABELLED and count > 1
    if not own_numbers:
        head = 0
        gap = next((gap for gap, least in ((10, 60), (6, 18), (4, 8), (2, 3)) if fitting(gap, 0) * height >= least), 1)
        scale = fitting(gap, 0)
    scale = max(1, scale)
    if max(columns * (width * depth * scale + gap), rows * (height * scale + gap + head)) > _MOST_PIXELS:
        raise CnnlensError(
            f"{rows} x {columns} tiles of {height} x {width * depth} do not fit into one picture; choose one channel"
        )
    fill = (255, 255, 255) if gap >= 3 else _colour(RULE)
    inner = 2 if depth > 1 else 0
    if slices:
        tiles = strip(painted, scale=scale, gap=inner, fill=_colour(RULE))
        laid = mosaic(tiles, columns, gap=(gap + head, gap), frame=int(gap >= 3), fill=fill, line=_colour(RULE))
    else:
        laid = mosaic(
            painted, columns, scale=scale, gap=(gap + head, gap), frame=int(gap >= 3), fill=fill, line=_colour(RULE)
        )  # fmt: skip
    labels_left = [] if own_numbers or rows_inside else _row_labels(laid, rows, columns, names, both)
    if rows_inside:
        step = _step(height, scale)
        labels_left = [(float(laid.boxes[0, 0]) + (row + 0.5) * scale, str(row)) for row in range(0, height, step)]
    labels_top: list[tuple[float, str]] = []
    if (both or column_names or not own_numbers) and columns > 1:
        pitch = int(laid.boxes[1, 1] - laid.boxes[0, 1])
        step = _step(columns, pitch, 44)
        sign = "" if both or column_names else "+"
        labels_top = [
            (float(laid.boxes[column, 1] + laid.boxes[column, 3] / 2), f"{sign}{column}")
            for column in range(0, columns, step)
        ]
    image_height, image_width = laid.image.shape[:2]
    ax = sheet(
        image_width,
        image_height,
        ax=ax,
        title=title,
        subtitle=subtitle,
        notes=notes,
        left=46 if labels_left else 0,
        top=(24 if labels_top else 0) + (head if own_numbers else 0),
        bar=bar,
        bar_ticks=_ticks(bar) if bar is not None else (),
    )
    _show(ax, laid.image)
    decorate(ax, labels_left, labels_top)
    if own_numbers:
        for name, (row, column, _, _) in zip(names, laid.boxes.tolist(), strict=True):
            ax.text(column, row - 5, str(name), fontsize=6.5, color=PALE, family="DejaVu Sans", va="baseline")
    ax.format_coord = _pointer(laid, names, scale)
    return cast(Figure, ax.get_figure(root=True))


def _step(count: int, pitch: float, room_px: float = 24) -> int:
    """Every how many-th of ``count`` things, ``pitch`` pixels apart, can have a label: 1, 2, 4, 8, ... """
    step = 1
    while step * pitch < room_px and step < count:
        step *= 2
    return step


def _row_labels(
    laid: Mosaic, rows: int, columns: int, names: Sequence[int], both: bool
) -> list[tuple[float, str]]:
    if rows == 1 and not both:
        return []
    step = _step(rows, float(laid.boxes[columns, 0] - laid.boxes[0, 0]) if rows > 1 else 99)
    return [
        (float(laid.boxes[row * columns, 0] + laid.boxes[row * columns, 2] / 2), str(row if both else names[row * columns]))
        for row in range(0, rows, step)
    ]


def _pointer(laid: Mosaic, names: Sequence[int], scale: int) -> Any:
    """What an interactive window says about the place under the pointer."""

    def text(x: float, y: float) -> str:
        inside = (
            (laid.boxes[:, 0] <= y)
            & (y < laid.boxes[:, 0] + laid.boxes[:, 2])
            & (laid.boxes[:, 1] <= x)
            & (x < laid.boxes[:, 1] + laid.boxes[:, 3])
        )
        hit = np.flatnonzero(inside)
        if not len(hit):
            return ""
        top, left = laid.boxes[hit[0], :2]
        return f"tile {names[int(hit[0])]}, row {int((y - top) // scale)}, column {int((x - left) // scale)}"

    return text


def _weight_matrix(values: Floats, title: str, subtitle: str, limit: float | None, ax: Axes | None) -> Figure:
    bound = _bound(values, limit)
    notes = _broken(values, "output")
    if not np.any(values):
        notes.append(("every weight is 0", None))
    bar = _bar(WEIGHTS, -bound, bound)
    return _heat(values, WEIGHTS, -bound, bound, ("input", "output"), title, [subtitle], notes, ax, bar)


def _heat(
    values: Floats,
    colours: str,
    low: float,
    high: float,
    names: tuple[str, str],
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note],
    ax: Axes | None,
    bar: ScalarMappable | None,
) -> Figure:
    """A matrix as one image; each value at least one pixel, or the largest magnitude of a block where it is too big."""
    rows, columns = values.shape
    space = room(ax) if ax is not None else (1180, 760)
    down, across = math.ceil(rows / max(space[1], 1)), math.ceil(columns / max(space[0], 1))
    said = list(subtitle)
    if down * across > 1:
        values = shrink(values, down, across, "extreme")
        said.append(f"each pixel the largest magnitude of {down} × {across} values")
    scale_across = max(1, min(space[0] // values.shape[1], 60))
    scale_down = max(1, min(space[1] // values.shape[0], 60))
    scale_down = min(scale_down, max(4 * scale_across, 8))
    scale_across = min(scale_across, max(4 * scale_down, 8))
    image = _paint(values, colours, low, high).repeat(scale_down, axis=0).repeat(scale_across, axis=1)
    height, width = image.shape[:2]
    ax = sheet(
        width, height, ax=ax, title=title, subtitle=said, notes=notes, left=76, bottom=62,
        bar=bar, bar_ticks=_ticks(bar) if bar is not None else (),
    )  # fmt: skip
    ax.imshow(image, interpolation="none", extent=(0, columns, rows, 0), aspect="auto", resample=False)
    decorate(
        ax,
        [(place + 0.5, str(place)) for place in _places(rows, height)],
        [(place + 0.5, str(place)) for place in _places(columns, width)],
        above=False,
    )
    ax.set_xlabel(names[0], fontsize=8, color=PALE, family="DejaVu Sans")
    ax.set_ylabel(names[1], fontsize=8, color=PALE, family="DejaVu Sans")
    return cast(Figure, ax.get_figure(root=True))


def _places(count: int, pixels: int) -> range:
    """Round places along an axis, at least 44 pixels apart."""
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000):
        if pixels / count * step >= 44:
            return range(0, count, step)
    return range(0, count, max(1, count))


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
    low, high = _range(shown[None], None)
    ax.set_ylim(low * 1.12, high * 1.12)
    if count <= 24:
        # As many digits as tell the largest: of 1.0 and 0.0000003 nobody wants to read the second.
        decimals = int(np.clip(2 - math.floor(math.log10(max(-low, high))), 0, 12))
        for place, value in enumerate(shown.tolist()):
            digits = f"{value:.{decimals}f}" if max(-low, high) < 1e5 else number(value)
            ax.annotate(
                digits.replace("-", "−"), (place, value), (0, 3 if value >= 0 else -3), textcoords="offset points", ha="center",
                va="bottom" if value >= 0 else "top", fontsize=7, color=PALE, family="DejaVu Sans",
            )  # fmt: skip
    _dress_plot(ax, "" if labels else "channel", "activation")
    places = _places(count, 1080) if labels is None else range(count)
    longest = max(4, int(1080 / count / 9))
    texts = [plain(names[place] if labels is None else labels[names[place]], longest) for place in places]
    ax.set_xticks(list(places), [text for text, _ in texts], parse_math=False)
    for tick, (_, families) in zip(ax.get_xticklabels(), texts, strict=True):
        tick.set_fontfamily(families)
    return cast(Figure, ax.get_figure(root=True))


def _dress_plot(ax: Axes, x: str, y: str) -> None:
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.set_xlabel(x, fontsize=8.5, color=PALE, family="DejaVu Sans", labelpad=6)
    ax.set_ylabel(y, fontsize=8.5, color=PALE, family="DejaVu Sans", labelpad=8)
    ax.set_axisbelow(True)
    ax.yaxis.grid(visible=True, color="#eceef1", linewidth=0.8)
