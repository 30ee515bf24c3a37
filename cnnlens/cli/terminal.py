"""How a page fits a terminal: tables folded, a column under another or a paragraph a row, and tones as colours."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from io import StringIO
from typing import Any, cast

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from cnnlens.page import Code, Page, Table, Tone, Toned
from cnnlens.text import harmless

__all__ = ["on_terminal"]

_STYLES = {Tone.GOOD: "green", Tone.DOUBT: "yellow", Tone.BAD: "bold red", Tone.PALE: "dim", Tone.STRONG: "bold"}
_GAP = 2  # between columns
_SENTENCE = 24  # the least width to fold sentences to, as long as there is another way
_TRAILING = re.compile(r"( |\x1b\[[0-9;]*m)+$", re.MULTILINE)
_SET_OFF = re.compile(r" *\S{1,12} {2,}(?=\S)")
# harmless() lets none of these through from elsewhere, and what is printed has neither.
_KEPT = "\ue000"  # a space between words that stay in one line
_BREAK = "\x1f"  # where a word may be folded; a space to rich, which takes no room
_WORDS = re.compile(f"[ {_BREAK}]")


def on_terminal(page: Page, width: int) -> str:
    """Give the page as a terminal of this width shows it: folded between words, tones as colours."""
    can = Console(file=sys.stdout)
    stream = StringIO()
    console = Console(
        file=stream, force_terminal=True, width=width, color_system=cast(Any, can.color_system),
        no_color=can.no_color, legacy_windows=False, highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    for part in page.parts:
        if isinstance(part, Table):
            room = console.width - part.indent
            shown = _columns(part, room)
            console.print(Padding(_blocks(part, console, room) if shown is None else shown, (0, 0, 0, part.indent)))
        elif isinstance(part, Code):
            console.print(_text(part), soft_wrap=True)
        else:
            # Below what a word that is set off says, else two deeper than it began: a note stays one note to the eye.
            set_off = _SET_OFF.match(part)
            deep = set_off.end() if set_off else len(part) - len(part.lstrip()) + 2
            lines = textwrap.wrap(
                part, console.width, subsequent_indent=" " * deep, break_long_words=False, break_on_hyphens=False
            )
            for line in lines or [""]:
                console.print(_text(Toned(line, part.tone) if isinstance(part, Toned) else line), soft_wrap=True)
    written = stream.getvalue().replace(_KEPT, " ").replace(_BREAK, "")
    return _TRAILING.sub(lambda found: "\x1b[0m" if "\x1b" in found[0] else "", written)


def _foldable(cell: str, least: int) -> str:
    """A cell's text with marks of where it may be folded: code nowhere as long as there is another way to show it."""
    text = harmless(cell)
    if not isinstance(cell, Code):
        return text
    if least > 1:
        return text.replace(" ", _KEPT)
    code, mark, comment = text.partition("  # ")
    marked, deep, quoted = "", 0, ""
    for place, char in enumerate(code):
        before, after = code[max(place - 1, 0) : place], code[place + 1 : place + 2]
        deep += 0 if quoted else (char in "([{") - (char in ")]}")
        if char in "'\"" and quoted in ("", char):
            quoted = "" if quoted else char
        free = not quoted and (least < 1 or not deep)
        if char == " ":
            marked += char if free and (before == "," if deep else least < 1 or "=" not in before + after) else _KEPT
        else:
            marked += _BREAK + char if free and char == "." and before in (")", "]") and after.isalpha() else char
    return marked + mark + comment


def _text(shown: str, keep: str = "", least: int = _SENTENCE) -> Text:
    """What is shown, in its tone. The only control characters that leave are those that rich makes of a tone."""
    text = _foldable(shown, least) if isinstance(shown, Code) else harmless(shown, keep)
    return Text(text, style=_STYLES[shown.tone] if isinstance(shown, Toned) else "", overflow="fold")


