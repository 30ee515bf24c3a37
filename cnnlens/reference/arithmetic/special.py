"""The error function and its complement, which NumPy lacks and the exact GELU needs.

Near zero it is ``x P(x^2)``; from 1 on it is ``1 - exp(-x^2) Q((x - 4) / (x + 4)) / (x + 4)``. P and Q are Chebyshev
expansions of the true functions, computed once with 60 digits and cut off below the rounding of the dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["erf", "erfc"]

_END = 27.0  # where erfc(x) leaves float64; the expansion for float32 is of [1, 10.5], where it leaves that

_SMALL_64 = (
    1.1283791670955126, -0.37612638903183754, 0.1128379167095512, -0.026866170645129854, 0.005223977625423455,
    -0.0008548327021945428, 0.00012055332903350668, -1.4925647581008593e-05, 1.6462045711013026e-06,
    -1.6364645854816389e-07, 1.479243542696247e-08, -1.2164764337224506e-09, 8.709755232851789e-11,
    -4.2320376764874594e-12,
)  # fmt: skip
_LARGE_64 = (
    1.095995661000491, -0.976548729080882, 0.7732087022652372, -0.5408538313132369, 0.33085158787800256,
    -0.17401093723984543, 0.07638151490966238, -0.026370053342284944, 0.006112055649653053, -0.0002809588415799835,
    -0.00045505262800248916, 0.00017681263928261416, -3.635476616511352e-06, -1.8860019422292404e-05,
    4.695416269260885e-06, 1.4214535284606742e-06, -8.480803120701287e-07, -7.005225480435712e-08,
    1.25740596232476e-07, -5.420347898381221e-09, -1.5204114290177353e-08, 3.2902096590003387e-09,
)  # fmt: skip
_SMALL_32 = (
    1.1283791670623609, -0.3761263847599132, 0.11283782622062184, -0.026865438310515116, 0.005221053412537675,
    -0.0008484396550601893, 0.00011268253894199437, -9.673590811750782e-06,
)  # fmt: skip
_LARGE_32 = (
    1.0959956609121717, -0.9765486947518328, 0.7732087185885548, -0.5408559338358663, 0.33085054850762957,
    -0.17397571557627686, 0.07640448436990636, -0.02659520829005237, 0.005930494578631868, 0.00024122450478013694,
)  # fmt: skip


def erf(x: NDArray[Any]) -> NDArray[Any]:
    """Compute the error function of each element, float32 or float64, to about two units in the last place. NaN stays.

    Works through about sixty passes: give it blocks that stay in the cache.
    """
    size, near, far = _parts(x)
    np.subtract(x.dtype.type(1.0), far, out=far)
    return np.copysign(np.where(size < 1.0, near, far), x)


def erfc(x: NDArray[Any]) -> NDArray[Any]:
    """Compute ``1 - erf(x)`` of each element without the cancellation: its small values for large ``x`` keep all their
    digits but those that ``exp(-x^2)`` loses, ``x^2`` units in the last place."""
    size, near, far = _parts(x)
    one = x.dtype.type(1.0)
    inner = one - np.copysign(near, x)
    return np.where(size < 1.0, inner, np.where(x < 0, 2 * one - far, far))


def _parts(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """``|x|``, erf of it where it is below 1, and erfc of it where it is not."""
    small, large = (_SMALL_32, _LARGE_32) if x.dtype == np.float32 else (_SMALL_64, _LARGE_64)
    size = np.abs(x)
    square = size * size
    near = _polynomial(small, np.minimum(square, x.dtype.type(1.0)))
    near *= size
    # Beyond the end of the expansion exp(-x^2) is zero, or all but.
    within = np.minimum(size, x.dtype.type(_END))
    further = within + x.dtype.type(4.0)
    far = _polynomial(large, (within - x.dtype.type(4.0)) / further)
    far /= further
    far *= np.exp(-square)
    return size, near, far


def _polynomial(coefficients: tuple[float, ...], x: NDArray[Any]) -> NDArray[Any]:
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result *= x
        result += x.dtype.type(coefficient)
    return result
