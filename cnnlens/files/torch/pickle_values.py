"""What a PyTorch pickle is read into: plain containers, and descriptions of tensors and of where their elements lie.

Nothing here holds an element. A description is checked for what it alone can say (sizes are sizes, strides are not
negative); whether the file has the bytes is asked when an array is made of it (:mod:`cnnlens.files.torch.storages`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from cnnlens.files.arrays import WIDENED
from cnnlens.files.limits import LIMITS, human_bytes
from cnnlens.text import printable

__all__ = [
    "DTYPES", "EXPORT", "STORAGES", "Arguments", "Budget", "InlineArray", "Known", "NumpyType", "Opaque",
    "OrderedMapping", "QuantisedRef", "Record", "RefusedPickleError", "SparseRef", "StorageRef", "TensorRef",
    "class_of", "expect", "is_plain", "key_of", "several", "size", "sizes", "storage_of",
]  # fmt: skip

EXPORT = (
    "where you trust the file, load it with torch and write torch.save(model.state_dict(), 'weights.pt') or, with the "
    "graph, a .pt2 by torch.export.save"
)
"""The way out of a file that is a program."""

Arguments = tuple[Any, ...]


class RefusedPickleError(Exception):
    """Is raised for a refused pickle: says why, in words that follow the file's name, and any way out."""

    def __init__(self, reason: str, way_out: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.way_out = way_out


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Stands for a name that was not called: a storage class, a dtype, any class or function. It is a word."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """Stands for a tensor that is not shown: nested, without data. ``what`` says so in a word."""

    what: str


@dataclass(frozen=True, slots=True, eq=False)
class StorageRef:
    """Describes a run of elements in the file.

    Attributes:
        key: Its name in the file.
        dtype: torch's name of its element type.
        numel: How many elements the pickle says it has.
        view: First element and count within it, where an old file stores a view of another storage.
    """

    key: str
    dtype: str
    numel: int
    view: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """Describes a strided view of a storage: offset and strides in elements of ``dtype``, none of them negative."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedRef:
    """Describes a tensor of whole numbers that each stand for (number - zero point) x scale.

    Attributes:
        codes: The whole numbers.
        scale: One for all, or one for each index of ``axis``.
        zero_point: As many.
        axis: None where one scale is for all.
        exact: Whether the zero points are whole numbers, and scales float64, where there are several.
    """

    codes: TensorRef
    scale: float | TensorRef | tuple[float, ...]
    zero_point: int | TensorRef | tuple[float, ...]
    axis: int | None = None
    exact: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape


@dataclass(frozen=True, slots=True, eq=False)
class SparseRef:
    """Describes a tensor of which only some elements, or blocks of them, are stored.

    Attributes:
        layout: "coo", "csr", "csc", "bsr" or "bsc".
        shape: Its shape.
        indices: Of COO, one array (axes, stored); of the others two: where each row (csr, bsr) or column begins, and
            the column or row of each.
        values: The stored elements or blocks, along the first axis.
    """

    layout: str
    shape: tuple[int, ...]
    indices: tuple[TensorRef, ...]
    values: TensorRef


class OrderedMapping(dict[Any, Any]):
    """Stands for a ``collections.OrderedDict``; attributes that a pickle hangs on one (``_metadata``) are dropped."""

    __slots__ = ()


class Record(dict[Any, Any]):
    """Stands for an object whose class nobody looks for: what the file says that it holds. Nothing of it is called.

    As a mapping it has the entries that the file gives it (its class may be a mapping itself).

    Attributes:
        kind: Its class by its dotted name.
        listed: The items that the file gives it (its class may be a list), or what it was made of.
        state: Its attributes by name; whatever else its class keeps for itself; None before the file gives any.
    """

    __slots__ = ("kind", "listed", "state")

    def __init__(self, kind: str, listed: Any = ()) -> None:
        super().__init__()
        self.kind = kind
        self.listed: list[Any] = list(listed)
        self.state: Any = None

    def __eq__(self, other: object) -> bool:
        return self is other  # entries may be nested by reference, more than there is time to compare

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return id(self)

    @property
    def attributes(self) -> Mapping[Any, Any]:
        """Give its attributes by name; none where its class keeps something else."""
        return cast("dict[Any, Any]", self.state) if isinstance(self.state, dict) else {}

    def set_state(self, state: Any) -> None:
        if self.state is not None:
            raise RefusedPickleError("damaged pickle (an object with two states)")
        parts = cast(Arguments, state) if isinstance(state, tuple) else ()
        if len(parts) == 2 and all(part is None or isinstance(part, dict) for part in parts):
            state = parts[0] or parts[1]  # the second has what a class with __slots__ keeps
        self.state = state


class NumpyType:
    """Describes a NumPy dtype: its type code such as ``f4``, and the byte order that its state gives."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def set_state(self, state: Any) -> None:
        order = several(state, 2, 9)[1]
        expect(isinstance(order, str) and order in ("<", ">", "|", "="))
        self.order = order


class InlineArray:
    """Holds a NumPy array whose bytes are in the pickle itself."""

    __slots__ = ("data", "fortran", "shape", "type")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.type: NumpyType | None = None
        self.fortran = False
        self.data = b""

    def set_state(self, state: Any) -> None:
        shape, kind, fortran, data = several(state, 4, 5)[-4:]
        if isinstance(data, str):  # Python 2 wrote bytes as text
            data = data.encode("latin1")
        expect(isinstance(kind, NumpyType))
        if isinstance(data, list):  # an array of objects: nothing that could be shown
            return
        expect(isinstance(data, bytes))
        self.shape, self.type, self.fortran, self.data = sizes(shape), kind, bool(fortran), data


class Budget:
    """Says what one pickle may still make: items copied by its calls, and bytes."""

    __slots__ = ("bytes", "operations")

    def __init__(self) -> None:
        self.operations = LIMITS.pickle_operations
        self.bytes = LIMITS.pickle_copied_bytes

    def spend_items(self, count: int) -> None:
        self.operations -= count
        if self.operations < 0:
            raise RefusedPickleError(f"the pickle takes more than {LIMITS.pickle_operations:,} steps")

    def spend_bytes(self, count: int) -> None:
        self.bytes -= count
        if self.bytes < 0:
            raise RefusedPickleError(
                f"the pickle makes more than {human_bytes(LIMITS.pickle_copied_bytes)} out of its text"
            )


def expect(fits: bool) -> None:
    if not fits:
        raise RefusedPickleError("damaged pickle (a call with arguments that it never has)")


def several(value: Any, least: int = 0, most: int = LIMITS.pickle_operations) -> Arguments:
    """Give ``value`` where it is a tuple of this many entries."""
    expect(isinstance(value, tuple) and least <= len(cast(Arguments, value)) <= most)
    return cast(Arguments, value)


def sizes(value: Any) -> tuple[int, ...]:
    """Give ``value`` where it is a tuple of sizes, offsets or strides."""
    numbers = several(value)
    if len(numbers) > LIMITS.tensor_dimensions:
        raise RefusedPickleError(f"a tensor of {len(numbers)} axes, {LIMITS.tensor_dimensions} at most")
    for number in numbers:
        size(number)
    return cast("tuple[int, ...]", numbers)


def size(value: Any) -> int:
    """Give ``value`` where it is an integer from 0 to 2**63 - 1."""
    expect(type(value) is int)
    if not 0 <= value < 1 << 63:
        raise RefusedPickleError(f"a tensor with the size, stride or offset {printable(hex(value), 40)}")
    return value


def key_of(key: Any) -> Any:
    """Give ``key`` where it may be one of a mapping.

    Hashing a tuple walks all that is in it, and one nested by reference has more leaves than there is time: only flat
    tuples of numbers and text are let through.
    """
    if isinstance(key, tuple):
        parts = cast(Arguments, key)
        if len(parts) > 64 or not all(is_plain(part) for part in parts):
            raise RefusedPickleError("a mapping with a nested tuple as its key")
    elif not is_plain(key) and not isinstance(key, (Known, TensorRef, StorageRef, Opaque, Record)):
        raise RefusedPickleError(f"a mapping with a {printable(type(key).__name__)} as its key")
    return cast(object, key)


def is_plain(key: Any) -> bool:
    """Tell whether a value is a number of eight bytes, a text, bytes or nothing."""
    if type(key) is int:
        return -(1 << 63) <= key < 1 << 63
    return key is None or type(key) in (str, bytes, bool) or (type(key) is float and math.isfinite(key))


# --- tensors --------------------------------------------------------------------------------------------------------

DTYPES: Mapping[str, tuple[int, str]] = {
    "float64": (8, "f8"),
    "float32": (4, "f4"),
    "float16": (2, "f2"),
    "bfloat16": (2, WIDENED["bfloat16"][0]),
    **{f"int{8 * n}": (n, f"i{n}") for n in (1, 2, 4, 8)},
    **{f"uint{8 * n}": (n, f"u{n}") for n in (1, 2, 4, 8)},
    "bool": (1, "?"),
    "complex32": (4, WIDENED["complex32"][0]),
    "complex64": (8, "c8"),
    "complex128": (16, "c16"),
    **{name: (1, code) for name, (code, _) in WIDENED.items() if name.startswith("float8")},
    "float4_e2m1fn_x2": (1, ""),
    **dict.fromkeys(("qint8", "quint8", "quint4x2", "quint2x4"), (1, "")),
    "qint32": (4, ""),
    **dict.fromkeys(("bits8", "bits1x8", "bits2x4", "bits4x2"), (1, "")),
    "bits16": (2, ""),
    **{f"{sign}int{n}": (1, "") for sign in ("", "u") for n in range(1, 8)},
}
"""Bytes of an element, and NumPy's code for it: empty where NumPy has no such number or a weight never is one."""

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "QInt8Storage": "qint8", "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
}  # fmt: skip
STORAGES: Mapping[str, str] = {
    **{f"{place}.{name}": dtype for place in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()},
    **dict.fromkeys(("torch.storage.UntypedStorage", "torch.UntypedStorage", "torch.storage._UntypedStorage"), "uint8"),
}


def class_of(identity: Any) -> Known | None:
    """Find the class that a persistent id stands for, ``("module", class, file, source)`` before 1.6; None for others.

    Its source text, where PyTorch found one as it saved the module, is not read.
    """
    if not isinstance(identity, tuple) or len(cast(Arguments, identity)) != 4:
        return None
    word, kind = cast(Arguments, identity)[:2]
    return kind if isinstance(word, str) and word == "module" and isinstance(kind, Known) else None


def storage_of(identity: Any) -> StorageRef:
    """Find the storage that a persistent id stands for: ``("storage", class, key, location, numel[, view])``."""
    parts = several(identity, 5, 6)
    word, kind, key, location, numel = parts[:5]
    expect(word == "storage" if isinstance(word, str) else False)
    expect(isinstance(kind, Known) and kind.name in STORAGES and isinstance(key, str) and isinstance(location, str))
    view: tuple[int, int] | None = None
    if len(parts) == 6 and parts[5] is not None:
        _, first, count = several(parts[5], 3, 3)
        view = (size(first), size(count))
    return StorageRef(key, STORAGES[kind.name], size(numel), view)
