"""Layers that take several feature maps and make one: sums, products, concatenation, dot products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.operation import Array, Operation, Shape, Weights, normalise_axis, register, whole

__all__ = ["Concatenate", "Dot", "Merge", "broadcast_shape", "concatenated_shape"]


def broadcast_shape(*shapes: Shape) -> Shape:
    """Work out the shape of an elementwise result; an unknown size stays beside 1 and gives way to any other."""
    rank = max(len(shape) for shape in shapes)
    result: list[int | None] = []
    for place in range(-rank, 0):
        sizes = [shape[place] for shape in shapes if len(shape) >= -place]
        known = {size for size in sizes if size is not None and size != 1}
        if len(known) > 1:
            raise UnsupportedLayerError(f"shapes do not fit together: {', '.join(str(shape) for shape in shapes)}")
        result.append(known.pop() if known else (None if None in sizes else 1))
    return tuple(result)


def concatenated_shape(shapes: Sequence[Shape], axis: int) -> Shape:
    """Work out the shape of several arrays put behind each other on ``axis``."""
    place = normalise_axis(axis, len(shapes[0]))
    if any(len(shape) != len(shapes[0]) for shape in shapes):
        raise UnsupportedLayerError(f"shapes do not fit together: {', '.join(str(shape) for shape in shapes)}")
    result: list[int | None] = []
    for number, sizes in enumerate(zip(*shapes, strict=True)):
        if number == place:
            result.append(None if None in sizes else sum(cast("tuple[int, ...]", sizes)))
            continue
        known = {size for size in sizes if size is not None}
        if len(known) > 1:
            raise UnsupportedLayerError(f"shapes do not fit together: {', '.join(str(shape) for shape in shapes)}")
        result.append(known.pop() if known else None)
    return tuple(result)


MERGES: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Average": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Maximum": np.maximum,
    "Minimum": np.minimum,
}  # fmt: skip


@register(*MERGES)
class Merge(Operation):
    """Add, Average, Subtract, Multiply, Maximum, Minimum: elementwise over a list, lower ranks spread over higher."""

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        return broadcast_shape(*_lift([tuple(shape) for shape in cast("Sequence[Shape]", args[0])]))

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        arrays = [x.reshape(cast("Any", shape)) for x, shape in _lifted(cast("Sequence[Array]", args[0]))]
        combine = MERGES[self.kind]
        masks = kwargs.get("mask")
        if masks is not None and self.kind in ("Multiply", "Maximum", "Minimum"):
            return self._masked(arrays, masks)
        if len(arrays) == 1:
            return arrays[0].copy()
        out = combine(arrays[0], arrays[1])
        for array in arrays[2:]:
            grows = out.shape != broadcast_shape(out.shape, array.shape)
            out = combine(out, array) if grows else combine(out, array, out=out)
        if self.kind == "Average":
            out /= len(arrays)
        return cast("Array", out)

    def _masked(self, arrays: Sequence[Array], masks: Sequence[Array | None]) -> Array:
        """Merge what is not masked alone: where one is, the others; a product where all are is zero.

        Of two that Maximum and Minimum see, one that is masked gives way to the other before they are compared.
        """
        spread = [None if mask is None else np.broadcast_to((mask != 0)[..., None], x.shape)
                  for mask, x in zip(masks, arrays, strict=True)]  # fmt: skip
        combine = MERGES[self.kind]
        output, known = arrays[0], spread[0]
        if self.kind == "Multiply":
            one = output.dtype.type(1)
            kept = [x if mask is None else np.where(mask, x, one) for mask, x in zip(spread, arrays, strict=True)]
            output = kept[0]
            for x in kept[1:]:
                output = output * x
            if any(mask is None for mask in spread):
                return output
            return np.where(np.logical_or.reduce(np.broadcast_arrays(*cast("Any", spread))), output, 0 * one)
        for x, mask in zip(arrays[1:], spread[1:], strict=True):
            x = x if mask is None else np.where(mask, x, output)
            output = output if known is None else np.where(known, output, x)
            known = known | mask if known is not None and mask is not None else None
            output = combine(output, x)
        return output


def _lift(shapes: Sequence[Shape]) -> list[Shape]:
    """Keras gives an array of lower rank axes of one behind the batch: ``(N, C)`` becomes ``(N, 1, 1, C)``."""
    rank = max(len(shape) for shape in shapes)
    return [(*shape[:1], *(1,) * (rank - len(shape)), *shape[1:]) for shape in shapes]


def _lifted(arrays: Sequence[Array]) -> list[tuple[Array, Shape]]:
    return list(zip(arrays, _lift([cast("Shape", x.shape) for x in arrays]), strict=True))


@register("Concatenate")
class Concatenate(Operation):
    """Puts arrays behind each other on one axis."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.axis = whole(config.get("axis", -1), "axis")

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        return concatenated_shape([tuple(shape) for shape in cast("Sequence[Shape]", args[0])], self.axis)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        return np.concatenate(cast("Sequence[Array]", args[0]), axis=self.axis)


@register("Dot")
class Dot(Operation):
    """Sums over one axis of each of two arrays, example by example; of unit vectors if asked (cosine proximity)."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        axes = config.get("axes")
        pair = list(cast("Sequence[Any]", axes)) if isinstance(axes, list | tuple) else [axes, axes]
        if len(pair) != 2:
            raise self.refuse(f"expected an axis or two, got {pair}")
        self.axes = (whole(pair[0], "axes"), whole(pair[1], "axes"))
        self.normalize = bool(config.get("normalize", False))

    def _places(self, ranks: Sequence[int]) -> tuple[int, int]:
        first, second = (normalise_axis(axis, rank, "axes") for axis, rank in zip(self.axes, ranks, strict=True))
        if first == 0 or second == 0:
            raise self.refuse("the batch axis cannot be summed over")
        return first, second

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        first, second = (tuple(shape) for shape in cast("Sequence[Shape]", args[0]))
        a, b = self._places([len(first), len(second)])
        if first[a] != second[b] and None not in (first[a], second[b]):
            raise self.refuse(f"shapes do not fit together: {first}, {second}")
        left = tuple(size for axis, size in enumerate(first) if axis != a)
        right = tuple(size for axis, size in enumerate(second) if axis not in (0, b))
        return left + right if len(left + right) > 1 else (*left, 1)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        first, second = cast("Sequence[Array]", args[0])
        a, b = self._places([first.ndim, second.ndim])
        if self.normalize:
            first, second = _unit(first, a), _unit(second, b)
        # (N, ..., K) x (N, K, ...) as one matrix product an example.
        left, right = np.moveaxis(first, a, -1), np.moveaxis(second, b, 1)
        outer = left.shape[1:-1] + right.shape[2:]
        product = np.matmul(
            left.reshape(left.shape[0], -1, left.shape[-1]), right.reshape(right.shape[0], right.shape[1], -1)
        )
        return product.reshape(first.shape[0], *(outer or (1,)))


def _unit(x: Array, axis: int) -> Array:
    squares = np.square(x).sum(axis=axis, keepdims=True)
    return x / np.sqrt(np.maximum(squares, x.dtype.type(1e-24)))
