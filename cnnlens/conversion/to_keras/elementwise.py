"""Activations and sums: a Keras layer where there is one that people would write, else the operation of ``keras.ops``.

Numbers work on any order of axes, so nothing is moved; operands of several orders follow the first one's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.conversion.to_keras.call_site import REFUSED, CallSite, aten, reference
from cnnlens.conversion.to_keras.value import Value, identity
from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import ACTIVATIONS, OPERATORS, Features, kind_of
from cnnlens.reference.aten.arguments import Tensor, WeightName, is_operand
from cnnlens.reference.aten.operations import AtenOperation
from cnnlens.reference.keras.activations import Identity
from cnnlens.reference.keras.merging import MERGES, Merge

__all__ = ["aligned", "write_operation"]

# Numbers of a parameter that may stand in the config as a constant.
_MOST_NUMBERS = 100_000

Setting = tuple[str, Mapping[str, Any]]
Get = Callable[[str, float], float]


def _clipped(get: Get) -> Setting:
    low, high = get("min_val", -1.0), get("max_val", 1.0)
    if low == 0:
        return "ReLU", {"max_value": high, "negative_slope": 0.0, "threshold": 0.0}
    if (low, high) == (-1, 1):
        return "Activation", {"activation": "hard_tanh"}
    return "Clip", {"x_min": low, "x_max": high}


def _relu(maximum: float | None) -> Callable[[Get], Setting]:
    return lambda get: ("ReLU", {"max_value": maximum, "negative_slope": 0.0, "threshold": 0.0})


# Operators that Keras has a layer for, with settings of its own.
_LAYERS: dict[str, Callable[[Get], Setting]] = {
    "relu": _relu(None),
    "relu6": _relu(6.0),
    "hardtanh": _clipped,
    "leaky_relu": lambda get: ("LeakyReLU", {"negative_slope": get("negative_slope", 0.01)}),
    **dict.fromkeys(
        ("rrelu", "rrelu_with_noise", "rrelu_with_noise_functional"),
        lambda get: ("LeakyReLU", {"negative_slope": (get("lower", 0.125) + get("upper", 1 / 3)) / 2}),
    ),
}
_KERAS_LAYERS = ("ReLU", "LeakyReLU", "ELU", "Activation", "Softmax")
# Activations that are written below.
_OWN = ("exponential", "elu", "gelu", "softplus", "glu", "softmax", "log_softmax")


def _written(site: CallSite, kind: str, settings: Mapping[str, Any], at_least_zero: bool = False) -> Value:
    x = site.main
    plain = kind in _KERAS_LAYERS
    result = site.layer(kind, x, settings) if plain else site.operate(kind, [x], settings, axes=x.axes)
    return replace(result, flat=x.flat, at_least_zero=at_least_zero)


@aten(*(operator for row in ACTIVATIONS.values() if row.activation not in _OWN for operator in row.aten))
def _simple(site: CallSite) -> Value:
    get, row = site.args.number, OPERATORS[site.args.name]
    if site.args.name in _LAYERS:
        kind, settings = _LAYERS[site.args.name](get)
    elif row.arguments:
        kind, settings = row.name, {setting: get(name, default) for name, setting, default in row.arguments}
    else:
        kind, settings = "Activation", {"activation": row.activation}
    return _written(site, kind, settings, row.at_least_zero or kind == "ReLU")


@aten("elu")
def _elu(site: CallSite) -> Value:
    get = site.args.number
    if (get("scale", 1.0), get("input_scale", 1.0)) != (1, 1):
        raise UnsupportedLayerError("Keras' ELU has no scale of its own")
    return _written(site, "ELU", {"alpha": get("alpha", 1.0)})


@aten("gelu")
def _gelu(site: CallSite) -> Value:
    if site.args.get("approximate", "none") == "tanh":
        return _written(site, "Gelu", {"approximate": True})
    return _written(site, "Activation", {"activation": "gelu"})


@aten("softplus")
def _softplus(site: CallSite) -> Value:
    if site.args.number("beta", 1.0) != 1:
        raise UnsupportedLayerError("Keras' softplus has no beta")
    return _written(site, "Activation", {"activation": "softplus"}, at_least_zero=True)


@aten("softmax", "_softmax", "_safe_softmax", "log_softmax", "_log_softmax", "glu")
def _along(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    name = site.args.name
    place = x.place(site.args.integer("dim", -1))
    axis = -1 if place == x.rank - 1 else place
    if name == "glu":
        return site.operate("Glu", [x], {"axis": axis}, axes=x.axes)
    if "log" in name:
        return site.operate("LogSoftmax", [x], {"axis": axis}, axes=x.axes)
    return replace(site.layer("Softmax", x, {"axis": axis}), at_least_zero=True)


@aten("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(site: CallSite) -> Value:
    """Kept, so that the model can be trained on: Keras' layer does nothing at inference either."""
    x = site.main
    rate = site.args.number("p", 0.5)
    name = site.args.name
    if name == "feature_dropout" and x.rank in (3, 4, 5):
        x = site.map(x)
        kind = f"SpatialDropout{x.rank - 2}D"
        config: dict[str, Any] = {"rate": rate, "seed": None}
        if x.rank > 3:
            config["data_format"] = "channels_last"
    elif "alpha" in name:
        kind, config = "AlphaDropout", {"rate": rate, "seed": None, "noise_shape": None}
    else:
        kind, config = "Dropout", {"rate": rate, "seed": None, "noise_shape": None}
    return replace(site.layer(kind, x, config), flat=x.flat, at_least_zero=x.at_least_zero)


