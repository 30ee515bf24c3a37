"""The reference against truths that need no framework: definitions written out as loops, and laws that must hold.

Keras is not asked here, so these also hold where Keras cannot run: dilated transposed convolutions in float64, NaN,
other threads at the same time.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnlens.reference import LinearOperation, build
from cnnlens.reference.arithmetic.special import erf

pytestmark = pytest.mark.slow

VERSION = (3, 15, 1)


def _layer(kind: str, version: tuple[int, ...] = VERSION, **config: Any) -> Any:
    return build(kind, "keras.layers", config, version)


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    wanted = -(-size // stride)
    total = max((wanted - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, wanted


def _convolution(x: Any, kernel: Any, strides: Any, dilation: Any, padding: str, groups: int) -> Any:
    """The definition: every output by itself, every tap looked up, nothing outside the image."""
    sizes, taps = x.shape[1:-1], kernel.shape[:-2]
    inner, filters = kernel.shape[-2:]
    plan = []
    for size, tap, stride, gap in zip(sizes, taps, strides, dilation, strict=True):
        if padding == "same":
            plan.append(_same(size, tap, stride, gap))
        elif padding == "causal":
            plan.append(((tap - 1) * gap, -(-size // stride)))
        else:
            plan.append((0, (size - (tap - 1) * gap - 1) // stride + 1))
    out = np.zeros((x.shape[0], *(count for _, count in plan), filters))
    for position in np.ndindex(*out.shape[1:-1]):
        for tap in np.ndindex(*taps):
            place = tuple(
                p * stride + t * gap - before
                for p, t, stride, gap, (before, _) in zip(position, tap, strides, dilation, plan, strict=True)
            )
            if any(p < 0 or p >= size for p, size in zip(place, sizes, strict=True)):
                continue
            for group in range(groups):
                some = slice(group * filters // groups, (group + 1) * filters // groups)
                cells = x[(slice(None), *place, slice(group * inner, (group + 1) * inner))]
                out[(slice(None), *position, some)] += cells @ kernel[tap][:, some]
    return out


@st.composite
def _geometries(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    padding = draw(st.sampled_from(["valid", "same", *(["causal"] if rank == 1 else [])]))
    taps = [draw(st.integers(1, 4)) for _ in range(rank)]
    dilation = [draw(st.integers(1, 2)) for _ in range(rank)]
    sizes = [(tap - 1) * gap + 1 + draw(st.integers(0, 4)) for tap, gap in zip(taps, dilation, strict=True)]
    return {
        "rank": rank,
        "groups": groups,
        "padding": padding,
        "taps": taps,
        "dilation": dilation,
        "sizes": sizes,
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "inner": draw(st.integers(1, 6)),
        "filters": groups * draw(st.integers(1, 4)),
        "batch": draw(st.integers(1, 3)),
        "first": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**31)),
    }


@settings(max_examples=150, deadline=None)
@given(_geometries())
def test_convolution_is_its_definition(geometry: dict[str, Any]) -> None:
    g = geometry
    rng = np.random.default_rng(g["seed"])
    x = rng.normal(size=(g["batch"], *g["sizes"], g["inner"] * g["groups"]))
    kernel = rng.normal(size=(*g["taps"], g["inner"], g["filters"]))
    bias = rng.normal(size=g["filters"])
    operation = _layer(
        f"Conv{g['rank']}D",
        filters=g["filters"],
        kernel_size=g["taps"],
        strides=g["strides"],
        dilation_rate=g["dilation"],
        padding=g["padding"],
        groups=g["groups"],
        data_format="channels_first" if g["first"] else "channels_last",
    )
    wanted = _convolution(x, kernel, g["strides"], g["dilation"], g["padding"], g["groups"]) + bias
    given_x = np.moveaxis(x, -1, 1) if g["first"] else x
    got = operation({"kernel": kernel, "bias": bias}, given_x)
    assert operation.output_shape(given_x.shape) == got.shape
    np.testing.assert_allclose(np.moveaxis(got, 1, -1) if g["first"] else got, wanted, rtol=0, atol=1e-11)


@settings(max_examples=100, deadline=None)
@given(_geometries())
def test_transposed_convolution_is_the_gradient_of_a_convolution(geometry: dict[str, Any]) -> None:
    """<conv(x), y> = <x, transposed(y)>: where the sizes match, one is the other's transpose, whatever the dilation."""
    g = geometry
    assume(g["padding"] != "causal")
    rng = np.random.default_rng(g["seed"])
    y_sizes = g["sizes"]
    channels, filters = g["inner"], g["filters"]
    operation = _layer(
        f"Conv{g['rank']}DTranspose",
        filters=channels,
        kernel_size=g["taps"],
        strides=g["strides"],
        dilation_rate=g["dilation"],
        padding=g["padding"],
        use_bias=False,
    )
    kernel = rng.normal(size=(*g["taps"], channels, filters))
    y = rng.normal(size=(g["batch"], *y_sizes, filters))
    got = operation({"kernel": kernel}, y)
    assert got.shape == operation.output_shape(y.shape)
    x = rng.normal(size=got.shape)
    there = _convolution(x, kernel, g["strides"], g["dilation"], g["padding"], 1)
    # A convolution of what came out covers at least what went in; what it has beyond is made from nothing here.
    there = there[(slice(None), *(slice(0, size) for size in y_sizes))]
    if there.shape == y.shape:
        assert math.isclose(float((there * y).sum()), float((x * got).sum()), rel_tol=1e-9, abs_tol=1e-9)
    else:
        assert g["padding"] == "same"
        assert any(s > t for s, t in zip(g["strides"], g["taps"], strict=True))


