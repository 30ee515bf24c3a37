"""Inputs come as people have them, are understood once as a whole, and are read a batch at a time."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnlens
from cnnlens.errors import CnnlensError
from cnnlens.inputs.stream import InputStream, open_inputs
from cnnlens.network.graph import Call, Layer, Ref, Shape
from cnnlens.network.network import Network
from cnnlens.reference import build
from cnnlens.sample import IMAGES, MODEL
from tests.inputs.test_images import HOSTILE, put


def network(*inputs: tuple[str, Shape, str], rescales: bool = False) -> Network:
    """A network of inputs alone, of which the shape is given canonically."""
    layers = [Layer(name, "InputLayer", {"dtype": dtype}) for name, _, dtype in inputs]
    calls = [Call(name, layer, (), {}, (shape,), 1) for layer, (name, shape, _) in zip(layers, inputs, strict=True)]
    if rescales:
        layer = Layer("r", "Rescaling", {}, make_operation=lambda: build("Rescaling", None, {"scale": 1 / 255}))
        calls.append(Call("r", layer, (Ref(inputs[0][0]),), {}, (inputs[0][1],), 1))
    source: Any = SimpleNamespace(path="made.keras")
    refs = tuple(Ref(name) for name, _, _ in inputs)
    outputs = (Ref("r"),) if rescales else refs
    return Network("made", "Functional", source, tuple(layers), tuple(calls), refs, outputs)


PICTURES = network(("image", (None, 3, 8, 6), "float32"))
GREY = network(("image", (None, 1, 8, 6), "float32"))


def whole(stream: InputStream, step: int = 3) -> list[np.ndarray]:
    """Everything, read in batches: the same whatever the step."""
    parts = [stream.batch(start, start + step) for start in range(0, stream.count, step)]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def test_pictures_of_another_size_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one's notes are of it alone."""
    for name, size in (("a", (6, 8)), ("b", (12, 16)), ("c", (6, 8)), ("d", (9, 8)), ("e", (12, 16))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "f.jpg", exif=turned)
    stream = open_inputs(PICTURES, tmp_path)
    said = "3 of 6 pictures are resized to the model's 8 × 6: 2 of 16 × 12, 1 of 8 × 9"
    assert [note for note in stream.notes if "resized" in note] == [said]
    with monkeypatch.context() as few:
        few.setattr("cnnlens.inputs.feeds._SIZED", 4)
        said = "2 of the first 4 pictures are resized to the model's 8 × 6: 1 of 16 × 12, 1 of 8 × 9"
        assert [note for note in open_inputs(PICTURES, tmp_path).notes if "resized" in note] == [said]
    for name in "bde":
        (tmp_path / f"{name}.png").unlink()
    assert not [note for note in open_inputs(PICTURES, tmp_path).notes if "resized" in note]


def idx(array: np.ndarray) -> bytes:
    code = {"u1": 8, "i2": 11, "f4": 13}[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


NUMBERS = np.random.default_rng(0).integers(0, 256, (7, 8, 6), np.uint8)


def sources(folder: Path) -> dict[str, Any]:
    np.save(folder / "a.npy", NUMBERS)
    np.save(folder / "f.npy", np.asfortranarray(NUMBERS))
    np.savez(folder / "one.npz", whatever=NUMBERS)
    np.savez(folder / "some.npz", y=np.arange(7), x_test=NUMBERS)
    np.savez_compressed(folder / "packed.npz", x=NUMBERS)
    (folder / "idx3-ubyte").write_bytes(idx(NUMBERS))
    (folder / "idx3-ubyte.gz").write_bytes(gzip.compress(idx(NUMBERS)))
    (folder / "pictures").mkdir()
    for index, array in enumerate(NUMBERS):
        Image.fromarray(array).save(folder / "pictures" / f"{index}.png")
    names = "a.npy f.npy one.npz some.npz packed.npz idx3-ubyte idx3-ubyte.gz pictures".split()
    found: dict[str, Any] = {name: folder / name for name in names}
    found["text"] = str(folder / "a.npy")
    found["list of files"] = [folder / "pictures" / f"{index}.png" for index in range(7)]
    found["array"] = NUMBERS
    found["NHWC"] = NUMBERS[..., None]
    found["NCHW"] = NUMBERS[:, None]
    found["mapping"] = {"image": folder / "a.npy"}
    found["list of one array"] = [NUMBERS[:, None]]
    found["nested lists"] = NUMBERS.tolist()
    return found


KINDS = [
    *"a.npy f.npy one.npz some.npz packed.npz idx3-ubyte idx3-ubyte.gz pictures text array NHWC NCHW mapping".split(),
    *("list of files", "list of one array", "nested lists"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 3, 9])
def test_every_kind_of_source_gives_the_same_numbers(tmp_path: Path, kind: str, step: int) -> None:
    stream = open_inputs(GREY, sources(tmp_path)[kind])
    assert stream.count == 7
    (found,) = whole(stream, step)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, (NUMBERS[:, None] / np.float32(255)).astype(np.float32))
    assert any("255" in note for note in stream.notes)


