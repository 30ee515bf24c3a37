"""A data set's feature maps on disk: ``cnnlens record`` against the best loop by hand, and against a bare write.

Whole processes, the framework's start counted on both sides. The loops leave the same canonical arrays in
memory-mapped ``.npy`` files; ``record`` has checksums and can be gone on with besides. On disk all sides end when
everything is on the disk (``fsync``); in memory (``/dev/shm``, where there is one) nobody waits for a disk. Each side
runs once before, apart, for its arrays to be compared and its memory to be measured.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import NAMES, Case, case
from benchmarks.harness import BACKENDS, Options, Ran, Report, Row, cnnlens, in_turn, output, peer, seconds, watched
from cnnlens.recording.recording import Recording

CASES = (*NAMES, *BACKENDS)
GOAL = 0.8
_MEMORY = 1.5  # GB over the framework's own
_COUNTS = {"sample": 60_000, "MobileNetV2": 4_000}
_ROUNDS = 3


def run(options: Options, report: Report) -> None:
    """Every case under every backend, on disk and in memory."""
    report.found = {}
    cases = [name for name in NAMES if name in options.names] or NAMES
    backends = [name for name in BACKENDS if name in options.names] or BACKENDS
    rounds = 1 if options.small else _ROUNDS
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
        for name in cases:
            one = case(name, 300 if options.small else _COUNTS[name], Path(folder))
            for backend in backends:
                for place in _places(one):
                    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-", dir=place) as room:
                        where = "in memory" if place == "/dev/shm" else "on disk"
                        title = f"{backend}, {name}, {where}"
                        report.found[title] = _measured(one, backend, Path(room), title, rounds, report)


def _places(one: Case) -> list[str]:
    """The temporary folder, and memory where there is enough of it."""
    memory = Path("/dev/shm")
    needed = 2 * one.count * _bytes(one)
    able = memory.is_dir() and min(shutil.disk_usage(memory).free, _available()) > needed
    return [tempfile.gettempdir(), *(["/dev/shm"] if able else [])]


def _available() -> int:
    import psutil

    return psutil.virtual_memory().available


def _bytes(one: Case) -> int:
    """Bytes of an image's feature maps."""
    import cnnlens as package

    network = package.open(one.model)
    return sum(4 * int(np.prod(network[name].output_shape[1:])) for name in one.layers.split(","))


def _measured(one: Case, backend: str, room: Path, title: str, rounds: int, report: Report) -> dict[str, Any]:
    run, hand, bare = room / "run.zarr", room / "by-hand", room / "bare"
    ours = cnnlens("record", *one.told(backend, "cpu"), "-o", run)
    loops: list[str] = json.loads(output(peer("keras_dataset", "names", *one.by_hand), backend))
    if one.name != "sample":
        loops = [loop for loop in loops if "without Keras" not in loop]
    size = one.count * _bytes(one)
    sides = {"cnnlens": ours, **{loop: peer("keras_dataset", "record", *one.by_hand, loop, hand) for loop in loops}}
    sides["a bare write"] = peer("bare_write", bare, size, one.batch * _bytes(one))

    def emptied(task: Callable[[list[str], str], Any]) -> dict[str, Callable[[], Any]]:
        def apart(command: list[str]) -> Any:
            for folder in (run, hand, bare):
                shutil.rmtree(folder, ignore_errors=True)
            for folder in (hand, bare):
                folder.mkdir()
            os.sync()  # what the side before has left behind
            return task(command, backend)

        return {name: lambda command=command: apart(command) for name, command in sides.items()}

    held: dict[str, Ran] = {}
    ours_, *others = emptied(watched).items()
    held[ours_[0]] = ours_[1]()
    sample_of = _few(Recording.open(run), one)
    for name, side in others:
        held[name] = side()
        if name in loops:
            _compare(sample_of, {layer: np.load(hand / f"{layer}.npy", "r") for layer in one.layers.split(",")}, title)
    floor = watched(peer("keras_dataset", "first", *one.by_hand), backend)
    taken = in_turn(emptied(seconds), rounds, warm=False)
    for folder in (run, hand, bare):
        shutil.rmtree(folder, ignore_errors=True)
    own = [loop for loop in loops if "without Keras" not in loop]
    best = min(own, key=lambda loop: statistics.median(taken[loop]))
    named = f"{title}: {one.count:,} images"
    report.row(Row.of(f"{named}, {best}", taken["cnnlens"], taken[best], "s", GOAL))
    foreign = [loop for loop in loops if loop not in own]
    if foreign:
        fastest = min(foreign, key=lambda loop: statistics.median(taken[loop]))
        report.row(Row.of(f"{named}, {fastest}", taken["cnnlens"], taken[fastest], "s"))
    report.row(Row.of(f"{named}, bare write of {size / 1e9:.2f} GB", taken["cnnlens"], taken["a bare write"], "s"))
    report.row(Row.limit(f"{title}: memory over the framework's own", held["cnnlens"].peak - floor.peak, _MEMORY, "GB"))
    held = {name: one for name, one in held.items() if name != "a bare write"}
    return {
        "bytes": size,
        "seconds": taken,
        "memory_gb": {
            name: {"peak": one.peak, "private": one.private} for name, one in {**held, "floor": floor}.items()
        },
        "case": {name: str(value) for name, value in asdict(one).items()},
    }


def _few(recording: Recording, one: Case) -> dict[str, tuple[list[int], Any]]:
    """Some feature maps of each layer, with their places: the first, the last, and one of each batch's end between."""
    places = sorted({0, min(one.batch, one.count) - 1, one.count // 2, one.count - 1})
    return {name: (places, np.stack([recording[name][at] for at in places])) for name in one.layers.split(",")}


def _compare(ours: dict[str, tuple[list[int], Any]], theirs: dict[str, Any], title: str) -> None:
    for name, (places, maps) in ours.items():
        other = theirs[name][places]
        if other.shape != maps.shape or not np.abs(maps - other).max() <= 1e-4 * np.abs(maps).max():
            raise AssertionError(f"{title}: the loop by hand has other maps of {name}")
