"""Dense layers and einsums: matrix products over the last axes, and shapes by equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.arithmetic.functions import find_activation
from cnnlens.reference.arithmetic.patches import finisher, multiply_rows
from cnnlens.reference.operation import Array, LinearOperation, Shape, Weights, register, whole

__all__ = ["Dense", "EinsumDense"]

# Bytes of inputs and outputs worked on together.
_BLOCK_BYTES = 1 << 19


@register("Dense")
class Dense(LinearOperation):
    """Computes ``x @ kernel + bias`` over the last axis, kernel ``(in, units)``."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.units = whole(config.get("units"), "units")
        self.use_bias = bool(config.get("use_bias", True))
        self.activation = find_activation(config.get("activation"), keras_version)

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = (*cast("Shape", args[0])[:-1], self.units)
        return shape if self.activation is None else self.activation.shape(shape)

    def linear(self, weights: Weights, x: Array) -> Array:
        kernel = weights["kernel"]
        out = np.empty((*x.shape[:-1], kernel.shape[-1]), x.dtype)
        positions = max(_BLOCK_BYTES // (x.shape[-1] * x.itemsize), 256)
        bias = weights["bias"] if self.use_bias else None
        if kernel.shape != (x.shape[-1], self.units) or (bias is not None and bias.shape != (self.units,)):
            raise ValueError(f"a kernel of shape {(x.shape[-1], self.units)} was expected, {kernel.shape} came")
        finish = finisher(bias, None)
        rows = x.reshape(-1, x.shape[-1])
        multiply_rows(rows, kernel, out.reshape(-1, kernel.shape[-1]), positions, finish)
        return out


@register("EinsumDense")
class EinsumDense(LinearOperation):
    """Computes an einsum of input and kernel, then a bias on some of the output's axes, stored to broadcast."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        equation = str(config.get("equation", "")).replace(" ", "")
        parts = equation.replace("->", ",").split(",")
        if len(parts) != 3 or "->" not in equation:
            raise self.refuse(f"expected an equation such as 'ab,bc->ac', got '{equation}'")
        self.equation = equation
        self.operand, _, self.made = parts
        size = config.get("output_shape")
        self.sizes: list[Any] = list(cast("Sequence[Any]", size)) if isinstance(size, list | tuple) else [size]
        self.use_bias = config.get("bias_axes") is not None
        self.activation = find_activation(config.get("activation"), keras_version)

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        # An ellipsis stands for the axes that are not named, at the same end of input and output.
        plain, made = self.operand.replace("...", ""), self.made.replace("...", "")
        elided = len(shape) - len(plain)
        if elided < 0 or (elided > 0 and "..." not in self.operand):
            raise self.refuse(f"'{self.equation}' does not fit an input of {len(shape)} axes")
        front = self.operand.startswith("...")
        known = dict(zip(plain, shape[elided:] if front else shape[: len(plain)], strict=True))
        # The configuration's sizes leave out the batch, which is elided or the first of the named axes.
        stated = [*self.sizes] if front and elided > 0 else [None, *self.sizes]
        result = [known.get(axis, stated[place] if place < len(stated) else None) for place, axis in enumerate(made)]
        rest = shape[:elided] if front else shape[len(plain) :]
        total = (*rest, *result) if front else (*result, *rest)
        return total if self.activation is None else self.activation.shape(total)

    def linear(self, weights: Weights, x: Array) -> Array:
        result = np.ascontiguousarray(np.einsum(self.equation, x, weights["kernel"], optimize=True))
        if self.use_bias:
            result += weights["bias"]
        return result
