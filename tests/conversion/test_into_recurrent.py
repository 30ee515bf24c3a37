"""Weights of recurrent layers put into a model that exists: levels, directions, and PyTorch's two biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
torch = pytest.importorskip("torch")

import cnnlens  # noqa: E402
from cnnlens.conversion.into import put_into  # noqa: E402

nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorFlow, where Keras runs on it
KINDS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}


class Sequences(nn.Module):
    def __init__(self, kind: str, directions: int, levels: int) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 4, levels, batch_first=True, bidirectional=directions == 2)
        self.head = nn.Linear(4 * directions, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(x)[0])


def _module(kind: str, directions: int, levels: int) -> Any:
    torch.manual_seed(5)
    module = Sequences(KINDS[kind], directions, levels).eval()
    for name, parameter in module.named_parameters():
        if "bias" in name:  # whose sum float32 cannot hold
            nn.init.normal_(parameter)
    return module


def _keras(kind: str, directions: int, levels: int, path: Path) -> Path:
    x = inputs = keras.Input((6, 5))
    for _ in range(levels):
        layer = getattr(keras.layers, kind)(4, return_sequences=True)
        x = (keras.layers.Bidirectional(layer) if directions == 2 else layer)(x)
    keras.Model(inputs, keras.layers.Dense(3)(x)).save(path)
    return path


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_pytorch_into_keras_and_back(kind: str, directions: int, levels: int, tmp_path: Path) -> None:
    module, x = _module(kind, directions, levels), torch.randn(3, 6, 5)
    path = _keras(kind, directions, levels, tmp_path / "empty.keras")
    made = put_into(cnnlens.open(module, example=x), path, tmp_path / "full.keras")
    full = cnnlens.open(tmp_path / "full.keras")
    (found,) = full.run(np.moveaxis(x.numpy(), -1, 1), layers=[full.outputs[0].name]).values()
    with torch.no_grad():
        truth = module.double()(x.double()).numpy()
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), truth, rtol=0, atol=1e-6)
    summed = kind != "GRU"  # Keras' GRU has both biases
    assert any("before that both are one model" in note for note in made.written.notes) == summed

    torch.save(_module(kind, directions, levels).state_dict(), tmp_path / "state.pt")
    back = put_into(full, tmp_path / "state.pt", tmp_path / "back.safetensors")
    again = {
        weight.stored.place: weight for layer in cnnlens.open(back.written.path) for weight in layer.stored.values()
    }
    for name, tensor in module.float().state_dict().items():
        if "bias" not in name or not summed:
            np.testing.assert_array_equal(again[name].read(), tensor.numpy(), err_msg=name)
