"""Activations of torch, with torch's defaults, and what does nothing at inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlens.kinds import ACTIVATIONS, OPERATORS
from cnnlens.reference.arithmetic.functions import Activation, parametric_activation
from cnnlens.reference.aten.arguments import IN_EVAL, Arguments, Tensor, Translation, WeightName
from cnnlens.reference.aten.operations import AtenActivation, layer, unary
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.rules import shape_of
from cnnlens.reference.keras.activations import Identity, PReLU
from cnnlens.reference.operation import Array, normalise_axis

__all__: list[str] = []


def activation(args: Arguments, name: str, settings: Mapping[str, Any]) -> Translation:
    """An activation layer on a tensor; the function alone on a weight."""
    function = parametric_activation(name, settings)
    config = {key: value for key, value in settings.items() if value is not None}
    if isinstance(args.main, Tensor):
        operation = AtenActivation(function, config)
        axis = settings.get("axis")
        if axis is not None and normalise_axis(axis, args.rank()) == 0:
            operation.axes = (0,)
        return layer(operation, (args.tensor(),))
    return _on_weight(args, function, config)


def _on_weight(args: Arguments, function: Activation, config: Mapping[str, Any]) -> Translation:
    def shape(settings: Mapping[str, Any], x: Any) -> Any:
        return function.shape(shape_of(x))

    kind = "".join(part.capitalize() for part in function.name.split("_"))
    return unary(args, kind, function.apply, config, shape)


# Activations that do more with their arguments than to rename them.
_OWN = ("exponential", "gelu", "softplus", "glu", "softmax", "log_softmax")


@aten(*(name for row in ACTIVATIONS.values() if row.activation not in _OWN for name in row.aten if "rrelu" not in name))
def _listed(args: Arguments) -> Translation:
    row = OPERATORS[args.name]
    settings = {setting: args.number(name, default) for name, setting, default in row.arguments}
    return activation(args, row.activation, settings)


@aten("gelu")
def _gelu(args: Arguments) -> Translation:
    return activation(args, "gelu", {"approximate": args.get("approximate", "none") == "tanh"})


@aten("softplus")
def _softplus(args: Arguments) -> Translation:
    beta, limit = args.number("beta", 1.0), args.number("threshold", 20.0)
    return activation(args, "softplus" if beta == 1 else "scaled_softplus", {"beta": beta, "limit": limit})


@aten("rrelu", "rrelu_with_noise", "rrelu_with_noise_functional")
def _rrelu(args: Arguments) -> Translation:
    if args.flag("training"):
        raise args.refuse(f"it draws slopes at random (training); {IN_EVAL}")
    slope = (args.number("lower", 0.125) + args.number("upper", 1 / 3)) / 2
    return activation(args, "leaky_relu", {"negative_slope": slope})


@aten("glu")
def _glu(args: Arguments) -> Translation:
    return activation(args, "glu", {"axis": args.integer("dim", -1)})


@aten(*ACTIVATIONS["softmax"].aten, *ACTIVATIONS["log_softmax"].aten)
def _softmax(args: Arguments) -> Translation:
    name = "log_softmax" if "log" in args.name else "softmax"
    return activation(args, name, {"axis": args.integer("dim", -1)})


@aten("prelu", "_prelu_kernel")
def _prelu(args: Arguments) -> Translation:
    name = args.weight("weight")
    if name is None:
        raise args.refuse("it has no weight")
    rank, shape = args.rank(), args.known(WeightName(name))
    if len(shape) > 1 and args.name == "prelu":
        raise args.refuse(f"a slope for each channel was expected, its shape is {shape}")

    def spread(array: Array) -> Array:
        """One slope a channel on axis 1, as the layer without the batch wants it; decomposed, it has that shape."""
        return array.reshape(-1, *(1,) * (rank - 2)) if rank > 1 else array

    operation = PReLU("PReLU", {"shared_axes": list(range(2, rank))}, (3,))
    return layer(operation, (args.tensor(),), {name: ("PReLU", "alpha")}, {name: spread})


# --- nothing at inference --------------------------------------------------------------------------------------------


@aten(
    "dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "_fused_dropout",
)  # fmt: skip
def _dropout(args: Arguments) -> Translation:
    if args.flag("train", args.name == "_fused_dropout") and args.number("p", 0.5) != 0:
        raise args.refuse(f"it drops values at random (training); {IN_EVAL}")
    return _identity(args)


@aten(
    "clone", "contiguous", "alias", "detach", "lift_fresh_copy", "lift", "lift_fresh", "lift_copy", "detach_copy",
    "alias_copy", "positive", "resolve_conj", "resolve_neg", "view_as_real_copy", "data", "requires_grad",
)  # fmt: skip
def _identity(args: Arguments) -> Translation:
    if isinstance(args.main, Tensor):
        return layer(Identity("Identity", {}, (3,)), (args.tensor(),))
    return unary(args, "Copy", np.asarray)


_FLOATING = ("float16", "float32", "float64", "bfloat16", "half", "float", "double")
_WHOLE = {
    **{name: name for name in ("bool", "uint8", "int8", "int16", "int32", "int64")},
    "long": "int64",
    "int": "int32",
}


@aten("to", "_to_copy", "type_as", "float", "double", "half", "bfloat16", "int", "long", "bool", "cpu", "cuda")
def _cast(args: Arguments) -> Translation:
    name = args.get("dtype")
    if args.name == "type_as" or (name is None and args.name in ("to", "_to_copy", "cpu", "cuda")):
        return _identity(args)
    wanted = str(args.name if name is None else name).removeprefix("torch.")
    return unary(args, "Copy", _converted(args, wanted), {"dtype": wanted})


def _converted(args: Arguments, name: str) -> Callable[[Any], Any]:
    """Between floating types nothing changes: the run has one of its own."""
    if name in _FLOATING:
        return lambda x: x if x.dtype.kind == "f" else x.astype(np.float32)
    if name not in _WHOLE:
        raise args.refuse(f"no numbers of type {name} in the reference")
    return lambda x: x.astype(_WHOLE[name])
