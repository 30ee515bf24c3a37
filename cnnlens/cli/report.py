"""The command ``cnnlens report``."""

from __future__ import annotations

import argparse
from typing import Any

from cnnlens.cli.arguments import (
    add_inputs,
    add_json,
    add_model,
    add_output,
    add_scale,
    inputs_of,
    network_of,
    whole_number,
)
from cnnlens.cli.layers import layers_listed
from cnnlens.cli.printing import output_made
from cnnlens.errors import CnnlensError
from cnnlens.page import Page
from cnnlens.reporting.words import LANGUAGES

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    report = commands.command(
        "report",
        _report,
        "one HTML page of a model: graph, kernels, weights, feature maps, and what a check found",
        "It opens from disk, loads nothing, and holds its numbers as JSON.",
    )
    add_model(report)
    add_inputs(report, "PNG/JPEG, .npy, .npz, IDX or a folder; with NAME= for each input of several (default: no maps)")
    report.add_argument("--backends", "-b", metavar="A,B,…", help="check these backends, too (default: none)")
    report.add_argument(
        *("--layers", "-l"),
        action="append",
        metavar="NAME|INDEX,…",
        help="whose kernels and maps it shows, separated by commas; repeat it for more (default: all)",
    )
    report.add_argument(
        "--limit", type=whole_number(1), metavar="N", help="show the maps of the first N inputs (default: 12)"
    )
    add_scale(report, "said in the page")
    report.add_argument("--language", choices=LANGUAGES, default="en", help="of the page's words (default: en)")
    add_json(report)
    add_output(report, "write the page to FILE.html")


def _report(options: argparse.Namespace) -> None:
    from cnnlens.reporting import listing
    from cnnlens.reporting.reporter import MOST_INPUTS, report

    if options.output is None and not options.json:
        raise CnnlensError("a report is a page to open: name its file, as in -o report.html")
    network = network_of(options)
    made = report(
        network,
        inputs=inputs_of(options, network),
        backends=None if options.backends is None else list(filter(None, map(str.strip, options.backends.split(",")))),
        layers=layers_listed(options.layers, network.by_name),
        limit=options.limit or MOST_INPUTS,
        scale=options.scale,
        language=options.language,
        progress=not options.json,
    )
    wrote = {} if options.output is None else {"page": str(made.save(options.output))}
    output_made(
        options,
        made,
        lambda one: {**listing.as_json(one), **wrote},
        lambda one: Page([*listing.as_page(one).parts, *(f"wrote {path}" for path in wrote.values())]),
    )
