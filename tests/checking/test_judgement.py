"""The judgement of a layer part by part: whose outputs are off, under which arithmetic, and where the proof ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnlens.checking import audit
from cnnlens.checking.evidence import Block, Blocks, Evidence
from cnnlens.checking.finding import Verdict
from cnnlens.checking.narrower import rounded_to
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, TF32, to_format
from cnnlens.checking.noise.prediction import terms_of
from cnnlens.checking.noise.tally import Tally
from cnnlens.checking.verdict import audit_blocks
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.reference import build
from cnnlens.reference.wrappers import TimeDistributed
from tests.support.audited import Array, Audited


def stepwise(kind: str, examples: int, steps: int, shape: tuple[int, ...], **config: Any) -> Audited:
    """A layer that a TimeDistributed runs on every step."""
    layer = Audited(kind, (examples * steps, *shape), **config)
    layer.operation = TimeDistributed(layer.operation)
    layer.inputs = [layer.x.reshape(examples, steps, *shape)]
    return layer


# -- whose outputs are off -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [5, 2])
@pytest.mark.parametrize(("kind", "config"), [("Conv2D", {"filters": 4, "kernel_size": 2}), ("BatchNormalization", {})])
def test_what_is_run_on_every_step_is_blamed_by_input_and_step(kind: str, config: Any, at_once: int) -> None:
    layer = stepwise(kind, 5, 3, (6, 7, 2), **config)
    honest = layer.honest
    assert not layer.check(honest).verdict.fault

    def audited(output: Array) -> Any:
        def blocks() -> list[Block]:
            starts = range(0, 5, at_once)
            return [Block(at, (layer.x[at : at + at_once],), {}, output[at : at + at_once]) for at in starts]

        return audit_blocks(layer.call, layer.weights, blocks)

    output = honest.copy()
    output[3] *= np.float32(1.5)
    output[3, 1, 2, 4, 1] += 20
    found = audited(output)
    assert found.verdict == "wrong"
    assert found.explanation.endswith("in input 3 of 5 alone")
    assert found.worst_position == (3, 1, 1, 2, 4)  # (N, C, T, H, W)
    output = honest.copy()
    output[:, 2] *= np.float32(1.5)  # one step of all inputs
    assert "alone" not in audited(output).explanation


def test_the_inputs_that_are_off_are_named_where_most_are_right() -> None:
    layer = Audited("Conv2D", (9, 6, 5, 2), filters=4, kernel_size=2)

    def said(*hit: int) -> str:
        output = layer.honest
        output[list(hit)] *= np.float32(2)
        return layer.check(output).explanation

    assert said(4).endswith("in input 4 of 9 alone")
    assert said(0, 8).endswith("in inputs 0 and 8 of 9 alone")
    assert said(1, 2, 5, 6).endswith("in inputs 1, 2, 5 and 6 of 9 alone")
    assert "alone" not in said(0, 1, 2, 5, 6)


# -- how it was called -----------------------------------------------------------------------------------------------


def test_a_call_may_say_that_it_is_no_training_and_has_no_mask() -> None:
    layer = Audited("Dense", (3, 5), units=4)

    def checked(output: Array, **kwargs: Any) -> Any:
        return audit(layer.call, layer.weights, layer.args, kwargs, output)

    assert not checked(layer.honest, training=False, mask=None).verdict.fault
    assert checked(layer.honest * np.float32(1.5), training=False, mask=None).verdict == "wrong"
    for kwargs, said in (({"training": True}, "training=True"), ({"mask": np.ones(3, np.bool_)}, "a mask")):
        found = checked(layer.honest, **kwargs)
        assert found.verdict == "not audited"
        assert said in found.reason


def test_a_state_that_is_given_by_name_is_part_of_the_call() -> None:
    random = np.random.default_rng(6)
    operation = build("SimpleRNN", None, {"units": 4}, (3, 15))
    shapes = {"kernel": (3, 4), "recurrent_kernel": (4, 4), "bias": (4,)}
    weights = {f"cell/{name}": random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    x, state = (random.normal(size=shape).astype(np.float32) for shape in ((5, 2, 3), (5, 4)))
    layer = Layer("steps", "SimpleRNN", {"units": 4}, make_operation=lambda: operation)
    call = Call("steps", layer, (Ref("x"),), {"initial_state": [Ref("state")]}, (None,), -1)
    for given, passes in ((state, True), (0 * state, False)):
        output = np.asarray(operation(weights, x, initial_state=[given]))
        found = audit(call, weights, (x,), {"initial_state": [state], "training": False}, output)
        assert found.verdict.fault != passes


# -- layers that only move values, in a narrower arithmetic ----------------------------------------------------------


@pytest.mark.parametrize("half", [FLOAT16, BFLOAT16], ids=lambda half: half.name)
def test_what_only_moves_values_may_have_rounded_them(half: Any) -> None:
    layer = Audited("MaxPooling2D", (3, 8, 6, 5), pool_size=2)
    layer.x[1, 2, 3, 4] = np.nan
    output = to_format(layer.honest.astype(np.float64), half).astype(np.float32)
    assert layer.check(output, strict=False).verdict == half.name
    assert np.isnan(layer.check(output, strict=False).sees)  # nothing is rounded, so no factor is too small
    output[2, 1, 1, 1] = np.nextafter(output[2, 1, 1, 1], np.float32(9))
    assert layer.check(output, strict=False, explained=False).verdict.fault


# -- how much is a proof ---------------------------------------------------------------------------------------------


def narrowed(layer: Audited, wanted: Any) -> Array:
    """The layer with its operands in a narrow format and its sums in float32."""
    narrow = {
        name: to_format(array.astype(np.float64), wanted) if name == "kernel" else array
        for name, array in layer.weights.items()
    }
    return layer.run(narrow, to_format(layer.x.astype(np.float64), wanted))


def test_the_outputs_prove_an_arithmetic_together() -> None:
    """A dozen bits of one output are chance among as many trials; fifty of four are none. Another's proof helps."""
    for units, expected in ((1, "suspicious"), (4, "tf32")):
        layer = Audited("Dense", (1, 33), 5, units=units)
        output = narrowed(layer, TF32)
        assert layer.check(output, strict=False).verdict == expected

        def blocks(layer: Audited = layer, output: Array = output) -> list[Block]:
            return [Block(0, layer.args, {}, output)]

        for name, with_it in (("tf32", "tf32"), ("bfloat16", expected)):
            proved = [Verdict(name)]
            assert audit_blocks(layer.call, layer.weights, blocks, False, proved).verdict == with_it


