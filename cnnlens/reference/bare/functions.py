"""NumPy functions behind the bare ops, each as ``function(settings, *operands)``.

``settings`` are what the op's configuration holds (axes, sizes, modes) under Keras' names; operands are arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.bare.rules import Settings, shape_of
from cnnlens.reference.keras.shaping import reshaped
from cnnlens.reference.operation import Array, Shape


def axis_of(settings: Settings, default: Any = None) -> Any:
    """The axis setting, several as a tuple."""
    value = settings.get("axis", default)
    return tuple(cast("list[int]", value)) if isinstance(value, list) else value


def of_one_dtype(*values: Any) -> list[Any]:
    """Operands with integer and boolean arrays in the dtype of the floating one: NumPy would widen both to float64."""
    arrays = [cast("Array", value) for value in values if isinstance(value, np.ndarray)]
    floating = [array.dtype for array in arrays if array.dtype.kind == "f"]
    if not floating:
        return list(values)
    wanted = np.result_type(*floating)
    return [
        cast("Array", value).astype(wanted, copy=False) if isinstance(value, np.ndarray) else value for value in values
    ]


def compared(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A comparison as float32 makes it: a constant of a file, in decimal digits, is the float32 that it became."""

    def call(first: Any, second: Any) -> Any:
        first, second = (float(np.float32(one)) if isinstance(one, float) else one for one in (first, second))
        return function(first, second)

    return call


def fraction(x: Array) -> Array:
    return x - np.trunc(x)


