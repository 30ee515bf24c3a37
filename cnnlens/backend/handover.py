"""A Network as a folder of plain data, for a process that has NumPy and one framework and nothing else.

A worker must not open strangers' files with its own parsers, and may run under another interpreter without ours. So
the parent, whose reader accepted the file, writes down what it read: the graph and the configs as JSON, the arrays one
after another in one file that is mapped, not copied, on the other side.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import MAKE_SPACE, CnnlensError
from cnnlens.files.keras.network import operation_of_entry
from cnnlens.files.keras.operations import refusing, unpacker
from cnnlens.files.torch.operations import equip
from cnnlens.layout import Geometry
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.network.masks import Mask
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.text import printable

__all__ = ["folder_hash", "load", "network_hash", "write"]

_ALIGNMENT = 64  # bytes; what every framework's kernels like to read from
_VERSION = 1


@dataclass(frozen=True)
class HandedSource:
    """Where a handed-over network came from; see ``cnnlens.network.graph.Source``."""

    path: Path
    format: str
    framework: str
    keras_version: str | None
    size: int
    sha256: str


@dataclass(frozen=True)
class HandedArray:
    """An array inside ``weights.bin``; see ``cnnlens.network.weight.Stored``."""

    data: NDArray[np.uint8]
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored_dtype: str
    place: str

    def read(self) -> NDArray[Any]:
        count = math.prod(self.shape) * self.dtype.itemsize
        return self.data[self.offset : self.offset + count].view(self.dtype).reshape(self.shape)


def write(network: Network, folder: Path) -> None:
    """Write ``network`` to ``folder`` (which exists) as ``network.json`` and ``weights.bin``.

    Raises:
        CnnlensError: it cannot be written (the disk is full, say), or an array of the file cannot be read.
    """
    offset = 0
    layers: list[dict[str, Any]] = []
    written: dict[int, dict[str, Any]] = {}  # an array that two layers hold (tied weights) is written once
    try:
        with open(folder / "weights.bin", "wb") as stream:
            for layer in _layers(network):
                weights: list[dict[str, Any]] = []
                for weight in layer.stored.values():
                    if id(weight.stored) not in written:
                        array = np.asarray(weight.read(), order="C")
                        stream.write(b"\0" * (-offset % _ALIGNMENT))
                        offset += -offset % _ALIGNMENT
                        written[id(weight.stored)] = {"dtype": array.dtype.str, "shape": array.shape, "offset": offset}
                        stream.write(array.reshape(-1).view(np.uint8).data)
                        offset += array.nbytes
                    weights.append({**_weight(weight), **written[id(weight.stored)]})
                layers.append({**_layer(layer), "weights": weights})
        data = {**_structure(network), "layers": layers, "source": _source(network)}
        (folder / "network.json").write_text(json.dumps(data), encoding="utf-8")
    except OSError as error:
        said = f"the network cannot be handed over ({error.strerror}); {MAKE_SPACE}"
        raise CnnlensError(f"{printable(folder, 300)}: {said}") from None


def load(folder: Path) -> Network:
    """Open the network that ``write`` wrote; arrays are mapped when they are asked for. Needs NumPy alone.

    Raises:
        CnnlensError: the folder was written by another version of cnnlens.
    """
    data = json.loads((folder / "network.json").read_text(encoding="utf-8"))
    if data["version"] != _VERSION:
        raise CnnlensError(f"{folder}: a handover of version {_VERSION} was expected, {data['version']} came")
    weights = folder / "weights.bin"
    mapped = np.memmap(weights, np.uint8, "r") if weights.stat().st_size else np.zeros(0, np.uint8)
    source = HandedSource(Path(data["source"].pop("path")), **data["source"])
    layers: dict[str, Layer] = {}
    arrays: dict[tuple[str, ...], dict[str, HandedArray]] = {}
    for entry in data["layers"]:
        layer = _read_layer(entry, mapped)
        layers[layer.name] = layer
        for weight in layer.stored.values():
            owner = arrays.setdefault((*layer.path, *weight.owner), {})
            owner[weight.role] = cast(HandedArray, weight.stored)
    calls = tuple(
        Call(
            one["name"],
            layers[one["layer"]],
            tuple(_decode(one["args"])),
            cast("dict[str, Any]", _decode(one["kwargs"])),
            tuple(None if shape is None else tuple(shape) for shape in one["shapes"]),
            one["channel_axis"],
            cast("dict[str, Any]", _decode(one["masks"])),
        )
        for one in data["calls"]
    )
    _give_arithmetic(layers, calls, arrays, source)
    return Network(
        name=data["name"],
        kind=data["kind"],
        source=source,
        layers=tuple(layers[name] for name in data["listed"]),
        calls=calls,
        inputs=tuple(Ref(*one) for one in data["inputs"]),
        outputs=tuple(Ref(*one) for one in data["outputs"]),
        notes=tuple(data["notes"]),
    )


def folder_hash(folder: Path) -> str:
    """Compute SHA-256 over what ``write`` wrote, by which a worker knows a network that it holds."""
    digest = hashlib.sha256()
    for name in ("network.json", "weights.bin"):
        with open(folder / name, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def network_hash(network: Network) -> str:
    """Compute SHA-256 over graph, configs and arrays: the same for one model under any file name."""
    digest = hashlib.sha256()
    layers = [
        {**_layer(layer), "weights": [_weight(w) for w in layer.stored.values()]} for layer in network.layers_of_calls
    ]
    structure = {**_structure(network), "layers": layers, "notes": None, "name": None}
    digest.update(json.dumps(structure, sort_keys=True).encode())
    for layer in network.layers_of_calls:
        for weight in layer.stored.values():
            array = np.asarray(weight.read(), order="C")
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


# -- parts -----------------------------------------------------------------------------------------------------------


def _layers(network: Network) -> Iterable[Layer]:
    """Every layer that is called or listed: a PyTorch model may hold modules that its graph never calls."""
    return {layer.name: layer for layer in (*network.layers_of_calls, *network.layers)}.values()


def _structure(network: Network) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "name": network.name,
        "kind": network.kind,
        "notes": list(network.notes),
        "listed": [layer.name for layer in network.layers],
        "inputs": [[ref.call, ref.index] for ref in network.inputs],
        "outputs": [[ref.call, ref.index] for ref in network.outputs],
        "calls": [
            {
                "name": call.name,
                "layer": call.layer.name,
                "args": _encode(list(call.args)),
                "kwargs": _encode(dict(call.kwargs)),
                "masks": _encode(dict(call.masks)),
                "shapes": [None if shape is None else list(shape) for shape in call.shapes],
                "channel_axis": call.channel_axis,
            }
            for call in network.calls
        ],
    }


def _source(network: Network) -> dict[str, Any]:
    source = network.source
    return {
        "path": str(source.path),
        "format": source.format,
        "framework": source.framework,
        "keras_version": source.keras_version,
        "size": source.size,
        "sha256": source.sha256,
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "config": dict(layer.config),
        "module": layer.module,
        "entry": dict(layer.entry) if not layer.container else {},
        "container": layer.container,
        "path": list(layer.path),
        "inputs": list(layer.inputs),
        "output_shape": layer.output_shape,
        "stored_output_shape": layer.stored_output_shape,
    }


def _weight(weight: Weight) -> dict[str, Any]:
    return {
        "name": weight.name,
        "kind": weight.kind,
        "role": weight.role,
        "owner": list(weight.owner),
        "framework": weight.framework,
        "geometry": asdict(weight.geometry),
        "stored_dtype": weight.stored.stored_dtype,
        "place": weight.stored.place,
    }


def _read_layer(entry: Mapping[str, Any], mapped: NDArray[np.uint8]) -> Layer:
    stored: dict[str, Weight] = {}
    for one in entry["weights"]:
        array = HandedArray(
            mapped, one["offset"], tuple(one["shape"]), np.dtype(one["dtype"]), one["stored_dtype"], one["place"]
        )
        geometry = Geometry(**{name: _tuples(value) for name, value in one["geometry"].items()})
        stored[one["name"]] = Weight(
            one["name"], one["kind"], one["role"], array, geometry, one["framework"], {}, tuple(one["owner"])
        )
    return Layer(
        name=entry["name"],
        kind=entry["kind"],
        config=entry["config"],
        module=entry["module"],
        entry=entry["entry"],
        container=entry["container"],
        path=tuple(entry["path"]),
        inputs=tuple(entry["inputs"]),
        output_shape=_tuples(entry["output_shape"]),
        stored_output_shape=_tuples(entry["stored_output_shape"]),
        stored=stored,
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in cast("list[Any]", value)) if isinstance(value, list) else value


def _give_arithmetic(
    layers: Mapping[str, Layer],
    calls: Sequence[Call],
    arrays: Mapping[tuple[str, ...], dict[str, HandedArray]],
    source: HandedSource,
) -> None:
    """Every layer's operation, and what unpacks its arrays: both follow from its entry and the shapes in the graph."""
    if source.framework == "keras":
        for layer in layers.values():
            layer.make_operation = partial(operation_of_entry, layer, arrays, source.keras_version)
            layer.unpack = unpacker(layer)
    elif source.framework == "torch":
        shapes = {Ref(call.name, index): shape for call in calls for index, shape in enumerate(call.shapes)}
        first = {call.layer.name: call for call in reversed(calls)}
        for name, call in first.items():
            equip(layers[name], [shapes[ref] for ref in call.refs])
    else:
        for layer in layers.values():
            layer.make_operation = refusing(f"the reference has no operations for layers of {source.framework}")


def _encode(value: Any) -> Any:
    """Arguments of a call as JSON; a tensor is ``{"ref": [call, index]}``, a mapping ``{"map": {…}}``."""
    if isinstance(value, Ref):
        return {"ref": [value.call, value.index]}
    if isinstance(value, Mask):
        return {"mask": [value.rule, _encode(list(value.parts)), value.value]}
    if isinstance(value, (list, tuple)):
        return [_encode(part) for part in cast("list[Any]", value)]
    if isinstance(value, Mapping):
        return {"map": {str(name): _encode(part) for name, part in cast("Mapping[str, Any]", value).items()}}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(part) for part in cast("list[Any]", value)]
    if isinstance(value, dict):
        entry = cast("dict[str, Any]", value)
        if "ref" in entry:
            return Ref(*entry["ref"])
        if "mask" in entry:
            rule, parts, number = entry["mask"]
            return Mask(rule, tuple(_decode(parts)), number)
        return {name: _decode(part) for name, part in entry["map"].items()}
    return value
