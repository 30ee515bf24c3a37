"""How every command hands out what it made: text or JSON, to the terminal or into a file, whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, cast

from cnnlens.errors import CnnlensError
from cnnlens.page import Page
from cnnlens.text import harmless, printable

__all__ = ["check_output", "output_json", "output_made", "output_text", "tell"]


def output_made(
    options: argparse.Namespace,
    made: Any,
    as_json: Callable[[Any], Any],
    as_page: Callable[[Any], str | Page],
    path: str | None = None,
    name: str | None = None,
) -> None:
    """Print what a command ``made``, or write it to ``path``: as JSON where ``--json`` asks for it, or as text.

    Args:
        name: The JSON's format, where it is not that of the command.
    """
    if options.json:
        output_json(name or options.name, as_json(made), path)
    else:
        output_text(as_page(made), path)


def output_json(name: str, data: Mapping[str, Any], path: str | None = None) -> None:
    """Print plain data as JSON of the format ``name`` (docs/json.md), or write it to ``path``, whole or not at all."""
    said = {"format": f"cnnlens.{name}/1", **data}
    written = json.dumps(said, indent=2, ensure_ascii=True, allow_nan=False)
    output_text(written.replace("\x7f", "\\u007f") + "\n", path)  # the one control character that is ASCII to JSON


def tell(line: str) -> None:
    """Say a line on standard error: what went wrong, or how far it is."""
    print(harmless(line), file=sys.stderr)


def output_text(text: str | Page, path: str | None = None) -> None:
    """Print ``text``, or write it to ``path``, whole or not at all; no character of it is obeyed by a terminal.

    A page fits the terminal's width there, with colours where the terminal has them and NO_COLOR does not ask for none.
    """
    if path is None and cast(Any, sys.stdout) is None:  # `>&-`
        raise CnnlensError("standard output is closed, so nothing can be printed; write to a file with -o")
    if path is not None:
        check_output(path)
    if path is not None or not sys.stdout.isatty():
        written = harmless(str(text), keep="\n")
    else:
        width = max(shutil.get_terminal_size().columns, _NARROWEST)
        if isinstance(text, Page):
            from cnnlens.cli.terminal import on_terminal

            written = on_terminal(text, width)
        else:
            written = _folded(harmless(text, keep="\n"), width)
    if path is not None:
        from cnnlens.output import write_text

        write_text(path, written)
        return
    try:
        sys.stdout.write(_in(sys.stdout.encoding or "utf-8", written))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail again when Python ends, and loudly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CnnlensError(f"the output cannot be written ({error.strerror}); choose another place with -o") from None


def check_output(path: str) -> None:
    """Refuse a file that text cannot or should not be written to; nothing is written.

    Raises:
        CnnlensError: it is a model or arrays by its name, or no file can be written there.
    """
    if os.path.exists(path) and path.lower().endswith(_NO_TEXT):
        raise CnnlensError(
            f"-o {printable(path, 300)}: a model or arrays by its name, which text would replace; name a .txt or .json"
        )
    from cnnlens.output import writable

    writable(path)


_NARROWEST = 30
_NO_TEXT = (".keras", ".h5", ".hdf5", ".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".npz", ".npy")
_SIGNS = str.maketrans({"×": "x", "…": "~", "·": "-", "–": "-", "−": "-", "≥": ">", "≤": "<", "≈": "~",
    "←": "<", "±": "+-",
})  # fmt: skip


def _in(encoding: str, text: str) -> str:
    """``text`` as an encoding can write it: where it cannot, names as escapes, so that two of them stay two."""
    try:
        text.encode(encoding)
    except UnicodeError:
        return text.translate(_SIGNS).encode(encoding, "backslashreplace").decode(encoding)
    return text


def _folded(text: str, width: int) -> str:
    """Fold notes to ``width``; other lines stay as they are, for a table that is folded is none."""
    lines: list[str] = []
    for line in text.split("\n"):
        note = line.startswith("note: ") and len(line) > width
        lines += textwrap.wrap(line, width, subsequent_indent="      ") if note else [line]
    return "\n".join(lines)
