"""Sums, products, comparisons and functions of single numbers, with tensors, weights and scalars in any place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from cnnlens.kinds import OPERATORS
from cnnlens.reference.aten.arguments import Arguments, Tensor, Translation, is_operand
from cnnlens.reference.aten.operations import BY_RUNNING, bare, layer, unary
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.functions import of_one_dtype
from cnnlens.reference.bare.rules import broadcast, same
from cnnlens.reference.bare.table import BINARY, UNARY
from cnnlens.reference.keras.merging import MERGES, Merge
from cnnlens.reference.operation import Array

__all__ = ["binary"]

Settings = Mapping[str, Any]


# Operators with a translation of their own below or elsewhere, though their kind is a function in the table.
_OWN = ("full_like", "ones_like", "positive", "rsub", "zeros_like")
# Operators whose function is not quite the kind's.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "bitwise_not": np.invert, "fmax": np.fmax, "fmin": np.fmin,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "__and__": np.bitwise_and, "__or__": np.bitwise_or,
}  # fmt: skip


def _operators(functions: Mapping[str, Callable[..., Any]]) -> dict[str, tuple[str, Callable[..., Any]]]:
    """Operator -> (its kind, its function), for the kinds that have one of these functions."""
    return {
        operator: (row.name, _FUNCTIONS.get(operator, functions[row.name]))
        for operator, row in OPERATORS.items()
        if row.name in functions and operator not in _OWN
    }


_UNARY, _BINARY = _operators(UNARY), _operators(BINARY)


@aten(*_UNARY)
def _unary(args: Arguments) -> Translation:
    kind, function = _UNARY[args.name]
    return unary(args, kind, function)


def binary(
    args: Arguments, kind: str, function: Callable[[Any, Any], Any], first: Any, second: Any, alpha: Any = 1
) -> Translation:
    """Make a function of two operands, the second times ``alpha``: a merge of two tensors of one rank, else on any."""
    if kind in MERGES and alpha == 1 and isinstance(first, Tensor) and isinstance(second, Tensor):
        shapes = args.shape(first), args.shape(second)
        if shapes[0] and shapes[1] and len(shapes[0]) == len(shapes[1]) and first.index < second.index:
            return layer(Merge(kind, {}, (3,)), ([first, second],))

    def call(settings: Settings, a: Any, b: Any) -> Any:
        a, b = of_one_dtype(a, b)
        return function(a, b if alpha == 1 else alpha * b)

    plain = [value for value in (first, second) if not is_operand(value)]
    numbers = ({"other": plain[0]} if plain else {}) | ({} if alpha == 1 else {"alpha": alpha})
    return bare(args, kind, call, broadcast, [first, second], numbers)


@aten(*_BINARY)
def _binary(args: Arguments) -> Translation:
    kind, function = _BINARY[args.name]
    second = args.by_name.get("other", args.by_name.get("exponent"))
    alpha = args.get("alpha", 1)
    if args.name in ("div", "divide") and args.get("rounding_mode") is not None:
        down = args.get("rounding_mode") == "floor"
        return binary(args, "FloorDivide", np.floor_divide if down else lambda a, b: np.trunc(a / b), args.main, second)
    return binary(args, kind, function, args.main, second, alpha)


@aten("rsub")
def _rsub(args: Arguments) -> Translation:
    alpha = args.get("alpha", 1)

    def call(settings: Settings, a: Any, b: Any) -> Any:
        a, b = of_one_dtype(a, b)
        return b - (a if alpha == 1 else alpha * a)

    other = args.get("other")
    return bare(args, "Subtract", call, broadcast, [args.main, other], {} if alpha == 1 else {"alpha": alpha})


@aten("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(args: Arguments) -> Translation:
    low, high = args.get("min"), args.get("max")

    def call(settings: Settings, x: Any, *limits: Any) -> Any:
        found = iter(limits)
        result = x
        if low is not None:
            result = np.maximum(*of_one_dtype(result, next(found)))
        return result if high is None else np.minimum(*of_one_dtype(result, next(found)))

    limits = [limit for limit in (low, high) if limit is not None]
    settings = {
        name: value for name, value in (("x_min", low), ("x_max", high)) if value is not None and not is_operand(value)
    }
    return bare(args, "Clip", call, broadcast, [args.main, *limits], settings)


@aten("where")
def _where(args: Arguments) -> Translation:
    def call(settings: Settings, condition: Any, a: Any, b: Any) -> Any:
        return cast("Array", np.where(np.asarray(condition) != 0, *of_one_dtype(a, b)))

    condition = args.by_name.get("condition")
    return bare(args, "Where", call, broadcast, [condition, args.by_name["self"], args.by_name["other"]])


@aten("masked_fill")
def _masked_fill(args: Arguments) -> Translation:
    def call(settings: Settings, x: Any, mask: Any, value: Any) -> Any:
        return cast("Array", np.where(np.asarray(mask) != 0, *of_one_dtype(np.asarray(value, x.dtype), x)))

    return bare(args, "Where", call, broadcast, [args.main, args.get("mask"), args.get("value", 0.0)])


@aten("round")
def _round(args: Arguments) -> Translation:
    decimals = args.integer("decimals", 0)

    def call(x: Array) -> Array:
        return np.round(x, decimals)

    return unary(args, "Round", call, {"decimals": decimals})


@aten("full_like", "zeros_like", "ones_like", "empty_like")
def _full_like(args: Arguments) -> Translation:
    value = args.get("fill_value", 1 if args.name == "ones_like" else 0)
    name = str(args.get("dtype", "")).removeprefix("torch.")

    def call(settings: Settings, x: Any) -> Any:
        if "float" in name:
            return np.full(x.shape, value, x.dtype if x.dtype.kind == "f" else np.float32)
        return np.full(x.shape, value, name or x.dtype)

    kind = "Empty" if args.name == "empty_like" else "OnesLike"
    return bare(args, kind, call, same, [args.main], {"value": value})


@aten("copy")
def _copy(args: Arguments) -> Translation:
    def call(settings: Settings, x: Any, source: Any) -> Any:
        return np.broadcast_to(np.asarray(source, x.dtype), x.shape)

    return bare(args, "Scatter", call, same, [args.main, args.get("src")])


@aten("lerp")
def _lerp(args: Arguments) -> Translation:
    def call(settings: Settings, a: Any, b: Any, share: Any) -> Any:
        return a + share * (b - a)

    return bare(args, "Lerp", call, broadcast, [args.main, args.get("end"), args.get("weight", 0.0)])


@aten("addcmul", "addcdiv")
def _added(args: Arguments) -> Translation:
    value = args.get("value", 1)
    combine = np.multiply if args.name == "addcmul" else np.true_divide

    def call(settings: Settings, x: Any, a: Any, b: Any) -> Any:
        return x + value * combine(a, b)

    operands = [args.main, args.get("tensor1"), args.get("tensor2")]
    return bare(args, "Addcmul", call, broadcast, operands, {"value": value})


@aten("cosine_similarity")
def _cosine(args: Arguments) -> Translation:
    axis, least = args.integer("dim", 1), args.number("eps", 1e-8)

    def call(settings: Settings, a: Any, b: Any) -> Any:
        a, b = (x / np.maximum(np.sqrt(np.square(x).sum(axis=axis, keepdims=True)), least) for x in (a, b))
        return (a * b).sum(axis=axis)

    return bare(args, "CosineSimilarity", call, BY_RUNNING, [args.get("x1"), args.get("x2")], {"axis": axis})


@aten("pairwise_distance")
def _distance(args: Arguments) -> Translation:
    order, least, keep = args.number("p", 2.0), args.number("eps", 1e-6), args.flag("keepdim")

    def call(settings: Settings, a: Any, b: Any) -> Any:
        return np.linalg.norm(a - b + least, ord=order, axis=-1, keepdims=keep)

    operands = [args.get("x1"), args.get("x2")]
    return bare(args, "Distance", call, BY_RUNNING, operands, {"ord": order, "epsilon": least, "keepdims": keep})


@aten("_weight_norm", "_weight_norm_interface")
def _weight_norm(args: Arguments) -> Translation:
    """Direction times length, the length for each place on one axis."""
    axis = args.integer("dim", 0)

    def call(settings: Settings, v: Any, g: Any) -> Any:
        others = tuple(one for one in range(v.ndim) if one != axis % v.ndim)
        return v * (g / np.sqrt(np.square(v).sum(axis=others, keepdims=True)))

    return bare(args, "WeightNorm", call, same, [args.get("v"), args.get("g")], {"axis": axis})


@aten("nan_to_num")
def _nan_to_num(args: Arguments) -> Translation:
    largest = float(np.finfo(np.float32).max)
    nan, high, low = args.get("nan", 0.0), args.get("posinf", largest), args.get("neginf", -largest)

    def call(settings: Settings, x: Any) -> Any:
        return np.nan_to_num(x, nan=nan, posinf=high, neginf=low)

    return bare(args, "Where", call, same, [args.main], {"nan": nan, "posinf": high, "neginf": low})
