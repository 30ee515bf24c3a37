"""Pairs of models for the layout detective: one architecture as Keras and as PyTorch hold it, with planted mistakes.

The arrays are made in Keras' layouts and brought into PyTorch's by the conventions of the layouts table, written out
here once more by hand, so that the detective is not tested against its own conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.files import StoredArray
from cnnlens.files.keras.network import keras_network
from cnnlens.files.torch.state_layers import torch_layers
from cnnlens.network.network import Network
from cnnlens.testing import MemoryModel

Array = np.ndarray
Arrays = dict[str, dict[str, Array]]

_TORCH = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


@dataclass(frozen=True)
class Layer:
    """A layer of an architecture: kind ``conv``, ``depthwise``, ``norm``, ``dense`` or ``flatten``."""

    name: str
    kind: str
    taps: tuple[int, int] = (1, 1)
    inputs: int = 0
    outputs: int = 0
    bias: bool = True
    flat: tuple[int, int, int] | None = None  # (H, W, C) of the map that was flattened in front


@dataclass(frozen=True)
class Architecture:
    """A chain of layers on an image of ``size`` (H, W, C)."""

    size: tuple[int, int, int]
    layers: tuple[Layer, ...]

    def __getitem__(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)


def _chain(
    size: tuple[int, int, int], taps: tuple[tuple[int, int], ...], channels: tuple[int, ...], multiplier: int,
    units: tuple[int, ...], norm_flat: bool = True,
) -> Architecture:  # fmt: skip
    height, width, before = size
    found: list[Layer] = []
    for number, (window, after) in enumerate(zip(taps, channels, strict=True)):
        found.append(Layer(f"conv{number}", "conv", window, before, after))
        found.append(Layer(f"norm{number}", "norm", outputs=after))
        before = after
    found.append(Layer("depth", "depthwise", taps[-1], before, multiplier))
    before *= multiplier
    flat = (height, width, before)
    found.append(Layer("flat", "flatten"))
    total = height * width * before
    if norm_flat:
        found.append(Layer("normflat", "norm", outputs=total, flat=flat))
    for number, after in enumerate(units):
        found.append(Layer(f"dense{number}", "dense", inputs=total, outputs=after, flat=flat if not number else None))
        total = after
    return Architecture(size, tuple(found))


ARCHITECTURES: dict[str, Architecture] = {
    # No two axes of an array have one size.
    "different": _chain((4, 3, 5), ((3, 2), (5, 4), (2, 3)), (7, 6, 11), 2, (13, 9)),
    # Nothing but sizes that hide mistakes: 3x3 taps, as many channels in as out as pixels a side.
    "square": _chain((3, 3, 3), ((3, 3), (3, 3), (3, 3)), (3, 3, 3), 1, (27, 27)),
    "wide": _chain((8, 8, 3), ((3, 3), (3, 3), (3, 3)), (8, 8, 8), 1, (64, 64)),
    "points": _chain((4, 4, 4), ((1, 1), (3, 3), (1, 1)), (4, 4, 4), 4, (16, 16)),
}


def weights(of: Architecture, seed: int, dtype: str = "float32") -> Arrays:
    """Arrays as a training leaves them, in Keras' layouts: nothing is zero, one, or the same twice."""
    random = np.random.default_rng([seed, 77])

    def normal(*shape: int, scale: float = 1.0) -> Array:
        return (random.standard_normal(shape) * scale).astype(dtype)

    found: Arrays = {}
    for layer in of.layers:
        if layer.kind == "conv":
            scale = 1 / np.sqrt(layer.inputs * layer.taps[0] * layer.taps[1])
            found[layer.name] = {"kernel": normal(*layer.taps, layer.inputs, layer.outputs, scale=scale)}
        elif layer.kind == "depthwise":
            found[layer.name] = {"kernel": normal(*layer.taps, layer.inputs, layer.outputs, scale=0.4)}
        elif layer.kind == "dense":
            found[layer.name] = {"kernel": normal(layer.inputs, layer.outputs, scale=1 / np.sqrt(layer.inputs))}
        elif layer.kind == "norm":
            found[layer.name] = {
                "gamma": random.uniform(0.5, 1.5, layer.outputs).astype(dtype),
                "beta": normal(layer.outputs, scale=0.2),
                "moving_mean": normal(layer.outputs, scale=0.3),
                "moving_variance": random.uniform(0.05, 2.0, layer.outputs).astype(dtype),
            }
        if layer.kind in ("conv", "depthwise", "dense") and layer.bias:
            outputs = layer.outputs * (layer.inputs if layer.kind == "depthwise" else 1)
            found[layer.name]["bias"] = normal(outputs, scale=0.1)
    return found


# -- the conventions, by hand ------------------------------------------------------------------------------------------


