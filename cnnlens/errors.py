"""The one class of error that cnnlens raises on purpose.

The command line catches this class alone, prints its message as one line and exits with code 2; anything else that
escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from cnnlens.text import harmless, printable

__all__ = ["MAKE_SPACE", "CnnlensError", "FileRefusedError", "ForeignFileError", "UnsupportedLayerError", "in_one_line",
           "refuse_without_posix"]  # fmt: skip

MAKE_SPACE = "make space, or set TMPDIR"
"""The way out where there is no room for a temporary file."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class CnnlensError(Exception):
    """Is raised for what the caller can put right, in one line: what was expected, what came, where, way out.

    All other errors of cnnlens are of this class.

    >>> import cnnlens.sample
    >>> try:
    ...     cnnlens.open(cnnlens.sample.MODEL)["conv_2d"]
    ... except cnnlens.CnnlensError as error:
    ...     print(str(error).partition(": ")[2])
    no layer is named 'conv_2d'; did you mean 'conv2d' or 'conv2d_1'?

    Args:
        message: The line.
        backend: Whose error it is, named in front of the message; ``without_backend`` keeps the message alone.
    """

    def __init__(self, message: str, backend: str | None = None) -> None:
        line = harmless(message)  # what nobody made printable on its way here
        super().__init__(line if backend is None else f"{harmless(backend)}: {line}")
        self.backend, self.without_backend = backend, line


class FileRefusedError(CnnlensError):
    """Is raised for a file that is not read: names the file, the place in it, the reason and the way out.

    Args:
        path: The file as the caller named it.
        place: Where in the file, such as ``config.json`` or ``layers/conv2d/vars/0``; empty for the file as a whole.
        reason: What was expected and what came.
        way_out: What the person can do now.

    >>> import cnnlens
    >>> with open("model.keras", "w") as file:
    ...     _ = file.write("not a model")
    >>> cnnlens.open("model.keras")
    Traceback (most recent call last):
        ...
    cnnlens.errors.ForeignFileError: model.keras: this is a text file; cnnlens opens ...
    """

    def __init__(self, path: str | os.PathLike[str], place: str, reason: str, way_out: str) -> None:
        where = printable(os.fspath(path), 300) + (f": {printable(place, 200)}" if place else "")
        super().__init__(f"{where}: {reason}; {way_out}")


class ForeignFileError(FileRefusedError):
    """Is raised for a file of a kind that cnnlens does not open: it says which kind, and what to do.

    Args:
        path: The file as the caller named it.
        foreign: What it is, ``cnnlens.files.signatures.Foreign``, which stays its attribute.
    """

    def __init__(self, path: str | os.PathLike[str], foreign: Any) -> None:
        super().__init__(path, "", f"this is {foreign.what}", foreign.way_out)
        self.foreign = foreign


class UnsupportedLayerError(CnnlensError):
    """Is raised for a layer that cannot be computed or converted: the message names it and says why.

    Viewing still works: layers, weights and kernels of such a network are there.

    >>> import cnnlens
    >>> import numpy as np
    >>> from safetensors.numpy import save_file
    >>> save_file({"conv.weight": np.zeros((8, 3, 3, 3), np.float32)}, "weights.safetensors")
    >>> net = cnnlens.open("weights.safetensors")
    >>> net["conv"].kernel.shape
    (8, 3, 3, 3)
    >>> net.run(np.zeros((1, 3, 8, 8)))
    Traceback (most recent call last):
        ...
    cnnlens.errors.UnsupportedLayerError: weights.safetensors: it holds weights without a graph, so ...

    Args:
        message: Why; it names the layer where ``layer`` is None.
        layer: How messages name the layer, in front of the message; whoever knows it gives it with :meth:`of`.
    """

    def __init__(self, message: str, layer: str | None = None, backend: str | None = None) -> None:
        super().__init__(message if layer is None else f"{layer}: {message}", backend)
        self.layer, self.reason = layer, harmless(message)

    def of(self, layer: str) -> UnsupportedLayerError:
        """Name the layer where none is named yet: what a layer inside refuses keeps that layer's name."""
        return self if self.layer is not None else UnsupportedLayerError(str(self), layer)


def refuse_without_posix(what: str) -> None:
    """Refuse on Windows what needs a process of its own: it is ended with all that it started, as POSIX alone can.

    Raises:
        CnnlensError: there are no process groups here; names ``what``, and what works.
    """
    if not hasattr(os, "killpg"):
        raise CnnlensError(
            f"{what} needs processes that POSIX systems alone have (Linux, macOS, WSL); here you can view models and "
            "recordings, diff them, and check MODEL RUN.zarr with a recording made there"
        )


@contextmanager
def in_one_line() -> Generator[None]:
    """Turn memory, disk, numbers and nesting that there is no more room for into a ``CnnlensError``; also a decorator.

    What can be foreseen is refused where it is foreseen, with its place; this is for the rest, around all that is
    public.
    """
    try:
        yield
    except MemoryError as error:
        said = f" ({printable(error, 200)})" if str(error) else ""
        raise CnnlensError(f"memory ran out{said}; give fewer or smaller inputs, or use a machine with more") from None
    except OverflowError as error:
        raise CnnlensError(
            f"a number is too large to compute with ({printable(error, 200)}); look for it in the sizes that the model "
            "states (cnnlens summary) and that were given"
        ) from None
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno not in _NO_ROOM and not said.startswith("No usable temporary directory"):
            raise
        where = f"{printable(error.filename, 300)}: " if isinstance(error.filename, str) else ""
        raise CnnlensError(f"{where}it cannot be written ({printable(said, 300)}); {MAKE_SPACE}") from None
    except RecursionError:
        raise CnnlensError("it is nested deeper than Python can follow; save it with fewer levels") from None
