"""A PyTorch module said in Keras computes the same in every layer, and Keras itself loads and runs what was written."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import SUPPORT

torch = pytest.importorskip("torch")
pytest.importorskip("h5py")
from torch import nn  # noqa: E402

import cnnlens  # noqa: E402
from cnnlens.checking.auditing import audit_recording  # noqa: E402
from cnnlens.conversion import to_keras  # noqa: E402
from cnnlens.conversion.to_keras import Twin  # noqa: E402
from cnnlens.conversion.to_keras.attention import head_modules  # noqa: E402
from cnnlens.errors import CnnlensError, UnsupportedLayerError  # noqa: E402
from cnnlens.network.network import Network  # noqa: E402
from cnnlens.opening.live import network_of_live  # noqa: E402
from tests.support.once import Files  # noqa: E402
from tests.support.to_keras_models import MODELS, Function, randomised  # noqa: E402

# One Keras process for all: enough kinds to see every layer and operation once, few enough to load in a minute.
BACKENDS = ("tensorflow", "jax", "torch")
LIMIT = 1e-10


class Case:
    """A module, its network, what came of it, and inputs in PyTorch's axes."""

    def __init__(self, module: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> None:
        self.module = randomised(module)
        generator = torch.Generator().manual_seed(1)
        self.inputs = [torch.randn((3, *shape), generator=generator) for shape in shapes]
        self.network: Network = network_of_live(self.module, tuple(self.inputs))
        self.made = to_keras.model(self.network)

    def truth(self) -> list[np.ndarray[Any, Any]]:
        """What PyTorch computes in float64."""
        with torch.no_grad():
            found = copy.deepcopy(self.module).double()(*[x.double() for x in self.inputs])
        return [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]

    def given(self) -> dict[str, np.ndarray[Any, Any]]:
        """The inputs by the names of the Keras network's, in canonical axes."""
        found: dict[str, np.ndarray[Any, Any]] = {}
        for ref, x in zip(self.network.inputs, self.inputs, strict=True):
            twin = self.made.names[ref.name]
            found[twin.name] = x.double().numpy().transpose(np.argsort(twin.axes))
        return found


_CASES: dict[str, Case] = {}


def case(name: str) -> Case:
    if name not in _CASES:
        torch.set_num_threads(1)
        make, shapes = MODELS[name]
        _CASES[name] = Case(make(), shapes)
    return _CASES[name]


def apart(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    assert found.shape == wanted.shape
    found, wanted = (array.astype(np.float64) for array in (found, wanted))
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30))


