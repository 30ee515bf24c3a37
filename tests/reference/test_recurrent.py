"""Recurrent and locally connected layers: the reference against Keras, and audits that blame nobody who rounds.

Keras computes the truth in float64 once a session, in a process of its own. Keras 2, which alone has locally connected
layers and another ``hard_sigmoid``, stands here as loops over its own definitions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product as box
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.backend import handover
from cnnlens.checking import Audit, audit
from cnnlens.errors import UnsupportedLayerError
from cnnlens.files.keras.graph import layer_spec
from cnnlens.files.keras.masks import MaskFlow
from cnnlens.files.keras.operations import make_operation
from cnnlens.kinds import kind_of
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.network.masks import Mask
from cnnlens.reference import build
from cnnlens.reference.executor import Executor
from tests.support import recurrent_models
from tests.support.audited import unexplained
from tests.support.once import Files, needs

Weights = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def folder(framework_files: Files) -> Path:
    needs("keras", "tensorflow")

    def make(place: Path) -> None:
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, str(Path(recurrent_models.__file__)), str(place)]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    return framework_files("recurrent", make)


def truth_of(folder: Path, name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    with np.load(folder / f"{name}.npz") as found:
        arrays = dict(found)
    return [[arrays[f"{letter}{n}"] for n in range(len([k for k in arrays if k[0] == letter]))] for letter in "xy"]  # type: ignore[return-value]


# The reference is Keras -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", recurrent_models.MODELS)
def test_outputs_and_shapes_are_those_of_keras(folder: Path, name: str, suffix: str) -> None:
    inputs, outputs = truth_of(folder, name)
    network = cnnlens.open(folder / f"{name}{suffix}")
    names = [ref.name for ref in network.outputs]
    assert len(names) == len(outputs)
    exact = Executor(network, layers=names).stored(inputs)
    single = Executor(network, dtype="float32", layers=names).stored(inputs)
    for ref, wanted in zip(network.outputs, outputs, strict=True):
        assert network.shape(ref) == (None, *wanted.shape[1:])
        assert exact[ref.name].shape == wanted.shape
        assert single[ref.name].dtype == np.float32
        size = np.abs(wanted).max()
        # Keras' attention has its factor in float32 always.
        assert np.abs(exact[ref.name] - wanted).max() <= (1e-8 if name == "masked_attention" else 1e-13) * size
        assert np.abs(single[ref.name] - wanted).max() <= 1e-5 * size


@pytest.mark.parametrize("name", recurrent_models.MODELS)
def test_a_network_that_was_handed_over_computes_the_same(folder: Path, name: str, tmp_path: Path) -> None:
    inputs, _ = truth_of(folder, name)
    network = cnnlens.open(folder / f"{name}.keras")
    handover.write(network, tmp_path)
    other = handover.load(tmp_path)
    names = [ref.name for ref in network.outputs]
    here, there = (Executor(each, layers=names).stored(inputs) for each in (network, other))
    assert all(np.array_equal(here[one], there[one]) for one in names)


def test_part_of_a_batch_gives_part_of_the_outputs(folder: Path) -> None:
    inputs, outputs = truth_of(folder, "inside")
    network = cnnlens.open(folder / "inside.keras")
    many = [np.concatenate([one] * 3) for one in inputs]
    result = network.run(many[0], layers=[network.outputs[0].name], batch=2)[network.outputs[0].name]
    np.testing.assert_allclose(np.moveaxis(result, 1, -1), np.concatenate([outputs[0]] * 3), rtol=1e-12)


# Keras 2 --------------------------------------------------------------------------------------------------------------


def sigmoid_of_keras_2(x: np.ndarray) -> np.ndarray:
    return np.clip(0.2 * x + 0.5, 0, 1)


def test_hard_sigmoid_is_the_one_of_the_keras_that_wrote_the_file() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (2, 7, 5))
    weights = {
        "kernel": rng.normal(size=(5, 12)),
        "recurrent_kernel": rng.normal(size=(3, 12)),
        "bias": rng.normal(size=12),
    }
    config = {"units": 3, "recurrent_activation": "hard_sigmoid", "return_sequences": True}
    h = c = np.zeros((2, 3))
    wanted: list[np.ndarray] = []
    for time in range(7):
        z = x[:, time] @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"]
        i, f, o = (sigmoid_of_keras_2(z[:, 3 * gate : 3 * gate + 3]) for gate in (0, 1, 3))
        c = f * c + i * np.tanh(z[:, 6:9])
        h = o * np.tanh(c)
        wanted.append(h)
    old, new = (build("LSTM", "keras.layers", config, version)(weights, x) for version in ((2, 13), (3, 15)))
    np.testing.assert_allclose(old, np.stack(wanted, axis=1), rtol=1e-13)
    assert np.abs(new - old).max() > 1e-3


def test_states_in_the_list_of_inputs_as_keras_2_gives_them() -> None:
    rng = np.random.default_rng(1)
    x, h, c = rng.normal(size=(2, 7, 5)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    names = {"kernel": (5, 12), "recurrent_kernel": (3, 12), "bias": (12,)}
    weights = {f"{side}_layer/{n}": rng.normal(size=s) for side in ("forward", "backward") for n, s in names.items()}
    inner = {"class_name": "LSTM", "config": {"units": 3}}
    both = build("Bidirectional", "keras.layers", {"layer": inner}, (2, 13))
    listed = both(weights, [x, h, c, c, h])
    assert np.array_equal(listed, both(weights, x, initial_state=[h, c, c, h]))
    assert not np.allclose(listed, both(weights, [x, h, c, h, c]))
    assert both.output_shape([(None, 7, 5), *[(None, 3)] * 4]) == (None, 6)


def seen_by(
    at: tuple[int, ...], taps: tuple[int, ...], strides: tuple[int, ...], sizes: tuple[int, ...], same: bool
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The taps of the window at a position, each with its place in the input, those outside left out."""
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for tap in np.ndindex(*taps):
        shift = tuple(k // 2 if same else 0 for k in taps)
        place = tuple(p * s + t - b for p, s, t, b in zip(at, strides, tap, shift, strict=True))
        if all(0 <= p < n for p, n in zip(place, sizes, strict=True)):
            found.append((tap, place))
    return found


def naive_local(x: np.ndarray, kernels: np.ndarray, strides: tuple[int, ...], same: bool) -> np.ndarray:
    """``x (N, *sizes, C)`` with ``kernels (*positions, *taps, C, F)``, by loops."""
    rank = len(strides)
    positions, taps = kernels.shape[:rank], kernels.shape[rank : 2 * rank]
    out = np.zeros((len(x), *positions, kernels.shape[-1]))
    for at in np.ndindex(*positions):
        for tap, place in seen_by(at, taps, strides, x.shape[1:-1], same):
            out[(slice(None), *at)] += x[(slice(None), *place)] @ kernels[at + tap]
    return out


def stored_local(
    kernels: np.ndarray, sizes: tuple[int, ...], strides: tuple[int, ...], same: bool, how: int, first: bool
) -> np.ndarray:
    """The same kernels as Keras 2 stores them: its ``implementation`` 1, 2 or 3, by loops over its own indices."""
    rank = len(strides)
    positions, taps, channels, filters = kernels.shape[:rank], kernels.shape[rank : 2 * rank], *kernels.shape[-2:]
    if how == 1:
        window = (2 * rank, *range(rank, 2 * rank)) if first else tuple(range(rank, 2 * rank + 1))
        turned = kernels.transpose((*range(rank), *window, 2 * rank + 1))
        return turned.reshape(int(np.prod(positions)), -1, filters)
    # What lies outside every window is masked away, whatever the file has there.
    dense = np.full((*sizes, channels, *positions, filters), 99.0)
    entries: list[tuple[tuple[int, ...], tuple[int, ...], float]] = []
    for at in np.ndindex(*positions):
        for tap, place in seen_by(at, taps, strides, sizes, same):
            for c, f in box(range(channels), range(filters)):
                dense[(*place, c, *at, f)] = value = kernels[(*at, *tap, c, f)]
                entries.append(((f, *at) if first else (*at, f), (c, *place) if first else (*place, c), value))
    if how == 3:
        return np.array([value for _, _, value in sorted(entries, key=lambda one: one[:2])])
    order = (rank, *range(rank), 2 * rank + 1, *range(rank + 1, 2 * rank + 1))
    return dense.transpose(order) if first else dense


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("how", [1, 2, 3])
@pytest.mark.parametrize("rank", [1, 2])
def test_locally_connected_layers_in_each_form_of_keras_2(rank: int, how: int, first: bool) -> None:
    rng = np.random.default_rng(rank)
    for same in (False, True) if how > 1 else (False,):
        sizes, taps, strides = ((11,), (4,), (3,)) if rank == 1 else ((7, 9), (3, 2), (2, 1))
        positions = tuple(
            -(-n // s) if same else (n - k) // s + 1 for n, k, s in zip(sizes, taps, strides, strict=True)
        )
        channels, filters = 3, 5
        x = rng.normal(size=(2, *sizes, channels))
        kernels = rng.normal(size=(*positions, *taps, channels, filters))
        bias = rng.normal(size=(*positions, filters))
        wanted = naive_local(x, kernels, strides, same)
        # With channels first Keras 2 reshapes the bias to (filters, positions); it does not turn it.
        wanted = np.moveaxis(wanted, -1, 1) + bias.reshape(filters, *positions) if first else wanted + bias
        config = {
            "filters": filters, "kernel_size": list(taps), "strides": list(strides), "implementation": how,
            "padding": "same" if same else "valid", "data_format": "channels_first" if first else "channels_last",
            "activation": "tanh",
        }  # fmt: skip
        operation = build(f"LocallyConnected{rank}D", "keras.layers", config, (2, 13))
        weights = {"kernel": stored_local(kernels, sizes, strides, same, how, first), "bias": bias}
        given = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if first else x
        result = operation(weights, given)
        np.testing.assert_allclose(result, np.tanh(wanted), rtol=1e-12, atol=1e-14)
        assert operation.output_shape((None, *given.shape[1:])) == (None, *result.shape[1:])


# Refusals -------------------------------------------------------------------------------------------------------------

_LSTM = {"class_name": "LSTM", "module": "keras.layers", "config": {"units": 3}, "registered_name": None}


@pytest.mark.parametrize(
    ("kind", "config", "reason"),
    [
        ("LSTM", {"units": 3, "time_major": True}, "time_major"),
        ("LSTM", {"units": 3, "activation": {"class_name": "function", "config": "glu"}}, "halves its input"),
        ("RNN", {"cell": {"class_name": "MyCell", "config": {}, "module": "mine"}}, "MyCell is none of Keras"),
        ("RNN", {"cell": {**_LSTM, "class_name": "LSTMCell", "registered_name": "mine>LSTMCell"}}, "none of Keras"),
        ("RNN", {"cell": {"class_name": "Dense", "config": {"units": 3}}}, "Dense is none of Keras"),
        ("RNN", {}, "its cell is not said"),
        ("RNN", {"cell": {"class_name": "StackedRNNCells", "config": {"cells": []}}}, "stacks no cells"),
        ("RNN", {"cell": {"class_name": "GRUCell", "config": {"units": 3}}, "num_constants": 1}, "constants"),
        ("Bidirectional", {"layer": {"class_name": "Dense", "config": {}}}, "no recurrent layer"),
        ("Bidirectional", {"layer": _LSTM, "merge_mode": "max"}, "merge_mode: max"),
        ("CuDNNGRU", {"units": 3}, "NVIDIA"),
        ("LocallyConnected1D", {"filters": 3, "kernel_size": 2, "padding": "same"}, "no padding but valid"),
        ("LocallyConnected2D", {"filters": 3, "kernel_size": 2, "implementation": 4}, "implementation 4"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_with_its_reason(kind: str, config: Any, reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        build(kind, "keras.layers", config, (3, 15))
    assert "\n" not in str(caught.value)


def model_of(*layers: dict[str, Any]) -> dict[str, Any]:
    first = {"class_name": "InputLayer", "module": "keras.layers", "config": {"batch_shape": [None, 7, 5], "name": "i"}}
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "m", "layers": [first, *layers]}}


def opened(config: dict[str, Any], tmp_path: Path) -> cnnlens.Network:
    from zipfile import ZipFile

    import h5py

    path, store = tmp_path / "m.keras", tmp_path / "m.weights.h5"
    with h5py.File(store, "w") as file:
        for place, shapes in (("layers/lstm/cell", [(5, 12), (3, 12), (12,)]),):
            for index, shape in enumerate(shapes):
                file[f"{place}/vars/{index}"] = np.full(shape, 0.1, np.float32)
    with ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(store, "model.weights.h5")
    return cnnlens.open(path)


def test_the_table_knows_which_layers_hand_masks_on(folder: Path) -> None:
    said = json.loads((folder / "supports_masks.json").read_text())
    assert len(said) > 100
    # Keras counts those that make one, and those that it ends in.
    ends = {"Masking", "GlobalAveragePooling1D", "GlobalAvgPool1D", "Dot"}
    found = {name: kind_of(name).passes_masks for name in said if kind_of(name).name and name not in ends}
    assert found == {name: said[name] for name in found}
    assert not any(kind_of(name).passes_masks for name in ends)


MASK = {"class_name": "Masking", "module": "keras.layers", "config": {"name": "mask", "mask_value": -0.1}}


def test_masks_and_states(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    lstm = {"class_name": "LSTM", "module": "keras.layers", "config": {"name": "lstm", "units": 3, "stateful": True}}
    network = opened(model_of(MASK, lstm), tmp_path)
    assert any("layer 'lstm' (LSTM) is stateful" in note for note in network.notes)
    x = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
    x[0, 2] = x[1, 6] = -0.1  # masked in float64 too, for Keras compares what is -0.1 in float32
    layer = network["lstm"]
    weights = {name: array.astype(np.float64) for name, array in layer.weights.items()}
    found = network.run(np.moveaxis(x, -1, 1))["lstm"]
    for one, given, step in zip(found, x, (2, 6), strict=True):
        short = np.delete(given, step, axis=0)[None].astype(np.float64)
        np.testing.assert_allclose(one, layer.operation(weights, short)[0], rtol=1e-14)


def calls_of(*calls: tuple[str, str, dict[str, Any], list[str], dict[str, Any]]) -> list[Call]:
    """Calls of layers of Keras: name, kind, config, what each is called on, and its keyword arguments."""
    layers = {name: Layer(name, kind, config, module="keras.layers") for name, kind, config, _, _ in calls}
    return [
        Call(name, layers[name], tuple(Ref(one) for one in given), kwargs, (None,), -1)
        for name, _, _, given, kwargs in calls
    ]


_WORDS = (("i", "InputLayer", {}, [], {}), ("e", "Embedding", {"mask_zero": True}, ["i"], {}))
_GRU = {"class_name": "GRU", "config": {"units": 2}}


@pytest.mark.parametrize(
    ("calls", "version", "reason"),
    [
        ([("a", "Mine", {}, ["e"], {}), ("l", "LSTM", {}, ["a"], {})], (3, 15), "behind layer 'a' (Mine) is known"),
        ([("a", "Lambda", {"mask": {}}, ["e"], {}), ("l", "GRU", {}, ["a"], {})], (3, 15), "in code of its own"),
        ([("a", "MultiHeadAttention", {}, ["e", "e"], {}), ("l", "GRU", {}, ["e"], {})], (3, 15), "takes the mask off"),
        ([("l", "TimeDistributed", {"layer": _GRU}, ["e"], {})], (3, 15), "with the mask of a step"),
        ([("l", "MultiHeadAttention", {}, ["e", "e"], {})], (2, 13), "versions of Keras 2"),
        ([("l", "LSTM", {}, ["e", "e"], {})], (2, 13), "beside given states"),
        ([("l", "LSTM", {}, ["i"], {"mask": [True]})], (3, 15), "a mask of constants"),
        ([("l", "Conv1D", {}, ["e"], {"mask": Ref("i")})], (3, 15), "none is known to its kind"),
        ([("l", "LSTM", {}, [], {"mask": Ref("i")})], (3, 15), "called on no tensor"),
        ([("a", "Reshape", {}, ["e"], {}), ("l", "GRU", {}, ["a"], {})], (3, 15), "where it changes nothing"),
        ([("a", "Expression", {"expression": "(x)"}, ["e"], {"mask": Ref("i")}), ("l", "GRU", {}, ["a"], {})],
         (3, 15), "where it changes nothing"),
    ],
)  # fmt: skip
def test_a_mask_that_cannot_be_followed_is_said(calls: Any, version: tuple[int, ...], reason: str) -> None:
    followed = calls_of(*_WORDS, *calls)
    masks = {call.name: masks for call, masks in MaskFlow(followed, version, {}).follow()}
    assert reason in masks["l"]["mask"]
    refused = replace(followed[-1], masks=masks["l"])
    with pytest.raises(UnsupportedLayerError, match="its mask cannot be followed"):
        refused.refuse_unknown()


def test_masks_that_are_joined_without_end_cost_nothing() -> None:
    ops = "keras.src.ops.numpy"
    calls = calls_of(*_WORDS)
    last = ("i", "e")
    for depth in range(3_000):
        name = f"o{depth}"
        args = tuple(Ref(one) for one in last)
        calls.append(Call(name, Layer(name, "LogicalOr", {}, module=ops), args, {}, (None,), -1))
        last = (name, last[0])
    calls += calls_of(("l", "LSTM", {}, ["e"], {"mask": Ref(last[0])}))
    [(call, masks)] = MaskFlow(calls, (3, 15), {}).follow()
    assert call.name == "l"
    assert masks["mask"].size <= 64


@pytest.mark.parametrize("given", [{"class_name": "Masking", "config": {}}, 5, True])
def test_what_is_no_tensor_has_no_shape(given: Any, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    first, relu = (
        {"class_name": kind, "module": "keras.layers", "name": name, "config": {**more, "name": name},
         "inbound_nodes": nodes}
        for kind, name, more, nodes in (
            ("InputLayer", "i", {"batch_shape": [None, 7, 5]}, []),
            ("ReLU", "relu", {}, [{"args": [given], "kwargs": {}}]),
        )
    )  # fmt: skip
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [["relu", 0, 0]]}
    config = {"class_name": "Functional", "module": "keras", "config": {"name": "m", "layers": [first, relu], **ends}}
    network = opened(config, tmp_path)
    with pytest.raises(UnsupportedLayerError, match="relu"):
        network.run(np.zeros((1, 5, 7)), layers=["relu"])


def test_a_mask_ends_where_keras_lets_it_end() -> None:
    ends = [("a", "Conv1D", {}, ["e"], {}), ("l", "LSTM", {}, ["a"], {})]
    states = [("l", "LSTM", {}, ["e", "e"], {})]  # Keras 3 has no argument for a mask beside states
    # A Lambda is given the mask by Keras, and has none of its own to hand on.
    given = [("a", "Expression", {"expression": "x / 2"}, ["e"], {"mask": Ref("i")}), ("l", "LSTM", {}, ["a"], {})]
    for calls in (ends, states, given):
        assert not list(MaskFlow(calls_of(*_WORDS, *calls), (3, 15), {}).follow())
    reshaped = calls_of(*_WORDS, ("a", "Reshape", {}, ["e"], {}), ("l", "LSTM", {}, ["a"], {}))
    shapes = {"i": (None, 6), "e": (None, 6, 4), "a": (None, 3, 8), "l": (None, 2)}
    reshaped = [replace(call, shapes=(shapes[call.name],)) for call in reshaped]
    assert not list(MaskFlow(reshaped, (3, 15), {}).follow())
    own = Mask("nonzero", (Ref("i"),))
    nested = calls_of(*_WORDS, ("l", "LSTM", {}, ["e"], {}))
    assert [masks for _, masks in MaskFlow(nested, (3, 15), {Ref("e"): Ref("i")}).follow()] == [{"mask": own}]
    [(_, masks)] = MaskFlow(nested, (3, 15), {Ref("e"): Ref("e")}).follow()
    assert "a nested model is called with a mask of its own" in masks["mask"]


def test_a_mask_fits_or_is_refused_for_what_it_is() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5))
    mask = np.arange(5) % 2 == 0
    softmax = build("Softmax", "keras.layers", {"axis": -1}, (3, 15))
    np.testing.assert_allclose(softmax({}, x, mask=mask[None, None])[..., mask], softmax({}, x[..., mask]), rtol=1e-14)
    with pytest.raises(UnsupportedLayerError, match=r"one of shape \(2, 3\) came"):
        softmax({}, x, mask=np.ones((2, 3), bool))
    weights = {"cell/kernel": np.ones((5, 2)), "cell/recurrent_kernel": np.ones((2, 2)), "cell/bias": np.ones(2)}
    rnn = build("SimpleRNN", "keras.layers", {"units": 2}, (3, 15))
    with pytest.raises(UnsupportedLayerError, match="each of its steps"):
        rnn(weights, x, mask=np.ones((2, 3, 5), bool))
    embedding = {"class_name": "Embedding", "module": "keras.layers", "config": {"name": "e", "input_dim": 7}}
    spec = layer_spec(
        {**embedding, "config": {"name": "s", "layer": embedding}, "class_name": "SpectralNormalization"}, ("s",)
    )
    with pytest.raises(UnsupportedLayerError, match="type of the identifiers"):
        make_operation(spec, (3, 15), lambda _: pytest.fail("no model is in it"))


def test_weights_and_states_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    lstm = {"class_name": "LSTM", "module": "keras.layers", "config": {"name": "lstm", "units": 2}}
    with pytest.raises(cnnlens.CnnlensError, match=r"lstm"):
        opened(model_of(lstm), tmp_path).run(np.ones((2, 5, 7), np.float32))
    operation = build("GRU", "keras.layers", {"units": 3, "reset_after": True}, (3, 15))
    weights = {"kernel": np.ones((5, 9)), "recurrent_kernel": np.ones((3, 9)), "bias": np.ones((2, 9))}
    with pytest.raises(ValueError, match=r"states of shapes \[\(2, 3\)\] were expected"):
        operation(weights, np.ones((2, 7, 5)), initial_state=np.ones((2, 4)))


# Audits ---------------------------------------------------------------------------------------------------------------


def call_of(kind: str, config: dict[str, Any]) -> Call:
    operation = build(kind, "keras.layers", config, (3, 15))
    return Call(
        "layer", Layer("layer", kind, config, make_operation=lambda: operation), (Ref("input"),), {}, (None,), -1
    )


GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def drawn(kind: str, units: int, inputs: int, gain: float, rng: np.random.Generator) -> Weights:
    width = GATES[kind] * units
    shapes = {
        "kernel": (inputs, width),
        "recurrent_kernel": (units, width),
        "bias": (2, width) if kind == "GRU" else (width,),
    }
    return {
        f"cell/{name}": rng.normal(0.02, gain / np.sqrt(shape[0] if len(shape) > 1 else 1), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(36))
def test_float32_is_never_blamed_however_the_layer_saturates_or_amplifies(seed: int) -> None:
    """Gates all but open, where 1 - z keeps no digit; unbounded activations; sixty steps: no implementation's fault."""
    rng = np.random.default_rng(seed)
    kind = list(GATES)[seed % 3]
    steps, inputs, units = int(rng.integers(2, 61)), int(rng.integers(1, 20)), int(rng.choice([1, 2, 5, 17, 33, 64]))
    gain, size = float(rng.choice([0.1, 0.6, 2, 4])), float(rng.choice([0.1, 1, 10]))
    config: dict[str, Any] = {
        "units": units, "return_sequences": bool(rng.integers(2)), "reset_after": True,
        "activation": str(rng.choice(["tanh", "tanh", "relu", "softsign"])),
        "recurrent_activation": str(rng.choice(["sigmoid", "sigmoid", "hard_sigmoid"])),
    }  # fmt: skip
    weights = drawn(kind, units, inputs, gain, rng)
    x = rng.normal(0.1, size, (4, steps, inputs)).astype(np.float32)
    call = call_of(kind, config)
    output = call.layer.operation(weights, x)
    if np.isfinite(output).all():
        found = audit(call, weights, (x,), {}, output)
        assert found.verdict in ("exact", "float32"), found
        assert found.bits > 21


def gates_swapped(first: int, second: int) -> Callable[[Weights, dict[str, Any]], None]:
    def change(weights: Weights, config: dict[str, Any]) -> None:
        for name, array in weights.items():
            parts = np.split(
                array, 4 if array.shape[-1] % 4 == 0 and config["units"] * 4 == array.shape[-1] else 3, axis=-1
            )
            parts[first], parts[second] = parts[second], parts[first]
            weights[name] = np.concatenate(parts, axis=-1)

    return change


def setting(name: str, value: Any) -> Callable[[Weights, dict[str, Any]], None]:
    def change(weights: Weights, config: dict[str, Any]) -> None:
        config[name] = value

    return change


def scaled(factor: float, channel: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    def change(output: np.ndarray) -> np.ndarray:
        changed = output.copy()
        changed[..., slice(None) if channel is None else channel] *= np.float32(factor)
        return changed

    return change


FAULTS: dict[str, Any] = {
    "gates 0 and 1": gates_swapped(0, 1),
    "gates 1 and 2": gates_swapped(1, 2),
    "no bias": setting("use_bias", False),
    "hard_sigmoid": setting("recurrent_activation", "hard_sigmoid"),
    "linear": setting("activation", "linear"),
    "backwards": setting("go_backwards", True),
    "by 1.001": scaled(1.001),
    "one channel by 1.0003": scaled(1.0003, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_planted_faults_are_found(kind: str, name: str) -> None:
    rng = np.random.default_rng(5)
    for steps, inputs, units in ((7, 5, 3), (40, 9, 33)):
        config: dict[str, Any] = {"units": units, "return_sequences": True, "reset_after": True}
        weights = drawn(kind, units, inputs, 0.8, rng)
        x = rng.normal(0.1, 1, (4, steps, inputs)).astype(np.float32)
        call = call_of(kind, config)
        assert audit(call, weights, (x,), {}, call.layer.operation(weights, x)).verdict in ("exact", "float32")
        planted = FAULTS[name]
        if name.startswith(("by", "one")):
            output = planted(call.layer.operation(weights, x))
        else:
            other, changed = dict(weights), dict(config)
            planted(other, changed)
            output = call_of(kind, changed).layer.operation(other, x)
        with unexplained():
            found = audit(call, weights, (x,), {}, output)
        assert found.verdict.fault, found
        assert found.channel_bits < 16


@pytest.mark.slow
def test_hard_sigmoid_of_the_other_keras_is_found() -> None:
    rng = np.random.default_rng(6)
    config = {"units": 17, "recurrent_activation": "hard_sigmoid"}
    weights, x = drawn("LSTM", 17, 9, 0.8, rng), rng.normal(size=(4, 30, 9)).astype(np.float32)
    output = build("LSTM", "keras.layers", config, (2, 13))(weights, x)
    assert audit(call_of("LSTM", config), weights, (x,), {}, output).verdict == "wrong"


def test_every_keras_backend_is_float32(folder: Path) -> None:
    """Sixty steps, sixty-four units, given states, stacks, both directions; inputs of usual size and six times it."""
    pytest.importorskip("jax")
    pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    path = folder / "audited.keras"
    network = cnnlens.open(path)
    inputs: dict[str, np.ndarray] = {}
    for ref in network.inputs:
        shape = network.canonical_shape(ref)
        assert shape is not None
        size = np.array([1.0, 1.0, 6.0, 6.0]).reshape(4, *(1,) * (len(shape) - 1))
        inputs[ref.name] = (size * rng.normal(0.1, 1, (4, *(n or 1 for n in shape[1:])))).astype(np.float32)
    result = cnnlens.check(path, inputs, backends=["keras-tensorflow", "keras-jax", "keras-torch"])
    audits: list[tuple[str, str, Audit]] = [
        (label, row.name, one) for row in result.rows for label, one in row.audits.items()
    ]
    assert {one.verdict for _, _, one in audits} == {"float32"}, [a for a in audits if a[2].verdict != "float32"]
    assert len(audits) == 3 * 14
    assert min(one.bits for _, _, one in audits) > 22
    assert result.agree
