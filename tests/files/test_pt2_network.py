"""Exported PyTorch graphs as networks: every module under its own name, computing what it computes, without torch."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.backend import handover
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.network import Network

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests.support import torch_nets  # noqa: E402
from tests.support.torch_nets import CASES, build, exported, outputs_of_modules  # noqa: E402

# As torch.export writes them by default, as ``run_decompositions`` leaves them, and alive; some traced by Dynamo, too.
WAYS = [(name, way) for name in CASES for way in ("static", "dynamic decomposed", "live")]
WAYS += [
    (name, way) for name in ("shared", "in place", "patches", "frames") for way in ("static decomposed", "dynamic")
]
WAYS += [(name, "strict") for name in ("shared", "two inputs", "mobilenet")]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(module: nn.Module, inputs: tuple[Any, ...], way: str, folder: Path) -> Network:
    if way == "live":
        return cnnlens.open(module, example=inputs)
    program = exported(module, inputs, "dynamic" in way, way == "strict")
    if "decomposed" in way:
        program = program.run_decompositions({})
    path = folder / "net.pt2"
    torch.export.save(program, path)
    return cnnlens.open(path)


def three(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """One input more than was exported, in float64."""
    more = [torch.cat([one, one.flip(0)[:1]]) for one in inputs]
    return tuple(one.double() if one.is_floating_point() else one for one in more)


def as_arrays(inputs: tuple[Any, ...]) -> list[Any]:
    return [one.numpy() for one in inputs]


@pytest.mark.parametrize(("name", "way"), WAYS)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_every_module_computes_what_its_module_computes(name: str, way: str, tmp_path: Path) -> None:
    module, inputs = build(name), CASES[name][1]
    network = opened(module, inputs, way, tmp_path)
    truth = outputs_of_modules(copy.deepcopy(module).double(), three(inputs))
    if name == "patches":  # torch hands attention's weights out beside its output, or takes a path of its own
        truth = {key: value for key, value in truth.items() if "." not in key}
    maps = network.run(as_arrays(three(inputs)))
    missing = [key for key in truth if key not in maps and not isinstance(module.get_submodule(key), nn.Identity)]
    assert missing == []
    for key in truth.keys() & maps.keys():
        scale = np.abs(truth[key]).max()
        np.testing.assert_allclose(maps[key], truth[key], rtol=0, atol=1e-12 * scale, err_msg=key)
        assert network.shape(network.tensors[key]) == (None, *truth[key].shape[1:]), key
    assert network.notes == () or name in ("names", "unused")

    stored = {weight.stored.place: weight for layer in network for weight in layer.stored.values()}
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(stored[key].read(), tensor.numpy(), err_msg=key)
        assert stored[key].read().dtype == tensor.numpy().dtype, key


@pytest.mark.parametrize("name", CASES)
def test_a_handover_keeps_everything(name: str, tmp_path: Path) -> None:
    inputs = CASES[name][1]
    network = opened(build(name), inputs, "dynamic", tmp_path)
    folder = tmp_path / "handed"
    folder.mkdir()
    handover.write(network, folder)
    again = handover.load(folder)
    assert handover.network_hash(again) == handover.network_hash(network)
    assert [layer.name for layer in again] == [layer.name for layer in network]
    one, other = (each.run(as_arrays(three(inputs))) for each in (network, again))
    assert one.keys() == other.keys()
    for key, array in one.items():
        np.testing.assert_array_equal(array, other[key])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return opened(build("shared"), CASES["shared"][1], "static", tmp_path_factory.mktemp("shared"))


def test_shared_modules_are_one_layer_with_several_calls(shared: Network) -> None:
    names = [call.name for call in shared.calls]
    assert names[:5] == ["x", "conv", "act", "conv:1", "act:1"]
    inner = ["conv1", "bn1", "relu", "conv2", "bn2", "add", "relu:1"]
    start = names.index("block.conv1")
    assert names[start : start + 8] == [f"block.{one}" for one in inner] + ["block"]
    assert names[start + 8 : start + 16] == [
        *(
            "block.conv1:1",
            "block.bn1:1",
            "block.relu:2",
            "block.conv2:1",
            "block.bn2:1",
            "block.add:1",
            "block.relu:3",
        ),
        "block:1",
    ]
    assert shared.calls_by_name["block.conv1:1"].layer is shared["block.conv1"]
    # Inside a container's second call its inner layers read the first call's output by the container's name.
    assert [ref.name for ref in shared.calls_by_name["block.conv1:1"].refs] == ["block"]


def test_modules_have_their_own_names_kinds_and_places(shared: Network) -> None:
    block = shared["block"]
    assert (block.container, block.kind, block.path) == (True, "Block", ("block",))
    conv = shared["block.conv1"]
    assert (conv.kind, conv.module, conv.path) == ("Conv2d", "torch.nn.modules.conv.Conv2d", ("block", "conv1"))
    assert (shared["block.add"].kind, shared["block.add"].module) == ("add", "torch.ops.aten")
    assert [shared[name].kind for name in ("x", "act", "mean", "tied")] == ["InputLayer", "LeakyReLU", "mean", "Linear"]
    assert shared["tied"].stored["weight"].stored.place == "tied.weight"
    assert shared.kind == "Shared"
    assert shared.source.framework == "torch"
    assert shared.source.format == "torch export"


def test_an_entry_is_the_operator_with_its_arguments(shared: Network) -> None:
    entry = shared["block.conv1"].entry
    assert entry["target"] == "aten.conv2d.default"
    arguments = entry["arguments"]
    assert (arguments["input"], arguments["weight"], arguments["bias"]) == ({"tensor": 0}, {"weight": "weight"}, None)
    assert arguments["padding"] == [1, 1]
    # The sum was written in place, and reads its second operand as the block does.
    assert shared["block.add"].entry["target"] == "aten.add.Tensor"
    assert [ref.name for ref in shared.calls_by_name["block.add"].refs] == ["block.bn2", "act:1"]
    assert "weight" not in shared["block.conv1"].config


def test_layouts_and_the_order_of_what_was_flattened(tmp_path: Path) -> None:
    network = opened(build("flattened"), CASES["flattened"][1], "static", tmp_path)
    for layer, role in (("classifier.1", "gamma"), ("classifier.2", "alpha"), ("classifier.4", "kernel")):
        weight = network[layer].stored["weight"]
        assert (weight.role, weight.geometry.flatten) == (role, (3, 4, 8)), layer
        assert weight.framework == "torch"
    assert network["classifier.6"].stored["weight"].geometry.flatten is None
    kernel = network["features.0"].kernel
    assert kernel is not None
    assert kernel.array.shape == (6, 3, 3, 3)
    assert kernel.to("keras").shape == (3, 3, 3, 6)
    norm = network["features.1"].stored
    assert [one.role for one in norm.values()][:4] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert (norm["num_batches_tracked"].kind, norm["num_batches_tracked"].role) == ("", "num_batches_tracked")


class _BehindFlatten(nn.Module):
    def __init__(self, between: Any, features: int) -> None:
        super().__init__()
        self.between = between
        self.c, self.e, self.d = nn.Conv2d(3, 4, 3), nn.Linear(24, 24), nn.Linear(features, 7)

    def forward(self, x: Any) -> Any:
        flat = torch.flatten(self.c(x), 1)
        return self.d(self.between(flat) if self.between is not None else flat + self.e(flat))


@pytest.mark.parametrize(
    ("between", "features", "said"),
    [
        (lambda flat: torch.sin(flat) * 2 + flat.mean(1, keepdim=True), 24, ""),
        (lambda flat: torch.cat([flat, flat], 1), 48, "'cat' (cat) moves the features of a flattened map"),
        (lambda flat: flat.unsqueeze(1).squeeze(1), 24, "'unsqueeze' (unsqueeze) reshapes the features"),
        (lambda flat: torch.flatten(flat.view(flat.size(0), -1), 1), 24, ""),
        (lambda flat: nn.functional.normalize(flat), 24, ""),
        (None, 24, "'add' (add) joins the features of a flattened map and others of no known order"),
    ],
)
def test_where_the_order_of_a_flattened_map_is_lost_a_note_says_so(
    between: Any, features: int, said: str, tmp_path: Path
) -> None:
    network = opened(_BehindFlatten(between, features).eval(), (torch.zeros(2, 3, 5, 4),), "static", tmp_path)
    assert network["d"].stored["weight"].geometry.flatten == (None if said else (3, 2, 4))
    notes = [note for note in network.notes if "cannot be followed" in note]
    assert len(notes) == bool(said)
    assert said in "".join(notes)


def test_names_that_collide_are_told_apart(tmp_path: Path) -> None:
    network = opened(build("names"), CASES["names"][1], "static", tmp_path)
    assert [ref.name for ref in network.inputs] == ["x_1"]
    assert (network["x"].kind, network["add"].kind, network["relu_1"].kind) == ("Conv2d", "ReLU", "Conv2d")
    assert [call.name for call in network.calls] == [
        *("x_1", "x", "add", "add_1", "relu", "relu_1", "relu_2", "view.0", "view", "mul", "view_1")
    ]
    assert network["mul"].stored["alpha"].stored.place == "alpha"
    assert "is a weight of the model" in network.notes[0]


def test_inputs_and_outputs_in_order(tmp_path: Path) -> None:
    network = opened(build("two inputs"), CASES["two inputs"][1], "dynamic", tmp_path)
    assert [(ref.name, network.shape(ref)) for ref in network.inputs] == [
        *(("image", (None, 3, 6, 7)), ("extra", (None, 6)))
    ]
    assert [network.shape(ref) for ref in network.outputs] == [(None, 2, 6, 7), (None, 4), (None, 4, 12, 14)]
    chunk = network.calls_by_name["chunk"]
    assert chunk.shapes == ((None, 2, 6, 7), (None, 2, 6, 7))
    assert [(ref.call, ref.index) for ref in network.calls_by_name["cat"].refs] == [("chunk", 1), ("chunk", 0)]


def test_modules_that_are_never_called_keep_their_weights(tmp_path: Path) -> None:
    network = opened(build("unused"), CASES["unused"][1], "static", tmp_path)
    assert network["spare"].weights["weight"].shape == (4, 3)
    assert any("spare" in note for note in network.notes)
    assert any("changes count as it runs" in note for note in network.notes)
    assert network.parameters == sum(one.numel() for one in build("unused").state_dict().values())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_write_through_a_view_is_refused_in_a_file_and_followed_in_a_live_module(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, inputs = torch_nets.ThroughView().eval(), (torch.rand(2, 3, 7, 9),)
    network = opened(module, inputs, "static", tmp_path)
    with pytest.raises(UnsupportedLayerError, match=r"'add'.*changed in place through a view.*run_decompositions"):
        network.run(as_arrays(inputs))
    assert network.run(as_arrays(inputs), layers=["conv"])["conv"].shape == (2, 4, 5, 7)
    for way in ("static decomposed", "live"):
        maps = opened(module, inputs, way, tmp_path).run(as_arrays(inputs), dtype="float32")
        truth = module(*inputs).detach().numpy()
        assert any(array.shape == truth.shape and np.allclose(array, truth, atol=1e-5) for array in maps.values())


class _Cast(nn.Module):
    """Attention that timm computes with autocast off, whatever is around it; and with it on."""

    def __init__(self, enabled: bool) -> None:
        super().__init__()
        self.fc, self.enabled = nn.Linear(3, 3), enabled

    def forward(self, x: Any) -> Any:
        y = self.fc(x)
        with torch.autocast("cpu", enabled=self.enabled):
            z = self.fc(y) * 2
            w = z + x
        return w - z.relu()


@pytest.mark.parametrize("way", ["static", "live"])
def test_what_stands_in_autocast_that_is_off_is_computed_where_it_stands(way: str, tmp_path: Path) -> None:
    module, inputs = _Cast(False).eval(), (torch.rand(2, 3),)
    network = opened(module, inputs, way, tmp_path)
    (found,) = network.run(as_arrays(inputs), layers=[network.outputs[0].name]).values()
    np.testing.assert_allclose(found, copy.deepcopy(module).double()(inputs[0].double()).detach().numpy(), rtol=1e-12)
    with pytest.raises(UnsupportedLayerError, match=r"narrower type \(torch.autocast\)"):
        opened(_Cast(True).eval(), inputs, way, tmp_path).run(as_arrays(inputs))


class _Merging(nn.Module):
    """What grows with the batch is no axis of its output: no number of inputs but the example's can be proven."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.fc(x).sum(0) + x.reshape(-1)[:3]


