"""What a layer must give under an arithmetic, how far it may honestly be off, and how far a recording is.

This is the one place that turns a case into numbers to compare: the audit asks it about arithmetics, the search for
faults about changed weights, inputs, activations or operations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from cnnlens.checking.noise.arithmetic import EXACT, Arithmetic
from cnnlens.checking.noise.case import Array, Beside, Case, Picked, arrays_of, map_arrays, narrow, wide
from cnnlens.checking.noise.condition import scale_of
from cnnlens.checking.noise.formats import Format, to_format
from cnnlens.checking.noise.linear import fan_in, product, winograd
from cnnlens.checking.noise.nonfinite import ANYTHING, NEARLY, beside_infinity, smeared
from cnnlens.checking.noise.propagation import inner_loss, propagate, rounds_steps, softmax_axis, steps_lean, steps_loss
from cnnlens.checking.noise.steps import Stored
from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.keras.activations import ActivationLayer
from cnnlens.reference.keras.normalization import constant
from cnnlens.reference.operation import LinearOperation, Operation
from cnnlens.reference.stepwise import Stepwise

__all__ = [
    "FLOOR",
    "Prediction",
    "constant_off",
    "errors",
    "excused",
    "floor_of",
    "flushes",
    "gated",
    "has_shares",
    "has_steps",
    "has_subnormal",
    "has_sum",
    "leans",
    "one_way",
    "predict",
    "ratios",
    "selected",
    "spread_of",
    "terms_of",
]

# Sums of squares below this times 2^20 are lost where float32 flushes its subnormal numbers to zero.
_TINY = 2.0**-126
_LARGE = 2.0**40  # numbers below have squares and cubes that float32 has too
_PRODUCTS = ("Multiply", "Prod")  # of many operands: some of them may be lost though all together are not
# What may have rounded to infinity in float32.
_LAST = 3.4028234663852886e38 * (1 - 2.0**-16)
# What Winograd's algorithm may cost below the floor of a plain sum: F(4 x 4, 3 x 3) over 512 channels has 18.1 bits.
_WINOGRAD = 1.75
# For layers that are no matrix product: half the width of the band of float32 before a narrow result is rounded.
_BAND = 2.0**-18


@dataclass(frozen=True)
class Prediction:
    """Holds the lowest and the highest honest result (one array if nothing is rounded), and the noise's scale.

    ``odd``: where an honest result may be NaN or infinite as well.
    """

    low: Array
    high: Array
    scale: Array
    odd: Array | bool = False


def predict(case: Case, arithmetic: Arithmetic = EXACT, spread: Array | None = None) -> Prediction:
    """Predict the outputs of a case, float64, in the shape of its output.

    Args:
        spread: ``spread_of(case)``, where it is at hand; it is the same under every arithmetic.
    """
    with np.errstate(all="ignore"):
        if isinstance(case.operation, LinearOperation):
            made = _linear(case, case.operation, arithmetic, spread)
        else:
            made = _other(case, arithmetic)
        if not np.isfinite(made.scale).all():
            # sigmoid(inf) is 1 and no more uncertain than its own rounding; a scale without a number excuses nothing.
            made = replace(made, scale=np.where(np.isfinite(made.scale), made.scale, np.abs(made.low)))
    return made


def selected(case: Case) -> Array:
    """Compute what a layer that only selects, or rounds once, must give bit for bit, in the recording's own dtype."""
    with np.errstate(all="ignore"):
        result = np.asarray(case.operation(case.weights, *case.args, **case.kwargs))
        return result.astype(case.output.dtype, copy=False)


def spread_of(case: Case) -> Array | None:
    """Give the scale of noise in front of a linear layer's activation; None for other layers."""
    if not isinstance(case.operation, LinearOperation):
        return None
    with np.errstate(all="ignore"):
        return product(case.operation, case.weights, cast("Array", case.args[0])).spread


