"""A ``.safetensors`` file written array by array: a length, a header in JSON, the bytes one after another.

The safetensors library writes from pointers to arrays that must all be in memory at once, and knows no bfloat16 through
NumPy; the format is four lines (https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.text import printable

__all__ = ["Tensor", "bfloat16_bits", "write_safetensors"]

_DTYPES: Mapping[str, tuple[str, int]] = {
    "float64": ("F64", 8), "float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2), "int64": ("I64", 8),
    "int32": ("I32", 4), "int16": ("I16", 2), "int8": ("I8", 1), "uint8": ("U8", 1), "bool": ("BOOL", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """Describes an array to write: type by name (``bfloat16`` too), shape, and what reads it when its turn comes."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write ``tensors`` by name, as PyTorch's ``safetensors.torch.load_file`` reads them.

    Raises:
        CnnlensError: a tensor is of a type that the format does not have.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise CnnlensError(f"array '{printable(name)}': safetensors has no type {printable(tensor.dtype)}")
    # Wide types first, so that each array lies at a multiple of its own width.
    order = sorted(tensors, key=lambda name: (-_DTYPES[tensors[name].dtype][1], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in order:
        kind, width = _DTYPES[tensors[name].dtype]
        end = offset + math.prod(tensors[name].shape) * width
        header[name] = {"dtype": kind, "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            stream.write(_bytes(tensors[name]))


def _bytes(tensor: Tensor) -> bytes:
    array = tensor.read()
    if tensor.dtype == "bfloat16":
        return bfloat16_bits(array).tobytes()
    return np.ascontiguousarray(array, np.dtype(tensor.dtype).newbyteorder("<")).tobytes()


def bfloat16_bits(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Round float32 values to the two upper bytes of each, to nearest even."""
    wide = np.ascontiguousarray(values, np.float32)
    bits = wide.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    kept = np.where(np.isnan(wide), bits | np.uint32(0x400000), rounded)
    return (kept >> np.uint32(16)).astype(np.uint16)
