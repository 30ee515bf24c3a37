"""The examples in docstrings: each runs as it stands, and no public name is without one.

They need no framework but where ``_NEEDS`` says so. Those of public names run in an empty folder with an empty
namespace, so that what a person copies from a docstring runs by itself; the others in the namespace of their module.
"""

from __future__ import annotations

import doctest
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cnnlens

_SEAMS = (
    *("cnnlens.backend.seam.Backend", "cnnlens.backend.seam.Session", "cnnlens.testing.BackendContract"),
    *("cnnlens.statistics.layer.LayerStats", "cnnlens.statistics.comparison.StatsComparison"),  # what stats gives
)
# They start processes, or make a page of all lessons.
_LONG = ("cnnlens.Bench", "cnnlens.Check", "cnnlens.Lesson", "cnnlens.bench", "cnnlens.lesson")
_NEEDS = {"cnnlens.convert": "torch", "cnnlens.Conversion": "torch"}


def _found() -> Iterator[tuple[str, Any]]:
    """Every public class, function and module, by the name under which a person finds it."""
    for name in dir(cnnlens):
        one = getattr(cnnlens, name)
        if isinstance(one, ModuleType):
            yield f"cnnlens.{name}", one
            for inner in one.__all__:
                if inspect.isclass(getattr(one, inner)) or inspect.isfunction(getattr(one, inner)):
                    yield f"cnnlens.{name}.{inner}", getattr(one, inner)
        elif name != "__version__":
            yield f"cnnlens.{name}", one
    for path in _SEAMS:
        module, _, name = path.rpartition(".")
        yield path, getattr(import_module(module), name)


PUBLIC = dict(_found())


def _examples(name: str, one: Any) -> list[doctest.DocTest]:
    """The examples of a public name, and of what a class inherits from the classes of cnnlens."""
    finder = doctest.DocTestFinder(recurse=inspect.isclass(one))
    holders = [one] if not inspect.isclass(one) else [each for each in one.__mro__ if "cnnlens" in each.__module__]
    return [test for each in holders for test in finder.find(each, name, module=False, globs={}) if test.examples]


def test_every_public_name_has_an_example() -> None:
    without = [name for name, one in PUBLIC.items() if ">>>" not in (inspect.getdoc(one) or "")]
    assert not without


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.framework if name in _NEEDS else pytest.mark.slow if name in _LONG else ())
        for name in PUBLIC
    ],
)
def test_examples_run_as_they_stand(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    framework = _NEEDS.get(name)
    if framework is not None and find_spec(framework) is None:
        pytest.skip(f"needs {framework}")
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for number, test in enumerate(_examples(name, PUBLIC[name])):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        said: list[str] = []
        runner.run(test, out=said.append)
        assert not said, "".join(said)


@pytest.mark.slow
def test_examples_of_what_is_not_public_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = {(inspect.getmodule(one), getattr(one, "__qualname__", "")) for one in PUBLIC.values()}
    runner, said, count = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), list[str](), 0
    for found in pkgutil.walk_packages(cnnlens.__path__, "cnnlens."):
        if found.name == "cnnlens.__main__":
            continue
        module = import_module(found.name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module):
            name = test.name.removeprefix(f"{found.name}.")
            if not test.examples or any((module, ".".join(name.split(".")[:depth])) in public for depth in (1, 2)):
                continue
            folder = tmp_path / str(count)
            folder.mkdir()
            monkeypatch.chdir(folder)
            runner.run(test, out=said.append)
            count += 1
    assert not said, "".join(said)
    assert count > 50
