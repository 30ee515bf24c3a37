"""One BLAS thread for an audit: blocks are small, and audits run beside each other and beside the backends they check.

Measured on two busy cores, OpenBLAS' own threads made an audit ten times slower; several audits at once, each on one
thread, use the cores better than any one of them could.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]

_lock = threading.Lock()
_state: dict[str, Any] = {"controller": None, "limit": None, "users": 0}


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Hold BLAS to one thread until the last of those who asked has left; safe to enter from several threads."""
    with _lock:
        if not _state["users"]:
            _state["controller"] = _state["controller"] or ThreadpoolController()
            _state["limit"] = _state["controller"].limit(limits=1, user_api="blas")
        _state["users"] += 1
    try:
        yield
    finally:
        with _lock:
            _state["users"] -= 1
            if not _state["users"]:
                _state["limit"].restore_original_limits()
