"""Changing the number of positions: up-sampling, resizing, cropping about the centre.

TensorFlow's sampling is the reference, with pixel centres at one half. Nearest positions are found in float32, as it
does, since another precision may pick another pixel; weights of the smooth methods are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.arithmetic.interpolation import NOTHING
from cnnlens.reference.operation import Array, Operation, Shape, Weights, data_format, numbers, register, whole
from cnnlens.text import printable

__all__ = ["CenterCrop", "Resizing", "UpSampling", "of_ratio", "resize"]


def _triangle(x: Array) -> Array:
    return np.maximum(1 - np.abs(x), 0)


def _keys_cubic(x: Array) -> Array:
    # Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -1/2.
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(radius: int) -> Callable[[Array], Array]:
    def kernel(x: Array) -> Array:
        return np.where(np.abs(x) < radius, np.sinc(x) * np.sinc(x / radius), 0.0)

    return kernel


# Method -> (kernel, radius), for sampling by weights.
_KERNELS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_keys_cubic, 2.0),
    "lanczos3": (_lanczos(3), 3.0),
    "lanczos5": (_lanczos(5), 5.0),
}
_METHODS = ("nearest", *_KERNELS)
# tf.image's bicubic kernel is a table of so many steps between two pixels.
_CUBIC_STEPS = 1024


def check_method(method: Any) -> str:
    """The method in lower case, refused where it is not one of Keras 3's."""
    name = str(method).lower()
    if name not in _METHODS:
        raise UnsupportedLayerError(f"no interpolation '{printable(method)}': the reference has {', '.join(_METHODS)}")
    return name


def resize(x: Array, size: tuple[int, int], method: str, *, antialias: bool = False) -> Array:
    """Resize ``x (N, H, W, C)`` to ``size`` as ``tf.image.resize`` does."""
    for axis, wanted in zip((1, 2), size, strict=True):
        x = _resize_axis(x, axis, wanted, method, antialias=antialias)
    return x


