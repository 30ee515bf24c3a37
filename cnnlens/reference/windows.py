"""Which cells of its input each position of a convolution's or a pooling's output is computed from, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.reference.keras.convolution import (
    Convolution,
    DepthwiseConvolution,
    SeparableConvolution,
    TransposedConvolution,
)
from cnnlens.reference.keras.pooling import Pooling
from cnnlens.reference.operation import Operation

__all__ = ["NOTHING", "Windows", "inside", "windows_of"]

#: Stands for a cell that is none of the input's: of the padding, or of no input position at all.
NOTHING = -1


@dataclass(frozen=True, slots=True)
class Windows:
    """Says how the windows of an operation lie on one spatial axis.

    Tap ``t`` of the window of output position ``p`` lies on the input's cell ``p stride + t gap - before``; in a
    transposed convolution it lies on cell ``(p + before - t gap) / stride``, where that is a whole number. What is no
    cell of the input is padding, and counts as zero (in a pooling: not at all).
    """

    taps: int
    stride: int
    gap: int
    before: int
    transposed: bool = False

    def cells(self, size: int, count: int) -> NDArray[np.int64]:
        """List the cells of an input of ``size`` under each of ``count`` output positions.

        Returns:
            ``(count, taps)``, ``NOTHING`` where there is none.

        >>> Windows(taps=3, stride=2, gap=1, before=0).cells(size=4, count=2).tolist()
        [[0, 1, 2], [2, 3, -1]]
        """
        position, tap = np.arange(count)[:, None], np.arange(self.taps)
        if not self.transposed:
            return inside(position * self.stride + tap * self.gap - self.before, size)
        cell, rest = np.divmod(position + self.before - tap * self.gap, self.stride)
        return np.where(rest == 0, inside(cell, size), NOTHING)


def inside(cells: NDArray[Any], size: int) -> NDArray[np.int64]:
    """Give the cells with ``NOTHING`` in place of those that an axis of ``size`` does not have."""
    return np.where((cells >= 0) & (cells < size), cells, NOTHING)


def windows_of(operation: Operation, sizes: Sequence[int]) -> tuple[Windows, ...] | None:
    """Say how an operation's windows lie on each spatial axis of an input of these sizes; None where it has none."""
    if isinstance(operation, TransposedConvolution):
        befores = operation.lefts(sizes, [int(size or 0) for size in operation.sizes(tuple(sizes))])
        axes = zip(operation.kernel_size, operation.strides, operation.dilation, befores, strict=True)
        return tuple(Windows(*axis, transposed=True) for axis in axes)
    if isinstance(operation, (Convolution, DepthwiseConvolution, SeparableConvolution)):
        befores = [before for before, _ in operation.pads(sizes)]
        axes = zip(operation.kernel_size, operation.strides, operation.dilation, befores, strict=True)
        return tuple(Windows(*axis) for axis in axes)
    if isinstance(operation, Pooling):
        return tuple(Windows(one.window, one.stride, one.gap, one.before) for one in operation.plans(sizes))
    return None
