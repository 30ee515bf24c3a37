"""A recording held against the float64 reference, layer by layer, on the inputs that the recording itself holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.finding import Verdict
from cnnlens.checking.noise.condition import selects
from cnnlens.checking.verdict import Audit, audit
from cnnlens.errors import UnsupportedLayerError
from cnnlens.inputs.drawn import INPUT_NUMBERS
from cnnlens.network.graph import Call, Ref, map_refs
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["Recorded", "audit_recording", "audited_calls", "computing_calls", "recorded_ref"]

_STATES = ("LSTM", "GRU", "RNN")  # PyTorch's, which give states beside the sequence


class Recorded(Protocol):
    """Says what a check needs of a recording."""

    @property
    def info(self) -> Mapping[str, Any]: ...
    @property
    def count(self) -> int: ...
    def __contains__(self, name: str) -> bool: ...
    def __getitem__(self, name: str) -> Any: ...


def computing_calls(network: Network) -> list[Call]:
    """List the calls that compute something: not inputs, and not nested models, which hand on."""
    return [call for call in network.calls if call.layer.kind != "InputLayer" and not call.layer.container]


def audited_calls(network: Network) -> list[Call]:
    """List the calls that are audited by themselves; what weights alone decide is so in the layer that takes it."""
    return [call for call in computing_calls(network) if not _is_filled(network, Ref(call.name), True)]


def audit_recording(network: Network, recording: Recorded) -> Iterator[tuple[str, Audit]]:
    """Audit each call, on as many of the inputs that the recording holds for it as make 200,000 numbers."""
    inputs = [network.tensors[ref.name] for ref in network.inputs]
    first = next((recording[ref.name] for ref in inputs if ref.name in recording), None)
    size = int(np.prod(first.shape[1:], dtype=np.int64)) if first is not None else INPUT_NUMBERS
    looked = min(recording.count, max(INPUT_NUMBERS // max(size, 1), 1), 64)
    for call in audited_calls(network):
        yield call.name, _audit(network, call, recording, looked, recording.info["precision"] != "native")


def _audit(network: Network, call: Call, recording: Recorded, count: int, strict: bool) -> Audit:
    outputs = [Ref(call.name, index) for index in range(len(call.shapes))]
    # Beside the sum of a whole kernel, the last bits of each of its numbers are lost.
    kernels = _computed_by(call) in ("Conv", "ConvTranspose", "Matmul")
    inputs = [ref for place, ref in enumerate(call.refs) if not _is_filled(network, ref, kernels and place > 0)]
    missing = [ref.name for ref in (*inputs, *outputs) if recorded_ref(network, ref).name not in recording]
    if missing:
        reason = f"'{printable(missing[0])}' is not in the recording"
        return Audit(call.name, call.layer.kind, Verdict.NOT_AUDITED, reason=reason)

    def stored(ref: Ref) -> NDArray[Any]:
        where = recorded_ref(network, ref)
        maker = network.calls_by_name[where.call]
        if where.name not in recording:
            sizes = map_refs(maker.args, stored), map_refs(dict(maker.kwargs), stored)
            weights = maker.layer.computing_weights()
            exact = {
                name: array.astype(np.float64) if array.dtype.kind == "f" else array for name, array in weights.items()
            }
            return np.asarray(maker.layer.operation(exact, *sizes[0], **sizes[1]))
        array = np.asarray(recording[where.name][:count])
        if array.ndim == len(network.shape(where) or array.shape) + 1:  # several rows for each input
            array = array.reshape(-1, *array.shape[2:])
        if array.ndim:
            array = np.moveaxis(array, 0, network.batch_axis(where) or 0)
        return array if array.ndim < 3 or maker.channel_axis == 1 else np.moveaxis(array, 1, -1)

    arguments = map_refs(call.args, stored)
    keywords = map_refs(dict(call.kwargs), stored)
    results = [stored(ref) for ref in outputs]
    try:
        weights = call.layer.computing_weights()
    except UnsupportedLayerError as error:
        return Audit(call.name, call.layer.kind, Verdict.NOT_AUDITED, reason=str(error))
    # A program names no result of a recurrent layer that nothing uses; the reference gives them all.
    several = len(results) > 1 or (call.layer.kind in _STATES and network.source.framework == "torch")
    return audit(call, weights, arguments, keywords, results if several else results[0], strict)


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
