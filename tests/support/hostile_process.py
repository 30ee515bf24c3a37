"""Opens files that lie in a process of its own, under a cap on its memory, and says what came of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support import ROOT

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


def make_and_open(folder: Path, makers: Mapping[str, Callable[[Path], Path]], opener: str) -> None:
    """Make each file in a folder of its own, open them all, and leave in ``found.json`` what it led to."""
    paths: dict[str, str] = {}
    for at, (name, maker) in enumerate(makers.items()):
        (folder / str(at)).mkdir()
        paths[name] = str(maker(folder / str(at)))
    (folder / "found.json").write_text(json.dumps(open_all(paths, opener)))


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
