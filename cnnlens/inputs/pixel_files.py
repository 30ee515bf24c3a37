"""Bytes that strangers made, read as arrays of pixels: PNG and JPEG, and the files of ``array_files``.

What a file is, its first bytes say, not its name.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np

from cnnlens.errors import FileRefusedError
from cnnlens.inputs.array_files import BROKEN, Part, Pixels, first_bytes, read_array, short
from cnnlens.text import printable

__all__ = ["is_picture", "picture_sizes", "read_folder", "read_images"]

_SUFFIXES = "PNG, JPEG, .npy, .npz or IDX"
# A picture of 33 Mpx, an 8K screen, may be of one colour; photographs decode to 5 to 20 times their bytes.
_FREE_BYTES = 128 << 20
_RATIO = 32
_MOST_STORED = 1 << 30
# A progressive JPEG is decoded once for each scan, which may take ten bytes; honest ones have ten, a preview two more.
_MOST_SCANS = 100
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff")


def read_images(path: Path, member: str | None = None, part: Part | None = None) -> Pixels:
    """Read the pixels of one file.

    Args:
        path: The file.
        member, part: For an array: as ``read_array`` takes them.

    Raises:
        FileRefusedError: Missing, unreadable, no format of ours, truncated, or lying about its size.
    """
    head = first_bytes(path)
    if head.startswith(_PICTURES):
        return _picture(path)
    pixels = read_array(path, head, member, part)
    if pixels is None:
        found = "is empty" if not head else "looks like text" if _is_text(head) else "starts with unknown bytes"
        raise FileRefusedError(path, "", f"{found}, not {_SUFFIXES}", "convert it to one of these")
    return pixels


def read_folder(folder: Path, limit: int | None) -> tuple[list[Path], tuple[str, ...]]:
    """Find the PNG and JPEG files of a folder (not of its sub-folders), sorted by name, and what was passed over.

    Raises:
        FileRefusedError: The folder cannot be listed, or holds no picture.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        pictures: list[Path] = []
        skipped: list[Path] = []
        for entry in entries:
            if limit is not None and len(pictures) == limit:
                break
            if entry.is_file() and is_picture(entry):
                pictures.append(entry)
            else:
                skipped.append(entry)
    except OSError as error:
        raise FileRefusedError(folder, "", f"cannot be read ({error.strerror or error})", "check the folder") from error
    if not pictures:
        inside = f"{len(entries)} other entries" if entries else "nothing"
        raise FileRefusedError(
            folder, "", f"a folder with {inside} and no PNG or JPEG", "name a folder whose files are pictures"
        )
    if not skipped:
        return pictures, ()
    named = [printable(entry.name, 40) for entry in skipped if entry.suffix.lower() in (".png", ".jpg", ".jpeg")]
    few = f", among them {', '.join(named[:3])}{', …' if len(named) > 3 else ''}" if named else ""
    return pictures, (f"{len(skipped)} of {len(entries)} entries in the folder are no PNG or JPEG: left out{few}",)


def is_picture(path: Path) -> bool:
    """Tell whether a file's first bytes are those of a PNG or a JPEG."""
    return first_bytes(path).startswith(_PICTURES)


def picture_sizes(paths: Iterable[Path]) -> Counter[tuple[int, int]]:
    """Count how high and wide PNG and JPEG files say that they are, upright; one that says nothing is left out."""
    from PIL import Image

    found: Counter[tuple[int, int]] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            with (
                contextlib.suppress(*BROKEN, Image.DecompressionBombError),
                Image.open(path, formats=("PNG", "JPEG")) as opened,
            ):
                width, height = opened.size
                turned = "exif" in opened.info and opened.getexif().get(0x0112, 1) > 4
                found[(width, height) if turned else (height, width)] += 1
    return found


def _is_text(head: bytes) -> bool:
    return not any(byte < 9 or 13 < byte < 32 for byte in head)


def _refuse_bomb(path: Path, size: tuple[int, int]) -> None:
    """Refuse a picture that takes far more to decode than its bytes are worth, by what its header declares."""
    stored, decoded = path.stat().st_size, 4 * size[0] * size[1]
    if decoded > _FREE_BYTES + _RATIO * stored or stored > _MOST_STORED:
        reason = (
            f"declares {size[0]:,} × {size[1]:,} pixels, {decoded / 1e6:,.0f} MB decoded, in {stored / 1e6:,.2f} MB"
        )
        raise FileRefusedError(path, "", reason, "make it smaller first")
    with open(path, "rb") as stream:
        if stream.read(2) == b"\xff\xd8" and stream.read().count(b"\xff\xda") > _MOST_SCANS:
            raise FileRefusedError(path, "", f"a JPEG of more than {_MOST_SCANS} scans", "save it as a plain one first")


def _picture(path: Path) -> Pixels:
    from PIL import Image, ImageOps  # here, so that arrays do not pay for its import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as opened:
                _refuse_bomb(path, opened.size)
                opened.load()
                notes: tuple[str, ...] = ()
                image = ImageOps.exif_transpose(opened)
                if opened.getexif().get(0x0112, 1) not in (0, 1):
                    notes += ("turned upright as its EXIF orientation says",)
                if image.mode.startswith("I"):  # 16 bits of grey, which Pillow keeps in 16 or 32
                    return Pixels(np.asarray(image).astype(np.int32), "HW", path.stem, notes, 65535)
                if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
                    alpha = image.convert("RGBA")
                    if cast(tuple[int, int], alpha.getchannel("A").getextrema())[0] < 255:
                        notes += ("transparent parts laid on white",)
                        ground = Image.new("RGBA", alpha.size, (255, 255, 255, 255))
                        ground.alpha_composite(alpha)
                        alpha = ground
                    image = alpha.convert("L" if image.mode == "LA" else "RGB")
                elif image.mode != "L":
                    image = image.convert("L" if image.mode == "1" else "RGB")
                array = np.asarray(image)
                return Pixels(array, "HW" if array.ndim == 2 else "HWC", path.stem, notes, 255)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        most = f"{Image.MAX_IMAGE_PIXELS or 0:,}"
        raise FileRefusedError(
            path,
            "",
            f"declares more than {most} pixels, the limit against decompression bombs",
            "make it smaller first",
        ) from error
    except BROKEN as error:
        raise FileRefusedError(path, "", f"the picture is damaged ({short(error)})", "export it again") from error
