"""The command ``cnnlens lesson``."""

from __future__ import annotations

import argparse
from typing import Any

from cnnlens.cli.arguments import add_json, add_output
from cnnlens.cli.printing import output_made
from cnnlens.errors import CnnlensError
from cnnlens.page import Page
from cnnlens.reporting.words import LANGUAGES

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
    add_json(lesson)
    add_output(lesson, "write the page to FILE.html")


def _lesson(options: argparse.Namespace) -> None:
    from cnnlens.reporting import listing
    from cnnlens.reporting.lesson import lesson

    if options.output is None and not options.json:
        raise CnnlensError("a lesson is a page to open: name its file, as in -o lesson.html")
    made = lesson(options.language)
    wrote = {} if options.output is None else {"page": str(made.save(options.output))}
    output_made(
        options,
        made,
        lambda one: {**listing.lesson_json(one), **wrote},
        lambda one: Page([*listing.lesson_page(one).parts, *(f"wrote {path}" for path in wrote.values())]),
    )
