"""The index of an HDF5 file: its groups, and its arrays as places to read from later.

pyfive, a parser in pure Python, reads the metadata; nothing else of HDF5 comes near the file. What pyfive takes on
trust is checked here: where an array's bytes lie and how many there are, which links lead out of the file, how often
one object is named, and how much work the index may cause. Only ``pyfive_parts`` imports pyfive.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import StoredArray, check_shape, decode
from cnnlens.files.container import Member
from cnnlens.files.hdf5.chunks import Chunk, ChunkedLayout, read_chunks
from cnnlens.files.hdf5.datatypes import BFLOAT16, NotANumberTypeError, NumberType, number_type
from cnnlens.files.hdf5.messages import ForeignLinkError, attribute, link, symbol_table
from cnnlens.files.hdf5.pyfive_parts import chunk_nodes, header_at, linked, read_attributes, root_address
from cnnlens.files.hdf5.window import LimitExceededError, Window, guard
from cnnlens.files.limits import LIMITS, human_bytes, items_at_most, remarks, unpacked_at_most
from cnnlens.text import printable

__all__ = ["Group", "Index", "open_index", "stated_end"]

_UNDEFINED = 0xFFFFFFFFFFFFFFFF
_SAVE_AGAIN = "save the model again with Keras, or fetch the file again if it was downloaded"
_NOT_BY_KERAS = "Keras writes no such thing: rewrite the file by loading and saving it with a program you trust it to"

# Object header messages, by number in the HDF5 File Format Specification 3.0, IV.A.2.
_LINK_INFO, _DATATYPE, _LINK, _EXTERNAL_FILES, _LAYOUT, _SYMBOL_TABLE = 0x02, 0x03, 0x06, 0x07, 0x08, 0x11
_SHARED_FLAG = 2


@dataclass(slots=True)
class Group:
    """Holds a group: sub-groups and arrays by name, in the file's order, and attributes, parsed when asked for."""

    place: str
    groups: dict[str, Group] = field(default_factory=dict[str, "Group"])
    arrays: dict[str, StoredArray] = field(default_factory=dict[str, StoredArray])
    load_attributes: Callable[[], dict[str, object]] = dict
    _attributes: Mapping[str, object] | None = None

    @property
    def attributes(self) -> Mapping[str, object]:
        """Attribute values: str, list of str, NumPy arrays of numbers, or None for types that no model file uses."""
        if self._attributes is None:
            self._attributes = _Attributes(self.load_attributes())
        return self._attributes

    def arrays_below(self) -> Iterator[StoredArray]:
        """List every array in this group and the groups below it."""
        yield from self.arrays.values()
        for group in self.groups.values():
            yield from group.arrays_below()


