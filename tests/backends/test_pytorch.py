"""The ``pytorch`` backend gives what the module itself gives, whatever is asked for, and refuses what is not aten's."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cnnlens_backends import keras_jax, keras_tensorflow, keras_torch  # noqa: E402
from cnnlens_backends._shared import failing  # noqa: E402
from cnnlens_backends.pytorch import BACKEND, _last  # noqa: E402

import cnnlens  # noqa: E402
from benchmarks.peers.torch_modules import MobileNetV2, ResNet18  # noqa: E402
from cnnlens import sample  # noqa: E402
from cnnlens.backend.reductions import NumpyOps, reduced  # noqa: E402
from cnnlens.checking import audit, pairwise  # noqa: E402
from cnnlens.checking import checker as checking  # noqa: E402
from cnnlens.checking import listing as check_listing  # noqa: E402
from cnnlens.checking.result import stored_halves  # noqa: E402
from cnnlens.cli.main import main  # noqa: E402
from cnnlens.errors import CnnlensError, UnsupportedLayerError  # noqa: E402
from cnnlens.network.graph import Call, Layer, Ref  # noqa: E402
from cnnlens.network.network import Network  # noqa: E402
from cnnlens.opening.opener import network_given  # noqa: E402
from cnnlens.statistics.apart import Apart  # noqa: E402
from cnnlens.testing import NETWORKS, BackendContract, inputs_for, network  # noqa: E402
from tests.reference.test_aten import CASES, UNARY, P, X  # noqa: E402
from tests.support.aten_calls import AtenCall, called  # noqa: E402
from tests.support.once import Files  # noqa: E402
from tests.support.torch_models import Functional, Spoilt, Twin, hooked, seeded  # noqa: E402

Array = np.ndarray[Any, np.dtype[Any]]
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "residual": (lambda: seeded(ResNet18, classes=7, width=6), (3, 43, 38)),
    "inverted": (lambda: seeded(MobileNetV2, classes=7), (3, 43, 38)),
    "functional": (lambda: seeded(Functional), (3, 11, 9)),
}


def images(*shape: int, seed: int = 5) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class TestPytorch(BackendContract):
    backend = "pytorch"
    framework = "torch"


class TestPytorchNative(BackendContract):
    """Channels last in memory, and sums and activations written in place: the same maps."""

    backend = "pytorch"
    framework = "torch"
    precision = "native"


@pytest.mark.gpu
@GPU
class TestPytorchOnGpu(BackendContract):
    backend = "pytorch"
    framework = "torch"
    device = "gpu"


# -- what the module itself gives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("live", [True, False], ids=["live", "copied"])
def test_every_submodule_gives_what_its_hook_sees(name: str, live: bool) -> None:
    make, shape = MODELS[name]
    module, x = make(), images(2, *shape)
    net = cnnlens.open(module, example=x)
    truth = hooked(module, torch.from_numpy(x))
    assert len(truth) == sum(1 for call in net.calls if "torch.ops" not in call.layer.module) - 1  # the input
    for precision in ("strict", "native"):
        session = BACKEND.load(net, "cpu", precision, live=module if live else None)
        for count in (2, 1, 2):  # the graph that writes in place runs from the second batch of a size on
            found = session.feature_maps([x[:count]], list(net.tensors))
            for one, wanted in truth.items():
                assert found[one].flags.c_contiguous
                if precision == "strict" and count == 2:
                    np.testing.assert_array_equal(found[one], wanted, one, strict=True)
                else:
                    assert np.abs(found[one] - wanted[:count]).max() <= 1e-5 * np.abs(wanted).max(), one


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_that_is_asked_for_is_written_over(name: str) -> None:
    net = network(name, "torch")
    inputs = inputs_for(net, 3)
    wanted = net.run(inputs, dtype="float64")
    kept = [one.copy() for one in inputs]
    sessions = {precision: BACKEND.load(net, "cpu", precision) for precision in ("strict", "native")}
    names = list(net.tensors)
    subsets = [list(one) for size in (1, 2) for one in itertools.permutations(names, size)] + [names[::-1]]
    for precision, session in sessions.items():
        strict = session.feature_maps(inputs, names) if precision == "strict" else {}
        for subset in subsets:
            for _ in range(2):
                found = session.feature_maps(inputs, subset)
            assert list(found) == subset
            for one in subset:
                if strict:
                    np.testing.assert_array_equal(found[one], strict[one])
                assert np.abs(found[one] - wanted[one]).max() <= 1e-5 * np.abs(wanted[one]).max(), (subset, one)
    for before, after in zip(kept, inputs, strict=True):
        np.testing.assert_array_equal(before, after)


def test_native_writes_in_place_and_strict_does_not() -> None:
    module = seeded(ResNet18, classes=7, width=6)
    net = cnnlens.open(module, example=images(2, 3, 43, 38))
    written: dict[str, int] = {}
    for precision in ("strict", "native"):
        session = BACKEND.load(net, "cpu", precision)
        session.feature_maps([images(2, 3, 43, 38)], ["fc"])
        modules = [one for plan in session._plans.values() for one in (plan._plain, *plan._ready.values())]
        written[precision] = sum("relu_.default" in one.code for one in modules)
    assert written == {"strict": 0, "native": 1}


def test_a_live_module_is_run_as_it_is_now() -> None:
    module, x = seeded(Spoilt), images(2, 4, 11, 9)
    net = cnnlens.open(module, example=x)
    session = BACKEND.load(net, "cpu", "strict", live=module)
    held = {one.data_ptr() for one in (*module.parameters(), *module.buffers())}
    assert {one.data_ptr() for one in session._weights.values()} == held
    before = session.feature_maps([x], ["head"])["head"]
    with torch.no_grad():
        module.conv.weight.mul_(-1)
    after = session.feature_maps([x], ["head"])["head"]
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, module(torch.from_numpy(x)).detach().numpy())
    np.testing.assert_array_equal(session.weights()["conv"]["weight"], module.conv.weight.detach().numpy())


def test_a_live_module_in_training_is_run_in_evaluation_and_stays_as_it_is() -> None:
    module, x = seeded(Spoilt), images(3, 4, 11, 9)
    wanted = hooked(module, torch.from_numpy(x))
    module.train()
    state = {name: one.clone() for name, one in module.state_dict().items()}
    recording = cnnlens.record(module, x, precision="strict")
    for one, array in wanted.items():
        np.testing.assert_array_equal(recording[one][:], array)
    assert module.training
    assert all(torch.equal(one, state[name]) for name, one in module.state_dict().items())


def test_inputs_serve_as_the_example_of_a_live_module() -> None:
    module, x = seeded(Spoilt), images(5, 4, 11, 9)
    recording = cnnlens.record(module, torch.from_numpy(x), batch=2)
    assert recording.count == 5
    assert recording.description.backend == "pytorch"
    other = cnnlens.record(module, x, example=images(2, 4, 11, 9, seed=6), batch=2)
    np.testing.assert_array_equal(recording["head"][:], other["head"][:])
    with pytest.raises(CnnlensError, match="give an example"):
        cnnlens.record(module, "photo.png")
    result = cnnlens.check(module, x)
    assert result.agree
    assert [run.label for run in result.runs] == ["pytorch"]


# -- which operation is called ---------------------------------------------------------------------------------------

OPERATORS = {
    **CASES,
    **{name: called(getattr(torch.ops.aten, name).default, P if "log" in name else X) for name in UNARY},
}


def one_layer(call: AtenCall) -> tuple[Network, list[Array]]:
    """A network of that one call, and its inputs."""
    net = network("signal", "torch")
    entry = {"target": str(call.op), "arguments": call.arguments}
    stored = {
        name: dataclasses.replace(net["fine"].stored["weight"], name=name, kind="", role=name, stored=_InMemory(array))
        for name, array in call.weights.items()
    }
    layer = Layer("layer", "layer", {}, "torch.ops.aten", entry, path=("layer",), stored=stored)
    refs = [Ref(f"x{number}") for number in range(len(call.tensors))]
    types = [array.dtype.name for array in call.tensors]
    calls = [
        Call(ref.call, Layer(ref.call, "InputLayer", {"dtype": kind}), (), {}, (None,), 1)
        for ref, kind in zip(refs, types, strict=True)
    ]
    given = call.torch()
    shapes = (None,) * (len(given) if isinstance(given, list) else 1)
    calls.append(Call("layer", layer, tuple(refs), {}, shapes, 1))
    layers = tuple(one.layer for one in calls)
    outputs = tuple(Ref("layer", index) for index in range(len(shapes)))
    made = dataclasses.replace(net, layers=layers, calls=tuple(calls), inputs=tuple(refs), outputs=outputs)
    return made, call.tensors


class _InMemory:
    place, stored_dtype = "nowhere", "float64"

    def __init__(self, array: Array) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self) -> Array:
        return self.array


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_of_the_reference_is_called_as_it_was_exported(name: str) -> None:
    call = OPERATORS[name]
    net, tensors = one_layer(call)
    if len({len(one) for one in tensors if one.ndim}) > 1 or any(not one.ndim for one in tensors):
        pytest.skip("its operands are no batch of inputs")
    wanted = call.torch()
    for precision in ("strict", "native"):
        session = BACKEND.load(net, "cpu", precision)
        for _ in range(2):
            found = session.feature_maps(tensors, [ref.name for ref in net.outputs])
        for one, array in zip(found.values(), wanted if isinstance(wanted, list) else [wanted], strict=True):
            if precision == "strict":
                np.testing.assert_array_equal(one, array, strict=True)
            else:
                np.testing.assert_allclose(one, array, rtol=1e-12, atol=1e-13)


def spoilt(**changed: Any) -> Network:
    """``chain`` with another entry at its second layer."""
    net = network("chain", "torch")
    layer = net["act"]
    layer.entry = {**layer.entry, **changed}
    return net


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"target": "os.system"}, "'os.system' is no operation of torch's aten"),
        ({"target": "prims.sin.default"}, "'prims.sin.default' is no operation of torch's aten"),
        ({"target": "aten.relu"}, "'aten.relu' is no operation of torch's aten"),
        ({"target": "aten.relu.default.__class__"}, "is no operation of torch's aten"),
        ({"target": "aten.__class__.__base__"}, "has no operation 'aten.__class__.__base__'"),
        ({"target": "aten.relu.__call__"}, "has no operation 'aten.relu.__call__'"),
        ({"target": "aten.save.default"}, "'aten.save.default' does more than compute tensors"),
        ({"target": "aten.from_file.default"}, "'aten.from_file.default' does more than compute tensors"),
        ({"target": "aten.set_data.default"}, "does more than compute"),
        ({"target": "aten.relu.out"}, "'aten.relu.out' does more than compute tensors"),
        ({"target": None}, "the file does not say which operation"),
        ({"arguments": {}}, "aten::relu is not given its 'self'"),
        ({"arguments": {"self": {"tensor": 0}, "slope": 2}}, "aten::relu does not take 'slope'"),
        ({"arguments": {"self": {"tensor": 3}}}, "its arguments cannot be understood"),
        ({"arguments": {"self": {"weight": "kernel"}}}, "the file has no array for its weight 'kernel'"),
        (
            {"target": "aten.dropout.default", "arguments": {"input": {"tensor": 0}, "p": 0.5, "train": True}},
            "exported in training mode",
        ),
        ({"refused": "it takes a graph"}, "it takes a graph"),
        (
            {"target": "aten.to.dtype", "arguments": {"self": {"tensor": 0}, "dtype": "load"}},
            "'load' is no dtype of torch",
        ),
    ],
)
def test_what_is_not_aten_s_is_refused_in_one_line(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        BACKEND.load(spoilt(**changed), "cpu", "strict")
    message = str(caught.value)
    assert message.startswith("layer 'act' (ReLU): ")
    assert said in message
    assert "\n" not in message
    assert len(message) < 400


def test_new_tensors_are_made_where_the_others_are() -> None:
    """``arange`` was exported for a CPU, which must not decide where a GPU's network makes its tensors."""
    from cnnlens_backends._pytorch_graph import graph_of

    made = {"target": "aten.arange.default", "arguments": {"end": {"batch": 2}, "device": "cpu", "pin_memory": False}}
    graph, _ = graph_of(spoilt(**made), [Ref("act")], "cuda:1")
    (node,) = [one for one in graph.nodes if "arange" in str(one.target)]
    assert node.kwargs["device"] == "cuda:1"
    session = BACKEND.load(spoilt(**made), "cpu", "native")
    found = session.feature_maps(inputs_for(network("chain", "torch"), 3), ["act"])
    np.testing.assert_array_equal(found["act"], np.arange(6))


