"""The scale of rounding noise of layers that are no matrix product: how much each output moves with its operands.

Every input and weight is moved by a tiny relative amount, in float64, and what comes out differently is the scale;
elementwise layers one operand at a time, which is exact, others with random signs a few times over. Layers whose honest
implementations lose more than that (a variance as the mean of squares minus the square of the mean, sampling positions
in float32) have their own term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.case import Picked, arrays_of, map_arrays
from cnnlens.checking.noise.formulas import NORMS, fast_variance, over_squares, positions, root_of_squares
from cnnlens.checking.noise.propagation import inner_loss, propagate
from cnnlens.checking.noise.steps import step_by_step
from cnnlens.checking.noise.summation import averages_alike, products_alike, rounded_alike
from cnnlens.kinds import ACTIVATIONS, Rounding, kind_of
from cnnlens.reference.arithmetic.interpolation import Interpolation
from cnnlens.reference.aten.operations import AtenOperation
from cnnlens.reference.bare.ops import BareOperation, KerasTwoOperation
from cnnlens.reference.keras.activations import ActivationLayer
from cnnlens.reference.keras.merging import Dot, Merge
from cnnlens.reference.keras.normalization import BatchNormalization, GroupNormalization, LayerNormalization
from cnnlens.reference.keras.resizing import CenterCrop, Resizing, UpSampling
from cnnlens.reference.operation import Operation, normalise_axis
from cnnlens.reference.stepwise import Stepwise
from cnnlens.reference.wrappers import Container, ModelOperation

__all__ = ["bilinear", "rounds_once", "scale_of", "selects"]

Array = NDArray[Any]

_ROOTS = ("Norm", "Std")  # of sums of squares
_REACH = {"lanczos3": 3, "lanczos5": 5}  # places to either side that a window reaches; 2 of all others
_STEP = 2.0**-24
_DRAWS = 6


def bare_kind(operation: Operation) -> str | None:
    """The name in ``keras.ops`` of a bare operation, also of one spelt as Keras 2 did; None for a layer."""
    if isinstance(operation, KerasTwoOperation):
        return operation.inner.kind
    if isinstance(operation, Picked):
        return bare_kind(operation.inner)
    return operation.kind if isinstance(operation, BareOperation) else None


def rounding_of(operation: Operation) -> Rounding:
    """Look up what a faithful computation of the operation may round."""
    return kind_of(bare_kind(operation) or operation.kind).rounding


def selects(operation: Operation) -> bool:
    """Tell whether the layer only picks, moves or compares values, so that nothing may be rounded at all."""
    if isinstance(operation, UpSampling | Interpolation):
        return operation.method == "nearest"
    return isinstance(operation, Container) or rounding_of(operation) is Rounding.NONE


def rounds_once(operation: Operation, args: Sequence[Any]) -> bool:
    """Tell whether an output is one IEEE operation (a sum of two, a ReLU): float32 gives the float64 result rounded."""
    if isinstance(operation, ActivationLayer):
        row = None if operation.activation is None else ACTIVATIONS.get(operation.activation.name)
        return operation.activation is None or (row is not None and row.rounding is Rounding.NONE)
    if isinstance(operation, Merge) and len(cast("Sequence[Any]", args[0])) > 2:
        return False
    return rounding_of(operation) is Rounding.ONCE


def bilinear(operation: Operation) -> bool:
    """Tell whether the layer is a sum of products of its operands."""
    if isinstance(operation, Dot):
        return not operation.normalize
    return bare_kind(operation) is not None and rounding_of(operation) is Rounding.PRODUCTS


def scale_of(
    operation: Operation, weights: Mapping[str, Array], args: Sequence[Any], kwargs: Mapping[str, Any], y: Array
) -> Array:
    """Compute the scale of rounding noise at each output ``y`` of a layer; everything in float64."""
    if isinstance(operation, ActivationLayer) and operation.activation is not None:
        x = cast("Array", args[0])
        return propagate(operation.activation, x, np.abs(x))[1]
    if isinstance(operation, BatchNormalization):
        return _batch_normalization(operation, weights, cast("Array", args[0]), y)
    if bilinear(operation):
        squares: Any = map_arrays((dict(weights), tuple(args), dict(kwargs)), np.square)
        squared = operation(squares[0], *squares[1], **squares[2])
        return np.sqrt(np.abs(squared) + np.square(y) + np.square(_alike(operation, weights, args, kwargs, y)))
    stepwise = operation.inner if isinstance(operation, Picked) else operation
    if isinstance(stepwise, Stepwise):
        return step_by_step(operation, stepwise, weights, args, kwargs, y)
    kind = bare_kind(operation)
    if rounding_of(operation) in (Rounding.ONCE, Rounding.EACH):
        total = _one_by_one(operation, weights, args, kwargs, y)
    else:
        total = _at_random(operation, weights, args, kwargs, y)
    first = args[0] if args else None
    if rounding_of(operation) is Rounding.SUMS and isinstance(first, np.ndarray) and first.dtype.kind == "f":

        def reduce(x: Array) -> Any:
            return operation(weights, x, *args[1:], **kwargs)

        total += np.square(rounded_alike(reduce, cast("Array", first), y))
    if isinstance(operation, LayerNormalization | GroupNormalization):
        total += np.square(fast_variance(operation, weights, cast("Array", first), y))
    if isinstance(operation, AtenOperation) and operation.kind == "InstanceNorm":
        operands = operation.operands(weights, args)
        total += np.square(fast_variance(operation, operands, operands["x"], y))
    if isinstance(operation, NORMS) or kind == "Normalize":
        total += np.square(over_squares(operation, cast("Array", first), y))
    if isinstance(operation, Resizing | CenterCrop | UpSampling) or kind == "Resize":
        axis = 2 if getattr(operation, "channels_first", False) else 1
        total += positions(
            cast("Array", first), y, axis, reach=_REACH.get(str(operation.config.get("interpolation")), 2)
        )
    if isinstance(operation, Interpolation):
        total += positions(cast("Array", first), y, 2, operation.rank)
    if kind in _ROOTS:
        total += np.square(root_of_squares(operation, cast("Array", first), y))
    if kind == "ScaledDotProductAttention":
        total += np.square(_equal_values(operation, weights, args, y))
    if isinstance(operation, ModelOperation):
        total *= len(operation.network.calls)
    if kind is not None and len(args) == 1 and isinstance(args[0], np.ndarray):
        loss = inner_loss(kind_of(kind).activation, cast("Array", args[0]))
        if loss is not None and loss.shape == y.shape:
            total += np.square(loss)
    return np.sqrt(total)


def _alike(
    operation: Operation, weights: Mapping[str, Array], args: Sequence[Any], kwargs: Mapping[str, Any], y: Array
) -> Array | float:
    """What equal products lose, where there are two operands."""
    operands = arrays_of((tuple(args), dict(weights), dict(kwargs)))
    if len(operands) != 2:
        return 0.0

    def product(*pair: Array) -> Array:
        places = iter(pair)
        found: Any = map_arrays((tuple(args), dict(weights), dict(kwargs)), lambda _: next(places))
        return np.asarray(operation(found[1], *found[0], **found[2]))

    return products_alike(product, operands[0], operands[1], y)


def _equal_values(operation: Operation, weights: Mapping[str, Array], args: Sequence[Any], y: Array) -> Array | float:
    """What attention loses where it looks at the same value many times (the tokens of an empty picture)."""
    query, key, value = (cast("Array", x) for x in args[:3])
    if value.ndim < 2 or np.ptp(value, axis=-2).min(initial=np.inf) > 0:
        return 0.0
    places = np.broadcast_to(np.eye(value.shape[-2]), (*value.shape[:-1], value.shape[-2]))
    shares = np.asarray(operation(weights, query, key, places, *args[3:]))
    if shares.shape[:-2] != value.shape[:-2]:  # heads that share their values
        value = np.repeat(value, shares.shape[-3] // value.shape[-3], axis=-3)
    return averages_alike(shares, value, y)


def _batch_normalization(operation: BatchNormalization, weights: Mapping[str, Array], x: Array, y: Array) -> Array:
    factor = 1 / np.sqrt(weights["moving_variance"] + operation.epsilon)
    if operation.scale:
        factor = factor * weights["gamma"]
    fixed = np.square(weights["moving_mean"] * factor)
    if operation.center:
        fixed = fixed + np.square(weights["beta"])
    shape = [1] * x.ndim
    shape[normalise_axis(operation.axis, x.ndim)] = -1
    total = x * factor.reshape(shape)
    np.square(total, out=total)
    total += np.square(y)
    total += fixed.reshape(shape)
    return np.sqrt(total, out=total)


def _one_by_one(
    operation: Operation, weights: Mapping[str, Array], args: Sequence[Any], kwargs: Mapping[str, Any], y: Array
) -> Array:
    total = np.square(y)
    operands = (tuple(args), dict(kwargs))
    for wanted in range(sum(x.dtype.kind == "f" for x in arrays_of(operands))):
        seen = iter(range(1 << 30))

        def nudge(x: Array) -> Array:
            return x * (1 + _STEP) if x.dtype.kind == "f" and next(seen) == wanted else x  # noqa: B023

        moved: Any = map_arrays(operands, nudge)
        total += _squared_change(cast("Array", operation(weights, *moved[0], **moved[1])), y)
    for name, array in weights.items():
        if array.dtype.kind == "f":
            total += _squared_change(operation({**weights, name: array * (1 + _STEP)}, *args, **kwargs), y)
    return total


def _at_random(
    operation: Operation, weights: Mapping[str, Array], args: Sequence[Any], kwargs: Mapping[str, Any], y: Array
) -> Array:
    generator = np.random.default_rng(7)
    total = np.square(y)

    def nudge(x: Array) -> Array:
        if x.dtype.kind != "f":
            return x
        signs = generator.integers(0, 2, x.shape, np.int8) * np.int8(2) - np.int8(1)
        return x * (1 + signs * _STEP)

    for _ in range(_DRAWS):
        moved: Any = map_arrays((tuple(args), dict(kwargs)), nudge)
        result = operation({name: nudge(array) for name, array in weights.items()}, *moved[0], **moved[1])
        total += _squared_change(result, y) / _DRAWS
    return total


def _squared_change(moved: Any, y: Array) -> Array:
    change = np.asarray((np.asarray(moved) - y) / _STEP)
    return np.square(np.nan_to_num(change, copy=False, nan=0.0, posinf=0.0, neginf=0.0))
