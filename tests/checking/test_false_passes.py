"""What must not pass: garbage beyond a format's range, faults where nobody looked, trials that chance explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from cnnlens.checking.auditing import audit_recording, audited_inputs
from cnnlens.checking.evidence import Block
from cnnlens.checking.noise.case import Case
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, TF32, to_format
from cnnlens.checking.noise.prediction import Prediction, errors, ratios
from cnnlens.checking.verdict import audit_blocks
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.testing import MemoryModel, inputs_for, network
from tests.support.audited import Audited

Array = np.ndarray[Any, Any]
PASSES = ("exact", "float32", "tf32", "float16", "bfloat16")


# -- numbers on one side alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "low", "high", "expected"),
    [
        (1.0, np.inf, np.inf, np.inf),  # an overflow explains no number
        (1.0, np.nan, np.nan, np.inf),
        (np.inf, 2.0, 3.0, np.inf),
        (np.nan, np.inf, np.inf, np.nan),  # which kind of no number it is has been asked before
        (-np.inf, np.inf, np.inf, np.nan),
        (1.0, -np.inf, np.inf, np.inf),
        (np.nan, np.nan, np.nan, np.nan),  # nothing to measure
        (np.inf, 1e39, 1e40, np.nan),  # float32 has no such number
        (-np.inf, -1e40, -1e39, np.nan),
        (np.inf, 2e38, 2e38, np.inf),  # this one it has
        (-np.inf, 1e39, 1e40, np.inf),
        (65504.0, 65472.0, np.inf, 0.0),  # either is honest at the end of a range
        (np.inf, 65472.0, np.inf, 0.0),
    ],
)
def test_a_prediction_without_a_number_explains_no_number(
    output: float, low: float, high: float, expected: float
) -> None:
    layer = Audited("Activation", (1, 1), activation="tanh")
    given = np.array([[output]], np.float32)
    case = Case.of(layer.call.layer, -1, {}, (layer.x,), {}, given)
    one, two = np.array([[low]]), np.array([[high]])
    found = errors(case, Prediction(one, one if low == high or low != low else two, np.ones((1, 1))))
    np.testing.assert_array_equal(found, [[expected]])
    if np.isinf(expected):
        assert ratios(found, np.full((1, 1), np.inf), 1) == 16


Fault = Callable[[Array, np.random.Generator], Array]

FAULTS: dict[str, Fault] = {
    "garbage": lambda y, random: random.normal(size=y.shape) * np.abs(y).max(),
    "zeros": lambda y, random: np.zeros_like(y),
    "reversed channels": lambda y, random: y[..., ::-1],
    "moved": lambda y, random: np.roll(y, 1, axis=1),
    "halved": lambda y, random: y / 2,
    "one channel": lambda y, random: y * np.where(np.arange(y.shape[-1]) == 1, 1.5, 1),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("size", [1e5, 1e8, 1e30])
@pytest.mark.parametrize(
    "kind", ["Conv2D", "Dense", "DepthwiseConv2D", "BatchNormalization", "AveragePooling2D", "tanh"]
)
def test_values_beyond_float16_make_nothing_float16(kind: str, size: float, fault: str, strict: bool) -> None:
    made: Mapping[str, tuple[str, dict[str, Any]]] = {
        "Conv2D": ("Conv2D", {"filters": 5, "kernel_size": 3}),
        "Dense": ("Dense", {"units": 6}),
        "DepthwiseConv2D": ("DepthwiseConv2D", {"kernel_size": 3}),
        "BatchNormalization": ("BatchNormalization", {}),
        "AveragePooling2D": ("AveragePooling2D", {"pool_size": 2, "strides": 2}),
        "tanh": ("Activation", {"activation": "softplus"}),
    }
    name, config = made[kind]
    layer = Audited(name, (3, 7) if name == "Dense" else (3, 8, 6, 4), **config)
    layer.inputs = [(layer.x * np.float32(size)).astype(np.float32)]
    wrong = FAULTS[fault](layer.honest.astype(np.float64), np.random.default_rng(3)).astype(np.float32)
    found = layer.check(wrong, strict=strict, explained=False)
    assert found.verdict.fault, found
    assert layer.check(layer.honest, strict=strict).verdict in ("exact", "float32")


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softsign"])
def test_a_scale_without_a_number_excuses_nothing(activation: str) -> None:
    """sigmoid(inf) is 1, whatever noise an infinite operand may be said to have."""
    layer = Audited("Activation", (2, 40), activation=activation)
    layer.inputs = [np.where(np.arange(80).reshape(2, 40) % 2 == 0, np.inf, layer.x).astype(np.float32)]
    honest = np.where(np.isinf(layer.x), 1, layer.run()).astype(np.float32)
    wrong = np.where(np.isinf(layer.x), 0.3, honest).astype(np.float32)
    assert layer.check(wrong, explained=False).verdict.fault


# -- the bits that a format has --------------------------------------------------------------------------------------


def test_a_narrow_verdict_has_the_bits_of_its_format() -> None:
    """Float16 below its normal numbers keeps two bits of eleven: that it was float16 makes it no better."""
    layer = Audited("Conv2D", (4, 9, 8, 3), filters=5, kernel_size=3, use_bias=False)
    layer.inputs = [layer.x * np.float32(1e-7)]
    narrow = {name: to_format(array.astype(np.float64), FLOAT16) for name, array in layer.weights.items()}
    x = to_format(layer.x.astype(np.float64), FLOAT16)
    output = to_format(np.asarray(layer.operation(narrow, x)), FLOAT16).astype(np.float32)
    found = layer.check(output, strict=False)
    assert found.verdict == "wrong"
    assert found.cause == "underflow"
    assert "float16" in found.explanation
    assert "6.1e-05" in found.explanation


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("half", [FLOAT16, BFLOAT16], ids=lambda half: half.name)
def test_a_format_is_found_where_it_was_the_arithmetic(half: Any, strict: bool) -> None:
    layer = Audited("Conv2D", (4, 9, 8, 3), filters=5, kernel_size=3)
    narrow = {name: to_format(array.astype(np.float64), half) for name, array in layer.weights.items()}
    y = to_format(np.asarray(layer.operation(narrow, to_format(layer.x.astype(np.float64), half))), half)
    assert layer.check(y.astype(np.float32), strict=strict).verdict == half.name


# -- too few outputs to tell -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("examples", [1, 2])
@pytest.mark.parametrize("factor", [1.001, 1.004, 0.9995])
def test_a_head_of_one_output_off_by_a_factor_is_no_narrow_arithmetic(factor: float, examples: int) -> None:
    """A dozen arithmetics are tried, and one number is near to what one of them gives by chance: one in five was."""
    for seed in range(60):
        layer = Audited("Dense", (examples, 33), seed, units=1)
        found = layer.check(layer.honest * np.float32(factor), strict=False, explained=False)
        assert found.verdict.fault, (seed, found)


@pytest.mark.slow
def test_what_two_arithmetics_and_a_fault_explain_is_said() -> None:
    texts: list[str] = []
    for seed in range(60):
        layer = Audited("Dense", (1, 33), seed, units=1)
        texts.append(layer.check(layer.honest * np.float32(1.004), strict=False).explanation)
    assert any("too few to tell" in text for text in texts), texts


# -- every input is looked at ----------------------------------------------------------------------------------------


class Held:
    """A recording in memory."""

    def __init__(self, arrays: Mapping[str, Array], count: int, precision: str = "strict") -> None:
        self._arrays, self.count = arrays, count
        self.info: dict[str, Any] = {"precision": precision}
        self.read: set[int] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> Any:
        return _Tensor(self._arrays[name], self.read)

    def altered(self, name: str) -> str | None:
        return None


class _Tensor:
    def __init__(self, array: Array, read: set[int]) -> None:
        self._array, self._read, self.shape = array, read, array.shape

    def __getitem__(self, index: Any) -> Array:
        self._read.update(np.arange(len(self._array))[index].reshape(-1).tolist())
        return self._array[index]


def _recorded(net: Network, count: int) -> dict[str, Array]:
    inputs = {ref.name: array for ref, array in zip(net.inputs, inputs_for(net, count), strict=True)}
    found = net.run(inputs, dict.fromkeys(net.tensors))
    return {**{name: np.asarray(array, np.float32) for name, array in found.items()}, **inputs}


@pytest.mark.parametrize("name", ["chain", "branches", "signal", "volume"])
@pytest.mark.parametrize("hit", [0, 3, 8])
def test_a_fault_in_one_input_of_nine_is_found_and_said(name: str, hit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlens.checking.auditing._BLOCK", 900)  # some inputs of these small maps at a time
    net = network(name)
    arrays = _recorded(net, 9)
    assert all(not audit.verdict.fault for _, audit in audit_recording(net, Held(arrays, 9)))
    layer = next(call for call in net.calls if call.layer.kind.startswith("Conv")).name
    arrays[layer] = arrays[layer].copy()
    arrays[layer][hit] *= 3
    found = dict(audit_recording(net, Held(arrays, 9)))[layer]
    assert found.verdict == "wrong"
    assert found.worst_position[0] == hit
    assert found.explanation.endswith(f"in input {hit} of 9 alone"), found


def test_a_fault_in_all_inputs_is_laid_to_none() -> None:
    net = network("chain")
    arrays = _recorded(net, 9)
    arrays["first"] = arrays["first"] * np.float32(1.0001)
    assert "alone" not in dict(audit_recording(net, Held(arrays, 9)))["first"].explanation


def test_a_sample_is_spread_over_all_inputs() -> None:
    net = network("chain")
    recording = Held(_recorded(net, 9), 9)
    found = dict(audit_recording(net, recording, 3))
    assert recording.read == {0, 4, 8}
    assert all(not audit.verdict.fault for audit in found.values())
    assert audited_inputs(9, None).tolist() == audited_inputs(9, 20).tolist() == list(range(9))
    assert audited_inputs(1000, 4).tolist() == [0, 333, 666, 999]


def test_a_position_in_a_sample_is_that_of_the_recording() -> None:
    net = network("chain")
    arrays = _recorded(net, 9)
    arrays["first"] = arrays["first"].copy()
    arrays["first"][4] *= 3
    assert dict(audit_recording(net, Held(arrays, 9), 3))["first"].worst_position[0] == 4


def test_rows_of_a_recording_are_computed_on_the_axis_that_the_model_has_them_on() -> None:
    """A recording has a row an input in front; between two transpositions the model has the inputs along axis 1."""
    entries: list[dict[str, Any]] = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 6], "name": "x"}}
    ]
    shape: list[int | None] = [None, 6]
    for kind, name, config in (
        ("Transpose", "turned", {"axes": [1, 0]}),
        ("Softmax", "shares", {"axis": 0}),
        ("Transpose", "back", {"axes": [1, 0]}),
    ):
        tensor = {"shape": list(shape), "dtype": "float32", "keras_history": [entries[-1]["config"]["name"], 0, 0]}
        argument = {"class_name": "__keras_tensor__", "config": tensor}
        module = "keras.src.ops.numpy" if kind == "Transpose" else "keras.layers"
        entry = {"module": module, "class_name": kind, "config": {"name": name, **config}}
        entries.append({**entry, "inbound_nodes": [{"args": [argument], "kwargs": {}}]})
        shape = shape[::-1] if kind == "Transpose" else shape
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["back", 0, 0]]}
    config = {"class_name": "Functional", "config": {"name": "m", "layers": entries, **ends}}
    net = keras_network(MemoryModel(config, {}))  # type: ignore[arg-type]
    x = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    shares = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    found = dict(audit_recording(net, Held({"x": x, "turned": x, "shares": shares, "back": shares}, 9)))
    assert {name: str(audit.verdict.value) for name, audit in found.items()} == {
        "turned": "exact", "shares": "float32", "back": "exact",
    }  # fmt: skip


def test_blocks_and_the_whole_come_to_the_same() -> None:
    layer = Audited("Conv2D", (7, 6, 5, 2), filters=4, kernel_size=2)
    output = layer.honest
    output[5, 1, 2, 3] += 2

    def blocks() -> Any:
        return [Block(first, (layer.x[first : first + 2],), {}, output[first : first + 2]) for first in range(0, 7, 2)]

    whole, pieces = layer.check(output), audit_blocks(layer.call, layer.weights, blocks)
    assert whole.worst_position == pieces.worst_position == (5, 3, 1, 2)
    assert whole.verdict == pieces.verdict
    assert (whole.bits, whole.channel_bits) == pytest.approx((pieces.bits, pieces.channel_bits))


# -- small numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0001, 1.001, 1.01])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-8, 1e-20])
@pytest.mark.parametrize("activation", ["elu", "selu", "celu"])
def test_positive_numbers_are_handed_on_as_they_are(activation: str, size: float, factor: float) -> None:
    layer = Audited("Activation", (2, 9, 7, 8), activation=activation)
    layer.inputs = [np.abs(layer.x) * np.float32(size)]
    assert layer.check(layer.honest, strict=False).verdict in ("exact", "float32")
    assert layer.check(layer.honest * np.float32(factor), strict=False, explained=False).verdict not in PASSES


# -- nothing to compare ----------------------------------------------------------------------------------------------


def test_a_layer_that_overflowed_everywhere_was_not_audited() -> None:
    layer = Audited("Dense", (4, 5), units=3, positive=True)
    layer.inputs = [np.full((4, 5), 3e38, np.float32)]
    layer.weights["kernel"] = np.full((5, 3), 9.0, np.float32)
    found = layer.check(np.full((4, 3), np.inf, np.float32))
    assert found.verdict == "not audited"
    assert "infinite everywhere" in found.reason
    assert "12 numbers" in found.reason


def test_what_overflowed_in_part_is_said() -> None:
    layer = Audited("Dense", (4, 5), units=3, positive=True)
    layer.inputs[0][1] = 3e38
    layer.weights["kernel"] = np.abs(layer.weights["kernel"]) + np.float32(5)
    found = layer.check(layer.honest)
    assert found.verdict in ("exact", "float32")
    assert found.explanation.startswith("3 of 12 outputs are NaN or infinite")


# -- what can be seen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", [1, 3, 17])
@pytest.mark.parametrize(
    ("kind", "shape", "config"),
    [
        pytest.param("Dense", (1664,), {"units": 90, "activation": "softmax"}, marks=pytest.mark.slow),
        ("Dense", (40,), {"units": 7}),
        ("Conv2D", (9, 8, 5), {"filters": 6, "kernel_size": 3, "activation": "relu"}),
        ("BatchNormalization", (6, 5, 7), {}),
        ("AveragePooling2D", (6, 8, 3), {"pool_size": 2, "strides": 2}),
    ],
)
def test_what_an_audit_says_it_would_have_seen_it_sees(
    kind: str, shape: tuple[int, ...], config: dict[str, Any], examples: int
) -> None:
    layer = Audited(kind, (examples, *shape), **config)
    honest = layer.honest
    sees = layer.check(honest).sees
    assert 0 < sees < 0.1
    for channel in range(honest.shape[-1])[:: -(-honest.shape[-1] // 9)]:
        for sign in (1, -1):
            output = honest.astype(np.float64)
            output[..., channel] *= 1 + sign * sees
            assert layer.check(output.astype(np.float32), explained=False).verdict.fault, (channel, sign, sees)


@pytest.mark.slow
def test_a_column_of_a_large_softmax_is_seen_beside_the_others() -> None:
    """Alone, 1.0001 of small logits is within the floor of a sum of 1,664 terms; a thousand columns say it is not."""
    layer = Audited("Dense", (1, 1664), units=1000, activation="softmax")
    layer.weights["kernel"] *= np.float32(0.3)
    layer.weights["bias"] *= np.float32(0.01)
    honest = layer.honest
    for channel in range(0, 1000, 199):
        wrong = honest.copy()
        wrong[0, channel] *= np.float32(1 + 2.0**-18.2)
        found = layer.check(wrong, explained=False)
        assert found.worst_channel == channel
        assert found.verdict.fault
    assert not layer.check(honest).verdict.fault


def test_a_sum_of_terms_beyond_float32_may_be_anything_that_is_no_number() -> None:
    """3e38 - 3e38 + 3e38 is infinite or NaN in one order and finite in another; a number must still be right."""
    layer = Audited("Dense", (2, 6), units=4, use_bias=False)
    layer.inputs = [np.full((2, 6), 3e38, np.float32)]
    layer.inputs[0][1] = 1.5
    layer.weights["kernel"] = np.sign(layer.weights["kernel"]) * np.float32(2)
    honest = layer.honest
    for odd in (np.inf, -np.inf, np.nan):
        output = honest.copy()
        output[0] = odd
        assert not layer.check(output).verdict.fault
        output[1, 2] = odd
        assert layer.check(output).verdict == "wrong"
    output = honest.copy()
    output[1, 0] *= np.float32(1.01)
    assert layer.check(output, explained=False).verdict.fault


@pytest.mark.parametrize("kind", ["LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization"])
def test_squares_beyond_float32_are_said(kind: str) -> None:
    """Numbers of 1e20 have squares that float32 has not: a norm of those is zero or NaN, and rightly so."""
    config: dict[str, Any] = {"groups": 2} if kind.startswith("Group") else {}
    layer = Audited(kind, (3, 5, 4, 6), **config)
    layer.inputs[0][1] *= np.float32(1e21)
    output = layer.honest
    output[1] = np.nan
    found = layer.check(output)
    assert found.verdict == "float32", found
    assert "120 of 360 outputs" in found.explanation
    output[2, 1, 2, 3] = np.nan
    assert layer.check(output).verdict == "wrong"


# -- what each part of the judgement is for --------------------------------------------------------------------------


def test_one_output_of_many_is_enough() -> None:
    """Beside 20,000 right outputs one is lost in every mean; it is the worst output's own condition that sees it."""
    layer = Audited("Conv2D", (4, 34, 34, 3), filters=5, kernel_size=3)
    honest = layer.honest
    size = float(np.abs(honest).mean())
    assert not layer.check(honest).verdict.fault
    output = honest.copy()
    output[2, 11, 7, 3] += np.float32(size * 2.0**-12)
    found = layer.check(output, explained=False)
    assert found.verdict.fault
    assert found.worst_position == (2, 3, 11, 7)
    assert found.channel_bits > 18


