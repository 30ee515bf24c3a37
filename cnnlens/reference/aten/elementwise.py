"""Sums, products, comparisons and functions of single numbers, with tensors, weights and scalars in any place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from cnnlens.kinds import OPERATORS
from cnnlens.reference.aten.given import Given, Tensor, Translation, is_operand
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
_OWN = ("copy", "full_like", "ones_like", "positive", "rsub", "zeros_like")
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
def _unary(given: Given) -> Translation:
    kind, function = _UNARY[given.name]
    return unary(given, kind, function)


def binary(
    given: Given, kind: str, function: Callable[[Any, Any], Any], first: Any, second: Any, alpha: Any = 1
) -> Translation:
    """Make a function of two operands, the second times ``alpha``: a merge of two tensors of one rank, else on any."""
    if kind in MERGES and alpha == 1 and isinstance(first, Tensor) and isinstance(second, Tensor):
        shapes = given.shape(first), given.shape(second)
        if shapes[0] and shapes[1] and len(shapes[0]) == len(shapes[1]) and first.index < second.index:
            return layer(Merge(kind, {}, (3,)), ([first, second],))

    def call(settings: Settings, a: Any, b: Any) -> Any:
        a, b = of_one_dtype(a, b)
        return function(a, b if alpha == 1 else alpha * b)

    plain = [value for value in (first, second) if not is_operand(value)]
    numbers = ({"other": plain[0]} if plain else {}) | ({} if alpha == 1 else {"alpha": alpha})
    return bare(given, kind, call, broadcast, [first, second], numbers)


@aten(*_BINARY)
def _binary(given: Given) -> Translation:
    kind, function = _BINARY[given.name]
    second = given.arguments.get("other", given.arguments.get("exponent"))
    alpha = given.get("alpha", 1)
    if given.name in ("div", "divide") and given.get("rounding_mode") is not None:
        down = given.get("rounding_mode") == "floor"
        return binary(given, "FloorDivide", np.floor_divide if down else _truncated, given.main, second)
    return binary(given, kind, function, given.main, second, alpha)


def _truncated(a: Any, b: Any) -> Any:
    return np.trunc(a / b)


@aten("rsub")
def _rsub(given: Given) -> Translation:
    alpha = given.get("alpha", 1)

    def call(settings: Settings, a: Any, b: Any) -> Any:
        a, b = of_one_dtype(a, b)
        return b - (a if alpha == 1 else alpha * a)

    other = given.get("other")
    return bare(given, "Subtract", call, broadcast, [given.main, other], {} if alpha == 1 else {"alpha": alpha})


@aten("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(given: Given) -> Translation:
    low, high = given.get("min"), given.get("max")

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
    return bare(given, "Clip", call, broadcast, [given.main, *limits], settings)


@aten("where")
def _where(given: Given) -> Translation:
    def call(settings: Settings, condition: Any, a: Any, b: Any) -> Any:
        return cast("Array", np.where(np.asarray(condition) != 0, *of_one_dtype(a, b)))

    condition = given.arguments.get("condition")
    return bare(given, "Where", call, broadcast, [condition, given.arguments["self"], given.arguments["other"]])


@aten("masked_fill")
def _masked_fill(given: Given) -> Translation:
    def call(settings: Settings, x: Any, mask: Any, value: Any) -> Any:
        return cast("Array", np.where(np.asarray(mask) != 0, *of_one_dtype(np.asarray(value, x.dtype), x)))

    return bare(given, "Where", call, broadcast, [given.main, given.get("mask"), given.get("value", 0.0)])


@aten("round")
def _round(given: Given) -> Translation:
    decimals = given.integer("decimals", 0)

    def call(x: Array) -> Array:
        return np.round(x, decimals)

    return unary(given, "Round", call, {"decimals": decimals})


@aten("full_like", "zeros_like", "ones_like", "empty_like")
def _full_like(given: Given) -> Translation:
    value = given.get("fill_value", 1 if given.name == "ones_like" else 0)
    name = str(given.get("dtype", "")).removeprefix("torch.")

    def call(settings: Settings, x: Any) -> Any:
        if "float" in name:
            return np.full(x.shape, value, x.dtype if x.dtype.kind == "f" else np.float32)
        return np.full(x.shape, value, name or x.dtype)

    kind = "Empty" if given.name == "empty_like" else "OnesLike"
    return bare(given, kind, call, same, [given.main], {"value": value})


@aten("copy")
def _copy(given: Given) -> Translation:
    def call(settings: Settings, x: Any, source: Any) -> Any:
        return np.broadcast_to(np.asarray(source, x.dtype), x.shape)

    return bare(given, "Copy", call, same, [given.main, given.get("src")])


@aten("lerp")
def _lerp(given: Given) -> Translation:
    def call(settings: Settings, a: Any, b: Any, share: Any) -> Any:
        return a + share * (b - a)

    return bare(given, "Lerp", call, broadcast, [given.main, given.get("end"), given.get("weight", 0.0)])


@aten("addcmul", "addcdiv")
def _added(given: Given) -> Translation:
    value = given.get("value", 1)
    combine = np.multiply if given.name == "addcmul" else np.true_divide

    def call(settings: Settings, x: Any, a: Any, b: Any) -> Any:
        return x + value * combine(a, b)

    operands = [given.main, given.get("tensor1"), given.get("tensor2")]
    return bare(given, "Addcmul", call, broadcast, operands, {"value": value})


@aten("cosine_similarity")
def _cosine(given: Given) -> Translation:
    axis, least = given.integer("dim", 1), given.number("eps", 1e-8)

    def call(settings: Settings, a: Any, b: Any) -> Any:
        a, b = (x / np.maximum(np.sqrt(np.square(x).sum(axis=axis, keepdims=True)), least) for x in (a, b))
        return (a * b).sum(axis=axis)

    return bare(given, "CosineSimilarity", call, BY_RUNNING, [given.get("x1"), given.get("x2")], {"axis": axis})


@aten("pairwise_distance")
def _distance(given: Given) -> Translation:
    order, least, keep = given.number("p", 2.0), given.number("eps", 1e-6), given.flag("keepdim")

    def call(settings: Settings, a: Any, b: Any) -> Any:
        return np.linalg.norm(a - b + least, ord=order, axis=-1, keepdims=keep)

    operands = [given.get("x1"), given.get("x2")]
    return bare(given, "Distance", call, BY_RUNNING, operands, {"ord": order, "epsilon": least, "keepdims": keep})


@aten("_weight_norm", "_weight_norm_interface")
def _weight_norm(given: Given) -> Translation:
    """Direction times length, the length for each place on one axis."""
    axis = given.integer("dim", 0)

    def call(settings: Settings, v: Any, g: Any) -> Any:
        others = tuple(one for one in range(v.ndim) if one != axis % v.ndim)
        return v * (g / np.sqrt(np.square(v).sum(axis=others, keepdims=True)))

    return bare(given, "WeightNorm", call, same, [given.get("v"), given.get("g")], {"axis": axis})


@aten("nan_to_num")
def _nan_to_num(given: Given) -> Translation:
    largest = float(np.finfo(np.float32).max)
    nan, high, low = given.get("nan", 0.0), given.get("posinf", largest), given.get("neginf", -largest)

    def call(settings: Settings, x: Any) -> Any:
        return np.nan_to_num(x, nan=nan, posinf=high, neginf=low)

    return bare(given, "Where", call, same, [given.main], {"nan": nan, "posinf": high, "neginf": low})
