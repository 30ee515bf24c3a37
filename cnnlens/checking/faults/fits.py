"""Systematic faults: a weight, a bias or an operand that is a little off, a factor on what comes out.

A factor of 1.0001 is far below what the eye sees and far above rounding. It is fitted through the layer, for all
channels or channel by channel, and then tried like any other hypothesis: the layer is computed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from cnnlens.checking.faults.problem import (
    FITTED,
    ROUND,
    SIGHT,
    Hypothesis,
    Problem,
    View,
    channels,
    mapped,
    number,
    rounded,
)
from cnnlens.checking.noise.case import Array, Case, arrays_of, map_arrays, wide
from cnnlens.checking.noise.linear import Product, product
from cnnlens.checking.noise.propagation import softmax_axis
from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.reference.keras.convolution import DepthwiseConvolution, SeparableConvolution, TransposedConvolution
from cnnlens.reference.operation import LinearOperation

__all__ = ["Fit", "channel_factors", "hypotheses", "operands", "prepared", "shown", "vector"]

_ROUNDS = 12
_SIGNIFICANT = 2.0**-20  # a factor nearer to one than this is rounding
_ZERO = 1e-7

Change = Callable[[Case], Case]


# --- one factor for all of a weight or an input ----------------------------------------------------------------------


def operands(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest a factor on one weight, or on one of the inputs, as a whole."""
    operation = problem.case.operation
    if isinstance(operation, LinearOperation):
        yield from _whole_kernel(problem, operation)
        return
    inputs = len(_inputs(problem.case))
    changes: list[tuple[str, Callable[[float], Change]]] = []
    for name, array in problem.case.weights.items():
        if array.dtype.kind == "f" and np.any(array):
            changes.append((shown(name), lambda factor, name=name: _scaled_weight(name, factor)))
    for place in range(inputs):
        what = f"input {place + 1} of {inputs}" if inputs > 1 else "the input"
        changes.append((what, lambda factor, place=place: _scaled_input(place, factor)))
    for what, change in changes:
        whose = "what it should be" if "input" in what else "the file's"

        def evaluate(factor: float, change: Callable[[float], Change] = change) -> Array:
            case = change(factor)(problem.sample)
            args, kwargs = case.inputs()
            return np.asarray(case.operation({n: wide(w) for n, w in case.weights.items()}, *args, **kwargs))

        for value, cost in _newton(problem, evaluate):
            cost += float(np.log2(len(changes)))
            yield Hypothesis(times(what, value, whose), change(value), narrow=False, cost=cost, claim=what)


def times(what: str, value: float, whose: str = "what it should be") -> str:
    """Say that something is multiplied by a factor."""
    verb = "are" if what == "outputs" or " and " in what else "is"
    return f"{what} {verb} zero" if abs(value) < _ZERO else f"{what} {verb} {number(value)} times {whose}"


def shown(name: str) -> str:
    """Call a weight by its name, in a sentence."""
    *where, role = name.split("/")
    word = {"gamma": "scale gamma", "beta": "shift beta"}.get(role, role.replace("_", " "))
    return f"the {word}" + (f" of {'/'.join(where)}" if where else "")


def _inputs(case: Case) -> list[Array]:
    return [x for x in arrays_of((case.args, dict(case.kwargs))) if x.dtype.kind == "f"]


def _scaled_weight(name: str, factor: float) -> Change:
    return lambda case: replace(
        case, weights={**case.weights, name: np.asarray(case.weights[name], np.float64) * factor}
    )


def _scaled_input(place: int, factor: float) -> Change:
    def change(case: Case) -> Case:
        seen = count()

        def scaled(x: Array) -> Array:
            return x if x.dtype.kind != "f" or next(seen) != place else np.asarray(x, np.float64) * factor

        args, kwargs = map_arrays((case.args, dict(case.kwargs)), scaled)
        return replace(case, args=args, kwargs=kwargs)

    return change


