"""A data set's feature maps on disk: ``cnnlens record`` against the best loop by hand, and against a bare write.

Whole processes, the framework's start counted on both sides. The loops leave the same canonical arrays in
memory-mapped ``.npy`` files; ``record`` has checksums and can be gone on with besides. In memory (``/dev/shm``) nobody
waits for a disk; there are as many of the images as it has room for, and takes at one speed: beyond some GB a virtual
machine may get its memory from its host page by page, for which all sides wait alike. On disk all sides end when
everything is on the disk (``fsync``): page cache and disk are counted, and alike; the loop that was the best in memory
runs there alone.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import NAMES, Case, case
from benchmarks.harness import BACKENDS, Options, Ran, Report, Row, cnnlens, in_turn, output, peer, watched
from cnnlens.recording.recording import Recording

_PLACES = ("in-memory", "on-disk")
CASES = (*NAMES, *BACKENDS, *_PLACES)
GOAL = 0.8
_MEMORY = 1.5  # GB over the framework's own
_ROOM = 4 << 30  # bytes of memory that the frameworks need besides
_COUNTS = {"sample": 60_000, "MobileNetV2": 2_000}
_ROUNDS = 3
_OURS, _BARE = "cnnlens", "a bare write"


def run(options: Options, report: Report) -> None:
    """Every case under every backend, in memory and on disk."""
    report.found = {}
    cases = [name for name in NAMES if name in options.names] or NAMES
    backends = [name for name in BACKENDS if name in options.names] or BACKENDS
    places = [name for name in _PLACES if name in options.names] or _PLACES
    rounds = 1 if options.small else _ROUNDS
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
        for name in cases:
            one = case(name, 300 if options.small else _COUNTS[name], Path(folder))
            each = _bytes(one)
            for backend in backends:
                loops: list[str] = json.loads(output(peer("keras_dataset", "names", *one.by_hand), backend))
                if name != "sample":
                    loops = [loop for loop in loops if _keras_own(loop)]
                floor = watched(peer("keras_dataset", "first", *one.by_hand), backend)
                for where, (place, count) in _places(one.count, each).items():
                    if where not in places:
                        continue
                    some = case(name, count, Path(folder))
                    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-", dir=place) as room:
                        taken = _taken(some, backend, loops, count * each, Path(room), rounds)
                    title = f"{backend}, {name} x {count:,}, {where.replace('-', ' ')}"
                    loops = _rows(title, taken, floor, count * each, report)
                    report.found[title] = {
                        "bytes": count * each,
                        "floor": asdict(floor),
                        **{side: [asdict(ran) for ran in runs] for side, runs in taken.items()},
                    }


def _keras_own(loop: str) -> bool:
    return "without Keras" not in loop


def _places(count: int, each: int) -> dict[str, tuple[str, int]]:
    """Memory, with as many of the images as it takes well, and the temporary folder with all of them."""
    import psutil

    memory = Path("/dev/shm")
    free = min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) if memory.is_dir() else 0
    well = _at_one_speed(memory, min(count * each, free - _ROOM)) if free > _ROOM else 0
    fitting = max((some for tenths in range(11) if (some := count * tenths // 10) * each <= well), default=0)
    return {**({"in-memory": ("/dev/shm", fitting)} if fitting else {}), "on-disk": (tempfile.gettempdir(), count)}


def _at_one_speed(folder: Path, most: int) -> int:
    """How many bytes are written there before a GB takes twice the time of the first."""
    seconds: list[float] = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix="cnnlens-bench-") as stream:
        piece = bytes(1 << 20)
        for start in range(0, most, 1 << 30):
            begun = time.perf_counter()
            for _ in range(min((most - start) >> 20, 1 << 10)):
                stream.write(piece)
            seconds.append(time.perf_counter() - begun)
            if seconds[-1] > 2 * seconds[0]:
                return start
    return most


def _bytes(one: Case) -> int:
    """Bytes of an image's feature maps."""
    import cnnlens as package

    network = package.open(one.model)
    return sum(4 * int(np.prod(network[name].output_shape[1:])) for name in one.layers.split(","))


def _taken(one: Case, backend: str, loops: list[str], size: int, room: Path, rounds: int) -> dict[str, list[Ran]]:
    """What each side took in each round; the arrays of all are held against each other."""
    run, hand, bare = room / "run.zarr", room / "by-hand", room / "bare"
    lines = {
        _OURS: cnnlens("record", *one.told(backend, "cpu"), "-o", run),
        **{loop: peer("keras_dataset", "record", *one.by_hand, loop, hand) for loop in loops},
        _BARE: peer("bare_write", bare, size, one.batch * size // one.count),
    }
    maps: dict[str, dict[str, Any]] = {}

    def measured(side: str) -> Ran:
        for folder in (run, hand, bare):
            shutil.rmtree(folder, ignore_errors=True)
        hand.mkdir()
        bare.mkdir()
        os.sync()  # what the side before has left behind
        ran = watched(lines[side], backend)
        if side == _OURS:
            maps[side] = _few(Recording.open(run), one)
        elif side in loops:
            maps[side] = _few({name: np.load(hand / f"{name}.npy", "r") for name in one.layers.split(",")}, one)
        return ran

    taken = in_turn({side: partial(measured, side) for side in lines}, rounds, warm=False)
    for side, found in maps.items():
        for name, mine in maps[_OURS].items():
            if found[name].shape != mine.shape or not np.abs(mine - found[name]).max() <= 1e-4 * np.abs(mine).max():
                raise AssertionError(f"{backend}, {one.name}: {side} has other maps of {name}")
    return taken


def _rows(title: str, taken: dict[str, list[Ran]], floor: Ran, size: int, report: Report) -> list[str]:
    """Report what they took; the loops that were the best, of the backend and without Keras."""
    seconds = {side: [ran.seconds for ran in runs] for side, runs in taken.items()}
    loops = [side for side in seconds if side not in (_OURS, _BARE)]
    best: list[str] = []
    for own in (True, False):
        able = [loop for loop in loops if _keras_own(loop) == own]
        if able:
            best.append(min(able, key=lambda loop: statistics.median(seconds[loop])))
            report.row(Row.of(f"{title}: {best[-1]}", seconds[_OURS], seconds[best[-1]], "s", GOAL if own else None))
    report.row(Row.of(f"{title}: {_BARE} of {size / 1e9:.2f} GB", seconds[_OURS], seconds[_BARE], "s"))
    over = max(ran.peak for ran in taken[_OURS]) - floor.peak
    report.row(Row.limit(f"{title}: memory over the framework's own", over, _MEMORY, "GB"))
    return best


def _few(maps: Any, one: Case) -> dict[str, Any]:
    """Some feature maps of each layer: of the first input and the last, of a batch's end, of one between."""
    places = (0, min(one.batch, one.count) - 1, one.count // 2, one.count - 1)
    return {name: np.stack([maps[name][at] for at in places]) for name in one.layers.split(",")}