def test_a_factor_that_every_output_has_is_found_below_the_floor() -> None:
    """2^-18 is less than the rounding that Winograd's algorithm may leave; that all outputs share it gives it away."""
    layer = Audited("Conv2D", (4, 20, 18, 32), filters=8, kernel_size=3, use_bias=False)
    found = layer.check((layer.honest.astype(np.float64) * (1 + 2.0**-18)).astype(np.float32), explained=False)
    assert found.verdict.fault
    assert found.bits > 18.25


def test_a_channel_of_noise_is_gross_whatever_the_layer_has() -> None:
    layer = Audited("Dense", (64, 30), units=512)
    output = layer.honest.astype(np.float64)
    output[:, 77] += np.random.default_rng(4).normal(size=64) * np.abs(output[:, 77]).mean() * 2.0**-7
    found = layer.check(output.astype(np.float32))
    assert found.bits > 10.5
    assert found.channel_bits < 10
    assert (found.verdict, found.worst_channel) == ("wrong", 77)


@pytest.mark.parametrize("rounding", ["even", "away", "down"])
@pytest.mark.parametrize("name", ["TF32", "FLOAT16", "BFLOAT16"])
def test_formats_round_as_exact_fractions_do(name: str, rounding: Any) -> None:
    """Held against whole numbers of Python's, which round nothing: each number between two of a format's neighbours."""
    wanted = {"TF32": TF32, "FLOAT16": FLOAT16, "BFLOAT16": BFLOAT16}[name]
    step = Fraction(1, 2**wanted.mantissa)
    for place in range(5):
        for eighths in range(8):
            exact = 1 + (place + Fraction(eighths, 8)) * step
            low = 1 + place * step
            up = {"even": eighths > 4 or (eighths == 4 and place % 2), "away": eighths >= 4, "down": False}[rounding]
            for sign in (1, -1):
                found = to_format(np.array([sign * float(exact)]), wanted, rounding)[0]
                assert found == sign * float(low + (step if up else 0)), (place, eighths)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_is_no_narrow_mean(value: float) -> None:
    """It is one of bfloat16's numbers, and far within what equal terms may lose; no trial of bfloat16 gives it."""
    layer = Audited("GlobalAveragePooling2D", (2, 112, 112, 3))
    layer.inputs = [np.full((2, 112, 112, 3), 0.7, np.float32)]
    assert layer.check(np.full((2, 3), value, np.float32), strict=False, explained=False).verdict.fault


def test_a_rescaling_by_another_number_is_no_narrow_arithmetic() -> None:
    """x / 256 has nine bits of x / 255 and of x / 254, and is one of bfloat16's numbers. In bfloat16 1 / 255 is
    1 / 256, and Keras computes that; 1 / 254 is not."""
    images = np.random.default_rng(1).integers(0, 256, (2, 9, 8, 3)).astype(np.float32)
    for divisor, right in ((255, True), (254, False)):
        layer = Audited("Rescaling", (2, 9, 8, 3), scale=1 / divisor, offset=0.0)
        layer.inputs = [images]
        found = layer.check(images / np.float32(256), strict=False, explained=False).verdict
        assert (found == "bfloat16", found.fault) == (right, not right)
