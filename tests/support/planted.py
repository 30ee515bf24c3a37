"""Faults with a known name, planted in layers of every sort: what an audit must see, and what it may say of each.

A fault is a layer computed in float32 with other weights, other inputs or another configuration, or honest results
changed afterwards. Beside it stand the sentences that are true of it: of several that explain the same numbers, one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking import Audit
from cnnlens.checking.finding import Cause
from tests.support.audited import Audited

Array = NDArray[Any]
Run = Callable[..., Array]

SIZES = ("one", "three", "many")  # outputs of a channel: one of one channel, three of each of several, many
_LSTM = {"class_name": "LSTM", "module": "keras.layers", "config": {"units": 4, "return_sequences": True}}

# Kind, shape of the input for many outputs, configuration. Axes differ, but where equal ones hide a fault.
LAYERS: tuple[tuple[str, Any, dict[str, Any]], ...] = (
    ("Dense", (24, 31), {"units": 10}),
    ("Dense", (40, 18), {"units": 7, "activation": "relu"}),
    ("Dense", (30, 26), {"units": 9, "activation": "softmax"}),
    ("Dense", (24, 13), {"units": 6, "activation": "sigmoid"}),
    ("Dense", (24, 12), {"units": 12, "activation": "gelu", "use_bias": False}),
    ("Conv2D", (2, 9, 9, 4), {"filters": 6, "kernel_size": 3, "padding": "same", "activation": "relu"}),
    ("Conv2D", (2, 8, 9, 6), {"filters": 6, "kernel_size": 3, "use_bias": False}),
    ("Conv2D", (2, 12, 11, 3), {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"}),
    ("Conv2D", (2, 11, 12, 3), {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "padding": "same"}),
    ("Conv2D", (2, 8, 9, 3), {"filters": 5, "kernel_size": 3, "padding": "same", "activation": "tanh"}),
    ("Conv1D", (3, 21, 5), {"filters": 7, "kernel_size": 4, "activation": "silu"}),
    ("Conv3D", (1, 6, 5, 7, 2), {"filters": 5, "kernel_size": 3, "padding": "same"}),
    ("DepthwiseConv2D", (2, 9, 8, 5), {"kernel_size": 3, "padding": "same", "activation": "relu6"}),
    ("SeparableConv2D", (2, 9, 8, 4), {"filters": 6, "kernel_size": 3, "padding": "same"}),
    ("Conv2DTranspose", (2, 6, 7, 3), {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"}),
    ("BatchNormalization", (3, 6, 7, 5), {}),
    ("BatchNormalization", (40, 6), {"epsilon": 1e-5}),
    ("LayerNormalization", (5, 4, 9), {}),
    ("GroupNormalization", (3, 5, 6, 8), {"groups": 4}),
    ("RMSNormalization", (6, 7, 9), {}),
    ("MaxPooling2D", (2, 9, 10, 4), {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("AveragePooling2D", (2, 9, 10, 4), {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("AveragePooling2D", (2, 8, 10, 4), {"pool_size": 2}),
    ("GlobalAveragePooling2D", (9, 7, 6, 5), {}),
    ("Activation", (3, 6, 5, 4), {"activation": "relu"}),
    ("Activation", (3, 6, 5, 4), {"activation": "gelu"}),
    ("Activation", (30, 8), {"activation": "softmax"}),
    ("LeakyReLU", (3, 6, 5, 4), {"negative_slope": 0.3}),
    ("PReLU", (30, 8), {}),
    ("Add", [(3, 5, 6, 4)] * 2, {}),
    ("Subtract", [(3, 5, 6, 4)] * 2, {}),
    ("Multiply", [(3, 5, 6, 4)] * 2, {}),
    ("Average", [(3, 5, 6, 4)] * 3, {}),
    ("Maximum", [(3, 5, 6, 4)] * 2, {}),
    ("Concatenate", [(3, 5, 6, 4)] * 2, {}),
    ("UpSampling2D", (2, 5, 6, 3), {"size": 2}),
    ("UpSampling2D", (2, 5, 6, 3), {"size": 3, "interpolation": "bilinear"}),
    ("Flatten", (4, 3, 5, 2), {}),
    ("LSTM", (4, 5, 6), {"units": 4, "return_sequences": True}),
    ("GRU", (4, 5, 6), {"units": 4, "return_sequences": True, "reset_after": True}),
    ("GRU", (4, 5, 6), {"units": 4, "return_sequences": True, "reset_after": False}),
    ("SimpleRNN", (4, 5, 6), {"units": 4, "return_sequences": True}),
    ("Bidirectional", (3, 4, 5), {"layer": _LSTM}),
    ("Rescaling", (3, 5, 6, 4), {"scale": 0.5, "offset": -0.25}),
    ("Normalization", (20, 5), {}),
    ("Embedding", (5, 7), {"input_dim": 11, "output_dim": 6}),
)  # fmt: skip

_WINDOWED = ("Conv2D", "Conv1D", "Conv3D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose")
_LINEAR = (*_WINDOWED, "Dense")
_NORMS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
_MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Concatenate")
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "Bidirectional")


def planted_layer(number: int, size: str, magnitude: float, seed: int) -> Audited:
    """Make one of ``LAYERS`` with inputs of about ``magnitude``, and biases and statistics in proportion."""
    kind, shape, config = LAYERS[number]
    listed = isinstance(shape, list)
    shape = _sized(kind, shape[0] if listed else shape, config, size)
    config = dict(config)
    if size == "one" and kind in _LINEAR and kind != "DepthwiseConv2D":
        config["filters" if "filters" in config else "units"] = 1
    layer = Audited(kind, [shape] * len(LAYERS[number][1]) if listed else shape, seed, **config)
    if kind != "Embedding":
        layer.inputs = [x * np.float32(magnitude) for x in layer.inputs]
    if kind in _LINEAR or kind == "BatchNormalization":
        for name, power in (("bias", 1), ("moving_mean", 1), ("moving_variance", 2)):
            if name in layer.weights and 1e-30 < magnitude**power < 1e30:
                layer.weights[name] = layer.weights[name] * np.float32(magnitude**power)
    return layer


def _sized(kind: str, shape: tuple[int, ...], config: Mapping[str, Any], size: str) -> tuple[int, ...]:
    """The shape under which a channel has one output, or three."""
    if size == "many":
        return shape
    batch = 1 if size == "one" else 3
    if kind in RECURRENT:
        return (1, 1 if size == "one" else 3, shape[2])
    taps = config.get("kernel_size", config.get("pool_size", 1))
    valid = config.get("padding", "valid") == "valid" and not kind.startswith("Global")
    spatial = tuple((taps if valid else 2) if taps > 1 else 1 for _ in shape[1:-1])
    if config.get("padding") == "same":
        spatial = (config.get("strides", 1), *(config.get("strides", 1) for _ in shape[2:-1]))
    if kind == "Conv2DTranspose" or kind in ("GlobalAveragePooling2D", "Flatten"):
        spatial = (1, *(2 for _ in shape[2:-1])) if kind != "Conv2DTranspose" else (1, 1)
    channels = shape[-1] if kind in (*_LINEAR, *_NORMS) or size == "three" else 1
    return (batch, *spatial, channels)


@dataclass(frozen=True)
class Planting:
    """Holds a layer with the arithmetic that runs it: ``run(weights, inputs, **changed configuration)``."""

    layer: Audited
    run: Run
    honest: Array

    def weights(self, **changed: Array) -> Array:
        return self.run({name: np.asarray(array, np.float32) for name, array in changed.items()})

    def inputs(self, change: Callable[[Array], Array], place: int = 0) -> Array:
        given = list(self.layer.inputs)
        given[place] = np.ascontiguousarray(change(given[place]), np.float32)
        return self.run(None, given)

    @property
    def kernel(self) -> str:
        return next(name for name in ("pointwise_kernel", "kernel") if name in self.layer.weights)

    def scaled(self, channel: int | None, factor: float) -> Array:
        """The kernel times a factor, for one output channel or for all."""
        kernel = self.layer.weights[self.kernel].astype(np.float64)
        axis = -2 if "Transpose" in self.layer.kind or "Depthwise" in self.layer.kind else -1
        every = [slice(None)] * kernel.ndim
        if channel is not None:
            every[axis] = channel  # type: ignore[call-overload]
        kernel[tuple(every)] *= factor
        return self.weights(**{self.kernel: kernel})


Make = Callable[[Planting], Array | None]


@dataclass(frozen=True)
class Fault:
    """Describes a fault: where it can be, how it is made, and the patterns of true sentences about it."""

    name: str
    kinds: Sequence[str]
    make: Make
    true: tuple[str, ...] = ()


def _channel(y: Array, channel: int, change: Callable[[Array], Any]) -> Array | None:
    if y.ndim < 2 or y.shape[-1] <= channel:
        return None
    y = y.copy()
    y[..., channel] = change(y[..., channel])
    return y


def _in_order(y: Array, order: Callable[[int], Any]) -> Array | None:
    return None if y.ndim < 2 or y.shape[-1] < 2 else np.ascontiguousarray(y[..., order(y.shape[-1])])


def _exchanged(count: int, first: int, second: int) -> list[int]:
    order = list(range(count))
    if second < count:
        order[first], order[second] = second, first
    return order


def _gates(planting: Planting, order: Sequence[int], *names: str) -> Array | None:
    weights = planting.layer.weights
    changed = {
        name: np.concatenate([np.split(array, len(order), -1)[gate] for gate in order], -1)
        for name, array in weights.items()
        if name.rsplit("/", 1)[-1] in names
    }
    return planting.run(changed)


def _noise(y: Array, relative: float) -> Array:
    size = np.sqrt(np.mean(np.square(y, dtype=np.float64))) * relative
    return (y + np.random.default_rng(3).normal(0, 1, y.shape) * size).astype(np.float32)


def _border(y: Array) -> Array | None:
    if y.ndim != 4 or min(y.shape[1:3]) < 5:
        return None
    wrong = _noise(y, 0.1)
    wrong[:, 1:-1, 1:-1] = y[:, 1:-1, 1:-1]
    return wrong


def _clip(y: Array, share: float) -> Array:
    return np.minimum(y, np.float32(np.quantile(y, share)))


def _normalised(planting: Planting, change: Mapping[str, Callable[[Array], Array]]) -> Array | None:
    weights = planting.layer.weights
    if not set(change) <= set(weights):
        return None
    return planting.weights(**{name: function(weights[name]) for name, function in change.items()})


def _unbiased(planting: Planting) -> Array | None:
    x = planting.layer.x
    count = x.shape[-1] if planting.layer.kind == "LayerNormalization" else x[0].size // 4
    if count < 2:
        return None
    config = planting.layer.config.get("epsilon", 1e-3)
    ratio = count / (count - 1)
    weights = {"gamma": (planting.layer.weights["gamma"] / np.sqrt(ratio)).astype(np.float32)}
    return planting.run(weights, None, epsilon=config / ratio)


def _one(array: Array, place: int, change: Callable[[Any], Any]) -> Array:
    array = array.copy()
    array.flat[place % array.size] = change(array.flat[place % array.size])
    return array


_SCALED = (r"times (the reference|what it should be|the file's)", "zero", r"where the file says", "left out")
_SHIFTED = ("the reference plus", "where the file says", *_SCALED)
_ORDER = (
    "exchanged", "repeats", "reverse order", "permuted", "rotated", "interleaved", "copies", "its output is its input",
)  # fmt: skip


def _bias(change: Callable[[Array], Array]) -> Make:
    return lambda p: p.weights(bias=change(p.layer.weights["bias"])) if "bias" in p.layer.weights else None


def _activation(name: str | None) -> Make:
    def make(planting: Planting) -> Array | None:
        own = planting.layer.config.get("activation")
        return None if own == name or own == "softmax" else planting.run(activation=name)

    return make


def _taps(change: Callable[[Array], Array]) -> Make:
    def make(planting: Planting) -> Array | None:
        name = "depthwise_kernel" if "depthwise_kernel" in planting.layer.weights else "kernel"
        kernel = planting.layer.weights[name]
        if kernel.ndim != 4:
            return None
        return planting.weights(**{name: np.ascontiguousarray(change(kernel))})

    return make


def _shifted(mode: str) -> Make:
    def make(planting: Planting) -> Array | None:
        x = planting.layer.x
        if x.ndim != 4 or min(x.shape[1:3]) < 3 or planting.layer.config.get("padding") != "same":
            return None
        if planting.layer.config.get("strides", 1) != 1 or planting.layer.config.get("dilation_rate", 1) != 1:
            return None
        width = ((0, 0), (1, 1), (1, 1), (0, 0)) if mode != "shift" else ((0, 0), (2, 0), (1, 1), (0, 0))
        padded = np.pad(x, width, mode if mode != "shift" else "constant")  # type: ignore[call-overload]
        return planting.run(None, [padded], padding="valid")

    return make


def _kernel_io(planting: Planting) -> Array | None:
    kernel = planting.layer.weights[planting.kernel]
    if kernel.shape[-1] != kernel.shape[-2] or kernel.shape[-1] < 2 or "Depthwise" in planting.layer.kind:
        return None
    return planting.weights(**{planting.kernel: np.ascontiguousarray(np.swapaxes(kernel, -1, -2))})


def _operand(place: int, factor: float) -> Make:
    return lambda p: p.inputs(lambda x: x * np.float32(factor), place)


def _upsampled(step: int) -> Make:
    def make(planting: Planting) -> Array | None:
        if planting.layer.config.get("interpolation", "nearest") != "nearest":
            return None
        x, size = planting.layer.x, planting.layer.config["size"]
        y = x
        for axis in (1, 2):
            place = np.clip((np.arange(x.shape[axis] * size) + step) // size, 0, x.shape[axis] - 1)
            y = np.take(y, place, axis=axis)
        return y

    return make


FAULTS: tuple[Fault, ...] = (
    # --- results, of any layer
    Fault("outputs times 1.0004", (), lambda p: p.honest * np.float32(1.0004), _SCALED),
    Fault("outputs times 1.001", (), lambda p: p.honest * np.float32(1.001), _SCALED),
    Fault("outputs times 0.5", (), lambda p: p.honest * np.float32(0.5), (*_SCALED, "where the model says")),
    Fault("outputs times -1", (), lambda p: -p.honest, (*_SCALED, "in the order", "subtracted", "where the model")),
    Fault("a channel's outputs times 1.003", (), lambda p: _channel(p.honest, 0, lambda c: c * np.float32(1.003)),
          _SCALED),
    Fault("two channels' outputs times 1.1", (),
          lambda p: None if (y := _channel(p.honest, 2, lambda c: c * np.float32(1.1))) is None
          else _channel(y, 0, lambda c: c * np.float32(1.1)), _SCALED),
    Fault("outputs shifted", (), lambda p: p.honest + np.float32(0.125) * np.abs(p.honest).max(), _SHIFTED),
    Fault("a channel is zero", (), lambda p: _channel(p.honest, 1, lambda c: 0 * c), ("zero", "0 times", "left out")),
    Fault("all is zero", (), lambda p: 0 * p.honest, ("zero", "every output is 0", "0 times", "left out")),
    Fault("two channels exchanged", (), lambda p: _in_order(p.honest, lambda n: _exchanged(n, 0, 2)), _ORDER),
    Fault("channels reversed", (), lambda p: _in_order(p.honest, lambda n: slice(None, None, -1)),
          (*_ORDER, "flipped", "swapped", "in the order")),
    Fault("examples reversed", (), lambda p: None if len(p.honest) < 2 else p.honest[::-1].copy(), ("reverse order",)),
    Fault("rows flipped", (), lambda p: None if p.honest.ndim != 4 else p.honest[:, ::-1].copy(), ("flipped",)),
    Fault("clipped", (), lambda p: None if p.honest.size < 30 else _clip(p.honest, 0.9), ("clipped",)),
    Fault("noise of a tenth", (), lambda p: _noise(p.honest, 0.1)),
    Fault("noise of a thousandth", (), lambda p: _noise(p.honest, 0.001)),
    Fault("only the border", (), lambda p: _border(p.honest), ("of the border", "only in")),
    Fault("one output", (), lambda p: _one(p.honest, 7, lambda v: v * np.float32(1.5) + np.abs(p.honest).max()),
          (*_SCALED, "where the model says")),
    # --- products
    Fault("kernel times 1.0003", _LINEAR, lambda p: p.scaled(None, 1.0003), _SCALED),
    Fault("kernel times 1.01", _LINEAR, lambda p: p.scaled(None, 1.01), _SCALED),
    Fault("a channel of the kernel times 1.002", _LINEAR, lambda p: p.scaled(0, 1.002), _SCALED),
    Fault("a channel of the kernel times 1.5", _LINEAR, lambda p: p.scaled(0, 1.5), _SCALED),
    Fault("bias dropped", _LINEAR, _bias(np.zeros_like), ("bias", "the reference plus")),
    Fault("bias twice", _LINEAR, _bias(lambda b: 2 * b), ("bias", "the reference plus")),
    Fault("one bias is another", _LINEAR, _bias(lambda b: _one(b, 1, lambda v: v * np.float32(1.37))), _SHIFTED),
    Fault("one bias is nearly none", _LINEAR, _bias(lambda b: _one(b, 1, lambda v: v * np.float32(0.04))), _SHIFTED),
    Fault("height and width of the kernel", _WINDOWED, _taps(lambda k: np.swapaxes(k, 0, 1)), ("kernel",)),
    Fault("kernel flipped", _WINDOWED, _taps(lambda k: k[::-1, ::-1]), ("flipped",)),
    Fault("kernel flipped one way", _WINDOWED, _taps(lambda k: k[:, ::-1]), ("flipped",)),
    Fault("kernel in and out", _LINEAR, _kernel_io, ("channels of the kernel are swapped", "kernel's axes",)),
    Fault("no activation", _LINEAR, _activation(None), ("was left out", "slope")),
    Fault("elu", _LINEAR, _activation("elu"), ("is elu", "slope")),
    Fault("input channels reversed", _LINEAR, lambda p: p.inputs(lambda x: x[..., ::-1]), ("input",)),
    Fault("an input channel times 1.02", ("Dense", "Conv2D"),
          lambda p: p.inputs(lambda x: x * np.where(np.arange(x.shape[-1]) == 1, 1.02, 1.0)), ("input channel 1 is",)),
    Fault("input times 255", _LINEAR, lambda p: p.inputs(lambda x: x * np.float32(255)), ("255",)),
    Fault("one weight", ("Dense", "Conv2D"),
          lambda p: p.weights(kernel=_one(p.layer.weights["kernel"], 11, lambda v: v + 0.5)), (r"kernel\[",)),
    Fault("padding shifted", ("Conv2D", "DepthwiseConv2D", "SeparableConv2D"), _shifted("shift"), ("shifted along",)),
    Fault("padding repeats the edge", ("Conv2D", "DepthwiseConv2D", "SeparableConv2D"), _shifted("edge"), ("edge",)),
    Fault("no dilation", ("Conv2D",), lambda p: p.run(dilation_rate=1) if "dilation_rate" in p.layer.config else None,
          ("dilation is left out",)),
    # --- normalisation
    Fault("epsilon", ("BatchNormalization", "LayerNormalization", "GroupNormalization"),
          lambda p: p.run(epsilon=1e-1), ("epsilon 0.1", "moving variance")),
    Fault("gamma times 1.002", _NORMS, lambda p: _normalised(p, {"gamma": lambda g: g * np.float32(1.002)}),
          ("gamma is 1.002 times",)),
    Fault("one gamma", _NORMS, lambda p: _normalised(p, {"gamma": lambda g: _one(g, 2, lambda v: v * 1.5)}),
          ("gamma of output channel 2", "outputs are 1.5 times")),
    Fault("every gamma", _NORMS,
          lambda p: _normalised(p, {"gamma": lambda g: g * np.linspace(0.5, 2, g.size, dtype=np.float32)}),
          ("gamma", "times the reference")),
    Fault("gamma left out", _NORMS, lambda p: _normalised(p, {"gamma": np.ones_like}),
          ("gamma", "times the reference")),
    Fault("beta left out", _NORMS, lambda p: _normalised(p, {"beta": np.zeros_like}), ("beta",)),
    Fault("variance times 1.1", _NORMS,
          lambda p: _normalised(p, {"moving_variance": lambda v: v * np.float32(1.1)}), ("moving variance is 1.1",)),
    Fault("variance of n - 1", _NORMS,
          lambda p: _normalised(p, {"moving_variance": lambda v: v * np.float32(50 / 49)}), ("n = 50",)),
    Fault("no mean", _NORMS, lambda p: _normalised(p, {"moving_mean": np.zeros_like}), ("moving mean",)),
    Fault("unbiased", ("LayerNormalization", "GroupNormalization"), _unbiased, ("n - 1",)),
    Fault("two groups", ("GroupNormalization",), lambda p: p.run(groups=2), ("2 groups",)),
    Fault("the scale times 1.01", ("RMSNormalization",),
          lambda p: _normalised(p, {"scale": lambda s: s * np.float32(1.01)}), ("scale is 1.01 times",)),
    # --- pooling, merging, sampling, shaping
    Fault("the other pooling", ("MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D"),
          lambda p: Audited(_other(p.layer.kind), p.layer.shapes[0], **p.layer.config).run(x=p.layer.x),
          ("was taken instead of",)),
    Fault("the padding counts", ("AveragePooling2D",), lambda p: _counted(p), ("counts the padding",)),
    Fault("first input times 1.01", _MERGES, _operand(0, 1.01), ("input 1 of . is 1.01 times", "times the reference")),
    Fault("second input times 0.5", _MERGES, _operand(1, 0.5), ("input 2 of . is 0.5 times", "times the reference")),
    Fault("second input left out", ("Add", "Subtract"), _operand(1, 0.0), ("input 2 of .", "its input 1")),
    Fault("inputs exchanged", ("Subtract", "Concatenate"), lambda p: p.run(None, p.layer.inputs[::-1]),
          ("in the order", "-1 times", "rotated", "permuted", "exchanged")),
    Fault("up-sampling off by one", ("UpSampling2D",), _upsampled(1), ("off by one output position", "rounded")),
    Fault("up-sampling off by one in front", ("UpSampling2D",), _upsampled(-1), ("off by one output position", "one")),
    Fault("the other interpolation", ("UpSampling2D",),
          lambda p: p.run(interpolation="bilinear" if p.layer.config["size"] == 2 else "nearest"), ("interpolation",)),
    Fault("flattened channels first", ("Flatten",),
          lambda p: p.layer.x.transpose(0, 3, 1, 2).reshape(len(p.layer.x), -1), ("flattened",)),
    Fault("slope", ("LeakyReLU",), lambda p: p.run(negative_slope=0.2), ("slope below zero is 0.2",)),
    Fault("alpha times 1.1", ("PReLU",), lambda p: p.weights(alpha=p.layer.weights["alpha"] * np.float32(1.1)),
          ("alpha is 1.1 times",)),
    # --- recurrence
    Fault("gates exchanged", ("LSTM", "Bidirectional"),
          lambda p: _gates(p, (1, 0, 2, 3), "kernel", "recurrent_kernel", "bias"), ("gates i and f are exchanged,",)),
    Fault("gates of PyTorch", ("GRU",), lambda p: _gates(p, (1, 0, 2), "kernel", "recurrent_kernel", "bias"),
          ("gates z and r are exchanged,",)),
    Fault("gates of the bias", ("LSTM",), lambda p: _gates(p, (0, 3, 2, 1), "bias"),
          ("gates f and o are exchanged in the bias",)),
    Fault("the other reset", ("GRU",), lambda p: _reset(p), ("reset gate multiplies",)),
    Fault("no bias", RECURRENT, lambda p: p.run(
        {name: 0 * array for name, array in p.layer.weights.items() if name.endswith("bias")}), ("bias was dropped",)),
    Fault("no recurrent bias", ("GRU",), lambda p: p.weights(
        bias=p.layer.weights["bias"] * np.array([[1], [0]])) if p.layer.config["reset_after"] else None,
          ("bias of the recurrent product",)),
    Fault("hard sigmoid", ("LSTM", "GRU"), lambda p: p.run(recurrent_activation="hard_sigmoid"),
          ("recurrent activation is hard_sigmoid",)),
    Fault("backwards", ("LSTM", "GRU", "SimpleRNN"), lambda p: p.run(go_backwards=True), ("other direction",)),
    Fault("recurrent kernel times 1.02", ("LSTM", "GRU", "SimpleRNN"), lambda p: p.weights(
        recurrent_kernel=p.layer.weights["recurrent_kernel"] * np.float32(1.02)), ("recurrent kernel is 1.02 times",)),
    Fault("no forget bias", ("LSTM",), lambda p: p.weights(
        bias=p.layer.weights["bias"] + np.repeat([0, 1, 0, 0], 4).astype(np.float32)), ("forget gate",)),
)  # fmt: skip


def _other(kind: str) -> str:
    return kind.replace("Max", "Average") if "Max" in kind else kind.replace("Average", "Max")


def _counted(planting: Planting) -> Array | None:
    x, layer = planting.layer.x, planting.layer
    if layer.config.get("padding") != "same" or min(x.shape[1:3]) < 4:
        return None
    spare = [max((-(-n // 2) - 1) * 2 + 3 - n, 0) for n in x.shape[1:3]]
    pads = ((0, 0), *((n // 2, n - n // 2) for n in spare), (0, 0))
    return planting.run(None, [np.pad(x, pads)], padding="valid")


def _reset(planting: Planting) -> Array:
    after, bias = planting.layer.config["reset_after"], planting.layer.weights["bias"]
    other = bias.sum(axis=0) if after else np.stack([bias, 0 * bias])
    return planting.run({"bias": other}, None, reset_after=not after)


def faults_of(kind: str) -> Iterator[Fault]:
    """List the faults that a layer of this kind may have."""
    yield from (fault for fault in FAULTS if not fault.kinds or kind in fault.kinds)


def visible(honest: Array, exact: Array, faulty: Array) -> float:
    """Measure how far a fault stands above the honest rounding of the same arithmetic: the bits, in the worst channel.

    Args:
        honest: What the arithmetic gives without the fault; ``exact``: the same in float64; ``faulty``: with it.
    """
    with np.errstate(all="ignore"):
        exact = np.asarray(exact, np.float64)
        noise, apart = np.asarray(honest, np.float64) - exact, np.asarray(faulty, np.float64) - honest
    axes = tuple(range(exact.ndim - 1))

    def rms(x: Array, axis: Any = None) -> Any:
        return np.sqrt(np.mean(np.square(x), axis=axis))

    least = max(float(rms(noise)), 2.0**-24 * float(rms(exact)), 2.0**-112)  # smaller ones may be flushed to zero
    level = np.maximum(rms(noise, axes), least)
    if not np.isfinite(level).all():
        return 0.0
    return float(np.log2(np.max(rms(apart, axes) / level, initial=1e-300)))


def relative(exact: Array, faulty: Array) -> float:
    """Measure a fault by the size of the channel that has most of it."""
    exact, axes = np.asarray(exact, np.float64), tuple(range(exact.ndim - 1))
    with np.errstate(all="ignore"):
        found = np.sqrt(np.square(faulty - exact).sum(axis=axes) / np.square(exact).sum(axis=axes))
    return float(np.max(np.nan_to_num(found, nan=0.0, posinf=1e30)))


def judged(fault: Fault, audit: Audit) -> str:
    """Judge what an audit says of a fault: ``named``, ``among several``, ``described``, or ``false``."""
    text = audit.explanation
    matched = any(re.search(pattern, text) for pattern in fault.true)
    if audit.cause in (Cause.UNEXPLAINED, Cause.NONFINITE, Cause.SHAPE, Cause.OVERFLOW) or text.startswith(
        ("every output is", "all outputs are 0, as ")  # whatever has made them 0
    ):
        return "described"
    if not matched:
        return "false"
    return "among several" if "cannot be told apart" in text else "named"
