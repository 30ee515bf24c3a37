"""Keras on PyTorch: the walk in inference mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import numpy as np

from cnnlens_backends._keras import KerasBackend
from cnnlens_backends._keras_walk import Array, Compiled, Walk, turned
from cnnlens_backends._torch_graph import captured
from cnnlens_backends._torch_host import send
from cnnlens_backends._torch_precision import first_calls, gpus, peak, switched, wait


class _Torch(KerasBackend):
    compiles = False  # of a new batch shape, nothing is; of one that comes again, copies are left out

    def compiled(
        self, walk: Walk, moves: Sequence[bool], variables: Sequence[Any], device: str, precision: str, chained: bool
    ) -> Compiled:
        torch = import_module("torch")
        target = device.replace("gpu", "cuda")
        graphs: dict[tuple[Any, ...], Any] = {}
        first_calls()

        def results(tensors: Sequence[Any]) -> list[Any]:
            shapes = tuple(tensor.shape for tensor in tensors)
            if precision == "strict" or shapes not in graphs:
                graphs[shapes] = None
                return walk(tensors)
            if graphs[shapes] is None:
                graphs[shapes], found = _graph(walk, tensors)
                return found
            return graphs[shapes](*tensors)

        def compute(arrays: Sequence[Array]) -> list[Any]:
            with torch.inference_mode():
                # torch warns of arrays that it could write to and must not; a copy of an input costs little.
                tensors = [torch.from_numpy(np.require(array, requirements="W")).to(target) for array in arrays]
                return turned(results(tensors), moves)

        def begin(found: Sequence[Any]) -> Callable[[], list[Array]]:
            with torch.inference_mode():
                pairs = zip(found, moves, strict=True)
                return send([tensor.contiguous() if move else tensor for tensor, move in pairs])

        def fetch(wait: Callable[[], list[Array]]) -> list[Array]:
            with torch.inference_mode():
                return wait()

        def computed(_: Sequence[Any]) -> None:
            wait(target)

        return Compiled(compute, computed, begin, fetch)

    def peak(self, device: str) -> int:
        return peak(device.replace("gpu", "cuda"))

    def gpus(self) -> list[str]:
        return gpus()

    def switched(self, precision: str) -> AbstractContextManager[None]:
        return switched(precision)


def _graph(walk: Walk, tensors: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A faster way through the walk if one gives the same bits, else the walk itself; and what it gives now."""
    torch = import_module("torch")
    found = walk(tensors)

    def plain(*inputs: Any) -> list[Any]:
        return walk(inputs)

    try:
        with torch.inference_mode(False), torch.no_grad():
            graph = captured(walk, [tensor.clone() for tensor in tensors])
        same = all(_equal(a, b) for a, b in zip(found, graph(*tensors), strict=True))
    except Exception:  # not every Python that computes on tensors can be captured; what cannot be runs as it is
        return plain, found
    return (graph if same else plain), found


def _equal(a: Any, b: Any) -> bool:
    """Whether two tensors hold the same numbers; NaN is NaN's equal here."""
    torch = import_module("torch")
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


BACKEND = _Torch("torch", "torch", "torch>=2.8")
