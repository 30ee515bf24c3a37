"""Keras layers beside native PyTorch modules that hold the same weights, converted by cnnlens.layout.

Run by test_layout.py in a process of its own, with Keras on its torch backend. For each case it prints the largest
difference between the two outputs, relative to the largest output, and the same after one array was reversed along its
first axis: the second number shows that the first one can fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from cnnlens import layout
from cnnlens.layout import Geometry

RNG = np.random.default_rng(7)
Arrays = dict[str, np.ndarray]
CASES: dict[str, Callable[[], tuple[float, float]]] = {}


def case(function: Callable[[], tuple[float, float]]) -> Callable[[], tuple[float, float]]:
    CASES[function.__name__] = function
    return function


def filled(layer: Any, *shape: int) -> tuple[np.ndarray, np.ndarray, Arrays]:
    """Inputs, the layer's outputs, and its weights by name, all of them random (variances positive)."""
    x = RNG.standard_normal(shape).astype(np.float32)
    layer(keras.ops.convert_to_tensor(x))
    for variable in layer.weights:
        values = RNG.standard_normal(variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    y = keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x)))
    return x, y, {variable.name: keras.ops.convert_to_numpy(variable) for variable in layer.weights}


def native(kind: str, weights: Arrays, geometry: Geometry = Geometry()) -> Arrays:  # noqa: B008
    """All weights in PyTorch's layout, by their Keras names."""
    found = {}
    for name, array in weights.items():
        full = layout.completed(kind, name, array.shape, geometry)
        found[name] = layout.arrange(kind, name, layout.canonicalise(kind, name, array, full), "torch", full)
    return found


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1)


def first(x: np.ndarray) -> torch.Tensor:
    return tensor(x).movedim(-1, 1)


def compared(
    y: np.ndarray, run: Callable[[dict[str, torch.Tensor]], torch.Tensor], arrays: Arrays, spoil: str
) -> tuple[float, float]:
    def error(given: Arrays) -> float:
        with torch.no_grad():
            other = run({name: tensor(array) for name, array in given.items()}).numpy()
        assert other.shape == y.shape, (other.shape, y.shape)
        return float(np.abs(other - y).max() / np.abs(y).max())

    return error(arrays), error({**arrays, spoil: arrays[spoil][::-1]})


def loaded(module: nn.Module, kind: str, state: dict[str, torch.Tensor]) -> nn.Module:
    """The module with its state under PyTorch's names, which the table gives."""
    names = {name: layout.convention(kind, name, "torch").name for name in state}
    module.load_state_dict({names[name]: array for name, array in state.items()}, strict=False)
    assert set(names.values()) <= set(module.state_dict()), names
    return module.eval()


def convolution(
    kind: str, module: nn.Module, x_shape: tuple[int, ...], geometry: Geometry, **config: Any
) -> tuple[float, float]:
    x, y, weights = filled(getattr(keras.layers, kind)(**config), *x_shape)
    return compared(
        y, lambda state: last(loaded(module, kind, state)(first(x))), native(kind, weights, geometry), "kernel"
    )


@case
def conv1d() -> tuple[float, float]:
    return convolution("Conv1D", nn.Conv1d(5, 7, 3), (2, 11, 5), Geometry(), filters=7, kernel_size=3)


@case
def conv2d() -> tuple[float, float]:
    return convolution("Conv2D", nn.Conv2d(5, 7, (3, 2)), (2, 11, 9, 5), Geometry(), filters=7, kernel_size=(3, 2))


@case
def conv2d_grouped_dilated() -> tuple[float, float]:
    module = nn.Conv2d(6, 9, (3, 2), groups=3, dilation=(2, 1))
    config = {"filters": 9, "kernel_size": (3, 2), "groups": 3, "dilation_rate": (2, 1)}
    return convolution("Conv2D", module, (2, 11, 10, 6), Geometry(groups=3), **config)


@case
def conv3d() -> tuple[float, float]:
    return convolution(
        "Conv3D", nn.Conv3d(5, 7, (3, 2, 4)), (2, 8, 9, 10, 5), Geometry(), filters=7, kernel_size=(3, 2, 4)
    )


@case
def depthwise1d() -> tuple[float, float]:
    module = nn.Conv1d(5, 10, 3, groups=5)
    return convolution("DepthwiseConv1D", module, (2, 11, 5), Geometry(), kernel_size=3, depth_multiplier=2)


@case
def depthwise2d() -> tuple[float, float]:
    module = nn.Conv2d(5, 10, (3, 4), groups=5)
    return convolution("DepthwiseConv2D", module, (2, 11, 9, 5), Geometry(), kernel_size=(3, 4), depth_multiplier=2)


