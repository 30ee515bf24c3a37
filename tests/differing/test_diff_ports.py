"""Mistakes of porters in single layers: normalisations, transposed convolutions, embeddings, PReLU, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnlens.differing.differ import diff
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.testing import MemoryModel
from tests.support.diff_models import Array, replay, state_dict

_RANDOM = np.random.default_rng(0)


def drawn(*shape: int) -> Array:
    return _RANDOM.standard_normal(shape).astype(np.float32)


def keras(size: tuple[int, ...], kind: str, config: dict[str, Any], arrays: dict[str, Array]) -> Network:
    entries: list[dict[str, Any]] = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, *size], "name": "i"}},
        {"module": "keras.layers", "class_name": kind, "config": {"name": "layer", "dtype": "float32", **config}},
    ]
    held = {("layer",): {role: np.ascontiguousarray(array) for role, array in arrays.items()}}
    return keras_network(MemoryModel({"class_name": "Sequential", "config": {"name": "m", "layers": entries}}, held))  # type: ignore[arg-type]


# -- normalisation -----------------------------------------------------------------------------------------------------

NORM = {"weight": drawn(7), "bias": drawn(7), "running_mean": drawn(7), "running_var": drawn(7) ** 2 + np.float32(0.1)}
_WORDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def norm(**changed: Array) -> Network:
    arrays = {role: changed.get(role, NORM[name]) for role, name in _WORDS.items()}
    return keras((5, 4, 7), "BatchNormalization", {"axis": -1, "epsilon": 1e-3}, arrays)


VARIANCE = NORM["running_var"]
NORMS: dict[str, tuple[dict[str, Array], str, str]] = {
    "mean and variance exchanged": (
        {"moving_mean": VARIANCE, "moving_variance": NORM["running_mean"]}, "moving_mean",
        "A's moving_mean is B's moving_variance",
    ),
    "gamma and beta exchanged": ({"gamma": NORM["bias"], "beta": NORM["weight"]}, "gamma", "A's gamma is B's beta"),
    "a standard deviation": (
        {"moving_variance": np.sqrt(VARIANCE)}, "moving_variance", "A holds the standard deviation",
    ),
    "an inverse standard deviation": (
        {"moving_variance": 1 / np.sqrt(VARIANCE + np.float32(1e-5))}, "moving_variance",
        "A holds the inverse standard deviation, epsilon 1e-05",
    ),
    "unbiased": ({"moving_variance": VARIANCE * np.float32(64 / 63)}, "moving_variance", "A is 1.01587 times B"),
    "left at their defaults": ({"moving_variance": np.ones(7, np.float32)}, "moving_variance", "1 everywhere in A"),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_what_became_of_a_batch_norm_is_named(name: str) -> None:
    changed, role, words = NORMS[name]
    torch = state_dict({f"n.{key}": array for key, array in NORM.items()})
    assert diff(norm(), torch).equal
    found = diff(norm(**changed), torch)
    wrong = {one.role: one for one in found.rows[0].arrays if not one.finding.equal}
    assert set(wrong) == set(changed)
    assert words in wrong[role].explanation, found
    line = wrong[role].finding.line
    if line is not None:
        made = replay({"executable": line.executable, "text": line.text}, NORM)
        np.testing.assert_allclose(made, changed[role], rtol=1e-6)


def test_variances_of_one_are_no_ones_root() -> None:
    """What a root and an inverse leave as it is shows neither."""
    vectors = {"n.weight": drawn(2), "n.running_mean": drawn(2)}
    one, other = ({**vectors, "n.running_var": array} for array in (np.ones(2, np.float32), drawn(2) ** 2))
    text = str(diff(state_dict(one), state_dict(other)))
    assert "standard deviation" not in text
    assert "inverse" not in text
    assert "1 everywhere in A" in text


# -- transposed convolutions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        (lambda w: w, "same"),
        (lambda w: w[:, :, ::-1, ::-1], "flip:HW"),
        (lambda w: w.swapaxes(0, 1), "io"),
        (lambda w: w.swapaxes(0, 1)[:, :, ::-1, ::-1], "flip:HW+io"),
        (lambda w: w.swapaxes(2, 3), "hw"),
    ],
)
def test_a_transposed_kernel_read_otherwise_is_named(change: Callable[[Array], Array], tag: str) -> None:
    kernel, bias = drawn(4, 4, 3, 3), drawn(4)  # (in, out, H, W), square throughout
    config = {"filters": 4, "kernel_size": [3, 3], "padding": "valid"}
    made = keras((6, 5, 4), "Conv2DTranspose", config, {"kernel": change(kernel).transpose(2, 3, 1, 0), "bias": bias})
    found = diff(made, state_dict({"up.weight": kernel, "up.bias": bias}))
    (one,) = (one for one in found.rows[0].arrays if one.role == "kernel")
    assert one.finding.tag == tag, found


# -- rows of a table ---------------------------------------------------------------------------------------------------

TABLE = drawn(11, 5)
_NONE = np.zeros((1, 5), np.float32)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.concatenate([_NONE, TABLE]), "rows 2 to 12 of A are 1 to 11 of B, and A has 1 more"),
        (TABLE[1:], "rows 1 to 10 of A are 2 to 11 of B, and B has 1 more"),
        (np.concatenate([_NONE, TABLE[:-1]]), "rows 2 to 11 of A are 1 to 10 of B"),
        (np.concatenate([TABLE, drawn(3, 5)]), "rows 1 to 11 of A are 1 to 11 of B, and A has 3 more"),
    ],
)
def test_an_embedding_off_by_rows_is_named(array: Array, words: str) -> None:
    made = keras((7,), "Embedding", {"input_dim": len(array), "output_dim": 5}, {"embeddings": array})
    found = diff(made, state_dict({"emb.weight": TABLE}))
    assert found.rows[0].explanation == f"embeddings: {words}", found
    if len(array) < len(TABLE):
        assert found.rows[0].line is not None
        np.testing.assert_array_equal(replay({"executable": found.rows[0].line.executable,
                                              "text": found.rows[0].line.text}, {"weight": TABLE}), array)  # fmt: skip


def test_a_head_with_a_class_for_the_background_is_named() -> None:
    kernel, bias = drawn(6, 9), drawn(9)
    made = keras((6,), "Dense", {"units": 9}, {"kernel": kernel, "bias": bias})
    found = diff(made, state_dict({"head.weight": kernel.T[1:].copy(), "head.bias": bias[1:].copy()}))
    assert "output channels 2 to 9 of A are 1 to 8 of B, and A has 1 more" in found.rows[0].explanation


def test_another_table_of_another_size_is_another() -> None:
    made = keras((7,), "Embedding", {"input_dim": 12, "output_dim": 5}, {"embeddings": drawn(12, 5)})
    assert diff(made, state_dict({"emb.weight": TABLE})).rows[0].status == "another shape"


# -- slopes ------------------------------------------------------------------------------------------------------------

SLOPES = np.abs(drawn(6))


@pytest.mark.parametrize(
    ("alpha", "slopes", "equal"),
    [
        (SLOPES.reshape(1, 1, 6), SLOPES, True),
        (np.broadcast_to(SLOPES, (5, 4, 6)), SLOPES, True),
        (np.full((1, 1, 6), 0.25, np.float32), np.full(1, 0.25, np.float32), True),
        (np.broadcast_to(SLOPES[:4, None], (5, 4, 6)), SLOPES, False),
        (SLOPES.reshape(1, 1, 6), np.full(1, 0.25, np.float32), False),
    ],
)
def test_slopes_repeated_along_axes_are_the_same(alpha: Array, slopes: Array, equal: bool) -> None:
    shared = [1, 2] if alpha.shape[:2] == (1, 1) else None
    made = keras((5, 4, 6), "PReLU", {"shared_axes": shared}, {"alpha": alpha})
    torch = state_dict({"act.weight": slopes})
    for a, b in ((made, torch), (torch, made)):
        found = diff(a, b)
        assert found.equal is equal, found
        line = found.rows[0].line
        if equal and line is not None:
            given = {"alpha": alpha} if a is torch else {"weight": slopes}
            made_of = replay({"executable": line.executable, "text": line.text}, given)
            np.testing.assert_array_equal(made_of, slopes if a is torch else alpha)


# -- attention ---------------------------------------------------------------------------------------------------------

HEADS, WIDTH, ALL = 3, 4, 12
PACKED, OUT = drawn(3 * ALL, ALL), drawn(ALL, ALL)
PACKED_BIAS, OUT_BIAS = drawn(3 * ALL), drawn(ALL)


def attention(
    order: tuple[int, ...] = (0, 1, 2),
    read: Callable[[Array], Array] = lambda w: w.T.reshape(ALL, HEADS, WIDTH),
    out: Callable[[Array], Array] = lambda w: w.T.reshape(HEADS, WIDTH, ALL),
) -> Network:
    tensor = {"class_name": "__keras_tensor__",
              "config": {"shape": [None, 7, ALL], "dtype": "float32", "keras_history": ["i", 0, 0]}}  # fmt: skip
    config = {"name": "looks", "num_heads": HEADS, "key_dim": WIDTH, "value_dim": WIDTH, "use_bias": True,
              "output_shape": None, "attention_axes": [1], "dropout": 0.0, "dtype": "float32"}  # fmt: skip
    layers = [
        {"module": "keras.layers", "class_name": "InputLayer", "name": "i", "inbound_nodes": [],
         "config": {"batch_shape": [None, 7, ALL], "name": "i"}},
        {"module": "keras.layers", "class_name": "MultiHeadAttention", "name": "looks", "config": config,
         "inbound_nodes": [{"args": [tensor, tensor], "kwargs": {}}]},
    ]  # fmt: skip
    kernels, biases = PACKED.reshape(3, ALL, ALL), PACKED_BIAS.reshape(3, HEADS, WIDTH)
    arrays: dict[tuple[str, ...], dict[str, Array]] = {
        ("looks", f"{name}_dense"): {"kernel": np.ascontiguousarray(read(kernels[place])), "bias": biases[place]}
        for name, place in zip(("query", "key", "value"), order, strict=True)
    }
    arrays["looks", "output_dense"] = {"kernel": np.ascontiguousarray(out(OUT)), "bias": OUT_BIAS}
    graph = {"name": "m", "layers": layers, "input_layers": [["i", 0, 0]], "output_layers": [["looks", 0, 0]]}
    whole = {"module": "keras", "class_name": "Functional", "config": graph}
    return keras_network(MemoryModel(whole, arrays))  # type: ignore[arg-type]


TORCH = {"looks.in_proj_weight": PACKED, "looks.in_proj_bias": PACKED_BIAS, "looks.out_proj.weight": OUT,
         "looks.out_proj.bias": OUT_BIAS}  # fmt: skip


def test_a_right_port_of_attention_is_equal() -> None:
    for a, b in ((attention(), state_dict(TORCH)), (state_dict(TORCH), attention())):
        assert not [note for note in (*a.notes, *b.notes) if "Conv1D" in note]
        found = diff(a, b)
        assert found.equal, found
        assert len(found.rows) == 4


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: attention((1, 0, 2)), "A's query is B's key"),
        (lambda: attention((2, 0, 1)), "A's value is B's key"),
        (lambda: attention(read=lambda w: w.reshape(ALL, HEADS, WIDTH)), "in and out swapped"),
        (lambda: attention(read=lambda w: w.T.reshape(ALL, WIDTH, HEADS).transpose(0, 2, 1)), "read as FAI"),
        (lambda: attention(out=lambda w: w.reshape(HEADS, WIDTH, ALL)), "in and out swapped"),
    ],
)
def test_a_wrong_port_of_attention_is_named(made: Callable[[], Network], words: str) -> None:
    found = diff(made(), state_dict(TORCH))
    assert not found.equal
    assert words in str(found), found
    # What is said of several layers at once holds for each of them.
    assert not [said for said in found.verdict if "layers" in said and "A's " in said and "exchanged" in said], found
