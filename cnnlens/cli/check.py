"""``cnnlens check`` and ``cnnlens backends``: their arguments, and what they print."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import seconds, whole_number
from cnnlens.cli.backends import _backends
from cnnlens.opening import architecture

if TYPE_CHECKING:
    from cnnlens.checking.result import Check
    from cnnlens.checking.twins import Twins

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add both to ``commands`` (what ``ArgumentParser.add_subparsers`` gives)."""
    text = "run backends side by side and audit every layer against the float64 reference"
    check = commands.add_parser(
        "check",
        help=text,
        description=text.capitalize() + ". Exit code 0: they agree; 1: they do not; 2: it could not be checked.",
    )
    check.add_argument(
        "model", metavar="MODEL", help="a .keras, .h5, .pt2, .pt, .pth or .safetensors file, or a .keras folder"
    )
    check.add_argument("recordings", nargs="*", metavar="RUN.zarr", help="recordings of the same model, made anywhere")
    check.add_argument(
        "--backends", "-b", metavar="A,B,…", help="which backends (default: those that run this framework)"
    )
    check.add_argument(
        "--twin",
        metavar="MODEL",
        help="the same model in another framework: both are audited, and their outputs compared",
    )
    check.add_argument("--config", metavar="FILE", help="the model's config, where MODEL holds weights alone")
    architecture.add_arguments(check)
    check.add_argument(
        "--inputs",
        "-i",
        action="append",
        metavar="[NAME=]PATH",
        help="PNG/JPEG, .npy, .npz, IDX or a folder; with NAME= for each input of several (default: a few are drawn)",
    )
    check.add_argument("--precision", choices=["strict", "native"], default="strict", help="default: strict")
    check.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, gpu or gpu:1 (default: cpu)")
    check.add_argument(
        "--repeat", type=whole_number(1), default=1, metavar="N", help="2 runs each backend twice and compares bits"
    )
    check.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long a backend may be silent")
    check.add_argument(
        "--trust-code", action="store_true", help="run code that comes with the file: only your own files"
    )
    check.add_argument("--allow-nonfinite", action="store_true", help="take inputs that hold NaN or infinity")
    check.add_argument("--json", action="store_true", help="print JSON instead of text")
    check.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of the terminal")
    check.set_defaults(command=_check)

    text = "list the backends: what is installed, versions, devices, and what installs the rest"
    backends = commands.add_parser("backends", help=text, description=text.capitalize() + ".")
    backends.add_argument("--devices", action="store_true", help="start each one and ask it for its devices")
    backends.add_argument("--json", action="store_true", help="print JSON instead of text")
    backends.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of the terminal")
    backends.set_defaults(command=_backends)


def _check(options: argparse.Namespace) -> int:
    from cnnlens.checking import listing as check_listing
    from cnnlens.checking.checker import check
    from cnnlens.cli.arguments import inputs_given

    if options.twin is not None:
        return _check_twins(options)
    network = architecture.network(options)
    inputs = inputs_given(options.inputs, [ref.name for ref in network.inputs]) if options.inputs else None
    backends = _chosen(options)
    quiet = options.json or not sys.stderr.isatty()
    result = check(
        network,
        inputs,
        backends=backends,
        recordings=options.recordings,
        precision=options.precision,
        device=options.device,
        repeat=options.repeat,
        timeout=options.timeout,
        trust_code=options.trust_code,
        allow_nonfinite=options.allow_nonfinite,
        progress=None if quiet else lambda line: print(line, file=sys.stderr),
    )
    return _told(options, result, check_listing.as_json, check_listing.as_table)


def _check_twins(options: argparse.Namespace) -> int:
    from cnnlens.checking import listing as check_listing
    from cnnlens.checking import twins
    from cnnlens.cli.arguments import inputs_given
    from cnnlens.errors import CnnlensError

    if options.recordings or options.repeat > 1:
        raise CnnlensError("--twin runs both models itself, once; leave recordings and --repeat out")
    a, b = architecture.networks(options, [options.model, options.twin])
    quiet = options.json or not sys.stderr.isatty()
    result = twins.check_twins(
        a,
        b,
        inputs_given(options.inputs, [ref.name for ref in a.inputs]) if options.inputs else None,
        backends=_chosen(options),
        precision=options.precision,
        device=options.device,
        timeout=options.timeout,
        trust_code=options.trust_code,
        allow_nonfinite=options.allow_nonfinite,
        progress=None if quiet else lambda line: print(line, file=sys.stderr),
    )
    return _told(options, result, check_listing.twins_json, check_listing.twins_table)


def _told(
    options: argparse.Namespace,
    result: Check | Twins,
    as_json: Callable[[Any], dict[str, Any]],
    as_table: Callable[[Any], str],
) -> int:
    """Print a result as it was asked for; the exit code that it stands for."""
    from cnnlens.cli.printing import output_text

    text = json.dumps(as_json(result), indent=2, allow_nan=False) + "\n" if options.json else as_table(result)
    output_text(text, options.output)
    if not result.could_check:
        return 2
    return 0 if result.agree else 1


def _chosen(options: argparse.Namespace) -> list[str] | None:
    """The backends asked for; None for those that suit the model."""
    if options.backends is None:
        return None
    return [name for name in (part.strip() for part in options.backends.split(",")) if name]
