"""A recording held against the float64 reference, layer by layer, on the inputs that the recording itself holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.worker import threads
from cnnlens.checking.evidence import Block, Predictions
from cnnlens.checking.finding import Verdict
from cnnlens.checking.noise.condition import selects
from cnnlens.checking.verdict import Audit, as_asked, audit_blocks
from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import Call, Ref, map_refs
from cnnlens.network.network import Network
from cnnlens.reference.threads import one_blas_thread
from cnnlens.text import printable

__all__ = ["Recorded", "audit_recording", "audited_calls", "audited_inputs", "computing_calls", "recorded_ref"]

_BLOCK = 1 << 23  # numbers of the largest tensor of a call that are read at once
_THREADS = 4  # audits side by side; each holds a block
_SAY_EVERY = 2.0  # seconds
_STATES = ("LSTM", "GRU", "RNN")  # PyTorch's, which give states beside the sequence


class Recorded(Protocol):
    """Says what a check needs of a recording."""

    @property
    def info(self) -> Mapping[str, Any]: ...
    @property
    def count(self) -> int: ...
    def altered(self, name: str) -> str | None: ...
    def __contains__(self, name: str) -> bool: ...
    def __getitem__(self, name: str) -> Any: ...


def computing_calls(network: Network) -> list[Call]:
    """List the calls that compute something: not inputs, and not nested models, which hand on."""
    return [call for call in network.calls if call.layer.kind != "InputLayer" and not call.layer.container]


def audited_calls(network: Network) -> list[Call]:
    """List the calls that are audited by themselves; what weights alone decide is so in the layer that takes it."""
    return [call for call in computing_calls(network) if not _is_filled(network, Ref(call.name), True)]


def audit_recording(
    network: Network,
    recording: Recorded,
    sample: int | None = None,
    progress: Callable[[str], object] | None = None,
    known: Predictions | None = None,
    explained: bool = True,
) -> Iterator[tuple[str, Audit]]:
    """Audit each call, on all inputs that the recording holds, or on ``sample`` of them from the first to the last.

    Args:
        progress: Called with a line of text now and then, with the time that is left.
        known: Empty at first, and given again with other recordings of the same network in which each call read the
            very same numbers: what they must give is then computed once.
        explained: Whether faults are searched for a name.
    """
    inputs = audited_inputs(recording.count, sample)
    precision = str(recording.info["precision"])
    strict = precision == "strict"
    calls = audited_calls(network)
    found: list[Audit] = []
    began = said = time.monotonic()

    def audited(call: Call) -> Audit:
        return _audit(network, call, recording, inputs, strict, frozenset(), known, explained)

    # The limit stands for all of them, and is set by one thread: OpenBLAS may not hear a second one that lifts it.
    with one_blas_thread(), threads(min(_THREADS, os.cpu_count() or 1), []) as pool:
        for one in pool.map(audited, calls):
            found.append(one)
            now = time.monotonic()
            if progress is not None and now - said > _SAY_EVERY:
                said, left = now, (now - began) * (len(calls) - len(found)) / len(found)
                shown = f"{len(inputs):,} input{'s' * (len(inputs) != 1)}"
                progress(f"audited {len(found)} of {len(calls)} layers on {shown}, about {left:.0f} s left")
    proved = frozenset(one.verdict for one in found if one.verdict.narrow and not one.alike)
    for call, one in zip(calls, found, strict=True):
        # What a few outputs cannot tell by themselves, the arithmetic of the other layers may.
        doubtful = proved and one.verdict is Verdict.SUSPICIOUS
        again = _audit(network, call, recording, inputs, strict, proved, known, explained) if doubtful else one
        yield call.name, as_asked(again.among(proved), precision)


def audited_inputs(count: int, sample: int | None) -> NDArray[np.int64]:
    """Choose which of ``count`` inputs are audited: all, or ``sample`` of them from the first to the last, evenly."""
    if sample is None or sample >= count:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, sample).round().astype(np.int64))


def _audit(
    network: Network,
    call: Call,
    recording: Recorded,
    inputs: NDArray[np.int64],
    strict: bool,
    proved: frozenset[Verdict],
    known: Predictions | None,
    explained: bool,
) -> Audit:
    outputs = [Ref(call.name, index) for index in range(len(call.shapes))]
    # Beside the sum of a whole kernel, the last bits of each of its numbers are lost.
    kernels = _computed_by(call) in ("Conv", "ConvTranspose", "Matmul")
    refs = [ref for place, ref in enumerate(call.refs) if not _is_filled(network, ref, kernels and place > 0)]
    missing = [ref.name for ref in (*refs, *outputs) if recorded_ref(network, ref).name not in recording]
    if missing:
        reason = f"'{printable(missing[0])}' is not in the recording"
        return Audit(call.name, call.layer.kind, Verdict.NOT_AUDITED, reason=reason)
    names = dict.fromkeys(recorded_ref(network, ref).name for ref in (*outputs, *refs))
    changed = next((name for name in names if name in recording and recording.altered(name)), None)
    if changed is not None:
        return Audit(call.name, call.layer.kind, Verdict.NOT_AUDITED, reason=recording.altered(changed) or "")

    def rows_of(ref: Ref) -> int:
        """How many rows an input has: several where a model takes its maps apart into windows."""
        shape, found = network.shape(ref), recording[ref.name].shape
        return int(found[1]) if shape is not None and len(found) == len(shape) + 1 else 1

    def stored(ref: Ref, chosen: slice | NDArray[np.int64]) -> NDArray[Any]:
        where = recorded_ref(network, ref)
        maker = network.calls_by_name[where.call]
        if where.name not in recording:
            sizes = (map_refs(one, lambda ref: stored(ref, chosen)) for one in (maker.args, dict(maker.kwargs)))
            args, kwargs = sizes
            weights = {
                name: array.astype(np.float64) if array.dtype.kind == "f" else array
                for name, array in maker.layer.computing_weights().items()
            }
            return np.asarray(maker.layer.operation(weights, *args, **kwargs))
        array = maker.as_taken(np.asarray(recording[where.name][chosen]))
        if rows_of(where) > 1:
            array = array.reshape(-1, *array.shape[2:])
        array = np.moveaxis(array, 0, network.batch_axis(where) or 0)
        return array if array.ndim < 3 or maker.channel_axis == 1 else np.moveaxis(array, 1, -1)

    # A program names no result of a recurrent layer that nothing uses; the reference gives them all.
    several = len(outputs) > 1 or (call.layer.kind in _STATES and network.source.framework == "torch")
    where = [recorded_ref(network, ref).name for ref in (*refs, *outputs)]
    largest = max((int(np.prod(recording[name].shape[1:], dtype=np.int64)) for name in where), default=1)
    step = max(_BLOCK // max(largest, 1), 1)

    given = {**call.operand_kwargs, "training": call.kwargs.get("training")}

    def blocks() -> Iterator[Block]:
        for start in range(0, len(inputs), step):
            some = inputs[start : start + step]
            whole = some[-1] - some[0] + 1 == len(some)
            chosen = slice(int(some[0]), int(some[-1]) + 1) if whole else some
            args, kwargs = (map_refs(one, lambda ref: stored(ref, chosen)) for one in (call.args, given))  # noqa: B023
            results = [stored(ref, chosen) for ref in outputs]
            yield Block(start, args, kwargs, results if several else results[0])

    try:
        found = audit_blocks(call, call.layer.computing_weights(), blocks, strict, proved, known, explained)
    except UnsupportedLayerError as error:
        return Audit(call.name, call.layer.kind, Verdict.NOT_AUDITED, reason=str(error))
    if network.batch_axis(outputs[0]) != 0:  # its first axis is a place in it, and no example
        found = replace(found, lost=None)
    if found.worst_position and len(inputs) < recording.count:
        first, *rest = found.worst_position
        rows = rows_of(recorded_ref(network, outputs[0]))
        found = replace(found, worst_position=(int(inputs[first // rows]) * rows + first % rows, *rest))
    return found


def _is_filled(network: Network, ref: Ref, rounding: bool = False) -> bool:
    """Whether a tensor has no row for each input, so that none is recorded, and sizes and weights alone make it: a
    recurrent layer's first state, a range, rows of a table that a range picks. The reference makes it again wherever a
    recorded layer reads it, so that a backend's other values show there.

    ``rounding``: also where float32 rounds on the way, as in a kernel under weight_norm; for readers with room for it.
    """
    if network.batch_axis(ref) == 0:
        return False
    call = network.calls_by_name[ref.call]
    kind = _computed_by(call)
    made = kind in ("Full", "Arange")  # what they are called with are sizes
    if not kind or (not made and not rounding and not selects(call.layer.operation)):
        return False
    return all((made and one in network.inputs) or _is_filled(network, one, rounding) for one in call.refs)


def _computed_by(call: Call) -> str:
    """The kind of the reference's operation; empty where it has none."""
    try:
        return call.layer.operation.kind
    except UnsupportedLayerError:
        return ""


def recorded_ref(network: Network, ref: Ref) -> Ref:
    """Find where a tensor's values are: a nested model hands on what its last layer gave."""
    call = network.calls_by_name[ref.call]
    while call.layer.container:
        ref = call.refs[ref.index]
        call = network.calls_by_name[ref.call]
    return ref
