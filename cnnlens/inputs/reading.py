"""One file or array of numbers, understood once as a whole, and its parts as the float32 array that a model takes.

The rules of what its axes are, how its values are scaled, coloured and resized: each that was applied is a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.inputs.array_files import MOST_BYTES, Pixels
from cnnlens.network.rescaling import Rescaled
from cnnlens.text import printable

__all__ = ["Reading", "Span", "Wanted", "shown_sizes"]

_SPATIAL = {0: "", 1: "L", 2: "HW", 3: "DHW"}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"

Wanted = tuple[int | None, ...]
Span = tuple[float, float]
_AT_ONCE = 64 << 20  # bytes of a file that are read before they are made float32


class Reading:
    """Reads one file or array: understood once as a whole, then taken in parts as small as memory likes.

    Args:
        pixels, shape, scale, model_rescales: As `load` takes them.
        allow_nonfinite: Keep NaN and infinities instead of refusing them.
        way_out: What the refusal advises.

    Attributes:
        shape: Of the numbers as ``(N, C, *spatial)``.
        dtype: The one that they came in.

    Raises:
        CnnlensError: No real numbers, none at all, or axes that fit in no way or in two.

    >>> import numpy as np
    >>> from cnnlens.inputs.reading import Reading
    >>> from cnnlens.inputs.array_files import Pixels
    >>> reading = Reading(Pixels(np.zeros((5, 28, 28), np.uint8), None, "digits"), shape=(1, 28, 28))
    >>> len(reading), reading.shape
    (5, (5, 1, 28, 28))
    >>> array, notes = reading.take(0, 2)
    >>> array.shape, array.dtype
    ((2, 1, 28, 28), dtype('float32'))
    """

    def __init__(
        self,
        pixels: Pixels,
        shape: Wanted | None,
        scale: str = "auto",
        model_rescales: bool | Rescaled = False,
        allow_nonfinite: bool = False,
        way_out: str = "replace it first",
    ) -> None:
        array = pixels.array
        if array.dtype.kind not in "fiub":
            raise CnnlensError(f"{printable(pixels.name)}: real numbers are needed, not {printable(array.dtype)}")
        if array.size == 0:
            raise CnnlensError(f"{printable(pixels.name)}: the array {array.shape} is empty; give at least one image")
        self._pixels, self._shape, self._scale, self._rescales = pixels, shape, scale, model_rescales
        self._allow_nonfinite, self._way_out = allow_nonfinite, way_out
        self._spatial = 2 if shape is None else len(shape) - 1
        self._axes = _understand(pixels, shape, self._spatial)
        sizes = dict(zip(self._axes, array.shape, strict=True))
        self.shape = tuple(sizes.get(letter, 1) for letter in "NC" + _SPATIAL[self._spatial])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int, stop: int | None) -> NDArray[Any]:
        """Read images ``start`` to ``stop`` as ``(N, C, *spatial)`` in the dtype that they came in."""
        letters = self._axes
        array: NDArray[Any] = cast(Any, self._pixels.array)[start:stop] if "N" in letters else self._pixels.array[:]
        if "C" not in letters and self._spatial:
            array, letters = array[..., None], letters + "C"
        if "N" not in letters:
            array, letters = array[None][start:stop], "N" + letters
        return array.transpose([letters.index(letter) for letter in "NC" + _SPATIAL[self._spatial]])

    def span(self) -> Span:
        """Find the smallest and the largest finite value of all images, a few at a time."""
        low, high = np.inf, -np.inf
        for start, stop in self._pieces(0, len(self)):
            part = self.rows(start, stop)
            if part.dtype.kind == "f":
                part = part[np.isfinite(part)]
            if part.size:
                low, high = min(low, float(part.min())), max(high, float(part.max()))
        return (low, high) if low <= high else (0.0, 0.0)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        step = max(1, _AT_ONCE // max(math.prod(self.shape[1:]) * self.dtype.itemsize, 1))
        return ((at, min(at + step, stop)) for at in range(start, stop, step))

    @property
    def name(self) -> str:
        return self._pixels.name

    @property
    def scaled_by_span(self) -> bool:
        """Tell whether what is done to the values depends on the smallest and the largest of them all."""
        kind, width = self.dtype.kind, self.dtype.itemsize
        explicit = self._scale in ("0..1", "-1..1", "0..255")
        return self._pixels.full is None and (kind == "i" or (kind == "u" and width > 1) or (explicit and kind in "fb"))

    @property
    def changes(self) -> bool:
        """Tell whether anything is done to the numbers: they are scaled, or their size or channels are changed."""
        sizes = self.shape[1:]
        fits = self._shape is None or all(w is None or w == s for s, w in zip(sizes, self._shape, strict=True))
        return not fits or not (self._scale == "none" or (self._scale == "auto" and self.dtype.kind in "fb"))

    def take(
        self, start: int = 0, stop: int | None = None, span: Span | None = None, told: int | None = None
    ) -> tuple[NDArray[np.float32], list[str]]:
        """Read images ``start`` to ``stop`` as C-contiguous float32 ``(N, C, *spatial)``; say in words what was done.

        Args:
            start, stop: As in a slice.
            span: The smallest and the largest value of all images; None to take them from this part.
            told: How many images the words speak of, where these are only the first of them.
        """
        pixels, shape, spatial = self._pixels, self._shape, self._spatial
        start, stop, _ = slice(start, stop).indices(len(self))
        notes = list(pixels.notes)
        count, (channels, *sizes) = max(stop - start, 0), self.shape[1:]
        told = count if told is None else told
        if pixels.axes is None:
            read = f"{pixels.array.shape} read as {', '.join(self._axes)}"
            notes.append(f"{read}: {told:,} of {shown_sizes((channels, *sizes))}")
        else:
            colour = "grey" if channels == 1 else "RGB"
            notes.append(f"{f'{told:,} ' if 'N' in self._axes else ''}{colour} {sizes[0]} × {sizes[1]}")
        needed = [
            size if want is None else want for size, want in zip(self.shape[1:], shape or self.shape[1:], strict=True)
        ]
        bytes_needed = 4 * count * max(math.prod(needed), math.prod(self.shape[1:]))
        if bytes_needed > MOST_BYTES:
            raise CnnlensError(
                f"{printable(pixels.name)}: {count:,} images of {shown_sizes(needed)} would take "
                f"{bytes_needed / 2**30:,.1f} GiB of memory, the limit is {MOST_BYTES >> 30}; "
                "ask for fewer images with limit"
            )
        values = np.empty((count, *self.shape[1:]), np.float32)
        for low, high in self._pieces(start, stop):
            values[low - start : high - start] = self._finite(self.rows(low, high), low)
        values, remark = _scaled(values, self.dtype.kind, pixels, span or _span(values), self._scale, self._rescales)
        notes += [remark] if remark else []
        values, remarks = _coloured(values, pixels.name, None if shape is None else shape[0], spatial)
        notes += remarks
        if shape is not None and spatial == 2:
            values, remark = _resized(values, shape[1:])
            notes += [remark] if remark else []
        return np.ascontiguousarray(values, np.float32), notes

    def _finite(self, array: NDArray[Any], start: int) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            values = array.astype(np.float32)
        if array.dtype.kind == "f" and not self._allow_nonfinite:
            finite = np.isfinite(values)
            if not finite.all():
                place = tuple(int(index) for index in np.argwhere(~finite)[0])
                raise CnnlensError(
                    f"{printable(self._pixels.name)}: image {start + place[0]} holds {array[place]} at channel "
                    f"{place[1]}, position {place[2:]}; a model cannot use that: {self._way_out}"
                )
        return values


def _span(values: NDArray[np.float32]) -> Span:
    """The smallest and the largest finite value."""
    low, high = float(values.min()), float(values.max())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _readings(rank: int, spatial: int) -> list[str]:
    """All ways to read an array of ``rank`` axes as one example or several; the likelier first."""
    letters = _SPATIAL[spatial]
    if spatial == 0:
        return {1: ["C"], 2: ["NC"]}.get(rank, [])
    return {
        0: [letters],
        1: ["N" + letters, letters + "C", "C" + letters],
        2: ["N" + letters + "C", "NC" + letters],
    }.get(rank - spatial, [])


def _understand(pixels: Pixels, shape: Wanted | None, spatial: int) -> str:
    """Letters for the axes of ``pixels.array``.

    Sizes that fit decide first, then channels that fit; a reading that makes a picture four pixels thin or thinner, as
    (40, 50, 3) read as 40 pictures of 50 x 3, comes last.
    """
    name, sizes = printable(pixels.name), pixels.array.shape
    wanted: Wanted = shape if shape is not None else (None,) * 3
    if spatial == 2:
        _refuse_rows(name, sizes, wanted)
    elif pixels.axes is not None:
        raise CnnlensError(f"{name} is a picture, and the model wants {shown_sizes(wanted)}; give a .npy of that shape")
    ranks = {
        reading: _rank(reading, sizes, shape, spatial)
        for reading in ([pixels.axes] if pixels.axes else _readings(len(sizes), spatial))
    }
    fitting = {reading: rank for reading, rank in ranks.items() if rank is not None}
    if not fitting:
        raise CnnlensError(
            f"{name} has the shape {sizes}, which fits no reading of {shown_sizes(wanted)}; {_way_out(spatial)}"
        )
    best = min(fitting.values())
    readings = [reading for reading, rank in fitting.items() if rank == best]
    if not _are_the_same(readings, sizes):
        both = " or as ".join(", ".join(reading) for reading in readings)
        raise CnnlensError(f"{name} of shape {sizes} can be read as {both}; {_way_out(spatial)}")
    return readings[0]


def _refuse_rows(name: str, sizes: tuple[int, ...], wanted: Wanted) -> None:
    """Refuses pictures that came as rows of numbers, whose axes nobody knows."""
    if len(sizes) != 2 or None in wanted or wanted[1:] == sizes:
        return
    if sizes[1] == math.prod(cast("tuple[int, ...]", wanted)):
        flat = ", ".join(str(size) for size in (wanted[1:] if wanted[0] == 1 else (*wanted[1:], wanted[0])))
        raise CnnlensError(
            f"{name} holds {sizes[0]} pictures as rows of {sizes[1]} numbers; give it as array.reshape(-1, {flat})"
        )


def _rank(reading: str, sizes: tuple[int, ...], shape: Wanted | None, spatial: int) -> tuple[int, int] | None:
    """How well a reading fits in its sizes and in its channels, 0 the best; None where it does not."""
    size = dict(zip(reading, sizes, strict=True))
    colour = _colour_rank(size, shape, spatial)
    wanted = (None,) * spatial if shape is None else shape[1:]
    fits = all(want in (None, size[letter]) for letter, want in zip(_SPATIAL[spatial], wanted, strict=True))
    if colour is None or (spatial != 2 and not fits):
        return None
    known = any(want is not None for want in wanted)
    thin = spatial == 2 and min(size["H"], size["W"]) <= 4
    return (0 if fits and (known or not thin) else 2 if thin else 1), colour


def _colour_rank(size: dict[str, int], shape: Wanted | None, spatial: int) -> int | None:
    channels = size.get("C", 1)
    if shape is None:
        # Nothing known: (3, H, W) is rather one colour picture than three grey ones.
        grey = "C" not in size and size.get("N") in (1, 3)
        return 1 if grey else {1: 0, 3: 0, 4: 2}.get(channels)
    if shape[0] is None:
        return {1: 0, 3: 0, 4: 2}.get(channels, 1)
    if channels == shape[0]:
        return 0
    # Transparency is the rarer: four grey images are more likely than one of four channels first.
    return {1: 1, 3: 1, 4: 2}.get(channels) if spatial == 2 and shape[0] in (1, 3) else None


def _are_the_same(readings: list[str], sizes: tuple[int, ...]) -> bool:
    """Whether the readings give one picture, as N, H, W and C, H, W do of (1, 28, 28)."""
    long = [[letter for letter, size in zip(reading, sizes, strict=True) if size > 1] for reading in readings]
    alike = {
        tuple(size for letter, size in zip(reading, sizes, strict=True) if letter not in "NC" or size > 1)
        for reading in readings
    }
    return len(readings) == 1 or (len(alike) == 1 and all(one == long[0] for one in long))


def _way_out(spatial: int) -> str:
    letters = _SPATIAL[spatial]
    if not letters:
        return "give (N, C)"
    return f"give (N, {', '.join(letters)}, C) or (N, C, {', '.join(letters)}) with sizes that fit the model"


def shown_sizes(sizes: Sequence[int | None]) -> str:
    """A canonical shape in words: ``1 channel, 28 × 28``."""
    channels, *spatial = ("any" if size is None else str(size) for size in sizes)
    return f"{channels} channel{'' if channels == '1' else 's'}" + (f", {' × '.join(spatial)}" if spatial else "")


def _scaled(
    values: NDArray[np.float32], kind: str, pixels: Pixels, span: Span, scale: str, model_rescales: bool | Rescaled
) -> tuple[NDArray[np.float32], str]:
    """``values``, which came in a dtype of ``kind``, in the wanted range, and what was done."""
    whole = kind in "iu"
    low, high = span
    rescaled = Rescaled("?" if model_rescales else "") if isinstance(model_rescales, bool) else model_rescales
    rescales = bool(rescaled.by)
    who = "the model" if model_rescales is True else f"the model's '{printable(rescaled.by, 60)}'"
    shown = f"{low:g} to {high:g}"
    full = pixels.full or (255 if low >= 0 and high <= 255 else 65535 if low >= 0 and high <= 65535 else None)
    if scale == "none" or (kind == "b" and scale == "auto"):
        return values, f"values kept as they are ({shown})"
    if scale == "auto":
        if not whole:
            doubt = ""
            if rescales and low >= 0 and high <= 1:
                doubt = f"; {who} scales by itself and may expect 0 to 255 (--scale 0..255)"
            elif not rescales and low >= 0 and high > 16:
                doubt = "; the model may expect 0 to 1 (--scale 0..1)"
            return values, f"floats kept as they are ({shown}{doubt})"
        if full is None:
            return values, f"integers outside 0 to 65535 kept as they are ({shown})"
        target = (0.0, 255.0) if rescales else (0.0, 1.0)
    else:
        target = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}[scale]
    if whole and full is not None:
        start = (0.0, float(full))
    else:
        ranges = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
        found = next((one for one in ranges if one[0] <= low and high <= one[1]), None)
        if found is None:
            raise CnnlensError(
                f"{printable(pixels.name)}: values from {shown} lie in none of 0..1, -1..1 and 0..255, "
                "so it is not known how to scale them; use --scale none or scale them first"
            )
        start = found
    if start == target:
        kept = f"; {who} scales them (--scale 0..1 to overrule)" if scale == "auto" and rescales else ""
        return values, f"values kept, 0 to {full}{kept}" if whole else f"floats kept as they are ({shown})"
    if start[0] == target[0] == 0:
        # One rounding only: exactly what `array.astype("float32") / 255` gives.
        if target[1] < start[1]:
            values /= np.float32(start[1] / target[1])
            done = f"divided by {start[1] / target[1]:g}"
        else:
            values *= np.float32(target[1] / start[1])
            done = f"multiplied by {target[1] / start[1]:g}"
    else:
        values = (values - np.float32(start[0])) * np.float32(
            (target[1] - target[0]) / (start[1] - start[0])
        ) + np.float32(target[0])
        done = "shifted and scaled"
    doubt = ""
    if scale == "auto" and rescaled.unknown:
        named = printable(rescaled.unknown, 60)
        doubt = f"; whether the model's '{named}' does it again cannot be told (--scale 0..255 if so)"
    return values, f"{start[0]:g}..{start[1]:g} {done}, now {target[0]:g}..{target[1]:g}{doubt}"


def _coloured(
    values: NDArray[np.float32], name: str, wanted: int | None, spatial: int
) -> tuple[NDArray[np.float32], list[str]]:
    """Alpha laid on white, grey to RGB or RGB to grey, where the model wants it."""
    notes: list[str] = []
    channels = values.shape[1]
    if spatial == 2 and channels == 4 and wanted != 4:
        # White is the top of the range that the values now have.
        low, top = float(values.min()), float(values.max())
        white, zero = (255.0, 0.0) if top > 16 else (1.0, -1.0 if low < 0 else 0.0)
        alpha = (values[:, 3:] - np.float32(zero)) / np.float32(white - zero)
        values = (values[:, :3] * alpha + np.float32(white) * (1 - alpha)).astype(np.float32)
        channels = 3
        notes.append("fourth channel read as transparency and laid on white")
    if wanted is None or wanted == channels:
        return values, notes
    if spatial == 2 and (channels, wanted) == (1, 3):
        return values.repeat(3, axis=1), [*notes, "grey repeated to three channels"]
    if spatial == 2 and (channels, wanted) == (3, 1):
        grey = np.tensordot(values, np.asarray(_LUMA, np.float32), (1, 0))[:, None]
        return grey.astype(np.float32), [*notes, "RGB turned grey (ITU-R 601 luma)"]
    raise CnnlensError(
        f"{printable(name)} has {channels} channel{'s' * (channels != 1)} and the model wants {wanted}; "
        "give an array with that many"
    )


def _resized(values: NDArray[np.float32], wanted: Wanted) -> tuple[NDArray[np.float32], str]:
    count, channels, *sizes = values.shape
    height, width = (size if want is None else want for size, want in zip(sizes, wanted, strict=True))
    if (height, width) == tuple(sizes):
        return values, ""
    from PIL import Image  # here, because arrays of the right size do not need it

    out = np.empty((count, channels, height, width), np.float32)
    for index in range(count):
        for channel in range(channels):
            plane = Image.fromarray(np.ascontiguousarray(values[index, channel]))
            out[index, channel] = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
    done = f"resized from {sizes[0]} × {sizes[1]} to {height} × {width} (bilinear, antialiased)"
    stretched = sizes[0] * width != sizes[1] * height
    return out, done + ("; its proportions changed" if stretched else "")
