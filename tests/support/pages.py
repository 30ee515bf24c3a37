"""The pages of ``docs`` that a static host can show as they are, and the screenshots of them that the README has.

``python -m tests.support.pages`` makes all of them anew. It needs the three frameworks that check the sample,
and a browser for the screenshots.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cnnlens
from tests.support import ROOT
from tests.support.browser import chromium
from tests.support.readme import demo_folder

__all__ = ["DOCS", "MADE", "make_pages", "sample_report"]

DOCS = ROOT / "docs"

_BACKENDS = ["keras-tensorflow", "keras-jax", "keras-torch"]


def sample_report(backends: list[str] | None) -> Any:
    """The report of the sample with four of its images, held against a port with three mistakes in it; made in the
    folder that ``cnnlens demo`` leaves. It does not name the machine."""
    made = cnnlens.report(
        "fashion_mnist_cnn.keras", inputs="images", limit=4, backends=backends, against="ported.safetensors",
        progress=False,
    )  # fmt: skip
    made.data["made_with"] = {key: said for key, said in made.data["made_with"].items() if key != "platform"}
    return made


MADE: Mapping[str, Callable[[], Any]] = {
    "report.html": lambda: sample_report(_BACKENDS),
    "lesson.html": lambda: cnnlens.lesson("en"),
    "lesson.ko.html": lambda: cnnlens.lesson("ko"),
}
"""By the name of each page what makes it."""

_SHOWN: Mapping[str, Callable[[], Any]] = {
    "average.html": lambda: cnnlens.report("average.keras", backends=_BACKENDS[1:], progress=False)
}
"""The same of pages that only a screenshot shows."""

# By the name of a screenshot: the page, what is at its top, how wide and how high it is, and in which theme.
_SCREENSHOTS = {
    "report.png": ("report.html", "#layer-0", 1280, 860, "light"),
    "report-check.png": ("average.html", "#check", 1280, 1080, "light"),
    "lesson.png": ("lesson.html", "#kernel .shown", 1280, 800, "light"),
}


def make_pages(target: Path) -> list[Path]:
    """Make every page, and in the folder ``screenshots`` below every screenshot."""
    with demo_folder() as folder:
        pages = [make().save(target / name) for name, make in MADE.items()]
        shown = [make().save(folder / name) for name, make in _SHOWN.items()]
        return [*pages, *_screenshots({page.name: page for page in (*pages, *shown)}, target / "screenshots")]


def _screenshots(pages: Mapping[str, Path], target: Path) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name, (page, place, width, height, theme) in _SCREENSHOTS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme, offline=True)
            opened = context.new_page()
            opened.goto(pages[page].resolve().as_uri())
            opened.locator("#made dl, #further").wait_for()
            opened.evaluate("place => document.querySelector(place).scrollIntoView()", place)
            opened.wait_for_timeout(1500)  # until what came into sight is painted
            opened.screenshot(path=target / name)
            context.close()
    return [target / name for name in _SCREENSHOTS]


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DOCS
    for made in make_pages(folder):
        print(f"{made} {made.stat().st_size:,} bytes")
