"""Layers and arrays of `.keras` and `.weights.h5` files, where arrays have numbers and groups count classes.

A layer's group is named after its class in snake case, with a counter over the layers of that class in the model's
order; the layer's own name is only an attribute, and only since Keras 3.5 or so. Keras 2.12 and 2.13 count a layer with
weights twice. The rules were found in, and checked against, files of five Keras versions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cnnlens.files.arrays import StoredArray
from cnnlens.files.hdf5.index import Group
from cnnlens.files.jsontext import entries, mapping, text
from cnnlens.files.keras.inner import inner_layers
from cnnlens.files.keras.resolution import LayerPath, Resolution, shown
from cnnlens.files.keras.variables import Declared, declare, is_bare_op, names_by_group
from cnnlens.reference.keras.names import base_class, snake_case

__all__ = [
    "CONTAINERS",
    "IGNORED_AT_ROOT",
    "OWN_NAMES",
    "layer_name",
    "model_layers",
    "resolve_model",
    "resolve_unnamed",
]

# What training keeps beside the weights, in attributes that no layer's can be.
IGNORED_AT_ROOT = frozenset({"optimizer", "optimizer_weights", "metrics"})
# Random states are no weights; older versions store them with the layer.
_RANDOM_STATE = "seed_generator"

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
# Classes that Keras exports under another name than their own, which is the one that groups are named after.
OWN_NAMES = {"GroupQueryAttention": "GroupedQueryAttention"}


def resolve_model(root: Group, config: Mapping[str, Any], resolution: Resolution) -> None:
    """Files every array of a model under its layer.

    Args:
        root: The file's root group.
        config: The model's entry, ``{"class_name", "config": {"layers": [...]}}``.
        resolution: Where the claims go.
    """
    _resolve_layers(root, config, (), resolution)
    resolution.share()


def model_layers(entry: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """List the entries of a model's layers that Keras counts, in its order; None if ``entry`` is no such model."""
    config = entry.get("config")
    listed = config if isinstance(config, list) else mapping(config).get("layers")  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(listed, list):
        return None
    found = [layer for layer in entries(listed) if not is_bare_op(layer)]  # pyright: ignore[reportUnknownArgumentType]
    if base_class(entry) == "Sequential":
        found = [layer for layer in found if base_class(layer) != "InputLayer"]
    return found


def layer_name(entry: Mapping[str, Any]) -> str:
    """Give a layer's name by its entry."""
    return text(mapping(entry.get("config")).get("name")) or text(entry.get("name"))


def _resolve_layers(group: Group | None, entry: Mapping[str, Any], path: LayerPath, resolution: Resolution) -> None:
    layers = model_layers(entry) or []
    container, twice = None, False
    for name in CONTAINERS:
        if container is None and group is not None and name in group.groups:
            container, twice = group.groups[name], name != "layers"
    by_name = _groups_by_layer_name(container) if container is not None else {}
    counters: dict[str, int] = {}
    for layer in layers:
        name = layer_name(layer)
        below = (*path, name)
        if container is None:
            _resolve_layer(None, layer, below, resolution)
            continue
        stem = snake_case(OWN_NAMES.get(base_class(layer), base_class(layer)))
        count = counters.get(stem, 0)
        found = container.groups.get(f"{stem}_{count}" if count else stem)
        counters[stem] = count + (2 if twice and _has_weights(layer, found) else 1)
        _resolve_layer(_by_attribute(found, name, by_name, below, resolution), layer, below, resolution)


def _groups_by_layer_name(container: Group) -> dict[str, Group]:
    """Groups by the layer name that they carry, where they carry one and only one carries it."""
    found: dict[str, Group] = {}
    twice: set[str] = set()
    for group in container.groups.values():
        name = _name_attribute(group)
        if name is not None:
            if name in found:
                twice.add(name)
            found[name] = group
    return {name: group for name, group in found.items() if name not in twice}


def _name_attribute(group: Group) -> str | None:
    own = group.groups.get("vars")
    name = own.attributes.get("name") if own is not None else None
    return name if isinstance(name, str) else None


def _by_attribute(
    counted: Group | None, name: str, by_name: Mapping[str, Group], path: LayerPath, resolution: Resolution
) -> Group | None:
    carried = _name_attribute(counted) if counted is not None else None
    named = by_name.get(name)
    if carried == name or (carried is None and named is None):
        return counted
    if named is not None:
        place = counted.place if counted is not None else "nowhere"
        resolution.note(f"layer {shown(path)} is taken from {named.place}, which carries its name; by count: {place}")
        return named
    resolution.note(f"layer {shown(path)} is stored in {counted.place if counted else '?'} under the name '{carried}'")
    return counted


