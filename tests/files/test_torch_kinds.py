"""State dicts as networks: which kind of layer each array is taken for, and what a person sees of the file."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.cli.main import main
from cnnlens.errors import CnnlensError, FileRefusedError
from cnnlens.files import read

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tests.support.torch_files import arrays, assert_same, drawn, small  # noqa: E402


class Zoo(nn.Module):
    """One of each kind of layer that has arrays, in an order as in models."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, (5, 3)), nn.BatchNorm2d(6), nn.ReLU())
        self.depthwise = nn.Conv2d(6, 12, 3, groups=6)
        self.norm1 = nn.GroupNorm(3, 12)
        self.act = nn.PReLU(12)
        self.slope = nn.PReLU()
        self.upper = nn.ConvTranspose2d(12, 7, 2)
        self.grouped = nn.ConvTranspose2d(7, 14, 2, groups=7)
        self.bare = nn.ConvTranspose2d(14, 8, 3, bias=False)
        self.bare_bn = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 8, 2)
        self.series = nn.Conv1d(8, 9, 4)
        self.series_bn = nn.BatchNorm1d(9)
        self.volume = nn.Conv3d(9, 4, (2, 3, 1))
        self.volume_up = nn.ConvTranspose3d(4, 5, 2)
        self.ln = nn.LayerNorm((5, 4, 3))
        self.fc = nn.Linear(5, 11)
        self.flat_bn = nn.BatchNorm1d(11)
        self.final_ln = nn.LayerNorm(11)
        self.embedding = nn.Embedding(13, 11)
        self.lstm = nn.LSTM(11, 3, num_layers=2, bidirectional=True)
        self.projected = nn.LSTM(6, 4, proj_size=2)
        self.gru = nn.GRU(3, 5)
        self.rnn = nn.RNN(5, 6)
        self.cell = nn.LSTMCell(6, 3)
        self.attention = nn.MultiheadAttention(6, 2)
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 5, 2))
        self.rms = nn.RMSNorm(7)
        self.token = nn.Parameter(torch.zeros(1, 1, 7))


ZOO = {
    "stem.0": "Conv2d",
    "stem.1": "BatchNorm2d",
    "depthwise": "Conv2d",
    "norm1": "norm",
    "act": "PReLU",
    "slope": "PReLU",
    "upper": "ConvTranspose2d",
    "grouped": "ConvTranspose2d",
    "bare": "ConvTranspose2d",
    "bare_bn": "BatchNorm2d",
    "up": "ConvTranspose2d",
    "series": "Conv1d",
    "series_bn": "BatchNorm1d",
    "volume": "Conv3d",
    "volume_up": "ConvTranspose3d",
    "ln": "LayerNorm",
    "fc": "Linear",
    "flat_bn": "BatchNorm1d",
    "final_ln": "LayerNorm",
    "embedding": "Embedding",
    "lstm": "LSTM",
    "projected": "LSTM",
    "gru": "GRU",
    "rnn": "RNN",
    "cell": "LSTMCell",
    "attention": "MultiheadAttention",
    "attention.out_proj": "Linear",
    "weighted": "Conv2d",
    "rms": "RMSNorm",
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("zoo")
    state = Zoo().state_dict()
    torch.save(state, folder / "zoo.pt")
    return folder / "zoo.pt", state


def test_kinds_are_told_from_names_and_shapes(zoo: tuple[Path, dict[str, Any]]) -> None:
    network = cnnlens.open(zoo[0])
    kinds = {layer.name: layer.kind for layer in network if layer.name != "(root)"}
    assert kinds == ZOO
    found = arrays(network)
    assert set(found) == set(zoo[1])
    assert network.calls == ()
    notes = "\n".join(network.notes)
    assert "the file holds arrays and no graph" in notes
    assert "--arch package.module:factory" in notes
    assert "norm may be a LayerNorm, a GroupNorm or an InstanceNorm: norm1" in notes
    assert "taken for depthwise, by the channels in front: depthwise" in notes
    assert "of no kind that the arrays tell: (root)" in notes


@pytest.mark.parametrize(
    ("layer", "canonical"),
    [
        ("stem.0", (6, 3, 5, 3)),
        ("depthwise", (12, 1, 3, 3)),
        ("upper", (7, 12, 2, 2)),
        ("grouped", (14, 1, 2, 2)),
        ("bare", (8, 14, 3, 3)),
        ("series", (9, 8, 4)),
        ("volume", (4, 9, 2, 3, 1)),
        ("volume_up", (5, 4, 2, 2, 2)),
        ("fc", (11, 5)),
    ],
)
def test_kernels_are_canonical(zoo: tuple[Path, dict[str, Any]], layer: str, canonical: tuple[int, ...]) -> None:
    kernel = cnnlens.open(zoo[0])[layer].kernel
    assert kernel is not None
    assert kernel.shape == canonical
    stored = zoo[1][f"{layer}.weight"].numpy()
    np.testing.assert_array_equal(kernel.to("torch"), stored)
    expected = stored
    if layer in ("upper", "bare", "volume_up"):
        expected = stored.swapaxes(0, 1)
    elif layer == "grouped":
        expected = stored.reshape(7, 1, 2, 2, 2).swapaxes(1, 2).reshape(14, 1, 2, 2)
    np.testing.assert_array_equal(kernel.array, expected)


@pytest.mark.parametrize("name", ["features.0", "classifier", "2"])
def test_a_matrix_without_bias_is_called_what_it_may_be(tmp_path: Path, name: str) -> None:
    torch.save({f"{name}.weight": drawn("float32", 5, 3)}, tmp_path / "x.pt")
    network = cnnlens.open(tmp_path / "x.pt")
    assert network[name].kind == "Linear"
    assert f"Linear may be an Embedding: {name}" in network.notes


def test_a_residual_network_by_its_own_names(tmp_path: Path) -> None:
    """The same kinds from a ``.pt``, whose order is the model's, and from safetensors, whose order is the names'."""
    from safetensors.torch import save_file

    class Block(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(before, after, 3, bias=False), nn.BatchNorm2d(after)
            self.conv2, self.bn2 = nn.Conv2d(after, after, 3, bias=False), nn.BatchNorm2d(after)
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))

    model = nn.Module()
    model.conv1, model.bn1 = nn.Conv2d(3, 8, 7, bias=False), nn.BatchNorm2d(8)
    model.layer1, model.layer2 = nn.Sequential(Block(8, 16)), nn.Sequential(Block(16, 24))
    model.fc = nn.Linear(24, 10)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    for file in ("x.pt", "x.safetensors"):
        network = cnnlens.open(tmp_path / file)
        assert {layer.name: layer.kind for layer in network} == kinds_of(model)


