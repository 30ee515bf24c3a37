"""Many settings in one network: branches side by side, each a single call on an input that others of its shape share.

The networks are those of ``cnnlens.testing``: a Keras config with its arrays, and a program of PyTorch's operators.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.files.keras.network import keras_network
from cnnlens.files.memory import MemoryModel
from cnnlens.network.network import Network
from cnnlens.surveying.setting import Operand, Setting
from cnnlens.testing import networks as keras
from cnnlens.testing.torch_networks import TorchGraph

__all__ = ["arrays_of", "branch", "network_of"]

_POSITIVE = frozenset({"gamma", "scale", "moving_variance", "variance", "running_var"})


def branch(number: int, setting: Setting) -> str:
    """Name the layer of a setting."""
    return f"s{number}_{setting.family.kind}"


def arrays_of(setting: Setting) -> dict[str, NDArray[np.float32]]:
    """Draw the arrays of a setting, the same every time."""
    if setting.ones:
        return {role: np.ones(shape, np.float32) for role, shape in setting.call.weights.items()}
    generator = np.random.default_rng(zlib.crc32(setting.key.encode()))
    return {role: _numbers(generator, role, shape) for role, shape in setting.call.weights.items()}


def network_of(settings: Sequence[Setting]) -> Network:
    """Build one network of settings of one framework; the layer of the setting at place n is ``branch(n, setting)``."""
    inputs = _inputs(settings)
    if settings[0].family.framework == "torch":
        return _torch(settings, inputs)
    entries = [
        keras.input_entry(name, *one.shape, dtype="int32" if one.below else "float32")
        for (one, _), name in inputs.items()
    ]
    arrays: dict[tuple[str, ...], dict[str, NDArray[Any]]] = {}
    outputs: list[list[Any]] = []
    for number, setting in enumerate(settings):
        name, call = branch(number, setting), setting.call
        tensors = [keras.tensor(inputs[one, place]) for place, one in enumerate(call.operands)]
        args = [tensors] if call.listed else tensors
        entry = keras.layer_entry(call.name, name, **call.config)
        del entry["config"]["trainable"]  # which some layers do not take, and every layer has by itself
        if call.module != "keras.layers":
            entry |= {"module": call.module, "registered_name": call.name, "config": {"name": name, **call.config}}
        entries.append({**entry, "inbound_nodes": [{"args": [*args, *call.extra], "kwargs": dict(call.named)}]})
        outputs.append([name, 0, 0])
        for role, array in arrays_of(setting).items():
            *inside, own = role.split("/")
            arrays.setdefault((name, *inside), {})[own] = array
    return keras_network(MemoryModel(keras.functional("survey", entries, list(inputs.values()), outputs), arrays))


def _torch(settings: Sequence[Setting], inputs: Mapping[tuple[Operand, int], str]) -> Network:
    graph = TorchGraph("survey", 0)
    refs = {key: graph.input(name, *key[0].shape) for key, name in inputs.items()}
    outputs = [
        graph.call(
            branch(number, setting),
            setting.call.name.partition(".")[0],
            setting.call.name,
            [refs[one, place] for place, one in enumerate(setting.call.operands)],
            None,
            arrays_of(setting),
            **setting.call.config,
        )
        for number, setting in enumerate(settings)
    ]
    return graph.network(list(refs.values()), outputs)


def _inputs(settings: Sequence[Setting]) -> dict[tuple[Operand, int], str]:
    """The inputs that settings share, by what they are and the place in the call."""
    found: dict[tuple[Operand, int], str] = {}
    for setting in settings:
        for place, one in enumerate(setting.call.operands):
            found.setdefault((one, place), f"index_{len(found)}_{one.below}" if one.below else f"input_{len(found)}")
    return found


def _numbers(generator: np.random.Generator, role: str, shape: Sequence[int]) -> NDArray[np.float32]:
    if role in _POSITIVE:  # not 1, so that leaving it out shows
        return generator.uniform(0.5, 2.0, shape).astype(np.float32)
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 4
    return generator.normal(0, max(fan_in, 1) ** -0.5, shape).astype(np.float32)
