"""How much memory there is, asked before it is taken: a system that runs out of it kills without a word.

A size that a file states costs nothing to state. Whoever makes an array of a size that somebody else chose says first
what it takes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
from collections.abc import Generator
from pathlib import Path

from cnnlens.errors import CnnlensError

try:
    import resource
except ImportError:  # not POSIX
    resource = None

__all__ = ["available", "refuse_beyond", "uncollected"]

_STATED = re.compile(r"^(MemAvailable|SwapFree): +(\d+) kB$", re.MULTILINE)


def available() -> int:
    """Count the bytes that this process may still take: what the system has free, and its own limits leave."""
    rooms = [1 << 62]
    try:
        rooms.append(1024 * sum(int(size) for _, size in _STATED.findall(Path("/proc/meminfo").read_text())))
    except OSError:  # not Linux
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            rooms.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # a container's limit is the system's where it has one
        rooms.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    if resource is not None:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            rooms.append(limit)
    return min(rooms)


def refuse_beyond(needed: int, what: str, way_out: str) -> None:
    """Refuse what would take ``needed`` bytes and more where fewer are available.

    Raises:
        CnnlensError: names ``what``, both sizes and the way out.
    """
    if needed > 1 << 26 and needed > (there := available()):  # looking costs more than small arrays do
        said = f"{what} takes {_size(needed)} of memory, and {_size(there)} are available; {way_out}"
        raise CnnlensError(said) from MemoryError()


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count < 1 << 62 else "more than any computer has"


@contextlib.contextmanager
def uncollected() -> Generator[None]:
    """Let Python's collector of cycles rest while many objects are made that stay; also a decorator.

    It would walk all of them again and again: half of the time that a model of thousands of layers takes to open.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
