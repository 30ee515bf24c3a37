"""Every name that a PyTorch pickle may mention, and what is done where it asks for a call. It is the whole vocabulary.

A pickle is a program: it names callables and asks for them to be called. None is ever looked up here. A name in these
tables stands for one of the small functions below, each of which describes what torch or NumPy would have built; a
name outside them refuses the file. Sources: ``torch._utils``, ``torch._weights_only_unpickler`` (torch 2.13), NumPy's
and collections' ``__reduce__``.
"""

from __future__ import annotations

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
    RefusedPickleError,
    StorageRef,
    TensorRef,
    expect,
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
    expect(len(arguments) in (3, 4) and isinstance(arguments[0], (TensorRef, Opaque, InlineArray)))
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
    "torch._utils._rebuild_qtensor": _opaque("quantised"),
    "torch._utils._rebuild_sparse_tensor": _opaque("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _opaque("sparse"),
    "torch._utils._rebuild_nested_tensor": _opaque("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": _opaque("without data (saved on the device meta)"),
}
_TENSOR_CLASSES = frozenset(("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"))

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
    return arguments[1]  # its bytes: numbers beside a model's arrays are nothing that is shown


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
