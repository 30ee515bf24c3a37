"""An atlas as a table of kinds and backends, as plain data and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnlens.page import Code, Linked, Page, Table, Tone, Toned
from cnnlens.surveying.result import Atlas, Cell, Finding
from cnnlens.surveying.setting import as_json as as_plain
from cnnlens.surveying.setting import each
from cnnlens.text import finite_or_null, harmless, printable

__all__ = ["as_json", "as_markdown", "as_page", "escaped", "scripts", "unescaped"]

_OBEYED = re.compile(
    r"[\\&<*`~\[\]]|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])"
)  # an underscore in a word is none to Markdown


def as_page(made: Atlas) -> Page:
    """Write it for people: what ran, a row a kind, and each disagreement with its script."""
    numbered = list(enumerate(made.findings, 1))
    wrong = [(number, one) for number, one in numbered if one.disagrees]
    failed = [(number, one) for number, one in numbered if not one.disagrees]
    parts: list[str | Table] = [*_head(made), "", _table(made), ""]
    parts += [f"{kind}: not swept: {why}" for kind, why in made.unswept.items()]
    if made.unswept:
        parts.append("")
    if wrong:
        parts += [Toned("disagreements, each as small as it became", Tone.STRONG), _findings(wrong), ""]
    if failed:
        parts += [Toned("refused, crashed or hung", Tone.STRONG), _findings(failed), ""]
    for number, one in numbered:
        if one.script:
            proof = "" if one.shown else " (run alone, it did not show it)"
            title = [(str(number), f"finding-{number}"), (f". {one.kind} under {', '.join(one.sides)}{proof}", "")]
            parts += [Linked(title, Tone.STRONG, f"script-{number}")]
            parts += [*map(Code, one.script.rstrip("\n").split("\n")), ""]
    return Page(parts[:-1] if parts[-1] == "" else parts)


def _head(made: Atlas) -> Iterator[str]:
    kinds = _many(len({cell.kind for cell in made.cells}), "kind")
    before = f", {made.resumed:,} of them by a sweep that was cut short" if made.resumed else ""
    audits = f"{_many(made.audits, 'output')} audited in {made.seconds:,.0f} s{before}"
    yield f"{kinds}, {_many(made.settings, 'setting')}, {audits}"
    pair, two = ("pair", "two") if made.level == "quick" else ("triple", "three")
    together = f"all {_many(made.covered, pair)} of options' values that can stand together do so"
    yield f"{made.level}, {made.made}: {together if made.covered else f'no kind has {two} options'}"
    features = " ".join(made.machine["features"]) or "no features known"
    yield f"{made.machine['cpu']} ({features}), {made.machine['system']}, Python {made.machine['python']}"
    for side in made.sides:
        if side.error:
            yield Toned(f"{side.label}: {side.error}", Tone.BAD)
        else:
            versions = ", ".join(f"{one} {version}" for one, version in side.versions.items())
            yield f"{side.label} on {side.device}: {versions}"


def _table(made: Atlas) -> Table:
    labels = [side.label for side in made.sides]
    numbers: dict[tuple[str, str, str], list[int]] = {}
    for number, one in enumerate(made.findings, 1):
        for label in one.sides:
            numbers.setdefault((one.kind, label, one.fault), []).append(number)
    by_place = {(cell.kind, cell.side): cell for cell in made.cells}
    kinds = dict.fromkeys(cell.kind for cell in made.cells)
    rows = [[kind, *(_cell(by_place.get((kind, label)), numbers) for label in labels)] for kind in kinds]
    return Table([["kind", *labels], *rows], unpivot=1, fold=range(1, 1 + len(labels)))


def _cell(cell: Cell | None, numbers: Mapping[tuple[str, str, str], Sequence[int]]) -> str:
    """What became of a kind's settings; each fault leads to its findings."""
    if cell is None:
        return ""
    unsaid = f", {cell.unaudited} not audited" if cell.unaudited else ""
    if not cell.faults:
        if cell.unaudited == cell.settings:
            return Toned("not audited", Tone.PALE)
        return Toned(f"{cell.audited} agree{unsaid}", Tone.GOOD)
    pieces: list[tuple[str, str]] = []
    for fault, count in cell.faults.items():
        own = numbers.get((cell.kind, cell.side, fault), [])
        pieces += [(", " * bool(pieces), ""), (f"{count} {fault}", f"finding-{own[0]}" if own else "")]
        for place, number in enumerate(own):
            pieces += [(", " if place else " [", ""), (str(number), f"finding-{number}")]
        pieces.append(("]" * bool(own), ""))
    return Linked([*pieces, (f"{unsaid} of {cell.settings}", "")], Tone.BAD if cell.disagrees else Tone.DOUBT)


def _findings(numbered: Sequence[tuple[int, Finding]]) -> Table:
    rows = [["#", "kind", "backends", "fault", "smallest case", "what is otherwise"]]
    for number, one in numbered:
        place = Linked([(str(number), f"script-{number}" * bool(one.script))], Tone.PALE, f"finding-{number}")
        rows.append([place, one.kind, ", ".join(one.sides), one.fault, _case(one), _said(one)])
    return Table(rows, right=[0], fold=(2, 4, 5), give_way=[(5, 4)])


def _case(one: Finding) -> str:
    shown = ", ".join(f"{name} {_value(value)}" for name, value in one.options.items())
    inputs = f"; inputs: {', '.join(one.inputs)}" if one.inputs else ""
    return f"{shown or 'no options'}{inputs}"