def turned_to_torch(twin: Twin, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The canonical array of the Keras network as PyTorch's."""
    turned = array.transpose(twin.axes)
    if twin.flat is None:
        return turned
    sizes, order = twin.flat.sizes, twin.flat.order
    apart = turned.reshape(*turned.shape[:-1], *(sizes[axis] for axis in order))
    lead = turned.ndim - 1
    back = [*range(lead), *(lead + order.index(axis) for axis in range(len(sizes)))]
    return apart.transpose(back).reshape(turned.shape)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_pytorch(name: str) -> None:
    one = case(name)
    found = one.made.network.run(one.given())
    for ref, wanted in zip(one.network.outputs, one.truth(), strict=True):
        twin = one.made.names[ref.name]
        assert apart(turned_to_torch(twin, found[twin.name]), wanted) < LIMIT, ref.name


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_has_its_twin(name: str) -> None:
    one = case(name)
    ours = one.network.run([x.double().numpy() for x in one.inputs] if len(one.inputs) > 1 else one.inputs[0].double())
    theirs = one.made.network.run(one.given())
    compared = 0
    for tensor, twin in one.made.names.items():
        if tensor in ours:
            assert apart(turned_to_torch(twin, theirs[twin.name]), ours[tensor]) < LIMIT, (tensor, twin.name)
            compared += 1
    assert compared >= len(_depending_on_inputs(one.network)) * 0.9


def _depending_on_inputs(network: Network) -> set[str]:
    found = {ref.call for ref in network.inputs}
    for call in network.calls:
        if call.layer.kind != "zeros" and any(ref.call in found for ref in call.refs):
            found.add(call.name)
    # Those in a module that becomes one layer have no tensor of their own.
    inside = {call.name for module in head_modules(network).values() for call in module.inside}
    return {name for name in found - inside if not network.calls_by_name[name].layer.container}


@pytest.mark.parametrize("name", ["resnet_even", "mobilenet", "flatten_chain", "flatten_chain_square", "densenet"])
def test_weights_are_pytorchs_bit_for_bit(name: str) -> None:
    one = case(name)
    stored = {
        (layer.name, weight.kind, weight.role): weight.canonical()
        for layer in one.network.layers
        for weight in layer.stored.values()
        if weight.kind
    }
    found = {"_".join(layer.name.split("/")): layer for layer in one.made.network.layers if layer.stored}
    assert sum(len(layer.stored) for layer in found.values()) == len(stored)
    for (layer, _, role), array in stored.items():
        twin = one.made.names[layer].name
        weight = found[twin].stored[role]
        again = weight.canonical()
        assert again.dtype == array.dtype
        assert again.reshape(-1).tobytes() == np.ascontiguousarray(array).reshape(-1).tobytes(), (layer, role)


# --- Keras itself ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def written(framework_files: Files) -> Path:
    """Every model as ``.keras``, with its inputs, its arrays and the outputs that the reference computes."""

    def make(folder: Path) -> None:
        for name in MODELS:
            one = case(name)
            one.made.write(folder / f"{name}.keras")
            every = {f"{layer}|{role}": array for layer, own in one.made.weights.items() for role, array in own.items()}
            np.savez(folder / f"{name}.arrays.npz", **every)
            arrays = {
                f"{layer}|{role.rpartition('/')[2]}": array
                for layer, own in one.made.weights.items()
                for role, array in own.items()
            }
            given = one.given()
            for place, ref in enumerate(one.made.network.inputs):
                x = given[ref.name].astype(np.float32)
                arrays[f"input{place}"] = np.moveaxis(x, 1, -1) if x.ndim > 2 else x
            np.savez(folder / f"{name}.npz", **arrays)
            found = one.made.network.run(given)
            outputs = [found[one.made.names[ref.name].name] for ref in one.network.outputs]
            np.savez(folder / f"{name}.want.npz", *[np.moveaxis(y, 1, -1) if y.ndim > 2 else y for y in outputs])

    return framework_files("to-keras", make)


@pytest.fixture(scope="session", params=BACKENDS)
def ran(request: pytest.FixtureRequest, written: Path, framework_files: Files) -> tuple[Path, str]:
    backend: str = request.param
    if find_spec("keras") is None or find_spec(backend) is None:
        pytest.skip(f"Keras on {backend} is not installed")

    def make(folder: Path) -> None:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        # To compile takes longer than all that is computed.
        environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        script = SUPPORT / "run_written_keras.py"
        subprocess.run([sys.executable, str(script), str(written)], env=environment, check=True, capture_output=True)
        assert folder.is_dir()

    framework_files(f"to-keras-{backend}", make)
    return written, backend


def test_keras_loads_and_runs_every_file(ran: tuple[Path, str]) -> None:
    folder, backend = ran
    assert json.loads((folder / f"{backend}.json").read_text()) == {}
    for name in MODELS:
        with np.load(folder / f"{name}.{backend}.out.npz") as found, np.load(folder / f"{name}.want.npz") as wanted:
            assert found.files == wanted.files
            for key in wanted.files:
                assert apart(found[key], wanted[key]) < 3e-5, (name, key)


def test_what_was_written_opens_with_the_same_arrays(written: Path) -> None:
    for name in MODELS:
        network = cnnlens.open(written / f"{name}.keras")
        with np.load(written / f"{name}.arrays.npz") as arrays:
            for key, array in arrays.items():
                layer, _, role = key.partition("|")
                again = network[layer].weights[role]
                assert (again.dtype, again.shape) == (array.dtype, array.shape)
                assert again.tobytes() == array.tobytes(), (name, layer, role)


# --- how it is said -------------------------------------------------------------------------------------------------


def kinds(name: str) -> list[str]:
    return [entry["class_name"] for entry in case(name).made.config["config"]["layers"]]


def test_a_feature_map_is_never_moved() -> None:
    for name in ("resnet_even", "resnet_odd", "mobilenet", "densenet", "unet", "convnext_block", "flatten_chain"):
        assert "Permute" not in kinds(name), name
        assert "Transpose" not in kinds(name), name


def test_maxima_over_padding_are_minus_infinity_unless_nothing_is_negative() -> None:
    model = nn.Sequential(nn.MaxPool2d(3, 2, 1))
    x = -torch.rand(2, 3, 8, 8) - 1
    made = to_keras.model(network_of_live(model, x))
    assert [entry["class_name"] for entry in made.config["config"]["layers"]] == ["InputLayer", "Pad", "MaxPooling2D"]
    found = made.network.run(x.double().numpy())
    name = made.network.outputs[0].name
    np.testing.assert_array_equal(found[name], model(x.double()).numpy())
    assert kinds("resnet_even").count("Pad") == 0


def test_same_padding_is_used_where_it_is_the_same_for_the_size() -> None:
    def padding(size: int) -> str:
        made = to_keras.model(network_of_live(nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1)), torch.zeros(2, 2, size, size)))
        return next(
            entry["config"]["padding"] for entry in made.config["config"]["layers"] if entry["class_name"] == "Conv2D"
        )

    assert (padding(9), padding(8)) == ("same", "valid")


def test_momentum_and_epsilon_are_keras() -> None:
    entries = {entry["name"]: entry["config"] for entry in case("mobilenet").made.config["config"]["layers"]}
    (norm,) = [config for config in entries.values() if "momentum" in config]
    assert (norm["momentum"], norm["epsilon"], norm["axis"]) == (0.99, 1e-3, -1)


def test_align_corners_is_as_exact_as_float32() -> None:
    model = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
    x = torch.randn(2, 3, 5, 4)
    made = to_keras.model(network_of_live(model, x))
    found = made.network.run(x.double().numpy())[made.network.outputs[0].name]
    assert apart(found, model(x.double()).numpy()) < 1e-6


