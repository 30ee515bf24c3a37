"""Lines of Python as a formatter would leave them: statements broken where they are too long, comments wrapped.

The generated file should pass ``ruff format --check`` without a formatter being installed where it is generated, so
the few shapes that generated statements have are laid out here by the same rules, for the width that formatters have
unless they are told otherwise.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

__all__ = ["WIDTH", "broken", "wrapped"]

WIDTH = 88
_OPENING = {"(": ")", "[": "]", "{": "}"}


def wrapped(text: str, indent: int) -> list[str]:
    """Wrap a comment."""
    lead = " " * indent + "# "
    return [lead + line for line in textwrap.wrap(text, max(WIDTH - len(lead), 20), break_long_words=False)]


def broken(text: str, indent: int) -> list[str]:
    """Write a statement on one line if it fits, else broken at its last bracket, an item a line."""
    lead = " " * indent
    if len(lead) + len(text) <= WIDTH:
        return [lead + text]
    body, tail = (text[:-1], text[-1]) if text.endswith((":", ",")) else (text, "")
    if body.startswith("return ") and not body.endswith(")") and _items(body[7:])[1:]:
        return [lead + "return (", *_each(_items(body[7:]), indent + 4), lead + ")"]
    head, equals, value = body.partition(" = ")
    if equals and len(_operands(value)) > 1:
        return _sum(head, value, indent)
    start = _last_bracket(body)
    if start is None or not body[start + 1 : -1].strip():
        return [lead + text]
    items = _items(body[start + 1 : -1])
    if body[start] == "(" and len(items) == 1 and not _is_call(body, start):
        return [lead + text]  # a comma would make a tuple of it
    inside = body[start + 1 : -1].strip()
    head, close = lead + body[: start + 1], lead + body[-1] + tail
    if len(lead) + 4 + len(inside) <= WIDTH:
        return [head, " " * (indent + 4) + inside, close]
    return [head, *_each(items, indent + 4), close]


def _each(items: Sequence[str], indent: int) -> list[str]:
    return [line for item in items for line in broken(f"{item},", indent)]


def _sum(head: str, value: str, indent: int) -> list[str]:
    lead, inner = " " * indent, " " * (indent + 4)
    if len(inner) + len(value) <= WIDTH:
        return [f"{lead}{head} = (", inner + value, f"{lead})"]
    lines = [f"{lead}{head} = ("]
    for operator, operand in _operands(value):
        lines += broken(f"{operator} {operand}" if operator else operand, indent + 4)
    return [*lines, f"{lead})"]


def _is_call(text: str, bracket: int) -> bool:
    return bracket > 0 and (text[bracket - 1].isalnum() or text[bracket - 1] in "_)]")


def _scan(text: str) -> list[tuple[int, int, str]]:
    """``(position, depth, character)`` of what stands outside string literals."""
    found: list[tuple[int, int, str]] = []
    depth, quote = 0, False
    for position, char in enumerate(text):
        if char == '"':
            quote = not quote
        if quote:
            continue
        if char in ")]}":
            depth -= 1
        found.append((position, depth, char))
        if char in "([{":
            depth += 1
    return found


def _last_bracket(text: str) -> int | None:
    """Where the bracket opens that the last character closes."""
    if not text or text[-1] not in ")]}":
        return None
    opening = [position for position, depth, char in _scan(text) if depth == 0 and char in _OPENING]
    return opening[-1] if opening else None


def _items(text: str) -> list[str]:
    cuts = [position for position, depth, char in _scan(text) if depth == 0 and char == ","]
    parts = [text[start:end] for start, end in zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(text)], strict=True)]
    return [part.strip() for part in parts if part.strip()]


def _operands(text: str) -> list[tuple[str, str]]:
    """The operands of a chain of operators outside all brackets, each with the operator in front of it."""
    found: list[tuple[str, str]] = []
    start, operator = 0, ""
    outside = [(position, char) for position, depth, char in _scan(text) if depth == 0]
    for position, char in outside:
        if char in "+-*/" and text[position - 1] == " " and text[position + 1 : position + 2] == " ":
            found.append((operator, text[start : position - 1]))
            start, operator = position + 2, char
    return [*found, (operator, text[start:])]
