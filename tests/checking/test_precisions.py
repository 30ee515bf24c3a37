"""What is asked for is what runs: tf32, bfloat16 and float16 under each framework, proved by the audit, or refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
import cnnlens.sample
from cnnlens.backend import PRECISIONS, load, precisions_of
from cnnlens.backend.reference import BACKEND as REFERENCE
from cnnlens.backend.seam import Session
from cnnlens.checking.auditing import audit_recording, audited_calls
from cnnlens.checking.finding import Cause, Verdict
from cnnlens.checking.listing import as_page, sentence
from cnnlens.checking.result import Check, LayerCheck, Run
from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from tests.support.once import Files, needs

KERAS = ("keras-tensorflow", "keras-jax", "keras-torch")
HALVES = ("bfloat16", "float16")
COMPUTING = {
    "keras": ("conv", "norm", "wide", "average", "dense", "layer_norm", "head"),
    "torch": ("conv", "norm", "wide", "mean", "dense", "layer_norm", "head"),
}

_MAKE = {
    "keras": """
import sys, keras, numpy as np
layers, r = keras.layers, np.random.default_rng(5)
x = given = keras.Input((13, 11, 3), name="photo")
x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(x)
x = layers.BatchNormalization(name="norm")(x)
x = x + layers.Conv2D(8, (3, 5), padding="same", use_bias=False, name="wide")(x)
x = layers.MaxPooling2D(2, name="pool")(x)
x = layers.GlobalAveragePooling2D(name="average")(x)
x = layers.LayerNormalization(name="layer_norm")(layers.Dense(17, activation="gelu", name="dense")(x))
model = keras.Model(given, layers.Dense(7, activation="softmax", name="head")(x))
for layer in model.layers:
    layer.set_weights([r.uniform(0.3, 2, w.shape) if "norm" in layer.name else r.normal(0, 0.3, w.shape)
                       for w in layer.get_weights()])
model.save(sys.argv[1] + "/model.keras")
conv, head = model.get_layer("conv"), model.get_layer("head")
kernel, bias = conv.get_weights()
conv.set_weights([kernel.swapaxes(0, 1), bias])
model.save(sys.argv[1] + "/swapped.keras")
conv.set_weights([kernel * np.where(np.arange(8) == 5, 1.05, 1), bias])
model.save(sys.argv[1] + "/scaled.keras")
""",
    "torch": """
import sys, torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(5)
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 8, (3, 5), padding=(1, 2), bias=False)
        self.dense, self.layer_norm, self.head = nn.Linear(8, 17), nn.LayerNorm(17), nn.Linear(17, 7)
    def forward(self, x):
        x = self.norm(F.relu(self.conv(x)))
        x = F.max_pool2d(x + self.wide(x), 2).mean((2, 3))
        return F.softmax(self.head(self.layer_norm(F.gelu(self.dense(x)))), -1)
module = Small().eval()
with torch.no_grad():
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            tensor.uniform_(0.3, 2) if "norm" in name else tensor.normal_(0, 0.3)
batch = torch.export.Dim.AUTO
torch.export.save(torch.export.export(module, (torch.rand(2, 3, 13, 11),), dynamic_shapes=({0: batch},)),
                  sys.argv[1] + "/model.pt2")
