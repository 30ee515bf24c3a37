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

from cnnlens.errors import FileRefusedError, ForeignFileError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.keras.quantised import dequantise
from cnnlens.files.model_file import MemberSource, ModelFile
from cnnlens.memory import uncollected
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.network import Network

__all__ = ["ModelFile", "StoredArray", "dequantise", "network", "read"]


@uncollected()
def network(
    path: str | os.PathLike[str],
    *,
    config: Mapping[str, Any] | None = None,
    weights: str | None = None,
    lambdas: Mapping[str, str] | None = None,
) -> Network:
    """Read the network in a model file of any kind; the first bytes decide which kind it is.

    Args:
        path: What :func:`read` takes, or a file of PyTorch: ``.pt``/``.pth`` (zip archive or the older format),
            ``.pt2``, ``.safetensors``, or the ``.safetensors.index.json`` of several. ``ARCHIVE::MEMBER`` is a file in
            a zip or tar archive, or the one that is packed by gzip, bzip2 or xz; nothing is unpacked on the disk.
        config: For Keras' files of weights alone, as for :func:`read`.
        weights: For a checkpoint of PyTorch's with several sets of weights, the name of the entry that is wanted.
        lambdas: What Lambda layers compute, by their names, as ``cnnlens.open`` takes it.

    Raises:
        ForeignFileError: The file is of another kind, which is named by its bytes.
        FileRefusedError: The file is missing, damaged, hostile, or asks for more than ``limits.LIMITS`` allows.
    """
    from cnnlens.files.container import member_of
    from cnnlens.files.torch.opener import one_set, open_torch

    where = Path(path)
    archive, member = member_of(where)
    found = None
    if not _is_directory(where):
        _refuse_foreign(where, bool(member))
        found = open_torch(where, weights)
    if found is not None and lambdas:
        raise FileRefusedError(where, "", "a file of PyTorch has no Lambda layers", "leave --lambda (lambdas=) out")
    if found is None:
        if weights is not None:
            raise one_set(where)
        from cnnlens.files.keras.network import keras_network

        file = read(where, config=config)
        if lambdas:
            from cnnlens.files.keras.lambdas import say_lambdas

            say_lambdas(file, lambdas)
        found = keras_network(file)
    if member:
        found.source = MemberSource(found.source, archive)
        found.notes = (f"a file in {printable(archive.name, 100)}, whose SHA-256 is shown", *found.notes)
    return found


# What torch.save writes in front of everything, without its zip archive: 0x1950a86a20f9469cfc6c, pickled.
_TORCH_PICKLE = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def _refuse_foreign(path: Path, is_member: bool) -> None:
    """Name the pickles and archives whose kind is told by what is in them; the rest is told by its first bytes."""
    from cnnlens.files.container import open_file, packed_members
    from cnnlens.files.signatures import foreign_archive, foreign_pickle

    data = open_file(path)
    head = bytes(data[:15])
    foreign = None
    if head[:1] == b"\x80" and head[2:] != _TORCH_PICKLE:
        foreign = foreign_pickle(data)
    elif head[:2] != b"PK":
        kind, members = packed_members(path, data)
        if kind and not {"pickle", "storages", "tensors"} <= set(members):  # PyTorch's own, before 0.1.11
            foreign = foreign_archive(path, kind, members)
    if foreign is not None:
        raise ForeignFileError(path, foreign)
    if is_member and head.lstrip()[:1] == b"{" and b".safetensors" in bytes(data[: 1 << 20]):
        raise FileRefusedError(path, "", "a list of shards in an archive", "unpack it and open the list")


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
