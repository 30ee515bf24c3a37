"""Pictures to disk, whole or not at all: a run that fails must not leave half a picture under a good name."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
from matplotlib.figure import Figure

from cnnlens.errors import CnnlensError
from cnnlens.text import printable

__all__ = ["check_target", "is_marked", "save"]

_SUFFIXES = {".png": "png", ".pdf": "pdf", ".svg": "svg", ".jpg": "jpeg", ".jpeg": "jpeg"}


def check_target(path: str | os.PathLike[str]) -> Path:
    """Find where a picture would be written, links followed; nothing is written.

    Raises:
        CnnlensError: The suffix is no picture format, the folder is missing, or the place cannot be written.

    >>> import cnnlens
    >>> cnnlens.plot.check_target("kernels.png").name
    'kernels.png'
    >>> cnnlens.plot.check_target("kernels.doc")
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: kernels.doc: '.doc' is no picture format; end it in one of ...
    """
    target = Path(path)
    name = printable(target, 300)
    known = " ".join(_SUFFIXES)
    if target.suffix.lower() not in _SUFFIXES:
        ending = f"'{printable(target.suffix)}' is no picture format" if target.suffix else "a picture needs a suffix"
        raise CnnlensError(f"{name}: {ending}; end it in one of {known}")
    try:
        target = Path(os.path.realpath(target))
        if target.is_dir():
            raise CnnlensError(f"{name}: is a folder; name a file in it, ending in one of {known}")
        if not target.parent.is_dir():
            raise CnnlensError(f"{name}: the folder {printable(target.parent, 300)} does not exist; make it first")
        if target.exists() and not target.is_file():
            raise CnnlensError(f"{name}: is a device or a pipe, not a file; choose another name")
    except (OSError, ValueError) as error:
        raise CnnlensError(f"{name}: cannot be written ({_reason(error)}); choose another name") from error
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise CnnlensError(f"{name}: may not be written; choose another name or change its permissions")
    return target


def is_marked(path: str | os.PathLike[str], mark: str) -> bool:
    """Tell whether a picture is a PNG that ``save`` wrote with this mark.

    >>> import cnnlens.sample
    >>> made = cnnlens.plot.save(cnnlens.plot.kernels(cnnlens.open(cnnlens.sample.MODEL)["conv2d"]), "mine.png", "mine")
    >>> cnnlens.plot.is_marked("mine.png", "mine"), cnnlens.plot.is_marked("mine.png", "yours")
    (True, False)
    """
    try:
        with open(path, "rb") as stream:
            return b"tEXtcnnlens\0" + mark.encode("latin-1") in stream.read(4096)
    except OSError:
        return False


def save(figure: Figure, path: str | os.PathLike[str], mark: str = "") -> Path:
    """Write ``figure`` as PNG, PDF, SVG or JPEG, by its suffix; whole or not at all.

    The picture is drawn into a file beside ``path``, which takes its place when it is complete.

    Args:
        mark: What a PNG says in it under ``cnnlens``: which model's it is; Latin-1.

    Returns:
        The file that was written (with links followed).

    Raises:
        CnnlensError: As `check_target`; or the disk is full, or became unwritable; nothing is left behind then.

    >>> import cnnlens.sample
    >>> figure = cnnlens.plot.kernels(cnnlens.open(cnnlens.sample.MODEL)["conv2d"].kernel.array)
    >>> cnnlens.plot.save(figure, "kernels.svg").name
    'kernels.svg'
    >>> cnnlens.plot.save(figure, "kernels")
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: kernels: a picture needs a suffix; end it in one of .png .pdf .svg .jpg .jpeg
    """
    target = check_target(path)
    kind = _SUFFIXES[Path(path).suffix.lower()]
    extra: dict[str, Any] = {
        # Speed: the hardest compression makes a picture 3 % smaller and takes most of the time.
        "png": {"pil_kwargs": {"compress_level": 4}},
        "jpeg": {"pil_kwargs": {"quality": 93}},
        "pdf": {"metadata": {"CreationDate": None}},
        "svg": {"metadata": {"Date": None}},
    }[kind]
    if mark and kind == "png":
        extra["metadata"] = {"cnnlens": mark}
    part = target.with_name(f".cnnlens-{secrets.token_hex(6)}.part")
    # Settings of the user's that would draw the figure twice, crop it, or make the same picture another file.
    settings: dict[str, Any] = {"savefig.bbox": None, "svg.hashsalt": "cnnlens", "text.usetex": False}
    try:
        with mpl.rc_context(cast(Any, settings)), open(part, "xb") as stream:
            figure.savefig(stream, format=kind, dpi=figure.dpi, facecolor=figure.get_facecolor(), **extra)
        if target.exists():
            os.chmod(part, target.stat().st_mode & 0o7777)
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CnnlensError(
            f"{printable(path, 300)}: could not be written ({_reason(error)}); nothing was left"
        ) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return target


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    return printable((isinstance(error, OSError) and error.strerror) or error, 120)
