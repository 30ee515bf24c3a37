"""Locally connected layers (Keras 2), which PyTorch does not have: unfolded patches and a product a position."""

from __future__ import annotations

import math
from typing import Any, cast

from numpy.typing import NDArray

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.rules.activations import activated
from cnnlens.conversion.to_torch.rules.padding import spatial, to_maps
from cnnlens.conversion.to_torch.value import Value, listed
from cnnlens.reference.keras.local import LocallyConnected

__all__: list[str] = []

Array = NDArray[Any]


@rule("LocallyConnected1D", "LocallyConnected2D")
def locally_connected(site: CallSite) -> Value:
    """Kernel ``(positions, taps x channels, filters)``; refused where the file packs it otherwise."""
    operation = cast("LocallyConnected", site.operation)
    rank, first = operation.rank, operation.first
    x = to_maps(site, site.x, rank, first)
    channels = x.shape[1 if first else -1]
    places = spatial(site.shape, first)
    taps, strides = operation.kernel_size, operation.strides
    kernel = site.weights.shape("kernel")
    if channels is None or None in places:
        raise site.refuse("the sizes of its input are open")
    count = math.prod((*taps, channels))
    positions = math.prod(cast("tuple[int, ...]", places))
    if len(kernel) != 3 or kernel[:2] != (positions, count):
        raise site.refuse(f"its kernel of shape {kernel} is not laid out position by position (implementation 1)")
    filters = kernel[2]

    def weight(array: Array) -> Array:
        apart = array.reshape(positions, *((channels, *taps) if first else (*taps, channels)), filters)
        turned = apart if first else apart.transpose(0, rank + 1, *range(1, rank + 1), rank + 2)
        return turned.reshape(positions, count, filters).transpose(2, 0, 1)

    arrays = {"weight": site.weights.entry("kernel", weight)}
    wide = (1, *places) if rank == 1 else places
    biased = operation.use_bias
    if biased:

        def bias(array: Array) -> Array:
            turned = array if first else array.transpose(rank, *range(rank))
            return turned.reshape(filters, *cast("tuple[int, ...]", wide))

        arrays["bias"] = site.weights.entry("bias", bias)
    helper = site.helper("LocallyConnected2d")
    comments = site.remark("local", "A kernel of its own for each position, which PyTorch has no layer for.")
    one = (1,) if rank == 1 else ()
    settings = ", ".join(
        f"({listed(cast('tuple[int, ...]', numbers))})" for numbers in (wide, (*one, *taps), (*one, *strides))
    )
    text = f"{helper}({channels}, {filters}, {settings}{'' if biased else ', bias=False'})"
    module = site.module(text, arrays, comments=comments)
    text = f"{module}({x.text})" if rank == 2 else f"{module}({x.text}[:, :, None])[:, :, 0]"
    return activated(site, Value(text, site.shape, x.order, site.axis), site.config.get("activation"))
