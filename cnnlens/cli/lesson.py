"""The command ``cnnlens lesson``."""

from __future__ import annotations

import argparse
from typing import Any

from cnnlens.cli.report import add_page_output, output_page, refuse_no_page
from cnnlens.errors import CnnlensError

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
    add_page_output(lesson)


def _lesson(options: argparse.Namespace) -> None:
    from cnnlens.reporting import listing
    from cnnlens.reporting.lesson import lesson

    if options.output is None and not options.json:
        raise CnnlensError("a lesson is a page to open: name its file, as in -o lesson.html")
    if options.output is not None:
        refuse_no_page(options.output, "-o", "lesson")
    made = lesson(options.language)
    output_page(options, made, listing.lesson_json, listing.lesson_page)
