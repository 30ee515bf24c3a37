"""Settings are said in one vocabulary, whoever made the file."""

from __future__ import annotations

from typing import Any

import pytest

import cnnlens
from cnnlens import sample
from cnnlens.network.graph import Layer
from cnnlens.network.settings import in_words, settings_of
from cnnlens.network.summary import as_json, as_page, trainable_parameters
from cnnlens.testing.networks import network


def set_to(kind: str, **config: Any) -> str:
    return in_words(settings_of(Layer("a", kind, config)))


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("Conv2D", {"filters": 5, "kernel_size": [3, 7], "strides": [2, 1], "padding": "same", "use_bias": False},
         "5 filters, 3×7, stride 2×1, padding same, no bias"),
        ("MaxPooling2D", {"pool_size": [2, 2], "strides": None, "padding": "valid"}, "2×2, stride 2"),
        ("MaxPool2d", {"kernel_size": [3, 2], "stride": [], "padding": [1, 0], "ceil_mode": True},
         "3×2, stride 3×2, padding 1×0, ceil_mode"),
        ("AveragePooling1D", {"pool_size": [2], "strides": [1]}, "pool 2, stride 1"),
        ("ZeroPadding2D", {"padding": [[0, 1], [2, 3]]}, "padding 0+1×2+3"),
        ("Dropout", {"rate": 0.25, "seed": 3}, "rate 0.25"),
        ("BatchNormalization", {"epsilon": 0.001, "momentum": 0.99, "center": False}, "no center, epsilon 0.001"),
        ("batch_norm", {"eps": 1e-5, "training": False}, "epsilon 1e-05"),
        ("Dense", {"units": 1000, "activation": "softmax", "trainable": False}, "1,000 units, softmax, frozen"),
        ("Activation", {"activation": {"class_name": "function", "config": "relu"}}, "relu"),
        ("Activation", {"activation": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.1}}}, "LeakyReLU"),
        ("Conv2D", {"dtype": {"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}}, "mixed_float16"),
        ("LSTM", {"units": 8, "return_sequences": True, "dropout": 0.0, "recurrent_activation": "sigmoid"},
         "8 units, sequences"),
        ("view", {"size": [{"batch": 1, "tensor": 0}, -1]}, "(N, -1)"),
        ("TimeDistributed", {"layer": {"class_name": "Dropout", "config": {"rate": 0.5}}}, "rate 0.5"),
        ("somebody's", {"depth": 3, "gated": True, "x": {"y": 1}}, "depth 3, gated"),
    ],
)  # fmt: skip
def test_settings_in_words(kind: str, config: dict[str, Any], said: str) -> None:
    assert set_to(kind, **config) == said


@pytest.mark.parametrize(
    "value", [None, {}, [], [[]], [None], {"config": []}, {"class_name": 3}, float("nan"), [[[1]]]]
)
def test_whatever_a_stranger_wrote_is_no_fault(value: Any) -> None:
    for key in ("kernel_size", "strides", "padding", "activation", "layer", "dtype", "epsilon", "axis", "trainable"):
        settings = settings_of(Layer("a", "Conv2D", {key: value}))
        assert isinstance(in_words(settings), str)


def test_what_feeds_a_layer_is_said_where_it_is_not_the_one_above() -> None:
    text = str(as_page(network("shared")))
    assert "←" in text
    assert "a slash stands between the uses of a shared layer" in text
    assert "←" not in str(as_page(cnnlens.open(sample.MODEL)))
    data = as_json(network("shared"))
    assert max(len(layer["calls"]) for layer in data["layers"]) == 2


def test_the_json_has_what_the_page_says() -> None:
    data = as_json(cnnlens.open(sample.MODEL))
    assert data["model"]["trainable_parameters"] == data["model"]["parameters"] == 333_526
    assert data["model"]["input_dtypes"] == {"input_layer": "float32"}
    assert data["also"] == []
    conv = data["layers"][0]
    assert conv["settings"]["kernel_size"] == [3, 3]
    assert conv["in_words"] == "32 filters, 3×3, padding same, relu"
    assert conv["calls"] == [{"name": "conv2d", "inputs": ["input_layer"]}]


def test_only_keras_says_what_is_trained() -> None:
    assert trainable_parameters(cnnlens.open(sample.MODEL)) == 333_526