def test_a_batch_that_cannot_be_told_is_kept_and_said(tmp_path: Path) -> None:
    inputs = (torch.rand(5, 6),)
    module = _Merging().eval()
    network = opened(module, inputs, "static", tmp_path)
    assert network.shape(network.inputs[0]) == (5, 6)
    assert any("5 inputs at a time" in note for note in network.notes)
    output = network.run(as_arrays(inputs))[network.outputs[0].name]
    np.testing.assert_allclose(output, module(*inputs).detach().numpy(), atol=1e-6)
    with pytest.raises(CnnlensError, match="exported for 5 at a time, and 4 came"):
        network.run(np.ones((4, 6)))


# -- live modules ----------------------------------------------------------------------------------------------------


def test_a_live_module_stays_as_it_was_and_shows_what_training_changes() -> None:
    module = build("flattened").train()
    module.features[1].eval()
    inputs = CASES["flattened"][1]
    network = cnnlens.open(module, example=inputs)
    assert module.training
    assert not module.features[1].training
    assert network["classifier.3"].entry["arguments"]["train"] is False
    before = network.source.sha256
    with torch.no_grad():
        module.classifier[4].weight.add_(1)
    np.testing.assert_array_equal(
        network["classifier.4"].weights["weight"], module.classifier[4].weight.detach().numpy()
    )
    assert network.source.sha256 != before
    held = network["classifier.4"].weights["weight"]
    with torch.no_grad():
        module.classifier[4].weight.zero_()
    assert held.any()