def _newton(problem: Problem, evaluate: Callable[[float], Array]) -> list[tuple[float, float]]:
    """Fit the factor under which ``evaluate`` gives the sample's output: round numbers next to it first, with the bits
    that they take (Gauss and Newton's steps, halved where they lead away)."""
    output = np.asarray(problem.sample.output, np.float64)
    scale = np.fmax(np.hypot(problem.expected.scale, output), 1e-300)

    def errors(y: Array) -> tuple[Array, float]:
        error = np.where(np.isfinite(output), (output - y) / scale, 0.0)
        size = float(np.square(error).sum())
        return error, size if np.isfinite(size) else np.inf

    factor = 1.0
    error, size = errors(evaluate(factor))
    for _ in range(_ROUNDS):
        near = 2.0**-20 * max(abs(factor), 2.0**-10)
        along = (evaluate(factor + near) - evaluate(factor - near)) / (2 * near * scale)
        along = np.where(np.isfinite(along) & np.isfinite(output), along, 0.0)
        step = float((along * error).sum() / np.square(along).sum())
        if not np.isfinite(step):
            return []
        for _ in range(_ROUNDS):
            tried, left = errors(evaluate(factor + step))
            if left <= size:
                break
            step /= 2
        else:
            break
        factor, error, size = factor + step, tried, left
        if abs(step) <= 1e-9 * max(abs(factor), 2.0**-10):
            break
    return [] if abs(factor - 1) < _SIGNIFICANT else rounded(0.0 if abs(factor) < _ZERO else factor)


def _whole_kernel(problem: Problem, operation: LinearOperation) -> Iterator[Hypothesis]:
    """A factor on the kernel, or on kernel and bias: what the product gives is scaled before the activation."""
    name = _output_weight(operation, problem.case.weights)
    if name is None or not problem.whole:
        return
    made = product(operation, problem.sample.weights, problem.sample.args[0], problem.base)
    bias = np.zeros(1) if made.bias is None else made.bias

    def activated(z: Array) -> Array:
        return z if operation.activation is None else operation.activation.apply(np.ascontiguousarray(z))

    ones = np.ones(_channel_count(operation, problem.case.weights[name]))
    for value, cost in _newton(problem, lambda factor: activated((made.value - bias) * factor + bias)):
        change = _scaled_channels(operation, name, ones * value, bias=False)
        yield Hypothesis(times("the kernel or the input", value), change, narrow=False, cost=cost, claim="the kernel")
    if np.any(bias):
        for value, cost in _newton(problem, lambda factor: activated(made.value * factor)):
            change = _scaled_channels(operation, name, ones * value, bias=True)
            what = "what goes into the activation" if operation.activation is not None else "the kernel and the bias"
            yield Hypothesis(times(what, value), change, narrow=False, cost=cost, claim="kernel and bias")
        for value, cost in _newton(problem, lambda factor: activated(made.value - bias + factor * bias)):
            change = _scaled_weight("bias", value)
            said = {0.0: "the bias was dropped", 2.0: "the bias was added twice"}.get(value)
            yield Hypothesis(said or times("the bias", value, "the file's"), change, cost=cost, claim="the bias")


