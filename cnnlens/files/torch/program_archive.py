"""A ``.pt2`` archive of ``torch.export.save``, read without torch: a zip archive of JSON and raw arrays.

The graph stands in ``models/NAME.json``, every array in a member of its own, uncompressed, so that it is mapped and not
copied. What PyTorch pickled beside them (example inputs, objects of extension classes) is never touched. The layout is
that of ``torch.export.pt2_archive`` since torch 2.8; older archives are refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.files import jsontext
from cnnlens.files.arrays import WIDENED, StoredArray, check_shape, decode, widened_type
from cnnlens.files.container import Archive, Member, open_archive
from cnnlens.files.jsontext import integer, mapping, text
from cnnlens.files.limits import LIMITS, check_items, human_bytes, remarks, unpacked_at_most
from cnnlens.files.model_file import check_crc, other_entries
from cnnlens.files.torch.program import SCALAR_TYPES, Program
from cnnlens.files.torch.program_network import torch_network
from cnnlens.files.torch.program_reader import SAVE_AGAIN, read_program
from cnnlens.files.torch.storages import check_arrays
from cnnlens.network.graph import Extra
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["ExportSource", "open_export", "read_export", "read_graph"]

_EXTRA = "/extra/"  # of the archive: what a person gave to be kept beside the program
_EXPORT_AGAIN = "save it again with a newer torch (torch.export.load and torch.export.save; 2.13 was tried)"
_OLD = ("serialized_exported_program.json", "serialized_state_dict.pt", "serialized_state_dict.json")


class ExportSource:
    """Says where an exported network came from; see ``cnnlens.network.graph.Source``.

    Attributes:
        torch_version: The PyTorch that exported it, as the file says.
        also: What a person put into the archive beside the program.
    """

    format = "torch export"
    framework = "torch"
    keras_version = None

    def __init__(self, path: Path, data: memoryview, torch_version: str = "", also: Sequence[Extra] = ()) -> None:
        self.path = path
        self.also = tuple(also)
        self.size = len(data)
        self.torch_version = torch_version
        self._data = data
        self._sha256: str | None = None

    @property
    def sha256(self) -> str:
        """Compute SHA-256 of the file in hexadecimal, when first asked for."""
        if self._sha256 is None:
            import hashlib

            self._sha256 = hashlib.sha256(self._data).hexdigest()
        return self._sha256


def open_export(path: Path, data: memoryview, members: Archive | None = None) -> Network:
    """Read the network in a ``.pt2`` archive.

    Args:
        path: The file, for messages.
        data: All its bytes, mapped.
        members: Its members, where the archive was opened already.

    Raises:
        FileRefusedError: it is no such archive, an older one, damaged, or asks for more than ``limits.LIMITS`` allows.
    """
    members = open_archive(path, data) if members is None else members
    program, arrays, notes = read_export(path, data, members)
    source = ExportSource(path, data, program.torch_version, other_entries(members, lambda name: _EXTRA in name))
    return torch_network(program, arrays, source, path.stem, remarks(notes))


def read_export(
    path: Path, data: memoryview, members: Mapping[str, Member] | None = None
) -> tuple[Program, dict[str, StoredArray], list[str]]:
    """Read the program in a ``.pt2`` archive, its arrays by name, and remarks; see ``open_export``."""
    members = open_archive(path, data) if members is None else members
    program, root, name = _program(path, members)
    legacy = f"{root}data/weights/{name}.pt"
    if legacy in members:
        raise FileRefusedError(
            path, legacy, "all its weights are one pickle, as older versions of torch wrote them", _EXPORT_AGAIN
        )
    notes: list[str] = []
    reader = _Arrays(path, root, members, notes)
    arrays = {
        **reader.read("weights", f"{root}data/weights/{name}_weights_config.json"),
        **reader.read("constants", f"{root}data/constants/{name}_constants_config.json"),
    }
    check_arrays(path, arrays, len(data))
    check_items(path, len(program.nodes), "nodes in its graph", len(data))
    for wanted in program.weights.values():
        if wanted not in arrays and not notes:
            notes.append(f"the file has no array '{printable(wanted, 80)}', which its graph uses")
    return program, arrays, notes


def read_graph(path: Path, data: memoryview) -> Program:
    """Read the program alone of what a live module was just written as, whose arrays are those of the module."""
    return _program(path, open_archive(path, data))[0]


def _program(path: Path, members: Mapping[str, Member]) -> tuple[Program, str, str]:
    root = _root(members)
    if root is None:
        if any(name.rpartition("/")[2] in _OLD for name in members):
            raise FileRefusedError(path, "", "an export of torch 2.7 or older", _EXPORT_AGAIN)
        raise FileRefusedError(path, "", "no archive of torch.export", "save the model with torch.export.save")
    name = _model_name(path, root, members)
    place = f"{root}models/{name}.json"
    program = read_program(path, place, jsontext.decode(path, place, bytes(_limited(path, members[place]).data)))
    return program, root, name


def _root(names: Mapping[str, Any]) -> str | None:
    """The folder in the archive that everything is in, with its slash."""
    for name in names:
        folder, _, last = name.rpartition("/")
        if last == "archive_format" and folder.count("/") == 0:
            return f"{folder}/" if folder else ""
    return None


def _model_name(path: Path, root: str, members: Mapping[str, Member]) -> str:
    prefix = f"{root}models/"
    names = [one[len(prefix) : -len(".json")] for one in members if one.startswith(prefix) and one.endswith(".json")]
    if not names:
        compiled = any(one.startswith(f"{root}data/aotinductor/") for one in members)
        what = (
            "compiled code (AOTInductor) without a graph" if compiled else "an archive of torch.export without a model"
        )
        raise FileRefusedError(path, "", what, "save the model with torch.export.save")
    if len(names) > 1 and "model" not in names:
        shown = ", ".join(f"'{printable(one, 40)}'" for one in names[:4])
        raise FileRefusedError(
            path, "", f"{len(names)} models in one archive ({shown})", "save each in a file of its own"
        )
    return "model" if "model" in names else names[0]


def _limited(path: Path, member: Member) -> Member:
    if len(member.data) > LIMITS.json_bytes:
        size, most = human_bytes(len(member.data)), human_bytes(LIMITS.json_bytes)
        raise FileRefusedError(path, member.place, f"a JSON text of {size}, {most} at most", SAVE_AGAIN)
    if member.crc:  # torch writes zeros where it was told to leave checksums out
        check_crc(path, member)
    return member


class _Arrays:
    """The arrays of an archive, by the two tables of contents that it has."""

    def __init__(self, path: Path, root: str, members: Mapping[str, Member], notes: list[str]) -> None:
        self.path = path
        self.root = root
        self.members = members
        self.notes = notes
        order = members.get(f"{root}byteorder")
        self.big = order is not None and bytes(order.data[:3]) == b"big"
        self.checked: set[str] = set()

    def read(self, folder: str, table: str) -> dict[str, StoredArray]:
        if table not in self.members:
            return {}
        data = jsontext.decode(self.path, table, bytes(_limited(self.path, self.members[table]).data))
        arrays: dict[str, StoredArray] = {}
        for name, entry in mapping(data.get("config")).items():
            found = self._array(folder, name, mapping(entry))
            if found is not None:
                arrays[name] = found
        return arrays

    def _array(self, folder: str, name: str, entry: Mapping[str, Any]) -> StoredArray | None:
        if entry.get("use_pickle") or not isinstance(entry.get("tensor_meta"), dict):
            self.notes.append(f"'{printable(name, 80)}' is pickled, and is not read; what uses it cannot be computed")
            return None
        place = f"{self.root}data/{folder}/{text(entry.get('path_name'))}"
        if place not in self.members:
            raise FileRefusedError(
                self.path, place, f"the array '{printable(name, 80)}' is not in the archive", SAVE_AGAIN
            )
        meta = mapping(entry["tensor_meta"])
        stored_dtype = SCALAR_TYPES.get(integer(meta.get("dtype")) or 0, "")
        if stored_dtype == "complex32" or not stored_dtype or meta.get("layout", 7) != 7:
            what = stored_dtype or f"of type {printable(meta.get('dtype'), 20)}"
            what = "sparse" if meta.get("layout", 7) != 7 else what
            self.notes.append(f"'{printable(name, 80)}' is {what}, which is not read; what uses it cannot be computed")
            return None
        shape = self._numbers(name, meta.get("sizes"))
        strides = self._numbers(name, meta.get("strides"))
        offset = integer(mapping(meta.get("storage_offset")).get("as_int"))
        if len(strides) != len(shape) or offset is None or offset < 0:
            raise self._refused(name, "strides or an offset that do not fit its shape")
        member = self.members[place]
        dtype = np.dtype(WIDENED.get(stored_dtype, (stored_dtype,))[0])
        check_shape(self.path, f"data: {name}", shape, SAVE_AGAIN)
        self._check_extent(name, member, dtype, shape, strides, offset)
        raw = dtype.newbyteorder(">") if self.big else dtype

        def load() -> NDArray[Any]:
            if place not in self.checked and member.crc:
                check_crc(self.path, member)
                self.checked.add(place)
            flat = np.frombuffer(member.data, raw, len(member.data) // raw.itemsize)
            steps = [step * raw.itemsize if size > 1 else 0 for size, step in zip(shape, strides, strict=True)]
            if not math.prod(shape):
                return np.zeros(shape, widened_type(stored_dtype))
            array = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
            return decode(array.astype(dtype, copy=False), stored_dtype)

        return StoredArray(shape, widened_type(stored_dtype), stored_dtype, name, load)

    def _refused(self, name: str, reason: str) -> FileRefusedError:
        return FileRefusedError(self.path, f"data: {name}", reason, SAVE_AGAIN)

    def _numbers(self, name: str, value: Any) -> tuple[int, ...]:
        parts = cast("list[Any]", value) if isinstance(value, list) else None
        numbers = None if parts is None else [integer(mapping(part).get("as_int")) for part in parts]
        if numbers is None or len(numbers) > 64 or any(one is None or not 0 <= one < 1 << 48 for one in numbers):
            raise self._refused(name, "a shape or strides that are no whole numbers")
        return tuple(one for one in numbers if one is not None)

    def _check_extent(
        self,
        name: str,
        member: Member,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int,
    ) -> None:
        """That the array lies inside of its member, and is no larger than its bytes could honestly make it."""
        if not math.prod(shape):
            return
        last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
        if (last + 1) * dtype.itemsize > len(member.data):
            raise self._refused(
                name, f"{human_bytes((last + 1) * dtype.itemsize)} are needed, {human_bytes(len(member.data))} there"
            )
        needed = math.prod(shape) * dtype.itemsize
        if needed > unpacked_at_most(len(member.data)):
            raise self._refused(name, f"{human_bytes(len(member.data))} spread over {human_bytes(needed)}")
