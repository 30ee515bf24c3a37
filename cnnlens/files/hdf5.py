"""The index of an HDF5 file: its groups, and its arrays as places to read from later.

pyfive, a parser in pure Python, reads the metadata; nothing else of HDF5 comes near the file. What pyfive takes on
trust is checked here: where an array's bytes lie and how many there are, which links lead out of the file, how often
one object is named, and how much work the index may cause. Only this module imports pyfive.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError, FileRefusedError
from cnnlens.files.arrays import StoredArray, decode
from cnnlens.files.chunks import Chunk, ChunkedLayout, read_chunks
from cnnlens.files.container import Member
from cnnlens.files.datatypes import BFLOAT16, NotANumberTypeError, NumberType, number_type
from cnnlens.files.limits import LIMITS, human_bytes, remarks
from cnnlens.text import printable

__all__ = ["Group", "Index", "open_index"]

_UNDEFINED = 0xFFFFFFFFFFFFFFFF
_SAVE_AGAIN = "save the model again with Keras, or fetch the file again if it was downloaded"
_NOT_BY_KERAS = "Keras writes no such thing: rewrite the file by loading and saving it with a program you trust it to"

# Object header messages, by number in the HDF5 File Format Specification 3.0, IV.A.2.
_DATATYPE, _LINK, _EXTERNAL_FILES, _LAYOUT = 0x03, 0x06, 0x07, 0x08
_SHARED_FLAG = 2


@dataclass(slots=True)
class Group:
    """A group: its sub-groups and arrays by name, in the file's order, and its attributes, parsed when asked for."""

    place: str
    groups: dict[str, Group] = field(default_factory=dict[str, "Group"])
    arrays: dict[str, StoredArray] = field(default_factory=dict[str, StoredArray])
    load_attributes: Callable[[], dict[str, object]] = dict
    _attributes: dict[str, object] | None = None

    @property
    def attributes(self) -> Mapping[str, object]:
        """Attribute values: str, int, float, list of str, or whatever else NumPy made of them."""
        if self._attributes is None:
            self._attributes = self.load_attributes()
        return self._attributes

    def arrays_below(self) -> Iterator[StoredArray]:
        """Every array in this group and the groups below it."""
        yield from self.arrays.values()
        for group in self.groups.values():
            yield from group.arrays_below()


@dataclass(frozen=True, slots=True)
class Index:
    """What an HDF5 file holds, and remarks about what was passed over."""

    root: Group
    notes: tuple[str, ...]


class _LimitExceededError(Exception):
    """The index asks for more work than ``LIMITS`` allows."""


class _Window:
    """A read-only file over mapped bytes that counts what is read, so that no crafted index can loop for ever."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0
        self.reset()

    def reset(self) -> None:
        """Allows what one index, or one array's table of chunks, may take."""
        self._reads_left = min(LIMITS.hdf5_index_reads, 200_000 + len(self._data) // 64)
        self._bytes_left = min(LIMITS.hdf5_index_bytes, (16 << 20) + len(self._data))
        self._header: tuple[int, int] | None = None

    @contextmanager
    def header(self) -> Generator[None]:
        """Allows what one object's header may take, while the block runs."""
        self._header = (
            self._reads_left - LIMITS.hdf5_header_reads,
            self._bytes_left - LIMITS.hdf5_header_bytes,
        )
        yield
        self._header = None

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._data))[whence]
        if at < 0:
            raise ValueError("a place before the start of the file")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        piece = self._data[self._at : end]
        self._reads_left -= 1
        self._bytes_left -= len(piece)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise _LimitExceededError("its index is far larger than one of its size can be")
        if self._header is not None and (self._reads_left < self._header[0] or self._bytes_left < self._header[1]):
            raise _LimitExceededError("an object's header without an end")
        self._at += len(piece)
        return bytes(piece)


