"""Walks a network and computes it in NumPy: the float64 oracle and the float32 default backend.

Arrays keep the file's own axis order inside, so that Flatten, Reshape and axis arguments mean what the file means;
what is handed out is turned to canonical axes, which is a view. Everything that could refuse does so while the plan is
made, before the first number is computed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.kinds import kind_of
from cnnlens.memory import refuse_beyond
from cnnlens.network.graph import CONFIG_ERRORS, Call, Graph, Ref, map_refs, shown_shape, without_graph
from cnnlens.reference.operation import Operation
from cnnlens.reference.threads import one_blas_thread
from cnnlens.text import nearest, printable

__all__ = ["Executor"]

Array = NDArray[Any]

# A chunk of the batch whose largest feature map is about this big still fits, with its neighbours, in a core's cache.
_CHUNK_BYTES = 1 << 20
_CHUNK_MAX = 256


@dataclass(frozen=True)
class _Step:
    call: Call
    operation: Operation
    weights: Mapping[str, Array]
    kwargs: dict[str, Any]
    drop: tuple[Ref, ...]  # tensors that no later step needs


class Executor:
    """Runs a network: knows the calls that are needed, their weights in the run's dtype, what to drop when.

    Args:
        network: What to run.
        dtype: ``float32`` or ``float64``.
        layers: Names or indices of the layers wanted; None for all.

    Raises:
        UnsupportedLayerError: a needed layer is not in the reference; named.
        CnnlensError: a wanted layer does not exist; names the nearest.
    """

    def __init__(self, network: Graph, dtype: str = "float64", layers: Sequence[str | int] | None = None) -> None:
        if dtype not in ("float32", "float64"):
            raise CnnlensError(f"the reference computes in float32 or float64, not in '{printable(dtype)}'")
        if not network.calls:
            raise without_graph(network)
        self.network = network
        self.dtype = np.dtype(dtype)
        self.wanted = _wanted(network, layers)
        order = network.needed(ref.call for ref in self.wanted)
        self._need(1, 1, order, self._cast_bytes(order))  # before an array is read
        self._steps = self._plan(order)
        self._constants = _constants([step.call for step in self._steps])
        self._whole_batch = any(
            shape is None or not shape or shape[0] is not None
            for step in self._steps
            if step.call.name not in self._constants
            for shape in step.call.shapes
        )

    def _plan(self, order: Sequence[Call]) -> list[_Step]:
        operations = [_operation(call) for call in order]
        last_use: dict[Ref, int] = {}
        for position, call in enumerate(order):
            for ref in (*call.refs, Ref(call.name)):
                last_use[ref] = position
        keep = set(self.wanted)
        drops: list[list[Ref]] = [[] for _ in order]
        for ref, position in last_use.items():
            if ref not in keep:
                drops[position].append(ref)
        cast_weights: dict[str, Mapping[str, Array]] = {}
        steps: list[_Step] = []
        for call, operation, drop in zip(order, operations, drops, strict=True):
            layer = call.layer
            if layer.name not in cast_weights:
                cast_weights[layer.name] = {
                    name: self._cast(array) for name, array in layer.computing_weights().items()
                }
            steps.append(_Step(call, operation, cast_weights[layer.name], call.operand_kwargs, tuple(drop)))
        return steps

    def _typed(self, ref: Ref, array: Array) -> Array:
        call = self.network.calls_by_name[ref.call]
        taken = call.as_taken(array)
        return np.ascontiguousarray(taken, dtype=self.dtype if taken is array else taken.dtype)

    def _cast(self, array: Array) -> Array:
        return array.astype(self.dtype, copy=False) if np.issubdtype(array.dtype, np.floating) else array

    def _need(self, count: int, at_once: int, order: Sequence[Call], more: int = 0) -> None:
        """Refuse what cannot fit, as far as the shapes say: the wanted maps of all inputs, what one call takes and
        gives for those at once, and ``more`` bytes."""
        sizes: dict[Ref, int] = {}
        fixed: set[Ref] = set()
        for call in order:
            for index, shape in enumerate(call.shapes):
                ref = Ref(call.name, index)
                sizes[ref] = self.dtype.itemsize * math.prod(1 if size is None else size for size in shape or (0,))
                if shape and shape[0] is not None:
                    fixed.add(ref)
        wanted = sum(sizes[ref] * (1 if ref in fixed else count) for ref in self.wanted)
        alive = max(sum(sizes.get(ref, 0) for ref in (*call.refs, Ref(call.name))) for call in order)
        largest = max(sizes, key=lambda ref: sizes[ref])
        refuse_beyond(
            wanted + alive * at_once + more,
            f"{printable(self.network.source.path, 300)}: computing {count:,} input{'s' * (count != 1)}, where "
            f"'{printable(largest.name)}' is {shown_shape(self.network.shape(largest))},",
            "ask for fewer or smaller inputs, or for fewer layers",
        )

    def _cast_bytes(self, order: Sequence[Call]) -> int:
        """What the weights take that are not in the run's dtype."""
        arrays = {id(one.stored): one.stored for call in order for one in call.layer.stored.values()}
        return sum(self.dtype.itemsize * math.prod(one.shape) for one in arrays.values() if one.dtype != self.dtype)

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, inputs: Any, batch: int | None = None) -> dict[str, Array]:
        """Compute feature maps in canonical axes; see ``Network.run``."""
        arrays = self._inputs(inputs)
        count = len(arrays[0])
        chunk = batch or self._chunk(count)
        if chunk < 1:
            raise CnnlensError(f"a batch holds at least one input, not {chunk}")
        at_once = count <= chunk or self._whole_batch
        self._need(count, count if at_once else chunk, [step.call for step in self._steps])
        stored = self.stored(arrays) if at_once else self._chunked(arrays, count, chunk)
        calls = {ref.name: self.network.calls_by_name[ref.call] for ref in self.wanted}
        return {name: _canonical(calls[name], array) for name, array in stored.items()}

    def stored(self, arrays: Sequence[Array]) -> dict[str, Array]:
        """Run one batch: wanted arrays by name, in the file's own axes. ``arrays`` is in them too."""
        values: dict[Ref, Any] = {
            ref: self._typed(ref, array) for ref, array in zip(self.network.inputs, arrays, strict=True)
        }
        with np.errstate(all="ignore"):  # an overflow is a result, shown as one; warnings would only repeat it
            for step in self._steps:
                self._step(step, values)
        return {ref.name: np.asarray(values[ref]) for ref in self.wanted}

    def _step(self, step: _Step, values: dict[Ref, Any]) -> None:
        call = step.call
        if call.layer.kind != "InputLayer":
            args = map_refs(call.args, values.__getitem__)
            kwargs = map_refs(step.kwargs, values.__getitem__)
            try:
                result = step.operation(step.weights, *args, **kwargs)
            except CONFIG_ERRORS as error:
                absent = error.args[0] if isinstance(error, KeyError) and error.args else None
                if absent in (kind_of(call.layer.kind).weights or ()) and absent not in step.weights:
                    raise UnsupportedLayerError(f"the file has no {absent} for it", call.layer.shown) from error
                raise UnsupportedLayerError(
                    f"its config, weights and input do not fit together ({printable(error, 200)}); save the model "
                    "again, or report it",
                    call.layer.shown,
                ) from error
            if isinstance(result, (list, tuple)):
                for index, part in enumerate(cast("list[Array]", result)):
                    values[Ref(call.name, index)] = part
            else:
                values[Ref(call.name)] = result
        for ref in step.drop:
            values.pop(ref, None)

    def _chunked(self, arrays: Sequence[Array], count: int, chunk: int) -> dict[str, Array]:
        starts = range(0, count, chunk)
        results: dict[str, Array] = {}
        whole = {ref.name for ref in self.wanted if ref.call in self._constants}

        def work(start: int) -> None:
            stop = min(start + chunk, count)
            for name, array in self.stored([one[start:stop] for one in arrays]).items():
                if name not in whole:
                    results[name][start:stop] = array

        first = self.stored([one[:chunk] for one in arrays])
        if any(len(array) != chunk for name, array in first.items() if name not in whole):
            return self.stored(arrays)  # a model may fold another axis into its batch: chunks then differ in length
        for name, array in first.items():
            if name in whole:
                results[name] = array
                continue
            results[name] = np.empty((count, *array.shape[1:]), array.dtype)
            results[name][:chunk] = array
        # One core a chunk beats all cores on one matrix product: the element-wise layers run in parallel too.
        with one_blas_thread(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for _ in pool.map(one_blas_thread()(work), starts[1:]):
                pass
        return results

    def _chunk(self, count: int) -> int:
        largest = 1
        for step in self._steps:
            for shape in step.call.shapes:
                sizes = [size or 1 for size in (shape or ())[1:]]
                largest = max(largest, math.prod(sizes) * self.dtype.itemsize)
        return max(1, min(_CHUNK_BYTES // largest, _CHUNK_MAX, count))

    # -- inputs and outputs ------------------------------------------------------------------------------------------

    def _inputs(self, inputs: Any) -> list[Array]:
        refs = self.network.inputs
        if isinstance(inputs, Mapping):
            by_name = cast("Mapping[str, Any]", inputs)
            missing = [ref.name for ref in refs if ref.name not in by_name]
            if missing:
                raise CnnlensError(
                    f"the network's input '{printable(missing[0])}' is not given; {nearest(missing[0], by_name)}"
                )
            arrays = [by_name[ref.name] for ref in refs]
        elif isinstance(inputs, (list, tuple)) and self._is_sequence_of_inputs(cast("Sequence[Any]", inputs)):
            arrays = list(cast("Sequence[Any]", inputs))
        else:
            arrays = [cast(Any, inputs)]
        return self._inputs_as_list(arrays)

    def _is_sequence_of_inputs(self, inputs: Sequence[Any]) -> bool:
        """Whether a list holds an array an input, rather than an example an item (or bare numbers)."""
        if len(self.network.inputs) != 1:
            return True
        shape = self.network.shape(self.network.inputs[0])
        return (
            bool(inputs) and shape is not None and all(len(getattr(one, "shape", ())) >= len(shape) for one in inputs)
        )

    def _inputs_as_list(self, arrays: Sequence[Any]) -> list[Array]:
        refs = self.network.inputs
        if len(arrays) != len(refs):
            raise CnnlensError(f"the network has {len(refs)} inputs, and {len(arrays)} arrays came")
        found = [self._input(ref, np.asarray(array)) for ref, array in zip(refs, arrays, strict=True)]
        counts = {len(array) for array in found}
        if len(counts) > 1:
            raise CnnlensError(f"the inputs hold different numbers of examples: {sorted(counts)}")
        if 0 in counts:
            raise CnnlensError("the inputs hold no example; give at least one")
        fixed = {shape[0] for ref in refs if (shape := self.network.shape(ref)) and shape[0] is not None}
        if fixed and counts != fixed:
            shown = " or ".join(str(size) for size in sorted(fixed))
            raise CnnlensError(
                f"the model was exported for {shown} at a time, and {counts.pop()} came; give as many, or export it "
                "with a dynamic batch"
            )
        return found

    def _input(self, ref: Ref, array: Array) -> Array:
        """``array`` in the file's own axes; a view."""
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_) or np.iscomplexobj(array):
            raise CnnlensError(f"input '{printable(ref.name)}': numbers were expected, {array.dtype} came")
        return self.network.own_axes(ref, array)


def _canonical(call: Call, array: Array) -> Array:
    return array if array.ndim < 3 or call.channel_axis == 1 else np.moveaxis(array, -1, 1)


def _constants(calls: Sequence[Call]) -> set[str]:
    """The calls that depend on no input of the network, by name: the same for every chunk of the batch."""
    found: set[str] = set()
    for call in calls:
        if call.layer.kind != "InputLayer" and all(ref.call in found for ref in call.refs):
            found.add(call.name)
    return found


def _operation(call: Call) -> Operation:
    call.refuse_unknown()
    return call.layer.operation


def _wanted(network: Graph, layers: Sequence[str | int] | None) -> list[Ref]:
    calls = network.calls_by_name
    if layers is None:
        listed = {layer.name for layer in network.layers}
        return [
            Ref(call.name, index)
            for call in network.calls
            if call.layer.name in listed
            for index in range(len(call.shapes))
        ]
    found: dict[Ref, None] = {}
    for wanted in layers:
        if isinstance(wanted, str) and wanted in network.tensors:
            ref = network.tensors[wanted]
            if wanted not in network.by_name:
                found[ref] = None
                continue
        layer = network[wanted]
        uses = [call for call in calls.values() if call.layer is layer]
        found.update((Ref(call.name, index), None) for call in uses for index in range(len(call.shapes)))
    if not found:
        raise CnnlensError("no layer is asked for; name at least one")
    return list(found)
