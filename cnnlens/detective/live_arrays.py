"""A live PyTorch module's arrays without its graph, for comparing weights where nobody gave an example input.

Exporting a graph needs something to call the module with; its state dict does not. No framework is imported: whoever
hands over a module has done so, and what is needed of it is asked of the object itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.files.arrays import StoredArray
from cnnlens.files.torch_layers import torch_layers
from cnnlens.network import Network

__all__ = ["has_state_dict", "network_of_state"]


@dataclass(frozen=True)
class _LiveState:
    """A state dict that lies in memory, with what a file of one would say."""

    arrays: dict[str, StoredArray]
    path: Path
    ordered: bool = True
    format: str = "live model"
    framework: str = "torch"
    keras_version: None = None
    notes: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""


def has_state_dict(model: object) -> bool:
    """Whether an object is a module of PyTorch's."""
    return callable(getattr(model, "state_dict", None)) and callable(getattr(model, "named_modules", None))


def network_of_state(model: Any) -> Network:
    """The module's state dict as a network without a graph."""
    tensors = cast("dict[str, Any]", model.state_dict())
    arrays = {name: _stored(name, tensor) for name, tensor in tensors.items() if hasattr(tensor, "detach")}
    return torch_layers(cast("Any", _LiveState(arrays, Path(type(model).__name__))))


def _stored(name: str, tensor: Any) -> StoredArray:
    kind = str(tensor.dtype).rpartition(".")[2]

    def load() -> NDArray[Any]:
        held = tensor.detach().cpu()
        return np.asarray((held.float() if kind == "bfloat16" else held).numpy()).view()

    dtype = np.dtype(np.float32 if kind == "bfloat16" else kind)
    return StoredArray(tuple(int(size) for size in tensor.shape), dtype, kind, name, load)
