"""Arrays of a PyTorch file in whatever form it stores them: as they are, quantised, sparse, or packed with others.

Each is shown as the numbers that it stands for, as torch's ``dequantize()`` and ``to_dense()`` compute them, and says
the form that the file has. Sources (torch 2.13): ``dequantize_tensor_*`` in
``aten/src/ATen/native/quantized/cpu/kernels/QuantizedOpKernels.cpp`` and the ``__getstate__`` of the packed parameters
in ``aten/src/ATen/native/quantized/cpu`` (``fbgemm_utils.cpp``, ``conv_serialization.h``, ``RNN.cpp``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import StoredArray, check_shape
from cnnlens.files.limits import human_bytes, unpacked_at_most
from cnnlens.files.torch.pickle_values import InlineArray, Known, Opaque, QuantisedRef, Record, SparseRef, TensorRef
from cnnlens.files.torch.storages import SAVE_AGAIN, StorageFinder, inline_array, view_array
from cnnlens.text import printable

__all__ = ["TENSORS", "array_of", "packed_arrays", "unpacked"]

TENSORS = (TensorRef, QuantisedRef, SparseRef, Opaque, InlineArray)

_CODES = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
_PACKED = re.compile(r"(^|\.)(param|(_packed_params\.)?_packed_(params|weight))$")
"""Where a state dict has packed parameters: those of a layer, of an embedding, of a cell of a recurrent layer."""
_PLAINLY_PACKED = re.compile(r"(^|\.)_packed_params\.(?=(weight|bias)$)")
"""Where torch 1.4 has the same of a linear layer, as tensors."""
_PACKED_PARTS = 4
"""Entries of a set of packed parameters, and of a list in it, that may be the weight or the bias."""


def array_of(path: Path, name: str, value: Any, find: StorageFinder) -> StoredArray | str:
    """Make a tensor an array that is not read yet, or say why it cannot be shown ("nested", "quint4x2").

    Raises:
        FileRefusedError: It claims elements that its storage has not, or its parts do not fit together.
    """
    if isinstance(value, Opaque):
        return value.what
    check_shape(path, name, value.shape, SAVE_AGAIN)
    if isinstance(value, InlineArray):
        return inline_array(path, name, value)
    if isinstance(value, QuantisedRef):
        return _quantised(path, name, value, find)
    if isinstance(value, SparseRef):
        return _sparse(path, name, value, find)
    return view_array(path, name, value, find)


# --- quantised ------------------------------------------------------------------------------------------------------


def _quantised(path: Path, name: str, tensor: QuantisedRef, find: StorageFinder) -> StoredArray | str:
    kind, shape, axis = tensor.codes.dtype, tensor.shape, tensor.axis
    if kind not in _CODES:
        return kind
    codes = cast(StoredArray, view_array(path, name, replace(tensor.codes, dtype=_CODES[kind]), find))
    if axis is None:
        scale, zero = np.float32(cast(float, tensor.scale)), cast(int, tensor.zero_point)
        if not -(1 << 31) <= zero < 1 << 31:
            raise FileRefusedError(path, name, f"the zero point {printable(zero, 40)}, of 32 bits at most", SAVE_AGAIN)

        def per_tensor() -> NDArray[Any]:
            whole = codes.read().astype(np.int32)
            whole -= np.int32(zero)
            numbers = whole.astype(np.float32)
            with np.errstate(all="ignore"):
                numbers *= scale
            return numbers

        return StoredArray(shape, np.dtype(np.float32), f"{kind} per tensor", name, per_tensor)
    if not 0 <= axis < len(shape):
        raise FileRefusedError(path, name, f"quantised along axis {printable(axis, 40)} of {len(shape)}", SAVE_AGAIN)
    scales, zeros = (_each(path, name, part, find, shape[axis]) for part in (tensor.scale, tensor.zero_point))
    spread = [1] * len(shape)
    spread[axis] = shape[axis]

    def per_channel() -> NDArray[Any]:
        numbers = codes.read().astype(np.float32)
        with np.errstate(all="ignore"):
            numbers -= zeros().astype(np.float32).reshape(spread)
            factor = scales().astype(np.float64 if tensor.exact else np.float32).reshape(spread)
            return np.multiply(numbers, factor, out=numbers, casting="same_kind", dtype=factor.dtype)

    form = f"{kind} per channel" + (f" (axis {axis})" if axis else "")
    return StoredArray(shape, np.dtype(np.float32), form, name, per_channel)


def _each(path: Path, name: str, part: Any, find: StorageFinder, length: int) -> Callable[[], NDArray[Any]]:
    """What reads the scales or zero points, one for each of ``length`` channels."""
    array = view_array(path, name, part, find) if isinstance(part, TensorRef) else np.array(part, np.float64)
    if isinstance(array, str) or array.shape != (length,) or array.dtype.kind not in "fiu":
        found = "of another type" if isinstance(array, str) else f"of shape {printable(array.shape, 100)}"
        raise FileRefusedError(
            path, name, f"scales or zero points {found} where its axis has {length:,} channels", SAVE_AGAIN
        )
    return array.read if isinstance(array, StoredArray) else lambda: array


# --- sparse ---------------------------------------------------------------------------------------------------------


def _sparse(path: Path, name: str, tensor: SparseRef, find: StorageFinder) -> StoredArray | str:
    shape, layout = tensor.shape, tensor.layout
    form = f"sparse {layout.upper()}"
    values = view_array(path, name, tensor.values, find)
    indices = [view_array(path, name, each, find) for each in tensor.indices]
    if isinstance(values, str):
        return f"{form} of {values}"
    if layout != "coo" and len(shape) != 2:
        return f"{form} of {len(shape)} axes"
    whole = [each for each in indices if isinstance(each, StoredArray) and each.dtype.kind == "i"]
    if len(whole) != len(indices) or not _fit(layout, shape, [each.shape for each in whole], values.shape):
        shapes = ", ".join(printable(each.shape, 60) for each in (*tensor.indices, tensor.values))
        raise FileRefusedError(
            path, name, f"a {form} tensor of shape {printable(shape, 60)} with parts of {shapes}", SAVE_AGAIN
        )
    dense = math.prod(shape) * values.dtype.itemsize
    if dense > unpacked_at_most(values.nbytes + sum(each.nbytes for each in whole)):
        return f"{form}, and {human_bytes(dense)} with its zeros"

    def load() -> NDArray[Any]:
        made = np.zeros(shape, values.dtype)
        places = _places(layout, shape, [each.read() for each in whole], values.shape)
        if places is None:
            raise FileRefusedError(path, name, f"a {form} tensor with indices outside its shape", SAVE_AGAIN)
        target, stored = made, values.read()
        if layout != "coo":
            stored = stored.reshape(len(stored), *(stored.shape[1:] or (1, 1)))
            high, wide = stored.shape[1:]
            target = made.reshape(shape[0] // high, high, shape[1] // wide, wide).transpose(0, 2, 1, 3)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity and its opposite are NaN, as in PyTorch
            if places:
                np.add.at(target, places, stored)  # an index may come twice, and then they are added
            else:
                made[...] = stored.sum(0)
        return made

    share = math.prod(values.shape) / max(1, math.prod(shape))
    return StoredArray(shape, values.dtype, f"{values.stored_dtype}, {form}, {share:.1%} stored", name, load)


def _fit(layout: str, shape: tuple[int, ...], indices: list[tuple[int, ...]], values: tuple[int, ...]) -> bool:
    if layout == "coo":
        axes, count = indices[0] if len(indices[0]) == 2 else (-1, -1)
        return values[:1] == (count,) and axes <= len(shape) and values[1:] == shape[axes:]
    block = values[1:] or (1, 1)
    if len(block) != 2 or (len(values) == 3) != layout.startswith("b") or 0 in block:
        return False
    rows = 0 if layout.endswith("r") else 1
    whole = all(size % part == 0 for size, part in zip(shape, block, strict=True))
    return whole and indices == [(shape[rows] // block[rows] + 1,), (values[0],)]


def _places(
    layout: str, shape: tuple[int, ...], indices: list[NDArray[Any]], values: tuple[int, ...]
) -> tuple[NDArray[Any], ...] | None:
    """The index along each sparse axis of every stored element or block; None where one is outside."""
    if layout == "coo":
        places, sizes = tuple(indices[0]), shape
    else:
        begins, other = indices
        lengths = np.diff(begins)
        if begins[0] != 0 or begins[-1] != len(other) or (lengths < 0).any():
            return None
        first = np.repeat(np.arange(len(lengths)), lengths)
        places = (first, other) if layout.endswith("r") else (other, first)
        sizes = tuple(size // part for size, part in zip(shape, values[1:] or (1, 1), strict=True))
    pairs = zip(places, sizes, strict=False)  # the axes behind those of COO's indices are in its values
    within = all(not len(each) or 0 <= each.min() <= each.max() < size for each, size in pairs)
    return places if within else None


# --- packed ---------------------------------------------------------------------------------------------------------


def packed_arrays(value: Any) -> dict[str, Any]:
    """Take apart what a quantised layer packs together, its weight and bias by name; nothing where it is no such thing.

    Args:
        value: A state dict's pair (weight, bias), or the object of a whole module or of TorchScript that holds them.
    """
    if isinstance(value, Record):
        kind, state = _object(value)
        if kind.endswith("CellParamsBase"):
            return _cell(state)
        return _weight_and_bias(_tensors(state)) if "PackedParamsBase" in kind else {}
    pair = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()
    if len(pair) == 2 and isinstance(pair[0], TENSORS) and (pair[1] is None or isinstance(pair[1], TENSORS)):
        return _weight_and_bias(list(pair))
    return {}


def unpacked(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    """Take apart what the quantised layers of a state dict packed, under the names that other layers give it."""
    found: dict[Any, Any] = {}
    for key, value in mapping.items():
        place = _PACKED.search(key) if isinstance(key, str) else None
        if place is None:
            if not (isinstance(value, Known) and isinstance(key, str) and key.endswith("_packed_params.dtype")):
                plain = _PLAINLY_PACKED.sub(r"\1", key) if isinstance(key, str) else key
                found[plain if plain not in mapping else key] = value
            continue
        owner = place.string[: place.start()]
        for part, each in (packed_arrays(value) or {"weight" if isinstance(value, TENSORS) else "": value}).items():
            name = f"{owner}.{part}" if owner and part else part or key
            found[name if name not in mapping else key] = each
    return found


def _object(record: Record) -> tuple[str, Any]:
    """The class and the state of an object of torch's own; a pickle of Python keeps both in its state."""
    state = cast("tuple[Any, ...]", record.state if isinstance(record.state, tuple) else ())
    if record.kind == "torch.ScriptObject" and len(state) == 2 and isinstance(state[1], str):
        return state[1], state[0]
    return record.kind, state


