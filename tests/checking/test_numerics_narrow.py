"""A narrower arithmetic is told by its own name, by simulation and under PyTorch; no faulty channel hides behind it.

TF32, bfloat16 and float16 are made by rounding operands and results; PyTorch on the CPU gives real float32 and halves.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnlens.checking import audit
from cnnlens.checking.auditing import audit_recording
from cnnlens.checking.finding import Verdict
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, TF32, Format, Rounding, to_format
from cnnlens.checking.noise.prediction import FLOOR
from cnnlens.checking.verdict import as_asked
from cnnlens.files.keras.network import keras_network
from cnnlens.reference.operation import LinearOperation
from cnnlens.testing.networks import Entry, MemoryModel, conv_entry, functional, input_entry, layer_entry, tensor
from tests.support import SUPPORT
from tests.support.audited import Array, Audited
from tests.support.numerics_frameworks import CASES, FORMATS, POOLING
from tests.support.once import Files

# --- narrower arithmetic ---------------------------------------------------------------------------------------------


def rounded(x: Array, wanted: Format, rounding: Rounding = "even") -> Array:
    return to_format(np.asarray(x, "float64"), wanted, rounding).astype("float32")


NARROW = {
    "small": lambda: Audited("Conv2D", (2, 11, 9, 3), filters=8, kernel_size=3, activation="relu"),
    "same": lambda: Audited("Conv2D", (2, 14, 13, 64), filters=48, kernel_size=3, padding="same", activation="relu"),
    "deep": lambda: Audited("Conv2D", (1, 9, 9, 512), filters=32, kernel_size=3, activation="silu"),
    "point": lambda: Audited(
        "Conv2D", (2, 14, 12, 256), filters=64, kernel_size=1, activation="sigmoid", positive=True
    ),
    "grouped": lambda: Audited("Conv2D", (2, 14, 12, 24), filters=36, kernel_size=3, groups=3, activation="tanh"),
    "depthwise": lambda: Audited("DepthwiseConv2D", (3, 14, 12, 24), kernel_size=3, padding="same"),
    "separable": lambda: Audited("SeparableConv2D", (3, 14, 12, 24), filters=36, kernel_size=3),
    "transposed": lambda: Audited("Conv2DTranspose", (2, 9, 8, 32), filters=12, kernel_size=3, strides=2),
    "dense": lambda: Audited("Dense", (64, 500), units=40, activation="gelu"),
    "head": lambda: Audited("Dense", (64, 500), units=40, activation="softmax"),
}


def narrow(layer: Audited, wanted: Format, rounding: Rounding) -> Array:
    """The layer with its operands rounded and float32 sums; between a separable layer's halves too."""
    kernels = {name: rounded(a, wanted, rounding) for name, a in layer.weights.items() if "kernel" in name}
    x = rounded(layer.x, wanted, rounding)
    if "pointwise_kernel" not in kernels:
        return layer.run(kernels, x)
    first = Audited("DepthwiseConv2D", layer.shapes[0], kernel_size=3, use_bias=False)
    middle = rounded(first.run({"kernel": kernels["depthwise_kernel"]}, x), wanted, rounding)
    second = Audited("Conv2D", middle.shape, filters=layer.config["filters"], kernel_size=1)
    return second.run({"kernel": kernels["pointwise_kernel"], "bias": layer.weights["bias"]}, middle)


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("rounding", ["even", "away", "down"])
def test_tf32(name: str, rounding: Rounding) -> None:
    layer = NARROW[name]()
    output = narrow(layer, TF32, rounding)
    found = layer.check(output)
    assert found.verdict == "tf32", found
    assert 10 < found.bits < 14
    assert "strict" in found.explanation
    assert layer.check(output, strict=False).explanation == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("wanted", [BFLOAT16, FLOAT16], ids=lambda one: one.name)
