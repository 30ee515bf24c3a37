"""Matrix products, einsums and attention between tensors; with a weight on the right they are dense layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlens.reference.aten.arguments import IN_EVAL, Arguments, Tensor, Translation, WeightName
from cnnlens.reference.aten.linear import dense
from cnnlens.reference.aten.operations import BY_RUNNING, bare
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.functions import of_one_dtype
from cnnlens.reference.bare.rules import broadcast, matmul
from cnnlens.reference.keras.attention import attend
from cnnlens.reference.operation import Shape

__all__: list[str] = []

Settings = Mapping[str, Any]


def _product(settings: Settings, a: Any, b: Any) -> Any:
    return np.matmul(*of_one_dtype(a, b))


@aten("matmul", "linalg_matmul", "mm", "bmm", "mv", "dot", "vdot")
def _matmul(args: Arguments) -> Translation:
    other = args.get("mat2", args.get("other", args.get("vec", args.get("tensor"))))
    if isinstance(args.main, Tensor) and isinstance(other, WeightName) and len(args.known(other)) == 2:
        return dense(args, args.main, other.name, None, turned=False)
    plain = all((args.shape(value) or ())[1:] for value in (args.main, other))
    return bare(args, "Matmul", _product, matmul if plain else BY_RUNNING, [args.main, other])


@aten("addmm", "baddbmm", "addbmm")
def _added(args: Arguments) -> Translation:
    batched = args.name == "baddbmm"
    if args.name == "addbmm":
        raise args.refuse("it is not computed; use baddbmm and a sum")
    added = args.main
    first, second = (args.get("batch1"), args.get("batch2")) if batched else (args.get("mat1"), args.get("mat2"))
    beta, alpha = args.get("beta", 1), args.get("alpha", 1)
    weights = isinstance(added, WeightName) and isinstance(second, WeightName) and isinstance(first, Tensor)
    if weights and not batched and beta == 1 and alpha == 1 and len(args.known(added)) == 1:
        return dense(args, first, second.name, added.name, turned=False)

    def call(settings: Settings, c: Any, a: Any, b: Any) -> Any:
        product = np.matmul(a, b)
        return (c if beta == 1 else beta * c) + (product if alpha == 1 else alpha * product)

    def shape(settings: Settings, c: Any, a: Any, b: Any) -> Shape:
        return broadcast(settings, c, matmul(settings, a, b))

    kind = "Matmul" if beta == 1 and alpha == 1 else "ScaledMatmul"
    return bare(args, kind, call, shape, [added, first, second], {"beta": beta, "alpha": alpha})


@aten("bilinear")
def _bilinear(args: Arguments) -> Translation:
    def call(settings: Settings, a: Any, b: Any, weight: Any, *bias: Any) -> Any:
        product = np.einsum("...i,oij,...j->...o", a, weight, b, optimize=True)
        return product + bias[0] if bias else product

    operands = [args.get(name) for name in ("input1", "input2", "weight", "bias") if args.get(name) is not None]
    return bare(args, "Einsum", call, BY_RUNNING, operands)


@aten("_trilinear")
def _trilinear(args: Arguments) -> Translation:
    """Three tensors with axes of one put in, multiplied, and summed over some axes: a bilinear layer, decomposed."""
    lifted = [args.axes(f"expand{number}") or [] for number in (1, 2, 3)]
    axes = tuple(args.axes("sumdim") or ())

    def call(settings: Settings, *operands: Any) -> Any:
        a, b, c = (np.expand_dims(x, tuple(places)) for x, places in zip(operands, lifted, strict=True))
        letters = "abcdefghijklmnop"[: a.ndim]
        kept = "".join(letter for axis, letter in enumerate(letters) if axis not in axes)
        return np.einsum(f"{letters},{letters},{letters}->{kept}", a, b, c, optimize=True)

    return bare(args, "Einsum", call, BY_RUNNING, [args.get(f"i{number}") for number in (1, 2, 3)])


@aten("einsum")
def _einsum(args: Arguments) -> Translation:
    equation = str(args.get("equation")).replace(" ", "")

    def call(settings: Settings, operands: Any) -> Any:
        return np.einsum(equation, *of_one_dtype(*operands), optimize=True)

    return bare(args, "Einsum", call, BY_RUNNING, [args.get("tensors")], {"subscripts": equation})


@aten(
    "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)  # fmt: skip
def _attention(args: Arguments) -> Translation:
    if args.number("dropout_p", 0.0):
        raise args.refuse(f"it drops values at random (training); {IN_EVAL}")
    factor = args.get("scale")
    causal, shared = args.flag("is_causal"), args.flag("enable_gqa")
    mask = args.get("attn_mask", args.get("attn_bias"))

    def call(settings: Settings, query: Any, key: Any, value: Any, *masks: Any) -> Any:
        scale = 1 / np.sqrt(query.shape[-1]) if factor is None else factor
        if shared:
            key, value = (np.repeat(x, query.shape[-3] // x.shape[-3], axis=-3) for x in (key, value))
        return attend(query, key, value, scale, causal=causal, masks=masks)[0]

    def shape(settings: Settings, query: Any, key: Any, value: Any, *masks: Any) -> Shape:
        return (*query[:-1], value[-1])

    operands = [args.get("query"), args.get("key"), args.get("value"), *([] if mask is None else [mask])]
    settings = {"scale": factor, "is_causal": causal, "enable_gqa": shared}
    return bare(args, "ScaledDotProductAttention", call, shape, operands, settings)
