"""Faults inside a kernel: one weight, one input channel, or two input channels exchanged.

What the recording has above the reference is correlated with the inputs under each tap. A fault in one weight is that
input times a number; one in an input channel is a sum over its taps alone. Results are taken back through the
activation as far as it has a slope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import cast

import numpy as np

from cnnlens.checking.faults.fits import prepared
from cnnlens.checking.faults.problem import FITTED, Hypothesis, Problem, number, rounded
from cnnlens.checking.noise.case import Array, Case
from cnnlens.checking.noise.linear import product
from cnnlens.checking.noise.propagation import softmax_axis
from cnnlens.reference.keras.convolution import Convolution
from cnnlens.reference.keras.dense import Dense
from cnnlens.reference.operation import LinearOperation

__all__ = ["hypotheses"]

_ROWS = 4000  # positions at most
_ELEMENTS = 1 << 22  # of the table of inputs under the taps
_PAIRS = 8  # input channels of which every two are tried
_CHANNELS = 6  # faulty channels looked at


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest what may have happened to the patches of plain convolutions and dense layers."""
    operation = problem.case.operation
    if not (isinstance(operation, Dense) or (isinstance(operation, Convolution) and operation.groups == 1)):
        return
    found = _table(problem, operation)
    if found is None:
        return
    kernel = np.asarray(problem.case.weights["kernel"], np.float64)
    inputs = kernel.shape[-2]
    if len(found.channels) <= _CHANNELS:
        yield from _single(found, kernel)
    shares = _shares(found, inputs)
    order = np.argsort(shares)[::-1]
    yield from _channel(found, kernel, int(order[0]))
    for first, second in combinations(sorted(int(one) for one in order[:_PAIRS]), 2):
        swap = list(range(inputs))
        swap[first], swap[second] = second, first
        change = _kernel(_reordered(np.array(swap)))
        said = f"input channels {first} and {second} are exchanged"
        yield Hypothesis(said, change, cost=2 * float(np.log2(inputs)))


@dataclass(frozen=True)
class _Table:
    """Holds inputs under the taps ``(positions, taps * inputs)``, what faulty channels have above the reference before
    the activation ``(positions, channels)`` with its weight, and the numbers of these channels, the worst in front."""

    inputs: Array
    residual: Array
    weight: Array
    channels: Array

    def first(self, count: int) -> tuple[Array, Array, Array]:
        return self.residual[:, :count], self.weight[:, :count], self.channels[:count]


def _reordered(order: Array) -> Callable[[Array], Array]:
    return lambda kernel: kernel[..., order, :]


def _kernel(change: Callable[[Array], Array]) -> Callable[[Case], Case]:
    def changed(case: Case) -> Case:
        kernel = np.ascontiguousarray(change(np.asarray(case.weights["kernel"], np.float64)))
        return replace(case, weights={**case.weights, "kernel": kernel})

    return changed


