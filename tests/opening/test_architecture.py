"""``--arch``: somebody's code builds the module, in a process of its own; its weights come from a file we read."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens import sample
from cnnlens.cli.arguments import parse_shapes
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError
from cnnlens.opening import architecture
from cnnlens.opening.architecture import InputShape, open_architecture

torch = pytest.importorskip("torch")

from cnnlens_backends import pytorch_export  # noqa: E402

CODE = """
    import sys, time
    import torch
    from torch import nn

    print("a module that prints when it is imported")

    class Net(nn.Module):
        def __init__(self, classes=4, fail=False):
            super().__init__()
            if fail:
                raise ValueError("first line\\nsecond line")
            self.conv = nn.Conv2d(3, 5, (3, 2))
            self.norm = nn.BatchNorm2d(5)
            self.fc = nn.Linear(5, classes)

        def forward(self, x):
            return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))

    class Two(Net):
        def forward(self, x, tokens):
            return super().forward(x) + tokens.sum(1, keepdim=True)

    class Says(Net):
        example_input_array = torch.zeros(1, 3, 7, 6)

    ready = Net()
    number = 7

    def hangs():
        print("going to sleep", flush=True)
        time.sleep(600)

    def dies():
        print("about to leave", file=sys.stderr, flush=True)
        import os
        os._exit(3)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds ``nets.py`` and a state dict of its ``Net``, written by a process with torch."""
    (tmp_path / "nets.py").write_text(textwrap.dedent(CODE), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv.weight": (5, 3, 3, 2), "conv.bias": (5,), "norm.weight": (5,), "norm.bias": (5,)}
    shapes |= {"norm.running_mean": (5,), "norm.running_var": (5,), "fc.weight": (4, 5), "fc.bias": (4,)}
    state = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    state["norm.num_batches_tracked"] = torch.tensor(12)
    torch.save(state, "net.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": one for name, one in state.items()}}, "nested.pt")
    torch.save({**state, "extra.weight": torch.ones(2)}, "spare.pt")
    torch.save({name: one for name, one in state.items() if name != "fc.bias"}, "short.pt")
    return tmp_path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the other process does, done in this one: starting Python and importing torch takes most of its time."""
    path, modules = list(sys.path), set(sys.modules)
    monkeypatch.setattr(architecture, "_process", lambda arch, folder, timeout: pytorch_export.main(folder))
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("nets"):
            del sys.modules[name]


def expected(state: dict[str, Any], x: Any) -> Any:
    y = torch.nn.functional.conv2d(x, state["conv.weight"].double(), state["conv.bias"].double())
    norm = [state[f"norm.{name}"].double() for name in ("running_mean", "running_var", "weight", "bias")]
    y = torch.nn.functional.batch_norm(y, *norm).relu().mean((2, 3))
    return torch.nn.functional.linear(y, state["fc.weight"].double(), state["fc.bias"].double()).numpy()


@pytest.mark.parametrize("file", ["net.pt", "nested.pt"])
def test_a_state_dict_and_its_code_are_a_network_that_runs(file: str, folder: Path) -> None:
    network = open_architecture("nets:Net", file, parse_shapes("3,7,6"))
    assert [layer.name for layer in network][:4] == ["x", "conv", "norm", "relu"]
    assert network.source.path == Path(file)
    assert network.source.format == "torch state dict"
    assert network.source.framework == "torch"
    assert network.shape(network.inputs[0]) == (None, 3, 7, 6)
    state = torch.load(folder / "net.pt")
    for layer, name in (("conv", "weight"), ("norm", "running_var"), ("norm", "num_batches_tracked"), ("fc", "bias")):
        np.testing.assert_array_equal(network[layer].weights[name], state[f"{layer}.{name}"].numpy())
    x = torch.rand(3, 3, 7, 6, dtype=torch.float64)
    np.testing.assert_allclose(network.run(x.numpy())["fc"], expected(state, x), rtol=1e-12)
    assert not any(path.name.startswith("cnnlens-") for path in folder.iterdir())
    trained = [("training", "epoch=3")] if file == "nested.pt" else []
    assert [(one.what, one.says) for one in network.also] == trained  # what a checkpoint keeps beside its weights


@pytest.mark.usefixtures("here")
def test_factories_are_named_in_many_ways(folder: Path) -> None:
    for arch, shapes in (
        ("nets.py:Net(classes=9)", [InputShape((3, 7, 6))]),
        (f"{folder / 'nets.py'}:Says", None),
        ("nets:ready", [(3, 7, 6)]),
    ):
        network = open_architecture(arch, example_shapes=shapes)
        assert network["conv"].kind == "Conv2d"
        assert str(network.source.path) == arch
        assert network.also == ()
        assert network["fc"].weights["weight"].shape == (9 if "classes=9" in arch else 4, 5)
    two = open_architecture("nets:Two(classes=2)", example_shapes=parse_shapes("3,7,6;11:int64"))
    assert [(ref.name, two.shape(ref)) for ref in two.inputs] == [("x", (None, 3, 7, 6)), ("tokens", (None, 11))]


