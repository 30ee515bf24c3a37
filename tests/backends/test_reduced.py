"""Keras' three backends reduce on their device to what core makes of their maps, and statistics of them are NumPy's."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

import cnnlens
from cnnlens.backend.reductions import NumpyOps, reduced
from cnnlens.sample import IMAGES, MODEL

pytestmark = pytest.mark.framework
LAYERS = ["conv2d", "max_pooling2d_1", "dense_1"]


@pytest.fixture(scope="module", params=["keras-tensorflow", "keras-jax", "keras-torch"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if find_spec("keras") is None or find_spec(name.removeprefix("keras-")) is None:
        pytest.skip(f"needs {name}")
    return name


@pytest.fixture(scope="module")
def whole(backend: str) -> cnnlens.Recording:
    return cnnlens.record(MODEL, IMAGES, layers=LAYERS, backend=backend, batch=4)


@pytest.mark.parametrize("text", ["mean", "max", "moments", "topk:3", "down:2", "down:3"])
def test_what_is_reduced_is_what_core_makes_of_the_maps(backend: str, whole: cnnlens.Recording, text: str) -> None:
    small = cnnlens.record(MODEL, IMAGES, layers=LAYERS, backend=backend, batch=4, reduce=text)
    for name in LAYERS:
        maps, found = np.asarray(whole[name]), np.asarray(small[name])
        wanted = reduced(text, maps, NumpyOps)
        assert (found.shape, found.dtype) == (wanted.shape, np.float32)
        if text.startswith("topk") and maps.ndim > 2:  # of equal ones, any
            there = np.take_along_axis(maps.reshape(*maps.shape[:2], -1), found[..., 1].astype(int), -1)
            assert np.array_equal(there, found[..., 0])
            found, wanted = found[..., 0], wanted[..., 0]
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_statistics_are_numpys_on_the_maps(backend: str, whole: cnnlens.Recording) -> None:
    for name, layer in cnnlens.stats(MODEL, IMAGES, layers=LAYERS, backend=backend, batch=4).items():
        flat = np.asarray(whole[name], np.float64).swapaxes(0, 1).reshape(layer.shape[0], -1)
        np.testing.assert_allclose(layer.mean, flat.mean(1), rtol=1e-6)
        np.testing.assert_allclose(layer.variance, flat.var(1), rtol=1e-6)
        assert np.array_equal(layer.max, flat.max(1))
        assert np.array_equal(layer.zeros, (flat == 0).mean(1))
