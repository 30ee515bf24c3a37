"""Constant scalings in front of a network and learned ones inside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.names import literal
from cnnlens.conversion.to_torch.rules.activations import applied, flat_vectors
from cnnlens.conversion.to_torch.value import Value, shown
from cnnlens.conversion.to_torch.weights import Entry, feature_order
from cnnlens.kinds import LAYERS, kind_of
from cnnlens.reference.keras.normalization import Normalization, constant
from cnnlens.reference.operation import normalise_axis

__all__ = ["constant_text", "numbers", "spread"]

Array = NDArray[Any]


def spread(x: Value, array: Array) -> Array:
    """Bring a constant that NumPy would spread over ``x`` in Keras' order to the axes as ``x`` has them."""
    full = array.reshape((1,) * (x.rank - array.ndim) + array.shape)
    if x.flat is not None:
        full = full if full.shape[1] == 1 else full[:, feature_order(x.flat)]
    turned = full.transpose(x.order)
    while turned.ndim and turned.shape[0] == 1:
        turned = turned[0]
    return np.ascontiguousarray(turned)


# Constants of more numbers than this are kept beside the weights rather than written down.
_WRITTEN = 64


def numbers(array: Array) -> str:
    """Turn an array into nested lists of numbers."""
    if array.ndim == 0:
        return literal(array.item())
    return f"[{', '.join(numbers(part) for part in array)}]"


def constant_text(site: CallSite, x: Value, array: Array, suffix: str) -> str:
    """Write a constant that is spread over ``x``: a number, a tensor written down, or a buffer."""
    if array.size == 1:
        return literal(array.reshape(()).item())
    turned = spread(x, array)
    if turned.size <= _WRITTEN:
        return site.let(f"{x.text}.new_tensor({numbers(turned)})", suffix)
    return site.buffer(turned.shape, Entry(lambda: turned, str(turned.dtype)), suffix=suffix)


def _constant(site: CallSite, x: Value, value: Any, suffix: str) -> str:
    return constant_text(site, x, constant(value, np.dtype(np.float64)), suffix)


@rule("Rescaling")
def rescaling(site: CallSite) -> Value:
    x = site.x if site.x.text.isidentifier() else site.x.new(site.let(site.x.text, "inner"))
    scale = _constant(site, x, site.config.get("scale", 1.0), "scale")
    offset = _constant(site, x, site.config.get("offset", 0.0), "offset")
    text = x.text if scale == "1.0" else f"{x.text} * {scale}"
    if offset.startswith("-") and offset != "-0.0":
        return x.new(f"{text} - {offset[1:]}")
    return x.new(text if offset in ("0.0", "-0.0") else f"{text} + {offset}")


@rule("Normalization")
def normalization(site: CallSite) -> Value:
    operation = cast("Normalization", site.operation)
    x = site.x
    axes = sorted(normalise_axis(axis, x.rank) for axis in operation.axes)
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.rank)]
    if any(size is None for size in shape):
        raise site.refuse("it normalises along axes whose sizes the file leaves open")

    wanted = cast("list[int]", shape)

    def change(array: Array) -> Array:
        kept = [wanted[axis] for axis in axes]
        return spread(x, np.broadcast_to(array, kept).reshape(wanted))

    if operation.config.get("mean") is not None:
        return _stated(site, x, operation, change)
    mean, variance = site.weights.entry("mean", change), site.weights.entry("variance", change)
    size = spread(x, np.zeros(wanted, np.int8)).shape
    helper = site.helper("Normalization")
    text = f"{helper}({shown(size) if size else '()'}{', invert=True' if operation.invert else ''})"
    comments = site.remark("normalization", "Keras' Normalization: the deviation is at least 1e-7.")
    module = site.module(text, {"mean": mean, "variance": variance}, comments=comments + flat_vectors(site, x))
    return x.new(f"{module}({x.text})")


def _stated(site: CallSite, x: Value, operation: Normalization, change: Callable[[Array], Array]) -> Value:
    """Mean and variance that stand in the configuration are written down."""
    x = x if x.text.isidentifier() else x.new(site.let(x.text, "inner"))
    mean, variance = (np.asarray(operation.config.get(role), np.float64) for role in ("mean", "variance"))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    texts: list[str] = []
    for role, array in (("mean", mean), ("deviation", deviation)):
        if array.size == 1:
            texts.append(literal(array.reshape(()).item()))
            continue
        turned = change(array)
        if turned.size <= _WRITTEN:
            texts.append(site.let(f"{x.text}.new_tensor({numbers(turned)})", role))
        else:
            texts.append(site.buffer(turned.shape, Entry(partial(np.asarray, turned), "float64"), suffix=role))
    if operation.invert:
        return x.new(f"{texts[0]} + {x.text} * {texts[1]}")
    return x.new(f"({x.text} - {texts[0]}) / {texts[1]}")


@rule(*(row.name for row in LAYERS if row.weights and row.torch))
def by_vectors(site: CallSite) -> Value:
    """Write the expression of the kind's row: its vectors are spread over the input as NumPy spreads them."""
    x, row = site.x, kind_of(site.kind)
    roles, wanted = site.weights.roles, row.weights or ()
    stored = wanted if set(wanted) <= set(roles) else roles[: len(wanted)]
    if len(stored) < len(wanted):
        raise site.refuse(f"it has {len(stored)} of the arrays {', '.join(wanted)}")
    vectors: dict[str, str] = {}
    for name, role in zip(wanted, stored, strict=True):
        turned = spread(x, np.zeros(site.weights.shape(role), np.int8)).shape
        entry = site.weights.entry(role, lambda array: spread(x, array))
        vectors[name] = site.parameter(turned, entry, suffix=name if len(stored) > 1 else "")
    return applied(site, x, lambda inner: row.torch.format(x=inner, **vectors))


@rule("CustomScaleLayer")
def custom_scale(site: CallSite) -> Value:
    from cnnlens.conversion.to_torch.rules.merging import alike_held

    first, second = alike_held(site.listed)
    scale = literal(float(site.config.get("scale", 1.0)))
    return first.new(f"{first.text} + {scale} * {second.text}")
