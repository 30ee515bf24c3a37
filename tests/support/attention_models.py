"""Attention layers made here without Keras, each with weights, and what they give by sums over tokens one by one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.network.network import Network
from tests.support.to_torch_models import called, entry, functional, given, tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One layer: its class and settings, the shapes of query, value and key, and what it is called with."""

    kind: str
    config: dict[str, Any]
    query: tuple[int, ...]
    value: tuple[int, ...] | None = None
    key: tuple[int, ...] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def listed(self) -> bool:
        return self.kind in ("Attention", "AdditiveAttention")

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of query, value and key, without the batch; those that are the same tensor once."""
        return [one for one in (self.query, self.value, self.key) if one is not None]


_HEADS = {"num_heads": 2, "key_dim": 3}
_GROUPS = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
CASES: dict[str, Case] = {
    "self": Case("MultiHeadAttention", _HEADS, (6, 5)),
    "cross": Case("MultiHeadAttention", {**_HEADS, "value_dim": 4, "output_shape": 8}, (6, 5), (7, 9), (7, 10)),
    "causal": Case("MultiHeadAttention", {**_HEADS, "use_bias": False}, (6, 5), kwargs={"use_causal_mask": True}),
    "map": Case("MultiHeadAttention", {"num_heads": 3, "key_dim": 2, "attention_axes": [1, 2]}, (4, 6, 5)),
    "rows": Case("MultiHeadAttention", {**_HEADS, "attention_axes": [-2], "output_shape": [2, 7]}, (4, 6, 5)),
    "gate": Case("MultiHeadAttention", {**_HEADS, "use_gate": True}, (6, 5)),
    "scores": Case("MultiHeadAttention", _HEADS, (6, 5), (7, 9), kwargs={"return_attention_scores": True}),
    "grouped": Case("GroupQueryAttention", _GROUPS, (6, 5), (7, 5)),
    "grouped causal": Case("GroupQueryAttention", _GROUPS, (6, 5), kwargs={"use_causal_mask": True}),
    "dot": Case("Attention", {"use_scale": True}, (6, 5), (7, 5)),
    "dot of three": Case("Attention", {}, (6, 5), (7, 9), (7, 5)),
    "concat": Case("Attention", {"use_scale": True, "score_mode": "concat"}, (6, 5), (7, 5)),
    "added": Case("AdditiveAttention", {}, (6, 5), (7, 5)),
    "added causal": Case("AdditiveAttention", {"use_scale": False}, (6, 5), kwargs={"use_causal_mask": True}),
}  # fmt: skip


def weights_of(case: Case, seed: int = 3) -> dict[str, Array]:
    """Float32 arrays by the names that a network gives them."""
    draw = np.random.default_rng(seed)
    config, query = case.config, case.query[-1]
    value = (case.value or case.query)[-1]
    key = (case.key or case.value or case.query)[-1]
    shapes: dict[str, tuple[int, ...]] = {}
    if case.listed:
        if config.get("use_scale", case.kind == "AdditiveAttention"):
            shapes["scale"] = () if case.kind == "Attention" else (query,)
        if config.get("score_mode") == "concat":
            shapes["concat_score_weight"] = ()
    else:
        heads = config.get("num_heads") or config["num_query_heads"]
        shared = config.get("num_key_value_heads", heads)
        width = config.get("key_dim") or config["head_dim"]
        wide = config.get("value_dim", width)
        made = config.get("output_shape") or query
        outer: tuple[int, ...] = tuple(cast("list[int]", made)) if isinstance(made, list) else (made,)
        kernels = {"query": (query, heads, width), "key": (key, shared, width), "value": (value, shared, wide)}
        if config.get("use_gate"):
            kernels["gate"] = (query, heads, wide)
        for name, shape in kernels.items():
            shapes[f"{name}_dense/kernel"], shapes[f"{name}_dense/bias"] = shape, shape[1:]
        shapes["output_dense/kernel"], shapes["output_dense/bias"] = (heads, wide, *outer), outer
        if not config.get("use_bias", True):
            shapes = {name: shape for name, shape in shapes.items() if not name.endswith("bias")}
    return {name: np.asarray(draw.normal(0.1, 0.4, shape), np.float32) for name, shape in shapes.items()}


def network_of(case: Case) -> Network:
    """A network of the one layer, ``looks``, and its inputs."""
    return together({"looks": case})


def together(cases: Mapping[str, Case]) -> Network:
    """A network of several layers by name, each on inputs of its own."""
    layers: list[dict[str, Any]] = []
    arrays: dict[tuple[str, ...], dict[str, Array]] = {}
    for name, case in cases.items():
        names = [f"{name}_{place}" for place in range(len(case.shapes))]
        layers += [given(one, *shape) for one, shape in zip(names, case.shapes, strict=True)]
        refs = [tensor(one) for one in (names if len(names) > 1 else names * 2)]
        layers.append(called(entry(case.kind, name, **case.config), [refs] if case.listed else refs, **case.kwargs))
        for weight, array in weights_of(case).items():
            *inside, role = weight.split("/")
            arrays.setdefault((name, *inside), {})[role] = array
    return functional(layers, list(cases), arrays, version="3.15.1")


def inputs_of(case: Case, count: int = 3, seed: int = 5) -> list[Array]:
    """Float64 inputs ``(N, *tokens, C)``, of the network's inputs in order."""
    draw = np.random.default_rng(seed)
    return [draw.normal(0.1, 1.2, (count, *shape)) for shape in case.shapes]