@settings(max_examples=100, deadline=None)
@given(_geometries(), st.booleans())
def test_pooling_is_its_definition(geometry: dict[str, Any], maximum: bool) -> None:
    g = geometry
    assume(g["padding"] != "causal")
    rng = np.random.default_rng(g["seed"])
    sizes = [size + tap for size, tap in zip(g["sizes"], g["taps"], strict=True)]
    x = rng.normal(size=(g["batch"], *sizes, g["inner"]))
    operation = _layer(
        f"{'Max' if maximum else 'Average'}Pooling{g['rank']}D",
        pool_size=g["taps"],
        strides=g["strides"],
        padding=g["padding"],
    )
    got = operation({}, x)
    assert got.shape == operation.output_shape(x.shape)
    for position in np.ndindex(*got.shape[1:-1]):
        window = [slice(None)]
        for p, size, tap, stride in zip(position, sizes, g["taps"], g["strides"], strict=True):
            before = _same(size, tap, stride, 1)[0] if g["padding"] == "same" else 0
            window.append(slice(max(p * stride - before, 0), p * stride - before + tap))
        axes = tuple(range(1, g["rank"] + 1))
        cells = x[tuple(window)]
        wanted = cells.max(axis=axes) if maximum else cells.mean(axis=axes)
        np.testing.assert_allclose(got[(slice(None), *position)], wanted, rtol=0, atol=1e-12)


LINEAR = [
    ("Conv2D", {"filters": 4, "kernel_size": [3, 2], "padding": "same", "activation": "relu"}, (2, 7, 6, 5)),
    ("Conv2D", {"filters": 4, "kernel_size": [3, 2], "activation": "softmax"}, (2, 7, 6, 2)),
    ("DepthwiseConv2D", {"kernel_size": [3, 2], "depth_multiplier": 2, "activation": "tanh"}, (2, 7, 6, 5)),
    ("SeparableConv2D", {"filters": 4, "kernel_size": [3, 2], "activation": "relu"}, (2, 7, 6, 5)),
    ("Conv2DTranspose", {"filters": 4, "kernel_size": [3, 2], "strides": 2, "activation": "relu"}, (2, 7, 6, 5)),
    ("Dense", {"units": 4, "activation": "softmax"}, (2, 7, 5)),
    (
        "EinsumDense",
        {"equation": "abc,cd->abd", "output_shape": [None, 4], "bias_axes": "d", "activation": "relu"},
        (2, 7, 5),
    ),
]


