"""NaN and infinity: where they stand, whether both sides have them, and which weights brought them in.

A statistic over finite numbers alone would pass over a channel of NaN, and backends disagree on what becomes of one
(a compiled convolution with ReLU may turn it into zero), so positions are compared before any number is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.noise.case import Case, arrays_of
from cnnlens.network.graph import Layer
from cnnlens.reference.arithmetic.interpolation import Interpolation
from cnnlens.reference.keras.resizing import CenterCrop, Resizing, UpSampling

__all__ = ["ANYTHING", "NEARLY", "Strays", "beside_infinity", "nonfinite_weights", "smeared", "strays"]

Array = NDArray[Any]

#: A scale so large that any number is within it.
ANYTHING = 1e100
#: Terms of this size may overflow on the way: in a sum of them, or in a Winograd transform, which adds up to nine.
NEARLY = 2.0**124


def _kind(x: Array) -> Array:
    """0 for a finite number, 1 for +inf, 2 for -inf, 3 for NaN."""
    return np.where(np.isnan(x), 3, np.where(np.isposinf(x), 1, np.where(np.isneginf(x), 2, 0))).astype(np.int8)


_NAMES = ("a number", "+inf", "-inf", "NaN")


@dataclass(frozen=True)
class Strays:
    """Holds outputs that are NaN or infinite where they should not be, or the other way round.

    Attributes:
        position: The first one's; ``had`` and ``wanted``: what is there and what should be.
        channels, count: All that there are.
    """

    position: tuple[int, ...]
    had: int
    wanted: int
    channels: frozenset[int]
    count: int

    def __add__(self, later: Strays | None) -> Strays:
        """Add those of a later part."""
        if later is None:
            return self
        return replace(self, channels=self.channels | later.channels, count=self.count + later.count)

    @property
    def text(self) -> str:
        """Say what is wrong, in which channels and how often."""
        where = channels(sorted(self.channels))
        if self.wanted and self.had:
            text = f"{_NAMES[self.had]} where the reference has {_NAMES[self.wanted]} in output {where}"
        elif self.wanted:
            text = f"{_NAMES[self.wanted]} in output {where}, which the backend hides"
        else:
            text = f"{_NAMES[self.had]} in output {where}, which the backend makes"
        return f"{text} ({self.count:,} output{'s' * (self.count != 1)})"


def strays(case: Case, expected: Array, first: int = 0, excused: Array | None = None) -> Strays | None:
    """Find NaN and infinity in the wrong positions; None if there are none.

    Args:
        expected: The reference's output in float64; what overflows float32 counts as infinite.
        first: The number of the first example.
        excused: Where an honest output may be infinite or NaN whatever the reference has (``prediction.excused``).
    """
    output = np.asarray(case.output)
    with np.errstate(all="ignore"):
        narrow = expected.astype(np.float32)
    if np.isfinite(output).all() and np.isfinite(narrow).all():
        return None
    have, want = _kind(output), _kind(narrow)
    wrong = have != want
    if not all(np.isfinite(x).all() for x in arrays_of((case.args, dict(case.kwargs))) if x.dtype.kind == "f"):
        # Whether an infinity that came in leaves as one or as NaN hangs on the order of sums, and on terms times 0.
        wrong &= (have == 0) | (want == 0)
    if excused is not None:
        wrong &= ~(excused & (have > 0))
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
    axis = case.channel(output)
    hit = np.flatnonzero(wrong.any(axis=tuple(place for place in range(wrong.ndim) if place != axis)))
    position = (index[0] + first, *index[1:]) if index else index
    return Strays(position, int(have[index]), int(want[index]), frozenset(hit.tolist()), int(wrong.sum()))


def smeared(case: Case) -> Array | bool:
    """Find outputs that may be NaN because of another place's: JAX resizes by multiplying whole rows and columns of an
    example's channel with weights that are mostly 0."""
    resizes = isinstance(case.operation, Resizing | CenterCrop | UpSampling | Interpolation)
    if not resizes and case.operation.kind != "Resize":
        return False
    x = np.asarray(case.args[0])
    if isinstance(case.operation, CenterCrop) and all(a <= b for a, b in zip(case.output.shape, x.shape, strict=True)):
        return False  # it only cuts
    axis = case.channel(x)
    spatial = tuple(place for place in range(1, x.ndim) if place != axis)
    return np.asarray(~np.isfinite(x).all(axis=spatial, keepdims=True))


def beside_infinity(x: Array, axis: Any) -> Array:
    """Find numbers with infinity in their row, whose softmax is 0 or NaN by the way it is computed.

    ``exp(x) / sum(exp(x))``, as it is defined, and ``exp(x - logsumexp(x))``, as Keras has it over several axes, make
    them 0; where the largest is taken off first, infinity less itself makes the whole row NaN.
    """
    return (x < np.inf) & (x.max(axis=axis, keepdims=True) == np.inf)  # which a NaN in the row is not


def channels(numbers: Any, limit: int = 6) -> str:
    """``channel 3`` or ``channels 3, 5 and 8`` or ``channels 3, 5, 8, … (12 of them)``."""
    listed = [int(number) for number in numbers]
    if len(listed) == 1:
        return f"channel {listed[0]}"
    if len(listed) <= limit:
        return f"channels {', '.join(map(str, listed[:-1]))} and {listed[-1]}"
    return f"channels {', '.join(map(str, listed[:limit]))}, … ({len(listed)} of them)"


def nonfinite_weights(layer: Layer | None, weights: Any) -> str:
    """Name a weight with NaN or infinity and its output channels, in a sentence; empty if all are finite."""
    for name, array in weights.items():
        if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
            continue
        bad = ~np.isfinite(array)
        what = "NaN" if np.isnan(array).any() else "infinity"
        axis = _channel_axis(layer.kind if layer else "", name, array.ndim)
        if isinstance(axis, tuple):  # a depthwise kernel: output channel c * multiplier + m
            marked = bad.any(axis=tuple(range(array.ndim - 2))).reshape(-1)
        else:
            marked = bad.any(axis=tuple(place for place in range(array.ndim) if place != axis))
        return f"the file's {name} has {what} in output {channels(np.flatnonzero(marked))}"
    return ""


def _channel_axis(kind: str, name: str, rank: int) -> int | tuple[int, int]:
    role = name.rsplit("/", 1)[-1]
    if "Depthwise" in kind and role in ("kernel", "depthwise_kernel"):
        return rank - 2, rank - 1
    if role == "kernel" and ("Transpose" in kind or "Deconvolution" in kind):
        return rank - 2
    return rank - 1
