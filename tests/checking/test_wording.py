"""Words are for people: with every sentence reworded, a check comes to the same verdicts and the same data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens import sample
from cnnlens.checking import Audit, Verdict, listing
from cnnlens.checking.faults import explanation
from cnnlens.checking.faults.problem import Hypothesis
from cnnlens.checking.finding import Cause, Objection
from cnnlens.checking.noise.nonfinite import Strays
from cnnlens.checking.result import Check, LayerCheck, Run
from cnnlens.errors import CnnlensError
from tests.support.audited import Audited

WORDS = "altogether other words"
FOR_PEOPLE = {"says", "explanation", "reason", "error", "weights"}


def audits() -> list[Audit]:
    layer = Audited("Conv2D", (2, 9, 8, 3), filters=4, kernel_size=(3, 2))
    honest = np.asarray(layer.honest)
    nan, noise = honest.copy(), np.random.default_rng(0).normal(size=honest.shape).astype(np.float32)
    nan[0, 0, 0, 1] = np.nan
    flipped = layer.operation({**layer.weights, "kernel": layer.weights["kernel"][::-1]}, *layer.inputs)
    outputs = (honest, np.asarray(flipped, np.float32), honest.astype(np.float16).astype(np.float32), nan, noise)
    return [layer.check(output) for output in (*outputs, honest[:, 1:])]


def test_reworded_explanations_change_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    before = audits()
    assert [one.cause for one in before] == [
        None, Cause.KERNEL, Cause.PRECISION, Cause.NONFINITE, Cause.UNEXPLAINED, Cause.SHAPE
    ]  # fmt: skip
    made = Hypothesis.__init__

    def init(self: Hypothesis, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        object.__setattr__(self, "text", WORDS)

    monkeypatch.setattr(Hypothesis, "__init__", init)
    monkeypatch.setattr(explanation, "describe", lambda *given: WORDS)
    monkeypatch.setattr(Strays, "text", WORDS)
    after = audits()
    assert [one.explanation for one in after].count(WORDS) == 3
    assert [(one.verdict, one.cause, one.bits) for one in after] == [
        (one.verdict, one.cause, one.bits) for one in before
    ]


def checked() -> Check:
    """A check with every kind of objection."""
    network = cnnlens.open(sample.MODEL)
    error = CnnlensError("it fell over", "keras-jax")
    wrong = Audit(
        "conv2d", "Conv2D", Verdict.WRONG, 3.0, 0, 2.0, (0, 0, 0, 0), 1.0, "the kernel is flipped", "", Cause.KERNEL
    )
    fine = Audit("conv2d", "Conv2D", Verdict.FLOAT32, 22.0, 0, 21.0)
    runs = (
        Run("keras-jax#2", "keras-jax", error=str(error), reason=error.without_backend),
        Run("a", "a", precision="strict"),
        Run("b", "b", precision="strict", weights=("conv2d/kernel: 2 numbers differ",)),
        Run("c", "c", precision="strict", repeats={"conv2d": 0.5, "dense": 0.0}),
        Run("d", "d", precision="strict"),
    )
    row = LayerCheck("conv2d", "Conv2D", {"a": wrong, **dict.fromkeys("bcd", fine)})
    return Check(network, "the inputs given", runs, (row,), {})


def without_words(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: without_words(value) for name, value in data.items() if name not in FOR_PEOPLE}
    return [without_words(one) for one in data] if isinstance(data, list) else data


def test_reworded_sentences_change_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked()
    before = listing.as_json(result)
    objections = [one and one.objection for one in map(result.problem, result.runs)]
    assert objections == [Objection.ERROR, Objection.LAYER, Objection.WEIGHTS, Objection.REPEATS, None]
    assert before["runs"][0]["says"] == "could not be checked: it fell over"
    assert before["runs"][1]["problem"] == {
        "objection": "layer", "layer": "conv2d", "verdict": "wrong", "cause": "kernel"
    }  # fmt: skip
    for name in ("sentence", "objection", "_fault", "_what"):
        monkeypatch.setattr(listing, name, lambda *given: WORDS)
    after = listing.as_json(result)
    assert {run["says"] for run in after["runs"]} == {WORDS}
    assert without_words(json.loads(json.dumps(after))) == without_words(json.loads(json.dumps(before)))
    assert not result.agree


def test_what_follows_from_a_verdict_stands_in_one_place() -> None:
    strict = {one for one in Verdict if one.passes("strict")}
    assert strict == {"exact", "float32", "not audited"}
    assert {one for one in Verdict if one.passes("native")} == set(Verdict) - {"suspicious", "wrong"}
    assert {one for one in Verdict if one.fault} == {"suspicious", "wrong"}
    assert max(Verdict, key=lambda one: one.rank) is Verdict.NOT_AUDITED


def test_the_table_says_what_was_seen_under_each_arithmetic() -> None:
    network = cnnlens.open(sample.MODEL)
    run = Run("keras-jax", "keras-jax", {}, "cpu", "native", (), 8, 8)
    seen = {"conv2d": ("float32", 2.1e-4), "conv2d_1": ("bfloat16", 2e-3), "dense": ("float32", float("inf")),
            "dense_1": ("float32", 1e-5), "flatten": ("exact", float("nan")), "dropout": ("wrong", 0.5)}  # fmt: skip
    rows = tuple(
        LayerCheck(name, "K", {"keras-jax": Audit(name, "K", Verdict(verdict), 20.0, 0, 19.0, sees=sees)})
        for name, (verdict, sees) in seen.items()
    )
    lines = str(listing.as_page(Check(network, "8 images", (run,), rows, {}))).splitlines()
    assert (
        "a factor on one channel's outputs would have been found from 1 ± 0.0003 on (float32, least in 'conv2d'), "
        "from 1 ± 0.002 on (bfloat16, least in 'conv2d_1')"
    ) in lines
    assert "no factor would have been found where a channel is less than rounding may be: 'dense'" in lines
