"""Layers that make one tensor of several: sums, products, concatenation, dot products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from cnnlens.conversion.to_torch.held import Held
from cnnlens.conversion.to_torch.use import Use, rule
from cnnlens.kinds import kind_of
from cnnlens.reference.keras.merging import MERGES, Concatenate
from cnnlens.reference.operation import normalise_axis

__all__ = ["alike_held", "lifted"]


def alike_held(values: Sequence[Held]) -> list[Held]:
    """Bring tensors of one rank into one order: that of most of them, of the first where they tie."""
    if len({value.flat for value in values}) > 1:
        values = [value.plain() for value in values]
    orders = [value.order for value in values]
    wanted = max(orders, key=lambda order: (orders.count(order), -orders.index(order)))
    return [value.ordered(wanted) for value in values]


def lifted(value: Held, rank: int, behind_batch: bool) -> Held:
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
            return Held(f"{value.text}[:, :{', None' * missing}]", shape, order, value.axis)
        return Held(f"{value.text}[:{', None' * missing}]", shape, order, value.axis)
    text = f"{value.text}[{', '.join(['None'] * missing)}]"
    return replace(value, text=text, shape=((1,) * missing + value.shape), order=tuple(range(rank)))


def _merged(use: Use) -> list[Held]:
    values = use.listed
    rank = max(value.rank for value in values)
    if any(value.rank != rank for value in values):
        values = [lifted(value.plain(), rank, behind_batch=True) for value in values]
    return alike_held(values)


@rule(*MERGES)
def merge(use: Use) -> Held:
    values = _merged(use)
    texts = [value.text for value in values]
    shape = use.shape
    result = replace(values[0], shape=shape, axis=use.axis)
    if len(texts) == 1:
        return result.new(texts[0])
    pattern = kind_of("Add" if use.kind == "Average" else use.kind).torch
    text = texts[0]
    for other in texts[1:]:
        text = pattern.format(a=text, b=other) if "{a}" in pattern else f"{pattern}({text}, {other})"
    if use.kind == "Average":
        text = f"({text}) / {len(texts)}"
    return result.new(text)


@rule("Concatenate")
def concatenate(use: Use) -> Held:
    operation = cast("Concatenate", use.operation)
    values = use.listed
    axis = normalise_axis(operation.axis, values[0].rank)
    if any(value.flat is not None for value in values):
        values = [value.plain() for value in values]
    values = alike_held(values)
    text = f"torch.cat([{', '.join(value.text for value in values)}], dim={values[0].place(axis)})"
    return replace(values[0], text=text, shape=use.shape, axis=use.axis)


@rule("Dot")
def dot(use: Use) -> Held:
    operation = cast("Any", use.operation)
    first, second = (value.plain() for value in use.listed)
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
    shape = use.shape
    if len(made) == 1:
        text = f"{use.let(text, 'product')}[:, None]"
    return Held(text, shape, tuple(range(len(shape))), use.axis)


def _held(letters: Sequence[str], value: Held) -> str:
    return "".join(letters[axis] for axis in value.order)
