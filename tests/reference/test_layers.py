"""The reference against Keras on TensorFlow, layer by layer and op by op, in float64 and float32.

One Keras process a test session computes every case; each case is then a test of its own. What TensorFlow cannot run on
a CPU at a dtype (3-D pooling in float64) is checked in the other dtype.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.reference import build
from tests.support import SUPPORT
from tests.support.once import Files, needs
from tests.support.reference_cases import LAYERS, LayerCase
from tests.support.reference_ops import OPS, OpCase

pytestmark = pytest.mark.framework

# Relative to the largest value of the layer; float32 sums in another order differ by a few units in the last place.
FLOAT32 = 1e-5
# Keras computes these in float32 on a CPU alone.
ONLY_FLOAT32 = ("MaxPooling3D", "AveragePooling3D", "AdaptiveMaxPooling3D", "AdaptiveAveragePooling3D")


def _make(folder: Path) -> None:
    environment = os.environ | {
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # oneDNN has no float64.
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "CUDA_VISIBLE_DEVICES": "",
    }
    script = SUPPORT / "reference_truth.py"
    subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True, capture_output=True)


@pytest.fixture(scope="session")
def truth(framework_files: Files) -> Mapping[str, Any]:
    needs("keras", "tensorflow")
    folder = framework_files("reference-truth", _make)
    index: dict[str, Any] = json.loads((folder / "cases.json").read_text())
    return {key: {**entry, "folder": folder} for key, entry in index.items()}


def _load(entry: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any], Any]:
    with np.load(entry["folder"] / entry["file"]) as stored:
        arrays = {name: stored[name] for name in stored.files}
    inputs = [arrays[f"input{i}"] for i in range(sum(name.startswith("input") for name in arrays))]
    weights = {name.removeprefix("weight:"): a for name, a in arrays.items() if name.startswith("weight:")}
    return inputs, weights, arrays["output"]


def _close(got: Any, wanted: Any, dtype: str, loose: float) -> None:
    assert got.shape == wanted.shape
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted)
        return
    assert got.dtype == dtype
    largest = np.abs(wanted).max(initial=0.0)
    bound = max(FLOAT32, loose) if dtype == "float32" else loose
    np.testing.assert_allclose(got, wanted, rtol=0, atol=bound * largest)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_layer_agrees_with_keras(case: LayerCase, dtype: str, truth: Mapping[str, Any]) -> None:
    entry = truth[f"layer/{case.name}/{dtype}"]
    if "error" in entry:
        assert case.kind in ONLY_FLOAT32, entry["error"]
        assert dtype == "float64", entry["error"]
        pytest.skip("TensorFlow has this kernel in float32 alone")
    inputs, weights, wanted = _load(entry)
    operation = build(entry["kind"], entry["module"], entry["config"], (3, 15, 1))
    before = [x.copy() for x in inputs]
    with np.errstate(all="ignore"):
        got = operation(weights, inputs if case.listed else inputs[0])
    _close(got, wanted, dtype, case.loose)
    for x, kept in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, kept, err_msg="the operation wrote into its input")
    shapes = [x.shape for x in inputs]
    opened = [(None, *shape[1:]) for shape in shapes]
    assert operation.output_shape(shapes if case.listed else shapes[0]) == wanted.shape
    made = operation.output_shape(opened if case.listed else opened[0])
    assert made == (None, *wanted.shape[1:])
    # Keras' own rule says the same, where it says anything; it forgets that glu halves the channels, and reverses the
    # axes that an einsum elides.
    if case.arguments.get("activation") != "glu" and not str(case.arguments.get("equation")).startswith("..."):
        assert all(theirs in (None, ours) for ours, theirs in zip(made, entry["shape"], strict=True))


class Graph:
    """Walks a small functional model as Keras wrote it, with arrays or with shapes."""

    def __init__(self, model: Mapping[str, Any], values: list[Any]) -> None:
        config = model["config"]
        named = [item if isinstance(item, str) else item[0] for item in np.ravel(config["input_layers"])[::3]]
        self.values = dict(zip(named, values, strict=True))
        self.layers = config["layers"]
        self.result = config["output_layers"]

    def value(self, argument: Any) -> Any:
        if isinstance(argument, dict):
            if argument.get("class_name") == "__keras_tensor__":
                name, _, index = argument["config"]["keras_history"]
                found = self.values[name]
                return found[index] if isinstance(found, list) else found
            return argument
        return [self.value(item) for item in argument] if isinstance(argument, list) else argument

    def run(self, *, shapes: bool) -> Any:
        for layer in self.layers:
            if layer["class_name"] == "InputLayer":
                continue
            operation = build(layer["class_name"], layer["module"], layer["config"], (3, 15, 1))
            node = layer["inbound_nodes"][0]
            args = [self.value(item) for item in node["args"]]
            kwargs = {name: self.value(item) for name, item in node["kwargs"].items()}
            result = operation.output_shape(*args, **kwargs) if shapes else operation({}, *args, **kwargs)
            self.values[layer["name"]] = result
        name, _, index = np.ravel(np.array(self.result, dtype=object))[:3]
        found = self.values[name]
        return found[int(index)] if isinstance(found, list) else found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", OPS, ids=lambda case: case.name)
def test_op_agrees_with_keras(case: OpCase, dtype: str, truth: Mapping[str, Any]) -> None:
    entry = truth[f"op/{case.name}/{dtype}"]
    assert "error" not in entry, entry["error"]
    inputs, _, wanted = _load(entry)
    with np.errstate(all="ignore"):
        got = Graph(entry["model"], inputs).run(shapes=False)
    _close(np.asarray(got), wanted, dtype, case.loose)
    made = Graph(entry["model"], [(None, *x.shape[1:]) for x in inputs]).run(shapes=True)
    assert made == tuple(entry["shape"])
