"""What every reference operation promises, and the registry that turns a layer's configuration into one.

A model file names its layers by class and configuration. Here a class name becomes an object that knows two things:
the shape that comes out and, in NumPy, the numbers that come out. Everything a layer cannot do is refused when it is
built, before anything runs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import KINDS
from cnnlens.memory import refuse_beyond
from cnnlens.reference.arithmetic.functions import Activation
from cnnlens.text import printable

__all__ = [
    "Array", "LinearOperation", "Operation", "Shape", "Weights", "block_ranges", "build_layer", "data_format",
    "known_kinds", "normalise_axis", "numbers", "operation_class", "register", "scratch", "whole",
]  # fmt: skip

Array = NDArray[Any]
Shape = tuple[int | None, ...]
Weights = Mapping[str, Array]

_KERAS_MODULES = ("keras", "tf_keras", "tensorflow")


class Operation:
    """Computes one layer kind, with its configuration parsed.

    Args:
        kind: The class name, such as ``Conv2D``.
        config: The layer's configuration as its file stores it (``layer.get_config()`` after JSON).
        keras_version: Which Keras wrote the file, such as ``(3, 15, 1)``; some names changed their meaning.

    Raises:
        UnsupportedLayerError: The configuration asks for something that the reference does not compute. The message
            gives the reason and leaves the layer's name to the caller, who knows it.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        self.kind = kind
        self.config = config
        self.keras_version = keras_version

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Work out the shape that comes out, from shapes alone.

        Args: the same structure as the call's, with a shape (``None`` where unknown, as the batch is) for each array.
        Returns: one shape, or a list of shapes where the operation returns several arrays.
        """
        return cast("Shape", args[0])

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        """Compute the layer. Arrays are in the file's own axis order and share one floating dtype, the result's."""
        raise NotImplementedError

    def refuse(self, reason: str) -> UnsupportedLayerError:
        """Make the error that says why this layer cannot be computed, without its name."""
        return UnsupportedLayerError(f"{printable(self.kind)}: {reason}")


class LinearOperation(Operation):
    """Computes what is linear in its input and weights, then an activation: what the rounding audit rests on.

    ``linear`` on squared weights (bias included) and squared inputs gives the variance of the rounding noise.
    """

    #: Called with a fresh array, which it may overwrite; None where the layer ends with its linear part.
    activation: Activation | None = None

    def linear(self, weights: Weights, x: Array) -> Array:
        """Compute the layer before its activation, bias included; a fresh array."""
        raise NotImplementedError

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        result = self.linear(weights, args[0])
        return result if self.activation is None else self.activation(result)


OperationType = TypeVar("OperationType", bound=type[Operation])
_REGISTRY: dict[str, type[Operation]] = {}


def register(*kinds: str) -> Callable[[OperationType], OperationType]:
    """Class decorator: the class computes layers of these kinds (Keras class names), by their older names too."""

    def add(operation: OperationType) -> OperationType:
        for name in (name for kind in kinds for name in (kind, *KINDS[kind].older)):
            if name in _REGISTRY:
                raise ValueError(f"two operations for {name}")
            _REGISTRY[name] = operation
        return operation

    return add


def known_kinds() -> tuple[str, ...]:
    """List every layer kind that the reference computes, sorted."""
    return tuple(sorted(_REGISTRY))


def operation_class(kind: str) -> type[Operation] | None:
    """Give the class that computes a layer kind; None where there is none."""
    return _REGISTRY.get(kind)


def build_layer(
    kind: str, module: str | None, config: Mapping[str, Any], keras_version: tuple[int, ...]
) -> Operation | None:
    """Build the operation of a layer of Keras' own, or None where there is none of this name.

    A class of the same name from anywhere else (``module`` says where) is somebody's own and is not guessed at.
    """
    if module is not None and module.split(".", 1)[0] not in _KERAS_MODULES:
        return None
    operation = _REGISTRY.get(kind)
    return None if operation is None else operation(kind, config, keras_version)


# --- configuration ---------------------------------------------------------------------------------------------------


def whole(value: Any, what: str) -> int:
    """Read ``value`` as an int; a JSON number such as ``2.0`` passes, all else is refused with ``what``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise UnsupportedLayerError(f"{what} must be a whole number, not {printable(value)}")
    return int(value)


