"""Layers and arrays of legacy HDF5 files, where every array has a name and a layer's inner arrays lie in one group.

The group's attribute ``weight_names`` gives the arrays and their order; paths are never built from layer names, because
Keras 1 and 2 added suffixes to them. In wrappers and nested models a name's middle parts say which inner layer an array
belongs to, and where they do not (Keras 3.0), the order does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from cnnlens.files.arrays import StoredArray
from cnnlens.files.hdf5.index import Group
from cnnlens.files.keras.inner import inner_layers
from cnnlens.files.keras.numbered import layer_name, model_layers
from cnnlens.files.keras.resolution import LayerPath, Resolution, shown
from cnnlens.files.keras.variables import Declared, declare
from cnnlens.files.limits import LIMITS
from cnnlens.reference.keras.names import base_class
from cnnlens.text import printable

__all__ = ["is_legacy", "resolve_legacy"]


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A layer inside the layer that a group belongs to: its path, the names that lead to it, and what it declares."""

    path: LayerPath
    chain: tuple[str, ...]
    entry: Mapping[str, Any]
    declared: Declared


@dataclass(frozen=True, slots=True)
class _Stored:
    """An array of a group: the parts of its name, and its short name."""

    parts: tuple[str, ...]
    name: str
    array: StoredArray


def is_legacy(group: Group) -> bool:
    """Tell whether a group holds weights in the legacy layout (its attribute ``layer_names``, possibly split)."""
    return "layer_names" in group.attributes or "layer_names0" in group.attributes


def resolve_legacy(group: Group, config: Mapping[str, Any] | None, resolution: Resolution) -> None:
    """Files every array of a legacy group under its layer.

    Args:
        group: ``model_weights`` of a whole model, the root of a weights-only file.
        config: The model's entry, or None.
        resolution: Where the claims go.
    """
    layers = {layer_name(entry): entry for entry in (model_layers(config) or []) if layer_name(entry)} if config else {}
    names = _strings(group, "layer_names", resolution)
    for name in names:
        entry = layers.get(name)
        below = _descend(group, name)
        if below is None:
            resolution.note(
                f"layer {shown((name,))} is listed and its group is missing: the file was not written to its end",
                contradicts=True,
            )
            if entry is not None:
                _all_missing(entry, (name,), resolution)
            continue
        stored = _stored(below, name, resolution)
        if not stored:
            if entry is not None:
                _all_missing(entry, (name,), resolution)
        elif entry is None:
            _without_entry(name, stored, resolution)
        else:
            _with_entry(name, entry, stored, resolution)
    for name, entry in layers.items():
        if name not in names:
            _all_missing(entry, (name,), resolution)
    resolution.share()


def _strings(group: Group, name: str, resolution: Resolution) -> list[str]:
    """A list of strings in an attribute, or in the numbered attributes that a long list was split into."""
    attributes = group.attributes
    pieces = [attributes[name]] if name in attributes else []
    while not pieces or f"{name}{len(pieces)}" in attributes:
        if f"{name}{len(pieces)}" not in attributes:
            break
        pieces.append(attributes[f"{name}{len(pieces)}"])
    found: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            found.append(piece)
        elif isinstance(piece, list):
            found += [item for item in cast("list[object]", piece) if isinstance(item, str)]
        elif not (isinstance(piece, np.ndarray) and piece.size == 0):
            resolution.note(f"{group.place or 'the root'}: the attribute {name} is no list of names")
    return found


def _descend(group: Group, name: str) -> Group | None:
    """The group below ``group`` at a name that may itself hold slashes."""
    if name in group.groups:
        return group.groups[name]
    below: Group | None = group
    for step in name.split("/"):
        below = below.groups.get(step) if below is not None else None
    return below


