"""The table of bare ops: for each name its function, its operands and settings, and its shape rule.

The first table speaks ``keras.ops``; the second translates the TensorFlow names that Keras 2 wrote into the first's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import KINDS
from cnnlens.reference.arithmetic.functions import parametric_activation
from cnnlens.reference.arithmetic.special import erf, erfc
from cnnlens.reference.bare import functions as functions
from cnnlens.reference.bare import rules as rules
from cnnlens.reference.bare.rules import Rule, Settings
from cnnlens.reference.operation import Array, Operation, Shape, build_layer

__all__ = ["BINARY", "OPERATIONS", "TENSORFLOW_NAMES", "UNARY"]


def _unary(function: Callable[[Array], Any]) -> Rule:
    def call(settings: Settings, x: Array) -> Any:
        return function(x)

    return Rule(call, rules.same)


def _binary(function: Callable[[Any, Any], Any]) -> Rule:
    def call(settings: Settings, first: Any, second: Any) -> Any:
        return function(*functions.of_one_dtype(first, second))

    return Rule(call, rules.broadcast, operands=("x1", "x2"))


def _reduction(function: Callable[..., Any]) -> Rule:
    return Rule(functions.reduce_with(function), rules.reduced, settings=("axis", "keepdims"))


def _structural(function: Callable[..., Any], *by_place: str, operands: tuple[str, ...] = ("x",)) -> Rule:
    return Rule(function, rules.probed(function), operands=operands, settings=by_place)


def _activation(name: str, *by_place: str) -> Rule:
    """An activation; what its configuration leaves out is Keras' default of ``keras.ops``."""

    def shape(settings: Settings, x: Any) -> Shape:
        return parametric_activation(name, settings).shape(rules.shape_of(x))

    def call(settings: Settings, x: Array) -> Array:
        return parametric_activation(name, settings).apply(x)

    return Rule(call, shape, settings=by_place)


def _layer(kind: str, *by_place: str, weights: tuple[str, ...] = ()) -> Rule:
    """An op that is a layer's arithmetic, its weights being operands. ``{}`` in ``kind`` stands for the rank."""

    def build(settings: Settings, x: Any, *rest: Any) -> Operation:
        shape = rules.shape_of(x)
        rank = len(shape) - 2
        config = dict(settings)
        if weights:
            kernels = [rules.shape_of(value) for value in rest]
            channels = shape[1 if settings.get("data_format") == "channels_first" else -1]
            config |= {
                "kernel_size": list(kernels[0][:rank]),
                "filters": kernels[-1][-2 if "Transpose" in kind else -1],
                "depth_multiplier": kernels[0][-1],
                "groups": (channels or 1) // (kernels[0][-2] or 1) if kind == "Conv{}D" else 1,
                "use_bias": False,
            }
        operation = build_layer(kind.format(rank), None, config, (3,))
        if operation is None:
            raise UnsupportedLayerError(f"the reference has no {kind.format(rank)}")
        return operation

    def function(settings: Settings, x: Array, *rest: Any) -> Any:
        named = {name: np.asarray(value, x.dtype) for name, value in zip(weights, rest, strict=True)}
        return build(settings, x, *rest)(named, x)

    def shape(settings: Settings, x: Any, *rest: Any) -> Any:
        return build(settings, x, *rest).output_shape(rules.shape_of(x))

    return Rule(function, shape, operands=("x", *weights), settings=by_place)


def _resizing(settings: Settings) -> Operation:
    height, width = cast("list[int]", settings["size"])
    operation = build_layer("Resizing", None, {**settings, "height": height, "width": width}, (3,))
    assert operation is not None
    return operation


def _resize(settings: Settings, x: Array) -> Any:
    return _resizing(settings)({}, x)


def _resize_shape(settings: Settings, x: Any) -> Any:
    return _resizing(settings).output_shape(rules.shape_of(x))


def _padded(settings: Settings, x: Any, *rest: Any) -> Any:
    # The padding itself may be infinite, which the bytes of the probe cannot hold.
    return rules.probed(functions.pad)({**settings, "constant_values": 0}, x)


