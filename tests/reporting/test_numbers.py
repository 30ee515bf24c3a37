"""Every number on a page is the one that the command prints: read from its data, and from what a browser shows."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.checking import listing as checking_listing
from cnnlens.checking.result import Check
from cnnlens.cli.main import main
from cnnlens.differing import listing as differing_listing
from cnnlens.network.kernel import statistics
from cnnlens.page import Page, Table
from cnnlens.reporting.reporter import report_network
from cnnlens.reporting.result import Report
from cnnlens.sample import IMAGES, MODEL
from cnnlens.testing.networks import inputs_for
from tests.reporting.test_found import faulty
from tests.reporting.test_report import unpacked
from tests.support.browser import browser
from tests.support.page_networks import HARD, hard_network

__all__ = ["browser"]


@pytest.fixture(scope="module")
def check() -> Check:
    def change(output: np.ndarray[Any, Any]) -> None:
        output[1, 7, 5, 3] += 1.0
        output[..., 6] *= np.float32(1.001)

    return faulty(cnnlens.open(MODEL), "conv2d_1", change)


@pytest.fixture(scope="module")
def ported() -> dict[str, Any]:
    net = cnnlens.open(MODEL)
    arrays = {f"{one.name}.weight": one.kernel.to("torch") for one in net.layers if one.kernel is not None}
    arrays["conv2d_1.weight"] = arrays["conv2d_1.weight"].swapaxes(2, 3)
    return arrays


@pytest.fixture(scope="module")
def made(check: Check, ported: dict[str, Any]) -> Report:
    return report_network(check.network, IMAGES, check=check, diff=cnnlens.diff(MODEL, ported, progress=False))


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_the_data_are_those_of_the_commands(made: Report, capsys: pytest.CaptureFixture[str]) -> None:
    page, data = made.html(), json.loads(json.dumps(made.to_json()))
    summary = said(capsys, "summary", str(MODEL))
    assert data["model"] == summary["model"]
    for row, told in zip(data["layers"], summary["layers"], strict=True):
        assert {key: row[key] for key in told if key != "weights"} == {
            key: value for key, value in told.items() if key != "weights"
        }
        for weight, one in zip(row["weights"], told["weights"], strict=True):
            assert {key: weight[key] for key in one} == one
    maps = said(capsys, "maps", str(MODEL), "-i", str(IMAGES / "9-ankle-boot.png"), "-l", "conv2d_1")["layers"][0]
    tensor = data["layers"][2]["maps"][0]
    example = data["inputs"]["labels"].index("9-ankle-boot")
    drawn = unpacked(page, tensor["array"]).reshape(tensor["shape"])[example]
    assert f"{drawn.mean():.6g}" == f"{maps['mean']:.6g}"
    assert f"{drawn.max():.6g}" == f"{maps['max']:.6g}"


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a page from disk, offline; nothing is said on its console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    told: list[str] = []

    def open_page(one: Report) -> Any:
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.goto(one.save(tmp_path / "page.html").as_uri())
        page.locator("#made dl").wait_for()
        return page

    yield open_page
    context.close()
    assert not told


def tables(page: Page) -> list[list[list[str]]]:
    """The cells of the tables that a command prints; a page has as much room as it needs."""
    return [
        [[str(cell).replace("-", "−") for cell in row] for row in part.rows]
        for part in page.parts
        if isinstance(part, Table)
    ]


def shown(page: Any, table: str) -> list[list[str]]:
    rows = page.locator(f"{table} tbody tr").all()
    return [[text.replace("-", "−") for text in row.locator("th, td").all_text_contents()] for row in rows]


@pytest.mark.browser
@pytest.mark.slow
def test_the_tables_are_those_that_are_printed(made: Report, check: Check, ported: dict[str, Any], opened: Any) -> None:
    page = opened(made)
    cells = [[re.sub(r" +", " ", cell).strip() for cell in row] for row in shown(page, "#check .bits")]
    printed = tables(checking_listing.as_page(check))[0][1:]
    assert cells == [[re.sub(r" +", " ", cell).strip() for cell in row] for row in printed]
    differing = tables(differing_listing.as_page(cnnlens.diff(MODEL, ported, progress=False)))[0][1:]
    assert shown(page, "#diff .diff") == differing
    failed = page.locator(".failed")
    failed.scroll_into_view_if_needed()
    failed.locator(".mosaic canvas").first.wait_for()
    audit = next(row.audits["run"] for row in check.rows if row.name == "conv2d_1")
    assert failed.locator("dd").all_text_contents()[2] == f"({', '.join(map(str, audit.worst_position))})"
    assert failed.locator(".mosaic").get_attribute("aria-valuenow") == str(audit.worst_channel)
    page.locator("#diff .drawn .mosaic canvas").first.wait_for()


@pytest.mark.browser
@pytest.mark.slow
def test_the_statistics_of_tiles_are_those_of_the_arrays(made: Report, opened: Any) -> None:
    page = opened(made)
    layer = page.locator("#layer-2")
    layer.scroll_into_view_if_needed()
    kernels = layer.locator(".kernels .mosaic")
    kernels.wait_for()
    kernels.focus()
    kernel = cnnlens.open(MODEL)["conv2d_1"].kernel
    assert kernel is not None
    for place in range(1, 4):
        page.keyboard.press("ArrowRight")
        one = statistics(kernel.array[place])
        numbers = layer.locator(".kernels .readout dd.number").all_text_contents()[:4]
        assert numbers == [f"{value:.3g}".replace("-", "−") for value in (one.mean, one.std, one.min, one.max)]


@pytest.mark.browser
@pytest.mark.slow
def test_numbers_are_written_as_python_writes_them(browser: Any) -> None:
    script = (files("cnnlens.reporting") / "pages" / "format.js").read_text(encoding="utf-8").replace("export ", "")
    draw = random.Random(5)
    values = [0.5625, 2.5, 1.125, -0.1875, 9.5, 24.25, 1e-5, 123456.0, 99.95, 1e21, -3.0, 0.0]
    values += [struct.unpack("<f", draw.randbytes(4))[0] for _ in range(2000)] + [draw.gauss(0, 30) for _ in range(500)]
    values = [value for value in values if np.isfinite(value)]
    page = browser.new_page()
    each = "[number(v), number(v, 1), Math.abs(v) < 1e20 ? rounded(v, 1) : '']"
    found = page.evaluate(f"values => {{ {script}; return values.map((v) => {each}); }}", values)
    page.close()
    wanted = [[f"{one:.3g}", f"{one:.1g}", f"{one:.1f}" if abs(one) < 1e20 else ""] for one in values]
    assert [[text.replace("−", "-") for text in row] for row in found] == [
        [text if text != "-0" else "0" for text in row] for row in wanted
    ]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HARD))
def test_what_is_hard_to_show_is_shown(name: str, opened: Any) -> None:
    net = hard_network(name)
    page = opened(report_network(net, inputs_for(net, 2), layers=None if name != "deep" else ["relu_2999"]))
    assert page.locator("#network li").count() == len(net.calls)
    assert page.evaluate("typeof owned") == "undefined"
    assert page.locator("img").count() == 0
    page.locator("#layers").scroll_into_view_if_needed()
    if net.layers:
        assert page.locator("#layers h3").first.inner_text().startswith(f"0 {net.layers[0].name[:20]}")
    if any(one.kernel is not None for one in net.layers):
        mosaic = page.locator(".kernels .mosaic canvas").first
        mosaic.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