def _value(value: Any) -> str:
    return "×".join(map(str, each(value))) or str(value)


def _said(one: Finding) -> str:
    numbers = "" if one.computed is None else f"; {one.computed:.9g} where {one.expected:.9g} is right"
    ours = "; all backends that run it do so: what they share does it, or the reference is wrong" * one.shared
    return f"{printable(one.text, 400)}{numbers} ({_many(one.settings, 'setting')}){ours}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def as_json(made: Atlas) -> dict[str, Any]:
    """Give it as plain data.

    ``{"level", "made", "seconds", "machine": {"cpu", "features", "system", "python"}, "settings", "audits", "resumed",
    "covered", "agree", "could_audit",
    "sides": [{"label", "backend", "precision", "framework", "versions", "device", "error"}],
    "cells": [{"kind", "side", "settings", "unaudited", "faults"}],
    "findings": [{"kind", "sides", "fault", "text", "settings", "example", "small", "options", "inputs",
    "computed", "expected", "script", "shown", "everywhere"}], "unswept"}``. Numbers that are NaN or infinite are text.
    """
    return {
        "level": made.level,
        "made": made.made,
        "seconds": made.seconds,
        "machine": dict(made.machine),
        "settings": made.settings,
        "audits": made.audits,
        "resumed": made.resumed,
        "covered": made.covered,
        "agree": made.agree,
        "could_audit": made.could_audit,
        "sides": [{**vars(side), "versions": dict(side.versions)} for side in made.sides],
        "cells": [{**vars(cell), "faults": dict(cell.faults)} for cell in made.cells],
        "findings": [
            {
                **vars(one),
                "sides": list(one.sides),
                "inputs": list(one.inputs),
                "options": {name: as_plain(value) for name, value in one.options.items()},
                "computed": _number(one.computed),
                "expected": _number(one.expected),
            }
            for one in made.findings
        ],
        "unswept": dict(made.unswept),
    }


def _number(value: float | None) -> float | str | None:
    return None if value is None else str(value) if finite_or_null(value) is None else value


def scripts(made: Atlas) -> Mapping[int, str]:
    """Give the scripts by the numbers of their findings."""
    return {number: one.script for number, one in enumerate(made.findings, 1) if one.script}


def as_markdown(made: Atlas) -> str:
    """Write it as Markdown: the table, then a section a disagreement."""
    lines: list[str] = []
    for line in _head(made):
        lines += [f"- {escaped(line)}"]
    titles = [f"{n}. {one.kind} under {', '.join(one.sides)}: {one.fault}" for n, one in enumerate(made.findings, 1)]
    places = {f"finding-{number}": _anchor(title) for number, title in enumerate(titles, 1)}
    lines += ["", *_markdown_table(_table(made), places), ""]
    for title, one in zip(titles, made.findings, strict=True):
        lines += [f"## {escaped(title)}", "", escaped(_said(one)), "", escaped(_case(one)), ""]
        lines += [_proof(one), ""]
        if one.script:
            lines += ["```python", *one.script.rstrip("\n").split("\n"), "```", ""]
    if made.unswept:
        lines += ["## Not swept", "", "| kind | why |", "| --- | --- |"]
        lines += [f"| {escaped(kind)} | {escaped(why).replace('|', '/')} |" for kind, why in made.unswept.items()]
    return "\n".join(lines).rstrip("\n") + "\n"


def _proof(one: Finding) -> str:
    """What became of the script, or why there is none."""
    if one.script:
        did = "prints these numbers" if one.disagrees else "raises this"
        return f"Run alone in the backend's own Python, it {did if one.shown else _ELSE}."
    if one.disagrees:
        return "There is no script: alone, no input showed it again, or the backend's framework is not known."
    if one.fault == "refused":
        return "There is no script: called by itself, the framework takes it, or it has none such to call."
    return "There is no script: it would end with its process."


_ELSE = "did not show the fault: that hangs on what else is computed with it"


def _anchor(title: str) -> str:
    """Name the place of a heading, as GitHub does.

    >>> _anchor("3. Dense under keras-jax, pytorch@/a b/python: NaN or infinity")
    '3-dense-under-keras-jax-pytorcha-bpython-nan-or-infinity'
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _markdown_table(table: Table, places: Mapping[str, str]) -> Iterator[str]:
    def linked(cell: str) -> str:
        pieces = cell.pieces if isinstance(cell, Linked) else [(cell, "")]
        return "".join(f"[{escaped(one)}](#{places[to]})" if to else escaped(one) for one, to in pieces)

    head, *rows = table.rows
    yield f"| {' | '.join(map(escaped, head))} |"
    yield "| --- " * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(linked(cell).replace('|', '/') for cell in row)} |"


def escaped(text: str) -> str:
    """Write a text so that Markdown shows it as it is: a framework's own words hold ``<class 'list'>`` and ``[*, 3]``.

    >>> escaped("an object of type <class 'list'>, [-1] * 2, pool_size, __init__()")
    "an object of type \\\\<class 'list'>, \\\\[-1\\\\] \\\\* 2, pool_size, \\\\_\\\\_init\\\\_\\\\_()"
    >>> escaped("&lt;")
    '\\\\&lt;'
    >>> unescaped(escaped("[*, 3]"))
    '[*, 3]'
    """
    return _OBEYED.sub(lambda found: "".join(f"\\{char}" for char in found[0]), harmless(text))


def unescaped(text: str) -> str:
    """Read what ``escaped`` wrote."""
    return re.sub(r"\\([\\&<*`~\[\]_])", r"\1", text)
