"""Recurrent layers of PyTorch: a Keras layer for each level and direction, which start from zero states.

PyTorch keeps all levels and directions in one module. In Keras a backward direction reads the sequence from its end and
gives it in that order, so its output is turned round again before both are put behind each other.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from cnnlens.conversion.to_keras.call_site import CallSite, aten, reference
from cnnlens.conversion.to_keras.value import Value, identity
from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.aten.recurrent import AtenRecurrent

__all__: list[str] = []

_KERNELS = ("kernel", "recurrent_kernel", "bias")


@aten("zeros", "new_zeros", "full", "zeros_like")
def _zeros(site: CallSite) -> Value:
    """Zeros of any shape: the states that a recurrent layer starts from. Nothing else may take them."""
    value = site.args.get("fill_value", 0)
    shape = tuple(size if size is not None else 1 for size in site.shape)
    return Value(
        "zeros", 0, 0, site.shape, identity(len(shape)), constant=np.full((1,) * len(shape), value, np.float32)
    )


@reference(AtenRecurrent)
def _recurrent(site: CallSite) -> list[Value]:
    operation = cast(AtenRecurrent, site.operation)
    x, *states = site.tensors
    if any(state.constant is None or np.any(state.constant) for state in states):
        raise UnsupportedLayerError("it starts from states that are not zero")
    order = (0, 1, 2) if operation.batch_first else (1, 0, 2)
    x = site.builder.turned(x, order)
    for level in range(operation.layers):
        ways = (False, True)[: operation.directions]
        parts = [_one(site, operation, x, order, level, backwards=backwards) for backwards in ways]
        x = parts[0]
        if len(parts) > 1:
            width = sum(cast(int, part.shape[2]) for part in parts)
            shape = (*x.shape[:2], width)
            x = site.layer("Concatenate", parts, {"axis": -1}, shape=shape, name=f"_{level}_both")
    # The states after the last step have no tensor of their own: whoever takes them is refused.
    return [x]


def _one(
    site: CallSite, operation: AtenRecurrent, x: Value, order: tuple[int, ...], level: int, *, backwards: bool
) -> Value:
    number = level * operation.directions + backwards
    arrays = {role: site.arrays[f"{number}/{role}"] for role in _KERNELS if f"{number}/{role}" in site.arrays}
    if "bias" in arrays and arrays["bias"].dtype == np.float64:
        arrays["bias"] = site.builder.rounded(arrays["bias"], f"the sum of the two biases of {site.call.layer.shown}")
    config: dict[str, Any] = {
        "units": operation.cell.units,
        "activation": operation.config["activation"],
        "use_bias": "bias" in arrays,
        "return_sequences": True,
        "go_backwards": backwards,
    }
    if operation.kind != "SimpleRNN":
        config["recurrent_activation"] = "sigmoid"
    if operation.kind == "GRU":
        config["reset_after"] = True
    shape = (*x.shape[:2], operation.cell.units)
    name = "" if operation.layers * operation.directions == 1 else f"_{level}_{'backward' if backwards else 'forward'}"
    arrays = {f"cell/{role}": array for role, array in arrays.items()}
    made = site.layer(operation.kind, x, config, arrays, shape=shape, axes=order, name=name)
    if not backwards:
        return made
    return site.operate("Flip", [made], {"axis": 1}, shape=shape, axes=order, name=f"{name}_turned")
