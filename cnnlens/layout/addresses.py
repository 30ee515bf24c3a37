"""What lies at which address of a stored array: the memory under its axes, worked out from a shape alone.

A stride is how many addresses one step along an axis is. In C order the last axis has stride 1, and every other one the
product of the sizes behind it; an axis that holds several letters has a stride for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.layout.patterns import Pattern, parse

__all__ = ["Memory", "memory", "stretches"]


@dataclass(frozen=True)
class Memory:
    """Holds which entry of each axis lies at some addresses of an array in C order.

    Attributes:
        layout: The axes as letters, such as ``HWIO`` or ``(HWC)O``.
        shape: Of the array.
        strides: Of each axis, in elements.
        sizes: Of each letter, slowest first.
        steps: How many addresses one step along each letter is, slowest first; more than the axis' own stride for all
            but the last letter of a merged axis.
        addresses: Those that were asked for, in elements from the start of the array.
        indices: For each letter the index that lies at each of ``addresses``: 1 of an axis that is stored backwards in
            three entries lies where 1 is, 0 where 2 would be.

    >>> import cnnlens
    >>> found = cnnlens.layout.memory("HWIO", (3, 3, 1, 32), addresses=[0, 31, 32, 96])
    >>> found.strides
    (96, 32, 32, 1)
    >>> found.indices["O"], found.indices["W"], found.indices["H"]
    ((0, 31, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    """

    layout: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    sizes: Mapping[str, int]
    steps: Mapping[str, int]
    addresses: tuple[int, ...]
    indices: Mapping[str, tuple[int, ...]]


def memory(
    layout: str | Pattern,
    shape: Sequence[int],
    sizes: Mapping[str, int] | None = None,
    *,
    addresses: Iterable[int] | None = None,
) -> Memory:
    """Say which entry of each axis lies at each address of an array of ``shape`` in C order.

    Args:
        layout: Its axes, a letter each, ``~`` before one that is stored backwards: ``HWIO``, ``(HWC)O``, ``~H~WIO``.
        shape: Its shape.
        sizes: Sizes by letter, for axes that hold several.
        addresses: Which ones, in elements; None for all.

    Raises:
        CnnlensError: Shape and layout do not fit, or an address is outside.

    >>> import cnnlens
    >>> cnnlens.layout.memory("NHWC", (1, 28, 28, 3)).steps
    {'N': 2352, 'H': 84, 'W': 3, 'C': 1}
    >>> cnnlens.layout.memory("(HWC)O", (105, 4), {"H": 7, "W": 5, "C": 3}, addresses=[0, 4, 12, 60]).indices["H"]
    (0, 0, 0, 1)
    """
    pattern = parse(layout) if isinstance(layout, str) else layout
    known = dict(sizes or {}) if any(len(axis) > 1 for axis in pattern.axes) else {}
    if len(shape) != len(pattern.axes):
        raise CnnlensError(f"{pattern} has {len(pattern.axes)} axes, {tuple(shape)} has {len(shape)}")
    for axis, size in zip(pattern.axes, shape, strict=True):
        if len(axis) == 1:
            known[axis[0]] = int(size)
        if not all(letter in known for letter in axis) or prod(known[letter] for letter in axis) != size:
            held = ", ".join(f"{letter} = {known.get(letter, '…')}" for letter in axis) or "1"
            raise CnnlensError(f"an axis of {size} entries does not hold {held}; sizes by letter say what it holds")
    letters = pattern.letters
    extent = [known[letter] for letter in letters]
    whole = prod(extent)
    wanted = np.arange(whole) if addresses is None else np.array(list(addresses), np.int64)
    if wanted.size and not (wanted.min() >= 0 and wanted.max() < whole):
        raise CnnlensError(f"the addresses go from 0 to {whole - 1}")
    places = np.unravel_index(wanted, extent) if letters else ()
    return Memory(
        str(pattern),
        tuple(int(size) for size in shape),
        tuple(prod(shape[axis + 1 :]) for axis in range(len(shape))),
        dict(zip(letters, extent, strict=True)),
        {letter: prod(extent[place + 1 :]) for place, letter in enumerate(letters)},
        tuple(int(address) for address in wanted),
        {
            letter: tuple(
                (known[letter] - 1 - index if letter in pattern.flipped else index) for index in place.tolist()
            )
            for letter, place in zip(letters, places, strict=True)
        },
    )


def stretches(points: Iterable[int], size: int, cells: int) -> list[range]:
    """Choose which of ``size`` addresses to show in the room of ``cells``: the first ones, and those around ``points``.

    A gap between two stretches takes the room of a cell.

    >>> stretches([1, 32, 96], 288, 24)
    [range(0, 16), range(31, 34), range(95, 98)]
    >>> stretches([1, 3, 9], 27, 40)
    [range(0, 27)]
    """
    found: list[range] = []
    for point in sorted({0, *(point for point in points if point < size)}):
        around = range(max(point - 1, 0), min(point + 2, size))
        if found and around.start <= found[-1].stop + 1:
            around = range(found.pop().start, around.stop)
        found.append(around)
    while sum(map(len, found)) + len(found) - 1 < cells and found[0].stop < size:
        first = range(found[0].start, found[0].stop + 1)
        if len(found) > 1 and first.stop + 1 >= found[1].start:
            first = range(first.start, found.pop(1).stop)
        found[0] = first
    return found
