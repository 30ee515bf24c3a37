"""A Network of torch's own operations as a ``torch.fx`` graph: the calls that are needed, in one pass.

What runs is what ``torch.export`` recorded, operation for operation, with two changes that alter no number: operations
that write into their input are called in the form that does not, so that every tensor keeps the value that its module
gave, and constants go to the device that is asked for. Only torch's ``aten`` operations are run, of these none that
reads or writes a file or another's memory: a file names them, and whoever wrote it is not trusted.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import CONFIG_ERRORS, Call, Ref, Shape
from cnnlens.network.network import Network
from cnnlens.reference.aten.arguments import IN_EVAL
from cnnlens.text import printable

__all__ = ["WeightKey", "graph_of", "operation_of", "run_noting_types"]

WeightKey = tuple[str, str]  # Layer.name, Weight.name

_TARGET = re.compile(r"aten\.(\w{1,80})\.(\w{1,80})")
_CONSTANTS = ("dtype", "layout", "memory_format")  # arguments whose values are attributes of torch, by name
_SAME_MEMORY = ("aten.view.default", "aten._unsafe_view.default")
_DROPPED = ("layout", "pin_memory")  # where an array lies, which changes no number and may not exist here


def graph_of(network: Network, wanted: Sequence[Ref], device: str) -> tuple[Any, list[WeightKey]]:
    """Build a graph of the calls that ``wanted`` needs.

    Args:
        network: Of framework ``torch``; each layer's ``entry`` holds ``target`` and ``arguments``.
        wanted: What the graph gives, in this order.
        device: Where torch makes new tensors, such as ``cuda:0``.

    Returns:
        A ``torch.fx.Graph`` that takes a tensor for each of ``network.inputs``, then one for each weight listed, and
        gives a list.

    Raises:
        UnsupportedLayerError: an operation is not aten's, or would do more than compute; names the layer.
    """
    return _Builder(network, device).build(wanted)


class _Builder:
    def __init__(self, network: Network, device: str) -> None:
        self._network = network
        self._device = device
        self._graph: Any = import_module("torch").fx.Graph()
        self._values: dict[Ref, Any] = {}
        self._weights: dict[WeightKey, Any] = {}
        self._batch: Any = None

    def build(self, wanted: Sequence[Ref]) -> tuple[Any, list[WeightKey]]:
        calls = self._network.needed(ref.call for ref in wanted)
        for index, ref in enumerate(self._network.inputs):
            self._values[ref] = self._graph.placeholder(f"input_{index}")
        for call in calls:
            for name in _named_weights(call.layer.entry.get("arguments")):
                key = (call.layer.name, name)
                if key not in self._weights:
                    self._weights[key] = self._graph.placeholder(f"weight_{len(self._weights)}")
        for call in calls:
            if call.layer.container:
                for index, ref in enumerate(call.refs):
                    self._values[Ref(call.name, index)] = self._values[ref]
            elif Ref(call.name) not in self._values:
                self._call(call)
        self._graph.output([self._values[ref] for ref in wanted])
        return self._graph, list(self._weights)

    def _call(self, call: Call) -> None:
        shown = call.layer.shown
        if "refused" in call.layer.entry:
            raise UnsupportedLayerError(f"{shown}: {printable(call.layer.entry['refused'], 200)}")
        target: Any = call.layer.entry.get("target")
        arguments: Any = call.layer.entry.get("arguments")
        if not isinstance(target, str) or not isinstance(arguments, Mapping):
            raise UnsupportedLayerError(f"{shown}: the file does not say which operation of torch it is")
        try:
            operation = operation_of(target)
            by_name = cast("Mapping[str, Any]", arguments)
            values = {k: self._value(v, call, k) for k, v in by_name.items()}
            args, kwargs = self._arguments(operation._schema, values, call.shapes[0] if call.shapes else None)
        except UnsupportedLayerError as error:
            raise UnsupportedLayerError(f"{shown}: {error}") from None
        except CONFIG_ERRORS as error:
            raise UnsupportedLayerError(
                f"{shown}: its arguments cannot be understood ({printable(error, 200)})"
            ) from error
        # What was one piece of memory when it was exported may lie otherwise now; reshape takes both.
        called = operation_of("aten.reshape.default") if target in _SAME_MEMORY else operation
        result = self._graph.call_function(called, args, kwargs)
        if len(operation._schema.returns) == 1 and str(operation._schema.returns[0].type) == "Tensor":
            self._values[Ref(call.name)] = result
            return
        for index in range(len(call.shapes)):
            self._values[Ref(call.name, index)] = self._graph.call_function(operator.getitem, (result, index))

    def _arguments(
        self, schema: Any, kwargs: dict[str, Any], shape: Shape | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """By position what an operation takes so, up to the last that is given; else by name."""
        known = {one.name: one for one in schema.arguments}
        unknown = [name for name in kwargs if name not in known]
        missing = [name for name, one in known.items() if name not in kwargs and not one.has_default_value()]
        if unknown or missing:
            what = f"does not take '{printable(unknown[0])}'" if unknown else f"is not given its '{missing[0]}'"
            raise UnsupportedLayerError(f"{schema.name} {what}")
        if (kwargs.get("training") is True or kwargs.get("train") is True) and not _of_itself(kwargs, shape):
            raise UnsupportedLayerError(f"it was exported in training mode; {IN_EVAL}")
        if "device" in kwargs or ("device" in known and _makes_tensors(schema)):
            kwargs["device"] = self._device
        ordered = [one for one in schema.arguments if not one.kwarg_only]
        while ordered and ordered[-1].name not in kwargs:
            ordered.pop()
        args = [kwargs.pop(one.name) if one.name in kwargs else one.default_value for one in ordered]
        return tuple(args), kwargs

    def _value(self, value: Any, call: Call, name: str) -> Any:
        if isinstance(value, list):
            return [self._value(part, call, name) for part in cast("list[Any]", value)]
        if isinstance(value, Mapping):
            entry = cast("Mapping[str, Any]", value)
            if "batch" in entry:
                return self._size(entry["batch"])
            if "tensor" in entry:
                return self._values[call.refs[entry["tensor"]]]
            return self._weights[call.layer.name, entry["weight"]]
        if name in _DROPPED:
            return None
        if name in _CONSTANTS and isinstance(value, str):
            return _constant(value)
        return value

    def _size(self, times: int) -> Any:
        aten = import_module("torch").ops.aten
        if self._batch is None:
            shapes = {ref: self._network.shape(ref) for ref in self._network.inputs}
            counted = next((ref for ref, shape in shapes.items() if shape and shape[0] is None), next(iter(shapes)))
            self._batch = self._graph.call_function(aten.sym_size.int, (self._values[counted], 0))
        return self._batch if times == 1 else self._graph.call_function(operator.mul, (self._batch, times))


def _of_itself(kwargs: Mapping[str, Any], shape: Shape | None) -> bool:
    """Whether a batch norm keeps no statistics and is given one example: a kernel to standardise, an instance norm."""
    return "running_mean" in kwargs and kwargs["running_mean"] is None and shape is not None and shape[:1] == (1,)


def operation_of(target: str) -> Any:
    """Find torch's operation that ``aten.relu_.default`` names, in the form that writes into no argument.

    Raises:
        UnsupportedLayerError: it is not aten's, this torch has none of that name, or it does more than compute.
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        raise UnsupportedLayerError(f"'{printable(target)}' is no operation of torch's aten, and nothing else is run")
    name, overload = match.groups()
    plain = name.removesuffix("_")
    names = (plain, name) if name.endswith("_") and not name.endswith("__") else (name,)
    found = next((one for one in (_overload(one, overload) for one in names) if one is not None), None)
    if found is None:
        torch = import_module("torch")
        raise UnsupportedLayerError(f"torch {torch.__version__} has no operation '{printable(target)}'")
    schema = found._schema
    returns = {str(one.type) for one in schema.returns}
    writes = any(one.alias_info is not None and one.alias_info.is_write for one in schema.arguments)
    if writes or not returns or not returns <= {"Tensor", "List[Tensor]"} or _touches_files(schema):
        raise UnsupportedLayerError(f"'{target}' does more than compute tensors, and is not run")
    return found


