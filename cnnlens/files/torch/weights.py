"""A PyTorch layer's arrays with all that their layout depends on: the line of the table, and the geometry.

Which line an array falls under comes from the operator that takes it. Where the reference refuses the operator the
few of this table still have their layout, so that they can be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, cast

from cnnlens import layout
from cnnlens.errors import CnnlensError
from cnnlens.files.torch.state_kinds import GRU_BIASES
from cnnlens.kinds import operator_kind
from cnnlens.layout import Geometry
from cnnlens.network.graph import Layer
from cnnlens.network.weight import Stored, Weight

__all__ = ["argument_kinds", "geometry_of_entry", "torch_weight", "unused_layers", "weight_names"]


def argument_kinds(op: str, arguments: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Find the kind and role of each array that an operator takes, by the array's name in its layer."""
    row = operator_kind(op)
    kind, roles = row.name, _roles(row.name)
    named = {argument: cast("dict[str, Any]", value) for argument, value in arguments.items() if _is_weight(value)}
    found = {str(value["weight"]): (kind, roles[name]) for name, value in named.items() if name in roles}
    if row.cell:
        for name in weight_names(arguments):
            own = name.rpartition(".")[2]
            role = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel"}.get(own[:9])
            if kind == "GRU" and own.startswith(("bias_ih", "bias_hh")):
                role = GRU_BIASES[own[5:7]]
            if role is not None:
                found[name] = (kind, role)
    return found


@cache
def _roles(kind: str) -> Mapping[str, str]:
    """The roles of the arrays of a kind of the table, by PyTorch's names for them."""
    return layout.roles_in("torch", kind)


def weight_names(structure: Any) -> list[str]:
    """List the names in every ``{"weight": name}`` of an entry's arguments, in order."""
    if isinstance(structure, Mapping):
        entry = cast("Mapping[str, Any]", structure)
        if _is_weight(entry):
            return [str(entry["weight"])]
        return [name for part in entry.values() for name in weight_names(part)]
    if isinstance(structure, list):
        return [name for part in cast("list[Any]", structure) for name in weight_names(part)]
    return []


def _is_weight(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    entry = cast("Mapping[str, Any]", value)
    return set(entry) == {"weight"} and isinstance(entry["weight"], str)


def geometry_of_entry(arguments: Mapping[str, Any], flatten: tuple[int, ...] | None) -> Geometry:
    """Read the geometry of a layer's arrays from its operator's arguments."""

    def numbers(name: str) -> tuple[int, ...] | None:
        value = arguments.get(name)
        items = cast("list[Any]", value) if isinstance(value, list) else [value]
        whole = [item for item in items if isinstance(item, int) and not isinstance(item, bool)]
        return tuple(whole) if whole and len(whole) == len(items) else None

    groups = numbers("groups")
    padding = arguments.get("padding")
    return Geometry(
        stride=numbers("stride"),
        padding=padding if isinstance(padding, str) else numbers("padding"),
        dilation=numbers("dilation"),
        groups=groups[0] if groups is not None and groups[0] > 0 else 1,
        flatten=flatten,
        output_padding=numbers("output_padding"),
    )


_completed = lru_cache(1024)(layout.completed)  # of thousands of arrays few differ in what it depends on


def torch_weight(
    name: str, kinds: Iterable[tuple[str, str]], stored: Stored, geometry: Geometry, config: Mapping[str, Any]
) -> Weight:
    """Make a weight of the first of ``kinds`` (kind, role) whose line of the table it fits; else as it is stored."""
    geometries = [geometry] if geometry.flatten is None else [geometry, replace(geometry, flatten=None)]
    for kind, role, said in ((*one, said) for one in kinds for said in geometries):
        if kind not in layout.KINDS:
            continue
        try:
            complete = _completed(kind, role, stored.shape, said, "torch")
            weight = Weight(name, kind, role, stored, complete, "torch", config)
            _ = weight.canonical_shape, weight.canonical_axes, weight.stored_axes
        except CnnlensError:
            continue
        return weight
    return Weight(name, "", name, stored, Geometry(), "torch", config)


def unused_layers(arrays: Mapping[str, Stored], layers: Iterable[Layer]) -> list[Layer]:
    """Make layers of the arrays of modules that the graph never calls, by the modules' names."""
    taken = {layer.name for layer in layers}
    grouped: dict[str, dict[str, Stored]] = {}
    for name, array in arrays.items():
        owner, _, own = name.rpartition(".")
        grouped.setdefault(owner, {})[own] = array
    found: list[Layer] = []
    for owner, own in grouped.items():
        name, number = owner or "(root)", 0
        while name in taken:
            number += 1
            name = f"{owner or '(root)'}_{number}"
        taken.add(name)
        stored = {key: torch_weight(key, (), array, Geometry(), {}) for key, array in own.items()}
        found.append(Layer(name, "", {}, path=tuple(name.split(".")), stored=stored))
    return found
