"""Where a recording's batches are computed: in a backend's own process, or in this one for a live model.

Both take a batch as chunk files, are given the next while one is still being written, and say which arrays they hold
otherwise than the network's file does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnlens import janitor, layout
from cnnlens.backend import handover
from cnnlens.backend import seam as seam
from cnnlens.backend.chunks import DTYPES, as_stored, in_parallel, rows_first, write_chunk
from cnnlens.backend.halving import Halving
from cnnlens.backend.options import RunOptions
from cnnlens.backend.worker import Chunk, pool
from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from cnnlens.network.weight import to_bfloat16
from cnnlens.recording.ledger import Part
from cnnlens.text import printable

__all__ = ["LiveRunner", "Loaded", "Runner", "WorkerRunner", "differing_weights"]

_TIMEOUT = 600.0


class Loaded(Protocol):
    """Says what a network that is loaded somewhere runs with. ``device`` is the one that it really runs on."""

    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def device(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def notes(self) -> Sequence[str]:
        """Say what a person should know of how it ran."""
        ...

    def weights(self) -> Mapping[str, Mapping[str, seam.Fingerprint]]: ...
    def release(self) -> None:
        """End, or be idle for the next who needs it; doing so twice does nothing."""
        ...


class Runner(Loaded, Protocol):
    """Runs a network, a batch after the other."""

    @property
    def at_once(self) -> int:
        """Say how many batches it is given, at most, before the oldest of them is finished."""
        ...

    def begin(self, inputs: Sequence[Chunk], outputs: Mapping[str, Chunk], count: int, label: str) -> None:
        """Have a batch computed and written."""
        ...

    def finish(self) -> dict[str, Part]:
        """Wait for the oldest batch begun: its output files by tensor name."""
        ...


class WorkerRunner:
    """Runs a backend in a process of its own, taken from the pool of those that are warm."""

    at_once = 4  # one to write, two to compute where they overlap, and one that is there as soon as these are

    def __init__(self, network: Network, spec: str, options: RunOptions) -> None:
        self._tickets: deque[tuple[int, Mapping[str, Chunk]]] = deque()
        self._most: int | None = None
        self._stack = ExitStack()
        try:
            self._worker = self._stack.enter_context(
                pool(spec, options.device, options.precision, options.timeout or _TIMEOUT)
            )
            folder = self._stack.enter_context(janitor.temporary_folder())
            handover.write(network, folder)
            loaded = self._worker.load(folder, options.trust_code)
        except BaseException:
            self._stack.close()
            raise
        self.versions = loaded.versions
        self.device = loaded.device
        self.layout = loaded.layout

    def begin(self, inputs: Sequence[Chunk], outputs: Mapping[str, Chunk], count: int, label: str) -> None:
        self._tickets.append((self._worker.submit(inputs, outputs, count, label), outputs))

    @property
    def notes(self) -> Sequence[str]:
        return _halved(self._most)

    def finish(self) -> dict[str, Part]:
        ticket, outputs = self._tickets.popleft()
        report = self._worker.collect(ticket)
        self._most = report.most
        return {
            name: Part(chunk.path, report.crc32[name], report.shapes[name], report.dtypes[name])
            for name, chunk in outputs.items()
        }

    def weights(self) -> Mapping[str, Mapping[str, seam.Fingerprint]]:
        return self._worker.weights()

    def release(self) -> None:
        self._stack.close()


class LiveRunner:
    """Runs a backend in this process, on the live model that the caller holds."""

    at_once = 2  # one to compute, one to write

    def __init__(self, network: Network, name: str, options: RunOptions, live: Any) -> None:
        backend = seam.get(name)
        self._session = seam.load(
            backend, network, options.device, options.precision, live=live, trust_code=options.trust_code
        )
        self._writer = ThreadPoolExecutor(1, "cnnlens-writer")
        self._writing: deque[Future[dict[str, Part]]] = deque()
        self._network, self._name, self._halving = network, name, Halving(network)
        self.versions = dict(self._session.versions)
        self.device = self._session.device
        self.layout = backend.layout

    def begin(self, inputs: Sequence[Chunk], outputs: Mapping[str, Chunk], count: int, label: str) -> None:
        arrays = [
            np.memmap(chunk.path, np.dtype(chunk.dtype), "r", 0, chunk.shape)[:count] if 0 not in (chunk.shape or ())
            else np.zeros((count, *(chunk.shape or ())[1:]), chunk.dtype)
            for chunk in inputs
        ]  # fmt: skip
        wanted = {name: chunk.reduction for name, chunk in outputs.items()}
        maps, later = self._halving.computed(self._session, arrays, wanted)
        missing = [name for name in outputs if name not in maps]
        if missing:
            raise CnnlensError(f"{self._name}: it gave no feature map of '{printable(missing[0])}'")
        if self._writing:
            self._writing[-1].exception()  # waits, so that memory holds two batches at most
        self._writing.append(self._writer.submit(self._write, dict(maps), later, outputs, count))

    @property
    def notes(self) -> Sequence[str]:
        return _halved(self._halving.most)

    def finish(self) -> dict[str, Part]:
        return self._writing.popleft().result()

    def weights(self) -> Mapping[str, Mapping[str, seam.Fingerprint]]:
        return {
            layer: {name: seam.fingerprint(np.asarray(array)) for name, array in arrays.items()}
            for layer, arrays in self._session.weights().items()
        }

    def release(self) -> None:
        self._writer.shutdown()
        self._session.close()

    def _write(
        self,
        maps: dict[str, NDArray[Any]],
        later: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]],
        outputs: Mapping[str, Chunk],
        count: int,
    ) -> dict[str, Part]:
        def one(name: str) -> Part:
            chunk, array = outputs[name], maps.pop(name)
            array = later[name](array) if name in later else array
            array = np.atleast_1d(rows_first(self._network, {name: array}, count)[name])
            if array.dtype.name not in DTYPES:
                array = array.astype(np.float32)
            shape = chunk.shape or array.shape
            if (len(shape), shape[1:]) != (array.ndim, array.shape[1:]) or len(array) > shape[0]:
                raise CnnlensError(f"'{printable(name)}' is {array.shape} and was {shape}; give inputs of one size")
            array = as_stored(array, chunk.dtype, name)
            try:
                crc = write_chunk(chunk.path, [array], shape[0])
            except OSError as error:
                raise CnnlensError(f"{printable(chunk.path, 300)}: it cannot be written ({error.strerror})") from None
            return Part(chunk.path, crc, shape, array.dtype.newbyteorder("<").str)

        return dict(zip(outputs, in_parallel(one, outputs), strict=True))


def _halved(most: int | None) -> Sequence[str]:
    if most is None:
        return ()
    number = f"{most:,} inputs" if most > 1 else "one input"
    return (f"memory ran out of a batch: {number} went through at once from there on",)


def differing_weights(network: Network, runner: Loaded, precision: str) -> tuple[str, ...]:
    """List the arrays that the backend holds otherwise than the file, compared bit for bit in its layout.

    In ``bfloat16`` and ``float16`` it may hold the file's numbers, or those rounded to that format.
    """
    return tuple(_differences(network, runner.layout, runner.weights(), precision))


def _differences(
    network: Network, framework: str, held: Mapping[str, Mapping[str, seam.Fingerprint]], precision: str
) -> Iterator[str]:
    for layer in network.layers:
        for name, found in held.get(layer.name, {}).items():
            weight = layer.stored.get(name)
            if weight is None:
                continue
            array = weight.read()
            if framework not in (seam.STORED, weight.framework):
                array = layout.arrange(weight.kind, weight.role, weight.canonical(), framework, weight.geometry)
            expected = seam.fingerprint(array)
            if found == expected:
                continue
            if (
                precision in seam.NARROW
                and array.dtype.kind == "f"
                and found
                == seam.fingerprint(
                    to_bfloat16(array.astype(np.float32)) if precision == "bfloat16" else array.astype(np.float16)
                )
            ):
                continue
            what = f"{printable(layer.name)}/{printable(name)}"
            if (found.shape, found.dtype) != (expected.shape, expected.dtype):
                yield f"{what} is {found.dtype} {found.shape} there and {expected.dtype} {expected.shape} in the file"
            elif expected.finite and not found.finite:
                yield f"{what} holds NaN or infinity there and none in the file"
            else:
                yield f"{what} holds other numbers there than in the file"
