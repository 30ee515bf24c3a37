"""How far rounding noise in front of an activation moves what comes out of it.

A scale of noise ``spread`` at the pre-activation ``z`` becomes a scale at ``y = f(z)``: the slope times it, the
rounding of ``y`` itself, and what an honest float32 implementation of ``f`` loses inside, where its formula cancels.
Without the last a correct ``gelu`` would be blamed for its small values; the entries were measured on TensorFlow, JAX
and PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.formats import Format
from cnnlens.checking.noise.nonfinite import ANYTHING
from cnnlens.checking.noise.summation import rounded_alike
from cnnlens.kinds import ACTIVATIONS
from cnnlens.reference.arithmetic.functions import Activation

__all__ = ["inner_loss", "propagate", "rounds_steps", "softmax_axis", "steps_lean", "steps_loss"]

Array = NDArray[Any]

# Finite differences: near a kink or a jump both branches are within the noise of float32, so either may be taken.
_NEAR = 2.0**-20
# Close to a kink a lower precision may still cross it; seen at a sixteenth of its weight it keeps those ratios finite.
_FAR, _FAR_WEIGHT = 2.0**-5, 2.0**-2

# Float32's smallest normal number in units of eps, where 2^-20 of a scale is what an error may be.
_FLUSHED = 2.0**-106
_SQUARE = 2.0**62  # what float32 can square

# What a plain float32 formula loses besides the rounding of its argument and of its result, in units of eps, by name.
_INNER_LOSS: dict[str, Callable[[Array], Array]] = {
    # exp(x) - 1 where TensorFlow has no expm1; positive numbers are handed on as they are.
    "celu": lambda x: np.where(x > 0, 0.0, np.exp(np.minimum(x, 0))),
    "elu": lambda x: np.where(x > 0, 0.0, np.exp(np.minimum(x, 0))),
    "selu": lambda x: np.where(x > 0, 0.0, 1.76 * np.exp(np.minimum(x, 0))),
    # x (1 + erf(x / sqrt 2)) / 2 and its tanh twin: the sum cancels for negative x.
    "gelu": lambda x: 0.5 * np.abs(x),
    # (x + 3) / 6 cancels around -3.
    "hard_sigmoid": lambda x: np.where(np.abs(x) < 4, 0.5, 0.0),
    "hard_silu": lambda x: np.where(np.abs(x) < 4, 0.5 * np.abs(x), 0.0),
    # x times a gate that is below float32's normal numbers, and zero where those are flushed.
    "silu": lambda x: np.abs(x) * _FLUSHED,
    # oneDNN (TensorFlow's graphs) computes x (1 - 2 / ((1 + exp(x))^2 + 1)), which cancels for negative x.
    "mish": lambda x: 0.5 * np.abs(x),
    "log_sigmoid": lambda x: np.exp(-np.abs(x)),
    "softplus": lambda x: np.exp(-np.abs(x)),
    # The logarithm of a sum that holds a 1, of which float32 has no part below 2^-24.
    "log_softmax": np.ones_like,
    "sparse_plus": lambda x: np.where(np.abs(x) < 1, 0.5 * np.abs(x + 1), 0.0),
    "sparse_sigmoid": lambda x: np.where(np.abs(x) < 1.1, 0.5, 0.0),
    # (x + sqrt(x^2 + b)) / 2 cancels for negative x, and float32 has not every square.
    "squareplus": lambda x: np.where(np.abs(x) < _SQUARE, np.abs(x), ANYTHING),
    "tanh_shrink": lambda x: np.abs(x),
}


def inner_loss(name: str, x: Array) -> Array | None:
    """Give the loss inside the activation called ``name``, at ``x``; None where there is none."""
    loss = _INNER_LOSS.get(name)
    return None if loss is None else loss(x)


_GATES = ("sigmoid", "silu")  # by 1 / (1 + exp(-x)), of which each step is rounded; exp may be infinite
_TENSORFLOW_SOFTPLUS = 7.389  # e^2 and this format's last bit: where exp(-|x|) is less, TensorFlow leaves it out


# These multiply by constants that a narrow format has not, such as a slope of 0.2, or subtract what is nearly as large.
_LEANING = ("celu", "elu", "hard_sigmoid", "hard_silu", "leaky_relu", "selu", "squareplus", "tanh_shrink")


def steps_lean(name: str) -> bool:
    """Tell whether rounding an activation's steps may move all its results, or those of one sign, by one factor."""
    return name in _LEANING


