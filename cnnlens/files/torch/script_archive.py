"""A TorchScript archive as a Network, read without torch: its arrays and modules, and its graph where the code says it.

``torch.jit.save`` writes a pickle of the model's attributes, its tensors, and the code of its modules as text. Nothing
of that is executed: the pickle is read as every other, the code is followed by :mod:`.script_program`. Where it cannot
be followed, the modules stand alone, and a note says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

from cnnlens.errors import CnnlensError, FileRefusedError, UnsupportedLayerError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.container import Archive
from cnnlens.files.limits import LIMITS, calls_at_most, human_bytes
from cnnlens.files.torch.archive import Contents
from cnnlens.files.torch.module_calls import Call, is_stock
from cnnlens.files.torch.module_network import in_training, main_call, module_layers, settled_program
from cnnlens.files.torch.module_tree import Module
from cnnlens.files.torch.pickle import load_pickle
from cnnlens.files.torch.pickle_values import TensorRef
from cnnlens.files.torch.program import Program, Value
from cnnlens.files.torch.program_network import torch_network
from cnnlens.files.torch.program_writer import ProgramWriter, input_shape
from cnnlens.files.torch.script_language import Code, Reading, UnreadableCodeError
from cnnlens.files.torch.script_program import Script, followed, forward_inputs
from cnnlens.files.torch.state_file import TorchFile
from cnnlens.files.torch.stored_forms import TENSORS, array_of
from cnnlens.files.torch.weights import unused_layers
from cnnlens.network.graph import Shape
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["script_network"]

_NO_GRAPH = (
    "the graph cannot be read from the archive's code ({}): nothing can be run; for the graph save a .pt2 with "
    "torch.export.save"
)
_LIKELY_AXES = (4, 3, 5, 2)
"""How many axes an input may have that nothing describes, the likeliest first."""


def script_network(file: TorchFile, members: Archive, contents: Contents) -> Network:
    """Make the network of a TorchScript archive.

    Args:
        file: What was found in it.
        members: Its members.
        contents: Its pickle, read.

    Raises:
        FileRefusedError: a pickle or an array in it is damaged or hostile.
    """
    assert file.tree is not None
    script = _Reader(file, members, contents).script()
    arrays = {**file.arrays, **_constants(file, members, contents)}
    try:
        program, said = _program(script, arrays, _traced(file, members, contents), file)
        notes = [*file.notes, *in_training(file.tree), *said]
        return torch_network(program, arrays, file, file.path.stem, notes)
    except (UnsupportedLayerError, UnreadableCodeError) as error:
        reason = printable(error, 200)
    except RecursionError:
        reason = "it is nested deeper than is followed"
    layers = module_layers(file.tree, file, lambda module: _leaf_call(script, module, file.arrays))
    # A frozen module keeps its arrays as constants of the code, which belong to no module any more.
    layers += unused_layers({name: array for name, array in arrays.items() if name not in file.arrays}, layers)
    notes = (*file.notes, _NO_GRAPH.format(reason))
    return Network(file.path.stem, file.tree.name, file, tuple(layers), notes=notes)


# -- what is in the archive -------------------------------------------------------------------------------------------


class _Reader:
    """The archive's code, a file of it at a time."""

    def __init__(self, file: TorchFile, members: Archive, contents: Contents) -> None:
        self._file = file
        self._members = members
        self._folder = f"{contents.folder}code/"
        self._names = [name for name in members if name.startswith(self._folder) and name.endswith(".py")]

    def script(self) -> Script:
        assert self._file.tree is not None
        size = sum(self._members.size(name) for name in self._names)
        if size > LIMITS.script_bytes:
            # Not unpacked, even: nothing of it is looked at.
            return Script(self._file.tree, lambda place: _too_long(size))
        reading = Reading(LIMITS.script_tokens)

        @cache
        def code(place: str) -> Code | None:
            name = f"{self._folder}{place.replace('.', '/')}.py"
            if name not in self._members:
                return None
            return Code(str(self._members[name].data, "utf-8", "replace"), reading)

        for module in self._file.tree.modules():
            # A scripted module keeps some of its attributes as constants of its class.
            place, _, own = module.record.kind.rpartition(".")
            found = code(place)
            if found is not None and is_stock(module):
                module.record.state = {**found.settings(own), **module.record.attributes}
        return Script(self._file.tree, code)


