"""The table behind the bare ops: for each name a NumPy function, its operands and settings, and its shape rule.

Most shapes follow from one of a few rules. Where the result's shape is as involved as the function itself (slicing,
stacking, reshaping), the function is run on arrays of single bytes that share one cell, once for each of two guesses
of the unknown sizes: what changes between the guesses is unknown in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.functions import Activation, activation_layer, general_relu, named_activation, softmax
from cnnlens.reference.merging import broadcast_shape
from cnnlens.reference.operation import Array, Operation, Shape, build_layer
from cnnlens.reference.special import erf

__all__ = ["OPERATIONS", "TENSORFLOW_NAMES", "Rule"]

Settings = Mapping[str, Any]


def _nothing(settings: Settings) -> None:
    del settings


@dataclass(frozen=True, slots=True)
class Rule:
    """What an op computes.

    Attributes:
        function: ``function(settings, *operands)`` to an array or a list of arrays.
        shape: ``shape(settings, *operands)``, with shapes where arrays are, to a shape or a list of shapes.
        operands: Names of the leading arguments that are data; empty where any number may come.
        settings: Names of what may follow them by place.
        check: Raises UnsupportedLayerError for settings that cannot be honoured.
    """

    function: Callable[..., Any]
    shape: Callable[..., Any]
    operands: tuple[str, ...] = ("x",)
    settings: tuple[str, ...] = ()
    check: Callable[[Settings], None] = _nothing


# --- shape rules -----------------------------------------------------------------------------------------------------


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(size is None or isinstance(size, int) for size in cast("Any", value))


def _shape_of(value: Any) -> Shape:
    """The shape of an operand: as given, of a constant, or of a number."""
    if _is_shape(value):
        return cast("Shape", value)
    if isinstance(value, list):
        return (len(cast("list[Any]", value)),)
    return cast("Shape", np.shape(value))


def _same(settings: Settings, x: Any, *rest: Any) -> Shape:
    return _shape_of(x)


def _broadcast(settings: Settings, *operands: Any) -> Shape:
    return broadcast_shape(*(_shape_of(value) for value in operands))


def _axes(value: Any, rank: int) -> tuple[int, ...]:
    if value is None:
        return tuple(range(rank))
    items = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else [value]
    if any(not -rank <= int(item) < rank for item in items):
        raise UnsupportedLayerError(f"axis {value} is outside an array of {rank} axes")
    return tuple(int(item) % rank for item in items)


def _reduced(settings: Settings, x: Any) -> Shape:
    shape = _shape_of(x)
    axes = _axes(settings.get("axis"), len(shape))
    keep = bool(settings.get("keepdims", False))
    return tuple(1 if place in axes else size for place, size in enumerate(shape) if keep or place not in axes)


def _probed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The shape rule that runs the function itself on arrays of bytes without memory of their own."""

    def rule(settings: Settings, *operands: Any) -> Any:
        first, second = (function(settings, *[_probe(value, guess) for value in operands]) for guess in (2, 3))
        if isinstance(first, list | tuple):
            return [_agreed(a, b) for a, b in zip(cast("Any", first), cast("Any", second), strict=True)]
        return _agreed(first, second)

    return rule


def _probe(value: Any, guess: int) -> Any:
    if _is_shape(value):
        sizes = [guess if size is None else size for size in cast("Shape", value)]
        return np.broadcast_to(np.zeros((), np.int8), sizes)
    if isinstance(value, list) and any(_is_shape(item) for item in cast("list[Any]", value)):
        return [_probe(item, guess) for item in cast("list[Any]", value)]
    return value


def _agreed(first: Any, second: Any) -> Shape:
    return tuple(a if a == b else None for a, b in zip(np.shape(first), np.shape(second), strict=True))


def _matmul_shape(settings: Settings, a: Any, b: Any) -> Shape:
    first, second = _shape_of(a), _shape_of(b)
    if len(first) < 2 or len(second) < 2:
        return cast("Shape", _probed(lambda s, x, y: np.matmul(x, y))(settings, a, b))
    return (*broadcast_shape(first[:-2], second[:-2]), first[-2], second[-1])


def _einsum_shape(settings: Settings, *operands: Any) -> Shape:
    equation = str(settings["subscripts"]).replace(" ", "")
    given, _, made = equation.partition("->")
    if "." in equation or "->" not in equation:
        return cast("Shape", _probed(_einsum)(settings, *operands))
    sizes: dict[str, int | None] = {}
    for letters, operand in zip(given.split(","), operands, strict=True):
        for letter, size in zip(letters, _shape_of(operand), strict=True):
            sizes[letter] = sizes.get(letter) or size
    return tuple(sizes[letter] for letter in made)


