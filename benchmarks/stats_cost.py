"""What statistics of a data set cost: ``cnnlens.stats`` against extraction alone, and whether they are NumPy's.

Both are warm: a worker that has compiled, and a loop that has. Extraction is the best loop by hand, whose maps become
canonical NumPy arrays and are dropped. What the statistics say is held against NumPy in float64 over a recording of the
same maps.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import cnnlens
from benchmarks.cases import Case, case
from benchmarks.harness import BACKENDS, Options, Report, Row, Side, in_turn, peer
from cnnlens.statistics.layer import QUANTILES

GOAL = 1.1
_EXACT, _COUNT, _STORED, _ROUNDS = 1e-6, 10_000, 2_000, 6


def run(options: Options, report: Report) -> None:
    """Rows of each backend."""
    report.found = {}
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
        one = case("sample", 600 if options.small else _COUNT, Path(folder))
        few = case("sample", 300 if options.small else _STORED, Path(folder))
        for backend in options.names or BACKENDS:
            with Side(peer("keras_dataset", "rounds", *one.by_hand), backend) as hand:
                ways = [way for way in hand.ready if way != "forward"]
                sides = {way: lambda way=way, hand=hand: hand.ask(way) for way in ways}
                sides["cnnlens"] = lambda backend=backend: _seconds(one, backend)
                taken = in_turn(sides, 1 if options.small else _ROUNDS)
            report.found[backend] = taken
            best = min((way for way in ways if "Keras" not in way), key=lambda way: statistics.median(taken[way]))
            for way in (best, *(way for way in ways if "Keras" in way)):
                goal = GOAL if way == best else None
                name = f"{backend}: statistics of {one.count:,} images, {way}"
                report.row(Row.of(name, taken["cnnlens"], taken[way], "s", goal))
            for row in _exact(few, backend):
                report.row(row)


def _stats(one: Case, backend: str) -> Any:
    layers = one.layers.split(",")
    return cnnlens.stats(one.model, str(one.images), backend=backend, layers=layers, scale="0..1", progress=None)


def _seconds(one: Case, backend: str) -> float:
    start = time.perf_counter()
    _stats(one, backend)
    return time.perf_counter() - start


def _exact(one: Case, backend: str) -> list[Row]:
    """How far the statistics are from NumPy's on the stored maps, and the quantiles from theirs."""
    layers = one.layers.split(",")
    found = _stats(one, backend)
    recording = cnnlens.record(
        one.model, str(one.images), backend=backend, layers=layers, scale="0..1", progress=None
    )  # fmt: skip
    apart, beyond, count = 0.0, 0, 0
    for name in layers:
        maps = np.asarray(recording[name][:])
        values = maps.swapaxes(0, 1).reshape(maps.shape[1], -1)
        theirs = {
            "mean": values.mean(1, dtype=np.float64), "variance": values.var(1, dtype=np.float64),
            "min": values.min(1), "max": values.max(1), "zeros": (values == 0).mean(1),
        }  # fmt: skip
        for what, expected in theirs.items():
            mine = getattr(found[name], what)
            apart = max(apart, float((np.abs(mine - expected) / np.maximum(np.abs(expected), 1e-30)).max()))
        ordered = np.sort(values, axis=1)
        for share in QUANTILES:
            for channel, value in zip(ordered, found[name].quantile(share), strict=True):
                low, high = (np.searchsorted(channel, value, side) / channel.size for side in ("left", "right"))
                beyond += int(max(low - share, share - high) > found[name].rank_error + 1 / channel.size)
                count += 1
    return [
        Row.limit(f"{backend}: furthest from NumPy on {one.count:,} stored maps", apart, _EXACT, "relative"),
        Row.limit(f"{backend}: quantiles beyond their stated error, one in 100 may be", beyond / count, 0.01, "share"),
    ]
