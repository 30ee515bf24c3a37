"""HDF5 datatype messages that describe numbers, read bit by bit.

The parser below this package takes every 2-byte float for IEEE half precision; a file may as well declare bfloat16
there, and then each weight would be wrong without a word. So the fields that tell the two apart are read here, from the
message itself (HDF5 File Format Specification 3.0, IV.A.2.d "The Datatype Message").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

__all__ = ["BFLOAT16", "NotANumberTypeError", "NumberType", "number_type"]

BFLOAT16 = "bfloat16"

# bytes -> (exponent location, exponent size, mantissa location, mantissa size, exponent bias)
_IEEE = {2: (10, 5, 0, 10, 15), 4: (23, 8, 0, 23, 127), 8: (52, 11, 0, 52, 1023)}
_BFLOAT16_FIELDS = (7, 8, 0, 7, 127)

_CLASS_NAMES = {
    2: "a time", 3: "a string", 4: "a bit field", 5: "opaque bytes", 6: "a compound", 7: "a reference",
    9: "of variable length", 10: "an array type",
}  # fmt: skip


class NotANumberTypeError(Exception):
    """Is raised where a datatype is none that NumPy has numbers for; completes "the element is …"."""


@dataclass(frozen=True, slots=True)
class NumberType:
    """Holds the raw type of the elements in the file, and the name of what they mean."""

    raw: np.dtype[np.generic]
    stored: str

    @property
    def logical(self) -> np.dtype[np.generic]:
        """Give the type that a reader hands out: native byte order, float32 for bfloat16."""
        return np.dtype(np.float32) if self.stored == BFLOAT16 else self.raw.newbyteorder("=")


def number_type(message: bytes, *, declared: str | None = None) -> NumberType:
    """Read the type that a datatype message describes.

    Args:
        message: The body of the message.
        declared: The dataset's attribute "dtype", by which Keras marks bfloat16 stored as opaque bytes.

    Raises:
        NotANumberTypeError: Strings, compounds, references and the like, or a float that NumPy does not have.
        struct.error: The message is too short.
    """
    kind = message[0] & 0x0F
    bits = message[1]
    size: int = struct.unpack_from("<I", message, 4)[0]
    order = ">" if bits & 1 else "<"
    if kind == 0:
        return _integer(message, bits, size, order)
    if kind == 1:
        return _float(message, bits, size, order)
    if kind == 5 and size == 2 and declared == BFLOAT16:
        return NumberType(np.dtype("<u2"), BFLOAT16)
    if kind == 8:
        return _enumeration(message, size)
    raise NotANumberTypeError(_CLASS_NAMES.get(kind, f"of the unknown class {kind}"))


def _integer(message: bytes, bits: int, size: int, order: str) -> NumberType:
    offset, precision = struct.unpack_from("<HH", message, 8)
    if size not in (1, 2, 4, 8) or offset or precision != 8 * size:
        raise NotANumberTypeError(f"an integer of {precision} bits in {size} bytes")
    raw = np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    return NumberType(raw, raw.name if raw.isnative else raw.str)


def _float(message: bytes, bits: int, size: int, order: str) -> NumberType:
    offset, precision, *fields = struct.unpack_from("<HHBBBBI", message, 8)
    # Bit 6 of the bit field means VAX byte order, and the mantissa's leading bit is implied (2) in all IEEE types.
    usual = not bits & 0x40 and (bits >> 4) & 3 == 2 and offset == 0 and precision == 8 * size
    if usual and tuple(fields) == _IEEE.get(size):
        raw = np.dtype(f"{order}f{size}")
        return NumberType(raw, raw.name if raw.isnative else raw.str)
    if usual and size == 2 and tuple(fields) == _BFLOAT16_FIELDS:
        return NumberType(np.dtype(f"{order}u2"), BFLOAT16)
    raise NotANumberTypeError(f"a float of {8 * size} bits in a layout that NumPy does not have")


def _enumeration(message: bytes, size: int) -> NumberType:
    base = number_type(message[8:])
    # h5py stores bool as an enumeration of FALSE = 0 and TRUE = 1 over one byte.
    if base.raw.itemsize == 1 and size == 1 and b"FALSE\x00" in message and b"TRUE\x00" in message:
        return NumberType(np.dtype(bool), "bool")
    return base
