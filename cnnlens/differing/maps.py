"""What was found out about the feature maps of two models, as data; ``listing`` makes the words of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Activations", "Own", "Parting", "Standing", "Tensor"]


class Parting(StrEnum):
    """Names how the outputs of two models compare."""

    NO_GRAPH = "no graph"
    NOT_COMPUTED = "not computed"
    AGREE = "agree"
    ROUNDED = "rounded"
    OTHER_OUTPUTS = "other outputs"
    PARTS = "parts"


class Standing(StrEnum):
    """Names how a tensor of A stands to B's."""

    SAME = "same"
    INHERITS = "inherits"  # given A's inputs, B's step gives the same: it differs by what comes in
    OWN = "own"  # given A's inputs, B's step gives something else
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Tensor:
    """Pairs one tensor of A with the one of B in its place: None where there is none.

    ``apart`` is the largest difference relative to the largest value (infinite where the two are not the same),
    ``order`` whether B has the numbers in another order, ``standing`` how it differs.
    """

    a: str
    b: str | None
    apart: float
    order: bool = False
    standing: Standing = Standing.SAME


@dataclass(frozen=True)
class Own:
    """Names a step of A that B computes otherwise on the same inputs, B's step there, and what that does otherwise."""

    a: str
    b: str
    explanation: str


@dataclass(frozen=True)
class Activations:
    """Says how the feature maps compare.

    Attributes:
        outcome: How the outputs do.
        own: The calls of A that B computes otherwise given the same inputs, in order; ``b`` is empty where it has none.
        explanation: What B does otherwise in the first of these; where they could not be compared, the side without a
            graph or the refusal.
        tensors: Every tensor of A.
        apart: How far outputs that agree are apart, relative to the largest value; ``moves``: how far rounding the
            weights once more moves them.
        text: All that in one sentence.
    """

    outcome: Parting
    own: tuple[Own, ...] = ()
    explanation: str = ""
    tensors: tuple[Tensor, ...] = ()
    apart: float = 0.0
    moves: float = 0.0
    text: str = ""

    @property
    def first(self) -> tuple[str, str] | None:
        """Name the first call of A that B computes otherwise, and B's there."""
        return (self.own[0].a, self.own[0].b) if self.own else None

    @property
    def compared(self) -> bool:
        """Tell whether both could be run."""
        return self.outcome not in (Parting.NO_GRAPH, Parting.NOT_COMPUTED)

    @property
    def agree(self) -> bool:
        """Tell whether the outputs do; True where nothing could be compared."""
        return self.outcome not in (Parting.OTHER_OUTPUTS, Parting.PARTS)
