"""Model files of Keras, read without Keras and without executing anything: `.keras`, `.h5`, `.weights.h5`.

``read`` opens a file and finds out which array belongs to which layer; it parses JSON, zip and HDF5 metadata and stops
there. Every refusal is one line that names the file, the place in it, the reason and the way out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlens.files.arrays import StoredArray
from cnnlens.files.model_file import ModelFile
from cnnlens.files.quantised import dequantise

__all__ = ["ModelFile", "StoredArray", "dequantise", "read"]


def read(path: str | os.PathLike[str], *, config: Mapping[str, Any] | None = None) -> ModelFile:
    """The index of a model file.

    Args:
        path: A `.keras` archive, the directory that ``model.save(..., zipped=False)`` makes, a legacy `.h5` file
            (a whole model or its weights), a `.weights.h5` file, or the `.weights.json` of sharded weights. The first
            bytes decide which, not the name.
        config: The model's config (``{"class_name", "config"}``, as ``model.to_json()`` or another file's
            ``ModelFile.config`` has it) for a file of weights only. Without one, layer paths are the file's own.

    Raises:
        FileRefusedError: The file is missing, of another kind, damaged, or asks for more than ``limits.LIMITS`` allows.
    """
    from cnnlens.files import open_keras
    from cnnlens.files.container import open_file, sniff

    where = Path(path)
    try:
        is_directory = stat.S_ISDIR(os.stat(where).st_mode)
    except (OSError, ValueError):
        is_directory = False  # open_file says what is wrong with it
    if is_directory:
        return open_keras.open_directory(where)
    data = open_file(where)
    kind = sniff(where, data)
    if kind == "zip":
        return open_keras.open_zip(where, data)
    if kind == "json":
        return open_keras.open_shards(where, data, config)
    return open_keras.open_hdf5(where, data, config)
