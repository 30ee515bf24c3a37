"""Damages a file a little, as bytes or as what they are, so that more than the first checksum gets to see it.

``mutated`` changes one place: of an archive one member (its checksum is made to fit), of a pickle one instruction, of
JSON one value, of TorchScript's code one word, of HDF5 one field.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickletools
import random
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

STRANGE: list[Any] = [
    None, True, -1, 0, 3.5, 1e308, "x", "same", [], {}, [None], ["conv", 0, 0], 10**12, "a" * 2000,
    {"class_name": "Conv2D"}, [1, 2], float("nan"), 2**63, "\x1b[2J\n", "../x", "é\ud800",
]  # fmt: skip
NUMBERS = (0, 1, 2, 255, 256, 65535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
NAMES = (
    "config.json",
    "a",
    "../evil",
    "/etc/passwd",
    "x/data.pkl",
    "data.pkl",
    "version",
    "a\\b",
    "n" * 5000,
    "\x1b[2J",
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change one place of ``data``, which is never empty afterwards."""
    change = of_bytes
    if chance.random() < 0.8:
        change = next((change for looks, change in _KINDS if looks(data)), of_bytes)
    try:
        made = change(data, chance)
    except Exception:  # what was damaged before is none of its kind any more, as every library says in its own way
        made = of_bytes(data, chance)
    return made or b"\x80"


def of_bytes(data: bytes, chance: random.Random) -> bytes:
    """Replace, take out, double, cut off or copy bytes; mostly where they are not zero."""
    changed = bytearray(data or b"\0")
    at = chance.randrange(len(changed))
    if not changed[at] and chance.random() < 0.8:
        at = max(changed.rfind(bytes(1), 0, at), 0) if not any(changed[at : at + 64]) else at
        while at < len(changed) - 1 and not changed[at]:
            at += 1
    match chance.randrange(9):
        case 0 | 1:
            changed[at] ^= 1 << chance.randrange(8)
        case 2:
            changed[at] = chance.choice((0, 0xFF, 0x7F, 0x80, chance.randrange(256)))
        case 3:
            del changed[at : at + chance.choice((1, 2, 8, 100))]
        case 4:
            changed[at:at] = changed[at : at + chance.randrange(1, 40)]
        case 5:
            width, order = chance.choice("BHIQ"), chance.choice("<>")
            packed = struct.pack(order + width, chance.choice(NUMBERS) & (1 << 8 * struct.calcsize(width)) - 1)
            changed[at : at + len(packed)] = packed
        case 6:
            del changed[at:]
        case 7:
            other = chance.randrange(len(changed))
            size = chance.choice((1, 4, 8, 24, 64))
            changed[at : at + size] = changed[other : other + size]
        case _:
            changed += bytes(chance.choice((1, 7, 512)))
    return bytes(changed)


# -- JSON, and what has it in front ----------------------------------------------------------------------------------


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inside: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from _places(part, (*path, key))


def of_json(data: bytes, chance: random.Random) -> bytes:
    """Replace a value, drop it, or put another part of the text in its place."""
    text = json.loads(data)
    places = list(_places(text))
    if not places:
        return of_bytes(data, chance)
    path = chance.choice(places)
    owner = text
    for key in path[:-1]:
        owner = owner[key]
    old, kind = owner[path[-1]], chance.random()
    if kind < 0.2:
        del owner[path[-1]]
    elif kind < 0.4:
        other = text
        for key in chance.choice(places):
            other = other[key]
        owner[path[-1]] = json.loads(json.dumps(other))
    elif kind < 0.5 and isinstance(old, str) and old:
        owner[path[-1]] = of_bytes(old.encode("utf-8", "surrogatepass"), chance).decode(errors="surrogateescape")
    elif kind < 0.6 and isinstance(old, int):
        owner[path[-1]] = chance.choice((old + 1, old - 1, -old, old * 2, 1 << 31, 1 << 62, float(old)))
    else:
        owner[path[-1]] = chance.choice(STRANGE)
    return json.dumps(text).encode()


def _of_safetensors(data: bytes, chance: random.Random) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + length], data[8 + length :]
    if chance.random() < 0.2:
        return data[: 8 + length] + of_bytes(rest, chance)
    header = of_json(header, chance)
    return struct.pack("<Q", len(header)) + header + rest


def _of_npy(data: bytes, chance: random.Random) -> bytes:
    end = data.index(b"\n") + 1
    head = bytearray(of_bytes(data[10:end], chance))
    return data[:8] + struct.pack("<H", len(head)) + bytes(head) + data[end:]


# -- pickles ---------------------------------------------------------------------------------------------------------

