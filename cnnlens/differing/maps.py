"""What was found out about the feature maps of two models, as data; ``listing`` makes the words of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Activations", "Parting", "Tensor"]


class Parting(StrEnum):
    """Names how the outputs of two models compare."""

    NO_GRAPH = "no graph"
    NOT_COMPUTED = "not computed"
    AGREE = "agree"
    ROUNDED = "rounded"
    OTHER_OUTPUTS = "other outputs"
    PARTS = "parts"


@dataclass(frozen=True)
class Tensor:
    """Pairs one tensor of A with the one of B that holds the same: None where there is none.

    ``apart`` is the largest difference relative to the largest value, ``order`` whether B has the numbers in another
    order.
    """

    a: str
    b: str | None
    apart: float
    order: bool = False


@dataclass(frozen=True)
class Activations:
    """Says how the feature maps compare.

    Attributes:
        outcome: How the outputs do.
        first: The first call of A that B computes otherwise, and B's call there; empty where it has none.
        explanation: What B does otherwise; where they could not be compared, the side without a graph or the refusal.
        tensors: Every tensor of A.
        apart: How far outputs that agree are apart, relative to the largest value.
        text: All that in one sentence.
    """

    outcome: Parting
    first: tuple[str, str] | None = None
    explanation: str = ""
    tensors: tuple[Tensor, ...] = ()
    apart: float = 0.0
    text: str = ""

    @property
    def compared(self) -> bool:
        """Tell whether both could be run."""
        return self.outcome not in (Parting.NO_GRAPH, Parting.NOT_COMPUTED)

    @property
    def agree(self) -> bool:
        """Tell whether the outputs do; True where nothing could be compared."""
        return self.outcome not in (Parting.OTHER_OUTPUTS, Parting.PARTS)
