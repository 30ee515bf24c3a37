"""A recording held against the float64 reference, layer by layer, on the inputs that the recording itself holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.evidence import Block
from cnnlens.checking.finding import Verdict
from cnnlens.checking.verdict import Audit, audit_blocks
from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import Call, Ref, map_refs
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["Recorded", "audit_recording", "audited_calls", "audited_inputs", "recorded_ref"]

_FILLED = ("zeros", "ones", "new_zeros", "new_ones")  # PyTorch's, of a size that is computed
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
    def __contains__(self, name: str) -> bool: ...
    def __getitem__(self, name: str) -> Any: ...


def audited_calls(network: Network) -> list[Call]:
    """List the calls that compute something; inputs and nested models (which hand on) have nothing to audit."""
    return [call for call in network.calls if call.layer.kind != "InputLayer" and not call.layer.container]


def audit_recording(
    network: Network, recording: Recorded, sample: int | None = None, progress: Callable[[str], object] | None = None
) -> Iterator[tuple[str, Audit]]:
    """Audit each call, on all inputs that the recording holds, or on ``sample`` of them from the first to the last.

    Args:
        progress: Called with a line of text now and then, with the time that is left.
    """
    inputs = audited_inputs(recording.count, sample)
    strict = recording.info["precision"] != "native"
    calls = audited_calls(network)
    found: list[Audit] = []
    began = said = time.monotonic()

    def audited(call: Call) -> Audit:
        return _audit(network, call, recording, inputs, strict, frozenset())

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for one in pool.map(audited, calls):
                found.append(one)
                now = time.monotonic()
                if progress is not None and now - said > _SAY_EVERY:
                    said, left = now, (now - began) * (len(calls) - len(found)) / len(found)
                    shown = f"{len(inputs):,} input{'s' * (len(inputs) != 1)}"
                    progress(f"audited {len(found)} of {len(calls)} layers on {shown}, about {left:.0f} s left")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    proved = frozenset(one.verdict for one in found if one.verdict.narrow)
    for call, one in zip(calls, found, strict=True):
        # What a few outputs cannot tell by themselves, the arithmetic of the other layers may.
        doubtful = proved and one.verdict is Verdict.SUSPICIOUS
        yield call.name, _audit(network, call, recording, inputs, strict, proved) if doubtful else one


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
) -> Audit:
    outputs = [Ref(call.name, index) for index in range(len(call.shapes))]
    refs = [ref for ref in call.refs if not _is_filled(network, ref)]
    missing = [ref.name for ref in (*refs, *outputs) if recorded_ref(network, ref).name not in recording]
    if missing:
        reason = f"'{printable(missing[0])}' is not in the recording"
        return Audit(call.name, call.layer.kind, Verdict.NOT_AUDITED, reason=reason)

    def stored(ref: Ref, chosen: slice | NDArray[np.int64]) -> NDArray[Any]:
        where = recorded_ref(network, ref)
        if where.name not in recording:
            maker = network.calls_by_name[where.call]
            sizes = (map_refs(one, lambda ref: stored(ref, chosen)) for one in (maker.args, dict(maker.kwargs)))
            args, kwargs = sizes
            return np.asarray(maker.layer.operation({}, *args, **kwargs))
        array = np.asarray(recording[where.name][chosen])
        axis = network.calls_by_name[where.call].channel_axis
        return array if array.ndim < 3 or axis == 1 else np.moveaxis(array, 1, -1)

    # A program names no result of a recurrent layer that nothing uses; the reference gives them all.
    several = len(outputs) > 1 or (call.layer.kind in _STATES and network.source.framework == "torch")
    where = [recorded_ref(network, ref).name for ref in (*refs, *outputs)]
    largest = max((int(np.prod(recording[name].shape[1:], dtype=np.int64)) for name in where), default=1)
    step = max(_BLOCK // max(largest, 1), 1)

    def blocks() -> Iterator[Block]:
        for start in range(0, len(inputs), step):
            some = inputs[start : start + step]
            whole = some[-1] - some[0] + 1 == len(some)
            chosen = slice(int(some[0]), int(some[-1]) + 1) if whole else some
            args, kwargs = (map_refs(one, lambda ref: stored(ref, chosen)) for one in (call.args, dict(call.kwargs)))  # noqa: B023
            results = [stored(ref, chosen) for ref in outputs]
            yield Block(start, args, kwargs, results if several else results[0])

    try:
        found = audit_blocks(call, call.layer.computing_weights(), blocks, strict, proved)
    except UnsupportedLayerError as error:
        return Audit(call.name, call.layer.kind, Verdict.NOT_AUDITED, reason=str(error))
    if found.worst_position and len(inputs) < recording.count:
        first, *rest = found.worst_position
        found = replace(found, worst_position=(int(inputs[first]), *rest))
    return found


def _is_filled(network: Network, ref: Ref) -> bool:
    """Whether a tensor holds one number everywhere whatever the inputs are, and what its size is taken from is such or
    an input: a recurrent layer's first state, which no recording can hold where its batch is not in front."""
    call = network.calls_by_name[ref.call]
    return call.layer.kind in _FILLED and all(one in network.inputs or _is_filled(network, one) for one in call.refs)


def recorded_ref(network: Network, ref: Ref) -> Ref:
    """Find where a tensor's values are: a nested model hands on what its last layer gave."""
    call = network.calls_by_name[ref.call]
    while call.layer.container:
        ref = call.refs[ref.index]
        call = network.calls_by_name[ref.call]
    return ref
