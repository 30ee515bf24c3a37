"""Kernels are checked when they are made, go to every framework, and their statistics are NumPy's."""

from __future__ import annotations

import tracemalloc
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnnlens.errors import CnnlensError
from cnnlens.layout import Geometry
from cnnlens.network.kernel import CanonicalArray, Kernel, statistics
from tests.support import SHARED

MODEL = SHARED / "data" / "best-cnn-model.keras"


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


@pytest.mark.skipif(not MODEL.exists(), reason="needs the model that is not part of the repository")
def test_the_digits_of_the_sample_layer() -> None:
    pyfive = pytest.importorskip("pyfive")
    with zipfile.ZipFile(MODEL) as archive:
        file = pyfive.File(BytesIO(archive.read("model.weights.h5")))
    stored = file["layers/conv2d/vars/0"][...]
    kernel = Kernel.from_stored("Conv2D", stored)
    assert stored.shape == (3, 3, 1, 32)
    assert kernel.shape == (32, 1, 3, 3)
    assert kernel.layout == "HWIO"
    assert kernel.axes == "OIHW"
    stats = kernel.stats()
    assert str(stats.mean) == "-0.017617775"
    assert str(stats.std) == "0.22690606"
    assert (stats.count, stats.finite) == (288, 288)


@pytest.mark.parametrize("size", [1, 7, 8, 129, 1000, 65_536, 65_537, 300_007, 1_000_003])
def test_float32_statistics_have_the_digits_that_numpy_prints(size: int) -> None:
    values = random(size) * 3 + 0.7
    stats = statistics(values)
    assert str(stats.mean) == str(values.mean())
    assert str(stats.std) == str(values.std())
    assert (str(stats.min), str(stats.max)) == (str(values.min()), str(values.max()))


def test_a_view_in_other_axes_has_the_statistics_of_the_stored_array() -> None:
    stored = random(3, 5, 70, 90)
    kernel = Kernel.from_stored("Conv2D", stored)
    assert kernel.stats() == statistics(stored)
    assert str(kernel.stats().std) == str(stored.std())


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "int8", "uint8", "bool"])
def test_other_dtypes_agree_with_float64_to_their_precision(dtype: str) -> None:
    values = (random(40_000) * 20).astype(dtype)
    stats = statistics(values)
    exact = values.astype(np.float64)
    tolerance = {"<f8": 1e-13, ">f4": 1e-6, "<f2": 1e-3}.get(dtype, 1e-13)
    assert stats.mean == pytest.approx(exact.mean(), rel=tolerance, abs=tolerance)
    assert stats.std == pytest.approx(exact.std(), rel=tolerance)
    assert (stats.min, stats.max) == pytest.approx((exact.min(), exact.max()), rel=tolerance)


@pytest.mark.slow
@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.floats(-100, 100, width=32)),
    st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=5),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_values_that_are_not_finite_are_counted_and_left_out(
    values: np.ndarray, bad: list[float], order: object
) -> None:
    flat = [*values.ravel().tolist(), *bad]
    order.shuffle(flat)  # type: ignore[attr-defined]
    stats = statistics(np.array(flat, np.float32))
    finite = np.array([value for value in flat if np.isfinite(value)])
    assert stats.count == len(flat)
    assert stats.finite == finite.size == values.size
    assert (stats.nan, stats.posinf, stats.neginf) == (
        sum(value != value for value in bad),
        bad.count(np.inf),
        bad.count(-np.inf),
    )
    assert stats.mean == pytest.approx(finite.mean(), rel=1e-5, abs=1e-4)
    assert stats.std == pytest.approx(finite.std(), rel=1e-4, abs=1e-4)
    assert (np.float32(stats.min), np.float32(stats.max)) == (np.float32(finite.min()), np.float32(finite.max()))


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [np.inf, -np.inf]])
def test_no_finite_value_gives_nan_and_no_warning(values: list[float]) -> None:
    stats = statistics(np.array(values, np.float32))
    assert stats.finite == 0
    assert np.isnan([stats.mean, stats.std, stats.min, stats.max]).all()


