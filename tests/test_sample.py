"""The sample is what its README says: small, trained, without an optimizer, and right about its own images."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnlens
from cnnlens import sample
from cnnlens.inputs import images

DATA = Path("/usr/share/datasets/fashion-mnist")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs Debian's dataset-fashion-mnist")


def test_the_file_is_small_and_holds_no_optimizer() -> None:
    assert sample.MODEL.stat().st_size <= 1_500_000
    with zipfile.ZipFile(sample.MODEL) as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    assert b"optimizer" not in weights
    assert not config.get("compile_config")
    assert [layer["config"]["name"] for layer in config["config"]["layers"]][1:] == [
        "conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten", "dense", "dropout", "dense_1",
    ]  # fmt: skip


def test_the_network_has_the_shapes_of_the_readme() -> None:
    network = cnnlens.open(sample.MODEL)
    shapes = {layer.name: {name: array.shape for name, array in layer.weights.items()} for layer in network.layers}
    assert {name: held for name, held in shapes.items() if held} == {
        "conv2d": {"kernel": (3, 3, 1, 32), "bias": (32,)},
        "conv2d_1": {"kernel": (3, 3, 32, 64), "bias": (64,)},
        "dense": {"kernel": (3136, 100), "bias": (100,)},
        "dense_1": {"kernel": (100, 10), "bias": (10,)},
    }
    trained = network["conv2d"].weights["kernel"]
    assert trained.std() > 0.1, "an untrained kernel of this shape has 0.08"
    readme = sample.MODEL.with_name("README.md").read_text()
    for held in shapes.values():
        count = sum(int(np.prod(shape)) for shape in held.values())
        assert not count or f"{count:,}" in readme


def test_the_images_are_ten_and_the_network_names_them_rightly() -> None:
    files = sorted(sample.IMAGES.iterdir())
    assert len(files) == len(sample.LABELS) == len(sample.NAMES) == 10
    for index, (file, label) in enumerate(zip(files, sample.LABELS, strict=True)):
        assert file.name.startswith(f"{index}-")
        assert label.lower().split("/")[0].replace(" ", "-") in file.name
        with Image.open(file) as picture:
            assert (picture.size, picture.mode) == ((28, 28), "L")
    loaded = images.load(sample.IMAGES, shape=(1, 28, 28))
    scores = cnnlens.open(sample.MODEL).run(loaded.array, layers=["dense_1"], dtype="float32")["dense_1"]
    np.testing.assert_array_equal(scores.argmax(axis=1), range(10))


@needs_data
def test_the_images_are_the_first_of_each_class() -> None:
    import gzip

    labels = np.frombuffer(gzip.decompress((DATA / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    every = images.load(DATA / "t10k-images-idx3-ubyte.gz", shape=(1, 28, 28), limit=100).array
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in range(10)]
    np.testing.assert_array_equal(images.load(sample.IMAGES).array, every[firsts])


@needs_data
@pytest.mark.slow
def test_the_accuracy_is_the_readmes() -> None:
    import gzip

    labels = np.frombuffer(gzip.decompress((DATA / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    every = images.load(DATA / "t10k-images-idx3-ubyte.gz", shape=(1, 28, 28)).array
    network = cnnlens.open(sample.MODEL)
    guesses = [
        network.run(every[start : start + 1000], layers=["dense_1"], dtype="float32")["dense_1"].argmax(axis=1)
        for start in range(0, 10_000, 1000)
    ]
    accuracy = float(np.mean(np.concatenate(guesses) == labels))
    said = re.search(r"\*\*([\d.]+) %\*\*", sample.MODEL.with_name("README.md").read_text())
    assert said
    # Two images at most lie so near to a border that another backend's rounding could move them.
    assert accuracy == pytest.approx(float(said[1]) / 100, abs=2e-4)
    assert accuracy >= 0.90


@pytest.mark.framework
def test_keras_opens_the_sample() -> None:
    pytest.importorskip("keras")
    script = (
        "import sys, numpy, keras; model = keras.models.load_model(sys.argv[1], compile=False);"
        "print(model.count_params(), model.input_shape, [layer.name for layer in model.layers][0])"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(sample.MODEL)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines()[-1] == "333526 (None, 28, 28, 1) conv2d"
