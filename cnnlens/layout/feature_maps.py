"""Feature maps between a framework's axes and the canonical ``(N, C, *spatial)``.

One place that knows where the channels are, so that every picture, statistic and comparison gets them in front. Arrays
come back as views.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.layout.patterns import SPATIAL

__all__ = [
    "MAPS", "MAP_TRAPS", "channels_first", "feature_map_axes", "from_canonical_maps", "maps_of", "other_maps",
    "to_canonical_maps",
]  # fmt: skip

MAPS = ("NHWC", "NCHW", "NWC", "NCW", "NDHWC", "NCDHW", "HWC", "CHW", "WC", "CW", "DHWC", "CDHW")
"""The layouts of feature maps, with their batch and of one picture."""

MAP_TRAPS = (
    "reshape gives the same shape as transpose and moves no number: the first channel then holds the top of the "
    "picture with all its channels interleaved. With one channel both give the same, so that a test on grey pictures "
    "sees nothing.",
    "torch.channels_last is no other layout of the axes: the shape stays (N, C, H, W) and the memory is that of NHWC, "
    "which is what a transpose of NHWC without a copy has too.",
    "A Flatten keeps the order of the axes: behind NHWC it is (H, W, C), behind NCHW (C, H, W), and the next Dense was "
    "trained on one of them (layouts Dense --flatten H,W,C).",
    "An axis that is given by its number moves with the layout: the channels of a batch norm, a concatenation or a "
    "softmax are axis -1 in NHWC and axis 1 in NCHW.",
    "The layout of the maps is not that of the kernels: Keras stores HWIO under channels_first too.",
    "RGB or BGR is the order inside C: OpenCV reads BGR, in (H, W, C).",
)
"""What goes wrong with feature maps although their axes were named rightly."""

_CHANNELS_FIRST = {"channels_first": True, "channels_last": False}


def _channels_first(data_format: str) -> bool:
    if data_format not in _CHANNELS_FIRST:
        raise CnnlensError(f"data_format is {data_format!r}; channels_last or channels_first was expected")
    return _CHANNELS_FIRST[data_format]


def to_canonical_maps(maps: NDArray[Any], data_format: str = "channels_last") -> NDArray[Any]:
    """Turn ``(N, *spatial, C)``, or ``(N, C, *spatial)`` as it is, into ``(N, C, *spatial)``; any dtype, a view.

    Arrays of two axes ``(N, C)`` and fewer have no spatial axes and stay as they are.

    Raises:
        CnnlensError: ``data_format`` is neither ``channels_last`` nor ``channels_first``.

    >>> import cnnlens
    >>> import numpy as np
    >>> maps = np.zeros((10, 28, 24, 3))  # Keras: (N, H, W, C)
    >>> cnnlens.layout.to_canonical_maps(maps).shape
    (10, 3, 28, 24)
    >>> cnnlens.layout.to_canonical_maps(maps, "NHWC")
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: data_format is 'NHWC'; channels_last or channels_first was expected
    """
    if _channels_first(data_format) or maps.ndim < 3:
        return maps
    return maps.transpose(0, maps.ndim - 1, *range(1, maps.ndim - 1))


def from_canonical_maps(maps: NDArray[Any], data_format: str = "channels_last") -> NDArray[Any]:
    """Turn ``(N, C, *spatial)`` into the order that ``data_format`` says: :func:`to_canonical_maps` undone; a view.

    >>> import cnnlens
    >>> import numpy as np
    >>> maps = np.zeros((10, 3, 28, 24))  # canonical (N, C, H, W)
    >>> cnnlens.layout.from_canonical_maps(maps).shape
    (10, 28, 24, 3)
    """
    if _channels_first(data_format) or maps.ndim < 3:
        return maps
    return maps.transpose(0, *range(2, maps.ndim), 1)


def channels_first(layout: str) -> bool:
    """Tell whether a layout of :data:`MAPS` has its channels in front of the spatial axes."""
    return layout[-1] != "C"


def other_maps(layout: str) -> str:
    """Give the layout of :data:`MAPS` with the same axes and the channels at the other end.

    >>> other_maps("NHWC"), other_maps("CW")
    ('NCHW', 'WC')
    """
    batch, rest = layout.partition("N")[1], layout.removeprefix("N")
    return batch + (rest[1:] + "C" if channels_first(layout) else "C" + rest[:-1])


def maps_of(framework: str, layout: str) -> str:
    """Give the layout with the axes of ``layout`` in which the layers of a framework take and give feature maps.

    Keras, Flax and TFLite have the channels last, Keras by default; PyTorch and ONNX have them first.
    """
    return layout if channels_first(layout) == (framework in ("torch", "onnx")) else other_maps(layout)


def feature_map_axes(rank: int, data_format: str = "channels_first") -> str:
    """Give the letters of a feature map with ``rank`` axes: ``NCHW`` or ``NHWC`` for four; by position from six on.

    >>> import cnnlens
    >>> cnnlens.layout.feature_map_axes(4, "channels_last")
    'NHWC'
    """
    spatial = SPATIAL.get(rank - 2)
    if spatial is None:
        return "N"[:rank] if rank < 2 else "N" + "".join(chr(ord("a") + axis) for axis in range(rank - 1))
    return f"NC{spatial}" if _channels_first(data_format) else f"N{spatial}C"
