"""Opens files that lie in a process of its own, under a cap on its memory, and says what came of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import ROOT
from tests.support.once import once

MEGABYTES = 700
# No measure of speed: a file that sends the reader round in circles takes minutes or for ever.
SECONDS = 30.0

Outcomes = dict[str, tuple[str, float, str]]

# Opens each file under a cap on address space that the bombs would break, and reports what came of it.
_OPEN_ALL = f"""
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES} << 20,) * 2)
from cnnlens.errors import FileRefusedError
OPENER
results = {{}}
for name, path in json.loads(sys.stdin.read()).items():
    start = time.perf_counter()
    try:
        result = opened(path)
    except FileRefusedError as error:
        result = str(error)
    except BaseException as error:
        result = "ESCAPED " + repr(error)[:500]
    results[name] = (result, time.perf_counter() - start)
results["modules"] = (" ".join(sys.modules), 0)
print(json.dumps(results))
"""


def open_all(paths: Mapping[str, str], opener: str) -> Outcomes:
    """What opening each file led to, by name: message, seconds, path; and ``modules``, what the process imported.

    Args:
        paths: The files by name.
        opener: Lines that import what is needed and define ``opened(path)``, which says what it opened.
    """
    done = subprocess.run(
        [sys.executable, "-c", _OPEN_ALL.replace("OPENER", opener)],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return {name: (*found, paths.get(name, "")) for name, found in json.loads(done.stdout).items()}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (None where an exception escaped it), what it said, whether it printed what
    was asked for, what it took."""

    code: int | None
    said: str
    printed: bool
    seconds: float
    cpu_seconds: float
    megabytes: float

    def assert_one_line(self, what: object) -> None:
        """It did its work, or said in one line why not."""
        assert self.code in (0, 1, 2), f"{what}: {self.said}"
        assert self.said.count("\n") == (1 if self.code == 2 and not self.printed else 0), f"{what}: {self.said}"


# Runs commands in one process, one after the other, under a cap on address space and on the seconds of each.
_RUN_ALL = """
import contextlib, io, json, os, resource, signal, sys, time
arguments, megabytes, seconds = json.loads(sys.stdin.read())
from cnnlens.cli.main import main
from cnnlens.cli import show
import cnnlens.plot.of_models, cnnlens.reference.executor, cnnlens.checking.checker, cnnlens.recording.recorder
import PIL.Image
resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2)
def late(*_): raise TimeoutError(f"took more than {seconds} s")
signal.signal(signal.SIGALRM, late)
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
found = []
for one in arguments:
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    before, start, said, printed = peak(), time.perf_counter(), io.StringIO(), io.StringIO()
    busy, code = time.process_time(), None
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            code = main(one)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException as error:
        import traceback
        said.write("ESCAPED " + traceback.format_exc()[-1500:])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.perf_counter() - start, time.process_time() - busy, peak() - before
    shown = printed.getvalue()
    found.append((code, said.getvalue()[-3000:], bool(shown) and '"format": "cnnlens.error/1"' not in shown, *took))
print(json.dumps(found))
"""


def run_all(
    commands: Sequence[Sequence[object]], folder: Path, megabytes: int = 3000, seconds: float = SECONDS
) -> list[Ended]:
    """Run ``cnnlens`` with each of ``commands`` in ``folder``, at most so many MiB and so many seconds each."""
    arguments = [[str(part) for part in one] for one in commands]
    done = subprocess.run(
        [sys.executable, "-c", _RUN_ALL],
        input=json.dumps((arguments, megabytes, seconds)),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [Ended(*one) for one in json.loads(done.stdout)]


def made_and_opened(factory: pytest.TempPathFactory, makers: ModuleType, opener: str) -> tuple[Path, Outcomes]:
    """Where every file of ``makers.MAKERS`` lies, each in a folder of its own, and what opening them led to; the files
    are made once, and opened once by each ``opener``."""
    name = f"hostile-{makers.__name__.rpartition('.')[2]}"

    def make(folder: Path) -> None:
        paths: dict[str, str] = {}
        for at, (case, maker) in enumerate(makers.MAKERS.items()):
            (folder / str(at)).mkdir()
            paths[case] = str(maker(folder / str(at)))
        (folder / "paths.json").write_text(json.dumps(paths))

    files = once(factory, name, make)

    def look(folder: Path) -> None:
        paths = json.loads((files / "paths.json").read_text())
        (folder / "found.json").write_text(json.dumps(open_all(paths, opener)))

    found = once(factory, f"{name}-{zlib.crc32(opener.encode())}", look)
    return files, json.loads((found / "found.json").read_text())


def assert_refused_in_one_line(outcome: tuple[str, float, str], reason: str) -> None:
    message, seconds, path = outcome
    assert reason in message
    assert message.startswith(path)
    assert "\n" not in message
    assert "; " in message  # the way out
    assert len(message) < 1000
    assert seconds < SECONDS


def assert_the_cap_on_memory_is_one() -> None:
    """The process would notice a reader that believes what a file declares."""
    script = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES} << 20,) * 2); bytes(900 << 20)"
    assert b"MemoryError" in subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).stderr
