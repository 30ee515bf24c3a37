"""A pickled module without its class: which modules are in it, of which class, with which arrays.

PyTorch pickles a module as its attributes, its parameters, buffers and submodules among them by name. So the tree is
there to be read, whoever wrote the classes; what a module computes is in its class, which is looked for nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import FileRefusedError
from cnnlens.files.limits import LIMITS, items_at_most
from cnnlens.files.torch.pickle_values import Record, is_plain
from cnnlens.files.torch.storages import check_name
from cnnlens.files.torch.stored_forms import TENSORS, packed_arrays
from cnnlens.text import printable

__all__ = ["Module", "Trees", "plain_attributes", "unwrapped"]

SCRIPTED = "__torch__."
"""Where TorchScript keeps the classes of a program, under the names that they had in Python."""

_WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_QUANTISED_CONVOLUTION = (
    "in_channels out_channels kernel_size stride padding dilation transposed output_padding groups padding_mode weight "
    "bias scale zero_point training"
).split()
"""What torch.ao.nn.quantized's convolutions write of themselves, in one tuple (``__getstate__``)."""
_PACKED = ("_packed_params", "_packed_weight", "param")
_MOST_SETTINGS = 50
_AGAIN = "save the model again"


@dataclass
class Module:
    """Holds one module.

    Attributes:
        path: Its name in the whole model, such as ``layer1.0``; empty for that itself.
        kind: Its class by its dotted name.
        record: What the file has of it.
        arrays: Its own tensors by name: parameters, then buffers.
        children: Its submodules by name.
    """

    path: str
    kind: str
    record: Record
    arrays: dict[str, Any] = field(default_factory=dict[str, Any])
    children: dict[str, Module] = field(default_factory=lambda: dict[str, Module]())

    @property
    def name(self) -> str:
        """Give its class without the module that it is in."""
        return self.kind.rpartition(".")[2]

    @property
    def hooked(self) -> bool:
        """Whether functions are hung on it that run before or after it, or its ``forward`` is an attribute."""
        return "forward" in self.record.attributes or any(self.record.attributes.get(name) for name in _HOOKS)

    def modules(self) -> Iterator[Module]:
        """List the modules in it and then itself, in the order of the state dict."""
        work: list[tuple[Module, Iterator[Module]]] = [(self, iter(self.children.values()))]
        while work:
            inner = next(work[-1][1], None)
            if inner is None:
                yield work.pop()[0]
            else:
                work.append((inner, iter(inner.children.values())))

    def tensors(self) -> dict[str, Any]:
        """Give all arrays by their full names, as a state dict has them."""
        found: dict[str, Any] = {}
        work: list[Module] = [self]
        while work:
            module = work.pop()
            prefix = f"{module.path}." if module.path else ""
            found.update((prefix + name, tensor) for name, tensor in module.arrays.items())
            work.extend(reversed(module.children.values()))
        return found


class Trees:
    """Reads the trees of modules in one file, of which there may be several.

    Args:
        path: The file.
        stored: Its size in bytes, which bounds how many modules there may be.
    """

    def __init__(self, path: Path, stored: int) -> None:
        self._path = path
        self._most = items_at_most(stored)
        self._left = 4 * self._most

    def tree(self, record: Record) -> Module | None:
        """Read the module that an object is; None where it is none.

        Raises:
            FileRefusedError: it contains itself, or more modules than a file of its size has.
        """
        if not _is_module(record):
            return None
        root = Module("", _kind(record), record)
        count = held = 0
        work: list[tuple[Module, tuple[int, ...]]] = [(root, ())]
        while work:
            module, above = work.pop()
            if id(module.record) in above or len(above) >= LIMITS.tensor_name_parts:
                reason = "a module that contains itself" if id(module.record) in above else "modules nested too deep"
                raise FileRefusedError(self._path, module.path[:200], reason, _AGAIN)
            arrays, children = _parts(module.record)
            prefix = f"{module.path}." if module.path else ""
            for name, value in arrays.items():
                check_name(self._path, prefix + name)
                module.arrays[name] = value
            for name, value in children.items():
                check_name(self._path, prefix + name)
                module.children[name] = Module(prefix + name, _kind(value), value)
            count += 1
            held += len(module.arrays)
            self._left -= 1 + len(module.arrays)
            if max(count, held) > self._most or self._left < 0:
                reason = f"more than {self._most:,} modules or arrays, which no file of its size has"
                raise FileRefusedError(self._path, module.path[:200], reason, _AGAIN)
            below = (*above, id(module.record))
            work.extend((child, below) for child in reversed(module.children.values()))
        return root


