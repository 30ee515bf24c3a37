"""The command ``cnnlens verify``: what is in files and recordings before anybody runs them, and its exit code."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import add_json, add_output
from cnnlens.cli.printing import output_made
from cnnlens.errors import CnnlensError
from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.opening.findings import Report

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    one = commands.command(
        "verify",
        _verify,
        "say what is in model files and recordings, and whether they are safe to view and to run; nothing is run",
        "Every checksum is compared and every array read. 'Safe to run' says that the file carries no code and names "
        "none but Keras' and PyTorch's own. Exit code 0: all are safe to run; 1: there is something to look at; 2: one "
        "cannot be read.",
    )
    one.add_argument(
        "files", nargs="+", metavar="FILE", help="a model file, a RUN.zarr, or a folder, whose models are looked at"
    )
    add_json(one)
    add_output(one)


def _verify(options: argparse.Namespace) -> int:
    from cnnlens.progress import Progress

    paths = list(_expanded(options.files))
    kept: list[Report] = []
    left_out: list[Report] = []
    with Progress("files") as progress:
        for done, (path, named) in enumerate(paths, 1):
            report = _report(path)
            inside = report.foreign.inside if report.foreign is not None else ()
            if inside:
                kept += [_report(Path(f"{path}::{name}")) for name in inside]
            elif named or report.foreign is None or report.named_like_a_model:
                kept.append(report)
            else:  # what lies in a folder beside the models is no model that somebody asked about
                left_out.append(report)
            progress(done, len(paths))
    if not kept:
        where = ", ".join(printable(one, 200) for one in options.files)
        raise CnnlensError(f"{where}: no model file in it ({len(left_out):,} files of other kinds); name a file")
    output_made(options, (kept, left_out), _as_json, _as_page, options.output)
    return max(report.code for report in kept)


def _expanded(names: list[str]) -> Iterator[tuple[Path, bool]]:
    """Every file to look at, and whether it was named itself."""
    for name in names:
        path = Path(name)
        if not path.is_dir() or _is_one(path):
            yield path, True
            continue
        for folder, below, files in os.walk(path):
            here = Path(folder)
            for inner in [inner for inner in sorted(below) if _is_one(here / inner)]:
                yield here / inner, False
            below[:] = sorted(inner for inner in below if not _is_one(here / inner) and not inner.startswith("."))
            for file in sorted(files):
                if (here / file).is_file() and not file.startswith("."):
                    yield here / file, False


def _is_one(folder: Path) -> bool:
    """Whether a folder is one model or recording, and not a place where several lie."""
    return any((folder / mark).is_file() for mark in ("model.weights.h5", "zarr.json", "saved_model.pb"))


def _report(path: Path) -> Report:
    from cnnlens.opening.findings import examine

    return _of_recording(path) if (path / "zarr.json").is_file() else examine(path)


def _of_recording(path: Path) -> Report:
    from cnnlens.opening.findings import Finding, Report
    from cnnlens.recording.recording import Recording

    report = Report(path)
    try:
        recording = Recording.open(path)
        info = recording.info
        report.format = f"recording of {len(recording):,} tensors of {recording.count:,} inputs"
        report.written_by = f"cnnlens, {printable(recording.description.backend, 60)}"
        report.size = recording.verify()
        report.sha256 = str(info.get("model", {}).get("sha256") or "")
        if not recording.complete:
            what = f"{recording.recorded:,} of {recording.count:,} inputs are recorded"
            report.findings.append(Finding("arrays", "", what))
    except CnnlensError as error:
        report.refused = str(error).removeprefix(f"{printable(path, 300)}: ")
    return report


# --- what is printed ------------------------------------------------------------------------------------------------


_TONES = {"safe to run": Tone.GOOD, "safe to view": Tone.DOUBT, "cannot be read": Tone.BAD}


def _as_page(made: tuple[list[Report], list[Report]]) -> Page:
    kept, left_out = made
    parts: list[str | Table] = [part for report in kept for part in (*_of(report), "")]
    if len(kept) > 1 or left_out:
        counts = [(sum(one.verdict == verdict for one in kept), verdict) for verdict in _TONES]
        told = ", ".join(f"{count:,} {verdict}" for count, verdict in counts if count)
        parts.append(f"{len(kept):,} {'file' if len(kept) == 1 else 'files'}: {told}")
    if left_out:
        kinds: dict[str, int] = {}
        for report in left_out:
            kind = report.refused.removeprefix("this is ").partition(";")[0]
            kinds[kind] = kinds.get(kind, 0) + 1
        told = ", ".join(kind if count == 1 else f"{count:,} times {kind}" for kind, count in kinds.items())
        parts.append(f"left out, of kinds that cnnlens does not open: {told}")
    return Page(parts[: -1 if parts[-1] == "" else None])


def _of(report: Report) -> Iterator[str]:
    yield Toned(printable(report.path, 300), Tone.STRONG)
    looked_at = report.verdict == "safe to run" and report.findings
    yield Toned(f"  {_sentence(report)}", Tone.DOUBT if looked_at else _TONES[report.verdict])
    if report.refused:
        yield f"  {'reason':<8} {report.refused}"
    else:
        size = "" if report.size is None else f"{report.size:,} bytes"
        parameters = "" if report.parameters is None else f"{report.parameters:,} parameters"
        yield "  " + " · ".join(fact for fact in (report.format, report.written_by, size, parameters) if fact)
        if report.sha256:
            owner = "" if report.parameters is not None else "model "
            yield Toned(f"  {owner}sha256 {report.sha256}", Tone.PALE)
    for one in report.findings:
        where = f"{printable(one.where, 60)}: " if one.where else ""
        yield f"  {one.about:<8} {where}{one.what}"
    for one in report.also:
        numbers = "" if one.numbers is None else f"; {one.numbers:,} numbers"
        yield f"  {'also':<8} {one.what}: {one.says}{numbers}"
    for note in report.notes:
        yield f"  {'note':<8} {note}"


def _sentence(report: Report) -> str:
    if report.verdict == "safe to run":
        return "safe to run" + (", but look at this" if report.findings else "")
    unsafe = any(one.about == "code" for one in report.findings)
    return report.verdict + (", not safe to run" if unsafe or not report.refused else "")


def _as_json(made: tuple[list[Report], list[Report]]) -> dict[str, Any]:
    """``{"files": [{"path", "verdict", "findings": [{"about", "where", "what"}], ...}], "left_out": [...]}``."""
    kept, left_out = made
    return {
        "files": [
            {
                "path": str(one.path),
                "verdict": one.verdict,
                "refused": one.refused or None,
                "format": one.format or None,
                "written_by": one.written_by or None,
                "size": one.size,
                "sha256": one.sha256 or None,
                "parameters": one.parameters,
                "findings": [{"about": each.about, "where": each.where, "what": each.what} for each in one.findings],
                "notes": list(one.notes),
                "also": [{"what": each.what, "says": each.says, "numbers": each.numbers} for each in one.also],
            }
            for one in kept
        ],
        "left_out": [{"path": str(one.path), "what": one.refused} for one in left_out],
    }