def _columns(table: Table, room: int) -> RichTable | None:
    """The table's columns side by side, in the first way in which they fit: None where there is none."""
    found = next(((one, least) for one, least in _ways(table) if _fits(one, least, room)), None)
    if found is None:
        return None
    table, least = found
    rule = " " * 4
    box = Box("\n".join([rule, rule, " -- ", *[rule] * 5, ""]), ascii=True)
    shown = RichTable(box=box, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    high = max(head.count("\n") for head in table.rows[0])
    for column, (head, width) in enumerate(zip(table.rows[0], _widths(table, least), strict=True)):
        justify, whole = "right" if column in table.right else "left", column not in table.fold
        head = "\n" * (high - head.count("\n")) + head
        shown.add_column(_text(head, "\n"), justify=justify, min_width=max(width), no_wrap=whole)
    for row in table.rows[1:]:
        shown.add_row(*(_text(cell, least=least) for cell in row))
    return shown


def _ways(table: Table) -> Iterator[tuple[Table, int]]:
    """The ways to show a table, the best first, with the least width to which each folds its sentences.

    To a width of 1 code is folded too, before a method's dot; to 0 between its arguments as well.
    """
    for one in [table] if table.unpivot is None else [table, _unpivoted(table, table.unpivot)]:
        shown = one
        yield shown, _SENTENCE
        while shown.give_way:
            shown = _narrower(shown)
            yield shown, _SENTENCE
        yield shown, 1
        yield shown, 0


def _fits(table: Table, least: int, room: int) -> bool:
    widths = [max(each) for each in _widths(table, least)]
    return sum(widths) + _GAP * (len(widths) - 1) <= room


def _widths(table: Table, least: int) -> Iterator[list[int]]:
    """For each column widths that it must have: its longest cell, or ``least`` and its longest word where it folds."""
    for column, cells in enumerate(zip(*table.rows, strict=True)):
        whole = max(cell_len(line) for cell in cells for line in harmless(cell, "\n").split("\n"))
        words = (word for cell in cells for word in _WORDS.split(_foldable(cell, least)))
        yield [min(whole, least), *map(cell_len, words)] if column in table.fold else [whole]


def _narrower(table: Table) -> Table:
    """The table with a column fewer, the first that gives way: its cells in lines of their own in another's place."""
    column, other = table.give_way[0]
    rows: list[list[str]] = []
    for row in table.rows[1:]:
        moved = [cell if place < column < other else "" for place, cell in enumerate(row)]
        cells = ["" if place < column < other else cell for place, cell in enumerate(row)]
        moved[other] = row[column]
        both = [moved, cells] if column < other else [list(row), moved]
        rows += both if row[column] else [list(row)]
    head = list(table.rows[0])
    head[other] = "\n".join([head[column], head[other]] if column < other else [head[other], head[column]])

    def at(place: int) -> int:
        return place - (place > column)

    left = [[cell for place, cell in enumerate(row) if place != column] for row in (head, *rows)]
    return Table(
        [row for row in left if any(row)],
        right=[at(place) for place in table.right if place != column],
        indent=table.indent,
        fold=[at(place) for place in {*table.fold, *([other] if column in table.fold else [])} if place != column],
        give_way=[(at(one), at(two)) for one, two in table.give_way[1:]],
    )


def _unpivoted(table: Table, first: int) -> Table:
    """The table with a row for each of the columns from ``first`` on: what stands above it, and its cell."""
    head, *body = table.rows
    rows: list[list[str]] = [[*head[:first], "", ""]]
    for row in body:
        rows += [
            [*(row[:first] if column == first else [""] * first), head[column], cell]
            for column, cell in enumerate(row)
            if column >= first
        ]
    give_way = [(one, two) for one, two in table.give_way if one < first and two < first]
    return Table(rows, [one for one in table.right if one < first], table.indent, table.fold, give_way)


def _blocks(table: Table, console: Console, room: int) -> Group:
    """A table that has no room for its columns: a paragraph a row, each cell behind its column's name."""
    head, *rows = table.rows
    named = 1 + (head[0] == "#")  # the columns that say of what a row is
    shown: list[Padding] = []
    for row in rows:
        pieces: list[Text] = []
        for column, cell in enumerate(row):
            if cell:
                label = "" if column < named else harmless(head[column]).replace(" ", _KEPT)
                label += "" if column < named else " " if isinstance(cell, Code) else _KEPT
                wide = max(map(cell_len, _WORDS.split(_foldable(cell, 1)))) > room - 2
                value = _text(cell, least=0 if wide else 1)
                if column not in table.fold and not isinstance(cell, Code):
                    value.plain = value.plain.replace(" ", _KEPT)
                pieces.append(Text.assemble((label, "dim"), value))
        for number, line in enumerate(Text("  ").join(pieces).wrap(console, room - 2, overflow="fold")):
            shown.append(Padding(line, (0, 0, 0, 0 if not number and row[0] else 2)))
    return Group(*shown)
