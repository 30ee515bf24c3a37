"""Systematic faults of single channels: a kernel or a bias that is a little off, a factor on what comes out.

A factor of 1.0001 is far below what the eye sees and far above rounding. It is fitted through the activation, channel
by channel, and then tried like any other hypothesis: the layer is computed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnlens.checking.faults.problem import Hypothesis, Problem, channels, number
from cnnlens.checking.noise.case import Array, Case
from cnnlens.checking.noise.linear import product
from cnnlens.checking.noise.propagation import softmax_axis
from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.keras.convolution import DepthwiseConvolution, SeparableConvolution, TransposedConvolution
from cnnlens.reference.operation import LinearOperation

__all__ = ["describe", "hypotheses"]

_ROUNDS = 8
_SIGNIFICANT = 2.0**-20  # a factor nearer to one than this is rounding


@dataclass(frozen=True)
class _Fit:
    """The faulty channels as ``(positions, channels)``: recorded, before the activation, bias, the noise's scale."""

    output: Array
    value: Array
    bias: Array
    spread: Array
    activation: Activation | None


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest factors and shifts of the faulty channels."""
    operation = problem.case.operation
    if isinstance(operation, LinearOperation):
        yield from problem.ranked(_linear(problem, operation))
    yield from _outputs(problem)


def _linear(problem: Problem, operation: LinearOperation) -> Iterator[Hypothesis]:
    fit = _prepare(problem, operation)
    if fit is None:
        return
    name = _output_weight(operation, problem.case.weights)
    if name is None:
        return
    has_bias = "bias" in problem.case.weights and fit.bias.any()
    count = _channel_count(operation, problem.case.weights[name])
    if count != problem.tally.count.size:
        return
    factors = _solve(fit, fit.value - fit.bias) + 1
    yield from _factors(problem, factors, "the kernel", _scaled(problem, operation, name, bias=False))
    if has_bias:
        both = _solve(fit, fit.value) + 1
        yield from _factors(problem, both, "kernel and bias", _scaled(problem, operation, name, bias=True))
    if "bias" in problem.case.weights:
        yield from _bias(problem, _solve(fit, np.ones((1, fit.value.shape[1]))))


def _prepare(problem: Problem, operation: LinearOperation) -> _Fit | None:
    activation = operation.activation
    case = problem.sample
    made = product(operation, case.weights, case.args[0], problem.base)
    output = np.asarray(case.output, np.float64)
    value, spread = problem.rows(made.value), problem.rows(made.spread)
    if activation is not None and not activation.elementwise:
        if softmax_axis(activation) is None or made.value.shape != output.shape:
            return None
        # The logarithm of a softmax is linear but for one number an example, which the median channel gives away.
        with np.errstate(all="ignore"):
            output = output if activation.name == "log_softmax" else np.log(output)
        rows = problem.rows(output)
        rows = rows - np.nanmedian(np.where(np.isfinite(rows), rows - value, np.nan), axis=1, keepdims=True)
        output, activation = rows, None
    else:
        output = problem.rows(output)
    if output.shape != value.shape:
        return None
    bias = np.zeros((1, value.shape[1])) if made.bias is None else np.reshape(made.bias, (1, -1))
    if bias.shape[1] not in (1, value.shape[1]):
        return None
    bias = np.broadcast_to(bias, (1, value.shape[1]))
    chosen = problem.faulty
    return _Fit(output[:, chosen], value[:, chosen], bias[:, chosen], spread[:, chosen], activation)


def _solve(fit: _Fit, direction: Array) -> Array:
    """The step along ``direction`` before the activation that fits each channel best (Gauss and Newton's)."""
    step = np.zeros(fit.value.shape[1])
    near = 2.0**-20
    for _ in range(_ROUNDS):
        z = fit.value + step * direction
        if fit.activation is None:
            y, slope = z, np.ones_like(z)
        else:
            y = fit.activation.apply(z)
            move = near * np.maximum(fit.spread, 1e-300)
            slope = (fit.activation.apply(z + move) - fit.activation.apply(z - move)) / (2 * move)
        with np.errstate(all="ignore"):
            along = slope * direction / fit.spread
            error = (fit.output - y) / fit.spread
            usable = np.isfinite(along) & np.isfinite(error)
            change = np.where(usable, along * error, 0).sum(axis=0) / np.where(usable, np.square(along), 0).sum(axis=0)
        step += np.nan_to_num(change)
        if np.all(np.abs(change) <= 1e-10 * (1 + np.abs(step))):
            break
    return step


def _output_weight(operation: LinearOperation, weights: Any) -> str | None:
    names = ("pointwise_kernel",) if isinstance(operation, SeparableConvolution) else ("kernel", "depthwise_kernel")
    return next((name for name in names if name in weights), None)


def _channel_count(operation: LinearOperation, kernel: Array) -> int:
    if isinstance(operation, DepthwiseConvolution):
        return kernel.shape[-1] * kernel.shape[-2]
    return kernel.shape[-2] if isinstance(operation, TransposedConvolution) else kernel.shape[-1]


def _scaled(
    problem: Problem, operation: LinearOperation, name: str, *, bias: bool
) -> Callable[[Array], Callable[[Case], Case]]:
    """Makes, of factors for the faulty channels, the case with weights scaled so."""

    def made(used: Array) -> Callable[[Case], Case]:
        def change(case: Case) -> Case:
            kernel = np.asarray(case.weights[name], np.float64)
            full = np.ones(_channel_count(operation, kernel))
            full[problem.faulty] = used
            if isinstance(operation, DepthwiseConvolution):
                kernel = kernel * full.reshape(kernel.shape[-2:])
            elif isinstance(operation, TransposedConvolution):
                kernel = kernel * full[:, None]
            else:
                kernel = kernel * full
            weights = {**case.weights, name: kernel}
            if bias:
                weights["bias"] = np.asarray(case.weights["bias"], np.float64) * full
            return replace(case, weights=weights)

        return change

    return made


def _factors(
    problem: Problem, factors: Array, what: str, made: Callable[[Array], Callable[[Case], Case]]
) -> Iterator[Hypothesis]:
    if not np.isfinite(factors).all() or np.all(np.abs(factors - 1) < _SIGNIFICANT):
        return
    # A softmax spreads the fault of one channel over all; those whose own factor is one are not to blame.
    off = np.abs(factors - 1)
    blamed = off > max(_SIGNIFICANT, 0.01 * float(off.max()))
    said = _of(what, problem, problem.faulty[blamed])
    middle = float(np.median(factors[blamed]))
    # One number fitted to one output always fits; a round one does not.
    values = (_rounded(middle), middle) if _outputs_of(problem, problem.faulty[blamed]) >= 3 else (_rounded(middle),)
    for value in values:
        yield Hypothesis(f"{said} {number(value)} times the file's", made(np.where(blamed, value, 1.0)), narrow=False)
    if problem.faulty.size > 1 and _supported(problem):
        low, high = number(float(factors[blamed].min())), number(float(factors[blamed].max()))
        used = np.where(blamed, factors, 1.0)
        yield Hypothesis(f"{said} {low} to {high} times the file's", made(used), narrow=False)


def _outputs_of(problem: Problem, numbers: Array) -> float:
    return float(problem.tally.count[numbers].sum())


def _of(what: str, problem: Problem, blamed: Array) -> str:
    verb = "are" if "and" in what else "is"
    if problem.whole and blamed.size == problem.faulty.size:
        return f"{what} {verb}"
    return f"output {channels(blamed)}: {what} {verb}"


def _supported(problem: Problem) -> bool:
    """Whether channels have enough outputs to tell a fit of one number each from a coincidence."""
    used = problem.tally.count[problem.faulty]
    return bool(used.size) and float(used.min()) >= 4


def _rounded(value: float) -> float:
    """The round number next to a fitted one: factors that people and programs make are short."""
    digits = 2 - int(np.floor(np.log10(abs(value - 1)))) - 1 if abs(value - 1) > 1e-9 else 9
    return round(value, max(min(digits, 7), 3))


def _bias(problem: Problem, shifts: Array) -> Iterator[Hypothesis]:
    own = np.asarray(problem.case.weights["bias"], np.float64)
    if own.ndim != 1 or own.size != problem.tally.count.size or not _supported(problem):
        return
    own = own[problem.faulty]

    def change(case: Case) -> Case:
        full = np.array(case.weights["bias"], np.float64)
        full[problem.faulty] += shifts
        return replace(case, weights={**case.weights, "bias": full})

    size = np.maximum(np.abs(own), 1e-30)
    where = "" if problem.whole else f" of output {channels(problem.faulty)}"
    if np.all(np.abs(shifts + own) < 1e-4 * size) and own.any():
        text = f"the bias{where} was dropped"
    elif np.all(np.abs(shifts - own) < 1e-4 * size) and own.any():
        text = f"the bias{where} was added twice"
    elif problem.faulty.size == 1:
        text = f"the bias{where} is {own[0] + shifts[0]:.6g} where the file says {own[0]:.6g}"
    else:
        place = int(np.abs(shifts).argmax())
        channel = int(problem.faulty[place])
        text = (
            f"the bias{where} is not the file's (channel {channel}: {own[place] + shifts[place]:.6g} "
            f"where the file says {own[place]:.6g})"
        )
    yield Hypothesis(text, change, narrow=False)


def _outputs(problem: Problem) -> Iterator[Hypothesis]:
    """A factor, or a factor and a shift, on the results of each faulty channel."""
    output = problem.rows(np.asarray(problem.sample.output, np.float64))[:, problem.faulty]
    expected = problem.rows(problem.expected.low)[:, problem.faulty]
    scale = problem.rows(problem.expected.scale)[:, problem.faulty]
    slope, shift = _line(output, expected, scale)
    axis = problem.sample.channel(problem.sample.output)

    def view_of(factors: Array, shifts: Array) -> Callable[[Array], Array]:
        def view(y: Array) -> Array:
            shape = [1] * y.ndim
            shape[axis] = -1
            full, added = np.ones(y.shape[axis]), np.zeros(y.shape[axis])
            full[problem.faulty], added[problem.faulty] = factors, shifts
            # Scales are viewed too; a shift of theirs only makes them larger.
            return y * full.reshape(shape) + added.reshape(shape)

        return view

    plain, _ = _line(output, expected, scale, shifted=False)
    where = "outputs are" if problem.whole else f"{channels(problem.faulty)}: outputs are"
    if np.isfinite(plain).all():
        middle = float(np.median(plain))
        for value in (_rounded(middle), middle) if np.count_nonzero(output) >= 3 else (_rounded(middle),):
            if value not in (0.0, 1.0):
                view = view_of(np.full(plain.shape, value), np.zeros(plain.shape))
                yield Hypothesis(f"{where} {number(value)} times the reference", view=view, narrow=False)
        if _supported(problem) and plain.size > 1:
            low, high = number(float(plain.min())), number(float(plain.max()))
            view = view_of(plain, np.zeros(plain.shape))
            yield Hypothesis(f"{where} {low} to {high} times the reference", view=view, narrow=False)
    if np.isfinite(slope).all() and _supported(problem):
        place = int(np.abs(slope - 1).argmax())
        text = f"{where} {number(float(slope[place]))} times the reference plus {shift[place]:.4g}"
        if np.all(np.abs(slope - 1) < 1e-6):
            text = f"{where} the reference plus {shift[place]:.6g}"
        yield Hypothesis(text, view=view_of(slope, shift), narrow=False)


def _line(output: Array, expected: Array, scale: Array, *, shifted: bool = True) -> tuple[Array, Array]:
    """The weighted least-squares line ``output = slope expected + shift`` of each channel."""
    with np.errstate(all="ignore"):
        weight = 1 / np.square(scale)
        usable = np.isfinite(weight) & np.isfinite(output) & np.isfinite(expected) & ((output != 0) | (expected != 0))
        weight = np.where(usable, weight, 0.0)
        output, expected = np.where(usable, output, 0.0), np.where(usable, expected, 0.0)
        total = weight.sum(axis=0)
        zero = np.zeros(output.shape[1])
        x = (weight * expected).sum(axis=0) / total if shifted else zero
        y = (weight * output).sum(axis=0) / total if shifted else zero
        slope = (weight * (expected - x) * (output - y)).sum(axis=0) / (weight * np.square(expected - x)).sum(axis=0)
    return slope, y - slope * x


def describe(problem: Problem) -> str:
    """Say what can be said where nothing explains it: how large, how many, where."""
    case = problem.sample
    output = np.asarray(case.output, np.float64)
    error = output - problem.expected.low
    with np.errstate(all="ignore"):
        off = np.abs(error) > 2.0**-14 * problem.expected.scale
        relative = float(np.sqrt(np.nansum(np.square(error)) / np.nansum(np.square(problem.expected.low))))
    off &= np.isfinite(error)
    share = float(off.mean()) if off.size else 0.0
    if output.size > 1 and np.all(output == output.flat[0]):
        return f"every output is {output.flat[0]:.6g}"
    place = _place(problem, off)
    worst = float(np.nanmax(np.abs(error))) if error.size else 0.0
    size = f"off by up to {worst:.3g} (relative RMS {relative:.2g})"
    if share == 0:
        return f"{size}: small, systematic or not, and unexplained"
    many = f"{100 * share:.3g} % of the outputs" if share > 0.001 else f"{int(off.sum()):,} of {off.size:,} outputs"
    return f"{many} differ, {size}{place}"


def _place(problem: Problem, off: Array) -> str:
    """Where the wrong outputs are, if they keep together."""
    if not off.any():
        return ""
    axis = problem.sample.channel(off)
    said: list[str] = []
    if not problem.whole:
        said.append(f"only in {channels(problem.faulty)}")
    spatial = [place for place in range(1, off.ndim) if place != axis]
    names = {1: ["position"], 2: ["row", "column"], 3: ["slice", "row", "column"]}.get(len(spatial), [])
    for place, name in zip(spatial, names, strict=False):
        hit = np.flatnonzero(off.any(axis=tuple(other for other in range(off.ndim) if other != place)))
        size = off.shape[place]
        if size > 4 and hit.size <= 2 and all(index in (0, 1, size - 2, size - 1) for index in hit):
            said.append(f"only in {name} {' and '.join(str(int(index)) for index in hit)} of {size}")
    images = np.flatnonzero(off.any(axis=tuple(range(1, off.ndim))))
    if off.shape[0] > 2 and images.size == 1:
        said.append("only in one example of the batch")
    return (", " + ", ".join(said)) if said else ""