def numbers(value: Any, count: int, what: str, *, least: int = 0) -> tuple[int, ...]:
    """Read ``value`` as ``count`` whole numbers of at least ``least``; one number stands for all of them."""
    items: list[Any] = list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else [value] * count
    if len(items) != count:
        raise UnsupportedLayerError(f"{what} must be one whole number or {count}, not {printable(items)}")
    result = tuple(whole(item, what) for item in items)
    if any(item < least for item in result):
        raise UnsupportedLayerError(f"{what} must be at least {least}, not {printable(result)}")
    return result


def data_format(config: Mapping[str, Any]) -> str:
    """Read ``channels_last`` or ``channels_first`` from a configuration; absent means Keras' default."""
    value = config.get("data_format") or "channels_last"
    if value not in ("channels_last", "channels_first"):
        raise UnsupportedLayerError(f"data_format must be channels_last or channels_first, not {printable(value)}")
    return cast("str", value)


def normalise_axis(axis: Any, rank: int, what: str = "axis") -> int:
    """Count ``axis`` from the front of an array of ``rank`` axes."""
    number = whole(axis, what)
    if not -rank <= number < rank:
        raise UnsupportedLayerError(f"{what} {number} is outside an array of {rank} axes")
    return number % rank


# --- working in blocks that stay in the cache ------------------------------------------------------------------------

_LOCAL = threading.local()


def scratch(name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Lend a working array of this thread's own, used again from call to call (fresh pages cost more than arithmetic).

    Contents are undefined. Two uses at the same time need two names. Never return one to a caller.
    """
    pool: dict[str, NDArray[np.uint8]] | None = getattr(_LOCAL, "pool", None)
    if pool is None:
        pool = _LOCAL.pool = {}
    needed = math.prod(shape) * dtype.itemsize
    held = pool.get(name)
    if held is None or held.nbytes < needed:
        refuse_beyond(needed, f"a working array of {tuple(shape)}", "give fewer or smaller inputs")
        held = np.empty(needed, np.uint8)
        # Big ones are not kept: a thread should not sit on the padded copy of the largest image it ever saw.
        if needed <= 16 << 20:
            pool[name] = held
    return held[:needed].view(dtype).reshape(shape)


def block_ranges(sizes: Sequence[int], positions: int) -> Iterator[tuple[slice, ...]]:
    """Cut a box of ``sizes`` into blocks of about ``positions`` cells, each contiguous in C order.

    Trailing axes are taken whole while they fit; the first that does not is cut evenly; every axis before it goes one
    by one. Yields one slice an axis.
    """
    steps = [1] * len(sizes)
    left = max(positions, 1)
    for axis in range(len(sizes) - 1, -1, -1):
        if sizes[axis] <= left:
            steps[axis] = max(sizes[axis], 1)
            left //= steps[axis]
            continue
        pieces = -(-sizes[axis] // left)
        steps[axis] = -(-sizes[axis] // pieces)
        break
    starts = [range(0, size, step) for size, step in zip(sizes, steps, strict=True)]
    index = [0] * len(sizes)
    if any(len(start) == 0 for start in starts):
        return
    while True:
        yield tuple(
            slice(start[i], min(start[i] + step, size))
            for start, i, step, size in zip(starts, index, steps, sizes, strict=True)
        )
        for axis in range(len(sizes) - 1, -1, -1):
            index[axis] += 1
            if index[axis] < len(starts[axis]):
                break
            index[axis] = 0
        else:
            return
