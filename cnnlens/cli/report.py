"""The command ``cnnlens report``, and the page that other commands write of what they found."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cnnlens.cli.arguments import (
    add_inputs,
    add_json,
    add_model,
    add_output,
    add_run,
    add_scale,
    inputs_of,
    listed,
    network_of,
    networks_of,
    run_of,
    whole_number,
)
from cnnlens.cli.layers import layers_listed
from cnnlens.cli.printing import output_made
from cnnlens.errors import CnnlensError
from cnnlens.page import Page
from cnnlens.reporting.words import LANGUAGES

if TYPE_CHECKING:
    from cnnlens.network.network import Network
    from cnnlens.reporting.lesson import Lesson
    from cnnlens.reporting.result import Report

Made = TypeVar("Made", bound="Report | Lesson")

__all__ = [
    "PAGE_OR_FILE",
    "add",
    "add_page",
    "add_page_output",
    "is_page",
    "output_found",
    "output_page",
    "page_of",
    "refuse_no_page",
]

PAGE_OR_FILE = "write to FILE instead of the terminal; to a .html file as a page: see cnnlens report"

_PAGES = (".html", ".htm")


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    report = commands.command(
        "report",
        _report,
        "one HTML page of a model: graph, kernels, weights, feature maps, what a check found, why another differs",
        "It opens from disk, loads nothing, and holds its numbers as JSON.",
    )
    add_model(report)
    report.add_argument("recordings", nargs="*", metavar="RUN.zarr", help="recordings of the model, which are checked")
    add_inputs(
        report,
        "PNG/JPEG, .npy, .npz, IDX or a folder; with NAME= for each input of several; 'random' draws a few "
        "(default: no maps)",
        "|random",
    )
    report.add_argument("--backends", "-b", metavar="A,B,…", help="check these backends, too (default: none)")
    report.add_argument("--against", metavar="MODEL", help="say why this one differs, and draw what differs")
    report.add_argument(
        *("--layers", "-l"),
        action="append",
        metavar="NAME|INDEX,…",
        help="whose kernels and maps it shows, separated by commas; repeat it for more (default: all)",
    )
    report.add_argument(
        "--limit", type=whole_number(1), metavar="N", help="show the maps of the first N inputs (default: 12)"
    )
    report.add_argument(
        "--sample", type=whole_number(1), metavar="N", help="check N of the inputs, spread evenly (default: all)"
    )
    add_scale(report, "said in the page")
    add_run(report, "strict", "of the check (default: strict)")
    add_page_output(report)


def add_page_output(parser: argparse.ArgumentParser) -> None:
    """Add what a command takes that makes a page: its language, ``-o`` and ``--json``."""
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the page's words (default: en)")
    add_json(parser)
    add_output(parser, "write the page to FILE.html")


def output_page(
    options: argparse.Namespace, made: Made, as_json: Callable[[Made], dict[str, Any]], as_page: Callable[[Made], Page]
) -> None:
    """Save a page where a file is named, and say what it holds and where it is."""
    wrote = {} if options.output is None else {"page": str(made.save(options.output))}
    output_made(
        options,
        made,
        lambda one: {**as_json(one), **wrote},
        lambda one: Page([*as_page(one).parts, *(f"wrote {path}" for path in wrote.values())]),
    )


def _report(options: argparse.Namespace) -> None:
    from cnnlens.reporting import listing
    from cnnlens.reporting.reporter import MOST_INPUTS, report

    if options.output is None and not options.json:
        raise CnnlensError("a report is a page to open: name its file, as in -o report.html")
    if options.output is not None:
        refuse_no_page(options.output, "-o")
    if options.against is None:
        network, against = network_of(options), None
    else:
        network, against = networks_of(options, [options.model, options.against])
    made = report(
        network,
        inputs=inputs_of(options, network),
        backends=None if options.backends is None else listed(options.backends),
        recordings=options.recordings,
        against=against,
        layers=layers_listed(options.layers, network.by_name),
        limit=options.limit or MOST_INPUTS,
        scale=options.scale,
        language=options.language,
        sample=options.sample,
        progress=not options.json,
        **run_of(options),
    )
    output_page(options, made, listing.as_json, listing.as_page)


# -- the page of another command -------------------------------------------------------------------------------------


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add ``--report`` to a command whose ``-o`` is what it makes."""
    parser.add_argument(
        "--report", dest="page", metavar="FILE", help="write it as an HTML page, too: see cnnlens report"
    )


def is_page(path: str | None) -> bool:
    """Tell whether a file is to be a page, by its name."""
    return path is not None and path.lower().endswith(_PAGES)


def refuse_no_page(path: str, option: str, what: str = "report") -> None:
    """Refuse a file for a page that no browser would open, before anything is computed."""
    from cnnlens.text import printable

    if not is_page(path):
        raise CnnlensError(f"{option} {printable(path, 300)}: a {what} is an HTML page; name a .html file")


def output_found(
    options: argparse.Namespace,
    made: Any,
    as_json: Callable[[Any], dict[str, Any]],
    as_page: Callable[[Any], Page],
    page: Callable[[], Report],
    path: str | None,
    name: str | None = None,
) -> None:
    """Print what a command ``made``, or write it, as ``output_made`` does; where ``path`` is that of a page, that is
    written, and the terminal told of it.

    Args:
        page: Makes the page; not called where there is no path of one.
    """
    if not is_page(path):
        output_made(options, made, as_json, as_page, path, name)
        return
    page().save(str(path))
    output_made(
        options,
        made,
        lambda one: {**as_json(one), "page": path},
        lambda one: Page([*as_page(one).parts, f"wrote {path}"]),
        name=name,
    )


def page_of(options: argparse.Namespace, network: Network, inputs: Any, **found: Any) -> Report:
    """Make the page of a model with what a command found out about it; as ``report_network`` takes it."""
    from cnnlens.output import silent
    from cnnlens.progress import telling
    from cnnlens.reporting.reporter import report_network

    given = {one: value for one in ("scale", "allow_nonfinite") if (value := getattr(options, one, None)) is not None}
    with telling(not options.json) as tell:
        return report_network(network, inputs, tell=tell or silent, **given, **found)
