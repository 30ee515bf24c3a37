"""What was found out about one pair of arrays: a word for programs, a sentence for people, and the line of NumPy.

The line is the proof: it was run, and what it gave was A's array. A finding without one is a statement of distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnlens.differing.hypotheses.kinship import Kinship
from cnnlens.differing.moves import Chain
from cnnlens.differing.proof import Line

__all__ = ["STATUSES", "Finding"]

STATUSES = (
    "equal",
    "equal, stored otherwise",
    "explained",
    "ambiguous",
    "fine-tuned",
    "another",
    "differs",
    "missing",
    "another shape",
)
"""The first two are no difference; ``differs`` is what too few numbers tell nothing about."""


@dataclass(frozen=True)
class Finding:
    """Says what was found about one pair of arrays.

    Attributes:
        status: One of ``STATUSES``.
        tag: What explains it, for programs: ``same``, ``flip:HW``, ``io``, ``reshape``, ``flatten``, ``permuted``,
            ``scaled``, ``folded``, ``rounded:float16`` …, joined by ``+``; empty where nothing does.
        text: The same for people.
        line: NumPy that makes A's stored array of B's; None where no line can.
        residual: What is left unexplained, relative to A's own size: 0 where every number is accounted for.
        chain: The moves from B's stored array to A's, where some explain the order.
        kinship: How the values are related, where they are not equal.
        possible: Where it is ambiguous, every explanation as (tag, text).
        also: Other names of the same explanation for this shape, as (tag, text).
        detail: Numbers: ``order``, ``factors``, ``epsilon`` …
    """

    status: str
    tag: str
    text: str
    line: Line | None = None
    residual: float = 0.0
    chain: Chain | None = None
    kinship: Kinship | None = None
    possible: tuple[tuple[str, str], ...] = ()
    also: tuple[tuple[str, str], ...] = ()
    detail: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())

    @property
    def equal(self) -> bool:
        """Tell whether it is no difference."""
        return self.status in STATUSES[:2]
