"""What a bench measured: a row a configuration and batch, its times round by round, and what follows from these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cnnlens.checking import Verdict

__all__ = ["LEAST", "STAGES", "BenchRow", "Exactness", "Measurements", "Timed", "Undecided", "interval"]

#: How far a run goes: outputs alone are computed; the wanted feature maps too; these are copied to the host, in
#: canonical axes; these are written to files. Each stage holds all before it.
STAGES = ("forward", "capture", "copy", "write")

LEAST = 6  # rounds: of fewer, all of one sign happen by chance more often than once in twenty


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Bound the median that ``values`` are drawn around, with a confidence of 95 %: the order statistics that a
    binomial count of one half leaves. Of fewer than six values all there are.

    >>> interval([3.0, 1.0, 2.0])
    (1.0, 3.0)
    >>> interval([float(value) for value in range(1, 13)])
    (3.0, 10.0)
    """
    ordered, count = sorted(values), len(values)
    left, chance = 0, 0.0
    while left < count // 2:
        chance += math.comb(count, left) / 2.0**count
        if chance > 0.025:
            break
        left += 1
    left = max(left - 1, 0)
    return ordered[left], ordered[count - 1 - left]


@dataclass(frozen=True)
class Timed:
    """Holds what a batch took, in seconds: one number a round, the median of that round's runs.

    Attributes:
        seconds: Of each round in which it was timed.
        rounds: Which these were: what is slow is not timed in all.

    >>> Timed((0.25, 0.2, 0.5), (0, 1, 4)).median
    0.25
    """

    seconds: tuple[float, ...]
    rounds: tuple[int, ...]

    @cached_property
    def median(self) -> float:
        """Give the median of the rounds."""
        return median(self.seconds)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Bound that median with a confidence of 95 %; of fewer than six rounds, give the least and the most."""
        return interval(self.seconds)

    @property
    def spread(self) -> float:
        """Give half the width of the interval, as a part of the median."""
        low, high = self.interval
        return (high - low) / 2 / self.median


@dataclass(frozen=True)
class Exactness:
    """Says how exact the feature maps of a configuration are, by the audit of a small batch of all its layers.

    Attributes:
        layer: The first layer that is not rounding; without one, the layer with the fewest effective bits.
        bits: Effective bits of that layer; infinite where all are exact.
        verdict: On that layer.
        agrees: Whether every layer has what the precision asks for.
        says: The run in one sentence, as ``check`` has it.
        finer: The layers that were computed with more bits than was asked for.
    """

    layer: str
    bits: float
    verdict: Verdict
    agrees: bool
    says: str
    finer: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchRow:
    """Says what one backend, device, precision and batch took.

    Attributes:
        backend, device, precision, batch: As asked for.
        ran_on: The device that it really ran on; empty where nothing ran.
        versions: What computed.
        load: Seconds until a fresh process had its framework imported and the network loaded.
        first: Seconds of the first run of this batch with all feature maps, compiled where the framework compiles.
        stages: What a batch took in each stage that was measured; see ``STAGES``.
        bytes: Of the feature maps of a batch, on the host.
        host_peak, device_peak: Bytes that its process, and its framework on the device, had held at most when this
            batch had run once in every stage, smaller batches before it; None where nobody says.
        exactness: Of this backend, device and precision; None where it was not audited.
        error: Why it did not run, or not to the end, in one line.
    """

    backend: str
    device: str
    precision: str
    batch: int
    ran_on: str = ""
    versions: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    load: float | None = None
    first: float | None = None
    stages: Mapping[str, Timed] = field(default_factory=lambda: dict[str, Timed]())
    bytes: int = 0
    host_peak: int | None = None
    device_peak: int | None = None
    exactness: Exactness | None = None
    error: str = ""

    @property
    def label(self) -> str:
        """Name backend, device and precision."""
        return f"{self.backend} {self.device} {self.precision}"

    def rate(self, stage: str) -> float | None:
        """Count images a second in a stage, by the median; None where it was not measured."""
        timed = self.stages.get(stage)
        return None if timed is None else self.batch / timed.median

    def bandwidth(self, stage: str) -> float | None:
        """Count bytes of feature maps a second in ``copy`` or ``write``; None where it was not measured."""
        timed = self.stages.get(stage)
        return None if timed is None else self.bytes / timed.median


class Undecided(NamedTuple):
    """Says that ``rounds`` rounds of both cannot tell two rows apart: they are too few, or the interval of ``faster``'s
    time over ``slower``'s holds 1; without a round of both there is none."""

    stage: str
    faster: BenchRow
    slower: BenchRow
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class Measurements:
    """Holds what a bench measured.

    Attributes:
        model, sha256: The file, and its hash.
        inputs: What was run, in words.
        layers: Names of the feature maps that were captured.
        rows: A row a backend, device, precision and batch, in the order asked for.
        rounds: How many rounds were begun.
        interrupted: Whether Ctrl-C ended it; the rows hold what was measured by then.
        audited: How many inputs the audits looked at.
    """

    model: str
    sha256: str
    inputs: str
    layers: tuple[str, ...]
    rows: tuple[BenchRow, ...]
    rounds: int
    interrupted: bool
    audited: int

    @property
    def agree(self) -> bool:
        """Tell whether every configuration that was audited has, in every layer, what its precision asks for."""
        return all(row.exactness is None or row.exactness.agrees for row in self.rows)

    @property
    def ran(self) -> bool:
        """Tell whether anything was measured."""
        return any(row.stages for row in self.rows)

    @property
    def many_devices(self) -> bool:
        """Tell whether more than one device was asked for, so that rows have to say which is theirs."""
        return len({row.device for row in self.rows}) > 1

    def undecided(self, stage: str) -> list[Undecided]:
        """List neighbours in speed, of the same batch, that the rounds cannot tell apart.

        Rounds are interleaved, so that two rows of one round had the machine in the same state: what is looked at is
        one row's time over the other's, round by round. They are told apart where 1 is outside of the interval in which
        the median of that ratio lies with a confidence of 95 %, which takes six rounds at least.
        """
        found: list[Undecided] = []
        for batch in dict.fromkeys(row.batch for row in self.rows):
            rows = [row for row in self.rows if row.batch == batch and stage in row.stages]
            rows.sort(key=lambda row: row.stages[stage].median)
            for faster, slower in pairwise(rows):
                one, other = (dict(zip(row.stages[stage].rounds, row.stages[stage].seconds, strict=True))
                              for row in (faster, slower))  # fmt: skip
                ratios = [one[number] / other[number] for number in one if number in other]
                low, high = interval(ratios) if ratios else (0.0, math.inf)
                if len(ratios) < LEAST or low <= 1 <= high:
                    found.append(Undecided(stage, faster, slower, low, high, len(ratios)))
        return found
