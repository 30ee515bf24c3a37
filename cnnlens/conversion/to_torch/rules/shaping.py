"""Layers that move values without changing them: padding, cropping, flattening, reshaping, repeating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.rules.padding import to_maps
from cnnlens.conversion.to_torch.value import FlatOrder, Value, canonical_order, flattened, listed
from cnnlens.network.graph import Shape
from cnnlens.reference.keras.shaping import Cropping, Flatten, Permute, RepeatVector, Reshape, ZeroPadding

__all__ = ["reshaped"]


@rule("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(site: CallSite) -> Value:
    operation = cast("ZeroPadding", site.operation)
    x = to_maps(site, site.x, operation.rank, operation.channels_first)
    numbers = [number for pair in reversed(operation.edges) for number in pair]
    text = listed(numbers)
    module = site.module(
        f"nn.ZeroPad{operation.rank}d({numbers[0] if len(set(numbers)) == 1 else f'({text})'})",
        comments=site.remark("zero-pad", "PyTorch counts from the last axis to the first: left, right, top, bottom.")
        if len(set(numbers)) > 1
        else (),
    )
    return Value(f"{module}({x.text})", site.shape, x.order, site.axis)


@rule("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(site: CallSite) -> Value:
    operation = cast("Cropping", site.operation)
    x = site.x
    cuts: dict[int, tuple[int, int]] = {
        x.place(axis): edge for axis, edge in zip(operation.places(x.rank), operation.edges, strict=True)
    }
    return Value(f"{x.text}[{crop(x.rank, cuts)}]", site.shape, x.order, site.axis)


def crop(rank: int, cuts: dict[int, tuple[int, int]]) -> str:
    """A subscript that leaves out (before, after) cells on some axes."""
    parts: list[str] = []
    for axis in range(rank):
        before, after = cuts.get(axis, (0, 0))
        parts.append(f"{before or ''}:{-after if after else ''}")
    while parts and parts[-1] == ":":
        parts.pop()
    return ", ".join(parts) if parts else ":"


@rule("Flatten")
def flatten(site: CallSite) -> Value:
    operation = cast("Flatten", site.operation)
    x = site.x
    if x.rank == 1:
        return Value(f"{x.text}[:, None]", site.shape, (0, 1), site.axis)
    if x.rank == 2:
        return x
    axes = list(range(1, x.rank))
    if operation.channels_first:
        # Keras moves the channels last before it flattens.
        axes = [*axes[1:], 1]
    known = [x.shape[axis] for axis in axes]
    flat: FlatOrder | None = None
    if x.order[0] != 0 or None in known:
        if list(x.order) != [0, *axes]:
            site.note("flatten-open", "Keras flattens the channels last.")
        x = x.ordered([0, *axes])
    else:
        flat = flattened(x, cast("list[int]", known), axes)
    if flat is not None and not site.keeps_flat():
        site.note("flatten-turned", "Flattened in Keras' order, channels last, for what follows depends on it.")
        x, flat = x.ordered([0, *axes]), None
    if flat is not None:
        site.note("flatten", "Flattened channels first, where Keras has them last; the Dense behind it is permuted so.")
    return Value(f"torch.flatten({x.text}, 1)", site.shape, (0, 1), site.axis, flat)


@rule("Reshape")
def reshape(site: CallSite) -> Value:
    operation = cast("Reshape", site.operation)
    return reshaped(site, site.x, site.shape, wanted=(-1, *operation.target))


def reshaped(site: CallSite, x: Value, shape: Shape, wanted: Sequence[int]) -> Value:
    """Write ``x`` in another shape, in Keras' order of memory.

    ``wanted`` are the sizes that the file asks for, the first being the batch's, at most one of the others -1.
    """
    if x.flat is None and x.rank > 1 and _only_ones(x.shape, shape):
        return _ones_moved(x, shape, site.axis)
    x = x.keras()
    sizes = [size if size is not None else want for size, want in zip(shape[1:], wanted[1:], strict=True)]
    first = "-1" if -1 not in sizes else x.text.split(".")[0].split("[")[0] + ".shape[0]"
    numbers = ", ".join([first, *(str(size) for size in sizes)])
    if x.rank > 2 and not x.text.isidentifier():
        site.note("reshape", "Keras reshapes in its own order of the axes, channels last.", "In Keras' order of axes.")
    return Value(f"{x.text}.reshape({numbers})", shape, tuple(range(len(shape))), site.axis)


def _only_ones(before: Shape, after: Shape) -> bool:
    """Whether a reshape adds and removes axes of one alone."""
    if None in before[1:] or None in after[1:] or before[0] is not None or after[0] is not None:
        return False
    return [size for size in before[1:] if size != 1] == [size for size in after[1:] if size != 1]


def _ones_moved(x: Value, shape: Shape, axis: int) -> Value:
    """A reshape that moves no value: the axes larger than one keep their order, as they are held or channels first."""
    order = canonical_order(len(shape), axis)
    big = [place for place in x.order if place == 0 or x.shape[place] != 1]
    ranks = sorted(big)
    kept = [place for place in range(len(shape)) if place == 0 or shape[place] != 1]
    wanted = [kept.index(place) for place in order if place in kept]
    if wanted != [ranks.index(place) for place in big]:
        # In the canonical order the values would have to move: keep them as they stand, ones behind.
        stand = [kept[ranks.index(place)] for place in big]
        order = (*stand, *(place for place in range(len(shape)) if place not in stand))
    sizes = [str(shape[place]) for place in order[1:]]
    return Value(f"{x.text}.reshape({', '.join(['-1', *sizes])})", shape, tuple(order), axis)


@rule("Permute")
def permute(site: CallSite) -> Value:
    operation = cast("Permute", site.operation)
    x = site.x.plain()
    site.comments.append(
        f"Keras' Permute({listed(operation.order[1:])}) names the axes anew; nothing has to move here."
    )
    return renamed(x, operation.order, site.shape, site.axis)


def renamed(x: Value, order: Sequence[int], shape: Shape, axis: int) -> Value:
    """``x`` after a transpose in Keras: the same tensor, whose axes have other numbers."""
    return Value(x.text, shape, tuple(list(order).index(place) for place in x.order), axis)


@rule("RepeatVector")
def repeat_vector(site: CallSite) -> Value:
    operation = cast("RepeatVector", site.operation)
    x = site.x.keras()
    return Value(f"{x.text}[:, None].repeat(1, {operation.count}, 1)", site.shape, (0, 1, 2), site.axis)