# --- functions with settings -----------------------------------------------------------------------------------------


def _einsum(settings: Settings, *operands: Array) -> Array:
    return np.einsum(str(settings["subscripts"]), *operands, optimize=True)


def _axis(settings: Settings, default: Any = None) -> Any:
    value = settings.get("axis", default)
    return tuple(cast("list[int]", value)) if isinstance(value, list) else value


def _reduce(function: Callable[..., Any], settings: Settings, x: Array) -> Any:
    return function(x, axis=_axis(settings), keepdims=bool(settings.get("keepdims", False)))


def _logsumexp(settings: Settings, x: Array) -> Array:
    axis = _axis(settings)
    largest = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - largest).sum(axis=axis, keepdims=True)) + largest
    return total if settings.get("keepdims") else np.squeeze(total, axis=axis)


def _norm(settings: Settings, x: Array) -> Any:
    return np.linalg.norm(x, ord=settings.get("ord"), axis=_axis(settings), keepdims=bool(settings.get("keepdims")))


def _arg(function: Callable[..., Any], settings: Settings, x: Array) -> Any:
    return function(x, axis=settings.get("axis"), keepdims=bool(settings.get("keepdims", False)))


def _reshape(settings: Settings, x: Array) -> Array:
    wanted = settings.get("newshape", settings.get("shape"))
    return x.reshape([-1 if size is None else int(size) for size in cast("Sequence[Any]", wanted)])


def _transpose(settings: Settings, x: Array) -> Array:
    return np.transpose(x, settings.get("axes"))


def _expand(settings: Settings, x: Array) -> Array:
    return np.expand_dims(x, _axis(settings))


def _squeeze(settings: Settings, x: Array) -> Array:
    return np.squeeze(x, _axis(settings))


def _concatenate(settings: Settings, arrays: Sequence[Any]) -> Array:
    return np.concatenate([np.asarray(item) for item in arrays], axis=cast("int", settings.get("axis", 0)))


def _concatenated(settings: Settings, arrays: Any) -> Any:
    return _probed(_concatenate)(settings, list(arrays))


def _stack(settings: Settings, arrays: Sequence[Any]) -> Array:
    return np.stack([np.asarray(item) for item in arrays], axis=cast("int", settings.get("axis", 0)))


def _stacked(settings: Settings, arrays: Any) -> Any:
    return _probed(_stack)(settings, list(arrays))


def _unstack(settings: Settings, x: Array) -> list[Array]:
    axis = cast("int", settings.get("axis", 0))
    return [np.take(x, index, axis=axis) for index in range(x.shape[axis])]


def _split(settings: Settings, x: Array) -> list[Array]:
    sections = settings["indices_or_sections"]
    return np.split(x, sections, axis=cast("int", settings.get("axis", 0)))


def _split_sizes(settings: Settings, x: Array) -> list[Array]:
    # TensorFlow gives sizes where NumPy gives places.
    sizes = settings["num_or_size_splits"]
    sections = np.cumsum(sizes)[:-1].tolist() if isinstance(sizes, list | tuple) else sizes
    return np.split(x, sections, axis=cast("int", settings.get("axis") or 0))


def _pad(settings: Settings, x: Array) -> Array:
    width = settings["pad_width"]
    pairs = [[width, width]] * x.ndim if isinstance(width, int) else cast("list[Any]", width)
    if len(pairs) == 2 and all(isinstance(item, int) for item in pairs):
        pairs = [pairs] * x.ndim
    if len(pairs) == 1:
        pairs = pairs * x.ndim
    mode = str(settings.get("mode") or "constant").lower()
    if mode != "constant":
        return np.pad(x, pairs, mode=cast("Any", mode))
    return np.pad(x, pairs, constant_values=cast("float", settings.get("constant_values") or 0))


def _check_pad(settings: Settings) -> None:
    mode = str(settings.get("mode") or "constant").lower()
    if mode not in ("constant", "reflect", "symmetric"):
        raise UnsupportedLayerError(f"Pad: no such mode: {mode}")


def _clip(settings: Settings, x: Array) -> Array:
    return np.clip(x, settings.get("x_min"), settings.get("x_max"))


def _getitem(settings: Settings, x: Array, key: Any) -> Array:
    items = cast("list[Any]", key) if isinstance(key, list) else key
    return x[tuple(items) if isinstance(items, list) else items]


def _repeat(settings: Settings, x: Array) -> Array:
    return np.repeat(x, settings["repeats"], axis=settings.get("axis"))


def _take(settings: Settings, x: Array, indices: Any) -> Array:
    index = np.asarray(indices)
    return np.take(x, index.astype(np.int64), axis=settings.get("axis"))


