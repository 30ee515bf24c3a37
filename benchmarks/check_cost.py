"""What ``check`` takes: under three backends at once, against the slowest of them and the audit one after the other.

Whole commands: ``check`` itself, ``record`` under each backend as ``check`` runs it, and ``check`` of these recordings,
which starts no backend and so is the audit alone.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.cases import NAMES, case
from benchmarks.harness import BACKENDS, Options, Report, Row, cnnlens, in_turn, seconds

CASES = NAMES
GOAL = 1.3
_COUNTS = {"sample": 200, "MobileNetV2": 8}
_ROUNDS = 3


def run(options: Options, report: Report) -> None:
    """Two rows a model."""
    report.found = {}
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
        for name in options.names or CASES:
            one = case(name, 2 if options.small else _COUNTS[name], Path(folder))
            given = [one.model, "--inputs", one.images]
            runs = {backend: Path(folder, f"{name}-{backend}.zarr") for backend in BACKENDS}

            def recorded(backend: str, given: list[object] = given, runs: dict[str, Path] = runs) -> float:
                shutil.rmtree(runs[backend], ignore_errors=True)
                run = ["--backend", backend, "--precision", "strict", "-o", runs[backend]]
                return seconds(cnnlens("record", *given, *run), backend)

            sides = {backend: lambda backend=backend, record=recorded: record(backend) for backend in BACKENDS}
            together = cnnlens("check", *given, "--backends", ",".join(BACKENDS))
            alone = cnnlens("check", one.model, *runs.values())
            sides["check"] = lambda together=together: seconds(together)
            sides["audit"] = lambda alone=alone: seconds(alone)
            for side in (*BACKENDS, "audit", "check"):  # the first audit needs the first recordings
                sides[side]()
            taken = in_turn(sides, 1 if options.small else _ROUNDS, warm=False)
            report.found[name] = taken
            turns = range(len(taken["check"]))
            slowest = [max(taken[backend][turn] for backend in BACKENDS) for turn in turns]
            both = [slowest[turn] + taken["audit"][turn] for turn in turns]
            title = f"{name}, {one.count} images"
            report.row(Row.of(f"{title}: check of three, slowest backend + audit", taken["check"], both, "s", GOAL))
            report.row(Row.of(f"{title}: the audit of three, slowest backend", taken["audit"], slowest, "s"))
