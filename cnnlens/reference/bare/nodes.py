"""Nodes of TensorFlow's graphs as ops of ``keras.ops``: tf.keras 2.0 to 2.3 wrote them as ``TensorFlowOpLayer``.

An entry holds the node (``node_def``: its op, its attributes) and those of its inputs that are constants, by place; the
others are what it is called on, in order. An attribute that no line of the table knows is refused, unless it is empty:
it could change what is computed. Source: ``tensorflow/core/ops`` of TensorFlow 2.3 and its ``NodeDef`` as JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.operation import whole
from cnnlens.text import nearest, printable

__all__ = ["node_of"]

Named = dict[str, Any]

# Operands by place in keras.ops, and attributes with the names of the settings that they are.
_XY = "x1 x2"
_REDUCED = {"keep_dims": "keepdims"}
_NODES: dict[str, tuple[str, str, Mapping[str, str]]] = {
    **{name: (target, "x", {}) for name, target in {
        "Abs": "Abs", "Neg": "Negative", "Square": "Square", "Sqrt": "Sqrt", "Rsqrt": "Rsqrt", "Exp": "Exp",
        "Log": "Log", "Log1p": "Log1p", "Sin": "Sin", "Cos": "Cos", "Tan": "Tan", "Tanh": "Tanh", "Erf": "Erf",
        "Floor": "Floor", "Ceil": "Ceil", "Round": "Round", "Sign": "Sign", "Reciprocal": "Reciprocal",
        "Inv": "Reciprocal", "Relu": "Relu", "Relu6": "Relu6", "Elu": "Elu", "Selu": "Selu", "Sigmoid": "Sigmoid",
        "Softplus": "Softplus", "Softsign": "Softsign", "Softmax": "Softmax", "LogSoftmax": "LogSoftmax",
        "Identity": "StopGradient", "StopGradient": "StopGradient", "ZerosLike": "ZerosLike", "OnesLike": "OnesLike",
        "LogicalNot": "LogicalNot",
    }.items()},
    **{name: (target, _XY, {}) for name, target in {
        "AddV2": "Add", "Add": "Add", "BiasAdd": "Add", "Sub": "Subtract", "Mul": "Multiply", "RealDiv": "TrueDivide",
        "DivNoNan": "DivideNoNan", "FloorDiv": "FloorDivide", "FloorMod": "Mod", "Pow": "Power", "Maximum": "Maximum",
        "Minimum": "Minimum", "Greater": "Greater", "GreaterEqual": "GreaterEqual", "Less": "Less",
        "LessEqual": "LessEqual", "Equal": "Equal", "NotEqual": "NotEqual", "LogicalAnd": "LogicalAnd",
        "LogicalOr": "LogicalOr",
    }.items()},
    **{name: (name, "x axis", _REDUCED) for name in ("Mean", "Sum", "Max", "Min", "Prod", "Any", "All")},
    "LeakyRelu": ("LeakyRelu", "x", {"alpha": "negative_slope"}),
    "ArgMax": ("Argmax", "x axis", {}),
    "ArgMin": ("Argmin", "x axis", {}),
    "Select": ("Where", "condition x1 x2", {}),
    "SelectV2": ("Where", "condition x1 x2", {}),
    "Reshape": ("Reshape", "x newshape", {}),
    "Transpose": ("Transpose", "x axes", {}),
    "ExpandDims": ("ExpandDims", "x axis", {}),
    "Squeeze": ("Squeeze", "x", {"squeeze_dims": "axis"}),
    "ConcatV2": ("Concatenate", "*xs axis", {}),
    "Pack": ("Stack", "*xs", {"axis": "axis"}),
    "Unpack": ("Unstack", "x", {"num": "num", "axis": "axis"}),
    "Split": ("Split", "axis x", {"num_split": "indices_or_sections"}),
    "SplitV": ("SplitBySize", "x num_or_size_splits axis", {}),
    "Pad": ("Pad", "x pad_width", {}),
    "PadV2": ("Pad", "x pad_width constant_values", {}),
    "MirrorPad": ("Pad", "x pad_width", {"mode": "mode"}),
    "Tile": ("Tile", "x repeats", {}),
    "Slice": ("Slice", "x start_indices shape", {}),
    "GatherV2": ("Take", "x indices axis", {}),
    "Cast": ("Cast", "x", {"DstT": "dtype"}),
    "ClipByValue": ("Clip", "x x_min x_max", {}),
    "DepthToSpace": ("DepthToSpace", "x", {"block_size": "block_size"}),
    "SpaceToDepth": ("SpaceToDepth", "x", {"block_size": "block_size"}),
}  # fmt: skip

# Attributes that say types and counts, which follow from the operands.
_TYPES = frozenset((
    "T", "N", "Tidx", "Tperm", "Tshape", "Tpaddings", "Tmultiples", "Tdim", "Tdims", "Tlen", "Index", "SrcT", "Tparams",
    "Tindices", "Taxis", "output_type", "Truncate", "use_cudnn_on_gpu", "_class", "_output_shapes", "out_type",
    "incompatible_shape_error", "Tcond", "dtype", "Tin",
))  # fmt: skip
_DTYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16", "DT_INT32": "int32",
           "DT_INT64": "int64", "DT_BOOL": "bool", "DT_UINT8": "uint8"}  # fmt: skip
_MODES = {"REFLECT": "reflect", "SYMMETRIC": "symmetric"}
_RESIZES = {"ResizeBilinear": "bilinear", "ResizeNearestNeighbor": "nearest", "ResizeBicubic": "bicubic"}
_WINDOWS = {"MaxPool": "MaxPool", "AvgPool": "AveragePool", "Conv2D": "Conv", "DepthwiseConv2dNative": "DepthwiseConv"}
_PRODUCTS = {"MatMul": ("transpose_a", "transpose_b"), "BatchMatMulV2": ("adj_x", "adj_y"),
             "BatchMatMul": ("adj_x", "adj_y")}  # fmt: skip


class Node:
    """A node as the op of ``keras.ops`` that computes the same.

    Attributes:
        target: The op's name.
    """

    def __init__(self, target: str, name: Callable[[list[Any]], tuple[list[Any], Named]], constants: Named) -> None:
        self.target = target
        self._name = name
        self._constants = constants

    def operands(self, args: Sequence[Any]) -> tuple[list[Any], Named]:
        """Give the op's arguments, by place and by name, where the layer is called on ``args``."""
        first = args[0] if len(args) == 1 else list(args)
        values = list(cast("Sequence[Any]", first)) if isinstance(first, list) else [first]
        for place, constant in sorted((int(place), constant) for place, constant in self._constants.items()):
            values.insert(place, constant)
        return self._name(values)


