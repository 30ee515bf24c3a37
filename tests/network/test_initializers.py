"""Untrained weights: the draws follow the density that is shown, and both are Keras'."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlens.errors import CnnlensError
from cnnlens.network.untrained.keras import compute_fans, density, draw

CONTINUOUS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "glorot uniform": ({"class_name": "GlorotUniform", "config": {"seed": None}}, (3, 5, 7, 90)),
    "glorot normal": ("glorot_normal", (3, 5, 7, 90)),
    "he uniform": ({"class_name": "HeUniform", "config": {}}, (63, 170)),
    "he normal": ("HeNormal", (3, 5, 7, 90)),
    "lecun uniform": ("lecun_uniform", (3, 5, 7, 90)),
    "lecun normal": ({"class_name": "LecunNormal", "config": {"seed": 3}}, (10_000,)),
    "scaling by fan out": (
        {
            "class_name": "VarianceScaling",
            "config": {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal"},
        },
        (3, 5, 7, 90),
    ),
    "scaling of Keras 2": (
        {
            "class_name": "VarianceScaling",
            "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "normal", "seed": None},
        },
        (3, 5, 7, 90),
    ),
    "random normal": ({"class_name": "RandomNormal", "config": {"mean": 0.3, "stddev": 0.2}}, (100, 90)),
    "random uniform": ({"class_name": "RandomUniform", "config": {"minval": -0.1, "maxval": 0.4}}, (100, 90)),
    "cut normal": ({"class_name": "TruncatedNormal", "config": {"mean": 0.3, "stddev": 0.2}}, (100, 90)),
    "keras 1 normal": ("normal", (100, 90)),
}


def quantiles(spec: Any, shape: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    """The share of the distribution below each value, by integrating the density numerically, on a grid of its own."""
    shown = density(spec, shape)
    low, high = shown.support
    deviation = float(np.std(values))
    low, high = (max(low, -12 * deviation + values.mean()), min(high, 12 * deviation + values.mean()))
    edges = np.linspace(low, high, 400_001)
    middle = (edges[:-1] + edges[1:]) / 2
    mass = shown.pdf(middle) * (edges[1] - edges[0])
    total = np.concatenate([[0.0], np.cumsum(mass)])
    # The arcsine law of a 2 x 2 orthogonal matrix is infinite at both ends: midpoints lose the most there.
    assert total[-1] == pytest.approx(1.0, abs=2e-3)
    return np.interp(values, edges, total)


def kolmogorov(share: np.ndarray) -> float:
    """The Kolmogorov-Smirnov distance from uniform, times the root of the number of draws: above 1.95 once in 1000."""
    share = np.sort(share)
    steps = np.arange(share.size + 1) / share.size
    return float(max(np.max(steps[1:] - share), np.max(share - steps[:-1])) * math.sqrt(share.size))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_draws_follow_the_exact_density(name: str) -> None:
    spec, shape = CONTINUOUS[name]
    values = draw(spec, shape, seed=11)
    assert values.shape == shape
    assert values.dtype == np.float32
    assert kolmogorov(quantiles(spec, shape, values.ravel().astype(np.float64))) < 1.95
    low, high = density(spec, shape).support
    assert low - 1e-6 <= values.min() < values.max() <= high + 1e-6


def test_the_kolmogorov_distance_sees_a_missing_correction() -> None:
    shape = (3, 5, 7, 90)
    uncorrected = {"class_name": "TruncatedNormal", "config": {"stddev": math.sqrt(2 / 105)}}
    wrong = draw(uncorrected, shape, seed=11)
    assert kolmogorov(quantiles("he_normal", shape, wrong.ravel().astype(np.float64))) > 1.95


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "size"), [((2, 2), 2), ((3, 1), 3), ((2, 2, 3), 4), ((3, 7), 7), ((40, 3), 40)])
def test_orthogonal_entries_follow_the_density_of_a_point_on_the_sphere(shape: tuple[int, ...], size: int) -> None:
    spec = {"class_name": "Orthogonal", "config": {"gain": 1.5, "seed": None}}
    # One entry of each matrix: entries of one matrix are not independent. Its corner and its last entry.
    for corner in ((0,) * len(shape), (-1,) * len(shape)):
        values = np.array([draw(spec, shape, seed)[corner] for seed in range(2000)], np.float64)
        assert kolmogorov(quantiles(spec, shape, values)) < 1.95
        assert values.std() == pytest.approx(1.5 / math.sqrt(size), rel=0.08)


def test_orthogonal_matrices_are_orthogonal() -> None:
    for shape in ((3, 2, 5), (3, 20)):
        matrix = draw({"class_name": "Orthogonal", "config": {"gain": 2.0}}, shape, 1).astype(np.float64)
        matrix = matrix.reshape(-1, shape[-1])
        small = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "shape", "atoms"),
    [
        ("zeros", (3, 4), ((0.0, 1.0),)),
        ("one", (3, 4), ((1.0, 1.0),)),
        ({"class_name": "Constant", "config": {"value": 0.3}}, (3, 4), ((0.3, 1.0),)),
        ({"class_name": "Constant", "config": {"value": [0.5, 0.5, 2.0, 0.5]}}, (3, 4), ((0.5, 0.75), (2.0, 0.25))),
        ({"class_name": "Identity", "config": {"gain": -2.0}}, (3, 4), ((-2.0, 0.25), (0.0, 0.75))),
        ({"class_name": "Identity", "config": {"gain": 1.0}}, (1, 1), ((1.0, 1.0),)),
        ({"class_name": "RandomNormal", "config": {"mean": 0.1, "stddev": 0.0}}, (3, 4), ((0.1, 1.0),)),
        ({"class_name": "RandomUniform", "config": {"minval": 0.2, "maxval": 0.2}}, (3, 4), ((0.2, 1.0),)),
        ({"class_name": "Orthogonal", "config": {"gain": 0.0}}, (3, 4), ((0.0, 1.0),)),
    ],
)
def test_fixed_values_are_atoms_with_their_shares(
    spec: Any, shape: tuple[int, ...], atoms: tuple[tuple[float, float], ...]
) -> None:
    shown = density(spec, shape)
    assert shown.atoms == pytest.approx(np.array(atoms))
    assert not shown.pdf(np.linspace(-3, 3, 7)).any()
    values = draw(spec, shape, 0)
    assert values.shape == shape
    for value, share in atoms:
        assert np.mean(values == np.float32(value)) == pytest.approx(share)


def test_a_single_orthogonal_entry_is_a_random_sign() -> None:
    shown = density({"class_name": "Orthogonal", "config": {"gain": 3.0}}, (1, 1))
    assert shown.atoms == ((-3.0, 0.5), (3.0, 0.5))
    values = [float(draw("orthogonal", (1, 1), seed)[0, 0]) for seed in range(400)]
    assert set(values) == {-1.0, 1.0}
    assert abs(sum(values)) < 80


def test_a_seed_gives_the_same_draw_and_another_seed_another() -> None:
    first, again, other = (draw("glorot_uniform", (3, 5), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fans_are_counted_on_the_stored_shape() -> None:
    assert compute_fans((3, 5, 7, 11)) == (105, 165)
    assert compute_fans((7, 11)) == (7, 11)
    assert compute_fans((7,)) == (7, 7)
    assert compute_fans(()) == (1, 1)
    assert compute_fans((3, 5, 7, 11), (0, 2), (3,)) == (21, 11)
    limit = math.sqrt(6 / (105 + 165))
    assert density("glorot_uniform", (3, 5, 7, 11)).support == pytest.approx((-limit, limit))


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("glorot_unifrom", (3, 4), "no initializer 'glorot_unifrom': did you mean"),
        ({"class_name": "MyInit", "config": {}}, (3, 4), "no initializer 'MyInit'"),
        ({"config": {}}, (3, 4), "name or config was expected"),
        ({"class_name": "RandomNormal", "config": {"stddev": "wide"}}, (3, 4), "stddev is wide"),
        ({"class_name": "RandomNormal", "config": {"stddev": -1}}, (3, 4), "negative"),
        ({"class_name": "RandomNormal", "config": {"stddev": 10**400}}, (3, 4), "where a number was expected"),
        ({"class_name": "RandomUniform", "config": {"minval": float("nan")}}, (3, 4), "where a number was expected"),
        ({"class_name": "RandomUniform", "config": {"minval": 1}}, (3, 4), "is empty"),
        ({"class_name": "VarianceScaling", "config": {"mode": "fan_on"}}, (3, 4), "no mode 'fan_on': did you mean"),
        ({"class_name": "VarianceScaling", "config": {"scale": 0}}, (3, 4), "positive"),
        ({"class_name": "VarianceScaling", "config": {"input_axes": [9]}}, (3, 4), "axes of 2"),
        ({"class_name": "Constant", "config": {"value": "a"}}, (3, 4), "where numbers were expected"),
        ({"class_name": "Constant", "config": {"value": [1, 2, 3]}}, (3, 4), "where numbers were expected"),
        ({"class_name": "Constant", "config": {"value": []}}, (3, 4), "numbers were expected"),
        ({"class_name": "GlorotUniform", "config": [1]}, (3, 4), "not a mapping"),
        ("identity", (3, 4, 5), "makes matrices"),
        ("orthogonal", (3,), "two axes or more"),
    ],
)
def test_what_cannot_be_drawn_is_refused(spec: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(CnnlensError, match=message):
        draw(spec, shape, 0)
    with pytest.raises(CnnlensError, match=message):
        density(spec, shape)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4
)
KEYS = (
    "mean",
    "stddev",
    "minval",
    "maxval",
    "scale",
    "mode",
    "distribution",
    "gain",
    "value",
    "input_axes",
    "output_axes",
)


@pytest.mark.slow
@given(
    st.sampled_from(["VarianceScaling", "RandomNormal", "RandomUniform", "TruncatedNormal", "Constant", "Orthogonal"]),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
)
@settings(max_examples=300, deadline=None)
def test_any_config_gives_a_draw_or_a_refusal(kind: str, config: dict[str, Any], shape: tuple[int, ...]) -> None:
    spec = {"class_name": kind, "config": config}
    try:
        shown = density(spec, shape)
    except CnnlensError:
        with pytest.raises(CnnlensError):
            draw(spec, shape, 0)
    else:
        assert draw(spec, shape, 0).shape == shape
        assert (shown.pdf(np.linspace(-2.0, 2.0, 9)) >= 0).all()


KERAS = """
import json, sys
import numpy as np
import keras
from keras import initializers

