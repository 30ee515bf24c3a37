"""Where a PyTorch tensor is in the Keras model: which output holds it, and in which order its axes lie there.

Keras models are channels-last, so a feature map ``(N, C, H, W)`` is held as ``(N, H, W, C)``. Nothing moves for that:
each tensor carries the order of its axes along, a transpose in PyTorch becomes another order of the same output, and
a layer that moves memory appears only where an operation reads its input in an order that the output does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from cnnlens.network.graph import Shape

__all__ = ["FlatOrder", "Value", "channels_last", "identity", "reshape_groups"]


@dataclass(frozen=True)
class FlatOrder:
    """Holds the order of a flattened map's features where it is not PyTorch's.

    Attributes:
        sizes: The axes that were flattened, in PyTorch's order: ``(C, H, W)``.
        order: Those axes in the order in which Keras flattened them: ``(1, 2, 0)`` for ``(H, W, C)``.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Value:
    """Says how the Keras model holds a PyTorch tensor.

    Attributes:
        layer, node, index: The output that holds it: of which layer, which of its calls, which of the call's outputs.
        shape: Its shape as PyTorch has it, None for the batch.
        axes: Axis ``j`` in Keras is axis ``axes[j]`` in PyTorch.
        flat: For a flattened map: the order of its features (its last axis) if that is not PyTorch's.
        at_least_zero: Whether no value of it is negative.
        truths: Whether it is of True and False in PyTorch.
        constant: Its numbers, in PyTorch's order, where it depends on no input; then no output holds it.
    """

    layer: str
    node: int
    index: int
    shape: Shape
    axes: tuple[int, ...]
    flat: FlatOrder | None = None
    at_least_zero: bool = False
    truths: bool = False
    constant: NDArray[Any] | None = None

    @property
    def keras_shape(self) -> Shape:
        """Give its shape in Keras' order of axes."""
        return tuple(self.shape[axis] for axis in self.axes)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def place(self, axis: int) -> int:
        """Find the axis in Keras of an axis in PyTorch (which may count from the end)."""
        return self.axes.index(axis % self.rank)

    def renamed(self, shape: Shape, axes: Sequence[int]) -> Value:
        """Give the same output under another reading of its axes."""
        return replace(self, shape=shape, axes=tuple(axes), flat=None)


def identity(rank: int) -> tuple[int, ...]:
    """Give PyTorch's own order."""
    return tuple(range(rank))


def channels_last(rank: int) -> tuple[int, ...]:
    """Give the order of a feature map in Keras: ``(0, 2, 3, 1)`` for four axes; two and fewer stay."""
    return identity(rank) if rank < 3 else (0, *range(2, rank), 1)


def reshape_groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Take a reshape apart into the smallest groups of axes that become groups of axes.

    Args:
        before, after: Sizes without the batch, of the same number of elements.

    Returns:
        Pairs of (axes before, axes after), in order; an axis of one that appears or goes has nothing on the other side.
        None where the sizes do not multiply to the same, or to nothing.

    >>> reshape_groups((6, 5, 4), (2, 3, 5, 4))
    [((0,), (0, 1)), ((1,), (2,)), ((2,), (3,))]
    """
    if math.prod(before) != math.prod(after) or 0 in before:
        return None
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    first, second = 0, 0
    while first < len(before) or second < len(after):
        if first < len(before) and second < len(after) and before[first] == after[second]:
            groups.append(((first,), (second,)))
            first, second = first + 1, second + 1
        elif first < len(before) and before[first] == 1:
            groups.append(((first,), ()))
            first += 1
        elif second < len(after) and after[second] == 1:
            groups.append(((), (second,)))
            second += 1
        else:
            ins, outs = [first], [second]
            here, there = before[first], after[second]
            first, second = first + 1, second + 1
            while here != there:
                if here < there:
                    ins.append(first)
                    here, first = here * before[first], first + 1
                else:
                    outs.append(second)
                    there, second = there * after[second], second + 1
            groups.append((tuple(ins), tuple(outs)))
    return groups
