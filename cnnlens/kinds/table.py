"""The table: its rows by the names that layers, operations and operators go by, and what is asked of them most."""

from __future__ import annotations

from collections.abc import Mapping

from cnnlens.kinds.kind import Features, Kind, Rounding
from cnnlens.kinds.layers import LAYERS
from cnnlens.kinds.operations import OPERATIONS

__all__ = [
    "ACTIVATIONS", "CELLS", "KINDS", "OPERATORS", "UNKNOWN", "activation_named", "hands_on", "keeps_features",
    "kind_of", "moves_features",
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


def kind_of(name: str) -> Kind:
    """Find the row of a layer's kind, of an operation or of one of PyTorch's operators; :data:`UNKNOWN` without one."""
    return KINDS.get(name) or OPERATORS.get(name) or UNKNOWN


def activation_named(name: str) -> str:
    """Give the name that the table has for an activation: Keras had several for some."""
    return _ALIASES.get(name, name)


def keeps_features(name: str) -> bool:
    """Tell whether each feature of a flattened map is behind the kind where it was before."""
    return kind_of(name).features in (Features.ALONE, Features.KEPT, Features.PLACED)


def moves_features(name: str) -> bool:
    """Tell whether the kind puts features of a flattened map elsewhere, or picks some of them, and computes nothing."""
    row = kind_of(name)
    return row.features is Features.REORDERED or (row.features is Features.MIXED and row.rounding is Rounding.NONE)


def hands_on(name: str) -> bool:
    """Tell whether the kind takes one map's features in any order, and hands them on in the same."""
    return kind_of(name).features in (Features.ALONE, Features.KEPT)
