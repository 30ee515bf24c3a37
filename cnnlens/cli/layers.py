"""Finds the layer that a person named on the command line, or the first that will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.graph import Layer
    from cnnlens.network.network import Network

__all__ = ["layer_named", "layer_with_kernel"]


def layer_named(network: Network, wanted: str) -> Layer:
    """Find a layer by its name, or by its index where no layer has that name."""
    if wanted not in network.by_name and wanted.lstrip("-").isdigit() and len(wanted) < 10:
        return network[int(wanted)]
    return network[wanted]


def layer_with_kernel(network: Network, wanted: str | None, needs_kernel: bool = True) -> Layer:
    """Find the layer that is to be drawn: the one named, or the first convolution, or the first layer with a kernel.

    Raises:
        CnnlensError: there is none, or the one named has no kernel and ``needs_kernel``; names those that have.
    """
    from cnnlens.network.graph import convolutions

    if wanted is not None:
        layer = layer_named(network, wanted)
        if needs_kernel and layer.kernel is None:
            having = [f"'{printable(one.name)}'" for one in network.layers if one.kernel is not None][:6]
            others = "these have: " + ", ".join(having) if having else "no layer of this model has one"
            raise CnnlensError(f"{printable(network.source.path, 300)}: {layer.shown} has no kernel; {others}")
        return layer
    found = convolutions(network) or [one for one in network.layers if one.kernel is not None]
    if not found:
        raise CnnlensError(f"{printable(network.source.path, 300)}: no layer has a kernel; name a layer and a weight")
    return found[0]
