"""Every call that a PyTorch pickle may ask for, and what is done there instead. It is the whole vocabulary.

A pickle is a program: it names callables and asks for them to be called. None is ever looked up here. A name in these
tables stands for one of the small functions below, each of which describes what torch, NumPy or Python would have
built; a call of any other name refuses the file. What is named and not called is a word. Sources: ``torch._utils``,
``torch._weights_only_unpickler`` (torch 2.13), the ``__reduce__`` of NumPy's and Python's own classes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

from cnnlens.files.torch.pickle_values import (
    DTYPES,
    STORAGES,
    Arguments,
    Budget,
    InlineArray,
    Known,
    NumpyType,
    Opaque,
    OrderedMapping,
    QuantisedRef,
    Record,
    RefusedPickleError,
    SparseRef,
    StorageRef,
    TensorRef,
    expect,
    is_plain,
    key_of,
    several,
    size,
    sizes,
)
from cnnlens.text import printable

__all__ = ["CALLS", "CONSTANTS"]

# --- tensors --------------------------------------------------------------------------------------------------------


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str = "", metadata: Any = None) -> Any:
    expect(isinstance(storage, StorageRef))
    ref = TensorRef(storage, size(offset), sizes(shape), sizes(strides), dtype or storage.dtype)
    expect(len(ref.shape) == len(ref.strides))
    if isinstance(metadata, dict) and any(cast("dict[Any, Any]", metadata).get(bit) for bit in ("conj", "neg")):
        return Opaque("stored with its sign or conjugation still to be applied")
    return ref


def _tensor_v1(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) == 4)
    return _tensor(*arguments)


def _tensor_v2(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) in (6, 7))
    return _tensor(*arguments[:4], metadata=arguments[6] if len(arguments) == 7 else None)


def _tensor_v3(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) in (7, 8))
    dtype = arguments[6]
    expect(isinstance(dtype, Known) and dtype.name.removeprefix("torch.") in DTYPES)
    metadata = arguments[7] if len(arguments) == 8 else None
    return _tensor(*arguments[:4], dtype=dtype.name.removeprefix("torch."), metadata=metadata)


def _parameter(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) in (3, 4))
    expect(isinstance(arguments[0], (TensorRef, QuantisedRef, SparseRef, Opaque, InlineArray)))
    return arguments[0]


def _of_type(budget: Budget, arguments: Arguments) -> Any:
    """``_rebuild_from_type_v2(function, type, arguments, state)``: a tensor on which somebody hung attributes."""
    expect(len(arguments) == 4)
    function, kind, inner = arguments[:3]
    expect(isinstance(function, Known) and function.name in _TENSORS)
    expect(isinstance(kind, Known) and kind.name in _TENSOR_CLASSES)
    return _TENSORS[function.name](budget, several(inner))


def _from_numpy(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) == 4 and isinstance(arguments[0], InlineArray))
    return arguments[0]


def _quantised(budget: Budget, arguments: Arguments) -> Any:
    """``_rebuild_qtensor(storage, offset, shape, strides, (scheme, scale, zero point[, axis]), …)``."""
    expect(len(arguments) == 7)
    codes = cast(TensorRef, _tensor(*arguments[:4]))
    scheme, scale, zero_point, *axis = several(arguments[4], 3, 4)
    expect(isinstance(scheme, Known))
    if scheme.name == "torch.per_tensor_affine":
        expect(type(scale) is float and type(zero_point) is int and not axis)
        return QuantisedRef(codes, scale, zero_point)
    exact = scheme.name == "torch.per_channel_affine"
    expect(exact or scheme.name == "torch.per_channel_affine_float_qparams")
    expect(len(axis) == 1 and type(axis[0]) is int)
    return QuantisedRef(codes, _each(budget, scale), _each(budget, zero_point), axis[0], exact)


def _each(budget: Budget, numbers: Any) -> TensorRef | tuple[float, ...]:
    """Scales or zero points: a tensor, or a list as older versions of torch wrote it."""
    if isinstance(numbers, TensorRef):
        return numbers
    found = _items(budget, (numbers,))
    expect(all(type(each) is float or (type(each) is int and is_plain(each)) for each in found))
    return tuple(found)


def _sparse(budget: Budget, arguments: Arguments) -> Any:
    """``_rebuild_sparse_tensor(layout, (indices, values, shape[, …]))``; all but COO have two arrays of indices."""
    expect(len(arguments) == 2 and isinstance(arguments[0], str))
    parts, layout = several(arguments[1], 3, 4), arguments[0].removeprefix("torch.sparse_")
    indices, (values, shape) = (parts[:1], parts[1:3]) if layout == "coo" else (parts[:2], parts[2:])
    expect(layout in ("coo", "csr", "csc", "bsr", "bsc") and (layout == "coo" or len(parts) == 4))
    if isinstance(values, Opaque):
        return values
    expect(all(isinstance(each, TensorRef) for each in (*indices, values)))
    return SparseRef(layout, sizes(shape), cast("tuple[TensorRef, ...]", indices), values)


def _opaque(what: str) -> Callable[[Budget, Arguments], Any]:
    return lambda budget, arguments: Opaque(what)


_TENSORS: Mapping[str, Callable[[Budget, Arguments], Any]] = {
    "torch._utils._rebuild_tensor": _tensor_v1,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_numpy,
    "torch._utils._rebuild_xla_tensor": _from_numpy,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _opaque("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": _opaque("without data (saved on the device meta)"),
}
_TENSOR_CLASSES = frozenset(("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"))

_NUMBERS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H",
    "u1": "B", "b1": "?",
}  # fmt: skip

# --- NumPy ----------------------------------------------------------------------------------------------------------


def _dtype(budget: Budget, arguments: Arguments) -> Any:
    expect(1 <= len(arguments) <= 3 and isinstance(arguments[0], str) and len(arguments[0]) < 20)
    return NumpyType(arguments[0])


def _reconstruct(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) == 3 and isinstance(arguments[0], Known) and arguments[0].name == "numpy.ndarray")
    return InlineArray()


def _from_buffer(budget: Budget, arguments: Arguments) -> Any:
    """``_frombuffer(data, dtype, shape, order)``, which NumPy writes under protocol 5."""
    expect(len(arguments) in (3, 4))
    array = InlineArray()
    array.set_state((arguments[2], arguments[1], arguments[3:] == ("F",), arguments[0]))
    return array


def _scalar(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) == 2 and isinstance(arguments[0], NumpyType))
    kind, data = cast("tuple[NumpyType, Any]", arguments)
    letter = _NUMBERS.get(kind.code)
    if letter is None or not isinstance(data, (bytes, str)):
        return Opaque(f"a number of {printable(kind.code, 20)}")
    raw = data if isinstance(data, bytes) else data.encode("latin1")
    expect(len(raw) == struct.calcsize(letter))
    return struct.unpack((">" if kind.order == ">" else "<") + letter, raw)[0]


# --- containers and bytes -------------------------------------------------------------------------------------------


def _ordered(budget: Budget, arguments: Arguments) -> Any:
    """``OrderedDict()``, or ``OrderedDict([[key, value], …])`` as Python 2 wrote it."""
    made = OrderedMapping()
    expect(len(arguments) <= 1)
    for pair in _items(budget, arguments):
        expect(isinstance(pair, (list, tuple)) and len(cast("list[Any]", pair)) == 2)
        made[key_of(pair[0])] = pair[1]
    return made


def _items(budget: Budget, arguments: Arguments) -> list[Any]:
    if not arguments:
        return []
    expect(isinstance(arguments[0], list))
    budget.spend_items(len(cast("list[Any]", arguments[0])))
    return cast("list[Any]", arguments[0])


def _default(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) <= 1 and all(isinstance(each, Known) or each is None for each in arguments))
    return OrderedMapping()


def _counter(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) <= 1 and all(isinstance(each, dict) for each in arguments))
    return arguments[0] if arguments else OrderedMapping()


def _set(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) <= 1 and all(isinstance(each, list) for each in arguments))
    return cast("list[Any]", arguments[0]) if arguments else list[Any]()  # shown nowhere: a list of its items will do


def _encode(budget: Budget, arguments: Arguments) -> Any:
    """``_codecs.encode(text, "latin1")``: how protocol 2 writes bytes. Any other codec could unpack a bomb."""
    expect(len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1"))
    budget.spend_bytes(len(arguments[0]))
    return arguments[0].encode("latin1")


def _bytearray(budget: Budget, arguments: Arguments) -> Any:
    if len(arguments) == 2:
        return _encode(budget, arguments)
    if len(arguments) == 1 and type(arguments[0]) is int:
        raise RefusedPickleError(
            f"the pickle asks for bytearray({printable(hex(arguments[0]), 30)}), bytes that it lacks"
        )
    expect(not arguments or (len(arguments) == 1 and isinstance(arguments[0], bytes)))
    return arguments[0] if arguments else b""


def _no_bytes(budget: Budget, arguments: Arguments) -> Any:
    """``bytes()``, protocol 2's empty bytes; with arguments it would make as many as they say."""
    expect(not arguments)
    return b""


