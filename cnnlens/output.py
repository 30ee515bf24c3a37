"""Files that cnnlens writes: whole or not at all.

A file is written beside its place under a temporary name and moved there when it is complete, so that a full disk, a
crash or Ctrl-C leaves neither half a picture nor a lost older one.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

from cnnlens.errors import CnnlensError
from cnnlens.text import printable

__all__ = [
    "file_name",
    "free_path",
    "new_folder",
    "refuse_read",
    "refuse_taken",
    "replacing",
    "silent",
    "stem_of",
    "writable",
    "write_text",
]

_LONGEST = 200  # bytes; file systems take 255, and a suffix or a number may follow
_PICTURES = (".png", ".jpg", ".jpeg")  # of a folder that is read, these are
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}


def writable(path: str | os.PathLike[str]) -> Path:
    """Find where a file would be written, links followed; nothing is written.

    Raises:
        CnnlensError: it is a folder, a device or an address, or its folder is missing or may not be written to.
    """
    target = Path(os.path.realpath(path))  # what a link points to is written, and the link stays
    shown = printable(path, 300)
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):  # a pipe has no place of its own
        raise CnnlensError(
            f"{shown}: a device or a pipe is not written to; leave -o out and redirect the output instead"
        )
    if target.is_dir():
        raise CnnlensError(f"{shown}: a file name was expected, this is a folder; name a file in it")
    if not target.parent.is_dir():
        if re.match(r"[a-z][a-z0-9+.-]+:/", shown):  # a drive of Windows has one letter
            raise CnnlensError(f"{shown}: a file on this machine was expected, this is an address; name a file with -o")
        raise CnnlensError(f"{shown}: the folder {printable(target.parent, 300)} does not exist; make it first")
    if not os.access(target.parent, os.W_OK):
        raise CnnlensError(f"{shown}: it cannot be written (Permission denied); choose another place with -o")
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """Give a temporary path beside ``path`` to write to; move it there if the block ends well, else remove it.

    Raises:
        CnnlensError: the folder is missing or the path cannot be written.
    """
    target, shown = writable(path), printable(path, 300)
    try:
        handle, name = tempfile.mkstemp(prefix=".cnnlens-", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise CnnlensError(f"{shown}: it cannot be written ({error.strerror}); choose another place with -o") from None
    os.close(handle)
    part = Path(name)
    try:
        yield part
        # mkstemp makes private files; what a person writes has the permissions that their umask gives.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(target)
    except OSError as error:
        raise CnnlensError(f"{shown}: it cannot be written ({error.strerror}); choose another place with -o") from None
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Generator[Path]:
    """Give a temporary folder beside ``path`` to write into; it becomes ``path`` if the block ends well, else it goes.

    Raises:
        CnnlensError: there is something at ``path`` already that is no empty folder, or it cannot be written.
    """
    target = Path(os.path.realpath(path))
    shown = printable(path, 300)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CnnlensError(f"{shown}: there is something already; name a folder that is empty or not there yet")
    if not target.parent.is_dir():
        raise CnnlensError(f"{shown}: the folder {printable(target.parent, 300)} does not exist; make it first")
    try:
        with tempfile.TemporaryDirectory(prefix=".cnnlens-", dir=target.parent, ignore_cleanup_errors=True) as folder:
            part = Path(folder) / "part"
            part.mkdir()  # with the permissions that the umask gives, which a temporary folder has not
            yield part
            if target.is_dir():
                target.rmdir()
            part.replace(target)
    except OSError as error:
        raise CnnlensError(f"{shown}: it cannot be written ({error.strerror}); choose another place with -o") from None


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def file_name(*parts: str) -> str:
    """Make a file name of names that may hold anything, for every file system: letters and digits of all scripts stay.

    What is none, nor ``.``, ``_``, ``-``, becomes ``_``: separators, and what is hidden or turns the order of a line.
    A long name is cut in its middle, where a digest of it stands, and what Windows takes for a device gets a ``_``.

    >>> file_name("모델", "outer/conv", "kernels"), file_name("CON"), len(file_name("신발" * 500).encode())
    ('모델-outer_conv-kernels', 'CON_', 196)
    """
    import hashlib
    import unicodedata

    joined = unicodedata.normalize("NFC", "-".join(parts))  # as macOS does not store them, and all others do
    safe = "".join(char if char in "._-" or unicodedata.category(char)[0] in "LNM" else "_" for char in joined)
    safe = safe.lstrip(".-").rstrip(".") or "cnnlens"
    if len(safe.encode()) > _LONGEST:
        half = (_LONGEST - 10) // 2
        digest = hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        first, last = safe.encode()[:half].decode(errors="ignore"), safe.encode()[-half:].decode(errors="ignore")
        safe = f"{first}-{digest}-{last}"
    stem, dot, rest = safe.partition(".")
    return f"{stem}_{dot}{rest}" if stem.upper() in _DEVICES else safe


def stem_of(path: str | os.PathLike[str]) -> str:
    """Name a model as its file is called, without what says its kind.

    >>> [stem_of(one) for one in ("runs/net.v2.keras", "net.weights.h5", "agent.zip::policy.pth")]
    ['net.v2', 'net', 'policy']
    """
    name = Path(os.fspath(path).rpartition("::")[2]).name
    return Path(name).stem.removesuffix(".safetensors.index").removesuffix(".weights") or name


def free_path(path: Path, taken: Callable[[Path], bool]) -> Path:
    """Give ``path``, or where that is ``taken`` the first free one of those with a number, from ``-2`` on."""
    found, number = path, 1
    while taken(found):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def refuse_taken(paths: Iterable[Path], named: bool, models: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse to write over a file that nobody ``named``, and over one of the ``models`` that are read, named or not.

    Raises:
        CnnlensError: such a file is there; says which.
    """
    for path in paths:
        refuse_read(path, models)
        if not named and os.path.lexists(path):
            raise CnnlensError(
                f"{printable(path, 300)}: it is there already; name another file with -o, or the same to overwrite it"
            )


def refuse_read(path: str | os.PathLike[str], read: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse to write over one of the files that are ``read``, by whatever name, or a picture of a folder that is.

    Raises:
        CnnlensError: it is one.
    """
    if not os.path.isfile(path):
        return
    taken = [path, Path(path).parent] if Path(path).suffix.lower() in _PICTURES else [path]
    if any(os.path.exists(one) and os.path.samefile(one, mine) for one in read for mine in taken):
        raise CnnlensError(f"{printable(path, 300)}: it is read here, and would be lost; name another file with -o")


def silent(line: str) -> None:
    """Say nothing, where nobody asked to hear how far it is."""
    del line