def kinds_of(model: Any) -> dict[str, str]:
    """The classes of a model's layers that have arrays, by name."""
    return {name: type(each).__name__ for name, each in model.named_modules() if list(each.parameters(recurse=False))}


def test_a_generator_of_transposed_convolutions(tmp_path: Path) -> None:
    """Without biases and by numbers alone: only the channels in front and behind tell (4, 8) from (8, 4)."""
    layers: list[Any] = []
    for before, after in ((10, 24), (24, 16), (16, 8)):
        layers += [nn.ConvTranspose2d(before, after, 4, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.ConvTranspose2d(8, 3, 4, bias=False), nn.Tanh())
    torch.save(model.state_dict(), tmp_path / "x.pt")
    assert {layer.name: layer.kind for layer in cnnlens.open(tmp_path / "x.pt")} == kinds_of(model)


def test_a_u_net(tmp_path: Path) -> None:
    def twice(before: int, after: int) -> Any:
        first = nn.Conv2d(before, after, 3, bias=False), nn.BatchNorm2d(after), nn.ReLU()
        return nn.Sequential(*first, nn.Conv2d(after, after, 3, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    model = nn.Module()
    model.inc, model.down1, model.down2 = twice(3, 8), twice(8, 16), twice(16, 32)
    model.up1, model.conv1 = nn.ConvTranspose2d(32, 16, 2), twice(32, 16)
    model.up2, model.conv2 = nn.ConvTranspose2d(16, 8, 2), twice(16, 8)
    model.outc = nn.Conv2d(8, 2, 1)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    assert {layer.name: layer.kind for layer in cnnlens.open(tmp_path / "x.pt")} == kinds_of(model)


def test_layers_that_act_before_they_convolve(tmp_path: Path) -> None:
    """Behind a convolution without bias stands the next block's normalisation, of more channels (a DenseNet)."""
    model, channels = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False)), 16
    for _ in range(6):
        model += nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, 32, 1, bias=False))
        model += nn.Sequential(nn.BatchNorm2d(32), nn.Conv2d(32, 8, 3, bias=False))
        channels += 8
    torch.save(model.state_dict(), tmp_path / "x.pt")
    assert {layer.name: layer.kind for layer in cnnlens.open(tmp_path / "x.pt")} == kinds_of(model)


# --- as the person meets it -----------------------------------------------------------------------------------------


def test_opening_imports_no_framework(zoo: tuple[Path, dict[str, Any]]) -> None:
    code = f"import cnnlens, sys; cnnlens.open({str(zoo[0])!r})['fc'].weights['weight']; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_summary_says_pytorch(zoo: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(zoo[0])]) == 0
    shown = capsys.readouterr().out
    assert "state dict 'zoo' · PyTorch · torch state dict · " in shown
    assert "Keras" not in shown
    assert "note: the file holds arrays and no graph" in shown
    assert main(["summary", str(zoo[0]), "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert (model["framework"], model["format"], model["keras_version"]) == ("torch", "torch state dict", None)


def test_kernels_and_histograms_are_drawn(zoo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    assert main(["kernels", str(zoo[0]), "--layer", "stem.0", "-o", str(tmp_path / "kernels.png")]) == 0
    assert main(["hist", str(zoo[0]), "-o", str(tmp_path / "hist.png")]) == 0
    for name in ("kernels.png", "hist.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_running_is_refused_since_there_is_no_graph(zoo: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(CnnlensError) as caught:
        cnnlens.open(zoo[0]).run(np.zeros((1, 3, 9, 9), np.float32))
    assert "\n" not in str(caught.value)


def test_the_keras_reader_says_whose_file_it_is(zoo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(FileRefusedError, match="PyTorch"):
        read(zoo[0])
    torch.save(small(), tmp_path / "x.h5", _use_new_zipfile_serialization=False)
    with pytest.raises(FileRefusedError, match=r"cnnlens\.open"):
        read(tmp_path / "x.h5")


def test_the_name_of_the_file_says_nothing(tmp_path: Path) -> None:
    for name in ("x.keras", "x.h5", "x.safetensors", "x"):
        torch.save(small(), tmp_path / name)
        assert_same(cnnlens.open(tmp_path / name), small())


def test_an_exported_program_goes_to_its_reader(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    model = nn.Sequential(nn.Conv2d(3, 5, (2, 4)), nn.ReLU())
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 6, 7),)), buffer)
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    assert cnnlens.open(tmp_path / "x.pt").calls
