"""Normalisation layers at inference, and the constant scalings in front of a network.

A normalisation is one multiplication and one addition a value. Scale and shift are made first, in the run's dtype, as
TensorFlow does, then applied in blocks so that the array crosses the memory once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.operation import Array, Operation, Shape, Weights, normalise_axis, register, whole

__all__ = ["BatchNormalization", "GroupNormalization", "LayerNormalization", "Normalization", "Rescaling"]

_BLOCK = 1 << 15  # elements
_KERAS_EPSILON = 1e-7


def axes_of(value: Any, what: str = "axis") -> tuple[int, ...]:
    """An axis or a list of axes as a tuple of whole numbers."""
    items = list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else [value]
    return tuple(whole(item, what) for item in items)


def affine(x: Array, scale: Array, shift: Array | None, axis: int) -> Array:
    """``x * scale + shift`` along one axis of ``x``; ``scale`` and ``shift`` have one value a place on that axis."""
    out = np.empty(x.shape, x.dtype)
    source = np.ascontiguousarray(x)
    length, inner = x.shape[axis], int(np.prod(x.shape[axis + 1 :]))
    if scale.shape != (length,) or (shift is not None and shift.shape != (length,)):
        raise ValueError(f"{length} values were expected, one a place on axis {axis}; {scale.size} came")
    if inner == 1:
        # Rows of channels: lay the vectors out several times, or the inner loop is as short as the channels are few.
        rows = source.size // max(length, 1)
        repeat = next((n for n in (64, 32, 16, 8, 4, 2) if rows % n == 0 and length * n <= 1 << 12), 1)
        scale = np.tile(scale, repeat)
        shift = None if shift is None else np.tile(shift, repeat)
        wide, target = source.reshape(-1, length * repeat), out.reshape(-1, length * repeat)
    else:
        wide, target = source.reshape(-1, length, inner), out.reshape(-1, length, inner)
        scale = scale[:, None]
        shift = None if shift is None else shift[:, None]
    step = max(_BLOCK // max(int(np.prod(wide.shape[1:])), 1), 1)
    for start in range(0, wide.shape[0], step):
        part = slice(start, start + step)
        np.multiply(wide[part], scale, out=target[part])
        if shift is not None:
            np.add(target[part], shift, out=target[part])
    return out


@register("BatchNormalization")
class BatchNormalization(Operation):
    """Computes ``(x - mean) gamma / sqrt(variance + epsilon) + beta`` on one axis, by stored statistics."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        axes = axes_of(config.get("axis", -1))
        if len(axes) != 1:
            raise self.refuse(f"only one axis is supported, not {list(axes)}")
        self.axis = axes[0]
        self.epsilon = float(config.get("epsilon", 1e-3))
        self.scale = bool(config.get("scale", True))
        self.center = bool(config.get("center", True))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        factor = 1 / np.sqrt(weights["moving_variance"] + self.epsilon)
        if self.scale:
            factor = factor * weights["gamma"]
        shift = -weights["moving_mean"] * factor
        if self.center:
            shift = weights["beta"] + shift
        return affine(x, factor, shift, normalise_axis(self.axis, x.ndim))


