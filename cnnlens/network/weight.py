"""One array of a layer: where it is stored, whose layout it is in, and its canonical form.

A model's file holds arrays in the order of axes that its framework likes. A ``Weight`` knows that order, and the
geometry that gives it meaning, and reads the array when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.errors import CnnlensError
from cnnlens.network.kernel import Kernel, Statistics, statistics
from cnnlens.text import nearest, printable

__all__ = ["Stored", "Weight", "real", "to_bfloat16", "weight_named"]

_KERNEL_ROLES = frozenset({"kernel", "depthwise_kernel", "pointwise_kernel"})
_KERAS_GATES = {"update": "z", "new": "h"}  # letters that Keras' documentation has for them

# Of thousands of arrays in a file few differ in what their axes depend on.
_canonical_shape = lru_cache(1024)(layout.canonical_shape)
_canonical_axes = lru_cache(1024)(layout.canonical_axes)
_stored_axes = lru_cache(1024)(layout.stored_axes)


def real(array: NDArray[Any]) -> NDArray[Any]:
    """Give an array as it is drawn and measured: complex numbers as their magnitudes."""
    return np.abs(array) if np.iscomplexobj(array) else array


def to_bfloat16(x: NDArray[Any]) -> NDArray[Any]:
    """Round float32 numbers to the nearest that bfloat16 has, ties to even, and keep them in the dtype of ``x``.

    >>> to_bfloat16(np.float32([1.0, 1.00390625, 3.14159]))
    array([1.      , 1.      , 3.140625], dtype=float32)
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    kept = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, kept.view(np.float32)).astype(x.dtype)


def weight_named(stored: Mapping[str, Weight], name: str, owner: str) -> tuple[Weight, str]:
    """Find the array that a person calls ``name``, and the gate in it: ``recurrent_kernel:forget``, else empty.

    Args:
        stored: A layer's arrays by name; ``owner``: the layer, as messages say it.
        name: The whole name, its end after a ``/`` (``kernel`` in a wrapper) or its role, with ``:GATE`` or without.

    Raises:
        CnnlensError: there is none, or several that the name could mean.
    """
    whole, colon, gate = (name, "", "") if name in stored else name.partition(":")
    found = [stored[whole]] if whole in stored else []
    found = found or [weight for known, weight in stored.items() if known.endswith(f"/{whole}")]
    found = found or [weight for weight in stored.values() if weight.role == whole]
    if len(found) == 1 and not (colon and not gate):
        return found[0], gate
    if len(found) > 1:
        several = ", ".join(f"'{printable(weight.name)}'" for weight in found[:6])
        raise CnnlensError(f"{owner} has several weights that '{printable(whole)}' may mean; name one of {several}")
    raise CnnlensError(f"{owner} has no weight '{printable(name)}'; {nearest(whole, stored)}")


class Stored(Protocol):
    """Names an array in a file that is not read yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def stored_dtype(self) -> str: ...
    @property
    def place(self) -> str: ...
    def read(self) -> NDArray[Any]: ...


@dataclass(frozen=True, repr=False)
class Weight:
    """Holds one array of a layer, and knows its axes.

    Attributes:
        name: Its name in the layer, such as ``kernel``, or ``forward_layer/kernel`` inside a wrapper.
        kind: The kind of layer that defines its layout: for a ``TimeDistributed(Conv2D)`` that is ``Conv2D``.
        role: Its name in that kind, such as ``kernel``.
        stored: The array in the file.
        geometry: The geometry that its layout depends on (groups, the feature map in front of a Flatten, …).
        framework: Whose layout ``stored`` is in, such as ``keras``.
        config: The config of the layer that defines it.
        owner: Where in the layer it lives: the attributes (or, in a wrapped model, layer names) from the layer to the
            one that holds it, such as ``("layer",)`` in a ``TimeDistributed``; empty for the layer's own.
    """

    name: str
    kind: str
    role: str
    stored: Stored
    geometry: layout.Geometry
    framework: str = "keras"
    config: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    owner: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = f"{self.stored_axes} {self.stored.shape}".strip()
        return f"<Weight {printable(self.name)}: {shown} {printable(self.stored.stored_dtype)}>"

    def read(self) -> NDArray[Any]:
        """Read the array as the file stores it, in its own dtype (read-only)."""
        return self.stored.read()

    @property
    def is_complex(self) -> bool:
        """Tell whether its numbers are complex."""
        return np.issubdtype(self.stored.dtype, np.complexfloating)

    def canonical(self) -> NDArray[Any]:
        """Read the array in canonical axes: a kernel as ``(out, in / groups, *spatial)``."""
        return layout.canonicalise(self.kind, self.role, self.read(), self.geometry, self.framework)

    @cached_property
    def canonical_shape(self) -> tuple[int, ...]:
        """Give its shape in canonical axes, from the stored shape alone."""
        return _canonical_shape(self.kind, self.role, self.stored.shape, self.geometry, self.framework)

    @property
    def stored_axes(self) -> str:
        """Give the letters of the stored axes, such as ``HWIO``."""
        return _stored_axes(self.kind, self.role, self.framework, self.geometry, len(self.stored.shape))

    @property
    def canonical_axes(self) -> str:
        """Give the letters of the canonical axes, such as ``OIHW``."""
        return _canonical_axes(self.kind, self.role, self.geometry, len(self.canonical_shape))

    @cached_property
    def is_kernel(self) -> bool:
        """Tell whether it is what a convolution or a dense layer multiplies with."""
        return (
            self.role.rpartition("/")[2] in _KERNEL_ROLES
            and self.kind in layout.KINDS
            and len(self.stored.shape) > 1
            and self.stored.dtype.kind in "fc"
        )

    @property
    def gates(self) -> list[str]:
        """Name the gates that its canonical axis ``(QU)`` holds one after the other; none where it has no such axis."""
        return layout.gates_of(self.kind, self.role, self.geometry) if "(QU)" in self.canonical_axes else []

    def gate(self, name: str) -> NDArray[Any]:
        """Read one gate's part of the canonical array, by its name or its first letter.

        Raises:
            CnnlensError: it has no gates, or none of that name.
        """
        gates = self.gates
        found = [place for place, gate in enumerate(gates) if name in (gate, gate[0], _KERAS_GATES.get(gate))]
        if not found:
            known = f"its gates are {', '.join(gates)}" if gates else "it has no gates"
            raise CnnlensError(f"weight '{printable(self.name)}' has no gate '{printable(name)}'; {known}")
        axis = layout.split_axes(self.canonical_axes).index("(QU)")
        return np.split(self.canonical(), len(gates), axis)[found[0]]

    def kernel(self) -> Kernel:
        """Read the array as a ``Kernel``, of complex numbers that of their magnitudes."""
        return Kernel.from_stored(self.kind, real(self.read()), self.role, self.geometry, self.framework)

    def layouts(self) -> dict[str, tuple[int, ...] | None]:
        """Give the array's shape in each framework's own layout; None where a framework has no such array."""
        shapes = layout.arranged_shapes(self.kind, self.role, self.canonical_shape, self.geometry)
        return {**shapes, self.framework: self.stored.shape}

    def stats(self) -> Statistics:
        """Compute its statistics; of complex numbers, those of their magnitudes."""
        return statistics(real(self.read()))
