"""Pooling of PyTorch as Keras layers: numeric padding, ceil mode, and what a mean divides by.

Keras pools ``valid`` or ``same``; a maximum over padding needs -inf there (zeros where nothing is negative), and a mean
that leaves padding out is a sum over a map of counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from cnnlens.conversion.to_keras.call_site import CallSite, reference
from cnnlens.conversion.to_keras.convolutions import padded_map
from cnnlens.conversion.to_keras.value import Value
from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.arithmetic.patches import same_padding
from cnnlens.reference.keras.pooling import AdaptivePooling, AxisWindows, GlobalPooling, Pooling

__all__: list[str] = []


@reference(GlobalPooling)
def _global(site: CallSite) -> Value:
    operation = cast(GlobalPooling, site.operation)
    kind = "Max" if operation.maximum else "Average"
    x = site.map()
    config = {"data_format": "channels_last", "keepdims": operation.keepdims}
    axes = x.axes if operation.keepdims else (0, 1)
    result = site.layer(f"Global{kind}Pooling{operation.rank}D", x, config, axes=axes)
    return replace(result, at_least_zero=x.at_least_zero)


@reference(AdaptivePooling)
def _adaptive(site: CallSite) -> Value:
    operation = cast(AdaptivePooling, site.operation)
    kind = "Max" if operation.maximum else "Average"
    x = site.map()
    sizes = x.shape[2:]
    if list(sizes) == list(operation.sizes):
        return x
    whole = all(size is not None and size % wanted == 0 for size, wanted in zip(sizes, operation.sizes, strict=True))
    if whole and not site.shared:
        window = [cast(int, size) // wanted for size, wanted in zip(sizes, operation.sizes, strict=True)]
        config: dict[str, Any] = _pool(window, window, "valid")
        result = site.layer(f"{kind}Pooling{operation.rank}D", x, config)
    else:
        config = {"output_size": list(operation.sizes), "data_format": "channels_last"}
        result = site.layer(f"Adaptive{kind}Pooling{operation.rank}D", x, config)
    return replace(result, at_least_zero=x.at_least_zero)


def _pool(window: Sequence[int], strides: Sequence[int], padding: str) -> dict[str, Any]:
    return {"pool_size": list(window), "strides": list(strides), "padding": padding, "data_format": "channels_last"}


@reference(Pooling)
def _windows(site: CallSite) -> Value:
    operation = cast(Pooling, site.operation)
    x = site.map()
    if max(operation.dilation) > 1:
        raise UnsupportedLayerError("Keras has no pooling with dilation")
    if any(size is None for size in x.shape[2:]) and (operation.ceil_mode or any(map(sum, operation.edges))):
        raise UnsupportedLayerError("it pools over the batch, which stands where a map has its height or width")
    plans = operation.plans([size or 1 << 20 for size in x.shape[2:]])
    result = _maximum(site, operation, x, plans) if operation.maximum else _mean(site, operation, x, plans)
    return replace(result, at_least_zero=x.at_least_zero)


def _room(sizes: Sequence[int | None], plans: Sequence[AxisWindows]) -> list[tuple[int, int]]:
    """The padding in front and behind that makes each axis end with its last window."""
    found: list[tuple[int, int]] = []
    for size, plan in zip(sizes, plans, strict=True):
        needed = (plan.count - 1) * plan.stride + plan.window
        have = (size or 1 << 20) + plan.before
        found.append((plan.before, max(needed - have, 0)))
    return found


def _same(sizes: Sequence[int | None], plans: Sequence[AxisWindows]) -> bool:
    """Whether Keras' ``same`` makes the very same windows."""
    return all(
        size is not None
        and plan.count == -(-size // plan.stride)
        and same_padding(size, plan.window, plan.stride, 1)[0] == plan.before
        for size, plan in zip(sizes, plans, strict=True)
    )


def _maximum(site: CallSite, operation: Pooling, x: Value, plans: Sequence[AxisWindows]) -> Value:
    kind = f"MaxPooling{operation.rank}D"
    pads = _room(x.shape[2:], plans)
    padding = "valid"
    if any(map(sum, pads)):
        if _same(x.shape[2:], plans) and not site.shared:
            padding = "same"
        elif x.at_least_zero:
            x = padded_map(site, x, pads)
        else:
            width = [[0, 0], *(list(pair) for pair in pads), [0, 0]]
            grown = [None if n is None else n + sum(pair) for n, pair in zip(x.shape[2:], pads, strict=True)]
            shape = (*x.shape[:2], *grown)
            settings = {"pad_width": width, "mode": "constant"}
            x = site.operate(
                "Pad", [x], settings, shape=shape, axes=x.axes, name="_pad", kwargs={"constant_values": -math.inf}
            )
    return site.layer(kind, x, _pool(operation.window, operation.strides, padding))


def _mean(site: CallSite, operation: Pooling, x: Value, plans: Sequence[AxisWindows]) -> Value:
    kind = f"AveragePooling{operation.rank}D"
    sizes = x.shape[2:]
    pads = _room(sizes, plans)
    cells = math.prod(operation.window)
    overhang = any(after > plan.after for (_, after), plan in zip(pads, plans, strict=True))
    plain = operation.divisor is None and not overhang
    if not any(map(sum, pads)) and plain:
        return site.layer(kind, x, _pool(operation.window, operation.strides, "valid"))
    if plain and operation.counts_padding:
        return site.layer(kind, padded_map(site, x, pads), _pool(operation.window, operation.strides, "valid"))
    # Keras 3.15.1 on PyTorch averages wrongly where ``same`` pads the two sides differently.
    even = all(
        size is not None and len(set(same_padding(size, plan.window, plan.stride, 1))) == 1
        for size, plan in zip(sizes, plans, strict=True)
    )
    leaves_out = operation.divisor is None and not operation.counts_padding
    if leaves_out and even and _same(sizes, plans) and not site.shared:
        return site.layer(kind, x, _pool(operation.window, operation.strides, "same"))
    if any(map(sum, pads)):
        x = padded_map(site, x, pads)
    x = site.layer(kind, x, _pool(operation.window, operation.strides, "valid"))
    x = site.operate("Multiply", [x, float(cells)], axes=x.axes, name="_sum")
    if operation.divisor is not None:
        return site.operate("Divide", [x, float(operation.divisor)], axes=x.axes, name="_divided")
    counts = _counts(sizes, plans, padded=operation.counts_padding)
    return site.operate("Divide", [x, counts], axes=x.axes, name="_mean")


def _counts(sizes: Sequence[int | None], plans: Sequence[AxisWindows], *, padded: bool) -> np.ndarray[Any, Any]:
    """The number of cells that each window divides by, as a map ``(1, *spatial, 1)``."""
    total = np.ones((1,) * (len(plans) + 2), np.float32)
    for axis, (size, plan) in enumerate(zip(sizes, plans, strict=True), 1):
        start = np.arange(plan.count) * plan.stride - plan.before
        length = size or 0
        low, high = (-plan.before, length + plan.after) if padded else (0, length)
        inside = np.minimum(start + plan.window, high) - np.maximum(start, low)
        shape = [1] * total.ndim
        shape[axis] = plan.count
        total = total * inside.astype(np.float32).reshape(shape)
    return total
