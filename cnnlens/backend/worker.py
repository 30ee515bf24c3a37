"""A backend in a process of its own, as the rest of cnnlens uses it: load, run batches through files, read weights.

Keras fixes its backend when it is first imported, frameworks crash, hang and print; none of that may reach the caller
or the other backends. Whatever happens to a worker comes out as one line about that backend (``WorkerError``), and its
processes and files are gone, also when this process is killed (``cnnlens.janitor``).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend import seam as seam
from cnnlens.backend.process import Process, WorkerError, parse_spec, refuse_unknown
from cnnlens.errors import CnnlensError

__all__ = [
    "Chunk",
    "Loaded",
    "Report",
    "Timing",
    "Worker",
    "WorkerError",
    "close_all",
    "hurry",
    "parse_spec",
    "pool",
    "threads",
    "warm",
]

_goodbye = 5.0  # s that an idle worker gets to close its session before it is killed


@dataclass(frozen=True)
class Chunk:
    """Names a plain file of numbers in C order, with their shape and dtype.

    Attributes:
        path: The file. An output is written beside it and takes its place when it is whole.
        shape: Of the whole file. There may be more rows than inputs: the rest are zeros. None for an output whose shape
            is not known before it is there.
        dtype: NumPy's name with byte order, such as ``<f4``; what the backend gives is converted to it. None for an
            output that keeps its own.
        reduction: What is made of an output before it is written (``cnnlens.backend.reductions``); None for all of it.
    """

    path: Path
    shape: tuple[int, ...] | None
    dtype: str | None = "<f4"
    reduction: str | None = None


@dataclass(frozen=True)
class Loaded:
    """Says what a loaded network runs with: versions, the real device, layout of its weights, seconds taken."""

    versions: dict[str, str]
    device: str
    layout: str
    seconds: float


@dataclass(frozen=True)
class Timing:
    """Says what runs of one batch took, and held.

    Attributes:
        seconds: Of each run.
        bytes: Of all the tensors on the host; 0 where they were left on the device.
        host_peak: Bytes of memory that the process has held at most, since it started; None where no system says.
        device_peak: The same of the device's memory, held by the framework; None on a CPU, or where none says.
    """

    seconds: tuple[float, ...]
    bytes: int
    host_peak: int | None
    device_peak: int | None


@dataclass(frozen=True)
class Report:
    """Says what was written for a batch: CRC-32, shape and dtype of each whole output file by tensor, and seconds of
    computing.

    Attributes:
        most: How many inputs went through at once, where memory ran out of the whole batch; None: all did.
    """

    crc32: dict[str, int]
    seconds: float
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    most: int | None = None


class Worker(Process):
    """Drives a live process with one backend, for one thread at a time. Leaving its ``with`` closes it."""

    @classmethod
    def start(cls, spec: str, device: str = "cpu", precision: str = "native", timeout: float = 600.0) -> Worker:
        """Start a backend's process. It imports no framework before it has to.

        Args:
            spec: ``keras-jax``, or ``keras-jax@/path/to/venv/bin/python`` to run it under another interpreter, which
                needs NumPy and the backend's framework and nothing of cnnlens.
            device: As the backend takes it: ``cpu``, ``gpu``, ``gpu:1``.
            precision: ``strict`` or ``native``.
            timeout: Seconds within which each answer must come.

        Raises:
            CnnlensError: no such backend, interpreter or precision.
            WorkerError: it does not start.
        """
        refuse_unknown([spec])
        seam.check_precision(precision)
        return cls(spec, device, precision, timeout)

    def _started(self) -> None:
        with _workers_lock:
            _workers.add(self)

    # -- what a worker does ------------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """Say what it told when it started: ``python`` and ``numpy`` versions, ``backend``, ``heavy_imports``."""
        return dict(self._greeting)

    def devices(self) -> list[str]:
        """List the devices that the backend has; imports its framework."""
        return list(self._ask("devices", "looking for devices")["devices"])

    def load(self, folder: Path, trust_code: bool = False) -> Loaded:
        """Load the network that ``backend.handover.write`` wrote to ``folder``, instead of the one loaded before.

        Raises:
            CnnlensError: the backend refuses it (``UnsupportedLayerError`` where a layer is the reason).
            WorkerError: its framework is not installed, or it crashed or hung.
        """
        where = {"folder": str(Path(folder).absolute()), "device": self.device, "precision": self.precision}
        answer = self._ask("load", "loading", **where, trust_code=trust_code)
        return Loaded(answer["versions"], answer["device"], answer["layout"], answer["seconds"])

    def submit(self, inputs: Sequence[Chunk], outputs: Mapping[str, Chunk], count: int, label: str = "a batch") -> int:
        """Ask for one batch and return at once; ``collect`` waits for it. Batches are computed in the order of asking.

        Args:
            inputs: One file for each of the network's inputs, in order; canonical axes.
            outputs: Where each wanted tensor goes, canonical axes.
            count: How many rows of the inputs are real.
            label: What an error calls it, such as ``batch 3``.
        """
        return self._send(
            "run",
            f"running {label}",
            inputs=[_plain(one) for one in inputs],
            outputs={name: _plain(one) for name, one in outputs.items()},
            count=count,
        )

    def collect(self, ticket: int) -> Report:
        """Wait until the files of a batch are in place.

        Raises:
            CnnlensError: the backend refuses the batch, or the disk does.
            WorkerError: it crashed or hung.
        """
        answer = self._receive(ticket)
        written = answer["outputs"]
        return Report(
            {name: one["crc32"] for name, one in written.items()},
            answer["seconds"],
            {name: tuple(one["shape"]) for name, one in written.items()},
            {name: one["dtype"] for name, one in written.items()},
            answer["most"],
        )

    def run(self, inputs: Sequence[Chunk], outputs: Mapping[str, Chunk], count: int, label: str = "a batch") -> Report:
        """Do ``submit`` and ``collect`` in one call."""
        return self.collect(self.submit(inputs, outputs, count, label))

    def feature_maps(
        self, inputs: Sequence[NDArray[Any]], tensors: Sequence[str], reduction: str | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute canonical feature maps of canonical arrays ``(N, C, *spatial)``: for what fits in memory."""
        with self._input_files(inputs) as chunks:
            paths = {name: self.folder / f"out-{position}" for position, name in enumerate(tensors)}
            ticket = self._send(
                "run",
                "running a batch",
                inputs=chunks,
                outputs={name: _plain(Chunk(path, None, None, reduction)) for name, path in paths.items()},
                count=len(inputs[0]),
            )
            try:
                written = self._receive(ticket)["outputs"]
                return {
                    name: np.fromfile(path, written[name]["dtype"]).reshape(written[name]["shape"])
                    for name, path in paths.items()
                }
            finally:
                for path in paths.values():
                    path.unlink(missing_ok=True)

    def weights(self) -> dict[str, dict[str, seam.Fingerprint]]:
        """Fingerprint each array that the framework holds, by layer and weight name, in the backend's layout."""
        answer = self._ask("weights", "reading its weights back")["weights"]
        return {
            layer: {
                name: seam.Fingerprint(tuple(one["shape"]), one["dtype"], one["sha256"], one["finite"])
                for name, one in arrays.items()
            }
            for layer, arrays in answer.items()
        }

    def bench(
        self, inputs: Sequence[Chunk], tensors: Sequence[str], stage: str = "host", seconds: float = 0.0, most: int = 1
    ) -> Timing:
        """Measure runs of one batch inside the process, each until it is finished: the first one compiles.

        Args:
            inputs: As ``submit`` takes them; they are in memory before the first run begins.
            tensors: What is computed.
            stage: How far a run goes: ``device`` leaves the tensors where they were computed (see
                ``cnnlens.backend.compute``), ``host`` copies them, ``disk`` writes them to files as well.
            seconds, most: Runs are repeated until they took that long together, or were so many; one at least.
        """
        asked = {"tensors": list(tensors), "stage": stage, "seconds": seconds, "most": most}
        answer = self._ask("bench", "measuring", inputs=[_plain(one) for one in inputs], **asked)
        return Timing(tuple(answer["seconds"]), answer["bytes"], answer["host_peak"], answer["device_peak"])

    @contextlib.contextmanager
    def _input_files(self, inputs: Sequence[NDArray[Any]]) -> Generator[list[dict[str, Any]]]:
        chunks: list[dict[str, Any]] = []
        try:
            for position, array in enumerate(inputs):
                path = self.folder / f"in-{position}"
                plain = np.ascontiguousarray(array)
                plain.tofile(path)
                chunks.append({"path": str(path), "shape": list(array.shape), "dtype": plain.dtype.str})
            yield chunks
        finally:
            for chunk in chunks:
                Path(chunk["path"]).unlink(missing_ok=True)

    # -- its life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, politely if it is idle, and remove its folder. Closing twice does nothing."""
        if self._over is None:
            self._ask_to_close()
            self._wait_for_end()
            self._end("it was closed")

    def hand_back(self, key: tuple[str, str, str]) -> None:
        """Put it into the pool, unless it is over or still owes an answer."""
        if self.alive and not self._waiting:
            with _workers_lock:
                _idle.setdefault(key, []).append(self)
        else:
            self.close()

    def is_running(self) -> bool:
        """Tell whether its process is there, as the system says."""
        return self.alive and not self._has_ended()

    def _ask_to_close(self) -> None:
        if self._over is None and not self._waiting:
            with contextlib.suppress(OSError):
                self._write({"id": 0, "do": "close"})

    def _wait_for_end(self) -> None:
        if not self._waiting:
            begin = time.monotonic()
            while self._over is None and not self._has_ended() and time.monotonic() < begin + _goodbye:
                time.sleep(0.002)

    def _end(self, why: str) -> None:
        super()._end(why)
        with _workers_lock:
            _workers.discard(self)


