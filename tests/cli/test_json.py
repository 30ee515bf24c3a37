"""What ``--json`` prints is what docs/json.md says, for every command; also where something is wrong."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens import sample
from cnnlens.cli.main import main, parser_of_all
from tests.support import ROOT

MODEL, IMAGE = str(sample.MODEL), str(sample.IMAGES / "9-ankle-boot.png")

# A command line for each format; those of the second table start a framework.
QUICK = {
    "summary": ["summary", MODEL],
    "kernels": ["kernels", MODEL, "-o", "kernels.png"],
    "hist": ["hist", MODEL, "--untrained"],
    "hist-all": ["hist", MODEL, "--all"],
    "maps": ["maps", MODEL, "-i", IMAGE],
    "image": ["image", IMAGE],
    "verify": ["verify", MODEL, "x.npy"],
    "layouts": ["layouts"],
    "crossing": ["layouts", "--from", "keras", "--to", "torch", "GRU"],
    "memory": ["layouts", "Conv2D", "--memory"],
    "backends": ["backends"],
    "diff": ["diff", MODEL, MODEL, "--inputs", "random"],
    "export": ["export", MODEL, "-o", "weights"],
    "demo": ["demo"],
    "check": ["check", MODEL, "-b", "reference,reference", "--repeat", "2"],
    "twins": ["check", MODEL, "--twin", MODEL, "-b", "reference"],
    "record": ["record", MODEL, "-i", IMAGE, "-b", "reference", "-o", "run.zarr"],
    "stats": ["stats", MODEL, "-i", str(sample.IMAGES), "-l", "conv2d"],
    "stats-comparison": ["stats", MODEL, "-i", str(sample.IMAGES), "-l", "conv2d", "--backends", "reference,reference"],
    "atlas": ["atlas", "Dense", "-b", "reference"],
    "bench": ["bench", MODEL, "-b", "reference", "--batch", "1,2", "--seconds", "0.2"],
    "report": ["report", MODEL, "-i", IMAGE, "-b", "reference", "-o", "report.html"],
    "lesson": ["lesson", "-o", "lesson.html"],
    "error": ["summary", "nowhere"],
}
SLOW = {"convert": ["convert", MODEL, "-o", "shoes.py"], "transfer": ["convert", MODEL, "--into", MODEL]}


def documented() -> dict[str, set[str]]:
    """The keys of each format, as docs/json.md has them."""
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for part in text.split("\n## cnnlens.")[1:]:
        keys = found.setdefault(part.partition("/1\n")[0], set())
        for row in re.findall(r"^\| (`.*?`) \|", part, re.MULTILINE):
            names: list[str] = re.findall(r"`([^`]+)`", row)
            first = names[0].rpartition(".")[0]
            keys |= {name.replace("….", f"{first}.", 1) if name.startswith("….") else name for name in names}
    return found


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Every key below ``value``, ``[]`` for each of a list; only the first thing that is not a list or object ends."""
    if isinstance(value, dict):
        for key, one in value.items():
            here = f"{prefix}.{key}" if prefix else key
            yield here
            yield from paths(one, here)
    elif isinstance(value, list):
        for one in value:
            yield from paths(one, f"{prefix}[]")


def known(path: str, keys: set[str]) -> bool:
    """Whether a path is one that is documented, or leads to one."""
    for key in keys:
        pattern = re.sub(r"\\\{\w+\\\}", ".+?", re.escape(key.removesuffix("?").removesuffix("…").removesuffix("[]")))
        pattern = pattern.replace(r"\?", "")  # an optional key above
        if re.fullmatch(pattern + (r".*" if key.endswith("…") else ""), path):
            return True
        if key.removesuffix("?").startswith((f"{path}.", f"{path}[]")):
            return True
        steps = pattern.split(r"\.")
        if any(re.fullmatch(r"\.".join(steps[:count]).removesuffix(r"\[\]"), path) for count in range(1, len(steps))):
            return True
    return False


def said(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def assert_as_documented(name: str, data: dict[str, Any]) -> None:
    assert next(iter(data.items())) == ("format", f"cnnlens.{name}/1")
    keys = documented()[name]
    assert not [path for path in paths(data) if path != "format" and not known(path, keys)]
    top = {re.split(r"\.|\[\]|…", key)[0] for key in keys}
    optional = {one.removesuffix("?") for one in top if one.endswith("?")}
    assert {one for one in top if not one.endswith("?")} - optional <= set(data)
    assert set(data) - {"format"} <= {one.removesuffix("?") for one in top}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((2, 3, 5), np.float32))


@pytest.mark.slow
def test_each_command_prints_the_keys_that_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    for name, arguments in QUICK.items():
        assert_as_documented(name, said(capsys, arguments))


@pytest.mark.framework
@pytest.mark.parametrize("name", SLOW)
def test_a_conversion_prints_the_keys_that_are_documented(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("keras")
    assert_as_documented(name, said(capsys, SLOW[name]))


def test_every_format_is_made_by_a_test_and_every_command_has_one() -> None:
    assert set(documented()) == {*QUICK, *SLOW}
    commands: set[str] = set()
    for action in parser_of_all()._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands |= set(action.choices)
            for parser in action.choices.values():
                assert "--json" in parser.format_usage()
    assert commands <= set(documented())


def test_a_key_that_is_not_documented_is_seen() -> None:
    with pytest.raises(AssertionError):
        assert_as_documented("demo", {"format": "cnnlens.demo/1", "folder": "x", "pictures": [], "more": 1})
    with pytest.raises(AssertionError):
        assert_as_documented("demo", {"format": "cnnlens.demo/1", "folder": "x"})
    with pytest.raises(AssertionError):
        assert_as_documented("check", {**dict.fromkeys(documented()["check"]), "runs": [{"nonsense": 1}]})


@pytest.mark.parametrize(
    ("arguments", "kind", "reason"),
    [
        (["summary", "nowhere.keras"], "FileRefusedError", "no such file"),
        (["summary", MODEL, "--jsn"], "UsageError", "did you mean '--json'"),
        (["sumary", MODEL], "UsageError", "did you mean 'summary'"),
        (["maps", MODEL], "UsageError", "--image"),
        (["check", MODEL, "-b", "refrence"], "CnnlensError", "did you mean 'reference'"),
        (["hist", MODEL, "--all", "--untrained"], "CnnlensError", "leave --layer"),
    ],
)
def test_an_error_is_json_too(arguments: list[str], kind: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--json"]) == 2
    printed = capsys.readouterr()
    data = json.loads(printed.out)
    assert_as_documented("error", data)
    assert data["error"]["type"] == kind
    assert reason in data["error"]["message"]
    assert printed.err.count("\n") == 1
    assert data["error"]["message"] in printed.err


def test_a_file_that_was_asked_for_is_not_written_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "nowhere.keras", "--json", "-o", "out.json"]) == 2
    assert json.loads(capsys.readouterr().out)["format"] == "cnnlens.error/1"
    assert not Path("out.json").exists()