_PLAIN = b"(.)0123NRQabdehjlopqrstu}]\x81\x82\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"
_OPCODES = [
    *(bytes([code]) for code in _PLAIN), b"h\x00", b"q\x00", b"K\x01", b"cos\nsystem\n", b"ctorch\nload\n",
    b"c__builtin__\ngetattr\n", b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"X\x01\x00\x00\x00x", b"\x8c\x04self", b"M\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
    b"G\x7f\xf0" + bytes(6),
]  # fmt: skip


@lru_cache(maxsize=64)
def _instructions(data: bytes) -> tuple[tuple[bytes, ...], ...]:
    """The pickles that stand one behind the other, each as its instructions; the last part is what follows them."""
    found: list[tuple[bytes, ...]] = []
    at = 0
    while data[at : at + 1] == b"\x80" and len(found) < 8:
        try:
            starts = [at + (place or 0) for _, _, place in pickletools.genops(data[at:])]
        except ValueError:
            break
        end = starts[-1] + 1
        found.append(tuple(data[one:other] for one, other in zip(starts, [*starts[1:], end], strict=True)))
        at = end
    return (*found, (data[at:],))


def of_pickle(data: bytes, chance: random.Random) -> bytes:
    """Change one instruction: drop, double, exchange or replace it, or give it another number or text."""
    *pickles, rest = _instructions(data)
    if not pickles:
        return of_bytes(data, chance)
    if len(pickles) > 1 and rest[0] and chance.random() < 0.2:
        return b"".join(b"".join(one) for one in pickles) + of_bytes(rest[0], chance)
    number = max(range(len(pickles)), key=lambda one: len(pickles[one])) if chance.random() < 0.7 else None
    number = chance.randrange(len(pickles)) if number is None else number
    code = list(pickles[number])
    at = chance.randrange(len(code))
    if chance.random() < 0.4:
        numbers = [one for one, each in enumerate(code) if each[:1] in b"KMJ\x8aX\x8cGc"]
        at = chance.choice(numbers or [at])
    head = code[at][:1]
    match chance.randrange(7):
        case 0:
            del code[at]
        case 1:
            code.insert(at, code[at])
        case 2:
            other = chance.randrange(len(code))
            code[at], code[other] = code[other], code[at]
        case 3:
            code[at] = chance.choice(code)
        case 4:
            code.insert(at, chance.choice(_OPCODES))
        case 5 if head in b"KMJ\x8a":
            value = chance.choice((-1, *NUMBERS, 1 << 70))
            packed = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            code[at] = b"\x8a" + bytes([len(packed)]) + packed
        case 5 if head in b"X\x8c":
            texts = [each for each in code if each[:1] in b"X\x8c"]
            code[at] = chance.choice(
                (*texts, b"X\x00\x00\x00\x00", b"X\x04\x00\x00\x00a.b.", b"X\x02\x00\x00\x00\xff\xfe")
            )
        case _:
            code[at] = chance.choice(_OPCODES)
    pickles[number] = tuple(code)
    return b"".join(b"".join(one) for one in (*pickles, rest))


# -- text that is code -----------------------------------------------------------------------------------------------

_WORDS = re.compile(r"\w+|\s+|.", re.DOTALL)
_CODE = ("(", ")", "[", "]", ",", ":", ".", "=", "x", "self", "0", "-1", "1e400", "None", "torch", "if", "for", "->",
         "import", "while True:\n", "lambda: x", '"', "'", "\\", "\n", "  ", "ops", "__torch__", "\x00", "é",
         "9" * 400)  # fmt: skip


def of_code(data: bytes, chance: random.Random) -> bytes:
    """Change one word of TorchScript's code, or one line's place."""
    words = _WORDS.findall(data.decode())
    at = chance.randrange(len(words))
    match chance.randrange(6):
        case 0:
            del words[at]
        case 1:
            words[at] = chance.choice(_CODE)
        case 2:
            words.insert(at, chance.choice(_CODE))
        case 3:
            words[at] = chance.choice(words)
        case 4:
            lines = data.decode().split("\n")
            one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            return "\n".join(lines).encode()
        case _:
            words[at] = words[at] * chance.choice((2, 70, 2000))
    return "".join(words).encode()


# -- containers ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _members(data: bytes) -> tuple[tuple[str, bytes], ...]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return tuple((info.filename, archive.read(info)) for info in archive.infolist())


def _rearranged(members: list[tuple[str, bytes]], chance: random.Random) -> None:
    """Change one member, or what is there."""
    at = chance.randrange(len(members))
    name, content = members[at]
    kind = chance.random()
    if kind < 0.8:
        members[at] = name, mutated(content, chance)
    elif kind < 0.84:
        del members[at]
    elif kind < 0.88:
        members[at] = chance.choice((*NAMES, *(one for one, _ in members))), content
    elif kind < 0.92:
        members.append((chance.choice((*NAMES, name + "x")), chance.choice(members)[1]))
    elif kind < 0.96:
        other = chance.randrange(len(members))
        members[at], members[other] = (name, members[other][1]), (members[other][0], content)
    else:
        members[at] = name, b""


