"""One input of a network: the pictures, files and arrays that feed it, one after the other, and how each is read.

Each kind of source gives any part of itself when it is asked for, in canonical axes and in the dtype that the network
takes, and no part is read otherwise than the others.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.inputs.array_files import FileArray, Pixels
from cnnlens.inputs.pixel_files import is_picture, picture_sizes, read_folder, read_images
from cnnlens.inputs.reading import Reading, Span
from cnnlens.network.graph import Shape, fits, shown_shape
from cnnlens.network.rescaling import Rescaled
from cnnlens.text import printable

__all__ = ["Feed", "How", "Member", "blocks"]

Array = NDArray[Any]
T = TypeVar("T")

_LOOKED_AT = 64 << 20  # bytes of an array whose smallest and largest value are looked for only to tell them
_SIZED = 1_000  # pictures whose sizes are read beforehand


@dataclass(frozen=True)
class Member:
    """Names an array inside an ``.npz``."""

    path: Path
    name: str


@dataclass(frozen=True)
class How:
    """Says how one input is to be read. ``shape`` is one example's, canonical; None where the file does not say."""

    name: str
    shape: Shape | None
    whole: Shape | None
    dtype: np.dtype[Any]
    scale: str
    rescales: Rescaled
    allow_nonfinite: bool
    skip_bad: bool | None = None

    @property
    def readable(self) -> bool:
        """Tell whether it has axes that pictures, volumes, sequences or vectors have."""
        return self.shape is None or 1 <= len(self.shape) <= 4

    def reading(self, pixels: Pixels) -> Reading:
        scale = self.scale
        if scale == "auto":
            if self.shape is not None and len(self.shape) < 3:
                scale = "none"
            elif self.dtype.kind in "iu":
                scale = "0..255" if pixels.full is not None else "none"
        way_out = "replace it first, or keep it with --allow-nonfinite"
        return Reading(pixels, self.shape, scale, self.rescales, self.allow_nonfinite, way_out)


class _Block(Protocol):
    """Some examples from one place."""

    @property
    def count(self) -> int: ...
    @property
    def sources(self) -> Sequence[tuple[str, int]]: ...
    def take(self, start: int, stop: int) -> Iterator[Array]: ...
    def first(self) -> tuple[Array, Sequence[str]]: ...


class Feed:
    """Reads all examples of one input: blocks, one after the other."""

    def __init__(self, how: How, blocks: Sequence[_Block]) -> None:
        self._how = how
        self._blocks = blocks
        self.count = sum(block.count for block in blocks)

    def sources(self) -> Iterator[tuple[str, int]]:
        for block in self._blocks:
            yield from block.sources

    def first(self) -> tuple[Array, Sequence[str]]:
        array, notes = self._blocks[0].first()
        return self.typed(array), notes

    def take(self, start: int, stop: int) -> Iterator[Array]:
        for block in self._blocks:
            if start < block.count and stop > 0:
                yield from block.take(max(start, 0), min(stop, block.count))
            start, stop = start - block.count, stop - block.count

    def typed(self, array: Array) -> Array:
        """Convert to the dtype that the input takes, if that changes no number."""
        wanted = self._how.dtype
        if array.dtype == wanted:
            return array
        with np.errstate(all="ignore"):
            typed = array.astype(wanted)
        if wanted.kind in "iub" and not np.array_equal(typed, array):
            odd = array[typed != array].flat[0]
            raise CnnlensError(
                f"input '{printable(self._how.name)}' takes {wanted.name}, and {odd} came; "
                "give whole numbers of its range"
            )
        return typed


