"""Faults of normalisation: another epsilon, weights left out or exchanged, the batch's own statistics, other groups.

The epsilon is solved for: a batch norm with 1e-5 where the model says 1e-3 is a factor of 1.0005 on a channel of
variance one, and a larger one where the variance is small, which no other fault imitates.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from cnnlens.checking.faults.fits import shown, vector
from cnnlens.checking.faults.kernels import with_weight
from cnnlens.checking.faults.problem import FITTED, ROUND, Hypothesis, Problem
from cnnlens.checking.noise.case import Array, Case
from cnnlens.reference.keras.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    Normalization,
    Rescaling,
    RMSNormalization,
)
from cnnlens.reference.operation import Operation, normalise_axis

__all__ = ["hypotheses"]

_EPSILONS = (1e-3, 1e-5, 1e-6, 1e-4, 1e-2, 1e-7, 1e-8, 1e-12, 2e-5, 1.001e-5, 1e-1, 0.0)


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest other settings of layers that normalise."""
    operation = problem.case.operation
    if isinstance(operation, Rescaling):
        yield from _rescaling(operation)
        return
    if isinstance(operation, Normalization):
        return
    if not isinstance(operation, BatchNormalization | LayerNormalization | GroupNormalization | RMSNormalization):
        return
    yield from _epsilons(problem, operation.epsilon)
    if isinstance(operation, BatchNormalization):
        yield from _statistics(problem, operation)
    yield from _weights(problem)
    yield from _vectors(problem)
    if isinstance(operation, LayerNormalization | GroupNormalization):
        yield Hypothesis("the variance is divided by n - 1 instead of n", _unbiased)
        yield from _other_axes(problem, operation)


# Effective bits from which two epsilons explain a layer equally well: rounding of variance + epsilon hides the rest.
_EQUALLY_WELL = 23.0


def _epsilons(problem: Problem, own: float) -> Iterator[Hypothesis]:
    """Usual values of epsilon, the best fitting first, and the one that fits best of all."""
    tried: list[tuple[float, Hypothesis]] = []
    for epsilon in _EPSILONS:
        if epsilon != own:
            hypothesis = _epsilon(own, epsilon)
            found = problem.attempt(hypothesis.change(problem.sample))
            tried.append((found[1].bits if found is not None else -np.inf, hypothesis))
    tried.sort(key=lambda one: -min(one[0], _EQUALLY_WELL))  # among equals the more usual one stays in front
    yield from (hypothesis for _, hypothesis in tried[:2])
    operation = problem.case.operation
    found = _solved(problem, operation) if isinstance(operation, BatchNormalization) else None
    if found is not None:
        yield replace(_epsilon(own, float(f"{found:.2g}")), cost=ROUND)
        yield replace(_epsilon(own, found), cost=FITTED)


def _epsilon(own: float, other: float) -> Hypothesis:
    def change(case: Case) -> Case:
        changed = cast("Any", copy.copy(case.operation))
        changed.epsilon = other
        return replace(case, operation=changed)

    return Hypothesis(f"epsilon {other:g} where the model says {own:g}", change, claim="epsilon")


