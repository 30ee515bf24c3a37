"""What cnnlens does not open is named by its bytes with the way out, and what lies in an archive opens from there."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import cnnlens
from cnnlens import sample
from cnnlens.conversion.into import put_into
from cnnlens.errors import FileRefusedError, ForeignFileError
from cnnlens.files.limits import LIMITS
from cnnlens.files.signatures import UNTOLD, foreign_bytes, pickled_names

STATE = save({"conv.weight": np.arange(120, dtype=np.float32).reshape(5, 3, 2, 4)})


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer: a number, or bytes with their length in front."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes((value & 0x7F | 0x80,)), value >> 7
    return found + bytes((value,))


NODE = field(1, b"image") + field(2, b"Placeholder") + field(3, b"")
LAYER = field(1, b"conv1") + field(2, b"Convolution")
V1_LAYER = field(2, b"data") + field(4, b"conv1") + field(5, 4)
BLOCK = field(1, 0) + field(2, 2**32 - 1) + field(3, field(1, b"x"))

SPECIMENS: dict[str, tuple[bytes, str, str]] = {
    "onnx": (
        field(1, 8) + field(2, b"pytorch") + field(3, b"2.1") + field(7, field(2, b"main")) + field(8, field(2, 13)),
        "an ONNX model", "onnx2torch",
    ),
    "onnx without a producer": (field(1, 3) + field(7, field(2, b"g")) + field(8, b""), "an ONNX model", "onnx2torch"),
    "onnx, cut off": (
        (field(1, 8) + field(2, b"tf2onnx") + field(7, bytes(9000)))[:400], "an ONNX model", "exported from",
    ),
    "core ml": (field(1, 4) + field(2, field(1, field(1, b"image"))) + field(500, b""), "Core ML", "converted"),
    "saved model": (field(1, 1) + field(2, field(1, field(4, b"serve")) + field(2, b"")), "SavedModel", "tf_keras"),
    "graph": (field(1, NODE) + field(1, NODE) + field(4, field(1, 27)), "frozen TensorFlow graph", "frozen from"),
    "caffe": (field(1, b"CaffeNet") + field(100, LAYER), "a Caffe model", "no reader"),
    "old caffe": (field(1, b"AlexNet") + field(2, V1_LAYER), "a Caffe model", "no reader"),
    "paddle program": (field(1, BLOCK) + field(4, field(1, 0)), "PaddlePaddle program", "no reader"),
    "paddle parameters": (
        bytes(16) + struct.pack("<i", 6) + field(1, 5) + field(2, 5) + field(2, 3) + bytes(60), ".pdiparams", "no",
    ),
    "paddle state": (
        pickle.dumps({"conv.w_0": b"1", "StructuredToParameterName@@": {}}, 2), ".pdparams", "no reader",
    ),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(60), "a TensorFlow Lite model", "converted from"),
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(60), "a GGUF file", ".safetensors"),
    "mxnet": (struct.pack("<QQQ", 0x112, 0, 2) + bytes(60), "MXNet parameters", "converted"),
    "darknet": (struct.pack("<iiiq", 0, 2, 5, 32013312) + bytes(range(60)), "Darknet's weights", "converted"),
    "flax": (b"\x81\xa6params\x81\xa6Conv_0\x82\xa4bias\xc7\x09\x01" + bytes(40), "MessagePack", ".safetensors"),
    "ncnn": (b"7767517\n75 83\nInput data 0 1 data\n", "an ncnn network", "converted"),
    "openvino": (b'<?xml version="1.0"?>\n<net name="a" version="11">\n', "an OpenVINO network", "converted"),
    "prototxt": (b'name: "a"\nlayer {\n  name: "conv"\n  type: "Conv"\n}\n', "Caffe network without", "no reader"),
    "darknet config": (b"[net]\nbatch=1\n\n[convolutional]\nfilters=32\n", "a Darknet config", "no weights"),
    "lightgbm": (b"tree\nversion=v3\nnum_class=1\n", "a LightGBM model", "no neural network"),
    "xgboost": (b'{"learner":{"attributes":{}}}', "an XGBoost model", "no neural network"),
    "tfjs": (b'{"format": "layers-model", "modelTopology": {}}', "a TensorFlow.js model", "converted"),
    "keras config": (b'{"module": "keras", "class_name": "Sequential", "config": {}}', "config without", "--config"),
    "hugging face": (b'{"architectures": ["ResNet"], "model_type": "resnet"}', "Hugging Face", ".safetensors"),
    "pickled shards": (
        b'{"metadata": {}, "weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}', "list of pickled shards", ".bin",
    ),
    "sklearn": (b"\x80\x04\x8c\x19sklearn.linear_model.base\x8c\x05Ridge\x93)\x81.", "scikit-learn", "no neural"),
    "text pickle": (b"ccopy_reg\n_reconstructor\np0\n(csvm\nSVC\n.", "pickle written as text", "torch.save"),
    "joblib": (zlib.compress(b"\x80\x04" + bytes(range(200))), "compressed by zlib", "uncompressed"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer", "git lfs pull"),
    "html": (b"\xef\xbb\xbf\n  <!doctype HTML>\n<html><head>", "an HTML page", "download"),
    "zeros": (bytes(5000), "nothing but zeros", "fetch the file again"),
    "text": (b"hello\n", "a text file", "cnnlens opens"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG image", "cnnlens maps MODEL --image"),
    "tiff": (b"II*\x00" + bytes(20), "a TIFF image", "save it as PNG"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(60), "a NumPy array", "cnnlens maps MODEL"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(60), "a 7z archive", "unpack it"),
    "rar": (b"Rar!\x1a\x07\x01\x00" + bytes(60), "a RAR archive", "unpack it"),
    "checkpoint index": (bytes(range(1, 90)) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "TensorFlow checkpoint", "load_w"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIMENS)
def test_it_is_named_with_the_way_out(tmp_path: Path, name: str) -> None:
    data, what, way_out = SPECIMENS[name]
    path = tmp_path / "best.pt"
    path.write_bytes(data)
    with pytest.raises(ForeignFileError) as refused:
        cnnlens.open(path)
    assert what in refused.value.foreign.what
    assert way_out in refused.value.foreign.way_out
    assert str(refused.value) == f"{path}: this is {refused.value.foreign.what}; {refused.value.foreign.way_out}"


def test_what_is_nothing_known_is_called_nothing() -> None:
    generator = np.random.default_rng(3)
    called = [foreign_bytes(memoryview(generator.bytes(size))) for size in range(40, 400)]
    assert sum(one is not None for one in called) <= 2
    for data in (field(1, 8) + field(9, b"a"), field(1, 8) + field(2, b"x"), field(1, NODE) + field(9, b"")):
        assert foreign_bytes(memoryview(data)) is None


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("saved_model.pb", "variables/variables.index"), "a TensorFlow SavedModel"),
        (("Manifest.json", "Data/com.apple.CoreML/model.mlmodel"), "a Core ML package"),
        (("zarr.json",), "a Zarr group"),
        (("_CHECKPOINT_METADATA",), "an Orbax checkpoint"),
        (("data.pkl", "version", "data/0"), "an unpacked archive of torch.save"),
        (("checkpoint", "a.ckpt.index"), "a folder of TensorFlow checkpoints"),
    ],
)
def test_a_folder_is_named_by_what_lies_in_it(tmp_path: Path, names: tuple[str, ...], what: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    with pytest.raises(ForeignFileError, match=what):
        cnnlens.open(tmp_path)


def test_a_folder_of_models_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"1")
    with pytest.raises(FileRefusedError, match=r"name one of the files in it: .*'a\.keras'"):
        cnnlens.open(tmp_path)


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


SB3 = {"data": b"{}", "policy.pth": STATE, "pytorch_variables.pth": STATE, "_stable_baselines3_version": b"2.0"}


def packer(pack: Callable[[bytes], bytes]) -> Callable[[Path, dict[str, bytes]], Path]:
    def make(path: Path, members: dict[str, bytes]) -> Path:
        (path.parent / "policy.pth.gz").write_bytes(pack(members["policy.pth"]))
        return path.parent / "policy.pth.gz"

    return make


ARCHIVES: dict[str, tuple[Callable[..., Path], str]] = {
    "zip": (zipped, "an archive of stable-baselines3 that holds policy.pth, pytorch_variables.pth"),
    "deflated": (lambda path, members: zipped(path, members, zipfile.ZIP_DEFLATED), "an archive of stable-baselines3"),
    "tar": (tarred, "an archive of stable-baselines3"),
    "tar.gz": (lambda path, members: tarred(path, members, "w:gz"), "an archive of stable-baselines3"),
    "tar.xz": (lambda path, members: tarred(path, members, "w:xz"), "an archive of stable-baselines3"),
    "gz": (packer(gzip.compress), "a gzip archive that holds policy.pth"),
    "bz2": (packer(bz2.compress), "a bzip2 archive that holds policy.pth"),
    "xz": (packer(lzma.compress), "a xz archive that holds policy.pth"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_member_opens_and_its_archives_digest_is_shown(tmp_path: Path, name: str) -> None:
    make, what = ARCHIVES[name]
    path = make(tmp_path / "agent.bin", SB3)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ForeignFileError, match=f"{what}.*; name one: '{path.name}::policy.pth'"):
        cnnlens.open(path)
    net = cnnlens.open(f"{path}::policy.pth")
    assert net["conv"].weights["weight"].shape == (5, 3, 2, 4)
    assert net["conv"].weights["weight"][4, 2, 1, 3] == 119
    assert net.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"a file in {path.name}, whose SHA-256 is shown" in net.notes
    assert sorted(tmp_path.iterdir()) == before


def test_a_keras_file_in_an_archive_runs_and_a_config_comes_from_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(sample.MODEL) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    path = zipped(tmp_path / "a.zip", {"deep/m.keras": sample.MODEL.read_bytes(), "m.json": parts["config.json"]})
    image = np.ones((1, 1, 28, 28))
    there = cnnlens.open(f"{path}::deep/m.keras").run(image, ["dense_1"])["dense_1"]
    assert np.array_equal(there, cnnlens.open(sample.MODEL).run(image, ["dense_1"])["dense_1"])
    (tmp_path / "w.weights.h5").write_bytes(parts["model.weights.h5"])
    assert cnnlens.open(tmp_path / "w.weights.h5", config=f"{path}::m.json").calls


def test_a_file_that_has_the_name_is_meant_first(tmp_path: Path) -> None:
    (tmp_path / "a::b.pt").write_bytes(STATE)
    assert cnnlens.open(tmp_path / "a::b.pt").parameters == 120


def bomb(folder: Path) -> str:
    zipped(folder / "a.zip", {"a.pt": bytes(200 << 20)}, zipfile.ZIP_DEFLATED)
    return "a.zip::a.pt"


def packed_bomb(folder: Path) -> str:
    (folder / "a.pt.gz").write_bytes(gzip.compress(bytes(200 << 20), 1))
    return "a.pt.gz::a.pt"


def climbing(folder: Path) -> str:
    zipped(folder / "a.zip", {"../a.pt": STATE})
    return "a.zip::../a.pt"


def climbing_tar(folder: Path) -> str:
    tarred(folder / "a.tar", {"../../a.pt": STATE})
    return "a.tar::../../a.pt"


def twice(folder: Path) -> str:
    with tarfile.open(folder / "a.tar", "w") as archive:
        for data in (STATE, STATE[:-1] + b"\x01"):
            info = tarfile.TarInfo("a.pt")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return "a.tar::a.pt"


def nested(folder: Path) -> str:
    zipped(folder / "in.zip", {"a.pt": STATE})
    zipped(folder / "a.zip", {"in.zip": (folder / "in.zip").read_bytes()})
    return "a.zip::in.zip::a.pt"


def cut_tar(folder: Path) -> str:
    tarred(folder / "a.tar", {"a.pt": STATE})
    (folder / "a.tar").write_bytes((folder / "a.tar").read_bytes()[:700])
    return "a.tar::a.pt"


def cut_gzip(folder: Path) -> str:
    (folder / "a.pt.gz").write_bytes(gzip.compress(STATE)[:-30])
    return "a.pt.gz::a.pt"


def changed(folder: Path) -> str:
    data = bytearray(zipped(folder / "a.zip", {"a.pt": STATE}).read_bytes())
    data[300] ^= 1
    (folder / "a.zip").write_bytes(data)
    return "a.zip::a.pt"


def listed(folder: Path) -> str:
    text = json.dumps({"weight_map": {"conv.weight": "a.safetensors"}}).encode()
    zipped(folder / "a.zip", {"m.safetensors.index.json": text})
    return "a.zip::m.safetensors.index.json"


def control(folder: Path) -> str:
    zipped(folder / "a.zip", {"\x1b[2Ja.pt": STATE})
    return "a.zip::b.pt"


def none(folder: Path) -> str:
    (folder / "a.pt").write_bytes(STATE)
    return "a.pt::conv"


def no_archive(folder: Path) -> str:
    return "nowhere.zip::a.pt"


def hollow(folder: Path) -> str:
    zipped(folder / "a.zip", {"a.pt": b""})
    return "a.zip::a.pt"


def emptied(folder: Path) -> str:
    return "a.zip::"


HOSTILE = {
    bomb: "that unpack to 210 MB",
    packed_bomb: "that unpack to more than",
    climbing: "leads out of the archive",
    climbing_tar: "leads out of the archive",
    twice: "two members of this name",
    nested: "archives in archives are not looked into",
    cut_tar: "ends behind the end of the file|damaged tar archive",
    cut_gzip: "truncated gzip archive",
    changed: "its bytes do not fit their checksum",
    listed: "a list of shards in an archive",
    control: r"without such a member; .*'\\x1b\[2Ja\.pt'",
    none: "no zip or tar archive",
    no_archive: "no such file",
    hollow: "the member is empty",
    emptied: "ARCHIVE::MEMBER was expected",
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_archive_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileRefusedError, match=HOSTILE[make]) as refused:
        cnnlens.open(path)
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_one_large_member_does_not_hide_the_others(tmp_path: Path) -> None:
    """What is not read is not held against the one that is."""
    members = {"log.txt": bytes(LIMITS.inflate_free_bytes + (90 << 20)), "a.pt": STATE}
    path = zipped(tmp_path / "a.zip", members, zipfile.ZIP_DEFLATED)
    assert cnnlens.open(f"{path}::a.pt").parameters == 120


# --- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_a_pickle_names_is_listed_and_nothing_called(protocol: int) -> None:
    value = [Fraction(1, 3), {1: b"x", "a": (2.5, 10**30, True, -5, None)}, Path("x"), Fraction(2, 3), {Fraction(5, 7)}]
    data = pickle.dumps(value, protocol)
    names, end = pickled_names(memoryview(b"junk" + data + b"more"), 4)
    assert "fractions.Fraction" in names
    assert any(name.endswith("PosixPath") for name in names)
    assert end == len(data) + 4


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x01a\x8c\x01b00\x93.",  # two more on top, and away again
        b"\x80\x04\x8c\x02os\x8c\x06system\x94h\x00\x8c\x01b0\x93.",
        b"\x80\x04\x8c\x02os(\x8c\x01a\x8c\x06system1\x93.",
    ],
)
def test_a_name_that_is_hidden_is_said_to_be(data: bytes) -> None:
    assert pickled_names(memoryview(data))[0] == (UNTOLD,)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa", b"cos\nsys", b"\xff"]
)
def test_a_damaged_pickle_has_no_end(data: bytes) -> None:
    assert pickled_names(memoryview(data)) == ((), None)


def test_weights_are_put_into_a_copy_of_a_file_and_not_of_a_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"m.keras": sample.MODEL.read_bytes()})
    with pytest.raises(cnnlens.CnnlensError, match="this one lies in an archive; unpack it first"):
        put_into(sample.MODEL, f"{path}::m.keras", tmp_path / "filled.keras")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zip"]
