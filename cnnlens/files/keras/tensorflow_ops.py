"""``TensorFlowOpLayer``: a node of TensorFlow's own graph, as TensorFlow 2.0 to 2.3 kept arithmetic between layers.

Later versions record the same call by its public name, as ``TFOpLambda``. A node is read as that call, so that nothing
downstream needs to know of nodes: its constants take their places among the operands, its attributes become settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from cnnlens.errors import FileRefusedError
from cnnlens.files.jsontext import decode, mapping, text
from cnnlens.files.keras.arguments import GraphError

__all__ = ["NODE", "called", "function_of", "node_of"]

NODE = "TensorFlowOpLayer"
"""The class of such a layer."""

Attributes = Mapping[str, Any]


def _flag(attributes: Attributes, name: str) -> bool:
    return mapping(attributes.get(name)).get("b") is True


def _whole(attributes: Attributes, name: str) -> int:
    return _number(mapping(attributes.get(name)).get("i", 0), name)


def _number(value: Any, name: str) -> int:
    """A whole number, which JSON of protocol buffers has as text where it takes 64 bits."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise GraphError(f"the attribute '{name}' of a node of TensorFlow is no whole number") from None


def _keepdims(attributes: Attributes) -> dict[str, Any]:
    return {"keepdims": _flag(attributes, "keep_dims")}


def _squeezed(attributes: Attributes) -> dict[str, Any]:
    axes = mapping(mapping(attributes.get("squeeze_dims")).get("list")).get("i")
    whole = [_number(axis, "squeeze_dims") for axis in (cast("list[Any]", axes) if isinstance(axes, list) else [])]
    return {"axis": whole} if whole else {}


def _axis(attributes: Attributes) -> dict[str, Any]:
    return {"axis": _whole(attributes, "axis")}


def _slope(attributes: Attributes) -> dict[str, Any]:
    return {"alpha": mapping(attributes.get("alpha")).get("f", 0.2)}


def _nothing(attributes: Attributes) -> dict[str, Any]:
    return {}


# A node's operation -> the public function of the same meaning, and what its attributes are there.
_FUNCTIONS: dict[str, tuple[str, Callable[[Attributes], dict[str, Any]]]] = {
    **{op: (f"math.{name}", _nothing) for op, name in {
        "Add": "add", "AddV2": "add", "BiasAdd": "add", "Sub": "subtract", "Mul": "multiply", "RealDiv": "truediv",
        "DivNoNan": "divide_no_nan", "FloorDiv": "floordiv", "FloorMod": "floormod", "Pow": "pow", "Abs": "abs",
        "Maximum": "maximum", "Minimum": "minimum", "Greater": "greater", "Less": "less", "Neg": "negative",
        "Square": "square", "Sqrt": "sqrt", "Rsqrt": "rsqrt", "Exp": "exp", "Log": "log", "Log1p": "log1p",
        "Sin": "sin", "Cos": "cos", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softplus": "softplus", "Erf": "erf",
        "Floor": "floor", "Ceil": "ceil", "Sign": "sign", "Reciprocal": "reciprocal", "Inv": "reciprocal",
    }.items()},
    **{op: (f"nn.{name}", _nothing) for op, name in {
        "Relu": "relu", "Relu6": "relu6", "Elu": "elu", "Selu": "selu", "Softsign": "softsign", "Softmax": "softmax",
        "LogSoftmax": "log_softmax",
    }.items()},
    "LeakyRelu": ("nn.leaky_relu", _slope),
    **{op: (f"math.reduce_{op.lower()}", _keepdims) for op in ("Mean", "Sum", "Max", "Min", "Prod")},
    "ConcatV2": ("concat", _nothing), "Pack": ("stack", _axis), "Reshape": ("reshape", _nothing),
    "Transpose": ("transpose", _nothing), "ExpandDims": ("expand_dims", _nothing), "Squeeze": ("squeeze", _squeezed),
    "Pad": ("pad", _nothing), "PadV2": ("pad", _nothing), "Tile": ("tile", _nothing),
    "ClipByValue": ("clip_by_value", _nothing), "Identity": ("identity", _nothing),
    "StopGradient": ("stop_gradient", _nothing), "StridedSlice": ("__operators__.getitem", _nothing),
}  # fmt: skip


def node_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the node in a layer's config, which TensorFlow 2.0 to 2.2 kept as text of JSON.

    Raises:
        GraphError: the text is no JSON.
    """
    node = config.get("node_def")
    try:
        return decode("", "node_def", node) if isinstance(node, str) else mapping(node)
    except FileRefusedError:
        raise GraphError("the node_def of a node of TensorFlow is no JSON") from None


def function_of(config: Mapping[str, Any]) -> str:
    """Name the public function that a node computes; ``raw_ops.X`` where none here has its meaning."""
    op = text(node_of(config).get("op"))
    return _FUNCTIONS[op][0] if op in _FUNCTIONS else f"raw_ops.{op}"


def called(config: Mapping[str, Any], args: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give what the public function is called with: operands with the constants among them, and settings.

    Args:
        config: The layer's.
        args: What the file calls it on: one tensor, or a list of them.

    Raises:
        GraphError: its constants or attributes are not as TensorFlow writes them.
    """
    node, constants = node_of(config), mapping(config.get("constants"))
    given: list[Any] = [*cast("list[Any]", args[0])] if args and isinstance(args[0], list) else [*args]
    if not all(place.isdecimal() and len(place) < 6 for place in constants):
        raise GraphError("the constants of a node of TensorFlow are not numbered")
    for place in sorted(constants, key=int):
        given.insert(int(place), constants[place])
    op, attributes = text(node.get("op")), mapping(node.get("attr"))
    _, settings = _FUNCTIONS.get(op, ("", _nothing))
    if op == "ConcatV2":
        return (given[:-1], given[-1]), {}
    if op == "Pack":
        return (given,), settings(attributes)
    if op == "StridedSlice":
        return (given[0], _slices(given[1:], attributes)), {}
    if op == "PadV2":
        return (given[0], given[1]), {"constant_values": given[2]} if len(given) > 2 else {}
    return tuple(given), settings(attributes)


def _slices(given: list[Any], attributes: Attributes) -> list[Any]:
    """The slices, as TFOpLambda has them, that begins, ends, strides and masks stand for."""
    if len(given) != 3 or not all(isinstance(one, list) for one in given):
        raise GraphError("a slice whose bounds are computed in the graph")
    begins, ends, strides = cast("list[list[Any]]", given)
    masks = {
        name: _whole(attributes, f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    found: list[Any] = []
    for place, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=False)):
        has = {name for name, mask in masks.items() if mask >> place & 1}
        if "ellipsis" in has:
            found.append({"class_name": "__ellipsis__"})
        elif "new_axis" in has:
            found.append(None)
        elif "shrink_axis" in has:
            found.append(begin)
        else:
            bounds = {"start": None if "begin" in has else begin, "stop": None if "end" in has else end, "step": stride}
            found.append(bounds)
    return found
