"""Honest files of every format, small, for what damages them and for what must not refuse them.

``SEEDS`` maps a format to what makes some files of it, put together here, or written by cnnlens and h5py;
``tests/support/torch_honest_files.py`` has those that PyTorch itself writes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from tests.support import files_torch_hostile_makers as torch_makers
from tests.support.files_hostile_makers import archive, keras_members, legacy, legacy_dense, weights
from tests.support.files_torch_hostile_makers import (
    FLOAT,
    FORWARD,
    call,
    dense,
    integer,
    mapping,
    named,
    quantised,
    sequence,
    sparse,
    state,
    storage,
    tensor,
    text,
)


@dataclass(frozen=True)
class Seed:
    """An honest model: its files by name, and what is opened: one of them, ``.`` for their folder, or a member."""

    files: Mapping[str, bytes]
    target: str


Make = Callable[[Path], Iterator[Seed]]
SEEDS: dict[str, Make] = {}


def _seeds(make: Make) -> Make:
    SEEDS[make.__name__.strip("_").replace("_", "-")] = make
    return make


def seeds(name: str, *, by_torch: bool = False) -> list[Seed]:
    """Some honest files of a format, with PyTorch's own or without."""
    with tempfile.TemporaryDirectory(prefix="cnnlens-seeds-") as folder:
        found = list(SEEDS[name](Path(folder))) if name in SEEDS else []
    if by_torch:
        from tests.support.torch_honest_files import FILES

        found += [Seed({"x.pt": data}, "x.pt") for data in FILES[name]()] if name in FILES else []
    return found


def _one(path: Path) -> Seed:
    return Seed({path.name: path.read_bytes()}, path.name)


def _below(folder: Path, target: str) -> Seed:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return Seed(files, target)


# -- Keras -----------------------------------------------------------------------------------------------------------


def _chunked(file: Any) -> None:
    data = np.arange(36, dtype="f4").reshape(9, 4)
    file.create_dataset("layers/dense/vars/2", data=data, chunks=(4, 4), compression="gzip", shuffle=True)


def _written(path: Path, name: str) -> Path:
    """One of the small networks that backends are tested with, as a `.keras`."""
    from cnnlens.files.keras.write import write_keras
    from cnnlens.testing.networks import network

    source: Any = network(name).source
    write_keras(path, source.config, source.weights)
    return path


@_seeds
def _keras(folder: Path) -> Iterator[Seed]:
    yield _one(archive(folder / "x.keras", keras_members()))
    yield _one(archive(folder / "x.keras", keras_members(), zipfile.ZIP_DEFLATED))
    for name in ("chain", "branches", "shared", "nested", "lambda"):
        yield _one(_written(folder / "x.keras", name))


@_seeds
def _h5(folder: Path) -> Iterator[Seed]:
    yield _one(legacy(folder / "x.h5", lambda group: legacy_dense(group, [b"dense/kernel:0", b"dense/bias:0"])))
    with zipfile.ZipFile(_written(folder / "x.keras", "nested")) as packed:
        config = json.loads(packed.read("config.json"))
    yield _one(legacy(folder / "x.h5", lambda group: legacy_dense(group, ["kernel", "bias"]), config))


@_seeds
def _weights_h5(folder: Path) -> Iterator[Seed]:
    latest = io.BytesIO()
    with h5py.File(latest, "w", libver="latest") as file:
        own = file.create_group("layers/dense/vars", track_order=True)
        own.attrs["name"] = "dense"
        own["0"], own["1"] = np.ones((3, 5), "f4"), np.ones(5, "f4")
    for data in (weights(), weights(_chunked), latest.getvalue()):
        yield Seed({"x.weights.h5": data}, "x.weights.h5")


@_seeds
def _shards(folder: Path) -> Iterator[Seed]:
    listed = {"weight_map": {"/layers/dense/vars": ["a_00000.weights.h5"], "/layers/b/vars": "a_00001.weights.h5"}}
    other = io.BytesIO()
    with h5py.File(other, "w") as file:
        file["layers/b/vars/0"] = np.ones((4, 3), "f4")
    files = {"a_00000.weights.h5": weights(), "a_00001.weights.h5": other.getvalue()}
    yield Seed({**files, "a.weights.json": json.dumps(listed).encode()}, "a.weights.json")


