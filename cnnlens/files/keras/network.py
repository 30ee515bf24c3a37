"""A Keras file as a Network: its graph joined with its arrays, its shapes worked out, its axes named.

The reader knows arrays and paths, the graph knows calls; what needs both stands here: which weight belongs to which
layer under which name, where the channels of each tensor are, and which feature map a Dense layer saw flattened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cnnlens import layout
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.keras.graph import Graph, GraphError, LayerSpec, NodeSpec, layer_spec, read_graph
from cnnlens.files.keras.kinds import guess_kind
from cnnlens.files.keras.masks import MaskFlow
from cnnlens.files.keras.operations import WeightFile, make_operation, refusing, unpacker, version_tuple
from cnnlens.files.keras.weights import TRANSPARENT, geometry_of, owners, weight_of
from cnnlens.files.limits import items_at_most
from cnnlens.kinds import layer_kind
from cnnlens.layout import Geometry
from cnnlens.network.flatten_orders import DIFFERENT_ORDERS, FlattenOrders, lost_order, reads_features
from cnnlens.network.graph import CONFIG_ERRORS, Call, Layer, Ref, Shape, canonical_axes, find_refs, map_refs
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.reference import Operation

__all__ = ["keras_network", "network_of_graph", "operation_of_entry"]

_FEW = 6  # layers that a note names


def keras_network(file: WeightFile) -> Network:
    """Join a file's graph and arrays.

    A config that cannot be followed still leaves arrays to look at: the network then has no calls, and says why.
    """
    graph: Graph | None = None
    problem = "the model's class is its author's own, and the file does not say how its layers are connected"
    if file.config is not None:
        try:
            graph = read_graph(file.config, items_at_most(file.size))
        except (GraphError, RecursionError) as error:
            reason = "its models are nested too deeply" if isinstance(error, RecursionError) else str(error)
            problem = f"the model's config describes no graph that can be followed: {reason}"
    if graph is None:
        return _without_graph(file, problem if file.config is not None else None)
    return network_of_graph(file, graph)


def _without_graph(file: WeightFile, problem: str | None) -> Network:
    """What can be shown of a file that says nothing, or nothing sensible, of how its layers are connected."""
    entries = dict(_entries(file.config or {}, ()))
    layers: list[Layer] = []
    guessed = False
    doubtful: list[str] = []
    for path, arrays in file.weights.items():
        if not arrays:
            continue
        kind, config = entries.get(path, ("", {}))
        if not kind:
            shapes = {name: array.shape for name, array in arrays.items()}
            kind, transposed = guess_kind(path, shapes, _groups(next(iter(arrays.values())).place))
            guessed = True
            if transposed:
                doubtful.append("/".join(path))
        geometry = geometry_of(config, None)
        weights = {
            name: weight_of(name, kind, name, array, geometry, config, file.framework) for name, array in arrays.items()
        }
        layers.append(Layer("/".join(path), kind, config, stored=weights))
    notes = [*file.notes, *([problem] if problem else [])]
    if guessed:
        notes.append("kinds of layers are taken from the file's names and arrays; nothing can be run")
    if doubtful:
        shown = ", ".join(printable(name, 60) for name in doubtful[:_FEW])
        more = f" and {len(doubtful) - _FEW} more" if len(doubtful) > _FEW else ""
        notes.append(
            f"a convolution may be a transposed one, whose kernel has in and out the other way round: {shown}{more}"
        )
    top = file.config or {}
    name, kind = _model_name(file.config) or file.path.stem, str(top.get("class_name") or "weights")
    return Network(name, kind, file, tuple(layers), notes=tuple(notes))


def _groups(place: str) -> tuple[str, ...]:
    """The groups of a numbered file that an array lies in, ``layers/conv2d/vars/0``; none where names are people's."""
    steps = tuple(place.rpartition(": ")[2].replace("\\", "/").split("/"))
    return steps[:-2] if steps[-2:-1] == ("vars",) else ()


