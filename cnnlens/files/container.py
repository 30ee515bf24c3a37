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
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cnnlens.errors import FileRefusedError, ForeignFileError
from cnnlens.files.limits import LIMITS, human_bytes, unpacked_at_most
from cnnlens.files.signatures import OPENS, foreign_bytes
from cnnlens.text import nearest, printable

__all__ = [
    "NAMES", "OPENS", "Archive", "Member", "beside", "member_of", "open_archive", "open_file", "packed_members",
    "sniff",
]  # fmt: skip

_SAVE_AGAIN = "save the model again, or fetch the file again if it was downloaded"

NAMES = {
    "zip": "a zip archive", "hdf5": "an HDF5 file", "json": "a JSON text", "pickle": "a Python pickle",
    "tar": "a tar archive", "safetensors": "a safetensors file",
}  # fmt: skip
"""What :func:`sniff` tells apart, for messages."""


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
    """Map the bytes of a regular file, read-only; those of one in an archive where ``path`` is ``ARCHIVE::MEMBER``.

    Raises:
        FileRefusedError: No such file, no permission, empty, or no regular file; no such member, or none that
            ``LIMITS`` allows to unpack.
    """
    archive, name = member_of(path)
    if name:
        return _open_member(path, archive, name)
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
        ForeignFileError: It is of another kind, which is named.
        FileRefusedError: Its kind cannot be told.
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
    foreign = foreign_bytes(data)
    if foreign is not None:
        raise ForeignFileError(path, foreign)
    begins = f"it begins with {head[:8].hex(' ')}"
    raise FileRefusedError(path, "", f"neither a zip archive nor HDF5, safetensors or a pickle ({begins})", OPENS)


def open_archive(path: Path, data: memoryview, wanted: str | None = None) -> Archive:
    """List the members of a zip archive by name; stored ones mapped, deflated ones unpacked on request only.

    Args:
        path: The archive, for messages.
        data: The whole archive.
        wanted: The one member that will be read, whose size alone is then held against what an archive may unpack to;
            None for all of them.

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
            starts = _check_members(path, data, infos, wanted)
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


def _check_members(path: Path, data: memoryview, infos: list[zipfile.ZipInfo], wanted: str | None) -> dict[str, int]:
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
        if info.compress_type == zipfile.ZIP_DEFLATED and wanted in (None, name):
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


def _is_wide(data: memoryview, info: zipfile.ZipInfo) -> bool:
    """Whether a member's own header has a zip64 field, whose data descriptor then has eight bytes a size."""
    name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    at, end = info.header_offset + 30 + name, info.header_offset + 30 + name + extra
    while at + 4 <= end:
        kind, length = struct.unpack_from("<HH", data, at)
        if kind == 1:
            return True
        at += 4 + length
    return False


class Archive(Mapping[str, Member]):
    """Gives members by name. Getting a deflated one unpacks it, within the limits, and checks its CRC-32."""

    def __init__(self, path: Path, data: memoryview, infos: list[zipfile.ZipInfo], starts: dict[str, int]) -> None:
        self._path = path
        self._data = data
        self._infos = {info.orig_filename: info for info in infos if not info.is_dir()}
        self._starts = starts
        self._all = infos

    def __iter__(self):
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def size(self, name: str) -> int:
        """Count bytes of a member, unpacked, as the archive's directory says."""
        return self._infos[name].file_size

    def strays(self) -> int:
        """Count the bytes in front of, between and behind the members that belong to none of them."""
        count = at = 0
        for info in sorted(self._all, key=lambda info: info.header_offset):
            count += max(info.header_offset - at, 0)
            at = self._starts[info.orig_filename] + info.compress_size
            if info.flag_bits & 8:  # sizes and checksum once more, behind what they are of
                marked = bytes(self._data[at : at + 4]) == b"PK\x07\x08"
                wide = info.file_size > 0xFFFFFFFF or _is_wide(self._data, info)
                at += (4 if marked else 0) + (20 if wide else 12)
        tail = bytes(self._data[-65_557:])
        end = len(self._data) - len(tail) + tail.rfind(b"PK\x05\x06")
        size, _, comment = struct.unpack_from("<IIH", self._data, end + 12)
        directory = end - size
        if bytes(self._data[max(end - 20, 0) : max(end - 16, 0)]) == b"PK\x06\x07":
            record = struct.unpack_from("<Q", self._data, end - 12)[0]
            directory = record - struct.unpack_from("<Q", self._data, record + 40)[0]
        return count + max(directory - at, 0) + max(len(self._data) - end - 22 - comment, 0)

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


# --- files in archives ----------------------------------------------------------------------------------------------

_UNPACK = "unpack it yourself and name the file"
_PACKED = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"))


def member_of(path: Path) -> tuple[Path, str]:
    """Take ``ARCHIVE::MEMBER`` apart; the member is empty where ``path`` names a file of its own.

    Raises:
        FileRefusedError: it names an archive in an archive.
    """
    text = os.fspath(path)
    if "::" not in text or os.path.lexists(text):
        return path, ""
    archive, _, name = text.partition("::")
    if "::" in name or not archive or not name:
        reason = "ARCHIVE::MEMBER was expected, with one '::'; archives in archives are not looked into"
        raise FileRefusedError(path, "", reason, _UNPACK)
    return Path(archive), name.replace(os.sep, "/")  # in an archive it is '/', whatever a Path made of it


