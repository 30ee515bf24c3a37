"""A report opened in a browser, from disk and without a network: it says no error, and answers pointer and keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cnnlens
from cnnlens.sample import IMAGES, MODEL
from tests.support.browser import browser

__all__ = ["browser"]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = cnnlens.report(MODEL, inputs=IMAGES, backends=["reference"], progress=False)
    return made.save(tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(params=[(360, "dark"), (1280, "light")], ids=["phone, dark", "desk, light"])
def page(browser: Any, path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, opened; nothing is said on its console."""
    width, theme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, offline=True)
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(path.as_uri())
    yield opened
    context.close()
    assert not said


def test_it_is_shown_and_answers_the_keyboard(page: Any) -> None:
    assert page.locator("#network li").count() == 9
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#layer-0").scroll_into_view_if_needed()
    kernels = page.locator("#layer-0 .kernels .mosaic")
    kernels.locator("canvas").first.wait_for()
    one = "document.querySelector('#layer-0 .kernels canvas')"
    page.wait_for_function(f"{one}.width === parseInt({one}.style.width)")  # painted, and no more 300 by 150
    kernels.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    said = page.locator("#layer-0 .kernels .readout")
    assert said.locator("code").all_inner_texts() == ["kernel[:, :, 0, 5]", "weight[5, 0, :, :]"]
    assert kernels.get_attribute("aria-valuetext") == "Kernel 5 of 32"
    kernel = cnnlens.open(MODEL)["conv2d"].kernel
    assert kernel is not None
    mean = f"{kernel.array[5].mean():.3g}".replace("-", "−")
    assert said.locator("dd.number").first.inner_text() == mean
    assert page.locator("#layer-0 .maps .mosaic").get_attribute("aria-valuenow") == "5"  # its map is chosen with it


def test_another_input_has_other_maps_and_the_theme_can_be_chosen(page: Any) -> None:
    page.locator("#layer-7").scroll_into_view_if_needed()
    plot = page.locator("#layer-7 .bars-plot path.bar").first
    plot.wait_for()
    before = plot.get_attribute("d")
    page.locator("#inputs button").nth(9).click()
    page.wait_for_function(
        "before => document.querySelector('#layer-7 path.bar').getAttribute('d') !== before", arg=before
    )
    assert page.locator("#inputs button").nth(9).get_attribute("aria-checked") == "true"
    colours = [
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        for theme in ("light", "dark")
        if page.locator("#theme").select_option(theme)
    ]
    assert colours[0] != colours[1]
