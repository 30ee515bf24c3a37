"""Keras' own backends with one fault in one layer, as the file that CNNLENS_PLANT names says.

``conv:scaled`` in it scales a channel of ``conv``. It is a file, so that one warm process is given every fault in turn.

The faults are real: the framework's variables, the layer's settings or the layer's computation are changed, and what is
recorded is what the framework then gives.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from cnnlens_backends import keras_jax, keras_tensorflow, keras_torch

CHANNEL = 2


def variable(layer: Any, change: Any, name: str = "kernel") -> None:
    found = next(one for one in layer.weights if one.name == name)
    array = np.array(import_module("keras").ops.convert_to_numpy(found))
    found.assign(np.ascontiguousarray(change(array)))


def scaled(layer: Any) -> None:
    def change(kernel: np.ndarray) -> np.ndarray:
        kernel[..., CHANNEL] *= np.float32(1.0001)
        return kernel

    variable(layer, change)


def swapped(layer: Any) -> None:
    variable(layer, lambda kernel: kernel.swapaxes(0, 1))


def flipped(layer: Any) -> None:
    variable(layer, lambda kernel: kernel[::-1, ::-1])


def no_bias(layer: Any) -> None:
    variable(layer, np.zeros_like, "bias")


def exchanged(layer: Any) -> None:
    def change(array: np.ndarray) -> np.ndarray:
        array[..., [1, 3]] = array[..., [3, 1]]
        return array

    variable(layer, change)
    variable(layer, change, "bias")


def not_a_number(layer: Any) -> None:
    def change(kernel: np.ndarray) -> np.ndarray:
        kernel[0, 0, 0, CHANNEL] = np.nan
        return kernel

    variable(layer, change)


def epsilon(layer: Any) -> None:
    layer.epsilon = 1e-5


def no_relu(layer: Any) -> None:
    layer.activation = import_module("keras").activations.linear


def computed_in(dtype: str) -> Any:
    def plant(layer: Any) -> None:
        layer.dtype_policy = import_module("keras").DTypePolicy(f"mixed_{dtype}")
        call = layer.call

        def narrow(*args: Any, **kwargs: Any) -> Any:
            return import_module("keras").ops.cast(call(*args, **kwargs), "float32")

        layer.call = narrow

    return plant


def shifted(layer: Any) -> None:
    call = layer.call

    def later(x: Any, *args: Any, **kwargs: Any) -> Any:
        ops = import_module("keras").ops
        return call(ops.concatenate([x[:, :, 1:], x[:, :, -1:]], axis=2), *args, **kwargs)

    layer.call = later


FAULTS = {
    "scaled": scaled,
    "swapped": swapped,
    "flipped": flipped,
    "no_bias": no_bias,
    "exchanged": exchanged,
    "nan": not_a_number,
    "epsilon": epsilon,
    "no_relu": no_relu,
    "bfloat16": computed_in("bfloat16"),
    "float16": computed_in("float16"),
    "shifted": shifted,
}


def planted(backend: Any) -> Any:
    """The backend's own class with a ``load`` that plants what the environment says."""

    class Planted(type(backend)):
        def load(self, *args: Any, **kwargs: Any) -> Any:
            session = super().load(*args, **kwargs)
            layer, _, fault = Path(os.environ["CNNLENS_PLANT"]).read_text().partition(":")
            if fault:
                FAULTS[fault](session._layers[layer])
            session.renew = None  # another fault may be planted in the same network
            return session

    made = Planted(backend.framework, backend.requires[1], backend.framework)
    made.name = f"planted-{backend.framework}"
    return made


TENSORFLOW, JAX, TORCH = (planted(one.BACKEND) for one in (keras_tensorflow, keras_jax, keras_torch))
