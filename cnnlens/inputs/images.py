"""What people call images, as the float32 array that a model takes, with every decision said in words.

Axes, colour, size and scale are guessed wrong in silence more often than anything else between a picture and a network.
So the rules here are few, they follow from the shape that the model wants, and each that was applied is a note.

>>> import numpy as np
>>> import cnnlens
>>> images = cnnlens.images.load(np.zeros((5, 28, 28), np.uint8), shape=(1, 28, 28))
>>> images.array.shape, images.array.dtype
((5, 1, 28, 28), dtype('float32'))
>>> for note in images.notes:
...     print(note)
(5, 28, 28) read as N, H, W: 5 of 1 channel, 28 × 28
0..255 divided by 255, now 0..1
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.inputs.array_files import MOST_BYTES, Part, Pixels
from cnnlens.inputs.pixel_files import read_folder, read_images
from cnnlens.text import nearest, printable

__all__ = ["SCALES", "Images", "Reading", "Span", "load"]

SCALES = ("auto", "0..1", "-1..1", "0..255", "none")
_SPATIAL = {0: "", 1: "L", 2: "HW", 3: "DHW"}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"

Wanted = tuple[int | None, ...]
Span = tuple[float, float]
Source = str | os.PathLike[str] | ArrayLike | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Images:
    """Holds inputs of a model, and says how they were understood.

    Attributes:
        array: float32 in canonical axes: ``(N, C, H, W)``, ``(N, C, L)``, ``(N, C, D, H, W)`` or ``(N, C)``.
        names: One for each image.
        notes: What was understood and done, in words.

    >>> import cnnlens.sample
    >>> images = cnnlens.images.load(cnnlens.sample.IMAGES, shape=(1, 28, 28))
    >>> images.array.shape, images.array.dtype
    ((10, 1, 28, 28), dtype('float32'))
    >>> images.names[:2]
    ('0-t-shirt', '1-trouser')
    """

    array: NDArray[np.float32]
    names: tuple[str, ...]
    notes: tuple[str, ...]


@in_one_line()
def load(
    source: Source,
    *,
    shape: Wanted | None = None,
    limit: int | None = None,
    scale: str = "auto",
    model_rescales: bool = False,
) -> Images:
    """Load images from a file, several files, a folder or an array, in the axes, size and scale that a model wants.

    Args:
        source: PNG, JPEG, ``.npy``, ``.npz`` (its only array, or the one called x, images, x_test, ...), IDX (also
            gzipped), a folder of PNG and JPEG files (in the order of their names), a list of any of these, or an array:
            one example or several, channels last, first or missing. Which, `shape` decides.
        shape: What the model wants for one example, canonical: ``(C, H, W)``, ``(C, L)``, ``(C, D, H, W)`` or ``(C,)``;
            None for a size that it leaves open, and None altogether where nothing is known: pictures then keep theirs.
            Only ``(C, H, W)`` is resized or changes colour; the others must fit exactly.
        limit: At most so many images; the rest is not read where that can be avoided.
        scale: ``"auto"``: integers become 0..1 (0..255 where `model_rescales`), floats stay as they are. ``"0..1"``,
            ``"-1..1"``, ``"0..255"``: that range. ``"none"``: numbers stay as they are.
        model_rescales: The model divides by 255 itself (it has a Rescaling or Normalization layer).

    Returns:
        `Images`; resized bilinearly with antialiasing, grey to RGB by repetition, RGB to grey by ITU-R 601 luma.

    Raises:
        CnnlensError: Unreadable or hostile file, no real or no finite numbers, or axes that fit in no way or in two.

    >>> import cnnlens.sample
    >>> import numpy as np
    >>> images = cnnlens.images.load(cnnlens.sample.IMAGES, shape=(1, 28, 28), limit=2)
    >>> images.array.shape, float(images.array.max())
    ((2, 1, 28, 28), 1.0)
    >>> images.notes
    ('grey 28 × 28 (2 files)', '0..255 divided by 255, now 0..1 (2 files)')
    >>> cnnlens.images.load(np.zeros((5, 28, 28, 3), np.uint8)).array.shape  # channels last are found and moved
    (5, 3, 28, 28)
    >>> cnnlens.images.load(np.full((1, 28, 28), np.nan), shape=(1, 28, 28))
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: image: image 0 holds nan at channel 0, position (0, 0); ...
    """
    if scale not in SCALES:
        raise CnnlensError(f"no scale '{printable(scale)}'; {nearest(scale, SCALES)}")
    if limit is not None and limit < 1:
        raise CnnlensError(f"limit must be at least 1, not {limit}")
    if shape is not None and any(size is not None and size < 1 for size in shape):
        raise CnnlensError(f"the model wants an input of {shape}, which is empty; nothing fits it")
    if shape is not None and not 1 <= len(shape) <= 4:
        raise CnnlensError(f"a model input of shape {shape} is not one of (C,), (C, L), (C, H, W), (C, D, H, W)")

    arrays: list[NDArray[np.float32]] = []
    names: list[str] = []
    notes: list[str] = []
    blocks, remarks, several = _blocks(source, limit)
    notes += remarks
    left = limit
    for path in blocks:
        if left == 0:
            break
        part = Part(left, 4 if shape is None else len(shape) + 1)
        pixels = path if isinstance(path, Pixels) else read_images(path, part=part)
        array, said = _canonical(pixels, shape, left, scale, model_rescales)
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            one, other = _sizes(array.shape[1:]), _sizes(arrays[0].shape[1:])
            raise CnnlensError(
                f"{printable(pixels.name)} is {one} and {names[0]} is {other}; "
                "give the shape that all should have, or images of one size"
            )
        arrays.append(array)
        shown = printable(pixels.name)
        names += [shown] if len(array) == 1 else [f"{shown} {index}" for index in range(len(array))]
        notes += [f"{shown}: {one}" if several else one for one in said]
        left = None if left is None else left - len(array)
    return Images(arrays[0] if len(arrays) == 1 else np.concatenate(arrays), tuple(names), _told(notes))


def _blocks(source: Source, limit: int | None) -> tuple[list[Path | Pixels], list[str], bool]:
    """What there is to read: paths, or one array as it came; remarks; and whether notes must name the file."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if os.path.isdir(path):
            found, remarks = read_folder(path, limit)
            return list(found), list(remarks), False
        return [path], [], False
    if isinstance(source, Sequence) and source and all(isinstance(one, str | os.PathLike) for one in cast(Any, source)):
        blocks: list[Path | Pixels] = []
        said: list[str] = []
        for one in cast(Sequence[str | os.PathLike[str]], source):
            inner, remarks, _ = _blocks(one, limit)
            blocks += inner
            said += remarks
        return blocks, said, False
    try:
        array = np.asarray(source)
    except ValueError as error:
        raise CnnlensError("the images are lists of different lengths; give an array or images of one size") from error
    return [Pixels(array, None, "image")], [], False


