"""``cnnlens convert``: what is written runs in the other framework, holds the original's numbers, and was proved."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from benchmarks.roundtrip import lost_arrays, there_and_back
from cnnlens import conversion, sample
from cnnlens.cli.main import main
from cnnlens.conversion import converter
from cnnlens.errors import CnnlensError
from tests.support.random_networks import random_network

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras runs what is converted to it")


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def test_a_keras_file_becomes_a_pytorch_file_that_computes_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shoes.py"
    assert main(["convert", str(sample.MODEL), "-o", str(path)]) == 0
    said = capsys.readouterr().out
    assert "8 arrays hold the original's numbers bit for bit" in said
    assert f"wrote {path}, {path.with_suffix('.safetensors')}" in said

    net = cnnlens.open(sample.MODEL)
    x = np.random.default_rng(2).random((3, 1, 28, 28), np.float32)
    wanted = net.run(x, [net.outputs[0].name])[net.outputs[0].name]
    module = _module(path)
    with torch.inference_mode():
        found = module(torch.from_numpy(x)).numpy()
        exact = module.double()(torch.from_numpy(x).double()).numpy()
    assert np.abs(exact - wanted).max() < 1e-13
    assert np.abs(found - wanted).max() < 1e-6
    kernel = module.conv2d.weight.detach().numpy().astype(np.float32)
    assert np.array_equal(kernel, net["conv2d"].kernel.to("torch"))


def test_json_has_the_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(sample.MODEL), "--to", "pytorch", "-o", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["files"] == [str(tmp_path / f"fashion_mnist_cnn{suffix}") for suffix in (".py", ".safetensors")]
    assert facts["proof"]["agree"] is True
    assert facts["proof"]["outputs"][0]["apart"] < facts["proof"]["limit"]
    assert {run["backend"] for check in facts["proof"]["checks"] for run in check["runs"]} == {"reference", "pytorch"}


@pytest.mark.parametrize("seed", [1, 4, 7, 16])
def test_random_networks_come_back_bit_for_bit(tmp_path: Path, seed: int) -> None:
    network = random_network(seed)
    there, back = there_and_back(network, tmp_path)
    assert list(lost_arrays(network, back.result)) == []
    assert there.twins.agree
    assert back.twins.agree
    # The framework itself ran it, not the reference alone.
    assert [run.backend for run in there.twins.checks[1].runs] == ["pytorch"]
    assert [run.backend.partition("-")[0] for run in back.twins.checks[1].runs] == ["keras"]
    # The files that were written are what is named, not those of the folder where they were made.
    for made, suffix in ((there, ".safetensors"), (back, ".keras")):
        assert Path(made.result.source.path) == made.files[-1].with_suffix(suffix)
        assert made.files[-1].exists()
        assert made.twins.checks[1].network is made.result


@pytest.mark.parametrize("after", [["pytorch"], []])
def test_a_backend_whose_arithmetic_is_off_is_said_and_the_next_one_asked(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: list[str]
) -> None:
    plant.write_text("conv2d_1:scaled")
    monkeypatch.setattr(converter, "_installed", lambda framework: ["planted-pytorch", *after])  # their order is fixed
    if not after:
        with pytest.raises(CnnlensError, match=r"no backend here runs the result right: in float64 both are one model"):
            cnnlens.convert(sample.MODEL, "torch", tmp_path / "shoes.py")
        assert not list(tmp_path.glob("shoes*"))
        return
    made = cnnlens.convert(sample.MODEL, "torch", tmp_path / "shoes.py")
    assert made.twins.agree
    assert [run.backend for run in made.twins.checks[1].runs] == ["pytorch"]
    (note,) = [one for one in made.notes if "planted-pytorch" in one]
    assert "in float64 both are one model" in note
    assert note.endswith("pytorch proved it instead")


# -- numbers that the target holds and the original does not ----------------------------------------------------------


class _Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = torch.nn.LSTM(5, 7, batch_first=True)
        self.head = torch.nn.Linear(7, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.steps(x)[0][:, -1])


@pytest.mark.parametrize(
    ("make", "example", "what"),
    [
        (_Recurrent, (2, 6, 5), "the sum of the two biases of layer 'steps' (LSTM)"),
        (
            lambda: torch.nn.Sequential(
                torch.nn.Conv2d(3, 4, 3), torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            ),
            (2, 3, 8, 10),
            "the shares of neighbours in layer '1' (Upsample)",
        ),
    ],
)
def test_what_keras_can_only_hold_rounded_is_proved_before_it_is_rounded(
    tmp_path: Path, make: Any, example: tuple[int, ...], what: str
) -> None:
    torch.manual_seed(1)
    made = conversion.convert(make(), "keras", tmp_path / "model.keras", example=torch.zeros(example))
    assert any(what in note for note in made.notes)
    apart = made.twins.outputs[0].apart
    assert apart is not None
    assert 2.0**-40 < apart < 2.0**-20
    assert all(check.agree for check in made.twins.checks)


def test_a_mistake_beside_a_rounding_is_still_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlens.conversion import to_keras

    right = to_keras.model

    def mistaken(network: cnnlens.Network, exact: bool = False) -> Any:
        made = right(network, exact)
        for arrays in made.weights.values():
            for name, array in arrays.items():
                if name == "cell/recurrent_kernel":
                    arrays[name] = array * array.dtype.type(1.0001)  # type: ignore[index]
        return made

    monkeypatch.setattr(to_keras, "model", mistaken)
    with pytest.raises(cnnlens.CnnlensError, match="nothing was written"):
        conversion.convert(_Recurrent(), "keras", tmp_path / "model.keras", example=torch.zeros(2, 6, 5))
    assert list(tmp_path.iterdir()) == []


# -- weights into a model that is there ------------------------------------------------------------------------------


class _Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.second = torch.nn.Conv2d(4, 4, 3)
        self.head = torch.nn.Linear(4 * 3 * 4, 5)

    def forward(self, x: Any) -> Any:
        return self.head(torch.flatten(torch.relu(self.second(torch.relu(self.first(x)))), 1))


_CODE = """
import torch
class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.b = torch.nn.Conv2d(4, 4, 3)
        self.c = torch.nn.Linear(48, 5)
    def forward(self, x):
        return self.c(torch.flatten(torch.relu(self.b(torch.relu(self.a(x)))), 1))
