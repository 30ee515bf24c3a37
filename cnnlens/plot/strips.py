"""Strips of memory: what lies at each address, a band an axis, and how far one step along each axis is.

The slowest axis is on top, so that a strip reads like the wheels of a counter: the lowest band moves at every address,
each other one where all below it have come round. How long a band keeps one index is its stride.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.layout import Memory
from cnnlens.plot.sheet import INK, put, sheet, show, width_of

__all__ = ["CELLS", "Strip", "strips"]

CELLS = 54
"""Addresses, and gaps between them, that a strip has room for."""

_CELL, _LEFT = 25, 164  # pixels of an address, and of the names at the left
_WIDTH = _LEFT + CELLS * _CELL
_HEAD, _LEVEL, _BAND, _FOOT, _AFTER = 30, 22, 29, 24, 16
_CENTRED = {"horizontalalignment": "center"}
Write: TypeAlias = Callable[..., None]

# The hue of an axis, the same in every layout.
_HUES = {
    "N": 0.72, "O": 0.80, "I": 0.09, "C": 0.02, "M": 0.13, "D": 0.66, "H": 0.57, "W": 0.43, "Q": 0.94, "U": 0.80,
    "B": 0.13, "A": 0.94, "F": 0.30, "V": 0.57, "E": 0.43, "X": 0.57, "Y": 0.43, "Z": 0.66, "G": 0.13,
}  # fmt: skip


class Strip(NamedTuple):
    """Describes one strip: some addresses of an array, and what stands beside them.

    Attributes:
        title: What array it is.
        memory: What lies at the addresses, in rising order.
        names: What each letter means.
        entries: What the entries of a letter are called, a character each: the gates of Q.
        element: An address that is marked, and what stands there.
    """

    title: str
    memory: Memory
    names: Mapping[str, str] = {}
    entries: Mapping[str, str] = {}
    element: tuple[int, str] | None = None


def strips(shown: Sequence[Strip], *, title: str, subtitle: Sequence[str] = ()) -> Figure:
    """Draw strips of memory under one another: bands of indices, and a bracket as long as one step along each axis.

    Args:
        shown: The strips, at least one, of at most :data:`CELLS` addresses and gaps each.
        title, subtitle: As in ``plot.kernels``, the subtitle as lines.

    Returns:
        The figure: one axes with one image for each strip, after the frame's.

    Raises:
        CnnlensError: No strip, or one without an address.
    """
    if not shown or not all(one.memory.addresses for one in shown):
        raise CnnlensError("there is no memory to draw")
    heights = [_height(one) for one in shown]
    frame = sheet(_WIDTH, sum(heights), ax=None, title=title, subtitle=list(subtitle), margin=24)
    frame.set_axis_off()
    figure = cast(Figure, frame.get_figure(root=True))
    whole = frame.get_position()
    top = 0
    for one, height in zip(shown, heights, strict=True):
        share = whole.height / sum(heights)
        axes = figure.add_axes((whole.x0, whole.y1 - (top + height) * share, whole.width, height * share))
        _draw(axes, one, height)
        top += height
    return figure


def _moving(one: Strip) -> list[str]:
    """The letters whose step is drawn, the shortest first: those of more than one entry."""
    steps, sizes = one.memory.steps, one.memory.sizes
    return [each for each in reversed(list(steps)) if sizes[each] > 1 and steps[each] in one.memory.addresses]


def _height(one: Strip) -> int:
    return _HEAD + _LEVEL * len(_moving(one)) + _BAND * len(one.memory.steps) + _FOOT + _AFTER


def _draw(axes: Axes, one: Strip, height: int) -> None:
    known, moving = one.memory, _moving(one)
    gaps = np.cumsum([0, *(after != before + 1 for before, after in pairwise(known.addresses))])
    lefts = (_LEFT + _CELL * (np.arange(len(known.addresses)) + gaps)).tolist()
    middle = {address: left + _CELL / 2 for address, left in zip(known.addresses, lefts, strict=True)}
    first = _HEAD + _LEVEL * len(moving)
    foot = first + _BAND * len(known.steps)
    marked = known.addresses.index(one.element[0]) if one.element else -1
    image = np.full((height, _WIDTH, 3), 255, np.uint8)
    write = partial(_write, axes, height)
    axes.set_axis_off()
    write(0, _HEAD / 2 - 2, one.title, size=9, color=INK, fontweight="bold")
    for band, (letter, indices) in enumerate(known.indices.items()):
        y = first + band * _BAND
        middle_y = y + _BAND / 2
        write(0, middle_y, letter, size=9, color=_dark(letter), fontweight="bold")
        write(26, middle_y, one.names.get(letter, ""), size=7, limit=18)
        called = one.entries.get(letter, "")
        word = "gate" if called else letter
        for start, stop in _runs(indices, gaps.tolist()):
            index = indices[start]
            name = called[index] if called else str(index)
            image[y + 1 : y + _BAND - 1, lefts[start] : lefts[stop - 1] + _CELL - 1] = _shade(
                letter, index, max(indices)
            )
            cuts = sorted({start, stop, *(cut for cut in (marked, marked + 1) if start < cut < stop)})
            for left, right in pairwise(cuts):  # the marked address has its own index in its frame
                whole = right - left == stop - start or left == marked
                text = f"{word} {name}" if right - left > 2 else name if whole else ""
                write((lefts[left] + lefts[right - 1] + _CELL - 1) / 2, middle_y, text, size=7, color=INK, **_CENTRED)
    show(axes, image)
    for level, letter in enumerate(moving):
        passing = [middle[known.steps[other]] for other in moving[level + 1 :]]
        ends = (middle[0], middle[known.steps[letter]])
        text = f"stride of {letter} = {known.steps[letter]:,}"
        _bracket(axes, write, text, _dark(letter), ends, (first - _LEVEL * (level + 1) + 9, first), passing)
    for before, after in pairwise(known.addresses):
        if after != before + 1:
            write((middle[before] + middle[after]) / 2, (first + foot) / 2, "…", size=9, **_CENTRED)
    if one.element is not None:
        x = middle[one.element[0]]
        around = np.array(
            [[x - _CELL / 2, foot], [x - _CELL / 2, first], [x + _CELL / 2 - 1, first], [x + _CELL / 2 - 1, foot]]
        )
        axes.plot(*around[[0, 1, 2, 3, 0]].T, color=INK, linewidth=1.3)
    _addresses(write, one, middle, foot + 11)


def _write(axes: Axes, height: int, x: float, y: float, text: str, **how: Any) -> None:
    """Text at a place that is given in pixels from the left and from the top."""
    if text:
        put(axes, text, at=(x / _WIDTH, 1 - y / height), verticalalignment="center_baseline", **how)


def _bracket(
    axes: Axes,
    write: Write,
    text: str,
    colour: str,
    ends: tuple[float, float],
    heights: tuple[float, float],
    passing: Sequence[float],
) -> None:
    """One step along an axis, from address 0 to its next index; ``passing`` are the arrows of longer ones."""
    (start, stop), (y, down) = ends, heights
    axes.plot([start, start, stop], [down - 2, y, y], color=colour, linewidth=1.1)
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    axes.annotate("", xy=(stop, down - 1), xytext=(stop, y - 0.5), arrowprops=arrow)
    wide = width_of(text, 7) + 9
    if stop - start > wide + 50:  # in the bracket
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
        write((start + stop) / 2, y + 1, text, size=7, color=colour, bbox=behind, **_CENTRED)
        return
    for other in sorted(passing):
        if other < stop + wide + 4:
            stop = other
    write(stop + 9, y + 1, text, size=7, color=colour)


def _addresses(write: Write, one: Strip, middle: Mapping[int, float], y: float) -> None:
    """The numbers under a strip: of the marked address, where each axis steps, and of the ends of each stretch."""
    known = one.memory
    jumps = [(here, after) for here, after in pairwise(known.addresses) if after != here + 1]
    marked, said = one.element or (-1, "")
    wanted = [marked, 0, *known.steps.values(), *(after for _, after in jumps), *(here for here, _ in jumps),
              known.addresses[-1]]  # fmt: skip
    taken: list[tuple[float, float]] = []
    write(0, y, "address", size=7)
    for address in dict.fromkeys(each for each in wanted if each in middle):
        half = width_of(f"{address:,}", 6.5) / 2 + 7
        here = (middle[address] - half, middle[address] + half)
        if any(here[0] < other[1] and other[0] < here[1] for other in taken):
            continue
        taken.append(here)
        if address == marked and said:
            wide = width_of(said, 7) + 6
            right = here[1] + wide > _WIDTH
            write(
                here[0] if right else here[1],
                y,
                said,
                size=7,
                color=INK,
                horizontalalignment="right" if right else "left",
            )
            taken.append((here[0] - wide, here[0]) if right else (here[1], here[1] + wide))
        bold = {"color": INK, "fontweight": "bold"} if address == marked else {}
        write(middle[address], y, f"{address:,}", size=6.5, **_CENTRED, **bold)


def _runs(indices: Sequence[int], gaps: Sequence[int]) -> list[tuple[int, int]]:
    """Stretches of places that hold one index and have no gap inside."""
    held = list(zip(indices, gaps, strict=True))
    return list(pairwise([0, *(place for place in range(1, len(held)) if held[place] != held[place - 1]), len(held)]))


def _shade(letter: str, index: int, most: int) -> NDArray[np.uint8]:
    depth = index / most if most else 0
    hsv = (_HUES.get(letter, 0.6), 0.12 + 0.36 * depth, 0.99 - 0.06 * depth)
    return np.rint(hsv_to_rgb(hsv) * 255).astype(np.uint8)


def _dark(letter: str) -> str:
    return to_hex(hsv_to_rgb((_HUES.get(letter, 0.6), 0.85, 0.62)).tolist())
