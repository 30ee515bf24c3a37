"""A backend that does as ``CNNLENS_FAULT`` says: ``load:crash`` crashes while it loads, ``run:hang`` hangs in a batch.

Without a fault it is the reference. The faults are real: real signals, real hangs in C, real lies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.backend.reference import ReferenceBackend
from cnnlens.errors import CnnlensError

# What frameworks have been seen to write, and what looks most like an answer of a worker.
NOISE = 'WARNING: All log messages before absl::InitializeLog() is called go to STDERR\n{"id": 3, "ok": 1}\n\x1b[31m\0'


def hang_in_c() -> None:
    """Sleeps with the interpreter's lock held: no thread of Python runs meanwhile."""
    ctypes.PyDLL(None).sleep(1000)


def crash_with_company() -> None:
    """Leaves a process and a temporary file behind, and dies."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    os.write(tempfile.mkstemp()[0], b"left behind")
    os.kill(os.getpid(), signal.SIGSEGV)


def print_without_end() -> None:
    line = b"noise " * 200_000
    while True:
        os.write(1, line)


def crash_after_words() -> None:
    print("about to go", flush=True)
    print("CUDNN_STATUS_NOT_FOUND at conv.cc:12\n-----\n", file=sys.stderr)
    os.abort()


def raise_at_length() -> None:
    raise RuntimeError("\n\n2 root error(s) found.\n  (0) INTERNAL: blas failed\n" + "line\n" * 500)


def refuse() -> None:
    raise CnnlensError("it cannot do this", "faulty")


def need_a_framework() -> None:
    import framework_that_nobody_has  # pyright: ignore[reportMissingImports, reportUnusedImport]  # noqa: F401


def write_to_the_socket() -> None:
    os.write(int(sys.argv[1]), b"hello there\n")


def kill_once() -> None:
    """Kills, as the file that ``CNNLENS_KILL`` names says, this process or the one that started it, and not again;
    or the latter whenever it is called."""
    told = Path(os.environ["CNNLENS_KILL"])
    try:
        if told.read_text() == "always":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
        told.rename(told.with_suffix(".done"))  # by one alone of those that see it
    except FileNotFoundError:
        return
    who = told.with_suffix(".done").read_text()
    os.kill(os.getppid() if who == "parent" else os.getpid(), signal.SIGKILL)


def hold() -> None:
    """Computes two of an engine's blocks of batches, and waits for ever in the next."""
    _runs.append(0)
    if len(_runs) > 16:
        time.sleep(1000)


_runs: list[int] = []

FAULTS: dict[str, Any] = {
    "hold": hold,
    "kill_once": kill_once,
    "crash": lambda: ctypes.string_at(0),
    "crash_with_company": crash_with_company,
    "crash_after_words": crash_after_words,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "leave": lambda: os._exit(3),
    "sys_exit": lambda: sys.exit("I give up"),
    "memory": lambda: np.ones(1 << 55),
    "hang": lambda: time.sleep(1000),
    "hang_in_c": hang_in_c,
    "print_without_end": print_without_end,
    "raise": raise_at_length,
    "refuse": refuse,
    "missing": need_a_framework,
    "write_to_the_socket": write_to_the_socket,
    "close_every_file": lambda: os.closerange(3, 4096),
    "company": lambda: subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]),
}


def unsteady(maps: dict[str, Any]) -> dict[str, Any]:
    """Something else each time, by as little as float32 can say."""
    step = np.float32(2**-23) * (time.monotonic_ns() % 97)
    return {name: array * (np.float32(1) + step) for name, array in maps.items()}


def first_batch_again(maps: dict[str, Any]) -> dict[str, Any]:
    """What the first batch gave, cut to size: a buffer that was not refilled."""
    for name, array in maps.items():
        _seen.setdefault(name, array.copy())
    return {name: np.resize(_seen[name][::-1], array.shape) for name, array in maps.items()}


_seen: dict[str, Any] = {}
_device = ThreadPoolExecutor(1)


