"""Which mapping or module in a PyTorch file is the model, and what its names look like without wrappers.

Training scripts save more than a model: optimizers, schedulers, averaged copies, the model below a name of their own
and with the prefixes of what it was wrapped in. Which was taken, and what was left out, is said in notes; a person can
name another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.limits import LIMITS, remarks
from cnnlens.files.torch.archive import Contents
from cnnlens.files.torch.module_tree import Module, Trees, plain_attributes, unwrapped
from cnnlens.files.torch.pickle_values import EXPORT, InlineArray, QuantisedRef, Record, SparseRef, TensorRef
from cnnlens.files.torch.state_file import TorchFile, form_notes, shown_names
from cnnlens.files.torch.storages import check_arrays, check_name
from cnnlens.files.torch.stored_forms import TENSORS, array_of, unpacked
from cnnlens.network.graph import Extra
from cnnlens.text import printable

__all__ = ["WHOLE", "bare_names", "left_out_notes", "state_file"]

WHOLE = "(root)"
"""How a person names the set of weights that is the file itself, and not an entry of it."""

# Between mappings of equally many tensors, the one with the name of a model's own; averages come last.
_PREFERRED = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params", "module")
_AVERAGED = ("ema", "averaged", "swa", "shadow")
_OPTIMIZER = ("optimizer", "optim", "scheduler", "scaler")
_LOOPS = ("loops", "callbacks", "optimizer_states", "lr_schedulers")
"""What a checkpoint of Lightning has of its training beside ``state_dict``, by its top entries."""

_SAID = 12
"""Settings of the training that a note names."""
_SETTINGS = ("lr", "momentum", "betas", "weight_decay", "initial_lr")
"""Settings of an optimizer's first group that are said."""

_WRAPPERS = {
    "module.": "DataParallel or DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "model.": "a LightningModule or the like",
}
"""Prefixes that all names share because the model was wrapped when it was saved."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A mapping or a module that holds tensors: the keys that lead to it, and how many it holds."""

    path: tuple[str, ...]
    mapping: Mapping[Any, Any]
    tensors: int
    tree: Module | None = None

    @property
    def shown(self) -> str:
        return ".".join(printable(key, 40) for key in self.path)

    @property
    def name(self) -> str:
        return self.shown or WHOLE


def state_file(path: Path, contents: Contents, data: memoryview, weights: str | None = None) -> TorchFile:
    """Find the state dict, or the module, in what ``torch.save`` wrote.

    Args:
        path: The file.
        contents: What was read of it.
        data: Its bytes.
        weights: The name of the set of weights that is wanted; None for the likeliest.

    Raises:
        FileRefusedError: There is none, or none of that name, or its tensors claim what the file has not.
    """
    notes = list(contents.notes)
    root, loops = _without_loops(contents.root)
    found, optimizers = _mappings(root, Trees(path, len(data)))
    if not found:
        optimizer = f"only an optimizer's state ({shown_names(optimizers)})" if optimizers else ""
        raise FileRefusedError(path, "", f"no state dict in it: {optimizer or _what(contents.root)}", EXPORT)
    best = _chosen(path, found, weights)
    what = "module" if best.tree is not None else "state dict"
    if best.path:
        notes.append(f"the {what} is the entry '{best.shown}' of the file")
    others = [f"'{each.name}' ({each.tensors} tensors)" for each in found if each is not best]
    also = [Extra("weights", f"{shown_names(others)}; --weights NAME shows one")] if others else []
    also += [_left(name, state) for name, state in optimizers.items()]
    also += [_left(name, contents.root[name]) for name in loops]
    also += [*_training(root, found), *contents.also]
    arrays: dict[str, StoredArray] = {}
    left_out: dict[str, str] = {}
    other: list[str] = []
    tree, wrapped = (None, list[str]()) if best.tree is None else unwrapped(best.tree)
    held = unpacked(best.mapping) if tree is None else tree.tensors()
    for key, value in held.items():
        if not isinstance(key, str) or not isinstance(value, TENSORS):
            if value is None:  # a layer's bias that it has not
                continue
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
    if tree is None:
        arrays, wrapped = bare_names(arrays)
    notes += [*wrapped, *form_notes(arrays), *left_out_notes(left_out)]
    form = contents.format.replace("state dict", what)
    return TorchFile(path, form, arrays, left_out, notes, [("", data)], contents.verify, tree=tree, also=also)


def _without_loops(root: Any) -> tuple[Any, list[str]]:
    """A checkpoint of Lightning without what its loops and callbacks keep, which are tensors too, and their names."""
    if not isinstance(root, dict) or isinstance(root, Record) or "pytorch-lightning_version" not in root:
        return cast("Any", root), []
    entries = cast("dict[Any, Any]", root)
    left = [name for name in _LOOPS if entries.get(name)]
    return {name: value for name, value in entries.items() if name not in left}, left


def _chosen(path: Path, found: list[_Found], weights: str | None) -> _Found:
    """The set of weights of this name, or the likeliest: the largest, and among equals that with a model's own name."""
    if weights is None:
        return max(found, key=lambda each: (each.tensors, _preference(each.path)))
    for each in found:
        if weights in (each.name, ".".join(each.path)):
            return each
    listed = ", ".join(f"'{each.name}'" for each in found[:20])
    raise FileRefusedError(
        path, "", f"no set of weights is named '{printable(weights)}'", f"there are {listed}: name one, or none"
    )


