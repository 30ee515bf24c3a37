"""What was found out about one pair of arrays: causes, their numbers, and the line of NumPy.

The line is the proof: it was run, and what it gave was A's array. A finding without one is a statement of distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnlens.differing.cause import Causes, Kind, Status, tag_of
from cnnlens.differing.hypotheses.kinship import Kinship
from cnnlens.differing.moves import Chain
from cnnlens.differing.proof import Line

__all__ = ["STATUSES", "Finding"]

STATUSES = tuple(Status)
"""The first two are no difference."""


_VALUES = {Kind.SCALED, Kind.ROUNDED, Kind.FINE_TUNED}  # what is done to numbers wherever they stand


@dataclass(frozen=True)
class Finding:
    """Says what was found about one pair of arrays.

    Attributes:
        status: One of ``STATUSES``.
        causes: What explains it, one after the other; empty where nothing does.
        line: NumPy that makes A's stored array of B's; None where no line can.
        residual: What is left unexplained, relative to A's own size: 0 where every number is accounted for.
        chain: The moves from B's stored array to A's, where some explain the order.
        kinship: How the values are related, where they are not equal.
        possible: Where it is ambiguous by itself, every explanation.
        also: Other names of the same explanation for this shape; ``settled``: whether other arrays decide for its own.
        detail: Numbers: ``order``, ``factors``, ``epsilon`` …
        stored: Where it is equal, the letters of both sides' stored axes, if they differ.
        flattened: Where it is equal, whether it took both frameworks' orders of a flattened map to see it.
        certain: The causes, without what another array may rule out.
    """

    status: Status
    causes: Causes
    line: Line | None = None
    residual: float = 0.0
    chain: Chain | None = None
    kinship: Kinship | None = None
    possible: tuple[Causes, ...] = ()
    also: tuple[Causes, ...] = ()
    settled: bool = False
    detail: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    stored: tuple[str, str] | None = None
    flattened: bool = False
    certain: Causes = ()

    @property
    def tag(self) -> str:
        """The causes for programs: ``same``, ``flip:HW``, ``io``, ``rounded:float16`` …, joined by ``+``."""
        return tag_of(self.causes)

    def has(self, *kinds: Kind) -> bool:
        """Whether one of the kinds is among its causes."""
        return any(one.kind in kinds for one in self.causes)

    @property
    def rivals(self) -> tuple[Causes, ...]:
        """Give the other names that are as plain as its own and that nothing rules out."""
        moved = {one.kind for one in self.causes} - _VALUES
        return (
            ()
            if self.settled
            else tuple(
                causes
                for causes in self.also
                if len(causes) <= len(moved)
                and {one.kind for one in causes} != moved
                and Kind.RESHAPED not in {one.kind for one in causes} - moved
            )
        )

    @property
    def plain(self) -> bool:
        """Whether it is equal and there is nothing more to say."""
        return self.status is Status.EQUAL and self.stored is None and not self.flattened

    def to_json(self) -> dict[str, Any]:
        """What was found as plain data, without words."""
        return {
            "status": str(self.status),
            "causes": [one.to_json() for one in self.causes],
            "possible": [[one.to_json() for one in causes] for causes in self.possible],
            "also": [[one.to_json() for one in causes] for causes in self.also],
            "stored": None if self.stored is None else list(self.stored),
            "flattened": self.flattened,
        }

    @property
    def equal(self) -> bool:
        """Tell whether it is no difference."""
        return self.status in STATUSES[:2]
