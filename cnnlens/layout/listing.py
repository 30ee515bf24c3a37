"""The table of layouts, printed: every kind in a line or two, one kind in full with its traps, or its way from one
framework to another with numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.layout.addresses import Memory, memory, stretches
from cnnlens.layout.conversions import Convention, Description, describe
from cnnlens.layout.crossing import FLOAT32, Crossing, CrossingAxis, Side, crossings, digits
from cnnlens.layout.feature_maps import MAPS, other_maps
from cnnlens.layout.lookup import KINDS
from cnnlens.layout.names import kind_named, maps_named
from cnnlens.layout.tables import FRAMEWORKS, LEGEND, ROWS
from cnnlens.page import Code, Page, Table, Tone, Toned
from cnnlens.text import columns

__all__ = [
    "as_json", "as_page", "crossing_json", "crossing_text", "memories", "memory_json", "memory_text", "title",
]  # fmt: skip

_MORE = "cnnlens layouts KIND shows a kind in full, with its traps; cnnlens layouts NHWC feature maps."
_CELLS = 24  # addresses in a line of text
_TITLES = {"keras": "Keras", "torch": "PyTorch", "flax": "Flax", "onnx": "ONNX", "tflite": "TFLite"}


def title(side: str) -> str:
    """Write a framework, or a layout of feature maps, as it spells itself."""
    return _TITLES.get(side, side)


def as_json(kind: str | None = None) -> dict[str, Any]:
    """Give the table as plain data: ``{"legend": {letter: meaning}, "layouts": [{"kind", "weight", "canonical",
    "frameworks": {name: {"axes", "name", "from_keras", "to_keras", "from_keras_einops", "to_keras_einops",
    "reason"}}, "traps"}]}``; ``kind`` may be a layout of feature maps, such as ``NHWC``.

    Raises:
        CnnlensError: there is no such kind; names the nearest.
    """
    return {"legend": dict(LEGEND), "layouts": [_row(one) for one in _described(kind)]}


def _described(kind: str | None) -> list[Description]:
    return [
        one for name in (KINDS if kind is None else (maps_named(kind) or kind_named(kind),)) for one in describe(name)
    ]


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
                "from_keras_einops": c.einops,
                "to_keras_einops": c.einops_back,
                "reason": c.reason,
            }
            for c in one.conventions
        },
        "traps": list(one.traps),
    }


def as_page(kind: str | None = None) -> Page:
    """Write the table for people; a kind's own page has the NumPy lines and the traps too.

    Raises:
        CnnlensError: there is no such kind; names the nearest.
    """
    found = _described(kind)
    return _one_kind(found) if kind is not None else _overview(found)


def _overview(found: list[Description]) -> Page:
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
    notes = f"{legend}; (…) one axis made of several, ~ stored backwards, - no such weight"
    return Page([Table(rows, give_way=[(0, 1)]), "", Toned(notes, Tone.PALE), "", _MORE])


def _one_kind(found: list[Description]) -> Page:
    parts: list[str | Table] = []
    for one in found:
        parts += [Toned(f"{one.kind} {_name(one)}", Tone.STRONG), _conventions(one), ""]
    if found[0].kind in MAPS:
        parts += [*_paragraph(crossings(None, found[0].kind, other_maps(found[0].kind))), ""]
    if found[0].traps:
        parts += [Toned("traps", Tone.STRONG), *(f"  - {trap}" for trap in found[0].traps), ""]
    letters = {letter for one in found for c in one.conventions for letter in (c.axes or "") + one.canonical}
    recurrent = any(one.weight == "recurrent_kernel" for one in found)
    legend = {
        **LEGEND,
        **({"I": f"{LEGEND['I']} (of a recurrent kernel the units of the step before)"} if recurrent else {}),
    }
    meanings = [f"{letter} {meaning}" for letter, meaning in legend.items() if letter in letters]
    return Page([*parts, Toned(", ".join(meanings), Tone.PALE)])


def _conventions(one: Description) -> Table:
    """A row a framework, with the lines of NumPy and einops that make it from Keras' array."""
    head = "einops" if any(c.from_keras for c in one.conventions) else ""
    rows = [["", "name", "axes", "from Keras", head], ["canonical", "", one.canonical, "", ""]]
    for c in one.conventions:
        einops = Code(c.einops) if c.from_keras and c.einops else ""
        rows.append([_TITLES[c.framework], c.name, _axes(c), Code(c.numpy) if c.numpy else c.reason or "", einops])
    return Table(rows, indent=2, fold=(3, 4), give_way=[(4, 3), (3, 2), (2, 1)])


