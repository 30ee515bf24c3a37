"""Small files that lie, climb, loop or blow up, each made by one function: ``MAKERS`` maps its name to it.

A maker gets a folder and returns the path to open. ``REFUSALS`` says what the one-line refusal must contain.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Maker = Callable[[Path], Path]

MAKERS: dict[str, Maker] = {}
REFUSALS: dict[str, str] = {}

DENSE = {
    "class_name": "Sequential",
    "config": {
        "name": "sequential",
        "layers": [
            {"class_name": "InputLayer", "config": {"batch_shape": [None, 3], "name": "input"}},
            {"class_name": "Dense", "config": {"name": "dense", "units": 5, "use_bias": True}},
        ],
    },
}


def registering(makers: dict[str, Maker], refusals: dict[str, str]) -> Callable[[str], Callable[[Maker], Maker]]:
    """A decorator that registers a maker with a part of the message that refuses its file."""

    def refused(reason: str) -> Callable[[Maker], Maker]:
        def register(maker: Maker) -> Maker:
            makers[maker.__name__] = maker
            refusals[maker.__name__] = reason
            return maker

        return register

    return refused


refused = registering(MAKERS, REFUSALS)


def weights(fill: Callable[[Any], None] | None = None) -> bytes:
    """A `.weights.h5` of one Dense layer, (3, 5) and (5,), after ``fill`` changed it."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        own = file.create_group("layers/dense/vars")
        own.attrs["name"] = "dense"
        own["0"] = np.arange(15, dtype=np.float32).reshape(3, 5)
        own["1"] = np.arange(5, dtype=np.float32)
        if fill is not None:
            fill(file)
    return buffer.getvalue()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def keras_members(**changed: bytes) -> dict[str, bytes]:
    """The members of an honest `.keras` file; keywords replace ``metadata``, ``config`` or ``weights``."""
    return {
        "metadata.json": changed.get("metadata", json.dumps({"keras_version": "3.15.1"}).encode()),
        "config.json": changed.get("config", json.dumps(DENSE).encode()),
        "model.weights.h5": changed.get("weights", weights()),
    }


def hdf5(folder: Path, fill: Callable[[Any], None]) -> Path:
    path = folder / "x.weights.h5"
    path.write_bytes(weights(fill))
    return path


def legacy(path: Path, fill: Any, config: Any = DENSE) -> Path:
    """A `.h5` of Keras 2: ``fill`` gives the group of its Dense layer what it holds."""
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"input", b"dense"]
        group.create_group("input").attrs["weight_names"] = np.empty(0)
        fill(group.create_group("dense"))
    return path


def legacy_dense(group: Any, names: list[Any]) -> None:
    """A kernel and a bias under these names."""
    group.attrs["weight_names"] = names
    for name, shape in zip(names, [(3, 5), (5,)], strict=True):
        text = name if isinstance(name, str) else name.decode()
        group[text] = np.arange(int(np.prod(shape)), dtype="f4").reshape(shape)


# --- no model at all ------------------------------------------------------------------------------------------------


@refused("no such file")
def missing(folder: Path) -> Path:
    (folder / "model.keras").write_bytes(b"")
    return folder / "mode.keras"


@refused("empty (0 bytes)")
def empty(folder: Path) -> Path:
    (folder / "x.keras").write_bytes(b"")
    return folder / "x.keras"


@refused("directory without model.weights.h5")
def empty_directory(folder: Path) -> Path:
    return folder


@refused("SavedModel")
def saved_model(folder: Path) -> Path:
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    return folder


@refused("no regular file")
def pipe(folder: Path) -> Path:
    import os

    os.mkfifo(folder / "x.keras")
    return folder / "x.keras"


@refused("text file")
def text(folder: Path) -> Path:
    (folder / "x.keras").write_text("Epoch 1/10\nloss: 0.3\n" * 5)
    return folder / "x.keras"


@refused("PNG image")
def png(folder: Path) -> Path:
    (folder / "x.h5").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    return folder / "x.h5"


