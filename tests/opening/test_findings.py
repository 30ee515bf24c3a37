"""Whatever is wrong with a file, looking at all of it ends in a report, in little time and memory."""

from __future__ import annotations

import json

import pytest

from tests.support import files_hostile_makers, files_torch_hostile_makers
from tests.support.hostile_process import SECONDS, make_and_open
from tests.support.once import once

_OPENER = """
from cnnlens.opening.findings import examine
def opened(path):
    report = examine(path)
    assert report.verdict in ("safe to run", "safe to view", "cannot be read")
    assert report.refused or report.sha256
    return report.refused or report.verdict
"""


@pytest.mark.slow
@pytest.mark.parametrize("makers", [files_hostile_makers, files_torch_hostile_makers], ids=["keras", "torch"])
def test_every_hostile_file_has_a_report(tmp_path_factory: pytest.TempPathFactory, makers: object) -> None:
    name = f"examined-{makers.__name__}"  # type: ignore[attr-defined]
    made = makers.MAKERS  # type: ignore[attr-defined]
    folder = once(tmp_path_factory, name, lambda folder: make_and_open(folder, made, _OPENER))
    outcomes = json.loads((folder / "found.json").read_text())
    assert set(made) <= set(outcomes)
    assert not {name: found for name, (found, *_) in outcomes.items() if found.startswith("ESCAPED") or "\n" in found}
    assert max(seconds for _, seconds, _ in outcomes.values()) < SECONDS
