"""Extraction by the ``pytorch`` backend against a person's loop with forward hooks, and against TorchLens.

``python -m benchmarks.pytorch [MODEL …]``. Two processes of its own take turns, batch by batch: TorchLens wraps every
function of torch, which would slow the loops beside it. A ratio is the median of the rounds' own ratios, so that a
machine whose speed drifts moves both sides. Whatever is compared gives the same feature maps, which is checked first.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from benchmarks.speed import ROOT, Row, environment

PEER = "benchmarks.peers.torch_extraction"
# Model: layers, images a batch, rounds.
CASES = {
    "Small": ("conv1,conv2", 256, 15),
    "ResNet18": ("conv1,layer1.1.conv2,layer4.1.conv2", 8, 11),
    "MobileNetV2": ("features.0.0,features.7.conv.0.0,features.18.0", 8, 11),
}
HOOKS_GOAL, TORCHLENS_GOAL = 0.95, 3.0


class Side:
    """One of the two processes."""

    def __init__(self, model: str, side: str, device: str) -> None:
        layers, batch, _ = CASES[model]
        command = [sys.executable, "-W", "ignore", "-m", PEER, model, layers, str(batch), side, device]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ways: list[str] = json.loads(self._answer())

    def seconds(self, way: str, path: Path | None = None) -> float:
        """Seconds of one batch; with ``path`` the feature maps are saved there."""
        stream = cast("IO[str]", self._process.stdin)
        stream.write(way if path is None else f"{way}\t{path}")
        stream.write("\n")
        stream.flush()
        return float(self._answer())

    def close(self) -> None:
        cast("IO[str]", self._process.stdin).close()
        self._process.wait()

    def _answer(self) -> str:
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            raise SystemExit(f"{PEER} ended with exit code {self._process.wait()}")
        return line


def saved(model: str, path: Path) -> Path:
    """One of the models exported to a ``.pt2`` file, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", PEER, "save", model, str(path)]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)
    return path


def measure(model: str, device: str = "cpu") -> dict[str, list[float]]:
    """Images a second of each way in each round."""
    _, batch, rounds = CASES[model]
    peers = ("plain", "torchlens") if find_spec("torchlens") else ("plain",)
    sides = [Side(model, side, device) for side in peers]
    owners = {way: side for side in sides for way in side.ways}
    try:
        _compare(owners)
        rates: dict[str, list[float]] = {way: [] for way in owners}
        listed = list(owners.items())
        for turn in range(rounds):
            for way, side in listed[turn % len(listed) :] + listed[: turn % len(listed)]:  # nobody is always first
                rates[way].append(batch / side.seconds(way))
    finally:
        for side in sides:
            side.close()
    return rates


def _compare(owners: dict[str, Side]) -> None:
    """Every way once more than it needs to warm up, and the same feature maps from all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.npz"
        truth: list[Any] = []
        for way, side in owners.items():
            for _ in range(2):
                side.seconds(way)
            side.seconds(way, path)
            with np.load(path) as saved:
                found = [saved[name] for name in saved]
            truth = truth or found
            for mine, theirs in zip(truth, found, strict=True):
                # A loop at native precision on a GPU is TF32, which has no more than this.
                assert np.abs(mine - theirs).max() <= 5e-3 * np.abs(mine).max(), way


def rows(model: str, rates: dict[str, list[float]], device: str = "cpu") -> list[Row]:
    """The adapter on a file's arrays against the best loop and each of TorchLens' ways; on a live module, which is run
    as it lies in memory, against the loop over that module."""
    loops = [way for way in rates if way.startswith("hooks")]
    best = max(loops, key=lambda way: statistics.median(rates[way]))
    pairs = [("adapter", best, HOOKS_GOAL), ("adapter, live module", "hooks", HOOKS_GOAL)]
    pairs += [("adapter", way, TORCHLENS_GOAL) for way in rates if way.startswith("TorchLens")]
    if len(pairs) == 2:
        print("TorchLens is not installed here: nothing to compare with", flush=True)
    found: list[Row] = []
    for mine, theirs, goal in pairs:
        ratio = statistics.median(a / b for a, b in zip(rates[mine], rates[theirs], strict=True))
        medians = statistics.median(rates[mine]), statistics.median(rates[theirs])
        found.append(Row(f"{model} on {device}, {mine}: {theirs}", *medians, "images/s", ratio, goal))
    return found


def run(models: list[str] | None = None, device: str = "cpu") -> tuple[list[Row], dict[str, Any]]:
    """Every row, printed as it is measured, and the rates behind them: median of each way, by model."""
    found: list[Row] = []
    medians: dict[str, Any] = {}
    for model in models or CASES:
        rates = measure(model, device)
        medians[model] = {way: statistics.median(values) for way, values in rates.items()}
        for row in rows(model, rates, device):
            print(row, flush=True)
            found.append(row)
    return found, medians


if __name__ == "__main__":
    raise SystemExit(0 if all(row.ratio >= row.goal for row in run(sys.argv[1:])[0]) else 1)
