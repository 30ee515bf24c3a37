"""Where POSIX is not: what looks into files works, and what needs processes refuses in a line, with exit code 2.

The commands run in a Python whose POSIX names are gone (``tests/support/without_posix.py``).
"""

from __future__ import annotations

import ast
import gzip
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnlens
from cnnlens import sample
from cnnlens.files import container
from cnnlens.opening.architecture import names_code
from tests.support import ROOT
from tests.support.without_posix import OS, SIGNAL

MODEL = str(sample.MODEL)
IMAGE = str(sample.IMAGES / "9-ankle-boot.png")


def without_posix(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.without_posix", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")])},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def all_of(folder: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    done = without_posix(folder, "--all", json.dumps(commands))
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


@pytest.mark.slow
def test_what_looks_into_files_works(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 28, 28), np.uint8)
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(images))
    np.savez_compressed(tmp_path / "x.npz", x=images)
    idx = struct.pack(">BBBBIII", 0, 0, 8, 3, 5, 28, 28) + images.tobytes()
    (tmp_path / "x.idx").write_bytes(idx)
    (tmp_path / "x.idx.gz").write_bytes(gzip.compress(idx))
    cnnlens.record(MODEL, images, backend="reference", out=tmp_path / "run.zarr", batch=2)
    files = ("x.npy", "fortran.npy", "x.npz", "x.idx", "x.idx.gz")
    commands = [
        ["summary", MODEL],
        ["summary", MODEL, "-o", "summary.txt"],
        ["kernels", MODEL],
        ["hist", MODEL, "--untrained"],
        ["maps", MODEL, "-i", IMAGE],
        *(["maps", MODEL, "-i", file, "--index", "3", "--json"] for file in files),
        ["layouts", "Conv2D"],
        ["layouts", "--from", "keras", "--to", "torch", "Conv2D", "-o", "layouts.png"],
        ["verify", MODEL, "run.zarr"],
        ["check", MODEL, "run.zarr", "--json"],
        ["diff", MODEL, MODEL, "--inputs", "random"],
        ["export", MODEL],
        ["backends"],
        ["demo"],
    ]
    made = all_of(tmp_path, *commands)
    for command, (code, out, err) in zip(commands, made, strict=True):
        assert (code, err) == (0, ""), command
        assert out or "-o" in command, command
    maps = [
        json.loads(out)["layers"] for command, (_, out, _) in zip(commands, made, strict=True) if "--index" in command
    ]
    assert len(maps) == len(files)
    assert all([one["std"] for one in each] == [one["std"] for one in maps[0]] for each in maps)


@pytest.mark.slow
def test_what_needs_processes_refuses_in_a_line_that_says_what_works(tmp_path: Path) -> None:
    commands = [
        ["check", MODEL],
        ["check", MODEL, "--backends", "reference"],
        ["check", MODEL, "--twin", MODEL, "--backends", "reference"],
        ["record", MODEL, "-i", IMAGE, "--backend", "reference", "-o", "run.zarr"],
        ["convert", MODEL],
        ["summary", MODEL, "--arch", "module:Class"],
    ]
    for command, (code, out, err) in zip(commands, all_of(tmp_path, *commands), strict=True):
        assert (code, out) == (2, ""), command
        assert err.count("\n") == 1
        assert "POSIX" in err
        assert "check MODEL RUN.zarr" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_entrance_and_the_janitor_start(tmp_path: Path) -> None:
    done = without_posix(tmp_path, "cnnlens", "summary", MODEL)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "left").mkdir()
    done = without_posix(tmp_path, "cnnlens.janitor", stdin=json.dumps([True, str(tmp_path / "left")]) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "left").exists()


def test_no_name_of_posix_is_used_where_it_is_not_asked_for_first() -> None:
    """In those modules that name one, ``hasattr``, ``getattr`` or ``refuse_without_posix`` stands before it."""
    guarded = {
        "cnnlens/backend/child.py": "runs in the worker alone",
        "cnnlens/backend/process.py": "runs behind refuse_unknown",
        "cnnlens/opening/architecture.py": "runs behind refuse_without_posix",
        "backends/cnnlens_backends/_ray_engine.py": "runs behind refuse_without_posix",
        "cnnlens/janitor.py": "is told of process groups by the two before alone",
    }
    found: dict[str, set[str]] = {}
    named = re.compile(rf"\bos *\. *({'|'.join(OS)})\b|\bsignal *\. *({'|'.join(SIGNAL)})\b")
    for path in [*(ROOT / "cnnlens").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        if not named.search(text):  # to walk through all trees takes seconds
            continue
        tree = ast.parse(text)
        used = {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            and ((node.value.id == "os" and node.attr in OS) or (node.value.id == "signal" and node.attr in SIGNAL))
        }  # fmt: skip
        asked = {
            f"{node.args[0].id}.{node.args[1].value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr"
            and isinstance(node.args[0], ast.Name) and isinstance(node.args[1], ast.Constant)
        }  # fmt: skip
        name = path.relative_to(ROOT).as_posix()
        if name not in guarded and used - asked:
            found[name] = used - asked
    assert not found
    assert all((ROOT / name).exists() for name in guarded)


def test_a_path_of_windows_is_no_code_and_names_a_member_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (r"C:\models\a.keras", "C:/models/a.keras", "a.zip::b.pt", r"C:\a.zip::sub\b.pt"):
        assert not names_code(path)
    for code in ("models:Net", r"C:\code\net.py:Net", "file.py:make(classes=10)", "pkg.mod:a.b"):
        assert names_code(code)
    monkeypatch.setattr(container.os, "sep", "\\")
    assert container.member_of(Path("a.zip::sub\\b.pt")) == (Path("a.zip"), "sub/b.pt")
