"""The table: its rows by the names that layers, operations and operators go by, and what is asked of them most."""

from __future__ import annotations

from collections.abc import Mapping

from cnnlens.kinds.kind import Kind
from cnnlens.kinds.layers import LAYERS
from cnnlens.kinds.operations import OPERATIONS

__all__ = [
    "ACTIVATIONS", "CELLS", "KINDS", "OPERATORS", "UNKNOWN", "activation_named", "kind_of", "layer_kind",
    "operator_kind",
]  # fmt: skip

KINDS: Mapping[str, Kind] = {name: row for row in (*LAYERS, *OPERATIONS) for name in (row.name, *row.older)}
"""Every row by its name and its older names. A layer and an operation of one name are one kind."""

OPERATORS: Mapping[str, Kind] = {operator: row for row in (*LAYERS, *OPERATIONS) for operator in row.aten}
"""The row of each of PyTorch's operators, by its name without namespace and overload."""

ACTIVATIONS: Mapping[str, Kind] = {row.activation: row for row in OPERATIONS if row.activation}
"""The row of each function that ``keras.activations`` names."""

CELLS: Mapping[str, Kind] = {row.cell: row for row in LAYERS if row.cell}
"""The row of each recurrent layer, by the class of its cell."""

UNKNOWN = Kind(name="", weights=None)
"""The row of a kind that is somebody's own."""

_ALIASES = {"swish": "silu", "hard_swish": "hard_silu", "exp": "exponential", "softmax_v2": "softmax"}


_KERAS = ("keras", "tf_keras", "tensorflow")


def kind_of(name: str) -> Kind:
    """Find the row of a class that is known to be Keras' own; :data:`UNKNOWN` without one."""
    return KINDS.get(name, UNKNOWN)


def layer_kind(name: str, module: str | None) -> Kind:
    """Find the row of a class in a file, which may be somebody's own under a name of Keras'; :data:`UNKNOWN` then.

    Args:
        name: The class; ``module``: where the file says that it is from, or None as Keras 2 has it. An operation is one
            in a module of ``keras.ops`` alone, and a layer of that name elsewhere is its author's.
    """
    if module is not None and module.split(".", 1)[0] not in _KERAS:
        return UNKNOWN
    row = kind_of(name)
    return row if row.layer or ".ops" in (module or "") else UNKNOWN


def operator_kind(name: str) -> Kind:
    """Find the row of one of PyTorch's operators, by its name without namespace and overload."""
    return OPERATORS.get(name, UNKNOWN)


def activation_named(name: str) -> str:
    """Give the name that the table has for an activation: Keras had several for some."""
    return _ALIASES.get(name, name)
