"""PyTorch's devices, and its switches for precision: the same whether Keras stands on it or a native module runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module

__all__ = ["gpus", "strict"]


def gpus() -> list[str]:
    """List the names of its GPUs, in its order."""
    cuda = import_module("torch").cuda
    return [cuda.get_device_name(index) for index in range(cuda.device_count())]


@contextmanager
def strict() -> Generator[None]:
    """Hold float32 to float32 and runs to repeating themselves while it is open; closed, all is as before."""
    torch = import_module("torch")
    settings = [
        (torch.backends.cuda.matmul, "allow_tf32", False),
        (torch.backends.cudnn, "allow_tf32", False),
        (torch.backends.cudnn, "deterministic", True),
        (torch.backends.cudnn, "benchmark", False),
        (torch.utils.deterministic, "fill_uninitialized_memory", False),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    mode = torch.get_deterministic_debug_mode()
    for owner, name, value in settings:
        setattr(owner, name, value)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        for owner, name, value in before:
            setattr(owner, name, value)
