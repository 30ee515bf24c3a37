"""Two recordings of one layer beside each other: sizes of the difference, which inherit and amplify every error before.

They help to see how far two runs are apart; whether a layer is right, only its audit says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.chunks import as_float64
from cnnlens.errors import CnnlensError

__all__ = ["Comparison", "pairwise"]

Array = NDArray[Any]
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Comparison:
    """Says how far two arrays are apart.

    Attributes:
        max_abs: The largest absolute difference; infinite where only one side is finite.
        rel_rms: Root mean square of the difference over that of the second array.
        cosine: Of the angle between both as vectors; 1 where both are zero.
        top1: The share of examples whose largest output is the same, for arrays ``(N, C)``; else None.
        equal: Whether every number is the same (NaN equals NaN).
    """

    max_abs: float
    rel_rms: float
    cosine: float
    top1: float | None
    equal: bool


def pairwise(a: Any, b: Any) -> Comparison:
    """Compare two feature maps of one shape, in any axes (the same for both): arrays, or recorded tensors, which are
    read some inputs at a time.

    Raises:
        CnnlensError: the shapes differ.
    """
    if tuple(a.shape) != tuple(b.shape):
        raise CnnlensError(f"arrays of one shape were expected, {a.shape} and {b.shape} came; compare the same layer")
    largest, equal = 0.0, True
    sums: Array = np.zeros(4)  # of squares: difference, a, b; of products; all over the square of top
    top, alike, examples = 0.0, 0, 0
    for one, two in _blocks(a, b):
        x, y = as_float64(one, two)
        if x.ndim == 2 and x.size:
            alike += int(np.equal(one.argmax(axis=1), two.argmax(axis=1)).sum())
            examples += len(x)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        equal = equal and bool(same.all())
        finite = np.isfinite(x) & np.isfinite(y)
        if not np.all(finite | same):
            largest = float("inf")
        x[~finite] = 0
        y[~finite] = 0
        largest = max(largest, float(np.abs(x - y).max(initial=0.0)))
        here = max(float(np.abs(x).max(initial=0.0)), float(np.abs(y).max(initial=0.0)))
        if here > top:  # keeps the squares in range
            sums *= (top / here) ** 2
            top = here
        if top:
            x /= top
            y /= top
        sums += [np.square(x - y).sum(), np.square(x).sum(), np.square(y).sum(), (x * y).sum()]
    difference, first, second, product = (float(sums[place]) for place in range(4))
    if largest == float("inf"):
        relative = float("inf")
    else:
        relative = (difference / second) ** 0.5 if second else (0.0 if not difference else float("inf"))
    norm = (first * second) ** 0.5
    cosine = product / norm if norm else (1.0 if first == second else 0.0)
    return Comparison(largest, relative, min(cosine, 1.0), alike / examples if examples else None, equal)


def _blocks(a: Any, b: Any) -> Iterator[tuple[Array, Array]]:
    shape = tuple(a.shape)
    if not shape:
        yield np.asarray(a), np.asarray(b)
        return
    step = max(_BLOCK // max(math.prod(shape[1:]), 1), 1)
    for start in range(0, shape[0], step):
        yield np.asarray(a[start : start + step]), np.asarray(b[start : start + step])