def _complex(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) == 2 and all(type(each) in (float, int) for each in arguments))
    return arguments


def _size(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) == 1)
    return sizes(tuple(_items(budget, arguments)) if isinstance(arguments[0], list) else arguments[0])


def _device(budget: Budget, arguments: Arguments) -> Any:
    expect(1 <= len(arguments) <= 2 and isinstance(arguments[0], str))
    return arguments[0]


def _layout(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) == 1 and isinstance(arguments[0], str))
    return arguments[0]


# --- objects and words ----------------------------------------------------------------------------------------------


def _object(budget: Budget, arguments: Arguments) -> Any:
    """``_reconstructor(class, base, state)`` and ``__newobj__(class, *arguments)``, objects of older protocols."""
    kind = arguments[0] if arguments else None
    expect(isinstance(kind, Known) and kind.name not in CALLS and kind.name not in CONSTANTS)
    budget.spend_items(len(arguments))
    return Record(cast(Known, kind).name, arguments[1:])


def _plain_object(kind: str) -> Callable[[Budget, Arguments], Any]:
    """An object of a class of Python's own or NumPy's that only holds what it is given."""

    def make(budget: Budget, arguments: Arguments) -> Any:
        budget.spend_items(len(arguments))
        return Record(kind, arguments)

    return make


