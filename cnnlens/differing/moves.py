"""Rearrangements of an array as data: followed forwards on an array, backwards on a few indices, or written as NumPy.

A hypothesis about a layout is such a chain from B's stored array to A's. Most are thrown out on a few hundred elements,
which are found by walking their indices back through the chain, so that no array is copied for a wrong guess; the chain
that survives is printed as the line of NumPy that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chain", "Flip", "Move", "Reshape", "Take", "Transpose"]

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

_INLINE = 8  # an order of more entries than this has a name in the printed line


@dataclass(frozen=True)
class Reshape:
    """Pours the elements in C order into another shape."""

    shape: Shape


@dataclass(frozen=True)
class Transpose:
    """Makes axis ``k`` of the result of axis ``order[k]``."""

    order: tuple[int, ...]


@dataclass(frozen=True)
class Flip:
    """Runs through the axes backwards."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class Take:
    """Makes entry ``k`` along the axis of entry ``order[k]``; ``name`` is what a line calls a long order."""

    axis: int
    order: tuple[int, ...]
    name: str = "order"


Move: TypeAlias = Reshape | Transpose | Flip | Take


def _moved(move: Move, shape: Shape) -> Shape:
    if isinstance(move, Reshape):
        return move.shape
    if isinstance(move, Transpose):
        return tuple(shape[axis] for axis in move.order)
    return shape


def _inverse(move: Move, shape: Shape) -> Move:
    """What takes back ``move`` of an array of ``shape``."""
    if isinstance(move, Reshape):
        return Reshape(shape)
    if isinstance(move, Transpose):
        return Transpose(tuple(int(axis) for axis in np.argsort(move.order)))
    if isinstance(move, Take):
        return Take(move.axis, tuple(int(entry) for entry in np.argsort(move.order)), move.name)
    return move


@dataclass(frozen=True)
class Chain:
    """Does moves one after the other, from an array of the shape ``source``."""

    source: Shape
    moves: tuple[Move, ...] = ()

    @property
    def target(self) -> Shape:
        """Give the shape that comes out."""
        return self.shapes[-1]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Give the shape before each move and after the last."""
        found = [self.source]
        for move in self.moves:
            found.append(_moved(move, found[-1]))
        return tuple(found)

    def then(self, *moves: Move) -> Chain:
        return Chain(self.source, _simplified((*self.moves, *moves), self.source))

    def followed_by(self, other: Chain) -> Chain:
        return self.then(*other.moves)

    def inverse(self) -> Chain:
        """Turn the chain round; every move is one to one."""
        shapes = self.shapes
        back = [_inverse(move, shape) for move, shape in zip(self.moves, shapes, strict=False)]
        return Chain(self.target, tuple(reversed(back)))

    def apply(self, array: Array) -> Array:
        """Rearrange the array, a view where NumPy can make one."""
        for move in self.moves:
            if isinstance(move, Reshape):
                array = array.reshape(move.shape)
            elif isinstance(move, Transpose):
                array = array.transpose(move.order)
            elif isinstance(move, Flip):
                array = np.flip(array, move.axes)
            else:
                array = array.take(move.order, axis=move.axis)
        return array

    def back(self, places: Array) -> Array:
        """Say where elements come from: flat C-order places in the result, as flat places in the source."""
        shapes = self.shapes
        for move, before, after in zip(reversed(self.moves), reversed(shapes[:-1]), reversed(shapes[1:]), strict=True):
            if isinstance(move, Reshape):
                continue  # C order is what a reshape keeps
            where: list[Array] = list(np.unravel_index(places, after))
            if isinstance(move, Transpose):
                moved = where
                where = [moved[move.order.index(axis)] for axis in range(len(before))]
            elif isinstance(move, Flip):
                for axis in move.axes:
                    where[axis] = before[axis] - 1 - where[axis]
            else:
                where[move.axis] = np.asarray(move.order)[where[move.axis]]
            places = cast("Array", np.ravel_multi_index(tuple(where), before)) if before else places
        return places

    def text(self, name: str) -> tuple[str, dict[str, list[int]]]:
        """Write the chain as an expression on the array ``name``, and the long orders that it names."""
        names: dict[str, list[int]] = {}
        text = name
        for move in self.moves:
            if isinstance(move, Reshape):
                text += f".reshape({', '.join(map(str, move.shape))})" if move.shape else ".reshape(())"
            elif isinstance(move, Transpose):
                text += ".T" if move.order == (1, 0) else f".transpose({', '.join(map(str, move.order))})"
            elif isinstance(move, Flip):
                shown = ["::-1" if axis in move.axes else ":" for axis in range(max(move.axes) + 1)]
                text += f"[{', '.join(shown)}]"
            else:
                order = list(move.order)
                shown = str(order)
                if len(order) > _INLINE:
                    shown = move.name if move.name not in names else f"{move.name}_{len(names) + 1}"
                    names[shown] = order
                text += f"[{':, ' * move.axis}{shown}]"
        return text, names


def _simplified(moves: Sequence[Move], source: Shape) -> tuple[Move, ...]:
    """The same in fewer moves: what a person would write."""
    todo = list(moves)
    changed = True
    while changed:
        changed = False
        shapes = Chain(source, tuple(todo)).shapes
        for place, move in enumerate(todo):
            if _is_nothing(move, shapes[place]):
                del todo[place]
                changed = True
                break
            if place + 1 < len(todo):
                merged = _merged(move, todo[place + 1], shapes[place])
                if merged is not None:
                    todo[place : place + 2] = merged
                    changed = True
                    break
    return tuple(todo)


def _is_nothing(move: Move, shape: Shape) -> bool:
    if isinstance(move, Reshape):
        return move.shape == shape
    if isinstance(move, Transpose):
        return move.order == tuple(range(len(move.order)))
    if isinstance(move, Flip):
        return all(shape[axis] <= 1 for axis in move.axes)
    return move.order == tuple(range(len(move.order)))


def _merged(first: Move, second: Move, shape: Shape) -> list[Move] | None:
    """Two moves as fewer, or with the transpose in front; None where they stay as they are."""
    if isinstance(first, Reshape) and isinstance(second, Reshape):
        return [second]
    if isinstance(first, Transpose) and isinstance(second, Transpose):
        return [Transpose(tuple(first.order[axis] for axis in second.order))]
    if isinstance(first, Transpose) and isinstance(second, Reshape) and _same_order(first, shape):
        return [second]
    if isinstance(first, Flip) and isinstance(second, Flip):
        axes = tuple(sorted(set(first.axes) ^ set(second.axes)))
        return [Flip(axes)] if axes else []
    if isinstance(first, Flip) and isinstance(second, Transpose):
        return [second, Flip(tuple(sorted(second.order.index(axis) for axis in first.axes)))]
    if isinstance(first, Take) and isinstance(second, Transpose):
        return [second, Take(second.order.index(first.axis), first.order, first.name)]
    if isinstance(first, Flip) and isinstance(second, Take) and second.axis not in first.axes:
        return [second, first]
    if isinstance(first, Take) and isinstance(second, Take) and first.axis == second.axis:
        return [Take(first.axis, tuple(first.order[entry] for entry in second.order), first.name)]
    return None


def _same_order(move: Transpose, shape: Shape) -> bool:
    """Whether a transpose moves nothing but axes of size 1, so that the elements keep their order."""
    long = [axis for axis in move.order if shape[axis] != 1]
    return long == sorted(long) or prod(shape) == 0