def rounds_steps(name: str) -> bool:
    """Tell whether ``steps_loss`` knows a loss of an activation's steps."""
    return name in _GATES or name in _INNER_LOSS


def steps_loss(activation: Activation, x: Array, y: Array, wanted: Format) -> Array | None:
    """Give the loss inside an activation each of whose steps is rounded to ``wanted``, in units of its last bit.

    Args:
        y: The result at ``x``.

    Returns:
        None where there is none. Measured on TensorFlow 2.21 without oneDNN, JAX 0.10 and PyTorch 2.13, at each number
        of both 16-bit formats between -12 and 12.
    """
    name, step = activation.name, 2.0**-wanted.mantissa
    if name in _GATES:
        return np.where(np.exp(-x) > wanted.largest, np.abs(y) / step, np.abs(y))
    loss = inner_loss(name, x)
    if loss is not None and name in ("softplus", "log_sigmoid"):
        return np.where(loss < _TENSORFLOW_SOFTPLUS * step, loss / step, loss)
    return loss


def propagate(activation: Activation | None, z: Array, spread: Array) -> tuple[Array, Array]:
    """Compute ``y = f(z)`` and the scale of its noise.

    Args:
        activation: ``f``; None for the identity.
        z: Float64, any shape; ``spread``: the scale of the noise in ``z``, of the same shape.

    Returns:
        ``y`` and its scale, both of the shape that comes out.
    """
    if activation is None:
        return z, spread
    if not activation.elementwise or activation.halved is not None:
        return _whole(activation, z, spread)
    y = activation.apply(z)
    step = spread * _NEAR
    slope = np.abs(activation.apply(z + step) - y)
    np.maximum(slope, np.abs(activation.apply(z - step) - y), out=slope)
    slope /= _NEAR
    scale = np.square(slope) + np.square(y)
    if activation.name not in ACTIVATIONS or not ACTIVATIONS[activation.name].smooth:
        step = spread * _FAR
        slope = np.abs(activation.apply(z + step) - y)
        np.maximum(slope, np.abs(activation.apply(z - step) - y), out=slope)
        slope *= _FAR_WEIGHT / _FAR
        scale += np.square(slope, out=slope)
    loss = inner_loss(activation.name, z)
    if loss is not None:
        scale += np.square(loss, out=loss)
    return y, np.sqrt(scale, out=scale)


def _whole(activation: Activation, z: Array, spread: Array) -> tuple[Array, Array]:
    """Activations that mix the elements of an axis."""
    y = activation.apply(z)
    axis = softmax_axis(activation)
    if axis is not None:
        # dy_i = y_i (dz_i - sum_j y_j dz_j); the exponential's argument z - max is rounded too.
        top = z.max(axis=axis, keepdims=True)
        none = np.isneginf(z)  # masked: none of the sum, whatever noise there is
        own = np.where(none, 0.0, np.square(spread) + np.square(z - top))
        share = y if activation.name == "softmax" else np.exp(y)
        terms = np.exp(z - top)

        def summed(x: Array) -> Array:
            return x.sum(axis=axis, keepdims=True)

        alike = np.square(rounded_alike(summed, terms, summed(terms)) / summed(terms))
        # An element's own part is (1 - y_i) dz_i: next to nothing where it has nearly all of the sum.
        parts = np.square(share) * own
        moved = np.square(1 - share) * own + np.maximum(summed(parts) - parts, 0) + alike
        if activation.name == "softmax":
            return y, np.abs(y) * np.sqrt(moved + 1)
        return y, np.sqrt(moved + np.where(none, 0.0, np.square(y)) + 1)
    generator = np.random.default_rng(0)
    total = np.square(y)
    draws = 8
    for _ in range(draws):
        signs = generator.integers(0, 2, z.shape, np.int8) * np.int8(2) - np.int8(1)
        moved = activation.apply(z + signs * (spread * _NEAR))
        total += np.square((moved - y) / _NEAR) / draws
    return y, np.sqrt(total)


def softmax_axis(activation: Activation) -> Any:
    """The axis or axes of a softmax or a log-softmax; None for anything else."""
    if activation.name not in ("softmax", "log_softmax"):
        return None
    keywords: dict[str, Any] = getattr(activation.function, "keywords", {})
    return keywords.get("axis", -1)
