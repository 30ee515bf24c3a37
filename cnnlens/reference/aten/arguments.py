"""Arguments of an aten call, and what is made of them: markers for tensors, weights and the batch, and the translation.

torch.export writes a call as an operator with its arguments by name. Tensors, weights and sizes that depend on the
batch stand in them as small dictionaries; here they become objects that an operation fills in when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.operation import Operation, Shape, whole
from cnnlens.text import printable

__all__ = ["IN_EVAL", "Arguments", "Batch", "Tensor", "Translation", "WeightName", "is_operand", "markers"]

Arrays = Mapping[str, NDArray[Any]]

IN_EVAL = "call model.eval() before export, and give functional calls training=self.training"
"""The way out where a call was exported in training mode, which may be a function's own default."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Stands for the k-th tensor that the call takes (``call.refs[index]``)."""

    index: int


@dataclass(frozen=True, slots=True)
class WeightName:
    """Stands for a weight of the layer where a tensor could stand."""

    name: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Stands for a size that is ``factor`` times the length of a tensor's first axis."""

    factor: int
    tensor: int


@dataclass(frozen=True)
class Translation:
    """Describes an aten call as the reference computes it.

    Attributes:
        operation: One of the reference's own operations, in channels-first order.
        args: What it is called with: nested lists and tuples with ``Tensor(k)`` for the k-th tensor, in order.
        weights: The layer's weights that it uses: aten's name to the kind and role in the table of layouts; the kind
            is empty and the role aten's own name where the table has no such weight.
        unpack: Arrays as torch stores them, by aten's name, to arrays as ``operation`` wants them, by role.
    """

    operation: Operation
    args: tuple[Any, ...]
    weights: Mapping[str, tuple[str, str]]
    unpack: Callable[[Arrays], dict[str, NDArray[Any]]]


def marked(value: Any) -> Any:
    """A value of the arguments with markers for its dictionaries, all the way down."""
    if isinstance(value, Mapping):
        entry = cast("Mapping[str, Any]", value)
        if "tensor" in entry and "batch" not in entry:
            return Tensor(whole(entry["tensor"], "tensor"))
        if "weight" in entry:
            return WeightName(str(entry["weight"]))
        if "batch" in entry:
            return Batch(whole(entry["batch"], "batch"), whole(entry.get("tensor", -1), "tensor"))
        raise UnsupportedLayerError(f"an argument that says neither tensor, weight nor batch: {printable(entry)}")
    if isinstance(value, list | tuple):
        return [marked(item) for item in cast("Sequence[Any]", value)]
    return value


def is_operand(value: Any) -> bool:
    """Tell whether a value stands for an array."""
    return isinstance(value, Tensor | WeightName)


def markers(value: Any) -> list[Any]:
    """List every marker in nested lists, in order."""
    if isinstance(value, list | tuple):
        return [marker for item in cast("Sequence[Any]", value) for marker in markers(item)]
    return [value] if isinstance(value, Tensor | WeightName | Batch) else []


