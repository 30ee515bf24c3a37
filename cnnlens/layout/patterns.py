"""A small language for the axis order of an array, and the NumPy steps between two orders written in it.

``HWIO`` reads: axis 0 is H, axis 1 is W, and so on. ``(CM)1HW`` has one axis that holds C and M together (C slowest),
then an axis of size 1. Every conversion between frameworks is derived from two such patterns, so a convention is one
line of data in :mod:`cnnlens.layout.tables`, and no conversion can be written down wrongly in one direction only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError

__all__ = [
    "SPATIAL", "Pattern", "Step", "apply", "expression", "parse", "rearrangement", "solve", "stepped_shape", "steps",
]  # fmt: skip

SPATIAL = {0: "", 1: "W", 2: "HW", 3: "DHW"}
"""The letters that ``*`` stands for, by the number of spatial axes."""

Axis: TypeAlias = tuple[str, ...]
Operation: TypeAlias = Literal["reshape", "transpose", "take", "flip", "extend", "shrink"]


@dataclass(frozen=True)
class Pattern:
    """Holds the axis order of one array.

    Args:
        axes: For each stored axis the letters it holds, slowest first; an empty tuple is an axis of size 1.
        flipped: Letters along which the array is stored backwards.
        gates: The letter whose entries have names, and those names in stored order (LSTM: ``("Q", "ifgo")``).
        filled: Letters that this framework must store at a given size, with zeros after the first entry.

    >>> from cnnlens.layout.patterns import parse
    >>> pattern = parse("*IO", "HW")
    >>> str(pattern), pattern.letters
    ('HWIO', ('H', 'W', 'I', 'O'))
    """

    axes: tuple[Axis, ...]
    flipped: frozenset[str] = frozenset()
    gates: tuple[str, str] = ("", "")
    filled: tuple[tuple[str, int], ...] = ()

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """List all letters in stored order, merged axes taken apart."""
        return tuple(letter for axis in self.axes for letter in axis)

    def __str__(self) -> str:
        return "".join(axis[0] if len(axis) == 1 else f"({''.join(axis)})" if axis else "1" for axis in self.axes)

    def without(self, letter: str) -> Pattern:
        """Give the same order without ``letter``, which is known to have size 1 (groups = 1)."""
        if letter not in self.letters:
            return self
        # An axis that held this letter alone stays, as an axis of size 1.
        return replace(self, axes=tuple(tuple(each for each in axis if each != letter) for axis in self.axes))


@dataclass(frozen=True)
class Step:
    """Describes one NumPy operation on an array, as data.

    ``reshape`` has ``axes`` (letters of each new axis); ``transpose`` has ``numbers`` (the permutation); ``take`` has
    ``axis`` and ``numbers`` (the entries, in their new order); ``flip`` has ``numbers`` (the axes); ``extend`` appends
    zeros along ``axis`` up to ``numbers[0]`` entries (of ``numbers[1]`` axes) and ``shrink`` adds them up:
    a layer with one bias has the sum of two.

    >>> import cnnlens
    >>> cnnlens.layout.convention("Conv2D", "kernel", "torch").from_keras
    (Step(operation='transpose', numbers=(3, 2, 0, 1), axes=(), axis=0),)
    """

    operation: Operation
    numbers: tuple[int, ...] = ()
    axes: tuple[Axis, ...] = ()
    axis: int = 0


def parse(
    text: str, spatial: str = "", gates: tuple[str, str] = ("", ""), fill: Mapping[str, int] | None = None
) -> Pattern:
    """Read the pattern written as ``text``; ``*`` stands for the letters ``spatial``, and ``~`` says that what
    follows is flipped.

    >>> str(parse("*IO", "HW"))
    'HWIO'
    >>> parse("(CM)1*", "HW").axes
    (('C', 'M'), (), ('H',), ('W',))
    """
    return _parse(text, spatial, gates, tuple((fill or {}).items()))


@lru_cache(maxsize=1024)
def _parse(text: str, spatial: str, gates: tuple[str, str], fill: tuple[tuple[str, int], ...]) -> Pattern:
    axes: list[Axis] = []
    flipped: set[str] = set()
    merged: list[str] | None = None
    flip = False
    for char in text:
        if char == "~":
            flip = True
        elif char == "(":
            merged = []
        elif char == ")":
            axes.append(tuple(merged or ()))
            merged = None
        elif char == "1" and merged is None:
            axes.append(())
        else:
            letters = spatial if char == "*" else char
            if flip:
                flipped.update(letters)
                flip = False
            if merged is None:
                axes.extend((letter,) for letter in letters)
            else:
                merged.extend(letters)
    filled = tuple((letter, size) for letter, size in fill if any(letter in axis for axis in axes))
    present = any(gates[0] in axis for axis in axes)
    return Pattern(tuple(axes), frozenset(flipped), gates if present else ("", ""), filled)


@lru_cache(maxsize=1024)
def _joined(source: Pattern, target: Pattern) -> tuple[Pattern, Pattern]:
    """Both patterns with each merged axis that they share, and equal numbers of size-1 axes, written as one letter."""

    def splits(axis: Axis, pattern: Pattern) -> bool:
        touched = {*pattern.flipped, *(letter for letter, _ in pattern.filled)}
        if source.gates != target.gates:
            touched.add(pattern.gates[0])
        return any(letter in touched for letter in axis)

    shared = {
        axis
        for axis in source.axes
        if len(axis) > 1 and axis in target.axes and not splits(axis, source) and not splits(axis, target)
    }
    same_ones = source.axes.count(()) == target.axes.count(())

    def rewrite(pattern: Pattern) -> Pattern:
        axes: list[Axis] = []
        ones = 0
        for axis in pattern.axes:
            if axis in shared:
                axes.append(("".join(axis),))
            elif not axis and same_ones:
                axes.append((f"1{'′' * ones}",))
                ones += 1
            else:
                axes.append(axis)
        return replace(pattern, axes=tuple(axes))

    return rewrite(source), rewrite(target)


@lru_cache(maxsize=1024)
def steps(source: Pattern, target: Pattern) -> tuple[Step, ...]:
    """Work out the NumPy operations that turn an array stored as ``source`` into one stored as ``target``.

    A letter that only one of the two has is an axis of size 1 in the other; :func:`apply` refuses any other size.
    """
    source, target = _joined(source, target)
    found: list[Step] = []
    wanted = target.letters
    added = tuple(letter for letter in wanted if letter not in source.letters)
    grown = tuple(letter for letter, _ in target.filled if letter in added)
    dropped = tuple(letter for letter in source.letters if letter not in wanted)
    letters = (*added, *source.letters)
    if added or any(len(axis) != 1 for axis in source.axes):
        found.append(Step("reshape", axes=(*(() for _ in added), *((letter,) for letter in source.letters))))
    flips = tuple(
        axis for axis, letter in enumerate(letters) if (letter in source.flipped) != (letter in target.flipped)
    )
    if flips:
        found.append(Step("flip", flips))
    if source.gates != target.gates and source.gates[0] and target.gates[0]:
        order = tuple(source.gates[1].index(gate) for gate in target.gates[1])
        found.append(Step("take", order, axis=letters.index(source.gates[0])))
    found.extend(Step("shrink", axis=letters.index(letter)) for letter, _ in source.filled if letter in dropped)
    found.extend(
        Step("extend", (size, len(letters)), axis=letters.index(letter))
        for letter, size in target.filled
        if letter in grown
    )
    order = tuple(letters.index(letter) for letter in (*wanted, *dropped))
    if order != tuple(range(len(order))):
        found.append(Step("transpose", order))
    if dropped or any(len(axis) != 1 for axis in target.axes):
        ones = {letter for letter in added if letter not in grown}
        axes = tuple(tuple(letter for letter in axis if letter not in ones) for axis in target.axes)
        if found and found[-1].operation == "reshape":
            found.pop()
        found.append(Step("reshape", axes=axes))
    return tuple(found)


def solve(source: Pattern, target: Pattern, shape: Sequence[int], known: Mapping[str, int]) -> dict[str, int]:
    """Find the size of every letter that the steps from ``source`` to ``target`` need, from a stored shape and what is
    known.

    Raises:
        CnnlensError: The shape does not fit the pattern, contradicts what is known, or leaves sizes open.
    """
    joined_source, joined_target = _joined(source, target)
    if len(shape) != len(source.axes):
        raise CnnlensError(f"has {len(shape)} axes, {tuple(shape)}, where {source} has {len(source.axes)}")
    sizes = {letter: 1 for pattern in (joined_source, joined_target) for letter in pattern.letters if letter[0] == "1"}
    sizes |= known
    filled = dict(source.filled)
    for number, (axis, size) in enumerate(zip(joined_source.axes, shape, strict=True)):
        sizes.update((letter, filled[letter]) for letter in axis if letter in filled)
        _fit(number, axis, int(size), sizes)
    sizes = dict.fromkeys(joined_target.letters, 1) | sizes | dict(target.filled)
    for letter in joined_source.letters:
        if letter not in joined_target.letters and letter not in filled and sizes[letter] != 1:
            raise CnnlensError(f"has {letter} = {sizes[letter]}, where {target} has no {letter}")
    return sizes


def _fit(number: int, axis: Axis, size: int, sizes: dict[str, int]) -> None:
    """Learn the one open letter of an axis of ``size`` entries, or check the axis against what is known."""
    held = "·".join(axis) or "1"
    open_letters = [letter for letter in axis if letter not in sizes]
    if len(open_letters) > 1:
        raise CnnlensError(
            f"axis {number} holds {held} = {size}; the sizes of {' and '.join(open_letters)} are not known"
        )
    rest = prod(sizes[letter] for letter in axis if letter in sizes)
    if open_letters and (rest > 0 and size % rest == 0):
        sizes[open_letters[0]] = size // rest
    elif open_letters or rest != size:
        parts = ", ".join(f"{letter} = {sizes[letter]}" for letter in axis if letter in sizes) or "an axis of size 1"
        raise CnnlensError(f"axis {number} ({held}) has {size} entries, which does not fit {parts}")


def _sizes_of(axes: Sequence[Axis], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(prod(sizes[letter] for letter in axis) for axis in axes)


def apply(todo: Sequence[Step], array: NDArray[np.generic], sizes: Mapping[str, int]) -> NDArray[np.generic]:
    """Run all steps on an array: a view of the input wherever NumPy can make one, in the input's dtype."""
    for step in todo:
        match step.operation:
            case "reshape":
                array = array.reshape(_sizes_of(step.axes, sizes))
            case "transpose":
                array = array.transpose(step.numbers)
            case "take":
                array = array.take(step.numbers, axis=step.axis)
            case "flip":
                array = np.flip(array, step.numbers)
            case "extend":
                array = np.pad(array, _padding(step))
            case "shrink":
                array = array.sum(axis=step.axis, keepdims=True, dtype=array.dtype)
    return array


