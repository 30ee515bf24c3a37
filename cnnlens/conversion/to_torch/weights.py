"""The arrays of a converted model: each under its key, in PyTorch's layout, read when it is asked for.

Layouts come from :mod:`cnnlens.layout`; what the table does not know (a slope a position, an einsum's kernel) keeps the
axes that the generated code names. The type of the file is kept: bfloat16 stays two bytes when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.conversion.to_torch.value import FlatOrder
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import Layer
from cnnlens.network.weight import Weight

__all__ = ["Entry", "LayerWeights", "State", "feature_order", "filled"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Entry:
    """Describes one array of a state dict.

    Attributes:
        read: Gives it, in PyTorch's layout.
        dtype: Its type by name; for ``bfloat16``, ``read`` gives float32 numbers that bfloat16 holds exactly.
        source: The Keras layer and weight that it comes from; empty for what Keras does not store.
    """

    read: Callable[[], Array]
    dtype: str
    source: tuple[str, str] | None = None


class State(Mapping[str, Array]):
    """Holds a state dict whose arrays are made when they are asked for."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    def __getitem__(self, key: str) -> Array:
        return np.asarray(self.entries[key].read(), order="C")

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def feature_order(flat: FlatOrder) -> NDArray[np.int64]:
    """Give for each feature as it is held its number in Keras' order."""
    numbers = np.arange(int(np.prod(flat.sizes))).reshape(flat.sizes)
    return numbers.transpose(flat.order).reshape(-1)


def filled(value: float, shape: Sequence[int], dtype: str) -> Entry:
    """Make an array that Keras does not store, because it is all ones or zeros."""
    numeric = "float32" if dtype == "bfloat16" else dtype
    return Entry(lambda: np.full(tuple(shape), value, numeric), dtype)


class LayerWeights:
    """Holds the arrays of one layer by Keras' names, as its arithmetic wants them."""

    def __init__(self, layer: Layer, prefix: str = "") -> None:
        self.layer = layer
        self.prefix = prefix
        self._unpacked: dict[str, Array] | None = None

    def inside(self, prefix: str) -> LayerWeights:
        """Give the arrays of a layer that it wraps, such as ``forward_layer``."""
        return LayerWeights(self.layer, f"{self.prefix}{prefix}/")

    def __contains__(self, role: str) -> bool:
        return self.prefix + role in self._shapes

    @property
    def _shapes(self) -> Mapping[str, tuple[int, ...]]:
        if self.layer.unpack is None:
            return {name: weight.stored.shape for name, weight in self.layer.stored.items()}
        return {name: array.shape for name, array in self._computing().items()}

    def _computing(self) -> dict[str, Array]:
        if self._unpacked is None:
            self._unpacked = self.layer.computing_weights()
        return self._unpacked

    @property
    def roles(self) -> tuple[str, ...]:
        """Name its own arrays."""
        return tuple(name.removeprefix(self.prefix) for name in self._shapes if name.startswith(self.prefix))

    def first(self, *roles: str) -> str:
        """Find the first of ``roles`` that the layer has.

        Raises:
            UnsupportedLayerError: it has none.
        """
        for role in roles:
            if role in self:
                return role
        raise UnsupportedLayerError(f"the file has no {roles[0]} for it")

    def shape(self, role: str) -> tuple[int, ...]:
        """Give its shape as Keras has it."""
        return self._shapes[self.prefix + self.first(role)]

    def dtype(self, role: str) -> str:
        """Give its type by name: what the file says, ``bfloat16`` included."""
        name = self.prefix + self.first(role)
        if self.layer.unpack is not None:
            return str(self._computing()[name].dtype)
        stored = self.layer.stored[name].stored
        return "bfloat16" if stored.stored_dtype == "bfloat16" else str(stored.dtype)

    def read(self, role: str) -> Array:
        """Read the array as Keras has it."""
        name = self.prefix + role
        return self.layer.weights[name] if self.layer.unpack is None else self._computing()[name]

    def entry(self, role: str, change: Callable[[Array], Array]) -> Entry:
        """Make an entry of the array, changed by ``change``."""
        source = (self.layer.name, self.prefix + self.first(role))
        return Entry(lambda: change(self.read(role)), self.dtype(role), source)

    def kept(self, role: str) -> Entry:
        """Make an entry of the array as Keras has it."""
        return self.entry(role, lambda array: array)

    def arranged(self, role: str, kind: str, flat: FlatOrder | None = None) -> Entry:
        """Make an entry in PyTorch's layout; ``flat`` is how the features that it goes with are held.

        Raises:
            UnsupportedLayerError: PyTorch has no such weight, or the shape is none that the kind has.
        """
        if flat is not None and not flat.standard:
            order = feature_order(flat)
            return self.entry(role, lambda array: self._arrange(role, kind, array[order], None))
        sizes = None if flat is None else flat.sizes
        shape = self.shape(role)
        geometry = self._geometry(role, kind, sizes, shape)
        weight = self._name(role, kind)
        try:
            canonical = layout.canonical_shape(kind, weight, shape, geometry)
            layout.arranged_shape(kind, weight, canonical, "torch", geometry)
        except CnnlensError as error:
            raise UnsupportedLayerError(str(error)) from None
        return self.entry(role, lambda array: self._arrange(role, kind, array, sizes))

    def _arrange(self, role: str, kind: str, array: Array, sizes: tuple[int, ...] | None) -> Array:
        geometry, weight = self._geometry(role, kind, sizes, array.shape), self._name(role, kind)
        return layout.arrange(kind, weight, layout.canonicalise(kind, weight, array, geometry), "torch", geometry)

    def _geometry(self, role: str, kind: str, sizes: tuple[int, ...] | None, shape: Sequence[int]) -> layout.Geometry:
        stored: Weight | None = self.layer.stored.get(self.prefix + role)
        geometry = layout.Geometry() if stored is None else stored.geometry
        try:
            return layout.completed(kind, self._name(role, kind), shape, replace(geometry, flatten=sizes))
        except CnnlensError as error:
            raise UnsupportedLayerError(str(error)) from None

    @staticmethod
    def _name(role: str, kind: str) -> str:
        return "kernel" if kind.startswith("DepthwiseConv") and role == "depthwise_kernel" else role
