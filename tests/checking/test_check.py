"""``check`` finds real faults in real frameworks at the right layer with the right name, and raises no false alarm."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import cnnlens
from cnnlens import sample
from cnnlens.backend import worker
from cnnlens.checking import checker as checking
from cnnlens.checking import listing as check_listing
from cnnlens.cli.main import main
from cnnlens.files.keras.network import keras_network
from cnnlens.inputs.drawn import default_inputs
from cnnlens.network.network import Network
from cnnlens.testing import MemoryModel
from tests.support import SHARED
from tests.support.random_networks import random_network

FRAMEWORKS = ("tensorflow", "jax", "torch")
KERAS = tuple(f"keras-{name}" for name in FRAMEWORKS)
REAL = SHARED / "data" / "best-cnn-model.keras"

# What is planted, in which layer, and what the check must call it: verdict, explanation.
FAULTS = {
    "conv:scaled": ("wrong", r"channel 2\b.*\b1\.0001"),
    "conv:swapped": ("wrong", r"height and width of the kernel are swapped"),
    "second:flipped": ("wrong", r"flipped"),
    "second:no_bias": ("wrong", r"bias"),
    "second:exchanged": ("wrong", r"output channels 1 and 3 are exchanged"),
    "conv:nan": ("wrong", r"NaN.*channel 2|channel 2.*NaN"),
    "norm:epsilon": ("wrong", r"epsilon 1e-05 where the model says 0.001"),
    "conv:no_relu": ("wrong", r"the activation relu was left out"),
    "second:bfloat16": ("bfloat16", r""),
    "second:float16": ("float16", r""),
    "pool:shifted": ("wrong", r"shift"),
}


def signed() -> np.ndarray:
    """Inputs on both sides of zero, so that every ReLU has something to cut."""
    return np.random.default_rng(5).standard_normal((6, 4, 11, 9), np.float32)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_where_it_is_and_named(graphs: Path, plant: Path, framework: str, fault: str) -> None:
    layer = fault.split(":")[0]
    verdict, named = FAULTS[fault]
    plant.write_text(fault)
    result = checking.check(graphs / "to_be_spoilt.keras", signed(), backends=[f"planted-{framework}"])
    assert result.could_check, [one.error for one in result.runs]
    assert not result.agree
    run = result.runs[0]
    problem = result.problem(run)
    assert isinstance(problem, tuple), problem
    assert problem[0] == layer
    assert problem[1].verdict == verdict
    said = check_listing.sentence(result, run)
    assert layer in said
    assert re.search(named, said), said
    # Layers behind it are audited on their own inputs, so none inherits the fault.
    others = [row.audits[run.label].verdict for row in result.rows if row.name != layer]
    assert set(others) <= {"exact", "float32"} or "nan" in fault, others


def test_the_fault_is_laid_to_the_backend_that_has_it(graphs: Path, plant: Path) -> None:
    plant.write_text("second:flipped")
    result = checking.check(graphs / "to_be_spoilt.keras", signed(), backends=["keras-jax", "planted-jax"])
    assert [result.problem(run) is None for run in result.runs] == [True, False]
    assert result.runs[0].weights == ()
    assert result.runs[1].weights is not None
    assert "second" in result.runs[1].weights[0]
    assert result.pairs["keras-jax", "planted-jax"]["conv"].equal
    assert not result.pairs["keras-jax", "planted-jax"]["second"].equal


def test_average_pooling_under_torch(graphs: Path) -> None:
    result = checking.check(graphs / "average_pooling.keras", backends=KERAS)
    row = next(row for row in result.rows if row.name == "average")
    verdicts = {label: audit.verdict for label, audit in row.audits.items()}
    mended = tuple(int(part) for part in version("keras").split(".")[:3]) > (3, 15, 1)
    if mended and verdicts["keras-torch"] == "float32":
        assert result.agree
        return
    assert verdicts == {"keras-tensorflow": "float32", "keras-jax": "float32", "keras-torch": "wrong"}
    assert not result.agree
    assert "edge" in row.audits["keras-torch"].explanation
    assert main(["check", str(graphs / "average_pooling.keras"), "-b", "keras-torch"]) == 1


@pytest.mark.framework
@pytest.mark.parametrize("model", [REAL, sample.MODEL], ids=["real", "sample"])
def test_three_backends_agree(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not model.exists():
        pytest.skip("the real model is not beside this checkout")
    assert main(["check", str(model), "--backends", ",".join(KERAS), "--repeat", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["agree"]
    for run in data["runs"]:
        assert run["weights_equal"]
        assert run["repeats"]["exactly"]
    for layer in data["layers"]:
        assert set(layer["runs"]) == set(KERAS)
        for audit in layer["runs"].values():
            assert audit["verdict"] in ("float32", "exact")
            assert audit["bits"] is None or audit["bits"] >= 20


# 27, 83, 87: layer norms over one or two channels, whose means cancel; 30: an image as high as wide as deep.
@pytest.mark.framework
@pytest.mark.parametrize("seed", [*range(8), 27, 30, 83, 87])
def test_no_false_alarm_on_random_networks(seed: int) -> None:
    """A few here; ``python -m benchmarks networks`` runs hundreds, on inputs of every kind."""
    result = checking.check(random_network(seed), backends=KERAS)
    assert result.could_check, [one.error for one in result.runs]
    assert result.agree, str(check_listing.as_page(result))


def test_a_backend_that_fails_leaves_the_others_results(
    graphs: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNLENS_FAULT", "load:crash")
    result = checking.check(graphs / "sequential.keras", backends=["faulty", "reference"])
    failed, fine = result.runs
    assert failed.error is not None
    assert "\n" not in failed.error
    assert fine.error is None
    assert all(row.audits["reference"].verdict in ("float32", "exact") for row in result.rows)
    assert not result.could_check


def test_recordings_made_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(3).random((5, 1, 28, 28), np.float32)
    cnnlens.record(sample.MODEL, images, backend="reference", precision="strict", out=tmp_path / "a.zarr")
    cnnlens.record(sample.MODEL, images, backend="reference", layers=["conv2d"], out=tmp_path / "b.zarr")
    assert main(["check", str(sample.MODEL), str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr")]) == 0
    text = capsys.readouterr().out
    assert "reference#2" in text
    assert "not audited: " in text
    assert "is not in the recording" in text


def test_a_damaged_recording_is_not_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.zarr"
    drawn = np.random.default_rng(3).random((2, 1, 28, 28), np.float32)
    recording = cnnlens.record(sample.MODEL, drawn, backend="reference", precision="strict", out=path)
    chunk = next(
        one for one in (path / recording["conv2d_1"].array_name).rglob("*") if one.is_file() and one.suffix != ".json"
    )
    content = bytearray(chunk.read_bytes())
    content[1001] ^= 4
    chunk.write_bytes(content)
    assert main(["check", str(sample.MODEL), str(path)]) == 2
    error = capsys.readouterr().err
    assert "conv2d_1" in error
    assert error.count("\n") == 1


def test_nothing_of_somebody_else_s_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    drawn = np.zeros((2, 1, 28, 28), np.float32)
    cnnlens.record(sample.MODEL, drawn, backend="reference", out=path)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(cnnlens.CnnlensError, match=r"'notes.txt' in it is no recording's"):
        cnnlens.record(sample.MODEL, drawn, backend="reference", out=path, overwrite=True)
    assert (path / "notes.txt").read_text() == "mine"


@pytest.mark.framework
def test_nan_in_the_file_is_said_and_hiding_it_is_a_fault() -> None:
    """Whether TensorFlow's compiled convolution and ReLU hide a NaN hangs on the CPU, so its own maps are asked."""
    network = with_nan()
    drawn = default_inputs(network)
    maps = cnnlens.record(network, drawn, backend="keras-tensorflow", precision="strict")["conv"][:, 2]
    result = checking.check(network, drawn, backends=["keras-tensorflow", "keras-jax"])
    tensorflow, jax = result.runs
    if np.isnan(maps).any():
        assert result.problem(tensorflow) is None
    else:
        assert "NaN in output channel 2, which the backend hides" in check_listing.sentence(result, tensorflow)
    assert result.problem(jax) is None
    assert "the file's kernel has NaN in output channel 2" in str(check_listing.as_page(result))