class Arguments:
    """Reads the arguments of one aten call: ``by_name``, with markers in them.

    Attributes:
        name: The operator without namespace, overload and the underscore of its in-place form.
        overload: Such as ``default`` or ``Tensor``.
        weights: The shapes of the layer's weights, by name; ``tensors``: those of the tensors that it takes.
    """

    def __init__(
        self,
        name: str,
        overload: str,
        arguments: Mapping[str, Any],
        weights: Mapping[str, tuple[int, ...]],
        tensors: Sequence[Shape | None],
    ) -> None:
        self.name, self.overload = name, overload
        self.by_name = {key: marked(value) for key, value in arguments.items()}
        self.weights = weights
        self.tensors = tensors
        for marker in markers(list(self.by_name.values())):
            if isinstance(marker, Tensor):
                self._came(marker.index)

    def _came(self, place: int) -> None:
        if place >= len(self.tensors):
            raise self.refuse(f"it takes tensor {place}, and {len(self.tensors)} came")

    def get(self, name: str, default: Any = None) -> Any:
        """Give an argument; ``default`` where it is absent or None."""
        value = self.by_name.get(name)
        return default if value is None else value

    def refuse(self, reason: str) -> UnsupportedLayerError:
        return UnsupportedLayerError(f"{printable(self.name)}: {reason}")

    @property
    def main(self) -> Any:
        """Give the first operand: ``self`` or ``input``."""
        for name in ("self", "input"):
            if name in self.by_name:
                return self.by_name[name]
        raise self.refuse("it names no input")

    def tensor(self, name: str | None = None) -> Tensor:
        """Give an argument that must be a tensor; the main one by default."""
        value = self.main if name is None else self.get(name)
        if not isinstance(value, Tensor):
            raise self.refuse(f"its {name or 'input'} must be a tensor")
        return value

    def shape(self, value: Any) -> Shape | None:
        """Give the shape of an operand, or of a number; None where it is not known."""
        if isinstance(value, Tensor):
            shape = self.tensors[value.index]
            return None if shape is None else tuple(shape)
        if isinstance(value, WeightName):
            if value.name not in self.weights:
                raise self.refuse(f"the layer has no weight '{printable(value.name)}'")
            return tuple(self.weights[value.name])
        return ()

    def known(self, value: Any) -> Shape:
        """Give the shape of an operand, which must be known."""
        shape = self.shape(value)
        if shape is None:
            raise self.refuse("the shape of its input is not known")
        return shape

    def rank(self, value: Any = None) -> int:
        """Say how many axes an operand has; the main one by default."""
        return len(self.known(self.main if value is None else value))

    def weight(self, name: str) -> str | None:
        """Give the name of the weight that an argument is, or None where it is absent."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, WeightName):
            raise self.refuse(f"its {name} is computed in the graph, where a weight of the layer was expected")
        self.shape(value)
        return value.name

    def number(self, name: str, default: float) -> float:
        """Give an argument that must be a number."""
        value = self.get(name, default)
        if isinstance(value, bool | int | float):
            return float(value)
        raise self.refuse(f"{name} must be a number, not {printable(value)}")

    def integer(self, name: str, default: int) -> int:
        return whole(self.get(name, default), name)

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.get(name, default))

    def integers(self, name: str, count: int, default: int | Sequence[int] | None = None) -> list[int]:
        """Give an argument of one whole number an axis; a single one stands for all, an empty list is the default.

        Without a default the operator's schema has none, and a call that does not say it is refused."""
        value = self.get(name, default)
        if isinstance(value, list | tuple) and not value:
            value = default
        items = list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else [value]
        if len(items) == 1:
            items = items * count
        if len(items) != count:
            raise self.refuse(f"{name} must be one whole number or {count}, not {printable(items)}")
        return [whole(item, name) for item in items]

    def axes(self, name: str) -> list[int] | None:
        """Give an argument that names axes: one, several, or None for all (an empty list is all as well)."""
        value = self.get(name)
        if value is None:
            return None
        items = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else [value]
        return [whole(item, name) for item in items] or None

    def sizes(self, value: Any) -> list[Any]:
        """Read sizes as whole numbers, or ``Batch`` with the tensor whose first axis it is measured on.

        Raises:
            UnsupportedLayerError: a size depends on the batch, and no tensor shows how large that is.
        """
        items = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else [value]
        return [self.batch(item) if isinstance(item, Batch) else whole(item, "a size") for item in items]

    def batch(self, size: Batch) -> Batch:
        """Read ``size`` with a tensor to measure it on: the one it names, or the first whose first axis is open."""
        if size.tensor >= 0:
            self._came(size.tensor)  # a call that need not know the batch size lacks the tensor that shows it
            return size
        for index, shape in enumerate(self.tensors):
            if shape and shape[0] is None:
                return Batch(size.factor, index)
        raise self.refuse(
            "a size depends on the batch, which none of its operands has; export the model with a fixed batch"
        )


def as_stored(arrays: Arrays, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Weights as they are, by their own names."""
    return {name: np.asarray(arrays[name]) for name in names}