def _padding(step: Step) -> tuple[tuple[int, int], ...]:
    size, rank = step.numbers
    return tuple((0, size - 1 if axis == step.axis else 0) for axis in range(rank))


def stepped_shape(todo: Sequence[Step], shape: Sequence[int], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Give the shape that :func:`apply` makes, without an array."""
    now = tuple(int(size) for size in shape)
    for step in todo:
        match step.operation:
            case "reshape":
                now = _sizes_of(step.axes, sizes)
            case "transpose":
                now = tuple(now[axis] for axis in step.numbers)
            case "extend" | "shrink":
                size = step.numbers[0] if step.operation == "extend" else 1
                now = (*now[: step.axis], size, *now[step.axis + 1 :])
            case "take" | "flip":
                pass
    return now


def expression(todo: Sequence[Step], name: str, sizes: Mapping[str, int] | None = None) -> str:
    """Write the steps as one line of NumPy on the array called ``name``.

    Sizes that a reshape needs are numbers where ``sizes`` has them, and letters (``C*M``) otherwise.
    """
    text = name
    for step in todo:
        match step.operation:
            case "reshape":
                text += (
                    f".reshape({', '.join(_size_text(axis, sizes) for axis in step.axes)})"
                    if step.axes
                    else ".reshape(())"
                )
            case "transpose":
                text += ".T" if step.numbers == (1, 0) else f".transpose({', '.join(map(str, step.numbers))})"
            case "take":
                text += f"[{':, ' * step.axis}{list(step.numbers)}]"
            case "flip":
                text += (
                    f"[{', '.join('::-1' if axis in step.numbers else ':' for axis in range(max(step.numbers) + 1))}]"
                )
            case "extend":
                text = f"np.pad({text}, {_padding(step)})"
            case "shrink":
                text += f".sum({step.axis}, keepdims=True)"
    return text


def rearrangement(source: Pattern, target: Pattern, name: str, sizes: Mapping[str, int] | None = None) -> str:
    """Write the way from ``source`` to ``target`` as a line of einops on the array called ``name``.

    A pattern has no word for entries that change places, for zeros that are added or left out and for what is read
    backwards: those are NumPy, between two patterns where the axis stands in one with others. Sizes as in
    :func:`expression`.

    >>> rearrangement(parse("HWIO"), parse("OIHW"), "kernel")
    "rearrange(kernel, 'h w i o -> o i h w')"
    >>> rearrangement(parse("(HWC)O"), parse("O(CHW)"), "kernel", {"H": 7, "W": 7, "C": 64, "O": 10})
    "rearrange(kernel, '(h w c) o -> o (c h w)', h=7, w=7, c=64)"
    """
    todo = steps(source, target)
    if not todo:
        return name
    moved = [step for step in todo if step.operation not in ("reshape", "transpose")]
    source, target = _joined(source, target)
    gone, new = ({*a.letters} - {*b.letters} for a, b in ((source, target), (target, source)))
    text = name
    before = source.axes
    if moved:
        apart = (*((letter,) for letter in target.letters if letter in new), *((letter,) for letter in source.letters))
        gone -= {letter for letter, _ in source.filled}
        if apart != before:
            text = _rearranged(text, before, apart, gone | new, sizes)
        text = expression(moved, text)
        gone |= {letter for letter, _ in source.filled if letter not in target.letters}
        new -= {letter for letter, _ in target.filled}
        before = apart
    after = target.axes
    return text if before == after and not gone | new else _rearranged(text, before, after, gone | new, sizes)


def _rearranged(
    text: str, before: Sequence[Axis], after: Sequence[Axis], ones: Collection[str], sizes: Mapping[str, int] | None
) -> str:
    """``text`` in a call of einops from one order to another; the letters ``ones`` stand for axes of one entry."""

    def side(axes: Sequence[Axis]) -> str:
        named = [[letter.lower() for letter in axis if letter not in ones and letter[0] != "1"] for axis in axes]
        return " ".join("1" if not axis else axis[0] if len(axis) == 1 else f"({' '.join(axis)})" for axis in named)

    held = [letter for axis in before if len(axis) > 1 for letter in axis if letter not in ones]
    given = "".join(f", {letter.lower()}={letter if sizes is None else sizes[letter]}" for letter in held)
    return f"rearrange({text}, '{side(before)} -> {side(after)}'{given})"


def _size_text(axis: Axis, sizes: Mapping[str, int] | None) -> str:
    if sizes is not None:
        return str(prod(sizes[letter] for letter in axis))
    letters = [
        letter if letter[0] != "1" else "1" for joined in axis for letter in (joined if joined[0] != "1" else "1")
    ]
    return "*".join(letters) or "1"
