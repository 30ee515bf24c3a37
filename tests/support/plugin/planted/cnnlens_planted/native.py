"""The ``pytorch`` backend with one fault in one layer, as the file that CNNLENS_PLANT names says.

As in ``cnnlens_planted`` the faults are real: torch's own tensors are changed, or which operation of torch is called.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from cnnlens_backends.pytorch import BACKEND

CHANNEL = 2


def scaled(weights: dict[str, Any]) -> None:
    weights["weight"][CHANNEL] *= 1.0001


def swapped(weights: dict[str, Any]) -> None:
    weights["weight"].copy_(weights["weight"].transpose(2, 3).clone())


def flipped(weights: dict[str, Any]) -> None:
    weights["weight"].copy_(weights["weight"].flip(2, 3))


def no_bias(weights: dict[str, Any]) -> None:
    weights["bias"].zero_()


def not_a_number(weights: dict[str, Any]) -> None:
    weights["weight"][CHANNEL, 0, 0, 0] = float("nan")


IN_WEIGHTS = {"scaled": scaled, "swapped": swapped, "flipped": flipped, "no_bias": no_bias, "nan": not_a_number}
# A layer's arguments as they are, and others in their place; or another operation.
IN_CALLS = {
    "epsilon": {"arguments": {"eps": 1e-3}},
    "no_relu": {"target": "aten.clone.default"},
    "subtracted": {"target": "aten.sub.Tensor"},
    "count": {"arguments": {"count_include_pad": False}},
    "tanh_gelu": {"arguments": {"approximate": "tanh"}},
    "corners": {"arguments": {"align_corners": True}},
    "unstrided": {"arguments": {"dilation": [2, 2], "padding": [2, 2]}},
}


class PlantedPytorch(type(BACKEND)):
    name = "planted-pytorch"

    def load(self, network: Any, *args: Any, **kwargs: Any) -> Any:
        layer, _, fault = Path(os.environ["CNNLENS_PLANT"]).read_text().partition(":")
        if fault in IN_CALLS:
            planted = next(one for one in network.layers if one.name == layer)
            changed = IN_CALLS[fault]
            arguments = {**planted.entry["arguments"], **changed.get("arguments", {})}
            planted.entry = {**planted.entry, **changed, "arguments": arguments}
        session = super().load(network, *args, **kwargs)
        if fault in IN_WEIGHTS:
            with import_module("torch").no_grad():
                held = {name: one for (owner, name), one in session._weights.items() if owner == layer}
                IN_WEIGHTS[fault](held)
        return session


PYTORCH = PlantedPytorch()
