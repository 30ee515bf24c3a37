"""Every family that is swept, and why each other kind is not."""

from __future__ import annotations

from cnnlens.surveying import layers, operations, operators, sequences, windows
from cnnlens.surveying.setting import Family

__all__ = ["FAMILIES", "UNSWEPT"]

FAMILIES: tuple[Family, ...] = (
    *windows.families(),
    *layers.families(),
    *sequences.families(),
    *operations.families(),
    *operators.families(),
)
"""All tables, in the order of the sweep."""

UNSWEPT: dict[str, str] = {}
"""Why a kind is not in the sweep."""
