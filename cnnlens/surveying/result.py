"""What a survey found, as it is handed out: what ran on what machine, a cell a kind, and each disagreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnlens.page import Result

__all__ = ["Atlas", "Cell", "Finding", "Side"]

_FAILED = ("refused", "crashed", "hung")  # no numbers came


@dataclass(frozen=True)
class Side:
    """Says what a column of the table is: a backend in a precision, what it ran with, and why not if it did not.

    Attributes:
        framework: Whose kinds it runs: ``keras`` or ``torch``.
        interpreter: The Python it ran in where that is not this one.
    """

    label: str
    backend: str
    precision: str
    framework: str
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    device: str = ""
    error: str = ""


@dataclass(frozen=True)
class Cell:
    """Counts what became of a kind's settings under one backend.

    Attributes:
        kind: The kind; ``side``: the label of the column.
        settings: How many were run; ``unaudited``: of how many nothing could be said.
        faults: How many show which fault: ``wrong value``, ``lost precision``, ``NaN or infinity``, ``shape``,
            ``refused``, ``crashed``, ``hung``.
    """

    kind: str
    side: str
    settings: int
    unaudited: int
    faults: Mapping[str, int]

    @property
    def audited(self) -> int:
        """Count the settings whose numbers were audited."""
        return self.settings - self.unaudited - sum(self.faults.get(one, 0) for one in _FAILED)

    @property
    def disagrees(self) -> bool:
        """Tell whether numbers came that are not the reference's."""
        return any(one not in _FAILED for one in self.faults)


@dataclass(frozen=True)
class Finding:
    """Holds one disagreement, as small as it became.

    Attributes:
        kind: The kind; ``sides``: the columns in which the same small case shows it.
        fault: As a cell names it; ``text``: what the backend does otherwise, or its own words where it refused.
        settings: How many settings of the sweep show it, under the side where most do; ``example``: one of them, as it
            stood in the sweep.
        small: The smallest setting that still shows it; ``options``: its options.
        inputs: The classes of inputs that show it.
        computed, expected: The two numbers that the script prints; None without a script, and where it raises.
        script: For the framework alone; empty where none could be written.
        shown: Whether the script, run in the backend's own Python, printed these numbers, or raised what was refused;
            None where it was not run to its end, which says nothing.
        everywhere: Whether all backends that run the kind show it.
    """

    kind: str
    sides: tuple[str, ...]
    fault: str
    text: str
    settings: int
    example: str
    small: str
    options: Mapping[str, Any]
    inputs: tuple[str, ...]
    computed: float | None = None
    expected: float | None = None
    script: str = ""
    shown: bool | None = False
    everywhere: bool = False

    @property
    def disagrees(self) -> bool:
        """Tell whether numbers came that are not the reference's."""
        return self.fault not in _FAILED

    @property
    def shared(self) -> bool:
        """Tell whether it is a fault of what all backends share (Keras' own code above them), or of the reference."""
        return self.everywhere and self.disagrees


@dataclass(frozen=True, repr=False)
class Atlas(Result, listing="surveying.listing", name="atlas"):
    """Holds what a survey found: printed, it is a table of kinds and backends, and each disagreement below it.

    Attributes:
        level: ``quick`` or ``full``; ``made``: when, as an ISO date; ``seconds``: how long it took.
        machine: Processor, its features that change arithmetic, system, and Python.
        sides: The columns.
        cells: A kind under a backend each.
        findings: The disagreements, then what was refused, crashed or hung.
        settings: How many settings there are for the backends that ran; ``audits``: how many outputs were audited;
            ``resumed``: how many of these by a sweep before, whose log was there; ``covered``: how many pairs
            (triples in ``full``) of options' values stand together in one of them, which are all that can.
        unswept: Why a kind is not in the sweep, by kind.

    >>> import cnnlens
    >>> cnnlens.atlas(["Dense"], backends=["reference"]).agree
    True
    """

    level: str
    made: str
    seconds: float
    machine: Mapping[str, Any]
    sides: tuple[Side, ...]
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]
    settings: int
    audits: int
    resumed: int
    covered: int
    unswept: Mapping[str, str]

    def __repr__(self) -> str:
        wrong = sum(one.disagrees for one in self.findings)
        kinds = len({cell.kind for cell in self.cells})
        return (
            f"<Atlas {self.level}: {kinds} kind{'s' * (kinds != 1)}, {self.settings:,} settings under "
            f"{', '.join(side.label for side in self.sides)}; {wrong} disagreement{'s' * (wrong != 1)}>"
        )

    @property
    def could_audit(self) -> bool:
        """Tell whether any numbers came that could be audited: where all is refused or crashed, nothing was shown."""
        return any(cell.audited for cell in self.cells)

    @property
    def agree(self) -> bool:
        """Tell whether every number that came is the reference's, to rounding."""
        return not any(one.disagrees for one in self.findings)