@refused("NumPy arrays (.npz)")
def npz(folder: Path) -> Path:
    with open(folder / "x.keras", "wb") as file:
        np.savez(file, a=np.ones(3))
    return folder / "x.keras"


@refused("PyTorch file")
def torch_archive(folder: Path) -> Path:
    return archive(folder / "x.keras", {"archive/data.pkl": b"\x80\x02.", "archive/version": b"3"})


@refused("Git LFS")
def lfs_pointer(folder: Path) -> Path:
    (folder / "x.keras").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    return folder / "x.keras"


@refused("neither a zip archive nor HDF5")
def noise(folder: Path) -> Path:
    (folder / "x.keras").write_bytes(bytes(range(256)) * 9)
    return folder / "x.keras"


@refused("Keras did not write")
def foreign_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        file["temperature"] = np.ones((4, 3))
    return folder / "x.h5"


@refused("maps no weights to shards")
def other_json(folder: Path) -> Path:
    (folder / "x.weights.json").write_text('{"weights": []}')
    return folder / "x.weights.json"


@refused("layers/dense/vars: a weight_map that names no file for it")
def shards_that_are_no_names(folder: Path) -> Path:
    (folder / "x.weights.json").write_text(json.dumps({"weight_map": {"layers/dense/vars": [3.5]}}))
    return folder / "x.weights.json"


@refused("layers/dense/vars: a weight_map that names no file for it")
def no_shard_for_a_weight(folder: Path) -> Path:
    (folder / "x.weights.json").write_text(json.dumps({"weight_map": {"layers/dense/vars": []}}))
    return folder / "x.weights.json"


@refused("does not lie beside its list")
def shard_elsewhere(folder: Path) -> Path:
    (folder / "x.weights.json").write_text(json.dumps({"weight_map": {"/layers/dense/vars": "../../secret.h5"}}))
    return folder / "x.weights.json"


# --- zip ------------------------------------------------------------------------------------------------------------


@refused("truncated zip archive")
def truncated_zip(folder: Path) -> Path:
    path = archive(folder / "x.keras", keras_members())
    path.write_bytes(path.read_bytes()[:-200])
    return path


@refused("leads out of the archive")
def climbing_member(folder: Path) -> Path:
    return archive(folder / "x.keras", {**keras_members(), "assets/../../evil": b"x"})


@refused("absolute path")
def absolute_member(folder: Path) -> Path:
    return archive(folder / "x.keras", {**keras_members(), "/etc/evil": b"x"})


@refused("backslash")
def backslash_member(folder: Path) -> Path:
    return archive(folder / "x.keras", {**keras_members(), "..\\evil": b"x"})


@refused("two members of this name")
def one_name_twice(folder: Path) -> Path:
    import warnings

    path = archive(folder / "x.keras", keras_members())
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as file:
        warnings.simplefilter("ignore")
        file.writestr("config.json", b"{}")
    return path


@refused("overlaps")
def overlapping_members(folder: Path) -> Path:
    """The directory says that metadata.json reaches over the members behind it."""
    path = archive(folder / "x.keras", keras_members())
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<II", data, at + 20, 900, 900)
    path.write_bytes(data)
    return path


@refused("another name than the archive's directory")
def two_names_for_one_member(folder: Path) -> Path:
    path = archive(folder / "x.keras", keras_members())
    data = bytearray(path.read_bytes())
    at = data.index(b"config.json")
    data[at : at + 11] = b"confiG.json"
    path.write_bytes(data)
    return path


@refused("encrypted")
def encrypted_member(folder: Path) -> Path:
    path = archive(folder / "x.keras", keras_members())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


@refused("members in the archive")
def many_members(folder: Path) -> Path:
    return archive(folder / "x.keras", {**keras_members(), **{f"assets/{at}": b"" for at in range(51_000)}})


@refused("zip directory of")
def huge_directory_declared(folder: Path) -> Path:
    path = archive(folder / "x.keras", keras_members())
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x05\x06") + 12, 0xFFFFFFF0)
    path.write_bytes(data)
    return path


