"""Honest float32 is never blamed, whatever the layer and the order of its sums: no framework is needed to see it.

float32 is run as it comes, summed in other orders, in blocks, one term after the other, and by Winograd's algorithm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnlens.checking import audit, pairwise
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, TF32, fits, to_format
from cnnlens.checking.noise.prediction import FLOOR
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Call
from tests.support.audited import Array, Audited
from tests.support.reference_cases import LAYERS, LayerCase

# --- formats ---------------------------------------------------------------------------------------------------------


@given(st.floats(width=64, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6))
def test_float16_is_rounded_as_numpy_rounds_it(value: float) -> None:
    with np.errstate(over="ignore"):
        assert to_format(np.array([value]), FLOAT16)[0] == np.float64(np.float16(value))


def test_formats() -> None:
    x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8 - 2.0**-20, np.inf, -np.inf, 0.0, 3.4e38])
    assert to_format(x, BFLOAT16).tolist() == [1, 1 + 2.0**-6, -1 - 2.0**-7, np.inf, -np.inf, 0, np.inf]
    assert to_format(x, BFLOAT16, "away")[0] == 1 + 2.0**-7
    assert to_format(x, BFLOAT16, "down")[1] == 1 + 2.0**-7
    assert np.isnan(to_format(np.array([np.nan]), TF32))[0]
    assert fits(to_format(x, TF32), TF32)
    assert not fits(x, FLOAT16)


# --- float32 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name[:80])
def test_no_false_alarm_for_any_layer_that_the_reference_computes(case: LayerCase) -> None:
    if case.kind in ("EinsumDense",) or (case.kind == "Normalization" and "mean" not in case.arguments):
        pytest.skip("its weights are made in another test")
    layer = Audited(case.kind, case.shapes if case.listed else case.shapes[0], seed=len(case.name), **case.arguments)
    found = layer.check(layer.honest)
    assert found.verdict in ("exact", "float32"), found
    assert found.bits >= FLOOR, found
    assert found.explanation == ""


def patches(layer: Audited) -> tuple[Array, Array, Array]:
    """A ``valid`` convolution as a matrix product: ``(positions, terms)``, ``(terms, filters)``, and the bias."""
    kernel = layer.weights["kernel"]
    taps = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(layer.x, taps, axis=(1, 2))
    rows = windows.transpose(0, 1, 2, 4, 5, 3)
    return rows.reshape(-1, kernel[..., 0].size), kernel.reshape(-1, kernel.shape[-1]), layer.weights["bias"]


def running(rows: Array, matrix: Array) -> Array:
    """One term after the other in float32: the least exact of honest sums."""
    total = np.zeros((len(rows), matrix.shape[1]), "float32")
    for term in range(rows.shape[1]):
        total += rows[:, term, None] * matrix[term]
    return total


def shuffled(rows: Array, matrix: Array) -> Array:
    order = np.random.default_rng(3).permutation(rows.shape[1])
    return running(rows[:, order], matrix[order])


def blocked(rows: Array, matrix: Array) -> Array:
    return sum(
        (running(rows[:, at : at + 32], matrix[at : at + 32]) for at in range(0, rows.shape[1], 32)),
        np.zeros((len(rows), matrix.shape[1]), "float32"),
    )


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("way", [running, shuffled, blocked])
@pytest.mark.parametrize(("size", "channels"), [(3, 1), (5, 3), (1, 64), (3, 64), (1, 1000), (3, 512)])
def test_any_order_of_summation_is_float32(
    size: int, channels: int, way: Callable[[Array, Array], Array], positive: bool
) -> None:
    layer = Audited("Conv2D", (1, size + 6, size + 5, channels), filters=16, kernel_size=size, positive=positive)
    if positive:  # every term of one sign: partial sums grow to the result
        layer.weights["kernel"] = np.abs(layer.weights["kernel"])
    rows, matrix, bias = patches(layer)
    output = (way(rows, matrix) + bias).reshape(layer.honest.shape)
    found = layer.check(output)
    assert found.verdict == "float32", found


def winograd(layer: Audited, transforms: tuple[Array, Array, Array], tile: int) -> Array:
    """F(m x m, 3 x 3) in float32 on tiles (Lavin and Gray, 2015), ``valid`` padding."""
    back, front, middle = (matrix.astype("float32") for matrix in transforms)
    x, kernel = layer.x, layer.weights["kernel"]
    height, width = x.shape[1] - 2, x.shape[2] - 2
    weights = np.einsum("ai,ijcf,bj->abcf", middle, kernel, middle, dtype="float32")
    out = np.zeros((x.shape[0], height, width, kernel.shape[-1]), "float32")
    side = tile + 2
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            piece = x[:, top : top + side, left : left + side]
            given = np.einsum("ai,nijc,bj->nabc", front, piece, front, dtype="float32")
            product = np.einsum("nabc,abcf->nabf", given, weights, dtype="float32")
            out[:, top : top + tile, left : left + tile] = np.einsum(
                "ia,nabf,jb->nijf", back, product, back, dtype="float32"
            )
    return out + layer.weights["bias"]


TWO = (
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
)
FOUR = (
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("channels", [1, 16, 512])
@pytest.mark.parametrize(("transforms", "tile"), [(TWO, 2), (FOUR, 4)], ids=["F2", "F4"])
def test_winograd_is_float32(transforms: tuple[Array, Array, Array], tile: int, channels: int, positive: bool) -> None:
    layer = Audited("Conv2D", (1, 14, 10, channels), filters=12, kernel_size=3, positive=positive)
    output = winograd(layer, transforms, tile)
    assert np.allclose(output, layer.honest, atol=1e-3)
    found = layer.check(output)
    assert found.verdict == "float32", found
    # And a factor of 1.0001 on one channel does not hide behind its noise.
    output[..., 3] *= np.float32(1.0001)
    assert layer.check(output).verdict == "wrong"


def test_flushed_subnormal_numbers_are_no_fault() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 6), filters=5, kernel_size=3, use_bias=False)
    layer.weights["kernel"][..., 2] *= np.float32(1e-38)  # a channel that weight decay has killed
    output = layer.honest
    output[np.abs(output) < np.finfo("float32").tiny] = 0
    assert layer.check(output).verdict == "float32"


def test_a_dead_channel_of_tiny_weights_is_still_watched() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 6), filters=5, kernel_size=3, use_bias=False)
    layer.weights["kernel"][..., 2] *= np.float32(1e-24)
    assert layer.check(layer.honest).verdict == "float32"
    output = layer.honest
    output[..., 2] *= np.float32(1.001)
    found = layer.check(output)
    assert found.verdict == "wrong"
    assert found.worst_channel == 2


# --- what must be exact, what is not finite, what is not audited -----------------------------------------------------


@pytest.mark.parametrize("kind", ["MaxPooling2D", "ZeroPadding2D", "Flatten", "Dropout", "Cropping2D", "Permute"])
def test_layers_that_move_values_must_be_exact(kind: str) -> None:
    extra: dict[str, Any] = {"Permute": {"dims": (2, 3, 1)}, "Dropout": {"rate": 0.4}}.get(kind, {})
    layer = Audited(kind, (3, 8, 6, 5), **extra)
    output = layer.honest
    assert layer.check(output).verdict == "exact"
    place = np.unravel_index(np.abs(output).argmax(), output.shape)
    output[place] = np.nextafter(output[place], np.float32(9e9))
    found = layer.check(output)
    assert found.verdict == "suspicious"
    assert found.worst_error != 0


def test_nan_is_compared_by_place_and_named_by_channel() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 6), filters=5, kernel_size=3, activation="relu")
    honest = layer.honest
    hidden = honest.copy()
    hidden[1, 2, 3, 3] = np.nan
    found = layer.check(hidden)
    assert found.verdict == "wrong"
    assert "NaN in output channel 3, which the backend makes" in found.explanation
    assert found.worst_position == (1, 3, 2, 3)
    layer.weights["kernel"][1, 1, 2, 4] = np.nan
    both = layer.check(layer.honest)
    assert both.verdict in ("exact", "float32")
    assert "the file's kernel has NaN in output channel 4" in both.explanation
    zero = layer.honest
    zero[..., 4] = 0
    found = layer.check(zero)
    assert found.verdict == "wrong"
    assert "NaN in output channel 4, which the backend hides" in found.explanation


def test_a_wrong_shape_and_an_unknown_layer() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 6), filters=5, kernel_size=3)
    found = layer.check(layer.honest[:, 1:])
    assert found.verdict == "wrong"
    assert "shape" in found.explanation

    def refuse() -> Any:
        raise CnnlensError("not here")

    layer.call.layer.make_operation = None
    unknown = Audited("Conv2D", (2, 9, 8, 6), filters=5, kernel_size=3)
    unknown.call.layer.make_operation = None
    assert "not audited" in (unknown.check(unknown.honest).verdict, unknown.check(unknown.honest).reason)


def test_positions_are_canonical() -> None:
    layer = Audited("Conv2D", (6, 9, 8, 6), filters=5, kernel_size=3)
    output = layer.honest
    output[4, 2, 5, 1] += 0.5
    found = layer.check(output)
    assert found.worst_position == (4, 1, 2, 5)
    assert abs(found.worst_error - 0.5) < 1e-5
    assert found.verdict == "wrong"
    assert found.worst_channel == 1


def test_channels_first_names_the_right_channel() -> None:
    layer = Audited("Conv2D", (2, 6, 9, 8), filters=5, kernel_size=3, data_format="channels_first")
    output = layer.honest
    output[:, 3] *= np.float32(1.001)
    found = layer.check(output)
    assert found.worst_channel == 3
    assert found.worst_position[1] == 3


def test_a_call_without_inputs_is_exact() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 6), filters=5, kernel_size=3)
    call = Call("input", layer.call.layer, (), {}, (None,), -1)
    assert audit(call, {}, (), {}, layer.x).verdict == "exact"


# --- two recordings --------------------------------------------------------------------------------------------------


def test_pairwise() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(size=(50, 10)).astype("float32")
    same = pairwise(a, a)
    assert same.equal
    assert (same.max_abs, same.rel_rms, same.top1) == (0, 0, 1)
    assert same.cosine == pytest.approx(1)
    b = a.copy()
    b[0, 0] += 100
    other = pairwise(a, b)
    assert other.max_abs == pytest.approx(100, rel=1e-6)
    assert other.top1 is not None
    assert other.top1 >= 0.98
    assert other.cosine < 0.9
    assert pairwise(a, -a).cosine == pytest.approx(-1)
    b[1, 1] = np.nan
    assert pairwise(a, b).max_abs == np.inf
    assert pairwise(a.reshape(5, 10, 10), a.reshape(5, 10, 10)).top1 is None
    assert pairwise(0 * a, 0 * a).cosine == 1
    with pytest.raises(CnnlensError, match="one shape"):
        pairwise(a, a[1:])


# --- random layers ---------------------------------------------------------------------------------------------------

ACTIVATIONS = (
    "relu relu6 sigmoid tanh gelu silu softmax leaky_relu elu selu hard_sigmoid hard_silu softplus softsign mish "
    "exponential celu hard_tanh log_softmax log_sigmoid squareplus tanh_shrink soft_shrink hard_shrink sparse_plus"
).split()


@st.composite
def random_layers(draw: st.DrawFn) -> Audited:
    kind = draw(
        st.sampled_from(
            "Conv1D Conv2D Conv3D DepthwiseConv2D SeparableConv2D Conv2DTranspose Dense BatchNormalization "
            "LayerNormalization GroupNormalization RMSNormalization AveragePooling2D GlobalAveragePooling2D Activation "
            "UnitNormalization".split()
        )
    )
    rank = next((rank for rank in (1, 2, 3) if f"{rank}D" in kind), 2)
    channels = draw(st.sampled_from([1, 2, 3, 6, 12, 40]))
    shape = (draw(st.integers(1, 4)), *(draw(st.integers(3, 9)) for _ in range(rank)), channels)
    config: dict[str, Any] = {}
    if "Conv" in kind:
        config["kernel_size"] = draw(st.integers(1, 3))
        config["padding"] = draw(st.sampled_from(["same", "valid"]))
        config["strides"] = draw(st.integers(1, 2))
        config["use_bias"] = draw(st.booleans())
    if "Conv" in kind and "Depthwise" not in kind:
        config["filters"] = draw(st.sampled_from([1, 2, 5, 12]))
    if kind == "Dense":
        config["units"] = draw(st.sampled_from([1, 2, 5, 12]))
    if "Conv" in kind or kind in ("Dense", "Activation"):
        config["activation"] = draw(st.sampled_from([*ACTIVATIONS, *([] if kind == "Activation" else [None])]))
    if kind == "GroupNormalization":
        config["groups"] = draw(st.sampled_from([size for size in (1, 2, 3, -1) if channels % max(size, 1) == 0]))
    if kind == "AveragePooling2D":
        config |= {"pool_size": draw(st.integers(1, 3)), "strides": draw(st.integers(1, 3)), "padding": "same"}
    layer = Audited(kind, shape, seed=draw(st.integers(0, 1 << 30)), **config)
    scale, shift = draw(st.sampled_from([1e-3, 1.0, 30.0])), draw(st.sampled_from([0.0, 1.0, 20.0]))
    layer.inputs = [(x * scale + shift).astype("float32") for x in layer.inputs]
    if draw(st.booleans()):
        layer.inputs = [np.maximum(x, 0) for x in layer.inputs]
    return layer


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random_layers())
def test_no_false_alarm_for_random_layers(layer: Audited) -> None:
    found = layer.check(layer.honest)
    # Of a variance next to nothing beside the mean a fast formula keeps no digit: that is said, and nothing audited.
    nearly_constant = layer.kind.endswith("Normalization") and 1000 * layer.x.std() < np.abs(layer.x.mean())
    allowed = ("exact", "float32", "not audited") if nearly_constant else ("exact", "float32")
    assert found.verdict in allowed, (found, layer.kind, layer.config, layer.shapes)
