"""An engine spreads the batches of a run over workers, and what comes of it is what one machine makes, bit for bit.

What has nothing of Ray's is tested without it: the workers then are in this process, and take the batches by turns.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib import metadata
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnnlens_backends import _ray_engine

import cnnlens
from cnnlens.errors import CnnlensError
from cnnlens.recording.address import Address
from cnnlens.recording.ledger import Part
from cnnlens.recording.objects import ObjectWriter
from cnnlens.recording.portion import Facts, Job, Portion, Task
from cnnlens.recording.recorder import record
from cnnlens.recording.recording import Recording
from cnnlens.recording.sinks import Sink
from cnnlens.recording.streaming import Plan
from cnnlens.sample import MODEL
from tests.recording.test_record import images, tree
from tests.recording.test_recording import description
from tests.support.plugins import Traces
from tests.support.workers import ended

pytestmark = pytest.mark.slow

LAYERS = ["max_pooling2d_1", "dense_1"]


class ByTurns:
    """An engine whose workers are in this process, and which gives up after ``most`` batches."""

    most = 1000

    def __init__(self, plan: Plan) -> None:
        self._stack = ExitStack()
        job = Job.of(plan)
        self._portions = [Portion(job) for _ in range(plan.options.workers or 1)]
        for one in self._portions:
            self._stack.callback(one.release)
        self._facts: Facts = self._portions[0].facts(weights=True)
        self.versions, self.device, self.layout = self._facts.versions, self._facts.device, self._facts.layout
        self.notes = self._facts.notes

    def results(self, sink: Sink, batches: Sequence[int]) -> Iterator[dict[str, Part]]:
        for number, batch in enumerate(batches):
            if number == self.most:
                raise CnnlensError("it gave up")
            (made,) = self._portions[number % len(self._portions)].run([Task(batch, sink.wanted(batch))])
            if made.error is not None:
                raise CnnlensError(*made.error)
            parts = dict(made.parts)
            for tensor, content in made.contents.items():
                path = sink.part(tensor, batch)
                path.write_bytes(content)
                parts[tensor] = Part(path, parts[tensor].crc32, parts[tensor].shape, parts[tensor].dtype)
            yield parts

    def weights(self) -> Mapping[str, Any]:
        return self._facts.weights

    def release(self) -> None:
        self._stack.close()


@pytest.fixture(autouse=True)
def by_turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    points = metadata.entry_points

    def found(**which: Any) -> Any:
        mine = metadata.EntryPoint("by-turns", f"{__name__}:ByTurns", which.get("group", ""))
        return [*points(**which), mine] if which.get("group") == "cnnlens.engines" else points(**which)

    monkeypatch.setattr(metadata, "entry_points", found)
    with ended():
        yield


def objects(address: str) -> dict[str, bytes]:
    filesystem = Address(address).filesystem
    root = filesystem._strip_protocol(address)
    return {path.removeprefix(root + "/"): filesystem.cat_file(path) for path in filesystem.find(address)}


# -- whatever the engine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"reduce": "max", "store": "float16"}], ids=["whole", "reduced"])
def test_several_workers_record_what_one_machine_does(tmp_path: Path, more: dict[str, Any]) -> None:
    given: dict[str, Any] = {"layers": ["conv2d", "dense_1"], "batch": 4, **more}
    one = record(MODEL, images(11), out=tmp_path / "one.zarr", **given)
    two = record(MODEL, images(11), out=tmp_path / "two.zarr", engine="by-turns", workers=2, **given)
    assert two.info == one.info
    assert tree(tmp_path / "two.zarr") == tree(tmp_path / "one.zarr")


def test_what_was_recorded_before_an_engine_gave_up_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"layers": LAYERS, "batch": 2}
    record(MODEL, images(11), out=tmp_path / "one.zarr", **given)
    monkeypatch.setattr(ByTurns, "most", 2)
    for number in (1, 2):
        with pytest.raises(CnnlensError, match="it gave up"):
            record(MODEL, images(11), out=tmp_path / "two.zarr", engine="by-turns", **given)
        assert Recording.open(tmp_path / "two.zarr").recorded == 4 * number
    with pytest.raises(CnnlensError, match="recorded with other inputs"):
        record(MODEL, images(11, seed=1), out=tmp_path / "two.zarr", engine="by-turns", **given)
    record(MODEL, images(11), out=tmp_path / "two.zarr", **given)  # and by one machine
    assert tree(tmp_path / "two.zarr") == tree(tmp_path / "one.zarr")


def test_statistics_of_several_workers_are_those_of_one_machine() -> None:
    given: dict[str, Any] = {"layers": ["conv2d", "dense_1"], "batch": 4, "draw": "conv2d", "progress": False}
    one = cnnlens.stats(MODEL, images(11), **given)
    two = cnnlens.stats(MODEL, images(11), engine="by-turns", workers=2, **given)
    assert two.to_json() == one.to_json()
    assert all(np.array_equal(two[name].quantile(0.3), one[name].quantile(0.3)) for name in one)
    assert {index: array.tobytes() for index, array in two.pictures.items()} == {
        index: array.tobytes() for index, array in one.pictures.items()
    }


def test_an_address_holds_what_a_folder_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    given: dict[str, Any] = {"layers": LAYERS, "batch": 2}
    one = record(MODEL, images(11), out=tmp_path / "one.zarr", **given)
    there: dict[str, Any] = {"out": "memory://bucket/run.zarr", "engine": "by-turns", **given}
    with monkeypatch.context() as patch:
        patch.setattr(ByTurns, "most", 3)
        with pytest.raises(CnnlensError, match="it gave up"):
            record(MODEL, images(11), **there)
    assert Recording.open(there["out"]).recorded == 6
    with pytest.raises(CnnlensError, match="6 of 11 inputs are recorded"):
        Recording.open(there["out"])["dense_1"][:]
    with pytest.raises(CnnlensError, match=r"memory://bucket/run\.zarr: it was recorded with other inputs"):
        record(MODEL, images(11, seed=1), **there)
    with pytest.raises(CnnlensError, match="a recording is there"):
        record(MODEL, images(11), resume=False, **there)
    two = record(MODEL, images(11), **there)
    assert objects(there["out"]) == tree(tmp_path / "one.zarr")
    assert two.verify() == one.verify()
    assert np.array_equal(two["dense_1"][3:9], one["dense_1"][3:9])
    filesystem = Address(there["out"]).filesystem
    filesystem.pipe_file("memory://bucket/run.zarr/dense_1/c.1.0", b"short")
    with pytest.raises(CnnlensError, match="inputs 2 to 3: it holds 5 bytes instead of 80"):
        two["dense_1"][:]
    record(MODEL, images(11), **there)  # goes on before what was damaged
    assert objects(there["out"]) == tree(tmp_path / "one.zarr")
    record(MODEL, images(3), overwrite=True, **there)
    assert Recording.open(there["out"]).count == 3


def test_an_address_holds_nothing_of_a_run_that_did_nothing(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    address = Address("memory://bucket/nothing.zarr")
    writer = ObjectWriter(address, tmp_path, description())
    (address / "image" / "c.0.0.0.0").write_bytes(b"what a worker has put there")
    writer.close()
    assert not address.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "raj"}, r"no engine is named 'raj'; did you mean 'ray'\?"),
        ({"engine": "ray", "device": "gpu:1"}, "device 'gpu:1': Ray chooses which GPU"),
        ({"out": "s3://bucket/run.zarr"}, "s3://bucket/run.zarr: an address is written to by an engine"),
        ({"engine": "by-turns", "out": "no-such-kind://run.zarr"}, "no-such-kind://run.zarr: it cannot be reached"),
    ],
)
def test_what_no_engine_can_do_is_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(CnnlensError, match=said) as caught:
        record(MODEL, images(2), layers=LAYERS, **options)
    assert "\n" not in str(caught.value)


def test_one_engine_runs_one_backend() -> None:
    with pytest.raises(CnnlensError, match="an engine runs one backend"):
        cnnlens.stats(MODEL, images(2), backends=["reference", "reference"], engine="ray")


# -- Ray -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 that is in this process, but for its name."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        Address("s3://maps").filesystem.mkdir("maps")
        yield "s3://maps"
    server.stop()


@pytest.fixture(scope="module")
def cluster(bucket: str, plugin_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster whose workers kill themselves where the file says so that is given; ``RAY_ADDRESS`` names it."""
    pytest.importorskip("ray")
    told = tmp_path_factory.mktemp("told") / "kill"
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        path = os.pathsep.join([str(plugin_folder), os.environ.get("PYTHONPATH", "")])
        own = {"PYTHONPATH": path, "CNNLENS_FAULT": "run:kill_once", "CNNLENS_KILL": str(told)}
        known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ray_cluster", folder],
            env={**os.environ, **own, **known, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        address = next(line.split()[1] for line in process.stdout if line.startswith("ADDRESS "))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"RAY_ADDRESS": address, **known}.items():
                patch.setenv(name, value)
            patch.syspath_prepend(str(plugin_folder))
            patch.delenv("CNNLENS_FAULT", raising=False)
            yield told
        process.stdin.close()
        process.stdout.close()
        process.wait(60)