# -- NaN and infinity in the wrong places, and the numbers beside them ------------------------------------------------


@pytest.mark.parametrize("half", [None, np.float16])
@pytest.mark.parametrize("size", [5, 2])
def test_numbers_beside_nan_are_judged_too(size: int, half: Any) -> None:
    layer = Audited("BatchNormalization", (5, 6, 7, 4))

    def checked(output: Array) -> Any:
        def blocks() -> list[Block]:
            return [Block(at, (layer.x[at : at + size],), {}, output[at : at + size]) for at in range(0, 5, size)]

        return audit_blocks(layer.call, layer.weights, blocks)

    stray = "NaN in output channel 3, which the backend makes (2 outputs)"
    output = layer.honest.astype(half).astype(np.float32)
    output[:2, 2, 5, 3] = np.nan
    assert checked(output).explanation == stray  # what else there is is rounding, of float32 or of float16
    output = layer.honest
    output *= np.float32(3)
    output[:2, 2, 5, 3] = np.nan
    found = checked(output)
    assert (found.verdict, found.cause) == (Verdict.WRONG, "non-finite")
    assert found.explanation == f"{stray}; besides, outputs are 3 times the reference"
    assert found.worst_position == (0, 3, 2, 5)
    output = layer.honest
    output[2] *= np.float32(3)
    output[:2, 2, 5, 3] = np.nan
    assert checked(output).explanation == f"{stray}; besides, outputs are 3 times the reference; in input 2 of 5 alone"


def test_numbers_beside_a_nan_that_is_hidden_are_judged_too() -> None:
    layer = Audited("Conv2D", (2, 7, 8, 3), filters=5, kernel_size=3, use_bias=False, activation="relu")
    layer.weights["kernel"][..., 3] = np.nan
    output = layer.run(x=layer.x)
    output[..., 3] = 0
    stray = "NaN in output channel 3, which the backend hides (60 outputs)"
    assert layer.check(output).explanation == stray
    found = layer.check(output * np.float32(1.5))
    assert found.explanation.startswith(f"{stray}; besides, ")
    assert "the kernel or the input is 1.5 times what it should be" in found.explanation


def test_a_layer_that_only_picks_values_has_strays_and_wrong_numbers() -> None:
    layer = Audited("MaxPooling2D", (2, 9, 10, 4), pool_size=3)
    output = layer.honest
    output[1, 2, 0, 1] = np.inf
    stray = "+inf in output channel 1, which the backend makes (1 output)"
    assert layer.check(output).explanation == stray
    output[..., 2] *= np.float32(1.25)
    assert layer.check(output).explanation == f"{stray}; besides, channel 2: outputs are 1.25 times the reference"


def test_strays_are_no_numbers_to_compare() -> None:
    """What stands for them is no number of the recording: with it nothing at all was said to differ by thousands."""
    layer = Audited("UpSampling2D", (2, 5, 6, 3), size=3, interpolation="bilinear")
    layer.inputs = [layer.x * np.float32(1e6)]
    output = np.full_like(layer.honest, np.nan)
    stray = "NaN in output channels 0, 1 and 2, which the backend makes"
    assert layer.check(output).explanation == f"{stray} (1,620 outputs)"
    layer.inputs[0][1] *= np.float32(1e-6)  # in float16 the first example overflows, and the other is rounded
    with np.errstate(all="ignore"):
        output = to_format(layer.operation({}, to_format(layer.x, FLOAT16)), FLOAT16).astype(np.float32)
    assert (np.isfinite(output[0]).sum(), np.isfinite(output[1]).all()) == (0, True)
    assert "besides" not in layer.check(output).explanation


# -- which formats may have rounded what is only picked ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "size", "names"),
    [(TF32, 1.0, ["float16", "tf32"]), (TF32, 1e6, ["tf32"]), (TF32, 1e-6, ["tf32"]),
     (FLOAT16, 1.0, ["float16", "tf32"]), (FLOAT16, 1e-5, ["float16"]), (BFLOAT16, 1.0, ["bfloat16"]),
     (BFLOAT16, 1e20, ["bfloat16"]), (None, 1.0, [])],
)  # fmt: skip
def test_formats_that_picked_values_may_have_been_rounded_to(wanted: Any, size: float, names: list[str]) -> None:
    layer = Audited("MaxPooling2D", (3, 8, 6, 5), pool_size=2)
    layer.inputs = [layer.x * np.float32(size)]
    output = layer.honest * np.float32(1.0001)
    if wanted is not None:
        output = to_format(layer.honest.astype(np.float64), wanted).astype(np.float32)
    blocks = Blocks(layer.call, layer.weights, lambda: [Block(0, layer.args, {}, output)], None)
    _, case = next(blocks.cases())
    evidence = Evidence(blocks, case, Tally(terms_of(case)), 20.0)
    assert [one.name for one in rounded_to(evidence)] == names
