"""What frameworks say when memory is used up is understood, also behind the line that an adapter made of it."""

from __future__ import annotations

import pytest

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
