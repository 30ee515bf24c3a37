"""What was found out about a pair of layers, and about each of their arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnlens.differing.cause import Status
from cnnlens.differing.finding import STATUSES, Finding
from cnnlens.differing.proof import Line
from cnnlens.network.weight import Weight
from cnnlens.text import printable

__all__ = ["ArrayDiff", "LayerDiff"]


@dataclass(frozen=True, repr=False)
class ArrayDiff:
    """Says what became of one array of a pair of layers.

    Attributes:
        role: What it is, in Keras' words: ``kernel``, ``bias``, ``gamma`` …
        a, b: Its name in each layer; None where one has no such array.
        shape_a, shape_b: As each file stores it; ``axes_a``, ``axes_b``: the letters of those axes.
        finding: What explains it; ``explanation``: the same for people.
        weight_a, weight_b: The arrays themselves, to be read.
    """

    role: str
    a: str | None
    b: str | None
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    axes_a: str
    axes_b: str
    finding: Finding
    explanation: str
    weight_a: Weight | None = field(default=None, compare=False)
    weight_b: Weight | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"<ArrayDiff {printable(self.role)}: {printable(self.explanation, 200)}>"


@dataclass(frozen=True, repr=False)
class LayerDiff:
    """Says what became of a pair of layers, or of a layer that one model has alone.

    Attributes:
        a, b: Their names; None where one model has no such layer.
        kind_a, kind_b: Their kinds.
        status: The worst of its arrays'; one of ``STATUSES``.
        explanation: What explains the difference.
        line: The line of NumPy that turns B's stored array into A's, for the array that is explained; None where no
            line can.
        how: ``order`` where order and kind paired them, ``values`` where their values did.
        arrays: Each array by itself.
        notes: What was passed over.
    """

    a: str | None
    b: str | None
    kind_a: str
    kind_b: str
    status: Status
    explanation: str
    line: Line | None
    how: str
    arrays: tuple[ArrayDiff, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        one, other = (printable(name or "-") for name in (self.a, self.b))
        return f"<LayerDiff {one} and {other}: {printable(self.explanation, 200)}>"

    @property
    def equal(self) -> bool:
        """Tell whether it is no difference."""
        return self.status in STATUSES[:2]
