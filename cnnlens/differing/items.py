"""One array of a part: where it lies in its file, how it gets to canonical axes, and what a line of NumPy calls it.

Some stand for others of their file: two biases that a cell adds, a kernel and its norm, a third of a packed array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.differing.hypotheses.orders import bit_sums
from cnnlens.differing.moves import Chain, Flip, Move, Reshape, Take, Transpose
from cnnlens.differing.proof import identifier, run
from cnnlens.errors import CnnlensError
from cnnlens.layout import Geometry
from cnnlens.layout.lookup import CANONICAL, look_up, pattern_of
from cnnlens.layout.patterns import solve, steps
from cnnlens.network.weight import Weight

__all__ = ["Item", "Joined", "canonical_chain", "item_of", "spaced"]

Array: TypeAlias = NDArray[Any]

_PROBED = 512  # elements by which an axis is recognised


@lru_cache(maxsize=256)
def spaced(size: int, count: int) -> Array:
    """Choose places all over ``size`` elements."""
    return np.linspace(0, size - 1, count).astype(np.int64)


@lru_cache(maxsize=256)
def _drawn(size: int) -> Array:
    return np.random.default_rng(size).choice(size, min(size, _PROBED), replace=False)


@dataclass(frozen=True)
class Item:
    """Holds one array of a part, and what is asked of it again and again.

    Attributes:
        role: Its Keras word without a path: ``kernel`` for all kinds of kernel, ``gamma`` …
        weight: The array in its file.
        chain: From the stored array to the canonical one.
        axes: The letters of the canonical axes.
        exact: Whether the chain says all of the layout; else the stored order stands in for the canonical one.
        joined: Of two arrays in one's place (two biases, a normed kernel's), or of one of which it is a piece: those;
            ``weight`` is what they come to.
    """

    role: str
    weight: Weight
    chain: Chain
    axes: tuple[str, ...]
    exact: bool = True
    joined: tuple[Item, ...] = ()

    @cached_property
    def stored(self) -> Array:
        """Read the array as its file stores it, once."""
        return np.asarray(self.weight.read())

    @cached_property
    def variable(self) -> str:
        """Give what a line calls the array: its name, or the expression of several that stand for one."""
        if isinstance(self.weight.stored, Joined):
            return self.weight.stored.expression
        return identifier(self.place.rpartition("/")[2] or self.place)

    @property
    def target(self) -> str:
        """Give what a line sets where it gives the array."""
        if self.is_kernel and len(self.joined) > 1:
            return "kernel"
        if len(self.joined) > 1:
            names = [one.variable for one in self.joined]
            return ", ".join(names) if len(self.shape) > 1 else "_plus_".join(names)
        return self.variable

    @property
    def sources(self) -> Mapping[str, Array]:
        """Give the stored arrays of which a line with ``variable`` is made, by their names there."""
        return {one.variable: one.stored for one in self.joined} if self.joined else {self.variable: self.stored}

    @cached_property
    def gates(self) -> tuple[int, Mapping[str, str]] | None:
        """Give the canonical axis that holds the gates of a recurrent layer, and their order by framework."""
        weight = self.weight
        if not self.exact:
            return None
        rank = len(weight.stored.shape)
        row, spatial = look_up(weight.kind, weight.role, weight.geometry, weight.framework, rank)
        axes = pattern_of(row, CANONICAL, spatial, weight.geometry.groups).axes if row.gates else ()
        return next(((place, row.gates) for place, axis in enumerate(axes) if "Q" in axis), None)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Give the canonical shape."""
        return self.chain.target

    @cached_property
    def size(self) -> int:
        return prod(self.shape)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Give the axes' sizes without ones, sorted: what no transpose changes."""
        return tuple(sorted(size for size in self.shape if size != 1))

    @cached_property
    def bits(self) -> int:
        """Give the sum of its bit patterns: the same for the same numbers in any order."""
        return bit_sums(self.stored, squares=False)[0]

    def at(self, places: Array) -> Array:
        """Read elements at flat places of the canonical array."""
        return self.stored.reshape(-1)[self.chain.back(places)]

    @cached_property
    def letters(self) -> str:
        """Give the letters of the stored axes; empty where no table knows them."""
        letters = self.weight.stored_axes if self.exact else ""
        if len(self.joined) > 1 and not self.is_kernel:
            return f"{letters[1:]}, {letters[1:]}" if letters[:1] == "B" else f"{letters} + {letters}"
        return letters

    @cached_property
    def direction(self) -> Array:
        """Give some elements as a vector of length one, their mean taken off: the same places for one size."""
        taken = self.at(_drawn(self.size)).astype(np.float64)
        taken = np.nan_to_num(taken, copy=False, posinf=0.0, neginf=0.0)
        taken -= taken.mean()
        norm = float(np.sqrt(np.square(taken).sum()))
        return taken / norm if norm else taken

    @property
    def is_kernel(self) -> bool:
        return self.role in ("kernel", "recurrent_kernel") and len(self.shape) > 1

    @property
    def place(self) -> str:
        return self.weight.name

    def stored_axis(self, canonical: int) -> int | None:
        """Say where a canonical axis stands in the stored array; None where it is merged with others."""
        stored = self.chain.source
        places = np.random.default_rng(0).integers(0, max(self.size, 1), _PROBED) if self.size else np.zeros(0, int)
        inside = np.unravel_index(self.chain.inverse().back(places), self.shape)[canonical]
        for axis, where in enumerate(np.unravel_index(places, stored)):
            if stored[axis] == self.shape[canonical] and bool((where == inside).all()):
                return axis
        return None

    def seen_as(self, other: Item, known: bool) -> Item:
        """Read the array as the other's kind where this file can only guess it (``known``: it does not guess).

        A state dict says neither that a convolution is a transposed one nor what was flattened in front of a Dense.
        """
        weight = self.weight
        if known or other.weight.kind not in layout.KINDS:
            return self
        same_kind = weight.kind == other.weight.kind
        if same_kind and not (weight.framework == "keras" and other.weight.geometry.flatten):
            return self
        changed = replace(
            weight, kind=other.weight.kind, role=other.weight.role, geometry=_borrowed(weight, other.weight)
        )
        try:
            item = replace(item_of(changed, self.role), joined=self.joined)
        except CnnlensError:
            return self
        item.__dict__["stored"] = self.stored  # what was read need not be read again
        return item if item.exact and sorted(item.shape) == sorted(other.shape) else self


