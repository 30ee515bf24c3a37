"""Images arrive as the model wants them, each decision on the way is said, and what is no image is refused."""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.inputs import array_files, images
from cnnlens.inputs.pixel_files import read_images

RANDOM = np.random.default_rng(11)
GREY = RANDOM.integers(0, 256, (4, 6, 5), np.uint8)  # (N, H, W)
COLOUR = RANDOM.integers(0, 256, (4, 6, 5, 3), np.uint8)  # (N, H, W, C)


def idx(array: np.ndarray) -> bytes:
    code = {"|u1": 8, ">i2": 11, ">f4": 13}[array.dtype.str]
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npy(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# ----------------------------------------------------------------------------------------------------- axes and scale


@pytest.mark.parametrize(
    ("array", "read"),
    [
        (GREY[0], "H, W: 1 of"),
        (GREY, "N, H, W: 4 of"),
        (GREY[0][..., None], "H, W, C: 1 of"),
        (GREY[0][None], "N, H, W: 1 of"),
        (GREY[..., None], "N, H, W, C: 4 of"),
        (GREY[:, None], "N, C, H, W: 4 of"),
    ],
)
def test_grey_images_in_any_axes(array: np.ndarray, read: str) -> None:
    loaded = images.load(array, shape=(1, 6, 5))
    expected = (GREY.astype(np.float32) / 255)[: len(loaded.array), None]
    np.testing.assert_array_equal(loaded.array, expected)
    assert loaded.array.dtype == np.float32
    assert loaded.array.flags.c_contiguous
    assert any(f"read as {read} 1 channel, 6 × 5" in note for note in loaded.notes)
    assert "0..255 divided by 255, now 0..1" in loaded.notes
    assert len(loaded.names) == len(loaded.array)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_colour_images_in_any_axes(last: bool, several: bool) -> None:
    array = COLOUR if several else COLOUR[0]
    given_axes = array if last else np.moveaxis(array, -1, -3)
    loaded = images.load(given_axes, shape=(3, 6, 5))
    np.testing.assert_array_equal(
        loaded.array, np.moveaxis(COLOUR, -1, 1)[: len(loaded.array)].astype(np.float32) / 255
    )


@given(
    st.tuples(st.integers(5, 9), st.integers(10, 14), st.integers(15, 19)),
    st.integers(2, 4),
    st.sampled_from(["", "first", "last"]),
    st.booleans(),
    st.integers(1, 3),
)
@settings(max_examples=60)
def test_signals_and_volumes_and_vectors(
    sizes: tuple[int, ...], channels: int, axis: str, several: bool, spatial: int
) -> None:
    sizes = sizes[:spatial]
    if not axis:
        channels = 1
    count = 20 if several else 1
    canonical = np.random.default_rng(0).normal(size=(count, channels, *sizes)).astype(np.float32)
    given_axes = canonical if axis == "first" else np.moveaxis(canonical, 1, -1)
    if not axis:
        given_axes = given_axes[..., 0]
    loaded = images.load(given_axes if several else given_axes[0], shape=(channels, *sizes))
    np.testing.assert_array_equal(loaded.array, canonical)


def test_what_the_model_wants_decides_what_an_axis_means() -> None:
    three = RANDOM.integers(0, 256, (3, 8, 7), np.uint8)
    assert images.load(three, shape=(1, 8, 7)).array.shape == (3, 1, 8, 7)
    assert images.load(three, shape=(3, 8, 7)).array.shape == (1, 3, 8, 7)
    photo = RANDOM.integers(0, 256, (40, 50, 3), np.uint8)
    assert images.load(photo, shape=(1, 40, 50)).array.shape == (1, 1, 40, 50)
    assert images.load(photo, shape=(1, 10, 10)).array.shape == (1, 1, 10, 10), "not 40 pictures of 50 x 3"
    assert images.load(photo, shape=(3, None, None)).array.shape == (1, 3, 40, 50)
    assert images.load(photo).array.shape == (1, 3, 40, 50)
    assert images.load(RANDOM.random((2, 7)), shape=(7,)).array.shape == (2, 7)


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (np.zeros((3, 32, 3)), (3, 32, 32), "can be read as H, W, C or as C, H, W"),
        (np.zeros((2, 1, 8, 1)), (1, 8, 8), "can be read as N, H, W, C or as N, C, H, W"),
        (np.zeros((7, 7)), (7, 7), "can be read as L, C or as C, L"),
        (np.zeros((5, 8, 8, 6)), (1, 8, 8), "fits no reading of 1 channel, 8 × 8"),
        (np.zeros((5, 9)), (2, 8), "fits no reading of 2 channels, 8"),
        (np.zeros((2, 5, 8, 8)), (1, 5, 8, 9), "fits no reading"),
        (np.zeros(7), (1, 8, 8), "fits no reading"),
        (np.zeros((0, 8, 8)), (1, 8, 8), "is empty"),
        (np.zeros((8, 8), complex), (1, 8, 8), "real numbers"),
        (np.full((8, 8), "a"), (1, 8, 8), "real numbers"),
        (np.full((8, 8), None), (1, 8, 8), "real numbers"),
        ([[1, 2], [3]], (1, 8, 8), "lists of different lengths"),
        (np.zeros((8, 8)), (1, 1, 1, 1, 1), "is not one of"),
        (np.zeros((8, 8)), (1, 10**6, 10**6), "GiB"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(array: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(CnnlensError, match=re.escape(message)) as caught:
        images.load(array, shape=shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    array = np.zeros((3, 6, 5))
    array[2, 4, 1] = bad
    with pytest.raises(CnnlensError, match=r"image 2 holds .* at channel 0, position \(4, 1\)"):
        images.load(array, shape=(1, 6, 5))


@pytest.mark.parametrize(
    ("array", "options", "expected", "note"),
    [
        (np.uint8([[0, 51, 255]]), {}, [0, 0.2, 1], "0..255 divided by 255"),
        (np.uint8([[0, 51, 255]]), {"model_rescales": True}, [0, 51, 255], "values kept, 0 to 255"),
        (np.int64([[0, 51, 255]]), {}, [0, 0.2, 1], "0..255 divided by 255"),
        (np.uint16([[0, 65535, 257]]), {}, [0, 1, 257 / 65535], "divided by 65535"),
        (np.int32([[-1, 5, 9]]), {}, [-1, 5, 9], "integers outside 0 to 65535 kept"),
        (np.bool_([[True, False]]), {}, [1, 0], "values kept as they are"),
        (np.float64([[0, 51, 255]]), {}, [0, 51, 255], "may expect 0 to 1"),
        (np.float64([[0, 0.5, 1]]), {}, [0, 0.5, 1], "floats kept as they are"),
        (np.float64([[0, 0.5, 1]]), {"model_rescales": True}, [0, 0.5, 1], "may expect 0 to 255"),
        (np.float64([[0, 0.5, 1]]), {"scale": "0..255"}, [0, 127.5, 255], "multiplied by 255"),
        (np.float64([[0, 51, 255]]), {"scale": "0..1"}, [0, 0.2, 1], "divided by 255"),
        (np.float64([[-1, 0, 1]]), {"scale": "0..1"}, [0, 0.5, 1], "shifted and scaled"),
        (np.uint8([[0, 51, 255]]), {"scale": "-1..1"}, [-1, -0.6, 1], "now -1..1"),
        (np.uint8([[0, 51, 255]]), {"scale": "none"}, [0, 51, 255], "values kept as they are"),
        (np.float16([[0, 0.5, 300]]), {"scale": "none"}, [0, 0.5, 300], "values kept as they are"),
    ],
)
def test_the_scale_is_a_rule_and_is_said(
    array: np.ndarray, options: dict[str, Any], expected: list[float], note: str
) -> None:
    loaded = images.load(array, shape=(1, 1, array.shape[1]), **options)
    np.testing.assert_allclose(loaded.array.ravel(), expected, rtol=1e-6, atol=1e-7)
    assert any(note in said for said in loaded.notes), loaded.notes


def test_scales_that_cannot_be_are_refused() -> None:
    with pytest.raises(CnnlensError, match=r"no scale 'nun'; did you mean 'none'"):
        images.load(GREY, scale="nun")
    with pytest.raises(CnnlensError, match=r"lie in none of 0\.\.1, -1\.\.1 and 0\.\.255"):
        images.load(np.full((2, 6, 5), 1000.0), scale="0..1")
    with pytest.raises(CnnlensError, match="limit must be at least 1"):
        images.load(GREY, limit=0)


def test_division_is_the_one_that_everybody_writes() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.testing.assert_array_equal(images.load(every).array[0], every.astype("float32") / 255)


# --------------------------------------------------------------------------------------------------- colour and sizes


def test_grey_becomes_three_equal_channels_and_colour_its_luma() -> None:
    grey = images.load(GREY, shape=(3, 6, 5))
    np.testing.assert_array_equal(grey.array, (GREY.astype(np.float32) / 255)[:, None].repeat(3, axis=1))
    assert "grey repeated to three channels" in grey.notes
    luma = images.load(COLOUR, shape=(1, 6, 5))
    expected = [np.asarray(Image.fromarray(one).convert("L")) for one in COLOUR]
    np.testing.assert_allclose(luma.array[:, 0] * 255, expected, atol=1)
    assert any("RGB turned grey" in note for note in luma.notes)


def test_a_fourth_channel_is_transparency_over_white() -> None:
    array = RANDOM.integers(0, 256, (2, 6, 5, 4), np.uint8)
    loaded = images.load(array, shape=(3, 6, 5))
    colour, alpha = array[..., :3] / 255, array[..., 3:] / 255
    np.testing.assert_allclose(np.moveaxis(loaded.array, 1, -1), colour * alpha + 1 - alpha, atol=1e-6)
    assert any("laid on white" in note for note in loaded.notes)
    assert images.load(array, shape=(4, 6, 5)).array.shape == (2, 4, 6, 5)


def test_resizing_is_antialiased_and_said() -> None:
    board = np.indices((40, 60)).sum(0) % 2 * 255  # finer than the wanted size: must become even grey
    loaded = images.load(board.astype(np.uint8), shape=(1, 10, 15))
    np.testing.assert_allclose(loaded.array[0, 0, 2:-2, 2:-2], 0.5, atol=0.03)
    assert "resized from 40 × 60 to 10 × 15 (bilinear, antialiased)" in loaded.notes
    stretched = images.load(board.astype(np.uint8), shape=(1, 10, 10))
    assert any("its proportions changed" in note for note in stretched.notes)
    ramp = np.tile(np.linspace(0, 1, 9, dtype=np.float32), (4, 1))
    larger = images.load(ramp, shape=(1, 8, 18)).array[0, 0]
    assert (np.diff(larger, axis=1) >= 0).all()
    assert np.unique(larger[0]).size > 12, "bilinear, not nearest"


# -------------------------------------------------------------------------------------------------------------- files


def test_pictures_as_files(tmp_path: Path) -> None:
    Image.fromarray(GREY[0]).save(tmp_path / "grey.png")
    Image.fromarray(COLOUR[0]).save(tmp_path / "colour.png")
    Image.fromarray(COLOUR[0]).save(tmp_path / "photo.jpg", quality=95)
    grey = images.load(tmp_path / "grey.png", shape=(1, 6, 5))
    np.testing.assert_array_equal(grey.array[0, 0], GREY[0].astype(np.float32) / 255)
    assert grey.names == ("grey",)
    assert "grey 6 × 5" in grey.notes
    colour = images.load(str(tmp_path / "colour.png"))
    np.testing.assert_array_equal(colour.array[0], np.moveaxis(COLOUR[0], -1, 0).astype(np.float32) / 255)
    np.testing.assert_array_equal(
        images.load(tmp_path / "photo.jpg").array[0, 0] * 255, np.asarray(Image.open(tmp_path / "photo.jpg"))[..., 0]
    )


def test_pictures_of_other_modes(tmp_path: Path) -> None:
    sixteen = RANDOM.integers(0, 65536, (6, 5), np.uint16)
    Image.fromarray(sixteen).save(tmp_path / "16.png")
    np.testing.assert_allclose(images.load(tmp_path / "16.png").array[0, 0], sixteen / 65535, rtol=1e-6)
    Image.fromarray(GREY[0] > 127).save(tmp_path / "1.png")
    np.testing.assert_array_equal(images.load(tmp_path / "1.png").array[0, 0], GREY[0] > 127)
    Image.fromarray(COLOUR[0]).quantize(16).save(tmp_path / "palette.png")
    assert images.load(tmp_path / "palette.png").array.shape == (1, 3, 6, 5)
    Image.fromarray(COLOUR[0]).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert images.load(tmp_path / "cmyk.jpg").array.shape == (1, 3, 6, 5)
    clear = np.dstack([COLOUR[0], np.zeros((6, 5), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    loaded = images.load(tmp_path / "clear.png")
    assert (loaded.array == 1).all()
    assert "transparent parts laid on white" in loaded.notes


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    picture = Image.fromarray(np.kron(np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3), np.ones((16, 16), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    loaded = images.load(tmp_path / "turned.jpg")
    expected = np.rot90(np.asarray(picture), -1)
    np.testing.assert_allclose(loaded.array[0, 0] * 255, expected, atol=6)
    assert any("EXIF" in note for note in loaded.notes)


def test_a_folder_is_read_in_the_order_of_names_and_says_what_it_left_out(tmp_path: Path) -> None:
    for index in (2, 0, 1):
        Image.fromarray(GREY[index]).save(tmp_path / f"{index}.png")
    put(tmp_path, "notes.png", b"no picture at all")
    put(tmp_path, "b.txt", b"text")
    put(tmp_path, ".hidden", b"")
    (tmp_path / "a folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    loaded = images.load(tmp_path, shape=(1, 6, 5))
    np.testing.assert_array_equal(loaded.array[:, 0], GREY[:3].astype(np.float32) / 255)
    assert loaded.names == ("0", "1", "2")
    few = "a folder.png, notes.png, pipe.png"
    assert f"4 of 7 entries in the folder are no PNG or JPEG: left out, among them {few}" in loaded.notes
    assert "grey 6 × 5 (3 files)" in loaded.notes
    assert images.load(tmp_path, limit=2).array.shape == (2, 1, 6, 5)


def test_several_files_are_one_batch(tmp_path: Path) -> None:
    Image.fromarray(GREY[0]).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", GREY[1:])
    loaded = images.load([tmp_path / "a.png", str(tmp_path / "b.npy")], shape=(1, 6, 5))
    np.testing.assert_array_equal(loaded.array[:, 0], GREY.astype(np.float32) / 255)
    assert loaded.names == ("a", "b 0", "b 1", "b 2")
    assert images.load([tmp_path / "a.png", tmp_path / "b.npy"], shape=(1, 6, 5), limit=3).array.shape[0] == 3
    Image.fromarray(COLOUR[0]).save(tmp_path / "c.png")
    with pytest.raises(CnnlensError, match="c is 3 channels, 6 × 5 and a is 1 channel, 6 × 5"):
        images.load([tmp_path / "a.png", tmp_path / "c.png"])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f2", ">f8"])
def test_numpy_files(tmp_path: Path, order: Any, dtype: str) -> None:
    array = np.asarray(COLOUR.astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    np.savez_compressed(tmp_path / "b.npz", labels=np.arange(4), x_test=array)
    for name in ("a.npy", "a.npz", "b.npz"):
        loaded = images.load(tmp_path / name, shape=(3, 6, 5), scale="none")
        np.testing.assert_array_equal(loaded.array, np.moveaxis(COLOUR, -1, 1))
        two = images.load(tmp_path / name, shape=(3, 6, 5), scale="none", limit=2)
        np.testing.assert_array_equal(two.array, np.moveaxis(COLOUR[:2], -1, 1))
    assert any("'x_test' of 2" in note for note in loaded.notes)


def test_a_limit_does_not_cut_a_volume(tmp_path: Path) -> None:
    volume = RANDOM.normal(size=(3, 4, 5, 6)).astype(np.float32)  # (C, D, H, W): one example
    np.savez(tmp_path / "a.npz", volume)
    np.testing.assert_array_equal(images.load(tmp_path / "a.npz", shape=(3, 4, 5, 6), limit=1).array[0], volume)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files(tmp_path: Path, packed: bool) -> None:
    content = idx(GREY)
    path = put(tmp_path, "t10k-images-idx3-ubyte" + ".gz" * packed, gzip.compress(content) if packed else content)
    loaded = images.load(path, shape=(1, 6, 5))
    np.testing.assert_array_equal(loaded.array[:, 0], GREY.astype(np.float32) / 255)
    assert loaded.names[1] == "t10k-images-idx3-ubyte 1"
    np.testing.assert_array_equal(images.load(path, limit=1).array, loaded.array[:1])
    floats = put(tmp_path, "floats", idx(RANDOM.normal(size=(2, 3, 6, 5)).astype(">f4")))
    assert images.load(floats, shape=(3, 6, 5)).array.shape == (2, 3, 6, 5)


def test_what_a_file_is_its_bytes_say(tmp_path: Path) -> None:
    path = put(tmp_path, "picture.jpg", npy(GREY))
    assert images.load(path, shape=(1, 6, 5)).array.shape == (4, 1, 6, 5)


# ------------------------------------------------------------------------------------------------------ hostile files


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def zipped(name: str, content: bytes, declared: int | None = None, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, content)
    whole = stream.getvalue()
    if declared is not None:  # the size in the local header and in the directory
        whole = whole.replace(struct.pack("<I", len(content)), struct.pack("<I", declared))
    return whole


def pickled() -> bytes:
    return npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)


HUGE = npy_header("<f4", (1 << 20, 1 << 12, 1 << 10))
PNG = (lambda stream: (Image.fromarray(GREY[0]).save(stream, "PNG"), stream.getvalue())[1])(io.BytesIO())
JPEG = (lambda stream: (Image.fromarray(COLOUR[0]).save(stream, "JPEG"), stream.getvalue())[1])(io.BytesIO())


def lying_jpeg(width: int, height: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


def scanned_jpeg(times: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(COLOUR[0]).save(stream, "JPEG", progressive=True)
    whole = stream.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * times + whole[-2:]


HOSTILE = {
    "empty": (b"", "is empty, not PNG"),
    "text": (b"hello, this is text\n", "looks like text, not PNG"),
    "unknown bytes": (b"\x01\x02\x03\x04", "unknown bytes"),
    "gif": (b"GIF89a\x01\x00\x01\x00", "not PNG, JPEG"),
    "png cut short": (PNG[: len(PNG) // 2], "the picture is damaged"),
    "png header alone": (PNG[:20], "the picture is damaged"),
    "jpeg cut short": (JPEG[: len(JPEG) // 2], "the picture is damaged"),
    "jpeg magic alone": (JPEG[:4], "the picture is damaged"),
    "decompression bomb": (png_header(60_000, 60_000), "decompression bombs"),
    "half a bomb": (png_header(10_000, 10_000), "decompression bombs"),
    "png of nothing": (png_header(5_000, 5_000), "the picture is damaged"),
    "png of far more than its bytes": (png_header(9_000, 9_000), "declares 9,000 × 9,000 pixels, 324 MB"),
    "jpeg whose header lies": (lying_jpeg(9_000, 9_000), "declares 9,000 × 9,000 pixels, 324 MB"),
    "jpeg of many scans": (scanned_jpeg(200), "a JPEG of more than 100 scans"),
    "npy of objects": (pickled(), "never unpickled"),
    "npy of strings": (npy(np.array(["a", "b"])), "not real numbers"),
    "npy of complex": (npy(np.zeros(3, complex)), "not real numbers"),
    "npy of records": (npy(np.zeros(3, "i4,f4")), "not real numbers"),
    "npy that declares 16 TiB": (HUGE + b"\0" * 64, "bytes, but 64 are there"),
    "npy whose size overflows": (npy_header("<f4", (1 << 32, 1 << 32)) + b"\0" * 4, "bytes, but 4 are there"),
    "npy with a negative size": (npy_header("<f4", (-1, 4)) + b"\0" * 16, "no size in"),
    "npy cut short": (npy(GREY)[:-1], "bytes, but"),
    "npy with more behind": (npy(GREY) + b"x", "bytes, but"),
    "npy header cut": (npy(GREY)[:30], "is damaged"),
    "npy header of code": (npy(GREY).replace(b"'<u1'", b"x()  ").replace(b"'|u1'", b"x()  "), "is damaged"),
    "npy header nested": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000, "is damaged"),
    "npy header endless": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFF0) + b" " * 99, "a header of 4,294"),
    "npy empty": (npy(np.zeros((0, 6, 5))), "is empty"),
    "npz damaged": (zipped("x.npy", npy(GREY))[:-30], "the archive is damaged"),
    "npz without arrays": (zipped("x.txt", b"hello"), "none is called"),
    "npz of objects": (zipped("x.npy", pickled()), "never unpickled"),
    "npz that declares more": (zipped("x.npy", HUGE + b"\0" * 64), "bytes, but"),
    "npz bomb": (zipped("x.npy", npy(GREY), 0xF0000000), "cannot hold the"),
    "npz stored bomb": (zipped("x.npy", npy(GREY), 0xF0000000, zipfile.ZIP_STORED), "damaged|declares|bytes"),
    "npz longer than its file": (
        zipped("x.npy", npy_header("|u1", (0x7FF00000, 1, 1)), 0x7FF00080, zipfile.ZIP_STORED),
        "declares .* bytes, but|Overlapped entries",  # zipfile sees it first since Python 3.12.2 and 3.13
    ),
    "idx of labels": (idx(np.arange(9, dtype=np.uint8)), "labels"),
    "idx cut short": (idx(GREY)[:-1], "bytes, but"),
    "idx with more behind": (idx(GREY) + b"x", "bytes, but"),
    "idx that declares 4 EiB": (b"\0\0\x08\x04" + b"\x7f\xff\xff\xff" * 4, "bytes, but 0 are there"),
    "idx of nothing": (b"\0\0\x08\x03" + struct.pack(">3I", 0, 6, 5), "no image at all"),
    "idx header cut": (b"\0\0\x08\x03\0\0", "is damaged"),
    "gz of text": (gzip.compress(b"hello"), "something else than IDX"),
    "gz of nothing": (gzip.compress(b""), "something else than IDX"),
    "gz cut short": (gzip.compress(idx(GREY))[:-20], "is damaged"),
    "gz with a wrong checksum": (gzip.compress(idx(GREY))[:-8] + bytes(8), "is damaged"),
    "gz that ends early": (gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 9, 60, 50)), "ends after 0 of 27,000"),
    "gz that declares more": (gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 90, 600, 500)), "could be there"),
    "gz that declares 4 EiB": (gzip.compress(b"\0\0\x08\x04" + b"\x7f\xff\xff\xff" * 4), "could be there"),
    "gz with more behind": (gzip.compress(idx(GREY) + b"x"), "more follows"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_broken_file_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    content, message = HOSTILE[case]
    path = put(tmp_path, "x\x1b[31m.bin", content)
    with pytest.raises(CnnlensError, match=message) as caught:
        images.load(path, shape=(1, 6, 5))
    said = str(caught.value)
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 500
    assert "x\\x1b[31m.bin" in said


def test_a_large_picture_of_one_colour_is_read(tmp_path: Path) -> None:
    Image.new("L", (7680, 4320), 7).save(tmp_path / "8k.png")
    assert images.load(tmp_path / "8k.png").array.shape == (1, 1, 4320, 7680)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_file_that_lies_about_its_size_costs_no_memory(tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 3000, 1000, 1000) + bytes(3_000_000))
    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_header("|u1", (3000, 1000, 1000)) + bytes(3_000_000))
    paths = [
        put(tmp_path, "bomb.gz", bomb),
        put(tmp_path, "short.npz", zeros.getvalue()),
        put(tmp_path, "huge.npy", HUGE),
    ]
    script = (
        "import resource, sys\nfrom cnnlens.inputs import images\nfrom cnnlens.errors import CnnlensError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: images.load(path)\n"
        "    except CnnlensError as error: print(error)\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "assert grown < 100_000, f'{grown} KiB'"
    )
    done = subprocess.run([sys.executable, "-c", script, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_an_honest_file_larger_than_memory_asks_for_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    header = npy_header("|u1", (60_000, 300, 300))
    with open(path, "wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + 60_000 * 300 * 300)  # a sparse file
    with pytest.raises(CnnlensError, match=r"would take 20\.1 GiB of memory, the limit is 4; ask for fewer images"):
        images.load(path, shape=(1, 300, 300))
    assert images.load(path, shape=(1, 300, 300), limit=3).array.shape == (3, 1, 300, 300)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "does not exist; check the name"),
        ("", "a folder with nothing and no PNG or JPEG"),
        ("pipe", "is no regular file"),
        ("nul\0", "cannot be read"),
        ("n" * 300, "cannot be read"),
    ],
)
def test_places_that_hold_no_image(tmp_path: Path, name: str, message: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if name == "pipe":
        os.mkfifo(folder / "pipe")
    with pytest.raises(CnnlensError, match=message):
        images.load(folder / name)


def test_a_truncated_picture_in_a_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.png", PNG)
    put(tmp_path, "b.png", PNG[:-30])
    with pytest.raises(CnnlensError, match=r"b\.png: the picture is damaged"):
        images.load(tmp_path)


def test_pictures_do_not_go_into_models_of_signals(tmp_path: Path) -> None:
    path = put(tmp_path, "a.png", PNG)
    for shape in ((4, 10), (1, 6, 5, 3), (10,)):
        with pytest.raises(CnnlensError, match=r"is a picture, and the model wants"):
            images.load(path, shape=shape)
    with pytest.raises(CnnlensError, match="fits no reading of 5 channels"):
        images.load(path, shape=(5, 6, 5))


MAGICS = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"\x93NUMPY\x01\x00",
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"\0\0\x08\x03",
    b"",
]
WHOLE = [PNG, JPEG, npy(GREY), zipped("x.npy", npy(GREY)), idx(GREY), gzip.compress(idx(GREY))]


def ends_well(path: Path) -> None:
    """Either an image or our own error of one line: anything else fails the test that asks."""
    message = ""
    try:
        loaded = images.load(path, scale="none")
        assert loaded.array.ndim == 4
        assert np.isfinite(loaded.array).all()
    except CnnlensError as error:
        message = str(error)
    assert "\n" not in message


@given(st.binary(max_size=200), st.sampled_from(MAGICS))
@settings(max_examples=150, deadline=None)
def test_random_bytes_end_in_our_own_error_or_an_image(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, magic: bytes
) -> None:
    ends_well(put(tmp_path_factory.getbasetemp(), "random", magic + tail))


@pytest.mark.slow
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_flipped_bytes_end_in_our_own_error_or_an_image(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, flips: list[tuple[int, int]]
) -> None:
    content = bytearray(whole)
    for place, value in flips:
        content[place % len(content)] = value
    ends_well(put(tmp_path_factory.getbasetemp(), "flipped", bytes(content)))


def test_headers_of_python_2_are_read(tmp_path: Path) -> None:
    content = npy(GREY).replace(b"(4, 6, 5), }", b"(4L,6L,5L) }")
    path = put(tmp_path, "old.npy", content)
    np.testing.assert_array_equal(images.load(path, shape=(1, 6, 5), scale="none").array[:, 0], GREY)


# -------------------------------------------------------------------------------------------------- one image of many

MANY = np.random.default_rng(4).integers(0, 256, (9, 6, 5), dtype=np.uint8)
KEPT: dict[str, bytes] = {
    "npy": npy(MANY),
    "npy in Fortran order": npy(np.asfortranarray(MANY)),
    "npy of floats": npy(MANY.astype(">f4") / 7),
    "npy whose scale all images decide": npy(np.arange(270).reshape(9, 6, 5).astype(np.int16) * 200),
    "idx": idx(MANY),
    "idx.gz": gzip.compress(idx(MANY)),
    "npz": zipped("x.npy", npy(MANY), method=zipfile.ZIP_STORED),
    "npz, deflated": zipped("x.npy", npy(MANY)),
    "npz in Fortran order": zipped("x.npy", npy(np.asfortranarray(MANY))),
    "npz whose scale all images decide": zipped("x.npy", npy(np.arange(270).reshape(9, 6, 5) * 200)),
}


@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 4, 4), None])
@pytest.mark.parametrize("kind", KEPT)
def test_one_image_is_what_it_is_among_all(tmp_path: Path, kind: str, shape: tuple[int, ...] | None) -> None:
    path = put(tmp_path, "x", KEPT[kind])
    for source in (path, [path, path]):
        every = images.load(source, shape=shape)
        for index in range(-len(every.array), len(every.array)):
            one = images.one(source, index, shape=shape)
            np.testing.assert_array_equal(one.array, every.array[index][None])
            assert one.names == (every.names[index],)
        for index in (len(every.array), -len(every.array) - 1):
            with pytest.raises(CnnlensError, match=f"there are {len(every.array)} images, numbered from 0"):
                images.one(source, index, shape=shape)


def test_one_picture_of_a_folder_is_decoded_alone(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(MANY[number]).save(tmp_path / f"{number}.png")
    put(tmp_path, "1.png", PNG[: len(PNG) // 2])  # nobody looks at it
    np.testing.assert_array_equal(images.one(tmp_path, -1).array[0, 0], np.float32(MANY[2]) / 255)
    np.testing.assert_array_equal(images.one([tmp_path, tmp_path / "0.png"], 3).array[0, 0], np.float32(MANY[0]) / 255)


def large(folder: Path, kind: str) -> tuple[Path, int]:
    """A file of 700,000 images, a hole but for the last, and how many bytes stand in front of them."""
    path = folder / f"x.{kind}"
    shape = (700_000, 28, 28)
    # A hole takes no room, but zipfile writes what it stores.
    if kind == "npz":
        with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(npy_header("|u1", shape))
            for _ in range(70):
                member.write(bytes(10_000 * 784))
        return path, path.read_bytes()[:4096].index(b"\n") + 1
    head = struct.pack(">4B3I", 0, 0, 8, 3, *shape) if kind == "idx" else npy_header("|u1", shape)
    path.write_bytes(head)
    os.truncate(path, len(head) + math.prod(shape))
    return path, len(head)


@pytest.mark.parametrize("kind", ["idx", "npy", pytest.param("npz", marks=pytest.mark.slow)])
def test_of_a_large_file_one_image_is_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, start = large(tmp_path, kind)
    with open(path, "r+b") as stream:
        stream.seek(start + 699_000 * 784)
        stream.write(bytes([51] * 784))
    took: list[int] = []

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            took.append(super().readinto(buffer))
            return took[-1]

    monkeypatch.setattr(array_files, "FileIO", Counted)
    one = images.one(path, 699_000, shape=(1, 28, 28))
    assert (one.array == np.float32(51) / 255).all()
    assert sum(took) == 784
    assert one.names == ("x 699000",)
    assert "(700000, 28, 28) read as N, H, W: 700,000 of 1 channel, 28 × 28" in " ".join(one.notes) or kind == "idx"


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_no_signal(tmp_path: Path, order: Any) -> None:
    path = put(tmp_path, "x.npy", npy(np.asarray(np.tile(MANY, (9000, 1, 1)), order=order)))
    array = read_images(path).array
    os.truncate(path, 40_000)
    if order == "C":
        np.testing.assert_array_equal(array[2:4], MANY[2:4])
    with pytest.raises(CnnlensError, match=r"x\.npy: became shorter while it was read; "):
        array[80_000:]
    path.unlink()
    with pytest.raises(CnnlensError, match=r"x\.npy: cannot be read \(No such file"):
        array[0:1]
