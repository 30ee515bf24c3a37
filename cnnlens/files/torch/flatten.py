"""Which feature map a Linear, or a vector in front of it, saw flattened: followed through the graph.

``(N, C, H, W)`` made ``(N, C * H * W)`` stays in that order through activations, normalisation and arithmetic. A
framework that flattens channels last needs to know ``(H, W, C)`` to read such a weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from cnnlens.kinds import keeps_features
from cnnlens.network.graph import Call, Ref, Shape

__all__ = ["FlattenOrder"]

_FLATTENS = frozenset(("flatten", "view", "reshape", "_unsafe_view"))


class FlattenOrder:
    """Knows for each flat tensor ``(N, F)`` the ``(*spatial, C)`` of the map that it was."""

    def __init__(self) -> None:
        self._known: dict[Ref, tuple[int, ...]] = {}

    def of(self, ref: Ref) -> tuple[int, ...] | None:
        return self._known.get(ref)

    def hand_on(self, ref: Ref, as_ref: Ref) -> None:
        """Note that a container's output ``as_ref`` is ``ref`` under another name."""
        if ref in self._known:
            self._known[as_ref] = self._known[ref]

    def follow(self, op: str, call: Call, tensors: Sequence[Shape | None]) -> None:
        """Note what ``call`` makes of the order, ``tensors`` being the shapes that it takes."""
        after = call.shapes[0] if call.shapes else None
        before = tensors[0] if tensors else None
        if after is None or before is None or len(after) != 2:
            return
        if op in _FLATTENS and len(before) > 2:
            sizes = before[1:]
            if all(size is not None for size in sizes):
                known = cast("tuple[int, ...]", sizes)
                if math.prod(known) == after[1]:
                    self._known[Ref(call.name)] = (*known[1:], known[0])
        elif keeps_features(op):
            orders = {self._known[ref] for ref in call.refs if ref in self._known}
            if len(orders) == 1 and before[1:] == after[1:]:
                self._known[Ref(call.name)] = orders.pop()
