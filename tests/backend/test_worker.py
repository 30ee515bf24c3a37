"""Whatever happens in a backend's process is one line about that backend, and nothing of it is left."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sys
import threading
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens import CnnlensError
from cnnlens.backend import fingerprint, handover, worker
from cnnlens.backend import process as worker_process
from cnnlens.backend.worker import Chunk, Worker, WorkerError, pool
from cnnlens.network.network import Network
from cnnlens.testing import inputs_for, network
from tests.support.plugins import Traces
from tests.support.workers import agree, use, use_all

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="workers need POSIX"), pytest.mark.usefixtures("traces")]
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SHAPE = (5, 5, 11, 9)  # of five feature maps of the layer "first"


def fault(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setenv("CNNLENS_FAULT", what)


# -- what works ------------------------------------------------------------------------------------------------------


def test_a_round_trip(handed: Path, chain: Network) -> None:
    with Worker.start("reference") as process:
        folder = process.folder
        loaded = process.load(handed)
        assert loaded.versions["numpy"] == np.__version__
        assert (loaded.device, loaded.layout) == ("cpu", "stored")
        agree(use(process, handed, chain), chain)
        assert process.weights()["norm"]["gamma"] == fingerprint(chain["norm"].weights["gamma"])
        assert process.devices() == ["cpu"]
        assert folder.exists()
    assert not folder.exists()
    assert not process.alive
    with pytest.raises(WorkerError, match="reference: its process is over: it was closed"):
        process.devices()
    process.close()


def test_runs_are_timed_as_far_as_they_are_asked_to_go(handed: Path, chain: Network, tmp_path: Path) -> None:
    (image,) = inputs_for(chain, 5)
    image.tofile(tmp_path / "image")
    chunks = [Chunk(tmp_path / "image", image.shape)]
    with Worker.start("reference") as process:
        process.load(handed)
        before = sorted(process.folder.iterdir())
        timings = {
            stage: process.bench(chunks, ["first", "head"], stage, seconds=60, most=3)
            for stage in ("device", "host", "disk")
        }
        once = process.bench(chunks, ["head"])
        assert sorted(process.folder.iterdir()) == before
        agree(use(process, handed, chain), chain)
    maps = chain.run([image], ["first", "head"], dtype="float32")
    assert [one.bytes for one in timings.values()] == [0, *[sum(array.nbytes for array in maps.values())] * 2]
    assert [len(one.seconds) for one in timings.values()] == [3, 3, 3]
    assert len(once.seconds) == 1
    assert once.bytes == maps["head"].nbytes
    for one in (*timings.values(), once):
        assert all(0 < seconds < 60 for seconds in one.seconds)
        assert one.device_peak is None
        assert one.host_peak is None or one.host_peak > 10 << 20


@pytest.mark.parametrize("what", ["well", "late_refusal", "late_memory"])
def test_the_next_batch_is_begun_before_one_is_fetched(
    handed: Path, chain: Network, tmp_path: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What goes wrong late is said of its own batch, and where memory holds one batch alone, none is begun any more."""
    fault(monkeypatch, f"begin:{what}")
    (images,) = inputs_for(chain, 20)
    expected = chain.run([images], ["first"], dtype="float32")["first"]
    with Worker.start("faulty") as process:
        process.load(handed)
        os.kill(process.pid, signal.SIGSTOP)  # so that all batches are there when it looks
        tickets: list[int] = []
        for index in range(4):
            images[index * 5 : index * 5 + 5].tofile(tmp_path / f"in-{index}")
            chunk = Chunk(tmp_path / f"in-{index}", (5, *images.shape[1:]))
            tickets.append(process.submit([chunk], {"first": Chunk(tmp_path / f"out-{index}", None, None)}, 5))
        os.kill(process.pid, signal.SIGCONT)
        for index, ticket in enumerate(tickets):
            if (what, index) == ("late_refusal", 1):
                with pytest.raises(CnnlensError, match="faulty: it cannot do this"):
                    process.collect(ticket)
                continue
            assert process.collect(ticket).most is None  # each alone is no more than memory holds
            found = np.fromfile(tmp_path / f"out-{index}", "<f4").reshape(SHAPE)
            np.testing.assert_array_equal(found, expected[index * 5 : index * 5 + 5])
        said = [line for line in (process.folder / "log").read_text().splitlines() if line[:5] in ("begin", "fetch")]
    order = ["begin 1", "begin 2", "fetch 1", "begin 3", "fetch 2", "begin 4", "fetch 3", "fetch 4"]
    assert said == ([*order[:5], "fetch 3"] if what == "late_memory" else order)


