"""Models of every shape of graph, saved by Keras in a process of its own, with what Keras computes at every call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.once import Files


@pytest.fixture(scope="session")
def graphs(framework_files: Files) -> Path:
    def make(folder: Path) -> None:
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        script = Path(__file__).with_name("make_graphs.py")
        subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True, capture_output=True)

    return framework_files("graphs", make)
