"""Weights put into a copy of a model's file: everything else in it stays as it was.

A Keras file is copied with its HDF5 file rewritten group by group, so that configs, names and arrays that have no
partner are the target's own; a PyTorch target gives the keys of a ``.safetensors`` state dict. The target is changed
only where it is named as the output as well.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from cnnlens.conversion.transfer import Applied, apply
from cnnlens.errors import CnnlensError
from cnnlens.files.container import member_of
from cnnlens.files.jsontext import decode
from cnnlens.files.keras.numbered import IGNORED_AT_ROOT
from cnnlens.files.keras.write import h5py_module, halved, write_archive
from cnnlens.files.torch.write_safetensors import Tensor, write_safetensors
from cnnlens.network.network import Network
from cnnlens.output import replacing
from cnnlens.text import printable

__all__ = ["Written", "check_name", "write_into"]

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@dataclass(frozen=True)
class Written:
    """Says what was written: where, from which pairs, and what the person should know, a line each."""

    path: Path
    applied: Applied
    notes: tuple[str, ...]


def write_into(
    source: Network, target: Network, out: str | os.PathLike[str], applied: Applied | None = None
) -> Written:
    """Write a copy of the target with the source's weights.

    Args:
        source: Any network with weights.
        target: A Keras file (``.keras``, ``.h5``, ``.weights.h5``): ``out`` is the same kind of file, its config and
            all that has no partner untouched, the state of its compilation left out. Or a network of PyTorch (a
            state dict, a ``.pt2``, an architecture): ``out`` is a ``.safetensors`` state dict with its keys.
        out: The file; the target's own path where it is to be replaced.
        applied: Of :func:`~cnnlens.conversion.transfer.apply`; None makes it.

    Raises:
        CnnlensError: the models do not match, or ``out`` has another ending or cannot be written; nothing is.
    """
    found = applied or apply(source, target)
    path = Path(out)
    check_name(path, target)
    if target.source.framework == "torch":
        notes = _write_state(target, found, path)
    elif target.source.format == "keras":
        notes = _write_keras(target, found, path)
    elif target.source.format in ("hdf5", "weights hdf5"):
        with replacing(path) as part:
            notes = _rewrite(target, found, Path(target.source.path), part, "")
    else:
        raise CnnlensError(
            f"{printable(target.source.path, 300)}: weights are put into .keras, .h5 and PyTorch files, "
            f"not into a {printable(target.source.format)}; save the model as .keras"
        )
    return Written(path, found, (*found.notes, *notes))


def check_name(path: Path, target: Network) -> None:
    """Refuse, before anything is made, a name that ends otherwise than a copy of ``target``.

    Raises:
        CnnlensError: it does; names the ending.
    """
    if member_of(Path(target.source.path))[1] and target.source.framework != "torch":
        shown = printable(target.source.path, 300)
        raise CnnlensError(f"{shown}: a copy is made of a file, and this one lies in an archive; unpack it first")
    if target.source.framework == "torch":
        _ends_in(path, (".safetensors",), target)
    elif target.source.format == "keras":
        _ends_in(path, (".keras",), target)
    elif target.source.format in ("hdf5", "weights hdf5"):
        _ends_in(path, (".h5", ".hdf5", ".keras"), target)


def _ends_in(path: Path, endings: tuple[str, ...], target: Network) -> None:
    if path.suffix not in endings:
        raise CnnlensError(
            f"{printable(path, 300)}: a name that ends in {' or '.join(endings)} was expected for a copy of "
            f"{printable(target.source.path, 300)}"
        )


# -- Keras -----------------------------------------------------------------------------------------------------------


def _write_keras(target: Network, applied: Applied, path: Path) -> list[str]:
    origin = Path(target.source.path)
    with replacing(path) as part, tempfile.TemporaryDirectory(prefix=".cnnlens-", dir=part.parent) as folder:
        before, after = Path(folder) / "before.h5", Path(folder) / "after.h5"
        texts: dict[str, str | bytes] = {}
        with zipfile.ZipFile(origin) as archive:
            for name in archive.namelist():
                if name == _WEIGHTS:
                    with archive.open(name) as stream, open(before, "wb") as copy:
                        shutil.copyfileobj(stream, copy, 1 << 20)
                elif not name.endswith("/"):
                    texts[name] = archive.read(name)
        notes = _rewrite(target, applied, before, after, f"{_WEIGHTS}: ")
        texts[_CONFIG] = _not_compiled(origin, cast(bytes, texts[_CONFIG]), notes)
        write_archive(part, texts, {_WEIGHTS: after})
    return notes


def _not_compiled(path: Path, text: bytes, notes: list[str]) -> bytes | str:
    """The config without the compilation, whose optimizer knows other weights."""
    config = decode(path, _CONFIG, text)
    if not config.get("compile_config"):
        return text
    import json

    notes.append("the state of its compilation is left out: compile the model anew to train it on")
    return json.dumps({key: value for key, value in config.items() if key != "compile_config"})


def _rewrite(target: Network, applied: Applied, before: Path, after: Path, prefix: str) -> list[str]:
    """Copy an HDF5 file with other numbers in its arrays."""
    h5py = h5py_module(after)
    notes: list[str] = []
    places = _places(target, applied, prefix)
    with h5py.File(before, "r") as old, h5py.File(after, "w") as new:
        for key, value in old.attrs.items():
            if key != "training_config":
                new.attrs[key] = value
        for name in old:
            if name in IGNORED_AT_ROOT:
                notes.append("the optimizer's state is left out")
            else:
                old.copy(name, new)
        for place, array in places.items():
            dataset = new.get(place)
            if dataset is None or dataset.shape != array.shape:
                raise CnnlensError(f"{printable(target.source.path, 300)}: its array '{printable(place)}' is not found")
            bfloat16 = dataset.dtype.kind == "V"
            dataset[...] = halved(array) if bfloat16 else array.astype(dataset.dtype)
    return notes


def _places(target: Network, applied: Applied, prefix: str) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for (layer, name), array in applied.arrays.items():
        place = target[layer].stored[name].stored.place
        found[place.removeprefix(prefix)] = array
    return found


# -- PyTorch ---------------------------------------------------------------------------------------------------------


def _write_state(target: Network, applied: Applied, path: Path) -> list[str]:
    """A state dict with the target's keys; what has no partner is the target's own."""
    tensors: dict[str, Tensor] = {}
    for layer in target.layers:
        for name, weight in layer.stored.items():
            array = applied.arrays.get((layer.name, name))
            dtype = weight.stored.stored_dtype.lstrip("<>=|")
            known = dtype == "bfloat16" or weight.stored.dtype.name == dtype
            read = weight.read if array is None else array.view
            kind = dtype if known else weight.stored.dtype.name
            tensors[weight.stored.place] = Tensor(kind, tuple(weight.stored.shape), read)
    with replacing(path) as part:
        write_safetensors(part, tensors)
    return []
