"""The engine ``ray``: Ray Data gives the batches of a run to a pool of actors, one a device, wherever a cluster has them.

Which actor takes what, what happens to the work of one that died, and how far they may run ahead is Ray's. A cluster is
the one that ``RAY_ADDRESS`` names or this process is connected to, else one on this machine that goes with the run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnlens import janitor
from cnnlens.backend import Fingerprint
from cnnlens.errors import CnnlensError
from cnnlens.recording.ledger import Part
from cnnlens.recording.portion import Facts, Job, Made, Portion, Task
from cnnlens.recording.streaming import Plan, Sink
from cnnlens.text import printable

__all__ = ["start"]

_BLOCK = 8  # batches that an actor takes at once: it reads, computes and writes them at the same time
_LONGEST_FOLDER = 40  # characters; a socket in it has a name of its own, and all of it 107
# Nothing is sent anywhere, and nothing is printed but what cnnlens says.
_SILENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def start(plan: Plan) -> _RayCluster:
    """Connect to a cluster or start one, and load the network on a worker of it.

    Raises:
        CnnlensError: Ray is not installed, the cluster is not there or has no such device, or the backend refuses.
    """
    try:
        with _silent():
            import ray
            import ray.data
    except ImportError:
        raise CnnlensError('the engine ray needs Ray; install it with: pip install "cnnlens[ray]"') from None
    return _RayCluster(plan, ray)


class _Actor:
    """What an actor of the pool does."""

    def __init__(self, job: Any) -> None:
        self._job = job  # a reference: what an actor is made with is looked up where it runs
        self._portion: Portion | None = None

    def __call__(self, table: Any) -> Any:
        import pyarrow
        import ray

        tasks: list[Task] = [pickle.loads(one) for one in table["item"].to_pylist()]
        try:
            self._portion = self._portion or Portion(ray.get(self._job))
            made = [pickle.dumps((self._portion.facts(), one)) for one in self._portion.run(tasks)]
        except CnnlensError as error:
            failed = Made(tasks[0].batch, error=(error.without_backend, error.backend))
            made = [pickle.dumps((None, failed))]
        return pyarrow.table({"made": pyarrow.array(made, pyarrow.large_binary())})


def _facts_of(job: Job) -> tuple[Facts | None, tuple[str, str | None] | None]:
    """A task: what a worker runs with, or why it runs nothing."""
    try:
        portion = Portion(job)
        try:
            return portion.facts(weights=True), None
        finally:
            portion.release()
    except CnnlensError as error:
        return None, (error.without_backend, error.backend)


class _RayCluster:
    """Runs a plan's network on a cluster; ``cnnlens.recording.engines.Cluster`` says what it is asked."""

    def __init__(self, plan: Plan, ray: Any) -> None:
        self._ray, self._stack = ray, ExitStack()
        self._stack.enter_context(_silent())
        try:
            with self._one_line("starting"):
                with _hushed():  # a line that says how little Ray is to say
                    self._stack.enter_context(_connected(ray, plan.options.workers))
                self._workers, self._each = self._resources(plan.options.device, plan.options.workers)
            device = "gpu" if plan.options.device != "cpu" else "cpu"
            job = Job.of(plan)
            job = replace(job, options=replace(job.options, device=device))
            with self._one_line("loading the network"):
                self._job = ray.put(job)
                found, error = ray.get(ray.remote(**self._each)(_facts_of).remote(self._job))
            if error is not None:
                raise CnnlensError(*error)
            self._facts: Facts = found
        except BaseException:
            self._stack.close()
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
        """Have batches computed by the pool, and give what came of them in their order."""
        with self._one_line("running"):
            rows = iter(self._dataset(sink, batches).iter_rows())
        for batch in batches:
            with self._one_line("running"):
                facts, made = pickle.loads(next(rows)["made"])
            if made.error is not None:
                raise CnnlensError(*made.error)
            assert made.batch == batch
            self._check(facts)
            yield _received(sink, made)

    def release(self) -> None:
        self._stack.close()

    def _dataset(self, sink: Sink, batches: Sequence[int]) -> Any:
        data = self._ray.data
        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        blocks = max(-(-len(batches) // _BLOCK), min(self._workers, len(batches)))
        tasks = [pickle.dumps(Task(batch, sink.wanted(batch))) for batch in batches]
        return data.from_items(tasks, override_num_blocks=blocks).map_batches(
            _Actor,
            batch_size=None,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=self._workers),
            fn_constructor_args=(self._job,),
            **self._each,
        )

    def _check(self, facts: Facts) -> None:
        """All workers are to compute alike: what each runs with is what the recording says."""
        for what in ("versions", "device"):
            mine, its = getattr(self._facts, what), getattr(facts, what)
            if mine != its:
                raise CnnlensError(
                    f"ray: the workers differ: the {what} of one are {printable(mine, 200)} and of another "
                    f"{printable(its, 200)}; give it machines that are alike"
                )

    def _resources(self, device: str, workers: int | None) -> tuple[int, dict[str, float]]:
        """How many actors there are, and what each takes: a GPU, or of machines without one all that is not taken."""
        there = self._ray.cluster_resources()
        if device == "cpu":
            machines = sum(one["Alive"] for one in self._ray.nodes())
            wanted, kind, each = workers or machines, "CPU", {"num_cpus": 1, "num_gpus": 0}
        else:
            if device != "gpu":
                raise CnnlensError(
                    f"device '{printable(device)}': Ray chooses which; give gpu, and how many as workers"
                )
            wanted, kind, each = workers or int(there.get("GPU", 0)), "GPU", {"num_cpus": 1, "num_gpus": 1}
        if not 0 < wanted <= there.get(kind, 0):
            raise CnnlensError(
                f"ray: {max(wanted, 1)} workers need a {kind} each, and the cluster has {there.get(kind, 0):g}"
            )
        return wanted, each

    @contextlib.contextmanager
    def _one_line(self, doing: str) -> Generator[None]:
        """Whatever Ray raises is one line; what was done stays."""
        try:
            yield
        except CnnlensError:
            raise
        except Exception as error:
            lines = [one.strip() for one in str(error).splitlines() if one.strip()]
            said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            raise CnnlensError(f"ray: it failed while {doing} ({printable(said, 300)})") from error


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


@contextlib.contextmanager
def _connected(ray: Any, workers: int | None) -> Generator[None]:
    """A cluster, for a while; one that was not started here stays."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**options)
        try:
            yield
        finally:
            ray.shutdown()
        return
    short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
    folder = Path(tempfile.mkdtemp(prefix="cnnlens-", dir=None if short else "/tmp"))
    janitor.watch(folder)
    try:
        cores = os.cpu_count() or 1
        ray.init(
            address="local",
            num_cpus=max(cores, workers or 1),
            include_dashboard=False,
            _temp_dir=str(folder),
            **options,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        janitor.forget(folder)


@contextlib.contextmanager
def _silent() -> Generator[None]:
    """Ray's own lines are not shown."""
    before = {name: os.environ.get(name) for name in _SILENT}
    os.environ.update({name: value for name, value in _SILENT.items() if before[name] is None})
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@contextlib.contextmanager
def _hushed() -> Generator[None]:
    """What C++ code writes to standard error is not shown."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
