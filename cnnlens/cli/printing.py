"""How every command hands out what it made: text or JSON, to the terminal or into a file, whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.text import harmless

__all__ = ["output_json", "output_made", "output_text", "tell"]


def output_made(
    options: argparse.Namespace,
    made: Any,
    as_json: Callable[[Any], Any],
    as_text: Callable[[Any], str],
    path: str | None = None,
) -> None:
    """Print what a command ``made``, or write it to ``path``: as JSON where ``--json`` asks for it, or as text."""
    if options.json:
        output_json(as_json(made), path)
    else:
        output_text(as_text(made), path)


def output_json(data: Any, path: str | None = None) -> None:
    """Print plain data as JSON, or write it to ``path``, whole or not at all."""
    written = json.dumps(data, indent=2, ensure_ascii=True, allow_nan=False)
    output_text(written.replace("\x7f", "\\u007f") + "\n", path)  # the one control character that is ASCII to JSON


def tell(line: str) -> None:
    """Say a line on standard error: what went wrong, or how far it is."""
    print(harmless(line), file=sys.stderr)


def output_text(text: str, path: str | None = None) -> None:
    """Print ``text``, or write it to ``path``, whole or not at all; no character of it is obeyed by a terminal."""
    text = harmless(text, keep="\n")
    if path is not None:
        from cnnlens.output import write_text

        write_text(path, text)
        return
    if sys.stdout.isatty():
        text = _folded(text, shutil.get_terminal_size().columns)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail again when Python ends, and loudly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CnnlensError(f"the output cannot be written ({error.strerror}); choose another place with -o") from None


def _folded(text: str, width: int) -> str:
    """Fold notes to ``width``; tables stay as they are, for a folded row is no row."""
    lines: list[str] = []
    for line in text.split("\n"):
        note = line.startswith("note: ") and len(line) > width
        lines += textwrap.wrap(line, max(width, 30), subsequent_indent="      ") if note else [line]
    return "\n".join(lines)
