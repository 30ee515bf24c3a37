"""Which mapping in a PyTorch file is the model's state dict, and what its names look like without wrappers.

Training scripts save more than a model: optimizers, schedulers, averaged copies, the model below a name of their own
and with the prefixes of what it was wrapped in. Which mapping was taken, and what was left out, is said in notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.limits import LIMITS, remarks
from cnnlens.files.torch.archive import Contents
from cnnlens.files.torch.pickle_values import EXPORT, InlineArray, Opaque, TensorRef
from cnnlens.files.torch.state_file import TorchFile, check_name, shown_names
from cnnlens.files.torch.storages import array_of, check_arrays
from cnnlens.text import printable

__all__ = ["bare_names", "left_out_notes", "state_file"]

_TENSORS = (TensorRef, Opaque, InlineArray)

# Between mappings of equally many tensors, the one with the name of a model's own; averages come last.
_PREFERRED = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params", "module")
_AVERAGED = ("ema", "averaged", "swa", "shadow")
_OPTIMIZER = ("optimizer", "optim", "scheduler", "scaler")

_WRAPPERS = {
    "module.": "DataParallel or DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "model.": "a LightningModule or the like",
}
"""Prefixes that all names share because the model was wrapped when it was saved."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A mapping that holds tensors: the keys that lead to it, and how many it holds."""

    path: tuple[str, ...]
    mapping: Mapping[Any, Any]
    tensors: int

    @property
    def shown(self) -> str:
        return ".".join(printable(key, 40) for key in self.path)


def state_file(path: Path, contents: Contents, data: memoryview) -> TorchFile:
    """Find the state dict in what ``torch.save`` wrote.

    Raises:
        FileRefusedError: There is none, or its tensors claim what the file has not.
    """
    notes = list(contents.notes)
    found, optimizers = _mappings(contents.root)
    if not found:
        raise FileRefusedError(path, "", f"no state dict in it: {_what(contents.root)}", EXPORT)
    best = max(found, key=lambda each: (each.tensors, _preference(each.path)))
    if best.path:
        notes.append(f"the state dict is the entry '{best.shown}' of the file")
    others = [f"'{each.shown or 'the file itself'}' ({each.tensors} tensors)" for each in found if each is not best]
    if others:
        notes.append(f"the file has other mappings of tensors, not shown: {shown_names(others)}")
    if optimizers:
        notes.append(f"an optimizer's state is left out: {shown_names(optimizers)}")
    arrays: dict[str, StoredArray] = {}
    left_out: dict[str, str] = {}
    other: list[str] = []
    for key, value in best.mapping.items():
        if not isinstance(key, str) or not isinstance(value, _TENSORS):
            other.append(str(key) if isinstance(key, (str, int)) else type(key).__name__)
            continue
        check_name(path, key)
        array = array_of(path, key, value, contents.find)
        if isinstance(array, str):
            left_out[key] = array
        else:
            arrays[key] = array
    check_arrays(path, arrays, len(data))
    if other and not best.path:
        other = [name for name in other if name not in {each.path[0] for each in found if each.path}]
    if other:
        notes.append(f"entries of the state dict that are no tensors: {shown_names(other)}")
    arrays, wrappers = bare_names(arrays)
    notes += [*wrappers, *left_out_notes(left_out)]
    return TorchFile(path, contents.format, arrays, left_out, notes, [("", data)], contents.verify)


def _mappings(root: Any) -> tuple[list[_Found], list[str]]:
    """Every mapping with tensors, outermost first, and the paths of optimizers' states.

    Each mapping is looked at once, however many names lead to it.
    """
    found: list[_Found] = []
    optimizers: list[str] = []
    seen: set[int] = set()
    level: list[tuple[tuple[str, ...], Any]] = [((), root)]
    for _ in range(LIMITS.mapping_depth):
        below: list[tuple[tuple[str, ...], Any]] = []
        for path, value in level:
            if not isinstance(value, dict) or id(cast(object, value)) in seen:
                continue
            mapping = cast("dict[Any, Any]", value)
            seen.add(id(mapping))
            if path and _is_optimizer(path[-1], mapping):
                optimizers.append(".".join(path))
                continue
            tensors = sum(isinstance(key, str) and isinstance(each, _TENSORS) for key, each in mapping.items())
            if tensors:
                found.append(_Found(path, mapping, tensors))
            below += [((*path, key), each) for key, each in mapping.items() if isinstance(key, str)]
        level = below
    return found, optimizers


def _is_optimizer(key: str, mapping: Mapping[Any, Any]) -> bool:
    return "param_groups" in mapping or any(word in key.lower() for word in _OPTIMIZER)


def _preference(path: tuple[str, ...]) -> int:
    """How likely the last key is a model's own among mappings of one size."""
    name = path[-1].lower() if path else ""
    if any(word in name for word in _AVERAGED):
        return -1
    return len(_PREFERRED) - _PREFERRED.index(name) if name in _PREFERRED else 0


def _what(root: Any) -> str:
    if isinstance(root, dict):
        keys = [str(key) for key in cast("dict[Any, Any]", root) if isinstance(key, (str, int))]
        return f"a mapping without tensors ({shown_names(keys)})" if keys else "an empty mapping"
    if isinstance(root, (list, tuple)):
        return f"a {type(cast(object, root)).__name__} of {len(cast('list[Any]', root))} objects"
    return "a tensor without a name" if isinstance(root, _TENSORS) else f"a {printable(type(root).__name__)}"


def bare_names(arrays: Mapping[str, StoredArray]) -> tuple[dict[str, StoredArray], list[str]]:
    """Take wrappers' prefixes off the arrays' names, with a note for each prefix that was taken off."""
    bare, notes = dict(arrays), list[str]()
    stripped = True
    while stripped and bare:
        stripped = False
        for prefix, wrapper in _WRAPPERS.items():
            if all(name.startswith(prefix) and len(name) > len(prefix) for name in bare):
                bare = {name[len(prefix) :]: array for name, array in bare.items()}
                notes.append(f"all names begin with '{prefix}' ({wrapper}), which is left out")
                stripped = True
    return bare, notes


def left_out_notes(left_out: Mapping[str, str]) -> list[str]:
    """Write a note for each reason why tensors are not shown."""
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        reasons.setdefault(reason, []).append(name)
    return [*remarks(f"not shown, since {reason}: {shown_names(names)}" for reason, names in reasons.items())]
