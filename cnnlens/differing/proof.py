"""The line of NumPy that turns one array into another, run before it is shown.

A line is text that this package wrote; it runs with NumPy's name, the arrays and nothing else in reach, and what it
gives is held against the array that it promises. A line that does not keep its promise does not exist.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Line", "identifier", "proven", "run", "same", "tiles"]

Array: TypeAlias = NDArray[Any]

_BLOCK = 1 << 18  # elements compared at a time: two blocks of float32 stay in a second-level cache
_WIDE = 32  # channels that a block is wide where the two arrays lie in different orders
_SHOWN = 6  # entries of a long list that a table shows

# NumPy imports what is behind this method when it is first called, which a line, that has no built-in names, cannot.
np.zeros(1).sum()


@dataclass(frozen=True)
class Line:
    """Holds one line of NumPy that was run.

    Attributes:
        target: The variable that it sets; ``expression``: what it is set to.
        names: Long lists that the expression refers to.
        held: What it was held against, in words: "bit for bit", "to the rounding of float16".
    """

    target: str
    expression: str
    names: Mapping[str, list[Any]] = field(default_factory=lambda: dict[str, list[Any]]())
    held: str = "bit for bit"

    @property
    def text(self) -> str:
        """Write the line as a table shows it, without its long lists."""
        return f"{self.target} = {self.expression}"

    @property
    def executable(self) -> str:
        """Write the line with its lists, ready to run where the arrays and ``np`` are known."""
        return "; ".join([*(f"{name} = {values}" for name, values in self.names.items()), self.text])

    @property
    def abbreviated(self) -> str:
        """Write the long lists as a table shows them."""
        shown = [
            f"{name} = [{', '.join(map(str, values[:_SHOWN]))}{', …' if len(values) > _SHOWN else ''}]"
            for name, values in self.names.items()
        ]
        return "; ".join(shown)


def identifier(name: str) -> str:
    """Make a variable's name of an array's name in a file, which may hold anything."""
    safe = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "array"
    if safe[0].isdigit() or keyword.iskeyword(safe) or safe == "np":
        safe = f"_{safe}"
    return safe[:60]


def run(expression: str, arrays: Mapping[str, Any]) -> Array:
    """Evaluate the expression, with ``np`` and ``arrays`` in reach and no built-in names."""
    return np.asarray(eval(expression, {"__builtins__": {}, "np": np}, dict(arrays)))  # our own text: see above


def proven(
    line: Line, arrays: Mapping[str, Any], expected: Array, holds: Callable[[Array, Array], bool] | None = None
) -> Line | None:
    """Give the line if it gives ``expected`` (all its values, or as ``holds`` says), else None."""
    named = {name: np.asarray(values) for name, values in line.names.items()}
    try:
        with np.errstate(all="ignore"):
            made = run(line.expression, {**arrays, **named})
    except (ArithmeticError, AttributeError, LookupError, NameError, SyntaxError, TypeError, ValueError):
        return None
    if made.shape != expected.shape:
        return None
    return line if (holds or same)(made, expected) else None


def _alike(x: Array, y: Array) -> bool:
    equal = cast("Array", x == y)
    if equal.all():
        return True
    if x.dtype.kind != "f" or y.dtype.kind != "f":
        return False
    return bool((equal | (np.isnan(x) & np.isnan(y))).all())


def same(x: Array, y: Array) -> bool:
    """Tell whether two arrays hold the same values, NaN for NaN; in blocks, up to the first that differs."""
    if x.shape != y.shape:
        return False
    return all(_alike(x[piece], y[piece]) for piece in tiles(x, y))


def tiles(x: Array, y: Array, most: int = _BLOCK) -> Iterator[tuple[slice, ...]]:
    """Cut two arrays of one shape into pieces of about ``most`` elements, both read in whole cache lines.

    Arrays that lie in different orders, a kernel and the view that turns it, are cut along the innermost axis of each.
    """
    inner = {int(np.argmin(_strides(z))) for z in (x, y)} if x.size > most else set[int]()
    if len(inner) > 1:
        yield from _squares(x.shape, sorted(inner, key=lambda axis: -x.shape[axis]), most)
    else:
        axes = sorted(range(x.ndim), key=lambda axis: -_strides(x)[axis])
        yield from _slabs((slice(None),) * x.ndim, x.shape, axes, most)


def _strides(x: Array) -> list[int]:
    return [abs(step) if size > 1 else 1 << 62 for step, size in zip(x.strides, x.shape, strict=True)]


def _slabs(piece: tuple[slice, ...], shape: tuple[int, ...], axes: list[int], most: int) -> Iterator[tuple[slice, ...]]:
    """A piece cut along the outermost axis of ``axes``, and further inside where one entry is too large."""
    total = prod(shape)
    if total <= most or not axes:
        yield piece
        return
    axis = axes[0]
    step = max(most // (total // shape[axis]), 1)
    for at in range(0, shape[axis], step):
        part = (*piece[:axis], slice(at, at + step), *piece[axis + 1 :])
        yield from _slabs(part, (*shape[:axis], min(step, shape[axis] - at), *shape[axis + 1 :]), axes[1:], most)


def _squares(shape: tuple[int, ...], axes: list[int], most: int) -> Iterator[tuple[slice, ...]]:
    axis, other = axes
    step = _WIDE if shape[axis] > _WIDE else shape[axis]
    each = prod(shape) // shape[axis]
    for at in range(0, shape[axis], step):
        width = _WIDE if each * min(step, shape[axis] - at) > most else shape[other]
        for across in range(0, shape[other], width):
            piece = [slice(None)] * len(shape)
            piece[axis], piece[other] = slice(at, at + step), slice(across, across + width)
            yield tuple(piece)
