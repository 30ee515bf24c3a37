"""The lesson as notebooks, ``docs/lesson.ipynb`` and ``docs/lesson.ko.ipynb``: the words of its page, and a line or two
of Python for each chapter. ``python -m tests.support.lesson_notebook`` writes both anew; they are kept without outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import nbformat

import cnnlens
from cnnlens.reporting.chapters.course import CHAPTERS
from cnnlens.reporting.words import LANGUAGES
from tests.support import ROOT

__all__ = ["made", "notebook"]

_BEGIN = """
import numpy as np

import cnnlens
import cnnlens.sample

net = cnnlens.open(cnnlens.sample.MODEL)
images = cnnlens.sample.IMAGES
chapters = cnnlens.lesson().data["chapters"]
net
"""
_CODE: Mapping[str, tuple[str, ...]] = {
    "kernel": (
        """
        cnnlens.plot.kernel_and_map(net, images, layer="conv2d", kernel=11, index=9)
        """,
        """
        picture = net.read(images).arrays["input_layer"][9, 0]
        kernel, bias = net["conv2d"].kernel.array[11, 0], net["conv2d"].weights["bias"][11]
        worked = max(0, (picture[19:22, 19:22] * kernel).sum() + bias)
        computed = net.run(images, layers=["conv2d"])["conv2d"][9, 11, 20, 20]
        assert np.isclose(worked, computed, rtol=1e-5)
        worked, computed
        """,
    ),
    "memory": (
        """
        keras = cnnlens.layout.memory("HWIO", (3, 3, 2, 4))
        torch = cnnlens.layout.memory("OIHW", (4, 2, 3, 3))
        assert np.zeros((3, 3, 2, 4)).strides == tuple(8 * step for step in keras.strides)
        keras.strides, torch.strides
        """,
    ),
    "maps": (
        """
        maps = np.moveaxis(net.run(images, layers=["max_pooling2d"])["max_pooling2d"][9:, 13:16], 1, -1)
        right, wrong = maps.transpose(0, 3, 1, 2), maps.reshape(1, 3, 14, 14)
        assert right.shape == wrong.shape
        assert not np.array_equal(right, wrong)
        cnnlens.plot.feature_maps(wrong)
        """,
    ),
    "mistakes": (
        """
        [(one["code"], one["misplaced"], one["right"]) for one in chapters["mistakes"]["readings"]]
        """,
    ),
    "flatten": (
        """
        map = np.arange(24).reshape(1, 2, 3, 4)  # (N, H, W, C), each number its feature in Keras
        map.reshape(1, -1), map.transpose(0, 3, 1, 2).reshape(1, -1)
        """,
        """
        [(one["code"], one["right"]) for one in chapters["flatten"]["readings"]]
        """,
    ),
    "padding": (
        """
        {one["size"]: one["same"] for one in chapters["padding"]["axis"]}  # zeros before and behind, kernel 3, stride 2
        """,
    ),
    "untrained": (
        """
        cnnlens.plot.histogram(net["conv2d"], untrained=True)
        """,
    ),
    "depth": (
        """
        cnnlens.plot.feature_maps(net, images, layer="conv2d", index=9)
        """,
        """
        cnnlens.plot.feature_maps(net, images, layer="conv2d_1", index=9)
        """,
    ),
    "rounding": (
        """
        [(one["name"], round(one["bits"], 1), one["error"], one["verdict"]) for one in chapters["rounding"]["rows"]]
        """,
    ),
}
_END = """
cnnlens.lesson().save("lesson.html").name
"""


def notebook(language: str) -> str:
    """Write the notebook of a language."""
    lesson = cnnlens.lesson(language)
    words = lesson.words.table

    def said(key: str, places: Mapping[str, str]) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: places[found[1]], words[f"lesson.{key}"])

    model = {"parameters": f"{lesson.data['model']['parameters']:,}"}
    cells = [
        nbformat.v4.new_markdown_cell(
            f"# {words['lesson.title']}\n\n{words['lesson.lead']}\n\n{said('sample', model)}"
        ),
        _code(_BEGIN),
    ]
    for number, name in enumerate(CHAPTERS, 1):
        places = lesson.data["chapters"][name]["places"]
        title, text, after = (said(f"{name}.{part}", places) for part in ("title", "text", "after"))
        cells.append(nbformat.v4.new_markdown_cell(f"## {number}. {title}\n\n{text}"))
        cells += [_code(one) for one in _CODE[name]]
        cells.append(nbformat.v4.new_markdown_cell(after))
    cells += [
        nbformat.v4.new_markdown_cell(f"## {words['lesson.further']}\n\n{words['lesson.further_text']}"),
        _code(_END),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=kernel)) + "\n"


def _code(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(re.sub(r"^ {8}", "", text, flags=re.MULTILINE).strip())


def made() -> dict[Path, str]:
    """Write the notebooks of all languages, by where they lie."""
    names = {language: "lesson.ipynb" if language == "en" else f"lesson.{language}.ipynb" for language in LANGUAGES}
    return {ROOT / "docs" / name: notebook(language) for language, name in names.items()}


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
        print(f"{path} {len(text):,} characters")
