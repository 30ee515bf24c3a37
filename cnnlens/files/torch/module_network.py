"""A pickled module as a Network: its modules as layers; its graph where it is an ``nn.Sequential`` of torch's own.

What a Sequential computes is said by its modules' order, classes and attributes, so it becomes a program as an
exported one is. What another module computes is in its class, which is not in the file: its modules are listed, with
their kinds, arrays and geometry, and nothing can be run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.limits import calls_at_most
from cnnlens.files.torch.module_calls import INPUT, Call, calls_of, is_recurrent, is_stock, recurrent_call
from cnnlens.files.torch.module_tree import Module, plain_attributes
from cnnlens.files.torch.program import Frame, Node, Program, Size, Value, map_values
from cnnlens.files.torch.program_entries import entry_of, settings
from cnnlens.files.torch.program_network import torch_network
from cnnlens.files.torch.program_writer import BATCH, ProgramWriter, input_shape, settled_shape
from cnnlens.files.torch.state_file import TorchFile
from cnnlens.files.torch.state_kinds import Neighbours, guess_kind
from cnnlens.files.torch.state_layers import ROOT
from cnnlens.files.torch.weights import argument_kinds, geometry_of_entry, torch_weight
from cnnlens.layout import Geometry
from cnnlens.network.graph import Layer, Shape, shown_shape
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["in_training", "main_call", "module_layers", "module_network", "settled_program"]

Written = tuple[ProgramWriter, list[Value]]
"""A program in the making, and the tensors that it gives."""

_SEQUENTIAL = "torch.nn.modules.container.Sequential"
_NO_GRAPH = (
    "the file holds modules and no graph ({}): nothing can be run; for the graph save a .pt2 with torch.export.save, "
    "or name the module's factory with --arch package.module:factory"
)


def module_network(file: TorchFile) -> Network:
    """Make the network of a file's module: with its graph where that is in the file, else with its layers alone."""
    assert file.tree is not None
    notes = list(file.notes)
    try:
        program, said = _program(file, file.tree)
    except UnsupportedLayerError as error:
        notes.append(_NO_GRAPH.format(printable(error, 200)))
        layers = module_layers(file.tree, file, main_call)
        return Network(file.path.stem, file.tree.name, file, tuple(layers), notes=tuple(notes))
    return torch_network(program, file.arrays, file, file.path.stem, [*notes, *in_training(file.tree), said])


def in_training(root: Module) -> list[str]:
    """Write a note where a model was saved in training mode."""
    if not any(module.record.attributes.get("training") is True for module in root.modules()):
        return []
    return ["saved in training mode; what is computed is inference, as after model.eval()"]


def settled_program(write: Callable[[Shape | None], Written], shape: Shape | None) -> tuple[Written, str]:
    """Write a program for an input whose shape a file does not say, settled as far as its layers do, with a note."""
    said = "the file does not say the shape of its input, taken from its layers: "
    written = write(shape)
    if shape is not None and (sides := settled_shape(lambda tried: write(tried)[0], shape, written[0])) is not None:
        shape = (*shape[:2], *[sides[0]] * (len(shape) - 2))
        said += "" if sides[0] == sides[1] else f"the smallest of {sides[0]} to {sides[1]}, which fit, "
        written = write(shape)
    return written, said + shown_shape(shape)


# -- a Sequential's graph ---------------------------------------------------------------------------------------------


def _program(file: TorchFile, root: Module) -> tuple[Program, str]:
    """The program that a Sequential is, and a note: written once to see what its input looks like, then with that.

    Raises:
        UnsupportedLayerError: it is none, or has a module that is not torch's own.
    """
    if root.kind != _SEQUENTIAL:
        raise UnsupportedLayerError(f"what {printable(root.name, 60)} computes is in its own code")
    writer, outputs = _written(file, root, None, "float32")
    if outputs == [INPUT]:
        raise UnsupportedLayerError("it has no layer that computes anything")
    held = {f"array:{name}": array.shape for name, array in file.arrays.items()}
    likely, dtype = input_shape(writer.nodes, INPUT.name, held)
    (writer, outputs), said = settled_program(lambda tried: _written(file, root, tried, dtype), likely)
    return writer.program(outputs, root.kind), said


