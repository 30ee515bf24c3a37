"""Faults of where windows stand: padding on the other side, symmetric padding, other padding values, shifted strides.

TensorFlow puts the odd zero of ``same`` behind, PyTorch pads both sides alike, and some backends repeat the edge. Each
is tried by padding the input so and computing the layer without padding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product as every
from typing import Any, cast

import numpy as np

from cnnlens.checking.faults.problem import Hypothesis, Problem
from cnnlens.checking.noise.case import Array, Case
from cnnlens.reference.keras.convolution import (
    Convolution,
    DepthwiseConvolution,
    SeparableConvolution,
    TransposedConvolution,
)
from cnnlens.reference.keras.pooling import GlobalPooling, Pooling
from cnnlens.reference.operation import Operation

__all__ = ["hypotheses"]

Pads = tuple[tuple[int, int], ...]
_MODES = {"edge": "edge replication", "reflect": "reflection", "wrap": "wrapping round"}


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest other strides, paddings and axes for convolutions and pooling."""
    operation = problem.case.operation
    if isinstance(operation, TransposedConvolution):
        yield from _crops(operation)
    elif isinstance(operation, Convolution | DepthwiseConvolution | SeparableConvolution | Pooling):
        yield from _windows(problem, operation)
    if isinstance(operation, Pooling | GlobalPooling):
        yield from _kinds(operation)


def _window(operation: Any) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    if isinstance(operation, Pooling):
        return operation.window, operation.strides, operation.dilation
    return operation.kernel_size, operation.strides, operation.dilation


def _kinds(operation: Pooling | GlobalPooling) -> Iterator[Hypothesis]:
    def other(case: Case) -> Case:
        changed = copy.copy(operation)
        changed.maximum = not operation.maximum
        ways = ("Max", "Average") if operation.maximum else ("Average", "Max")
        changed.kind = operation.kind.replace(*ways)  # which says what it may round
        return replace(case, operation=changed)

    names = ("maximum", "mean") if operation.maximum else ("mean", "maximum")
    yield Hypothesis(f"the {names[1]} was taken instead of the {names[0]}", other)
    if not operation.maximum and isinstance(operation, GlobalPooling):

        def view(case: Case) -> Case:
            x = cast("Array", case.args[0])
            cells = int(np.prod([x.shape[axis] for axis in operation.axes(x.ndim)]))
            return replace(case, args=(np.asarray(x, np.float64) * cells,))

        yield Hypothesis("the sum was taken instead of the mean", view)


def _windows(problem: Problem, operation: Any) -> Iterator[Hypothesis]:
    x = cast("Array", problem.sample.args[0])
    first = 2 if operation.channels_first else 1
    sizes = x.shape[first : first + operation.rank]
    window, strides, dilation = _window(operation)
    outputs = problem.sample.output.shape[first : first + operation.rank]
    pooled = isinstance(operation, Pooling)
    own: list[tuple[int, int]] = []
    pads = operation.pads(sizes)
    geometry = zip(sizes, window, strides, dilation, outputs, pads, strict=True)
    for size, extent, stride, gap, count, (before, _) in geometry:
        own.append((before, (count - 1) * stride + (extent - 1) * gap + 1 - size - before))
    if pooled and operation.counts_padding:
        if any(before > 0 or after > 0 for before, after in own):
            yield Hypothesis("the mean leaves the padding out", _counting(operation))
    elif pooled and not operation.maximum:
        if any(before > 0 or after > 0 for before, after in own):
            said = "the mean counts the padding as zeros"
            yield Hypothesis(said, _padded(operation, tuple(own), "zeros"))
            said = "the padding repeats the edge before the mean is taken, so edge cells count several times"
            yield Hypothesis(said, _padded(operation, tuple(own), "edge"))
    elif not pooled:
        for mode, name in _MODES.items():
            if any(before > 0 or after > 0 for before, after in own):
                yield Hypothesis(f"the padding is {name} instead of zeros", _padded(operation, tuple(own), mode))
    elif any(before > 0 or after > 0 for before, after in own):
        said = "the padding counts as zeros, not as nothing, in the maximum"
        yield Hypothesis(said, _padded(operation, tuple(own), "zeros"))
    yield from _shifted(operation, own)
    yield from _dilated(operation, own)


def _dilated(operation: Any, own: Sequence[tuple[int, int]]) -> Iterator[Hypothesis]:
    """Another dilation, one for all axes; windows start where the model's do, or have the same centres."""
    window, _, dilation = _window(operation)
    mode = "nothing" if isinstance(operation, Pooling) and not operation.counts_padding else "zeros"
    for gap in range(1, max(max(dilation), 3) + 1):
        spare = [(extent - 1) * (model - gap) for extent, model in zip(window, dilation, strict=True)]
        if not any(spare):
            continue
        changed = copy.copy(operation)
        changed.dilation = (gap,) * operation.rank
        said = "the dilation is left out" if gap == 1 else f"the dilation is {gap}"
        said += f" where the model says {dilation[0] if len(set(dilation)) == 1 else tuple(dilation)}"
        for share, how in ((0.5, ""), (0.0, ", with windows that start where the model's do")):
            pads = tuple(
                (before - int(more * share), after - more + int(more * share))
                for (before, after), more in zip(own, spare, strict=True)
            )
            yield Hypothesis(said + how, _padded(changed, pads, mode), claim="the dilation")


