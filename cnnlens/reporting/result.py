"""A report: its data, and the page that shows them."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlens.output import write_text
from cnnlens.reporting.words import Words
from cnnlens.text import printable

__all__ = ["Report"]

_FORMAT = "cnnlens.report/1"


class Report:
    """Holds what a report says, and writes the page that shows it; a notebook shows the page itself.

    >>> import cnnlens.sample
    >>> made = cnnlens.report(cnnlens.sample.MODEL, layers=["conv2d"])
    >>> made.to_json()["format"], made.to_json()["layers"][0]["weights"][0]["view"]
    ('cnnlens.report/1', 'tiles')
    >>> made.html()[:15]
    '<!DOCTYPE html>'
    """

    def __init__(self, data: Mapping[str, Any], block: str, words: Words) -> None:
        """Made by ``cnnlens.report``."""
        self._data = {"format": _FORMAT, **data}
        self._block = block
        self._words = words

    def __repr__(self) -> str:
        fed = self._data["inputs"]
        inputs = "" if fed is None else f", {fed['count']:,} inputs"
        file = printable(Path(self._data["model"]["file"]).name)
        return f"<Report {file}: {len(self._data['layers']):,} layers{inputs}>"

    def to_json(self) -> dict[str, Any]:
        """Give its data as JSON can hold them, as the page has them; the packed arrays are in the page alone."""
        return dict(self._data)

    def html(self) -> str:
        """Write the page: one HTML document that loads nothing."""
        from cnnlens.reporting.writing import written

        return written("report", self._data, self._block, self._words)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to ``path``, whole or not at all.

        Raises:
            CnnlensError: it cannot be written there; one line.
        """
        write_text(path, self.html())
        return Path(path)

    def _repr_html_(self) -> str:
        source = html.escape(self.html(), quote=True)
        return f'<iframe srcdoc="{source}" width="100%" height="720" frameborder="0"></iframe>'
