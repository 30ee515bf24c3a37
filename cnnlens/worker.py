"""A backend in a process of its own: started clean, spoken to, timed, and cleared away however it ends.

Keras fixes its backend when it is first imported, frameworks crash, hang and print; none of that may reach the caller
or the other backends. Whatever happens to a worker comes out as one line about that backend (``WorkerError``), and its
processes and files are gone, also when this process is killed (``cnnlens.janitor``).
"""

from __future__ import annotations

import atexit
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
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cnnlens import backend as seam
from cnnlens import janitor
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.text import printable

__all__ = ["Chunk", "Loaded", "Report", "Worker", "WorkerError", "close_all", "parse_spec", "pool"]

_POLL = 0.25  # s between looks at whether the process still lives, in case something else holds its socket open
_GOODBYE = 5.0  # s that an idle worker gets to close its session before it is killed
_LOG_LIMIT = 64 << 20  # bytes; a framework that prints without end must not fill the disk
_LINE_LIMIT = 256 << 20


class WorkerError(CnnlensError):
    """A backend's process crashed, hung, or could not start; it is over. ``details`` holds its traceback, if it gave one."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Chunk:
    """A plain file of numbers in C order.

    Attributes:
        path: The file. An output is written beside it and takes its place when it is whole.
        shape: Of the whole file. There may be more rows than inputs: the rest are zeros. None for an output whose shape
            is not known before it is there.
        dtype: NumPy's name with byte order, such as ``<f4``; what the backend gives is converted to it. None for an
            output that keeps its own.
    """

    path: Path
    shape: tuple[int, ...] | None
    dtype: str | None = "<f4"


@dataclass(frozen=True)
class Loaded:
    """What a loaded network runs with: versions, the real device, the layout of its weights, seconds that it took."""

    versions: dict[str, str]
    device: str
    layout: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """What was written for a batch: CRC-32, shape and dtype of each whole output file by tensor name, and seconds of
    computing."""

    crc32: dict[str, int]
    seconds: float
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]


@dataclass(frozen=True)
class _Request:
    doing: str
    since: float


class Worker:
    """A live process with one backend. Use it from one thread at a time; leaving its ``with`` closes it, or hands it back.

    Attributes:
        spec: The backend as asked for: ``keras-jax`` or ``keras-jax@/path/to/python``.
        name: The backend's name.
        pid: The process.
        folder: Its private folder; gone when the worker is.
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
        self._pooled = False
        self._over: str | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Request] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._buffer = bytearray()
        self._greeting: dict[str, Any] = {}
        self._heard = time.monotonic()
        self.folder = Path(tempfile.mkdtemp(prefix="cnnlens-"))
        try:
            janitor.watch(self.folder)
            self._launch()
        except BaseException:
            janitor.remove(self.folder)
            janitor.forget(self.folder)
            raise
        with _workers_lock:
            _workers.add(self)
        self._greeting = self._ask(
            "hello", f"starting {printable(self._python, 200)}", backend=self._found.value, paths=self._paths()
        )

    @classmethod
    def start(cls, spec: str, device: str = "cpu", precision: str = "native", timeout: float = 600.0) -> Worker:
        """Start a backend's process. It imports no framework before it has to.

        Args:
            spec: ``keras-jax``, or ``keras-jax@/path/to/venv/bin/python`` to run it under another interpreter, which
                needs NumPy and the backend's framework and nothing of cnnlens.
            device: As the backend takes it: ``cpu``, ``gpu``, ``gpu:1``.
            precision: ``strict`` or ``native``.
            timeout: Seconds within which each answer must come.

        Raises:
            CnnlensError: no such backend, interpreter or precision.
            WorkerError: it does not start.
        """
        if os.name != "posix":
            raise CnnlensError("backends run in processes that need a POSIX system (Linux, macOS, WSL)")
        seam.check_precision(precision)
        return cls(spec, device, precision, timeout)

    # -- what a worker does ------------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """What it said when it started: ``python`` and ``numpy`` versions, ``backend``, ``heavy_imports``."""
        return dict(self._greeting)

    def devices(self) -> list[str]:
        """The devices that the backend has; imports its framework."""
        return list(self._ask("devices", "looking for devices")["devices"])

    def load(self, folder: Path, trust_code: bool = False) -> Loaded:
        """Load the network that ``cnnlens.handover.write`` wrote to ``folder``, instead of the one loaded before.

        Raises:
            CnnlensError: the backend refuses it (``UnsupportedLayerError`` where a layer is the reason).
            WorkerError: its framework is not installed, or it crashed or hung.
        """
        answer = self._ask(
            "load",
            "loading",
            folder=str(Path(folder).absolute()),
            device=self.device,
            precision=self.precision,
            trust_code=trust_code,
        )
        return Loaded(answer["versions"], answer["device"], answer["layout"], answer["seconds"])

    def submit(self, inputs: Sequence[Chunk], outputs: Mapping[str, Chunk], count: int, label: str = "a batch") -> int:
        """Ask for one batch and return at once; ``collect`` waits for it. Batches are computed in the order of asking.

        Args:
            inputs: One file for each of the network's inputs, in order; canonical axes.
            outputs: Where each wanted tensor goes, canonical axes.
            count: How many rows of the inputs are real.
            label: What an error calls it, such as ``batch 3``.
        """
        return self._send(
            "run",
            f"running {label}",
            inputs=[_plain(one) for one in inputs],
            outputs={name: _plain(one) for name, one in outputs.items()},
            count=count,
        )

    def collect(self, ticket: int) -> Report:
        """Wait until the files of a batch are in place.

        Raises:
            CnnlensError: the backend refuses the batch, or the disk does.
            WorkerError: it crashed or hung.
        """
        answer = self._receive(ticket)
        written = answer["outputs"]
        return Report(
            {name: one["crc32"] for name, one in written.items()},
            answer["seconds"],
            {name: tuple(one["shape"]) for name, one in written.items()},
            {name: one["dtype"] for name, one in written.items()},
        )

    def run(self, inputs: Sequence[Chunk], outputs: Mapping[str, Chunk], count: int, label: str = "a batch") -> Report:
        """``submit`` and ``collect``."""
        return self.collect(self.submit(inputs, outputs, count, label))

    def feature_maps(self, inputs: Sequence[NDArray[Any]], tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Canonical feature maps of canonical arrays ``(N, C, *spatial)``: for what fits in memory."""
        with self._input_files(inputs) as chunks:
            paths = {name: self.folder / f"out-{position}" for position, name in enumerate(tensors)}
            ticket = self._send(
                "run",
                "running a batch",
                inputs=chunks,
                outputs={name: {"path": str(path), "shape": None, "dtype": None} for name, path in paths.items()},
                count=len(inputs[0]),
            )
            try:
                written = self._receive(ticket)["outputs"]
                return {
                    name: np.fromfile(path, written[name]["dtype"]).reshape(written[name]["shape"])
                    for name, path in paths.items()
                }
            finally:
                for path in paths.values():
                    path.unlink(missing_ok=True)

    def weights(self) -> dict[str, dict[str, seam.Fingerprint]]:
        """The fingerprint of each array that the framework holds, by layer and weight name, in the backend's layout."""
        answer = self._ask("weights", "reading its weights back")["weights"]
        return {
            layer: {
                name: seam.Fingerprint(tuple(one["shape"]), one["dtype"], one["sha256"], one["finite"])
                for name, one in arrays.items()
            }
            for layer, arrays in answer.items()
        }

    def bench(self, inputs: Sequence[NDArray[Any]], tensors: Sequence[str], repeat: int) -> list[float]:
        """Seconds of each of ``repeat`` runs of one batch, inside the process; the first compiles."""
        with self._input_files(inputs) as chunks:
            return list(self._ask("bench", "measuring", inputs=chunks, tensors=list(tensors), repeat=repeat)["seconds"])

    @contextlib.contextmanager
    def _input_files(self, inputs: Sequence[NDArray[Any]]) -> Any:
        chunks: list[dict[str, Any]] = []
        try:
            for position, array in enumerate(inputs):
                path = self.folder / f"in-{position}"
                plain = np.ascontiguousarray(array)
                plain.tofile(path)
                chunks.append({"path": str(path), "shape": list(array.shape), "dtype": plain.dtype.str})
            yield chunks
        finally:
            for chunk in chunks:
                Path(chunk["path"]).unlink(missing_ok=True)

    # -- its life ----------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self._over is None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Hand a worker of the pool back, warm; close any other, and one that still owes an answer."""
        if self._pooled and self.alive and not self._waiting:
            with _workers_lock:
                _idle.setdefault((self.spec, self.device, self.precision), []).append(self)
        else:
            self.close()

    def close(self) -> None:
        """End the process, politely if it is idle, and remove its folder. Closing twice does nothing."""
        if self._over is None:
            self._ask_to_close()
            self._wait_for_end()
            self._end("it was closed")

    def _ask_to_close(self) -> None:
        if self._over is None and not self._waiting:
            with contextlib.suppress(OSError):
                self._write({"id": 0, "do": "close"})

    def _wait_for_end(self) -> None:
        if not self._waiting:
            end = time.monotonic() + _GOODBYE
            while self._over is None and not self._has_ended() and time.monotonic() < end:
                time.sleep(0.002)

    def _launch(self) -> None:
        self._python = self._interpreter or sys.executable
        if not self._python:
            raise CnnlensError(
                f"{self.spec}: this Python does not know its own path; name one: {self.name}@/path/python"
            )
        environment = self._environment()
        ours, theirs = socket.socketpair()
        empty = self.folder / "empty"
        empty.mkdir()
        self._log = self.folder / "log"
        command = [self._python, "-m", "cnnlens.worker_child", str(theirs.fileno()), str(self.folder)]
        if self._interpreter:
            command.insert(1, "-B")  # its bytecode of cnnlens must not litter our package
        try:
            with theirs, open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=empty,
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise CnnlensError(
                f"{self.spec}: {printable(self._python, 200)} cannot be started ({error.strerror}); "
                "give the path of a Python interpreter after '@'"
            ) from None
        self._socket = ours
        self.pid = self._process.pid
        janitor.watch(self.pid)

    def _environment(self) -> dict[str, str]:
        try:
            wanted = dict(self._backend.environment(self.device, self.precision))
        except CnnlensError as error:
            raise type(error)(f"{self.spec}: {error}") from None
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
        if self._over is not None:
            raise WorkerError(f"{self.spec}: its process is over: {self._over}")
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

    def _write(self, message: Mapping[str, Any]) -> None:
        self._socket.settimeout(self.timeout)
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self, number: int) -> dict[str, Any]:
        self._heard = time.monotonic()
        try:
            while number not in self._answers:
                if self._over is not None:
                    raise WorkerError(f"{self.spec}: its process is over: {self._over}")
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
        # Left unreaped, so that its number, which is its group's too, cannot be given to another process.
        if self._process.returncode is None and hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):  # somebody in this process reaps every child
                return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._process.poll() is not None

    def _fail_for_death(self) -> NoReturn:
        end = time.monotonic() + 1
        while not self._has_ended() and time.monotonic() < end:
            time.sleep(0.002)  # the socket ends a little before the process does
        doing, ended = self._doing(), self._has_ended()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
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

    def _fail(self, said: str, details: str = "") -> NoReturn:
        last = self._last_words()
        self._end(said)
        raise WorkerError(f"{self.spec}: {said}" + (f"; the last it printed: {last}" if last else ""), details)

    def _raise(self, error: Mapping[str, str], doing: str) -> NoReturn:
        message, kind = printable(error["message"], 600), error["kind"]
        if kind == "unsupported":
            raise UnsupportedLayerError(f"{self.spec}: {message}")
        if kind == "refused":
            raise CnnlensError(f"{self.spec}: {message}")
        shown = f"{printable(error['type'])}: {message}" if message else printable(error["type"])
        if kind == "missing":
            module = printable(error["module"] or "what it needs")
            said = f"cannot import {module} ({message}); install it with: {self.install_command()}"
        elif kind == "memory":
            said = f"ran out of memory while {doing} ({shown}); give a smaller batch"
        elif kind == "promise":
            said = f"broke the seam's promise: it {message}"
        else:
            said = f"failed while {doing} ({shown}; {printable(error['place'])})"
        details = error["traceback"]
        # Whatever it may still be able to do, after an unforeseen error nothing it says can be relied on.
        self._end(said)
        raise WorkerError(f"{self.spec}: {said}", details)

    def install_command(self) -> str:
        """The one command that installs what the backend needs, into the interpreter that runs it."""
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
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._socket.close()
        janitor.remove(self.folder)
        janitor.forget(self.pid)
        janitor.forget(self.folder)
        with _workers_lock:
            _workers.discard(self)
        self._waiting.clear()

    def _abandon(self) -> None:
        """In a forked child: the process and the folder are the parent's."""
        self._over = "it belongs to another process"
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


