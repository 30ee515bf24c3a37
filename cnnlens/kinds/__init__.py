"""What a layer kind is, in one table: a row for each of Keras' layers and for each operation between layers.

What a room does with a kind (compute it, audit it, write it in another framework) is registered in that room under
the kind's name. ``tests/test_kinds.py`` walks the rows through the rooms; ``docs/kinds.md`` is printed from both.
"""

from __future__ import annotations

from cnnlens.kinds.kind import Features, Kind, Rounding
from cnnlens.kinds.layers import LAYERS
from cnnlens.kinds.operations import OPERATIONS
from cnnlens.kinds.table import (
    ACTIVATIONS,
    CELLS,
    KINDS,
    OPERATORS,
    UNKNOWN,
    activation_named,
    kind_of,
    layer_kind,
    operator_kind,
)

__all__ = [
    "ACTIVATIONS", "CELLS", "KINDS", "LAYERS", "OPERATIONS", "OPERATORS", "UNKNOWN", "Features", "Kind", "Rounding",
    "activation_named", "kind_of", "layer_kind", "operator_kind",
]  # fmt: skip
