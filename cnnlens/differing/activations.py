"""Where the feature maps of two models part, and what the layers do there that the other's do not.

Both are run in float64 by the reference on the same inputs, and every tensor of A is looked for among B's by its
values. A step of A whose tensor B has not is held against B's step in its place, which is given A's own inputs, as an
audit does: where it then gives the same it only inherits, and where not it is put on trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.likeness import apart, as_other, limit_for, rounding_moves, views
from cnnlens.differing.feeding import Feeding
from cnnlens.differing.investigation import PartPair
from cnnlens.differing.listing import explanation
from cnnlens.differing.maps import Activations, Own, Parting, Standing, Tensor
from cnnlens.differing.tracing import Trace, TracedCall, trace
from cnnlens.differing.trials import ALIKE, Tried, described, tried, tried_as_b
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.kinds import KINDS, OPERATORS, Features
from cnnlens.network.graph import fits, shown_shape
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["compare"]

Array: TypeAlias = NDArray[Any]


_EXAMPLES = 4
_TOGETHER = 6  # steps of A that may do together what one of B does


def compare(a: Network, b: Network, inputs: Any, pairs: Sequence[PartPair] = ()) -> Activations:
    """Run both and compare.

    Args:
        inputs: As ``record`` takes them, for A; ``"random"`` draws a few.
        pairs: What is known of the weights: where they differ, they explain what comes of them.

    Raises:
        CnnlensError: The inputs do not fit A, or B takes others.
    """
    for side, network in (("A", a), ("B", b)):
        if not network.calls:
            return Activations(Parting.NO_GRAPH, explanation=side)
    arrays = _inputs(a, inputs)
    turned = _fitting(b, arrays)
    try:
        traces = trace(a, arrays), trace(b, turned)
    except UnsupportedLayerError as error:
        return Activations(Parting.NOT_COMPUTED, explanation=str(error))
    outputs = [[one.tensors[name] for name in one.outputs] for one in traces]
    for side, one in zip("AB", traces, strict=True):
        for name in one.outputs:
            array = one.tensors[name]
            if array.size and not np.isfinite(array).any():
                said = f"{side}'s output '{printable(name)}' holds no finite number, and tells nothing"
                return Activations(Parting.NOT_COMPUTED, explanation=said)
    far = [apart(one, other) for one, other in zip(*outputs, strict=False)]
    moves = rounding_moves(a, b, arrays, far) if len(outputs[0]) == len(outputs[1]) else 0.0
    alike = limit_for(moves)
    matched = _match(*traces, max(ALIKE, alike))
    if far and len(outputs[0]) == len(outputs[1]) and max(far) <= alike:
        tensors = tuple(_row(step, matched) for step in traces[0].steps)
        outcome = Parting.AGREE if max(far) <= ALIKE else Parting.ROUNDED
        return Activations(outcome, tensors=tensors, apart=max(far), moves=moves)
    return _Walk(*traces, matched, pairs).result()


def _inputs(network: Network, inputs: Any) -> list[Array]:
    if isinstance(inputs, str) and inputs == "random":
        from cnnlens.inputs.drawn import default_inputs

        return list(default_inputs(network).values())
    from cnnlens.inputs.stream import open_inputs

    return open_inputs(network, inputs, limit=_EXAMPLES).batch(0, _EXAMPLES)


def _fitting(network: Network, arrays: Sequence[Array]) -> list[Array]:
    """The inputs as the network takes them: PyTorch keeps the features of a sequence last, canonical axes do not."""
    shapes = [network.canonical_shape(ref) for ref in network.inputs]
    if len(shapes) != len(arrays):
        raise CnnlensError(
            f"the number of inputs is {len(arrays)} in A and {len(shapes)} in B; their feature maps cannot be compared"
        )
    found: list[Array] = []
    for shape, array in zip(shapes, arrays, strict=True):
        fitting = [view for view in views(array) if fits(view.shape, shape)]
        if not fitting:
            raise CnnlensError(f"B takes inputs of {shown_shape(shape)}, and A's are {array.shape}; "
                               "compare models that take the same inputs")  # fmt: skip
        found.append(fitting[0])
    return found


# -- which tensor is which ---------------------------------------------------------------------------------------------


def _reordered(x: Array, y: Array) -> bool:
    """Whether flat vectors hold the same numbers in another order: two frameworks flatten in their own."""
    if x.ndim != 2 or x.shape != y.shape or x.shape[1] < 2:
        return False
    return apart(np.sort(x, axis=1), np.sort(y, axis=1)) <= ALIKE


def _axes(array: Array) -> tuple[int, ...]:
    """What a shape is in whatever order of axes."""
    return tuple(sorted(array.shape))


def _match(a: Trace, b: Trace, alike: float) -> dict[str, tuple[str, bool]]:
    """For A's tensors the same of B, by their values, and whether it is in another order."""
    matched: dict[str, tuple[str, bool]] = {one: (other, False) for one, other in zip(a.inputs, b.inputs, strict=False)}
    held: dict[tuple[int, ...], list[TracedCall]] = {}
    for step in b.steps:
        held.setdefault(_axes(step.canonical), []).append(step)
    for step in a.steps:
        options = held.get(_axes(step.canonical), [])
        if step.canonical.size and not np.isfinite(step.canonical).any():
            continue  # NaN throughout is like any other, and tells nothing
        near = [other for other in options if apart(step.canonical, other.canonical) <= alike]
        if near:
            # Among equal tensors (an identity gives its input again) the one that comes of the same inputs.
            fed = {matched[name][0] for name in step.inputs if name in matched}
            best = next((other for other in near if fed & set(other.inputs)), near[0])
            matched[step.name] = (best.name, False)
            continue
        other = next((other for other in options if _reordered(step.canonical, other.canonical)), None)
        if other is not None:
            matched[step.name] = (other.name, True)
    return matched