def _einsum_shape(settings: Settings, *operands: Any) -> Shape:
    equation = str(settings["subscripts"]).replace(" ", "")
    letters, arrow, made = equation.partition("->")
    if "." in equation or not arrow:
        return cast("Shape", rules.probed(functions.einsum)(settings, *operands))
    sizes: dict[str, int | None] = {}
    for named, operand in zip(letters.split(","), operands, strict=True):
        for letter, size in zip(named, rules.shape_of(operand), strict=True):
            sizes[letter] = sizes.get(letter) or size
    return tuple(sizes[letter] for letter in made)


UNARY: dict[str, Callable[..., Any]] = {
    "Abs": np.abs, "Absolute": np.abs, "Negative": np.negative, "Positive": np.positive, "Square": np.square,
    "Sqrt": np.sqrt, "Rsqrt": functions.rsqrt, "Reciprocal": np.reciprocal, "Sign": np.sign,
    "Exp": np.exp, "Exp2": np.exp2, "Expm1": np.expm1, "Log": np.log, "Log10": np.log10, "Log1p": np.log1p,
    "Log2": np.log2, "Sin": np.sin, "Cos": np.cos, "Tan": np.tan, "Arcsin": np.arcsin, "Arccos": np.arccos,
    "Arctan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh, "Arcsinh": np.arcsinh, "Arccosh": np.arccosh,
    "Arctanh": np.arctanh, "Floor": np.floor, "Ceil": np.ceil, "Trunc": np.trunc, "Frac": functions.fraction,
    "Erf": erf, "Erfc": erfc,
    "Isnan": np.isnan, "Isinf": np.isinf, "Isfinite": np.isfinite, "LogicalNot": np.logical_not,
    "ZerosLike": np.zeros_like, "OnesLike": np.ones_like, "Copy": np.copy, "StopGradient": np.asarray,
    "ConvertToTensor": np.asarray,
}  # fmt: skip
BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Divide": np.true_divide,
    "TrueDivide": np.true_divide, "FloorDivide": np.floor_divide, "Power": np.power, "Mod": np.mod, "Fmod": np.fmod,
    "Maximum": np.maximum, "Minimum": np.minimum, "Arctan2": np.arctan2, "Hypot": np.hypot,
    "Logaddexp": np.logaddexp,
    **{name: functions.compared(function) for name, function in {
        "Greater": np.greater, "GreaterEqual": np.greater_equal, "Less": np.less, "LessEqual": np.less_equal,
        "Equal": np.equal, "NotEqual": np.not_equal,
    }.items()},
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or, "LogicalXor": np.logical_xor,
}  # fmt: skip
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "Mean": np.mean, "Sum": np.sum, "Max": np.max, "Min": np.min, "Amax": np.max, "Amin": np.min, "Prod": np.prod,
    "Var": np.var, "Std": np.std, "Any": np.any, "All": np.all, "Argmax": np.argmax, "Argmin": np.argmin,
}  # fmt: skip
OPERATIONS: dict[str, Rule] = {
    **{name: _unary(function) for name, function in UNARY.items()},
    **{name: _binary(function) for name, function in BINARY.items()},
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    **{
        name: _activation(row.activation, *(row.settings or (setting for _, setting, _ in row.arguments)))
        for name, row in KINDS.items()
        if row.activation and name not in UNARY
    },
    "ReLU": _activation("general_relu", "negative_slope", "max_value", "threshold"),
    "DivideNoNan": Rule(functions.divide_no_nan, rules.broadcast, operands=("x1", "x2")),
    "Round": Rule(functions.round_to, rules.same, settings=("decimals",)),
    "Cast": Rule(functions.cast_to, rules.same, settings=("dtype",)),
    "Clip": Rule(functions.clip, rules.same, settings=("x_min", "x_max")),
    "Cumsum": _structural(functions.cumsum, "axis"),
    "Flip": Rule(functions.flip, rules.same, settings=("axis",)),
    "Roll": Rule(functions.roll, rules.same, settings=("shift", "axis")),
    "Normalize": Rule(functions.normalize, rules.same, settings=("axis", "order", "epsilon")),
    "Where": Rule(functions.where, rules.broadcast, operands=("condition", "x1", "x2")),
    "Logsumexp": Rule(functions.logsumexp, rules.reduced, settings=("axis", "keepdims")),
    "Norm": Rule(functions.norm, rules.reduced, settings=("ord", "axis", "keepdims")),
    "Matmul": Rule(functions.matmul, rules.matmul, operands=("x1", "x2")),
    "Einsum": Rule(functions.einsum, _einsum_shape, operands=()),
    "Tensordot": _structural(functions.tensordot, "axes", operands=("x1", "x2")),
    "Reshape": Rule(functions.reshape, functions.reshape_shape, settings=("newshape",)),
    "Transpose": _structural(functions.transpose, "axes"),
    "ExpandDims": _structural(functions.expand_dims, "axis"),
    "Squeeze": _structural(functions.squeeze, "axis"),
    "Concatenate": _structural(functions.concatenate, "axis", operands=("xs",)),
    "Stack": _structural(functions.stack, "axis", operands=("xs",)),
    "Unstack": _structural(functions.unstack, "num", "axis"),
    "Split": _structural(functions.split, "indices_or_sections", "axis"),
    "SplitBySize": _structural(functions.split_by_size, "num_or_size_splits", "axis"),
    "Pad": Rule(functions.pad, _padded, settings=("pad_width", "mode", "constant_values")),
    "DepthToSpace": Rule(functions.depth_to_space, functions.depth_to_space_shape, settings=("block_size",)),
    "SpaceToDepth": Rule(functions.space_to_depth, functions.space_to_depth_shape, settings=("block_size",)),
    "GetItem": _structural(functions.getitem, operands=("x", "key")),
    "Slice": _structural(functions.slice_from, "shape", operands=("x", "start_indices")),
    "Repeat": _structural(functions.repeat, "repeats", "axis"),
    "Tile": _structural(functions.tile, "repeats"),
    "Moveaxis": _structural(functions.moveaxis, "source", "destination"),
    "Swapaxes": _structural(functions.swapaxes, "axis1", "axis2"),
    "Take": _structural(functions.take, "axis", operands=("x", "indices")),
    "BroadcastTo": _structural(functions.broadcast_to, "shape"),
    "Ravel": _structural(functions.ravel),
    "OneHot": _structural(functions.one_hot, "num_classes", "axis"),
    "MaxPool": _layer("MaxPooling{}D", "pool_size", "strides", "padding", "data_format"),
    "AveragePool": _layer("AveragePooling{}D", "pool_size", "strides", "padding", "data_format"),
    "AdaptiveMaxPool": _layer("AdaptiveMaxPooling{}D", "output_size", "data_format"),
    "AdaptiveAveragePool": _layer("AdaptiveAveragePooling{}D", "output_size", "data_format"),
    "Conv": _layer("Conv{}D", weights=("kernel",)),
    "DepthwiseConv": _layer("DepthwiseConv{}D", weights=("kernel",)),
    "SeparableConv": _layer("SeparableConv{}D", weights=("depthwise_kernel", "pointwise_kernel")),
    "ConvTranspose": _layer("Conv{}DTranspose", weights=("kernel",)),
    "Resize": Rule(_resize, _resize_shape, settings=("size",)),
}

