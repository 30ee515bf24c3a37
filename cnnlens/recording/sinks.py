"""What takes the batches of a run: a recording that is written, statistics that are folded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cnnlens.errors import CnnlensError
from cnnlens.recording.address import Address
from cnnlens.recording.format import Description
from cnnlens.recording.ledger import Part, Wanted

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes what a run gives, batch after batch, as ``RecordingWriter`` does."""

    description: Description

    @property
    def first_alone(self) -> bool:
        """Tell whether it learns from the first batch what it wants of the others, such as their shape."""
        ...

    @property
    def path(self) -> Path | Address:
        """Say where what it takes is kept."""
        ...

    @property
    def done(self) -> int:
        """Count the batches that need not run, for they are here."""
        ...

    def crc32(self, batch: int, tensor: str) -> int | None:
        """Give the checksum of what is here of a batch, to be held against what is read again."""
        ...

    def part(self, tensor: str, batch: int) -> Path:
        """Say where a file of a batch is written."""
        ...

    def wanted(self, batch: int) -> Mapping[str, Wanted]:
        """Say what of a batch has to come, and where another machine puts it; here it comes as files of ``part``."""
        ...

    def commit(self, batch: int, parts: Mapping[str, Part]) -> None:
        """Take a whole batch."""
        ...

    def trouble(self, error: OSError | str) -> CnnlensError:
        """Make the error for trouble with the disk."""
        ...
