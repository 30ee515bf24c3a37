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

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.inputs.array_files import Part, Pixels
from cnnlens.inputs.pixel_files import is_picture, read_folder, read_images
from cnnlens.inputs.reading import Reading, Wanted, shown_sizes
from cnnlens.network.rescaling import Rescaled
from cnnlens.text import nearest, printable

__all__ = ["SCALES", "Images", "load", "one"]

SCALES = ("auto", "0..1", "-1..1", "0..255", "none")
Source = str | os.PathLike[str] | ArrayLike | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"<Images {self.array.shape} {self.array.dtype}: {printable('; '.join(self.notes), 300)}>"


@in_one_line()
def load(
    source: Source,
    *,
    shape: Wanted | None = None,
    limit: int | None = None,
    scale: str = "auto",
    model_rescales: bool | Rescaled = False,
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
        model_rescales: The model scales 0 to 255 itself; what ``cnnlens.network.rescaling.rescaled`` says of it names
            the layer that does.

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
    _check(shape, scale, limit)
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
        array, said = Reading(pixels, shape, scale, model_rescales).take(0, left)
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            one, other = shown_sizes(array.shape[1:]), shown_sizes(arrays[0].shape[1:])
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


@in_one_line()
def one(
    source: Source,
    index: int,
    *,
    shape: Wanted | None = None,
    scale: str = "auto",
    model_rescales: bool | Rescaled = False,
) -> Images:
    """Load image number ``index`` of what ``load`` takes, negative ones counted from the end; no other is decoded.

    It is read as it would be among the others: where the scale depends on the smallest and the largest number of all,
    those are looked for.

    Args:
        source, shape, scale, model_rescales: As ``load`` takes them.

    Returns:
        An ``Images`` of that one; the notes speak of all.

    Raises:
        CnnlensError: as ``load`` does; or there are not so many images.

    >>> import cnnlens.sample
    >>> cnnlens.images.one(cnnlens.sample.IMAGES, -1, shape=(1, 28, 28)).names
    ('9-ankle-boot',)
    """
    _check(shape, scale, None)
    blocks, notes, _ = _blocks(source, None)
    rank = 4 if shape is None else len(shape) + 1

    def reading(block: Path | Pixels, part: Part | None) -> Reading:
        return Reading(
            block if isinstance(block, Pixels) else read_images(block, part=part), shape, scale, model_rescales
        )

    counts = [
        1 if isinstance(block, Path) and is_picture(block) else len(reading(block, Part(1, rank))) for block in blocks
    ]
    if not -sum(counts) <= index < sum(counts):
        raise CnnlensError(f"there are {sum(counts):,} images, numbered from 0, and {index} was asked for")
    left = index % sum(counts)
    place = 0
    while left >= counts[place]:
        left, place = left - counts[place], place + 1
    found = reading(blocks[place], Part(1, rank, left))
    span = None
    if found.scaled_by_span and len(found) > 1:
        span = reading(blocks[place], None).span()
    array, said = found.take(left, left + 1, span, told=len(found))
    name = printable(found.name)
    return Images(array, (name if len(found) == 1 else f"{name} {left}",), (*notes, *said))


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


def _check(shape: Wanted | None, scale: str, limit: int | None) -> None:
    if scale not in SCALES:
        raise CnnlensError(f"no scale '{printable(scale)}'; {nearest(scale, SCALES)}")
    if limit is not None and limit < 1:
        raise CnnlensError(f"limit must be at least 1, not {limit}")
    if shape is not None and any(size is not None and size < 1 for size in shape):
        raise CnnlensError(f"the model wants an input of {shape}, which is empty; nothing fits it")
    if shape is not None and not 1 <= len(shape) <= 4:
        raise CnnlensError(f"a model input of shape {shape} is not one of (C,), (C, L), (C, H, W), (C, D, H, W)")


def _told(notes: Sequence[str]) -> tuple[str, ...]:
    """Each remark once, with the number of files it holds for."""
    counts: dict[str, int] = {}
    for note in notes:
        counts[note] = counts.get(note, 0) + 1
    return tuple(note if count == 1 else f"{note} ({count} files)" for note, count in counts.items())
