"""Locally connected layers (Keras 2), which PyTorch does not have: unfolded patches and a product a position."""

from __future__ import annotations

import math
from typing import Any, cast

from numpy.typing import NDArray

from cnnlens.conversion.to_torch.held import Held, listed
from cnnlens.conversion.to_torch.rules.activations import activated
from cnnlens.conversion.to_torch.rules.padding import spatial, to_maps
from cnnlens.conversion.to_torch.use import Use, rule
from cnnlens.reference.keras.local import LocallyConnected

__all__: list[str] = []

Array = NDArray[Any]


@rule("LocallyConnected1D", "LocallyConnected2D")
def locally_connected(use: Use) -> Held:
    """Kernel ``(positions, taps x channels, filters)``; refused where the file packs it otherwise."""
    operation = cast("LocallyConnected", use.operation)
    rank, first = operation.rank, operation.first
    x = to_maps(use, use.x, rank, first)
    channels = x.shape[1 if first else -1]
    places = spatial(use.shape, first)
    taps, strides = operation.kernel_size, operation.strides
    kernel = use.weights.shape("kernel")
    if channels is None or None in places:
        raise use.refuse("the sizes of its input are open")
    count = math.prod((*taps, channels))
    positions = math.prod(cast("tuple[int, ...]", places))
    if len(kernel) != 3 or kernel[:2] != (positions, count):
        raise use.refuse(f"its kernel of shape {kernel} is not laid out position by position (implementation 1)")
    filters = kernel[2]

    def weight(array: Array) -> Array:
        apart = array.reshape(positions, *((channels, *taps) if first else (*taps, channels)), filters)
        turned = apart if first else apart.transpose(0, rank + 1, *range(1, rank + 1), rank + 2)
        return turned.reshape(positions, count, filters).transpose(2, 0, 1)

    arrays = {"weight": use.weights.entry("kernel", weight)}
    wide = (1, *places) if rank == 1 else places
    biased = operation.use_bias
    if biased:

        def bias(array: Array) -> Array:
            turned = array if first else array.transpose(rank, *range(rank))
            return turned.reshape(filters, *cast("tuple[int, ...]", wide))

        arrays["bias"] = use.weights.entry("bias", bias)
    helper = use.helper("LocallyConnected2d")
    comments = use.remark("local", "A kernel of its own for each position, which PyTorch has no layer for.")
    one = (1,) if rank == 1 else ()
    settings = ", ".join(
        f"({listed(cast('tuple[int, ...]', numbers))})" for numbers in (wide, (*one, *taps), (*one, *strides))
    )
    text = f"{helper}({channels}, {filters}, {settings}{'' if biased else ', bias=False'})"
    module = use.module(text, arrays, comments=comments)
    text = f"{module}({x.text})" if rank == 2 else f"{module}({x.text}[:, :, None])[:, :, 0]"
    return activated(use, Held(text, use.shape, x.order, use.axis), use.config.get("activation"))