class _Pictures:
    """PNG and JPEG files, one example each, decoded when they are asked for."""

    def __init__(self, how: How, paths: Sequence[Path], notes: Sequence[str] = ()) -> None:
        self._how = how
        self._pool: ThreadPoolExecutor | None = None
        self._paths, self._notes = self._good(paths, notes) if how.skip_bad else (paths, notes)
        self.count = len(self._paths)
        self.sources = [(printable(path.stem), 1) for path in self._paths]

    def take(self, start: int, stop: int) -> Iterator[Array]:
        with self._way_out():
            yield from self._each(self._decoded, self._paths[start:stop])

    @contextmanager
    def _way_out(self) -> Generator[None]:
        """Where pictures may be left out, who is refused for one of several hears of it."""
        try:
            yield
        except CnnlensError as error:
            if self._how.skip_bad is None or self.count == 1:
                raise
            way_out = "leave out what cannot be read with --skip-bad (in Python: skip_bad=True)"
            raise CnnlensError(f"{error}, or {way_out}") from error

    def _each(self, work: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T]:
        if self._pool is None:  # Pillow decodes outside Python's lock
            self._pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1), "cnnlens-picture")
        return self._pool.map(work, paths)

    def _good(self, paths: Sequence[Path], notes: Sequence[str]) -> tuple[Sequence[Path], Sequence[str]]:
        """The pictures that can be read and are of the first one's size, and which cannot: how many there are must be
        known before the first goes in, so each is decoded once more."""
        shapes: list[tuple[int, ...] | CnnlensError] = list(self._each(self._shape, paths))
        first = next((shape for shape in shapes if isinstance(shape, tuple)), None)
        if first is None:
            raise cast(CnnlensError, shapes[0])
        bad = [path.name for path, shape in zip(paths, shapes, strict=True) if shape != first]
        if not bad:
            return paths, notes
        few = ", ".join(printable(name, 40) for name in bad[:3]) + (", …" if len(bad) > 3 else "")
        said = f"{len(bad):,} of {len(paths):,} pictures cannot be read or are of another size, and are left out: {few}"
        return [path for path, shape in zip(paths, shapes, strict=True) if shape == first], (*notes, said)

    def _shape(self, path: Path) -> tuple[int, ...] | CnnlensError:
        try:
            return self._decoded(path).shape
        except CnnlensError as error:
            return error

    def first(self) -> tuple[Array, Sequence[str]]:
        with self._way_out():
            array, notes = self._picture(self._paths[0])
        if self.count == 1:
            return array, [*self._notes, *notes]
        named = [f"{printable(self._paths[0].name)}: {note}" for note in notes]
        return array, [*self._notes, f"{self.count:,} pictures", *named, *self._resized()]

    def _resized(self) -> Sequence[str]:
        """How many are of another size than the model takes, and become of that; of many, the first are looked at: a
        header costs half of what a small picture does, and all would be read before the first batch."""
        wanted = self._how.shape
        if wanted is None or len(wanted) != 3 or None in wanted[1:]:
            return []
        looked = self._paths[:_SIZED]
        found = picture_sizes(looked)
        found.pop(cast("tuple[int, int]", wanted[1:]), None)
        if not found:
            return []
        sizes = [f"{number:,} of {height} × {width}" for (height, width), number in found.most_common(3)]
        few = ", ".join(sizes) + (", …" if len(found) > 3 else "")
        model = f"{wanted[1]} × {wanted[2]}"
        which = "" if len(looked) == self.count else "the first "
        return [f"{found.total():,} of {which}{len(looked):,} pictures are resized to the model's {model}: {few}"]

    def _decoded(self, path: Path) -> Array:
        return self._picture(path)[0]

    def _picture(self, path: Path) -> tuple[Array, Sequence[str]]:
        array, notes = self._how.reading(read_images(path)).take()
        return (array if self._how.dtype.kind == "f" else np.rint(array)), notes


