"""Layers that move values without changing them: padding, cropping, flattening, reshaping, repeating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from cnnlens.conversion.to_torch.held import Flat, Held, canonical_order, flattened, listed
from cnnlens.conversion.to_torch.rules.padding import to_maps
from cnnlens.conversion.to_torch.use import Use, rule
from cnnlens.network.graph import Shape
from cnnlens.reference.keras.shaping import Cropping, Flatten, Permute, RepeatVector, Reshape, ZeroPadding

__all__ = ["reshaped"]


@rule("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(use: Use) -> Held:
    operation = cast("ZeroPadding", use.operation)
    x = to_maps(use, use.x, operation.rank, operation.channels_first)
    numbers = [number for pair in reversed(operation.edges) for number in pair]
    text = listed(numbers)
    module = use.module(
        f"nn.ZeroPad{operation.rank}d({numbers[0] if len(set(numbers)) == 1 else f'({text})'})",
        comments=use.remark("zero-pad", "PyTorch counts from the last axis to the first: left, right, top, bottom.")
        if len(set(numbers)) > 1
        else (),
    )
    return Held(f"{module}({x.text})", use.shape, x.order, use.axis)


@rule("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(use: Use) -> Held:
    operation = cast("Cropping", use.operation)
    x = use.x
    cuts: dict[int, tuple[int, int]] = {
        x.place(axis): edge for axis, edge in zip(operation.places(x.rank), operation.edges, strict=True)
    }
    return Held(f"{x.text}[{crop(x.rank, cuts)}]", use.shape, x.order, use.axis)


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
def flatten(use: Use) -> Held:
    operation = cast("Flatten", use.operation)
    x = use.x
    if x.rank == 1:
        return Held(f"{x.text}[:, None]", use.shape, (0, 1), use.axis)
    if x.rank == 2:
        return x
    axes = list(range(1, x.rank))
    if operation.channels_first:
        # Keras moves the channels last before it flattens.
        axes = [*axes[1:], 1]
    known = [x.shape[axis] for axis in axes]
    flat: Flat | None = None
    if x.order[0] != 0 or None in known:
        if list(x.order) != [0, *axes]:
            use.note("flatten-open", "Keras flattens the channels last.")
        x = x.ordered([0, *axes])
    else:
        flat = flattened(x, cast("list[int]", known), axes)
    if flat is not None and not use.follows_flat():
        use.note("flatten-turned", "Flattened in Keras' order, channels last, for what follows depends on it.")
        x, flat = x.ordered([0, *axes]), None
    if flat is not None:
        use.note("flatten", "Flattened channels first, where Keras has them last; the Dense behind it is permuted so.")
    return Held(f"torch.flatten({x.text}, 1)", use.shape, (0, 1), use.axis, flat)


@rule("Reshape")
def reshape(use: Use) -> Held:
    operation = cast("Reshape", use.operation)
    return reshaped(use, use.x, use.shape, wanted=(-1, *operation.target))


def reshaped(use: Use, x: Held, shape: Shape, wanted: Sequence[int]) -> Held:
    """Write ``x`` in another shape, in Keras' order of memory.

    ``wanted`` are the sizes that the file asks for, the first being the batch's, at most one of the others -1.
    """
    if x.flat is None and x.rank > 1 and _only_ones(x.shape, shape):
        return _ones_moved(x, shape, use.axis)
    x = x.keras()
    sizes = [size if size is not None else want for size, want in zip(shape[1:], wanted[1:], strict=True)]
    first = "-1" if -1 not in sizes else f"{_base(x)}.shape[0]"
    numbers = ", ".join([first, *(str(size) for size in sizes)])
    if x.rank > 2 and not x.text.isidentifier():
        use.note("reshape", "Keras reshapes in its own order of the axes, channels last.", "In Keras' order of axes.")
    return Held(f"{x.text}.reshape({numbers})", shape, tuple(range(len(shape))), use.axis)


def _base(x: Held) -> str:
    return x.text.split(".")[0].split("[")[0]


def _only_ones(before: Shape, after: Shape) -> bool:
    """Whether a reshape adds and removes axes of one alone."""
    if None in before[1:] or None in after[1:] or before[0] is not None or after[0] is not None:
        return False
    return [size for size in before[1:] if size != 1] == [size for size in after[1:] if size != 1]


def _ones_moved(x: Held, shape: Shape, axis: int) -> Held:
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
    return Held(f"{x.text}.reshape({', '.join(['-1', *sizes])})", shape, tuple(order), axis)


@rule("Permute")
def permute(use: Use) -> Held:
    operation = cast("Permute", use.operation)
    x = use.x.plain()
    use.comments.append(f"Keras' Permute({listed(operation.order[1:])}) names the axes anew; nothing has to move here.")
    return renamed(x, operation.order, use.shape, use.axis)


def renamed(x: Held, order: Sequence[int], shape: Shape, axis: int) -> Held:
    """``x`` after a transpose in Keras: the same tensor, whose axes have other numbers."""
    return Held(x.text, shape, tuple(list(order).index(place) for place in x.order), axis)


@rule("RepeatVector")
def repeat_vector(use: Use) -> Held:
    operation = cast("RepeatVector", use.operation)
    x = use.x.keras()
    return Held(f"{x.text}[:, None].repeat(1, {operation.count}, 1)", use.shape, (0, 1, 2), use.axis)
