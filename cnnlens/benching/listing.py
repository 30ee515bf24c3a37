"""A bench as a table, as plain data and as a figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cnnlens.benching.rows import LEAST, STAGES, BenchRow, Exactness, Measurements, Undecided
from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.text import finite_or_null, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnnlens.plot.front import Look

__all__ = ["as_figure", "as_json", "as_page"]

_SHOWN = "copy"  # the stage of the figure: what is audited has just been given there


def as_page(bench: Measurements) -> Page:
    """Write the bench for people: images a second with bits beside them, what that took, and what cannot be told."""
    layers = f"feature maps of {len(bench.layers)} layer{'s' * (len(bench.layers) != 1)}"
    rounds = f"{bench.rounds} round{'s' * (bench.rounds != 1)}"
    devices = bench.many_devices
    where = "" if devices else f" on {next((row.ran_on for row in bench.rows if row.ran_on), bench.rows[0].device)}"
    names = ["backend", *(["device"] * devices), "precision", "batch"]
    first = len(names) - 1
    rows: list[list[str]] = [
        [*names, *STAGES[:1], *(f"+ {one}" for one in STAGES[1:]), "bits", "worst layer, or error"]
    ]
    took = [[*names, "load s", "first s", "copied GB/s", "written GB/s", "host MB", "device MB"]]
    before = {row.label: row for row in reversed(bench.rows)}  # the first of each configuration, which was loaded
    for group in _grouped(bench.rows):
        row = group[0]
        sizes = ", ".join(str(one.batch) for one in group)
        which = [row.backend, *([row.device] * devices), row.precision, sizes]
        rows.append([*which, *(_rate(row, stage) for stage in STAGES), *_exact(row)])
        if row.first is not None:
            took.append([*which, *_took(row, first=row is before[row.label])])
    parts: list[str | Table] = [
        Toned(bench.model, Tone.STRONG),
        f"sha256 {bench.sha256}",
        f"inputs: {bench.inputs}; {layers}; {rounds}{where}",
        "",
        "images a second: the median of the rounds, and half of its 95 % interval",
        Table(rows, right=range(first, first + 6), fold=(first + 6,), unpivot=first + 1),
        "",
    ]
    if len(took) > 1:
        parts += [
            "what it took; memory is the most that was held by then",
            Table(took, right=range(first, first + 7), unpivot=first + 1),
            "",
        ]
    parts += [
        "forward: from arrays on the host to the outputs on the device, waited for as every run is",
        "+ capture: to these feature maps there; + copy: to them on the host, in canonical axes",
        "+ write: to files, each batch before the next",
        "load: a process, its framework's import and the network; first: a batch, and compiling for it",
        *_audits(bench),
        *_noise(bench),
    ]
    if bench.interrupted:
        parts.append(Toned("interrupted: this is what was measured by then", Tone.DOUBT))
    return Page(parts)


def _grouped(rows: tuple[BenchRow, ...]) -> list[list[BenchRow]]:
    """Rows one by one; those of one configuration that failed alike, before they were timed, together."""
    groups: list[list[BenchRow]] = []
    for row in rows:
        last = groups[-1][0] if groups else None
        if last is not None and row.error and not row.stages and not last.stages and (
            (row.label, row.error) == (last.label, last.error)
        ):  # fmt: skip
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _rate(row: BenchRow, stage: str) -> str:
    rate = row.rate(stage)
    if rate is None:
        return "-"
    some = len(row.stages[stage].seconds) > 1  # of one round nothing is known of the spread
    return _number(rate) + (f" ±{100 * row.stages[stage].spread:.0f} %" if some else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _exact(row: BenchRow) -> list[str]:
    if row.error:
        shown = Toned(row.error, Tone.BAD)
        return ["-", shown] if row.exactness is None else [_bits(row.exactness), shown]
    found = row.exactness
    if found is None:
        return ["-", "-"]
    tone = Tone.GOOD if found.agrees and not found.finer else Tone.DOUBT if found.agrees else Tone.BAD
    return [Toned(_bits(found), tone), Toned(f"{printable(found.layer, 40)} {found.verdict}", tone)]


def _bits(found: Exactness) -> str:
    return f"{found.bits:.1f}" if math.isfinite(found.bits) else "all"


def _took(row: BenchRow, first: bool) -> list[str]:
    def giga(stage: str) -> str:
        found = row.bandwidth(stage)
        return "-" if found is None else f"{found / 1e9:.2g}"

    def mega(count: int | None) -> str:
        return "-" if count is None else f"{count / 1e6:,.0f}"

    load = f"{row.load:.3g}" if first and row.load is not None else ""
    return [load, f"{row.first:.3g}", giga("copy"), giga("write"), mega(row.host_peak), mega(row.device_peak)]


def _audits(bench: Measurements) -> list[str]:
    """What the bits are, and each configuration that did not do as it was asked."""
    found = {row.label: row.exactness for row in bench.rows if row.exactness is not None}
    if not found:
        return []
    lines: list[str] = [
        f"bits: effective bits of the worst layer, by an audit of every layer on {bench.audited} "
        f"input{'s' * (bench.audited != 1)}; float32 has 20 to 24"
    ]
    for label, one in found.items():
        if not one.agrees or one.finer:
            lines.append(Toned(f"{label}: {one.says}", Tone.DOUBT if one.agrees else Tone.BAD))
    return lines


def _noise(bench: Measurements) -> list[str]:
    """Which rows are too near for this machine, or the rounds too few."""
    batches = [row.batch for row in bench.rows if row.stages]
    if len(set(batches)) == len(batches):  # no two of one batch
        return []
    rule = [
        "rule: two rows of one batch are told apart where the 95 % interval of the median of their times' ratio, round "
        f"by round, does not hold 1, which takes {LEAST} rounds of both"
    ]
    if bench.rounds < LEAST:
        few = f"no two rows can be told apart: there are {bench.rounds} rounds; give more --seconds, or fewer rows"
        return [Toned(few, Tone.DOUBT), *rule]
    lines: list[str] = []
    for stage in ("forward", _SHOWN):
        shown = stage if stage == "forward" else f"+ {stage}"
        lines += [
            f"too noisy to tell apart, {shown}, batch {one.faster.batch}: {_short(bench, one.faster)} and "
            f"{_short(bench, one.slower)} ({_ratio(one)})"
            for one in bench.undecided(stage)
        ]
    return [*lines, *rule]


def _ratio(one: Undecided) -> str:
    if one.rounds < LEAST:
        return f"{one.rounds} round{'s' * (one.rounds != 1)} of both"
    return f"{one.low:.2f} to {one.high:.2f} of its time"


def _short(bench: Measurements, row: BenchRow) -> str:
    return row.label if bench.many_devices else f"{row.backend} {row.precision}"


def as_json(bench: Measurements) -> dict[str, Any]:
    """Give the bench as plain data.

    ``{"model", "sha256", "inputs", "layers", "rounds", "interrupted", "agree", "audited_inputs", "rows": [{"backend",
    "device", "precision", "batch", "stages": {"forward": {"images_s", "seconds", "interval", "rounds"}, …}, "bits",
    "layer", "verdict", "error", …}], "undecided"}``. Seconds are of a batch; what is not known is null, as are the bits
    of what is exact.
    """
    return {
        "model": bench.model,
        "sha256": bench.sha256,
        "inputs": bench.inputs,
        "layers": list(bench.layers),
        "rounds": bench.rounds,
        "interrupted": bench.interrupted,
        "agree": bench.agree,
        "audited_inputs": bench.audited,
        "rows": [_row(row) for row in bench.rows],
        "undecided": [
            {
                "stage": one.stage,
                "batch": one.faster.batch,
                "rows": [one.faster.label, one.slower.label],
                "ratio": [one.low, one.high],
            }
            for stage in STAGES
            for one in bench.undecided(stage)
        ],
    }


def _row(row: BenchRow) -> dict[str, Any]:
    found = row.exactness
    return {
        "backend": row.backend,
        "device": row.device,
        "precision": row.precision,
        "batch": row.batch,
        "ran_on": row.ran_on or None,
        "versions": dict(row.versions),
        "load_seconds": row.load,
        "first_seconds": row.first,
        "stages": {
            stage: {
                "images_s": row.batch / timed.median,
                "seconds": timed.median,
                "interval": list(timed.interval),
                "rounds": dict(zip(map(str, timed.rounds), timed.seconds, strict=True)),
            }
            for stage, timed in row.stages.items()
        },
        "bytes": row.bytes or None,
        "copied_bytes_s": row.bandwidth("copy"),
        "written_bytes_s": row.bandwidth("write"),
        "host_peak_bytes": row.host_peak,
        "device_peak_bytes": row.device_peak,
        "bits": None if found is None else finite_or_null(found.bits),
        "layer": None if found is None else found.layer,
        "verdict": None if found is None else found.verdict,
        "agrees": None if found is None else found.agrees,
        "finer": None if found is None else list(found.finer),
        "says": None if found is None else found.says,
        "error": row.error or None,
    }


def as_figure(bench: Measurements, ax: Axes | None, look: Look) -> Figure | Axes:
    """Draw a row a configuration: images a second with all feature maps on the host, by effective bits."""
    from cnnlens.plot.tradeoff import Speed, Track, speed_against_bits

    shown = bench.many_devices
    tracks: list[Track] = []
    for label in dict.fromkeys(row.label for row in bench.rows):
        rows = [row for row in bench.rows if row.label == label and _SHOWN in row.stages]
        found = rows[0].exactness if rows else None
        if found is None:
            continue
        speeds = [Speed(f"{row.batch:,}", *_speeds(row)) for row in rows]
        name = label if shown else f"{rows[0].backend} {rows[0].precision}"
        tracks.append(Track(name, rows[0].backend, str(found.verdict), found.bits, speeds, found.verdict.fault))
    maps = f"{len(bench.layers)} layer{'s' * (len(bench.layers) != 1)}"
    where = "" if shown else f" on {bench.rows[0].ran_on or bench.rows[0].device}"
    return speed_against_bits(
        tracks,
        f"{bench.model}{where}",
        f"feature maps of {maps} on the host; under a point its batch, around it the 95 % interval; effective bits of "
        "the worst layer",
        ax=ax,
        **look,
    )


def _speeds(row: BenchRow) -> tuple[float, float, float]:
    timed = row.stages[_SHOWN]
    low, high = timed.interval
    return row.batch / timed.median, row.batch / high, row.batch / low
