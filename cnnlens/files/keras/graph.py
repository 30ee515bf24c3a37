"""The graph in a Keras config, without Keras: which layer is called on which tensors, in which order.

A config says it in four dialects: Sequential lists, Functional configs of Keras 2 (nested lists) and of Keras 3
(``__keras_tensor__`` entries), and models inside models. Here they become one flat list of calls in topological order,
with nested models written out, so that nothing downstream needs to know how a model was put together.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

from cnnlens.files.keras.arguments import GraphError, Key, arguments, keys, keys_in, listed, substitute, with_keys
from cnnlens.files.limits import LIMITS
from cnnlens.kinds import kind_of
from cnnlens.network.graph import Ref
from cnnlens.text import printable

__all__ = ["Graph", "GraphError", "LayerSpec", "NodeSpec", "layer_spec", "read_graph"]

# Outputs of one layer call; the largest layers of Keras (recurrent ones with their states) give a handful.
MAX_OUTPUTS = 1_000

# Where a wrapper keeps the layer that it wraps: the key in its config and the attribute (and so the path) it has.
WRAPPED = {"layer": "layer", "cell": "cell", "forward_layer": "forward_layer", "backward_layer": "backward_layer"}


# The module of an operation such as x + y, which is in the graph and is no layer.
BARE_OPERATION = "keras.src.ops.numpy"


@dataclass(frozen=True)
class LayerSpec:
    """Describes one layer as its config does.

    Attributes:
        path: Layer names from the outermost model to this one; a wrapper's inner layer ends in its attribute name.
        config: The layer's own config; ``entry``: all that the list of layers says of it.
        model: The nested model's entry where this layer is a model, else None.
        wrapped: Inner layers of a wrapper by attribute name.
        marked: Whether the file has a mark around it that it is to be quantised.
    """

    path: tuple[str, ...]
    class_name: str
    module: str
    config: Mapping[str, Any]
    entry: Mapping[str, Any]
    model: Mapping[str, Any] | None = None
    wrapped: Mapping[str, LayerSpec] = field(default_factory=lambda: dict[str, LayerSpec]())
    marked: bool = False

    @property
    def name(self) -> str:
        return "/".join(self.path)


_Listed: TypeAlias = list[tuple[LayerSpec, dict[str, Any]]]


@dataclass(frozen=True)
class NodeSpec:
    """Describes one call of a layer. ``args``, ``kwargs`` are what it is called with, a ``Ref`` for each tensor.

    ``name`` is the layer's path joined with ``/``; the second call of the same layer ends in ``:1``, and so on.
    ``declared`` holds tensor shapes that the file states for this call's outputs (Keras 3 only), by output index.
    """

    name: str
    layer: LayerSpec
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    declared: dict[int, tuple[int | None, ...]] = field(default_factory=lambda: dict[int, tuple[int | None, ...]]())


@dataclass
class Graph:
    """Holds a whole model: every layer once, every call in topological order, inputs and outputs as tensors.

    ``masks`` are those that nested models are called with, by the tensor that each belongs to.
    """

    layers: list[LayerSpec]
    nodes: list[NodeSpec]
    inputs: list[Ref]
    outputs: list[Ref]
    hidden: frozenset[str]  # input calls that the model's author never wrote: Sequential's, and those of nested models
    masks: Mapping[Ref, Any] = field(default_factory=lambda: dict[Ref, Any]())


def read_graph(config: Mapping[str, Any], most_calls: int = LIMITS.items) -> Graph | None:
    """Follow ``config`` (``{"class_name", "config"}``) to a graph, or None where it holds none (a subclassed model).

    Args:
        config: The model's entry.
        most_calls: How many layer calls there may be: a model used twice inside a model used twice … grows by powers of
            two.

    Raises:
        GraphError: the config is inconsistent (a missing layer, a cycle, a name twice, an impossible size).
    """
    body = _body(config)
    if body is None:
        return None
    reader = _GraphReader(most_calls)
    outputs = reader.model(config, (), "", None)
    return Graph(
        reader.layers, reader.nodes, reader.inputs, list(_refs(outputs)), frozenset(reader.hidden), reader.masks
    )


def _body(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config of a model with listed layers; Keras 2 wrote a Sequential's as a bare list of layers."""
    config = entry.get("config")
    if isinstance(config, list):
        return {"layers": config}
    if isinstance(config, dict) and isinstance(cast("dict[str, Any]", config).get("layers"), list):
        return cast("dict[str, Any]", config)
    return None


