"""The lesson's numbers are those of the rooms that it teaches, each held against NumPy or the command beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

import cnnlens
from cnnlens.cli.main import main
from cnnlens.reporting.chapters.course import CHAPTERS, PICTURES
from cnnlens.sample import IMAGES, MODEL
from tests.reporting.test_report import unpacked
from tests.support.lesson_notebook import made as notebooks
from tests.support.notebooks import executed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson() -> cnnlens.Lesson:
    return cnnlens.lesson("ko")


@pytest.fixture(scope="module")
def maps() -> dict[str, Any]:
    return cnnlens.open(MODEL).run(IMAGES)


def test_each_chapter_has_its_words_and_every_place_in_them_is_filled(lesson: cnnlens.Lesson) -> None:
    assert tuple(lesson.data["chapters"]) == CHAPTERS
    for name, chapter in lesson.data["chapters"].items():
        for part in ("title", "text", "after"):
            text = lesson.words.table[f"lesson.{name}.{part}"]
            assert set(re.findall(r"\{(\w+)\}", text)) <= set(chapter["places"]), (name, part)


def test_the_right_readings_say_what_the_model_says(lesson: cnnlens.Lesson, maps: dict[str, Any]) -> None:
    for name in ("mistakes", "flatten"):
        right, *wrong = lesson.data["chapters"][name]["readings"]
        assert np.allclose(right["says"], maps["dense_1"][list(PICTURES)], rtol=0, atol=1e-12)
        assert right["misplaced"] == 0
        assert all(one["misplaced"] > 0 and one["right"] < right["right"] for one in wrong)


def test_a_mistake_is_the_kernel_that_its_line_of_numpy_gives(lesson: cnnlens.Lesson) -> None:
    page, kernel = lesson.html(), cnnlens.open(MODEL)["conv2d"].weights["kernel"]
    readings = {one["key"]: one for one in lesson.data["chapters"]["mistakes"]["readings"]}
    assert list(readings) == ["right", "reshaped", "swapped", "flipped", "mirrored"]
    for one in readings.values():
        wanted = eval(one["code"].removeprefix("weight = "), {"kernel": kernel})
        assert np.array_equal(unpacked(page, one["kernels"]), wanted[:, 0])


def test_addresses_are_numpys(lesson: cnnlens.Lesson) -> None:
    for name in ("memory", "maps", "flatten"):
        for case in lesson.data["chapters"][name]["cases"]:
            for letters, steps in case["steps"].items():
                strides = np.empty([case["sizes"][letter] for letter in letters], np.int8).strides
                assert [steps[letter] for letter in letters] == list(strides)


def test_a_pixel_depends_on_the_patch_that_is_said(lesson: cnnlens.Lesson) -> None:
    picture = np.random.default_rng(0).random((1, 1, 28, 28))
    net = cnnlens.open(MODEL)
    for row in lesson.data["chapters"]["depth"]["layers"]:
        before = net.run(picture, layers=[row["name"]])[row["name"]]
        place = before.shape[-1] // 2
        first = place * row["step"] + row["before"]
        for column in (first - 1, first, first + row["field"] - 1, first + row["field"]):
            changed = picture.copy()
            changed[..., column] += 100.0
            after = net.run(changed, layers=[row["name"]])[row["name"]]
            seen = first <= column < first + row["field"]
            assert np.array_equal(before[..., place], after[..., place]) != seen


def test_padding_one_shifts_what_same_gives(lesson: cnnlens.Lesson) -> None:
    chapter, page = lesson.data["chapters"]["padding"], lesson.html()
    layer = cnnlens.open(MODEL)["conv2d"]
    assert layer.kernel is not None
    kernel, bias = layer.kernel.array[chapter["kernel"], 0], layer.weights["bias"][chapter["kernel"]]
    picture = cnnlens.images.load(IMAGES).array[PICTURES[0], 0].astype(np.float64)
    for one, before in ((chapter["maps"][0], 0), (chapter["maps"][1], 1)):
        padded = np.pad(picture, ((before, 1), (before, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::2, ::2][:14, :14]
        wanted = np.maximum(np.einsum("yxhw,hw->yx", windows, kernel) + bias, 0)
        assert np.allclose(unpacked(page, one["array"]), wanted, atol=1e-6)
    assert {one["size"]: one["same"] for one in chapter["axis"]}[7] == [1, 1]


def test_rounding_is_called_by_its_name_and_each_bug_a_bug(lesson: cnnlens.Lesson) -> None:
    rows = {one["name"]: one for one in lesson.data["chapters"]["rounding"]["rows"]}
    for name, row in rows.items():
        assert row["verdict"] == ("wrong" if row["bug"] else name)
    assert rows["scaled"]["error"] < rows["bfloat16"]["error"]  # which the text says
    assert [rows[name]["close"][-1] for name in ("scaled", "bfloat16")] == [True, True]


def test_the_notebooks_are_what_their_command_writes_and_run(tmp_path: Path) -> None:
    found = notebooks()
    for path, text in found.items():
        assert path.read_text(encoding="utf-8") == text, "python -m tests.support.lesson_notebook"
    first = nbformat.reads(next(iter(found.values())), 4)
    executed(tmp_path, *(cell.source for cell in first.cells if cell.cell_type == "code"))
    assert (tmp_path / "lesson.html").is_file()


def test_what_cannot_be_made_is_a_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lesson"]) == 2
    assert main(["lesson", "--language", "kr", "-o", str(tmp_path / "x.html")]) == 2
    assert main(["lesson", "-o", str(tmp_path / "x" / "lesson.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert not list(tmp_path.iterdir())
