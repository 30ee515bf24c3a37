"""Operations that hold other operations: what a model around layers does to them.

``TimeDistributed`` folds its time axis into the batch and calls what it wraps; a wrapped model is a network of its own.
A nested model needs nothing here, for its layers are written out in the graph, and what remains of it hands on their
result.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import Graph, Shape
from cnnlens.reference.executor import Executor
from cnnlens.reference.operation import Array, Operation, Weights

__all__ = ["Container", "Input", "ModelOperation", "TimeDistributed"]


class Container(Operation):
    """Hands on the output, or outputs, of a nested model whose layers ran."""

    def __init__(self) -> None:
        super().__init__("Functional", {}, (3,))

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return args[0]

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        return args[0]


class Input(Operation):
    """Stands for an input of the network; the executor gives it its array, so it is never called."""

    def __init__(self) -> None:
        super().__init__("InputLayer", {}, (3,))


class TimeDistributed(Operation):
    """Runs the wrapped operation on every step of axis 1: ``(N, T, …)`` as ``(N * T, …)`` and back.

    Source: Keras ``TimeDistributed``: "applies a layer to every temporal slice of an input".
    """

    def __init__(self, inner: Operation) -> None:
        super().__init__("TimeDistributed", inner.config, inner.keras_version)
        self.inner = inner

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = cast("Shape", args[0])
        if len(shape) < 3:
            raise UnsupportedLayerError(f"it needs an input (N, T, …), not one with {len(shape)} axes")
        inner = cast("Shape", self.inner.output_shape((None, *shape[2:])))
        return (shape[0], shape[1], *inner[1:])

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        result = cast("Array", self.inner(weights, x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])))
        return result.reshape(x.shape[0], x.shape[1], *result.shape[1:])


class ModelOperation(Operation):
    """Runs a whole network as one operation, with its own weights; for a model inside a wrapper.

    Raises:
        UnsupportedLayerError: one of its layers is not in the reference, or it has several inputs or outputs.
    """

    def __init__(self, network: Graph) -> None:
        super().__init__("Functional", {}, (3,))
        if len(network.inputs) != 1 or len(network.outputs) != 1:
            raise UnsupportedLayerError("it wraps a model with several inputs or outputs")
        self.network = network
        self._executors: dict[str, Executor] = {}
        self._executor("float32")

    def _executor(self, dtype: str) -> Executor:
        if dtype not in self._executors:
            self._executors[dtype] = Executor(self.network, dtype=dtype, layers=[self.network.outputs[0].name])
        return self._executors[dtype]

    def output_shape(self, *args: Any, **kwargs: Any) -> Shape:
        shape = self.network.shape(self.network.outputs[0])
        if shape is None:
            raise UnsupportedLayerError("it wraps a model whose output shape is not known")
        return shape

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Array:
        x = cast("Array", args[0])
        return self._executor(np.dtype(x.dtype).name).stored([x])[self.network.outputs[0].name]
