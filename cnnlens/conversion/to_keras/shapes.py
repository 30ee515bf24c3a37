"""Operations that move values: another reading of the same output where that will do, else Reshape and Permute.

A reshape that only takes axes apart, or puts neighbours together, does so in whatever order the tensor lies; only
where it would put axes together that do not lie beside each other, they are moved first. A flattened map whose
features nothing but Linear layers mixes afterwards is flattened as it lies, and those layers' weights follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from cnnlens.conversion.to_keras.call_site import CallSite, aten
from cnnlens.conversion.to_keras.convolutions import padded_map
from cnnlens.conversion.to_keras.elementwise import aligned
from cnnlens.conversion.to_keras.value import FlatOrder, Value, channels_last, identity, reshape_groups
from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import Shape
from cnnlens.reference.aten.arguments import Tensor
from cnnlens.reference.operation import normalise_axis

__all__ = ["reshape", "without"]

# The inputs have fixed sizes, or there were no conversion: a size that is open is the batch's.
BATCH_INSIDE = (
    "a size behind its first axis depends on the batch, which Keras keeps in front; write it with the batch first"
)


def reshape(site: CallSite, x: Value, shape: Shape, name: str = "") -> Value:
    """Write the tensor under another shape, as PyTorch reads it."""
    if x.shape == shape:
        return x
    before, after = x.shape[1:], shape[1:]
    if None in before or None in after:
        raise UnsupportedLayerError(BATCH_INSIDE)
    groups = reshape_groups(cast("tuple[int, ...]", before), cast("tuple[int, ...]", after))
    if groups is None:
        # The batch is taken apart or put together with other axes.
        plain = site.builder.turned(x, identity(x.rank))
        wanted = [-1 if size is None else size for size in shape]
        return site.operate("Reshape", [plain], {"newshape": wanted}, shape=shape, axes=identity(len(shape)), name=name)
    x = x if x.flat is None or groups == [((0,), (0,))] else site.builder.plain(x)
    if x.flat is None and len(shape) == 2 and _as_it_lies(site, x):
        sizes = cast("tuple[int, ...]", before)
        flat = FlatOrder(sizes, tuple(axis - 1 for axis in x.axes[1:]))
        made = site.builder.reshaped(x, [shape[0], shape[1]], shape, (0, 1), site.name + name)
        return replace(made, flat=flat)
    order = _beside_each_other(x.axes, groups)
    x = site.builder.turned(x, order)
    axes, sizes = _new_order(order, groups, shape)
    return site.builder.reshaped(x, sizes, shape, axes, site.name + name)


def _as_it_lies(site: CallSite, x: Value) -> bool:
    """Whether a map may be flattened in Keras' order because all that follows can do with that."""
    moved = [axis for axis in x.axes if x.shape[axis] != 1]
    return site.keeps_flat and moved != sorted(moved) and x.axes == channels_last(x.rank)


def _beside_each_other(
    axes: Sequence[int], groups: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
) -> tuple[int, ...]:
    """The order of axes closest to ``axes`` in which each group's axes stand in a row."""
    group_of = {axis + 1: [one + 1 for one in ins] for ins, _ in groups for axis in ins}
    order: list[int] = []
    for axis in axes:
        if axis not in order:
            order += group_of.get(axis, [axis])
    return tuple(order)


def _new_order(
    order: Sequence[int], groups: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], shape: Shape
) -> tuple[list[int], list[int | None]]:
    """The axes of the result in the order in which they then lie, and their sizes; new axes of one stand in front."""
    outs = {ins[0] + 1: [one + 1 for one in outs] for ins, outs in groups if ins}
    new = [one + 1 for ins, outs in groups if not ins for one in outs]
    axes = [0, *new]
    for axis in order[1:]:
        axes += outs.get(axis, [])
    if order[0] != 0:
        raise UnsupportedLayerError("the batch does not come first")
    return axes, [shape[axis] for axis in axes]


