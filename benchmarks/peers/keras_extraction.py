"""Feature maps of a few layers by every good way that one framework has, and by the adapter, in turn.

``python -m benchmarks.peers.keras_extraction BACKEND MODEL LAYERS BATCH COUNT ROUNDS`` prints JSON: for each way the
images a second of each round. All begin with the same NumPy images, batch by batch, and end with contiguous NumPy
arrays ``(N, C, H, W)``; only ``predict``, which nobody transposes, ends with what Keras gives. ``save NAME FOLDER``
writes an application's model instead, and ``load BACKEND MODEL`` opens one.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path


def measure(name: str, path: str, layers: list[str], batch: int, count: int, rounds: int) -> dict[str, list[float]]:
    backend = importlib.import_module("cnnlens_backends." + name.replace("-", "_")).BACKEND
    os.environ.update(backend.environment("cpu", "native"))
    import keras
    import numpy as np

    import cnnlens

    network = cnnlens.open(path)
    session = backend.load(network, "cpu", "native")
    images = np.random.default_rng(0).random((count, *network.shape(network.inputs[0])[1:]), np.float32)
    batches = [images[start : start + batch] for start in range(0, count, batch)]
    whole = keras.models.load_model(path, compile=False)
    model = keras.Model(whole.inputs, [whole.get_layer(layer).output for layer in layers])

    ways = {
        "adapter": lambda one: list(session.feature_maps([np.moveaxis(one, -1, 1)], layers).values()),
        "predict": lambda one: model.predict(one, batch_size=batch, verbose=0),
        **{"tensorflow": by_tensorflow, "jax": by_jax, "torch": by_torch}[backend.framework](model),
    }
    truth = ways["adapter"](batches[0])
    for way, run in ways.items():  # compiled, and the same, before anything is timed
        for _ in range(3):
            found = run(batches[0])
        for ours, theirs in zip(truth, found, strict=True):
            theirs = np.moveaxis(theirs, -1, 1) if way == "predict" else theirs
            assert way == "predict" or theirs.flags.c_contiguous, way
            assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max(), way
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    listed = list(ways.items())
    for turn in range(rounds):
        for way, run in listed[turn % len(listed) :] + listed[: turn % len(listed)]:  # nobody is always first
            start = time.perf_counter()
            for one in batches:
                run(one)
            seconds[way].append(count / (time.perf_counter() - start))
    return seconds


def by_tensorflow(model):
    import numpy as np
    import tensorflow as tf

    @tf.function(autograph=False)
    def transposed(images):
        return [tf.transpose(one, (0, 3, 1, 2)) for one in model(images, training=False)]

    @tf.function(autograph=False)
    def plain(images):
        return model(images, training=False)

    return {
        "tf.function with the transpose": lambda one: [y.numpy() for y in transposed(tf.convert_to_tensor(one))],
        "tf.function, transposed by NumPy": lambda one: [
            np.ascontiguousarray(np.moveaxis(y.numpy(), -1, 1)) for y in plain(tf.convert_to_tensor(one))
        ],
    }


def by_jax(model):
    import jax
    import numpy as np
    from jax import numpy as jnp

    def outputs(trained, fixed, images):
        return model.stateless_call(trained, fixed, images, training=False)[0]

    plain = jax.jit(outputs)
    transposed = jax.jit(lambda *given: [jnp.moveaxis(one, -1, 1) for one in outputs(*given)])

    def variables():  # predict gives its own away, so they are looked up each time
        return [one.value for one in model.trainable_variables], [one.value for one in model.non_trainable_variables]

    return {
        "jax.jit with the transpose": lambda one: [np.asarray(y) for y in transposed(*variables(), one)],
        "jax.jit, transposed by NumPy": lambda one: [
            np.ascontiguousarray(np.moveaxis(np.asarray(y), -1, 1)) for y in plain(*variables(), one)
        ],
    }


def by_torch(model):
    import torch

    def loop(call):
        def run(one):
            with torch.inference_mode():
                return [y.permute(0, 3, 1, 2).contiguous().numpy() for y in call(torch.from_numpy(one))]

        return run

    ways = {"inference_mode": loop(lambda images: model(images, training=False))}
    if len(model.layers) < 20:  # minutes of compiling, for a large model
        ways["torch.compile"] = loop(torch.compile(lambda images: model(images, training=False)))
    if [type(layer).__name__ for layer in model.layers] == ["InputLayer", "Conv2D", "MaxPooling2D", "Conv2D"]:
        ways["torch without Keras, NCHW"] = in_nchw(model.layers[1], model.layers[3])
    return ways


def in_nchw(first, second):
    """The sample's two convolutions as a PyTorch person writes them."""
    import torch

    def convolution(layer):
        kernel = torch.as_tensor(layer.kernel.value).detach().permute(3, 2, 0, 1).contiguous()
        made = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        made.weight.data, made.bias.data = kernel, torch.as_tensor(layer.bias.value).detach().clone()
        return made.eval()

    a, b = convolution(first), convolution(second)

    def run(one):
        with torch.inference_mode():
            x = torch.relu(a(torch.from_numpy(one).permute(0, 3, 1, 2)))
            return [x.contiguous().numpy(), torch.relu(b(torch.nn.functional.max_pool2d(x, 2))).contiguous().numpy()]

    return run


def save(name: str, folder: str) -> None:
    import keras

    keras.utils.set_random_seed(0)
    getattr(keras.applications, name)(weights=None).save(Path(folder) / f"{name}.keras")


def load(name: str, path: str) -> None:
    """Prints the seconds from a file to a session, without importing the framework."""
    backend = importlib.import_module("cnnlens_backends." + name.replace("-", "_")).BACKEND
    os.environ.update(backend.environment("cpu", "native"))
    import keras

    import cnnlens

    keras.ops.convert_to_numpy(keras.ops.zeros((1,)))  # what a framework does at its first array is not the model's
    start = time.perf_counter()
    backend.load(cnnlens.open(path), "cpu", "native")
    print(time.perf_counter() - start)


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(*sys.argv[2:])
    elif sys.argv[1] == "load":
        load(*sys.argv[2:])
    else:
        backend_name, file, wanted, *numbers = sys.argv[1:]
        print(json.dumps(measure(backend_name, file, wanted.split(","), *map(int, numbers))))
