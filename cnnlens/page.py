"""What a command or an object says, before it is known where it is shown: lines and tables, some of them in a tone.

The same page is plain text in a pipe or a file (``str``), fits a terminal's width there (``cnnlens.cli.terminal``), and
is HTML in a notebook. Cells and lines may hold what a stranger's file says: each of the three makes it harmless.
What has a page is ``Shown``: it says itself wherever a person meets it, and its class writes none of that.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import import_module
from itertools import groupby
from typing import Any, ClassVar, Self, TypeVar, overload

from cnnlens.text import columns, harmless

__all__ = ["Code", "Linked", "Page", "Picture", "Result", "Rows", "Shown", "Table", "Tone", "Toned"]

_T = TypeVar("_T")

_SENTENCE = 60  # characters of a cell that HTML folds, where its column may be folded
_MOST_ROWS = 60  # of a table, or lines in a row, that are shown to whoever did not ask for all

# Every rule is for what is inside of a page's own div. Colours are mixed with the text's, which is dark on light and
# light on dark, so that no rule has to find out what theme a notebook is in. The class thrice outweighs the rules that
# notebooks have for every table.
_RULES = {
    "": "color: inherit; font-size: 13px; line-height: 1.5; max-width: 100%",
    " p": "margin: 0 0 .6em; white-space: pre-wrap; overflow-wrap: anywhere; text-align: left",
    " .wide": "overflow-x: auto; margin: 0 0 .6em",
    " pre": "overflow-x: auto; margin: 0 0 1em; padding: .7em 1em; font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, "
    "Consolas, 'DejaVu Sans Mono', monospace; white-space: pre; text-align: left; tab-size: 4; border: 0; "
    "border-radius: 4px; color: inherit; background: color-mix(in srgb, currentColor 6%, transparent)",
    " table": "border-collapse: collapse; border: 0; margin: 0; table-layout: auto; font: 12px/1.5 ui-monospace, "
    "SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-variant-numeric: tabular-nums",
    " tr": "background: none; border: 0",
    " tbody tr:hover": "background: color-mix(in srgb, currentColor 6%, transparent)",
    " :is(th, td)": "padding: .2em 1.4em .2em 0; border: 0; border-top: 1px solid "
    "color-mix(in srgb, currentColor 12%, transparent); text-align: left; vertical-align: top; white-space: pre; "
    "max-width: none; color: inherit; font-weight: normal",
    " th": "border-top: 0; color: color-mix(in srgb, currentColor 65%, transparent); position: static",
    " tbody tr:first-child td": "border-top-color: color-mix(in srgb, currentColor 45%, transparent)",
    " tbody tr.more td": "border-top-color: transparent",
    " :is(th, td).right": "text-align: right",
    " td.fold": "white-space: pre-wrap; min-width: 28ch; overflow-wrap: anywhere",
    " .good": "color: #14863f; color: color-mix(in srgb, #1fa34f 72%, currentColor)",
    " .doubt": "color: #9a6700; color: color-mix(in srgb, #c98500 72%, currentColor)",
    " .bad": "color: #cf222e; color: color-mix(in srgb, #f0323c 76%, currentColor); font-weight: 600",
    " .pale": "color: #777; color: color-mix(in srgb, currentColor 65%, transparent)",
    " .strong": "font-weight: 600",
    " a": "color: inherit; text-decoration: underline; text-decoration-thickness: 1px; text-underline-offset: .2em; "
    "text-decoration-color: color-mix(in srgb, currentColor 45%, transparent)",
    " a:hover": "text-decoration-color: currentColor",
    " :target": "scroll-margin-top: 2em",
    " :is(p, tr):has(:target)": "background: color-mix(in srgb, #f5c400 22%, transparent)",
    " figure": "margin: 0 0 .6em; padding: 0",
    " img": "display: block; max-width: 100%; margin: 0; image-rendering: pixelated; background: none",
    " figcaption": "font-size: 12px; margin-top: .3em; text-align: left; "
    "color: color-mix(in srgb, currentColor 65%, transparent)",
}
_MEDIA = {
    # Where a terminal would put columns into lines of their own, a row becomes a few lines that say their columns.
    "@media screen and (max-width: 640px)": {
        " .gives thead": "display: none",
        " .gives :is(table, tbody, tr, td)": "display: block; min-width: 0",
        " .gives tr": "padding: .4em 0; border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent)",
        " .gives td": "padding: 0; border: 0; text-align: left; white-space: pre-wrap; overflow-wrap: anywhere",
        " .gives td:empty": "display: none",
        " .gives td[data-of]::before": "content: attr(data-of) ': '; "
        "color: color-mix(in srgb, currentColor 65%, transparent)",
    },
    # What can be scrolled fades at the edge that more is behind, in browsers that know how far it is.
    "@supports (animation-timeline: scroll())": {
        " :is(.wide, pre)": "animation: cnnlens-more linear both; animation-timeline: scroll(self inline)"
    },
    "@media print": {
        " .wide": "overflow: visible",
        " :is(th, td, pre)": "white-space: pre-wrap; padding-right: .8em",
        " :is(pre, td.fold)": "overflow-wrap: anywhere",
        " td.fold": "min-width: 14ch",
        " :is(table, pre)": "font-size: 9px",
        " :is(tr, p)": "break-inside: avoid",
    },
}
_FADES = "linear-gradient(to right, #000 calc(100% - 3em), transparent) 0 0 / {} 100% no-repeat"
_MORE = "".join(f"{at} {{mask: {_FADES.format(size)}}} " for at, size in (("from", "100%"), ("to", "calc(100% + 3em)")))


def _rules(rules: Mapping[str, str], within: str = "") -> str:
    return "".join(f"{within}div.cnnlens.cnnlens.cnnlens{inside} {{{rule}}}\n" for inside, rule in rules.items())


_STYLE = _rules(_RULES)
# Of a document by itself, for the window does not say whether a notebook's cell is narrow; it outweighs those.
_ALONE = "".join(
    [
        *(f"{where} {{\n{_rules(rules, 'body ')}}}\n" for where, rules in _MEDIA.items()),
        f"@keyframes cnnlens-more {{{_MORE}}}",
    ]
)


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

    def __new__(cls, text: str, tone: Tone) -> Self:
        made = super().__new__(cls, text)
        made.tone = tone
        return made


class Linked(Toned):
    """Is a text of pieces that lead to places of the page, and may be such a place itself; elsewhere it is plain text.

    Args:
        pieces: Each with the name of the place that it leads to; empty where it leads nowhere.
        name: The name of this place: letters, digits and hyphens; empty where nothing leads here.

    >>> Linked([("2 wrong", "finding-1"), (" of 9", "")], Tone.BAD)
    '2 wrong of 9'
    """

    pieces: Sequence[tuple[str, str]]
    name: str

    def __new__(cls, pieces: Sequence[tuple[str, str]], tone: Tone, name: str = "") -> Self:
        made = super().__new__(cls, "".join(text for text, _ in pieces), tone)
        made.pieces, made.name = pieces, name
        return made


class Code(str):
    """Is a line of code. In a cell, where it must be folded, then before a method's dot, and between arguments only at
    last; by itself it stays one line, to be copied as it is.

    >>> Code("kernel.reshape(3, 4).T")
    'kernel.reshape(3, 4).T'
    """


class Rows(Sequence[Sequence[str]]):
    """Are the rows of a table, each made when it is first asked for: of thousands only those that are shown.

    Args:
        head: What the columns are.
        of: What each row below is about; ``made`` gives its cells.

    >>> rows = Rows(["number"], range(10**9), lambda number: [f"{number:,}"])
    >>> rows[0], rows[1], rows[-1], len(rows)
    (['number'], ['0'], ['999,999,999'], 1000000001)
    """

    def __init__(self, head: Sequence[str], of: Sequence[_T], made: Callable[[_T], Sequence[str]]) -> None:
        def row(place: int) -> Sequence[str]:
            return made(of[place - 1]) if place else head

        self._count = 1 + len(of)
        self._row = cache(row)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Sequence[str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sequence[str]]: ...
    def __getitem__(self, index: int | slice) -> Sequence[str] | list[Sequence[str]]:
        places = range(self._count)[index]
        return self._row(places) if isinstance(places, int) else [self._row(place) for place in places]


@dataclass(frozen=True)
class Table:
    """Holds cells in rows, the first of which says what the columns are.

    Attributes:
        rows: As many cells in each; a cell may be ``Toned``.
        right: The columns whose cells are aligned right.
        indent: Spaces in front of each line of text.
        fold: The columns that hold sentences, whose cells may be folded between words where a line is too short for
            them; those of all others stay whole.
        give_way: What becomes of columns where that is not enough, in order: ``(column, other)`` puts the cells of
            ``column`` into lines of their own in the place of ``other``, below their row where ``other`` stands in
            front of it, above it (with all that stands in front of it) where ``other`` stands behind.
        unpivot: The first of the columns that, where even that is not enough, become a row each: what stands above
            them, and their cell. None where they may not.

    >>> print("\\n".join(Table([["layer", "bits"], ["conv", "24.1"], ["dense", "9.8"]], right=[1]).lines()))
    layer  bits
    -----------
    conv   24.1
    dense   9.8
    """

    rows: Sequence[Sequence[str]]
    right: Collection[int] = ()
    indent: int = 0
    fold: Collection[int] = ()
    give_way: Sequence[tuple[int, int]] = ()
    unpivot: int | None = None

    def lines(self) -> list[str]:
        """Write the table as text, at the width that its cells need."""
        return [" " * self.indent + line for line in columns(self.rows, self.right)]

    def short(self) -> list[str | Table]:
        """Give the table without its middle where it is long, and a line that says so."""
        count = len(self.rows) - 1
        if count <= _MOST_ROWS:
            return [self]
        gap = [Toned("…", Tone.PALE)] * len(self.rows[0])
        rows = [*self.rows[: 1 + _MOST_ROWS * 2 // 3], gap, *self.rows[-_MOST_ROWS // 3 :]]
        return [replace(self, rows=rows), _left_out(count - _MOST_ROWS, count, "rows")]


@dataclass(frozen=True)
class Picture:
    """Holds a small PNG, and in words what it shows."""

    png: bytes
    text: str


@dataclass(frozen=True, repr=False)
class Page:
    """Holds lines of text and tables, in order; an empty line stands between what does not belong together.

    In a notebook it is shown as tables, and at a Python prompt as text: both leave out the middle of a long table, and
    say so. ``print`` and ``html`` have all of it.

    Attributes:
        parts: The lines and tables.
        picture: Draws what stands under them where pictures can be shown; None where there is none.

    >>> page = Page(["model.keras", "", Table([["layer", "kind"], ["conv", "Conv2D"]]), "1 layer"])
    >>> print(page, end="")
    model.keras
    <BLANKLINE>
    layer  kind
    -------------
    conv   Conv2D
    1 layer
    >>> Page(["<b>"]).fragment()
    '<p>&lt;b&gt;</p>'
    """

    parts: Sequence[str | Table]
    picture: Callable[[], Picture | None] | None = None

    def __str__(self) -> str:
        lines = (part.lines() if isinstance(part, Table) else [harmless(part, keep="\n")] for part in self.parts)
        return "\n".join([*(line for each in lines for line in each), ""])

    def __repr__(self) -> str:
        return str(self._short()).rstrip("\n")

    def fragment(self) -> str:
        """Write the page as HTML without a style of its own: ``p``, ``table`` and ``figure``, tones as classes."""
        pieces: list[str] = []
        for kind, run in groupby(self.parts, _sort):
            if kind == "table":
                pieces += [_table_html(one) for one in run if isinstance(one, Table)]
            elif kind == "code":
                pieces.append("<pre>" + "\n".join(_inline(line) for line in run if isinstance(line, str)) + "</pre>")
            elif kind == "line":
                pieces.append("<p>" + "<br>".join(_inline(line) for line in run if isinstance(line, str)) + "</p>")
        picture = None if self.picture is None else self.picture()
        if picture is not None:
            data, said = base64.b64encode(picture.png).decode("ascii"), _inline(picture.text)
            pieces.append(f'<figure><img src="data:image/png;base64,{data}" alt="{said}">'
                          f"<figcaption>{said}</figcaption></figure>")  # fmt: skip
        return "\n".join(pieces)

    def html(self, title: str = "cnnlens") -> str:
        """Write the page as a whole HTML document, to keep or to send: it loads nothing and runs nothing.

        >>> Page(["agrees"]).html().splitlines()[-4:]
        ['<p>agrees</p>', '</div>', '</body>', '</html>']
        """
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{_inline(title)}</title>
<style>body {{font-family: system-ui, sans-serif; margin: 2em}}
{_ALONE}</style>
</head>
<body>
{self._styled()}
</body>
</html>
"""

    def _repr_html_(self) -> str:
        return self._short()._styled()

    def _styled(self) -> str:
        return f'<div class="cnnlens"><style>\n{_STYLE}</style>\n{self.fragment()}\n</div>'

    def _short(self) -> Page:
        """The page without the middle of what is long, and a line that says so."""
        parts: list[str | Table] = []
        for is_table, run in groupby(self.parts, lambda part: isinstance(part, Table)):
            some = list(run)
            if not is_table and len(some) > _MOST_ROWS:
                left = len(some) - _MOST_ROWS
                some[_MOST_ROWS * 2 // 3 : -_MOST_ROWS // 3] = [_left_out(left, len(some), "lines")]
            for part in some:
                parts += [part] if isinstance(part, str) else part.short()
        return replace(self, parts=parts)


def _sort(part: str | Table) -> str:
    """What stands together in HTML; an empty line ends a paragraph, and code holds some."""
    return "table" if isinstance(part, Table) else "code" if isinstance(part, Code) else "line" if part else ""


def _left_out(count: int, of: int, what: str) -> Toned:
    return Toned(f"… {count:,} of {of:,} {what} are left out; print() shows them", Tone.PALE)


class Shown:
    """Shows itself to a person: as text (``str``), in a notebook, and as an HTML document (``html``).

    What it says stands in the listing of its room. A subclass names that module, and which of its functions: with
    ``class Twins(Shown, listing="checking.listing", of="twins")`` it is ``twins_page``. By name, because a listing
    reads the class that it lists, and modules import each other in no circle.
    """

    _listing: ClassVar[tuple[str, str]]

    def __init_subclass__(cls, *, listing: str = "", of: str = "as", **more: Any) -> None:
        super().__init_subclass__(**more)
        if listing:
            cls._listing = (f"cnnlens.{listing}", of)

    def __str__(self) -> str:
        return str(self._said("page")).rstrip("\n")

    def html(self) -> str:
        """Write the table, and what else is said, as a whole HTML document that loads and runs nothing."""
        return self._said("page").html(f"cnnlens: {repr(self).strip('<>')}")

    def _repr_html_(self) -> str:
        return self._said("page")._repr_html_()

    def _said(self, how: str) -> Any:
        module, of = self._listing
        return getattr(import_module(module), f"{of}_{how}")(self)


class Result(Shown):
    """Is what a command gives, too: it has that command's data, whose format has a ``name``."""

    _format: ClassVar[str]

    def __init_subclass__(cls, *, name: str, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._format = f"cnnlens.{name}/1"

    def to_json(self) -> dict[str, Any]:
        """Give plain data that JSON can hold, the same that the command prints with ``--json``."""
        return {"format": self._format, **self._said("json")}


def _inline(text: str) -> str:
    if not isinstance(text, Toned):
        return html.escape(harmless(text))
    pieces, name = (text.pieces, text.name) if isinstance(text, Linked) else ([(str(text), "")], "")
    inside = "".join(f'<a href="#{to}">{_inline(piece)}</a>' if to else _inline(piece) for piece, to in pieces)
    place = f' id="{name}"' if name else ""
    return f'<span class="{text.tone}"{place}>{inside}</span>'


def _table_html(table: Table) -> str:
    head, *body = table.rows
    # A column whole: a short cell of it that is not folded would make it as wide as the longest such.
    sentences = {column for column in table.fold if any(len(cells[column]) > _SENTENCE for cells in body)}
    gives = bool(table.give_way) or table.unpivot is not None

    def side(column: int, tag: str) -> str:
        place = ' class="right"' if column in table.right else ' class="fold"' if column in sentences else ""
        return f'{place} data-of="{html.escape(harmless(head[column]))}"' if gives and column and tag == "td" else place

    def row(cells: Sequence[str], tag: str) -> str:
        more = ' class="more"' if tag == "td" and not cells[0] else ""  # of what the row above is about
        return f"<tr{more}>" + "".join(
            f"<{tag}{side(column, tag)}>{_inline(cell)}</{tag}>" for column, cell in enumerate(cells)
        ) + "</tr>"  # fmt: skip

    inside = "".join(row(cells, "td") for cells in body)
    made = f"<table><thead>{row(head, 'th')}</thead><tbody>{inside}</tbody></table>"
    return f'<div class="wide{" gives" * gives}">{made}</div>'
