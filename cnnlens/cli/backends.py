"""The command ``cnnlens backends``: what is installed, and what installs the rest."""

from __future__ import annotations

import argparse
from typing import Any

from cnnlens.cli.arguments import add_json, add_output
from cnnlens.cli.printing import output_made

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    backends = commands.command(
        "backends", _backends, "list the backends: what is installed, versions, devices, and what installs the rest"
    )
    backends.add_argument("--devices", action="store_true", help="start each one and ask it for its devices")
    add_json(backends)
    add_output(backends)


def _backends(options: argparse.Namespace) -> None:
    from cnnlens.backend import listing

    rows = listing.table(devices=options.devices)
    output_made(options, rows, listing.as_json, listing.as_page, options.output)
