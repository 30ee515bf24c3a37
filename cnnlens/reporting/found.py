"""What a page says of a check, of twins and of a diff: the commands' JSON, what they print beside their tables, and
the arrays that are drawn of what fails or differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking import listing as checking_listing
from cnnlens.checking.lost import FULL
from cnnlens.checking.result import Check
from cnnlens.checking.twins import Twins
from cnnlens.differing.result import Diff
from cnnlens.differing.rows import ArrayDiff
from cnnlens.errors import CnnlensError
from cnnlens.network.weight import Weight, real
from cnnlens.page import Page, Toned
from cnnlens.plot.values import limits_of
from cnnlens.reporting.budget import Budget, as_floats

__all__ = ["check_said", "diff_said", "twins_said"]

_DRAWN = 1 << 16  # numbers of an array that is drawn beside another


def check_said(budget: Budget, check: Check, name: str) -> dict[str, Any]:
    """Say what ``cnnlens check --json`` says, with the lines that it prints (``said``); of a layer that fails in a run
    also ``lost``: how many bits each place of its output has lost.

    Args:
        name: What its packed arrays begin with.
    """
    found = check.to_json()
    runs = {run.label: run for run in check.runs}
    for place, (row, said) in enumerate(zip(check.rows, found["layers"], strict=True)):
        for number, (label, audit) in enumerate(row.audits.items()):
            passes = check.is_rounding(runs[label], row, audit)
            if audit.lost is not None and audit.lost.size and not passes:
                said["runs"][label]["lost"] = _lost_said(budget, audit.lost, f"{name}.{place}.{number}")
    return {**found, "said": _lines(checking_listing.as_page(check))[2:]}  # the file and its hash are said already


def _lost_said(budget: Budget, lost: NDArray[Any], name: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "shape": list(lost.shape),
        "full": FULL,
        "view": {1: "bars", 2: "rows"}.get(lost.ndim, "tiles"),
    }
    budget.add(said, name, lost, np.array(0.0), np.array(FULL))
    return said


def twins_said(budget: Budget, twins: Twins) -> dict[str, Any]:
    """Say what ``cnnlens check --twin --json`` says, each of its checks as ``check_said`` does."""
    checks = [check_said(budget, check, f"twins.{place}") for place, check in enumerate(twins.checks)]
    return {**twins.to_json(), "checks": checks}


def diff_said(budget: Budget, diff: Diff) -> dict[str, Any]:
    """Say what ``cnnlens diff --json`` says; of two arrays of numbers that differ also ``drawn``, where they are small:
    both canonical, and the first less the second."""
    found = diff.to_json()
    for place, (row, said) in enumerate(zip(diff.rows, found["rows"], strict=True)):
        for number, (one, told) in enumerate(zip(row.arrays, said["arrays"], strict=True)):
            told["drawn"] = None if one.finding.equal else _drawn(budget, one, f"diff.{place}.{number}")
    return found


def _drawn(budget: Budget, one: ArrayDiff, name: str) -> dict[str, Any] | None:
    arrays = {side: _numbers(weight) for side, weight in (("a", one.weight_a), ("b", one.weight_b))}
    sides: dict[str, NDArray[Any]] = {side: array for side, array in arrays.items() if array is not None}
    if len(sides) == 2 and sides["a"].shape == sides["b"].shape:
        sides["difference"] = sides["a"] - sides["b"]
    if not sides:
        return None
    both = np.concatenate([sides[side].reshape(-1) for side in sides if side != "difference"])
    drawn: dict[str, Any] = {}
    for side, array in sides.items():
        ends = limits_of((array if side == "difference" else both).reshape(1, -1), weights=True)
        drawn[side] = {"shape": list(array.shape), "limits": [float(ends.low), float(ends.high)]}
        budget.add(drawn[side], f"{name}.{side}", array, ends.low, ends.high)
    return drawn


def _numbers(weight: Weight | None) -> NDArray[Any] | None:
    """A small array of numbers, canonical; None of any other."""
    if weight is None or weight.stored.dtype.kind not in "fiubc" or not 0 < math.prod(weight.stored.shape) <= _DRAWN:
        return None
    try:
        array = real(weight.canonical())
    except CnnlensError:
        return None
    return as_floats(array)


def _lines(page: Page) -> list[Mapping[str, Any]]:
    """The lines that a command prints beside its tables, each with its tone."""
    return [
        {"text": str(part), "tone": str(part.tone) if isinstance(part, Toned) else None}
        for part in page.parts
        if isinstance(part, str) and part
    ]
