"""A node's arguments as a layer's entry: plain JSON in which tensors, arrays and the batch size have their marks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from cnnlens.files.torch.program import Node, Size, Unknown, Value, map_values
from cnnlens.files.torch.program_symbols import multiple_of

__all__ = ["Entry", "entry_of", "settings"]


@dataclass(frozen=True)
class Entry:
    """Describes what a node computes.

    Attributes:
        data: ``{"target", "arguments"}``, with ``"refused"`` (a reason) where the arguments are not all plain.
        tensors: The names of the tensors that it takes, in the order of their numbers.
        weights: Its arrays: name in the layer to name in the graph.
    """

    data: dict[str, Any]
    tensors: tuple[str, ...]
    weights: Mapping[str, str]


def entry_of(
    node: Node,
    weights: Mapping[str, str],
    owner: str,
    symbols: frozenset[str],
    batch_of: Callable[[Iterable[str]], str | None],
) -> Entry:
    """Make the entry of a node.

    Args:
        node: The node.
        weights: The program's arrays: name in the graph to name in the model.
        owner: The path of the module that the node is in; its own arrays are named from there.
        symbols: Names of the batch size.
        batch_of: Given the tensors that a node takes, the tensor that shows the batch size where none of them does;
            None where one does.
    """
    tensors: list[str] = []
    named: dict[str, str] = {}
    refused = node.refused
    sized = False

    def change(part: Any) -> Any:
        nonlocal refused, sized
        if isinstance(part, Value):
            if part.name not in weights:
                tensors.append(part.name)
                return {"tensor": len(tensors) - 1}
            name = _own_name(weights[part.name], part.name, owner, named)
            named[name] = part.name
            return {"weight": name}
        if isinstance(part, Size):
            times = multiple_of(dict(part.expression), symbols)
            if times is not None:
                sized = True
                return {"batch": times}
            refused = refused or "it takes a size that depends on more than the batch"
            return None
        if isinstance(part, Unknown):
            refused = refused or f"it takes {part.what}"
            return None
        return part

    arguments = {name: map_values(value, change) for name, value in node.arguments.items()}
    shown_by = batch_of(tensors) if sized else None
    if shown_by is not None:
        arguments = {name: _measured(value, len(tensors)) for name, value in arguments.items()}
        tensors.append(shown_by)
    data: dict[str, Any] = {"target": node.target, "arguments": arguments}
    if refused:
        data["refused"] = refused
    return Entry(data, tuple(tensors), named)


def settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Pick those of an entry's arguments that are without tensors and arrays."""
    return {name: value for name, value in arguments.items() if not _holds_arrays(value)}


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_arrays(part) for part in cast("list[Any]", value))
    return isinstance(value, Mapping) and bool(set(cast("Mapping[str, Any]", value)) & {"tensor", "weight"})


def _measured(value: Any, tensor: int) -> Any:
    """``{"batch": m}`` with the number of the tensor whose first axis shows the batch."""
    if isinstance(value, list):
        return [_measured(part, tensor) for part in cast("list[Any]", value)]
    if isinstance(value, Mapping) and "batch" in value:
        return {**cast("Mapping[str, Any]", value), "tensor": tensor}
    return cast("Any", value)


def _own_name(name: str, placeholder: str, owner: str, named: Mapping[str, str]) -> str:
    """An array's name in its layer: from the module's path on; its last part where it is another module's."""
    prefix = f"{owner}." if owner else ""
    own = name[len(prefix) :] if name.startswith(prefix) else name.rpartition(".")[2]
    return own if named.get(own, placeholder) == placeholder else name
