"""What an adapter costs: its images a second against the best loop written by hand, and the time to open a model.

Each framework is measured against itself, on this machine's CPU, all ways in one process and in turn.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import BACKENDS, Options, Report, Row, in_turn, output, peer
from cnnlens import sample

PEER = "keras_extraction"
GOAL = 0.95
# Layers, images a batch, images, rounds; and how many times the rate of Model.predict is asked for, which under JAX is
# a good loop itself with less to do, for it transposes nothing.
CASES = {
    "the sample": ("conv2d,conv2d_1", 256, 2560, 12, {"keras-tensorflow": 3.0, "keras-torch": 3.0}),
    "MobileNetV2": ("Conv1,block_6_expand,block_16_project", 16, 32, 12, {}),
}


def extraction(backend: str, model: Path, case: str, small: bool) -> Iterator[Row]:
    """The adapter against every loop by hand (the best one counts) and against ``Model.predict`` a batch."""
    layers, batch, count, rounds, predicted = CASES[case]
    said = output(peer(PEER, backend, model, layers, batch, batch if small else count, 1 if small else rounds), backend)
    found: dict[str, list[float]] = json.loads(said.splitlines()[-1])
    ours, predict = found.pop("adapter"), found.pop("predict")
    foreign = [way for way in found if "without Keras" in way]
    best = max((way for way in found if way not in foreign), key=lambda way: statistics.median(found[way]))
    yield Row.of(f"{backend}, {case}: {best}", ours, found[best], "images/s", GOAL)
    yield Row.of(f"{backend}, {case}: predict a batch", ours, predict, "images/s", predicted.get(backend))
    for way in foreign:
        yield Row.of(f"{backend}, {case}: {way}", ours, found[way], "images/s", GOAL)


def loading(model: Path, runs: int) -> Row:
    """From a file to a session under keras-jax, against keras-tensorflow, processes of their own in turn."""
    sides = {
        name: lambda name=name: float(output(peer(PEER, "load", name, model), name).splitlines()[-1])
        for name in ("keras-jax", "keras-tensorflow")
    }
    taken = in_turn(sides, runs, warm=False)
    return Row.of(
        f"{model.stem} opens under keras-jax, against TensorFlow", taken["keras-jax"], taken["keras-tensorflow"], "s", 2
    )


def run(options: Options, report: Report) -> None:
    """Every row."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("MobileNetV2", "ResNet50"):
            output(peer("keras_loops", "save", name, 224, folder))
        for backend in options.names or BACKENDS:
            for case, model in (("the sample", sample.MODEL), ("MobileNetV2", Path(folder) / "MobileNetV2.keras")):
                for row in extraction(backend, model, case, options.small):
                    report.row(row)
        if not options.names:
            report.row(loading(Path(folder) / "ResNet50.keras", 1 if options.small else 3))