def _left(name: str, state: Any) -> Extra:
    """What a file keeps of what trained the model: an optimizer's settings, and how many numbers there are."""
    groups: Any = cast("dict[Any, Any]", state).get("param_groups") if isinstance(state, dict) else None
    first: Any = cast("list[Any]", groups)[0] if isinstance(groups, list) and groups else None
    settings = plain_attributes(cast("dict[Any, Any]", first)) if isinstance(first, dict) else {}
    said = [f"{printable(key, 40)} {printable(value, 40)}" for key, value in settings.items() if key in _SETTINGS]
    arrays = numbers = 0
    seen: set[int] = set()
    pending: list[Any] = [state]
    while pending:
        value = pending.pop()
        if isinstance(value, (TensorRef, QuantisedRef, SparseRef, InlineArray)):
            shape = value.codes.shape if isinstance(value, QuantisedRef) else value.shape
            arrays, numbers = arrays + 1, numbers + math.prod(shape)
        elif isinstance(value, (dict, list, tuple)) and id(cast(object, value)) not in seen:
            seen.add(id(cast(object, value)))
            pending += cast("dict[Any, Any]", value).values() if isinstance(value, dict) else cast("list[Any]", value)
    what = "optimizer" if _is_optimizer(name, {}) else "training"
    counted = (arrays, numbers) if arrays or what == "optimizer" else (None, None)
    return Extra(what, ", ".join([f"'{printable(name, 40)}'", *said]), *counted)


def _training(root: Any, found: list[_Found]) -> list[Extra]:
    """What a checkpoint says of its training where that is plain: numbers, and settings by name."""
    if not isinstance(root, dict) or any(not each.path for each in found):
        return []
    entries = cast("dict[Any, Any]", root)
    said = [f"{printable(name, 40)}={printable(value, 60)}" for name, value in plain_attributes(entries).items()]
    for name, value in entries.items():
        inner: Mapping[Any, Any] = value.attributes if isinstance(value, Record) and not value else value
        settings = isinstance(inner, dict) and isinstance(name, str) and not _is_optimizer(name, inner)
        if settings and not any(each.path[0] == name for each in found):
            said += [
                f"{printable(f'{name}.{own}', 60)}={printable(each, 60)}"
                for own, each in plain_attributes(inner).items()
            ]
    more = f" and {len(said) - _SAID} more" if len(said) > _SAID else ""
    return [Extra("training", f"{', '.join(said[:_SAID])}{more}")] if said else []


def _mappings(root: Any, trees: Trees) -> tuple[list[_Found], dict[str, Any]]:
    """Every mapping or module with tensors, outermost first, and optimizers' states by their paths.

    Each mapping is looked at once, however many names lead to it.
    """
    found: list[_Found] = []
    optimizers: dict[str, Any] = {}
    seen: set[int] = set()
    level: list[tuple[tuple[str, ...], Any]] = [((), root)]
    for _ in range(LIMITS.mapping_depth):
        below: list[tuple[tuple[str, ...], Any]] = []
        for path, value in level:
            if not isinstance(value, dict) or id(cast(object, value)) in seen:
                continue
            mapping = cast("dict[Any, Any]", value)
            seen.add(id(mapping))
            if isinstance(mapping, Record):
                tree = trees.tree(mapping)
                if tree is not None:
                    tensors = len(tree.tensors())
                    found += [_Found(path, mapping, tensors, tree)] if tensors or not path else []
                    continue
                mapping = mapping or mapping.attributes  # of an object that holds a model, or of a mapping
            if path and _is_optimizer(path[-1], mapping):
                optimizers[".".join(path)] = mapping
                continue
            tensors = sum(isinstance(key, str) and isinstance(each, TENSORS) for key, each in mapping.items())
            if tensors:
                found.append(_Found(path, mapping, tensors))
            below += [((*path, key), each) for key, each in mapping.items() if isinstance(key, str)]
        level = below
    # NumPy's arrays beside a model's are counts and the states of random generators.
    of_torch = [each for each in found if each.tree or any(map(_is_of_torch, each.mapping.values()))]
    return of_torch or found, optimizers


def _is_of_torch(value: Any) -> bool:
    return isinstance(value, TENSORS) and not isinstance(value, InlineArray)


def _is_optimizer(key: str, mapping: Mapping[Any, Any]) -> bool:
    return "param_groups" in mapping or any(word in key.lower() for word in _OPTIMIZER)


def _preference(path: tuple[str, ...]) -> int:
    """How likely the last key is a model's own among mappings of one size."""
    name = path[-1].lower() if path else ""
    if any(word in name for word in _AVERAGED):
        return -1
    return len(_PREFERRED) - _PREFERRED.index(name) if name in _PREFERRED else 0


def _what(root: Any) -> str:
    if isinstance(root, Record) and not root:
        return f"an object of the class {printable(root.kind)}, which is no module"
    if isinstance(root, dict):
        keys = [str(key) for key in cast("dict[Any, Any]", root) if isinstance(key, (str, int))]
        return f"a mapping without tensors ({shown_names(keys)})" if keys else "an empty mapping"
    if isinstance(root, (list, tuple)):
        return f"a {type(cast(object, root)).__name__} of {len(cast('list[Any]', root))} objects"
    return "a tensor without a name" if isinstance(root, TENSORS) else f"a {printable(type(root).__name__)}"


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
