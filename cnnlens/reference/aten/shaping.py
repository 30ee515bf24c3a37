"""Other shapes, other axis orders, repetition, padding: values move and none changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.aten.arguments import Arguments, Batch, Tensor, Translation
from cnnlens.reference.aten.operations import BY_RUNNING, bare, layer, unary
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.rules import shape_of
from cnnlens.reference.keras.shaping import Flatten, Permute, Reshape, reshaped
from cnnlens.reference.operation import Array, normalise_axis
from cnnlens.text import printable

__all__: list[str] = []

Settings = Mapping[str, Any]


def moved(args: Arguments, kind: str, function: Callable[[Any], Any], settings: Mapping[str, Any]) -> Translation:
    """A function of the main operand that only moves values."""
    return unary(args, kind, function, settings, BY_RUNNING)


# --- shapes ----------------------------------------------------------------------------------------------------------


@aten("view", "_unsafe_view", "reshape", "view_copy", "_reshape_copy")
def _view(args: Arguments) -> Translation:
    wanted = args.get("size", args.get("shape"))
    if wanted is None:
        raise args.refuse("the same numbers under another type (view of a dtype) are not computed")
    return _reshaped(args, cast("Sequence[Any]", wanted))


def _reshaped(args: Arguments, wanted: Sequence[Any]) -> Translation:
    sizes = _open(args, list(wanted))
    shape = args.known(args.main)
    behind, rest = shape[1:], sizes[1:]
    kept = bool(shape) and shape[0] is None and None not in behind and all(isinstance(size, int) for size in rest)
    kept = kept and bool(rest) and sizes[0] == -1 and -1 not in rest
    same_count = kept and math.prod(cast("list[int]", rest)) == math.prod(cast("tuple[int, ...]", behind))
    if isinstance(args.main, Tensor) and same_count:
        return layer(Reshape("Reshape", {"target_shape": rest}, (3,)), (args.main,))

    def call(_: Settings, x: Any, target: Any) -> Any:
        return np.reshape(x, target)

    return bare(args, "Reshape", call, _reshaped_shape, [args.main, sizes])


def _reshaped_shape(settings: Settings, x: Any, target: Any) -> Any:
    return reshaped(shape_of(x), target)


def _open(args: Arguments, wanted: list[Any]) -> list[Any]:
    """``wanted`` with -1 for the one size that depends on the batch.

    Where a -1 stands beside it, that one is worked out: then the batch is the operand's own first axis.
    """
    batches = [place for place, size in enumerate(wanted) if isinstance(size, Batch)]
    if len(batches) != 1:
        return args.sizes(wanted)
    (place,) = batches
    size = cast("Batch", wanted[place])
    sizes = [1 if number == place else item for number, item in enumerate(wanted)]
    if -1 in sizes:
        if size.tensor >= 0:
            return args.sizes(wanted)
        shape = args.known(args.main)
        if not shape or shape[0] is not None or None in shape[1:]:
            raise args.refuse(f"sizes {printable(wanted)} of an input {shape} are not certain; give them as numbers")
        have, others = math.prod(cast("tuple[int, ...]", shape[1:])), size.factor * -math.prod(sizes)
        if others == 0 or have % others:
            raise args.refuse(f"an input {shape} cannot be reshaped to {printable(wanted)}")
        sizes[sizes.index(-1)] = have // others
    sizes[place] = -1
    return [item if item == -1 else args.sizes([item])[0] for item in sizes]


@aten("flatten", "ravel")
def _flatten(args: Arguments) -> Translation:
    rank = args.rank()
    start = normalise_axis(args.integer("start_dim", 0), max(rank, 1))
    end = normalise_axis(args.integer("end_dim", -1), max(rank, 1))
    if args.main == Tensor(0) and start == 1 and end == rank - 1 and rank > 1:
        return layer(Flatten("Flatten", {}, (3,)), (args.tensor(),))

    def call(x: Any) -> Any:
        return np.reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))

    return moved(args, "Reshape", call, {"start_dim": start, "end_dim": end})


@aten("unflatten")
def _unflatten(args: Arguments) -> Translation:
    axis = normalise_axis(args.integer("dim", 0), args.rank())
    sizes = args.sizes(args.get("sizes"))

    def call(_: Settings, x: Any, target: Any) -> Any:
        return np.reshape(x, (*x.shape[:axis], *target, *x.shape[axis + 1 :]))

    def shape(_: Settings, x: Any, target: Any) -> Any:
        given_shape = shape_of(x)
        return (*given_shape[:axis], *reshaped((given_shape[axis],), target), *given_shape[axis + 1 :])

    return bare(args, "Reshape", call, shape, [args.main, sizes], {"axis": axis})


@aten("squeeze", "squeeze_copy")
def _squeeze(args: Arguments) -> Translation:
    shape = args.known(args.main)
    axes = args.axes("dim")
    wanted = range(len(shape)) if axes is None else sorted({normalise_axis(axis, len(shape)) for axis in axes})
    ones = tuple(axis for axis in wanted if shape[axis] == 1)
    return moved(args, "Squeeze", lambda x: np.squeeze(x, ones), {"axis": list(ones)})


@aten("unsqueeze", "unsqueeze_copy")
def _unsqueeze(args: Arguments) -> Translation:
    axis = args.integer("dim", 0)
    return moved(args, "ExpandDims", lambda x: np.expand_dims(x, axis), {"axis": axis})


# --- axis order ------------------------------------------------------------------------------------------------------


def _ordered(args: Arguments, order: Sequence[int]) -> Translation:
    places = [normalise_axis(axis, len(order)) for axis in order]
    if len(places) > 1 and places[0] == 0 and isinstance(args.main, Tensor):
        return layer(Permute("Permute", {"dims": places[1:]}, (3,)), (args.main,))
    return moved(args, "Transpose", lambda x: np.transpose(x, places), {"axes": places})


@aten("permute", "permute_copy")
def _permute(args: Arguments) -> Translation:
    return _ordered(args, args.axes("dims") or [])


@aten("transpose", "swapaxes", "swapdims", "transpose_copy")
def _transpose(args: Arguments) -> Translation:
    rank = args.rank()
    names = ("axis0", "axis1") if args.name == "swapaxes" else ("dim0", "dim1")
    first, second = (normalise_axis(args.integer(name, 0), rank) for name in names)
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return _ordered(args, order)


@aten("t", "numpy_T", "mT", "adjoint", "t_copy")
def _turned(args: Arguments) -> Translation:
    order = list(range(args.rank()))
    if args.name in ("mT", "adjoint"):
        order[-2:] = order[:-3:-1]
    else:
        order.reverse()
    return _ordered(args, order)


@aten("movedim", "moveaxis")
def _movedim(args: Arguments) -> Translation:
    source, destination = args.axes("source") or [], args.axes("destination") or []
    rank = args.rank()
    order = [axis for axis in range(rank) if axis not in {normalise_axis(one, rank) for one in source}]
    places = zip(destination, source, strict=True)
    for to, axis in sorted((normalise_axis(to, rank), normalise_axis(axis, rank)) for to, axis in places):
        order.insert(to, axis)
    return _ordered(args, order)


@aten("flip", "rot90")
def _flip(args: Arguments) -> Translation:
    if args.name == "rot90":
        k, (first, second) = args.integer("k", 1), args.axes("dims") or (0, 1)
        return moved(args, "Flip", lambda x: np.rot90(x, k, (first, second)), {"k": k, "axes": [first, second]})
    axes = tuple(args.axes("dims") or ())
    return moved(args, "Flip", lambda x: np.flip(x, axes), {"axis": list(axes)})


@aten("roll")
def _roll(args: Arguments) -> Translation:
    shifts, axes = args.axes("shifts") or [0], args.axes("dims")
    if axes is None:
        return moved(args, "Roll", lambda x: np.roll(x, shifts[0]), {"shift": shifts[0]})
    settings = {"shift": shifts, "axis": axes}
    return moved(args, "Roll", lambda x: np.roll(x, tuple(shifts), tuple(axes)), settings)


# --- repetition ------------------------------------------------------------------------------------------------------


@aten("expand", "broadcast_to", "expand_copy")
def _expand(args: Arguments) -> Translation:
    shape, wanted = args.known(args.main), list(args.get("size", []))
    lead = len(wanted) - len(shape)
    # An axis that depends on the batch already keeps its length.
    sizes = args.sizes(
        [
            -1 if isinstance(size, Batch) and place >= lead and shape[place - lead] is None else size
            for place, size in enumerate(wanted)
        ]
    )

    def call(_: Settings, x: Any, target: Any) -> Any:
        lead = len(target) - np.ndim(x)
        wanted = [np.shape(x)[place - lead] if size == -1 else size for place, size in enumerate(target)]
        return np.broadcast_to(x, wanted)

    return bare(args, "BroadcastTo", call, BY_RUNNING, [args.main, sizes])


@aten("expand_as", "view_as", "reshape_as")
def _as_other(args: Arguments) -> Translation:
    def call(_: Settings, x: Any, other: Any) -> Any:
        return np.broadcast_to(x, np.shape(other)) if args.name == "expand_as" else np.reshape(x, np.shape(other))

    kind = "BroadcastTo" if args.name == "expand_as" else "Reshape"
    return bare(args, kind, call, BY_RUNNING, [args.main, args.get("other")])


@aten("repeat", "tile")
def _repeat(args: Arguments) -> Translation:
    counts = args.sizes(args.get("repeats", args.get("dims")))

    def call(_: Settings, x: Any, times: Any) -> Any:
        return np.tile(x, times)

    return bare(args, "Tile", call, BY_RUNNING, [args.main, counts])


@aten("repeat_interleave")
def _repeat_interleave(args: Arguments) -> Translation:
    count, axis = args.integer("repeats", 1), args.get("dim")
    return moved(args, "Repeat", lambda x: np.repeat(x, count, axis), {"repeats": count, "axis": axis})


# --- channels and positions ------------------------------------------------------------------------------------------


@aten("pixel_shuffle")
def _pixel_shuffle(args: Arguments) -> Translation:
    r = args.integer("upscale_factor", 1)

    def call(x: Array) -> Array:
        *lead, channels, height, width = x.shape
        parts = np.reshape(x, (*lead, channels // (r * r), r, r, height, width))
        n = len(lead)
        turned = np.transpose(parts, (*range(n + 1), n + 3, n + 1, n + 4, n + 2))
        return np.reshape(turned, (*lead, channels // (r * r), height * r, width * r))

    return moved(args, "Reshape", call, {"upscale_factor": r})


@aten("pixel_unshuffle")
def _pixel_unshuffle(args: Arguments) -> Translation:
    r = args.integer("downscale_factor", 1)

    def call(x: Array) -> Array:
        *lead, channels, height, width = x.shape
        parts = np.reshape(x, (*lead, channels, height // r, r, width // r, r))
        n = len(lead)
        turned = np.transpose(parts, (*range(n + 1), n + 2, n + 4, n + 1, n + 3))
        return np.reshape(turned, (*lead, channels * r * r, height // r, width // r))

    return moved(args, "Reshape", call, {"downscale_factor": r})


@aten("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(args: Arguments) -> Translation:
    groups = args.integer("groups", 1)

    def call(x: Array) -> Array:
        grouped = np.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
        return np.reshape(np.swapaxes(grouped, 1, 2), x.shape)

    return moved(args, "Reshape", call, {"groups": groups})


_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@aten("pad", "constant_pad_nd", *(f"{name}_pad{rank}d" for name in ("reflection", "replication") for rank in (1, 2, 3)))
def _pad(args: Arguments) -> Translation:
    edges = args.axes("pad" if args.name in ("pad", "constant_pad_nd") else "padding") or []
    mode = {"refl": "reflect", "repl": "replicate"}.get(args.name[:4], str(args.get("mode", "constant")))
    if mode not in _MODES:
        raise args.refuse(f"no mode '{printable(mode)}' in the reference")
    rank = args.rank()
    if len(edges) % 2 or len(edges) > 2 * rank:
        raise args.refuse(f"padding {edges} does not fit an input of {rank} axes")
    # Torch counts from the last axis on.
    pairs = [(0, 0)] * (rank - len(edges) // 2) + [(edges[i], edges[i + 1]) for i in range(len(edges) - 2, -1, -2)]
    value = args.get("value", 0)

    def call(x: Array) -> Array:
        kept = tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(pairs, x.shape, strict=True))
        width = [(max(a, 0), max(b, 0)) for a, b in pairs]
        extra: dict[str, Any] = {"constant_values": value} if mode == "constant" else {}
        return np.pad(x[kept], width, cast("Any", _MODES[mode]), **extra)

    settings = {"pad_width": [list(pair) for pair in pairs], "mode": mode, "constant_values": value}
    return moved(args, "Pad", call, settings)


def windows(x: Array, axis: int, size: int, step: int, gap: int = 1) -> Array:
    """Views of ``size`` cells, ``gap`` apart, every ``step`` along an axis: that axis the windows, a last one cells."""
    count = (x.shape[axis] - (size - 1) * gap - 1) // step + 1
    starts, cells = cast("Array", np.arange(count) * step), cast("Array", np.arange(size) * gap)
    return np.moveaxis(np.take(x, starts[:, None] + cells, axis=axis), axis + 1, -1)


@aten("unfold", "unfold_copy")
def _unfold(args: Arguments) -> Translation:
    axis = normalise_axis(args.integer("dimension", 0), args.rank())
    size, step = args.integer("size", 1), args.integer("step", 1)
    settings = {"axis": axis, "size": size, "step": step}
    return moved(args, "Take", lambda x: windows(x, axis, size, step), settings)


def _patches(args: Arguments) -> list[list[int]]:
    """Kernel size, dilation, padding and stride of what cuts patches or puts them together."""
    found: list[list[int]] = []
    for name, least in (("kernel_size", 1), ("dilation", 1), ("padding", 0), ("stride", 1)):
        found.append(args.integers(name, 2))
        if min(found[-1]) < least:
            raise args.refuse(f"{name} must be at least {least}, not {found[-1]}")
    return found


@aten("im2col")
def _im2col(args: Arguments) -> Translation:
    """Patches as columns: ``(N, C, H, W)`` to ``(N, C * taps, positions)``."""
    taps, gaps, pads, steps = _patches(args)
    if args.rank() != 4:
        raise args.refuse("an input (N, C, H, W) was expected")

    def call(x: Array) -> Array:
        padded = np.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in pads)])
        found = windows(windows(padded, 2, taps[0], steps[0], gaps[0]), 3, taps[1], steps[1], gaps[1])
        n, c, rows, columns = found.shape[:4]
        return np.reshape(np.transpose(found, (0, 1, 4, 5, 2, 3)), (n, c * taps[0] * taps[1], rows * columns))

    settings = {"kernel_size": taps, "dilation": gaps, "padding": pads, "stride": steps}
    return moved(args, "Take", call, settings)


@aten("col2im")
def _col2im(args: Arguments) -> Translation:
    """Columns added up where their patches lay: ``(N, C * taps, positions)`` to ``(N, C, H, W)``."""
    taps, gaps, pads, steps = _patches(args)
    sizes = args.integers("output_size", 2)
    full = [size + 2 * pad for size, pad in zip(sizes, pads, strict=True)]
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(full, taps, gaps, steps, strict=True)]
    if args.rank() != 3:
        raise args.refuse("an input (N, C, positions) was expected")

    def call(x: Array) -> Array:
        parts = np.reshape(x, (x.shape[0], -1, *taps, *counts))
        out = np.zeros((x.shape[0], parts.shape[1], *full), x.dtype)
        for row, column in np.ndindex(*taps):
            (a, b), (c, d) = ((o * g, (m - 1) * s + o * g + 1) for o, g, m, s in
                              zip((row, column), gaps, counts, steps, strict=True))  # fmt: skip
            out[:, :, a : b : steps[0], c : d : steps[1]] += parts[:, :, row, column]
        return out[:, :, pads[0] : pads[0] + sizes[0], pads[1] : pads[1] + sizes[1]]

    settings = {"kernel_size": taps, "dilation": gaps, "padding": pads, "stride": steps, "output_size": sizes}
    return moved(args, "Fold", call, settings)
