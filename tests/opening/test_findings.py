"""Whatever is wrong with a file, looking at all of it ends in a report, in little time and memory."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.support import files_hostile_makers, files_torch_hostile_makers
from tests.support.hostile_process import SECONDS, made_and_opened

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
def test_every_hostile_file_has_a_report(tmp_path_factory: pytest.TempPathFactory, makers: ModuleType) -> None:
    _, outcomes = made_and_opened(tmp_path_factory, makers, _OPENER)
    assert set(makers.MAKERS) <= set(outcomes)
    assert not {name: found for name, (found, *_) in outcomes.items() if found.startswith("ESCAPED") or "\n" in found}
    assert max(seconds for _, seconds, _ in outcomes.values()) < SECONDS
