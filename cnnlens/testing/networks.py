"""Small networks for testing backends, made here from configs and arrays: no file, no framework, no two sizes equal.

Each holds what backends are known to get wrong: axes, padding on even sizes, a layer used twice, models in models,
inputs and outputs in an order of their own. The configs are Keras', as a file would hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.files.keras.network import keras_network
from cnnlens.files.memory import MemoryModel
from cnnlens.network.network import Network
from cnnlens.testing.torch_networks import torch_network

__all__ = [
    "NETWORKS", "REFUSED", "MemoryModel", "conv_entry", "functional", "input_entry", "inputs_for", "layer_entry",
    "network", "sequential", "tensor",
]  # fmt: skip

Entry = dict[str, Any]


# -- configs ---------------------------------------------------------------------------------------------------------


def layer_entry(kind: str, name: str, **config: Any) -> Entry:
    """Write a layer as a config of Keras holds it."""
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
        "registered_name": None,
        "name": name,
    }


def input_entry(name: str, *shape: int, dtype: str = "float32") -> Entry:
    """Write an input of ``shape`` without its batch."""
    entry = layer_entry("InputLayer", name, batch_shape=[None, *shape], sparse=False)
    entry["config"]["dtype"] = dtype
    del entry["config"]["trainable"]
    return {**entry, "inbound_nodes": []}


def conv_entry(kind: str, name: str, size: Sequence[int], **config: Any) -> Entry:
    """Write a convolution as a config has it; ``size`` is its kernel's."""
    ones = [1] * len(size)
    return layer_entry(
        kind,
        name,
        **{
            "kernel_size": list(size),
            "strides": ones,
            "padding": "valid",
            "data_format": "channels_last",
            "dilation_rate": ones,
            "activation": "linear",
            "use_bias": True,
            **config,
        },
    )


def tensor(name: str, node: int = 0, index: int = 0) -> Entry:
    """Write what a layer gave where another one takes it."""
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": None, "dtype": "float32", "keras_history": [name, node, index]},
    }


def _called(entry: Entry, *calls: Any) -> Entry:
    """``entry`` called once for each of ``calls``: a tensor, or a list of them."""
    return {**entry, "inbound_nodes": [{"args": [call], "kwargs": {}} for call in calls]}


def functional(name: str, layers: Sequence[Entry], inputs: Sequence[str], outputs: Sequence[Sequence[Any]]) -> Entry:
    """Write a functional model, its outputs as ``[layer, node, index]``."""
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": name,
            "trainable": True,
            "layers": list(layers),
            "input_layers": [[one, 0, 0] for one in inputs],
            "output_layers": [list(one) for one in outputs],
        },
        "registered_name": "Functional",
        "name": name,
    }


def sequential(name: str, layers: Sequence[Entry]) -> Entry:
    """Write a Sequential model as a config has it."""
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": name, "trainable": True, "dtype": "float32", "layers": list(layers)},
        "registered_name": None,
        "name": name,
    }


# -- networks --------------------------------------------------------------------------------------------------------

Shapes = dict[str, dict[str, tuple[int, ...]]]


def _batch_norm(channels: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (channels,))


def _chain() -> tuple[Entry, Shapes]:
    """Layers in a row, with ``same`` padding on sizes that it pads unevenly, and a Flatten that sees the axis order."""
    layers = [
        input_entry("photo", 11, 9, 3),
        conv_entry("Conv2D", "first", (3, 2), filters=5, padding="same", groups=1, activation="relu"),
        layer_entry(
            "MaxPooling2D", "pool", pool_size=[2, 3], strides=[2, 3], padding="valid", data_format="channels_last"
        ),
        conv_entry("Conv2D", "second", (3, 3), filters=7, strides=[2, 2], padding="same", groups=1, use_bias=False),
        layer_entry("BatchNormalization", "norm", axis=-1, momentum=0.99, epsilon=0.002, center=True, scale=True),
        layer_entry("ReLU", "relu"),
        layer_entry("Flatten", "flat", data_format="channels_last"),
        layer_entry("Dropout", "drop", rate=0.5),
        layer_entry("Dense", "head", units=4, activation="softmax", use_bias=True),
    ]
    shapes = {
        "first": {"kernel": (3, 2, 3, 5), "bias": (5,)},
        "second": {"kernel": (3, 3, 5, 7)},
        "norm": _batch_norm(7),
        "head": {"kernel": (3 * 2 * 7, 4), "bias": (4,)},
    }
    return sequential("chain", layers), shapes


def _branches() -> tuple[Entry, Shapes]:
    """Two inputs and two outputs, neither in the order in which they were made."""
    image = tensor("image")
    layers = [
        input_entry("image", 9, 8, 2),
        input_entry("extra", 5),
        _called(conv_entry("Conv2D", "left", (3, 3), filters=4, padding="same", groups=1), image),
        _called(conv_entry("Conv2D", "right", (1, 1), filters=4, groups=1), image),
        _called(layer_entry("Add", "joined"), [tensor("left"), tensor("right")]),
        _called(
            layer_entry("GlobalAveragePooling2D", "pooled", data_format="channels_last", keepdims=False),
            tensor("joined"),
        ),
        _called(layer_entry("Concatenate", "both", axis=-1), [tensor("extra"), tensor("pooled")]),
        _called(layer_entry("Dense", "z_first", units=3, activation="tanh", use_bias=True), tensor("both")),
        _called(layer_entry("Dense", "a_second", units=6, activation="linear", use_bias=True), tensor("pooled")),
    ]
    shapes = {
        "left": {"kernel": (3, 3, 2, 4), "bias": (4,)},
        "right": {"kernel": (1, 1, 2, 4), "bias": (4,)},
        "z_first": {"kernel": (9, 3), "bias": (3,)},
        "a_second": {"kernel": (4, 6), "bias": (6,)},
    }
    outputs = [["a_second", 0, 0], ["z_first", 0, 0]]
    return functional("branches", layers, ["extra", "image"], outputs), shapes


