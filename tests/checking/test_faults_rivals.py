"""A sentence is said only where it is ahead of its rivals: too few numbers, NaN and equal rivals are told as such."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnlens.checking import Audit
from cnnlens.checking.faults.problem import Hypothesis, Problem, moved
from cnnlens.checking.finding import Cause
from cnnlens.checking.noise.arithmetic import EXACT
from cnnlens.checking.noise.case import Array, Case
from cnnlens.checking.noise.prediction import Prediction, floor_of, predict, terms_of
from cnnlens.checking.noise.tally import Tally
from tests.support.audited import Audited, expect
from tests.support.planted import LAYERS, Planting, faults_of, judged, planted_layer, visible


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


@pytest.mark.parametrize(
    ("kind", "shape", "config", "fault", "said"),
    [
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
    ],
)  # fmt: skip
def test_faults_by_their_names(kind: str, shape: Any, config: dict[str, Any], fault: str, said: str) -> None:
    found = planted(Audited(kind, shape, **config), fault)
    assert found.verdict == "wrong", found
    assert said in found.explanation, found
    assert "cannot be told apart" not in found.explanation


# --- every planted fault, at one size of the data (``python -m benchmarks truth`` has the rest) -----------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(LAYERS)), ids=[f"{n}-{one[0]}" for n, one in enumerate(LAYERS)])
@pytest.mark.parametrize("size", ["one", "many"])
def test_planted_faults_are_seen_and_truly_named(number: int, size: str) -> None:
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
