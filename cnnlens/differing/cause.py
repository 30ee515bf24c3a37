"""What explains a difference, as data: a kind, what it is of, and its numbers; ``listing`` makes the words of these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from cnnlens.text import finite_or_null

__all__ = ["Cause", "Causes", "Kind", "Status", "tag_of"]


class Status(StrEnum):
    """How a pair of arrays stands; the first two are no difference."""

    EQUAL = "equal"
    STORED_OTHERWISE = "equal, stored otherwise"
    EXPLAINED = "explained"
    AMBIGUOUS = "ambiguous"
    FINE_TUNED = "fine-tuned"
    ANOTHER = "another"
    DIFFERS = "differs"  # what too few numbers tell nothing about
    MISSING = "missing"
    ANOTHER_SHAPE = "another shape"


class Kind(StrEnum):
    """What can have been done to an array."""

    SAME = "same"
    SWAPPED = "hw"
    FLIPPED = "flip"
    IN_AND_OUT = "io"
    REVERSED = "bgr"
    MULTIPLIER = "multiplier"
    FLATTENED = "flatten"
    RESHAPED = "reshape"
    PERMUTED = "permuted"
    REARRANGED = "rearranged"
    SCALED = "scaled"
    ROUNDED = "rounded"
    FOLDED = "folded"
    FINE_TUNED = "fine-tuned"
    EXCHANGED = "exchanged"
    GATES = "gates"
    LEFT_OUT = "left out"
    SUMMED = "summed"
    SHIFTED = "shifted"
    REPEATED = "repeated"
    FUNCTION = "function"
    CONSTANT = "constant"
    NONFINITE = "not finite"
    MISSING = "missing"
    ANOTHER = "another"


@dataclass(frozen=True)
class Cause:
    """One thing that was done.

    Attributes:
        kind: Which.
        of: The letters of the axes, ``in`` or ``out``, a number format; empty where the kind says all.
        fields: What else tells it from others of its kind, by name: ``side``, ``order``, ``factors`` …
    """

    kind: Kind
    of: str = ""
    fields: tuple[tuple[str, Any], ...] = ()

    @property
    def tag(self) -> str:
        """One word for programs."""
        return f"{self.kind}:{self.of}" if self.of else str(self.kind)

    def __getitem__(self, name: str) -> Any:
        return dict(self.fields)[name]

    def __contains__(self, name: str) -> bool:
        return name in dict(self.fields)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without words."""
        fields = {name: finite_or_null(value) if isinstance(value, float) else value for name, value in self.fields}
        return {"kind": str(self.kind), "of": self.of or None, **fields}


Causes: TypeAlias = tuple[Cause, ...]


def tag_of(causes: Causes) -> str:
    """Every cause's word, joined by ``+``."""
    return "+".join(one.tag for one in causes)