def _shifted(operation: Any, own: Sequence[tuple[int, int]]) -> Iterator[Hypothesis]:
    pooled = isinstance(operation, Pooling)
    names = {1: ["the length"], 2: ["the height", "the width"], 3: ["the depth", "the height", "the width"]}[
        operation.rank
    ]
    reach = [min(max(extent // 2, 1), 3) for extent in _window(operation)[0]]
    steps = [range(-limit, limit + 1) for limit in reach]
    for shift in sorted(every(*steps), key=lambda one: sum(map(abs, one))):
        if not any(shift):
            continue
        pads = tuple((before + step, after - step) for (before, after), step in zip(own, shift, strict=True))
        along = " and ".join(
            f"{name} by {abs(step)} ({'towards the front' if step > 0 else 'towards the back'})"
            for name, step in zip(names, shift, strict=True)
            if step
        )
        said = f"the window is shifted along {along}"
        if operation.padding in ("same", "explicit"):
            was = ", ".join(f"{before}+{after}" for before, after in own)
            now = ", ".join(f"{before}+{after}" for before, after in pads)
            if all(before >= 0 and after >= -1 for before, after in pads):
                said += f": padding {now} where the model's is {was}"
        mode = "nothing" if pooled and not operation.counts_padding else "zeros"
        yield Hypothesis(said, _padded(operation, pads, mode))
        if pooled and not operation.maximum and not operation.counts_padding and max(map(abs, shift)) == 1:
            for mode, text in (("zeros", "counts the padding as zeros"), ("edge", "repeats the edge")):
                change = _padded(operation, pads, mode)
                yield Hypothesis(f"{said}, and the mean {text}", change)


def _counting(operation: Pooling) -> Callable[[Case], Case]:
    """The same mean over the real cells alone."""

    def change(case: Case) -> Case:
        changed = copy.copy(operation)
        changed.counts_padding = False
        return replace(case, operation=changed)

    return change


def _padded(operation: Any, pads: Pads, mode: str) -> Callable[[Case], Case]:
    """The layer without padding of its own on an input padded (or, where negative, cut) by ``pads``.

    ``mode``: ``zeros``, ``nothing`` (cells that a maximum or a mean passes over) or one of NumPy's.
    """

    def change(case: Case) -> Case:
        x = np.asarray(case.args[0], np.float64)
        first = 2 if operation.channels_first else 1
        plain = copy.copy(operation)
        plain.padding, plain.edges, plain.ceil_mode = "valid", ((0, 0),) * operation.rank, False
        for axis, (before, after) in enumerate(pads, first):
            cut = [slice(None)] * x.ndim
            cut[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
            x = x[tuple(cut)]
        width = [(0, 0)] * x.ndim
        for axis, (before, after) in enumerate(pads, first):
            width[axis] = (max(before, 0), max(after, 0))
        if mode in _MODES:
            return replace(case, operation=plain, args=(np.pad(x, width, cast("Any", mode)),))
        if mode == "zeros":
            return replace(case, operation=plain, args=(np.pad(x, width),))
        if operation.maximum:
            return replace(case, operation=plain, args=(np.pad(x, width, constant_values=-np.inf),))
        real = plain({}, np.pad(np.ones_like(x), width))
        return replace(case, operation=_Divided(plain, real), args=(np.pad(x, width),))

    return change


class _Divided(Operation):
    """A mean over the real cells of each window alone: the mean over all of them, by the share that is real."""

    def __init__(self, inner: Operation, real: Array) -> None:
        super().__init__(inner.kind, inner.config, inner.keras_version)
        self.inner, self.real = inner, real

    def __call__(self, weights: Any, *args: Any, **kwargs: Any) -> Any:
        return self.inner(weights, *args, **kwargs) / self.real


def _crops(operation: TransposedConvolution) -> Iterator[Hypothesis]:
    """A transposed convolution whose full result is cut elsewhere, or whose kernel is used as a convolution's."""
    names = {1: ["the length"], 2: ["the height", "the width"], 3: ["the depth", "the height", "the width"]}[
        operation.rank
    ]
    for shift in sorted(every((0, 1, -1, 2, -2), repeat=operation.rank), key=lambda one: sum(map(abs, one))):
        if any(shift):
            along = " and ".join(f"{name} by {step:+d}" for name, step in zip(names, shift, strict=True) if step)
            yield Hypothesis(f"the output is cut from the full result shifted along {along}", _cut(operation, shift))


def _cut(operation: TransposedConvolution, shift: Sequence[int]) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        return replace(case, operation=_Shifted(operation, shift))

    return change


class _Shifted(TransposedConvolution):
    """A transposed convolution whose output starts ``shift`` positions later in the full result."""

    def __init__(self, plain: TransposedConvolution, shift: Sequence[int]) -> None:
        super().__init__(plain.kind, plain.config, plain.keras_version)
        self.shift = tuple(shift)

    def __call__(self, weights: Any, *args: Any, **kwargs: Any) -> Array:
        result = self.linear(weights, args[0])
        return result if self.activation is None else self.activation(result)

    def linear(self, weights: Any, x: Array) -> Array:
        first = 2 if self.channels_first else 1
        full = copy.copy(self)
        full.padding, full.edges, full.output_padding = "valid", ((0, 0),) * self.rank, None
        silent = {name: np.zeros_like(array) if name == "bias" else array for name, array in weights.items()}
        result = TransposedConvolution.linear(full, silent, x)
        spatial = x.shape[first : first + self.rank]
        sizes = cast("tuple[int, ...]", self.sizes(spatial))
        for axis, (wanted, cut, step) in enumerate(zip(sizes, self.lefts(spatial, sizes), self.shift, strict=True)):
            left = cut + step
            result = np.pad(
                result, [(9, 9 + wanted) if place == first + axis else (0, 0) for place in range(result.ndim)]
            )
            result = np.take(result, np.arange(left + 9, left + 9 + wanted), axis=first + axis)
        bias = weights["bias"] if self.use_bias else np.zeros(1, x.dtype)
        return result + (bias.reshape(-1, *(1,) * self.rank) if self.channels_first else bias)
