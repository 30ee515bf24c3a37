"""Locally connected layers of Keras 2: convolutions with a kernel of its own at each position.

Keras stored that kernel in three ways (``implementation`` 1, 2 and 3), of which only the first is compact and dense;
all become the same array here, one kernel a position. Source: ``LocallyConnected1D`` and ``2D`` of Keras 2, its
``conv_connected_inputs`` (which inputs a position sees; its ``same`` is centred otherwise than a convolution's) and
``conv_kernel_idxs`` (the order of the sparse kernel).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.reference.arithmetic.functions import find_activation
from cnnlens.reference.operation import Array, Operation, Shape, Weights, data_format, numbers, register, whole

__all__ = ["LocallyConnected"]

_SPARSE = 3


@register("LocallyConnected1D", "LocallyConnected2D")
class LocallyConnected(Operation):
    """Multiplies each position's window with its own kernel, adds a bias a position, then the activation."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.rank = 1 if "1D" in kind else 2
        self.filters = whole(config.get("filters"), "filters")
        self.kernel_size = numbers(config.get("kernel_size"), self.rank, "kernel_size", least=1)
        self.strides = numbers(config.get("strides", 1), self.rank, "strides", least=1)
        self.padding = str(config.get("padding", "valid")).lower()
        self.implementation = whole(config.get("implementation", 1), "implementation")
        if self.padding not in ("valid", "same") or self.implementation not in (1, 2, _SPARSE):
            raise self.refuse(f"no padding {self.padding} with implementation {self.implementation}")
        if self.padding == "same" and self.implementation == 1:
            raise self.refuse("implementation 1 has no padding but valid")
        self.first = data_format(config) == "channels_first"
        self.activation = find_activation(config.get("activation"), keras_version)
        self.use_bias = bool(config.get("use_bias", True))

    def _positions(self, sizes: Shape) -> Shape:
        found: list[int | None] = []
        for size, kernel, stride in zip(sizes, self.kernel_size, self.strides, strict=True):
            if size is None:
                found.append(None)
            else:
                found.append(-(-size // stride) if self.padding == "same" else (size - kernel) // stride + 1)
        if any(size is not None and size < 1 for size in found):
            raise self.refuse(f"the kernel {self.kernel_size} does not fit into an input of {sizes}")
        return tuple(found)

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        if len(shape) != self.rank + 2:
            raise self.refuse(f"expected an input of {self.rank + 2} axes, got shape {shape}")
        positions = self._positions(shape[2:] if self.first else shape[1:-1])
        made = (shape[0], self.filters, *positions) if self.first else (shape[0], *positions, self.filters)
        return made if self.activation is None else self.activation.shape(made)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        if x.ndim != self.rank + 2:
            raise self.refuse(f"expected an input of {self.rank + 2} axes, got shape {x.shape}")
        x = np.moveaxis(x, 1, -1) if self.first else x
        sizes, channels = x.shape[1:-1], x.shape[-1]
        positions = cast("tuple[int, ...]", self._positions(sizes))
        places, seen = self._windows(sizes, positions)
        # A place outside the input is looked up as the first one, and counts for nothing.
        taps = x.reshape(len(x), -1, channels)[:, np.where(seen, places, 0)] * seen[..., None]
        kernel = self._kernel(weights["kernel"], sizes, positions, channels, places, seen).astype(x.dtype, copy=False)
        count, window = places.shape
        rows = taps.transpose(1, 0, 2, 3).reshape(count, len(x), window * channels)
        made = (rows @ kernel.reshape(count, window * channels, self.filters)).transpose(1, 0, 2)
        result = np.ascontiguousarray(made).reshape(len(x), *positions, self.filters)
        if self.first:
            result = np.ascontiguousarray(np.moveaxis(result, -1, 1))
        if self.use_bias:
            bias = weights["bias"]
            if bias.shape != (*positions, self.filters):
                raise ValueError(f"a bias of shape {(*positions, self.filters)} was expected, {bias.shape} came")
            # With channels first Keras 2 reshapes the bias, (positions, filters), where it should have turned it.
            result += bias.reshape(result.shape[1:])
        return result if self.activation is None else self.activation(result)

    def _windows(self, sizes: Sequence[int], positions: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """For each position and tap the place in the flattened input, and whether it lies inside; both
        ``(positions, taps)``."""
        places = np.zeros((1, 1), np.intp)
        seen = np.ones((1, 1), np.bool_)
        for size, count, kernel, stride in zip(sizes, positions, self.kernel_size, self.strides, strict=True):
            before = kernel // 2 if self.padding == "same" else 0
            along = np.arange(count)[:, None] * stride - before + np.arange(kernel)
            inside = (along >= 0) & (along < size)
            shape = (places.shape[0] * count, places.shape[1] * kernel)
            places = (places[:, None, :, None] * size + along[None, :, None, :]).reshape(shape)
            seen = (seen[:, None, :, None] & inside[None, :, None, :]).reshape(shape)
        return places, seen

    def _kernel(
        self,
        stored: Array,
        sizes: Sequence[int],
        positions: Sequence[int],
        channels: int,
        places: NDArray[np.intp],
        seen: NDArray[np.bool_],
    ) -> Array:
        """The stored kernel as ``(positions, taps, channels, filters)``, zero where a tap lies outside the input."""
        count, window = places.shape
        if self.implementation == 1:
            if self.first:
                return stored.reshape(count, channels, window, self.filters).transpose(0, 2, 1, 3)
            return stored.reshape(count, window, channels, self.filters)
        if self.implementation == _SPARSE:
            return self._sparse(stored, channels, seen)
        area = math.prod(sizes)
        if self.first:
            dense = stored.reshape(channels, area, self.filters, count).transpose(3, 1, 0, 2)
        else:
            dense = stored.reshape(area, channels, count, self.filters).transpose(2, 0, 1, 3)
        taken = dense[np.arange(count)[:, None], np.where(seen, places, 0)]
        return taken * seen[:, :, None, None]

    def _sparse(self, stored: Array, channels: int, seen: NDArray[np.bool_]) -> Array:
        """A kernel stored as the list of its entries, sorted by place in the output, then in the input."""
        count, window = seen.shape
        if self.first:
            shape, mask, order = (self.filters, count, channels, window), seen[None, :, None, :], (1, 3, 2, 0)
        else:
            shape, mask, order = (count, self.filters, window, channels), seen[:, None, :, None], (0, 2, 3, 1)
        dense = np.zeros(shape, stored.dtype)
        dense[np.broadcast_to(mask, shape)] = stored
        return dense.transpose(order)
