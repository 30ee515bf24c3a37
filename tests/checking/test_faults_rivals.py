"""A sentence is said only where it is ahead of its rivals: too few numbers, NaN and equal rivals are told as such."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnlens.checking import Audit, audit
from cnnlens.checking.evidence import Block
from cnnlens.checking.faults import fits, geometry, merging, normalization
from cnnlens.checking.faults.explanation import _possible, _Search
from cnnlens.checking.faults.problem import FITTED, Hypothesis, Problem, mapped, moved
from cnnlens.checking.finding import Cause
from cnnlens.checking.noise.arithmetic import EXACT
from cnnlens.checking.noise.case import Array, Case
from cnnlens.checking.noise.prediction import Prediction, floor_of, predict, terms_of
from cnnlens.checking.noise.tally import Tally
from cnnlens.checking.verdict import audit_blocks
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.reference import build
from tests.support.audited import Audited, expect
from tests.support.planted import LAYERS, RECURRENT, Planting, faults_of, judged, planted_layer, visible


def problem_of(layer: Audited, output: Array) -> Problem:
    case = Case.of(layer.call.layer, -1, layer.weights, layer.args, {}, output)
    tally = Tally(terms_of(case))
    tally.add(case, predict(case))
    return Problem(case, EXACT, tally, floor_of(case))


def planted(layer: Audited, name: str) -> Audit:
    """The audit of one of the planted faults."""
    fault = next(one for one in faults_of(layer.kind) if one.name == name)
    output = fault.make(Planting(layer, run_of(layer), layer.honest))
    assert output is not None
    return layer.check(np.ascontiguousarray(output, np.float32))


def run_of(layer: Audited) -> Any:
    def run(weights: Any = None, inputs: Any = None, **changed: Any) -> Array:
        operation = layer.build(**changed) if changed else layer.operation
        given = list(layer.inputs if inputs is None else inputs)
        with np.errstate(all="ignore"):
            return np.array(operation({**layer.weights, **(weights or {})}, *((given,) if layer.listed else given)))

    return run


# --- what is not finite ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "factor"), [("gamma", 1.7), ("moving_variance", 1.3), ("beta", 3.0), ("moving_mean", 0.5)]
)
def test_a_nan_among_the_inputs_makes_no_hypothesis_true(role: str, factor: float) -> None:
    layer = Audited("BatchNormalization", (4, 8, 9, 6))
    x = layer.x.copy()
    x[0, 0, 0, :] = np.nan
    layer.inputs = [x]
    each = factor * np.linspace(0.5, 2, 6, dtype=np.float32)
    found = layer.check(layer.run({role: layer.weights[role] * each}))
    assert found.verdict == "wrong"
    assert "training" not in found.explanation
    assert role.replace("_", " ") in found.explanation, found


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_where_the_recording_is_explains_nothing(value: float) -> None:
    layer = Audited("Conv2D", (2, 7, 8, 3), filters=5, kernel_size=3)
    output = layer.honest * np.float32(1.5)
    problem = problem_of(layer, output)
    right = Hypothesis("right", view=moved(lambda y: y * 1.5))
    assert problem.trial(right) is not None

    def broken(y: Array) -> Array:
        y = y * 1.5
        y[0, 0, 0, 0] = value
        return y

    assert problem.trial(Hypothesis("nearly right", view=moved(broken))) is None

    def blind(made: Prediction) -> Prediction:  # near enough for a quick look, and excused by a noise without end
        low = made.low * 1.5001
        return Prediction(low, low, np.full_like(low, value))

    weights = {**layer.weights, "kernel": np.full_like(layer.weights["kernel"], value)}
    with np.errstate(all="ignore"):
        assert problem.trial(Hypothesis("anything goes", view=blind)) is None
        assert problem.trial(Hypothesis("nothing", lambda case: replace(case, weights=weights))) is None


def test_nan_in_one_channel_is_no_other_channel() -> None:
    layer = Audited("Conv2D", (2, 7, 8, 3), filters=5, kernel_size=3)
    layer.weights["bias"][3] = np.nan
    output = layer.honest
    output[..., 1] = output[..., 1] * np.float32(1.25)
    found = layer.check(output)
    assert "exchanged" not in found.explanation
    assert "repeats" not in found.explanation
    assert "1.25 times" in found.explanation


# --- too few numbers, and equal rivals -------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.001, 1.003, 1.5])
@pytest.mark.parametrize("what", ["kernel", "outputs"])
def test_one_output_names_no_factor(factor: float, what: str) -> None:
    layer = Audited("Dense", (1, 40), units=1)
    scaled = {"kernel": (layer.weights["kernel"] * factor).astype(np.float32)}
    found = layer.check(layer.run(scaled) if what == "kernel" else layer.honest * np.float32(factor))
    assert found.verdict.fault
    if found.cause is Cause.UNEXPLAINED:
        assert "cannot tell causes apart" in found.explanation or "too few to tell them apart" in found.explanation
    else:  # half as much again is round enough to be no chance
        assert "times what it should be" in found.explanation


def test_as_many_unknowns_as_outputs_explain_nothing() -> None:
    layer = Audited("BatchNormalization", (1, 1, 1, 7))
    output = layer.honest + np.linspace(0.1, 0.7, 7, dtype=np.float32) ** 2
    found = layer.check(output)
    assert found.cause is Cause.UNEXPLAINED
    assert "7 wrong outputs cannot tell causes apart" in found.explanation
    dense = Audited("Dense", (3, 20), units=6)
    output = dense.honest
    output[:, 2] += np.array([0.1, -0.24, 0.37], np.float32)  # no line, no shift
    assert dense.check(output).cause is Cause.UNEXPLAINED


def test_equal_rivals_are_told_together() -> None:
    layer = Audited("Dense", (30, 12), units=5, use_bias=False)
    found = layer.check(layer.honest * np.float32(1.001))
    assert found.cause is Cause.FACTORS
    assert "the kernel or the input is 1.001 times what it should be, or outputs are 1.001" in found.explanation
    assert found.explanation.endswith("these cannot be told apart here")
    add = Audited("Multiply", [(3, 5, 6, 4)] * 2)
    found = add.check(add.honest * np.float32(1.5))
    for said in ("input 1 of 2 is 1.5 times", "input 2 of 2 is 1.5 times", "outputs are 1.5 times"):
        assert said in found.explanation


def test_gamma_is_not_called_variance() -> None:
    layer = Audited("BatchNormalization", (3, 6, 7, 5))
    gamma, variance = layer.weights["gamma"], layer.weights["moving_variance"]
    found = layer.check(layer.run({"gamma": gamma * np.float32(1.02)}))
    assert found.explanation == "the scale gamma is 1.02 times the file's"
    found = layer.check(layer.run({"moving_variance": variance * np.float32(1.25)}))
    assert found.explanation.startswith("the moving variance is 1.25 times the file's")
    changed = gamma.copy()
    changed[2] *= np.float32(1.2345)
    found = layer.check(layer.run({"gamma": changed}))
    assert "the scale gamma of output channel 2" in found.explanation
    assert "the moving variance of output channel 2" in found.explanation  # one channel alone cannot tell


def test_several_channels_are_not_called_one() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 6), filters=32, kernel_size=3)
    kernel = layer.weights["kernel"].copy()
    kernel[..., 4] *= np.float32(1.5)
    kernel[..., 9] *= np.float32(1.0001)
    found = layer.check(layer.run({"kernel": kernel}))
    assert "channels 4 and 9" in found.explanation, found
    output = layer.honest
    noise = layer.generator.normal(0, 0.1, output[..., 4].shape).astype(np.float32)
    output[..., 4] += noise
    output[..., 9] += noise * np.float32(0.01)
    found = layer.check(output)
    assert "only in channels 4 and 9" in found.explanation, found


# --- bounds that no test held ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LayerNormalization", "GroupNormalization"])
def test_a_variance_of_n_less_one_is_named_and_one_of_n_and_one_is_not(kind: str) -> None:
    layer = Audited(kind, (5, 3, 4, 6), **({"groups": 2} if kind.startswith("Group") else {}))
    count = 6 if kind.startswith("Layer") else 36
    for ratio, named in ((count / (count - 1), True), ((count + 1) / count, False)):
        gamma = (layer.weights["gamma"] / np.sqrt(ratio)).astype(np.float32)
        found = layer.check(layer.run({"gamma": gamma}, epsilon=1e-3 / ratio))
        assert ("divided by n - 1" in found.explanation) is named, found


def test_which_way_a_window_is_shifted() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 3), filters=5, kernel_size=3, padding="same")
    for before, after, way in ((2, 0, "front"), (0, 2, "back")):
        padded = np.pad(layer.x, ((0, 0), (before, after), (1, 1), (0, 0)))
        found = layer.check(layer.run(x=padded, padding="valid"))
        assert found.explanation == (
            f"the window is shifted along the height by 1 (towards the {way}): "
            f"padding {before}+{after}, 1+1 where the model's is 1+1, 1+1"
        )


@pytest.mark.parametrize("left", [0.05, 0.001])
def test_a_bias_that_is_nearly_gone_was_not_dropped(left: float) -> None:
    layer = Audited("Conv2D", (2, 9, 8, 3), filters=12, kernel_size=3)
    bias = layer.weights["bias"].copy()
    bias[5] *= np.float32(left)
    found = layer.check(layer.run({"bias": bias}))
    assert "dropped" not in found.explanation
    assert f"the bias of output channel 5 is {left:g} times the file's" in found.explanation
    bias[5] = 0
    expect(layer, layer.run({"bias": bias}), "the bias of output channel 5 was dropped")


def test_channels_that_are_nearly_exchanged_are_not_called_so() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 3), filters=6, kernel_size=3, use_bias=False)
    layer.weights["kernel"][..., 4] = layer.weights["kernel"][..., 1] * np.float32(1.01)
    output = layer.honest
    output[..., [0, 2]] = output[..., [2, 0]] * np.float32(1.003)
    found = layer.check(output)
    assert "exchanged" not in found.explanation, found
    output = layer.honest
    output[..., [1, 4]] = output[..., [4, 1]]
    assert "output channels 1 and 4 are exchanged" in layer.check(output).explanation


# --- what has a name -------------------------------------------------------------------------------------------------


NAMED: list[tuple[str, Any, dict[str, Any], str, str]] = [
    ("Conv2D", (2, 11, 12, 3), {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "padding": "same"},
     "no dilation", "the dilation is left out where the model says 2"),
    ("Conv2D", (2, 11, 12, 3), {"filters": 5, "kernel_size": 3}, "clipped", "the outputs are clipped above at "),
    ("Conv2D", (2, 12, 13, 3), {"filters": 5, "kernel_size": 3}, "only the border",
     "only within 2 rows and columns of the border"),
    ("UpSampling2D", (2, 5, 6, 3), {"size": 2}, "up-sampling off by one",
     "samples are off by one output position along the height and the width, towards the back"),
    ("Add", [(3, 5, 6, 4)] * 2, {}, "second input times 0.5", "input 2 of 2 is 0.5 times what it should be"),
    ("Maximum", [(3, 5, 6, 4)] * 2, {}, "first input times 1.01", "input 1 of 2 is 1.01 times what it should be"),
    ("Dense", (30, 26), {"units": 9, "activation": "softmax"}, "kernel times 1.0003",
     "the kernel or the input is 1.0003 times what it should be"),
    ("Dense", (30, 26), {"units": 9, "activation": "softmax"}, "one weight", "kernel[1, 2] is "),
    ("LSTM", (4, 6, 5), {"units": 3, "return_sequences": True}, "gates exchanged",
     "the gates i and f are exchanged, where the model has i, f, c, o"),
    ("LSTM", (4, 6, 5), {"units": 3, "return_sequences": True}, "no bias", "the bias was dropped"),
    ("LSTM", (4, 6, 5), {"units": 3}, "backwards", "the sequence is gone through in the other direction"),
    ("GRU", (4, 6, 5), {"units": 3, "reset_after": True}, "gates of PyTorch",
     "the gates z and r are exchanged, where the model has z, r, h"),
    ("GRU", (4, 6, 5), {"units": 3, "reset_after": True}, "no recurrent bias",
     "the bias of the recurrent product was dropped"),
    ("GRU", (4, 6, 5), {"units": 3, "reset_after": True}, "the other reset",
     "the reset gate multiplies the state before its product, where the model says after (reset_after)"),
    ("GRU", (4, 6, 5), {"units": 3, "reset_after": False}, "the other reset",
     "the reset gate multiplies the state after its product, where the model says before (reset_after)"),
]  # fmt: skip


# A recurrent layer is gone through step by step, for each cause that is tried.
@pytest.mark.parametrize(
    ("kind", "shape", "config", "fault", "said"),
    [row if row[0] not in ("LSTM", "GRU") else pytest.param(*row, marks=pytest.mark.slow) for row in NAMED],
)
def test_faults_by_their_names(kind: str, shape: Any, config: dict[str, Any], fault: str, said: str) -> None:
    found = planted(Audited(kind, shape, **config), fault)
    assert found.verdict == "wrong", found
    assert said in found.explanation, found
    assert "cannot be told apart" not in found.explanation


# --- every planted fault, at one size of the data (``python -m benchmarks truth`` has the rest) -----------------------


# A sequence of many steps costs as much as all other layers: of the recurrent kinds, the simplest has one. The others
# take turns.
PLANTED = [
    ("many" if kind == "SimpleRNN" or (number % 2 and kind not in RECURRENT) else "one", number)
    for number, (kind, *_) in enumerate(LAYERS)
]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "number"), PLANTED, ids=[f"{size}-{n}-{LAYERS[n][0]}" for size, n in PLANTED])
def test_planted_faults_are_seen_and_truly_named(size: str, number: int) -> None:
    layer = planted_layer(number, size, 1.0, seed=number)
    honest = layer.honest
    exact = layer.operation(
        {name: array.astype(np.float64) for name, array in layer.weights.items()},
        *(([x.astype(np.float64) for x in layer.inputs],) if layer.listed else (layer.x.astype(np.float64),)),
    )
    bench = Planting(layer, run_of(layer), honest)
    seen = 0
    for fault in faults_of(layer.kind):
        output = fault.make(bench)
        if output is None or output.shape != honest.shape or visible(honest, exact, output) < 10:
            continue
        found = layer.check(np.ascontiguousarray(output, np.float32))
        assert found.verdict.fault, (fault.name, found)
        assert judged(fault, found) != "false", (fault.name, found.explanation)
        seen += 1
    assert seen > 5


# --- for which inputs a sentence is true -----------------------------------------------------------------------------


def in_blocks(layer: Audited, output: Array, size: int) -> str:
    """What is said of an output whose inputs are read so many at a time."""

    def blocks() -> list[Block]:
        return [Block(at, (layer.x[at : at + size],), {}, output[at : at + size]) for at in range(0, len(output), size)]

    return audit_blocks(layer.call, layer.weights, blocks).explanation


@pytest.mark.parametrize("size", [8, 3])
def test_what_is_everywhere_and_shows_in_one_input_is_not_said_to_be_in_it_alone(size: int) -> None:
    layer = Audited("Conv2D", (8, 6, 5, 2), filters=4, kernel_size=2)
    small = np.full((8, 1, 1, 1), 1e-3, np.float32)
    small[2] = 1
    layer.inputs = [layer.x * small]  # where the bias hides a factor on the kernel
    said = in_blocks(layer, layer.run({"kernel": layer.weights["kernel"] * np.float32(1.0001)}), size)
    assert said == "the kernel or the input is 1.0001 times what it should be; it shows in input 2 of 8"
    output = layer.honest
    output[2] *= np.float32(1.0001)
    said = in_blocks(layer, output, size)
    assert said.endswith("; in input 2 of 8 alone"), said
    assert "outputs are 1.0001 times the reference" in said
    output = layer.honest
    output[2] += layer.generator.normal(0, 1e-3, output[2].shape).astype(np.float32)
    assert in_blocks(layer, output, size).endswith("in input 2 of 8 alone")  # the others' outputs are as large
    layer.inputs, layer.weights["bias"] = [layer.x], layer.weights["bias"] * 0
    output = layer.honest
    output[2] += layer.generator.normal(0, 1e-3, output[2].shape).astype(np.float32)
    assert in_blocks(layer, output, size).endswith("it shows in input 2 of 8")


@pytest.mark.parametrize("size", [9, 4, 2])
def test_what_explains_one_block_is_held_against_all_others(size: int) -> None:
    layer = Audited("Activation", (9, 6, 5, 4), activation="gelu")
    output = layer.honest
    output[[1, 8]] *= np.float32(1.5)
    assert in_blocks(layer, output, size) == "outputs are 1.5 times the reference; in inputs 1 and 8 of 9 alone"
    output[8] = layer.honest[8] * np.float32(3)
    said = in_blocks(layer, output, size)
    if size < 9:
        assert said == "outputs are 3 times the reference; so in input 8, while inputs 1 and 8 of 9 are wrong"
    else:
        assert said.startswith("22 % of the outputs differ"), said
        assert said.endswith("; in inputs 1 and 8 of 9 alone")
    output[8] = layer.honest[8] + layer.generator.normal(0, 1, output[8].shape).astype(np.float32)
    output[1] = layer.honest[1] + layer.generator.normal(0, 0.1, output[1].shape).astype(np.float32)
    said = in_blocks(layer, output, size)
    assert said.startswith("22.2 % of the outputs differ"), said  # of all inputs, whichever block is the worst
    assert "one example" not in said
    output = layer.honest * np.float32(1.5)
    output[:size] = layer.honest[:size] * np.float32(1.75)
    said = in_blocks(layer, output, size)
    assert size == 9 or said.startswith("outputs are 1.75 times the reference; so in inputs 0"), said
    assert size == 9 or said.endswith(", not in all others")


def test_the_description_is_of_all_blocks() -> None:
    layer = Audited("Conv2D", (9, 7, 5, 2), filters=4, kernel_size=2)
    output = layer.honest
    output[:, 0, :, 1] += layer.generator.normal(0, 1, (9, 4)).astype(np.float32)
    output[7, 3, 2, 1] += 40
    said = in_blocks(layer, output, 4)
    assert said == in_blocks(layer, output, 9)
    assert "off by up to 40" in said
    assert "only in channel 1" in said
    assert "only in row" not in said
    output = layer.honest * np.float32(0)
    assert in_blocks(layer, output, 4) == "every output is 0"
    output[7] = layer.honest[7]
    assert not in_blocks(layer, output, 4).startswith("every output is 0;") or "so in" in in_blocks(layer, output, 4)


def test_a_batch_norm_in_training_mode_is_named_for_each_block() -> None:
    layer = Audited("BatchNormalization", (4, 8, 9, 6))
    own = {"moving_mean": layer.x.mean((0, 1, 2)), "moving_variance": layer.x.var((0, 1, 2))}
    output = layer.run(own)
    assert "training mode" in in_blocks(layer, output, 4)
    assert "training mode" not in in_blocks(layer, output, 2)


# --- what pays for its numbers ---------------------------------------------------------------------------------------


def test_a_shift_below_the_noise_is_not_said() -> None:
    layer = Audited("Multiply", [(3, 5, 6, 4)] * 2)
    factors = np.array([1, 1.5, 1, 1.2345678])
    noise = 1 + 1e-6 * layer.generator.normal(size=layer.honest.shape)
    found = layer.check((layer.honest * factors * noise).astype(np.float32))
    assert found.explanation == "channels 1 and 3: outputs are 1.235 to 1.5 times the reference"
    shifts = np.array([0, 0.25, 0, 0.125], np.float32)
    found = layer.check(layer.honest + shifts)
    assert found.explanation == (
        "channels 1 and 3: outputs are the reference plus 0.25 in channel 1, each by numbers of its own"
    )
    found = layer.check((layer.honest * factors + shifts).astype(np.float32))
    assert found.explanation == (
        "channels 1 and 3: outputs are 1.5 times the reference plus 0.25 in channel 1, each by numbers of its own"
    )
    shifts[1] = 0  # the channel with a shift is the one that is told
    found = layer.check((layer.honest * factors + shifts).astype(np.float32))
    assert found.explanation == (
        "channels 1 and 3: outputs are 1.235 times the reference plus 0.125 in channel 3, each by numbers of its own"
    )


def line_of(layer: Audited, output: Array) -> list[Hypothesis]:
    made = fits.hypotheses(problem_of(layer, output))
    return [one for one in made if "each by numbers of its own" in one.text]


def test_only_numbers_that_are_used_are_paid_for() -> None:
    layer = Audited("Multiply", [(3, 5, 6, 4)] * 2)
    factors = np.array([1, 1.5, 1, 1.2345678])
    noise = 1 + 1e-6 * layer.generator.normal(size=layer.honest.shape)
    assert not line_of(layer, (layer.honest * factors * noise).astype(np.float32))
    (one,) = line_of(layer, (layer.honest * factors + np.array([0, 0, 0, 0.5])).astype(np.float32))
    (two,) = line_of(layer, (layer.honest * factors + np.array([0, 0.1, 0, 0.5])).astype(np.float32))
    (none,) = line_of(layer, (layer.honest + np.array([0, 0.1, 0, 0.5])).astype(np.float32))
    assert two.cost - one.cost == one.cost - none.cost == FITTED


@pytest.mark.parametrize("rows", [1, 2])
def test_as_many_numbers_as_outputs_are_not_even_possible(rows: int) -> None:
    layer = Audited("Activation", (rows, 7), activation="gelu")
    output = layer.honest
    output[:, [1, 3]] += layer.generator.normal(0, 50, (rows, 2)).astype(np.float32)
    found = layer.check(output)
    assert found.cause is Cause.UNEXPLAINED
    assert "times the reference" not in found.explanation, found.explanation
    assert found.explanation.endswith(f"{2 * rows} wrong outputs cannot tell causes apart")


@pytest.mark.slow
def test_no_sentence_speaks_of_no_outputs() -> None:
    layer = Audited("Dense", (1, 40), units=1)
    said = [layer.check(layer.honest * np.float32(1 + 2.0**-step)).explanation for step in range(2, 23)]
    layer = Audited("Conv2D", (1, 3, 3, 2), filters=2, kernel_size=2)
    said += [layer.check(layer.honest * np.float32(1 + 2.0**-step)).explanation for step in range(2, 23)]
    for words in said:
        assert not re.search(r"\b0 wrong", words), words
    assert any("cannot tell causes apart" in words for words in said)
    none = _Search([Hypothesis("rain")], [Cause.FACTORS], False, ["rain"], 0, [])
    assert _possible(none) == "; errors as small as these cannot tell causes apart: rain, or another would explain them"


# --- what is likely is told first ------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_bias_left_out_is_likelier_than_an_activation_that_nobody_has(activation: str | None) -> None:
    """Of large whole numbers tanh_shrink is one less, as is a bias of one left out."""
    layer = Audited("Dense", (7, 6), units=4, activation=activation)
    layer.inputs = [layer.generator.integers(5, 35, (7, 6)).astype(np.float32)]
    kernel = layer.generator.integers(1, 4, (6, 4)).astype(np.float32)
    layer.weights = {"kernel": kernel, "bias": np.ones(4, np.float32)}
    found = layer.check(layer.run({"bias": np.zeros(4, np.float32)}))
    assert found.explanation == "the bias was dropped"
    assert found.cause is Cause.KERNEL


def test_of_rivals_that_explain_the_same_the_likely_is_told_first() -> None:
    layer = Audited("BatchNormalization", (6, 5, 4, 3))
    layer.weights["beta"][:] = 0
    layer.weights["moving_mean"][:] = 0
    found = layer.check(layer.honest * np.float32(1.5))
    assert found.explanation.endswith("these cannot be told apart here")
    assert found.explanation.index("the scale gamma is 1.5 times") < found.explanation.index("outputs are 1.5 times")


# --- outputs of one axis, or of none ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "module", "config", "shape"),
    [("Norm", "linalg", {"axis": 1}, (2, 1000)), ("Sum", "numpy", {"axis": 1}, (30, 40)),
     ("Sum", "numpy", {"axis": None}, (30, 40)), ("Mean", "numpy", {"axis": [0, 1]}, (3, 5))],
)  # fmt: skip
def test_outputs_of_one_axis_or_none_are_described(kind: str, module: str, config: Any, shape: Any) -> None:
    operation = build(kind, f"keras.src.ops.{module}", config, (3, 15))
    x: Array = np.random.default_rng(3).normal(1, 1, shape).astype(np.float32)
    call = Call("n", Layer("n", kind, config, make_operation=lambda: operation), (Ref("x"),), {}, (None,), -1)
    honest = np.asarray(operation({}, x), np.float32)

    def said(output: Array) -> str:
        found = audit(call, {}, (x,), {}, np.asarray(output, np.float32))
        assert found.verdict == "wrong"
        assert "failed" not in found.explanation, found.explanation
        assert "channel" not in found.explanation
        return found.explanation

    assert "the input is 1.5 times what it should be" in said(honest * 1.5)
    off = honest * np.random.default_rng(4).uniform(1.3, 2, honest.shape)
    assert said(off).startswith("100 % of the outputs differ, off by up to ")
    if honest.ndim:
        off = honest.copy()
        off[1] += 7
        assert said(off).startswith(f"{100 / off.size:.3g} % of the outputs differ, off by up to 7 ")


# --- what is asked, and how far --------------------------------------------------------------------------------------


def test_a_trial_that_overflows_float32_on_the_way_is_still_made() -> None:
    layer = Audited("Conv2D", (2, 7, 8, 3), filters=5, kernel_size=3)
    output = np.abs(layer.honest)
    assert output.max() > 2
    assert output.min() < 1
    view = mapped(lambda y: np.sqrt(np.square(y * 1e19)) / 1e19)
    with np.errstate(all="ignore"):
        assert problem_of(layer, output).trial(Hypothesis("positive", view=view)) is not None
        assert problem_of(layer, output + 1).trial(Hypothesis("positive", view=view)) is None


def test_a_hypothesis_of_another_shape_explains_nothing() -> None:
    layer = Audited("Conv2D", (2, 7, 8, 3), filters=5, kernel_size=3)
    problem = problem_of(layer, layer.honest * np.float32(2))
    for shape in ((2, 5, 6, 1), (2, 5, 5, 5), (1, 5, 6, 5)):
        view = moved(lambda y, shape=shape: np.resize(y, shape) * 2)
        assert problem.trial(Hypothesis("smaller", view=view)) is None


def test_the_scale_of_noise_goes_through_a_function() -> None:
    low, scale = np.array([-2.0, 0.5, 3.0]), np.array([1.0, 2.0, 0.25])
    made = mapped(lambda y: -3 * y)(Prediction(low, low, scale))
    assert made.low is made.high
    np.testing.assert_allclose(made.scale, 3 * np.hypot(low, scale), rtol=1e-6)
    made = mapped(lambda y: -3 * y)(Prediction(low, low + 1, scale))
    np.testing.assert_array_equal(made.low, -3 * low - 3)
    np.testing.assert_array_equal(made.high, -3 * low)


def test_a_variance_of_some_channels_is_looked_for_among_those_that_can_have_one() -> None:
    layer = Audited("BatchNormalization", (3, 6, 7, 5))
    output = layer.run({"moving_variance": layer.weights["moving_variance"] * np.float32(64 / 63)})
    output[..., 2:] = layer.honest[..., 2:] * np.float32(1000)  # more than epsilon leaves room for
    said = [one.text for one in normalization.hypotheses(problem_of(layer, output))]
    assert any(one.endswith("as n / (n - 1) for n = 64") for one in said), said


@pytest.mark.parametrize(("size", "shifts"), [((3, 2), 8), ((9, 1), 20), ((5, 6), 34)])
def test_how_far_a_window_may_be_shifted(size: tuple[int, int], shifts: int) -> None:
    layer = Audited("Conv2D", (2, 13, 12, 3), filters=4, kernel_size=size)
    said = [one.text for one in geometry.hypotheses(problem_of(layer, layer.honest * np.float32(2)))]
    assert sum(one.startswith("the window is shifted") for one in said) == shifts


def test_a_bias_subtracted_is_named() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 3), filters=5, kernel_size=3)
    expect(layer, layer.run({"bias": -layer.weights["bias"]}), "the bias was subtracted")


def test_results_as_a_whole_are_changed_in_many_channels() -> None:
    layer = Audited("Conv2D", (2, 9, 8, 3), filters=32, kernel_size=3, use_bias=False)
    assert layer.check(layer.honest + np.float32(0.25)).explanation == "outputs are the reference plus 0.25"
    expect(layer, np.minimum(layer.honest, np.float32(0.75)), "the outputs are clipped above at 0.75")
    expect(layer, np.clip(layer.honest, np.float32(-0.5), np.float32(0.75)), "above at 0.75 and below at -0.5")
    output = layer.honest
    output[..., 7:10] += np.float32(0.25)
    assert layer.check(output).explanation == "channels 7, 8 and 9: outputs are the reference plus 0.25"


@pytest.mark.parametrize(("factor", "clamped"), [(-0.5, False), (-0.75, True), (-0.75, False), (-0.5, True)])
def test_cubic_weights_by_their_formula(factor: float, clamped: bool) -> None:
    layer = Audited("Resizing", (2, 5, 6, 3), height=11, width=13, interpolation="bicubic")
    output = merging._Cubic((2, 11, 13, 3), 1, factor, clamped)({}, layer.x.astype(np.float64))
    found = layer.check(output.astype(np.float32))
    edge = "the edge repeated" if clamped else "weights of the edge scaled to one"
    if found.verdict.fault:
        assert f"bicubic weights computed with a = {factor} and {edge}" in found.explanation
    else:
        assert (factor, clamped) == (-0.5, False)


# --- what the sweep of all planted faults showed (python -m benchmarks truth) -----------------------------------------


@pytest.mark.parametrize("number", [4, 10, 25])
def test_a_gelu_near_zero_that_was_applied_twice_is_a_factor_of_a_half_too(number: int) -> None:
    layer = planted_layer(number, "one", 1e-20, seed=number)
    found = planted(layer, "outputs times 0.5")
    assert found.cause is Cause.AMBIGUOUS
    assert "was applied twice" in found.explanation
    assert "0.5 times" in found.explanation


def test_where_a_softmax_says_another_class_once_no_cause_is_named() -> None:
    layer = planted_layer(2, "many", 1e4, seed=2)
    found = planted(layer, "one bias is nearly none")
    assert found.cause is Cause.UNEXPLAINED
    assert "2 wrong outputs cannot tell causes apart" in found.explanation


def test_an_arithmetic_whose_operands_overflow_predicts_nothing_and_explains_nothing() -> None:
    layer = planted_layer(12, "many", 1e8, seed=12)  # relu6 of numbers about 1e8: each output is 0 or 6
    found = planted(layer, "a channel's outputs times 1.003")
    assert found.verdict.fault
    assert found.verdict.value == "wrong"
    assert "1.003 times" in found.explanation