@refused("do not fit their checksum")
def flipped_weight(folder: Path) -> Path:
    path = archive(folder / "x.keras", keras_members())
    data = bytearray(path.read_bytes())
    at = data.index(np.arange(15, dtype=np.float32).tobytes())
    data[at + 9] ^= 1
    path.write_bytes(data)
    return path


@refused("unpack to 210 MB")
def deflated_config(folder: Path) -> Path:
    blank = b'{"class_name": "Sequential"' + b" " * 210_000_000 + b"}"
    return archive(folder / "x.keras", keras_members(config=blank), zipfile.ZIP_DEFLATED)


@refused("unpack to 400 MB")
def deflated_weights(folder: Path) -> Path:
    return archive(folder / "x.keras", keras_members(weights=bytes(400_000_000)), zipfile.ZIP_DEFLATED)


@refused("another size or checksum")
def deflated_more_than_declared(folder: Path) -> Path:
    """400 MB of zeros behind a header that declares 1,000 bytes."""
    path = archive(folder / "x.keras", {"model.weights.h5": bytes(400_000_000)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 1000)
    path.write_bytes(data)
    return path


@refused("no HDF5 file")
def weights_of_another_kind(folder: Path) -> Path:
    return archive(folder / "x.keras", keras_members(weights=b"\x93NUMPY" + bytes(200)))


# --- JSON -----------------------------------------------------------------------------------------------------------


@refused("levels deep")
def deep_config(folder: Path) -> Path:
    deep = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return archive(folder / "x.keras", keras_members(config=deep))


@refused("levels deep")
def rather_deep_config(folder: Path) -> Path:
    """Shallow enough for the decoder, too deep for what walks it."""
    return archive(folder / "x.keras", keras_members(config=b'{"a": ' + b"[" * 400 + b"]" * 400 + b"}"))


@refused("not JSON")
def broken_config(folder: Path) -> Path:
    return archive(folder / "x.keras", keras_members(config=json.dumps(DENSE).encode()[:-9]))


@refused("not JSON")
def config_in_another_encoding(folder: Path) -> Path:
    return archive(folder / "x.keras", keras_members(config=b'{"a": "\xff\xfe\xfa"}'))


@refused("expected a JSON object")
def config_is_a_list(folder: Path) -> Path:
    return archive(folder / "x.keras", keras_members(config=b"[1, 2]"))


# --- HDF5 -----------------------------------------------------------------------------------------------------------


@refused("the file was cut off")
def truncated_hdf5(folder: Path) -> Path:
    path = folder / "x.weights.h5"
    path.write_bytes(weights()[:1500])
    return path


@refused("link to another file")
def external_link(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.ones(3)
    with h5py.File(folder / "x.weights.h5", "w", libver="latest") as file:
        file.create_group("layers/dense/vars")["0"] = h5py.ExternalLink("other.h5", "x")
    return folder / "x.weights.h5"


@refused("external storage")
def external_storage(folder: Path) -> Path:
    (folder / "raw").write_bytes(bytes(400))

    def fill(file: Any) -> None:
        file.create_dataset("layers/dense/vars/2", (10, 3), "f4", external=[(str(folder / "raw"), 0, 120)])

    return hdf5(folder, fill)


@refused("virtual array")
def virtual_dataset(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.ones(6, "f4")

    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (6,))
    with h5py.File(folder / "x.weights.h5", "w", libver="latest") as file:
        file.create_group("layers/dense/vars").create_virtual_dataset("0", layout)
    return folder / "x.weights.h5"


@refused("soft link")
def soft_link_loop(folder: Path) -> Path:
    def fill(file: Any) -> None:
        file["layers/a"] = h5py.SoftLink("/layers/b")
        file["layers/b"] = h5py.SoftLink("/layers/a")

    return hdf5(folder, fill)


@refused("contains itself")
def group_in_itself(folder: Path) -> Path:
    def fill(file: Any) -> None:
        file["layers/dense/again"] = file["layers"]

    return hdf5(folder, fill)


@refused("name (hard link) of one object")
def thousand_hard_links(folder: Path) -> Path:
    def fill(file: Any) -> None:
        for at in range(1000):
            file[f"layers/dense/vars/{at + 2}"] = file["layers/dense/vars/0"]

    return hdf5(folder, fill)


@refused("name (hard link) of one object")
def doubling_groups(folder: Path) -> Path:
    """Two names a level for the group below: 2^40 paths through 40 groups."""

    def fill(file: Any) -> None:
        groups = [file.create_group(f"g{at}") for at in range(40)]
        for above, below in pairwise(groups):
            above["a"] = below
            above["b"] = below

    return hdf5(folder, fill)


@refused("nested more than")
def deep_groups(folder: Path) -> Path:
    return hdf5(folder, lambda file: file.create_group("/".join("g" * 200)))


@refused("it declares 3.98 GB and the file stores 0 bytes")
def declared_and_not_stored(folder: Path) -> Path:
    return hdf5(folder, lambda file: file.create_dataset("layers/dense/vars/2", (995_000_000,), "f4"))


@refused("it declares")
def declared_larger_than_the_file(folder: Path) -> Path:
    """An honest array of 7919 numbers whose header is changed to 2^37."""

    def fill(file: Any) -> None:
        file["layers/dense/vars/2"] = np.ones(7919, "f4")

    path = hdf5(folder, fill)
    changed = path.read_bytes().replace(struct.pack("<Q", 7919), struct.pack("<Q", 1 << 37))
    path.write_bytes(changed)
    return path


@refused("it declares 128 bytes and the file stores")
def array_behind_the_end(folder: Path) -> Path:
    def fill(file: Any) -> None:
        file["layers/dense/vars/2"] = np.full(32, 7.5, "f4")

    path = hdf5(folder, fill)
    data = path.read_bytes()
    start = data.index(np.full(32, 7.5, "f4").tobytes())
    path.write_bytes(data.replace(struct.pack("<Q", start), struct.pack("<Q", len(data) - 60)))
    return path


@refused("compressed arrays that declare 400 MB")
def compressed_zeros(folder: Path) -> Path:
    def fill(file: Any) -> None:
        file.create_dataset(
            "layers/dense/vars/2", data=np.zeros(100_000_000, "f4"), chunks=(10_000_000,), compression="gzip"
        )

    return hdf5(folder, fill)


@refused("compressed arrays that declare")
def chunked_and_not_stored(folder: Path) -> Path:
    def fill(file: Any) -> None:
        data = file.create_dataset("layers/dense/vars/2", (10**10,), "f4", chunks=(10**7,), compression="gzip")
        data[0] = 1

    return hdf5(folder, fill)


@refused("compressed by filter 32000")
def unknown_filter(folder: Path) -> Path:
    def fill(file: Any) -> None:
        file.create_dataset("layers/dense/vars/2", data=np.ones((40, 30), "f4"), compression="lzf")

    return hdf5(folder, fill)


@refused("longer than 8192 characters")
def long_name(folder: Path) -> Path:
    return hdf5(folder, lambda file: file.create_group("n" * 9000))


@refused("committed type")
def committed_type(folder: Path) -> Path:
    def fill(file: Any) -> None:
        file["type"] = np.dtype("<f4")
        file.create_dataset("layers/dense/vars/2", data=np.ones((4, 3), "f4"), dtype=file["type"])

    return hdf5(folder, fill)


@refused("header without an end")
def header_that_continues_in_itself(folder: Path) -> Path:
    """A header's second block names itself as the next one: 24 bytes that would grow for ever."""
    with h5py.File(folder / "x.weights.h5", "w", libver="latest") as file:
        own = file.create_group("layers/dense/vars")
        own["0"] = np.ones((3, 5))
        for at in range(6):
            own.attrs[f"a{at}"] = np.zeros(90)
    data = bytearray((folder / "x.weights.h5").read_bytes())
    at = data.index(b"OCHK")
    struct.pack_into("<BHBQQ", data, at + 4, 0x10, 16, 0, at, 24)
    (folder / "x.weights.h5").write_bytes(data)
    return folder / "x.weights.h5"


@refused("one node in two places")
def exploding_btree(folder: Path) -> Path:
    """Six levels of a group's B-tree, each with 60 times the one node below: 60^6 nodes in 6 kB."""
    data = bytearray(weights())
    old = data.index(b"TREE")
    below = old
    for level in range(1, 7):
        node = struct.pack("<4sBBHQQ", b"TREE", 0, level, 60, 0, 0) + struct.pack("<QQ", 0, below) * 60 + bytes(8)
        below = len(data)
        data += node
    packed = struct.pack("<Q", old)
    first = data.index(packed)
    data[first : first + 8] = struct.pack("<Q", below)
    again = data.index(packed, first + 8)
    data[again : again + 8] = struct.pack("<Q", below)
    (folder / "x.weights.h5").write_bytes(data)
    return folder / "x.weights.h5"


@refused("an attribute of 536870912 elements")
def attribute_of_many_names(folder: Path) -> Path:
    """An attribute of 797 strings whose header is changed to 2^29 of them."""

    def fill(file: Any) -> None:
        file.attrs["layer_names"] = np.array(["a"] * 797, dtype=h5py.string_dtype())

    path = hdf5(folder, fill)
    path.write_bytes(path.read_bytes().replace(struct.pack("<Q", 797), struct.pack("<Q", 1 << 29)))
    return path


@refused("of more than 16777216 characters in all")
def long_paths(folder: Path) -> Path:
    """9,000 groups below one whose name has 8,000 characters: 72 MB of paths."""

    def fill(file: Any) -> None:
        below = file.create_group("x" * 8000)
        for at in range(9000):
            below.create_group(str(at))

    return hdf5(folder, fill)


@refused("without an end, or longer than")
def one_long_name_for_many_links(folder: Path) -> Path:
    """600 links whose names all start in one text of 100,000 characters without an end."""
    data = bytearray(weights())
    heap, table, tree = len(data), len(data) + 32 + 100_000, len(data) + 32 + 100_000 + 8 + 40 * 600
    data += struct.pack("<4sB3xQQQ", b"HEAP", 0, 100_000, 1, heap + 32) + b"n" * 100_000
    data += struct.pack("<4sBxH", b"SNOD", 1, 600)
    for at in range(600):
        data += struct.pack("<QQIIQQ", at, 96, 0, 0, 0, 0)
    data += struct.pack("<4sBBHQQ", b"TREE", 0, 0, 1, 0, 0) + struct.pack("<QQQ", 0, table, 0)
    old = struct.pack("<QQ", data.index(b"TREE"), data.index(b"HEAP"))
    (folder / "x.weights.h5").write_bytes(data.replace(old, struct.pack("<QQ", tree, heap)))
    return folder / "x.weights.h5"


@refused("an index of far more messages than objects")
def header_of_empty_messages(folder: Path) -> Path:
    """A header of 800 kB that is nothing but messages of 0 bytes."""
    with h5py.File(folder / "x.weights.h5", "w", libver="latest") as file:
        own = file.create_group("layers/dense/vars")
        own["0"] = np.ones((3, 5))
        for at in range(6):
            own.attrs[f"a{at}"] = np.zeros(90)
    data = bytearray((folder / "x.weights.h5").read_bytes())
    at = data.index(b"OCHK")
    struct.pack_into("<BHBQQ", data, at + 4, 0x10, 16, 0, len(data), 800_000)
    data += b"OCHK" + bytes(800_000)
    (folder / "x.weights.h5").write_bytes(data)
    return folder / "x.weights.h5"


def inflating_chunk(path: Path) -> Path:
    """A chunk of 40 bytes that unpacks to 50 MB: opened, refused when read."""

    def fill(file: Any) -> None:
        data = file.create_dataset("layers/dense/vars/2", (10,), "f4", chunks=(10,), compression="gzip")
        data.id.write_direct_chunk((0,), zlib.compress(bytes(50_000_000)))

    path.write_bytes(weights(fill))
    return path
