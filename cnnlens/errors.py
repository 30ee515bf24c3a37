"""The one class of error that cnnlens raises on purpose.

The command line catches this class alone, prints its message as one line and exits with code 2; anything else that
escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import os

from cnnlens.text import printable

__all__ = ["CnnlensError", "FileRefusedError", "UnsupportedLayerError"]


class CnnlensError(Exception):
    """What the caller can put right. The message is one line: what was expected, what came, where, way out."""


class FileRefusedError(CnnlensError):
    """A file that is not read: names the file, the place in it, the reason and the way out.

    Args:
        path: The file as the caller named it.
        place: Where in the file, such as ``config.json`` or ``layers/conv2d/vars/0``; empty for the file as a whole.
        reason: What was expected and what came.
        way_out: What the person can do now.
    """

    def __init__(self, path: str | os.PathLike[str], place: str, reason: str, way_out: str) -> None:
        where = printable(os.fspath(path), 300) + (f": {printable(place, 200)}" if place else "")
        super().__init__(f"{where}: {reason}; {way_out}")


class UnsupportedLayerError(CnnlensError):
    """A layer that the reference cannot compute. Viewing still works; the message names the layer and says why.

    Args:
        message: Why; it names the layer where ``layer`` is None.
        layer: How messages name the layer, in front of the message; whoever knows it gives it with :meth:`of`.
    """

    def __init__(self, message: str, layer: str | None = None) -> None:
        super().__init__(message if layer is None else f"{layer}: {message}")
        self.layer, self.reason = layer, message

    def of(self, layer: str) -> UnsupportedLayerError:
        """The same, of this layer where it names none yet: what a layer inside refuses keeps that layer's name."""
        return self if self.layer is not None else UnsupportedLayerError(str(self), layer)