class _Attributes(Mapping[str, object]):
    """Attributes whose texts are decoded when they are asked for: many may share the bytes of one long text."""

    def __init__(self, raw: Mapping[str, object]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> object:
        return _plain(self._raw[name])

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


@dataclass(frozen=True, slots=True)
class Index:
    """Says what an HDF5 file holds, in how many groups and arrays, and remarks about what was passed over."""

    root: Group
    notes: tuple[str, ...]
    objects: int = 0


def stated_end(data: memoryview) -> int | None:
    """Say how many bytes an HDF5 file says that it has; None where its superblock cannot be understood.

    Source: HDF5 File Format Specification 3.0, II.A: the end-of-file address stands behind two other addresses.
    """
    if len(data) < 64 or data[8] > 3:
        return None
    width, at = (data[13], 24 if data[8] == 0 else 28) if data[8] < 2 else (data[9], 12)
    return int.from_bytes(data[at + 2 * width : at + 3 * width], "little") if width in (4, 8) else None


def open_index(
    path: Path,
    member: Member,
    *,
    skip: frozenset[str] = frozenset(),
    only: frozenset[str] = frozenset(),
    before_read: Callable[[], None] | None = None,
) -> Index:
    """Read the groups and arrays of the HDF5 file in ``member``.

    Args:
        path: The file, for messages.
        member: The bytes.
        skip: Names of groups at the root that are not looked into (optimizer state); ``only``: of those that alone are.
        before_read: Called before the bytes of an array are first read (a checksum, say); may raise.

    Raises:
        FileRefusedError: No HDF5, damaged, or with links, storage or sizes that are refused.
    """
    end = stated_end(member.data)
    if end is not None and end > len(member.data):
        reason = f"the file was cut off: it states {human_bytes(end)}, and {human_bytes(len(member.data))} are there"
        raise FileRefusedError(path, member.place, reason, "fetch it again, or save the model again")
    return _Walk(path, member, skip, only, before_read).index()


class _Walk:
    """One pass over a file's groups."""

    def __init__(
        self,
        path: Path,
        member: Member,
        skip: frozenset[str],
        only: frozenset[str],
        before_read: Callable[[], None] | None,
    ) -> None:
        self._path = path
        self._member = member
        self._skip = skip
        self._only = only
        self._before_read = before_read
        self._window = Window(member.data)
        self._texts: dict[int, Any] = {}
        self._names: dict[int, int] = {}
        self._objects = 0
        self._most = items_at_most(len(member.data))
        self._messages = 0
        self._characters = 0
        self._contiguous = 0
        self._chunked = 0
        self._chunks = 0
        self._notes: list[str] = []

    def index(self) -> Index:
        """The whole index."""
        with guard(self._path, self._member.place):
            address = root_address(self._window)
            if address is None:
                raise self._refuse("", "a file whose addresses do not count from its start")
            header = self._header(address)
            root = Group("", load_attributes=self._attributes(header, ""))
            pending: list[tuple[Group, Any, tuple[int, ...]]] = [(root, header, (address,))]
            while pending:
                group, header, ancestors = pending.pop()
                pending.extend(reversed(self._fill(group, header, ancestors)))
        return Index(root, remarks(self._notes), self._objects)

    def _refuse(self, place: str, reason: str, way_out: str = _NOT_BY_KERAS) -> FileRefusedError:
        return FileRefusedError(self._path, self._full(place), reason, way_out)

    def _full(self, place: str) -> str:
        return ": ".join(part for part in (self._member.place, place) if part)

    def _fill(self, group: Group, header: Any, ancestors: tuple[int, ...]) -> list[tuple[Group, Any, tuple[int, ...]]]:
        below: list[tuple[Group, Any, tuple[int, ...]]] = []
        if len(ancestors) > LIMITS.hdf5_depth:
            raise self._refuse(group.place, f"groups nested more than {LIMITS.hdf5_depth} deep")
        for name, target in self._links(group.place, header):
            if not group.place and (name in self._skip or (self._only and name.split("\\")[0] not in self._only)):
                continue
            place = f"{group.place}/{name}" if group.place else name
            if not isinstance(target, int):
                raise self._refuse(place, "a soft link")
            if target in ancestors:
                raise self._refuse(place, "a group that contains itself")
            self._count(place, target)
            with guard(self._path, self._full(place)):
                header_below = self._header(target)
                if header_below.is_dataset:
                    array = self._array(place, header_below)
                    if array is not None:
                        group.arrays[name] = array
                elif any(message["type"] in (_LINK_INFO, _LINK, _SYMBOL_TABLE) for message in header_below.msgs):
                    child = Group(place, load_attributes=self._attributes(header_below, place))
                    group.groups[name] = child
                    below.append((child, header_below, (*ancestors, target)))
        return below

    def _links(self, place: str, header: Any) -> list[tuple[str, int | str | None]]:
        """Names and targets in a group: an address, or None or a text for a soft link."""
        found: dict[str, int | str | None] = {}
        with guard(self._path, self._full(place)):
            try:
                for name, target in self._raw_links(header):
                    if name in found:
                        raise self._refuse(place, f"two objects named '{printable(name)}' in one group")
                    self._count_characters(place, name)
                    found[name] = target
                    if len(found) > self._most:
                        raise self._refuse(place, f"more than {self._most:,} objects in one group")
            except ForeignLinkError as error:
                raise self._refuse(place, str(error)) from None
        return list(found.items())

    def _raw_links(self, header: Any) -> Iterator[tuple[str, int | str | None]]:
        for message in header.msgs:
            at = int(message["offset_to_message"])
            if message["type"] == _SYMBOL_TABLE:
                btree, heap = struct.unpack_from("<QQ", header.msg_data, at)
                yield from symbol_table(self._window, btree, heap)
            elif message["type"] == _LINK:
                yield link(header.msg_data, at)[1]
            elif message["type"] == _LINK_INFO:
                yield from linked(header, message, link)

    def _count_characters(self, place: str, name: str) -> None:
        if len(name) > LIMITS.hdf5_name_characters:
            raise self._refuse(place, f"a name of {len(name)} characters")
        self._characters += len(place) + len(name)
        if self._characters > LIMITS.hdf5_all_characters:
            raise self._refuse(place, f"names and paths of more than {LIMITS.hdf5_all_characters} characters in all")

    def _count(self, place: str, address: int) -> None:
        self._objects += 1
        if self._objects > self._most:
            raise self._refuse(place, f"more than {self._most:,} objects in a file of its size")
        names = self._names[address] = self._names.get(address, 0) + 1
        if names > LIMITS.hdf5_names_an_object:
            raise self._refuse(place, f"the {names}th name (hard link) of one object")

    def _header(self, address: int) -> Any:
        """The header of the object at an address: its messages, located but not understood."""
        with self._window.header():
            header = header_at(self._window, address, self._texts)
        self._messages += len(header.msgs)
        if self._messages > LIMITS.hdf5_messages + LIMITS.hdf5_messages_an_object * self._objects:
            raise LimitExceededError("an index of far more messages than objects")
        return header

    def _attributes(self, header: Any, place: str) -> Callable[[], dict[str, object]]:
        def load() -> dict[str, object]:
            with guard(self._path, self._full(place)):
                return read_attributes(header, attribute)

        return load

    def _array(self, place: str, header: Any) -> StoredArray | None:
        """The dataset as an array to be read later; None, with a note, where it holds no numbers."""
        if header.find_msg_type(_EXTERNAL_FILES):
            raise self._refuse(place, "an array whose bytes lie in another file (external storage)")
        try:
            number = self._number(place, header)
        except NotANumberTypeError as reason:
            self._notes.append(f"{printable(place, 200)} is no weight (its element is {reason}) and is left out")
            return None
        shape = header.shape
        if shape is None:
            self._notes.append(f"{printable(place, 200)} is empty (a null dataspace) and is left out")
            return None
        axes = tuple(int(size) for size in shape)
        if len(axes) > LIMITS.hdf5_dimensions:
            raise self._refuse(place, f"an array of {len(axes)} axes", _SAVE_AGAIN)
        check_shape(self._path, self._full(place), axes, _SAVE_AGAIN)
        load = self._storage(place, header, axes, number)
        return StoredArray(axes, number.logical, number.stored, self._full(place), load)

    def _number(self, place: str, header: Any) -> NumberType:
        message = self._body(place, header, _DATATYPE)
        if message[0] & 0x0F != 5:
            return number_type(message)
        declared = _plain(read_attributes(header, attribute).get("dtype"))
        if declared is None:
            # Legacy files lose the attribute; of Keras' types only bfloat16 turns into two opaque bytes.
            self._notes.append(f"{printable(place, 200)}: two opaque bytes an element, read as bfloat16")
            declared = BFLOAT16
        return number_type(message, declared=declared if isinstance(declared, str) else None)

    def _body(self, place: str, header: Any, kind: int) -> bytes:
        messages = header.find_msg_type(kind)
        if len(messages) != 1:
            raise self._refuse(place, f"an array with {len(messages)} messages of kind {kind}, not 1", _SAVE_AGAIN)
        if messages[0]["flags"] & _SHARED_FLAG:
            raise self._refuse(place, "an array whose type is stored elsewhere in the file (a committed type)")
        at = int(messages[0]["offset_to_message"])
        return bytes(header.msg_data[at : at + int(messages[0]["size"])])

    def _storage(
        self, place: str, header: Any, shape: tuple[int, ...], number: NumberType
    ) -> Callable[[], NDArray[Any]]:
        body = self._body(place, header, _LAYOUT)
        nbytes = math.prod(shape) * number.raw.itemsize
        version, first = body[0], body[1]
        if version in (3, 4):
            layout_class, properties = first, 2
        elif version in (1, 2):
            layout_class, properties = body[2], 8
        else:
            raise self._refuse(place, f"storage layout version {version}", _SAVE_AGAIN)
        if nbytes == 0:
            return lambda: np.empty(shape, number.logical)
        if layout_class == 0 and version >= 3:
            size = struct.unpack_from("<H", body, properties)[0]
            return self._compact(place, body[properties + 2 : properties + 2 + size], shape, number)
        if layout_class == 1:
            address = struct.unpack_from("<Q", body, properties)[0]
            size = struct.unpack_from("<Q", body, properties + 8)[0] if version >= 3 else nbytes
            return self._contiguous_at(place, address, size, shape, number)
        if layout_class == 2:
            if version != 3:
                raise self._refuse(place, f"chunked storage in layout version {version}", _SAVE_AGAIN)
            return self._in_chunks(place, header, body, shape, number)
        if layout_class == 3:
            raise self._refuse(place, "a virtual array, whose bytes lie in other files")
        raise self._refuse(place, f"storage class {layout_class} in layout version {version}", _SAVE_AGAIN)

    def _compact(
        self, place: str, data: bytes, shape: tuple[int, ...], number: NumberType
    ) -> Callable[[], NDArray[Any]]:
        nbytes = math.prod(shape) * number.raw.itemsize
        if len(data) < nbytes:
            raise self._refuse(place, self._too_little(nbytes, len(data)), _SAVE_AGAIN)
        return lambda: decode(np.frombuffer(data, number.raw, math.prod(shape)).reshape(shape), number.stored)

    @staticmethod
    def _too_little(declared: int, stored: int) -> str:
        return f"it declares {human_bytes(declared)} and the file stores {human_bytes(stored)} of them"

    def _contiguous_at(
        self, place: str, address: int, size: int, shape: tuple[int, ...], number: NumberType
    ) -> Callable[[], NDArray[Any]]:
        count = math.prod(shape)
        nbytes = count * number.raw.itemsize
        data, start = self._member.data, address
        if address == _UNDEFINED or size < nbytes or start + nbytes > len(data):
            stored = 0 if address == _UNDEFINED else max(0, min(size, len(data) - start))
            raise self._refuse(place, self._too_little(nbytes, stored), _SAVE_AGAIN)
        self._contiguous += nbytes
        if self._contiguous > len(data):
            raise self._refuse(
                place, f"its arrays overlap: {human_bytes(self._contiguous)} in a file of {human_bytes(len(data))}"
            )

        def load() -> NDArray[Any]:
            self._check_once()
            return decode(np.frombuffer(data, number.raw, count, start).reshape(shape), number.stored)

        return load

    def _check_once(self) -> None:
        check, self._before_read = self._before_read, None
        if check is not None:
            try:
                check()
            except BaseException:
                self._before_read = check
                raise

    def _chunk_index(self, layout: ChunkedLayout) -> Iterator[tuple[tuple[int, ...], Chunk]]:
        """Each chunk's corner in the array, and where its bytes lie."""
        for node in chunk_nodes(self._window, layout.address, len(layout.shape) + 1):
            for key, address in zip(node["keys"], node["addresses"], strict=True):
                place = Chunk(address, key["chunk_size"], key["filter_mask"])
                yield tuple(key["chunk_offset"][:-1]), place

    def _in_chunks(
        self, place: str, header: Any, body: bytes, shape: tuple[int, ...], number: NumberType
    ) -> Callable[[], NDArray[Any]]:
        layout = ChunkedLayout.parse(body, shape, number.raw, header.filter_pipeline)
        self._chunked += layout.nbytes
        self._chunks += math.prod(layout.grid)
        if self._chunks > self._most * LIMITS.hdf5_chunks_an_item:
            raise self._refuse(place, f"arrays in {self._chunks:,} chunks", "rewrite the file without compression")
        if self._chunked > unpacked_at_most(len(self._member.data)):
            raise self._refuse(
                place,
                f"compressed arrays that declare {human_bytes(self._chunked)} "
                f"in a file of {human_bytes(len(self._member.data))}",
                "rewrite the file without compression",
            )

        def load() -> NDArray[Any]:
            self._check_once()
            with guard(self._path, self._full(place)):
                self._window.reset()
                return decode(read_chunks(self._chunk_index(layout), self._member.data, layout), number.stored)

        return load


def _plain(value: object) -> object:
    """An attribute's value with its texts decoded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        # Names only stand in lists; a longer text is none, and a thousand of them would fill the memory.
        texts = cast("list[bytes]", value)
        return [text[: LIMITS.hdf5_name_characters].decode("utf-8", "replace") for text in texts]
    return value
