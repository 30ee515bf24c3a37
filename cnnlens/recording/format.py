"""What a Recording looks like on disk: a Zarr v3 group of plain chunk files, and the log that says which are done.

The metadata is written here by hand, because it is a page of JSON that a published format fixes, while importing a Zarr
library costs more than a quick check. Any Zarr v3 reader and ``xarray.open_zarr`` read what this makes.
https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any, cast

import numpy as np

from cnnlens.text import harmless, printable

__all__ = [
    "FORMAT", "LOG", "METADATA", "PARTS", "Description", "array_metadata", "array_names", "chunk_name",
    "dimension_names", "dumps", "group_metadata", "header_line", "log_line", "read_log",
]  # fmt: skip

FORMAT = 1
METADATA = "zarr.json"
LOG = "log.jsonl"
PARTS = ".parts"  # files that are being written; never there in a finished recording

_HEADER = b'{"recording": '
_LONGEST_LINE = 256 << 20
_LONGEST_NAME = 80
# Names that a file system, Zarr or the layout above takes for itself.
_TAKEN = frozenset(
    [
        *("sample", METADATA, LOG, "con", "prn", "aux", "nul"),
        *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
    ]
)
_SPATIAL = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True)
class Description:
    """Says what made a recording: everything that must be the same for a killed run to go on.

    Attributes:
        model: ``file`` (its name alone), ``sha256`` of the file, ``network_hash`` of graph, configs and weights.
        sources: What the inputs came from, in order: name and number of examples, for each input of the network.
        input_notes: What was understood and done to the inputs, in words.
        inputs_sha256: Of the canonical inputs, C order, example by example; None until the recording is complete.
        backend, versions, device, precision: What ran: ``device`` is the one that really did.
        batch: How many examples a batch and a chunk hold.
        count: How many examples there are.
        tensors: What is recorded, in the network's order, inputs first.
        inputs: Which of them are the network's inputs, in its order.
        weights: A line for each array that the backend holds otherwise than the file; None where it was not asked.
        notes: Remarks for the person.
        reduction: What is kept of each computed tensor instead of all of it (``cnnlens.backend.reductions``).
        reduced: Of which tensors: those with spatial axes and a row for each input.
        store: ``float16`` where the values are kept in that, whatever they were computed in.
        complete: Whether all of it is there.
    """

    model: Mapping[str, str]
    sources: Mapping[str, Sequence[tuple[str, int]]]
    input_notes: Sequence[str]
    backend: str
    versions: Mapping[str, str]
    device: str
    precision: str
    batch: int
    count: int
    tensors: Sequence[str]
    inputs: Sequence[str]
    inputs_sha256: str | None = None
    weights: Sequence[str] | None = None
    notes: Sequence[str] = field(default=())
    reduction: str | None = None
    reduced: Sequence[str] = ()
    store: str | None = None
    complete: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give the description as the ``cnnlens`` attribute of the group."""
        return {
            "format": FORMAT,
            "complete": self.complete,
            "model": dict(self.model),
            "inputs": {
                "sha256": self.inputs_sha256,
                "tensors": list(self.inputs),
                "sources": {name: [list(one) for one in found] for name, found in self.sources.items()},
                "notes": list(self.input_notes),
            },
            "backend": self.backend,
            "versions": dict(self.versions),
            "device": self.device,
            "precision": self.precision,
            "batch": self.batch,
            "count": self.count,
            "tensors": list(self.tensors),
            "weights": None if self.weights is None else list(self.weights),
            "notes": list(self.notes),
            "reduction": self.reduction,
            "reduced": list(self.reduced),
            "store": self.store,
        }

    @classmethod
    def from_json(cls, data: Any) -> Description:
        """Read the ``cnnlens`` attribute of a group; what it says for people is made harmless, all but tensors' names.

        Raises:
            ValueError: it is none; says what is wrong.
        """
        if not isinstance(data, dict):
            raise ValueError("it was not written by cnnlens")
        found = cast("dict[str, Any]", data)
        if found.get("format") != FORMAT:
            raise ValueError(f"its format is {printable(found.get('format'), 20)}, and this cnnlens reads {FORMAT}")
        inputs = _typed(found, "inputs", dict)
        weights = found.get("weights")
        described = cls(
            model=_strings(_typed(found, "model", dict)),
            sources={
                name: tuple((harmless(str(one[0])), int(one[1])) for one in entries)
                for name, entries in _typed(inputs, "sources", dict).items()
            },
            input_notes=_lines(_typed(inputs, "notes", list)),
            backend=harmless(_typed(found, "backend", str)),
            versions=_strings(_typed(found, "versions", dict)),
            device=harmless(_typed(found, "device", str)),
            precision=harmless(_typed(found, "precision", str)),
            batch=_typed(found, "batch", int),
            count=_typed(found, "count", int),
            tensors=tuple(map(str, _typed(found, "tensors", list))),
            inputs=tuple(map(str, _typed(inputs, "tensors", list))),
            inputs_sha256=None if inputs.get("sha256") is None else str(inputs["sha256"]),
            weights=None if weights is None else _lines(_typed(found, "weights", list)),
            notes=_lines(_typed(found, "notes", list)),
            reduction=None if found.get("reduction") is None else harmless(_typed(found, "reduction", str)),
            reduced=tuple(map(str, _typed(found, "reduced", list))) if found.get("reduction") is not None else (),
            store=None if found.get("store") is None else harmless(_typed(found, "store", str)),
            complete=found.get("complete") is True,
        )
        if not {"file", "sha256", "network_hash"} <= described.model.keys():
            raise ValueError("it does not say which model was recorded")
        if described.batch < 1 or described.count < 1 or not described.tensors:
            raise ValueError(f"a batch of {described.batch}, {described.count} inputs, {len(described.tensors)} layers")
        return described

    @property
    def batches(self) -> int:
        return -(-self.count // self.batch)

    def samples(self, batch: int) -> int:
        """Say how many examples batch number ``batch`` has: the last may have fewer."""
        return min(self.batch, self.count - batch * self.batch)

    def difference(self, other: Description, done: int = 0) -> str | None:
        """Say why a run described by ``other`` cannot go on with this one; None where it can.

        Args:
            done: Where that many batches are recorded, and more were to be, other inputs may follow than would have.
        """
        if self.model["network_hash"] != other.model["network_hash"]:
            mine, its = self.model["network_hash"][:12], other.model["network_hash"][:12]
            return f"another model was recorded (its hash is {mine}…, this one's is {its}…)"
        head = done * self.batch
        alike = 0 < head < min(self.count, other.count) and _head(self.sources, head) == _head(other.sources, head)
        rows = (
            ("the backend", self.backend, other.backend),
            ("the versions", _shown(self.versions), _shown(other.versions)),
            ("the device", self.device, other.device),
            ("the precision", self.precision, other.precision),
            ("the number of inputs", *((0, 0) if alike else (self.count, other.count))),
            ("the batch", self.batch, other.batch),
            ("the reduction", self.reduction or "none", other.reduction or "none"),
            ("what is stored", self.store or "as it comes", other.store or "as it comes"),
            ("the recorded layers", _few(self.tensors), _few(other.tensors)),
            ("the inputs", *(("", "") if alike else (_few(_names(self.sources)), _few(_names(other.sources))))),
        )
        for what, mine, its in rows:
            if mine != its:
                return f"{what} then: {printable(mine, 200)}; now: {printable(its, 200)}"
        if (self.tensors, self.inputs) != (other.tensors, other.inputs) or not (alike or self.sources == other.sources):
            return "other layers or other inputs were recorded"
        return None

    def finished(self, inputs_sha256: str) -> Description:
        return replace(self, inputs_sha256=inputs_sha256, complete=True)


def _typed(data: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    value = data.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"its '{key}' is {printable(repr(value), 40)}")
    return value


def _strings(data: Mapping[str, Any]) -> dict[str, str]:
    return {harmless(str(name)): harmless(str(value)) for name, value in data.items()}


def _lines(found: Iterable[Any]) -> tuple[str, ...]:
    return tuple(harmless(str(one)) for one in found)


def _shown(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _names(sources: Mapping[str, Sequence[tuple[str, int]]]) -> list[str]:
    return [name if count == 1 else f"{name} ({count:,})" for found in sources.values() for name, count in found]


def _head(sources: Mapping[str, Sequence[tuple[str, int]]], count: int) -> dict[str, list[tuple[str, int]]]:
    """Where the first ``count`` inputs came from."""
    found: dict[str, list[tuple[str, int]]] = {}
    for tensor, entries in sources.items():
        left, found[tensor] = count, []
        for name, number in entries:
            if left > 0:
                found[tensor].append((name, min(number, left)))
            left -= number
    return found


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 40) for name in names[:3])
    return f"{len(names)}: {shown}" + (", …" if len(names) > 3 else "")


