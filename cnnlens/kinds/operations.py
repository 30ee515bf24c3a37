"""The rows of what stands between layers: functions of ``keras.ops``, and PyTorch's operators that compute the same.

Sources: the classes in ``keras.src.ops`` of Keras 3.15.1 and PyTorch 2.13's ``native_functions.yaml``; each expression
was run against both.
"""

from __future__ import annotations

from typing import Any

from cnnlens.kinds.kind import Features, Kind, Rounding

__all__ = ["OPERATIONS"]

NONE, ONCE, EACH, PRODUCTS, SUMS, OTHER = Rounding
ALONE, KEPT, PLACED, RESHAPED, REORDERED, MIXED = Features


def _row(
    name: str, home: str, aten: str, rounding: Rounding, features: Features, torch: str = "", **facts: Any
) -> Kind:
    return Kind(
        name=name, home=home, aten=tuple(aten.split()), rounding=rounding, features=features, torch=torch, **facts
    )


def _activation(
    name: str, home: str, aten: str, torch: str, module: str, rounding: Rounding = OTHER, **facts: Any
) -> Kind:
    """A function of single numbers that Keras knows by name; ``module`` is short for ``nn.module()``."""
    if module and "(" not in module:
        module += "()"
    activation = facts.pop("activation", "") or "".join(
        "_" + char.lower() if char.isupper() else char for char in name
    ).lstrip("_")
    module = f"nn.{module}" if module else ""
    return _row(name, home, aten, rounding, ALONE, torch, module=module, activation=activation, **facts)


