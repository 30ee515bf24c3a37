"""The process that drives a Ray cluster: Ray Data gives the batches of a run to a pool of actors, one a device.

Which actor takes what, what happens to the work of one that died, and how far they may run ahead is Ray's. A cluster is
the one that ``RAY_ADDRESS`` names, else one on this machine that ends with this process.
"""

from __future__ import annotations

import os
import pickle
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cnnlens import janitor
from cnnlens.backend.worker import close_all
from cnnlens.errors import CnnlensError
from cnnlens.recording.portion import Facts, Job, Portion, Task
from cnnlens.text import printable

__all__ = ["main"]

_BLOCK = 8  # batches that an actor takes at once: it reads, computes and writes them at the same time
_LONGEST_FOLDER = 40  # characters; a socket in it has a name of its own, and all of it 107
_Refusal = tuple[str, str | None]  # a line, and the backend whose it is


class _Actor:
    """What an actor of the pool does."""

    def __init__(self, job: Any) -> None:
        self._job = job  # a reference: what an actor is made with is looked up where it runs
        self._portion: Portion | None = None

    def __call__(self, table: Any) -> Any:
        pyarrow: Any = import_module("pyarrow")
        ray: Any = import_module("ray")
        tasks: list[Task] = [pickle.loads(one) for one in table["item"].to_pylist()]
        try:
            self._portion = self._portion or Portion(ray.get(self._job))
            facts = self._portion.facts()
            rows = [((facts, made), made.error) for made in self._portion.run(tasks)]
        except CnnlensError as error:
            rows: list[tuple[Any, _Refusal | None]] = [(None, (error.without_backend, error.backend))]
        return pyarrow.table({"row": pyarrow.array([pickle.dumps(row) for row in rows], pyarrow.large_binary())})


def _facts_of(job: Job) -> tuple[Facts | None, _Refusal | None]:
    """What a worker runs with, or why it runs nothing."""
    try:
        portion = Portion(job)
        try:
            return portion.facts(weights=True), None
        finally:
            portion.release()
            close_all()  # an idle backend would keep its GPU from the actors
    except CnnlensError as error:
        return None, (error.without_backend, error.backend)


def _connect(ray: Any, workers: int | None, stack: ExitStack) -> None:
    stack.callback(ray.shutdown)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
        return
    short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
    folder = Path(tempfile.mkdtemp(prefix="cnnlens-", dir=None if short else "/tmp"))
    janitor.watch(folder)  # which removes it at the end of this process, whose cluster writes into it until then
    cpus = max(os.cpu_count() or 1, workers or 1)
    ray.init("local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, _temp_dir=str(folder))


def _resources(ray: Any, device: str, workers: int | None) -> tuple[int, dict[str, float]]:
    """How many actors there are, and what each takes: a GPU, or without one as many as there are machines."""
    kind = "CPU" if device == "cpu" else "GPU"
    there = ray.cluster_resources().get(kind, 0)
    wanted = workers or (sum(one["Alive"] for one in ray.nodes()) if kind == "CPU" else int(there) or 1)
    if wanted > there:
        raise CnnlensError(f"ray: {wanted} workers need a {kind} each, and the cluster has {there:g}")
    return wanted, {"num_cpus": 1, "num_gpus": int(kind == "GPU")}


def _rows(ray: Any, job: Any, tasks: Sequence[Task], workers: int, each: dict[str, float]) -> Iterator[bytes]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    blocks = max(-(-len(tasks) // _BLOCK), min(workers, len(tasks)))
    found = ray.data.from_items([pickle.dumps(task) for task in tasks], override_num_blocks=blocks).map_batches(
        _Actor,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        fn_constructor_args=(job,),
        **each,
    )
    for row in found.iter_rows():
        yield row["row"]


def main(handle: int) -> None:
    """Do what comes over a socket: load a job, then run its tasks, until it is closed."""
    connection = Connection(handle)
    doing = "starting"
    with ExitStack() as stack:
        try:
            job, workers = pickle.loads(connection.recv_bytes())
            ray: Any = import_module("ray")
            import_module("ray.data")
            _connect(ray, workers, stack)
            count, each = _resources(ray, job.options.device, workers)
            doing = "loading the network"
            kept = ray.put(job)
            connection.send_bytes(pickle.dumps(ray.get(ray.remote(**each)(_facts_of).remote(kept))))
            doing = "running"
            tasks = pickle.loads(connection.recv_bytes())
            for row in _rows(ray, kept, tasks, count, each):
                connection.send_bytes(row)
            connection.recv_bytes()  # until the other end is closed
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except CnnlensError as error:
            connection.send_bytes(pickle.dumps((None, (str(error), None))))
        except Exception as error:
            lines = [one.strip() for one in str(error).splitlines() if one.strip()]
            said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            line = f"ray: it failed while {doing} ({printable(said, 300)})"
            connection.send_bytes(pickle.dumps((None, (line, None))))
            raise


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
    if not os.environ.get(
        "RAY_ADDRESS"
    ):  # a cluster of its own is its own alone, and leaves no token in the home folder
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    from cnnlens_backends import _ray_driver

    _ray_driver.main(int(sys.argv[1]))