"""


def test_weights_go_into_a_model_that_is_there_and_the_two_are_held_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = torch.zeros(2, 3, 5, 6)
    torch.manual_seed(3)
    trained, other = _Small(), _Small()
    conversion.convert(other, "keras", "other.keras", example=example)
    exported = torch.export.export(trained.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(exported, "trained.pt2")
    before = Path("other.keras").read_bytes()

    assert main(["convert", "trained.pt2", "--into", "other.keras", "-o", "filled.keras"]) == 0
    said = capsys.readouterr().out
    assert "float64:" in said
    assert "wrote filled.keras" in said
    assert Path("other.keras").read_bytes() == before
    filled = cnnlens.open("filled.keras")
    x = np.random.default_rng(4).random((3, 3, 5, 6), np.float32)
    wanted = trained.double()(torch.from_numpy(x).double()).detach().numpy()
    found = filled.run(x)[filled.outputs[0].name]
    assert np.abs(found - wanted).max() < 1e-12

    # And on: into the state dict of somebody's code, under its own names.
    Path("small.py").write_text(_CODE)
    command = [
        "convert",
        "filled.keras",
        "--into",
        "small.py:Small",
        "--input-shape",
        "3,5,6",
        "-o",
        "back.safetensors",
    ]
    assert main(command) == 0
    assert "float64:" in capsys.readouterr().out
    from safetensors.numpy import load_file

    state = load_file("back.safetensors")
    assert np.array_equal(state["c.weight"], trained.float().head.weight.detach().numpy())
    assert np.array_equal(state["b.weight"], trained.second.weight.detach().numpy())


def test_weights_that_make_another_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlens.conversion.into import put_into

    monkeypatch.chdir(tmp_path)
    example = torch.zeros(2, 3, 5, 6)

    class Other(_Small):
        def forward(self, x: Any) -> Any:  # the same arrays, another activation
            return self.head(torch.flatten(torch.tanh(self.second(torch.relu(self.first(x)))), 1))

    conversion.convert(Other(), "keras", "other.keras", example=example)
    with pytest.raises(cnnlens.CnnlensError, match=r"does not compute the same: output .* of its largest value off"):
        put_into(cnnlens.open(_Small(), example=example), "other.keras", "filled.keras")
    assert not Path("filled.keras").exists()


# -- what does not agree is not written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("F.relu(self.conv2d_1(x))", "self.conv2d_1(x)"),  # an activation that was forgotten
        ("x = torch.flatten(x, 1)", "x = torch.flatten(x.permute(0, 2, 3, 1), 1)"),  # another flatten order
        ("dim=1", "dim=0"),
    ],
)
def test_a_conversion_with_a_mistake_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], right: str, wrong: str
) -> None:
    from cnnlens.conversion import to_torch

    good = to_torch.program

    def mistaken(network: cnnlens.Network) -> Any:
        made = good(network)
        assert right in made.source
        return dataclasses.replace(made, source=made.source.replace(right, wrong))

    monkeypatch.setattr(to_torch, "program", mistaken)
    assert main(["convert", str(sample.MODEL), "-o", str(tmp_path / "model.py")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nothing was written, for the result does not agree" in said
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_lost_a_bit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlens.conversion.to_torch.weights import State

    right = State.__getitem__

    def flipped(self: State, key: str) -> Any:
        array = right(self, key)
        if key == "conv2d_1.weight":
            array = np.array(array)
            array.reshape(-1).view(np.uint32)[5] ^= 1
        return array

    monkeypatch.setattr(State, "__getitem__", flipped)
    with pytest.raises(cnnlens.CnnlensError, match=r"conv2d_1/kernel.*bit for bit"):
        conversion.convert(sample.MODEL, "torch", tmp_path / "model.py")
    assert list(tmp_path.iterdir()) == []


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["shoes.py", "shoes.safetensors"])
@pytest.mark.parametrize("out", [[], ["-o", "."]])
def test_a_file_that_nobody_named_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], taken: str, out: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shoes.keras").write_bytes(sample.MODEL.read_bytes())
    Path(taken).write_text("somebody's own work")
    monkeypatch.setattr(converter, "_proved", None)  # nothing is run
    assert main(["convert", "shoes.keras", *out]) == 2
    assert capsys.readouterr().err == (
        f"cnnlens: {taken}: it is there already; name another file with -o, or the same to overwrite it\n"
    )
    assert Path(taken).read_text() == "somebody's own work"
    assert len(list(tmp_path.iterdir())) == 2


def test_weights_go_over_a_file_that_is_named_and_over_neither_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.keras", "b.keras"):
        Path(name).write_bytes(sample.MODEL.read_bytes())
    Path("linked.keras").symlink_to("b.keras")
    for out, said in (
        ("a.keras", "a.keras: it is read here, and would be lost"),
        ("b.keras", "b.keras: it is read here, and would be lost"),
        ("linked.keras", "linked.keras: it is read here, and would be lost"),
        (None, "b-filled.keras: it is there already"),
    ):
        Path("b-filled.keras").write_text("somebody's own work")
        assert main(["convert", "a.keras", "--into", "b.keras", *(["-o", out] if out else [])]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"cnnlens: {said}; name another")
        assert error.count("\n") == 1
    assert Path("a.keras").read_bytes() == Path("b.keras").read_bytes() == sample.MODEL.read_bytes()
    assert main(["convert", "a.keras", "--into", "b.keras", "-o", "b-filled.keras"]) == 0
    assert cnnlens.open("b-filled.keras").parameters == cnnlens.open(sample.MODEL).parameters


def test_refusals_are_one_line_with_the_way_out(tmp_path: Path) -> None:
    def refused(*arguments: Any, **options: Any) -> str:
        with pytest.raises(cnnlens.CnnlensError) as caught:
            conversion.convert(*arguments, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert list(tmp_path.iterdir()) == []
        return message

    assert "is a model of Keras already; convert it to torch" in refused(sample.MODEL, "keras", tmp_path / "x.keras")
    assert "torch or keras was expected" in refused(sample.MODEL, "caffe", tmp_path / "x.py")
    assert "ends in .py" in refused(sample.MODEL, "torch", tmp_path / "x.keras")
    assert "does not exist" in refused(sample.MODEL, "torch", tmp_path / "no" / "x.py")


# -- other dtypes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_module_of_another_dtype_is_written_in_float32_and_what_that_rounds_is_said(
    tmp_path: Path, dtype: str
) -> None:
    torch.manual_seed(4)
    nn, kind = torch.nn, getattr(torch, dtype)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(80, 5)]
    module = nn.Sequential(*layers).to(kind).eval()
    for parameter in module.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    example = torch.zeros(2, 3, 6, 7, dtype=kind)
    made = cnnlens.convert(module, "keras", tmp_path / "made.keras", example=example)
    held = [weight.stored.dtype for layer in made.result for weight in layer.stored.values()]
    assert set(held) == {np.dtype("float32")}
    assert any("rounded to float32" in note for note in made.notes) == (dtype == "float64")
    if dtype != "float64":
        assert made.arrays == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_keras_file_of_float16_becomes_a_module_of_the_same_numbers(tmp_path: Path) -> None:
    keras = importlib.import_module("keras")
    layers = [
        keras.layers.Conv2D(4, 3, dtype="float16"),
        keras.layers.Flatten(),
        keras.layers.Dense(5, dtype="float16"),
    ]
    keras.Sequential([keras.Input((6, 7, 3)), *layers]).save(tmp_path / "half.keras")
    made = cnnlens.convert(tmp_path / "half.keras", "torch", tmp_path / "made.py")
    arrays = [array for layer in made.source for array in layer.weights.values()]
    assert {array.dtype for array in arrays} == {np.dtype("float16")}
    state = _module(tmp_path / "made.py").state_dict()
    assert {float(one) for tensor in state.values() for one in tensor.ravel()} == {
        float(one) for array in arrays for one in array.ravel()
    }
    assert made.twins.agree
