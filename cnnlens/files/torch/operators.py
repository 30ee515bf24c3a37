"""PyTorch's operators with the names of their arguments, for callers that give them by place.

A module's attributes and TorchScript's code say arguments in the order of the operator's schema; the reference and
torch itself take them by name. Source: ``native_functions.yaml`` of torch 2.13; ``tests/files/test_modules.py`` holds
each line against the torch that is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnlens.files.torch.program import Value
from cnnlens.kinds import OPERATORS

__all__ = ["SCHEMAS", "named_arguments", "schemas_of"]

_CONVOLUTION = "input weight bias stride padding dilation groups"
_TRANSPOSED = "input weight bias stride padding output_padding groups dilation"
_POOL = "self kernel_size stride padding"
_RECURRENT = "input hx params has_biases num_layers dropout train bidirectional batch_first"
_ANY = "convolution input weight bias stride padding dilation transposed output_padding groups"
_MADE = "dtype layout device pin_memory"

# A line an operator and overload; of several overloads, those that say more come first.
_LINES = f"""
conv1d.default {_CONVOLUTION}
conv2d.default {_CONVOLUTION}
conv3d.default {_CONVOLUTION}
_{_ANY.replace(" ", ".default ", 1)} benchmark deterministic cudnn_enabled allow_tf32
{_ANY.replace(" ", ".default ", 1)}
_convolution_mode.default {_CONVOLUTION}
conv_transpose1d.default {_TRANSPOSED}
conv_transpose2d.input {_TRANSPOSED}
conv_transpose3d.input {_TRANSPOSED}
linear.default input weight bias
bilinear.default input1 input2 weight bias
batch_norm.default input weight bias running_mean running_var training momentum eps cudnn_enabled
instance_norm.default input weight bias running_mean running_var use_input_stats momentum eps cudnn_enabled
group_norm.default input num_groups weight bias eps cudnn_enabled
layer_norm.default input normalized_shape weight bias eps cudnn_enable
rms_norm.default input normalized_shape weight eps
prelu.default self weight
embedding.default weight indices padding_idx scale_grad_by_freq sparse
max_pool1d.default {_POOL} dilation ceil_mode
max_pool2d.default {_POOL} dilation ceil_mode
max_pool3d.default {_POOL} dilation ceil_mode
avg_pool1d.default {_POOL} ceil_mode count_include_pad
avg_pool2d.default {_POOL} ceil_mode count_include_pad divisor_override
avg_pool3d.default {_POOL} ceil_mode count_include_pad divisor_override
adaptive_avg_pool1d.default self output_size
adaptive_avg_pool2d.default self output_size
adaptive_avg_pool3d.default self output_size
adaptive_max_pool1d.default self output_size
adaptive_max_pool2d.default self output_size
adaptive_max_pool3d.default self output_size
upsample_nearest1d.vec input output_size scale_factors
upsample_nearest2d.vec input output_size scale_factors
upsample_nearest3d.vec input output_size scale_factors
_upsample_nearest_exact1d.vec input output_size scale_factors
_upsample_nearest_exact2d.vec input output_size scale_factors
_upsample_nearest_exact3d.vec input output_size scale_factors
upsample_linear1d.vec input output_size align_corners scale_factors
upsample_bilinear2d.vec input output_size align_corners scale_factors
upsample_bicubic2d.vec input output_size align_corners scale_factors
upsample_trilinear3d.vec input output_size align_corners scale_factors
pixel_shuffle.default self upscale_factor
pixel_unshuffle.default self downscale_factor
channel_shuffle.default self groups
dropout.default input p train
feature_dropout.default input p train
alpha_dropout.default input p train
feature_alpha_dropout.default input p train
leaky_relu.default self negative_slope
elu.default self alpha scale input_scale
celu.default self alpha
gelu.default self approximate
glu.default self dim
hardtanh.default self min_val max_val
softplus.default self beta threshold
softshrink.default self lambd
hardshrink.default self lambd
threshold.default self threshold value
softmax.int self dim dtype
log_softmax.int self dim dtype
add.Tensor self other alpha
sub.Tensor self other alpha
rsub.Tensor self other alpha
mul.Tensor self other
div.Tensor_mode self other rounding_mode
div.Tensor self other
pow.Tensor_Tensor self exponent
clamp.default self min max
clamp_min.default self min
clamp_max.default self max
addmm.default self mat1 mat2 beta alpha
baddbmm.default self batch1 batch2 beta alpha
mm.default self mat2
bmm.default self mat2
matmul.default self other
einsum.default equation tensors path
scaled_dot_product_attention.default query key value attn_mask dropout_p is_causal scale enable_gqa
where.self condition self other
masked_fill.Scalar self mask value
mean.dim self dim keepdim dtype
mean.default self dtype
sum.dim_IntList self dim keepdim dtype
sum.default self dtype
var.dim self dim unbiased keepdim
var.correction self dim correction keepdim
std.dim self dim unbiased keepdim
std.correction self dim correction keepdim
max.dim self dim keepdim
max.other self other
max.default self
min.dim self dim keepdim
min.other self other
min.default self
amax.default self dim keepdim
amin.default self dim keepdim
argmax.default self dim keepdim
argmin.default self dim keepdim
logsumexp.default self dim keepdim
norm.ScalarOpt_dim self p dim keepdim
linalg_vector_norm.default self ord dim keepdim dtype
cumsum.default self dim dtype
cat.default tensors dim
stack.default tensors dim
chunk.default self chunks dim
split.Tensor self split_size dim
split_with_sizes.default self split_sizes dim
unbind.int self dim
flatten.using_ints self start_dim end_dim
unflatten.int self dim sizes
view.default self size
reshape.default self shape
permute.default self dims
transpose.int self dim0 dim1
unsqueeze.default self dim
squeeze.dim self dim
squeeze.default self
expand.default self size implicit
repeat.default self repeats
flip.default self dims
roll.default self shifts dims
slice.Tensor self dim start end step
select.int self dim index
narrow.default self dim start length
index_select.default self dim index
gather.default self dim index sparse_grad
index.Tensor self indices
pad.default self pad mode value
constant_pad_nd.default self pad value
reflection_pad1d.default self padding
reflection_pad2d.default self padding
reflection_pad3d.default self padding
replication_pad1d.default self padding
replication_pad2d.default self padding
replication_pad3d.default self padding
im2col.default self kernel_size dilation padding stride
col2im.default self output_size kernel_size dilation padding stride
contiguous.default self memory_format
clone.default self memory_format
to.dtype self dtype non_blocking copy memory_format
zeros.default size {_MADE}
ones.default size {_MADE}
full.default size fill_value {_MADE}
arange.start_step start end step {_MADE}
arange.start start end {_MADE}
arange.default end {_MADE}
lstm.input {_RECURRENT}
gru.input {_RECURRENT}
rnn_tanh.input {_RECURRENT}
rnn_relu.input {_RECURRENT}
"""

Schema = tuple[str, tuple[str, ...]]

SCHEMAS: dict[str, list[Schema]] = {}
"""Overloads by the operator's name without namespace: the overload's name, and the names of its arguments in order."""
for _line in _LINES.split("\n"):
    _operator, _, _arguments = _line.partition(" ")
    if _operator:
        _name, _, _overload = _operator.partition(".")
        SCHEMAS.setdefault(_name, []).append((_overload, tuple(_arguments.split())))

_OF_TWO = ("self", "other")


def schemas_of(name: str) -> Sequence[Schema]:
    """List the overloads of an operator; those that are not in the table take ``self`` alone, or ``self, other``."""
    if name in SCHEMAS:
        return SCHEMAS[name]
    return (("default", ("self",)), ("Tensor", _OF_TWO)) if name in OPERATORS else ()


def named_arguments(name: str, given: Sequence[Any], by_name: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Give the overload that is meant and its arguments by name; None where the table has none that takes them.

    Args:
        name: The operator without namespace and overload, its in-place form without the underscore.
        given, by_name: What it is called with, a ``Value`` for a tensor.
    """
    for overload, names in schemas_of(name):
        if len(given) <= len(names):
            arguments = {**dict(zip(names, given, strict=False)), **by_name}
            if set(arguments) <= set(names) and all(_fits(each, value) for each, value in arguments.items()):
                return overload, arguments
    return None


def _fits(name: str, value: Any) -> bool:
    """Whether an argument of this name may be such a value: a dimension is no tensor, and an operand no text."""
    if name in ("dim", "keepdim", "rounding_mode", "start", "step"):
        return not isinstance(value, Value)
    if name == "other":
        return isinstance(value, (Value, int, float))
    return not (name in ("dtype", "unbiased") and isinstance(value, (Value, list)))
