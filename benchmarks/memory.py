"""The peak of memory of each command, its workers counted in, against what Python or the frameworks hold by themselves.

A command that runs a framework may have 1.5 GB over what a plain script holds that imports the framework, loads the
model and runs a batch; where it runs several at once, over their sum.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.cases import Case, case
from benchmarks.harness import BACKENDS, Options, Report, Row, cnnlens, peer, watched
from cnnlens import sample

_MOST = 1.5  # GB
_COUNT = 2_000
_VIEWING = ("summary", "verify", "kernels", "hist", "maps", "export", "layouts", "diff")
_RUNNING = ("record", "stats", "check", "bench", "convert")
COMMANDS = (*_VIEWING, *_RUNNING)


def _viewing(command: str, folder: Path) -> list[str]:
    model, picture = sample.MODEL, sample.IMAGES / "9-ankle-boot.png"
    given: dict[str, list[object]] = {
        "summary": [model], "verify": [model], "kernels": [model, "-o", folder / "a.png"],
        "hist": [model, "--all", "-o", folder / "a.png"], "layouts": ["Conv2D"], "diff": [model, model],
        "maps": [model, "--image", picture, "--layer", "conv2d_1", "-o", folder / "a.png"],
        "export": [model, "--layers", "conv2d", "-o", folder / "a.npz"],
    }  # fmt: skip
    return cnnlens(command, *given[command])


def _running(command: str, one: Case, folder: Path) -> dict[str, tuple[list[str], tuple[str, ...]]]:
    """What is run, and which frameworks it runs at once."""
    given: list[object] = [one.model, "--inputs", one.images]
    three = ("--backends", ",".join(BACKENDS))
    if command == "check":
        return {"check": (cnnlens("check", *given, *three), BACKENDS)}
    if command == "bench":
        timed = ("--batch", "256", "--layers", one.layers, "--seconds", "5", "--precision", "native")
        return {"bench": (cnnlens("bench", *given, *three, *timed), BACKENDS)}
    if command == "convert":
        return {"convert": (cnnlens("convert", one.model, "-o", folder / "made.py"), ("keras-torch",))}
    place = {"record": ("-o", folder / "run.zarr", "--overwrite"), "stats": ()}[command]
    return {
        f"{command}, {backend}": (cnnlens(command, *one.told(backend, "cpu"), *place), (backend,))
        for backend in BACKENDS
    }


def run(options: Options, report: Report) -> None:
    """A row a command, and a backend where it takes one."""
    report.found = {}
    wanted = options.names or COMMANDS
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as name:
        folder = Path(name)
        if set(wanted) & set(_VIEWING):
            bare = watched([sys.executable, "-c", "import numpy, matplotlib.pyplot"])
            for command in wanted:
                if command in _VIEWING:
                    ours = watched(_viewing(command, folder), codes=(0, 1))
                    row = Row.of(f"{command}: importing NumPy and Matplotlib", [ours.peak], [bare.peak], "GB")
                    report.row(row)
        if not set(wanted) & set(_RUNNING):
            return
        one = case("sample", 100 if options.small else _COUNT, folder)
        own = {name: watched(peer("keras_dataset", "first", *one.by_hand), name) for name in BACKENDS}
        for command in wanted:
            for title, (line, frameworks) in (_running(command, one, folder) if command in _RUNNING else {}).items():
                ours = watched(line, codes=(0, 1))
                floor = sum(own[framework].peak for framework in frameworks)
                report.found[title] = {"peak": ours.peak, "private": ours.private, "frameworks": floor}
                report.row(Row.limit(f"{title}: memory over the frameworks' own", ours.peak - floor, _MOST, "GB"))
