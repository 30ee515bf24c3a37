"""The other side of a worker: a process in which one backend runs, and which may be another interpreter's.

It needs NumPy, the backend's framework and core alone. It speaks JSON lines over a socket that no framework knows of,
takes and gives arrays as plain files, and writes a batch's files from a thread while the next batch computes. When the
socket ends it ends, with all that it started.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import platform
import queue
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnnlens.backend.halving import Halving
    from cnnlens.backend.seam import Backend, Session
    from cnnlens.network.network import Network

__all__ = ["main"]

Message = dict[str, Any]

# What a backend's module may not import by itself: whoever lists backends would wait for it.
_HEAVY = ("h5py", "jax", "keras", "tensorflow", "torch")
_PYTHON = (3, 11)


class _Channel:
    """The socket: requests come in through a thread, replies go out under a lock."""

    def __init__(self, connection: socket.socket, folder: str) -> None:
        self._connection = connection
        self._folder = folder
        self._lock = threading.Lock()
        self.requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="cnnlens-requests", daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._connection.makefile("rb") as stream:
            for line in stream:
                self.requests.put(json.loads(line))
        end(self._folder)

    def reply(self, message: Message) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                self._connection.sendall(data)
        except OSError as error:
            if error.errno == errno.EBADF:
                sys.stderr.write("the backend closed the socket of cnnlens, which was not its own\n")
                os._exit(1)
            end(self._folder)  # nobody listens any more


def end(folder: str) -> None:
    """The parent is gone: leave no file and no process of this group."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


