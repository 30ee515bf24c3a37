"""Pictures of what a network learned: a layer, a network or arrays in canonical axes in, a matplotlib Figure out.

Each grid is one image in which every cell of a kernel or feature map is a whole number of pixels, coloured here and
not by matplotlib, because NaN, infinities and the gaps between tiles each need a colour of their own. Nothing is shown
on a screen and nothing is kept: the figure is the caller's, and `save` writes it.

>>> import cnnlens.sample
>>> net = cnnlens.open(cnnlens.sample.MODEL)
>>> figure = cnnlens.plot.kernels(net["conv2d"])
>>> cnnlens.plot.save(figure, "kernels.png").name
'kernels.png'
"""

from __future__ import annotations

from cnnlens.plot.distribution import Density
from cnnlens.plot.exciting import exciting
from cnnlens.plot.front import feature_maps, histogram, image, kernel_and_map, kernels
from cnnlens.plot.panels import Panel, panels
from cnnlens.plot.saving import check_target, is_marked, save
from cnnlens.plot.thumbnail import thumbnail
from cnnlens.plot.tiles import Mosaic, mosaic

__all__ = [
    "Density", "Mosaic", "Panel", "check_target", "exciting", "feature_maps", "histogram", "image", "is_marked",
    "kernel_and_map", "kernels", "mosaic", "panels", "save", "thumbnail",
]  # fmt: skip