def _refs(structure: Any) -> Iterator[Ref]:
    if isinstance(structure, Ref):
        yield structure
    elif isinstance(structure, (list, tuple)):
        for part in cast("list[Any]", structure):
            yield from _refs(part)
    elif isinstance(structure, Mapping):
        for part in cast("Mapping[str, Any]", structure).values():
            yield from _refs(part)


@dataclass
class _Pending:
    """A call whose tensors are still keys of the config."""

    layer: LayerSpec
    count: int  # how often the layer was called before
    node: int  # the same as the config counts it
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    needs: set[Key]


class _GraphReader:
    def __init__(self, most_calls: int) -> None:
        self._most_calls = most_calls
        self._characters = 0
        self.layers: list[LayerSpec] = []
        self.nodes: list[NodeSpec] = []
        self.inputs: list[Ref] = []
        self.hidden: set[str] = set()
        self.masks: dict[Ref, Any] = {}
        self._known: dict[tuple[str, ...], LayerSpec] = {}
        self._listed: set[tuple[str, ...]] = set()
        self._by_name: dict[str, NodeSpec] = {}

    # -- models ------------------------------------------------------------------------------------------------------

    def model(self, entry: Mapping[str, Any], path: tuple[str, ...], prefix: str, tensors: list[Ref] | None) -> Any:
        """Write out one model, called on ``tensors``; these are None for the outermost, which has inputs."""
        body = _body(entry)
        if body is None:
            raise GraphError(f"the nested model '{printable('/'.join(path))}' lists no layers")
        layers = self._layer_specs(cast("list[Any]", body["layers"]), path)
        if "input_layers" in body and "output_layers" in body:
            return self._functional(body, layers, path, prefix, tensors)
        return self._sequential(body, layers, path, prefix, tensors)

    def _layer_specs(self, entries: list[Any], path: tuple[str, ...]) -> _Listed:
        specs: _Listed = []
        seen: set[str] = set()
        for entry in entries:
            if not isinstance(entry, dict):
                raise GraphError("an entry of its list of layers is no object")
            one = cast("dict[str, Any]", entry)
            name = _layer_name(one)
            if name in seen:
                raise GraphError(f"two layers are named '{printable(name)}'")
            seen.add(name)
            spec = self._known.get((*path, name)) or layer_spec(one, (*path, name))
            self._known[spec.path] = spec
            specs.append((spec, one))
        return specs

    def _sequential(
        self, body: Mapping[str, Any], layers: _Listed, path: tuple[str, ...], prefix: str, tensors: list[Ref] | None
    ) -> Any:
        if layers and layers[0][0].class_name == "InputLayer":
            first, layers = layers[0][0], layers[1:]
        else:
            shape = layers[0][1].get("config", {}).get("batch_input_shape") if layers else None
            name = "input"
            while any(spec.path[-1] == name for spec, _ in layers):
                name = "_" + name
            config = {"batch_shape": shape or body.get("build_input_shape"), "name": name}
            entry = {"class_name": "InputLayer", "module": "keras.layers", "config": config}
            first = LayerSpec((*path, name), "InputLayer", "keras.layers", config, entry)
        if tensors is None:
            current: Any = self._input(first, prefix, hidden=True)
        elif len(tensors) == 1:
            current = tensors[0]
        else:
            raise GraphError(f"the Sequential '{printable('/'.join(path))}' is called on {len(tensors)} tensors")
        for spec, _ in layers:
            current = self._call(spec, 0, prefix, (current,), {})
        return current

    def _functional(
        self, body: Mapping[str, Any], layers: _Listed, path: tuple[str, ...], prefix: str, tensors: list[Ref] | None
    ) -> Any:
        values: dict[Key, Any] = {}
        names = {spec.path[-1]: spec for spec, _ in layers}
        input_keys = keys_in(body["input_layers"])
        if tensors is not None and len(tensors) != len(input_keys):
            raise GraphError(
                f"the model '{printable('/'.join(path))}' has {len(input_keys)} inputs and is called on {len(tensors)}"
            )
        # The order of inputs is the model's, not the order in which its layers happen to be listed.
        for position, key in enumerate(input_keys):
            if key.layer not in names:
                raise GraphError(f"its input '{printable(key.layer)}' is not among its layers")
            values[key] = self._input(names[key.layer], prefix) if tensors is None else tensors[position]
        pending: list[_Pending] = []
        stated: dict[Key, tuple[int | None, ...]] = {}
        for spec, entry in layers:
            if spec.class_name == "InputLayer":
                continue
            for count, node in enumerate(listed(entry.get("inbound_nodes"), "inbound_nodes")):
                args, kwargs = arguments(node, stated)
                needs = {key for part in (args, kwargs) for key in keys(part)}
                pending.append(_Pending(spec, count, count, args, kwargs, needs))
                if len(pending) > self._most_calls:
                    raise GraphError(f"it has more than {self._most_calls:,} layer calls")
        # Whether a call gives one tensor or several is known only to who uses it; so are the numbers of a layer's
        # calls: they begin at 1 for nested models in some Keras versions, and skip calls that belong to other models.
        # Every call leads to an output, so the numbers in use, in order, are the layer's calls.
        widths: dict[tuple[str, int], int] = {}
        numbers: dict[str, set[int]] = {}
        for key in (*(key for item in pending for key in item.needs), *keys_in(body["output_layers"])):
            widths[key.layer, key.node] = max(widths.get((key.layer, key.node), 1), key.tensor + 1)
            numbers.setdefault(key.layer, set()).add(key.node)
        in_use = {name: sorted(found) for name, found in numbers.items()}
        for item in pending:
            found = in_use.get(item.layer.path[-1], [])
            item.node = found[item.count] if item.count < len(found) else (found or [-1])[-1] + 1 + item.count
        for item in _in_order(pending, set(values)):
            args = tuple(substitute(arg, values) for arg in item.args)
            kwargs = {name: substitute(value, values) for name, value in item.kwargs.items()}
            layer_name = item.layer.path[-1]
            result = self._call(item.layer, item.count, prefix, args, kwargs)
            if isinstance(result, Ref):
                width = min(widths.get((layer_name, item.node), 1), MAX_OUTPUTS)
                for tensor in range(width):
                    values[Key(layer_name, item.node, tensor)] = Ref(result.call, tensor)
                    shape = stated.get(Key(layer_name, item.node, tensor))
                    if shape is not None:
                        self._by_name[result.call].declared[tensor] = shape
            else:
                for tensor, part in enumerate(_refs(result)):
                    values[Key(layer_name, item.node, tensor)] = part
        return substitute(with_keys(body["output_layers"]), values)

    # -- calls -------------------------------------------------------------------------------------------------------

    def _input(self, spec: LayerSpec, prefix: str, hidden: bool = False) -> Ref:
        ref = self._add(NodeSpec(prefix + spec.path[-1], spec, (), {}))
        self.inputs.append(ref)
        if hidden:
            self.hidden.add(ref.call)
        return ref

    def _call(self, spec: LayerSpec, count: int, prefix: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = prefix + spec.path[-1] + (f":{count}" if count else "")
        if spec.model is None:
            return self._add(NodeSpec(name, spec, args, kwargs))
        # Keras writes down the masks that it found on a call's tensors; what is called with them has them already.
        tensors = list(_refs((args, {key: value for key, value in kwargs.items() if key != "mask"})))
        masks: Any = kwargs.get("mask")
        listed_masks = cast("list[Any]", masks) if isinstance(masks, list) else [masks]
        self.masks.update((ref, mask) for ref, mask in zip(tensors, listed_masks, strict=False) if mask is not None)
        inner = self.model(spec.model, spec.path, name + "/", tensors)
        # The model itself is a row of its own, after its layers: its output can be asked for by its name.
        found = list(_refs(inner))
        if len(found) == 1:
            return self._add(NodeSpec(name, spec, (found[0],), {}))
        self._add(NodeSpec(name, spec, (found,), {}))
        return [Ref(name, index) for index in range(len(found))]

    def _add(self, node: NodeSpec) -> Ref:
        self._characters += len(node.name)
        if len(self.nodes) >= self._most_calls or self._characters > LIMITS.path_characters:
            raise GraphError(f"it has more than {self._most_calls:,} layer calls, or names without end")
        if node.name in self._by_name:
            raise GraphError(f"two calls are named '{printable(node.name)}'")
        self._by_name[node.name] = node
        self.nodes.append(node)
        if node.layer.path not in self._listed:
            self._listed.add(node.layer.path)
            self.layers.append(node.layer)
        return Ref(node.name, 0)


def _layer_name(entry: Mapping[str, Any]) -> str:
    config = entry.get("config")
    inner = cast("dict[str, Any]", config).get("name") if isinstance(config, dict) else None
    # The graph goes by the entry's name; of a TensorFlowOpLayer the config has another one, that of its node.
    name = entry.get("name") if isinstance(entry.get("name"), str) and "inbound_nodes" in entry else inner
    name = name if isinstance(name, str) else entry.get("name")
    if not isinstance(name, str) or not name:
        raise GraphError(f"a {printable(entry.get('class_name', 'layer'))} has no name")
    return name


def layer_spec(entry: Mapping[str, Any], path: tuple[str, ...]) -> LayerSpec:
    """Read a layer from its entry in a config's list.

    Raises:
        GraphError: the entry names no class.
    """
    class_name, config = entry.get("class_name"), entry.get("config")
    if not isinstance(class_name, str):
        raise GraphError(f"the layer '{printable('/'.join(path))}' has no class name")
    body = cast("dict[str, Any]", config) if isinstance(config, dict) else {}
    marked: Any = body.get("layer")
    if class_name == "QuantizeAnnotate" and isinstance(marked, dict) and "class_name" in marked:
        # It says that a layer is to be quantised, and calls it: the layer stands in its place, under its name.
        there = cast("dict[str, Any]", marked)
        inner_config: Any = there.get("config")
        config = {**cast("dict[str, Any]", inner_config if isinstance(inner_config, dict) else {}), "name": path[-1]}
        return replace(layer_spec({**there, "config": config}, path), marked=True)
    wrapped: dict[str, LayerSpec] = {}
    is_model = _body(entry) is not None
    for key, attribute in WRAPPED.items():
        inner = body.get(key)
        if not is_model and isinstance(inner, dict) and "class_name" in inner:
            wrapped[attribute] = layer_spec(cast("dict[str, Any]", inner), (*path, attribute))
    module = entry.get("module")
    row = kind_of(class_name)
    bare = body.keys() <= {"name"} or (row.home and not row.layer and "trainable" not in body)
    if module is None and bare and "inbound_nodes" in entry:
        # Legacy HDF5 files of Keras 3 leave modules out, so that the operation x + y and the layer Add look alike but
        # for this: every layer's config says at least whether it is trainable.
        module = BARE_OPERATION
    return LayerSpec(
        path, class_name, module if isinstance(module, str) else "", body, entry, entry if is_model else None, wrapped
    )


def _in_order(pending: list[_Pending], known: set[Key]) -> Iterator[_Pending]:
    """Kahn's algorithm over calls; among those that are ready, the order of the file."""
    ready_calls = {(key.layer, key.node) for key in known}
    waiting: list[int] = []
    blocked_by: dict[tuple[str, int], list[int]] = {}
    missing: list[int] = [0] * len(pending)
    for position, item in enumerate(pending):
        wanted = {(key.layer, key.node) for key in item.needs} - ready_calls
        missing[position] = len(wanted)
        for call in wanted:
            blocked_by.setdefault(call, []).append(position)
        if not wanted:
            waiting.append(position)
    heapq.heapify(waiting)
    done = 0
    while waiting:
        item = pending[heapq.heappop(waiting)]
        done += 1
        yield item
        for position in blocked_by.pop((item.layer.path[-1], item.node), []):
            missing[position] -= 1
            if missing[position] == 0:
                heapq.heappush(waiting, position)
    if done < len(pending):
        stuck = next(pending[position].layer for position, count in enumerate(missing) if count)
        raise GraphError(f"the layer '{printable(stuck.name)}' waits for a tensor that no layer gives (or for itself)")
