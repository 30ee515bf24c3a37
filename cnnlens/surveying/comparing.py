"""Two atlases held beside each other: what an upgrade of a framework changed, and what else was not the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import CnnlensError
from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.text import printable

__all__ = ["as_page", "compared", "read"]

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
    except ValueError:
        found = None
    if not isinstance(found, dict) or cast("Plain", found).get("format") != "cnnlens.atlas/1":
        raise CnnlensError(f"{shown}: this is no atlas of format cnnlens.atlas/1; write one with cnnlens atlas --json")
    old = cast("Plain", found)
    try:
        compared(old, old)
    except (KeyError, TypeError, AttributeError):
        raise CnnlensError(f"{shown}: it is cut short or changed: an atlas has sides, cells and a machine") from None
    return old


def compared(old: Plain, new: Plain) -> dict[str, Any]:
    """Say what changed: ``{"versions": [[side, what, old, new]], "machine": [[what, old, new]], "cells": [[kind, side,
    old, new]], "alone": [[side, "old" or "new"]], "levels": [old, new]}``; of kinds and sides that both have."""
    before, after = _cells(old), _cells(new)
    versions = {one: (_versions(old).get(one, {}), found) for one, found in _versions(new).items()}
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
            if (kind, side) in before and before[kind, side] != after[kind, side]
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
        parts.append(Toned(f"the older one is {was}, this one {now}: their settings are not the same", Tone.DOUBT))
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
    else:
        parts.append("no cell changed")
    return Page(parts)


def _shown(value: Any) -> str:
    return printable(
        " ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value or "none"), 200
    )


def _faults(faults: Mapping[str, int]) -> str:
    said = ", ".join(f"{count} {printable(fault)}" for fault, count in faults.items() if fault != "settings")
    return f"{said or 'no fault'} of {faults['settings']}"


def _cells(atlas: Plain) -> dict[tuple[str, str], dict[str, int]]:
    return {(one["kind"], one["side"]): {**one["faults"], "settings": one["settings"]} for one in atlas["cells"]}


def _versions(atlas: Plain) -> dict[str, dict[str, str]]:
    return {side["label"]: dict(side["versions"]) for side in atlas["sides"]}
