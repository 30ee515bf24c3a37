"""The lesson's data, chapter by chapter, in the order in which they are read.

The words stand in ``languages/lesson.*.json``. Every number in them is a ``{place}``, which a chapter fills from here,
so that none is typed by hand and no translation can change one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens import sample
from cnnlens.inputs.stream import open_inputs
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.network.untrained import keras as initializers
from cnnlens.network.untrained.draw import initializer_of
from cnnlens.opening.opener import open as open_model
from cnnlens.reporting.budget import Budget
from cnnlens.reporting.chapters.edges import depth, edges
from cnnlens.reporting.chapters.memory import flattened, in_memory, maps_in_memory
from cnnlens.reporting.chapters.mistakes import flatten_mistakes, kernel_mistakes
from cnnlens.reporting.chapters.padding import padding
from cnnlens.reporting.chapters.rounding import rounding
from cnnlens.reporting.contents import COLOURS, add_colours
from cnnlens.reporting.maps import inputs_said, maps_said
from cnnlens.reporting.packing import Packer
from cnnlens.reporting.weights import add_weight

__all__ = ["CHAPTERS", "course"]

CHAPTERS = ("kernel", "memory", "maps", "mistakes", "flatten", "padding", "untrained", "depth", "rounding")
"""What the chapters are called in the words' keys and in the data."""

PICTURES = (9, 0, 5, 8)  # of the sample's images, those with much to see: boot, T-shirt, sandal, bag
_FIRST, _SECOND = "conv2d", "conv2d_1"
_MOST = 95  # per cent of the weights that have a colour of their own


def course() -> tuple[dict[str, Any], str]:
    """Put the lesson's data together, and pack its arrays.

    Returns:
        The data: ``inputs`` and ``layers`` as a report has them, ``labels`` of the classes, ``chapters``; the block.
    """
    network = open_model(sample.MODEL)
    paths = sorted(sample.IMAGES.iterdir())
    every = network.run(sample.IMAGES)
    maps = {name: array[list(PICTURES)] for name, array in every.items()}
    packer = Packer()
    budget = Budget(packer, 1 << 30)  # the sample is small enough for exact numbers of all
    add_colours(packer)
    stream = open_inputs(network, [paths[place] for place in PICTURES])
    inputs = inputs_said(budget, stream, dict(zip(stream.names, stream.batch(0, stream.count), strict=True)))
    inputs["labels"] = [sample.LABELS[place] for place in PICTURES]
    layers: dict[str, Any] = {}
    for name in (_FIRST, _SECOND):
        rows: list[dict[str, Any]] = [{} for _ in network[name].stored]
        for place, (row, weight) in enumerate(zip(rows, network[name].stored.values(), strict=True)):
            add_weight(row, budget, network[name], weight, f"{name}.weight.{place}")
        layers[name] = {"weights": rows, "maps": maps_said(budget, name, maps[name], f"{name}.maps"),
            "ends": _ends(network[name].stored["kernel"].read())}  # fmt: skip
    budget.settle()
    chapters = {
        "kernel": edges(network[_FIRST]),
        "memory": in_memory(packer, network[_SECOND]),
        "maps": maps_in_memory(packer, every["max_pooling2d"][PICTURES[0]]),
        "mistakes": kernel_mistakes(packer, network, (_FIRST, _SECOND), PICTURES),
        "flatten": _joined(flatten_mistakes(network, "dense", PICTURES), flattened()),
        "padding": padding(packer, network[_FIRST], paths[PICTURES[0]]),
        "untrained": _untrained(packer, network[_FIRST], network[_SECOND]),
        "depth": depth(network, network.read(sample.IMAGES).arrays[network.inputs[0].name], every, (_FIRST, _SECOND)),
        "rounding": rounding(network, every, _SECOND),
    }
    return {
        **_model_said(network),
        "labels": list(sample.LABELS),
        "inputs": inputs,
        "layers": layers,
        "chapters": chapters,
        "colours": COLOURS,
        "arrays": packer.table,
    }, packer.block()


def _ends(kernel: NDArray[Any]) -> list[float]:
    """One scale for all pictures of a layer's kernels, so that right and wrong readings compare; some are beyond it."""
    end = float(np.percentile(np.abs(kernel), _MOST))
    return [-end, end]


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {**one, **other, "places": {**one["places"], **other["places"]}}


def _model_said(network: Network) -> dict[str, Any]:
    return {"model": {"file": network.source.path.name, "parameters": network.parameters}}


def _untrained(packer: Packer, *layers: Layer) -> dict[str, Any]:
    """Kernels as an untrained model would have them, and the limits of the law for kernels of several shapes, which an
    exercise asks for."""
    said: dict[str, Any] = {"layers": []}
    for layer in layers:
        weight = layer.stored["kernel"]
        drawn = initializers.draw(initializer_of(layer, weight), weight.stored.shape, 0)
        trained = weight.read()
        kernels = np.ascontiguousarray(drawn.transpose(3, 2, 0, 1)[:, 0], np.float32)
        end = float(np.abs(kernels).max())
        low, high = initializers.density(initializer_of(layer, weight), weight.stored.shape).support
        beyond = float(((trained < low) | (trained > high)).mean())
        said["layers"].append({
            "name": layer.name, "kernels": packer.add(f"untrained.{layer.name}", kernels), "limits": [-end, end],
            "beyond": beyond,
        })  # fmt: skip
    shapes = ((3, 3, 1, 32), (3, 3, 32, 64), (5, 5, 3, 16), (7, 7, 3, 64), (1, 1, 24, 8), (3, 3, 8, 24))
    said["limits"] = [
        {"shape": list(shape), "limit": initializers.density("glorot_uniform", shape).support[1]} for shape in shapes
    ]
    first = layers[0].stored["kernel"]
    support = initializers.density(initializer_of(layers[0], first), first.stored.shape).support
    said["places"] = {
        "limit": f"{support[1]:.3g}",
        "inputs": str(initializers.compute_fans(first.stored.shape)[0]),
        "outputs": str(initializers.compute_fans(first.stored.shape)[1]),
        "beyond": f"{100 * said['layers'][0]['beyond']:.0f}",
        "beyond_second": f"{100 * said['layers'][1]['beyond']:.0f}",
    }
    return said
