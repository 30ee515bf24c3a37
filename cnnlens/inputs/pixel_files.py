"""Bytes that strangers made, read as arrays of pixels: PNG, JPEG, `.npy`, `.npz` and IDX.

What a file is, its first bytes say, not its name. Every size that a header declares is held against the bytes that are
really there before memory is taken, nothing is unpickled, and only as many images are read as were asked for.
"""

from __future__ import annotations

import ast
import gzip
import io
import lzma
import math
import os
import re
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import FileRefusedError
from cnnlens.text import printable

__all__ = ["MOST_BYTES", "NPZ_NAMES", "Pixels", "read_folder", "read_images"]

MOST_BYTES = 4 << 30  # decoded bytes of one file
_DEFLATE_LIMIT = 1040  # deflate cannot expand more than 1032 times
_LONGEST_HEADER = 10_000  # bytes; NumPy's own limit
_PICTURE_SUFFIXES = "PNG, JPEG, .npy, .npz or IDX"
NPZ_NAMES = ("x", "images", "x_test", "test_images", "image", "data", "x_train", "arr_0")
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
_BROKEN_ZIP = (*_BROKEN, NotImplementedError, RuntimeError, KeyError, TypeError, MemoryError, RecursionError)


class Pixels(NamedTuple):
    """Says what one file holds.

    Attributes:
        array: Its numbers in the file's own axis order; mapped from disk where that is possible.
        axes: Letters of its axes where the format fixes them (``"HW"``, ``"HWC"``, ``"NHW"``), else None.
        name: What to call it: the file's name without its suffix.
        notes: Remarks for the person.
        full: What an integer 1.0 would be: 255, or 65535 for 16-bit pictures; None where the format does not say.
    """

    array: NDArray[Any]
    axes: str | None
    name: str
    notes: tuple[str, ...] = ()
    full: int | None = None


def read_images(path: Path, limit: int | None = None, batch_rank: int = 4) -> Pixels:
    """Read the pixels of one file.

    Args:
        path: The file.
        limit: At most so many images need to be read, where the first axis is known to count them.
        batch_rank: The number of axes with which that is known: 4 for pictures, as in (N, C, H, W).

    Raises:
        FileRefusedError: Missing, unreadable, no format of ours, truncated, or lying about its size.
    """
    head = _first_bytes(path)
    if _is_picture(head):
        return _picture(path)
    if head.startswith(b"\x93NUMPY"):
        return _npy(path)
    if head.startswith(b"PK\x03\x04"):
        return _npz(path, limit, batch_rank)
    if head.startswith(b"\x1f\x8b"):
        return _idx(path, limit, batch_rank, packed=True)
    if len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and 1 <= head[3] <= 8:
        return _idx(path, limit, batch_rank, packed=False)
    found = "is empty" if not head else "looks like text" if _is_text(head) else "starts with unknown bytes"
    raise FileRefusedError(path, "", f"{found}, not {_PICTURE_SUFFIXES}", "convert it to one of these")


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
            if entry.is_file() and _is_picture(_first_bytes(entry)):
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


def _first_bytes(path: Path) -> bytes:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefusedError(path, "", "is no regular file", "name an image file or a folder of images")
        with open(path, "rb") as stream:
            return stream.read(512)
    except FileNotFoundError as error:
        raise FileRefusedError(path, "", "does not exist", "check the name") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileRefusedError(path, "", f"cannot be read ({reason})", "check its permissions") from error


def _is_picture(head: bytes) -> bool:
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff"))


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
    except (*_BROKEN, TypeError, IndexError, MemoryError) as error:
        raise FileRefusedError(path, "", f"the picture is damaged ({_short(error)})", "export it again") from error


def _short(error: BaseException) -> str:
    return printable(str(error) or type(error).__name__, 100)


