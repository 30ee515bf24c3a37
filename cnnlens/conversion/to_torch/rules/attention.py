"""Attention: projections as linear layers, heads as axes, and PyTorch's own function between them."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from cnnlens.conversion.to_torch.call_site import CallSite, Results, rule
from cnnlens.conversion.to_torch.value import Value, listed, shown
from cnnlens.conversion.to_torch.weights import Entry
from cnnlens.reference.keras.attention import HeadAttention, PlainAttention

__all__: list[str] = []


def _tensor(site: CallSite, value: Any) -> Value:
    if not isinstance(value, Value):
        raise site.refuse("it is called on something other than tensors")
    return value.keras()


def _attended(site: CallSite, texts: tuple[str, str, str], causal: bool, wanted: bool, plain: bool) -> tuple[str, str]:
    """The code of what is taken, and of the shares where they are wanted; ``plain`` scores have no factor."""
    query, key, value = texts
    if wanted:
        width = "" if plain else f" / {query}.shape[-1] ** 0.5"
        return _of_scores(site, f"{query} @ {key}.transpose(-2, -1){width}", value, causal)
    settings = (", is_causal=True" if causal else "") + (", scale=1.0" if plain else "")
    return f"F.scaled_dot_product_attention({query}, {key}, {value}{settings})", ""


def _of_scores(site: CallSite, text: str, value: str, causal: bool) -> tuple[str, str]:
    scores = site.let(text, "scores")
    if causal:
        site.note("causal", "A token takes nothing from those behind it.")
        scores = site.let(f"{scores} + torch.full_like({scores}, -torch.inf).triu(1)", "scores")
    shares = site.let(f"{scores}.softmax(dim=-1)", "shares")
    return f"{shares} @ {value}", shares


def _linear(site: CallSite, name: str, sizes: tuple[int, int], biased: bool) -> str:
    roles = {"weight": f"{name}_dense/kernel"} | ({"bias": f"{name}_dense/bias"} if biased else {})
    inner, outer = sizes

    def entry(key: str, role: str) -> Entry:
        if key == "bias":
            return site.weights.entry(role, lambda array: array.reshape(outer))
        return site.weights.entry(role, lambda array: array.reshape(inner, outer).T)

    return site.module(
        f"nn.Linear({inner}, {outer}{'' if biased else ', bias=False'})",
        {key: entry(key, role) for key, role in roles.items()},
        suffix=name,
        main=name == "output",
    )


@rule("MultiHeadAttention", "GroupQueryAttention")
def head_attention(site: CallSite) -> Results:
    operation = cast("HeadAttention", site.operation)
    found = operation.operands(site.args, site.kwargs)
    causal, wanted = found[3:]
    query, key, value = (_tensor(site, one) for one in found[:3])
    rank = query.rank
    axes = operation.tokens(rank)
    others = [axis for axis in range(rank - 1) if axis not in axes]
    order = [*others, rank - 1, *axes, rank]
    place = len(others) + 1
    if not query.text.isidentifier():
        alike = key.text == query.text, value.text == query.text
        query = query.new(site.let(query.text, "tokens"))
        key, value = (one.new(query.text) if same else one for one, same in zip((key, value), alike, strict=True))
    site.note("heads", "Attention: heads in front of the tokens, each with a width of its own.")

    def projected(name: str, x: Value, heads: int, width: int) -> str:
        linear = _linear(site, name, (cast("int", x.shape[-1]), heads * width), operation.use_bias)
        return f"{linear}({x.text}).unflatten(-1, ({heads}, {width}))"

    def laid(name: str, x: Value, heads: int, width: int) -> str:
        variable = site.temporary(name)
        site.statement(f"{variable} = {projected(name, x, heads, width)}")
        text = f"{variable}.permute({listed(order)})"
        if len(axes) > 1:
            text = f"{text}.flatten({place}, {place + len(axes) - 1})"
        if heads != operation.heads:
            text = f"{text}.repeat_interleave({operation.heads // heads}, dim={place - 1})"
        site.statement(f"{variable} = {text}")
        return variable

    texts = (
        laid("query", query, operation.heads, operation.width),
        laid("key", key, operation.shared, operation.width),
        laid("value", value, operation.shared, operation.value_width),
    )
    taken, shares = _attended(site, texts, causal, wanted, plain=False)

    def sizes(x: Value) -> str:
        return ", ".join(f"{x.text}.shape[{axis}]" if x.shape[axis] is None else str(x.shape[axis]) for axis in axes)

    if len(axes) > 1:
        taken = f"{site.let(taken, 'taken')}.unflatten({place}, ({sizes(query)}))"
    back = [int(axis) for axis in np.argsort(order)]
    taken = f"{site.let(taken, 'taken')}.permute({listed(back)})"
    if operation.use_gate:
        gate = site.let(f"{projected('gate', query, operation.heads, operation.value_width)}.sigmoid()", "gate")
        taken = f"({taken} * {gate})"
    made = operation.made or (cast("int", query.shape[-1]),)
    linear = _linear(site, "output", (operation.heads * operation.value_width, math.prod(made)), operation.use_bias)
    text = f"{linear}({taken}.flatten(-2))"
    if len(made) > 1:
        text = f"{text}.unflatten(-1, {shown(made)})"
    shape = site.shape
    output = Value(text, shape, tuple(range(len(shape))), site.axis)
    if not wanted:
        return output
    if len(axes) > 1:
        if key.text != query.text and not key.text.isidentifier():
            raise site.refuse("it gives its attention scores over several axes of a tensor that has no name")
        shares = f"{shares}.unflatten(-1, ({sizes(key)})).unflatten({place}, ({sizes(query)}))"
    form = cast("tuple[int | None, ...]", site.shapes[1])
    return [output, Value(shares, form, tuple(range(len(form))), site.axis)]


@rule("Attention", "AdditiveAttention")
def plain_attention(site: CallSite) -> Results:
    operation = cast("PlainAttention", site.operation)
    found = operation.operands(site.args, site.kwargs)
    query, key, value = (_tensor(site, one) for one in found[:3])
    causal, wanted = found[3:]

    def parameter(role: str) -> str:
        return site.parameter(site.weights.shape(role), site.weights.kept(role), suffix=role)

    scale = parameter("scale") if operation.use_scale else ""
    if not operation.added:
        text = f"{query.text} * {scale}" if scale else query.text
        text = text if text.isidentifier() else site.let(text, "query")
        taken, shares = _attended(site, (text, key.text, value.text), causal, wanted, plain=True)
    else:
        pair = (site.let(query.text, "query"), site.let(key.text, "key"))
        both = site.let(f"{pair[0]}[..., :, None, :] + {pair[1]}[..., None, :, :]", "both")
        inside = operation.kind != "AdditiveAttention"
        factor = parameter("concat_score_weight") if inside else scale
        terms = f"torch.tanh({scale} * {both})" if inside and scale else f"torch.tanh({both})"
        terms = site.let(f"{factor} * {terms}" if factor else terms, "terms")
        taken, shares = _of_scores(site, f"{terms}.sum(dim=-1)", value.text, causal)
    shape = site.shape
    output = Value(taken, shape, tuple(range(len(shape))), site.axis)
    if not wanted:
        return output
    form = cast("tuple[int | None, ...]", site.shapes[1])
    return [output, Value(shares, form, tuple(range(len(form))), site.axis)]
