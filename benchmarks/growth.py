"""How costs grow: images x 1, 4, 16, layers x 1, 4, 16 and width x 1, 2, 4, with the exponent fitted.

Times are of calls in a process whose worker is warm and has compiled, so that starting a framework is not in them; of
images, what a call takes with one image is taken off besides. Width is the number of a convolution's filters: what it
reads stays, so that its arithmetic and its feature maps grow as its filters do. ``peak`` holds whole commands with
one and sixteen times the images side by side.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cnnlens
from benchmarks import harness
from benchmarks.cases import case
from benchmarks.harness import Options, Report, Row, in_turn, output, peer, watched
from cnnlens.benching.rows import interval

Array = NDArray[np.float32]

GROWTHS = ("images", "layers", "width", "peak")
GOAL, _MEMORY = 1.05, 1.1
_BACKEND, _ROUNDS = "keras-jax", 5
_FACTORS = {"images": (1, 4, 16), "layers": (1, 4, 16), "width": (1, 2, 4)}
_IMAGES = {"record": 1500, "stats": 1500, "audit": 60}  # what takes about half a second


def run(options: Options, report: Report) -> None:
    """A row a command and growth."""
    report.found = {}
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as name:
        folder = Path(name)
        for growth in options.names or GROWTHS:
            if growth == "peak":
                _memory(folder, options.small, report)
                continue
            for command, images in _IMAGES.items():
                report.found[f"{command}, {growth}"] = found = _grown(
                    growth, command, 4 if options.small else images, 1 if options.small else _ROUNDS, folder
                )
                exponents = found["exponents"]
                middle, spread = statistics.median(exponents), interval(exponents)
                report.row(Row(f"{command} grows with {growth}", middle, 1, "exponent", middle, GOAL, spread))


def _model(growth: str, factor: int, folder: Path) -> Path:
    layers, filters = 4 * factor if growth == "layers" else 4, 16 * factor if growth == "width" else 8
    if growth == "width":
        layers = 1
    path = folder / f"{layers}-{filters}.keras"
    if not path.exists():
        output(peer("keras_loops", "chain", layers, filters, path), _BACKEND)
    return path


def _grown(growth: str, command: str, images: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds of each round by factor, and the exponents that fit them."""
    factors = _FACTORS[growth]
    most = images * (max(factors) if growth == "images" else 1)
    inputs = np.random.default_rng(0).random((most, 8, 24, 20), np.float32)
    runs: dict[str, Callable[[], float]] = {}
    for factor in factors:
        network = cnnlens.open(_model(growth, factor, folder))
        runs[str(factor)] = _COMMANDS[command](network, inputs[: images * factor] if growth == "images" else inputs)
    if growth == "images":
        runs["one image"] = _COMMANDS[command](cnnlens.open(_model(growth, 1, folder)), inputs[:1])
    taken = in_turn(runs, rounds)
    start = taken.get("one image", [0.0] * rounds)
    net = [[max(taken[str(factor)][turn] - start[turn], 1e-6) for factor in factors] for turn in range(rounds)]
    logs = np.log(factors)
    middle = np.log([statistics.median(column) for column in zip(*net, strict=True)])
    return {
        "seconds": taken,
        "exponents": [float(np.polyfit(logs, np.log(times), 1)[0]) for times in net],
        "step_by_step": [float((b[1] - a[1]) / (b[0] - a[0])) for a, b in pairwise(zip(logs, middle, strict=True))],
    }


def _timed(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _record(network: cnnlens.Network, inputs: Array) -> Callable[[], float]:
    return partial(_timed, lambda: cnnlens.record(network, inputs, backend=_BACKEND, scale="none", progress=None))


def _stats(network: cnnlens.Network, inputs: Array) -> Callable[[], float]:
    return partial(_timed, lambda: cnnlens.stats(network, inputs, backend=_BACKEND, scale="none", progress=None))


def _audit(network: cnnlens.Network, inputs: Array) -> Callable[[], float]:
    recording = cnnlens.record(
        network, inputs, backend=_BACKEND, precision="strict", scale="none", progress=None
    )  # fmt: skip
    return partial(_timed, lambda: cnnlens.check(network, recordings=[recording], progress=None))


_COMMANDS: Mapping[str, Callable[[cnnlens.Network, Array], Callable[[], float]]] = {
    "record": _record, "stats": _stats, "audit": _audit,
}  # fmt: skip


def _memory(folder: Path, small: bool, report: Report) -> None:
    few, many = (case("sample", count, folder) for count in ((64, 256) if small else (2_000, 32_000)))
    for command, place in (("record", ("-o", folder / "run.zarr", "--overwrite")), ("stats", ())):
        of_few, of_many = (
            watched(harness.cnnlens(command, *one.told(_BACKEND, "cpu"), *place), _BACKEND).peak for one in (few, many)
        )
        name = f"memory of {command}: {many.count:,} images, {few.count:,}"
        report.row(Row.of(name, [of_many], [of_few], "GB", _MEMORY))
