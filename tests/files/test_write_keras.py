"""What cnnlens writes as ``.keras`` is what Keras would have written: the same arrays, for cnnlens and for Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.errors import CnnlensError
from cnnlens.files import read
from cnnlens.files.keras.write import write_keras
from cnnlens.testing.networks import NETWORKS
from tests.support import SUPPORT
from tests.support.files_keras_models import KINDS
from tests.support.once import Files

h5py = pytest.importorskip("h5py")

# Keras cannot open its own file of a layer that two models share, nor does its config say what a custom layer holds.
NOT_LOADED_BY_KERAS = {"shared_between_models"}
REFUSED = {"custom_layer": "belongs to no layer", "subclassed": "lists no layers"}


@pytest.fixture(scope="session")
def originals(framework_files: Files) -> Path:
    def make(folder: Path) -> None:
        environment = {**os.environ, "KERAS_BACKEND": "numpy", "TF_CPP_MIN_LOG_LEVEL": "3"}
        script = SUPPORT / "files_keras_models.py"
        subprocess.run([sys.executable, str(script), str(folder)], check=True, env=environment, capture_output=True)

    return framework_files("keras-files", make)


@pytest.fixture(scope="session")
def rewritten(originals: Path, framework_files: Files) -> Path:
    """Every model written anew, and ``loaded.json``: what Keras says of each."""

    def make(folder: Path) -> None:
        for path in originals.glob("*.keras"):
            if path.stem in REFUSED:
                continue
            model = read(path)
            assert model.config is not None
            write_keras(folder / path.name, model.config, model.weights, keras_version=model.keras_version or "")
        environment = {**os.environ, "KERAS_BACKEND": "numpy", "TF_CPP_MIN_LOG_LEVEL": "3"}
        script = SUPPORT / "load_written_keras.py"
        command = [sys.executable, str(script), str(folder), str(originals)]
        done = subprocess.run(command, check=True, env=environment, capture_output=True)
        (folder / "loaded.json").write_bytes(done.stdout.splitlines()[-1])

    return framework_files("keras-rewritten", make)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in REFUSED])
def test_the_same_arrays_come_back(originals: Path, rewritten: Path, kind: str) -> None:
    before, after = read(originals / f"{kind}.keras"), read(rewritten / f"{kind}.keras")
    assert after.config == before.config
    assert not after.unmatched
    assert {path: list(arrays) for path, arrays in after.weights.items()} == {
        path: list(arrays) for path, arrays in before.weights.items()
    }
    for path, arrays in before.weights.items():
        for name, array in arrays.items():
            again = after.weights[path][name]
            assert (again.stored_dtype, again.shape) == (array.stored_dtype, array.shape), (path, name)
            assert again.read().tobytes() == array.read().tobytes(), (path, name)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {*REFUSED, *NOT_LOADED_BY_KERAS}])
def test_keras_loads_the_same_model(rewritten: Path, kind: str) -> None:
    assert json.loads((rewritten / "loaded.json").read_text())[kind] == "equal"


@pytest.mark.parametrize(("kind", "reason"), REFUSED.items())
def test_what_the_config_does_not_describe_is_refused(originals: Path, tmp_path: Path, kind: str, reason: str) -> None:
    model = read(originals / f"{kind}.keras")
    config = model.config or {"class_name": "Subclassed", "config": {}}
    with pytest.raises(CnnlensError, match=reason):
        write_keras(tmp_path / "x.keras", config, model.weights)
    assert not list(tmp_path.iterdir())


def _small() -> tuple[dict[str, Any], dict[tuple[str, ...], dict[str, np.ndarray[Any, Any]]]]:
    entry = {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"name": "d", "units": 3},
        "name": "d",
        "inbound_nodes": [],
    }
    config = {"class_name": "Functional", "config": {"name": "small", "layers": [entry]}}
    kernel, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(3, np.float32)
    return config, {("d",): {"kernel": kernel, "bias": bias}}


def test_members_are_stored_and_dated(tmp_path: Path) -> None:
    config, arrays = _small()
    path = tmp_path / "small.keras"
    write_keras(path, config, arrays, date="2026-01-31@12:00:00")
    with zipfile.ZipFile(path) as archive:
        assert {info.filename: info.compress_type for info in archive.infolist()} == dict.fromkeys(
            ("metadata.json", "config.json", "model.weights.h5"), zipfile.ZIP_STORED
        )
        assert json.loads(archive.read("metadata.json")) == {
            "keras_version": "3.15.1",
            "date_saved": "2026-01-31@12:00:00",
        }
        assert json.loads(archive.read("config.json")) == config
    again = tmp_path / "again.keras"
    write_keras(again, config, arrays, date="2026-01-31@12:00:00")
    assert again.read_bytes() == path.read_bytes()


def test_bfloat16_keeps_its_bits(originals: Path, rewritten: Path) -> None:
    found = {
        array.stored_dtype
        for arrays in read(rewritten / "bfloat16.keras").weights.values()
        for array in arrays.values()
    }
    assert "bfloat16" in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays[("d",)].pop("bias"), r"layer 'd' \(Dense\) has no array for its 'bias'"),
        (lambda arrays: arrays.update({("e",): {"kernel": np.zeros(2)}}), "the array 'kernel' of layer 'e' belongs to"),
    ],
)
def test_arrays_that_do_not_fit_leave_the_older_file(tmp_path: Path, change: Any, message: str) -> None:
    config, arrays = _small()
    path = tmp_path / "small.keras"
    path.write_bytes(b"older")
    change(arrays)
    with pytest.raises(CnnlensError, match=message):
        write_keras(path, config, arrays)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["small.keras"]


def test_an_array_that_cannot_be_read_leaves_the_older_file(tmp_path: Path) -> None:
    class Damaged:
        stored_dtype = "float32"

        def read(self) -> np.ndarray[Any, Any]:
            raise CnnlensError("damaged")

    config, arrays = _small()
    path = tmp_path / "small.keras"
    path.write_bytes(b"older")
    broken: Mapping[tuple[str, ...], Mapping[str, Any]] = {("d",): {**arrays["d",], "bias": Damaged()}}
    with pytest.raises(CnnlensError, match="damaged"):
        write_keras(path, config, broken)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["small.keras"]


def test_without_h5py_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    config, arrays = _small()
    with pytest.raises(CnnlensError, match="pip install h5py"):
        write_keras(tmp_path / "small.keras", config, arrays)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_made_in_memory_are_written(tmp_path: Path, name: str) -> None:
    from cnnlens.testing.networks import network

    source = network(name).source
    write_keras(tmp_path / "x.keras", source.config, source.weights)  # type: ignore[attr-defined]
    again = read(tmp_path / "x.keras")
    for path, arrays in source.weights.items():  # type: ignore[attr-defined]
        for role, array in arrays.items():
            np.testing.assert_array_equal(again.weights[path][role].read(), array.read(), strict=True)