def test_one_channel_has_its_order_in_memory_too() -> None:
    for shape in [(2, 1, 4, 5), (2, 3, 4, 5), (1, 1, 4, 5), (2, 1, 3, 4, 5), (3, 1, 1, 7)]:
        x = torch.arange(float(np.prod(shape))).reshape(shape)
        moved = _last(x)
        assert torch.equal(moved, x)
        assert moved.movedim(1, -1).is_contiguous()


@pytest.mark.parametrize(("kernel", "stride"), [((2, 4), [1, 3]), ((3, 3), [2, 2]), ((3, 3), [1, 1])])
def test_strided_convolutions_of_one_channel_are_right(kernel: tuple[int, int], stride: list[int]) -> None:
    """oneDNN reads beyond a one-channel input whose channels stand last, and gives NaN."""
    module = seeded(torch.nn.Conv2d, 1, 8, kernel, stride=stride)
    x = images(8, 1, 10, 5)
    session = BACKEND.load(cnnlens.open(torch.nn.Sequential(module).eval(), example=x), "cpu", "native")
    wanted = module(torch.from_numpy(x)).detach().numpy()
    for _ in range(5):
        _ = np.full(200_000, np.nan, np.float32)  # what lies behind the input is not always zero
        found = session.feature_maps([x], ["0"])["0"]
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


