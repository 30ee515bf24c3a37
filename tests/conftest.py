"""Fixtures that several test files share, and which tests need a framework.

A test that needs one is ``framework``, and so ``slow``: to import one takes seconds. It is known by its file, which
imports one at its top (``torch = pytest.importorskip("torch")``), by the fixture ``framework_files``, for which one is
started, or by its own mark. With ``plugin_folder`` and ``traces`` a test is slow because it starts processes. Of a test
that runs for many parameters a few, spread over them, are in the fast set; the others are slow.
"""

from __future__ import annotations

import re
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.graphs import graphs
from tests.support.once import framework_files
from tests.support.plugins import plant, plugin_folder, plugins, traces
from tests.support.workers import chain, handed

__all__ = ["chain", "framework_files", "graphs", "handed", "plant", "plugin_folder", "plugins", "traces"]

# Started in the background or under nohup, this process ignores Ctrl-C and hang-ups, and every process that a test
# starts would inherit that. The tests of both need what a terminal gives.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

FEW = 3  # of a test's parameters that the fast set runs
FRAMEWORKS = ("keras", "tensorflow", "torch", "jax")
_AT_THE_TOP = re.compile(rf"""^\w+ = pytest\.importorskip\("({"|".join(FRAMEWORKS)})"\)""", re.MULTILINE)


_ALL_SLOW = re.compile(r"^pytestmark = .*\bpytest\.mark\.(slow|framework)\b", re.MULTILINE)


@cache
def imports_a_framework(path: Path) -> bool:
    return path.suffix == ".py" and bool(_AT_THE_TOP.search(path.read_text(encoding="utf-8")))


def is_all_slow(path: Path) -> bool:
    return imports_a_framework(path) or (
        path.suffix == ".py" and bool(_ALL_SLOW.search(path.read_text(encoding="utf-8")))
    )


def without_slow_tests(config: pytest.Config) -> bool:
    return "not slow" in config.option.markexpr


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a file whose tests are all slow: pytest would import it, and a framework with it, to deselect them."""
    return True if without_slow_tests(config) and is_all_slow(collection_path) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    fixtures = set(getattr(item, "fixturenames", ()))
    if "framework_files" in fixtures or imports_a_framework(item.path):
        item.add_marker("framework")
    if fixtures & {"plugin_folder", "traces"} or item.get_closest_marker("framework"):
        item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)  # before pytest takes out those whose marks were not asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave a few of a test's parameters to the fast set, and put the longest tests in front.

    At the end, one of two workers would wait minutes for them.
    """
    same = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        if item.get_closest_marker("slow") is None:
            same[item.nodeid.partition("[")[0]].append(item)
    for several in same.values():
        few = several[:: -(-len(several) // FEW)]
        for item in several:
            if item not in few:
                item.add_marker("slow")
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that imports a framework and is not marked so."""
    before = set() if without_slow_tests(item.config) else sys.modules.keys() & FRAMEWORKS
    yield
    imported = (sys.modules.keys() & FRAMEWORKS) - before
    assert not imported or item.get_closest_marker("framework"), f"mark it framework, for it imports {imported}"