# -- PyTorch ---------------------------------------------------------------------------------------------------------


def _state() -> bytes:
    """State that checkpoints have: types, nesting, a view, an optimizer's class."""
    convolution = tensor((2, 3, 2, 1), (6, 2, 1, 1))
    order = call("collections", "OrderedDict")
    return state(**{
        "conv.weight": convolution, "conv.bias": tensor((2,), (1,)), "t.weight": tensor((3, 5), (1, 3)),
        "optimizer": mapping({"state": b"}", "lr": FLOAT, "kind": named("torch.optim.adam", "Adam")}),
        "epoch": b"K\x07", "b": text("said"), "o": order,
    })  # fmt: skip


@_seeds
def _torch_zip(folder: Path) -> Iterator[Seed]:
    yield _one(torch_makers.zipped(folder, _state()))


@_seeds
def _torch_legacy(folder: Path) -> Iterator[Seed]:
    at = storage(old=True)
    yield _one(torch_makers.legacy(folder, state(**{"b.weight": tensor((3, 5), (5, 1), at=at), "e": text("x")})))


@_seeds
def _module(folder: Path) -> Iterator[Seed]:
    made = torch_makers.module(**{"0": torch_makers.module(), "act": torch_makers.module(mapping({"p": FLOAT}))})
    yield _one(torch_makers.zipped(folder, torch_makers.alone(mapping({"model": made, "epoch": b"K\x07"}))))


@_seeds
def _torchscript(folder: Path) -> Iterator[Seed]:
    lines = ("y = torch.add(torch.relu(x), x)", "z = torch.flatten(y, 1)", "return torch.matmul(z, self.w)")
    yield _one(torch_makers.script(FORWARD + "".join(f"    {line}\n" for line in lines))(folder))


@_seeds
def _numbers(folder: Path) -> Iterator[Seed]:
    """Quantised and sparse numbers, and packed parameters."""
    whole = storage("1", 6, named("torch", "LongStorage"))
    pair = sequence(quantised(dense(5), dense(5), integer(0)), dense(5))
    entries = {
        "q": quantised(FLOAT, integer(3), how="tensor"), "c": quantised(dense(5), dense(5), integer(0)),
        "fc._packed_params._packed_params": pair, "fc.scale": FLOAT,
        "coo": sparse("coo", (5, 3), tensor((2, 3), (3, 1), at=whole), dense(3)),
        "csr": sparse("csr", (2, 3), tensor((3,), (1,), at=whole), tensor((2,), (1,), at=whole), dense(2)),
        "bsr": sparse("bsr", (4, 3), tensor((3,), (1,), at=whole), tensor((2,), (0,), at=whole), dense(2, 2, 3)),
    }  # fmt: skip
    yield _one(torch_makers.zipped(folder, state(**entries), _1=struct.pack("<6q", 0, 1, 2, 0, 1, 2)))


@_seeds
def _safetensors(folder: Path) -> Iterator[Seed]:
    entry = torch_makers.entry
    header = {
        "a.weight": entry(0, 60), "conv.weight": entry(60, 84, (2, 3, 1, 1)), "half": entry(84, 90, (3,), "BF16"),
        "eight": entry(90, 93, (3,), "F8_E4M3"), "__metadata__": {"format": "pt"},
    }  # fmt: skip
    yield _one(torch_makers.safetensors(folder, header, bytes(range(93))))


@_seeds
def _safetensors_index(folder: Path) -> Iterator[Seed]:
    files = {}
    for name in ("a", "b"):
        path = torch_makers.safetensors(folder, {f"{name}.weight": torch_makers.entry()})
        files[f"{name}.safetensors"] = path.read_bytes()
    listed = {"metadata": {"total_size": 120}, "weight_map": {"a.weight": "a.safetensors", "b.weight": "b.safetensors"}}
    yield Seed({**files, "m.safetensors.index.json": json.dumps(listed).encode()}, "m.safetensors.index.json")


