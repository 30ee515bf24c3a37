"""The process that drives a Ray cluster: the batches of a run go in blocks to a pool of actors, one a device.

Where an actor runs, and that one which died is there again and does its work anew, is Ray's; that who is done gets the
next block, its ``ActorPool``'s. Ray Data, which could do the same, costs as much again as Ray itself before anything
runs: it is imported by everybody, and has two actors of its own. A cluster is the one that ``RAY_ADDRESS`` names, else
one on this machine that ends with this process.
"""

from __future__ import annotations

import os
import pickle
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens import janitor
from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.recording.portion import Portion

__all__ = ["main"]

_LONGEST_FOLDER = 40  # characters; a socket in it has a name of its own, and all of it 107
_AT_ONCE = 2  # blocks that an actor has been given: one to run, one to go on with
_AGAIN = 3  # times that what an actor died of is tried again
_LOOK = 10.0  # s between two looks at a cluster that gives nothing
_SHORT = 60.0  # s that it may have fewer devices than actors: a machine that comes back, or another one in its place


class _Actor:
    """What an actor of the pool does; it answers in rows, each what came and why nothing did, as whoever records
    reads them."""

    def __init__(self, job: Sequence[Any]) -> None:
        self._job = job  # a reference to a pickled one: who is started again has to load it anew
        self._portion: Portion | None = None

    def load(self) -> bytes:
        try:
            return pickle.dumps((self._loaded().facts(weights=True), None))
        except CnnlensError as error:
            return _refusal(error)

    def run(self, block: bytes) -> list[bytes]:
        try:
            portion = self._loaded()
            ran = portion.run(pickle.loads(block))
            facts = portion.facts()  # as it ran
            return [pickle.dumps(((facts, made), made.error)) for made in ran]
        except CnnlensError as error:
            return [_refusal(error)]

    def _loaded(self) -> Portion:
        if self._portion is None:
            ray: Any = import_module("ray")
            from cnnlens.recording.portion import Portion  # which the driver itself has no use for

            self._portion = Portion(pickle.loads(ray.get(self._job[0])))
        return self._portion


def _given(actor: Any, block: bytes) -> Any:
    return actor.run.remote(block)


def _refusal(error: CnnlensError) -> bytes:
    return pickle.dumps((None, (error.without_backend, error.backend)))


def _connect(ray: Any, workers: int | None, stack: ExitStack) -> None:
    stack.callback(ray.shutdown)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
        return
    short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
    folder = Path(tempfile.mkdtemp(prefix="cnnlens-", dir=None if short else "/tmp"))
    janitor.watch(folder)  # which removes it at the end of this process, whose cluster writes into it until then
    ray.init(
        "local",
        num_cpus=max(os.cpu_count() or 1, workers or 1),
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(folder),
        _system_config={
            # An actor that ends would kill its janitor before that has removed the actor's folders.
            "kill_child_processes_on_worker_exit": False,
            # A process for each CPU, before anybody knows how many actors there will be.
            "prestart_worker_first_driver": False,
            # Ray would let everything else on the machine go before them.
            "worker_niceness": 0,
        },
    )


def _resources(ray: Any, kind: str, workers: int | None) -> tuple[int, dict[str, float]]:
    """How many actors there are, and what each takes: a GPU, or without one as many as there are machines."""
    there = ray.cluster_resources().get(kind, 0)
    wanted = workers or (sum(one["Alive"] for one in ray.nodes()) if kind == "CPU" else int(there) or 1)
    if wanted > there:
        raise CnnlensError(f"ray: {wanted} workers need a {kind} each, and the cluster has {there:g}")
    return wanted, {"num_cpus": 1, "num_gpus": int(kind == "GPU")}


def _looking(ray: Any, connection: Connection, kind: str, count: int) -> Callable[[], None]:
    """Make the look at a cluster that gives nothing: whoever records hears that it answers. Where it does not, neither
    does this, and nothing is heard. An actor whose machine is gone waits for another one as long as there is none.

    Raises:
        CnnlensError: it has had too few devices for too long.
    """
    enough = time.monotonic()

    def look() -> None:
        nonlocal enough
        there, now = ray.cluster_resources().get(kind, 0), time.monotonic()
        if there >= count:
            enough = now
        elif now - enough > _SHORT:
            raise CnnlensError(
                f"ray: {count} workers need a {kind} each, and for {_SHORT:g} s the cluster had {there:g}: machines of "
                "it went away; give the same command again when they are back, and a recording goes on from there"
            )
        connection.send_bytes(b"")

    return look


def main(handle: int) -> None:
    """Do what comes over a socket: load a job, then run its blocks of tasks, until it is closed."""
    connection = Connection(handle)
    doing = "starting"
    with ExitStack() as stack:
        try:
            ray: Any = import_module("ray")  # while the other end still makes the job
            job, device, workers = pickle.loads(connection.recv_bytes())
            if os.environ.get("RAY_ADDRESS"):
                doing = "connecting to the cluster that RAY_ADDRESS names"
            _connect(ray, workers, stack)
            kind = "CPU" if device == "cpu" else "GPU"
            count, each = _resources(ray, kind, workers)
            look = _looking(ray, connection, kind, count)
            look()
            doing = "loading the network"
            held = [ray.put(job)]
            made = ray.remote(max_restarts=-1, max_task_retries=_AGAIN, **each)(_Actor)
            actors = [made.remote(held) for _ in range(count)]
            loaded = [one.load.remote() for one in actors]
            while ray.wait(loaded, num_returns=count, timeout=_LOOK)[1]:
                look()
            connection.send_bytes(pickle.dumps((ray.get(loaded), None)))
            blocks = pickle.loads(connection.recv_bytes())
            doing = "running"
            pool = import_module("ray.util").ActorPool(actors * _AT_ONCE)
            for block in blocks:
                pool.submit(_given, block)
            while pool.has_next():
                try:
                    rows = pool.get_next(_LOOK)
                except TimeoutError:
                    look()
                    continue
                for row in rows:
                    connection.send_bytes(row)
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
