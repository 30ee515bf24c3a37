"""``TensorFlowOpLayer``: files of tf.keras 2.1 and 2.3 with what TensorFlow computed, and nodes that are refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference import build
from cnnlens.reference.executor import Executor
from tests.support import ROOT

FILES = ROOT / "tests" / "data" / "tensorflow_ops"  # by tests/support/make_tensorflow_ops.py


@pytest.mark.parametrize("version", ["2.1", "2.3"])
def test_files_compute_what_tensorflow_computed(version: str) -> None:
    network = cnnlens.open(FILES / f"tensorflow-{version}.h5")
    with np.load(FILES / f"tensorflow-{version}.npz") as found:
        arrays = dict(found)
    assert network["tf_op_layer_Relu"].shown_kind == "TensorFlowOpLayer(Relu)"
    exact = Executor(network, layers=[ref.name for ref in network.outputs]).stored([arrays.pop("x")])
    assert len(network.outputs) == len(arrays)
    for number, ref in enumerate(network.outputs):
        wanted = arrays[f"y{number}"]
        assert network.shape(ref) == (None, *wanted.shape[1:]), ref.name
        assert np.abs(exact[ref.name] - 1.0 * wanted).max() <= 3e-6 * np.abs(wanted).max(), ref.name


def node(op: str, constants: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    kinds = {bool: "b", int: "i", float: "f", str: "s", list: "list"}
    attr: dict[str, Any] = {}
    for name, value in attributes.items():
        said: Any = base64.b64encode(value.encode()).decode() if isinstance(value, str) else value
        attr[name] = {kinds[type(value)]: {"i": [str(one) for one in said]} if isinstance(value, list) else said}
    return {"name": op, "node_def": {"name": op, "op": op, "attr": attr}, "constants": constants or {}}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (node("Fft"), "TensorFlow's Fft is not computed"),
        (node("PyFunc"), "PyFunc is not computed"),
        (node("DepthToSpace", block_size=2, data_format="NCHW"), "channels first"),
        (node("Softmax", temperature=2), "not known with temperature"),
        (node("ResizeBilinear", {"1": [4, 6]}, align_corners=True), "centres of pixels"),
        (node("ResizeBilinear", {"1": [4, 6]}, half_pixel_centers=False), "centres of pixels"),
        (node("GatherV2", {"1": [0], "2": 1}, batch_dims=1), "not known with batch_dims"),
        (node("Conv2D", padding="EXPLICIT", strides=[1, 1, 1, 1]), "padded as SAME or VALID"),
        ({"node_def": "\\n\\x04Relu", "constants": {}}, "cannot be read"),
        ({"node_def": {"op": "Relu", "attr": {"T": 3}}}, "cannot be read"),
        ({**node("Add"), "constants": {"x": 1}}, "cannot be read"),
    ],
)  # fmt: skip
def test_nodes_that_are_not_computed_say_so(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason):
        build("TensorFlowOpLayer", None, config, (2, 4))


def test_constants_stand_where_the_node_has_them() -> None:
    x = np.arange(6.0).reshape(2, 3)
    less = build("TensorFlowOpLayer", None, node("Sub", {"0": 10.0}), (2, 4))
    assert np.array_equal(less({}, x), 10 - x)
    config = node("Sub", {"1": 10.0})
    text = build("TensorFlowOpLayer", None, {**config, "node_def": json.dumps(config["node_def"])}, (2, 4))
    assert np.array_equal(text({}, x), x - 10)


def test_comparisons_with_a_constant_are_those_of_float32() -> None:
    x = np.array([[-0.1, 0.3]], np.float32)
    for dtype in (np.float32, np.float64):
        for op, wanted in (("NotEqual", [False, True]), ("GreaterEqual", [True, True]), ("Less", [False, False])):
            compare = build("TensorFlowOpLayer", None, node(op, {"1": -0.1}), (2, 4))
            assert compare({}, x.astype(dtype)).tolist() == [wanted], (op, dtype)
