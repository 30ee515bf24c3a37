"""A layer and a kernel as a person meets them: their arrays in a table, and a small picture of what they learned."""

from __future__ import annotations

import math
from dataclasses import fields

from cnnlens.network.graph import Layer, shown_shape
from cnnlens.network.kernel import Kernel, Statistics
from cnnlens.network.weight import Weight
from cnnlens.page import Page, Picture, Table, Tone, Toned
from cnnlens.text import printable

__all__ = ["kernel_page", "layer_page"]

_NUMBERS = ["mean", "std", "min", "max"]


def layer_page(layer: Layer) -> Page:
    """Say what a layer is: a row an array, under the line that says its kind, what feeds it and what it gives."""
    fed = ", ".join([*(printable(name, 40) for name in layer.inputs[:4]), *["…"] * (len(layer.inputs) > 4)])
    lines: list[str | Table] = [
        Toned(printable(layer.name), Tone.STRONG),
        f"{layer.shown_kind}{f' of {fed}' if fed else ''} · output {shown_shape(layer.output_shape)} · "
        f"{layer.parameters:,} parameters",
    ]
    if layer.stored:
        rows = [["weight", "dtype", "stored", "canonical", *_NUMBERS], *map(_row, layer.stored.values())]
        lines += ["", Table(rows, right=range(4, 8))]
    drawn = next((one for one in layer.stored.values() if one.is_kernel), None)
    return Page(lines, None if drawn is None else lambda: _picture(drawn.kernel()))


def kernel_page(kernel: Kernel) -> Page:
    """Say what a kernel is: its axes, where it stands in its layer, and its numbers."""
    stats = kernel.stats()
    rows = [["canonical", "stored as", "dtype", *_NUMBERS]]
    rows.append([
        f"{kernel.axes} {kernel.shape}", printable(kernel.layout), str(kernel.array.dtype), *_cells(stats)
    ])  # fmt: skip
    said = {one.name: getattr(kernel.geometry, one.name) for one in fields(kernel.geometry)
            if getattr(kernel.geometry, one.name) != one.default}  # fmt: skip
    lines: list[str | Table] = [Toned(f"{printable(kernel.kind)} {printable(kernel.weight)}", Tone.STRONG)]
    lines += [", ".join(f"{name.replace('_', ' ')} {printable(value)}" for name, value in said.items())] if said else []
    return Page([*lines, "", Table(rows, right=range(3, 7))], lambda: _picture(kernel))


def _row(weight: Weight) -> list[str]:
    return [
        printable(weight.name, 40),
        weight.stored.stored_dtype,
        f"{weight.stored_axes} {weight.stored.shape}".strip(),
        f"{weight.canonical_axes} {weight.canonical_shape}".strip(),
        *_cells(weight.stats()),
    ]


def _cells(stats: Statistics) -> list[str]:
    cells = [f"{one:.4g}" if math.isfinite(one) else "-" for one in (stats.mean, stats.std, stats.min, stats.max)]
    if stats.finite < stats.count:
        cells[-1] += f"  ({stats.count - stats.finite:,} of {stats.count:,} not finite)"
    return cells


def _picture(kernel: Kernel) -> Picture | None:
    from cnnlens.plot import thumbnail  # here, because matplotlib is slow to import, and text has no pictures

    return Picture(*thumbnail(kernel.array)) if kernel.array.size else None
