"""What the atlas knows of a layer that is wrong: a disagreement of its kind, under its backend, that looks the same.

``known.json`` holds of each disagreement in ``docs/atlas.md`` what it is known again by; ``python -m
tests.support.known > cnnlens/checking/known.json`` makes it, and a test holds the two together. Two faults look the
same where the audit gives them one name, or where NaN or infinity stands in for the same; the settings that the atlas
found to be needed, and the sort of input, must be there. What has no name may be another fault of its kind: it is said.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking.auditing import Recorded, recorded_ref
from cnnlens.checking.finding import Cause, FaultClass, Known
from cnnlens.checking.verdict import Audit
from cnnlens.kinds import kind_of, operator_kind
from cnnlens.network.graph import Call
from cnnlens.network.network import Network

__all__ = ["public_versions", "rule_of", "with_known"]

_BLOCK = 1 << 22  # numbers that are read at once
_TINY = 2.0**-126  # the smallest normal number of float32
_LARGE = 1e10
_STRAY = re.compile(
    r"(NaN|\+inf|-inf|a number)( where the reference has \S+)? in output channels? .*?"
    r"(, which the backend (?:hides|makes))? \([\d,]+ outputs?\)"
)
_UNNAMED = ("outputs differ", "small, systematic or not", "every output is")
_HAS: Mapping[str, Callable[[NDArray[Any]], Any]] = {
    "one NaN": np.isnan,
    "one infinity": np.isposinf,
    "one -infinity": np.isneginf,
    "subnormal": lambda x: (x != 0) & (np.abs(x) < _TINY),
    "signed zeros": lambda x: (x == 0) & np.signbit(x),
    "large": lambda x: np.abs(x) >= _LARGE,
}
"""What inputs have that are of a class; those of other classes are ordinary."""


def with_known(network: Network, audit: Audit, recording: Recorded) -> Audit:
    """Give an audit with what the atlas knows of its fault, where it has one and the atlas knows such a one."""
    if audit.fault_class is None:
        return audit
    info = recording.info
    precision = str(info["precision"])
    backend = str(info["backend"]).partition("@")[0]  # whatever Python it ran in, maybe on another machine
    call = network.calls_by_name[audit.name]
    kind = call.layer.kind
    kind = operator_kind(kind).name or kind_of(kind).name or kind
    atlas, versions = _atlas(), public_versions(info["versions"])
    for entry in atlas["faults"]:
        if entry["kind"] != kind or not _looks_alike(entry, audit, precision) or not _set_alike(entry, network, call):
            continue
        for label in entry["sides"]:
            side: Mapping[str, Any] = atlas["sides"][label]
            shown = [shows for other, swept, shows in entry["older"] if (other, swept) == (backend, versions)]
            if shown == [False]:
                continue  # these versions were swept too, and have no such fault
            if shown:
                side = {**side, "versions": versions}
            if side["backend"] == backend and _fed(entry["inputs"], network, call, recording):
                needed = {name: is_ for name, (is_, _) in entry["needs"].items()}
                if entry["ones"]:
                    needed["inputs"] = " and ".join(map(_shape, entry["ones"]))
                strays = audit.fault_class is FaultClass.NONFINITE
                named = bool(entry["rule"]) and strays == (entry["fault"] == FaultClass.NONFINITE)
                found = Known(
                    kind, tuple(entry["sides"]), entry["fault"], needed, side["versions"], side["device"],
                    side["precision"], tuple(_other(side, info)), named,
                )  # fmt: skip
                return replace(audit, known=found)
    return audit


def _shape(ones: Sequence[bool]) -> str:
    return f"({', '.join('1' if one else 'n' for one in ones)})"


@cache
def _atlas() -> Mapping[str, Any]:
    return json.loads(Path(__file__).with_name("known.json").read_text(encoding="utf-8"))


def rule_of(text: str) -> str:
    """Give what an audit's sentence says of the fault itself, without channels and counts; empty where it has no name.

    >>> rule_of("NaN in output channels 0, 1 and 4, which the backend hides (4 outputs)")
    'NaN, which the backend hides'
    >>> rule_of("40 % of the outputs differ, off by up to 3 (relative RMS 0.2)")
    ''
    """
    stray = _STRAY.match(text)
    if stray is not None:
        return "".join(part or "" for part in stray.groups())
    return "" if any(one in text for one in _UNNAMED) else text.partition("; ")[0]


def _looks_alike(entry: Mapping[str, Any], audit: Audit, precision: str) -> bool:
    """Whether two faults are of one class, and go by one name where either has one."""
    said, numbers = audit.explanation, (FaultClass.WRONG, FaultClass.LOST)
    if audit.fault_class is FaultClass.NONFINITE:
        alike = entry["fault"] == audit.fault_class and rule_of(said) == entry["rule"]
        return alike and (entry["beside"] or "; besides, " not in said)
    if entry["fault"] == FaultClass.NONFINITE:  # numbers alone, where other inputs would make NaN too
        return entry["beside"] and audit.cause is Cause.UNEXPLAINED
    if entry["rule"]:
        return entry["fault"] in numbers and audit.fault_class in numbers and entry["rule"] in said
    plain = precision in ("strict", "native")  # what has no name in a narrower run may be that arithmetic's
    return plain and entry["fault"] == audit.fault_class and audit.cause is Cause.UNEXPLAINED


def _set_alike(entry: Mapping[str, Any], network: Network, call: Call) -> bool:
    """Whether a layer has the settings that are needed, and its inputs are spread over each other in the same way."""
    config = {**call.layer.config, **call.kwargs}
    if not all(_holds(config.get(name), is_, plain) for name, (is_, plain) in entry["needs"].items()):
        return False
    if not entry["ones"]:
        return True
    shapes = [network.shape(ref) or () for ref in call.refs]
    return [[size == 1 for size in shape[1:]] for shape in shapes] == entry["ones"]


def _holds(has: Any, needed: Any, plain: Any) -> bool:
    """Whether a setting is as the fault needs it: the same word, or a number that is not the plain one either."""
    has = list(cast("tuple[Any, ...]", has)) if isinstance(has, tuple) else has
    if isinstance(needed, list) and isinstance(has, int):
        has = [has] * len(cast("list[Any]", needed))
    if isinstance(needed, list) and isinstance(plain, int | float):
        plain = [plain]
    numbers = [isinstance(one, int | float) and not isinstance(one, bool) for one in _flat(needed)]
    if not all(numbers):
        return has == needed
    return isinstance(has, list) == isinstance(needed, list) and has is not None and has != plain


def _flat(value: Any) -> list[Any]:
    return [one for each in cast("list[Any]", value) for one in _flat(each)] if isinstance(value, list) else [value]


def _fed(classes: Sequence[str], network: Network, call: Call, recording: Recorded) -> bool:
    """Whether inputs of a class that shows the fault came in; ordinary ones always did."""
    if any(one not in _HAS for one in classes):
        return True
    for name in dict.fromkeys(recorded_ref(network, ref).name for ref in call.refs):
        if name not in recording:
            continue
        array = recording[name]
        step = max(_BLOCK // max(math.prod(array.shape[1:]), 1), 1)
        for start in range(0, array.shape[0], step):
            some = np.asarray(array[start : start + step])
            if some.dtype.kind == "f" and any(_HAS[one](some).any() for one in classes):
                return True
    return False


def public_versions(versions: Mapping[str, str]) -> dict[str, str]:
    """Give the versions of what computes, as their packages are numbered everywhere: without ``+cpu``."""
    return {name: str(one).partition("+")[0] for name, one in versions.items() if name not in ("python", "numpy")}


def _other(side: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """What a run has other than the atlas had."""
    versions = public_versions(info["versions"])
    made = [f"{name} {one}" for name, one in versions.items() if side["versions"].get(name) != one]
    if str(info["device"]).partition(":")[0] != side["device"].partition(":")[0]:
        made.append(f"device {info['device']}")
    return made + ([f"precision {info['precision']}"] if info["precision"] != side["precision"] else [])
