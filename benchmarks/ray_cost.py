"""Recording and statistics by ``--engine ray`` on a local cluster of two workers against the same on one machine.

Whole commands, the cluster's start counted; beside it stands what of that is Ray's own, a cluster that starts, answers
once by each worker and ends. Both commands give the same bits, which is checked: the checksums of every chunk and every
number of the statistics.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cases import case
from benchmarks.harness import Options, Report, Row, cnnlens, in_turn, output, seconds
from cnnlens.recording.format import LOG, read_log

COMMANDS = ("record", "stats")
GOAL = 1.3
_ALONE = """
import os, secrets, sys
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
import ray

class Actor:
    def answer(self):
        return 0

workers = int(sys.argv[1])
ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[2])
actors = [ray.remote(num_cpus=1)(Actor).remote() for _ in range(workers)]
ray.get([one.answer.remote() for one in actors])
ray.shutdown()
"""
_BACKEND, _COUNT, _ROUNDS, _WORKERS = "keras-jax", 60_000, 2, 2


def run(options: Options, report: Report) -> None:
    """A row a command."""
    report.found = {}
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as name:
        folder = Path(name)
        one = case("sample", 600 if options.small else _COUNT, folder)
        engines: dict[str, tuple[object, ...]] = {"one machine": (), "ray": ("--engine", "ray", "--workers", _WORKERS)}
        for command in options.names or COMMANDS:
            given: dict[str, list[str]] = {}
            for engine, more in engines.items():
                place = ("-o", folder / f"{engine}.zarr", "--overwrite") if command == "record" else ("--json",)
                given[engine] = cnnlens(command, *one.told(_BACKEND, "cpu"), *more, *place)
            said = {engine: output(line) for engine, line in given.items()}
            same = _logged(folder) if command == "record" else _numbers(said)
            if same["one machine"] != same["ray"]:
                raise AssertionError(f"{command}: other bits by ray than on one machine")
            given["ray alone"] = [sys.executable, "-W", "ignore", "-c", _ALONE, str(_WORKERS), str(folder / "ray")]
            sides = {engine: lambda line=line: seconds(line) for engine, line in given.items()}
            taken = in_turn(sides, 1 if options.small else _ROUNDS, warm=False)
            report.found[command] = taken
            title = f"{command} of {one.count:,} images by ray, {_WORKERS} workers, against one machine"
            report.row(Row.of(title, taken["ray"], taken["one machine"], "s", GOAL))
            alone = f"of it Ray's own start and end with {_WORKERS} workers, against the same"
            report.row(Row.of(alone, taken["ray alone"], taken["one machine"], "s"))
            for engine in engines:
                shutil.rmtree(folder / f"{engine}.zarr", ignore_errors=True)


def _logged(folder: Path) -> dict[str, Any]:
    """The checksums of all chunks, by engine."""
    found: dict[str, Any] = {}
    for engine in ("one machine", "ray"):
        with open(folder / f"{engine}.zarr" / LOG, "rb") as stream:
            found[engine] = read_log(stream)[1]
    return found


def _numbers(said: dict[str, str]) -> dict[str, Any]:
    """The layers of what ``stats --json`` printed, by engine."""
    return {engine: json.loads(text)["layers"] for engine, text in said.items()}
