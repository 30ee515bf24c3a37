"""What runs a model, and the process it runs in: the seam that adapters answer, workers, how a network crosses."""

from __future__ import annotations

from cnnlens.backend.seam import (
    GROUP,
    NARROW,
    PRECISIONS,
    STORED,
    Backend,
    Beginning,
    Fingerprint,
    Found,
    Reducing,
    Renewing,
    Session,
    check_precision,
    compute,
    find,
    fingerprint,
    get,
    installed,
    load,
    parse_device,
    precisions_of,
    resolve,
    suited,
)

__all__ = [
    "GROUP", "NARROW", "PRECISIONS", "STORED", "Backend", "Beginning", "Fingerprint", "Found", "Reducing", "Renewing",
    "Session", "check_precision", "compute", "find", "fingerprint", "get", "installed", "load", "parse_device",
    "precisions_of", "resolve", "suited",
]  # fmt: skip
