"""Convolutions of every shape, dense layers and einsums: the operations that are linear in their weights.

A convolution is a matrix product over patches. The patches of a whole image would not fit in the cache, so they are
gathered for a block of output positions at a time, multiplied, and given bias and activation while the block is still
near. Keras' rules of padding and of transposed convolutions are those that a sweep over its backends confirmed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnlens.reference.functions import Activation, find_activation
from cnnlens.reference.operation import (
    Array,
    LinearOperation,
    Shape,
    Weights,
    block_ranges,
    data_format,
    numbers,
    register,
    scratch,
    whole,
)

__all__ = ["Convolution", "DepthwiseConvolution", "SeparableConvolution", "TransposedConvolution", "same_padding"]

# Bytes of patches gathered at once. Measured on a core with 2 MB of L2, float32, 14x14x32 -> 64 with 3x3: 81 us an
# image with 0.45 MB of patches, 95 us with 0.22 MB, 86 to 89 us with 0.9 to 1.8 MB.
_PATCH_BYTES = 1 << 19
# Elements of a depthwise accumulator; with its product and its input it stays in L2.
_DEPTHWISE_ELEMENTS = 1 << 15
# With so few input channels a patch's contiguous runs are too short to copy fast: gather a row a tap instead.
_FEW_CHANNELS = 4

Finish = Callable[[Array], None]
Pads = tuple[tuple[int, int], ...]


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros in front of and behind an axis under ``same``: it depends on the input's size, and the odd one is behind."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


class _Spatial(LinearOperation):
    """What convolutions share: rank, strides, dilation, padding, data format, and working in channels-last order."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.rank = next(rank for rank in (1, 2, 3) if f"{rank}D" in kind)
        self.kernel_size = numbers(config.get("kernel_size"), self.rank, "kernel_size", least=1)
        self.strides = numbers(config.get("strides", 1), self.rank, "strides", least=1)
        self.dilation = numbers(config.get("dilation_rate", 1), self.rank, "dilation_rate", least=1)
        self.padding = str(config.get("padding", "valid")).lower()
        if self.padding not in ("valid", "same", "causal") or (self.padding == "causal" and self.rank != 1):
            raise self.refuse(f"no such padding here: {self.padding}")
        self.channels_first = data_format(config) == "channels_first"
        self.activation: Activation | None = find_activation(config.get("activation"), keras_version)
        self.use_bias = bool(config.get("use_bias", True))

    def split(self, shape: Shape) -> tuple[Shape, int | None]:
        """The spatial sizes and the channels of an input of ``shape``."""
        if len(shape) != self.rank + 2:
            raise self.refuse(f"expected an input of {self.rank + 2} axes, got shape {shape}")
        return (shape[2:], shape[1]) if self.channels_first else (shape[1:-1], shape[-1])

    def join(self, batch: int | None, spatial: Sequence[int | None], channels: int | None) -> Shape:
        """The shape of an output, as the activation leaves it."""
        shape = (batch, channels, *spatial) if self.channels_first else (batch, *spatial, channels)
        return shape if self.activation is None else self.activation.shape(shape)

    def pads(self, sizes: Sequence[int]) -> Pads:
        if self.padding == "valid":
            return ((0, 0),) * len(sizes)
        geometry = zip(sizes, self.kernel_size, self.strides, self.dilation, strict=True)
        if self.padding == "causal":
            return tuple(((kernel - 1) * dilation, 0) for _, kernel, _, dilation in geometry)
        return tuple(same_padding(*axis) for axis in geometry)

    def spatial_output(self, sizes: Shape) -> Shape:
        result: list[int | None] = []
        for size, kernel, stride, dilation in zip(sizes, self.kernel_size, self.strides, self.dilation, strict=True):
            if size is None:
                result.append(None)
            elif self.padding == "valid":
                result.append((size - (kernel - 1) * dilation - 1) // stride + 1)
            else:
                result.append(-(-size // stride))
        if any(size is not None and size <= 0 for size in result):
            raise self.refuse(f"the kernel {self.kernel_size} does not fit into an input of {sizes}")
        return tuple(result)

    def bias(self, weights: Weights) -> Array | None:
        return weights["bias"] if self.use_bias else None

    def compute(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        """The layer in channels-last order, with the activation as given: ``x`` is ``(N, *spatial, C)``."""
        raise NotImplementedError

    def linear(self, weights: Weights, x: Array) -> Array:
        return self._in_own_order(weights, x, None)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        fused = self.activation if self.activation is not None and self.activation.elementwise else None
        result = self._in_own_order(weights, x, fused)
        return result if fused is self.activation or self.activation is None else self.activation(result)

    def _in_own_order(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        self.split(x.shape)
        if not self.channels_first:
            return self.compute(weights, x, activation)
        result = self.compute(weights, np.ascontiguousarray(np.moveaxis(x, 1, -1)), activation)
        return np.ascontiguousarray(np.moveaxis(result, -1, 1))


def _finish(bias: Array | None, activation: Activation | None) -> Finish:
    """What happens to a fresh block of outputs ``(positions, channels)`` while it is in the cache."""

    def finish(block: Array) -> None:
        if bias is not None:
            np.add(block, bias, out=block)
        if activation is not None:
            activation.function(block, block)

    return finish


def _pad_images(x: Array, pads: Pads) -> Array:
    """``x`` with zeros around its spatial axes; ``x`` itself where there are none. Scratch: use at once."""
    if not any(before or after for before, after in pads):
        return x if x.flags.c_contiguous else np.ascontiguousarray(x)
    sizes = [size + before + after for size, (before, after) in zip(x.shape[1:-1], pads, strict=True)]
    padded = scratch("padded", (x.shape[0], *sizes, x.shape[-1]), x.dtype)
    inner: list[slice] = [slice(None)] * x.ndim
    for axis, (before, after) in enumerate(pads, 1):
        edge = list(inner)
        edge[axis] = slice(0, before)
        padded[tuple(edge)] = 0
        edge[axis] = slice(padded.shape[axis] - after, None)
        padded[tuple(edge)] = 0
        inner[axis] = slice(before, before + x.shape[axis])
    padded[tuple(inner)] = x
    return padded


def _image_groups(x: Array, pads: Pads, images: int) -> Iterator[tuple[slice, Array]]:
    """Padded images, as many at once as one block can take."""
    if not any(before or after for before, after in pads):
        yield slice(0, x.shape[0]), _pad_images(x, pads)
        return
    for start in range(0, x.shape[0], images):
        part = slice(start, min(start + images, x.shape[0]))
        yield part, _pad_images(x[part], pads)


def _windows(
    padded: Array, block: tuple[slice, ...], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Array:
    """A view ``(images, *positions, *taps, channels)`` of the patches under a block of output positions."""
    start = tuple(slice(part.start * step, None) for part, step in zip(block[1:], strides, strict=True))
    corner = padded[(block[0], *start)]
    shape = tuple(part.stop - part.start for part in block) + tuple(kernel) + (padded.shape[-1],)
    step = padded.strides[1:-1]
    return as_strided(
        corner,
        shape,
        (
            padded.strides[0],
            *(s * k for s, k in zip(step, strides, strict=True)),
            *(s * d for s, d in zip(step, dilation, strict=True)),
            padded.strides[-1],
        ),
        writeable=False,
    )


@register("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D")
class Convolution(_Spatial):
    """Conv1D, Conv2D, Conv3D: a correlation (the kernel is not flipped), kernel ``(*spatial, C / groups, filters)``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.filters = whole(config.get("filters"), "filters")
        self.groups = whole(config.get("groups") or 1, "groups")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        return self.join(shape[0], self.spatial_output(self.split(shape)[0]), self.filters)

    def compute(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        kernel, bias = weights["kernel"], self.bias(weights)
        pads = self.pads(x.shape[1:-1])
        if self.groups == x.shape[-1] and self.groups > 1:
            # One input channel a group is a depthwise convolution in another spelling.
            taps = kernel.reshape(*kernel.shape[:-2], self.groups, -1)
            return depthwise(x, taps, self.strides, pads, self.dilation, _finish(bias, activation))
        return convolve(x, kernel, bias, self.strides, pads, self.dilation, self.groups, activation)


def convolve(
    x: Array,
    kernel: Array,
    bias: Array | None,
    strides: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
    groups: int,
    activation: Activation | None,
) -> Array:
    """Convolve ``x (N, *spatial, C)`` with ``kernel (*taps, C / groups, F)`` to ``(N, *spatial', F)``."""
    taps, filters = kernel.shape[:-2], kernel.shape[-1]
    sizes = tuple(
        (size + before + after - (tap - 1) * gap - 1) // stride + 1
        for size, (before, after), tap, gap, stride in zip(x.shape[1:-1], pads, taps, dilation, strides, strict=True)
    )
    out = np.empty((x.shape[0], *sizes, filters), x.dtype)
    depth = math.prod(kernel.shape[:-1])
    positions = max(_PATCH_BYTES // (depth * x.itemsize), 16)
    if math.prod(taps) == 1 and groups == 1:
        _pointwise(x, kernel, out, strides, pads, positions, _finish(bias, activation))
        return out
    images = max(positions // max(math.prod(sizes), 1), 1)
    few = groups == 1 and kernel.shape[-2] <= _FEW_CHANNELS
    matrices = [np.ascontiguousarray(part.reshape(depth, -1)) for part in np.split(kernel, groups, axis=-1)]
    if few and bias is not None:
        # A row of ones carries the bias through the product.
        matrices = [np.concatenate([matrices[0], bias.reshape(1, -1)])]
    finish = _finish(None if few else bias, activation)
    for part, padded in _image_groups(x, pads, images):
        for block in block_ranges((part.stop - part.start, *sizes), positions):
            windows = _windows(padded, block, taps, strides, dilation)
            target = out[part][block].reshape(-1, filters)
            if few:
                _taps_as_rows(windows, matrices[0], len(taps), target)
            else:
                _taps_as_columns(windows, matrices, target)
            finish(target)
    return out


def _taps_as_rows(windows: Array, matrix: Array, rank: int, target: Array) -> None:
    """Patches as ``(taps, positions)``: each row is a shifted copy of the image, contiguous where channels are few."""
    depth = math.prod(windows.shape[rank + 1 :])
    rows = scratch("patches", (matrix.shape[0], target.shape[0]), windows.dtype)
    order = (*range(rank + 1, 2 * rank + 2), *range(rank + 1))
    moved = windows.transpose(order)
    np.copyto(rows[:depth].reshape(moved.shape), moved)
    rows[depth:] = 1
    np.matmul(rows.T, matrix, out=target)


def _taps_as_columns(windows: Array, matrices: Sequence[Array], target: Array) -> None:
    """Patches as ``(positions, taps x channels)``: runs of kernel width x channels are contiguous on both sides."""
    depth, filters = matrices[0].shape
    channels = windows.shape[-1] // len(matrices)
    patches = scratch("patches", (target.shape[0], depth), windows.dtype)
    for group, matrix in enumerate(matrices):
        some = windows[..., group * channels : (group + 1) * channels]
        np.copyto(patches.reshape(some.shape), some)
        if len(matrices) == 1:
            np.matmul(patches, matrix, out=target)
        else:
            target[:, group * filters : (group + 1) * filters] = patches @ matrix


def _pointwise(
    x: Array, kernel: Array, out: Array, strides: Sequence[int], pads: Pads, positions: int, finish: Finish
) -> None:
    """A kernel of one tap is a plain matrix product; only strides need a copy."""
    matrix = kernel.reshape(kernel.shape[-2:])
    padded = _pad_images(x, pads)
    if any(stride > 1 for stride in strides):
        padded = padded[(slice(None), *(slice(None, None, stride) for stride in strides))]
    rows = padded.reshape(-1, x.shape[-1])
    target = out.reshape(-1, out.shape[-1])
    multiply_rows(rows, matrix, target, positions, finish)


def multiply_rows(rows: Array, matrix: Array, target: Array, positions: int, finish: Finish) -> None:
    """``rows @ matrix`` into ``target``, block by block, each finished while it is in the cache."""
    for (part,) in block_ranges((rows.shape[0],), positions):
        np.matmul(rows[part], matrix, out=target[part])
        finish(target[part])


@register("DepthwiseConv1D", "DepthwiseConv2D")
class DepthwiseConvolution(_Spatial):
    """A kernel a channel, ``(*spatial, C, multiplier)``; output channel ``c * multiplier + m``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.multiplier = whole(config.get("depth_multiplier", 1), "depth_multiplier")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        spatial, channels = self.split(shape)
        return self.join(
            shape[0], self.spatial_output(spatial), None if channels is None else channels * self.multiplier
        )

    def compute(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        kernel = weights["kernel"] if "kernel" in weights else weights["depthwise_kernel"]
        pads = self.pads(x.shape[1:-1])
        return depthwise(x, kernel, self.strides, pads, self.dilation, _finish(self.bias(weights), activation))


def depthwise(
    x: Array, kernel: Array, strides: Sequence[int], pads: Pads, dilation: Sequence[int], finish: Finish
) -> Array:
    """Each channel of ``x (N, *spatial, C)`` with its own taps ``(*taps, C, M)``, to ``(N, *spatial', C * M)``.

    A sum over taps of shifted products. With stride 1 a row of width x channels is one contiguous run, for which the
    taps' weights are laid out once a row: the inner loop is then as long as the row, not as the channels.
    """
    taps, multiplier = kernel.shape[:-2], kernel.shape[-1]
    if multiplier > 1:
        x = np.repeat(x, multiplier, axis=-1)
    channels = x.shape[-1]
    table = kernel.reshape(-1, channels)
    sizes = tuple(
        (size + before + after - (tap - 1) * gap - 1) // stride + 1
        for size, (before, after), tap, gap, stride in zip(x.shape[1:-1], pads, taps, dilation, strides, strict=True)
    )
    out = np.empty((x.shape[0], *sizes, channels), x.dtype)
    images = max(_DEPTHWISE_ELEMENTS // max(math.prod(sizes) * channels, 1), 1)
    positions = max(_DEPTHWISE_ELEMENTS // channels, 1)
    for part, padded in _image_groups(x, pads, images):
        for block in block_ranges((part.stop - part.start, *sizes), positions):
            windows = _windows(padded, block, taps, strides, dilation)
            target = out[part][block]
            rank = len(taps)
            width = target.shape[rank]
            joined = strides[-1] == 1 or width == 1
            if joined:
                total = target.reshape(*target.shape[:rank], width * channels)
                rows = np.tile(table, width)
            else:
                total, rows = target, table
            product = scratch("product", total.shape, x.dtype)
            for number, tap in enumerate(np.ndindex(*taps)):
                shifted = windows[(*(slice(None),) * (rank + 1), *tap)]
                if joined:
                    shifted = as_strided(
                        shifted, total.shape, (*shifted.strides[:rank], shifted.strides[-1]), writeable=False
                    )
                if number == 0:
                    np.multiply(shifted, rows[number], out=total)
                else:
                    np.multiply(shifted, rows[number], out=product)
                    np.add(total, product, out=total)
            finish(target.reshape(-1, channels))
    return out


@register("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")
class SeparableConvolution(_Spatial):
    """A depthwise convolution, then one of a single tap; bias and activation belong to the second alone."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.filters = whole(config.get("filters"), "filters")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        return self.join(shape[0], self.spatial_output(self.split(shape)[0]), self.filters)

    def compute(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        pads = self.pads(x.shape[1:-1])
        middle = depthwise(x, weights["depthwise_kernel"], self.strides, pads, self.dilation, _finish(None, None))
        pointwise, ones = weights["pointwise_kernel"], (1,) * self.rank
        return convolve(middle, pointwise, self.bias(weights), ones, ((0, 0),) * self.rank, ones, 1, activation)


@register("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Deconvolution2D", "Convolution2DTranspose")
class TransposedConvolution(_Spatial):
    """The gradient of a convolution, kernel ``(*spatial, filters, C)``; sizes and crops by Keras' rule.

    With ``ke = (k - 1) d + 1`` the full result has ``(n - 1) s + ke`` positions. ``valid`` keeps ``n s + max(ke - s, 0)``
    from its start; ``same`` keeps ``n s`` from ``max(full - n s, 0) // 2`` on; an explicit ``output_padding`` sets the
    size anew. What is asked for beyond the full result is zero (then the bias). Swept against Keras over hundreds of
    configurations.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.filters = whole(config.get("filters"), "filters")
        extra = config.get("output_padding")
        self.output_padding = None if extra is None else numbers(extra, self.rank, "output_padding")
        if self.padding == "causal":
            raise self.refuse("no causal padding in a transposed convolution")

    def sizes(self, spatial: Shape) -> Shape:
        result: list[int | None] = []
        for axis, size in enumerate(spatial):
            stride = self.strides[axis]
            extent = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            if size is None:
                result.append(None)
            elif self.output_padding is not None:
                kept = extent if self.padding == "valid" else extent % 2
                result.append((size - 1) * stride + kept + self.output_padding[axis])
            else:
                result.append(size * stride + (max(extent - stride, 0) if self.padding == "valid" else 0))
        return tuple(result)

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        return self.join(shape[0], self.sizes(self.split(shape)[0]), self.filters)

    def compute(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        kernel = weights["kernel"]
        spatial = x.shape[1:-1]
        sizes = cast("tuple[int, ...]", self.sizes(spatial))
        out = np.zeros((x.shape[0], *sizes, self.filters), x.dtype)
        lefts = [
            max((size - 1) * stride + (tap - 1) * gap + 1 - wanted, 0) // 2 if self.padding == "same" else 0
            for size, stride, tap, gap, wanted in zip(
                spatial, self.strides, self.kernel_size, self.dilation, sizes, strict=True
            )
        ]
        finish = _finish(self.bias(weights), activation)
        channels = x.shape[-1]
        images = max(_PATCH_BYTES // max(math.prod(spatial) * max(channels, self.filters) * x.itemsize, 1), 1)
        for start in range(0, x.shape[0], images):
            part = slice(start, min(start + images, x.shape[0]))
            for tap in np.ndindex(*self.kernel_size):
                self._scatter(x[part], kernel[tap], tap, lefts, out[part])
            finish(out[part].reshape(-1, self.filters))
        return out

    def _scatter(self, x: Array, matrix: Array, tap: tuple[int, ...], lefts: Sequence[int], out: Array) -> None:
        """Add one tap's product to every output position that it reaches."""
        taken: list[slice] = [slice(None)]
        placed: list[slice] = [slice(None)]
        for axis, (index, left) in enumerate(zip(tap, lefts, strict=True)):
            stride = self.strides[axis]
            offset = index * self.dilation[axis] - left
            first = max(-(offset // stride), 0)
            last = min((out.shape[axis + 1] - 1 - offset) // stride, x.shape[axis + 1] - 1)
            if last < first:
                return
            taken.append(slice(first, last + 1))
            placed.append(slice(first * stride + offset, last * stride + offset + 1, stride))
        some = x[tuple(taken)]
        out[tuple(placed)] += (some.reshape(-1, some.shape[-1]) @ matrix.T).reshape(*some.shape[:-1], -1)


@register("Dense")
class Dense(LinearOperation):
    """``x @ kernel + bias`` over the last axis, kernel ``(in, units)``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.units = whole(config.get("units"), "units")
        self.use_bias = bool(config.get("use_bias", True))
        self.activation: Activation | None = find_activation(config.get("activation"), keras_version)

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        return self._activated((*shape[:-1], self.units))

    def _activated(self, shape: Shape) -> Shape:
        return shape if self.activation is None else self.activation.shape(shape)

    def linear(self, weights: Weights, x: Array) -> Array:
        kernel = weights["kernel"]
        out = np.empty((*x.shape[:-1], kernel.shape[-1]), x.dtype)
        positions = max(_PATCH_BYTES // (x.shape[-1] * x.itemsize), 256)
        finish = _finish(weights["bias"] if self.use_bias else None, None)
        rows = x.reshape(-1, x.shape[-1])
        multiply_rows(rows, kernel, out.reshape(-1, kernel.shape[-1]), positions, finish)
        return out


@register("EinsumDense")
class EinsumDense(LinearOperation):
    """An einsum of the input with the kernel, then a bias over some of the output's axes (stored ready to broadcast)."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        equation = str(config.get("equation", "")).replace(" ", "")
        parts = equation.replace("->", ",").split(",")
        if len(parts) != 3 or "->" not in equation:
            raise self.refuse(f"expected an equation such as 'ab,bc->ac', got '{equation}'")
        self.equation = equation
        self.given, self.kernel_axes, self.made = parts
        size = config.get("output_shape")
        self.sizes: list[Any] = list(cast("Sequence[Any]", size)) if isinstance(size, list | tuple) else [size]
        self.use_bias = config.get("bias_axes") is not None
        self.activation: Activation | None = find_activation(config.get("activation"), keras_version)

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        # Axes that the input names; an ellipsis stands for whatever is left, at the same end on both sides.
        plain = self.given.replace("...", "")
        elided = len(shape) - len(plain)
        if elided < 0 or (elided > 0 and "..." not in self.given):
            raise self.refuse(f"'{self.equation}' does not fit an input of {len(shape)} axes")
        front = self.given.startswith("...")
        named = shape[elided:] if front else shape[: len(plain)]
        known = dict(zip(plain, named, strict=True))
        made = self.made.replace("...", "")
        # ``output_shape`` leaves out the batch, and the axes behind an ellipsis.
        stated = [None, *self.sizes]
        offset = max(elided - 1, 0) if front else 0
        skipped = 1 if front and elided > 0 else 0
        result: list[int | None] = []
        for place, axis in enumerate(made):
            index = place + skipped
            value = stated[index] if index < len(stated) else None
            result.append(known[axis] if axis in known else value)
        del offset
        rest = shape[:elided] if front else shape[len(plain) :]
        total = (*rest, *result) if front else (*result, *rest)
        return total if self.activation is None else self.activation.shape(total)

    def linear(self, weights: Weights, x: Array) -> Array:
        result = np.ascontiguousarray(np.einsum(self.equation, x, weights["kernel"], optimize=True))
        if self.use_bias:
            result += weights["bias"]
        return result
