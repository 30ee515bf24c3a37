"""Keras -> PyTorch: every layer kind, converted, run under PyTorch in float64, and held against the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens import layout, sample, testing
from cnnlens.conversion import to_torch
from cnnlens.errors import UnsupportedLayerError
from cnnlens.files import StoredArray
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.testing import MemoryModel
from tests.reference.test_layers import _load, truth  # noqa: F401
from tests.support import SHARED
from tests.support.graphs import graphs  # noqa: F401
from tests.support.random_networks import random_network
from tests.support.reference_cases import LAYERS, LayerCase
from tests.support.reference_ops import OPS, OpCase
from tests.support.to_torch_models import agree, entry, given, inputs_of, module_of, network_of_case, sequential

torch = pytest.importorskip("torch")

DATA = SHARED / "data"
# Sizes far beyond what a layer's rule depends on, which the reference's own blocks are tested with.
_LARGE = 40_000
_COMPARED = (
    "Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Conv1DTranspose "
    "Conv2DTranspose Conv3DTranspose Dense BatchNormalization GroupNormalization Embedding"
).split()


def _small(case: LayerCase) -> bool:
    return all(np.prod(shape) < _LARGE for shape in case.shapes)


@pytest.mark.parametrize("case", [case for case in LAYERS if _small(case)], ids=lambda case: case.name)
def test_each_layer_computes_what_the_reference_computes(case: LayerCase) -> None:
    random = np.random.default_rng(3)
    network = network_of_case(case, random)
    inputs = None
    if case.kind == "Embedding":
        inputs = [random.integers(0, case.arguments["input_dim"], case.shapes[0])]
    elif case.kind == "Masking":
        inputs = inputs_of(network)
        inputs[0][1, :, 2:4] = case.arguments["mask_value"]
    program = agree(network, inputs)
    _weights_are_the_files(network, program)


def _weights_are_the_files(network: Network, program: to_torch.Program) -> None:
    """Each array in PyTorch's layout is, made canonical, what the file's is: bit for bit."""
    layers = {layer.name: layer for layer in network.layers_of_calls}
    compared: set[tuple[str, str]] = set()
    for key, (name, role) in program.sources.items():
        weight = layers[name].stored[role]
        array = program.state[key]
        assert array.size == weight.read().size or weight.kind == "GRU"
        if weight.kind in _COMPARED:
            assert _same_bits(weight, array)
            compared.add((name, role))
    every = {
        (name, role)
        for name, layer in layers.items()
        for role, weight in layer.stored.items()
        if weight.kind in _COMPARED
    }
    assert compared == every


def _same_bits(weight: Weight, array: np.ndarray) -> bool:
    """Whether both are one array in canonical axes; a map may also be held, and flattened, in Keras' own order."""
    for flatten in {weight.geometry.flatten, None}:
        geometry = replace(weight.geometry, flatten=flatten)
        theirs = layout.canonicalise(weight.kind, weight.role, weight.read(), geometry)
        ours = layout.canonicalise(weight.kind, weight.role, array, geometry, "torch")
        if (
            ours.shape == theirs.shape
            and np.ascontiguousarray(ours).tobytes() == np.ascontiguousarray(theirs).tobytes()
        ):
            return True
    return False


@pytest.mark.parametrize("case", OPS, ids=lambda case: case.name)
def test_each_op_between_layers_computes_what_the_reference_computes(
    case: OpCase,
    truth: Mapping[str, Any],  # noqa: F811
) -> None:
    found = truth[f"op/{case.name}/float64"]
    inputs, _, _ = _load(found)
    network = keras_network(MemoryModel(found["model"], {}))
    agree(network, [np.moveaxis(x, -1, 1) if x.ndim > 2 else x for x in inputs])


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_agree_and_keep_every_weight(seed: int) -> None:
    network = random_network(seed)
    _weights_are_the_files(network, agree(network))


@pytest.mark.parametrize("name", testing.NETWORKS)
def test_graphs_of_every_shape(name: str) -> None:
    network = testing.network(name)
    _weights_are_the_files(network, agree(network))


def test_graphs_that_keras_saved(graphs: Path) -> None:  # noqa: F811
    files = sorted(graphs.glob("*.keras"))
    assert len(files) > 10
    for path in files:
        with np.load(path.with_suffix(".inputs.npz")) as stored:
            inputs = [np.moveaxis(x, -1, 1) if x.ndim > 2 else x for x in stored.values()]
        if path.stem != "masked":
            agree(cnnlens.open(path), inputs)


def test_layers_behind_a_mask_are_refused_for_it(graphs: Path) -> None:  # noqa: F811
    with pytest.raises(UnsupportedLayerError, match=r"'last' \(LSTM\): it is called with a mask, which"):
        agree(cnnlens.open(graphs / "masked.keras"))


@pytest.mark.parametrize("flat", [False, True])
def test_a_factor_a_channel_needs_no_rule_of_its_own(flat: bool) -> None:
    flatten = [entry("Flatten", "flat")] if flat else []
    scale = entry("LayerScale", "scale", module="keras.src.applications.convnext")
    layers = [given("x", 4, 3, 5), *flatten, scale, entry("Dense", "d", units=2, use_bias=False)]
    size = 60 if flat else 5
    arrays = {("scale",): {"gamma": np.linspace(0.5, 2, size)}, ("d",): {"kernel": np.ones((size, 2)) * [[1, -3]]}}
    assert "x * self.scale" in agree(sequential(layers, arrays)).source


def test_the_sample() -> None:
    agree(cnnlens.open(sample.MODEL))


@pytest.mark.skipif(not DATA.exists(), reason="files that are not part of the repository")
def test_a_model_that_somebody_else_trained() -> None:
    agree(cnnlens.open(DATA / "best-cnn-model.keras"))


def _with_positive_variances(network: Network) -> Network:
    """Files of random weights hold variances below zero, of which nothing but NaN comes."""
    for layer in network.layers_of_calls:
        for name, weight in layer.stored.items():
            if weight.role in ("moving_variance", "variance"):
                array = np.abs(weight.read())
                stored = StoredArray(array.shape, array.dtype, array.dtype.name, name, array.copy)
                layer.stored[name] = replace(weight, stored=stored)  # type: ignore[index]
    return network


@pytest.mark.skipif(not DATA.exists(), reason="files that are not part of the repository")
@pytest.mark.parametrize("version", ["tf213", "keras305"])
def test_files_of_older_keras_versions(version: str) -> None:
    converted: list[str] = []
    for path in sorted((DATA / "keras_files" / version).glob("*.keras")):
        network = _with_positive_variances(cnnlens.open(path))
        if path.stem in ("convlstm", "subclassed"):
            with pytest.raises(cnnlens.CnnlensError, match=r"convolutional LSTM|without a graph"):
                to_torch.program(network)
            continue
        agree(network)
        converted.append(path.stem)
    assert len(converted) > 10


def test_every_tensor_can_be_watched_in_keras_axes() -> None:
    network = testing.network("nested")
    program = to_torch.program(network)
    seen: dict[str, np.ndarray] = {}

    def watch(names: tuple[str, ...], value: Any) -> None:
        name = next(name for name in names if name not in seen)
        seen[name] = program.stored(name, value.detach().numpy())

    inputs = inputs_of(network)
    module_of(program, program.watched(), watch=watch)(torch.from_numpy(inputs[0]))
    maps = network.run(inputs[0])
    assert set(seen) == set(maps) - {"image"}
    for name, array in seen.items():
        np.testing.assert_allclose(np.moveaxis(array, -1, 1), maps[name], rtol=0, atol=1e-12)
