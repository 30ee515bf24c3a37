"""What frameworks say when memory is used up is understood, also behind the line that an adapter made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from cnnlens_backends._keras_walk import Array, Compiled, CompiledWalk

from cnnlens.backend.halving import ran_out_of_memory
from cnnlens.errors import CnnlensError
from cnnlens.memory import refuse_beyond


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