def separable(kind: str, functional: Any, x_shape: tuple[int, ...], size: Any) -> tuple[float, float]:
    x, y, weights = filled(getattr(keras.layers, kind)(7, size, depth_multiplier=2), *x_shape)

    def run(state: dict[str, torch.Tensor]) -> torch.Tensor:
        middle = functional(first(x), state["depthwise_kernel"], groups=x_shape[-1])
        return last(functional(middle, state["pointwise_kernel"], state["bias"]))

    return compared(y, run, native(kind, weights), "depthwise_kernel")


@case
def separable1d() -> tuple[float, float]:
    return separable("SeparableConv1D", F.conv1d, (2, 11, 5), 3)


@case
def separable2d() -> tuple[float, float]:
    return separable("SeparableConv2D", F.conv2d, (2, 11, 9, 5), (3, 4))


@case
def conv1d_transpose() -> tuple[float, float]:
    module = nn.ConvTranspose1d(5, 7, 3, stride=2)
    return convolution("Conv1DTranspose", module, (2, 6, 5), Geometry(), filters=7, kernel_size=3, strides=2)


@case
def conv2d_transpose() -> tuple[float, float]:
    module = nn.ConvTranspose2d(5, 7, (3, 4), stride=(2, 3))
    config = {"filters": 7, "kernel_size": (3, 4), "strides": (2, 3)}
    return convolution("Conv2DTranspose", module, (2, 6, 8, 5), Geometry(), **config)


@case
def conv3d_transpose() -> tuple[float, float]:
    module = nn.ConvTranspose3d(5, 7, (3, 2, 4), stride=(1, 2, 3))
    config = {"filters": 7, "kernel_size": (3, 2, 4), "strides": (1, 2, 3)}
    return convolution("Conv3DTranspose", module, (2, 4, 5, 6, 5), Geometry(), **config)


@case
def dense() -> tuple[float, float]:
    x, y, weights = filled(keras.layers.Dense(7), 3, 5)
    return compared(
        y, lambda state: loaded(nn.Linear(5, 7), "Dense", state)(tensor(x)), native("Dense", weights), "kernel"
    )


@case
def einsum_dense() -> tuple[float, float]:
    equation = "abcd,dcef->abfe"
    x, y, weights = filled(keras.layers.EinsumDense(equation, (None, 6, 7)), 2, 3, 4, 5)
    state = native("EinsumDense", weights, Geometry(equation=equation))

    def run(state: dict[str, torch.Tensor]) -> torch.Tensor:
        # The inputs of the matrix run in the kernel's order, d then c.
        return F.linear(tensor(x).transpose(2, 3).reshape(2, 3, 20), state["kernel"]).reshape(2, 3, 6, 7)

    return compared(y, run, state, "kernel")


@case
def dense_after_flatten() -> tuple[float, float]:
    layers = keras.layers
    model = keras.Sequential(
        [layers.Flatten(), layers.BatchNormalization(epsilon=1e-3), layers.PReLU(), layers.Dense(7)]
    )
    x, y, _ = filled(model, 4, 2, 3, 5)
    geometry = Geometry(flatten=(2, 3, 5))
    kinds = ("BatchNormalization", "PReLU", "Dense")
    arrays: Arrays = {}
    for kind, layer in zip(kinds, model.layers[1:], strict=True):
        weights = {variable.name: keras.ops.convert_to_numpy(variable) for variable in layer.weights}
        arrays |= {f"{kind} {name}": array for name, array in native(kind, weights, geometry).items()}

    def run(state: dict[str, torch.Tensor]) -> torch.Tensor:
        by_kind = {
            kind: {name.split()[1]: array for name, array in state.items() if name.startswith(kind)} for kind in kinds
        }
        modules = (nn.BatchNorm1d(30, eps=1e-3), nn.PReLU(30), nn.Linear(30, 7))
        values = first(x).flatten(1)
        for kind, module in zip(kinds, modules, strict=True):
            values = loaded(module, kind, by_kind[kind])(values)
        return values

    correct, kernel = compared(y, run, arrays, "Dense kernel")
    spoilt = [compared(y, run, arrays, name)[1] for name in arrays if name != "Dense kernel"]
    return correct, min(kernel, *spoilt)


@case
def batch_normalization() -> tuple[float, float]:
    x, y, weights = filled(keras.layers.BatchNormalization(epsilon=1e-3), 2, 3, 4, 5)
    module = nn.BatchNorm2d(5, eps=1e-3)
    arrays = native("BatchNormalization", weights)
    return compared(
        y, lambda state: last(loaded(module, "BatchNormalization", state)(first(x))), arrays, "moving_variance"
    )


