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
from cnnlens.cli.main import main  # noqa: E402
from cnnlens.errors import CnnlensError  # noqa: E402
from cnnlens.testing import network  # noqa: E402
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
            script = SUPPORT / "make_twin.py"
            command = [sys.executable, str(script), str(folder / f"{plant}.npz"), str(folder / f"{plant}.keras")]
            subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "jax"}, check=True, capture_output=True)

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
    assert result.checks[0].inputs == "the first 64 of the inputs given"
    assert result.outputs[0].shapes == ((64, 4), (64, 4))
    shown = listing.twins_table(result)
    assert "they are one model" in shown
    assert "pytorch and reference" in shown


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
    assert "other shapes" in listing.twins_table(result)


def test_twin_takes_no_recordings(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(pair / "twin.pt2"), "--twin", str(pair / "none.keras")]
    assert main(["check", *files, "--repeat", "2"]) == 2
    assert "leave recordings and --repeat out" in capsys.readouterr().err
