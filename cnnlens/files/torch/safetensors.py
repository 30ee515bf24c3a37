"""Safetensors files: the header read by the format's own rules, the arrays mapped.

The safetensors library opens headers that name one tensor twice, and two readers may then show two different models; so
the header is read here (https://github.com/huggingface/safetensors, "Format"), more strictly than the library reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import StoredArray, check_shape
from cnnlens.files.container import open_file
from cnnlens.files.jsontext import decode, mapping
from cnnlens.files.limits import LIMITS, check_items, human_bytes
from cnnlens.files.torch.state_dict import bare_names, left_out_notes
from cnnlens.files.torch.state_file import TorchFile, by_name, form_notes
from cnnlens.files.torch.storages import check_name, plain_array
from cnnlens.network.graph import Extra
from cnnlens.text import printable

__all__ = ["is_index", "open_safetensors", "open_shards"]

_SAID = 12  # entries of the metadata that are shown
_AGAIN = "fetch the file again, or save it again with safetensors"

# Bits of an element and NumPy's code for it, and its name where it is widened; no code where it is not shown.
_DTYPES: Mapping[str, tuple[int, str, str]] = {
    "BOOL": (8, "?", ""),
    **{f"{sign}{bits}": (bits, f"{sign.lower()}{bits // 8}", "") for sign in ("I", "U") for bits in (8, 16, 32, 64)},
    **{f"F{bits}": (bits, f"f{bits // 8}", "") for bits in (16, 32, 64)},
    "BF16": (16, "u2", "bfloat16"),
    "F8_E4M3": (8, "u1", "float8_e4m3fn"),
    "F8_E8M0": (8, "u1", "float8_e8m0fnu"),
    **{f"F8_{name.upper()}": (8, "u1", f"float8_{name}") for name in ("e5m2", "e4m3fnuz", "e5m2fnuz")},
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), (6, "", "")),
    "F4": (4, "", ""),
    "C64": (64, "c8", ""),
}


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def open_safetensors(path: Path, data: memoryview) -> TorchFile:
    """Open one safetensors file.

    Raises:
        FileRefusedError: Its header breaks a rule of the format.
    """
    arrays, left_out, also = _read(path, data)
    return _file(path, arrays, left_out, [("", data)], also)


def _file(
    path: Path,
    arrays: dict[str, StoredArray],
    left_out: dict[str, str],
    pieces: list[tuple[str, memoryview]],
    also: Sequence[Extra],
) -> TorchFile:
    if not arrays and not left_out:
        raise FileRefusedError(path, "", "it holds no tensors", "save a state dict with safetensors.torch.save_file")
    bare, wrappers = bare_names(arrays)
    notes = [*wrappers, *form_notes(bare), *left_out_notes(left_out)]
    ordered = not _is_alphabetical(bare)
    if not ordered:
        bare = by_name(bare)
        notes.append("safetensors sorts its tensors by name, so the layers' order is that of their names")
    return TorchFile(path, "safetensors", bare, left_out, notes, pieces, ordered=ordered, also=also)


def _is_alphabetical(arrays: Mapping[str, StoredArray]) -> bool:
    """Whether the tensors of each type stand in the order of their names, as the library writes them."""
    by_type: dict[str, list[str]] = {}
    for name, array in arrays.items():
        by_type.setdefault(array.stored_dtype, []).append(name)
    return all(names == sorted(names) for names in by_type.values())


def _read(path: Path, data: memoryview) -> tuple[dict[str, StoredArray], dict[str, str], list[Extra]]:
    header, start = _header(path, data)
    also: list[Extra] = []
    metadata = header.pop("__metadata__", None)
    if metadata is not None:
        _check_metadata(path, metadata)
        shown = [f"{printable(key, 40)} = {printable(value, 60)}" for key, value in metadata.items()]
        more = f" and {len(shown) - _SAID} more" if len(shown) > _SAID else ""
        if shown and metadata != {"format": "pt"}:
            also.append(Extra("metadata", ", ".join(shown[:_SAID]) + more))
    check_items(path, len(header), "tensors", len(data))
    entries = _entries(path, header, len(data) - start)
    arrays: dict[str, StoredArray] = {}
    left_out: dict[str, str] = {}
    for entry in entries:
        code, stored_dtype = _DTYPES[entry.dtype][1:]
        if not code:
            left_out[entry.name] = entry.dtype
            continue
        arrays[entry.name] = _array(entry, np.dtype("<" + code), stored_dtype, data[start + entry.start :])
    return arrays, left_out, also


def _array(entry: _Entry, raw_type: np.dtype[Any], stored_dtype: str, piece: memoryview) -> StoredArray:
    return plain_array(
        entry.shape,
        raw_type,
        stored_dtype,
        entry.name,
        lambda: np.frombuffer(piece, raw_type, math.prod(entry.shape)).reshape(entry.shape),
    )


def _header(path: Path, data: memoryview) -> tuple[dict[str, Any], int]:
    """The header's JSON object and where the tensors' bytes begin."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise FileRefusedError(
            path, "header", f"{human_bytes(length)} declared, the file has {human_bytes(len(data))}", _AGAIN
        )
    if length > LIMITS.json_bytes:
        raise FileRefusedError(
            path, "header", f"{human_bytes(length)}, {human_bytes(LIMITS.json_bytes)} at most", _AGAIN
        )
    text = bytes(data[8 : 8 + length])
    if text[:1] != b"{":
        raise FileRefusedError(path, "header", "it does not begin with {", _AGAIN)
    return decode(path, "header", text, unique=True), 8 + length


