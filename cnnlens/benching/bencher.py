"""Times a network under backends side by side, in rounds that take turns, and audits what each of them gives.

A machine is never as fast now as it was a minute ago. So each configuration has a process that stays, and every round
times every one of them: what they are compared by is one and the same minute.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend import check_precision, handover, parse_device, suited
from cnnlens.backend.chunks import write_chunk
from cnnlens.backend.process import refuse_unknown
from cnnlens.backend.worker import Chunk, Loaded, Timing, Worker, WorkerError
from cnnlens.benching.result import Bench
from cnnlens.benching.rows import STAGES, BenchRow, Exactness, Timed
from cnnlens.checking import listing
from cnnlens.checking.auditing import audit_recording, audited_calls
from cnnlens.checking.result import Check, LayerCheck, Run
from cnnlens.checking.verdict import Audit
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.inputs.drawn import INPUT_NUMBERS, drawn_stream
from cnnlens.inputs.stream import InputStream, open_inputs, without_graph
from cnnlens.janitor import temporary_folder
from cnnlens.network.network import Network
from cnnlens.output import silent
from cnnlens.progress import Told, telling
from cnnlens.recording.streaming import recorded_tensors
from cnnlens.text import printable

__all__ = ["bench"]

Array = NDArray[Any]
_Cell = tuple[int, str]  # a batch and a stage

_ROUNDS = 12
_SLICE = 0.3  # s that one configuration may keep the others waiting for, if a single run is not longer
_PATIENCE = 4.0  # times its share of the rounds so far, before what is slow waits for the others
_WARM = 0.1  # s of runs that are thrown away
_RUNS = 1000  # in a slice at most
_AUDITED = 8
_TIMEOUT = 600.0
_COMPUTED = {"forward": "device", "capture": "device", "copy": "host", "write": "disk"}


@in_one_line()
def bench(
    model: Any,
    inputs: Any = None,
    *,
    backends: Sequence[str] | None = None,
    devices: Sequence[str] = ("cpu",),
    batches: Sequence[int] = (1, 32, 256),
    precisions: Sequence[str] = ("strict", "native"),
    layers: Iterable[str | int] | None = None,
    seconds: float = 30.0,
    scale: str = "auto",
    example: Any = None,
    timeout: float | None = None,
    trust_code: bool = False,
    allow_nonfinite: bool = False,
    progress: Told = True,
) -> Bench:
    """Time a network under backends, in every device, precision and batch, and audit how exact each of them is.

    Each backend, device and precision runs in a process of its own, a live model's graph and arrays too. After a run
    apart, which compiles, all are timed in rounds that take turns; every run is waited for until it is finished.

    Args:
        model: A path, an open ``Network``, or a live framework model.
        inputs: What ``record`` takes; None draws a few from a fixed seed. They are repeated to fill a batch.
        backends: Names as ``cnnlens backends`` lists them, or ``name@interpreter``; None: the installed ones that run
            models of this framework.
        devices, precisions, batches: All combinations are rows; ``record`` says what they may be.
        layers: Whose feature maps are captured; None for all.
        seconds: For about how long the rounds go on after the first, which is always finished; there are twelve at
            most, and what is much slower than the rest is not timed in all. Loading and auditing are not in it.
        scale, example, timeout, trust_code, allow_nonfinite: As ``record`` takes them.
        progress: As ``check`` takes it.

    Returns:
        A row a combination; one that cannot run says why. Ctrl-C ends the rounds early, and ``interrupted`` says so.

    Raises:
        CnnlensError: an unknown backend, device, precision or layer; inputs that do not fit. Nothing is started then.

    >>> import cnnlens.sample
    >>> result = cnnlens.bench(cnnlens.sample.MODEL, backends=["reference"], batches=[3], seconds=0.2)
    >>> [(row.label, row.batch, row.rate("forward") > 0) for row in result.rows]
    [('reference cpu strict', 3, True), ('reference cpu native', 3, True)]
    >>> cnnlens.bench(cnnlens.sample.MODEL, backends=["reference"], precisions=["fp8"])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: precision 'fp8': strict, native, tf32, bfloat16 or float16 was expected
    """
    from cnnlens.opening.opener import network_given

    for one in devices:
        parse_device(one)
    for one in precisions:
        check_precision(one)
    refuse_unknown(backends or ())
    for one in batches:
        if one < 1:
            raise CnnlensError(f"a batch holds at least one input, not {one}")
    if not seconds > 0:
        raise CnnlensError(f"seconds: more than 0 was expected, {seconds:g} came")
    network, _ = network_given(model, inputs, example)
    if not network.calls:
        raise without_graph(network)
    names = list(backends) if backends is not None else suited(network.source.framework)
    asked = [*product(dict.fromkeys(names), dict.fromkeys(devices), dict.fromkeys(precisions))]
    sizes = sorted(set(batches))
    if not asked or not sizes:
        raise CnnlensError("there is nothing to time; name at least one backend, device, precision and batch")
    tensors, _ = recorded_tensors(network, None if layers is None else list(layers))
    everything, _ = recorded_tensors(network, None)
    own = [ref.name for ref in network.inputs]
    wanted = [name for name in tensors if name not in own]
    if inputs is None:
        stream: InputStream = drawn_stream(network)
    else:
        stream = open_inputs(network, inputs, scale=scale, allow_nonfinite=allow_nonfinite)
    arrays = stream.batch(0, min(stream.count, sizes[-1]))
    largest = max(array[0].size for array in arrays)
    few = [array[: min(max(INPUT_NUMBERS // max(largest, 1), 1), _AUDITED)] for array in arrays]
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        (folder / "model").mkdir()
        handover.write(network, folder / "model")
        plan = _Plan(
            network, folder / "model", {size: _chunks(arrays, size, folder) for size in sizes},
            [ref.name for ref in network.outputs], wanted, [name for name in everything if name not in own], few,
            timeout or _TIMEOUT, trust_code,
        )  # fmt: skip
        configurations = [_Configuration(*one, plan) for one in asked]
        for one in configurations:
            stack.callback(one.close)
        say = stack.enter_context(telling(progress)) or silent
        rounds, interrupted = 0, False
        try:
            for one in configurations:
                one.prepare(say)
            rounds = _rounds(configurations, seconds, say)
        except KeyboardInterrupt:
            interrupted = True
        rows = tuple(row for one in configurations for row in one.rows(interrupted))
    if interrupted and not any(row.stages for row in rows):
        raise KeyboardInterrupt
    count = len(few[0])
    described = f"{'; '.join(stream.notes)}, repeated to fill a batch" if stream.count < sizes[-1] else ""
    return Bench(
        printable(network.source.path, 300), network.source.sha256, described or "; ".join(stream.notes), tuple(wanted),
        rows, rounds, interrupted, count,
    )  # fmt: skip


def _chunks(arrays: Sequence[Array], size: int, folder: Path) -> list[Chunk]:
    """The inputs, repeated to a batch of ``size``, as files."""
    chunks: list[Chunk] = []
    for position, array in enumerate(arrays):
        path = folder / f"{size}-{position}"
        filled = array[np.arange(size) % len(array)]
        write_chunk(path, [filled], size)
        chunks.append(Chunk(path, filled.shape, filled.dtype.str))
    return chunks


@dataclass(frozen=True)
class _Plan:
    """What is the same for all that is timed: the network handed over, inputs by batch, names of tensors, and the few
    inputs that are audited."""

    network: Network
    folder: Path
    chunks: Mapping[int, Sequence[Chunk]]
    outputs: Sequence[str]
    wanted: Sequence[str]
    everything: Sequence[str]
    few: Sequence[Array]
    timeout: float
    trust_code: bool

    def tensors(self, stage: str) -> Sequence[str]:
        return self.outputs if stage == "forward" else self.wanted


@dataclass
class _Configuration:
    """One backend, device and precision: its process, and what was measured of each batch."""

    backend: str
    device: str
    precision: str
    plan: _Plan
    worker: Worker | None = None
    measured: dict[int, BenchRow] = field(default_factory=lambda: dict[int, BenchRow]())
    seconds: dict[_Cell, dict[int, float]] = field(default_factory=lambda: dict[_Cell, dict[int, float]]())
    spent: dict[_Cell, float] = field(default_factory=lambda: dict[_Cell, float]())

    @property
    def label(self) -> str:
        return f"{self.backend} {self.device} {self.precision}"

    def prepare(self, say: Callable[[str], object]) -> None:
        """Load the network, run every batch once in every stage and some more, smaller ones first, and audit."""
        self.measured = {
            size: BenchRow(self.backend, self.device, self.precision, size) for size in self.plan.chunks
        }  # fmt: skip
        say(f"{self.label}: loading")
        began = time.perf_counter()
        try:
            self.worker = Worker.start(self.backend, self.device, self.precision, self.plan.timeout)
            loaded = self.worker.load(self.plan.folder, self.plan.trust_code)
            took = time.perf_counter() - began
            for size in self.plan.chunks:
                say(f"{self.label}: warming up, batch {size}")
                self._warm(size, loaded, took)
            say(f"{self.label}: auditing")
            exactness = self._audited(loaded)
            self.measured = {size: replace(row, exactness=exactness) for size, row in self.measured.items()}
        except CnnlensError as error:
            self._failed(None, error)

    def _warm(self, size: int, loaded: Loaded, took: float) -> None:
        row = replace(self.measured[size], ran_on=loaded.device, versions=loaded.versions, load=took)
        self.measured[size] = row
        try:
            first = self._timing(size, "copy", 0.0, 1)
            last = [self._timing(size, stage, _WARM, _RUNS) for stage in STAGES]
        except CnnlensError as error:
            if isinstance(error, WorkerError):
                raise
            self._failed(size, error)
            return
        self.measured[size] = replace(
            row,
            first=first.seconds[0],
            bytes=first.bytes,
            host_peak=last[-1].host_peak,
            device_peak=max((one.device_peak for one in last if one.device_peak is not None), default=None),
        )

    def _timing(self, size: int, stage: str, seconds: float, most: int) -> Timing:
        assert self.worker is not None
        return self.worker.bench(self.plan.chunks[size], self.plan.tensors(stage), _COMPUTED[stage], seconds, most)

    def _audited(self, loaded: Loaded) -> Exactness:
        assert self.worker is not None
        network, few = self.plan.network, self.plan.few
        maps = self.worker.feature_maps(few, self.plan.everything)
        maps |= {ref.name: array for ref, array in zip(network.inputs, few, strict=True)}
        count = len(few[0])
        audits = dict(audit_recording(network, _Maps({"precision": self.precision}, count, maps)))
        run = Run(self.label, self.backend, loaded.versions, loaded.device, self.precision, None, count, count)
        rows = tuple(
            LayerCheck(call.name, call.layer.shown_kind, {self.label: audits[call.name]})
            for call in audited_calls(network)
        )
        check = Check(network, "", (run,), rows, {})
        problem = check.problem(run)
        worst = problem.audit if problem is not None else None
        worst = worst or min(audits.values(), key=_bits_of, default=None)
        if worst is None:
            raise CnnlensError("the network has no layer that can be audited")
        finer = tuple(row.name for row in check.finer(run))
        return Exactness(
            worst.name, worst.bits, worst.verdict, problem is None, listing.sentence(check, run), finer
        )  # fmt: skip

    def cells(self) -> list[_Cell]:
        """Batches and stages that can be timed."""
        return [(size, stage) for stage in STAGES for size, row in self.measured.items() if not row.error]

    def time(self, size: int, stage: str, number: int, seconds: float, share: float) -> None:
        """Time a batch for a while in round ``number``, if nothing went wrong with it before, nor is its share over."""
        if self.worker is None or self.measured[size].error or self.spent.get((size, stage), 0.0) > share:
            return
        try:
            timing = self._timing(size, stage, seconds, _RUNS)
        except CnnlensError as error:
            self._failed(None if isinstance(error, WorkerError) else size, error)
            return
        self.seconds.setdefault((size, stage), {})[number] = median(timing.seconds)
        self.spent[size, stage] = self.spent.get((size, stage), 0.0) + sum(timing.seconds)

    def _failed(self, size: int | None, error: CnnlensError) -> None:
        """Remember why a batch, or every one that has no error yet, goes no further."""
        for one, row in self.measured.items():
            if (size is None or one == size) and not row.error:
                self.measured[one] = replace(row, error=error.without_backend)

    def rows(self, interrupted: bool) -> list[BenchRow]:
        """A row a batch, with what was measured of it."""
        rows: list[BenchRow] = []
        for size in self.plan.chunks:
            row = self.measured.get(size) or BenchRow(self.backend, self.device, self.precision, size)
            stages = {
                stage: Timed(tuple(found.values()), tuple(found))
                for stage in STAGES
                if (found := self.seconds.get((size, stage)))
            }
            if interrupted and not stages and not row.error:
                row = replace(row, error="interrupted before it was timed")
            rows.append(replace(row, stages=stages))
        return rows

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()


@dataclass(frozen=True)
class _Maps:
    """Feature maps in memory as an audit reads a recording."""

    info: Mapping[str, Any]
    count: int
    maps: Mapping[str, Array]

    def __contains__(self, name: str) -> bool:
        return name in self.maps

    def __getitem__(self, name: str) -> Array:
        return self.maps[name]

    def altered(self, name: str) -> str | None:
        return None  # whole maps, as they came


def _bits_of(audit: Audit) -> float:
    return audit.bits if audit.bits == audit.bits else float("inf")  # NaN where it was not audited


def _rounds(configurations: Sequence[_Configuration], seconds: float, say: Callable[[str], object]) -> int:
    """Time all in turn until the time is over, or the rounds are; the first round is always finished."""
    cells = list(dict.fromkeys(cell for one in configurations for cell in one.cells()))
    waiting = max(sum(len(one.cells()) for one in configurations), 1)
    end = time.monotonic() + seconds
    for number in range(_ROUNDS if cells else 0):
        left = end - time.monotonic()
        if number and left <= 0:
            return number
        say(f"round {number + 1} of {_ROUNDS} at most, {left:.0f} s left")
        # What waits for the same time is compared: one batch and stage of all, and who begins takes turns too.
        order = configurations if number % 2 == 0 else configurations[::-1]
        slice_, share = (
            min(_SLICE, left / (_ROUNDS - number) / waiting),
            _PATIENCE * seconds * number / _ROUNDS / waiting,
        )
        for size, stage in cells:
            if number and time.monotonic() > end:
                return number + 1
            for one in order:
                one.time(size, stage, number, slice_, share if number else math.inf)
        if not number:
            end = time.monotonic() + seconds
    return _ROUNDS if cells else 0
