"""PyTorch's tensors as host arrays: all of a batch at once, from a GPU into memory that it writes to by itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from cnnlens_backends._shared import Array

__all__ = ["to_host"]


def to_host(tensors: Sequence[Any]) -> list[Array]:
    """Bring tensors to the host, in the order of memory that they have, and wait for them once.

    bfloat16, which NumPy has not, crosses as it is and is widened to float32 here.
    """
    torch = import_module("torch")
    found = [_begun(tensor) for tensor in tensors]
    for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
        torch.cuda.synchronize(device)
    return [(one.float() if one.dtype == torch.bfloat16 else one).numpy() for one in found]


def _begun(tensor: Any) -> Any:
    """A tensor on the host; of a GPU's, a copy that may not be there yet, in pinned memory that torch lends again."""
    if not tensor.is_cuda:
        return tensor
    host = import_module("torch").empty_like(tensor, device="cpu", pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
