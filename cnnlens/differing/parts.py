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
from functools import cached_property
from typing import Any

from cnnlens import layout
from cnnlens.differing.items import Item, Joined, item_of
from cnnlens.kinds import CELLS, LAYERS, kind_of, operator_kind
from cnnlens.layout import Geometry
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight

__all__ = ["PROJECTIONS", "Part", "biases_as", "parts_of"]

_KERNELS = frozenset({"kernel", "depthwise_kernel", "pointwise_kernel"})
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


def biases_as(items: Mapping[str, Item], others: Mapping[str, Any]) -> Mapping[str, Item]:
    """Give a cell's arrays with PyTorch's two biases as the one that Keras has, unless the other side has two as well.

    Those of a GRU become its two rows in any case; other cells add them.
    """
    two = [items[role] for role in _BIASES if role in items]
    if len(two) != len(_BIASES) or two[0].weight.stored.shape != two[1].weight.stored.shape:
        return items
    kind = layout.resolve_kind(items["kernel"].weight.kind) if "kernel" in items else ""
    rows = kind == "GRU"
    if not kind or (not rows and set(_BIASES) <= set(others)):
        return items
    text = f"np.stack([{two[0].variable}, {two[1].variable}])" if rows else f"({two[0].variable} + {two[1].variable})"
    shape = (2, *two[0].weight.stored.shape) if rows else tuple(two[0].weight.stored.shape)
    stored = Joined(text, {one.variable: one.weight for one in two}, shape, two[0].weight.stored.dtype)
    name = f"{two[0].place}{', ' if rows else ' + '}{two[1].place}"
    joined = item_of(Weight(name, kind, "bias", stored, Geometry(), two[0].weight.framework), "bias")
    return {role: item for role, item in items.items() if role not in _BIASES} | {
        "bias": replace(joined, joined=tuple(two))
    }


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
            pieces = dict(_unpacked(weight))
            for half, item in pieces.items():
                groups.setdefault(half, {})[item.role] = item
            if pieces:
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
        stored = Joined(text, {whole.variable: weight}, shape, weight.stored.dtype)
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
        stored = Joined(text, arrays, direction.weight.stored.shape, direction.weight.stored.dtype)
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
