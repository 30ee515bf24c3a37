"""Which kinds keep the features of a flattened map is said once, for Keras' files, for PyTorch's and for converters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnlens.files.keras.inner import inner_layers
from cnnlens.files.keras.network import keras_network
from cnnlens.files.keras.variables import declare
from cnnlens.files.memory import MemoryModel
from cnnlens.kinds import UNKNOWN, kind_of, layer_kind, operator_kind
from cnnlens.network.network import Network


@pytest.mark.parametrize("kind", ["Gelu", "Elu", "Selu", "LeakyRelu", "HardSigmoid", "HardSilu", "Softplus", "Softmax"])
def test_a_bare_activation_keeps_and_hands_on_the_features(kind: str) -> None:
    assert kind_of(kind).keeps_features
    assert kind_of(kind).hands_on


@pytest.mark.parametrize("kind", ["Add", "Multiply", "add", "mul"])
def test_what_merges_keeps_features_yet_does_not_take_any_order(kind: str) -> None:
    row = operator_kind(kind) if kind.islower() else kind_of(kind)
    assert row.keeps_features
    assert not row.hands_on


@pytest.mark.parametrize("kind", ["Flatten", "Reshape", "Concatenate", "Dense", "Flip", "Cumsum", "cat", "unheard_of"])
def test_what_moves_features_keeps_none(kind: str) -> None:
    row = operator_kind(kind) if kind.islower() else kind_of(kind)
    assert not row.keeps_features
    assert not row.hands_on


# -- a Dense behind a flattened map ------------------------------------------------------------------------------------

KERNEL = np.arange(4 * 3 * 2 * 7, dtype=np.float32).reshape(24, 7)
TURNED = KERNEL.reshape(4, 3, 2, 7).transpose(3, 2, 0, 1).reshape(7, -1)


def entry(kind: str, name: str, *inputs: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    """A layer's entry, called with ``inputs``: one tensor, or a list of several."""
    tensors = [
        {"class_name": "__keras_tensor__", "config": {"shape": None, "dtype": "float32", "keras_history": [one, 0, 0]}}
        for one in inputs
    ]
    several = kind in ("Add", "Concatenate")
    calls = [{"args": [tensors] if several else tensors, "kwargs": {}}] if inputs else []
    return {"module": module, "class_name": kind, "name": name, "config": {"name": name, **config},
            "inbound_nodes": calls}  # fmt: skip


def image(name: str, *shape: int) -> dict[str, Any]:
    return entry("InputLayer", name, batch_shape=[None, *shape])


def dense(name: str, source: str) -> dict[str, Any]:
    return entry("Dense", name, source, units=7, activation="linear", use_bias=False)


def flatten(name: str, source: str) -> dict[str, Any]:
    return entry("Flatten", name, source, data_format="channels_last")


def network(*layers: dict[str, Any], kernel: np.ndarray[Any, Any] = KERNEL) -> Network:
    config = {"name": "net", "layers": list(layers), "output_layers": [[layers[-1]["name"], 0, 0]],
              "input_layers": [[one["name"], 0, 0] for one in layers if one["class_name"] == "InputLayer"]}  # fmt: skip
    return keras_network(MemoryModel({"class_name": "Functional", "config": config}, {("d",): {"kernel": kernel}}))


def notes(net: Network) -> str:
    return "\n".join(note for note in net.notes if "'d'" in note)


@pytest.mark.parametrize(
    "between",
    [
        entry("Gelu", "x", "flat", module="keras.src.ops.nn", approximate=False),
        entry("Softplus", "x", "flat", module="keras.src.ops.nn"),
        entry("LeakyRelu", "x", "flat", module="keras.src.ops.nn", negative_slope=0.2),
        entry("Softmax", "x", "flat", axis=-1),
        entry("ReLU", "x", "flat"),
    ],
    ids=lambda one: one["class_name"],
)
def test_the_order_is_followed_through_what_keeps_features(between: dict[str, Any]) -> None:
    net = network(image("i", 4, 3, 2), flatten("flat", "i"), between, dense("d", "x"))
    assert np.array_equal(net["d"].kernel.to("torch"), TURNED)  # type: ignore[union-attr]
    assert not notes(net)


def test_a_reshape_flattens_too() -> None:
    net = network(image("i", 4, 3, 2), entry("Reshape", "flat", "i", target_shape=[24]), dense("d", "flat"))
    assert np.array_equal(net["d"].kernel.to("torch"), TURNED)  # type: ignore[union-attr]


def test_behind_a_permute_a_reshape_says_nothing_of_the_order() -> None:
    turned = entry("Permute", "turned", "i", dims=[3, 1, 2])
    net = network(
        image("i", 4, 3, 2), turned, entry("Reshape", "flat", "turned", target_shape=[24]), dense("d", "flat")
    )
    assert np.array_equal(net["d"].kernel.to("torch"), KERNEL.T)  # type: ignore[union-attr]
    assert "'flat' (Reshape) flattens a map whose axes were moved" in notes(net)


