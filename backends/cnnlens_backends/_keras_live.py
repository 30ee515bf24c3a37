"""A live ``keras.Model``: as a Network, and as the layers that a session runs.

Its config is what Keras would save, read by the reader that reads files; its arrays are the layers' own, taken when
they are asked for. So a live model looks like its file in every view, and runs with the layers that its owner holds.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.kinds import kind_of
from cnnlens.network.network import Network
from cnnlens.text import printable
from cnnlens_backends._keras_errors import first_line
from cnnlens_backends._keras_variables import host, own_variables, walk

__all__ = ["live_layers", "network_from_live"]


class LiveArray:
    """A variable of a live model; see ``cnnlens.network.weight.Stored``. ``read`` copies its value of that moment."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self.shape = tuple(cast("tuple[int, ...]", variable.shape))
        self.stored_dtype = str(variable.dtype)
        self.place = str(variable.path)

    @property
    def dtype(self) -> Any:
        import numpy as np

        return np.dtype("float32" if self.stored_dtype == "bfloat16" else self.stored_dtype)

    @property
    def nbytes(self) -> int:
        import math

        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Any:
        array = host(self._variable).copy()
        array.flags.writeable = False
        return array


class LiveSource:
    """Stands where a file stands; see ``cnnlens.files.ModelFile``."""

    format = "live model"
    framework = "keras"
    notes = ()

    def __init__(self, model: Any, config: dict[str, Any]) -> None:
        self.path = Path(model.name)
        self.unmatched: dict[str, LiveArray] = {}
        self.keras_version: str | None = import_module("keras").__version__
        self.config: dict[str, Any] | None = config
        self.weights = {
            path: {role: LiveArray(variable) for role, variable in own.items()}
            for path, layer in walk(model)
            if (own := own_variables(layer))
        }

    @property
    def size(self) -> int:
        return sum(array.nbytes for arrays in self.weights.values() for array in arrays.values())

    @property
    def sha256(self) -> str:
        """Of config and arrays, for there is no file: it changes when the model is trained on."""
        import hashlib

        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for path, arrays in self.weights.items():
            for role, array in arrays.items():
                digest.update(f"{path}{role}{array.stored_dtype}{array.shape}".encode())
                digest.update(array.read().tobytes())
        return digest.hexdigest()


def network_from_live(model: Any) -> Network:
    """Turn a live ``keras.Model`` into a Network; its arrays are read, as they then are, when asked for.

    Raises:
        CnnlensError: it is no model of Keras 3, it was not built yet, or a layer of it cannot say its config.
    """
    from cnnlens.files.keras.network import keras_network

    keras = import_module("keras")
    if not isinstance(model, keras.Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise CnnlensError(
            f"a keras.Model of Keras {keras.__version__} was expected, a {printable(kind)} came; save it to a file"
        )
    if not model.built:
        raise CnnlensError(
            f"the model '{printable(model.name)}' has no weights yet; call it once, or give it a keras.Input"
        )
    try:
        config = json.loads(model.to_json())
    except Exception as error:
        raise CnnlensError(
            f"the model '{printable(model.name)}' cannot say its config ({first_line(error)}); "
            "give its layers a get_config"
        ) from error
    return keras_network(cast("Any", LiveSource(model, config)))


def _same_name(kind: str) -> str:
    """A class by the name that files have for it: Keras' GroupedQueryAttention is saved under another."""
    return kind_of(kind).name or kind


def live_layers(model: Any, network: Network) -> dict[str, Any]:
    """Find a live model's layer (or operation) for each layer of its network that is called, by its name.

    Raises:
        CnnlensError: the network is of another model.
    """
    found = dict(_named(model, ""))
    layers: dict[str, Any] = {}
    for call in network.calls:
        layer = call.layer
        if layer.container or layer.kind == "InputLayer":
            continue
        made = found.get(layer.name)
        if made is None or _same_name(type(made).__name__) != _same_name(layer.kind.rsplit(">", 1)[-1]):
            raise UnsupportedLayerError(
                f"layer '{printable(layer.name)}' ({printable(layer.kind)}): the live model has no such layer; "
                "open it again"
            )
        layers[layer.name] = made
    return layers


def _named(model: Any, prefix: str) -> Any:
    keras = import_module("keras")
    inner = model._functional if isinstance(model, keras.Sequential) and model._functional is not None else model
    for one in inner.operations if hasattr(inner, "operations") else inner.layers:
        yield prefix + one.name, one
        if isinstance(one, keras.Model):
            yield from _named(one, f"{prefix}{one.name}/")
