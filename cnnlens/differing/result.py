"""What a comparison of two models found, which can be printed and given as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.differing.consensus import Statement
from cnnlens.differing.maps import Activations
from cnnlens.differing.rows import LayerDiff
from cnnlens.network.network import Network
from cnnlens.page import Result
from cnnlens.text import printable

__all__ = ["Diff"]


@dataclass(frozen=True, repr=False)
class Diff(Result, listing="differing.listing", name="diff"):
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

    def __repr__(self) -> str:
        return f"<Diff {self.a.shown} and {self.b.shown}: {printable('; '.join(self.verdict), 200)}>"

    @property
    def equal(self) -> bool:
        """Tell whether the models hold the same numbers, however stored, and compute the same where that was asked."""
        return all(row.equal for row in self.rows) and (self.activations is None or self.activations.agree)
