"""What every measurement is made of: sides that take turns, rows that say a ratio and its goal, and a report of them.

A machine is never as fast now as it was a minute ago, so both sides of a ratio run in turn, A B B A …; the ratio is the
median of the rounds' own ratios, and its spread the interval in which that median lies with a confidence of 95 % (of
fewer than six rounds: the least and the most).
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from cnnlens.benching.rows import interval

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PEERS = "benchmarks.peers"
BACKENDS = ("keras-tensorflow", "keras-jax", "keras-torch")
RATES = ("images/s", "GB/s")  # the more, the better; of all other units less is better
_SAMPLED = 0.05  # s between two looks at a process's memory


@dataclass(frozen=True)
class Row:
    """One measurement: ``ratio`` is ``ours`` over ``peer``; with a ``goal`` it is to be at most that for times and
    sizes, at least that for rates."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    goal: float | None = None
    spread: tuple[float, float] | None = None

    @classmethod
    def of(cls, name: str, ours: Sequence[float], peer: Sequence[float], unit: str, goal: float | None = None) -> Row:
        """Make a row of both sides' figures, round by round."""
        ratios = [a / b for a, b in zip(ours, peer, strict=True)]
        spread = interval(ratios) if len(ratios) > 1 else None
        return cls(
            name, statistics.median(ours), statistics.median(peer), unit, statistics.median(ratios), goal, spread
        )

    @classmethod
    def limit(cls, name: str, ours: float, limit: float, unit: str) -> Row:
        """Make a row of one figure and what it may be at most."""
        return cls(name, float(ours), limit, unit, float(ours) / limit, 1)

    @property
    def good(self) -> bool:
        """Tell whether the goal is reached, if there is one."""
        return self.goal is None or (self.ratio >= self.goal if self.unit in RATES else self.ratio <= self.goal)

    @property
    def verdict(self) -> str:
        """Say whether the goal is reached, and ``unsure`` where the spread holds it."""
        if self.goal is None:
            return "no goal"
        unsure = self.spread is not None and self.spread[0] < self.goal < self.spread[1]
        return ("ok" if self.good else "SHORT") + (", unsure" if unsure else "")

    def __str__(self) -> str:
        spread = "" if self.spread is None else f"{self.spread[0]:.3f}..{self.spread[1]:.3f}"
        goal = "" if self.goal is None else f"{'>=' if self.unit in RATES else '<='} {self.goal:.3g}"
        return (
            f"{self.name:80} {self.ours:10.4g} {self.peer:10.4g} {self.unit:9} {self.ratio:7.3f} {spread:>14} "
            f"{goal:>8} {self.verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "bound": "at least" if self.unit in RATES else "at most", "verdict": self.verdict}


HEADING = f"{'':80} {'cnnlens':>10} {'peer':>10} {'unit':9} {'ratio':>7} {'spread':>14} {'goal':>8} verdict"


@dataclass(frozen=True)
class Options:
    """What the command line says: ``names`` of what a part is made of; ``small``: see that it runs, measure nothing."""

    names: tuple[str, ...] = ()
    device: str = "cpu"
    small: bool = False
    mutants: int | None = None
    seed: int = 10
    json: Path | None = None


@dataclass
class Report:
    """Takes what a part finds while it finds it: rows are printed as they come, other figures are kept."""

    rows: list[Row] = field(default_factory=list[Row])
    found: Any = None
    good: bool = True
    error: str | None = None
    keep: Callable[[], object] = lambda: None

    def row(self, row: Row) -> None:
        if not self.rows:
            print(HEADING, flush=True)
        print(row, flush=True)
        self.rows.append(row)
        self.good &= row.good
        self.keep()  # a part that is cut short loses no row that it had

    def to_json(self) -> dict[str, Any]:
        rows = {"rows": [row.to_json() for row in self.rows]} if self.rows else {}
        others = {"found": self.found, "error": self.error}
        return {"good": self.good, **rows, **{name: one for name, one in others.items() if one is not None}}


@dataclass(frozen=True)
class Ran:
    """What a process took: seconds, and of it and its children together the peak of memory, and of that part of it
    which no file backs, in GB."""

    seconds: float
    peak: float
    private: float


def environment(backend: str = "keras-tensorflow") -> dict[str, str]:
    """The environment of a process in which Keras runs on one framework, on the CPU unless it is set otherwise."""
    return {**os.environ, "KERAS_BACKEND": backend.removeprefix("keras-"), "TF_CPP_MIN_LOG_LEVEL": "3"}


def cnnlens(*arguments: object) -> list[str]:
    """The command line of a cnnlens command in a fresh Python."""
    return [sys.executable, "-m", "cnnlens", *map(str, arguments)]


def peer(name: str, *arguments: object) -> list[str]:
    """The command line of a peer in a fresh Python."""
    return [sys.executable, "-W", "ignore", "-m", f"{PEERS}.{name}", *map(str, arguments)]


def output(command: Sequence[str], backend: str = "keras-tensorflow", codes: Iterable[int] = (0,)) -> str:
    """Run a command to its end and give what it printed.

    Raises:
        RuntimeError: another exit code than ``codes``; with the end of what it said.
    """
    done = subprocess.run(command, env=environment(backend), cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in codes:
        raise RuntimeError(f"{' '.join(command[1:6])} …: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def seconds(command: Sequence[str], backend: str = "keras-tensorflow", codes: Iterable[int] = (0,)) -> float:
    """Seconds of a whole process."""
    start = time.perf_counter()
    output(command, backend, codes)
    return time.perf_counter() - start


def watched(command: Sequence[str], backend: str = "keras-tensorflow", codes: Iterable[int] = (0,)) -> Ran:
    """Run a command with an eye on its memory and that of its children, twenty times a second."""
    import psutil

    peaks, over = [0, 0], threading.Event()

    def look(root: psutil.Process) -> None:
        while not over.wait(_SAMPLED):
            held, private = 0, 0
            try:
                there = [root, *root.children(recursive=True)]
            except psutil.Error:  # it ends at this moment
                continue
            for one in there:
                try:
                    memory: Any = one.memory_info()
                except psutil.Error:
                    continue
                held, private = held + memory.rss, private + memory.rss - memory.shared
            peaks[:] = max(peaks[0], held), max(peaks[1], private)

    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment(backend), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        eye = threading.Thread(target=look, args=(psutil.Process(process.pid),), daemon=True)
        eye.start()
        _, said = process.communicate()
        over.set()
        eye.join()
    took = time.perf_counter() - start
    if process.returncode not in codes:
        raise RuntimeError(f"{' '.join(command[1:6])} …: exit code {process.returncode}\n{said[-2000:]}")
    return Ran(took, peaks[0] / 1e9, peaks[1] / 1e9)


def in_turn(sides: Mapping[str, Callable[[], T]], rounds: int, *, warm: bool = True) -> dict[str, list[T]]:
    """What each side gives in each round; nobody is always first."""
    for run in sides.values() if warm else ():
        run()  # files in the page cache, byte code compiled
    listed = list(sides.items())
    taken: dict[str, list[T]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name, run in listed[turn % len(listed) :] + listed[: turn % len(listed)]:
            taken[name].append(run())
    return taken


class Side:
    """A peer's process that stays: it prints one line when it is ready, and one for each line that it is given."""

    def __init__(self, command: Sequence[str], backend: str = "keras-tensorflow") -> None:
        self._command = command
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(backend), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._said, text=True,
        )  # fmt: skip
        self.ready: Any = json.loads(self._answer())

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, line: str) -> float:
        """Give it a line, and read the number that it answers."""
        stream = cast("IO[str]", self._process.stdin)
        stream.write(line + "\n")
        stream.flush()
        return float(self._answer())

    def close(self) -> None:
        cast("IO[str]", self._process.stdin).close()
        self._process.wait()
        self._said.close()

    def _answer(self) -> str:
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            code = self._process.wait()
            self._said.seek(0)
            raise RuntimeError(f"{' '.join(self._command[1:6])} …: exit code {code}\n{self._said.read()[-2000:]}")
        return line


def keep_figures(path: Path, found: Mapping[str, Any], order: Iterable[str]) -> None:
    """Write ``found`` over what a file of figures has under these names, the names in ``order``."""
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    kept |= found
    path.write_text(json.dumps({name: kept[name] for name in order if name in kept}, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """What the figures are measured on."""
    versions = {}
    names = "numpy keras tensorflow_cpu tensorflow jax torch torchvision timm torchlens ray zarr matplotlib"
    for name in names.split():
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        **_processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "commit": commit.stdout.strip() or None,
        **versions,
    }


def _processor() -> dict[str, Any]:
    """Name the processor, and which of the instructions it has that frameworks choose their arithmetic by."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return {"processor": platform.processor()}
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    lines = {name.strip(): value.strip() for name, value in lines.items()}
    flags = lines.get("flags", "").split()
    wanted = ("avx", "fma", "amx", "sve")
    return {
        "processor": lines.get("model name"),
        "flags": sorted(flag for flag in flags if flag.startswith(wanted)),
        "avx512": any(flag.startswith("avx512") for flag in flags),
        "amx": any(flag.startswith("amx") for flag in flags),
    }
