"""Inputs that nobody gave: a few drawn from a fixed seed, for a check or a comparison of what two models compute."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.inputs.stream import CanonicalStream
from cnnlens.memory import refuse_beyond
from cnnlens.network.graph import without_graph
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["INPUT_NUMBERS", "default_inputs", "drawn_stream"]

# Inputs that the audit looks at are so many that this many numbers go into the network, and at least one.
INPUT_NUMBERS = 200_000
_MOST_INPUTS = 8


_MASKED = 0.25  # of the steps that a layer may mask

_EMBEDDINGS = ("Embedding", "embedding")  # a layer, and PyTorch's function


def default_inputs(network: Network) -> dict[str, NDArray[Any]]:
    """Draw canonical inputs from a fixed seed: 0..1, or 0..255 for a model that rescales, rows of an embedding; some
    steps are masked where a layer masks them.

    Raises:
        CnnlensError: the file leaves the rank of an input open.
    """
    from cnnlens.network.graph import OPEN_SIZE
    from cnnlens.network.rescaling import rescaled

    generator = np.random.default_rng(0)
    drawn: dict[str, NDArray[Any]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for ref in network.inputs:
        shape = network.canonical_shape(ref)
        if shape is None:
            raise CnnlensError(f"the file does not say the shape of input '{printable(ref.name)}'; give inputs")
        shapes[ref.name] = tuple(OPEN_SIZE if size is None else size for size in shape[1:])
        if min(shapes[ref.name], default=1) < 1:
            raise CnnlensError(f"input '{printable(ref.name)}' is {shapes[ref.name]} in the model, which is empty")
    sizes = [math.prod(shape) for shape in shapes.values()]
    count = min(max(INPUT_NUMBERS // max(*sizes, 1, 1), 1), _MOST_INPUTS)
    shown = ", ".join(str(shape) for shape in shapes.values())
    refuse_beyond(8 * count * sum(sizes), f"an input of {shown}, as the model wants it,", "give inputs of your own")
    for ref in network.inputs:
        tables = [call.layer for call in network.calls if ref in call.refs and call.layer.kind in _EMBEDDINGS]
        if tables:
            # Keras says how many rows there are; PyTorch's table has as many.
            rows = tables[0].config.get("input_dim")
            if not isinstance(rows, int) or not 0 < rows < 1 << 31:
                rows = next((weight.stored.shape[0] for weight in tables[0].stored.values()), 1)
            drawn[ref.name] = generator.integers(0, rows, (count, *shapes[ref.name])).astype(np.float32)
            if tables[0].config.get("mask_zero"):
                drawn[ref.name][generator.random(drawn[ref.name].shape) < _MASKED] = 0
            continue
        values = generator.random((count, *shapes[ref.name]), np.float32)
        values = np.floor(values * 256).astype(np.float32) if rescaled(network, ref).by else values
        masks = [call.layer for call in network.calls if ref in call.refs and call.layer.kind == "Masking"]
        if masks and values.ndim > 2:
            steps = generator.random((count, 1, *values.shape[2:])) < _MASKED
            values = np.where(steps, np.float32(masks[0].config.get("mask_value") or 0), values)
        drawn[ref.name] = values
    return drawn


def drawn_stream(network: Network) -> CanonicalStream:
    """Give the inputs that ``default_inputs`` draws as a stream that says so.

    Raises:
        CnnlensError: the file leaves the rank of an input open, or has no graph.
    """
    if not network.calls:
        raise without_graph(network)
    drawn = default_inputs(network)
    shapes = ", ".join(str(array.shape) for array in drawn.values())
    return CanonicalStream(drawn, f"{shapes} drawn from seed 0", "random")
