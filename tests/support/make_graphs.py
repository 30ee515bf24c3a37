"""Run by tests in a process of its own: Keras builds models with every shape of graph and says what each layer gives.

``python make_graphs.py FOLDER`` writes, for each model, NAME.keras, NAME.inputs.npz (one array an input, in order) and
NAME.outputs.npz (every call of every layer, by cnnlens' name for it, in Keras' own axes).
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers as kl

_MODELS = {}


def model(build):
    _MODELS[build.__name__] = build
    return build


@model
def sequential():
    return keras.Sequential(
        [
            keras.Input((11, 9, 3), name="photo"),
            kl.Conv2D(5, (3, 2), activation="relu", padding="same", name="first"),
            kl.MaxPooling2D((2, 3), name="pool"),
            kl.Conv2D(7, 3, strides=2, padding="same", name="second"),
            kl.Flatten(name="flat"),
            kl.BatchNormalization(name="norm"),
            kl.Dense(4, activation="softmax", name="head"),
        ]
    )


@model
def branches():
    image = keras.Input((9, 8, 2), name="image")
    extra = keras.Input((5,), name="extra")
    left = kl.Conv2D(4, 3, padding="same", name="left")(image)
    right = kl.Conv2D(4, 1, name="right")(image)
    joined = kl.Add(name="joined")([left, right])
    pooled = kl.GlobalAveragePooling2D(name="pooled")(joined)
    both = kl.Concatenate(name="both")([extra, pooled])
    # The outputs are neither the last layers nor in the order of creation.
    a = kl.Dense(3, name="z_first")(both)
    b = kl.Dense(2, name="a_second")(pooled)
    return keras.Model([extra, image], [b, a])


@model
def shared():
    image = keras.Input((8, 6, 3), name="image")
    conv = kl.Conv2D(3, 3, padding="same", activation="tanh", name="conv")
    once = conv(image)
    twice = conv(once)
    return keras.Model(image, kl.Subtract(name="difference")([twice, once]))


@model
def nested():
    inner_input = keras.Input((7, 5, 2), name="inner_input")
    inner = keras.Model(inner_input, kl.Conv2D(2, 3, padding="same", name="conv")(inner_input), name="inner")
    block = keras.Sequential([kl.Conv2D(4, 2, name="conv"), kl.ReLU(name="relu")], name="block")
    image = keras.Input((7, 5, 2), name="image")
    x = inner(image)
    y = inner(x)  # a model used twice
    return keras.Model(image, block(kl.Concatenate(name="pair")([x, y])))


@model
def nested_several():
    a, b = keras.Input((6, 5, 2), name="a"), keras.Input((6, 5, 3), name="b")
    x = kl.Conv2D(4, 3, name="from_a")(a)
    y = kl.Conv2D(4, 3, name="from_b")(b)
    inner = keras.Model([a, b], [kl.Add(name="sum")([x, y]), kl.Multiply(name="product")([x, y])], name="inner")
    c, d = keras.Input((6, 5, 2), name="c"), keras.Input((6, 5, 3), name="d")
    total, product = inner([c, d])
    return keras.Model([c, d], [kl.Flatten(name="flat")(product), kl.GlobalMaxPooling2D(name="peak")(total)])


@model
def bare_operations():
    image = keras.Input((6, 5, 3), name="image")
    x = kl.Conv2D(4, 3, padding="same", name="conv")(image)
    x = x * 2.0 + 1.0
    x = keras.ops.relu(x) - keras.ops.mean(x, axis=(1, 2), keepdims=True)
    return keras.Model(image, keras.ops.concatenate([x, image], axis=-1) / 3.0)


@model
def time_distributed():
    film = keras.Input((4, 8, 7, 2), name="film")
    x = kl.TimeDistributed(kl.Conv2D(3, 3, activation="relu", name="each"), name="frames")(film)
    cnn = keras.Sequential([keras.Input((6, 5, 3)), kl.Conv2D(2, 3, name="c"), kl.Flatten(name="f")], name="cnn")
    return keras.Model(film, kl.TimeDistributed(cnn, name="codes")(x))


@model
def spectral():
    image = keras.Input((8, 7, 2), name="image")
    wrapped = kl.SpectralNormalization(kl.Conv2D(3, (3, 2), name="inner"), name="spectral")
    return keras.Model(image, kl.LeakyReLU(name="leaky")(wrapped(image)))


@model
def signal():
    wave = keras.Input((19, 3), name="wave")
    x = kl.Conv1D(5, 4, padding="causal", dilation_rate=2, name="causal")(wave)
    x = kl.SeparableConv1D(6, 3, name="separable")(x)
    x = kl.Conv1DTranspose(4, 3, strides=2, padding="same", name="wider")(x)
    return keras.Model(wave, kl.AveragePooling1D(3, padding="same", name="smooth")(x))


@model
def volume():
    scan = keras.Input((6, 5, 7, 2), name="scan")
    x = kl.Conv3D(3, (2, 3, 2), padding="same", name="conv")(scan)
    return keras.Model(scan, kl.MaxPooling3D((2, 1, 3), name="pool")(x))


@model
def always_training():
    """Random layers are saved with training=True; running the model with False overrides it."""
    image = keras.Input((8, 7, 3), name="image")
    x = kl.RandomFlip(name="flip")(image, training=True)
    x = kl.Dropout(0.5, name="drop")(x, training=True)
    return keras.Model(image, kl.Conv2D(4, 3, name="conv")(x))


@model
def to_be_spoilt():
    """Square kernels and equal channel counts, so that no shape tells of a fault."""
    return keras.Sequential(
        [
            keras.Input((11, 9, 4), name="image"),
            kl.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
            kl.BatchNormalization(epsilon=1e-3, name="norm"),
            kl.MaxPooling2D(2, name="pool"),
            kl.Conv2D(4, 3, name="second"),
            kl.AveragePooling2D((1, 2), name="average"),
            kl.Flatten(name="flat"),
            kl.Dense(5, activation="softmax", name="head"),
        ]
    )


@model
def average_pooling():
    """Keras 3.15.1 under PyTorch is wrong here: it pads by repeating the edge, then averages over it."""
    return keras.Sequential(
        [
            keras.Input((12, 10, 3), name="image"),
            kl.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
            kl.AveragePooling2D(3, strides=2, padding="same", name="average"),
            kl.Dense(5, name="head"),
        ]
    )


@model
def masked():
    """Steps that are -0.1 throughout, through what uses masks and what hands them on."""
    steps = keras.Input((6, 4), name="steps")
    x = kl.Dropout(0.5, name="drop")(kl.Masking(-0.1, name="mask")(steps))
    again = kl.Bidirectional(kl.GRU(3, return_sequences=True), name="both")(x)
    heads = kl.MultiHeadAttention(2, 3, name="heads")(kl.Dense(5, name="own")(again), again)
    looked = kl.Attention(name="looked")([x, x])
    joined = kl.Maximum(name="larger")([x, looked])
    pooled = kl.GlobalAveragePooling1D(name="pooled")(kl.Concatenate(name="beside")([heads, joined]))
    return keras.Model(steps, [pooled, kl.LSTM(2, name="last")(joined)])


def masked_steps(shape, generator):
    steps = generator.standard_normal(shape).astype("float32")
    steps[0, 4:], steps[1, 0], steps[1, 3], steps[2, 1:] = -0.1, -0.1, -0.1, -0.1
    return steps


def call_outputs(top: keras.Model):
    """Every call of every layer of the outermost model, by cnnlens' name, as symbolic tensors."""
    own = {id(node) for nodes in top._nodes_by_depth.values() for node in nodes}
    for layer in top.operations:  # the layers, and bare operations such as x + y
        nodes = [node for node in layer._inbound_nodes if id(node) in own]
        for position, node in enumerate(nodes):
            name = layer.name + (f":{position}" if position else "")
            for index, tensor in enumerate(node.outputs):
                yield name + (f"[{index}]" if index else ""), tensor


def main(folder: Path) -> None:
    for number, (name, build) in enumerate(_MODELS.items()):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(number)
        made = build()
        generator = np.random.default_rng(number)
        for weight in made.weights:
            low = 0.5 if "variance" in weight.path else -0.5
            weight.assign(generator.uniform(low, 1.0, weight.shape).astype("float32"))
        made.save(folder / f"{name}.keras")
        inputs = [generator.standard_normal((3, *tensor.shape[1:])).astype("float32") for tensor in made.inputs]
        if name == "masked":
            inputs = [masked_steps(inputs[0].shape, generator)]
        functional = made._functional if isinstance(made, keras.Sequential) else made
        named = dict(call_outputs(functional))
        values = keras.Model(made.inputs, list(named.values()))(
            inputs if len(inputs) > 1 else inputs[0], training=False
        )
        values = values if isinstance(values, (list, tuple)) else [values]
        arrays = {key: keras.ops.convert_to_numpy(value) for key, value in zip(named, values, strict=True)}
        np.savez(folder / f"{name}.inputs.npz", *inputs)
        np.savez(folder / f"{name}.outputs.npz", **{key.replace("/", "|"): value for key, value in arrays.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
