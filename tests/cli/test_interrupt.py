"""Ctrl-C at any moment: one line, exit code 130, and nothing left behind, also while a backend is being started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnlens import sample
from tests.support.plugins import Traces

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

IMAGE = str(sample.IMAGES / "9-ankle-boot.png")
COMMANDS = {
    "record": ["record", str(sample.MODEL), "-i", IMAGE, "--backend", "reference", "-o", "run.zarr"],
    "check": ["check", str(sample.MODEL), "-i", IMAGE, "--backends", "reference,reference"],
    "maps": ["maps", str(sample.MODEL), "-i", IMAGE],
    "summary": ["summary", str(sample.MODEL)],
}
# Before that Python itself is not there yet, and ends as it likes.
RUN = "import sys; from cnnlens.__main__ import run; print('in', flush=True); sys.argv[0] = 'cnnlens'; run()"


def started(arguments: list[str], traces: Traces, folder: Path) -> subprocess.Popen[str]:
    found = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        cwd=folder,
        env=traces.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert found.stdout is not None
    assert found.stdout.readline() == "in\n"
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_at_every_moment(command: str, traces: Traces, tmp_path: Path) -> None:
    begin = time.monotonic()
    out, _ = started(COMMANDS[command], traces, tmp_path).communicate(timeout=60)
    whole = time.monotonic() - begin
    assert out
    codes: list[int] = []
    moments = 12
    for moment in range(moments):
        folder = tmp_path / str(moment)
        folder.mkdir()
        process = started(COMMANDS[command], traces, folder)
        time.sleep(whole * moment / (moments - 2))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=20)
        codes.append(process.returncode)
        expected = {130: "cnnlens: interrupted\n", 0: ""}  # 0: it was done before
        assert process.returncode in expected, (moment, err)
        assert err == expected[process.returncode], (moment, err)
        traces.assert_none()
    assert codes.count(130) > moments // 3


_LOST = """
import sys
from cnnlens.__main__ import run
class Ending:
    def __del__(self):
        import signal
        signal.raise_signal(signal.SIGINT)  # raised here, KeyboardInterrupt is printed and forgotten
import cnnlens.cli.main
def main(interrupted):
    import time
    ending = Ending()
    del ending
    time.sleep(20)
    return 0
cnnlens.cli.main.main = main
run()
"""


def test_an_interrupt_that_python_forgets_is_heard_all_the_same(traces: Traces) -> None:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _LOST], env=traces.environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "cnnlens: interrupted\n")
    assert time.monotonic() - begin < 10


def test_who_ignores_ctrl_c_is_not_interrupted(traces: Traces, tmp_path: Path) -> None:
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + RUN
    process = subprocess.Popen(
        [sys.executable, "-c", script, *COMMANDS["record"]],
        cwd=tmp_path,
        env=traces.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) in ((0, ""), (-signal.SIGINT, ""))  # the second: Python was not there yet


_HELD = """
import sys, threading, time
from cnnlens.backend import worker
begun = threading.Event()
def held():
    begun.set()
    time.sleep(30)  # in float64, or in a framework's C code
def main(interrupted):
    with worker.threads(2, []) as lent:
        lent.submit(held)
        lent.submit(held)
        begun.wait()
        print("in", flush=True)
        time.sleep(30)
import cnnlens.cli.main
cnnlens.cli.main.main = main
from cnnlens.__main__ import run
run()
"""


def test_ctrl_c_waits_for_no_thread(traces: Traces) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HELD],
        env=traces.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "cnnlens: interrupted\n")
    assert time.monotonic() - begin < 2
