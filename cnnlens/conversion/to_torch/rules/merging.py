"""Layers that make one tensor of several: sums, products, concatenation, dot products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.value import Value
from cnnlens.kinds import kind_of
from cnnlens.reference.keras.merging import MERGES, Concatenate
from cnnlens.reference.operation import normalise_axis

__all__ = ["alike_held", "lifted"]


def alike_held(values: Sequence[Value]) -> list[Value]:
    """Bring tensors of one rank into one order: that of most of them, of the first where they tie."""
    if len({value.flat for value in values}) > 1:
        values = [value.plain() for value in values]
    orders = [value.order for value in values]
    wanted = max(orders, key=lambda order: (orders.count(order), -orders.index(order)))
    return [value.ordered(wanted) for value in values]


def lifted(value: Value, rank: int, behind_batch: bool) -> Value:
    """Give ``value`` axes of one until it has ``rank``: behind the batch (Keras' layers) or in front (NumPy)."""
    missing = rank - value.rank
    if missing <= 0:
        return value
    value = value.keras()
    if behind_batch:
        shape = (*value.shape[:1], *(1,) * missing, *value.shape[1:])
        order = (0, rank - 1, *range(1, rank - 1)) if value.rank == 2 and value.axis == -1 else tuple(range(rank))
        if value.rank == 2 and value.axis == -1:
            # One value a channel: (N, C, 1, 1) in PyTorch's order.
            return Value(f"{value.text}[:, :{', None' * missing}]", shape, order, value.axis)
        return Value(f"{value.text}[:{', None' * missing}]", shape, order, value.axis)
    text = f"{value.text}[{', '.join(['None'] * missing)}]"
    return replace(value, text=text, shape=((1,) * missing + value.shape), order=tuple(range(rank)))


def _merged(site: CallSite) -> list[Value]:
    values = site.listed
    rank = max(value.rank for value in values)
    if any(value.rank != rank for value in values):
        values = [lifted(value.plain(), rank, behind_batch=True) for value in values]
    return alike_held(values)


@rule(*MERGES)
def merge(site: CallSite) -> Value:
    values = _merged(site)
    texts = [value.text for value in values]
    shape = site.shape
    result = replace(values[0], shape=shape, axis=site.axis)
    if len(texts) == 1:
        return result.new(texts[0])
    pattern = kind_of("Add" if site.kind == "Average" else site.kind).torch
    text = texts[0]
    for other in texts[1:]:
        text = pattern.format(a=text, b=other) if "{a}" in pattern else f"{pattern}({text}, {other})"
    if site.kind == "Average":
        text = f"({text}) / {len(texts)}"
    return result.new(text)


@rule("Concatenate")
def concatenate(site: CallSite) -> Value:
    operation = cast("Concatenate", site.operation)
    values = site.listed
    axis = normalise_axis(operation.axis, values[0].rank)
    if any(value.flat is not None for value in values):
        values = [value.plain() for value in values]
    values = alike_held(values)
    text = f"torch.cat([{', '.join(value.text for value in values)}], dim={values[0].place(axis)})"
    return replace(values[0], text=text, shape=site.shape, axis=site.axis)


@rule("Dot")
def dot(site: CallSite) -> Value:
    operation = cast("Any", site.operation)
    first, second = (value.plain() for value in site.listed)
    a = normalise_axis(operation.axes[0], first.rank, "axes")
    b = normalise_axis(operation.axes[1], second.rank, "axes")
    if operation.normalize:
        first = first.new(f"F.normalize({first.text}, dim={first.place(a)}, eps=1e-12)")
        second = second.new(f"F.normalize({second.text}, dim={second.place(b)}, eps=1e-12)")
    letters = iter("bcdefghijklm")
    left = ["n" if axis == 0 else "a" if axis == a else next(letters) for axis in range(first.rank)]
    right = ["n" if axis == 0 else "a" if axis == b else next(letters) for axis in range(second.rank)]
    made = [letter for letter in (*left, *right[1:]) if letter != "a"]
    equation = f"{_held(left, first)},{_held(right, second)}->{''.join(made)}"
    text = f'torch.einsum("{equation}", {first.text}, {second.text})'
    shape = site.shape
    if len(made) == 1:
        text = f"{site.let(text, 'product')}[:, None]"
    return Value(text, shape, tuple(range(len(shape))), site.axis)


def _held(letters: Sequence[str], value: Value) -> str:
    return "".join(letters[axis] for axis in value.order)
