"""What a PyTorch model computes of its weights alone: worked out now, in float64, and kept as a weight of its reader.

A kernel under ``weight_norm`` or ``spectral_norm``, or one that is standardised as the model runs, is the same at every
call. Keras has no layer that computes its own kernel, and needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.conversion.to_keras.builder import Builder
from cnnlens.conversion.to_keras.value import Value, identity
from cnnlens.errors import CnnlensError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.torch.operations import equip
from cnnlens.files.torch.weights import torch_weight
from cnnlens.layout import Geometry
from cnnlens.network.graph import CONFIG_ERRORS, Call, map_refs
from cnnlens.network.weight import Weight

__all__ = ["folded", "holding"]

# Arguments that are a layer's arrays where the model does not compute them.
_ARRAYS = ("weight", "bias", "running_mean", "running_var")


def folded(call: Call, tensors: Sequence[Value]) -> list[Value] | None:
    """Compute what a call gives that sees no input, in float64; None where the reference cannot."""
    constants = iter([tensor.constant for tensor in tensors])
    try:
        weights = {name: _wide(array) for name, array in call.layer.computing_weights().items()}
        args = map_refs(call.args, lambda ref: next(constants))
        result: Any = call.layer.operation(weights, *args)
    except (CnnlensError, *CONFIG_ERRORS):
        return None
    found = cast("list[NDArray[Any]]", result if isinstance(result, list) else [result])
    arrays = [np.asarray(one) for one in found]
    return [
        Value("constant", 0, index, array.shape, identity(array.ndim), constant=array)
        for index, array in enumerate(arrays)
    ]


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def holding(builder: Builder, call: Call, tensors: list[Value]) -> tuple[Call, list[Value]]:
    """Give a call, and what it takes, as if its layer stored the arrays that the model computes of other weights."""
    arguments = cast("Mapping[str, Any]", call.layer.entry.get("arguments") or {})
    places: dict[str, int] = {}
    for name in _ARRAYS:
        value = arguments.get(name)
        if isinstance(value, Mapping) and "tensor" in value:
            place = cast("Mapping[str, int]", value)["tensor"]
            if tensors[place].layer == "constant":
                places[name] = place
    if not places:
        return call, tensors
    left = [place for place in range(len(tensors)) if place not in places.values()]
    stored: dict[str, Weight] = dict(call.layer.stored)
    named: dict[int, str] = {}
    for argument, place in places.items():
        name = named[place] = argument if argument not in stored else f"{argument}_computed"
        array = builder.rounded(
            cast("NDArray[Any]", tensors[place].constant),
            f"the {argument} of {call.layer.shown}, which is computed of other weights",
        )
        held = StoredArray(array.shape, array.dtype, array.dtype.name, f"{call.layer.name}.{name}", array.view)
        stored[name] = torch_weight(name, (), held, Geometry(), {})
    entry = {**call.layer.entry, "arguments": _renumbered(arguments, named, left)}
    layer = replace(call.layer, entry=entry, stored=stored)
    equip(layer, [tensors[place].shape for place in left])
    return replace(call, layer=layer, args=tuple(call.refs[place] for place in left)), [tensors[one] for one in left]


def _renumbered(value: Any, named: Mapping[int, str], left: Sequence[int]) -> Any:
    if isinstance(value, list):
        return [_renumbered(part, named, left) for part in cast("list[Any]", value)]
    if not isinstance(value, Mapping):
        return value
    entry = cast("Mapping[str, Any]", value)
    place = entry.get("tensor")
    if not isinstance(place, int):
        return {key: _renumbered(part, named, left) for key, part in entry.items()}
    return {"weight": named[place]} if place in named else {**entry, "tensor": left.index(place)}
