"""Files that lie: each is refused in one line that says file, place, reason and way out, in little time and memory."""

from __future__ import annotations

import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cnnlens.errors import CnnlensError, FileRefusedError
from cnnlens.files import read
from tests.support import files_hostile_makers
from tests.support.files_hostile_makers import (
    DENSE,
    MAKERS,
    REFUSALS,
    archive,
    hdf5,
    inflating_chunk,
    keras_members,
    legacy,
    legacy_dense,
    weights,
)
from tests.support.hostile_process import (
    Outcomes,
    assert_refused_in_one_line,
    assert_the_cap_on_memory_is_one,
    made_and_opened,
)

_OPENER = """
from cnnlens.files import read
import cnnlens.files.keras.opener, pyfive
def opened(path):
    return "opened: " + "; ".join(read(path).notes)
"""


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What opening each hostile file led to."""
    return made_and_opened(tmp_path_factory, files_hostile_makers, _OPENER)[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_refused_in_one_line(outcomes: Outcomes, name: str) -> None:
    assert_refused_in_one_line(outcomes[name], REFUSALS[name])


def test_the_cap_on_memory_is_one() -> None:
    assert_the_cap_on_memory_is_one()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.keras", keras_members())
    path.chmod(0)
    with pytest.raises(FileRefusedError, match="no permission"):
        read(path)


def test_the_nearest_name_is_given(tmp_path: Path) -> None:
    archive(tmp_path / "fashion.keras", keras_members())
    with pytest.raises(FileRefusedError, match=r"did you mean 'fashion\.keras'"):
        read(tmp_path / "fasion.keras")


@pytest.mark.parametrize("name", ["a\x00b.keras", "x/y/z.keras", "n" * 5000])
def test_impossible_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"file")
    with pytest.raises(FileRefusedError):
        read(tmp_path / name)


def test_a_chunk_is_never_unpacked_beyond_its_size(tmp_path: Path) -> None:
    model = read(inflating_chunk(tmp_path / "x.weights.h5"))
    arrays = [array for found in model.weights.values() for array in found.values() if array.shape == (10,)]
    with pytest.raises(FileRefusedError, match=r"vars/2: .*chunk of \d+ bytes where 40"):
        arrays[0].read()


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True},
        {"shuffle": True, "fletcher32": True},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "i1"])
def test_chunked_arrays_are_read_exactly(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    array = np.random.default_rng(4).normal(scale=50, size=(37, 11, 5)).astype(dtype)

    def fill(file: Any) -> None:
        file.create_dataset("layers/dense/vars/2", data=array, chunks=(8, 4, 5), **options)

    found = next(a for w in read(hdf5(tmp_path, fill)).weights.values() for a in w.values() if len(a.shape) == 3)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert found.read().dtype == found.dtype
    np.testing.assert_array_equal(found.read(), array)
    assert not found.read().flags.writeable


def test_a_wrong_chunk_checksum_is_noticed(tmp_path: Path) -> None:
    array = np.arange(40, dtype="<f4")

    def fill(file: Any) -> None:
        file.create_dataset("layers/dense/vars/2", data=array, chunks=(40,), fletcher32=True)

    path = hdf5(tmp_path, fill)
    data = bytearray(path.read_bytes())
    data[data.index(array.tobytes()) + 17] ^= 4
    path.write_bytes(data)
    found = next(a for w in read(path).weights.values() for a in w.values() if a.shape == (40,))
    with pytest.raises(FileRefusedError, match="checksum"):
        found.read()


# --- arrays of every type -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.arange(6, dtype=">f4").reshape(2, 3), ">f4"),
        (np.arange(6, dtype="<f2").reshape(2, 3), "float16"),
        (np.arange(6, dtype=">i8"), ">i8"),
        (np.arange(6, dtype="u2"), "uint16"),
        (np.array([True, False, True]), "bool"),
        (np.float64(3.5), "float64"),
        (np.empty((4, 0, 3), "f4"), "float32"),
        (np.array([np.nan, np.inf, -np.inf, -0.0], "f4"), "float32"),
    ],
    ids=lambda value: getattr(value, "dtype", value) and str(value).replace("\n", " "),
)
@pytest.mark.parametrize("layout", ["contiguous", "compact"])
def test_numbers_of_every_type(tmp_path: Path, value: Any, stored: str, layout: str) -> None:
    def fill(file: Any) -> None:
        if layout == "compact":
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_layout(h5py.h5d.COMPACT)
            array = np.asarray(value)
            space = h5py.h5s.create_simple(array.shape) if array.shape else h5py.h5s.create(h5py.h5s.SCALAR)
            tid = h5py.h5t.py_create(array.dtype, logical=True)
            dataset = h5py.h5d.create(file["layers/dense/vars"].id, b"2", tid, space, dcpl=plist)
            if array.size:
                dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
        else:
            file["layers/dense/vars/2"] = value

    found = next(a for w in read(hdf5(tmp_path, fill)).weights.values() for n, a in w.items() if n == "var2")
    expected = np.asarray(value)
    assert (found.shape, found.stored_dtype) == (expected.shape, stored)
    assert found.read().dtype == found.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.read(), expected)


def test_bfloat16_as_an_hdf5_float_is_not_taken_for_float16(tmp_path: Path) -> None:
    numbers = np.array([1.0, -2.5, 3.140625, 65280.0, 1e30], "f4")
    numbers = (numbers.view("u4") & 0xFFFF0000).view("f4")

    def fill(file: Any) -> None:
        kind = h5py.h5t.IEEE_F16LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_ebias(127)
        space = h5py.h5s.create_simple(numbers.shape)
        dataset = h5py.h5d.create(file["layers/dense/vars"].id, b"2", kind, space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, (numbers.view("u4") >> 16).astype("u2"), mtype=kind)

    found = next(a for w in read(hdf5(tmp_path, fill)).weights.values() for n, a in w.items() if n == "var2")
    assert found.stored_dtype == "bfloat16"
    np.testing.assert_array_equal(found.read(), numbers)


@pytest.mark.parametrize(
    "value",
    [
        np.array([b"abc", b"de"]),
        np.array(["abc", "de"], dtype=h5py.string_dtype()),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        np.array([1 + 2j, 3 - 4j]),
        h5py.Empty("f4"),
    ],
    ids=["strings", "variable-length strings", "compound", "complex", "null"],
)
def test_what_is_no_number_is_left_out_with_a_remark(tmp_path: Path, value: Any) -> None:
    model = read(hdf5(tmp_path, lambda file: file["layers/dense/vars"].create_dataset("2", data=value)))
    assert any("layers/dense/vars/2 is" in note and "left out" in note for note in model.notes)
    assert set(model.weights[("layers", "dense")]) == {"kernel", "bias"}


# --- files that contradict themselves -------------------------------------------------------------------------------


def sequential(*layers: dict[str, Any]) -> bytes:
    return json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}).encode()


def dense(name: str, units: int) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": name, "units": units, "use_bias": True}}


def two_dense(first: str, second: str) -> bytes:
    """Weights of two Dense layers, (3, 5) and (5, 4), whose groups carry these names."""

    def fill(file: Any) -> None:
        file["layers/dense/vars"].attrs["name"] = first
        own = file.create_group("layers/dense_1/vars")
        own.attrs["name"] = second
        own["0"] = np.ones((5, 4), "f4")
        own["1"] = np.ones(4, "f4")

    return weights(fill)


def test_axes_that_contradict_the_config_are_not_shown_as_the_layers(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.keras", keras_members(config=sequential(dense("dense", 10**9))))
    model = read(path)
    assert ("dense",) not in model.weights
    assert any("kernel is (3, 5), declared (?, 1000000000)" in note for note in model.notes)
    assert sorted(array.shape for array in model.unmatched.values()) == [(3, 5), (5,)]


def test_a_name_in_the_file_wins_over_the_count(tmp_path: Path) -> None:
    config = sequential(dense("a", 4), dense("b", 5))
    model = read(archive(tmp_path / "x.keras", keras_members(config=config, weights=two_dense("b", "a"))))
    assert model.weights[("a",)]["kernel"].shape == (5, 4)
    assert model.weights[("b",)]["kernel"].shape == (3, 5)
    assert any("carries its name" in note for note in model.notes)


def test_a_renamed_layer_is_found_by_its_count_with_a_remark(tmp_path: Path) -> None:
    config = sequential(dense("renamed", 5), dense("b", 4))
    model = read(archive(tmp_path / "x.keras", keras_members(config=config, weights=two_dense("a", "b"))))
    assert model.weights[("renamed",)]["kernel"].shape == (3, 5)
    assert any("under the name 'a'" in note for note in model.notes)


def test_an_unexpected_number_of_arrays_is_numbered_with_a_remark(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["layers/dense/vars/2"] = np.ones((7, 2), "f4")

    model = read(archive(tmp_path / "x.keras", keras_members(weights=weights(fill))))
    assert list(model.weights[("dense",)]) == ["var0", "var1", "var2"]
    assert any("has 3 arrays where its class has kernel, bias" in note for note in model.notes)


def test_a_layer_without_arrays_is_named(tmp_path: Path) -> None:
    config = sequential(dense("dense", 5), dense("absent", 4))
    model = read(archive(tmp_path / "x.keras", keras_members(config=config)))
    assert ("absent",) not in model.weights
    assert "the file holds no arrays for layer 'absent'" in model.notes


def test_names_from_the_file_are_shown_escaped(tmp_path: Path) -> None:
    name = "\x1b[31mred\u202egnp\n" + "x" * 5000
    config = sequential(dense(name, 7))
    model = read(archive(tmp_path / "x.keras", keras_members(config=config)))
    assert model.notes
    for note in model.notes:
        assert "\x1b" not in note
        assert "\n" not in note
        assert "\u202e" not in note
        assert len(note) < 1000


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": None, "config": 5},
        {
            "class_name": "Sequential",
            "config": {"layers": [None, 7, {"class_name": 3, "config": []}, dense("dense", 5)]},
        },
        {"class_name": "Sequential", "config": {"layers": {"a": 1}}},
        {"class_name": "Functional", "config": {"layers": [{"class_name": "Bidirectional", "config": {"layer": 3}}]}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": {"units": "five"}}]}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Conv2D", "config": {"kernel_size": [1]}}]}},
        {},
    ],
    ids=str,
)
def test_configs_of_the_wrong_types_are_survived(tmp_path: Path, config: Any) -> None:
    model = read(archive(tmp_path / "x.keras", keras_members(config=json.dumps(config).encode())))
    everything = [a for w in model.weights.values() for a in w.values()] + list(model.unmatched.values())
    assert sorted(array.shape for array in everything) == [(3, 5), (5,)]


def test_a_deflated_archive_of_usual_size_is_read(tmp_path: Path) -> None:
    model = read(archive(tmp_path / "x.keras", keras_members(), zipfile.ZIP_DEFLATED))
    np.testing.assert_array_equal(
        model.weights[("dense",)]["kernel"].read(), np.arange(15, dtype=np.float32).reshape(3, 5)
    )


def test_an_archive_without_config_still_shows_its_weights(tmp_path: Path) -> None:
    members = {name: data for name, data in keras_members().items() if name == "model.weights.h5"}
    model = read(archive(tmp_path / "x.keras", members))
    assert model.weights[("layers", "dense")]["kernel"].shape == (3, 5)
    assert "there is no config.json in it" in model.notes


# --- legacy files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        [b"dense/kernel:0", b"dense/bias:0"],
        ["dense_1/kernel:0", "dense_1/bias:0"],
        ["kernel", "bias"],
        ["sequential/dense/kernel", "sequential/dense/bias"],
    ],
    ids=["Keras 2", "Keras 2.0.5", "Keras 3.0", "Keras 3.15"],
)
def test_legacy_names_of_every_fashion(tmp_path: Path, names: list[Any]) -> None:
    model = read(legacy(tmp_path / "x.h5", lambda group: legacy_dense(group, names)))
    assert model.format == "hdf5"
    assert {name: array.shape for name, array in model.weights[("dense",)].items()} == {"kernel": (3, 5), "bias": (5,)}
    assert not model.notes
    assert not model.unmatched


def test_names_split_over_several_attributes(tmp_path: Path) -> None:
    def fill(group: Any) -> None:
        legacy_dense(group, ["dense/kernel:0", "dense/bias:0"])
        del group.attrs["weight_names"]
        group.attrs["weight_names0"], group.attrs["weight_names1"] = [b"dense/kernel:0"], [b"dense/bias:0"]

    model = read(legacy(tmp_path / "x.h5", fill))
    assert set(model.weights[("dense",)]) == {"kernel", "bias"}


def test_a_keras_2_sequential_config_may_be_a_bare_list(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": DENSE["config"]["layers"]}
    model = read(legacy(tmp_path / "x.h5", lambda g: legacy_dense(g, ["dense/kernel:0", "dense/bias:0"]), config))
    assert set(model.weights[("dense",)]) == {"kernel", "bias"}


def test_legacy_weights_without_a_model(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"], file.attrs["keras_version"] = [b"dense"], b"2.4.0"
        legacy_dense(file.create_group("dense"), ["dense/kernel:0", "dense/bias:0"])
    model = read(tmp_path / "x.h5")
    assert (model.keras_version, model.config) == ("2.4.0", None)
    assert set(model.weights[("dense",)]) == {"kernel", "bias"}


def test_keras_2_calls_a_depthwise_kernel_otherwise(tmp_path: Path) -> None:
    layer = {"class_name": "DepthwiseConv2D", "config": {"name": "dense", "kernel_size": [3, 2], "depth_multiplier": 4}}
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}

    def fill(group: Any) -> None:
        group.attrs["weight_names"] = ["dense/depthwise_kernel:0", "dense/bias:0"]
        group["dense/depthwise_kernel:0"], group["dense/bias:0"] = np.ones((3, 2, 5, 4), "f4"), np.ones(20, "f4")

    model = read(legacy(tmp_path / "x.h5", fill, config))
    assert {name: a.shape for name, a in model.weights[("dense",)].items()} == {"kernel": (3, 2, 5, 4), "bias": (20,)}


@pytest.mark.parametrize(
    "names",
    [np.array([1.5, 2.5]), 7, [b"../../model_weights/dense/x", b"/etc/passwd"], [b"", b"/"], [b"\xff\xfe", b"a"]],
)
def test_legacy_lists_of_the_wrong_kind_are_remarked(tmp_path: Path, names: Any) -> None:
    def fill(group: Any) -> None:
        legacy_dense(group, ["dense/kernel:0", "dense/bias:0"])
        group.attrs["weight_names"] = names

    model = read(legacy(tmp_path / "x.h5", fill))
    assert model.notes
    assert len(model.unmatched) == 2


def test_a_legacy_file_cut_at_every_length(tmp_path: Path) -> None:
    whole = legacy(tmp_path / "x.h5", lambda g: legacy_dense(g, ["dense/kernel:0", "dense/bias:0"])).read_bytes()
    for length in range(0, len(whole) - 1, 97):
        (tmp_path / "cut.h5").write_bytes(whole[:length])
        survive(tmp_path / "cut.h5")


# --- damage -----------------------------------------------------------------------------------------------------------


def survive(path: Path) -> bool:
    """Opens and reads everything; any exception but ours escapes. Whether it opened."""
    try:
        model = read(path)
        for array in [*(a for w in model.weights.values() for a in w.values()), *model.unmatched.values()]:
            got = array.read()
            assert (got.shape, got.dtype) == (array.shape, array.dtype)
    except CnnlensError as error:
        message = str(error)
    else:
        return True
    assert "\n" not in message
    return False


def test_a_flipped_bit_in_a_keras_file_never_changes_a_weight_unseen(tmp_path: Path) -> None:
    members = keras_members()
    seed = archive(tmp_path / "seed.keras", members).read_bytes()
    start = seed.index(members["model.weights.h5"])
    rng = random.Random(11)
    for _ in range(200):
        data = bytearray(seed)
        data[start + rng.randrange(len(members["model.weights.h5"]))] ^= 1 << rng.randrange(8)
        (tmp_path / "mutant.keras").write_bytes(data)
        with pytest.raises(FileRefusedError, match="checksum"):
            read(tmp_path / "mutant.keras")
