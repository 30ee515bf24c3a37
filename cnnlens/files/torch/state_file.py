"""A file of PyTorch's arrays as the rest of the package sees it: names, arrays not read yet, and remarks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlens.files.arrays import StoredArray
from cnnlens.files.limits import remarks
from cnnlens.files.model_file import SourceFile
from cnnlens.network.graph import Extra
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.files.torch.module_tree import Module

__all__ = ["TorchFile", "by_name", "form_notes", "shown_names"]

_SHOWN = 4  # names in a remark
_OWN_ORDER = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class TorchFile(SourceFile):
    """Holds an opened file of PyTorch's arrays. Its index has been read, its arrays have not.

    Attributes (besides those of :class:`SourceFile`):
        format: "torch state dict", "torch module", either with "(legacy)", "torch script" or "safetensors".
        arrays: Name in the state dict (without the prefixes that ``notes`` name) to array, in the file's order. An
            array's ``place`` is its name in the file.
        ordered: Whether that order is the model's own, as far as the format keeps it.
        left_out: Tensors that are no plain arrays of real numbers: name to a word on why.
        tree: The modules that hold the arrays, where the file has them.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        arrays: Mapping[str, StoredArray],
        left_out: Mapping[str, str],
        notes: Sequence[str],
        pieces: Sequence[tuple[str, memoryview]],
        verify: Sequence[Callable[[], None]] = (),
        *,
        ordered: bool = True,
        tree: Module | None = None,
        also: Sequence[Extra] = (),
    ) -> None:
        super().__init__(path, format, "torch", notes, pieces, verify, also=lambda: also)
        self.arrays = arrays
        self.left_out = left_out
        self.ordered = ordered
        self.tree = tree

    def __repr__(self) -> str:
        return f"TorchFile({str(self.path)!r}, format={self.format!r}, arrays={len(self.arrays)})"


def shown_names(names: Iterable[str]) -> str:
    """Write the first few names for a remark: ``a, b, c, d and 12 more``."""
    listed = list(names)
    few = ", ".join(printable(name, 60) for name in listed[:_SHOWN])
    return few + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def form_notes(arrays: Mapping[str, StoredArray]) -> list[str]:
    """Write a note for each form that arrays are stored in and not shown in, and one on what complex ones show."""
    forms: dict[str, list[str]] = {}
    for name, array in arrays.items():
        if array.stored_dtype.lstrip("<>") not in (array.dtype.name, array.dtype.str[1:]):
            form, _, share = array.stored_dtype.rpartition(", ")  # of a sparse array, what is stored of it
            plain = f"{share}, shown as the {array.dtype.name} that it stands for"
            said = f"{form}, shown with its zeros" if form else plain
            forms.setdefault(said, []).append(f"{name} ({share})" if form else name)
    notes = [f"stored as {form}: {shown_names(names)}" for form, names in forms.items()]
    whole = [name for name, array in arrays.items() if array.dtype.kind == "c"]
    if whole:
        notes.append(f"of complex numbers, the statistics are of their magnitudes: {shown_names(whole)}")
    return [*remarks(notes)]


def by_name(arrays: Mapping[str, StoredArray]) -> dict[str, StoredArray]:
    """Sort arrays by their layers' names, numbers in them counted, and as torch lists a layer's own."""

    def place(key: str) -> tuple[list[tuple[bool, int, str]], int, str]:
        owner, _, name = key.rpartition(".")
        parts = re.split(r"(\d+)", owner)
        rank = _OWN_ORDER.index(name) if name in _OWN_ORDER else len(_OWN_ORDER)
        return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts], rank, name

    return {key: arrays[key] for key in sorted(arrays, key=place)}
