"""Faults of a kernel or a bias that were read in another layout: flipped, turned, transposed, in another channel order.

Also what goes into the layer the wrong way round: channels (RGB for BGR), height and width, a range of 0 to 1 for 0 to
255. Square kernels and equal channel counts are what these hide behind, so they are tried by computing the layer so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any, cast

import numpy as np

from cnnlens.checking.faults.problem import Hypothesis, Problem
from cnnlens.checking.noise.case import Array, Case
from cnnlens.reference.keras.dense import Dense, EinsumDense
from cnnlens.reference.operation import LinearOperation

__all__ = ["hypotheses", "main_kernel", "with_weight"]

_SPATIAL = {1: ("the length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_HUGE = 1 << 24  # elements of a kernel that is not turned round as a whole
_FEW_INPUTS = 4  # input channels whose every order is tried


def main_kernel(operation: LinearOperation, weights: Any) -> str | None:
    """Name the weight that holds the taps."""
    return next((name for name in ("kernel", "depthwise_kernel") if name in weights), None)


def with_weight(name: str, change: Callable[[Array], Array]) -> Callable[[Case], Case]:
    """Change one weight of a case; a change to another shape is refused."""

    def changed(case: Case) -> Case:
        array = change(np.asarray(case.weights[name], np.float64))
        if array.shape != case.weights[name].shape:
            raise ValueError("another shape")
        return replace(case, weights={**case.weights, name: np.ascontiguousarray(array)})

    return changed


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest other kernels for convolutions and dense layers."""
    operation = problem.case.operation
    if not isinstance(operation, LinearOperation):
        return
    weights = problem.case.weights
    name = main_kernel(operation, weights)
    if name is None:
        return
    if "bias" in weights and np.any(weights["bias"]):
        for text, factor in (("was dropped", 0.0), ("was added twice", 2.0), ("was subtracted", -1.0)):
            change = with_weight("bias", lambda bias, factor=factor: factor * bias)
            yield Hypothesis(f"the bias {text}", change, claim="the bias")
    rank = int(getattr(operation, "rank", 0))
    if rank:
        yield from _taps(name, weights[name].shape, rank)
    if isinstance(operation, Dense):
        yield from _flatten(problem)
    yield from _axes(name, weights, rank)
    yield from _inputs(problem, operation)
    if "depthwise_kernel" in weights and "pointwise_kernel" in weights:
        yield from _axes("pointwise_kernel", weights, rank)


def _taps(name: str, shape: tuple[int, ...], rank: int) -> Iterator[Hypothesis]:
    letters = _SPATIAL[rank]
    for i, j in combinations(range(rank), 2):
        if shape[i] == shape[j] > 1:
            said = f"{letters[i]} and {letters[j]} of the kernel are swapped"
            yield Hypothesis(said, with_weight(name, lambda k, i=i, j=j: np.swapaxes(k, i, j)))
    long = [axis for axis in range(rank) if shape[axis] > 1]
    for size in range(len(long), 0, -1):
        for axes in combinations(long, size):
            where = " and ".join(letters[axis] for axis in axes)
            what = "a convolution instead of a correlation" if size == len(long) else "one axis alone"
            said = f"the kernel is flipped along {where} ({what})"
            yield Hypothesis(said, with_weight(name, lambda k, axes=axes: np.flip(k, axes)))
    for i, j in combinations(long, 2):
        if shape[i] == shape[j]:
            for axes, turn in (((i,), "a quarter turn"), ((j,), "a quarter turn back"), ((i, j), "the other diagonal")):
                said = f"{letters[i]} and {letters[j]} of the kernel are swapped and flipped ({turn})"
                change = with_weight(name, lambda k, i=i, j=j, axes=axes: np.flip(np.swapaxes(k, i, j), axes))
                yield Hypothesis(said, change)