class _Numbers:
    """An array with the axes of pictures, volumes, sequences or vectors, in memory or in a file."""

    def __init__(self, how: How, pixels: Pixels) -> None:
        self._reading = how.reading(pixels)
        self._how = how
        self.count = len(self._reading)
        self.sources = [(printable(pixels.name), self.count)]
        self._span: Span | None = None

    def take(self, start: int, stop: int) -> Iterator[Array]:
        if self._raw:
            yield _finite(self._how, self._reading.rows(start, stop), start)
        else:
            yield self._reading.take(start, stop, self._whole_span)[0]

    def first(self) -> tuple[Array, Sequence[str]]:
        if self._raw:
            said = f"{self._reading.shape}, {self._reading.dtype}, kept as it is"
            return _finite(self._how, self._reading.rows(0, 1), 0), [said]
        span, dtype = self._whole_span, self._reading.dtype
        if span is None and dtype.kind == "f" and math.prod(self._reading.shape) * dtype.itemsize <= _LOOKED_AT:
            span = self._reading.span()
        return self._reading.take(0, 1, span, told=self.count)

    @property
    def _raw(self) -> bool:
        """Whether the numbers go in as they are: float32 could not hold them all, and nothing is to be done to them."""
        return self._how.dtype != np.float32 and not self._reading.changes

    @property
    def _whole_span(self) -> Span | None:
        if self._span is None and self._reading.scaled_by_span:
            self._span = self._reading.span()
        return self._span


class _Any:
    """An array that has to fit as it is: the network's input has axes of no picture, or says nothing of them."""

    def __init__(self, how: How, array: Array | FileArray, name: str) -> None:
        if array.dtype.kind not in "fiub" or array.size == 0 or array.ndim == 0:
            raise CnnlensError(
                f"input '{printable(how.name)}': numbers were expected, {array.dtype} {array.shape} came"
            )
        if not fits(array.shape, how.whole):
            raise CnnlensError(
                f"input '{printable(how.name)}': {shown_shape(how.whole)} was expected, {array.shape} came"
            )
        self._how, self._array = how, array
        self.count = len(array)
        self.sources = [(printable(name), self.count)]

    def take(self, start: int, stop: int) -> Iterator[Array]:
        yield _finite(self._how, self._array[start:stop], start)

    def first(self) -> tuple[Array, Sequence[str]]:
        return _finite(self._how, self._array[0:1], 0), [f"{self._array.shape}, {self._array.dtype}, kept as it is"]


def blocks(how: How, source: Any, limit: int | None) -> Iterator[_Block]:
    if isinstance(source, Member):
        yield _array(how, read_images(source.path, source.name))
        return
    if isinstance(source, str | os.PathLike):
        path = Path(cast(str, source))
        if path.is_dir():
            paths, notes = read_folder(path, limit)
            yield _Pictures(how, paths, notes)
        elif is_picture(path):
            yield _Pictures(how, [path])
        else:
            yield _array(how, read_images(path))
        return
    listed = cast("Sequence[Any]", source)
    if isinstance(source, list | tuple) and listed and all(isinstance(one, str | os.PathLike) for one in listed):
        pictures: list[Path] = []
        for one in listed:
            path = Path(one)
            if not path.is_dir() and is_picture(path):
                pictures.append(path)
                continue
            if pictures:
                yield _Pictures(how, pictures)
                pictures = []
            yield from blocks(how, path, limit)
        if pictures:
            yield _Pictures(how, pictures)
        return
    try:
        array: Array = np.asarray(cast(Any, source))
    except (ValueError, TypeError) as error:
        raise CnnlensError(
            f"input '{printable(how.name)}': an array, a path or several were expected ({printable(error, 120)})"
        ) from None
    yield _array(how, Pixels(array, None, how.name))


def _array(how: How, pixels: Pixels) -> _Block:
    if how.readable and how.shape is not None:
        return _Numbers(how, pixels)
    return _Any(how, pixels.array, pixels.name)


def _finite(how: How, array: Array, start: int) -> Array:
    if array.dtype.kind == "f" and not how.allow_nonfinite:
        finite = np.isfinite(array)
        if not finite.all():
            place = tuple(int(index) for index in np.argwhere(~finite)[0])
            raise CnnlensError(
                f"input '{printable(how.name)}': example {start + place[0]} holds {array[place]} at {place[1:]}; "
                "replace it first, or keep it with --allow-nonfinite"
            )
    return array
