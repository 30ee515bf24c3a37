"""Every line of the README and of the gallery runs as it stands in the folder that ``cnnlens demo`` leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import ROOT
from tests.support.readme import PAGES, PICTURES, Typed, demo_folder, python_blocks, run, typed

# What ends with 1 and says so: two models that differ, a backend that computes something else.
_DIFFERING = (
    "cnnlens diff fashion_mnist_cnn.keras ported.safetensors", "cnnlens check average.keras",
    "cnnlens atlas AveragePooling2D",
)  # fmt: skip

# Commands that start no backend, whether or not one is installed: they run once, where there is none.
_ALONE = ("summary", "verify", "kernels", "hist", "image", "maps", "export", "layouts", "lesson")

# Frameworks cannot be found, as where they are not installed: of each Python that is started with this on its path.
_WITHOUT = """
import importlib.abc, importlib.metadata, sys

HIDDEN = ("keras", "tensorflow", "tensorflow_cpu", "torch", "jax", "jaxlib", "h5py", "zarr", "xarray")

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
found = importlib.metadata.distribution
def distribution(name):
    if name.replace("-", "_") in HIDDEN:
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.distribution = distribution
"""
# All lines in turn, in one process, and what they drew.
_BARE = """
import json, shutil, sys
from tests.support.readme import PAGES, demo_folder, run, typed
with demo_folder() as folder:
    print(json.dumps([(one.line, *run(one)) for page in PAGES for one in typed(page)]))
    for picture in folder.glob("*.png"):
        shutil.copy(picture, sys.argv[1])
"""


def shape_of(line: str) -> str:
    """A line with every number alike and runs of spaces as one: what a page shows must hold on every machine."""
    numbers = re.sub(r"[−-]?\d+(\.\d+)?(e-?\d+)?(\+cpu)?", "0", line)  # a build of PyTorch is called 2.13.0+cpu
    return re.sub(r"-+", "-", re.sub(r"\s+", " ", numbers)).strip()


def is_alone(one: Typed) -> bool:
    return one.arguments[0] in _ALONE and not one.frameworks


def assert_shown(one: Typed, printed: str) -> None:
    """What the page shows below a line is in what it prints, in order."""
    lines = iter([shape_of(line) for line in printed.splitlines()])
    for shown in one.shown:
        if shown.strip() not in ("…", ""):
            wanted = shape_of(shown.removesuffix("…"))
            assert any(line.startswith(wanted) for line in lines), f"{one.line}\nshown: {shown}\nprinted:\n{printed}"


def test_the_pages_have_lines_to_type() -> None:
    lines = [one for page in PAGES for one in typed(page)]
    commands = {one.arguments[0] for one in lines}
    assert {"summary", "verify", "kernels", "hist", "image", "maps", "export", "layouts", "diff", "check", "record",
            "convert", "backends"} <= commands  # fmt: skip
    assert any(one.frameworks for one in lines)
    assert any(one.shown for one in lines)
    for page in PAGES:
        for name in re.findall(r"\]\(((?:docs/)?pictures/[^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / name).is_file()
            assert any(one.picture == Path(name).name for one in lines), f"no line makes {name}"
    made = {one.picture for one in lines}
    assert {path.name for path in PICTURES.glob("*.png")} <= made, "python -m tests.support.readme"


@pytest.mark.slow
def test_every_line_runs_without_a_framework_or_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_WITHOUT)
    places = [str(tmp_path), str(ROOT), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    command = [sys.executable, "-c", _BARE, str(drawn)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = {one.line: one for page in PAGES for one in typed(page)}
    for line, code, printed in json.loads(done.stdout.splitlines()[-1]):
        one = lines[line]
        if one.frameworks and code == 2:
            in_rows = one.arguments[0] in ("bench", "check")  # each says it of its backend
            assert in_rows or len(printed.splitlines()) == 1 or "nothing was compared" in printed, (line, printed)
            assert "pip install" in printed or "run.zarr" in printed or "shoes" in printed, (line, printed)
        else:
            assert code == line.startswith(_DIFFERING), (line, code, printed)
            assert_shown(one, printed)
            if is_alone(one) and (PICTURES / one.picture).is_file():
                assert_drawn(drawn / one.picture)


def assert_drawn(picture: Path) -> None:
    """The picture of this name that a page shows is the one that was drawn."""
    old, new = (np.asarray(Image.open(path).convert("RGB"), np.int16) for path in (PICTURES / picture.name, picture))
    assert old.shape == new.shape, f"{picture.name}: python -m tests.support.readme"
    # Fonts are matplotlib's own; what is left is a number's last digit.
    assert np.mean(np.abs(old - new).max(axis=2) > 8) < 0.01, f"{picture.name}: python -m tests.support.readme"


@pytest.mark.framework
def test_every_other_line_and_block_of_python_runs_and_draws_what_the_pages_show() -> None:
    with demo_folder():
        for one in [one for page in PAGES for one in typed(page) if not is_alone(one)]:
            code, printed = run(one)
            assert code == one.line.startswith(_DIFFERING), (one.line, code, printed)
            assert_shown(one, printed)
            if (PICTURES / one.picture).is_file():
                assert_drawn(Path(one.picture))
        for page in PAGES:
            names: dict[str, object] = {"__name__": "readme"}
            for block in python_blocks(page):
                exec(compile(block, str(page), "exec"), names)
