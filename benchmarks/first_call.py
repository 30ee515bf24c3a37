"""A cold call: ``cnnlens record`` of 256 images against the floor, which imports, loads and compiles alone.

Whole processes. The floor is a plain script of the framework's own, which runs one batch and keeps nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.cases import case
from benchmarks.harness import BACKENDS, Options, Report, Row, cnnlens, in_turn, peer, seconds

GOAL = 1.2
_COUNT = 256
_ROUNDS = 5


def run(options: Options, report: Report) -> None:
    """A row a backend."""
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
        one = case("sample", _COUNT, Path(folder))
        for backend in options.names or BACKENDS:
            floor = peer("keras_dataset", "first", *one.by_hand)

            def ours(backend: str = backend) -> float:
                shutil.rmtree(f"{folder}/run.zarr", ignore_errors=True)
                return seconds(cnnlens("record", *one.told(backend, "cpu"), "-o", f"{folder}/run.zarr"), backend)

            sides = {"ours": ours, "floor": lambda backend=backend, floor=floor: seconds(floor, backend)}
            taken = in_turn(sides, 1 if options.small else _ROUNDS)
            name = f"{backend}: {_COUNT} images, cold, against its own import and compile"
            report.row(Row.of(name, taken["ours"], taken["floor"], "s", GOAL))
