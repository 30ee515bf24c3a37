"""PyTorch's files, opened without torch: every array is bit for bit what ``torch.load`` gives of the same file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.errors import FileRefusedError
from tests.support.files_torch_hostile_makers import (
    alone,
    integer,
    legacy,
    mapping,
    named,
    sequence,
    storage,
    tensor,
    text,
)

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tests.support.torch_files import arrays, assert_same, drawn, small  # noqa: E402

REAL = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64".split()
# What a pickle of the format before 1.6 has a storage class for.
LEGACY = REAL[:10]


@pytest.mark.parametrize("dtype", REAL)
def test_every_type_of_the_zip_format(tmp_path: Path, dtype: str) -> None:
    torch.save(small(**{"a.weight": drawn(dtype, 7, 3, 2), "a.bias": drawn(dtype, 7)}), tmp_path / "x.pt")
    assert_same(cnnlens.open(tmp_path / "x.pt"), torch.load(tmp_path / "x.pt"))


@pytest.mark.parametrize("dtype", LEGACY)
def test_every_type_of_the_older_format(tmp_path: Path, dtype: str) -> None:
    state = small(**{"a.weight": drawn(dtype, 7, 3, 2), "a.bias": drawn(dtype, 7)})
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    network = cnnlens.open(tmp_path / "x.pth")
    assert_same(network, torch.load(tmp_path / "x.pth"))
    assert network.source.format == "torch state dict (legacy)"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_protocol(tmp_path: Path, protocol: int, zipped: bool) -> None:
    state = nn.Conv2d(3, 5, (2, 4)).state_dict()
    checkpoint = {
        "model": state,
        "bytes": b"\x00\xff",
        "array": bytearray(b"abc"),
        "set": {1, 2},
        "frozen": frozenset("ab"),
        "text": "ünïcode\n",
        "numbers": [1, -1, 255, 256, 70_000, 2**40, -(2**70), 1.5, None, True, 1 + 2j],
    }
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save(checkpoint, tmp_path / "x.pt", **options)
    assert_same(cnnlens.open(tmp_path / "x.pt"), {"weight": state["weight"], "bias": state["bias"]})


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_views_are_honoured(tmp_path: Path, zipped: bool) -> None:
    base = drawn("float32", 6, 5, 4, 3)
    state = {
        "a.transposed": base.permute(3, 1, 0, 2),
        "a.sliced": base[1:5:2, 2:, :, 1],
        "a.expanded": base[0, :, :1, 0].expand(5, 7),
        "a.overlapping": torch.as_strided(base, (4, 5), (1, 1), 3),
        "a.channels_last": drawn("float32", 2, 3, 5, 4).contiguous(memory_format=torch.channels_last),
        "a.scalar": torch.tensor(3.5),
        "a.empty": torch.empty(4, 0, 3),
        "a.brain": drawn("bfloat16", 5, 3).T,
        "a.half": drawn("float16", 5, 3).T[1:],
    }
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert_same(cnnlens.open(tmp_path / "x.pt"), torch.load(tmp_path / "x.pt"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_tied_weights_are_read_by_both_names_from_one_place(tmp_path: Path, zipped: bool) -> None:
    shared = drawn("float32", 7, 5)
    state = {"embedding.weight": shared, "head.weight": shared, "head.bias": drawn("float32", 7), "part": shared[2:4]}
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, state)
    found = arrays(network)
    assert np.shares_memory(found["embedding.weight"].read(), found["head.weight"].read())
    assert np.shares_memory(found["embedding.weight"].read(), found["part"].read())


def test_reading_copies_nothing(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "x.pt")
    weight = arrays(cnnlens.open(tmp_path / "x.pt"))["conv.weight"]
    assert np.shares_memory(weight.read(), weight.read())


def test_parameters_and_attributes_on_tensors(tmp_path: Path) -> None:
    marked, tensor = nn.Parameter(drawn("float32", 5, 3)), drawn("float32", 5)
    marked.mark, tensor.tag = "kept", {"by": "somebody"}
    state = {"a.weight": marked, "a.bias": tensor, "b.bias": nn.Parameter(drawn("float32", 4), requires_grad=False)}
    torch.save(state, tmp_path / "x.pt")
    assert_same(cnnlens.open(tmp_path / "x.pt"), {name: each.detach() for name, each in state.items()})


@contextmanager
def saved_from_a_gpu() -> Iterator[None]:
    """torch then writes ``cuda:0`` as each storage's location, as it does for a model that is on a GPU."""
    # The registry is a list of (priority, tagger, deserializer); the first tagger that answers is believed.
    registry = torch.serialization._package_registry
    before = list(registry)
    registry.insert(0, (0, lambda storage: "cuda:0", lambda storage, location: storage))
    try:
        yield
    finally:
        registry[:] = before


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_saved_on_a_gpu_makes_no_difference(tmp_path: Path, zipped: bool) -> None:
    with saved_from_a_gpu():
        torch.save(small(), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    path = tmp_path / "x.pt"
    assert b"cuda:0" in (zipfile.ZipFile(path).read("x/data.pkl") if zipped else path.read_bytes())
    assert_same(cnnlens.open(path), small())


def rewritten(path: Path, **changed: Any) -> Path:
    """The archive with members replaced: name to bytes, or to a function of the old bytes."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    for name, value in changed.items():
        key = next(each for each in members if each.endswith("/" + name.replace("__", "/").replace("_pkl", ".pkl")))
        members[key] = value(members[key]) if callable(value) else value
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    return path


def test_the_storage_classes_of_old_gpu_files(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "x.pt")
    path = rewritten(tmp_path / "x.pt", data_pkl=lambda data: data.replace(b"torch\nFloat", b"torch.cuda\nFloat"))
    assert_same(cnnlens.open(path), small())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "float16", "uint8"])
def test_a_big_endian_archive(tmp_path: Path, dtype: str) -> None:
    state = {"a.weight": drawn(dtype, 5, 3, 2)}
    torch.save(state, tmp_path / "x.pt")
    size = state["a.weight"].element_size()

    def swapped(data: bytes) -> bytes:
        return np.frombuffer(data, np.uint8).reshape(-1, size)[:, ::-1].tobytes()

    path = rewritten(tmp_path / "x.pt", byteorder=b"big", data__0=swapped)
    array = arrays(cnnlens.open(path))["a.weight"].read()
    expected = torch.load(path)["a.weight"]  # torch swaps too
    assert array.tobytes() == (expected.float() if dtype == "bfloat16" else expected).numpy().tobytes()
    assert_tensor = state["a.weight"].float() if dtype == "bfloat16" else state["a.weight"]
    assert array.tobytes() == assert_tensor.numpy().tobytes()


def test_an_archive_without_the_byteorder_member(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "x.pt", _disable_byteorder_record=True)
    assert_same(cnnlens.open(tmp_path / "x.pt"), small())


# --- where the state dict is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "ema", "anything"])
def test_a_nested_state_dict_is_found_and_said(tmp_path: Path, key: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 2), nn.BatchNorm2d(5))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    checkpoint = {key: model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7, "best": np.float64(0.25)}
    torch.save(checkpoint, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, model.state_dict())
    assert f"the state dict is the entry '{key}' of the file" in network.notes
    held = [value for each in optimizer.state_dict()["state"].values() for value in each.values()]
    assert [(one.what, one.says, one.arrays, one.numbers) for one in network.also] == [
        (
            "optimizer",
            "'optimizer', lr 0.001, betas [0.9, 0.999], weight_decay 0",
            len(held),
            sum(value.numel() for value in held),
        ),
        ("training", "epoch=7, best=0.25", None, None),
    ]


def test_what_lightning_keeps_of_its_training_is_one_remark(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 5, 2)
    checkpoint = {
        "state_dict": model.state_dict(), "pytorch-lightning_version": "2.1.0", "epoch": 3, "optimizer_states": [{}],
        "loops": {"fit_loop": {"state_dict": {}, "epoch_loop.batch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.3)}},
    }  # fmt: skip
    torch.save(checkpoint, tmp_path / "x.ckpt")
    network = cnnlens.open(tmp_path / "x.ckpt")
    assert_same(network, model.state_dict())
    assert [(one.what, one.says, one.numbers) for one in network.also][:3] == [
        ("training", "'loops'", None),
        ("training", "'callbacks'", 1),
        ("optimizer", "'optimizer_states'", 0),
    ]
    assert not any(one.what == "weights" for one in network.also)
    assert not any("no tensors" in note for note in network.notes)


def test_the_biases_of_a_gru_have_gates_by_name(tmp_path: Path) -> None:
    model = nn.GRU(4, 3, batch_first=True)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    torch.save(nn.Sequential(model), tmp_path / "whole.pt")
    for file, layer in (("x.pt", 0), ("whole.pt", -1)):
        stored = cnnlens.open(tmp_path / file)[layer].stored
        for name in ("bias_ih_l0", "bias_hh_l0"):
            assert stored[name].gates == ["reset", "update", "new"]
            np.testing.assert_array_equal(stored[name].gate("update"), getattr(model, name).detach().numpy()[3:6])


def test_the_largest_mapping_wins_and_the_others_are_named(tmp_path: Path) -> None:
    large, tiny = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4)), nn.Linear(2, 3)
    torch.save({"critic": tiny.state_dict(), "actor": large.state_dict()}, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, large.state_dict())
    assert [(one.what, one.says) for one in network.also] == [
        ("weights", "'critic' (2 tensors); --weights NAME shows one")
    ]


@pytest.mark.parametrize("order", [("ema", "model"), ("model", "ema")])
def test_the_model_is_taken_before_its_average(tmp_path: Path, order: tuple[str, str]) -> None:
    models = {"ema": nn.Linear(3, 5), "model": nn.Linear(3, 5)}
    torch.save({key: models[key].state_dict() for key in order}, tmp_path / "x.pt")
    assert_same(cnnlens.open(tmp_path / "x.pt"), models["model"].state_dict())


def test_two_levels_of_nesting(tmp_path: Path) -> None:
    torch.save({"run": {"state_dict": small()}, "config": {"lr": 0.1}}, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, small())
    assert "the state dict is the entry 'run.state_dict' of the file" in network.notes


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_prefixes_of_wrappers_are_taken_off_and_said(tmp_path: Path, prefix: str) -> None:
    torch.save({prefix + name: tensor for name, tensor in small().items()}, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, small())
    assert network["conv"].stored["weight"].stored.place == prefix + "conv.weight"
    for part in prefix.split(".")[:-1]:
        assert any(f"all names begin with '{part}.'" in note for note in network.notes)


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    state = {**{f"module.{name}": tensor for name, tensor in small().items()}, "head.bias": drawn("float32", 3)}
    torch.save(state, tmp_path / "x.pt")
    assert_same(cnnlens.open(tmp_path / "x.pt"), state)


def test_data_parallel_itself(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4))
    torch.save(nn.DataParallel(model).state_dict(), tmp_path / "x.pt")
    assert_same(cnnlens.open(tmp_path / "x.pt"), model.state_dict())


def test_arrays_at_the_root(tmp_path: Path) -> None:
    state = nn.Linear(3, 5).state_dict()
    torch.save(state, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, state)
    assert (network["(root)"].kind, network["(root)"].path) == ("Linear", ())


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:torch.quantize_per_tensor")
def test_tensors_that_are_no_plain_arrays_are_listed(tmp_path: Path) -> None:
    odd = {
        "a.rows": torch.stack([torch.eye(3)] * 2).to_sparse_csr(),
        "a.four": torch.quantize_per_channel(torch.ones(3, 2), torch.ones(3), torch.ones(3), 0, torch.quint4x2),
        "a.meta": torch.zeros(3, device="meta"),
        "a.negated": torch._neg_view(torch.ones(3)),
        "a.number": 3,
        "a._extra_state": {"version": 1},
        "a.dtype": torch.float32,
        "a.device": torch.device("cpu"),
        "a.size": torch.Size([3, 1]),
    }
    torch.save({**small(), **odd}, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, small())
    notes = "\n".join(network.notes)
    for reason in ("sparse CSR of 3 axes: a.rows", "quint4x2: a.four", "without data", "stored with its sign"):
        assert f"not shown, since {reason}" in notes
    assert "no tensors: a.number, a._extra_state, a.dtype, a.device and 1 more" in notes


def test_numpy_arrays_in_a_checkpoint(tmp_path: Path) -> None:
    state = {
        "a.c": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "a.f": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "a.big": np.arange(5, dtype=">i4"),
        "a.none": np.empty((0, 3), np.float16),
        "a.text": np.array(["x", "yz"]),
    }
    for protocol in (2, 4, 5):
        torch.save({"params": state, "value": np.float32(3)}, tmp_path / "x.pt", pickle_protocol=protocol)
        network = cnnlens.open(tmp_path / "x.pt")
        found = {name: weight.read() for name, weight in arrays(network).items()}
        assert list(found) == ["a.c", "a.f", "a.big", "a.none"]
        for name, array in found.items():
            np.testing.assert_array_equal(array, state[name])
            assert array.dtype == state[name].dtype.newbyteorder("=")
        assert any("a.text" in note for note in network.notes)


# --- damage ---------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_noticed_when_the_array_is_read(tmp_path: Path) -> None:
    state = {"a.weight": drawn("float32", 50, 3), "b.weight": drawn("float32", 7, 3)}
    torch.save(state, tmp_path / "x.pt")
    data = bytearray((tmp_path / "x.pt").read_bytes())
    data[data.index(state["a.weight"].numpy().tobytes()) + 17] ^= 4
    (tmp_path / "x.pt").write_bytes(data)
    found = arrays(cnnlens.open(tmp_path / "x.pt"))
    assert found["b.weight"].read().tobytes() == state["b.weight"].numpy().tobytes()
    with pytest.raises(FileRefusedError, match=r"x/data/0: .*checksum"):
        found["a.weight"].read()


def test_an_archive_without_checksums_is_read_with_a_remark(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(small(), tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, small())
    assert "the archive was written without checksums" in network.notes


def test_every_checksum_can_be_compared(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "x.pt")
    source: Any = cnnlens.open(tmp_path / "x.pt").source
    source.verify()
    assert len(source.sha256) == 64


# --- what older and other programs wrote ----------------------------------------------------------------------------


def test_counters_and_defaults_of_schedulers(tmp_path: Path) -> None:
    from collections import Counter, OrderedDict, defaultdict

    lists: defaultdict[str, list[int]] = defaultdict(list, {"a": [1]})
    scheduler = {"milestones": Counter([3, 3, 5]), "seen": lists, "order": OrderedDict(a=1), "nothing": b""}
    torch.save({"model": small(), "lr_scheduler": scheduler, "history": lists}, tmp_path / "x.pt")
    assert_same(cnnlens.open(tmp_path / "x.pt"), small())


def test_a_file_of_python_2(tmp_path: Path) -> None:
    """Byte strings as names, an OrderedDict made from a list of lists, and the first of torch's rebuild functions."""

    def short(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    kind = named("torch", "FloatStorage")
    store = b"(" + short("storage") + kind + short("0") + short("cpu") + b"K\x0fNtQ"
    rebuilt = named("torch._utils", "_rebuild_tensor") + b"(" + store + b"K\x00(K\x05K\x03t(K\x03K\x01ttR"
    data = named("collections", "OrderedDict") + b"](](" + short("fc.weight") + rebuilt + b"ee\x85R"
    path = legacy(tmp_path, alone(data))
    expected = np.arange(15, dtype=np.float32).reshape(5, 3)
    loaded = torch.load(path, weights_only=False, encoding="latin1")
    np.testing.assert_array_equal(loaded["fc.weight"].numpy(), expected)
    np.testing.assert_array_equal(cnnlens.open(path)["fc"].weights["weight"], expected)


def test_views_of_storages_in_files_before_1_0(tmp_path: Path) -> None:
    """The older format could store a view of another storage: its key, first element and count."""
    view = sequence(text("1"), integer(4), integer(6))
    at = sequence(text("storage"), named("torch", "FloatStorage"), text("0"), text("cpu"), integer(15), view) + b"Q"
    whole = tensor(at=storage(old=True))
    part = tensor((2, 3), (3, 1), at=at)
    path = legacy(tmp_path, alone(mapping({"a.weight": whole, "b.weight": part})))
    loaded = torch.load(path)
    for layer in ("a", "b"):
        np.testing.assert_array_equal(cnnlens.open(path)[layer].weights["weight"], loaded[f"{layer}.weight"].numpy())
    assert loaded["b.weight"][0, 0] == 4
