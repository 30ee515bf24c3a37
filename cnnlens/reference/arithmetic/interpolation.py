"""Interpolation by PyTorch's rules: aligned corners, factors that sizes are cut from, bicubic with a = -3/4.

TensorFlow's rules, which Keras follows, are in ``resizing.py``. Both sample one axis after the other; they differ in
where, in what lies beyond the edge, and in the cubic kernel.
Source: ``UpSample.h`` and ``UpSampleKernel.cpp`` of PyTorch's ATen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.operation import Array, Operation, Shape, Weights, whole

__all__ = ["NOTHING", "Interpolation", "nearest_places"]

#: A weight of less is none: NaN or infinity is not looked at through it.
NOTHING = 2.0**-20
_A = -0.75


class Interpolation(Operation):
    """Resizes ``(N, C, *spatial)`` to another size.

    The configuration has ``interpolation`` (``nearest``, ``linear``, ``bicubic``), ``size`` or ``factors`` (one an
    axis; with both, the factors still say where samples lie), ``align_corners``, and ``exact`` for the nearest pixel by
    its centre.
    """

    channels_first = True

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.rank = next(rank for rank in (1, 2, 3) if f"{rank}D" in kind)
        self.method = str(config.get("interpolation", "nearest"))
        if self.method not in ("nearest", "linear", "bicubic"):
            raise self.refuse(f"no such interpolation: {self.method}")
        self.exact = bool(config.get("exact", False))
        self.aligned = bool(config.get("align_corners", False))
        sizes, factors = config.get("size"), config.get("factors")
        self.sizes = None if sizes is None else [whole(size, "size") for size in cast("Sequence[Any]", sizes)]
        self.factors = None if factors is None else list(cast("Sequence[Any]", factors))
        if any(one is not None and len(one) != self.rank for one in (self.sizes, self.factors)):
            raise self.refuse(f"sizes or factors for {self.rank} axes were expected")
        if self.sizes is None and (self.factors is None or None in self.factors):
            raise self.refuse("it has neither sizes nor factors")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = list(cast("Shape", args[0]))
        if len(shape) != self.rank + 2:
            raise self.refuse(f"expected an input of {self.rank + 2} axes, got {len(shape)}")
        for place in range(self.rank):
            shape[place + 2] = self._wanted(place, shape[place + 2])
        return tuple(shape)

    def _wanted(self, place: int, size: int | None) -> int | None:
        if self.sizes is not None:
            return self.sizes[place]
        return None if size is None else int(size * float(cast("list[Any]", self.factors)[place]))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        wanted = cast("tuple[int, ...]", self.output_shape(x.shape))
        for place in range(self.rank):
            x = self._along(x, place, wanted[place + 2])
        return x

    def _step(self, place: int, size: int, wanted: int) -> float:
        """How far samples are apart, in cells of the input."""
        if self.aligned:
            return (size - 1) / (wanted - 1) if wanted > 1 else 0.0
        factor = None if self.factors is None else self.factors[place]
        return 1 / float(factor) if factor else size / wanted

    def _along(self, x: Array, place: int, wanted: int) -> Array:
        axis, size = place + 2, x.shape[place + 2]
        step = self._step(place, size, wanted)
        if self.method == "nearest":
            return np.take(x, nearest_places(size, wanted, step, exact=self.exact), axis=axis)
        index = np.arange(wanted)
        position = index * step if self.aligned else (index + 0.5) * step - 0.5
        if self.method == "linear":
            # An axis that keeps its length is copied, whatever the factor says.
            position = index if size == wanted else np.clip(position, 0, size - 1)
        low = np.floor(position).astype(np.int64)
        part = position - low
        taps = (0, 1) if self.method == "linear" else (-1, 0, 1, 2)
        shape = [1] * x.ndim
        shape[axis] = wanted
        out = np.zeros((*x.shape[:axis], wanted, *x.shape[axis + 1 :]), x.dtype)
        odd = not np.isfinite(x).all()
        for tap in taps:
            distance = np.abs(part - tap)
            weight = 1 - distance if self.method == "linear" else _cubic(distance)
            cells = np.take(x, np.clip(low + tap, 0, size - 1), axis=axis)
            weight = weight.astype(x.dtype).reshape(shape)
            out += np.where(np.abs(weight) < NOTHING, 0, cells * weight) if odd else cells * weight
        return out


def nearest_places(size: int, wanted: int, step: float, *, exact: bool) -> Array:
    """Find the input's cell for each of the output; in float32 as PyTorch does, as another type may differ.

    Args:
        step: Cells of the input from one of the output to the next.
        exact: Whether the centre of a cell is what is nearest, not its front edge.
    """
    index = np.arange(wanted, dtype=np.float32)
    if exact:
        index = index + np.float32(0.5)
    return np.minimum(np.floor(index * np.float32(step)).astype(np.int64), size - 1)


def _cubic(distance: Array) -> Array:
    # Keys' cubic convolution with a = -3/4, the edge pixel repeated beyond the edge.
    near = ((_A + 2) * distance - (_A + 3)) * distance * distance + 1
    far = _A * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
