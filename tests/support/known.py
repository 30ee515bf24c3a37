"""What ``check`` knows of the atlas: ``python -m tests.support.known > cnnlens/checking/known.json`` makes it anew.

It is read from ``docs/atlas.md`` as ``cnnlens atlas -o atlas.md`` writes it; what is needed of a smallest case are the
settings that are not the plainest of their table, each with the plain value, which does not show the fault. Of each
older release that was swept (``python -m benchmarks older-atlas`` keeps what it found) it says whether it shows it too.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from cnnlens.checking.finding import FaultClass
from cnnlens.checking.known import public_versions, rule_of
from cnnlens.surveying.listing import unescaped
from cnnlens.surveying.setting import Setting, as_json
from cnnlens.surveying.table import FAMILIES
from tests.support import ROOT

OLDER = ROOT / "benchmarks" / "results" / "older-atlas"
_SIDE = re.compile(r"^- (\S+)(.*) on (\S+): (python .+)$", re.MULTILINE)
_SECTION = re.compile(r"^## \d+\. (.+) under (.+): (.+)\n\n(.+)\n\n(.+)$", re.MULTILINE)
_NUMBERS = re.compile(r"(; \S+ where \S+ is right)? \([\d,]+ settings?\)(; all backends .+)?$")


def known() -> dict[str, Any]:
    """Read docs/atlas.md."""
    text = (ROOT / "docs" / "atlas.md").read_text(encoding="utf-8")
    head = text.partition("\n## ")[0]
    sides = {name + more: _side(name, more, device, said) for name, more, device, said in _SIDE.findall(head)}
    older = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(OLDER.glob("*.json"))]
    faults = [
        _fault(kind, labels.split(", "), fault, _NUMBERS.sub("", says), case, sides)
        for kind, labels, fault, says, case in (map(unescaped, one) for one in _SECTION.findall(text))
        if fault in tuple(FaultClass)
    ]
    for one in faults:
        one["older"] = [found for atlas in older for found in _older(one, sides, atlas)]
    return {"made": "python -m tests.support.known, of docs/atlas.md", "sides": sides, "faults": faults}


def _side(name: str, more: str, device: str, said: str) -> dict[str, Any]:
    versions = dict(one.split(" ", 1) for one in said.split(", "))
    precision = more.split()[-1] if more and more.split()[-1] != "torch" else "strict"
    backend = name.partition("@")[0]
    return {"backend": backend, "precision": precision, "device": device, "versions": public_versions(versions)}


def _fault(kind: str, labels: list[str], fault: str, says: str, case: str, sides: dict[str, Any]) -> dict[str, Any]:
    options, _, inputs = case.partition("; inputs: ")
    framework = "torch" if sides[labels[0]]["backend"] == "pytorch" else "keras"
    setting = next(_settings(kind, framework, options))
    shapes = [one.shape for one in setting.call.operands]
    return {
        "kind": kind, "sides": labels, "fault": fault, "rule": rule_of(says), "beside": "; besides, " in says,
        "needs": _needs(setting), "inputs": inputs.split(", "),
        "ones": [[size == 1 for size in shape] for shape in shapes] if len(set(shapes)) > 1 else [],
    }  # fmt: skip


def _older(fault: dict[str, Any], sides: dict[str, Any], atlas: dict[str, Any]) -> Iterator[list[Any]]:
    """The versions of another release, and whether it shows a fault, where it has the kind; by backend."""
    kind, numbers = fault["kind"], {FaultClass.WRONG, FaultClass.LOST}
    alike = numbers if fault["fault"] in numbers else {fault["fault"]}
    for side in atlas["sides"]:
        label, backend, versions = side["label"], side["backend"].partition("@")[0], public_versions(side["versions"])
        today = [one["versions"] for name, one in sides.items() if name in fault["sides"] and one["backend"] == backend]
        swept = any((cell["kind"], cell["side"]) == (kind, label) for cell in atlas["cells"])
        if today and swept and versions not in today:
            found = [one for one in atlas["findings"] if one["kind"] == kind and label in one["sides"]]
            yield [backend, versions, any(one["fault"] in alike for one in found)]


def _settings(kind: str, framework: str, text: str) -> Iterator[Setting]:
    """The families of a kind that have these options."""
    for family in FAMILIES:
        if (family.kind, family.framework) == (kind, framework):
            pattern = ", ".join(f"{re.escape(name)} (.+?)" for name in family.options)
            found = re.fullmatch(pattern or "no options", text)
            if found is not None:
                yield Setting(
                    family,
                    {
                        name: _one_axis(_value(one), known)
                        for (name, known), one in zip(family.options.items(), found.groups(), strict=True)
                    },
                )


def _value(text: str) -> Any:
    """A value as the atlas shows it: a sequence as JSON has it, or with × between its parts."""
    if "×" in text:
        return tuple(_value(one) for one in text.split("×"))
    try:
        return _tuples(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def _one_axis(value: Any, known: Sequence[Any]) -> Any:
    """A number as the sequence of one that all known values of its option are, which is shown without brackets."""
    return (value,) if isinstance(value, int) and any(isinstance(one, tuple) for one in known) else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _needs(setting: Setting) -> dict[str, list[Any]]:
    """What of the call's config is not plain, with what it is where that option is plain."""
    needs: dict[str, list[Any]] = {}
    config = setting.call.config
    for name in setting.unlike_plain:
        plain = as_json(setting.family.options[name][0])
        changed = setting.changed(**{name: setting.family.options[name][0]})
        other = {} if changed is None else changed.call.config
        if name in config:
            needs[name] = [config[name], plain]
        else:
            needs |= {one: [value, other[one]] for one, value in config.items() if one in other and value != other[one]}
    return needs


def written() -> str:
    """The file, a line a disagreement."""
    made = known()
    faults = ",\n".join(f"  {json.dumps(one)}" for one in made["faults"])
    sides = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in made["sides"].items())
    return f'{{\n"made": {json.dumps(made["made"])},\n"sides": {{\n{sides}\n}},\n"faults": [\n{faults}\n]\n}}\n'


if __name__ == "__main__":
    print(written(), end="")