def test_large_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    """A sparse terabyte opens at once."""
    for name, head in (("x.npy", None), ("x-idx", struct.pack(">4B3I", 0, 0, 8, 3, 1 << 30, 32, 32))):
        with open(tmp_path / name, "wb") as stream:
            if head is None:
                np.lib.format.write_array_header_1_0(
                    stream, {"descr": "|u1", "fortran_order": False, "shape": (1 << 30, 32, 32)}
                )
            else:
                stream.write(head)
            stream.truncate(stream.tell() + (1 << 40))
        found = open_inputs(network(("image", (None, 1, 32, 32), "float32")), tmp_path / name)
        assert found.count == 1 << 30
        assert found.batch(1_000_000_000, 1_000_000_002)[0].shape == (2, 1, 32, 32)


def test_a_limit_counts_over_all_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS[:3])
    np.save(tmp_path / "b.npy", NUMBERS[3:])
    stream = open_inputs(GREY, [tmp_path / "a.npy", tmp_path / "b.npy"], limit=5)
    assert stream.count == 5
    assert stream.sources == {"image": (("a", 3), ("b", 2))}
    assert np.array_equal(whole(stream, 2)[0], NUMBERS[:5, None] / np.float32(255))
    assert len(stream.batch(4, 9)[0]) == 1