def node_of(config: Mapping[str, Any]) -> Node:
    """Read the node of a ``TensorFlowOpLayer``.

    Raises:
        UnsupportedLayerError: no op computes it; says why.
    """
    body: Any = config.get("node_def")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            raise UnsupportedLayerError("what TensorFlow operation it is cannot be read") from None
    constants: Any = config.get("constants") or {}
    if (
        not isinstance(body, dict)
        or not isinstance(constants, dict)
        or not all(isinstance(key, str | int) and str(key).isdecimal() for key in cast("dict[Any, Any]", constants))
    ):
        raise UnsupportedLayerError("what TensorFlow operation it is cannot be read")
    node = cast("dict[str, Any]", body)
    op, listed = str(node.get("op")), node.get("attr")
    attributes = {str(name): _attribute(value) for name, value in cast("Named", listed or {}).items()}
    given = {name: value for name, value in attributes.items() if name not in _TYPES}
    if given.pop("data_format", "NHWC") not in ("NHWC", ""):
        raise UnsupportedLayerError(f"TensorFlow's {printable(op)} with channels first is not computed")
    target, name = _translated(op, given)
    return Node(target, name, cast("Named", constants))


def _attribute(value: Any) -> Any:
    """One value of a ``NodeDef`` in JSON: ``{"i": "2"}``, ``{"s": base64}``, ``{"list": {"i": ["1", "2"]}}``."""
    if not isinstance(value, dict) or len(cast("Named", value)) != 1:
        raise UnsupportedLayerError("an attribute of its TensorFlow operation cannot be read")
    [(kind, one)] = cast("Named", value).items()
    if kind == "list":
        return [_scalar(kind, item) for kind, items in cast("Named", one).items() for item in items]
    return _scalar(kind, one)


