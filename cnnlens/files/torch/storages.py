"""Where the elements of a PyTorch file lie: zip members, or runs of bytes behind a pickle; and the arrays over them.

A tensor is a strided view of a storage, and a file may claim any view. Each claim is held against the bytes that are
there before an array is made of it; an honest view (a transposed one, one of two tied weights) stays a view on the
memory map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import WIDENED, StoredArray, check_shape, decode, widened_type
from cnnlens.files.limits import LIMITS, check_items, human_bytes, unpacked_at_most
from cnnlens.files.torch.pickle_values import DTYPES, InlineArray, StorageRef, TensorRef
from cnnlens.text import printable

__all__ = [
    "SAVE_AGAIN", "Storage", "StorageFinder", "check_arrays", "check_name", "inline_array", "plain_array", "view_array",
]  # fmt: skip

SAVE_AGAIN = "fetch the file again, or save it again with torch.save"

# What NumPy writes for arrays of numbers. Its dtype() would take a small language, warnings included.
_INLINE = frozenset(["b1", "f2", "f4", "f8", "c8", "c16", *(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8))])


def check_arrays(path: Path, arrays: Mapping[str, StoredArray], stored: int) -> None:
    """Refuse arrays that are, together, far more or far larger than the bytes of the file.

    Raises:
        FileRefusedError: it is more than ``limits.unpacked_at_most`` and ``items_at_most``.
    """
    check_items(path, len(arrays), "arrays", stored)
    shown = sum(array.nbytes for array in arrays.values())
    if shown > unpacked_at_most(stored):
        held = human_bytes(stored)
        raise FileRefusedError(
            path,
            "",
            f"arrays that show {human_bytes(shown)} together by sharing or repeating {held}, or leaving out zeros",
            "save the tensors before they are expanded, and sparse ones in files of their own",
        )


@dataclass(slots=True)
class Storage:
    """Holds the bytes that tensors are views of.

    Attributes:
        nbytes: How many.
        load: Gives them; checks their checksum where the file has one.
        big_endian: Their byte order.
    """

    nbytes: int
    load: Callable[[], memoryview[int]]
    big_endian: bool = False
    checked: bool = field(default=False)


StorageFinder = Callable[[StorageRef], Storage]
"""The storage that a reference names; raises FileRefusedError where there is none, or one of another size."""


def check_name(path: Path, name: str) -> None:
    """Hold a tensor's name against the limits.

    Raises:
        FileRefusedError: It is longer than any module's path, or holds half a character.
    """
    if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
        raise FileRefusedError(path, name, "a name that is no Unicode text", "save the model again")
    if len(name) > LIMITS.tensor_name_characters or name.count(".") >= LIMITS.tensor_name_parts:
        raise FileRefusedError(
            path, name, f"a name of {len(name):,} characters and {name.count('.'):,} dots", "save the model again"
        )


def view_array(path: Path, name: str, tensor: TensorRef, find: StorageFinder) -> StoredArray | str:
    """Make a plain tensor an array that is not read yet; the name of its type where that is not shown.

    Raises:
        FileRefusedError: It claims elements that its storage has not.
    """
    check_shape(path, name, tensor.shape, SAVE_AGAIN)
    itemsize, code = DTYPES[tensor.dtype]
    storage = find(tensor.storage)
    offset = tensor.offset
    available = storage.nbytes // itemsize
    if tensor.storage.view is not None:
        first, count = tensor.storage.view
        if first + count > available:
            raise FileRefusedError(path, name, "a view that reaches beyond its storage", SAVE_AGAIN)
        offset, available = offset + first, first + count
    elements = math.prod(tensor.shape)
    last = offset + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.strides, strict=True))
    if elements and last >= available:
        raise FileRefusedError(
            path,
            name,
            f"shape {_shown(tensor.shape)} needs {last + 1:,} elements, its storage has {available:,}",
            SAVE_AGAIN,
        )
    shown = elements * itemsize
    if shown > storage.nbytes + LIMITS.inflate_free_bytes:
        raise FileRefusedError(
            path,
            name,
            f"shape {_shown(tensor.shape)} shows {human_bytes(shown)} by repeating {human_bytes(storage.nbytes)}",
            "save the tensor before it is expanded",
        )
    if not code:
        return tensor.dtype
    order = ">" if storage.big_endian else "<"
    raw_type = np.dtype(order + code)
    # No step is taken along an axis of one entry, and what stands there may be beyond any memory.
    steps = [step if length > 1 else 0 for length, step in zip(tensor.shape, tensor.strides, strict=True)]
    shape, strides = tensor.shape, tuple(step * itemsize for step in steps)
    if raw_type.itemsize < itemsize:  # the two halves of complex32
        shape, strides = (*shape, 2), (*strides, raw_type.itemsize)

    def raw() -> NDArray[Any]:
        if not elements:
            return np.empty(shape, raw_type)
        return np.ndarray(shape, raw_type, storage.load(), offset * itemsize, strides)

    return plain_array(tensor.shape, raw_type, tensor.dtype if tensor.dtype in WIDENED else "", name, raw)


def plain_array(
    shape: tuple[int, ...], raw_type: np.dtype[Any], stored_dtype: str, place: str, raw: Callable[[], NDArray[Any]]
) -> StoredArray:
    """Make a ``StoredArray`` of what ``raw`` gives; of the type's own name where ``stored_dtype`` is empty."""
    native = raw_type.newbyteorder("=")
    if not stored_dtype:
        stored_dtype = native.name if raw_type.isnative else raw_type.str
        return StoredArray(shape, native, stored_dtype, place, lambda: decode(raw(), ""))
    # Widening looks at each element's bits as a number, so they must be in this machine's order first.
    return StoredArray(
        shape, widened_type(stored_dtype), stored_dtype, place, lambda: decode(decode(raw(), ""), stored_dtype)
    )


def inline_array(path: Path, name: str, array: InlineArray) -> StoredArray | str:
    """Make a NumPy array of the pickle one of the file; a word on its type where that is not shown.

    Raises:
        FileRefusedError: Its bytes are not those of its shape.
    """
    if array.type is None:
        return "array of objects"
    if array.type.code not in _INLINE:
        return f"array of {printable(array.type.code, 20)}"
    kind = np.dtype(array.type.code)
    if array.type.order == ">":
        kind = kind.newbyteorder(">")
    if math.prod(array.shape) * kind.itemsize != len(array.data):
        raise FileRefusedError(
            path, name, f"shape {_shown(array.shape)} of {kind.name}, in {human_bytes(len(array.data))}", SAVE_AGAIN
        )
    order = "F" if array.fortran else "C"
    return plain_array(
        array.shape, kind, "", name, lambda: np.frombuffer(array.data, kind).reshape(array.shape, order=order)
    )


def _shown(shape: tuple[int, ...]) -> str:
    return printable(shape, 100)
