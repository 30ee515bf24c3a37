"""Activations that stand as layers of their own, and the layers that do nothing at inference.

The functions are in ``functions.py``; here they get shapes and, for PReLU, weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import LAYERS
from cnnlens.network.masks import unequal
from cnnlens.reference.arithmetic.functions import Activation, activation_layer, find_activation, number_of
from cnnlens.reference.operation import Array, Operation, Shape, Weights, register

__all__ = ["ActivationLayer", "Identity", "Masking", "PReLU"]


@register("Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax")
class ActivationLayer(Operation):
    """Computes an activation function as a layer."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.activation: Activation | None = (
            find_activation(config.get("activation"), keras_version)
            if kind == "Activation"
            else activation_layer(kind, config)
        )

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        return shape if self.activation is None else self.activation.shape(shape)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        mask = kwargs.get("mask") if self.kind == "Softmax" else None
        if mask is not None:
            # Keras sets what is masked to -1e9, and then to zero: a row without anything else is zero.
            x = np.where(_beside(mask, x), x, x.dtype.type(-1e9))
        made = x if self.activation is None else self.activation.apply(x)
        return made if mask is None else np.where(_beside(mask, made), made, made.dtype.type(0))


def _beside(mask: Array, x: Array) -> Array:
    fits = mask.ndim == x.ndim and all(own in (1, size) for own, size in zip(mask.shape, x.shape, strict=True))
    if not fits:
        raise UnsupportedLayerError(f"a mask for its input {x.shape} is known, and one of shape {mask.shape} came")
    return np.asarray(mask != 0)


@register("PReLU")
class PReLU(Operation):
    """Computes ``x`` above zero, ``alpha x`` below; alpha has the input's shape without batch, or 1 on shared axes."""

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        out = np.minimum(x, 0)
        out *= weights["alpha"]
        # relu(x) - alpha relu(-x): one of both is zero, so the sum is exact.
        out += np.maximum(x, 0)
        return out


@register("Identity", "ActivityRegularization", *(row.name for row in LAYERS if row.training_only))
class Identity(Operation):
    """Passes on the very same array: for layers that act in training alone."""

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        return args[0]


@register("Masking")
class Masking(Operation):
    """Makes time steps zero whose every feature equals ``mask_value``; the mask itself goes its own way."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.value = number_of(config, "mask_value", default=0.0) or 0.0

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        keep = np.any(unequal(x, self.value), axis=-1, keepdims=True)
        return np.where(keep, x, x.dtype.type(0))
