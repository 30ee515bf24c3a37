"""A config that lies never brings the viewer down: it opens, or is refused in one line.

Seeded mutations of real configs: values replaced by others, keys dropped, whole parts put where they do not belong.
"""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cnnlens
from cnnlens import summary
from tests.test_network import MODELS, graphs  # noqa: F401 - a fixture

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


@pytest.mark.parametrize("name", MODELS)
def test_mutated_configs(graphs: Path, name: str, tmp_path: Path) -> None:  # noqa: F811
    generator = random.Random(name)
    with zipfile.ZipFile(graphs / f"{name}.keras") as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    path = tmp_path / "mutated.keras"
    opened = 0
    for _ in range(40):
        config = mutated(json.loads(members["config.json"]), generator)
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, json.dumps(config) if member == "config.json" else content)
        try:
            network = cnnlens.open(path)
            assert summary.as_table(network)
            assert json.dumps(summary.as_json(network), allow_nan=False)
            for layer in network.layers:
                try:
                    assert layer.operation is not None
                except cnnlens.UnsupportedLayerError as error:
                    assert "\n" not in str(error)
            opened += 1
        except cnnlens.CnnlensError as error:
            assert "\n" not in str(error)
    assert opened > 20