class _Child:
    def __init__(self, channel: _Channel, folder: str) -> None:
        self._channel = channel
        self._folder = folder
        self._backend: Backend | None = None
        self._network: Network | None = None
        self._session: Session | None = None
        # What was asked for when it was loaded, what came of it, and the answer.
        self._loaded: tuple[tuple[Any, ...], Network, Message] | None = None
        self._halving: Halving | None = None
        # One thread, one batch waiting at most: memory holds two batches of feature maps, never more.
        self._writer = ThreadPoolExecutor(1, "cnnlens-writer")
        self._writing: Future[None] | None = None
        # A batch that the device computes, and what fetches it: the next one is begun before.
        self._begun: tuple[int, Callable[[], None]] | None = None
        self._commands: dict[str, Callable[[Message], Message | None]] = {
            "hello": self._hello, "devices": self._devices, "load": self._load, "run": self._run,
            "weights": self._weights, "bench": self._bench, "close": self._close,
        }  # fmt: skip

    def serve(self) -> None:
        while True:
            request = self._next()
            answer = self._guarded(request["id"], lambda request=request: self._commands[request["do"]](request))
            if answer is not None:
                self._channel.reply(answer)
            if request["do"] == "close":
                # Not sys.exit: frameworks have been seen to hang or crash in their own finalisers.
                sys.stdout.flush()
                os._exit(0)

    def _next(self) -> Message:
        try:
            return self._channel.requests.get_nowait()
        except queue.Empty:
            self._finish_begun()
            return self._channel.requests.get()

    def _guarded(self, identity: int, work: Callable[[], Message | None]) -> Message | None:
        try:
            answer = work()
        except BaseException as error:  # SystemExit of a plugin too; SIGINT is ignored here
            return {"id": identity, "error": _described(error)}
        return None if answer is None else {"id": identity, **answer}

    # -- commands ----------------------------------------------------------------------------------------------------

    def _hello(self, request: Message) -> Message:
        import numpy as np

        for path in request["paths"]:
            if path not in sys.path:
                sys.path.append(path)
        from cnnlens.backend.seam import resolve

        before = set(sys.modules)
        found: Any = resolve(request["backend"])
        heavy = [name for name in _HEAVY if name in sys.modules and name not in before]
        self._backend = found
        # Bytecode of cnnlens itself is not written from another interpreter into its package; a framework's may be.
        sys.dont_write_bytecode = False
        return {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "backend": found.name,
            "heavy_imports": heavy,
        }

    def _devices(self, request: Message) -> Message:
        assert self._backend is not None
        return {"devices": [str(one) for one in self._backend.devices()]}

    def _load(self, request: Message) -> Message:
        from cnnlens.backend import handover, seam
        from cnnlens.backend.halving import Halving

        assert self._backend is not None
        self._finish_all()
        start = time.perf_counter()
        folder, trust_code = Path(request["folder"]), bool(request["trust_code"])
        asked = handover.folder_hash(folder), request["device"], request["precision"]
        before, self._loaded = self._loaded, None
        renew: Callable[[], None] | None = getattr(self._session, "renew", None)
        if before is not None and before[0] == asked and renew is not None and not trust_code:
            renew()
            _, network, answer = before
        else:
            if self._session is not None:
                session, self._session = self._session, None
                session.close()
                del session
                if not gc.get_freeze_count():  # what came with the framework stays and is not looked through again
                    before = self._network = self._halving = None
                    gc.collect()
                    gc.freeze()
            network = handover.load(folder)
            session = self._session = seam.load(
                self._backend, network, request["device"], request["precision"], trust_code=trust_code
            )
            answer = {
                "versions": {str(name): str(version) for name, version in session.versions.items()},
                "device": str(session.device),
                "layout": self._backend.layout,
            }
        self._network, self._halving = network, Halving(network)
        if not trust_code:  # code of a file's own may remember what it did
            self._loaded = asked, network, answer
        return {**answer, "seconds": time.perf_counter() - start}

    def _run(self, request: Message) -> Message | None:
        halving, session = self._halving, self._ready()
        assert halving is not None
        count: int = request["count"]
        inputs = [_mapped(chunk)[:count] for chunk in request["inputs"]]
        outputs: Mapping[str, Message] = request["outputs"]
        wanted: dict[str, str | None] = {name: one["reduction"] for name, one in outputs.items()}
        start = time.perf_counter()
        begun = halving.begin(session, inputs, wanted)

        def fetch() -> None:
            found, later = begun() if begun is not None else halving.computed(session, inputs, wanted)
            maps = self._checked(found, later, wanted, count)
            self._hand_over(request, maps, later, time.perf_counter() - start)

        self._finish_begun()
        if begun is None:
            fetch()
        else:
            self._begun = request["id"], fetch
        return None

    def _hand_over(
        self,
        request: Message,
        maps: dict[str, NDArray[Any]],
        later: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]],
        seconds: float,
    ) -> None:
        """Have the thread write a batch, once it has written the one before, and answer."""
        from cnnlens.backend.chunks import in_parallel, rows_first

        network, halving, outputs = self._network, self._halving, request["outputs"]
        assert network is not None
        assert halving is not None
        most = halving.most
        self._finish_writing()

        def one(name: str) -> Message:
            array = maps.pop(name)
            array = later[name](array) if name in later else array
            return _write(rows_first(network, {name: array}, request["count"])[name], outputs[name], name)

        def write() -> Message:
            written = in_parallel(one, outputs)
            return {"outputs": dict(zip(outputs, written, strict=True)), "seconds": seconds, "most": most}

        def work() -> None:
            answer = self._guarded(request["id"], write)
            assert answer is not None
            self._channel.reply(answer)

        self._writing = self._writer.submit(work)

    def _bench(self, request: Message) -> Message:
        import numpy as np

        from cnnlens.backend.chunks import in_parallel
        from cnnlens.backend.seam import compute

        self._finish_all()
        inputs = [np.array(_mapped(chunk)) for chunk in request["inputs"]]
        session, stage, wanted = self._ready(), request["stage"], request["tensors"]
        files = {name: os.path.join(self._folder, f"bench-{index}") for index, name in enumerate(wanted)}
        seconds: list[float] = []
        device: int | None = None
        host = 0
        try:
            while not seconds or (sum(seconds) < request["seconds"] and len(seconds) < request["most"]):
                start = time.perf_counter()
                if stage == "device":
                    device, found = compute(session, inputs, wanted), None
                else:
                    found = session.feature_maps(inputs, wanted)
                    if stage == "disk":
                        maps = found
                        in_parallel(lambda name: _write(maps[name], _whole(files[name]), name), files)  # noqa: B023
                seconds.append(time.perf_counter() - start)
                host = sum(array.nbytes for array in (found or {}).values())
                del found  # before the next: a run holds one batch
        finally:
            for path in files.values():
                with contextlib.suppress(OSError):
                    os.unlink(path)
        return {"seconds": seconds, "bytes": host, "device_peak": device, "host_peak": host_peak()}

    def _weights(self, request: Message) -> Message:
        from cnnlens.backend.seam import fingerprint

        self._finish_begun()
        return {
            "weights": {
                layer: {name: asdict(fingerprint(array)) for name, array in arrays.items()}
                for layer, arrays in self._ready().weights().items()
            }
        }

    def _close(self, request: Message) -> Message:
        self._finish_all()
        if self._session is not None:
            self._session.close()
        return {}

    # -- parts -------------------------------------------------------------------------------------------------------

    def _ready(self) -> Session:
        from cnnlens.errors import CnnlensError

        if self._session is None:
            raise CnnlensError("no network is loaded; load one first")
        return self._session

    def _finish_begun(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            answer = self._guarded(*begun)
            if answer is not None:
                self._channel.reply(answer)

    def _finish_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _finish_all(self) -> None:
        self._finish_begun()
        self._finish_writing()

    def _checked(
        self,
        found: Mapping[str, NDArray[Any]],
        later: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]],
        wanted: Mapping[str, str | None],
        count: int,
    ) -> dict[str, NDArray[Any]]:
        """What the backend gives, held against what it promised."""
        import numpy as np

        from cnnlens.backend.reductions import reduced_shape

        assert self._network is not None
        checked: dict[str, NDArray[Any]] = {}
        for name, reduction in wanted.items():
            if name not in found:
                raise _BrokenPromiseError(f"gave no feature map of '{name}'")
            array = found[name]
            if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance] - plugins may lie
                raise _BrokenPromiseError(f"gave a {type(array).__name__} for '{name}', not a NumPy array")
            ref = self._network.tensors.get(name)
            whole = None if ref is None else self._network.canonical_shape(ref)
            if reduction and name not in later and whole is not None and ref is not None:
                sizes = [size for size in whole[1:] if size is not None]
                known = len(sizes) == len(whole) - 1 and self._network.batch_axis(ref) == 0
                whole = (None, *reduced_shape(reduction, (1, *sizes))[1:]) if known else None
            fits = whole is None or (
                len(whole) == array.ndim
                and all(w is None or w == s for w, s in zip(whole[1:], array.shape[1:], strict=True))
            )
            fixed_batch = whole is not None and bool(whole) and whole[0] is not None
            # Several rows an input are what a model makes that takes its maps apart into windows.
            rows = array.ndim == 0 or whole is None or fixed_batch or len(array) % max(count, 1) == 0
            if not fits or not rows:
                shape = tuple(whole or ())[1:]
                raise _BrokenPromiseError(f"gave {array.shape} for '{name}', where {(count, *shape)} was expected")
            checked[name] = array
        return checked