def of_zip(data: bytes, chance: random.Random) -> bytes:
    """Change a member, so that its checksum fits, or which members there are."""
    members = list(_members(data))
    # What says something is rarer than what is numbers.
    telling = [one for one in members if one[0].endswith((".pkl", ".json", ".py", ".h5", "data", ".pt", ".npy"))]
    if telling and chance.random() < 0.7:
        one = chance.choice(telling)
        members[members.index(one)] = one[0], mutated(one[1], chance)
    else:
        _rearranged(members, chance)
    buffer = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if chance.random() < 0.1 else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", how) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, how)
    return buffer.getvalue()


def of_tar(data: bytes, chance: random.Random) -> bytes:
    """Change a member, or a field of a header whose checksum is made to fit."""
    if chance.random() < 0.4:
        changed = bytearray(data)
        at = chance.choice([one for one in range(0, len(data), 512) if data[one + 257 : one + 262] == b"ustar"])
        field, size = chance.choice(((0, 100), (124, 12), (156, 1), (157, 100), (257, 8), (345, 155)))
        value = chance.choice(
            (b"../x", b"/etc/x", b"77777777777", b"-1", b"\x80" + b"\xff" * 11, b"5", b"2", b"x", b"L")
        )
        changed[at + field : at + field + size] = value[:size].ljust(size, b"\0")
        changed[at + 148 : at + 156] = b" " * 8
        changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
        return bytes(changed)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(info.name, archive.extractfile(info).read()) for info in archive if info.isfile()]  # type: ignore[union-attr]
    _rearranged(members, chance)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _packed(unpack: Callable[[bytes], bytes], pack: Callable[[bytes], bytes]) -> Callable[..., bytes]:
    def change(data: bytes, chance: random.Random) -> bytes:
        return pack(mutated(unpack(data), chance))

    return change


def of_png(data: bytes, chance: random.Random) -> bytes:
    """Change one chunk; its checksum fits. Compressed pixels are changed unpacked."""
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    number = chance.randrange(len(chunks))
    kind, content = chunks[number]
    if kind == b"IDAT" and chance.random() < 0.7:
        content = zlib.compress(of_bytes(zlib.decompress(content), chance), 1)
    else:
        content = of_bytes(content, chance)
    chunks[number] = kind, content
    made = (
        struct.pack(">I", len(one)) + name + one + struct.pack(">I", zlib.crc32(name + one)) for name, one in chunks
    )
    return data[:8] + b"".join(made)


def of_hdf5(data: bytes, chance: random.Random) -> bytes:
    """Give one field another number, mostly one that is there: an address, a size, a count."""
    changed = bytearray(data)
    at = chance.choice(_used(data))
    if chance.random() < 0.5:
        return of_bytes(data, chance)
    at -= at % 8 if chance.random() < 0.7 else 0
    value = chance.choice(
        (*NUMBERS, len(data), *(struct.unpack_from("<Q", data + bytes(8), chance.choice(_used(data)))[:1]))
    )
    size = chance.choice((1, 2, 4, 8))
    changed[at : at + size] = struct.pack("<Q", value)[:size]
    return bytes(changed)


@lru_cache(maxsize=32)
def _used(data: bytes) -> tuple[int, ...]:
    return tuple(at for at, byte in enumerate(data) if byte) or (0,)


_KINDS: tuple[tuple[Callable[[bytes], Any], Callable[[bytes, random.Random], bytes]], ...] = (
    (lambda data: data[:2] == b"PK", of_zip),
    (lambda data: data[:4] == b"\x89HDF", of_hdf5),
    (lambda data: data[:2] == b"\x1f\x8b", _packed(gzip.decompress, lambda data: gzip.compress(data, 1))),
    (lambda data: data[:3] == b"BZh", _packed(bz2.decompress, lambda data: bz2.compress(data, 1))),
    (lambda data: data[:6] == b"\xfd7zXZ\0", _packed(lzma.decompress, lambda data: lzma.compress(data, preset=0))),
    (lambda data: data[257:262] == b"ustar", of_tar),
    (lambda data: data[:8] == b"\x89PNG\r\n\x1a\n", of_png),
    (lambda data: data[:6] == b"\x93NUMPY", _of_npy),
    (lambda data: data[:1] == b"\x80", of_pickle),
    (lambda data: data[8:9] == b"{", _of_safetensors),
    (lambda data: data[:1] in (b"{", b"["), of_json),
    (lambda data: b"def " in data[:4000] and data.isascii(), of_code),
)
