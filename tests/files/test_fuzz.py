"""Damaged files of every format open or are refused in one line, within their budgets, and do nothing else.

Those that once did not lie in ``corpus``; ``python -m benchmarks fuzz`` looks for more, 10,000 a format.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.fuzzing import CORPUS, corpus, fuzz
from tests.support.honest_files import SEEDS, Seed, seeds

MUTANTS = 50
SEED = 17

pytestmark = pytest.mark.slow


def assert_none_failed(given: dict[str, list[Seed]]) -> None:
    for name, score in fuzz(given, MUTANTS, SEED).items():
        assert not score.failures, score.failures[0]
        if not name.startswith("="):
            assert score.opened + score.refused == MUTANTS
            assert score.refused > MUTANTS // 5, name  # what changes nothing shows nothing


def test_damaged_files_of_every_format_and_what_was_ever_found() -> None:
    assert_none_failed({**{name: seeds(name) for name in SEEDS}, **corpus()})


@pytest.mark.framework
def test_damaged_files_that_torch_wrote() -> None:
    pytest.importorskip("torch")
    from tests.support.torch_honest_files import FILES

    assert_none_failed({name: seeds(name, by_torch=True)[len(seeds(name)) if name in SEEDS else 0 :] for name in FILES})


def test_every_case_of_the_corpus_is_run() -> None:
    assert sum(map(len, corpus().values())) == len(list(CORPUS.iterdir()))
    assert {json.loads(one.read_text())["format"] for one in CORPUS.glob("*/case.json")} <= {*SEEDS, "pt2"}


_PLANTED = """
import json, os, pathlib, socket, sys, warnings
from tests.support import fuzzing
from tests.support.honest_files import seeds
import cnnlens.files, cnnlens.opening.findings as findings

fuzzing.SECONDS = 0.3
worker, (case, *_), folder = fuzzing.Worker(0), seeds("safetensors"), pathlib.Path(sys.argv[1])
honest = findings.open_network

def loop(path):
    while True:
        pass

def warn(path):
    warnings.warn("odd")
    return honest(path)

faults = {
    "nothing": honest,
    "run": lambda path: os.system("true"),
    "exec": lambda path: exec("1"),
    "write": lambda path: open(folder / "x", "w"),
    "open": lambda path: open("/etc/hostname"),
    "connect": lambda path: socket.create_connection(("localhost", 9)),
    "import": lambda path: __import__("pytest"),
    "loop": loop,
    "hoard": lambda path: bytes(400 << 20),
    "crash": lambda path: {}["x"],
    "warn": warn,
}
found = {}
for name, fault in faults.items():
    findings.open_network = fault
    found[name] = worker.look("safetensors", case, folder / name)[0]
print(json.dumps(found))
"""


def test_what_the_watch_is_for_is_seen(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PLANTED, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found = json.loads(done.stdout)
    assert found.pop("nothing") == ""
    assert {name: why.split(" ")[:2] for name, why in found.items()} == {
        "run": ["does", "os.system"],
        "exec": ["does", "compile"],
        "write": ["does", "open"],
        "open": ["does", "open"],
        "connect": ["does", "socket.getaddrinfo"],
        "import": ["does", "import"],
        "loop": ["takes", "more"],
        "hoard": ["verify:", "takes"],
        "crash": ["KeyError:", "'x':"],
        "warn": ["a", "warning:"],
    }