def _row(step: TracedCall, matched: dict[str, tuple[str, bool]]) -> Tensor:
    found = matched.get(step.name)
    if found is None:
        return Tensor(step.name, None, math.inf, standing=Standing.UNKNOWN)
    return Tensor(step.name, found[0], 0.0, found[1])


# -- what is otherwise -------------------------------------------------------------------------------------------------


class _Walk:
    """Goes through A's steps in order, and gives each step of B in their places A's own inputs."""

    def __init__(self, a: Trace, b: Trace, matched: dict[str, tuple[str, bool]], pairs: Sequence[PartPair]) -> None:
        self.a, self.b, self.matched, self.pairs = a, b, matched, pairs
        self.feeding = Feeding(b)
        # Which layers' weights stand for which: two of Keras' for one of PyTorch's with two levels.
        self.layers = list(dict.fromkeys((pair.a.layer.name, pair.b.layer.name) for pair in pairs if pair.a and pair.b))
        self.partner = {one: other for one, (other, _) in matched.items()}
        self.rows = {step.name: _row(step, matched) for step in a.steps}
        self.own: list[Own] = []
        self.alone: dict[str, TracedCall] = {}  # steps in whose place B has none, until one behind them has
        self.inside: set[str] = set()  # steps that do only together with later ones what one of B does
        self.producers = {step.name: step for step in a.steps}
        self.takers: dict[str, list[TracedCall]] = {}
        for step in a.steps:
            for name in step.inputs:
                self.takers.setdefault(name, []).append(step)

    def result(self) -> Activations:
        for step in self.a.steps:
            if step.name not in self.partner and step.name not in self.inside and not self._made_up(step):
                self._visit(step)
        if not self.own:
            self.own = [Own(one.call.name, "", described(one, ())) for one in list(self.alone.values())[:1]]
        tensors = tuple(self.rows.values())
        if not self.own:
            return Activations(Parting.OTHER_OUTPUTS, tensors=tensors)
        return Activations(Parting.PARTS, tuple(self.own), self.own[0].explanation, tensors)

    def _made_up(self, step: TracedCall) -> bool:
        after = self.takers.get(step.name, [])
        return bool(after) and all(one.name in self.matched or self._made_up(one) for one in after)

    def _sources(self, step: TracedCall) -> dict[str, str]:
        """The tensors that the step is made of and that B has something in place of: the nearest in front of it."""
        found: dict[str, str] = {}
        queue = list(step.inputs)
        while queue:
            name = queue.pop()
            if name in self.partner:
                found[name] = self.partner[name]
            elif name in self.producers:
                queue += self.producers[name].inputs
        return found

    def _visit(self, step: TracedCall) -> None:
        sources = self._sources(step)
        places = self.feeding.near(list(sources.values()))
        moved = any(name in self.feeding.taken for name in sources.values())
        # The likely ones first: what is far behind need not be computed where one of these gives the same.
        if moved and self._inherits(step, self._ordered(places, step)):
            return
        near = [(depth, fed) for depth, other in places if (fed := self.feeding.fed(other)) is not None]
        options = self._ordered(near, step)
        if moved and self._inherits(step, options):
            return
        options = options or self._of_another_shape(step, near)
        if not options:
            self.alone[step.name] = step
            return
        if not self._comparable(step, options[0]):
            self.alone[step.name] = step
            return
        reason = self._weights_said(step) or _flattened(step, self.rows)
        told = Tried(reason, options[0]) if reason else tried(self.a, near, step, options, list(sources))
        if told is None:
            step, told = self._together(step, options[0]) or (step, None)
        other = told.other if told is not None else options[0]
        self.own.append(Own(step.call.name, other.call.name, told.text if told else described(step, options)))
        self._pair(step, other, Standing.OWN)
        self._take(step, other)
        if told is not None and told.after is not None:
            second, theirs = told.after
            self._pair(second, theirs, Standing.INHERITS)
            self._take(second, theirs)

    def _together(self, first: TracedCall, other: TracedCall) -> tuple[TracedCall, Tried] | None:
        """Several steps of A, of which none but the last feeds any other, that do together what one of B does: the last
        of them, whose takers are of the kinds that B's step feeds, and what they do otherwise."""
        taking = {_kind_of(one) for one in self.b.steps if other.name in one.inputs}
        inside = {first.name}
        for step in self.a.steps:
            if inside.isdisjoint(step.inputs):
                continue
            if step.weighted or step.name in self.partner or len(inside) == _TOGETHER:
                return None
            takers = {one.name for name in inside for one in self.takers.get(name, [])}
            after = {_kind_of(one) for one in self.takers.get(step.name, [])}
            ends = step.name in self.a.outputs and other.name in self.b.outputs
            if takers <= {*inside, step.name} and inside.isdisjoint(self.a.outputs) and (ends or after & taking):
                said = tried_as_b(step, other) if as_other(step.canonical, other.canonical) is not None else ""
                if said:
                    self.inside |= inside
                    return step, Tried(said, other)
            inside.add(step.name)
        return None

    def _inherits(self, step: TracedCall, options: Sequence[TracedCall]) -> bool:
        """Whether one of B's steps, given A's inputs, gives what A's gives; it is then paired with it."""
        for other in options:
            fed = self.feeding.fed(other)
            if fed is None or not np.isfinite(fed.canonical).any():
                continue
            same = apart(step.canonical, fed.canonical) <= ALIKE
            if same or _reordered(step.canonical, fed.canonical):
                self._pair(step, fed, Standing.INHERITS, not same)
                self.feeding.take(fed, fed.canonical)
                return True
        return False

    def _ordered(self, near: Sequence[tuple[int, TracedCall]], step: TracedCall) -> list[TracedCall]:
        """B's steps of the same shape: those with the same weights if any, else like ones and then the near ones."""
        own = step.call.layer.name
        in_place = {theirs for ours, theirs in self.layers if ours == own}
        # A layer of B that does the work of several of A's stands in the place of the last of them.
        ends = {theirs: ours for ours, theirs in self.layers}
        found = [(depth, number, other) for number, (depth, other) in enumerate(near)
                 if as_other(step.canonical, other.canonical) is not None
                 and not (other.call.layer.name in in_place and ends[other.call.layer.name] != own)]  # fmt: skip

        feeds = self._feeding_what_takes(step, near)

        def rank(one: tuple[int, int, TracedCall]) -> tuple[bool, bool, int, int]:
            return (_kind_of(one[2]) != _kind_of(step), one[2].name not in feeds, one[0], one[1])

        ranked = sorted(found, key=rank)
        known = [one for one in ranked if step.weighted and one[2].weighted and one[2].call.layer.name in in_place]
        return [one[2] for one in known or ranked]

    def _feeding_what_takes(self, step: TracedCall, near: Sequence[tuple[int, TracedCall]]) -> set[str]:
        """What feeds B's steps in the places of those that take this one: the end of what B does in its place."""
        takers = self.takers.get(step.name, [])
        places = {theirs for taker in takers for ours, theirs in self.layers if ours == taker.call.layer.name}
        kinds = {_kind_of(taker) for taker in takers if not taker.weighted}
        return {name for _, other in near for name in other.inputs
                if (other.weighted and other.call.layer.name in places) or _kind_of(other) in kinds}  # fmt: skip

    def _of_another_shape(self, step: TracedCall, near: Sequence[tuple[int, TracedCall]]) -> list[TracedCall]:
        """B's step in its place, where that gives another shape: of the same kind, and right behind."""
        places = {theirs for ours, theirs in self.layers if ours == step.call.layer.name}
        return [other for depth, other in near
                if _kind_of(other) == _kind_of(step) and other.canonical.ndim == step.canonical.ndim
                and (other.call.layer.name in places if step.weighted else depth == 1)][:1]  # fmt: skip

    def _comparable(self, step: TracedCall, other: TracedCall) -> bool:
        """Whether a step says something by itself: a move of one kind and one of another are halves of something."""
        row = KINDS.get(step.call.layer.kind) or OPERATORS.get(step.call.layer.kind)
        moves = row is not None and row.features in (Features.RESHAPED, Features.REORDERED)
        return not moves or _kind_of(step) == _kind_of(other) or step.name in self.a.outputs

    def _weights_said(self, step: TracedCall) -> str:
        """What the weights of the layer say, and of those whose work B's layer does as well."""
        if not step.weighted:
            return ""
        theirs = {other for ours, other in self.layers if ours == step.call.layer.name}
        for pair in self.pairs:
            if pair.a is not None and (
                pair.a.layer.name == step.call.layer.name or (pair.b is not None and pair.b.layer.name in theirs)
            ):
                told = [one for one in pair.arrays if not one.finding.equal]
                if told:
                    return f"its weights differ ({told[0].role}: {explanation(told[0])})"
        return ""

    def _pair(self, step: TracedCall, other: TracedCall, standing: Standing, order: bool = False) -> None:
        self.partner[step.name] = other.name
        self.rows[step.name] = Tensor(step.name, other.name, math.inf, order, standing)
        self.alone.clear()

    def _take(self, step: TracedCall, other: TracedCall) -> None:
        """From here on B has A's tensor."""
        array = as_other(other.canonical, step.canonical)
        self.feeding.take(other, step.canonical if array is None else array)


def _kind_of(step: TracedCall) -> Any:
    return type(step.operation), OPERATORS.get(step.call.layer.kind, step.call.layer.kind)


def _flattened(step: TracedCall, rows: dict[str, Tensor]) -> str:
    if step.weighted and any(name in rows and rows[name].order for name in step.inputs):
        return "its inputs come flattened in another order than its weights are in"
    return ""