def _overload(name: str, overload: str) -> Any:
    torch = import_module("torch")
    packet = getattr(torch.ops.aten, name, None)
    found = getattr(packet, overload, None) if isinstance(packet, torch._ops.OpOverloadPacket) else None
    return found if isinstance(found, torch._ops.OpOverload) else None


def _touches_files(schema: Any) -> bool:
    return any("file" in one.name for one in schema.arguments) or "file" in schema.name


def _constant(value: str) -> Any:
    """``torch.float32`` by its name, with or without ``torch.`` before it."""
    torch = import_module("torch")
    found = getattr(torch, value.removeprefix("torch."), None)
    if not isinstance(found, (torch.dtype, torch.memory_format)):
        raise UnsupportedLayerError(f"'{printable(value)}' is no dtype of torch")
    return found


def _makes_tensors(schema: Any) -> bool:
    """Whether it makes tensors out of none, as ``arange`` does."""
    return not any("Tensor" in str(one.type) for one in schema.arguments)


def _named_weights(value: Any) -> list[str]:
    """The weights that arguments name, in order."""
    if isinstance(value, Mapping):
        entry = cast("Mapping[str, Any]", value)
        if set(entry) == {"weight"} and isinstance(entry["weight"], str):
            return [entry["weight"]]
        return [name for part in entry.values() for name in _named_weights(part)]
    return (
        [name for part in cast("list[Any]", value) for name in _named_weights(part)] if isinstance(value, list) else []
    )


def run_noting_types(module: Any, tensors: Sequence[Any]) -> list[Any]:
    """Run a graph module and note at each node, as ``meta["val"]``, the shape and dtype of what it gives."""
    torch = import_module("torch")

    class Interpreter(torch.fx.Interpreter):  # a class of torch's, which is not imported before it is needed
        def run_node(self, n: Any) -> Any:
            result = super().run_node(n)  # pyright: ignore[reportUnknownVariableType] - of a class not imported yet
            if isinstance(result, torch.Tensor):
                n.meta["val"] = SimpleNamespace(shape=result.shape, dtype=result.dtype)
            return result  # pyright: ignore[reportUnknownVariableType]

    return Interpreter(module).run(*tensors)
