"""The command ``cnnlens backends``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

__all__ = []


def _backends(options: argparse.Namespace) -> None:
    from cnnlens.backend import listing as backend_listing
    from cnnlens.cli.printing import output_text

    rows = backend_listing.table(devices=options.devices)
    output_text(backend_listing.as_json(rows) if options.json else backend_listing.as_text(rows), options.output)