def _resize_axis(x: Array, axis: int, wanted: int, method: str, *, antialias: bool) -> Array:
    size = x.shape[axis]
    if method == "nearest":
        step = np.float32(size) / np.float32(wanted)
        index = np.floor((np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * step).astype(np.int64)
        return np.take(x, np.minimum(index, size - 1), axis=axis)
    if method == "bilinear" and not antialias:
        return _between(x, axis, wanted)
    matrix = (
        _cubic_table(size, wanted)
        if method == "bicubic" and not antialias
        else _sampling(size, wanted, method, antialias=antialias)
    )
    moved = np.moveaxis(x, axis, -2)
    finite = np.isfinite(moved)
    made = np.matmul(matrix.astype(x.dtype), moved if finite.all() else np.where(finite, moved, 0))
    if not finite.all():
        seen = np.matmul((np.abs(matrix) > NOTHING).astype(x.dtype), (~finite).astype(x.dtype)) > 0
        made[seen] = np.nan
    return np.ascontiguousarray(np.moveaxis(made, -2, axis))


def _between(x: Array, axis: int, wanted: int) -> Array:
    """Linear interpolation between the two nearest pixels, the edge pixel beyond the edge."""
    size = x.shape[axis]
    position = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
    low = np.floor(position)
    shape = [1] * x.ndim
    shape[axis] = wanted
    fraction = (position - low).astype(x.dtype).reshape(shape)
    first = np.take(x, np.clip(low, 0, size - 1).astype(np.int64), axis=axis)
    second = np.take(x, np.clip(low + 1, 0, size - 1).astype(np.int64), axis=axis)
    odd = not np.isfinite(x).all()
    alone = cast("Array", np.where(fraction > 1 - NOTHING, second, first)) if odd else second
    second -= first
    second *= fraction
    second += first
    if odd:  # beside a whole pixel the other is not looked at, whatever it is
        same = (low < 0) | (low + 1 > size - 1)
        whole = same.reshape(shape) | (fraction < NOTHING) | (fraction > 1 - NOTHING)
        np.copyto(second, alone, where=whole)
    return second


@lru_cache(maxsize=16)  # an audit resizes in one way many times, and this took longer than the resizing
def _sampling(size: int, wanted: int, method: str, *, antialias: bool) -> Array:
    """Weights ``(wanted, size)`` of every source pixel, a row's sum one; shrinking with antialias widens the kernel."""
    kernel, _ = _KERNELS[method]
    step = size / wanted
    width = max(step, 1.0) if antialias else 1.0
    centre = (np.arange(wanted) + 0.5) * step
    weights = kernel((np.arange(size)[None, :] + 0.5 - centre[:, None]) / width)
    return weights / weights.sum(axis=1, keepdims=True)


@lru_cache(maxsize=16)
def _cubic_table(size: int, wanted: int) -> Array:
    """Weights of ``tf.image``'s bicubic kernel: four taps, whose distance is rounded to a step of its table."""
    position = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * (np.float32(size) / np.float32(wanted))
    position = position - np.float32(0.5)
    low = np.floor(position)
    distance = np.rint((position - low) * np.float32(_CUBIC_STEPS)) / _CUBIC_STEPS
    weights = np.zeros((wanted, size))
    for tap in (-1, 0, 1, 2):
        index = low.astype(np.int64) + tap
        inside = (index >= 0) & (index < size)
        weights[np.nonzero(inside)[0], index[inside]] += _keys_cubic(distance - tap)[inside]
    return weights / weights.sum(axis=1, keepdims=True)


@register("UpSampling1D", "UpSampling2D", "UpSampling3D")
class UpSampling(Operation):
    """Repeats each position several times; in 2-D it interpolates too."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.rank = next(rank for rank in (1, 2, 3) if f"{rank}D" in kind)
        self.size = numbers(config.get("size", config.get("length", 2)), self.rank, "size", least=1)
        self.channels_first = data_format(config) == "channels_first"
        self.method = check_method(config.get("interpolation", "nearest"))
        if self.method != "nearest" and self.rank != 2:
            raise self.refuse(f"no interpolation '{self.method}' in {self.rank} dimensions")

    def _first(self, rank: int) -> int:
        if rank != self.rank + 2:
            raise self.refuse(f"expected an input of {self.rank + 2} axes, got {rank}")
        return 2 if self.channels_first else 1

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = list(cast("Shape", args[0]))
        for axis, factor in enumerate(self.size, self._first(len(shape))):
            size = shape[axis]
            shape[axis] = None if size is None else size * factor
        return tuple(shape)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        first = self._first(x.ndim)
        if self.method == "nearest":
            for axis, factor in enumerate(self.size, first):
                x = np.repeat(x, factor, axis=axis)
            return x
        wanted = (x.shape[first] * self.size[0], x.shape[first + 1] * self.size[1])
        return _in_channels_last(x, self.channels_first, lambda image: resize(image, wanted, self.method))


def _in_channels_last(x: Array, channels_first: bool, function: Callable[[Array], Array]) -> Array:
    if not channels_first:
        return function(x)
    return np.ascontiguousarray(np.moveaxis(function(np.moveaxis(x, 1, -1)), -1, 1))


class _Sized(Operation):
    """Kinds whose output has a height and a width of its own."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.size = (whole(config.get("height"), "height"), whole(config.get("width"), "width"))
        self.channels_first = data_format(config) == "channels_first"

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = list(cast("Shape", args[0]))
        if len(shape) != 4:
            raise self.refuse(f"expected an input of 4 axes, got {len(shape)}")
        first = 2 if self.channels_first else 1
        shape[first : first + 2] = self.size
        return tuple(shape)

    def change(self, x: Array) -> Array:
        """``x (N, H, W, C)`` to the wanted size."""
        raise NotImplementedError

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        self.output_shape(x.shape)
        return _in_channels_last(x, self.channels_first, self.change)


def of_ratio(height: int, width: int, size: Sequence[int]) -> tuple[int, int]:
    """Work out height and width that the other one has at the ratio of ``size``, cut to whole pixels in float32."""
    tall = int(np.float32(width * size[0]) / np.float32(size[1]))
    wide = int(np.float32(height * size[1]) / np.float32(size[0]))
    return tall, wide


def crop_to_ratio(x: Array, size: tuple[int, int]) -> Array:
    """The largest middle piece of ``x (N, H, W, C)`` with the ratio of ``size``."""
    height, width = x.shape[1:3]
    tall, wide = of_ratio(height, width, size)
    tall, wide = max(min(height, tall), 1), max(min(width, wide), 1)
    top, left = (height - tall) // 2, (width - wide) // 2
    return x[:, top : top + tall, left : left + wide]


def pad_to_ratio(x: Array, size: tuple[int, int], value: float) -> Array:
    """``x (N, H, W, C)`` with equal bands on two sides; an odd pixel is left out, as Keras does."""
    height, width = x.shape[1:3]
    tall, wide = of_ratio(height, width, size)
    top, left = (max(height, tall) - height) // 2, (max(width, wide) - width) // 2
    return np.pad(x, ((0, 0), (top, top), (left, left), (0, 0)), constant_values=value)


@register("Resizing")
class Resizing(_Sized):
    """Brings images to a given height and width, stretched, cropped or padded to the ratio."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.method = check_method(config.get("interpolation", "bilinear"))
        self.antialias = bool(config.get("antialias", False))
        self.crop = bool(config.get("crop_to_aspect_ratio", False))
        self.pad = bool(config.get("pad_to_aspect_ratio", False))
        self.value = float(config.get("fill_value", 0.0))
        if self.pad and config.get("fill_mode", "constant") != "constant":
            raise self.refuse(f"no such fill_mode: {printable(config.get('fill_mode'))}")

    def change(self, x: Array) -> Array:
        if self.crop:
            x = crop_to_ratio(x, self.size)
        elif self.pad:
            x = pad_to_ratio(x, self.size, self.value)
        return resize(x, self.size, self.method, antialias=self.antialias)


@register("CenterCrop")
class CenterCrop(_Sized):
    """Cuts out the middle of an image; a smaller image is cropped to the ratio and enlarged instead."""

    def change(self, x: Array) -> Array:
        spare = [have - wanted for have, wanted in zip(x.shape[1:3], self.size, strict=True)]
        if min(spare) >= 0:
            top, left = spare[0] // 2, spare[1] // 2
            return np.ascontiguousarray(x[:, top : top + self.size[0], left : left + self.size[1]])
        return resize(crop_to_ratio(x, self.size), self.size, "bilinear")
