"""Recurrent layers of PyTorch: a Keras layer for each level and direction, which start from zero states.

PyTorch keeps all levels and directions in one module. In Keras a backward direction reads the sequence from its end and
gives it in that order, so its output is turned round again before both are put behind each other.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from cnnlens.conversion.to_keras.held import Held, identity
from cnnlens.conversion.to_keras.step import Step, aten, reference
from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.aten.recurrent import AtenRecurrent

__all__: list[str] = []

_KERNELS = ("kernel", "recurrent_kernel", "bias")


@aten("zeros", "new_zeros", "full", "zeros_like")
def _zeros(step: Step) -> Held:
    """Zeros of any shape: the states that a recurrent layer starts from. Nothing else may take them."""
    value = step.given.get("fill_value", 0)
    shape = tuple(size if size is not None else 1 for size in step.shape)
    return Held("zeros", 0, 0, step.shape, identity(len(shape)), constant=np.full((1,) * len(shape), value, np.float32))


@reference(AtenRecurrent)
def _recurrent(step: Step) -> list[Held]:
    operation = cast(AtenRecurrent, step.operation)
    x, *states = step.tensors
    if any(state.constant is None or np.any(state.constant) for state in states):
        raise UnsupportedLayerError("it starts from states that are not zero")
    order = (0, 1, 2) if operation.batch_first else (1, 0, 2)
    x = step.builder.turned(x, order)
    for level in range(operation.layers):
        ways = (False, True)[: operation.directions]
        parts = [_one(step, operation, x, order, level, backwards=backwards) for backwards in ways]
        x = parts[0]
        if len(parts) > 1:
            width = sum(cast(int, part.shape[2]) for part in parts)
            shape = (*x.shape[:2], width)
            x = step.layer("Concatenate", parts, {"axis": -1}, shape=shape, name=f"_{level}_both")
    # The states after the last step have no tensor of their own: whoever takes them is refused.
    return [x]


def _one(step: Step, operation: AtenRecurrent, x: Held, order: tuple[int, ...], level: int, *, backwards: bool) -> Held:
    number = level * operation.directions + backwards
    arrays = {role: step.arrays[f"{number}/{role}"] for role in _KERNELS if f"{number}/{role}" in step.arrays}
    if "bias" in arrays and arrays["bias"].dtype == np.float64:
        arrays["bias"] = step.builder.rounded(arrays["bias"], f"the sum of the two biases of {step.call.layer.shown}")
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
    made = step.layer(operation.kind, x, config, arrays, shape=shape, axes=order, name=name)
    if not backwards:
        return made
    return step.operate("Flip", [made], {"axis": 1}, shape=shape, axes=order, name=f"{name}_turned")
