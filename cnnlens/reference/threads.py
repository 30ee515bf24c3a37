"""One BLAS thread where work is cut into pieces that run beside each other: chunks of a run, layers of an audit.

Measured on two busy cores, OpenBLAS' own threads made an audit ten times slower; several pieces at once, each on one
thread, use the cores better than any one of them could.

OpenBLAS' number of threads is the process', and threadpoolctl (3.8) lets one thread at a time set it: what another sets
or restores meanwhile is passed over, and two calls side by side that each set it for themselves left BLAS with one
thread for good. So a thread of its own sets it with the first of them and restores it with the last. Where OpenBLAS is
built upon OpenMP the number is each thread's own, and each sets that too. Where the program that uses cnnlens holds
BLAS to a number at the time, that number stands.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]

_lock = threading.Lock()
_users = 0
_held = ExitStack()


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Hold BLAS to one thread until the last of those who asked has left; each thread that computes enters it."""
    global _users
    with _lock:
        if not _users:
            _hold(_held)
        _users += 1
    try:
        with _controllers()[1].limit(limits=1, user_api="blas"):
            yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _held.close()


def _hold(stack: ExitStack) -> None:
    """Set the process' number in a thread that lives until the stack is closed, and restores it then."""
    pool = stack.enter_context(ThreadPoolExecutor(1, "cnnlens-blas"))
    inside, loaded = ExitStack(), _controllers()[0]
    stack.callback(lambda: pool.submit(inside.close).result())
    pool.submit(lambda: inside.enter_context(loaded.limit(limits=1, user_api="blas"))).result()


@cache
def _controllers() -> tuple[ThreadpoolController, ThreadpoolController]:
    """The libraries that are loaded, and those of them whose number is each thread's own."""
    loaded = ThreadpoolController()
    return loaded, loaded.select(threading_layer="openmp")
