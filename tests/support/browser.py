"""A browser that pages are opened in: Debian's Chromium, driven by Playwright, with the network off."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["browser", "chromium"]


@contextmanager
def chromium() -> Generator[Any]:
    """Start a browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a browser: chromium is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])  # root may start no other
        yield started
        started.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for a file of tests."""
    with chromium() as started:
        yield started
