"""What explains a difference, as data: a kind, what it is of, and its numbers; branches are on these, never on words.

The words beside them are carried for people alone, and two causes that differ in their words only are one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

__all__ = ["Cause", "Causes", "Kind", "Status", "tag_of", "text_of"]


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
    CONSTANT = "constant"
    MISSING = "missing"
    ANOTHER = "another"


@dataclass(frozen=True)
class Cause:
    """One thing that was done.

    Attributes:
        kind: Which.
        of: The letters of the axes, ``in`` or ``out``, a number format; empty where the kind says all.
        fields: What else tells it from others of its kind, by name: ``side``, ``order``, ``factors`` …
        said: The same for people.
        brief: What of it holds for several arrays at once; empty where all of ``said`` does.
    """

    kind: Kind
    of: str = ""
    fields: tuple[tuple[str, Any], ...] = ()
    said: str = field(default="", compare=False)
    brief: str = field(default="", compare=False)

    @property
    def tag(self) -> str:
        """One word for programs."""
        return f"{self.kind}:{self.of}" if self.of else str(self.kind)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without words."""
        return {"kind": str(self.kind), "of": self.of or None, **dict(self.fields)}


Causes: TypeAlias = tuple[Cause, ...]


def tag_of(causes: Causes) -> str:
    """Every cause's word, joined by ``+``."""
    return "+".join(one.tag for one in causes)


def text_of(causes: Causes) -> str:
    """The causes for people."""
    return ", and ".join(one.said for one in causes if one.said)
