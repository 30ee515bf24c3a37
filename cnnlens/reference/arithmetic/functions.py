"""Every activation function of Keras, as one table, and the ways in which a configuration names one.

A name may stand alone, in a dictionary, or as an activation layer inside another layer; and one name, ``hard_sigmoid``,
means two functions depending on which Keras wrote the file. All of that ends here, in an ``Activation``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import ACTIVATIONS, activation_named
from cnnlens.reference.arithmetic.special import erfc
from cnnlens.text import printable

__all__ = ["Activation", "activation_layer", "find_activation", "number_of", "parametric_activation"]

Array = NDArray[Any]
# Takes the input and the array to write into, which may be the input itself.
Function = Callable[[Array, Array], None]

_BLOCK = 1 << 14  # elements worked on at once: the temporaries of the longer formulas stay in the cache


@dataclass(frozen=True, slots=True)
class Activation:
    """Computes a function on arrays of any shape.

    Attributes:
        name: As Keras calls it.
        function: ``function(x, out)`` writes into ``out``, which may be ``x``. Dtype float32 or float64 on both.
        elementwise: Whether it may be applied to any piece of an array by itself.
        halved: The axis that comes out half as long (``glu``), or None.
    """

    name: str
    function: Function
    elementwise: bool = True
    halved: int | None = None

    def __call__(self, x: Array) -> Array:
        """Apply it to a fresh array, which is overwritten where shapes allow."""
        if self.halved is not None:
            return _glu(x, self.halved)
        self.write(x, x)
        return x

    def apply(self, x: Array) -> Array:
        """Apply it to somebody else's array, which stays as it is."""
        if self.halved is not None:
            return _glu(x, self.halved)
        out = np.empty(x.shape, x.dtype)
        self.write(x, out)
        return out

    def write(self, x: Array, out: Array) -> None:
        """Write ``function`` in blocks that fit in the cache, where it is elementwise and both are contiguous."""
        if not (self.elementwise and x.flags.c_contiguous and out.flags.c_contiguous):
            self.function(x, out)
            return
        flat, target = x.reshape(-1), out.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            self.function(flat[part], target[part])

    def shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Give the shape that comes out."""
        if self.halved is None:
            return shape
        axis = self.halved % len(shape)
        size = shape[axis]
        return (*shape[:axis], None if size is None else size // 2, *shape[axis + 1 :])


# --- the functions: constants are Python floats, which take the array's dtype ----------------------------------------


def _relu(x: Array, out: Array) -> None:
    np.maximum(x, 0, out=out)


def _clipped(min_value: float = -1.0, max_value: float = 1.0) -> Function:
    def function(x: Array, out: Array) -> None:
        np.maximum(x, min_value, out=out)
        np.minimum(out, max_value, out=out)

    return function


def _leaky(negative_slope: float) -> Function:
    def function(x: Array, out: Array) -> None:
        # Below a slope of one the larger of both branches is the right one; TensorFlow computes it so too.
        if negative_slope <= 1.0:
            np.maximum(x, x * negative_slope, out=out)
        else:
            out[...] = np.where(x > 0, x, x * negative_slope)

    return function


def general_relu(negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Function:
    """Keras' ReLU with all its arguments: ``min(x, max)`` above the threshold, ``slope (x - threshold)`` below."""
    if negative_slope == 0.0 and threshold == 0.0:
        return _relu if max_value is None else _clipped(0.0, max_value)
    if threshold == 0.0 and max_value is None:
        return _leaky(negative_slope)

    def function(x: Array, out: Array) -> None:
        # NaN must survive: ``x > threshold`` is false for it, and Keras' own ``where`` would turn it into zero.
        below = np.minimum(x - threshold, 0) * negative_slope if negative_slope else None
        kept = np.where(x <= threshold, x.dtype.type(0), x)
        np.maximum(kept, 0, out=out)
        if max_value is not None:
            np.minimum(out, max_value, out=out)
        if below is not None:
            np.add(out, below, out=out)

    return function


def _elu(alpha: float) -> Function:
    def function(x: Array, out: Array) -> None:
        negative = np.expm1(np.minimum(x, 0))
        negative *= alpha
        out[...] = np.where(x > 0, x, negative)

    return function


def _scaled_elu(alpha: float, scale: float = 1.0, input_scale: float = 1.0) -> Function:
    """PyTorch's: ``scale x`` above zero, ``scale alpha (exp(input_scale x) - 1)`` below."""
    if scale == 1 and input_scale == 1:
        return _elu(alpha)

    def function(x: Array, out: Array) -> None:
        negative = np.expm1(np.minimum(x, 0) * input_scale)
        negative *= alpha * scale
        out[...] = np.where(x > 0, x * scale, negative)

    return function


