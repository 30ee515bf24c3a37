"""A config that lies never brings the viewer down: it opens, or is refused in one line.

Seeded mutations of real configs: values replaced by others, keys dropped, whole parts put where they do not belong.
"""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cnnlens
from cnnlens.network import summary
from tests.network.test_network import MODELS

_STRANGE: list[Any] = [None, True, -1, 0, 3.5, 1e308, "x", "same", [], {}, [None], ["conv", 0, 0], 10**12, "a" * 2000]
_STRANGE += [{"class_name": "Conv2D"}, [1, 2], float("nan")]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


def mutated(config: Any, generator: random.Random) -> Any:
    for _ in range(generator.choice([1, 1, 2, 5])):
        path = generator.choice(list(places(config)))
        owner = config
        for key in path[:-1]:
            owner = owner[key]
        if generator.random() < 0.3:
            del owner[path[-1]]
        else:
            owner[path[-1]] = generator.choice(_STRANGE)
    return config


def refusal(ask: Callable[[], object]) -> str:
    """What our own error says; empty where there is none. Any other error is a fault of ours and comes through."""
    try:
        ask()
    except cnnlens.CnnlensError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", MODELS)
def test_mutated_configs(graphs: Path, name: str, tmp_path: Path) -> None:
    generator = random.Random(name)
    with zipfile.ZipFile(graphs / f"{name}.keras") as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    path = tmp_path / "mutated.keras"
    opened = 0
    for _ in range(40):
        refused = ""
        config = mutated(json.loads(members["config.json"]), generator)
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, json.dumps(config) if member == "config.json" else content)
        try:
            network = cnnlens.open(path)
            assert summary.as_table(network)
            assert json.dumps(summary.as_json(network), allow_nan=False)
            for layer in network.layers:
                refused = refusal(lambda layer=layer: layer.operation)
                assert "\n" not in refused
            opened += 1
        except cnnlens.CnnlensError as error:
            refused = str(error)
        assert "\n" not in refused
    assert opened > 20