def _flatten(problem: Problem) -> Iterator[Hypothesis]:
    """A dense layer behind a Flatten whose rows are in the other order of the feature map."""
    layer = problem.case.layer
    held = layer.stored.values() if layer is not None else ()
    stored = next((weight for weight in held if weight.role == "kernel"), None)
    flat = stored.geometry.flatten if stored is not None else None
    if stored is None or flat is None or len(flat) < 2:
        return
    rows = int(np.prod(flat))
    # ``flat`` is the feature map channels last; PyTorch flattens it channels first.
    shape, order = flat, (len(flat) - 1, *range(len(flat) - 1))
    own, other = "channels last", "channels first"
    if stored.framework == "torch":
        shape, order = (flat[-1], *flat[:-1]), (*range(1, len(flat)), 0)
        own, other = other, own

    def fed(kernel: Array) -> Array:
        """The rows as they are, on a feature map in the other order."""
        place = np.arange(rows).reshape(shape).transpose(order).reshape(-1)
        turned = np.empty_like(kernel)
        turned[place] = kernel
        return turned

    def stood(kernel: Array) -> Array:
        """The rows in the other order, on the feature map as it is."""
        place = np.arange(rows).reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
        turned = np.empty_like(kernel)
        turned[place.reshape(-1)] = kernel
        return turned

    size = "x".join(str(number) for number in flat)
    said = f"flatten order: the {size} feature map was flattened {other}, the kernel's rows expect {own}"
    yield Hypothesis(said, with_weight("kernel", fed))
    said = f"flatten order: the kernel's rows are {other}, the {size} feature map was flattened {own}"
    yield Hypothesis(said, with_weight("kernel", stood))


def _axes(name: str, weights: Any, rank: int) -> Iterator[Hypothesis]:
    """The kernel's numbers in another axis order: transposed where sizes allow, or not where they should be."""
    shape = weights[name].shape
    letters = {0: "IO", 1: "KIO", 2: "HWIO", 3: "DHWIO"}.get(rank, "")
    if len(letters) != len(shape) or len(shape) < 2 or weights[name].size > _HUGE:
        return
    plain = tuple(range(len(shape)))
    long = tuple(axis for axis in plain if shape[axis] > 1)
    swaps = [(i, j) for i, j in combinations(range(rank), 2) if shape[i] == shape[j]]  # which ``_taps`` has
    seen = {long, *(tuple(j if a == i else i if a == j else a for a in long) for i, j in swaps)}
    for order in permutations(plain):
        effect = tuple(axis for axis in order if shape[axis] > 1)  # an axis of one may stand anywhere
        if effect in seen:
            continue
        seen.add(effect)
        taken = "".join(letters[axis] for axis in order)
        said = f"the kernel's numbers are stored in the order {taken} and read as {letters} without being transposed"
        if tuple(shape[axis] for axis in order) == shape:
            exchanged = order == (*plain[:-2], *plain[:-3:-1])
            said = (
                "input and output channels of the kernel are swapped" if exchanged
                else f"the kernel's axes {letters} are taken as {taken}"
            )  # fmt: skip
        change = with_weight(name, lambda k, order=order, shape=shape: k.transpose(order).reshape(shape))
        yield Hypothesis(said, change, narrow=False)


def _inputs(problem: Problem, operation: LinearOperation) -> Iterator[Hypothesis]:
    """What goes in is turned round, or has another range."""
    x = problem.sample.args[0]
    axis = 1 if getattr(operation, "channels_first", False) else x.ndim - 1
    count = x.shape[axis]

    def changed(change: Callable[[Array], Array]) -> Callable[[Case], Case]:
        return lambda case: replace(
            case, args=(np.ascontiguousarray(change(cast("Array", case.args[0]))), *case.args[1:])
        )

    def taken(order: Array) -> Callable[[Case], Case]:
        return changed(lambda x: np.take(x, order, axis=axis))

    if count > 1 and not isinstance(operation, EinsumDense):
        said = "the input's channels are in reverse order" + (" (BGR for RGB)" if count == 3 else "")
        yield Hypothesis(said, taken(np.arange(count)[::-1]))
        if 2 < count <= _FEW_INPUTS:
            for order in permutations(range(count)):
                if order not in (tuple(range(count)), tuple(range(count))[::-1]):
                    yield Hypothesis(f"the input's channels are in the order {order}", taken(np.array(order)))
        for groups in range(2, count // 2 + 1):
            if count % groups == 0 and not problem.few and groups <= 16:
                order = np.arange(count).reshape(groups, -1).T.reshape(-1)
                yield Hypothesis(f"the input's channels are interleaved by {groups} groups", taken(order))
    for text, factor in (("multiplied", 255.0), ("divided", 1 / 255)):  # others are fitted, and may be the kernel's
        change = changed(lambda x, factor=factor: np.asarray(x, np.float64) * factor)
        yield Hypothesis(f"the input was {text} by 255", change)
    yield Hypothesis("the input was scaled from 0..1 to -1..1", changed(lambda x: np.asarray(x, np.float64) * 2 - 1))
    spatial = [place for place in range(1, x.ndim) if place != axis]
    if len(spatial) >= 2 and x.shape[spatial[-1]] == x.shape[spatial[-2]] > 1:
        said = "height and width of the input are swapped"
        yield Hypothesis(said, changed(lambda x: np.swapaxes(x, spatial[-1], spatial[-2])))