def _entries(
    entry: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], tuple[str, Mapping[str, Any]]]]:
    """Every layer's kind and config by path, from a config whose graph cannot be followed."""
    config = entry.get("config")
    listed: Any = cast("dict[str, Any]", config).get("layers") if isinstance(config, dict) else config
    if not isinstance(listed, list) or len(path) > 50:
        return
    for one in cast("list[Any]", listed):
        body: Any = cast("dict[str, Any]", one).get("config") if isinstance(one, dict) else None
        if isinstance(body, dict) and isinstance(one.get("class_name"), str):
            inner = (*path, str(cast("dict[str, Any]", body).get("name")))
            yield inner, (one["class_name"], cast("dict[str, Any]", body))
            yield from _entries(cast("dict[str, Any]", one), inner)


def _model_name(config: Mapping[str, Any] | None) -> str | None:
    body = (config or {}).get("config")
    name = cast("dict[str, Any]", body).get("name") if isinstance(body, dict) else None
    return name if isinstance(name, str) and name else None


def network_of_graph(file: WeightFile, graph: Graph) -> Network:
    """Make a network of a graph and the arrays for it."""
    return _Builder(file, graph, version_tuple(file.keras_version)).network()


class _Builder:
    def __init__(self, file: WeightFile, graph: Graph, version: tuple[int, ...]) -> None:
        self.file = file
        self.graph = graph
        self.version = version
        self.layers: dict[tuple[str, ...], Layer] = {}
        self.specs = {spec.path: spec for spec in graph.layers}
        self.calls: list[Call] = []
        self.done: dict[str, Call] = {}
        self.notes = list(file.notes)
        if file.unmatched:
            places = ", ".join(printable(place, 60) for place in list(file.unmatched)[:3])
            self.notes.append(f"{len(file.unmatched)} arrays in the file belong to no layer of the config: {places}")
        self.flattened = FlattenOrders()
        self.unordered: dict[tuple[str, ...], str] = {}  # layers that see such features
        self.laid: set[str] = set()  # calls whose maps have their channels where their layout says
        self.axes = self._channel_axes()
        self.below: dict[tuple[str, ...], list[tuple[str, ...]]] = {}  # by path, those of the arrays inside it
        for path in file.weights:
            for length in range(1, len(path)):
                self.below.setdefault(path[:length], []).append(path)

    def network(self) -> Network:
        flatten_of: dict[tuple[str, ...], tuple[int, ...] | None] = {}
        for node in self.graph.nodes:
            layer = self.layers.get(node.layer.path)
            if layer is None:
                layer = self._layer(node.layer)
                self.layers[node.layer.path] = layer
            # Keras 3 runs a model with training=False, which overrides what a call in the file says (random layers are
            # saved with True); Keras 2 kept to the file.
            kwargs = {k: v for k, v in node.kwargs.items() if k != "training" or self.version[0] < 3}
            call = Call(node.name, layer, node.args, kwargs, self._shapes(node, layer), self.axes[node.name])
            self.calls.append(call)
            self.done[node.name] = call
            if self._is_laid(call):
                self.laid.add(node.name)
            flatten = self._follow_flatten(node, call)
            # A shared Dense that sees two different flattened maps has no single flatten order.
            if flatten_of.setdefault(node.layer.path, flatten) != flatten:
                flatten_of[node.layer.path] = None
                self.unordered[node.layer.path] = DIFFERENT_ORDERS
            if layer.output_shape is None:
                layer.stored_output_shape = call.shapes[0]
                layer.output_shape = (
                    None if call.shapes[0] is None else canonical_axes(call.shapes[0], call.channel_axis)
                )
                layer.inputs = tuple(ref.name for ref in find_refs((node.args, dict(node.kwargs))))
        for path, layer in self.layers.items():
            layer.stored = dict(self._weights(layer, path, flatten_of[path]))
            layer.unpack = unpacker(layer)
            if path in self.unordered and any(reads_features(weight) for weight in layer.stored.values()):
                self.notes.append(lost_order(layer, self.unordered[path]))
        self._follow_masks()
        self._note_states()
        marked = sum(spec.marked for spec in self.graph.layers)
        if marked:
            self.notes.append(
                f"{marked} layer{'s' * (marked != 1)} marked to be quantised (QuantizeAnnotate), which changes nothing "
                f"that {'they compute' if marked != 1 else 'it computes'}: shown without the mark"
            )
        hidden = self.graph.hidden
        listed = [self.layers[spec.path] for spec in self.graph.layers if "/".join(spec.path) not in hidden]
        return Network(
            name=_model_name(self.file.config) or self.file.path.stem,
            kind=str((self.file.config or {}).get("class_name", "Model")),
            source=self.file,
            layers=tuple(listed),
            calls=tuple(self.calls),
            inputs=tuple(self.graph.inputs),
            outputs=tuple(self.graph.outputs),
            notes=tuple(self.notes),
        )

    # -- layers ------------------------------------------------------------------------------------------------------

    def _layer(self, spec: LayerSpec) -> Layer:
        return Layer(
            spec.name,
            spec.class_name,
            spec.config,
            spec.module,
            spec.entry,
            container=spec.model is not None,
            path=spec.path,
            make_operation=self._maker(spec),
        )

    def _maker(self, spec: LayerSpec) -> Callable[[], Operation]:
        file, version = self.file, self.version

        def make() -> Operation:
            return _operation(spec, file, version)

        return make

    def _weights(
        self, layer: Layer, path: tuple[str, ...], flatten: tuple[int, ...] | None
    ) -> Iterator[tuple[str, Weight]]:
        spec = self.specs[path]
        if spec.model is not None:
            return
        taken: set[str] = set()
        for prefix, owner in owners(spec):
            arrays = self.file.weights.get(owner.path, {})
            for role, array in arrays.items():
                name = prefix + role
                if name in taken:
                    name = "/".join((*owner.path[len(path) :], role))
                taken.add(name)
                geometry = geometry_of(owner.config, flatten if owner is spec else None)
                yield (
                    name,
                    self._weight(name, owner.class_name, role, array, geometry, owner.config, owner.path[len(path) :]),
                )
        # A wrapped model, and the parts of layers such as MultiHeadAttention, are known to the file alone.
        known = {owner.path for _, owner in owners(spec)}
        for other in self.below.get(path, ()):
            if other not in known:
                arrays = self.file.weights[other]
                inside = [part for part in other[len(path) :] if part not in TRANSPARENT] or list(other[len(path) :])
                for role, array in arrays.items():
                    name = "/".join((*inside, role))
                    if layout.resolve_kind(spec.class_name) in ("MultiHeadAttention", "GroupQueryAttention"):
                        # Its projections have lines of their own in the table, by attribute.
                        known_as = spec.class_name, name, geometry_of(spec.config, None)
                    else:
                        kind, _ = guess_kind(other, {n: a.shape for n, a in arrays.items()})
                        known_as = kind, role, Geometry()
                    yield name, self._weight(name, *known_as[:2], array, known_as[2], {}, other[len(path) :])

    def _weight(
        self,
        name: str,
        kind: str,
        role: str,
        array: Any,
        geometry: Geometry,
        config: Mapping[str, Any],
        owner: tuple[str, ...],
    ) -> Weight:
        weight = weight_of(name, kind, role, array, geometry, config, self.file.framework, owner)
        if weight.kind != kind and np.issubdtype(array.dtype, np.floating):
            self.notes.append(
                f"{printable(array.place, 120)}: its shape {array.shape} is none that a {printable(kind)} has, "
                "so it is shown as stored"
            )
        return weight

    # -- shapes and axes -----------------------------------------------------------------------------------------------

    def _shapes(self, node: NodeSpec, layer: Layer) -> tuple[Shape | None, ...]:
        if not node.args and layer.kind == "InputLayer":
            return (input_shape(node.layer.config),)
        if node.layer.model is not None:
            return tuple(self._shape(ref) for ref in find_refs(node.args))
        shapes: list[Shape | None] = []
        try:
            known = all(self._shape(ref) is not None for ref in find_refs((node.args, dict(node.kwargs))))
            if known:
                args = map_refs(node.args, self._shape)
                found = self._for_shapes(node.layer, layer).output_shape(
                    *args, **map_refs(_plain(node.kwargs), self._shape)
                )
                given = cast("list[Shape]", found) if isinstance(found, list) else [found]
                if not all(_is_shape(shape) for shape in given):
                    raise TypeError("a tensor was expected where something else stands")
                shapes = list(given)
        except CnnlensError:
            pass  # said when somebody wants it computed; until then the shapes that the file states will do
        except CONFIG_ERRORS as error:
            layer.make_operation = refusing(f"its config does not fit its input ({printable(error, 200)})")
            layer.__dict__.pop("operation", None)
        if not shapes:
            count = max(node.declared, default=0) + 1
            shapes = [node.declared.get(index) for index in range(count)]
        return tuple(shapes)

    def _for_shapes(self, spec: LayerSpec, layer: Layer) -> Operation:
        """What gives a layer's shapes: of one that rounds what a layer in it makes, that layer."""
        inner = spec.wrapped.get("layer")
        if layer_kind(spec.class_name, spec.module or None).name in ("QuantizeWrapper", "QuantizeWrapperV2") and inner:
            plain = {name: value for name, value in inner.config.items() if name != "activation"}
            return _operation(replace(inner, config=plain), self.file, self.version)
        if spec.class_name == "QuantizeLayer":
            return _operation(replace(spec, class_name="Identity"), self.file, self.version)
        return layer.operation

    def _shape(self, ref: Ref) -> Shape | None:
        shapes = self.done[ref.call].shapes
        return shapes[ref.index] if ref.index < len(shapes) else None

    def _channel_axes(self) -> dict[str, int]:
        """Where the channels of each call's output stand: 1 or -1.

        A layer with a ``data_format`` says it; any other layer hands on what its first input has; an input takes it
        from the first layer behind it that says. Keras' default is channels last.
        """
        said: dict[str, int] = {}
        for node in self.graph.nodes:
            value = node.layer.config.get("data_format")
            inner = next(iter(node.layer.wrapped.values()), None)
            if value is None and inner is not None:
                value = inner.config.get("data_format")
            if value in ("channels_first", "channels_last"):
                said[node.name] = 1 if value == "channels_first" else -1
        backwards: dict[str, int] = {}
        for node in reversed(self.graph.nodes):
            axis = said.get(node.name, backwards.get(node.name))
            if axis is not None:
                for ref in find_refs((node.args, dict(node.kwargs))):
                    backwards[ref.call] = axis
        axes: dict[str, int] = {}
        for node in self.graph.nodes:
            first = next(find_refs((node.args, dict(node.kwargs))), None)
            inherited = backwards.get(node.name, -1) if first is None else axes[first.call]
            axes[node.name] = said.get(node.name, inherited)
        return axes

    def _follow_flatten(self, node: NodeSpec, call: Call) -> tuple[int, ...] | None:
        """Follow a flattened map: its ``(H, W, C)`` where a layer sees one, noted for the layers behind it.

        Where several maps meet, or features are moved, the order is lost; what sees such features is remembered too.
        """
        refs = list(find_refs(node.args))
        if not refs or call.shapes[0] is None:
            return None
        first, made = refs[0], Ref(node.name)
        before, kind = self._shape(first), node.layer.class_name
        after, rank = call.shapes[0], 0 if before is None else len(before)
        if rank > 2 and len(after) == 2 and kind in ("Flatten", "Reshape") and self.flattened.lost(refs) is None:
            last = self.axes[first.call] == -1
            sizes = cast("Shape", before)[1:]
            sizes = sizes if last else (*sizes[1:], sizes[0])
            # Keras' Flatten turns a channels-first map to channels-last; a Reshape leaves it as PyTorch would.
            if kind == "Reshape" and last and first.call not in self.laid:
                self.flattened.lose(made, f"{call.layer.shown} flattens a map whose axes were moved")
            elif all(size is not None for size in sizes) and (kind == "Flatten" or last):
                self.flattened.flatten(made, cast("tuple[int, ...]", sizes))
            return None
        operands = [(ref, self._shape(ref)) for ref in refs]
        row = layer_kind(kind, node.layer.module)
        handed_on = self.flattened.follow(call.layer, row, operands, made, after)
        lost = self.flattened.lost(refs)
        if lost is not None and not handed_on:
            self.unordered.setdefault(node.layer.path, lost)
        return self.flattened.of(first)

    def _is_laid(self, call: Call) -> bool:
        """Tell whether a map lies as its convolution or its input laid it: behind a Permute nobody knows its axes."""
        if call.layer.kind == "InputLayer" or call.layer.config.get("data_format") == "channels_last":
            return True
        return (
            bool(call.refs)
            and layer_kind(call.layer.kind, call.layer.module).keeps_features
            and all(ref.call in self.laid for ref in call.refs)
        )

    def _follow_masks(self) -> None:
        """Give each call the masks that it uses, or the reason why it cannot be computed."""
        places = {call.name: place for place, call in enumerate(self.calls)}
        for call, masks in MaskFlow(tuple(self.calls), self.version, self.graph.masks).follow():
            self.calls[places[call.name]] = replace(call, masks=masks)

    def _note_states(self) -> None:
        """A stateful layer's output depends on what it saw before; what is computed is that of a fresh model."""
        for layer in self.layers.values():
            inner = layer.config.get("layer")
            config: Any = cast("dict[str, Any]", inner).get("config") if isinstance(inner, dict) else None
            said = [layer.config, cast("dict[str, Any]", config)] if isinstance(config, dict) else [layer.config]
            if any(one.get("stateful") is True for one in said):
                self.notes.append(
                    f"{layer.shown} is stateful: it is computed from a state of zero, as after reset_states()"
                )


