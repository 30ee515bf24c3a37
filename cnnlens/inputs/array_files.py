"""Arrays that strangers saved: ``.npy``, ``.npz`` and IDX, also gzipped; read row by row where they lie uncompressed.

Every size that a header declares is held against the bytes that are really there before any are taken, and nothing is
unpickled. Nothing is mapped either, for a mapped file that somebody cuts short ends the process by a signal. What is
compressed is unpacked, piece by piece, to a nameless temporary file: whatever a file's size, memory holds the part that
is looked at.
"""

from __future__ import annotations

import ast
import gzip
import lzma
import math
import os
import re
import stat
import struct
import tempfile
import threading
import warnings
import weakref
import zipfile
import zlib
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.text import printable

__all__ = ["BROKEN", "MOST_BYTES", "FileArray", "Part", "Pixels", "first_bytes", "npz_members", "read_array", "short"]

MOST_BYTES = 4 << 30  # decoded bytes of one file
_PIECE = 4 << 20
_DEFLATE_LIMIT = 1040  # deflate cannot expand more than 1032 times
_LONGEST_HEADER = 10_000  # bytes; NumPy's own limit
_NPZ_NAMES = ("x", "images", "x_test", "test_images", "image", "data", "x_train", "arr_0")
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
BROKEN = (
    *(
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        MemoryError,
        RuntimeError,
        OverflowError,
    ),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)
"""What libraries raise over damaged files."""

_WAY_OUT = "save or fetch it again"


class FileArray:
    """Reads an array that lies in a file, as ``array[start:stop]`` along its first axis: a copy of those rows alone.

    Attributes:
        shape, dtype: As the file declares them, in its own axis order.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], start: int = 0, order: str = "C"
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._path, self._start, self._fortran = path, start, order == "F" and len(shape) > 1
        self._unpacked: FileIO | None = None
        self._one_reader = threading.Lock()  # of what is unpacked: there is one position in it
        self._first = 0

    @classmethod
    def unpacked(
        cls, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], order: str, space: IO[bytes], first: int = 0
    ) -> FileArray:
        """Make one whose rows from ``first`` on lie in ``space``, which lives as long as the array."""
        array = cls(path, shape, dtype, 0, order)
        array._unpacked, array._first = FileIO(os.dup(space.fileno())), first
        weakref.finalize(array, array._unpacked.close)
        return array

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

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read rows.

        Raises:
            FileRefusedError: the file became shorter, or cannot be read any more.
        """
        start, stop, _ = rows.indices(len(self))
        count, columns = max(stop - start, 0), self.size // len(self)
        shape = (count, *self.shape[1:])
        space = np.empty((columns, count) if self._fortran else shape, self.dtype)
        flat = space.reshape(-1).view(np.uint8).data
        width = self.dtype.itemsize
        try:
            with self._one_reader if self._unpacked is not None else FileIO(self._path) as opened:
                file = self._unpacked or cast(FileIO, opened)
                if not self._fortran:
                    self._fill(file, (start - self._first) * columns * width, flat)
                else:  # the rows' numbers lie next to each other, column after column
                    for column in range(columns):
                        part = flat[column * count * width : (column + 1) * count * width]
                        self._fill(file, (column * len(self) + start) * width, part)
        except OSError as error:
            raise FileRefusedError(self._path, "", f"cannot be read ({error.strerror})", _WAY_OUT) from None
        return space.reshape((*self.shape[:0:-1], count)).transpose() if self._fortran else space

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _fill(self, file: FileIO, offset: int, space: memoryview) -> None:
        file.seek(self._start + offset)
        while space:
            count = file.readinto(space)
            if not count:
                raise FileRefusedError(self._path, "", "became shorter while it was read", _WAY_OUT)
            space = space[count:]


class Pixels(NamedTuple):
    """Says what one file holds.

    Attributes:
        array: Its numbers in the file's own axis order; still in the file where that is possible.
        axes: Letters of its axes where the format fixes them (``"HW"``, ``"HWC"``, ``"NHW"``), else None.
        name: What to call it: the file's name without its suffix.
        notes: Remarks for the person.
        full: What an integer 1.0 would be: 255, or 65535 for 16-bit pictures; None where the format does not say.
    """

    array: NDArray[Any] | FileArray
    axes: str | None
    name: str
    notes: tuple[str, ...] = ()
    full: int | None = None


class Part(NamedTuple):
    """Says that a file is read for a look: what is unpacked must fit into memory, and its checksum be right.

    Attributes:
        limit: At most so many images need to be read, where the first axis is known to count them.
        rank: The number of axes with which that is known: 4 for pictures, as in (N, C, H, W).
        first: The first image that needs to be read; negative ones count from the end.
    """

    limit: int | None
    rank: int
    first: int = 0


