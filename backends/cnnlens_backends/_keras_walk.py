"""The walk over a network's calls with Keras' layers: what is needed, in which axes, in what batches.

Nothing here depends on the framework under Keras: the walk is plain Python over ``keras.ops`` and layers, made once for
each set of wanted tensors, and handed to the framework to compile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.reductions import AS_IT_LIES, reduced
from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import Call, Ref, map_refs
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = [
    "Array", "Compiled", "CompiledWalk", "LayerCall", "Walk", "in_canonical_axes", "is_stored_order", "reducing",
    "turned",
    "walk_of", "widened",
]  # fmt: skip

Array = NDArray[Any]
Walk = Callable[[Sequence[Any]], "list[Any]"]  # the framework's tensors in, the framework's tensors out


class Compiled(NamedTuple):
    """Is a walk that a framework has compiled: ``compute`` gives its tensors on the device, at once or when ``wait``
    returns; ``send`` begins to copy them, where that goes on by itself, and ``fetch`` waits for what it gives and has
    it on the host, in canonical axes."""

    compute: Callable[[Sequence[Array]], Sequence[Any]]
    wait: Callable[[Sequence[Any]], object]
    send: Callable[[Sequence[Any]], Any]
    fetch: Callable[[Any], list[Array]]


class CompiledWalk:
    """Runs a compiled walk. A stream's last, short batch is filled up to a compiled size, and cut again.

    Only the first time: a size that comes back is worth a compilation of its own.
    """

    def __init__(self, compiled: Compiled, pads: bool) -> None:
        self._compute, self._wait, self._send, self._fetch = compiled
        self._pads = pads
        self._compiled: set[int] = set()
        self._seen: set[int] = set()
        self.shapes: set[tuple[tuple[int, ...], ...]] = set()  # for each of which the framework holds a compilation

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        return self.begin(arrays)()

    def begin(self, arrays: Sequence[Array]) -> Callable[[], list[Array]]:
        """Begin what ``run`` gives, and give what waits for it."""
        count = len(arrays[0])
        larger = min((size for size in self._compiled if size > count), default=None)
        if not self._pads or larger is None or count in self._compiled or count in self._seen:
            return self._begun(arrays)
        self._seen.add(count)
        # Copies of the last input, not zeros: whatever a layer does with them, it has done with the others.
        filled = [np.concatenate([array, np.repeat(array[-1:], larger - count, axis=0)]) for array in arrays]
        fetch = self._begun(filled)
        # Several rows an input are what a model makes that takes its maps apart into windows.
        return lambda: [array[: len(array) * count // larger] for array in fetch()]

    def _begun(self, arrays: Sequence[Array]) -> Callable[[], list[Array]]:
        size = len(arrays[0])
        self._compiled.add(size)
        self.shapes.add(tuple(array.shape for array in arrays))
        with self._fitting(size):
            sent = self._send(self._compute(arrays))

        def fetch() -> list[Array]:
            with self._fitting(size):
                return self._fetch(sent)

        return fetch

    @contextmanager
    def _fitting(self, size: int) -> Generator[None]:
        """To what fails, as where memory does not hold it, nothing is filled up."""
        try:
            yield
        except BaseException:
            self._compiled.discard(size)
            raise

    def renew(self) -> None:
        """Fill batches up as if none had run before, though what is compiled stays so."""
        self._compiled.clear()
        self._seen.clear()

    def compute(self, arrays: Sequence[Array]) -> None:
        """Compute what ``run`` gives, wait for it and leave it on the device."""
        self.shapes.add(tuple(array.shape for array in arrays))
        self._wait(self._compute(arrays))
        self._compiled.add(len(arrays[0]))


class LayerCall:
    """Describes one call: Keras' layer or operation, and its arguments, every constant in Keras' own form.

    ``narrow`` is the dtype that a bare operation computes in; None for that of its tensors. A layer has its policy.
    """

    def __init__(self, call: Call, layers: Mapping[str, Any], narrow: str | None = None) -> None:
        self.call = call
        self.operation = None if call.layer.container else layers[call.layer.name]
        self._narrow = None if isinstance(self.operation, import_module("keras").Layer) else narrow
        self.args = cast("tuple[Any, ...]", _constants(call.args))
        self.kwargs = cast("dict[str, Any]", _constants(dict(call.kwargs)))
        if "training" in getattr(self.operation, "_call_context_args", ()) or getattr(
            self.operation, "_call_has_training_arg", False
        ):
            self.kwargs["training"] = False  # also where the file says True: so Keras' own models are run
        else:
            self.kwargs.pop("training", None)

    def __call__(self, values: dict[Ref, Any]) -> None:
        def taken(ref: Ref) -> Any:
            return values[ref] if self._narrow is None else _narrowed(values[ref], self._narrow)

        args = map_refs(self.args, taken)
        kwargs = map_refs(self.kwargs, taken)
        try:
            result = args[0] if self.operation is None else self.operation(*args, **kwargs)
        except Exception as error:
            error.add_note(self.call.layer.name)  # whoever catches it says which layer it was
            raise
        for index, part in enumerate(_flat(result)):
            values[Ref(self.call.name, index)] = part


def _narrowed(tensor: Any, dtype: str) -> Any:
    """A tensor of floating-point numbers as ``dtype``; others as they are."""
    keras = import_module("keras")
    found = keras.backend.standardize_dtype(tensor.dtype)
    return keras.ops.cast(tensor, dtype) if keras.backend.is_float_dtype(found) else tensor


def _flat(result: Any) -> Iterator[Any]:
    """The tensors of a result in Keras' order: the states of stacked cells come as lists in a list."""
    if isinstance(result, (list, tuple)):
        for part in cast("list[Any]", result):
            yield from _flat(part)
    else:
        yield result