def host_peak() -> int | None:
    """The bytes of memory that this process has held at most; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _whole(path: str) -> Message:
    return {"path": path, "shape": None, "dtype": None}


class _BrokenPromiseError(Exception):
    """A backend gave something else than the seam says."""


def _mapped(chunk: Message) -> NDArray[Any]:
    import numpy as np

    shape = tuple(chunk["shape"])
    if 0 in shape:
        return np.zeros(shape, chunk["dtype"])
    return np.memmap(chunk["path"], np.dtype(chunk["dtype"]), "r", 0, shape)


def _write(array: NDArray[Any], chunk: Message, name: str) -> Message:
    """One output file: the rows that came and zeros behind, in a temporary file that takes its place when it is whole.

    Without a ``shape`` in ``chunk`` the array's own is used, and with a ``dtype`` of None its own type.
    """
    from cnnlens.backend.chunks import as_stored, write_chunk
    from cnnlens.errors import CnnlensError
    from cnnlens.text import printable

    wanted = chunk["shape"]
    if wanted is not None and (
        len(wanted) != array.ndim or tuple(wanted[1:]) != array.shape[1:] or wanted[0] < len(array)
    ):
        raise CnnlensError(f"the feature map of '{printable(name)}' is {array.shape}, the chunk for it {tuple(wanted)}")
    try:
        plain = as_stored(array, chunk["dtype"], name).reshape(array.shape or (1,))
    except (TypeError, ValueError):
        raise _BrokenPromiseError(f"gave {array.dtype} for '{name}', which are no numbers") from None
    path: str = chunk["path"]
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        crc = write_chunk(Path(temporary), [plain], len(plain) if wanted is None else wanted[0])
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise CnnlensError(f"{printable(path, 300)}: it cannot be written ({error.strerror or error})") from None
    shape = list(array.shape if wanted is None else wanted)
    return {"crc32": crc, "shape": shape, "dtype": plain.dtype.newbyteorder("<").str}


def _described(error: BaseException) -> Message:
    """An error in words that the other side can raise again."""
    import traceback

    try:
        from cnnlens.errors import CnnlensError, UnsupportedLayerError
    except ImportError:
        kind = "missing"
    else:
        if isinstance(error, UnsupportedLayerError):
            kind = "unsupported"
        elif isinstance(error, CnnlensError):
            kind = "refused"
        elif isinstance(error, ImportError):
            kind = "missing"
        elif isinstance(error, MemoryError):
            kind = "memory"
        elif isinstance(error, _BrokenPromiseError):
            kind = "promise"
        else:
            kind = "failed"
    # Frameworks write messages of many lines; the first that says anything is the one to show.
    said = getattr(error, "without_backend", None) or str(error)  # the other side names the backend
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "kind": kind,
        "type": type(error).__name__,
        "message": lines[0] if lines else "",
        "module": (getattr(error, "name", None) or "") if isinstance(error, ImportError) else "",
        "place": f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "",
        "traceback": "".join(traceback.format_exception(error))[-20_000:],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve requests until the socket ends: ``python -m cnnlens.backend.child SOCKET FOLDER``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    number, folder = sys.argv[1:3] if arguments is None else arguments
    if sys.version_info < _PYTHON:
        raise SystemExit(
            f"cnnlens needs Python {'.'.join(map(str, _PYTHON))} or later, this is {sys.version.split()[0]}"
        )
    descriptor = int(number)
    os.set_inheritable(descriptor, False)
    channel = _Channel(socket.socket(fileno=descriptor), folder)
    _Child(channel, folder).serve()


if __name__ == "__main__":
    main()