def to_torch(layer: Layer, role: str, array: Array) -> Array:
    """Keras' array as PyTorch has it."""
    if role == "kernel":
        if layer.kind == "conv":
            return array.transpose(3, 2, 0, 1)
        if layer.kind == "depthwise":
            return array.transpose(2, 3, 0, 1).reshape(-1, 1, *layer.taps)
        if layer.flat:
            height, width, channels = layer.flat
            return array.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(layer.outputs, -1)
        return array.T
    if layer.flat and layer.kind == "norm":
        return array.reshape(layer.flat).transpose(2, 0, 1).reshape(-1)
    return array


def to_keras(layer: Layer, role: str, array: Array) -> Array:
    """PyTorch's array as Keras has it."""
    if role == "kernel":
        if layer.kind == "conv":
            return array.transpose(2, 3, 1, 0)
        if layer.kind == "depthwise":
            return array.reshape(layer.inputs, layer.outputs, *array.shape[-2:]).transpose(2, 3, 0, 1)
        if layer.flat:
            height, width, channels = layer.flat
            return array.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, layer.outputs)
        return array.T
    if layer.flat and layer.kind == "norm":
        height, width, channels = layer.flat
        return array.reshape(channels, height, width).transpose(1, 2, 0).reshape(-1)
    return array


def torch_arrays(of: Architecture, arrays: Arrays) -> Arrays:
    return {
        name: {role: np.ascontiguousarray(to_torch(of[name], role, array)) for role, array in roles.items()}
        for name, roles in arrays.items()
    }


# -- networks ----------------------------------------------------------------------------------------------------------


def keras_model(of: Architecture, arrays: Arrays, name: str = "model") -> Network:
    """The architecture as a Keras file holds it, graph and all."""
    entries: list[dict[str, Any]] = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, *of.size], "name": "i"}}
    ]
    for layer in of.layers:
        if layer.name not in arrays and layer.kind != "flatten":
            continue
        entries.append(_entry(layer, "bias" in arrays.get(layer.name, {})))
    config = {"class_name": "Sequential", "config": {"name": name, "layers": entries}}
    held = {(name,): {role: np.ascontiguousarray(array) for role, array in roles.items()}
            for name, roles in arrays.items()}  # fmt: skip
    return keras_network(MemoryModel(config, held))  # type: ignore[arg-type]


def _entry(layer: Layer, bias: bool) -> dict[str, Any]:
    config: dict[str, Any] = {"name": layer.name, "dtype": "float32"}
    kinds = {"conv": "Conv2D", "depthwise": "DepthwiseConv2D", "dense": "Dense", "norm": "BatchNormalization",
             "flatten": "Flatten"}  # fmt: skip
    if layer.kind in ("conv", "depthwise"):
        config |= {"kernel_size": list(layer.taps), "padding": "same", "use_bias": bias}
        config["filters" if layer.kind == "conv" else "depth_multiplier"] = layer.outputs
    if layer.kind == "dense":
        config |= {"units": layer.outputs, "use_bias": bias}
    if layer.kind == "norm":
        config |= {"axis": -1, "epsilon": 1e-3}
    return {"module": "keras.layers", "class_name": kinds[layer.kind], "config": config}


@dataclass
class StateDict:
    """A state dict that lies in memory, as the reader of such files gives it."""

    arrays: Mapping[str, StoredArray]
    ordered: bool = True
    path: Path = Path("in-memory.pt")
    format: str = "torch state dict"
    framework: str = "torch"
    keras_version: None = None
    notes: tuple[str, ...] = field(default=())
    size: int = 0
    sha256: str = ""


def torch_model(arrays: Arrays, counters: bool = True) -> Network:
    """A state dict of arrays that are in PyTorch's layouts already, under names of its own."""
    found: dict[str, Array] = {}
    for number, (_, roles) in enumerate(arrays.items()):
        normal = "gamma" in roles or "moving_mean" in roles
        for role, array in roles.items():
            name = {**_TORCH, "kernel": "weight"}.get(role, role)
            found[f"body.{number}.{name}"] = np.ascontiguousarray(array)
        if normal and counters:
            found[f"body.{number}.num_batches_tracked"] = np.array(5)
    return state_dict(found)


def state_dict(arrays: Mapping[str, Array], ordered: bool = True) -> Network:
    return torch_layers(StateDict({name: _stored(name, array) for name, array in arrays.items()}, ordered))  # type: ignore[arg-type]


def _stored(name: str, array: Array) -> StoredArray:
    def load() -> Array:
        return array.view()

    return StoredArray(array.shape, array.dtype, array.dtype.name, name, load)


# -- checking a line ---------------------------------------------------------------------------------------------------


def replay(line: Mapping[str, Any], arrays: Mapping[str, Array]) -> Array:
    """What the executable line of a row's JSON sets its target to."""
    scope: dict[str, Any] = {"np": np, "__builtins__": {}, **arrays}
    exec(line["executable"], scope)  # the line is what is under test
    return np.asarray(scope[line["text"].partition(" = ")[0]])


Change = Callable[[Array], Array]
