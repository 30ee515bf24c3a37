"""Streams inputs through a backend into a Recording: any number of them, in bounded memory, to be gone on with later.

Three things happen at once: the next batch is read and written as the input's own chunks, the backend's process
computes this one out of those files, and its thread writes the one before. What crosses the border are files of the
recording itself, so nothing is copied twice.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens import janitor
from cnnlens.backend import handover, suited
from cnnlens.backend.chunks import write_chunk, zeros_crc32
from cnnlens.backend.options import RunOptions
from cnnlens.backend.process import parse_spec
from cnnlens.backend.worker import Chunk
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.inputs.stream import InputStream, open_inputs
from cnnlens.network.network import Network
from cnnlens.opening.live import backend_of
from cnnlens.opening.opener import network_given
from cnnlens.recording.format import Description
from cnnlens.recording.recording import Recording
from cnnlens.recording.runners import LiveRunner, Runner, WorkerRunner, differing_weights
from cnnlens.recording.writer import Part, RecordingWriter, is_disk_trouble
from cnnlens.text import nearest, printable

__all__ = ["record", "record_network", "recorded_tensors", "runs_here"]

Array = NDArray[Any]
T = TypeVar("T")

_BATCH_BYTES = 64 << 20  # of feature maps; two batches of them are in memory at once
_MOST_BATCH = 256
_UNKNOWN_BATCH = 16
_AT_ONCE = 2  # batches that the backend has been given: one to compute, one to write


@in_one_line()
def record(
    model: Any,
    inputs: Any,
    *,
    backend: str | None = None,
    layers: Iterable[str | int] | None = None,
    device: str = "cpu",
    precision: str = "native",
    out: str | os.PathLike[str] | None = None,
    batch: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    scale: str = "auto",
    limit: int | None = None,
    allow_nonfinite: bool = False,
    example: Any = None,
    trust_code: bool = False,
    timeout: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Recording:
    """Run a network under a backend and keep its feature maps.

    Args:
        model: A path, an open ``Network``, or a live framework model, which then runs in this process.
        inputs: What ``cnnlens.inputs.stream.open_inputs`` takes: paths, arrays, a mapping for several inputs.
        backend: ``keras-jax``, or ``keras-jax@/path/to/python`` for another interpreter; None: for a live model the
            backend that it lives in, for a PyTorch file ``pytorch`` where it is installed, else ``reference``.
        layers: Names or indices of the layers (or names of tensors) wanted; None for all. Inputs are always recorded.
        device: ``cpu``, ``gpu``, ``gpu:1``.
        precision: ``native`` as the framework comes; ``strict``: no reduced precision, deterministic kernels; ``tf32``,
            ``bfloat16`` or ``float16``: computed so, where backend and device have it. Feature maps of float16 are kept
            as such, those of bfloat16 as float32, which holds every number of it.
        out: The recording's folder, best named ``….zarr``; None for a temporary one that lives as long as the
            ``Recording`` that is returned.
        batch: How many inputs go through at once, and into one chunk; None for about 64 MB of feature maps.
        resume: Go on with a recording of the same run that was cut short; without it one that is there is refused.
        overwrite: Throw away a recording that is there.
        scale, limit, allow_nonfinite: As ``open_inputs`` takes them.
        example: For a live PyTorch module, the inputs that it is exported with, as ``cnnlens.open`` takes them; None
            takes the first of ``inputs``, which must be arrays then, in the module's own axes.
        trust_code: Run layers whose code comes with the file. Only for files of your own.
        timeout: Seconds that the backend may be silent; None for 600.
        progress: Called with the inputs recorded so far, and all.

    Returns:
        The complete recording.

    Raises:
        CnnlensError: inputs that do not fit, another run's recording in the way, a full disk, a backend that refuses,
            crashes or hangs; one line each. What was recorded by then stays, and the same call goes on from there.

    >>> import cnnlens.sample
    >>> recording = cnnlens.record(
    ...     cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backend="reference", layers=["conv2d"], out="run.zarr"
    ... )
    >>> recording
    <Recording run.zarr: 2 tensors of 10 inputs, reference on cpu>
    >>> list(recording)
    ['input_layer', 'conv2d']
    >>> recording["conv2d"][:2].shape  # canonical (N, C, H, W), read when it is sliced
    (2, 32, 28, 28)
    >>> cnnlens.record(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backend="reference", layers=["conv"])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: ...: no layer is named 'conv'; did you mean 'conv2d' or 'conv2d_1'?
    """
    network, live = network_given(model, inputs, example)
    return record_network(
        network,
        inputs,
        RunOptions(device, precision, batch, timeout, trust_code, scale, limit, allow_nonfinite),
        backend=backend,
        live=live,
        layers=layers,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )


def record_network(
    network: Network,
    inputs: Any,
    options: RunOptions,
    *,
    backend: str | None = None,
    live: Any = None,
    layers: Iterable[str | int] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
    durable: bool = True,
) -> Recording:
    """Run an open network, as ``record`` runs what it has opened; everything else is as ``record`` takes it.

    Args:
        durable: Whether the recording has to outlive this process, and so a power failure.
    """
    batch = options.batch
    if batch is not None and batch < 1:
        raise CnnlensError(f"a batch holds at least one input, not {batch}")
    stream = open_inputs(
        network, inputs, scale=options.scale, limit=options.limit, allow_nonfinite=options.allow_nonfinite
    )
    tensors, notes = recorded_tensors(network, None if layers is None else list(layers))
    size = min(batch or _default_batch(network, tensors, stream), stream.count)
    spec = backend or (_default_backend(network) if live is None else backend_of(live))
    path = Path(tempfile.mkdtemp(prefix="cnnlens-")) if out is None else Path(out)
    try:
        if out is None:
            janitor.watch(path)
        with ExitStack() as stack:
            if live is None:
                runner: Runner = WorkerRunner(network, spec, options)
            else:
                runner = LiveRunner(network, spec, options, live)
            stack.callback(runner.release)
            description = Description(
                model={
                    "file": Path(network.source.path).name,
                    "sha256": network.source.sha256,
                    "network_hash": handover.network_hash(network),
                },
                sources=stream.sources,
                input_notes=stream.notes,
                backend=parse_spec(spec)[0],
                versions=runner.versions,
                device=runner.device,
                precision=options.precision,
                batch=size,
                count=stream.count,
                tensors=tensors,
                inputs=stream.names,
                weights=differing_weights(network, runner, options.precision),
                notes=notes,
            )
            writer = RecordingWriter(
                path, description, resume=resume, overwrite=overwrite, durable=durable and out is not None
            )
            stack.callback(writer.close)
            stack.callback(runner.release)  # first of all, so that nothing writes any more when the lock goes
            _Run(stream, runner, writer, progress).all()
        recording = Recording.open(path)
    except BaseException:
        if out is None:
            _remove(path)
        raise
    if out is None:
        weakref.finalize(recording, _remove, path)
    return recording


class _Run:
    """The loop over batches."""

    def __init__(
        self,
        stream: InputStream,
        runner: Runner,
        writer: RecordingWriter,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._stream = stream
        self._runner = runner
        self._writer = writer
        self._progress: Callable[[int, int], object] = progress or _say_nothing
        self._description = writer.description
        inputs = set(stream.names)
        self._computed = [tensor for tensor in self._description.tensors if tensor not in inputs]
        self._digest = _InputsDigest(stream.names)

    def all(self) -> None:
        self._check_recorded()
        if not self._writer.finished:
            self._record()
        self._writer.finish(self._digest.hexdigest())

    def _check_recorded(self) -> None:
        """The inputs of batches that a run before has recorded must be these: they are read again and compared."""
        with ThreadPoolExecutor(1, "cnnlens-inputs") as reader:
            for batch, arrays in _ahead(reader, self._read, range(self._writer.done)):
                for name, array in zip(self._stream.names, arrays, strict=True):
                    if _chunk_crc32(array, self._description.batch) != self._writer.crc32(batch, name):
                        start = batch * self._description.batch
                        raise CnnlensError(
                            f"{printable(self._writer.path, 300)}: it was recorded with other inputs (one of "
                            f"{start} to {start + len(array) - 1} differs); use --overwrite to throw it away, "
                            "or choose another place with -o"
                        )
                self._digest.add(arrays)

    def _record(self) -> None:
        count = self._description.count
        outstanding: deque[tuple[int, dict[str, Part]]] = deque()
        todo = range(self._writer.done, self._description.batches)
        self._progress(min(self._writer.done * self._description.batch, count), count)
        with ThreadPoolExecutor(1, "cnnlens-inputs") as reader:
            coming = _ahead(reader, self._prepare, todo)
            while True:
                try:
                    batch, (arrays, parts) = next(coming)
                except StopIteration:
                    break
                except CnnlensError:  # inputs that cannot be read take nothing from those before them
                    while outstanding:
                        self._commit(*outstanding.popleft())
                    raise
                self._digest.add(arrays)
                if outstanding and (len(outstanding) == _AT_ONCE or not self._writer.done):
                    self._commit(*outstanding.popleft())  # before the first one, shapes are not known
                self._begin(batch, parts)
                outstanding.append((batch, parts))
            while outstanding:
                self._commit(*outstanding.popleft())

    def _read(self, batch: int) -> list[Array]:
        start = batch * self._description.batch
        return self._stream.batch(start, start + self._description.samples(batch))

    def _prepare(self, batch: int) -> tuple[list[Array], dict[str, Part]]:
        """Read a batch of inputs and write it as the chunks that it will be."""
        arrays = self._read(batch)
        parts: dict[str, Part] = {}
        for name, array in zip(self._stream.names, arrays, strict=True):
            path = self._writer.part(name, batch)
            try:
                crc = write_chunk(path, [array], self._description.batch)
            except OSError as error:
                raise self._writer.trouble(error) from None
            little = array.dtype.newbyteorder("<").str
            parts[name] = Part(path, crc, (self._description.batch, *array.shape[1:]), little)
        return arrays, parts

    def _begin(self, batch: int, inputs: Mapping[str, Part]) -> None:
        chunks = [Chunk(inputs[name].path, inputs[name].shape, inputs[name].dtype) for name in self._stream.names]
        outputs: dict[str, Chunk] = {}
        for tensor in self._computed:
            shape, dtype = self._writer.shape(tensor) or (None, None)
            outputs[tensor] = Chunk(self._writer.part(tensor, batch), shape, dtype)
        self._runner.begin(chunks, outputs, self._description.samples(batch), f"batch {batch}")

    def _commit(self, batch: int, inputs: Mapping[str, Part]) -> None:
        try:
            made = self._runner.finish()
        except CnnlensError as error:
            reason = is_disk_trouble(error)
            if reason is not None:
                raise self._writer.trouble(reason) from None
            raise
        self._writer.commit(batch, {**inputs, **made})
        self._progress(min((batch + 1) * self._description.batch, self._description.count), self._description.count)


def _say_nothing(done: int, count: int) -> None:
    pass


class _InputsDigest:
    """SHA-256 of the canonical inputs, example by example, whatever the batch was."""

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


def runs_here(live: Any, backend: str) -> bool:
    """Tell whether a live model runs under ``backend`` in this very process."""
    return live is not None and backend == backend_of(live)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    janitor.forget(path)
