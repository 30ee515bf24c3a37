"""A network's arrays as a file of arrays alone: ``.npz``, ``.safetensors`` or a folder of ``.npy``, in any layout.

Names say layer and array, so that whatever reads NumPy or safetensors finds a kernel without cnnlens. Arrays are read
and written one at a time.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout as layouts
from cnnlens.errors import CnnlensError
from cnnlens.files.torch.write_safetensors import Tensor, write_safetensors
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.output import file_name, new_folder, replacing
from cnnlens.page import Page, Table
from cnnlens.text import harmless, printable

__all__ = ["LAYOUTS", "Export", "Exported", "as_json", "as_page", "export"]

_HALVES = ("depthwise_kernel", "pointwise_kernel")  # of one layer in Keras, for which PyTorch has two
LAYOUTS = ("stored", "torch", "keras", "canonical")


@dataclass(frozen=True)
class Exported:
    """Describes an array that was written.

    Attributes:
        name: Its name in the file; ``file``: that of its ``.npy`` in a folder, else empty.
        layer, weight: The layer's name, and the array's in it.
        axes: The letters of its axes as it was written, such as ``OIHW``.
        shape, dtype: As it was written; ``stored_dtype``: its type in the model's file.
    """

    name: str
    file: str
    layer: str
    weight: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    stored_dtype: str


@dataclass(frozen=True)
class Export:
    """Says what ``export`` wrote: where, in which layout, which arrays, and what else there is to know."""

    path: Path
    layout: str
    arrays: tuple[Exported, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """An array that is to be written: how it is read in the wanted layout, and as what."""

    weight: Weight
    layout: str
    described: Exported

    def read(self) -> NDArray[Any]:
        weight = self.weight
        if self.layout in ("stored", weight.framework):
            return weight.read()
        if self.layout == "canonical":
            return weight.canonical()
        return layouts.arrange(weight.kind, weight.role, weight.canonical(), self.layout, weight.geometry)


def export(network: Network, path: str | Path, layers: Sequence[Layer] | None = None, layout: str = "stored") -> Export:
    """Write the arrays of a network, whole or not at all.

    Args:
        path: ``.npz``, ``.safetensors``, or without a suffix a folder that is not there yet, for an ``.npy`` each and
            an ``index.json``.
        layers: Which layers' arrays; None for all.
        layout: Whose axes: ``torch``, ``keras``, ``canonical`` (``out, in / groups, *spatial``), or ``stored`` for
            those of the file. With ``torch`` names are ``layer.weight``, else ``layer/kernel``.

    Raises:
        CnnlensError: nothing to write, an array that the framework or the format has not, or a place that cannot be
            written; nothing is left then.

    >>> import cnnlens.sample
    >>> from cnnlens.conversion.exporting import export
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> written = export(net, "kernels.npz", layers=[net["conv2d"]], layout="torch")
    >>> [(one.name, one.axes, one.shape) for one in written.arrays]
    [('conv2d.weight', 'OIHW', (32, 1, 3, 3)), ('conv2d.bias', 'O', (32,))]
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in ("", ".npz", ".safetensors") and not target.is_dir():
        raise CnnlensError(
            f"{printable(path, 300)}: arrays go into .npz, .safetensors or a folder; end the name in one of the two, "
            "or give it no ending"
        )
    if layout not in LAYOUTS:
        raise CnnlensError(f"no layout '{printable(layout)}'; there are {', '.join(LAYOUTS)}")
    entries = list(_entries(network, network.layers if layers is None else layers, layout, suffix))
    if not entries:
        raise CnnlensError(f"{printable(network.source.path, 300)}: these layers have no array; name others")
    if suffix == ".safetensors":
        tensors = {
            entry.described.name: Tensor(entry.described.dtype, entry.described.shape, entry.read) for entry in entries
        }
        with replacing(target) as part:
            write_safetensors(part, tensors)
    elif suffix == ".npz":
        with replacing(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for entry in entries:
                member = zipfile.ZipInfo(f"{entry.described.name}.npy")  # of 1980: the same arrays, the same bytes
                with archive.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asanyarray(entry.read()), allow_pickle=False)
    else:
        with new_folder(target) as folder:
            for entry in entries:
                np.save(folder / entry.described.file, entry.read(), allow_pickle=False)
            index = {"layout": layout, "arrays": [_described(entry.described) for entry in entries]}
            (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    arrays = tuple(entry.described for entry in entries)
    return Export(target, layout, arrays, tuple(_notes(arrays, network.layers if layers is None else layers)))


def _notes(arrays: Sequence[Exported], layers: Sequence[Layer]) -> Iterator[str]:
    others = sorted({one.stored_dtype for one in arrays if _type(one.stored_dtype) != one.dtype})
    if others:
        count = sum(one.stored_dtype in others for one in arrays)
        here = ", ".join(sorted({one.dtype for one in arrays if one.stored_dtype in others}))
        yield f"{count} of {len(arrays)} arrays are {', '.join(others)} in the file, and {here} here, as NumPy can"
    packed = sum("kernel_scale" in layer.stored for layer in layers)  # as Keras quantises; PyTorch's are read unpacked
    if packed:
        yield f"{packed} of {len(layers)} layers hold packed numbers, written as they are stored"


def _type(stored: str) -> str:
    try:
        return np.dtype(stored).name
    except TypeError:  # NumPy has no bfloat16
        return stored


def _entries(network: Network, layers: Sequence[Layer], layout: str, suffix: str) -> Iterator[_Entry]:
    taken: set[str] = set()
    files: set[str] = {"index.json"}
    for layer in layers:
        names = [_name(weight, layout) for weight in layer.stored.values()]
        for weight, own in zip(layer.stored.values(), names, strict=True):
            separator = "." if "torch" in (layout, weight.framework if layout == "stored" else "") else "/"
            own = own if names.count(own) == 1 else weight.name  # the levels of a recurrent layer have roles in common
            path = layer.name.replace("/", separator) if separator == "." else layer.name
            name = _unique(harmless(f"{path}{separator}{own}" if path else own), taken)
            if suffix == ".npz":  # a member's name is a path to whoever unpacks the archive
                name = "/".join("_" if part.strip(".") == "" else part for part in name.replace("\\", "_").split("/"))
            file = _unique(f"{file_name(name)}.npy", files) if suffix not in (".npz", ".safetensors") else ""
            axes, shape = _axes(network, layer, weight, layout)
            stored = weight.stored.stored_dtype
            dtype = "bfloat16" if stored == "bfloat16" and suffix == ".safetensors" else weight.stored.dtype.name
            yield _Entry(weight, layout, Exported(name, file, layer.name, weight.name, axes, shape, dtype, stored))


def _name(weight: Weight, layout: str) -> str:
    """What an array is called beside its layer: by PyTorch, or by its role; as the file has it where it is the same."""
    if layout in ("stored", weight.framework) or (layout == "canonical" and weight.framework == "keras"):
        return weight.name
    if layout == "torch":
        names = {role: name for name, role in layouts.roles_in("torch", layouts.resolve_kind(weight.kind)).items()}
        own = names.get(weight.role, weight.role)
        return ".".join([*weight.owner, own if own.isidentifier() and weight.role not in _HALVES else weight.role])
    return weight.role


def _unique(name: str, taken: set[str]) -> str:
    """``name``, or with a number behind it where it is taken already."""
    stem, dot, suffix = name.rpartition(".npy") if name.endswith(".npy") else (name, "", "")
    found, number = name, 1
    while found.lower() in taken:  # folders of some systems do not tell letters' case
        found, number = f"{stem}:{number}" if not dot else f"{stem}-{number}{dot}{suffix}", number + 1
    taken.add(found.lower())
    return found


def _axes(network: Network, layer: Layer, weight: Weight, layout: str) -> tuple[str, tuple[int, ...]]:
    if layout in ("stored", weight.framework):
        return weight.stored_axes, tuple(weight.stored.shape)
    if layout == "canonical":
        return weight.canonical_axes, weight.canonical_shape
    try:
        shape = layouts.arranged_shape(weight.kind, weight.role, weight.canonical_shape, layout, weight.geometry)
        return layouts.stored_axes(weight.kind, weight.role, layout, weight.geometry, len(shape)), shape
    except CnnlensError as error:
        raise CnnlensError(
            f"{printable(network.source.path, 300)}: {layer.shown}: {error}; leave that layer out with --layers, or "
            "write --layout canonical"
        ) from None


def _described(one: Exported) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": one.name,
        "layer": one.layer,
        "weight": one.weight,
        "axes": one.axes,
        "shape": list(one.shape),
        "dtype": one.dtype,
        "stored_dtype": one.stored_dtype,
    }
    return data | {"file": one.file} if one.file else data


def as_json(written: Export) -> dict[str, Any]:
    """Give what was written as plain data."""
    return {
        "path": str(written.path),
        "layout": written.layout,
        "arrays": [_described(one) for one in written.arrays],
        "notes": list(written.notes),
    }


def as_page(written: Export) -> Page:
    """Write what was written for people: a row an array, what else there is to know, and the place."""
    rows = [["array", "axes", "shape", "type"]]
    rows += [[printable(one.name), one.axes, str(one.shape), one.dtype] for one in written.arrays]
    notes = [f"note: {note}" for note in written.notes]
    count = len(written.arrays)
    return Page([
        Table(rows), *notes, f"wrote {count} array{'s' * (count != 1)} to {printable(written.path, 300)}"
    ])  # fmt: skip
