"""The lesson opened in a browser, from disk and without a network: all is drawn, and an answer is told what it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import cnnlens
from cnnlens.reporting.chapters.course import CHAPTERS, PICTURES
from cnnlens.reporting.words import language_named
from cnnlens.sample import IMAGES, MODEL
from tests.support.browser import browser

__all__ = ["browser"]

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Whether every canvas of a chapter has more than one colour.
_PAINTED = """chapter => [...document.querySelectorAll(`#${chapter} .shown canvas`)].every((canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size > 1;
})"""


class Opened(NamedTuple):
    page: Any
    words: dict[str, str]


@pytest.fixture(scope="module", params=[("en", 1280, "light"), ("ko", 360, "dark")], ids=["en, desk", "ko, phone"])
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Opened]:
    language, width, theme = request.param
    path = cnnlens.lesson(language).save(tmp_path_factory.mktemp("lesson") / "lesson.html")
    assert path.stat().st_size < 1_500_000
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    yield Opened(page, language_named(language, "lesson").table)
    context.close()
    assert not said


def answer(exercise: Any) -> str:
    exercise.locator("button.check").click()
    return exercise.locator(".said").inner_text()


def test_every_figure_is_painted_and_fits(opened: Opened) -> None:
    page = opened.page
    assert page.locator("section.chapter h2").count() == len(CHAPTERS) + 1
    for chapter in CHAPTERS:
        for figure in page.locator(f"#{chapter} .shown").all():
            figure.scroll_into_view_if_needed()
            for mosaic in figure.locator(".mosaic").all():
                mosaic.scroll_into_view_if_needed()
        page.wait_for_function(_PAINTED, arg=chapter)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not re.search(r"undefined|NaN|[{}`]", page.locator("main").inner_text())


def test_the_worked_sum_is_the_reference(opened: Opened) -> None:
    page = opened.page
    maps = cnnlens.open(MODEL).run(IMAGES, layers=["conv2d"])["conv2d"][PICTURES[0]]
    shown = page.locator("#kernel .framed[role=slider]")
    shown.focus()
    page.keyboard.press("Home")  # at the corner, where padding counts
    kernel = int(re.findall(r"\d+", page.locator("#kernel .shown p.label").last.inner_text())[0])
    for presses, place in ((0, (0, 0)), (21, (21, 0)), (6, (27, 0))):
        for _ in range(presses):
            page.keyboard.press("ArrowDown")
        said = page.locator("#kernel .sums .result").inner_text().replace("\u2212", "-")
        assert float(said) == pytest.approx(maps[kernel][place], rel=1e-3, abs=1e-6)
    assert int(shown.get_attribute("aria-valuenow")) == 27 * 28


def test_a_wrong_choice_is_told_its_own_reason(opened: Opened) -> None:
    for exercise in opened.page.locator(".exercise:has(.options)").all():
        reasons: list[str] = []
        rights: list[bool] = []
        for option in exercise.locator("input").all():
            option.check()
            said = answer(exercise)
            rights.append(said.startswith(opened.words["lesson.right"]))
            verdict = opened.words["lesson.right" if rights[-1] else "lesson.wrong"]
            assert said.startswith(f"{verdict} ")
            reasons.append(said.removeprefix(verdict))
            assert "undefined" not in said
        assert rights.count(True) == 1
        assert len(set(reasons)) == len(reasons), reasons


def test_a_number_is_checked_and_its_mistake_named(opened: Opened) -> None:
    page, words = opened.page, opened.words
    exercise = page.locator("#memory-address")
    question = exercise.locator("p").first.inner_text()
    layout = next(one for one in ("HWIO", "OIHW") if one in question)
    shape, index = (
        [int(one) for one in re.findall(r"\d+", found)] for found in re.findall(r"[(\[](\d.*?)[)\]]", question)
    )
    other = "OIHW" if layout == "HWIO" else "HWIO"
    order = [layout.index(letter) for letter in other]
    address = int(np.ravel_multi_index(index, shape))
    elsewhere = int(np.ravel_multi_index([index[axis] for axis in order], [shape[axis] for axis in order]))
    for typed, key, places in (
        ("x", "lesson.no_number", {}),
        (elsewhere, "lesson.memory.address.layout", {"value": elsewhere, "other": other, "layout": layout}),
        (address + 1, "lesson.memory.address.one", {"value": address + 1}),
    ):
        exercise.locator("input").fill(str(typed))
        assert words[key].replace("`", "").format(**places) in answer(exercise)
    exercise.locator("input").fill(str(address))
    assert answer(exercise).startswith(words["lesson.right"])
    for other_exercise in page.locator(".exercise:has(.typed)").all():
        other_exercise.locator("input").fill("987654")
        said = answer(other_exercise)
        assert said.startswith(words["lesson.wrong"])
        assert "undefined" not in said


def test_the_keyboard_alone_is_enough(opened: Opened) -> None:
    page, words = opened.page, opened.words
    exercise = page.locator("#memory-order")
    layout = "HWIO" if "Keras" in exercise.locator("p").first.inner_text() else "OIHW"
    buttons = exercise.locator("button").all_inner_texts()  # the letters, one to clear them, one to check
    for letters in (layout[::-1], layout):
        for letter in letters:
            exercise.locator("button").first.focus()
            for _ in range(buttons.index(letter)):
                page.keyboard.press("Tab")
            page.keyboard.press("Space")
        for _ in range(5 - buttons.index(letters[-1])):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        right = letters == layout
        assert exercise.locator(".said").inner_text().startswith(words["lesson.right" if right else "lesson.wrong"])
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
    assert "\u25cf" in page.locator("#marks-memory").inner_text()


def test_a_mistake_changes_what_is_said_and_axe_finds_nothing(opened: Opened) -> None:
    page = opened.page
    facts = page.locator("#mistakes .facts dd")
    before = facts.all_inner_texts()
    page.locator("#mistakes .switch:not(.pictures) input").first.focus()
    page.keyboard.press("ArrowRight")
    assert facts.all_inner_texts() != before
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    assert not [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]