@pytest.mark.parametrize("kind", ["UnitNormalization", "GroupNormalization", "RandomFlip"])
def test_what_leaves_each_feature_in_its_place_keeps_the_order(kind: str) -> None:
    net = network(image("i", 4, 3, 2), flatten("flat", "i"), entry(kind, "x", "flat"), dense("d", "x"))
    assert np.array_equal(net["d"].kernel.to("torch"), TURNED)  # type: ignore[union-attr]
    assert not notes(net)


def test_an_axis_that_comes_and_goes_loses_the_order_and_says_so() -> None:
    net = network(image("i", 4, 3, 2), flatten("flat", "i"),
                  entry("ExpandDims", "x", "flat", module="keras.src.ops.numpy", axis=1),
                  entry("Squeeze", "y", "x", module="keras.src.ops.numpy", axis=1), dense("d", "y"))  # fmt: skip
    assert "'x' (ExpandDims) reshapes the features of a flattened map" in notes(net)


def test_a_factor_for_all_features_keeps_the_order_and_features_of_no_order_lose_it() -> None:
    for size, said in ((1, ""), (24, "joins the features of a flattened map and others of no known order")):
        net = network(image("i", 4, 3, 2), image("j", size), flatten("flat", "i"), entry("Add", "x", "flat", "j"),
                      dense("d", "x"))  # fmt: skip
        assert bool(notes(net)) == bool(said)
        assert said in notes(net)


def test_maps_flattened_alike_are_added_in_that_order() -> None:
    net = network(image("i", 4, 3, 2), image("j", 4, 3, 2), flatten("a", "i"), flatten("b", "j"),
                  entry("Add", "x", "a", "b"), dense("d", "x"))  # fmt: skip
    assert np.array_equal(net["d"].kernel.to("torch"), TURNED)  # type: ignore[union-attr]
    assert not notes(net)


def test_where_the_order_is_lost_a_note_says_so() -> None:
    added = network(image("i", 4, 3, 2), image("j", 3, 4, 2), flatten("a", "i"), flatten("b", "j"),
                    entry("Add", "x", "a", "b"), entry("ReLU", "y", "x"), dense("d", "y"))  # fmt: skip
    assert "joins the features of a flattened map and those of a map of another shape" in notes(added)
    twice = np.concatenate([KERNEL, KERNEL])
    beside = network(image("i", 4, 3, 2), image("j", 4, 3, 2), flatten("a", "i"), flatten("b", "j"),
                     entry("Concatenate", "x", "a", "b", axis=-1), dense("d", "x"), kernel=twice)  # fmt: skip
    assert "moves the features of a flattened map" in notes(beside)
    for net, kernel in ((added, KERNEL), (beside, twice)):
        assert np.array_equal(net["d"].kernel.to("torch"), kernel.T)  # type: ignore[union-attr]


def test_nothing_is_noted_where_no_map_was_flattened() -> None:
    net = network(image("i", 24), image("j", 24), entry("Add", "x", "i", "j"), dense("d", "x"))
    assert not notes(net)
    assert np.array_equal(net["d"].kernel.to("torch"), KERNEL.T)  # type: ignore[union-attr]


def test_a_shape_that_stays_the_same_keeps_the_order() -> None:
    net = network(image("i", 4, 3, 2), flatten("flat", "i"), flatten("again", "flat"),
                  entry("Reshape", "x", "again", target_shape=[24]), dense("d", "x"))  # fmt: skip
    assert np.array_equal(net["d"].kernel.to("torch"), TURNED)  # type: ignore[union-attr]
    assert not notes(net)


@pytest.mark.parametrize("kind", ["Copy", "Clip", "GroupNormalization", "clone", "view", "Gelu", "Scatter", "lstm"])
def test_a_layer_of_somebodys_own_is_no_kind_of_keras_by_its_name(kind: str) -> None:
    """Nor where a Keras 2 file names no module: an operation has one in ``keras.ops``, an operator is PyTorch's."""
    assert layer_kind(kind, "mine.layers") is UNKNOWN
    assert (layer_kind(kind, None) is UNKNOWN) == (kind != "GroupNormalization")
    own = entry(kind, "x", "flat", module="mine.layers")
    own["build_config"] = {"input_shape": [None, 24]}
    net = network(image("i", 4, 3, 2), flatten("flat", "i"), own, dense("d", "x"))
    assert np.array_equal(net["d"].kernel.to("torch"), KERNEL.T)  # type: ignore[union-attr]
    assert "moves" not in notes(net)


def test_arrays_of_somebodys_own_layer_are_not_named_by_an_operator() -> None:
    for name in ("conv2d", "linear", "Mish", "Copy", "layer_norm"):
        assert declare({"class_name": name, "module": "mine", "config": {}}).names is None
        assert declare({"class_name": name, "config": {}}).names is None
    assert not inner_layers({"class_name": "lstm", "config": {"units": 3}})
