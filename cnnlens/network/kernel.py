"""A convolution's (or dense layer's) weights in canonical axes, with the geometry that gives them meaning.

Wrong transposes pass shape annotations and square kernels hide them, so a Kernel is only made of an array that was
checked against its kind and geometry, and it is the one way from a stored array to another framework's. The
statistics live here too, once, for kernels and for any other weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NewType

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.errors import CnnlensError
from cnnlens.layout import Geometry
from cnnlens.page import Shown
from cnnlens.text import printable

__all__ = ["CanonicalArray", "Kernel", "Statistics", "statistics"]

CanonicalArray = NewType("CanonicalArray", NDArray[Any])
"""An array in canonical axes. Only :class:`Kernel` makes one, after checking it."""

# Elements at a time: 256 KB of float32 and its square stay in a core's second-level cache.
_BLOCK = 1 << 16

# Deviations below which squares lose bits, by the type that they are added up in.
_VANISHING = {np.dtype(one): np.sqrt(np.finfo(one).tiny / np.finfo(one).eps) for one in (np.float32, np.float64)}


@dataclass(frozen=True)
class Statistics:
    """Summarises an array's values: mean, deviation, extremes, and how many are not finite.

    ``mean`` and ``std`` (of the population) are NumPy's own for the array's dtype: for float32 they have the digits
    that ``array.mean()`` and ``array.std()`` print, so that a person can check them. All four numbers are the
    shortest decimals that name the value in that dtype. They are of the finite values alone, and NaN where there is
    none.

    Args:
        mean, std, min, max: Of the finite values, in the array's own units.
        count: All values, finite or not.
        nan, posinf, neginf: How many of them are not finite.

    >>> import cnnlens.sample
    >>> stats = cnnlens.open(cnnlens.sample.MODEL)["conv2d"].kernel.stats()
    >>> f"{stats.mean:.4f} {stats.std:.4f} {stats.min:.4f} {stats.max:.4f}"
    '-0.0412 0.2334 -0.9946 0.3469'
    >>> stats.count, stats.finite, stats.nan
    (288, 288, 0)
    """

    mean: float
    std: float
    min: float
    max: float
    count: int
    nan: int = 0
    posinf: int = 0
    neginf: int = 0

    @property
    def finite(self) -> int:
        """Count the finite values."""
        return self.count - self.nan - self.posinf - self.neginf


_NOT_SAID = Geometry()


@dataclass(frozen=True, eq=False, repr=False)
class Kernel(Shown, listing="network.listing", of="kernel"):
    """Holds a kernel in canonical axes, checked against its layer's kind and geometry.

    Args:
        array: ``(out, in / groups, *spatial)``, or ``(out, in)`` for a Dense; any real dtype; not copied.
        kind: Keras class name of the layer.
        weight: Keras name of the weight: ``kernel``, ``depthwise_kernel``, ``pointwise_kernel``, ``recurrent_kernel``.
        layout: The letters of the array as it was stored, such as ``HWIO``.
        geometry: Stride, padding, dilation, groups, and what else :class:`~cnnlens.layout.Geometry` holds.

    Raises:
        CnnlensError: The array does not fit the kind or the geometry.

    >>> import cnnlens.sample
    >>> kernel = cnnlens.open(cnnlens.sample.MODEL)["conv2d_1"].kernel
    >>> kernel.axes, kernel.shape, kernel.layout
    ('OIHW', (64, 32, 3, 3), 'HWIO')
    >>> kernel
    <Kernel Conv2D kernel: OIHW (64, 32, 3, 3) float32, stored as HWIO>
    >>> kernel.geometry.padding
    'same'
    >>> kernel.array.dtype
    dtype('float32')
    """

    array: CanonicalArray
    kind: str
    weight: str = "kernel"
    layout: str = ""
    geometry: Geometry = _NOT_SAID

    def __post_init__(self) -> None:
        what = f"{printable(self.kind)} {printable(self.weight)}"
        if self.array.dtype.kind not in "fiub":
            raise CnnlensError(f"{what} has dtype {self.array.dtype}; real numbers were expected")
        axes = layout.canonical_axes(self.kind, self.weight, self.geometry, self.array.ndim)
        if self.array.ndim < 2 or len(layout.split_axes(axes)) != self.array.ndim:
            raise CnnlensError(f"{what} has canonical shape {self.array.shape}, where {axes} was expected")
        groups = self.geometry.groups if self.weight != "pointwise_kernel" else 1
        if groups > 1 and self.array.shape[0] % groups:
            raise CnnlensError(f"{what} has {self.array.shape[0]} output channels, which {groups} groups do not divide")

    @classmethod
    def from_stored(
        cls,
        kind: str,
        stored: NDArray[Any],
        weight: str = "kernel",
        geometry: Geometry = _NOT_SAID,
        framework: str = "keras",
    ) -> Kernel:
        """Make a kernel of an array as ``framework`` stores it; a view of it where NumPy can make one.

        Args:
            kind, weight, geometry: As for the class.
            stored: The array in the framework's own axes, any real dtype, which is kept.
            framework: ``keras``, ``torch``, ``flax``, ``onnx`` or ``tflite``.

        Raises:
            CnnlensError: The framework has no such weight, or the shape does not fit the kind or the geometry.

        >>> import cnnlens
        >>> import numpy as np
        >>> kernel = cnnlens.Kernel.from_stored("Conv2D", np.zeros((3, 5, 4, 8), np.float32))  # Keras' (H, W, in, out)
        >>> kernel.layout, kernel.axes, kernel.shape
        ('HWIO', 'OIHW', (8, 4, 3, 5))
        >>> cnnlens.Kernel.from_stored("Conv2D", np.zeros((3, 5)))
        Traceback (most recent call last):
            ...
        cnnlens.errors.CnnlensError: Conv2D kernel from keras to canonical: has 2 axes, (3, 5), where HWIO has 4
        """
        geometry = layout.completed(kind, weight, stored.shape, geometry, framework)
        array = layout.canonicalise(kind, weight, stored, geometry, framework)
        axes = layout.stored_axes(kind, weight, framework, geometry, stored.ndim)
        return cls(CanonicalArray(array), kind, weight, axes, geometry)

    def __repr__(self) -> str:
        stored = f", stored as {printable(self.layout)}" if self.layout else ""
        shown = f"{self.axes} {self.shape} {self.array.dtype}"
        return f"<Kernel {printable(self.kind)} {printable(self.weight)}: {shown}{stored}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Give the canonical shape ``(out, in / groups, *spatial)``."""
        return self.array.shape

    @property
    def axes(self) -> str:
        """Give the letters of the canonical axes, such as ``OIHW``."""
        return layout.canonical_axes(self.kind, self.weight, self.geometry, self.array.ndim)

    def to(self, framework: str) -> NDArray[Any]:
        """Give the array as ``framework`` (keras, torch, flax, onnx, tflite) stores it: same dtype, a view if possible.

        Raises:
            CnnlensError: The framework has no such weight; the message says why.

        >>> import cnnlens
        >>> import numpy as np
        >>> kernel = cnnlens.Kernel.from_stored("Conv2D", np.zeros((3, 5, 4, 8), np.float32))
        >>> for framework in ("keras", "torch", "tflite"):
        ...     print(framework, kernel.to(framework).shape)
        keras (3, 5, 4, 8)
        torch (8, 4, 3, 5)
        tflite (8, 3, 5, 4)
        """
        return layout.arrange(self.kind, self.weight, self.array, framework, self.geometry)

    def stats(self) -> Statistics:
        """Compute mean, standard deviation, extremes and the counts of values that are not finite.

        >>> import cnnlens
        >>> import numpy as np
        >>> kernel = cnnlens.Kernel.from_stored("Dense", np.array([[1.0, 3.0], [np.nan, 5.0]]))
        >>> kernel.stats()
        Statistics(mean=3.0, std=1.632993161855452, min=1.0, max=5.0, count=4, nan=1, posinf=0, neginf=0)
        """
        return statistics(self.array)


