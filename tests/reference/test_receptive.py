"""Receptive fields against the reference itself: NaN in a row of an input is in all that is computed from that row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.reference.receptive import receptive_fields
from cnnlens.testing import NETWORKS, MemoryModel, inputs_for, network
from tests.support.random_networks import MORE, random_network


def seen_is_true(net: Network) -> int:
    """Whether what is said to be seen of each input is what NaN there reaches; the number of tensors held so."""
    inputs = dict(zip((ref.name for ref in net.inputs), inputs_for(net, 1), strict=True))
    fields = receptive_fields(net)
    held = 0
    for name, given in inputs.items():
        for axis in range(given.ndim - 2):
            size = given.shape[axis + 2]
            rows = np.repeat(given, size, axis=0)
            for cell in range(size):
                rows[(cell, slice(None), *[slice(None)] * axis, cell)] = np.nan
            maps = net.run({one: rows if one == name else np.repeat(inputs[one], size, axis=0) for one in inputs})
            for tensor, array in maps.items():
                field = fields[tensor]
                assert not isinstance(field, str), (net.name, tensor, field)
                if name not in field:
                    assert not np.isnan(array).any()
                    continue
                first, last = field[name].first[axis], field[name].last[axis]
                broken = np.isnan(array)
                spatial = array.ndim == given.ndim
                if spatial:
                    broken = np.moveaxis(broken, axis + 2, 1)
                reached: Any = broken.reshape(size, broken.shape[1] if spatial else 1, -1).any(axis=-1)
                for position in range(reached.shape[1]):
                    cells = np.flatnonzero(reached[:, position])
                    place = min(position, len(first) - 1)
                    if len(cells):
                        assert (first[place], last[place]) == (cells[0], cells[-1]), (net.name, tensor, axis, position)
                    else:
                        assert last[place] < first[place], (net.name, tensor, axis, position)
                held += 1
    return held


@pytest.mark.parametrize("seed", [*range(6), *range(MORE, MORE + 12)])
def test_a_field_is_what_nan_reaches(seed: int) -> None:
    assert seen_is_true(random_network(seed)) > 4


@pytest.mark.parametrize("framework", ["keras", "torch"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_through_branches_and_other_ranks(name: str, framework: str) -> None:
    assert seen_is_true(network(name, framework))


def sequential(*entries: tuple[str, dict[str, Any]], shape: tuple[int | None, ...] = (11, 9, 2)) -> Network:
    layers: list[tuple[str, dict[str, Any]]] = [("InputLayer", {"batch_shape": [None, *shape]}), *entries]
    config = {
        "class_name": "Sequential",
        "config": {
            "name": "made",
            "layers": [
                {"module": "keras.layers", "class_name": kind, "config": {**config, "name": f"l{place}"}}
                for place, (kind, config) in enumerate(layers)
            ],
        },
    }
    return keras_network(MemoryModel(config, {}))  # type: ignore[arg-type]


def test_what_is_cut_and_sampled() -> None:
    net = sequential(
        ("Cropping2D", {"cropping": [[2, 1], [0, 3]]}),
        ("UpSampling2D", {"size": [3, 2], "interpolation": "bilinear"}),
        ("MaxPooling2D", {"pool_size": [3, 2], "strides": [2, 3], "padding": "same"}),
        ("Resizing", {"height": 7, "width": 10, "interpolation": "bicubic", "crop_to_aspect_ratio": True}),
        ("CenterCrop", {"height": 4, "width": 5}),
        ("Softmax", {"axis": 2}),
    )
    assert seen_is_true(net) == 12


def test_what_is_not_known_is_said() -> None:
    net = sequential(("Permute", {"dims": [2, 1, 3]}), ("Activation", {"activation": "relu"}))
    assert receptive_fields(net)["l2"] == "not followed through layer 'l1' (Permute)"
    open_size = sequential(("AveragePooling2D", {}), shape=(None, None, 3))
    assert isinstance(receptive_fields(open_size)["l1"], str)
    assert not isinstance(receptive_fields(open_size, {"l0": (1, 3, 8, 6)})["l1"], str)
