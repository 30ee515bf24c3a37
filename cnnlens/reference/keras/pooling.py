"""Pooling: maxima and means over windows, over everything, or over a wanted number of windows.

Windows are boxes, so a maximum or a sum is taken one axis after the other, by slices and never by gathering windows.
Under ``same`` nothing is padded: a window that hangs over the edge simply has fewer cells, and a mean divides by those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from cnnlens.reference.arithmetic.patches import Pads, same_padding
from cnnlens.reference.keras.convolution import read_padding
from cnnlens.reference.operation import Array, Operation, Shape, Weights, data_format, numbers, register, whole

__all__ = ["AdaptivePooling", "GlobalPooling", "Pooling"]

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


@register(*(f"{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)))
class Pooling(_Pooled):
    """Computes MaxPooling and AveragePooling in one to three dimensions, ``valid`` or ``same``.

    What PyTorch has beyond: padding as ``(before, after)`` an axis, ``ceil_mode`` (a last window that hangs over the
    edge), ``dilation_rate``, and for means ``count_include_pad`` and ``divisor_override``.
    Source: ``pooling_output_shape`` and ``avg_pool`` of PyTorch's ATen.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.window = numbers(config.get("pool_size", 2), self.rank, "pool_size", least=1)
        strides = config.get("strides")
        self.strides = self.window if strides is None else numbers(strides, self.rank, "strides", least=1)
        self.padding, self.edges = read_padding(config.get("padding", "valid"), self.rank)
        if self.padding not in ("valid", "same", "explicit"):
            raise self.refuse(f"no such padding here: {self.padding}")
        self.dilation = numbers(config.get("dilation_rate", 1), self.rank, "dilation_rate", least=1)
        self.ceil_mode = bool(config.get("ceil_mode", False))
        self.counts_padding = bool(config.get("count_include_pad", False))
        divisor = config.get("divisor_override")
        self.divisor = None if divisor is None else whole(divisor, "divisor_override")

    def plans(self, sizes: Sequence[int]) -> list[AxisWindows]:
        """List the windows on each spatial axis of these sizes."""
        geometry = zip(sizes, self.window, self.strides, self.dilation, self.edges, strict=True)
        return [self._plan(*axis) for axis in geometry]

    def _plan(self, size: int, window: int, stride: int, gap: int, edges: tuple[int, int]) -> AxisWindows:
        extent = (window - 1) * gap + 1
        before, after = edges
        if self.padding == "same":
            before, after = same_padding(size, window, stride, 1)
        room = size + before + after - extent
        count = room // stride + 1
        if self.ceil_mode:
            count = -(-room // stride) + 1
            # A window must start on the input or on the padding in front of it.
            count -= (count - 1) * stride >= size + before
        return AxisWindows(window, stride, gap, before, after, count)

    def pads(self, sizes: Sequence[int]) -> Pads:
        """Count cells in front of and behind each axis."""
        return tuple((plan.before, plan.after) for plan in self.plans(sizes))

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = list(cast("Shape", args[0]))
        geometry = zip(self.window, self.strides, self.dilation, self.edges, strict=True)
        for axis, (window, stride, gap, edges) in zip(self.axes(len(shape)), geometry, strict=True):
            size = shape[axis]
            if size is None:
                continue
            plan = self._plan(size, window, stride, gap, edges)
            shape[axis] = plan.count
            if plan.count < 1 or size + plan.before + plan.after < (window - 1) * gap + 1:
                raise self.refuse(f"the window {self.window} does not fit into an input of {cast('Shape', args[0])}")
        return tuple(shape)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        self.output_shape(x.shape)
        axes = self.axes(x.ndim)
        plans = self.plans([x.shape[axis] for axis in axes])
        divisor: Array | int | None = None
        if not self.maximum:
            divisor = self.divisor or _cells(x, axes, plans, padded=self.counts_padding)
        return pool(x, axes, plans, divisor)


@dataclass(frozen=True, slots=True)
class AxisWindows:
    """The windows on one axis: cells taken, their distances, cells that hang over both edges, how many windows."""

    window: int
    stride: int
    gap: int
    before: int
    after: int
    count: int


def pool(x: Array, axes: Sequence[int], plans: Sequence[AxisWindows], divisor: Array | int | None) -> Array:
    """Maximum of ``x`` over boxes on ``axes``, or the sum over ``divisor``; NaN anywhere in a window makes NaN.

    In blocks of images, so that the second axis' pass finds the first one's result in the cache.
    """
    shape = list(x.shape)
    for axis, plan in zip(axes, plans, strict=True):
        shape[axis] = plan.count
    out = np.empty(shape, x.dtype)
    step = max(_BLOCK // max(int(np.prod(x.shape[1:])), 1), 1)
    for start in range(0, x.shape[0], step):
        part = x[start : start + step]
        for place, (axis, plan) in enumerate(zip(axes, plans, strict=True)):
            target = out[start : start + step] if place == len(plans) - 1 else None
            part = _along(part, axis, plan, maximum=divisor is None, out=target)
        if divisor is not None:
            part /= divisor
    return out


def _along(x: Array, axis: int, plan: AxisWindows, *, maximum: bool, out: Array | None) -> Array:
    """Maximum or sum over windows on one axis."""
    window, stride, gap, before, count = plan.window, plan.stride, plan.gap, plan.before, plan.count
    combine = np.maximum if maximum else np.add
    if out is None:
        out = np.empty((*x.shape[:axis], count, *x.shape[axis + 1 :]), x.dtype)
    reaches = [_reach(x.shape[axis], tap * gap - before, stride, count) for tap in range(window)]
    full = [(tap, reach) for tap, reach in enumerate(reaches) if reach == (0, count)]
    rest = [(tap, reach) for tap, reach in enumerate(reaches) if reach != (0, count)]

    def cells(tap: int, first: int, last: int) -> Array:
        begin = first * stride + tap * gap - before
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


def _cells(x: Array, axes: Sequence[int], plans: Sequence[AxisWindows], *, padded: bool) -> Array:
    """The number of cells in each window, ready to broadcast: real ones, or with the padding (but nothing beyond)."""
    total = np.ones((1,) * x.ndim, x.dtype)
    for axis, plan in zip(axes, plans, strict=True):
        start = np.arange(plan.count) * plan.stride - plan.before
        low, high = (-plan.before, x.shape[axis] + plan.after) if padded else (0, x.shape[axis])
        inside = np.minimum(start + plan.window, high) - np.maximum(start, low)
        shape = [1] * x.ndim
        shape[axis] = plan.count
        total = total * inside.astype(x.dtype).reshape(shape)
    return total


@register(*(f"Global{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)))
class GlobalPooling(_Pooled):
    """Takes maximum or mean over all positions; ``keepdims`` leaves axes of one."""

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
        cells: Any = int(np.prod([x.shape[axis] for axis in axes]))
        result = x
        mask = kwargs.get("mask")
        if mask is not None:  # of one axis: the mean of the steps that count, and 0 / 0 where none does
            beside = np.expand_dims(mask != 0, 1 if self.channels_first else 2)
            result = np.where(beside, x, x.dtype.type(0))
            cells = beside.sum(axis=axes, keepdims=self.keepdims).astype(x.dtype)
        # One axis at a time: partial sums stay small, so a float32 mean over a large map keeps its bits.
        for axis in reversed(axes):
            if self.maximum:
                result = result.max(axis=axis, keepdims=self.keepdims)
            else:
                result = result.sum(axis=axis, keepdims=self.keepdims)
        return result if self.maximum else result / np.asarray(cells, x.dtype)


@register(*(f"Adaptive{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)))
class AdaptivePooling(_Pooled):
    """Pools ``output_size`` windows: window i spans ``floor(i n / m)`` to ``ceil((i + 1) n / m)``."""

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
