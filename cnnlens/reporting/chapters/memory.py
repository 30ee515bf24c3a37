"""Where each number lies: a small kernel and a small map under two layouts, and a map read in the wrong one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.layout.crossing import crossings
from cnnlens.layout.readings import readings
from cnnlens.network.graph import Layer
from cnnlens.plot.values import limits_of
from cnnlens.reporting.packing import Packer

__all__ = ["flattened", "in_memory", "maps_in_memory"]

_SMALL = (3, 3, 2, 4)  # of a kernel, few enough cells to see each of them
# Kernels and maps whose sizes all differ, for exercises: an answer under a wrong layout is another number.
_KERNELS = ((3, 5, 2, 8), (3, 3, 4, 6), (5, 3, 4, 2), (3, 7, 2, 4), (5, 5, 3, 8), (1, 3, 6, 4))
_MAPS = ((1, 4, 6, 3), (1, 5, 8, 2), (2, 4, 7, 3), (1, 6, 10, 4), (2, 3, 5, 8))
_FLAT = ((1, 2, 3, 4), (1, 7, 5, 3), (1, 4, 6, 8), (1, 3, 5, 2), (1, 7, 7, 64))


def in_memory(packer: Packer, layer: Layer) -> dict[str, Any]:
    """Lay a small part of a layer's kernel out as Keras and as PyTorch store it."""
    part = layer.stored["kernel"].read()[tuple(map(slice, _SMALL))]
    sizes = dict(zip("HWIO", _SMALL, strict=True))
    said = _side_by_side(("HWIO", "OIHW"), sizes)
    values = np.ascontiguousarray(part, np.float32)
    said["values"] = packer.add("memory.values", values)
    said["limits"] = [float(limits_of(values.reshape(1, -1), weights=True).high)]
    said["cases"] = _cases(("HWIO", "OIHW"), _KERNELS)
    keras, torch = said["layouts"]
    said["places"] = {
        "cells": str(values.size),
        "inputs": str(_SMALL[2]),
        "outputs": str(_SMALL[3]),
        "shape": str(tuple(keras["shape"])),
        "shape_torch": str(tuple(torch["shape"])),
        "strides": str(tuple(keras["strides"])),
        "strides_torch": str(tuple(torch["strides"])),
        "step": str(keras["steps"]["H"]),
    }
    return said


def maps_in_memory(packer: Packer, maps: NDArray[Any]) -> dict[str, Any]:
    """Lay a small map out channels last and channels first, and read real ones ``(C, H, W)`` rightly and reshaped."""
    sizes = {"N": 1, "H": 2, "W": 4, "C": 3}
    said = _side_by_side(("NHWC", "NCHW"), sizes)
    busiest = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:3]
    three = maps[busiest].astype(np.float32)
    stored = np.ascontiguousarray(three.transpose(1, 2, 0))[None]
    (crossing,) = crossings(None, "NHWC", "NCHW", shape=stored.shape)
    read = {one.code: one for one in readings(crossing) if one.right or "reshape" in one.name}
    right, wrong = read.values()
    said["readings"] = [
        {
            "code": one.code,
            "array": packer.add(f"maps.{place}", np.ascontiguousarray(stored.reshape(-1)[one.array][0])),
            "misplaced": int((one.array != right.array).sum()),
        }
        for place, one in enumerate((right, wrong))
    ]
    said["limits"] = [[0.0, float(one.max())] for one in three]
    said["cases"] = _cases(("NHWC", "NCHW"), _MAPS)
    said["places"] = {
        "shape": str(stored.shape),
        "shape_torch": str((1, *three.shape)),
        "misplaced": f"{said['readings'][1]['misplaced']:,}",
        "of": f"{three.size:,}",
        "reshaped": wrong.code.removeprefix("maps = "),
        "transposed": right.code.removeprefix("maps = "),
        "rows": str(sizes["H"]),
        "columns": str(sizes["W"]),
        "channels": str(sizes["C"]),
    }
    return said


def flattened() -> dict[str, Any]:
    """Say for maps of several shapes at which feature each of their numbers comes out of a Flatten."""
    sizes = {"N": 1, "H": 2, "W": 3, "C": 4}
    places = {"rows": str(sizes["H"]), "columns": str(sizes["W"]), "depth": str(sizes["C"])}
    return {"cases": _cases(("NHWC", "NCHW"), _FLAT), **_side_by_side(("NHWC", "NCHW"), sizes), "places": places}


def _side_by_side(layouts: Sequence[str], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Memory under each layout: shape, strides, and for each address the index along each letter."""
    found: list[dict[str, Any]] = []
    for letters in layouts:
        memory = layout.memory(letters, [sizes[letter] for letter in letters])
        found.append({
            "layout": letters, "shape": list(memory.shape), "strides": list(memory.strides),
            "steps": dict(memory.steps), "indices": {letter: list(one) for letter, one in memory.indices.items()},
        })  # fmt: skip
    return {"sizes": dict(sizes), "layouts": found}


def _cases(layouts: Sequence[str], shapes: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """For exercises: shapes under the first of ``layouts``, with the steps of each letter under all of them."""
    return [
        {
            "sizes": dict(zip(layouts[0], shape, strict=True)),
            "steps": {
                letters: dict(layout.memory(letters, _shape(letters, layouts[0], shape), addresses=[]).steps)
                for letters in layouts
            },
        }
        for shape in shapes
    ]


def _shape(letters: str, given: str, shape: Sequence[int]) -> list[int]:
    return [shape[given.index(letter)] for letter in letters]
