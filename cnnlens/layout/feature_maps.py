"""Feature maps between a framework's axes and the canonical ``(N, C, *spatial)``.

One place that knows where the channels are, so that every picture, statistic and comparison gets them in front. All
functions return views.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.layout.patterns import SPATIAL

__all__ = ["feature_map_axes", "from_canonical_maps", "to_canonical_maps"]

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
