"""The containers that ``torch.save`` writes, opened without torch: the zip archive since 1.6 and the file before it.

Both hold a pickle that says what there is and where, and runs of bytes that the pickle's tensors are views of. The
pickle is read as data (:mod:`cnnlens.files.torch.pickle`), the bytes are mapped. Source of both formats:
``torch/serialization.py`` (torch 2.13), ``_save`` and ``_legacy_save``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import FileRefusedError
from cnnlens.files.container import Archive, Member
from cnnlens.files.limits import human_bytes
from cnnlens.files.model_file import check_crc, other_entries
from cnnlens.files.torch.pickle import load_pickle
from cnnlens.files.torch.pickle_values import DTYPES, EXPORT, StorageRef
from cnnlens.files.torch.storages import Storage, StorageFinder
from cnnlens.network.graph import Extra

__all__ = ["Contents", "is_torch_archive", "open_legacy", "open_torch_archive", "refuse_tar"]

_AGAIN = "fetch the file again, or save it again with torch.save"
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@dataclass(frozen=True, slots=True)
class Contents:
    """Says what a file of ``torch.save`` holds.

    Attributes:
        format: For people.
        root: The pickled object, in plain containers.
        find: From a tensor's storage to its bytes.
        notes: Remarks on the container.
        verify: Compares every checksum.
        folder: The folder in an archive that everything is in, with its slash.
        find_in: Gives another ``find``, for storages in another folder of the archive.
        also: What a person put into the archive beside the model.
    """

    format: str
    root: Any
    find: StorageFinder
    notes: tuple[str, ...] = ()
    verify: tuple[Callable[[], None], ...] = ()
    folder: str = ""
    find_in: Callable[[str], StorageFinder] | None = None
    also: tuple[Extra, ...] = ()


# --- zip ------------------------------------------------------------------------------------------------------------


def is_torch_archive(members: Mapping[str, Member]) -> bool:
    """Tell whether ``torch.save`` or TorchScript wrote an archive: a ``data.pkl`` at its top or one folder down."""
    return any(name.endswith("data.pkl") and name.count("/") <= 1 for name in members)


def open_torch_archive(path: Path, members: Archive) -> Contents:
    """Open a zip archive of ``torch.save``, or of ``torch.jit.save``, which has the model's code beside its tensors.

    Raises:
        FileRefusedError: A pickle outside the vocabulary, storages that are not as declared.
    """
    tops = sorted(name for name in members if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1)
    if len(tops) != 1:
        raise FileRefusedError(path, "", f"an archive with {len(tops)} pickles data.pkl where torch has one", _AGAIN)
    top = tops[0]
    root = top.removesuffix("data.pkl")
    scripted = f"{root}constants.pkl" in members or any(name.startswith(f"{root}code/") for name in members)
    pickle = members[top]
    notes: list[str] = []
    # torch can be told to leave checksums out (set_crc32_options); it then writes zeros for all members.
    checksums = pickle.crc != 0
    if checksums:
        check_crc(path, pickle)
    else:
        notes.append("the archive was written without checksums")
    value, end = load_pickle(path, top, pickle.data)
    if end < len(pickle.data):
        notes.append(f"{human_bytes(len(pickle.data) - end)} behind the end of the pickle are not read")
    big_endian = _big_endian(path, members, f"{root}byteorder")
    # torch 1.4, which wrote zip archives where it was told to, had another folder for them; no torch since reads it.
    early = not scripted and any(name.startswith(f"{root}tensors/") for name in members)
    zipped = _Zipped(path, members, f"{root}{'tensors' if early else 'data'}/", big_endian, checksums)
    return Contents(
        "torch script" if scripted else "torch state dict", value, zipped.find, tuple(notes),
        (zipped.verify,) if checksums else (), root,
        lambda folder: _Zipped(path, members, root + folder, big_endian, checksums).find,
        tuple(other_entries(members, lambda name: name.startswith(f"{root}extra/"))),
    )  # fmt: skip


def _big_endian(path: Path, members: Archive, name: str) -> bool:
    if name not in members:
        return False
    order = bytes(members[name].data[:10])
    if order not in (b"little", b"big"):
        raise FileRefusedError(path, name, "a byte order that is neither little nor big", _AGAIN)
    return order == b"big"


class _Zipped:
    """The storages of an archive, each looked up once."""

    def __init__(self, path: Path, members: Archive, folder: str, big_endian: bool, checksums: bool) -> None:
        self._path = path
        self._members = members
        self._folder = folder
        self._big_endian = big_endian
        self._checksums = checksums
        self._found: dict[str, Storage] = {}

    def find(self, ref: StorageRef) -> Storage:
        name = self._folder + ref.key
        storage = self._found.get(name)
        if storage is None:
            if name not in self._members:
                raise FileRefusedError(self._path, name, "the archive lacks this storage", _AGAIN)
            storage = self._found[name] = Storage(self._members.size(name), lambda: self._load(name), self._big_endian)
        declared = ref.numel * DTYPES[ref.dtype][0]
        if not declared <= storage.nbytes < declared + DTYPES[ref.dtype][0]:
            raise FileRefusedError(
                self._path, name, f"a storage of {storage.nbytes:,} bytes where the pickle says {declared:,}", _AGAIN
            )
        return storage

    def _load(self, name: str) -> memoryview:
        member, storage = self._members[name], self._found[name]
        if not storage.checked:
            if self._checksums:
                check_crc(self._path, member)
            storage.checked = True
        return member.data

    def verify(self) -> None:
        for name in self._members:
            check_crc(self._path, self._members[name])


# --- before 1.6 -----------------------------------------------------------------------------------------------------


def refuse_tar(path: Path) -> FileRefusedError:
    """Refuse a tar archive, which PyTorch wrote until 0.1.10 and which is all pickles."""
    return FileRefusedError(
        path,
        "",
        "a tar archive, such as PyTorch wrote before 0.1.11",
        "load it with torch where you trust it, and save the state dict again with torch.save",
    )


def open_legacy(path: Path, data: memoryview) -> Contents:
    """Open a file of ``torch.save`` before 1.6, or with ``_use_new_zipfile_serialization=False``.

    Five pickles (a magic number, the protocol, the writer's machine, the object, the storages' keys), then for each
    storage its number of elements (eight bytes) and its elements, both little-endian on every machine.
    """
    magic, at = load_pickle(path, "", data)
    if magic != _MAGIC or type(magic) is not int:
        raise FileRefusedError(
            path, "", "a Python pickle that torch.save did not write; nothing in it was executed", EXPORT
        )
    protocol, at = load_pickle(path, "protocol version", data, at)
    if protocol != _PROTOCOL or type(protocol) is not int:
        raise FileRefusedError(path, "protocol version", "a protocol that torch never wrote", _AGAIN)
    _, at = load_pickle(path, "system information", data, at)
    named: dict[str, StorageRef] = {}
    value, at = load_pickle(path, "pickle", data, at, named)
    keys, at = load_pickle(path, "storage keys", data, at)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in cast("list[Any]", keys)):
        raise FileRefusedError(path, "storage keys", "no list of names", _AGAIN)
    storages: dict[str, Storage] = {}
    for key in cast("list[str]", keys):
        place = f"storage {key}"
        if key not in named or key in storages:
            raise FileRefusedError(path, place, "a storage that no tensor names, or named twice", _AGAIN)
        if at + 8 > len(data):
            raise FileRefusedError(path, place, "the file ends in front of it", _AGAIN)
        numel = struct.unpack_from("<q", data, at)[0]
        start, size = at + 8, numel * DTYPES[named[key].dtype][0]
        if size < 0 or start + size > len(data):
            raise FileRefusedError(path, place, f"the file ends within it ({numel:,} elements declared)", _AGAIN)
        at = start + size
        piece = data[start:at]
        storages[key] = Storage(size, lambda piece=piece: piece)
    notes = (f"{human_bytes(len(data) - at)} behind the last storage are not read",) if at < len(data) else ()

    def find(ref: StorageRef) -> Storage:
        storage = storages.get(ref.key)
        if storage is None:
            raise FileRefusedError(path, f"storage {ref.key}", "the file lacks this storage", _AGAIN)
        if storage.nbytes != ref.numel * DTYPES[ref.dtype][0]:
            raise FileRefusedError(
                path,
                f"storage {ref.key}",
                f"a storage of {storage.nbytes:,} bytes where the pickle says {ref.numel:,} of {ref.dtype}",
                _AGAIN,
            )
        return storage

    return Contents("torch state dict (legacy)", value, find, notes)
