"""PyTorch's tensors as host arrays: all of a batch at once, from a GPU into memory that it writes to by itself, on a
stream of its own, so that it computes the next batch meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from cnnlens_backends._shared import Array

__all__ = ["send", "to_host"]


def to_host(tensors: Sequence[Any]) -> list[Array]:
    """Bring tensors to the host, in the order of memory that they have.

    bfloat16, which NumPy has not, crosses as it is and is widened to float32 here.
    """
    return send(tensors)()


def send(tensors: Sequence[Any]) -> Callable[[], list[Array]]:
    """Begin what ``to_host`` does, behind all that was computed so far, and give what waits for it."""
    torch = import_module("torch")
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    for device in devices:
        _copying(device).wait_stream(torch.cuda.current_stream(device))
    found = [_begun(tensor) for tensor in tensors]
    events = [_copying(device).record_event() for device in devices]

    def wait() -> list[Array]:
        for event in events:
            event.synchronize()
        return [_array(one) for one in found]

    return wait


@cache
def _copying(device: Any) -> Any:
    return import_module("torch").cuda.Stream(device)


def _begun(tensor: Any) -> Any:
    """A tensor on the host; of a GPU's, a copy that may not be there yet, in pinned memory that torch lends again."""
    if not tensor.is_cuda:
        return tensor
    torch, stream = import_module("torch"), _copying(tensor.device)
    with torch.cuda.stream(stream):
        host = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
    tensor.record_stream(stream)  # its memory is no other tensor's before it is read
    return host


def _array(tensor: Any) -> Array:
    # NumPy takes no view of a parameter, and none that torch has yet to conjugate or negate.
    plain = tensor.detach().resolve_conj().resolve_neg()
    return (plain.float() if plain.dtype == import_module("torch").bfloat16 else plain).numpy()
