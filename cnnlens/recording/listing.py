"""A recording as text and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.recording.recording import Recording

__all__ = ["as_json", "as_page"]


def as_json(recording: Recording) -> dict[str, Any]:
    """Give what made a recording and what is in it as plain data."""
    info = dict(recording.info)
    return {
        "recording": str(recording.path),
        "recording_format": info.pop("format"),
        **info,
        "arrays": {
            name: {"array": one.array_name, "shape": list(one.shape), "dtype": one.dtype.name}
            for name, one in recording.items()
        },
        "bytes": sum(one.nbytes for one in recording.values()),
    }


def as_page(recording: Recording) -> Page:
    """Say the same for people: what ran, a row a layer, how large it is."""
    info = recording.description
    versions = ", ".join(f"{printable(name)} {printable(version)}" for name, version in info.versions.items())
    rows = [("layer", "array", "shape", "dtype")]
    rows += [(printable(name, 40), one.array_name, str(one.shape), one.dtype.name) for name, one in recording.items()]
    return Page([
        f"{recording.count:,} inputs through {printable(info.backend)} on {printable(info.device)}, "
        f"{printable(info.precision)} precision ({versions})",
        *(f"  {printable(note, 300)}" for note in (*info.input_notes, *info.notes)),
        *([f"  reduced to {printable(info.reduction)}: {len(info.reduced)} of {len(info.tensors)} arrays"]
           if info.reduction is not None else []),
        *([f"  floats are stored as {printable(info.store)}"] if info.store is not None else []),
        *(Toned(f"  warning: {printable(line, 300)}", Tone.DOUBT) for line in info.weights or ()),
        "",
        Table(rows),
        "",
        f"recorded {sum(one.nbytes for one in recording.values()) / 1e6:,.1f} MB to {printable(recording.path, 300)}",
    ])  # fmt: skip
