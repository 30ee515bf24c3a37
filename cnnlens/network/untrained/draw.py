"""Which initializer a weight was drawn with before training, by its layer's own config."""

from __future__ import annotations

from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Layer
from cnnlens.network.weight import Weight
from cnnlens.text import printable

__all__ = ["initializer_of"]


def initializer_of(layer: Layer, weight: Weight) -> Any:
    """Find the initializer that the file names for an array, as its config has it; PyTorch's files name none, then the
    one that the module draws from by itself.

    Raises:
        CnnlensError: the file names none, and none is known.
    """
    role = "depthwise" if weight.kind.startswith("DepthwiseConv") and weight.role == "kernel" else weight.role
    for key in (f"{role}_initializer", f"{role.removesuffix('_kernel')}_initializer", f"{weight.role}_initializer"):
        config = weight.config or layer.config
        if config.get(key):
            return config[key]
    if weight.framework == "torch":
        from cnnlens.network.untrained.torch import torch_default

        known = torch_default(weight, layer.stored)
        if known is not None:
            return known
    raise CnnlensError(
        f"{layer.shown}: the file does not say how its "
        f"'{printable(weight.role)}' was initialised, so there is no untrained one to draw"
    )