def _shared() -> tuple[Entry, Shapes]:
    """One layer used twice."""
    conv = conv_entry("Conv2D", "conv", (3, 2), filters=3, padding="same", groups=1, activation="tanh")
    layers = [
        input_entry("image", 8, 6, 3),
        _called(conv, tensor("image"), tensor("conv", 0)),
        _called(layer_entry("Subtract", "difference"), [tensor("conv", 1), tensor("conv", 0)]),
    ]
    return functional("shared", layers, ["image"], [["difference", 0, 0]]), {
        "conv": {"kernel": (3, 2, 3, 3), "bias": (3,)}
    }


def _nested() -> tuple[Entry, Shapes]:
    """A model used twice inside another, beside a second one with a layer of the same name."""
    inner = functional(
        "inner",
        [
            input_entry("inner_input", 7, 5, 2),
            _called(conv_entry("Conv2D", "conv", (3, 3), filters=2, padding="same", groups=1), tensor("inner_input")),
        ],
        ["inner_input"],
        [["conv", 0, 0]],
    )
    block = sequential(
        "block",
        [
            input_entry("block_input", 7, 5, 4),
            conv_entry("DepthwiseConv2D", "conv", (2, 3), depth_multiplier=2, activation="relu"),
        ],
    )
    layers = [
        input_entry("image", 7, 5, 2),
        _called(inner, tensor("image"), tensor("inner", 0)),
        _called(layer_entry("Concatenate", "pair", axis=-1), [tensor("inner", 0), tensor("inner", 1)]),
        _called(block, tensor("pair")),
    ]
    return functional("nested", layers, ["image"], [["block", 0, 0]]), {
        "inner/conv": {"kernel": (3, 3, 2, 2), "bias": (2,)},
        "block/conv": {"kernel": (2, 3, 4, 2), "bias": (8,)},
    }


def _signal() -> tuple[Entry, Shapes]:
    """One spatial axis."""
    layers = [
        input_entry("wave", 19, 3),
        conv_entry("Conv1D", "coarse", (4,), filters=5, strides=[3], padding="same", groups=1, activation="relu"),
        conv_entry("Conv1D", "fine", (2,), filters=6, groups=1),
    ]
    return sequential("signal", layers), {
        "coarse": {"kernel": (4, 3, 5), "bias": (5,)},
        "fine": {"kernel": (2, 5, 6), "bias": (6,)},
    }


def _volume() -> tuple[Entry, Shapes]:
    """Three spatial axes."""
    layers = [
        input_entry("scan", 6, 5, 4, 2),
        conv_entry("Conv3D", "conv", (2, 3, 1), filters=3, padding="same", groups=1, activation="relu"),
    ]
    return sequential("volume", layers), {"conv": {"kernel": (2, 3, 1, 2, 3), "bias": (3,)}}


def _unknown() -> tuple[Entry, Shapes]:
    """A class that its author wrote and nobody else has."""
    entry = _called(layer_entry("MyOwnAttention", "attention", heads=2), tensor("image"))
    entry["module"], entry["registered_name"] = "mymodule", "Custom>MyOwnAttention"
    return functional("unknown", [input_entry("image", 6, 5, 2), entry], ["image"], [["attention", 0, 0]]), {}


def _lambda() -> tuple[Entry, Shapes]:
    """Code out of a file."""
    function = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=\n", "defaults": None, "closure": None}}
    entry = _called(layer_entry("Lambda", "anything", function=function, arguments={}), tensor("image"))
    return functional("lambda", [input_entry("image", 6, 5, 2), entry], ["image"], [["anything", 0, 0]]), {}


Maker = Callable[[], tuple[Entry, Shapes]]

NETWORKS: dict[str, Maker] = {
    "chain": _chain, "branches": _branches, "shared": _shared, "nested": _nested, "signal": _signal,
    "volume": _volume,
}  # fmt: skip
"""Networks that every backend runs."""

REFUSED: dict[str, Maker] = {"unknown": _unknown, "lambda": _lambda}
"""Networks that no backend may run unasked, and the layer that each refusal names."""


def network(name: str, framework: str = "keras") -> Network:
    """Build one of ``NETWORKS`` or ``REFUSED``, with arrays that are the same every time.

    Args:
        framework: ``keras``, or ``torch`` for the network of that name as PyTorch would export it.
    """
    if framework == "torch":
        return torch_network(name)
    config, shapes = {**NETWORKS, **REFUSED}[name]()
    generator = np.random.default_rng(sorted(NETWORKS | REFUSED).index(name))
    arrays = {
        tuple(layer.split("/")): {role: _numbers(generator, role, shape) for role, shape in weights.items()}
        for layer, weights in shapes.items()
    }
    return keras_network(MemoryModel(config, arrays))


def _numbers(generator: np.random.Generator, role: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if role in ("gamma", "moving_variance"):  # positive, and not 1, so that leaving it out shows
        return generator.uniform(0.5, 2.0, shape).astype(np.float32)
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 4
    return generator.normal(0, fan_in**-0.5, shape).astype(np.float32)


def inputs_for(net: Network, count: int) -> list[NDArray[Any]]:
    """Draw ``count`` inputs in canonical axes ``(N, C, *spatial)``, one array for each of ``net.inputs``."""
    generator = np.random.default_rng(count)
    shapes = (net.canonical_shape(ref) for ref in net.inputs)
    return [
        generator.normal(0, 1, (count, *(size or 1 for size in (shape or ())[1:]))).astype(np.float32)
        for shape in shapes
    ]
