"""Which axis is which in every framework, and how to get from one to another.

>>> import cnnlens
>>> for framework in cnnlens.layout.FRAMEWORKS:
...     print(framework, cnnlens.layout.stored_axes("DepthwiseConv2D", framework=framework))
keras HWCM
torch (CM)1HW
flax HW1(CM)
onnx (CM)1HW
tflite 1HW(CM)
"""

from __future__ import annotations

from cnnlens.layout.addresses import Memory, memory
from cnnlens.layout.conversions import (
    Convention,
    Description,
    arrange,
    arranged_shape,
    arranged_shapes,
    canonical_axes,
    canonical_shape,
    canonicalise,
    completed,
    convention,
    describe,
    expression,
    split_axes,
    stored_axes,
)
from cnnlens.layout.feature_maps import feature_map_axes, from_canonical_maps, to_canonical_maps
from cnnlens.layout.geometry import Geometry
from cnnlens.layout.lookup import KINDS, gates_of, resolve_kind, roles_in
from cnnlens.layout.patterns import Pattern, Step
from cnnlens.layout.tables import FRAMEWORKS, LEGEND

__all__ = [
    "FRAMEWORKS", "KINDS", "LEGEND", "Convention", "Description", "Geometry", "Memory", "Pattern", "Step", "arrange",
    "arranged_shape", "arranged_shapes", "canonical_axes", "canonical_shape", "canonicalise", "completed",
    "convention", "describe", "expression", "feature_map_axes", "from_canonical_maps", "gates_of", "memory",
    "resolve_kind", "roles_in", "split_axes", "stored_axes", "to_canonical_maps",
]  # fmt: skip