def test_a_live_module_and_its_file_are_the_same_network(tmp_path: Path) -> None:
    module, inputs = build("shared"), CASES["shared"][1]
    file, live = (opened(module, inputs, way, tmp_path) for way in ("dynamic", "live"))
    assert handover.network_hash(file) == handover.network_hash(live)


def test_examples_come_in_many_forms() -> None:
    module = build("two inputs")
    image, extra = CASES["two inputs"][1]
    forms: list[Any] = [
        *((image, extra), [image, extra], {"image": image, "extra": extra}),
        (image.numpy().astype(np.float64)[:1], extra.numpy()[:1]),
    ]
    for example in forms:
        network = cnnlens.open(module, example=example)
        assert [network.shape(ref) for ref in network.inputs] == [(None, 3, 6, 7), (None, 6)]
    module.example_input_array = (image, extra)
    assert [ref.name for ref in cnnlens.open(module).inputs] == ["image", "extra"]


class _DataDependent(nn.Module):
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_opened_is_said_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    x = torch.rand(2, 3)
    with pytest.raises(CnnlensError, match=r"give an example, as in cnnlens\.open\(module, example=x\)"):
        cnnlens.open(nn.ReLU())
    with pytest.raises(CnnlensError, match="_DataDependent cannot be exported") as caught:
        cnnlens.open(_DataDependent(), example=x)
    assert "\n" not in str(caught.value)
    with pytest.raises(CnnlensError, match="arrays or tensors were expected, a str came"):
        cnnlens.open(nn.ReLU(), example="x.npy")
    with pytest.raises(CnnlensError, match="cannot be exported"):
        cnnlens.open(nn.Conv2d(3, 4, 3), example=torch.rand(2, 5, 8, 9))
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_refused() -> None:
    with pytest.raises(CnnlensError, match="a TorchScript module came"):
        cnnlens.open(torch.jit.script(nn.ReLU()), example=torch.rand(2, 3))


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y * 2, (self.conv(x),))