# Python's own switches that are meant for this process, and would change or stop the other.
_UNWANTED = frozenset(
    "PYTHONPATH PYTHONWARNINGS PYTHONINSPECT PYTHONSTARTUP PYTHONVERBOSE PYTHONPROFILEIMPORTTIME PYTHONDEVMODE".split()
)

_workers: set[Worker] = set()
_idle: dict[tuple[str, str, str], list[Worker]] = {}
_workers_lock = threading.Lock()


def pool(spec: str, device: str = "cpu", precision: str = "native", timeout: float = 600.0) -> Worker:
    """A worker that was used before and is idle, else a fresh one; nobody else gets it until its ``with`` is left.

    A framework is imported once in a Python session for each backend, device and precision, however many models it runs.

    Raises:
        CnnlensError: see ``Worker.start``.
    """
    while True:
        with _workers_lock:
            idle = _idle.get((spec, device, precision))
            worker = idle.pop() if idle else None
        if worker is None:
            worker = Worker.start(spec, device, precision, timeout)
            worker._pooled = True  # pyright: ignore[reportPrivateUsage]
            return worker
        if worker.alive and not worker._has_ended():  # pyright: ignore[reportPrivateUsage]
            worker.timeout = timeout
            return worker
        worker.close()


def close_all() -> None:
    """End every worker of this process; done at exit."""
    with _workers_lock:
        workers = list(_workers)
        _idle.clear()
    for worker in workers:
        worker._ask_to_close()  # pyright: ignore[reportPrivateUsage] - all at once, then each
    for worker in workers:
        worker.close()


def _forget_all() -> None:
    global _workers_lock
    _workers_lock = threading.Lock()
    for worker in _workers:
        worker._abandon()  # pyright: ignore[reportPrivateUsage]
    _workers.clear()
    _idle.clear()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def parse_spec(spec: str) -> tuple[str, str | None]:
    """``"keras-jax@/venv/bin/python"`` as name and interpreter; None for this one.

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


def _plain(chunk: Chunk) -> dict[str, Any]:
    shape = None if chunk.shape is None else list(chunk.shape)
    return {"path": str(Path(chunk.path).absolute()), "shape": shape, "dtype": chunk.dtype}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