def test_a_worker_that_is_killed_changes_nothing_of_a_recording(cluster: Path, bucket: str, tmp_path: Path) -> None:
    """Of a cluster that is there, into an object store: bytes, checksums and description are those of one machine."""
    given: dict[str, Any] = {"backend": "faulty", "layers": LAYERS, "batch": 2}
    one = record(MODEL, images(61), out=tmp_path / "one.zarr", **given)
    cluster.write_text("parent")  # the actor's own process, in the middle of a batch
    seen: list[tuple[int, int]] = []
    two = record(
        *(MODEL, images(61)),
        out=f"{bucket}/run.zarr",
        engine="ray",
        workers=2,
        progress=lambda *now: seen.append(now),
        **given,
    )
    assert cluster.with_suffix(".done").exists()
    assert two.info == one.info
    assert objects(f"{bucket}/run.zarr") == tree(tmp_path / "one.zarr")
    assert seen == [(min(2 * number, 61), 61) for number in range(32)]
    assert cnnlens.check(MODEL, recordings=[f"{bucket}/run.zarr"], progress=False).agree


def test_a_backend_that_is_killed_changes_nothing_of_statistics(cluster: Path) -> None:
    given: dict[str, Any] = {"backend": "faulty", "layers": ["conv2d"], "batch": 2, "progress": False}
    one = cnnlens.stats(MODEL, images(31), **given)
    cluster.write_text("self")
    two = cnnlens.stats(MODEL, images(31), engine="ray", workers=2, **given)
    assert cluster.with_suffix(".done").exists()
    assert two.to_json() == one.to_json()