def _linear(case: Case, operation: LinearOperation, arithmetic: Arithmetic, spread: Array | None) -> Prediction:
    made = product(operation, case.weights, cast("Array", case.args[0]), arithmetic, scale=spread is None)
    if spread is not None:
        made = replace(made, spread=spread)
    y, scale = propagate(operation.activation, made.value, made.spread)
    y, odd = _shares(operation.activation, made.value, y)
    if operation.activation is not None and (lost := made.spread >= NEARLY).any():
        if not operation.activation.elementwise:
            lost = lost.any(axis=tuple(range(1, lost.ndim)), keepdims=True)
        scale = np.where(lost, ANYTHING, scale)
    if arithmetic.stored is None:
        return Prediction(y, y, scale, odd)
    activation = operation.activation

    def finish(x: Array) -> tuple[Array, Array | None]:
        if activation is None:
            return x, None
        y = _applied(activation, x, arithmetic, case.output)
        if arithmetic.steps:
            return y, _steps_loss(activation, x, y, arithmetic)
        return y, inner_loss(activation.name, x)

    axis = None if activation is None else softmax_axis(activation)
    if arithmetic.stored == "product" and made.bias is not None:
        low, high = arithmetic.band(made.value - made.bias, made.bias, made.spread, finish, axis)
    else:
        low, high = arithmetic.band(made.value, None, made.spread, finish, axis)
    return Prediction(np.where(odd, 0, low), np.where(odd, 0, high), scale, odd)


def _activation(case: Case) -> Activation | None:
    found = getattr(case.operation, "activation", None)
    return found if isinstance(found, Activation) else None


def _name(case: Case) -> str:
    """The activation's name; empty without one."""
    activation = _activation(case)
    return "" if activation is None else activation.name


def _steps_loss(activation: Activation, x: Array, y: Array, arithmetic: Arithmetic) -> Array | None:
    """The loss inside an activation whose steps are rounded: of a number that is stored, half of its last bit."""
    return 0.5 * np.abs(y) if arithmetic.kept else steps_loss(activation, x, y, arithmetic.format)


def one_way(case: Case) -> bool:
    """Tell whether the layer has steps that a framework rounds one by one with nothing to choose: a Rescaling, a
    recurrence, attention."""
    return case.operation.kind == "Rescaling" or isinstance(_whole(case), Stepwise)


def _whole(case: Case) -> Operation:
    return case.operation.inner if isinstance(case.operation, Picked) else case.operation


def has_steps(case: Case) -> bool:
    """Tell whether the layer is a formula of several steps, which a framework may round one by one."""
    return one_way(case) or has_shares(case) or rounds_steps(_name(case))


def gated(case: Case) -> bool:
    """Tell whether the activation is ``silu``, whose argument is multiplied by a number that may be far smaller."""
    return _name(case) == "silu"


def has_shares(case: Case) -> bool:
    """Tell whether the activation divides numbers by their sum: a softmax."""
    return _name(case) == "softmax"


def has_sum(case: Case) -> bool:
    """Tell whether the activation sums up numbers that it has made: a softmax or its logarithm."""
    activation = _activation(case)
    return activation is not None and softmax_axis(activation) is not None


def leans(case: Case) -> bool:
    """Tell whether the layer's steps lean one way where they are rounded: see ``steps_lean``. Rows of one norm are all
    multiplied by one inverse, which is off by half a step, and by half of that for the sum under its root."""
    return case.operation.kind == "UnitNormalization" or steps_lean(_name(case))


def constant_off(case: Case, wanted: Format) -> float:
    """Give the factor less one by which a Rescaling's own number is off where it is rounded; 0 for other layers."""
    if case.operation.kind != "Rescaling":
        return 0.0
    scale, _ = _constants(case)
    with np.errstate(all="ignore"):
        off = np.abs(to_format(scale, wanted) / scale - 1)
    return float(np.where(scale != 0, off, 0).max(initial=0))


def _constants(case: Case) -> tuple[Array, Array]:
    """A Rescaling's factor and what it adds, as they stand beside its operand."""
    config, wide = case.operation.config, np.dtype(np.float64)
    factor, offset = (np.asarray(constant(config.get(*one), wide)) for one in (("scale", 1.0), ("offset", 0.0)))
    return factor, offset


def _applied(activation: Activation, x: Array, arithmetic: Arithmetic, output: Array) -> Array:
    axis = softmax_axis(activation)
    logarithm = activation.name == "log_softmax"
    if axis is not None and not arithmetic.kept and (arithmetic.summed or (arithmetic.steps and not logarithm)):
        return arithmetic.softmax(x, axis, np.asarray(output, np.float64), logarithm)
    return activation.apply(x)