# -- names -----------------------------------------------------------------------------------------------------------


def array_names(tensors: Iterable[str]) -> dict[str, str]:
    """Name each tensor's array: a safe file name, unique on any file system, clashing with no dimension's name.

    >>> array_names(["conv2d", "outer/conv", "x[1]", "x", "sample", "CONV2D"])
    {'conv2d': 'conv2d', 'outer/conv': 'outer.conv', 'x[1]': 'x_1', 'x': 'x', 'sample': 'sample_', 'CONV2D': 'CONV2D_2'}
    """
    used: set[str] = set(_TAKEN)
    names: dict[str, str] = {}
    for tensor in tensors:
        joined = tensor[:400].replace("/", ".").replace("[", "_").replace("]", "")
        safe = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in joined)
        safe = safe.lstrip("._-")[:_LONGEST_NAME].rstrip(".") or "tensor"
        name, number = safe, 1
        while _claims(name) & used:
            number += 1
            name = safe + "_" if safe.lower() in _TAKEN and number == 2 else f"{safe}_{number}"
        used |= _claims(name)
        names[tensor] = name
    return names


def _claims(name: str) -> set[str]:
    """What no other array may be called: to xarray a variable with a dimension's name is that dimension's labels."""
    axes = ("channel", *(axis for names in _SPATIAL.values() for axis in names), *(f"axis{axis}" for axis in range(9)))
    return {name.lower(), *(f"{name}_{axis}".lower() for axis in axes)}


