"""Inputs streamed through a backend, a batch at a time, to whatever takes what it gives: a recording, or statistics.

Three things happen at once: the next batch is read and written as the input's own chunks, the backend's process
computes this one out of those files, and its thread writes the one before. What crosses the border are files of the
one who takes them, so nothing is copied twice.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend import handover, suited
from cnnlens.backend.chunks import write_chunk, zeros_crc32
from cnnlens.backend.options import RunOptions
from cnnlens.backend.process import parse_spec, refuse_unknown
from cnnlens.backend.worker import Chunk
from cnnlens.errors import CnnlensError
from cnnlens.inputs.stream import InputStream, open_inputs
from cnnlens.network.network import Network
from cnnlens.opening.live import backend_of
from cnnlens.progress import saying
from cnnlens.recording.engines import Cluster, engine
from cnnlens.recording.format import Description
from cnnlens.recording.ledger import Part
from cnnlens.recording.runners import LiveRunner, Loaded, Runner, WorkerRunner, differing_weights
from cnnlens.recording.sinks import Sink
from cnnlens.recording.writer import is_disk_trouble
from cnnlens.text import nearest, printable

__all__ = ["InputsDigest", "Plan", "plan", "recorded_tensors", "run_batches", "run_some"]

Array = NDArray[Any]
T = TypeVar("T")

_BATCH_BYTES = 64 << 20  # of feature maps; two batches of them are in memory at once
_MOST_BATCH = 256
_UNKNOWN_BATCH = 16


@dataclass(frozen=True)
class Plan:
    """Says what is to run: inputs opened, tensors chosen, the backend named; nothing is loaded yet.

    Attributes:
        stream: The inputs.
        tensors: What is wanted, the network's inputs first, then in its order; ``notes``: remarks on them.
        batch: How many inputs go through at once.
        spec: The backend, as asked for or the one that suits the network.
        inputs: What ``stream`` was opened from.
    """

    network: Network
    options: RunOptions
    live: Any
    stream: InputStream
    tensors: tuple[str, ...]
    notes: tuple[str, ...]
    batch: int
    spec: str
    inputs: Any = None

    @property
    def computed(self) -> tuple[str, ...]:
        """Name the tensors that are no inputs."""
        return tuple(name for name in self.tensors if name not in self.stream.names)

    def start(self, stack: ExitStack, progress: Callable[..., object] | None = None) -> Runner | Cluster:
        """Load the network, here or where the engine has it; ``stack`` lets go of it, after what is put on it later."""
        if self.options.engine is None:
            return self.start_here(stack, progress=progress)
        saying(progress, f"starting {printable(self.options.engine, 60)} …")
        cluster = engine(self.options.engine)(self)
        stack.callback(cluster.release)
        saying(progress, "waiting for the first batch")
        return cluster

    def start_here(
        self, stack: ExitStack, spec: str | None = None, progress: Callable[..., object] | None = None
    ) -> Runner:
        """Load the network on this machine."""
        # A cold worker imports its framework, which takes seconds, and the first batch of a size is compiled.
        saying(progress, f"starting {printable(spec or self.spec, 60)} …")
        if self.live is None:
            runner: Runner = WorkerRunner(self.network, spec or self.spec, self.options)
        else:
            runner = LiveRunner(self.network, spec or self.spec, self.options, self.live)
        stack.callback(runner.release)
        saying(progress, "waiting for the first batch")
        return runner

    def description(self, runner: Loaded, spec: str | None = None) -> Description:
        """Say what runs, on what."""
        return Description(
            model={
                "file": Path(self.network.source.path).name,
                "sha256": self.network.source.sha256,
                "network_hash": handover.network_hash(self.network),
            },
            sources=self.stream.sources,
            input_notes=self.stream.notes,
            backend=parse_spec(spec or self.spec)[0],
            versions=runner.versions,
            device=runner.device,
            precision=self.options.precision,
            batch=self.batch,
            count=self.stream.count,
            tensors=self.tensors,
            inputs=self.stream.names,
            weights=differing_weights(self.network, runner, self.options.precision),
            notes=self.notes,
        )


def plan(
    network: Network,
    inputs: Any,
    options: RunOptions,
    *,
    backend: str | None = None,
    live: Any = None,
    layers: Iterable[str | int] | None = None,
) -> Plan:
    """Open inputs and choose tensors and backend, as ``record`` takes them.

    Raises:
        CnnlensError: they do not fit, or there is no such layer; one line.
    """
    if options.batch is not None and options.batch < 1:
        raise CnnlensError(f"a batch holds at least one input, not {options.batch}")
    if options.workers is not None and options.engine is None:
        raise CnnlensError(f"workers: {options.workers} came, and no engine has them; give engine ray, or leave it out")
    if live is not None and options.engine is not None:
        raise CnnlensError("a live model runs in this process alone; give its file to run it on other machines")
    spec = backend or (_default_backend(network) if live is None else backend_of(live))
    refuse_unknown([] if live is not None else [spec])
    stream = open_inputs(
        network,
        inputs,
        scale=options.scale,
        limit=options.limit,
        allow_nonfinite=options.allow_nonfinite,
        skip_bad=options.skip_bad,
    )
    tensors, notes = recorded_tensors(network, None if layers is None else list(layers))
    size = min(options.batch or _default_batch(network, tensors, stream), stream.count)
    return Plan(network, options, live, stream, tensors, notes, size, spec, inputs)


def run_batches(
    stream: InputStream,
    runner: Runner | Cluster,
    sink: Sink,
    progress: Callable[[int, int], object] | None = None,
    digest: InputsDigest | None = None,
) -> None:
    """Run all batches that ``sink`` has not yet; ``digest``, where it is given, takes all inputs.

    Raises:
        CnnlensError: inputs that cannot be read, a backend that fails, a full disk; the batches before are taken.
    """
    _Run(stream, runner, sink, progress, digest).all()


def run_some(stream: InputStream, runner: Runner, sink: Sink, batches: Sequence[int]) -> None:
    """Run these batches, one after the other, for a machine that has a part of a run.

    Raises:
        CnnlensError: as ``run_batches`` does.
    """
    _Run(stream, runner, sink).compute(runner, batches)


class _Run:
    """The loop over batches."""

    def __init__(
        self,
        stream: InputStream,
        runner: Runner | Cluster,
        sink: Sink,
        progress: Callable[[int, int], object] | None = None,
        digest: InputsDigest | None = None,
    ) -> None:
        self._stream = stream
        self._runner = runner
        self._sink = sink
        self._progress: Callable[[int, int], object] = progress or _say_nothing
        self._description = sink.description
        self._digest = digest

    def all(self) -> None:
        self._check_recorded()
        todo = range(self._sink.done, self._description.batches)
        if todo:
            self._progress(min(todo.start * self._description.batch, self._description.count), self._description.count)
            if isinstance(self._runner, Cluster):
                self._gather(self._runner, todo)
            else:
                self.compute(self._runner, todo)

    def _check_recorded(self) -> None:
        """The inputs of batches that a run before has recorded must be these: they are read again and compared."""
        with ThreadPoolExecutor(1, "cnnlens-inputs") as reader:
            for batch, arrays in _ahead(reader, self._read, range(self._sink.done)):
                for name, array in zip(self._stream.names, arrays, strict=True):
                    if _chunk_crc32(array, self._description.batch) != self._sink.crc32(batch, name):
                        start = batch * self._description.batch
                        raise CnnlensError(
                            f"{printable(self._sink.path, 300)}: it was recorded with other inputs (one of "
                            f"{start} to {start + len(array) - 1} differs); use --overwrite to throw it away, "
                            "or choose another place with -o"
                        )
                if self._digest is not None:
                    self._digest.add(arrays)

    def compute(self, runner: Runner, todo: Sequence[int]) -> None:
        """Run these batches here."""
        outstanding: deque[tuple[int, dict[str, Part]]] = deque()
        with ThreadPoolExecutor(1, "cnnlens-inputs") as reader:
            coming = _ahead(reader, self._prepare, todo)
            while True:
                try:
                    batch, (arrays, parts) = next(coming)
                except StopIteration:
                    break
                except CnnlensError:  # inputs that cannot be read take nothing from those before them
                    while outstanding:
                        self._finish(runner, *outstanding.popleft())
                    raise
                if self._digest is not None:
                    self._digest.add(arrays)
                alone = self._sink.first_alone and not self._sink.done
                if outstanding and (alone or len(outstanding) == runner.at_once):
                    self._finish(runner, *outstanding.popleft())
                self._begin(runner, batch, parts)
                outstanding.append((batch, parts))
            while outstanding:
                self._finish(runner, *outstanding.popleft())

    def _gather(self, cluster: Cluster, todo: Sequence[int]) -> None:
        """Take what other machines make of these batches."""
        with self._disk_named():
            for batch, parts in zip(todo, cluster.results(self._sink, todo), strict=True):
                inputs = [parts[name] for name in self._stream.names if name in parts]
                if inputs and self._digest is not None:
                    count = self._description.samples(batch)
                    self._digest.add([np.fromfile(one.path, one.dtype).reshape(one.shape)[:count] for one in inputs])
                self._commit(batch, parts)

    def _read(self, batch: int) -> list[Array]:
        start = batch * self._description.batch
        return self._stream.batch(start, start + self._description.samples(batch))

    def _prepare(self, batch: int) -> tuple[list[Array], dict[str, Part]]:
        """Read a batch of inputs and write it as the chunks that it will be."""
        arrays = self._read(batch)
        parts: dict[str, Part] = {}
        for name, array in zip(self._stream.names, arrays, strict=True):
            path = self._sink.part(name, batch)
            try:
                crc = write_chunk(path, [array], self._description.batch)
            except OSError as error:
                raise self._sink.trouble(error) from None
            little = array.dtype.newbyteorder("<").str
            parts[name] = Part(path, crc, (self._description.batch, *array.shape[1:]), little)
        return arrays, parts

    def _begin(self, runner: Runner, batch: int, inputs: Mapping[str, Part]) -> None:
        chunks = [Chunk(inputs[name].path, inputs[name].shape, inputs[name].dtype) for name in self._stream.names]
        outputs = {
            tensor: Chunk(self._sink.part(tensor, batch), one.shape, one.dtype, one.reduction)
            for tensor, one in self._sink.wanted(batch).items()
            if tensor not in inputs
        }
        runner.begin(chunks, outputs, self._description.samples(batch), f"batch {batch}")

    def _finish(self, runner: Runner, batch: int, inputs: Mapping[str, Part]) -> None:
        with self._disk_named():
            made = runner.finish()
        self._commit(batch, {**inputs, **made})

    @contextmanager
    def _disk_named(self) -> Generator[None]:
        """Where something cannot be written, the disk is the reason."""
        try:
            yield
        except CnnlensError as error:
            reason = is_disk_trouble(error)
            if reason is not None:
                raise self._sink.trouble(reason) from None
            raise

    def _commit(self, batch: int, parts: Mapping[str, Part]) -> None:
        self._sink.commit(batch, parts)
        self._progress(min((batch + 1) * self._description.batch, self._description.count), self._description.count)


def _say_nothing(done: int, count: int) -> None:
    pass


class InputsDigest:
    """Takes the canonical inputs, example by example, and gives their SHA-256, whatever the batch was."""

    def __init__(self, names: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(name.encode()) for name in names]

    def add(self, arrays: Iterable[Array]) -> None:
        for digest, array in zip(self._digests, arrays, strict=True):
            plain = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(plain.reshape(-1).view(np.uint8).data)

    def hexdigest(self) -> str:
        if len(self._digests) == 1:
            return self._digests[0].hexdigest()
        return hashlib.sha256(b"".join(one.digest() for one in self._digests)).hexdigest()


def _ahead(reader: ThreadPoolExecutor, make: Callable[[int], T], numbers: Sequence[int]) -> Iterator[tuple[int, T]]:
    """``make`` of each number, always one further than the caller is."""
    coming: deque[Future[T]] = deque()
    for position, number in enumerate(numbers):
        if not coming:
            coming.append(reader.submit(make, number))
        made = coming.popleft().result()
        if position + 1 < len(numbers):
            coming.append(reader.submit(make, numbers[position + 1]))
        yield number, made


def _chunk_crc32(array: Array, rows: int) -> int:
    """The CRC-32 of ``array`` as a chunk of ``rows`` rows."""
    plain = array.astype(array.dtype.newbyteorder("<"), copy=False)
    crc = zlib.crc32(plain.reshape(-1).view(np.uint8).data)
    return zeros_crc32((rows - len(array)) * math.prod(array.shape[1:]) * array.dtype.itemsize, crc)


def _default_backend(network: Network) -> str:
    """Keras runs on three frameworks, none of them the obvious one; a model of PyTorch has one home."""
    return suited("torch")[0] if network.source.framework == "torch" else "reference"


def recorded_tensors(network: Network, layers: Sequence[str | int] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which tensors are recorded, inputs first, then in the network's order; and remarks."""
    inputs = [ref.name for ref in network.inputs]
    wanted: set[str] = set()
    notes: list[str] = []
    for layer in layers or ():
        if isinstance(layer, str) and layer in network.tensors and layer not in network.by_name:
            wanted.add(layer)
            continue
        found = network[layer]
        uses = [call for call in network.calls if call.layer is found]
        if not uses:
            raise CnnlensError(f"layer '{printable(found.name)}' is never called, so it has no feature map to record")
        wanted.update(
            f"{call.name}[{index}]" if index else call.name for call in uses for index in range(len(call.shapes))
        )
    if layers is not None and wanted <= set(inputs):
        raise CnnlensError(f"no layer that computes anything is asked for; {nearest('', network.by_name)}")
    tensors: list[str] = []
    for name, ref in network.tensors.items():
        if name in inputs or (layers is not None and name not in wanted):
            continue
        if network.batch_axis(ref) is None:
            text = (
                f"'{printable(name)}' is {network.shape(ref)}, which has no row for each input, and cannot be recorded"
            )
            if layers is not None:
                raise CnnlensError(f"{text}; leave it out")
            notes.append(text)
            continue
        tensors.append(name)
    if not tensors:
        raise CnnlensError(
            f"{printable(network.source.path, 300)}: nothing that it computes has a row for each input, so "
            "that there is nothing to record"
        )
    return (*inputs, *tensors), tuple(notes)


def _default_batch(network: Network, tensors: Iterable[str], stream: InputStream) -> int:
    """As many inputs as make about 64 MB of feature maps."""
    total = 0
    for name in tensors:
        ref = network.tensors[name]
        shape = network.shape(ref)
        if ref in network.inputs:
            if shape and shape[0] is not None:
                return shape[0]  # the file fixes it
            shape = (None, *stream.shapes[name])
        if shape is None or None in shape[1:]:
            return _UNKNOWN_BATCH
        total += 4 * math.prod(cast("tuple[int, ...]", shape[1:]))
    return max(1, min(_BATCH_BYTES // max(total, 1), _MOST_BATCH))
