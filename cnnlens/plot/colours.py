"""Numbers to colours: weights red and blue around white, activations dark to bright, and what is broken in neither.

matplotlib has one colour for all that is "bad"; here NaN, infinity and the gap between two tiles are three things. So
colours are looked up before anything is enlarged, which is also what makes a grid of 512 kernels quick.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "INFINITE", "MOST", "NAN", "WEIGHTS", "paint", "paint_rgb", "rgb", "scale_of", "scale_ticks"]

WEIGHTS = "RdBu_r"
"""Colour map of weights: blue below zero, white at zero, red above."""

ACTIVATIONS = "magma"
"""Colour map of feature maps: even steps to the eye, and in a grey print too."""

NAN, INFINITE = "#27e833", "#00d5ff"
"""Colours of what is not a number and of what is not finite; in neither colour map."""

MOST = 1e300
"""Larger magnitudes are drawn as this one: float64 ends at 1.8e308, and matplotlib adds to the ends of its axes."""


_AT_ONCE = 1 << 16  # values that are on their way to a colour, in float64


def rgb(text: str) -> tuple[int, int, int]:
    """Read ``"#27e833"`` as three numbers from 0 to 255."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def paint(values: NDArray[np.floating[Any]], colours: str, low: float, high: float) -> NDArray[np.uint8]:
    """Colour each value, ``values.shape + (3,)``; NaN and infinities in colours of their own."""
    # In float64, and in halves: neither the smallest nor the largest weights of a file then leave the range of numbers.
    low, high = max(low, -MOST) / 2, min(high, MOST) / 2
    table = cast(NDArray[np.uint8], colormaps[colours](np.linspace(0, 1, 256), bytes=True))[:, :3]
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


def scale_of(colours: str, low: float, high: float) -> ScalarMappable:
    """Make what a colour bar shows."""
    return ScalarMappable(Normalize(max(low, -MOST), min(high, MOST)), colormaps[colours])


def scale_ticks(bar: ScalarMappable) -> list[float]:
    """Choose the values that a colour bar names: its ends, zero where it lies well inside, and what is between."""
    low, high = cast(float, bar.norm.vmin), cast(float, bar.norm.vmax)
    if low == -high:
        return [low, low / 2, 0.0, high / 2, high]
    return [low, 0.0, high] if low < -0.15 * high < 0 else [low, (low + high) / 2, high]
