"""One array of a file, described without being read.

Opening a model reads its index alone; an array's bytes are touched when somebody asks for them. Where a file keeps an
array in one piece, reading is a view on the memory map and copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.text import printable

__all__ = ["WIDENED", "StoredArray", "check_shape", "decode", "widened_type"]

_EIGHT_BITS: Mapping[str, tuple[int, int]] = {
    "float8_e4m3fn": (3, 7), "float8_e4m3fnuz": (3, 8), "float8_e5m2": (2, 15), "float8_e5m2fnuz": (2, 16),
    "float8_e8m0fnu": (0, 127),
}  # fmt: skip
"""Bits of the fraction, and the bias of the exponent."""

WIDENED: Mapping[str, tuple[str, str]] = {
    "bfloat16": ("u2", "float32"),
    **dict.fromkeys(_EIGHT_BITS, ("u1", "float32")),
    "complex32": ("f2", "complex64"),
}
"""Types that NumPy lacks: the code that their bits are read as (complex32's two halves on an axis of their own), and
the type that they are shown in, which has every one of their numbers."""


class StoredArray:
    """Names an array in a file, and reads it when it is asked for.

    Attributes:
        shape: The axes as the file stores them; ``()`` for a scalar.
        dtype: What ``read`` returns: the stored type in native byte order; float32 where
            bfloat16, float8 or quantised numbers are stored, complex64 for complex32.
        stored_dtype: The type in the file by name, such as "float32", "bfloat16", ">f4" or "qint8 per channel".
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
    if stored_dtype in _EIGHT_BITS:
        return _numbers_of_eight_bits(stored_dtype)[raw.view(np.uint8)]
    if stored_dtype == "complex32":
        wide = np.empty(raw.shape[:-1], np.complex64)
        wide.real, wide.imag = raw[..., 0], raw[..., 1]
        return wide
    if not raw.dtype.isnative:
        return raw.astype(raw.dtype.newbyteorder("="))
    return raw


def widened_type(stored_dtype: str) -> np.dtype[Any]:
    """Give the type that arrays of a stored type are shown in, by its common name."""
    return np.dtype(WIDENED.get(stored_dtype, ("", stored_dtype))[1])


@cache
def _numbers_of_eight_bits(name: str) -> NDArray[np.float32]:
    """The number that each of the 256 codes of a type stands for (torch/headeronly/util/Float8_*.h, torch 2.13)."""
    fraction_bits, bias = _EIGHT_BITS[name]
    codes = np.arange(256)
    if not fraction_bits:
        numbers = np.ldexp(1.0, codes - bias)
        numbers[255] = np.nan
        return numbers.astype(np.float32)
    size = codes & 127
    exponent, fraction = size >> fraction_bits, size & ((1 << fraction_bits) - 1)
    whole = np.where(exponent > 0, (1 << fraction_bits) + fraction, fraction)
    numbers = np.copysign(np.ldexp(whole.astype(float), np.maximum(exponent, 1) - bias - fraction_bits), 127.5 - codes)
    if name.endswith("fnuz"):
        numbers[128] = np.nan
    elif name.endswith("fn"):
        numbers[size == 127] = np.nan
    else:
        top = size >= 31 << fraction_bits
        numbers[top] = np.where(fraction[top] > 0, np.nan, np.copysign(np.inf, 127.5 - codes[top]))
    return numbers.astype(np.float32)
