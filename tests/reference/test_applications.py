"""Whole networks of keras.applications: the reference gives what Keras gives, layer by layer.

The two smallest run here; ``python -m benchmarks applications`` runs all thirteen.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import applications
from tests.support.once import Files

pytestmark = pytest.mark.framework


@pytest.fixture(scope="session")
def saved(framework_files: Files) -> Path:
    return framework_files("applications", lambda folder: applications.write_models(folder, applications.SMALL))


@pytest.mark.parametrize("name", applications.SMALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_agrees_with_keras(saved: Path, name: str, dtype: str) -> None:
    found = applications.compare(saved, name, dtype)
    assert found.layers > 150
    assert 0 < found.worst <= applications.LIMIT, f"{found.worst:.1e} of the largest value at {found.worst_layer}"
