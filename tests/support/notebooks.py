"""A notebook whose cells are executed, as a person's Jupyter does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbclient
import nbformat


def executed(folder: Path, *cells: str) -> list[list[Any]]:
    """What each cell put out, in order; a cell that fails raises."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [cell.outputs for cell in notebook.cells]


def html_of(outputs: list[Any]) -> str:
    """The HTML of a cell's last output."""
    return str(outputs[-1].data["text/html"])


def text_of(outputs: list[Any]) -> str:
    """What the same is where there is no HTML."""
    return str(outputs[-1].data["text/plain"])
