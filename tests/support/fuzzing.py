"""Opens damaged files, many in one process, and tells those that cnnlens neither opens nor refuses in one line.

A mutant is a :class:`Seed` again: the format and the number that it was made with make it once more. Each is opened,
summarised and verified under limits: 2 s of the processor and 10 times the reading, 256 MiB (a picture 1.5 GiB) and 4
times its bytes of address space, no file but its own, nothing written, nothing executed, imported, started or connected
to (an audit hook tells). A worker goes on with the next one; a new one is started only where one died or stands still.

Run as a program, it is that worker: ``python -m tests.support.fuzzing FOLDER``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import mmap
import os
import pickle
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support import ROOT
from tests.support.honest_files import Seed
from tests.support.mutants import mutated

SECONDS = 2.0
MEGABYTES = 256
PICTURE_MEGABYTES = 1536
"""For inputs, which may decode to 128 MiB (``cnnlens/inputs/pixel_files.py``): float32 takes four times that, twice
while it is coloured and resized, beside what NumPy needs on the way."""
_STANDSTILL = 60.0  # seconds without a next mutant, by the clock
_INPUTS = ("npy", "npz", "idx", "pictures")


@dataclass(frozen=True)
class Failure:
    """One mutant that was neither opened nor refused as it should be."""

    format: str
    number: int
    why: str

    @property
    def kind(self) -> str:
        """What is one fault, however many mutants show it."""
        return re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "#", self.why)


@dataclass
class Score:
    """How the mutants of one format ended, and the dearest of them."""

    opened: int = 0
    refused: int = 0
    seconds: float = 0
    megabytes: float = 0
    failures: list[Failure] = field(default_factory=list[Failure])


# -- mutants ---------------------------------------------------------------------------------------------------------


def mutant(seeds: Sequence[Seed], name: str, number: int, seed: int) -> Seed:
    """Make a mutant: one file of one honest seed, changed in a few places; of ``=NAME`` each seed as it is, twice."""
    if name.startswith("="):
        return seeds[number // 2]
    chance = random.Random(f"{seed} {name} {number}")
    honest = chance.choice(seeds)
    file = chance.choice(sorted(honest.files))
    data = honest.files[file]
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        data = mutated(data, chance)
    return Seed({**honest.files, file: data}, honest.target)


def smaller(case: Seed, fails: Callable[[Seed], bool], tries: int = 300) -> Seed:
    """Take out of a failing case what can be spared: halves, quarters … of its files, while it fails as it did."""
    for name in sorted(case.files, key=lambda one: -len(case.files[one])):
        size = len(case.files[name]) // 2
        while size >= 1 and tries > 0:
            at = 0
            while at < len(case.files[name]) and tries > 0:
                data = case.files[name]
                other = Seed({**case.files, name: data[:at] + data[at + size :]}, case.target)
                tries -= 1
                if other.files[name] and fails(other):
                    case = other
                else:
                    at += size
            size //= 2
    return case


# -- what was ever found ---------------------------------------------------------------------------------------------

CORPUS = Path(__file__).parents[1] / "files" / "corpus"


def corpus() -> dict[str, list[Seed]]:
    """Every case that once failed, by ``=FORMAT``."""
    found: dict[str, list[Seed]] = {}
    for told in sorted(CORPUS.glob("*/case.json")):
        case = json.loads(told.read_text())
        files = {str(one.relative_to(told.parent / "files")): one.read_bytes() for one in _files(told.parent / "files")}
        found.setdefault(f"={case['format']}", []).append(Seed(files, case["target"]))
    return found


def keep(case: Seed, failure: Failure) -> Path:
    """Put a case that fails into the corpus."""
    digest = hashlib.sha256(repr(sorted(case.files.items())).encode()).hexdigest()[:8]
    folder = CORPUS / f"{failure.format}-{digest}"
    _write(case, folder / "files")
    told = {"format": failure.format, "target": case.target, "failed": failure.why}
    (folder / "case.json").write_text(json.dumps(told, indent=2) + "\n")
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file())


# -- the worker ------------------------------------------------------------------------------------------------------

_ACTS = ("os.", "shutil.", "subprocess.", "socket.", "ctypes.", "pickle.", "marshal.loads", "exec", "compile", "open",
         "import", "code.__new__", "function.__new__", "webbrowser.", "urllib.", "ftplib.",
         "glob.", "sqlite3.", "tempfile.")  # fmt: skip
_UNIX = getattr(socket, "AF_UNIX", None)
_QUIET = frozenset(("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.putenv", "glob.glob", "os.getxattr"))
_PACKAGE = str(ROOT / "cnnlens")
_LIBRARIES = tuple({sys.prefix, sys.base_prefix, _PACKAGE, "/proc/", "/sys/", "/dev/null"})


class _Watch:
    """Tells what is done besides computing, by Python's audit events, between ``start`` and ``stop``."""

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[str] = []
        sys.addaudithook(self._event)

    def start(self, folder: Path) -> None:
        self.seen, self.folder = [], str(folder)

    def stop(self) -> list[str]:
        self.folder = ""
        return self.seen

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or not event.startswith(_ACTS) or event in _QUIET:
            return
        if event == "open":
            path, mode, flags = arguments[0], str(arguments[1] or "r"), arguments[2] or 0
            if isinstance(path, int):
                return
            path = os.path.abspath(os.fsdecode(path))
            if os.path.isdir(path):
                return  # a file without a name, for what is unpacked
            writes = set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes and path.startswith((self.folder, *_LIBRARIES)):
                return
        elif event == "import":
            if str(arguments[0]).partition(".")[0] in _OWN:
                return
        elif event == "socket.__new__" and arguments[1] == _UNIX:
            return  # of an event loop, to itself: who reads a recording of another program's takes zarr
        elif event == "exec":
            # A module of ours or of Python's that is imported late; what a file holds has no such name.
            if str(getattr(arguments[0], "co_filename", "")).startswith(("<frozen", *_LIBRARIES)):
                return
        elif event in ("compile", "marshal.loads"):
            by = sys._getframe(1).f_code.co_filename
            if by.startswith(("<frozen", *_LIBRARIES)) and not by.startswith(_PACKAGE):
                return  # an import, or the parser behind ast.literal_eval
        self.seen.append(f"{event} {arguments!r}"[:200])


