"""Other shapes, other axis orders, repetition, padding: values move and none changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.aten.given import Batch, Given, Tensor, Translation
from cnnlens.reference.aten.operations import BY_RUNNING, bare, layer, unary
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.bare.rules import shape_of
from cnnlens.reference.keras.shaping import Flatten, Permute, Reshape, reshaped
from cnnlens.reference.operation import Array, normalise_axis
from cnnlens.text import printable

__all__: list[str] = []

Settings = Mapping[str, Any]


def moved(given: Given, kind: str, function: Callable[[Any], Any], settings: Mapping[str, Any]) -> Translation:
    """A function of the main operand that only moves values."""
    return unary(given, kind, function, settings, BY_RUNNING)


# --- shapes ----------------------------------------------------------------------------------------------------------


@aten("view", "_unsafe_view", "reshape", "view_copy", "_reshape_copy")
def _view(given: Given) -> Translation:
    wanted = given.get("size", given.get("shape"))
    if wanted is None:
        raise given.refuse("the same numbers under another type (view of a dtype) are not computed")
    return _reshaped(given, cast("Sequence[Any]", wanted))


def _reshaped(given: Given, wanted: Sequence[Any]) -> Translation:
    sizes = _open(given, list(wanted))
    shape = given.known(given.main)
    behind, rest = shape[1:], sizes[1:]
    kept = bool(shape) and shape[0] is None and None not in behind and all(isinstance(size, int) for size in rest)
    kept = kept and bool(rest) and sizes[0] == -1 and -1 not in rest
    same_count = kept and math.prod(cast("list[int]", rest)) == math.prod(cast("tuple[int, ...]", behind))
    if isinstance(given.main, Tensor) and same_count:
        return layer(Reshape("Reshape", {"target_shape": rest}, (3,)), (given.main,))

    def call(_: Settings, x: Any, target: Any) -> Any:
        return np.reshape(x, target)

    return bare(given, "Reshape", call, _reshaped_shape, [given.main, sizes])


def _reshaped_shape(settings: Settings, x: Any, target: Any) -> Any:
    return reshaped(shape_of(x), target)


def _open(given: Given, wanted: list[Any]) -> list[Any]:
    """``wanted`` with -1 for the one size that depends on the batch.

    Where a -1 stands beside it, that one is worked out: then the batch is the operand's own first axis.
    """
    batches = [place for place, size in enumerate(wanted) if isinstance(size, Batch)]
    if len(batches) != 1:
        return given.sizes(wanted)
    (place,) = batches
    size = cast("Batch", wanted[place])
    sizes = [1 if number == place else item for number, item in enumerate(wanted)]
    if -1 in sizes:
        if size.tensor >= 0:
            return given.sizes(wanted)
        shape = given.known(given.main)
        if not shape or shape[0] is not None or None in shape[1:]:
            raise given.refuse(f"sizes {printable(wanted)} of an input {shape} are not certain; give them as numbers")
        have, others = math.prod(cast("tuple[int, ...]", shape[1:])), size.factor * -math.prod(sizes)
        if others == 0 or have % others:
            raise given.refuse(f"an input {shape} cannot be reshaped to {printable(wanted)}")
        sizes[sizes.index(-1)] = have // others
    sizes[place] = -1
    return [item if item == -1 else given.sizes([item])[0] for item in sizes]


@aten("flatten", "ravel")
def _flatten(given: Given) -> Translation:
    rank = given.rank()
    start = normalise_axis(given.integer("start_dim", 0), max(rank, 1))
    end = normalise_axis(given.integer("end_dim", -1), max(rank, 1))
    if given.main == Tensor(0) and start == 1 and end == rank - 1 and rank > 1:
        return layer(Flatten("Flatten", {}, (3,)), (given.tensor(),))

    def call(x: Any) -> Any:
        return np.reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))

    return moved(given, "Reshape", call, {"start_dim": start, "end_dim": end})


@aten("unflatten")
def _unflatten(given: Given) -> Translation:
    axis = normalise_axis(given.integer("dim", 0), given.rank())
    sizes = given.sizes(given.get("sizes"))

    def call(_: Settings, x: Any, target: Any) -> Any:
        return np.reshape(x, (*x.shape[:axis], *target, *x.shape[axis + 1 :]))

    def shape(_: Settings, x: Any, target: Any) -> Any:
        given_shape = shape_of(x)
        return (*given_shape[:axis], *reshaped((given_shape[axis],), target), *given_shape[axis + 1 :])

    return bare(given, "Reshape", call, shape, [given.main, sizes], {"axis": axis})


@aten("squeeze", "squeeze_copy")
def _squeeze(given: Given) -> Translation:
    shape = given.known(given.main)
    axes = given.axes("dim")
    wanted = range(len(shape)) if axes is None else sorted({normalise_axis(axis, len(shape)) for axis in axes})
    ones = tuple(axis for axis in wanted if shape[axis] == 1)
    return moved(given, "Squeeze", lambda x: np.squeeze(x, ones), {"axis": list(ones)})


@aten("unsqueeze", "unsqueeze_copy")
def _unsqueeze(given: Given) -> Translation:
    axis = given.integer("dim", 0)
    return moved(given, "ExpandDims", lambda x: np.expand_dims(x, axis), {"axis": axis})


# --- axis order ------------------------------------------------------------------------------------------------------


def _ordered(given: Given, order: Sequence[int]) -> Translation:
    places = [normalise_axis(axis, len(order)) for axis in order]
    if len(places) > 1 and places[0] == 0 and isinstance(given.main, Tensor):
        return layer(Permute("Permute", {"dims": places[1:]}, (3,)), (given.main,))
    return moved(given, "Transpose", lambda x: np.transpose(x, places), {"axes": places})


@aten("permute", "permute_copy")
def _permute(given: Given) -> Translation:
    return _ordered(given, given.axes("dims") or [])


@aten("transpose", "swapaxes", "swapdims", "transpose_copy")
def _transpose(given: Given) -> Translation:
    rank = given.rank()
    names = ("axis0", "axis1") if given.name == "swapaxes" else ("dim0", "dim1")
    first, second = (normalise_axis(given.integer(name, 0), rank) for name in names)
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return _ordered(given, order)


@aten("t", "numpy_T", "mT", "adjoint", "t_copy")
def _turned(given: Given) -> Translation:
    order = list(range(given.rank()))
    if given.name in ("mT", "adjoint"):
        order[-2:] = order[:-3:-1]
    else:
        order.reverse()
    return _ordered(given, order)


@aten("movedim", "moveaxis")
def _movedim(given: Given) -> Translation:
    source, destination = given.axes("source") or [], given.axes("destination") or []
    rank = given.rank()
    order = [axis for axis in range(rank) if axis not in {normalise_axis(one, rank) for one in source}]
    places = zip(destination, source, strict=True)
    for to, axis in sorted((normalise_axis(to, rank), normalise_axis(axis, rank)) for to, axis in places):
        order.insert(to, axis)
    return _ordered(given, order)


@aten("flip", "rot90")
def _flip(given: Given) -> Translation:
    if given.name == "rot90":
        k, (first, second) = given.integer("k", 1), given.axes("dims") or (0, 1)
        return moved(given, "Flip", lambda x: np.rot90(x, k, (first, second)), {"k": k, "axes": [first, second]})
    axes = tuple(given.axes("dims") or ())
    return moved(given, "Flip", lambda x: np.flip(x, axes), {"axis": list(axes)})


@aten("roll")
def _roll(given: Given) -> Translation:
    shifts, axes = given.axes("shifts") or [0], given.axes("dims")
    if axes is None:
        return moved(given, "Roll", lambda x: np.roll(x, shifts[0]), {"shift": shifts[0]})
    settings = {"shift": shifts, "axis": axes}
    return moved(given, "Roll", lambda x: np.roll(x, tuple(shifts), tuple(axes)), settings)


# --- repetition ------------------------------------------------------------------------------------------------------


@aten("expand", "broadcast_to", "expand_copy")
def _expand(given: Given) -> Translation:
    shape, wanted = given.known(given.main), list(given.get("size", []))
    lead = len(wanted) - len(shape)
    # An axis that depends on the batch already keeps its length.
    sizes = given.sizes(
        [
            -1 if isinstance(size, Batch) and place >= lead and shape[place - lead] is None else size
            for place, size in enumerate(wanted)
        ]
    )

    def call(_: Settings, x: Any, target: Any) -> Any:
        lead = len(target) - np.ndim(x)
        wanted = [np.shape(x)[place - lead] if size == -1 else size for place, size in enumerate(target)]
        return np.broadcast_to(x, wanted)

    return bare(given, "BroadcastTo", call, BY_RUNNING, [given.main, sizes])


@aten("expand_as", "view_as", "reshape_as")
def _as_other(given: Given) -> Translation:
    def call(_: Settings, x: Any, other: Any) -> Any:
        return np.broadcast_to(x, np.shape(other)) if given.name == "expand_as" else np.reshape(x, np.shape(other))

    kind = "BroadcastTo" if given.name == "expand_as" else "Reshape"
    return bare(given, kind, call, BY_RUNNING, [given.main, given.get("other")])


@aten("repeat", "tile")
def _repeat(given: Given) -> Translation:
    counts = given.sizes(given.get("repeats", given.get("dims")))

    def call(_: Settings, x: Any, times: Any) -> Any:
        return np.tile(x, times)

    return bare(given, "Tile", call, BY_RUNNING, [given.main, counts])


@aten("repeat_interleave")
def _repeat_interleave(given: Given) -> Translation:
    count, axis = given.integer("repeats", 1), given.get("dim")
    return moved(given, "Repeat", lambda x: np.repeat(x, count, axis), {"repeats": count, "axis": axis})


# --- channels and positions ------------------------------------------------------------------------------------------


@aten("pixel_shuffle")
def _pixel_shuffle(given: Given) -> Translation:
    r = given.integer("upscale_factor", 1)

    def call(x: Array) -> Array:
        *lead, channels, height, width = x.shape
        parts = np.reshape(x, (*lead, channels // (r * r), r, r, height, width))
        n = len(lead)
        turned = np.transpose(parts, (*range(n + 1), n + 3, n + 1, n + 4, n + 2))
        return np.reshape(turned, (*lead, channels // (r * r), height * r, width * r))

    return moved(given, "Reshape", call, {"upscale_factor": r})


@aten("pixel_unshuffle")
def _pixel_unshuffle(given: Given) -> Translation:
    r = given.integer("downscale_factor", 1)

    def call(x: Array) -> Array:
        *lead, channels, height, width = x.shape
        parts = np.reshape(x, (*lead, channels, height // r, r, width // r, r))
        n = len(lead)
        turned = np.transpose(parts, (*range(n + 1), n + 2, n + 4, n + 1, n + 3))
        return np.reshape(turned, (*lead, channels * r * r, height // r, width // r))

    return moved(given, "Reshape", call, {"downscale_factor": r})


@aten("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(given: Given) -> Translation:
    groups = given.integer("groups", 1)

    def call(x: Array) -> Array:
        grouped = np.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
        return np.reshape(np.swapaxes(grouped, 1, 2), x.shape)

    return moved(given, "Reshape", call, {"groups": groups})


_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@aten("pad", "constant_pad_nd", *(f"{name}_pad{rank}d" for name in ("reflection", "replication") for rank in (1, 2, 3)))
def _pad(given: Given) -> Translation:
    edges = given.axes("pad" if given.name in ("pad", "constant_pad_nd") else "padding") or []
    mode = {"refl": "reflect", "repl": "replicate"}.get(given.name[:4], str(given.get("mode", "constant")))
    if mode not in _MODES:
        raise given.refuse(f"no mode '{printable(mode)}' in the reference")
    rank = given.rank()
    if len(edges) % 2 or len(edges) > 2 * rank:
        raise given.refuse(f"padding {edges} does not fit an input of {rank} axes")
    # Torch counts from the last axis on.
    pairs = [(0, 0)] * (rank - len(edges) // 2) + [(edges[i], edges[i + 1]) for i in range(len(edges) - 2, -1, -2)]
    value = given.get("value", 0)

    def call(x: Array) -> Array:
        kept = tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(pairs, x.shape, strict=True))
        width = [(max(a, 0), max(b, 0)) for a, b in pairs]
        extra: dict[str, Any] = {"constant_values": value} if mode == "constant" else {}
        return np.pad(x[kept], width, cast("Any", _MODES[mode]), **extra)

    settings = {"pad_width": [list(pair) for pair in pairs], "mode": mode, "constant_values": value}
    return moved(given, "Pad", call, settings)


def windows(x: Array, axis: int, size: int, step: int, gap: int = 1) -> Array:
    """Views of ``size`` cells, ``gap`` apart, every ``step`` along an axis: that axis the windows, a last one cells."""
    count = (x.shape[axis] - (size - 1) * gap - 1) // step + 1
    starts, cells = cast("Array", np.arange(count) * step), cast("Array", np.arange(size) * gap)
    return np.moveaxis(np.take(x, starts[:, None] + cells, axis=axis), axis + 1, -1)


@aten("unfold", "unfold_copy")
def _unfold(given: Given) -> Translation:
    axis = normalise_axis(given.integer("dimension", 0), given.rank())
    size, step = given.integer("size", 1), given.integer("step", 1)
    settings = {"axis": axis, "size": size, "step": step}
    return moved(given, "Take", lambda x: windows(x, axis, size, step), settings)


@aten("im2col")
def _im2col(given: Given) -> Translation:
    """Patches as columns: ``(N, C, H, W)`` to ``(N, C * taps, positions)``."""
    taps, gaps = given.integers("kernel_size", 2, 1), given.integers("dilation", 2, 1)
    pads, steps = given.integers("padding", 2, 0), given.integers("stride", 2, 1)
    if given.rank() != 4:
        raise given.refuse("an input (N, C, H, W) was expected")

    def call(x: Array) -> Array:
        padded = np.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in pads)])
        found = windows(windows(padded, 2, taps[0], steps[0], gaps[0]), 3, taps[1], steps[1], gaps[1])
        n, c, rows, columns = found.shape[:4]
        return np.reshape(np.transpose(found, (0, 1, 4, 5, 2, 3)), (n, c * taps[0] * taps[1], rows * columns))

    settings = {"kernel_size": taps, "dilation": gaps, "padding": pads, "stride": steps}
    return moved(given, "Take", call, settings)


@aten("col2im")
def _col2im(given: Given) -> Translation:
    """Columns added up where their patches lay: ``(N, C * taps, positions)`` to ``(N, C, H, W)``."""
    taps, gaps = given.integers("kernel_size", 2, 1), given.integers("dilation", 2, 1)
    pads, steps = given.integers("padding", 2, 0), given.integers("stride", 2, 1)
    sizes = given.integers("output_size", 2, 1)
    full = [size + 2 * pad for size, pad in zip(sizes, pads, strict=True)]
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(full, taps, gaps, steps, strict=True)]
    if given.rank() != 3:
        raise given.refuse("an input (N, C, positions) was expected")

    def call(x: Array) -> Array:
        parts = np.reshape(x, (x.shape[0], -1, *taps, *counts))
        out = np.zeros((x.shape[0], parts.shape[1], *full), x.dtype)
        for row, column in np.ndindex(*taps):
            (a, b), (c, d) = ((o * g, (m - 1) * s + o * g + 1) for o, g, m, s in
                              zip((row, column), gaps, counts, steps, strict=True))  # fmt: skip
            out[:, :, a : b : steps[0], c : d : steps[1]] += parts[:, :, row, column]
        return out[:, :, pads[0] : pads[0] + sizes[0], pads[1] : pads[1] + sizes[1]]

    settings = {"kernel_size": taps, "dilation": gaps, "padding": pads, "stride": steps, "output_size": sizes}
    return moved(given, "Fold", call, settings)
