"""What is honest must pass: equal terms, tails that are flushed, small and large numbers, positions of samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.checking import audit
from cnnlens.checking.noise.summation import rounded_alike
from cnnlens.files.keras.network import keras_network
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.network.network import Network
from cnnlens.reference.aten import translate
from cnnlens.testing import MemoryModel
from tests.support.audited import Audited, unexplained

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
    for lanes in (1, 4, 8, 16, 64):
        found = _on_lanes(x, lanes)
        rms = float(np.sqrt(np.mean(np.square((found - exact) / scale))))
        assert rms < 2.0 ** -min(20, 25 - 0.5 * np.log2(terms / 2)), (lanes, np.log2(rms))


def test_the_grid_of_the_smallest_part_is_looked_at() -> None:
    """64 lanes each hold a 64th of the whole. Of these terms what lanes lose adds up, and on no coarser grid does it:
    there one is rounded down by as much as the two others are rounded up."""
    x = np.tile(64 * 210 + np.array([0.75, -0.375, -0.375]), (16, 1 << 14))
    exact = x.sum(axis=-1)
    assert (np.frexp(exact / 64)[1] == 24).all()  # where the last bit of float32 is 1
    alike = np.asarray(rounded_alike(lambda terms: terms.sum(axis=-1), x, exact)) * 2.0**-20
    error = np.abs(_on_lanes(x, 64) - exact)
    assert (exact * 2.0 ** -(25 - 0.5 * np.log2(x.shape[1] / 2)) < error).all()  # more than a walk leaves
    assert (error < alike).all()


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
        assert layer.check(exact * np.float32(factor), explained=False).verdict.fault


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


# -- products that are equal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "shape", "config"), [
    ("Dense", (3, 1024), {"units": 7, "use_bias": False}),
    ("Conv2D", (2, 6, 5, 512), {"filters": 4, "kernel_size": 1, "use_bias": False}),
    ("DepthwiseConv2D", (2, 56, 57, 3), {"kernel_size": 56, "use_bias": False}),
])  # fmt: skip
def test_sums_of_equal_products_are_rounding(kind: str, shape: tuple[int, ...], config: dict[str, Any]) -> None:
    """A kernel of one number over a map of another: every product is the same, and a running sum drifts."""
    layer = Audited(kind, shape, **config)
    name = next(iter(layer.weights))
    layer.weights[name] = np.full_like(layer.weights[name], 0.03)
    layer.inputs = [np.full_like(layer.x, 0.7)]
    terms = {"Dense": 1024, "Conv2D": 512, "DepthwiseConv2D": 56 * 56}[kind]
    drifted = _running(np.full(terms, np.float32(0.03) * np.float32(0.7), np.float32))
    output = np.full_like(layer.honest, drifted)
    found = layer.check(output)
    assert found.verdict == "float32", found
    assert layer.check(output * np.float32(1.01), explained=False).verdict.fault


@pytest.mark.framework
@pytest.mark.parametrize("which", ["attention", "product", "norm", "root mean square"])
def test_what_looks_at_one_value_many_times(which: str) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    share = torch.full((5, 700), 1 / 700)

    class Looks(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            if which == "attention":
                return functional.scaled_dot_product_attention(x, x, x)
            if which == "product":
                return torch.matmul(share, x)
            if which == "norm":
                return torch.linalg.vector_norm(x, dim=(1, 2)), functional.normalize(x, dim=1)
            return functional.rms_norm(x, x.shape[1:])

    sizes = (2, 700, 16) if which in ("attention", "product") else (2, 200, 300)
    tokens = np.random.default_rng(0).normal(size=(2, 1, sizes[2])) if len(sizes) == 3 and sizes[1] == 700 else 0.3
    x = np.broadcast_to(tokens, sizes).astype(np.float32)
    result = cnnlens.check(Looks().eval(), x, example=torch.zeros(sizes))
    assert result.could_check
    assert result.agree, str(result)


# -- numbers that float32 has, and not what is made of them on the way -----------------------------------------------


@pytest.mark.parametrize(("kind", "shape", "size", "config"), [
    ("GlobalAveragePooling2D", (2, 40, 41, 3), 1e36, {}),
    pytest.param("LayerNormalization", (2, 5, 4096), 2e18, {}, marks=pytest.mark.slow),
    ("RMSNormalization", (2, 5, 4096), 2e18, {}),
    pytest.param("GroupNormalization", (2, 40, 41, 6), 1e18, {"groups": 2}, marks=pytest.mark.slow),
    ("Activation", (2, 60), 1e24, {"activation": "squareplus"}),
    ("Dense", (2, 60), 1e24, {"units": 7, "activation": "squareplus"}),
])  # fmt: skip
def test_what_overflows_on_the_way_may_be_infinite(
    kind: str, shape: tuple[int, ...], size: float, config: dict[str, Any]
) -> None:
    layer = Audited(kind, shape, positive=True, **config)
    layer.inputs[0][1] *= np.float32(size)
    output = layer.honest.copy()
    output[1] = np.inf
    found = layer.check(output)
    assert found.verdict in ("exact", "float32"), found
    assert "NaN or infinite" in found.explanation
    output[0, 1] = np.inf
    assert layer.check(output).verdict == "wrong"


def test_a_product_of_three_may_be_lost_on_the_way() -> None:
    layer = Audited("Multiply", [(2, 7)] * 3)
    large, small = np.float32(1e30), np.float32(1e-30)
    layer.inputs = [np.array([[large], [small]], np.float32) * layer.x] * 2 + [1 / layer.x]
    layer.inputs[2] *= np.array([[small], [large]], np.float32)
    exact = np.prod(np.array(layer.inputs, np.float64), axis=0)
    lost = layer.honest
    assert np.isinf(lost[0]).all()
    assert not lost[1].any()
    assert layer.check(lost).verdict == "not audited"
    assert layer.check(exact.astype(np.float32)).verdict in ("exact", "not audited")


def test_a_gate_of_terms_beyond_float32() -> None:
    """3e38 - 3e38 is infinite in one order and 0 in another, so that a sigmoid of it may be 0, a half or 1."""
    layer = Audited("Dense", (2, 6), units=4, use_bias=False, activation="sigmoid")
    layer.inputs[0][1] = 3e38
    layer.weights["kernel"] = np.array([2, 2, 2, -2, -2, -2], np.float32)[:, None] * np.ones((1, 4), np.float32)
    output = layer.honest.copy()
    for odd in (0.5, 1.0, 0.0, np.nan):
        output[1] = odd
        assert not layer.check(output).verdict.fault
    output[0, 1] = 0.123
    assert layer.check(output).verdict.fault


def test_a_masked_logarithm_of_a_softmax() -> None:
    layer = Audited("Activation", (5, 30), activation="log_softmax")
    layer.inputs[0][:, 7] = -np.inf
    honest = layer.honest
    assert np.isneginf(honest[:, 7]).all()
    assert not layer.check(honest).verdict.fault
    wrong = honest.copy()
    wrong[:, 3] *= np.float32(1.0001)
    assert layer.check(wrong, explained=False).verdict.fault


@pytest.mark.framework
def test_a_nan_in_what_is_resized() -> None:
    """JAX multiplies whole rows and columns with weights that are mostly 0, and 0 times NaN is NaN."""
    image = [None, 8, 6, 5]
    entries = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": image, "name": "image"}},
        _layer("Resizing", "resize", height=11, width=13, interpolation="bilinear", data_format="channels_last"),
    ]
    x = np.random.default_rng(0).normal(size=(3, 5, 8, 6)).astype(np.float32)
    x[1, 2, 3, 4] = np.nan
    result = cnnlens.check(_network(entries), x, backends=KERAS, allow_nonfinite=True)
    assert result.could_check
    assert result.agree, str(result)


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
    assert layer.check(layer.honest * np.float32(1.0001), explained=False).verdict.fault


# -- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.framework
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_positions_of_samples_beside_one_bright_pixel(mode: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.zeros((2, 3, 20, 24), np.float32)
    x[0, 1, 7, 17] = x[1, 2, 13, 5] = 1
    module = torch.nn.Upsample(size=(9, 11), mode=mode).eval()
    assert cnnlens.check(module, x, example=torch.zeros(2, 3, 20, 24)).agree


@pytest.mark.parametrize("kind", ["GroupNormalization", "LayerNormalization"])
def test_a_norm_of_a_map_with_many_zeros(kind: str) -> None:
    """Behind a ReLU most numbers are zeros: their squared deviations are equal, and a running sum rounds alike."""
    groups = kind == "GroupNormalization"
    config: dict[str, Any] = {"groups": -1} if groups else {"axis": [1, 2]}
    axes, gains = (1, 2), (1, 1, 1, 7) if groups else (1, 59, 60, 1)
    for seed in range(4):
        layer = Audited(kind, (2, 59, 60, 7), seed, epsilon=1e-5, **config)
        layer.weights = {name: np.full(7 if groups else (59, 60), 0.7, np.float32) for name in ("gamma", "beta")}
        x = layer.inputs[0] = np.maximum(layer.x - 1, 0)
        mean = x.mean(axes, keepdims=True, dtype=np.float64).astype(np.float32)
        squares = np.square(x - mean).reshape(2, -1, 7)
        variance = np.add.accumulate(squares, axis=1, dtype=np.float32)[:, -1].reshape(2, 1, 1, 7) / np.float32(3540)
        factor = 1 / np.sqrt(variance + np.float32(1e-5)) * np.float32(0.7)
        output = ((x - mean) * factor + np.full(gains, 0.7, np.float32)).astype(np.float32)
        assert not layer.check(output).verdict.fault, seed


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


@pytest.mark.parametrize("masked", [False, True])
def test_attention_to_equal_tokens(masked: bool) -> None:
    """Its shares are equal and its values too, so that a running sum of a thousand rounds each time by the same."""
    shape, seen = (2, 3, 1500, 5), 1400 if masked else 1500
    arguments: dict[str, Any] = {name: {"tensor": place} for place, name in enumerate(("query", "key", "value"))}
    random = np.random.default_rng(3)
    token = np.broadcast_to(random.random((2, 3, 1, 5)), shape).astype(np.float32)
    args: list[Any] = [token[:, :, :4], token, token]
    if masked:
        arguments["attn_mask"] = {"tensor": 3}
        args.append(np.arange(1500) < seen)
    shapes = [one.shape for one in args]
    operation = translate("aten.scaled_dot_product_attention.default", arguments, {}, shapes).operation
    layer = Layer("looks", "scaled_dot_product_attention", {}, make_operation=lambda: operation)
    call = Call("looks", layer, tuple(Ref(f"x{place}") for place in range(len(args))), {}, (None,), 1)
    total = np.add.accumulate(token[:, :, :seen], axis=2, dtype=np.float32)[:, :, -1:] / np.float32(seen)
    output = np.repeat(total, 4, axis=2)
    assert audit(call, {}, args, {}, output).verdict in ("exact", "float32")
    with unexplained():
        assert audit(call, {}, args, {}, output * np.float32(1.003)).verdict.fault


# -- what the atlas met: subnormal numbers, windows, NaN beside what is large ------------------------------------------

_TINY = np.float32(2.0**-126)


def _flushed(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < _TINY, np.float32(0), x)


@pytest.mark.parametrize(
    ("kind", "shape", "config"),
    [
        ("MaxPooling2D", (3, 6, 8, 5), {"pool_size": 2}),
        ("ReLU", (3, 7, 5), {}),
        ("Masking", (3, 6, 5), {}),
        ("LayerNormalization", (3, 4, 5), {"epsilon": 1e-6, "center": False}),
        ("UnitNormalization", (3, 4, 5), {}),
    ],
)
def test_a_library_may_take_subnormal_numbers_for_zero(kind: str, shape: tuple[int, ...], config: Any) -> None:
    layer = Audited(kind, shape, **config)
    layer.inputs = [layer.x.copy()]
    layer.x[1] *= _TINY / 8
    given = layer.run(x=_flushed(layer.x))
    assert not np.array_equal(given, layer.honest)
    found = layer.check(given)
    assert (found.verdict, "float16" in found.explanation) == ("float32", False), found
    assert layer.check(given + np.float32(1)).verdict == "wrong", "numbers that are none of both are seen"


@pytest.mark.parametrize("method", ["lanczos3", "lanczos5"])
def test_weights_of_a_window_that_cancel_leave_their_rounding(method: str) -> None:
    layer = Audited("UpSampling2D", (2, 9, 11, 3), size=(2, 3), interpolation=method)
    layer.inputs = [np.zeros_like(layer.x)]
    layer.x[0, 4, 5, 1] = 1
    given = layer.run()
    given[0, 4:14, 9:24, 1] += np.float32(1.5e-8)  # as far as float32's weights are off where they should add up to 0
    assert layer.check(given).verdict == "float32"
    assert layer.check(given + np.float32(1e-3)).verdict == "wrong"


def test_a_nan_beside_large_numbers_does_not_hide_that_they_are_lost() -> None:
    layer = Audited("Activation", (3, 7), activation="sparsemax")
    layer.inputs = [layer.x.copy()]
    layer.x[1] *= np.float32(1e15)  # beside which float32 has no 1
    layer.x[2, 3] = np.nan
    assert layer.check(layer.honest).verdict == "float32"


def test_attention_over_infinite_scores_is_no_number() -> None:
    from cnnlens.reference.keras.attention import attend

    query, value = np.ones((1, 2, 1)), np.array([[[1.0], [2.0], [3.0]]])
    key = np.array([[[0.0], [-np.inf], [np.inf]]])
    with np.errstate(all="ignore"):
        assert np.isnan(attend(query, key, value, 1.0)[0]).all()
        assert np.isnan(attend(query, key[:, 1:2], value[:, :1], 1.0)[0]).all()
        masked = attend(query, key[:, :1], value[:, :1], 1.0, masks=[np.zeros((1, 2, 1), np.bool_)])[0]
    assert not masked.any(), "what may look at nothing gives zeros"


@pytest.mark.slow
def test_gates_beside_an_infinity_keep_the_noise_of_the_others() -> None:
    for seed in range(6):
        layer = Audited("GRU", (3, 7, 5), seed, units=3, reset_after=True)
        layer.inputs = [layer.x.copy()]
        layer.x[1, 2, 3] = -np.inf
        assert layer.check(layer.honest).verdict == "float32"
        assert layer.check(layer.honest + np.float32(1e-3)).verdict == "wrong"