def _written(file: TorchFile, root: Module, shape: Shape | None, dtype: str) -> Written:
    writer = ProgramWriter(file.arrays, {INPUT.name: shape}, {INPUT.name: dtype}, calls_at_most(file.size))
    value = INPUT
    work: list[tuple[Module, tuple[Frame, ...]]] = [(root, ())]
    while work:
        module, above = work.pop()
        if module.hooked:
            raise UnsupportedLayerError(f"functions are hung on '{printable(module.path or ROOT, 60)}', or its forward")
        stack = (*above, Frame(f"{module.path}@{len(writer.nodes)}", module.path, module.kind)) if module.path else ()
        if module.kind == _SEQUENTIAL:
            work.extend((child, stack) for child in reversed(module.children.values()))
            continue
        if is_recurrent(module):
            if work:
                raise UnsupportedLayerError(f"nn.{module.name} gives a tuple, which no module behind it takes")
            return writer, _recurrent(module, value, writer, stack)
        known = writer.shape(value)
        for target, arguments in calls_of(module, len(known) - 2 if known is not None else 2):
            made = writer.call(target, map_values(arguments, _placed(module, value, writer)), stack)
            value = made[0] if isinstance(made, list) else made
    return writer, [value]


def _recurrent(module: Module, value: Value, writer: ProgramWriter, stack: tuple[Frame, ...]) -> list[Value]:
    """Write a recurrent module, from states of zero: its outputs, and its last states."""
    operator, arguments, (runs, units), states = recurrent_call(module)
    size = [runs, Size(((BATCH, 1),)), units]
    zeros = [writer.call("aten.zeros.default", {"size": size}, stack) for _ in range(states)]
    params = [writer.array(f"{module.path}.{name}") for name in arguments["params"]]
    given = {"input": value, "hx": zeros if states > 1 else zeros[0], **arguments, "params": params}
    made = writer.call(f"aten.{operator}.input", given, stack)
    return made if isinstance(made, list) else [made]


def _placed(module: Module, value: Value, writer: ProgramWriter) -> Any:
    prefix = f"{module.path}." if module.path else ""

    def place(part: Any) -> Any:
        if part == INPUT:
            return value
        return writer.array(prefix + part.name.partition(":")[2]) if isinstance(part, Value) else part

    return place


# -- modules alone ----------------------------------------------------------------------------------------------------


def module_layers(root: Module, file: TorchFile, call_of: Callable[[Module], Call | None]) -> list[Layer]:
    """List every module as a layer; one with modules in it behind these, as a container where it holds nothing else.

    Args:
        root: The modules.
        file: Where they are from, with its arrays.
        call_of: Gives the operator that a module calls with its arrays, these as ``array:NAME``.
    """
    return [_layer(module, file, call_of(module)) for module in root.modules() if module.path or module.arrays]


def _layer(module: Module, file: TorchFile, call: Call | None) -> Layer:
    prefix = f"{module.path}." if module.path else ""
    arrays = {name: file.arrays[prefix + name] for name in module.arrays if prefix + name in file.arrays}
    entry = dict[str, Any]()
    guess = guess_kind(module.name, {name: array.shape for name, array in arrays.items()}, Neighbours())
    kinds, geometry = dict(guess.roles), guess.geometry
    if call is not None:
        node = Node(module.path, call[0], call[1], (), ())
        names = {f"array:{name}": name for name in module.arrays}
        entry = entry_of(node, names, "", frozenset(), lambda tensors: None).data
        config = settings(entry["arguments"])
        kinds |= argument_kinds(node.op, entry["arguments"])
        geometry = geometry_of_entry(entry["arguments"], None)
    else:
        config = plain_attributes(module.record.attributes)
        if isinstance(config.get("groups"), int) and config["groups"] > 0:
            geometry = Geometry(groups=config["groups"])
    stored = {
        name: torch_weight(name, [kinds[name]] if name in kinds else [], array, geometry, config)
        for name, array in arrays.items()
    }
    return Layer(
        module.path or ROOT, module.name, config, module.kind, entry, container=bool(module.children) and not arrays,
        path=tuple(module.path.split(".")) if module.path else (), stored=stored,
    )  # fmt: skip


def main_call(module: Module) -> Call | None:
    """Give the one operator that a module of torch's own calls with its arrays; None where that is not known."""
    if not is_stock(module) or module.children:
        return None
    try:
        calls = calls_of(module)
    except CnnlensError:
        return None
    return calls[-1] if calls else None