@contextmanager
def _guard(path: Path, place: str) -> Generator[None]:
    """Turns whatever pyfive, struct, zlib or NumPy raise on damaged bytes into one line that names the place."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CnnlensError:
        raise
    except _LimitExceededError as error:
        raise FileRefusedError(path, place, str(error), _SAVE_AGAIN) from None
    except MemoryError:
        raise FileRefusedError(path, place, "it asks for more memory than there is", _SAVE_AGAIN) from None
    except Exception as error:  # the parser asserts, indexes and unpacks: any kind of exception means damaged bytes
        detail = printable(str(error).split("\n", 1)[0] or type(error).__name__, 100)
        raise FileRefusedError(path, place, f"damaged or unknown HDF5 structure ({detail})", _SAVE_AGAIN) from None


def open_index(
    path: Path,
    member: Member,
    *,
    skip: frozenset[str] = frozenset(),
    before_read: Callable[[], None] | None = None,
) -> Index:
    """The groups and arrays of the HDF5 file in ``member``.

    Args:
        path: The file, for messages.
        member: The bytes.
        skip: Names of groups at the root that are not looked into (optimizer state).
        before_read: Called before the bytes of an array are first read (a checksum, say); may raise.

    Raises:
        FileRefusedError: No HDF5, damaged, or with links, storage or sizes that are refused.
    """
    return _Walk(path, member, skip, before_read).index()


class _Walk:
    """One pass over a file's groups."""

    def __init__(
        self, path: Path, member: Member, skip: frozenset[str], before_read: Callable[[], None] | None
    ) -> None:
        self._path = path
        self._member = member
        self._skip = skip
        self._before_read = before_read
        self._window = _Window(member.data)
        self._file: Any = None
        self._base = 0
        self._names: dict[int, int] = {}
        self._objects = 0
        self._contiguous = 0
        self._chunked = 0
        self._notes: list[str] = []

    def index(self) -> Index:
        """The whole index."""
        with _guard(self._path, self._member.place):
            # pyfive takes 50 ms to import, which only those pay who open HDF5; it is Any, since it has no type stubs.
            pyfive: Any = import_module("pyfive")
            file: Any = pyfive.File(self._window)
            self._file = file
            self._base = int(file.userblock_size)
            root = Group("", load_attributes=self._attributes(file._dataobjects, ""))
            pending: list[tuple[Group, Any, tuple[int, ...]]] = [
                (root, file._dataobjects, (int(file._dataobjects.offset),))
            ]
            while pending:
                group, header, ancestors = pending.pop()
                pending.extend(reversed(self._fill(group, header, ancestors)))
        return Index(root, remarks(self._notes))

    def _refuse(self, place: str, reason: str, way_out: str = _NOT_BY_KERAS) -> FileRefusedError:
        return FileRefusedError(self._path, self._full(place), reason, way_out)

    def _full(self, place: str) -> str:
        return ": ".join(part for part in (self._member.place, place) if part)

    def _fill(self, group: Group, header: Any, ancestors: tuple[int, ...]) -> list[tuple[Group, Any, tuple[int, ...]]]:
        below: list[tuple[Group, Any, tuple[int, ...]]] = []
        if len(ancestors) > LIMITS.hdf5_depth:
            raise self._refuse(group.place, f"groups nested more than {LIMITS.hdf5_depth} deep")
        self._refuse_foreign_links(group.place, header)
        for name, target in self._links(group.place, header):
            if not group.place and name in self._skip:
                continue
            place = f"{group.place}/{name}" if group.place else name
            if isinstance(target, str):
                raise self._refuse(place, "a soft link")
            if target in ancestors:
                raise self._refuse(place, "a group that contains itself")
            self._count(place, target)
            with _guard(self._path, self._full(place)):
                with self._window.header():
                    header_below: Any = self._file._get_dataobjects(target)
                if header_below.is_dataset:
                    array = self._array(place, header_below)
                    if array is not None:
                        group.arrays[name] = array
                elif any(message["type"] in (0x02, _LINK, 0x11) for message in header_below.msgs):
                    child = Group(place, load_attributes=self._attributes(header_below, place))
                    group.groups[name] = child
                    below.append((child, header_below, (*ancestors, target)))
        return below

    def _links(self, place: str, header: Any) -> list[tuple[str, int | str]]:
        found: dict[str, int | str] = {}
        with _guard(self._path, self._full(place)):
            for raw_name, target in header.iter_links():
                name = str(raw_name)
                if name in found:
                    raise self._refuse(place, f"two objects named '{printable(name)}' in one group")
                if len(name) > LIMITS.hdf5_name_characters:
                    raise self._refuse(place, f"a name of {len(name)} characters")
                found[name] = target if isinstance(target, str) else int(target)
                if len(found) > LIMITS.hdf5_objects:
                    raise self._refuse(place, f"more than {LIMITS.hdf5_objects} objects in one group")
        return list(found.items())

    def _count(self, place: str, address: int) -> None:
        self._objects += 1
        if self._objects > LIMITS.hdf5_objects:
            raise self._refuse(place, f"more than {LIMITS.hdf5_objects} objects in the file")
        names = self._names[address] = self._names.get(address, 0) + 1
        if names > LIMITS.hdf5_names_an_object:
            raise self._refuse(place, f"the {names}th name (hard link) of one object")

    def _refuse_foreign_links(self, place: str, header: Any) -> None:
        for message in header.msgs:
            if message["type"] == _LINK:
                at = int(message["offset_to_message"])
                flags, kind = header.msg_data[at + 1], header.msg_data[at + 2]
                if flags & 8 and kind > 1:
                    what = "a link to another file" if kind == 64 else f"a link of the unknown kind {kind}"
                    raise self._refuse(place, what)

    def _attributes(self, header: Any, place: str) -> Callable[[], dict[str, object]]:
        def load() -> dict[str, object]:
            with _guard(self._path, self._full(place)):
                return {str(name): _plain(value) for name, value in header.get_attributes().items()}

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
        load = self._storage(place, header, axes, number)
        return StoredArray(axes, number.logical, number.stored, self._full(place), load)

    def _number(self, place: str, header: Any) -> NumberType:
        message = self._body(place, header, _DATATYPE)
        if message[0] & 0x0F != 5:
            return number_type(message)
        declared = _plain(header.get_attributes().get("dtype"))
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
        data, start = self._member.data, address + self._base
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
        btree: Any = import_module("pyfive.btree")
        tree: Any = btree.BTreeV1RawDataChunks(self._file._fh, layout.address, len(layout.shape) + 1)
        for node in tree.all_nodes[0]:
            for key, address in zip(node["keys"], node["addresses"], strict=True):
                place = Chunk(address + self._base, key["chunk_size"], key["filter_mask"])
                yield tuple(key["chunk_offset"][:-1]), place

    def _in_chunks(
        self, place: str, header: Any, body: bytes, shape: tuple[int, ...], number: NumberType
    ) -> Callable[[], NDArray[Any]]:
        layout = ChunkedLayout.parse(body, shape, number.raw, header.filter_pipeline)
        self._chunked += layout.nbytes
        allowed = max(LIMITS.inflate_free_bytes, LIMITS.inflate_ratio * len(self._member.data))
        if self._chunked > allowed:
            raise self._refuse(
                place,
                f"compressed arrays that declare {human_bytes(self._chunked)} "
                f"in a file of {human_bytes(len(self._member.data))}",
                "rewrite the file without compression",
            )

        def load() -> NDArray[Any]:
            self._check_once()
            with _guard(self._path, self._full(place)):
                self._window.reset()
                return decode(read_chunks(self._chunk_index(layout), self._member.data, layout), number.stored)

        return load


def _plain(value: object) -> object:
    """An attribute's value as Python has it: bytes decoded, arrays of strings as lists."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        if array.dtype.kind in "SUO":
            return [_plain(item) for item in array.ravel().tolist()]
        return array
    if isinstance(value, np.generic):
        return _plain(cast(object, value.item()))
    return value
