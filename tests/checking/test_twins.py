"""``check --twin``: a native PyTorch module and its Keras twin are one model, and a square kernel turned is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import SUPPORT

torch = pytest.importorskip("torch")

import cnnlens  # noqa: E402
from cnnlens.checking import listing, twins  # noqa: E402
from cnnlens.checking.likeness import apart  # noqa: E402
from cnnlens.cli.main import main  # noqa: E402
from cnnlens.differing.differ import diff  # noqa: E402
from cnnlens.errors import CnnlensError  # noqa: E402
from cnnlens.testing import network  # noqa: E402
from tests.support import diff_map_mistakes, recurrent_ports  # noqa: E402
from tests.support.once import Files  # noqa: E402
from tests.support.torch_models import Spoilt, Twin, seeded  # noqa: E402

# Names in the order of Keras' variables: a layer's arrays sorted by name.
PLANTS = ("none", "swapped", "flatten", "epsilon")


def arrays(module: Any, plant: str) -> dict[str, Any]:
    """The module's arrays in Keras' layout, with one mistake that no shape shows."""
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    order = (3, 2, 1, 0) if plant == "swapped" else (2, 3, 1, 0)
    head = state["head.weight"].reshape(4, 3, 4, 4)
    head = head if plant == "flatten" else head.transpose(0, 2, 3, 1)  # Keras flattens with the channels last
    running = state["norm.running_var"] + (np.float32(1e-3) if plant == "epsilon" else 0)
    return {
        "conv.0": state["conv.weight"].transpose(2, 3, 1, 0),
        "conv.1": state["conv.bias"],
        "norm.0": state["norm.weight"],
        "norm.1": state["norm.bias"],
        "norm.2": state["norm.running_mean"],
        "norm.3": running,
        "second.0": state["second.weight"].transpose(order),
        "head.0": head.reshape(4, 48).T,
        "head.1": state["head.bias"],
    }


@pytest.fixture(scope="session")
def pair(framework_files: Files) -> Path:
    """``twin.pt2``, and a ``.keras`` file for each of ``PLANTS``."""

    def make(folder: Path) -> None:
        module = seeded(Twin)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = (torch.zeros(2, 3, 8, 8),)
            program = torch.export.export(module, example, dynamic_shapes=({0: torch.export.Dim("n")},))
            torch.export.save(program, folder / "twin.pt2")
        for plant in PLANTS:
            np.savez(folder / f"{plant}.npz", **arrays(module, plant))
        command = [sys.executable, str(SUPPORT / "make_twin.py"), str(folder), *PLANTS]
        subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "numpy"}, check=True, capture_output=True)

    return framework_files("twins", make)


@pytest.mark.parametrize("turned", [False, True], ids=["torch first", "keras first"])
def test_a_native_module_and_its_keras_twin_are_one_model(
    pair: Path, turned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(pair / "twin.pt2"), str(pair / "none.keras")]
    a, b = files[::-1] if turned else files
    assert main(["check", a, "--twin", b, "--backends", "pytorch,keras-jax,keras-torch", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["agree"]
    assert data["outputs"][0]["apart"] < data["limit"] == 2.0**-40
    assert data["outputs"][0]["shapes"] == [[8, 4], [8, 4]]
    runs = [[run["label"] for run in check["runs"]] for check in data["checks"]]
    assert runs == (
        [["keras-jax", "keras-torch"], ["pytorch"]] if turned else [["pytorch"], ["keras-jax", "keras-torch"]]
    )
    for check in data["checks"]:
        assert all(run["weights_equal"] for run in check["runs"])
        verdicts = {audit["verdict"] for layer in check["layers"] for audit in layer["runs"].values()}
        assert verdicts == {"exact", "float32"}
    compared = {frozenset(one["runs"]): one for one in data["outputs"][0]["recorded"]}
    assert set(compared) == {frozenset({"pytorch", "keras-jax"}), frozenset({"pytorch", "keras-torch"})}
    assert all(0 <= one["max_abs"] < 1e-5 for one in compared.values())


@pytest.mark.parametrize("plant", PLANTS[1:])
def test_a_mistake_that_no_shape_shows_is_found(pair: Path, plant: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(pair / "twin.pt2"), "--twin", str(pair / f"{plant}.keras")]
    assert main(["check", *files, "--backends", "pytorch,keras-jax"]) == 1
    said = capsys.readouterr().out
    # Each runs as its own file says; only the two files differ.
    assert said.count("weights equal the file's bit for bit") == 2
    assert "they are not one model" in said
    result = twins.check_twins(files[0], files[2], backends=["reference"])
    assert all(check.agree for check in result.checks)
    assert result.could_check
    assert not result.agree
    assert result.outputs[0].apart is not None
    assert result.outputs[0].apart > 1e-6


def test_a_live_module_and_inputs_given(pair: Path) -> None:
    x = np.random.default_rng(3).standard_normal((70, 3, 8, 8), np.float32)
    result = twins.check_twins(seeded(Twin), pair / "none.keras", x, backends=["pytorch", "reference"])
    assert result.agree
    assert [run.label for run in result.checks[0].runs] == ["pytorch", "reference"]
    assert [run.label for run in result.checks[1].runs] == ["reference"]
    assert result.checks[0].inputs == "the inputs given"
    assert result.outputs[0].shapes == ((70, 4), (70, 4))
    shown = str(listing.twins_page(result))
    assert "they are one model" in shown
    assert "inputs audited" not in shown
    assert "pytorch and reference" in shown


def test_a_sample_of_the_inputs_is_said(pair: Path) -> None:
    x = np.random.default_rng(3).standard_normal((70, 3, 8, 8), np.float32)
    result = twins.check_twins(pair / "twin.pt2", pair / "none.keras", x, backends=["reference"], sample=6)
    assert result.outputs[0].shapes == ((6, 4), (6, 4))
    shown = str(listing.twins_page(result))
    assert shown.count("6 of 70 inputs audited") == 2
    assert "on 6 of 70 inputs they are one model" in shown


def test_a_fault_of_a_backend_is_none_of_the_files(pair: Path, plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant.write_text("second:swapped")
    arguments = [str(pair / "twin.pt2"), "--twin", str(pair / "none.keras"), "-b", "planted-pytorch,reference"]
    assert main(["check", *arguments]) == 1
    said = capsys.readouterr().out
    assert "the files hold one model, but an audit failed" in said
    assert "height and width of the kernel are swapped" in said


@pytest.mark.parametrize(
    ("other", "backends", "said"),
    [
        (
            lambda: cnnlens.open(seeded(Spoilt), example=np.zeros((2, 4, 11, 9), np.float32)),
            ["reference"],
            "(N, 4, 11, 9)",
        ),
        (lambda: network("branches", "torch"), ["reference"], "1 and 2 inputs, so they are not one model"),
        (lambda: network("chain", "torch"), ["keras-jax"], "none of keras-jax runs models of torch"),
    ],
)
def test_what_is_no_pair_is_one_line(pair: Path, other: Any, backends: list[str], said: str) -> None:
    with pytest.raises(CnnlensError) as caught:
        twins.check_twins(pair / "twin.pt2", other(), backends=backends)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_shapes_are_another_model() -> None:
    chain, same = network("chain", "torch"), network("chain", "torch")
    assert twins.check_twins(chain, same, backends=["reference"]).outputs[0].apart == 0
    # Without its last two layers it gives 42 numbers in place of 4.
    shorter = network("chain", "torch")
    shorter.outputs = (shorter.tensors["flat"],)
    result = twins.check_twins(chain, shorter, backends=["reference"])
    assert not result.agree
    assert listing.twins_json(result)["outputs"][0]["apart"] is None
    assert "other shapes" in str(listing.twins_page(result))


def test_twin_takes_no_recordings(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(pair / "twin.pt2"), "--twin", str(pair / "none.keras")]
    assert main(["check", *files, "--repeat", "2"]) == 2
    assert "leave recordings and --repeat out" in capsys.readouterr().err


# -- with diff --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True], ids=["torch first", "keras first"])
@pytest.mark.parametrize("plant", PLANTS)
def test_the_commands_agree(pair: Path, plant: str, turned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(pair / "twin.pt2"), str(pair / f"{plant}.keras")]
    a, b = files[::-1] if turned else files
    codes = [main(["check", a, "--twin", b, "-b", "reference"]), main(["diff", a, b, "--inputs", "random"])]
    assert codes == [plant != "none"] * 2
    said = capsys.readouterr().out
    assert ("they are one model" in said, "the outputs agree" in said) == (plant == "none",) * 2


def recurrent(kind: str, levels: int, both: bool, wrong: bool = False) -> tuple[Any, Any]:
    """A PyTorch module and its port."""
    state = recurrent_ports.torch_state(kind, levels, both)
    made = getattr(torch.nn, "RNN" if kind == "SimpleRNN" else kind)

    class Sequences(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = made(5, 7, num_layers=levels, batch_first=True, bidirectional=both)

        def forward(self, x: Any) -> Any:
            return self.rnn(x)[0]

    module = Sequences()
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    port = recurrent_ports.ported(kind, state, both)
    if wrong:
        arrays = recurrent_ports.keras_arrays(kind, state, order=tuple(range(recurrent_ports.GATES[kind])))
        port = recurrent_ports.keras_model(kind, {"_l0": arrays})
    return diff_map_mistakes.opened(module, (2, 6, 5)), port


def other_epsilon() -> tuple[Any, Any]:
    """As ResNets of Keras have it, far below what float32 shows."""
    one = diff_map_mistakes.settled(diff_map_mistakes.Net(torch.nn.ReLU()))
    other = diff_map_mistakes.Net(torch.nn.ReLU(), epsilon=1.001e-5)
    diff_map_mistakes.same_weights(one, other)
    return diff_map_mistakes.opened(one), diff_map_mistakes.opened(other)


def rounded(change: Any) -> tuple[Any, Any]:
    one, other = (diff_map_mistakes.settled(diff_map_mistakes.Net(torch.nn.ReLU())) for _ in range(2))
    with torch.no_grad():
        for array in other.state_dict().values():
            if array.is_floating_point():
                array.copy_(change(array))
    return diff_map_mistakes.opened(one), diff_map_mistakes.opened(other)


PAIRS: dict[str, tuple[Any, bool]] = {
    **{
        f"{kind}, {levels} levels{', both ways' * both}": (
            lambda kind=kind, levels=levels, both=both: recurrent(kind, levels, both),
            True,
        )
        for kind in recurrent_ports.GATES
        for levels in (1, 2)
        for both in (False, True)
    },
    "GRU, gates not exchanged": (lambda: recurrent("GRU", 1, False, wrong=True), False),
    "epsilon": (other_epsilon, False),
    "last places": (lambda: rounded(lambda array: torch.nextafter(array, torch.full_like(array, 9.0))), True),
    "bfloat16 in float32": (lambda: rounded(lambda array: array.bfloat16().float()), False),
}


@pytest.mark.parametrize("name", PAIRS)
def test_check_and_diff_never_contradict_each_other(name: str) -> None:
    make, alike = PAIRS[name]
    first, second = make()
    found = twins.check_twins(first, second, backends=["reference"])
    assert found.could_check
    for a, b in ((first, second), (second, first)):
        differ = diff(a, b, "random")
        assert differ.activations is not None
        assert found.agree == differ.equal == differ.activations.agree == alike, (
            str(listing.twins_page(found)),
            differ,
        )
    said = str(listing.twins_page(found))
    far = found.outputs[0].apart
    assert far is not None
    assert ("they are one model" in said) == alike
    assert ("to the rounding of its weights" in said) == (alike and far > twins.LIMIT)


def test_outputs_without_a_number_tell_neither_command_anything() -> None:
    one, other = (diff_map_mistakes.settled(diff_map_mistakes.Net(torch.nn.ReLU())) for _ in range(2))
    other.conv.weight.data.mul_(2)
    for module in (one, other):
        module.head.bias.data.fill_(float("nan"))
    a, b = (diff_map_mistakes.opened(module) for module in (one, other))
    found = twins.check_twins(a, b, backends=["reference"], allow_nonfinite=True)
    assert not found.could_check
    assert "holds no finite number" in str(listing.twins_page(found))
    differ = diff(a, b, "random")
    assert differ.activations is not None
    assert not differ.activations.compared
    assert "holds no finite number" in differ.activations.text


def test_values_that_are_no_numbers_are_compared_by_where_they_stand() -> None:
    x = np.array([[1.0, np.nan, np.inf, 2.0]])
    assert apart(x, x.copy()) == 0
    assert apart(x, np.array([[1.0, np.nan, -np.inf, 2.0]])) == np.inf
    assert apart(x, np.array([[1.0, 5.0, np.inf, 2.0]])) == np.inf
    # An infinity is no measure for the rest.
    assert apart(x, np.array([[1.5, np.nan, np.inf, 2.0]])) == 0.25
    assert apart(np.full((2, 3), 1e308), np.full((2, 3), -1e308)) == np.inf


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 5, 5), (2, 3, 4, 5), (2, 4, 4, 4)])
def test_tensors_are_the_same_with_channels_first_or_last(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    for turned in (x, np.moveaxis(x, 1, -1), np.moveaxis(x, -1, 1)):
        assert apart(x, turned) == 0
    assert apart(x, x[:, ::-1]) > 0.1
    if len(set(shape)) == 4:
        assert apart(x, x.swapaxes(2, 3)) == np.inf
