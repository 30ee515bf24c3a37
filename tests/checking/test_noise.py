"""How far honest arithmetic goes, held against the formulas written out in NumPy: formats, sums of products, norms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from cnnlens.checking.noise import linear
from cnnlens.checking.noise.arithmetic import Arithmetic, candidates
from cnnlens.checking.noise.case import Case, Picked
from cnnlens.checking.noise.condition import scale_of
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, TF32, Format, fits, to_format
from cnnlens.checking.noise.nonfinite import channels, nonfinite_weights, strays
from cnnlens.checking.noise.propagation import propagate
from cnnlens.checking.noise.steps import _Noise  # pyright: ignore[reportPrivateUsage]
from cnnlens.checking.noise.summation import rounded_alike
from cnnlens.checking.noise.tally import Tally
from cnnlens.reference import build
from cnnlens.reference.keras.recurrent import Recurrent
from tests.support.audited import Array, Audited

# -- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [TF32, FLOAT16, BFLOAT16], ids=lambda one: one.name)
def test_both_ends_of_a_format(wanted: Format) -> None:
    least, last = 2.0 ** (wanted.lowest - wanted.mantissa), wanted.largest
    step = last - to_format(np.array([last * (1 - 2.0 ** -(wanted.mantissa + 1))]), wanted, "down")[0]
    x = np.array([least, 0.4 * least, 0.6 * least, 1.5 * least, last, last + 0.4 * step, last + 0.6 * step, 9 * last])
    for sign in (1, -1):
        even, down = to_format(sign * x, wanted) * sign, to_format(sign * x, wanted, "down") * sign
        assert even.tolist() == [least, 0, least, 2 * least, last, last, np.inf, np.inf]
        assert down.tolist() == [least, 0, 0, least, last, last, last, last]
        assert to_format(sign * x, wanted, "away")[-2] == sign * np.inf
    assert fits(np.array([least, last, np.inf, np.nan]), wanted)
    assert not fits(np.array([1.0] * (1 << 20) + [1.5 * least]), wanted)
    assert to_format(np.array([-0.0, np.inf, -np.inf]), wanted, "down").tolist() == [0, np.inf, -np.inf]


def test_the_likely_arithmetics_come_first_and_results_are_asked_of_what_was_stored() -> None:
    for halves in ([], [BFLOAT16], [FLOAT16], [BFLOAT16, FLOAT16]):
        found = list(candidates(halves))
        assert len(found) == len(set(found))
        names = [one.name for one in found if one.stored and not one.wide]
        assert names == [one.name for one in found[: len(names)]]
        assert list(dict.fromkeys(names)) == [half.name for half in halves]
        assert ("tf32" in [one.name for one in found]) == (not halves)
        assert all(one.stored in (None, "product") for one in found[len(names) :])


def test_every_step_of_a_layer_moves_what_it_rounds() -> None:
    noise = _Noise(np.random.default_rng(0), False)
    x = np.random.default_rng(1).random((3, 4, 4)) + 1
    steps = (noise.value(x), noise.total(x, lambda: x), noise.product(x, x, x @ x), noise.average(x, x, x @ x))
    for moved, exact in zip(steps, (x, x, x @ x, x @ x), strict=True):
        assert (moved != exact).all()
        assert np.abs(moved / exact - 1).max() < 1e-3


# -- sums of products ------------------------------------------------------------------------------------------------

LAYERS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "convolution": ("Conv2D", (2, 7, 6, 4), {"filters": 5, "kernel_size": 3}),
    "first": ("Conv2D", (2, 4, 7, 6), {"filters": 5, "kernel_size": 3, "data_format": "channels_first"}),
    "grouped": ("Conv2D", (2, 7, 6, 4), {"filters": 6, "kernel_size": 2, "groups": 2, "use_bias": False}),
    "depthwise": ("DepthwiseConv2D", (2, 7, 6, 4), {"kernel_size": 3, "depth_multiplier": 2}),
    "transposed": ("Conv2DTranspose", (2, 5, 4, 3), {"filters": 6, "kernel_size": 3, "strides": 2}),
    "dense": ("Dense", (3, 11), {"units": 7}),
}


def squared(layer: Audited, z: Array) -> Array:
    """``W^2 (*) x^2 + b^2 + z^2``, the layer itself on squares."""
    squares = {name: np.square(array.astype(np.float64)) for name, array in layer.weights.items()}
    return layer.operation.linear(squares, np.square(layer.x.astype(np.float64))) + np.square(z)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [1.0, 1e-25, 1e18])
@pytest.mark.parametrize("name", LAYERS)
def test_the_noise_of_a_sum_of_products(name: str, size: float) -> None:
    kind, shape, config = LAYERS[name]
    layer = Audited(kind, shape, **config)
    layer.inputs = [(layer.x * np.float32(size)).astype(np.float32)]
    if "bias" in layer.weights:
        layer.weights["bias"] = (layer.weights["bias"] * np.float32(size)).astype(np.float32)
    made = linear.product(layer.operation, layer.weights, layer.x)  # type: ignore[arg-type]
    wide = {one: array.astype(np.float64) for one, array in layer.weights.items()}
    z = layer.operation.linear(wide, layer.x.astype(np.float64))  # type: ignore[attr-defined]
    np.testing.assert_allclose(made.value, z, rtol=1e-13, atol=1e-13 * size)
    np.testing.assert_allclose(np.square(made.spread), squared(layer, z), rtol=1e-5)
    assert (made.bias is None) == ("bias" not in layer.weights)
    if made.bias is not None:
        without = layer.operation.linear(linear.without_bias(wide), layer.x.astype(np.float64))  # type: ignore[attr-defined]
        np.testing.assert_allclose(made.value - made.bias, without, rtol=1e-9, atol=1e-12 * size)
    assert not linear.product(layer.operation, layer.weights, layer.x, scale=False).spread.size  # type: ignore[arg-type]


def test_weights_beside_which_others_are_lost_keep_their_noise() -> None:
    """Squares of numbers 1e-20 beside ones of 1 are no float32 numbers; their own channel is watched all the same."""
    layer = Audited("Dense", (3, 11), units=7)
    layer.weights["kernel"][:, 4] *= np.float32(1e-20)
    layer.weights["bias"][4] = 0
    made = linear.product(layer.operation, layer.weights, layer.x)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.square(made.spread), squared(layer, made.value), rtol=1e-5)


def test_the_noise_between_the_halves_of_a_separable_layer_is_handed_on() -> None:
    layer = Audited("SeparableConv2D", (2, 7, 6, 4), filters=5, kernel_size=3, depth_multiplier=2)
    made = linear.product(layer.operation, layer.weights, layer.x)  # type: ignore[arg-type]
    first = Audited("DepthwiseConv2D", (2, 7, 6, 4), kernel_size=3, depth_multiplier=2, use_bias=False)
    half = linear.product(first.operation, {"kernel": layer.weights["depthwise_kernel"]}, layer.x)  # type: ignore[arg-type]
    point = layer.weights["pointwise_kernel"][0, 0].astype(np.float64)
    bias = layer.weights["bias"].astype(np.float64)
    z = half.value @ point + bias
    np.testing.assert_allclose(made.value, z, rtol=1e-12)
    own = np.square(half.value) @ np.square(point) + np.square(bias) + np.square(z)
    np.testing.assert_allclose(np.square(made.spread), own + np.square(half.spread) @ np.square(point), rtol=1e-5)
    assert linear.fan_in(layer.operation, layer.weights) == 9 + 8  # type: ignore[arg-type]


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_huge_dense_kernel_some_columns_at_a_time_comes_to_the_same(
    use_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Audited("Dense", (3, 11), units=17, use_bias=use_bias)
    whole = linear.product(layer.operation, layer.weights, layer.x)  # type: ignore[arg-type]
    monkeypatch.setattr(linear, "_COLUMN_ELEMENTS", 44)  # four columns
    pieces = linear.product(layer.operation, layer.weights, layer.x)  # type: ignore[arg-type]
    np.testing.assert_allclose(pieces.value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(pieces.spread, whole.spread, rtol=1e-5)
    assert (pieces.bias is None) == (not use_bias)
    assert not linear.product(layer.operation, layer.weights, layer.x, scale=False).spread.size  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "shape", "config", "terms"),
    [
        ("Conv2D", (1, 9, 9, 6), {"filters": 4, "kernel_size": 3}, 54),
        ("Conv2D", (1, 9, 9, 6), {"filters": 4, "kernel_size": 3, "groups": 2}, 27),
        ("DepthwiseConv2D", (1, 9, 9, 6), {"kernel_size": (3, 2)}, 6),
        ("Conv2DTranspose", (1, 9, 9, 6), {"filters": 4, "kernel_size": 3}, 54),
        ("Dense", (2, 13), {"units": 4}, 13),
    ],
)
def test_the_products_that_are_added_for_an_output(kind: str, shape: Any, config: Any, terms: int) -> None:
    layer = Audited(kind, shape, **config)
    assert linear.fan_in(layer.operation, layer.weights) == terms  # type: ignore[arg-type]
    fast = kind == "Conv2D"
    assert linear.winograd(layer.operation) == fast  # type: ignore[arg-type]
    assert not linear.winograd(Audited("Conv2D", shape, filters=2, kernel_size=1).operation)  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("stored", "wide"), [("result", False), ("activation", False), ("product", False), ("product", True)]
)
def test_a_band_holds_the_plain_computation_and_little_else(stored: Any, wide: bool, bias: bool) -> None:
    """Each result is rounded where the arithmetic says; only what lies at the edge of two numbers may be either."""
    arithmetic = Arithmetic(BFLOAT16, True, "even", stored, True, wide)
    random = np.random.default_rng(3)
    product, spread = random.normal(size=(40, 30)), np.full((40, 30), 1.0)
    added = random.normal(size=30) if bias else None

    def squash(x: Array) -> tuple[Array, Array | None]:
        return np.tanh(x), np.full(x.shape, 0.25)

    value = to_format(product, BFLOAT16) if stored == "product" else product
    value = value if added is None else value + added
    if stored in ("product", "activation") and not wide:
        value = to_format(value, BFLOAT16)
    plain = np.tanh(value) if wide else to_format(np.tanh(value), BFLOAT16)
    low, high = arithmetic.band(product, added, spread, squash)
    assert ((low <= plain) & (plain <= high)).all()
    if wide:  # nothing is rounded after the product: the loss of the activation is on both sides
        assert np.median((high - low) / (2 * (np.abs(plain) + 0.25) * 2.0**-21)) == pytest.approx(1, abs=0.01)
    else:
        assert 0.9 < (low == high).mean() < 1


# -- activations and recurrences -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "tanh", "softplus", "elu", "sparsemax"])
def test_noise_in_front_of_an_activation_comes_out_as_large_as_it_is(name: str) -> None:
    """Where it is much larger than any rounding, its scale is the deviation of what comes out, seen in 400 draws."""
    random = np.random.default_rng(8)
    activation = Audited("Activation", (1, 3), activation=name).operation.activation  # type: ignore[attr-defined]
    z = random.normal(0.0, 1.0, (5, 7))
    spread = random.uniform(100.0, 300.0, z.shape)
    y, scale = propagate(activation, z, spread)
    np.testing.assert_allclose(y, activation.apply(z))
    step = 2.0**-20 / 300
    draws = [(activation.apply(z + step * spread * random.normal(size=z.shape)) - y) / step for _ in range(400)]
    seen = np.sqrt(np.mean(np.square(draws), axis=0))
    mixed = 1.6 if name == "sparsemax" else 1.2
    assert (scale >= seen / mixed).all()
    assert np.median(scale / np.maximum(seen, 1)) < 1.3


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("SimpleRNN", 1)])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_noise_of_a_recurrence_is_what_float32_leaves(kind: str, gates: int, wrapped: bool) -> None:
    """Over many outputs the errors of honest float32 are about the scale times 2^-24: as large, and no tenth of it."""
    random = np.random.default_rng(2)
    operation = build(kind, None, {"units": 6, "return_sequences": True, "reset_after": True}, (3, 15))
    shapes = {"kernel": (5, 6 * gates), "recurrent_kernel": (6, 6 * gates)}
    shapes["bias"] = (2, 6 * gates) if kind == "GRU" else (6 * gates,)
    weights = {f"cell/{name}": random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    x = random.normal(0, 1, (40, 9, 5)).astype(np.float32)
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    y = np.asarray(operation(wide, x.astype(np.float64)))
    honest = np.asarray(operation(weights, x))
    assert honest.dtype == np.float32
    used = Picked(Several(operation), 0) if wrapped else operation
    scale = scale_of(used, wide, (x.astype(np.float64),), {}, y)
    ratio = (honest - y) / (scale * 2.0**-24)
    assert 0.1 < np.sqrt(np.mean(np.square(ratio))) < 1
    assert np.abs(ratio).max() < 8


class Several(Recurrent):
    """A recurrent layer that gives its sequence and something beside it, as one with states does."""

    def __init__(self, inner: Any) -> None:
        self.__dict__.update(inner.__dict__)
        self.inner = inner

    def __call__(self, weights: Any, *args: Any, **kwargs: Any) -> Any:
        return [self.inner(weights, *args, **kwargs), None]

    def rounded(self, *args: Any, **kwargs: Any) -> Any:
        return [self.inner.rounded(*args, **kwargs), None]


# -- norms and means -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, {"scale": False}, {"center": False}, {"axis": 1, "epsilon": 0.1}])
def test_the_noise_of_a_batch_normalisation(config: dict[str, Any]) -> None:
    """``((x f)^2 + (mean f)^2 + beta^2 + y^2)^(1/2)`` with ``f = gamma / sqrt(variance + epsilon)``."""
    layer = Audited("BatchNormalization", (3, 5, 4, 6), **config)
    held = {name: array.astype(np.float64) for name, array in layer.weights.items()}
    x, axis = layer.x.astype(np.float64), config.get("axis", -1)
    factor = held.get("gamma", 1.0) / np.sqrt(held["moving_variance"] + config.get("epsilon", 1e-3))
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    along = [
        np.asarray(one).reshape(shape) for one in (factor, held["moving_mean"], held.get("beta", np.zeros_like(factor)))
    ]
    y = (x - along[1]) * along[0] + along[2]
    wanted = np.sqrt(np.square(x * along[0]) + np.square(along[1] * along[0]) + np.square(along[2]) + np.square(y))
    np.testing.assert_allclose(scale_of(layer.operation, held, (x,), {}, y), wanted, rtol=1e-9)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1e-6 / 3, 3e7 / 7])
def test_equal_terms_are_rounded_alike_as_far_as_running_sums_are(value: float) -> None:
    """A sum of 20,000 equal terms, one after the other in float32, is within what is allowed for, and not by far."""
    terms = np.full(20_000, np.float32(value))
    error = 0.0
    for lanes in (1, 4, 16, 64):
        sums = np.zeros(lanes, np.float32)
        for row in terms[: len(terms) // lanes * lanes].reshape(-1, lanes):
            sums += row
        exact = float(terms[0]) * (len(terms) // lanes * lanes)
        error = max(error, abs(float(sums.astype(np.float64).sum()) - exact))
    x = terms.astype(np.float64)[None]
    allowed = rounded_alike(lambda one: one.sum(axis=-1), x, x.sum(axis=-1))
    half = 2.0 ** (np.floor(np.log2(x.sum())) - 24)  # a step of the whole sum
    assert error < float(np.max(allowed)) * 2.0**-20 < 4 * len(terms) * half


def test_few_terms_and_terms_that_need_no_rounding_are_not_excused() -> None:
    def mean(x: Array) -> Array:
        return x.mean(axis=-1)

    few = np.full((3, 24), 1 / 3)
    assert not np.any(rounded_alike(mean, few, mean(few)))
    assert not np.any(rounded_alike(mean, np.zeros((3, 0)), np.zeros(3)))
    assert not np.any(rounded_alike(mean, np.zeros((3, 400)), np.zeros(3)))
    ones = np.ones((3, 4096))
    assert not np.any(rounded_alike(mean, ones, mean(ones)))
    thirds = np.full((3, 4096), 1 / 3)
    assert np.all(np.asarray(rounded_alike(mean, thirds, mean(thirds))) > 1)


# -- what is no number -----------------------------------------------------------------------------------------------


def odd(output: Array, expected: Array, x: Array | None = None, excused: Array | None = None) -> Any:
    layer = Audited("Activation", output.shape, activation="tanh")
    case = Case.of(layer.call.layer, -1, {}, (layer.x if x is None else x,), {}, output.astype(np.float32))
    found = strays(case, expected.astype(np.float64), 10, excused)
    return None if found is None else (found.text, found.position)


def test_what_is_no_number_is_said_by_kind_channel_and_place() -> None:
    plain = np.ones((3, 4, 5))
    kinds = {"+inf": np.inf, "-inf": -np.inf, "NaN": np.nan}
    assert odd(plain, plain) is None
    for name, value in kinds.items():
        one = plain.copy()
        one[1, 2, 3] = one[2, 0, 3] = value
        assert odd(one, one) is None
        assert odd(one, plain) == (f"{name} in output channel 3, which the backend makes (2 outputs)", (11, 2, 3))
        assert odd(plain, one) == (f"{name} in output channel 3, which the backend hides (2 outputs)", (11, 2, 3))
    for (have, value), (want, other) in itertools.permutations(kinds.items(), 2):
        first, second = plain.copy(), plain.copy()
        first[0, 1, 4], second[0, 1, 4] = value, other
        text = f"{have} where the reference has {want} in output channel 4 (1 output)"
        assert odd(first, second) == (text, (10, 1, 4))
        beside = np.full((3, 4, 5), np.inf)  # behind an infinity that came in, which kind it is hangs on the order
        assert odd(first, second, beside) is None
        assert odd(first, plain, beside) is not None
    over = plain.copy()
    over[1, 1, 1] = 1e39  # float32 has no such number
    infinite = np.where(over > 1, np.inf, over)
    assert odd(infinite, over) is None
    excused = over > 1
    assert odd(infinite, plain) is not None
    assert odd(infinite, plain, excused=excused) is None
    assert odd(plain, infinite, excused=excused) is not None


@pytest.mark.parametrize("axis", [-1, (1, 2)])
def test_a_softmax_beside_an_infinity_is_zero_or_nan(axis: int | tuple[int, int]) -> None:
    """``exp(x) / sum(exp(x))`` makes it 0, as it is defined; with the largest taken off first it is NaN."""
    layer = Audited("Softmax", (3, 4, 5), axis=axis)
    (x,) = layer.inputs
    x[1, 2, 3], x[1, 2, 0], x[2, 1, 1] = np.inf, -np.inf, np.nan
    x[0, 0, 1] = 1e-40  # a number that some take for zero
    with np.errstate(all="ignore"):
        taken_off = layer.honest
        within = np.isinf(x).any(axis=axis, keepdims=True)
        defined = np.where(within, np.where(np.isposinf(x), np.nan, np.float32(0)), taken_off)
    assert np.isnan(taken_off).sum() > 5
    for honest in (taken_off, defined):
        assert layer.check(honest).verdict.passes("strict")
    for wrong in (np.where(within, np.float32(0.25), taken_off), np.where(within, np.float32(0), taken_off),
                  np.where(np.isnan(taken_off), np.float32(0), taken_off)):  # fmt: skip
        assert layer.check(wrong).fault_class is not None


def test_channels_are_listed_as_a_person_does() -> None:
    assert channels([3]) == "channel 3"
    assert channels([3, 5]) == "channels 3 and 5"
    assert channels(range(6)) == "channels 0, 1, 2, 3, 4 and 5"
    assert channels(range(7)) == "channels 0, 1, 2, 3, 4, 5, … (7 of them)"


@pytest.mark.parametrize(
    ("kind", "shape", "config", "place", "channel"),
    [
        ("Conv2D", (1, 5, 5, 3), {"filters": 4, "kernel_size": 2}, ("kernel", (1, 0, 2, 3)), 3),
        ("Conv2DTranspose", (1, 5, 5, 3), {"filters": 4, "kernel_size": 2}, ("kernel", (1, 0, 3, 1)), 3),
        ("DepthwiseConv2D", (1, 5, 5, 3), {"kernel_size": 2, "depth_multiplier": 2}, ("kernel", (1, 0, 2, 1)), 5),
        ("DepthwiseConv2D", (1, 5, 5, 3), {"kernel_size": 2, "depth_multiplier": 2}, ("bias", (4,)), 4),
        ("Dense", (1, 5), {"units": 4}, ("kernel", (4, 2)), 2),
    ],
)
def test_a_weight_that_is_no_number_is_named_with_its_channel(
    kind: str, shape: Any, config: Any, place: Any, channel: int
) -> None:
    layer = Audited(kind, shape, **config)
    assert nonfinite_weights(layer.call.layer, {**layer.weights, "count": np.array([1])}) == ""
    for value, what in ((np.nan, "NaN"), (-np.inf, "infinity")):
        name, index = place
        held = {one: array.copy() for one, array in layer.weights.items()}
        held[name][index] = value
        said = f"the file's {name} has {what} in output channel {channel}"
        assert nonfinite_weights(layer.call.layer, held) == said


def test_an_empty_tally_says_nothing() -> None:
    tally = Tally(9)
    assert tally.below(20.0).shape == tally.outliers().shape == (0,)
    assert tally.few_inputs(20.0) == []
    assert np.isnan(tally.seen(20.0))