def _stored(group: Group, layer: str, resolution: Resolution) -> list[_Stored]:
    found: list[_Stored] = []
    names = _strings(group, "weight_names", resolution)
    counts = Counter(names)
    twice = [name for name in counts if counts[name] > 1]
    if twice:
        # Keras 3.0 gave the arrays of inner layers one name and broke off at the second: whose is the first?
        what = ", ".join(printable(name) for name in twice[:4])
        resolution.note(
            f"layer {shown((layer,))}: several arrays are listed as {what}; those stored are left unmatched",
            contradicts=True,
        )
    for name in names:
        *way, last = name.split("/")
        if counts[name] > 1 or "seed_generator" in name:
            continue
        below = _descend(group, "/".join(way)) if way else group
        array = below.arrays.get(last) if below is not None else None
        if array is None:
            remark = f"layer {shown((layer,))}: the array {printable(name)} is listed and missing"
            resolution.note(remark, contradicts=True)
            continue
        parts = tuple(_without_suffix(part) for part in way)
        found.append(_Stored(parts, _without_suffix(last), array))
    return found


def _without_suffix(name: str) -> str:
    """``kernel:0`` of TensorFlow as ``kernel``."""
    return re.sub(r":\d+$", "", name)


def _without_entry(layer: str, stored: Sequence[_Stored], resolution: Resolution) -> None:
    """Weights without a config: the parts of a name behind the layer's own are taken for inner layers."""
    for item in stored:
        own = [at for at, part in enumerate(item.parts) if _same(part, layer)]
        inner = item.parts[own[-1] + 1 :] if own else item.parts
        path = (layer, *inner)
        name = item.name
        if name in resolution.weights.get(path, {}):
            name = f"{name}_{sum(key.startswith(name) for key in resolution.weights[path])}"
        resolution.claim(path, None, Declared(None, {}), {name: item.array})


def _same(part: str, name: str) -> bool:
    """Whether a name part is a layer's name, perhaps with the suffix that Keras 1 and 2 made names unique with."""
    return part == name or re.fullmatch(re.escape(name) + r"_\d+", part) is not None


def _leaves(entry: Mapping[str, Any], path: LayerPath, chain: tuple[str, ...]) -> list[_Leaf]:
    """The layers with arrays of their own in ``entry``, itself included, in Keras' order."""
    layers = model_layers(entry)
    if layers is not None:
        return [
            leaf for layer in layers for leaf in _leaves(layer, (*path, layer_name(layer)), (*chain, layer_name(layer)))
        ]
    inside = [
        leaf
        for inner in inner_layers(entry)
        for leaf in _leaves(inner.entry, (*path, *inner.attribute.split("/")), (*chain, inner.name))
    ]
    own = declare(entry)
    if own.names or own.names is None:
        inside.append(_Leaf(path, chain, entry, own))
    return inside


def _all_missing(entry: Mapping[str, Any], path: LayerPath, resolution: Resolution) -> None:
    for leaf in _leaves(entry, path, ()):
        resolution.missing(leaf.path, leaf.entry)


def _with_entry(layer: str, entry: Mapping[str, Any], stored: Sequence[_Stored], resolution: Resolution) -> None:
    leaves = _leaves(entry, (layer,), ())
    if not leaves:
        _without_entry(layer, stored, resolution)
        return
    filed: dict[int, dict[str, StoredArray]] = {at: {} for at in range(len(leaves))}
    finder = _Owners(leaves, filed)
    for item in stored:
        own = [at for at, part in enumerate(item.parts) if _same(part, layer)]
        parts = item.parts[own[0] + 1 :] if own else item.parts
        at = finder.find(item, parts)
        if at is None:
            resolution.note(
                f"layer {shown((layer,))}: no place for the array {printable('/'.join((*item.parts, item.name)))}",
                contradicts=True,
            )
            continue
        leaf = leaves[at]
        inside = _behind(parts, leaf.chain) if leaf.declared.names is None else ()
        if inside:  # a class that is not known holds layers of its own: they go by the names in the file
            resolution.claim((*leaf.path, *inside), None, Declared(None, {}), {item.name: item.array})
        else:
            filed[at][_canonical(item.name, leaf)] = item.array
    for at, leaf in enumerate(leaves):
        if filed[at]:
            names = leaf.declared.names or ()
            ordered = {name: filed[at][name] for name in names if name in filed[at]}
            resolution.claim(leaf.path, leaf.entry, leaf.declared, ordered | filed[at])
        else:
            resolution.missing(leaf.path, leaf.entry)


