"""A check, or two models held together, as a table, a sentence a backend, and plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from cnnlens.backend import NARROW
from cnnlens.checking.auditing import recorded_ref
from cnnlens.checking.finding import Cause, Known, Objection, Verdict
from cnnlens.checking.result import Check, Problem, Run
from cnnlens.checking.twins import LIMIT, Twins
from cnnlens.checking.verdict import Audit
from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.text import finite_or_null, printable

__all__ = [
    "as_json", "as_page", "known_sentence", "objection", "sentence", "sentences", "twins_json", "twins_page",
    "why_failed", "why_not",
]  # fmt: skip


def as_json(check: Check) -> dict[str, Any]:
    """Give the check as plain data.

    ``{"agree", "could_check", "compared", "model", "inputs", "runs": [{"label", "agrees", "problem", "says", "error",
    ...}], "layers": [{"name", "kind", "runs": {label: {"verdict", "cause", "bits", ...}}}], "pairs"}``. What programs
    go by is fields: ``compared`` lists the runs of frameworks, and is empty where the reference alone was audited; a
    run's ``problem`` is null or has its ``objection`` (one of ``Objection``), the ``layer`` with its ``verdict`` and
    ``cause`` (of ``Verdict`` and ``Cause``); ``says``, ``explanation`` and ``reason`` are for people.
    Bits are null where a layer is exact (there is no error to take a logarithm of).
    """
    network = check.network
    return {
        "agree": check.agree,
        "could_check": check.could_check,
        "compared": list(check.compared),
        "model": {"file": str(network.source.path), "sha256": network.source.sha256, "name": network.name},
        "inputs": check.inputs,
        "runs": [_run(check, run) for run in check.runs],
        "layers": [
            {"name": row.name, "kind": row.kind, "runs": {label: _audit(audit) for label, audit in row.audits.items()}}
            for row in check.rows
        ],
        "pairs": [
            {
                "runs": [a, b],
                "layers": {
                    name: {
                        "max_abs": finite_or_null(one.max_abs),
                        "relative_rms": finite_or_null(one.rel_rms),
                        "cosine": finite_or_null(one.cosine),
                        "top1": finite_or_null(one.top1),
                    }
                    for name, one in layers.items()
                },
            }
            for (a, b), layers in check.pairs.items()
        ],
    }


def _run(check: Check, run: Run) -> dict[str, Any]:
    problem = check.problem(run)
    audit = None if problem is None else problem.audit
    return {
        "label": run.label,
        "backend": run.backend,
        "versions": dict(run.versions),
        "device": run.device,
        "precision": run.precision,
        "finer": [row.name for row in check.finer(run)],
        "agrees": problem is None,
        "first_fault": None if problem is None or audit is None else problem.layer,
        "problem": None
        if problem is None
        else {
            "objection": problem.objection,
            "layer": problem.layer or None,
            "verdict": None if audit is None else audit.verdict,
            "cause": None if audit is None else audit.cause,
        },
        "says": sentence(check, run),
        "inputs": run.inputs,
        "audited_inputs": run.audited,
        "weights_equal": None if run.weights is None else not run.weights,
        "weights": None if run.weights is None else list(run.weights),
        "repeats": None if run.repeats is None else {"exactly": not any(run.repeats.values()), **run.repeats},
        "error": run.error,
        "reason": run.reason or None,
    }


def _audit(audit: Audit) -> dict[str, Any]:
    return {
        "verdict": audit.verdict,
        "bits": finite_or_null(audit.bits),
        "worst_channel": audit.worst_channel,
        "channel_bits": finite_or_null(audit.channel_bits),
        "worst_position": list(audit.worst_position) or None,
        "sees": finite_or_null(audit.sees),
        "worst_error": finite_or_null(audit.worst_error),
        "cause": audit.cause,
        "explanation": audit.explanation or None,
        "reason": audit.reason or None,
        "known": None if audit.known is None else _known(audit.known),
    }


def _known(known: Known) -> dict[str, Any]:
    plain = {one: getattr(known, one) for one in ("kind", "fault", "device", "precision", "named", "see")}
    return {
        **plain,
        "settings": dict(known.settings),
        "versions": dict(known.versions),
        "other": list(known.other),
        "says": known_sentence(known),
    }


def as_page(check: Check) -> Page:
    """Write the check for people: a row a layer, under each run its bits and verdict; then a sentence a run."""
    network = check.network
    shown = [run for run in check.runs if run.error is None]
    looked = dict.fromkeys(f"{_counted(run)} inputs audited" for run in shown if run.audited < run.inputs)
    said = "; ".join([check.inputs, *looked])
    parts: list[str | Table] = [
        Toned(printable(network.source.path, 300), Tone.STRONG), f"sha256 {network.source.sha256}", f"inputs: {said}"
    ]  # fmt: skip
    if shown:
        rows = [["layer", "kind", *(run.label for run in shown)]]
        for row in check.rows:
            cells = [_cell(row.audits.get(run.label)) for run in shown]
            rows.append([printable(row.name, 40), printable(row.kind, 40), *cells])
        parts += [
            "",
            Table(rows, give_way=[(1, 0)], unpivot=2),
            "",
            "effective bits: of the layer / of its worst channel; float32 has 20 to 24",
            *_sees(check, shown),
            "",
        ]
    else:
        parts.append("")
    return Page([*parts, *sentences(check)])


def _sees(check: Check, runs: Sequence[Run]) -> list[str]:
    """What an audit of these inputs can see: how small a fault of one channel may be, in the layer that shows least."""
    found: dict[Verdict, tuple[float, str]] = {}
    lost: dict[str, None] = {}
    for row in check.rows:
        for audit in [row.audits[run.label] for run in runs if run.label in row.audits]:
            if audit.verdict.fault or math.isnan(audit.sees):
                continue
            if math.isinf(audit.sees):
                lost[f"'{printable(row.name, 40)}'"] = None
            else:
                found[audit.verdict] = max(found.get(audit.verdict, (0.0, "")), (audit.sees, row.name))
    lines: list[str] = []
    if found:
        each = [
            f"from 1 ± {_upwards(sees)} on ({verdict}, least in '{printable(name, 40)}')"
            for verdict, (sees, name) in found.items()
        ]
        lines.append(f"a factor on one channel's outputs would have been found {', '.join(each)}")
    if lost:
        names, more = list(lost)[:4], len(lost) - 4
        listed = f"{', '.join(names)}{f' and {more} more' if more > 0 else ''}"
        lines.append(f"no factor would have been found where a channel is less than rounding may be: {listed}")
    return lines


def _upwards(value: float) -> str:
    """One digit, rounded up."""
    digit = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / digit) * digit:.1g}"


def _cell(audit: Audit | None) -> str:
    if audit is None:
        return ""
    if audit.verdict in (Verdict.EXACT, Verdict.NOT_AUDITED):
        return Toned(audit.verdict, _tone(audit.verdict))
    return Toned(f"{_bits(audit.bits)} / {_bits(audit.channel_bits)}  {audit.verdict}", _tone(audit.verdict))


def _tone(verdict: Verdict) -> Tone:
    if verdict.fault:
        return Tone.BAD
    if verdict is Verdict.NOT_AUDITED:
        return Tone.PALE
    return Tone.GOOD if verdict.passes("strict") else Tone.DOUBT


def _bits(value: float) -> str:
    return f"{value:4.1f}" if math.isfinite(value) else " -  " if math.isnan(value) or value < 0 else "all "


def sentences(check: Check) -> list[str]:
    """Write one sentence a run, then one a pair of runs, then what was not audited."""
    lines: list[str] = [
        Toned(
            f"{run.label}: {sentence(check, run)}",
            Tone.BAD if check.problem(run) is not None else Tone.PALE if run.is_reference else Tone.GOOD,
        )
        for run in check.runs
    ]
    for (a, b), layers in check.pairs.items():
        outputs = [recorded_ref(check.network, ref).name for ref in check.network.outputs]
        for name in [name for name in outputs if name in layers][:1]:
            one = layers[name]
            top1 = "" if one.top1 is None else f", the same class for {one.top1:.0%} of the inputs"
            lines.append(f"{a} and {b}: '{printable(name, 40)}' differs by {one.max_abs:.2g} at most{top1}")
    remarks = {
        f"note: '{printable(row.name, 40)}': {audit.explanation}": None
        for row in check.rows
        for audit in row.audits.values()
        if audit.explanation
        and (audit.verdict.passes("strict") or (audit.cause is Cause.UNDERFLOW and not audit.verdict.fault))
    }
    lines += remarks
    lookalikes: dict[str, list[str]] = {}
    for row in check.rows:
        for run in check.runs:
            audit = row.audits.get(run.label)
            if audit is not None and audit.known is not None and not check.is_rounding(run, row, audit):
                lookalikes.setdefault(f"under {run.label}: {known_sentence(audit.known)}", []).append(row.name)
    lines += [f"note: {_few(names)} {said}" for said, names in lookalikes.items()]
    reasons: dict[str, list[str]] = {}
    for row in check.rows:
        for audit in row.audits.values():
            if audit.verdict is Verdict.NOT_AUDITED and row.name not in reasons.setdefault(audit.reason, []):
                reasons[audit.reason].append(row.name)
    for reason, names in reasons.items():
        lines.append(f"not audited: {_few(names)}: {printable(reason, 200)}")
    return lines


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 40) for name in names[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def known_sentence(known: Known) -> str:
    """Say which disagreement of the atlas a wrong layer looks like, what is other there, and where to read on."""
    made = " with ".join(f"{name} {version}" for name, version in known.versions.items())
    settings = [f"{name} {_setting(value)}" for name, value in known.settings.items()]
    at = f", at {' and '.join(settings)}" if settings else ""
    other = f"; other than there, this run has {', '.join(map(printable, known.other))}" if known.other else ""
    doubt = "" if known.named else "; whether it is this one cannot be told"
    return f"the atlas knows such a fault of {known.kind} in {made}{at} ({known.see}){other}{doubt}"


def _setting(value: Any) -> str:
    return "×".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)


def sentence(check: Check, run: Run) -> str:
    """Say what a run came to: its error, or the first layer that is not rounding and what kind of fault it is."""
    if run.error is not None:
        return f"could not be checked: {run.reason}"
    what = _what(run)
    problem = check.problem(run)
    if problem is not None:
        return f"{what} does not agree: {objection(run, problem)}"
    verdicts: dict[Verdict, int] = {}
    for row in check.rows:
        audit = row.audits.get(run.label)
        if audit is not None:
            verdicts[audit.verdict] = verdicts.get(audit.verdict, 0) + 1
    counted = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items(), key=lambda one: -one[1]))
    held = f"as {run.precision} holds them" if run.precision in NARROW else "bit for bit"
    weights = "" if run.weights is None else f"; weights equal the file's {held}"
    repeats = "" if run.repeats is None or any(run.repeats.values()) else "; it repeats itself bit for bit"
    partly = " as far as it was audited" if verdicts.get(Verdict.NOT_AUDITED) else ""
    some = f" on the {_counted(run)} inputs that were audited" if run.audited < run.inputs else ""
    itself = "; that is the reference's own arithmetic, and proves no framework right" if run.is_reference else ""
    good = "is within rounding" if run.is_reference else "agrees"
    return f"{what} {good}{partly}{some}: {counted}{weights}{repeats}{itself}{_finer(check, run)}"


def _finer(check: Check, run: Run) -> str:
    """What was more precise than was asked for, if anything."""
    finer = check.finer(run)
    if not finer:
        return ""
    ran = {row.audits[run.label].verdict for row in finer}
    names = ", ".join(f"'{printable(row.name, 40)}'" for row in finer[:3])
    more = f" and {len(finer) - 3} more" if len(finer) > 3 else ""
    found = ", ".join(one for one in Verdict if one in ran)
    return f"; more precise than asked for: {names}{more} ran in {found}, not in {run.precision}"


def _counted(run: Run) -> str:
    return f"{run.audited:,} of {run.inputs:,}"


def objection(run: Run, problem: Problem) -> str:
    """Say what speaks against a run."""
    if problem.objection is Objection.ERROR:
        return run.error or ""
    differing = f"weights differ from the file's: {run.weights[0]}" if run.weights else ""
    if problem.audit is not None:
        # Compiled kernels may hide NaN behind a ReLU: what the backend's own weights hold belongs to the explanation.
        return _fault(problem.layer, problem.audit) + (f"; {differing}" if differing else "")
    if problem.objection is Objection.WEIGHTS:
        return f"{len(run.weights or ())} {differing}"
    off = (run.repeats or {})[problem.layer]
    return f"it does not repeat itself: {printable(problem.layer)} is {off:.2g} off at most in a second run"


def _fault(name: str, audit: Audit) -> str:
    where = "" if audit.worst_channel is None else f", worst in channel {audit.worst_channel}"
    place = f" at {audit.worst_position}" if audit.worst_position else ""
    why = f": {audit.explanation}" if audit.explanation else ""
    return (
        f"'{printable(name, 60)}' is the first layer that is not rounding: {audit.verdict} "
        f"({_bits(audit.bits).strip()} bits{where}{place}){why}"
    )


def _what(run: Run) -> str:
    versions: Mapping[str, str] = run.versions
    named = [f"{name} {version}" for name, version in versions.items() if name != "python"]
    return f"({', '.join([*named, run.device, run.precision])})"


def twins_page(twins: Twins) -> Page:
    """Write both checks one after the other, then a row an output and pair of runs, and a sentence."""
    rows = [["output", "float64", "runs", "max abs", "relative RMS"]]
    for one in twins.outputs:
        shown = " and ".join(printable(name, 40) for name in one.names)
        apart = "-" if one.apart is None else f"{one.apart:.2g}"
        for (a, b), found in one.recorded.items():
            rows.append([shown, apart, f"{a} and {b}", f"{found.max_abs:.2g}", f"{found.rel_rms:.2g}"])
        if not one.recorded:
            rows.append([shown, apart, f"{one.shapes[0]} and {one.shapes[1]}", "-", "-"])
    checks = [part for one in twins.checks for part in (*as_page(one).parts, "")]
    return Page(
        [*checks, Table(rows, fold=(2,)), "", Toned(_twins_sentence(twins), Tone.GOOD if twins.agree else Tone.BAD)]
    )


def _twins_sentence(twins: Twins) -> str:
    if twins.reason:
        return f"the outputs could not be compared in float64: {twins.reason}"
    worst = max(twins.outputs, key=lambda one: one.apart or 0.0)
    apart = worst.apart or 0.0
    names = " and ".join(f"'{printable(name, 40)}'" for name in worst.names)
    if not math.isfinite(apart):
        return f"they are not one model: {names} have other shapes, or NaN and infinities at other places"
    where = "where rounding gives at most 2**-40 (9.1e-13)"
    if twins.moves:
        where = f"and rounding the weights once more moves them by {twins.moves:.2g}"
    text = f"{names} are {apart:.2g} of their largest value apart in float64, {where}"
    if apart > twins.limit:
        return f"they are not one model: {text}; cnnlens diff says why"
    sampled = next((run for run in twins.checks[0].runs if run.audited < run.inputs), None)
    some = "" if sampled is None else f"on {_counted(sampled)} inputs "
    if not twins.agree:
        return f"{some}the files hold one model, but an audit failed: {text}"
    return f"{some}they are one model{', to the rounding of its weights' if apart > LIMIT else ''}: {text}"


def twins_json(twins: Twins) -> dict[str, Any]:
    """Give the twins as plain data; ``apart`` is null where it is infinite or unknown."""
    return {
        "agree": twins.agree,
        "could_check": twins.could_check,
        "reason": twins.reason or None,
        "says": _twins_sentence(twins),
        "limit": twins.limit,
        "outputs": [
            {
                "names": list(one.names),
                "shapes": [list(shape) for shape in one.shapes],
                "apart": finite_or_null(one.apart),
                "recorded": [
                    {
                        "runs": [a, b],
                        "max_abs": finite_or_null(found.max_abs),
                        "relative_rms": finite_or_null(found.rel_rms),
                    }
                    for (a, b), found in one.recorded.items()
                ],
            }
            for one in twins.outputs
        ],
        "checks": [as_json(one) for one in twins.checks],
    }


def why_not(found: Twins) -> str:
    """Say what is wrong with two models that should be one."""
    if found.reason:
        return found.reason
    for one in found.checks:
        for run in one.runs:
            if one.problem(run) is not None:
                return f"{run.label}: {sentence(one, run)}"
    apart = [one for one in found.outputs if one.apart is None or not one.apart <= found.limit]
    if apart:
        name, off = f"output '{printable(apart[0].names[0])}'", apart[0].apart
        if off is not None and math.isfinite(off):
            return f"{name} is {off:.2g} of its largest value off in float64"
        first, second = apart[0].shapes
        if sorted(first) != sorted(second):
            return f"{name} is of another shape: {first} and {second}"
        return f"{name} has its axes in another order, or NaN and infinities at other places: {first} and {second}"
    return "no layer of it could be audited"


def why_failed(check: Check) -> str:
    """Say what is wrong with a model that was checked by itself."""
    run = check.runs[0]
    problem = check.problem(run)
    if problem is None:
        return "it cannot be run"
    return "a layer of it is not rounding" if problem.audit is not None else objection(run, problem)