def _name(one: Description) -> str:
    return one.weight + (f" ({one.condition})" if one.condition else "")


def _axes(convention: Convention) -> str:
    """The axes as letters, a ``~`` after each that is stored backwards; a recurrent one's gates in their order."""
    if convention.axes is None:
        return "-"
    flipped = "".join(letter + ("~" if letter in convention.flipped else "") for letter in convention.axes)
    return (flipped or "one number") + (f" [{convention.gates}]" if convention.gates else "")


# -- one kind from one framework to another ----------------------------------------------------------------------------


def crossing_json(found: Sequence[Crossing]) -> dict[str, Any]:
    """Give as plain data what :func:`~cnnlens.layout.crossing.crossings` found.

    ``{"kind", "from", "to", "weights": [{"weight", "condition", "reason", "numpy", "einops", "from": {"framework",
    "name", "layout", "axes": [{"letters", "meaning", "size"}], "shape", "strides", "strides_bytes", "gates",
    "flipped"}, "to": …, "view_strides", "view_strides_bytes", "element": {"from", "to"}}], "special_cases",
    "traps"}``; strides in elements, bytes for float32; ``view_strides`` null where the line of NumPy copies.
    """
    return {
        "kind": found[0].kind,
        "weights": [_crossing_row(one) for one in found],
        "special_cases": list(_special_cases(found)),
        "traps": list(found[0].traps),
    }


def _crossing_row(one: Crossing) -> dict[str, Any]:
    absent = one.source is None
    return {
        "weight": one.weight,
        "condition": one.condition or None,
        "reason": one.reason or None,
        "numpy": None if absent else one.numpy,
        "einops": None if absent else one.einops,
        "from": _side(one.source),
        "to": _side(one.target),
        "view_strides": None if one.view is None else list(one.view),
        "view_strides_bytes": None if one.view is None else [FLOAT32 * stride for stride in one.view],
        "element": None if absent else {"from": list(one.here), "to": list(one.there)},
    }