def test_a_network_that_is_loaded_again_is_as_new_and_compiled(
    handed: Path, chain: Network, tmp_path: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch, "renew:said")
    again = tmp_path / "again"
    again.mkdir()
    handover.write(chain, again)
    with Worker.start("faulty") as process:
        loaded = process.load(handed)
        agree(use(process, handed, chain), chain)  # which loads it once more
        assert process.load(again).versions == loaded.versions
        assert (process.folder / "log").read_text().count("renewed") == 2
        process.load(again, trust_code=True)
        process.load(again)  # the code of a file may have left something behind
        assert (process.folder / "log").read_text().count("renewed") == 2
        process.load(again)
        assert (process.folder / "log").read_text().count("renewed") == 3
        agree(use(process, again, chain), chain)


def test_batches_go_through_files_and_may_be_collected_in_any_order(
    handed: Path, chain: Network, tmp_path: Path
) -> None:
    (images,) = inputs_for(chain, 15)
    with Worker.start("reference") as process:
        process.load(handed)
        tickets: list[int] = []
        for start in (0, 5, 10):
            part = np.zeros((5, *images.shape[1:]), np.float32)
            count = min(5, 13 - start)
            part[:count] = images[start : start + count]
            part.tofile(tmp_path / f"in{start}")
            chunks = {
                "first": Chunk(tmp_path / f"first{start}", SHAPE),
                "head": Chunk(tmp_path / f"head{start}", (5, 4), "<f8"),
            }
            tickets.append(process.submit([Chunk(tmp_path / f"in{start}", part.shape)], chunks, count))
        reports = {start: process.collect(tickets[start // 5]) for start in (10, 0, 5)}
    wanted = chain.run(images[:13], ["first", "head"], dtype="float32")
    for start, report in reports.items():
        first = np.fromfile(tmp_path / f"first{start}", "<f4").reshape(SHAPE)
        head = np.fromfile(tmp_path / f"head{start}", "<f8").reshape(5, 4)
        count = min(5, 13 - start)
        np.testing.assert_allclose(first[:count], wanted["first"][start : start + count], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(head[:count], wanted["head"][start : start + count], rtol=1e-5, atol=1e-6)
        assert not first[count:].any()
        assert report.crc32 == {"first": zlib.crc32(first.tobytes()), "head": zlib.crc32(head.tobytes())}
        assert report.seconds > 0
    assert not list(tmp_path.glob("*.tmp"))


def test_a_second_model_starts_no_process(handed: Path, chain: Network, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    signal_network = network("signal")
    handover.write(signal_network, other)
    try:
        with pool("reference") as first:
            agree(use(first, handed, chain), chain)
            with pool("reference") as second:  # the first is taken
                assert second.pid != first.pid
            with pool("reference", precision="strict") as third:
                assert third.pid not in (first.pid, second.pid)
        with pool("reference") as again:
            assert again.pid in (first.pid, second.pid)
            again.load(other)
            found = again.feature_maps(inputs_for(signal_network, 4), ["fine"])
            agree(found, signal_network, 4)
    finally:
        worker.close_all()


def test_a_worker_that_still_owes_an_answer_is_not_handed_on(handed: Path, chain: Network, tmp_path: Path) -> None:
    (images,) = inputs_for(chain, 5)
    images.tofile(tmp_path / "images")
    try:
        with pool("reference") as first:
            first.load(handed)
            first.submit([Chunk(tmp_path / "images", images.shape)], {"first": Chunk(tmp_path / "maps", SHAPE)}, 5)
        assert not first.alive
        with pool("reference") as second:
            assert second.pid != first.pid
    finally:
        worker.close_all()


def test_an_idle_worker_that_died_is_replaced(handed: Path, chain: Network) -> None:
    try:
        with pool("reference") as first:
            pass
        os.kill(first.pid, signal.SIGKILL)
        time.sleep(0.1)
        with pool("reference") as second:
            assert second.pid != first.pid
            agree(use(second, handed, chain), chain)
    finally:
        worker.close_all()


def test_a_worker_outlives_the_thread_that_started_it(handed: Path, chain: Network) -> None:
    """The kernel's parent-death signal is sent when that thread ends, which is why it is not used."""
    started: list[Worker] = []
    thread = threading.Thread(target=lambda: started.append(Worker.start("reference")))
    thread.start()
    thread.join()
    time.sleep(0.1)
    with started[0] as process:
        agree(use(process, handed, chain), chain)


def test_its_environment_is_set_before_its_python_starts(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with Worker.start("plain", precision="strict") as process:
        environment = Path(f"/proc/{process.pid}/environ")
        if environment.exists():
            values = environment.read_bytes().split(b"\0")
            assert b"OMP_NUM_THREADS=1" in values
            assert not any(value.startswith(b"PYTHONWARNINGS") for value in values)
            assert os.readlink(f"/proc/{process.pid}/cwd") == str(process.folder / "empty")
            assert os.getpgid(process.pid) == process.pid


def test_several_start_and_run_side_by_side(handed: Path, chain: Network) -> None:
    def one(spec: str) -> dict[str, np.ndarray]:
        with Worker.start(spec) as process:
            return use(process, handed, chain)

    with ThreadPoolExecutor(3) as threads:
        for found in threads.map(one, ["reference"] * 3):
            agree(found, chain)


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("load:crash", r"killed by SIGSEGV while loading$"),
        ("run:crash", r"killed by SIGSEGV while running a batch$"),
        ("weights:crash", r"killed by SIGSEGV while reading its weights back$"),
        ("devices:crash", r"killed by SIGSEGV while looking for devices$"),
        ("load:killed", r"killed by SIGKILL while loading \(the system may have run out of memory\)$"),
        ("run:leave", r"ended with exit code 3 while running a batch$"),
        ("load:sys_exit", r"failed while loading \(SystemExit: I give up; __init__.py:\d+\)$"),
        ("run:memory", r"ran out of memory while running a batch \(.*256. PiB.*\); give a smaller batch$"),
        ("load:raise", r"failed while loading \(RuntimeError: 2 root error\(s\) found.; __init__.py:\d+\)$"),
        (
            "load:missing",
            r"cannot import framework_that_nobody_has \(.*\); install it with: python -m pip install cnnlens-faulty$",
        ),
        ("load:write_to_the_socket", r"wrote into cnnlens' own socket while loading: hello there$"),
        (
            "load:close_every_file",
            r"ended with exit code 1 while loading; the last it printed: the backend closed the socket of cnnlens",
        ),
        (
            "run:crash_after_words",
            r"killed by SIGABRT while running a batch; the last it printed: CUDNN_STATUS_NOT_FOUND at conv.cc:12$",
        ),
        ("run:crash_with_company", r"killed by SIGSEGV while running a batch$"),
        ("run:stored_axes", r"gave \(5, 11, 9, 5\) for 'first', where \(5, 5, 11, 9\)"),
        ("run:too_few", r"gave \(4, 5, 11, 9\) for 'first', where \(5, 5, 11, 9\)"),
        ("run:nothing", r"gave no feature map of 'first'"),
        ("run:lists", r"gave a list for 'first', not a NumPy array"),
        ("run:words", r"gave <U4 for 'first', which are no numbers"),
    ],
)
@pytest.mark.usefixtures("plugins")
def test_one_line_about_that_backend_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, handed: Path, chain: Network, traces: Traces, what: str, said: str
) -> None:
    fault(monkeypatch, what)
    with Worker.start("reference") as other, Worker.start("faulty", timeout=30) as process:
        start = time.monotonic()
        with pytest.raises(WorkerError) as caught:
            use_all(process, handed, chain)
        assert time.monotonic() - start < 5
        message = str(caught.value)
        assert re.match(r"faulty: " + said, message), message
        assert "\n" not in message
        assert not process.alive
        assert not process.folder.exists()
        if sys.platform == "linux":
            traces.assert_alone()  # the other one, and no company of the dead
        with pytest.raises(WorkerError, match="faulty: its process is over"):
            process.load(handed)
        agree(use(other, handed, chain), chain)


@pytest.mark.usefixtures("plugins")
def test_a_refusal_names_its_backend_once(monkeypatch: pytest.MonkeyPatch, handed: Path, chain: Network) -> None:
    fault(monkeypatch, "run:refuse")
    with Worker.start("faulty", timeout=30) as process:
        with pytest.raises(CnnlensError, match=r"^faulty: it cannot do this$"):
            use_all(process, handed, chain)
        assert process.alive


@pytest.mark.parametrize("what", ["load:hang", "run:hang_in_c", "run:print_without_end"])
@pytest.mark.usefixtures("plugins")
def test_a_backend_that_gives_no_answer_is_ended(
    monkeypatch: pytest.MonkeyPatch, handed: Path, chain: Network, what: str
) -> None:
    monkeypatch.setattr(worker_process, "_LOG_LIMIT", 4 << 20)
    fault(monkeypatch, what)
    sizes: list[int] = []
    with Worker.start("faulty", timeout=1.5) as process:
        log = process.folder / "log"

        def watch() -> None:
            with contextlib.suppress(FileNotFoundError):  # the end
                while True:
                    sizes.append(log.stat().st_size)
                    time.sleep(0.01)

        thread = threading.Thread(target=watch)
        thread.start()
        with pytest.raises(WorkerError) as caught:
            use(process, handed, chain)
        thread.join()
    doing = "loading" if what.startswith("load") else "running a batch"
    assert str(caught.value).startswith(f"faulty: gave no answer for 1.5 s while {doing}; it was ended")
    if what.endswith("print_without_end"):
        assert any(later < earlier for earlier, later in itertools.pairwise(sizes))


@pytest.mark.usefixtures("plugins")
def test_a_backend_may_print_whatever_it_likes(
    monkeypatch: pytest.MonkeyPatch, handed: Path, chain: Network, capfd: pytest.CaptureFixture[str]
) -> None:
    for moment in ("load", "run"):
        fault(monkeypatch, f"{moment}:noise")
        with Worker.start("faulty") as process:
            agree(use(process, handed, chain), chain)
    assert capfd.readouterr() == ("", "")


@linux
@pytest.mark.usefixtures("plugins")
def test_processes_that_a_backend_started_end_with_it(
    monkeypatch: pytest.MonkeyPatch, handed: Path, chain: Network, traces: Traces
) -> None:
    fault(monkeypatch, "load:company")
    with Worker.start("faulty") as process:
        agree(use(process, handed, chain), chain)
        assert len(traces.processes()) == 2
    traces.assert_none()  # a killed process is gone as soon as the kernel comes to it


@pytest.mark.usefixtures("plugins")
def test_a_backend_that_will_not_close_is_ended(monkeypatch: pytest.MonkeyPatch, handed: Path, chain: Network) -> None:
    monkeypatch.setattr(worker, "_goodbye", 0.3)
    fault(monkeypatch, "close:hang_in_c")
    process = Worker.start("faulty")
    use(process, handed, chain)
    start = time.monotonic()
    process.close()
    assert time.monotonic() - start < 2


@pytest.mark.usefixtures("plugins")
def test_whoever_is_in_a_hurry_waits_for_no_goodbye(
    monkeypatch: pytest.MonkeyPatch, handed: Path, chain: Network
) -> None:
    monkeypatch.setattr(worker, "_goodbye", 30.0)
    fault(monkeypatch, "close:hang_in_c")
    process = Worker.start("faulty")
    use(process, handed, chain)
    threading.Timer(0.3, worker.hurry).start()  # as Ctrl-C does, while it is waited for
    start = time.monotonic()
    process.close()
    assert time.monotonic() - start < 2


@pytest.mark.usefixtures("plugins")
def test_another_thread_may_close_a_worker_that_somebody_waits_for(
    monkeypatch: pytest.MonkeyPatch, handed: Path
) -> None:
    fault(monkeypatch, "load:hang")
    process = Worker.start("faulty")
    timer = threading.Timer(0.5, worker.close_all)
    timer.start()
    start = time.monotonic()
    with pytest.raises(WorkerError, match="faulty: its process is over: it was closed"):
        process.load(handed)
    assert time.monotonic() - start < 5
    timer.join()


def test_a_refusal_leaves_the_worker_as_it_was(handed: Path, chain: Network, tmp_path: Path) -> None:
    with Worker.start("reference") as process:
        process.load(handed)
        (images,) = inputs_for(chain, 5)
        with pytest.raises(CnnlensError, match=r"^reference: .*'firts'.*did you mean 'first'") as caught:
            process.feature_maps([images], ["firts"])
        assert not isinstance(caught.value, WorkerError)
        images.tofile(tmp_path / "images")
        source = [Chunk(tmp_path / "images", images.shape)]
        for target, said in (
            (Chunk(tmp_path / "none" / "x", SHAPE), r"x: it cannot be written \(No such file or directory\)"),
            (Chunk(tmp_path / "x", (5, 5, 9, 11)), r"is \(5, 5, 11, 9\), the chunk for it \(5, 5, 9, 11\)"),
            (Chunk(tmp_path / "x", (4, 5, 11, 9)), r"is \(5, 5, 11, 9\), the chunk for it \(4, 5, 11, 9\)"),
        ):
            with pytest.raises(CnnlensError, match=said) as caught:
                process.run(source, {"first": target}, 5)
            assert not isinstance(caught.value, WorkerError)
        agree(process.feature_maps([images], ["first"]), chain)


@linux
def test_a_file_that_cannot_be_written_whole_is_not_written(handed: Path, chain: Network, tmp_path: Path) -> None:
    import resource

    (images,) = inputs_for(chain, 5)
    images.tofile(tmp_path / "images")
    source = [Chunk(tmp_path / "images", images.shape)]
    with Worker.start("reference") as process:
        process.load(handed)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        with pytest.raises(CnnlensError, match=r"maps: it cannot be written \(File too large\)"):
            process.run(source, {"first": Chunk(tmp_path / "maps", SHAPE)}, 5)
        assert sorted(path.name for path in tmp_path.glob("*map*")) == []
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        process.run(source, {"first": Chunk(tmp_path / "maps", SHAPE)}, 5)
        agree({"first": np.fromfile(tmp_path / "maps", "<f4").reshape(SHAPE)}, chain)


def test_what_never_began_is_not_waited_for_after_an_interruption() -> None:
    driving: list[Future[Any]] = []

    def interrupted() -> None:
        with worker.threads(1, driving) as lent:
            driving.extend([lent.submit(time.sleep, 0.2), lent.submit(time.sleep, 0.2)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert driving[1].cancelled()
