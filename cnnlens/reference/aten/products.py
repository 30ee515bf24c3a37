"""Matrix products, einsums and attention between tensors; with a weight on the right they are dense layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlens.reference.aten.given import Given, Tensor, Translation, WeightName
from cnnlens.reference.aten.linear import dense
from cnnlens.reference.aten.operations import BY_RUNNING, bare
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.functions import of_one_dtype
from cnnlens.reference.bare.rules import broadcast, matmul
from cnnlens.reference.operation import Array, Shape

__all__: list[str] = []

Settings = Mapping[str, Any]


def _product(settings: Settings, a: Any, b: Any) -> Any:
    return np.matmul(*of_one_dtype(a, b))


@aten("matmul", "linalg_matmul", "mm", "bmm", "mv", "dot", "vdot")
def _matmul(given: Given) -> Translation:
    other = given.get("mat2", given.get("other", given.get("vec", given.get("tensor"))))
    if isinstance(given.main, Tensor) and isinstance(other, WeightName) and len(given.known(other)) == 2:
        return dense(given, given.main, other.name, None, turned=False)
    plain = all((given.shape(value) or ())[1:] for value in (given.main, other))
    return bare(given, "Matmul", _product, matmul if plain else BY_RUNNING, [given.main, other])


@aten("addmm", "baddbmm", "addbmm")
def _added(given: Given) -> Translation:
    batched = given.name == "baddbmm"
    if given.name == "addbmm":
        raise given.refuse("it is not computed; use baddbmm and a sum")
    added = given.main
    first, second = (given.get("batch1"), given.get("batch2")) if batched else (given.get("mat1"), given.get("mat2"))
    beta, alpha = given.get("beta", 1), given.get("alpha", 1)
    weights = isinstance(added, WeightName) and isinstance(second, WeightName) and isinstance(first, Tensor)
    if weights and not batched and beta == 1 and alpha == 1 and len(given.known(added)) == 1:
        return dense(given, first, second.name, added.name, turned=False)

    def call(settings: Settings, c: Any, a: Any, b: Any) -> Any:
        product = np.matmul(a, b)
        return (c if beta == 1 else beta * c) + (product if alpha == 1 else alpha * product)

    def shape(settings: Settings, c: Any, a: Any, b: Any) -> Shape:
        return broadcast(settings, c, matmul(settings, a, b))

    kind = "Matmul" if beta == 1 and alpha == 1 else "ScaledMatmul"
    return bare(given, kind, call, shape, [added, first, second], {"beta": beta, "alpha": alpha})


@aten("bilinear")
def _bilinear(given: Given) -> Translation:
    def call(settings: Settings, a: Any, b: Any, weight: Any, *bias: Any) -> Any:
        product = np.einsum("...i,oij,...j->...o", a, weight, b, optimize=True)
        return product + bias[0] if bias else product

    operands = [given.get(name) for name in ("input1", "input2", "weight", "bias") if given.get(name) is not None]
    return bare(given, "Einsum", call, BY_RUNNING, operands)


@aten("_trilinear")
def _trilinear(given: Given) -> Translation:
    """Three tensors with axes of one put in, multiplied, and summed over some axes: a bilinear layer, decomposed."""
    lifted = [given.axes(f"expand{number}") or [] for number in (1, 2, 3)]
    axes = tuple(given.axes("sumdim") or ())

    def call(settings: Settings, *operands: Any) -> Any:
        a, b, c = (np.expand_dims(x, tuple(places)) for x, places in zip(operands, lifted, strict=True))
        letters = "abcdefghijklmnop"[: a.ndim]
        kept = "".join(letter for axis, letter in enumerate(letters) if axis not in axes)
        return np.einsum(f"{letters},{letters},{letters}->{kept}", a, b, c, optimize=True)

    return bare(given, "Einsum", call, BY_RUNNING, [given.get(f"i{number}") for number in (1, 2, 3)])


@aten("einsum")
def _einsum(given: Given) -> Translation:
    equation = str(given.get("equation")).replace(" ", "")

    def call(settings: Settings, operands: Any) -> Any:
        return np.einsum(equation, *of_one_dtype(*operands), optimize=True)

    return bare(given, "Einsum", call, BY_RUNNING, [given.get("tensors")], {"subscripts": equation})


@aten(
    "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)  # fmt: skip
def _attention(given: Given) -> Translation:
    if given.number("dropout_p", 0.0):
        raise given.refuse("it drops values at random (training); call model.eval() before export")
    factor = given.get("scale")
    causal, shared = given.flag("is_causal"), given.flag("enable_gqa")
    mask = given.get("attn_mask", given.get("attn_bias"))

    def call(settings: Settings, query: Any, key: Any, value: Any, *masks: Any) -> Any:
        scale = 1 / np.sqrt(query.shape[-1]) if factor is None else factor
        if shared:
            key, value = (np.repeat(x, query.shape[-3] // x.shape[-3], axis=-3) for x in (key, value))
        logits: Array = np.matmul(query, np.swapaxes(key, -1, -2)) * query.dtype.type(scale)
        if causal:
            ahead = np.triu(np.ones(logits.shape[-2:], np.bool_), 1)
            logits = np.where(ahead, logits.dtype.type(-np.inf), logits)
        for one in masks:
            logits = np.where(one, logits, logits.dtype.type(-np.inf)) if one.dtype == np.bool_ else logits + one
        top = logits.max(axis=-1, keepdims=True)
        share = np.exp(logits - np.where(np.isfinite(top), top, 0))
        total = share.sum(axis=-1, keepdims=True)
        # A row that may look at nothing gives zeros.
        return np.matmul(share / np.where(total > 0, total, 1), value)

    def shape(settings: Settings, query: Any, key: Any, value: Any, *masks: Any) -> Shape:
        return (*query[:-1], value[-1])

    operands = [given.get("query"), given.get("key"), given.get("value"), *([] if mask is None else [mask])]
    settings = {"scale": factor, "is_causal": causal, "enable_gqa": shared}
    return bare(given, "ScaledDotProductAttention", call, shape, operands, settings)
