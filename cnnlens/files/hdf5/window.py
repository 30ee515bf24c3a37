"""A window on an HDF5 file's bytes that counts what is read, and the guard that turns a parser's failure into one line.

A crafted index can send any parser round in circles or make it join pieces for ever; all of that reads, so a budget of
reads, bytes and seconds ends it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cnnlens.errors import CnnlensError, FileRefusedError
from cnnlens.files.limits import LIMITS
from cnnlens.text import printable

__all__ = ["LimitExceededError", "Window", "guard"]

_SAVE_AGAIN = "save the model again with Keras, or fetch the file again if it was downloaded"


class LimitExceededError(Exception):
    """Is raised where the index asks for more work than ``LIMITS`` allows."""


class Window:
    """Reads mapped bytes as a read-only file, with a budget."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0
        self.reset()

    def reset(self) -> None:
        """Allows what one index, or one array's table of chunks, may take."""
        self._reads_left = min(LIMITS.hdf5_index_reads, 200_000 + len(self._data) // 64)
        self._bytes_left = min(LIMITS.hdf5_index_bytes, (16 << 20) + len(self._data))
        self._end = time.monotonic() + LIMITS.hdf5_index_seconds
        self._header: tuple[int, int] | None = None

    @contextmanager
    def header(self) -> Generator[None]:
        """Allows what one object's header may take, while the block runs."""
        self._header = (self._reads_left - LIMITS.hdf5_header_reads, self._bytes_left - LIMITS.hdf5_header_bytes)
        yield
        self._header = None

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to ``offset`` from the start, from here or from the end, as files do."""
        at = offset + (0, self._at, len(self._data))[whence]
        if at < 0:
            raise ValueError("a place before the start of the file")
        self._at = at
        return at

    def tell(self) -> int:
        """Say where the next read starts."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, all that are left if it is negative."""
        end = len(self._data) if size < 0 else self._at + size
        piece = self._data[self._at : end]
        self._reads_left -= 1
        self._bytes_left -= len(piece)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise LimitExceededError("its index is far larger than one of its size can be")
        if self._header is not None and (self._reads_left < self._header[0] or self._bytes_left < self._header[1]):
            raise LimitExceededError("an object's header without an end")
        if time.monotonic() > self._end:
            raise LimitExceededError(f"its index took more than {LIMITS.hdf5_index_seconds:.0f} seconds to read")
        self._at += len(piece)
        return bytes(piece)

    def read_at(self, address: int, size: int) -> bytes:
        """Read exactly ``size`` bytes from ``address``.

        Raises:
            ValueError: They end behind the end of the file.
        """
        self._at = address
        piece = self.read(size)
        if len(piece) != size:
            raise ValueError("a piece that ends behind the end of the file")
        return piece


@contextmanager
def guard(path: Path, place: str) -> Generator[None]:
    """Turns whatever pyfive, struct, zlib or NumPy raise on damaged bytes into one line that names the place."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CnnlensError:
        raise
    except LimitExceededError as error:
        raise FileRefusedError(path, place, str(error), _SAVE_AGAIN) from None
    except MemoryError:
        raise FileRefusedError(path, place, "it asks for more memory than there is", _SAVE_AGAIN) from None
    except Exception as error:  # the parser asserts, indexes and unpacks: any kind of exception means damaged bytes
        detail = printable(str(error).split("\n", 1)[0] or type(error).__name__, 100)
        raise FileRefusedError(path, place, f"damaged or unknown HDF5 structure ({detail})", _SAVE_AGAIN) from None
