"""Texts that a terminal would obey in the place of every string that a file holds, and what becomes of them."""

from __future__ import annotations

import copy
import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnnlens.cli.main import main

# Sets a window's title, colours (7- and 8-bit), overwrites a line, reorders, breaks lines in three ways, hides.
HOSTILE = "\x1b]0;owned\x07\x1b[31m\x9b32m\r\u202e\u2066\u200b\nFORGED\u2028FORGED\x85\x7f\x00"
IN_A_NAME = HOSTILE.replace("\x00", "\udc9b")  # a byte that is no UTF-8
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

Change = Callable[[str], str]


def assert_plain(text: str, where: str) -> None:
    found = {char for char in set(text) if char != "\n" and unicodedata.category(char) in UNSAFE}
    assert not found, f"{where}: {sorted(map(ascii, found))} in {ascii(text)[:2000]}"
    forged = [line for line in text.splitlines() if line.lstrip(" '\"").startswith("FORGED")]
    assert not forged, f"{where}: a line of the file's own in {ascii(text)[:2000]}"


class Runner:
    """Runs commands in this process and looks at all that they said, wrote and drew."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        from matplotlib.figure import Figure
        from matplotlib.text import Text

        self._capsys = capsys
        self.codes: list[int] = []
        drawn = Figure.savefig

        def savefig(figure: Figure, *args: Any, **kwargs: Any) -> None:
            for text in figure.findobj(Text):
                assert_plain(text.get_text(), "a picture")  # type: ignore[attr-defined]
            drawn(figure, *args, **kwargs)

        monkeypatch.setattr(Figure, "savefig", savefig)

    def __call__(self, *arguments: object) -> str:
        try:
            code = main([str(one) for one in arguments])
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        self.codes.append(code)
        said = self._capsys.readouterr()
        where = " ".join(ascii(str(one)) for one in arguments)
        assert_plain(said.out, where)
        assert_plain(said.err, where)
        data: Any = json.loads(said.out) if "--json" in arguments else {}
        refused = code == 2 and (not said.out or (isinstance(data, dict) and data.get("format") == "cnnlens.error/1"))
        assert said.err.count("\n") == (1 if refused else 0), f"{where}: {said.err}"
        return said.out


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runner:
    monkeypatch.chdir(tmp_path)
    return Runner(capsys, monkeypatch)


# -- every string in JSON --------------------------------------------------------------------------------------------


def strings(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where strings stand in decoded JSON; a path that ends in None is that of a key."""
    if isinstance(data, str):
        yield path
    elif isinstance(data, dict):
        for key, value in data.items():
            yield (*path, key, None)
            yield from strings(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from strings(value, (*path, index))


def changed_at(data: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """The data with another string there; what does not lead there is the same objects."""
    made = copy.copy(data)
    place = made
    is_key = path[-1] is None
    *way, last = path[:-1] if is_key else path
    for key in way:
        place[key] = copy.copy(place[key])
        place = place[key]
    if is_key:
        place[change(last)] = place.pop(last)
    else:
        place[last] = change(place[last])
    return made


def changed_everywhere(data: Any, change: Change, *, keys: bool = False) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, list):
        return [changed_everywhere(one, change, keys=keys) for one in data]
    if isinstance(data, dict):
        return {
            change(key) if keys else key: changed_everywhere(value, change, keys=keys) for key, value in data.items()
        }
    return data


def longer(text: str) -> str:
    return text + HOSTILE


def instead(text: str) -> str:
    del text
    return HOSTILE


def numbers(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where whole numbers stand in decoded JSON."""
    if isinstance(data, int) and not isinstance(data, bool):
        yield path
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from numbers(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from numbers(value, (*path, index))


def mutants(data: Any) -> Iterator[Any]:
    yield changed_at(data, next(strings(data)), lambda text: text + "\ud800")
    for path in strings(data):
        yield changed_at(data, path, longer)
        yield changed_at(data, path, instead)
