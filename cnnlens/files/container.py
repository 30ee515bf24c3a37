"""From a path to bytes: what kind of file this is, mapped into memory, with every claim of its container checked.

The kind is told by the first bytes, since extensions lie. A `.keras` archive keeps its weights uncompressed, so they
are a window on the map of the archive and nothing is copied. Zip archives that two programs could read in two ways (one
name twice, overlapping members, names that climb out of the archive) are refused.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cnnlens.errors import FileRefusedError
from cnnlens.files.limits import LIMITS, human_bytes, unpacked_at_most
from cnnlens.text import nearest, printable

__all__ = ["NAMES", "OPENS", "Archive", "Member", "open_archive", "open_file", "sniff"]

_SAVE_AGAIN = "save the model again, or fetch the file again if it was downloaded"
OPENS = "cnnlens opens .keras, .h5 and .weights.h5 files of Keras and .pt, .pth, .pt2 and .safetensors files of PyTorch"

NAMES = {
    "zip": "a zip archive", "hdf5": "an HDF5 file", "json": "a JSON text", "pickle": "a Python pickle",
    "tar": "a tar archive", "safetensors": "a safetensors file",
}  # fmt: skip
"""What :func:`sniff` tells apart, for messages."""

# First bytes of what people pass by mistake, so that the message can name it.
_FOREIGN = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"CDF", "a NetCDF3 file"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file itself (run `git lfs pull`)"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"PK\x05\x06", "an empty zip archive"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """Holds the bytes of one file inside a container, or of a whole file.

    Attributes:
        place: Name inside the container, empty for a whole file.
        data: The bytes, mapped where they are stored uncompressed.
        crc: CRC-32 that the container gives for ``data`` and that was not compared yet; None where there is none left
            to compare.
    """

    place: str
    data: memoryview
    crc: int | None = None


def open_file(path: Path) -> memoryview:
    """Map the bytes of a regular file, read-only.

    Raises:
        FileRefusedError: No such file, no permission, empty, or no regular file.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file (a device, pipe or socket)"
            raise FileRefusedError(path, "", kind, f"name a file: {OPENS}")
        if status.st_size == 0:
            raise FileRefusedError(path, "", "the file is empty (0 bytes)", _SAVE_AGAIN)
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise FileRefusedError(path, "", "no such file", _neighbours(path)) from None
    except NotADirectoryError:
        raise FileRefusedError(path, "", "no such file (a part of the path is a file)", "check the path") from None
    except PermissionError:
        raise FileRefusedError(path, "", "no permission to read it", "change its mode or owner (chmod u+r)") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileRefusedError(path, "", f"cannot be opened ({printable(reason)})", "check the path") from None


def _neighbours(path: Path) -> str:
    try:
        with os.scandir(path.parent) as found:
            names = [entry.name for entry, _ in zip(found, range(1000), strict=False)]
    except OSError:
        return f"check the path; there is no directory {printable(path.parent, 200)} either"
    return f"check the path; {nearest(path.name, names)}"


