"""One kind of layer from one framework to another, worked out with numbers.

The table of layouts has letters; a person who ports a model, or explains one to a class, wants to see it happen: these
axes with these sizes, this line of NumPy, these strides in memory, and one element that is found again on the other
side. The element and the strides are taken from an array that really went through the steps, not from a formula.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.layout.feature_maps import MAP_TRAPS, channels_first, maps_of, other_maps
from cnnlens.layout.lookup import CANONICAL, NDIM, gates_as_called, pattern_of
from cnnlens.layout.names import framework_named, kind_named, maps_named
from cnnlens.layout.patterns import (
    SPATIAL,
    Axis,
    Pattern,
    Step,
    apply,
    expression,
    parse,
    rearrangement,
    solve,
    stepped_shape,
    steps,
)
from cnnlens.layout.tables import LEGEND, NORMAL_NAMES, ROWS, Absent, Row
from cnnlens.layout.traps import TRAPS
from cnnlens.text import nearest, printable

__all__ = ["FLOAT32", "Crossing", "CrossingAxis", "Side", "crossings", "digits"]

FLOAT32 = 4
"""Bytes of a number, where strides are given in bytes."""

# Sizes that all differ, in every stored array of the table, so that no axis can be taken for another.
_SIZES = {
    "O": 8, "I": 4, "C": 4, "M": 2, "D": 2, "H": 3, "W": 5, "G": 1, "U": 6, "B": 2, "A": 2, "F": 3, "V": 10, "E": 6,
    "X": 7, "Y": 9, "Z": 11,
}  # fmt: skip
_MAP_SIZES = {"N": 2, "C": 3, "D": 4, "H": 5, "W": 7}
_FLAT_SIZES = {"D": 2, "H": 7, "W": 5, "C": 3}
_MOST = 1 << 27  # elements of an array that is worked through (one byte each)

_SHORT = {
    **{letter: re.split(r"[:,(]| of a | of one | of an ", meaning)[0].strip() for letter, meaning in LEGEND.items()},
    "V": "vocabulary",
    "E": "embedding width",
    "F": "width of a head",
    "B": "biases (input, recurrent)",
}


@dataclass(frozen=True)
class CrossingAxis:
    """Describes one axis of a stored array: its letters (slowest first; empty for an axis of size 1), name and size."""

    letters: Axis
    meaning: str
    size: int

    @property
    def shown(self) -> str:
        return "".join(self.letters) if len(self.letters) < 2 else f"({''.join(self.letters)})"


@dataclass(frozen=True)
class Side:
    """Says how one of the two frameworks stores the weight.

    Attributes:
        framework: Its name in the table; of feature maps the layout itself.
        name: What it calls the weight; the Keras name where it has no fixed one.
        variable: ``name`` as a variable of the NumPy line.
        layout: The axes as letters, such as ``HWIO``.
        axes: The same one by one.
        strides: In elements, of the array in C order, as it lies in memory and in a file.
        pattern: The axes as the steps are derived from them.
        gates: The order of a recurrent layer's gates in this framework's letters, or empty.
        second: An array that it adds to this one, or empty.
    """

    framework: str
    name: str
    variable: str
    layout: str
    axes: tuple[CrossingAxis, ...]
    strides: tuple[int, ...]
    pattern: Pattern
    gates: str = ""
    second: str = ""

    @property
    def flipped(self) -> tuple[str, ...]:
        """Give the letters along which it is stored backwards."""
        return tuple(letter for letter in self.pattern.letters if letter in self.pattern.flipped)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)


@dataclass(frozen=True)
class Crossing:
    """Takes one weight of a kind from ``source`` to ``target``, worked out with numbers.

    Attributes:
        kind, weight: By their Keras names.
        condition: When this line of the table holds (``behind a Flatten``, ``reset_after=True``); empty for always.
        source, target: The two sides, or None where one has no such weight, for the ``reason``.
        numpy: One line of NumPy, ``weight = kernel.transpose(3, 2, 0, 1)``.
        einops: The same as a line of einops, ``weight = rearrange(kernel, 'h w i o -> o i h w')``.
        view: The strides, in elements, of what that line gives where it is a view that copies nothing; else None.
        here, there: The indices of one and the same element in both.
        steps, sizes: The same line as data for :func:`~cnnlens.layout.patterns.apply`, and the sizes of its letters.
        letters: The letters that both sides have, in canonical order, merged axes taken apart.
        reason: Why there is no crossing.
    """

    kind: str
    weight: str
    condition: str
    source: Side | None = None
    target: Side | None = None
    numpy: str = ""
    einops: str = ""
    view: tuple[int, ...] | None = None
    here: tuple[int, ...] = ()
    there: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    letters: str = ""
    reason: str = ""

    @property
    def traps(self) -> tuple[str, ...]:
        """Say what goes wrong around this kind of layer although its axes are right."""
        return MAP_TRAPS if self.weight == "maps" else TRAPS.get(self.kind, ())

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Turn ``array`` from the source's order into the target's; a view where ``view`` is not None.

        Raises:
            CnnlensError: There is no such crossing, or a second bias that is not zero would be lost.
        """
        if self.source is None:
            raise CnnlensError(f"{self.kind} {printable(self.weight)}: {self.reason}")
        return apply(self.steps, array, dict(self.sizes))


