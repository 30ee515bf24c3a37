"""Every layer that the reference is held against Keras on, as plain data.

Keras runs in a process of its own (``reference_truth.py``), so the cases must be readable on both sides. Axis sizes all
differ, so that a wrong transpose or a swapped axis cannot hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

__all__ = ["LAYERS", "LayerCase"]


@dataclass(frozen=True)
class LayerCase:
    """One layer: Keras class, its arguments, input shapes with the batch."""

    kind: str
    arguments: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    # Merge layers take one list.
    listed: bool
    # How far float64 may be off, relative to the largest value: more than rounding where Keras itself is not exact
    # (float32 constants in some activations, float32 positions in resizing, float32 settings of Rescaling).
    loose: float

    @property
    def name(self) -> str:
        """A readable test id."""
        settings = "-".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.kind}-{settings}-{'x'.join(map(str, self.shapes[0]))}".replace(" ", "")


def case(kind: str, shape: tuple[int, ...] = (3, 7, 6, 5), *, loose: float = 1e-11, **arguments: Any) -> LayerCase:
    """A layer of one input."""
    return LayerCase(kind, arguments, (shape,), False, loose)


def merge(kind: str, *shapes: tuple[int, ...], **arguments: Any) -> LayerCase:
    """A layer of a list of inputs."""
    return LayerCase(kind, arguments, shapes, True, 1e-11)


def _convolutions() -> Iterator[LayerCase]:
    for kernel, stride, padding in product([(1, 1), (3, 2), (4, 3), (5, 5)], [1, (2, 3), 3], ["valid", "same"]):
        yield case("Conv2D", (3, 11, 9, 5), filters=8, kernel_size=kernel, strides=stride, padding=padding)
    for dilation, padding in product([(2, 3), 2], ["valid", "same"]):
        yield case("Conv2D", (2, 11, 13, 6), filters=4, kernel_size=3, dilation_rate=dilation, padding=padding)
    for groups, filters in [(2, 8), (3, 9), (6, 12), (6, 6)]:
        for padding in ("valid", "same"):
            yield case("Conv2D", (2, 7, 8, 6), filters=filters, kernel_size=(3, 2), groups=groups, padding=padding)
    for channels in (1, 2, 3, 4):
        yield case("Conv2D", (5, 9, 8, channels), filters=7, kernel_size=(3, 5), padding="same", activation="relu")
        yield case("Conv2D", (2, 19, 23, channels), filters=7, kernel_size=7, strides=2, use_bias=False)
    for stride, padding in product([1, 2], ["valid", "same"]):
        arguments = {
            "filters": 4,
            "kernel_size": (3, 2),
            "strides": stride,
            "padding": padding,
            "data_format": "channels_first",
        }
        yield case("Conv2D", (2, 5, 7, 9), **arguments)
        yield case("Conv2D", (2, 5, 7, 9), **arguments, activation="softmax")
        depthwise = {
            "kernel_size": (3, 2),
            "strides": stride,
            "padding": padding,
            "data_format": "channels_first",
            "depth_multiplier": 2,
        }
        yield case("DepthwiseConv2D", (2, 5, 7, 9), **depthwise)
        yield case("SeparableConv2D", (2, 5, 7, 9), **depthwise, filters=6)
    for activation in ("softmax", "gelu", "glu", "leaky_relu", "hard_sigmoid"):
        yield case("Conv2D", filters=6, kernel_size=2, activation=activation, loose=1e-06)
        if activation != "glu":
            yield case("Dense", (3, 4), units=6, activation=activation, loose=1e-06)
    # More positions than one block of patches holds.
    yield case("Conv2D", (2, 61, 47, 16), filters=5, kernel_size=3, padding="same")
    yield case("Conv2D", (3, 83, 90, 3), filters=5, kernel_size=3, strides=2)
    yield case("Conv2D", (3, 83, 90, 3), filters=5, kernel_size=1, strides=2)
    yield case("DepthwiseConv2D", (2, 61, 47, 16), kernel_size=3, padding="same")
    yield case("DepthwiseConv2D", (3, 61, 48, 16), kernel_size=5, strides=2, padding="same")
    for kernel, stride, padding in product([1, 2, 5], [1, 2, 3], ["valid", "same", "causal"]):
        yield case("Conv1D", (3, 11, 5), filters=4, kernel_size=kernel, strides=stride, padding=padding)
    for padding in ("valid", "same", "causal"):
        yield case("Conv1D", (3, 11, 4), filters=6, kernel_size=3, dilation_rate=2, padding=padding, groups=2)
        yield case("Conv1D", (3, 1100, 24), filters=6, kernel_size=3, padding=padding, activation="tanh")
    for stride, padding in product([1, (2, 1, 3)], ["valid", "same"]):
        yield case("Conv3D", (2, 5, 7, 9, 6), filters=4, kernel_size=(2, 3, 4), strides=stride, padding=padding)
        yield case(
            "Conv3D",
            (2, 3, 5, 7, 9),
            filters=4,
            kernel_size=2,
            strides=stride,
            padding=padding,
            data_format="channels_first",
        )
    yield case("Conv3D", (2, 5, 7, 4, 9), filters=6, kernel_size=(2, 3, 1), groups=3)
    yield case("Conv3D", (2, 5, 7, 9, 6), filters=4, kernel_size=2, dilation_rate=(2, 1, 3))
    for kernel, stride, padding, multiplier in product([(1, 1), (3, 2), (5, 4)], [1, 2], ["valid", "same"], [1, 3]):
        arguments = {"kernel_size": kernel, "strides": stride, "padding": padding, "depth_multiplier": multiplier}
        yield case("DepthwiseConv2D", (3, 9, 8, 5), **arguments)
        yield case("SeparableConv2D", (3, 9, 8, 5), **arguments, filters=4, activation="relu")
    for dilation, padding in product([2, (3, 2)], ["valid", "same"]):
        arguments = {"kernel_size": 3, "dilation_rate": dilation, "padding": padding}
        yield case("DepthwiseConv2D", (3, 11, 9, 5), **arguments, use_bias=False)
        yield case("SeparableConv2D", (3, 11, 9, 5), **arguments, filters=4)
        yield case("DepthwiseConv2D", (3, 11, 9, 5), **arguments, strides=2)
    for kernel, stride, padding in product([1, 4], [1, 3], ["valid", "same"]):
        arguments = {"kernel_size": kernel, "strides": stride, "padding": padding, "depth_multiplier": 2}
        yield case("DepthwiseConv1D", (3, 11, 5), **arguments)
        yield case("SeparableConv1D", (3, 11, 5), **arguments, filters=4)


def _transposed() -> Iterator[LayerCase]:
    for kernel, stride, padding, size in product([1, 2, 3, 4, 5], [1, 2, 3, 4], ["valid", "same"], [4, 7]):
        yield case("Conv1DTranspose", (2, size, 3), filters=5, kernel_size=kernel, strides=stride, padding=padding)
    for kernel, stride, padding in product([(3, 2), (4, 5), (1, 3)], [1, 2, (3, 2)], ["valid", "same"]):
        yield case("Conv2DTranspose", (2, 6, 7, 3), filters=5, kernel_size=kernel, strides=stride, padding=padding)
    for kernel, stride, padding, extra in product([3, 5], [2, 3], ["valid", "same"], [0, 1]):
        yield case(
            "Conv2DTranspose",
            (2, 6, 7, 3),
            filters=5,
            kernel_size=kernel,
            strides=stride,
            padding=padding,
            output_padding=extra,
        )
    for padding in ("valid", "same"):
        yield case(
            "Conv2DTranspose",
            (2, 3, 6, 7),
            filters=5,
            kernel_size=3,
            strides=2,
            padding=padding,
            data_format="channels_first",
            activation="relu",
        )
        for stride in (1, 2):
            yield case(
                "Conv3DTranspose",
                (2, 4, 6, 7, 3),
                filters=5,
                kernel_size=(2, 3, 4),
                strides=stride,
                padding=padding,
                use_bias=False,
            )
    yield case("Conv2DTranspose", (9, 25, 24, 16), filters=4, kernel_size=4, strides=2, padding="same")


def _dense() -> Iterator[LayerCase]:
    yield from [
        case("Dense", (3, 4), units=6, activation="relu"),
        case("Dense", (3, 5, 4), units=6, use_bias=False),
        case("Dense", (2, 3, 5, 4), units=6),
        case("Dense", (300, 450), units=700),
    ]
    for equation, output, axes, shape in [
        ("ab,bc->ac", 6, "c", (3, 5)),
        ("abc,cd->abd", (None, 7), "d", (3, 4, 5)),
        ("abc,cde->abde", (None, 2, 7), "de", (3, 4, 5)),
        ("abc,cde->abde", (None, 2, 7), "e", (3, 4, 5)),
        ("abc,cde->abde", (None, 2, 7), "d", (3, 4, 5)),
        ("abde,dec->abc", (None, 7), "c", (3, 4, 2, 5)),
        ("...x,xy->...y", 7, "y", (3, 4, 5)),
        ("...x,xy->...y", 7, None, (3, 4, 2, 5)),
        ("ab...,bc->ac...", 7, "c", (3, 4, 2, 5)),
        ("abc,bd->adc", (7, 5), "d", (3, 4, 5)),
        ("abcd,bcde->ae", 7, "e", (3, 4, 2, 5)),
    ]:
        arguments = {"equation": equation, "output_shape": output, "bias_axes": axes}
        yield case("EinsumDense", shape, **arguments)
    yield case(
        "EinsumDense", (3, 4, 5), equation="abc,cd->abd", output_shape=(None, 8), bias_axes="d", activation="relu"
    )
    yield case("Embedding", (3, 5), input_dim=9, output_dim=4)


def _normalizations() -> Iterator[LayerCase]:
    for scale, center in product([True, False], repeat=2):
        yield case("BatchNormalization", scale=scale, center=center)
        yield case("LayerNormalization", scale=scale, center=center)
        yield case("GroupNormalization", (2, 7, 5, 6), groups=3, scale=scale, center=center)
    for shape in ((4, 5), (3, 4, 5), (2, 3, 4, 5, 6), (70, 9, 8, 3), (2, 3, 4, 5000)):
        yield case("BatchNormalization", shape, epsilon=1e-05)
    for axis in (1, 2, -2):
        yield case("BatchNormalization", axis=axis)
        yield case("GroupNormalization", groups=-1, axis=axis)
    for axis in (-1, 1, (1, 2), (1, 2, 3), (2, 3), (3, 1)):
        yield case("LayerNormalization", axis=axis, epsilon=1e-06)
        # Keras spreads the scale over the last axes whatever ``axis`` says, and fails where that does not fit.
        if axis in (-1, (1, 2, 3), (2, 3)):
            yield case("RMSNormalization", axis=axis)
        yield case("UnitNormalization", axis=axis)
    yield case("LayerNormalization", rms_scaling=True)
    for groups, axis in ((1, -1), (2, -1), (7, 1)):
        yield case("GroupNormalization", (2, 7, 5, 6), groups=groups, axis=axis)
    for axis, size in ((-1, 5), (1, 7), (None, 1)):
        value = {"mean": [0.5 + i for i in range(size)], "variance": [1.5 + i for i in range(size)]}
        if axis is None:
            value = {"mean": 0.7, "variance": 2.5}
        for invert in (False, True):
            yield case("Normalization", axis=axis, **value, invert=invert, loose=1e-06)
    yield case(
        "Normalization",
        axis=(1, 3),
        mean=[[0.1 * i + j for i in range(5)] for j in range(7)],
        variance=[[1 + i + j for i in range(5)] for j in range(7)],
        loose=1e-06,
    )
    for axis in (-1, 2, (1, 3), None):
        # Learned from the data: mean and variance are weights then.
        yield case("Normalization", axis=axis, loose=1e-6)
    yield case("Rescaling", scale=1 / 255, offset=-0.5, loose=1e-06)
    yield case("Rescaling", scale=[0.1, 0.2, 0.3, 0.4, 0.5], offset=[1.0, 2.0, 3.0, 4.0, 5.0], loose=1e-06)


def _poolings() -> Iterator[LayerCase]:
    for name in ("MaxPooling", "AveragePooling"):
        for window, stride, padding, size in product([2, 3, 5], [None, 1, 2, 4], ["valid", "same"], [8, 9]):
            yield case(f"{name}1D", (3, size, 5), pool_size=window, strides=stride, padding=padding)
        for window, stride, padding in product([2, (3, 2), (3, 3)], [None, 1, (2, 3)], ["valid", "same"]):
            yield case(f"{name}2D", (3, 9, 8, 5), pool_size=window, strides=stride, padding=padding)
        for padding in ("valid", "same"):
            yield case(
                f"{name}2D", (3, 5, 9, 8), pool_size=(3, 2), strides=2, padding=padding, data_format="channels_first"
            )
            yield case(f"{name}2D", (7, 63, 64, 24), pool_size=3, strides=2, padding=padding)
            yield case(f"{name}3D", (2, 5, 7, 6, 3), pool_size=(2, 3, 2), padding=padding)
            yield case(f"{name}3D", (2, 5, 8, 6, 3), pool_size=3, strides=2, padding=padding)
    for name in ("GlobalMaxPooling", "GlobalAveragePooling"):
        for keepdims in (False, True):
            yield case(f"{name}1D", (3, 9, 5), keepdims=keepdims)
            yield case(f"{name}2D", (3, 9, 8, 5), keepdims=keepdims)
            yield case(f"{name}3D", (2, 9, 8, 5, 3), keepdims=keepdims)
            yield case(f"{name}2D", (3, 9, 8, 5), keepdims=keepdims, data_format="channels_first")
    for name in ("AdaptiveMaxPooling", "AdaptiveAveragePooling"):
        for size in (1, 2, 3, 5, 7):
            yield case(f"{name}1D", (3, 11, 5), output_size=size)
        yield case(f"{name}2D", (3, 7, 8, 4), output_size=(3, 5))
        yield case(f"{name}2D", (3, 4, 7, 8), output_size=(3, 5), data_format="channels_first")
        yield case(f"{name}3D", (3, 7, 8, 9, 4), output_size=(3, 2, 4))


def _activations() -> Iterator[LayerCase]:
    names = [
        "relu",
        "leaky_relu",
        "relu6",
        "softmax",
        "celu",
        "elu",
        "selu",
        "softplus",
        "softsign",
        "squareplus",
        "soft_shrink",
        "sparse_plus",
        "silu",
        "gelu",
        "glu",
        "tanh",
        "tanh_shrink",
        "sigmoid",
        "sparse_sigmoid",
        "exponential",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "hard_shrink",
        "linear",
        "mish",
        "log_softmax",
        "log_sigmoid",
        "sparsemax",
        "swish",
        "hard_swish",
    ]
    rough = {"leaky_relu": 1e-07, "gelu": 1e-07, "selu": 1e-07, "soft_shrink": 1e-07, "softplus": 1e-07}
    yield from [case("Activation", (3, 7, 5, 6), activation=name, loose=rough.get(name, 1e-11)) for name in names]
    for arguments in (
        {},
        {"max_value": 6},
        {"max_value": 1.5},
        {"negative_slope": 0.2},
        {"threshold": 0.7},
        {"max_value": 1.5, "negative_slope": 0.1},
        {"max_value": 1.5, "negative_slope": 0.1, "threshold": 0.3},
        {"negative_slope": 0.1, "threshold": 0.3},
    ):
        yield case("ReLU", **arguments, loose=1e-07)
    for slope in (0.3, 0.05):
        yield case("LeakyReLU", negative_slope=slope, loose=1e-07)
    for axes in (None, [1], [1, 2], [1, 2, 3], [3]):
        yield case("PReLU", shared_axes=axes)
    for alpha in (1.0, 0.4):
        yield case("ELU", alpha=alpha, loose=1e-07)
    for axis in (-1, 1, 2, (1, 2)):
        yield case("Softmax", axis=axis, loose=1e-07)


def _identities() -> Iterator[LayerCase]:
    yield from [
        case(kind, **arguments)
        for kind, arguments in (
            ("Identity", {}),
            ("Dropout", {"rate": 0.4}),
            ("SpatialDropout2D", {"rate": 0.4}),
            ("GaussianDropout", {"rate": 0.4}),
            ("GaussianNoise", {"stddev": 0.4}),
            ("AlphaDropout", {"rate": 0.4}),
            ("ActivityRegularization", {"l2": 0.1}),
        )
    ]
    yield case("SpatialDropout1D", (3, 4, 5), rate=0.4)
    yield case("SpatialDropout3D", (3, 4, 5, 6, 2), rate=0.4)
    image = ((2, 7, 6, 3),)
    for kind, arguments in (
        ("RandomBrightness", {"factor": 0.3}),
        ("RandomColorDegeneration", {"factor": 0.3}),
        ("RandomColorJitter", {"brightness_factor": 0.3}),
        ("RandomContrast", {"factor": 0.3}),
        ("RandomElasticTransform", {}),
        ("RandomErasing", {}),
        ("RandomFlip", {}),
        ("RandomGaussianBlur", {}),
        ("RandomGrayscale", {}),
        ("RandomHue", {"factor": 0.3}),
        ("RandomInvert", {}),
        ("RandomPerspective", {}),
        ("RandomPosterization", {"factor": 4}),
        ("RandomRotation", {"factor": 0.3}),
        ("RandomSaturation", {"factor": 0.3}),
        ("RandomSharpness", {"factor": 0.3}),
        ("RandomShear", {}),
        ("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.3}),
        ("RandomZoom", {"height_factor": 0.2}),
        ("AugMix", {}),
        ("CutMix", {}),
        ("MixUp", {}),
        ("RandAugment", {}),
    ):
        yield case(kind, *image, **arguments)
    yield case("Masking", (3, 6, 5), mask_value=0.0)


def _shapings() -> Iterator[LayerCase]:
    volume = ((2, 4, 6, 5, 3),)
    yield from [
        case("ZeroPadding1D", (2, 4, 3), padding=(1, 2)),
        case("ZeroPadding1D", (2, 4, 3), padding=3),
        case("ZeroPadding2D", padding=((1, 2), (3, 0))),
        case("ZeroPadding2D", padding=(1, 2)),
        case("ZeroPadding2D", padding=2),
        case("ZeroPadding2D", padding=((1, 2), (3, 0)), data_format="channels_first"),
        case("ZeroPadding3D", *volume, padding=((1, 2), (3, 0), (0, 4))),
        case("ZeroPadding3D", *volume, padding=((1, 2), (3, 0), (0, 4)), data_format="channels_first"),
        case("Cropping1D", (2, 4, 3), cropping=(1, 2)),
        case("Cropping2D", cropping=((1, 2), (3, 0))),
        case("Cropping2D", cropping=((1, 2), (3, 0)), data_format="channels_first"),
        case("Cropping3D", *volume, cropping=((1, 2), (3, 0), (0, 4))),
        case("Cropping3D", *volume, cropping=((1, 2), (3, 0), (0, 1)), data_format="channels_first"),
        case("Flatten"),
        case("Flatten", data_format="channels_first"),
        case("Flatten", (3, 4), data_format="channels_first"),
        case("Flatten", (3,)),
        case("Reshape", target_shape=(-1, 10)),
        case("Reshape", target_shape=(5, 42)),
        case("Reshape", target_shape=(-1,)),
        case("Permute", dims=(3, 1, 2)),
        case("RepeatVector", (3, 5), n=4),
        case("UpSampling1D", (2, 4, 3), size=3),
        case("UpSampling2D", size=(2, 3)),
        case("UpSampling2D", size=(2, 3), data_format="channels_first"),
        case("UpSampling3D", *volume, size=(2, 3, 1)),
        case("UpSampling3D", *volume, size=(2, 3, 1), data_format="channels_first"),
    ]
    for method in ("bilinear", "bicubic", "lanczos3", "lanczos5"):
        for data_format in ("channels_last", "channels_first"):
            arguments = {"size": (2, 3), "interpolation": method, "data_format": data_format}
            yield case("UpSampling2D", **arguments, loose=1e-05)
    for method, antialias in product(("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"), (False, True)):
        for height, width in ((5, 9), (20, 13), (3, 31), (13, 11)):
            arguments = {"height": height, "width": width, "interpolation": method, "antialias": antialias}
            yield case("Resizing", (2, 13, 11, 3), **arguments, loose=1e-05)
    for ratio, shape in product(("crop_to_aspect_ratio", "pad_to_aspect_ratio"), ((2, 13, 8, 3), (2, 7, 20, 3))):
        for height, width in ((5, 9), (20, 13), (10, 4)):
            yield case("Resizing", shape, height=height, width=width, **{ratio: True}, loose=1e-05)
    yield case("Resizing", (2, 7, 20, 3), height=20, width=13, pad_to_aspect_ratio=True, fill_value=2.5, loose=1e-05)
    yield case("Resizing", (2, 3, 7, 20), height=9, width=13, data_format="channels_first", loose=1e-05)
    for height, width in ((5, 8), (6, 7), (5, 30), (20, 8), (30, 20)):
        yield case("CenterCrop", (2, 12, 11, 3), height=height, width=width, loose=1e-05)
    yield case("CenterCrop", (2, 3, 12, 11), height=5, width=8, data_format="channels_first")


def _merges() -> Iterator[LayerCase]:
    one = (3, 7, 6, 5)
    for kind in ("Add", "Average", "Subtract", "Multiply", "Maximum", "Minimum"):
        yield merge(kind, one, one)
        yield merge(kind, one, (3, 1, 6, 1))
        yield merge(kind, one, (3, 5))
        if kind != "Subtract":
            yield merge(kind, one, one, one)
            yield merge(kind, (3, 1, 6, 5), (3, 1, 6, 1), one)
    for axis, other in ((-1, (3, 7, 6, 2)), (1, (3, 4, 6, 5)), (2, (3, 7, 9, 5))):
        yield merge("Concatenate", one, other, one, axis=axis)
    for normalize in (False, True):
        for axes, first, second in (
            (1, (3, 4), (3, 4)),
            (-1, (3, 2, 4), (3, 5, 4)),
            ((2, 1), (3, 2, 4), (3, 4, 5)),
            ((1, 2), (3, 4, 2), (3, 5, 4)),
            ((1, 1), (3, 4, 2), (3, 4)),
            ((3, 1), (3, 7, 6, 4), (3, 4, 5)),
        ):
            yield merge("Dot", first, second, axes=axes, normalize=normalize)


LAYERS: list[LayerCase] = [
    *_convolutions(),
    *_transposed(),
    *_dense(),
    *_normalizations(),
    *_poolings(),
    *_activations(),
    *_identities(),
    *_shapings(),
    *_merges(),
]