@aten("view", "_unsafe_view", "reshape", "view_copy", "_reshape_copy", "flatten", "ravel", "unflatten")
def _reshape(site: CallSite) -> Value:
    if site.args.get("size", site.args.get("shape")) is None and site.args.name.startswith("view"):
        raise UnsupportedLayerError("the same numbers under another type")
    return reshape(site, site.main, site.shape)


@aten("squeeze", "squeeze_copy")
def _squeeze(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    dims = site.args.axes("dim")
    wanted = range(x.rank) if dims is None else {normalise_axis(axis, x.rank) for axis in dims}
    gone = [axis for axis in wanted if x.shape[axis] == 1]
    kept = [axis for axis in range(x.rank) if axis not in gone]
    axes = [kept.index(axis) for axis in x.axes if axis in kept]
    return site.builder.reshaped(x, [site.shape[axis] for axis in axes], site.shape, axes, site.name)


@aten("unsqueeze", "unsqueeze_copy")
def _unsqueeze(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    place = normalise_axis(site.args.integer("dim", 0), x.rank + 1)
    if place == 0:
        raise UnsupportedLayerError("it puts an axis in front of the batch")
    old = [axis + (axis >= place) for axis in x.axes]
    axes = [old[0], place, *old[1:]]
    return site.builder.reshaped(x, [site.shape[axis] for axis in axes], site.shape, axes, site.name)


# --- the order of axes: nothing moves ---------------------------------------------------------------------------------


def _reordered(site: CallSite, x: Value, order: Sequence[int]) -> Value:
    """``permute(order)``: the same output, whose axes go by other numbers now."""
    places = [axis % x.rank for axis in order]
    axes = [places.index(axis) for axis in x.axes]
    return replace(x, shape=tuple(x.shape[axis] for axis in places), axes=tuple(axes))


@aten("permute", "permute_copy")
def _permute(site: CallSite) -> Value:
    return _reordered(site, site.builder.plain(site.main), site.args.axes("dims") or [])


@aten("transpose", "swapaxes", "swapdims", "transpose_copy")
def _transpose(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    names = ("axis0", "axis1") if site.args.name == "swapaxes" else ("dim0", "dim1")
    first, second = (normalise_axis(site.args.integer(name, 0), x.rank) for name in names)
    order = list(range(x.rank))
    order[first], order[second] = order[second], order[first]
    return _reordered(site, x, order)


@aten("t", "numpy_T", "mT", "adjoint", "t_copy")
def _turned(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    order = list(range(x.rank))
    if site.args.name in ("mT", "adjoint"):
        order[-2:] = order[:-3:-1]
    else:
        order.reverse()
    return _reordered(site, x, order)


@aten("movedim", "moveaxis")
def _movedim(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    source, target = ([axis % x.rank for axis in site.args.axes(key) or []] for key in ("source", "destination"))
    order = [axis for axis in range(x.rank) if axis not in source]
    for to, axis in sorted(zip(target, source, strict=True)):
        order.insert(to, axis)
    return _reordered(site, x, order)


@aten("pixel_shuffle")
def _pixel_shuffle(site: CallSite) -> Value:
    r = site.args.integer("upscale_factor", 1)
    x = site.map()
    n, channels, height, width = _four(x)
    apart = reshape(site, x, (n, channels // (r * r), r, r, height, width), "_apart")
    turned = _reordered(site, apart, (0, 1, 4, 2, 5, 3))
    return site.map(reshape(site, turned, site.shape))


@aten("pixel_unshuffle")
def _pixel_unshuffle(site: CallSite) -> Value:
    r = site.args.integer("downscale_factor", 1)
    x = site.map()
    n, channels, height, width = _four(x)
    apart = reshape(site, x, (n, channels, height // r, r, width // r, r), "_apart")
    turned = _reordered(site, apart, (0, 1, 3, 5, 2, 4))
    return site.map(reshape(site, turned, site.shape))


@aten("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(site: CallSite) -> Value:
    groups = site.args.integer("groups", 1)
    x = site.map()
    channels = x.shape[1]
    if channels is None:
        raise UnsupportedLayerError("its number of channels is open")
    apart = reshape(site, x, (x.shape[0], groups, channels // groups, *x.shape[2:]), "_apart")
    order = (0, 2, 1, *range(3, x.rank + 1))
    return site.map(reshape(site, _reordered(site, apart, order), site.shape))


def _four(x: Value) -> tuple[int | None, int, int, int]:
    if x.rank != 4 or None in x.shape[1:]:
        raise UnsupportedLayerError(f"a map (N, C, H, W) of known sizes was expected, its shape is {x.shape}")
    return cast("tuple[int | None, int, int, int]", x.shape)


# --- several tensors as one, one as several ---------------------------------------------------------------------------


def _all_tensors(site: CallSite, key: str) -> list[Value]:
    values = cast("list[Any]", site.args.get(key) or [])
    if not all(isinstance(value, Tensor) for value in values):
        raise UnsupportedLayerError("a parameter is put together with tensors; Keras has no layer for that")
    return aligned(site, [site.tensor(value) for value in values])


@aten("cat", "concat", "concatenate")
def _cat(site: CallSite) -> Value:
    tensors = [site.builder.plain(x) for x in _all_tensors(site, "tensors")]
    first = tensors[0]
    if len(tensors) == 1:
        return first
    axis = first.place(site.args.integer("dim", 0))
    result = site.layer("Concatenate", tensors, {"axis": -1 if axis == first.rank - 1 else axis})
    return replace(result, at_least_zero=all(x.at_least_zero for x in tensors))


@aten("stack")
def _stack(site: CallSite) -> Value:
    tensors = [site.builder.plain(x) for x in _all_tensors(site, "tensors")]
    place = normalise_axis(site.args.integer("dim", 0), tensors[0].rank + 1)
    if place == 0:
        raise UnsupportedLayerError("it puts an axis in front of the batch")
    old = [axis + (axis >= place) for axis in tensors[0].axes]
    axes = [old[0], place, *old[1:]]
    return site.operate("Stack", [tensors], {"axis": 1}, axes=axes)


def _taken(site: CallSite, x: Value, axis: int, part: Any, shape: Shape, axes: Sequence[int], name: str = "") -> Value:
    key: list[Any] = [slice(None)] * x.rank
    key[x.place(axis)] = part
    result = site.operate("GetItem", [x, key], shape=shape, axes=axes, name=name)
    return replace(result, at_least_zero=x.at_least_zero)


def without(axes: Sequence[int], gone: Sequence[int]) -> list[int]:
    """Give the order of the axes that are left, by their new numbers."""
    kept = sorted(axis for axis in axes if axis not in gone)
    return [kept.index(axis) for axis in axes if axis not in gone]


@aten("slice", "slice_copy")
def _slice(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    axis = site.args.integer("dim", 0) % x.rank
    start, end, by = (site.args.get(name) for name in ("start", "end", "step"))
    size = x.shape[axis]
    end = None if end is None or (size is not None and end >= size) or end >= 1 << 31 else end
    if not start and end is None and by in (None, 1):
        return x
    return _taken(site, x, axis, slice(start or None, end, by if by != 1 else None), site.shape, x.axes)


@aten("narrow", "narrow_copy")
def _narrow(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    axis = site.args.integer("dim", 0) % x.rank
    start, length = site.args.integer("start", 0), site.args.integer("length", 1)
    start += (x.shape[axis] or 0) if start < 0 else 0
    return _taken(site, x, axis, slice(start, start + length), site.shape, x.axes)


@aten("select", "select_copy")
def _select(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    axis = site.args.integer("dim", 0) % x.rank
    if x.place(axis) == 0:
        raise UnsupportedLayerError("it takes one example of the batch")
    return _taken(site, x, axis, site.args.integer("index", 0), site.shape, without(x.axes, [axis]))


@aten("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes")
def _split(site: CallSite) -> list[Value]:
    x = site.builder.plain(site.main)
    axis = site.args.integer("dim", 0) % x.rank
    shapes = [site.shape_of(index) for index in range(len(site.call.shapes))]
    sizes = [shape[axis] for shape in shapes]
    if None in sizes:
        raise UnsupportedLayerError("it takes the batch apart" if axis == 0 else BATCH_INSIDE)
    known = cast("list[int]", sizes)
    cuts = [sum(known[:place]) for place in range(1, len(known))]
    if not cuts:
        return [x]
    first = site.operate("Split", [x], {"indices_or_sections": cuts, "axis": x.place(axis)}, axes=x.axes)
    return [
        replace(site.builder.output(first, index, shape), at_least_zero=x.at_least_zero)
        for index, shape in enumerate(shapes)
    ]


@aten("unbind", "unbind_copy")
def _unbind(site: CallSite) -> list[Value]:
    x = site.builder.plain(site.main)
    axis = site.args.integer("dim", 0) % x.rank
    if x.place(axis) == 0:
        raise UnsupportedLayerError("it takes the batch apart")
    left = without(x.axes, [axis])
    shapes = [site.shape_of(index) for index in range(len(site.call.shapes))]
    return [_taken(site, x, axis, index, shape, left, f"_{index}") for index, shape in enumerate(shapes)]


@aten("flip")
def _flip(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    return site.operate(
        "Flip", [x], {"axis": sorted(x.place(axis) for axis in site.args.axes("dims") or [])}, axes=x.axes
    )


@aten("roll")
def _roll(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    axes, shifts = site.args.axes("dims"), site.args.axes("shifts") or [0]
    if axes is None:
        raise UnsupportedLayerError("it rolls all axes as one")
    settings = {"shift": shifts, "axis": [x.place(axis) for axis in axes]}
    return site.operate("Roll", [x], settings, axes=x.axes)


_PADS = [f"{name}_pad{rank}d" for name in ("reflection", "replication") for rank in (1, 2, 3)]


@aten("pad", "constant_pad_nd", *_PADS)
def _pad(site: CallSite) -> Value:
    x = site.builder.plain(site.main)
    settings = site.operation.config
    pairs = [(int(before), int(after)) for before, after in settings["pad_width"]]
    mode, value = settings["mode"], settings["constant_values"] or 0
    if not any(map(any, pairs)):
        return x
    if mode == "constant" and value == 0 and not any(map(any, pairs[:2])) and x.rank in (3, 4, 5):
        return padded_map(site, site.map(x), pairs[2:], "")
    if min(map(min, pairs)) < 0:
        raise UnsupportedLayerError("it pads and crops at once")
    if mode in ("replicate", "circular"):
        return _edged(site, x, pairs, wrapped=mode == "circular")
    width = [list(pairs[axis]) for axis in x.axes]
    kwargs = {"constant_values": value} if mode == "constant" else {}
    return site.operate("Pad", [x], {"pad_width": width, "mode": mode}, axes=x.axes, kwargs=kwargs)


def _edged(site: CallSite, x: Value, pairs: Sequence[tuple[int, int]], *, wrapped: bool) -> Value:
    """Edges that repeat what is there, axis by axis: Keras pads with constants and reflections alone."""
    for axis, (before, after) in enumerate(pairs):
        size = x.shape[axis]
        if not before and not after:
            continue
        if size is None:
            raise UnsupportedLayerError(BATCH_INSIDE)
        parts: list[Value] = []
        for count, front in ((before, True), (after, False)):
            if not front:
                parts.append(x)
            if not count:
                continue
            if wrapped:
                part, times = (slice(size - count, None) if front else slice(None, count)), 1
            else:
                part, times = (slice(None, 1) if front else slice(size - 1, None)), count
            shape = (*x.shape[:axis], count // times, *x.shape[axis + 1 :])
            parts += [_taken(site, x, axis, part, shape, x.axes, "_edge")] * times
        shape = (*x.shape[:axis], size + before + after, *x.shape[axis + 1 :])
        x = site.layer("Concatenate", parts, {"axis": x.place(axis)}, shape=shape, name="_edges")
    return x