@case
def layer_normalization() -> tuple[float, float]:
    x, y, weights = filled(keras.layers.LayerNormalization(axis=(1, 2, 3), epsilon=1e-3), 2, 3, 4, 5)
    module = nn.LayerNorm((5, 3, 4), eps=1e-3)
    arrays = native("LayerNormalization", weights)
    return compared(y, lambda state: last(loaded(module, "LayerNormalization", state)(first(x))), arrays, "gamma")


@case
def group_normalization() -> tuple[float, float]:
    x, y, weights = filled(keras.layers.GroupNormalization(3, epsilon=1e-3), 2, 4, 5, 6)
    module = nn.GroupNorm(3, 6, eps=1e-3)
    arrays = native("GroupNormalization", weights)
    return compared(y, lambda state: last(loaded(module, "GroupNormalization", state)(first(x))), arrays, "gamma")


@case
def rms_normalization() -> tuple[float, float]:
    x, y, weights = filled(keras.layers.RMSNormalization(epsilon=1e-6), 2, 3, 5)
    arrays = native("RMSNormalization", weights)
    return compared(y, lambda state: loaded(nn.RMSNorm(5, 1e-6), "RMSNormalization", state)(tensor(x)), arrays, "scale")


@case
def prelu() -> tuple[float, float]:
    x, y, weights = filled(keras.layers.PReLU(shared_axes=[1, 2]), 2, 3, 4, 5)
    arrays = native("PReLU", weights)
    return compared(y, lambda state: last(loaded(nn.PReLU(5), "PReLU", state)(first(x))), arrays, "alpha")


@case
def embedding() -> tuple[float, float]:
    layer = keras.layers.Embedding(9, 4)
    layer.build()
    layer.set_weights([RNG.standard_normal((9, 4))])
    x = np.array([[1, 8, 3], [0, 2, 7]])
    y = keras.ops.convert_to_numpy(layer(x))
    arrays = native("Embedding", {"embeddings": layer.get_weights()[0]})
    return compared(y, lambda state: loaded(nn.Embedding(9, 4), "Embedding", state)(tensor(x)), arrays, "embeddings")


def recurrent(kind: str, layer: Any, module: nn.Module) -> tuple[float, float]:
    x, y, weights = filled(layer, 2, 6, 5)

    def run(state: dict[str, torch.Tensor]) -> torch.Tensor:
        named: dict[str, torch.Tensor] = {"bias_hh_l0": torch.zeros_like(state["kernel"][:, 0])}
        for name, array in state.items():
            names = layout.convention(kind, name, "torch").name.split(", ")
            named |= dict(zip(names, array, strict=True)) if len(names) > 1 else {names[0]: array}
        module.load_state_dict(named)
        return module(tensor(x))[0]

    arrays = native(kind, weights)
    return compared(y, run, arrays, "recurrent_kernel")


@case
def lstm() -> tuple[float, float]:
    return recurrent("LSTM", keras.layers.LSTM(7, return_sequences=True), nn.LSTM(5, 7, batch_first=True))


@case
def gru() -> tuple[float, float]:
    return recurrent("GRU", keras.layers.GRU(7, return_sequences=True), nn.GRU(5, 7, batch_first=True))


@case
def simple_rnn() -> tuple[float, float]:
    return recurrent("SimpleRNN", keras.layers.SimpleRNN(7, return_sequences=True), nn.RNN(5, 7, batch_first=True))


@case
def multi_head_attention() -> tuple[float, float]:
    kind = "MultiHeadAttention"
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3)
    x = RNG.standard_normal((4, 5, 6)).astype(np.float32)
    layer(x, x)
    layer.set_weights([RNG.standard_normal(array.shape) for array in layer.get_weights()])
    y = keras.ops.convert_to_numpy(layer(x, x))
    weights = {
        "/".join(variable.path.split("/")[-2:]): keras.ops.convert_to_numpy(variable) for variable in layer.weights
    }

    def run(state: dict[str, torch.Tensor]) -> torch.Tensor:
        module = nn.MultiheadAttention(6, 2, batch_first=True)
        parts = {part: [state[f"{role}/{part}"] for role in ("query", "key", "value")] for part in ("kernel", "bias")}
        module.load_state_dict(
            {
                "in_proj_weight": torch.cat(parts["kernel"]),
                "in_proj_bias": torch.cat(parts["bias"]),
                "out_proj.weight": state["attention_output/kernel"],
                "out_proj.bias": state["attention_output/bias"],
            }
        )
        return module(tensor(x), tensor(x), tensor(x))[0]

    return compared(y, run, native(kind, weights), "attention_output/kernel")


if __name__ == "__main__":
    assert keras.backend.backend() == "torch"
    torch.manual_seed(0)
    print(json.dumps({name: function() for name, function in CASES.items()}))