@reference(Identity)
def _identity(site: CallSite) -> Value:
    return site.main


# --- several operands -------------------------------------------------------------------------------------------------


def aligned(site: CallSite, tensors: Sequence[Value]) -> list[Value]:
    """Bring the tensors into one order of axes: the first full one's, or PyTorch's where their ranks differ."""
    if len({tensor.flat for tensor in tensors}) == 1 and len({tensor.axes for tensor in tensors}) == 1:
        return list(tensors)
    plain = [site.builder.plain(tensor) for tensor in tensors]
    ranks = {tensor.rank for tensor in plain}
    if len(ranks) > 1:
        return [site.builder.turned(tensor, identity(tensor.rank)) for tensor in plain]
    largest = max(plain, key=lambda tensor: sum(size != 1 for size in tensor.shape))
    return [site.builder.turned(tensor, largest.axes) for tensor in plain]


def constant(site: CallSite, array: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
    """A parameter as a constant of the config, spread like the tensor beside it, which lies in the order ``axes``."""
    if array.size > _MOST_NUMBERS:
        raise UnsupportedLayerError(f"Keras has no layer for a parameter of {array.size:,} numbers beside a tensor")
    wide = array.reshape((1,) * (len(axes) - array.ndim) + array.shape)
    return np.ascontiguousarray(wide.transpose(list(axes)))


def _with_constant(site: CallSite) -> Value:
    """A merge of a tensor and of one that depends on no input, which has the same number of axes."""
    x = next(site.builder.plain(tensor) for tensor in site.tensors if tensor.constant is None)
    args = [
        x if tensor.constant is None else constant(site, _numbers(site, np.asarray(tensor.constant)), x.axes)
        for tensor in site.tensors
    ]
    return site.operate(site.operation.kind, args, axes=x.axes)


def _as_constant(site: CallSite, value: Any) -> Any:
    """A tensor that depends on no input, as the numbers that it holds."""
    found = site.tensors[value.index].constant if isinstance(value, Tensor) else None
    return value if found is None else _numbers(site, found)


def _numbers(site: CallSite, found: NDArray[Any]) -> NDArray[Any]:
    """A constant that the reference worked out in float64, as a config holds it."""
    if found.dtype.kind != "f":
        return found
    return site.builder.rounded(found, f"the constant beside {site.call.layer.shown}")


@reference(Merge)
def _merge(site: CallSite) -> Value:
    if any(tensor.constant is not None for tensor in site.tensors):
        return _with_constant(site)
    first, second = aligned(site, [site.tensors[0], site.tensors[1]] if len(site.tensors) > 1 else site.tensors * 2)
    positive = first.at_least_zero and second.at_least_zero and site.operation.kind != "Subtract"
    return replace(site.layer(site.operation.kind, [first, second], {}), flat=first.flat, at_least_zero=positive)


@aten("copy")
def _copied_into(site: CallSite) -> Value:
    """``src``, spread like the tensor that it is written into, whose own numbers are lost."""
    source = site.tensor(site.args.get("src"))
    return source if source.shape == site.shape else _spread(site, source, site.main)


@aten("expand_as")
def _expand_as(site: CallSite) -> Value:
    return _spread(site, site.main, site.tensor(site.args.get("other")))


def _spread(site: CallSite, x: Value, other: Value) -> Value:
    """Spread by a product with ones, which changes no number."""
    x, other = aligned(site, [x, other])
    ones = site.operate("OnesLike", [other], shape=other.shape, axes=other.axes, name="_ones")
    if x.rank != other.rank:
        raise UnsupportedLayerError("it spreads a tensor over one of more axes")
    return site.layer("Multiply", [x, ones], {})


@aten("expand", "expand_copy", "broadcast_to", "repeat", "tile")
def _expand(site: CallSite) -> Value:
    """Repeat a tensor, or a parameter for each example of the batch, as a class token is."""
    wanted, main = site.shape, site.args.main
    if None in wanted[1:]:
        raise UnsupportedLayerError("the batch is not in front in what it gives")
    sizes = cast("tuple[int, ...]", wanted[1:])
    value = _as_constant(site, main) if isinstance(main, Tensor) else site.arrays[main.name]
    if not isinstance(value, np.ndarray):
        x = site.builder.plain(site.main)
        before = (1,) * (len(wanted) - x.rank) + tuple(x.shape)
        if x.rank != len(wanted) or None in before[1:]:
            raise UnsupportedLayerError("it spreads a tensor over more axes than that has")
        times = [1, *(after // cast(int, size) for size, after in zip(before[1:], sizes, strict=True))]
        if set(times) == {1}:
            return x
        return site.operate("Tile", [x], {"repeats": [times[axis] for axis in x.axes]}, axes=x.axes)
    array = cast("NDArray[Any]", value)
    array = array.reshape((1,) * (len(wanted) - array.ndim) + array.shape)
    if array.shape[0] != 1:
        raise UnsupportedLayerError("it has a part for each example of the batch")
    axes = identity(len(wanted))
    whole = np.tile(array, [1, *(after // size for size, after in zip(array.shape[1:], sizes, strict=True))])
    # Zeros of as many examples as there are, to which the numbers are added.
    source = next(site.builder.plain(one) for one in site.tensors if one.constant is None)
    one = tuple(size if axis == 0 else 1 for axis, size in enumerate(source.shape))
    part = [slice(None), *[slice(0, 1)] * (source.rank - 1)]
    zeros = site.operate("GetItem", [source, part], shape=one, axes=source.axes, name="_first")
    zeros = site.operate("ZerosLike", [zeros], shape=one, axes=source.axes, name="_zeros")
    flat = (wanted[0], *(1 for _ in sizes))
    zeros = site.builder.reshaped(zeros, flat, flat, axes, f"{site.name}_each")
    return site.operate("Add", [zeros, constant(site, whole, axes)], axes=axes)


@reference(AtenOperation)
def write_operation(site: CallSite) -> Value:
    """Write a function of tensors, parameters and numbers, place by place."""
    operation = cast(AtenOperation, site.operation)
    kind, operands = operation.kind, list(operation.template)
    name = site.args.name
    row = kind_of(kind)
    if not row.home or row.features not in (Features.ALONE, Features.PLACED) or name in REFUSED:
        raise UnsupportedLayerError(REFUSED.get(name, "Keras has no such operation"))
    if kind == "FloorDivide" and site.args.get("rounding_mode") == "trunc":
        raise UnsupportedLayerError("Keras has no division that rounds towards zero")
    if kind == "Copy":
        if str(operation.settings.get("dtype", "float")).startswith(("float", "bfloat", "half", "double")):
            return site.main
        return site.operate("Cast", [site.main], {"dtype": "int32"}, axes=site.main.axes)
    if name == "masked_fill":
        operands = [operands[1], operands[2], operands[0]]
    alpha = operation.settings.get("alpha", 1)
    if name == "rsub":
        operands.reverse()
    operands = [_as_constant(site, value) for value in operands]
    tensors = [site.tensor(value) for value in operands if isinstance(value, Tensor)]
    if not tensors or any(isinstance(value, list) for value in operands):
        raise UnsupportedLayerError("it takes no tensor that the model computes")
    ordered = aligned(site, tensors)
    first = max(ordered, key=lambda tensor: tensor.rank)
    if first.flat is not None and any(isinstance(value, WeightName | np.ndarray) for value in operands):
        ordered = [site.builder.plain(tensor) for tensor in ordered]
        first = ordered[0]
    rank = len(site.shape)
    if rank != first.rank:
        ordered = [site.builder.turned(tensor, identity(tensor.rank)) for tensor in ordered]
        first = ordered[0]
    axes = first.axes if rank == first.rank else identity(rank)
    if kind == "Multiply" and len(operands) == 2:
        scaled = _channel_scale(site, operands, first)
        if scaled is not None:
            return scaled
    rest = iter(ordered)
    args: list[Any] = []
    for value in operands:
        if isinstance(value, Tensor):
            args.append(next(rest))
        elif isinstance(value, WeightName):
            args.append(constant(site, site.arrays[value.name], axes))
        elif isinstance(value, np.ndarray):
            args.append(constant(site, cast("NDArray[Any]", value), axes))
        else:
            args.append(value)
    if alpha != 1:
        # The operand that is written second is the one that is taken alpha times, in rsub as well.
        other = args[1]
        args[1] = (
            site.operate("Multiply", [other, alpha], shape=other.shape, axes=other.axes, name="_alpha")
            if isinstance(other, Value)
            else other * alpha
        )
    flat = first.flat
    return replace(_call(site, kind, args, axes, operation), flat=flat)


def _call(site: CallSite, kind: str, args: list[Any], axes: Sequence[int], operation: AtenOperation) -> Value:
    tensor = [value for value in args if isinstance(value, Value)]
    if kind in MERGES and len(tensor) == len(args) == 2 and tensor[0].rank == tensor[1].rank:
        return site.layer(kind, tensor, {}, axes=axes)
    if kind == "Clip":
        return _clip(site, args, axes)
    settings = {"decimals": operation.settings.get("decimals", 0)} if kind == "Round" else {}
    return site.operate(kind, args, settings, axes=axes)


def _clip(site: CallSite, args: list[Any], axes: Sequence[int]) -> Value:
    low, high = site.args.get("min"), site.args.get("max")
    if is_operand(low) or is_operand(high):
        raise UnsupportedLayerError("its limits are tensors")
    if low is not None and high is not None:
        if low == 0:
            return site.layer("ReLU", args[0], {"max_value": float(high), "negative_slope": 0.0, "threshold": 0.0})
        return site.operate("Clip", args[:1], {"x_min": low, "x_max": high}, axes=axes)
    return site.operate("Maximum" if high is None else "Minimum", [args[0], low if high is None else high], axes=axes)


def _channel_scale(site: CallSite, operands: Sequence[Any], x: Value) -> Value | None:
    """A parameter with one factor a channel: a depthwise convolution of one tap, which keeps it a weight."""
    weight = next((value for value in operands if isinstance(value, WeightName)), None)
    if weight is None or x.rank not in (3, 4) or x.axes[-1] == 0:
        return None
    array = site.arrays[weight.name]
    wide = array.reshape((1,) * (x.rank - array.ndim) + array.shape) if array.ndim <= x.rank else array
    channel = x.axes[-1]
    channels = x.shape[channel]
    if wide.shape != tuple(channels if axis == channel else 1 for axis in range(x.rank)) or channels is None:
        return None
    ones = [1] * (x.rank - 2)
    config = {
        "kernel_size": ones,
        "strides": ones,
        "padding": "valid",
        "depth_multiplier": 1,
        "data_format": "channels_last",
        "dilation_rate": ones,
        "activation": "linear",
        "use_bias": False,
    }
    return site.layer(f"DepthwiseConv{x.rank - 2}D", x, config, {"kernel": array.reshape(*ones, channels, 1)})
