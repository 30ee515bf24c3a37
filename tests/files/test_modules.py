"""Whole modules and TorchScript archives, opened without their classes: what torch itself has, and nothing called."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import pathlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError, FileRefusedError, UnsupportedLayerError
from cnnlens.files.torch.operators import SCHEMAS
from cnnlens.network.network import Network
from cnnlens.sample import MODEL

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tests.support.torch_files import arrays, assert_same, small  # noqa: E402


def trained(model: Any) -> Any:
    """The model with arrays that are no module's first ones, in inference."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (1 if "var" in name else 2) - 0.5)
            if "var" in name:
                tensor.data.abs_().add_(0.5)
    return model.eval()


SEQUENTIALS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "nested": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.Sequential(nn.AvgPool2d(2))),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 12), nn.Softmax(1),
        ), (3, 1, 28, 28),
    ),
    "strides, groups and epsilons": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(5), nn.Conv2d(5, 10, (3, 2), (2, 1), (1, 0), (1, 2), groups=5, bias=False),
            nn.BatchNorm2d(10, eps=1e-2), nn.ReLU6(), nn.Dropout2d(0.4), nn.PReLU(10), nn.AdaptiveAvgPool2d((3, 2)),
            nn.Flatten(1), nn.Linear(60, 7),
        ), (2, 5, 17, 13),
    ),
    "one axis": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, padding="same"), nn.GELU("tanh"), nn.MaxPool1d(2),
            nn.Conv1d(6, 8, 3, padding=1, padding_mode="circular"), nn.ELU(0.7), nn.Upsample(scale_factor=2),
            nn.AdaptiveMaxPool1d(5), nn.Flatten(), nn.LayerNorm(40), nn.Linear(40, 3), nn.LogSoftmax(-1),
        ), (3, 4, 22),
    ),
    "three axes": (
        lambda: nn.Sequential(
            nn.Conv3d(2, 4, 3), nn.InstanceNorm3d(4, affine=True), nn.SiLU(), nn.MaxPool3d(2),
            nn.ConvTranspose3d(4, 3, 2, stride=2), nn.Hardswish(),
        ), (2, 2, 9, 8, 7),
    ),
    "pads and sizes": (
        lambda: nn.Sequential(
            nn.ReflectionPad2d((1, 2, 0, 1)), nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1, groups=2), nn.Softplus(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.PixelUnshuffle(2), nn.ZeroPad2d(1),
            nn.ConstantPad2d((1, 0, 2, 1), 0.5), nn.Conv2d(16, 4, 1), nn.PixelShuffle(2), nn.Hardtanh(-0.2, 0.4),
        ), (2, 3, 8, 6),
    ),
    "pools and norms without arrays": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.BatchNorm2d(4, affine=False),
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        ), (2, 3, 19, 16),
    ),
    "no convolution": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.CELU(0.5), nn.BatchNorm1d(8), nn.Unflatten(1, (2, 4)),
                              nn.GLU(-1), nn.Identity(), nn.Sigmoid()), (4, 3, 2, 2),
    ),
}  # fmt: skip


