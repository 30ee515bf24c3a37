"""Attention in the reference: values against sums token by token, shapes from shapes alone, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference import build
from tests.support.attention_models import CASES, by_hand, inputs_of, network_of, weights_of


def _canonical(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -1, 1)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula(name: str) -> None:
    case = CASES[name]
    network, inputs = network_of(case), inputs_of(case)
    wanted = by_hand(case, weights_of(case), inputs)
    given = {ref.name: _canonical(x) for ref, x in zip(network.inputs, inputs, strict=True)}
    for dtype, bound in (("float64", 1e-12), ("float32", 3e-6)):
        got = network.run(given, layers=["looks"], dtype=dtype)["looks"]
        assert got.dtype == dtype
        np.testing.assert_allclose(got, _canonical(wanted), rtol=0, atol=bound * np.abs(wanted).max())
    assert network["looks"].stored_output_shape == (None, *wanted.shape[1:])


def test_the_shares_come_as_a_second_output() -> None:
    case = CASES["scores"]
    network, inputs = network_of(case), inputs_of(case)
    operation = network["looks"].operation
    weights = {name: array.astype(np.float64) for name, array in weights_of(case).items()}
    _, shares = operation(weights, *inputs, return_attention_scores=True)
    assert shares.shape == (3, 2, 6, 7)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-12)
    shapes = operation.output_shape(*[(None, *shape) for shape in case.shapes], return_attention_scores=True)
    assert shapes == [(None, 6, 5), (None, 2, 6, 7)]


def test_a_causal_token_takes_nothing_from_those_behind_it() -> None:
    case = CASES["causal"]
    network, (x,) = network_of(case), inputs_of(case)
    name = network.inputs[0].name
    before = network.run({name: _canonical(x)}, layers=["looks"])["looks"]
    x[:, 4:] += 7
    after = network.run({name: _canonical(x)}, layers=["looks"])["looks"]
    np.testing.assert_array_equal(before[..., :4], after[..., :4])
    assert not np.array_equal(before[..., 4], after[..., 4])


@pytest.mark.parametrize(
    ("kind", "config", "call", "reason"),
    [
        ("MultiHeadAttention", {}, {}, "num_heads must be a whole number"),
        ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "sliding_window": 4}, {}, "sliding_window"),
        ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "attention_axes": [0]}, {}, "attention_axes"),
        ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 3}, {}, "cannot share 3"),
        ("Attention", {"score_mode": "mine\x1b"}, {}, r"score_mode: mine\\x1b"),
        ("Attention", {}, {}, "a list of a query"),
    ],
)
def test_what_is_not_computed_is_refused(kind: str, config: Any, call: Any, reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        build(kind, "keras.layers", config).output_shape((None, 6, 5), (None, 6, 5), **call)
    assert "\n" not in str(caught.value)


def test_a_causal_mask_over_a_map_is_refused() -> None:
    operation = build("MultiHeadAttention", "keras.layers", {"num_heads": 2, "key_dim": 3})
    with pytest.raises(UnsupportedLayerError, match=r"\(N, T, C\) alone"):
        operation.output_shape((None, 4, 6, 5), (None, 4, 6, 5), use_causal_mask=True)


@pytest.mark.parametrize("name", ["grouped", "cross", "gate"])
def test_projections_have_kernels_by_head(name: str) -> None:
    layer = network_of(CASES[name])["looks"]
    for weight in layer.stored.values():
        assert weight.kind == CASES[name].kind or weight.kind == "unknown", weight.name
    kernel = layer.kernels["query_dense/kernel"]
    heads, width = layer.stored["query_dense/kernel"].stored.shape[1:]
    assert kernel.shape == (heads * width, 5)
