"""Rounding to the number formats that a GPU or a framework may compute in, in NumPy alone.

To prove that a layer ran in TF32, its operands are rounded here as the hardware rounds them. Everything works on
float64 arrays by integer arithmetic on their bits, so that no value is rounded twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["BFLOAT16", "FLOAT16", "FLOAT32", "TF32", "Format", "Rounding", "fits", "in_pieces", "to_format"]

Array = NDArray[Any]
Rounding = Literal["even", "away", "down"]

_PIECE = 1 << 14  # numbers whose float64 work the cache of a core has room for


@dataclass(frozen=True)
class Format:
    """Describes a binary floating-point format.

    Attributes:
        name: As the verdicts call it.
        mantissa: Explicit bits of the significand.
        lowest: The exponent of its smallest normal number.
        largest: The largest finite number.
        level: The effective bits that a layer computed in it shows against exact arithmetic (measured).
    """

    name: str
    mantissa: int
    lowest: int
    largest: float
    level: float


FLOAT32 = Format("float32", 23, -126, 3.4028234663852886e38, 23.0)
#: NVIDIA's 19-bit format of matrix products: float32's range, float16's significand.
TF32 = Format("tf32", 10, -126, 3.4011621342146535e38, 11.7)
FLOAT16 = Format("float16", 10, -14, 65504.0, 11.4)
BFLOAT16 = Format("bfloat16", 7, -126, 3.3895313892515355e38, 8.4)


def to_format(x: Array, wanted: Format, rounding: Rounding = "even") -> Array:
    """Round ``x`` (float64) to a format, still as float64; what is too large becomes infinite.

    Args:
        rounding: To the nearest with ties to ``even`` (IEEE 754, most conversions), ties ``away`` from zero (CUDA's
            ``cvt.rna.tf32``), or ``down`` towards zero (hardware that reads float32 and ignores the low bits).
    """
    return in_pieces(lambda piece: _to_format(piece, wanted, rounding), x)


def in_pieces(function: Callable[[Array], Array], x: Array) -> Array:
    """Apply a function of single numbers to ``x`` (as float64), some at a time: what it makes on the way then stays in
    the processor's cache, which is five times as fast for a million numbers."""
    x = np.ascontiguousarray(x, np.float64)
    if x.size <= _PIECE:
        return function(x)
    out, flat = np.empty(x.size), x.reshape(-1)
    for start in range(0, x.size, _PIECE):
        out[start : start + _PIECE] = function(flat[start : start + _PIECE])
    return out.reshape(x.shape)


def _to_format(x: Array, wanted: Format, rounding: Rounding) -> Array:
    drop = 52 - wanted.mantissa
    bits = x.view(np.int64)
    # The sign stands apart from the magnitude, so adding to the magnitude rounds away from zero on both sides.
    if rounding == "even":
        bits = bits + (((bits >> drop) & 1) + ((1 << (drop - 1)) - 1))
    elif rounding == "away":
        bits = bits + (1 << (drop - 1))
    out = (bits & ~np.int64((1 << drop) - 1)).view(np.float64)
    size = np.abs(x)
    small = size < 2.0**wanted.lowest
    if small.any():
        quantum = 2.0 ** (wanted.lowest - wanted.mantissa)
        steps = x[small] / quantum
        out[small] = (np.trunc(steps) if rounding == "down" else np.rint(steps)) * quantum
    large = ~(np.abs(out) <= wanted.largest)
    if large.any():
        top = wanted.largest if rounding == "down" else np.inf
        out[large] = np.where(np.isfinite(x[large]), np.copysign(top, x[large]), x[large])
    return out


def fits(x: Array, wanted: Format) -> bool:
    """Tell whether every finite number of ``x`` is one of the format's, as all are that were computed in it."""
    flat = np.ascontiguousarray(x, np.float64).reshape(-1)
    for start in range(0, flat.size, 1 << 20):
        part = flat[start : start + (1 << 20)]
        if not np.all((to_format(part, wanted) == part) | ~np.isfinite(part)):
            return False
    return True