# --------------------------------------------------------------------------------------------------- NumPy's formats


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of the array that starts here; the stream is left where its numbers begin.

    NumPy's own reader warns about, and then rewrites, headers of Python 2, and lets the tokenizer's errors out.
    (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)
    """
    magic = stream.read(8)
    if len(magic) < 8 or not magic.startswith(b"\x93NUMPY") or magic[6] not in (1, 2, 3):
        raise ValueError("no header")
    width = 2 if magic[6] == 1 else 4
    size = int.from_bytes(stream.read(width), "little")
    if size > _LONGEST_HEADER:
        raise ValueError(f"a header of {size:,} bytes")
    text = re.sub(r"\b(\d+)L\b", r"\1", stream.read(size).decode("utf-8" if magic[6] == 3 else "latin1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about odd texts
        header: Any = ast.literal_eval(text.strip())
    shape: Any = header["shape"]
    if not (isinstance(header["descr"], str) and re.fullmatch(r"[<>=|]?[A-Za-z?][0-9]{0,4}", header["descr"])):
        raise ValueError(f"not real numbers but {header['descr']}")
    if not all(isinstance(one, int) and one >= 0 for one in shape):
        raise ValueError(f"a size that is no size in {shape}")
    return tuple(shape), bool(header["fortran_order"]), np.dtype(header["descr"])


def _check_dtype(path: Path, place: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise FileRefusedError(
            path, place, "holds Python objects, which are never unpickled", "save it as plain numbers"
        )
    if dtype.kind not in "fiub":
        raise FileRefusedError(path, place, f"holds {printable(dtype)}, not real numbers", "save it as real numbers")


def _npy(path: Path) -> Pixels:
    try:
        with open(path, "rb") as stream:
            shape, fortran, dtype = _npy_header(stream)
            start = stream.tell()
        there = path.stat().st_size - start
    except _BROKEN_ZIP as error:
        raise FileRefusedError(path, "header", f"is damaged ({_short(error)})", "save the array again") from error
    _check_dtype(path, "", dtype)
    declared = math.prod(shape) * dtype.itemsize
    if declared != there:
        raise FileRefusedError(
            path, "header", f"declares {printable(shape)} {dtype}, {declared:,} bytes, but {max(there, 0):,} are there",
            "save the array again",
        )  # fmt: skip
    if declared == 0:
        raise FileRefusedError(path, "", f"the array {printable(shape)} is empty", "save at least one image")
    array = np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
    return Pixels(array, None, path.stem)


def _npz(path: Path, limit: int | None, batch_rank: int) -> Pixels:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if not info.is_dir()}
            arrays = {name: info for name, info in members.items() if info.filename.endswith(".npy")}
            if len(arrays) == 1:
                chosen = next(iter(arrays))
            else:
                lowered = {name.lower(): name for name in reversed(arrays)}
                chosen = next((lowered[name] for name in NPZ_NAMES if name in lowered), "")
            if not chosen:
                listed = ", ".join(f"'{printable(name, 40)}'" for name in list(arrays)[:6]) or "no array"
                raise FileRefusedError(path, "", f"holds {listed}, and none is called 'x' or 'images'", "rename one")
            info = arrays[chosen]
            place = f"'{chosen}'"
            if (
                info.file_size > max(info.compress_size, 1) * _DEFLATE_LIMIT
                and info.compress_type == zipfile.ZIP_DEFLATED
            ):
                raise FileRefusedError(
                    path, place, f"cannot hold the {info.file_size:,} bytes it declares", "save it again"
                )
            with archive.open(info) as stream:
                shape, fortran, dtype = _npy_header(stream)
                _check_dtype(path, place, dtype)
                declared = math.prod(shape) * dtype.itemsize
                if declared != info.file_size - stream.tell():
                    raise FileRefusedError(
                        path, place, f"declares {printable(shape)} {dtype}, {declared:,} bytes, "
                        f"but {info.file_size - stream.tell():,} are there", "save it again",
                    )  # fmt: skip
                if declared == 0:
                    raise FileRefusedError(
                        path, place, f"the array {printable(shape)} is empty", "save at least one image"
                    )
                few = len(shape) == batch_rank and not fortran
                array = _take(path, place, stream, shape, dtype, limit if few else None)
                if fortran:
                    array = array.reshape(-1).reshape(shape, order="F")
    except _BROKEN_ZIP as error:
        raise FileRefusedError(path, "", f"the archive is damaged ({_short(error)})", "save it again") from error
    notes = (f"array '{printable(chosen, 40)}' of {len(arrays)} in the archive",) if len(arrays) > 1 else ()
    return Pixels(array, None, path.stem, notes)


# ---------------------------------------------------------------------------------------------------------------- IDX


def _idx(path: Path, limit: int | None, batch_rank: int, *, packed: bool) -> Pixels:
    """The IDX format of the MNIST family: two zero bytes, type, rank, big-endian sizes, numbers (yann.lecun.com)."""
    real = path.stat().st_size
    try:
        with cast(IO[bytes], gzip.open(path) if packed else open(path, "rb")) as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or not 1 <= head[3] <= 8:
                raise FileRefusedError(
                    path,
                    "",
                    f"{'unpacks to something else than IDX' if packed else 'is no IDX file'}",
                    "unpack it first",
                )
            dtype = np.dtype(_IDX_TYPES[head[2]])
            shape: tuple[int, ...] = struct.unpack(f">{head[3]}I", stream.read(4 * head[3]))
            declared = math.prod(shape) * dtype.itemsize
            there = real * _DEFLATE_LIMIT if packed else real - 4 - 4 * head[3]
            if declared > there or (not packed and declared != there):
                found = f"{there:,} {'could be' if packed else 'are'} there"
                raise FileRefusedError(
                    path, "header", f"declares {shape}, {declared:,} bytes, but {found}", "fetch the file again"
                )
            if declared == 0:
                raise FileRefusedError(path, "header", f"declares {shape}, no image at all", "fetch the file again")
            if len(shape) < 2:
                raise FileRefusedError(
                    path,
                    "",
                    f"is a list of {math.prod(shape):,} numbers (labels?), not images",
                    "name the file of the images",
                )
            array = _take(path, "", stream, shape, dtype, limit if len(shape) in (3, batch_rank) else None)
            if len(array) == shape[0] and stream.read(1):
                raise FileRefusedError(path, "header", f"declares {shape}, but more follows", "fetch the file again")
    except _BROKEN as error:
        raise FileRefusedError(path, "", f"is damaged ({_short(error)})", "fetch the file again") from error
    return Pixels(
        array, "NHW" if len(shape) == 3 else None, path.name.split(".")[0], (), 255 if dtype.itemsize == 1 else None
    )


def _take(
    path: Path, place: str, stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], limit: int | None
) -> NDArray[Any]:
    """The first ``limit`` entries of an array in C order, from a stream that may end early."""
    if limit is not None:
        shape = (min(limit, shape[0]), *shape[1:])
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > MOST_BYTES:
        raise FileRefusedError(
            path, place, f"{shape} would take {wanted / 2**30:.1f} GiB of memory, the limit is {MOST_BYTES >> 30}",
            "ask for fewer images with limit",
        )  # fmt: skip
    # The system gives memory page by page as bytes arrive, so a stream that ends early costs what it held.
    content = np.empty(wanted, np.uint8)
    filled = 0
    for piece in _pieces(stream, wanted):
        content[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
        filled += len(piece)
    if filled < wanted:
        raise FileRefusedError(
            path, place, f"ends after {filled:,} of {wanted:,} bytes", "fetch or save the file again"
        )
    return content.view(dtype).reshape(shape)


def _pieces(stream: IO[bytes], wanted: int) -> Iterator[bytes]:
    left = wanted
    while left and (piece := stream.read(min(left, io.DEFAULT_BUFFER_SIZE * 128))):
        left -= len(piece)
        yield piece