REFUSED = {
    "spare weights": (
        ("nets:Net", "spare.pt"),
        r"the state dict is of another module: the module has no 'extra\.weight'",
    ),
    "missing weights": (("nets:Net", "short.pt"), r"the state dict is of another module: it has no 'fc\.bias'"),
    "other sizes": (("nets:Net(classes=8)", "net.pt"), r"'fc\.weight' is \(4, 5\) in it and \(8, 5\) in the module"),
    "no such name": (("nets:Nett", None), "there is no 'Nett' in it; did you mean 'Net'"),
    "no such module": (("netz:Net", None), "netz cannot be imported .*No module named 'netz'"),
    "no such file": (("elsewhere.py:Net", None), r"there is no file .*elsewhere\.py"),
    "no factory": (("nets:number", None), "a class or a function was expected, a int came"),
    "no module": (("nets:sys.getrecursionlimit", None), r"a torch\.nn\.Module was expected, it gave a int"),
    "a factory that raises": (("nets:Net(fail=True)", None), r"calling it failed \(ValueError: first line\)$"),
    "a graph of its own": (("nets:Net", "net.pt2"), "it holds its own graph; leave --arch out"),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_said_in_one_line(case: str, folder: Path) -> None:
    (arch, file), message = REFUSED[case]
    if file == "net.pt2":
        torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.rand(2, 3),)), "net.pt2")
    with pytest.raises(CnnlensError, match=message) as caught:
        open_architecture(arch, file, parse_shapes("3,7,6"))
    assert "\n" not in str(caught.value)


def test_a_process_that_dies_is_quoted(folder: Path) -> None:
    with pytest.raises(CnnlensError, match="ended with exit code 3; the last it printed: about to leave"):
        open_architecture("nets:dies")


@pytest.mark.usefixtures("here")
def test_the_shape_is_asked_for_and_checked(folder: Path) -> None:
    with pytest.raises(CnnlensError, match=r"the shape of its input is needed.*--input-shape 3,224,224"):
        open_architecture("nets:Net", "net.pt")
    with pytest.raises(CnnlensError, match=r"cannot be exported .*expected input.* to have 3 channels"):
        open_architecture("nets:Net", "net.pt", parse_shapes("4,7,6"))


def test_code_that_hangs_is_ended_with_all_that_it_started(folder: Path) -> None:
    start = time.monotonic()
    with pytest.raises(CnnlensError, match="took more than 3 s; it was ended"):
        open_architecture("nets:hangs", None, parse_shapes("3,7,6"), timeout=3)
    assert time.monotonic() - start < 30


def test_from_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "net.pt", "--arch", "nets:Net", "--input-shape", "3,7,6", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)
    assert model["model"]["file"] == "net.pt"
    assert model["model"]["inputs"] == {"x": [None, 3, 7, 6]}
    assert next(one for one in model["layers"] if one["name"] == "fc")["output_shape"] == [None, 4]
    assert main(["summary", "net.pt", "--input-shape", "3,7,6"]) == 2
    assert "name its factory with --arch" in capsys.readouterr().err
    assert main(["summary", "net.pt", "--arch", "nets:Net", "--config", "x.json"]) == 2
    assert "--config is for weights of Keras" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_of_two_files_the_code_is_for_the_state_dict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del folder
    given = ["--arch", "nets:Net", "--input-shape", "3,7,6"]
    assert main(["diff", "net.pt", "nested.pt", *given, "--inputs", "random"]) == 0
    assert "the outputs agree" in capsys.readouterr().out
    assert main(["diff", "net.pt", "nested.pt", "--input-shape", "3,7,6"]) == 2
    assert "name its factory with --arch" in capsys.readouterr().err
    keras = str(sample.MODEL)
    assert main(["diff", keras, keras, *given]) == 2
    assert "--arch is for a state dict of PyTorch" in capsys.readouterr().err
    for command in (["check", keras, "--twin", "net.pt"], ["maps", "net.pt", "--image", "x.png"]):
        assert main(command) == 2
        assert "net.pt: it holds weights without a graph" in capsys.readouterr().err


def test_a_state_dict_in_memory_is_compared_too(folder: Path) -> None:
    state = torch.load(folder / "net.pt")
    found = cnnlens.diff(folder / "net.pt", state)
    assert found.equal
    assert [row.a for row in found.rows] == ["conv", "norm", "fc"]
