"""Keras -> PyTorch as a file: what it says, how it is laid out, what it refuses, and that it runs as it was written."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens import sample, testing
from cnnlens.conversion import to_torch
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.reference import known_kinds
from cnnlens.testing import MemoryModel
from tests.support import attention_models
from tests.support.random_networks import random_network
from tests.support.reference_cases import LAYERS
from tests.support.to_torch_models import (
    agree,
    called,
    entry,
    functional,
    functional_entry,
    given,
    inputs_of,
    module_of,
    network_of_case,
    outputs_of,
    sequential,
    tensor,
    words,
)

torch = pytest.importorskip("torch")


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng([seed, *shape]).normal(0.1, 0.6, shape), np.float32)


def _vectors(*shape: int) -> dict[str, np.ndarray]:
    found = {name: _normal(*shape, seed=place) for place, name in enumerate(("gamma", "beta", "moving_mean"))}
    return {**found, "moving_variance": np.abs(_normal(*shape, seed=9)) + np.float32(0.4)}


def _conv(name: str, filters: int, size: list[int], **more: Any) -> dict[str, Any]:
    return entry("Conv2D", name, filters=filters, kernel_size=size, **more)


# -- padding that depends on the size ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(8, 9), (9, 8), (7, 12), (11, 10)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("opened", [False, True])
def test_same_padding_on_odd_and_even_sizes(height: int, width: int, stride: int, opened: bool) -> None:
    layers = [
        given("image", *((None, None) if opened else (height, width)), 3),
        _conv("conv", 5, [4, 3], strides=[stride, stride], padding="same"),
        entry("MaxPooling2D", "most", pool_size=[3, 2], strides=[2, 2], padding="same"),
        entry("AveragePooling2D", "mean", pool_size=[3, 3], strides=[2, 2], padding="same"),
    ]
    network = sequential(layers, {("conv",): {"kernel": _normal(4, 3, 3, 5), "bias": _normal(5)}})
    inputs = [np.random.default_rng(1).normal(-1.5, 1, (2, 3, height, width))]
    source = agree(network, inputs).source
    assert ("same_pad(" in source) == opened
    if opened:
        assert "worked out at run time" in words(source)


def test_a_layer_that_is_shared_by_two_sizes_pads_each_as_keras_does() -> None:
    conv = _conv("conv", 3, [4, 4], strides=[2, 2], padding="same")
    layers = [
        given("small", 7, 6, 3),
        given("large", 12, 9, 3),
        called(conv, [tensor("small")], [tensor("large")]),
        called(entry("GlobalMaxPooling2D", "peak"), [tensor("conv", 0)], [tensor("conv", 1)]),
        called(entry("Concatenate", "both", axis=-1), [[tensor("peak", 0), tensor("peak", 1)]]),
    ]
    agree(functional(layers, ["both"], {("conv",): {"kernel": _normal(4, 4, 3, 3), "bias": _normal(3)}}))


# -- between a Flatten and a Dense -------------------------------------------------------------------------------------


def _flat_layers(*between: dict[str, Any], image: tuple[int, int, int] = (4, 3, 2)) -> list[dict[str, Any]]:
    return [
        given("image", *image),
        _conv("conv", 5, [2, 2]),
        entry("Flatten", "flat"),
        *between,
        entry("Dense", "head", units=4),
    ]


_FLAT_WEIGHTS = {("conv",): {"kernel": _normal(2, 2, 2, 5), "bias": _normal(5)}, ("head",): {"kernel": _normal(30, 4)}}


@pytest.mark.parametrize(
    ("between", "arrays"),
    [
        (entry("BatchNormalization", "middle", epsilon=0.01), _vectors(30)),
        (entry("PReLU", "middle"), {"alpha": _normal(30)}),
        (entry("LayerNormalization", "middle"), {"gamma": _normal(30, seed=3), "beta": _normal(30, seed=4)}),
        (entry("RMSNormalization", "middle", axis=-1), {"scale": _normal(30)}),
        (entry("Normalization", "middle"), {"mean": _normal(30), "variance": np.abs(_normal(30, seed=5)) + 1}),
        (entry("Activation", "middle", activation="softmax"), {}),
        (entry("Rescaling", "middle", scale=[0.1 * place for place in range(30)]), {}),
    ],
    ids=lambda value: value.get("class_name", ""),
)
def test_vectors_behind_a_flatten_go_with_it(between: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    weights = {**_FLAT_WEIGHTS, ("head",): {**_FLAT_WEIGHTS["head",], "bias": _normal(4)}}
    network = sequential(_flat_layers(between), weights | ({("middle",): arrays} if arrays else {}))
    program = agree(network)
    assert "Flattened channels first" in words(program.source)
    assert ".permute(" not in program.source
    # Keras' first feature is channel 0 at (0, 0), and so is ours; its second is channel 1, our second is (0, 1).
    kernel = program.state["head.weight"]
    stored = network["head"].weights["kernel"]
    np.testing.assert_array_equal(kernel[:, 1], stored[5])
    for role, key in (("gamma", "middle.weight"), ("alpha", "middle.weight"), ("mean", "middle.mean")):
        if role in arrays:
            np.testing.assert_array_equal(program.state[key].reshape(-1)[1], arrays[role][5])


@pytest.mark.parametrize(
    "between",
    [
        entry("Reshape", "middle", target_shape=[6, 5]),
        entry("GroupNormalization", "middle", groups=3, scale=False, center=False),
        entry("Activation", "middle", activation="glu"),
    ],
    ids=lambda one: one["class_name"],
)
def test_what_sees_the_order_of_a_flatten_gets_keras_order(between: dict[str, Any]) -> None:
    units = {"Reshape": 5, "GroupNormalization": 30, "Activation": 15}[between["class_name"]]
    weights = {("conv",): _FLAT_WEIGHTS["conv",], ("head",): {"kernel": _normal(units, 4), "bias": _normal(4)}}
    agree(sequential(_flat_layers(between), weights))


def test_a_flattened_map_that_is_an_output_is_in_keras_order() -> None:
    network = sequential(_flat_layers()[:3], {("conv",): _FLAT_WEIGHTS["conv",]})
    agree(network)


def test_one_dense_behind_two_flattens_of_different_maps() -> None:
    image, other = given("image", 4, 3, 2), given("other", 2, 4, 3)
    flat = called(entry("Flatten", "flat"), [tensor("image")], [tensor("other")])
    dense = called(entry("Dense", "head", units=5), [tensor("flat", 0)], [tensor("flat", 1)])
    added = called(entry("Add", "sum"), [[tensor("head", 0), tensor("head", 1)]])
    network = functional(
        [image, other, flat, dense, added], ["sum"], {("head",): {"kernel": _normal(24, 5), "bias": _normal(5)}}
    )
    agree(network)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_channels_first_models(data_format: str) -> None:
    first = {"data_format": "channels_first"}
    layers = [
        given("image", 3, 6, 5),
        _conv("conv", 4, [3, 2], padding="same", **first),
        entry("BatchNormalization", "norm", axis=1),
        entry("MaxPooling2D", "pool", pool_size=[2, 2], **first),
        entry("Flatten", "flat", data_format=data_format),
        entry("Dense", "head", units=3),
    ]
    weights = {
        ("conv",): {"kernel": _normal(3, 2, 3, 4), "bias": _normal(4)},
        ("norm",): _vectors(4),
        ("head",): {"kernel": _normal(24, 3), "bias": _normal(3)},
    }
    assert ".permute(" not in agree(sequential(layers, weights)).source


def test_a_nested_model_is_watched_in_the_order_in_which_it_runs() -> None:
    conv = called(_conv("conv", 3, [2, 3], padding="same"), [tensor("inside")])
    inner = functional_entry("inner", [given("inside", 5, 4, 3), conv], "conv")
    layers = [
        given("first", 5, 4, 3),
        given("second", 5, 4, 3),
        called(inner, [tensor("first")], [tensor("second")]),
        # The second use is written first, for it is the first to be needed.
        called(entry("Subtract", "apart"), [[tensor("inner", 1), tensor("inner", 0)]]),
    ]
    network = functional(layers, ["apart"], {("inner", "conv"): {"kernel": _normal(2, 3, 3, 3), "bias": _normal(3)}})
    program = agree(network)
    assert next(mark.names for mark in program.marks) == ("inner:1/conv", "inner/conv")
    seen: list[tuple[str, np.ndarray]] = []

    def watch(names: tuple[str, ...], value: Any) -> None:
        name = next(name for name in names if name not in dict(seen))
        seen.append((name, program.stored(name, value.detach().numpy())))

    inputs = inputs_of(network)
    module_of(program, program.watched(), watch=watch)(*map(torch.from_numpy, inputs))
    maps = network.run(inputs)
    assert len(seen) == 5
    for name, array in seen:
        np.testing.assert_allclose(np.moveaxis(array, -1, 1), maps[name], rtol=0, atol=1e-12)


# -- Keras 2, recurrent, locally connected -----------------------------------------------------------------------------


def test_keras_2_files_keep_their_hard_sigmoid_and_their_lists_of_axes() -> None:
    layers = [
        given("image", 6, 5, 3),
        entry("BatchNormalization", "norm", axis=[3]),
        entry("Activation", "gate", activation="hard_sigmoid"),
    ]
    source = agree(sequential(layers, {("norm",): _vectors(3)}, version="2.13.1")).source
    assert "Keras 2's hard_sigmoid" in words(source)
    assert "F.hardsigmoid" not in source


def _cell(kind: str, inputs: int, units: int, seed: int) -> dict[str, np.ndarray]:
    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[kind]
    bias = (2, gates * units) if kind == "GRU" else (gates * units,)
    return {
        "kernel": _normal(inputs, gates * units, seed=seed),
        "recurrent_kernel": _normal(units, gates * units, seed=seed),
        "bias": _normal(*bias, seed=seed),
    }


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_recurrent_layers(kind: str, sequences: bool, backwards: bool) -> None:
    more = {"reset_after": True} if kind == "GRU" else {}
    layer = entry(kind, "steps", units=4, return_sequences=sequences, go_backwards=backwards, **more)
    network = sequential([given("wave", 7, 3), layer], {("steps", "cell"): _cell(kind, 3, 4, 1)})
    agree(network)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional_layers(kind: str, mode: str, sequences: bool) -> None:
    more = {"reset_after": True} if kind == "GRU" else {}
    inner = entry(kind, "inner", units=4, return_sequences=sequences, **more)
    layer = entry("Bidirectional", "both", layer=inner, merge_mode=mode)
    arrays = {
        ("both", "forward_layer", "cell"): _cell(kind, 3, 4, 1),
        ("both", "backward_layer", "cell"): _cell(kind, 3, 4, 2),
    }
    agree(sequential([given("wave", 7, 3), layer], arrays))


@pytest.mark.parametrize("settings", [{"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}])
def test_recurrent_layers_that_pytorch_does_not_have_are_refused(settings: dict[str, str]) -> None:
    network = sequential(
        [given("wave", 7, 3), entry("LSTM", "steps", units=4, **settings)], {("steps", "cell"): _cell("LSTM", 3, 4, 1)}
    )
    with pytest.raises(UnsupportedLayerError, match=r"'steps' \(LSTM\): nn.LSTM has tanh and sigmoid"):
        to_torch.program(network)


@pytest.mark.skipif("LocallyConnected2D" not in known_kinds(), reason="the reference does not compute these layers yet")
@pytest.mark.parametrize("bias", [True, False])
def test_locally_connected_layers(bias: bool) -> None:
    plane = entry("LocallyConnected2D", "layer", filters=5, kernel_size=[3, 2], strides=[2, 1], use_bias=bias)
    weights = {"kernel": _normal(3 * 5, 3 * 2 * 3, 5)} | ({"bias": _normal(3, 5, 5)} if bias else {})
    agree(sequential([given("image", 7, 6, 3), plane], {("layer",): weights}, version="2.13.1"))
    line = entry("LocallyConnected1D", "layer", filters=4, kernel_size=[3], strides=[2], use_bias=bias)
    weights = {"kernel": _normal(5, 3 * 2, 4)} | ({"bias": _normal(5, 4)} if bias else {})
    agree(sequential([given("wave", 11, 2), line], {("layer",): weights}, version="2.13.1"))


# -- what the file says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "arrays", "said"),
    [
        (
            _conv("layer", 4, [2, 2], padding="same"),
            {"kernel": _normal(2, 2, 3, 4), "bias": _normal(4)},
            "'same' padding",
        ),
        (entry("BatchNormalization", "layer", momentum=0.9), _vectors(3), "momentum of 0.99 in Keras"),
        (
            entry("AveragePooling2D", "layer", pool_size=[3, 3], strides=[1, 1], padding="same"),
            {},
            "cells that are there",
        ),
        (entry("MaxPooling2D", "layer", pool_size=[2, 2], strides=[1, 1], padding="same"), {}, "-inf is padded"),
        (
            entry("Conv2DTranspose", "layer", filters=4, kernel_size=[3, 3], strides=[2, 2], padding="same"),
            {"kernel": _normal(3, 3, 4, 3), "bias": _normal(4)},
            "cropped by Keras",
        ),
        (entry("Softmax", "layer"), {}, "Keras' axis"),
        (
            entry("LayerNormalization", "layer"),
            {"gamma": _normal(3), "beta": _normal(3)},
            "PyTorch normalises over the last",
        ),
        (entry("LeakyReLU", "layer", negative_slope=0.3), {}, "PyTorch's own default is 0.01"),
        (entry("Activation", "layer", activation="gelu"), {}, "exact GELU"),
        (entry("UpSampling2D", "layer", size=[2, 2], interpolation="bicubic"), {}, "PyTorch's has a = -0.75"),
        (entry("Resizing", "layer", height=5, width=4, interpolation="nearest"), {}, "nearest-exact"),
        (
            entry("SeparableConv2D", "layer", filters=4, kernel_size=[2, 3]),
            {"depthwise_kernel": _normal(2, 3, 3, 1), "pointwise_kernel": _normal(1, 1, 3, 4), "bias": _normal(4)},
            "A separable convolution is two",
        ),
    ],
    ids=lambda value: value["class_name"] if isinstance(value, dict) and "class_name" in value else "",
)
def test_a_comment_stands_where_a_convention_changed(layer: Any, arrays: dict[str, np.ndarray], said: str) -> None:
    network = sequential([given("image", 7, 6, 3), layer], {("layer",): arrays} if arrays else {})
    assert said in words(agree(network).source)


def _sources() -> list[str]:
    random = np.random.default_rng(3)
    found = [to_torch.program(network_of_case(case, random)).source for case in LAYERS[::3]]
    found += [to_torch.program(random_network(seed)).source for seed in range(40)]
    found += [to_torch.program(testing.network(name)).source for name in testing.NETWORKS]
    return [*found, to_torch.program(cnnlens.open(sample.MODEL)).source]


def test_every_file_is_formatted_and_has_nothing_that_a_linter_finds(tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    sources = _sources()
    assert len(sources) > 150
    for number, source in enumerate(sources):
        (tmp_path / f"converted_{number}.py").write_text(source)
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", str(tmp_path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize(
    "name",
    [
        "class",
        "train",
        "forward",
        "1x1",
        "x",
        "self",
        "a b/c",
        'quote"""\nimport os',
        "\u202eevil",
        "conv.weight",
        "__init__",
    ],
)
def test_any_name_becomes_an_attribute_and_nothing_else(name: str) -> None:
    layers = [given("image", 5, 4, 3), _conv(name, 2, [3, 2]), entry("ReLU", "relu")]
    program = agree(sequential(layers, {(name,): {"kernel": _normal(3, 2, 3, 2), "bias": _normal(2)}}))
    key = next(iter(program.state)).removesuffix(".weight")
    assert key.isidentifier()
    assert key.isascii()
    assert "import os" not in program.source.replace("_import_os", "")
    assert program.source.isascii()


