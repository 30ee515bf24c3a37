"""What a layer is called with, in the words of a Keras config: tensors by layer, call and output, and plain values.

Keras 2 wrote nested lists, Keras 3 writes ``__keras_tensor__`` objects inside args and kwargs. Both become the same
structure, with a ``Key`` where a tensor stands, and can then be filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from cnnlens.text import printable

__all__ = ["GraphError", "Key", "arguments", "keys", "keys_in", "listed", "substitute", "with_keys"]


class GraphError(ValueError):
    """Is raised where the config describes no graph that can be followed; says why, the caller adds the file."""


@dataclass(frozen=True)
class Key:
    """Names a tensor in the config's own words: output ``tensor`` of call ``node`` of layer ``layer``."""

    layer: str
    node: int
    tensor: int


def _key(value: Any) -> Key | None:
    if not isinstance(value, (list, tuple)):
        return None
    parts = cast("list[Any]", value)
    if len(parts) < 3 or not isinstance(parts[0], str) or parts[0] == "_CONSTANT_VALUE":
        return None
    if not all(isinstance(part, int) and not isinstance(part, bool) and part >= 0 for part in parts[1:3]):
        return None
    return Key(parts[0], parts[1], parts[2])


def _shape(value: Any) -> tuple[int | None, ...] | None:
    if not isinstance(value, (list, tuple)):
        return None
    axes = cast("list[Any]", value)
    if not all(axis is None or (isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0) for axis in axes):
        return None
    return tuple(axes)


def listed(value: Any, what: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise GraphError(f"the {what} of a layer are no list")
    return cast("list[Any]", value or [])


def arguments(node: Any, stated: dict[Key, tuple[int | None, ...]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read what one inbound node calls its layer with, tensors as ``Key``. ``stated`` collects given shapes."""
    if isinstance(node, dict):  # Keras 3
        entry = cast("dict[str, Any]", node)
        args, named = listed(entry.get("args"), "args"), cast("object", entry.get("kwargs") or {})
        if not isinstance(named, dict):
            raise GraphError("the kwargs of a call are no object")
        kwargs = cast("dict[str, Any]", named)
        return tuple(_keras3(arg, stated) for arg in args), {name: _keras3(v, stated) for name, v in kwargs.items()}
    if not isinstance(node, list):
        raise GraphError("an inbound node is neither a list nor an object")
    parts = cast("list[Any]", node)  # Keras 2: [[layer, node, tensor, kwargs], …]
    if parts and isinstance(parts[0], str):
        parts = [parts]
    kwargs: dict[str, Any] = {}
    tensors: list[Any] = []
    for part in parts:
        if isinstance(part, list) and len(cast("list[Any]", part)) > 3 and isinstance(part[3], dict):
            kwargs.update({str(name): with_keys(value) for name, value in cast("dict[str, Any]", part[3]).items()})
        tensors.append(with_keys(part))
    kwargs.pop("name", None)
    return (tensors[0] if len(tensors) == 1 else tensors,), kwargs


def _keras3(value: Any, stated: dict[Key, tuple[int | None, ...]]) -> Any:
    if isinstance(value, list):
        return [_keras3(part, stated) for part in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    entry = cast("dict[str, Any]", value)
    if entry.get("class_name") == "__keras_tensor__":
        config = entry.get("config")
        body = cast("dict[str, Any]", config) if isinstance(config, dict) else {}
        key = _key(body.get("keras_history"))
        if key is None:
            raise GraphError("a tensor in it has no 'keras_history' of layer, node and tensor")
        shape = _shape(body.get("shape"))
        if shape is not None:
            stated[key] = shape
        return key
    return {name: _keras3(part, stated) for name, part in entry.items()}


def with_keys(value: Any) -> Any:
    """Replace every ``[layer, node, tensor, …]`` in Keras 2's nested lists by its key."""
    key = _key(value)
    if key is not None:
        return key
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        if len(parts) >= 3 and parts[0] == "_CONSTANT_VALUE":
            return parts[2]
        return [with_keys(part) for part in parts]
    if isinstance(value, dict):
        return {str(name): with_keys(part) for name, part in cast("dict[str, Any]", value).items()}
    return value


def keys(structure: Any) -> Iterator[Key]:
    if isinstance(structure, Key):
        yield structure
    elif isinstance(structure, (list, tuple)):
        for part in cast("list[Any]", structure):
            yield from keys(part)
    elif isinstance(structure, dict):
        for part in cast("dict[str, Any]", structure).values():
            yield from keys(part)


def keys_in(structure: Any) -> list[Key]:
    return list(keys(with_keys(structure)))


def substitute(structure: Any, values: Mapping[Key, Any]) -> Any:
    return _map_keys(structure, lambda key: _lookup(key, values))


def _lookup(key: Key, values: Mapping[Key, Any]) -> Any:
    if key not in values:
        raise GraphError(f"no call {key.node} of a layer '{printable(key.layer)}' gives an output {key.tensor}")
    return values[key]


def _map_keys(structure: Any, change: Callable[[Key], Any]) -> Any:
    if isinstance(structure, Key):
        return change(structure)
    if isinstance(structure, (list, tuple)):
        return [_map_keys(part, change) for part in cast("list[Any]", structure)]
    if isinstance(structure, dict):
        return {name: _map_keys(part, change) for name, part in cast("dict[str, Any]", structure).items()}
    return structure
