"""Pooling: maxima and means over windows, over everything, or over a wanted number of windows.

Windows are boxes, so a maximum or a sum is taken one axis after the other, by slices and never by gathering windows.
Under ``same`` nothing is padded: a window that hangs over the edge simply has fewer cells, and a mean divides by those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.operation import Array, Operation, Shape, Weights, data_format, numbers, register
from cnnlens.reference.patches import same_padding

__all__ = ["AdaptivePooling", "GlobalPooling", "Pooling", "pool"]

_BLOCK = 1 << 17  # elements of input worked on at once, both axes' passes meet the cache


class _Pooled(Operation):
    """Rank, data format and the two names in every pooling kind."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.rank = next(rank for rank in (1, 2, 3) if f"{rank}D" in kind)
        self.maximum = "Max" in kind
        self.channels_first = data_format(config) == "channels_first"

    def axes(self, rank: int) -> tuple[int, ...]:
        """The spatial axes of an input of ``rank`` axes."""
        if rank != self.rank + 2:
            raise self.refuse(f"expected an input of {self.rank + 2} axes, got {rank}")
        return tuple(range(2, rank)) if self.channels_first else tuple(range(1, rank - 1))


@register(
    *(f"{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)),
    *(f"{name}Pool{rank}D" for name in ("Max", "Avg") for rank in (1, 2, 3)),
)
class Pooling(_Pooled):
    """MaxPooling and AveragePooling in one to three dimensions, ``valid`` or ``same``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.window = numbers(config.get("pool_size", 2), self.rank, "pool_size", least=1)
        strides = config.get("strides")
        self.strides = self.window if strides is None else numbers(strides, self.rank, "strides", least=1)
        self.padding = str(config.get("padding", "valid")).lower()
        if self.padding not in ("valid", "same"):
            raise self.refuse(f"no such padding here: {self.padding}")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = list(cast("Shape", args[0]))
        for axis, window, stride in zip(self.axes(len(shape)), self.window, self.strides, strict=True):
            size = shape[axis]
            if size is None:
                continue
            shape[axis] = -(-size // stride) if self.padding == "same" else (size - window) // stride + 1
            if shape[axis] == 0 or (self.padding == "valid" and size < window):
                raise self.refuse(f"the window {self.window} does not fit into an input of {cast('Shape', args[0])}")
        return tuple(shape)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        self.output_shape(x.shape)
        return pool(x, self.axes(x.ndim), self.window, self.strides, same=self.padding == "same", maximum=self.maximum)


def pool(
    x: Array, axes: Sequence[int], window: Sequence[int], strides: Sequence[int], *, same: bool, maximum: bool
) -> Array:
    """Maximum or mean of ``x`` over boxes on ``axes``; NaN anywhere in a window makes NaN.

    In blocks of images, so that the second axis' pass finds the first one's result in the cache.
    """
    plans = [
        _windows(x.shape[axis], size, stride, same=same)
        for axis, size, stride in zip(axes, window, strides, strict=True)
    ]
    shape = list(x.shape)
    for axis, (_, count) in zip(axes, plans, strict=True):
        shape[axis] = count
    out = np.empty(shape, x.dtype)
    step = max(_BLOCK // max(int(np.prod(x.shape[1:])), 1), 1)
    for start in range(0, x.shape[0], step):
        part = x[start : start + step]
        for place, (axis, size, stride, (before, count)) in enumerate(zip(axes, window, strides, plans, strict=True)):
            target = out[start : start + step] if place == len(plans) - 1 else None
            part = _along(part, axis, size, stride, before, count, maximum=maximum, out=target)
        if not maximum:
            part /= _cells(x, axes, window, strides, plans)
    return out


def _windows(size: int, window: int, stride: int, *, same: bool) -> tuple[int, int]:
    """How far the first window hangs over the front edge, and the number of windows."""
    if same:
        return same_padding(size, window, stride, 1)[0], -(-size // stride)
    return 0, (size - window) // stride + 1


def _along(
    x: Array, axis: int, window: int, stride: int, before: int, count: int, *, maximum: bool, out: Array | None
) -> Array:
    """Maximum or sum over windows on one axis."""
    combine = np.maximum if maximum else np.add
    if out is None:
        out = np.empty((*x.shape[:axis], count, *x.shape[axis + 1 :]), x.dtype)
    reaches = [_reach(x.shape[axis], tap - before, stride, count) for tap in range(window)]
    full = [(tap, reach) for tap, reach in enumerate(reaches) if reach == (0, count)]
    rest = [(tap, reach) for tap, reach in enumerate(reaches) if reach != (0, count)]

    def cells(tap: int, first: int, last: int) -> Array:
        begin = first * stride + tap - before
        return x[(slice(None),) * axis + (slice(begin, begin + (last - first - 1) * stride + 1, stride),)]

    if len(full) >= 2:
        combine(cells(full[0][0], 0, count), cells(full[1][0], 0, count), out=out)
        rest += full[2:]
    elif full:
        out[...] = cells(full[0][0], 0, count)
    else:
        out[...] = -np.inf if maximum else 0
    for tap, (first, last) in rest:
        if last > first:
            reached = out[(slice(None),) * axis + (slice(first, last),)]
            combine(reached, cells(tap, first, last), out=reached)
    return out


def _reach(size: int, offset: int, stride: int, count: int) -> tuple[int, int]:
    """The windows whose cell at ``offset`` lies inside an axis of ``size``: first, and one past the last."""
    first = max(-(offset // stride), 0)
    return first, max(min((size - 1 - offset) // stride + 1, count), first)


def _cells(
    x: Array,
    axes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    plans: Sequence[tuple[int, int]],
) -> Array:
    """The number of real cells in each window, ready to broadcast."""
    total = np.ones((1,) * x.ndim, x.dtype)
    for axis, size, stride, (before, count) in zip(axes, window, strides, plans, strict=True):
        start = np.arange(count) * stride - before
        inside = np.minimum(start + size, x.shape[axis]) - np.maximum(start, 0)
        shape = [1] * x.ndim
        shape[axis] = count
        total = total * inside.astype(x.dtype).reshape(shape)
    return total


@register(
    *(f"Global{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)),
    *(f"Global{name}Pool{rank}D" for name in ("Max", "Avg") for rank in (1, 2, 3)),
)
class GlobalPooling(_Pooled):
    """Maximum or mean over all positions; ``keepdims`` leaves axes of one."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.keepdims = bool(config.get("keepdims", False))

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        axes = self.axes(len(shape))
        kept = [1 if axis in axes else size for axis, size in enumerate(shape) if self.keepdims or axis not in axes]
        return tuple(kept)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        axes = self.axes(x.ndim)
        cells = int(np.prod([x.shape[axis] for axis in axes]))
        result = x
        # One axis at a time: partial sums stay small, so a float32 mean over a large map keeps its bits.
        for axis in reversed(axes):
            if self.maximum:
                result = result.max(axis=axis, keepdims=self.keepdims)
            else:
                result = result.sum(axis=axis, keepdims=self.keepdims)
        return result if self.maximum else result / x.dtype.type(cells)


@register(*(f"Adaptive{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)))
class AdaptivePooling(_Pooled):
    """As many windows as ``output_size`` says: window i spans ``floor(i n / m)`` to ``ceil((i + 1) n / m)``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.sizes = numbers(config.get("output_size"), self.rank, "output_size", least=1)

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = list(cast("Shape", args[0]))
        for axis, size in zip(self.axes(len(shape)), self.sizes, strict=True):
            shape[axis] = size
        return tuple(shape)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        result = cast("Array", args[0])
        for axis, wanted in zip(self.axes(result.ndim), self.sizes, strict=True):
            size = result.shape[axis]
            pieces: list[Array] = []
            for index in range(wanted):
                begin, end = index * size // wanted, -(-(index + 1) * size // wanted)
                cells = result[(slice(None),) * axis + (slice(begin, end),)]
                pieces.append(cells.max(axis=axis) if self.maximum else cells.mean(axis=axis))
            result = np.stack(pieces, axis=axis)
        return result
