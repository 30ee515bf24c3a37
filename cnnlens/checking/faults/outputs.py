"""Faults that show in the results as a whole: left out, zero, turned, shifted, exchanged, in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from cnnlens.checking.faults.problem import FITTED, ROUND, Hypothesis, Problem, channels, mapped, moved
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
    for axis, name in zip(axes, names, strict=True):
        for step in (1, -1):
            for mode, beyond in (("edge", "the edge repeated"), ("wrap", "wrapping round"), ("constant", "zeros")):
                where = "further back" if step > 0 else "further in front"
                said = f"the output stands one position {where} along {name}, {beyond} in the gap"
                yield _viewed(said, _stepped(axis, step, mode))
    yield from _reinterpreted(case)
    yield from _clipped(problem)


def _stepped(axis: int, step: int, mode: Any) -> Callable[[Array], Array]:
    def view(y: Array) -> Array:
        start = max(-step, 0)
        pads = [(max(step, 0), max(-step, 0)) if place == axis else (0, 0) for place in range(y.ndim)]
        padded: Array = np.pad(y, pads, mode)
        return padded[
            tuple(slice(start, start + y.shape[axis]) if place == axis else slice(None) for place in range(y.ndim))
        ]

    return view


def _clipped(problem: Problem) -> Iterator[Hypothesis]:
    """Results cut off at the largest or the smallest number recorded, where several are just that; or all zero."""
    output, expected = np.asarray(problem.sample.output, np.float64), problem.expected.low
    finite = output[np.isfinite(output)]
    if not finite.size:
        return
    cuts: list[tuple[str, Callable[[Array, float], Array], float]] = []
    for word, cut, limit, beyond in (
        ("above", np.minimum, float(finite.max()), expected > finite.max()),
        ("below", np.maximum, float(finite.min()), expected < finite.min()),
    ):
        if (beyond & (output == limit)).sum() > 1:
            cuts.append((f"{word} at {limit:.6g}", cut, limit))
    for some in [[one] for one in cuts] if len(cuts) < 2 else [cuts]:
        cost = sum(ROUND if limit == np.float32(f"{limit:.3g}") else FITTED for _, _, limit in some)

        def view(y: Array, some: Any = some) -> Array:
            for _, cut, limit in some:
                y = cut(y, limit)
            return y

        said = f"the outputs are clipped {' and '.join(word for word, _, _ in some)}"
        yield Hypothesis(said, view=mapped(view), narrow=False, cost=cost)


def _viewed(text: str, view: Callable[[Array], Array]) -> Hypothesis:
    return Hypothesis(text, view=moved(view), narrow=False)


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
    if count < 2:
        return
    step = max(output.shape[0] // _POSITIONS, 1)
    output, expected, scale = (array[::step] for array in (output, expected, scale))
    # Where a channel has a number, one that has none is not it.
    weight = 1 / np.maximum(np.sqrt(np.mean(np.square(np.nan_to_num(scale)), axis=0)), 1e-300)
    places = list(range(count))
    for channel in problem.faulty:
        given = np.isfinite(output[:, channel])
        if not given.any():
            continue
        apart = np.square(output[given, channel : channel + 1] - expected[given]).mean(axis=0) * np.square(weight)
        places[int(channel)] = int(np.nan_to_num(apart, nan=np.inf).argmin())
    found = np.array(places)
    changed = np.array([place for place, channel in enumerate(places) if place != channel])
    if not changed.size:
        return
    axis = problem.sample.channel(problem.sample.output)
    text = _order_text(found, changed)
    view = moved(lambda y: np.take(y, found, axis=axis))
    yield Hypothesis(text, view=view, narrow=False, cost=changed.size * float(np.log2(count)))


def _order_text(found: Array, changed: Array) -> str:
    count = found.size
    if changed.size == 2 and found[changed[0]] == changed[1]:
        return f"output channels {changed[0]} and {changed[1]} are exchanged"
    if len(set(found.tolist())) < count:
        first = int(changed[0])
        return f"output channel {first} repeats channel {int(found[first])}" + (
            f", and {changed.size - 1} more are copies" if changed.size > 1 else ""
        )
    if np.array_equal(found, np.arange(count)[::-1]):
        return "the output channels are in reverse order"
    for groups in range(2, count // 2 + 1):
        if count % groups == 0 and np.array_equal(found, np.arange(count).reshape(groups, -1).T.reshape(-1)):
            return f"the output channels are interleaved: {groups} groups of {count // groups} with the axes swapped"
    shift = int(found[0])
    if np.array_equal(found, np.roll(np.arange(count), -shift)):
        return f"the output channels are rotated by {shift}"
    some = ", ".join(f"{int(found[place])} in place of {int(place)}" for place in changed[:4])
    return f"output {channels(changed)} are permuted ({some}{', …' if changed.size > 4 else ''})"