def sniff(path: Path, data: memoryview) -> str:
    """Tell ``"zip"``, ``"hdf5"``, ``"json"``, ``"pickle"``, ``"tar"`` or ``"safetensors"`` by the first bytes.

    Raises:
        FileRefusedError: Anything else, named where it is a well-known kind.
    """
    head = bytes(data[:64])
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    # Before JSON: the length in front of a safetensors header may begin with the byte of a brace. JSON has no NULs.
    if (head[8:9] == b"{" and b"\x00" in head[:8]) or (path.suffix == ".safetensors" and b"\x00" in head[:16]):
        return "safetensors"
    if head.lstrip()[:1] == b"{":
        return "json"
    if head[:1] == b"\x80" and head[1:2] in (b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if bytes(data[257:262]) == b"ustar":
        return "tar"
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise FileRefusedError(path, "", f"this is {name}", OPENS)
    if b"\x00" not in head and all(byte >= 0x20 or byte in b"\t\r\n" for byte in head):
        raise FileRefusedError(path, "", "this is a text file", OPENS)
    begins = f"it begins with {head[:8].hex(' ')}"
    raise FileRefusedError(path, "", f"neither a zip archive nor HDF5, safetensors or a pickle ({begins})", OPENS)


def open_archive(path: Path, data: memoryview) -> Archive:
    """List the members of a zip archive by name; stored ones mapped, deflated ones unpacked on request only.

    Args:
        path: The archive, for messages.
        data: The whole archive.

    Raises:
        FileRefusedError: No valid archive, or one that ``LIMITS`` or the rules at the top of this file exclude.
    """
    _check_directory_size(path, data)
    try:
        with zipfile.ZipFile(_MappedFile(data)) as archive:  # pyright: ignore[reportArgumentType]
            infos = archive.infolist()
            if len(infos) > LIMITS.zip_members:
                raise FileRefusedError(
                    path, "", f"{len(infos)} members in the archive, {LIMITS.zip_members} at most", _SAVE_AGAIN
                )
            starts = _check_members(path, data, infos)
            return Archive(path, data, infos, starts)
    except FileRefusedError:
        raise
    except Exception as error:  # zipfile, struct and codecs raise a dozen kinds on damaged archives
        raise FileRefusedError(path, "", f"damaged zip archive ({_short(error)})", _SAVE_AGAIN) from None


def _short(error: Exception) -> str:
    return printable(str(error).split("\n", 1)[0] or type(error).__name__, 100)


class _MappedFile:
    """The least of a binary file that `zipfile` needs, over a memory map."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._data))[whence]
        if at < 0:
            raise OSError("seek before the start")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._data) if size is None or size < 0 else self._at + size
        piece = bytes(self._data[self._at : end])
        self._at += len(piece)
        return piece

    def close(self) -> None:
        """Nothing to close: the map lives as long as an array shows it."""


def _check_directory_size(path: Path, data: memoryview) -> None:
    # zipfile reads the whole central directory into memory before its caller sees a count.
    tail = bytes(data[-65_557:])
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise FileRefusedError(path, "", "truncated zip archive (its directory, at the end, is missing)", _SAVE_AGAIN)
    size = struct.unpack_from("<I", tail, at + 12)[0]
    if size == 0xFFFFFFFF:
        locator = at - 20
        if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
            record = struct.unpack_from("<Q", tail, locator + 8)[0]
            if record + 56 <= len(data):
                size = struct.unpack_from("<Q", data, record + 40)[0]
    if size > LIMITS.zip_members * 400 or size > len(data):
        raise FileRefusedError(path, "", f"a zip directory of {human_bytes(size)}", _SAVE_AGAIN)


def _check_members(path: Path, data: memoryview, infos: list[zipfile.ZipInfo]) -> dict[str, int]:
    """Where each member's bytes start, after every rule on names and places has been checked."""
    starts: dict[str, int] = {}
    spans: list[tuple[int, int, str]] = []
    unpacked = 0
    for info in infos:
        name = info.orig_filename
        unsafe = _unsafe_name(name)
        if unsafe:
            raise FileRefusedError(path, name, f"a member name {unsafe}", _SAVE_AGAIN)
        if name in starts:
            raise FileRefusedError(
                path, name, "two members of this name: readers disagree which one counts", _SAVE_AGAIN
            )
        if info.flag_bits & 0x41:
            raise FileRefusedError(path, name, "the member is encrypted", "save the model without encryption")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileRefusedError(path, name, f"compressed by method {info.compress_type}", _SAVE_AGAIN)
        start = _data_start(path, data, info)
        if start + info.compress_size > len(data):
            raise FileRefusedError(path, name, "the member ends behind the end of the file", _SAVE_AGAIN)
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise FileRefusedError(path, name, "a stored member with two different sizes", _SAVE_AGAIN)
        starts[name] = start
        spans.append((info.header_offset, start + info.compress_size, name))
        if info.compress_type == zipfile.ZIP_DEFLATED:
            unpacked += info.file_size
            if unpacked > unpacked_at_most(len(data)):
                raise FileRefusedError(
                    path,
                    name,
                    f"members that unpack to {human_bytes(unpacked)} in a file of {human_bytes(len(data))}",
                    "store the members uncompressed, as Keras and PyTorch do",
                )
    spans.sort()
    for (_, end, _), (begin, _, name) in pairwise(spans):
        if begin < end:
            raise FileRefusedError(path, name, "the member overlaps the one before it", _SAVE_AGAIN)
    return starts


def _unsafe_name(name: str) -> str:
    """Why a member name is refused, or an empty string."""
    if not name or len(name) > 4096:
        return "that is empty or longer than 4096 characters"
    if "\x00" in name or "\\" in name:
        return "with a NUL or a backslash"
    if name.startswith("/") or name[1:2] == ":":
        return "that is an absolute path"
    if ".." in name.split("/"):
        return "that leads out of the archive"
    return ""


def _data_start(path: Path, data: memoryview, info: zipfile.ZipInfo) -> int:
    at = info.header_offset
    if at < 0 or at + 30 > len(data) or bytes(data[at : at + 4]) != b"PK\x03\x04":
        raise FileRefusedError(path, info.orig_filename, "no member where the archive's directory says", _SAVE_AGAIN)
    name_size, extra_size = struct.unpack_from("<HH", data, at + 26)
    name = bytes(data[at + 30 : at + 30 + name_size])
    if name != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
        raise FileRefusedError(
            path,
            info.orig_filename,
            "the member calls itself by another name than the archive's directory",
            _SAVE_AGAIN,
        )
    return at + 30 + name_size + extra_size


class Archive(Mapping[str, Member]):
    """Gives members by name. Getting a deflated one unpacks it, within the limits, and checks its CRC-32."""

    def __init__(self, path: Path, data: memoryview, infos: list[zipfile.ZipInfo], starts: dict[str, int]) -> None:
        self._path = path
        self._data = data
        self._infos = {info.orig_filename: info for info in infos if not info.is_dir()}
        self._starts = starts

    def __iter__(self):
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def size(self, name: str) -> int:
        """Count bytes of a member, unpacked, as the archive's directory says."""
        return self._infos[name].file_size

    def __getitem__(self, name: str) -> Member:
        info = self._infos[name]
        start = self._starts[name]
        raw = self._data[start : start + info.compress_size]
        if info.compress_type == zipfile.ZIP_STORED:
            return Member(name, raw, info.CRC)
        return Member(name, memoryview(self._inflate(info, raw)))

    def _inflate(self, info: zipfile.ZipInfo, raw: memoryview) -> bytes:
        name, size = info.orig_filename, info.file_size
        allowed = LIMITS.json_inflated_bytes if name.endswith(".json") else LIMITS.inflated_bytes
        if size > allowed:
            raise FileRefusedError(
                self._path,
                name,
                f"{human_bytes(len(raw))} that unpack to {human_bytes(size)}, {human_bytes(allowed)} at most",
                "store the member uncompressed, as Keras and PyTorch do",
            )
        try:
            unpacker = zlib.decompressobj(-15)
            unpacked = unpacker.decompress(raw, size + 1)
        except (zlib.error, MemoryError) as error:
            raise FileRefusedError(self._path, name, f"damaged member ({_short(error)})", _SAVE_AGAIN) from None
        if len(unpacked) != size or zlib.crc32(unpacked) != info.CRC:
            raise FileRefusedError(
                self._path, name, "the unpacked member has another size or checksum than the archive says", _SAVE_AGAIN
            )
        return unpacked
