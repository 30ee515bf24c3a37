"""A pickle machine that executes nothing: PyTorch's pickles read as data, step by step, within limits.

Python's own unpickler calls what a file names and believes what it declares. This one has no way to call or import
anything: its whole vocabulary is :mod:`cnnlens.files.torch.pickle_vocabulary`, and the first name outside that refuses
the file, before any array has been read. The format is described in CPython's ``Lib/pickletools.py``.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from cnnlens.errors import FileRefusedError
from cnnlens.files.torch.pickle_machine import Machine
from cnnlens.files.torch.pickle_steps import run
from cnnlens.files.torch.pickle_values import RefusedPickleError, StorageRef

__all__ = ["load_pickle"]

_FETCH = "fetch the file again, or save it again with torch.save"


def load_pickle(
    path: Path, place: str, data: memoryview, start: int = 0, storages: dict[str, StorageRef] | None = None
) -> tuple[Any, int]:
    """Read the object that a pickle describes, out of plain containers and :mod:`torch_values`' descriptions.

    Args:
        path, place: The file and where in it the pickle stands, for messages.
        data: Bytes that hold the pickle from ``start`` on.
        start: Where it begins.
        storages: Filled with every storage that the pickle names, by key, as it is first named.

    Returns:
        The object and the position behind the pickle. Lists and mappings may be shared and may contain themselves.

    Raises:
        FileRefusedError: It names a callable outside the vocabulary, is damaged or exceeds ``LIMITS``.
    """
    try:
        return run(Machine(data, start, {} if storages is None else storages))
    except RefusedPickleError as problem:
        raise FileRefusedError(path, place, problem.reason, problem.way_out or _FETCH) from None
    except (LookupError, ValueError, TypeError, struct.error):
        raise FileRefusedError(path, place, "damaged pickle", _FETCH) from None
