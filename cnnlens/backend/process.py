"""A backend's process: started clean, spoken to in JSON lines over a socket of its own, and cleared away.

Standard input, output and error are never the protocol, for frameworks write to them whatever they are told: they go to
a log, whose last sensible line is quoted when the process dies. Every end that a process can come to is told from every
other here, and each leaves neither process nor file.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from cnnlens import janitor
from cnnlens.backend import seam as seam
from cnnlens.errors import CnnlensError, UnsupportedLayerError, refuse_without_posix
from cnnlens.text import printable

__all__ = ["Process", "WorkerError", "parse_spec", "refuse_unknown"]

_POLL = 0.25  # s between looks at whether the process still lives, in case something else holds its socket open
_LOG_LIMIT = 64 << 20  # bytes; a framework that prints without end must not fill the disk
_LINE_LIMIT = 256 << 20

# Python's own switches that are meant for this process, and would change or stop the other.
_UNWANTED = frozenset(
    "PYTHONPATH PYTHONWARNINGS PYTHONINSPECT PYTHONSTARTUP PYTHONVERBOSE PYTHONPROFILEIMPORTTIME PYTHONDEVMODE".split()
)


# Where glibc gives memory back, a worker asks for two batches' worth of it again with each batch, page by page: a tenth
# of all that it computes. Set here, one batch's maps lie where those of the one before the last did.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}  # fmt: skip


class WorkerError(CnnlensError):
    """Is raised where a backend's process crashed, hung, or could not start; it is over then.

    ``details`` holds its traceback, if it gave one.
    """

    def __init__(self, message: str, backend: str, details: str = "") -> None:
        super().__init__(message, backend)
        self.details = details


@dataclass(frozen=True)
class _Request:
    doing: str
    since: float


class Process:
    """Runs one backend in a process, and knows what it still owes an answer to. Used from one thread at a time.

    Attributes:
        spec: The backend as asked for: ``keras-jax`` or ``keras-jax@/path/to/python``.
        name: The backend's name.
        pid: The process, which leads a group of its own.
        folder: Its private folder; gone when the process is.
    """

    def __init__(self, spec: str, device: str, precision: str, timeout: float) -> None:
        self.spec = spec
        self.device = device
        self.precision = precision
        self.timeout = timeout
        name, self._interpreter = parse_spec(spec)
        self._found = seam.find(name)
        self._backend = self._found.backend
        self.name = name
        self._python = self._interpreter or sys.executable
        if not self._python:
            raise CnnlensError(f"this Python does not know its own path; name one: {name}@/path/to/python", spec)
        self._over: str | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Request] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._buffer = bytearray()
        self._greeting: dict[str, Any] = {}
        self._heard = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket, theirs = socket.socketpair()
        self.folder = Path(tempfile.mkdtemp(prefix="cnnlens-"))
        self._log = self.folder / "log"
        try:
            janitor.watch(self.folder)
            with theirs:
                self._launch(theirs)
            self._started()
            self._greeting = self._ask(
                "hello", f"starting {printable(self._python, 200)}", backend=self._found.value, paths=self._paths()
            )
        except BaseException:
            self._end("it did not start")
            raise

    def _started(self) -> None:
        """Let it be known that there is a process, before it has said anything."""

    @property
    def alive(self) -> bool:
        """Tell whether it can still be asked something, as far as is known."""
        return self._over is None

    # -- start -------------------------------------------------------------------------------------------------------

    def _launch(self, theirs: socket.socket) -> None:
        environment = self._environment()
        empty = self.folder / "empty"
        empty.mkdir()
        command = [self._python, "-m", "cnnlens.backend.child", str(theirs.fileno()), str(self.folder)]
        if self._interpreter:
            command.insert(1, "-B")  # its bytecode of cnnlens must not litter our package
        try:
            with open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=empty,  # private and empty: whatever a library looks for in a relative place is not there
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C at the terminal is for this process alone, which ends the other
                )
        except OSError as error:
            raise CnnlensError(
                f"{printable(self._python, 200)} cannot be started ({error.strerror}); "
                "give the path of a Python interpreter after '@'",
                self.spec,
            ) from None
        self.pid = self._process.pid
        janitor.watch(self.pid)

    def _environment(self) -> dict[str, str]:
        try:
            wanted = dict(self._backend.environment(self.device, self.precision))
        except CnnlensError as error:
            raise type(error)(str(error), backend=self.spec) from None
        packages = self.folder / "packages"
        packages.mkdir()
        # Links to our packages and to nothing else of what is installed beside them.
        for package in ("cnnlens", "cnnlens_backends"):
            spec = find_spec(package)
            if spec is not None and spec.submodule_search_locations:
                (packages / package).symlink_to(Path(next(iter(spec.submodule_search_locations))).absolute())
        environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        path = [str(packages)]
        if self._interpreter:
            environment.pop("PYTHONHOME", None)
        else:
            path += [
                str(Path(part or ".").absolute()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part
            ]
        return {
            **_MALLOC,
            **environment,
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONSAFEPATH": "1",  # the working directory is no place to import from
            "PYTHONUNBUFFERED": "1",  # what it said last must be in the log when it dies
            "PYTHONHASHSEED": "0",
            "PYTHONUTF8": "1",
            "TMPDIR": str(self.folder),
            **wanted,
        }

    def _paths(self) -> list[str]:
        """Where the child looks after its own places: what this process sees, or, in another interpreter, little."""
        if not self._interpreter:
            return [str(Path(part or ".").absolute()) for part in sys.path]
        # threadpoolctl is one file of pure Python, which the reference uses.
        spare = self.folder / "spare"
        spare.mkdir()
        found = find_spec("threadpoolctl")
        if found is not None and found.origin:
            (spare / "threadpoolctl.py").symlink_to(Path(found.origin).absolute())
        return [str(spare)]

    # -- the protocol ------------------------------------------------------------------------------------------------

    def _ask(self, command: str, doing: str, **fields: Any) -> dict[str, Any]:
        return self._receive(self._send(command, doing, **fields))

    def _send(self, command: str, doing: str, **fields: Any) -> int:
        self._check_alive()
        number = next(self._numbers)
        self._waiting[number] = _Request(doing, time.monotonic())
        try:
            self._write({"id": number, "do": command, **fields})
        except TimeoutError:
            self._fail(f"took no request for {self.timeout:g} s while {self._doing()}; it was ended")
        except OSError:
            self._fail_for_death()
        except BaseException:
            self._end("it was interrupted")
            raise
        return number

    def _check_alive(self) -> None:
        if self._over is not None:
            raise WorkerError(f"its process is over: {self._over}", self.spec)

    def _write(self, message: Mapping[str, Any]) -> None:
        self._socket.settimeout(self.timeout)
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self, number: int) -> dict[str, Any]:
        self._heard = time.monotonic()
        try:
            while number not in self._answers:
                self._check_alive()
                self._read()
        except CnnlensError:
            raise
        except BaseException:  # Ctrl-C while waiting: what it would answer belongs to nobody
            self._end("it was interrupted")
            raise
        doing = self._waiting.pop(number).doing
        answer = self._answers.pop(number)
        if "error" in answer:
            self._raise(answer["error"], doing)
        return answer

    def _read(self) -> None:
        """Take in what has come, or find out why nothing does."""
        self._socket.settimeout(_POLL)
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError:
            if self._has_ended():
                self._fail_for_death()
            if time.monotonic() - self._heard > self.timeout:
                self._fail(f"gave no answer for {self.timeout:g} s while {self._doing()}; it was ended")
            self._keep_log_small()
            return
        except OSError:
            data = b""
        if not data:
            self._fail_for_death()
        self._heard = time.monotonic()
        self._buffer += data
        while (position := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:position])
            del self._buffer[: position + 1]
            try:
                answer = json.loads(line)
                self._answers[int(answer["id"])] = answer
            except (ValueError, LookupError, TypeError):
                self._fail(
                    f"wrote into cnnlens' own socket while {self._doing()}: {printable(line.decode(errors='replace'))}"
                )
        if len(self._buffer) > _LINE_LIMIT:
            self._fail(f"answers without end while {self._doing()}")

    def _doing(self) -> str:
        """What it was at: the oldest thing asked for."""
        return self._waiting[min(self._waiting)].doing if self._waiting else "idle"

    # -- ends --------------------------------------------------------------------------------------------------------

    def _has_ended(self) -> bool:
        assert self._process is not None
        # Left unreaped, so that its number, which is its group's too, cannot be given to another process.
        if self._process.returncode is None and hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):  # somebody in this process reaps every child
                return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._process.poll() is not None

    def _fail_for_death(self) -> NoReturn:
        self._check_alive()  # another thread closed it
        end = time.monotonic() + 1
        while not self._has_ended() and time.monotonic() < end:
            time.sleep(0.002)  # the socket ends a little before the process does
        doing, ended = self._doing(), self._has_ended()
        code = self._kill()
        if not ended:
            said = f"closed its socket while {doing}"
        elif code < 0:
            said = f"killed by {_signal_name(-code)} while {doing}"
            if -code == signal.SIGKILL:
                said += " (the system may have run out of memory)"
        else:
            said = f"ended with exit code {code} while {doing}"
            if not self._greeting:
                said += "; is it a Python with what the backend needs?"
        self._fail(said)

    def _fail(self, said: str) -> NoReturn:
        last = self._last_words()
        self._end(said)
        raise WorkerError(said + (f"; the last it printed: {last}" if last else ""), self.spec)

    def _raise(self, error: Mapping[str, str], doing: str) -> NoReturn:
        message, kind = printable(error["message"], 600), error["kind"]
        if kind == "unsupported":
            raise UnsupportedLayerError(message, backend=self.spec)
        if kind == "refused":
            raise CnnlensError(message, self.spec)
        shown = f"{printable(error['type'])}: {message}" if message else printable(error["type"])
        if kind == "missing":
            module = printable(error["module"] or "what it needs")
            said = f"cannot import {module} ({message}); install it with: {self.install_command()}"
        elif kind == "memory":
            said = f"ran out of memory while {doing} ({shown}); give a smaller batch"
        elif kind == "promise":
            said = message  # what it gave, and what was expected
        else:
            said = f"failed while {doing} ({shown}; {printable(error['place'])})"
        details = error["traceback"]
        # Whatever it may still be able to do, after an unforeseen error nothing it says can be relied on.
        self._end(said)
        raise WorkerError(said, self.spec, details)

    def install_command(self) -> str:
        """Name the one command that installs what the backend needs, into the interpreter that runs it."""
        if not self._interpreter:
            return self._backend.install
        needed = [one.split("|")[0] for one in ("numpy", *self._backend.requires)]
        if not self._found.built_in:
            needed.append(self._found.distribution)
        return shlex.join([self._python, "-m", "pip", "install", *dict.fromkeys(needed)])

    def _end(self, why: str) -> None:
        """Kill the group, reap, remove the folder; whatever state things are in."""
        if self._over is not None:
            return
        self._over = why
        if self._process is not None:
            self._kill()
            janitor.forget(self.pid)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer
        self._socket.close()
        janitor.remove(self.folder)
        janitor.forget(self.folder)
        self._waiting.clear()

    def _kill(self) -> int:
        """The end of the whole group; how its leader ended."""
        assert self._process is not None
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()

    def _abandon(self) -> None:
        """In a forked child: the process and the folder are the parent's."""
        self._over = "it belongs to another process"
        if self._process is not None:
            self._process.returncode = 0
        self._socket.close()

    def _keep_log_small(self) -> None:
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > _LOG_LIMIT:
                os.truncate(self._log, 0)

    def _last_words(self) -> str:
        """The last line of its output that says something."""
        try:
            with open(self._log, "rb") as stream:
                stream.seek(max(0, self._log.stat().st_size - 65536))
                lines = stream.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        sensible = (line.strip() for line in reversed(lines) if any(char.isalpha() for char in line))
        return printable(next(sensible, ""), 200)


def parse_spec(spec: str) -> tuple[str, str | None]:
    """Split ``"keras-jax@/venv/bin/python"`` into name and interpreter; None for this one.

    Raises:
        CnnlensError: the interpreter is not a file that can be run.
    """
    name, at, interpreter = spec.partition("@")
    if not at:
        return name, None
    found = shutil.which(os.path.expanduser(interpreter))
    if found is None:
        raise CnnlensError(
            f"{printable(name)}: '{printable(interpreter, 200)}' is no Python interpreter that can be run; "
            "give the path of one after '@', such as /venv/bin/python"
        )
    return name, os.path.abspath(found)


def refuse_unknown(specs: Iterable[str]) -> None:
    """Refuse names that no backend has before the first of them starts.

    Raises:
        CnnlensError: one is unknown (names the nearest), its interpreter is not there, or this system has no processes
            for it.
    """
    for spec in specs:
        seam.find(parse_spec(spec)[0])
        refuse_without_posix(f"the backend '{printable(spec, 200)}'")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
