"""The language of ``--lambda``: what it computes, what it refuses with which place, and what becomes of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens import sample
from cnnlens.checking import Verdict, audit
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.keras.lambdas import say_lambdas
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.network.rescaling import rescaled
from cnnlens.reference import build
from cnnlens.reference.expression import parse
from cnnlens.testing import MemoryModel
from tests.support.to_torch_models import agree, called, entry, functional_entry, given, tensor

X = np.random.default_rng(4).uniform(0.3, 2.5, (2, 5, 4, 3))

COMPUTED = {
    "x / 255 - 0.5": X / 255 - 0.5,
    "-x**2": -(X**2),
    "2 ** -x ** 2": 2.0 ** -(X**2),
    "x - 1 - 2": X - 3,
    "x / 2 / 4": X / 8,
    "+(x - .5e1) * -3.": (X - 5) * -3,
    "minimum(x, 1) + maximum(2, x)": np.minimum(X, 1) + np.maximum(2, X),
    "clip(x * 2, -1, 1.5)": np.clip(X * 2, -1, 1.5),
    "abs(-x) + exp(x) + log(x) + sqrt(x)": X + np.exp(X) + np.log(X) + np.sqrt(X),
    "tanh(x)*sigmoid(x) - relu(x - 1)": np.tanh(X) / (1 + np.exp(-X)) - np.maximum(X - 1, 0),
    "(x - (2 ** 3 - 3)) / sqrt(16)": (X - 5) / 4,
}


@pytest.mark.parametrize("text", COMPUTED)
def test_values(text: str) -> None:
    operation = build("Expression", "keras.layers", {"expression": text})
    assert operation.output_shape((None, 5, 4, 3)) == (None, 5, 4, 3)
    for dtype, bound in (("float64", 1e-14), ("float32", 1e-6)):
        got = operation({}, X.astype(dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, COMPUTED[text], rtol=bound, atol=bound)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at character 1: its end is not expected"),
        ("3 + 4", "has no x in it"),
        ("x x", "at character 3: 'x' is not expected"),
        ("(x + 1", "at character 7: its end"),
        ("x.shape", "at character 2: '.'"),
        ("x[0]", "at character 2: '\\['"),
        ("__import__('os')", "at character 12: '''"),
        ("__import__(x)", "at character 1: there is no '__import__'"),
        ("eval(x)", "there is no 'eval'"),
        ("lambda x: x", "at character 9: ':'"),
        ("x if x else x", "at character 3: 'if' is not expected"),
        ("x // 2", "at character 4: '/' is not expected"),
        ("x * y", "at character 5: there is no 'y'"),
        ("relu", "at character 5: its end"),
        ("relu(x, 2)", "relu takes 1"),
        ("clip(x, x, 2)", "clip takes x and two numbers"),
        ("x + 1e999", "not finite"),
        ("x * (1 / 0)", "not finite"),
        ("9**9**9**9 * x", "not finite"),
        ("(-1)**0.5 + x", "not finite"),
        ("x\x1b[31m", "at character 2"),
        ("x + ①", "at character 5"),
        ("(" * 60 + "x" + ")" * 60, "at character 52: it is more than 50 levels deep"),
        ("-" * 60 + "x", "more than 50 levels deep"),
        ("x**" * 60 + "x", "more than 50 levels deep"),
        ("x+" * 150 + "x", "more than 100 operations"),
        ("(" * 10_000, "an expression of 10,000 characters"),
    ],
)
def test_what_is_none_of_the_language_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


# -- in a model --------------------------------------------------------------------------------------------------------

KERNEL = np.asarray(np.random.default_rng(6).normal(0, 0.3, (3, 2, 3, 4)), np.float32)


def _file() -> MemoryModel:
    """A Lambda in front of a convolution, and one in a nested model behind it."""
    code: dict[str, Any] = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": None}}
    inner = functional_entry(
        "tail", [given("seen", 6, 7, 4), called(entry("Lambda", "bend", function=code), [tensor("seen")])], "bend"
    )
    layers = [
        given("image", 8, 8, 3),
        called(entry("Lambda", "scale", function=code, arguments={}), [tensor("image")]),
        called(entry("Conv2D", "conv", filters=4, kernel_size=[3, 2], use_bias=False), [tensor("scale")]),
        called(inner, [tensor("conv")]),
    ]
    config = {
        "class_name": "Functional",
        "config": {
            "name": "model", "layers": layers, "input_layers": [["image", 0, 0]], "output_layers": [["tail", 0, 0]],
        },
    }  # fmt: skip
    return MemoryModel(config, {("conv",): {"kernel": KERNEL}}, keras_version="3.15.1")


SAID = {"scale": "x / 255 - 0.5", "tail/bend": "tanh(x) * 2 - minimum(x, 0.25)"}


def _network(**lambdas: str) -> Network:
    file: Any = _file()
    say_lambdas(file, lambdas or SAID)
    return keras_network(file)


def test_a_model_with_lambdas_runs_as_it_is_said_to() -> None:
    network = _network()
    x = np.random.default_rng(8).uniform(0, 255, (2, 3, 8, 8))
    maps = network.run(x, layers=["scale", "conv", "tail/bend"])
    np.testing.assert_allclose(maps["scale"], x / 255 - 0.5, rtol=1e-13)
    c = maps["conv"]
    assert np.abs(c).max() > 0.1
    np.testing.assert_allclose(maps["tail/bend"], np.tanh(c) * 2 - np.minimum(c, 0.25), rtol=1e-12)
    assert any("(Lambda): x / 255 - 0.5, as given by --lambda" in note for note in network.notes)


def test_what_is_not_said_stays_refused_and_names_the_way_out() -> None:
    network = keras_network(_file())
    with pytest.raises(UnsupportedLayerError, match=r"never run here; say what it computes with --lambda"):
        network.run(np.zeros((1, 3, 8, 8)))
    half = _network(scale="x / 255")
    assert half.run(np.zeros((1, 3, 8, 8)), layers=["conv"])["conv"].shape == (1, 4, 6, 7)


def test_the_picture_is_not_scaled_twice() -> None:
    network = _network()
    assert rescaled(network, network.inputs[0]).by == "scale"
    plain = _network(scale="x * 2")
    assert not rescaled(plain, plain.inputs[0]).by
    unknown = keras_network(_file())
    assert not rescaled(unknown, unknown.inputs[0]).by


def test_it_is_audited() -> None:
    network = _network(scale="(x / 127.5 - 1) ** 3 + log(x + 1)")
    call = network.calls_by_name["scale"]
    x = np.asarray(np.random.default_rng(2).uniform(0, 255, (4, 8, 8, 3)), np.float32)
    honest = call.layer.operation({}, x)
    assert audit(call, {}, (x,), {}, honest).verdict in (Verdict.EXACT, Verdict.FLOAT32)
    other = build("Expression", "keras.layers", {"expression": "(x / 127 - 1) ** 3 + log(x + 1)"})
    assert audit(call, {}, (x,), {}, other({}, x)).verdict.fault


@pytest.mark.framework
def test_it_is_written_as_pytorch_code() -> None:
    program = agree(_network(), loose=1e-13)
    assert "(x / 255.0) - 0.5" in program.source
    for text in ("-x ** 2", "2 ** -x", "abs(x) * maximum(1, x)", "clip(sqrt(exp(x)), 0.5, 2) / (3 - x)", "relu(-x)"):
        agree(_network(scale=text, bend="sigmoid(x) - minimum(x, x * x)"), loose=1e-13)


def test_a_name_that_no_lambda_has_names_those_that_there_are() -> None:
    with pytest.raises(
        CnnlensError, match=r"no Lambda layer is named 'conv'; there are 'scale', 'tail/bend'"
    ) as caught:
        _network(conv="x")
    assert "\n" not in str(caught.value)
    with pytest.raises(CnnlensError, match=r"Lambda 'scale': the expression 'os\.x' at character 3"):
        _network(scale="os.x")


def test_lambdas_are_for_files_of_keras() -> None:
    with pytest.raises(CnnlensError, match="no Lambda layer is named 'scale'; there are none"):
        cnnlens.open(sample.MODEL, lambdas={"scale": "x"})
    with pytest.raises(CnnlensError, match="open already"):
        cnnlens.open(cnnlens.open(sample.MODEL), lambdas={"scale": "x"})


@pytest.mark.framework
@pytest.mark.parametrize("backend", ["keras-jax", "keras-tensorflow", "keras-torch"])
def test_keras_is_told_the_same_without_its_code(backend: str) -> None:
    """The code in the file would not even load; no trust is asked for, as none of it is run."""
    network = _network(scale="(x / 127.5 - 1) ** 3", bend="clip(-x, -1, 2) * sigmoid(x) + relu(1 - x)")
    x = np.asarray(np.random.default_rng(3).uniform(0, 255, (3, 3, 8, 8)), np.float32)
    found = cnnlens.check(network, x, backends=[backend])
    assert not [run.error for run in found.runs if run.error]
    verdicts = {row.name: next(iter(row.audits.values())).verdict for row in found.rows}
    assert {"scale", "conv", "tail/bend"} <= verdicts.keys()
    assert set(verdicts.values()) <= {Verdict.EXACT, Verdict.FLOAT32}, verdicts