@pytest.mark.parametrize("unit", [np.float32(1e38), np.float64(1e-300), np.float64(5e307), np.float32(7e-44)], ids=str)
def test_squares_neither_overflow_nor_vanish(unit: np.floating) -> None:
    values = np.array([3, 3, -3]).astype(unit.dtype) * unit
    stats = statistics(values)
    assert stats.mean == pytest.approx(float(values[0]) / 3, rel=0.02, abs=0)
    assert stats.std == pytest.approx(float(values[0]) * (8**0.5 / 3), rel=0.02, abs=0)


def test_statistics_of_a_large_array_take_little_memory() -> None:
    values = random(4_000_000)
    tracemalloc.start()
    statistics(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < values.nbytes // 8


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([1j]), np.array([None])])
def test_statistics_of_what_is_no_number_are_refused(values: np.ndarray) -> None:
    with pytest.raises(CnnlensError, match="real numbers were expected"):
        statistics(values)


@pytest.mark.parametrize(
    ("kind", "weight", "shape", "geometry", "framework", "other"),
    [
        ("Conv2D", "kernel", (3, 2, 5, 8), Geometry(groups=4), "torch", (8, 5, 3, 2)),
        ("DepthwiseConv2D", "kernel", (3, 2, 5, 4), Geometry(), "torch", (20, 1, 3, 2)),
        ("DepthwiseConv2D", "kernel", (3, 2, 1, 4), Geometry(), "tflite", (1, 3, 2, 4)),
        ("SeparableConv2D", "pointwise_kernel", (1, 1, 20, 7), Geometry(groups=5), "torch", (7, 20, 1, 1)),
        ("Dense", "kernel", (60, 7), Geometry(flatten=(3, 4, 5)), "tflite", (7, 60)),
        ("LSTM", "recurrent_kernel", (5, 20), Geometry(), "onnx", (1, 20, 5)),
        ("MultiHeadAttention", "query/kernel", (7, 2, 3), Geometry(), "torch", (6, 7)),
        ("EinsumDense", "kernel", (7, 2, 3), Geometry(equation="abc,cde->abde"), "torch", (6, 7)),
    ],
)
def test_a_kernel_goes_to_another_framework_and_back_to_its_own(
    kind: str, weight: str, shape: tuple[int, ...], geometry: Geometry, framework: str, other: tuple[int, ...]
) -> None:
    stored = random(*shape)
    kernel = Kernel.from_stored(kind, stored, weight, geometry)
    assert kernel.to(framework).shape == other
    np.testing.assert_array_equal(kernel.to("keras"), stored)
    back = Kernel.from_stored(kind, kernel.to(framework), weight, kernel.geometry, framework)
    np.testing.assert_array_equal(back.array, kernel.array)


def test_the_order_behind_a_flatten_is_not_just_a_transpose() -> None:
    stored = random(60, 7)
    torch = Kernel.from_stored("Dense", stored, geometry=Geometry(flatten=(3, 4, 5))).to("torch")
    assert torch[6, (2 * 3 + 1) * 4 + 3] == stored[(1 * 4 + 3) * 5 + 2, 6]
    assert not np.array_equal(torch, stored.T)


@pytest.mark.parametrize(
    ("array", "kind", "geometry", "message"),
    [
        (np.zeros((5, 3, 2)), "Conv2D", Geometry(), "where OIHW was expected"),
        (np.zeros(5), "MyLayer", Geometry(), "canonical shape"),
        (np.zeros((7, 3, 2, 2)), "Conv2D", Geometry(groups=3), "3 groups do not divide"),
        (np.zeros((7, 3), complex), "Dense", Geometry(), "real numbers"),
    ],
)
def test_an_array_that_is_not_canonical_makes_no_kernel(
    array: np.ndarray, kind: str, geometry: Geometry, message: str
) -> None:
    with pytest.raises(CnnlensError, match=message):
        Kernel(CanonicalArray(array), kind, geometry=geometry)


def test_an_unknown_layer_has_a_kernel_as_it_is_stored() -> None:
    stored = random(3, 4, 5)
    kernel = Kernel.from_stored("MyLayer", stored, "var0")
    assert kernel.array is stored
    assert kernel.layout == kernel.axes == "abc"
