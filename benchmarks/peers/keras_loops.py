"""Feature maps of a batch by every good way that a person writes by hand under Keras, framework by framework.

A way takes NumPy images ``(N, H, W, C)`` and gives contiguous NumPy arrays ``(N, C, H, W)``, compiled where that pays.
``python -m benchmarks.peers.keras_loops save NAME SIZE FOLDER`` writes an application with random weights instead, and
``chain LAYERS FILTERS FILE`` convolutions one behind another.
"""

import sys
from pathlib import Path


def cut(path, layers):
    """The part of a model that gives some layers' outputs."""
    import keras

    whole = keras.models.load_model(path, compile=False)
    return keras.Model(whole.inputs, [whole.get_layer(layer).output for layer in layers])


def ways(model):
    import keras

    return {"tensorflow": by_tensorflow, "jax": by_jax, "torch": by_torch}[keras.backend.backend()](model)


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
                return [y.permute(0, 3, 1, 2).contiguous().cpu().numpy() for y in call(torch.from_numpy(one))]

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


def save(name: str, size: str, folder: str) -> None:
    import keras

    keras.utils.set_random_seed(0)
    made = getattr(keras.applications, name)(weights=None, input_shape=(int(size), int(size), 3))
    made.save(Path(folder) / f"{name}.keras")


def chain(layers: str, filters: str, path: str) -> None:
    """Convolutions of 8 channels each, but the last, which has ``filters``."""
    import keras

    keras.utils.set_random_seed(0)
    made = [keras.layers.Input((24, 20, 8))]
    made += [keras.layers.Conv2D(8, 3, padding="same", activation="relu") for _ in range(int(layers) - 1)]
    keras.Sequential([*made, keras.layers.Conv2D(int(filters), 3, padding="same", activation="relu")]).save(path)


if __name__ == "__main__":
    {"save": save, "chain": chain}[sys.argv[1]](*sys.argv[2:])
