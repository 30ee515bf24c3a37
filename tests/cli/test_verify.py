"""``cnnlens verify``: what a file holds and would need to run is said in full, and nothing is run."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import save

import cnnlens
from cnnlens import sample
from cnnlens.cli.main import main
from cnnlens.opening.findings import examine, needs
from cnnlens.testing.networks import network
from tests.support.files_hostile_makers import archive
from tests.support.files_torch_hostile_makers import legacy, named, state, zipped

with zipfile.ZipFile(sample.MODEL) as _file:
    PARTS = {name: _file.read(name) for name in _file.namelist()}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def verified(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["verify", *arguments])
    said = capsys.readouterr()
    assert said.err == ""
    return code, said.out


def with_layers(path: str, *entries: dict[str, Any]) -> str:
    """The sample with more layers in front, of which nothing is computed here."""
    config = json.loads(PARTS["config.json"])
    config["config"]["layers"][1:1] = entries
    archive(Path(path), {**PARTS, "config.json": json.dumps(config).encode()})
    return path


def layer(kind: str, name: str, module: str | None = "keras.layers", /, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": name, **config}, "registered_name": None}


def function(name: str, module: str = "builtins") -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": "function"}


BYTECODE = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=\n", "defaults": None, "closure": None}}


def test_the_sample_is_safe_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = verified(capsys, str(sample.MODEL))
    assert code == 0
    assert said.splitlines()[1:] == [
        "  safe to run",
        f"  keras · Keras 3.15.1, 2026-11-21 · {sample.MODEL.stat().st_size:,} bytes · 333,526 parameters",
        f"  sha256 {cnnlens.open(sample.MODEL).source.sha256}",
    ]


def test_the_code_that_a_file_carries_is_named_in_verify_and_above_the_summary(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = with_layers("lam.keras", layer("Lambda", "centred", function=BYTECODE))
    code, said = verified(capsys, path)
    assert code == 1
    assert "  safe to view, not safe to run\n" in said
    assert "  code     centred: Python bytecode\n" in said
    assert main(["summary", path]) == 0
    assert "\nsafe to view, not to run: it holds or names Python bytecode ('centred')\n" in capsys.readouterr().out
    assert main(["summary", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["needs"] == [{"where": "centred", "what": "Python bytecode"}]
    assert main(["summary", str(sample.MODEL)]) == 0
    assert "safe to view" not in capsys.readouterr().out


NEEDS = {
    "bytecode of Keras 2": (layer("Lambda", "a", None, function=["4wE="], function_type="lambda"), "Python"),
    "a function of Keras 2": (layer("Lambda", "a", None, function="scale", module="mine"), "the function mine.scale"),
    "a class": (layer("Attend", "a", "mine.layers"), "the class mine.layers.Attend"),
    "a registered class": ({**layer("Attend", "a", None), "registered_name": "mine>Attend"}, "class mine>Attend"),
    "a class of Keras 2": (layer("Attend", "a", None), "the class Attend, none of Keras'"),
    "a function": (layer("Activation", "a", activation=function("double")), "the function double"),
    "a builtin": (layer("Activation", "a", activation=function("eval")), "the function eval"),
    "a module's function": (layer("Activation", "a", activation=function("system", "os")), "the function os.system"),
    "a function of Keras that fetches": (
        layer("Lambda", "a", function=function("get_file", "keras.utils")), "the function keras.utils.get_file",
    ),
    "a function of TensorFlow that writes": (layer("TFOpLambda", "a", None, function="io.write_file"), "io.write_file"),
    "a node of TensorFlow that writes": (
        layer("TensorFlowOpLayer", "a", None, node_def='{"op": "WriteFile"}'), "TensorFlow's operation WriteFile",
    ),
    "an activation by name": (layer("Dense", "a", units=3, activation="swish6"), "the activation swish6"),
    "a cell": (layer("RNN", "a", cell=layer("MyCell", "own", "mine")), "the class mine.MyCell"),
    "an initializer": (layer("Dense", "a", kernel_initializer=layer("Lecun", "b", "mine")), "the class mine.Lecun"),
    "a folder": (layer("TFSMLayer", "a", filepath="/srv/saved"), "the TensorFlow SavedModel in /srv/saved"),
    "a vocabulary": (layer("StringLookup", "a", vocabulary="/srv/words.txt"), "the file /srv/words.txt"),
    "a module of PyTorch": (layer("TorchModuleWrapper", "a", module="gAJ9"), "a pickled PyTorch module"),
}  # fmt: skip


@pytest.mark.parametrize("name", NEEDS)
def test_what_it_would_take_to_run_it(name: str) -> None:
    entry, what = NEEDS[name]
    report = examine(with_layers("a.keras", entry))
    assert report.verdict == "safe to view"
    assert [one for one in report.findings if what in one.what and one.where in ("a", "own")], report.findings
    assert len([one for one in report.findings if one.about in ("code", "file")]) == 1


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("torch.nn.functional", "relu", []),
        ("torch._C._nn", "gelu", []),
        ("torch", "ScriptObject", []),
        ("torch.nn.functional", "os.system", ["the function torch.nn.functional.os.system"]),
        ("torch.hub", "load", ["the function torch.hub.load"]),
    ],
)
def test_what_computes_is_pytorchs_own(tmp_path: Path, module: str, name: str, said: list[str]) -> None:
    """An encoder keeps its activation, a quantised module its packed arrays."""
    found = examine(zipped(tmp_path, state(act=named(module, name)))).findings
    assert [one.what for one in found] == said


HONEST = [
    layer("Activation", "a", activation=function("relu")),
    layer("Activation", "a", activation={"module": "keras.layers", "class_name": "ReLU", "config": {"max_value": 6}}),
    layer("Dense", "a", None, activation="linear", kernel_initializer={"class_name": "Zeros", "config": {}}),
    layer("StringLookup", "a", vocabulary=["red", "green"]),
    layer("TFOpLambda", "a", None, function="math.add"),
    layer("TensorFlowOpLayer", "a", None, node_def="{}"),
    layer("TensorFlowOpLayer", "a", None, node_def={"op": "ResizeBilinear"}),
    layer("TensorFlowOpLayer", "a", None, node_def="no JSON"),
    layer("Bidirectional", "a", layer=layer("LSTM", "b"), backward_layer=layer("LSTM", "c")),
    layer("GetItem", "a", "keras.src.ops.numpy"),
]


@pytest.mark.parametrize("entry", HONEST, ids=lambda entry: entry["class_name"])
def test_what_is_keras_own_is_nothing_to_say(entry: dict[str, Any]) -> None:
    assert needs(cnnlens.open(with_layers("a.keras", entry))) == []


@pytest.mark.parametrize("name", ["chain", "branches", "shared", "nested", "signal", "volume"])
def test_ordinary_networks_need_nothing(name: str) -> None:
    assert needs(network(name)) == []


def test_numbers_that_are_none_are_told_by_channel(capsys: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO(PARTS["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        kernel: Any = file["layers/conv2d_1/vars/0"]
        kernel[1, 2, 3, 7] = np.nan
        kernel[0, 2, 5, 7] = -np.inf
    archive(Path("nan.keras"), {**PARTS, "model.weights.h5": buffer.getvalue()})
    code, said = verified(capsys, "nan.keras")
    assert code == 1
    assert "safe to run, but look at this" in said
    assert "conv2d_1.kernel: 2 of 18,432 are not finite (1 NaN, 1 -inf), in output channel 7 of 64" in " ".join(
        said.split()
    )


def test_bytes_that_belong_to_nothing_are_counted(tmp_path: Path) -> None:
    whole = sample.MODEL.read_bytes()
    assert not examine(sample.MODEL).findings
    for name, data in {"behind": whole + b"eleven more", "in_front": b"PK\x03\x04_______" + whole}.items():
        (tmp_path / name).write_bytes(data)
        found = examine(tmp_path / name).findings
        assert [(one.about, one.what[:8]) for one in found] == [("bytes", "11 bytes")], (name, found)
    (tmp_path / "a.weights.h5").write_bytes(PARTS["model.weights.h5"] + b"eleven more")
    assert any(one.what.startswith("11 bytes behind the end") for one in examine(tmp_path / "a.weights.h5").findings)


def test_bytes_behind_pytorchs_pickles_are_counted(tmp_path: Path) -> None:
    (tmp_path / "old.pt").write_bytes(legacy(tmp_path, state()).read_bytes() + b"eleven more")
    assert [one.what[:15] for one in examine(tmp_path / "old.pt").findings] == ["11 bytes behind"]
    with zipfile.ZipFile(zipped(tmp_path, state())) as file:
        members = {name: file.read(name) for name in file.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    archive(tmp_path / "new.pt", {**members, pickled: members[pickled] + b"eleven more"})
    assert [one.what[:15] for one in examine(tmp_path / "new.pt").findings] == ["11 bytes behind"]


def test_what_the_config_implies_and_the_file_lacks() -> None:
    report = examine(with_layers("a.keras", layer("Conv2D", "stem", filters=3, kernel_size=[3, 3], use_bias=True)))
    assert [one.about for one in report.findings if "stem" in one.what] == ["config"]
    assert report.verdict == "safe to run"


class _Calls:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("called",))


def test_a_pickle_that_calls_is_named_and_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.pt").write_bytes(pickle.dumps(_Calls()))
    code, said = verified(capsys, "a.pt")
    assert code == 2
    assert "  cannot be read, not safe to run\n" in said
    assert "  code     pickle: the function builtins.print\n" in said


def test_a_torchscript_archive_is_a_program(tmp_path: Path) -> None:
    pickled = b"\x80\x02c__torch__\nNet\n)\x81}b."
    members = {"a/data.pkl": pickled, "a/code/__torch__.py": b"class Net(Module):\n", "a/constants.pkl": b"\x80\x02)."}
    found = examine(archive(tmp_path / "a.pt", members)).findings
    assert [(one.about, one.what) for one in found] == [("code", "a TorchScript program, whose code is in the file")]


def test_classes_that_a_pickle_names_are_told_from_data_and_from_pytorchs_own(tmp_path: Path) -> None:
    names = ["torch.nn.modules.conv Conv2d", "datetime datetime", "ultralytics.nn.tasks DetectionModel", "os system"]
    steps = b"".join(b"c" + name.replace(" ", "\n").encode() + b"\n0" for name in names)
    found = examine(zipped(tmp_path, b"\x80\x02" + steps + state()[2:])).findings
    assert [one.what for one in found if one.about == "code"] == [
        "the class ultralytics.nn.tasks.DetectionModel", "the function os.system",
    ]  # fmt: skip


def test_a_folder_is_looked_through_and_what_is_no_model_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    below = Path("models/below")
    below.mkdir(parents=True)
    (below / "a.safetensors").write_bytes(save({"conv.weight": np.zeros((5, 3, 2, 4), np.float32)}))
    (below / "page.pt").write_bytes(b"<!DOCTYPE html><html>")
    archive(Path("models/b.zip"), {"in/c.safetensors": (below / "a.safetensors").read_bytes()})
    for name in ("README.md", "b.txt"):
        (below / name).write_bytes(b"words\n")
    code, said = verified(capsys, "models")
    assert code == 2
    assert [line for line in said.splitlines() if line.startswith("models")] == [
        "models/b.zip::in/c.safetensors", "models/below/a.safetensors", "models/below/page.pt",
    ]  # fmt: skip
    assert said.endswith(
        "3 files: 2 safe to run, 1 cannot be read\nleft out, of kinds that cnnlens does not open: 2 times a text file\n"
    )
    code, said = verified(capsys, "models", "--json")
    found = json.loads(said)
    assert [one["verdict"] for one in found["files"]] == ["safe to run", "safe to run", "cannot be read"]
    assert sorted(Path(one["path"]).name for one in found["left_out"]) == ["README.md", "b.txt"]
    (below / "page.pt").unlink()
    assert verified(capsys, "models")[0] == 0


def test_a_folder_without_models_is_an_error_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("words").mkdir()
    Path("words/a.txt").write_bytes(b"words\n")
    assert main(["verify", "words"]) == 2
    assert capsys.readouterr().err == "cnnlens: words: no model file in it (1 files of other kinds); name a file\n"


def test_a_name_with_escapes_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    path = with_layers("a.keras", layer("Lambda", "\x1b[2J\u202ename", function=BYTECODE))
    assert "\x1b" not in verified(capsys, path)[1]
    assert main(["summary", path]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_every_chunk_of_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    cnnlens.record(
        sample.MODEL, sample.IMAGES, backend="reference", layers=["conv2d", "dense_1"], out="run.zarr", batch=4
    )
    code, said = verified(capsys, "run.zarr")
    assert code == 0
    assert "recording of 3 tensors of 10 inputs · cnnlens, reference" in said
    chunk = max((path for path in Path("run.zarr").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 4
    chunk.write_bytes(data)
    code, said = verified(capsys, "run.zarr")
    assert code == 2
    assert "  cannot be read\n" in said
    assert "its bytes are not those that were written" in " ".join(said.split())
