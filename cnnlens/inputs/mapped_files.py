"""Files of many examples, mapped instead of read: whatever their size, memory holds the part that is looked at.

``image_files`` reads what a picture viewer needs, whole; a recording streams a data set. So plain ``.npy``, IDX and
uncompressed ``.npz`` members are mapped where they lie, and what is compressed is unpacked, piece by piece, to a
nameless temporary file that is mapped then. Every declared size is held against the real one first.
"""

from __future__ import annotations

import gzip
import lzma
import math
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.inputs.pixel_files import NPZ_NAMES, Pixels, read_images
from cnnlens.text import printable

__all__ = ["is_picture", "map_file", "npz_members"]

_PIECE = 4 << 20
_DEFLATE_LIMIT = 1040  # deflate cannot expand more than 1032 times
_IDX = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_BROKEN = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, NotImplementedError, RecursionError),
    *(SyntaxError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)
_WAY_OUT = "save or fetch it again"


def is_picture(path: Path) -> bool:
    """Tell whether the file's first bytes are those of a PNG or a JPEG."""
    return _first_bytes(path).startswith((b"\x89PNG", b"\xff\xd8\xff"))


def map_file(path: Path, member: str | None = None) -> Pixels:
    """Map the examples of a ``.npy``, ``.npz`` or IDX file (also gzipped), without reading them.

    Args:
        path: The file.
        member: Which array of an ``.npz``; None for its only one.

    Raises:
        FileRefusedError: missing, damaged, lying about its size, or no such file.
    """
    head = _first_bytes(path)
    try:
        if head.startswith(b"PK\x03\x04"):
            return _npz(path, member)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as stream:
                return _idx(path, cast(IO[bytes], stream), packed=True)
        if len(head) == 4 and head[:2] == b"\0\0" and head[2] in _IDX and 1 <= head[3] <= 8:
            with open(path, "rb") as stream:
                return _idx(path, stream, packed=False)
    except FileRefusedError:
        raise
    except _BROKEN as error:
        raise FileRefusedError(path, "", f"is damaged or cannot be read ({_short(error)})", _WAY_OUT) from error
    return read_images(path)  # .npy, which it maps; and for all else it knows what to say


def npz_members(path: Path) -> Mapping[str, int] | None:
    """List the arrays of an ``.npz`` by name, with their sizes in bytes; None where it is no zip at all."""
    if not _first_bytes(path).startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename.removesuffix(".npy"): info.file_size
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
    except _BROKEN as error:
        raise FileRefusedError(path, "", f"is damaged or cannot be read ({_short(error)})", _WAY_OUT) from error


def _npz(path: Path, member: str | None) -> Pixels:
    members = npz_members(path) or dict[str, int]()
    if member is None and len(members) > 1:
        lowered = {one.lower(): one for one in reversed(list(members))}
        member = next((lowered[name] for name in NPZ_NAMES if name in lowered), None)
    if member is None and len(members) != 1:
        shown = ", ".join(f"'{printable(name, 40)}'" for name in list(members)[:6]) or "no array"
        raise FileRefusedError(path, "", f"holds {shown}, and none is called 'x' or 'images'", "rename one")
    name = member if member is not None else next(iter(members))
    with zipfile.ZipFile(path) as archive, open(path, "rb") as raw:
        info = archive.getinfo(f"{name}.npy")
        stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        with archive.open(info) as stream:
            shape, fortran, dtype = _npy_header(stream)
            header = stream.tell()
            declared = _checked(path, f"'{name}'", shape, dtype, info.file_size - header)
            if info.compress_type == zipfile.ZIP_DEFLATED and declared > _DEFLATE_LIMIT * (info.compress_size + 1):
                raise FileRefusedError(path, f"'{name}'", f"cannot hold the {declared:,} bytes it declares", _WAY_OUT)
            if stored:
                start = _data_start(raw, info) + header
                if start + declared > os.fstat(raw.fileno()).st_size:
                    raise FileRefusedError(path, f"'{name}'", "is cut short", _WAY_OUT)
                array = np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
            else:
                array = _spooled(path, f"'{name}'", stream, shape, dtype, declared, fortran)
    return Pixels(array, None, path.stem)


