"""What is shown: names from files made safe, cells in columns, numbers that JSON can hold.

Layer names come from strangers: they may hold terminal escapes, right-to-left overrides, line breaks or five thousand
characters. Whatever is printed, drawn or put into an error message passes through here first: ``printable`` where a
name is put into a sentence, and ``harmless`` in the doors that everything leaves by (the constructor of an error, the
printer of the command line, the cells of a table), for what nobody thought of as a stranger's.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterable, Sequence

__all__ = ["columns", "finite_or_null", "harmless", "nearest", "printable"]

# Unicode general categories that move the cursor, hide, reorder or have no glyph: control, format (which holds the
# bidirectional overrides), surrogate, private use, unassigned, and the line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def harmless(text: str, keep: str = "") -> str:
    """Write every character as an escape (``\\x1b``) that a terminal would obey or hide, but those in ``keep``."""
    if text.isprintable():  # no separator either, but the space
        return text
    if len(keep) == 1 and keep in text:
        return keep.join(map(harmless, text.split(keep)))
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if char not in keep and unicodedata.category(char) in _UNSAFE_CATEGORIES
        else char
        for char in text
    )


def printable(text: object, limit: int = 80) -> str:
    """Put ``text`` on one line, unsafe characters as ``\\x..`` escapes, cut to ``limit`` in the middle.

    The end stays behind the ellipsis, because there names of layers differ, and paths say the file.
    """
    raw = str(text)
    shown = harmless(raw[: limit + 1])
    if len(raw) <= limit and len(shown) <= limit:
        return shown
    kept = max(limit - 1, 1)
    back = kept // 2
    return shown[: kept - back] + "…" + harmless(raw[max(len(raw) - back, 0) :])[-back:] * (back > 0)


def nearest(wanted: str, known: Iterable[str]) -> str:
    """Write the end of a "no such name" message: the closest known names, or the first few if none is close."""
    import difflib  # here, because most of what is shown has no need of it

    names = list(known)
    close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{printable(name)}'" for name in close) + "?"
    if not names:
        return "there are none"
    few = ", ".join(f"'{printable(name)}'" for name in names[:6])
    return f"there are {few}" + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Write the cells of each column below each other, a rule under the first line; ``right`` are aligned right."""
    rows = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(len(line) for line in lines), *lines[1:]]


def finite_or_null(value: float | None) -> float | None:
    """Make a number fit for JSON, which has neither NaN nor infinity: None for them, and for none at all."""
    return None if value is None or not math.isfinite(value) else float(value)
