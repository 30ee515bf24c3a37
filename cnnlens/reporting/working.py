"""What a page needs to compute one number of a feature map anew: how the layer's windows lie, on what, and with what.

The page computes; how is read from the operation that the reference ran, and the arrays are those that it ran with, or
the page says why it computes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.network.graph import Call, Layer, find_refs
from cnnlens.network.network import Network
from cnnlens.network.weight import real
from cnnlens.reference.keras.convolution import Convolution, DepthwiseConvolution, TransposedConvolution
from cnnlens.reference.keras.dense import Dense
from cnnlens.reference.keras.pooling import Pooling
from cnnlens.reference.operation import LinearOperation, Operation
from cnnlens.reference.receptive import Fields
from cnnlens.reference.windows import windows_of

__all__ = ["field_said", "working_said"]

# Whose formula is in the page (arithmetic.js), with the settings that they have where nobody says others.
_IN_PAGE = ("elu", "exponential", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "tanh")


def working_said(network: Network, call: Call, maps: Mapping[str, NDArray[Any]]) -> dict[str, Any] | None:
    """Say how the page computes a number of this call's feature map; None of a kind that it does not compute.

    Args:
        network: The model.
        call: The layer's use.
        maps: The tensors that were computed, canonical, by name.

    Returns:
        ``how`` (``convolution``, ``transposed``, ``maximum``, ``mean``, ``dense``), ``of``, the tensor that it takes,
        ``axes``: ``taps``, ``stride``, ``gap`` and ``before`` of its windows on each; ``groups``; ``kernel`` and
        ``bias``: the places of its arrays among the layer's weights; ``flatten``: ``(*spatial, C)`` where that tensor
        is flat in that order and the canonical kernel's inputs are in the order ``(C, *spatial)``; ``activation``, and
        whether the page has its formula.
    """
    refs = list(find_refs((call.args, dict(call.kwargs))))
    if len(refs) != 1 or call.masks:
        return None
    taken = maps[refs[0].name].shape if refs[0].name in maps else network.canonical_shape(refs[0])
    if taken is None or None in taken[2:]:
        return None
    found = _working(call.layer, call.layer.operation, tuple(size for size in taken[2:] if size is not None))
    return None if found is None else {"of": refs[0].name, **found}


def _working(layer: Layer, operation: Operation, sizes: tuple[int, ...]) -> dict[str, Any] | None:
    windows = [
        {"taps": one.taps, "stride": one.stride, "gap": one.gap, "before": one.before}
        for one in windows_of(operation, sizes) or ()
    ]
    if isinstance(operation, Pooling):
        plain = operation.maximum or (operation.divisor is None and not operation.counts_padding)
        return {"how": "maximum" if operation.maximum else "mean", "axes": windows} if plain else None
    if isinstance(operation, (Convolution, DepthwiseConvolution, TransposedConvolution)):
        how = "transposed" if isinstance(operation, TransposedConvolution) else "convolution"
    elif isinstance(operation, Dense) and not sizes:
        how = "dense"
    else:
        return None
    arrays = layer.computing_weights()
    kernel = arrays["kernel"] if "kernel" in arrays else arrays["depthwise_kernel"]
    groups = getattr(operation, "groups", kernel.shape[-2] if isinstance(operation, DepthwiseConvolution) else 1)
    wanted = _canonical(kernel, operation, groups)
    place, flatten = _place(layer, wanted), None
    if (
        place is None and how == "dense"
    ):  # behind a Flatten of (H, W, C), whose order the kernel's canonical form has not
        flatten = next((one.geometry.flatten for one in layer.stored.values() if one.is_kernel), None)
        if flatten is not None and math.prod(flatten) == wanted.shape[1]:
            place = _place(layer, np.moveaxis(wanted.reshape(-1, *flatten), -1, 1).reshape(wanted.shape))
    biased = bool(getattr(operation, "use_bias", False))
    bias = _place(layer, arrays["bias"]) if biased else None
    if place is None or (biased and bias is None):  # the file has them in another form, such as a few bits a number
        return None
    return {
        "how": how,
        "axes": windows,
        "groups": groups,
        "kernel": place,
        "bias": bias,
        "flatten": None if flatten is None else list(flatten),
        "activation": _activation(operation),
    }


def _canonical(kernel: NDArray[Any], operation: Operation, groups: int) -> NDArray[Any]:
    """The kernel that an operation computes with, in canonical axes ``(out, in / groups, *spatial)``."""
    spatial = kernel.shape[:-2]
    if isinstance(operation, DepthwiseConvolution):
        return np.moveaxis(kernel.reshape(*spatial, 1, -1), (-1, -2), (0, 1))
    if isinstance(operation, TransposedConvolution):
        each = kernel.reshape(*spatial, kernel.shape[-2], groups, -1)  # (*spatial, out / groups, groups, in / groups)
        return np.moveaxis(each, (-2, -3, -1), (0, 1, 2)).reshape(-1, kernel.shape[-1] // groups, *spatial)
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _place(layer: Layer, wanted: NDArray[Any]) -> int | None:
    """Which of the layer's arrays this one is, number for number."""
    for place, weight in enumerate(layer.stored.values()):
        if math.prod(weight.canonical_shape) == wanted.size and weight.canonical_shape == wanted.shape:
            if np.array_equal(real(weight.canonical()), wanted, equal_nan=True):
                return place
    return None


def _activation(operation: LinearOperation | Operation) -> dict[str, Any] | None:
    activation = getattr(operation, "activation", None)
    if activation is None:
        return None
    plain = activation.name in _IN_PAGE and isinstance(operation.config.get("activation"), str)
    last = activation.elementwise or not getattr(operation, "channels_first", False)
    return {"name": activation.name, "in_page": plain and last}


def field_said(fields: Fields) -> dict[str, Any] | str | None:
    """Say a receptive field as data: by input the first and the last cell on each axis; the reason where unknown."""
    if isinstance(fields, str):
        return fields
    return {
        name: [_ends(first, last) for first, last in zip(field.first, field.last, strict=True)]
        for name, field in fields.items()
    }


def _ends(first: NDArray[np.int64], last: NDArray[np.int64]) -> Mapping[str, list[int]]:
    return {"first": np.where(last < first, 0, first).tolist(), "last": np.where(last < first, -1, last).tolist()}
