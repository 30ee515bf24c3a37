"""Kernels that find edges, and how what a map shows moves away from the picture, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.reference.receptive import receptive_fields

__all__ = ["depth", "edges"]

# Sobel's: the change from top to bottom, and from left to right.
_EDGES = {"horizontal": np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], np.float64)}
_EDGES["vertical"] = np.ascontiguousarray(_EDGES["horizontal"].T)


def edges(layer: Layer) -> dict[str, Any]:
    """Find the kernels of a first layer that are most like an edge detector, and how much: a cosine."""
    kernel = layer.kernel
    assert kernel is not None
    flat = kernel.array[:, 0].reshape(len(kernel.array), -1).astype(np.float64)
    found: dict[str, Any] = {}
    for name, wanted in _EDGES.items():
        likeness = flat @ wanted.reshape(-1) / np.linalg.norm(flat, axis=1) / np.linalg.norm(wanted)
        best = int(np.abs(likeness).argmax())
        found[name] = {"kernel": best, "likeness": float(likeness[best])}
    return {
        "edges": found,
        "places": {
            "kernels": str(len(flat)),
            "taps": str(flat.shape[1]),
            "horizontal": str(found["horizontal"]["kernel"]),
            "vertical": str(found["vertical"]["kernel"]),
            "likeness": f"{abs(found['horizontal']['likeness']):.2f}",
            "likeness_vertical": f"{abs(found['vertical']['likeness']):.2f}",
        },
    }


def depth(
    network: Network, picture: NDArray[Any], maps: Mapping[str, NDArray[Any]], layers: tuple[str, str]
) -> dict[str, Any]:
    """Measure how like its picture a feature map is, how much of it is zero, and what of the picture a pixel sees.

    Returns:
        For each of ``layers``: ``likeness``, the mean over maps and pictures of the absolute correlation of a map with
        the picture made as small; ``zero``, the share of zeros; ``field``, the side of the patch; ``step``, how many
        pixels of the picture one step in the map is; ``before``, where the patch of the first pixel begins.
    """
    rows: list[dict[str, Any]] = []
    fields = receptive_fields(network)
    for name in layers:
        seen = maps[name]
        found = fields[name]
        assert not isinstance(found, str)
        field = found[network.inputs[0].call]
        middle = seen.shape[-1] // 2  # where no padding is in sight
        first, after = (int(field.first[-1][place]) for place in (middle, middle + 1))
        rows.append(
            {
                "name": name,
                "likeness": _likeness(seen, _shrunk(picture, seen.shape[-1])),
                "zero": float((seen == 0).mean()),
                "field": int(field.last[-1][middle]) + 1 - first,
                "step": after - first,
                "before": first - middle * (after - first),
            }
        )
    first, second = rows
    return {
        "layers": rows,
        "places": {
            "likeness": f"{first['likeness']:.2f}",
            "likeness_second": f"{second['likeness']:.2f}",
            "zero": f"{100 * first['zero']:.0f}",
            "zero_second": f"{100 * second['zero']:.0f}",
            "field": str(first["field"]),
            "field_second": str(second["field"]),
            "pictures": str(len(picture)),
            "maps": str(maps[layers[0]].shape[1]),
            "maps_second": str(maps[layers[1]].shape[1]),
        },
    }


def _shrunk(picture: NDArray[Any], side: int) -> NDArray[Any]:
    """The picture as the mean of as many blocks as a map has pixels."""
    block = picture.shape[-1] // side
    return picture.reshape(*picture.shape[:2], side, block, side, block).mean(axis=(3, 5))


def _likeness(maps: NDArray[Any], picture: NDArray[Any]) -> float:
    one, other = (array - array.mean(axis=(2, 3), keepdims=True) for array in (maps, picture))
    size = np.sqrt((one**2).sum(axis=(2, 3)) * (other**2).sum(axis=(2, 3)))
    found = np.abs((one * other).sum(axis=(2, 3)))
    return float((found[size > 0] / size[size > 0]).mean())  # a map of one value is like nothing
