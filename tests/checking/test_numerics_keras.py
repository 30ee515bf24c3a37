"""TensorFlow's own float32 is never blamed: every layer and op that the reference is held against Keras on is audited.

The arrays are those of ``test_reference_layers``, computed once a session in a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.checking import Audit, audit
from cnnlens.checking.noise.prediction import FLOOR
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.reference import Operation, build
from tests.reference.test_layers import Graph
from tests.reference.test_layers import _make as make_truth
from tests.support.once import Files
from tests.support.reference_cases import LAYERS
from tests.support.reference_ops import OPS

KINDS = sorted({case.kind for case in LAYERS})


@pytest.fixture(scope="session")
def folder(framework_files: Files) -> Path:
    pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    return framework_files("reference-truth", make_truth)


@pytest.fixture(scope="session")
def index(folder: Path) -> Mapping[str, Any]:
    return json.loads((folder / "cases.json").read_text())


def call_of(kind: str, config: Mapping[str, Any], operation: Operation) -> Call:
    layer = Layer("layer", kind, config, make_operation=lambda: operation)
    return Call(
        "layer", layer, (Ref("input"),), {}, (None,), 1 if config.get("data_format") == "channels_first" else -1
    )


def audited(folder: Path, index: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Audit]]:
    for case in LAYERS:
        entry = index[f"layer/{case.name}/float32"]
        if case.kind != kind or "file" not in entry:
            continue
        with np.load(folder / entry["file"]) as stored:
            arrays = {name: stored[name] for name in stored}
        inputs = [arrays[name] for name in sorted(name for name in arrays if name.startswith("input"))]
        weights = {name.split(":", 1)[1]: array for name, array in arrays.items() if name.startswith("weight:")}
        operation = build(entry["kind"], entry["module"], entry["config"], (3, 15, 1))
        args: tuple[Any, ...] = (inputs,) if case.listed else tuple(inputs)
        call = call_of(entry["kind"], entry["config"], operation)
        yield case.name, audit(call, weights, args, {}, arrays["output"])


@pytest.mark.parametrize("kind", KINDS)
def test_no_false_alarm_on_tensorflow(folder: Path, index: Mapping[str, Any], kind: str) -> None:
    found = list(audited(folder, index, kind))
    blamed = [(name, one) for name, one in found if one.verdict not in ("exact", "float32")]
    assert not blamed
    # Sampling positions in float32 cost a resizing half a bit more than anything else costs.
    assert all(one.bits >= FLOOR for _, one in found), min(found, key=lambda one: one[1].bits)


def test_no_false_alarm_on_bare_operations_of_tensorflow(folder: Path, index: Mapping[str, Any]) -> None:
    blamed: list[tuple[str, Audit]] = []
    count = 0
    for case in OPS:
        entry = index[f"op/{case.name}/float32"]
        if "file" not in entry:
            continue
        with np.load(folder / entry["file"]) as stored:
            inputs = [stored[name] for name in sorted(name for name in stored if name.startswith("input"))]
            output = stored["output"]
        graph = Graph(entry["model"], inputs)
        made = [layer for layer in graph.layers if layer["class_name"] != "InputLayer"]
        if len(made) != 1:
            continue
        layer = made[0]
        operation = build(layer["class_name"], layer["module"], layer["config"], (3, 15, 1))
        node = layer["inbound_nodes"][0]
        args = tuple(graph.value(item) for item in node["args"])
        kwargs = {name: graph.value(item) for name, item in node["kwargs"].items()}
        several = isinstance(operation({}, *args, **kwargs), list)
        if several:
            continue
        found = audit(call_of(layer["class_name"], layer["config"], operation), {}, args, kwargs, output)
        count += 1
        if found.verdict not in ("exact", "float32"):
            blamed.append((case.name, found))
    assert not blamed
    assert count > 80


def test_several_outputs_are_audited_each() -> None:
    operation = build("Split", "keras.src.ops.numpy", {"indices_or_sections": 3, "axis": -1})
    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")
    call = Call(
        "split", Layer("split", "Split", {}, make_operation=lambda: operation), (Ref("x"),), {}, (None,) * 3, -1
    )
    parts = [np.array(part) for part in np.split(x, 3, axis=-1)]
    assert audit(call, {}, (x,), {}, parts).verdict == "exact"
    parts[1][2, 3, 1] += 1
    found = audit(call, {}, (x,), {}, parts)
    assert found.verdict == "wrong"
    assert found.worst_position == (2, 1, 3)
