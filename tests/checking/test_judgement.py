"""The judgement of a layer part by part: whose outputs are off, under which arithmetic, and where the proof ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnlens.checking import audit
from cnnlens.checking.evidence import Block
from cnnlens.checking.finding import Verdict
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, TF32, to_format
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
    assert layer.check(output, strict=False).verdict in ("wrong", "suspicious")


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
