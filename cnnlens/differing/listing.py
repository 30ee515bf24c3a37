"""A diff as a table, a verdict, and plain data; every sentence about a finding is made here, and none is read again.

Lines of NumPy in the table leave long lists out and say their first entries below; the data has them whole, ready to
run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnlens.differing.cause import Kind, Status, tag_of
from cnnlens.differing.consensus import Outcome, Statement
from cnnlens.differing.investigation import Compared, PartPair
from cnnlens.differing.items import Item
from cnnlens.differing.maps import Activations, Own, Parting, Standing
from cnnlens.differing.proof import Line
from cnnlens.differing.result import Diff
from cnnlens.differing.rows import ArrayDiff, LayerDiff
from cnnlens.differing.wording import brief, epsilon, said
from cnnlens.network.network import Network
from cnnlens.page import Code, Page, Table, Tone, Toned
from cnnlens.text import finite_or_null, printable

__all__ = ["as_json", "as_page", "explanation", "feature_maps", "layer", "verdict"]


def as_json(diff: Diff) -> dict[str, Any]:
    """Give the diff as plain data.

    ``{"equal", "verdict", "a": {...}, "b": {...}, "rows": [{"a", "b", "status", "explanation", "line", "arrays": [...]}
    ], "activations"}``. A line's ``text`` runs where ``np``, B's array and the lists of ``names`` are known;
    ``executable`` has the lists written out. An array's ``finding`` is what its words say, as fields: the status, and
    each cause with its kind, what it is of and its numbers; ``statements`` is what the verdict says, as fields.
    """
    return {
        "equal": diff.equal,
        "verdict": list(diff.verdict),
        "statements": [one.to_json() for one in diff.statements],
        "a": _model(diff.a),
        "b": _model(diff.b),
        "rows": [_row(row) for row in diff.rows],
        "activations": None if diff.activations is None else _feature_maps_json(diff.activations),
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


def _row(row: LayerDiff) -> dict[str, Any]:
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


def _array(one: ArrayDiff) -> dict[str, Any]:
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
        "explanation": one.explanation,
        "finding": finding.to_json(),
        "residual": finite_or_null(finding.residual),
        "correlation": None if near is None else finite_or_null(near.correlation),
        "distance": None if near is None else finite_or_null(near.distance),
        "possible": [{"tag": tag_of(one), "explanation": said(one)} for one in finding.possible],
        "also": [{"tag": tag_of(one), "explanation": said(one)} for one in finding.also],
        "line": _line(finding.line),
        **({"detail": dict(finding.detail)} if finding.detail else {}),
    }


def _line(line: Line | None) -> dict[str, Any] | None:
    if line is None:
        return None
    return {"text": line.text, "names": dict(line.names), "executable": line.executable, "holds": line.held}


def as_page(diff: Diff) -> Page:
    """Write the diff for people: the verdict, then a row a layer, with the line that turns B's array into A's."""
    lines: list[str] = [f"A: {_shown(diff.a)}", f"B: {_shown(diff.b)}"]
    lines += [f"note on {side}: {printable(note, 300)}" for side, one in (("A", diff.a), ("B", diff.b))
              for note in one.notes]  # fmt: skip
    lines += ["", *(Toned(printable(sentence, 600), Tone.STRONG) for sentence in diff.verdict)]
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
    parts: list[str | Table] = [*lines, Table(rows, fold=(2,), give_way=[(3, 2)])]
    if below:
        parts += ["", *below, "(--json has the lists whole)"]
    if diff.activations is not None:
        parts += ["", *_feature_maps_parts(diff.activations)]
    return Page(parts)


_TONES = {
    **dict.fromkeys((Status.EQUAL, Status.STORED_OTHERWISE), Tone.GOOD),
    **dict.fromkeys((Status.EXPLAINED, Status.AMBIGUOUS, Status.FINE_TUNED), Tone.DOUBT),
    **dict.fromkeys((Status.ANOTHER, Status.DIFFERS, Status.MISSING, Status.ANOTHER_SHAPE), Tone.BAD),
}


def _shown(network: Network) -> str:
    source = network.source
    version = f" {printable(source.keras_version, 20)}" if source.keras_version else ""
    return f"{printable(source.path, 300)} · {source.framework}{version} · {network.parameters:,} parameters"


def _cells(row: LayerDiff) -> list[list[str]]:
    head = [printable(row.a, 40) if row.a is not None else "-", printable(row.b, 40) if row.b is not None else "-"]
    if row.how == "values":
        head[1] += " (by values)"
    shown = [one for one in row.arrays if not one.finding.plain]
    if row.a is None or row.b is None or not shown:
        return [[*head, Toned(row.explanation, _TONES[Status(row.status)]), _text(row.line)]]
    groups: dict[tuple[str, Status, str], list[str]] = {}
    for one in shown:
        groups.setdefault((one.explanation, one.finding.status, _text(one.finding.line)), []).append(one.role)
    several = len(row.arrays) > 1
    cells: list[list[str]] = []
    for (text, status, line), roles in groups.items():
        told = f"{', '.join(printable(role, 30) for role in roles)}: {text}" if several else text
        cells.append([*(head if not cells else ["", ""]), Toned(printable(told, 200), _TONES[status]), line])
    return cells


def _text(line: Line | None) -> str:
    if line is None:
        return ""
    exact = "" if line.held == "bit for bit" else f"  # {line.held}"
    return Code(printable(line.text, 160) + exact)


# -- feature maps ------------------------------------------------------------------------------------------------------


def _feature_maps_json(found: Activations) -> dict[str, Any]:
    return {
        "agree": found.agree if found.compared else None,
        "outcome": found.outcome,
        "says": found.text,
        "first": None if found.first is None else {"a": found.first[0], "b": found.first[1] or None},
        "explanation": found.own[0].explanation if found.own else None,
        "own": [{"a": one.a, "b": one.b or None, "explanation": one.explanation} for one in found.own],
        "tensors": [
            {
                "a": one.a,
                "b": one.b,
                "standing": one.standing,
                "apart": finite_or_null(one.apart),
                "other_order": one.order,
            }
            for one in found.tensors
        ],
    }


def _feature_maps_parts(found: Activations) -> list[str | Table]:
    rows = [["feature map of A", "in B", ""]]
    for one in found.tensors:
        other = "-" if one.b is None else printable(one.b, 60) + (" (in another order)" if one.order else "")
        rows.append([printable(one.a, 60), other, Toned(*_STANDING[one.standing])])
    said = Toned(f"feature maps: {found.text}", Tone.STRONG)
    return [Table(rows, fold=(0, 1, 2)), "", said] if found.tensors else [said]


def feature_maps(found: Activations) -> str:
    """Say in one sentence how the feature maps compare."""
    if found.own:
        told = [f"{_named(one)}: {one.explanation}" for one in found.own[:_SAID_OF_MAPS]]
        more = len(found.own) - len(told)
        also = f"; and of their own, given A's inputs, {'; '.join(told[1:])}" if told[1:] else ""
        return f"the first that B computes otherwise is {told[0]}{also}" + (f"; and {more} more" if more else "")
    size = f"{found.apart:.1g} of the largest value"
    return {
        Parting.NO_GRAPH: f"not compared: they need a graph, and {found.explanation} holds weights alone",
        Parting.NOT_COMPUTED: f"not compared: {found.explanation}",
        Parting.AGREE: f"the outputs agree (to {size})",
        Parting.ROUNDED: f"the outputs agree to {size}, and rounding the weights once more moves them by "
        f"{found.moves:.1g}",
    }.get(found.outcome, "the same feature maps in both, and other outputs chosen from them")


_SAID_OF_MAPS = 3
_STANDING = {
    Standing.SAME: ("the same", Tone.GOOD),
    Standing.INHERITS: ("inherits: the same if given A's inputs", Tone.DOUBT),
    Standing.OWN: ("differs of its own", Tone.BAD),
    Standing.UNKNOWN: ("", Tone.PALE),
}  # fmt: skip


def _named(one: Own) -> str:
    beside = f"B: '{printable(one.b, 60)}'" if one.b else "B has no layer in its place"
    return f"'{printable(one.a, 60)}' ({beside})"


# -- what was found, in words ------------------------------------------------------------------------------------------


def explanation(one: Compared) -> str:
    """Say what was found out about a pair of arrays."""
    finding = one.finding
    text = _found(one)
    if finding.status is Status.EXPLAINED and finding.possible:
        text += " (by itself it could be otherwise; the other layers decide)"
    if finding.status is Status.EXPLAINED and finding.rivals:
        text += f" (for this shape the same as: {' or '.join(said(causes) for causes in finding.rivals[:2])})"
    if "undone" in finding.detail:
        text += f", {_UNDONE[finding.detail['undone']]}"
    return text


_UNDONE = {
    None: "and no later layer shows whether it is undone",
    True: "and the next layer takes them in that order: B computes the same",
    False: "and the next layer does not undo it",
}


def _found(one: Compared) -> str:
    finding, near = one.finding, one.finding.kinship
    if finding.stored is not None:
        return f"equal, stored as {finding.stored[0]} / {finding.stored[1]}"
    if finding.flattened and finding.line is not None:
        return f"equal, in each framework's own order ({finding.line.expression})"
    if finding.status is Status.AMBIGUOUS:
        more = f" (or {len(finding.possible) - 4} more)" if len(finding.possible) > 4 else ""
        return f"ambiguous: {' or '.join(said(causes) for causes in finding.possible[:4])}{more}"
    if finding.status is Status.ANOTHER_SHAPE:
        return f"another shape: {' against '.join(_stored(item) for item in (one.a, one.b))}"
    if finding.status is Status.STORED_OTHERWISE and finding.has(Kind.SUMMED, Kind.REPEATED):
        return f"equal: {said(finding.causes)}"
    if finding.status is Status.STORED_OTHERWISE and finding.has(Kind.ROUNDED):
        return f"equal {_to_rounding(finding.causes[0].of, finding.causes[0]['side'])}"
    if (one.a is None or one.b is None) and not finding.has(Kind.FOLDED):
        side, other = ("A", "B") if one.a is not None else ("B", "A")
        if finding.has(Kind.MISSING):
            return f"only in {side}: {other} has no {one.role}"
        same = "".join(f", and {cause['everywhere']:g} everywhere: the same without it" for cause in finding.causes)
        return f"only in {side}{same}"
    if finding.status is Status.DIFFERS and not finding.causes:
        if near is None:
            return "differs, and holds no numbers"
        apart = f"{near.distance:.2g} of its size away, correlation {near.correlation:.2f}"
        return f"differs: {apart}, too few numbers to tell more"
    return said(finding.causes) or "equal"


def _to_rounding(name: str, side: str) -> str:
    return f"to {name}'s rounding" + (f", as {side} stores it" if side else "")


def _stored(item: Item | None) -> str:
    return "" if item is None else f"{item.letters} {tuple(item.weight.stored.shape)}".strip()


def layer(pair: PartPair) -> str:
    """Say what became of a layer: of its arrays that are not equal, each finding once."""
    if pair.a is None or pair.b is None:
        return said((pair.folded,)) if pair.folded is not None else f"only in {'A' if pair.a is not None else 'B'}"
    groups: dict[str, list[str]] = {}
    for one in pair.arrays:
        if one.finding.status is not Status.EQUAL:
            groups.setdefault(explanation(one), []).append(one.role)
    if not groups:
        return next((explanation(one) for one in pair.arrays if not one.finding.plain), "equal")
    return "; ".join(f"{', '.join(roles)}: {text}" for text, roles in groups.items())


# -- the verdict, in words ---------------------------------------------------------------------------------------------

_FAMILY = {"conv": "convolution", "dense": "Dense layer", "norm": "normalisation"}


def verdict(statements: Sequence[Statement]) -> list[str]:
    """Say what happened to the model, a sentence a statement."""
    return [_STATED[one.outcome](one) for one in statements]


def _strangers(one: Statement) -> str:
    near = ", ".join(f"'{each['a']}' {each['shape_a']} and '{each['b']}' {each['shape_b']}"
                     for each in one.fields["nearest"])  # fmt: skip
    return "the models share no structure" + (f"; nearest by size: {near}" if near else "")


def _equal(one: Statement) -> str:
    stored = one.fields["stored"]
    otherwise = ", ".join(f"stored as {a} / {b}" for a, b in stored[:3]) + (", and more" if len(stored) > 3 else "")
    return "equal: every array of A is B's" + (f": {otherwise}" if otherwise else "")


def _fine_tuned(one: Statement) -> str:
    fields = one.fields
    also = f", after: {', '.join(fields['after'])}" if fields["after"] else ""
    far = f"{fields['least']:.2g} to {fields['most']:.2g}"
    return f"fine-tuned: {fields['kernels']} of {fields['of']} kernels lie {far} of their size away{also}"


def _changed(one: Statement) -> str:
    role, family = one.fields["role"], one.fields["family"]
    texts = {explanation(member) for member in one.members}
    text = texts.pop() if len(texts) == 1 else _common(one.members[0])
    if len(one.members) == 1:
        return f"{role} of '{one.fields['first']}': {text}"
    if one.fields["every"]:
        return f"every {_FAMILY.get(family, family)}'s {role}: {text}"
    kind = "layers" if family is None else f"{_FAMILY.get(family, family)}s"
    return f"{role} of {len(one.members)} {kind} ('{one.fields['first']}' first): {text}"


def _common(one: Compared) -> str:
    """The part of what is said that holds for a whole group."""
    finding = one.finding
    if finding.status is Status.AMBIGUOUS:
        return explanation(one)
    if finding.has(Kind.FINE_TUNED):
        return "fine-tuned"
    folded = [cause for cause in finding.causes if cause.kind is Kind.FOLDED]
    if folded:
        return "a batch norm folded into it" + (f", {epsilon(folded[0])}" if "epsilon" in folded[0] else "")
    return brief(finding.causes) or explanation(one)


def _alone(one: Statement) -> str:
    parts: list[str] = []
    for side in ("A", "B"):
        names = one.fields[side.lower()]
        if names:
            shown = ", ".join(f"'{name}'" for name in names[:3])
            parts.append(f"only in {side}: {shown}" + (f" and {len(names) - 3} more" if len(names) > 3 else ""))
    return "; ".join(parts)


_STATED: Mapping[Outcome, Callable[[Statement], str]] = {
    Outcome.EMPTY: lambda one: "neither model holds arrays",
    Outcome.STRANGERS: _strangers,
    Outcome.EQUAL: _equal,
    Outcome.ROUNDED: lambda one: f"the same model, {_to_rounding(one.fields['format'], one.fields['side'])}",
    Outcome.ANOTHER: lambda one: (
        f"another model: {one.fields['kernels']} of {one.fields['of']} kernels are unrelated, "
        "as those of two trainings of one architecture are"
    ),
    Outcome.FINE_TUNED: _fine_tuned,
    Outcome.CHANGED: _changed,
    Outcome.ALONE: _alone,
    Outcome.EXPLAINED: lambda one: "every array is explained",
}
