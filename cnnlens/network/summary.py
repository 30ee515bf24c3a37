"""What a model is, as data and as a table: layers, shapes in every layout, statistics of each array.

The JSON is for programs and stays stable; the table says the same for people. Both come from one walk over the network.
"""

from __future__ import annotations

import math
from typing import Any

from cnnlens.network.graph import Layer, shown_shape
from cnnlens.network.kernel import Statistics
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.page import Page, Table
from cnnlens.text import finite_or_null, printable

__all__ = ["as_json", "as_page", "statistics_json"]

_COUNTERS = frozenset({"num_batches_tracked"})  # of training: no weights, and a row of the table for each batch norm


def as_json(network: Network) -> dict[str, Any]:
    """Give the network as plain data.

    ``{"model": {...}, "layers": [{"name", "kind", "output_shape", "weights": [{"name", "canonical_shape", "layouts",
    "mean", "std", "min", "max", ...}]}]}``. Output shapes are canonical ``(N, C, *spatial)`` with null for the batch;
    ``stored_output_shape`` has the file's own axes. Statistics are in the array's dtype, over its finite values; null
    where there are none.
    """
    source = network.source
    return {
        "model": {
            "name": network.name,
            "kind": network.kind,
            "file": str(source.path),
            "format": source.format,
            "framework": source.framework,
            "keras_version": source.keras_version,
            "size": source.size,
            "sha256": source.sha256,
            "parameters": network.parameters,
            "inputs": {name: _list(shape) for name, shape in network.input_shapes.items()},
            "outputs": {ref.name: _list(network.canonical_shape(ref)) for ref in network.outputs},
            "notes": list(network.notes),
        },
        "layers": [_layer(index, layer) for index, layer in enumerate(network.layers)],
    }


def _layer(index: int, layer: Layer) -> dict[str, Any]:
    return {
        "index": index,
        "name": layer.name,
        "kind": layer.kind,
        "inputs": list(layer.inputs),
        "output_shape": _list(layer.output_shape),
        "stored_output_shape": _list(layer.stored_output_shape),
        "parameters": layer.parameters,
        "weights": [_weight(weight) for weight in layer.stored.values()],
    }


def _weight(weight: Weight) -> dict[str, Any]:
    return {
        "name": weight.name,
        "dtype": weight.stored.stored_dtype,
        "stored_shape": list(weight.stored.shape),
        "canonical_shape": list(weight.canonical_shape),
        "layouts": {name: _list(shape) for name, shape in weight.layouts().items()},
        **statistics_json(weight.stats()),
    }


def statistics_json(stats: Statistics) -> dict[str, Any]:
    """Give statistics as plain data; null where an array has no finite value."""
    return {
        "mean": finite_or_null(stats.mean),
        "std": finite_or_null(stats.std),
        "min": finite_or_null(stats.min),
        "max": finite_or_null(stats.max),
        "count": stats.count,
        "nan": stats.nan,
        "posinf": stats.posinf,
        "neginf": stats.neginf,
    }


def _list(shape: tuple[int | None, ...] | None) -> list[int | None] | None:
    return None if shape is None else list(shape)


def as_page(network: Network, warning: str = "") -> Page:
    """Write the network for people: a header, a row a layer, and under a layer a row for each further array.

    Args:
        warning: A line that stands in the header, above the notes.
    """
    source = network.source
    version = f"Keras {printable(source.keras_version, 20)}" if source.keras_version else "Keras, version not stated"
    if source.framework == "torch":
        version = "PyTorch"
    lines = [
        f"{printable(source.path, 300)}",
        f"{printable(network.kind)} '{printable(network.name)}' · {version} · {source.format} · "
        f"{source.size:,} bytes · {network.parameters:,} parameters",
        f"sha256 {source.sha256}",
    ]
    lines += [warning] if warning else []
    lines += [f"note: {note}" for note in network.notes]
    rows = [["#", "layer", "kind", "output", "weight", "stored", "canonical", "mean", "std"]]
    for index, layer in enumerate(network.layers):
        head = [
            str(index),
            printable(layer.name, 40),
            layer.shown_kind,
            shown_shape(layer.output_shape) if network.calls else "",
        ]
        weights = [_weight_cells(one) for one in layer.stored.values() if one.role not in _COUNTERS] or [[""] * 5]
        rows += [(head if first == 0 else [""] * 4) + cells for first, cells in enumerate(weights)]
    rows += [] if network.layers else [["", "the file holds no layers", *[""] * 7]]
    return Page([*lines, "", Table(rows, right=(0, 7))])


def _weight_cells(weight: Weight) -> list[str]:
    stats = weight.stats()
    shown = [f"{value:.6g}" if math.isfinite(value) else "-" for value in (stats.mean, stats.std)]
    if stats.finite < stats.count:
        shown[1] += f"  ({stats.count - stats.finite:,} of {stats.count:,} not finite)"
    return [
        printable(weight.name, 40),
        f"{weight.stored_axes} {weight.stored.shape}".strip(),
        f"{weight.canonical_axes} {weight.canonical_shape}".strip(),
        *shown,
    ]