def _weights_for(kind: str, config: dict[str, Any], shape: tuple[int, ...], rng: Any) -> dict[str, Any]:
    channels = shape[-1]
    taps = config.get("kernel_size", [])
    filters = config.get("filters", config.get("units", 4))
    multiplier = config.get("depth_multiplier", 1)
    shapes: dict[str, tuple[int, ...]] = {
        "Conv2D": (*taps, channels, filters),
        "DepthwiseConv2D": (*taps, channels, multiplier),
        "Conv2DTranspose": (*taps, filters, channels),
    }
    bias = channels * multiplier if kind == "DepthwiseConv2D" else filters
    if kind == "SeparableConv2D":
        kernels = {"depthwise_kernel": (*taps, channels, 1), "pointwise_kernel": (1, 1, channels, filters)}
    else:
        kernels = {"kernel": shapes.get(kind, (channels, filters))}
    return {name: rng.normal(size=size) for name, size in {**kernels, "bias": (bias,)}.items()}


@pytest.mark.parametrize(("kind", "config", "shape"), LINEAR, ids=lambda value: value if isinstance(value, str) else "")
def test_linear_part_is_linear_and_activation_is_the_rest(kind: str, config: Any, shape: Any) -> None:
    rng = np.random.default_rng(3)
    operation = _layer(kind, **config)
    assert isinstance(operation, LinearOperation)
    weights = _weights_for(kind, config, shape, rng)
    silent = {**weights, "bias": np.zeros_like(weights["bias"])}
    x, y = rng.normal(size=shape), rng.normal(size=shape)
    linear = operation.linear
    np.testing.assert_allclose(
        linear(silent, 2 * x + 3 * y), 2 * linear(silent, x) + 3 * linear(silent, y), rtol=0, atol=1e-11
    )
    spread = linear(weights, x) - linear(silent, x)
    np.testing.assert_allclose(spread, np.broadcast_to(weights["bias"], spread.shape), rtol=0, atol=1e-11)
    assert operation.activation is not None
    np.testing.assert_allclose(operation(weights, x), operation.activation(linear(weights, x)), rtol=0, atol=1e-12)
    # On squares it is a variance: never negative, and one where a single tap of one meets an input of one.
    squares = {name: np.square(value) for name, value in weights.items()}
    assert (linear(squares, np.square(x)) > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_is_never_lost(dtype: str) -> None:
    x = np.ones((1, 6, 7, 3), dtype)
    x[0, 2, 3, 1] = np.nan
    pooled = _layer("MaxPooling2D", pool_size=2, padding="same")({}, x)
    assert np.isnan(pooled[0, 1, 1, 1])
    assert np.isnan(pooled).sum() == 1
    assert np.isnan(_layer("AveragePooling2D", pool_size=2)({}, x)).sum() == 1
    assert np.isnan(_layer("GlobalMaxPooling2D")({}, x)).tolist() == [[False, True, False]]
    for config in ({}, {"max_value": 6}, {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5}, {"threshold": 1}):
        assert np.isnan(_layer("ReLU", **config)({}, x)).sum() == 1
    names = [
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "sigmoid",
        "tanh",
        "softplus",
        "mish",
    ]
    names += ["hard_sigmoid", "hard_silu", "hard_tanh", "hard_shrink", "soft_shrink", "squareplus", "softsign"]
    for name in names:
        with np.errstate(invalid="ignore"):
            assert np.isnan(_layer("Activation", activation=name)({}, x)).sum() == 1, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_keep_their_tails(dtype: str) -> None:
    x = np.array([-1e4, -90.0, -20.0, 0.0, 20.0, 90.0, 1e4], dtype)
    with np.errstate(all="raise", under="ignore"):
        sigmoid = _layer("Activation", activation="sigmoid")({}, x)
        softplus = _layer("Activation", activation="softplus")({}, x)
        softmax = _layer("Activation", activation="softmax")({}, x[None])
        _layer("Activation", activation="gelu")({}, x)
    small = math.exp(-20)
    np.testing.assert_allclose(sigmoid[[2, 3, 4]], [small / (1 + small), 0.5, 1 / (1 + small)], rtol=1e-6)
    np.testing.assert_allclose(softplus[[2, 3, 6]], [math.log1p(small), math.log(2), 1e4], rtol=1e-6)
    assert (sigmoid[0], sigmoid[-1], softmax[0, -1]) == (0, 1, 1)


def test_error_function_is_exact_to_rounding() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20_001), np.geomspace(1e-300, 1, 500)])
    wanted = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(erf(x), wanted, rtol=4e-16, atol=0)
    single = x.astype(np.float32)
    wanted = np.array([math.erf(float(value)) for value in single])
    np.testing.assert_allclose(erf(single), wanted, rtol=3e-7, atol=1e-45)
    np.testing.assert_array_equal(erf(np.array([np.inf, -np.inf, 0.0])), [1, -1, 0])
    assert np.isnan(erf(np.array([np.nan]))).all()


