"""How large a page may become, and which arrays it holds exactly, as colours, or not at all.

All that are drawn are levels of colour at first, small ones before large ones, as long as those fit. What room is left
then makes exact numbers of some, in the same order. The page says which.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnlens.reporting.packing import Packed, Packer, levels, packed

__all__ = ["Budget", "as_floats"]

_DENSEST = (
    0.25  # of their bytes, to which numbers that a network computes are deflated at best: what is larger is not tried
)


class _Wanted(NamedTuple):
    name: str
    array: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]
    row: dict[str, Any]


class Budget:
    """Packs arrays as exactly as there is room for.

    >>> import numpy as np
    >>> from cnnlens.reporting.packing import Packer
    >>> budget, rows = Budget(Packer(), 2700), [{}, {}, {}]
    >>> for row, size in zip(rows, (100, 1000, 1000)):
    ...     budget.add(row, f"a{len(budget)}", np.random.default_rng(0).random(size), np.array(0.0), np.array(1.0))
    >>> budget.settle()
    >>> rows
    [{'array': 'a0', 'exact': True}, {'array': 'a1', 'exact': False}, {'array': None, 'exact': False}]
    """

    def __init__(self, packer: Packer, characters: int) -> None:
        """Pack into ``packer``, whose block may have so many characters."""
        self._packer = packer
        self._characters = characters
        self._wanted: list[_Wanted] = []

    def exact(self, name: str, array: NDArray[Any]) -> str:
        """Pack what a page cannot do without, however little room there is."""
        return self._packer.add(name, array)

    def add(self, row: dict[str, Any], name: str, array: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
        """Note an array that ``settle`` packs as well as there is room for.

        Args:
            row: Is told what became of it: ``array`` is the name, or None where it was left out; ``exact``, or levels.
            low, high: Which values have the ends of the colours, as ``levels`` takes them.
        """
        row.update(array=None, exact=False)
        self._wanted.append(_Wanted(name, array, low, high, row))

    def __len__(self) -> int:
        """Count the arrays that are noted."""
        return len(self._wanted)

    def settle(self) -> None:
        """Pack what was added."""
        left = self._characters - self._packer.size
        chosen: list[tuple[_Wanted, Packed]] = []
        for one in sorted(self._wanted, key=lambda wanted: wanted.array.size):
            coloured = packed(levels(one.array, one.low, one.high))
            if coloured.characters <= left:
                left -= coloured.characters
                chosen.append((one, coloured))
        for one, coloured in chosen:
            best = coloured
            if one.array.nbytes * _DENSEST * 4 / 3 <= left + coloured.characters:
                exact = packed(one.array)
                best = exact if exact.characters <= left + coloured.characters else coloured
            left += coloured.characters - best.characters
            one.row.update(array=self._packer.put(one.name, best), exact=best is not coloured)
        self._wanted.clear()


def as_floats(array: NDArray[Any]) -> NDArray[Any]:
    """Give numbers in the float type that a page computes with: float32 where it holds them all, else float64."""
    small = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    return array.astype(np.float32 if small else np.float64, copy=False)
