"""In which order generated code holds a tensor, and what it takes to hold it in another.

Keras says channels last, PyTorch channels first, and a Flatten hides the difference in one axis. The code that is
written keeps a tensor as it is for as long as it may, so for each one it must be known which axis stands where.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cnnlens.network.graph import Shape

__all__ = ["FlatOrder", "Value", "canonical_order", "dims_of", "flattened", "join_shapes", "listed", "shown"]

Order = tuple[int, ...]


@dataclass(frozen=True)
class FlatOrder:
    """Holds the order inside a flattened axis.

    Attributes:
        sizes: What was flattened, in Keras' order: ``(H, W, C)``.
        order: The order in which the generated code flattened it: place i holds Keras' axis ``order[i]``.
    """

    sizes: tuple[int, ...]
    order: Order

    @property
    def standard(self) -> bool:
        """Tell whether it is the usual case, channels moved from behind to the front."""
        last = len(self.sizes) - 1
        return self.order == (last, *range(last))

    @property
    def ordered_sizes(self) -> tuple[int, ...]:
        return tuple(self.sizes[axis] for axis in self.order)


@dataclass(frozen=True)
class Value:
    """Says how the generated code holds a tensor.

    Attributes:
        text: The expression that gives it: a variable, or calls on one.
        shape: Its shape in Keras' axes, None for open sizes.
        order: Axis i of the PyTorch tensor is axis ``order[i]`` of Keras'.
        axis: Where its channels stand in Keras' axes: 1 or -1.
        flat: The order inside axis 1, where a flattened map is held in another than Keras'.
    """

    text: str
    shape: Shape
    order: Order
    axis: int = -1
    flat: FlatOrder | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def identity(self) -> bool:
        """Tell whether it is held exactly as Keras has it."""
        return self.order == tuple(range(self.rank)) and self.flat is None

    def place(self, axis: int) -> int:
        """Find where Keras' ``axis`` (which may count from the end) stands."""
        return self.order.index(axis % self.rank)

    def places(self, axes: Iterable[int]) -> tuple[int, ...]:
        """Find where several of Keras' axes stand, in ascending order."""
        return tuple(sorted(self.place(axis) for axis in axes))

    @property
    def sizes(self) -> Shape:
        """Give the shape as it is held."""
        return tuple(self.shape[axis] for axis in self.order)

    def new(self, text: str) -> Value:
        """Hold what ``text`` gives as this one is held, of the same shape."""
        return replace(self, text=text)

    def plain(self) -> Value:
        """Hold the features of a flattened map in Keras' order."""
        if self.flat is None:
            return self
        back = [0, *(self.flat.order.index(axis) + 1 for axis in range(len(self.flat.sizes)))]
        text = f"{self.text}.unflatten(1, {shown(self.flat.ordered_sizes)}).permute({listed(back)}).flatten(1)"
        return replace(self, text=text, flat=None)

    def ordered(self, order: Sequence[int]) -> Value:
        """Hold it in ``order``."""
        wanted = tuple(order)
        if wanted == self.order:
            return self
        plain = self.plain()
        moves = [plain.order.index(axis) for axis in wanted]
        # An axis of one moves for nothing in memory, but a view costs nothing either.
        return replace(plain, text=f"{plain.text}.permute({listed(moves)})", order=wanted)

    def keras(self) -> Value:
        """Hold it as Keras has it."""
        return self.plain().ordered(range(self.rank))

    def canonical(self) -> Value:
        """Hold it as ``(N, C, *spatial)``, features in Keras' order."""
        return self.plain().ordered(canonical_order(self.rank, self.axis))

    def first(self, axes: Sequence[int]) -> Value:
        """Hold it with Keras' ``axes`` in front, in that order, and the others behind them as they stand."""
        front = tuple(axis % self.rank for axis in axes)
        return self.ordered((*front, *(axis for axis in self.order if axis not in front)))

    def last(self, axes: Sequence[int]) -> Value:
        """Hold it with Keras' ``axes`` behind, in that order, and the others in front as they stand."""
        back = tuple(axis % self.rank for axis in axes)
        return self.ordered((*(axis for axis in self.order if axis not in back), *back))

    def without(self, axes: Iterable[int]) -> Order:
        """Give the order that is left when Keras' ``axes`` are gone."""
        gone = {axis % self.rank for axis in axes}
        kept = [axis for axis in range(self.rank) if axis not in gone]
        return tuple(kept.index(axis) for axis in self.order if axis not in gone)


def canonical_order(rank: int, axis: int) -> Order:
    """Give the order of ``(N, C, *spatial)`` for a tensor whose channels stand at ``axis`` in Keras."""
    return tuple(range(rank)) if rank < 3 or axis == 1 else (0, rank - 1, *range(1, rank - 1))


def flattened(value: Value, sizes: Sequence[int], keras_order: Sequence[int]) -> FlatOrder | None:
    """Give the order inside the axis that flattening ``value`` behind the batch makes.

    Args:
        sizes: All sizes behind the batch, in Keras' order of flattening.
        keras_order: Those axes of ``value``, in the same order.
    """
    order = tuple(list(keras_order).index(axis) for axis in value.order[1:])
    moving = [axis for axis in order if sizes[axis] != 1]
    if moving == sorted(moving) or math.prod(sizes) == 0:
        return None
    return FlatOrder(tuple(sizes), order)


def join_shapes(shapes: Sequence[Shape | None]) -> Shape | None:
    """Join what several shapes have in common: None where they differ; None as a whole where one is not known."""
    if not shapes or any(shape is None for shape in shapes):
        return None
    known = [shape for shape in shapes if shape is not None]
    if len({len(shape) for shape in known}) != 1:
        return None
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*known, strict=True))


def listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def dims_of(places: Sequence[int]) -> str:
    """Write axes as PyTorch takes them: a number, or a tuple of several."""
    return f"({listed(places)})" if len(places) > 1 else listed(places)


def shown(numbers: Sequence[int]) -> str:
    """Write a tuple of numbers as Python does."""
    return f"({listed(numbers)},)" if len(numbers) == 1 else f"({listed(numbers)})"
