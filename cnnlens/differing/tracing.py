"""Every step that a network computes, with its inputs and its output; an activation in a layer is a step of its own.

One model has ``Conv2D(activation="relu")`` where the other has a convolution and a ReLU; taken apart, the same steps
stand on both sides and can be held against each other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.auditing import computing_calls, recorded_ref
from cnnlens.network.graph import Call, Ref, map_refs
from cnnlens.network.network import Network
from cnnlens.reference.executor import Executor
from cnnlens.reference.keras.activations import ActivationLayer
from cnnlens.reference.operation import LinearOperation, Operation

__all__ = ["Trace", "TracedCall", "trace"]

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class TracedCall:
    """Describes one operation on arrays.

    Attributes:
        name: Of its output: the call's, ``[1]`` after it for a further output, ``before its activation`` for the part
            of a layer in front of its activation.
        call: The call that it is (a part of).
        operation: What is computed, without the activation where that is a step of its own.
        weights: As the operation wants them.
        args, kwargs: As it is called, in the network's own axes.
        output: In the network's own axes; ``canonical``: in canonical axes.
        inputs: The names of the tensors that it takes.
        weighted: Whether the layer's weights are used here.
        wanted: The arguments and keyword arguments with a ``Ref`` of its name for each tensor.
        index: Which output of the operation it is.
    """

    name: str
    call: Call
    operation: Operation
    weights: Mapping[str, Array]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Array
    canonical: Array
    inputs: tuple[str, ...]
    weighted: bool
    wanted: tuple[tuple[Any, ...], Mapping[str, Any]]
    index: int = 0

    @property
    def shown(self) -> str:
        return self.name if not self.name.endswith(_BEFORE) else self.call.name

    def on(self, value: Callable[[str], Array]) -> TracedCall:
        """Compute the step again on other tensors, each in the network's own axes by its name.

        Raises:
            CnnlensError: They do not fit.
        """
        args, kwargs = map_refs(self.wanted, lambda ref: value(ref.name))
        with np.errstate(all="ignore"):
            made: Any = self.operation(self.weights, *args, **kwargs)
        output: Array = np.asarray(cast("list[Any]", made)[self.index] if isinstance(made, (list, tuple)) else made)
        return replace(self, args=args, kwargs=kwargs, output=output, canonical=self.turned(output))

    def turned(self, array: Array) -> Array:
        """Turn an array in the step's own axes into canonical ones."""
        return array if array.ndim < 3 or self.call.channel_axis == 1 else np.moveaxis(array, -1, 1)


_BEFORE = " before its activation"


@dataclass(frozen=True)
class Trace:
    """Holds what a network's run computed, step by step.

    Attributes:
        inputs: Its inputs' names, in order; ``outputs``: its outputs'.
        tensors: Canonical arrays by name; ``own``: the same in the network's own axes.
        steps: In order.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Array]
    own: Mapping[str, Array]
    steps: tuple[TracedCall, ...]


def trace(network: Network, inputs: Sequence[Array]) -> Trace:
    """Run a network in float64 on canonical inputs and keep every step.

    Raises:
        UnsupportedLayerError: The reference cannot compute a layer; it is named.
    """
    tensors = Executor(network).run(list(inputs))
    for ref, array in zip(network.inputs, inputs, strict=True):
        tensors[ref.name] = np.asarray(array, np.float64)
    own = {ref.name: _own(network, ref, tensors[ref.name]) for ref in network.tensors.values() if ref.name in tensors}
    steps: list[TracedCall] = []
    for call in computing_calls(network):
        weights = {
            name: array.astype(np.float64) if array.dtype.kind == "f" else array
            for name, array in call.layer.computing_weights().items()
        }

        def value(ref: Ref) -> Array:
            return own[recorded_ref(network, ref).name]

        wanted = map_refs((call.args, call.operand_kwargs), lambda ref: recorded_ref(network, ref))
        args, kwargs = map_refs((call.args, call.operand_kwargs), value)
        names = tuple(recorded_ref(network, ref).name for ref in call.refs)
        operation = call.layer.operation
        for index in range(len(call.shapes)):
            name = Ref(call.name, index).name
            if name not in own:
                continue
            first = TracedCall(name, call, operation, weights, args, kwargs, own[name], tensors[name], names,
                               bool(weights), wanted, index)  # fmt: skip
            for part in _parts(first, tensors):
                own[part.name] = part.output
                steps.append(part)
    outputs = tuple(recorded_ref(network, ref).name for ref in network.outputs)
    return Trace(tuple(ref.name for ref in network.inputs), outputs, tensors, own, tuple(steps))


def _own(network: Network, ref: Ref, array: Array) -> Array:
    axis = network.calls_by_name[ref.call].channel_axis
    return array if array.ndim < 3 or axis == 1 else np.moveaxis(array, 1, -1)


def _parts(step: TracedCall, tensors: dict[str, Array]) -> list[TracedCall]:
    """The step, or where an activation is inside it, the part in front and the activation."""
    operation = step.operation
    if not isinstance(operation, LinearOperation) or operation.activation is None or not step.args:
        return [step]
    plain = copy.copy(operation)
    plain.activation = None
    with np.errstate(all="ignore"):
        before = np.asarray(operation.linear(step.weights, np.asarray(step.args[0], np.float64)))
    name = f"{step.call.name}{_BEFORE}"
    tensors[name] = canonical = step.turned(before)
    front = replace(step, name=name, operation=plain, output=before, canonical=canonical, weighted=True)
    layer = ActivationLayer("Activation", {"activation": "linear"}, operation.keras_version)
    layer.activation = operation.activation
    after = replace(step, operation=layer, weights={}, args=(before,), kwargs={}, inputs=(name,), weighted=False,
                    wanted=((Ref(name),), {}), index=0)  # fmt: skip
    return [front, after]