def with_nan() -> Network:
    """One convolution with a ReLU, and NaN in a kernel: on some CPUs TensorFlow's compiled pair gives zeros there."""
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((3, 3, 2, 4)).astype(np.float32)
    kernel[0, 0, 0, 2] = np.nan
    layers = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 9, 8, 2], "name": "image"}},
        {"class_name": "Conv2D", "config": {"name": "conv", "filters": 4, "kernel_size": [3, 3], "activation": "relu"}},
    ]
    config = {
        "class_name": "Sequential",
        "config": {"name": "nan", "layers": [{"module": "keras.layers", **layer} for layer in layers]},
    }
    arrays = {("conv",): {"kernel": kernel, "bias": np.zeros(4, np.float32)}}
    return keras_network(MemoryModel(config, arrays))


def test_a_recording_of_another_model(graphs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = cnnlens.open(graphs / "sequential.keras")
    drawn = default_inputs(network)
    cnnlens.record(network, drawn, backend="reference", out=tmp_path / "other.zarr")
    assert main(["check", str(sample.MODEL), str(tmp_path / "other.zarr")]) == 2
    assert "recording of another model" in capsys.readouterr().err


def test_what_cannot_be_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, said in (
        (["--backends", "keras-jacks"], "did you mean 'keras-jax'"),
        (["--backends", "reference", "--inputs", str(tmp_path / "no.npy")], "no.npy"),
        (["--backends", ","], "nothing to check"),
        ([str(tmp_path / "no.zarr")], "no.zarr"),
    ):
        assert main(["check", str(sample.MODEL), *arguments]) == 2
        captured = capsys.readouterr()
        assert said in captured.err + captured.out
        assert "Traceback" not in captured.err


def test_a_second_model_starts_no_framework_again(graphs: Path) -> None:
    checking.check(graphs / "sequential.keras", backends=["keras-jax"])
    with worker.pool("keras-jax", "cpu", "strict") as process:
        before = process.pid
    checking.check(graphs / "shared.keras", backends=["keras-jax"])
    with worker.pool("keras-jax", "cpu", "strict") as process:
        assert process.pid == before


def test_the_reference_is_not_held_against_itself_unasked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checking, "suited", lambda framework: ["reference"])
    assert main(["check", str(sample.MODEL)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "no backend that runs models of keras is installed" in said.err
    assert "the reference held against itself proves nothing" in said.err
    assert said.err.startswith("cnnlens: nothing was compared: ")
    assert 'pip install "keras>=3.10" "jax>=0.6"' in said.err
    assert "cnnlens check MODEL RUN.zarr" in said.err
    assert main(["check", str(sample.MODEL), "-b", "reference"]) == 0
    assert "proves no framework right" in capsys.readouterr().out
    assert main(["check", str(sample.MODEL), "-b", "reference", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compared"] == []
    alone = cnnlens.check(sample.MODEL, sample.IMAGES, backends=["reference"])
    assert alone.compared == ()
    assert repr(alone).endswith(": reference is within rounding; no framework was compared>")
    for said in (repr(alone), str(alone), alone.html()):
        assert "agree" not in said
    assert '<span class="pale">reference: (' in alone.html()


@pytest.mark.parametrize("twin", [(), ("--twin", str(sample.MODEL))])
def test_a_misspelt_backend_is_refused_before_the_others_run(
    twin: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker.Worker, "start", lambda *_: pytest.fail("one was started"))
    assert main(["check", str(sample.MODEL), *twin, "-b", "reference,kera-jax"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "", "cnnlens: no backend is named 'kera-jax'; did you mean 'keras-jax' or 'keras-torch'?\n"
    )  # fmt: skip


def test_a_sample_of_the_inputs_is_said_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(3).random((9, 1, 28, 28), np.float32)
    np.save(tmp_path / "images.npy", images)
    given = ["check", str(sample.MODEL), "-b", "reference", "-i", str(tmp_path / "images.npy")]
    assert main([*given, "--sample", "4"]) == 0
    table = capsys.readouterr().out
    assert "inputs: the inputs given; 4 of 9 inputs audited" in table
    assert "is within rounding on the 4 of 9 inputs that were audited" in table
    assert main([*given, "--sample", "4", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["runs"][0]
    assert (run["inputs"], run["audited_inputs"]) == (9, 4)
    assert main([*given, "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["runs"][0]
    assert (run["inputs"], run["audited_inputs"]) == (9, 9)
    assert " of 9" not in run["says"]
    with pytest.raises(cnnlens.CnnlensError, match="at least 1 input"):
        cnnlens.check(sample.MODEL, images, backends=["reference"], sample=0)
