"""Layers that move values without changing them: padding, cropping, flattening, reshaping, repeating, looking up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.operation import Array, Operation, Shape, Weights, data_format, numbers, register, whole

__all__ = ["Cropping", "Embedding", "Flatten", "Permute", "RepeatVector", "Reshape", "ZeroPadding", "reshaped"]

Edges = tuple[tuple[int, int], ...]


class _Edges(Operation):
    """What padding and cropping share: a number of cells in front of and behind each spatial axis."""

    key = ""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.rank = next(rank for rank in (1, 2, 3) if f"{rank}D" in kind)
        self.channels_first = data_format(config) == "channels_first"
        value = config.get(self.key, 1)
        if self.rank == 1:
            self.edges: Edges = (cast("tuple[int, int]", numbers(value, 2, self.key)),)
            return
        items: list[Any] = (
            list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else [value] * self.rank
        )
        if len(items) != self.rank:
            raise self.refuse(f"{self.key} must have {self.rank} entries, not {len(items)}")
        self.edges = tuple(cast("tuple[int, int]", numbers(item, 2, self.key)) for item in items)

    def places(self, rank: int) -> tuple[int, ...]:
        if rank != self.rank + 2:
            raise self.refuse(f"expected an input of {self.rank + 2} axes, got {rank}")
        first = 2 if self.channels_first else 1
        return tuple(range(first, first + self.rank))


@register("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
class ZeroPadding(_Edges):
    """Puts zeros around the spatial axes."""

    key = "padding"

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = list(cast("Shape", args[0]))
        for axis, (before, after) in zip(self.places(len(shape)), self.edges, strict=True):
            size = shape[axis]
            shape[axis] = None if size is None else size + before + after
        return tuple(shape)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        out = np.zeros(cast("tuple[int, ...]", self.output_shape(x.shape)), x.dtype)
        inner: list[slice] = [slice(None)] * x.ndim
        for axis, (before, _) in zip(self.places(x.ndim), self.edges, strict=True):
            inner[axis] = slice(before, before + x.shape[axis])
        out[tuple(inner)] = x
        return out


@register("Cropping1D", "Cropping2D", "Cropping3D")
class Cropping(_Edges):
    """Cuts out the middle of the spatial axes."""

    key = "cropping"

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = list(cast("Shape", args[0]))
        for axis, (before, after) in zip(self.places(len(shape)), self.edges, strict=True):
            size = shape[axis]
            if size is not None and before + after >= size:
                raise self.refuse(f"cropping {before} + {after} leaves nothing of {size}")
            shape[axis] = None if size is None else size - before - after
        return tuple(shape)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        self.output_shape(x.shape)
        inner: list[slice] = [slice(None)] * x.ndim
        for axis, (before, after) in zip(self.places(x.ndim), self.edges, strict=True):
            inner[axis] = slice(before, x.shape[axis] - after)
        return np.ascontiguousarray(x[tuple(inner)])


@register("Flatten")
class Flatten(Operation):
    """Makes all axes behind the batch one. With ``channels_first`` Keras moves the channels last before that."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.channels_first = data_format(config) == "channels_first"

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        batch, *rest = cast("Shape", args[0])
        return (batch, None if None in rest else math.prod(cast("list[int]", rest)))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        if self.channels_first and x.ndim > 2:
            x = np.moveaxis(x, 1, -1)
        return np.ascontiguousarray(x).reshape(x.shape[0], math.prod(x.shape[1:]))


def reshaped(shape: Shape, wanted: Sequence[int | None]) -> Shape:
    """Work out ``shape`` (no batch) after a reshape to ``wanted``, whose one ``-1`` is found if all is known."""
    target = list(wanted)
    if target.count(-1) > 1:
        raise UnsupportedLayerError(f"at most one size of {target} may be -1")
    known = None if None in shape else math.prod(cast("tuple[int, ...]", shape))
    if -1 not in target:
        if known is not None and None not in target and math.prod(cast("list[int]", target)) != known:
            raise UnsupportedLayerError(f"{shape} cannot be reshaped to {tuple(target)}")
        return tuple(target)
    place = target.index(-1)
    others = [size for number, size in enumerate(target) if number != place]
    if known is None or None in others:
        target[place] = None
        return tuple(target)
    rest = math.prod(cast("list[int]", others))
    if rest == 0 or known % rest:
        raise UnsupportedLayerError(f"{shape} cannot be reshaped to {tuple(wanted)}")
    target[place] = known // rest
    return tuple(target)


@register("Reshape")
class Reshape(Operation):
    """Gives another shape behind the batch, in C order."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        value = config.get("target_shape")
        if not isinstance(value, list | tuple):
            raise self.refuse("target_shape is missing")
        items = cast("Sequence[Any]", value)
        self.target = tuple(-1 if item is None else whole(item, "target_shape") for item in items)

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        batch, *rest = cast("Shape", args[0])
        return (batch, *reshaped(tuple(rest), self.target))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        return np.ascontiguousarray(x).reshape(cast("tuple[int, ...]", self.output_shape(x.shape)))


@register("Permute")
class Permute(Operation):
    """Puts the axes behind the batch, which count from one, in another order."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        items = cast("Sequence[Any]", config.get("dims") or ())
        self.order = (0, *(whole(item, "dims") for item in items))
        if sorted(self.order) != list(range(len(self.order))) or len(self.order) < 2:
            raise self.refuse(f"dims must be the numbers from 1 on in some order, not {list(items)}")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        if len(shape) != len(self.order):
            raise self.refuse(f"expected an input of {len(self.order)} axes, got {len(shape)}")
        return tuple(shape[axis] for axis in self.order)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        self.output_shape(x.shape)
        return np.ascontiguousarray(x.transpose(self.order))


@register("RepeatVector")
class RepeatVector(Operation):
    """Repeats ``(N, C)`` to ``(N, n, C)``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.count = whole(config.get("n"), "n")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        if len(shape) != 2:
            raise self.refuse(f"expected an input of 2 axes, got {len(shape)}")
        return (shape[0], self.count, shape[1])

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        self.output_shape(x.shape)
        return np.repeat(x[:, None], self.count, axis=1)


@register("Embedding")
class Embedding(Operation):
    """Looks up a row of the table for each index; indices come in any dtype and must lie inside the table."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.size = whole(config.get("output_dim"), "output_dim")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        return (*cast("Shape", args[0]), self.size)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x, table = cast("Array", args[0]), weights["embeddings"]
        index = x.astype(np.int64)
        if index.size and (int(index.min()) < 0 or int(index.max()) >= table.shape[0]):
            raise self.refuse(f"an index lies outside the table of {table.shape[0]} rows")
        return table[index]
