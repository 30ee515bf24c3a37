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
from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.text import harmless

__all__ = ["output_json", "output_made", "output_text", "tell"]


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
    if path is not None or not sys.stdout.isatty():
        written = harmless(str(text), keep="\n")
    elif isinstance(text, Page):
        written = _on_terminal(text, shutil.get_terminal_size().columns)
    else:
        written = _folded(harmless(text, keep="\n"), shutil.get_terminal_size().columns)
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


_SIGNS = str.maketrans({"×": "x", "…": "~", "·": "-", "–": "-", "−": "-", "≥": ">", "≤": "<", "≈": "~"})


def _in(encoding: str, text: str) -> str:
    """``text`` as an encoding can write it: where it cannot, names as escapes, so that two of them stay two."""
    try:
        text.encode(encoding)
    except UnicodeError:
        return text.translate(_SIGNS).encode(encoding, "backslashreplace").decode(encoding)
    return text


_NARROWEST = 30
_STYLES = {Tone.GOOD: "green", Tone.DOUBT: "yellow", Tone.BAD: "bold red", Tone.PALE: "dim", Tone.STRONG: "bold"}


def _on_terminal(page: Page, width: int) -> str:
    """The page as a terminal of this width shows it: cells and lines folded between words, tones as colours."""
    from io import StringIO

    from rich.box import Box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    # The only control characters that leave are those that the console makes of a tone.
    def text(one: str) -> Text:
        return Text(harmless(one), style=_STYLES[one.tone] if isinstance(one, Toned) else "", overflow="fold")

    can = Console(file=sys.stdout)
    stream = StringIO()
    console = Console(
        file=stream, force_terminal=True, width=max(width, _NARROWEST), color_system=cast(Any, can.color_system),
        no_color=can.no_color, legacy_windows=False, highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    rule = "    \n    \n -- \n" + "    \n" * 5
    for part in page.parts:
        if isinstance(part, Table):
            shown = RichTable(box=Box(rule, ascii=True), show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
            for column, cell in enumerate(part.rows[0]):
                shown.add_column(text(cell), justify="right" if column in part.right else "left", overflow="fold")
            for row in part.rows[1:]:
                shown.add_row(*map(text, row))
            console.print(Padding(shown, (0, 0, 0, part.indent)))
        else:
            # As deep as it began and two more, so that a note stays one note to the eye.
            deep = len(part) - len(part.lstrip()) + 2
            lines = textwrap.wrap(part, console.width, subsequent_indent=" " * deep, break_long_words=False) or [""]
            for line in lines:
                console.print(text(Toned(line, part.tone) if isinstance(part, Toned) else line), soft_wrap=True)
    return "\n".join(line.rstrip() for line in stream.getvalue().split("\n"))


def _folded(text: str, width: int) -> str:
    """Fold notes to ``width``; other lines stay as they are, for a table that is folded is none."""
    lines: list[str] = []
    for line in text.split("\n"):
        note = line.startswith("note: ") and len(line) > width
        lines += textwrap.wrap(line, max(width, _NARROWEST), subsequent_indent="      ") if note else [line]
    return "\n".join(lines)