def _borrowed(weight: Weight, other: Weight) -> Geometry:
    flatten = other.geometry.flatten
    base = replace(other.geometry, flatten=flatten, kernel_shape=None)
    return layout.completed(other.kind, other.role, weight.stored.shape, base, weight.framework)


@dataclass(frozen=True)
class Joined:
    """Stands in a file's place for what several of its arrays come to: NumPy on them by name."""

    expression: str
    arrays: Mapping[str, Weight]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def stored_dtype(self) -> str:
        return next(iter(self.arrays.values())).stored.stored_dtype

    @property
    def place(self) -> str:
        return ", ".join(one.stored.place for one in self.arrays.values())

    def read(self) -> Array:
        return run(self.expression, {name: one.read() for name, one in self.arrays.items()})


def canonical_chain(weight: Weight) -> Chain | None:
    """Find the moves from the stored array to the canonical one; None where it needs more than moving elements."""
    shape = tuple(int(size) for size in weight.stored.shape)
    return _chain(weight.kind, weight.role, shape, weight.geometry, weight.framework)


@lru_cache(maxsize=2048)
def _chain(kind: str, role: str, shape: tuple[int, ...], geometry: Geometry, framework: str) -> Chain | None:
    row, spatial = look_up(kind, role, geometry, framework, len(shape))
    source = pattern_of(row, framework, spatial, geometry.groups)
    target = pattern_of(row, CANONICAL, spatial, geometry.groups)
    known = {**geometry.known(row.hints, spatial), **row.fixed}
    if source.gates[0]:
        known["Q"] = len(source.gates[1])
    sizes = solve(source, target, shape, known)
    moves: list[Move] = []
    for step in steps(source, target):
        match step.operation:
            case "reshape":
                moves.append(Reshape(tuple(prod(sizes[letter] for letter in axis) for axis in step.axes)))
            case "transpose":
                moves.append(Transpose(step.numbers))
            case "take":
                moves.append(Take(step.axis, step.numbers))
            case "flip":
                moves.append(Flip(step.numbers))
            case "extend" | "shrink":
                return None
    return Chain(shape).then(*moves)


def item_of(weight: Weight, role: str) -> Item:
    """An array with its layout; one that no table knows keeps its stored axes."""
    shape = tuple(int(size) for size in weight.stored.shape)
    try:
        chain = canonical_chain(weight)
        if chain is not None:
            axes = layout.split_axes(weight.canonical_axes)
            # Letters by position, in small ones, are a kind or an array that no table knows.
            if len(axes) == len(chain.target) and not any(letter[:1].islower() for letter in axes):
                return Item(role, weight, chain, axes)
    except CnnlensError:
        pass
    return Item(role, weight, Chain(shape), tuple(f"axis {axis}" for axis in range(len(shape))), False)