def test_names_that_become_the_same_stay_apart() -> None:
    layers = [given("image", 5, 4, 3), *(_conv(name, 3, [1, 1]) for name in ("a-b", "a b", "a_b"))]
    weights = {
        (name,): {"kernel": _normal(1, 1, 3, 3, seed=place), "bias": _normal(3)}
        for place, name in enumerate(("a-b", "a b", "a_b"))
    }
    program = agree(sequential(layers, weights))
    assert list(program.modules.values()) == ["a_b", "a_b_1", "a_b_2"]


# -- writing -----------------------------------------------------------------------------------------------------------


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("converted_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_two_files_run_as_they_were_written(tmp_path: Path) -> None:
    network = cnnlens.open(sample.MODEL)
    program = to_torch.program(network)
    paths = program.write(tmp_path / "model.py")
    assert [path.name for path in paths] == ["model.py", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.py", "model.safetensors"]
    model = _module(paths[0]).load()
    assert not model.training
    (image,) = inputs_of(network)
    with torch.inference_mode():
        got = model(torch.from_numpy(image.astype(np.float32))).numpy()
    np.testing.assert_allclose(got, network.run(image)["dense_1"], rtol=0, atol=1e-6)
    done = subprocess.run([sys.executable, str(paths[0])], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 10)\n"


def test_a_folder_takes_the_name_of_the_class(tmp_path: Path) -> None:
    python, arrays = to_torch.program(testing.network("signal")).write(tmp_path)
    assert (python.name, arrays.name) == ("signal.py", "signal.safetensors")


@pytest.mark.parametrize("target", ["model.txt", "missing/model.py"])
def test_a_place_that_cannot_be_written_is_refused_and_nothing_is(target: str, tmp_path: Path) -> None:
    with pytest.raises(CnnlensError, match="model"):
        to_torch.program(testing.network("signal")).write(tmp_path / target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_type_of_an_array_is_kept(dtype: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    network = _typed(dtype)
    program = agree(network, loose=1e-10)
    _, path = program.write(tmp_path / "model.py")
    state = load_file(path)
    assert state["conv.weight"].dtype == getattr(torch, dtype)
    assert state["norm.weight"].dtype == torch.float32
    wanted = np.asarray(network["conv"].weights["kernel"]).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(state["conv.weight"].double().numpy(), wanted.astype(np.float64))
    model = _module(tmp_path / "model.py").load()
    assert next(model.parameters()).dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert dtype in program.source


def _typed(dtype: str) -> Network:
    """A convolution whose arrays are of a type of their own, in front of a float32 normalisation."""
    layers = [given("image", 5, 4, 3), _conv("conv", 4, [3, 2], dtype=dtype), entry("BatchNormalization", "norm")]
    kernel, bias = _normal(3, 2, 3, 4), _normal(4)
    if dtype == "bfloat16":
        kernel, bias = (((one.view(np.uint32) >> 16) << 16).view(np.float32) for one in (kernel, bias))
    else:
        kernel, bias = kernel.astype(dtype), bias.astype(dtype)
    network = sequential(layers, {("conv",): {"kernel": kernel, "bias": bias}, ("norm",): _vectors(4)})
    if dtype == "bfloat16":
        for weight in network["conv"].stored.values():
            weight.stored.stored_dtype = "bfloat16"  # type: ignore[misc]
    return network


def test_safetensors_reads_back_every_array(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    program = to_torch.program(testing.network("chain"))
    _, path = program.write(tmp_path / "model.py")
    state = load_file(path)
    assert set(state) == set(program.state)
    for key, array in program.state.items():
        np.testing.assert_array_equal(state[key], array)
        assert state[key].shape == array.shape


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_all_layers_that_cannot_be_expressed_are_named_at_once() -> None:
    layers = [
        given("film", 4, 7, 6, 3),
        called(entry("ConvLSTM2D", "film_a", filters=2, kernel_size=[3, 3]), [tensor("film")]),
        called(entry("ConvLSTM2D", "film_b", filters=2, kernel_size=[2, 2]), [tensor("film")]),
        called(
            entry("MultiHeadAttention", "looks", num_heads=2, key_dim=3, sliding_window=2),
            [tensor("film_a"), tensor("film_b")],
        ),
    ]
    with pytest.raises(UnsupportedLayerError, match=r"film_a.*convolutional LSTM.*film_b.*looks.*from near") as caught:
        to_torch.program(functional(layers, ["looks"]))
    assert "\n" not in str(caught.value)
    assert "nothing was converted" in str(caught.value)


def test_what_is_no_keras_model_is_refused() -> None:
    model = MemoryModel(None, {("conv",): {"kernel": _normal(3, 3, 2, 4)}})
    with pytest.raises(UnsupportedLayerError, match="holds weights without a graph"):
        to_torch.program(keras_network(model))
    other = testing.network("chain")
    object.__setattr__(other.source, "framework", "torch")
    with pytest.raises(CnnlensError, match="a Keras model was expected"):
        to_torch.program(other)


def test_code_in_a_file_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"'anything' \(Lambda\)"):
        to_torch.program(testing.network("lambda"))


def test_open_sizes_work_at_any_size() -> None:
    layers = [
        given("image", None, None, 3),
        _conv("conv", 4, [3, 3], strides=[2, 2], padding="same", activation="relu"),
        entry("UpSampling2D", "wide", size=[2, 3], interpolation="bicubic"),
        entry("Conv2DTranspose", "up", filters=2, kernel_size=[3, 4], strides=[2, 2], padding="same"),
        entry("GlobalAveragePooling2D", "mean"),
    ]
    weights = {
        ("conv",): {"kernel": _normal(3, 3, 3, 4), "bias": _normal(4)},
        ("up",): {"kernel": _normal(3, 4, 2, 4), "bias": _normal(2)},
    }
    network = sequential(layers, weights)
    program = to_torch.program(network)
    for sizes in ((8, 11), (9, 6)):
        inputs = [np.random.default_rng(5).normal(0, 1, (2, 3, *sizes))]
        np.testing.assert_allclose(outputs_of(program, inputs)[0], network.run(inputs[0])["mean"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", attention_models.CASES)
def test_attention(name: str) -> None:
    """By PyTorch's own function between linear layers; its second output, the shares, by their formula."""
    case = attention_models.CASES[name]
    inputs = [np.moveaxis(x, -1, 1) for x in attention_models.inputs_of(case)]
    program = agree(attention_models.network_of(case), inputs, loose=1e-12)
    plain = case.listed and (case.kind == "AdditiveAttention" or case.config.get("score_mode") == "concat")
    explicit = plain or case.kwargs.get("return_attention_scores")
    assert ("F.scaled_dot_product_attention(" in program.source) is not bool(explicit)
