"""The rates that ``cnnlens.bench`` says against a loop timed by hand: what the measuring itself costs.

Both compute batches that are in memory already; the loop by hand in a process that stays, a bench in one of its own
each time, as it always is.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np

import cnnlens
from benchmarks.cases import case
from benchmarks.harness import BACKENDS, Options, Report, Row, Side, in_turn, peer

GOAL = 0.95
_COUNT, _ROUNDS, _SECONDS = 2560, 4, 6.0
_SAID = {"copy": "all maps on the host", "forward": "forward alone"}


def run(options: Options, report: Report) -> None:
    """Two rows a backend."""
    report.found = {}
    count, rounds, long = (256, 1, 0.5) if options.small else (_COUNT, _ROUNDS, _SECONDS)
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
        one = case("sample", count, Path(folder))
        images = np.moveaxis(np.load(one.images), -1, 1)[: one.batch].astype(np.float32) / 255

        def said(backend: str) -> dict[str, float]:
            """Seconds that all images take, by what bench says."""
            (row,) = cnnlens.bench(
                one.model, images, backends=[backend], batches=[one.batch], precisions=["native"],
                layers=one.layers.split(","), seconds=long, progress=None,
            ).rows  # fmt: skip
            if row.error:
                raise RuntimeError(f"{backend}: {row.error}")
            return {stage: one.count / (row.rate(stage) or 0) for stage in _SAID}

        for backend in options.names or BACKENDS:
            with Side(peer("keras_dataset", "timed", *one.by_hand), backend) as hand:

                def timed(hand: Side = hand) -> dict[str, float]:
                    return {way: statistics.median(hand.ask(way) for _ in range(3)) for way in hand.ready}

                taken = in_turn({"bench": lambda backend=backend: said(backend), "hand": timed}, rounds, warm=False)
                ways = [way for way in hand.ready if way != "forward" and "Keras" not in way]
            report.found[backend] = taken
            best = min(ways, key=lambda way: statistics.median(turn[way] for turn in taken["hand"]))
            for stage, way in (("copy", best), ("forward", "forward")):
                ours = [one.count / turn[stage] for turn in taken["bench"]]
                theirs = [one.count / turn[way] for turn in taken["hand"]]
                report.row(Row.of(f"{backend}, {_SAID[stage]}: {way}", ours, theirs, "images/s", GOAL))
