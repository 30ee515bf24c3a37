"""A report opened in a browser, from disk and without a network: it says no error, and answers pointer and keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.files.keras.network import keras_network
from cnnlens.sample import IMAGES, MODEL
from cnnlens.testing import MemoryModel
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
    size = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=theme, offline=True, has_touch=width < 600)
    opened = context.new_page()
    said: list[str] = []

    def heard(one: Any) -> None:
        said.append(str(getattr(one, "text", one)))

    opened.on("console", heard)
    opened.on("pageerror", heard)
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


# Where a section of the page begins, once its height has been the same for so many pictures of it.
_SETTLED = """async (id) => {
  for (let [same, height] = [0, 0]; same < 40;) {
    await new Promise(requestAnimationFrame);
    const now = document.documentElement.scrollHeight;
    [same, height] = [now === height ? same + 1 : 0, now];
  }
  return document.getElementById(id).getBoundingClientRect().top;
}"""


def test_a_link_leads_to_its_layer_and_stays_there_while_what_is_above_it_is_drawn(page: Any, path: Path) -> None:
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto("about:blank")
    page.goto(f"{path.as_uri()}#layer-3")
    page.locator("#layer-3 .body > section").first.wait_for(state="attached")
    assert page.evaluate(_SETTLED, "layer-3") == pytest.approx(64, abs=1)
    page.locator("#network a[href='#layer-5']").click()
    page.locator("#layer-5 .kernels").first.wait_for(state="attached")
    assert page.evaluate(_SETTLED, "layer-5") == pytest.approx(64, abs=1)


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


def test_the_numbers_of_a_kernel_and_of_a_map_by_the_keyboard_alone(page: Any) -> None:
    page.locator("#layer-2").scroll_into_view_if_needed()
    section = page.locator("#layer-2")
    section.locator(".computed").wait_for()
    array = cnnlens.open(MODEL)["conv2d_1"].kernel
    assert array is not None
    channels = section.locator(".working .bars-plot")
    channels.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert channels.get_attribute("aria-valuetext").startswith("input channel 3: ")
    assert section.locator(".choice input").input_value() == "3"  # the kernels are those of the same input channel
    shown = [one.replace("\u2212", "-") for one in section.locator(".readout .grid tbody td").all_inner_texts()]
    assert shown == [f"{value:.3g}" for value in array.array[0, 3].reshape(-1)]
    addresses = section.locator(".readout .grid tbody td").nth(5).get_attribute("title").splitlines()
    assert addresses[1:] == ["Keras kernel[1, 2, 3, 0]", "PyTorch weight[0, 3, 1, 2]"]
    pixels = section.locator(".working .pick")
    pixels.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert pixels.get_attribute("aria-valuetext").startswith("row 1, column 1: ")
    value = float(section.locator(".working .computed").get_attribute("value"))
    true = cnnlens.open(MODEL).run(IMAGES, layers=["conv2d_1"])["conv2d_1"]
    assert abs(value - true[0, 0, 1, 1]) <= 1e-6 * abs(true).max()
    assert "rows 0\u20136, columns 0\u20136" in section.locator(".working .flow").inner_text()
    pixels.scroll_into_view_if_needed()
    box = pixels.bounding_box()
    place = box["x"] + box["width"] * 4.5 / 14, box["y"] + box["height"] * 9.5 / 14
    if page.evaluate("navigator.maxTouchPoints"):
        page.touchscreen.tap(*place)
    else:
        page.mouse.move(*place)
    assert pixels.get_attribute("aria-valuetext").startswith("row 9, column 4: ")


def test_all_is_drawn_before_it_is_printed_and_axe_finds_nothing(page: Any) -> None:
    page.evaluate("window.print = () => { window.printed = document.documentElement.className; }")
    page.locator(".bar .print").click()
    assert page.wait_for_function("() => window.printed").json_value() == "printing"
    assert page.locator(".layer .body:empty").count() == 0
    blank = "[...document.querySelectorAll('.bands canvas')].filter((one) => one.width === 300 && one.height === 150)"
    assert page.evaluate(f"{blank}.length") == 0
    assert page.evaluate("document.querySelector('main').scrollWidth <= 704")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    assert not found, [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def test_hostile_names_are_text_and_a_line_longer_than_a_canvas_is_drawn(browser: Any, tmp_path: Path) -> None:
    names, units = ["constructor", "__proto__", "\u202e{{ 7 }}</script>\x1b"], [40_000, 3, 4, 2]
    random = np.random.default_rng(5)
    arrays = {
        (name,): {"kernel": random.normal(size=size).astype(np.float32)}
        for name, size in zip(names, pairwise(units), strict=True)
    }
    dense = [{"name": name, "units": count, "use_bias": False} for name, count in zip(names, units[1:], strict=True)]
    layers = [
        {"module": "keras.layers", "class_name": kind, "config": config}
        for kind, config in [
            ("InputLayer", {"batch_shape": [None, units[0]], "name": "x"}),
            *(("Dense", one) for one in dense),
        ]
    ]
    model = {"class_name": "Sequential", "config": {"name": "made", "layers": layers}}
    net = keras_network(MemoryModel(model, arrays))  # type: ignore[arg-type]
    path = cnnlens.report(net, inputs="random", progress=False).save(tmp_path / "report.html")
    page = browser.new_page(viewport={"width": 1000, "height": 800}, device_scale_factor=2)
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    for place in range(3):
        page.locator(f"#layer-{place}").scroll_into_view_if_needed()
        page.locator(f"#layer-{place} .computed").wait_for()
    assert "\\u202e{{ 7 }}</script>\\x1b" in page.locator("#layer-2 h3").inner_text()
    page.locator("#layer-0").scroll_into_view_if_needed()
    drawn = page.wait_for_function("""() => {
      const canvas = document.querySelector("#layer-0 .bands canvas");
      const row = canvas.getContext("2d").getImageData(0, 0, canvas.width, 1).data;
      return canvas.width > 300 && row.every((value, at) => at % 4 < 3 || value === 255) && canvas.width;
    }""").json_value()
    assert 8_192 <= drawn <= 16_384
    page.close()
    assert not said
