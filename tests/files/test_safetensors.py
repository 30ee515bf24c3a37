"""Safetensors files: every array is bit for bit what the library loads, and is a view on the file."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest

import cnnlens
from cnnlens.errors import FileRefusedError

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tests.support.torch_files import arrays, assert_same, drawn  # noqa: E402

SAFE = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64".split()


@pytest.mark.parametrize("dtype", SAFE)
def test_every_type_of_safetensors(tmp_path: Path, dtype: str) -> None:
    from safetensors.torch import load_file, save_file

    state = {
        "a.bias": drawn(dtype, 7),
        "a.weight": drawn(dtype, 7, 3, 2),
        "b.scalar": drawn(dtype),
        "c.none": drawn(dtype, 0, 3),
    }
    save_file(state, tmp_path / "x.safetensors", {"format": "pt"})
    network = cnnlens.open(tmp_path / "x.safetensors")
    loaded = load_file(tmp_path / "x.safetensors")
    assert_same(network, {name: loaded[name] for name in ("a.weight", "a.bias", "b.scalar", "c.none")})
    assert (network.source.format, network.source.framework) == ("safetensors", "torch")


def test_safetensors_of_numpy_with_metadata(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    state = {"a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "a.index": np.arange(3)}
    save_file(state, tmp_path / "x.safetensors", {"epoch": "7"})
    network = cnnlens.open(tmp_path / "x.safetensors")
    assert [(one.what, one.says) for one in network.also] == [("metadata", "epoch = 7")]
    weight = arrays(network)["a.weight"]
    np.testing.assert_array_equal(weight.read(), state["a.weight"])
    assert np.shares_memory(weight.read(), weight.read())


def test_safetensors_layers_are_listed_by_name_with_numbers_counted(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = nn.Sequential(*(layer for n in range(6) for layer in (nn.Conv2d(n + 3, n + 4, 3), nn.BatchNorm2d(n + 4))))
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    torch.save(model.state_dict(), tmp_path / "x.pt")
    network, same = cnnlens.open(tmp_path / "x.safetensors"), cnnlens.open(tmp_path / "x.pt")
    assert [(layer.name, layer.kind, list(layer.stored)) for layer in network] == [
        (layer.name, layer.kind, list(layer.stored)) for layer in same
    ]
    assert_same(network, model.state_dict())
    assert any("sorts its tensors by name" in note for note in network.notes)


def test_safetensors_types_that_are_not_shown_are_listed(tmp_path: Path) -> None:
    entries = {
        "a.bias": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        "a.f4": {"dtype": "F4", "shape": [2, 4], "data_offsets": [12, 16]},
        "a.f6": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [16, 19]},
    }
    header = json.dumps(entries).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(19))
    network = cnnlens.open(tmp_path / "x.safetensors")
    assert list(arrays(network)) == ["a.bias"]
    assert "not shown, since F4: a.f4" in network.notes
    assert "not shown, since F6_E2M3: a.f6" in network.notes


def test_what_is_opened_the_library_reads_alike(tmp_path: Path) -> None:
    """The header is read here alone; nothing may pass that the library refuses or reads otherwise."""
    from safetensors import safe_open
    from safetensors.numpy import save

    state = {"a.weight": np.zeros((5, 2), np.float32), "a.bias": np.zeros(5, np.float32), "b": np.zeros(3, np.int64)}
    honest, chance, opened = save(state, {"by": "test"}), random.Random(4), 0
    end = 8 + int.from_bytes(honest[:8], "little")
    for _ in range(600):
        head = bytearray(honest[8:end])
        at = chance.randrange(len(head))
        head[at : at + chance.randrange(2)] = bytes(chance.choice(b'0123456789-.e"{}[],:\\u abF\xff') for _ in range(1))
        path = tmp_path / "x.safetensors"
        path.write_bytes(len(head).to_bytes(8, "little") + head + honest[end:])
        try:
            found = arrays(cnnlens.open(path))
        except FileRefusedError:
            continue
        opened += 1
        with safe_open(path, framework="numpy") as file:
            seen = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
        assert {name: weight.stored.shape for name, weight in found.items()} == seen
    assert 20 < opened < 580


@pytest.mark.parametrize("extra", [-4, -1, 1, 8])
def test_the_tensors_reach_to_the_end_of_the_file_and_no_further(tmp_path: Path, extra: int) -> None:
    from safetensors.numpy import save

    whole = save({"a.weight": np.ones((5, 2), np.float32), "a.bias": np.ones(5, np.float32)})
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole + bytes(extra) if extra > 0 else whole[:extra])
    with pytest.raises(FileRefusedError, match=f"the tensors end after 60 bytes, the file after {60 + extra};"):
        cnnlens.open(path)


def sharded(folder: Path, **changed: str) -> Path:
    from safetensors.torch import save_file

    save_file({"b.weight": drawn("float32", 5, 3)}, folder / "model-1.safetensors")
    save_file({"a.weight": drawn("float32", 4, 7), "a.bias": drawn("float32", 4)}, folder / "model-2.safetensors")
    listed = {
        "b.weight": "model-1.safetensors",
        **dict.fromkeys(("a.weight", "a.bias"), "model-2.safetensors"),
        **changed,
    }
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 192}, "weight_map": listed}))
    return path


def test_shards_of_safetensors(tmp_path: Path) -> None:
    network = cnnlens.open(sharded(tmp_path))
    found = arrays(network)
    assert found["b.weight"].read().tobytes() == drawn("float32", 5, 3).numpy().tobytes()
    assert found["a.weight"].read().tobytes() == drawn("float32", 4, 7).numpy().tobytes()
    assert network.source.size == sum(file.stat().st_size for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"c.weight": "model-1.safetensors"}, "in none of the shards"),
        ({"b.weight": "model-2.safetensors"}, "no tensors|the list says otherwise|in none of the shards"),
        ({"a.bias": "../model-2.safetensors"}, "does not lie beside its list"),
        ({"a.bias": "model-3.safetensors"}, "no such file"),
    ],
    ids=["missing", "elsewhere", "climbing", "no file"],
)
def test_shards_that_are_not_as_listed(tmp_path: Path, changed: dict[str, str], reason: str) -> None:
    with pytest.raises(FileRefusedError, match=reason):
        cnnlens.open(sharded(tmp_path, **changed))
