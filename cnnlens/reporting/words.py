"""The words of the pages: a table a language, with the same keys in each."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cnnlens.errors import CnnlensError
from cnnlens.text import nearest, printable

__all__ = ["LANGUAGES", "Words", "language_named"]

LANGUAGES = ("en", "ko")


@dataclass(frozen=True)
class Words:
    """Holds the words of one language by key; ``{name}`` in one is filled in by the page."""

    language: str
    table: dict[str, str]


def language_named(name: str, *more: str) -> Words:
    """Read the words of a language: those of every page, and those of the pages named (``lesson``).

    Raises:
        CnnlensError: there are none.

    >>> language_named("ko").table["layers"]
    '층'
    """
    from importlib.resources import files  # which every command would wait for

    if name not in LANGUAGES:
        raise CnnlensError(f"there are no pages in '{printable(name)}'; {nearest(name, LANGUAGES)}")
    table: dict[str, str] = {}
    for part in ("", *(f"{page}." for page in more)):
        text = (files("cnnlens.reporting") / "languages" / f"{part}{name}.json").read_text(encoding="utf-8")
        table |= json.loads(text)
    return Words(name, table)
