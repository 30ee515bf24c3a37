"""The three Keras backends give what Keras gives, hold the file's weights, and refuse what is not Keras' own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnnlens_backends._keras_errors import first_line, layer_of

import cnnlens
from cnnlens.network.network import Network
from tests.network.test_network import MODELS, arrays, canonical
from tests.support import SHARED, SUPPORT
from tests.support.once import Files

BACKENDS = ("keras-tensorflow", "keras-jax", "keras-torch")
# Not "sequential": its random variances are negative, and what max pooling makes of NaN differs between frameworks.
KERAS_2_NAMES = (
    "branches conv13d convlstm nested nested2 preproc separable shared shared_model td_model wrappers".split()
)
KERAS_FILES = SHARED / "data" / "keras_files" / "tf213"


@pytest.fixture(scope="session", params=BACKENDS)
def ran(request: pytest.FixtureRequest, framework_files: Files, graphs: Path) -> tuple[Path, dict[str, Any]]:
    """The folder that one backend's process wrote, and its report."""

    def make(folder: Path) -> None:
        script = SUPPORT / "keras_sessions.py"
        command = [sys.executable, str(script), request.param, str(graphs), str(folder)]
        # In a folder of its own, with a keras.json that must not matter.
        # And under JAX, to compile takes longer than all that is computed.
        quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}
        subprocess.run(command, cwd=folder, env={**hostile(folder), **quick}, check=True, capture_output=True)

    folder = framework_files(f"sessions-{request.param}", make)
    return folder, json.loads((folder / "report.json").read_text())


def hostile(folder: Path) -> dict[str, str]:
    """An environment whose owner set Keras up in another way."""
    home = folder / "home"
    home.mkdir()
    (home / "keras.json").write_text(json.dumps({"floatx": "float16", "image_data_format": "channels_first"}))
    return {**os.environ, "KERAS_HOME": str(home)}


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_is_what_keras_gives(ran: tuple[Path, dict[str, Any]], graphs: Path, name: str) -> None:
    network = cnnlens.open(graphs / f"{name}.keras")
    maps = arrays(ran[0] / f"{name}.npz")
    truth = arrays(graphs / f"{name}.outputs.npz")
    assert {key.replace("|", "/") for key in maps} == set(network.tensors)
    compared = [key for key in truth if key in maps]
    assert len(compared) >= len(truth) - 1 > 1
    if name == "average_pooling" and "torch" in ran[1]["precisions"]["versions"]:
        compared = ["conv"]  # behind it stands what Keras gets wrong under torch; see the test of that
    for key in compared:
        wanted = canonical(truth[key])
        assert maps[key].shape == wanted.shape, key
        assert np.abs(maps[key] - 1.0 * wanted).max() <= 3e-6 * np.abs(wanted).max(), key


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_the_file_s_bit_for_bit(ran: tuple[Path, dict[str, Any]], name: str) -> None:
    assert ran[1]["weights"][name] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_backend_repeats_itself(ran: tuple[Path, dict[str, Any]], name: str) -> None:
    assert ran[1]["repeated"][name] is True


def test_a_module_imports_no_framework(ran: tuple[Path, dict[str, Any]]) -> None:
    assert ran[1]["clean"] == []


def test_batches_of_any_size_give_the_same(ran: tuple[Path, dict[str, Any]]) -> None:
    found = ran[1]["batches"]
    assert found["sizes"] == [3, 3, 2]
    assert found["apart"] < 1e-5
    assert found["view apart"] < 1e-5
    assert found["read only"] is True
    assert found["order"] == ["head", "first", "pool"]
    assert found["renewed"] is True
    assert found["bounded"] is True


def test_strict_repeats_itself_and_leaves_no_trace(ran: tuple[Path, dict[str, Any]]) -> None:
    found = ran[1]["precisions"]
    assert found["repeats"] is True
    assert found["restored"] is True
    assert found["device"] == "cpu"
    assert found["devices"][0] == "cpu"
    assert {"keras", "python", "numpy"} < set(found["versions"])
    assert found["inside"] in ([False], ["highest"], [False, True, False, True])


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("Lambda", "layer 'pool' (Lambda): a Lambda runs code"),
        ("TFSMLayer", "a TFSMLayer runs code"),
        ("foreign module", "its class (subprocess.MaxPooling2D) is not Keras' own"),
        ("unknown class", "has no layer of this class"),
        ("registered", "mine>Pool"),
        ("foreign function", "it names the function os.system"),
        ("keras function", "it names the function keras.utils.get_file"),
        ("foreign class inside", "layer 'frames' (TimeDistributed): its class (posixpath.Evil) is not Keras' own"),
        ("Lambda inside", "a Lambda runs code"),
        ("foreign op", "has no operation of this name"),
    ],
)
def test_what_is_not_keras_own_is_refused(ran: tuple[Path, dict[str, Any]], case: str, said: str) -> None:
    message, kind = ran[1]["refusals"][case]
    assert said in message
    assert "--trust-code" in message
    assert "\n" not in message
    assert len(message) < 400
    assert kind == "UnsupportedLayerError"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("named function", "layer 'first' (Conv2D): Keras"),
        ("too large", "layer 'head' (Dense): its config asks for an array of shape (42, 1000000000)"),
        ("another size", "layer 'head' (Dense): its weight 'kernel' is (42, 3) by its config and (42, 4) in the file"),
        ("nonsense", "layer 'first' (Conv2D): Keras"),
        ("no bias stored", "layer 'first' (Conv2D): the file has no array for its weight 'bias'"),
        ("no such weight", "layer 'first' (Conv2D): Keras' layer has no weight 'bias'"),
        ("no graph", "weights without a graph"),
        ("precision", "bfloat16 or float16 was expected"),
        ("device", "it has no device 'gpu:7' here; it has cpu"),
        ("tensor", "did you mean 'head'?"),
        ("shape", "input 'photo': (N, 3, 11, 9) was expected, (1, 3, 11, 5) came"),
        ("inputs", "the network has 1 inputs, and 2 arrays came"),
    ],
)
def test_what_cannot_run_is_one_line(ran: tuple[Path, dict[str, Any]], case: str, said: str) -> None:
    message, _ = ran[1]["refusals"][case]
    assert said in message
    assert "\n" not in message
    assert len(message) < 400