def first_bytes(path: Path) -> bytes:
    """Read the bytes that say what a file is.

    Raises:
        FileRefusedError: missing, unreadable or no regular file (a pipe would never end).
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefusedError(path, "", "is no regular file", "name an image file or a folder of images")
        with open(path, "rb") as stream:
            return stream.read(512)
    except FileNotFoundError as error:
        raise FileRefusedError(path, "", "does not exist", "check the name") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileRefusedError(path, "", f"cannot be read ({reason})", "check its permissions") from error


def read_array(path: Path, head: bytes, member: str | None = None, part: Part | None = None) -> Pixels | None:
    """Find the array of one file; None where its first bytes, ``head``, are those of no array.

    Args:
        path, head: The file, and what ``first_bytes`` gives of it.
        member: Which array of an ``.npz``; None for its only one, or the one that is called as images are.
        part: How much of what is compressed is needed; None for all.

    Raises:
        FileRefusedError: damaged, lying about its size, or of something else than real numbers.
    """
    packed, zipped = head.startswith(b"\x1f\x8b"), head.startswith(b"PK\x03\x04")
    try:
        if head.startswith(b"\x93NUMPY"):
            return _npy(path)
        if zipped:
            return _npz(path, member, part)
        if packed or _is_idx(head):
            return _idx(path, part, packed=packed)
    except BROKEN as error:
        what = "the archive is" if zipped else "is"
        raise FileRefusedError(path, "", f"{what} damaged or cannot be read ({short(error)})", _WAY_OUT) from error
    return None


def npz_members(path: Path) -> set[str] | None:
    """List the names of the arrays in an ``.npz``; None where it is no zip at all."""
    if not first_bytes(path).startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return set(_members(archive))
    except BROKEN as error:
        raise FileRefusedError(path, "", f"is damaged or cannot be read ({short(error)})", _WAY_OUT) from error


def short(error: BaseException) -> str:
    """Say what went wrong in a few words."""
    return printable(str(error) or type(error).__name__, 100)


def _checked(path: Path, place: str, shape: tuple[int, ...], dtype: np.dtype[Any], there: int | None = None) -> int:
    """The bytes that a header declares, if they are real numbers and, where that is known, as many as are there."""
    if dtype.hasobject:
        raise FileRefusedError(
            path, place, "holds Python objects, which are never unpickled", "save it as plain numbers"
        )
    if dtype.kind not in "fiub":
        raise FileRefusedError(path, place, f"holds {printable(dtype)}, not real numbers", "save it as real numbers")
    declared = math.prod(shape) * dtype.itemsize
    if there is not None and declared != there:
        found = f"{declared:,} bytes, but {max(there, 0):,} are there"
        raise FileRefusedError(path, place, f"declares {printable(shape)} {dtype}, {found}", _WAY_OUT)
    if declared == 0:
        raise FileRefusedError(path, place, f"the array {printable(shape)} is empty, no image at all is there",
                               "save at least one image")  # fmt: skip
    return declared


def _refuse_bomb(path: Path, place: str, declared: int, packed: int) -> None:
    most = _DEFLATE_LIMIT * max(packed, 1)
    if declared > most:
        reason = f"cannot hold the {declared:,} bytes it declares, {most:,} at most could be there"
        raise FileRefusedError(path, place, reason, _WAY_OUT)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of the array that starts here; the stream is left where its numbers begin.

    NumPy's own reader warns about, and then rewrites, headers of Python 2, and lets the tokenizer's errors out.
    (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)
    """
    magic = stream.read(8)
    if len(magic) < 8 or not magic.startswith(b"\x93NUMPY") or magic[6] not in (1, 2, 3):
        raise ValueError("no header")
    width = 2 if magic[6] == 1 else 4
    size = int.from_bytes(stream.read(width), "little")
    if size > _LONGEST_HEADER:
        raise ValueError(f"a header of {size:,} bytes")
    text = re.sub(r"\b(\d+)L\b", r"\1", stream.read(size).decode("utf-8" if magic[6] == 3 else "latin1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about odd texts
        header: Any = ast.literal_eval(text.strip())
    shape: Any = header["shape"]
    if not (isinstance(header["descr"], str) and re.fullmatch(r"[<>=|]?[A-Za-z?][0-9]{0,4}", header["descr"])):
        raise ValueError(f"not real numbers but {header['descr']}")
    if not isinstance(shape, tuple | list) or not all(
        type(one) is int and one >= 0 for one in cast("list[Any]", shape)
    ):
        raise ValueError(f"a size that is no size in {shape}")
    return tuple(cast("list[int]", shape)), bool(header["fortran_order"]), np.dtype(header["descr"])


def _npy(path: Path) -> Pixels:
    with open(path, "rb") as stream:
        shape, fortran, dtype = _npy_header(stream)
        start = stream.tell()
    _checked(path, "header", shape, dtype, path.stat().st_size - start)
    return Pixels(FileArray(path, shape, dtype, start, "F" if fortran else "C"), None, path.stem)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    return {info.filename.removesuffix(".npy"): info for info in infos}


def _chosen(path: Path, members: Mapping[str, Any]) -> str:
    if len(members) == 1:
        return next(iter(members))
    lowered = {name.lower(): name for name in reversed(list(members))}
    for name in _NPZ_NAMES:
        if name in lowered:
            return lowered[name]
    listed = ", ".join(f"'{printable(name, 40)}'" for name in list(members)[:6]) or "no array"
    raise FileRefusedError(path, "", f"holds {listed}, and none is called 'x' or 'images'", "rename one")


def _npz(path: Path, member: str | None, part: Part | None) -> Pixels:
    with zipfile.ZipFile(path) as archive:
        members = _members(archive)
        chosen = _chosen(path, members) if member is None else member
        info, place = members[chosen], f"'{chosen}'"
        if info.compress_type == zipfile.ZIP_DEFLATED:
            _refuse_bomb(path, place, info.file_size, info.compress_size)
        with archive.open(info) as stream:
            shape, fortran, dtype = _npy_header(stream)
            header = stream.tell()
            stored = info.compress_type == zipfile.ZIP_STORED
            start = _data_start(path, info) + header
            # A member may say that it is longer than the file that it lies in.
            there = info.file_size - header
            _checked(path, place, shape, dtype, min(there, path.stat().st_size - start) if stored else there)
            if stored and (part is None or part.limit is not None):
                array = FileArray(path, shape, dtype, start, "F" if fortran else "C")
            else:
                counted = part is not None and len(shape) == part.rank and not fortran
                array = _unpacked(path, place, stream, shape, dtype, part, counted, "F" if fortran else "C")
    several = member is None and len(members) > 1
    notes = (f"array '{printable(chosen, 40)}' of {len(members)} in the archive",) if several else ()
    return Pixels(array, None, path.stem, notes)


def _data_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header, whose lengths are its own (APPNOTE.TXT 4.3.7)."""
    with open(path, "rb") as stream:
        stream.seek(info.header_offset + 26)
        return info.header_offset + 30 + sum(struct.unpack("<HH", stream.read(4)))


def _is_idx(head: bytes) -> bool:
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and 1 <= head[3] <= 8


def _idx(path: Path, part: Part | None, *, packed: bool) -> Pixels:
    """The IDX format of the MNIST family: two zero bytes, type, rank, big-endian sizes, numbers (yann.lecun.com)."""
    with cast(IO[bytes], gzip.open(path) if packed else open(path, "rb")) as stream:
        head = stream.read(4)
        if not _is_idx(head):
            raise FileRefusedError(path, "", "unpacks to something else than IDX", "unpack it first")
        dtype = np.dtype(_IDX_TYPES[head[2]])
        shape: tuple[int, ...] = struct.unpack(f">{head[3]}I", stream.read(4 * head[3]))
        start = 4 + 4 * head[3]
        size = path.stat().st_size
        declared = _checked(path, "header", shape, dtype, None if packed else size - start)
        if len(shape) < 2:
            reason = f"is a list of {math.prod(shape):,} numbers (labels?), not images"
            raise FileRefusedError(path, "", reason, "name the file of the images")
        if packed:
            _refuse_bomb(path, "header", declared, size)
            array = _unpacked(path, "", stream, shape, dtype, part, part is not None and len(shape) in (3, part.rank))
        else:
            array = FileArray(path, shape, dtype, start)
    full = 255 if dtype.itemsize == 1 else None
    return Pixels(array, "NHW" if len(shape) == 3 else None, path.name.split(".")[0], (), full)


def _unpacked(
    path: Path,
    place: str,
    stream: IO[bytes],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    part: Part | None,
    counted: bool,
    order: str = "C",
) -> FileArray:
    """Unpack the array, or if its first axis is ``counted`` the images that ``part`` asks for, to a temporary file
    without a name, which is gone with the array."""
    first, count = 0, shape[0] if shape else 1
    if part is not None and part.limit is not None and counted:
        first = min(max(part.first + (count if part.first < 0 else 0), 0), count)
        count = min(part.limit, count - first)
    row = math.prod(shape[1:]) * dtype.itemsize
    if part is not None and count * row > MOST_BYTES:
        reason = (
            f"{(count, *shape[1:])} would take {count * row / 2**30:.1f} GiB of memory, the limit is {MOST_BYTES >> 30}"
        )
        raise FileRefusedError(path, place, reason, "ask for fewer images with limit")
    with tempfile.TemporaryFile(prefix="cnnlens-") as space:
        _copied(path, place, stream, first * row, None)
        _copied(path, place, stream, count * row, space)
        if count * row == math.prod(shape) * dtype.itemsize and stream.read(1):
            raise FileRefusedError(path, place, f"declares {shape}, but more follows", _WAY_OUT)
        space.flush()
        return FileArray.unpacked(path, shape, dtype, order, space, first)


def _copied(path: Path, place: str, stream: IO[bytes], wanted: int, space: IO[bytes] | None) -> None:
    """Unpack so many bytes to ``space``, or past them."""
    filled = 0
    while filled < wanted and (piece := stream.read(min(wanted - filled, _PIECE))):
        try:
            if space is not None:
                space.write(piece)
        except OSError as error:
            raise FileRefusedError(
                path, place, f"cannot be unpacked to {tempfile.gettempdir()} ({error.strerror})",
                "make space there, or set TMPDIR",
            ) from None  # fmt: skip
        filled += len(piece)
    if filled < wanted:
        raise FileRefusedError(path, place, f"ends after {filled:,} of {wanted:,} bytes", _WAY_OUT)
