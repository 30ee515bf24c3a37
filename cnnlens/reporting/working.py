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
from cnnlens.reference.arithmetic.functions import Activation, find_activation
from cnnlens.reference.keras.activations import ActivationLayer
from cnnlens.reference.keras.convolution import Convolution, DepthwiseConvolution, TransposedConvolution
from cnnlens.reference.keras.dense import Dense
from cnnlens.reference.keras.merging import Merge
from cnnlens.reference.keras.normalization import BatchNormalization
from cnnlens.reference.keras.pooling import Pooling
from cnnlens.reference.operation import Operation
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
        ``how`` (``convolution``, ``transposed``, ``maximum``, ``mean``, ``dense``, ``normalisation``, ``activation``,
        ``sum``), ``of``, the tensor that it takes (of a sum the list of them), ``axes``: ``taps``, ``stride``, ``gap``
        and ``before`` of its windows on each; ``groups``; ``kernel`` and ``bias``, or ``gamma``, ``beta``,
        ``moving_mean`` and ``moving_variance``: the places of its arrays among the layer's weights; ``epsilon``;
        ``flatten``: ``(*spatial, C)`` where that tensor is flat in that order and the canonical kernel's inputs are in
        the order ``(C, *spatial)``; ``activation``, and whether the page has its formula.
    """
    refs = list(find_refs((call.args, dict(call.kwargs))))
    if not refs or call.masks:
        return None
    operation, shapes = call.layer.operation, {network.canonical_shape(ref) for ref in refs}
    if isinstance(operation, Merge) and operation.kind == "Add" and len(shapes) == 1:
        return {"how": "sum", "of": [ref.name for ref in refs], "axes": []}
    if len(refs) > 1:
        return None
    taken = maps[refs[0].name].shape if refs[0].name in maps else network.canonical_shape(refs[0])
    if taken is None or None in taken[2:]:
        return None
    found = _working(call, operation, tuple(size for size in taken[2:] if size is not None))
    return None if found is None else {"of": refs[0].name, **found}


def _working(call: Call, operation: Operation, sizes: tuple[int, ...]) -> dict[str, Any] | None:
    layer = call.layer
    windows = [
        {"taps": one.taps, "stride": one.stride, "gap": one.gap, "before": one.before}
        for one in windows_of(operation, sizes) or ()
    ]
    if isinstance(operation, Pooling):
        plain = operation.maximum or (operation.divisor is None and not operation.counts_padding)
        return {"how": "maximum" if operation.maximum else "mean", "axes": windows} if plain else None
    if isinstance(operation, (ActivationLayer, BatchNormalization)):
        alone = [{"taps": 1, "stride": 1, "gap": 1, "before": 0} for _ in sizes]
        if isinstance(operation, ActivationLayer):
            return {"how": "activation", "axes": alone, "activation": _activation(call, operation)}
        return _normalisation(call, operation, alone)
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
        "activation": _activation(call, operation),
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


def _place(layer: Layer, wanted: NDArray[Any], role: str | None = None) -> int | None:
    """Which of the layer's arrays this one is, number for number; of equal ones that of the role."""
    for place, weight in sorted(enumerate(layer.stored.values()), key=lambda one: one[1].role != role):
        fits = weight.canonical_shape == wanted.shape
        if fits and np.array_equal(real(weight.canonical()), wanted, equal_nan=True):
            return place
    return None


def _normalisation(call: Call, operation: BatchNormalization, axes: list[dict[str, int]]) -> dict[str, Any] | None:
    """How a batch norm of channels computes a number."""
    arrays = call.layer.computing_weights()
    roles = ["moving_mean", "moving_variance", *["gamma"] * operation.scale, *["beta"] * operation.center]
    places = {role: _place(call.layer, arrays[role], role) for role in roles}
    if None in places.values() or not _is_channel(call, operation.axis):
        return None
    return {"how": "normalisation", "axes": axes, "epsilon": operation.epsilon, "gamma": None, "beta": None, **places}


def _is_channel(call: Call, axis: Any) -> bool:
    """Whether an axis of a call's output is that of its channels."""
    rank = len(call.shapes[0] or ())
    channel = rank - 1 if call.channel_axis != 1 and rank > 2 else 1
    return isinstance(axis, int) and -rank <= axis < rank and axis % rank == channel


def _activation(call: Call, operation: Operation) -> dict[str, Any] | None:
    activation: Activation | None = getattr(operation, "activation", None)
    if activation is None:
        return None
    name = activation.name
    if activation.elementwise:
        default = find_activation(name, (3,)) if name in _IN_PAGE else None
        plain = default is not None and default.function is activation.function
        plain |= name == "elu" and operation.config.get("activation") == "elu" and "alpha" not in operation.config
    else:
        keywords: Mapping[str, Any] = getattr(activation.function, "keywords", {})
        plain = name == "softmax" and _is_channel(call, keywords.get("axis"))
    return {"name": name, "in_page": plain}


def field_said(fields: Fields) -> dict[str, Any] | str:
    """Say a receptive field as data: by input what is seen on each axis (``docs/json.md``), or why it is not known."""
    if isinstance(fields, str):
        return fields
    return {
        name: [_axis_said(first, last) for first, last in zip(field.first, field.last, strict=True)]
        for name, field in fields.items()
    }


def _axis_said(first: NDArray[np.int64], last: NDArray[np.int64]) -> dict[str, Any]:
    """``size``, ``stride`` and ``offset`` where these say it all, as far as the input reaches; else every position."""
    if (first == first[0]).all() and (last == last[0]).all():
        first, last = first[:1], last[:1]
    seen = last >= first
    edge = int(last.max())
    inner = np.flatnonzero((first > 0) & (last < edge) & seen)
    if len(inner) > 1 and seen.all():
        place = inner[0]
        stride, size = int(first[inner[1]] - first[place]), int(last[place] - first[place]) + 1
        offset = int(first[place] - stride * place)
        begin = offset + stride * np.arange(len(first))
        ends = np.maximum(begin, 0), np.minimum(begin + size - 1, edge)
        if inner[1] == place + 1 and (ends[0] == first).all() and (ends[1] == last).all():
            return {"size": size, "stride": stride, "offset": offset, "edge": edge}
    return {"first": np.where(seen, first, 0).tolist(), "last": np.where(seen, last, -1).tolist()}