def crossings(
    kind: str | None,
    source: str,
    target: str,
    *,
    weight: str | None = None,
    shape: Sequence[int] | None = None,
    flatten: Sequence[int] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> tuple[Crossing, ...]:
    """Work out with numbers how every weight of ``kind`` gets from ``source`` to ``target``.

    Args:
        kind: A kind of layer by its Keras name, an older one or PyTorch's (``Conv2d``), in any case; a layout of
            feature maps (``NHWC``), which may be left out where both sides are layouts of feature maps.
        source, target: Frameworks of the table; ``pytorch`` and ``tensorflow`` are understood. Or layouts of feature
            maps, ``NHWC`` and ``NCHW``.
        weight: This weight alone, by its Keras name or by what either side calls it.
        shape: Of that weight (else of the kind's first) as ``source`` stores it. Without it sizes that all differ.
        flatten: ``(*spatial, C)`` of the feature map in front of a Flatten: the lines behind a Flatten are shown.
        sizes: Sizes by letter (``{"C": 4}``): of what an axis holds together with others, or instead of the defaults.

    Raises:
        CnnlensError: No such kind, framework or weight; both sides the same; a shape or sizes that do not fit.
    """
    if any(maps_named(each) for each in (kind or "", source, target)):
        if weight not in (None, "maps") or flatten is not None:
            raise CnnlensError("feature maps have neither --weight nor --flatten; leave them out")
        return (_of_maps(kind, source, target, shape, sizes or {}),)
    if kind is None:
        raise CnnlensError(
            "which kind of layer? 'layouts --from keras --to torch Conv2D', or --model FILE --layer NAME"
        )
    kind, source, target = kind_named(kind), framework_named(source), framework_named(target)
    if source == target:
        raise CnnlensError(f"both sides are {source}, which leaves nothing to convert; choose two frameworks")
    sizes = _checked_sizes(sizes or {}, flatten)
    rows = [row for row in ROWS if kind in row.kinds]
    if flatten is not None:
        flat_weights = {each for row in rows if row.flat for each in row.weights}
        if not flat_weights:
            raise CnnlensError(f"{kind} holds no array that a Flatten in front of it reorders; leave --flatten out")
        rows = [row for row in rows if row.flat or not flat_weights & set(row.weights)]
        rows.sort(key=lambda row: not row.flat)
    else:
        rows = [row for row in rows if not row.flat]
    chosen = [(row, name) for row in rows for name in row.weights]
    if weight is not None:
        named = {name: _names(row, name, source, target) for row, name in chosen}
        if not any(weight in one for one in named.values()):
            raise CnnlensError(
                f"{kind} has no weight '{printable(weight)}'; {nearest(weight, [name for _, name in chosen])}"
            )
        chosen = [(row, name) for row, name in chosen if weight in named[name]]
    found: list[Crossing] = []
    for number, (row, name) in enumerate(chosen):
        one = _crossing(kind, name, row, source, target, shape if number == 0 else None, sizes, flatten)
        if number == 0 and shape is not None:
            sizes = {**sizes, **{letter: size for letter, size in one.sizes if letter in LEGEND and letter != "Q"}}
        found.append(one)
    return tuple(found)


def _of_maps(
    kind: str | None, source: str, target: str, shape: Sequence[int] | None, stated: Mapping[str, int]
) -> Crossing:
    """Feature maps from one layout, or from the one that a framework has, to another."""
    named = [maps_named(each) for each in (kind or "", source, target)]
    known = next(one for one in named if one)
    before, after = (
        one or maps_of(framework_named(each), known) for one, each in zip(named[1:], (source, target), strict=True)
    )
    for one in (before, after):
        if {*one} != {*known}:
            raise CnnlensError(f"{known} and {one} have other axes; from {known} the way is to {other_maps(known)}")
    if before == after:
        raise CnnlensError(
            f"both sides are {before}, which leaves nothing to convert; the other is {other_maps(before)}"
        )
    if wrong := next((letter for letter in stated if letter not in known), None):
        raise CnnlensError(f"no axis of {known} is called '{printable(wrong)}'; {nearest(wrong, known)}")
    sizes = {letter: stated.get(letter, _MAP_SIZES[letter]) for letter in known} if shape is None else dict(stated)
    shape = [sizes[letter] for letter in before] if shape is None else shape
    patterns = (parse(before), parse(after))
    canonical = known if channels_first(known) else other_maps(known)
    return _worked("feature maps", "maps", "", (before, after), ("maps", "maps"), patterns, shape, sizes, canonical)


def _checked_sizes(sizes: Mapping[str, int], flatten: Sequence[int] | None) -> dict[str, int]:
    for letter, size in sizes.items():
        if letter not in LEGEND or letter in ("N", "Q"):
            raise CnnlensError(f"no axis is called '{printable(letter)}'; {nearest(letter, _SIZES)}")
        if size < 1:
            raise CnnlensError(f"the size of {letter} is at least 1, not {size}")
    found = dict(sizes)
    if flatten is not None:
        spatial = SPATIAL.get(len(flatten) - 1)
        if not spatial or min(flatten) < 1:
            raise CnnlensError(
                f"the map in front of a Flatten is H,W,C (or W,C, or D,H,W,C), not {','.join(map(str, flatten))}"
            )
        found |= dict(zip((*spatial, "C"), flatten, strict=True))
    return found


def _names(row: Row, weight: str, *frameworks: str) -> set[str]:
    """Everything that a weight goes by."""
    return {weight, weight.rpartition("/")[2]} | {_name(row, weight, each) for each in frameworks}


def _name(row: Row, weight: str, framework: str) -> str:
    if framework == "keras":
        return weight
    short = weight.rpartition("/")[2]
    return row.names.get(framework) or NORMAL_NAMES.get(short, {}).get(framework, "") or weight


def _variable(name: str, weight: str) -> str:
    """A variable's name out of what a framework calls a weight: of ``i/kernel`` the kernel, of two the Keras name."""
    last = re.split(r"[/.]", weight if ", " in name else name)[-1]
    found = re.match(r"\w+", last)
    return found[0] if found else "array"


def _condition(row: Row) -> str:
    if row.reset_after is not None:
        return f"reset_after={row.reset_after}"
    return "behind a Flatten" if row.flat else ""


def _spatial(kind: str, row: Row, source: str, rank: int | None, flatten: Sequence[int] | None) -> str:
    named = NDIM.search(kind)
    if row.flat and flatten is not None:
        return SPATIAL[len(flatten) - 1]
    if named:
        return SPATIAL[int(named[1])]
    stored = row.stored(source)
    if rank is not None and isinstance(stored, str) and "*" in stored and not row.flat:
        return SPATIAL.get(rank - len(parse(stored).axes), "HW")
    return "HW"


def _crossing(
    kind: str,
    weight: str,
    row: Row,
    source: str,
    target: str,
    shape: Sequence[int] | None,
    stated: Mapping[str, int],
    flatten: Sequence[int] | None,
) -> Crossing:
    condition = _condition(row)
    for each in (source, target):
        stored = row.stored(each)
        if isinstance(stored, Absent):
            return Crossing(kind, weight, condition, reason=f"{each} has {stored.reason}")
    spatial = _spatial(kind, row, source, len(shape) if shape is not None else None, flatten)
    groups = stated.get("G", 1)
    before, after = (pattern_of(row, each, spatial, groups) for each in (source, target))
    if groups > 1 and ("G" in before.letters) != ("G" in after.letters):
        lacks = target if "G" in before.letters else source
        return Crossing(kind, weight, condition, reason=f"{lacks} has {row.lacks.get(lacks, 'no groups here')}")
    known = {letter: size for letter, size in stated.items() if letter in {*before.letters, *after.letters}}
    known |= row.fixed
    recurrent = weight == "recurrent_kernel"
    if recurrent:  # its inputs are the units of the step before
        known["I"] = known.get("U", _SIZES["U"])
        if shape is not None and "U" not in known:
            del known["I"]
    if before.gates[0]:
        known["Q"] = len(before.gates[1])
    if shape is None:
        shape, known = _default(before, after, known, row)
    canonical = "".join(pattern_of(row, CANONICAL, spatial, groups).letters)
    names = (_name(row, weight, source), _name(row, weight, target))
    lacks = {each: row.lacks[each] for each in (target, source) if each in row.lacks}
    second = row.second.get(source, ""), row.second.get(target, "")
    return _worked(
        kind, weight, condition, (source, target), names, (before, after), shape, known, canonical, lacks, second
    )  # fmt: skip


def _worked(
    kind: str,
    weight: str,
    condition: str,
    frameworks: tuple[str, str],
    names: tuple[str, str],
    patterns: tuple[Pattern, Pattern],
    shape: Sequence[int],
    known: Mapping[str, int],
    canonical: str,
    lacks: Mapping[str, str] | None = None,
    second: tuple[str, str] = ("", ""),
) -> Crossing:
    """A crossing between two patterns, with the numbers of a shape."""
    before, after = patterns
    try:
        sizes = solve(before, after, shape, known)
        by_letter = _by_letter(before, shape, {**known, **sizes})
    except CnnlensError as error:
        lacking = next((f" ({each} has {reason})" for each, reason in (lacks or {}).items()), "")
        raise CnnlensError(_misfit(kind, weight, frameworks[0], before, shape, str(error) + lacking)) from None
    if any(size < 1 for size in shape):
        raise CnnlensError(_misfit(kind, weight, frameworks[0], before, shape, "every size is at least 1"))
    if prod(shape) > _MOST:
        raise CnnlensError(f"{tuple(shape)} has more than {_MOST:,} elements; the layout is the same at smaller sizes")
    todo = steps(before, after)
    after_shape = stepped_shape(todo, shape, sizes)
    here = _element(before, shape, by_letter)
    there, view = _followed(todo, shape, sizes, here)
    sides: list[Side] = []
    shapes = tuple(shape), after_shape
    for framework, name, pattern, size, more in zip(frameworks, names, patterns, shapes, second, strict=True):
        gates = gates_as_called(framework, pattern.gates[1])
        axes = _axes(pattern, size, gates, weight == "recurrent_kernel")
        variable = _variable(name, weight)
        sides.append(Side(framework, name, variable, str(pattern), axes, _strides(size), pattern, gates, more))
    source, target = sides
    read = f"{source.variable} + {source.second}" if source.second and not target.second else source.variable
    view = view if read == source.variable else None  # a sum is no view
    read = f"({read})" if todo and read != source.variable else read
    line = f"{target.variable} = {expression(todo, read, sizes)}"
    pattern_line = f"{target.variable} = {rearrangement(before, after, read, {**by_letter, **sizes})}"
    every = {**sizes, **by_letter}
    letters = "".join(letter for letter in canonical if letter in before.letters and letter in after.letters)
    return Crossing(
        kind, weight, condition, source, target, line, pattern_line, view, here, there, todo, tuple(every.items()),
        letters,
    )  # fmt: skip


def _default(
    before: Pattern, after: Pattern, known: Mapping[str, int], row: Row
) -> tuple[tuple[int, ...], dict[str, int]]:
    """A shape whose axes all differ; what only one side has a letter for is of size 1."""
    filled = dict((*before.filled, *after.filled))
    sizes = dict(known)
    for letter in before.letters:
        one_sided = letter not in after.letters and letter not in filled
        default = (_FLAT_SIZES if row.flat else {}).get(letter, _SIZES.get(letter, 1))
        sizes.setdefault(letter, 1 if one_sided else filled.get(letter, default))
    return tuple(prod(sizes[letter] for letter in axis) for axis in before.axes), sizes


def _misfit(kind: str, weight: str, source: str, pattern: Pattern, shape: Sequence[int], reason: str) -> str:
    axes = ", ".join(_meaning(axis, gates_as_called(source, pattern.gates[1])) for axis in pattern.axes)
    held = sorted({letter for axis in pattern.axes if len(axis) > 1 for letter in axis} - {"Q", "B"})
    way_out = f"; --sizes {','.join(f'{letter}=…' for letter in held)} says what an axis holds" if held else ""
    return (
        f"{kind} {printable(weight)}: {source} stores it as {pattern} ({axes}), and {tuple(shape)} does not fit: "
        f"{reason}{way_out}"
    )


def _meaning(axis: Axis, gates: str, recurrent: bool = False) -> str:
    words = _SHORT | ({"I": "units of the step before"} if recurrent else {})
    words |= {"Q": f"gates {', '.join(gates)}"} if gates else {}
    return " × ".join(words.get(letter, letter) for letter in axis) or "one"


def _axes(pattern: Pattern, shape: Sequence[int], gates: str, recurrent: bool) -> tuple[CrossingAxis, ...]:
    return tuple(
        CrossingAxis(axis, _meaning(axis, gates, recurrent), int(size))
        for axis, size in zip(pattern.axes, shape, strict=True)
    )


def _by_letter(pattern: Pattern, shape: Sequence[int], sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes letter by letter: :func:`solve` leaves an axis that both sides share in one piece."""
    found = {letter: sizes[letter] for axis in pattern.axes for letter in axis if letter in sizes}
    for axis, size in zip(pattern.axes, shape, strict=True):
        open_letters = [letter for letter in axis if letter not in found]
        if len(open_letters) == 1:
            rest = prod(found[letter] for letter in axis if letter in found)
            if size % rest:
                raise CnnlensError(
                    f"an axis of {size} entries does not hold {'·'.join(axis)} with {_equal(axis, found)}"
                )
            found[open_letters[0]] = int(size) // rest
    return found


def _equal(axis: Axis, sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{letter} = {sizes[letter]}" for letter in axis if letter in sizes)


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Of an array in C order, in elements."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _element(pattern: Pattern, shape: Sequence[int], by_letter: Mapping[str, int]) -> tuple[int, ...]:
    """An index whose numbers all differ where the sizes allow, and that moves where the order inside an axis does."""
    index = [0] * len(shape)
    used: set[int] = set()
    for axis in sorted(range(len(shape)), key=lambda axis: shape[axis]):
        letters = pattern.axes[axis]
        low = 0
        if len(letters) > 1 and all(letter in by_letter for letter in letters):
            # The second entry of each letter, so that a change of order shows; of what is filled with zeros the first.
            filled = {letter for letter, _ in pattern.filled}
            for letter in letters:
                low = low * by_letter[letter] + (0 if letter in filled else min(1, by_letter[letter] - 1))
        free = (number for number in (*range(low, shape[axis]), *range(low)) if number not in used)
        index[axis] = next(free, min(low, shape[axis] - 1))
        used.add(index[axis])
    return tuple(index)


def _followed(
    todo: Sequence[Step], shape: Sequence[int], sizes: Mapping[str, int], here: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Where an element goes, and the strides of the result if it is a view; both seen on an array that went there."""
    marked = np.zeros(shape, np.bool_)
    marked[here] = True
    moved = apply(todo, marked, sizes)
    place = np.argwhere(moved)
    view = tuple(moved.strides) if np.may_share_memory(moved, marked) else None
    return tuple(int(number) for number in place[0]), view


def digits(axis: CrossingAxis, index: int, sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Say what an index of a merged axis means for each of its letters: 9 of ``(CM)`` with M = 2 is C 4, M 1."""
    found: list[tuple[str, int]] = []
    for letter in reversed(axis.letters):
        index, rest = divmod(index, sizes[letter])
        found.append((letter, rest))
    return tuple(reversed(found))
