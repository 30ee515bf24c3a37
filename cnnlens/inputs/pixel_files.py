"""Bytes that strangers made, read as arrays of pixels: PNG and JPEG, and the files of ``array_files``.

What a file is, its first bytes say, not its name.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

import numpy as np

from cnnlens.errors import FileRefusedError
from cnnlens.inputs.array_files import BROKEN, Part, Pixels, first_bytes, read_array, short

__all__ = ["is_picture", "read_folder", "read_images"]

_SUFFIXES = "PNG, JPEG, .npy, .npz or IDX"
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
        skipped = 0
        for entry in entries:
            if limit is not None and len(pictures) == limit:
                break
            if entry.is_file() and is_picture(entry):
                pictures.append(entry)
            else:
                skipped += 1
    except OSError as error:
        raise FileRefusedError(folder, "", f"cannot be read ({error.strerror or error})", "check the folder") from error
    if not pictures:
        inside = f"{len(entries)} other entries" if entries else "nothing"
        raise FileRefusedError(
            folder, "", f"a folder with {inside} and no PNG or JPEG", "name a folder whose files are pictures"
        )
    notes = (f"{skipped} of {len(entries)} entries in the folder are no PNG or JPEG: left out",) if skipped else ()
    return pictures, notes


def is_picture(path: Path) -> bool:
    """Tell whether a file's first bytes are those of a PNG or a JPEG."""
    return first_bytes(path).startswith(_PICTURES)


def _is_text(head: bytes) -> bool:
    return not any(byte < 9 or 13 < byte < 32 for byte in head)


def _picture(path: Path) -> Pixels:
    from PIL import Image, ImageOps  # here, so that arrays do not pay for its import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as opened:
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
