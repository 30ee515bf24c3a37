"""Recurrent layers under the detective: right ports are equal however many cells and biases, wrong ones are named."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlens.differing.differ import diff
from cnnlens.differing.result import Diff
from tests.support import recurrent_ports as ports
from tests.support.diff_models import replay, state_dict
from tests.support.recurrent_ports import GATES, MISTAKES, keras_arrays, keras_model, ported, torch_network, torch_state


def changed(state: ports.State, **arrays: np.ndarray) -> ports.State:
    return {**state, **{f"rnn.{name}": array for name, array in arrays.items()}}


def check_lines(found: Diff) -> None:
    """Every line of NumPy, run again from the JSON, gives A's array (or what A's arrays come to)."""
    arrays = [
        {name.rpartition("/")[2]: np.asarray(array) for layer in side.layers for name, array in layer.weights.items()}
        for side in (found.a, found.b)
    ]
    for row in found.to_json()["rows"]:
        for one in row["arrays"]:
            line = one["line"]
            if line is None or "," in line["text"].partition(" = ")[0] or "_plus_" in line["text"]:
                continue
            made = replay(line, arrays[1])
            np.testing.assert_allclose(made, arrays[0][line["text"].partition(" = ")[0]], rtol=1e-6)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(("levels", "both"), [(1, False), (2, False), (1, True), (2, True)])
def test_a_right_port_is_equal(kind: str, levels: int, both: bool) -> None:
    state = torch_state(kind, levels, both)
    pair = ported(kind, state, both), torch_network(state)
    for a, b in (pair, pair[::-1]):
        found = diff(a, b)
        assert found.equal, found
        assert found.verdict[0].startswith("equal: every array of A is B's")
        assert len(found.rows) == levels * (1 + both)
        assert all(one.finding.equal for row in found.rows for one in row.arrays)
        if levels == 1 and not both:
            check_lines(found)


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("turned", [False, True], ids=["keras first", "torch first"])
def test_a_wrong_port_is_named(name: str, turned: bool) -> None:
    kind, make, roles, words = MISTAKES[name]
    state = torch_state(kind)
    pair = keras_model(kind, {"_l0": make(state)}), torch_network(state)
    found = diff(*(pair[::-1] if turned else pair))
    (row,) = found.rows
    if "biases exchanged" in name:
        words = "input bias is B's recurrent bias"
    for one in row.arrays:
        if one.role in roles:
            assert one.finding.status == "explained", one
            assert words in one.explanation, one.explanation
        else:
            assert one.finding.equal, one
    check_lines(found)


def test_the_order_of_gates_is_said_in_each_frameworks_words() -> None:
    state = torch_state("GRU")
    text = str(diff(keras_model("GRU", {"_l0": keras_arrays("GRU", state, order=(0, 1, 2))}), torch_network(state)))
    assert "PyTorch's order is r z n and Keras' z r h" in text
    assert "reshaped" not in text


def test_biases_with_the_same_effect_are_equal() -> None:
    """A cell adds its two biases; a GRU's candidate alone does not."""
    state = torch_state("LSTM")
    both = state["rnn.bias_ih_l0"], state["rnn.bias_hh_l0"]
    moved = changed(state, bias_ih_l0=both[0] + both[1], bias_hh_l0=np.zeros_like(both[1]))
    found = diff(torch_network(state), torch_network(moved))
    assert found.equal, found
    assert "share their sum otherwise" in str(found)
    state = torch_state("GRU")
    i, h = state["rnn.bias_ih_l0"], state["rnn.bias_hh_l0"]
    gates, last = slice(0, 14), slice(14, 21)
    first = np.concatenate([i[gates] + h[gates], i[last]])
    second = np.concatenate([0 * h[gates], h[last]])
    assert diff(torch_network(state), torch_network(changed(state, bias_ih_l0=first, bias_hh_l0=second))).equal
    summed = changed(state, bias_ih_l0=i + h, bias_hh_l0=0 * h)
    found = diff(torch_network(state), torch_network(summed))
    assert not found.equal
    assert "B holds the sum of the two biases in one" in str(found)


@pytest.mark.parametrize("kind", GATES)
def test_a_dropped_bias_is_no_rounding(kind: str) -> None:
    state = torch_state(kind)
    dropped = changed(state, bias_hh_l0=np.zeros_like(state["rnn.bias_hh_l0"]))
    assert not diff(torch_network(state), torch_network(dropped)).equal


def test_a_name_that_only_one_unit_allows_has_its_rival_beside_it() -> None:
    """With one unit, gates backwards are rows backwards: both are said."""
    state = torch_state("LSTM", units=1)
    wrong = keras_arrays("LSTM", state)
    wrong["bias"] = wrong["bias"][::-1].copy()
    found = diff(keras_model("LSTM", {"_l0": wrong}), torch_network(state))
    (bias,) = (one for one in found.rows[0].arrays if one.role == "bias")
    assert "gates in the order o g f i" in bias.explanation
    assert "(for this shape the same as: channels reversed)" in bias.explanation


def test_a_layer_of_ones_own_may_call_its_arrays_so() -> None:
    found = diff(state_dict({"own.weight_ih": np.ones((4, 3), np.float32)}), state_dict({}))
    assert found.rows[0].status == "missing"
