"""A Keras 3 ``.keras`` archive written without Keras: config, metadata and the HDF5 file of the arrays.

The reader's rules run backwards: groups are named after classes with a counter, arrays are numbered in the order in
which the class makes its variables. HDF5 is written by h5py, which every Keras brings along; nothing else here needs
it, so it is imported when something is written.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.files.jsontext import mapping, text
from cnnlens.files.keras.inner import inner_layers
from cnnlens.files.keras.numbered import OWN_NAMES, layer_name, model_layers
from cnnlens.files.keras.resolution import LayerPath, shown
from cnnlens.files.keras.variables import declare
from cnnlens.files.limits import LIMITS, human_bytes
from cnnlens.files.torch.write_safetensors import bfloat16_bits
from cnnlens.output import replacing
from cnnlens.reference.keras.names import base_class, snake_case
from cnnlens.text import nearest, printable

__all__ = ["KERAS_VERSION", "Arrays", "h5py_module", "halved", "write_archive", "write_keras"]

KERAS_VERSION = "3.15.1"
"""The Keras whose words the configs that cnnlens writes are in, and that was seen to load them."""

Arrays = Mapping[LayerPath, Mapping[str, Any]]
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
# The first moment that a zip archive can name: the same model is then the same bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Group:
    """One ``vars`` group: where it stands, the name that it carries, and its arrays in order."""

    place: str
    name: str
    arrays: tuple[Any, ...]


def write_keras(
    path: str | Path, config: Mapping[str, Any], arrays: Arrays, *, keras_version: str = KERAS_VERSION, date: str = ""
) -> None:
    """Write a model as Keras 3 saves it; whole or not at all.

    Args:
        path: The file; an older one is replaced when the new one is complete.
        config: The model's entry as ``model.to_json()`` gives it: ``{"module", "class_name", "config", ...}``.
        arrays: Layer path to variable name to array, in Keras' own axes: as ``files.read(path).weights`` has them, by
            layer names through nested models and by attributes into wrappers. NumPy arrays, or anything with ``read``.
        keras_version: Which Keras wrote the config.
        date: When it was saved, as ``2026-01-31@12:00:00``; empty for now.

    Raises:
        CnnlensError: h5py is missing, an array is missing or belongs to no layer, or the file cannot be written.
    """
    groups = list(_groups(config, arrays))
    metadata = {"keras_version": keras_version, "date_saved": date or datetime.now().strftime("%Y-%m-%d@%H:%M:%S")}
    h5py = h5py_module(path)

    def fill(file: Any) -> None:
        for group in groups:
            made = file.create_group(group.place)
            made.attrs["name"] = group.name
            for index, array in enumerate(group.arrays):
                _dataset(made, str(index), array)

    with replacing(path) as part, tempfile.TemporaryDirectory(prefix=".cnnlens-", dir=part.parent) as folder:
        weights = Path(folder) / _WEIGHTS
        with h5py.File(weights, "w") as file:
            fill(file)
        write_archive(part, {_METADATA: json.dumps(metadata), _CONFIG: _json(path, config)}, {_WEIGHTS: weights})


def write_archive(path: Path, texts: Mapping[str, str | bytes], files: Mapping[str, Path]) -> None:
    """Write a zip archive of ``texts`` and the contents of ``files`` by member name, nothing compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), content)
        for name, source in files.items():
            member = zipfile.ZipInfo(name, _NO_TIME)
            member.file_size = source.stat().st_size
            with open(source, "rb") as stream, archive.open(member, "w") as into:
                shutil.copyfileobj(stream, into, 1 << 20)


def h5py_module(path: str | Path) -> Any:
    """Import h5py, which writes HDF5.

    Raises:
        CnnlensError: it is not installed; names the file that was to be written and the command that installs h5py.
    """
    try:
        return import_module("h5py")
    except ImportError:
        raise CnnlensError(
            f"{printable(path, 300)}: writing a Keras file needs h5py, which is not installed; "
            "install it with: pip install h5py"
        ) from None


