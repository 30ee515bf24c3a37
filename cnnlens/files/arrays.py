"""One array of a file, described without being read.

Opening a model reads its index alone; an array's bytes are touched when somebody asks for them. Where a file keeps an
array in one piece, reading is a view on the memory map and copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.text import printable

__all__ = ["StoredArray", "check_shape", "decode"]


class StoredArray:
    """Names an array in a file, and reads it when it is asked for.

    Attributes:
        shape: The axes as the file stores them; ``()`` for a scalar.
        dtype: What ``read`` returns: the stored type in native byte order, float32 where bfloat16 is stored.
        stored_dtype: The type in the file by name, such as "float32", "bfloat16" or ">f4".
        place: Path inside the file, such as ``model.weights.h5: layers/conv2d/vars/0``.
        nbytes: Bytes of the array that ``read`` returns.
    """

    __slots__ = ("_load", "dtype", "place", "shape", "stored_dtype")

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        stored_dtype: str,
        place: str,
        load: Callable[[], NDArray[Any]],
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.stored_dtype = stored_dtype
        self.place = place
        self._load = load

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> NDArray[Any]:
        """Read the array, read-only, of ``shape`` and ``dtype``; a view on the file if its bytes lie in one piece.

        Raises:
            FileRefusedError: The bytes turn out to be damaged.
        """
        array = self._load()
        array.flags.writeable = False
        return array

    def __repr__(self) -> str:
        return f"StoredArray({self.place!r}, shape={self.shape}, stored_dtype={self.stored_dtype!r})"


def check_shape(path: Path, place: str, shape: Sequence[int], way_out: str) -> None:
    """Refuse a shape that no array has: a size of zero hides what the others take, and NumPy multiplies those too.

    Raises:
        FileRefusedError: the sizes that are not zero make more elements than there are addresses.
    """
    if math.prod(size or 1 for size in shape) >= 1 << 59:
        raise FileRefusedError(path, place, f"shape {printable(tuple(shape), 100)} is beyond any memory", way_out)


def decode(raw: NDArray[Any], stored_dtype: str) -> NDArray[Any]:
    """Turn ``raw`` as the file has it into what ``StoredArray.dtype`` promises (a view where nothing changes)."""
    if stored_dtype == "bfloat16":
        # bfloat16 is the upper half of a float32, so widening is exact.
        wide = raw.view(np.uint16).astype(np.uint32)
        wide <<= np.uint32(16)
        return wide.view(np.float32)
    if not raw.dtype.isnative:
        return raw.astype(raw.dtype.newbyteorder("="))
    return raw
