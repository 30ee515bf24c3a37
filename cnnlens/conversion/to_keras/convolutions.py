"""Convolutions of PyTorch as Keras layers: numeric padding, depthwise kernels, and the crop of transposed ones.

``same`` is used only where it is the same for the size at hand; everything else is zero padding in a layer of its own.
The rules were swept against Keras and PyTorch over hundreds of configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.conversion.to_keras.call_site import CallSite, reference
from cnnlens.conversion.to_keras.value import Value
from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import Shape
from cnnlens.reference.arithmetic.patches import same_padding
from cnnlens.reference.keras.convolution import Convolution, TransposedConvolution

__all__ = ["is_same", "padded_map"]

Pads = Sequence[tuple[int, int]]
# A convolution for each group is still a model that somebody can read.
_MOST_GROUPS = 64


def is_same(
    sizes: Shape, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], pads: Pads, fixed: bool = True
) -> bool:
    """Tell whether Keras' ``same`` pads as ``pads`` does; for an open size, or not ``fixed``, whether always."""
    for size, taps, step, gap, (before, after) in zip(sizes, kernel, strides, dilation, pads, strict=True):
        extent = (taps - 1) * gap + 1
        if size is None or not fixed:
            if step != 1 or (before, after) != ((extent - 1) // 2, extent - 1 - (extent - 1) // 2):
                return False
        else:
            wanted = (size + before + after - extent) // step + 1
            if wanted != -(-size // step) or same_padding(size, taps, step, gap)[0] != before:
                return False
    return True


def spatial(value: Sequence[Any]) -> Any:
    """A setting of each spatial axis as Keras' 1-D layers (bare) and the others (a list) have it."""
    return list(value[0]) if len(value) == 1 else [list(one) for one in value]


def padded_map(site: CallSite, x: Value, pads: Pads, name: str = "_pad") -> Value:
    """Pad a feature map, channels last, with zeros; negative numbers cut off instead."""
    for kind, key, amounts in (
        ("Cropping", "cropping", [(max(-before, 0), max(-after, 0)) for before, after in pads]),
        ("ZeroPadding", "padding", [(max(before, 0), max(after, 0)) for before, after in pads]),
    ):
        if not any(sum(pair) for pair in amounts):
            continue
        sign = 1 if key == "padding" else -1
        grown = [
            None if size is None else size + sign * sum(pair) for size, pair in zip(x.shape[2:], amounts, strict=True)
        ]
        config = {key: spatial(amounts), "data_format": "channels_last"}
        positive = x.at_least_zero
        x = site.layer(f"{kind}{len(pads)}D", x, config, shape=(*x.shape[:2], *grown), name=name)
        x = Value(x.layer, x.node, x.index, x.shape, x.axes, at_least_zero=positive)
    return x


@reference(Convolution)
def _convolution(site: CallSite) -> Value:
    operation = cast(Convolution, site.operation)
    x = site.map()
    sizes, strides, dilation = x.shape[2:], operation.strides, operation.dilation
    pads: Pads = operation.edges
    kernel = site.arrays["kernel"]
    if operation.padding == "same":
        pads = [same_padding(1, k, 1, d) for k, d in zip(operation.kernel_size, dilation, strict=True)]
    # Keras has no strides together with dilation: every position is computed, and the strided ones are taken.
    thin = max(strides) > 1 and max(dilation) > 1
    steps = (1,) * operation.rank if thin else strides
    padding = "valid"
    if any(sum(pair) for pair in pads):
        if is_same(sizes, operation.kernel_size, steps, dilation, pads, fixed=not site.shared):
            padding = "same"
        else:
            x = padded_map(site, x, pads)
    common = {
        "kernel_size": list(operation.kernel_size),
        "strides": list(steps),
        "padding": padding,
        "data_format": "channels_last",
        "dilation_rate": list(dilation),
        "activation": "linear",
        "use_bias": operation.use_bias,
    }
    bias = {"bias": site.arrays["bias"]} if operation.use_bias else {}
    full = site.shape if not thin else (*site.shape[:2], *_dense_sizes(site, operation, pads, sizes))
    # TensorFlow's depthwise convolution has one stride for both axes.
    depthwise = operation.groups > 1 and kernel.shape[-2] == 1 and operation.rank < 3 and len(set(steps)) == 1
    if depthwise:
        multiplier = operation.filters // operation.groups
        taps = kernel.reshape(*kernel.shape[:-2], operation.groups, multiplier)
        kind, config = f"DepthwiseConv{operation.rank}D", {"depth_multiplier": multiplier, **common}
        result = site.layer(kind, x, config, {"kernel": taps, **bias}, shape=full)
    else:
        config = {"filters": operation.filters, "groups": operation.groups, **common}
        result = site.layer(f"Conv{operation.rank}D", x, config, {"kernel": kernel, **bias}, shape=full)
    if not thin:
        return result
    key = [slice(None), *(slice(None, None, stride) for stride in strides), slice(None)]
    return site.operate("GetItem", [result, key], axes=result.axes, name="_strided")


def _dense_sizes(site: CallSite, operation: Convolution, pads: Pads, sizes: Shape) -> list[int | None]:
    """The sizes of the output at a stride of one."""
    geometry = zip(sizes, operation.kernel_size, operation.dilation, pads, strict=True)
    return [None if size is None else size + sum(pair) - (k - 1) * d for size, k, d, pair in geometry]


@reference(TransposedConvolution)
def _transposed(site: CallSite) -> Value:
    operation = cast(TransposedConvolution, site.operation)
    x = site.map()
    if max(operation.strides) > 1 and max(operation.dilation) > 1:
        raise UnsupportedLayerError("Keras has no transposed convolution with strides and dilation at once")
    rank, groups = operation.rank, operation.groups
    extents = [(k - 1) * d + 1 for k, d in zip(operation.kernel_size, operation.dilation, strict=True)]
    extra = operation.output_padding or (0,) * rank
    axes = list(zip(operation.strides, extents, operation.edges, extra, strict=True))
    # With ke taps in reach the full result has (n - 1) s + ke positions; PyTorch keeps them from ``before`` on.
    grows = [extent - sum(pair) + more - stride for stride, extent, pair, more in axes]
    same = all(
        grow == 0 and max(extent - stride, 0) // 2 == pair[0]
        for grow, (stride, extent, pair, _) in zip(grows, axes, strict=True)
    )
    # What PyTorch adds behind the full result is zero, as Keras' own output_padding gives it.
    beyond = [max(more - pair[1], 0) for _, _, pair, more in axes]
    if not same and any(more >= stride for more, (stride, *_) in zip(beyond, axes, strict=True)):
        raise UnsupportedLayerError("Keras' output_padding must be less than the stride")
    config: dict[str, Any] = {
        "kernel_size": list(operation.kernel_size),
        "strides": list(operation.strides),
        "padding": "same" if same else "valid",
        "data_format": "channels_last",
        "dilation_rate": list(operation.dilation),
        "activation": "linear",
        "use_bias": operation.use_bias,
        "output_padding": list(beyond) if any(beyond) and not same else None,
    }
    if same:
        crop = [(0, 0)] * rank
    else:
        # How much longer Keras' result is than the full one: a ``valid`` result has n s positions at the least.
        spare = [0 if any(beyond) else max(stride - extent, 0) for stride, extent, _, _ in axes]
        crop = [(pair[0], long + max(pair[1] - more, 0)) for (_, _, pair, more), long in zip(axes, spare, strict=True)]
    sizes = [None if n is None else n + sum(pair) for n, pair in zip(site.shape[2:], crop, strict=True)]
    wide = (*site.shape[:2], *sizes)
    result = _in_groups(site, x, config, operation, wide, groups)
    return padded_map(site, result, [(-before, -after) for before, after in crop], "_crop")


def _in_groups(
    site: CallSite, x: Value, config: dict[str, Any], operation: TransposedConvolution, shape: Shape, groups: int
) -> Value:
    """The layer, or one layer a group of channels: Keras has no groups here."""
    kind = f"Conv{operation.rank}DTranspose"
    kernel = site.arrays["kernel"]
    bias = site.arrays["bias"] if operation.use_bias else None

    def arrays(part: NDArray[Any], place: slice) -> dict[str, NDArray[Any]]:
        return {"kernel": part, **({} if bias is None else {"bias": bias[place]})}

    if groups == 1:
        return site.layer(kind, x, {"filters": operation.filters, **config}, arrays(kernel, slice(None)), shape=shape)
    if groups > _MOST_GROUPS:
        raise UnsupportedLayerError(
            f"Keras has no groups in a transposed convolution, and {groups} layers are too many"
        )
    taken, made = kernel.shape[-1] // groups, operation.filters // groups
    parts: list[Value] = []
    for group in range(groups):
        key = [*[slice(None)] * (operation.rank + 1), slice(group * taken, (group + 1) * taken)]
        some = site.operate("GetItem", [x, key], shape=(x.shape[0], taken, *x.shape[2:]), axes=x.axes, name="_group")
        part = np.ascontiguousarray(kernel[..., group * taken : (group + 1) * taken])
        place = slice(group * made, (group + 1) * made)
        narrow = (shape[0], made, *shape[2:])
        settings = {"filters": made, **config}
        parts.append(site.layer(kind, some, settings, arrays(part, place), shape=narrow, name=f"_group_{group}"))
    return site.layer("Concatenate", parts, {"axis": -1}, shape=shape, name="_groups")
