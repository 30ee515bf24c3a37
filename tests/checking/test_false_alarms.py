"""What is honest must pass: equal terms, tails that are flushed, small and large numbers, positions of samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.checking.noise.summation import rounded_alike
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.testing import MemoryModel
from tests.support.audited import Audited

KERAS = ["keras-tensorflow", "keras-jax", "keras-torch"]


# -- sums of equal terms ---------------------------------------------------------------------------------------------


def _running(x: np.ndarray) -> np.ndarray:
    """The sum of a plain loop in float32."""
    return np.add.accumulate(x.astype(np.float32), axis=-1, dtype=np.float32)[..., -1]


def _on_lanes(x: np.ndarray, lanes: int) -> np.ndarray:
    return _running(np.stack([_running(x[..., lane::lanes]) for lane in range(lanes)], axis=-1))


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("terms", [784, 12544])
def test_sums_of_equal_terms_are_within_their_scale(terms: int, share: float) -> None:
    random = np.random.default_rng(terms)
    x = np.where(random.random((40, terms)) < share, random.random((40, 1)), random.random((40, terms)))
    x = x.astype(np.float32).astype(np.float64)
    exact = x.sum(axis=-1)
    scale = np.hypot(exact, rounded_alike(lambda terms: terms.sum(axis=-1), x, exact))
    for lanes in (1, 4, 8, 16):
        found = _on_lanes(x, lanes)
        rms = float(np.sqrt(np.mean(np.square((found - exact) / scale))))
        assert rms < 2.0 ** -min(20, 25 - 0.5 * np.log2(terms / 2)), (lanes, np.log2(rms))


def test_terms_that_differ_have_little_more_than_the_walk() -> None:
    """What equal terms are allowed must not hide a fault in a mean of different ones."""
    x = np.random.default_rng(1).random((30, 784))
    extra = rounded_alike(lambda terms: terms.mean(axis=-1), x, x.mean(axis=-1))
    assert float(np.median(extra / x.mean(axis=-1))) < 1
    assert rounded_alike(lambda terms: terms.mean(axis=-1), x[:, :20], x[:, :20].mean(axis=-1)) == 0.0


def test_a_fault_in_a_mean_of_a_constant_map_is_found() -> None:
    layer = Audited("GlobalAveragePooling2D", (4, 28, 28, 9))
    layer.inputs = [np.broadcast_to(np.random.default_rng(2).random((4, 1, 1, 9)), (4, 28, 28, 9)).astype(np.float32)]
    exact = layer.x[:, 0, 0].copy()
    assert layer.check(exact).verdict in ("exact", "float32")
    for factor in (1.001, 1 + 1 / 784, 0.9999):
        assert layer.check(exact * np.float32(factor)).verdict.fault


@pytest.mark.framework
@pytest.mark.parametrize("size", [28, 112])
def test_means_over_constant_maps(size: int) -> None:
    image = [None, size, size, 5]
    entries = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": image, "name": "image"}},
        _layer("GlobalAveragePooling2D", "mean", data_format="channels_last", keepdims=False),
    ]
    channels = np.random.default_rng(0).random((3, 5, 1, 1))
    constant = np.broadcast_to(channels, (3, 5, size, size)).astype(np.float32)
    background = np.where(np.random.default_rng(1).random(constant.shape) < 0.9, constant, 0.3).astype(np.float32)
    for inputs in (constant, background):
        result = cnnlens.check(_network(entries), inputs, backends=KERAS)
        assert result.could_check
        assert result.agree, str(result)


@pytest.mark.framework
@pytest.mark.parametrize("pool", [1, (3, 2)])
def test_adaptive_means_over_constant_maps(pool: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.broadcast_to(np.random.default_rng(0).random((3, 5, 1, 1)), (3, 5, 56, 50)).astype(np.float32)
    module = torch.nn.AdaptiveAvgPool2d(pool).eval()
    assert cnnlens.check(module, x, example=torch.zeros(2, 5, 56, 50)).agree


@pytest.mark.framework
def test_a_group_norm_of_a_constant_group(tmp_path: Path) -> None:
    """Beside a mean of 80 and a variance of next to nothing, the variance of a fast formula keeps few digits."""
    arrays = {("norm",): {"gamma": np.array([1.3, 0.7, 0.9, 1.1], np.float32), "beta": np.zeros(4, np.float32)}}
    image = [None, 12, 10, 4]
    entries = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": image, "name": "image"}},
        _layer("GroupNormalization", "norm", groups=2, axis=-1, epsilon=1e-3, center=True, scale=True),
    ]
    for offset, spread in ((8.3, 0.0), (80.1, 1e-4), (0.37, 0.0)):
        x = offset + spread * np.random.default_rng(3).random((2, 4, 12, 10))
        result = cnnlens.check(_network(entries, arrays), x.astype(np.float32), backends=KERAS)
        assert result.agree, (offset, str(result))


# -- tails -----------------------------------------------------------------------------------------------------------


@pytest.mark.framework
@pytest.mark.parametrize("activation", ["silu", "mish", "gelu", "elu", "selu", "softplus", "sigmoid", "tanh"])
def test_what_is_flushed_far_below_zero_is_rounding(activation: str) -> None:
    image = [None, 8, 6, 5]
    entries = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": image, "name": "image"}},
        _layer("Activation", "layer", activation=activation),
    ]
    random = np.random.default_rng(1)
    inputs = [random.normal(size=(3, 5, 8, 6)) * 100, -80 - 20 * random.random((3, 5, 8, 6))]
    for x in inputs:
        result = cnnlens.check(_network(entries), x.astype(np.float32), backends=KERAS)
        assert result.agree, str(result)


@pytest.mark.parametrize("activation", ["silu", "mish"])
def test_a_fault_in_a_tail_is_found_where_it_is_larger_than_what_is_flushed(activation: str) -> None:
    layer = Audited("Activation", (3, 50), activation=activation)
    layer.inputs = [np.linspace(0.5, 9, 150, dtype=np.float32).reshape(3, 50)]
    assert not layer.check(layer.honest).verdict.fault
    assert layer.check(layer.honest * np.float32(1.0001)).verdict.fault


# -- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.framework
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_positions_of_samples_beside_one_bright_pixel(mode: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.zeros((2, 3, 20, 24), np.float32)
    x[0, 1, 7, 17] = x[1, 2, 13, 5] = 1
    module = torch.nn.Upsample(size=(9, 11), mode=mode).eval()
    assert cnnlens.check(module, x, example=torch.zeros(2, 3, 20, 24)).agree


@pytest.mark.framework
def test_norms_of_numbers_whose_squares_are_flushed() -> None:
    torch = pytest.importorskip("torch")

    class Norms(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.norm(dim=1), torch.nn.functional.normalize(x, dim=1)

    x = (np.random.default_rng(0).normal(size=(2, 6, 5, 4)) * 1e-20).astype(np.float32)
    assert cnnlens.check(Norms().eval(), x, example=torch.zeros(2, 6, 5, 4)).agree


def _layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, "dtype": "float32", **config}}


def _network(entries: list[dict[str, Any]], arrays: Any = None) -> Network:
    config = {"class_name": "Sequential", "config": {"name": "clean", "layers": entries}}
    return keras_network(MemoryModel(config, arrays or {}))