def _tensors(state: Any, depth: int = 0) -> list[Any]:
    """The tensors in a tuple, and in the lists in it, in their order."""
    if isinstance(state, TENSORS):
        return [state]
    parts = cast("list[Any]", state)[:_PACKED_PARTS] if isinstance(state, (tuple, list)) and depth < 3 else []
    return [tensor for part in parts for tensor in _tensors(part, depth + 1)]


def _weight_and_bias(tensors: list[Any]) -> dict[str, Any]:
    """The two among what is packed: convolutions keep their settings as one more array, of whole numbers."""
    shown = [each for each in tensors if isinstance(each, (QuantisedRef, TensorRef))]
    weight = next((each for each in shown if isinstance(each, QuantisedRef) or len(each.shape) > 1), None)
    if weight is None:
        return {}
    floats = [each for each in shown if isinstance(each, TensorRef) and each.dtype.startswith("float")]
    bias = next((each for each in floats if len(each.shape) == 1), None)
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


def _cell(state: Any) -> dict[str, Any]:
    """A cell of a recurrent layer quantised as it runs: two sets of packed parameters, of the input and the state."""
    parts = cast("tuple[Any, ...]", state) if isinstance(state, tuple) else ()
    packed = cast("list[Any]", parts[-1])[:2] if parts and isinstance(parts[-1], list) else []
    found: dict[str, Any] = {}
    for ending, one in zip(("ih", "hh"), packed, strict=False):
        found |= {f"{name}_{ending}": each for name, each in packed_arrays(one).items()}
    return found
