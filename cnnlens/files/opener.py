"""Model files of Keras and PyTorch, read without either and without executing anything.

``network`` opens any of them; ``read`` is the part of it that finds out which array of a Keras file belongs to which
layer. Both parse JSON, zip, HDF5 and pickle as data and stop there. Every refusal is one line that names the file, the
place in it, the reason and the way out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.keras.quantised import dequantise
from cnnlens.files.model_file import ModelFile

if TYPE_CHECKING:
    from cnnlens.network.network import Network

__all__ = ["ModelFile", "StoredArray", "dequantise", "network", "read"]


def network(
    path: str | os.PathLike[str], *, config: Mapping[str, Any] | None = None, lambdas: Mapping[str, str] | None = None
) -> Network:
    """Read the network in a model file of any kind; the first bytes decide which kind it is.

    Args:
        path: What :func:`read` takes, or a file of PyTorch: ``.pt``/``.pth`` (zip archive or the older format),
            ``.pt2``, ``.safetensors``, or the ``.safetensors.index.json`` of several.
        config: For Keras' files of weights alone, as for :func:`read`.
        lambdas: What Lambda layers compute, by their names, as ``cnnlens.open`` takes it.

    Raises:
        FileRefusedError: The file is missing, of another kind, damaged, hostile, or asks for more than
            ``limits.LIMITS`` allows.
    """
    from cnnlens.files.torch.opener import open_torch

    where = Path(path)
    found = None if _is_directory(where) else open_torch(where)
    if found is not None:
        if lambdas:
            raise FileRefusedError(where, "", "a file of PyTorch has no Lambda layers", "leave --lambda (lambdas=) out")
        return found
    from cnnlens.files.keras.network import keras_network

    file = read(where, config=config)
    if lambdas:
        from cnnlens.files.keras.lambdas import say_lambdas

        say_lambdas(file, lambdas)
    return keras_network(file)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False  # open_file says what is wrong with it


def read(path: str | os.PathLike[str], *, config: Mapping[str, Any] | None = None) -> ModelFile:
    """Read the index of a model file of Keras.

    Args:
        path: A `.keras` archive, the directory that ``model.save(..., zipped=False)`` makes, a legacy `.h5` file
            (a whole model or its weights), a `.weights.h5` file, or the `.weights.json` of sharded weights. The first
            bytes decide which, not the name.
        config: The model's config (``{"class_name", "config"}``, as ``model.to_json()`` or another file's
            ``ModelFile.config`` has it) for a file of weights only. Without one, layer paths are the file's own.

    Raises:
        FileRefusedError: The file is missing, of another kind, damaged, or asks for more than ``limits.LIMITS`` allows.
    """
    from cnnlens.files.container import NAMES, open_file, sniff
    from cnnlens.files.keras import opener as open_keras

    where = Path(path)
    if _is_directory(where):
        return open_keras.open_directory(where)
    data = open_file(where)
    kind = sniff(where, data)
    if kind == "zip":
        return open_keras.open_zip(where, data)
    if kind == "json":
        return open_keras.open_shards(where, data, config)
    if kind != "hdf5":
        raise FileRefusedError(where, "", f"this is {NAMES[kind]}", "cnnlens.open reads PyTorch's files")
    return open_keras.open_hdf5(where, data, config)
