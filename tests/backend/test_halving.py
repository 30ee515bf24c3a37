"""What is asked of a session for a batch, and what frameworks say when memory does not hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cnnlens_backends._keras_walk import Array, Compiled, CompiledWalk

from cnnlens.backend.halving import ran_out_of_memory
from cnnlens.backend.reductions import AS_IT_LIES, computed, summary_of
from cnnlens.errors import CnnlensError
from cnnlens.memory import refuse_beyond
from cnnlens.testing.networks import network


class OutOfMemoryError(RuntimeError):
    """Is torch's by name."""


@pytest.mark.parametrize(
    "cause",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes."),
        RuntimeError("OOM when allocating tensor with shape[256,32,2048,2048] and type float"),
    ],
)
def test_each_word_for_it_is_understood(cause: BaseException) -> None:
    error = CnnlensError("it failed on a batch of 256", "keras-torch")
    assert not ran_out_of_memory(error)
    error.__cause__ = cause
    assert ran_out_of_memory(error)


def test_what_the_reference_refuses_for_its_size_is_that_too() -> None:
    with pytest.raises(CnnlensError, match="are available") as caught:
        refuse_beyond(1 << 60, "an array", "give fewer inputs")
    assert ran_out_of_memory(caught.value)
    assert not ran_out_of_memory(CnnlensError("a layer is not known"))


def test_a_batch_is_not_filled_up_to_one_that_memory_did_not_hold() -> None:
    """Where a framework compiles for a size, a smaller batch takes that size once: not where that never ran."""
    ran: list[int] = []

    def compute(arrays: Sequence[Array]) -> list[Array]:
        ran.append(len(arrays[0]))
        if len(arrays[0]) > 3:
            raise MemoryError
        return [arrays[0] + 1]

    walk = CompiledWalk(Compiled(compute, lambda tensors: None, list, list), pads=True)
    for size in (8, 4):
        with pytest.raises(MemoryError):
            walk.run([np.zeros((size, 5))])
    assert walk.run([np.zeros((3, 5))])[0].tolist() == np.ones((3, 5)).tolist()
    assert walk.run([np.zeros((2, 5))])[0].shape == (2, 5)
    assert ran == [8, 4, 3, 3]


def test_a_batch_that_is_filled_up_is_cut_to_the_rows_of_its_inputs() -> None:
    """Each input has one row, or several: windows that a map is taken apart into."""

    def compute(arrays: Sequence[Array]) -> list[Array]:
        return [arrays[0], arrays[0].reshape(-1, 2)]

    walk = CompiledWalk(Compiled(compute, lambda tensors: None, list, list), pads=True)
    given = np.arange(42.0).reshape(7, 6)
    walk.run([given])
    for count in (3, 3):  # filled up, and then in its own size
        whole, windows = walk.run([given[:count]])
        assert np.array_equal(whole, given[:count])
        assert np.array_equal(windows, given[:count].reshape(-1, 2))


@pytest.mark.parametrize(
    ("device", "wanted", "told"),
    [
        ("cpu", {"first": None, "second": None}, {"first": AS_IT_LIES, "second": AS_IT_LIES}),
        ("cpu", {"first": "max", "second": None}, {"first": "max", "second": AS_IT_LIES}),
        ("gpu:0 NVIDIA H100", {"first": None}, None),
        ("gpu:0 NVIDIA H100", {"first": "max", "second": "max"}, {"first": "max", "second": "max"}),
        ("gpu:0 NVIDIA H100", {"first": "max", "second": None}, None),
        ("gpu:0 NVIDIA H100", {"first": summary_of(1, 4)}, {"first": AS_IT_LIES}),
    ],
)
def test_maps_are_turned_on_a_gpu_and_by_who_writes_them_on_a_cpu(
    device: str, wanted: dict[str, str | None], told: dict[str, str] | None
) -> None:
    """A CPU's maps are turned block by block in the cache of who writes them, and not in a pass of their own before."""
    heard: list[Mapping[str, str] | None] = []

    def feature_maps(inputs: Sequence[Array], tensors: Sequence[str]) -> dict[str, Array]:
        heard.append(None)
        return {}

    def by_itself(inputs: Sequence[Array], reductions: Mapping[str, str]) -> dict[str, Array]:
        heard.append(reductions)
        return {}

    session: Any = SimpleNamespace(device=device, feature_maps=feature_maps, reduced=by_itself)
    computed(session, network("chain", "keras"), [], wanted)
    assert heard == [told]
