"""Chunked and compressed HDF5 datasets, unpacked within the bounds that their declaration gives.

Keras writes its arrays in one piece, but files that went through `h5repack` or another tool come in chunks. A chunk is
never unpacked further than its declared size, whatever its compressed bytes claim.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chunk", "ChunkedLayout", "read_chunks"]

# Filters by number in the HDF5 File Format Specification 3.0, IV.A.2.l.
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_UNDEFINED = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Chunk:
    """Says where a chunk's bytes lie: offset in the file, how many, and which filters were left out (a bit each)."""

    start: int
    size: int
    left_out: int


@dataclass(frozen=True, slots=True)
class ChunkedLayout:
    """Says how a dataset is cut and packed: axes, axes of a chunk, element type, filters in order of use."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    raw: np.dtype[Any]
    filters: tuple[int, ...]
    address: int

    @classmethod
    def parse(
        cls, body: bytes, shape: tuple[int, ...], raw: np.dtype[Any], pipeline: list[dict[str, Any]] | None
    ) -> ChunkedLayout:
        """Read a layout message of version 3 and the parsed filter pipeline.

        Raises:
            ValueError: Sizes that contradict each other, or a filter that is not deflate, shuffle or fletcher32.
        """
        dimensions: int = body[2]
        address: int = struct.unpack_from("<Q", body, 3)[0]
        *chunk, itemsize = struct.unpack_from(f"<{dimensions}I", body, 11)
        if len(chunk) != len(shape) or itemsize != raw.itemsize or not all(chunk):
            raise ValueError("the chunks' axes contradict the array's")
        filters = tuple(int(entry["filter_id"]) for entry in pipeline or ())
        unknown = [number for number in filters if number not in (_DEFLATE, _SHUFFLE, _FLETCHER32)]
        if unknown:
            raise ValueError(f"compressed by filter {unknown[0]}, which is not read")
        if address == _UNDEFINED:
            raise ValueError("the array declares chunks and stores none")
        return cls(shape, tuple(chunk), raw, filters, address)

    @property
    def grid(self) -> tuple[int, ...]:
        """Count the chunks along each axis."""
        return tuple(-(-size // step) for size, step in zip(self.shape, self.chunk, strict=True))

    @property
    def nbytes(self) -> int:
        """Count bytes of all chunks, unpacked; each of them may be larger than the array."""
        return math.prod(self.grid) * math.prod(self.chunk) * self.raw.itemsize


def read_chunks(
    index: Iterable[tuple[tuple[int, ...], Chunk]], data: memoryview, layout: ChunkedLayout
) -> NDArray[Any]:
    """Read the whole array, in the file's element type.

    Args:
        index: Corner in the array, and place in the file, of each chunk.
        data: The bytes of the file.
        layout: The dataset.

    Raises:
        ValueError, zlib.error: A chunk is missing or damaged.
    """
    found = dict(index)
    array = np.empty(layout.shape, layout.raw)
    for position in itertools.product(*(range(count) for count in layout.grid)):
        corner = tuple(index * step for index, step in zip(position, layout.chunk, strict=True))
        chunk = found.get(corner)
        if chunk is None:
            raise ValueError(f"the chunk at {corner} is missing")
        packed = data[chunk.start : chunk.start + chunk.size]
        if len(packed) != chunk.size:
            raise ValueError(f"the chunk at {corner} ends behind the end of the file")
        numbers = np.frombuffer(_unpack(packed, chunk.left_out, layout), layout.raw).reshape(layout.chunk)
        room = array[tuple(slice(at, at + step) for at, step in zip(corner, layout.chunk, strict=True))]
        room[...] = numbers[tuple(slice(0, size) for size in room.shape)]
    return array


def _unpack(packed: memoryview, mask: int, layout: ChunkedLayout) -> bytes:
    nbytes = math.prod(layout.chunk) * layout.raw.itemsize
    data = bytes(packed)
    for index in reversed(range(len(layout.filters))):
        if mask & (1 << index):
            continue
        number = layout.filters[index]
        if number == _DEFLATE:
            # Four bytes more than the chunk: a fletcher32 sum may lie inside the compressed stream.
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(data, nbytes + 5)
        elif number == _SHUFFLE:
            data = _unshuffle(data, layout.raw.itemsize)
        else:
            data = _without_fletcher32(data)
    if len(data) != nbytes:
        raise ValueError(f"a chunk of {len(data)} bytes where {nbytes} are declared")
    return data


def _unshuffle(data: bytes, itemsize: int) -> bytes:
    whole = len(data) // itemsize * itemsize
    planes = np.frombuffer(data, np.uint8, whole).reshape(itemsize, -1)
    return planes.T.tobytes() + data[whole:]


def _without_fletcher32(data: bytes) -> bytes:
    """``data`` without the sum at its end, after the sum was compared (16-bit words, as H5checksum.c adds them)."""
    if len(data) < 4:
        raise ValueError("a chunk without its checksum")
    body, stored = data[:-4], struct.unpack("<I", data[-4:])[0]
    words = np.frombuffer(body + b"\x00" * (len(body) % 2), ">u2").astype(np.uint64)
    # sum1 is the sum of the words, sum2 the sum of its running values; both modulo 65535 with 0 kept as 65535.
    sum1 = int(words.sum()) if words.size else 0
    weights = np.arange(words.size, 0, -1, dtype=np.uint64) % np.uint64(65535)
    sum2 = int((words * weights).sum()) if words.size else 0
    expected = (_fold(sum2) << 16) | _fold(sum1)
    if expected != stored:
        raise ValueError("a chunk whose checksum does not fit its bytes")
    return body


def _fold(total: int) -> int:
    return 0 if total == 0 else (total - 1) % 65535 + 1
