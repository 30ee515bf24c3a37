"""What training left in a file of Keras', as Keras counts it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import cnnlens
from cnnlens.network.summary import as_page, trainable_parameters

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def model() -> Any:
    layers = keras.layers
    inner = keras.Sequential(
        [layers.Input((9, 7, 3)), layers.Conv2D(5, (3, 2)), layers.BatchNormalization(), layers.Dropout(0.2)], name="in"
    )
    inner.layers[0].trainable = False
    frozen = keras.Sequential([layers.Input((7, 6, 5)), layers.Conv2D(4, 2), layers.BatchNormalization()], name="still")
    frozen.trainable = False
    given = keras.Input((9, 7, 3))
    x = layers.GlobalAveragePooling2D()(frozen(inner(given)))
    x = layers.Reshape((1, 4))(x)
    x = layers.Bidirectional(layers.LSTM(6))(x)
    made = keras.Model(given, layers.Dense(2, activation="softmax")(x))
    made.compile(keras.optimizers.Adam(3e-4), "categorical_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    made.optimizer.build(made.trainable_variables)
    return made


@pytest.mark.parametrize("name", ["x.keras", "x.h5", "x.weights.h5"])
def test_the_counts_are_those_of_keras(model: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (model.save_weights if "weights" in name else model.save)(path)
    network = cnnlens.open(path)
    assert network.parameters == model.count_params()
    trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    assert trainable_parameters(network) == (None if "weights" in name else trained)
    optimizer, *rest = network.also
    assert (optimizer.what, optimizer.arrays) == ("optimizer", len(model.optimizer.variables))
    assert optimizer.numbers == sum(math.prod(variable.shape) for variable in model.optimizer.variables)
    text = str(as_page(network))
    if "weights" not in name:
        assert optimizer.says.startswith("Adam, learning_rate 0.0003, beta_1 0.9")
        assert [one.what for one in rest] == ["loss", "metrics"]
        assert rest[0].says == "categorical_crossentropy"
        assert rest[1].says.startswith("accuracy, ")
        assert f"{model.count_params() - trained:,} of them not trainable" in text
        assert "frozen" in text
    assert "also in the file" in text


def test_a_damaged_optimizer_is_said_and_no_model_is_refused_for_it(model: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        group = file["optimizer_weights"]
        group["loop"] = h5py.SoftLink("/elsewhere")
        file.attrs["training_config"] = "{no JSON"
    network = cnnlens.open(path)
    assert [(one.what, one.says) for one in network.also] == [
        ("optimizer", "a class that the file does not name; its state cannot be read")
    ]
