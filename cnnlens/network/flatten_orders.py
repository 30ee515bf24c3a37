"""The order of the features of flattened maps, followed from call to call.

A map ``(N, C, H, W)`` made ``(N, F)`` has its features in an order that a Dense behind it depends on, and the order
lives on through whatever keeps each feature in its place. Where features are moved, or maps of different orders are
joined, it is lost, and who sees such features must say so.
"""

from __future__ import annotations

from collections.abc import Iterable

from cnnlens.kinds import Features, Kind
from cnnlens.network.graph import Layer, Ref, Shape
from cnnlens.network.weight import Weight

__all__ = ["DIFFERENT_ORDERS", "FlattenOrders", "lost_order", "reads_features"]

#: Why a layer that is called several times has no single order.
DIFFERENT_ORDERS = "it is called with maps that were flattened in different orders"


Sizes = tuple[int, ...]


class FlattenOrders:
    """Knows for each flat tensor ``(N, F)`` the sizes ``(*spatial, C)`` of the map that it was, or why nobody does."""

    def __init__(self) -> None:
        self._known: dict[Ref, Sizes] = {}
        self._lost: dict[Ref, str] = {}
        self._spread: set[Ref] = set()

    def of(self, ref: Ref) -> Sizes | None:
        """Give the sizes of the map that ``ref`` was; None where it was none, or where its order is lost."""
        return self._known.get(ref)

    def lost(self, refs: Iterable[Ref]) -> str | None:
        """Say why the order of one of ``refs`` is lost."""
        return next((self._lost[ref] for ref in refs if ref in self._lost), None)

    def flatten(self, made: Ref, sizes: Sizes) -> None:
        """Note that ``made`` is a flattened map."""
        self._known[made] = sizes

    def lose(self, made: Ref, reason: str) -> None:
        """Note that ``made`` is a flattened map whose order nobody knows."""
        self._lost[made] = reason

    def hand_on(self, ref: Ref, made: Ref) -> None:
        """Note that ``made`` is ``ref`` under another name."""
        if ref in self._known:
            self._known[made] = self._known[ref]
        if ref in self._lost:
            self._lost[made] = self._lost[ref]

    def follow(
        self, layer: Layer, kind: Kind, operands: Iterable[tuple[Ref, Shape | None]], made: Ref, after: Shape
    ) -> bool:
        """Note what a call makes of its operands' orders; tell whether it hands them on, lost ones too.

        Args:
            layer: The layer, for the sentence; ``kind``: what it does.
            operands: The tensors that it takes, with their shapes; ``made``: what comes out, of the shape ``after``.
        """
        # A tensor that is brought into the shape of another has values of the first alone.
        operands = list(operands)[: 1 if kind.features is Features.RESHAPED else None]
        # One value for all features of an example has no order, wherever it is spread to.
        refs = [ref for ref, shape in operands if (shape or (1,))[-1] != 1 and ref not in self._spread]
        alike = bool(operands) and (operands[0][1] or ())[1:] == after[1:]
        if not refs:
            if kind.keeps_features or kind.features is Features.RESHAPED:
                self._spread.add(made)
            return True
        orders = {self._known.get(ref) for ref in refs}
        lost = self.lost(refs)
        keeps = alike and (layer.container or kind.keeps_features or kind.features is Features.RESHAPED)
        moves = not keeps and kind.moves_features
        if moves and orders - {None}:
            does = "reshapes" if kind.features is Features.RESHAPED else "moves"
            lost = f"{layer.shown} {does} the features of a flattened map"
        elif keeps and len(orders) > 1:
            others = "others of no known order" if None in orders else "those of a map of another shape"
            lost = f"{layer.shown} joins the features of a flattened map and {others}"
        if lost is not None and (keeps or moves):
            self._lost[made] = lost
        elif keeps and None not in orders:
            self._known[made] = next(order for order in orders if order is not None)
        return keeps or moves


def reads_features(weight: Weight) -> bool:
    """Tell whether the weight is a matrix with an entry for each feature that comes in."""
    return weight.is_kernel and len(weight.stored.shape) == 2


def lost_order(layer: Layer, reason: str) -> str:
    """Write the note on a layer whose kernel sees features in an order that nobody can follow."""
    return (
        f"{layer.shown}: the order of its inputs cannot be followed, for {reason}; its kernel is turned as if no map "
        "had been flattened"
    )