_workers: set[Worker] = set()
_idle: dict[tuple[str, str, str], list[Worker]] = {}
_warming: dict[tuple[str, str, str], threading.Thread] = {}
_workers_lock = threading.Lock()


@contextlib.contextmanager
def pool(spec: str, device: str = "cpu", precision: str = "native", timeout: float = 600.0) -> Generator[Worker]:
    """Lend a worker that was used before and is idle, else a fresh one: ``with pool("keras-jax") as worker: …``.

    Nobody else gets it meanwhile, and it stays warm afterwards: a framework is imported once in a Python session for
    each backend, device and precision, however many models run. One that still owes an answer when the block is left
    (Ctrl-C, an error) is closed.

    Raises:
        CnnlensError: see ``Worker.start``.
    """
    key = (spec, device, precision)
    with _workers_lock:
        warming = _warming.pop(key, None)
    if warming is not None:
        warming.join()
    worker = _idle_worker(key) or Worker.start(spec, device, precision, timeout)
    worker.timeout = timeout
    try:
        yield worker
    finally:
        worker.hand_back(key)


def warm(spec: str, device: str = "cpu", precision: str = "native", timeout: float = 600.0) -> None:
    """Start a worker in a thread and have it import its framework, for the next ``pool`` of the same to find it idle.

    What is wrong with it comes out of that ``pool``.
    """
    key = (spec, device, precision)

    def start() -> None:
        with contextlib.suppress(CnnlensError):
            worker = Worker.start(spec, device, precision, timeout)
            try:
                worker.devices()
            finally:
                worker.hand_back(key)

    with _workers_lock:
        if not _idle.get(key) and key not in _warming:
            _warming[key] = threading.Thread(target=start, name="cnnlens-warm", daemon=True)
            _warming[key].start()


