"""Are tensors of two models one tensor, in whatever axes each framework has it, and what may rounding set apart?

Whoever compares two models asks here, so that ``check --twin`` and ``diff`` cannot say two things of one pair. PyTorch
keeps the features of a sequence last, and of an image where a model permutes it; canonical axes do not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.auditing import recorded_ref
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.reference.executor import Executor

__all__ = ["LIMIT", "apart", "as_other", "limit_for", "rounding_moves", "views"]

Array = NDArray[Any]

#: How far outputs may be apart in float64, as a part of the largest value. Two evaluations that are equal in exact
#: arithmetic differ by accumulated rounding of 2**-53 alone; 2**-40 leaves it room to grow by 8,000, and is 65,000
#: times less than float32 can see, so that no difference between the models that matters passes.
LIMIT = 2.0**-40

_MARGIN = 16.0  # times what rounding the weights once more moves: another rounding moves another way
_UNITS = {2: 2.0**-11, 4: 2.0**-24, 8: 2.0**-53}  # of rounding, by bytes of a format
_BFLOAT16 = 2.0**-8
_APART = 0.1  # of the largest value: what nobody calls rounding


def views(array: Array) -> list[Array]:
    """List the orders of axes in which the two frameworks may have a canonical array: channels first, or last."""
    if array.ndim < 3:
        return [array]
    last, first = np.moveaxis(array, 1, -1), np.moveaxis(array, -1, 1)
    return [array, last] if array.ndim == 3 else [array, last, first]


def as_other(array: Array, other: Array) -> Array | None:
    """Give ``other`` in the axes of ``array``; None where no order of its axes that the frameworks use has that shape.

    Where a square shape leaves several orders open, the nearest one.
    """
    fitting = [view for view in views(other) if view.shape == array.shape]
    return fitting[0] if len(fitting) == 1 else min(fitting, key=lambda view: _difference(array, view), default=None)


def apart(array: Array, other: Array) -> float:
    """Measure the largest difference as a part of the largest value, ``other`` in whatever axes is nearest.

    Infinite where the shapes cannot be one, or NaN and infinities stand at other places.
    """
    alike = as_other(array, other)
    return math.inf if alike is None else _difference(array, alike)


def _difference(array: Array, alike: Array) -> float:
    finite = np.isfinite(array)
    rest, others = array[~finite], alike[~finite]
    if not np.array_equal(finite, np.isfinite(alike)) or not np.array_equal(rest, others, equal_nan=True):
        return math.inf
    x, y = (np.asarray(z, np.float64) if finite.all() else z[finite].astype(np.float64) for z in (array, alike))
    largest = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))
    with np.errstate(over="ignore"):
        furthest = float(np.abs(x - y).max(initial=0))
    return float(furthest / largest) if largest else 0.0


# -- rounding of the weights -----------------------------------------------------------------------------------------


def limit_for(moves: float) -> float:
    """Say how far outputs of one model may be apart where rounding the weights once more moves them by ``moves``."""
    return max(LIMIT, _MARGIN * moves)


def rounding_moves(a: Network, b: Network, inputs: Sequence[Array], far: Sequence[float]) -> float:
    """Measure what rounding ``a``'s weights once more does to its outputs, where nothing else sets the two apart.

    Args:
        inputs: Canonical, of ``a``. far: How far each output is apart; nothing is computed where that is no rounding.

    Returns:
        The largest difference as a part of the largest value; 0 where both hold the same numbers bit for bit, in any
        order, or as many of which some are apart by more than the rounding of the narrower file's format.
    """
    if not all(one <= _APART for one in far) or max(far, default=0.0) <= LIMIT:
        return 0.0
    unit = max(_unit(one) for one in (a, b))
    x, y = _numbers(a), _numbers(b)
    if x.shape != y.shape:
        unit = min(unit, _UNITS[4])  # kernels that one side computes of several arrays keep float32's rounding
    elif np.array_equal(x, y) or not _rounded_alike(x, y, unit):
        return 0.0
    names = list(dict.fromkeys(recorded_ref(a, ref).name for ref in a.outputs))
    exact, moved = (Executor(one, layers=names).run(list(inputs)) for one in (a, _nudged(a, unit)))
    return max((found for name in names if math.isfinite(found := apart(exact[name], moved[name]))), default=0.0)


def _unit(network: Network) -> float:
    """The rounding of the narrowest format in which a file keeps floating-point weights."""
    found = [0.0]
    for weight in (weight for layer in network.layers for weight in layer.stored.values()):
        if np.issubdtype(weight.stored.dtype, np.floating):
            wide = "bfloat16" not in weight.stored.stored_dtype.lower() and weight.stored.stored_dtype != "BF16"
            found.append(_UNITS.get(weight.stored.dtype.itemsize, 0.0) if wide else _BFLOAT16)
    return max(found)


def _numbers(network: Network) -> Array:
    """All floating-point weights, as the arithmetic wants them, sorted; without arrays that change nothing."""
    arrays = (array for layer in network.layers for array in layer.computing_weights().values())
    found = [
        array.reshape(-1)
        for array in arrays
        if array.dtype.kind == "f" and array.size and not ((array == 0).all() or (array == 1).all())
    ]
    return np.sort(np.concatenate(found)) if found else np.zeros(0)


def _rounded_alike(x: Array, y: Array, unit: float) -> bool:
    """Whether sorted numbers are the same but for rounding."""
    with np.errstate(all="ignore"):
        floor = unit * np.sqrt(np.square(x, dtype=np.float64).mean())
        # A sum of two biases that cancels keeps the rounding of both.
        return bool((np.abs(np.subtract(x, y, dtype=np.float64)) <= 4 * (unit * np.abs(x) + floor)).all())


def _nudged(network: Network, unit: float) -> Network:
    """The network with every weight moved by up to a rounding."""
    random = np.random.default_rng(0)

    def moved(layer: Layer) -> Layer:
        def arrays(_: Mapping[str, Array]) -> dict[str, Array]:
            return {
                name: array * (1 + unit * random.uniform(-1, 1, array.shape)) if array.dtype.kind == "f" else array
                for name, array in layer.computing_weights().items()
            }

        found = copy.copy(layer)  # what was built of it stays as it is
        found.unpack = arrays
        return found

    layers = {layer.name: moved(layer) for layer in (*network.layers, *network.layers_of_calls)}
    calls = tuple(replace(call, layer=layers[call.layer.name]) for call in network.calls)
    return replace(network, layers=tuple(layers[layer.name] for layer in network.layers), calls=calls)
