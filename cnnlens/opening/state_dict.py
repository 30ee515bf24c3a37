"""A live PyTorch module's arrays without its graph, for comparing weights where nobody gave an example input.

Exporting a graph needs something to call the module with; its state dict does not. No framework is imported: whoever
hands over a module has done so, and what is needed of it is asked of the object itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.torch.state_layers import torch_layers
from cnnlens.network.network import Network
from cnnlens.text import printable

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
    """Tell whether an object is a module of PyTorch's."""
    return callable(getattr(model, "state_dict", None)) and callable(getattr(model, "named_modules", None))


def network_of_state(model: Any) -> Network:
    """Turn a module's state dict, or a mapping of tensors or arrays by such names, into a network without a graph.

    Raises:
        CnnlensError: There is no array in it; one line.
    """
    tensors = cast("Mapping[object, Any]", model if isinstance(model, Mapping) else model.state_dict())
    held = {str(name): tensor for name, tensor in tensors.items() if hasattr(tensor, "__array__")}
    if not held and isinstance(model, Mapping):
        shown = ", ".join(f"'{printable(str(name), 40)}'" for name in list(tensors)[:3]) or "nothing"
        raise CnnlensError(f"a mapping of arrays by name was expected, as module.state_dict() gives it, and {shown} "
                           "came, which are none; hand over the mapping that holds the arrays")  # fmt: skip
    arrays = {name: _stored(name, tensor) for name, tensor in held.items()}
    return torch_layers(cast("Any", _LiveState(arrays, Path(type(cast("object", model)).__name__))))


def _stored(name: str, tensor: Any) -> StoredArray:
    kind = str(tensor.dtype).rpartition(".")[2]
    # Another library may have added a bfloat16 to NumPy: its numbers are widened, as those of a file are.
    is_numpys = kind in np.sctypeDict and np.dtype(kind).isbuiltin == 1
    dtype = np.dtype(kind if is_numpys else np.float32)

    def load() -> NDArray[Any]:
        if not hasattr(tensor, "detach"):
            return np.asarray(tensor).astype(dtype, copy=False).view()
        held = tensor.detach().cpu()
        return np.asarray((held if is_numpys else held.float()).numpy()).view()

    return StoredArray(tuple(int(size) for size in tensor.shape), dtype, kind, name, load)
