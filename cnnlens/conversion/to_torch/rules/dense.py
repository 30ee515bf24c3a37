"""Dense layers, einsums and embeddings."""

from __future__ import annotations

import re
from typing import cast

from cnnlens.conversion.to_torch.held import Held
from cnnlens.conversion.to_torch.names import comment
from cnnlens.conversion.to_torch.rules.activations import activated
from cnnlens.conversion.to_torch.use import Use, rule
from cnnlens.reference.keras.dense import Dense, EinsumDense

__all__: list[str] = []


@rule("Dense")
def dense(use: Use) -> Held:
    operation = cast("Dense", use.operation)
    x = use.x if use.x.rank == 2 else use.x.last([-1])
    inputs, units = use.weights.shape("kernel")
    arrays = {"weight": use.weights.arranged("kernel", "Dense", x.flat)}
    if operation.use_bias:
        arrays["bias"] = use.weights.arranged("bias", "Dense")
    comments: list[str] = []
    if x.flat is not None:
        letters = "DHW"[-(len(x.flat.sizes) - 1) :] if x.flat.standard else ""
        was = ", ".join([*letters, "C"]) if letters else "as Keras has them"
        now = ", ".join(["C", *letters]) if letters else "as they are here"
        comments = use.remark(
            f"flat {x.flat}",
            f"Keras flattens ({was}) {x.flat.sizes}, this file ({now}) {x.flat.held_sizes}: "
            "the columns of the weight are in this file's order.",
        )
    elif x.text != use.x.text:
        use.note("dense-last", "Keras' Dense works on the last axis, the channels.", "Channels last for the Dense.")
    module = use.module(
        f"nn.Linear({inputs}, {units}{'' if operation.use_bias else ', bias=False'})", arrays, comments=comments
    )
    result = Held(f"{module}({x.text})", (*x.shape[:-1], units), x.order, use.axis)
    return activated(use, result, use.config.get("activation"))


@rule("EinsumDense")
def einsum_dense(use: Use) -> Held:
    operation = cast("EinsumDense", use.operation)
    if not re.fullmatch(r"[A-Za-z.]+,[A-Za-z.]+->[A-Za-z.]+", operation.equation):
        raise use.refuse(f"its equation '{comment(operation.equation)}' is none that is understood")
    x = use.x.plain()
    given, kernel, made = operation.equation.replace("->", ",").split(",")
    if "." in given:
        x = x.keras()
        equation = operation.equation
    else:
        # An einsum takes its axes in any order, if the letters are in the same.
        equation = f"{''.join(given[axis] for axis in x.order)},{kernel}->{made}"
    weight = use.parameter(
        use.weights.shape("kernel"),
        use.weights.kept("kernel"),
        suffix="kernel",
        comments=use.remark("einsum", "The kernel of an EinsumDense keeps the axes that its equation names."),
    )
    text = f'torch.einsum("{equation}", {x.text}, {weight})'
    if operation.use_bias:
        bias = use.parameter(use.weights.shape("bias"), use.weights.kept("bias"), suffix="bias")
        text = f"{use.let(text, 'product')} + {bias}"
    shape = use.shape
    if operation.use_bias and use.config.get("activation") not in (None, "linear"):
        text = use.let(text, "product")
    return activated(use, Held(text, shape, tuple(range(len(shape))), use.axis), use.config.get("activation"))


@rule("Embedding")
def embedding(use: Use) -> Held:
    rows, width = use.weights.shape("embeddings")
    x = use.x.keras()
    module = use.module(f"nn.Embedding({rows}, {width})", {"weight": use.weights.arranged("embeddings", "Embedding")})
    shape = (*x.shape, width)
    return Held(f"{module}({x.text}.long())", shape, tuple(range(len(shape))), use.axis)
