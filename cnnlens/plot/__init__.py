"""Pictures of what a network learned: arrays in canonical axes in, a matplotlib Figure out.

Each grid is one image in which every cell of a kernel or feature map is a whole number of pixels, coloured here and
not by matplotlib, because NaN, infinities and the gaps between tiles each need a colour of their own. Nothing is shown
on a screen and nothing is kept: the figure is the caller's, and `save` writes it.

>>> import cnnlens.sample
>>> net = cnnlens.open(cnnlens.sample.MODEL)
>>> figure = cnnlens.plot.kernels(net["conv2d"].kernel.array)
>>> cnnlens.plot.save(figure, "kernels.png").name
'kernels.png'
"""

from __future__ import annotations

from cnnlens.plot.activations import feature_maps
from cnnlens.plot.beside import kernel_and_map
from cnnlens.plot.distribution import Density, histogram
from cnnlens.plot.exciting import exciting
from cnnlens.plot.panels import Panel, panels
from cnnlens.plot.saving import check_target, save
from cnnlens.plot.tiles import Mosaic, mosaic
from cnnlens.plot.weights import kernels

__all__ = [
    "Density", "Mosaic", "Panel", "check_target", "exciting", "feature_maps", "histogram", "kernel_and_map", "kernels",
    "mosaic", "panels", "save",
]  # fmt: skip
