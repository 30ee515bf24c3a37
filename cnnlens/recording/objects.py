"""Makes a Recording in an object store, where workers have put its chunks before a batch is taken.

An object is there as a whole or not at all, so a chunk needs no temporary name. What is done says the log, as in a
folder; but an object cannot be added to, so it is written anew as a whole, from time to time and at every end. There
are no locks: two runs to one address are the person's care.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cnnlens.recording.address import Address
from cnnlens.recording.format import LOG, METADATA, Description, dumps, group_metadata, header_line, log_line
from cnnlens.recording.ledger import Ledger, Part, Wanted
from cnnlens.text import printable

__all__ = ["ObjectWriter"]

_EVERY = 5.0  # s between two writings of the log


class ObjectWriter(Ledger):
    """Writes a recording to an address, batch by batch; a ``Sink`` of an engine's.

    Args:
        address: Where: new, empty, or a recording that this goes on with.
        folder: A private one on this machine, for what workers send back.
        description, resume, overwrite: As ``RecordingWriter`` takes them.

    Raises:
        CnnlensError: something else is there, or another run's recording is, or it cannot be reached.
    """

    def __init__(
        self, address: Address, folder: Path, description: Description, *, resume: bool = True, overwrite: bool = False
    ) -> None:
        super().__init__(printable(address, 300), description)
        self.path = address
        self._folder = folder
        self._written = 0.0
        self._fresh = False
        try:
            self._begin(resume, overwrite)
        except OSError as error:
            raise self.trouble(error) from None

    def part(self, tensor: str, batch: int) -> Path:
        """Say where an input that is sent back is kept until it is committed."""
        return self._folder / f"{self.description.tensors.index(tensor)}-{batch}"

    def wanted(self, batch: int) -> dict[str, Wanted]:
        """Say where a worker puts the chunks of a batch; inputs are sent back too."""
        return {
            tensor: replace(self.want(tensor, str(self.path / name)), back=tensor in self.description.inputs)
            for tensor, name in self._names.items()
        }

    def commit(self, batch: int, parts: Mapping[str, Part]) -> None:
        """Make the next batch, whose chunks are in place, part of the recording."""
        assert batch == self.done
        try:
            if not self._metadata:
                self._metadata = self.arrays_of(parts)
                for name, metadata in self._metadata.items():
                    (self.path / name / METADATA).write_bytes(dumps(metadata))
                (self.path / METADATA).write_bytes(dumps(group_metadata(self.description, self._metadata)))
            self.check(batch, parts)
            self._log.append({self._names[tensor]: part.crc32 for tensor, part in parts.items()})
            if time.monotonic() > self._written + _EVERY:
                self._write_log()
        except OSError as error:
            raise self.trouble(error) from None
        for tensor in self.description.inputs:
            parts[tensor].path.unlink()

    def finish(self, inputs_sha256: str, notes: Sequence[str] = ()) -> None:
        """Say that it is complete; ``notes`` are remarks on how it ran."""
        if not self.description.complete:
            finished = self.description.finished(inputs_sha256)
            finished = replace(finished, notes=(*finished.notes, *notes))
            try:
                self._write_log()
                (self.path / METADATA).write_bytes(dumps(group_metadata(finished, self._metadata)))
            except OSError as error:
                raise self.trouble(error) from None
            self.description = finished

    def close(self) -> None:
        """Say in the log what was done; where that is nothing, and nothing was there, nothing stays."""
        if self._fresh and not self._log:
            with contextlib.suppress(OSError), self.path.reached():
                self.path.filesystem.rm(self.path.url, recursive=True)
        if self._log and not self.description.complete:
            try:
                self._write_log()
            except OSError as error:
                raise self.trouble(error) from None

    def _begin(self, resume: bool, overwrite: bool) -> None:
        try:
            content = (self.path / LOG).read_bytes()
        except FileNotFoundError:
            if self.path.exists():
                raise self.no_recording() from None
            content = b""
        before, log, _ = self.before(io.BytesIO(content), resume, overwrite)
        if before is not None and not overwrite:
            self._resume(log)
        else:
            self._fresh = True
            if content:
                with self.path.reached():
                    self.path.filesystem.rm(self.path.url, recursive=True)
        self._write_log()

    def _resume(self, log: list[dict[str, int]]) -> None:
        """Take over what is recorded: an object that is there with its size is whole."""
        try:
            group = json.loads((self.path / METADATA).read_bytes())
            self._metadata = group["consolidated_metadata"]["metadata"]
            described = Description.from_json(group["attributes"]["cnnlens"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return
        with self.path.reached():
            found = cast("dict[str, Any]", self.path.filesystem.find(self.path.url, detail=True))
        sizes = {tuple(path.rsplit("/", 2)[-2:]): one["size"] for path, one in found.items()}
        for batch, checksums in enumerate(log):
            if any(sizes.get((name, chunk)) != size for name, chunk, size in self.chunks(batch)):
                return
            self._log.append(checksums)
        if described.complete and self.done == described.batches:
            self.description = described

    def _write_log(self) -> None:
        lines = [log_line(batch, checksums) for batch, checksums in enumerate(self._log)]
        (self.path / LOG).write_bytes(header_line(self.description) + b"".join(lines))
        self._written = time.monotonic()
