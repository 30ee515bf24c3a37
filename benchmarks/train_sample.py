"""Trains the small networks that the package carries as its samples, and cuts the ten test images that go with them.

The samples have to be networks that this project trained itself, on data that may be passed on (Fashion-MNIST, MIT), so
that `cnnlens demo` shows real kernels at once. This script is the whole recipe: run it again and the same files come
out, up to the rounding of the machine and the date that Keras writes into them.

    KERAS_BACKEND=jax python benchmarks/train_sample.py /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

SEED = 2017  # the year of Fashion-MNIST
BATCH = 64
WANTED_ACCURACY = 0.90
WANTED_BYTES = 1_500_000
SAMPLE = Path(__file__).resolve().parent.parent / "cnnlens" / "sample"
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """One IDX file of bytes (http://yann.lecun.com/exdb/mnist/), in its own shape."""
    content = gzip.decompress(path.read_bytes())
    zeros, kind, rank = struct.unpack(">HBB", content[:4])
    if zeros != 0 or kind != 8:
        raise SystemExit(f"{path}: no IDX file of bytes")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def network() -> keras.Sequential:
    """The architecture, with the names that Keras gives in a fresh process."""
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2d"),
            keras.layers.MaxPooling2D(2, name="max_pooling2d"),
            keras.layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2d_1"),
            keras.layers.MaxPooling2D(2, name="max_pooling2d_1"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(100, activation="relu", name="dense"),
            keras.layers.Dropout(0.4, name="dropout"),
            keras.layers.Dense(10, activation="softmax", name="dense_1"),
        ],
        name="fashion_mnist_cnn",
    )


def train(images: NDArray[np.uint8], labels: NDArray[np.uint8], epochs: int) -> keras.Sequential:
    """Adam on nine tenths of the data, its step falling to zero; the weights of the epoch best on the last tenth."""
    keras.utils.set_random_seed(SEED)
    model = network()
    steps = epochs * math.ceil(0.9 * len(images) / BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1.5e-3, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    order = np.random.default_rng(SEED).permutation(len(images))
    model.fit(
        images[order, :, :, None].astype(np.float32) / 255,
        labels[order],
        batch_size=BATCH,
        epochs=epochs,
        validation_split=0.1,
        callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)],
        verbose=2,
    )
    return model


def pair_network() -> keras.Model:
    """Two pictures in, one look at each, a separable convolution over both, rows read by an LSTM, one answer out."""
    left, right = keras.layers.Input((28, 28, 1), name="left"), keras.layers.Input((28, 28, 1), name="right")
    look = keras.layers.Conv2D(8, 5, padding="same", activation="relu", name="look")
    halve = keras.layers.MaxPooling2D(2, name="halve")
    both = keras.layers.Concatenate(name="both")([halve(look(left)), halve(look(right))])
    x = keras.layers.SeparableConv2D(16, 3, padding="same", activation="relu", name="compare")(both)
    x = keras.layers.Reshape((14, 14 * 16), name="rows")(x)
    x = keras.layers.LSTM(12, name="read")(x)
    return keras.Model([left, right], keras.layers.Dense(1, activation="sigmoid", name="same")(x), name="pair")


def train_pair(images: NDArray[np.uint8], labels: NDArray[np.uint8], epochs: int) -> keras.Model:
    """Tells whether two pictures show the same kind of clothing: half of the pairs do."""
    keras.utils.set_random_seed(SEED)
    draw = np.random.default_rng(SEED)
    first = draw.permutation(len(images))
    by_class = [np.flatnonzero(labels == one) for one in range(len(CLASSES))]
    alike = np.array([draw.choice(by_class[label]) for label in labels[first]])
    second = np.where(draw.random(len(first)) < 0.5, alike, draw.permutation(len(images)))
    model = pair_network()
    model.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy", metrics=["accuracy"])
    model.fit(
        [images[one][..., None].astype(np.float32) / 255 for one in (first, second)],
        (labels[first] == labels[second]).astype(np.float32),
        batch_size=BATCH, epochs=epochs, validation_split=0.1, verbose=2,
    )  # fmt: skip
    return model


def averaging_network() -> keras.Sequential:
    """An average over an odd window at stride 2 and `same` padding: where backends of Keras 3.15 disagree."""
    keras.utils.set_random_seed(SEED)
    return keras.Sequential(
        [
            keras.layers.Input((10, 8, 3)),
            keras.layers.Conv2D(5, 3, padding="same", activation="relu", name="conv"),
            keras.layers.AveragePooling2D(3, strides=2, padding="same", name="average"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(4, name="head"),
        ],
        name="average",
    )


def without_optimizer(model: keras.Model) -> keras.Model:
    """The same network as it would be after loading for inference: Adam's two moments would triple the file."""
    bare = type(model).from_config(model.get_config())
    bare.set_weights(model.get_weights())
    return bare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=SAMPLE, help="folder that gets the model and the images")
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()

    test_images = read_idx(arguments.data / "t10k-images-idx3-ubyte.gz")
    test_labels = read_idx(arguments.data / "t10k-labels-idx1-ubyte.gz")
    model = train(
        read_idx(arguments.data / "train-images-idx3-ubyte.gz"),
        read_idx(arguments.data / "train-labels-idx1-ubyte.gz"),
        arguments.epochs,
    )
    scores = np.asarray(model.predict(test_images[..., None].astype(np.float32) / 255, batch_size=1000, verbose=0))
    accuracy = float(np.mean(scores.argmax(axis=1) == test_labels))
    print(f"test accuracy {accuracy:.4f} on {len(test_labels)} images, backend {keras.backend.backend()}")
    if accuracy < WANTED_ACCURACY:
        print(f"below {WANTED_ACCURACY}: nothing written", file=sys.stderr)
        return 1

    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "fashion_mnist_cnn.keras"
    without_optimizer(model).save(path)
    print(f"{path}: {path.stat().st_size:,} bytes")
    if path.stat().st_size > WANTED_BYTES:
        print(f"more than {WANTED_BYTES:,} bytes", file=sys.stderr)
        return 1

    pair = train_pair(
        read_idx(arguments.data / "train-images-idx3-ubyte.gz"),
        read_idx(arguments.data / "train-labels-idx1-ubyte.gz"),
        epochs=3,
    )
    for name, made in (("pair.keras", pair), ("average.keras", averaging_network())):
        without_optimizer(made).save(arguments.out / name)
        print(f"{name}: {(arguments.out / name).stat().st_size:,} bytes")

    folder = arguments.out / "images"
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(CLASSES):
        index = int(np.flatnonzero(test_labels == label)[0])
        Image.fromarray(test_images[index]).save(folder / f"{label}-{name}.png", optimize=True)
        print(f"{label}-{name}.png: test image {index}, read as {CLASSES[int(scores[index].argmax())]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