def _check_metadata(path: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in cast("dict[str, Any]", metadata).values()
    ):
        raise FileRefusedError(path, "header: __metadata__", "no mapping of text to text", _AGAIN)


def _entries(path: Path, header: Mapping[str, Any], available: int) -> list[_Entry]:
    """Every tensor in the order of its bytes, which must follow on each other and reach to the end of the file."""
    entries = sorted(
        (_entry(path, name, value) for name, value in header.items()), key=lambda each: (each.start, each.end)
    )
    at = 0
    for entry in entries:
        if entry.start != at:
            what = (
                "overlaps the tensor before it"
                if entry.start < at
                else f"{entry.start - at:,} bytes before it belong to none"
            )
            raise FileRefusedError(path, entry.name, what, _AGAIN)
        at = entry.end
    if at != available:
        what = f"the tensors end after {at:,} bytes, the file after {available:,}"
        raise FileRefusedError(path, "", what, _AGAIN)
    order = {name: place for place, name in enumerate(header)}
    return sorted(entries, key=lambda each: order[each.name])


def _entry(path: Path, name: str, value: Any) -> _Entry:
    check_name(path, name)
    entry = mapping(value)
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FileRefusedError(path, name, "an entry without dtype, shape or data_offsets, or with more", _AGAIN)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FileRefusedError(path, name, f"the dtype {printable(dtype, 40)}, which safetensors does not have", _AGAIN)
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FileRefusedError(path, name, "a shape or offsets that are no sizes", _AGAIN)
    if len(shape) > LIMITS.tensor_dimensions:
        raise FileRefusedError(path, name, f"{len(shape)} axes, {LIMITS.tensor_dimensions} at most", _AGAIN)
    bits = math.prod(shape) * _DTYPES[dtype][0]
    if bits != 8 * (offsets[1] - offsets[0]):
        raise FileRefusedError(
            path,
            name,
            f"shape {printable(tuple(shape), 100)} of {dtype} takes {bits // 8:,} bytes, "
            f"it has {offsets[1] - offsets[0]:,}",
            _AGAIN,
        )
    check_shape(path, name, cast("list[int]", shape), _AGAIN)
    return _Entry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(each) is int and 0 <= each < 1 << 63 for each in cast("list[Any]", value)
    )


# --- several files --------------------------------------------------------------------------------------------------


def is_index(decoded: Mapping[str, Any]) -> bool:
    """Tell whether a JSON object lists safetensors shards, as ``model.safetensors.index.json`` does."""
    files = mapping(decoded.get("weight_map")).values()
    return bool(files) and all(isinstance(file, str) and file.endswith(".safetensors") for file in files)


def open_shards(path: Path, data: memoryview) -> TorchFile:
    """Open the shards that a ``.safetensors.index.json`` lists, which lie beside it."""
    listed = mapping(decode(path, "", bytes(data), unique=True).get("weight_map"))
    names = sorted(set(cast("list[str]", list(listed.values()))))
    if len(names) > LIMITS.shards:
        raise FileRefusedError(path, "", f"{len(names)} shards, {LIMITS.shards} at most", _AGAIN)
    arrays: dict[str, StoredArray] = {}
    left_out: dict[str, str] = {}
    also: list[Extra] = []
    pieces: list[tuple[str, memoryview]] = [(path.name, data)]
    for name in names:
        if name in (".", "..") or "/" in name or "\\" in name or "\x00" in name:
            raise FileRefusedError(path, name, "a shard that does not lie beside its list", _AGAIN)
    shards = {name: open_file(path.parent / name) for name in names}
    for name, shard in shards.items():
        found, opaque, extras = _read(path.parent / name, shard)
        pieces.append((name, shard))
        also += [one for one in extras if one not in also]
        for key in (*found, *opaque):
            if listed.get(key) != name:
                raise FileRefusedError(path, key, f"in {printable(name)}, where the list says otherwise", _AGAIN)
        arrays |= found
        left_out |= opaque
        check_items(path, len(arrays) + len(left_out), "tensors", sum(len(piece) for _, piece in pieces))
    lacking = [key for key in listed if key not in arrays and key not in left_out]
    if lacking:
        raise FileRefusedError(path, lacking[0], "listed, and in none of the shards", _AGAIN)
    ordered = {key: arrays[key] for key in listed if key in arrays}
    return _file(path, ordered, left_out, pieces, also)
