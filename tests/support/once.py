"""Runs something slow once a test session, also where several workers share it.

Starting Keras takes seconds, so what it makes for the tests is made by the first worker that needs it; the others wait.
What a framework makes is asked of the fixture ``framework_files``, by which ``tests/conftest.py`` knows who needs one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

Files = Callable[[str, Callable[[Path], None]], Path]  # of a name, and of what fills its folder


@pytest.fixture(scope="session")
def framework_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return partial(once, tmp_path_factory)


def needs(*frameworks: str) -> None:
    """Skip where one is not installed; to import one takes seconds, and another process makes what is asked of it."""
    for name in frameworks:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None], seconds: float = 900) -> Path:
    """The folder that ``make`` filled, shared by every worker of this session, or by all with one ``CNNLENS_ONCE``."""
    base = factory.getbasetemp()
    # With pytest-xdist each worker has a folder of its own below the session's.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = Path(os.environ.get("CNNLENS_ONCE", shared)) / f"once-{name}"
    done, failed = folder.with_suffix(".done"), folder.with_suffix(".failed")
    try:
        folder.mkdir()
    except FileExistsError:
        end = time.monotonic() + seconds
        while not done.exists():
            if failed.exists():
                pytest.fail(f"making {name} failed in another worker: {failed.read_text()}")
            if time.monotonic() > end:
                pytest.fail(f"making {name} took longer than {seconds} s")
            time.sleep(0.05)
        return folder
    try:
        make(folder)
    except BaseException as error:
        detail = getattr(error, "stderr", b"") or b""
        text = detail.decode(errors="replace")[-3000:] if isinstance(detail, bytes) else str(detail)[-3000:]
        failed.write_text(f"{error}\n{text}")
        raise
    done.touch()
    return folder
