"""The command ``cnnlens check``: its arguments, and its exit code."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import (
    add_inputs,
    add_json,
    add_model,
    add_output,
    add_run,
    inputs_of,
    listed,
    network_of,
    networks_of,
    run_of,
    whole_number,
)
from cnnlens.cli.report import PAGE_OR_FILE, output_found, page_of
from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    from cnnlens.checking.result import Check
    from cnnlens.checking.twins import Twins

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    check = commands.command(
        "check",
        _check,
        "run backends side by side and audit every layer against the float64 reference",
        "Exit code 0: they agree; 1: they do not; 2: it could not be checked.",
    )
    add_model(check)
    check.add_argument("recordings", nargs="*", metavar="RUN.zarr", help="recordings of the same model, made anywhere")
    check.add_argument(
        "--backends", "-b", metavar="A,B,…", help="which backends (default: those that run this framework)"
    )
    check.add_argument(
        "--twin",
        metavar="MODEL",
        help="the same model in another framework: both are audited, and their outputs compared",
    )
    add_inputs(
        check, "PNG/JPEG, .npy, .npz, IDX or a folder; with NAME= for each input of several (default: a few are drawn)"
    )
    add_run(check, "strict", "default: strict; the others say what may be rounded, and each layer must have its bits")
    check.add_argument(
        "--repeat", type=whole_number(1), default=1, metavar="N", help="2 runs each backend twice and compares bits"
    )
    check.add_argument(
        "--sample",
        type=whole_number(1),
        metavar="N",
        help="audit N of the inputs, spread evenly (default: all, in float64: as long as a few plain runs)",
    )
    add_json(check)
    add_output(check, PAGE_OR_FILE)


def _check(options: argparse.Namespace) -> int:
    from cnnlens.checking import listing
    from cnnlens.checking.checker import check
    from cnnlens.checking.twins import check_twins

    shared: dict[str, Any] = {
        **run_of(options),
        "backends": None if options.backends is None else listed(options.backends),
        "sample": options.sample,
        "progress": not options.json,
    }
    if options.twin is not None:
        if options.recordings or options.repeat > 1:
            raise CnnlensError("--twin runs both models itself, once; leave recordings and --repeat out")
        one, other = networks_of(options, [options.model, options.twin])
        inputs = inputs_of(options, one)
        twins = check_twins(one, other, inputs, **shared)
        page = partial(page_of, options, one, inputs, twins=twins)
        output_found(options, twins, listing.twins_json, listing.twins_page, page, options.output, "twins")
        return _code(twins)
    network = network_of(options)
    inputs = inputs_of(options, network)
    result = check(network, inputs, recordings=options.recordings, repeat=options.repeat, **shared)
    page = partial(page_of, options, network, inputs, check=result)
    output_found(options, result, listing.as_json, listing.as_page, page, options.output)
    return _code(result)


def _code(result: Check | Twins) -> int:
    if not result.could_check:
        return 2
    return 0 if result.agree else 1
