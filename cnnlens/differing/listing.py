"""A diff as a table, a verdict, and plain data.

Lines of NumPy in the table leave long lists out and say their first entries below; the data has them whole, ready to
run.
"""

from __future__ import annotations

from typing import Any, Protocol

from cnnlens.differing.cause import tag_of, text_of
from cnnlens.differing.proof import Line
from cnnlens.differing.rows import ArrayRow, Row
from cnnlens.network.network import Network
from cnnlens.text import columns, finite_or_null, printable

__all__ = ["as_json", "as_table"]


class Compared(Protocol):
    """What is said of two models: see ``cnnlens.differing.result.Diff``, which says it."""

    @property
    def a(self) -> Network: ...
    @property
    def b(self) -> Network: ...
    @property
    def rows(self) -> tuple[Row, ...]: ...
    @property
    def verdict(self) -> tuple[str, ...]: ...
    @property
    def activations(self) -> Any: ...
    @property
    def equal(self) -> bool: ...


def as_json(diff: Compared) -> dict[str, Any]:
    """Give the diff as plain data.

    ``{"equal", "verdict", "a": {...}, "b": {...}, "rows": [{"a", "b", "status", "explanation", "line", "arrays": [...]}
    ], "activations"}``. A line's ``text`` runs where ``np``, B's array and the lists of ``names`` are known;
    ``executable`` has the lists written out. An array's ``finding`` is what its words say, as fields: the status, and
    each cause with its kind, what it is of and its numbers.
    """
    return {
        "equal": diff.equal,
        "verdict": list(diff.verdict),
        "a": _model(diff.a),
        "b": _model(diff.b),
        "rows": [_row(row) for row in diff.rows],
        "activations": None if diff.activations is None else diff.activations.to_json(),
    }


def _model(network: Network) -> dict[str, Any]:
    source = network.source
    return {
        "file": str(source.path),
        "name": network.name,
        "format": source.format,
        "framework": source.framework,
        "parameters": network.parameters,
        "notes": list(network.notes),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "a": row.a,
        "b": row.b,
        "kind_a": row.kind_a or None,
        "kind_b": row.kind_b or None,
        "paired_by": row.how or None,
        "status": row.status,
        "explanation": row.explanation,
        "line": _line(row.line),
        "arrays": [_array(one) for one in row.arrays],
        "notes": list(row.notes),
    }


def _array(one: ArrayRow) -> dict[str, Any]:
    finding = one.finding
    near = finding.kinship
    return {
        "role": one.role,
        "a": one.a,
        "b": one.b,
        "shape_a": None if one.shape_a is None else list(one.shape_a),
        "shape_b": None if one.shape_b is None else list(one.shape_b),
        "axes_a": one.axes_a or None,
        "axes_b": one.axes_b or None,
        "status": finding.status,
        "tag": finding.tag or None,
        "explanation": finding.text,
        "finding": finding.to_json(),
        "residual": finite_or_null(finding.residual),
        "correlation": None if near is None else finite_or_null(near.correlation),
        "distance": None if near is None else finite_or_null(near.distance),
        "possible": [{"tag": tag_of(one), "explanation": text_of(one)} for one in finding.possible],
        "also": [{"tag": tag_of(one), "explanation": text_of(one)} for one in finding.also],
        "line": _line(finding.line),
        **({"detail": dict(finding.detail)} if finding.detail else {}),
    }


def _line(line: Line | None) -> dict[str, Any] | None:
    if line is None:
        return None
    return {"text": line.text, "names": dict(line.names), "executable": line.executable, "holds": line.held}


def as_table(diff: Compared) -> str:
    """Write the diff for people: the verdict, then a row a layer, with the line that turns B's array into A's."""
    lines = [f"A: {_shown(diff.a)}", f"B: {_shown(diff.b)}"]
    lines += [f"note on {side}: {printable(note, 300)}" for side, one in (("A", diff.a), ("B", diff.b))
              for note in one.notes]  # fmt: skip
    lines += ["", *(printable(sentence, 600) for sentence in diff.verdict)]
    if diff.activations is None and diff.a.calls and diff.b.calls:
        lines.append("weights alone were compared; --inputs random compares what both compute")
    lines.append("")
    rows = [["A", "B", "what explains it", "NumPy: A from B"]]
    below: list[str] = []
    for row in diff.rows:
        rows += _cells(row)
        for one in row.arrays:
            if one.finding.line is not None and one.finding.line.names:
                name = printable(row.a or row.b, 40)
                below.append(f"{name} {printable(one.role, 20)}: {printable(one.finding.line.abbreviated, 200)}")
    if not diff.rows:
        rows.append(["", "", "neither model holds arrays", ""])
    lines += columns(rows)
    if below:
        lines += ["", *below, "(--json has the lists whole)"]
    if diff.activations is not None:
        lines += ["", *diff.activations.lines()]
    return "\n".join([*lines, ""])


def _shown(network: Network) -> str:
    source = network.source
    version = f" {printable(source.keras_version, 20)}" if source.keras_version else ""
    return f"{printable(source.path, 300)} · {source.framework}{version} · {network.parameters:,} parameters"


def _cells(row: Row) -> list[list[str]]:
    head = [printable(row.a, 40) if row.a is not None else "-", printable(row.b, 40) if row.b is not None else "-"]
    if row.how == "values":
        head[1] += " (by values)"
    told = [one for one in row.arrays if not one.finding.plain]
    if row.a is None or row.b is None or not told:
        return [[*head, row.explanation, _text(row.line)]]
    groups: dict[tuple[str, str], list[str]] = {}
    for one in told:
        groups.setdefault((one.finding.text, _text(one.finding.line)), []).append(one.role)
    several = len(row.arrays) > 1
    cells: list[list[str]] = []
    for (text, line), roles in groups.items():
        said = f"{', '.join(printable(role, 30) for role in roles)}: {text}" if several else text
        cells.append([*(head if not cells else ["", ""]), printable(said, 200), line])
    return cells


def _text(line: Line | None) -> str:
    if line is None:
        return ""
    exact = "" if line.held == "bit for bit" else f"  # {line.held}"
    return printable(line.text, 160) + exact
