"""The table of layouts, printed: every kind in a line or two, or one kind in full with its traps."""

from __future__ import annotations

import textwrap
from typing import Any

from cnnlens.layout import FRAMEWORKS, KINDS, LEGEND, Convention, Description, describe
from cnnlens.text import columns

__all__ = ["as_json", "as_table"]

_TITLES = {"keras": "Keras", "torch": "PyTorch", "flax": "Flax", "onnx": "ONNX", "tflite": "TFLite"}


def as_json(kind: str | None = None) -> dict[str, Any]:
    """The table as plain data: ``{"legend": {letter: meaning}, "layouts": [{"kind", "weight", "canonical",
    "frameworks": {name: {"axes", "name", "from_keras", "to_keras", "reason"}}, "traps"}]}``.

    Raises:
        CnnlensError: there is no such kind; names the nearest.
    """
    return {"legend": dict(LEGEND), "layouts": [_row(one) for one in _described(kind)]}


def _described(kind: str | None) -> list[Description]:
    return [one for name in (KINDS if kind is None else (kind,)) for one in describe(name)]


def _row(one: Description) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "weight": one.weight,
        "condition": one.condition or None,
        "canonical": one.canonical,
        "frameworks": {
            c.framework: {
                "axes": c.axes,
                "flipped": list(c.flipped),
                "gates": c.gates or None,
                "name": c.name or None,
                "from_keras": c.numpy,
                "to_keras": c.numpy_back,
                "reason": c.reason,
            }
            for c in one.conventions
        },
        "traps": list(one.traps),
    }


def as_table(kind: str | None = None) -> str:
    """The same for people; a kind's own page has the NumPy lines and the traps too.

    Raises:
        CnnlensError: there is no such kind; names the nearest.
    """
    found = _described(kind)
    return _page(found) if kind is not None else _overview(found)


def _overview(found: list[Description]) -> str:
    rows = [["kind", "weight", "canonical", *(_TITLES[name] for name in FRAMEWORKS)]]
    last = ""
    for one in found:
        axes = [_axes(c) for c in one.conventions]
        # A vector that every framework stores alike (a bias, a gamma) is worth no line of its own.
        if last == one.kind and len({one.canonical, *axes}) == 1:
            continue
        if one.condition == "behind a Flatten" and not one.weight.endswith("kernel"):  # follows from the kernel's line
            continue
        rows.append([one.kind if one.kind != last else "", _name(one), one.canonical, *axes])
        last = one.kind
    used = {letter for row in rows[1:] for cell in row[2:] for letter in cell if letter in LEGEND}
    legend = ", ".join(f"{letter} {meaning}" for letter, meaning in LEGEND.items() if letter in used)
    notes = textwrap.wrap(f"{legend}; (…) one axis made of several, ~ stored backwards, - no such weight", 118)
    return "\n".join([*columns(rows), "", *notes, "", "cnnlens layouts KIND shows a kind in full, with its traps.", ""])


def _page(found: list[Description]) -> str:
    lines: list[str] = []
    for one in found:
        rows = [["", "name", "axes", "from Keras"], ["canonical", "", one.canonical, ""]]
        rows += [[_TITLES[c.framework], c.name, _axes(c), c.numpy or c.reason or ""] for c in one.conventions]
        lines += [f"{one.kind} {_name(one)}", *("  " + line for line in columns(rows)), ""]
    if found[0].traps:
        lines.append("traps")
        for trap in found[0].traps:
            lines += textwrap.wrap(trap, 116, initial_indent="  - ", subsequent_indent="    ")
        lines.append("")
    letters = {letter for one in found for c in one.conventions for letter in (c.axes or "") + one.canonical}
    meanings = [f"{letter} {meaning}" for letter, meaning in LEGEND.items() if letter in letters]
    return "\n".join([*lines, *textwrap.wrap(", ".join(meanings), 118), ""])


def _name(one: Description) -> str:
    return one.weight + (f" ({one.condition})" if one.condition else "")


def _axes(convention: Convention) -> str:
    """The axes as letters, a ``~`` after each that is stored backwards; a recurrent one's gates in their order."""
    if convention.axes is None:
        return "-"
    flipped = "".join(letter + ("~" if letter in convention.flipped else "") for letter in convention.axes)
    return (flipped or "one number") + (f" [{convention.gates}]" if convention.gates else "")
