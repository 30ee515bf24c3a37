"""Every array of every kind of file equals, bit for bit, what the installed Keras loads from it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.files import ModelFile, dequantise, read
from tests.support import SHARED, SUPPORT
from tests.support.files_keras_models import CONTAINERS, KINDS
from tests.support.once import Files

DATA = SHARED / "data"
CASES = [(kind, container) for kind in KINDS for container in CONTAINERS]


@pytest.fixture(scope="session")
def saved(framework_files: Files) -> Path:
    """The folder with all models, made once a session."""

    def make(folder: Path) -> None:
        script = SUPPORT / "files_keras_models.py"
        # The NumPy backend saves and loads as the others do, and compiles nothing.
        environment = {**os.environ, "KERAS_BACKEND": "numpy", "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([sys.executable, str(script), str(folder)], check=True, env=environment, capture_output=True)

    return framework_files("keras-files", make)


@functools.cache
def manifest(folder: Path) -> dict[str, dict[str, str]]:
    return json.loads((folder / "manifest.json").read_text())


def case(folder: Path, kind: str, container: str) -> tuple[Path, dict[str, np.ndarray]]:
    """The file, and what Keras makes of it: ``{"layer/path|variable": array}``."""
    entry = manifest(folder)[kind + container]
    if "not saved" in entry:
        pytest.skip(f"Keras cannot save it: {entry['not saved']}")
    with np.load(folder / f"{kind}{container}.npz") as truth:
        return folder / entry["path"], {key.replace("\\", "/"): truth[key] for key in truth.files}


def flat(model: ModelFile) -> dict[str, np.ndarray]:
    return {
        "/".join(path) + "|" + name: array.read()
        for path, arrays in model.weights.items()
        for name, array in arrays.items()
    }


def opened(folder: Path, kind: str, container: str, path: Path) -> ModelFile:
    config: dict[str, Any] = json.loads((folder / f"{kind}.json").read_text())
    return read(path, config=config or None) if container.startswith(".weights") else read(path)


def same(mine: np.ndarray, theirs: np.ndarray) -> bool:
    return mine.dtype == theirs.dtype and mine.shape == theirs.shape and mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(("kind", "container"), CASES)
def test_every_array_equals_what_keras_loads(saved: Path, kind: str, container: str) -> None:
    path, truth = case(saved, kind, container)
    model = opened(saved, kind, container, path)
    mine = flat(model)
    if kind == "subclassed":
        # No config, so layers go by the groups in the file: here only the arrays and their number are compared.
        assert sorted(a.tobytes() for a in mine.values()) == sorted(a.tobytes() for a in truth.values())
        return
    if kind == "custom_layer":
        # The class is not known, so its arrays are numbered in Keras' order: trainable first.
        for number, name in enumerate(("left", "right")):
            mine.setdefault(f"two_matrices|{name}", mine.pop(f"two_matrices|var{number}", np.empty(0)))
        # A legacy file knows a layer inside another by its name, not by the attribute.
        mine = {key.replace("/dense_1|", "/inside|") if container == ".h5" else key: mine[key] for key in mine}
    stored = {
        key: array
        for key, array in truth.items()
        # A Keras 3 file holds LoRA kernels merged; a legacy one holds no second copy of the normalised kernel.
        if not (key.split("|")[1].startswith("lora_") and key not in mine and container != ".h5")
        and not (key.endswith("|layer_kernel") and container == ".h5")
    }
    assert set(mine) == set(stored)
    assert [key for key in stored if not same(mine[key], stored[key])] == []
    assert not model.unmatched


@pytest.mark.parametrize("container", CONTAINERS)
def test_more_than_twenty_kinds_were_compared_in_each_container(saved: Path, container: str) -> None:
    kinds = [entry for entry in manifest(saved).values() if entry.get("container") == container]
    assert sum("not saved" not in entry and "not loaded" not in entry for entry in kinds) > 20


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("container", [".weights.h5", ".weights.json"])
def test_weights_without_a_config_are_all_there(saved: Path, kind: str, container: str) -> None:
    path, truth = case(saved, kind, container)
    with_config = opened(saved, kind, container, path)
    without = read(path)
    assert without.config is None
    assert any("weights only" in note for note in without.notes)
    # A layer that two models share is stored once, and without a config nobody knows of the second.
    expected = {array.read().tobytes() for arrays in with_config.weights.values() for array in arrays.values()}
    assert {array.tobytes() for array in flat(without).values()} == expected
    assert not without.unmatched
    assert truth


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_honest_files_need_no_remarks(saved: Path, kind: str) -> None:
    path, _ = case(saved, kind, ".keras")
    model = read(path)
    expected = {"shared_between_models": ["layer 'sub/cross' is stored as 'cross', which it shares its arrays with"]}
    assert list(model.notes) == expected.get(kind, [])
    assert (model.format, model.framework) == ("keras", "keras")
    assert model.keras_version == manifest(saved)["versions"]["keras"]


def test_an_array_is_a_read_only_view_on_the_file(saved: Path) -> None:
    path, _ = case(saved, "sequential", ".keras")
    kernel = read(path).weights[("stem",)]["kernel"]
    first, second = kernel.read(), kernel.read()
    assert not first.flags.writeable
    assert not first.flags.owndata
    assert first.ctypes.data == second.ctypes.data
    assert kernel.shape == (3, 2, 3, 4)
    assert kernel.nbytes == first.nbytes == 3 * 2 * 3 * 4 * 4
    assert kernel.stored_dtype == "float32"
    assert kernel.place == "model.weights.h5: layers/conv2d/vars/0"


def test_arrays_outlive_the_model_file(saved: Path) -> None:
    path, truth = case(saved, "sequential", ".keras")
    kernel = read(path).weights[("stem",)]["kernel"].read()
    assert same(kernel, truth["stem|kernel"])


def test_bfloat16_is_widened_exactly(saved: Path) -> None:
    path, truth = case(saved, "bfloat16", ".keras")
    kernel = read(path).weights[("conv2d",)]["kernel"]
    assert (kernel.stored_dtype, kernel.dtype) == ("bfloat16", np.dtype(np.float32))
    assert same(kernel.read(), truth["conv2d|kernel"])


def test_the_digest_is_that_of_the_file(saved: Path) -> None:
    import hashlib

    path, _ = case(saved, "sequential", ".keras")
    model = read(path)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.size == path.stat().st_size
    model.verify()


@pytest.mark.parametrize("container", ["directory", ".weights.json"])
def test_the_digest_of_several_files_is_that_of_their_list(saved: Path, container: str) -> None:
    import hashlib

    path, _ = case(saved, "sequential", container)
    files = path.glob("*.*") if path.is_dir() else path.parent.glob("sequential_0*.weights.h5")
    named = sorted([*files, *([] if path.is_dir() else [path])], key=lambda file: file.name)
    lines = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in named)
    assert read(path).sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_int8_stands_for_the_kernel_before(saved: Path) -> None:
    path, _ = case(saved, "int8", ".keras")
    model = read(path)
    assert model.config is not None
    config = next(e["config"] for e in model.config["config"]["layers"] if e["class_name"] == "Dense")
    weights = model.weights[(config["name"],)]
    kernel = dequantise(weights, config)
    scale, q = weights["kernel_scale"].read(), weights["kernel"].read()
    assert (kernel.shape, kernel.dtype) == ((6, 5), np.float32)
    np.testing.assert_array_equal(np.round(kernel * scale), q)
    # Each column is scaled so that its largest element becomes 127.
    np.testing.assert_allclose(np.abs(q).max(axis=0), 127)


def test_int4_stands_for_what_keras_unpacks(saved: Path) -> None:
    path, _ = case(saved, "int4", ".keras")
    model = read(path)
    assert model.config is not None
    configs = [e["config"] for e in model.config["config"]["layers"] if e["class_name"] == "Dense"]
    for config, shape in zip(configs, [(6, 5), (5, 7)], strict=True):
        weights = {name: array.read() for name, array in model.weights[(config["name"],)].items()}
        expected = np.empty(shape, np.float32)
        for row in range(shape[0]):
            for column in range(shape[1]):
                byte = int(weights["kernel"][row, column // 2]) & 0xFF
                nibble = byte & 15 if column % 2 == 0 else byte >> 4
                number = nibble - 16 if nibble > 7 else nibble
                group = int(weights["g_idx"][row])
                zero, scale = weights["kernel_zero"][group, column], weights["kernel_scale"][group, column]
                expected[row, column] = (np.float32(number) - np.float32(zero)) * np.float32(scale)
        np.testing.assert_array_equal(dequantise(model.weights[(config["name"],)], config), expected)


# --- files of other Keras versions, where they are at hand ----------------------------------------------------------

TRUTHS = sorted(DATA.glob("keras_files/*/*.truth.npz"))


@pytest.mark.skipif(not TRUTHS, reason="../shared/data/keras_files is not here")
@pytest.mark.parametrize(
    "truth_path", TRUTHS, ids=lambda path: f"{path.parent.name}-{path.name.removesuffix('.truth.npz')}"
)
def test_files_of_older_keras_versions(truth_path: Path) -> None:
    model = read(truth_path.with_name(truth_path.name.removesuffix(".truth.npz")))
    with np.load(truth_path) as file:
        truth = {key: file[key] for key in file.files}
    order = json.loads(str(truth.pop("__order__")))
    left = {path: dict(arrays) for path, arrays in model.weights.items()}
    if "subclassed" in truth_path.name:
        # Names are not in the file: each layer's arrays must be some group's.
        groups = [sorted(a.read().tobytes() for a in arrays.values()) for arrays in left.values()]
        for name, _, count in order:
            assert sorted(truth[f"{name}|{at}"].tobytes() for at in range(count)) in groups
        return
    for name, kind, count in order:
        path = tuple(name.split("/"))
        mine = [
            array.read()
            for key in [key for key in left if key[: len(path)] == path]
            for variable, array in left.pop(key).items()
            if variable != "layer_kernel"
        ]
        theirs = [truth[f"{name}|{at}"] for at in range(count)]
        assert len(mine) == count
        if kind == "SpectralNormalization":
            # Keras lists vector_u between the inner layer's kernel and bias.
            mine, theirs = (sorted(arrays, key=lambda array: array.tobytes()) for arrays in (mine, theirs))
        for one, other in zip(mine, theirs, strict=True):
            assert one.shape == other.shape
            np.testing.assert_array_equal(one, other, strict=one.dtype != np.float16)
    assert not left
    assert not model.unmatched


@pytest.mark.skipif(not TRUTHS, reason="../shared/data/keras_files is not here")
@pytest.mark.parametrize("version", ["keras305", "tf213"])
def test_a_layer_of_two_models_is_found_in_the_one_that_stores_it(version: str) -> None:
    model = read(DATA / "keras_files" / version / "shared_cross.keras")
    np.testing.assert_array_equal(
        model.weights[("sub", "cross")]["kernel"].read(), model.weights[("cross",)]["kernel"].read()
    )
    assert any("shares its arrays" in note for note in model.notes)


@pytest.mark.skipif(not TRUTHS, reason="../shared/data/keras_files is not here")
def test_a_file_that_keras_3_0_broke_off_is_read_as_far_as_it_goes() -> None:
    model = read(DATA / "keras_files" / "keras305" / "wrappers.h5")
    assert any("group is missing" in note for note in model.notes)
    # Whose "kernel" it is, forward or backward, the file does not say: nobody gets it.
    assert not any(path[0] == "bi" for path in model.weights)
    assert any("bi/kernel" in place for place in model.unmatched)


@pytest.mark.skipif(not DATA.exists(), reason="../shared is not here")
def test_somebody_elses_model() -> None:
    model = read(DATA / "best-cnn-model.keras")
    kernel = model.weights[("conv2d",)]["kernel"].read()
    assert kernel.shape == (3, 3, 1, 32)
    assert (model.keras_version, kernel.dtype) == ("3.8.0", np.float32)
    assert np.float32(kernel.mean(dtype=np.float64)) == pytest.approx(-0.017617775, rel=1e-6)
    assert list(model.weights) == [("conv2d",), ("conv2d_1",), ("dense",), ("dense_1",)]
    assert not model.notes
    assert not model.unmatched
