"""Random small networks, as configs and arrays: any seed gives one that Keras can build.

What they are made of is what backends compute: convolutions of every sort, normalisation, pooling, activations, and
dense layers. Average pooling with padding on both sides unlike is left out: Keras under PyTorch is wrong there, which
has a test of its own.

Networks of seeds from ``MORE`` on have more kinds and larger maps; the earlier ones stay as they are, for tests name
some of them by their seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.testing import MemoryModel

MORE = 200

Arrays = dict[str, np.ndarray]
Made = tuple[str, dict[str, Any], Arrays, tuple[int, ...]]  # class, config, arrays, output shape

ACTIVATIONS = (
    "linear relu relu relu6 elu selu gelu silu softplus softsign tanh sigmoid hard_sigmoid leaky_relu mish exponential"
).split()


class _Maker:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.entries: list[dict[str, Any]] = []
        self.arrays: dict[tuple[str, ...], Arrays] = {}

    def pick(self, *options: Any) -> Any:
        return options[int(self.random.integers(len(options)))]

    def normal(self, *shape: int, fan: int = 1) -> np.ndarray:
        return (self.random.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)

    def vector(self, size: int, low: float = -0.5, high: float = 0.5) -> np.ndarray:
        return self.random.uniform(low, high, size).astype(np.float32)

    def add(self, made: Made) -> tuple[int, ...]:
        kind, config, arrays, shape = made
        name = f"{kind.lower()}_{len(self.entries)}"
        self.entries.append(
            {"module": "keras.layers", "class_name": kind, "config": {"name": name, "dtype": "float32", **config}}
        )
        if arrays:
            self.arrays[name,] = arrays
        return shape

    # -- layers --------------------------------------------------------------------------------------------------------

    def window(self, height: int, width: int) -> tuple[list[int], list[int], list[int], str]:
        """Kernel size, strides and dilation that fit, and a padding."""
        size = [int(self.random.integers(1, min(n, 5) + 1)) for n in (height, width)]
        strides, dilation = [1, 1], [1, 1]
        if self.random.random() < 0.4:
            strides = [int(self.random.integers(1, 4)), int(self.random.integers(1, 4))]
        elif self.random.random() < 0.3 and all(
            (k - 1) * 2 + 1 <= n for k, n in zip(size, (height, width), strict=True)
        ):
            dilation = [2, 2]
        return size, strides, dilation, self.pick("same", "valid")

    def spatial(
        self, sizes: tuple[int, int], size: list[int], strides: list[int], dilation: list[int], padding: str
    ) -> tuple[int, ...]:
        if padding == "same":
            return tuple(-(-n // s) for n, s in zip(sizes, strides, strict=True))
        return tuple((n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(sizes, size, strides, dilation, strict=True))

    def convolution(self, shape: tuple[int, ...]) -> Made:
        height, width, channels = shape
        size, strides, dilation, padding = self.window(height, width)
        groups = self.pick(*[g for g in (1, 1, 2, 3) if channels % g == 0])
        filters = groups * int(self.random.integers(1, 6))
        config = {
            "filters": filters, "kernel_size": size, "strides": strides, "dilation_rate": dilation, "padding": padding,
            "groups": groups, "use_bias": bool(self.random.random() < 0.8), "activation": self.pick(*ACTIVATIONS),
        }  # fmt: skip
        fan = size[0] * size[1] * channels // groups
        arrays = {"kernel": self.normal(*size, channels // groups, filters, fan=fan)}
        if config["use_bias"]:
            arrays["bias"] = self.vector(filters)
        return "Conv2D", config, arrays, (*self.spatial((height, width), size, strides, dilation, padding), filters)

    def depthwise(self, shape: tuple[int, ...]) -> Made:
        height, width, channels = shape
        size, _, _, padding = self.window(height, width)
        stride = self.pick(1, 1, 2)
        multiplier = self.pick(1, 1, 2)
        config = {
            "kernel_size": size, "strides": [stride, stride], "padding": padding, "depth_multiplier": multiplier,
            "activation": self.pick(*ACTIVATIONS),
        }  # fmt: skip
        arrays = {
            "kernel": self.normal(*size, channels, multiplier, fan=size[0] * size[1]),
            "bias": self.vector(channels * multiplier),
        }
        sizes = self.spatial((height, width), size, [stride, stride], [1, 1], padding)
        return "DepthwiseConv2D", config, arrays, (*sizes, channels * multiplier)

    def transposed(self, shape: tuple[int, ...]) -> Made:
        height, width, channels = shape
        size, stride, filters = [3, 2], self.pick(1, 2), int(self.random.integers(1, 5))
        config = {
            "filters": filters, "kernel_size": size, "strides": [stride, stride], "padding": "same",
            "activation": self.pick(*ACTIVATIONS),
        }  # fmt: skip
        arrays = {"kernel": self.normal(*size, filters, channels, fan=6 * channels), "bias": self.vector(filters)}
        return "Conv2DTranspose", config, arrays, (height * stride, width * stride, filters)

    def batch_norm(self, shape: tuple[int, ...]) -> Made:
        channels = shape[-1]
        arrays = {
            "gamma": self.vector(channels, 0.5, 1.5),
            "beta": self.vector(channels),
            "moving_mean": self.vector(channels),
            "moving_variance": self.vector(channels, 0.3, 2.0),
        }
        return "BatchNormalization", {"axis": -1, "epsilon": self.pick(1e-3, 1e-5)}, arrays, shape

    def layer_norm(self, shape: tuple[int, ...]) -> Made:
        arrays = {"gamma": self.vector(shape[-1], 0.5, 1.5), "beta": self.vector(shape[-1])}
        return "LayerNormalization", {"axis": -1, "epsilon": 1e-3}, arrays, shape

    def group_norm(self, shape: tuple[int, ...]) -> Made:
        channels = shape[-1]
        arrays = {"gamma": self.vector(channels, 0.5, 1.5), "beta": self.vector(channels)}
        groups = self.pick(*[groups for groups in (1, 2, 3, -1) if groups < 0 or channels % groups == 0])
        return "GroupNormalization", {"axis": -1, "groups": groups, "epsilon": self.pick(1e-3, 1e-5)}, arrays, shape

    def rms_norm(self, shape: tuple[int, ...]) -> Made:
        return "RMSNormalization", {"axis": -1, "epsilon": 1e-6}, {"scale": self.vector(shape[-1], 0.5, 1.5)}, shape

    def unit_norm(self, shape: tuple[int, ...]) -> Made:
        return "UnitNormalization", {"axis": -1}, {}, shape

    def prelu(self, shape: tuple[int, ...]) -> Made:
        return "PReLU", {"shared_axes": [1, 2]}, {"alpha": self.vector(shape[-1]).reshape(1, 1, -1)}, shape

    def separable(self, shape: tuple[int, ...]) -> Made:
        height, width, channels = shape
        size, _, _, padding = self.window(height, width)
        filters = int(self.random.integers(1, 6))
        config = {
            "filters": filters, "kernel_size": size, "strides": [1, 1], "padding": padding, "depth_multiplier": 1,
            "activation": self.pick(*ACTIVATIONS),
        }  # fmt: skip
        arrays = {
            "depthwise_kernel": self.normal(*size, channels, 1, fan=size[0] * size[1]),
            "pointwise_kernel": self.normal(1, 1, channels, filters, fan=channels),
            "bias": self.vector(filters),
        }
        return (
            "SeparableConv2D",
            config,
            arrays,
            (*self.spatial((height, width), size, [1, 1], [1, 1], padding), filters),
        )

    def large_pooling(self, shape: tuple[int, ...]) -> Made:
        height, width, channels = shape
        size = [max(height // 2, 1), max(width // 2, 1)]
        config = {"pool_size": size, "strides": size, "padding": "valid"}
        return "AveragePooling2D", config, {}, (*self.spatial((height, width), size, size, [1, 1], "valid"), channels)

    def pooling(self, shape: tuple[int, ...]) -> Made:
        height, width, channels = shape
        size = [min(2, height), min(self.pick(2, 3), width)]
        padding = self.pick("valid", "same")
        kind = self.pick("MaxPooling2D", "AveragePooling2D") if padding == "valid" else "MaxPooling2D"
        config = {"pool_size": size, "strides": size, "padding": padding}
        return kind, config, {}, (*self.spatial((height, width), size, size, [1, 1], padding), channels)

    def activation(self, shape: tuple[int, ...]) -> Made:
        if self.random.random() < 0.3:
            return "LeakyReLU", {"negative_slope": 0.3}, {}, shape
        return "Activation", {"activation": self.pick(*ACTIVATIONS, "softmax")}, {}, shape

    def padding(self, shape: tuple[int, ...]) -> Made:
        before = [[1, 0], [2, 1]]
        return "ZeroPadding2D", {"padding": before}, {}, (shape[0] + 1, shape[1] + 3, shape[2])

    def up_sampling(self, shape: tuple[int, ...]) -> Made:
        config = {"size": [2, 1], "interpolation": self.pick("nearest", "bilinear")}
        return "UpSampling2D", config, {}, (shape[0] * 2, *shape[1:])

    def dense(self, shape: tuple[int, ...]) -> Made:
        units = int(self.random.integers(2, 9))
        config = {"units": units, "activation": self.pick(*ACTIVATIONS, "softmax")}
        arrays = {"kernel": self.normal(shape[-1], units, fan=shape[-1]), "bias": self.vector(units)}
        return "Dense", config, arrays, (*shape[:-1], units)


def random_network(seed: int) -> Network:
    """The network of ``seed``: three to seven layers on maps, then perhaps a flattened or averaged dense head."""
    maker = _Maker(seed)
    shape: tuple[int, ...] = (
        int(maker.random.integers(6, 14)),
        int(maker.random.integers(5, 13)),
        maker.pick(1, 2, 3, 6),
    )
    more = seed >= MORE
    if more and maker.random.random() < 0.3:
        shape = (int(maker.random.integers(20, 40)), int(maker.random.integers(20, 40)), shape[-1])
    image = list(shape)
    on_maps: list[Callable[[tuple[int, ...]], Made]] = [
        maker.convolution, maker.convolution, maker.convolution, maker.depthwise, maker.transposed, maker.batch_norm,
        maker.layer_norm, maker.pooling, maker.activation, maker.padding, maker.up_sampling,
    ]  # fmt: skip
    if more:
        on_maps += [
            maker.group_norm, maker.group_norm, maker.rms_norm, maker.unit_norm, maker.prelu, maker.separable,
            maker.large_pooling, maker.activation,
        ]  # fmt: skip
    for _ in range(int(maker.random.integers(3, 8))):
        shape = maker.add(maker.pick(*on_maps)(shape))
    if more and maker.random.random() < 0.4:
        shape = maker.add(("GlobalAveragePooling2D", {}, {}, (shape[-1],)))
        maker.add(maker.dense(shape))
    elif maker.random.random() < 0.7:
        shape = maker.add(("Flatten", {}, {}, (int(np.prod(shape)),)))
        maker.add(maker.dense(shape))
    entry = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, *image], "name": "image"},
    }
    config = {"class_name": "Sequential", "config": {"name": f"random_{seed}", "layers": [entry, *maker.entries]}}
    return keras_network(MemoryModel(config, maker.arrays))  # type: ignore[arg-type]