def reduce_with(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction over ``axis`` with ``keepdims``."""

    def reduce(settings: Settings, x: Array) -> Any:
        return function(x, axis=axis_of(settings), keepdims=bool(settings.get("keepdims", False)))

    return reduce


def logsumexp(settings: Settings, x: Array) -> Array:
    axis = axis_of(settings)
    largest = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - largest).sum(axis=axis, keepdims=True)) + largest
    return total if settings.get("keepdims") else np.squeeze(total, axis=axis)


def norm(settings: Settings, x: Array) -> Any:
    return np.linalg.norm(x, ord=settings.get("ord"), axis=axis_of(settings), keepdims=bool(settings.get("keepdims")))


def _new_sizes(settings: Settings) -> list[int]:
    wanted = settings.get("newshape", settings.get("shape"))
    return [-1 if size is None else int(size) for size in cast("Sequence[Any]", wanted)]


def reshape_shape(settings: Settings, x: Any) -> Shape:
    return reshaped(shape_of(x), _new_sizes(settings))


def reshape(settings: Settings, x: Array) -> Array:
    sizes = _new_sizes(settings)
    if sizes.count(-1) > 1 or (-1 not in sizes and np.prod(sizes) != x.size):
        raise UnsupportedLayerError(f"{x.shape} cannot be reshaped to {tuple(sizes)}")
    return x.reshape(sizes)


def transpose(settings: Settings, x: Array) -> Array:
    return np.transpose(x, settings.get("axes"))


def _block(settings: Settings, shape: Any) -> int:
    block = settings.get("block_size")
    first = settings.get("data_format") in ("channels_first", "NCHW")
    if not isinstance(block, int) or block < 1 or first or len(shape) != 4:
        raise UnsupportedLayerError(f"blocks of {block} are computed of a picture (N, H, W, C) alone, not of {shape}")
    return block


def depth_to_space(settings: Settings, x: Array) -> Array:
    """Lay the channels out in blocks: the first of them is the row in the block, the second the column."""
    block = _block(settings, x.shape)
    n, h, w, c = x.shape
    cells = x.reshape(n, h, w, block, block, c // block**2)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * block, w * block, -1)


def depth_to_space_shape(settings: Settings, x: Any) -> Shape:
    n, h, w, c = shape = shape_of(x)
    block = _block(settings, shape)
    if c is not None and c % block**2:
        raise UnsupportedLayerError(f"{c} channels are no blocks of {block} x {block}")
    return (n, h and h * block, w and w * block, c and c // block**2)


def space_to_depth(settings: Settings, x: Array) -> Array:
    """Undo ``depth_to_space``."""
    block = _block(settings, x.shape)
    n, h, w, c = x.shape
    cells = x.reshape(n, h // block, block, w // block, block, c)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // block, w // block, c * block**2)


def space_to_depth_shape(settings: Settings, x: Any) -> Shape:
    n, h, w, c = shape = shape_of(x)
    block = _block(settings, shape)
    if any(size is not None and size % block for size in (h, w)):
        raise UnsupportedLayerError(f"{h} x {w} has no blocks of {block} x {block}")
    return (n, h and h // block, w and w // block, c and c * block**2)


def expand_dims(settings: Settings, x: Array) -> Array:
    return np.expand_dims(x, axis_of(settings))


def squeeze(settings: Settings, x: Array) -> Array:
    return np.squeeze(x, axis_of(settings))


def concatenate(settings: Settings, arrays: Sequence[Any]) -> Array:
    return np.concatenate([np.asarray(item) for item in arrays], axis=cast("int", settings.get("axis", 0)))


def stack(settings: Settings, arrays: Sequence[Any]) -> Array:
    return np.stack([np.asarray(item) for item in arrays], axis=cast("int", settings.get("axis", 0)))


def unstack(settings: Settings, x: Array) -> list[Array]:
    axis = cast("int", settings.get("axis", 0))
    return [np.take(x, index, axis=axis) for index in range(x.shape[axis])]


def split(settings: Settings, x: Array) -> list[Array]:
    return np.split(x, settings["indices_or_sections"], axis=cast("int", settings.get("axis", 0)))


def split_by_size(settings: Settings, x: Array) -> list[Array]:
    """TensorFlow gives sizes where NumPy gives places."""
    sizes = settings["num_or_size_splits"]
    sections: Any = sizes
    if isinstance(sizes, list | tuple):
        sections = np.cumsum(cast("Sequence[int]", sizes))[:-1].tolist()
    return np.split(x, sections, axis=cast("int", settings.get("axis") or 0))


def pad(settings: Settings, x: Array) -> Array:
    width = settings["pad_width"]
    pairs: list[Any] = [width] if isinstance(width, int) else list(cast("Sequence[Any]", width))
    if all(isinstance(item, int) for item in pairs):
        pairs = [[pairs[0], pairs[-1]]] * x.ndim
    elif len(pairs) == 1:
        pairs = pairs * x.ndim
    mode = str(settings.get("mode") or "constant").lower()
    if mode == "constant":
        return np.pad(x, pairs, constant_values=cast("float", settings.get("constant_values") or 0))
    if mode not in ("reflect", "symmetric"):
        raise UnsupportedLayerError(f"Pad: no mode '{mode}' in the reference")
    return np.pad(x, pairs, mode=cast("Any", mode))


def rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def round_to(settings: Settings, x: Array) -> Array:
    return np.round(x, int(settings.get("decimals") or 0))


def clip(settings: Settings, x: Array) -> Array:
    return np.clip(x, settings.get("x_min"), settings.get("x_max"))


def getitem(settings: Settings, x: Array, key: Any) -> Array:
    return x[tuple(cast("list[Any]", key)) if isinstance(key, list) else key]


def slice_from(settings: Settings, x: Array, start: Any) -> Array:
    sizes = cast("Sequence[int]", settings.get("shape", settings.get("size")))
    return x[tuple(slice(s, None if n == -1 else s + n) for s, n in zip(start, sizes, strict=True))]


def repeat(settings: Settings, x: Array) -> Array:
    return np.repeat(x, settings["repeats"], axis=settings.get("axis"))


def tile(settings: Settings, x: Array) -> Array:
    return np.tile(x, settings.get("repeats", settings.get("multiples")))


def flip(settings: Settings, x: Array) -> Array:
    return np.flip(x, axis_of(settings))


def roll(settings: Settings, x: Array) -> Array:
    return np.roll(x, settings["shift"], axis_of(settings))


def moveaxis(settings: Settings, x: Array) -> Array:
    return np.moveaxis(x, settings["source"], settings["destination"])


def swapaxes(settings: Settings, x: Array) -> Array:
    return np.swapaxes(x, settings["axis1"], settings["axis2"])


def take(settings: Settings, x: Array, indices: Any) -> Array:
    return np.take(x, np.asarray(indices).astype(np.int64), axis=settings.get("axis"))


def broadcast_to(settings: Settings, x: Array) -> Array:
    return np.broadcast_to(x, tuple(cast("Sequence[int]", settings["shape"])))


def ravel(settings: Settings, x: Array) -> Array:
    return x.reshape(-1)


def cumsum(settings: Settings, x: Array) -> Array:
    return np.cumsum(x, axis=settings.get("axis"))


def matmul(settings: Settings, a: Array, b: Array) -> Array:
    return np.matmul(
        np.swapaxes(a, -1, -2) if settings.get("transpose_a") else a,
        np.swapaxes(b, -1, -2) if settings.get("transpose_b") else b,
    )


def tensordot(settings: Settings, a: Array, b: Array) -> Array:
    return np.tensordot(a, b, axes=settings.get("axes", 2))


def einsum(settings: Settings, *operands: Array) -> Array:
    return np.einsum(str(settings["subscripts"]), *operands, optimize=True)


def cast_to(settings: Settings, x: Array) -> Array:
    """The run has one floating dtype: a cast between floating dtypes is about storage, and changes nothing here.

    Truth values and indices become float32, which holds them exactly and widens beside float64.
    """
    kind = str(settings.get("dtype") or "").rsplit(".", 1)[-1]
    if kind.startswith(("float", "bfloat")):
        return x if x.dtype.kind == "f" else x.astype(np.float32)
    return x.astype(np.dtype(kind))


def where(settings: Settings, condition: Any, a: Any, b: Any) -> Array:
    return cast("Array", np.where(condition, *of_one_dtype(a, b)))


def divide_no_nan(settings: Settings, a: Any, b: Any) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(b, 0), 0, np.divide(a, b)).astype(np.result_type(a, b))


def normalize(settings: Settings, x: Array) -> Array:
    order, epsilon = settings.get("order", 2), float(settings.get("epsilon") or 1e-12)
    axis = axis_of(settings, -1)
    if order == 2:
        return x / np.sqrt(np.maximum(np.square(x).sum(axis=axis, keepdims=True), epsilon * epsilon))
    return x / np.maximum(np.linalg.norm(x, ord=order, axis=axis, keepdims=True), epsilon)


def one_hot(settings: Settings, x: Array) -> Array:
    hot = x[..., None].astype(np.int64) == np.arange(int(settings.get("num_classes", settings.get("depth", 0))))
    return np.moveaxis(hot.astype(x.dtype if x.dtype.kind == "f" else np.float32), -1, settings.get("axis", -1))
