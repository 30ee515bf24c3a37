"""A live ``torch.nn.Module`` as a Network: its graph by ``torch.export``, its arrays its own.

What is exported is written as a ``.pt2`` archive in memory, without the weights, and read by the reader that reads
files; each array is the module's parameter or buffer of that name, taken when it is asked for. So a live module looks
like its file in every view, and shows what training changed.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import logging
import math
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from cnnlens.errors import CnnlensError
from cnnlens.files.torch.program import Program
from cnnlens.files.torch.program_archive import read_graph
from cnnlens.files.torch.program_inplace import straightened
from cnnlens.files.torch.program_network import torch_network
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["export", "network_from_live", "plain"]

_BATCH = 2  # export takes a first axis of one entry for a constant


class LiveTensor:
    """A parameter or buffer of a live module; see ``network.weight.Stored``. ``read`` copies its value of that moment.

    ``find`` gives the tensor, which ``module.load_state_dict(..., assign=True)`` may replace.
    """

    def __init__(self, place: str, find: Callable[[], torch.Tensor]) -> None:
        self._find = find
        self.place = place
        self.shape = tuple(find().shape)
        self.stored_dtype = str(find().dtype).removeprefix("torch.")

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("float32" if self.stored_dtype == "bfloat16" else self.stored_dtype)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Any:
        tensor = self._find().detach()
        wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        array = np.array(wide.cpu().numpy(), copy=True)
        array.flags.writeable = False
        return array


class LiveSource:
    """Stands where a file stands; see ``cnnlens.network.graph.Source``."""

    format = "live model"
    framework = "torch"
    keras_version = None

    def __init__(self, module: torch.nn.Module, program: Program, arrays: Mapping[str, LiveTensor]) -> None:
        self.path = Path(type(module).__name__)
        self.torch_version = str(torch.__version__)
        self._program = program
        self._arrays = arrays

    @property
    def size(self) -> int:
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def sha256(self) -> str:
        """Of graph and arrays, for there is no file: it changes when the module is trained on."""
        digest = hashlib.sha256(repr((self._program.nodes, self._program.inputs, self._program.outputs)).encode())
        for name, array in self._arrays.items():
            digest.update(f"{name}{array.stored_dtype}{array.shape}".encode())
            digest.update(array.read().tobytes())
        return digest.hexdigest()


def network_from_live(module: Any, example: Any = None) -> Network:
    """Turn a live ``torch.nn.Module`` into a Network; its arrays are read, as they then are, when asked for.

    Args:
        module: The module, on any device, in training or not: it is exported as it computes in evaluation.
        example: What it is called with: an array or tensor ``(N, C, *spatial)``, a tuple of them, or a mapping by
            argument name; its numbers do not matter. None takes the module's ``example_input_array``.

    Raises:
        CnnlensError: it is no module, there is no example, or ``torch.export`` cannot follow it; one line.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise CnnlensError(
            "a torch.nn.Module was expected, a TorchScript module came; give the module it was made from"
        )
    if not isinstance(module, torch.nn.Module):
        kind = f"{type(module).__module__}.{type(module).__name__}"
        raise CnnlensError(f"a torch.nn.Module was expected, a {printable(kind)} came")
    program = export(module, example)
    parsed = _read(module, program)
    if _writes_through_views(parsed):
        program = _without_writes(program)
        parsed = _read(module, program)
    arrays = _arrays(module, program, parsed)
    return torch_network(parsed, arrays, LiveSource(module, parsed, arrays), type(module).__name__)


def plain(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Rid ``program`` of writes through views where it has any: PyTorch can put plain operators in their place."""
    parsed = _read(program.module(), program)
    return _without_writes(program) if _writes_through_views(parsed) else program


def _without_writes(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    with _quietly():
        return program.run_decompositions({})


def _writes_through_views(program: Program) -> bool:
    refused = {node.name for node in program.nodes if node.refused}
    return any(node.refused and node.name not in refused for node in straightened(program).nodes)


def export(module: torch.nn.Module, example: Any = None) -> torch.export.ExportedProgram:
    """Export a module in evaluation, with a batch of any size where it can; the module stays as it was.

    Raises:
        CnnlensError: there is no example, or ``torch.export`` cannot follow the module.
    """
    name = printable(type(module).__name__, 60)
    args, kwargs = _example(module, example)
    with _evaluating(module), torch.no_grad(), _quietly():
        try:
            grown, named = tuple(_each(one, _grown) for one in args), {k: _each(v, _grown) for k, v in kwargs.items()}
            shapes = _dynamic(module, grown, named)
            if shapes is not None:
                try:
                    return torch.export.export(module, grown, named, dynamic_shapes=shapes, strict=False)
                except Exception:
                    pass  # the batch size may be fixed in the code; then the example's own is exported
            return torch.export.export(module, tuple(args), dict(kwargs), strict=False)
        except Exception as error:
            raise CnnlensError(
                f"the module {name} cannot be exported ({_first_line(error)}); give inputs of the shape that it takes, "
                "and take out control flow that depends on the numbers, which torch.export does not follow; or open "
                "its state dict, which has no graph"
            ) from error


def _dynamic(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The dynamic shapes of a call: the first axis of every tensor, of whatever size torch finds possible."""

    def axes(tensor: torch.Tensor) -> Any:
        return {0: torch.export.Dim.DYNAMIC} if tensor.ndim else None

    parts = [_each(one, axes, lambda _: None) for one in args]
    if not kwargs:
        return tuple(parts)
    names = _parameters(module)
    if len(names) < len(args):
        return None
    by_name = {name: _each(value, axes, lambda _: None) for name, value in kwargs.items()}
    return {**dict(zip(names, parts, strict=False)), **by_name}


def _parameters(module: torch.nn.Module) -> list[str]:
    """The names of what ``forward`` takes; empty where it takes anything."""
    found = inspect.signature(module.forward).parameters.values()
    loose = any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in found)
    return [] if loose else [one.name for one in found]