def statistics(array: NDArray[Any]) -> Statistics:
    """Compute the statistics of any real array, in blocks: no copy of a large one is made.

    Raises:
        CnnlensError: The array holds complex numbers, strings or objects.
    """
    if array.dtype.kind not in "fiub":
        raise CnnlensError(f"no statistics for dtype {array.dtype}; real numbers were expected")
    # Memory order, whatever the axes: a transposed view is read as it lies, and its sums are those of the stored array.
    flat = array.ravel(order="K")
    count = int(flat.size)
    nan = posinf = neginf = 0
    low, high = (flat.min(), flat.max()) if count else (np.float64(np.nan), np.float64(np.nan))
    # NaN and infinities survive a minimum or a maximum.
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        nan = int(np.count_nonzero(np.isnan(flat)))
        posinf, neginf = int(np.count_nonzero(np.isposinf(flat))), int(np.count_nonzero(np.isneginf(flat)))
        flat = flat[np.isfinite(flat)]
        if flat.size:
            low, high = flat.min(), flat.max()
    if not flat.size:
        return Statistics(np.nan, np.nan, np.nan, np.nan, count, nan, posinf, neginf)
    small = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    used = np.dtype(np.float32 if small else np.float64)
    mean, std = _moments(flat, used)
    if not (np.isfinite(mean) and np.isfinite(std)) or (low < high and std < _VANISHING[used]):
        # Squares that overflow or vanish: rare enough to pay for a second pass, in units of a power of two.
        unit = math.frexp(max(abs(float(low)), abs(float(high))))[1]
        scaled = _moments(np.ldexp(flat.astype(np.float64), -unit), np.dtype(np.float64))
        mean, std = (np.ldexp(value, unit) for value in scaled)
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    with np.errstate(over="ignore"):
        mean, std, low, high = (_shortest(value, dtype) for value in (mean, std, low, high))
    return Statistics(mean, std, low, high, count, nan, posinf, neginf)


def _moments(flat: NDArray[Any], dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Mean and standard deviation with sums in ``dtype``, added up in NumPy's own order (pairwise)."""
    size = flat.size

    def plain(start: int, stop: int) -> Any:
        return np.add.reduce(flat[start:stop].astype(dtype, copy=False))

    with np.errstate(over="ignore", invalid="ignore"):
        mean = dtype.type(_pairwise(plain, 0, size) / size)

        def squares(start: int, stop: int) -> Any:
            distance = flat[start:stop].astype(dtype, copy=False) - mean
            return np.add.reduce(np.multiply(distance, distance, out=distance))

        return mean, np.sqrt(dtype.type(_pairwise(squares, 0, size) / size))


def _pairwise(block_sum: Callable[[int, int], Any], start: int, stop: int) -> Any:
    """The sum over ``start`` to ``stop``, halved as NumPy's pairwise summation halves a run of contiguous numbers.

    The same halves give the same last digit as ``array.mean()`` and ``array.std()`` on the whole, without the temporary
    copy of the whole that ``std`` makes.
    """
    size = stop - start
    if size <= _BLOCK:
        return block_sum(start, stop)
    half = size // 2
    half -= half % 8
    return _pairwise(block_sum, start, start + half) + _pairwise(block_sum, start + half, stop)


def _shortest(value: Any, dtype: np.dtype[Any]) -> float:
    """The value rounded to ``dtype``, as the float whose shortest decimal is the one that ``dtype`` would print."""
    return float(value) if dtype == np.float64 else float(str(dtype.type(value)))