def _is_shape(shape: Any) -> bool:
    sizes = cast("tuple[Any, ...]", shape) if isinstance(shape, tuple) else None
    return shape is None or (
        sizes is not None and all(one is None or isinstance(one, int | np.integer) for one in sizes)
    )


def _plain(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's keyword arguments without those that say nothing at inference."""
    return {name: value for name, value in kwargs.items() if not (name in ("mask", "training") and not value)}


def input_shape(config: Mapping[str, Any]) -> Shape | None:
    """The shape of an InputLayer, batch first: ``batch_shape`` in Keras 3, ``batch_input_shape`` in Keras 2."""
    value = config.get("batch_shape") or config.get("batch_input_shape")
    if not isinstance(value, (list, tuple)):
        return None
    axes = list(cast("list[Any]", value))
    if not all(axis is None or (isinstance(axis, int) and axis >= 0) for axis in axes):
        return None
    return (None, *axes[1:])


# -- arithmetic --------------------------------------------------------------------------------------------------------


def operation_of_entry(
    layer: Layer, arrays: Mapping[tuple[str, ...], Mapping[str, Any]], keras_version: str | None
) -> Operation:
    """Build the arithmetic of a layer that was handed over: from its entry alone, its arrays by path.

    Raises:
        UnsupportedLayerError: the reference has none.
    """
    from cnnlens.reference.wrappers import Container

    if layer.container:
        return Container()
    return _operation(layer_spec(layer.entry, layer.path), _Arrays(arrays, keras_version), version_tuple(keras_version))


def _operation(spec: LayerSpec, file: WeightFile, version: tuple[int, ...]) -> Operation:
    return make_operation(spec, version, lambda inner: _wrapped_model(inner, file))


def _wrapped_model(spec: LayerSpec, file: WeightFile) -> Network:
    """The model inside a wrapper, whose arrays' paths begin at that model."""
    assert spec.model is not None
    graph = read_graph(spec.model)
    if graph is None:
        raise UnsupportedLayerError("it wraps a model without a graph")
    depth = len(spec.path)
    inside = {path[depth:]: arrays for path, arrays in file.weights.items() if path[:depth] == spec.path}
    return network_of_graph(_Arrays(inside, file.keras_version), graph)


@dataclass
class _Arrays:
    """Arrays by path where a file is expected: for a model inside a wrapper, whose paths begin at that model."""

    weights: Mapping[tuple[str, ...], Mapping[str, Any]]
    keras_version: str | None
    unmatched: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    notes: tuple[str, ...] = ()
    config: dict[str, Any] | None = None
    path: Path = Path("a wrapped model")
    format: str = ""
    framework: str = "keras"
    size: int = 0
    sha256: str = ""
