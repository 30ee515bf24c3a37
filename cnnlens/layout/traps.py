"""What goes wrong around each kind of layer although its axes were right, with what the mistake costs.

The numbers are largest absolute differences between a layer in Keras and its native PyTorch twin with the same weights,
float64, outputs of size 3 to 45, axis sizes all different (Keras 3.15.1, torch 2.13); right conversions stayed below
1e-13.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["TRAPS"]

_SAME_PADDING = (
    "`same` pads max((ceil(n/s)-1)*s + (k-1)*d + 1 - n, 0) in all, half of it (rounded down) in front: it depends on "
    "the input size, so PyTorch needs F.pad and then padding=0. A fixed padding=1 for k=3, s=2 is right on odd sizes "
    "and off by up to 2.6 on even ones.",
    "It is a correlation: the kernel is not flipped in any of the five frameworks.",
    "channels_first changes the data, not the kernel: Keras stores the same axes either way.",
)
_FOLDED = (
    "ONNX and TFLite converters fold a batch norm that follows into the kernel (times gamma/sqrt(variance + epsilon) "
    "on the output axis): raw kernels then differ by 0.2 to 4, and by less than 5e-7 once the original is folded too, "
    "with its own epsilon.",
)
_FASTEST = "Output channel c*M + m: the depth multiplier runs fastest, and PyTorch needs groups=C."
_DEPTHWISE_1D = (
    _FASTEST,
    "A plain transpose(2, 1, 0), right for Conv1D, gives (M, C, W) here, which PyTorch reads as M kernels.",
)
_DEPTHWISE_2D = (
    _FASTEST,
    "A plain transpose(3, 2, 0, 1), right for Conv2D, gives (M, C, H, W) here, which PyTorch reads as M kernels.",
)
_TRANSPOSED = {
    f"Conv{axes}DTranspose": (
        "Keras, PyTorch and ONNX agree without a flip; Flax's default (transpose_kernel=False) stores it spatially "
        "flipped and with in and out swapped, and with transpose_kernel=True exactly as Keras.",
        "`same` gives n*s outputs cropped from the full result, the smaller half of the crop in front. "
        f"nn.ConvTranspose{axes}d can say so only if (k-1)*d+1-s is even or not positive; k=3, s=2, padding=1, "
        f"output_padding=1 is not it: one {'pixel' if axes > 1 else 'step'} off{', error 12' * (axes == 2)}. "
        "Compute with padding=0 and crop.",
        "PyTorch's grouped kernel is (in, out/groups, ...); Keras, Flax and TFLite have no groups here.",
    )
    for axes in (1, 2, 3)
}
_FLATTEN = (
    "Keras flattens (H, W, C), PyTorch (C, H, W): the first Dense after a Flatten needs its inputs reordered, and so "
    "does every vector between the two (batch norm, PReLU, Normalization).",
    "Keras' Flatten(data_format='channels_first') brings its input to (H, W, C) order first; a plain Flatten() in a "
    "channels_first model does not, and its Dense needs no reordering.",
    "ONNX keeps the order of the exporter: from PyTorch it is (C, H, W), as shown; tf2onnx keeps (H, W, C).",
)
_EPSILON = (
    "Epsilon is 1e-3 in Keras, 1e-5 in PyTorch and ONNX, 1e-5 (batch norm) or 1e-6 (the others) in Flax: carry it "
    "over, it is a factor of 1.0005 at variance 1.",
)
_TWO_BIASES = (
    "PyTorch and ONNX have two biases and add them (bias_ih_l0 and bias_hh_l0; the halves of B): Keras' is their sum, "
    "and on the way there the second is zeros."
)
_TWO_FUNCTIONS = (
    "hard_sigmoid is relu6(x + 3)/6 in Keras 3 and PyTorch, and clip(0.2*x + 0.5) in Keras 2 and ONNX: a Keras 2 layer "
    "that used it was off by 0.09 with the new formula and by 1e-7 with its own.",
)
_CONV_LSTM = (
    *_TWO_FUNCTIONS,
    "Flax's ConvLSTMCell has the gates i, g, f, o and adds 1 to f before the sigmoid: subtract 1 from that quarter of "
    "the bias (an output off by 0.23 of its largest otherwise), and leave its second bias zero.",
)

TRAPS: Mapping[str, tuple[str, ...]] = {
    "Conv1D": ("`causal` is (k-1)*d zeros in front and none behind.", *_SAME_PADDING, *_FOLDED),
    "Conv2D": (*_SAME_PADDING, *_FOLDED),
    "Conv3D": (*_SAME_PADDING, "TFLite's CONV_3D keeps Keras' axes, unlike its CONV_2D."),
    "DepthwiseConv1D": (*_DEPTHWISE_1D, *_SAME_PADDING[:1]),
    "DepthwiseConv2D": (*_DEPTHWISE_2D, *_SAME_PADDING[:1], *_FOLDED),
    "SeparableConv1D": (
        "Two convolutions, with no bias and no activation between them.",
        "Stride, dilation and padding belong to the depthwise half alone.",
        *_DEPTHWISE_1D,
    ),
    "SeparableConv2D": (
        "Two convolutions, with no bias and no activation between them.",
        "Stride, dilation and padding belong to the depthwise half alone.",
        *_DEPTHWISE_2D,
    ),
    **_TRANSPOSED,
    "Dense": (
        *_FLATTEN,
        "In ONNX, Gemm with transB=1 holds (O, I) as shown; MatMul holds (I, O).",
        "Keras' torch backend multiplies float64 in float32: an error of 5e-6 there is its own.",
    ),
    "EinsumDense": (
        "The equation says which axes are summed over; those are the inputs. A letter that kernel, input and output "
        "all have makes a batched product, which is no Linear.",
    ),
    "BatchNormalization": (
        *_EPSILON,
        "Keras' momentum 0.99 is PyTorch's 0.01, and PyTorch's running_var counts n/(n-1).",
        "scale=False or center=False leaves the array out, so that the arrays behind it in the file move up by one.",
        "Between a Flatten and a Dense all four vectors are in (H, W, C) order in Keras, Flax and TFLite, in (C, H, W) "
        "order in PyTorch and ONNX: give the geometry's flatten.",
    ),
    "LayerNormalization": (
        *_EPSILON,
        "Keras' axis=-1 normalises over the channels alone: in PyTorch bring the data to (N, H, W, C) first. "
        "Over axis=(1, 2, 3) the arrays are (H, W, C) and PyTorch's (C, H, W).",
    ),
    "GroupNormalization": (*_EPSILON, "groups=-1 is instance normalisation; the groups are runs of channels in both."),
    "RMSNormalization": ("F.rms_norm with eps=1e-6 is the same function.",),
    "Normalization": ("The variance is stored, not its root; `count` is a bookkeeping integer.",),
    "PReLU": (
        "nn.PReLU has one slope a channel (C), or one in all, and linen.PReLU one in all: Keras' shared_axes must be "
        "all the spatial ones, or all. Slopes for each position, (H, W, C), multiply as alpha.transpose(2, 0, 1).",
        "Behind a Flatten there is a slope for each place of the flattened map: in (H, W, C) order in Keras and "
        "TFLite, in (C, H, W) order in PyTorch and ONNX.",
    ),
    "LSTM": (
        "Gates are i, f, c, o in Keras and i, f, g, o in PyTorch, where g is c: the same order. ONNX has i, o, f, c.",
        _TWO_BIASES,
        *_TWO_FUNCTIONS,
    ),
    "GRU": (
        "Gates are z, r, h in Keras and r, z, n in PyTorch: the first two change places.",
        "Keras' reset_after=True (the default) is PyTorch's GRU and ONNX's linear_before_reset=1; reset_after=False "
        "has no PyTorch layer.",
        "With reset_after=True the bias has two rows, PyTorch's bias_ih_l0 and bias_hh_l0; with reset_after=False one.",
    ),
    "SimpleRNN": (_TWO_BIASES,),
    "ConvLSTM1D": _CONV_LSTM,
    "ConvLSTM2D": _CONV_LSTM,
    "ConvLSTM3D": _CONV_LSTM,
    "MultiHeadAttention": (
        "PyTorch stacks query, key and value into in_proj_weight when their widths are equal: concatenate the three "
        "along axis 0.",
    ),
    "GroupQueryAttention": (
        "PyTorch has no module for it: plain Linear layers, and each head of keys and values repeated for the queries "
        "that share it, as repeat_interleave does and not repeat.",
    ),
    "Embedding": ("The row is the index in all of them.",),
    "LocallyConnected1D": ("Keras 3 has no such layer; the kernels are those of Keras 2's implementation=1.",),
    "LocallyConnected2D": (
        "Keras 3 has no such layer; the kernels are those of Keras 2's implementation=1. With channels_first data "
        "Keras 2 stores the inputs of a kernel in (C, H, W) order.",
    ),
}