def by_hand(case: Case, weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    """What the layer gives, each token of each example by itself."""
    query, value, key = [*inputs, *[inputs[-1]] * (3 - len(inputs))]
    if len(inputs) == 2:
        key = value
    axes = case.config.get("attention_axes") or list(range(1, query.ndim - 1))
    axes = [axis % query.ndim for axis in axes]
    causal = bool(case.kwargs.get("use_causal_mask"))
    config = case.config

    def projected(name: str, token: Array) -> Array:
        made = np.einsum("i,iaf->af", token, weights[f"{name}_dense/kernel"].astype(np.float64))
        return made + weights[f"{name}_dense/bias"] if config.get("use_bias", True) else made

    places = list(itertools.product(*(range(size) for size in query.shape[:-1])))
    sources = list(itertools.product(*(range(size) for size in key.shape[:-1])))
    found: dict[tuple[int, ...], Array] = {}
    for place in places:
        near = [
            one
            for one in sources
            if all(one[axis] == place[axis] for axis in range(query.ndim - 1) if axis not in axes)
            and (not causal or one[1] <= place[1])
        ]
        if case.listed:
            found[place] = _plain(case, weights, query[place], [key[one] for one in near], [value[one] for one in near])
            continue
        q = projected("query", query[place])
        heads: list[Array] = []
        for head in range(len(q)):
            shared = head * len(projected("key", key[near[0]])) // len(q)
            scores = np.array([q[head] @ projected("key", key[one])[shared] for one in near]) / np.sqrt(q.shape[-1])
            share = np.exp(scores) / np.exp(scores).sum()
            taken = sum(part * projected("value", value[one])[shared] for part, one in zip(share, near, strict=True))
            heads.append(np.asarray(taken))
        together = np.stack(heads)
        if config.get("use_gate"):
            together = together / (1 + np.exp(-projected("gate", query[place])))
        made = np.tensordot(together, weights["output_dense/kernel"].astype(np.float64), 2)
        found[place] = made + weights["output_dense/bias"] if config.get("use_bias", True) else made
    return np.stack([found[place] for place in places]).reshape(*query.shape[:-1], *found[places[0]].shape)


def _plain(case: Case, weights: Mapping[str, Array], query: Array, keys: list[Array], values: list[Array]) -> Array:
    scale = weights.get("scale", np.float32(1)).astype(np.float64)
    if case.kind == "AdditiveAttention":
        scores = np.array([(scale * np.tanh(query + key)).sum() for key in keys])
    elif case.config.get("score_mode") == "concat":
        factor = weights["concat_score_weight"].astype(np.float64)
        scores = np.array([factor * np.tanh(scale * (query + key)).sum() for key in keys])
    else:
        scores = np.array([scale * (query @ key) for key in keys])
    share = np.exp(scores) / np.exp(scores).sum()
    return np.asarray(sum(part * value for part, value in zip(share, values, strict=True)))