def _other(case: Case, arithmetic: Arithmetic) -> Prediction:
    weights: dict[str, Array] = {name: wide(np.asarray(array)) for name, array in case.weights.items()}
    args, kwargs = case.inputs()

    def round_operand(x: Array) -> Array:
        return arithmetic.operand(x) if x.dtype.kind == "f" else x

    y = np.asarray(case.operation(weights, *args, **kwargs), np.float64)
    activation = case.operation.activation if isinstance(case.operation, ActivationLayer) else None
    y, odd = _shares(activation, cast("Array", args[0]) if activation is not None else y, y)
    scale = scale_of(case.operation, weights, args, kwargs, y)
    if np.any(lost := _lost(case, y)):
        scale = np.where(lost, ANYTHING, scale)
    if not arithmetic.operands:
        if not has_subnormal(case):
            return Prediction(y, y, scale, odd)
        flushed = np.asarray(_without_subnormal(replace(case, weights=weights, args=args, kwargs=kwargs)), np.float64)
        flushed = np.where(odd, y, flushed)
        some, odd = np.isfinite(flushed), odd | (np.isfinite(flushed) != np.isfinite(y))
        one, other = np.where(some, flushed, y), np.where(np.isfinite(y), y, flushed)
        return Prediction(np.fmin(one, other), np.fmax(one, other), scale, odd)
    args, kwargs = map_arrays(args, round_operand), map_arrays(kwargs, round_operand)
    if arithmetic.weights:
        weights = {name: round_operand(array) for name, array in weights.items()}
    if case.operation.kind == "Rescaling" and arithmetic.steps:
        factor, offset = (arithmetic.result(one) for one in _constants(case))
        y = arithmetic.result(arithmetic.result(cast("Array", args[0]) * factor) + offset)
    elif arithmetic.steps and isinstance(whole := _whole(case), Stepwise):
        made = whole.rounded(Stored(arithmetic.result), weights, *args, **kwargs)
        y = np.asarray(case.operation.pick(made) if isinstance(case.operation, Picked) else made, np.float64)
    elif activation is not None and not kwargs:  # a mask is one
        y = np.asarray(_applied(activation, cast("Array", args[0]), arithmetic, case.output), np.float64)
    else:
        y = np.asarray(case.operation(weights, *args, **kwargs), np.float64)
    y = np.where(odd, 0, y)
    if not arithmetic.stored:
        return Prediction(y, y, scale, odd)
    slack = _BAND * scale
    if activation is not None and arithmetic.steps:
        loss = _steps_loss(activation, cast("Array", args[0]), y, arithmetic)
        slack += 0.0 if loss is None else arithmetic.lost(loss)
    low, high = arithmetic.result(y - slack), arithmetic.result(y + slack)
    return Prediction(low, high, scale, odd)


def _shares(activation: Activation | None, x: Array, y: Array) -> tuple[Array, Array | bool]:
    """What an activation gives, and where that may be NaN as well."""
    axis = None if activation is None or activation.name != "softmax" else softmax_axis(activation)
    if axis is None or not np.isposinf(x).any():
        return y, False
    odd = beside_infinity(x, axis) & np.isnan(y)
    return np.where(odd, 0, y), odd


def has_subnormal(case: Case) -> bool:
    """Tell whether float32's subnormal numbers are among the operands, which many a library takes for zero."""
    inputs = arrays_of((case.args, dict(case.kwargs)))
    return any(bool(((np.abs(x) < _TINY) & (x != 0)).any()) for x in inputs if x.dtype.kind == "f")


def flushes(case: Case, expected: Array) -> bool:
    """Tell whether each output is what it must be, or what comes where subnormal numbers are taken for zero.

    Args:
        expected: ``selected(case)``.
    """
    with np.errstate(all="ignore"):
        other = np.asarray(_without_subnormal(case)).astype(case.output.dtype, copy=False)
        if other.shape != case.output.shape or expected.shape != case.output.shape:
            return False
        same = (case.output == expected) | (case.output == other)
        if expected.dtype.kind == "f":
            # Numbers that are all taken for zero are alike to a maximum, which may hand on any of them.
            same |= (np.abs(expected) < _TINY) & (np.abs(case.output) < _TINY)
            same |= np.isnan(case.output) & (np.isnan(expected) | np.isnan(other))
    return bool(same.all())


def _without_subnormal(case: Case) -> Any:
    def flushed(x: Array) -> Array:
        return np.where(np.abs(x) < _TINY, np.copysign(x.dtype.type(0), x), x) if x.dtype.kind == "f" else x

    args, kwargs = map_arrays((case.args, dict(case.kwargs)), flushed)
    return case.operation(case.weights, *args, **kwargs)


