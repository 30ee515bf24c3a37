"""PyTorch's devices, how one is waited for, and its switches for precision, whether Keras or a native module runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["first_calls", "gpus", "peak", "switched", "wait"]

# What torch has MKL's vector mathematics compute on a CPU (``aten/src/ATen/cpu/vml.h``).
_VECTORISED = (
    "acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "erfinv", "exp", "expm1", "lgamma", "log", "log10", "log1p",
    "log2", "sigmoid", "sin", "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip


def gpus() -> list[str]:
    """List the names of its GPUs, in its order."""
    cuda = import_module("torch").cuda
    return [cuda.get_device_name(index) for index in range(cuda.device_count())]


def wait(device: str) -> None:
    """Return when all that ``cpu`` or ``cuda:0`` was given is computed."""
    if device != "cpu":
        import_module("torch").cuda.synchronize(device)


def peak(device: str) -> int:
    """Count the bytes of ``cuda:0`` that torch has held at most."""
    return import_module("torch").cuda.max_memory_allocated(device)


@cache
def first_calls() -> None:
    """Call each of MKL's vectorised functions once, on one number and one thread.

    MKL 2024.2 looks for the kernel of a function on its first call, and where several threads make that call at once,
    one of them may run a kernel of half the digits: 12 bits in a part of a map, once (pytorch/pytorch#188792).
    """
    torch = import_module("torch")
    for dtype in (torch.float32, torch.float64):
        one = torch.full((1,), 0.5, dtype=dtype)
        for name in _VECTORISED:
            getattr(torch, name)(one)


@contextmanager
def switched(precision: str) -> Generator[None]:
    """Hold float32 to ``strict`` or ``tf32`` while it is open, whatever else leaves all as it is; closed, as before.

    Strict is float32 and nothing less, in runs that repeat themselves.
    """
    if precision not in ("strict", "tf32"):
        yield
        return
    torch, strict = import_module("torch"), precision == "strict"
    settings: list[tuple[Any, str, bool]] = [
        (torch.backends.cuda.matmul, "allow_tf32", not strict),
        (torch.backends.cudnn, "allow_tf32", not strict),
    ]
    if strict:
        settings += [
            (torch.backends.cudnn, "deterministic", True),
            (torch.backends.cudnn, "benchmark", False),
            (torch.utils.deterministic, "fill_uninitialized_memory", False),
        ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    mode = torch.get_deterministic_debug_mode()
    for owner, name, value in settings:
        setattr(owner, name, value)
    if strict:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        for owner, name, value in before:
            setattr(owner, name, value)
