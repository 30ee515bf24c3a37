"""Faults of the activation: left out, another one, another slope, applied twice, over another axis."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np

from cnnlens.checking.faults.problem import FITTED, Hypothesis, Problem, View, number
from cnnlens.checking.noise.case import Array, Case
from cnnlens.checking.noise.linear import product
from cnnlens.checking.noise.prediction import Prediction
from cnnlens.checking.noise.propagation import propagate
from cnnlens.kinds import ACTIVATIONS
from cnnlens.reference.arithmetic.functions import Activation, activation_layer, named_activation, parametric_activation
from cnnlens.reference.keras.activations import ActivationLayer, PReLU
from cnnlens.reference.operation import LinearOperation, Operation

__all__ = ["hypotheses"]

# Bits that another activation takes: one of sixteen that models have in place of each other, or one that hardly any
# model has. tanh_shrink of large numbers is the number less one, which a bias of one left out explains as well.
_EVERYDAY = frozenset(
    "relu relu6 sigmoid hard_sigmoid tanh softmax log_softmax softplus gelu silu hard_silu elu selu mish exponential "
    "softsign".split()
)
_USUAL, _UNUSUAL = 4.0, 12.0


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest other activations than the model's, for layers that have one or could have."""
    operation = problem.case.operation
    if isinstance(operation, PReLU):
        yield Hypothesis("the activation was left out", lambda case: _identity(case))
        yield Hypothesis("the slope alpha was left out (ReLU instead of PReLU)", _zero_alpha)
        return
    if not isinstance(operation, LinearOperation | ActivationLayer):
        return
    own = operation.activation
    name = own.name if own is not None else "linear"
    if own is not None:
        yield _with(None, f"the activation {name} was left out")
        if own.halved is None:
            # Near zero gelu and silu halve: there a factor of 0.5, which is a round number, does the same.
            said = f"the activation {name} was applied twice"
            yield Hypothesis(said, view=_again(own), narrow=own.elementwise, cost=_USUAL)
    yield from _slopes(problem, name)
    for other, activation in _others():
        if other != name or activation.function is not (own.function if own else None):
            said = f"the activation is {other} where the model says {name}"
            if other == name:
                said = f"the activation is another {other} than the model's {name}"
            yield _with(activation, said, _USUAL if other in _EVERYDAY else _UNUSUAL)
    if name in ("softmax", "log_softmax") and problem.sample.output.ndim > 2:
        for axis in range(1, problem.sample.output.ndim):
            yield _with(
                parametric_activation(name, {"axis": axis}),
                f"{name} was taken over axis {axis} instead of the channels",
            )


def _again(activation: Activation) -> View:
    def view(made: Prediction) -> Prediction:
        low, scale = propagate(activation, made.low, made.scale)
        return Prediction(low, low if made.high is made.low else activation.apply(made.high), scale)

    return view


def _others() -> Iterator[tuple[str, Activation]]:
    for name in ACTIVATIONS:
        # Settings of threshold have no defaults, celu is elu without any, and leaky slopes are fitted.
        if name not in ("threshold", "celu", "leaky_relu"):
            yield name, cast("Activation", named_activation(name, (3,)))
    yield "gelu approximated by tanh", parametric_activation("gelu", {"approximate": True})
    yield "quick gelu (x sigmoid(1.702 x))", Activation("silu", _quick_gelu)
    hard = named_activation("hard_sigmoid", (2,))
    if hard is not None:
        yield "hard_sigmoid of Keras 2 (0.2 x + 0.5)", hard


def _quick_gelu(x: Array, out: Array) -> None:
    """What OpenAI's CLIP, and models ported from it, have in place of gelu."""
    gate = (1.702 * x).astype(x.dtype)
    cast("Activation", named_activation("sigmoid", (3,))).write(gate, gate)
    np.multiply(x, gate, out=out)


def _with(activation: Activation | None, text: str, cost: float = 0.0) -> Hypothesis:
    def change(case: Case) -> Case:
        operation = cast("Any", copy.copy(case.operation))
        operation.activation = activation
        return replace(case, operation=cast("Operation", operation))

    return Hypothesis(text, change, narrow=activation is None or activation.elementwise, cost=cost)


def _identity(case: Case) -> Case:
    return replace(case, operation=ActivationLayer("Activation", {"activation": "linear"}, (3,)), weights={})


def _zero_alpha(case: Case) -> Case:
    return replace(case, weights={"alpha": np.zeros_like(case.weights["alpha"])})


def _slopes(problem: Problem, name: str) -> Iterator[Hypothesis]:
    """A leaky ReLU of the slope that the recording's negative side shows."""
    if name in ("softmax", "log_softmax", "glu", "sparsemax"):
        return
    case, operation = problem.sample, problem.case.operation
    z: Array
    if isinstance(operation, LinearOperation):
        z = product(operation, case.weights, case.args[0], problem.base, scale=False).value
    else:
        z = np.asarray(case.args[0], np.float64)
    below = (z < -1e-3 * np.nanmax(np.abs(z), initial=0.0)) & np.isfinite(case.output)
    if z.shape != case.output.shape or below.sum() < 4:
        return
    slope = float(np.median(np.asarray(case.output, np.float64)[below] / z[below]))
    if 1e-6 < slope < 10 and abs(slope - 1) > 1e-6:
        exact = float(f"{slope:.4g}")
        own = _own_slope(problem)
        said = f"the slope below zero is {number(exact)}" + (
            f" where the model says {number(own)}" if own is not None else ""
        )
        yield _with(activation_layer("LeakyReLU", {"negative_slope": exact}), said, FITTED)


def _own_slope(problem: Problem) -> float | None:
    activation = cast("Any", problem.case.operation).activation
    if activation is None or activation.name not in ("relu", "leaky_relu"):
        return None
    return -float(activation.apply(np.full(1, -1.0))[0])
