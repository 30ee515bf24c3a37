"""Where the feature maps of two models part, and what the layer does there that the other's does not.

Both are run in float64 by the reference on the same inputs, and every tensor of A is looked for among B's by its
values. The first step that takes tensors which both have and gives one that B has not is put on trial: A's input goes
through A's step with one setting of B's at a time, and then through every fault that a check knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlens.differing.investigation import PartPair
from cnnlens.differing.listing import explanation
from cnnlens.differing.maps import Activations, Parting, Tensor
from cnnlens.differing.tracing import Trace, TracedCall, trace
from cnnlens.differing.trials import ALIKE, apart, described, tried
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import fits, shown_shape
from cnnlens.network.network import Network

__all__ = ["compare"]

Array: TypeAlias = NDArray[Any]


_DEPTH = 5  # steps that B may take where A takes one
_EXAMPLES = 4
_GROWN = 100.0  # times the rounding of the weights: what a deep network makes of it


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
    matched = _match(*traces)
    tensors = tuple(_row(step, matched) for step in traces[0].steps)
    far = [
        apart(traces[0].tensors[one], traces[1].tensors[other])
        for one, other in zip(traces[0].outputs, traces[1].outputs, strict=False)
    ]
    # Where one file holds rounded weights, their rounding comes out again.
    rounding = max((one.finding.residual for pair in pairs for one in pair.arrays if one.finding.equal), default=0.0)
    if rounding and far and max(far) <= _GROWN * rounding:
        return Activations(Parting.ROUNDED, tensors=tensors, apart=max(far))
    if far and len(traces[0].outputs) == len(traces[1].outputs) and max(far) <= ALIKE:
        return Activations(Parting.AGREE, tensors=tensors, apart=max(far))
    return _explained(traces, matched, tensors, pairs)


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
        raise CnnlensError(f"A takes {len(arrays)} inputs and B {len(shapes)}; their feature maps cannot be compared")
    found: list[Array] = []
    for shape, array in zip(shapes, arrays, strict=True):
        views = [array, np.moveaxis(array, 1, -1)] if array.ndim > 2 else [array]
        fitting = [view for view in views if fits(view.shape, shape)]
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


def _match(a: Trace, b: Trace) -> dict[str, tuple[str, bool]]:
    """For A's tensors the same of B, by their values, and whether it is in another order."""
    matched: dict[str, tuple[str, bool]] = {one: (other, False) for one, other in zip(a.inputs, b.inputs, strict=False)}
    held: dict[tuple[int, ...], list[TracedCall]] = {}
    for step in b.steps:
        held.setdefault(step.canonical.shape, []).append(step)
    for step in a.steps:
        options = held.get(step.canonical.shape, [])
        near = [other for other in options if apart(step.canonical, other.canonical) <= ALIKE]
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
    return Tensor(step.name, None, float("inf")) if found is None else Tensor(step.name, found[0], 0.0, found[1])


# -- what is otherwise -------------------------------------------------------------------------------------------------


def _explained(
    traces: tuple[Trace, Trace],
    matched: dict[str, tuple[str, bool]],
    tensors: tuple[Tensor, ...],
    pairs: Sequence[PartPair],
) -> Activations:
    a, b = traces
    frontier = list(_frontier(a, matched))
    if not frontier:
        return Activations(Parting.OTHER_OUTPUTS, tensors=tensors)
    step = frontier[0]
    options = list(_counterparts(b, [matched[name][0] for name in step.inputs], step))
    where = (step.call.name, options[0].call.name if options else "")
    reason = _weights_said(step, pairs) or _flattened(step, matched) or tried(a, b, step, options)
    return Activations(Parting.PARTS, where, reason or described(step, options), tensors)


def _frontier(a: Trace, matched: dict[str, tuple[str, bool]]) -> Iterator[TracedCall]:
    """Steps whose inputs B has and whose output it has not, and which no later step makes up for."""
    takers: dict[str, list[TracedCall]] = {}
    for step in a.steps:
        for name in step.inputs:
            takers.setdefault(name, []).append(step)

    def made_up(step: TracedCall) -> bool:
        after = takers.get(step.name, [])
        return bool(after) and all(one.name in matched or made_up(one) for one in after)

    for step in a.steps:
        if step.name not in matched and all(name in matched for name in step.inputs) and not made_up(step):
            yield step


def _counterparts(b: Trace, sources: Sequence[str], step: TracedCall) -> Iterator[TracedCall]:
    """B's steps that come of the same inputs and give the same shape: like ones first, then the near ones."""
    reach = dict.fromkeys(sources, 0)
    found: list[tuple[bool, int, int, TracedCall]] = []
    for number, other in enumerate(b.steps):
        depths = [reach[name] for name in other.inputs if name in reach]
        if not depths or max(depths) >= _DEPTH:
            continue
        reach[other.name] = max(depths) + 1
        if other.canonical.shape == step.canonical.shape:
            like = type(other.operation) is type(step.operation)
            found.append((not like, reach[other.name], number, other))
    found.sort(key=lambda one: one[:3])
    yield from (one[3] for one in found)


def _weights_said(step: TracedCall, pairs: Sequence[PartPair]) -> str:
    if not step.weighted:
        return ""
    for pair in pairs:
        if pair.a is not None and pair.a.layer.name == step.call.layer.name:
            told = [one for one in pair.arrays if not one.finding.equal]
            if told:
                return f"its weights differ ({told[0].role}: {explanation(told[0])})"
    return ""


def _flattened(step: TracedCall, matched: dict[str, tuple[str, bool]]) -> str:
    if step.weighted and any(matched[name][1] for name in step.inputs):
        return "its inputs come flattened in another order than its weights are in"
    return ""