def _side(side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {
        "framework": side.framework,
        "name": side.name,
        "layout": side.layout,
        "axes": [{"letters": axis.shown, "meaning": axis.meaning, "size": axis.size} for axis in side.axes],
        "shape": list(side.shape),
        "strides": list(side.strides),
        "strides_bytes": [FLOAT32 * stride for stride in side.strides],
        "gates": side.gates or None,
        "flipped": list(side.flipped),
    }


def each_crossing(kind: str | None, source: str, targets: Sequence[str], **given: Any) -> list[Crossing]:
    """Find the first crossing of ``kind`` from ``source`` to each of ``targets`` that has one.

    Raises:
        CnnlensError: None has, or as :func:`~cnnlens.layout.crossing.crossings` says.
    """
    every = [one for target in targets for one in crossings(kind, source, target, **given)[:1]]
    found = [one for one in every if one.source is not None]
    if not found:
        raise CnnlensError(f"{every[0].kind} {every[0].weight} has no memory to show: {every[0].reason}")
    return found


def alike(found: Sequence[Crossing], side: Side) -> list[Side]:
    """List the sides of crossings that store it as ``side`` does, each framework once."""
    every = {each.framework: each for one in found for each in (one.source, one.target) if each is not None}
    return [each for each in every.values() if _stored(each) == _stored(side)]


def _stored(side: Side) -> tuple[str, str, tuple[str, ...]]:
    """What two sides that lie in memory alike share; the letters of gates are each framework's own."""
    return (side.layout, "".join(side.pattern.gates), side.flipped)


def memories(found: Sequence[Crossing], cells: int) -> list[tuple[Side, tuple[int, ...], Memory]]:
    """Work out the memory of each different layout among crossings of one weight from one source, the source first.

    Returns:
        For each the side, where the source's worked element is in it, and the addresses that the room of ``cells``
        shows: the first, one step along each axis, and the element.
    """
    told: dict[tuple[object, ...], tuple[Side, tuple[int, ...], Memory]] = {}
    for one in found:
        for side, index in ((one.source, one.here), (one.target, one.there)):
            if side is None or _stored(side) in told:
                continue
            sizes = {**dict(side.pattern.filled), **dict(one.sizes)}
            steps = memory(side.pattern, side.shape, sizes, addresses=()).steps.values()
            element = sum(number * stride for number, stride in zip(index, side.strides, strict=True))
            shown = stretches([*steps, element], prod(side.shape), cells)
            addresses = [address for stretch in shown for address in stretch]
            known = memory(side.pattern, side.shape, sizes, addresses=addresses)
            told[_stored(side)] = (side, index, known)
    return list(told.values())


def memory_json(found: Sequence[Crossing]) -> dict[str, Any]:
    """Give :func:`memories` as plain data: ``{"kind", "weight", "condition", "memory": [{"frameworks", "layout",
    "shape", "strides", "steps", "gates", "element", "addresses", "indices": {letter: [index at each address]}}]}``."""
    memory = [
        {
            "frameworks": [each.framework for each in alike(found, side)],
            "layout": side.layout,
            "shape": list(side.shape),
            "strides": list(side.strides),
            "steps": dict(known.steps),
            "gates": side.gates or None,
            "element": list(element),
            "addresses": list(known.addresses),
            "indices": {letter: list(indices) for letter, indices in known.indices.items()},
        }
        for side, element, known in memories(found, _CELLS)
    ]
    one = found[0]
    return {"kind": one.kind, "weight": one.weight, "condition": one.condition or None, "memory": memory}


def memory_text(found: Sequence[Crossing]) -> str:
    """Write which entry of each axis lies at which address, for each layout of a weight: a column an address."""
    one = found[0]
    what = one.kind if one.weight == "maps" else f"{one.kind} {one.weight}"
    lines = [f"{what} in memory" + (f" ({one.condition})" if one.condition else ""), ""]
    for side, element, known in memories(found, _CELLS):
        where = sum(number * stride for number, stride in zip(element, side.strides, strict=True))
        who = ", ".join(title(each.framework) for each in alike(found, side))
        lines.append(f"{who}: {side.variable}, {side.layout} {side.shape}, strides {side.strides}")
        rows = [("address", known.addresses), *((letter, known.indices[letter]) for letter in known.steps)]
        breaks = [a + 1 != b for a, b in pairwise(known.addresses)] + [False]
        wide = len(str(known.addresses[-1]))
        for name, numbers in rows:
            called = side.gates if name == "Q" else ""
            cells = [
                (called[number] if called else str(number)).rjust(wide) + " …" * gap
                for number, gap in zip(numbers, breaks, strict=True)
            ]
            lines.append(f"  {name:<8}{' '.join(cells)}")
        lines += [f"  {side.variable}[{', '.join(map(str, element))}] lies at address {where}", ""]
    return "\n".join(lines)


def crossing_text(found: Sequence[Crossing], source: str, target: str) -> str:
    """Write crossings for people; weights that are stored alike on both sides share a paragraph."""
    lines = [f"{found[0].kind}: from {title(source)} to {title(target)}", ""]
    groups: dict[object, list[Crossing]] = {}
    for one in found:
        # Vectors that nothing is done to, and weights that fail for one reason, are told together.
        alike = one.source is not None and not one.steps and len(one.source.axes) == 1
        told = one.reason or (repr(one.source and one.source.axes) if alike else one.weight)
        groups.setdefault((one.condition, told), []).append(one)
    for group in groups.values():
        lines += [*_paragraph(group), ""]
    for case in _special_cases(found):
        lines += textwrap.wrap(case, 116, initial_indent="  * ", subsequent_indent="    ")
    if found[0].traps:
        lines += ["", "traps"] if _special_cases(found) else ["traps"]
        for trap in found[0].traps:
            lines += textwrap.wrap(trap, 116, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join([*lines, ""])


def _paragraph(group: Sequence[Crossing]) -> list[str]:
    one = group[0]
    names = ", ".join(each.weight for each in group)
    head = names + (f" ({one.condition})" if one.condition else "")
    source, target = one.source, one.target
    if source is None or target is None:
        return [head, *textwrap.wrap(one.reason, 114, initial_indent="  ", subsequent_indent="  ")]
    called = [", ".join(dict.fromkeys(each.target.name for each in group if each.target))]
    rows = [[title(source.framework), source.name if len(group) == 1 else names, source.layout, str(source.shape)]]
    rows.append([title(target.framework), called[0], target.layout, str(target.shape)])
    rows = [[*row, _meanings(side)] for row, side in zip(rows, (source, target), strict=True)]
    lines = [head, *("  " + line for line in _bare_columns(rows))]
    if not one.steps and len(source.axes) == 1:
        if source.second and not target.second:
            return [*lines, f"  NumPy    {one.numpy}"]
        zeros = f"; {target.second} is zeros" if target.second and not source.second else ""
        return [*lines, f"  one axis on both sides: nothing to do{zeros}"]
    return [*lines, f"  NumPy    {one.numpy}", f"  einops   {one.einops}", f"  element  {_element(one)}", *_memory(one)]


def _bare_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    return columns(rows)[:1] + columns(rows)[2:]


def _meanings(side: Side) -> str:
    def one(axis: CrossingAxis) -> str:
        backwards = ", stored backwards" if set(axis.letters) & set(side.flipped) else ""
        return f"{axis.shown} {axis.meaning}{backwards}" if axis.letters else "1"

    return ", ".join(one(axis) for axis in side.axes)


def _element(one: Crossing) -> str:
    source, target = one.source, one.target
    assert source is not None
    assert target is not None
    sizes = dict(one.sizes)
    told: list[str] = []
    for side, index in ((source, one.here), (target, one.there)):
        for axis, number in zip(side.axes, index, strict=True):
            if len(axis.letters) > 1 and all(letter in sizes for letter in axis.letters):
                held = digits(axis, number, sizes)
                told.append(f"{axis.shown} {number} is " + ", ".join(_digit(letter, n, side) for letter, n in held))
    text = (
        f"{source.variable}[{', '.join(map(str, one.here))}] here is "
        f"{target.variable}[{', '.join(map(str, one.there))}] there"
    )
    return text + (f"   ({'; '.join(dict.fromkeys(told))})" if told else "")


def _digit(letter: str, number: int, side: Side) -> str:
    return f"gate {side.gates[number]}" if letter == "Q" and side.gates else f"{letter} {number}"


def _memory(one: Crossing) -> list[str]:
    """Strides: of the array as it lies in either file, and of what the line of NumPy gives before a copy."""
    source, target = one.source, one.target
    assert source is not None
    assert target is not None
    stored = "" if one.weight == "maps" else " stores it"
    rows = [["as " + title(source.framework) + stored, source.strides]]
    if one.view is not None and one.steps:
        rows.append(["what that line gives, a view", one.view])
    rows.append(["as " + title(target.framework) + stored, target.strides])
    shown = [[str(name), str(strides), f"{tuple(FLOAT32 * n for n in strides)} bytes"] for name, strides in rows]
    lines = _bare_columns(shown)
    note = "" if one.view is not None else " (that line copies: no view has this order)"
    return [f"  strides{note}", *("    " + line for line in lines)]


def _special_cases(found: Sequence[Crossing]) -> tuple[str, ...]:
    """When this kind is stored otherwise than shown."""
    kind, conditions = found[0].kind, {one.condition for one in found}
    cases: list[str] = []
    if any(row.flat and kind in row.kinds for row in ROWS) and "behind a Flatten" not in conditions:
        cases.append(
            "Behind a Flatten one axis holds the whole feature map, in another order on either side: "
            "--flatten H,W,C shows it with numbers."
        )
    if kind in ("Conv1D", "Conv2D", "Conv3D"):
        cases.append("Grouped: I is the input channels of one group (input channels / groups); the axes are the same.")
    if kind.startswith(("DepthwiseConv", "SeparableConv")):
        cases.append(
            "PyTorch, Flax and ONNX hold it as a Conv with groups = C, where output channel c*M + m is what channel c "
            "gives for the m-th time."
        )
    if kind == "GRU":
        cases.append("The bias depends on reset_after: two rows with reset_after=True, Keras' default; else one.")
    if kind == "EinsumDense":
        cases.append("Shown for an equation such as ab,bc->ac; with more axes the equation says which are summed over.")
    return tuple(cases)
