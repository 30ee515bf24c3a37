"""A Keras functional config as it grows: layers and operations with their calls, their arrays, and the names they get.

Every method takes and gives a ``Value``; what Keras is told (axes counted in its own order, serialised slices and
constants) is said here and nowhere else. The syntax is Keras 3's, as ``model.to_json()`` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.conversion.to_keras.depth_order import depth_order
from cnnlens.conversion.to_keras.value import FlatOrder, Value, channels_last, identity
from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import kind_of
from cnnlens.network.graph import Shape

__all__ = ["Builder", "Made", "by_features"]

Arrays = Mapping[str, NDArray[Any]]


@dataclass
class Made:
    """Holds a layer or operation of the model: its entry, its arrays, its calls so far."""

    entry: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=lambda: dict[str, NDArray[Any]]())
    calls: list[dict[str, Any]] = field(default_factory=lambda: list[dict[str, Any]]())
    parents: list[list[tuple[str, int]]] = field(default_factory=lambda: list[list[tuple[str, int]]]())


class Builder:
    """Collects the layers of a Keras model by name, in the order in which they were made.

    Attributes:
        exact: Whether numbers that the conversion works out stay in float64, for a comparison and not for a file.
        roundings: What lost digits as float32, a phrase each.
    """

    def __init__(self, exact: bool = False) -> None:
        self.exact = exact
        self.roundings: dict[str, None] = {}
        self.made: dict[str, Made] = {}
        self.inputs: list[Value] = []
        self._shared: dict[tuple[str, str], str] = {}
        self._turned: dict[tuple[str, int, int, tuple[int, ...]], Value] = {}

    # -- making and calling -------------------------------------------------------------------------------------------

    def rounded(self, array: NDArray[Any], what: str) -> NDArray[Any]:
        """Round numbers worked out in float64 to float32; ``what`` they are is kept if digits are lost."""
        narrow = array.astype(np.float32)
        if np.array_equal(narrow, array, equal_nan=True):
            return narrow
        self.roundings[what] = None
        return array if self.exact else narrow

    def _single(self, name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Arrays in the float32 of the layers: those of half the size gain nothing, those of float64 are rounded."""
        return {
            role: array.astype(np.float32) if array.dtype == np.float16
            else self.rounded(array, f"the {role} of '{name}'") if array.dtype == np.float64
            else array
            for role, array in arrays.items()
        }  # fmt: skip

    def input(self, name: str, shape: Shape, axes: Sequence[int], dtype: str) -> Value:
        """Add an input that holds ``shape`` (PyTorch's, batch first) in the order ``axes``."""
        name = self._free(name)
        x = Value(name, 0, 0, shape, tuple(axes))
        config = {"batch_shape": list(x.keras_shape), "dtype": dtype, "sparse": False, "ragged": False, "name": name}
        entry = {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}
        self.made[name] = Made({**entry, "name": name})
        self.made[name].parents.append([])
        self.inputs.append(x)
        return x

    def layer(
        self,
        kind: str,
        name: str,
        config: Mapping[str, Any],
        inputs: Value | Sequence[Value],
        shape: Shape,
        axes: Sequence[int],
        arrays: Arrays | None = None,
        shared: str = "",
        *,
        apart: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Value:
        """Call a layer of Keras' on one tensor or on several.

        Args:
            kind: Its class; ``name``: what to call it, made unique.
            config: Its arguments without name and dtype.
            shape, axes: What comes out: its shape in PyTorch and the order in which it lies.
            arrays: Its variables by name, in Keras' axes.
            shared: A name that stands for the layer wherever it is called; empty for a layer of this call alone.
            apart: Whether it takes several tensors as arguments of their own, and not as one list.
            kwargs: Other arguments of the call.

        Raises:
            UnsupportedLayerError: it is called again with other settings.
        """
        tensors = [inputs] if isinstance(inputs, Value) else list(inputs)
        found = self._shared.get((shared, kind)) if shared else None
        if found is None:
            found = self._free(name)
            # The one family of layers that cannot be made with it (Keras 3.15.1).
            trainable = {} if kind.startswith("SpatialDropout") else {"trainable": True}
            full = {"name": found, **trainable, "dtype": "float32", **config}
            entry = {"module": "keras.layers", "class_name": kind, "config": full, "registered_name": None}
            self.made[found] = Made({**entry, "name": found}, self._single(found, arrays or {}))
            if shared:
                self._shared[shared, kind] = found
        else:
            before = {key: value for key, value in self.made[found].entry["config"].items() if key in config}
            if before != dict(config):
                raise UnsupportedLayerError(
                    "it is called several times, and would need other settings of one Keras layer each time"
                )
        operands = [self._tensor(one) for one in tensors]
        args = operands if apart or isinstance(inputs, Value) else [operands]
        named = {key: self._argument(value) for key, value in (kwargs or {}).items()}
        return self._called(found, args, named, tensors, shape, axes)

    def operation(
        self,
        kind: str,
        name: str,
        settings: Mapping[str, Any],
        args: Sequence[Any],
        shape: Shape,
        axes: Sequence[int],
        kwargs: Mapping[str, Any] | None = None,
    ) -> Value:
        """Call an operation of ``keras.ops``; ``args`` hold tensors, numbers, arrays, slices, and lists of them."""
        found = self._free(name)
        module = f"keras.src.ops.{kind_of(kind).home or 'numpy'}"
        config = {"name": found, **settings}
        entry = {"module": module, "class_name": kind, "config": config, "registered_name": kind, "name": found}
        self.made[found] = Made(entry)
        tensors = list(_tensors(args))
        operands = [self._argument(one) for one in args]
        named = {key: self._argument(value) for key, value in (kwargs or {}).items()}
        return self._called(found, operands, named, tensors, shape, axes)

    def output(self, x: Value, index: int, shape: Shape) -> Value:
        """Give another output of the call that gave ``tensor``."""
        return replace(x, index=index, shape=shape)

    def _called(
        self,
        name: str,
        args: list[Any],
        kwargs: dict[str, Any],
        tensors: Iterable[Value],
        shape: Shape,
        axes: Sequence[int],
    ) -> Value:
        made = self.made[name]
        made.calls.append({"args": args, "kwargs": kwargs})
        made.parents.append([(one.layer, one.node) for one in tensors])
        return Value(name, len(made.calls) - 1, 0, shape, tuple(axes))

    # -- names and arguments ------------------------------------------------------------------------------------------

    def _free(self, name: str) -> str:
        # Keras takes no slash, and TensorFlow makes a scope of the name.
        wanted = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-") or "layer"
        found, count = wanted, 0
        while found in self.made:
            count += 1
            found = f"{wanted}_{count}"
        return found

    @staticmethod
    def _tensor(x: Value) -> dict[str, Any]:
        if x.constant is not None:
            raise UnsupportedLayerError("it takes a constant where Keras wants a tensor that the model computes")
        history = [x.layer, x.node, x.index]
        config = {"shape": list(x.keras_shape), "dtype": "float32", "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Value):
            return self._tensor(value)
        if isinstance(value, slice):
            part = cast("slice[Any, Any, Any]", value)
            return {"class_name": "__slice__", "config": {"start": part.start, "stop": part.stop, "step": part.step}}
        if isinstance(value, np.ndarray):
            array = cast("NDArray[Any]", value)
            return {"class_name": "__tensor__", "config": {"value": array.tolist(), "dtype": array.dtype.name}}
        if isinstance(value, (list, tuple)):
            return [self._argument(one) for one in cast("Sequence[Any]", value)]
        return value

    # -- the order of axes ---------------------------------------------------------------------------------------------

    def turned(self, x: Value, axes: Sequence[int]) -> Value:
        """Turn the tensor's axes into this order: as it is, or behind a layer that moves them."""
        wanted = tuple(axes)
        x = self.plain(x)
        if x.axes == wanted:
            return x
        if [axis for axis in x.axes if x.shape[axis] != 1] == [axis for axis in wanted if x.shape[axis] != 1]:
            sizes = [x.shape[axis] for axis in wanted]
            return self.reshaped(x, sizes, x.shape, wanted, f"{x.layer}_reshape")
        key = (x.layer, x.node, x.index, wanted)
        if key not in self._turned:
            order = [x.axes.index(axis) for axis in wanted]
            name = f"{x.layer}_permute"
            if order[0] == 0:
                result = self.layer("Permute", name, {"dims": order[1:]}, x, x.shape, wanted)
            else:
                result = self.operation("Transpose", name, {"axes": order}, [x], x.shape, wanted)
            self._turned[key] = replace(result, at_least_zero=x.at_least_zero)
        return self._turned[key]

    def plain(self, x: Value) -> Value:
        """Put the features of a flattened map in PyTorch's order."""
        if x.flat is None:
            return x
        sizes, order = x.flat.sizes, x.flat.order
        wide = (x.shape[0], *sizes)
        axes = (0, *(axis + 1 for axis in order))
        apart = self.reshaped(replace(x, flat=None), [wide[axis] for axis in axes], wide, axes, f"{x.layer}_map")
        back = self.turned(apart, identity(len(wide)))
        return self.reshaped(back, list(x.shape), x.shape, identity(x.rank), f"{x.layer}_flat")

    def reshaped(self, x: Value, sizes: Sequence[int | None], shape: Shape, axes: Sequence[int], name: str) -> Value:
        """Read the same memory under other sizes, the batch kept; no layer where the sizes are the same already."""
        if list(x.keras_shape) == list(sizes):
            return replace(x.renamed(shape, axes), at_least_zero=x.at_least_zero)
        if len(sizes) == 2 and x.axes == channels_last(x.rank):
            result = self.layer("Flatten", name, {"data_format": "channels_last"}, x, shape, axes)
        else:
            result = self.layer("Reshape", name, {"target_shape": list(sizes[1:])}, x, shape, axes)
        return replace(result, at_least_zero=x.at_least_zero)

    # -- the whole -----------------------------------------------------------------------------------------------------

    def listed(self, outputs: Sequence[Value]) -> list[str]:
        """List the names of the layers that lead to the outputs, in Keras' order."""
        parents = {(name, node): found for name, made in self.made.items() for node, found in enumerate(made.parents)}
        return depth_order(parents, [x.layer for x in self.inputs], [(x.layer, x.node) for x in outputs])

    def config(self, name: str, outputs: Sequence[Value]) -> dict[str, Any]:
        """Write the model as ``model.to_json()`` gives it."""
        entries = [{**self.made[one].entry, "inbound_nodes": self.made[one].calls} for one in self.listed(outputs)]
        body = {
            "name": self._free(name) if name in self.made else name,
            "trainable": True,
            "layers": entries,
            "input_layers": [[x.layer, x.node, x.index] for x in self.inputs],
            "output_layers": [[x.layer, x.node, x.index] for x in outputs],
        }
        module = "keras.src.models.functional"
        return {"module": module, "class_name": "Functional", "config": body, "registered_name": "Functional"}


def _tensors(structure: Any) -> Iterable[Value]:
    if isinstance(structure, Value):
        yield structure
    elif isinstance(structure, (list, tuple)):
        for one in cast("Sequence[Any]", structure):
            yield from _tensors(one)


def by_features(array: NDArray[Any], flat: FlatOrder | None) -> NDArray[Any]:
    """Sort an array whose first axis counts a flattened map's features into the order of Keras' flatten."""
    if flat is None:
        return array
    rest = array.shape[1:]
    apart = array.reshape(*flat.sizes, *rest)
    places = [*flat.order, *range(len(flat.sizes), apart.ndim)]
    return apart.transpose(places).reshape(-1, *rest)
