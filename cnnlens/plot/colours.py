"""Numbers to colours: weights red and blue around white, activations dark to bright, and what is broken in neither.

matplotlib has one colour for all that is "bad"; here NaN, infinity and the gap between two tiles are three things. So
colours are looked up before anything is enlarged, which is also what makes a grid of 512 kernels quick.
"""

from __future__ import annotations

from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.text import nearest, printable

__all__ = ["ACTIVATIONS", "INFINITE", "MOST", "NAN", "WEIGHTS", "colour_map", "paint", "paint_rgb", "rgb", "scale_of"]

WEIGHTS = "RdBu_r"
"""Colour map of weights: blue below zero, white at zero, red above."""

ACTIVATIONS = "magma"
"""Colour map of feature maps: even steps to the eye, and in a grey print too."""

NAN, INFINITE = "#27e833", "#00d5ff"
"""Colours of what is not a number and of what is not finite; in neither colour map."""

MOST = 1e280
"""Larger magnitudes are drawn as this one, and said to be larger: float64 ends at 1.8e308, matplotlib adds to the ends
of its axes, and draws no density smaller than that of values so far apart."""


_AT_ONCE = 1 << 16  # values that are on their way to a colour, in float64


def rgb(text: str) -> tuple[int, int, int]:
    """Read ``"#27e833"`` as three numbers from 0 to 255."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def colour_map(cmap: str | Colormap | None, default: str) -> Colormap:
    """Find the colour map that is asked for; None takes ``default``.

    Where the default is that of feature maps, ``image.cmap`` of the user's rcParams stands above it if it was changed.

    Raises:
        CnnlensError: matplotlib knows none of that name.
    """
    if cmap is None:
        own = str(mpl.rcParams["image.cmap"])
        changed = own != mpl.rcParamsDefault["image.cmap"] and own in colormaps
        cmap = own if changed and default == ACTIVATIONS else default
    if isinstance(cmap, Colormap):
        return cmap.copy()
    if cmap not in colormaps:
        raise CnnlensError(f"there is no colour map '{printable(cmap)}'; {nearest(cmap, colormaps)}")
    return colormaps[cmap]


def paint(values: NDArray[np.floating[Any]], colours: str | Colormap, low: float, high: float) -> NDArray[np.uint8]:
    """Colour each value, ``values.shape + (3,)``; NaN and infinities in colours of their own."""
    # In float64, and in halves: neither the smallest nor the largest weights of a file then leave the range of numbers.
    low, high = max(low, -MOST) / 2, min(high, MOST) / 2
    table = cast(NDArray[np.uint8], colormaps.get_cmap(colours)(np.linspace(0, 1, 256), bytes=True))[:, :3]
    flat = values.reshape(-1)
    painted = np.empty((flat.size, 3), np.uint8)
    for start in range(0, flat.size, _AT_ONCE):
        some = flat[start : start + _AT_ONCE]
        finite = np.isfinite(some)
        place = np.where(finite, some, 0).astype(np.float64)
        place /= 2
        if high > low:
            place -= low
            place /= high - low
            np.clip(place, 0, 1, out=place)
        else:
            place.fill(0.5)
        place *= 255
        part = painted[start : start + _AT_ONCE]
        table.take(np.rint(place, out=place).astype(np.intp), axis=0, out=part)
        if not finite.all():
            part[np.isnan(some)] = rgb(NAN)
            part[np.isinf(some)] = rgb(INFINITE)
    return painted.reshape(*values.shape, 3)


def paint_rgb(values: NDArray[np.floating[Any]], bound: float) -> NDArray[np.uint8]:
    """Colour ``(out, 3, H, W)`` as ``(out, H, W, 3)``: grey where all three weights are 0."""
    finite = np.isfinite(values)
    place = np.clip(0.5 + np.where(finite, values, 0) / bound / 2, 0, 1)
    painted = np.moveaxis(np.rint(place * 255).astype(np.uint8), 1, -1).copy()
    painted[np.isinf(values).any(axis=1)] = rgb(INFINITE)
    painted[np.isnan(values).any(axis=1)] = rgb(NAN)
    return painted


def scale_of(colours: str | Colormap, low: float, high: float, extend: str = "neither") -> ScalarMappable:
    """Make what a colour bar shows; ``extend`` says at which ends values lie beyond it."""
    shown = colormaps.get_cmap(colours).copy()
    shown.colorbar_extend = cast(Any, extend)
    return ScalarMappable(Normalize(max(low, -MOST), min(high, MOST)), shown)