def _selu(x: Array, out: Array) -> None:
    _elu(1.6732632423543772848170429916717)(x, out)
    np.multiply(out, 1.0507009873554804934193349852946, out=out)


def _celu(alpha: float) -> Function:
    def function(x: Array, out: Array) -> None:
        negative = np.expm1(np.minimum(x, 0) / alpha)
        negative *= alpha
        np.add(np.maximum(x, 0), negative, out=out)

    return function


def _sigmoid(x: Array, out: Array) -> None:
    # exp of a negative number only: nothing overflows, and neither tail loses its small values.
    small = np.exp(-np.abs(x))
    np.divide(np.where(x >= 0, x.dtype.type(1), small), 1 + small, out=out)
    if np.isnan(small).any():
        np.copyto(out, x, where=np.isnan(x))


def _silu(x: Array, out: Array) -> None:
    gate = np.empty_like(x)
    _sigmoid(x, gate)
    # -inf * 0 is NaN in TensorFlow too.
    np.multiply(x, gate, out=out)


def _softplus(x: Array, out: Array) -> None:
    positive = np.maximum(x, 0)
    np.add(positive, np.log1p(np.exp(-np.abs(x))), out=out)


def _scaled_softplus(beta: float = 1.0, limit: float = np.inf) -> Function:
    """PyTorch's: ``log(1 + exp(beta x)) / beta``, and x itself where ``beta x`` is above ``limit``."""
    if (beta, limit) == (1.0, np.inf):
        return _softplus

    def function(x: Array, out: Array) -> None:
        soft = np.empty_like(x)
        _softplus(x * beta, soft)
        soft /= beta
        out[...] = np.where(x * beta > limit, x, soft)

    return function


def _log_sigmoid(x: Array, out: Array) -> None:
    _softplus(-x, out)
    np.negative(out, out=out)


def _gelu(x: Array, out: Array) -> None:
    # 1 + erf(x / sqrt 2), whose sum cancels for negative x.
    weight = erfc(x * -0.70710678118654752440)
    weight *= 0.5
    np.multiply(x, weight, out=out)


def _gelu_tanh(x: Array, out: Array) -> None:
    inner = x * x
    inner *= 0.044715
    inner += 1
    inner *= x
    inner *= 0.79788456080286535588
    # (1 + tanh(z)) / 2 is the sigmoid of 2 z, which does not cancel.
    inner *= 2
    weight = np.empty_like(x)
    _sigmoid(inner, weight)
    np.multiply(x, weight, out=out)


def _gelu_of(approximate: bool) -> Function:
    return _gelu_tanh if approximate else _gelu


def _mish(x: Array, out: Array) -> None:
    plus = np.empty_like(x)
    _softplus(x, plus)
    np.multiply(x, np.tanh(plus, out=plus), out=out)


def _hard_sigmoid(x: Array, out: Array) -> None:
    np.add(x, 3, out=out)
    _clipped(0.0, 6.0)(out, out)
    np.divide(out, 6, out=out)


def _hard_sigmoid_keras_2(x: Array, out: Array) -> None:
    np.multiply(x, 0.2, out=out)
    np.add(out, 0.5, out=out)
    _clipped(0.0, 1.0)(out, out)


def _hard_silu(x: Array, out: Array) -> None:
    gate = np.empty_like(x)
    _hard_sigmoid(x, gate)
    np.multiply(x, gate, out=out)


def _soft_shrink(threshold: float) -> Function:
    def function(x: Array, out: Array) -> None:
        # What is left of x beyond [-threshold, threshold]; NaN stays.
        np.subtract(x, np.clip(x, -threshold, threshold), out=out)

    return function


def _hard_shrink(threshold: float) -> Function:
    def function(x: Array, out: Array) -> None:
        out[...] = np.where(np.abs(x) <= threshold, x.dtype.type(0), x)

    return function


def _sparse_plus(x: Array, out: Array) -> None:
    out[...] = np.where(x <= -1, x.dtype.type(0), np.where(x < 1, np.square(x + 1) / 4, x))


def _sparse_sigmoid(x: Array, out: Array) -> None:
    _clipped(0.0, 1.0)((x + 1) / 2, out)


def _squareplus(b: float) -> Function:
    def function(x: Array, out: Array) -> None:
        np.divide(x + np.sqrt(x * x + b), 2, out=out)

    return function


def _softsign(x: Array, out: Array) -> None:
    np.divide(x, 1 + np.abs(x), out=out)


def _tanh(x: Array, out: Array) -> None:
    np.tanh(x, out=out)


