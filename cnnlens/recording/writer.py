"""Makes a Recording batch by batch, so that a kill at any moment loses, doubles and tears nothing.

A batch's chunks are written as temporary files, moved to their places when all are whole, and then logged; what the log
does not name is written again. One process at a time owns a recording (a lock on its log), and it alone moves files, so
that nothing a dying worker still does can reach what was recorded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.memory import available
from cnnlens.recording.format import (
    LOG,
    METADATA,
    PARTS,
    Description,
    array_metadata,
    chunk_name,
    dumps,
    group_metadata,
    header_line,
    log_line,
)
from cnnlens.recording.ledger import ELSEWHERE, Ledger, Part, Wanted
from cnnlens.text import printable

try:
    import fcntl
except ImportError:  # not POSIX; two processes on one recording are then the person's care
    fcntl = None

__all__ = ["RecordingWriter", "is_disk_trouble"]

_PIECE = 8 << 20
_CACHED = 1 / 4  # of the memory at hand: what a recording may take of the system's cache, where others' files are too


class RecordingWriter(Ledger):
    """Writes a recording, batch by batch.

    Args:
        path: Its folder: new, empty, or a recording that this goes on with.
        description: What makes it.
        resume: Go on where a recording of the same was cut short; otherwise one that is there is refused.
        overwrite: Throw away a recording that is there.
        durable: Bring it to the disk while it is made, and call it complete only when it is there. A recording that is
            gone with this process needs none of that.

    Raises:
        CnnlensError: something else is there, another run's recording is, or another process is writing it.
    """

    def __init__(
        self,
        path: Path,
        description: Description,
        *,
        resume: bool = True,
        overwrite: bool = False,
        durable: bool = True,
    ) -> None:
        super().__init__(printable(path, 300), description)
        self.path = path
        self._handle = -1
        self._fresh = self._stale = False
        self._sync = ThreadPoolExecutor(1, "cnnlens-sync") if durable else None
        self._syncing: Future[None] | None = None
        self._cached: bool | None = None  # whether what is written may stay in the system's cache
        self._written: list[Path] = []  # what is to leave it, once it is on the disk
        try:
            self._open_log()
            self._begin(resume, overwrite)
            self._parts = path / PARTS
            shutil.rmtree(self._parts, ignore_errors=True)
            self._parts.mkdir(exist_ok=True)
        except OSError as error:
            self.close()
            raise self.trouble(error) from None
        except BaseException:
            self.close()
            raise

    def part(self, tensor: str, batch: int) -> Path:
        """Say where a chunk is written before it is committed."""
        return self._parts / f"{self.description.tensors.index(tensor)}-{batch}"

    def wanted(self, batch: int) -> dict[str, Wanted]:
        """Say what is made of the tensors of a batch, and where another machine writes their chunks."""
        return {tensor: self.want(tensor, str(self.part(tensor, batch).absolute())) for tensor in self._names}

    def commit(self, batch: int, parts: Mapping[str, Part]) -> None:
        """Make the next batch part of the recording: its files go to their places, then the log says so.

        Raises:
            CnnlensError: the disk is full, or the chunks do not fit those before; what was recorded stays.
        """
        assert batch == self.done
        assert set(parts) == set(self.description.tensors)
        try:
            if not self._metadata:
                self._create(self.arrays_of(parts))
            self.check(batch, parts)
            if self._stale:
                self._renew()
            if self._cached is None:
                size = sum(size for *_, size in self.chunks(batch))
                self._cached = self._sync is None or size * self.description.batches <= _CACHED * available()
            checksums: dict[str, int] = {}
            for tensor, part in parts.items():
                name = self._names[tensor]
                if self._sync is not None and not hasattr(os, "sync"):  # Windows: each file by itself
                    with open(part.path, "r+b") as stream:
                        os.fsync(stream.fileno())
                place = part.path.replace(self.path / name / chunk_name(batch, len(part.shape)))
                checksums[name] = part.crc32
                if not self._cached:
                    self._written.append(place)
            self._append(log_line(batch, checksums))
            self._log.append(checksums)
            if self._sync is not None and (self._syncing is None or self._syncing.done()):
                if self._syncing is not None:
                    self._syncing.result()
                self._syncing = self._synced(self._sync)
        except OSError as error:
            raise self.trouble(error) from None

    def finish(self, inputs_sha256: str, notes: Sequence[str] = ()) -> None:
        """Say that it is complete, once all of it is on the disk: in a power failure zeros would pass for numbers.

        ``notes`` are remarks on how it ran.
        """
        if not self.description.complete:
            finished = self.description.finished(inputs_sha256)
            finished = replace(finished, notes=(*finished.notes, *notes))
            try:
                if self._stale:
                    self._renew()
                if self._syncing is not None:
                    self._syncing.result()
                if self._sync is not None:
                    self._synced(self._sync).result()
                self._write(METADATA, group_metadata(finished, self._metadata))
            except OSError as error:
                raise self.trouble(error) from None
            self.description = finished

    def close(self) -> None:
        """Let go of it. Temporary files go too; what was committed stays, and where that is nothing, nothing stays."""
        if self._sync is not None:
            self._sync.shutdown()
        if self._handle >= 0:
            shutil.rmtree(self.path / PARTS, ignore_errors=True)
            if self._fresh and not self._metadata:
                with contextlib.suppress(OSError):
                    (self.path / LOG).unlink()
                    self.path.rmdir()
            os.close(self._handle)
            self._handle = -1

    # -- beginning ---------------------------------------------------------------------------------------------------

    def _open_log(self) -> None:
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise CnnlensError(
                f"{self._shown}: it exists and is {'a link' if self.path.is_symlink() else 'no folder'}; {ELSEWHERE}"
            )
        if not self.path.parent.is_dir():
            raise CnnlensError(
                f"{self._shown}: the folder {printable(self.path.parent, 300)} does not exist; make it first"
            )
        self.path.mkdir(exist_ok=True)
        entries = os.listdir(self.path)
        if (entries and LOG not in entries) or (self.path / LOG).is_symlink():
            raise self.no_recording()
        self._lock()

    def _lock(self) -> None:
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # of POSIX, and of Windows
        self._handle = os.open(self.path / LOG, os.O_RDWR | os.O_CREAT | flags, 0o666)
        if fcntl is not None:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    os.close(self._handle)
                    self._handle = -1  # the parts are the other's
                    raise CnnlensError(f"{self._shown}: another process is recording to it; {ELSEWHERE}") from None
                # Some network file systems know no locks.

    def _begin(self, resume: bool, overwrite: bool) -> None:
        os.lseek(self._handle, 0, os.SEEK_SET)
        with open(self._handle, "rb", closefd=False) as stream:
            before, log, ends = self.before(stream, resume, overwrite, open_end=True)
        if before is None and len(os.listdir(self.path)) > 1:
            raise self.no_recording()
        if before is not None and not overwrite and self._resume(log, ends):
            self._stale |= (before.count, before.sources) != (self.description.count, self.description.sources)
            return
        self._clear()
        self._fresh = True  # from here on: what is refused keeps its log
        os.ftruncate(self._handle, 0)
        self._append(header_line(self.description))

    def _resume(self, log: list[dict[str, int]], ends: list[int]) -> bool:
        """Take over what is recorded and whole; False where not even the metadata is."""
        from cnnlens.recording.recording import Recording

        if not (self.path / METADATA).exists():
            return False
        recording = Recording.open(self.path)
        names = {array.array_name: array for array in (recording[tensor] for tensor in self.description.tensors)}
        if set(names) != set(self._names.values()):
            raise CnnlensError(f"{self._shown}: its arrays have other names than expected; use --overwrite")
        self._metadata = {
            name: array_metadata(
                name, array.name, (self.description.count, *array.shape[1:]), self.description.batch, array.dtype
            )
            for name, array in names.items()
        }
        # A kill while it was renewed may have left any of them as the inputs were to be, and the log as they are.
        described = recording.description
        self._stale = (described.count, described.sources) != (self.description.count, self.description.sources) or any(
            json.loads((self.path / name / METADATA).read_bytes()) != json.loads(dumps(metadata))
            for name, metadata in self._metadata.items()
        )
        good = self._whole(log)
        if os.fstat(self._handle).st_size != ends[good]:
            os.ftruncate(self._handle, ends[good])
            os.fsync(self._handle)
        self._log = log[:good]
        if good == self.description.batches and recording.complete:
            self.description = recording.description
        elif recording.description.complete:
            self._write(METADATA, group_metadata(self.description, self._metadata))
        return True

    def _whole(self, log: list[dict[str, int]]) -> int:
        """How many of the logged batches, from the first on, are there. All are read again: after a power failure a
        file may have its size and not its bytes, and nothing says how long it was in memory alone."""
        for batch, checksums in enumerate(log):
            for name, chunk, size in self.chunks(batch):
                path = self.path / name / chunk
                if not path.is_file() or path.is_symlink() or path.stat().st_size != size:
                    return batch
                if _crc32(path) != checksums.get(name):
                    return batch
        return len(log)

    def _clear(self) -> None:
        for name in os.listdir(self.path):
            entry = self.path / name
            ours = name in (METADATA, LOG, PARTS) or (entry / METADATA).is_file()
            if not ours and not (entry.is_dir() and not any(entry.rglob("*"))):
                raise CnnlensError(
                    f"{self._shown}: '{printable(name)}' in it is no recording's and would be lost; move it away"
                )
        for name in os.listdir(self.path):
            entry = self.path / name
            if name == LOG:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _create(self, arrays: dict[str, dict[str, Any]]) -> None:
        """The metadata, once the first batch has shown shapes and dtypes; the group's comes last and makes it one."""
        for name, metadata in arrays.items():
            (self.path / name).mkdir(exist_ok=True)
            self._write(f"{name}/{METADATA}", metadata)
        self._write(METADATA, group_metadata(self.description, arrays))
        self._metadata = arrays

    def _renew(self) -> None:
        """Say what the inputs are, which others have begun to follow than would have."""
        self._create(self._metadata)
        lines = b"".join(log_line(batch, checksums) for batch, checksums in enumerate(self._log))
        self._write(LOG, header_line(self.description) + lines, release=True)
        self._stale = False

    # -- the disk ----------------------------------------------------------------------------------------------------

    def _write(self, name: str, data: Mapping[str, Any] | bytes, release: bool = False) -> None:
        """A small file, whole or not at all, on the disk when this returns; ``release``: it is the one that is held."""
        part = self.path / PARTS / name.replace("/", "-")
        part.parent.mkdir(exist_ok=True)
        with open(part, "wb") as stream:
            stream.write(data if isinstance(data, bytes) else dumps(data))
            stream.flush()
            os.fsync(stream.fileno())
        if release:  # Windows replaces no open file
            os.close(self._handle)
            self._handle = -1
        part.replace(self.path / name)
        if release:
            self._lock()

    def _synced(self, thread: ThreadPoolExecutor) -> Future[None]:
        written, self._written = self._written, []
        return thread.submit(_from_cache_to_disk, self._handle, written)

    def _append(self, line: bytes) -> None:
        end = os.lseek(self._handle, 0, os.SEEK_END)
        try:
            while line:
                line = line[os.write(self._handle, line) :]
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, end)
            raise


def _from_cache_to_disk(handle: int, written: Sequence[Path]) -> None:
    """Bring all that was written to the disk, and let go of what the system keeps in memory of these files.

    A large recording would take all memory for what nobody reads soon. A virtual machine may get that from its host
    page by page: at 0.3 GB/s where the disk took 1.8.
    """
    _to_disk(handle)
    for path in written if hasattr(os, "posix_fadvise") else ():
        with contextlib.suppress(OSError), open(path, "rb") as stream:  # advice, which may be left
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _to_disk(handle: int) -> None:
    """Bring all that was written to the file system of an open file to its disk, where the system can do that."""
    if not hasattr(os, "sync"):
        return
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Linux alone
    if syncfs is None:
        os.sync()
    elif syncfs(handle):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def is_disk_trouble(error: BaseException) -> str | None:
    """Give the reason where a worker's error is the disk's: full, over quota, file too large, gone bad."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS):
        if os.strerror(number) in str(error):
            return os.strerror(number)
    return None


def _crc32(path: Path) -> int:
    crc = 0
    with open(path, "rb") as stream:
        while piece := stream.read(_PIECE):
            crc = zlib.crc32(piece, crc)
    return crc