def _solved(problem: Problem, operation: BatchNormalization) -> float | None:
    """The epsilon that the slopes of the channels give: those of the smallest variances show it best."""
    variance = np.asarray(problem.sample.weights["moving_variance"], np.float64)
    slopes = _slopes(problem, operation)
    with np.errstate(all="ignore"):
        epsilons = 1 / np.square(slopes) - variance
    usable = np.isfinite(epsilons) & (slopes > 0)
    if not usable.any():
        return None
    order = np.argsort(variance[usable])
    found = float(np.median(epsilons[usable][order][: max(int(usable.sum()) // 4, 1)]))
    return found if found > 0 else None


def _statistics(problem: Problem, operation: BatchNormalization) -> Iterator[Hypothesis]:
    zero = np.zeros_like
    yield Hypothesis("the moving mean is not subtracted", with_weight("moving_mean", zero), claim="the moving mean")
    said = "the moving variance is taken for a standard deviation (no square root)"
    yield Hypothesis(said, with_weight("moving_variance", np.square))
    yield Hypothesis(
        "the moving variance is not divided by (as if it were one)", with_weight("moving_variance", np.ones_like)
    )
    said = "the moving variance is divided by as it is where its root belongs, or rooted twice"
    yield Hypothesis(said, with_weight("moving_variance", np.sqrt))

    def exchanged(case: Case) -> Case:
        weights = case.weights
        mean, variance = weights["moving_mean"], weights["moving_variance"]
        return replace(case, weights={**weights, "moving_mean": variance, "moving_variance": mean})

    yield Hypothesis("moving mean and moving variance are exchanged", exchanged)

    def outside(case: Case) -> Case:
        variance = np.asarray(case.weights["moving_variance"], np.float64)
        changed = copy.copy(operation)
        changed.epsilon = 0.0
        root = np.square(np.sqrt(variance) + operation.epsilon)
        return replace(case, operation=changed, weights={**case.weights, "moving_variance": root})

    yield Hypothesis("epsilon is added outside the square root", outside)
    factor = _variance_factor(problem, operation)
    if factor is not None and factor > 1 + 1e-6:
        count = round(1 / (1 - 1 / factor))
        if count > 1:
            factor = count / (count - 1)
            said = f"the moving variance is {factor:.6g} times the file's, as n / (n - 1) for n = {count}"
            yield Hypothesis(
                said, with_weight("moving_variance", lambda v: v * factor), cost=ROUND, claim="the moving variance"
            )
    x = np.asarray(problem.case.args[0], np.float64)
    axis = normalise_axis(operation.axis, x.ndim)
    axes = tuple(place for place in range(x.ndim) if place != axis)
    statistics = {"moving_mean": x.mean(axis=axes), "moving_variance": x.var(axis=axes)}

    def batch(case: Case) -> Case:
        return replace(case, weights={**case.weights, **statistics})

    said = "normalised with the batch's own mean and variance (training mode) instead of the moving ones"
    yield Hypothesis(said, batch)


def _variance_factor(problem: Problem, operation: BatchNormalization) -> float | None:
    case = problem.sample
    variance = np.asarray(case.weights["moving_variance"], np.float64)
    found = _slopes(problem, operation)
    with np.errstate(all="ignore"):
        factors = (1 / np.square(found) - operation.epsilon) / variance
    factors = factors[np.isfinite(factors) & (factors > 0)]
    return float(np.median(factors)) if factors.size else None


def _slopes(problem: Problem, operation: BatchNormalization) -> Array:
    """What each channel of ``(x - mean) gamma`` is multiplied with in the recording."""
    case = problem.sample
    x = np.asarray(case.args[0], np.float64)
    axis = normalise_axis(operation.axis, x.ndim)
    weights = {name: np.asarray(array, np.float64) for name, array in case.weights.items()}
    y = np.moveaxis(np.asarray(case.output, np.float64), axis, -1).reshape(-1, x.shape[axis])
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    centred = (rows - weights["moving_mean"]) * (weights["gamma"] if operation.scale else 1.0)
    shifted = y - (weights["beta"] if operation.center else 0.0)
    usable = np.isfinite(centred) & np.isfinite(shifted)
    centred, shifted = np.where(usable, centred, 0.0), np.where(usable, shifted, 0.0)
    return (centred * shifted).sum(axis=0) / np.square(centred).sum(axis=0)


def _weights(problem: Problem) -> Iterator[Hypothesis]:
    weights = problem.case.weights
    for name in ("gamma", "beta", "scale"):
        if name in weights:
            neutral: Callable[[Array], Array] = np.zeros_like if name == "beta" else np.ones_like
            yield Hypothesis(f"{shown(name)} was left out", with_weight(name, neutral), claim=shown(name))
    if "gamma" in weights and "beta" in weights:

        def exchanged(case: Case) -> Case:
            return replace(case, weights={**case.weights, "gamma": case.weights["beta"], "beta": case.weights["gamma"]})

        yield Hypothesis("gamma and beta are exchanged", exchanged)
        plus = with_weight("gamma", lambda gamma: gamma + 1)
        yield Hypothesis("the scale is 1 + gamma instead of gamma", plus)


def _vectors(problem: Problem) -> Iterator[Hypothesis]:
    """A weight of the faulty channels that is not the file's: each explains any slope, or any shift, of a channel."""
    operation, sample = cast("Any", problem.case.operation), problem.sample
    weights = {name: np.asarray(array, np.float64) for name, array in sample.weights.items()}
    x = np.asarray(sample.args[0], np.float64)
    axes = operation.axes if hasattr(operation, "axes") else (operation.axis,)
    total = problem.tally.count.size
    if [normalise_axis(axis, x.ndim) for axis in axes] != [sample.channel(x)] or x.ndim < 2:
        return
    if any(array.shape != (total,) for array in weights.values()):
        return
    scale_name = next((name for name in ("gamma", "scale") if name in weights), None)
    neutral = {"gamma": 1.0, "scale": 1.0, "beta": 0.0}
    silent = {name: np.full(total, neutral[name]) if name in neutral else array for name, array in weights.items()}
    unit = problem.rows(np.asarray(operation(silent, x)))[:, problem.faulty]
    output = problem.rows(np.asarray(sample.output, np.float64))[:, problem.faulty]
    picked = {name: array[problem.faulty] for name, array in weights.items()}
    gain, shift = picked.get(scale_name or "", np.ones(1)), picked.get("beta", np.zeros(1))
    noise = problem.rows(problem.expected.scale)[:, problem.faulty]
    usable = np.isfinite(unit) & np.isfinite(output) & (noise > 0)
    weight, unit, output = (np.where(usable, one, 0.0) for one in (1 / np.square(noise), unit, output))
    slope = (weight * unit * (output - shift)).sum(axis=0) / (weight * np.square(unit)).sum(axis=0)
    above = (weight * (output - shift - gain * unit)).sum(axis=0) / weight.sum(axis=0)
    values: dict[str, Array] = {}
    if scale_name is not None:
        values[scale_name] = slope
    if "beta" in weights:
        values["beta"] = shift + above
    if "moving_variance" in weights:
        variance = picked["moving_variance"] + operation.epsilon
        values["moving_variance"] = variance * np.square(gain / slope) - operation.epsilon
        values["moving_mean"] = picked["moving_mean"] - above * np.sqrt(variance) / gain
    for name, found in values.items():
        yield from vector(problem, name, found, lambda full, name=name: with_weight(name, lambda _: full))


def _unbiased(case: Case) -> Case:
    operation = cast("Any", copy.copy(case.operation))
    x = cast("Array", case.args[0])
    if isinstance(operation, LayerNormalization):
        count = int(np.prod([x.shape[normalise_axis(axis, x.ndim)] for axis in operation.axes]))
    else:
        groups = x.shape[normalise_axis(operation.axis, x.ndim)] if operation.groups == -1 else operation.groups
        count = x[0].size // groups
    # sqrt(v n / (n - 1) + e) = sqrt(n / (n - 1)) sqrt(v + e (n - 1) / n)
    ratio = count / (count - 1)
    operation.epsilon = operation.epsilon / ratio
    weights = dict(case.weights)
    if "gamma" not in weights:
        raise ValueError("no gamma to carry the factor")
    weights["gamma"] = np.asarray(weights["gamma"], np.float64) / np.sqrt(ratio)
    return replace(case, operation=operation, weights=weights)


def _other_axes(problem: Problem, operation: LayerNormalization | GroupNormalization) -> Iterator[Hypothesis]:
    x = problem.sample.args[0]
    if isinstance(operation, GroupNormalization):
        total = x.shape[normalise_axis(operation.axis, x.ndim)]
        own = total if operation.groups == -1 else operation.groups
        for groups in range(1, total + 1):
            if total % groups == 0 and groups != own:
                yield _setting("groups", groups, f"{groups} groups where the model says {own}")
        if own == 1 and x.ndim > 2:
            said = "each position is normalised by itself (LayerNorm over channels) where the model says all together"
            yield _exchanged(LayerNormalization, {"axis": operation.axis, "epsilon": operation.epsilon}, said)
        return
    axes = tuple(normalise_axis(axis, x.ndim) for axis in operation.axes)
    if len(axes) == 1:
        if x.ndim > 2 and not operation.rms_scaling:
            own = f"where the model says axis {axes[0]} alone"
            said = f"all positions are normalised together (GroupNorm of one group) {own}"
            config = {"groups": 1, "axis": axes[0], "epsilon": operation.epsilon}
            yield _exchanged(GroupNormalization, config, said)
        for axis in range(1, x.ndim):
            if axis not in axes and x.shape[axis] == x.shape[axes[0]]:
                yield _setting("axes", (axis,), f"normalised over axis {axis} where the model says {axes[0]}")


def _setting(name: str, value: Any, text: str) -> Hypothesis:
    def change(case: Case) -> Case:
        operation: Operation = copy.copy(case.operation)
        setattr(operation, name, value)
        return replace(case, operation=operation)

    return Hypothesis(text, change)


def _exchanged(kind: type[Operation], config: Mapping[str, Any], text: str) -> Hypothesis:
    def change(case: Case) -> Case:
        return replace(case, operation=kind(kind.__name__, config, case.operation.keras_version))

    return Hypothesis(text, change)


def _rescaling(operation: Rescaling) -> Iterator[Hypothesis]:
    for config, text in (({"scale": 1.0}, "the scale was left out"), ({"offset": 0.0}, "the offset was left out")):
        changed = Rescaling(operation.kind, {**operation.config, **config}, operation.keras_version)
        yield Hypothesis(text, lambda case, changed=changed: replace(case, operation=changed))