@pytest.mark.parametrize("steps", ["fused", "apart"])
def test_half_precision(name: str, wanted: Format, steps: str) -> None:
    layer = NARROW[name]()
    weights = {key: rounded(a, wanted) for key, a in layer.weights.items()}
    if steps == "fused" or name == "separable":
        output = rounded(
            narrow(layer, wanted, "even") if name == "separable" else layer.run(weights, rounded(layer.x, wanted)),
            wanted,
        )
    else:
        operation = layer.operation
        assert isinstance(operation, LinearOperation)
        silent = {**weights, "bias": 0 * weights["bias"]}
        output = rounded(operation.linear(silent, rounded(layer.x, wanted)), wanted) + weights["bias"]
        output = rounded(output, wanted)
        if operation.activation is not None:
            output = rounded(operation.activation.apply(output), wanted)
    found = layer.check(output)
    assert found.verdict == wanted.name, found


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NARROW if name != "small"])
@pytest.mark.parametrize("wanted", [TF32, BFLOAT16, FLOAT16], ids=lambda one: one.name)
def test_a_faulty_channel_does_not_hide_in_a_narrower_format(name: str, wanted: Format) -> None:
    layer = NARROW[name]()
    output = narrow(layer, wanted, "even")
    factor = 1.003 if name == "head" else 1.001
    output[..., 5] *= np.float32(factor)
    if wanted is not TF32:
        output = rounded(output, wanted)
    assert layer.check(output, explained=False).verdict.fault


@pytest.mark.parametrize("wanted", [BFLOAT16, FLOAT16], ids=lambda one: one.name)
@pytest.mark.parametrize(
    "make",
    [
        lambda: Audited("BatchNormalization", (3, 9, 8, 12)),
        lambda: Audited("LayerNormalization", (3, 20, 24)),
        lambda: Audited("AveragePooling2D", (3, 9, 8, 12), pool_size=3),
        lambda: Audited("GlobalAveragePooling2D", (30, 9, 8, 12)),
        lambda: Audited("Add", [(3, 9, 8, 12), (3, 9, 8, 12)]),
        lambda: Audited("Activation", (3, 9, 8, 12), activation="tanh"),
        lambda: Audited("MaxPooling2D", (3, 9, 8, 12), pool_size=2),
    ],
)
def test_other_layers_in_half_precision(make: Callable[[], Audited], wanted: Format) -> None:
    layer = make()
    plain = layer.check(rounded(layer.honest, wanted))
    assert plain.verdict == wanted.name, plain
    layer.inputs, exact = [rounded(x, wanted) for x in layer.inputs], layer.inputs
    output = rounded(layer.honest, wanted)
    layer.inputs = exact
    found = layer.check(output)
    assert found.verdict == wanted.name, found


def test_formats_that_outputs_cannot_tell_apart_are_the_one_that_was_asked_for() -> None:
    """Below float16's normal numbers few bits are left, which bfloat16 has too: a factor of 0.9995 is lost in both."""
    layer = Audited("BatchNormalization", (5, 7, 6, 3), epsilon=1e-3)
    layer.weights.update({name: np.full(3, name in ("gamma", "moving_variance"), "float32") for name in layer.weights})
    x = (layer.generator.integers(1, 60, (5, 7, 6, 3)) * 2.0**-24).astype("float32")
    layer.inputs = [x]
    found = layer.check(x)
    assert "computed in bfloat16 or float16 (these cannot be told apart here)" in found.explanation
    for name in ("bfloat16", "float16"):
        asked = as_asked(audit(layer.call, layer.weights, layer.args, {}, x, False), name)
        assert (asked.verdict, asked.explanation) == (name, "")