# --- refusals -------------------------------------------------------------------------------------------------------


def test_everything_that_keras_lacks_is_named_at_once(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.MaxPool2d(2, 1, dilation=2), nn.Conv2d(3, 3, 1), nn.Upsample(scale_factor=2, mode="bicubic"), nn.Softplus(2)
    )
    with pytest.raises(UnsupportedLayerError) as error:
        to_keras.model(network_of_live(model, torch.zeros(2, 3, 8, 7)))
    text = str(error.value)
    assert "3 of its layers" in text
    for shown in ("'0' (MaxPool2d)", "'2' (Upsample)", "'3' (Softplus)", "dilation", "beta"):
        assert shown in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("settings", "call", "reason"),
    [
        ({"add_bias_kv": True}, {}, "add_bias_kv"),
        ({"add_zero_attn": True}, {"need_weights": False}, "add_zero_attn"),
        ({}, {"weights": True}, "its attention weights are used"),
        ({}, {"key_padding_mask": True}, "a mask that the model computes"),
        ({}, {"attn_mask": torch.linspace(-1, 1, 49).reshape(7, 7)}, "a mask that is not the causal one"),
    ],
)
def test_attention_that_the_layer_has_not_is_refused(
    settings: dict[str, Any], call: dict[str, Any], reason: str
) -> None:
    def forward(self, x):
        given = {name: value for name, value in call.items() if name != "weights"}
        if given.get("key_padding_mask") is True:
            given["key_padding_mask"] = x[:, :, 0] > 100
        made, shares = self.looks(x, x, x, **given)
        return (made, shares) if "weights" in call else made

    module = Function(forward, looks=nn.MultiheadAttention(6, 2, batch_first=True, **settings))
    with pytest.raises(UnsupportedLayerError, match=r"1 of its layers: layer 'looks'") as refused:
        Case(module, ((7, 6),))
    assert reason in str(refused.value)


def test_a_mask_that_is_an_input_is_of_true_and_false() -> None:
    module = Function(lambda self, x, seen: nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=seen))
    x, seen = torch.randn(3, 5, 4), torch.rand(3, 5, 5) > 0.4
    network = network_of_live(module, (x, seen))
    [output] = network.outputs
    wanted = module(x, seen).numpy()
    given = {network.inputs[0].name: x.numpy(), network.inputs[1].name: seen.numpy().astype(np.float32)}
    found = network.run(given)[output.name]
    np.testing.assert_allclose(found, wanted, atol=1e-6)

    class Recorded(dict[str, Any]):
        info, count = {"precision": "strict"}, 3

        def altered(self, name: str) -> str | None:
            return None

    assert dict(audit_recording(network, Recorded({**given, output.name: wanted})))[output.name].verdict == "float32"


def test_an_input_whose_batch_is_not_in_front_is_refused_for_that(tmp_path: Path) -> None:
    module = Function(lambda self, x: self.looks(x, x, x)[0], looks=nn.MultiheadAttention(4, 2)).eval()
    batch = torch.export.Dim("batch", min=1, max=9)
    program = torch.export.export(module, (torch.randn(5, 3, 4),), dynamic_shapes=(({1: batch},),))
    torch.export.save(program, tmp_path / "turned.pt2")
    with pytest.raises(UnsupportedLayerError, match="export the model batch first"):
        to_keras.model(cnnlens.open(tmp_path / "turned.pt2"))


def test_states_that_have_no_tensor_are_refused() -> None:
    model = Function(lambda self, x: self.r(x)[1], r=nn.GRU(6, 4, batch_first=True))
    with pytest.raises(UnsupportedLayerError, match="no tensor for 'r"):
        to_keras.model(network_of_live(model, torch.zeros(2, 5, 6)))


def test_the_two_biases_of_an_lstm_become_one() -> None:
    model = randomised(Function(lambda self, x: self.r(x)[0], r=nn.LSTM(6, 4, batch_first=True)))
    made = to_keras.model(network_of_live(model, torch.zeros(2, 5, 6)))
    both = (model.r.bias_ih_l0.double() + model.r.bias_hh_l0).detach().numpy()
    np.testing.assert_array_equal(made.weights["r"]["cell/bias"], both.astype(np.float32))


def test_a_network_without_a_graph_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UnsupportedLayerError, match="--arch"):
        to_keras.model(cnnlens.open(tmp_path / "weights.pt"))


def test_a_keras_network_is_refused() -> None:
    with pytest.raises(CnnlensError, match="a network of PyTorch was expected"):
        to_keras.model(case("unet").made.network)


def test_a_batch_that_is_mixed_is_refused() -> None:
    model = Function(lambda self, x: x - x.mean(0, keepdim=True))
    with pytest.raises(UnsupportedLayerError, match="over the batch"):
        to_keras.model(network_of_live(model, torch.zeros(2, 3, 4)))


def test_an_output_that_lay_otherwise_is_written_channels_last() -> None:
    one = case("spread_means")
    assert [one.made.names[ref.name].axes for ref in one.network.outputs] == [(0, 1, 2, 3)] * 2
