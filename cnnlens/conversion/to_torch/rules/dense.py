"""Dense layers, einsums and embeddings."""

from __future__ import annotations

import re
from typing import cast

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.names import comment
from cnnlens.conversion.to_torch.rules.activations import activated
from cnnlens.conversion.to_torch.value import Value
from cnnlens.reference.keras.dense import Dense, EinsumDense

__all__: list[str] = []


@rule("Dense")
def dense(site: CallSite) -> Value:
    operation = cast("Dense", site.operation)
    x = site.x if site.x.rank == 2 else site.x.last([-1])
    inputs, units = site.weights.shape("kernel")
    arrays = {"weight": site.weights.arranged("kernel", "Dense", x.flat)}
    if operation.use_bias:
        arrays["bias"] = site.weights.arranged("bias", "Dense")
    comments: list[str] = []
    if x.flat is not None:
        letters = "DHW"[-(len(x.flat.sizes) - 1) :] if x.flat.standard else ""
        was = ", ".join([*letters, "C"]) if letters else "as Keras has them"
        now = ", ".join(["C", *letters]) if letters else "as they are here"
        comments = site.remark(
            f"flat {x.flat}",
            f"Keras flattens ({was}) {x.flat.sizes}, this file ({now}) {x.flat.ordered_sizes}: "
            "the columns of the weight are in this file's order.",
        )
    elif x.text != site.x.text:
        site.note("dense-last", "Keras' Dense works on the last axis, the channels.", "Channels last for the Dense.")
    module = site.module(
        f"nn.Linear({inputs}, {units}{'' if operation.use_bias else ', bias=False'})", arrays, comments=comments
    )
    result = Value(f"{module}({x.text})", (*x.shape[:-1], units), x.order, site.axis)
    return activated(site, result, site.config.get("activation"))


@rule("EinsumDense")
def einsum_dense(site: CallSite) -> Value:
    operation = cast("EinsumDense", site.operation)
    if not re.fullmatch(r"[A-Za-z.]+,[A-Za-z.]+->[A-Za-z.]+", operation.equation):
        raise site.refuse(f"its equation '{comment(operation.equation)}' is none that is understood")
    x = site.x.plain()
    operand, kernel, made = operation.equation.replace("->", ",").split(",")
    if "." in operand:
        x = x.keras()
        equation = operation.equation
    else:
        # An einsum takes its axes in any order, if the letters are in the same.
        equation = f"{''.join(operand[axis] for axis in x.order)},{kernel}->{made}"
    weight = site.parameter(
        site.weights.shape("kernel"),
        site.weights.kept("kernel"),
        suffix="kernel",
        comments=site.remark("einsum", "The kernel of an EinsumDense keeps the axes that its equation names."),
    )
    text = f'torch.einsum("{equation}", {x.text}, {weight})'
    if operation.use_bias:
        bias = site.parameter(site.weights.shape("bias"), site.weights.kept("bias"), suffix="bias")
        text = f"{site.let(text, 'product')} + {bias}"
    shape = site.shape
    if operation.use_bias and site.config.get("activation") not in (None, "linear"):
        text = site.let(text, "product")
    return activated(site, Value(text, shape, tuple(range(len(shape))), site.axis), site.config.get("activation"))


@rule("Embedding")
def embedding(site: CallSite) -> Value:
    rows, width = site.weights.shape("embeddings")
    x = site.x.keras()
    module = site.module(f"nn.Embedding({rows}, {width})", {"weight": site.weights.arranged("embeddings", "Embedding")})
    shape = (*x.shape, width)
    return Value(f"{module}({x.text}.long())", shape, tuple(range(len(shape))), site.axis)
