"""The command ``cnnlens bench``: its arguments, and its exit code."""

from __future__ import annotations

import argparse
import signal
from typing import Any

from cnnlens.cli.arguments import (
    add_inputs,
    add_json,
    add_model,
    add_output,
    add_scale,
    add_trust,
    inputs_of,
    listed,
    network_of,
    seconds,
)
from cnnlens.cli.layers import layers_listed
from cnnlens.cli.printing import output_made
from cnnlens.errors import CnnlensError
from cnnlens.page import Page

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    bench = commands.command(
        "bench",
        _bench,
        "time a model under backends side by side, and say how exact each of them is",
        "Ctrl-C ends it and prints what there is. Exit code 0: all that ran does what its precision asks for; 1: one "
        "does not; 2: nothing could be timed.",
    )
    add_model(bench)
    bench.add_argument(
        "--backends", "-b", metavar="A,B,…", help="which backends (default: those that run this framework)"
    )
    bench.add_argument("--devices", default="cpu", metavar="cpu,gpu", help="cpu, gpu, gpu:1, … (default: cpu)")
    bench.add_argument("--batch", default="1,32,256", metavar="N,…", help="inputs at once (default: 1,32,256)")
    bench.add_argument(
        "--precision",
        default="strict,native",
        metavar="A,B,…",
        help="of strict, native, tf32, bfloat16, float16 (default: strict,native)",
    )
    bench.add_argument(
        *("--layers", "-l"),
        action="append",
        metavar="NAME|INDEX,…",
        help="whose feature maps are captured, separated by commas; repeat it for more (default: all)",
    )
    add_inputs(bench, "PNG/JPEG, .npy, .npz, IDX or a folder; repeated to fill a batch (default: a few are drawn)")
    add_scale(bench, "said in what is printed")
    bench.add_argument(
        "--seconds",
        type=seconds,
        default=30.0,
        metavar="S",
        help="for about how long all are timed in turn; loading and compiling are not in it (default: 30)",
    )
    add_trust(bench)
    add_json(bench)
    add_output(bench, "draw speed against exactness into FILE: .png, .pdf, .svg")


def _bench(options: argparse.Namespace) -> int:
    from cnnlens import plot
    from cnnlens.benching import listing
    from cnnlens.benching.bencher import bench

    if options.output is not None:
        plot.check_target(options.output)
    batches = [_whole(one) for one in listed(options.batch)]
    network = network_of(options)
    result = bench(
        network,
        inputs_of(options, network),
        backends=None if options.backends is None else listed(options.backends),
        devices=listed(options.devices),
        batches=batches,
        precisions=listed(options.precision),
        layers=layers_listed(options.layers, network.tensors),
        seconds=options.seconds,
        scale=options.scale,
        timeout=options.timeout,
        trust_code=options.trust_code,
        allow_nonfinite=options.allow_nonfinite,
        progress=not options.json,
    )
    drawn = any(row.exactness is not None and row.stages for row in result.rows)
    path = str(plot.save(result.figure(), options.output)) if drawn and options.output is not None else None
    output_made(
        options,
        result,
        lambda made: {**listing.as_json(made), "picture": path},
        lambda made: Page([*listing.as_page(made).parts, *([] if path is None else [f"wrote {path}"])]),
    )
    if result.interrupted:
        return 128 + signal.SIGINT
    return 2 if not result.ran else 0 if result.agree else 1


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CnnlensError(f"--batch '{text}': whole numbers separated by commas were expected") from None
