"""What an array's shape does not say about its layer: stride, groups, which feature map was flattened in front of it.

A kernel is the same array at any stride, but whether 96 stored channels are 8 x 12 or 12 x 8 decides what a transpose
means. Everything here comes from the layer's config (or from the layers in front of it), never from a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Geometry"]

PerAxis: TypeAlias = int | tuple[int, ...] | None


@dataclass(frozen=True)
class Geometry:
    """Says how a layer uses its weights; every field begins with the value that means "not said".

    Args:
        stride: As the config gives it, one number or one an axis.
        padding: As the config gives it: ``"same"``, ``"valid"``, ``"causal"``, or numbers.
        dilation: As the config gives it, one number or one an axis.
        groups: The groups of a convolution; of a depthwise one its input channels (0 or 1: not said).
        flatten: ``(*spatial, C)`` of the feature map that a Flatten in front of this Dense (or of this vector, such
            as a batch norm's gamma between the two) made flat in channels-last order; None where there is no such
            Flatten, or where the flat order is already channels-first.
        output_padding: Of a transposed convolution, as the config gives it.
        depth_multiplier: Of a depthwise or separable convolution.
        ndim: The number of spatial axes, where neither the kind's name nor the array says it.
        heads: Of an attention layer's projections.
        equation: Of an EinsumDense, such as ``"abc,cde->abde"``.
        kernel_shape: The stored Keras shape of the weight, where a merged axis cannot be taken apart without it
            (EinsumDense).
        positions: Output positions of a locally connected layer, one an axis.
        kernel_size: Kernel size of a locally connected layer, one an axis.
        reset_after: Of a GRU: whether its bias is two vectors; None: the array's number of axes says it.

    >>> import cnnlens
    >>> geometry = cnnlens.layout.Geometry(flatten=(7, 7, 64))  # the Dense stands behind a Flatten of (H, W, C)
    >>> cnnlens.layout.stored_axes("Dense", framework="keras", geometry=geometry)
    '(HWC)O'
    """

    stride: PerAxis = None
    padding: str | int | tuple[int | tuple[int, int], ...] | None = None
    dilation: PerAxis = None
    groups: int = 1
    flatten: tuple[int, ...] | None = None
    output_padding: PerAxis = None
    depth_multiplier: int | None = None
    ndim: int | None = None
    heads: int | None = None
    equation: str | None = None
    kernel_shape: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    kernel_size: tuple[int, ...] | None = None
    reset_after: bool | None = None

    def known(self, hints: Sequence[tuple[str, str]], spatial: str) -> dict[str, int]:
        """Give the sizes of letters that these fields say, for a row's ``hints`` (letters, the field that has them)."""
        sizes: dict[str, int] = {}
        for letters, name in hints:
            value: int | tuple[int, ...] | None = getattr(self, name)
            if value is None or (name == "groups" and self.groups <= 1):
                continue
            numbers = value if isinstance(value, tuple) else (value,)
            sizes.update(zip(letters.replace("*", spatial), numbers, strict=False))
        return sizes
