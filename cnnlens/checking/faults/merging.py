"""Faults of layers that merge or resize: operands in another order or left out, another rule, other sampling points."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from itertools import product as every
from typing import Any, cast

import numpy as np

from cnnlens.checking.faults.problem import Hypothesis, Problem
from cnnlens.checking.noise.case import Array, Case
from cnnlens.reference import build
from cnnlens.reference.arithmetic.interpolation import Interpolation
from cnnlens.reference.keras.merging import MERGES, Concatenate, Merge
from cnnlens.reference.keras.resizing import Resizing, UpSampling
from cnnlens.reference.operation import Operation

__all__ = ["hypotheses"]

_MANY = 5  # operands whose every order is tried


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest other merges and other up-sampling."""
    operation = problem.case.operation
    if isinstance(operation, Merge | Concatenate):
        yield from _merges(problem, operation)
    if isinstance(operation, UpSampling | Resizing):
        yield from _sampling(problem, operation)
    if isinstance(operation, Interpolation):
        yield from _interpolated(operation)


def _merges(problem: Problem, operation: Operation) -> Iterator[Hypothesis]:
    count = len(cast("Sequence[Any]", problem.case.args[0]))
    if operation.kind in ("Subtract", "Concatenate") and 1 < count <= _MANY:
        for order in permutations(range(count)):
            if order != tuple(range(count)):
                shown = ", ".join(str(place + 1) for place in order)
                said = f"the inputs are taken in the order {shown}"
                yield Hypothesis(said, _operands(lambda inputs, order=order: [inputs[place] for place in order]))
    if isinstance(operation, Merge):
        for place in range(count if count > 1 else 0):
            said = f"input {place + 1} of {count} was left out"
            yield Hypothesis(said, _operands(lambda inputs, place=place: [*inputs[:place], *inputs[place + 1 :]]))
        for kind in MERGES:
            if kind != operation.kind:
                other = build(kind, None, {}, operation.keras_version)
                said = f"{kind} where the model says {operation.kind}"
                yield Hypothesis(said, lambda case, other=other: replace(case, operation=other))


def _operands(change: Callable[[list[Any]], list[Any]]) -> Callable[[Case], Case]:
    return lambda case: replace(case, args=(change(list(cast("Sequence[Any]", case.args[0]))),))


def _sampling(problem: Problem, operation: UpSampling | Resizing) -> Iterator[Hypothesis]:
    for method in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
        if method != operation.method and getattr(operation, "rank", 2) == 2:
            changed = copy.copy(operation)
            changed.method = method
            said = f"interpolation {method} where the model says {operation.method}"
            yield Hypothesis(said, lambda case, changed=changed: replace(case, operation=changed))
    first = 2 if operation.channels_first else 1
    x = cast("Array", problem.sample.args[0])
    if x.ndim == 4 and operation.method == "bicubic" and not getattr(operation, "antialias", False):
        for factor, clamped in ((-0.5, False), (-0.75, True), (-0.75, False), (-0.5, True)):
            edge = "the edge repeated" if clamped else "weights of the edge scaled to one"
            said = (
                f"bicubic weights computed with a = {factor} and {edge}, where TensorFlow takes a = -0.5 from a table"
            )
            yield Hypothesis(said, _cubic(first, factor, clamped))
    yield from _moved_samples(first, operation.method, x.ndim - 2, half=isinstance(operation, Resizing))


Rule = Callable[[Array, int, int], Array]

_PLACES: dict[str, Rule] = {
    "corners aligned": lambda i, size, wanted: i * (size - 1) / max(wanted - 1, 1),
    "pixel corners instead of pixel centres": lambda i, size, wanted: i * size / wanted,
}


def _nearest(i: Array, size: int, wanted: int) -> Array:
    return np.rint(i * size / wanted)


def _moved_samples(first: int, method: str, rank: int, *, half: bool) -> Iterator[Hypothesis]:
    """Nearest cells and straight lines between cells, taken at other places.

    Args:
        half: Whether the nearest cell is found from the middle of the output's.
    """
    method = {"linear": "bilinear"}.get(method, method)
    if method not in ("bilinear", "nearest"):
        return
    places = _PLACES if method == "bilinear" else {**_PLACES, "places rounded, not cut": _nearest}
    for name, rule in places.items():
        yield Hypothesis(f"{method} interpolation with {name}", _sampled(first, [rule] * rank, method))

    def own(i: Array, size: int, wanted: int) -> Array:
        if method == "nearest":
            return (i + 0.5 * half) * size / wanted
        return (i + 0.5) * size / wanted - 0.5

    names = {1: ["the length"], 2: ["the height", "the width"]}.get(rank, [f"axis {n + 1}" for n in range(rank)])
    for step in (1, -1):
        way = "back" if step > 0 else "front"
        shifts: tuple[tuple[str, Rule], ...] = (
            ("output", lambda i, size, wanted, step=step: own(i + step, size, wanted)),
            ("input", lambda i, size, wanted, step=step: own(i, size, wanted) + step),
        )
        for cell, rule in shifts:
            for chosen in every((True, False), repeat=rank):
                if any(chosen):
                    along = " and ".join(name for name, one in zip(names, chosen, strict=True) if one)
                    said = f"samples are off by one {cell} position along {along}, towards the {way}"
                    change = _sampled(first, [rule if one else own for one in chosen], method)
                    yield Hypothesis(said, change)


