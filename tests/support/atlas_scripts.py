"""The scripts of ``docs/atlas.md``, each run by itself where cnnlens is not.

``python -m tests.support.atlas_scripts PYTHON [NUMBER …]`` runs them with that Python, which must have the versions of
``constraints.txt`` and no cnnlens, and says of each whether it printed what stands above it. Exit code 1: one did not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tests.support import ROOT

__all__ = ["Script", "run", "scripts"]

PAGE = ROOT / "docs" / "atlas.md"
_SECTION = re.compile(r"^###? ((?:full )?\d+)\. (.+)$", re.MULTILINE)
_NUMBERS = re.compile(r"; (\S+) where (\S+) is right")
_SAYS = re.compile(r"^computed (\S+), expected (\S+)$", re.MULTILINE)


class Script(NamedTuple):
    """Is a script of the page, by its section's number: ``numbers`` are what it is to print; none where it raises."""

    number: str
    title: str
    text: str
    shown: bool
    numbers: tuple[float, float] | None


def scripts(page: str | None = None) -> Iterator[Script]:
    """Give the scripts of the page, in its order."""
    text = PAGE.read_text(encoding="utf-8") if page is None else page
    heads = [*_SECTION.finditer(text)]
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        section = text[head.end() : after.start() if after else len(text)]
        code = re.search(r"^```python\n(.+?)^```$", section, re.MULTILINE | re.DOTALL)
        if code is not None:
            said = _NUMBERS.search(section[: code.start()])
            numbers = None if said is None else (float(said[1]), float(said[2]))
            shown = "did not show" not in section[: code.start()]
            yield Script(head[1], head[2], code[1], shown, numbers)


def run(script: Script, python: str) -> str:
    """Run one with ``python``, isolated and with no cnnlens to import; what it did otherwise, or nothing."""
    none = "import sys; sys.modules.update(dict.fromkeys(('cnnlens', 'cnnlens_backends')))"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS"))}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(
        [python, "-I", "-c", f"{none}\n{script.text}"], capture_output=True, text=True, check=False,
        env={**own, **quiet},
    )  # fmt: skip
    last = (ran.stderr.strip().splitlines() or [""])[-1][:200]
    if script.numbers is None:
        return "" if ran.returncode else "it raised nothing"
    said = _SAYS.search(ran.stdout)
    if said is None:
        return f"it printed no numbers: {last}"
    printed = float(said[1]), float(said[2])
    same = all(f"{a:.6g}" == f"{b:.6g}" for a, b in zip(printed, script.numbers, strict=True))
    return "" if same else f"it printed {printed[0]} and {printed[1]}"


def main(python: str, *numbers: str) -> int:
    """Run those of these numbers, or all."""
    if not subprocess.run([python, "-I", "-c", "import cnnlens"], capture_output=True, check=False).returncode:
        print(f"{python} has cnnlens; name one that has not")
        return 2
    wrong = 0
    for script in scripts():
        if not numbers or script.number in numbers:
            said = run(script, python)
            wrong += bool(said) == script.shown
            print(
                f"{script.number}. {script.title}: {said or 'shown'}{'' if script.shown else ', as it says'}",
                flush=True,
            )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