def _told(notes: Sequence[str]) -> tuple[str, ...]:
    """Each remark once, with the number of files it holds for."""
    counts: dict[str, int] = {}
    for note in notes:
        counts[note] = counts.get(note, 0) + 1
    return tuple(note if count == 1 else f"{note} ({count} files)" for note, count in counts.items())


def _canonical(
    pixels: Pixels, shape: Wanted | None, limit: int | None, scale: str, model_rescales: bool
) -> tuple[NDArray[np.float32], list[str]]:
    """One file's numbers as ``(N, C, *spatial)`` float32, and what was done to them."""
    return Reading(pixels, shape, scale, model_rescales).take(0, limit)


class Reading:
    """Reads one file or array: understood once as a whole, then taken in parts as small as memory likes.

    Args:
        pixels, shape, scale, model_rescales: As `load` takes them.
        allow_nonfinite: Keep NaN and infinities instead of refusing them.
        way_out: What the refusal advises.

    Attributes:
        array: The numbers as ``(N, C, *spatial)``, a view in the dtype that they came in.

    Raises:
        CnnlensError: No real numbers, none at all, or axes that fit in no way or in two.

    >>> import numpy as np
    >>> from cnnlens.inputs.images import Reading
    >>> from cnnlens.inputs.array_files import Pixels
    >>> reading = Reading(Pixels(np.zeros((5, 28, 28), np.uint8), None, "digits"), shape=(1, 28, 28))
    >>> len(reading), reading.array.shape
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
        model_rescales: bool = False,
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
        self._axes = letters = _understand(pixels, shape, self._spatial)
        if "C" not in letters and self._spatial:
            array, letters = array[..., None], letters + "C"
        if "N" not in letters:
            array, letters = array[None], "N" + letters
        self.array = array.transpose([letters.index(letter) for letter in "NC" + _SPATIAL[self._spatial]])

    def __len__(self) -> int:
        return len(self.array)

    @property
    def scaled_by_span(self) -> bool:
        """Tell whether what is done to the values depends on the smallest and the largest of them all."""
        kind, width = self.array.dtype.kind, self.array.dtype.itemsize
        explicit = self._scale in ("0..1", "-1..1", "0..255")
        return self._pixels.full is None and (kind == "i" or (kind == "u" and width > 1) or (explicit and kind in "fb"))

    @property
    def changes(self) -> bool:
        """Tell whether anything is done to the numbers: they are scaled, or their size or channels are changed."""
        sizes = self.array.shape[1:]
        fits = self._shape is None or all(w is None or w == s for s, w in zip(sizes, self._shape, strict=True))
        return not fits or not (self._scale == "none" or (self._scale == "auto" and self.array.dtype.kind in "fb"))

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
        array = self.array[start:stop]
        notes = list(pixels.notes)
        count, channels, *sizes = array.shape
        told = count if told is None else told
        if pixels.axes is None:
            read = f"{pixels.array.shape} read as {', '.join(self._axes)}"
            notes.append(f"{read}: {told:,} of {_sizes((channels, *sizes))}")
        else:
            colour = "grey" if channels == 1 else "RGB"
            notes.append(f"{f'{told:,} ' if 'N' in self._axes else ''}{colour} {sizes[0]} × {sizes[1]}")
        needed = [
            size if want is None else want for size, want in zip(array.shape[1:], shape or array.shape[1:], strict=True)
        ]
        bytes_needed = 4 * count * max(math.prod(needed), math.prod(array.shape[1:]))
        if bytes_needed > MOST_BYTES:
            raise CnnlensError(
                f"{printable(pixels.name)}: {count:,} images of {_sizes(needed)} would take "
                f"{bytes_needed / 2**30:,.1f} GiB of memory, the limit is {MOST_BYTES >> 30}; "
                "ask for fewer images with limit"
            )
        values = self._finite(array, start)
        values, remark = _scaled(values, array.dtype.kind, pixels, span or _span(values), self._scale, self._rescales)
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
        raise CnnlensError(f"{name} is a picture, and the model wants {_sizes(wanted)}; give a .npy of that shape")
    ranks = {
        reading: _rank(reading, sizes, shape, spatial)
        for reading in ([pixels.axes] if pixels.axes else _readings(len(sizes), spatial))
    }
    fitting = {reading: rank for reading, rank in ranks.items() if rank is not None}
    if not fitting:
        raise CnnlensError(
            f"{name} has the shape {sizes}, which fits no reading of {_sizes(wanted)}; {_way_out(spatial)}"
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


def _sizes(sizes: Sequence[int | None]) -> str:
    """A canonical shape in words: ``1 channel, 28 × 28``."""
    channels, *spatial = ("any" if size is None else str(size) for size in sizes)
    return f"{channels} channel{'' if channels == '1' else 's'}" + (f", {' × '.join(spatial)}" if spatial else "")


def _scaled(
    values: NDArray[np.float32], kind: str, pixels: Pixels, span: Span, scale: str, model_rescales: bool
) -> tuple[NDArray[np.float32], str]:
    """``values``, which came in a dtype of ``kind``, in the wanted range, and what was done."""
    whole = kind in "iu"
    low, high = span
    shown = f"{low:g} to {high:g}"
    full = pixels.full or (255 if low >= 0 and high <= 255 else 65535 if low >= 0 and high <= 65535 else None)
    if scale == "none" or (kind == "b" and scale == "auto"):
        return values, f"values kept as they are ({shown})"
    if scale == "auto":
        if not whole:
            doubt = ""
            if model_rescales and low >= 0 and high <= 1:
                doubt = "; the model rescales by itself and may expect 0 to 255 (scale='0..255')"
            elif not model_rescales and low >= 0 and high > 16:
                doubt = "; the model may expect 0 to 1 (scale='0..1')"
            return values, f"floats kept as they are ({shown}{doubt})"
        if full is None:
            return values, f"integers outside 0 to 65535 kept as they are ({shown})"
        target = (0.0, 255.0) if model_rescales else (0.0, 1.0)
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
                "so it is not known how to scale them; use scale='none' or scale them first"
            )
        start = found
    if start == target:
        return values, f"values kept, 0 to {full}" if whole else f"floats kept as they are ({shown})"
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
    return values, f"{start[0]:g}..{start[1]:g} {done}, now {target[0]:g}..{target[1]:g}"


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