# A line a row; the order of the activations is that in which another one than the model's is looked for.
# fmt: off
OPERATIONS: tuple[Kind, ...] = (
    # --- activations: name, home, aten, expression, module
    _activation("Relu", "nn", "relu", "F.relu({x})", "ReLU", NONE, at_least_zero=True),
    _activation("Relu6", "nn", "relu6", "F.relu6({x})", "ReLU6", NONE, at_least_zero=True),
    _activation("Sigmoid", "nn", "sigmoid", "torch.sigmoid({x})", "Sigmoid", smooth=True, at_least_zero=True),
    _activation("Tanh", "numpy", "tanh", "torch.tanh({x})", "Tanh", smooth=True),
    _activation("Gelu", "nn", "gelu", "F.gelu({x})", "GELU", smooth=True, settings={"approximate": True}),
    _activation("Silu", "nn", "silu", "F.silu({x})", "SiLU", smooth=True),
    _row("Softmax", "nn", "softmax _softmax _safe_softmax", OTHER, KEPT, layer=True, takes_masks=True,
         passes_masks=True, at_least_zero=True, activation="softmax", settings={"axis": -1}),
    _activation("LeakyRelu", "nn", "leaky_relu rrelu rrelu_with_noise rrelu_with_noise_functional",
                "F.leaky_relu({x}, {negative_slope})", "LeakyReLU({negative_slope})",
                settings={"negative_slope": 0.2}, arguments=(("negative_slope", "negative_slope", 0.01),)),
    _activation("Elu", "nn", "elu", "F.elu({x}, {alpha})", "ELU({alpha})", smooth=True, settings={"alpha": 1.0},
                arguments=(("alpha", "alpha", 1.0), ("scale", "scale", 1.0), ("input_scale", "input_scale", 1.0))),
    _activation("Selu", "nn", "selu", "F.selu({x})", "SELU", smooth=True),
    _activation("HardSigmoid", "nn", "hardsigmoid", "F.hardsigmoid({x})", "Hardsigmoid", at_least_zero=True),
    _activation("HardSilu", "nn", "hardswish", "F.hardswish({x})", "Hardswish", older=("HardSwish",)),
    _activation("Softplus", "nn", "softplus", "F.softplus({x}, threshold=40)", "Softplus(threshold=40)", smooth=True,
                at_least_zero=True),
    _activation("Softsign", "nn", "softsign", "F.softsign({x})", "Softsign", smooth=True),
    _activation("Mish", "", "mish", "F.mish({x})", "Mish", smooth=True),
    _activation("Exp", "numpy", "exp", "torch.exp({x})", "", EACH, activation="exponential", smooth=True),
    _activation("Celu", "nn", "celu", "F.celu({x}, {alpha})", "CELU({alpha})", smooth=True, settings={"alpha": 1.0},
                arguments=(("alpha", "alpha", 1.0),)),
    _activation("HardTanh", "nn", "hardtanh", "F.hardtanh({x})", "Hardtanh", NONE,
                arguments=(("min_val", "min_value", -1.0), ("max_val", "max_value", 1.0))),
    _row("LogSoftmax", "nn", "log_softmax _log_softmax", OTHER, KEPT, activation="log_softmax", settings={"axis": -1}),
    _activation("LogSigmoid", "nn", "log_sigmoid log_sigmoid_forward", "F.logsigmoid({x})", "LogSigmoid", smooth=True),
    _activation("Squareplus", "nn", "", "({x} + torch.sqrt({x}.square() + {b})) / 2", "", smooth=True,
                settings={"b": 4}),
    _activation("TanhShrink", "nn", "tanhshrink", "F.tanhshrink({x})", "Tanhshrink", smooth=True),
    _activation("SoftShrink", "nn", "softshrink", "F.softshrink({x}, {threshold})", "Softshrink({threshold})",
                settings={"threshold": 0.5}, arguments=(("lambd", "threshold", 0.5),)),
    _activation("HardShrink", "nn", "hardshrink", "F.hardshrink({x}, {threshold})", "Hardshrink({threshold})",
                settings={"threshold": 0.5}, arguments=(("lambd", "threshold", 0.5),)),
    _activation("SparsePlus", "nn", "", "torch.where({x} < 1, ({x} + 1).clamp(min=0).square() / 4, {x})", ""),
    _activation("SparseSigmoid", "nn", "", "torch.clamp(({x} + 1) / 2, 0.0, 1.0)", ""),
    _row("Sparsemax", "nn", "", OTHER, KEPT, activation="sparsemax", settings={"axis": -1}),
    _row("Glu", "nn", "glu", OTHER, MIXED, activation="glu", settings={"axis": -1}),
    _activation("Threshold", "nn", "threshold", "F.threshold({x}, {threshold}, {default_value})",
                "Threshold({threshold}, {default_value})",
                arguments=(("threshold", "threshold", 0.0), ("value", "default_value", 0.0))),

    # --- functions of single numbers: name, home, aten, rounding, features, expression
    _row("Abs", "numpy", "abs absolute", NONE, ALONE, "{x}.abs()", older=("Absolute",)),
    _row("Negative", "numpy", "neg negative", NONE, ALONE, "-{x}"),
    _row("Sign", "numpy", "sign sgn", NONE, ALONE, "{x}.sign()"),
    _row("Floor", "numpy", "floor", NONE, ALONE, "{x}.floor()"),
    _row("Ceil", "numpy", "ceil", NONE, ALONE, "{x}.ceil()"),
    _row("Trunc", "numpy", "trunc fix", NONE, ALONE, "{x}.trunc()"),
    _row("Frac", "", "frac", NONE, ALONE, "torch.frac({x})"),
    _row("Round", "numpy", "round", OTHER, ALONE),
    _row("Clip", "numpy", "clamp clip clamp_min clamp_max", NONE, ALONE),
    _row("Cast", "core", "to _to_copy type_as float double half bfloat16 int long bool cpu cuda", EACH, ALONE),
    _row("Positive", "", "positive", NONE, ALONE, "{x}"),
    _row("Copy", "numpy", "", NONE, ALONE, "{x}"),
    _row("StopGradient", "core", "", NONE, ALONE, "{x}"),
    _row("ConvertToTensor", "core", "", NONE, ALONE, "{x}"),
    _row("ZerosLike", "numpy", "zeros_like", NONE, ALONE, "torch.zeros_like({x})"),
    _row("OnesLike", "numpy", "ones_like full_like", NONE, ALONE, "torch.ones_like({x})"),
    _row("Isnan", "numpy", "isnan", NONE, ALONE, "{x}.isnan()"),
    _row("Isinf", "numpy", "isinf", NONE, ALONE, "{x}.isinf()"),
    _row("Isfinite", "numpy", "isfinite", NONE, ALONE, "{x}.isfinite()"),
    _row("LogicalNot", "numpy", "logical_not bitwise_not", NONE, ALONE, "{x}.logical_not()"),
    _row("Square", "numpy", "square", ONCE, ALONE, "{x}.square()"),
    _row("Sqrt", "numpy", "sqrt", ONCE, ALONE, "{x}.sqrt()"),
    _row("Rsqrt", "math", "rsqrt", EACH, ALONE, "{x}.rsqrt()"),
    _row("Reciprocal", "numpy", "reciprocal", EACH, ALONE, "{x}.reciprocal()"),
    _row("Exp2", "numpy", "exp2", EACH, ALONE, "{x}.exp2()"),
    _row("Expm1", "numpy", "expm1", EACH, ALONE, "{x}.expm1()"),
    _row("Log", "numpy", "log", EACH, ALONE, "{x}.log()"),
    _row("Log2", "numpy", "log2", EACH, ALONE, "{x}.log2()"),
    _row("Log10", "numpy", "log10", EACH, ALONE, "{x}.log10()"),
    _row("Log1p", "numpy", "log1p", EACH, ALONE, "{x}.log1p()"),
    _row("Sin", "numpy", "sin", EACH, ALONE, "{x}.sin()"),
    _row("Cos", "numpy", "cos", EACH, ALONE, "{x}.cos()"),
    _row("Tan", "numpy", "tan", EACH, ALONE, "{x}.tan()"),
    _row("Arcsin", "numpy", "asin arcsin", EACH, ALONE, "{x}.asin()"),
    _row("Arccos", "numpy", "acos arccos", EACH, ALONE, "{x}.acos()"),
    _row("Arctan", "numpy", "atan arctan", EACH, ALONE, "{x}.atan()"),
    _row("Sinh", "numpy", "sinh", EACH, ALONE, "{x}.sinh()"),
    _row("Cosh", "numpy", "cosh", EACH, ALONE, "{x}.cosh()"),
    _row("Arcsinh", "numpy", "asinh arcsinh", EACH, ALONE, "{x}.asinh()"),
    _row("Arccosh", "numpy", "acosh arccosh", EACH, ALONE, "{x}.acosh()"),
    _row("Arctanh", "numpy", "atanh arctanh", EACH, ALONE, "{x}.atanh()"),
    _row("Erf", "math", "erf", EACH, ALONE, "torch.erf({x})"),
    _row("Erfc", "math", "erfc", EACH, ALONE, "torch.erfc({x})"),

    # --- of two numbers: an expression of operators takes numbers too, torch.name alone takes tensors
    _row("Divide", "numpy", "div divide true_divide", ONCE, PLACED, "{a} / {b}"),
    _row("TrueDivide", "numpy", "", ONCE, PLACED, "{a} / {b}"),
    _row("DivideNoNan", "numpy", "", EACH, PLACED),
    _row("FloorDivide", "numpy", "floor_divide", EACH, PLACED, "{a} // {b}"),
    _row("Mod", "numpy", "remainder", OTHER, PLACED, "{a} % {b}"),
    _row("Fmod", "numpy", "fmod", NONE, PLACED, "torch.fmod"),
    _row("Power", "numpy", "pow float_power", EACH, PLACED, "torch.pow({a}, {b})"),
    _row("Arctan2", "numpy", "atan2 arctan2", EACH, PLACED, "torch.atan2"),
    _row("Hypot", "numpy", "hypot", EACH, PLACED, "torch.hypot"),
    _row("Logaddexp", "numpy", "logaddexp", EACH, PLACED, "torch.logaddexp"),
    _row("Greater", "numpy", "gt greater", NONE, PLACED, "{a} > {b}"),
    _row("GreaterEqual", "numpy", "ge greater_equal", NONE, PLACED, "{a} >= {b}"),
    _row("Less", "numpy", "lt less", NONE, PLACED, "{a} < {b}"),
    _row("LessEqual", "numpy", "le less_equal", NONE, PLACED, "{a} <= {b}"),
    _row("Equal", "numpy", "eq", NONE, PLACED, "{a} == {b}"),
    _row("NotEqual", "numpy", "ne not_equal", NONE, PLACED, "{a} != {b}"),
    _row("LogicalAnd", "numpy", "logical_and bitwise_and __and__", NONE, PLACED, "torch.logical_and"),
    _row("LogicalOr", "numpy", "logical_or bitwise_or __or__", NONE, PLACED, "torch.logical_or"),
    _row("LogicalXor", "numpy", "logical_xor bitwise_xor", NONE, PLACED, "torch.logical_xor"),
    _row("Where", "numpy", "where masked_fill nan_to_num", NONE, PLACED),
    _row("Lerp", "", "lerp", EACH, PLACED),
    _row("Addcmul", "", "addcmul addcdiv", EACH, PLACED),

    # --- reductions
    _row("Mean", "numpy", "mean", SUMS, MIXED, "mean"),
    _row("Sum", "numpy", "sum", SUMS, MIXED, "sum"),
    _row("Prod", "numpy", "prod", OTHER, MIXED),
    _row("Var", "numpy", "var var_mean", OTHER, MIXED, "var"),
    _row("Std", "numpy", "std std_mean", OTHER, MIXED, "std"),
    _row("Max", "numpy", "max", NONE, MIXED, "amax"),
    _row("Min", "numpy", "min", NONE, MIXED, "amin"),
    _row("Amax", "numpy", "amax", NONE, MIXED, "amax"),
    _row("Amin", "numpy", "amin", NONE, MIXED, "amin"),
    _row("Any", "numpy", "any", NONE, MIXED, "any"),
    _row("All", "numpy", "all", NONE, MIXED, "all"),
    _row("Argmax", "numpy", "argmax", NONE, MIXED),
    _row("Argmin", "numpy", "argmin", NONE, MIXED),
    _row("Logsumexp", "math", "logsumexp", OTHER, MIXED, "logsumexp"),
    _row("Norm", "linalg", "norm linalg_vector_norm frobenius_norm", OTHER, MIXED),
    _row("Normalize", "nn", "", OTHER, PLACED),
    _row("Cumsum", "numpy", "cumsum", OTHER, REORDERED),
    _row("Cumprod", "numpy", "cumprod", OTHER, REORDERED),
    _row("CosineSimilarity", "", "cosine_similarity", OTHER, MIXED),
    _row("Distance", "", "pairwise_distance", OTHER, MIXED),
    _row("WeightNorm", "", "_weight_norm _weight_norm_interface", OTHER, MIXED),

    # --- products
    _row("Matmul", "numpy", "matmul linalg_matmul mm bmm mv dot vdot addmm baddbmm addbmm", PRODUCTS, MIXED),
    _row("ScaledMatmul", "", "", OTHER, MIXED),
    _row("Einsum", "numpy", "einsum bilinear _trilinear", PRODUCTS, MIXED),
    _row("Tensordot", "numpy", "", PRODUCTS, MIXED),
    _row("Conv", "nn", "convolution _convolution mkldnn_convolution cudnn_convolution", PRODUCTS, MIXED),
    _row("DepthwiseConv", "nn", "", PRODUCTS, MIXED),
    _row("SeparableConv", "nn", "", OTHER, MIXED),
    _row("ConvTranspose", "nn", "", PRODUCTS, MIXED),
    _row("ScaledDotProductAttention", "",
         "scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
         "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention", OTHER, MIXED),
    _row("BatchNorm", "nn", "", EACH, KEPT),
    _row("InstanceNorm", "", "instance_norm", OTHER, MIXED),

    # --- pooling and sizes
    _row("MaxPool", "nn", "", NONE, MIXED),
    _row("AveragePool", "nn", "", SUMS, MIXED),
    _row("AdaptiveMaxPool", "nn", "", NONE, MIXED),
    _row("AdaptiveAveragePool", "nn", "", OTHER, MIXED),
    _row("Resize", "image", "", OTHER, MIXED, resizes=True),

    # --- axes and places
    _row("Transpose", "numpy", "permute permute_copy transpose swapaxes swapdims transpose_copy t numpy_T mT adjoint "
         "t_copy", NONE, REORDERED),
    _row("Moveaxis", "numpy", "movedim moveaxis", NONE, REORDERED),
    _row("Swapaxes", "numpy", "", NONE, REORDERED),
    _row("ExpandDims", "numpy", "unsqueeze unsqueeze_copy", NONE, RESHAPED),
    _row("Squeeze", "numpy", "squeeze squeeze_copy", NONE, RESHAPED),
    _row("Ravel", "numpy", "", NONE, RESHAPED),
    _row("BroadcastTo", "numpy", "expand broadcast_to expand_copy expand_as", NONE, RESHAPED),
    _row("DepthToSpace", "nn", "", NONE, MIXED),
    _row("SpaceToDepth", "nn", "", NONE, MIXED),
    _row("Stack", "numpy", "stack hstack vstack dstack", NONE, REORDERED),
    _row("Unstack", "core", "unbind unbind_copy", NONE, REORDERED),
    _row("Split", "numpy", "chunk unsafe_chunk split unsafe_split split_copy tensor_split", NONE, REORDERED),
    _row("SplitBySize", "", "split_with_sizes unsafe_split_with_sizes split_with_sizes_copy", NONE, REORDERED),
    _row("GetItem", "numpy", "slice slice_copy select select_copy narrow narrow_copy", NONE, REORDERED),
    _row("Slice", "core", "", NONE, REORDERED),
    _row("Take", "numpy", "index_select gather take_along_dim index _unsafe_index topk sort unfold "
         "unfold_copy im2col", NONE, REORDERED),
    _row("Pad", "numpy", "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
         "replication_pad2d replication_pad3d", NONE, REORDERED),
    _row("Flip", "numpy", "flip rot90", NONE, REORDERED),
    _row("Roll", "numpy", "roll", NONE, REORDERED),
    _row("Repeat", "numpy", "repeat_interleave", NONE, REORDERED),
    _row("Tile", "numpy", "repeat tile", NONE, REORDERED),
    _row("Fold", "", "col2im", OTHER, MIXED),
    _row("OneHot", "nn", "one_hot", NONE, MIXED),
    _row("Scatter", "", "slice_scatter select_scatter copy index_put _unsafe_index_put tril triu", NONE, MIXED),

    # --- made of nothing
    _row("Arange", "numpy", "arange", NONE, MIXED),
    _row("Linspace", "numpy", "linspace", OTHER, MIXED),
    _row("Full", "numpy", "full zeros ones new_full new_zeros new_ones scalar_tensor", NONE, MIXED),
    _row("Empty", "", "empty new_empty empty_like", OTHER, MIXED),
    _row("Eye", "", "eye", NONE, MIXED),
)
# fmt: on
