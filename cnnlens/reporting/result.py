"""A report: its data, and the page that shows them."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlens.output import write_text
from cnnlens.page import Result
from cnnlens.reporting.words import Words
from cnnlens.text import printable

__all__ = ["Report"]


class Report(Result, listing="reporting.listing", name="report"):
    """Holds what a report says, and writes the page that shows it; a notebook shows that page.

    Attributes:
        data: What it says, as ``to_json`` gives it but for the format.
        block: The arrays that ``data["arrays"]`` tells of, packed, as base64.
        words: Those of the page.

    >>> import cnnlens.sample
    >>> made = cnnlens.report(cnnlens.sample.MODEL, layers=["conv2d"])
    >>> made.to_json()["format"], made.to_json()["layers"][0]["weights"][0]["view"]
    ('cnnlens.report/1', 'tiles')
    >>> made.html()[:15]
    '<!DOCTYPE html>'
    """

    def __init__(self, data: Mapping[str, Any], block: str, words: Words) -> None:
        """Made by ``cnnlens.report``."""
        self.data = dict(data)
        self.block = block
        self.words = words

    def __repr__(self) -> str:
        fed = self.data["inputs"]
        inputs = "" if fed is None else f", {fed['count']:,} inputs"
        file = printable(Path(self.data["model"]["file"]).name)
        return f"<Report {file}: {len(self.data['layers']):,} layers{inputs}>"

    def html(self) -> str:
        """Write the page: one HTML document that loads nothing and runs nothing but its own script."""
        from cnnlens.reporting.writing import written

        return written("report", self.to_json(), self.block, self.words)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to ``path``, whole or not at all.

        Raises:
            CnnlensError: it cannot be written there; one line.
        """
        write_text(path, self.html())
        return Path(path)

    def _repr_html_(self) -> str:
        return f'<iframe title="cnnlens" srcdoc="{html.escape(self.html())}" width="100%" height="720"></iframe>'
