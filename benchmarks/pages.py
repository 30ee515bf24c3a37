"""A report's page: how long it takes to make, how large it is, and how smoothly a browser scrolls it.

ResNet50 (random weights) with one picture and the reference's check, and the sample with its ten pictures. The page is
opened from disk in Chromium without a window; a frame's time is that between two of its animation frames while the
whole page goes by, drawing what comes into view.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.applications import write_models
from benchmarks.harness import Options, Report, Row, cnnlens, watched
from cnnlens import sample

__all__ = ["PAGES", "run"]

# Name: megabytes, and seconds, that its page may take.
PAGES = {"sample": (5.0, 6.0), "ResNet50": (25.0, 60.0)}
_MEMORY = 3.0  # GB
_PAINT, _FRAME = 1000.0, 50.0  # ms

_SCROLL = """async step => {
    const longest = {frame: 0, at: 0};
    let before = performance.now();
    for (let top = 0; top < document.documentElement.scrollHeight; top += step) {
        scrollTo(0, top);
        const now = await new Promise(requestAnimationFrame);
        if (now - before > longest.frame) Object.assign(longest, {frame: now - before, at: top});
        before = now;
    }
    return longest;
}"""
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def _browsed(page: Path, step: int) -> dict[str, Any]:
    from tests.support.browser import chromium

    with chromium() as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 1000})
        opened.goto(page.as_uri())
        opened.wait_for_timeout(1000)
        return {"paint": opened.evaluate(_PAINTED), **opened.evaluate(_SCROLL, step)}


def run(options: Options, report: Report) -> None:
    """Five rows a page."""
    report.found = {}
    with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
        for name in options.names or PAGES:
            size, time = PAGES[name]
            page = Path(folder) / f"{name}.html"
            if name == "sample":
                model, inputs, backends = sample.MODEL, sample.IMAGES, []
            else:
                write_models(Path(folder), [name])
                model, inputs, backends = Path(folder) / f"{name}.keras", Path(folder) / "x.npy", ["-b", "reference"]
                np.save(inputs, np.load(Path(folder) / f"{name}.input.npy")[:1])
            ran = watched(cnnlens("report", model, "--inputs", inputs, *backends, "-o", page))
            found = _browsed(page, 400 if options.small else 100)
            report.found[name] = found
            report.row(Row.limit(f"{name}: the page is made", ran.seconds, time, "s"))
            report.row(Row.limit(f"{name}: memory while it is made", ran.peak, _MEMORY, "GB"))
            report.row(Row.limit(f"{name}: the page", page.stat().st_size / 1e6, size, "MB"))
            report.row(Row.limit(f"{name}: first paint from disk", found["paint"], _PAINT, "ms"))
            report.row(Row.limit(f"{name}: longest frame while all of it scrolls by", found["frame"], _FRAME, "ms"))