# --- factors and shifts of single channels ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """The faulty channels as ``(positions, channels)``: recorded, before the activation, bias, the noise's scale."""

    output: Array
    value: Array
    bias: Array
    spread: Array
    activation: Activation | None

    def above(self) -> tuple[Array, Array]:
        """Give what stands above the reference before the activation, and its weight: zero where it cannot be told,
        because the activation is flat there or has no such result."""
        z = np.where(self.slope(self.value)[0] == 0, self.output, self.value)
        for _ in range(_ROUNDS if self.activation is not None else 1):
            slope, y = self.slope(z)
            z = z + np.where(slope != 0, (self.output - y) / slope, 0.0)
        slope, y = self.slope(z)
        noise, move = np.hypot(self.spread * slope, self.output), 2.0**-20 * self.spread
        found = np.isfinite(z) & (np.abs(slope) > 2.0**-10) & (np.abs(y - self.output) <= 2.0**-22 * noise)
        found &= np.abs(self.slope(z + move)[0] - self.slope(z - move)[0]) <= 2.0**-8 * np.abs(slope)  # no kink
        weight = np.where(found, np.abs(slope) / noise, 0.0)
        return np.where(found, z - self.value, 0.0), np.nan_to_num(weight, posinf=0.0)

    def slope(self, z: Array) -> tuple[Array, Array]:
        """The activation's slope and its result at ``z``."""
        if self.activation is None:
            return np.ones_like(z), z
        move = 2.0**-20 * np.maximum(self.spread, 1e-300)
        slope = (self.activation.apply(z + move) - self.activation.apply(z - move)) / (2 * move)
        return slope, self.activation.apply(z)


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest factors and shifts of the faulty channels."""
    operation = problem.case.operation
    if isinstance(operation, LinearOperation):
        yield from _linear(problem, operation)
    yield from _outputs(problem)


def channel_factors(
    problem: Problem, what: str, factors: Array, made: Callable[[Array], Hypothesis]
) -> Iterator[Hypothesis]:
    """Suggest that a weight, or the results, of the faulty channels are multiplied: by one factor, or each by its own.

    Args:
        what: Is multiplied, ``the kernel``.
        factors: One for each faulty channel, fitted.
        made: Makes, of a factor for every channel, the hypothesis without its words.
    """
    off = np.abs(factors - 1)
    if not np.isfinite(factors).all() or np.all(off < _SIGNIFICANT):
        return
    # A softmax spreads the fault of one channel over all; those whose own factor is one are not to blame.
    blamed = off > max(_SIGNIFICANT, 0.01 * float(off.max()))
    numbers, total = problem.faulty[blamed], problem.total
    everywhere = numbers.size == problem.used
    whose = "the reference" if what == "outputs" else "the file's"
    choice = 0.0 if everywhere else min(numbers.size * float(np.log2(total)), float(total))

    def suggested(used: Array | float, said: str, cost: float) -> Hypothesis:
        full = np.ones(total)
        full[slice(None) if everywhere and isinstance(used, float) else numbers] = used
        where = "" if everywhere else f"{channels(numbers)}: " if what == "outputs" else f"output {channels(numbers)}: "
        return replace(made(full), text=where + said, narrow=False, cost=cost + choice, claim=what)

    for value, cost in rounded(float(np.median(factors[blamed]))):
        yield suggested(value, times(what, value, whose), cost)
    if numbers.size > 1:
        low, high = number(float(factors[blamed].min())), number(float(factors[blamed].max()))
        said = times(what, 2.0, whose).replace(" 2 times", f" {low} to {high} times")
        yield suggested(factors[blamed], said, FITTED * numbers.size)


def _linear(problem: Problem, operation: LinearOperation) -> Iterator[Hypothesis]:
    made = product(operation, problem.sample.weights, problem.sample.args[0], problem.base)
    fit = prepared(problem, operation, made)
    name = _output_weight(operation, problem.case.weights)
    if fit is None or name is None:
        return
    if _channel_count(operation, problem.case.weights[name]) != problem.tally.count.size:
        return
    factors = _solve(fit, fit.value - fit.bias) + 1

    def kernel(full: Array, bias: bool = False) -> Hypothesis:
        return Hypothesis("", _scaled_channels(operation, name, full, bias=bias))

    yield from channel_factors(problem, "the kernel", factors, kernel)
    if "bias" not in problem.case.weights:
        return
    if fit.bias.any():
        both = _solve(fit, fit.value) + 1
        yield from channel_factors(problem, "kernel and bias", both, lambda full: kernel(full, bias=True))
    shifts = _solve(fit, np.ones((1, fit.value.shape[1])))
    bias = np.asarray(problem.case.weights["bias"], np.float64)
    if bias.shape == problem.tally.count.shape:
        values = bias[problem.faulty] + shifts
        words = {0.0: "was dropped", 2.0: "was added twice"}
        yield from vector(problem, "bias", values, _with_bias, words)


def _with_bias(values: Array) -> Change:
    return lambda case: replace(case, weights={**case.weights, "bias": values})


def prepared(problem: Problem, operation: LinearOperation, made: Product) -> Fit | None:
    """Lay out the faulty channels of a layer for a fit in front of its activation; None where that cannot be seen."""
    activation = operation.activation
    output = np.asarray(problem.sample.output, np.float64)
    value, spread = problem.rows(made.value), problem.rows(made.spread)
    if activation is not None and not activation.elementwise:
        if softmax_axis(activation) is None or made.value.shape != output.shape:
            return None
        # The logarithm of a softmax is linear but for one number an example, which the median channel gives away.
        rows = problem.rows(output if activation.name == "log_softmax" else np.log(output))
        apart = np.where(np.isfinite(rows), rows - value, np.nan)
        apart[np.isnan(apart).all(axis=1)] = 0
        rows = rows - np.nanmedian(apart, axis=1, keepdims=True)
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
    return Fit(output[:, chosen], value[:, chosen], bias[:, chosen], spread[:, chosen], activation)


def _solve(fit: Fit, direction: Array) -> Array:
    """The step along ``direction`` before the activation that fits each channel best (Gauss and Newton's)."""
    step = np.zeros(fit.value.shape[1])
    for _ in range(_ROUNDS):
        slope, y = fit.slope(fit.value + step * direction)
        with np.errstate(all="ignore"):
            along = slope * direction / fit.spread
            error = (fit.output - y) / fit.spread
            usable = np.isfinite(along) & np.isfinite(error)
            change = np.where(usable, along * error, 0).sum(axis=0) / np.where(usable, np.square(along), 0).sum(axis=0)
        step += np.nan_to_num(change)
        if np.all(np.abs(change) <= 1e-10 * np.abs(step)):
            break
    return step


def _output_weight(operation: LinearOperation, weights: Any) -> str | None:
    names = ("pointwise_kernel",) if isinstance(operation, SeparableConvolution) else ("kernel", "depthwise_kernel")
    return next((name for name in names if name in weights), None)


def _channel_count(operation: LinearOperation, kernel: Array) -> int:
    if isinstance(operation, DepthwiseConvolution):
        return kernel.shape[-1] * kernel.shape[-2]
    return kernel.shape[-2] if isinstance(operation, TransposedConvolution) else kernel.shape[-1]


def _scaled_channels(operation: LinearOperation, name: str, factors: Array, *, bias: bool) -> Change:
    def change(case: Case) -> Case:
        kernel = np.asarray(case.weights[name], np.float64)
        if isinstance(operation, DepthwiseConvolution):
            kernel = kernel * factors.reshape(kernel.shape[-2:])
        elif isinstance(operation, TransposedConvolution):
            kernel = kernel * factors[:, None]
        else:
            kernel = kernel * factors
        weights = {**case.weights, name: kernel}
        if bias:
            weights["bias"] = np.asarray(case.weights["bias"], np.float64) * factors
        return replace(case, weights=weights)

    return change


def vector(
    problem: Problem, name: str, values: Array, change: Callable[[Array], Change], words: Mapping[float, str] = {}
) -> Iterator[Hypothesis]:
    """Suggest other numbers for the faulty channels in a weight of one number a channel.

    Args:
        values: One for each faulty channel, fitted.
        change: Makes, of the whole weight as it may have been, the change of the case.
        words: What is said of some factors instead of the factor.
    """
    stored, numbers = np.asarray(problem.case.weights[name], np.float64), problem.faulty
    if stored.shape != (problem.tally.count.size,) or not np.isfinite(values).all():
        return
    own, what = stored[numbers], shown(name)
    where = "" if problem.whole else f" of output {channels(numbers)}"
    choice = 0.0 if problem.whole else min(numbers.size * float(np.log2(stored.size)), float(stored.size))

    def made(text: str, used: Array, cost: float) -> Hypothesis:
        full = stored.copy()
        full[numbers] = used
        return Hypothesis(text, change(full), narrow=False, cost=cost + choice, claim=what)

    if own.all():
        middle = float(np.median(values / own))
        for value, cost in rounded(0.0 if abs(middle) < _ZERO else middle)[:-1]:
            said = words.get(value)
            yield made(f"{what}{where} {said}" if said else times(what + where, value, "the file's"), own * value, cost)
    place = int(np.abs(values - own).argmax())
    known = f"{values[place]:.6g} where the file says {own[place]:.6g}"
    said = f"is {known}" if numbers.size == 1 else f"is not the file's (channel {int(numbers[place])}: {known})"
    text = f"{what}{where} {said}"
    common = float(f"{float(np.median(values - own)):.3g}")  # people and programs are off by short numbers
    yield made(text, own + common, ROUND)
    yield made(text, values, FITTED * numbers.size)


def _outputs(problem: Problem) -> Iterator[Hypothesis]:
    """A factor, or a factor and a shift, on the results of each faulty channel."""
    output = problem.rows(np.asarray(problem.sample.output, np.float64))[:, problem.faulty]
    expected = problem.rows(problem.expected.low)[:, problem.faulty]
    scale = np.hypot(problem.rows(problem.expected.scale)[:, problem.faulty], output)
    total, axis = problem.total, problem.sample.channel(problem.sample.output)

    def view(factors: Array, shifts: Array | float = 0.0) -> View:
        def changed(y: Array) -> Array:
            shape = [-1 if place == axis and y.ndim > 1 else 1 for place in range(y.ndim)]
            return y * factors.reshape(shape) + (shifts.reshape(shape) if isinstance(shifts, np.ndarray) else shifts)

        return mapped(changed)

    plain, _ = _line(output, expected, scale, shifted=False)
    yield from channel_factors(problem, "outputs", plain, lambda full: Hypothesis("", view=view(full)))
    slope, shift = _line(output, expected, scale)
    if not (np.isfinite(slope).all() and np.isfinite(shift).all()):
        return
    where = "outputs are" if problem.whole else f"{channels(problem.faulty)}: outputs are"
    choice = 0.0 if problem.whole else min(shift.size * float(np.log2(total)), float(total))
    found = _shift(output, expected, scale)
    common = float(np.median(found[np.isfinite(found)])) if np.isfinite(found).any() else 0.0
    full = np.zeros(total)
    full[slice(None) if problem.whole else problem.faulty] = common
    short = float(f"{common:.3g}")
    for value, cost in ((short, ROUND), (common, FITTED)):
        said = f"{where} the reference plus {value:.6g}"
        one = view(np.ones(total), full * (value / common) if common else full)
        yield Hypothesis(said, view=one, narrow=False, cost=cost + choice, claim="a shift")
    factors, shifts = np.ones(total), np.zeros(total)
    # A number that takes more bits than it explains is noise, and is neither used nor said.
    ways = ((slope, shift), (plain, np.zeros_like(shift)), (np.ones_like(slope), found))
    price = (2 * FITTED, FITTED, FITTED)
    left = [_left(output - one * expected - more, scale) + bits for (one, more), bits in zip(ways, price, strict=True)]
    best = np.argmin(left, axis=0)
    slope, shift = (np.choose(best, numbers) for numbers in zip(*ways, strict=True))
    if not shift.any():  # which is factors alone
        return
    factors[problem.faulty], shifts[problem.faulty] = slope, shift
    place = int(np.where(shift != 0, np.abs(slope - 1), -1.0).argmax())
    times = f"{number(float(slope[place]))} times the reference" if slope[place] != 1 else "the reference"
    text = f"{where} {times} plus {shift[place]:.4g}"
    if shift.size > 1:
        text += f" in channel {int(problem.faulty[place])}, each by numbers of its own"
    cost = FITTED * int((slope != 1).sum() + (shift != 0).sum()) + choice
    yield Hypothesis(text, view=view(factors, shifts), narrow=False, cost=cost, claim="outputs")


def _left(error: Array, scale: Array) -> Array:
    """Count the bits that errors leave to be said of each channel."""
    ratio = np.clip(np.abs(np.where(np.isfinite(error), error, 0.0)) / scale, 0, 16)
    return np.nansum(np.log2(1 + ratio * 2.0**SIGHT), axis=0)


def _shift(output: Array, expected: Array, scale: Array) -> Array:
    """The weighted mean of what each channel has above the reference."""
    weight = 1 / np.square(scale)
    weight = np.where(np.isfinite(weight) & np.isfinite(output - expected), weight, 0.0)
    return np.where(weight > 0, weight * (output - expected), 0.0).sum(axis=0) / weight.sum(axis=0)


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
