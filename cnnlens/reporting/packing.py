"""Arrays as one block of text that a page carries, from which it unpacks each when it is first looked at.

Each array is deflated by itself and begins at a multiple of three bytes, so that it has characters of its own in the
base64 of the whole: a page that shows one layer decodes that layer alone. The bytes of floats are stored plane by
plane, the first bytes of all numbers before their second ones, which deflates to about four fifths.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "Packed", "Packer", "levels", "packed"]

LEVELS = 253
"""The last colour in an array of levels, whose first is 0; 254 is a value that is NaN, 255 an infinite one."""

_NAN, _INFINITE = 254, 255
_KINDS = {"f4": "float32", "f8": "float64", "u1": "uint8", "i4": "int32"}


class Packed(NamedTuple):
    """Holds an array deflated: what a page must know of it, and the bytes, a multiple of three."""

    about: dict[str, Any]
    bytes: bytes

    @property
    def characters(self) -> int:
        """Count the characters that it is in base64."""
        return len(self.bytes) // 3 * 4


def packed(array: NDArray[Any]) -> Packed:
    """Deflate an array in C order, little-endian, in its own dtype: float32, float64, uint8 or int32."""
    kind = _KINDS[f"{array.dtype.kind}{array.dtype.itemsize}"]
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    planes = flat.reshape(-1).view(np.uint8).reshape(-1, flat.itemsize).T
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    found = deflate.compress(np.ascontiguousarray(planes).tobytes()) + deflate.flush()
    about = {"dtype": kind, "shape": list(array.shape), "bytes": len(found)}
    return Packed(about, found.ljust(-(-len(found) // 3) * 3, b"\0"))


class Packer:
    """Packs arrays one after the other.

    Attributes:
        table: By the name of each array what a page must know to unpack it: ``dtype``, ``shape``, and where it lies in
            the block (``at``, ``bytes``: before base64).

    >>> import numpy as np
    >>> packer = Packer()
    >>> packer.add("kernel", np.zeros((2, 3), np.float32))
    'kernel'
    >>> packer.table["kernel"]
    {'dtype': 'float32', 'shape': [2, 3], 'bytes': 5, 'at': 0}
    """

    def __init__(self) -> None:
        self.table: dict[str, dict[str, Any]] = {}
        self._parts: list[bytes] = []
        self._at = 0

    @property
    def size(self) -> int:
        """Count the characters that the block has by now."""
        return self._at // 3 * 4

    def add(self, name: str, array: NDArray[Any]) -> str:
        """Pack an array under a name that no other array of the page has; give back the name."""
        return self.put(name, packed(array))

    def put(self, name: str, one: Packed) -> str:
        """Take what is packed already."""
        self.table[name] = {**one.about, "at": self._at}
        self._parts.append(one.bytes)
        self._at += len(one.bytes)
        return name

    def block(self) -> str:
        """Give all that was added as base64."""
        return base64.b64encode(b"".join(self._parts)).decode("ascii")


def levels(values: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.uint8]:
    """Round values to the colours that a page has for them: 0 at ``low`` and below, ``LEVELS`` at ``high`` and above.

    Args:
        values: ``(K, ...)``.
        low, high: ``()``, or ``(K,)`` where each entry has its own.

    >>> import numpy as np
    >>> levels(np.array([[0.0, 1.0, 2.0, np.nan]]), np.array(0.0), np.array(1.0)).tolist()
    [[0, 253, 253, 254]]
    """
    ends = [np.asarray(end, np.float64).reshape(-1, *[1] * (values.ndim - 1)) for end in (low, high)]
    with np.errstate(invalid="ignore", over="ignore"):
        place = np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)
    found = np.rint(np.nan_to_num(place) * LEVELS).astype(np.uint8)
    found[np.isnan(values)] = _NAN
    found[np.isinf(values)] = _INFINITE
    return found
