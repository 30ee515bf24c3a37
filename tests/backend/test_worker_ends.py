"""However this process ends, its workers end with it; and a worker may be another interpreter's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest

from cnnlens import CnnlensError
from cnnlens.backend import worker
from cnnlens.backend.worker import Worker, WorkerError
from cnnlens.janitor import temporary_folder
from cnnlens.network.network import Network
from tests.support.plugins import Traces
from tests.support.workers import agree, use

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="workers need POSIX"), pytest.mark.usefixtures("traces")]
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


# -- the end of this process -----------------------------------------------------------------------------------------

_SCRIPT = """
import sys, time
from pathlib import Path
from cnnlens.testing import inputs_for, network
from cnnlens.backend.worker import Worker
try:
    process = Worker.start("faulty")
    process.load(Path(sys.argv[1]))
    print("running", flush=True)
    process.feature_maps(inputs_for(network("chain"), 5), ["head"])
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@linux
@pytest.mark.parametrize(
    ("number", "what"),
    [
        (signal.SIGINT, "run:hang"),
        (signal.SIGINT, "run:hang_in_c"),
        (signal.SIGTERM, "run:hang_in_c"),
        (signal.SIGHUP, "run:hang"),
        (signal.SIGKILL, "run:hang"),
        (signal.SIGKILL, "run:hang_in_c"),
    ],
)
def test_nothing_is_left_however_this_process_ends(
    plugin_folder: Path, handed: Path, traces: Traces, number: signal.Signals, what: str
) -> None:
    environment = {**traces.environment, "CNNLENS_FAULT": what, "PYTHONPATH": str(plugin_folder)}
    parent = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(handed)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "running\n"
    time.sleep(0.3)  # until it hangs
    assert len(traces.processes()) == 3  # the parent, its worker, its janitor
    os.killpg(parent.pid, number)  # as a terminal does
    out, err = parent.communicate(timeout=10)
    if number == signal.SIGINT:
        assert (out, err, parent.returncode) == ("interrupted\n", "", 130)
    else:
        assert (out, err, parent.returncode) == ("", "", -number)
    traces.assert_none()


def test_a_fork_of_this_process_ends_no_worker_of_it(handed: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from cnnlens.backend.worker import pool
with pool("reference") as process:
    process.load(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    try:
        process.devices()
    except Exception as error:
        print(error, flush=True)
    sys.exit(0)  # runs what is registered for the end
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
with pool("reference") as again:
    print(again.pid == process.pid, again.devices(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script, str(handed)], capture_output=True, text=True, check=True)
    assert done.stdout == "reference: its process is over: it belongs to another process\nTrue ['cpu']\n"
    assert done.stderr == ""


@linux
def test_a_temporary_folder_goes_with_its_process(traces: Traces) -> None:
    script = """
import os
from cnnlens.janitor import temporary_folder
with temporary_folder() as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=traces.environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith(str(traces.folder))
    traces.assert_none()
    with temporary_folder() as folder:
        assert traces.files() == [folder.name]
    assert traces.files() == []


@linux
def test_a_janitor_that_was_killed_is_replaced(handed: Path, traces: Traces) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from cnnlens import janitor
from cnnlens.backend.worker import Worker
process = Worker.start("reference")
os.kill(janitor._janitor._process.pid, signal.SIGKILL)
janitor._janitor._process.wait()
with janitor.temporary_folder():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], env=traces.environment, capture_output=True, check=False)
    traces.assert_none()


# -- other interpreters ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has NumPy and nothing else: neither cnnlens nor what it depends on."""
    folder = tmp_path_factory.mktemp("other") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in ("numpy", "numpy.libs"):
        installed = Path(np.__file__).parent.with_name(name)
        if installed.exists():
            (packages / name).symlink_to(installed)
    return folder / "bin" / "python"


def test_another_interpreter_needs_numpy_alone(other_python: Path, handed: Path, chain: Network) -> None:
    check = "import numpy, importlib.util as u; print([n for n in ('cnnlens', 'pyfive', 'PIL') if u.find_spec(n)])"
    alone = subprocess.run([other_python, "-c", check], capture_output=True, text=True, check=True, cwd="/")
    assert alone.stdout == "[]\n"
    before = set((Path(worker.__file__).parent / "__pycache__").iterdir())
    with Worker.start(f"reference@{other_python}") as process:
        if sys.platform == "linux":
            assert str(other_python) in Path(f"/proc/{process.pid}/cmdline").read_text()
        agree(use(process, handed, chain), chain)
        links = sorted(path.name for path in (process.folder / "packages").iterdir())
        assert links == ["cnnlens", "cnnlens_backends"]
    assert set((Path(worker.__file__).parent / "__pycache__").iterdir()) == before


def test_a_plugin_that_another_interpreter_lacks_is_named(other_python: Path, plugins: Path) -> None:
    with pytest.raises(WorkerError) as caught:
        Worker.start(f"plain@{other_python}")
    assert str(caught.value) == (
        f"plain@{other_python}: cannot import cnnlens_plain (No module named 'cnnlens_plain'); "
        f"install it with: {other_python} -m pip install numpy cnnlens-plain"
    )


def test_an_interpreter_without_numpy_is_told_to_get_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    with pytest.raises(WorkerError, match=r"cannot import numpy .*install it with: .*python -m pip install numpy$"):
        Worker.start(f"reference@{python}")


@pytest.mark.parametrize(
    ("interpreter", "said"),
    [
        ("/no/such/python", "'/no/such/python' is no Python interpreter that can be run"),
        (shutil.which("true"), "ended with exit code 0 while starting .*; is it a Python"),
        (shutil.which("false"), "ended with exit code 1 while starting .*; is it a Python"),
        ("", "'' is no Python interpreter"),
    ],
)
def test_what_is_no_interpreter_is_one_line(interpreter: str, said: str) -> None:
    with pytest.raises(CnnlensError, match=said) as caught:
        Worker.start(f"reference@{interpreter}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_program_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_bytes(b"\0\1not a program")
    path.chmod(0o755)
    with pytest.raises(CnnlensError, match=r"cannot be started \(Exec format error\); give the path of a Python"):
        Worker.start(f"reference@{path}")


@pytest.mark.parametrize(
    ("spec", "device", "precision", "said"),
    [
        ("refrence", "cpu", "native", "no backend is named 'refrence'; did you mean 'reference'?"),
        ("reference", "cpu", "exact", "precision 'exact': strict, native, tf32, bfloat16 or float16 was expected"),
    ],
)
def test_what_cannot_be_started_is_one_line(spec: str, device: str, precision: str, said: str) -> None:
    with pytest.raises(CnnlensError) as caught:
        Worker.start(spec, device, precision)
    assert str(caught.value) == said