def test_a_worker_that_dies_of_a_batch_again_and_again_ends_the_run(cluster: Path) -> None:
    cluster.write_text("always")
    given: dict[str, Any] = {"backend": "faulty", "layers": ["conv2d"], "batch": 2, "progress": False}
    with pytest.raises(CnnlensError, match="ray: it failed while running ") as caught:
        cnnlens.stats(MODEL, images(3), engine="ray", workers=1, **given)
    assert "\n" not in str(caught.value)
    cluster.unlink()


def test_a_cluster_that_hangs_is_waited_for_as_long_as_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ray_engine, "_SILENT", 0.2)
    mine, its = Pipe()
    cluster = object.__new__(_ray_engine._RayCluster)
    cluster._connection, cluster._heard = mine, False
    its.send_bytes(b"")
    its.send_bytes(pickle.dumps(("loaded", None)))
    assert cluster._hear("loading") == "loaded"
    with pytest.raises(CnnlensError, match=r"^ray: the cluster did not answer for 0.2 s while running batch 3; see "):
        cluster._hear("running batch 3")
    for _ in range(3):
        its.send_bytes(b"")
    with pytest.raises(CnnlensError, match=r"^ray: nothing came for 0 s while running batch 3, though the cluster"):
        cluster._hear("running batch 3", 0.0)


def below(process: int, depth: int = 9) -> list[int]:
    """The processes that one has started, and those that they have."""
    every = (thread.read_text() for thread in Path(f"/proc/{process}/task").glob("*/children"))
    found = [int(one) for one in " ".join(every).split()] if depth else []
    return [*found, *(other for one in found for other in below(one, depth - 1))]


def words_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/cmdline").read_text().split("\0")


def test_a_cluster_that_stands_still_ends_the_run_and_keeps_what_was_done(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its processes are stopped: they say nothing, and break no connection."""
    monkeypatch.setattr(_ray_engine, "_SILENT", 15.0)
    given: dict[str, Any] = {"backend": "faulty", "layers": LAYERS, "batch": 2}
    stopped: list[int] = []

    def stop(done: int, count: int) -> None:
        if done >= 40 and not stopped:
            (started,) = (one for one in below(os.getpid(), 1) if "tests.support.ray_cluster" in words_of(one))
            stopped.extend(below(started))
            for one in stopped:
                os.kill(one, signal.SIGSTOP)

    try:
        with pytest.raises(CnnlensError, match=r"^ray: the cluster did not answer for 15 s while running batch ") as no:
            record(MODEL, images(801), out=tmp_path / "two.zarr", engine="ray", workers=1, progress=stop, **given)
    finally:
        for one in stopped:
            os.kill(one, signal.SIGCONT)
    assert "\n" not in str(no.value)
    assert Recording.open(tmp_path / "two.zarr").recorded >= 40


def test_a_cluster_that_goes_away_leaves_what_was_done_and_nothing_else(
    traces: Traces, plugin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of this machine here, and its scheduler is killed while its workers wait in a batch; the same command then
    goes on, with a new one."""
    pytest.importorskip("ray")
    monkeypatch.syspath_prepend(str(plugin_folder))
    path = os.pathsep.join([str(plugin_folder), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):  # the other tests' cluster may still be there
        monkeypatch.delenv(name, raising=False)
    np.save(tmp_path / "x.npy", images(801))
    with ended():
        record(MODEL, tmp_path / "x.npy", backend="faulty", layers=LAYERS, batch=8, out=tmp_path / "one.zarr")
    arguments = [
        *(sys.executable, "-m", "cnnlens", "record", str(MODEL), "--inputs", "x.npy", "--layers", ",".join(LAYERS)),
        *("--backend", "faulty", "--batch", "8", "-o", "two.zarr", "--engine", "ray", "--workers", "2"),
    ]
    held = {**traces.environment, "CNNLENS_FAULT": "run:hold"}
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=held, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    log = tmp_path / "two.zarr" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 20):
        time.sleep(0.01)
    for one in traces.processes():
        number, command = one.split(" ", 1)
        if command.split(" ", 1)[0].endswith("/raylet"):
            os.kill(int(number), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert "ray: the cluster, or the process that drives it, went away while running batch " in err
    assert err.count("\n") == 1
    assert 20 < log.read_bytes().count(b"\n") < 102
    done = subprocess.run(arguments, cwd=tmp_path, env=traces.environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "801 inputs through faulty on cpu" in done.stdout
    assert tree(tmp_path / "two.zarr") == tree(tmp_path / "one.zarr")
