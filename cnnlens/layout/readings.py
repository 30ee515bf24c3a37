"""What a kernel becomes when its array is read in a wrong way, each mistake a porter makes as a few lines of NumPy.

A wrong transpose seldom fails: on a square kernel every one of these has the right shape. So the mistakes are made here
on purpose, on a kernel in which letters are written, and a class sees at once which one it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.layout.crossing import Crossing
from cnnlens.layout.patterns import Pattern, apply, expression, solve, steps
from cnnlens.layout.tables import LEGEND

__all__ = ["PictureAxes", "Reading", "axis_names", "plan_of", "readings", "specimen", "specimen_sizes"]

Array = NDArray[Any]


@dataclass(frozen=True)
class PictureAxes:
    """Says how a kernel is laid out as a picture, by the letters of its axes.

    Attributes:
        rows, columns: The tiles: which axes count them down and across.
        down, across: The cells of a tile.
    """

    rows: str
    columns: str
    down: str
    across: str

    def tiles(self, array: Array, letters: str) -> Array:
        """Lay ``array``, one axis a letter of ``letters``, out as ``(rows, columns, down, across)``."""
        order = (self.rows, self.columns, self.down, self.across)
        moved = array.transpose([letters.index(letter) for group in order for letter in group])
        sizes = dict(zip(letters, array.shape, strict=True))
        return moved.reshape([prod(sizes[letter] for letter in group) for group in order])


# By the letters of the canonical array, merged axes taken apart.
_PLANS = {
    "OIHW": PictureAxes("O", "I", "H", "W"),
    "OIW": PictureAxes("", "I", "O", "W"),
    "OIDHW": PictureAxes("OI", "D", "H", "W"),
    "CMHW": PictureAxes("C", "M", "H", "W"),
    "CMW": PictureAxes("", "M", "C", "W"),
    "OCHW": PictureAxes("O", "C", "H", "W"),
    "OCW": PictureAxes("", "C", "O", "W"),
    "OCDHW": PictureAxes("OC", "D", "H", "W"),
    "OI": PictureAxes("", "", "O", "I"),
    "UI": PictureAxes("", "", "U", "I"),
    "QUI": PictureAxes("", "Q", "U", "I"),
    "QUIW": PictureAxes("Q", "I", "U", "W"),
    "QUIHW": PictureAxes("QU", "I", "H", "W"),
    "QUIDHW": PictureAxes("QUI", "D", "H", "W"),
    "AFI": PictureAxes("", "A", "F", "I"),
    "OAF": PictureAxes("", "A", "O", "F"),
    "CHW": PictureAxes("", "C", "H", "W"),
}


@dataclass(frozen=True)
class Reading:
    """Holds one way to read the array, right or wrong.

    Attributes:
        name: What was done, such as ``H and W swapped``.
        code: The line of NumPy that did it.
        array: The kernel as the target then takes it, one axis a letter in canonical order.
        right: Whether this is the right one.
        same_shape: Whether its shape is the right one, so that no check of shapes can see it.
    """

    name: str
    code: str
    array: Array
    right: bool = False
    same_shape: bool = True


def plan_of(crossing: Crossing) -> PictureAxes:
    """Choose how the weight is drawn: which axes are rows, columns and pixels.

    Raises:
        CnnlensError: It has no picture: a vector, a table that all store alike, or too many axes; says which.
    """
    what = f"{crossing.kind} {crossing.weight}"
    if crossing.source is None:
        raise CnnlensError(f"{what} has no picture: {crossing.reason}")
    plan = _PLANS.get(crossing.letters)
    if plan is None:
        few = len(crossing.letters) < 2 or crossing.letters == "VE"
        vector = "bias" in crossing.weight
        reason = "every framework stores it alike" if few else "it is a vector" if vector else "it has too many axes"
        raise CnnlensError(
            f"{what} has no picture: {reason}; a kernel of a convolution, a Dense or a recurrent layer has"
        )
    return plan


def specimen_sizes(crossing: Crossing) -> dict[str, int]:
    """Choose sizes that make a good picture: three tiles each way, large enough for letters, and square wherever it
    matters, so that no wrong reading can be told by its shape."""
    plan = plan_of(crossing)
    side = 7 if plan.rows + plan.columns else 14
    sizes = dict.fromkeys(plan.rows + plan.columns, 3) | dict.fromkeys(plan.down + plan.across, side)
    sizes |= {letter: size for letter, size in (("M", 2), ("D", 3)) if letter in sizes}
    if crossing.letters == "OIW":
        sizes["I"] = side
    if len(plan.rows) > 1:
        sizes |= dict.fromkeys(plan.rows, 2)
    if "Q" in sizes and crossing.source is not None:
        sizes["Q"] = len(crossing.source.gates)
        sizes |= {"U": 1} if plan.rows.startswith("QU") else {}
    return sizes


def specimen(crossing: Crossing) -> Array:
    """Make a float32 kernel, stored as the source does at the crossing's sizes, with a glyph to read in each tile.

    Letters of the alphabet where a tile has room for them (a gate's own letter for each gate of a recurrent layer),
    else a ramp that fades in reading order, its sign changing from tile to tile.

    Raises:
        CnnlensError: The weight has no picture.
    """
    plan, seen = plan_of(crossing), dict(crossing.sizes)
    assert crossing.source is not None
    gates = crossing.source.gates
    rows, columns = (prod(seen[letter] for letter in group) for group in (plan.rows, plan.columns))
    down, across = seen[plan.down], seen[plan.across]
    tiles = np.empty((rows, columns, down, across), np.float32)
    for row in range(rows):
        for column in range(columns):
            number = row * columns + column
            if gates and plan.columns == "Q":
                glyph = gates[column].upper()
            elif gates and plan.rows[:1] == "Q":
                glyph = gates[row * len(gates) // rows].upper() if column == 0 else _ALPHABET[column % len(_ALPHABET)]
            else:
                glyph = _ALPHABET[number % len(_ALPHABET)]
            tiles[row, column] = _written(glyph, number, down, across)
    order = plan.rows + plan.columns + plan.down + plan.across
    apart = tiles.reshape([seen[letter] for letter in order])
    plain = Pattern(tuple((letter,) for letter in order), gates=crossing.source.pattern.gates)
    return np.ascontiguousarray(apply(steps(plain, crossing.source.pattern), apart, _Sizes(seen)))


def readings(crossing: Crossing, kernel: Array) -> list[Reading]:
    """Read ``kernel`` rightly, and in the wrong ways that differ from that.

    Args:
        crossing: At the sizes of ``kernel``.
        kernel: As the source stores it.
    """
    source, target = crossing.source, crossing.target
    assert source is not None
    assert target is not None
    plain = Pattern(tuple((letter,) for letter in crossing.letters), gates=target.pattern.gates)
    sizes = _Sizes(crossing.sizes)

    def read(array: Array, taken: Mapping[str, int]) -> Array:
        held = {letter: size for letter, size in taken.items() if letter in target.pattern.letters}
        return apply(steps(target.pattern, plain), array, solve(target.pattern, plain, array.shape, held))

    right = read(crossing.apply(kernel), sizes)
    found = [Reading("right", crossing.numpy, right, right=True)]
    wrong = [_reshaped(crossing, kernel)] if crossing.condition != "behind a Flatten" else []
    wrong += [
        (
            one.name,
            expression(steps(one.source, one.target), source.variable, sizes),
            apply(steps(one.source, one.target), kernel, sizes),
            one.taken or sizes,
        )
        for one in _mistakes(crossing)
    ]
    for name, code, array, taken in wrong:
        seen = read(array, taken)
        same = seen.shape == right.shape
        if any(one.array.shape == seen.shape and np.array_equal(seen, one.array) for one in found):
            continue
        found.append(Reading(name, f"{target.variable} = {code}", seen, same_shape=same))
    return found


class _Sizes(dict[str, int]):
    """Sizes by letter that also know those of letters kept together (``QU``), and of axes of one entry (``1``)."""

    def __missing__(self, letters: str) -> int:
        return 1 if letters[0] == "1" else prod(self[letter] for letter in letters) if len(letters) > 1 else 1


@dataclass(frozen=True)
class _Mistake:
    """The source or the target taken for what it is not; ``taken`` are the sizes that the target then believes in."""

    name: str
    source: Pattern
    target: Pattern
    taken: Mapping[str, int] | None = None


def _reshaped(crossing: Crossing, kernel: Array) -> tuple[str, str, Array, Mapping[str, int]]:
    """Made to fit by reshape alone, which moves no number."""
    assert crossing.source is not None
    assert crossing.target is not None
    shape = crossing.target.shape
    if prod(shape) != kernel.size:  # one that is filled up with zeros
        return "right", "", crossing.apply(kernel), dict(crossing.sizes)
    if shape == kernel.shape:
        return "taken as it is", crossing.source.variable, kernel, dict(crossing.sizes)
    code = f"{crossing.source.variable}.reshape({', '.join(map(str, shape))})"
    return "reshaped, not transposed", code, kernel.reshape(shape), dict(crossing.sizes)


def _mistakes(crossing: Crossing) -> Iterator[_Mistake]:
    assert crossing.source is not None
    assert crossing.target is not None
    source, target, letters = crossing.source.pattern, crossing.target.pattern, crossing.letters
    sizes = dict(crossing.sizes)
    if source.gates != target.gates:
        yield _Mistake("gates not reordered", source, replace(target, gates=source.gates))
    if crossing.condition == "behind a Flatten":
        yield from _flatten_orders(source, target)
        return
    if source.flipped != target.flipped:
        yield _Mistake("flip forgotten", source, replace(target, flipped=source.flipped))
    matrix = not set(letters) & set("DHW")
    pairs = {
        "CM": "depth multiplier slowest",
        "AF": "heads and their width swapped",
        "HW": "H and W swapped",
        "DH": "D and H swapped",
        "OI": "not transposed" if matrix else "in and out swapped",
        "UI": "not transposed",
    }
    for pair, name in pairs.items():
        if set(pair) <= set(letters) and not (pair == "UI" and "Q" in letters):
            within = any(set(pair) <= set(axis) for axis in target.axes)
            taken = sizes if within else {**sizes, pair[0]: sizes[pair[1]], pair[1]: sizes[pair[0]]}
            yield _Mistake(name, source, _exchanged(target, pair), taken)
    if source.flipped == target.flipped:
        for letter, said in (("H", "upside down"), ("W", "mirrored" if "H" in letters else "backwards")):
            if letter in letters:
                yield _Mistake(f"{said}: {letter} flipped", source, replace(target, flipped=target.flipped ^ {letter}))


def _exchanged(pattern: Pattern, pair: str) -> Pattern:
    other = {pair[0]: pair[1], pair[1]: pair[0]}
    return replace(pattern, axes=tuple(tuple(other.get(letter, letter) for letter in axis) for axis in pattern.axes))


def _flatten_orders(source: Pattern, target: Pattern) -> Iterator[_Mistake]:
    """The flattened axes taken for another order than the one they are in: all orders but the right one."""
    place, held = next((place, axis) for place, axis in enumerate(source.axes) if len(axis) > 1)
    wanted = next(axis for axis in target.axes if len(axis) > 1)
    for order in permutations(held):
        if order != held:
            axes = (*source.axes[:place], order, *source.axes[place + 1 :])
            said = f"taken for ({', '.join(order)})"
            if order == wanted:
                said = f"order left as it was: {said}"
            yield _Mistake(said, replace(source, axes=axes), target)


# -- what is written on a specimen -------------------------------------------------------------------------------------

_FONT = {
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "G": "01110 10001 10000 10111 10001 10001 01110",
    "J": "00111 00010 00010 00010 10010 10010 01100",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "N": "10001 11001 10101 10101 10011 10001 10001",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
}
_ALPHABET = "FGJLPR247"  # those that no flip and no transpose makes into themselves or into one another
_GROUND = -0.12


def _written(glyph: str, number: int, down: int, across: int) -> Array:
    """A tile of ``down`` x ``across`` cells: the letter in the middle, as large as it goes, or else a ramp."""
    scale = min(down // 7, across // 5)
    if scale < 1:
        ramp = 1 - np.arange(down * across, dtype=np.float32).reshape(down, across) / (down * across)
        return ramp if number % 2 == 0 else -ramp
    bits = np.array([[int(bit) for bit in line] for line in _FONT[glyph].split()], np.float32)
    large = bits.repeat(scale, axis=0).repeat(scale, axis=1)
    tile = np.full((down, across), _GROUND, np.float32)
    top, left = (down - large.shape[0]) // 2, (across - large.shape[1]) // 2
    tile[top : top + large.shape[0], left : left + large.shape[1]] = np.where(large > 0, 1, _GROUND)
    return tile


def axis_names(letters: str) -> str:
    """Say ``OI`` as "output channels × input channels"."""
    return " × ".join(LEGEND[letter].split(",")[0].split(" (")[0].split(":")[0] for letter in letters)