def _cast(settings: Settings, x: Array) -> Array:
    wanted = str(settings.get("dtype") or "")
    kind = wanted.rsplit(".", 1)[-1]
    # The run has one floating dtype: a cast between floating dtypes is about storage, and is left out.
    if kind.startswith(("float", "bfloat")):
        return x if x.dtype.kind == "f" else x.astype(np.float32)
    return x.astype(np.dtype(kind))


def _slice(settings: Settings, x: Array, start: Any) -> Array:
    sizes = cast("Sequence[int]", settings.get("shape", settings.get("size")))
    return x[tuple(slice(s, None if n == -1 else s + n) for s, n in zip(start, sizes, strict=True))]


def _normalize(settings: Settings, x: Array) -> Array:
    order = settings.get("order", 2)
    epsilon = settings.get("epsilon") or 1e-12
    if order != 2:
        norm = np.linalg.norm(x, ord=order, axis=cast("int", settings.get("axis", -1)), keepdims=True)
        return x / np.maximum(norm, x.dtype.type(epsilon))
    squares = np.square(x).sum(axis=_axis(settings, -1), keepdims=True)
    return x / np.sqrt(np.maximum(squares, x.dtype.type(epsilon) ** 2))


def _tensordot(settings: Settings, a: Array, b: Array) -> Array:
    return np.tensordot(a, b, axes=settings.get("axes", 2))


def _one_hot(settings: Settings, x: Array) -> Array:
    count = int(settings["num_classes"])
    hot = x[..., None].astype(np.int64) == np.arange(count)
    return np.moveaxis(hot.astype(np.float32), -1, cast("int", settings.get("axis", -1)))


def _where(settings: Settings, condition: Any, a: Any, b: Any) -> Array:
    return np.where(condition, a, b)


def _mean(x: Array, **kwargs: Any) -> Any:
    return np.mean(x, **kwargs)


# --- activations and layers under another name -----------------------------------------------------------------------


def _apply(activation: Activation | None, x: Array) -> Array:
    return x if activation is None else activation.apply(x)


def _named(name: str) -> Rule:
    def function(settings: Settings, x: Array) -> Array:
        return _apply(named_activation(name, (3,)), x)

    return Rule(function, _same)


def _function(make: Callable[[Settings], Activation], settings: tuple[str, ...]) -> Rule:
    return Rule(
        lambda given, x: make(given).apply(x), lambda given, x: make(given).shape(_shape_of(x)), settings=settings
    )


def _gelu(settings: Settings) -> Activation:
    from cnnlens.reference.functions import FUNCTIONS  # noqa: PLC0415

    return Activation("gelu", FUNCTIONS["gelu_tanh" if settings.get("approximate", True) else "gelu"])


def _as_layer(
    kind: str, rank_of: Callable[[Settings, Any], int], names: Mapping[str, str], operands: tuple[str, ...]
) -> Rule:
    """An op that is a layer's arithmetic with its weights as operands."""

    def build(settings: Settings, x: Any, *rest: Any) -> Operation:
        rank = len(_shape_of(x) if _is_shape(x) else cast("Array", x).shape) - 2
        config: dict[str, Any] = {names.get(name, name): value for name, value in settings.items()}
        kernels = [value if _is_shape(value) else np.shape(value) for value in rest]
        if kernels:
            config["kernel_size"] = list(kernels[0][:rank])
            config["filters"] = kernels[-1][-2 if "Transpose" in kind else -1]
            config["depth_multiplier"] = kernels[0][-1]
            config["use_bias"] = False
        channels = (_shape_of(x) if _is_shape(x) else np.shape(x))[
            1 if config.get("data_format") == "channels_first" else -1
        ]
        if kind == "Conv{}D" and channels:
            config["groups"] = channels // kernels[0][-2]
        operation = build_layer(kind.format(rank), None, config, (3,))
        if operation is None:
            raise UnsupportedLayerError(f"no operation {kind.format(rank)}")
        return operation

    weight_names = {2: ("kernel",), 3: ("depthwise_kernel", "pointwise_kernel")}.get(len(operands), ())

    def function(settings: Settings, x: Array, *rest: Any) -> Any:
        given = {name: np.asarray(value, x.dtype) for name, value in zip(weight_names, rest, strict=True)}
        return build(settings, x, *rest)(given, x)

    def shape(settings: Settings, x: Any, *rest: Any) -> Any:
        return build(settings, x, *rest).output_shape(_shape_of(x))

    del rank_of
    return Rule(function, shape, operands=operands)


OPERATIONS: dict[str, Rule] = {}
TENSORFLOW_NAMES: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {}
_ = (partial, activation_layer, general_relu, softmax, erf)
