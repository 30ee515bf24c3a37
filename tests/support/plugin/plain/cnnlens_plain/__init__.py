"""Runs small networks in plain NumPy, in canonical axes throughout, slowly and independently of cnnlens' reference.

``BACKEND`` is what the entry point names. A framework would be imported inside ``load`` and ``devices``, never here.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlens.backend import check_precision, parse_device
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import Call, Ref, map_refs
from cnnlens.network.network import Network

Array = np.ndarray[Any, np.dtype[Any]]
Weights = Mapping[str, Array]


def pad(x: Array, window: Sequence[int], strides: Sequence[int], value: float) -> Array:
    """Keras' ``same`` padding: as little as gives ``ceil(size / stride)`` places, the odd one behind."""
    totals = [
        max((-(-size // stride) - 1) * stride + length - size, 0)
        for size, length, stride in zip(x.shape[2:], window, strides, strict=True)
    ]
    return np.pad(x, [(0, 0), (0, 0), *((t // 2, t - t // 2) for t in totals)], constant_values=value)


def windows(x: Array, config: Mapping[str, Any], size: Sequence[int], fill: float) -> Array:
    """``(N, C, *places, *window)``."""
    strides = config.get("strides") or size
    if config.get("padding", "valid") == "same":
        x = pad(x, size, strides, fill)
    axes = tuple(range(2, x.ndim))
    found = np.lib.stride_tricks.sliding_window_view(x, tuple(size), axes)
    return found[(slice(None), slice(None), *(slice(None, None, stride) for stride in strides))]


def activate(x: Array, config: Mapping[str, Any]) -> Array:
    name = config.get("activation") or "linear"
    if name == "softmax":
        raised = np.exp(x - x.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)
    return {"linear": lambda: x, "relu": lambda: np.maximum(x, 0), "tanh": lambda: np.tanh(x)}[name]()


def per_channel(weight: Array, x: Array) -> Array:
    return weight.reshape(1, -1, *[1] * (x.ndim - 2))


def convolution(config: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    kernel = np.moveaxis(weights["kernel"], (-1, -2), (0, 1))  # HWIO -> OIHW
    seen = windows(x, config, kernel.shape[2:], 0.0)
    spatial = kernel.ndim - 2
    over = [1, *range(2 + spatial, 2 + 2 * spatial)]
    y = np.moveaxis(np.tensordot(seen, kernel, (over, list(range(1, kernel.ndim)))), -1, 1)
    return activate(y + per_channel(weights["bias"], y) if "bias" in weights else y, config)


def depthwise(config: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    kernel = weights["kernel"]  # (H, W, C, multiplier)
    seen = windows(x, config, kernel.shape[:2], 0.0)
    y = np.einsum("ncyxhw,hwcm->ncmyx", seen, kernel)
    y = y.reshape(len(x), -1, *y.shape[3:])
    return activate(y + per_channel(weights["bias"], y) if "bias" in weights else y, config)


def batch_norm(config: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    scale = weights["gamma"] / np.sqrt(weights["moving_variance"] + config["epsilon"])
    return (x - per_channel(weights["moving_mean"], x)) * per_channel(scale, x) + per_channel(weights["beta"], x)


def pooling(config: Mapping[str, Any], weights: Weights, x: Array) -> Array:
    size = config["pool_size"]
    return windows(x, config, size, -np.inf).max(tuple(range(-len(size), 0)))


OPERATIONS: dict[str, Callable[..., Array]] = {
    "Add": lambda config, weights, xs: np.sum(xs, 0),
    "BatchNormalization": batch_norm,
    "Concatenate": lambda config, weights, xs: np.concatenate(xs, 1),
    "Conv1D": convolution,
    "Conv2D": convolution,
    "Conv3D": convolution,
    "Dense": lambda config, weights, x: activate(x @ weights["kernel"] + weights["bias"], config),
    "DepthwiseConv2D": depthwise,
    "Dropout": lambda config, weights, x: x,
    "Flatten": lambda config, weights, x: np.moveaxis(x, 1, -1).reshape(len(x), -1),
    "GlobalAveragePooling2D": lambda config, weights, x: x.mean((2, 3)),
    "MaxPooling2D": pooling,
    "ReLU": lambda config, weights, x: np.maximum(x, 0),
    "Subtract": lambda config, weights, xs: xs[0] - xs[1],
}


class PlainSession:
    device = "cpu"

    def __init__(self, network: Network) -> None:
        self.versions = {"numpy": np.__version__, "python": platform.python_version()}
        self._network = network
        for call in network.calls:
            self._check(call)
        self._weights = {layer.name: dict(layer.weights) for layer in network.layers if layer.stored}

    def _check(self, call: Call) -> None:
        layer = call.layer
        known = layer.container or layer.kind == "InputLayer" or layer.kind in OPERATIONS
        config = layer.config
        plain = {1} >= {*np.atleast_1d(config.get("dilation_rate", 1)).tolist(), config.get("groups", 1)}
        if not known or not plain or call.channel_axis == 1:
            raise UnsupportedLayerError(f"layer '{layer.name}' ({layer.kind}): this backend has no such layer")

    def feature_maps(self, inputs: Sequence[Array], tensors: Sequence[str]) -> dict[str, Array]:
        network = self._network
        values: dict[Ref, Any] = dict(zip(network.inputs, inputs, strict=True))
        for call in network.calls:
            if not call.refs:
                continue
            args = map_refs(call.args, values.__getitem__)
            if call.layer.container:
                several = args[0] if isinstance(args[0], list) else [args[0]]
                values.update({Ref(call.name, index): one for index, one in enumerate(several)})
            else:
                weights = self._weights.get(call.layer.name, {})
                values[Ref(call.name)] = OPERATIONS[call.layer.kind](call.layer.config, weights, *args)
        return {name: values[network.tensors[name]] for name in tensors}

    def weights(self) -> dict[str, dict[str, Array]]:
        return self._weights

    def close(self) -> None:
        self._weights = {}


class PlainBackend:
    name = "plain"
    requires = ("numpy",)
    install = "python -m pip install cnnlens-plain"
    layout = "keras"

    def environment(self, device: str, precision: str) -> dict[str, str]:
        return {"OMP_NUM_THREADS": "1"} if precision == "strict" else {}

    def devices(self) -> list[str]:
        return ["cpu"]

    def load(
        self, network: Network, device: str, precision: str, live: Any = None, trust_code: bool = False
    ) -> PlainSession:
        check_precision(precision)
        if parse_device(device)[0] != "cpu":
            raise CnnlensError(f"device '{device}': the plain backend runs on the cpu alone")
        return PlainSession(network)


BACKEND = PlainBackend()