def _too_long(size: int) -> Code:
    raise UnreadableCodeError(f"code of {human_bytes(size)}, {human_bytes(LIMITS.script_bytes)} at most")


def _pickled(file: TorchFile, members: Archive, name: str) -> Any:
    return load_pickle(file.path, name, members[name].data)[0] if name in members else None


def _constants(file: TorchFile, members: Archive, contents: Contents) -> dict[str, StoredArray]:
    """The tensors that the code names as ``CONSTANTS.c0`` and so on."""
    found: dict[str, StoredArray] = {}
    values = _pickled(file, members, f"{contents.folder}constants.pkl")
    for index, value in enumerate(cast("list[Any]", values) if isinstance(values, (list, tuple)) else ()):
        if isinstance(value, TENSORS):
            name = f"CONSTANTS.c{index}"
            assert contents.find_in is not None
            array = array_of(file.path, name, value, contents.find_in("constants/"))
            if isinstance(array, StoredArray):
                found[name] = array
    return found


def _traced(file: TorchFile, members: Archive, contents: Contents) -> list[tuple[Shape, str]]:
    """The shapes and types of the inputs that a module was traced with, where the archive keeps them."""
    try:
        kept = _pickled(file, members, f"{contents.folder}traced_inputs.pkl")
    except FileRefusedError:
        return []
    parts: list[Any] = []
    for value in cast("dict[str, Any]", kept).values() if isinstance(kept, dict) else ():
        parts += cast("list[Any]", value) if isinstance(value, (list, tuple)) else [value]
    tensors = [part for part in parts if isinstance(part, TensorRef)]
    if len(tensors) != len(parts) or any(not one.shape for one in tensors):
        return []
    return [((None, *one.shape[1:]), one.dtype) for one in tensors]


# -- its graph --------------------------------------------------------------------------------------------------------


def _program(
    script: Script, arrays: Mapping[str, StoredArray], traced: list[tuple[Shape, str]], file: TorchFile
) -> tuple[Program, list[str]]:
    """The program of the whole model, and notes on its inputs.

    Raises:
        UnsupportedLayerError, UnreadableCodeError: its code cannot be followed.
    """
    names = forward_inputs(script)

    def write(shapes: Mapping[str, Shape | None], dtypes: Mapping[str, str]) -> tuple[ProgramWriter, list[Value]]:
        writer = ProgramWriter(arrays, shapes, dtypes, calls_at_most(file.size))
        return writer, followed(script, script.root, writer, [Value(name) for name in names])

    if len(traced) == len(names):
        shapes = {name: shape for name, (shape, _) in zip(names, traced, strict=True)}
        writer, made = write(shapes, {name: dtype for name, (_, dtype) in zip(names, traced, strict=True)})
        return writer.program(made, script.root.kind), ["its inputs are those that it was traced with"]
    if len(names) != 1:
        raise UnsupportedLayerError(f"it takes {len(names)} inputs, whose shapes the file does not say")
    name = names[0]
    writer = _first(name, write)
    held = {f"array:{each}": array.shape for each, array in arrays.items()}
    likely, dtype = input_shape(writer.nodes, name, held)
    (writer, made), said = settled_program(lambda shape: write({name: shape}, {name: dtype}), likely)
    return writer.program(made, script.root.kind), [said]


def _first(name: str, write: Callable[..., tuple[ProgramWriter, list[Value]]]) -> ProgramWriter:
    """The program for an input of the first number of axes that its code takes."""
    refused: CnnlensError | None = None
    for axes in _LIKELY_AXES:
        try:
            return write({name: (None,) * axes}, {})[0]
        except UnsupportedLayerError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _leaf_call(script: Script, module: Module, arrays: Mapping[str, StoredArray]) -> Call | None:
    """The one operator that a module calls with its arrays: from its attributes, or from its own code."""
    call = main_call(module)
    if call is not None or module.children or not module.arrays:
        return call
    writer = ProgramWriter(arrays, {"input": None}, {}, 100)
    try:
        followed(script, module, writer, [Value("input")])
    except (CnnlensError, UnreadableCodeError, RecursionError):
        return None
    prefix = f"array:{module.path}." if module.path else "array:"
    for node in writer.nodes:
        own = {
            name: Value("array:" + value.name[len(prefix) :])
            if isinstance(value, Value) and value.name.startswith(prefix)
            else value
            for name, value in node.arguments.items()
        }
        if own != node.arguments:
            return node.target, own
    return None
