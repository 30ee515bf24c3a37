"""Convolutional layers of every shape: their geometry, and Keras' rules of padding and of transposed convolutions.

The arithmetic is in ``patches.py``. A layer's axes are turned to channels-last for it and back, and an elementwise
activation goes along, so that it is applied to each block while it is in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.arithmetic.functions import Activation, find_activation
from cnnlens.reference.arithmetic.patches import Pads, convolve, depthwise, finisher, same_padding
from cnnlens.reference.operation import Array, LinearOperation, Shape, Weights, data_format, numbers, register, whole

__all__ = ["Convolution", "DepthwiseConvolution", "SeparableConvolution", "TransposedConvolution", "read_padding"]

# Bytes of an input and an output worked on together by a transposed convolution.
_BLOCK_BYTES = 1 << 19


def read_padding(value: Any, rank: int) -> tuple[str, Pads]:
    """Read a padding by name, or ``explicit`` with the cells before and behind each axis; a name has zeros there.

    Numbers (Keras has none) are a list with one, or a pair, for each axis.
    """
    if not isinstance(value, list | tuple):
        return str(value).lower(), ((0, 0),) * rank
    items = list(cast("Sequence[Any]", value))
    if len(items) != rank:
        raise UnsupportedLayerError(f"padding must have {rank} entries, not {len(items)}")
    return "explicit", tuple(cast("tuple[int, int]", numbers(item, 2, "padding")) for item in items)


class _Spatial(LinearOperation):
    """What convolutions share: rank, strides, dilation, padding, data format, and working in channels-last order."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.rank = next(rank for rank in (1, 2, 3) if f"{rank}D" in kind)
        self.kernel_size = numbers(config.get("kernel_size"), self.rank, "kernel_size", least=1)
        self.strides = numbers(config.get("strides", 1), self.rank, "strides", least=1)
        self.dilation = numbers(config.get("dilation_rate", 1), self.rank, "dilation_rate", least=1)
        self.padding, self.edges = read_padding(config.get("padding", "valid"), self.rank)
        if self.padding not in ("valid", "same", "causal", "explicit") or (self.padding == "causal" and self.rank != 1):
            raise self.refuse(f"no such padding here: {self.padding}")
        self.channels_first = data_format(config) == "channels_first"
        self.activation = find_activation(config.get("activation"), keras_version)
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
        if self.padding in ("valid", "explicit"):
            return self.edges
        geometry = zip(sizes, self.kernel_size, self.strides, self.dilation, strict=True)
        if self.padding == "causal":
            return tuple(((kernel - 1) * dilation, 0) for _, kernel, _, dilation in geometry)
        return tuple(same_padding(*axis) for axis in geometry)

    def spatial_output(self, sizes: Shape) -> Shape:
        result: list[int | None] = []
        geometry = zip(sizes, self.kernel_size, self.strides, self.dilation, self.edges, strict=True)
        for size, kernel, stride, dilation, edges in geometry:
            if size is None:
                result.append(None)
            elif self.padding in ("valid", "explicit"):
                result.append((size + sum(edges) - (kernel - 1) * dilation - 1) // stride + 1)
            else:
                result.append(-(-size // stride))
        if any(size is not None and size <= 0 for size in result):
            raise self.refuse(f"the kernel {self.kernel_size} does not fit into an input of {sizes}")
        return tuple(result)

    def bias(self, weights: Weights, channels: int) -> Array | None:
        """The bias, one value a channel; anything else would spread over the channels unnoticed."""
        if not self.use_bias:
            return None
        bias = weights["bias"]
        if bias.shape != (channels,):
            raise ValueError(f"a bias of shape {(channels,)} was expected, {bias.shape} came")
        return bias

    def fitting(self, kernel: Array) -> Array:
        """``kernel``, whose taps must be those that the configuration pads for."""
        if kernel.shape[:-2] != self.kernel_size:
            raise ValueError(f"a kernel of {self.kernel_size} taps was expected, its shape is {kernel.shape}")
        return kernel

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


@register("Conv1D", "Conv2D", "Conv3D")
class Convolution(_Spatial):
    """Computes Conv1D, Conv2D, Conv3D: a correlation (no flip), kernel ``(*spatial, C / groups, filters)``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.filters = whole(config.get("filters"), "filters")
        self.groups = whole(config.get("groups") or 1, "groups")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        return self.join(shape[0], self.spatial_output(self.split(shape)[0]), self.filters)

    def compute(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        kernel, bias = self.fitting(weights["kernel"]), self.bias(weights, self.filters)
        pads = self.pads(x.shape[1:-1])
        if self.groups == x.shape[-1] and self.groups > 1:
            # One input channel a group is a depthwise convolution in another spelling.
            taps = kernel.reshape(*kernel.shape[:-2], self.groups, -1)
            return depthwise(x, taps, self.strides, pads, self.dilation, finisher(bias, activation))
        return convolve(x, kernel, bias, self.strides, pads, self.dilation, self.groups, activation)


@register("DepthwiseConv1D", "DepthwiseConv2D")
class DepthwiseConvolution(_Spatial):
    """Convolves each channel by itself, ``(*spatial, C, multiplier)``; output ``c * multiplier + m``."""

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
        kernel = self.fitting(weights["kernel"] if "kernel" in weights else weights["depthwise_kernel"])
        finish = finisher(self.bias(weights, x.shape[-1] * self.multiplier), activation)
        return depthwise(x, kernel, self.strides, self.pads(x.shape[1:-1]), self.dilation, finish)


@register("SeparableConv1D", "SeparableConv2D")
class SeparableConvolution(_Spatial):
    """Does a depthwise convolution, then one of a single tap; bias and activation are of the second alone."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.filters = whole(config.get("filters"), "filters")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        return self.join(shape[0], self.spatial_output(self.split(shape)[0]), self.filters)

    def compute(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        pads = self.pads(x.shape[1:-1])
        kernel = self.fitting(weights["depthwise_kernel"])
        middle = depthwise(x, kernel, self.strides, pads, self.dilation, finisher(None, None))
        pointwise, ones = weights["pointwise_kernel"], (1,) * self.rank
        return convolve(
            middle, pointwise, self.bias(weights, self.filters), ones, ((0, 0),) * self.rank, ones, 1, activation
        )


@register("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
class TransposedConvolution(_Spatial):
    """Computes a convolution's gradient, kernel ``(*spatial, filters / groups, C)``; sizes by Keras' rule.

    With ``ke = (k - 1) d + 1`` the full result has ``(n - 1) s + ke`` positions. ``valid`` keeps the first
    ``n s + max(ke - s, 0)``; ``same`` keeps ``n s`` from ``max(full - n s, 0) // 2`` on; an explicit ``output_padding``
    sets the size anew. What is asked for beyond the full result is zero (then the bias). Swept against Keras over
    hundreds of configurations. Explicit padding, which only PyTorch has, is what is cut off in front and behind; its
    ``output_padding`` is added behind.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.filters = whole(config.get("filters"), "filters")
        extra = config.get("output_padding")
        self.output_padding = None if extra is None else numbers(extra, self.rank, "output_padding")
        self.groups = whole(config.get("groups") or 1, "groups")
        if self.padding == "causal":
            raise self.refuse("no causal padding in a transposed convolution")

    def sizes(self, spatial: Shape) -> Shape:
        result: list[int | None] = []
        for axis, size in enumerate(spatial):
            stride = self.strides[axis]
            extent = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            if size is None:
                result.append(None)
            elif self.padding == "explicit":
                extra = 0 if self.output_padding is None else self.output_padding[axis]
                result.append((size - 1) * stride + extent - sum(self.edges[axis]) + extra)
            elif self.output_padding is not None:
                kept = extent if self.padding == "valid" else extent % 2
                result.append((size - 1) * stride + kept + self.output_padding[axis])
            else:
                result.append(size * stride + (max(extent - stride, 0) if self.padding == "valid" else 0))
        if any(size is not None and size <= 0 for size in result):
            raise self.refuse(f"nothing is left of an input of {spatial}")
        return tuple(result)

    def lefts(self, spatial: Sequence[int], sizes: Sequence[int]) -> list[int]:
        """Count the positions of the full result that are cut off in front, on each axis."""
        if self.padding != "same":
            return [before for before, _ in self.edges]
        geometry = zip(spatial, self.strides, self.kernel_size, self.dilation, sizes, strict=True)
        return [
            max((size - 1) * stride + (tap - 1) * gap + 1 - wanted, 0) // 2
            for size, stride, tap, gap, wanted in geometry
        ]

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        return self.join(shape[0], self.sizes(self.split(shape)[0]), self.filters)

    def compute(self, weights: Weights, x: Array, activation: Activation | None) -> Array:
        kernel = self.fitting(weights["kernel"])
        spatial = x.shape[1:-1]
        sizes = cast("tuple[int, ...]", self.sizes(spatial))
        out = np.zeros((x.shape[0], *sizes, self.filters), x.dtype)
        lefts = self.lefts(spatial, sizes)
        finish = finisher(self.bias(weights, self.filters), activation)
        channels = x.shape[-1]
        images = max(_BLOCK_BYTES // max(math.prod(spatial) * max(channels, self.filters) * x.itemsize, 1), 1)
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
        rows = some.reshape(-1, some.shape[-1])
        out[tuple(placed)] += self._product(rows, matrix).reshape(*some.shape[:-1], -1)

    def _product(self, rows: Array, matrix: Array) -> Array:
        """``rows (n, C)`` times one tap ``(filters / groups, C)``, each group of channels with its own columns."""
        if self.groups == 1:
            return rows @ matrix.T
        grouped = rows.reshape(rows.shape[0], self.groups, -1).transpose(1, 0, 2)
        columns = matrix.reshape(matrix.shape[0], self.groups, -1).transpose(1, 2, 0)
        return np.matmul(grouped, columns).transpose(1, 0, 2)