def test_control_flow_opens_and_is_refused_when_it_is_run() -> None:
    network = cnnlens.open(_Branching(), example=torch.rand(2, 3, 6, 7))
    assert [layer.name for layer in network] == ["x", "sum", "gt", "conv", "cond"]
    with pytest.raises(UnsupportedLayerError, match=r"layer 'cond' .*control flow"):
        network.run(np.ones((2, 3, 6, 7)))


def test_frozen_parts_are_followed(tmp_path: Path) -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            with torch.no_grad():
                y = self.conv(x)
                z = y.mean((2, 3))
            return self.head(z) + y.amax()

    inputs = (torch.rand(2, 3, 6, 7),)
    module = Frozen().eval()
    network = opened(module, inputs, "static", tmp_path)
    assert [call.name for call in network.calls] == ["x", "conv", "mean", "head", "amax", "add"]
    output = network.run(as_arrays(inputs))["add"]
    np.testing.assert_allclose(output, module(*inputs).detach().numpy(), atol=1e-6)


def test_files_are_opened_without_torch(tmp_path: Path) -> None:
    opened(build("resnet"), CASES["resnet"][1], "static", tmp_path)
    code = (
        "import sys, cnnlens, numpy as np; net = cnnlens.open(sys.argv[1]); net.run(np.zeros((1, 3, 33, 41)));"
        "assert 'torch' not in sys.modules; print(len(net))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net.pt2")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 50


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_decomposed_linear_layer_is_the_layer_that_it_was(tmp_path: Path) -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, (3, 2))
            self.head = nn.Linear(4, 5)
            self.other = nn.Linear(5, 7, bias=False)

        def forward(self, x: Any) -> Any:
            return self.other(self.head(self.conv(x).mean((2, 3))))

    inputs = (torch.rand(2, 3, 6, 8),)
    module = Heads().eval()
    program = torch.export.export(module, inputs).run_decompositions()
    assert any("addmm" in str(node.target) for node in program.graph.nodes)
    torch.export.save(program, tmp_path / "core.pt2")
    network = cnnlens.open(tmp_path / "core.pt2")
    assert [layer.name for layer in network] == ["x", "conv", "mean", "head", "other"]
    for name, count in (("head", 2), ("other", 1)):
        layer = network[name]
        assert (layer.kind, len(layer.stored)) == ("Linear", count)
        assert layer.kernel is not None
        np.testing.assert_array_equal(layer.kernel.array, getattr(module, name).weight.detach().numpy())
    np.testing.assert_allclose(network.run(as_arrays(inputs))["other"], module(*inputs).detach().numpy(), atol=1e-6)