# TensorFlow's name -> (op, renamed arguments, settings that it implies). x and y are TensorFlow's usual operands.
_XY = {"x": "x1", "y": "x2"}
_AB = {"a": "x1", "b": "x2"}
_FEATURES = {"features": "x", "logits": "x", "input": "x", "tensor": "x", "input_tensor": "x", "images": "x", "a": "x"}
_NAMES: dict[str, tuple[str, Mapping[str, str], Mapping[str, Any]]] = {
    **{f"__operators__.{name}": (op, _XY, {}) for name, op in {
        "add": "Add", "sub": "Subtract", "mul": "Multiply", "truediv": "TrueDivide", "div": "TrueDivide",
        "floordiv": "FloorDivide", "pow": "Power", "mod": "Mod", "gt": "Greater", "ge": "GreaterEqual",
        "lt": "Less", "le": "LessEqual", "eq": "Equal", "ne": "NotEqual",
    }.items()},
    "__operators__.getitem": ("GetItem", {"slice_spec": "key", "tensor": "x"}, {}),
    "__operators__.neg": ("Negative", {}, {}),
    **{f"math.{name}": (op, _XY, {}) for name, op in {
        "add": "Add", "subtract": "Subtract", "multiply": "Multiply", "divide": "TrueDivide", "truediv": "TrueDivide",
        "divide_no_nan": "DivideNoNan", "floordiv": "FloorDivide", "floormod": "Mod", "mod": "Mod", "pow": "Power",
        "maximum": "Maximum", "minimum": "Minimum", "greater": "Greater", "less": "Less", "equal": "Equal",
    }.items()},
    **{f"math.{name}": (op, {}, {}) for name, op in {
        "abs": "Abs", "negative": "Negative", "square": "Square", "sqrt": "Sqrt", "rsqrt": "Rsqrt", "exp": "Exp",
        "log": "Log", "log1p": "Log1p", "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "sigmoid": "Sigmoid",
        "softplus": "Softplus", "erf": "Erf", "floor": "Floor", "ceil": "Ceil", "round": "Round", "sign": "Sign",
        "reciprocal": "Reciprocal",
    }.items()},
    **{f"math.reduce_{name}": (op, _FEATURES, {}) for name, op in {
        "mean": "Mean", "sum": "Sum", "max": "Max", "min": "Min", "prod": "Prod", "std": "Std", "variance": "Var",
        "logsumexp": "Logsumexp",
    }.items()},
    "math.argmax": ("Argmax", _FEATURES, {}),
    "math.l2_normalize": ("Normalize", {}, {"epsilon": 1e-6}),
    "linalg.l2_normalize": ("Normalize", {}, {"epsilon": 1e-6}),
    **{f"nn.{name}": (op, _FEATURES, {}) for name, op in {
        "relu": "Relu", "relu6": "Relu6", "elu": "Elu", "selu": "Selu", "silu": "Silu", "swish": "Silu",
        "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "softsign": "Softsign", "softmax": "Softmax",
        "log_softmax": "LogSoftmax",
    }.items()},
    "nn.depth_to_space": ("DepthToSpace", _FEATURES, {}),
    "nn.space_to_depth": ("SpaceToDepth", _FEATURES, {}),
    "nn.gelu": ("Gelu", _FEATURES, {"approximate": False}),
    "nn.leaky_relu": ("LeakyRelu", {**_FEATURES, "alpha": "negative_slope"}, {"negative_slope": 0.2}),
    "linalg.matmul": ("Matmul", _AB, {}),
    "einsum": ("Einsum", {"equation": "subscripts"}, {}),
    "reshape": ("Reshape", {**_FEATURES, "shape": "newshape"}, {}),
    "transpose": ("Transpose", {**_FEATURES, "perm": "axes"}, {}),
    "expand_dims": ("ExpandDims", _FEATURES, {}),
    "squeeze": ("Squeeze", _FEATURES, {}),
    "concat": ("Concatenate", {"values": "xs"}, {}),
    "stack": ("Stack", {"values": "xs"}, {}),
    "unstack": ("Unstack", {"value": "x"}, {}),
    "split": ("SplitBySize", {"value": "x"}, {}),
    "pad": ("Pad", {**_FEATURES, "paddings": "pad_width"}, {}),
    "clip_by_value": ("Clip", {"t": "x", "clip_value_min": "x_min", "clip_value_max": "x_max"}, {}),
    "cast": ("Cast", {}, {}),
    "identity": ("StopGradient", _FEATURES, {}),
    "stop_gradient": ("StopGradient", _FEATURES, {}),
    "tile": ("Tile", _FEATURES, {}),
    "repeat": ("Repeat", _FEATURES, {}),
    "reverse": ("Flip", _FEATURES, {}),
    "slice": ("Slice", {"input_": "x", "begin": "start_indices"}, {}),
    "where": ("Where", {"x": "x1", "y": "x2"}, {}),
    "gather": ("Take", {"params": "x"}, {"axis": 0}),
    "one_hot": ("OneHot", {"indices": "x", "depth": "num_classes"}, {}),
    "image.resize": ("Resize", {**_FEATURES, "method": "interpolation"}, {"interpolation": "bilinear"}),
}  # fmt: skip
# Some functions are public under two names, with and without their module.
TENSORFLOW_NAMES: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    alias: (op, dict(renamed), dict(implied))
    for name, (op, renamed, implied) in _NAMES.items()
    for alias in ({name, name.removeprefix("math."), name.removeprefix("linalg.")})
}