""",
}


def make(framework: str, folder: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}  # which compiles nothing, and saves the same file
    command = [sys.executable, "-c", _MAKE[framework], str(folder)]
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=600)


@pytest.fixture(scope="session")
def keras_files(framework_files: Files) -> Path:
    needs("keras", "jax")
    return framework_files("precisions-keras", lambda folder: make("keras", folder))


@pytest.fixture(scope="session")
def torch_file(framework_files: Files) -> Path:
    needs("torch")
    return framework_files("precisions-torch", lambda folder: make("torch", folder)) / "model.pt2"


def photos(count: int = 6) -> np.ndarray:
    return np.random.default_rng(2).random((count, 3, 13, 11), np.float32)


@dataclass(frozen=True)
class Relabelled:
    """A recording that claims another precision than it was made in."""

    recording: Any
    precision: str

    @property
    def info(self) -> Mapping[str, Any]:
        return {**self.recording.info, "precision": self.precision}

    @property
    def count(self) -> int:
        return self.recording.count

    def __contains__(self, name: str) -> bool:
        return name in self.recording

    def __getitem__(self, name: str) -> Any:
        return self.recording[name]

    def altered(self, name: str) -> str | None:
        return None


def checked(network: Network, recording: Any) -> Check:
    audits = dict(audit_recording(network, recording))
    info = recording.info
    run = Run("it", info["backend"], device="cpu", precision=info["precision"], inputs=1, audited=1)
    rows = tuple(LayerCheck(call.name, call.layer.kind, {"it": audits[call.name]}) for call in audited_calls(network))
    return Check(network, "", (run,), rows, {})


def holds(result: Check, precision: str, computing: tuple[str, ...]) -> None:
    assert [run.error for run in result.runs] == [None] * len(result.runs)
    assert result.agree
    for run in result.runs:
        verdicts = {row.name: row.audits[run.label].verdict for row in result.rows}
        assert set(verdicts.values()) <= {Verdict.EXACT, Verdict(precision)}
        assert [name for name in computing if verdicts[name] != precision] == []
        assert result.finer(run) == []
        assert run.weights == ()
        said = sentence(result, run)
        assert f"weights equal the file's as {precision} holds them" in said
        assert "more precise" not in said


# -- the frameworks --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("backend", KERAS)
def test_keras_computes_in_what_is_asked_for(keras_files: Path, backend: str, precision: str) -> None:
    needs("torch" if backend == "keras-torch" else backend.removeprefix("keras-"))
    result = cnnlens.check(keras_files / "model.keras", photos(), backends=[backend], precision=precision)
    holds(result, precision, COMPUTING["keras"])
    sample = cnnlens.check(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backends=[backend], precision=precision)
    holds(sample, precision, ("conv2d", "conv2d_1", "dense", "dense_1"))
    # A sure network's other classes have probabilities that float16 has few digits of: a note, and no fault.
    note = "note: 'dense_1': computed in float16, which keeps few digits of numbers below 6.1e-05, or none"
    assert (note in str(as_page(sample))) is (precision == "float16")


@pytest.mark.slow
@pytest.mark.parametrize("precision", HALVES)
def test_pytorch_computes_in_what_is_asked_for(torch_file: Path, precision: str) -> None:
    result = cnnlens.check(torch_file, photos(), backends=["pytorch"], precision=precision)
    holds(result, precision, COMPUTING["torch"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swapped", "scaled"])
@pytest.mark.parametrize("precision", HALVES)
def test_a_planted_fault_is_found_in_narrow_arithmetic(keras_files: Path, name: str, precision: str) -> None:
    """A kernel with H and W swapped, and one of eight channels larger by a twentieth."""
    other = cnnlens.record(keras_files / f"{name}.keras", photos(40), backend="keras-jax", precision=precision)
    audits = dict(audit_recording(cnnlens.open(keras_files / "model.keras"), other))
    assert audits["conv"].verdict is Verdict.WRONG
    assert {audits[one].verdict for one in COMPUTING["keras"] if one != "conv"} == {Verdict(precision)}
    if name == "scaled":
        assert (audits["conv"].cause, audits["conv"].worst_channel) == (Cause.FACTORS, 5)


@pytest.mark.slow
def test_feature_maps_are_kept_in_the_numbers_that_ran(keras_files: Path) -> None:
    model = keras_files / "model.keras"
    half = cnnlens.record(model, photos(), backend="keras-jax", precision="float16", layers=["conv", "head"])
    assert half.info["precision"] == "float16"
    assert half["conv"][:].dtype == np.float16
    brain = cnnlens.record(model, photos(), backend="keras-jax", precision="bfloat16", layers=["conv", "head"])
    for name in ("conv", "head"):
        array = brain[name][:]
        assert array.dtype == np.float32
        assert not (array.view(np.uint32) & 0xFFFF).any()  # float32 holding bfloat16's values
        assert array.any()


@pytest.mark.slow
def test_what_ran_is_told_from_what_was_asked_for(keras_files: Path) -> None:
    model = keras_files / "model.keras"
    network = cnnlens.open(model)
    whole = cnnlens.record(model, photos(), backend="keras-jax", precision="strict")
    found = checked(network, Relabelled(whole, "bfloat16"))
    assert found.agree
    assert [row.name for row in found.finer(found.runs[0])] == [
        row.name for row in found.rows if row.audits["it"].verdict is Verdict.FLOAT32
    ]
    assert {"conv", "dense", "head"} < {row.name for row in found.finer(found.runs[0])}
    assert "more precise than asked for: 'conv', 'norm', 'wide'" in sentence(found, found.runs[0])
    products = checked(network, Relabelled(whole, "tf32"))
    assert [row.name for row in products.finer(products.runs[0])] == ["conv", "wide", "dense", "head"]
    brain = cnnlens.record(model, photos(), backend="keras-jax", precision="bfloat16")
    for precision, agrees in {
        "native": True,
        "bfloat16": True,
        "float16": False,
        "tf32": False,
        "strict": False,
    }.items():
        found = checked(network, Relabelled(brain, precision))
        assert found.agree is agrees, precision
        problem = found.problem(found.runs[0])
        if problem is not None and problem.audit is not None:
            assert (problem.layer, problem.audit.verdict) == ("conv", Verdict.BFLOAT16)
            assert problem.audit.cause is Cause.PRECISION


@pytest.mark.slow
@pytest.mark.parametrize("backend", [*KERAS, "pytorch"])
def test_a_cpu_has_no_tf32(backend: str, keras_files: Path, torch_file: Path) -> None:
    """oneDNN and XLA compute in float32 there whatever they are asked for: that is refused, in one line."""
    model = torch_file if backend == "pytorch" else keras_files / "model.keras"
    result = cnnlens.check(model, photos(), backends=[backend], precision="tf32")
    said = "it has no precision 'tf32' on the device 'cpu'; it has strict, native, bfloat16, float16"
    assert [run.reason for run in result.runs] == [said]
    assert not result.could_check


@pytest.mark.slow
def test_a_live_keras_model_gives_in_narrow_arithmetic_what_its_file_gives(keras_files: Path) -> None:
    needs("jax")
    code = (
        "import sys, keras, numpy as np, cnnlens\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "x = np.random.default_rng(0).random((2, 3, 13, 11), np.float32)\n"
        "options = {'backend': 'keras-jax', 'precision': 'float16'}\n"
        "live, filed = (cnnlens.record(one, x, **options) for one in (model, sys.argv[1]))\n"
        "same = [np.array_equal(live[name][:], filed[name][:]) for name in filed]\n"
        "print(live.info['precision'], live['conv'][:].dtype, live.info['weights'], len(same) > 3, all(same))\n"
        "print(model.layers[1].dtype_policy.name)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, str(keras_files / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.stdout.splitlines() == ["float16 float16 [] True True", "float32"], done.stderr[-2000:]


# -- who has what ----------------------------------------------------------------------------------------------------


class Silent:
    """A third party's backend of before there were more than two precisions."""

    name = "silent"

    def load(self, network: Network, device: str, precision: str, live: Any, trust_code: bool) -> Session:
        return REFERENCE.load(network, device, precision, live, trust_code)


