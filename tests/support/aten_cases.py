"""Calls of PyTorch's operators with numbers, one line each: what the reference is held against, in float64 and float32.

Sizes all differ, so that no wrong axis passes.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.support.aten_calls import AtenCall, called, draw  # noqa: E402

aten = torch.ops.aten
X = draw(2, 6, 9, 11)
Y = draw(2, 6, 9, 11, seed=1)
P = draw(2, 6, 9, 11, positive=True)
ROW = draw(11, seed=2)
V = draw(5, 4, 7)
INDEX = torch.tensor([3, 0, 2, 2])
MASK = X > 0.3

UNARY = (
    "abs acos acosh asin asinh atan atanh ceil celu cos cosh elu erf erfc exp exp2 expm1 floor frac gelu hardshrink "
    "hardsigmoid hardswish hardtanh isfinite isinf isnan leaky_relu log log10 log1p log2 log_sigmoid logical_not mish "
    "neg reciprocal relu relu6 round rsqrt selu sgn sigmoid sign silu sin sinh softplus softshrink sqrt square tan "
    "tanh trunc clone contiguous alias detach lift_fresh_copy positive zeros_like ones_like"
).split()


def unary(name: str) -> AtenCall:
    """A call of a function of one number, on numbers that it is defined for."""
    x = P if name in ("log", "log2", "log10", "log1p", "rsqrt", "sqrt") else X
    x = X * 0.125 if name in ("acos", "asin", "atanh") else P + 1 if name == "acosh" else x
    return called(getattr(aten, name).default, x)


BINARY = "add sub mul div pow maximum minimum fmax fmin fmod remainder floor_divide atan2 hypot logaddexp".split()
COMPARISONS = "gt ge lt le eq ne".split()


def two(name: str) -> Any:
    """The overload of an operator that takes two tensors."""
    packet = getattr(aten, name)
    if name == "pow":
        return packet.Tensor_Tensor
    return packet.Tensor if hasattr(packet, "Tensor") else packet.default


def pair(name: str) -> tuple[Any, Any]:
    """Operands; of comparisons some are equal."""
    return P if name == "pow" else X, X.round() if name in COMPARISONS else Y


SCALAR = [
    *((name, "Tensor", 1.7) for name in ("add", "sub", "mul", "div")),
    *((name, "Scalar", -0.6) for name in ("add", "sub", "mul", "div", "fmod", "remainder", "rsub", *COMPARISONS)),
    ("pow", "Tensor_Scalar", 2.0), ("pow", "Tensor_Scalar", 3), ("pow", "Tensor_Scalar", 0.75),
]  # fmt: skip


CASES: dict[str, AtenCall] = {
    # --- linear
    "linear": called(aten.linear.default, V, draw(3, 7), draw(3)),
    "linear-plain": called(aten.linear.default, draw(4, 7), draw(3, 7)),
    "linear-vector": called(aten.linear.default, draw(7), draw(3, 7), draw(3), fixed=True),
    "addmm": called(aten.addmm.default, draw(3), draw(4, 7), draw(7, 3), weights=("self", "mat2")),
    "addmm-tensors": called(aten.addmm.default, draw(3), draw(4, 7), draw(7, 3), weights=("self",)),
    "addmm-scaled": called(aten.addmm.default, draw(3), draw(4, 7), draw(7, 3), weights=("self",), beta=2, alpha=0.5),
    "mm": called(aten.mm.default, draw(4, 7), draw(7, 3)),
    "mm-weight": called(aten.mm.default, draw(4, 7), draw(7, 3), weights=("mat2",)),
    "bmm": called(aten.bmm.default, draw(4, 7, 5), draw(4, 5, 3)),
    "matmul": called(aten.matmul.default, draw(4, 2, 7, 5), draw(2, 5, 3), fixed=True),
    "matmul-vector": called(aten.matmul.default, draw(4, 2, 7, 5), draw(5), weights=("other",)),
    "matmul-weight": called(aten.matmul.default, draw(4, 2, 7, 5), draw(5, 6), weights=("other",)),
    "weight-matmul": called(aten.matmul.default, draw(8, 7), draw(4, 7, 5), weights=("self",)),
    "baddbmm": called(aten.baddbmm.default, draw(4, 1, 3), draw(4, 7, 5), draw(4, 5, 3), beta=0.5),
    "einsum": called(aten.einsum.default, "bchw, bkhw -> bck", [X, draw(2, 4, 9, 11)]),
    "einsum-one": called(aten.einsum.default, "b...d->b...", [V]),
    "bilinear": called(
        aten.bilinear.default, draw(2, 5), draw(2, 4), draw(3, 5, 4), draw(3), weights=("weight", "bias")
    ),
    "attention": called(
        aten.scaled_dot_product_attention.default, draw(2, 3, 5, 4), draw(2, 3, 7, 4, seed=1), draw(2, 3, 7, 6)
    ),
    "attention-causal": called(
        aten.scaled_dot_product_attention.default, *(draw(2, 3, 5, 4, seed=i) for i in range(3)), None, 0.0, True
    ),
    "attention-mask": called(
        aten.scaled_dot_product_attention.default, draw(2, 3, 5, 4), draw(2, 3, 7, 4, seed=1), draw(2, 3, 7, 6),
        draw(5, 7), scale=0.3, weights=("attn_mask",),
    ),
    "attention-truth": called(
        aten.scaled_dot_product_attention.default, draw(2, 3, 5, 4), draw(2, 3, 7, 4, seed=1), draw(2, 3, 7, 6),
        draw(5, 7) > 0, weights=("attn_mask",),
    ),
    "conv2d-computed": called(aten.conv2d.default, X, draw(3, 6, 2, 4), weights=(), fixed=True),
    # --- normalisation
    "batch_norm": called(
        aten.batch_norm.default, X, draw(6), draw(6, seed=1), draw(6, seed=2), draw(6, positive=True), False, 0.1,
        1e-3, False,
    ),
    "batch_norm-vector": called(
        aten.batch_norm.default, draw(5, 6), None, None, draw(6, seed=2), draw(6, positive=True), False, 0.1, 1e-5,
        False,
    ),
    "instance_norm": called(aten.instance_norm.default, X, draw(6), draw(6), None, None, True, 0.1, 1e-5, False),
    "instance_norm-plain": called(aten.instance_norm.default, X, None, None, None, None, True, 0.1, 1e-5, False),
    "instance_norm-tracked": called(
        aten.instance_norm.default, X, draw(6), draw(6), draw(6), draw(6, positive=True), False, 0.1, 1e-5, False
    ),
    "group_norm": called(aten.group_norm.default, X, 3, draw(6), draw(6, seed=1), 1e-4),
    "group_norm-plain": called(aten.group_norm.default, X, 2),
    "layer_norm": called(aten.layer_norm.default, X, [9, 11], draw(9, 11), draw(9, 11, seed=1), 1e-3),
    "layer_norm-plain": called(aten.layer_norm.default, X, [11]),
    "layer_norm-no-bias": called(aten.layer_norm.default, X, [11], draw(11)),
    "rms_norm": called(aten.rms_norm.default, X, [11], draw(11), 1e-4),
    "rms_norm-plain": called(aten.rms_norm.default, X, [9, 11], None, 1e-4),
    # --- activations
    "gelu-tanh": called(aten.gelu.default, X, approximate="tanh"),
    "softplus-beta": called(aten.softplus.default, X * 9, 2.5, 11.0),
    "softplus-threshold": called(aten.softplus.default, X * 20),
    "elu-alpha": called(aten.elu.default, X, 0.7),
    "elu-scales": called(aten.elu.default, X, 0.7, 1.4, 0.3),
    "celu-alpha": called(aten.celu.default, X, 0.7),
    "leaky_relu-slope": called(aten.leaky_relu.default, X, 0.2),
    "leaky_relu-steep": called(aten.leaky_relu.default, X, 1.5),
    "leaky_relu-negative": called(aten.leaky_relu.default, X, -0.5),
    "rrelu": called(aten.rrelu.default, X),
    "hardtanh-limits": called(aten.hardtanh.default, X, -0.3, 0.8),
    "hardshrink-limit": called(aten.hardshrink.default, X, 0.9),
    "softshrink-limit": called(aten.softshrink.default, X, 0.9),
    "threshold": called(aten.threshold.default, X, 0.2, -3.0),
    "glu": called(aten.glu.default, X, 1),
    "softmax": called(aten.softmax.int, X, 1),
    "log_softmax": called(aten.log_softmax.int, X, 2),
    "_softmax": called(aten._softmax.default, X, -1, False),
    "_log_softmax": called(aten._log_softmax.default, X, 0, False, fixed=True),
    "prelu": called(aten.prelu.default, X, draw(6)),
    "prelu-one": called(aten.prelu.default, X, draw(1)),
    "prelu-vector": called(aten.prelu.default, draw(3, 6), draw(6)),
    "_prelu_kernel": called(aten._prelu_kernel.default, X, draw(1, 6, 1, 1)),
    "relu-of-a-weight": called(aten.relu.default, ROW, weights=("self",)),
    "glu-of-a-weight": called(aten.glu.default, draw(6, 3), 0, weights=("self",)),
    "dropout": called(aten.dropout.default, X, 0.5, False),
    "feature_dropout": called(aten.feature_dropout.default, X, 0.5, False),
    "alpha_dropout": called(aten.alpha_dropout.default, X, 0.5, False),
    # --- elementwise
    "add-alpha": called(aten.add.Tensor, X, Y, alpha=2.5),
    "sub-alpha": called(aten.sub.Tensor, X, Y, alpha=-2),
    "rsub-alpha": called(aten.rsub.Scalar, X, 1.5, 0.5),
    "rsub-tensor": called(aten.rsub.Tensor, X, Y),
    "div-floor": called(aten.div.Tensor_mode, X, Y, rounding_mode="floor"),
    "div-trunc": called(aten.div.Tensor_mode, X, Y, rounding_mode="trunc"),
    "weight-minus-tensor": called(aten.sub.Tensor, ROW, X, weights=("self",)),
    "pow-base": called(aten.pow.Scalar, 1.7, X),
    "clamp": called(aten.clamp.default, X, -0.2, 0.9),
    "clamp-low": called(aten.clamp.default, X, 0.1),
    "clamp-high": called(aten.clamp.default, X, None, 0.1),
    "clamp-tensors": called(aten.clamp.Tensor, X, draw(11) - 2, Y.abs()),
    "clamp_min": called(aten.clamp_min.default, X, 0.1),
    "clamp_max": called(aten.clamp_max.default, X, 0.1),
    "where": called(aten.where.self, MASK, X, Y),
    "where-row": called(aten.where.self, MASK, X, ROW, weights=("other",)),
    "where-number": called(aten.where.ScalarOther, MASK, X, -2.0),
    "where-first-number": called(aten.where.ScalarSelf, MASK, 0, X),
    "masked_fill": called(aten.masked_fill.Scalar, X, MASK[0, 0], -5.0, weights=("mask",)),
    "masked_fill-inf": called(aten.masked_fill.Scalar, X, MASK, float("-inf")),
    "logical_and": called(aten.logical_and.default, MASK, Y > 0),
    "bitwise_not": called(aten.bitwise_not.default, MASK),
    "round-decimals": called(aten.round.decimals, X, decimals=1),
    "full_like": called(aten.full_like.default, X, 0.5),
    "full_like-float": called(aten.full_like.default, INDEX, 0.5, dtype=torch.float32),
    "copy": called(aten.copy.default, X, ROW),
    "lerp": called(aten.lerp.Scalar, X, Y, 0.3),
    "lerp-weight": called(aten.lerp.Tensor, X, Y, P, weights=("weight",)),
    "addcmul": called(aten.addcmul.default, X, Y, P, value=0.7),
    "addcdiv": called(aten.addcdiv.default, X, Y, P, value=0.7),
    "nan_to_num": called(aten.nan_to_num.default, torch.log(X), 0.5, 3.0, -4.0),
    "mask-times-tensor": called(aten.mul.Tensor, MASK, X),
    # --- reductions
    "mean": called(aten.mean.default, X, fixed=True),
    "mean-map": called(aten.mean.dim, X, [2, 3]),
    "mean-map-kept": called(aten.mean.dim, X, [-1, -2], True),
    "mean-channels": called(aten.mean.dim, X, [1], True),
    "mean-tokens": called(aten.mean.dim, V, [1]),
    "sum": called(aten.sum.dim_IntList, X, [1, 3]),
    "sum-all": called(aten.sum.default, X, fixed=True),
    "amax": called(aten.amax.default, X, [2, 3]),
    "amax-one": called(aten.amax.default, X, [1], True),
    "amin": called(aten.amin.default, X, [-1]),
    "max": called(aten.max.default, X, fixed=True),
    "max-dim": called(aten.max.dim, X, 1),
    "max-other": called(aten.max.other, X, Y),
    "min-dim": called(aten.min.dim, X, 2, True),
    "prod": called(aten.prod.dim_int, X, 2),
    "argmax": called(aten.argmax.default, X, 1),
    "argmin": called(aten.argmin.default, X, 1, True),
    "any": called(aten.any.dim, MASK, 1),
    "std": called(aten.std.dim, X, [1]),
    "std-biased": called(aten.std.dim, X, [1, 2], False, True),
    "var-correction": called(aten.var.correction, X, [2], correction=2),
    "var_mean": called(aten.var_mean.correction, X, [1], correction=0, keepdim=True),
    "norm": called(aten.norm.ScalarOpt_dim, X, 2, [1], True),
    "norm-one": called(aten.linalg_vector_norm.default, X, 1, [1], True),
    "norm-inf": called(aten.linalg_vector_norm.default, X, float("inf"), [1]),
    "norm-three": called(aten.linalg_vector_norm.default, X, 3.0, [2]),
    "logsumexp": called(aten.logsumexp.default, X, [1]),
    "cumsum": called(aten.cumsum.default, X, 2),
    "cumprod": called(aten.cumprod.default, X, -1),
    # --- shapes
    "flatten": called(aten.flatten.using_ints, X, 1),
    "flatten-last": called(aten.flatten.using_ints, X, 2),
    "flatten-middle": called(aten.flatten.using_ints, X, 1, 2),
    "flatten-all": called(aten.flatten.using_ints, X, fixed=True),
    "view": called(aten.view.default, X, [2, 54, 11], fixed=True),
    "view-open": called(aten.view.default, X, [-1, 54, 11]),
    "view-fixed": called(aten.view.default, X, [2, -1], fixed=True),
    "reshape": called(aten.reshape.default, X.permute(0, 2, 3, 1), [2, 9, 66], fixed=True),
    "unflatten": called(aten.unflatten.int, X, 1, [3, -1]),
    "squeeze": called(aten.squeeze.default, X[:, :1]),
    "squeeze-dim": called(aten.squeeze.dim, X[:, :, :1], -2),
    "squeeze-dims": called(aten.squeeze.dims, X[:, :1, :1], [1, 2, 3]),
    "unsqueeze": called(aten.unsqueeze.default, X, -1),
    "permute": called(aten.permute.default, X, [0, 2, 3, 1]),
    "permute-of-a-weight": called(aten.permute.default, draw(3, 4), [1, 0], weights=("self",)),
    "transpose": called(aten.transpose.int, X, 1, -1),
    "t": called(aten.t.default, draw(3, 4), fixed=True),
    "mT": called(aten.mT.default, X),
    "movedim": called(aten.movedim.int, X, 1, 3),
    "movedim-several": called(aten.movedim.intlist, X, [1, 3], [3, 2]),
    "flip": called(aten.flip.default, X, [2, 3]),
    "rot90": called(aten.rot90.default, X, 1, [2, 3]),
    "roll": called(aten.roll.default, X, [2, -3], [2, 3]),
    "roll-flat": called(aten.roll.default, X, [5], fixed=True),
    "expand": called(aten.expand.default, X[:, :1], [-1, 4, -1, -1]),
    "expand-weight": called(aten.expand.default, draw(1, 3), [5, -1], weights=("self",)),
    "expand_as": called(aten.expand_as.default, draw(2, 6, 1, 11), X),
    "repeat": called(aten.repeat.default, V, [1, 3, 2]),
    "repeat-more": called(aten.repeat.default, V, [2, 1, 3, 1], fixed=True),
    "tile": called(aten.tile.default, V, [3, 2]),
    "repeat_interleave": called(aten.repeat_interleave.self_int, V, 3, 1),
    "pixel_shuffle": called(aten.pixel_shuffle.default, draw(2, 12, 3, 5), 2),
    "pixel_unshuffle": called(aten.pixel_unshuffle.default, draw(2, 3, 6, 10), 2),
    "channel_shuffle": called(aten.channel_shuffle.default, X, 3),
    "unfold": called(aten.unfold.default, X, 3, 4, 3),
    "im2col": called(aten.im2col.default, X, [3, 2], [1, 2], [1, 0], [2, 3]),
    "col2im": called(aten.col2im.default, draw(2, 18, 20), [8, 11], [3, 2], [1, 2], [1, 0], [2, 2]),
    # --- padding
    "pad": called(aten.pad.default, X, [1, 2, 3, 0]),
    "pad-value": called(aten.pad.default, X, [1, 2], "constant", 0.5),
    "pad-negative": called(aten.constant_pad_nd.default, X, [1, -2, -3, 1], 0.5),
    "pad-channels": called(aten.constant_pad_nd.default, X, [0, 0, 0, 0, 2, 1]),
    "pad-reflect": called(aten.pad.default, X, [1, 2, 3, 0], "reflect"),
    "pad-replicate": called(aten.pad.default, X, [1, 2, 3, 0], "replicate"),
    "pad-circular": called(aten.pad.default, X, [1, 2, 3, 0], "circular"),
    "reflection_pad2d": called(aten.reflection_pad2d.default, X, [1, 2, 3, 0]),
    "replication_pad3d": called(aten.replication_pad3d.default, draw(2, 3, 4, 5, 6), [1, 2, 3, 0, 2, 1]),
    # --- parts
    "slice": called(aten.slice.Tensor, X, 3, 2, 9, 3),
    "slice-end": called(aten.slice.Tensor, X, 2, -4, 9223372036854775807),
    "select": called(aten.select.int, X, 1, -2),
    "narrow": called(aten.narrow.default, X, 3, 2, 5),
    "slice_scatter": called(aten.slice_scatter.default, X, draw(2, 6, 4, 11), 2, 1, 9, 2),
    "select_scatter": called(aten.select_scatter.default, X, draw(2, 6, 11), 2, 4),
    "index_select": called(aten.index_select.default, X, 1, INDEX, weights=("index",)),
    "index": called(aten.index.Tensor, X, [None, None, INDEX], weights=("indices",)),
    "index-table": called(aten.index.Tensor, draw(5, 3), [INDEX], weights=("self", "indices")),
    "gather": called(aten.gather.default, V, 1, torch.tensor([[[1, 0], [3, 2]]] * 5)),
    "embedding": called(aten.embedding.default, draw(5, 3), torch.tensor([[1, 4, 0], [2, 2, 3]])),
    "embedding-tensor": called(aten.embedding.default, draw(5, 3), INDEX, weights=("indices",), fixed=True),
    "chunk": called(aten.chunk.default, X, 4, 3),
    "chunk-fewer": called(aten.chunk.default, X, 4, 1),
    "split": called(aten.split.Tensor, X, 4, 1),
    "split_with_sizes": called(aten.split_with_sizes.default, X, [1, 3, 2], 1),
    "tensor_split": called(aten.tensor_split.sections, X, 4, 3),
    "tensor_split-places": called(aten.tensor_split.indices, X, [2, 7], 3),
    "unbind": called(aten.unbind.int, X, 1),
    "cat": called(aten.cat.default, [X, draw(2, 3, 9, 11), draw(2, 1, 9, 11)], 1),
    "cat-last": called(aten.cat.default, [X, draw(2, 6, 9, 2)], -1),
    "stack": called(aten.stack.default, [X, Y, P], 2),
    "tril": called(aten.tril.default, X, 1),
    "triu": called(aten.triu.default, X, -1),
    "topk": called(aten.topk.default, X, 3, 1),
    "sort": called(aten.sort.default, X, 2, True),
    "to": called(aten.to.dtype, X, torch.float32),
}  # fmt: skip


def _recurrent(name: str, layers: int, both: bool, biased: bool, batch_first: bool) -> AtenCall:
    """A call of a recurrent layer with 5 inputs, 4 units, 7 steps of 3 examples."""
    gates, directions = {"lstm": 4, "gru": 3}.get(name, 1), 1 + both
    params: list[Any] = []
    for layer in range(layers):
        width = 5 if not layer else 4 * directions
        for direction in range(directions):
            shapes = [(gates * 4, width), (gates * 4, 4), *([(gates * 4,)] * 2 if biased else [])]
            params += [draw(*shape, seed=9 * layer + direction + 3 * n) * 0.5 for n, shape in enumerate(shapes)]
    x = draw(3, 7, 5) if batch_first else draw(7, 3, 5)
    states = [draw(layers * directions, 3, 4, seed=seed) for seed in range(2 if name == "lstm" else 1)]
    op, hx = getattr(aten, name).input, states if name == "lstm" else states[0]
    call = called(op, x, hx, params, biased, layers, 0.0, False, both, batch_first, weights=(), fixed=True)
    # The weights are the layer's, each under its own name.
    call.arguments["params"] = [{"weight": f"w{number}"} for number in range(len(params))]
    call.weights = {f"w{number}": one.numpy() for number, one in enumerate(params)}
    call.tensors = call.tensors[: 1 + len(states)]
    return call


RECURRENT = {
    f"{name}-{layers}{'-both' * both}{'-plain' * (not biased)}{'-first' * first}": _recurrent(
        name, layers, both, biased, first
    )
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    for layers, both, biased, first in ((1, False, True, True), (2, True, True, False), (3, False, False, True))
}
