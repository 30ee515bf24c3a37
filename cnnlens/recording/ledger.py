"""What the writer of a recording knows of it, wherever it lies: its arrays, and which batches are done."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cnnlens.backend.chunks import DTYPES
from cnnlens.errors import CnnlensError
from cnnlens.recording.format import Description, array_metadata, array_names, chunk_name, read_log
from cnnlens.text import printable

__all__ = ["ELSEWHERE", "Ledger", "Part", "Wanted"]

ELSEWHERE = "choose another place with -o"


@dataclass(frozen=True)
class Part:
    """Names a whole chunk in a temporary file: its path, CRC-32, shape of the chunk, and dtype."""

    path: Path
    crc32: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Wanted:
    """Says what has to be made of a tensor of a batch, and where another machine puts it.

    Attributes:
        to: A path that all machines share, to which each adds what makes it its own; or an array's address in an object
            store; None: nowhere.
        dtype, reduction, shape: As of a ``Chunk``.
        rows: How many rows the chunk has, those behind the batch's zeros; None for no more than there are.
        back: Whether its bytes are sent back.
    """

    to: str | None = None
    dtype: str | None = None
    reduction: str | None = None
    rows: int | None = None
    back: bool = False
    shape: tuple[int, ...] | None = None


class Ledger:
    """Keeps the books of a recording that is being made.

    Attributes:
        done: How many batches are recorded.
        first_alone: The shapes of the first batch are those of all others.
    """

    first_alone = True

    def __init__(self, shown: str, description: Description) -> None:
        self.description = description
        self._shown = shown
        self._names = array_names(description.tensors)
        self._metadata: dict[str, dict[str, Any]] = {}
        self._log: list[dict[str, int]] = []

    @property
    def done(self) -> int:
        return len(self._log)

    @property
    def finished(self) -> bool:
        """Tell whether it was complete when it was opened."""
        return self.description.complete

    def crc32(self, batch: int, tensor: str) -> int | None:
        """Give the logged checksum of a recorded chunk."""
        return self._log[batch].get(self._names[tensor])

    def expected(self, tensor: str) -> tuple[tuple[int, ...] | None, str | None]:
        """Give chunk shape and dtype of a tensor: known once its first batch is there, but for what is asked for."""
        metadata = self._metadata.get(self._names[tensor])
        if metadata is None:
            return None, "<f2" if self.description.store == "float16" else None
        return (self.description.batch, *metadata["shape"][1:]), np.dtype(metadata["data_type"]).newbyteorder("<").str

    def want(self, tensor: str, to: str) -> Wanted:
        """Say what is made of a tensor: its shape and dtype once known, reduced where it is computed."""
        shape, dtype = self.expected(tensor)
        reduction = None if tensor in self.description.inputs else self.description.reduction
        return Wanted(to, dtype, reduction, self.description.batch, shape=shape)

    def arrays_of(self, parts: Mapping[str, Part]) -> dict[str, dict[str, Any]]:
        """Make the arrays' metadata of the first batch.

        Raises:
            CnnlensError: a tensor has no row for each input, or numbers that no array holds.
        """
        arrays: dict[str, dict[str, Any]] = {}
        for tensor in self.description.tensors:
            part, name = parts[tensor], self._names[tensor]
            dtype = np.dtype(part.dtype)
            if dtype.name not in DTYPES:
                raise CnnlensError(f"{self._shown}: '{printable(tensor)}' is {dtype}, which cannot be recorded")
            if not part.shape or part.shape[0] != self.description.batch:
                raise CnnlensError(
                    f"{self._shown}: '{printable(tensor)}' is {part.shape} for {self.description.batch} inputs, and "
                    "only what has a row for each input is recorded; leave it out with --layers"
                )
            shape = (self.description.count, *part.shape[1:])
            arrays[name] = array_metadata(name, tensor, shape, self.description.batch, dtype)
        return arrays

    def check(self, batch: int, parts: Mapping[str, Part]) -> None:
        """Refuse chunks that do not fit those before."""
        for tensor, part in parts.items():
            expected = self.expected(tensor)
            if (part.shape, np.dtype(part.dtype).newbyteorder("<").str) != expected:
                raise CnnlensError(
                    f"{self._shown}: '{printable(tensor)}' was {expected} and batch {batch} is "
                    f"{(part.shape, part.dtype)}; inputs of one size are needed"
                )

    def before(
        self, stream: IO[bytes], resume: bool, overwrite: bool, *, open_end: bool = False
    ) -> tuple[Description | None, list[dict[str, int]], list[int]]:
        """Read the log that is there, as ``read_log`` does.

        Args:
            open_end: Whether other inputs may follow those that are recorded than would have.

        Raises:
            CnnlensError: it is none, or of a recording that this is not to go on with, or cannot.
        """
        try:
            found = read_log(stream)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise CnnlensError(f"{self._shown}: its log cannot be read ({printable(error)}); {ELSEWHERE}") from None
        if found[0] is not None and not overwrite:
            if not resume:
                raise CnnlensError(f"{self._shown}: a recording is there; use --overwrite, or {ELSEWHERE}")
            different = found[0].difference(self.description, len(found[1]) if open_end else 0)
            if different is not None:
                raise CnnlensError(f"{self._shown}: {different}; use --overwrite to throw it away, or {ELSEWHERE}")
        return found

    def no_recording(self) -> CnnlensError:
        """Make the error for something else that is there."""
        return CnnlensError(f"{self._shown}: it exists and is no recording that record made; {ELSEWHERE}")

    def chunks(self, batch: int) -> Iterator[tuple[str, str, int]]:
        """Give each array's name, and the name and bytes that its chunk of a batch has."""
        for name, metadata in self._metadata.items():
            row = math.prod(metadata["shape"][1:]) * np.dtype(metadata["data_type"]).itemsize
            yield name, chunk_name(batch, len(metadata["shape"])), row * self.description.batch

    def trouble(self, error: OSError | str) -> CnnlensError:
        """Make the error for trouble with the disk: one line, with what is safe and what to do."""
        reason = error if isinstance(error, str) else (error.strerror or str(error))
        if not self._log:
            return CnnlensError(f"{self._shown}: it cannot be written ({reason}); make space, or {ELSEWHERE}")
        inputs = min(self.done * self.description.batch, self.description.count)
        return CnnlensError(
            f"{self._shown}: it cannot be written ({reason}); {inputs:,} of {self.description.count:,} inputs are "
            "recorded: make space and give the same command again, and it goes on from there"
        )