def test_pictures_of_any_size_and_colour_are_fitted(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 6), 51, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((16, 12, 3), 102, np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("no picture")
    stream = open_inputs(PICTURES, tmp_path)
    (found,) = whole(stream)
    assert found.shape == (2, 3, 8, 6)
    assert np.allclose(found[0], 0.2)
    assert np.allclose(found[1], 0.4)
    assert any("1 of 3 entries" in note for note in stream.notes)


def test_the_scale_is_decided_on_the_whole_and_not_on_a_batch() -> None:
    """The first batch alone would look like 0..255; the whole is 16 bits."""
    array = np.full((6, 8, 6), 100, np.int32)
    array[5] = 65535
    (found,) = whole(open_inputs(GREY, array), 2)
    assert np.allclose(found[0], 100 / 65535)
    assert found[5].max() == 1
    floats = np.zeros((6, 8, 6), np.float32)
    floats[4, 2, 3] = 255
    (found,) = whole(open_inputs(GREY, floats, scale="0..1"), 1)
    assert found[4, 0, 2, 3] == 1


def test_axes_are_understood_on_the_whole_and_not_on_a_batch() -> None:
    """Three pictures of (N, H, W) alone could be one of (C, H, W)."""
    array = np.random.default_rng(0).random((9, 8, 6), np.float32)
    assert np.array_equal(whole(open_inputs(GREY, array), 3)[0], array[:, None])


def test_a_model_that_rescales_gets_0_to_255() -> None:
    (found,) = whole(open_inputs(network(("image", (None, 1, 8, 6), "float32"), rescales=True), NUMBERS))
    assert np.array_equal(found, NUMBERS[:, None].astype(np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float64", "bool"])
def test_inputs_keep_the_dtype_that_the_model_takes(dtype: str, tmp_path: Path) -> None:
    numbers = (NUMBERS % 2).astype(dtype) if dtype == "bool" else NUMBERS.astype(dtype) + (dtype == "float64") * 1e-12
    stream = open_inputs(network(("image", (None, 1, 8, 6), dtype)), numbers)
    (found,) = whole(stream)
    assert stream.dtypes == {"image": np.dtype(dtype)}
    assert found.dtype == dtype
    assert np.array_equal(found[:, 0], numbers)
    if dtype == "uint8":
        Image.fromarray(NUMBERS[0]).save(tmp_path / "a.png")
        assert np.array_equal(
            whole(open_inputs(network(("image", (None, 1, 8, 6), dtype)), tmp_path))[0][0, 0], NUMBERS[0]
        )


def test_numbers_of_no_picture_are_never_scaled() -> None:
    tokens = np.arange(20, dtype=np.int64).reshape(4, 5) * 50
    (found,) = whole(open_inputs(network(("tokens", (None, 5), "float32")), tokens))
    assert np.array_equal(found, tokens)
    sound = np.arange(24, dtype=np.int16).reshape(3, 8)
    (found,) = whole(open_inputs(network(("sound", (None, 1, 8), "float32")), sound))
    assert np.array_equal(found, sound[:, None])


TWO = network(("image", (None, 1, 8, 6), "float32"), ("tokens", (None, 5), "int32"))
TOKENS = np.arange(35).reshape(7, 5)


def test_several_inputs_by_name_by_order_or_in_one_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "both.npz", image=NUMBERS, tokens=TOKENS, labels=np.arange(7))
    np.save(tmp_path / "tokens.npy", TOKENS)
    for given in (
        {"tokens": TOKENS, "image": NUMBERS},
        {"tokens": tmp_path / "tokens.npy", "image": NUMBERS},
        [NUMBERS, TOKENS],
        (NUMBERS, tmp_path / "tokens.npy"),
        tmp_path / "both.npz",
    ):
        stream = open_inputs(TWO, given)
        assert stream.names == ("image", "tokens")
        image, tokens = whole(stream)
        assert np.array_equal(image, NUMBERS[:, None] / np.float32(255))
        assert tokens.dtype == np.int32
        assert np.array_equal(tokens, TOKENS)
        assert all(note.startswith(("image: ", "tokens: ")) for note in stream.notes)


OPEN = network(("image", (None, 3, None, None), "float32"))


def test_sizes_that_the_model_leaves_open_are_the_first_ones(tmp_path: Path) -> None:
    for index, size in enumerate([(9, 7), (9, 7), (7, 9)]):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{index}.png")
    stream = open_inputs(OPEN, tmp_path)
    assert stream.shapes == {"image": (3, 9, 7)}
    assert stream.batch(0, 2)[0].shape == (2, 3, 9, 7)
    with pytest.raises(CnnlensError, match=r"one of examples 2 to 2 is \(3, 7, 9\) and the first is \(3, 9, 7\)"):
        stream.batch(2, 3)


NAN = np.zeros((7, 8, 6), np.float32)
NAN[4, 2, 1] = np.inf

REFUSED: dict[str, tuple[Network, Any]] = {
    "fits no reading": (GREY, np.zeros((4, 9, 9, 9), np.float32)),
    "real numbers are needed, not complex64": (GREY, np.zeros((4, 8, 6), np.complex64)),
    "real numbers are needed, not <U1": (GREY, np.full((4, 8, 6), "x")),
    "real numbers are needed, not object": (GREY, np.full((4, 8, 6), None)),
    "is empty": (GREY, np.zeros((0, 8, 6))),
    "does not exist": (GREY, "no-such-file.npy"),
    "is no regular file": (GREY, "/dev/null"),
    "the network's input 'tokens' is not given; there are 'image'": (TWO, {"image": NUMBERS}),
    "the network has no input 'mask'": (TWO, {"image": NUMBERS, "tokens": TOKENS, "mask": 1}),
    "the network has 2 inputs ('image', 'tokens'), and 3 came": (TWO, [NUMBERS, TOKENS, TOKENS]),
    "and one array came": (TWO, NUMBERS),
    "and one path came; give NAME=PATH": (TWO, "x.npy"),
    "different numbers of examples ('image': 7, 'tokens': 6)": (TWO, [NUMBERS, TOKENS[:6]]),
    "takes int32, and 0.5 came": (TWO, [NUMBERS, TOKENS + 0.5]),
    "takes int32, and 1099511627776 came": (TWO, [NUMBERS, TOKENS + 2**40]),
    "an array, a path or several were expected": (GREY, [[1, 2], [3]]),
    "image 4 holds inf at channel 0, position (2, 1)": (GREY, NAN),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_fit_is_one_line(reason: str) -> None:
    with pytest.raises(CnnlensError) as refused:
        whole(open_inputs(*REFUSED[reason]))
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nan_and_infinity_are_kept_where_that_is_asked_for() -> None:
    (found,) = whole(open_inputs(GREY, NAN, allow_nonfinite=True))
    assert np.array_equal(found[:, 0], NAN)


def broken(folder: Path) -> dict[str, bytes]:
    np.savez_compressed(folder / "packed.npz", x=np.zeros((9, 8, 6)))
    np.savez(folder / "plain.npz", x=np.zeros((9, 8, 6)))
    np.save(folder / "a.npy", NUMBERS)
    packed, plain = (folder / "packed.npz").read_bytes(), (folder / "plain.npz").read_bytes()
    array = (folder / "a.npy").read_bytes()
    return {
        "bytes, but": array[:-5],
        "is damaged": packed[: len(packed) // 2],
        "damaged or cannot be read": plain[: len(plain) // 2],
        "is empty": b"",
        "declares (7, 8, 6)": idx(NUMBERS)[:-1],
        "declares (4294967295, 4294967295, 4294967295)": struct.pack(">4B3I", 0, 0, 8, 3, *[0xFFFFFFFF] * 3),
        "cannot hold the": gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 1 << 20, 1 << 10, 1 << 10)),
        "ends after 327 of 336": gzip.compress(idx(NUMBERS)[:-9]),
        "but more follows": gzip.compress(idx(NUMBERS) + b"!"),
        "something else than IDX": gzip.compress(b"hello"),
        "labels": idx(np.arange(4, dtype=np.uint8)),
        "looks like text": b"hello, world",
    }


BROKEN = [
    *("bytes, but", "is damaged", "damaged or cannot be read", "declares (7, 8, 6)", "cannot hold the"),
    *("declares (4294967295, 4294967295, 4294967295)", "ends after 327 of 336", "but more follows"),
    *("something else than IDX", "labels", "looks like text", "is empty"),
]


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_files_are_one_line_that_names_them(tmp_path: Path, reason: str) -> None:
    file = tmp_path / "given"
    file.write_bytes(broken(tmp_path)[reason])
    with pytest.raises(CnnlensError) as refused:
        whole(open_inputs(GREY, file))
    assert reason in str(refused.value)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_stream_refuses_what_images_refuse(tmp_path: Path, case: str) -> None:
    content, message = HOSTILE[case]
    with pytest.raises(CnnlensError, match=message):
        open_inputs(network(("image", (None, 1, 6, 5), "float32")), put(tmp_path, "given", content))


def test_a_stream_says_which_array_of_an_archive_it_took(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", y=np.arange(7), x_test=NUMBERS)
    assert "array 'x_test' of 2 in the archive" in open_inputs(GREY, tmp_path / "some.npz").notes


def test_a_file_without_a_graph_cannot_be_run() -> None:
    bare = Network("w", "weights", SimpleNamespace(path="a.weights.h5", framework="keras"), (), (), (), ())  # type: ignore[arg-type]
    with pytest.raises(CnnlensError, match="weights without a graph"):
        open_inputs(bare, NUMBERS)


def test_the_sample_takes_its_images() -> None:
    stream = open_inputs(cnnlens.open(MODEL), IMAGES)
    assert stream.count == 10
    assert stream.batch(0, 10)[0].shape == (10, 1, 28, 28)
    assert stream.sources["input_layer"][0] == ("0-t-shirt", 1)
