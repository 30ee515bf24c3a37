"""An exported PyTorch graph as a Network: modules as layers, functional calls between them, shapes, weights.

Every layer's entry is the ATen operator with its arguments, where ``{"tensor": k}`` is the k-th tensor that its call
takes, ``{"weight": name}`` an array of the layer and ``{"batch": m}`` m times the batch size: enough for the
reference, and enough to call PyTorch again. PyTorch's axes are the canonical ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cnnlens.errors import CnnlensError
from cnnlens.files.torch.operations import call_arguments, equip, same_arithmetic, translated
from cnnlens.files.torch.program import Node, Program, values
from cnnlens.files.torch.program_batch import open_shape, shows_batch, with_batch
from cnnlens.files.torch.program_entries import Entry, entry_of, settings
from cnnlens.files.torch.program_inplace import straightened
from cnnlens.files.torch.program_linear import with_linears
from cnnlens.files.torch.program_modules import Instance, build_tree, is_filler, leaves
from cnnlens.files.torch.weights import argument_kinds, geometry_of_entry, torch_weight, unused_layers
from cnnlens.kinds import operator_kind
from cnnlens.network.flatten_orders import DIFFERENT_ORDERS, FlattenOrders, lost_order, reads_features
from cnnlens.network.graph import Call, Layer, Ref, Shape, Source
from cnnlens.network.network import Network
from cnnlens.network.weight import Stored, Weight
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.reference.aten import Translation

__all__ = ["torch_network"]

_FLATTENS = ("flatten", "view", "reshape", "_unsafe_view")


def torch_network(
    program: Program, arrays: Mapping[str, Stored], source: Source, name: str, notes: Iterable[str] = ()
) -> Network:
    """Make the network of an exported program.

    Args:
        program: The program, checked.
        arrays: Its parameters, buffers and constants by their names in the model; those that could not be read lack.
        source: Where it came from.
        name: What it is called.
        notes: Remarks that came up before.
    """
    return _Builder(program, arrays, source, name, tuple(notes)).network()


@dataclass
class _Made:
    """A layer in the making.

    Attributes:
        layer: The layer.
        op: Its operator's bare name.
        weights: Its arrays: name in the layer to name in the model.
        tensors: The shapes that its first call takes.
        translation: Its arithmetic, None where the reference has none.
        flatten: The order of the flattened map that it sees.
        unordered: Why it sees features in an order that nobody can follow; empty where it does not.
        calls: How often it is called.
    """

    layer: Layer
    op: str
    weights: Mapping[str, str]
    tensors: tuple[Shape | None, ...]
    translation: Translation | None
    flatten: tuple[int, ...] | None = None
    unordered: str = ""
    calls: int = 0


class _Builder:
    def __init__(
        self, program: Program, arrays: Mapping[str, Stored], source: Source, name: str, notes: tuple[str, ...]
    ) -> None:
        batched = with_batch(with_linears(straightened(program)), arrays)
        self.program = batched.program
        self.symbols = batched.symbols
        self.arrays = arrays
        self.source = source
        self.name = name
        self.notes = [*notes, *self.program.notes, *batched.notes]
        self.root = build_tree(self.program.nodes)
        self.leaves = leaves(self.root)
        self.made: dict[tuple[str, ...], list[_Made]] = {}
        self.order: list[_Made] = []  # by first call
        self.calls: list[Call] = []
        self.shapes: dict[Ref, Shape | None] = {}
        self.taken: set[str] = set()
        self.where: dict[str, tuple[tuple[Instance, ...], Ref]] = {}  # a tensor: the calls it is made in, and itself
        self.handed: dict[Instance, dict[str, Ref]] = {}  # what a container's call hands on
        self.escapes = _escapes(self.root, self.program)
        self.read = {value.name for node in self.program.nodes for value in values(node.arguments)}
        self.read.update(self.program.outputs)
        self.flattened = FlattenOrders()

    def network(self) -> Network:
        self._reserve()
        inputs = tuple(self._input(name) for name in self.program.inputs)
        self._walk()
        outputs: list[Ref] = []
        for output in self.program.outputs:
            if output in self.where:
                outputs.append(self._ref(output, ()))
            else:
                self.notes.append(f"the output '{printable(output, 60)}' is a weight of the model, and is left out")
        layers = [made.layer for made in self.order]
        spare = self._finish()
        unused = unused_layers(spare, layers)
        if unused:
            shown = ", ".join(printable(layer.name, 60) for layer in unused[:3])
            self.notes.append(f"{len(spare)} arrays belong to modules that the graph does not call: {shown}")
        return Network(
            name=self.name,
            kind=self.program.root.rpartition(".")[2] or "ExportedProgram",
            source=self.source,
            layers=(*layers, *unused),
            calls=tuple(self.calls),
            inputs=inputs,
            outputs=tuple(outputs),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    # -- names -------------------------------------------------------------------------------------------------------

    def _reserve(self) -> None:
        """Modules have the names that their author gave; whatever else comes by their name takes another."""
        queue = [self.root]
        while queue:
            inner = [step for step in queue.pop().steps if isinstance(step, Instance)]
            self.taken.update(step.path for step in inner)
            queue.extend(inner)

    def _free(self, wanted: str, number: int = 0) -> str:
        """``wanted`` with the first free number from ``number`` on; no number for 0."""
        name = f"{wanted}_{number}" if number else wanted
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    # -- the walk ----------------------------------------------------------------------------------------------------

    def _walk(self) -> None:
        # A stack of its own: modules may be nested as deeply as the file says.
        work: list[tuple[Instance, int, dict[str, int]]] = [(self.root, 0, {})]
        while work:
            call, position, counts = work.pop()
            if position == len(call.steps):
                if call is not self.root and call.path not in self.leaves:
                    self._container(call)
                continue
            work.append((call, position + 1, counts))
            step = call.steps[position]
            if isinstance(step, Instance):
                work.append((step, 0, {}))
                continue
            number = counts[step.op] = counts.get(step.op, -1) + 1
            self._node(step, call, number)

    def _ref(self, tensor: str, reader: tuple[Instance, ...]) -> Ref:
        """A tensor as something inside ``reader`` sees it: handed on by the outermost container that it is not in."""
        made_in, ref = self.where[tensor]
        for call in made_in[_shared(made_in, reader) :]:
            if tensor in self.handed.get(call, {}):
                return self.handed[call][tensor]
        return ref

    # -- calls -------------------------------------------------------------------------------------------------------

    def _call(self, made: _Made, args: tuple[Any, ...], shapes: tuple[Shape | None, ...]) -> Call:
        layer = made.layer
        name = layer.name if not made.calls else self._free(f"{layer.name}:{made.calls}")
        call = Call(name, layer, args, {}, shapes, 1)
        if not made.calls:
            self.order.append(made)
            layer.output_shape = layer.stored_output_shape = shapes[0] if shapes else None
            layer.inputs = tuple(ref.name for ref in call.refs)
        made.calls += 1
        self.calls.append(call)
        self.shapes.update((Ref(name, index), shape) for index, shape in enumerate(shapes))
        return call

    def _input(self, tensor: str) -> Ref:
        shape = open_shape(self.program.shapes.get(tensor))
        name = self._free(tensor)
        config = {
            "batch_shape": None if shape is None else list(shape),
            "dtype": self.program.dtypes.get(tensor, "float32"),
        }
        entry: dict[str, Any] = {"target": "input", "arguments": {}}
        layer = Layer(name, "InputLayer", config, "torch", entry=entry, path=(name,))
        made = _Made(layer, "input", {}, (), None)
        self.made[("input", name)] = [made]
        ref = Ref(self._call(made, (), (shape,)).name)
        self.where[tensor] = ((), ref)
        return ref

    def _container(self, instance: Instance) -> None:
        wanted = list(self.escapes.get(instance, {}))
        if not wanted or instance.frame is None:
            return
        refs = [self._ref(name, instance.chain) for name in wanted]
        found = self.made.setdefault(("container", instance.path), [])
        if not found:
            kind, path = instance.frame.type.rpartition(".")[2], tuple(instance.path.split("."))
            layer = Layer(instance.path, kind, {}, instance.frame.type, container=True, path=path)
            found.append(_Made(layer, "", {}, (), None))
        args = (refs[0],) if len(refs) == 1 else (refs,)
        call = self._call(found[0], args, tuple(self.shapes[ref] for ref in refs))
        self.handed[instance] = {name: Ref(call.name, index) for index, name in enumerate(wanted)}
        for index, ref in enumerate(refs):
            self.flattened.hand_on(ref, Ref(call.name, index))

    def _node(self, node: Node, inside: Instance, number: int) -> None:
        leaf = inside.path in self.leaves and not is_filler(node)
        reader = inside.above if leaf else inside.chain
        entry = entry_of(node, self.program.weights, inside.path, self.symbols, self._batch_of)
        refs = [self._ref(name, reader) for name in entry.tensors]
        made = self._layer(node, inside, leaf, number, entry, tuple(self.shapes[ref] for ref in refs))
        args = tuple(refs) if made.translation is None else call_arguments(made.translation, refs)
        used = self._used_outputs(node)
        shapes = tuple(open_shape(self.program.shapes.get(name)) for name in node.outputs[:used])
        call = self._call(made, args, shapes)
        self.where.update((name, (reader, Ref(call.name, index))) for index, name in enumerate(node.outputs))
        flatten = self._follow_flatten(made, node.op, call, refs)
        if made.calls == 1:
            made.flatten = flatten
        elif made.flatten != flatten:
            made.flatten, made.unordered = None, DIFFERENT_ORDERS

    def _follow_flatten(self, made: _Made, op: str, call: Call, refs: Sequence[Ref]) -> tuple[int, ...] | None:
        """Follow a flattened map: the ``(*spatial, C)`` of the one that the call sees."""
        after = call.shapes[0] if call.shapes else None
        before = self.shapes[refs[0]] if refs else None
        if after is None or before is None:
            return None
        flattens = op in _FLATTENS and len(before) > 2 and len(after) == 2
        if flattens and self.flattened.lost(refs) is None:
            if math.prod(size or 0 for size in before[1:]) == after[1]:
                channels, *spatial = cast("tuple[int, ...]", before[1:])
                self.flattened.flatten(Ref(call.name), (*spatial, channels))
            return None
        operands = [(ref, self.shapes[ref]) for ref in refs]
        handed_on = self.flattened.follow(call.layer, operator_kind(op), operands, Ref(call.name), after)
        made.unordered = made.unordered or ("" if handed_on else self.flattened.lost(refs) or "")
        return self.flattened.of(refs[0])

    def _layer(
        self, node: Node, inside: Instance, leaf: bool, number: int, entry: Entry, tensors: tuple[Shape | None, ...]
    ) -> _Made:
        """The layer of a node: the one of an earlier call of the module, where its arithmetic is the same."""
        key = ("module", inside.path) if leaf else ("function", inside.path, node.op, str(number))
        weights = {name: self.program.weights[placeholder] for name, placeholder in entry.weights.items()}
        translation = self._translation(entry, weights, tensors)
        known = self.made.setdefault(key, [])
        for one in known:
            same = one.layer.entry == entry.data and one.weights == weights
            if same and (one.tensors == tensors or same_arithmetic(one.translation, translation)):
                return one
        again = f":{len(known)}" if known else ""
        if leaf and inside.frame is not None:
            kind, module = inside.frame.type.rpartition(".")[2], inside.frame.type
            name = self._free(inside.path + again) if known else inside.path
        else:
            kind, module = node.op, f"torch.ops.{node.target.partition('.')[0]}"
            wanted = ".".join(filter(None, (inside.path, node.op)))
            name = self._free(f"{known[0].layer.name}{again}") if known else self._free(wanted, number)
        path = tuple(name.split("."))
        config = settings(entry.data["arguments"])
        made = _Made(Layer(name, kind, config, module, entry.data, path=path), node.op, weights, tensors, translation)
        known.append(made)
        return made

    def _translation(
        self, entry: Entry, weights: Mapping[str, str], tensors: Sequence[Shape | None]
    ) -> Translation | None:
        shapes = {name: self.arrays[place].shape for name, place in weights.items() if place in self.arrays}
        if len(shapes) < len(weights):
            return None
        try:
            return translated(entry.data, shapes, tensors)
        except CnnlensError:
            return None  # said when somebody wants it computed

    def _batch_of(self, tensors: Iterable[str]) -> str | None:
        """The input that shows how large a batch is, where none of ``tensors`` does."""
        return shows_batch(self.program, self.symbols, tensors)

    def _used_outputs(self, node: Node) -> int:
        """How many outputs count: results that nothing takes (a batch norm's statistics) are none of the layer's."""
        if node.listed:
            return len(node.outputs)
        return max((index for index, name in enumerate(node.outputs) if name in self.read), default=0) + 1

    # -- weights -----------------------------------------------------------------------------------------------------

    def _finish(self) -> dict[str, Stored]:
        """Give every layer its arrays and its arithmetic; arrays that belong to no layer are given back."""
        claimed = {place for made in self.order for place in made.weights.values()}
        owners = {".".join(found[0].layer.path): found[0] for key, found in self.made.items() if key[0] == "module"}
        owning = {id(made) for made in owners.values()}
        extra: dict[str, dict[str, str]] = {}
        spare: dict[str, Stored] = {}
        for place, array in self.arrays.items():
            owner, _, own = place.rpartition(".")
            if place not in claimed and owner in owners:
                extra.setdefault(owner, {})[own] = place  # such as num_batches_tracked
            elif place not in claimed:
                spare[place] = array
        for made in self.order:
            more = extra.get(".".join(made.layer.path), {}) if id(made) in owning else {}
            made.layer.stored = self._stored(made, {**made.weights, **more})
            if made.unordered and any(reads_features(weight) for weight in made.layer.stored.values()):
                self.notes.append(lost_order(made.layer, made.unordered))
            equip(made.layer, made.tensors)
        return spare

    def _stored(self, made: _Made, weights: Mapping[str, str]) -> dict[str, Weight]:
        arguments: Mapping[str, Any] = made.layer.entry.get("arguments", {})
        geometry = geometry_of_entry(arguments, made.flatten)
        by_reference: Mapping[str, tuple[str, str]] = made.translation.weights if made.translation is not None else {}
        by_operator = argument_kinds(made.op, arguments)
        stored: dict[str, Weight] = {}
        for name, place in weights.items():
            if place in self.arrays:
                kinds = [kinds[name] for kinds in (by_reference, by_operator) if name in kinds]
                stored[name] = torch_weight(name, kinds, self.arrays[place], geometry, made.layer.config)
        return stored


def _escapes(root: Instance, program: Program) -> dict[Instance, dict[str, None]]:
    """For each call of a module, the tensors made in it that something outside of it takes, in order."""
    where: dict[str, tuple[Instance, ...]] = {}
    readers: list[tuple[str, tuple[Instance, ...]]] = []
    queue = [root]
    while queue:
        call = queue.pop()
        for step in call.steps:
            if isinstance(step, Instance):
                queue.append(step)
                continue
            where.update(dict.fromkeys(step.outputs, call.chain))
            readers.extend((value.name, call.chain) for value in values(step.arguments))
    readers.extend((name, ()) for name in program.outputs)
    order = {name: index for index, name in enumerate(made for node in program.nodes for made in node.outputs)}
    found: dict[Instance, dict[str, None]] = {}
    for name, reader in sorted(readers, key=lambda one: order.get(one[0], -1)):
        made_in = where.get(name, ())
        for call in made_in[_shared(made_in, reader) :]:
            found.setdefault(call, {})[name] = None
    return found


def _shared(one: tuple[Instance, ...], other: tuple[Instance, ...]) -> int:
    """How many calls of modules two places have in common."""
    count = 0
    while count < min(len(one), len(other)) and one[count] is other[count]:
        count += 1
    return count