def _data_start(raw: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header, whose lengths are its own (APPNOTE.TXT 4.3.7)."""
    raw.seek(info.header_offset)
    local = raw.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("no local header")
    name, extra = struct.unpack("<HH", local[26:30])
    return info.header_offset + 30 + name + extra


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def _idx(path: Path, stream: IO[bytes], *, packed: bool) -> Pixels:
    """The IDX format of the MNIST family: two zero bytes, type, rank, big-endian sizes, numbers (yann.lecun.com)."""
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX or not 1 <= head[3] <= 8:
        raise FileRefusedError(path, "", "unpacks to something else than IDX", "unpack it first")
    dtype = np.dtype(_IDX[head[2]])
    shape: tuple[int, ...] = struct.unpack(f">{head[3]}I", stream.read(4 * head[3]))
    start = 4 + 4 * head[3]
    if len(shape) < 2:
        raise FileRefusedError(
            path, "", f"is a list of {math.prod(shape):,} numbers (labels?), not images", "name the file of the images"
        )
    declared = _checked(path, "header", shape, dtype, None if packed else path.stat().st_size - start)
    if packed:
        if declared > _DEFLATE_LIMIT * path.stat().st_size:
            raise FileRefusedError(path, "header", f"declares {shape}, which cannot be in there", _WAY_OUT)
        array = _spooled(path, "", stream, shape, dtype, declared)
    else:
        array = np.memmap(path, dtype, "r", start, shape)
    full = 255 if dtype.itemsize == 1 else None
    return Pixels(array, "NHW" if len(shape) == 3 else None, path.name.split(".")[0], (), full)


def _checked(path: Path, place: str, shape: tuple[int, ...], dtype: np.dtype[Any], there: int | None) -> int:
    """The bytes that a header declares, if they are what is there and numbers."""
    if dtype.hasobject or dtype.kind not in "fiub":
        raise FileRefusedError(path, place, f"holds {printable(dtype)}, not real numbers", "save it as real numbers")
    declared = math.prod(shape) * dtype.itemsize
    if any(size < 0 for size in shape) or (there is not None and declared != there):
        raise FileRefusedError(
            path, place, f"declares {shape} {dtype}, {declared:,} bytes, but {there:,} are there", _WAY_OUT
        )
    if not declared:
        raise FileRefusedError(path, place, f"the array {shape} is empty", "give at least one example")
    return declared


def _spooled(
    path: Path,
    place: str,
    stream: IO[bytes],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    declared: int,
    fortran: bool = False,
) -> NDArray[Any]:
    """Unpack to a temporary file without a name, which is gone with the array, and map that."""
    left = declared
    with tempfile.TemporaryFile(prefix="cnnlens-") as space:
        while left and (piece := stream.read(min(left, _PIECE))):
            try:
                space.write(piece)
            except OSError as error:
                raise FileRefusedError(
                    path, place, f"cannot be unpacked to {tempfile.gettempdir()} ({error.strerror})",
                    "make space there, or set TMPDIR",
                ) from None  # fmt: skip
            left -= len(piece)
        if left:
            raise FileRefusedError(path, place, f"ends {left:,} bytes before its end", _WAY_OUT)
        if stream.read(1):
            raise FileRefusedError(path, place, f"declares {shape}, but more follows", _WAY_OUT)
        space.flush()
        return np.memmap(cast(Any, space), dtype, "r", 0, shape, "F" if fortran else "C")


def _first_bytes(path: Path) -> bytes:
    """Of a plain file (a pipe would never end); of nothing else any, and whoever reads it says why."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            with open(path, "rb") as stream:
                return stream.read(4)
    except (OSError, ValueError):
        pass
    return b""


def _short(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 120)
