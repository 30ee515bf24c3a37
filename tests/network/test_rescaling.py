"""A picture is scaled once: by the model where a layer of it does, and where none does by what reads the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cnnlens.files.keras.network import keras_network
from cnnlens.inputs.stream import open_inputs
from cnnlens.network.network import Network
from cnnlens.network.rescaling import Rescaled, rescaled
from cnnlens.testing import MemoryModel

Entry = dict[str, Any]
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 12, 10, 3), np.uint8)


def layer(kind: str, **config: Any) -> Entry:
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": kind.lower(), "dtype": "float32", **config},
    }


def network(*front: Entry, arrays: Mapping[tuple[str, ...], Mapping[str, Any]] | None = None) -> Network:
    """Some layers in front of a convolution."""
    image = layer("InputLayer", batch_shape=[None, 12, 10, 3], name="image")
    kernel = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype(np.float32)
    last = layer("Conv2D", filters=4, kernel_size=3, use_bias=False, name="conv")
    config = {"class_name": "Sequential", "config": {"name": "scaled", "layers": [image, *front, last]}}
    return keras_network(MemoryModel(config, {("conv",): {"kernel": kernel}, **(arrays or {})}))


BYTES = layer("Rescaling", scale=1 / 255, offset=0.0)
CENTRED = layer("Rescaling", scale=1 / 127.5, offset=-1.0)
FRONTS: dict[str, tuple[list[Entry], str]] = {
    "first": ([BYTES], "rescaling"),
    "centred": ([CENTRED], "rescaling"),
    "behind a resizing": ([layer("Resizing", height=9, width=11), BYTES], "rescaling"),
    "behind a flip and a rotation": ([layer("RandomFlip"), layer("RandomRotation", factor=0.1), BYTES], "rescaling"),
    "behind a border": ([layer("ZeroPadding2D", padding=[[1, 2], [2, 0]]), CENTRED], "rescaling"),
    "behind a crop": ([layer("CenterCrop", height=8, width=7), BYTES], "rescaling"),
    "behind a pooling of maxima": ([layer("MaxPooling2D", pool_size=2, strides=2), BYTES], "rescaling"),
    "statistics of bytes": ([layer("Normalization", axis=-1, mean=[123, 116, 103], variance=[3300, 3200, 3100])],
                            "normalization"),
    "means alone": ([layer("Normalization", axis=-1, mean=[123, 116, 103], variance=[1, 1, 1])], "normalization"),
    "statistics of numbers up to one": ([layer("Normalization", axis=-1, mean=[0.5, 0.4, 0.4],
                                               variance=[0.05, 0.06, 0.05])], ""),
    "multiplied": ([layer("Rescaling", scale=255.0, offset=0.0)], ""),
    "doubled": ([layer("Rescaling", scale=2.0, offset=-1.0)], ""),
    "there and back": ([BYTES, layer("Rescaling", scale=255.0, offset=0.0, name="back")], ""),
    "nothing": ([], ""),
    "behind the first convolution": ([layer("Conv2D", filters=3, kernel_size=1, use_bias=False, name="mixes"), BYTES],
                                     ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FRONTS)
def test_who_scales_the_pixels(name: str) -> None:
    front, by = FRONTS[name]
    made = network(*front, arrays={("mixes",): {"kernel": np.ones((1, 1, 3, 3), np.float32)}})
    assert rescaled(made, made.inputs[0]) == Rescaled(by)


def test_a_batch_norm_of_bytes_is_known_by_its_statistics() -> None:
    norm = layer("BatchNormalization", axis=-1, epsilon=1e-3)
    for mean, variance, by in ((120.0, 3000.0, "batchnormalization"), (0.4, 0.07, "")):
        vectors = {"gamma": np.ones(3), "beta": np.zeros(3), "moving_mean": np.full(3, mean)}
        arrays = {name: array.astype(np.float32) for name, array in vectors.items()}
        arrays["moving_variance"] = np.full(3, variance, np.float32)
        made = network(norm, arrays={("batchnormalization",): arrays})
        assert rescaled(made, made.inputs[0]) == Rescaled(by)


def test_a_layer_that_nobody_can_look_into_may_scale() -> None:
    made = network(layer("Lambda", function="f"))
    assert rescaled(made, made.inputs[0]) == Rescaled(unknown="lambda")
    notes = "; ".join(open_inputs(made, PIXELS).notes)
    assert "whether the model's 'lambda' does it again cannot be told" in notes


def test_the_layer_that_scales_is_said_and_overruled() -> None:
    made = network(layer("RandomFlip"), BYTES)
    stream = open_inputs(made, PIXELS)
    assert "values kept, 0 to 255; the model's 'rescaling' scales them (--scale 0..1 to overrule)" in stream.notes
    assert stream.batch(0, 2)[0].max() == PIXELS.max()
    assert open_inputs(made, PIXELS, scale="0..1").batch(0, 2)[0].max() <= 1
    assert open_inputs(network(), PIXELS).batch(0, 2)[0].max() <= 1


def test_drawn_inputs_are_what_the_model_wants() -> None:
    from cnnlens.inputs.drawn import default_inputs

    assert default_inputs(network(layer("Resizing", height=9, width=11), BYTES))["image"].max() > 200
    assert default_inputs(network())["image"].max() <= 1
