"""What a check can find, as data: verdicts with what follows from them, what a fault is of, what speaks against a run.

Whoever decides goes by these and never by a sentence; the words are in ``cnnlens.checking.listing`` and beside the
hypotheses that explain a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Cause", "FaultClass", "Known", "Objection", "Verdict"]


class Verdict(StrEnum):
    """Names what the audit of one output came to, from best to worst; what could not be audited stands apart."""

    EXACT = "exact"
    FLOAT32 = "float32"
    TF32 = "tf32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    SUSPICIOUS = "suspicious"
    WRONG = "wrong"
    NOT_AUDITED = "not audited"

    @property
    def rank(self) -> int:
        """Count the verdicts that are better."""
        return list(Verdict).index(self)

    @property
    def fault(self) -> bool:
        """Tell whether no rounding of any format explains it."""
        return self in (Verdict.SUSPICIOUS, Verdict.WRONG)

    @property
    def narrow(self) -> bool:
        """Tell whether it is the rounding of an arithmetic narrower than float32."""
        return self in (Verdict.TF32, Verdict.FLOAT16, Verdict.BFLOAT16)

    @classmethod
    def asked(cls, precision: str) -> Verdict:
        """Name the fewest bits that a precision asks for: float32's, unless it names a narrower arithmetic. A recording
        may claim any precision: what is none is held to float32."""
        return next((one for one in cls if one.narrow and one == precision), cls.FLOAT32)

    def passes(self, precision: str) -> bool:
        """Tell whether it is no fault of a run at this precision: strict takes float32's rounding, native any, and one
        that names an arithmetic takes all that have its bits."""
        if self.fault or self is Verdict.NOT_AUDITED:
            return not self.fault
        return precision == "native" or self.rank <= Verdict.asked(precision).rank


class Cause(StrEnum):
    """Names what a layer that is not plain float32 does otherwise."""

    STORED = "non-finite weights"
    PRECISION = "precision"
    OVERFLOW = "overflow"
    UNDERFLOW = "underflow"
    NONFINITE = "non-finite"
    SHAPE = "shape"
    OUTPUTS = "outputs"
    CHANNELS = "channels"
    ACTIVATION = "activation"
    KERNEL = "kernel"
    NORMALIZATION = "normalization"
    GEOMETRY = "geometry"
    MERGING = "merging"
    WEIGHTS = "weights"
    FACTORS = "factors"
    GATES = "gates"
    AMBIGUOUS = "ambiguous"
    UNEXPLAINED = "unexplained"


class FaultClass(StrEnum):
    """Names what sort of fault a layer has, as a cell of the atlas does."""

    WRONG = "wrong value"
    LOST = "lost precision"
    NONFINITE = "NaN or infinity"
    SHAPE = "shape"


@dataclass(frozen=True)
class Known:
    """Says which disagreement of the atlas a wrong layer looks like: of its kind, at such settings.

    Attributes:
        kind: The kind of layer; ``sides``: the columns of the atlas that show it, as its heading has them.
        fault: As a cell of the atlas names it.
        settings: Those of its smallest case that are needed for it to show.
        versions, device, precision: What it was found with.
        other: What is not so in this run: versions, device, precision.
        named: Whether the audit gives both faults one name; else it may be another of the same class.
    """

    kind: str
    sides: tuple[str, ...]
    fault: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str
    precision: str
    other: tuple[str, ...]
    named: bool

    @property
    def see(self) -> str:
        """Say where to read on."""
        return f"docs/atlas.md, {self.kind} under {', '.join(self.sides)}"


class Objection(StrEnum):
    """Names what speaks against a run."""

    ERROR = "error"
    LAYER = "layer"
    WEIGHTS = "weights"
    REPEATS = "repeats"