# x - tanh(x) over x^3, in powers of x^2: terms of tanh's series with their signs turned (DLMF 4.33.3).
_SHRINK = (1 / 3, -2 / 15, 17 / 315, -62 / 2835, 1382 / 155925, -21844 / 6081075, 929569 / 638512875,
           -6404582 / 10854718875)  # fmt: skip


def _tanh_shrink(x: Array, out: Array) -> None:
    square = np.minimum(x * x, x.dtype.type(0.04))
    series = np.full_like(x, _SHRINK[-1])
    for coefficient in _SHRINK[-2::-1]:
        series *= square
        series += x.dtype.type(coefficient)
    # The difference cancels near 0.
    out[...] = np.where(np.abs(x) < 0.2, series * square * x, x - np.tanh(x))


def _exponential(x: Array, out: Array) -> None:
    np.exp(x, out=out)


def _linear(x: Array, out: Array) -> None:
    if out is not x:
        np.copyto(out, x)


def _threshold(threshold: float, default_value: float) -> Function:
    def function(x: Array, out: Array) -> None:
        out[...] = np.where(x <= threshold, x.dtype.type(default_value), x)

    return function


def softmax(x: Array, out: Array, axis: int | tuple[int, ...] = -1) -> None:
    """Softmax over one axis or several."""
    np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
    np.exp(out, out=out)
    np.divide(out, out.sum(axis=axis, keepdims=True), out=out)


def log_softmax(x: Array, out: Array, axis: int | tuple[int, ...] = -1) -> None:
    """Logarithm of softmax over one axis or several."""
    np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
    np.subtract(out, np.log(np.exp(out).sum(axis=axis, keepdims=True)), out=out)


def sparsemax(x: Array, out: Array, axis: int = -1) -> None:
    """Keras' sparsemax, which is not quite the projection on the simplex of Martins and Astudillo (2016).

    Every backend of Keras 3 (seen in 3.15.1) adds up the running totals of the support where the paper takes the last
    one, so its results need not sum to one. What a model computes is what Keras computes.
    """
    ordered = -np.sort(-x, axis=axis)
    total = np.cumsum(ordered, axis=axis)
    shape = [1] * x.ndim
    shape[axis] = -1
    rank = np.arange(1, x.shape[axis] + 1, dtype=x.dtype).reshape(shape)
    support = ordered - (total - 1) / rank > 0
    count = support.sum(axis=axis, keepdims=True, dtype=x.dtype)
    threshold = (np.where(support, total, x.dtype.type(0)).sum(axis=axis, keepdims=True) - 1) / count
    np.maximum(x - threshold, 0, out=out)
    out[np.broadcast_to(np.isnan(x).any(axis=axis, keepdims=True), out.shape)] = np.nan


def _glu(x: Array, axis: int) -> Array:
    value, gate = np.split(x, 2, axis=axis)
    out = np.empty(value.shape, x.dtype)
    _sigmoid(gate, out)
    np.multiply(value, out, out=out)
    return out


_PLAIN: dict[str, Function] = {
    "exponential": _exponential, "hard_sigmoid": _hard_sigmoid, "hard_silu": _hard_silu, "log_sigmoid": _log_sigmoid,
    "mish": _mish, "relu": _relu, "relu6": _clipped(0.0, 6.0), "selu": _selu, "sigmoid": _sigmoid, "silu": _silu,
    "softsign": _softsign, "sparse_plus": _sparse_plus, "sparse_sigmoid": _sparse_sigmoid, "tanh": _tanh,
    "tanh_shrink": _tanh_shrink,
}  # fmt: skip
# Made with settings, by their names; what is not stated is as the table of kinds has it.
_SETTABLE: dict[str, Callable[..., Function]] = {
    "celu": _celu, "elu": _scaled_elu, "gelu": _gelu_of, "general_relu": general_relu, "hard_shrink": _hard_shrink,
    "hard_tanh": _clipped, "leaky_relu": _leaky, "scaled_softplus": _scaled_softplus, "soft_shrink": _soft_shrink,
    "softplus": _scaled_softplus, "squareplus": _squareplus, "threshold": _threshold,
}  # fmt: skip
_WHOLE_AXIS: dict[str, Function] = {"softmax": softmax, "log_softmax": log_softmax, "sparsemax": sparsemax}


