"""Kernels and other weights as pictures: one tile a kernel, one row a one-dimensional kernel, one cell a dense weight.

Weights have a sign, so their colours are symmetric about zero and shared by all tiles: kernels compare at a glance.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cnnlens.errors import CnnlensError
from cnnlens.plot.colours import WEIGHTS, paint, paint_rgb, scale_of
from cnnlens.plot.grid import grid, heat, refuse_too_many
from cnnlens.plot.sheet import number
from cnnlens.plot.values import Floats, broken_notes, joined, largest, real_numbers, span
from cnnlens.text import printable

__all__ = ["kernels"]


def kernels(
    array: ArrayLike,
    *,
    channel: int | str | None = None,
    title: str = "kernels",
    subtitle: str = "",
    limit: float | None = None,
    columns: int | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the kernels of one layer, red above zero and blue below, white at zero.

    Args:
        array: Canonical weights, real numbers: ``(out, in / groups, *spatial)``, one to three spatial axes (one tile a
            kernel, for volumes its depth slices side by side; one-dimensional kernels as one row each), or
            ``(out, in)`` or ``(n,)`` (one cell a weight).
        channel: Which input channel: an index, ``"all"`` for a grid of output rows and input columns, ``"rgb"`` for
            three channels as one colour picture. None takes ``"rgb"`` where there are three and else channel 0, and
            draws kernels of one cell (1 x 1) as one matrix. Matrices and vectors are always drawn whole.
        title, subtitle: What the picture is of. They may come from a file: unsafe characters are escaped.
        limit: The weight that gets the full colour; None takes the largest magnitude drawn.
        columns: Tiles in a row; None chooses.
        ax: Draw into this axes instead of into a new figure.

    Returns:
        The figure, with one image for the grid and one colour bar (none for RGB).

    Raises:
        CnnlensError: No such channel, nothing to draw, no real numbers, or too many tiles for one picture.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> figure = cnnlens.plot.kernels(net["conv2d"].kernel.array, title="conv2d")
    >>> cnnlens.plot.save(figure, "kernels.png").name
    'kernels.png'
    >>> cnnlens.plot.kernels(net["conv2d"].kernel.array, channel=1)
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: there is no input channel 1; the layer has channel 0 only
    """
    values = real_numbers(array, "weights", 1, 5)
    if values.ndim > 2 and channel is None and math.prod(values.shape[2:]) == 1:
        said = f"kernels of {' × '.join(map(str, values.shape[2:]))} as one matrix"
        return _weight_matrix(values.reshape(values.shape[:2]), title, [subtitle, said], limit, ax)
    if values.ndim <= 2:
        return _weight_matrix(values, title, [subtitle], limit, ax)
    inputs = values.shape[1]
    chosen = ("rgb" if inputs == 3 and values.ndim == 4 else 0) if channel is None else channel
    if not isinstance(chosen, str):
        chosen = _index(chosen)
    elif chosen not in ("all", "rgb"):
        raise CnnlensError(f"channel '{printable(chosen)}' is not known; give a number, 'all' or 'rgb'")
    if chosen == "rgb" and (inputs != 3 or values.ndim != 4):
        raise CnnlensError(
            f"RGB needs two-dimensional kernels of 3 input channels, not {values.shape}; give a number or 'all'"
        )
    if isinstance(chosen, int) and not 0 <= chosen < inputs:
        raise CnnlensError(f"there is no input channel {chosen}; the layer has {span(inputs)}")
    if isinstance(chosen, int):
        values = values[:, chosen : chosen + 1]
    said = f"input channel {chosen} of {inputs}" if isinstance(chosen, int) and inputs > 1 else ""
    if chosen == "all" and values.ndim > 3:
        refuse_too_many(len(values), inputs, values.shape[-2], math.prod(values.shape[2:]) // values.shape[-2])
    notes = broken_notes(values, "kernel")
    if not np.any(values):
        notes.append(("every weight is 0", None))
    bound = largest(values, limit)

    if values.ndim == 3:  # (out, in, K): one tile an input channel, one row a kernel
        painted = paint(values.swapaxes(0, 1), WEIGHTS, -bound, bound)
        rows = "one row a kernel" if len(painted) == 1 else "one row a kernel, one block an input channel"
        return grid(
            painted, title, [subtitle, joined(said, rows)], notes, scale_of(WEIGHTS, -bound, bound), ax,
            columns=len(painted), number_columns=len(painted) > 1, rows_inside=True,
        )  # fmt: skip
    if chosen == "rgb":
        painted = paint_rgb(values, bound)
        said = f"RGB of 3 input channels: grey is 0, full colour ±{number(bound)}"
        return grid(painted, title, [subtitle, said], notes, None, ax, columns=columns)
    painted = paint(values, WEIGHTS, -bound, bound)
    outs, ins, *spatial = values.shape
    painted = painted.reshape(outs * ins, *spatial, 3)
    if len(spatial) == 3:
        said = joined(said, f"the {spatial[0]} depth slices of a kernel side by side" if spatial[0] > 1 else "")
    both = chosen == "all" and inputs > 1
    if both:
        said = joined("rows are output channels, columns are input channels", said)
    return grid(
        painted, title, [subtitle, said], notes, scale_of(WEIGHTS, -bound, bound), ax,
        columns=ins if both else columns, both=both,
    )  # fmt: skip


def _index(channel: object) -> int:
    """A whole number of whatever type, NumPy's among them."""
    try:
        return operator.index(cast(int, channel))
    except TypeError:
        raise CnnlensError(f"channel {printable(channel)} is not known; give a number, 'all' or 'rgb'") from None


def _weight_matrix(values: Floats, title: str, subtitle: Sequence[str], limit: float | None, ax: Axes | None) -> Figure:
    bound = largest(values, limit)
    notes = broken_notes(values, "output" if values.ndim == 2 else "entry")
    if not np.any(values):
        notes.append(("every weight is 0", None))
    bar = scale_of(WEIGHTS, -bound, bound)
    axes = ("input", "output") if values.ndim == 2 else ("entry", "")
    return heat(np.atleast_2d(values), WEIGHTS, -bound, bound, axes, title, subtitle, notes, bar, ax)