def _said(kind: str) -> Callable[[Budget, Arguments], Any]:
    """A value of Python's own, as a word."""

    def say(budget: Budget, arguments: Arguments) -> Any:
        expect(len(arguments) <= 8 and all(is_plain(each) for each in arguments))
        return f"{kind}({', '.join(printable(each, 60) for each in arguments)})"

    return say


def _path(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) <= 1_000 and all(isinstance(each, str) for each in arguments))
    return printable("/".join(each[:1_000] for each in arguments).replace("//", "/"), 1_000)


def _moment(budget: Budget, arguments: Arguments) -> Any:
    """``datetime(bytes)``, ``date(bytes)`` and ``time(bytes)``: two bytes of the year, then one for each part."""
    expect(len(arguments) in (1, 2) and isinstance(arguments[0], (bytes, str)) and len(arguments[0]) in (4, 6, 10))
    raw = arguments[0] if isinstance(arguments[0], bytes) else arguments[0].encode("latin1")
    day = f"{raw[0] << 8 | raw[1]:04}-{raw[2] & 0x7F:02}-{raw[3]:02}" if len(raw) != 6 else ""
    hours = raw[4:7] if len(raw) == 10 else raw[:3]
    return " ".join(filter(None, (day, ":".join(f"{part & 0x7F:02}" for part in hours) if len(raw) > 4 else "")))


def _member(budget: Budget, arguments: Arguments) -> Any:
    """``getattr(class, name)``, as enumerations write their members; ``typing.Optional[class]`` is written alike."""
    expect(len(arguments) == 2 and isinstance(arguments[0], Known) and isinstance(arguments[1], (str, Known, tuple)))
    owner = arguments[0].name
    if isinstance(arguments[1], str):
        return f"{owner}.{printable(arguments[1])}"
    expect(owner.startswith("typing."))
    return f"{owner}[…]"


def _as_it_is(budget: Budget, arguments: Arguments) -> Any:
    expect(len(arguments) in (1, 2))
    return arguments[0]


CALLS: Mapping[str, Callable[[Budget, Arguments], Any]] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": _size,
    "torch.device": _device,
    "torch.serialization._get_layout": _layout,
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _default,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytearray": _bytearray,
    "builtins.bytes": _no_bytes,
    "builtins.complex": _complex,
    "_codecs.encode": _encode,
    "numpy.dtype": _dtype,
    "copyreg._reconstructor": _object,
    "copyreg.__newobj__": _object,
    "copyreg.__newobj_ex__": _object,
    **{name: _plain_object(name) for name in ("functools.partial", "types.SimpleNamespace", "collections.deque")},
    **{
        f"numpy.random._pickle.__{kind}_ctor": _plain_object(f"numpy.random.{kind}")
        for kind in ("randomstate", "generator", "bit_generator")
    },
    **{
        f"pathlib{own}.{pure}{system}Path": _path
        for own in ("", "._local")
        for pure in ("", "Pure")
        for system in ("Posix", "Windows", "")
    },
    **{f"datetime.{kind}": _moment for kind in ("datetime", "date", "time")},
    **{f"datetime.{kind}": _said(kind) for kind in ("timedelta", "timezone")},
    **{name: _said(name) for name in ("decimal.Decimal", "fractions.Fraction", "logging.getLogger", "re._compile")},
    **{f"builtins.{name}": _said(name) for name in ("slice", "range")},
    "builtins.getattr": _member,
    "operator.getitem": _member,
    "_operator.getitem": _member,
    **{
        f"torch.jit._pickle.{name}": _as_it_is
        for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
    },
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
"""Names that may be called, each with what it stands for here."""

CONSTANTS: frozenset[str] = frozenset(
    [
        *STORAGES,
        *_TENSOR_CLASSES,
        *(f"torch.{name}" for name in DTYPES),
        *(f"torch.per_{how}" for how in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")),
        "torch.per_channel_affine_float_qparams",
        "numpy.ndarray",
        *(f"builtins.{name}" for name in ("dict", "list", "int", "float", "str", "bool", "tuple")),
    ]
)
"""Names that may stand somewhere and not be called."""
