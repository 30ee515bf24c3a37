"""How large a page may become, and which arrays it holds exactly, as colours, or not at all.

What was asked first has the room: an array is kept as it is while half of what is left holds it, as levels of colour
where those fit, and else left out. The page says which.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.reporting.packing import Packer, levels

__all__ = ["Budget", "as_floats"]

_TEXT = 4 / 3  # characters of base64 a byte


class Budget:
    """Packs arrays as exactly as there is room for.

    Attributes:
        packer: What holds the arrays.
    """

    def __init__(self, packer: Packer, characters: int) -> None:
        self.packer = packer
        self._characters = characters

    @property
    def _left(self) -> float:
        return self._characters - self.packer.size

    def exact(self, name: str, array: NDArray[Any]) -> str:
        """Pack what a page cannot do without, however little room there is."""
        return self.packer.add(name, array)

    def add(self, name: str, array: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> dict[str, Any]:
        """Pack an array as well as there is room for.

        Args:
            low, high: Which values have the ends of the colours, as ``levels`` takes them.

        Returns:
            ``{"array": name, "exact": bool}``: levels where that is false; the name is None where it is left out.
        """
        if array.nbytes * _TEXT <= self._left / 2:
            return {"array": self.packer.add(name, array), "exact": True}
        if array.size * _TEXT <= self._left:
            return {"array": self.packer.add(name, levels(array, low, high)), "exact": False}
        return {"array": None, "exact": False}


def as_floats(array: NDArray[Any]) -> NDArray[Any]:
    """Give numbers in the float type that a page computes with: float32 where it holds them all, else float64."""
    small = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    return array.astype(np.float32 if small else np.float64, copy=False)
