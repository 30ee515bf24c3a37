"""What is drawn, before it has a colour: checked arrays, the range of their colours, and what must be said about them.

Kernels, feature maps and histograms refuse the same things in the same words, and name broken weights the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import INFINITE, NAN
from cnnlens.text import printable

__all__ = [
    "Floats", "Note", "broken_notes", "extremes", "few", "joined", "largest", "real_numbers", "span", "value_range",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.floating[Any]]
Note: TypeAlias = tuple[str, str | None]
"""What is said under a picture, and the colour in it that this explains."""


def real_numbers(array: ArrayLike, what: str, least: int, most: int) -> Floats:
    """Check that ``array`` holds real numbers of a rank from ``least`` to ``most``, and at least one."""
    values = np.asarray(array)
    if values.dtype.kind not in "fiub":
        raise CnnlensError(f"{what}: real numbers are needed, not {values.dtype}; there is nothing to draw")
    if not least <= values.ndim <= most:
        ranks = f"{least}" if least == most else f"{least} to {most}"
        raise CnnlensError(f"{what}: an array of {ranks} axes is needed, not of shape {values.shape}")
    if values.size == 0:
        raise CnnlensError(f"{what}: the array of shape {values.shape} has no values to draw")
    return values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32, copy=False)


def largest(values: Floats, limit: float | None = None) -> float:
    """Find the weight that gets the full colour: ``limit``, or the largest finite magnitude; 1 where all are 0."""
    if limit is not None:
        if not (math.isfinite(limit) and limit > 0):
            raise CnnlensError(f"the colour limit must be a number above 0, not {limit}")
        return float(limit)
    return float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0)) or 1.0


def value_range(values: Floats, limits: Sequence[float] | str | None = None) -> tuple[float, float]:
    """Find the darkest and the brightest value: ``limits``, or those of the finite values with 0 among them."""
    if isinstance(limits, str) and limits != "each":
        raise CnnlensError(f"limits '{printable(limits)}' are not known; give two numbers or 'each'")
    if limits is not None and not isinstance(limits, str):
        if len(limits) != 2 or not (math.isfinite(limits[0]) and math.isfinite(limits[1]) and limits[0] < limits[1]):
            raise CnnlensError(f"the limits must be two numbers, the lower one first, not {limits}")
        return float(limits[0]), float(limits[1])
    finite = np.isfinite(values)
    low = float(np.min(values, where=finite, initial=0.0))
    high = float(np.max(values, where=finite, initial=-math.inf))
    high = max(high, 0.0) if math.isfinite(high) else 0.0
    return (low, high) if high > low else (low, low + 1.0)


def extremes(values: Floats) -> tuple[Floats, Floats]:
    """Find the smallest and the largest value of each entry of the first axis; NaN where it holds one.

    Both are looked for in the order of memory, and without a copy: large maps lie channels last.
    """
    others = tuple(range(1, values.ndim))
    return values.min(axis=others), values.max(axis=others)


def broken_notes(values: Floats, what: str, names: Sequence[int] | None = None) -> list[Note]:
    """Say which entries of the first axis hold NaN or infinities, with the colour they are drawn in."""
    notes: list[Note] = []
    flat = values.reshape(len(values), -1)
    for word, colour, bad in (("NaN", NAN, np.isnan(flat)), ("Inf", INFINITE, np.isinf(flat))):
        if bad.any():
            hit = np.flatnonzero(bad.any(axis=1)).tolist()
            which = [names[index] for index in hit] if names is not None else hit
            where = f" in {what} {few(which)}" if what else ""
            notes.append((f"{int(bad.sum()):,} × {word}{where}", colour))
    return notes


def few(numbers: Sequence[int], most: int = 12) -> str:
    """Write the first of ``numbers``, and how many more there are."""
    shown = ", ".join(map(str, numbers[:most]))
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"


def span(count: int) -> str:
    """Say which channels a layer of ``count`` has, in words."""
    return f"channels 0 to {count - 1}" if count > 1 else "channel 0 only"


def joined(left: str, right: str, by: str = "  ·  ") -> str:
    """Join both texts with ``by`` between them, or give the one that is not empty."""
    return left + by + right if left and right else left or right
