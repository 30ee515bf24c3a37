"""A network as the detective sees it: a row of parts, each with the arrays that belong together.

A part is mostly a layer; a separable convolution is two, because the other framework has two layers for it. Names are
kept for showing and never compared. Kinds come down to families, for PyTorch's Linear and Keras' Dense are one thing,
and a file without a graph can only guess them. A recurrent layer is a part for each of its cells: Keras has two in a
Bidirectional, PyTorch those of all directions and levels in one module, with two biases where Keras has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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
from cnnlens.kinds import CELLS, LAYERS, kind_of, operator_kind
from cnnlens.layout import Geometry
from cnnlens.layout.lookup import CANONICAL, look_up, pattern_of
from cnnlens.layout.patterns import solve, steps
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight

__all__ = ["PROJECTIONS", "Item", "Part", "biases_as", "canonical_chain", "parts_of", "spaced"]

Array: TypeAlias = NDArray[Any]

_KERNELS = frozenset({"kernel", "depthwise_kernel", "pointwise_kernel"})
_PROBED = 512  # elements by which an axis is recognised
_NORMS = frozenset({"gamma", "beta", "moving_mean", "moving_variance"})
_COUNTERS = frozenset({"num_batches_tracked", "seed_generator_state", "seed"})
_CELL = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)(?:_(l\d+(?:_reverse)?))?$")  # PyTorch's names
_IN_CELL = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel"}
_BIASES = ("bias_ih", "bias_hh")
_ATTENTION = "MultiHeadAttention"
PROJECTIONS = ("query", "key", "value")
_PACKED = {"in_proj_weight": "kernel", "in_proj_bias": "bias"}
# PyTorch's weight normalisation, before and since parametrizations: a size a channel, and directions.
_NORMED = (("weight_g", "weight_v"), ("original0", "original1"),
           ("parametrizations.weight.original0", "parametrizations.weight.original1"))  # fmt: skip


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
        if isinstance(self.weight.stored, _Joined):
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
            item = item_of(changed, self.role)
        except CnnlensError:
            return self
        item.__dict__["stored"] = self.stored  # what was read need not be read again
        return item if item.exact and sorted(item.shape) == sorted(other.shape) else self


def _borrowed(weight: Weight, other: Weight) -> Geometry:
    flatten = other.geometry.flatten
    base = replace(other.geometry, flatten=flatten, kernel_shape=None)
    return layout.completed(other.kind, other.role, weight.stored.shape, base, weight.framework)


@dataclass(frozen=True)
class _Joined:
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


def biases_as(items: Mapping[str, Item], others: Mapping[str, Any]) -> dict[str, Item]:
    """Give a cell's arrays with PyTorch's two biases as the one that Keras has, unless the other side has two as well.

    Those of a GRU become its two rows in any case; other cells add them.
    """
    two = [items[role] for role in _BIASES if role in items]
    if len(two) != len(_BIASES) or two[0].weight.stored.shape != two[1].weight.stored.shape:
        return dict(items)
    kind = layout.resolve_kind(items["kernel"].weight.kind) if "kernel" in items else ""
    rows = kind == "GRU"
    if not kind or (not rows and set(_BIASES) <= set(others)):
        return dict(items)
    text = f"np.stack([{two[0].variable}, {two[1].variable}])" if rows else f"({two[0].variable} + {two[1].variable})"
    shape = (2, *two[0].weight.stored.shape) if rows else tuple(two[0].weight.stored.shape)
    stored = _Joined(text, {one.variable: one.weight for one in two}, shape, two[0].weight.stored.dtype)
    name = f"{two[0].place}{', ' if rows else ' + '}{two[1].place}"
    joined = item_of(Weight(name, kind, "bias", stored, Geometry(), two[0].weight.framework), "bias")
    return {role: item for role, item in items.items() if role not in _BIASES} | {
        "bias": replace(joined, joined=tuple(two))
    }


@dataclass(frozen=True)
class Part:
    """Holds arrays that belong together.

    Attributes:
        layer: The layer in its network; ``half``: ``depthwise`` or ``pointwise`` for a separable convolution's, the
            direction or level for one of several cells.
        family: ``conv``, ``dense``, ``norm`` or the kind in small letters.
        items: Its arrays by role.
        order: Its number in the network.
        known: Whether the file says its kind; else it was typed from its arrays.
    """

    layer: Layer
    family: str
    items: Mapping[str, Item]
    order: int
    known: bool = True
    half: str = ""
    skipped: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        return f"{self.layer.name} ({self.half})" if self.half else self.layer.name

    @property
    def kernel(self) -> Item | None:
        return self.items.get("kernel")

    @cached_property
    def main(self) -> Item | None:
        """Give its kernel, or else its largest array."""
        if self.kernel is not None:
            return self.kernel
        return max(self.items.values(), key=lambda item: item.size, default=None)

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items.values())

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """Give what two parts must share to hold the same arrays up to their layout."""
        main = self.main
        return (self.family, main.sizes if main is not None else ())


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


def _family(layer: Layer, roles: Mapping[str, Any], main: tuple[int, ...]) -> str:
    if "kernel" in roles and "recurrent_kernel" not in roles:
        return "dense" if len(main) == 2 else "conv"
    if "recurrent_kernel" in roles:
        return "recurrent"
    if roles and set(roles) <= _NORMS | {"scale"} and ("gamma" in roles or "moving_mean" in roles or "scale" in roles):
        return "norm"
    return layout.resolve_kind(layer.kind).lower()


def parts_of(network: Network) -> list[Part]:
    """List the parts of a network that hold arrays, in its order."""
    found: list[Part] = []
    known = bool(network.calls)
    kernels = dict(_normed_kernels(network))
    taken = {id(part.weight) for kernel in kernels.values() for part in kernel.joined}
    for layer in network.layers:
        groups: dict[str, dict[str, Item]] = {}
        skipped: list[str] = []
        pointwise = any(weight.role == "pointwise_kernel" for weight in layer.stored.values())
        if layer.name in kernels:
            groups[""] = {"kernel": kernels[layer.name]}
        for weight in layer.stored.values():
            role = weight.role or weight.name
            if id(weight) in taken:
                continue
            if (
                weight.name.rpartition(".")[2] in _PACKED
                and len(weight.stored.shape)
                and not weight.stored.shape[0] % 3
            ):
                for half, item in _unpacked(weight):
                    groups.setdefault(half, {})[item.role] = item
                continue
            if role.rpartition("/")[2] in _COUNTERS:
                skipped.append(weight.name)
                continue
            half = ("depthwise" if role == "depthwise_kernel" else "pointwise") if pointwise else _cell(weight)
            name = _role(weight, role, groups.get(half, {}))
            groups.setdefault(half, {})[name] = item_of(weight, name)
        for half, items in groups.items():
            main = items.get("kernel")
            family = _family(layer, items, main.shape if main is not None else ())
            shown = half if len(groups) > 1 else ""
            found.append(Part(layer, family, biases_as(items, _BOTH), len(found), known, shown, tuple(skipped)))
    return found


def _unpacked(weight: Weight) -> Iterator[tuple[str, Item]]:
    """The three projections that PyTorch keeps in one array, by what they are."""
    role = _PACKED.get(weight.name.rpartition(".")[2], "")
    if not role or not weight.stored.shape or weight.stored.shape[0] % len(PROJECTIONS):
        return
    whole = item_of(weight, weight.name)
    size = weight.stored.shape[0] // len(PROJECTIONS)
    for number, half in enumerate(PROJECTIONS):
        text = f"{whole.variable}[{number * size}:{(number + 1) * size}]"
        shape = (size, *weight.stored.shape[1:])
        stored = _Joined(text, {whole.variable: weight}, shape, weight.stored.dtype)
        piece = Weight(f"{weight.name}[{number * size}:{(number + 1) * size}]", _ATTENTION, f"{half}/{role}", stored,
                       Geometry(), weight.framework)  # fmt: skip
        yield half, replace(item_of(piece, role), joined=(whole,))


def _normed_kernels(network: Network) -> Iterator[tuple[str, Item]]:
    """The kernels that are computed of two arrays each (weight normalisation), by the layers that they are used in."""
    for layer in network.layers:
        names = next((names for names in _NORMED if set(names) <= set(layer.stored)), None)
        if names is None:
            continue
        size, direction = (item_of(layer.stored[name], name) for name in names)
        user = _user(network, layer)
        kind = _kernel_kind(user, direction.weight)
        if user is None or not kind or len(size.shape) != len(direction.shape):
            continue
        axes = tuple(axis for axis, count in enumerate(size.shape) if count == 1)
        norm = f"np.sqrt(({direction.variable} ** 2).sum(axis={axes}, keepdims=True))"
        text = f"({size.variable} * {direction.variable} / {norm})"
        arrays = {one.variable: one.weight for one in (size, direction)}
        stored = _Joined(text, arrays, direction.weight.stored.shape, direction.weight.stored.dtype)
        geometry = next((weight.geometry for weight in user.stored.values() if weight.kind == kind), Geometry())
        weight = Weight(direction.place, kind, "kernel", stored, geometry, direction.weight.framework)
        yield user.name, replace(item_of(weight, "kernel"), joined=(size, direction))


def _user(network: Network, layer: Layer) -> Layer | None:
    """The layer that takes what this one makes: itself where the file has no graph, or keeps both together."""
    makers = [call.name for call in network.calls if call.layer is layer]
    if not makers or len(layer.stored) > len(_NORMED[0]):
        return layer
    for call in network.calls:
        if any(ref.call in makers for ref in call.refs):
            if not call.layer.container:
                return call.layer
            makers.append(call.name)
    return None


def _kernel_kind(user: Layer | None, direction: Weight) -> str:
    if user is None:
        return ""
    named = next((row.name for row in LAYERS if user.kind in row.modules), operator_kind(user.kind).name)
    known = next((weight.kind for weight in user.stored.values() if weight.kind), named)
    return known if known in layout.KINDS and len(direction.stored.shape) > 1 else ""


_BOTH: Mapping[str, Any] = dict.fromkeys(_BIASES)


def _cell(weight: Weight) -> str:
    """Which cell of a recurrent layer an array is of, in words; empty for other layers."""
    named = _CELL.search(weight.name)
    if named is not None and weight.framework == "torch":
        return (named[2] or "").replace("_", " ")
    kind = layout.resolve_kind(weight.kind)
    if kind == _ATTENTION:
        return weight.role.partition("/")[0].removesuffix("_dense")
    cell = kind_of(kind).cell or kind in CELLS
    return weight.name.rpartition("/")[0].removesuffix("_layer") if cell else ""


def _role(weight: Weight, role: str, taken: Mapping[str, Item]) -> str:
    """The role under which both frameworks' arrays meet; an array inside a wrapper keeps its path where needed."""
    named = _CELL.search(weight.name) if weight.framework == "torch" else None
    if named is not None:
        return _IN_CELL.get(named[1], named[1])
    short = role.rpartition("/")[2]
    name = "kernel" if short in _KERNELS else short
    if name in taken:
        name = weight.name
    return name
