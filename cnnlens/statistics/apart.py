"""How far the feature maps of two backends are apart in one layer, added up batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.chunks import as_float64

__all__ = ["Apart"]

Array = NDArray[Any]


@dataclass
class Apart:
    """Says how far the feature maps of two backends are apart in one layer.

    Attributes:
        layer: Its name; ``backends``: the two, each held against the first that was named.
        max_abs: The largest absolute difference; infinite where only one side is finite. Of complex numbers that of
            their real and imaginary parts, which are numbers of their own here.
        worst: The index of the input with the largest difference, relative to its own maps; ``name``: its name.
    """

    layer: str
    backends: tuple[str, str]
    max_abs: float = 0.0
    worst: int = 0
    name: str = ""
    _worst: float = field(default=-1.0, repr=False)
    _squares: list[float] = field(default_factory=lambda: [0.0, 0.0], repr=False)

    @property
    def rel_rms(self) -> float:
        """Give the root mean square of the difference over that of the second's maps."""
        difference, size = self._squares
        return math.inf if self.max_abs == math.inf else (difference / size) ** 0.5 if size else 0.0

    def add(self, one: Array, other: Array, start: int) -> NDArray[np.float64]:
        """Add a batch of both, the first of them input ``start``; give how far apart each input is, relatively."""
        x, y = (array.reshape(len(array), -1) for array in as_float64(one, other))
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        both = np.isfinite(x) & np.isfinite(y)
        x[~both] = y[~both] = 0
        odd = ~(both | same).all(axis=1)
        largest = np.where(odd, np.inf, np.abs(x - y).max(axis=1, initial=0.0))
        difference, size = np.square(x - y).sum(axis=1), np.square(y).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(odd, np.inf, np.where(difference > 0, np.sqrt(difference / size), 0.0))
        self.max_abs = max(self.max_abs, float(largest.max()))
        self._squares = [self._squares[0] + float(difference.sum()), self._squares[1] + float(size.sum())]
        if relative.max() > self._worst:
            self._worst, self.worst = float(relative.max()), start + int(relative.argmax())
        return relative