def test_formats_that_outputs_cannot_tell_apart_are_the_one_that_other_layers_are_in() -> None:
    def fed(entry: Entry, name: str) -> Entry:
        return {**entry, "inbound_nodes": [{"args": [tensor(name)], "kwargs": {}}]}

    layers = [
        input_entry("photo", 11, 9, 3),
        input_entry("tiny", 7, 6, 3),
        fed(conv_entry("Conv2D", "conv", (3, 2), filters=5, use_bias=False), "photo"),
        fed(layer_entry("BatchNormalization", "norm", axis=-1, epsilon=1e-3, center=True, scale=True), "tiny"),
    ]
    config = functional("two", layers, ["photo", "tiny"], [["conv", 0, 0], ["norm", 0, 0]])
    random = np.random.default_rng(3)
    ones, zeros = np.ones(3, "float32"), np.zeros(3, "float32")
    network = keras_network(MemoryModel(config, {
        ("conv",): {"kernel": rounded(random.normal(0, 0.3, (3, 2, 3, 5)), FLOAT16)},
        ("norm",): {"gamma": ones, "beta": zeros, "moving_mean": zeros, "moving_variance": ones},
    }))  # fmt: skip
    photo = rounded(random.normal(0, 1, (5, 3, 11, 9)), FLOAT16)
    tiny = (random.integers(1, 60, (5, 3, 7, 6)) * 2.0**-24).astype("float32")
    conv = network.run({"photo": photo, "tiny": tiny}, ["conv"], dtype="float64")["conv"]

    class Recorded(dict[str, Array]):
        info, count = {"precision": "native"}, 5

        def altered(self, name: str) -> str | None:
            return None

    run = Recorded(photo=photo, tiny=tiny, conv=rounded(conv, FLOAT16), norm=tiny)
    assert {name: one.verdict for name, one in audit_recording(network, run)} == {"conv": "float16", "norm": "float16"}


def test_rounding_that_crosses_a_jump_is_said_to_explain_it() -> None:
    """It was said to be off by up to 0, unexplained, besides the rounding that had explained all."""
    layer = Audited("Dense", (60, 48), units=17, activation="hard_shrink", seed=3)
    weights = {role: rounded(array, FLOAT16).astype("float64") for role, array in layer.weights.items()}
    output = rounded(layer.operation(weights, rounded(layer.x, FLOAT16).astype("float64")), FLOAT16)
    found = layer.check(output, strict=False)
    assert found.verdict is Verdict.SUSPICIOUS
    text = "the rounding of float16 would explain it, or a fault: 5.8 effective bits are fewer than it has"
    assert found.explanation == text


def test_zeros_alone_tell_nothing_of_float16() -> None:
    layer = Audited("DepthwiseConv2D", (5, 7, 6, 3), kernel_size=(3, 2), use_bias=False)
    layer.inputs = [(layer.generator.integers(0, 2, (5, 7, 6, 3)) * 2.0**-24).astype("float32")]
    layer.weights["kernel"] = layer.weights["kernel"] * np.float32(1e-3)
    found = layer.check(np.zeros_like(layer.run()))
    assert found.verdict is Verdict.SUSPICIOUS
    assert (
        found.explanation
        == "all outputs are 0, as float16 would make numbers so small, or a fault: zeros may have any cause"
    )
    assert (as_asked(found, "float16").verdict, as_asked(found, "float16").reason) == ("not audited", found.explanation)
    assert as_asked(found, "bfloat16").verdict is Verdict.SUSPICIOUS


def test_float16_that_overflows_is_named() -> None:
    layer = Audited("Dense", (20, 64), units=10)
    layer.weights["kernel"] *= 60000
    with np.errstate(over="ignore"):
        output = to_format(layer.honest.astype("float64"), FLOAT16).astype("float32")
    assert np.isinf(output).any()
    found = layer.check(output)
    assert found.verdict == "wrong"
    assert "float16" in found.explanation
    assert "overflow" in found.explanation


# --- a fault under a narrower arithmetic ----------------------------------------------------------------------------


