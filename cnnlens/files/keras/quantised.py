"""Kernels that were quantised, as the float32 numbers that they stand for.

Keras stores int8 kernels to be divided by a scale, int4 ones packed two to a byte, in groups with a zero point, to be
multiplied by one: two conventions in one file format, so the rule is written down once, here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.jsontext import integer
from cnnlens.files.keras.variables import quantisation_mode

__all__ = ["dequantise"]


def dequantise(weights: Mapping[str, StoredArray], config: Mapping[str, Any]) -> NDArray[np.float32]:
    """Unpack the float32 kernel that a Dense layer's stored arrays stand for.

    Args:
        weights: The layer's arrays by name, as in ``ModelFile.weights``.
        config: The layer's own config (``entry["config"]``), whose dtype policy names the mode.

    Returns:
        (in, units), float32. For int8 and for int4 without groups ``q / kernel_scale``, the scale broadcast from the
        right; for int4 in groups ``(q - zero[g]) * scale[g]`` with ``g = g_idx[input]``
        (``keras.src.quantizers.dequantize_with_sz_map``); for float8, whose kernel stays float32, the kernel as it is.

    Raises:
        CnnlensError: A mode or a set of arrays that is not known here.
    """
    mode = quantisation_mode(config)
    if "kernel" not in weights:
        raise CnnlensError(
            f"a layer quantised as {mode or 'nothing'} without an array named kernel; view the raw arrays"
        )
    stored = weights["kernel"].read()
    if stored.dtype.kind == "f":
        return stored.astype(np.float32, copy=False)
    if "kernel_scale" not in weights or stored.ndim != 2:
        raise CnnlensError("a quantised kernel without kernel_scale, or of other than two axes; view the raw arrays")
    scale = weights["kernel_scale"].read().astype(np.float32)
    if mode == "int8":
        return stored.astype(np.float32) / scale
    if mode != "int4":
        raise CnnlensError(f"a kernel quantised as {mode or 'integers'}, not int8 or int4; view the raw arrays")
    units = integer(config.get("units"))
    if units is None or stored.shape[1] != (units + 1) // 2:
        raise CnnlensError(f"an int4 kernel of shape {stored.shape} for {units} units; view the raw arrays")
    numbers = _unpack_int4(stored, units).astype(np.float32)
    if "kernel_zero" not in weights:
        return numbers / scale
    if "g_idx" not in weights:
        raise CnnlensError("an int4 kernel in groups without g_idx; view the raw arrays")
    group = weights["g_idx"].read().astype(np.int64)
    zero = weights["kernel_zero"].read().astype(np.float32)
    if group.shape != (stored.shape[0],) or zero.shape != scale.shape or scale.shape[1:] != (units,):
        raise CnnlensError("an int4 kernel whose scale, zero and g_idx do not fit it; view the raw arrays")
    if group.size and (group.min() < 0 or group.max() >= scale.shape[0]):
        raise CnnlensError("an int4 kernel whose g_idx names groups that are not there; view the raw arrays")
    return (numbers - zero[group]) * scale[group]


def _unpack_int4(packed: NDArray[Any], length: int) -> NDArray[np.int8]:
    """(rows, ceil(length / 2)) bytes to (rows, length) numbers in -8..7, the low nibble first."""
    low = (packed.astype(np.int16) & 0x0F).astype(np.int8)
    high = ((packed.astype(np.int16) >> 4) & 0x0F).astype(np.int8)
    pairs = np.stack([low, high], axis=-1).reshape(packed.shape[0], -1)[:, :length]
    return (pairs ^ np.int8(8)) - np.int8(8)