def _scalar(kind: str, one: Any) -> Any:
    if kind == "i":
        return int(one)
    if kind == "s":
        try:
            return base64.b64decode(one, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise UnsupportedLayerError("an attribute of its TensorFlow operation cannot be read") from None
    return one


def _translated(op: str, given: Named) -> tuple[str, Callable[[list[Any]], tuple[list[Any], Named]]]:
    if op == "StridedSlice":
        return "GetItem", _strided({name: given.pop(name, 0) for name in _MASKS}, given, op)
    if op == "Einsum":
        equation = given.pop("equation", "")
        _refuse_rest(op, given)
        return "Einsum", lambda values: (values, {"subscripts": equation})
    if op in _PRODUCTS:
        turned = [bool(given.pop(name, False)) for name in _PRODUCTS[op]]
        _refuse_rest(op, given)
        if not any(turned):
            return "Matmul", _by_name("x1 x2", {})
        first, second = ("...ji" if turned[0] else "...ij"), ("...kj" if turned[1] else "...jk")
        return "Einsum", lambda values: (values, {"subscripts": f"{first},{second}->...ik"})
    if op in _RESIZES:
        if given.pop("align_corners", False) or not given.pop("half_pixel_centers", False):
            raise UnsupportedLayerError(f"TensorFlow's {op} with centres of pixels elsewhere is not computed")
        _refuse_rest(op, given)
        return "Resize", _by_name("x size", {"interpolation": _RESIZES[op]})
    if op in _WINDOWS:
        return _WINDOWS[op], _windows(op, given)
    if op not in _NODES:
        raise UnsupportedLayerError(f"TensorFlow's {printable(op)} is not computed; {nearest(op, _NODES)}")
    target, places, known = _NODES[op]
    settings: Named = {known[name]: given.pop(name) for name in list(given) if name in known}
    if op == "Cast":
        settings = {"dtype": _DTYPES.get(str(settings.get("dtype") or "DT_FLOAT"))}
        if settings["dtype"] is None:
            raise UnsupportedLayerError("TensorFlow's Cast is to a type that is not computed")
    if op == "MirrorPad":
        settings["mode"] = _MODES.get(str(settings.get("mode")))
    if op == "Squeeze":
        settings["axis"] = tuple(settings.get("axis") or ()) or None
    if op == "Pack":
        settings.setdefault("axis", 0)
    _refuse_rest(op, given)
    return target, _by_name(places, settings)


# What batch_dims and validate_indices say where they say nothing.
_NOTHING: tuple[Any, ...] = (None, False, 0, "", [])


def _refuse_rest(op: str, given: Named) -> None:
    for name, value in given.items():
        if value not in _NOTHING and name != "validate_indices":
            raise UnsupportedLayerError(f"TensorFlow's {printable(op)} is not known with {printable(name)}")


def _by_name(places: str, settings: Named) -> Callable[[list[Any]], tuple[list[Any], Named]]:
    names = places.split()

    def name(values: list[Any]) -> tuple[list[Any], Named]:
        named = dict(settings)
        if names[0].startswith("*"):
            count = len(values) - len(names) + 1
            values, named[names[0][1:]] = values[count:], values[:count]
            return [], named | dict(zip(names[1:], values, strict=True))
        return [], named | dict(zip(names, values, strict=True))

    return name


_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def _strided(masks: Mapping[str, int], rest: Named, op: str) -> Callable[[list[Any]], tuple[list[Any], Named]]:
    """``x[begin:end:strides]``, a bit of each mask for each place of the index."""
    _refuse_rest(op, rest)

    def name(values: list[Any]) -> tuple[list[Any], Named]:
        x, *bounds = values
        begin, end, strides = ([whole(one, "a bound of a slice") for one in _listed(bound)] for bound in bounds)
        key: list[Any] = []
        for place, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
            bit = {name: bool(mask >> place & 1) for name, mask in masks.items()}
            if bit["ellipsis_mask"]:
                key.append(Ellipsis)
            elif bit["new_axis_mask"]:
                key.append(None)
            elif bit["shrink_axis_mask"]:
                key.append(first)
            else:
                stop = None if bit["end_mask"] else last
                key.append(slice(None if bit["begin_mask"] else first, stop, step))
        return [x, tuple(key)], {}

    return name


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UnsupportedLayerError("what it takes a part of depends on the input")
    return cast("list[Any]", value)


def _windows(op: str, given: Named) -> Callable[[list[Any]], tuple[list[Any], Named]]:
    sizes = {name: given.pop(name, [1] * 4) for name in ("strides", "ksize", "dilations")}
    padding = str(given.pop("padding", "")).lower()
    if padding not in ("same", "valid") or any(len(one) != 4 or one[0] != 1 or one[3] != 1 for one in sizes.values()):
        raise UnsupportedLayerError(f"TensorFlow's {op} is computed over pictures, padded as SAME or VALID, alone")
    _refuse_rest(op, given)
    strides, window, dilation = ([int(size) for size in sizes[name][1:3]] for name in ("strides", "ksize", "dilations"))
    settings: Named = {"strides": strides, "padding": padding}
    settings |= {"pool_size": window} if "Pool" in op else {"dilation_rate": dilation}

    def name(values: list[Any]) -> tuple[list[Any], Named]:
        x, *kernels = values
        return [x, *(np.asarray(kernel, np.float32) if isinstance(kernel, list) else kernel for kernel in kernels)], {
            **settings
        }

    return name
