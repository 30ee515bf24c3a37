"""Places of recordings that are no folders: ``s3://bucket/run.zarr`` and whatever else fsspec knows.

What opens a recording asks a path for a few things, and an address answers them alike. fsspec and what it needs for a
kind of address are imported when there is one.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from cnnlens.errors import CnnlensError
from cnnlens.text import printable

__all__ = ["Address", "is_address", "place"]


class _Status(NamedTuple):
    st_mode: int
    st_size: int


class Address:
    """Names an object, or all whose names begin with it and a slash; answers as a ``Path`` does.

    Raises:
        CnnlensError: nothing is installed that reaches such an address, or it is none; one line.
    """

    def __init__(self, url: str, filesystem: Any = None) -> None:
        self.url = url.rstrip("/")
        self.name = self.url.rsplit("/", 1)[-1]
        self.filesystem = filesystem or _filesystem(self.url)

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.url}/{name}", self.filesystem)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"<Address {printable(self.url, 300)}>"

    def __fspath__(self) -> str:
        return self.url

    def exists(self) -> bool:
        with self.reached():
            return bool(self.filesystem.exists(self.url))

    def is_dir(self) -> bool:
        with self.reached():
            return bool(self.filesystem.isdir(self.url))

    def is_file(self) -> bool:
        with self.reached():
            return bool(self.filesystem.isfile(self.url))

    def is_symlink(self) -> bool:
        return False

    def lstat(self) -> _Status:
        with self.reached():
            found = self.filesystem.info(self.url)
            kind = stat.S_IFREG if found["type"] == "file" else stat.S_IFDIR
            return _Status(kind, int(found["size"] or 0))

    def iterdir(self) -> Iterator[Address]:
        with self.reached():
            names = self.filesystem.ls(self.url, detail=False)
        return (self / str(name).rstrip("/").rsplit("/", 1)[-1] for name in names)

    def read_bytes(self) -> bytes:
        with self.reached():
            return self.filesystem.cat_file(self.url)

    def write_bytes(self, content: bytes) -> None:
        with self.reached():
            self.filesystem.pipe_file(self.url, content)

    def open(self) -> IO[bytes]:
        """Open it to be read."""
        with self.reached():
            return self.filesystem.open(self.url, "rb")

    @contextlib.contextmanager
    def reached(self) -> Generator[None]:
        """Whatever a library of addresses raises is an OSError, as it is of a disk."""
        try:
            yield
        except OSError as error:
            if error.strerror is None:
                error.strerror = printable(error, 200) if str(error) else type(error).__name__
            raise
        except CnnlensError:
            raise
        except Exception as error:
            raise OSError(None, printable(f"{type(error).__name__}: {error}", 200)) from error


def is_address(path: str | os.PathLike[str]) -> bool:
    """Tell whether it names no file of this machine: ``s3://…``."""
    return isinstance(path, Address) or "://" in os.fspath(path)


def place(path: str | os.PathLike[str] | Address) -> Path | Address:
    """Give what opens it: an ``Address``, or a ``Path``."""
    if isinstance(path, Address):
        return path
    return Address(os.fspath(path)) if is_address(path) else Path(path)


def _filesystem(url: str) -> Any:
    try:
        from fsspec.core import url_to_fs  # pyright: ignore[reportUnknownVariableType] - fsspec has no types
    except ImportError:
        raise CnnlensError(
            f'{printable(url, 300)}: addresses need fsspec; install it with: pip install "cnnlens[ray]"'
        ) from None
    try:
        return url_to_fs(url)[0]
    except Exception as error:  # a kind that is not known, or whose library is not installed; libraries differ
        raise CnnlensError(f"{printable(url, 300)}: it cannot be reached ({printable(error, 200)})") from None