def test_threads_do_not_share_working_memory() -> None:
    rng = np.random.default_rng(1)
    operation = _layer("Conv2D", filters=16, kernel_size=3, padding="same", activation="relu")
    depth = _layer("DepthwiseConv2D", kernel_size=3, padding="same")
    cases = []
    for _ in range(4):
        x = rng.normal(size=(4, 29, 31, 12)).astype(np.float32)
        weights = {"kernel": rng.normal(size=(3, 3, 12, 16)).astype(np.float32), "bias": np.ones(16, np.float32)}
        deep = {"kernel": rng.normal(size=(3, 3, 16, 1)).astype(np.float32), "bias": np.ones(16, np.float32)}
        cases.append((x, weights, deep, depth(deep, operation(weights, x))))
    wrong: list[int] = []

    def work(number: int) -> None:
        x, weights, deep, wanted = cases[number]
        same = [np.array_equal(depth(deep, operation(weights, x)), wanted) for _ in range(15)]
        wrong.extend(number for agrees in same if not agrees)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_result_is_not_overwritten_by_the_next_call() -> None:
    rng = np.random.default_rng(2)
    for kind, config, shape in LINEAR:
        operation = _layer(kind, **config)
        weights = _weights_for(kind, config, shape, rng)
        first = operation(weights, rng.normal(size=shape))
        kept = first.copy()
        operation(weights, rng.normal(size=shape))
        np.testing.assert_array_equal(first, kept)


def test_images_of_a_batch_do_not_touch() -> None:
    """The blocks may span images: each image must give what it gives alone, bit for bit where the blocks are equal."""
    rng = np.random.default_rng(4)
    for kind, config, shape in LINEAR:
        operation = _layer(kind, **config)
        weights = _weights_for(kind, config, shape, rng)
        x = rng.normal(size=(7, *shape[1:]))
        together = operation(weights, x)
        alone = np.concatenate([operation(weights, x[i : i + 1]) for i in range(7)])
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "config", "weights"),
    [
        ("Conv2D", {"filters": 4, "kernel_size": 3}, {"kernel": (3, 2, 5, 4), "bias": (4,)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3}, {"kernel": (3, 3, 2, 4), "bias": (4,)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3}, {"kernel": (3, 3, 5, 4), "bias": (1,)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "groups": 5}, {"kernel": (3, 3, 5, 4), "bias": (4,)}),
        ("DepthwiseConv2D", {"kernel_size": 3}, {"kernel": (3, 3, 1, 5), "bias": (5,)}),
        ("Conv2DTranspose", {"filters": 4, "kernel_size": 3}, {"kernel": (3, 3, 5, 4), "bias": (4,)}),
        ("Dense", {"units": 4}, {"kernel": (5, 3), "bias": (4,)}),
        ("Dense", {"units": 4}, {"kernel": (5, 4), "bias": (1,)}),
        ("BatchNormalization", {"scale": False, "center": False}, {"moving_mean": (1,), "moving_variance": (1,)}),
    ],
)
def test_weights_of_another_layer_are_not_spread_over_this_one(kind: str, config: Any, weights: Any) -> None:
    given_weights = {name: np.ones(shape) for name, shape in weights.items()}
    with pytest.raises(ValueError):  # noqa: PT011 - NumPy's words differ; the executor says which layer it was
        _layer(kind, **config)(given_weights, np.ones((2, 7, 6, 5)))