_OWN = {*sys.stdlib_module_names, "cnnlens", "numpy", "pyfive", "PIL", "safetensors"}


class _Late(BaseException):
    """No error: it is not to be caught on its way."""


def _late(*_: object) -> None:
    raise _Late


class Worker:
    """Looks at files under the limits; made once a process, for the limits are the process's."""

    def __init__(self, largest: int) -> None:
        import resource

        from cnnlens.cli import show, verify
        from cnnlens.cli.main import main
        from cnnlens.sample import MODEL

        del show, verify
        self._main = main
        for warm in ("summary", "verify"):
            self._command(warm, str(MODEL))
        _import_all()
        self._watch = _Watch()
        signal.signal(signal.SIGPROF, _late)
        self._held = int(_memory("VmSize") * 2**20) + 4 * largest
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        self._limit: Callable[[int], None] = lambda most: resource.setrlimit(resource.RLIMIT_AS, (most, hard))

    def look(self, name: str, case: Seed, folder: Path, odd: bool = False) -> tuple[str, bool, float]:
        """Why it failed, empty where it did not; whether it opened; the seconds of the processor that it took."""
        for left in _files(folder):
            if str(left.relative_to(folder)) not in case.files:
                left.unlink()  # of another case: it would be another model
        written = _write(case, folder)
        target = folder / case.target
        self._limit(self._held + ((PICTURE_MEGABYTES if name in _INPUTS else MEGABYTES) << 20))
        why, escaped = "", None
        self._watch.start(folder)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS + 10 * written / 1e9)
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                why, opened = self._looked(name, target, odd)
            if not why and warned:
                why = f"a warning: {warned[0].category.__name__}: {warned[0].message} {warned[0].filename}"[-300:]
        except BaseException as error:
            escaped, opened = error, False
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        took = time.process_time() - began
        did = self._watch.stop()
        if escaped is not None:
            word = "takes more seconds than it may" if isinstance(escaped, _Late) else f"{type(escaped).__name__}"
            why = f"{word}: {str(escaped)[:150]}: {_place(escaped)}"
        return (f"does {did[0]}" if did else why), opened, took

    def _looked(self, name: str, target: Path, odd: bool) -> tuple[str, bool]:
        import cnnlens

        if name in _INPUTS:
            said = _refusal(lambda: cnnlens.images.load(target, shape=None if odd else (1, 28, 28)))
            return _wrong_line(said) if said else "", not said
        if name == "recording":
            said = _refusal(lambda: [each[:] for each in cnnlens.Recording.open(target).values()])
            if said and (why := _wrong_line(said)):
                return why, False
        elif odd:
            said = _refusal(lambda: _everything(target))
            if said and (why := _wrong_line(said)):
                return why, False
        commands = ("verify",) if name == "recording" else ("verify", "summary")
        opened = False
        for command in commands:
            code, out, told = self._command(command, str(target))
            opened = code in (0, 1)
            if why := _wrong_end(code, out, told, command):
                return f"{command}: {why}", opened
        return "", opened

    def _command(self, *arguments: str) -> tuple[int, str, str]:
        out, told = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            code = self._main(list(arguments))
        return code, out.getvalue(), told.getvalue()


