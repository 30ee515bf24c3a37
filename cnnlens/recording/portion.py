"""A worker of an engine, on whatever machine: it takes some batches of a run, and says where what they gave is.

It runs the one loop over batches (``streaming.run_some``) on inputs that it opens itself, so that it reads, computes
and writes at once as one machine does, and nothing goes through whoever started the run but a few numbers a batch.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cnnlens import janitor
from cnnlens.backend import handover
from cnnlens.backend import seam as seam
from cnnlens.backend.chunks import zeros_crc32
from cnnlens.backend.options import RunOptions
from cnnlens.backend.process import WorkerError
from cnnlens.errors import CnnlensError
from cnnlens.inputs.stream import open_inputs
from cnnlens.recording.address import Address, is_address
from cnnlens.recording.format import Description, chunk_name
from cnnlens.recording.ledger import Part, Wanted
from cnnlens.recording.runners import Runner, WorkerRunner
from cnnlens.recording.streaming import Plan, run_some
from cnnlens.text import printable

__all__ = ["Facts", "Job", "Made", "Portion", "Task"]

# What Ray and its like set for their own processes, and the framework of one machine would not find set.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """Holds all that a worker needs to take part in a run; it can be pickled."""

    network: Mapping[str, bytes]
    options: RunOptions
    spec: str
    tensors: tuple[str, ...]
    batch: int
    inputs: Any
    examples: tuple[int, Mapping[str, Sequence[tuple[str, int]]]]
    folder: str = field(default_factory=os.getcwd)
    threads: Mapping[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in _THREADS if name in os.environ}
    )

    @classmethod
    def of(cls, plan: Plan) -> Job:
        """Make the job of a plan."""
        with janitor.temporary_folder() as folder:
            handover.write(plan.network, folder)
            network = {path.name: path.read_bytes() for path in folder.iterdir()}
        examples = plan.stream.count, plan.stream.sources
        options = replace(plan.options, engine=None, workers=None)
        return cls(network, options, plan.spec, plan.tensors, plan.batch, plan.inputs, examples)


@dataclass(frozen=True)
class Task:
    """Names a batch, and says what is wanted of it."""

    batch: int
    wanted: Mapping[str, Wanted]


@dataclass(frozen=True)
class Facts:
    """Says what a worker runs with; ``weights`` are as its framework holds them, ``notes`` remarks on how it ran."""

    versions: Mapping[str, str]
    device: str
    layout: str
    notes: tuple[str, ...] = ()
    weights: Mapping[str, Mapping[str, seam.Fingerprint]] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Made:
    """Says what came of a batch: a part a tensor, and the bytes of those that are sent back.

    Attributes:
        error: Why nothing came, and the backend whose error it is.
    """

    batch: int
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])
    contents: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    error: tuple[str, str | None] | None = None


class Portion:
    """Runs batches of a job in this process; for one thread at a time.

    Raises:
        CnnlensError: the inputs are not those of the run, or the backend refuses the network; one line.
    """

    def __init__(self, job: Job) -> None:
        for name in _THREADS:
            os.environ.pop(name, None)
        os.environ.update(job.threads)
        with contextlib.suppress(OSError):
            os.chdir(job.folder)  # for paths that are relative to it
        self._stack = ExitStack()
        try:
            self._folder = self._stack.enter_context(janitor.temporary_folder())
            handed = self._stack.enter_context(janitor.temporary_folder())
            for name, content in job.network.items():
                (handed / name).write_bytes(content)
            self._network, self._job = handover.load(handed), job
            self._stream = open_inputs(
                self._network,
                job.inputs,
                scale=job.options.scale,
                limit=job.options.limit,
                allow_nonfinite=job.options.allow_nonfinite,
                skip_bad=job.options.skip_bad,
            )
            if (self._stream.count, self._stream.sources) != job.examples:
                raise CnnlensError(f"the inputs are others on {_here()} than where the run was started; share them")
            self._runner = self._started()
        except BaseException:
            self._stack.close()
            raise

    def facts(self, weights: bool = False) -> Facts:
        """Say what runs here."""
        runner = self._runner
        facts = Facts(runner.versions, runner.device, runner.layout, tuple(runner.notes))
        return replace(facts, weights=runner.weights()) if weights else facts

    def run(self, tasks: Sequence[Task]) -> list[Made]:
        """Run the batches of some tasks; a backend's process that dies is started again, once."""
        desk = _Desk(self._folder, self._description(), {task.batch: task.wanted for task in tasks})
        batches = sorted(desk.wanted_of)
        try:
            try:
                run_some(self._stream, self._runner, desk, batches)
            except WorkerError:
                self._runner.release()
                self._runner = self._started()
                run_some(self._stream, self._runner, desk, batches[desk.done :])
        except CnnlensError as error:
            desk.made.append(Made(batches[desk.done], error=(error.without_backend, error.backend)))
        return desk.made

    def release(self) -> None:
        self._stack.close()

    def _started(self) -> Runner:
        runner = WorkerRunner(self._network, self._job.spec, self._job.options)
        self._stack.callback(runner.release)
        return runner

    def _description(self) -> Description:
        job, runner = self._job, self._runner
        return Description({}, {}, (), job.spec, runner.versions, runner.device, job.options.precision, job.batch,
                           self._stream.count, job.tensors, self._stream.names)  # fmt: skip


