"""Activations of torch, with torch's defaults, and what does nothing at inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlens.kinds import ACTIVATIONS, OPERATORS
from cnnlens.reference.arithmetic.functions import Activation, parametric_activation
from cnnlens.reference.aten.given import Given, Tensor, Translation, WeightName
from cnnlens.reference.aten.operations import AtenActivation, layer, unary
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.rules import shape_of
from cnnlens.reference.keras.activations import Identity, PReLU
from cnnlens.reference.operation import Array, normalise_axis

__all__: list[str] = []


def activation(given: Given, name: str, settings: Mapping[str, Any]) -> Translation:
    """An activation layer on a tensor; the function alone on a weight."""
    function = parametric_activation(name, settings)
    config = {key: value for key, value in settings.items() if value is not None}
    if isinstance(given.main, Tensor):
        operation = AtenActivation(function, config)
        axis = settings.get("axis")
        if axis is not None and normalise_axis(axis, given.rank()) == 0:
            operation.axes = (0,)
        return layer(operation, (given.tensor(),))
    return _on_weight(given, function, config)


def _on_weight(given: Given, function: Activation, config: Mapping[str, Any]) -> Translation:
    def shape(settings: Mapping[str, Any], x: Any) -> Any:
        return function.shape(shape_of(x))

    kind = "".join(part.capitalize() for part in function.name.split("_"))
    return unary(given, kind, function.apply, config, shape)


# Activations that do more with their arguments than to rename them.
_OWN = ("exponential", "gelu", "softplus", "glu", "softmax", "log_softmax")


@aten(*(name for row in ACTIVATIONS.values() if row.activation not in _OWN for name in row.aten if "rrelu" not in name))
def _listed(given: Given) -> Translation:
    row = OPERATORS[given.name]
    settings = {setting: given.number(name, default) for name, setting, default in row.arguments}
    return activation(given, row.activation, settings)


@aten("gelu")
def _gelu(given: Given) -> Translation:
    return activation(given, "gelu", {"approximate": given.get("approximate", "none") == "tanh"})


@aten("softplus")
def _softplus(given: Given) -> Translation:
    beta, limit = given.number("beta", 1.0), given.number("threshold", 20.0)
    return activation(given, "softplus" if beta == 1 else "scaled_softplus", {"beta": beta, "limit": limit})


@aten("rrelu", "rrelu_with_noise", "rrelu_with_noise_functional")
def _rrelu(given: Given) -> Translation:
    if given.flag("training"):
        raise given.refuse("it draws slopes at random (training); call model.eval() before export")
    slope = (given.number("lower", 0.125) + given.number("upper", 1 / 3)) / 2
    return activation(given, "leaky_relu", {"negative_slope": slope})


@aten("glu")
def _glu(given: Given) -> Translation:
    return activation(given, "glu", {"axis": given.integer("dim", -1)})


@aten(*ACTIVATIONS["softmax"].aten, *ACTIVATIONS["log_softmax"].aten)
def _softmax(given: Given) -> Translation:
    name = "log_softmax" if "log" in given.name else "softmax"
    return activation(given, name, {"axis": given.integer("dim", -1)})


@aten("prelu", "_prelu_kernel")
def _prelu(given: Given) -> Translation:
    name = given.weight("weight")
    if name is None:
        raise given.refuse("it has no weight")
    rank, shape = given.rank(), given.known(WeightName(name))
    if len(shape) > 1 and given.name == "prelu":
        raise given.refuse(f"a slope for each channel was expected, its shape is {shape}")

    def spread(array: Array) -> Array:
        """One slope a channel on axis 1, as the layer without the batch wants it; decomposed, it has that shape."""
        if array.ndim > 1:
            return array.reshape(array.shape[1:])
        return array.reshape(-1, *(1,) * (rank - 2)) if rank > 1 else array

    operation = PReLU("PReLU", {"shared_axes": list(range(2, rank))}, (3,))
    return layer(operation, (given.tensor(),), {name: ("PReLU", "alpha")}, {name: spread})


# --- nothing at inference --------------------------------------------------------------------------------------------


@aten(
    "dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "_fused_dropout",
)  # fmt: skip
def _dropout(given: Given) -> Translation:
    if given.flag("train", given.name == "_fused_dropout") and given.number("p", 0.5) != 0:
        raise given.refuse("it drops values at random (training); call model.eval() before export")
    return _identity(given)


@aten(
    "clone", "contiguous", "alias", "detach", "lift_fresh_copy", "lift", "lift_fresh", "lift_copy", "detach_copy",
    "alias_copy", "positive", "resolve_conj", "resolve_neg", "view_as_real_copy", "data", "requires_grad",
)  # fmt: skip
def _identity(given: Given) -> Translation:
    if isinstance(given.main, Tensor):
        return layer(Identity("Identity", {}, (3,)), (given.tensor(),))
    return unary(given, "Copy", np.asarray)


_FLOATING = ("float16", "float32", "float64", "bfloat16", "half", "float", "double")
_WHOLE = {
    **{name: name for name in ("bool", "uint8", "int8", "int16", "int32", "int64")},
    "long": "int64",
    "int": "int32",
}


@aten("to", "_to_copy", "type_as", "float", "double", "half", "bfloat16", "int", "long", "bool", "cpu", "cuda")
def _cast(given: Given) -> Translation:
    name = given.get("dtype")
    if given.name == "type_as" or (name is None and given.name in ("to", "_to_copy", "cpu", "cuda")):
        return _identity(given)
    wanted = str(given.name if name is None else name).removeprefix("torch.")
    return unary(given, "Copy", _converted(given, wanted), {"dtype": wanted})


def _converted(given: Given, name: str) -> Callable[[Any], Any]:
    """Between floating types nothing changes: the run has one of its own."""
    if name in _FLOATING:
        return lambda x: x if x.dtype.kind == "f" else x.astype(np.float32)
    if name not in _WHOLE:
        raise given.refuse(f"no numbers of type {name} in the reference")
    return lambda x: x.astype(_WHOLE[name])