def _is_module(record: Record) -> bool:
    state = cast("tuple[Any, ...]", record.state if isinstance(record.state, tuple) else ())
    if ".quantized." in record.kind and len(state) == len(_QUANTISED_CONVOLUTION) and isinstance(state[10], TENSORS):
        own = dict(zip(_QUANTISED_CONVOLUTION, state, strict=True))
        parameters = {name: own[name] for name in ("weight", "bias")}
        record.state = own if record.kind.startswith(SCRIPTED) else own | {"_parameters": parameters, "_modules": {}}
    if record.kind.startswith(SCRIPTED):
        return isinstance(record.state, dict)
    return all(isinstance(record.attributes.get(name), dict) for name in ("_modules", "_parameters"))


def _kind(record: Record) -> str:
    """The class as Python calls it: TorchScript numbers the classes of one name (``___torch_mangle_0``)."""
    parts = record.kind.removeprefix(SCRIPTED).split(".")
    return ".".join(part for part in parts if not part.startswith("___torch_mangle_"))


def _parts(record: Record) -> tuple[dict[str, Any], dict[str, Record]]:
    """A module's own tensors and its submodules."""
    own = record.attributes
    if record.kind.startswith(SCRIPTED):
        candidates = children = [own]
    else:
        candidates = [own.get(name) for name in ("_parameters", "_buffers")]
        children = [own["_modules"]]
    arrays = {name: value for name, value in _entries(candidates) if isinstance(value, TENSORS)}
    modules = {name: value for name, value in _entries(children) if isinstance(value, Record) and _is_module(value)}
    inner = modules.get("_packed_params")
    for holder in (own, inner.attributes if inner is not None else dict[Any, Any]()):
        for name in _PACKED:
            packed = packed_arrays(holder.get(name))
            arrays |= packed
            if packed and holder is not own:  # a module of its own that only holds them
                modules.pop("_packed_params", None)
    return arrays, modules


def _entries(mappings: list[Any]) -> Iterator[tuple[str, Any]]:
    for mapping in mappings:
        if isinstance(mapping, dict):
            yield from ((key, each) for key, each in cast("dict[Any, Any]", mapping).items() if isinstance(key, str))


def unwrapped(module: Module) -> tuple[Module, list[str]]:
    """Take off what only carries a model to several devices or through the compiler, with a note for each."""
    notes: list[str] = []
    while (inside := module.children.get(_WRAPPERS.get(module.kind, ""))) is not None and not module.arrays:
        notes.append(f"the module is in a {module.name}, which is left out")
        cut = f"{inside.path}."
        for each in inside.modules():
            each.path = (each.path + ".").removeprefix(cut).removesuffix(".")
        module = inside
    return module, notes


def plain_attributes(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Pick the settings among attributes or entries: named numbers, short texts, and tuples and lists of them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(name, str) or name.startswith("_") or len(found) >= _MOST_SETTINGS or len(name) > 80:
            continue
        if isinstance(value, (tuple, list)):
            items = cast("list[Any]", value)
            if len(items) <= 10 and all(is_plain(item) for item in items):
                found[name] = [_short(item) for item in items]
        elif is_plain(value):
            found[name] = _short(value)
    return found


def _short(value: Any) -> Any:
    return printable(value, 100) if isinstance(value, (str, bytes)) else value
