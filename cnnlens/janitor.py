"""Cleans up after this process even where it cannot do so itself: killed by SIGKILL, by a closed terminal, by a signal.

A worker is told that its parent is gone by the end of its socket, but one that hangs in C code hears nothing, and the
kernel's own notice (``PR_SET_PDEATHSIG``) is sent when the *thread* that started it ends, which is not the same. So a
tiny process waits at the end of a pipe, and when that closes, kills the process groups and removes the folders that it
was told of and not told to forget. It needs no signal handler in this process, so none of the caller's is replaced.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path

__all__ = ["forget", "remove", "temporary_folder", "watch"]


class _Janitor:
    """This process's end of the pipe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._watched: dict[str | int, None] = {}

    def watch(self, what: str | int) -> None:
        with self._lock:
            self._watched[what] = None
            self._tell(True, what)

    def forget(self, what: str | int) -> None:
        with self._lock:
            if self._watched.pop(what, 0) is None:
                self._tell(False, what)

    def _tell(self, add: bool, what: str | int) -> None:
        for attempt in range(2):
            fresh = self._process is None or self._process.poll() is not None
            process = self._start() if fresh else self._process
            assert process is not None
            assert process.stdin is not None
            try:
                # One that died (somebody killed it) is replaced, and told everything again.
                for one in self._watched if fresh else [what]:
                    process.stdin.write(json.dumps([add or fresh, one]).encode() + b"\n")
                process.stdin.flush()
                return
            except BrokenPipeError:
                self._end()
                if attempt:
                    raise

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C at the terminal is for this process alone
        )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()

    def close(self) -> None:
        """At exit: what is still watched is cleaned up by the janitor, and waited for."""
        with self._lock:
            self._end()

    def reset(self) -> None:
        """In a forked child: the janitor and what it watches belong to the parent."""
        if self._process is not None and self._process.stdin is not None:
            # The pipe must end with the parent, so this copy of its end is turned into something harmless.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._process.stdin.fileno(), inheritable=False)
            os.close(nowhere)
            self._process.returncode = 0  # not a child of this process: nothing to wait for
        self._lock = threading.Lock()
        self._process = None
        self._watched = {}


_janitor = _Janitor()
atexit.register(_janitor.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_janitor.reset)


def watch(what: Path | int) -> None:
    """Have it removed (a folder) or killed (a process group) when this process ends without ``forget``."""
    _janitor.watch(what if isinstance(what, int) else str(what))


def forget(what: Path | int) -> None:
    """Undo ``watch``."""
    _janitor.forget(what if isinstance(what, int) else str(what))


@contextlib.contextmanager
def temporary_folder() -> Generator[Path]:
    """Make a private folder that is gone afterwards, however this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="cnnlens-"))
    try:
        watch(folder)
        yield folder
    finally:
        remove(folder)
        forget(folder)


def remove(folder: Path | str) -> None:
    """Remove a folder tree, also where a process that is being killed still writes into it."""
    for pause in (0.0, 0.05, 0.2, 0.5):
        time.sleep(pause)
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return


def main() -> None:
    """The other end of the pipe, in a process of its own."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):  # POSIX has no SIGBREAK, and Windows no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    watched: dict[str | int, None] = {}
    for line in sys.stdin.buffer:
        add, what = json.loads(line)
        if add:
            watched[what] = None
        else:
            watched.pop(what, None)
    for group in [one for one in watched if isinstance(one, int)]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for folder in [one for one in watched if isinstance(one, str)]:
        remove(folder)


if __name__ == "__main__":
    main()
