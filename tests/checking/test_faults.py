"""Every fault that the project promises to name, planted at several sizes, is found under its name.

The layers are square where that hides most: equal kernel sides, equal channel counts, equal height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlens.layout import Geometry
from cnnlens.network.weight import Weight
from cnnlens.reference.arithmetic.functions import Activation, parametric_activation
from cnnlens.reference.operation import LinearOperation
from tests.support.audited import Array, Audited, expect

CONVOLUTIONS: dict[str, Callable[[], Audited]] = {
    "square": lambda: Audited("Conv2D", (2, 9, 9, 8), filters=8, kernel_size=3, padding="same", activation="relu"),
    "wide": lambda: Audited("Conv2D", (2, 7, 8, 64), filters=64, kernel_size=5, activation="gelu"),
    "deep": lambda: Audited("Conv2D", (2, 7, 7, 160), filters=24, kernel_size=3, padding="same", positive=True),
    "grouped": lambda: Audited("Conv2D", (3, 10, 9, 12), filters=24, kernel_size=3, groups=4, padding="same"),
    "strided": lambda: Audited("Conv2D", (2, 14, 14, 6), filters=12, kernel_size=3, strides=2, padding="same"),
    "depthwise": lambda: Audited(
        "DepthwiseConv2D", (2, 11, 9, 6), kernel_size=3, depth_multiplier=2, padding="same", activation="relu6"
    ),
    "transposed": lambda: Audited("Conv2DTranspose", (2, 7, 6, 6), filters=9, kernel_size=3, strides=2, padding="same"),
    "first": lambda: Audited(
        "Conv2D", (2, 5, 9, 8), filters=7, kernel_size=3, data_format="channels_first", activation="tanh"
    ),
    "line": lambda: Audited("Conv1D", (3, 31, 5), filters=7, kernel_size=4, activation="sigmoid"),
    "volume": lambda: Audited("Conv3D", (2, 6, 5, 7, 4), filters=5, kernel_size=3, activation="silu"),
    "separable": lambda: Audited("SeparableConv2D", (2, 9, 8, 6), filters=7, kernel_size=3, activation="relu"),
}
DENSE: dict[str, Callable[[], Audited]] = {
    "dense": lambda: Audited("Dense", (32, 48), units=20, activation="relu"),
    "head": lambda: Audited("Dense", (40, 100), units=10, activation="softmax"),
    "square dense": lambda: Audited("Dense", (16, 30), units=30, activation="tanh"),
}
LINEAR = {**CONVOLUTIONS, **DENSE}


def kernel_of(layer: Audited) -> str:
    return next(name for name in ("pointwise_kernel", "kernel") if name in layer.weights)


def scaled(layer: Audited, channel: int, factor: float) -> Array:
    """The kernel with one output channel multiplied."""
    kernel = layer.weights[kernel_of(layer)].astype("float64")
    if "Transpose" in layer.kind:
        kernel[..., channel, :] *= factor
    elif "Depthwise" in layer.kind:
        kernel.reshape(*kernel.shape[:-2], -1)[..., channel] *= factor
    else:
        kernel[..., channel] *= factor
    return kernel.astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("factor", [1.0001, 0.9999, 1.001, 1.5])
def test_one_channel_scaled(name: str, factor: float) -> None:
    layer = LINEAR[name]()
    output = layer.run({kernel_of(layer): scaled(layer, 3, factor)})
    found = layer.check(output)
    assert found.verdict == "wrong", found
    assert found.worst_channel == 3 or name == "head"
    assert "channel 3" in found.explanation, found
    assert f"{factor:g} times" in found.explanation, found


@pytest.mark.slow
def test_one_channel_scaled_at_the_largest_fan_in() -> None:
    layer = Audited("Conv2D", (1, 14, 14, 512), filters=32, kernel_size=3, padding="same", activation="relu")
    found = layer.check(layer.run({"kernel": scaled(layer, 17, 1.0001)}))
    assert found.verdict == "wrong"
    assert found.worst_channel == 17
    assert "output channel 17: the kernel is 1.0001 times the file's" in found.explanation


def test_several_channels_scaled() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 6), filters=32, kernel_size=3)
    kernel = layer.weights["kernel"].copy()
    kernel[..., [4, 9, 30]] *= np.float32(1.0003)
    expect(layer, layer.run({"kernel": kernel}), "channels 4, 9 and 30", "1.0003 times")


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if name not in ("line", "separable")])
def test_height_and_width_swapped(name: str) -> None:
    layer = CONVOLUTIONS[name]()
    expect(layer, layer.run({"kernel": np.swapaxes(layer.weights["kernel"], 0, 1)}), "kernel are swapped")


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_kernel_flipped(name: str, axes: tuple[int, ...]) -> None:
    layer = CONVOLUTIONS[name]()
    role = "depthwise_kernel" if "Separable" in layer.kind else "kernel"
    rank = layer.weights[role].ndim - 2
    if max(axes) >= rank:
        axes = tuple(range(rank))
    output = layer.run({role: np.flip(layer.weights[role], axes)})
    said = [{1: "the length", 2: "height width", 3: "depth height width"}[rank].split()[-rank:][axis] for axis in axes]
    expect(layer, output, "the kernel is flipped along", *([] if rank == 1 else said))


@pytest.mark.parametrize("name", LINEAR)
def test_bias_dropped(name: str) -> None:
    layer = LINEAR[name]()
    expect(layer, layer.run({"bias": 0 * layer.weights["bias"]}), "the bias was dropped")


@pytest.mark.parametrize("name", ["square", "grouped", "dense"])
def test_bias_doubled_and_one_bias_wrong(name: str) -> None:
    layer = LINEAR[name]()
    expect(layer, layer.run({"bias": 2 * layer.weights["bias"]}), "the bias was added twice")
    bias = layer.weights["bias"].copy()
    bias[5] += 0.25
    expect(layer, layer.run({"bias": bias}), "bias of output channel 5 is", f"{bias[5]:.6g}")


@pytest.mark.parametrize("name", [name for name in LINEAR if "activation" in LINEAR[name]().config])
def test_activation_left_out_or_another(name: str) -> None:
    layer = LINEAR[name]()
    said = f"the activation {layer.config['activation']} was left out"
    expect(layer, layer.run(activation=None), said)
    other = "elu" if layer.config["activation"] != "elu" else "selu"
    expect(layer, layer.run(activation=other), "activation is elu")


@pytest.mark.parametrize(
    ("own", "other", "said"),
    [
        ("relu", {"class_name": "LeakyReLU", "config": {"negative_slope": 0.013}}, "slope below zero is 0.013"),
        (
            {"class_name": "LeakyReLU", "config": {"negative_slope": 0.3}},
            {"class_name": "LeakyReLU", "config": {"negative_slope": 0.2}},
            "slope below zero is 0.2 where the model says 0.3",
        ),
        ("relu6", "relu", "relu where the model says relu6"),
        ("silu", "gelu", "gelu where the model says silu"),
        ("sigmoid", "hard_sigmoid", "hard_sigmoid where the model says sigmoid"),
    ],
)
def test_another_activation(own: Any, other: Any, said: str) -> None:
    for layer in (
        Audited("Conv2D", (2, 9, 8, 6), filters=7, kernel_size=3, activation=own),
        Audited("Dense", (30, 48), units=20, activation=own),
    ):
        layer.inputs = [4 * layer.x]  # beyond six as well
        expect(layer, layer.run(activation=other), said)


@pytest.mark.parametrize(
    ("own", "formula", "said"),
    [
        ("gelu", parametric_activation("gelu", {"approximate": True}), "gelu approximated by tanh"),
        ("gelu", Activation("silu", lambda x, out: np.divide(x, 1 + np.exp(-1.702 * x), out=out)), "quick gelu"),
        ("softmax", None, "softmax was applied twice"),
    ],
)
def test_another_formula_of_the_same_activation(own: str, formula: Any, said: str) -> None:
    layer = Audited("Dense", (30, 48), units=20, activation=own)
    assert isinstance(layer.operation, LinearOperation)
    if formula is None:
        assert layer.operation.activation is not None
        output = layer.operation.activation.apply(layer.honest)
    else:
        output = formula.apply(layer.operation.linear(layer.weights, layer.x))
    expect(layer, output, said)


def test_hard_sigmoid_of_keras_2() -> None:
    layer = Audited("Activation", (3, 5, 4, 7), activation="hard_sigmoid")
    expect(layer, np.clip(0.2 * layer.x + np.float32(0.5), 0, 1), "hard_sigmoid of Keras 2")


@pytest.mark.parametrize("name", LINEAR)
def test_two_output_channels_exchanged(name: str) -> None:
    layer = LINEAR[name]()
    honest = layer.honest
    axis = 1 if layer.config.get("data_format") == "channels_first" else honest.ndim - 1
    order = np.arange(honest.shape[axis])
    order[[1, 4]] = 4, 1
    expect(layer, np.take(honest, order, axis), "output channels 1 and 4 are exchanged")


def test_output_channels_permuted() -> None:
    layer = CONVOLUTIONS["wide"]()
    expect(layer, layer.honest[..., ::-1], "output channels are in reverse order")
    expect(layer, np.roll(layer.honest, -5, -1), "rotated by 5")
    depthwise = CONVOLUTIONS["depthwise"]()
    y = depthwise.honest
    y = y.reshape(*y.shape[:-1], 6, 2).swapaxes(-1, -2).reshape(y.shape)
    expect(depthwise, y, "interleaved")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["square", "wide", "deep", "strided", "dense", "square dense"])
def test_input_channels_exchanged_or_scaled(name: str) -> None:
    layer = LINEAR[name]()
    order = np.arange(layer.x.shape[-1])
    order[[2, 5]] = 5, 2
    if layer.config.get("activation") in (None, "relu"):
        expect(layer, layer.run(x=layer.x[..., order]), "input channels 2 and 5 are exchanged")
        x = layer.x.copy()
        x[..., 4] *= np.float32(1.01)
        expect(layer, layer.run(x=x), "input channel 4 is multiplied by 1.01")
    expect(layer, layer.run(x=layer.x[..., ::-1]), "input's channels are in reverse order")


def test_blue_for_red() -> None:
    layer = Audited("Conv2D", (1, 32, 30, 3), filters=16, kernel_size=7, strides=2, padding="same", positive=True)
    expect(layer, layer.run(x=layer.x[..., ::-1]), "BGR for RGB")
    expect(layer, layer.run(x=layer.x[..., [1, 0, 2]]), "order (1, 0, 2)")
    expect(layer, layer.run(x=layer.x / 255), "divided by 255")


def test_one_weight_changed() -> None:
    layer = CONVOLUTIONS["square"]()
    kernel = layer.weights["kernel"].copy()
    kernel[1, 2, 3, 4] += 0.5
    expect(layer, layer.run({"kernel": kernel}), "kernel[1, 2, 3, 4] is", f"{kernel[1, 2, 3, 4]:.4f}")


def test_dense_transposed_and_untransposed() -> None:
    layer = DENSE["square dense"]()
    kernel = layer.weights["kernel"]
    expect(layer, layer.run({"kernel": kernel.T}), "input and output channels of the kernel are swapped")
    layer = CONVOLUTIONS["square"]()
    kernel = layer.weights["kernel"]
    mixed = kernel.transpose(3, 2, 0, 1).reshape(kernel.shape)
    expect(layer, layer.run({"kernel": mixed}), "stored in the order OIHW and read as HWIO")


def test_layer_left_out_and_turned() -> None:
    layer = CONVOLUTIONS["square"]()
    expect(layer, layer.x, "the layer was left out")
    expect(layer, layer.honest.swapaxes(1, 2), "height and the width of the output are swapped")
    expect(layer, layer.honest[:, ::-1], "flipped along the height")


def test_what_nothing_explains_is_described_not_named() -> None:
    layer = CONVOLUTIONS["strided"]()
    output = layer.honest
    output[1, :, -1, :] += layer.generator.normal(0, 1, output[1, :, -1, :].shape).astype("float32")
    found = layer.check(output)
    assert found.verdict == "wrong"
    assert "only in column 6 of 7" in found.explanation
    assert "one example" not in found.explanation or found.worst_position[0] == 1


def test_a_fault_hidden_in_tf32_is_still_named() -> None:
    from cnnlens.checking.noise.formats import TF32, to_format

    layer = Audited("Conv2D", (2, 12, 12, 64), filters=32, kernel_size=3, padding="same")
    kernel = layer.weights["kernel"].copy()
    x = to_format(layer.x.astype("float64"), TF32).astype("float32")
    assert layer.check(layer.run({"kernel": to_format(kernel.astype("float64"), TF32)}, x)).verdict == "tf32"
    kernel[..., 7] *= np.float32(1.001)
    kernel = to_format(kernel.astype("float64"), TF32)
    expect(layer, layer.run({"kernel": kernel}, x), "output channel 7", "1.001 times", "besides the rounding of tf32")


class InMemory:
    """A weight that is in no file."""

    stored_dtype, place = "float32", "memory"

    def __init__(self, array: Array) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self) -> Array:
        return self.array


@pytest.mark.parametrize("flat", [(4, 3, 5), (4, 4, 4), (1, 6, 7)])
def test_flatten_order(flat: tuple[int, int, int]) -> None:
    rows = int(np.prod(flat))
    layer = Audited("Dense", (40, rows), units=9, activation="relu")
    kernel = layer.weights["kernel"]
    layer.call.layer.stored = {"kernel": Weight("kernel", "Dense", "kernel", InMemory(kernel), Geometry(flatten=flat))}
    first = kernel.reshape(*flat, 9).transpose(2, 0, 1, 3).reshape(rows, 9)
    expect(layer, layer.run({"kernel": first}), "flatten order", "rows are channels first")
    x = layer.x.reshape(-1, *flat).transpose(0, 3, 1, 2).reshape(-1, rows)
    expect(layer, layer.run(x=x), "flatten order", "was flattened channels first")


@pytest.mark.parametrize("outputs", [1, 2])
def test_one_number_fitted_to_one_output_explains_nothing(outputs: int) -> None:
    layer = Audited("Dense", (outputs, 40), units=9)
    output = layer.honest
    output[:, 4] += np.linspace(0.07123, 0.09456, outputs, dtype=np.float32)
    found = layer.check(output)
    assert found.verdict == "wrong"
    assert found.cause == "unexplained"
    assert f"{outputs} wrong output{'s' * (outputs > 1)} cannot tell causes apart" in found.explanation


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(LINEAR)),
    st.integers(0, 1 << 30),
    st.sampled_from([1 + 1e-4, 1 - 1e-4, 1 + 1e-3, 1.01, 0.5]),
    st.integers(0, 4),
)
def test_a_scaled_channel_is_seen_in_any_layer(name: str, seed: int, factor: float, channel: int) -> None:
    made = LINEAR[name]()
    layer = Audited(made.kind, made.shapes[0], seed=seed, **made.config)
    if not np.any(np.take(layer.honest, channel, 1 if layer.call.channel_axis == 1 else -1)):
        return  # a dead channel
    output = layer.run({kernel_of(layer): scaled(layer, channel, factor)})
    found = layer.check(output, explained=False)
    assert found.verdict.fault, found
    assert found.worst_channel == channel or name == "head"


@pytest.mark.parametrize("factor", [6.0, -4.0])
def test_a_factor_far_away_in_front_of_an_exponential_is_found(factor: float) -> None:
    """A step from one towards it leads much too far, and is halved until it does not."""
    layer = Audited("Dense", (60, 12), units=5, activation="exponential")
    output = layer.run(weights={"kernel": layer.weights["kernel"] * np.float32(factor)})
    expect(layer, output, f"the kernel or the input is {factor:g} times")


def test_a_channel_whose_kernel_and_bias_are_scaled() -> None:
    layer = Audited("Dense", (40, 12), units=5, activation="tanh")
    kernel, bias = layer.weights["kernel"].copy(), layer.weights["bias"].copy()
    kernel[:, 2] *= np.float32(1.3)
    bias[2] *= np.float32(1.3)
    expect(layer, layer.run(weights={"kernel": kernel, "bias": bias}), "channel 2: kernel and bias are 1.3 times")


def test_an_operand_left_out_of_two_that_are_equal_is_either() -> None:
    layer = Audited("Add", [(3, 5), (3, 5)])
    layer.inputs[1] = layer.inputs[0].copy()
    said = layer.check(layer.inputs[0].copy()).explanation
    assert "cannot tell causes apart" in said
    assert "input 1 of 2 was left out, or input 2 of 2 was left out" in said