def named_activation(name: str, keras_version: tuple[int, ...]) -> Activation | None:
    """The activation of this name; None for ``linear``."""
    name = activation_named(name)
    if name == "linear":
        return None
    if name == "hard_sigmoid" and keras_version and keras_version[0] < 3:
        return Activation(name, _hard_sigmoid_keras_2)
    if name not in ACTIVATIONS or name == "threshold":  # whose settings have no defaults
        raise UnsupportedLayerError(f"the activation '{printable(name)}' is not one of Keras' own")
    # Of all settings this alone has another default in keras.activations than in keras.ops.
    return parametric_activation(name, {"approximate": False} if name == "gelu" else {})


def find_activation(spec: Any, keras_version: tuple[int, ...]) -> Activation | None:
    """Find the activation that a configuration entry names; None where it is the identity.

    ``spec`` is None, a name, ``{"class_name": "function", "config": name}`` or a serialised activation layer.
    """
    if spec is None:
        return None
    if isinstance(spec, str):
        return named_activation(spec, keras_version)
    if isinstance(spec, Mapping):
        entry = cast("Mapping[str, Any]", spec)
        kind, config = entry.get("class_name"), entry.get("config")
        if isinstance(config, str) and kind in ("function", None):
            return named_activation(config, keras_version)
        if isinstance(kind, str) and isinstance(config, Mapping):
            if kind == "Activation":
                return find_activation(cast("Mapping[str, Any]", config).get("activation"), keras_version)
            return activation_layer(kind, cast("Mapping[str, Any]", config))
    raise UnsupportedLayerError(f"the activation {printable(cast('Any', spec))} is not one of Keras' own")


def number_of(config: Mapping[str, Any], *names: str, default: float | None) -> float | None:
    """Read the first of ``names`` that the configuration has; one-element arrays and ``{"value": x}`` unwrapped."""
    for name in names:
        value = config.get(name)
        if isinstance(value, Mapping):
            inner = cast("Mapping[str, Any]", value)
            value = inner.get("value", inner.get("config"))
            if isinstance(value, Mapping):
                value = cast("Mapping[str, Any]", value).get("value")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if value is not None:
            raise UnsupportedLayerError(f"{name} must be a number, not {printable(value)}")
    return default


def activation_layer(kind: str, config: Mapping[str, Any]) -> Activation:
    """Build the function of an activation layer that has no weights; Keras 2's and Keras 3's argument names."""
    if kind == "ReLU":
        slope = number_of(config, "negative_slope", default=0.0)
        threshold = number_of(config, "threshold", default=0.0)
        function = general_relu(slope or 0.0, number_of(config, "max_value", default=None), threshold or 0.0)
        return Activation("relu", function)
    if kind == "LeakyReLU":
        # Keras 2 says alpha, Keras 3 negative_slope; 0.3 in both where absent.
        return Activation(
            "leaky_relu", _leaky(cast("float", number_of(config, "negative_slope", "alpha", default=0.3)))
        )
    if kind == "ELU":
        return Activation("elu", _elu(cast("float", number_of(config, "alpha", default=1.0))))
    if kind == "ThresholdedReLU":
        return Activation("thresholded_relu", _threshold(cast("float", number_of(config, "theta", default=1.0)), 0.0))
    if kind == "Softmax":
        axis = _axis(config)
        if isinstance(axis, list | tuple):
            axes = tuple(int(item) for item in cast("Sequence[Any]", axis))
            return Activation("softmax", partial(softmax, axis=axes), elementwise=False)
        return Activation("softmax", partial(softmax, axis=int(axis)), elementwise=False)
    raise UnsupportedLayerError(f"a layer of kind {printable(kind)} as an activation is not supported")


def _axis(settings: Mapping[str, Any]) -> Any:
    axis = settings.get("axis", -1)
    if axis is None:
        raise UnsupportedLayerError("it goes over all values of the batch at once (axis=None)")
    return axis


def parametric_activation(name: str, settings: Mapping[str, Any]) -> Activation:
    """Build an activation of ``keras.ops`` with the settings of its configuration."""
    if name in _SETTABLE:
        build = _SETTABLE[name]
        known = {**ACTIVATIONS[name].settings, **settings} if name in ACTIVATIONS else settings
        wanted = inspect.signature(build).parameters
        lacking = [key for key, one in wanted.items() if one.default is one.empty and key not in known]
        if lacking:
            raise UnsupportedLayerError(f"{name} needs a {lacking[0]}")
        return Activation(name, build(**{key: value for key, value in known.items() if key in wanted}))
    axis = _axis(settings)
    if name == "glu":
        return Activation(name, _linear, elementwise=False, halved=int(axis))
    if name in _WHOLE_AXIS:
        axes = tuple(cast("list[int]", axis)) if isinstance(axis, list) else axis
        return Activation(name, partial(cast("Any", _WHOLE_AXIS[name]), axis=axes), elementwise=False)
    return Activation(name, _PLAIN[name])
