"""The lines of the README and of the gallery that a person can type, and the pictures that stand beside them.

``python -m tests.support.readme`` makes every picture of both anew, each by the command above it, in ``docs/pictures``.
"""

from __future__ import annotations

import contextlib
import glob
import io
import itertools
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

__all__ = ["PAGES", "PICTURES", "Typed", "expanded", "make_pictures", "python_blocks", "run", "typed"]

PAGES = (ROOT / "README.md", ROOT / "docs" / "gallery.md")
PICTURES = ROOT / "docs" / "pictures"


@dataclass(frozen=True)
class Typed:
    """Is one line that a page says to type.

    Attributes:
        line: It, from ``cnnlens`` on.
        shown: The lines of output that the page shows below it.
        frameworks: Whether it stands where the page says that a framework is needed.
    """

    line: str
    shown: tuple[str, ...] = ()
    frameworks: bool = False

    @property
    def arguments(self) -> list[str]:
        """What the shell would hand over, in the folder where it is typed."""
        return expanded(shlex.split(self.line, comments=True)[1:])

    @property
    def picture(self) -> str:
        """The picture that it writes; empty where it writes none."""
        words = shlex.split(self.line, comments=True)
        made = [after for word, after in itertools.pairwise(words) if word == "-o"]
        return made[0] if made and made[0].endswith(".png") else ""


def expanded(words: list[str]) -> list[str]:
    """Expand ``*`` as a shell does."""
    return [one for word in words for one in (sorted(glob.glob(word)) if "*" in word else [word])]


def typed(page: Path) -> list[Typed]:
    """Every line of a page that starts with ``cnnlens``, in a table or a block, once each and in order."""
    found: dict[str, Typed] = {}
    lines = page.read_text(encoding="utf-8").splitlines()
    frameworks = False
    for number, line in enumerate(lines):
        if line.startswith("#"):
            frameworks = False
        if re.match(r"(These|This) needs? a framework", line):
            frameworks = True
        cell = re.match(r"\|.*\| `(cnnlens [^`]*)` \|", line)
        block = re.match(r"    (?:\$ )?(cnnlens .*)", line)
        if cell:
            found.setdefault(cell[1], Typed(cell[1], (), frameworks))
        elif block:
            shown: list[str] = []
            for below in lines[number + 1 :]:
                if not below.startswith("    ") or below.startswith(("    $ ", "    cnnlens ")):
                    break
                shown.append(below[4:])
            found[block[1]] = Typed(block[1], tuple(shown), frameworks)
    return list(found.values())


def python_blocks(page: Path) -> list[str]:
    """Every block of Python of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def run(one: Typed) -> tuple[int, str]:
    """Type a line here: its exit code and what it printed, on both streams. A bench takes a third of a second."""
    from cnnlens.cli.main import main

    stream = io.StringIO()
    words = one.arguments
    if "--seconds" in words:
        words[words.index("--seconds") + 1] = "0.3"
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
    return code, stream.getvalue()


@contextlib.contextmanager
def demo_folder() -> Iterator[Path]:
    """A new folder in which ``cnnlens demo`` was typed, as the place where we are."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            assert run(Typed("cnnlens demo"))[0] == 0
            os.chdir("cnnlens-demo")
            yield Path.cwd()
        finally:
            os.chdir(before)


def make_pictures(target: Path) -> list[str]:
    """Make every picture that a page shows beside the command that makes it; returns their names."""
    made: list[str] = []
    with demo_folder() as folder:
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            for one in typed(page):
                if one.picture and re.search(rf"\]\((docs/)?pictures/{re.escape(one.picture)}\)", text):
                    code, said = run(one)
                    assert code == 0, f"{one.line}\n{said}"
                    target.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folder / one.picture, target / one.picture)
                    made.append(one.picture)
    return made


if __name__ == "__main__":
    print("\n".join(make_pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES)))
