"""Operations that stand in a model without a layer: ``x + y``, ``keras.ops.relu(x)`` and their Keras 2 spelling.

A table gives each its function and the rule of its shape. Arguments come as the file has them, with arrays (or shapes)
where tensors were; slices and constants in their serialised form are understood here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.bare.nodes import node_of
from cnnlens.reference.bare.rules import Rule
from cnnlens.reference.bare.table import OPERATIONS, TENSORFLOW_NAMES
from cnnlens.reference.operation import Array, Operation, Weights
from cnnlens.text import nearest, printable

__all__ = ["BareOperation", "build_bare", "is_bare"]

_KERAS_2_KINDS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")


def is_bare(kind: str, module: str | None) -> bool:
    """Tell whether the entry is a bare op rather than a layer: an ``Add`` may be either, and only the module tells."""
    return kind in _KERAS_2_KINDS or (
        module is not None and (module + ".").startswith(("keras.src.ops.", "keras.ops."))
    )


def build_bare(
    kind: str, module: str | None, config: Mapping[str, Any], keras_version: tuple[int, ...]
) -> Operation | None:
    """Build the operation of a bare op, or None where there is none of this name."""
    if kind == "TensorFlowOpLayer":
        return NodeOperation(kind, config, keras_version)
    if kind in _KERAS_2_KINDS:
        return KerasTwoOperation(kind, config, keras_version)
    rule = OPERATIONS.get(kind)
    return None if rule is None else BareOperation(kind, config, keras_version, rule)


def decode(argument: Any) -> Any:
    """An argument with its serialised slices, ellipses and constants in Python's own form, all the way down."""
    if isinstance(argument, Mapping):
        entry = cast("Mapping[str, Any]", argument)
        kind, config = entry.get("class_name"), entry.get("config")
        if kind in ("__slice__", "slice") or (kind is None and "start" in entry and "stop" in entry):
            parts = cast("Mapping[str, Any]", config if isinstance(config, Mapping) else entry)
            return slice(parts.get("start"), parts.get("stop"), parts.get("step"))
        if kind in ("__ellipsis__", "Ellipsis"):
            return Ellipsis
        if kind in ("__numpy__", "__tensor__") and isinstance(config, Mapping):
            constant = cast("Mapping[str, Any]", config)
            return np.asarray(constant.get("value"), str(constant.get("dtype", "float32")))
        if kind == "__tuple__" or "items" in entry:
            return tuple(decode(item) for item in cast("Sequence[Any]", entry.get("items", config)))
        return {name: decode(value) for name, value in entry.items()}
    if isinstance(argument, tuple):
        return tuple(decode(item) for item in cast("tuple[Any, ...]", argument))
    if isinstance(argument, list):
        return [decode(item) for item in cast("list[Any]", argument)]
    return argument


class BareOperation(Operation):
    """Computes a call of a function of ``keras.ops``: settings in the configuration, operands as arguments."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...], rule: Rule) -> None:
        super().__init__(kind, config, keras_version)
        self.rule = rule
        self.settings: dict[str, Any] = {name: decode(value) for name, value in config.items() if name != "name"}

    def _split(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Operands in order, and settings: an operand may come by name, a setting may come by place."""
        operands = [decode(argument) for argument in args]
        settings = dict(self.settings)
        named = {name: decode(value) for name, value in kwargs.items()}
        while len(operands) < len(self.rule.operands) and self.rule.operands[len(operands)] in named:
            operands.append(named.pop(self.rule.operands[len(operands)]))
        count = len(self.rule.operands) or len(operands)
        settings.update(zip(self.rule.settings, operands[count:], strict=False))
        settings.update({name: value for name, value in named.items() if name != "name" and value is not None})
        return operands[:count], settings

    def resolved(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
        """Give the op's name in Keras 3, its operands and its settings, for who computes it by other means."""
        return (self.kind, *self._split(args, kwargs))

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        operands, settings = self._split(args, kwargs)
        return self.rule.shape(settings, *operands)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        operands, settings = self._split(args, kwargs)
        # Looked up before constants are decoded: those have the file's dtype, not the run's.
        dtype = _dtype([*args, *kwargs.values()])
        result = self.rule.function(settings, *[_operand(value, dtype) for value in operands])
        if isinstance(result, list | tuple):
            return [np.asarray(item) for item in cast("Sequence[Any]", result)]
        return np.asarray(result)


def _dtype(operands: Sequence[Any]) -> np.dtype[Any] | None:
    """The run's dtype: the widest of the floating arrays among the operands."""
    found: list[np.dtype[Any]] = []
    for value in operands:
        if isinstance(value, list | tuple):
            inner = _dtype(cast("Sequence[Any]", value))
            found += [] if inner is None else [inner]
        elif isinstance(value, np.ndarray) and cast("Array", value).dtype.kind == "f":
            found.append(cast("Array", value).dtype)
    return max(found, key=lambda dtype: dtype.itemsize) if found else None


def _operand(value: Any, dtype: np.dtype[Any] | None) -> Any:
    """Constants from the file take the run's dtype, or float32 ones would drag float64 down and the other way round."""
    if isinstance(value, np.ndarray) and dtype is not None and cast("Array", value).dtype.kind == "f":
        return cast("Array", value).astype(dtype, copy=False)
    if isinstance(value, list | tuple) and any(isinstance(item, np.ndarray) for item in cast("Sequence[Any]", value)):
        return [_operand(item, dtype) for item in cast("Sequence[Any]", value)]
    return cast("Any", value)


class KerasTwoOperation(Operation):
    """``TFOpLambda``: a TensorFlow function by its public name, translated to the op of the same meaning."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        name = str(config.get("function", ""))
        found = TENSORFLOW_NAMES.get(name.removeprefix("tf.").removeprefix("compat.v1."))
        if found is None:
            raise self.refuse(f"no function '{printable(name)}'; {nearest(name, TENSORFLOW_NAMES)}")
        target, self.renamed, constants = found
        self.inner = BareOperation(target, constants, (3,), OPERATIONS[target])

    def _translate(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        """The arguments that the op of the same meaning has."""
        return args, {self.renamed.get(name, name): value for name, value in kwargs.items() if name != "name"}

    def resolved(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
        """As ``BareOperation.resolved``, of the op of the same meaning."""
        return self.inner.resolved(*self._translate(args, kwargs))

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = cast("Any", self._translate(args, kwargs))
        return self.inner.output_shape(*args, **kwargs)

    def __call__(self, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = cast("Any", self._translate(args, kwargs))
        return self.inner(weights, *args, **kwargs)


class NodeOperation(KerasTwoOperation):
    """``TensorFlowOpLayer``: a node of a graph of TensorFlow, translated to the op of the same meaning."""

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        Operation.__init__(self, kind, config, keras_version)
        self.node = node_of(config)
        self.inner = BareOperation(self.node.target, {}, (3,), OPERATIONS[self.node.target])

    def _translate(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        return self.node.operands(args)