def _each(value: Any, change: Callable[[torch.Tensor], Any], other: Callable[[Any], Any] = lambda one: one) -> Any:
    """``value`` with ``change(tensor)`` for every tensor in nested lists, tuples and mappings, and ``other``."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each(one, change, other) for key, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        parts = [_each(one, change, other) for one in cast("Sequence[Any]", value)]
        return parts if isinstance(value, list) else tuple(parts)
    return other(value)


def _grown(tensor: torch.Tensor) -> torch.Tensor:
    """With at least ``_BATCH`` entries along its first axis; a tensor of its own, for export marks what it is given."""
    alone = tensor.ndim > 0 and tensor.shape[0] == 1
    return torch.cat([tensor] * _BATCH) if alone else tensor.clone()


def _example(module: torch.nn.Module, example: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call, in order and by name, as tensors where the module is."""
    if example is None:
        example = getattr(module, "example_input_array", None)
    if example is None:
        name = printable(type(module).__name__, 60)
        raise CnnlensError(
            f"the module {name} says nothing of its input: give an example, as in cnnlens.open(module, example=x) with "
            "x of shape (N, C, H, W)"
        )
    held = next(iter([*module.parameters(), *module.buffers()]), None)

    def placed(tensor: torch.Tensor) -> torch.Tensor:
        if held is None:
            return tensor.detach().float() if tensor.dtype == torch.float64 else tensor.detach()
        # Examples come as NumPy makes them, in float64 and on the host.
        kind = held.dtype if tensor.is_floating_point() and held.is_floating_point() else tensor.dtype
        return tensor.detach().to(held.device, kind)

    def made(value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        try:
            return placed(torch.as_tensor(np.asarray(value)))
        except (TypeError, ValueError, RuntimeError):
            kind = printable(type(value).__name__, 60)
            raise CnnlensError(f"example: arrays or tensors were expected, a {kind} came") from None

    if isinstance(example, Mapping):
        by_name = cast("Mapping[Any, Any]", _each(example, placed, made))
        known = set(_parameters(module))
        return ([], dict(by_name)) if set(by_name) <= known else ([by_name], {})
    if isinstance(example, (tuple, list)) and all(getattr(one, "shape", None) != () for one in cast("Any", example)):
        sequence = cast("Sequence[Any]", example)
        if isinstance(example, tuple) or any(hasattr(one, "shape") for one in sequence):
            return [_each(one, placed, made) for one in sequence], {}
    return [_each(example, placed, made) if isinstance(example, torch.Tensor) else made(example)], {}


@contextmanager
def _evaluating(module: torch.nn.Module) -> Generator[None]:
    """The module in evaluation, and afterwards every submodule as it was."""
    training = [(one, one.training) for one in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for one, was in training:
            one.training = was


@contextmanager
def _quietly() -> Generator[None]:
    """Without torch's prints, warnings and log lines: what an attempt at exporting says is said in one line here."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def _read(module: torch.nn.Module, program: torch.export.ExportedProgram) -> Program:
    """The program as our reader reads it from a file; the weights are no part of what is written."""
    placeholders = {name: _weightless(one) for name, one in program.state_dict.items()}
    kept = dict(program.state_dict)
    buffer = io.BytesIO()
    try:
        program.state_dict.update(placeholders)
        with _quietly():
            torch.export.save(program, buffer)
    except Exception as error:
        name = printable(type(module).__name__, 60)
        raise CnnlensError(
            f"the module {name} was exported and cannot be written down ({_first_line(error)}); "
            "it holds what torch.export.save does not know"
        ) from error
    finally:
        program.state_dict.update(kept)
    return read_graph(Path(type(module).__name__), memoryview(buffer.getvalue()))


def _weightless(tensor: torch.Tensor) -> torch.Tensor:
    """Of the same shape and type, with one number in memory."""
    small = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    return torch.nn.Parameter(small, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else small


def _arrays(module: torch.nn.Module, program: torch.export.ExportedProgram, parsed: Program) -> dict[str, LiveTensor]:
    """Every parameter, buffer and constant, by name; those of the module are looked up in it when they are read."""
    own = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }

    def finder(name: str) -> Callable[[], torch.Tensor]:
        owner, _, attribute = name.rpartition(".")
        return lambda: cast("torch.Tensor", getattr(module.get_submodule(owner), attribute))

    constants = {name: one for name, one in program.constants.items() if isinstance(one, torch.Tensor)}
    names = dict.fromkeys((*program.state_dict, *parsed.weights.values()))
    found: dict[str, LiveTensor] = {}
    for name in names:
        if name in own:
            found[name] = LiveTensor(name, finder(name))
        elif name in constants:
            found[name] = LiveTensor(name, lambda value=constants[name]: value)
        elif name in program.state_dict:
            found[name] = LiveTensor(name, lambda value=program.state_dict[name]: cast("torch.Tensor", value))
    return found


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0] if lines else type(error).__name__, 200)
