"""Finds the layer that a person named on the command line, or the first that will do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.graph import Layer
    from cnnlens.network.network import Network

__all__ = ["by_kind", "layer_named", "layer_with_kernel", "layers_listed"]

_FEW = 6


def layer_named(network: Network, wanted: str) -> Layer:
    """Find a layer by its name, or by its index where no layer has that name."""
    if wanted not in network.by_name and wanted.lstrip("-").isdigit() and len(wanted) < 10:
        return network[int(wanted)]
    return network[wanted]


def layer_with_kernel(network: Network, wanted: str | None, weight: str | None = None) -> Layer:
    """Find the layer that is to be drawn: the one named, or the first that has what is drawn, convolutions first.

    Args:
        weight: The array that is to be drawn of it; None for a kernel.

    Raises:
        CnnlensError: there is none, or the one named has no kernel and no ``weight`` is named; says what kinds have.
    """
    from cnnlens.network.graph import convolutions

    having = [one for one in network.layers if any(each.is_kernel for each in one.stored.values())]
    if wanted is not None:
        layer = layer_named(network, wanted)
        if weight is None and layer not in having:
            others = f"those that have one are {by_kind(having)}" if having else "no layer of this model has one"
            raise CnnlensError(f"{printable(network.source.path, 300)}: {layer.shown} has no kernel; {others}")
        return layer
    found = [*convolutions(network), *network.layers] if weight is not None else convolutions(network) or having
    if weight is not None:
        found = [one for one in found if _has(one, weight)] or having
    if not found:
        raise CnnlensError(f"{printable(network.source.path, 300)}: no layer has a kernel; name a layer and a weight")
    return found[0]


def layers_listed(names: Sequence[str] | None, known: Container[str]) -> list[str | int] | None:
    """Read what ``--layers`` gave: names or indices, several separated by commas; None where nothing was given."""
    if names is None:
        return None
    wanted: list[str | int] = []
    for one in names:
        parts = [one] if one in known else one.split(",")  # a name may hold a comma
        for part in filter(None, (part.strip() for part in parts)):
            number = part not in known and part.lstrip("-").isdigit() and len(part) < 10
            wanted.append(int(part) if number else part)
    return wanted


def by_kind(layers: Sequence[Layer]) -> str:
    """Write which layers there are: their names where they are few, and else how many of each kind."""
    if len(layers) <= _FEW:
        return ", ".join(f"'{printable(one.name)}'" for one in layers)
    kinds = Counter(one.kind for one in layers).most_common()
    shown = ", ".join(f"{count} {printable(kind)}" for kind, count in kinds[:_FEW])
    more = f" and {len(kinds) - _FEW} more kinds" if len(kinds) > _FEW else ""
    return f"{shown}{more}, from '{printable(layers[0].name)}' to '{printable(layers[-1].name)}'"


def _has(layer: Layer, weight: str) -> bool:
    from cnnlens.network.weight import weight_named

    try:
        weight_named(layer.stored, weight, layer.name)
    except CnnlensError:
        return False
    return True
