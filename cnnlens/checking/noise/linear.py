"""Convolutions and dense layers in float64, with the scale of their rounding noise, under any arithmetic.

With inputs x, weights W and bias b the noise of a sum of products has the scale ``A = sqrt(W^2 (*) x^2 + b^2)``, the
same layer on squares. To it comes the sum itself, ``S^2 = A^2 + z^2``: where all terms have one sign, partial sums grow
to z and are rounded at that size. A separable convolution is two such layers, the first one's results being stored.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic
from cnnlens.checking.noise.summation import products_alike
from cnnlens.reference import build
from cnnlens.reference.keras.convolution import (
    Convolution,
    DepthwiseConvolution,
    SeparableConvolution,
    TransposedConvolution,
)
from cnnlens.reference.keras.dense import Dense, EinsumDense
from cnnlens.reference.operation import LinearOperation

__all__ = ["Product", "Stage", "fan_in", "product", "stages", "without_bias"]

Array = NDArray[Any]

_COLUMN_ELEMENTS = 1 << 23  # of a huge dense kernel that are wide at a time
_LOST = 1e-30  # a float32 sum of squares (of numbers up to one) below this has lost what made it


@dataclass(frozen=True)
class Stage:
    """Describes one linear part of a layer: its operation (without activation) and where its weights are."""

    operation: LinearOperation
    names: Mapping[str, str]

    def weights(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        return {role: weights[name] for role, name in self.names.items() if name in weights}


@dataclass(frozen=True)
class Product:
    """Holds a layer before its activation: ``value`` (with bias), ``spread`` (noise's scale), ``bias`` to add."""

    value: Array
    spread: Array
    bias: Array | None


def stages(operation: LinearOperation) -> list[Stage]:
    """List the linear parts of a layer, in order."""
    if not isinstance(operation, SeparableConvolution):
        plain = {"kernel": "kernel", "bias": "bias", "depthwise_kernel": "depthwise_kernel"}
        return [Stage(operation, plain)]
    rank = operation.rank
    shared = {"data_format": "channels_first" if operation.channels_first else "channels_last"}
    first = {
        **shared,
        "kernel_size": list(operation.kernel_size),
        "strides": list(operation.strides),
        "padding": operation.padding,
        "dilation_rate": list(operation.dilation),
        "depth_multiplier": operation.config.get("depth_multiplier", 1),
        "use_bias": False,
    }
    second = {**shared, "kernel_size": 1, "filters": operation.filters, "use_bias": operation.use_bias}
    made = [build(f"DepthwiseConv{rank}D", None, first), build(f"Conv{rank}D", None, second)]
    names = [{"kernel": "depthwise_kernel"}, {"kernel": "pointwise_kernel", "bias": "bias"}]
    return [Stage(cast("LinearOperation", one), name) for one, name in zip(made, names, strict=True)]


def fan_in(operation: LinearOperation, weights: Mapping[str, Array]) -> int:
    """Count the products that are added for an output (for a transposed convolution: at most)."""
    return sum(_fan_in(stage.operation, stage.weights(weights)) for stage in stages(operation))


def _fan_in(operation: LinearOperation, weights: Mapping[str, Array]) -> int:
    kernel = weights["kernel"] if "kernel" in weights else weights["depthwise_kernel"]
    if isinstance(operation, DepthwiseConvolution):
        return int(np.prod(kernel.shape[:-2]))
    if isinstance(operation, TransposedConvolution):
        return kernel.size // (kernel.shape[-2] * operation.groups)
    if isinstance(operation, EinsumDense):
        letters = operation.equation.replace("->", ",").split(",")[1].replace("...", "")
        return int(
            np.prod([n for letter, n in zip(letters, kernel.shape, strict=True) if letter not in operation.made])
        )
    return kernel.size // max(kernel.shape[-1], 1)


def winograd(operation: LinearOperation) -> bool:
    """Whether a fast algorithm that loses two or three bits may compute the layer."""
    return isinstance(operation, Convolution) and max(operation.kernel_size) > 1


def product(
    operation: LinearOperation,
    weights: Mapping[str, Array],
    x: Array,
    arithmetic: Arithmetic = EXACT,
    *,
    scale: bool = True,
) -> Product:
    """Compute the layer before its activation.

    Args:
        weights, x: Float64, or stored ones that are widened here.
        arithmetic: Operands are rounded as it says; results are the caller's to round (``Arithmetic.band``).
        scale: False leaves ``spread`` zero.
    """
    spread: Array | None = None
    result = Product(x, np.zeros(0), None)
    parts = stages(operation)
    for number, stage in enumerate(parts):
        result = _columns(stage.operation, stage.weights(weights), x, arithmetic, spread, scale)
        if number + 1 < len(parts):
            x, spread = arithmetic.result(result.value), result.spread
    return result


def _columns(
    operation: LinearOperation,
    weights: Mapping[str, Array],
    x: Array,
    arithmetic: Arithmetic,
    inherited: Array | None,
    scale: bool,
) -> Product:
    kernel = weights.get("kernel")
    if not isinstance(operation, Dense) or kernel is None or kernel.size <= 2 * _COLUMN_ELEMENTS:
        return _stage(operation, weights, x, arithmetic, inherited, scale)
    # A dense kernel of hundreds of megabytes: some columns at a time.
    step = max(_COLUMN_ELEMENTS // kernel.shape[0], 1)
    pieces: list[Product] = []
    for start in range(0, kernel.shape[1], step):
        some = {name: array[..., start : start + step] for name, array in weights.items()}
        part = copy.copy(operation)
        part.units = some["kernel"].shape[-1]
        pieces.append(_stage(part, some, x, arithmetic, inherited, scale))
    biases = [piece.bias for piece in pieces if piece.bias is not None]
    return Product(
        np.concatenate([piece.value for piece in pieces], axis=-1),
        np.concatenate([piece.spread for piece in pieces], axis=-1) if scale else np.zeros(0),
        np.concatenate(biases, axis=-1) if biases else None,
    )


def _stage(
    operation: LinearOperation,
    weights: Mapping[str, Array],
    x: Array,
    arithmetic: Arithmetic,
    inherited: Array | None,
    scale: bool,
) -> Product:
    exact = {name: np.ascontiguousarray(array, np.float64) for name, array in weights.items()}
    used = {
        name: arithmetic.weight(array) if name == "bias" else arithmetic.operand(array) for name, array in exact.items()
    }
    x = np.ascontiguousarray(x, np.float64)
    z = operation.linear(used, arithmetic.operand(x))
    bias = _broadcast_bias(operation, used["bias"]) if "bias" in used and _has_bias(operation) else None
    if not scale:
        return Product(z, np.zeros(0), bias)
    spread = np.square(_noise(operation, exact, x, z))
    if inherited is not None:
        silent = without_bias({name: np.square(array) for name, array in exact.items()})
        spread += operation.linear(silent, np.square(inherited))
    spread += np.square(z)
    kernel = next((name for name in exact if name != "bias"), None)
    if kernel is not None and len(exact) <= 2:
        silent = without_bias(exact)
        alike = products_alike(lambda one, two: operation.linear({**silent, kernel: one}, two), exact[kernel], x, z)
        spread += np.square(alike)
    return Product(z, np.sqrt(spread, out=spread), bias)


def _has_bias(operation: LinearOperation) -> bool:
    return bool(getattr(operation, "use_bias", True))


def _broadcast_bias(operation: LinearOperation, bias: Array) -> Array:
    if getattr(operation, "channels_first", False):
        return bias.reshape(-1, *(1,) * int(getattr(operation, "rank", 0)))
    return bias


def without_bias(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Give the same weights with a bias of zero."""
    return {name: np.zeros_like(array) if name == "bias" else array for name, array in weights.items()}


def _noise(operation: LinearOperation, weights: Mapping[str, Array], x: Array, z: Array) -> Array:
    """``sqrt(W^2 (*) x^2 + b^2)``: in float32 on numbers scaled to one, which is twice as fast and exact enough."""
    kernels = [np.abs(array).max(initial=0.0) for name, array in weights.items() if name != "bias"]
    top_w, top_x = max(kernels, default=0.0), float(np.abs(x).max(initial=0.0))
    unit = top_w * top_x
    if np.isfinite(unit) and unit > 0:
        scaled = {
            name: np.square(array / (unit if name == "bias" else top_w)).astype(np.float32)
            for name, array in weights.items()
        }
        with np.errstate(all="ignore"):
            squares = operation.linear(scaled, np.square((x / top_x).astype(np.float32)))
            low = squares < _LOST
            if np.isfinite(squares).all() and not (low.any() and np.any(z[low] != 0)):
                return np.sqrt(squares.astype(np.float64)) * unit
    return np.sqrt(operation.linear({name: np.square(array) for name, array in weights.items()}, np.square(x)))
