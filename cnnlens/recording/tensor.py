"""One tensor of a Recording, read from its chunk files when it is sliced.

What cnnlens writes are plain files, which are read without a Zarr library: a chunk's size is held against the metadata
before memory is taken, and a missing one is an error, where Zarr would read fill values. What somebody else wrote with
other codecs or chunks is read through ``zarr``.
"""

from __future__ import annotations

import math
import os
import stat
import zlib
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.chunks import DTYPES
from cnnlens.errors import CnnlensError, FileRefusedError
from cnnlens.recording.address import Address
from cnnlens.recording.format import METADATA, chunk_name
from cnnlens.text import printable

__all__ = ["Recorded"]

_AGAIN = "fetch it again, or record it again"
_CODECS = ("bytes", "gzip", "zstd", "blosc", "crc32c", "transpose", "sharding_indexed")
_PIECE = 8 << 20


class Recorded:
    """Reads one tensor of a recording: like an array in canonical axes ``(N, C, *spatial)``, read when sliced.

    Attributes:
        name: The tensor; ``array_name``: its array in the Zarr group.
        shape, dtype: As the finished recording has them; ``shape[0]`` counts the inputs.
    """

    def __init__(
        self,
        tensor: str,
        array_name: str,
        metadata: Mapping[str, Any],
        *,
        path: Path | Address,
        count: int,
        batch: int,
        need: Callable[[int, str], None],
    ) -> None:
        """Made by ``Recording``, of whose group at ``path`` it is an array; ``need`` refuses inputs not there yet.

        As ``need`` is the recording's own, a recording in a temporary folder lives as long as an array of it is used.
        """
        self._path, self._batch, self._need = path, batch, need
        self.name = tensor
        self.array_name = array_name
        where = f"{array_name}/{METADATA}"
        try:
            self.shape, self.dtype, self._plain_key = _understood(metadata)
            chunk = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise FileRefusedError(path, where, f"is no array that can be read ({printable(error)})", _AGAIN) from None
        if not self.shape or self.shape[0] != count:
            raise FileRefusedError(path, where, f"has the shape {self.shape} for {count} inputs", _AGAIN)
        if self._plain_key is not None and chunk != (batch, *self.shape[1:]):
            self._plain_key = None  # somebody chunked it otherwise
        self._row = math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<Recorded '{printable(self.name)}' {self.shape} {self.dtype.name}>"

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """As NumPy's, with what stands in front of the first comma deciding which inputs are read."""
        parts: tuple[Any, ...] = cast("tuple[Any, ...]", index) if isinstance(index, tuple) else (index,)
        first, rest = (parts[0], parts[1:]) if parts else (Ellipsis, ())
        if first is Ellipsis or first is None:
            return self._read(0, len(self))[index]
        if isinstance(first, slice):
            start, stop, step = first.indices(len(self))
            chosen = range(start, stop, step)
            if not len(chosen):
                return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
            low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
            rows = self._read(low, high + 1)
            return (rows if step == 1 else rows[:: abs(step)][:: -1 if step < 0 else 1])[(slice(None), *rest)]
        if isinstance(first, int | np.integer):
            one = int(cast(int, first)) + (len(self) if first < 0 else 0)
            if not 0 <= one < len(self):
                raise IndexError(f"input {first} of {len(self)}")
            return self._read(one, one + 1)[(0, *rest)]
        numbers = np.arange(len(self))[first].ravel()
        if numbers.size == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
        unique, back = np.unique(numbers, return_inverse=True)
        rows = np.concatenate([self._read(int(one), int(one) + 1) for one in unique])
        return rows[back][(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a recording is on disk, so an array of it is always a copy")
        array = self._read(0, len(self))
        return array if dtype is None else array.astype(dtype, copy=False)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        self._need(stop, self.name)
        if self._plain_key is None:
            return self._read_by_zarr(start, stop)
        batch = self._batch
        pieces = [
            (number, max(start - number * batch, 0), min(stop - number * batch, batch))
            for number in range(start // batch, -(-stop // batch))
        ]
        opened: list[IO[bytes] | FileIO] = []
        try:
            # All of them are there, and whole, before memory is taken for what they are said to hold.
            if len(pieces) <= 64:
                for number, _, _ in pieces:
                    opened.append(self._opened(number))  # those before one that is damaged are closed
            else:
                for number, _, _ in pieces:
                    self._opened(number).close()
            space = np.empty((stop - start, *self.shape[1:]), self.dtype)
            flat = space.reshape(-1).view(np.uint8).data if space.size else memoryview(b"")
            done = 0
            for position, (number, low, high) in enumerate(pieces):
                with opened[position] if opened else self._opened(number) as chunk:
                    wanted = (high - low) * self._row
                    self._fill(chunk, number, low * self._row, flat[done : done + wanted])
                    done += wanted
        finally:
            for chunk in opened:
                chunk.close()
        return space

    def _fill(self, chunk: Any, number: int, offset: int, space: memoryview) -> None:
        chunk.seek(offset)
        while space:
            count = chunk.readinto(space)
            if not count:
                raise self._damaged(number, "it became shorter while it was read")
            space = space[count:]

    def _opened(self, number: int) -> IO[bytes] | FileIO:
        """A chunk that is a plain file of the right size, opened for this one reader."""
        folder = self._path / self.array_name
        path = folder / (self._plain_key or chunk_name)(number, self.ndim)
        try:
            # A link could lead to a foreign file, and a pipe would never end.
            status = path.lstat()
            if folder.is_symlink() or not stat.S_ISREG(status.st_mode):
                raise self._damaged(number, "it is no plain file")
            if isinstance(path, Address):
                chunk = path.open()
            else:
                chunk = FileIO(path, opener=_not_followed)
                status = os.fstat(chunk.fileno())
        except FileNotFoundError:
            raise self._damaged(number, "it is missing") from None
        except OSError as error:
            raise self._damaged(number, f"it cannot be read ({error.strerror})") from None
        size, wanted = status.st_size, self._batch * self._row
        if size != wanted:
            chunk.close()
            raise self._damaged(number, f"it holds {size:,} bytes instead of {wanted:,}")
        return chunk

    def _damaged(self, number: int, reason: str) -> FileRefusedError:
        batch = self._batch
        inputs = f"inputs {number * batch} to {min((number + 1) * batch, len(self)) - 1}"
        return FileRefusedError(self._path, f"'{printable(self.name)}', chunk of {inputs}", reason, _AGAIN)

    def verify(self, number: int, crc32: int | None) -> int:
        """Hold one chunk against its checksum; see ``Recording.verify``."""
        if self._plain_key is None:
            raise self._damaged(number, "it was written by another program, so its checksum cannot be held against it")
        crc, offset = 0, 0
        with self._opened(number) as chunk:
            while piece := chunk.read(_PIECE):
                crc, offset = zlib.crc32(piece, crc), offset + len(piece)
        if crc != crc32:
            raise self._damaged(number, "its bytes are not those that were written")
        return offset

    def _read_by_zarr(self, start: int, stop: int) -> NDArray[Any]:
        try:
            import zarr  # here, because what cnnlens writes is read without it
            from zarr.storage import LocalStore
        except ImportError:
            raise FileRefusedError(
                self._path,
                f"'{printable(self.name)}'",
                "another program wrote it anew, and reading that needs zarr, which is not installed",
                'install it with: pip install "zarr>=3"',
            ) from None
        try:
            store: Any = self._path.url if isinstance(self._path, Address) else LocalStore(self._path, read_only=True)
            array: Any = zarr.open_array(store, path=self.array_name, mode="r", zarr_format=3)
            if array.nchunks_initialized != array.nchunks:
                raise FileRefusedError(self._path, f"'{printable(self.name)}'", "chunks of it are missing", _AGAIN)
            return np.asarray(array[start:stop])
        except CnnlensError:
            raise
        except Exception as error:  # whatever the library or a codec of it makes of damaged bytes
            raise FileRefusedError(
                self._path, f"'{printable(self.name)}'", f"cannot be read ({printable(error)})", _AGAIN
            ) from error


def _not_followed(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))  # Windows has not the flag


# -- metadata that anybody may have written --------------------------------------------------------------------------


def _understood(metadata: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any], Callable[[int, int], str] | None]:
    """Shape, dtype, and the names of its chunk files where they are plain ones; None where a library must read them."""
    if metadata.get("zarr_format") != 3 or metadata.get("node_type") != "array":
        raise ValueError("no Zarr v3 array")
    shape = metadata["shape"]
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in cast("list[Any]", shape)):
        raise ValueError(f"shape {shape!r}")
    sizes = tuple(cast("list[int]", shape))
    if len(sizes) > 32 or math.prod(sizes) >= 1 << 60:
        raise ValueError(f"shape {shape!r}")
    dtype = metadata["data_type"]
    if dtype not in DTYPES:
        raise ValueError(f"data type {dtype!r}")
    codecs: list[Any] = [one["name"] if isinstance(one, dict) else one for one in metadata["codecs"]]  # pyright: ignore
    strange = [one for one in codecs if one not in _CODECS]
    if strange:
        raise ValueError(f"codec {strange[0]!r}; known are {', '.join(_CODECS)}")
    plain = codecs == ["bytes"] and _is_little(metadata["codecs"][0], np.dtype(dtype))
    separator = _separator(metadata["chunk_key_encoding"])
    if metadata["chunk_grid"]["name"] != "regular" or metadata.get("storage_transformers"):
        raise ValueError("chunks that are not regular")
    if not plain or separator is None:
        return sizes, np.dtype(dtype), None
    return sizes, np.dtype(dtype).newbyteorder("<"), chunk_name if separator == "." else _nested_chunk_name


def _nested_chunk_name(number: int, rank: int) -> str:
    return chunk_name(number, rank).replace(".", "/")


def _is_little(codec: Any, dtype: np.dtype[Any]) -> bool:
    endian: Any = codec.get("configuration", {}).get("endian") if isinstance(codec, dict) else None  # pyright: ignore
    return dtype.itemsize == 1 if endian is None else str(cast(Any, endian)) == "little"


def _separator(encoding: Any) -> str | None:
    if encoding["name"] != "default":
        return None
    separator = encoding.get("configuration", {}).get("separator", "/")
    return separator if separator in ("/", ".") else None
