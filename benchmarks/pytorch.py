"""Extraction by the ``pytorch`` backend against a person's loop with forward hooks, and against TorchLens.

Two processes of its own take turns, batch by batch: TorchLens wraps every
function of torch, which would slow the loops beside it. A ratio is the median of the rounds' own ratios, so that a
machine whose speed drifts moves both sides. Whatever is compared gives the same feature maps, which is checked first.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Options, Report, Row, Side, in_turn, output, peer

PEER = "torch_extraction"
# Model: layers, images a batch, rounds.
CASES = {
    "Small": ("conv1,conv2", 256, 15),
    "ResNet18": ("conv1,layer1.1.conv2,layer4.1.conv2", 8, 11),
    "MobileNetV2": ("features.0.0,features.7.conv.0.0,features.18.0", 8, 11),
}
HOOKS_GOAL, TORCHLENS_GOAL = 0.95, 3.0


def saved(model: str, path: Path) -> Path:
    """One of the models exported to a ``.pt2`` file, in a process of its own."""
    output(peer(PEER, "save", model, path))
    return path


def measure(model: str, device: str, small: bool) -> dict[str, list[float]]:
    """Images a second of each way in each round."""
    layers, batch, rounds = CASES[model]
    peers = ("plain", "torchlens") if find_spec("torchlens") else ("plain",)
    sides = [Side(peer(PEER, model, layers, batch, side, device)) for side in peers]
    owners = {way: side for side in sides for way in side.ready}
    try:
        _compare(owners)
        ways = {way: lambda way=way, side=side: batch / side.ask(way) for way, side in owners.items()}
        return in_turn(ways, 1 if small else rounds, warm=False)
    finally:
        for side in sides:
            side.close()


def _compare(owners: dict[str, Side]) -> None:
    """Every way once more than it needs to warm up, and the same feature maps from all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.npz"
        truth: list[Any] = []
        for way, side in owners.items():
            for _ in range(2):
                side.ask(way)
            side.ask(f"{way}\t{path}")
            with np.load(path) as saved:
                found = [saved[name] for name in saved]
            truth = truth or found
            for mine, theirs in zip(truth, found, strict=True):
                # A loop at native precision on a GPU is TF32, which has no more than this.
                assert np.abs(mine - theirs).max() <= 5e-3 * np.abs(mine).max(), way


def rows(model: str, rates: dict[str, list[float]], device: str) -> Iterator[Row]:
    """The adapter on a file's arrays against the best loop and each of TorchLens' ways; on a live module, which is run
    as it lies in memory, against the loop over that module."""
    loops = [way for way in rates if way.startswith("hooks")]
    best = max(loops, key=lambda way: statistics.median(rates[way]))
    pairs = [("adapter", best, HOOKS_GOAL), ("adapter, live module", "hooks", HOOKS_GOAL)]
    pairs += [("adapter", way, TORCHLENS_GOAL) for way in rates if way.startswith("TorchLens")]
    if len(pairs) == 2:
        print("TorchLens is not installed here: nothing to compare with", flush=True)
    for mine, theirs, goal in pairs:
        yield Row.of(f"{model} on {device}, {mine}: {theirs}", rates[mine], rates[theirs], "images/s", goal)


def run(options: Options, report: Report) -> None:
    """Every row, and the rates behind them: median of each way, by model."""
    report.found = medians = dict[str, Any]()
    device = {"cpu": "cpu", "gpu": "cuda"}[options.device]
    for model in options.names or CASES:
        rates = measure(model, device, options.small)
        medians[model] = {way: statistics.median(values) for way, values in rates.items()}
        for row in rows(model, rates, device):
            report.row(row)
