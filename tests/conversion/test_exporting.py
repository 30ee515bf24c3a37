"""Arrays leave a model as NumPy and safetensors read them: every one, in the layout asked for, or nothing at all."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cnnlens
from cnnlens import sample
from cnnlens.cli.main import main
from cnnlens.conversion import exporting
from cnnlens.conversion.exporting import export
from cnnlens.errors import CnnlensError
from cnnlens.files.torch.write_safetensors import Tensor, write_safetensors
from cnnlens.testing.networks import network


@pytest.mark.parametrize("name", ["chain", "nested", "shared"])
@pytest.mark.parametrize("layout", exporting.LAYOUTS)
def test_every_array_is_written_in_the_layout_asked_for(tmp_path: Path, name: str, layout: str) -> None:
    net = network(name)
    written = export(net, tmp_path / "all.npz", layout=layout)
    found = np.load(tmp_path / "all.npz")
    assert sorted(found.files) == sorted(one.name for one in written.arrays)
    weights = [weight for layer in net.layers for weight in layer.stored.values()]
    assert len(weights) == len(written.arrays)
    for one, weight in zip(written.arrays, weights, strict=True):
        assert found[one.name].shape == one.shape
        if not weight.is_kernel:
            continue
        kernel = weight.kernel()
        wanted = {"stored": weight.read(), "canonical": kernel.array}.get(layout)
        np.testing.assert_array_equal(found[one.name], kernel.to(layout) if wanted is None else wanted)


@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_nothing_is_called_packed_that_is_not(tmp_path: Path, framework: str) -> None:
    assert export(network("chain", framework), tmp_path / "a.npz").notes == ()


def test_the_three_kinds_of_files_hold_the_same(tmp_path: Path) -> None:
    net = cnnlens.open(sample.MODEL)
    for name in ("a.npz", "a.safetensors", "folder"):
        written = export(net, tmp_path / name, [net["conv2d"], net["dense"]], "torch")
        assert [one.name for one in written.arrays] == ["conv2d.weight", "conv2d.bias", "dense.weight", "dense.bias"]
    packed, tensors = np.load(tmp_path / "a.npz"), load_file(tmp_path / "a.safetensors")
    index = json.loads((tmp_path / "folder" / "index.json").read_text())
    for one in index["arrays"]:
        alone = np.load(tmp_path / "folder" / one["file"])
        np.testing.assert_array_equal(alone, packed[one["name"]])
        np.testing.assert_array_equal(alone, tensors[one["name"]])
        assert [list(alone.shape), alone.dtype.name] == [one["shape"], one["dtype"]]
    np.testing.assert_array_equal(packed["conv2d.weight"], net["conv2d"].kernel.to("torch"))
    first = (tmp_path / "a.npz").read_bytes()
    export(net, tmp_path / "a.npz", [net["conv2d"], net["dense"]], "torch")
    assert (tmp_path / "a.npz").read_bytes() == first


def test_halves_stay_halves_where_the_format_has_them(tmp_path: Path) -> None:
    numbers = np.array([[1.5, -2.25, 3.0]], np.float32)
    write_safetensors(
        tmp_path / "half.safetensors",
        {
            "a.weight": Tensor("bfloat16", (1, 3), lambda: numbers),
            "b.weight": Tensor("float16", (1, 3), lambda: numbers.astype(np.float16)),
        },
    )
    net = cnnlens.open(tmp_path / "half.safetensors")
    assert [one.dtype for one in export(net, tmp_path / "out.safetensors").arrays] == ["bfloat16", "float16"]
    assert not export(net, tmp_path / "out.safetensors").notes
    again = cnnlens.open(tmp_path / "out.safetensors")
    assert [again[name].stored["weight"].stored.stored_dtype for name in "ab"] == ["bfloat16", "float16"]
    np.testing.assert_array_equal(again["a"].weights["weight"], numbers)
    written = export(net, tmp_path / "out.npz")
    assert written.notes == ("1 of 2 arrays are bfloat16 in the file, and float32 here, as NumPy can",)
    assert [np.load(tmp_path / "out.npz")[one.name].dtype.name for one in written.arrays] == ["float32", "float16"]


def test_names_of_strangers_stay_inside_of_the_archive_and_the_folder(tmp_path: Path) -> None:
    names = ["../../up.weight", "a/b.weight", "a.b.weight", "A.b.weight", "\x1b[0m.weight"]
    arrays = {name: np.full((2, 3), index, np.float32) for index, name in enumerate(names)}
    save_file(arrays, tmp_path / "odd.safetensors")
    net = cnnlens.open(tmp_path / "odd.safetensors")
    for target in ("odd.npz", "odd"):
        assert len({one.name for one in export(net, tmp_path / target).arrays}) == len(names)
    with zipfile.ZipFile(tmp_path / "odd.npz") as archive:
        members = archive.namelist()
    assert len(set(members)) == len(names)
    assert all(".." not in member.split("/") and "\x1b" not in member for member in members)
    files = sorted(os.listdir(tmp_path / "odd"))
    assert len({name.lower() for name in files}) == len(names) + 1
    assert sorted(float(np.load(tmp_path / "odd" / name).max()) for name in files if name.endswith(".npy")) == [
        0.0, 1.0, 2.0, 3.0, 4.0
    ]  # fmt: skip


def refused(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    before = sorted(os.listdir("."))
    assert main(["export", *arguments]) == 2
    assert sorted(os.listdir(".")) == before
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    return captured.err


def test_the_command_says_what_it_wrote_and_leaves_nothing_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = str(sample.MODEL)
    assert main(["export", model, "--layers", "conv2d,dense_1", "--json", "-o", "out.npz"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(one["layer"], one["weight"], one["axes"]) for one in said["arrays"]] == [
        ("conv2d", "kernel", "HWIO"), ("conv2d", "bias", "O"), ("dense_1", "kernel", "IO"), ("dense_1", "bias", "O")
    ]  # fmt: skip
    assert "wrote 8 arrays to fashion_mnist_cnn-weights.npz" in capsys_of(capsys, ["export", model])
    assert "no layer is named 'conf2d'; did you mean" in refused(model, "--layers", "conf2d", capsys=capsys)
    assert "end the name in one of the two, or give it no ending" in refused(model, "-o", "out.txt", capsys=capsys)
    assert "have no array" in refused(model, "--layers", "flatten", "-o", "none.npz", capsys=capsys)
    assert "does not exist" in refused(model, "-o", "nowhere/out", capsys=capsys)
    assert "something already" in refused(model, "-o", ".", capsys=capsys)

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", broken)
    assert "No space left" in refused(model, "-o", "folder", capsys=capsys)


def capsys_of(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_a_layout_that_a_framework_has_not_is_refused_by_the_layer(tmp_path: Path) -> None:
    with pytest.raises(CnnlensError, match=r"leave that layer out .* --layout canonical"):
        export(conv_lstm(), tmp_path / "out.npz", layout="torch")
    assert not list(tmp_path.iterdir())


def conv_lstm() -> cnnlens.Network:
    from cnnlens.network.graph import Layer
    from cnnlens.network.weight import Weight

    class Stored:
        shape, dtype, stored_dtype, place = (2, 2, 3, 8), np.dtype(np.float32), "float32", "memory"

        def read(self) -> Any:
            return np.zeros(self.shape, self.dtype)

    net = network("chain")
    weight = Weight("kernel", "ConvLSTM2D", "kernel", Stored(), cnnlens.layout.Geometry())
    return cnnlens.Network(
        net.name, net.kind, net.source, (Layer("moving", "ConvLSTM2D", {}, stored={"kernel": weight}),)
    )
