"""The audit of attention: honest float32 passes whatever the size of the numbers, and a planted fault is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.checking import Audit, Verdict, audit
from cnnlens.network.graph import map_refs
from cnnlens.reference.keras.attention import attend
from tests.support.attention_models import CASES, Case, inputs_of, network_of, together
from tests.support.audited import unexplained

MANY = {
    "tokens": Case("MultiHeadAttention", {"num_heads": 3, "key_dim": 8}, (23, 17)),
    "tokens of a map": Case("MultiHeadAttention", {"num_heads": 2, "key_dim": 9}, (8, 6, 13)),
    "many grouped": Case(
        "GroupQueryAttention", {"head_dim": 7, "num_query_heads": 4, "num_key_value_heads": 2}, (40, 21)
    ),
    "many plain": Case("Attention", {}, (40, 21)),
    "many added": Case("AdditiveAttention", {}, (40, 21)),
}  # fmt: skip
ALL = {**CASES, **MANY}


def _arrays(case: Case, numbers: str) -> list[np.ndarray]:
    arrays = inputs_of(case, count=4)
    if numbers == "constant":
        arrays = [np.full_like(x, 0.7) for x in arrays]
    elif numbers == "equal tokens":
        arrays = [np.broadcast_to(x[:1, (0,) * (x.ndim - 2)] if x.ndim == 2 else x.reshape(-1, x.shape[-1])[0], x.shape)
                  for x in arrays]  # fmt: skip
    else:
        arrays = [x * float(numbers) for x in arrays]
    return [np.asarray(x, np.float32) for x in arrays]


def _audit(case: Case, arrays: list[np.ndarray], made: Any = None, **changed: Any) -> Audit:
    """The audit of what ``made(operation, weights, *args)`` gives in float32; of the operation's own without it."""
    network = network_of(case)
    call = network.calls_by_name["looks"]
    values = dict(zip(network.inputs, arrays, strict=True))
    args = map_refs(call.args, values.__getitem__)
    kwargs = dict(call.kwargs)
    weights = call.layer.computing_weights()
    output = call.layer.operation({**weights, **changed}, *args, **kwargs) if made is None else made(weights, *args)
    with unexplained():
        return audit(call, weights, args, kwargs, output)


@pytest.mark.parametrize("numbers", ["1", "1e-3", "1e3", "constant", "equal tokens"])
@pytest.mark.parametrize("name", ALL)
def test_honest_float32_passes(name: str, numbers: str) -> None:
    found = _audit(ALL[name], _arrays(ALL[name], numbers))
    assert found.verdict in (Verdict.EXACT, Verdict.FLOAT32), found
    assert found.verdict is Verdict.EXACT or found.bits > 20, found


HEADS = ["self", "cross", "causal", "map", "grouped", "tokens"]


def _weight(case: Case, name: str) -> np.ndarray:
    return network_of(case)["looks"].weights[name]


@pytest.mark.parametrize("name", HEADS)
def test_two_heads_exchanged_in_one_kernel_are_seen(name: str) -> None:
    kernel = _weight(ALL[name], "query_dense/kernel")[
        :, [1, 0, *range(2, _weight(ALL[name], "query_dense/kernel").shape[1])]
    ]
    found = _audit(ALL[name], _arrays(ALL[name], "1"), **{"query_dense/kernel": kernel})
    assert found.verdict.fault, found


@pytest.mark.parametrize("name", HEADS)
def test_a_missing_factor_is_seen(name: str) -> None:
    case = ALL[name]
    names = ["query_dense/kernel", *(["query_dense/bias"] if case.config.get("use_bias", True) else [])]
    factor = np.sqrt(np.float32(_weight(case, "query_dense/kernel").shape[-1]))
    found = _audit(case, _arrays(case, "1"), **{one: _weight(case, one) * factor for one in names})
    assert found.verdict.fault, found


@pytest.mark.parametrize("numbers", ["1", "1e-3", "1e3", "constant"])
@pytest.mark.parametrize("name", [one for one in HEADS if one != "causal"])
def test_a_missing_output_bias_is_seen(name: str, numbers: str) -> None:
    bias = np.zeros_like(_weight(ALL[name], "output_dense/bias"))
    found = _audit(ALL[name], _arrays(ALL[name], numbers), **{"output_dense/bias": bias})
    assert found.verdict.fault, found


def test_a_softmax_over_the_wrong_axis_is_seen() -> None:
    def made(weights: Any, args: list[np.ndarray]) -> np.ndarray:
        query, value = args
        scores = query @ np.swapaxes(value, -1, -2)
        shares = np.exp(scores - scores.max(axis=-2, keepdims=True))
        return (shares / shares.sum(axis=-2, keepdims=True)) @ value

    def honest(_: Any, args: list[np.ndarray]) -> np.ndarray:
        return attend(args[0], args[1], args[1], 1.0)[0]

    case = Case("Attention", {}, (6, 5), (7, 5))
    assert _audit(case, _arrays(case, "1"), made).verdict.fault
    right = _audit(case, _arrays(case, "1"), honest)
    assert not right.verdict.fault


@pytest.mark.framework
@pytest.mark.parametrize("numbers", ["1", "1e-3", "1e3", "constant", "equal tokens"])
@pytest.mark.parametrize("backend", ["keras-tensorflow", "keras-jax", "keras-torch"])
def test_keras_passes(backend: str, numbers: str) -> None:
    # JAX's own function, which Keras calls there, takes no values of another width than the keys'.
    cases = {name.replace(" ", "_"): case for name, case in ALL.items() if backend != "keras-jax" or name != "cross"}
    network = together(cases)
    arrays = [np.moveaxis(x, -1, 1) for case in cases.values() for x in _arrays(case, numbers)]
    given = {ref.name: np.ascontiguousarray(x) for ref, x in zip(network.inputs, arrays, strict=True)}
    found = cnnlens.check(network, given, backends=[backend])
    assert not [run.error for run in found.runs if run.error]
    seen = {row.name: next(iter(row.audits.values())) for row in found.rows}
    assert seen.keys() >= cases.keys()
    for name, one in seen.items():
        assert one.verdict in (Verdict.EXACT, Verdict.FLOAT32), (name, one)
