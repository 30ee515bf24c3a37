"""One number that everything was multiplied with, or one for each channel; and what a folded batch norm makes of them.

A factor explains only what it leaves nothing of: every element must come out to the rounding of the coarser dtype. The
factors of a folded batch norm are gamma / sqrt(variance + epsilon), so the epsilon can be solved for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["EPSILONS", "Fold", "Scaled", "fold", "scaled", "tolerance"]

Array: TypeAlias = NDArray[Any]

EPSILONS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-4, 1e-2, 1e-8, 1e-12, 0.0, 1.001e-5)
_ULPS = {2: 2.0**-9, 4: 2.0**-21, 8: 2.0**-48}  # by bytes of the dtype: a few roundings
_FREE = 6  # elements more than factors, so that a fit can fail


@dataclass(frozen=True)
class Scaled:
    """Says that ``x = factors * y``: one factor for all (``axis`` None), or one an entry of a canonical axis."""

    axis: int | None
    factors: Array
    worst: float


def tolerance(*dtypes: np.dtype[Any]) -> float:
    """Say what rounding leaves of an element, relative, in the coarsest of the dtypes."""
    return max(_ULPS.get(dtype.itemsize, 2.0**-21) if dtype.kind == "f" else 0.0 for dtype in dtypes)


def scaled(x: Array, y: Array, allowed: float, part: bool = False) -> Scaled | None:
    """Find factors that turn ``y`` into ``x`` element by element; both canonical, float64.

    Args:
        allowed: The error of an element, relative to it.
        part: Whether they are parts of larger arrays, where factors of 1 throughout say nothing of the rest.
    """
    if x.size < 3:
        return None
    axes: tuple[int | None, ...] = (None, 0, 1) if x.ndim > 1 else (None,)
    for axis in axes:
        count = 1 if axis is None else x.shape[axis]
        if count == 1 and axis is not None:
            continue
        if x.size < 2 * count or (x.size - count < _FREE and axis is not None):
            continue
        found = _factors(x, y, axis, allowed)
        if found is not None and (part or (np.abs(found.factors - 1) > 4 * allowed).any()):
            return found
    return None


def _factors(x: Array, y: Array, axis: int | None, allowed: float) -> Scaled | None:
    others = tuple(place for place in range(x.ndim) if place != axis)
    with np.errstate(all="ignore"):
        above = (x * y).sum(axis=others, keepdims=True)
        below = np.square(y).sum(axis=others, keepdims=True)
        factors = above / below
        dead = below == 0
        factors = np.where(dead, 1.0, factors)
        error = np.abs(x - factors * y)
        floor = 2.0**-24 * allowed * np.sqrt(np.square(x).mean())
        relative = error / np.maximum(np.abs(x), floor)
    if not np.isfinite(factors).all() or not (relative <= allowed).all() or dead.all() or (factors == 0).any():
        return None
    return Scaled(axis, np.atleast_1d(factors.reshape(-1)), float(relative.max(initial=0.0)))


@dataclass(frozen=True)
class Fold:
    """Describes a batch norm that went into a convolution.

    Attributes:
        epsilon: Which one.
        alike: Further usual epsilons that the numbers cannot tell from it.
        worst: The largest relative error of a factor.
    """

    epsilon: float
    alike: tuple[float, ...]
    worst: float


def fold(factors: Array, norm: Mapping[str, Array], allowed: float) -> Fold | None:
    """Find the epsilon with which ``factors`` are the batch norm's: ``gamma / sqrt(moving_variance + epsilon)``.

    Args:
        factors: What each output channel was multiplied with.
        norm: The batch norm's vectors, float64.
        allowed: The relative error of a factor.
    """
    variance = norm.get("moving_variance")
    if variance is None or variance.shape != factors.shape:
        return None
    gamma = norm.get("gamma", np.ones_like(variance))
    live = (gamma != 0) & np.isfinite(factors) & (factors != 0) & (variance > -1e-3)
    if live.sum() < 2:
        return None

    def misfit(epsilon: float) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            off = factors[live] * np.sqrt(variance[live] + epsilon) / gamma[live] - 1
        size = np.abs(off)
        return float(np.sqrt(np.square(off).mean())), float(size.max())

    scores = {epsilon: misfit(epsilon) for epsilon in EPSILONS}
    good = {epsilon: score for epsilon, score in scores.items() if score[1] <= allowed}
    if good:
        best = min(score[0] for score in good.values())
        alike = [epsilon for epsilon, score in good.items() if score[0] <= 1.5 * best + 1e-9]
        return Fold(alike[0], tuple(alike[1:]), good[alike[0]][1])
    with np.errstate(all="ignore"):
        solved = np.square(gamma[live] / factors[live]) - variance[live]
    weight = 1 / np.square(variance[live] + max(float(np.median(solved)), 1e-12))
    free = float((solved * weight).sum() / weight.sum())
    if free > 0 and misfit(free)[1] <= allowed:
        short = float(f"{free:.3g}")
        free = short if misfit(short)[1] <= allowed else free
        return Fold(free, (), misfit(free)[1])
    return None
