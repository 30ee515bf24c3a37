"""A report in a notebook: the cell's output is a frame with the whole page, which works there and can be saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import browser
from tests.support.notebooks import executed, html_of, text_of

__all__ = ["browser"]


@pytest.mark.browser
@pytest.mark.slow
def test_a_notebook_shows_the_page_and_its_links_stay_in_it(browser: Any, tmp_path: Path) -> None:
    outputs = executed(
        tmp_path,
        "import cnnlens, cnnlens.sample\n"
        "made = cnnlens.report(cnnlens.sample.MODEL, inputs=cnnlens.sample.IMAGES, layers=['conv2d'])\nmade",
        "made.save('report.html')",
    )
    assert text_of(outputs[0]) == "<Report fashion_mnist_cnn.keras: 8 layers, 10 inputs>"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!DOCTYPE html><title>notebook</title>{html_of(outputs[0])}", encoding="utf-8")
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(notebook.as_uri())
    frame = page.frames[1]
    frame.locator('#network a[href="#layer-0"]').click()
    frame.locator("#layer-0 .kernels canvas").first.wait_for()
    assert frame.url == "about:srcdoc"
    assert frame.evaluate("scrollY") > 0
    page.close()
    assert not said