def dimension_names(name: str, rank: int) -> tuple[str, ...]:
    """Name axes ``("sample", "conv2d_channel", "conv2d_height", …)``: all arrays share the first alone."""
    spatial = _SPATIAL.get(rank - 2, tuple(f"axis{axis}" for axis in range(2, rank)))
    return ("sample", *(f"{name}_{axis}" for axis in ("channel", *spatial)))[:rank]


def chunk_name(batch: int, rank: int) -> str:
    """Name the file of a batch in an array's folder: ``c.3.0.0.0``."""
    return ".".join(["c", str(batch), *["0"] * (rank - 1)])


# -- metadata --------------------------------------------------------------------------------------------------------


def array_metadata(name: str, tensor: str, shape: tuple[int, ...], batch: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Make ``zarr.json`` of one array: chunks of one batch, uncompressed, axes named.

    What is not recorded yet reads as NaN where the dtype has one.
    """
    fill: Any = {"f": "NaN", "c": ["NaN", "NaN"], "b": False}.get(dtype.kind, 0)
    codec: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        codec["configuration"] = {"endian": "little"}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [batch, *shape[1:]]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": [codec],
        "attributes": {"cnnlens_name": tensor},
        "dimension_names": list(dimension_names(name, len(shape))),
        "storage_transformers": [],
    }


def group_metadata(description: Description, arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Make ``zarr.json`` of the group, the arrays' metadata inside, so that one file says all."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"cnnlens": description.to_json()},
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": dict(arrays)},
    }


def dumps(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=1, allow_nan=False).encode() + b"\n"


# -- the log ---------------------------------------------------------------------------------------------------------


def header_line(description: Description) -> bytes:
    """Write the first line of the log, there before anything else is: whose recording this is going to be."""
    return json.dumps({"recording": description.to_json()}, allow_nan=False).encode() + b"\n"


def log_line(batch: int, crc32: Mapping[str, int]) -> bytes:
    """Write the line that makes a batch recorded: the CRC-32 of its chunk of each array."""
    return json.dumps({"batch": batch, "crc32": dict(crc32)}).encode() + b"\n"


def read_log(stream: IO[bytes]) -> tuple[Description | None, list[dict[str, int]], list[int]]:
    """Read what a log says, as far as it can be followed: a kill may have cut its last line.

    Returns:
        The description (None where even that line is not whole), the checksums of batches 0, 1, …, and after how many
        bytes the first line and each of these ends.

    Raises:
        ValueError: the first line is something else; it is no log of ours.
    """
    head = _line(stream)
    if not head.endswith(b"\n"):
        if _HEADER.startswith(head[: len(_HEADER)]):
            return None, [], [0]
        raise ValueError("it does not begin as a log of cnnlens does")
    try:
        first = json.loads(head)
    except (ValueError, RecursionError):
        raise ValueError("its first line is no JSON") from None
    description = Description.from_json(first.get("recording") if isinstance(first, dict) else None)
    ends = [len(head)]
    batches: list[dict[str, int]] = []
    while (line := _line(stream)).endswith(b"\n"):
        try:
            entry = json.loads(line)
            if entry["batch"] != len(batches) or len(batches) >= description.batches:
                break
            batches.append({str(name): int(crc) for name, crc in entry["crc32"].items()})
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            break
        ends.append(ends[-1] + len(line))
    return description, batches, ends


def _line(stream: IO[bytes]) -> bytes:
    """The next line; less than that where it is too long or no text, as a hole in the file is none."""
    line = b""
    while len(line) < _LONGEST_LINE and (piece := stream.readline(1 << 16)):
        line += piece
        if piece.endswith(b"\n") or b"\0" in piece:
            break
    return line
