"""What an adapter costs: its images a second against the best loop written by hand, and the time to open a model.

``python -m benchmarks.extraction [BACKEND …]``. Each framework is measured against itself, on this machine's CPU, all
ways in one process and in turn; a ratio is the median of the rounds' own ratios, so that a machine whose speed drifts
moves both sides.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.speed import PEERS, ROOT, Row, environment
from cnnlens import sample

BACKENDS = ("keras-tensorflow", "keras-jax", "keras-torch")
PEER = f"{PEERS}.keras_extraction"
# Model, layers, images a batch, images, rounds.
CASES = {
    "the sample": ("conv2d,conv2d_1", 256, 2560, 12),
    "MobileNetV2": ("Conv1,block_6_expand,block_16_project", 16, 32, 12),
}
# Under JAX predict is a good loop itself and has less to do, for it transposes nothing; its row has no goal.
PREDICT_GOALS = {"keras-tensorflow": 2.0, "keras-torch": 2.0, "keras-jax": 0.0}


def extraction(backend: str, model: Path, case: str) -> list[Row]:
    """The adapter against every loop by hand (the best one counts) and against ``Model.predict`` a batch."""
    layers, batch, count, rounds = CASES[case]
    found = json.loads(_output([backend, str(model), layers, str(batch), str(count), str(rounds)]))
    ours, predict = found.pop("adapter"), found.pop("predict")
    foreign = [way for way in found if "without Keras" in way]
    by_hand = max((way for way in found if way not in foreign), key=lambda way: statistics.median(found[way]))
    rows = [
        _row(f"{backend}, {case}: {by_hand}", ours, found[by_hand], 0.9),
        _row(f"{backend}, {case}: predict a batch", ours, predict, PREDICT_GOALS[backend]),
    ]
    return rows + [_row(f"{backend}, {case}: {way}", ours, found[way], 0.9) for way in foreign]


def loading(model: Path, runs: int = 3) -> Row:
    """From a file to a session under keras-jax, against keras-tensorflow, processes of their own in turn."""
    seconds: dict[str, list[float]] = {"keras-jax": [], "keras-tensorflow": []}
    for _ in range(runs):
        for backend, times in seconds.items():
            times.append(float(_output(["load", backend, str(model)])))
    jax, tensorflow = (statistics.median(times) for times in seconds.values())
    return Row(f"{model.stem} opens under keras-jax, against TensorFlow", jax, tensorflow, "s", tensorflow / jax, 0.5)


def _row(name: str, ours: list[float], peer: list[float], goal: float) -> Row:
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    return Row(name, statistics.median(ours), statistics.median(peer), "images/s", ratio, goal)


def _output(arguments: list[str]) -> str:
    command = [sys.executable, "-m", PEER, *arguments]
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def run(backends: list[str] | None = None) -> list[Row]:
    """Every row, printed as it is measured."""
    rows: list[Row] = []

    def add(found: list[Row]) -> None:
        for row in found:
            print(row, flush=True)
        rows.extend(found)

    with tempfile.TemporaryDirectory() as folder:
        for name in ("MobileNetV2", "ResNet50"):
            command = [sys.executable, "-m", PEER, "save", name, folder]
            subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True)
        for backend in backends or BACKENDS:
            add(extraction(backend, sample.MODEL, "the sample"))
            add(extraction(backend, Path(folder) / "MobileNetV2.keras", "MobileNetV2"))
        add([loading(Path(folder) / "ResNet50.keras")])
    return rows


if __name__ == "__main__":
    raise SystemExit(0 if all(row.ratio >= row.goal for row in run(sys.argv[1:])) else 1)
