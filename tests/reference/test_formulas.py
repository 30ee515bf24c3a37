"""Layers against the formulas that they are said to compute, written out here with loops; no framework is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnlens.reference import build
from cnnlens.reference.arithmetic.functions import parametric_activation
from cnnlens.reference.arithmetic.interpolation import Interpolation

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5))


def layer(kind: str, **config: Any) -> Any:
    return build(kind, "keras.layers", config, (3, 15, 1))


def test_a_learned_factor_and_a_scaled_sum() -> None:
    gamma = np.linspace(0.5, 4, 5)
    np.testing.assert_allclose(layer("LayerScale")({"gamma": gamma}, X), X * gamma, rtol=1e-15)
    np.testing.assert_allclose(layer("CustomScaleLayer", scale=0.25)({}, [X, 2 * X]), 1.5 * X, rtol=1e-15)


@pytest.mark.parametrize(("config", "axis"), [({}, 3), ({"axis": -1}, 3), ({"axis": [1]}, 1)])
def test_normalization_by_the_last_axis_or_the_one_that_is_named(config: dict[str, Any], axis: int) -> None:
    mean, variance = np.linspace(1, 2, X.shape[axis]), np.linspace(4, 9, X.shape[axis])
    made = layer("Normalization", **config)({"mean": mean, "variance": variance}, X)
    wanted = (np.moveaxis(X, axis, -1) - mean) / np.sqrt(variance)
    np.testing.assert_allclose(made, np.moveaxis(wanted, -1, axis), rtol=1e-14)


def keys(distance: float, a: float = -0.75) -> float:
    """Keys' cubic kernel, as his paper (1981) writes it."""
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a if distance < 2 else 0.0


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("wanted", [3, 5, 11])
def test_cubic_interpolation(wanted: int, aligned: bool) -> None:
    x = X[:, :, 0]
    made = Interpolation(
        "Interpolation1D", {"interpolation": "bicubic", "size": [wanted], "align_corners": aligned}, (3,)
    )({}, x)
    for place in range(wanted):
        at = place * 4 / (wanted - 1) if aligned else (place + 0.5) * 5 / wanted - 0.5
        cells = [int(np.floor(at)) + tap for tap in (-1, 0, 1, 2)]
        expected = sum(keys(abs(at - cell)) * x[:, :, min(max(cell, 0), 4)] for cell in cells)
        np.testing.assert_allclose(made[:, :, place], expected, rtol=1e-12, atol=1e-13)


def test_a_shrink_keeps_what_lies_beyond_its_threshold_alone() -> None:
    x = np.array([[-1.5, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]])
    hard = layer("Activation", activation="hard_shrink")({}, x)
    np.testing.assert_array_equal(hard, [[-1.5, 0, 0, 0, 0, 0, 0.75]])
    soft = layer("Activation", activation="soft_shrink")({}, x)
    np.testing.assert_array_equal(soft, [[-1.0, 0, 0, 0, 0, 0, 0.25]])


def test_vectors_of_length_one_along_the_last_axis() -> None:
    made = layer("UnitNormalization")({}, X)
    np.testing.assert_allclose(np.square(made).sum(axis=3), 1, rtol=1e-14)
    np.testing.assert_allclose(made * np.linalg.norm(X, axis=3, keepdims=True), X, rtol=1e-14)


def test_softplus_is_the_line_beyond_its_threshold_and_curved_before_it() -> None:
    x = np.array([-3.0, 0.0, 1.5, 4.0])
    made = parametric_activation("softplus", {"beta": 2.0, "limit": 6.0}).apply(x)
    np.testing.assert_allclose(made, [*np.log1p(np.exp(2 * x[:3])) / 2, 4.0], rtol=1e-14)


@pytest.mark.parametrize(("method", "reach"), [("bilinear", 1), ("bicubic", 2), ("lanczos3", 3)])
def test_what_is_no_number_is_resized_as_far_as_its_weights_reach(method: str, reach: int) -> None:
    """Three positions a pixel: every third stands on one, and looks at no other."""
    x = np.random.default_rng(0).normal(size=(1, 9, 11, 2))
    odd = x.copy()
    odd[0, 4, 5, 1] = np.inf
    resizing = layer("Resizing", height=27, width=33, interpolation=method)
    with np.errstate(invalid="ignore"):
        plain, beside = resizing({}, x), resizing({}, odd)
    rows, columns = (np.abs((np.arange(size * 3) + 0.5) / 3 - 0.5 - place) for size, place in ((9, 4), (11, 5)))
    seen = [(away < reach - 1e-6) & ((away % 1 > 1e-6) | (away < 1e-6)) for away in (rows, columns)]
    wanted = np.zeros(plain.shape, np.bool_)
    wanted[0, :, :, 1] = seen[0][:, None] & seen[1][None, :]
    np.testing.assert_array_equal(~np.isfinite(beside), wanted)
    np.testing.assert_allclose(beside[~wanted], plain[~wanted], rtol=1e-13)


@pytest.mark.parametrize("method", ["linear", "bicubic"])
def test_samples_of_pytorch_look_at_no_pixel_without_a_weight(method: str) -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 7))
    x[0, 1, 2, 3] = np.nan
    made = Interpolation("Interpolation2D", {"interpolation": method, "size": [5, 7]}, (3,))({}, x)
    np.testing.assert_array_equal(np.isnan(made), np.isnan(x))