def _lost(case: Case, y: Array) -> Array | bool:
    """Where float32 loses a number on the way that it has in the end: a square, a product of three."""
    inputs = [x for x in arrays_of((case.args, dict(case.kwargs))) if x.dtype.kind == "f" and x.size]
    product = case.operation.kind in _PRODUCTS
    largest = (float(np.fmax.reduce(np.abs(x), axis=None)) for x in inputs)  # beside a NaN others are still large
    if not inputs or not (product or any(one >= _LARGE for one in largest)):
        return False
    weights, args, kwargs = map_arrays((dict(case.weights), case.args, dict(case.kwargs)), narrow)
    made = np.asarray(case.operation(weights, *args, **kwargs))
    lost = ~np.isfinite(made) & np.isfinite(y)
    return lost | ((made == 0) & (np.abs(y) >= _TINY)) if product else lost


def errors(case: Case, prediction: Prediction) -> Array:
    """Measure how far each output lies outside the honest results: zero inside, infinite where a number stands for NaN
    or infinity or the other way round, NaN where both sides are the same of those, or a stray was (there is nothing to
    measure)."""
    output = np.asarray(case.output, np.float64)
    low, high = prediction.low, prediction.high
    with np.errstate(all="ignore"):
        if low is high:
            error = np.asarray(output - low)  # of one number alone NumPy makes no array
        else:
            error = np.asarray(np.maximum(output - high, 0) + np.minimum(output - low, 0))
        odd = ~(np.isfinite(error) & np.isfinite(low) & np.isfinite(high))
        if odd.any():
            error[odd] = _odd(output[odd], low[odd], high[odd], excused(case, prediction)[odd])
    if isinstance(case, Beside):
        error[case.strayed] = np.nan
    return error


def excused(case: Case, prediction: Prediction) -> Array:
    """Find outputs that may honestly be infinite or NaN whatever the reference has: those whose terms are as large as
    float32's last number (an honest sum of those may be infinite whatever it comes to, or NaN, where infinities of
    both signs meet), those that a NaN elsewhere reaches, and those of which one honest result is no number."""
    return (prediction.scale >= NEARLY) | smeared(case) | prediction.odd


def _odd(output: Array, low: Array, high: Array, anything: Array) -> Array:
    """The errors where not all are finite. A sum at the end of a format's range may honestly be the last number or
    infinite: one bound is finite then. What is infinite on one side may be just above float32's range on the other."""
    none = ~np.isfinite(output)  # which kind of no number is the affair of ``strays``
    same = none & ((~np.isfinite(low) & ~np.isfinite(high)) | anything)
    for sign in (1, -1):
        above = (sign * low > _LAST) & (sign * high > _LAST)
        same |= (sign * output == np.inf) & above
    inside = (np.isfinite(low) | np.isfinite(high)) & (low <= output) & (output <= high)
    return np.where(same, np.nan, np.where(inside, 0.0, np.inf))


def ratios(error: Array, scale: Array, terms: int, most: float = 16.0) -> Array:
    """Divide errors by the noise's scale, ``most`` at most; what float32 flushes to zero is no error."""
    floor = _TINY * 2.0**22 * max(terms, 1) ** 0.5
    with np.errstate(all="ignore"):
        ratio = np.asarray(error / np.maximum(scale, floor))
    ratio[np.isinf(error)] = most
    return np.clip(ratio, -most, most, out=ratio)


def terms_of(case: Case) -> int:
    """Count the numbers that are added for an output."""
    if isinstance(case.operation, LinearOperation):
        return fan_in(case.operation, case.weights)
    largest = max((x.size for x in arrays_of(case.args)), default=1)
    return max(largest // max(case.output.size, 1), 1)


# Bits that the best of honest float32 layers are asked for: CPUs and libraries were measured between 20.2 and 24.5.
FLOOR = 20.0


def floor_of(case: Case) -> float:
    """Give the least effective bits of float32: a plain sum of so many terms, and what Winograd may lose.

    A running sum of n terms is rounded n times at its growing size, ``sqrt(n / 2)`` units in all; measured layers are
    better (20.5 bits and more), naive loops are not.
    """
    terms = terms_of(case)
    floor = min(FLOOR, 25.0 - 0.5 * float(np.log2(max(terms, 2) / 2)))
    if isinstance(case.operation, LinearOperation) and winograd(case.operation):
        floor -= _WINOGRAD
    return floor
