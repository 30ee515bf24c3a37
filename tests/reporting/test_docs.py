"""The pages in ``docs`` hold what their makers make today; of those that a browser draws, their data."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import cnnlens
from tests.reporting.test_report import Elements, unpacked
from tests.support.pages import DOCS, sample_report
from tests.support.readme import demo_folder

_ANEW = "python -m tests.support.pages"


def rounded(data: Any) -> Any:
    """Data with floats of six digits: what is computed may differ in its last bits from one machine to another."""
    if isinstance(data, dict):
        return {key: rounded(one) for key, one in data.items()}
    if isinstance(data, list | tuple):
        return [rounded(one) for one in data]
    return float(f"{data:.6g}") if isinstance(data, float) and math.isfinite(data) else data


@pytest.mark.slow
def test_the_report_is_that_of_the_sample() -> None:
    with demo_folder():
        made = sample_report(None)
    old, new = (DOCS / "report.html").read_text(encoding="utf-8"), made.html()
    data = [json.loads(Elements(page).texts["data"]) for page in (old, new)]
    names = [{name: one["shape"] for name, one in each["arrays"].items()} for each in data]
    assert {name: shape for name, shape in names[0].items() if not name.startswith("check.")} == names[1], _ANEW
    for name in names[1]:
        one, other = (unpacked(page, name) for page in (old, new))
        assert np.allclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True), f"{name}: {_ANEW}"
    assert all(run["agrees"] for run in data[0]["check"]["runs"])
    assert len(data[0]["check"]["runs"]) == 3
    own = ("made_with", "check", "arrays")
    first, second = ({key: rounded(one) for key, one in each.items() if key not in own} for each in data)
    assert first == second, _ANEW


@pytest.mark.slow
@pytest.mark.parametrize(("name", "language"), [("lesson.html", "en"), ("lesson.ko.html", "ko")])
def test_the_lesson_is_that_of_the_sample(name: str, language: str) -> None:
    old, new = (DOCS / name).read_text(encoding="utf-8"), cnnlens.lesson(language).html()
    first, second = (Elements(page).texts for page in (old, new))
    assert json.loads(first["words"]) == json.loads(second["words"]), _ANEW
    said = [json.loads(texts["data"])["chapters"] for texts in (first, second)]
    for chapters in said:  # effective bits of float32 depend on the order in which a machine adds
        del chapters["rounding"]
    assert rounded(said[0]) == rounded(said[1]), _ANEW
