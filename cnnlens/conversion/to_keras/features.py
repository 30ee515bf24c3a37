"""Layers that work on features: dense layers, normalisations, slopes, embeddings.

They say which axis they work on, so a normalisation needs no other order of axes; and where they stand behind a
flattened map, their vectors and kernels follow the order in which Keras flattened it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from cnnlens.conversion.to_keras.builder import by_features
from cnnlens.conversion.to_keras.call_site import CallSite, reference
from cnnlens.conversion.to_keras.value import Value
from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.keras.activations import PReLU
from cnnlens.reference.keras.dense import Dense
from cnnlens.reference.keras.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
)
from cnnlens.reference.keras.shaping import Embedding

__all__ = ["last_behind"]

# PyTorch's and Keras' default, which a layer that counts its own batches falls back to.
_MOMENTUM = 0.1


def last_behind(site: CallSite, x: Value) -> Value:
    """Move PyTorch's last axis to be last in Keras as well."""
    last = x.rank - 1
    if x.axes[-1] == last:
        return x
    return site.builder.turned(x, (*(axis for axis in x.axes if axis != last), last))


@reference(Dense)
def _dense(site: CallSite) -> Value:
    operation = cast(Dense, site.operation)
    x = last_behind(site, site.main)
    arrays = site.arrays
    arrays = {**arrays, "kernel": by_features(arrays["kernel"], x.flat)}
    config = {"units": operation.units, "activation": "linear", "use_bias": operation.use_bias}
    return site.layer("Dense", x, config, arrays)


def _axis(x: Value, axis: int) -> int:
    """An axis in Keras, the last one as -1, which is how people write it."""
    place = x.place(axis)
    return -1 if place == x.rank - 1 else place


def _kept(site: CallSite, kind: str, x: Value, config: dict[str, Any], arrays: dict[str, Any]) -> Value:
    return replace(site.layer(kind, x, config, arrays), flat=x.flat)


@reference(BatchNormalization)
def _batch_normalization(site: CallSite) -> Value:
    operation = cast(BatchNormalization, site.operation)
    x = site.main
    momentum = site.args.get("momentum", _MOMENTUM)
    config = {
        "axis": _axis(x, 1),
        "momentum": round(1 - float(momentum), 12),
        "epsilon": operation.epsilon,
        "center": operation.center,
        "scale": operation.scale,
    }
    arrays = {name: by_features(array, x.flat) for name, array in site.arrays.items()}
    return _kept(site, "BatchNormalization", x, config, arrays)


@reference(GroupNormalization)
def _group_normalization(site: CallSite) -> Value:
    operation = cast(GroupNormalization, site.operation)
    x = site.map()
    arrays = site.arrays
    config = {
        "groups": operation.groups,
        "axis": _axis(x, 1),
        "epsilon": operation.epsilon,
        "center": "beta" in arrays,
        "scale": "gamma" in arrays,
    }
    return site.layer("GroupNormalization", x, config, arrays)


def _normalised_last(site: CallSite) -> tuple[Value, list[int]]:
    """The input with the normalised axes last, in whatever order, and how the stored vectors' axes follow it.

    Keras on PyTorch normalises the last axes, whatever a LayerNormalization says; an RMSNormalization spreads its scale
    over them (Keras 3.15.1).
    """
    x = site.builder.plain(site.main)
    first = x.rank - len(site.args.get("normalized_shape", [0]))
    tail = x.axes[first:]
    if min(tail) < first:
        tail = tuple(range(first, x.rank))
        x = site.builder.turned(x, (*(axis for axis in x.axes if axis < first), *tail))
    return x, [axis - first for axis in tail]


def _last_axes(count: int, rank: int) -> Any:
    return -1 if count == 1 else list(range(rank - count, rank))


@reference(LayerNormalization)
def _layer_normalization(site: CallSite) -> Value:
    operation = cast(LayerNormalization, site.operation)
    x, order = _normalised_last(site)
    arrays = {name: array.transpose(order) for name, array in site.arrays.items()}
    config = {
        "axis": _last_axes(len(order), x.rank),
        "epsilon": operation.epsilon,
        "center": "beta" in arrays,
        "scale": "gamma" in arrays,
    }
    return site.layer("LayerNormalization", x, config, arrays)


@reference(RMSNormalization)
def _rms_normalization(site: CallSite) -> Value:
    operation = cast(RMSNormalization, site.operation)
    x, order = _normalised_last(site)
    shape = [cast(int, x.shape[axis]) for axis in x.axes[x.rank - len(order) :]]
    scale = site.arrays["scale"].transpose(order) if "scale" in site.arrays else np.ones(shape, np.float32)
    config = {"axis": _last_axes(len(order), x.rank), "epsilon": operation.epsilon}
    return site.layer("RMSNormalization", x, config, {"scale": scale})


@reference(PReLU)
def _prelu(site: CallSite) -> Value:
    x = site.main
    alpha = site.arrays["alpha"].reshape(-1)
    if x.rank < 2:
        raise UnsupportedLayerError("its input has no axis of channels")
    channel = x.place(1)
    shared = [place for place in range(1, x.rank) if place != channel or alpha.size == 1]
    shape = [1 if place in shared else alpha.size for place in range(1, x.rank)]
    values = (by_features(alpha, x.flat) if alpha.size > 1 else alpha).reshape(shape)
    return _kept(site, "PReLU", x, {"shared_axes": shared or None}, {"alpha": values})


@reference(Embedding)
def _embedding(site: CallSite) -> Value:
    x = site.args.get("indices")
    indices = site.builder.turned(site.tensor(x), tuple(range(site.tensor(x).rank)))
    table = site.arrays["embeddings"]
    config = {"input_dim": table.shape[0], "output_dim": table.shape[1], "mask_zero": False}
    return site.layer("Embedding", indices, config, {"embeddings": table}, axes=range(len(site.shape)))
