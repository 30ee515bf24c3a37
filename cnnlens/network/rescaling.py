"""Whether a network scales its pictures itself, in whatever layer, in front of the first one that mixes pixels.

What stands there (a Rescaling, a Normalization, a batch norm, ``x / 255`` between layers, behind a Resizing, a padding
or a flip, nested or not) makes ``a x + b`` of every pixel. Both numbers are found by computing those layers on a black
and on a white picture, whatever they are called; a model that wants 0 to 255 divides by much, or takes off much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import kind_of
from cnnlens.network.graph import CONFIG_ERRORS, OPEN_SIZE, Call, Graph, Ref, map_refs

__all__ = ["Rescaled", "rescaled"]

Array = NDArray[Any]
_Pair = tuple[Array, Array]  # what comes of a black picture, and of a white one (0 and 1)

_DIVIDES = 1 / 4  # a factor of no more than this is for numbers larger than 1
_TAKES_OFF = 2.0  # what is subtracted from numbers of 0 to 1 lies between them
_MOST = 1 << 25  # numbers of a picture, beyond which nothing is computed only to be told apart


@dataclass(frozen=True)
class Rescaled:
    """Says who scales an input's numbers: ``by`` names the layer, ``unknown`` one that may and cannot be looked into;
    both are empty where the input is used as it comes."""

    by: str = ""
    unknown: str = ""


def rescaled(network: Graph, ref: Ref) -> Rescaled:
    """Find out whether the network wants 0 to 255 at one of its inputs, because it scales that itself.

    Args:
        network: With a graph.
        ref: One of ``network.inputs``.

    Returns:
        The first layer behind which 0 to 255 has become small numbers, if they are so in front of the first layer that
        mixes pixels.
    """
    shape = network.shape(ref)
    if shape is None or len(shape) < 4:
        return Rescaled()
    sizes = [shape[0] or 1, *(OPEN_SIZE if size is None else size for size in shape[1:])]
    values: dict[Ref, _Pair] = {}
    ends: list[Ref] = []
    by = ""
    for call in network.calls:
        used = [one for one in call.refs if one in values or one == ref]
        if not used:
            continue
        try:
            operation = call.layer.operation
            if not kind_of(call.layer.kind).passes_pictures or any(one not in used for one in call.refs):
                ends += used
                continue
            if math.prod(sizes) > _MOST:
                return Rescaled(unknown=call.name)
            values.setdefault(ref, (np.zeros(sizes), np.ones(sizes)))
            black, white = (_computed(call, operation, {one: values[one][place] for one in used}) for place in (0, 1))
        except (UnsupportedLayerError, *CONFIG_ERRORS):
            return Rescaled(unknown=call.name)
        values.update((Ref(call.name, index), pair) for index, pair in enumerate(zip(black, white, strict=True)))
        if not by and any(_for_bytes(values[Ref(call.name, index)]) for index in range(len(black))):
            by = call.name
    ends += network.outputs
    return Rescaled(by if any(_for_bytes(values[one]) for one in ends if one in values) else "")


def _computed(call: Call, operation: Callable[..., Any], values: Mapping[Ref, Array]) -> list[Array]:
    weights = {
        name: array.astype(np.float64) if array.dtype.kind == "f" else array
        for name, array in call.layer.computing_weights().items()
    }
    args, kwargs = (map_refs(one, values.__getitem__) for one in (call.args, call.operand_kwargs))
    with np.errstate(all="ignore"):
        made = operation(weights, *args, **kwargs)
    return [np.asarray(one) for one in cast("list[Any]", made if isinstance(made, list | tuple) else [made])]


def _for_bytes(pair: _Pair) -> bool:
    """Whether ``a x + b`` makes small numbers of 0 to 255, and not of 0 to 1."""
    black, white = pair
    with np.errstate(all="ignore"):
        factor = np.asarray(white - black, np.float64)
        used = np.isfinite(factor) & (factor != 0)  # a border that was put round it has no factor
        if not used.any():
            return False
        zero = np.median((-black / factor)[used])  # the pixel that becomes zero
        return bool(np.median(np.abs(factor[used])) <= _DIVIDES or abs(zero) > _TAKES_OFF)
