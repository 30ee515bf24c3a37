"""The command ``cnnlens check``: its arguments, and its exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import (
    add_json,
    add_model,
    add_output,
    add_run,
    inputs_of,
    network_of,
    networks_of,
    teller,
    whole_number,
)
from cnnlens.cli.printing import output_json, output_text
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
    check.add_argument(
        "--inputs",
        "-i",
        action="append",
        metavar="[NAME=]PATH",
        help="PNG/JPEG, .npy, .npz, IDX or a folder; with NAME= for each input of several (default: a few are drawn)",
    )
    add_run(check, "strict", "default: strict")
    check.add_argument(
        "--repeat", type=whole_number(1), default=1, metavar="N", help="2 runs each backend twice and compares bits"
    )
    check.add_argument("--allow-nonfinite", action="store_true", help="take inputs that hold NaN or infinity")
    add_json(check)
    add_output(check)


def _check(options: argparse.Namespace) -> int:
    from cnnlens.checking import listing
    from cnnlens.checking.checker import check

    if options.twin is not None:
        return _check_twins(options)
    network = network_of(options)
    result = check(
        network,
        inputs_of(options, network),
        backends=_chosen(options),
        recordings=options.recordings,
        precision=options.precision,
        device=options.device,
        repeat=options.repeat,
        timeout=options.timeout,
        trust_code=options.trust_code,
        allow_nonfinite=options.allow_nonfinite,
        progress=teller(options),
    )
    return _told(options, result, listing.as_json, listing.as_table)


def _check_twins(options: argparse.Namespace) -> int:
    from cnnlens.checking import listing, twins

    if options.recordings or options.repeat > 1:
        raise CnnlensError("--twin runs both models itself, once; leave recordings and --repeat out")
    a, b = networks_of(options, [options.model, options.twin])
    result = twins.check_twins(
        a,
        b,
        inputs_of(options, a),
        backends=_chosen(options),
        precision=options.precision,
        device=options.device,
        timeout=options.timeout,
        trust_code=options.trust_code,
        allow_nonfinite=options.allow_nonfinite,
        progress=teller(options),
    )
    return _told(options, result, listing.twins_json, listing.twins_table)


def _told(
    options: argparse.Namespace,
    result: Check | Twins,
    as_json: Callable[[Any], dict[str, Any]],
    as_table: Callable[[Any], str],
) -> int:
    """Print a result as it was asked for; the exit code that it stands for."""
    if options.json:
        output_json(as_json(result), options.output)
    else:
        output_text(as_table(result), options.output)
    if not result.could_check:
        return 2
    return 0 if result.agree else 1


def _chosen(options: argparse.Namespace) -> list[str] | None:
    """The backends asked for; None for those that suit the model."""
    if options.backends is None:
        return None
    return [name for name in (part.strip() for part in options.backends.split(",")) if name]