def _table(problem: Problem, operation: LinearOperation) -> _Table | None:
    activation, case = operation.activation, problem.sample
    if activation is not None and not activation.elementwise and softmax_axis(activation) is None:
        return None
    made = product(operation, case.weights, case.args[0], problem.base)
    fit = prepared(problem, operation, made)
    if fit is None:
        return None
    residual, weight = fit.above()
    # A softmax hands the fault of one channel on to all: those where little is left are not to blame.
    size = np.sqrt(np.square(residual * weight).sum(axis=0))
    blamed = np.argsort(-size, kind="stable")
    blamed = blamed[size[blamed] > 0.01 * size.max(initial=0.0)]
    residual, weight, chosen = residual[:, blamed], weight[:, blamed], problem.faulty[blamed]
    kernel = case.weights["kernel"]
    rows = max(min(_ROWS, _ELEMENTS // max(int(np.prod(kernel.shape[:-1])), 1)), 64)
    usable = np.flatnonzero((weight > 0).any(axis=1))
    if usable.size < 8:
        return None
    picked = usable[np.linspace(0, usable.size - 1, min(rows, usable.size)).astype(int)]
    table = _gathered(operation, case, picked, kernel.shape)
    whole = np.isfinite(table).all(axis=1)
    picked = picked[whole]
    return _Table(table[whole], residual[picked], weight[picked], chosen)


def _gathered(operation: LinearOperation, case: Case, picked: Array, shape: tuple[int, ...]) -> Array:
    x = np.asarray(case.args[0], np.float64)
    if not isinstance(operation, Convolution):
        return x.reshape(-1, x.shape[-1])[picked]
    if operation.channels_first:
        x = np.moveaxis(x, 1, -1)
    output = case.output.shape
    sizes = output[2:] if operation.channels_first else output[1:-1]
    places = np.unravel_index(picked, (output[0], *sizes))
    pads = operation.pads(x.shape[1:-1])
    padded = np.pad(x, [(0, 0), *((before, after + 64) for before, after in pads), (0, 0)])
    table = np.empty((picked.size, *shape[:-1]))
    for tap in np.ndindex(*shape[:-2]):
        index = tuple(
            place * stride + offset * gap
            for place, stride, offset, gap in zip(places[1:], operation.strides, tap, operation.dilation, strict=True)
        )
        table[(slice(None), *tap)] = padded[(places[0], *index)]
    return table.reshape(picked.size, -1)


def _single(found: _Table, kernel: Array) -> Iterator[Hypothesis]:
    """One weight of the worst channel, and one of each other."""
    residual, weight, numbers = found.first(_CHANNELS)
    changes: list[tuple[tuple[int, ...], float]] = []
    for place, channel in enumerate(numbers):
        scaled = found.inputs * weight[:, place : place + 1]
        error = residual[:, place] * weight[:, place]
        with np.errstate(all="ignore"):
            along = scaled.T @ error
            size = np.square(scaled).sum(axis=0)
            gain = np.nan_to_num(np.square(along) / size)
        best = int(gain.argmax())
        if gain[best] < 0.999 * float(error @ error):
            return
        index = (*(int(i) for i in np.unravel_index(best, kernel.shape[:-1])), int(channel))
        changes.append((index, float(along[best] / size[best])))
    if not changes:
        return

    def change(k: Array) -> Array:
        k = k.copy()
        for index, step in changes:
            k[index] += step
        return k

    index, step = changes[0]
    old = float(kernel[index])
    more = f" (and {len(changes) - 1} more, one in each faulty channel)" if len(changes) > 1 else ""
    said = f"kernel[{', '.join(map(str, index))}] is {old + step:.6g} where the file says {old:.6g}{more}"
    cost = len(changes) * (FITTED + float(np.log2(kernel.size)))
    yield Hypothesis(said, _kernel(change), narrow=False, cost=cost)


def _shares(found: _Table, inputs: int) -> Array:
    """How much of the residual each input channel could explain by itself."""
    shares: list[Array] = []
    residual, weight, _ = found.first(_CHANNELS)
    cube = found.inputs.reshape(len(found.inputs), -1, inputs)
    for place in range(residual.shape[1]):
        error = residual[:, place] * weight[:, place]
        total = float(error @ error) or 1.0
        scaled = cube * weight[:, place, None, None]
        along = np.einsum("ptc,p->ct", scaled, error)
        square = np.einsum("ptc,puc->ctu", scaled, scaled) if scaled.shape[1] <= 49 else None
        if square is None:
            alone = np.square(along) / np.maximum(np.square(scaled).sum(axis=0).T, 1e-300)
            shares.append(alone.sum(axis=1) / total)
            continue
        ridge = 1e-9 * np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(square.shape[1]) + 1e-300
        solved = cast("Array", np.linalg.solve(square + ridge, along[..., None]))
        shares.append((along * solved[..., 0]).sum(axis=1) / total)
    return np.sum(shares, axis=0)


def _channel(found: _Table, kernel: Array, channel: int) -> Iterator[Hypothesis]:
    """The input channel that explains most, multiplied by a factor (zero: not used at all)."""
    inputs = kernel.shape[-2]
    residual, weight, numbers = found.first(_CHANNELS)
    cube = found.inputs.reshape(len(found.inputs), -1, inputs)[:, :, channel]
    taps = kernel.reshape(-1, inputs, kernel.shape[-1])[:, channel, numbers]
    part = (cube @ taps) * weight
    error = residual * weight
    size = float(np.square(part).sum())
    if not size:
        return
    for value, cost in rounded(1 + float((part * error).sum()) / size):

        def change(k: Array, value: float = value) -> Array:
            k = k.copy()
            k[..., channel, :] *= value
            return k

        what = f"is multiplied by {number(value)}" if abs(value) > 1e-7 else "is left out (as if it were zero)"
        said = f"input channel {channel} {what}"
        yield Hypothesis(said, _kernel(change), cost=cost + float(np.log2(inputs)), claim="an input channel")