def _idle_worker(key: tuple[str, str, str]) -> Worker | None:
    while True:
        with _workers_lock:
            idle = _idle.get(key)
            worker = idle.pop() if idle else None
        if worker is None or worker.is_running():
            return worker
        worker.close()


def close_all(pending: Collection[Future[Any]] = ()) -> None:
    """End every worker of this process; done at exit. With ``pending``, also those that these threads still start,
    until they give up."""
    while True:
        _close_all()
        left = [one for one in pending if not one.done()]  # what was cancelled before it began, ``wait`` waits for
        if not left:
            return
        wait(left, 0.05)


@contextlib.contextmanager
def threads(count: int, driving: Collection[Future[Any]]) -> Generator[ThreadPoolExecutor]:
    """Lend threads; on Ctrl-C end the workers that they drive, and wait for no other work of theirs.

    Args:
        count: How many.
        driving: What of it drives workers; it may grow in the block.
    """
    lent = ThreadPoolExecutor(count)
    try:
        yield lent
    except (Exception, GeneratorExit):
        lent.shutdown(cancel_futures=True)
        raise
    except BaseException:
        lent.shutdown(wait=False, cancel_futures=True)
        close_all(driving)
        raise
    lent.shutdown()


def hurry() -> None:
    """From now on kill workers that are closed, also those that are waited for now: somebody pressed Ctrl-C."""
    global _goodbye
    _goodbye = 0.0


def _close_all() -> None:
    with _workers_lock:
        workers = list(_workers)
        _idle.clear()
    for worker in workers:
        worker._ask_to_close()  # pyright: ignore[reportPrivateUsage] - all at once, then each
    for worker in workers:
        worker.close()


def _forget_all() -> None:
    global _workers_lock
    _workers_lock = threading.Lock()
    for worker in _workers:
        worker._abandon()  # pyright: ignore[reportPrivateUsage]
    _workers.clear()
    _idle.clear()
    _warming.clear()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _plain(chunk: Chunk) -> dict[str, Any]:
    shape = None if chunk.shape is None else list(chunk.shape)
    path = str(Path(chunk.path).absolute())
    return {"path": path, "shape": shape, "dtype": chunk.dtype, "reduction": chunk.reduction}
