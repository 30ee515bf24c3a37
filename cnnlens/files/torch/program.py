"""An exported PyTorch graph as plain data: nodes, the tensors between them, and the modules that they are in.

Arguments are JSON's own kinds of values, with ``Value`` where a tensor stands, ``Size`` where a number depends on the
sizes of the input and ``Unknown`` for what no plain layer has. Everything that walks a graph works on this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from cnnlens.files.torch.program_symbols import Linear

__all__ = ["SCALAR_TYPES", "Frame", "Node", "Program", "Size", "Unknown", "Value", "map_values", "values"]

SCALAR_TYPES: Mapping[int, str] = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn",
    30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32",
    35: "uint64",
}  # fmt: skip
"""``torch._export.serde.schema.ScalarType`` by number, in torch's and NumPy's common names."""

Sizes: TypeAlias = "tuple[Linear | None, ...]"


@dataclass(frozen=True)
class Value:
    """Names a tensor among the arguments of a node."""

    name: str


@dataclass(frozen=True)
class Size:
    """Stands for a whole number among the arguments that depends on the sizes of the input."""

    expression: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unknown:
    """Stands for an argument that no plain layer has (a graph, an object, a size that is no multiple); says what."""

    what: str


@dataclass(frozen=True)
class Frame:
    """Names one module on the way from the whole model to a node: one call of it, where it lives, and its class.

    Attributes:
        key: The same for all nodes of one call of the module; another for its next call.
        path: Its name in the model, such as ``layer1.0``; empty for the model itself.
        type: Its class with its module, such as ``torch.nn.modules.conv.Conv2d``.
    """

    key: str
    path: str
    type: str


@dataclass(frozen=True)
class Node:
    """Describes one operation of the graph.

    Attributes:
        name: Unique in the graph.
        target: The operator, such as ``aten.conv2d.default``.
        arguments: By their names in the operator's schema.
        outputs: The tensors that it makes, in order.
        listed: Whether it gives them as one list (a ``chunk``).
        stack: The modules that it is in, outermost first, without the whole model.
        refused: Why it cannot be computed from its arguments alone; empty where it can.
    """

    name: str
    target: str
    arguments: Mapping[str, Any]
    outputs: tuple[str, ...]
    stack: tuple[Frame, ...]
    listed: bool = False
    refused: str = ""

    @property
    def op(self) -> str:
        """Give the operator without namespace, overload and the mark of the in-place form: ``relu``, ``__and__``."""
        base = self.target.split(".")[1] if self.target.count(".") >= 1 else self.target
        if not self.in_place:
            return base
        return f"__{base[3:]}" if base.startswith("__i") else base[:-1]

    @property
    def in_place(self) -> bool:
        """Tell whether it changes its first operand: PyTorch marks that with an underscore, or as ``__iand__``."""
        base = self.target.split(".")[1] if self.target.count(".") >= 1 else self.target
        marked = base.startswith("__i") if base.endswith("__") else base.endswith("_")
        return self.target.startswith("aten.") and marked


@dataclass(frozen=True)
class Program:
    """Holds an exported program.

    Attributes:
        inputs: The tensors that a person gives, in order.
        weights: Parameters, buffers and constants: name in the graph to name in the model.
        constants: Those of ``weights`` (by name in the graph) that are no entry of the state dict.
        nodes: In topological order.
        outputs: Names of tensors.
        shapes: Of every tensor that the file describes; None for a size that is no linear expression.
        dtypes: Likewise, by name such as ``float32``.
        root: The class of the whole model, empty where no node says it.
        modules: The paths of all its submodules, called or not.
        notes: What the person should know.
    """

    inputs: tuple[str, ...]
    weights: Mapping[str, str]
    constants: frozenset[str]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Sizes]
    dtypes: Mapping[str, str]
    root: str = ""
    modules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    torch_version: str = ""

    def with_nodes(self, nodes: Sequence[Node], outputs: Sequence[str]) -> Program:
        return replace(self, nodes=tuple(nodes), outputs=tuple(outputs))


def values(structure: Any) -> Iterator[Value]:
    """List every ``Value`` in nested lists and mappings, in order."""
    if isinstance(structure, Value):
        yield structure
    elif isinstance(structure, (list, tuple)):
        for part in cast("Sequence[Any]", structure):
            yield from values(part)
    elif isinstance(structure, Mapping):
        for part in cast("Mapping[str, Any]", structure).values():
            yield from values(part)


def map_values(structure: Any, change: Any) -> Any:
    """Rebuild ``structure`` with ``change(part)`` in place of every part that is no list or mapping."""
    if isinstance(structure, list):
        return [map_values(part, change) for part in cast("list[Any]", structure)]
    if isinstance(structure, Mapping):
        return {name: map_values(part, change) for name, part in cast("Mapping[str, Any]", structure).items()}
    return change(structure)
