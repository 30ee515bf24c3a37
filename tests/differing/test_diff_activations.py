"""Feature maps of two models compared: the first layer that differs is found, and what it does otherwise is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.differing.differ import diff
from cnnlens.differing.maps import Activations, Standing
from cnnlens.errors import CnnlensError
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.reference.arithmetic.functions import Activation, named_activation, parametric_activation
from cnnlens.testing import MemoryModel, inputs_for, network
from tests.support.diff_models import ARCHITECTURES, keras_model, torch_arrays, torch_model, weights
from tests.support.random_networks import random_network

Entry = tuple[str, dict[str, Any]]

_RANDOM = np.random.default_rng(0)
WEIGHTS = {
    ("conv",): {
        "kernel": _RANDOM.standard_normal((3, 3, 3, 6)).astype(np.float32) / 3,
        "bias": _RANDOM.standard_normal(6).astype(np.float32),
    },
    ("norm",): {
        role: _RANDOM.uniform(0.1, 1, 6).astype(np.float32)
        for role in ("gamma", "beta", "moving_mean", "moving_variance")
    },
    ("head",): {
        "kernel": _RANDOM.standard_normal((6, 4)).astype(np.float32),
        "bias": _RANDOM.standard_normal(4).astype(np.float32),
    },
}


def chain(entries: list[Entry], size: tuple[int, ...] = (9, 8, 3)) -> Network:
    layers: list[dict[str, Any]] = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, *size], "name": "i"}}
    ]
    for kind, config in entries:
        layers.append({"module": "keras.layers", "class_name": kind, "config": {"dtype": "float32", **config}})
    names = {entry["config"]["name"] for entry in layers}
    arrays = {path: roles for path, roles in WEIGHTS.items() if path[0] in names}
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
    return keras_network(MemoryModel(config, arrays))  # type: ignore[arg-type]


def model(
    conv: dict[str, Any] | None = None,
    norm: dict[str, Any] | None = None,
    activation: Entry = ("Activation", {"name": "act", "activation": "leaky_relu"}),
    pool: dict[str, Any] | None = None,
    head: dict[str, Any] | None = None,
    turned: bool = False,
    between: list[Entry] | None = None,
    pooling: str = "AveragePooling2D",
) -> Network:
    first: Entry = (
        "Conv2D",
        {"name": "conv", "filters": 6, "kernel_size": [3, 3], "padding": "same", "strides": [2, 2], **(conv or {})},
    )
    normal: Entry = ("BatchNormalization", {"name": "norm", "axis": -1, "epsilon": 1e-3, **(norm or {})})
    middle = [activation, normal] if turned else [normal, activation]
    settings = {"name": "pool", "pool_size": [3, 3], "strides": [2, 2], "padding": "same", **(pool or {})}
    last: Entry = ("Dense", {"name": "head", "units": 4, "activation": "softmax", **(head or {})})
    return chain(
        [first, *middle, *(between or []), (pooling, settings), ("GlobalAveragePooling2D", {"name": "mean"}), last]
    )


def _tensor(name: str) -> dict[str, Any]:
    config = {"shape": None, "dtype": "float32", "keras_history": [name, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def graph(entries: list[tuple[str, dict[str, Any], str]], outputs: list[str]) -> Network:
    """Layers, and bare operations, on what the text names: layers in front, or numbers."""
    first = {"batch_shape": [None, 9, 8, 3], "name": "i"}
    layers: list[dict[str, Any]] = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": first, "inbound_nodes": []}
    ]
    for kind, config, inputs in entries:
        args: list[Any] = [_tensor(one) if one.isidentifier() else float(one) for one in inputs.split()]
        module = {"Multiply": "keras.src.ops.numpy", "Sigmoid": "keras.src.ops.nn"}.get(kind, "keras.layers")
        nodes = [{"args": args, "kwargs": {}}]
        layers.append({"module": module, "class_name": kind, "config": config, "inbound_nodes": nodes})
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [[one, 0, 0] for one in outputs]}
    names = {entry["config"]["name"] for entry in layers}
    config = {"class_name": "Functional", "config": {"name": "m", "layers": layers, **ends}}
    arrays = {path: roles for path, roles in WEIGHTS.items() if path[0] in names}
    return keras_network(MemoryModel(config, arrays))  # type: ignore[arg-type]


def act(name: str) -> Entry:
    return ("Activation", {"name": "act", "activation": name})


def other(activation: Activation | None) -> Network:
    """The model with an activation that its config has no word for."""
    made = model(activation=act("gelu"))
    made["act"].operation.activation = activation  # type: ignore[attr-defined]
    return made


CASES: dict[str, tuple[Network, Network, str, str]] = {
    "padding": (
        model(),
        model(conv={"padding": [[1, 1], [1, 1]]}),
        "conv",
        "padding is 1+1, 1+1 where A's is 1+1, 0+1",
    ),
    "epsilon": (model(), model(norm={"epsilon": 1e-5}), "norm", "epsilon is 1e-05 where A's is 0.001"),
    "gelu": (
        model(activation=act("gelu")),
        other(parametric_activation("gelu", {"approximate": True})),
        "act",
        "activation is gelu (-1 gives -0.1588, 8 gives 8) where A's is gelu (-1 gives -0.1587, 8 gives 8)",
    ),
    "hard sigmoid": (
        model(activation=act("hard_sigmoid")),
        other(named_activation("hard_sigmoid", (2,))),
        "act",
        "activation is hard_sigmoid (-1 gives 0.3, 8 gives 1) where A's is hard_sigmoid (-1 gives 0.3333, 8 gives 1)",
    ),
    "slope": (
        model(activation=("LeakyReLU", {"name": "act", "negative_slope": 0.3})),
        model(activation=("LeakyReLU", {"name": "act", "negative_slope": 0.01})),
        "act",
        "(-1 gives -0.01, 8 gives 8) where A's is leaky_relu (-1 gives -0.3, 8 gives 8)",
    ),
    "relu6": (
        model(norm={"epsilon": 1e-12}, activation=act("linear"), conv={"activation": "relu"}),
        model(norm={"epsilon": 1e-12}, activation=act("linear"), conv={"activation": "elu"}),
        "conv",
        "activation is elu",
    ),
    "pooling count": (
        model(),
        model(pool={"count_include_pad": True}),
        "pool",
        "count_include_pad is True where A's is False",
    ),
    "zeros around a maximum": (
        model(pooling="MaxPooling2D"),
        model(
            pooling="MaxPooling2D",
            pool={"padding": "valid"},
            between=[("ZeroPadding2D", {"name": "zeros", "padding": [[1, 1], [0, 1]]})],
        ),
        "pool",
        "the padding counts as zeros, not as nothing",
    ),
    "kind of pooling": (model(), model(pooling="MaxPooling2D"), "pool", "the pooling is maximum where A's is mean"),
    "order": (model(), model(turned=True), "norm", "stand in the other order: A has BatchNormalization first"),
    "a layer more": (
        model(),
        model(conv={"activation": "relu"}),
        "norm",
        "B has relu ('conv') in front of it, and A has not",
    ),
    "head": (model(), model(head={"activation": "sigmoid"}), "head", "activation is sigmoid"),
    "dilation": (
        model(conv={"strides": [1, 1]}),
        model(conv={"strides": [1, 1], "dilation_rate": [2, 2]}),
        "conv",
        "dilation_rate is (2, 2) where A's is (1, 1)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_otherwise_is_named(name: str) -> None:
    a, b, first, reason = CASES[name]
    found = diff(a, b, "random")
    assert all(row.equal for row in found.rows)  # the weights are the same
    assert not found.equal
    assert isinstance(found.activations, Activations)
    assert found.activations.first == (first, first), found.activations.text
    assert reason in found.activations.explanation, found.activations.text
    assert found.verdict[-1] == found.activations.text
    assert reason in str(found)


def test_what_comes_of_a_difference_inherits_it_and_the_next_own_one_is_found() -> None:
    found = diff(model(), model(conv={"padding": [[1, 1], [1, 1]]}, head={"activation": "sigmoid"}), "random")
    told = found.activations
    assert [one.a for one in told.own] == ["conv", "head"]
    assert [one.explanation.split(" is ")[0] for one in told.own] == ["padding", "activation"]
    standings = {one.a: (one.b, one.standing) for one in told.tensors}
    for name in ("norm", "act", "pool", "mean"):
        assert standings[name] == (name, Standing.INHERITS)
    assert [standings[name][1] for name in ("conv", "head")] == [Standing.OWN] * 2
    assert not any(one.order for one in told.tensors)


def test_what_comes_of_another_shape_inherits_it() -> None:
    found = diff(model(), model(conv={"padding": "valid"}), "random")
    assert [one.a for one in found.activations.own] == ["conv"]
    assert {one.standing for one in found.activations.tensors[1:]} == {Standing.INHERITS}


def test_a_difference_right_behind_another_is_told_by_itself() -> None:
    found = diff(model(), model(conv={"padding": [[1, 1], [1, 1]]}, norm={"epsilon": 1e-5}), "random")
    assert [one.a for one in found.activations.own] == ["conv", "norm"]
    assert found.activations.own[1].explanation == "epsilon is 1e-05 where A's is 0.001"


def test_two_settings_that_are_otherwise_are_both_named_and_no_third() -> None:
    wrong = model(conv={"strides": [1, 1], "dilation_rate": [2, 2], "padding": [[3, 1], [0, 4]]})
    found = diff(model(conv={"strides": [1, 1]}), wrong, "random")
    said = found.activations.explanation
    assert said.count(" where A's is ") == 2, said
    assert "dilation_rate is (2, 2) where A's is (1, 1)" in said
    assert "padding is 3+1, 0+4 where A's is 1+1, 1+1" in said


def test_halves_of_what_both_compute_are_no_difference() -> None:
    halves: list[Entry] = [
        ("Rescaling", {"name": name, "scale": scale}) for name, scale in (("up", 2.0), ("down", 0.5))
    ]
    near = {"strides": [1, 1]}  # of one shape with the halves, so that it could stand in their place
    found = diff(model(between=halves, pool=near), model(head={"activation": "sigmoid"}, pool=near), "random")
    assert [one.a for one in found.activations.own] == ["head"]


def test_a_difference_that_one_of_two_branches_does_not_show_is_named_where_it_is() -> None:
    def branches(slope: float) -> Network:
        return graph(
            [
                ("Conv2D", {"name": "conv", "filters": 6, "kernel_size": [3, 3]}, "i"),
                ("LeakyReLU", {"name": "act", "negative_slope": slope}, "conv"),
                ("ReLU", {"name": "positive"}, "act"),
                ("AveragePooling2D", {"name": "pool", "pool_size": [2, 2]}, "act"),
            ],
            ["positive", "pool"],
        )

    found = diff(branches(0.3), branches(0.1), "random")
    assert [one.a for one in found.activations.own] == ["act"]
    assert {one.a: one.standing for one in found.activations.tensors}["positive"] is Standing.SAME


@pytest.mark.parametrize("more", [False, True])
def test_steps_that_do_together_what_the_other_does_in_one_are_named_from_either_side(more: bool) -> None:
    """Unless something else reads what is between them: then they are not one thing."""
    conv = ("Conv2D", {"name": "conv", "filters": 6, "kernel_size": [3, 3]}, "i")
    steps = [
        ("Multiply", {"name": "scaled"}, "conv 1.702"),
        ("Sigmoid", {"name": "gate"}, "scaled"),
        ("Multiply", {"name": "act"}, "conv gate"),
    ]
    behind = [
        ("Activation", {"name": "tanh", "activation": "tanh"}, "act"),
        ("GlobalAveragePooling2D", {"name": "mean"}, "tanh"),
    ]
    quick = graph([conv, *steps, *behind], ["mean", "gate"] if more else ["mean"])
    gelu = graph([conv, ("Activation", {"name": "act", "activation": "gelu"}, "conv"), *behind], ["mean"])
    own = diff(quick, gelu, "random").activations.own
    said = "against B, in A the activation is quick gelu (x sigmoid(1.702 x)) where B says gelu"
    assert ([(one.a, one.b, one.explanation) for one in own] == [("act", "act", said)]) is not more
    own = diff(gelu, quick, "random").activations.own
    assert [(one.a, one.b) for one in own] == [("act", "act")]
    assert own[0].explanation == "the activation is quick gelu (x sigmoid(1.702 x)) where A says gelu"


def test_what_cannot_be_computed_of_another_shape_inherits_nothing() -> None:
    conv: Entry = ("Conv2D", {"name": "conv", "filters": 6, "kernel_size": [3, 3], "padding": "same"})
    narrow: list[Entry] = [
        ("AveragePooling2D", {"name": "pool", "pool_size": [2, 3], "strides": [2, 2]}),
        ("Reshape", {"name": "row", "target_shape": [12, 6]}),  # of A's 5 * 4 places it can make none
        ("GlobalAveragePooling1D", {"name": "mean"}),
    ]
    wide: list[Entry] = [
        ("AveragePooling2D", {"name": "pool", "pool_size": [2, 3], "strides": [2, 2], "padding": "same"}),
        ("GlobalAveragePooling2D", {"name": "mean"}),
    ]
    found = diff(chain([conv, *wide]), chain([conv, *narrow]), "random")
    assert [one.a for one in found.activations.own] == ["pool"]
    assert {one.a: one.standing for one in found.activations.tensors}["mean"] is Standing.UNKNOWN


def test_of_several_steps_that_b_has_not_the_first_is_named() -> None:
    behind: list[Entry] = [
        ("UpSampling2D", {"name": "up", "size": [3, 2]}),
        ("ZeroPadding2D", {"name": "zeros", "padding": [[1, 2], [3, 0]]}),
    ]
    conv: Entry = ("Conv2D", {"name": "conv", "filters": 6, "kernel_size": [3, 3]})
    found = diff(chain([conv, *behind]), chain([conv]), "random")
    assert [one.a for one in found.activations.own] == ["up"]


def test_an_activation_inside_a_layer_and_one_behind_it_are_the_same() -> None:
    inside = model(conv={"activation": "relu"}, activation=act("tanh"))
    layers: list[Entry] = [
        ("ZeroPadding2D", {"name": "zeros", "padding": [[1, 1], [0, 1]]}),
        ("Conv2D", {"name": "conv", "filters": 6, "kernel_size": [3, 3], "strides": [2, 2]}),
        ("ReLU", {"name": "relu"}),
        ("BatchNormalization", {"name": "norm", "axis": -1, "epsilon": 1e-3}),
        act("tanh"),
        ("AveragePooling2D", {"name": "pool", "pool_size": [3, 3], "strides": [2, 2], "padding": "same"}),
        ("GlobalAveragePooling2D", {"name": "mean"}),
        ("Dense", {"name": "head", "units": 4}),
        ("Softmax", {"name": "last"}),
    ]
    for a, b in ((inside, chain(layers)), (chain(layers), inside)):
        found = diff(a, b, "random")
        assert found.equal, found
        assert "the outputs agree" in found.activations.text


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_agree_with_themselves(seed: int) -> None:
    found = diff(random_network(seed), random_network(seed), "random")
    assert found.equal
    assert found.activations.agree
    assert all(one.b is not None for one in found.activations.tensors)


def test_weights_explain_what_comes_of_them() -> None:
    of = ARCHITECTURES["square"]
    arrays = weights(of, 0)
    wrong = {name: dict(roles) for name, roles in arrays.items()}
    wrong["conv1"]["kernel"] = arrays["conv1"]["kernel"][::-1]
    found = diff(keras_model(of, arrays), keras_model(of, wrong), "random")
    assert found.activations.first == ("conv1", "conv1")
    assert "its weights differ (kernel: flipped on H)" in found.activations.text


def test_inputs_of_ones_own(tmp_path: Path) -> None:
    one = network("chain")
    given = inputs_for(one, 3)
    found = diff(one, network("chain"), given)
    assert found.equal
    assert "the outputs agree" in found.verdict[-1]


def test_without_a_graph_it_says_so() -> None:
    of = ARCHITECTURES["square"]
    arrays = weights(of, 0)
    found = diff(keras_model(of, arrays), torch_model(torch_arrays(of, arrays)), "random")
    assert found.equal
    assert found.activations.text == "not compared: they need a graph, and B holds weights alone"


def test_other_inputs_are_refused() -> None:
    small = chain([("GlobalAveragePooling2D", {"name": "mean"})], (5, 4, 3))
    with pytest.raises(CnnlensError, match="B takes inputs of"):
        diff(model(), small, "random")