MADE: dict[str, Callable[[], Audited]] = {
    "dense": lambda: Audited("Dense", (40, 64), units=12),
    "convolution": lambda: Audited("Conv2D", (40, 9, 8, 5), filters=7, kernel_size=3),
    "activation": lambda: Audited("Conv2D", (40, 9, 8, 5), filters=7, kernel_size=3, activation="gelu"),
    "head": lambda: Audited("Dense", (40, 600), units=50, activation="softmax"),
    "one": lambda: Audited("Dense", (400, 30), units=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [BFLOAT16, FLOAT16, TF32], ids=lambda wanted: wanted.name)
@pytest.mark.parametrize("name", MADE)
def test_a_fault_is_found_beside_the_rounding_of_a_format(name: str, wanted: Format) -> None:
    """One output of thousands, one input of forty, and what the audit itself says that it sees of one channel."""
    layer = MADE[name]()

    def stored(y: Array) -> Array:
        return rounded(y, wanted) if wanted is not TF32 else y.astype("float32")

    if wanted is TF32:
        output = narrow(layer, TF32, "away").astype("float64")
    else:
        weights = {role: rounded(array, wanted).astype("float64") for role, array in layer.weights.items()}
        output = np.asarray(layer.operation(weights, rounded(layer.x, wanted).astype("float64")))
    found = layer.check(stored(output), strict=False)
    assert found.verdict == wanted.name, found
    assert 2.0**-20 < found.sees < 2.0**-5
    size = np.abs(output).mean()
    places = np.argwhere(np.abs(output) > size)  # of softmax's outputs most are next to nothing
    for place in places[:: max(len(places) // 5, 1)]:
        wrong = output.copy()
        wrong[tuple(place)] *= 1.3
        assert layer.check(stored(wrong), strict=False, explained=False).verdict.fault, place
    for factor in (1.03, 0.97):
        wrong = output.copy()
        wrong[3] *= factor
        assert layer.check(stored(wrong), strict=False, explained=False).verdict.fault or name == "one", factor
    for channel in range(output.shape[-1])[::4]:
        for sign in (1, -1):
            wrong = output.copy()
            wrong[..., channel] *= 1 + sign * found.sees
            assert layer.check(stored(wrong), strict=False, explained=False).verdict.fault, (channel, found.sees)


Step = Callable[[Array], Array]


def _summed(x: Array, r: Step) -> Array:
    """A sum as Eigen has it in bfloat16: halves of halves, each sum rounded."""
    while x.shape[-1] > 1:
        even = x[..., : x.shape[-1] // 2 * 2]
        x = np.concatenate([r(even[..., ::2] + even[..., 1::2]), x[..., even.shape[-1] :]], axis=-1)
    return x


def _exp(x: Array, r: Step) -> Array:
    return r(np.exp(r(x - x.max(-1, keepdims=True))))


def _expm1(x: Array, r: Step) -> Array:
    return r(r(np.exp(np.minimum(x, 0))) - 1)


# As TensorFlow, or Keras on top of it, writes them; ``r`` rounds each step.
STEPWISE: dict[str, Callable[[Array, Step], Array]] = {
    "gelu": lambda x, r: r(r(0.5 * x) * r(1 + r(_erf(r(x / r(np.array(2**0.5))))))),
    "silu": lambda x, r: r(x * r(1 / r(1 + r(np.exp(-x))))),
    "selu": lambda x, r: r(r(np.array(1.0507)) * np.where(x > 0, x, r(r(np.array(1.67326)) * _expm1(x, r)))),
    "leaky_relu": lambda x, r: np.where(x > 0, x, r(r(np.array(0.2)) * x)),
    "hard_silu": lambda x, r: r(x * r(np.clip(r(x + 3), 0, 6) * r(np.array(1 / 6)))),
    "softplus": lambda x, r: np.where(x > 2.852, x, r(np.log1p(r(np.exp(x))))),
    "tanh_shrink": lambda x, r: r(x - r(np.tanh(x))),
    "softmax": lambda x, r: r(_exp(x, r) * r(1 / _summed(_exp(x, r), r))),
    "log_softmax": lambda x, r: r(r(x - x.max(-1, keepdims=True)) - r(np.log(_summed(_exp(x, r), r)))),
}  # fmt: skip


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


@pytest.mark.parametrize("product", ["down", "even"])
@pytest.mark.parametrize("activation", STEPWISE)
def test_an_activation_may_be_rounded_step_by_step(activation: str, product: Rounding) -> None:
    """TensorFlow does so in bfloat16 on processors without AVX-512, where it cuts the product before."""
    layer = Audited("Dense", (60, 8), units=17, activation=activation)
    weights = {role: rounded(array, BFLOAT16).astype("float64") for role, array in layer.weights.items()}
    plain = to_format(rounded(layer.x, BFLOAT16).astype("float64") @ weights["kernel"], BFLOAT16, product)

    def stored(y: Array) -> Array:
        return to_format(y, BFLOAT16)

    output = STEPWISE[activation](stored(plain + weights["bias"]), stored)
    found = layer.check(output.astype("float32"), strict=False)
    assert found.verdict == "bfloat16", found
    assert 0 < found.sees < 0.06
    for channel in (0, 5, 16):
        wrong = output.copy()
        wrong[:, channel] *= 1 + 1.5 * found.sees
        assert layer.check(stored(wrong).astype("float32"), strict=False, explained=False).verdict.fault


@pytest.mark.parametrize("name", ["dense", "convolution", "head"])
def test_a_factor_that_all_outputs_share_is_no_rounding_of_operands(name: str) -> None:
    layer = MADE[name]()
    output = narrow(layer, TF32, "away").astype("float64")
    assert layer.check((output * (1 + 4e-5)).astype("float32"), strict=False, explained=False).verdict.fault


def test_a_mean_that_is_always_rounded_down_is_no_bfloat16() -> None:
    layer = Audited("AveragePooling2D", (3, 8, 6, 4), pool_size=2, strides=2)
    layer.inputs = [np.random.default_rng(0).integers(0, 256, (3, 8, 6, 4)).astype(np.float32)]
    assert layer.check(np.floor(layer.honest), strict=False, explained=False).verdict.fault


# --- a real framework ------------------------------------------------------------------------------------------------


def framework_layer(name: str) -> Audited:
    kind, shape, config = POOLING if name == "pooling" else CASES[name]
    return Audited(kind, shape, seed=len(name), **config)


def _compute(folder: Path) -> None:
    for name in (*CASES, "pooling"):
        layer = framework_layer(name)
        np.savez(folder / f"{name}.npz", x=layer.x, **layer.weights)
    script = SUPPORT / "numerics_frameworks.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def torch_results(framework_files: Files) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("keras")
    return framework_files("numerics-torch", _compute)


@pytest.mark.parametrize("name", CASES)
def test_torch_float32(torch_results: Path, name: str) -> None:
    layer = framework_layer(name)
    found = layer.check(np.load(torch_results / f"{name}.float32.npy"))
    assert found.verdict in ("exact", "float32"), found
    assert found.bits >= FLOOR


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("wanted", FORMATS[1:])
def test_torch_in_half_precision(torch_results: Path, name: str, wanted: str) -> None:
    layer = framework_layer(name)
    found = layer.check(np.load(torch_results / f"{name}.{wanted}.npy"))
    assert found.verdict == wanted, found


def test_keras_average_pooling_under_torch(torch_results: Path) -> None:
    """Keras 3.15.1 repeats the edge where padding is asymmetric; later versions may not (keras-team/keras#23233)."""
    layer = framework_layer("pooling")
    found = layer.check(np.load(torch_results / "pooling.npy"))
    if found.verdict in ("exact", "float32"):
        version = (torch_results / "keras.txt").read_text()
        assert tuple(int(part) for part in version.split(".")[:3]) > (3, 15, 1)
        return
    assert found.verdict == "wrong"
    assert "repeats the edge" in found.explanation
