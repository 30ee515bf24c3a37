"""What PyTorch's modules draw their parameters from, held against the modules themselves."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cnnlens.layout import Geometry
from cnnlens.network.untrained import keras as initializers
from cnnlens.network.untrained.torch import torch_default
from cnnlens.network.weight import Weight

torch = pytest.importorskip("torch")

NAMES = {
    "Conv2D": {"weight": "kernel", "bias": "bias"},
    "Conv2DTranspose": {"weight": "kernel", "bias": "bias"},
    "Dense": {"weight": "kernel", "bias": "bias"},
    "BatchNormalization": {
        "weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance",
    },
    "PReLU": {"weight": "alpha"},
    "Embedding": {"weight": "embeddings"},
    "GRU": {"weight_ih_l0": "kernel", "weight_hh_l0": "recurrent_kernel", "bias_ih_l0": "bias"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("Conv2D", lambda nn: nn.Conv2d(40, 60, (3, 5), groups=2)),
        ("Conv2DTranspose", lambda nn: nn.ConvTranspose2d(40, 60, (3, 5))),
        ("Dense", lambda nn: nn.Linear(300, 70)),
        ("BatchNormalization", lambda nn: nn.BatchNorm2d(30)),
        ("PReLU", lambda nn: nn.PReLU(7)),
        ("Embedding", lambda nn: nn.Embedding(90, 70)),
        ("GRU", lambda nn: nn.GRU(30, 50)),
    ],
)
def test_a_fresh_module_is_drawn_from_what_is_said(kind: str, make: object) -> None:
    torch.manual_seed(3)
    module = make(torch.nn)  # type: ignore[operator]
    arrays = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    weights = {
        name: Weight(
            name, kind, NAMES[kind][name], SimpleNamespace(shape=array.shape, dtype=array.dtype), Geometry(), "torch"
        )
        for name, array in arrays.items()
        if name in NAMES[kind]
    }
    assert weights
    for name, weight in weights.items():
        spec = torch_default(weight, weights)
        assert spec is not None
        law = initializers.density(spec, arrays[name].shape)
        low, high = law.support
        drawn = arrays[name].astype(np.float64)
        assert low - 1e-7 <= drawn.min()
        assert drawn.max() <= high + 1e-7
        ours = initializers.draw(spec, arrays[name].shape, seed=5).astype(np.float64)
        # Two draws of one law: their deviations differ by sampling alone.
        assert ours.std() == pytest.approx(drawn.std(), rel=5 / np.sqrt(2 * drawn.size), abs=1e-12)


def test_what_a_module_of_the_authors_own_draws_is_not_guessed() -> None:
    stored = SimpleNamespace(shape=(3, 4), dtype=np.dtype("float32"))
    weight = Weight("scale", "", "var0", stored, Geometry(), "torch")
    assert torch_default(weight, {"scale": weight}) is None
