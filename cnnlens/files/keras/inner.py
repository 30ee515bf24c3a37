"""The layers inside a Keras layer: what wrappers, recurrent and attention layers hold, under which attribute and name.

`.keras` files call an inner layer by its attribute in the outer one, legacy files by its own name, and some inner
layers (a recurrent layer's cell, an attention layer's projections) stand in no config: they are derived here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnlens.files.jsontext import entries, mapping, text
from cnnlens.kinds import layer_kind
from cnnlens.reference.keras.names import base_class, numbered, snake_case

__all__ = ["Inner", "inner_layers"]


@dataclass(frozen=True, slots=True)
class Inner:
    """Describes a layer inside a layer: its attribute in the outer one, its name in legacy files, and its entry."""

    attribute: str
    name: str
    entry: Mapping[str, Any]


_ATTENTION_PROJECTIONS = (
    ("query_dense", "query"), ("key_dense", "key"), ("value_dense", "value"), ("gate_dense", "gate"),
    ("output_dense", "attention_output"),
)  # fmt: skip


def inner_layers(entry: Mapping[str, Any]) -> list[Inner]:
    """List the layers that a wrapper, a recurrent or an attention layer holds, by attribute; no models."""
    kind, config = base_class(entry), mapping(entry.get("config"))
    cell = layer_kind(kind, None).cell
    if cell:
        # Keras 2 and 3 call the cell of each ConvLSTM alike.
        name = snake_case(re.sub(r"LSTM\dD", "LSTM", cell))
        return [Inner("cell", name, {"class_name": cell, "config": config})]
    if kind == "QuantizeAnnotate":
        return []  # the arrays of what it marks are its own in a file
    if kind == "Bidirectional":
        return _both_directions(config)
    if kind in ("MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention"):
        return [
            Inner(attribute, name, _projection(name, config))
            for attribute, name in _ATTENTION_PROJECTIONS
            if name != "gate" or config.get("use_gate")
        ]
    if kind == "StackedRNNCells":
        return [Inner(f"cells/{name}", _name_of(cell), cell) for name, cell in numbered(entries(config.get("cells")))]
    found: list[Inner] = []
    for attribute in ("layer", "cell"):
        inner = mapping(config.get(attribute))
        if inner.get("class_name"):
            found.append(Inner(attribute, _name_of(inner), inner))
    return found


def _name_of(entry: Mapping[str, Any]) -> str:
    return text(mapping(entry.get("config")).get("name"))


def _projection(name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    biased = "x" if config.get("use_bias", True) else None
    return {"class_name": "EinsumDense", "config": {"name": name, "dtype": config.get("dtype"), "bias_axes": biased}}


def _both_directions(config: Mapping[str, Any]) -> list[Inner]:
    forward = mapping(config.get("layer"))
    backward = mapping(config.get("backward_layer")) or forward
    name = _name_of(forward)
    bare = name.removeprefix("forward_")
    backward_name = _name_of(backward) if backward is not forward else f"backward_{bare}"
    return [
        Inner("forward_layer", f"forward_{bare}", forward),
        Inner("backward_layer", backward_name or f"backward_{bare}", backward),
    ]
