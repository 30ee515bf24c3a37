"""One call of one layer with its own recorded inputs: what an audit and the search for a fault work on.

Wrappers that only fold axes are taken off here, weights become float64, and a batch can be cut into parts, so that
nothing further down has to think of any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import layer_kind
from cnnlens.network.graph import Layer, map_refs
from cnnlens.reference.bare.ops import BareOperation, KerasTwoOperation
from cnnlens.reference.operation import Operation
from cnnlens.reference.wrappers import Container, TimeDistributed

__all__ = ["HUGE", "Array", "Beside", "Case", "Picked", "arrays_of", "map_arrays", "narrow", "wide"]

Array = NDArray[Any]

# Elements of float64 work per block of the batch: a handful of arrays of this size are alive at once.
_BLOCK = 1 << 20
#: A weight of more elements than this stays as it is stored; it is widened a piece at a time.
HUGE = 1 << 24


def map_arrays(structure: Any, change: Callable[[Array], Any]) -> Any:
    """Rebuild ``structure`` (nested lists, tuples, dicts) with ``change(array)`` in place of every array."""
    if isinstance(structure, np.ndarray):
        return change(cast("Array", structure))
    if isinstance(structure, list):
        return [map_arrays(part, change) for part in cast("list[Any]", structure)]
    if isinstance(structure, tuple):
        return tuple(map_arrays(part, change) for part in cast("tuple[Any, ...]", structure))
    if isinstance(structure, Mapping):
        return {name: map_arrays(part, change) for name, part in cast("Mapping[str, Any]", structure).items()}
    return structure


def arrays_of(structure: Any) -> list[Array]:
    """List every array in ``structure``, in order."""
    found: list[Array] = []
    map_arrays(structure, found.append)
    return found


def wide(x: Array) -> Array:
    """Widen floating arrays to float64; others stay as they are."""
    return x.astype(np.float64, copy=False) if x.dtype.kind == "f" else x


def narrow(x: Array) -> Array:
    """Narrow floating arrays to float32; others stay as they are."""
    return x.astype(np.float32, copy=False) if x.dtype.kind == "f" else x


class Picked(Operation):
    """Computes one of the outputs of an operation that gives several, ``inner``."""

    def __init__(self, operation: Operation, index: int) -> None:
        super().__init__(operation.kind, operation.config, operation.keras_version)
        self.inner, self._index = operation, index

    def __call__(self, weights: Mapping[str, Array], *args: Any, **kwargs: Any) -> Any:
        return self.pick(self.inner(weights, *args, **kwargs))

    def pick(self, results: Any) -> Any:
        """Pick the one of ``results``."""
        return results[self._index]


@dataclass(frozen=True)
class Case:
    """Holds a call to be audited.

    Attributes:
        operation: The reference's arithmetic of the layer.
        weights: Float64, but for huge ones, which stay as they are stored.
        args, kwargs: As the call has them, arrays where tensors stand, in the file's own axes.
        output: What was recorded, in the file's own axes.
        channel_axis: Of the output: 1 or -1.
        folded: Sizes of the axes (batch, time) that were folded into the batch, or empty.
        layer: The layer in the network; None where there is none.
    """

    operation: Operation
    weights: Mapping[str, Array]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Array
    channel_axis: int = -1
    folded: tuple[int, ...] = ()
    layer: Layer | None = field(default=None, repr=False)

    @staticmethod
    def of(
        layer: Layer,
        channel_axis: int,
        weights: Mapping[str, Array],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Array,
    ) -> Case:
        """Make the case of a recorded call.

        Raises:
            UnsupportedLayerError: the reference cannot compute it.
        """
        if kwargs.get("training"):
            raise UnsupportedLayerError("it is called with training=True, and the reference computes inference alone")
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        if kwargs.get("mask") is None:
            kwargs.pop("mask", None)
        else:
            if isinstance(kwargs["mask"], str):
                raise UnsupportedLayerError(kwargs["mask"])
            if not layer_kind(layer.kind, layer.module or None).takes_masks:
                raise UnsupportedLayerError("it is called with a mask, which the reference has not")
        operation = layer.operation
        weights = {name: array if array.size > HUGE else wide(array) for name, array in weights.items()}
        args = tuple(map_refs(args, lambda ref: ref))
        case = Case(operation, weights, args, kwargs, output, channel_axis, layer=layer)
        if not isinstance(operation, TimeDistributed):
            return case
        x = cast("Array", args[0])
        folded = x.shape[:2]
        return replace(
            case,
            operation=operation.inner,
            args=(x.reshape(-1, *x.shape[2:]), *args[1:]),
            output=output.reshape(-1, *output.shape[2:]),
            folded=folded,
            channel_axis=1 if getattr(operation.inner, "channels_first", False) else -1,
        )

    def picked(self, index: int) -> Case:
        """Make the case of one output of a call that has several."""
        if isinstance(self.operation, Container):
            return replace(self, args=(self.args[0][index],))
        return replace(self, operation=Picked(self.operation, index))

    @property
    def count(self) -> int:
        """Count the examples in the batch."""
        return self.output.shape[0] if self.output.ndim else 1

    @property
    def splits(self) -> bool:
        """Tell whether examples are computed one by one, so that a part of the batch gives a part of the output."""
        if isinstance(self.operation, BareOperation | KerasTwoOperation | Picked) or not self.output.ndim:
            return False
        inputs = arrays_of((self.args, dict(self.kwargs)))
        axes = getattr(self.operation, "axes", ())
        over_batch = isinstance(axes, tuple) and 0 in axes
        return bool(inputs) and not over_batch and all(x.ndim and x.shape[0] == self.count for x in inputs)

    def part(self, rows: slice) -> Case:
        """Take some examples of the batch; views."""

        def cut(x: Array) -> Array:
            return x[rows]

        args, kwargs = map_arrays(self.args, cut), map_arrays(self.kwargs, cut)
        return replace(self, args=args, kwargs=kwargs, output=self.output[rows])

    def parts(self, block: int = _BLOCK) -> Iterator[tuple[int, Case]]:
        """Cut the batch into parts of about ``block`` elements, each with the number of its first example."""
        if not self.splits:
            yield 0, self
            return
        sizes = [x.size for x in arrays_of((self.args, dict(self.kwargs)))]
        each = max(max([self.output.size, *sizes]) // max(self.count, 1), 1)
        step = max(block // each, 1)
        for start in range(0, self.count, step):
            yield start, self.part(slice(start, start + step))

    def inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give its arguments in float64."""
        return map_arrays(self.args, wide), map_arrays(dict(self.kwargs), wide)

    def channel(self, output: Array) -> int:
        """Give the channel axis of an array shaped like the output."""
        if output.ndim < 2:
            return 0
        return 1 if output.ndim == 2 or self.channel_axis == 1 else output.ndim - 1

    def canonical(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """Turn an index into the (folded) output into one into the canonical feature map ``(N, C, *spatial)``."""
        if self.folded and index:
            index = (*divmod(index[0], self.folded[1]), *index[1:])
        if len(index) < 3 or self.channel_axis == 1:
            return index
        return (index[0], index[-1], *index[1:-1])


@dataclass(frozen=True)
class Beside(Case):
    """Holds a call some of whose outputs are strays: NaN or infinity where the reference has a number, or the other way
    round. ``output`` has the reference's results there, rounded as the others are; they are compared with nothing."""

    strayed: Array = field(default_factory=lambda: np.zeros(0, np.bool_))

    def part(self, rows: slice) -> Case:
        """Take some examples of the batch; views."""
        return replace(cast("Beside", super().part(rows)), strayed=self.strayed[rows])

    def numbers(self) -> Case:
        """Put NaN where strays were: no number is known there, and a search for a fault asks for none."""
        return replace(self, output=np.where(self.strayed, np.nan, self.output).astype(self.output.dtype))
