"""Faults that show in the results as a whole: left out, zero, turned, shifted, exchanged, in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from cnnlens.checking.faults.problem import Hypothesis, Problem, channels
from cnnlens.checking.noise.case import Array, Case, arrays_of
from cnnlens.reference.keras.activations import Identity

__all__ = ["channel_order", "hypotheses"]

_POSITIONS = 400  # outputs of each channel that are compared to find which channel is where


def hypotheses(problem: Problem) -> Iterator[Hypothesis]:
    """Suggest a layer skipped, or its results turned round; most of them cost one comparison."""
    case = problem.sample
    inputs = [x for x in arrays_of(case.args) if x.shape == case.output.shape and x.dtype.kind == "f"]
    for number in range(len(inputs)):
        which = "its input" if len(inputs) == 1 else f"its input {number + 1}"
        if not isinstance(case.operation, Identity):
            yield Hypothesis(f"the layer was left out: its output is {which}", _skip(number), narrow=False)
    axes = _spatial(problem)
    names = _names(len(axes))
    for axis, name in zip(axes, names, strict=True):
        yield _viewed(f"the output is flipped along {name}", lambda y, axis=axis: np.flip(y, axis))
    for i, first in enumerate(axes):
        for second in axes[i + 1 :]:
            if case.output.shape[first] == case.output.shape[second] > 1:
                said = f"{names[axes.index(first)]} and {names[axes.index(second)]} of the output are swapped"
                yield _viewed(said, lambda y, a=first, b=second: np.swapaxes(y, a, b))
    if case.splits and 1 < case.count == problem.case.count:
        yield _viewed("the examples of the batch are in reverse order", lambda y: y[::-1])
    yield from _reinterpreted(case)
    yield from channel_order(problem)


def _viewed(text: str, view: Callable[[Array], Array]) -> Hypothesis:
    return Hypothesis(text, view=view, narrow=False)


def _skip(number: int) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        inputs = [x for x in arrays_of(case.args) if x.shape == case.output.shape and x.dtype.kind == "f"]
        return replace(case, operation=Identity("Identity", {}, (3,)), args=(inputs[number],), kwargs={}, weights={})

    return change


def _spatial(problem: Problem) -> list[int]:
    output = problem.sample.output
    if output.ndim < 3:
        return []
    axis = problem.sample.channel(output)
    return [place for place in range(1, output.ndim) if place != axis]


def _names(count: int) -> list[str]:
    return {1: ["the length"], 2: ["the height", "the width"], 3: ["the depth", "the height", "the width"]}.get(
        count, [f"axis {place + 1}" for place in range(count)]
    )


def _reinterpreted(case: Case) -> Iterator[Hypothesis]:
    """Results in another layout that were read as if they were in this one (also the order of a Flatten)."""
    output = case.output
    sources = [x for x in arrays_of(case.args) if x.size == output.size and x.ndim > 2]
    if output.ndim == 2 and sources and case.operation.kind in ("Flatten", "Reshape"):
        rank = sources[0].ndim
        orders: list[tuple[tuple[int, ...], str]] = [
            ((0, rank - 1, *range(1, rank - 1)), "channels first"),
            ((0, *range(2, rank), 1), "channels last"),
            ((0, *range(rank - 1, 0, -1)), "in reverse axis order"),
        ]
        for order, name in orders:
            yield Hypothesis(f"the feature map was flattened {name}", _flattened(order), narrow=False)
        return
    if output.ndim > 2:
        rank = output.ndim
        for order, name in (
            ((0, rank - 1, *range(1, rank - 1)), "channels first"),
            ((0, *range(2, rank), 1), "channels last"),
        ):
            said = f"the output is laid out {name} in memory and read in the file's order"
            yield _viewed(said, lambda y, order=order: y.transpose(order).reshape(y.shape))


def _flattened(order: tuple[int, ...]) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        x = next(x for x in arrays_of(case.args) if x.size == case.output.size)
        turned = np.ascontiguousarray(x.transpose(order)).reshape(case.output.shape)
        return replace(case, operation=Identity("Identity", {}, (3,)), args=(turned,), kwargs={}, weights={})

    return change


def channel_order(problem: Problem) -> Iterator[Hypothesis]:
    """Say which channel's results stand in which channel's place, where each is found somewhere."""
    output = problem.rows(np.asarray(problem.sample.output, np.float64))
    expected = problem.rows(problem.expected.low)
    scale = problem.rows(problem.expected.scale)
    count = output.shape[1]
    if count < 2 or problem.faulty.size < 2 or output.shape[0] < 2:
        return
    step = max(output.shape[0] // _POSITIONS, 1)
    output, expected, scale = (array[::step] for array in (output, expected, scale))
    weight = 1 / np.maximum(np.sqrt(np.mean(np.square(np.nan_to_num(scale)), axis=0)), 1e-300)
    places = list(range(count))
    for channel in problem.faulty:
        apart = np.square(np.nan_to_num(output[:, channel : channel + 1] - expected)).mean(axis=0) * np.square(weight)
        best = int(apart.argmin())
        # Exchanged channels agree to rounding; a tenth of a percent is where no other pair comes near.
        if not apart[best] < 1e-6:
            return
        places[int(channel)] = best
    found = np.array(places)
    moved = np.array([place for place, channel in enumerate(places) if place != channel])
    if not moved.size:
        return
    axis = problem.sample.channel(problem.sample.output)
    yield Hypothesis(_order_text(found, moved), view=lambda y: np.take(y, found, axis=axis), narrow=False)


def _order_text(found: Array, moved: Array) -> str:
    count = found.size
    if moved.size == 2 and found[moved[0]] == moved[1]:
        return f"output channels {moved[0]} and {moved[1]} are exchanged"
    if len(set(found.tolist())) < count:
        first = int(moved[0])
        return f"output channel {first} repeats channel {int(found[first])}" + (
            f", and {moved.size - 1} more are copies" if moved.size > 1 else ""
        )
    if np.array_equal(found, np.arange(count)[::-1]):
        return "the output channels are in reverse order"
    for groups in range(2, count // 2 + 1):
        if count % groups == 0 and np.array_equal(found, np.arange(count).reshape(groups, -1).T.reshape(-1)):
            return f"the output channels are interleaved: {groups} groups of {count // groups} with the axes swapped"
    shift = int(found[0])
    if np.array_equal(found, np.roll(np.arange(count), -shift)):
        return f"the output channels are rotated by {shift}"
    some = ", ".join(f"{int(found[place])} in place of {int(place)}" for place in moved[:4])
    return f"output {channels(moved)} are permuted ({some}{', …' if moved.size > 4 else ''})"
