"""What a page says of feature maps: the numbers of each, the ends of their colours, their statistics."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.inputs.stream import InputStream
from cnnlens.plot.values import extremes, limits_of
from cnnlens.reporting.budget import Budget
from cnnlens.reporting.weights import moments

__all__ = ["inputs_said", "maps_said"]

_VIEWS = {2: "bars", 3: "rows", 4: "tiles", 5: "tiles"}


def inputs_said(budget: Budget, stream: InputStream, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Say what went in, and pack it: the examples' names, what was done to them, and each input's pictures."""
    first = stream.sources[stream.names[0]]
    count = len(next(iter(arrays.values())))
    labels = (source if several == 1 else f"{source} [{one}]" for source, several in first for one in range(several))
    return {
        "count": count,
        "of": stream.count,
        "labels": list(islice(labels, count)),
        "notes": list(stream.notes),
        "arrays": {
            name: {
                "array": budget.exact(f"input.{place}", array.astype(np.float32)),
                "sha256": sha256(array.astype("<f4").tobytes()).hexdigest(),
                # as a picture is drawn: over its own range, all of its channels alike
                "limits": [_ends(one.reshape(1, -1), "shared")[0][0].tolist() for one in array.astype(np.float32)],
                "view": "picture" if array.ndim == 4 else _VIEWS.get(array.ndim),
            }
            for place, (name, array) in enumerate(arrays.items())
        },
    }


def maps_said(budget: Budget, tensor: str, maps: NDArray[Any], name: str) -> dict[str, Any]:
    """Say what a page shows of one tensor's feature maps ``(N, C, *spatial)``, and pack their numbers.

    Returns:
        ``tensor``, ``shape``, ``view`` (``tiles``, ``rows``, ``bars``, or None where it is not drawn), ``array``,
        ``exact``; ``limits`` ``(N, C, 2)`` and ``statistics`` ``(N, C, 5)``, packed; ``signed`` for each example;
        ``axes``: the letters of a map's axes in Keras and in PyTorch.
    """
    said: dict[str, Any] = {"tensor": tensor, "shape": list(maps.shape), "view": None, "array": None, "exact": False}
    if maps.ndim not in _VIEWS or not maps.size or maps.dtype.kind not in "fiub":
        return said
    maps = maps.astype(np.float32)
    found = [_ends(one, None) for one in maps]
    limits = np.stack([ends for ends, _ in found])
    flat = maps.reshape(-1, *maps.shape[2:])
    budget.add(said, name, flat, limits[..., 0].reshape(-1), limits[..., 1].reshape(-1))
    said.update(
        view=_VIEWS[maps.ndim],
        limits=budget.exact(f"{name}.limits", limits),
        statistics=budget.exact(f"{name}.statistics", moments(flat).reshape(*maps.shape[:2], -1)),
        signed=[signed for _, signed in found],
        axes={
            framework: layout.feature_map_axes(maps.ndim, order)
            for framework, order in (("keras", "channels_last"), ("torch", "channels_first"))
        },
    )
    return said


def _ends(maps: NDArray[Any], limits: str | None) -> tuple[NDArray[np.float64], bool]:
    """The ends of the colours of the maps ``(C, ...)`` of one example, and whether they have values below 0."""
    found = limits_of(maps, weights=False, limits=limits, ends=extremes(maps))
    low, high = (np.broadcast_to(end, len(maps)) for end in (found.low, found.high))
    return np.stack([low, high], axis=1), found.signed
