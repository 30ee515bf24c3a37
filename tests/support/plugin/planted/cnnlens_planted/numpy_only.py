"""The reference with a fault at some settings, as the file that CNNLENS_PLANT names says: no framework is imported.

``shift`` moves a convolution's output by one place where its dilation is 2, its padding ``same`` and its kernel of even
length; ``crash`` dies and ``hang`` falls silent there instead.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.backend.reference import ReferenceBackend, ReferenceSession


def hit(config: Any) -> bool:
    """Whether a layer has these settings along its last axis."""
    kernel, dilation = config.get("kernel_size") or [1], config.get("dilation_rate") or [1]
    return config.get("padding") == "same" and dilation[-1] == 2 and kernel[-1] % 2 == 0


class PlantedSession(ReferenceSession):
    def feature_maps(self, inputs: Sequence[np.ndarray], tensors: Sequence[str]) -> dict[str, np.ndarray]:
        found = super().feature_maps(inputs, tensors)
        planted = Path(os.environ["CNNLENS_PLANT"]).read_text()
        for name in tensors:
            if hit(self._network.calls_by_name[name].layer.config):
                if planted == "crash":
                    os.abort()
                if planted == "hang":
                    ctypes.PyDLL(None).sleep(1000)
                if planted == "shift":
                    found[name] = np.roll(found[name], 1, axis=-1)
        return found


class PlantedReference(ReferenceBackend):
    name = "planted-reference"
    layout = "keras"

    def load(self, network: Any, *args: Any, **kwargs: Any) -> PlantedSession:
        return PlantedSession(network)


REFERENCE = PlantedReference()