def maps_of(model: Any, inputs: Any) -> dict[str, Any]:
    """What forward hooks see of every module, in float64."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, given, made: found.update({name: made.detach().numpy()})

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.named_modules() if name]
    model.double()(inputs.double())
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", SEQUENTIALS)
def test_a_sequential_computes_what_torch_does(tmp_path: Path, name: str, zipped: bool) -> None:
    make, shape = SEQUENTIALS[name]
    model, inputs = trained(make()), torch.rand(shape) - 0.4
    torch.save(model, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    network = cnnlens.open(tmp_path / "x.pt")
    expected = maps_of(model, inputs)
    computed = network.run(inputs.numpy())
    for path, module in model.named_modules():
        if path and not isinstance(module, nn.Identity):
            np.testing.assert_allclose(computed[path], expected[path], rtol=1e-6, atol=1e-9, err_msg=path)
            assert network[path].kind == type(module).__name__


@pytest.mark.parametrize(
    "last",
    [
        lambda: nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True),
        lambda: nn.GRU(4, 3, batch_first=True, bias=False),
        lambda: nn.RNN(4, 3, nonlinearity="relu", batch_first=True),
    ],
    ids=["lstm", "gru", "rnn"],
)
def test_a_sequential_may_end_in_a_recurrent_module(tmp_path: Path, last: Callable[[], Any]) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), last()).eval()
    torch.save(model, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32))
    with torch.no_grad():
        outputs, states = model(x)
    wanted = [outputs, *(states if isinstance(states, tuple) else [states])]
    made = network.run(x.numpy())
    assert [ref.name for ref in network.outputs] == ["2", "2[1]", "2[2]"][: len(wanted)]
    for ref, one in zip(network.outputs, wanted, strict=True):
        np.testing.assert_allclose(made[ref.name], one.numpy(), rtol=0, atol=2e-7)


def test_a_recurrent_module_that_is_followed_has_no_graph(tmp_path: Path) -> None:
    cases = {
        "gives a tuple, which no module behind it takes": (nn.GRU(4, 3, batch_first=True), nn.Linear(3, 2)),
        "has time in front of the batch": (nn.Linear(5, 4), nn.LSTM(4, 3)),
        "with projections": (nn.LSTM(4, 3, proj_size=2, batch_first=True),),
    }
    for reason, modules in cases.items():
        torch.save(nn.Sequential(*modules), tmp_path / "x.pt")
        network = cnnlens.open(tmp_path / "x.pt")
        assert not network.calls
        assert any(reason in note for note in network.notes), reason


def test_geometry_and_arrays_of_a_sequential(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(6, 9, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=3))
    torch.save(model, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert_same(network, model.state_dict())
    geometry = network["0"].stored["weight"].geometry
    assert (geometry.stride, geometry.padding, geometry.dilation, geometry.groups) == ((2, 1), (1, 0), (1, 2), 3)
    assert network.input_shapes == {"input": (None, 6, None, None)}


def test_the_shape_of_an_input_is_settled_by_what_a_linear_layer_takes(tmp_path: Path) -> None:
    torch.save(SEQUENTIALS["nested"][0]().eval(), tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert network.input_shapes == {"input": (None, 1, 28, 28)}
    assert network.notes[-1].endswith("the smallest of 28 to 31, which fit, (N, 1, 28, 28)")


def test_a_wrapped_sequential_in_training(tmp_path: Path) -> None:
    torch.save(nn.DataParallel(nn.Sequential(nn.Conv2d(3, 5, 2), nn.ReLU())), tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert [layer.name for layer in network] == ["input", "0", "1"]
    assert "the module is in a DataParallel, which is left out" in network.notes
    assert any("saved in training mode" in note for note in network.notes)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_sequential_that_is_more_than_its_modules_has_no_graph(tmp_path: Path) -> None:
    hooked = nn.Sequential(nn.Conv2d(3, 5, 2))
    hooked[0].register_forward_hook(functools.partial(print))
    parted = nn.Sequential(torch.nn.utils.weight_norm(nn.Conv2d(3, 5, 2)))
    for model in (hooked, parted):
        torch.save(model, tmp_path / "x.pt")
        network = cnnlens.open(tmp_path / "x.pt")
        assert network.calls == ()
        assert any("functions are hung on '0'" in note for note in network.notes)
        with pytest.raises(UnsupportedLayerError, match="without a graph"):
            network.run(np.zeros((1, 3, 8, 8), np.float32))


# --- classes that are nowhere ---------------------------------------------------------------------------------------


STRANGERS = """
import enum
import torch
from torch import nn

class Task(enum.Enum):
    DETECT = "detect"

class Level(enum.IntEnum):
    LOW = 3