def pairs_swapped(maps: dict[str, Any]) -> dict[str, Any]:
    """The first two channels exchanged."""
    return {name: array[:, [1, 0, *range(2, array.shape[1])]] for name, array in maps.items()}


LIES: dict[str, Any] = {
    "scaled": lambda maps: {name: array * np.float32(1.0001) for name, array in maps.items()},
    "float64": lambda maps: {name: array.astype(np.float64) for name, array in maps.items()},
    "first_batch_again": first_batch_again,
    "unsteady": unsteady,
    "pairs_swapped": pairs_swapped,
    "stored_axes": lambda maps: {name: np.moveaxis(array, 1, -1) for name, array in maps.items()},
    "too_few": lambda maps: {name: array[:-1] for name, array in maps.items()},
    "nothing": lambda maps: {},
    "lists": lambda maps: {name: array.tolist() for name, array in maps.items()},
    "words": lambda maps: {name: np.full(array.shape, "word") for name, array in maps.items()},
}


def other_weights(what: str, weights: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if what == "rounded":
        weights = {
            layer: {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}
            for layer, arrays in weights.items()
        }
    elif what == "renamed":
        weights = {
            layer: {name.replace("kernel", "weight"): array for name, array in arrays.items()}
            for layer, arrays in weights.items()
        }
    elif what == "left_out":
        weights.pop(next(iter(weights)))
    return weights


def do(moment: str) -> str:
    """Does the fault of this moment; returns its name, as far as it comes back."""
    when, _, what = os.environ.get("CNNLENS_FAULT", "").partition(":")
    if when != moment:
        return ""
    if what == "noise":
        os.write(1, NOISE.encode())
        os.write(2, NOISE.encode())
        print(NOISE, flush=True)
    elif what in FAULTS:
        FAULTS[what]()
    return what


class FaultySession:
    def __init__(self, session: Any) -> None:
        self._session, self._begun = session, 0
        self.versions = session.versions
        self.device = session.device

    def feature_maps(self, inputs: Any, tensors: Any) -> Any:
        what = do("run")
        if what == "much" and len(inputs[0]) > 3:
            np.ones(1 << 55)
        maps = self._session.feature_maps(inputs, tensors)
        return LIES[what](maps) if what in LIES else maps

    def begin(self, inputs: Any, reductions: Any) -> Any:
        """Computes in a thread, as a GPU does beside its CPU, and says what happens in which order."""
        what = do("begin")
        if not what:
            return None
        self._begun += 1
        number = self._begun
        print(f"begin {number}", flush=True)
        array = np.array(inputs[0])
        coming = _device.submit(self._session.feature_maps, [array], list(reductions))

        def fetch() -> Any:
            print(f"fetch {number}", flush=True)
            if what == "late_refusal" and number == 2:
                refuse()
            if what == "late_memory" and number == 2:
                raise MemoryError("of the device")
            return coming.result()

        return fetch

    @property
    def renew(self) -> Any:
        return (lambda: print("renewed", flush=True)) if do("renew") else None

    def weights(self) -> Any:
        return other_weights(do("weights"), self._session.weights())

    def close(self) -> None:
        do("close")


class Nothing:
    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.device = "cpu"


class FaultyBackend(ReferenceBackend):
    name = "faulty"
    requires = ("framework-that-nobody-has", "numpy")
    install = "python -m pip install cnnlens-faulty"

    def devices(self) -> list[str]:
        return [""] if do("devices") == "nameless" else super().devices()

    def load(self, *args: Any, **kwargs: Any) -> Any:
        what = do("load")
        try:
            return FaultySession(super().load(*args, **kwargs))
        except CnnlensError:
            if what == "anything":  # takes whatever it is given
                return FaultySession(Nothing())
            raise


class Unfinished:
    name = "no-method"
    requires = ()
    install = ""
    layout = "keras"


BACKEND = FaultyBackend()
UNFINISHED = Unfinished()
