"""What becomes of the values of a weight when its array is read in a wrong way, each mistake a porter makes as a line.

A wrong transpose seldom fails: on a square kernel every one of these has the right shape. So the mistakes are made here
on purpose, on an array in which every value is its own address, and a reader sees which value went where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.layout.crossing import Crossing
from cnnlens.layout.patterns import Pattern, apply, expression, rearrangement, solve, steps
from cnnlens.layout.tables import LEGEND

__all__ = ["PictureAxes", "Reading", "axis_names", "plan_of", "readings", "specimen_sizes"]

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
    "CDHW": PictureAxes("C", "D", "H", "W"),
    "CW": PictureAxes("", "", "C", "W"),
    "NCHW": PictureAxes("N", "C", "H", "W"),
    "NCDHW": PictureAxes("NC", "D", "H", "W"),
    "NCW": PictureAxes("", "N", "C", "W"),
}


@dataclass(frozen=True)
class Reading:
    """Holds one way to read the array, right or wrong.

    Attributes:
        name: What was done, such as ``H and W swapped``.
        code: The line of NumPy that did it.
        einops: The same as a line of einops.
        array: Where in the source's array each value was that the target then finds, as an address: integers, one axis
            a letter in canonical order.
        right: Whether this is the right one.
        same_shape: Whether its shape is the right one, so that no check of shapes can see it.
    """

    name: str
    code: str
    einops: str
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
    assert crossing.target is not None
    plan = _PLANS.get(crossing.letters)
    if plan is None or _keeps_order(crossing):
        kept = f"its values lie in one order in {crossing.source.framework} and {crossing.target.framework}"
        other = "it is a vector" if "bias" in crossing.weight else "it has too many axes"
        reason = kept if _keeps_order(crossing) else other
        raise CnnlensError(f"{what} has no picture: {reason}; 'layouts --memory' shows what lies at which address")
    return _of_ones(plan, dict(crossing.sizes))


def _of_ones(plan: PictureAxes, sizes: Mapping[str, int]) -> PictureAxes:
    """The plan for a kernel whose tiles would be single cells or lines of them: tiles and cells change places."""

    def size(letters: str) -> int:
        return prod(sizes.get(letter, 1) for letter in letters)

    if size(plan.across) == 1 and size(plan.columns) > 1:
        plan = replace(plan, columns=plan.across, across=plan.columns)
    if size(plan.down) == 1 and size(plan.rows) > 1:
        plan = replace(plan, rows=plan.down, down=plan.rows)
    return plan


def _keeps_order(crossing: Crossing) -> bool:
    """Whether the values lie in memory in one order on both sides, zeros that fill one up aside."""
    assert crossing.source is not None
    assert crossing.target is not None
    if crossing.source.pattern.filled != crossing.target.pattern.filled:
        return crossing.source.gates == crossing.target.gates
    addresses = _addresses(crossing.source.shape)
    return np.array_equal(crossing.apply(addresses).ravel(), addresses.ravel())


def specimen_sizes(crossing: Crossing) -> dict[str, int]:
    """Choose sizes that make a good picture: few enough values to read every address, and square wherever it matters,
    so that no wrong reading can be told by its shape."""
    plan = plan_of(crossing)
    maps = crossing.weight == "maps"
    side = 8 if not plan.rows + plan.columns else 6 if maps and "D" not in crossing.letters else 3
    sizes = dict.fromkeys(plan.rows + plan.columns, 3) | dict.fromkeys(plan.down + plan.across, side)
    sizes |= {letter: size for letter, size in (("M", 2), ("D", 3), ("N", 1)) if letter in sizes}
    if crossing.letters in ("OIW", "NCW", "CW"):
        sizes |= {"C": 3, "W": 6} if "C" in sizes else {"O": 4, "I": 4}
    if crossing.letters in ("QUI", "AFI", "OAF"):
        most = 6 if crossing.source is not None and len(crossing.source.gates) == 4 else 10
        sizes |= {letter: most if letter == "U" else 6 if letter == "O" else 4 for letter in plan.down + plan.across}
        sizes |= {"A": sizes["F"]} if "A" in sizes else {}
    if len(plan.rows) > 1 and not maps:
        sizes |= dict.fromkeys(plan.rows, 2)
    if "Q" in sizes and crossing.source is not None:
        sizes["Q"] = len(crossing.source.gates)
        sizes |= {"U": 1} if plan.rows.startswith("QU") else {}
    return sizes


def _addresses(shape: Sequence[int]) -> Array:
    return np.arange(prod(shape), dtype=np.int32).reshape(shape)


def readings(crossing: Crossing) -> list[Reading]:
    """Read an array of addresses rightly, and in the wrong ways that differ from that."""
    source, target = crossing.source, crossing.target
    assert source is not None
    assert target is not None
    plain = Pattern(tuple((letter,) for letter in crossing.letters), gates=target.pattern.gates)
    sizes = _Sizes(crossing.sizes)
    addresses = _addresses(source.shape)

    def read(array: Array, taken: Mapping[str, int]) -> Array:
        held = {letter: size for letter, size in taken.items() if letter in target.pattern.letters}
        return apply(steps(target.pattern, plain), array, solve(target.pattern, plain, array.shape, held))

    right = read(crossing.apply(addresses), sizes)
    found = [Reading("right", crossing.numpy, crossing.einops, right, right=True)]
    wrong = [_reshaped(crossing, addresses)] if crossing.condition != "behind a Flatten" else []
    wrong += [
        (
            one.name,
            expression(steps(one.source, one.target), source.variable, sizes),
            rearrangement(one.source, one.target, source.variable, sizes),
            apply(steps(one.source, one.target), addresses, sizes),
            one.taken or sizes,
        )
        for one in _mistakes(crossing)
    ]
    wrong.sort(key=lambda one: not one[0].startswith("gates"))  # what it is called where a reshape does the same
    for name, code, einops, array, taken in wrong:
        seen = read(array, taken)
        same = seen.shape == right.shape
        if any(one.array.shape == seen.shape and np.array_equal(seen, one.array) for one in found):
            continue
        left = f"{target.variable} = "
        found.append(Reading(name, left + code, left + einops, seen, same_shape=same))
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


def _reshaped(crossing: Crossing, array: Array) -> tuple[str, str, str, Array, Mapping[str, int]]:
    """Made to fit by reshape alone, which moves no number."""
    assert crossing.source is not None
    assert crossing.target is not None
    name, target = crossing.source.variable, crossing.target
    sizes = _Sizes(crossing.sizes)
    if target.shape == array.shape:
        return "taken as it is", name, name, array, sizes
    code = f"{name}.reshape({', '.join(map(str, target.shape))})"
    flat = Pattern((target.pattern.letters,))
    return (
        "reshaped, not transposed",
        code,
        rearrangement(flat, replace(target.pattern, flipped=frozenset(), gates=("", "")), f"{name}.ravel()", sizes),
        array.reshape(target.shape),
        sizes,
    )


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
        "AF": "heads and width swapped",
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
    if crossing.weight == "maps" and sizes["C"] > 1:
        coloured = sizes["C"] == 3 and "H" in letters and "D" not in letters
        said = "RGB taken for BGR" if coloured else "channels in reverse"
        yield _Mistake(said, source, replace(target, flipped=target.flipped ^ {"C"}))
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
                said = f"not reordered: ({', '.join(order)})"
            yield _Mistake(said, replace(source, axes=axes), target)


def axis_names(letters: str) -> str:
    """Say ``OI`` as "output channels × input channels"."""
    return " × ".join(LEGEND[letter].split(",")[0].split(" (")[0].split(":")[0] for letter in letters)
