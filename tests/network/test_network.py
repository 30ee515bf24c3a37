"""A network's graph is Keras' own: every call of every layer, in every shape of graph, gives what Keras gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.network.graph import Layer

MODELS = (
    "sequential branches shared nested nested_several bare_operations time_distributed spectral signal volume "
    "to_be_spoilt average_pooling always_training masked"
).split()


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:
        return dict(found)


def canonical(array: np.ndarray, channels_first: bool = False) -> np.ndarray:
    return array if array.ndim < 3 or channels_first else np.moveaxis(array, -1, 1)


@pytest.mark.parametrize("name", MODELS)
def test_every_call_of_every_layer_agrees_with_keras(graphs: Path, name: str) -> None:
    network = cnnlens.open(graphs / f"{name}.keras")
    inputs = arrays(graphs / f"{name}.inputs.npz")
    truth = arrays(graphs / f"{name}.outputs.npz")
    given = [canonical(one) for one in inputs.values()]
    maps = network.run(given, dtype="float32")
    precise = network.run(given, dtype="float64")
    compared = 0
    for key, stored in truth.items():
        if key not in maps:  # Keras lists no InputLayer for a Sequential, and shows its functional twin's
            assert key == network.inputs[0].name
            assert network.kind == "Sequential"
            continue
        wanted = canonical(stored)
        assert maps[key].shape == wanted.shape, key
        if stored.dtype != np.bool_:
            assert maps[key].dtype == np.float32
            assert precise[key].dtype == np.float64
        scale = np.abs(wanted).max()
        assert np.abs(maps[key] - 1.0 * wanted).max() <= 2e-6 * scale, key
        assert np.abs(precise[key] - 1.0 * wanted).max() <= 2e-6 * scale, key
        compared += 1
    assert compared >= len(truth) - 1 > 1


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_known_before_anything_runs(graphs: Path, name: str) -> None:
    network = cnnlens.open(graphs / f"{name}.keras")
    inputs = arrays(graphs / f"{name}.inputs.npz")
    maps = network.run([canonical(one) for one in inputs.values()], dtype="float32")
    for layer in network.layers:
        assert layer.output_shape is not None, layer.name
        assert (3, *layer.output_shape[1:]) == maps[layer.name].shape, layer.name


def test_a_shared_layer_is_one_layer_with_two_calls(graphs: Path) -> None:
    network = cnnlens.open(graphs / "shared.keras")
    assert [layer.name for layer in network.layers] == ["image", "conv", "difference"]
    assert [call.name for call in network.calls] == ["image", "conv", "conv:1", "difference"]
    assert network["difference"].inputs == ("conv:1", "conv")


def test_a_nested_model_is_written_out(graphs: Path) -> None:
    network = cnnlens.open(graphs / "nested.keras")
    names = [layer.name for layer in network.layers]
    assert names == ["image", "inner/conv", "inner", "pair", "block/conv", "block/relu", "block"]
    assert network["inner/conv"].weights["kernel"].shape == (3, 3, 2, 2)
    assert network["inner"].weights == {}


def test_outputs_stand_in_the_model_s_order(graphs: Path) -> None:
    network = cnnlens.open(graphs / "branches.keras")
    assert [ref.name for ref in network.inputs] == ["extra", "image"]
    assert [ref.name for ref in network.outputs] == ["a_second", "z_first"]


def test_the_flatten_in_front_of_a_dense_is_known(graphs: Path) -> None:
    network = cnnlens.open(graphs / "sequential.keras")
    shape = network["second"].stored_output_shape
    assert shape is not None
    assert network["head"].stored["kernel"].geometry.flatten == shape[1:]
    assert network["norm"].stored["gamma"].geometry.flatten == shape[1:]


def test_inputs_are_taken_as_people_have_them(graphs: Path) -> None:
    network = cnnlens.open(graphs / "sequential.keras")
    image = np.random.default_rng(1).random((2, 3, 11, 9), np.float32)
    wanted = network.run(image, layers=["head"])["head"]
    for given in (np.moveaxis(image, 1, -1), {"photo": image}, [image]):
        assert np.array_equal(network.run(given, layers=["head"])["head"], wanted)
    assert np.allclose(network.run(image[1], layers=["head"])["head"], wanted[1:])


def test_chunks_and_threads_change_nothing(graphs: Path) -> None:
    network = cnnlens.open(graphs / "sequential.keras")
    images = np.random.default_rng(2).random((50, 3, 11, 9))
    whole = network.run(images, batch=50)
    parts = network.run(images, batch=7)
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        assert np.allclose(array, parts[name], rtol=1e-12, atol=1e-14), name


def test_only_what_is_asked_for_is_given(graphs: Path) -> None:
    network = cnnlens.open(graphs / "branches.keras")
    given = {"image": np.zeros((1, 2, 9, 8)), "extra": np.zeros((1, 5))}
    assert list(network.run(given, layers=["left", 3])) == ["left", "right"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (np.zeros((2, 3, 10, 9)), "(N, 3, 11, 9) was expected, (2, 3, 10, 9) came"),
        (np.array(["a"]), "real numbers are needed"),
        (np.zeros((0, 3, 11, 9)), "no example"),
        ([np.zeros((1, 3, 11, 9))] * 2, "(N, 3, 11, 9) was expected, (2, 1, 3, 11, 9) came"),
        ({"foto": np.zeros((1, 3, 11, 9))}, "'photo' is not given"),
    ],
)
def test_wrong_inputs_are_one_line(graphs: Path, inputs: object, said: str) -> None:
    with pytest.raises(cnnlens.CnnlensError) as caught:
        cnnlens.open(graphs / "sequential.keras").run(inputs)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_layer_names_the_nearest(graphs: Path) -> None:
    network = cnnlens.open(graphs / "sequential.keras")
    with pytest.raises(cnnlens.CnnlensError, match="did you mean 'second'"):
        network["secund"]
    with pytest.raises(cnnlens.CnnlensError, match="numbered 0 to 5"):
        network[6]
    with pytest.raises(cnnlens.CnnlensError, match="did you mean 'head'"):
        network.run(np.zeros((1, 3, 11, 9)), layers=["heads"])


def test_a_wrapper_is_listed_with_what_it_wraps() -> None:
    def kind(**config: Any) -> str:
        return Layer("x", "TimeDistributed", config).shown_kind

    inner = {"class_name": "Conv2D", "config": {"filters": 3}}
    assert kind(layer=inner) == "TimeDistributed(Conv2D)"
    both = {"class_name": "Bidirectional", "config": {"layer": {"class_name": "LSTM", "config": {}}}}
    assert kind(layer=both) == "TimeDistributed(Bidirectional(LSTM))"
    assert Layer("x", "RNN", {"cell": {"class_name": "LSTMCell"}}).shown_kind == "RNN(LSTMCell)"
    assert Layer("x", "QuantizeAnnotate", {"layer": inner}).shown == "layer 'x' (QuantizeAnnotate(Conv2D))"
    assert kind(layer={"class_name": 5}) == kind(layer="Conv2D") == kind() == "TimeDistributed"
    itself: dict[str, Any] = {"class_name": "Deep"}
    itself["config"] = {"layer": itself}
    assert kind(layer=itself).count("Deep") == 4
