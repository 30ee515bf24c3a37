"""The process that drives a Ray cluster: Ray Data gives the batches of a run to a pool of actors, one a device.

Which actor takes what, what happens to the work of one that died, and how far they may run ahead is Ray's. A cluster is
the one that ``RAY_ADDRESS`` names, else one on this machine that ends with this process.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from cnnlens import janitor
from cnnlens.errors import CnnlensError
from cnnlens.recording.portion import Facts, Job, Portion, Task
from cnnlens.text import printable

__all__ = ["main"]

_BLOCK = 8  # batches that an actor takes at once: it reads, computes and writes them at the same time
_LONGEST_FOLDER = 40  # characters; a socket in it has a name of its own, and all of it 107
_Refusal = tuple[str, str | None]  # a line, and the backend whose it is


class _Gate:
    """Where actors say what they run with, and wait to hear what is wanted: an actor that takes next to nothing."""

    def __init__(self) -> None:
        self._facts: Facts | None = None
        self._tasks: Mapping[int, Task] = {}
        self._told, self._opened = asyncio.Event(), asyncio.Event()

    async def tell(self, facts: Facts) -> None:
        self._facts = self._facts or facts
        self._told.set()

    async def facts(self) -> Facts | None:
        """Wait for the first that is told."""
        await self._told.wait()
        return self._facts

    async def open(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.batch: task for task in tasks}
        self._opened.set()

    async def tasks(self) -> Mapping[int, Task]:
        """Wait until it is open."""
        await self._opened.wait()
        return self._tasks


class _Actor:
    """What an actor of the pool does: it loads the network before anybody knows what is wanted of it."""

    def __init__(self, job: Any, gate: Any) -> None:
        self._job, self._gate = job, gate  # a reference, and a handle
        self._portion: Portion | None = None
        self._tasks: Mapping[int, Task] = {}

    def __call__(self, table: Any) -> Any:
        pyarrow: Any = import_module("pyarrow")
        try:
            portion = self._portion or self._begun()
            ran = portion.run([self._tasks[batch] for batch in table["item"].to_pylist() if batch in self._tasks])
            facts = portion.facts()  # as it ran
            rows = [((facts, made), made.error) for made in ran]
        except CnnlensError as error:
            rows: list[tuple[Any, _Refusal | None]] = [(None, (error.without_backend, error.backend))]
        return pyarrow.table({"row": pyarrow.array([pickle.dumps(row) for row in rows], pyarrow.large_binary())})

    def _begun(self) -> Portion:
        ray: Any = import_module("ray")
        self._portion = Portion(ray.get(self._job))
        ray.get(self._gate.tell.remote(self._portion.facts(weights=True)))
        self._tasks = ray.get(self._gate.tasks.remote())
        return self._portion


def _connect(ray: Any, workers: int | None, stack: ExitStack) -> None:
    stack.callback(ray.shutdown)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
        return
    short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
    folder = Path(tempfile.mkdtemp(prefix="cnnlens-", dir=None if short else "/tmp"))
    janitor.watch(folder)  # which removes it at the end of this process, whose cluster writes into it until then
    cpus = max(os.cpu_count() or 1, workers or 1)
    ray.init(
        "local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(folder),
        # An actor that ends would kill its janitor before that has removed the actor's folders.
        _system_config={"kill_child_processes_on_worker_exit": False},
    )


def _resources(ray: Any, device: str, workers: int | None) -> tuple[int, dict[str, float]]:
    """How many actors there are, and what each takes: a GPU, or without one as many as there are machines."""
    kind = "CPU" if device == "cpu" else "GPU"
    there = ray.cluster_resources().get(kind, 0)
    wanted = workers or (sum(one["Alive"] for one in ray.nodes()) if kind == "CPU" else int(there) or 1)
    if wanted > there:
        raise CnnlensError(f"ray: {wanted} workers need a {kind} each, and the cluster has {there:g}")
    return wanted, {"num_cpus": 1, "num_gpus": int(kind == "GPU")}


def _rows(ray: Any, job: Job, gate: Any, workers: int, each: dict[str, float]) -> Iterator[bytes]:
    """What the pool makes of all batches, in their order; of those that nothing is wanted of, nothing."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    batches = -(-job.examples[0] // job.batch)
    blocks = max(-(-batches // _BLOCK), min(workers, batches))
    found = ray.data.from_items(list(range(batches)), override_num_blocks=blocks).map_batches(
        _Actor,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        fn_constructor_args=(ray.put(job), gate),
        **each,
    )
    for row in found.iter_rows():
        yield row["row"]


def _first(rows: Iterator[bytes]) -> Future[bytes | None]:
    """The first row, which is asked for in a thread of its own: asking is what starts the pool."""
    found = Future[bytes | None]()

    def ask() -> None:
        try:
            found.set_result(next(rows, None))
        except BaseException as error:
            found.set_exception(error)

    Thread(target=ask, daemon=True).start()  # nobody waits for it where the run is given up
    return found


def main(handle: int) -> None:
    """Do what comes over a socket: load a job, then run its tasks, until it is closed."""
    connection = Connection(handle)
    doing = "starting"
    with ExitStack() as stack:
        try:
            job, workers = pickle.loads(connection.recv_bytes())
            ray: Any = import_module("ray")
            import_module("ray.data")
            if os.environ.get("RAY_ADDRESS"):
                doing = "connecting to the cluster that RAY_ADDRESS names"
            _connect(ray, workers, stack)
            count, each = _resources(ray, job.options.device, workers)
            doing = "loading the network"
            gate = ray.remote(num_cpus=0)(_Gate).remote()
            rows = _rows(ray, job, gate, count, each)
            first, told = _first(rows), gate.facts.remote().future()
            wait([first, told], return_when=FIRST_COMPLETED)
            if not first.done():
                connection.send_bytes(pickle.dumps((told.result(), None)))
                tasks = pickle.loads(connection.recv_bytes())
                doing = "running"
                ray.get(gate.open.remote(tasks))
            row = first.result()  # why nothing runs, where nobody told anything
            while row is not None:
                connection.send_bytes(row)
                row = next(rows, None)
            connection.recv_bytes()  # until the other end is closed
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except CnnlensError as error:
            connection.send_bytes(pickle.dumps((None, (str(error), None))))
        except Exception as error:
            lines = [one.strip() for one in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if one.strip()]
            said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            line = f"ray: it failed while {doing} ({printable(said, 300)})"
            connection.send_bytes(pickle.dumps((None, (line, None))))
            raise


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
    if os.environ.get("RAY_ADDRESS"):  # where nothing answers, Ray asks 20 times, 40 s each
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    else:  # nobody else gets into a cluster of its own, nor its token into a file
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    from cnnlens_backends import _ray_driver

    _ray_driver.main(int(sys.argv[1]))
