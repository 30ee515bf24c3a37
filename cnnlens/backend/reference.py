"""The reference as a backend: NumPy in float32, in a worker like any other.

It is the backend that is always there, and the example of what a backend is: everything beyond the executor that a
third party would write as well stands in these lines.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.seam import STORED, check_precision, parse_device
from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from cnnlens.reference.executor import Executor

__all__ = ["BACKEND"]


class ReferenceSession:
    """A network in the NumPy executor; see ``cnnlens.backend.seam.Session``."""

    device = "cpu"

    def __init__(self, network: Network) -> None:
        self.versions: Mapping[str, str] = {"numpy": np.__version__, "python": platform.python_version()}
        self._network = network
        self._executors: dict[tuple[str, ...], Executor] = {}
        self._executor([ref.name for ref in network.outputs] or list(network.tensors))

    def _executor(self, tensors: Sequence[str]) -> Executor:
        key = tuple(tensors)
        if key not in self._executors:
            self._executors[key] = Executor(self._network, "float32", list(tensors))
        return self._executors[key]

    def feature_maps(self, inputs: Sequence[NDArray[Any]], tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        found = self._executor(tensors).run(list(inputs))
        return {name: found[name] for name in tensors}

    def weights(self) -> dict[str, dict[str, NDArray[Any]]]:
        return {layer.name: dict(layer.weights) for layer in self._network.layers if layer.stored}

    def close(self) -> None:
        self._executors.clear()


class ReferenceBackend:
    """See ``cnnlens.backend.seam.Backend``."""

    name = "reference"
    requires = ("numpy",)
    install = "python -m pip install numpy"
    layout = STORED

    def environment(self, device: str, precision: str) -> dict[str, str]:
        return {}

    def devices(self) -> list[str]:
        return ["cpu"]

    def load(
        self, network: Network, device: str, precision: str, live: Any = None, trust_code: bool = False
    ) -> ReferenceSession:
        check_precision(precision)  # both mean float32, which NumPy never reduces
        if parse_device(device)[0] != "cpu":
            raise CnnlensError(f"device '{device}': the reference runs on the cpu alone; ask for cpu")
        return ReferenceSession(network)


BACKEND = ReferenceBackend()
