"""The engine ``ray``, as the process sees it that records: another one drives the cluster, and says what comes of it.

Ray ends the process that is connected to a cluster where the cluster goes away, prints, and takes signals. So that
process is one of its own (``_ray_driver``), and all that can become of it is a line here.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cnnlens import janitor
from cnnlens.backend import Fingerprint, parse_device
from cnnlens.errors import CnnlensError, refuse_without_posix
from cnnlens.recording.ledger import Part, Wanted
from cnnlens.recording.portion import Facts, Job, Made, Task
from cnnlens.recording.sinks import Sink
from cnnlens.recording.streaming import Plan
from cnnlens.text import printable

__all__ = ["start"]

_BLOCK = 8  # batches that a worker takes at once: it reads, computes and writes them at the same time
_GOODBYE = 10.0  # s that the driver gets to end its cluster
_SILENT = 120.0  # s without a word of it, which says every few that the cluster answers
_BATCH = 600.0  # s that a backend may be silent, where nobody says


def start(plan: Plan) -> _RayCluster:
    """Connect to a cluster or start one, and load the network on a worker of it.

    Raises:
        CnnlensError: Ray is not installed, the cluster is not there or has no such device, or the backend refuses.
    """
    refuse_without_posix("the engine ray")
    device, number = parse_device(plan.options.device)
    if number:
        raise CnnlensError(f"device '{plan.options.device}': Ray chooses which GPU; give gpu, and how many as workers")
    if find_spec("ray") is None:
        raise CnnlensError('the engine ray needs Ray; install it with: pip install "cnnlens[ray]"')
    return _RayCluster(plan, device)


class _RayCluster:
    """Runs a plan's network on a cluster; ``cnnlens.recording.engines.Cluster`` says what it is asked."""

    def __init__(self, plan: Plan, device: str) -> None:
        self._stack = ExitStack()
        self.notes: list[str] = []
        self._heard = False
        self._timeout = plan.options.timeout or _BATCH
        try:
            self._folder = self._stack.enter_context(janitor.temporary_folder())
            self._launch()
            job = Job.of(plan)
            job = replace(job, options=replace(job.options, device=device))
            self._say((pickle.dumps(job), device, plan.options.workers))
            every: list[Facts] = [_read(one) for one in self._hear("loading the network")]
            self._facts, self._workers = every[0], len(every)
            for one in every:
                self._compare(one)
        except BaseException:
            self.release()
            raise

    @property
    def versions(self) -> Mapping[str, str]:
        return self._facts.versions

    @property
    def device(self) -> str:
        return self._facts.device

    @property
    def layout(self) -> str:
        return self._facts.layout

    def weights(self) -> Mapping[str, Mapping[str, Fingerprint]]:
        return self._facts.weights

    def results(self, sink: Sink, batches: Sequence[int]) -> Iterator[dict[str, Part]]:
        """Have batches computed by the cluster, and give what came of them in their order."""
        tasks = [Task(batch, _wanted(sink, batch)) for batch in batches]
        size = max(1, min(_BLOCK, len(tasks) // self._workers))
        self._say([pickle.dumps(tasks[start : start + size]) for start in range(0, len(tasks), size)])
        for batch in batches:
            # The batches of a block come together, once the last of it is done; another one may be before it.
            facts, made = self._hear(f"running batch {batch}", self._timeout * size * 2)
            assert made.batch == batch
            self._compare(facts)
            self.notes += [note for note in facts.notes if note not in self.notes]
            yield _received(sink, made)
        self._connection.close()  # the cluster ends while the last is put away

    def _compare(self, facts: Facts) -> None:
        for what in ("versions", "device"):
            mine, its = getattr(self._facts, what), getattr(facts, what)
            if mine != its:
                raise CnnlensError(
                    f"ray: the workers differ: the {what} of one are {printable(mine, 200)} and of another "
                    f"{printable(its, 200)}; give it machines that are alike"
                )

    def release(self) -> None:
        """End the driver: kindly, but where something went wrong."""
        if sys.exception() is not None and hasattr(self, "_process"):
            self._kill()
        self._stack.close()

    # -- the driver --------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        mine, its = socket.socketpair()
        path = os.pathsep.join(str(Path(part or ".").absolute()) for part in sys.path)
        with its, open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cnnlens_backends._ray_driver", str(its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal is for this process alone, which ends the other
            )
        janitor.watch(self._process.pid)
        self._connection = Connection(mine.detach())
        self._stack.callback(self._end)

    def _say(self, what: Any) -> None:
        try:
            self._connection.send_bytes(pickle.dumps(what))
        except OSError:
            raise self._lost("starting") from None

    def _hear(self, doing: str, most: float = math.inf) -> Any:
        """What the driver says next, within ``most`` seconds; that its cluster answers, it says in between. While it
        connects it says nothing, but ends by itself."""
        began = time.monotonic()
        while True:
            try:
                if self._heard and not self._connection.poll(_SILENT):
                    raise self._hanging(f"the cluster did not answer for {_SILENT:g} s while {doing}")
                said = self._connection.recv_bytes()
            except (EOFError, OSError):
                raise self._lost(doing) from None
            self._heard = True
            if said:
                return _read(said)
            if time.monotonic() - began > most:
                raise self._hanging(f"nothing came for {most:,.0f} s while {doing}, though the cluster answers")

    def _hanging(self, what: str) -> CnnlensError:
        return CnnlensError(
            f"ray: {what}; see what its machines do (ray status) and give the same command again, with which a "
            "recording goes on from there"
        )

    def _lost(self, doing: str) -> CnnlensError:
        lost = f"ray: the cluster, or the process that drives it, went away while {doing}"
        if hasattr(self, "_facts"):
            return CnnlensError(lost)
        lines = (self._folder / "log").read_text(errors="replace").splitlines()
        said = [line.strip() for line in lines if any(char.isalpha() for char in line)]
        return CnnlensError(f"{lost}; the last it printed: {printable(said[-1], 200)}" if said else lost)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        self._connection.close()
        try:
            self._process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        janitor.forget(self._process.pid)


def _read(said: bytes) -> Any:
    """What came over, or why nothing did."""
    found, error = pickle.loads(said)
    if error is not None:
        raise CnnlensError(*error)
    return found


def _wanted(sink: Sink, batch: int) -> Mapping[str, Wanted]:
    """What is wanted of a batch; a cluster of this machine's own sends no bytes back, but writes where they belong."""
    wanted = sink.wanted(batch)
    if os.environ.get("RAY_ADDRESS"):
        return wanted
    return {
        tensor: replace(one, to=str(sink.part(tensor, batch)), back=False) if one.back and one.to is None else one
        for tensor, one in wanted.items()
    }


def _received(sink: Sink, made: Made) -> dict[str, Part]:
    """The parts of a batch, those that were sent back as files of the sink's."""
    parts = dict(made.parts)
    for tensor, content in made.contents.items():
        path = sink.part(tensor, made.batch)
        try:
            path.write_bytes(content)
        except OSError as error:
            raise sink.trouble(error) from None
        parts[tensor] = replace(parts[tensor], path=path)
    return parts