def _canonical(name: str, leaf: _Leaf) -> str:
    """Keras 3's name of a variable: DepthwiseConv's kernel was ``depthwise_kernel`` in Keras 2."""
    if name == "depthwise_kernel" and base_class(leaf.entry).startswith("DepthwiseConv"):
        return "kernel"
    return name


class _Owners:
    """Finds the leaf that an array belongs to: the one its name leads to; among equals, the first that lacks it."""

    def __init__(self, leaves: Sequence[_Leaf], filed: Mapping[int, Mapping[str, StoredArray]]) -> None:
        self._leaves = leaves
        self._filed = filed
        self._left = LIMITS.legacy_comparisons
        self._by_last: dict[str, list[int]] = {}
        for at, leaf in enumerate(leaves):
            self._by_last.setdefault(leaf.chain[-1] if leaf.chain else "", []).append(at)

    def find(self, item: _Stored, parts: tuple[str, ...]) -> int | None:
        """The number of the leaf, or None. ``parts`` are the names in front of the array's own, without the layer's."""
        likely = [at for part in dict.fromkeys(parts) for at in self._by_last.get(part, ())]
        found = self._best(item, parts, likely)
        return found if found is not None else self._best(item, parts, range(len(self._leaves)))

    def _best(self, item: _Stored, parts: tuple[str, ...], candidates: Sequence[int]) -> int | None:
        best: list[int] = []
        best_score = -1.0
        for at in candidates:
            self._left -= 1
            if self._left < 0:
                return None
            leaf = self._leaves[at]
            name = _canonical(item.name, leaf)
            names = leaf.declared.names
            if name in self._filed[at] or name == "layer_kernel":
                continue
            if names is not None and name not in names and len(self._leaves) > 1 and not parts:
                continue
            score = _agreement(parts, leaf.chain) + (0.5 if names is None or name in names else 0.0)
            if score > best_score:
                best, best_score = [], score
            if score == best_score:
                best.append(at)
        fitting = [at for at in best if _fits(item, self._leaves[at])]
        return next(iter(fitting or best), None)


def _agreement(parts: tuple[str, ...], chain: tuple[str, ...]) -> float:
    """How many names of ``chain`` occur in ``parts``, in order; exact ones count more, unused parts count against."""
    score, at = 0.0, 0
    for name in chain:
        rest = parts[at:]
        exact = next((step for step, part in enumerate(rest) if part == name), None)
        near = next((step for step, part in enumerate(rest) if _near(part, name)), None)
        step = exact if exact is not None else near
        if step is None:
            score -= 0.1
            continue
        score += 2.0 if exact is not None else 1.0
        at += step + 1
    return score - 0.1 * (len(parts) - at)


def _behind(parts: tuple[str, ...], chain: tuple[str, ...]) -> tuple[str, ...]:
    """The parts of a name after the last of those that ``chain`` names."""
    last = max((at for at, part in enumerate(parts) if part in chain), default=-1)
    return parts[last + 1 :]


_COUNTER = re.compile(r"_\d+$")


def _near(part: str, name: str) -> bool:
    return bool(name) and _COUNTER.sub("", part) == _COUNTER.sub("", name)


def _fits(item: _Stored, leaf: _Leaf) -> bool:
    axes = leaf.declared.shapes.get(_canonical(item.name, leaf))
    return axes is None or (
        len(axes) == len(item.array.shape)
        and all(want is None or want == have for want, have in zip(axes, item.array.shape, strict=True))
    )