def _has_weights(entry: Mapping[str, Any], group: Group | None) -> bool:
    """Whether the layer has weights, itself or below, stored here or, if it is shared, elsewhere."""
    if group is not None and next(iter(group.arrays_below()), None) is not None:
        return True
    if declare(entry).names:
        return True
    inside = model_layers(entry)
    if inside is not None:
        return any(_has_weights(layer, None) for layer in inside)
    return any(_has_weights(inner.entry, None) for inner in inner_layers(entry))


def _resolve_layer(group: Group | None, entry: Mapping[str, Any], path: LayerPath, resolution: Resolution) -> None:
    if model_layers(entry) is not None:
        _resolve_layers(group, entry, path, resolution)
        return
    own = group.groups.get("vars") if group is not None else None
    if own is not None and own.arrays:
        declared = declare(entry)
        resolution.claim(path, entry, declared, _named(own, declared, path, resolution))
    else:
        resolution.missing(path, entry)
    seen = {"vars", _RANDOM_STATE}
    for inner in inner_layers(entry):
        below = group
        for step in inner.attribute.split("/"):
            below = (below.groups.get(step) or below.groups.get(f"_{step}")) if below is not None else None
        seen |= {inner.attribute.split("/")[0], f"_{inner.attribute.split('/')[0]}"}
        _resolve_layer(below, inner.entry, (*path, *inner.attribute.split("/")), resolution)
    for name, below in group.groups.items() if group is not None else ():
        if name not in seen:
            resolve_unnamed(below, (*path, name), resolution, use_names=False)


def _named(own: Group, declared: Declared, path: LayerPath, resolution: Resolution) -> dict[str, StoredArray]:
    """The arrays of a ``vars`` group under their variables' names, or var0, var1, … where those are not known."""
    stored = sorted(own.arrays.items(), key=lambda item: (not item[0].isdecimal(), len(item[0]), item[0]))
    names = declared.names
    if names is not None and len(names) - declared.optional <= len(stored) <= len(names):
        return {names[at]: array for at, (_, array) in enumerate(stored)}
    if names is not None:
        expected = ", ".join(names) or "none"
        remark = f"layer {shown(path)} has {len(stored)} arrays where its class has {expected}: shown by number"
        resolution.note(remark, contradicts=True)
    return {f"var{number}" if number.isdecimal() else number: array for number, array in stored}


def resolve_unnamed(group: Group, path: LayerPath, resolution: Resolution, *, use_names: bool = True) -> None:
    """Files the arrays of a group that no config describes under the groups' names.

    Args:
        group: The group.
        path: Its layer path.
        resolution: Where the claims go.
        use_names: Whether a layer's own name, where the group carries it, replaces the last name of the path.
    """
    own = group.groups.get("vars")
    if own is not None and own.arrays:
        name = _name_attribute(group)
        renamed = (*path[:-1], name) if name and path and use_names else path
        target = path if renamed in resolution.weights else renamed
        names = _names_by(path[-1] if path else "", name or "")
        resolution.claim(target, None, Declared(None, {}), _guessed(own, names))
    for name, below in group.groups.items():
        if name not in ("vars", _RANDOM_STATE):
            resolve_unnamed(below, (*path, name), resolution, use_names=use_names)


def _names_by(*labels: str) -> tuple[str, ...] | None:
    """Variable names by the first of a group's labels that is a class in snake case."""
    found = (names_by_group(re.sub(r"_\d+$", "", label).lstrip("_")) for label in labels)
    return next((names for names in found if names is not None), None)


def _guessed(own: Group, names: tuple[str, ...] | None) -> dict[str, StoredArray]:
    nothing = Resolution()
    arrays = [array for _, array in sorted(own.arrays.items(), key=lambda item: (len(item[0]), item[0]))]
    usual = names is not None and len(arrays) in (len(names), len(names) - (names[-1] in ("bias", "count")))
    if usual and names is not None and names[-1] == "bias" and len(arrays) == len(names):
        usual = arrays[-1].shape[-1:] != () and len(arrays[-1].shape) <= 2
    if usual and len(arrays) > 1 and names is not None and names[0] in ("kernel", "depthwise_kernel"):
        usual = len(arrays[0].shape) >= 2
    return _named(own, Declared(names if usual else None, {}, optional=1), (), nothing)
