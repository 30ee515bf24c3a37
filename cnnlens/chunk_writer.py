"""Feature maps to raw files, from a thread, while the next batch computes.

This half of recording runs inside the worker, under an interpreter that may have NumPy and one framework alone, so it
imports nothing else. It writes to the temporary files that it is told; moving them to where a reader looks for them is
the parent's business alone, so that a worker that outlives its parent can tear nothing.
"""

from __future__ import annotations

import os
import queue
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DTYPES", "ChunkWriter", "InputFile", "Job", "write_chunk"]

# What a chunk can hold: Zarr's core data types by NumPy's name. https://zarr-specs.readthedocs.io/en/latest/v3/core/
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)

_BLOCK = 1 << 19  # bytes turned, checksummed and written at once, so that the second and third find them in the cache
_ZEROS = bytes(1 << 16)
_PARALLEL_FILES = max(1, min(4, (os.cpu_count() or 1) // 4))


@dataclass(frozen=True)
class InputFile:
    """One input of a batch: raw C-order bytes of a canonical array, and what to make of them."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> NDArray[Any]:
        """The array, in memory of its own."""
        count = int(np.prod(self.shape, dtype=np.int64))
        return np.fromfile(self.path, self.dtype, count).reshape(self.shape)


@dataclass(frozen=True)
class Job:
    """One batch to compute and write.

    Attributes:
        batch: Its number, from 0.
        chunk: How many inputs a whole chunk holds; a shorter last batch is filled up with zero bytes.
        inputs: In the order of the network's inputs.
        tensors: The file to write for each wanted tensor.
    """

    batch: int
    chunk: int
    inputs: tuple[InputFile, ...]
    tensors: Mapping[str, Path]

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Job:
        """From the JSON that ``request`` made."""
        inputs = tuple(
            InputFile(Path(one["path"]), tuple(one["shape"]), np.dtype(one["dtype"])) for one in request["inputs"]
        )
        tensors = {name: Path(path) for name, path in request["tensors"].items()}
        return cls(int(request["batch"]), int(request["chunk"]), inputs, tensors)

    def request(self) -> dict[str, Any]:
        """As plain JSON, for the other side of the border."""
        return {
            "command": "run",
            "batch": self.batch,
            "chunk": self.chunk,
            "inputs": [
                {"path": str(one.path), "shape": list(one.shape), "dtype": one.dtype.str} for one in self.inputs
            ],
            "tensors": {name: str(path) for name, path in self.tensors.items()},
        }

    def read_inputs(self) -> list[NDArray[Any]]:
        return [one.read() for one in self.inputs]


class ChunkWriter:
    """Writes one batch's feature maps while the next batch is computed.

    Args:
        report: Called from the writer's own thread with the reply to each job, in order: ``batch``, ``seconds`` (that
            it took to compute) and for each tensor its ``shape``, ``dtype`` and the ``crc32`` of its file; or
            ``batch``, ``error`` and ``errno`` where the files could not be written.
    """

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self._report = report
        self._waiting: queue.Queue[tuple[Job, Mapping[str, NDArray[Any]], float] | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._work, name="cnnlens-writer", daemon=True)
        self._files = ThreadPoolExecutor(_PARALLEL_FILES, "cnnlens-file") if _PARALLEL_FILES > 1 else None
        self._thread.start()

    def submit(self, job: Job, maps: Mapping[str, NDArray[Any]], seconds: float = 0.0) -> None:
        """Hand over a batch; waits until the one before is written, so that memory never holds more than two."""
        self._waiting.join()
        self._waiting.put((job, maps, seconds))

    def flush(self) -> None:
        """Wait until everything handed over is written and reported."""
        self._waiting.join()

    def close(self) -> None:
        """Write what was handed over, and end the thread."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
        if self._files is not None:
            self._files.shutdown()

    def _work(self) -> None:
        while (taken := self._waiting.get()) is not None:
            self._report(self._write(*taken))
            taken = None  # the arrays go before the next are waited for
            self._waiting.task_done()
        self._waiting.task_done()

    def _write(self, job: Job, maps: Mapping[str, NDArray[Any]], seconds: float) -> dict[str, Any]:
        reply: dict[str, Any] = {"reply": "run", "batch": job.batch, "seconds": seconds}
        samples = job.inputs[0].shape[0]

        def one(name: str) -> dict[str, Any]:
            array = _plain(name, np.asarray(maps[name]), samples)
            crc = write_chunk(job.tensors[name], [array], job.chunk)
            return {"shape": list(array.shape), "dtype": array.dtype.str, "crc32": crc}

        try:
            done = map(one, job.tensors) if self._files is None else self._files.map(one, job.tensors)
            return {**reply, "arrays": dict(zip(job.tensors, done, strict=True))}
        except OSError as error:
            return {**reply, "error": error.strerror or str(error), "errno": error.errno}
        except Exception as error:
            # The thread must outlive a backend that hands back rubbish: the parent gets the reason as a reply.
            return {**reply, "error": str(error) or type(error).__name__, "errno": None}


def write_chunk(path: Path, parts: Sequence[NDArray[Any]], chunk: int) -> int:
    """Write arrays, one below the other, as one whole uncompressed Zarr chunk: C order, little-endian.

    Args:
        path: The file, made new.
        parts: Arrays ``(n, ...)`` that differ in ``n`` alone; contiguous or not.
        chunk: How many samples the chunk holds; what ``parts`` leave open is filled with zero bytes.

    Returns:
        The CRC-32 of the file.

    Raises:
        OSError: the disk is full and the like; the file is removed.
    """
    crc = 0
    written = sum(len(part) for part in parts)
    row = int(np.prod(parts[0].shape[1:], dtype=np.int64)) * parts[0].dtype.itemsize
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            for part in parts:
                for block in _blocks(part):
                    crc = zlib.crc32(block, crc)
                    _write_all(handle, memoryview(block))
            empty = (chunk - written) * row
            os.ftruncate(handle, chunk * row)
            for start in range(0, empty, len(_ZEROS)):
                crc = zlib.crc32(memoryview(_ZEROS)[: empty - start], crc)
        finally:
            os.close(handle)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return crc


def _blocks(array: NDArray[Any]) -> Any:
    """The bytes of ``array`` in C order and little-endian, a cache-sized block at a time."""
    if array.size == 0:
        return
    rows = max(1, _BLOCK // max(array[0].nbytes, 1))
    little = array.dtype.newbyteorder("<")
    straight = array.flags.c_contiguous and array.dtype == little
    space = None if straight else np.empty((min(rows, len(array)), *array.shape[1:]), little)
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        if space is not None:
            np.copyto(space[: len(block)], block)
            block = space[: len(block)]
        yield block.reshape(-1).view(np.uint8)


def _write_all(handle: int, content: memoryview) -> None:
    while content:
        content = content[os.write(handle, content) :]


def _plain(name: str, array: NDArray[Any], samples: int) -> NDArray[Any]:
    """``array`` in a data type that a chunk can hold, if it is a feature map of this batch at all."""
    if array.ndim == 0 or len(array) != samples:
        raise ValueError(f"tensor {name!r}: {samples} samples went in and an array of shape {array.shape} came out")
    if array.dtype.name not in DTYPES:
        if array.dtype.kind == "V" and array.dtype.itemsize <= 2:  # ml_dtypes' bfloat16 and float8: exact in float32
            return array.astype(np.float32)
        raise ValueError(f"tensor {name!r}: {array.dtype} cannot be recorded")
    return array
