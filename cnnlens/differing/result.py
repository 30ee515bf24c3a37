"""What a comparison of two models found: a row a pair of layers, a row an array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.differing.cause import Status
from cnnlens.differing.finding import STATUSES, Finding
from cnnlens.differing.proof import Line
from cnnlens.network.network import Network

__all__ = ["ArrayRow", "Diff", "Row"]


@dataclass(frozen=True)
class ArrayRow:
    """Says what became of one array of a pair of layers.

    Attributes:
        role: What it is, in Keras' words: ``kernel``, ``bias``, ``gamma`` …
        a, b: Its name in each layer; None where one has no such array.
        shape_a, shape_b: As each file stores it; ``axes_a``, ``axes_b``: the letters of those axes.
        finding: What explains it.
    """

    role: str
    a: str | None
    b: str | None
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    axes_a: str
    axes_b: str
    finding: Finding


@dataclass(frozen=True)
class Row:
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
    arrays: tuple[ArrayRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Tell whether it is no difference."""
        return self.status in STATUSES[:2]


@dataclass(frozen=True)
class Diff:
    """Holds what was found out about two models; as text it is the table of ``cnnlens diff``.

    Attributes:
        a, b: The networks.
        rows: A row a pair of layers that hold arrays, in A's order; then what only B has.
        verdict: What happened to the model as a whole, in one to three sentences.
        activations: Where their feature maps part; None where it was not asked.

    >>> import cnnlens.sample
    >>> result = cnnlens.diff(cnnlens.sample.MODEL, cnnlens.sample.MODEL)
    >>> result.equal
    True
    >>> for row in result.rows:
    ...     print(row.a, row.b, row.status)
    conv2d conv2d equal
    conv2d_1 conv2d_1 equal
    dense dense equal
    dense_1 dense_1 equal
    """

    a: Network
    b: Network
    rows: tuple[Row, ...]
    verdict: tuple[str, ...]
    activations: Any = None

    @property
    def equal(self) -> bool:
        """Tell whether the models hold the same numbers, however stored, and compute the same where that was asked."""
        return all(row.equal for row in self.rows) and (self.activations is None or self.activations.agree)

    def to_json(self) -> dict[str, Any]:
        """Give plain data: the verdict, a row a layer, and every line of NumPy with its lists written out."""
        from cnnlens.differing import listing as diff_listing

        return diff_listing.as_json(self)

    def __str__(self) -> str:
        from cnnlens.differing import listing as diff_listing

        return diff_listing.as_table(self)