# -- inputs and recordings -------------------------------------------------------------------------------------------


def _saved(save: Callable[..., Any], *arrays: Any, **named_arrays: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named_arrays)
    return buffer.getvalue()


@_seeds
def _npy(folder: Path) -> Iterator[Seed]:
    images = np.arange(2 * 28 * 28, dtype="u1").reshape(2, 28, 28)
    for array in (images, images.astype(">f4"), np.asfortranarray(images)):
        yield Seed({"x.npy": _saved(np.save, array)}, "x.npy")


@_seeds
def _npz(folder: Path) -> Iterator[Seed]:
    images = np.arange(2 * 28 * 28, dtype="u1").reshape(2, 28, 28)
    for save in (np.savez, np.savez_compressed):
        yield Seed({"x.npz": _saved(save, x_test=images, y_test=np.arange(2))}, "x.npz")


@_seeds
def _idx(folder: Path) -> Iterator[Seed]:
    data = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 28, 28) + bytes(range(256)) * 6 + bytes(32)
    yield Seed({"x-idx3-ubyte": data}, "x-idx3-ubyte")
    yield Seed({"x-idx3-ubyte.gz": gzip.compress(data)}, "x-idx3-ubyte.gz")


@_seeds
def _pictures(folder: Path) -> Iterator[Seed]:
    pixels = np.arange(20 * 28 * 3, dtype="u1").reshape(20, 28, 3)
    modes = {
        "RGB": "PNG",
        "L": "PNG",
        "RGBA": "PNG",
        "P": "PNG",
        "1": "PNG",
        "I;16": "PNG",
        "YCbCr": "JPEG",
        "CMYK": "JPEG",
    }
    for mode, kind in modes.items():
        picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
        picture = picture.convert("I").convert("I;16") if mode == "I;16" else picture
        yield Seed({f"x.{kind.lower()}": _saved(picture.save, kind)}, f"x.{kind.lower()}")


@_seeds
def _recording(folder: Path) -> Iterator[Seed]:
    import cnnlens

    model = _written(folder / "x.keras", "signal")
    (shape,) = cnnlens.open(model).input_shapes.values()
    inputs = np.random.default_rng(3).normal(size=(3, *(size or 11 for size in (shape or ())[1:])))
    (folder / "run").mkdir()
    cnnlens.record(model, inputs, backend="reference", out=folder / "run" / "x.zarr", batch=2)
    yield _below(folder / "run", "x.zarr")


# -- archives, and what is none of these -----------------------------------------------------------------------------


def _tar(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@_seeds
def _archive(folder: Path) -> Iterator[Seed]:
    model = torch_makers.safetensors(folder, {"a.weight": torch_makers.entry()}).read_bytes()
    keras = archive(folder / "x.keras", keras_members()).read_bytes()
    members = {"data": b"{}", "policy.pth": model, "deep/m.keras": keras, "_stable_baselines3_version": b"2.0"}
    packed = {"a.zip": archive(folder / "a.zip", members).read_bytes(), "a.tar": _tar(members),
              "a.tar.gz": gzip.compress(_tar(members)), "a.tar.xz": lzma.compress(_tar(members))}  # fmt: skip
    for (name, data), member in itertools.product(packed.items(), ("policy.pth", "deep/m.keras")):
        yield Seed({name: data}, f"{name}::{member}")
    for name, data in packed.items():
        yield Seed({name: data}, name)
    for ending, pack in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        yield Seed({f"policy.pth.{ending}": pack(model)}, f"policy.pth.{ending}::policy.pth")


@_seeds
def _signatures(folder: Path) -> Iterator[Seed]:
    """What cnnlens names by its bytes and does not open."""
    from tests.files.test_signatures import SPECIMENS

    for data, _, _ in SPECIMENS.values():
        yield Seed({"best.pt": data}, "best.pt")
