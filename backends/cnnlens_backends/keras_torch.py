"""Keras on PyTorch: the walk in inference mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from cnnlens_backends._keras import Array, KerasBackend, Run, Walk


class _Torch(KerasBackend):
    compiles = False

    def compiled(self, walk: Walk, variables: Sequence[Any], device: str) -> Run:
        torch = import_module("torch")
        target = device.replace("gpu", "cuda")

        def run(arrays: Sequence[Array]) -> list[Array]:
            with torch.inference_mode():
                # torch warns of arrays that it could write to and must not; a copy of an input costs little.
                tensors = [torch.from_numpy(np.require(array, requirements="W")).to(target) for array in arrays]
                return [tensor.contiguous().cpu().numpy() for tensor in walk(tensors)]

        return run

    def gpus(self) -> list[str]:
        cuda = import_module("torch").cuda
        return [cuda.get_device_name(index) for index in range(cuda.device_count())]

    @contextmanager
    def strict(self) -> Iterator[None]:
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


BACKEND = _Torch("torch", "torch", "torch")
