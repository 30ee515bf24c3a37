"""Feature maps to raw files, as fast as the disk's cache takes them.

This half of recording runs inside the worker too, under an interpreter that may have NumPy and one framework alone, so
it imports nothing else. A file is turned to C order, checksummed and written block by block, because whole-array passes
cost twice as much.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.graph import Graph

__all__ = ["DTYPES", "as_float64", "as_stored", "in_parallel", "rows_first", "write_chunk", "zeros_crc32"]

T = TypeVar("T")
R = TypeVar("R")

# What a chunk can hold: Zarr's core data types by NumPy's name. https://zarr-specs.readthedocs.io/en/latest/v3/data-types/
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)

_BLOCK = 1 << 19  # bytes; the second and third pass over a block find it in the cache
_ZEROS = bytes(1 << 16)
# One file a core would take the cores from the framework; one file alone keeps up with a slow disk only.
_FILES_AT_ONCE = max(1, min(4, (os.cpu_count() or 1) // 4))


def write_chunk(path: Path, parts: Sequence[NDArray[Any]], rows: int) -> int:
    """Write arrays, one below the other, as one whole uncompressed Zarr chunk: C order, little-endian.

    Args:
        path: The file; what was there is lost.
        parts: Arrays ``(n, ...)`` that differ in ``n`` alone; contiguous or not.
        rows: How many rows the chunk has; those behind ``parts`` are zeros.

    Returns:
        The CRC-32 of the file.

    Raises:
        OSError: the disk is full and the like; the file is removed.
    """
    crc = 0
    row_bytes = math.prod(parts[0].shape[1:]) * parts[0].dtype.itemsize
    missing = rows - sum(len(part) for part in parts)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            for part in parts:
                for block in _blocks(part):
                    crc = zlib.crc32(block, crc)
                    _write_all(handle, block)
            if missing:
                os.ftruncate(handle, rows * row_bytes)
        finally:
            os.close(handle)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = str(path)
        path.unlink(missing_ok=True)
        raise
    return zeros_crc32(missing * row_bytes, crc)


def as_stored(array: NDArray[Any], wanted: str | None, name: str) -> NDArray[Any]:
    """Convert a feature map to the dtype that a chunk of it has: None keeps its own, float16 is for floats alone.

    Raises:
        CnnlensError: float16 cannot hold one of its numbers.
        TypeError, ValueError: they are no numbers.
    """
    known = np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    # bfloat16 and the like are no type of NumPy's own, but say how they become float32.
    native = array.dtype.newbyteorder("<") if known else np.dtype("<f4")
    dtype = np.dtype(wanted or native)
    if dtype != np.float16 or native == dtype:
        return array.astype(dtype, copy=False)
    if native.kind != "f":
        return array.astype(native, copy=False)
    with np.errstate(over="ignore"):
        small = array.astype(dtype)
    over = np.isinf(small) & np.isfinite(array)
    if over.any():
        raise CnnlensError(
            f"'{printable(name)}' holds {array[over].flat[0]:g}, and float16 ends at 65,504; store it as it comes"
        )
    return small


def as_float64(*arrays: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Give copies of arrays in float64; where one is complex, real and imaginary parts on an axis more, behind."""
    if any(map(np.iscomplexobj, arrays)):
        return [np.array(one, np.complex128, order="C")[..., None].view(np.float64) for one in arrays]
    return [one.astype(np.float64) for one in arrays]


def rows_first(network: Graph, maps: Mapping[str, NDArray[Any]], count: int) -> dict[str, NDArray[Any]]:
    """Give each tensor with its rows, one for each of ``count`` inputs, in front.

    A recurrent layer's states ``(layers, N, C)`` become ``(N, layers, C)``, and the windows ``(N * k, …)`` into which a
    model takes a map apart ``(N, k, …)``.
    """

    def one(name: str, array: NDArray[Any]) -> NDArray[Any]:
        rows = np.moveaxis(array, network.batch_axis(network.tensors[name]) or 0, 0) if array.ndim else array
        if not rows.ndim or len(rows) == count or not count or len(rows) % count or not len(rows):
            return rows
        return rows.reshape(count, len(rows) // count, *rows.shape[1:])

    return {name: one(name, array) for name, array in maps.items()}


def zeros_crc32(count: int, crc: int = 0) -> int:
    """Compute the CRC-32 that ``crc`` becomes when ``count`` zero bytes follow."""
    for start in range(0, count, len(_ZEROS)):
        crc = zlib.crc32(memoryview(_ZEROS)[: count - start], crc)
    return crc


def in_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do ``work`` on each item, on a few threads if there are cores to spare; the first exception comes out."""
    if _FILES_AT_ONCE == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(_FILES_AT_ONCE, "cnnlens-file") as pool:
        return list(pool.map(work, items))


def _blocks(array: NDArray[Any]) -> Iterator[memoryview]:
    """The bytes of ``array`` in C order and little-endian, a cache-sized block at a time."""
    if array.size == 0:
        return
    rows = max(1, _BLOCK // max(array[0].nbytes, 1))
    little = array.dtype.newbyteorder("<")
    straight = array.flags.c_contiguous and array.dtype == little
    space = None if straight else np.empty((min(rows, len(array)), *array.shape[1:]), little)
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        if space is not None:
            np.copyto(space[: len(block)], block)
            block = space[: len(block)]
        yield block.reshape(-1).view(np.uint8).data


def _write_all(handle: int, content: memoryview) -> None:
    while content:
        content = content[os.write(handle, content) :]  # a write may be short, just before a disk is full