def beside(path: Path, name: str) -> Path:
    """Name the file ``name`` in the folder of ``path``, which for a member is a folder of its archive."""
    archive, member = member_of(path)
    folder = member.rpartition("/")[0]
    return Path(f"{archive}::{folder}/{name}" if folder else f"{archive}::{name}") if member else path.parent / name


def packed_members(
    path: Path, data: memoryview, wanted: str | None = None
) -> tuple[str, Mapping[str, Callable[[], Member]]]:
    """Say what kind of archive a file is, empty where it is none, and list its members, each read when called.

    Args:
        path: The archive, for messages.
        data: Its bytes.
        wanted: The member that will be read; None where the names alone are wanted.

    Raises:
        FileRefusedError: The archive is damaged, or unpacks to more than ``LIMITS`` allows.
    """
    if bytes(data[:4]) in (b"PK\x03\x04", b"PK\x05\x06"):
        members = open_archive(path, data, wanted or "")
        return "a zip archive", {name: lambda name=name: members[name] for name in members}
    kind = next((kind for magic, kind in _PACKED if bytes(data[:6]).startswith(magic)), "")
    if kind:
        data = memoryview(_unpacked(path, data, kind, wanted is None))
    if bytes(data[257:262]) == b"ustar":
        return f"a tar archive packed by {kind}" if kind else "a tar archive", _tar_members(path, data, wanted is None)
    if not kind:
        return "", {}
    return f"a {kind} archive", {path.stem: lambda: Member(path.stem, data)}


def _unpacked(path: Path, data: memoryview, kind: str, beginning: bool) -> bytes:
    """The bytes of a packed file, or as many of them as tell what is in it."""
    import bz2
    import lzma

    makers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: zlib.decompressobj(31),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma.LZMADecompressor(memlimit=LIMITS.inflate_free_bytes * 2),
    }
    most = LIMITS.inflate_free_bytes if beginning else min(LIMITS.inflated_bytes, unpacked_at_most(len(data)))
    try:
        unpacker = makers[kind]()
        found = unpacker.decompress(bytes(data), most + 1) if kind != "gzip" else unpacker.decompress(data, most + 1)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
        raise FileRefusedError(path, "", f"damaged {kind} archive ({_short(error)})", _SAVE_AGAIN) from None
    if beginning:
        return found
    if len(found) > most:
        reason = f"{human_bytes(len(data))} that unpack to more than {human_bytes(most)}"
        raise FileRefusedError(path, "", reason, _UNPACK)
    if not unpacker.eof:
        raise FileRefusedError(path, "", f"truncated {kind} archive (its end is missing)", _SAVE_AGAIN)
    return found


def _tar_members(path: Path, data: memoryview, beginning: bool) -> dict[str, Callable[[], Member]]:
    found: dict[str, Callable[[], Member]] = {}
    try:
        with tarfile.TarFile(fileobj=_MappedFile(data), mode="r") as archive:  # pyright: ignore[reportArgumentType]
            for count, info in enumerate(archive):
                if count >= LIMITS.zip_members:
                    reason = f"more than {LIMITS.zip_members} members in the archive"
                    raise FileRefusedError(path, "", reason, _UNPACK)
                if not info.isreg() or info.issparse():
                    continue
                name = info.name.removeprefix("./")
                unsafe = _unsafe_name(name)
                if unsafe or name in found:
                    reason = f"a member name {unsafe}" if unsafe else "two members of this name"
                    raise FileRefusedError(path, name, reason, _UNPACK)
                piece = data[info.offset_data : info.offset_data + info.size]
                if len(piece) != info.size and not beginning:
                    raise FileRefusedError(path, name, "the member ends behind the end of the file", _SAVE_AGAIN)
                found[name] = lambda name=name, piece=piece: Member(name, piece)
    except FileRefusedError:
        raise
    except Exception as error:  # tarfile and codecs raise a dozen kinds on damaged archives
        if not (beginning and found):
            raise FileRefusedError(path, "", f"damaged tar archive ({_short(error)})", _SAVE_AGAIN) from None
    return found


def _open_member(path: Path, archive: Path, name: str) -> memoryview:
    data = open_file(archive)
    kind, members = packed_members(archive, data, name)
    if not kind:
        raise FileRefusedError(path, "", "what stands before '::' is no zip or tar archive", "name the file itself")
    if name not in members:
        raise FileRefusedError(path, "", f"{kind} without such a member", nearest(name, members))
    member = members[name]()
    if not len(member.data):
        raise FileRefusedError(path, "", "the member is empty (0 bytes)", _SAVE_AGAIN)
    if member.crc is not None and zlib.crc32(member.data) != member.crc:
        raise FileRefusedError(path, "", "its bytes do not fit their checksum", _SAVE_AGAIN)
    return member.data
