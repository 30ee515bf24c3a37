"""Masks: which steps of a sequence count, as Keras hands it from layer to layer beside the numbers.

A mask follows from tensors of the network alone (identifiers that are not 0, steps that are not the value of a
``Masking``), so it is kept as the rule that makes it from them, and whoever has the tensors has the mask: the executor
its own, an audit those that were recorded. Source: ``compute_mask`` of the layers of Keras 3.15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mask", "unequal"]

Array = NDArray[Any]


def unequal(x: Array, value: float) -> Array:
    """Compare as Keras does, in float32: what a file says in decimal digits is equal to the number it became."""
    return np.not_equal(x.astype(np.float32, copy=False), np.float32(value))


@dataclass(frozen=True)
class Mask:
    """Says how a mask ``(N, T)``, True where a step counts, is made.

    Attributes:
        rule: ``nonzero`` of a tensor; ``steps`` of one ``(N, T, C)`` that have a feature other than ``value``; ``any``
            of several masks; ``joined``: of masks (None for all steps) and the tensors that they belong to, two by
            two, which are put behind each other on axis ``value``.
        parts: Tensors and masks that it is made of.

    >>> import numpy as np
    >>> Mask("nonzero", (np.array([[3, 1, 0]]),)).array().tolist()
    [[True, True, False]]
    """

    rule: str
    parts: tuple[Any, ...]
    value: float = 0.0

    @property
    def size(self) -> int:
        """Count the rules that it is made by."""
        return 1 + sum(part.size for part in self.parts if isinstance(part, Mask))

    def tensors(self) -> Iterator[Any]:
        """Find the tensors that it is made of, in order."""
        for part in self.parts:
            if isinstance(part, Mask):
                yield from part.tensors()
            elif part is not None:
                yield part

    def of(self, change: Callable[[Any], Any]) -> Any:
        """Put ``change(tensor)`` in place of every tensor; where all are arrays, that is the mask itself."""
        parts = [part.of(change) if isinstance(part, Mask) else part if part is None else change(part)
                 for part in self.parts]  # fmt: skip
        made = Mask(self.rule, tuple(parts), self.value)
        return made.array() if all(part is None or isinstance(part, np.ndarray) for part in parts) else made

    def array(self) -> Array:
        """Compute it from the arrays in it: of booleans."""
        parts = cast("Sequence[Any]", self.parts)
        if self.rule == "nonzero":
            return np.asarray(parts[0] != 0)
        if self.rule == "steps":
            return np.any(unequal(parts[0], self.value), axis=-1)
        if self.rule == "any":
            return np.logical_or.reduce(np.broadcast_arrays(*parts))
        spread: list[Array] = []
        mask: Array | None
        for mask, x in zip(parts[::2], parts[1::2], strict=True):
            if mask is None:
                spread.append(np.ones(np.shape(x), np.bool_))
            else:
                wide: Any = np.broadcast_to(mask[..., None], x.shape) if mask.ndim < x.ndim else mask
                spread.append(cast("Array", wide))
        return np.any(np.concatenate(spread, axis=int(self.value)), axis=-1)