def _json(path: str | Path, config: Mapping[str, Any]) -> str:
    encoded = json.dumps(config)
    if len(encoded) > LIMITS.json_bytes:
        raise CnnlensError(
            f"{printable(path, 300)}: the model's config would be {human_bytes(len(encoded))} of text, "
            f"{human_bytes(LIMITS.json_bytes)} at most; a large constant in it must become a layer's weight"
        )
    return encoded


def _dataset(group: Any, name: str, array: Any) -> None:
    values: NDArray[Any] = np.asarray(array.read() if hasattr(array, "read") else array)
    if getattr(array, "stored_dtype", "") != "bfloat16":
        group.create_dataset(name, data=values)
        return
    # Keras stores bfloat16 as two bytes of no type beside their name.
    group.create_dataset(name, data=halved(values)).attrs["dtype"] = "bfloat16"


def halved(values: NDArray[Any]) -> NDArray[Any]:
    """Round float32 values to bfloat16 in the form that HDF5 has it: two bytes of no type."""
    return bfloat16_bits(values).view("V2")


# -- which group has which arrays ------------------------------------------------------------------------------------


def _groups(config: Mapping[str, Any], arrays: Arrays) -> Iterator[_Group]:
    used: set[tuple[LayerPath, str]] = set()
    yield _Group("vars", text(mapping(config.get("config")).get("name"), "model"), ())
    yield from _model(config, (), "", arrays, used)
    for path, own in arrays.items():
        for name in own:
            if (path, name) not in used:
                raise CnnlensError(
                    f"the array '{printable(name)}' of layer {shown(path)} belongs to no layer of the model; "
                    f"{nearest('/'.join(path), dict.fromkeys('/'.join(known) for known, _ in used))}"
                )


def _model(
    entry: Mapping[str, Any], path: LayerPath, place: str, arrays: Arrays, used: set[tuple[LayerPath, str]]
) -> Iterator[_Group]:
    layers = model_layers(entry)
    if layers is None:
        raise CnnlensError("the model's config lists no layers, so its arrays have no place in a file of Keras")
    counters: dict[str, int] = {}
    for layer in layers:
        stem = snake_case(OWN_NAMES.get(base_class(layer), base_class(layer)))
        count = counters[stem] = counters.get(stem, -1) + 1
        group = f"{place}layers/{stem}_{count}" if count else f"{place}layers/{stem}"
        yield from _layer(layer, layer_name(layer), (*path, layer_name(layer)), group, arrays, used)


def _layer(
    entry: Mapping[str, Any], name: str, path: LayerPath, place: str, arrays: Arrays, used: set[tuple[LayerPath, str]]
) -> Iterator[_Group]:
    yield _Group(f"{place}/vars", name, tuple(_own(entry, path, arrays, used)))
    if model_layers(entry) is not None:
        yield from _model(entry, path, f"{place}/", arrays, used)
        return
    # Grouped attention keeps its projections under private names.
    private = "_" if base_class(entry) in (*OWN_NAMES, *OWN_NAMES.values()) else ""
    for inner in inner_layers(entry):
        below = (*path, *inner.attribute.split("/"))
        yield from _layer(inner.entry, inner.name or name, below, f"{place}/{private}{inner.attribute}", arrays, used)


def _own(entry: Mapping[str, Any], path: LayerPath, arrays: Arrays, used: set[tuple[LayerPath, str]]) -> Iterator[Any]:
    """A layer's own arrays in the order of its variables."""
    own = arrays.get(path, {})
    if model_layers(entry) is not None:
        return
    declared = declare(entry)
    names = declared.names if declared.names is not None else tuple(sorted(own, key=lambda name: (len(name), name)))
    required = names[: len(names) - declared.optional]
    for name in names:
        if name in own:
            used.add((path, name))
            yield own[name]
        elif name in required:
            raise CnnlensError(
                f"layer {shown(path)} ({printable(base_class(entry))}) has no array for its '{printable(name)}'; "
                f"{nearest(name, own)}"
            )
