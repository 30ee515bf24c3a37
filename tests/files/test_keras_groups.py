"""What the groups of a Keras file tell: whose arrays they are, of what kind of layer, and what is no weight at all."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

import cnnlens
from cnnlens.files.keras.kinds import guess_kind
from cnnlens.files.keras.write import write_keras
from cnnlens.testing.networks import NETWORKS


def numbered(path: Path, groups: dict[str, list[tuple[int, ...]]], names: Mapping[str, str] | None = None) -> Path:
    """A `.weights.h5` of a group a layer, each an array of random numbers for each shape, with the layers' names."""
    drawn = np.random.default_rng(7)
    with h5py.File(path, "w") as file:
        for group, shapes in groups.items():
            own = file.create_group(group).create_group("vars")
            if names and group in names:
                own.attrs["name"] = names[group]
            for index, shape in enumerate(shapes):
                own.create_dataset(str(index), data=drawn.normal(size=shape).astype(np.float32))
    return path


LAYERS = {
    "layers/conv2d": [(3, 2, 4, 5), (5,)],
    "layers/conv2d_transpose": [(3, 2, 7, 7), (7,)],
    "layers/dense": [(6, 3), (3,)],
    "optimizer": [(3, 2, 4, 5)],
    "metrics/mean": [()],
}
NAMES = {"layers/conv2d": "first", "layers/conv2d_transpose": "up", "layers/dense": "head"}


def test_names_of_groups_that_windows_wrote_are_paths(tmp_path: Path) -> None:
    usual = cnnlens.open(numbered(tmp_path / "usual.weights.h5", LAYERS, NAMES))
    windows = [{key.replace("/", "\\"): value for key, value in one.items()} for one in (LAYERS, NAMES)]
    other = cnnlens.open(numbered(tmp_path / "windows.weights.h5", *windows))
    assert [(layer.name, layer.kind) for layer in usual.layers] == [
        ("layers/first", "Conv2D"), ("layers/up", "Conv2DTranspose"), ("layers/head", "Dense")
    ]  # fmt: skip
    assert sorted((layer.name, layer.kind) for layer in other.layers) == sorted((x.name, x.kind) for x in usual.layers)
    for layer in usual.layers:
        for name, array in layer.weights.items():
            np.testing.assert_array_equal(other[layer.name].weights[name], array)


def test_a_model_that_windows_wrote_has_its_arrays(tmp_path: Path) -> None:
    config, shapes = NETWORKS["chain"]()
    arrays = {(name,): {role: np.ones(shape, np.float32) for role, shape in of.items()} for name, of in shapes.items()}
    write_keras(tmp_path / "usual.keras", config, arrays)
    with zipfile.ZipFile(tmp_path / "usual.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "usual.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(tmp_path / "usual.h5") as file, h5py.File(tmp_path / "windows.h5", "w") as made:
        for name, group in file["layers"].items():
            file.copy(group, made, f"layers\\{name}")
    members["model.weights.h5"] = (tmp_path / "windows.h5").read_bytes()
    with zipfile.ZipFile(tmp_path / "windows.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    usual, other = (cnnlens.open(tmp_path / name) for name in ("usual.keras", "windows.keras"))
    assert other.parameters == usual.parameters > 0
    assert other.notes == usual.notes


def test_what_training_keeps_is_no_remark(tmp_path: Path) -> None:
    network = cnnlens.open(numbered(tmp_path / "trained.weights.h5", LAYERS, NAMES))
    assert len(network.layers) == 3
    assert not any("metric" in note or "belong to no" in note for note in network.notes)


def test_what_training_keeps_of_a_model_in_the_model_is_counted(tmp_path: Path) -> None:
    inside = {"layers/model/layers/conv2d": [(3, 2, 4, 5), (5,)], "layers/model/optimizer": [(), (3, 2, 4, 5)]}
    network = cnnlens.open(numbered(tmp_path / "trained.weights.h5", {**LAYERS, **inside}, NAMES))
    assert sorted(layer.name for layer in network.layers) == [
        "layers/first", "layers/head", "layers/model/layers/conv2d", "layers/up",
    ]  # fmt: skip
    assert "2 arrays of the optimizers and metrics of models in the model are left out" in network.notes


def test_a_transposed_convolution_is_told_by_its_group_or_bias_or_else_possible() -> None:
    assert guess_kind(("up",), {"kernel": (3, 2, 4, 6), "bias": (4,)}) == ("Conv2DTranspose", False)
    assert guess_kind(("plain",), {"kernel": (3, 2, 4, 6), "bias": (6,)}) == ("Conv2D", False)
    assert guess_kind(("even",), {"kernel": (3, 2, 5, 5), "bias": (5,)}) == ("Conv2D", True)
    assert guess_kind(("bare",), {"kernel": (2, 3, 8)}) == ("Conv1D", True)
    assert guess_kind(("up1",), {"kernel": (3, 2, 5, 5)}, ("layers", "conv2d_transpose_1")) == (
        "Conv2DTranspose",
        False,
    )
    assert guess_kind(("head",), {"kernel": (5, 5), "bias": (5,)}) == ("Dense", False)


def test_a_legacy_file_says_which_convolutions_may_be_transposed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = ["up", "down"]
        for name, shape in (("up", (3, 2, 5, 5)), ("down", (3, 2, 5, 6))):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0", f"{name}/bias:0"]
            group[f"{name}/kernel:0"] = np.ones(shape, np.float32)
            group[f"{name}/bias:0"] = np.ones(shape[-1], np.float32)
    network = cnnlens.open(tmp_path / "old.h5")
    assert [layer.kind for layer in network.layers] == ["Conv2D", "Conv2D"]
    (note,) = [note for note in network.notes if "may be a transposed one" in note]
    assert note.endswith(": up")