def _import_all() -> None:
    """Load what may be imported on the way, so that what the hook sees is a file's doing."""
    import importlib
    import pkgutil

    for room in ("files", "opening", "network", "kinds", "layout", "reference", "recording", "inputs"):
        package = importlib.import_module(f"cnnlens.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"cnnlens.{room}."):
            importlib.import_module(module.name)
    for name in ("difflib", "PIL.Image", "traceback", "zarr"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("PIL.Image").init()
    tempfile.gettempdir()


def _everything(target: Path) -> None:
    """What Python's callers ask a network for."""
    import cnnlens
    from cnnlens.network import summary

    network = cnnlens.open(target)
    repr(network)
    json.dumps(summary.as_json(network), allow_nan=False)
    for layer in network.layers:
        if said := _refusal(lambda layer=layer: layer.operation):
            assert not _wrong_line(said), said
        for weight in layer.stored.values():
            array = weight.read()
            assert (array.shape, array.dtype) == (weight.stored.shape, weight.stored.dtype)


def _refusal(ask: Callable[[], object]) -> str:
    """What our own error says, empty where there is none; any other error comes through."""
    from cnnlens.errors import CnnlensError

    try:
        ask()
    except CnnlensError as error:
        return str(error) or "an error without a word"
    return ""


_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _wrong_line(said: str) -> str:
    """Why a refusal is not the one line that it should be; empty where it is."""
    if "memory ran out" in said:
        return f"takes more memory than it may: {said}"
    unsafe = {char for char in said if unicodedata.category(char) in _UNSAFE}
    return f"refused with {sorted(map(ascii, unsafe))}" if unsafe else "" if len(said) < 2000 else "a line too long"


def _wrong_end(code: int, out: str, told: str, command: str) -> str:
    """Why a command did not end as it should; empty where it did."""
    if "memory ran out" in told:
        return _wrong_line(told)
    if code not in (0, 1, 2) or (code == 1 and command == "summary"):
        return f"ends with the exit code {code}: {told[-200:]}"
    if command == "summary" and code == 2:
        return "a refusal with output" if out else "no single line" if told.count("\n") != 1 else _wrong_line(told[:-1])
    if told:
        return f"says {told[-200:]}"
    return next((why for line in out.splitlines() if (why := _wrong_line(line))), "")


def _place(error: BaseException | None) -> str:
    """Where in cnnlens an error came up."""
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    ours = [one for one in frames if "/cnnlens/" in one.filename]
    one = ours[-1] if ours else frames[-1]
    return f"{one.filename.rpartition('/cnnlens/')[2]}:{one.lineno} {one.name}"


def _write(case: Seed, folder: Path) -> int:
    for name, data in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return sum(map(len, case.files.values()))


def _memory(of: str) -> float:
    """This process's MiB: ``VmSize``, ``VmRSS``, or ``VmHWM``, the most that it ever held."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(of)) / 1024


def _memory_from_here() -> float:
    """Forget the most that was ever held, and give what is held now."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    return _memory("VmRSS")


def work(folder: Path) -> None:
    """Do what ``task.json`` in ``folder`` says; a line of JSON for each failure, one for each format that is done."""
    task = json.loads((folder / "task.json").read_text())
    given: Mapping[str, list[Seed]] = pickle.loads((folder / "seeds").read_bytes())
    largest = max(sum(map(len, seed.files.values())) for each in given.values() for seed in each)
    worker = Worker(largest)
    if "smaller" in task:
        (folder / "small").write_bytes(
            pickle.dumps(_smaller(worker, given, Failure(*task["smaller"]), task["seed"], folder))
        )
        return
    with open(folder / "at", "r+b") as file:
        at = mmap.mmap(file.fileno(), 16)
    for place, (name, start, stop) in enumerate(task["parts"]):
        score, before = Score(), _memory_from_here()
        with tempfile.TemporaryDirectory(prefix="cnnlens-fuzz-", dir=folder) as here:
            for number in range(start, stop):
                at[:16] = struct.pack("<QQ", place, number)
                case = mutant(given[name], name, number, task["seed"])
                below = Path(here) / str(number % 2)
                why, opened, took = worker.look(name.lstrip("="), case, below, bool(number % 2))
                score.seconds = max(score.seconds, took)
                score.opened, score.refused = score.opened + opened, score.refused + (not opened and not why)
                if why:
                    print(json.dumps({"failure": [name, number, why]}), flush=True)
        score.megabytes = _memory("VmHWM") - before
        print(json.dumps({"done": name, **asdict(score)}), flush=True)


def _smaller(worker: Worker, given: Mapping[str, list[Seed]], failure: Failure, seed: int, folder: Path) -> Seed:
    """The mutant without what can be spared, so that it fails in the same way."""
    name, number = failure.format, failure.number

    def fails(case: Seed) -> bool:
        found, _, _ = worker.look(name, case, folder / "smaller", bool(number % 2))
        return Failure(name, number, found).kind == failure.kind

    case = mutant(given[name], name, number, seed)
    return smaller(case, fails) if fails(case) else case


# -- many of them ----------------------------------------------------------------------------------------------------


def fuzz(seeds: Mapping[str, list[Seed]], count: int, seed: int) -> dict[str, Score]:
    """Look at ``count`` mutants of each format in processes that die in the place of this one.

    Args:
        seeds: Honest files of each format; under ``=NAME`` cases of the format NAME that are looked at as they are.
        count: How many mutants of each.
        seed: What they are drawn with.
    """
    scores = {name: Score() for name in seeds}
    parts = [(name, 0, 2 * len(each) if name.startswith("=") else count) for name, each in seeds.items()]
    shared = Path("/dev/shm")
    where = shared if shared.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="cnnlens-fuzz-", dir=where) as place, tempfile.TemporaryFile() as log:
        folder = Path(place)
        (folder / "seeds").write_bytes(pickle.dumps(dict(seeds)))
        while parts:
            (folder / "task.json").write_text(json.dumps({"seed": seed, "parts": parts}))
            (folder / "at").write_bytes(bytes(16))
            said, why = _worked(folder, log)
            finished: set[str] = set()
            for line in said:
                if "failure" in line:
                    failure = Failure(*line["failure"])
                    scores[failure.format].failures.append(failure)
                else:
                    finished.add(line["done"])
                    score = scores[line["done"]]
                    score.opened, score.refused = score.opened + line["opened"], score.refused + line["refused"]
                    score.seconds = max(score.seconds, line["seconds"])
                    score.megabytes = max(score.megabytes, line["megabytes"])
            if not why:
                break
            index, number = struct.unpack("<QQ", (folder / "at").read_bytes())
            name, _, stop = parts[index]
            scores[name].failures.append(Failure(name, number, why))
            parts = [(name, number + 1, stop), *parts[index + 1 :]]
    return scores


def small_case(given: Mapping[str, list[Seed]], failure: Failure, seed: int) -> Seed:
    """The case that fails, without what can be spared; as it is where it ends its process."""
    case = mutant(given[failure.format], failure.format, failure.number, seed)
    with tempfile.TemporaryDirectory(prefix="cnnlens-fuzz-") as place, tempfile.TemporaryFile() as log:
        folder = Path(place)
        (folder / "seeds").write_bytes(pickle.dumps({failure.format: given[failure.format]}))
        task = {"seed": seed, "parts": [], "smaller": [failure.format, failure.number, failure.why]}
        (folder / "task.json").write_text(json.dumps(task))
        (folder / "at").write_bytes(b"\1" * 16)
        _worked(folder, log)
        made = folder / "small"
        return pickle.loads(made.read_bytes()) if made.is_file() else case


def _worked(folder: Path, log: IO[bytes]) -> tuple[list[dict[str, Any]], str]:
    """What a worker said, and why it ended where it did not come to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fuzzing", str(folder)],
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
    )
    seen, since = b"", time.monotonic()
    out, code = b"", None
    while code is None:
        try:
            out, _ = process.communicate(timeout=5)
            code = process.returncode
        except subprocess.TimeoutExpired:
            now = (folder / "at").read_bytes()
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > _STANDSTILL:
                process.kill()
                out, _ = process.communicate()
                code = None
                break
    said = [json.loads(line) for line in out.splitlines()]
    if code == 0:
        return said, ""
    log.seek(0)
    end = log.read().decode(errors="replace").strip()[-400:]
    if (folder / "at").read_bytes() == bytes(16):
        raise RuntimeError(f"the worker did not start: {end}")
    return said, "stands still" if code is None else f"ends the process: {code}: {end}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    work(parser.parse_args().folder)
