"""Kernels and other weights as pictures: one tile a kernel, one row a one-dimensional kernel, one cell a dense weight.

Weights have a sign, so their colours are symmetric about zero and shared by all tiles: kernels compare at a glance.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import WEIGHTS, colour_map, paint, paint_rgb, scale_of
from cnnlens.plot.grid import any_clipped, clipped_cells, clipped_note, grid, heat, refuse_too_many
from cnnlens.plot.values import (
    Floats,
    Limits,
    broken_notes,
    chosen,
    joined,
    limits_of,
    normalised,
    number,
    own_ends,
    real_numbers,
    span,
)
from cnnlens.text import printable

__all__ = ["kernels"]

_ROWS = 128  # one-dimensional kernels that are drawn below each other


def kernels(
    array: ArrayLike,
    *,
    channel: int | str | None = None,
    channels: Sequence[int] | str | None = None,
    limits: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | Colormap | None = None,
    columns: int | None = None,
    title: str = "kernels",
    subtitle: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw an array of weights as ``plot.kernels`` says."""
    values = real_numbers(array, "weights", 1, 5)
    if columns is not None and columns < 1:
        raise CnnlensError(f"columns: a grid needs at least one, not {columns}")
    as_matrix = values.ndim > 2 and channel is None and math.prod(values.shape[2:]) == 1 and values.shape[1] > 1
    if values.ndim <= 2 or as_matrix:
        if columns is not None:
            raise CnnlensError(
                f"columns: weights of {values.shape} are drawn as one matrix, without tiles; leave it out"
            )
        if values.ndim <= 2 and channel not in (None, "all"):
            raise CnnlensError(f"channel: weights of {values.shape} are drawn as one matrix, whole; leave it out")
    names = chosen(channels, len(values), "kernel" if values.ndim > 2 else "output" if values.ndim == 2 else "entry")
    if channels is not None:
        values = values[names]
    cut = f"{len(names)} of {len(np.asarray(array))} kernels" if channels is not None else ""
    ends: dict[str, Any] = {"limits": limits, "vmin": vmin, "vmax": vmax}
    if as_matrix:
        said = f"kernels of {' × '.join(map(str, values.shape[2:]))} as one matrix"
        matrix = values.reshape(values.shape[:2])
        what = ("input", "output")
        return _weight_matrix(
            matrix, what, names, limits_of(matrix, weights=True, **ends), cmap, title, [subtitle, said, cut], ax
        )
    if values.ndim <= 2:
        what = ("input", "output") if values.ndim == 2 else ("entry", "")
        cut = cut.replace("kernels", "outputs" if values.ndim == 2 else "entries")
        matrix = np.atleast_2d(values)
        return _weight_matrix(
            matrix, what, names, limits_of(matrix, weights=True, **ends), cmap, title, [subtitle, cut], ax
        )
    inputs = values.shape[1]
    wanted = ("rgb" if inputs == 3 and values.ndim == 4 and cmap is None else 0) if channel is None else channel
    if not isinstance(wanted, str):
        wanted = _index(wanted)
    elif wanted not in ("all", "rgb"):
        raise CnnlensError(f"channel '{printable(wanted)}' is not known; give a number, 'all' or 'rgb'")
    if wanted == "rgb" and (inputs != 3 or values.ndim != 4):
        raise CnnlensError(
            f"RGB needs two-dimensional kernels of 3 input channels, not {values.shape}; give a number or 'all'"
        )
    if wanted == "rgb" and cmap is not None:
        raise CnnlensError("channel 'rgb' has its own colours; leave cmap out, or name one channel: channel 0")
    if wanted == "all" and columns is not None and inputs > 1 and len(values) > 1:
        raise CnnlensError("channel 'all' has a column for each input channel; leave columns out, or name one channel")
    if isinstance(wanted, int) and not 0 <= wanted < inputs:
        raise CnnlensError(f"there is no input channel {wanted}; the layer has {span(inputs)}")
    if isinstance(wanted, int):
        values = values[:, wanted : wanted + 1]
    said = f"input channel {wanted} of {inputs}" if isinstance(wanted, int) and inputs > 1 else ""
    said = joined(cut, said)
    if wanted == "all" and values.ndim > 3:
        refuse_too_many(len(values), inputs, values.shape[-2], math.prod(values.shape[2:]) // values.shape[-2])
    notes = broken_notes(values, "kernel", names)
    if not np.any(values):
        notes.append(("every weight is 0", None))

    if values.ndim == 3 and values.shape[1] == 1 and len(values) > _ROWS:
        values = values[:, :, None, :]  # so many rows are a grid of tiles
    if values.ndim == 3:  # (out, in, K): one tile an input channel, one row a kernel
        if columns is not None:
            raise CnnlensError("columns: one-dimensional kernels are rows of one tile; leave it out")
        found = limits_of(values, weights=True, **ends)
        marks = clipped_cells(values, found)
        if marks is not None:
            notes.append(clipped_note(marks, "kernels", names))
        shown, low, high = normalised(values, found)
        colours = colour_map(cmap, WEIGHTS)
        painted = paint(shown.swapaxes(0, 1), colours, low, high)
        rows = "one row a kernel" if len(painted) == 1 else "one row a kernel, one block an input channel"
        return grid(
            painted, title, [subtitle, joined(said, rows), found.said], notes,
            scale_of(colours, low, high, found.extend), ax, columns=len(painted), number_columns=len(painted) > 1,
            rows_inside=names,
            clipped=None if marks is None else marks.swapaxes(0, 1), bar_ticks=own_ends(found),
        )  # fmt: skip
    outs, ins, *spatial = values.shape
    both = wanted == "all" and inputs > 1
    alone = both and outs == 1  # then the input channels are what is counted
    # With all of its inputs a tile is one of them; else a tile is a kernel, and what has ends of its own is a tile.
    tiles = values.reshape(outs * ins, *spatial) if both else values
    found = limits_of(tiles, weights=True, **ends)
    marks = clipped_cells(tiles, found)
    if marks is not None:
        flat = marks.reshape(outs, -1)
        notes.append(clipped_note(flat, "kernels", names))
    if wanted == "rgb":
        if not found.each:
            painted, full = paint_rgb(values, float(found.high)), f"full colour ±{number(float(found.high))}"
            if found.low != -found.high:
                raise CnnlensError("channel 'rgb' needs vmin = -vmax: grey is 0; leave vmin out, or name one channel")
        else:
            painted, full = paint_rgb(normalised(values, found)[0], 1.0), "full colour ± its own largest magnitude"
        said = joined(said, f"RGB of 3 input channels: grey is 0, {full}")
        some = None if marks is None else any_clipped(marks)
        return grid(painted, title, [subtitle, said], notes, None, ax, columns=columns, names=names, clipped=some)
    shown, low, high = normalised(tiles, found)
    colours = colour_map(cmap, WEIGHTS)
    painted = paint(shown, colours, low, high).reshape(outs * ins, *spatial, 3)
    if len(spatial) == 3:
        said = joined(said, f"the {spatial[0]} depth slices of a kernel side by side" if spatial[0] > 1 else "")
    if both:
        of = f"the input channels of kernel {names[0]}"
        said = joined(of if alone else "rows are output channels, columns are input channels", said)
    if low != -high:
        notes.append((f"the middle colour is {number((low + high) / 2)}, not 0", None))
    return grid(
        painted, title, [subtitle, said, found.said], notes, scale_of(colours, low, high, found.extend), ax,
        columns=ins if both and not alone else columns, both=(names, range(ins)) if both and not alone else None,
        names=range(ins) if alone else names,
        clipped=None if marks is None else marks.reshape(outs * ins, *spatial), bar_ticks=own_ends(found),
    )  # fmt: skip


def _index(channel: object) -> int:
    """A whole number of whatever type, NumPy's among them."""
    try:
        return operator.index(cast(int, channel))
    except TypeError:
        raise CnnlensError(f"channel {printable(channel)} is not known; give a number, 'all' or 'rgb'") from None


def _weight_matrix(
    values: Floats,
    axes: tuple[str, str],
    names: Sequence[int],
    limits: Limits,
    cmap: str | Colormap | None,
    title: str,
    subtitle: Sequence[str],
    ax: Axes | None,
) -> Figure:
    notes = broken_notes(values if axes[1] else values.T, axes[1] or axes[0], names)
    if not np.any(values):
        notes.append(("every weight is 0", None))
    marks = clipped_cells(values, limits)
    if marks is not None:
        notes.append(clipped_note(marks if axes[1] else marks.T, "outputs" if axes[1] else "entries", names))
    shown, low, high = normalised(values, limits)
    colours = colour_map(cmap, WEIGHTS)
    return heat(
        shown, colours, low, high, axes, title, [*subtitle, limits.said], notes,
        scale_of(colours, low, high, limits.extend), ax, row_names=names if axes[1] else None, clipped=marks,
        bar_ticks=own_ends(limits),
    )  # fmt: skip