cases = json.load(sys.stdin)
keras.utils.set_random_seed(5)
found = {}
for name, (spec, shape) in cases.items():
    make = initializers.get(spec)
    spec = initializers.serialize(make)
    found[name] = np.asarray(keras.ops.convert_to_numpy(make(shape)))
found["orthogonal"] = np.array(
    [keras.ops.convert_to_numpy(initializers.Orthogonal(1.5, seed=seed)((2, 2, 3)))[0, 1, 2] for seed in range(1500)]
)
for name, shape in {"identity": (3, 4), "constant": (2, 3)}.items():
    make = initializers.get({"class_name": name.title(), "config": {"gain" if name == "identity" else "value": 0.3}})
    found[name] = keras.ops.convert_to_numpy(make(shape))
np.savez(sys.argv[1], **found)
"""


@pytest.mark.framework
@pytest.mark.skipif(
    importlib.util.find_spec("keras") is None or importlib.util.find_spec("torch") is None,
    reason="needs keras and torch",
)
def test_what_keras_draws_follows_the_same_density(tmp_path: Path) -> None:
    out = tmp_path / "draws.npz"
    ran = subprocess.run(
        [sys.executable, "-c", KERAS, str(out)],
        input=json.dumps(CONTINUOUS),
        env={**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    with np.load(out) as draws:
        for name, (spec, shape) in CONTINUOUS.items():
            values = draws[name].ravel().astype(np.float64)
            assert draws[name].shape == shape
            assert kolmogorov(quantiles(spec, shape, values)) < 1.95, name
        spec = {"class_name": "Orthogonal", "config": {"gain": 1.5}}
        assert kolmogorov(quantiles(spec, (2, 2, 3), draws["orthogonal"].astype(np.float64))) < 1.95
        np.testing.assert_array_equal(
            draws["identity"], draw({"class_name": "Identity", "config": {"gain": 0.3}}, (3, 4))
        )
        np.testing.assert_array_equal(
            draws["constant"], draw({"class_name": "Constant", "config": {"value": 0.3}}, (2, 3))
        )
