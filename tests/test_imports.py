"""Core imports no framework, and light commands load nothing heavy. Checked in fresh processes; the check can fail."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cnnlens

FRAMEWORKS = ("keras", "tensorflow", "torch", "jax", "flax", "h5py", "tf_keras", "ray", "pyarrow")
HEAVY = (*FRAMEWORKS, "matplotlib", "PIL")
PACKAGE = Path(cnnlens.__file__).parent


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of ``names`` are loaded after ``code`` ran in a fresh process."""
    report = f"import sys\n{code}\nprint('LOADED', *[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return done.stdout.rsplit("LOADED", 1)[1].split()


def modules() -> list[str]:
    found = [one.name for one in pkgutil.walk_packages([str(PACKAGE)], "cnnlens.")]
    return [name for name in found if name != "cnnlens.__main__"]


def test_every_module_of_core_imports_without_a_framework() -> None:
    assert len(modules()) > 20
    code = "\n".join(f"import {name}" for name in modules())
    assert loaded(code, FRAMEWORKS) == []


def test_the_check_sees_a_framework_that_is_imported() -> None:
    assert loaded("import h5py", FRAMEWORKS) == ["h5py"]


def test_no_file_of_core_names_a_framework_in_an_import() -> None:
    """Not even inside a function, where only some calls would show it."""
    named = re.compile(rf"\b(?:import|from)\s.*\b({'|'.join(FRAMEWORKS)})\b")
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not named.search(text):  # to walk through all trees takes seconds
            continue
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong = [name for name in names if name.split(".")[0] in FRAMEWORKS]
            assert not wrong, f"{path}:{getattr(node, 'lineno', 0)} imports {wrong}"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["summary"], ["summary", "--json"], ["layouts"]])
def test_help_summary_and_layouts_load_nothing_heavy(arguments: list[str]) -> None:
    if arguments[0] == "summary":
        arguments = [*arguments, str(PACKAGE / "sample" / "fashion_mnist_cnn.keras")]
    run = f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code"
    code = f"from cnnlens.cli.main import main\n{run}"
    assert loaded(code, HEAVY) == []


@pytest.mark.parametrize("command", ["summary", "kernels", "hist", "maps", "layouts", "demo"])
def test_every_command_prints_its_help(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", "cnnlens", command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: cnnlens " + command)