class Outspoken(Silent):
    def precisions(self, device: str) -> tuple[str, ...]:
        return ("strict", "native", "float16") if device == "gpu" else ("strict",)


def test_a_backend_that_does_not_say_has_strict_and_native() -> None:
    network = cnnlens.open(cnnlens.sample.MODEL)
    silent: Any = Silent()
    assert precisions_of(silent, "cpu") == ("strict", "native")
    assert precisions_of(Outspoken(), "gpu") == ("strict", "native", "float16")  # pyright: ignore[reportArgumentType]
    load(silent, network, "cpu", "native").close()
    for precision in PRECISIONS[2:]:
        with pytest.raises(CnnlensError) as caught:
            load(silent, network, "cpu", precision)
        assert str(caught.value) == (
            f"silent: it has no precision '{precision}' on the device 'cpu'; it has strict, native"
        )
    outspoken: Any = Outspoken()
    with pytest.raises(CnnlensError, match="it has no precision 'native' on the device 'cpu'; it has strict"):
        load(outspoken, network, "cpu", "native")


@pytest.mark.parametrize(
    ("precision", "passes"),
    {
        "strict": "exact float32",
        "suspicious": "exact float32",  # what a recording may claim, and is no precision
        "tf32": "exact float32 tf32",
        "float16": "exact float32 tf32 float16",
        "bfloat16": "exact float32 tf32 float16 bfloat16",
        "native": "exact float32 tf32 float16 bfloat16",
    }.items(),
)
def test_a_precision_takes_what_has_its_bits(precision: str, passes: str) -> None:
    assert {one for one in Verdict if one.passes(precision)} == {*passes.split(), Verdict.NOT_AUDITED}


def test_the_reference_refuses_what_numpy_has_not() -> None:
    with pytest.raises(CnnlensError, match="reference: it has no precision 'bfloat16' on the device 'cpu'"):
        cnnlens.record(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backend="reference", precision="bfloat16")
