"""What a command or an object says, before it is known where it is shown: lines and tables, some of them in a tone.

The same page is plain text in a pipe or a file (``str``), fits a terminal's width there (``cnnlens.cli.printing``), and
is HTML in a notebook. Cells and lines may hold what a stranger's file says: each of the three makes it harmless.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from cnnlens.text import columns, harmless

__all__ = ["Page", "Table", "Tone", "Toned"]


class Tone(StrEnum):
    """Says how a cell or a line is meant, for places that have colours: the words say the same."""

    GOOD = "good"
    DOUBT = "doubt"
    BAD = "bad"
    PALE = "pale"
    STRONG = "strong"


class Toned(str):
    """Is a text with a tone.

    >>> Toned("wrong", Tone.BAD), Toned("wrong", Tone.BAD).tone
    ('wrong', <Tone.BAD: 'bad'>)
    """

    tone: Tone

    def __new__(cls, text: str, tone: Tone) -> Toned:
        made = super().__new__(cls, text)
        made.tone = tone
        return made


@dataclass(frozen=True)
class Table:
    """Holds cells in rows, the first of which says what the columns are.

    Attributes:
        rows: As many cells in each; a cell may be ``Toned``.
        right: The columns whose cells are aligned right.
        indent: Spaces in front of each line of text.

    >>> print("\\n".join(Table([["layer", "bits"], ["conv", "24.1"], ["dense", "9.8"]], right=[1]).lines()))
    layer  bits
    -----------
    conv   24.1
    dense   9.8
    """

    rows: Sequence[Sequence[str]]
    right: Collection[int] = ()
    indent: int = 0

    def lines(self) -> list[str]:
        """Write the table as text, at the width that its cells need."""
        return [" " * self.indent + line for line in columns(self.rows, self.right)]


@dataclass(frozen=True)
class Page:
    """Holds lines of text and tables, in order; an empty line stands between what does not belong together.

    >>> page = Page(["model.keras", "", Table([["layer", "kind"], ["conv", "Conv2D"]]), "1 layer"])
    >>> print(page, end="")
    model.keras
    <BLANKLINE>
    layer  kind
    ------------
    conv   Conv2D
    1 layer
    >>> Page(["<b>"]).html()
    '<p>&lt;b&gt;</p>'
    """

    parts: Sequence[str | Table]

    def __str__(self) -> str:
        lines = (part.lines() if isinstance(part, Table) else [harmless(part, keep="\n")] for part in self.parts)
        return "\n".join([*(line for each in lines for line in each), ""])

    def html(self) -> str:
        """Write the page as HTML without a style of its own: ``p`` and ``table``, tones as classes."""
        pieces: list[str] = []
        for kind, run in groupby(
            self.parts, lambda part: "table" if isinstance(part, Table) else "line" if part else ""
        ):
            if kind == "table":
                pieces += [_table_html(one) for one in run if isinstance(one, Table)]
            elif kind == "line":
                pieces.append("<p>" + "<br>".join(_inline(line) for line in run if isinstance(line, str)) + "</p>")
        return "\n".join(pieces)


def _inline(text: str) -> str:
    escaped = html.escape(harmless(text))
    return f'<span class="{text.tone}">{escaped}</span>' if isinstance(text, Toned) else escaped


def _table_html(table: Table) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        styles = (' style="text-align: right"' if column in table.right else "" for column in range(len(table.rows[0])))
        return "<tr>" + "".join(
            f"<{tag}{style}>{_inline(cell)}</{tag}>" for cell, style in zip(cells, styles, strict=True)
        ) + "</tr>"  # fmt: skip

    head, *body = table.rows
    inside = "".join(row(cells, "td") for cells in body)
    return f"<table><thead>{row(head, 'th')}</thead><tbody>{inside}</tbody></table>"
