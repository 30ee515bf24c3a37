"""What a comparison of two models found, which can be printed and given as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.differing import listing
from cnnlens.differing.consensus import Statement
from cnnlens.differing.maps import Activations
from cnnlens.differing.rows import LayerDiff
from cnnlens.network.network import Network

__all__ = ["Diff"]


@dataclass(frozen=True)
class Diff:
    """Holds what was found out about two models; as text it is the table of ``cnnlens diff``.

    Attributes:
        a, b: The networks.
        rows: A row a pair of layers that hold arrays, in A's order; then what only B has.
        verdict: What happened to the model as a whole, in one to three sentences.
        activations: Where their feature maps part; None where it was not asked.
        statements: What the verdict says of the weights, as data.

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
    rows: tuple[LayerDiff, ...]
    verdict: tuple[str, ...]
    activations: Activations | None = None
    statements: tuple[Statement, ...] = ()

    @property
    def equal(self) -> bool:
        """Tell whether the models hold the same numbers, however stored, and compute the same where that was asked."""
        return all(row.equal for row in self.rows) and (self.activations is None or self.activations.agree)

    def to_json(self) -> dict[str, Any]:
        """Give plain data: the verdict, a row a layer, and every line of NumPy with its lists written out."""
        return listing.as_json(self)

    def __str__(self) -> str:
        return str(listing.as_page(self))
