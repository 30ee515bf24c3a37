"""A conversion, or a transfer of weights, as text and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnlens.checking import listing as check_listing
from cnnlens.page import Page, Table
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.checking.twins import Twins
    from cnnlens.conversion.converter import Conversion
    from cnnlens.conversion.into import Transfer

__all__ = ["as_json", "as_page", "transfer_json", "transfer_page"]


def as_json(made: Conversion) -> dict[str, Any]:
    """Give a conversion as plain data, its proof with it."""

    return {
        "model": str(made.source.source.path),
        "from": made.source.source.framework,
        "to": made.framework,
        "files": [str(path) for path in made.files],
        "arrays_equal": made.arrays,
        "notes": list(made.notes),
        "proof": check_listing.twins_json(made.twins),
    }


def as_page(made: Conversion) -> Page:
    """Say the same for people."""
    from cnnlens.conversion.converter import TITLES

    source = made.source.source
    found = made.twins
    lines = [
        f"{printable(source.path, 300)} ({TITLES[source.framework]}, {len(made.source.layers)} layers) "
        f"to {TITLES[made.framework]}"
    ]
    lines += [f"  {line}" for line in _outputs(found)]
    checked = found.checks[1]
    lines += [f"  float32: {run.label}: {check_listing.sentence(checked, run)}" for run in checked.runs
              if run.backend != "reference"]  # fmt: skip
    lines.append(f"  weights: {made.arrays} arrays hold the original's numbers bit for bit")
    lines += [f"  note: {printable(note, 300)}" for note in made.notes]
    lines.append("wrote " + ", ".join(printable(path, 300) for path in made.files))
    return Page(lines)


def transfer_json(made: Transfer) -> dict[str, Any]:
    """Give a transfer of weights as plain data, its proof with it where there is one."""
    from cnnlens.checking.twins import Twins

    proof: dict[str, Any] | None = None
    if made.proof is not None:
        proof = (
            check_listing.twins_json(made.proof) if isinstance(made.proof, Twins) else check_listing.as_json(made.proof)
        )
    return {
        "model": str(made.source.source.path),
        "target": str(made.target.source.path),
        "file": str(made.written.path),
        "pairs": [
            {"source": pair.source.name, "target": pair.target.name, "how": pair.how}
            for pair in made.written.applied.matching.pairs
        ],
        "notes": list(made.written.notes),
        "proof": proof,
    }


def transfer_page(made: Transfer) -> Page:
    """Say the same for people."""
    from cnnlens.checking.twins import Twins

    rows = [["from", "into", "paired by"]]
    rows += [
        [printable(pair.source.name, 40), printable(pair.target.name, 40), pair.how]
        for pair in made.written.applied.matching.pairs
    ]
    lines: list[str | Table] = [Table(rows), ""]
    if isinstance(made.proof, Twins):
        lines += _outputs(made.proof)
    elif made.proof is not None:
        lines += check_listing.sentences(made.proof)
        lines.append("the model that the weights came from has no graph, so the two could not be run side by side")
    else:
        lines.append(
            "a state dict has no graph, so nothing could be run; to have it proved name the code that it is for as "
            "TARGET: file.py:Class"
        )
    lines += [f"note: {printable(note, 300)}" for note in made.written.notes]
    lines.append(f"wrote {printable(made.written.path, 300)}")
    return Page(lines)


def _outputs(found: Twins) -> list[str]:
    named = [" and ".join(f"'{printable(name, 40)}'" for name in one.names) for one in found.outputs]
    return [
        f"float64: {names} are {one.apart or 0.0:.2g} of their largest value apart"
        for names, one in zip(named, found.outputs, strict=True)
    ]