class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, g=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)
        self.act = nn.SiLU(inplace=True)

class Conv2dSame(nn.Conv2d):
    pass

class Detect(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.stride = torch.tensor([8.0, 16.0])
        self.cv = nn.ModuleList(nn.Sequential(Conv(x, 6, 3), nn.Conv2d(6, 4, 1)) for x in ch)
        self.up = nn.ConvTranspose2d(3, 7, 2, 2)
        self.gamma = nn.Parameter(torch.rand(11))

class DetectionModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.yaml = {"nc": 3}
        self.task = Task.DETECT
        self.model = nn.Sequential(Conv(3, 5, 3, 2), Conv2dSame(5, 10, (3, 2), groups=5), Detect((5, 10)))

class Settings(dict):
    def __init__(self, **given):
        super().__init__(given)
        self.__dict__.update(given)
"""


@pytest.fixture
def strangers() -> Any:
    """A module that is importable while a file is written, and gone when it is read."""
    module = types.ModuleType("strangers_of_cnnlens")
    sys.modules[module.__name__] = module
    exec(STRANGERS.replace("__main__", module.__name__), module.__dict__)
    yield module
    sys.modules.pop(module.__name__, None)


def checkpoint(strangers: Any) -> tuple[dict[str, Any], Any, Any]:
    torch.manual_seed(0)
    model, average = trained(strangers.DetectionModel()), strangers.DetectionModel()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    optimizer.zero_grad()
    saved = {
        "epoch": 12, "best_fitness": np.float64(0.43), "model": model, "ema": average, "kind": torch.optim.Adam,
        "optimizer": optimizer.state_dict(), "train_args": {"task": "detect", "imgsz": 640, "project": None},
        "half": torch.float16,
        "opt": argparse.Namespace(batch=16, save_dir=pathlib.PurePosixPath("/runs/7")), "level": strangers.Level.LOW,
        "date": datetime.datetime(2024, 5, 6, 7, 8, 9), "zone": datetime.UTC, "gap": datetime.timedelta(3),
        "seen": collections.Counter("abc"), "lists": collections.defaultdict(list, {"a": [1]}),
        "settings": strangers.Settings(depth=4), "task": strangers.Task.DETECT, "last": collections.deque([1, 2], 3),
        "function": functools.partial(torch.nn.functional.relu, inplace=True), "random": np.random.RandomState(3),
        "device": torch.device("cpu"), "size": torch.Size([3, 4]), "scale": np.float32(0.5), "array": np.arange(5),
    }  # fmt: skip
    return saved, model, average


def gone(strangers: Any) -> None:
    del sys.modules[strangers.__name__]


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_checkpoint_of_classes_that_are_nowhere(tmp_path: Path, strangers: Any, zipped: bool, protocol: int) -> None:
    saved, model, average = checkpoint(strangers)
    options: dict[str, Any] = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": protocol}
    torch.save(saved, tmp_path / "x.pt", **options)
    gone(strangers)
    network = cnnlens.open(tmp_path / "x.pt")
    expected = model.state_dict()
    found = arrays(network)
    assert set(found) == set(expected)
    for name, weight in found.items():
        np.testing.assert_array_equal(weight.read(), expected[name].numpy(), err_msg=name)
    kinds = {layer.name: layer.kind for layer in network}
    assert kinds["model.0"] == "Conv"
    assert kinds["model.0.conv"] == "Conv2d"
    assert kinds["model.2"] == "Detect"
    assert network.kind == "DetectionModel"
    assert network["model.2.up"].kernel.shape == (7, 3, 2, 2)
    assert network["model.0.conv"].stored["weight"].geometry.stride == (2, 2)
    assert network["model.1"].stored["weight"].geometry.groups == 5
    assert network["model.0.bn"].config["eps"] == 1e-3
    notes = "\n".join([*network.notes, *(f"{one.what}: {one.says}" for one in network.also)])
    for said in ("the entry 'model'", "weights: 'ema' (27 tensors); --weights NAME", "optimizer: 'optimizer', lr ",
                 "epoch=12", "best_fitness=0.43", "no graph (what DetectionModel computes is in its own code)",
                 "torch.export.save"):  # fmt: skip
        assert said in notes
    other = cnnlens.open(tmp_path / "x.pt", weights="ema")
    np.testing.assert_array_equal(
        other["model.0.conv"].weights["weight"], average.state_dict()["model.0.conv.weight"].numpy()
    )
    assert strangers.__name__ not in sys.modules


def test_weights_are_named_on_the_command_line(
    tmp_path: Path, strangers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, _, average = checkpoint(strangers)
    torch.save(saved, tmp_path / "x.pt")
    torch.save(average.state_dict(), tmp_path / "ema.pth")
    gone(strangers)
    assert main(["diff", str(tmp_path / "x.pt"), str(tmp_path / "ema.pth"), "--weights", "ema"]) == 0
    assert main(["summary", str(tmp_path / "x.pt"), "--weights", "ema"]) == 0
    assert "the module is the entry 'ema' of the file" in capsys.readouterr().out
    assert main(["summary", str(tmp_path / "x.pt"), "--weights", "teacher"]) == 2
    assert "no set of weights is named 'teacher'; there are 'model', 'ema'" in capsys.readouterr().err


def test_weights_are_chosen_among_state_dicts(tmp_path: Path) -> None:
    torch.save({**small(), "ema": small(), "epoch": 3}, tmp_path / "x.pt")
    assert_same(cnnlens.open(tmp_path / "x.pt", weights="ema"), small())
    assert_same(cnnlens.open(tmp_path / "x.pt", weights="(root)"), small())
    with pytest.raises(FileRefusedError, match=r"no set of weights is named 'emma'; there are '\(root\)', 'ema'"):
        cnnlens.open(tmp_path / "x.pt", weights="emma")
    with pytest.raises(FileRefusedError, match="it has one set of weights; leave --weights out"):
        cnnlens.open(MODEL, weights="ema")
    with pytest.raises(CnnlensError, match="a live model came"):
        cnnlens.open(nn.Linear(3, 4), weights="ema")


def test_a_file_without_weights_says_what_it_is(tmp_path: Path) -> None:
    model = nn.Linear(3, 4)
    torch.save({"optimizer": torch.optim.SGD(model.parameters(), 0.1).state_dict(), "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(FileRefusedError, match=r"only an optimizer's state \(optimizer\)"):
        cnnlens.open(tmp_path / "x.pt")
    torch.save({}, tmp_path / "x.pt")
    with pytest.raises(FileRefusedError, match="an empty mapping"):
        cnnlens.open(tmp_path / "x.pt")
    torch.save(argparse.Namespace(a=1), tmp_path / "x.pt")
    with pytest.raises(FileRefusedError, match=r"an object of the class argparse\.Namespace, which is no module"):
        cnnlens.open(tmp_path / "x.pt")


class Caller:
    """Pickled beside a model, it would have its unpickler make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_call_among_the_records_refuses_the_file_and_does_nothing(tmp_path: Path, zipped: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 2))
    model.extra = Caller(tmp_path / "canary")
    torch.save({"model": model}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    (tmp_path / "canary").unlink(missing_ok=True)
    with pytest.raises(FileRefusedError, match=r"the pickle calls \w*io\.open, which no model needs; nothing"):
        cnnlens.open(tmp_path / "x.pt")
    assert not (tmp_path / "canary").exists()


# --- TorchScript ----------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.b = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.c = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # TorchScript reads these words
        y = self.c(self.relu(self.b(self.a(x))))
        y += x
        return self.relu(y)


class Straight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.body = nn.Sequential(Residual(6), Residual(6))
        self.scale = nn.Parameter(torch.rand(1, 6, 1, 1))
        self.register_buffer("shift", torch.rand(6))
        self.branches = nn.ModuleList([nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)])
        self.head = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # TorchScript reads these words
        x = self.body(self.stem(x)) * self.scale + self.shift.view(1, -1, 1, 1)
        for branch in self.branches:
            x = nn.functional.relu(branch(x))
        one, other = torch.chunk(x, 2, 1)
        x = torch.cat([other, one], 1)
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(x, 3, stride=2, padding=1), 2)
        x = x * torch.sigmoid(x.mean(dim=[2, 3], keepdim=True))
        x = nn.functional.dropout(x, training=self.training).reshape(x.shape[0], -1)
        return nn.functional.softmax(self.head(x), dim=1)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, (3, 2), stride=2, groups=2)
        self.up = nn.ConvTranspose2d(6, 5, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # TorchScript reads these words
        if bool(x.sum() > 0):
            return self.up(self.conv(x))
        return self.up(self.conv(x)) * 2


def archived(path: Path, model: Any, how: str, inputs: Any) -> Network:
    made = torch.jit.trace(model, inputs, check_trace=False) if how == "traced" else torch.jit.script(model)
    (torch.jit.freeze(made) if how == "frozen" else made).save(path / "x.pt")
    return cnnlens.open(path / "x.pt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["traced", "scripted", "frozen"])
@pytest.mark.parametrize("name", [*SEQUENTIALS, "straight"])
def test_a_torchscript_archive_computes_what_torch_does(tmp_path: Path, name: str, how: str) -> None:
    make, shape = SEQUENTIALS.get(name, (Straight, (2, 3, 17, 14)))
    model, inputs = trained(make()), torch.rand(shape) - 0.4
    network = archived(tmp_path, model, how, inputs)
    assert network.source.format == "torch script"
    last = network.outputs[0]
    computed = network.run(inputs.numpy(), layers=[last.call])[last.name]
    # Freezing folds batch norms in float32.
    tolerance = 1e-5 if how == "frozen" else 1e-7
    np.testing.assert_allclose(computed, model.double()(inputs.double()).detach().numpy(), tolerance, tolerance)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["traced", "scripted"])
def test_a_torchscript_archive_has_the_modules_names_kinds_and_arrays(tmp_path: Path, how: str) -> None:
    model, inputs = trained(Straight()), torch.rand(2, 3, 17, 14)
    network = archived(tmp_path, model, how, inputs)
    found = arrays(network)
    for name, tensor in model.state_dict().items():
        holder = next(key for key in found if key.rpartition(".")[2] == name.rpartition(".")[2] and name in key)
        np.testing.assert_array_equal(found[holder].read(), tensor.numpy())
    assert network["body.1.c"].kind == "Conv2d"
    assert network["body.0"].kind == "Residual"
    assert network["stem"].stored["weight"].geometry.stride == (2, 2)
    assert network.kind == "Straight"


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_branch_has_arrays_and_geometry_and_no_graph(tmp_path: Path) -> None:
    model = trained(Branching())
    network = archived(tmp_path, model, "scripted", None)
    assert network.calls == ()
    assert_same(network, model.state_dict())
    geometry = network["conv"].stored["weight"].geometry
    assert (geometry.stride, geometry.groups) == ((2, 2), 2)
    assert network["up"].kernel.shape == (5, 6, 2, 2)
    assert any("a branch that depends on the size of the input, or on numbers in a tensor" in n for n in network.notes)


# --- the table of operators -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "overload", "names"), [(n, *row) for n, rows in SCHEMAS.items() for row in rows])
def test_the_arguments_of_an_operator_are_torchs(name: str, overload: str, names: tuple[str, ...]) -> None:
    schema = getattr(getattr(torch.ops.aten, name), overload)._schema
    assert tuple(argument.name for argument in schema.arguments) == names