# -- files, and what is no model of torch ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def exported(framework_files: Files) -> Path:
    """The test's models as ``.pt2`` files."""

    def make(folder: Path) -> None:
        modules = {**{name: (make(), shape) for name, (make, shape) in MODELS.items()}}
        modules |= {"spoilt": (seeded(Spoilt), (4, 11, 9)), "twin": (seeded(Twin), (3, 8, 8))}
        modules["half"] = (seeded(ResNet18, classes=7, width=6).to(torch.bfloat16), (3, 43, 38))
        for name, (module, shape) in modules.items():
            x = torch.from_numpy(images(2, *shape)).to(next(module.parameters()).dtype)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
                torch.export.save(program, folder / f"{name}.pt2")

    return framework_files("torch-exports", make)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_checked_in_a_worker(exported: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(exported / f"{name}.pt2"), "--repeat", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [run["label"] for run in data["runs"]] == ["pytorch"]
    assert data["runs"][0]["weights_equal"]
    assert data["runs"][0]["repeats"]["exactly"]
    network = cnnlens.open(exported / f"{name}.pt2")
    audited = {call.name for call in network.calls if not call.layer.container and call.refs}
    verdicts = {layer["name"]: layer["runs"]["pytorch"]["verdict"] for layer in data["layers"]}
    assert set(verdicts) == audited
    assert set(verdicts.values()) == {"exact", "float32"}


def test_a_model_in_half_precision_may_be_one(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(exported / "half.pt2")
    assert main(["check", path, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["runs"][0]["weights_equal"]
    assert {layer["runs"]["pytorch"]["verdict"] for layer in data["layers"]} == {"exact", "bfloat16"}
    # float16 is another arithmetic than the one that the model is stored in.
    assert stored_halves(cnnlens.open(path)) == {"bfloat16"}
    assert stored_halves(cnnlens.open(exported / "spoilt.pt2")) == frozenset()


def test_record_takes_pytorch_for_its_own_files(exported: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images(5, 4, 11, 9))
    arguments = ["-i", str(tmp_path / "x.npy"), "-o", str(tmp_path / "run.zarr"), "--batch", "2", "--json"]
    assert main(["record", str(exported / "spoilt.pt2"), *arguments]) == 0
    recording = cnnlens.Recording.open(tmp_path / "run.zarr")
    assert recording.description.backend == "pytorch"
    assert recording.description.weights == ()
    module = seeded(Spoilt)
    wanted = hooked(module, torch.from_numpy(images(5, 4, 11, 9)))
    for name, array in wanted.items():
        assert np.abs(recording[name][:] - array).max() <= 1e-5 * np.abs(array).max()


def test_each_framework_s_models_go_to_its_own_backends(exported: Path) -> None:
    keras = cnnlens.open(sample.MODEL)
    with pytest.raises(UnsupportedLayerError, match=r"a model of keras, .*: cnnlens convert MODEL --to torch$"):
        BACKEND.load(keras, "cpu", "strict")
    torch_model = cnnlens.open(exported / "twin.pt2")
    for module in (keras_jax, keras_tensorflow, keras_torch):
        with pytest.raises(UnsupportedLayerError, match=r"a model of torch, .*: cnnlens convert MODEL --to keras$"):
            module.BACKEND.load(torch_model, "cpu", "strict")


def test_weights_alone_cannot_be_run(tmp_path: Path) -> None:
    torch.save(seeded(Twin).state_dict(), tmp_path / "twin.pt")
    net = cnnlens.open(tmp_path / "twin.pt")
    for run in (
        lambda: BACKEND.load(net, "cpu", "strict"),
        lambda: net.run(images(1, 3, 8, 8)),
        lambda: cnnlens.record(net, images(1, 3, 8, 8)),
    ):
        with pytest.raises(UnsupportedLayerError, match=r"without a graph.*\.pt2.*--arch"):
            run()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda net: BACKEND.load(net, "gpu:7", "strict"), "it has no device 'gpu:7' here; it has cpu"),
        (lambda net: BACKEND.load(net, "cpu", "exact"), "bfloat16 or float16 was expected"),
        (lambda net: BACKEND.load(net, "cpu", "strict", live=torch.nn.Sequential(torch.nn.Linear(2, 2))), "other"),
        (lambda net: _maps(net, ["haed"]), "did you mean 'head'?"),
        (lambda net: _maps(net, ["head"], images(2, 3, 9, 11)), "(N, 3, 11, 9) was expected, (2, 3, 9, 11) came"),
        (lambda net: _maps(net, ["head"], images(2, 3, 11, 9), images(2, 3)), "has 1 inputs, and 2 arrays came"),
    ],
)
def test_what_cannot_be_done_is_one_line(ask: Callable[[Network], Any], said: str) -> None:
    net = network("chain", "torch")
    if said == "other":
        net["head"].stored["weight"].stored.place = "0.weight"
        said = "is (4, 42) in the network and (2, 2) in the live module"
    with pytest.raises(CnnlensError) as caught:
        ask(net)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def _maps(net: Network, tensors: list[str], *arrays: Array) -> Any:
    return BACKEND.load(net, "cpu", "strict").feature_maps(list(arrays) or inputs_for(net, 2), tensors)


def test_a_failure_while_running_is_one_line() -> None:
    net = network("chain", "torch")
    layer = net["pool"]
    layer.entry = {**layer.entry, "arguments": {**layer.entry["arguments"], "kernel_size": [99, 99]}}
    session = BACKEND.load(net, "cpu", "strict")
    with pytest.raises(CnnlensError, match=r"^pytorch: it failed on a batch of 2 \(") as caught:
        session.feature_maps(inputs_for(net, 2), ["head"])
    assert "\n" not in str(caught.value)
    assert session.feature_maps(inputs_for(net, 2), ["act"])["act"].shape == (2, 5, 11, 9)


def test_a_cpu_worker_sees_no_gpu() -> None:
    assert BACKEND.environment("cpu", "native") == {"CUDA_VISIBLE_DEVICES": ""}
    assert "CUDA_VISIBLE_DEVICES" not in BACKEND.environment("gpu:1", "strict")
    assert BACKEND.environment("gpu", "native") == {}


def test_strict_leaves_no_trace() -> None:
    before = (torch.backends.cudnn.allow_tf32, torch.get_deterministic_debug_mode())
    _maps(network("chain", "torch"), ["head"])
    assert (torch.backends.cudnn.allow_tf32, torch.get_deterministic_debug_mode()) == before


# -- faults ----------------------------------------------------------------------------------------------------------

FAULTS = {
    "conv:scaled": ("wrong", r"channel 2\b.*\b1\.0001"),
    "conv:swapped": ("wrong", r"height and width of the kernel are swapped"),
    "second:flipped": ("wrong", r"flipped"),
    "second:no_bias": ("wrong", r"bias"),
    "conv:nan": ("wrong", r"NaN.*channel 2|channel 2.*NaN"),
    "norm:epsilon": ("wrong", r""),
    "act:no_relu": ("wrong", r""),
    "add:subtracted": ("wrong", r""),
    "pool:count": ("wrong", r""),
    "gelu:tanh_gelu": ("wrong", r""),
    "up:corners": ("wrong", r""),
    "second:unstrided": ("wrong", r""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_where_it_is(exported: Path, plant: Path, fault: str) -> None:
    plant.write_text(fault)
    layer = fault.split(":")[0]
    verdict, named = FAULTS[fault]
    result = checking.check(exported / "spoilt.pt2", images(6, 4, 11, 9), backends=["planted-pytorch"])
    assert result.could_check
    assert not result.agree
    run = result.runs[0]
    problem = result.problem(run)
    assert isinstance(problem, tuple), problem
    assert problem[0] == layer
    assert problem[1].verdict == verdict
    said = check_listing.sentence(result, run)
    assert re.search(named, said), said
    others = [row.audits[run.label].verdict for row in result.rows if row.name != layer]
    assert set(others) <= {"exact", "float32"} or "nan" in fault, others


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_recurrent_layer_is_audited_though_its_first_state_is_not_recorded(kind: str, tmp_path: Path) -> None:
    class Sequences(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = getattr(torch.nn, kind)(4, 3, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.memory(x)[0][:, -1]

    torch.manual_seed(0)
    dynamic = ({0: torch.export.Dim("n")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Sequences().eval(), (torch.zeros(2, 5, 4),), dynamic_shapes=dynamic)
        torch.export.save(program, tmp_path / "m.pt2")
    found = cnnlens.check(tmp_path / "m.pt2", backends=["pytorch"])
    row = next(row for row in found.rows if row.name == "memory")
    assert [audit.verdict for audit in row.audits.values()] == ["float32"]


def test_a_live_module_is_as_large_as_it_is() -> None:
    """Its arrays are left out of what is written to be read: they are not what a file shows by repeating little."""
    with torch.device("meta"):
        made = torch.nn.Linear(9_000, 9_000, bias=False)  # 309 MiB
    module = made.to_empty(device="cpu").eval()
    assert cnnlens.open(module, example=torch.zeros(2, 9_000)).parameters == 81_000_000


# -- complex numbers ---------------------------------------------------------------------------------------------------


class Fourier(torch.nn.Module):
    """Gives the spectrum of its maps, twice as large."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x: Any) -> Any:
        return torch.fft.rfft2(self.conv(x)) * 2.0


@pytest.fixture
def spectrum() -> tuple[Any, Array, Array]:
    """A module, inputs, and what it gives of them."""
    module, given = seeded(Fourier), images(6, 3, 11, 9)
    with torch.no_grad():
        return module, given, module(torch.from_numpy(given)).numpy()


def test_statistics_of_complex_maps_are_of_their_magnitudes_and_say_so(spectrum: tuple[Any, Array, Array]) -> None:
    module, given, maps = spectrum
    stats = cnnlens.stats(module, given, batch=4)
    flat = np.abs(maps).astype(np.float64).swapaxes(0, 1).reshape(maps.shape[1], -1)
    name = next(reversed(list(stats)))
    np.testing.assert_allclose(stats[name].mean, flat.mean(1), rtol=1e-5)
    np.testing.assert_allclose(stats[name].max, flat.max(1), rtol=1e-5)
    assert [one for one in stats.notes if "complex" in one] == [
        f"'{one}' holds complex numbers: its statistics are of their magnitudes" for one in list(stats)[1:]
    ]
    assert "of their magnitudes" in str(stats)


def test_complex_maps_are_reduced_by_nothing(spectrum: tuple[Any, Array, Array]) -> None:
    module, given, maps = spectrum
    with pytest.raises(CnnlensError, match=r"^reduce max: '\w+' holds complex numbers, and real ones were"):
        cnnlens.record(module, given, reduce="max", batch=4)
    for text in ("mean", "moments", "topk:2", "down:2"):
        with pytest.raises(CnnlensError, match="complex"):
            reduced(text, maps, NumpyOps)


class Views(torch.nn.Module):
    """Gives views that NumPy does not take as they are: of a parameter, and such as torch has yet to conjugate."""

    def __init__(self) -> None:
        super().__init__()
        self.token = torch.nn.Parameter(torch.randn(1, 1, 4))
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x: Any) -> Any:
        maps = self.conv(x)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), maps.flatten(2).transpose(1, 2)], 1)
        turned = torch.fft.fft2(maps).conj()
        return tokens, turned.imag, turned.transpose(1, 2)


@pytest.mark.parametrize("live", [True, False])
def test_views_are_recorded_and_measured_whatever_they_are_of(live: bool, tmp_path: Path) -> None:
    module, given = seeded(Views), images(6, 3, 11, 9)
    with torch.no_grad():
        wanted = [one.resolve_conj().resolve_neg().numpy() for one in module(torch.from_numpy(given))]
    model: Any = module
    if not live:
        model = tmp_path / "m.pt2"
        dynamic = ({0: torch.export.Dim("n")},)
        torch.export.save(torch.export.export(module, (torch.from_numpy(given),), dynamic_shapes=dynamic), model)
    found = cnnlens.record(model, given, backend="pytorch", batch=4)
    arrays = [np.asarray(found[name]) for name in found]
    for one in wanted:
        same = [array for array in arrays if array.shape == one.shape and array.dtype == one.dtype]
        assert any(np.abs(array - one).max() <= 1e-5 * np.abs(one).max() for array in same)
    assert list(cnnlens.stats(model, given, backend="pytorch", batch=4)) == list(found)[1:]


def test_imaginary_parts_count_where_complex_maps_are_compared(spectrum: tuple[Any, Array, Array]) -> None:
    maps = spectrum[2]
    found = pairwise(maps, maps.conj())
    assert found.max_abs == 2 * np.abs(maps.imag).max()
    assert not found.equal
    apart = Apart("layer", ("one", "other"))
    apart.add(maps, maps.real, 0)
    assert apart.max_abs == np.abs(maps.imag).max()
    assert pairwise(maps, maps.copy()).equal


def test_complex_maps_are_audited_where_they_are_the_very_same_alone(spectrum: tuple[Any, Array, Array]) -> None:
    module, given, maps = spectrum
    call = network_given(module, given, None)[0].calls_by_name["mul"]
    args = tuple(maps / 2 if isinstance(one, Ref) else one for one in call.args)
    assert audit(call, {}, args, call.kwargs, maps).verdict == "exact"
    found = audit(call, {}, args, call.kwargs, maps.real + 2j * maps.imag)
    assert (found.verdict, found.reason[:34]) == ("not audited", "it reads or gives complex numbers,")


def test_what_fails_on_no_inputs_is_said_too() -> None:
    with pytest.raises(CnnlensError, match=r"^torch: it failed \(out of memory\)$"), failing("torch", []):
        raise RuntimeError("out of memory")
    with pytest.raises(CnnlensError, match=r"^mine: as it is$"), failing("other", [np.zeros((2, 3))]):
        raise CnnlensError("as it is", "mine")
