"""Links and attributes of HDF5 objects, read from their messages with every declared count held against the bytes.

These are the two places where a few bytes can name millions of things: 65,000 links that all share one long name, an
attribute of 2^29 strings. The parser below this package makes room for what is declared before it looks; so these
messages are read here (HDF5 File Format Specification 3.0, III.A.1, III.B, III.D, IV.A.2.g and IV.A.2.m).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator

import numpy as np

from cnnlens.files.hdf5.datatypes import NotANumberTypeError, number_type
from cnnlens.files.hdf5.window import LimitExceededError, Window
from cnnlens.files.limits import LIMITS

__all__ = ["ForeignLinkError", "attribute", "link", "symbol_table"]

Target = int | str | None


class ForeignLinkError(Exception):
    """Is raised for a link that leads out of the file."""


def symbol_table(window: Window, btree: int, heap: int) -> Iterator[tuple[str, Target]]:
    """Read the links of an old-style group: name, and address of the object (None for a soft link).

    Args:
        window: The file.
        btree: Address of the group's B-tree of version 1.
        heap: Address of the local heap that holds the names.

    Raises:
        ValueError, struct.error: Damaged structures.
        LimitExceededError: More links than there may be objects.
    """
    head = window.read_at(heap, 32)
    size, _, address = struct.unpack_from("<QQQ", head, 8)
    if head[:4] != b"HEAP":
        raise ValueError("no heap of names where a group has one")
    names = window.read_at(address, size)
    count = 0
    for table in _leaves(window, btree):
        start = window.read_at(table, 8)
        if start[:4] != b"SNOD":
            raise ValueError("no symbol table where a group has one")
        entries = struct.unpack_from("<H", start, 6)[0]
        body = window.read_at(table + 8, 40 * entries)
        count += entries
        for at in range(0, 40 * entries, 40):
            name, target, cache = struct.unpack_from("<QQI", body, at)
            yield _name_at(names, name), (target if cache in (0, 1) else None)


def _leaves(window: Window, root: int) -> Iterator[int]:
    """Addresses of the symbol tables below a B-tree's root, from left to right; each node is visited once."""
    pending: list[tuple[int, int | None]] = [(root, None)]
    seen: set[int] = set()
    while pending:
        address, expected = pending.pop()
        if address in seen:
            raise ValueError("a B-tree with one node in two places")
        seen.add(address)
        head = window.read_at(address, 24)
        kind, level, entries = struct.unpack_from("<BBH", head, 4)
        if head[:4] != b"TREE" or kind != 0 or (expected is not None and level != expected):
            raise ValueError("no B-tree node where a group has one")
        body = window.read_at(address + 24, 16 * entries)
        children = struct.unpack(f"<{2 * entries}Q", body)[1::2]
        if level == 0:
            yield from children
        else:
            pending.extend((child, level - 1) for child in reversed(children))


def _name_at(names: bytes, start: int) -> str:
    end = names.find(b"\x00", start, start + LIMITS.hdf5_name_characters + 1)
    if end < 0 or start >= len(names):
        raise LimitExceededError(f"a name without an end, or longer than {LIMITS.hdf5_name_characters} characters")
    return names[start:end].decode("utf-8")


def link(data: bytes, at: int) -> tuple[int | None, tuple[str, Target]]:
    """Read a link message: creation order if there is one, and the link's name and target (None for a soft link).

    Raises:
        ForeignLinkError: An external or user-defined link.
        ValueError, struct.error, LimitExceededError: Damaged, or a name that is too long.
    """
    version, flags = data[at], data[at + 1]
    at += 2
    if version != 1:
        raise ValueError(f"a link message of version {version}")
    kind = 0
    if flags & 0x08:
        kind = data[at]
        at += 1
    if kind > 1:
        raise ForeignLinkError("a link to another file" if kind == 64 else f"a link of the unknown kind {kind}")
    order = None
    if flags & 0x04:
        order = struct.unpack_from("<Q", data, at)[0]
        at += 8
    at += 1 if flags & 0x10 else 0
    width = 1 << (flags & 3)
    size = int.from_bytes(data[at : at + width], "little")
    at += width
    if size > 4 * LIMITS.hdf5_name_characters or at + size > len(data):
        raise LimitExceededError(f"a name of {size} bytes")
    name = data[at : at + size].decode("utf-8")
    return order, (name, struct.unpack_from("<Q", data, at + size)[0] if kind == 0 else None)


def attribute(data: bytes, at: int, text_at: Callable[[bytes, int], tuple[int, bytes | None]]) -> tuple[str, object]:
    """Read an attribute message: name and value.

    Args:
        data: The bytes that hold the message.
        at: Where it starts in them.
        text_at: Reads a string of variable length, given bytes and the place of its 16-byte reference in them.

    Returns:
        The value as bytes or list of bytes (strings), a NumPy array (numbers), or None for any other type.

    Raises:
        ValueError, struct.error: Damaged, or more elements declared than there are bytes.
    """
    version = data[at]
    if version not in (1, 2, 3):
        raise ValueError(f"an attribute message of version {version}")
    name_size, type_size, space_size = struct.unpack_from("<HHH", data, at + 2)
    at += 9 if version == 3 else 8
    pad = 8 if version == 1 else 1
    name = data[at : at + name_size].rstrip(b"\x00").decode("utf-8")
    at += -(-name_size // pad) * pad
    kind = data[at : at + type_size]
    at += -(-type_size // pad) * pad
    shape = _dimensions(data[at : at + space_size])
    at += -(-space_size // pad) * pad
    if (version > 1 and data[at - 1 : at] == b"") or len(kind) < 8:
        raise ValueError("an attribute message that ends too early")
    return name, None if shape is None else _value(data, at, kind, shape, text_at)


def _value(
    data: bytes, at: int, kind: bytes, shape: tuple[int, ...], text_at: Callable[[bytes, int], tuple[int, bytes | None]]
) -> object:
    count = math.prod(shape)
    number, variable = kind[0] & 0x0F, kind[0] & 0x0F == 9 and kind[1] & 0x0F == 1
    size = 16 if variable else struct.unpack_from("<I", kind, 4)[0]
    if count * max(size, 1) > len(data) - at:
        raise ValueError(f"an attribute of {count} elements in {len(data) - at} bytes")
    if variable:
        found: list[bytes] = [text_at(data, at + 16 * index)[1] or b"" for index in range(count)]
        return found if shape else found[0]
    if number == 3:
        texts = [
            data[start : start + size].split(b"\x00", 1)[0] for start in range(at, at + count * size, max(size, 1))
        ]
        return texts if shape else (texts or [b""])[0]
    try:
        raw = number_type(kind).raw
    except NotANumberTypeError:
        return None
    return np.frombuffer(data, raw, count, at).reshape(shape)


def _dimensions(space: bytes) -> tuple[int, ...] | None:
    """Axes in a dataspace message; None for a null dataspace."""
    version, rank = space[0], space[1]
    if version not in (1, 2) or rank > LIMITS.hdf5_dimensions:
        raise ValueError(f"a dataspace of version {version} with {rank} axes")
    if version == 2 and space[3] == 2:
        return None
    return struct.unpack_from(f"<{rank}Q", space, 8 if version == 1 else 4)