class _Desk:
    """Takes batches and sends them where they are wanted; a ``Sink``."""

    first_alone = False  # whoever gave the tasks has

    def __init__(self, path: Path, description: Description, wanted: Mapping[int, Mapping[str, Wanted]]) -> None:
        self.path, self.description, self.wanted_of, self.made = path, description, wanted, list[Made]()
        self._own = uuid.uuid4().hex  # whatever a worker that was given up still writes, it writes it elsewhere

    @property
    def done(self) -> int:
        return len(self.made)

    def crc32(self, batch: int, tensor: str) -> int | None:
        return None

    def part(self, tensor: str, batch: int) -> Path:
        wanted = self.wanted_of[batch].get(tensor)
        if wanted is None or wanted.to is None or is_address(wanted.to):
            return self.path / f"{self.description.tensors.index(tensor)}-{batch}-{self._own}"
        path = Path(f"{wanted.to}-{self._own}")
        if not path.parent.is_dir():
            raise CnnlensError(
                f"{printable(path.parent.parent, 300)}: it is not there on {_here()}; record to a folder that all "
                "machines share, or to an address such as s3://bucket/run.zarr"
            )
        return path

    def wanted(self, batch: int) -> Mapping[str, Wanted]:
        return self.wanted_of[batch]

    def commit(self, batch: int, parts: Mapping[str, Part]) -> None:
        wanted, contents = self.wanted_of[batch], dict[str, bytes]()
        kept = {tensor: _padded(part, wanted[tensor].rows) for tensor, part in parts.items() if tensor in wanted}
        self._upload({tensor: part for tensor, part in kept.items() if is_address(wanted[tensor].to or "")}, batch)
        for tensor, part in parts.items():
            if tensor in wanted and wanted[tensor].back:
                contents[tensor] = part.path.read_bytes()
            if part.path.parent == self.path:
                part.path.unlink()
        self.made.append(Made(batch, kept, contents))

    def _upload(self, parts: Mapping[str, Part], batch: int) -> None:
        places = {
            tensor: Address(self.wanted_of[batch][tensor].to or "") / chunk_name(batch, len(part.shape))
            for tensor, part in parts.items()
        }
        if not places:
            return
        first = next(iter(places.values()))
        try:
            with first.reached():
                first.filesystem.put([str(parts[one].path) for one in places], [str(one) for one in places.values()])
        except OSError as error:
            raise CnnlensError(f"{printable(first, 300)}: it cannot be written ({error.strerror})") from None

    def trouble(self, error: OSError | str) -> CnnlensError:
        reason = error if isinstance(error, str) else (error.strerror or str(error))
        return CnnlensError(f"{_here()}: what a batch gave cannot be written ({reason})")


def _padded(part: Part, rows: int | None) -> Part:
    """A chunk with all of its rows: the last batch of a run may have fewer."""
    if rows is None or part.shape[0] >= rows:
        return part
    size = part.path.stat().st_size
    missing = size // part.shape[0] * (rows - part.shape[0])
    os.truncate(part.path, size + missing)
    return replace(part, crc32=zeros_crc32(missing, part.crc32), shape=(rows, *part.shape[1:]))


def _here() -> str:
    return printable(socket.gethostname())
