"""Operations for aten calls that are no layer: a function on tensors, weights and numbers in any place.

``AtenOperation`` is a bare operation as ``keras.ops`` has them, so that the audit knows its kind; only its operands
are laid out by a template, since torch lets a weight stand wherever a tensor may. ``AtenActivation`` is an activation
layer with torch's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.aten.arguments import Arguments, Batch, Tensor, Translation, WeightName, as_stored, markers
from cnnlens.reference.bare.ops import BareOperation
from cnnlens.reference.bare.rules import Rule, agreed, nothing, same, shape_of
from cnnlens.reference.keras.activations import ActivationLayer
from cnnlens.reference.operation import Array, Operation, Weights

__all__ = ["BY_RUNNING", "AtenActivation", "AtenOperation", "Function", "ShapeRule", "bare", "layer", "unary"]

Function = Callable[..., Any]
ShapeRule = Callable[..., Any]

# A size that a function cuts into pieces must be a multiple of their number.
_GUESSES = ((2, 3), (12, 24), (64, 128))


class AtenOperation(BareOperation):
    """Computes one aten call: ``function(settings, *operands)``, operands as a template with markers.

    Args:
        kind: What ``keras.ops`` calls it; the audit goes by this name.
        config: The settings, for people and for the function.
        rule: The function and the rule of its shape.
        template: The operands: markers, numbers, and lists of them.
        shapes: The shapes of the weights in the template.
        roles: What the operands are to the audit, where it asks for one; empty where it does not.
    """

    def __init__(
        self,
        kind: str,
        config: Mapping[str, Any],
        rule: Rule,
        template: Sequence[Any],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        super().__init__(kind, config, (3,), rule)
        self.template = list(template)
        self.shapes = shapes
        self.roles: Sequence[str] = ()

    def operands(self, weights: Weights, args: Sequence[Any]) -> dict[str, Any]:
        """Give the operands of a call by their roles."""
        return {role: self._fill(value, args, weights) for role, value in zip(self.roles, self.template, strict=False)}

    def _fill(self, value: Any, args: Sequence[Any], weights: Mapping[str, Any]) -> Any:
        if isinstance(value, Tensor):
            return args[value.index]
        if isinstance(value, WeightName):
            return weights[value.name]
        if isinstance(value, Batch):
            shape = shape_of(args[value.tensor])
            return None if shape[0] is None else shape[0] * value.factor
        if isinstance(value, list):
            return [self._fill(item, args, weights) for item in cast("list[Any]", value)]
        return value

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        if self.rule.shape is not BY_RUNNING:
            return self.rule.shape(self.settings, *[self._fill(value, args, self.shapes) for value in self.template])
        return agreed(*self._guessed(args))

    def _guessed(self, args: Sequence[Any]) -> tuple[Any, Any]:
        """Results for two guesses of the unknown sizes: the first two that can be cut as the function wants them."""
        *others, last = _GUESSES
        for pair in others:
            try:
                return self._run_onnothing(args, pair[0]), self._run_onnothing(args, pair[1])
            except ValueError:
                continue
        return self._run_onnothing(args, last[0]), self._run_onnothing(args, last[1])

    def _run_onnothing(self, args: Sequence[Any], guess: int) -> Any:
        """The function on arrays of bytes without memory of their own, unknown sizes being ``guess``."""
        weights = {name: nothing(shape, guess) for name, shape in self.shapes.items()}
        tensors = [nothing(shape, guess) for shape in args]
        return self.rule.function(self.settings, *[self._fill(value, tensors, weights) for value in self.template])

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        operands = [self._fill(value, args, weights) for value in self.template]
        arrays = cast("Sequence[Array]", (*args, *weights.values()))
        wide = any(array.dtype == np.float64 for array in arrays)
        result = self.rule.function(self.settings, *operands)
        if isinstance(result, list | tuple):
            return [_narrow(item, wide) for item in cast("Sequence[Any]", result)]
        return _narrow(result, wide)


def BY_RUNNING(settings: Any, *operands: Any) -> Any:  # noqa: N802
    """Work out a shape as involved as its function by running that on two guesses of the unknown sizes."""
    raise NotImplementedError


def _narrow(value: Any, wide: bool) -> Array:
    """Torch's numbers from whole ones are float32, NumPy's are float64, which would widen all that follows."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 and not wide else array


class AtenActivation(ActivationLayer):
    """Computes an activation whose function is given, not named by a Keras configuration.

    Attributes:
        axes: Holds 0 where the function goes over the batch, which then cannot be cut into parts.
    """

    axes: tuple[int, ...] = ()

    def __init__(self, activation: Activation, config: Mapping[str, Any]) -> None:
        Operation.__init__(self, "Activation", {"activation": activation.name, **config}, (3,))
        self.activation = activation


def bare(
    args: Arguments,
    kind: str,
    function: Function,
    shape: ShapeRule,
    template: Sequence[Any],
    settings: Mapping[str, Any] | None = None,
    roles: Sequence[str] = (),
) -> Translation:
    """Translate to an ``AtenOperation``; its weights stay as torch stores them."""
    found = markers(list(template))
    names = list(dict.fromkeys(marker.name for marker in found if isinstance(marker, WeightName)))
    shapes = {name: cast("tuple[int, ...]", args.known(WeightName(name))) for name in names}
    operation = AtenOperation(kind, settings or {}, Rule(function, shape, ()), template, shapes)
    operation.roles = roles
    taken = tuple(Tensor(index) for index in range(len(args.tensors)))
    return Translation(operation, taken, {name: ("", name) for name in names}, lambda arrays: as_stored(arrays, names))


def unary(
    args: Arguments,
    kind: str,
    function: Callable[[Any], Any],
    settings: Mapping[str, Any] | None = None,
    shape: ShapeRule = same,
) -> Translation:
    """Translate to a function of the main operand alone."""

    def call(_: Mapping[str, Any], x: Any) -> Any:
        return function(x)

    return bare(args, kind, call, shape, [args.main], settings)


def layer(
    operation: Operation,
    args: tuple[Any, ...] = (Tensor(0),),
    weights: Mapping[str, tuple[str, str]] | None = None,
    arrange: Mapping[str, Callable[[Array], Array]] | None = None,
) -> Translation:
    """Translate to one of the reference's layers.

    Args:
        weights: Aten's weight name to (kind, role), in Keras' order of the roles.
        arrange: How a weight's array is turned from torch's axes into the operation's, by aten's name.
    """
    named = dict(weights or {})
    turned = dict(arrange or {})

    def unpack(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {
            role: turned[name](arrays[name]) if name in turned else np.asarray(arrays[name])
            for name, (_, role) in named.items()
        }

    return Translation(operation, args, named, unpack)