def test_code_runs_when_it_is_trusted(ran: tuple[Path, dict[str, Any]]) -> None:
    assert "layer 'code' (Lambda)" in ran[1]["untrusted"]
    assert ran[1]["trusted"] < 1e-6


def test_a_live_model_is_its_file(ran: tuple[Path, dict[str, Any]]) -> None:
    found = ran[1]["live"]
    assert found["layers"] == found["filed"]
    assert ["block/norm", ["beta", "gamma", "moving_mean", "moving_variance"]] in found["layers"]
    assert ["steps", ["bias", "kernel"]] in found["layers"]
    assert found["differing"] == []
    assert found["hash"] is True


def test_a_live_model_runs_as_it_is_now(ran: tuple[Path, dict[str, Any]]) -> None:
    found = ran[1]["live"]
    assert found["apart"] < 1e-5
    assert found["moves"] > 0.1
    assert found["after training"] < 1e-5


def test_what_is_no_live_model_is_one_line(ran: tuple[Path, dict[str, Any]]) -> None:
    found = ran[1]["live"]
    assert "has no weights yet" in found["unbuilt"]
    assert "a keras.Model of Keras" in found["no model"]
    assert "the live model has no such layer" in found["another"]


def test_keras_2_is_said_in_keras_3(ran: tuple[Path, dict[str, Any]]) -> None:
    found = ran[1]["keras 2"]
    assert found["hard_sigmoid"] < 1e-6
    assert found["axis"] is True
    assert "layer 'separable' (SeparableConv1D)" in found["groups"]
    assert "cannot do groups=2" in found["groups"]


def test_a_fault_of_keras_stays_visible(ran: tuple[Path, dict[str, Any]]) -> None:
    assert ran[1]["as keras"] == 0.0


def test_a_failure_of_tensorflows_graph_says_its_cause() -> None:
    frames = 'Detected at node conv/Add defined at (most recent call last):\n  File "a.py", line 5, in call\n\n'
    error = RuntimeError(
        f"Graph execution error:\n\n{frames}could not create a primitive\n\t [[{{{{node conv/Add}}}}]]"
    )
    assert first_line(error) == "could not create a primitive"
    assert layer_of(error, {"conv", "other"}) == "conv"
    assert layer_of(RuntimeError("[[{{node walk/conv_1/Add}}]]"), {"conv"}) == "conv"
    assert layer_of(error, {"other"}) is None
    error.add_note("other")
    assert layer_of(error, {"conv", "other"}) == "other"


def test_a_failure_while_running_is_one_line_and_ends_nothing(ran: tuple[Path, dict[str, Any]]) -> None:
    said = ran[1]["fails"]
    assert ": it failed on a batch of 1 (" in said
    assert "\n" not in said
    assert "Exception encountered" not in said
    assert "\x1b" not in said
    assert ran[1]["runs"] == [2, 2, 3, 2]


def test_torch_runs_a_graph_with_the_same_bits(ran: tuple[Path, dict[str, Any]]) -> None:
    if "graphs" not in ran[1]:
        pytest.skip("of torch alone")
    # Once, for the native session's second batch; never for the strict one.
    assert ran[1]["graphs"] == {"captured": [True], "same": True}


@pytest.mark.parametrize("name", BACKENDS)
def test_a_cpu_worker_sees_no_gpu(name: str) -> None:
    module = __import__("cnnlens_backends." + name.replace("-", "_"), fromlist=["BACKEND"])
    hidden = module.BACKEND.environment("cpu", "native")
    assert hidden["CUDA_VISIBLE_DEVICES"] == ""
    assert hidden["KERAS_BACKEND"] == name.removeprefix("keras-")
    seen = module.BACKEND.environment("gpu:1", "strict")
    assert "CUDA_VISIBLE_DEVICES" not in seen
    assert seen["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


@pytest.fixture(scope="session")
def keras_2_outputs(framework_files: Files) -> Path:
    def make(folder: Path) -> None:
        script = SUPPORT / "keras_two_files.py"
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, str(script), str(KERAS_FILES), str(folder)]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    return framework_files("keras-2-files", make)


@pytest.mark.skipif(not KERAS_FILES.exists(), reason="the files that Keras 2.13 wrote are not here")
@pytest.mark.parametrize("name", KERAS_2_NAMES)
def test_files_of_keras_2_give_keras_2_s_outputs(keras_2_outputs: Path, name: str) -> None:
    ours = arrays(keras_2_outputs / f"{name}.npz")
    truth = arrays(KERAS_FILES / f"{name}.keras.out.npz")
    network: Network = cnnlens.open(KERAS_FILES / f"{name}.keras")
    assert len(network.outputs) == sum(key.startswith("y") for key in truth)
    for index, ref in enumerate(network.outputs):
        wanted = truth[f"y{index}"]
        found = ours[str(index)]
        found = (
            found if found.ndim < 3 or network.calls_by_name[ref.call].channel_axis == 1 else np.moveaxis(found, 1, -1)
        )
        assert np.array_equal(np.isnan(found), np.isnan(wanted))  # of random variances, some are negative
        assert np.nanmax(np.abs(found - wanted), initial=0) <= 3e-6 * max(1, np.nanmax(np.abs(wanted), initial=0))
