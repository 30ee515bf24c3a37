"""Every layer and op that the reference is held against Keras on, as plain data.

Keras runs in a process of its own (``reference_truth.py``), so the cases must be readable on both sides. Axis sizes all
differ, so that a wrong transpose or a swapped axis cannot hide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

__all__ = ["LAYERS", "OPS", "LayerCase", "OpCase"]


@dataclass(frozen=True)
class LayerCase:
    """One layer: Keras class, its arguments, input shapes with the batch; ``listed`` where it takes a list."""

    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ((3, 7, 6, 5),)
    listed: bool = False
    # How far float64 may be off, relative to the largest value, where Keras itself is not exact.
    loose: float = 1e-11

    @property
    def name(self) -> str:
        """A readable test id."""
        settings = "-".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.kind}-{settings}-{'x'.join(map(str, self.shapes[0]))}".replace(" ", "")


@dataclass(frozen=True)
class OpCase:
    """An expression of ``x``, ``y`` (tensors), ``dtype``, ``ops`` and ``np``; its graph is what is compared."""

    expression: str
    shapes: tuple[tuple[int, ...], ...] = ((3, 6, 5, 4),)
    loose: float = 1e-11

    @property
    def name(self) -> str:
        return self.expression.replace(" ", "")


def _convolutions() -> list[LayerCase]:
    cases: list[LayerCase] = []
    for kernel, stride, padding in product([(1, 1), (3, 2), (4, 3), (5, 5)], [1, (2, 3), 3], ["valid", "same"]):
        cases.append(LayerCase("Conv2D", {"filters": 8, "kernel_size": kernel, "strides": stride, "padding": padding}, ((3, 11, 9, 5),)))  # fmt: skip
    for dilation, padding in product([(2, 3), 2], ["valid", "same"]):
        cases.append(LayerCase("Conv2D", {"filters": 4, "kernel_size": 3, "dilation_rate": dilation, "padding": padding}, ((2, 11, 13, 6),)))  # fmt: skip
    for groups, filters in [(2, 8), (3, 9), (6, 12), (6, 6)]:
        for padding in ("valid", "same"):
            cases.append(LayerCase("Conv2D", {"filters": filters, "kernel_size": (3, 2), "groups": groups, "padding": padding}, ((2, 7, 8, 6),)))  # fmt: skip
    for channels in (1, 2, 3, 4):
        cases.append(LayerCase("Conv2D", {"filters": 7, "kernel_size": (3, 5), "padding": "same", "activation": "relu"}, ((5, 9, 8, channels),)))  # fmt: skip
        cases.append(LayerCase("Conv2D", {"filters": 7, "kernel_size": 7, "strides": 2, "use_bias": False}, ((2, 19, 23, channels),)))  # fmt: skip
    for stride, padding in product([1, 2], ["valid", "same"]):
        arguments = {"filters": 4, "kernel_size": (3, 2), "strides": stride, "padding": padding, "data_format": "channels_first"}  # fmt: skip
        cases.append(LayerCase("Conv2D", arguments, ((2, 5, 7, 9),)))
        cases.append(LayerCase("Conv2D", {**arguments, "activation": "softmax"}, ((2, 5, 7, 9),)))
        depthwise = {"kernel_size": (3, 2), "strides": stride, "padding": padding, "data_format": "channels_first", "depth_multiplier": 2}  # fmt: skip
        cases.append(LayerCase("DepthwiseConv2D", depthwise, ((2, 5, 7, 9),)))
        cases.append(LayerCase("SeparableConv2D", {**depthwise, "filters": 6}, ((2, 5, 7, 9),)))
    for activation in ("softmax", "gelu", "glu", "leaky_relu", "hard_sigmoid"):
        # glu halves the channels that come out of a layer.
        cases.append(LayerCase("Conv2D", {"filters": 6, "kernel_size": 2, "activation": activation}, loose=1e-6))
        if activation != "glu":
            cases.append(LayerCase("Dense", {"units": 6, "activation": activation}, ((3, 4),), loose=1e-6))
    # More positions than one block of patches holds.
    cases.append(LayerCase("Conv2D", {"filters": 5, "kernel_size": 3, "padding": "same"}, ((2, 61, 47, 16),)))
    cases.append(LayerCase("Conv2D", {"filters": 5, "kernel_size": 3, "strides": 2}, ((3, 83, 90, 3),)))
    cases.append(LayerCase("Conv2D", {"filters": 5, "kernel_size": 1, "strides": 2}, ((3, 83, 90, 3),)))
    cases.append(LayerCase("DepthwiseConv2D", {"kernel_size": 3, "padding": "same"}, ((2, 61, 47, 16),)))
    cases.append(LayerCase("DepthwiseConv2D", {"kernel_size": 5, "strides": 2, "padding": "same"}, ((3, 61, 48, 16),)))
    for kernel, stride, padding in product([1, 2, 5], [1, 2, 3], ["valid", "same", "causal"]):
        cases.append(LayerCase("Conv1D", {"filters": 4, "kernel_size": kernel, "strides": stride, "padding": padding}, ((3, 11, 5),)))  # fmt: skip
    for padding in ("valid", "same", "causal"):
        cases.append(LayerCase("Conv1D", {"filters": 6, "kernel_size": 3, "dilation_rate": 2, "padding": padding, "groups": 2}, ((3, 11, 4),)))  # fmt: skip
        cases.append(LayerCase("Conv1D", {"filters": 6, "kernel_size": 3, "padding": padding, "activation": "tanh"}, ((3, 1100, 24),)))  # fmt: skip
    for stride, padding in product([1, (2, 1, 3)], ["valid", "same"]):
        cases.append(LayerCase("Conv3D", {"filters": 4, "kernel_size": (2, 3, 4), "strides": stride, "padding": padding}, ((2, 5, 7, 9, 6),)))  # fmt: skip
        cases.append(LayerCase("Conv3D", {"filters": 4, "kernel_size": 2, "strides": stride, "padding": padding, "data_format": "channels_first"}, ((2, 3, 5, 7, 9),)))  # fmt: skip
    cases.append(LayerCase("Conv3D", {"filters": 6, "kernel_size": (2, 3, 1), "groups": 3}, ((2, 5, 7, 4, 9),)))
    cases.append(LayerCase("Conv3D", {"filters": 4, "kernel_size": 2, "dilation_rate": (2, 1, 3)}, ((2, 5, 7, 9, 6),)))
    for kernel, stride, padding, multiplier in product([(1, 1), (3, 2), (5, 4)], [1, 2], ["valid", "same"], [1, 3]):
        arguments = {"kernel_size": kernel, "strides": stride, "padding": padding, "depth_multiplier": multiplier}
        cases.append(LayerCase("DepthwiseConv2D", arguments, ((3, 9, 8, 5),)))
        cases.append(LayerCase("SeparableConv2D", {**arguments, "filters": 4, "activation": "relu"}, ((3, 9, 8, 5),)))
    for dilation, padding in product([2, (3, 2)], ["valid", "same"]):
        arguments = {"kernel_size": 3, "dilation_rate": dilation, "padding": padding}
        cases.append(LayerCase("DepthwiseConv2D", {**arguments, "use_bias": False}, ((3, 11, 9, 5),)))
        cases.append(LayerCase("SeparableConv2D", {**arguments, "filters": 4}, ((3, 11, 9, 5),)))
        cases.append(LayerCase("DepthwiseConv2D", {**arguments, "strides": 2}, ((3, 11, 9, 5),)))
    for kernel, stride, padding in product([1, 4], [1, 3], ["valid", "same"]):
        arguments = {"kernel_size": kernel, "strides": stride, "padding": padding, "depth_multiplier": 2}
        cases.append(LayerCase("DepthwiseConv1D", arguments, ((3, 11, 5),)))
        cases.append(LayerCase("SeparableConv1D", {**arguments, "filters": 4}, ((3, 11, 5),)))
    return cases


def _transposed() -> list[LayerCase]:
    cases: list[LayerCase] = []
    for kernel, stride, padding, size in product([1, 2, 3, 4, 5], [1, 2, 3, 4], ["valid", "same"], [4, 7]):
        cases.append(LayerCase("Conv1DTranspose", {"filters": 5, "kernel_size": kernel, "strides": stride, "padding": padding}, ((2, size, 3),)))  # fmt: skip
    for kernel, stride, padding in product([(3, 2), (4, 5), (1, 3)], [1, 2, (3, 2)], ["valid", "same"]):
        cases.append(LayerCase("Conv2DTranspose", {"filters": 5, "kernel_size": kernel, "strides": stride, "padding": padding}, ((2, 6, 7, 3),)))  # fmt: skip
    for kernel, stride, padding, extra in product([3, 5], [2, 3], ["valid", "same"], [0, 1]):
        cases.append(LayerCase("Conv2DTranspose", {"filters": 5, "kernel_size": kernel, "strides": stride, "padding": padding, "output_padding": extra}, ((2, 6, 7, 3),)))  # fmt: skip
    for padding in ("valid", "same"):
        cases.append(LayerCase("Conv2DTranspose", {"filters": 5, "kernel_size": 3, "strides": 2, "padding": padding, "data_format": "channels_first", "activation": "relu"}, ((2, 3, 6, 7),)))  # fmt: skip
        for stride in (1, 2):
            cases.append(LayerCase("Conv3DTranspose", {"filters": 5, "kernel_size": (2, 3, 4), "strides": stride, "padding": padding, "use_bias": False}, ((2, 4, 6, 7, 3),)))  # fmt: skip
    cases.append(LayerCase("Conv2DTranspose", {"filters": 4, "kernel_size": 4, "strides": 2, "padding": "same"}, ((9, 25, 24, 16),)))  # fmt: skip
    return cases


def _dense() -> list[LayerCase]:
    cases = [
        LayerCase("Dense", {"units": 6, "activation": "relu"}, ((3, 4),)),
        LayerCase("Dense", {"units": 6, "use_bias": False}, ((3, 5, 4),)),
        LayerCase("Dense", {"units": 6}, ((2, 3, 5, 4),)),
        LayerCase("Dense", {"units": 700}, ((300, 450),)),
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
        cases.append(LayerCase("EinsumDense", arguments, (shape,)))
    cases.append(LayerCase("EinsumDense", {"equation": "abc,cd->abd", "output_shape": (None, 8), "bias_axes": "d", "activation": "relu"}, ((3, 4, 5),)))  # fmt: skip
    cases.append(LayerCase("Embedding", {"input_dim": 9, "output_dim": 4}, ((3, 5),)))
    return cases


def _normalizations() -> list[LayerCase]:
    cases: list[LayerCase] = []
    for scale, center in product([True, False], repeat=2):
        cases.append(LayerCase("BatchNormalization", {"scale": scale, "center": center}))
        cases.append(LayerCase("LayerNormalization", {"scale": scale, "center": center}))
        cases.append(LayerCase("GroupNormalization", {"groups": 3, "scale": scale, "center": center}, ((2, 7, 5, 6),)))
    for shape in ((4, 5), (3, 4, 5), (2, 3, 4, 5, 6), (70, 9, 8, 3), (2, 3, 4, 5000)):
        cases.append(LayerCase("BatchNormalization", {"epsilon": 1e-5}, (shape,)))
    for axis in (1, 2, -2):
        cases.append(LayerCase("BatchNormalization", {"axis": axis}))
        cases.append(LayerCase("GroupNormalization", {"groups": -1, "axis": axis}))
    for axis in (-1, 1, (1, 2), (1, 2, 3), (2, 3), (3, 1)):
        cases.append(LayerCase("LayerNormalization", {"axis": axis, "epsilon": 1e-6}))
        # Keras spreads the scale over the last axes whatever ``axis`` says, and fails where that does not fit.
        if axis in (-1, (1, 2, 3), (2, 3)):
            cases.append(LayerCase("RMSNormalization", {"axis": axis}))
        cases.append(LayerCase("UnitNormalization", {"axis": axis}))
    cases.append(LayerCase("LayerNormalization", {"rms_scaling": True}))
    for groups, axis in ((1, -1), (2, -1), (7, 1)):
        cases.append(LayerCase("GroupNormalization", {"groups": groups, "axis": axis}, ((2, 7, 5, 6),)))
    for axis, size in ((-1, 5), (1, 7), (None, 1)):
        value = {"mean": [0.5 + i for i in range(size)], "variance": [1.5 + i for i in range(size)]}
        if axis is None:
            value = {"mean": 0.7, "variance": 2.5}
        for invert in (False, True):
            cases.append(LayerCase("Normalization", {"axis": axis, **value, "invert": invert}, loose=1e-6))
    cases.append(LayerCase("Normalization", {"axis": (1, 3), "mean": [[0.1 * i + j for i in range(5)] for j in range(7)], "variance": [[1 + i + j for i in range(5)] for j in range(7)]}, loose=1e-6))  # fmt: skip
    cases.append(LayerCase("Rescaling", {"scale": 1 / 255, "offset": -0.5}, loose=1e-6))
    cases.append(LayerCase("Rescaling", {"scale": [0.1, 0.2, 0.3, 0.4, 0.5], "offset": [1.0, 2.0, 3.0, 4.0, 5.0]}, loose=1e-6))  # fmt: skip
    return cases


def _poolings() -> list[LayerCase]:
    cases: list[LayerCase] = []
    for name in ("MaxPooling", "AveragePooling"):
        for window, stride, padding, size in product([2, 3, 5], [None, 1, 2, 4], ["valid", "same"], [8, 9]):
            cases.append(LayerCase(f"{name}1D", {"pool_size": window, "strides": stride, "padding": padding}, ((3, size, 5),)))  # fmt: skip
        for window, stride, padding in product([2, (3, 2), (3, 3)], [None, 1, (2, 3)], ["valid", "same"]):
            cases.append(LayerCase(f"{name}2D", {"pool_size": window, "strides": stride, "padding": padding}, ((3, 9, 8, 5),)))  # fmt: skip
        for padding in ("valid", "same"):
            cases.append(LayerCase(f"{name}2D", {"pool_size": (3, 2), "strides": 2, "padding": padding, "data_format": "channels_first"}, ((3, 5, 9, 8),)))  # fmt: skip
            cases.append(LayerCase(f"{name}2D", {"pool_size": 3, "strides": 2, "padding": padding}, ((7, 63, 64, 24),)))
            cases.append(LayerCase(f"{name}3D", {"pool_size": (2, 3, 2), "padding": padding}, ((2, 5, 7, 6, 3),)))
            cases.append(LayerCase(f"{name}3D", {"pool_size": 3, "strides": 2, "padding": padding}, ((2, 5, 8, 6, 3),)))
    for name in ("GlobalMaxPooling", "GlobalAveragePooling"):
        for keepdims in (False, True):
            cases.append(LayerCase(f"{name}1D", {"keepdims": keepdims}, ((3, 9, 5),)))
            cases.append(LayerCase(f"{name}2D", {"keepdims": keepdims}, ((3, 9, 8, 5),)))
            cases.append(LayerCase(f"{name}3D", {"keepdims": keepdims}, ((2, 9, 8, 5, 3),)))
            cases.append(LayerCase(f"{name}2D", {"keepdims": keepdims, "data_format": "channels_first"}, ((3, 9, 8, 5),)))  # fmt: skip
    for name in ("AdaptiveMaxPooling", "AdaptiveAveragePooling"):
        for size in (1, 2, 3, 5, 7):
            cases.append(LayerCase(f"{name}1D", {"output_size": size}, ((3, 11, 5),)))
        cases.append(LayerCase(f"{name}2D", {"output_size": (3, 5)}, ((3, 7, 8, 4),)))
        cases.append(LayerCase(f"{name}2D", {"output_size": (3, 5), "data_format": "channels_first"}, ((3, 4, 7, 8),)))
        cases.append(LayerCase(f"{name}3D", {"output_size": (3, 2, 4)}, ((3, 7, 8, 9, 4),)))
    return cases


def _activations() -> list[LayerCase]:
    names = (
        "relu leaky_relu relu6 softmax celu elu selu softplus softsign squareplus soft_shrink sparse_plus silu gelu "
        "glu tanh tanh_shrink sigmoid sparse_sigmoid exponential hard_sigmoid hard_silu hard_tanh hard_shrink linear "
        "mish log_softmax log_sigmoid sparsemax swish hard_swish"
    ).split()
    rough = {"leaky_relu": 1e-7, "gelu": 1e-7, "selu": 1e-7, "soft_shrink": 1e-7, "softplus": 1e-7}
    cases = [
        LayerCase("Activation", {"activation": name}, ((3, 7, 5, 6),), loose=rough.get(name, 1e-11)) for name in names
    ]
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
        cases.append(LayerCase("ReLU", arguments, loose=1e-7))
    for slope in (0.3, 0.05):
        cases.append(LayerCase("LeakyReLU", {"negative_slope": slope}, loose=1e-7))
    for axes in (None, [1], [1, 2], [1, 2, 3], [3]):
        cases.append(LayerCase("PReLU", {"shared_axes": axes}))
    for alpha in (1.0, 0.4):
        cases.append(LayerCase("ELU", {"alpha": alpha}, loose=1e-7))
    for axis in (-1, 1, 2, (1, 2)):
        cases.append(LayerCase("Softmax", {"axis": axis}, loose=1e-7))
    return cases


def _identities() -> list[LayerCase]:
    cases = [
        LayerCase(kind, arguments)
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
    cases.append(LayerCase("SpatialDropout1D", {"rate": 0.4}, ((3, 4, 5),)))
    cases.append(LayerCase("SpatialDropout3D", {"rate": 0.4}, ((3, 4, 5, 6, 2),)))
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
        cases.append(LayerCase(kind, arguments, image))
    cases.append(LayerCase("Masking", {"mask_value": 0.0}, ((3, 6, 5),)))
    return cases


def _shapings() -> list[LayerCase]:
    volume = ((2, 4, 6, 5, 3),)
    cases = [
        LayerCase("ZeroPadding1D", {"padding": (1, 2)}, ((2, 4, 3),)),
        LayerCase("ZeroPadding1D", {"padding": 3}, ((2, 4, 3),)),
        LayerCase("ZeroPadding2D", {"padding": ((1, 2), (3, 0))}),
        LayerCase("ZeroPadding2D", {"padding": (1, 2)}),
        LayerCase("ZeroPadding2D", {"padding": 2}),
        LayerCase("ZeroPadding2D", {"padding": ((1, 2), (3, 0)), "data_format": "channels_first"}),
        LayerCase("ZeroPadding3D", {"padding": ((1, 2), (3, 0), (0, 4))}, volume),
        LayerCase("ZeroPadding3D", {"padding": ((1, 2), (3, 0), (0, 4)), "data_format": "channels_first"}, volume),
        LayerCase("Cropping1D", {"cropping": (1, 2)}, ((2, 4, 3),)),
        LayerCase("Cropping2D", {"cropping": ((1, 2), (3, 0))}),
        LayerCase("Cropping2D", {"cropping": ((1, 2), (3, 0)), "data_format": "channels_first"}),
        LayerCase("Cropping3D", {"cropping": ((1, 2), (3, 0), (0, 4))}, volume),
        LayerCase("Cropping3D", {"cropping": ((1, 2), (3, 0), (0, 1)), "data_format": "channels_first"}, volume),
        LayerCase("Flatten", {}),
        LayerCase("Flatten", {"data_format": "channels_first"}),
        LayerCase("Flatten", {"data_format": "channels_first"}, ((3, 4),)),
        LayerCase("Flatten", {}, ((3,),)),
        LayerCase("Reshape", {"target_shape": (-1, 10)}),
        LayerCase("Reshape", {"target_shape": (5, 42)}),
        LayerCase("Reshape", {"target_shape": (-1,)}),
        LayerCase("Permute", {"dims": (3, 1, 2)}),
        LayerCase("RepeatVector", {"n": 4}, ((3, 5),)),
        LayerCase("UpSampling1D", {"size": 3}, ((2, 4, 3),)),
        LayerCase("UpSampling2D", {"size": (2, 3)}),
        LayerCase("UpSampling2D", {"size": (2, 3), "data_format": "channels_first"}),
        LayerCase("UpSampling3D", {"size": (2, 3, 1)}, volume),
        LayerCase("UpSampling3D", {"size": (2, 3, 1), "data_format": "channels_first"}, volume),
    ]
    for method in ("bilinear", "bicubic", "lanczos3", "lanczos5"):
        for data_format in ("channels_last", "channels_first"):
            arguments = {"size": (2, 3), "interpolation": method, "data_format": data_format}
            cases.append(LayerCase("UpSampling2D", arguments, loose=1e-5))
    for method, antialias in product(("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"), (False, True)):
        for height, width in ((5, 9), (20, 13), (3, 31), (13, 11)):
            arguments = {"height": height, "width": width, "interpolation": method, "antialias": antialias}
            cases.append(LayerCase("Resizing", arguments, ((2, 13, 11, 3),), loose=1e-5))
    for ratio, shape in product(("crop_to_aspect_ratio", "pad_to_aspect_ratio"), ((2, 13, 8, 3), (2, 7, 20, 3))):
        for height, width in ((5, 9), (20, 13), (10, 4)):
            cases.append(LayerCase("Resizing", {"height": height, "width": width, ratio: True}, (shape,), loose=1e-5))
    cases.append(LayerCase("Resizing", {"height": 20, "width": 13, "pad_to_aspect_ratio": True, "fill_value": 2.5}, ((2, 7, 20, 3),), loose=1e-5))  # fmt: skip
    cases.append(LayerCase("Resizing", {"height": 9, "width": 13, "data_format": "channels_first"}, ((2, 3, 7, 20),), loose=1e-5))  # fmt: skip
    for height, width in ((5, 8), (6, 7), (5, 30), (20, 8), (30, 20)):
        cases.append(LayerCase("CenterCrop", {"height": height, "width": width}, ((2, 12, 11, 3),), loose=1e-5))
    cases.append(LayerCase("CenterCrop", {"height": 5, "width": 8, "data_format": "channels_first"}, ((2, 3, 12, 11),)))
    return cases


def _merges() -> list[LayerCase]:
    one = (3, 7, 6, 5)
    cases: list[LayerCase] = []
    for kind in ("Add", "Average", "Subtract", "Multiply", "Maximum", "Minimum"):
        cases.append(LayerCase(kind, {}, (one, one), listed=True))
        cases.append(LayerCase(kind, {}, (one, (3, 1, 6, 1)), listed=True))
        cases.append(LayerCase(kind, {}, (one, (3, 5)), listed=True))
        if kind != "Subtract":
            cases.append(LayerCase(kind, {}, (one, one, one), listed=True))
            cases.append(LayerCase(kind, {}, ((3, 1, 6, 5), (3, 1, 6, 1), one), listed=True))
    for axis, other in ((-1, (3, 7, 6, 2)), (1, (3, 4, 6, 5)), (2, (3, 7, 9, 5))):
        cases.append(LayerCase("Concatenate", {"axis": axis}, (one, other, one), listed=True))
    for normalize in (False, True):
        for axes, first, second in (
            (1, (3, 4), (3, 4)),
            (-1, (3, 2, 4), (3, 5, 4)),
            ((2, 1), (3, 2, 4), (3, 4, 5)),
            ((1, 2), (3, 4, 2), (3, 5, 4)),
            ((1, 1), (3, 4, 2), (3, 4)),
            ((3, 1), (3, 7, 6, 4), (3, 4, 5)),
        ):
            cases.append(LayerCase("Dot", {"axes": axes, "normalize": normalize}, (first, second), listed=True))
    return cases


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

_PAIR = ((3, 6, 5, 4), (3, 6, 5, 4))
OPS: list[OpCase] = [
    *(OpCase(f"x {sign} y", _PAIR) for sign in ("+", "-", "*", "/", "//", "%")),
    *(OpCase(f"x {sign} 2.5") for sign in ("+", "-", "*", "/")),
    *(OpCase(f"3 {sign} x") for sign in ("+", "-", "*", "/")),
    *(
        OpCase(text, loose=loose)
        for text, loose in (
            ("-x", 1e-11),
            ("abs(x)", 1e-11),
            ("x ** 2", 1e-11),
            ("x[:, 1:4, ..., ::2]", 1e-11),
            ("x[:, 0]", 1e-11),
            ("x[..., 1:3]", 1e-11),
            ("x[:, None]", 1e-11),
            ("x[:, -2, :, 1]", 1e-11),
            ("x * np.arange(4).astype('float32')", 1e-11),
            ("ops.mean(x, axis=[1, 2], keepdims=True)", 1e-11),
            ("ops.mean(x, axis=-1)", 1e-11),
            ("ops.sum(x, axis=(1, 3))", 1e-11),
            ("ops.max(x, axis=1)", 1e-11),
            ("ops.min(x, axis=2, keepdims=True)", 1e-11),
            ("ops.prod(x, axis=2)", 1e-11),
            ("ops.var(x, axis=[1, 2])", 1e-11),
            ("ops.std(x, axis=3)", 1e-11),
            ("ops.logsumexp(x, axis=2)", 1e-11),
            ("ops.norm(x, axis=-1)", 1e-11),
            ("ops.reshape(x, (-1, 10, 12))", 1e-11),
            ("ops.transpose(x, (0, 3, 1, 2))", 1e-11),
            ("ops.expand_dims(x, 2)", 1e-11),
            ("ops.squeeze(x[:, :1], 1)", 1e-11),
            ("ops.concatenate([x, x * 2], axis=-1)", 1e-11),
            ("ops.stack([x, x * 2], axis=1)", 1e-11),
            ("ops.split(x, 2, axis=-1)[1]", 1e-11),
            ("ops.split(x, [1, 4], axis=1)[2]", 1e-11),
            ("ops.unstack(x, axis=3)[1]", 1e-11),
            ("ops.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]])", 1e-11),
            ("ops.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]], constant_values=2.5)", 1e-11),
            ("ops.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]], mode='reflect')", 1e-11),
            ("ops.clip(x, 0.0, 1.5)", 1e-11),
            ("ops.flip(x, 1)", 1e-11),
            ("ops.roll(x, 2, axis=1)", 1e-11),
            ("ops.moveaxis(x, 1, 3)", 1e-11),
            ("ops.swapaxes(x, 1, 2)", 1e-11),
            ("ops.repeat(x, 3, axis=2)", 1e-11),
            ("ops.tile(x, (1, 2, 1, 3))", 1e-11),
            ("ops.take(x, 2, axis=1)", 1e-11),
            ("ops.take(x, [2, 0, 3], axis=1)", 1e-11),
            ("ops.cumsum(x, axis=2)", 1e-11),
            ("ops.einsum('nhwc,nhwc->nhc', x, x)", 1e-11),
            ("ops.matmul(x, ops.swapaxes(x, 2, 3))", 1e-11),
            ("ops.where(x > 0.5, x, -x)", 1e-11),
            ("ops.maximum(x, 0.3)", 1e-11),
            ("ops.minimum(x, 0.3)", 1e-11),
            ("ops.power(ops.abs(x), 0.5)", 1e-11),
            ("ops.normalize(x, axis=-1)", 1e-11),
            ("ops.max_pool(x, (2, 3))", 1e-11),
            ("ops.max_pool(x, 2, 1, padding='same')", 1e-11),
            ("ops.average_pool(x, 3, 2, padding='same')", 1e-11),
            ("ops.conv(x, np.linspace(-1, 1, 3 * 2 * 4 * 7).reshape(3, 2, 4, 7).astype(dtype), padding='same')", 1e-11),
            ("ops.depthwise_conv(x, np.linspace(-1, 1, 3 * 2 * 4 * 2).reshape(3, 2, 4, 2).astype(dtype))", 1e-11),
            ("ops.image.resize(x, (11, 9))", 1e-6),
            ("ops.image.resize(x, (4, 9), interpolation='nearest')", 1e-6),
            ("ops.leaky_relu(x, 0.1)", 1e-7),
            ("ops.leaky_relu(x)", 1e-7),
            ("ops.elu(x, 0.5)", 1e-7),
            ("ops.celu(x, 0.5)", 1e-7),
            ("ops.gelu(x)", 1e-7),
            ("ops.gelu(x, approximate=False)", 1e-7),
            ("ops.softmax(x, axis=1)", 1e-7),
            ("ops.log_softmax(x, axis=2)", 1e-7),
            ("ops.glu(x, axis=1)", 1e-7),
            ("ops.hard_shrink(x, 0.3)", 1e-7),
            ("ops.soft_shrink(x, 0.3)", 1e-7),
            ("ops.threshold(x, 0.3, -2.0)", 1e-7),
            ("ops.squareplus(x, 3)", 1e-7),
            ("keras.activations.relu(x, negative_slope=0.1, max_value=2.0)", 1e-7),
        )
    ),
    *(
        OpCase(f"ops.{name}(x)", loose=1e-7)
        for name in (
            "relu relu6 sigmoid silu softplus softsign tanh tanh_shrink selu hard_sigmoid hard_silu hard_tanh "
            "log_sigmoid sparse_plus sparse_sigmoid exp expm1 sin cos tan square sign floor ceil erf arctan sinh cosh "
            "arcsinh round"
        ).split()
    ),
    *(OpCase(f"ops.{name}(ops.abs(x) + 0.1)", loose=1e-7) for name in "sqrt rsqrt log log1p log2 log10 reciprocal".split()),
]  # fmt: skip
