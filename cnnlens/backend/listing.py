"""What ``cnnlens backends`` shows: which backends there are, with which versions and devices, and what is missing.

Versions come from metadata. Devices are known to a framework alone, so they are asked of a worker, and only when
somebody wants them; a backend that fails there is a line in the table, not the end of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from cnnlens.backend import seam as backend
from cnnlens.backend.seam import Found
from cnnlens.errors import CnnlensError
from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.text import printable

__all__ = ["BackendStatus", "as_json", "as_page", "table"]

_SECONDS = 120.0  # that a backend may take to name its devices
_INSTALLED = {word: Toned(word, tone) for word, tone in (("yes", Tone.GOOD), ("no", Tone.PALE), ("broken", Tone.BAD))}


@dataclass(frozen=True)
class BackendStatus:
    """Says what is known of one backend: what it needs, what is missing, which devices it has.

    Attributes:
        name: As ``--backend`` takes it.
        distribution: Who declares it, with version.
        installed: Whether all that it needs is here.
        versions: Of what it needs and is here.
        missing: What it needs and is not here.
        devices: Its devices, or None where they were not asked for or could not be told.
        install: The one command that installs what is missing; empty where nothing is.
        problem: Why it cannot be used, in one line; empty where it can.
    """

    name: str
    distribution: str
    installed: bool
    versions: dict[str, str]
    missing: tuple[str, ...]
    devices: tuple[str, ...] | None
    install: str
    problem: str


def table(devices: bool = False) -> list[BackendStatus]:
    """Make a row for each backend that is declared, broken ones included.

    Args:
        devices: Also ask for devices, which starts a process for each backend that is installed.
    """
    found = backend.installed()
    ready = [one for one in found if one.problem is None and not one.missing]
    asked: dict[Found, tuple[str, ...] | str] = {}
    if devices and ready:
        from cnnlens.backend.worker import threads

        driving: list[Future[tuple[str, ...] | str]] = []
        with threads(len(ready), driving) as lent:
            driving += [lent.submit(_devices, one.name) for one in ready]
            asked = {one: answer.result() for one, answer in zip(ready, driving, strict=True)}
    return [_row(one, asked.get(one)) for one in found]


def _devices(name: str) -> tuple[str, ...] | str:
    from cnnlens.backend.worker import pool

    try:
        with pool(name, timeout=_SECONDS) as worker:
            return tuple(worker.devices())
    except CnnlensError as error:
        return str(error)


def _row(found: Found, devices: tuple[str, ...] | str | None) -> BackendStatus:
    failed = devices if isinstance(devices, str) else ""
    return BackendStatus(
        name=found.name,
        distribution=f"{found.distribution} {found.version}",
        installed=found.problem is None and not found.missing,
        versions=found.versions,
        missing=found.missing,
        devices=None if isinstance(devices, str) else devices,
        install=found.backend.install if found.missing else "",
        problem=found.problem or failed,
    )


def as_page(rows: Sequence[BackendStatus]) -> Page:
    """Write the table for people: a line a backend, then one for each that is missing something or broken."""
    with_devices = any(row.devices is not None for row in rows)
    head = ["backend", "installed", "versions", *(["devices"] if with_devices else [])]
    cells = [
        [
            printable(row.name),
            _INSTALLED["broken" if row.problem else "yes" if row.installed else "no"],
            ", ".join(f"{printable(name)} {printable(version)}" for name, version in row.versions.items()) or "-",
            *([", ".join(printable(one) for one in row.devices or ()) or "-"] if with_devices else []),
        ]
        for row in rows
    ]
    shown: list[str | Table] = [Table([head, *cells], fold=range(2, len(head)))]
    for row in rows:
        if row.problem:
            shown.append(row.problem)
        elif row.missing:
            needed = " and ".join(printable(one) for one in row.missing)
            shown.append(f"{printable(row.name)} needs {needed}: {printable(row.install, 200)}")
    return Page(shown)


def as_json(rows: Sequence[BackendStatus]) -> dict[str, Any]:
    """Give the table as plain data: under ``backends`` one object a backend."""
    return {"backends": [_plain(row) for row in rows]}


def _plain(row: BackendStatus) -> dict[str, Any]:
    return {
        "name": row.name,
        "distribution": row.distribution,
        "installed": row.installed,
        "versions": row.versions,
        "missing": list(row.missing),
        "devices": None if row.devices is None else list(row.devices),
        "install": row.install or None,
        "problem": row.problem or None,
    }