@register("LayerNormalization")
class LayerNormalization(Operation):
    """Makes mean 0 and variance 1 over ``axis`` of each example, then gamma and beta of those axes' shape."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.axes = axes_of(config.get("axis", -1))
        self.epsilon = float(config.get("epsilon", 1e-3))
        self.rms_scaling = bool(config.get("rms_scaling", False))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        axes = tuple(sorted(normalise_axis(axis, x.ndim) for axis in self.axes))
        shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
        gamma = weights["gamma"].reshape(shape) if "gamma" in weights else None
        beta = weights["beta"].reshape(shape) if "beta" in weights else None
        out = np.empty(x.shape, x.dtype)
        # Examples one by one where axis 0 is not normalised: the three passes then meet the cache.
        step = x.shape[0] if 0 in axes else max(_BLOCK * 4 // max(int(np.prod(x.shape[1:])), 1), 1)
        for start in range(0, x.shape[0], max(step, 1)):
            part, target = x[start : start + step], out[start : start + step]
            mean = part.mean(axis=axes, keepdims=True)
            np.subtract(part, mean, out=target)
            variance = np.square(target).mean(axis=axes, keepdims=True)
            factor = 1 / np.sqrt(variance + self.epsilon)
            if self.rms_scaling:
                # Keras' old flag scales by the variance about the mean, yet leaves the mean in place and adds no beta.
                np.multiply(part, factor, out=target)
            else:
                np.multiply(target, factor, out=target)
            if gamma is not None:
                np.multiply(target, gamma, out=target)
            if beta is not None and not self.rms_scaling:
                np.add(target, beta, out=target)
        return out


@register("GroupNormalization")
class GroupNormalization(Operation):
    """Makes mean 0 and variance 1 over each group of channels of an example; ``groups=-1``: each by itself."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.groups = whole(config.get("groups", 32), "groups")
        (self.axis,) = axes_of(config.get("axis", -1))
        self.epsilon = float(config.get("epsilon", 1e-3))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        axis = normalise_axis(self.axis, x.ndim)
        channels = x.shape[axis]
        groups = channels if self.groups == -1 else self.groups
        if groups < 1 or channels % groups:
            raise self.refuse(f"{channels} channels cannot be cut into {groups} groups")
        grouped = x.reshape(*x.shape[:axis], groups, channels // groups, *x.shape[axis + 1 :])
        axes = tuple(place for place in range(1, grouped.ndim) if place != axis)
        mean = grouped.mean(axis=axes, keepdims=True)
        centred = grouped - mean
        variance = np.square(centred).mean(axis=axes, keepdims=True)
        centred *= 1 / np.sqrt(variance + self.epsilon)
        out = centred.reshape(x.shape)
        shape = [1] * x.ndim
        shape[axis] = channels
        if "gamma" in weights:
            out *= weights["gamma"].reshape(shape)
        if "beta" in weights:
            out += weights["beta"].reshape(shape)
        return out


@register("RMSNormalization")
class RMSNormalization(Operation):
    """``x / sqrt(mean(x^2) + epsilon)`` over ``axis``, times a scale."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.axes = axes_of(config.get("axis", -1))
        self.epsilon = float(config.get("epsilon", 1e-6))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        axes = tuple(normalise_axis(axis, x.ndim) for axis in self.axes)
        out = x * (1 / np.sqrt(np.square(x).mean(axis=axes, keepdims=True) + self.epsilon))
        # Keras spreads the scale over the last axes, whatever ``axis`` says; PyTorch's may have none.
        if "scale" in weights:
            out *= weights["scale"]
        return out


@register("UnitNormalization")
class UnitNormalization(Operation):
    """``x`` over its Euclidean norm along ``axis``; nothing is divided by less than 1e-12 (squared norm)."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.axes = axes_of(config.get("axis", -1))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        axes = tuple(normalise_axis(axis, x.ndim) for axis in self.axes)
        squares = np.square(x).sum(axis=axes, keepdims=True)
        return x / np.sqrt(np.maximum(squares, x.dtype.type(1e-24)))


@register("Normalization")
class Normalization(Operation):
    """Computes ``(x - mean) / max(sqrt(variance), 1e-7)``, constants configured or learned by ``adapt``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        axis = config.get("axis", -1)
        self.axes = () if axis is None else axes_of(axis)
        self.invert = bool(config.get("invert", False))

    def _constant(self, weights: Weights, name: str, x: Array) -> Array:
        stated = self.config.get(name)
        value = weights[name] if stated is None else np.asarray(stated, x.dtype)
        axes = sorted(normalise_axis(axis, x.ndim) for axis in self.axes)
        shape = [size if place in axes else 1 for place, size in enumerate(x.shape)]
        return np.broadcast_to(value.astype(x.dtype), [x.shape[axis] for axis in axes] or ()).reshape(shape)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        mean = self._constant(weights, "mean", x)
        spread = np.maximum(np.sqrt(self._constant(weights, "variance", x)), x.dtype.type(_KERAS_EPSILON))
        return mean + x * spread if self.invert else (x - mean) / spread


def constant(value: Any, dtype: np.dtype[Any]) -> Array:
    """A number, a list, or an array as Keras serialises one (``{"class_name": "__numpy__", ...}``)."""
    if isinstance(value, Mapping):
        entry = cast("Mapping[str, Any]", value)
        inner = entry.get("config", entry)
        value = cast("Mapping[str, Any]", inner).get("value") if isinstance(inner, Mapping) else inner
    return np.asarray(value, dtype)


@register("Rescaling")
class Rescaling(Operation):
    """Computes ``x * scale + offset``, each a number or one a channel."""

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        scale = constant(self.config.get("scale", 1.0), x.dtype)
        offset = constant(self.config.get("offset", 0.0), x.dtype)
        return x * scale + offset


@register("LayerScale")
class LayerScale(Operation):
    """ConvNeXt's learned factor a channel (the last axis)."""

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        factor = weights["gamma"] if "gamma" in weights else next(iter(weights.values()))
        return affine(x, factor, None, x.ndim - 1)


@register("CustomScaleLayer")
class CustomScaleLayer(Operation):
    """Inception-ResNet's residual sum: ``inputs[0] + scale * inputs[1]``."""

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        return cast("Sequence[Shape]", args[0])[0]

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        first, second = cast("Sequence[Array]", args[0])
        out = second * float(self.config.get("scale", 1.0))
        out += first
        return out
