"""The command ``cnnlens lesson``."""

from __future__ import annotations

import argparse
from typing import Any

from cnnlens.cli.arguments import add_output
from cnnlens.cli.printing import output_text
from cnnlens.errors import CnnlensError
from cnnlens.reporting.words import LANGUAGES
from cnnlens.text import printable

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    lesson = commands.command(
        "lesson",
        _lesson,
        "a course on the bundled sample as one HTML page, with exercises that say why an answer is wrong",
        "Nine chapters: kernels, how they lie in memory, NHWC and NCHW, wrong transposes, flatten order, padding at "
        "stride 2, trained against untrained, edges and parts, rounding against bugs. It opens from disk, without an "
        "install or a network.",
    )
    lesson.add_argument("--language", choices=LANGUAGES, default="en", help="of the page's words (default: en)")
    add_output(lesson, "write the page to FILE.html")


def _lesson(options: argparse.Namespace) -> None:
    from cnnlens.reporting.lesson import lesson

    if options.output is None:
        raise CnnlensError("a lesson is a page to open: name its file, as in -o lesson.html")
    output_text(f"wrote {printable(lesson(options.language).save(options.output), 300)}\n")
