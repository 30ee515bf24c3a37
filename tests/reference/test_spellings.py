"""The ways in which files name things: Keras 2 and 3, TensorFlow's functions, and what is refused by name.

No framework is asked: each spelling is held against the formula that it stands for.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

from cnnlens.errors import UnsupportedLayerError
from cnnlens.files.keras.arguments import GraphError
from cnnlens.files.keras.graph import read_graph
from cnnlens.files.keras.tensorflow_ops import called, function_of
from cnnlens.network.graph import map_refs
from cnnlens.reference import build, known_kinds

VERSION = (3, 15, 1)


def _layer(kind: str, version: tuple[int, ...] = VERSION, **config: Any) -> Any:
    return build(kind, "keras.layers", config, version)


def test_one_name_two_functions() -> None:
    x = np.array([[-1.0, 0.0, 2.0, 2.9]])
    old = _layer("Activation", (2, 15, 0), activation="hard_sigmoid")({}, x)
    new = _layer("Activation", (3, 0, 5), activation="hard_sigmoid")({}, x)
    np.testing.assert_allclose(old, [[0.3, 0.5, 0.9, 1.0]], rtol=1e-12)
    np.testing.assert_allclose(new, [[1 / 3, 0.5, 5 / 6, 5.9 / 6]], rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "config", "wanted"),
    [
        ("LeakyReLU", {}, -0.3),
        ("LeakyReLU", {"alpha": 0.1}, -0.1),
        ("LeakyReLU", {"alpha": {"class_name": "__ndarray__", "config": {"value": 0.1}}}, -0.1),
        ("LeakyReLU", {"negative_slope": 0.05}, -0.05),
        ("ELU", {"alpha": 2.0}, 2 * math.expm1(-1)),
        ("ThresholdedReLU", {"theta": 0.5}, 0.0),
        ("ReLU", {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}, 0.0),
        ("Activation", {"activation": {"class_name": "function", "config": "leaky_relu"}}, -0.2),
        ("Activation", {"activation": {"class_name": "LeakyReLU", "config": {"alpha": 0.4}}}, -0.4),
        ("Activation", {"activation": {"module": "builtins", "class_name": "function", "config": "swish"}}, -1 / (1 + math.e)),  # noqa: E501
    ],
)  # fmt: skip
def test_spellings_of_old_and_new_files(kind: str, config: Any, wanted: float) -> None:
    got = _layer(kind, (2, 13, 1), **config)({}, np.array([[-1.0]]))
    np.testing.assert_allclose(got, [[wanted]], rtol=1e-12)


def test_batch_normalization_reads_keras_2() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    weights = {"beta": np.arange(5.0), "moving_mean": np.ones(5), "moving_variance": np.full(5, 4.0)}
    operation = _layer("BatchNormalization", (2, 13, 1), axis=[3], epsilon=0.0, scale=False)
    np.testing.assert_allclose(operation(weights, x), (x - 1) / 2 + np.arange(5.0), rtol=0, atol=1e-12)
    with pytest.raises(UnsupportedLayerError, match="one axis"):
        _layer("BatchNormalization", axis=[1, 3])


PADS = [[0, 0], [1, 0], [0, 2], [0, 0]]
TENSORFLOW_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = [
    ("math.add", ("x",), {"y": 2.0, "name": None}, lambda x: x + 2),
    ("__operators__.add", ("x",), {"y": "x", "name": None}, lambda x: 2 * x),
    ("math.multiply", ("x",), {"y": "x"}, lambda x: x * x),
    ("math.truediv", ("x", 4.0), {"name": None}, lambda x: x / 4),
    ("nn.relu", ("x",), {"name": None}, lambda x: np.maximum(x, 0)),
    ("nn.relu6", ("x",), {}, lambda x: np.clip(x, 0, 6)),
    ("nn.leaky_relu", ("x",), {"alpha": 0.1}, lambda x: np.where(x > 0, x, 0.1 * x)),
    ("math.reduce_mean", ("x",), {"axis": [1, 2], "keepdims": True}, lambda x: x.mean((1, 2), keepdims=True)),
    ("math.reduce_max", ("x",), {"axis": 3}, lambda x: x.max(3)),
    ("reshape", ("x",), {"shape": [-1, 12, 5]}, lambda x: x.reshape(-1, 12, 5)),
    ("transpose", ("x",), {"perm": [0, 3, 1, 2]}, lambda x: x.transpose(0, 3, 1, 2)),
    ("concat", (["x", "x"],), {"axis": -1}, lambda x: np.concatenate([x, x], -1)),
    ("expand_dims", ("x",), {"axis": 1}, lambda x: x[:, None]),
    ("pad", ("x",), {"paddings": PADS}, lambda x: np.pad(x, PADS)),
    ("clip_by_value", ("x",), {"clip_value_min": -1, "clip_value_max": 1}, lambda x: np.clip(x, -1, 1)),
    ("cast", ("x",), {"dtype": "float32"}, lambda x: x),
    (
        "__operators__.getitem",
        ("x",),
        {"slice_spec": [{"start": None, "stop": None, "step": None}, {"start": 1, "stop": None, "step": 2}, 0]},
        lambda x: x[:, 1::2, 0],
    ),
    ("compat.v1.math.sigmoid", ("x",), {}, lambda x: 1 / (1 + np.exp(-x))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "wanted"), TENSORFLOW_CALLS, ids=[call[0] for call in TENSORFLOW_CALLS]
)
def test_functions_that_keras_2_wrote(name: str, args: Any, kwargs: Any, wanted: Any) -> None:
    x = np.random.default_rng(5).normal(size=(2, 3, 4, 5)) * 3
    operation = build("TFOpLambda", None, {"function": name}, (2, 13, 1))

    def fill(value: Any, what: Any) -> Any:
        if isinstance(value, list):
            return [fill(item, what) for item in value]
        return what if isinstance(value, str) and value == "x" else value

    filled = [[fill(item, what) for item in args] for what in (x, x.shape, (None, *x.shape[1:]))]
    named = [{key: fill(item, what) for key, item in kwargs.items()} for what in (x, x.shape, (None, *x.shape[1:]))]
    expected = wanted(x)
    np.testing.assert_allclose(operation({}, *filled[0], **named[0]), expected, rtol=1e-12)
    assert operation.output_shape(*filled[1], **named[1]) == expected.shape
    assert operation.output_shape(*filled[2], **named[2]) == (None, *expected.shape[1:])


# What TensorFlow 2.0 to 2.3 kept of a call: the node, and the operands of it that are constants, by their place.
_X = np.random.default_rng(5).normal(size=(2, 3, 4, 5)) * 3
NODES = [
    ("RealDiv", {}, {"1": 4.0}, ("x",), _X / 4),
    ("Sub", {}, {"0": 1.5}, ("x",), 1.5 - _X),
    ("AddV2", {}, {}, ("x", "x"), _X + _X),
    ("LeakyRelu", {"alpha": {"f": 0.3}}, {}, ("x",), np.where(_X > 0, _X, 0.3 * _X)),
    ("Mean", {"keep_dims": {"b": True}}, {"1": [1, 2]}, ("x",), _X.mean((1, 2), keepdims=True)),
    ("Sum", {"keep_dims": {"b": False}}, {"1": 3}, ("x",), _X.sum(3)),
    ("ConcatV2", {"N": {"i": "2"}}, {"2": -2}, ("x", "x"), np.concatenate([_X, _X], -2)),
    ("Pack", {"axis": {"i": "1"}}, {}, ("x", "x"), np.stack([_X, _X], 1)),
    ("Reshape", {}, {"1": [-1, 20, 3]}, ("x",), _X.reshape(-1, 20, 3)),
    ("Transpose", {}, {"1": [0, 3, 1, 2]}, ("x",), _X.transpose(0, 3, 1, 2)),
    ("Pad", {}, {"1": [[0, 0], [1, 2], [0, 3], [0, 0]]}, ("x",), np.pad(_X, [(0, 0), (1, 2), (0, 3), (0, 0)])),
    (
        "StridedSlice",
        {"begin_mask": {"i": "1"}, "end_mask": {"i": "3"}, "shrink_axis_mask": {"i": "4"}, "ellipsis_mask": {"i": "0"}},
        {"1": [0, 1, 2], "2": [0, 0, 3], "3": [1, 2, 1]}, ("x",), _X[:, 1::2, 2],
    ),
    (
        "StridedSlice", {"ellipsis_mask": {"i": "1"}, "new_axis_mask": {"i": "4"}},
        {"1": [0, 3, 0], "2": [0, 1, 0], "3": [1, -1, 1]}, ("x",), _X[..., 3:1:-1, np.newaxis],
    ),
]  # fmt: skip


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(("op", "attributes", "constants", "tensors", "wanted"), NODES)
def test_nodes_of_tensorflows_graph(
    op: str, attributes: Any, constants: Any, tensors: Any, wanted: Any, as_text: bool
) -> None:
    node = {"name": op, "op": op, "attr": {"T": {"type": "DT_FLOAT"}, **attributes}}
    layer = {
        "class_name": "TensorFlowOpLayer", "name": "tf_op_layer_it",
        "inbound_nodes": [[["x", 0, 0, {}] for _ in tensors]],
        "config": {"name": "it", "node_def": json.dumps(node) if as_text else node, "constants": constants},
    }  # fmt: skip
    given = {"class_name": "InputLayer", "name": "x", "config": {"name": "x"}, "inbound_nodes": []}
    config = {"layers": [given, layer], "input_layers": [["x", 0, 0]], "output_layers": [["tf_op_layer_it", 0, 0]]}
    graph = read_graph({"class_name": "Functional", "config": config})
    assert graph is not None
    (call,) = graph.nodes[1:]
    assert call.name == "tf_op_layer_it"
    operation = build(call.layer.class_name, None, call.layer.config, (2, 4, 0))
    found = operation({}, *map_refs(call.args, lambda _: _X), **dict(call.kwargs))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    shape = operation.output_shape(*map_refs(call.args, lambda _: (None, *_X.shape[1:])), **dict(call.kwargs))
    assert shape == (None, *wanted.shape[1:])


@pytest.mark.parametrize(
    ("node", "constants", "reason"),
    [
        ("{not JSON", {}, "no JSON"),
        ({"op": "Add"}, {"first": 1}, "not numbered"),
        ({"op": "Pack", "attr": {"axis": {"i": "one"}}}, {}, "'axis' of a node of TensorFlow is no whole number"),
        ({"op": "Squeeze", "attr": {"squeeze_dims": {"list": {"i": ["all"]}}}}, {}, "'squeeze_dims'"),
        ({"op": "StridedSlice"}, {"1": [0]}, "bounds are computed in the graph"),
    ],
)
def test_nodes_that_tensorflow_does_not_write_are_refused(node: Any, constants: Any, reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        called({"node_def": node, "constants": constants}, ("x",))


def test_a_node_that_nothing_here_computes_is_refused_by_its_name() -> None:
    config = {"node_def": {"op": "Betainc"}}
    with pytest.raises(UnsupportedLayerError, match=r"no function 'raw_ops.Betainc'"):
        build("TensorFlowOpLayer", None, {**config, "function": function_of(config)}, (2, 4, 0))


@pytest.mark.parametrize(
    ("kind", "module", "config", "reason"),
    [
        ("Conv2D", "keras.layers", {"filters": 4, "kernel_size": [3]}, "kernel_size must be one whole number or 2"),
        ("Conv2D", "keras.layers", {"filters": 4, "kernel_size": [3, 0]}, "at least 1"),
        ("Conv2D", "keras.layers", {"filters": 4, "kernel_size": 3, "padding": "causal"}, "causal"),
        ("Conv2D", "keras.layers", {"filters": "many", "kernel_size": 3}, "filters must be a whole number"),
        ("Conv2D", "somebody.elses", {"filters": 4, "kernel_size": 3}, "somebody.elses"),
        ("Conv2D", "keras.layers", {"filters": 4, "kernel_size": 3, "activation": "mine"}, "'mine'"),
        ("Dense", "keras.layers", {"units": 3, "activation": {"class_name": "Mine", "config": {}}}, "Mine"),
        ("Conv2DD", "keras.layers", {}, "did you mean 'Conv2D'"),
        ("LSTM", "keras.layers", {}, "units must be a whole number"),
        ("CuDNNLSTM", "keras.layers", {"units": 3}, "NVIDIA"),
        ("MultiHeadAttention", "keras.layers", {}, "num_heads must be a whole number"),
        ("Lambda", "keras.layers", {}, "never run"),
        ("UpSampling2D", "keras.layers", {"interpolation": "area"}, "'area'"),
        ("Conj", "keras.src.ops.numpy", {}, "no op Conj"),
        ("TFOpLambda", None, {"function": "raw_ops.Evil"}, "raw_ops.Evil"),
        ("Rescalin\x1b[31mg", "keras.layers", {}, r"\\x1b"),
    ],
)
def test_refusals_name_the_kind_and_the_reason(kind: str, module: str | None, config: Any, reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        build(kind, module, config, VERSION)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused_from_shapes_alone() -> None:
    with pytest.raises(UnsupportedLayerError, match="does not fit"):
        _layer("Conv2D", filters=3, kernel_size=5).output_shape((None, 4, 9, 2))
    with pytest.raises(UnsupportedLayerError, match="4 axes"):
        _layer("Conv2D", filters=3, kernel_size=5).output_shape((None, 4, 9))
    with pytest.raises(UnsupportedLayerError, match="does not fit"):
        _layer("MaxPooling2D", pool_size=5).output_shape((None, 4, 9, 2))
    with pytest.raises(UnsupportedLayerError, match="cannot be reshaped"):
        _layer("Reshape", target_shape=[4, 7]).output_shape((None, 5, 7))
    with pytest.raises(UnsupportedLayerError, match="do not fit together"):
        _layer("Add").output_shape([(None, 5, 7), (None, 4, 7)])
    with pytest.raises(UnsupportedLayerError, match="do not fit together"):
        _layer("Concatenate", axis=-1).output_shape([(None, 5, 7), (None, 4, 7)])


def test_unknown_sizes_pass_through() -> None:
    image = (None, None, None, 3)
    assert _layer("Conv2D", filters=8, kernel_size=3, strides=2).output_shape(image) == (None, None, None, 8)
    assert _layer("MaxPooling2D").output_shape(image) == image
    assert _layer("GlobalAveragePooling2D").output_shape(image) == (None, 3)
    assert _layer("UpSampling2D").output_shape(image) == image
    assert _layer("Resizing", height=4, width=5).output_shape(image) == (None, 4, 5, 3)
    assert _layer("ZeroPadding2D").output_shape(image) == image
    assert _layer("Add").output_shape([image, (None, 4, None, 3)]) == (None, 4, None, 3)
    assert _layer("Flatten").output_shape(image) == (None, None)
    assert _layer("Conv2DTranspose", filters=8, kernel_size=3, strides=2).output_shape(image) == (None, None, None, 8)


def test_every_kind_of_the_issue_is_there() -> None:
    ranks = range(1, 4)
    wanted = [f"Conv{r}D" for r in ranks] + [f"Conv{r}DTranspose" for r in ranks] + ["Dense", "EinsumDense"]
    wanted += [f"{name}{r}D" for name, r in itertools.product(("DepthwiseConv", "SeparableConv"), (1, 2))]
    wanted += [f"{name}Normalization" for name in ("Batch", "Layer", "Group", "RMS", "Unit")] + ["Normalization"]
    wanted += [
        f"{mode}{name}Pooling{r}D"
        for mode, name, r in itertools.product(("", "Global", "Adaptive"), ("Max", "Average"), ranks)
    ]
    wanted += [f"{name}{r}D" for name, r in itertools.product(("ZeroPadding", "Cropping", "UpSampling"), ranks)]
    wanted += (
        "Rescaling Resizing CenterCrop Flatten Reshape Permute RepeatVector Identity Add Subtract Multiply".split()
    )
    wanted += "Average Maximum Minimum Concatenate Dot Activation ReLU LeakyReLU PReLU ELU Softmax Dropout".split()
    wanted += "GaussianNoise GaussianDropout AlphaDropout SpatialDropout2D LayerScale Embedding Masking".split()
    assert set(wanted) <= set(known_kinds())
