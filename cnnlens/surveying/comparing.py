"""Two atlases held beside each other: what an upgrade of a framework changed, and what else was not the same."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import CnnlensError
from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.surveying.listing import escaped
from cnnlens.text import printable

__all__ = ["as_page", "by_release", "compared", "fault_of", "read", "release_tables"]

Plain = Mapping[str, Any]


def read(path: str | Path) -> Plain:
    """Read what ``cnnlens atlas --json`` wrote.

    Raises:
        CnnlensError: it is no atlas, or of another format.
    """
    shown = printable(path, 300)
    try:
        found: object = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CnnlensError(f"{shown}: it cannot be read ({error.strerror}); check the name") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or cast("Plain", found).get("format") != "cnnlens.atlas/1":
        raise CnnlensError(f"{shown}: this is no atlas of format cnnlens.atlas/1; write one with cnnlens atlas --json")
    old = cast("Plain", found)
    try:
        _check_types(old)
        compared(old, old)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CnnlensError(f"{shown}: it is cut short or changed: an atlas has sides, cells and a machine") from None
    return old


def _check_types(atlas: Plain) -> None:
    """Refuse names that are no text and counts that are no numbers: those of two atlases are sorted together."""
    names = [one[key] for one in atlas["cells"] for key in ("kind", "side")]
    names += [one[key] for one in atlas["findings"] for key in ("kind", "fault", "text")]
    counts = [count for one in atlas["cells"] for count in (one["settings"], *one["faults"].values())]
    if not (all(isinstance(one, str) for one in names) and all(isinstance(one, int) for one in counts)):
        raise TypeError


def compared(old: Plain, new: Plain) -> dict[str, Any]:
    """Say what changed: ``{"versions": [[side, what, old, new]], "machine": [[what, old, new]], "cells": [[kind, side,
    old, new]], "shared": cells that both have, "faults": [[kind, side, fault, what, "old" or "new"]], "alone": [[side,
    "old" or "new"]], "levels": [old, new]}``; of kinds and sides that both have. A fault that one of them alone has may
    stand in a cell whose counts are the same."""
    before, after = _cells(old), _cells(new)
    shared = before.keys() & after.keys()
    faults = {which: _faults_in(one) for which, one in (("old", old), ("new", new))}
    versions = {one: (_ran(old).get(one, {}), found) for one, found in _ran(new).items()}
    sides = {side for _, side in before} & {side for _, side in after}
    return {
        "levels": [old["level"], new["level"]],
        "machine": [
            [what, old["machine"].get(what), new["machine"].get(what)]
            for what in ("cpu", "features", "system", "python")
            if old["machine"].get(what) != new["machine"].get(what)
        ],
        "versions": [
            [side, what, was.get(what), now.get(what)]
            for side, (was, now) in versions.items()
            if side in sides
            for what in dict.fromkeys((*was, *now))
            if was.get(what) != now.get(what)
        ],
        "cells": [
            [kind, side, before[kind, side], after[kind, side]]
            for kind, side in after
            if (kind, side) in shared and before[kind, side] != after[kind, side]
        ],
        "shared": len(shared),
        "faults": [
            [*fault, which]
            for which, other in (("old", "new"), ("new", "old"))
            for fault in sorted(faults[which] - faults[other])
            if fault[:2] in shared
        ],
        "alone": [
            [side, which]
            for which, one, other in (("old", before, after), ("new", after, before))
            for side in dict.fromkeys(side for _, side in one)
            if side not in {side for _, side in other}
        ],
    }


def as_page(changed: Plain) -> Page:
    """Write what changed for people."""
    parts: list[str | Table] = ["", Toned("since the older atlas", Tone.STRONG)]
    was, now = changed["levels"]
    if was != now:
        levels = f"the older one is {printable(was)}, this one {printable(now)}: their settings are not the same"
        parts.append(Toned(levels, Tone.DOUBT))
    for what, one, other in changed["machine"]:
        parts.append(Toned(f"another {what}: {_shown(one)} then, {_shown(other)} now", Tone.DOUBT))
    for side, what, one, other in changed["versions"]:
        parts.append(f"{printable(side)}: {printable(what)} {_shown(one)} then, {_shown(other)} now")
    for side, which in changed["alone"]:
        parts.append(f"{printable(side)}: in the {'older' if which == 'old' else 'newer'} atlas alone")
    if changed["cells"]:
        rows = [
            [printable(kind), printable(side), _faults(one), _faults(other)]
            for kind, side, one, other in changed["cells"]
        ]
        parts.append(Table([["kind", "backend", "then", "now"], *rows], fold=(2, 3)))
    elif changed["shared"]:
        parts.append(f"of {changed['shared']:,} cells that both have none changed")
    else:
        parts.append(Toned("no kind under one backend is in both: nothing was compared", Tone.DOUBT))
    if changed["faults"]:
        where = {"old": "then alone", "new": "now alone"}
        rows = [[*map(printable, one[:3]), printable(one[3], 200), where[one[4]]] for one in changed["faults"]]
        parts += ["", Table([["kind", "backend", "fault", "what", "when"], *rows], fold=(1, 3))]
    return Page(parts)


def _shown(value: Any) -> str:
    return printable(
        " ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value or "none"), 200
    )


def _faults(faults: Mapping[str, int]) -> str:
    said = ", ".join(f"{count} {printable(fault)}" for fault, count in faults.items() if fault != "settings")
    return f"{said or 'no fault'} of {faults['settings']}"


def _cells(atlas: Plain) -> dict[tuple[str, str], dict[str, int]]:
    names = _names(atlas)
    return {
        (one["kind"], names[one["side"]]): {
            **one["faults"],
            **({"not audited": one["unaudited"]} if one["unaudited"] else {}),
            "settings": one["settings"],
        }
        for one in atlas["cells"]
    }


def _faults_in(atlas: Plain) -> set[tuple[str, str, str, str]]:
    names = _names(atlas)
    return {(one["kind"], names[side], *fault_of(one)[1:]) for one in atlas["findings"] for side in one["sides"]}


def _versions(atlas: Plain) -> dict[str, dict[str, str]]:
    names = _names(atlas)
    return {names[side["label"]]: dict(side["versions"]) for side in atlas["sides"]}


def _ran(atlas: Plain) -> dict[str, dict[str, str]]:
    """What each column ran with: versions, and the device."""
    names, versions = _names(atlas), _versions(atlas)
    devices = {names[side["label"]]: side["device"] for side in atlas["sides"] if side["device"]}
    return {name: found | ({"device": devices[name]} if name in devices else {}) for name, found in versions.items()}


def _names(atlas: Plain) -> dict[str, str]:
    """The columns by what they are, whichever Python ran them; by their labels where that would be two of one name."""
    bare = {side["label"]: _bare(side["label"], side["backend"]) for side in atlas["sides"]}
    counts = Counter(bare.values())
    return {label: name if counts[name] == 1 else label for label, name in bare.items()}


def _bare(label: str, backend: str) -> str:
    return backend.partition("@")[0] + label.removeprefix(backend) if label.startswith(backend) else label


# -- several releases ------------------------------------------------------------------------------------------------

ABSENT = "not in it"
_ABSENT = re.compile(r" has no (layer of this class|operation of this name)")
_NUMBER = re.compile(r"-?\d[\d.,e+-]*")
_LONGEST = 2_000


def by_release(atlases: Sequence[Plain]) -> dict[str, Any]:
    """Hold several atlases beside each other, the newest first, each backend by itself.

    Returns:
        For each backend ``{"columns": [{"title", "versions", "made", "machine", "settings", "kinds", "absent"}],
        "rows": [[kind, fault, what, cell, …]], "counts": [{"both", "new", "gone", "absent"}]}``: a column is titled by
        what differs from the newest; a cell says at how many of how many settings the fault shows, that this release
        has no such kind, or nothing where it was not swept. Counts are of each older column: faults that both have,
        that the newest alone has, that the older alone has, and kinds that the older has not.
    """
    backends = dict.fromkeys(
        _names(one)[side["label"]] for one in atlases for side in one["sides"] if not side["error"]
    )
    return {backend: _column_by_column(backend, [one for one in atlases if backend in _versions(one)])
            for backend in backends}  # fmt: skip


def _column_by_column(backend: str, atlases: Sequence[Plain]) -> dict[str, Any]:
    newest = _versions(atlases[0])[backend]
    columns: list[dict[str, Any]] = []
    found: list[dict[tuple[str, str, str], int]] = []
    kinds: list[dict[str, int]] = []
    absent: list[set[str]] = []
    for one in atlases:
        versions = _versions(one)[backend]
        unlike = [f"{name} {version}" for name, version in versions.items() if newest.get(name) != version]
        cells = {kind: cell["settings"] for (kind, side), cell in _cells(one).items() if side == backend}
        columns.append(
            {
                "title": ", ".join(unlike) or ", ".join(f"{n} {v}" for n, v in newest.items() if n not in _BASE),
                "versions": versions, "made": one["made"], "machine": one["machine"],
                "settings": sum(cells.values()), "kinds": len(cells),
            }
        )  # fmt: skip
        faults, missing = Counter[tuple[str, str, str]](), set[str]()
        for finding in one["findings"]:
            if backend not in map(_names(one).get, finding["sides"]):
                continue
            if _ABSENT.search(finding["text"]):
                missing.add(finding["kind"])
            else:
                faults[fault_of(finding)] += finding["settings"]
        found.append(dict(faults))
        kinds.append(cells)
        absent.append(missing)
        columns[-1]["absent"] = sorted(missing)
    rows = [
        [*fault, *(_at(fault, *column) for column in zip(found, kinds, absent, strict=True))]
        for fault in sorted({fault for one in found for fault in one})
    ]
    counts = [_counted(found[0], kinds[0], found[place], kinds[place], absent[place])
              for place in range(1, len(atlases))]  # fmt: skip
    return {"columns": columns, "rows": rows, "counts": counts}


_BASE = ("python", "numpy")


def _at(fault: tuple[str, str, str], found: Mapping[Any, int], kinds: Mapping[str, int], absent: set[str]) -> str:
    if fault[0] in absent:
        return ABSENT
    return f"{found.get(fault, 0)} of {kinds[fault[0]]}" if fault[0] in kinds else ""


def _counted(
    new: Mapping[tuple[str, str, str], int],
    swept: Mapping[str, int],
    old: Mapping[tuple[str, str, str], int],
    kinds: Mapping[str, int],
    absent: set[str],
) -> dict[str, int]:
    """Of the kinds that both have."""
    now = {fault for fault in new if fault[0] in kinds and fault[0] not in absent}
    was = {fault for fault in old if fault[0] in swept}
    return {"both": len(now & was), "new": len(now - was), "gone": len(was - now), "absent": len(absent & swept.keys())}


def fault_of(finding: Plain) -> tuple[str, str, str]:
    """Name a finding so that the same fault has the same name in another atlas: its kind, its fault, and what it is."""
    return finding["kind"], finding["fault"], _said(finding["text"])


def _said(text: str) -> str:
    """What a sentence says of a fault whatever the example was: of which sort it is, or the framework's own words."""
    text = text[:_LONGEST]  # what is searched may be anybody's
    lost = re.search(r"(NaN|\S*infinity)\b.*?, which the backend (\w+)", text)
    if lost is not None:
        return f"{lost[1]}: {lost[2]} it"
    if re.match(r"[\d.]+ % of the outputs", text):
        return "another number"
    own = re.search(r"(?:batch of \d+|cannot [^(]*) \((.+)\)", text)
    words = re.sub(r"#(,? #)+", "#", _NUMBER.sub("#", own[1].partition(" for '{{")[0])) if own else text
    return words if len(words) <= 100 else f"{words[:99]}…"


def release_tables(found: Plain) -> Iterator[str]:
    """Write what ``by_release`` gives as Markdown: of each backend what ran, and a table of the faults."""
    for backend, one in found.items():
        yield from (f"## {backend}", "")
        for place, column in enumerate(one["columns"]):
            versions = ", ".join(f"{name} {version}" for name, version in column["versions"].items())
            swept = f"{column['kinds']} kinds, {column['settings']:,} settings, {column['made']}; {versions}"
            if not place:
                yield f"- **{column['title']}**, the newest: {swept}"
                continue
            count = one["counts"][place - 1]
            yield (
                f"- **{column['title']}**: {swept}. Of the faults in kinds that both have, {count['both']} are in "
                f"both, {count['new']} in the newest alone, {count['gone']} in this one alone; "
                f"{count['absent']} kinds are not in it{': ' * bool(count['absent'])}{', '.join(column['absent'])}."
            )
        titles = [column["title"] for column in one["columns"]]
        yield from ("", f"| kind | fault | what | {' | '.join(titles)} |", "| --- " * (3 + len(titles)) + "|")
        for row in one["rows"]:
            yield f"| {' | '.join(escaped(printable(cell, 200)).replace('|', '/') for cell in row)} |"
        yield ""