def walk_of(network: Network, steps: Sequence[LayerCall], wanted: Sequence[Ref], stored: Sequence[bool]) -> Walk:
    ops = import_module("keras").ops
    axes = {call.name: call.channel_axis for call in network.calls}

    def walk(inputs: Sequence[Any]) -> list[Any]:
        values: dict[Ref, Any] = {}
        for ref, tensor, as_stored in zip(network.inputs, inputs, stored, strict=True):
            moves = not as_stored and axes[ref.call] != 1 and len(tensor.shape) > 2
            values[ref] = ops.moveaxis(tensor, 1, -1) if moves else tensor
        for step in steps:
            step(values)
        return [values[ref] for ref in wanted]

    return walk


def reducing(walk: Walk, reductions: Sequence[str], channels_last: Sequence[bool]) -> Walk:
    """Make a walk that reduces what ``walk`` gives."""
    ops = import_module("keras").ops

    def both(inputs: Sequence[Any]) -> list[Any]:
        return [
            tensor if how == AS_IT_LIES else reduced(how, tensor, ops, last)
            for tensor, how, last in zip(walk(inputs), reductions, channels_last, strict=True)
        ]

    return both


def widened(array: Array) -> Array:
    """Widen bfloat16, which is no type of NumPy's own, to float32: here, so that it was copied in half the bytes."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def turned(tensors: Sequence[Any], moves: Sequence[bool]) -> list[Any]:
    """Bring channels of a framework's tensors from the last axis to axis 1, where ``moves`` says so."""
    ops = import_module("keras").ops
    found = zip(tensors, moves, strict=True)
    return [ops.moveaxis(tensor, -1, 1) if move and len(tensor.shape) > 2 else tensor for tensor, move in found]


def in_canonical_axes(array: Array, move: bool) -> Array:
    """Move a host array's channels to axis 1, copied by all cores: what XLA does on a CPU, in half of its time."""
    if not move or array.ndim < 3:
        return array
    view = np.moveaxis(array, -1, 1)
    result = np.empty(view.shape, array.dtype)
    cores = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, len(view))
    if array.nbytes < 1 << 20 or cores < 2:
        np.copyto(result, view)
        return result
    bounds = [len(view) * index // cores for index in range(cores + 1)]

    def copy(index: int) -> None:
        np.copyto(result[bounds[index] : bounds[index + 1]], view[bounds[index] : bounds[index + 1]])

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(copy, range(cores)))
    return result


def is_stored_order(ref: Ref, array: Array, network: Network) -> bool:
    """Tell whether a canonical array lies in the file's own, channels-last order: then nothing need be moved."""
    axis = network.calls_by_name[ref.call].channel_axis
    return axis != 1 and array.ndim > 2 and np.moveaxis(array, 1, -1).flags.c_contiguous


def _constants(value: Any) -> Any:
    """Arguments of a call with serialised slices, ellipses and arrays made what they are; nothing else is made."""
    if isinstance(value, (list, tuple)):
        parts = [_constants(part) for part in cast("list[Any]", value)]
        return parts if isinstance(value, list) else tuple(parts)
    if not isinstance(value, Mapping):
        return value
    entry = cast("Mapping[str, Any]", value)
    kind, config = entry.get("class_name"), cast("dict[str, Any]", entry.get("config"))
    if kind is None and set(entry) == {"start", "stop", "step"}:  # Keras 2's slices
        return slice(*(_constants(entry[name]) for name in ("start", "stop", "step")))
    if kind is None:
        return {name: _constants(part) for name, part in entry.items()}
    if kind == "__slice__":
        return slice(*(_constants(config[name]) for name in ("start", "stop", "step")))
    if kind == "__ellipsis__":
        return ...
    if kind in ("__tensor__", "__numpy__"):
        return import_module("keras").ops.convert_to_tensor(np.asarray(config["value"], str(config["dtype"])))
    raise UnsupportedLayerError(f"a call takes a {printable(kind, 60)} as an argument, which is not run")