def _interpolated(operation: Interpolation) -> Iterator[Hypothesis]:
    """PyTorch's sampling with another of its settings, at the size that comes out."""

    def other(**settings: Any) -> Callable[[Case], Case]:
        def change(case: Case) -> Case:
            changed = cast("Any", copy.copy(operation))
            changed.sizes = list(case.output.shape[2:])
            for name, value in settings.items():
                setattr(changed, name, value)
            return replace(case, operation=changed)

        return change

    for method in ("nearest", "linear", "bicubic"):
        if method != operation.method:
            said = f"interpolation {method} where the model says {operation.method}"
            yield Hypothesis(said, other(method=method))
    if operation.method == "nearest":
        way = ("its front edge", "its centre") if operation.exact else ("its centre", "its front edge")
        said = f"the nearest cell is found by {way[0]} where the model says {way[1]}"
        yield Hypothesis(said, other(exact=not operation.exact))
    else:
        way = ("not aligned", "aligned") if operation.aligned else ("aligned", "not aligned")
        said = f"corners are {way[0]} where the model has them {way[1]}"
        yield Hypothesis(said, other(aligned=not operation.aligned))
    yield from _moved_samples(2, operation.method, operation.rank, half=operation.exact)
    if operation.factors is not None:
        said = "samples lie as the sizes say, where the model takes the given factors"
        yield Hypothesis(said, other(factors=None))


def _sampled(first: int, rules: Sequence[Rule], method: str) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        return replace(case, operation=_Sampled(case.output.shape, first, rules, method))

    return change


def _cubic(first: int, factor: float, clamped: bool) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        return replace(case, operation=_Cubic(case.output.shape, first, factor, clamped))

    return change


class _Cubic(Operation):
    """Keys' cubic convolution with any ``a``; beyond the edge the edge itself, or nothing and weights scaled to one."""

    def __init__(self, shape: tuple[int, ...], first: int, factor: float, clamped: bool) -> None:
        super().__init__("Resizing", {}, (3,))
        self.shape, self.first, self.factor, self.clamped = shape, first, factor, clamped

    def __call__(self, weights: Any, *args: Any, **kwargs: Any) -> Array:
        y = cast("Array", args[0])
        for axis in (self.first, self.first + 1):
            matrix = self._matrix(y.shape[axis], self.shape[axis])
            y = np.moveaxis(np.tensordot(matrix, y, (1, axis)), 0, axis)
        return y

    def _matrix(self, size: int, wanted: int) -> Array:
        position = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
        low = np.floor(position)
        matrix = np.zeros((wanted, size))
        for tap in (-1, 0, 1, 2):
            distance = np.abs(position - low - tap)
            near = ((self.factor + 2) * distance - (self.factor + 3)) * distance * distance + 1
            far = self.factor * (((distance - 5) * distance + 8) * distance - 4)
            weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
            place = low.astype(int) + tap
            inside = (place >= 0) & (place < size)
            if not self.clamped:
                weight = np.where(inside, weight, 0.0)
            np.add.at(matrix, (np.arange(wanted), np.clip(place, 0, size - 1)), weight)
        return matrix / matrix.sum(axis=1, keepdims=True)


class _Sampled(Operation):
    """Sampling of the spatial axes at positions that a rule for each gives."""

    def __init__(self, shape: tuple[int, ...], first: int, rules: Sequence[Rule], method: str) -> None:
        super().__init__("UpSampling2D" if method == "nearest" else "Resizing", {"interpolation": method}, (3,))
        self.shape, self.first, self.rules, self.method = shape, first, rules, method

    def __call__(self, weights: Any, *args: Any, **kwargs: Any) -> Array:
        y = cast("Array", args[0])
        for axis, rule in enumerate(self.rules, self.first):
            size, wanted = y.shape[axis], self.shape[axis]
            position = np.clip(rule(np.arange(wanted, dtype=np.float64), size, wanted), 0, size - 1)
            if self.method == "nearest":
                y = np.take(y, np.floor(position).astype(int), axis=axis)
                continue
            low = np.floor(position).astype(int)
            shape = [1] * y.ndim
            shape[axis] = -1
            part = (position - low).reshape(shape)
            above = np.take(y, np.minimum(low + 1, size - 1), axis=axis)
            y = np.take(y, low, axis=axis) * (1 - part) + above * part
        return y
