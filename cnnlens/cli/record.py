"""The command ``cnnlens record``."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import (
    add_inputs,
    add_json,
    add_model,
    add_run,
    add_streamed,
    inputs_of,
    network_of,
    run_of,
    streamed_of,
)
from cnnlens.cli.layers import layers_listed
from cnnlens.cli.report import add_page, output_found, page_of, refuse_no_page
from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    from cnnlens.network.network import Network
    from cnnlens.recording.recording import Recording
    from cnnlens.reporting.result import Report

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    record = commands.command(
        "record",
        _record,
        "run images through a backend and keep the feature maps in a Zarr group",
        "A run that was cut short goes on where it stopped when it is given again.",
    )
    add_model(record)
    add_inputs(
        record,
        "a folder of PNG/JPEG, .npy, .npz or IDX (.gz); with NAME= for each input where the model has several",
        required=True,
    )
    add_streamed(record)
    record.add_argument(
        "--reduce",
        metavar="HOW",
        help="keep mean, max, moments (mean and variance), topk:K (the largest and where) or down:2 (averages of 2 x "
        "2) of each map, made on the device; what is reduced cannot be audited by check",
    )
    record.add_argument(
        "--store", choices=["float16"], help="keep the values as float16, which check cannot audit either"
    )
    add_run(record, "native", "default: native, as the framework comes")
    record.add_argument(
        *("-o", "--output"),
        required=True,
        metavar="RUN.zarr",
        help="the recording's folder, or with --engine its address: s3://bucket/run.zarr",
    )
    add_page(record)
    record.add_argument("--overwrite", action="store_true", help="throw away a recording that is there")
    add_json(record)


def _record(options: argparse.Namespace) -> None:
    from cnnlens.progress import Progress
    from cnnlens.recording import listing
    from cnnlens.recording.recorder import record

    if options.page is not None:
        refuse_no_page(options.page, "--report")
        if options.reduce is not None or options.store is not None:
            raise CnnlensError(
                "--report audits what is recorded, which reduced maps and float16 do not allow; leave --report out"
            )
    network = network_of(options)
    with Progress("inputs") as progress:
        recording = record(
            network,
            inputs_of(options, network),
            backend=options.backend,
            reduce=options.reduce,
            store=options.store,
            layers=layers_listed(options.layers, network.tensors),
            out=options.output,
            overwrite=options.overwrite,
            progress=progress,
            **streamed_of(options),
            **run_of(options),
        )
    page = partial(_page, options, network, recording)
    output_found(options, recording, listing.as_json, listing.as_page, page, options.page)


def _page(options: argparse.Namespace, network: Network, recording: Recording) -> Report:
    from cnnlens.checking.checker import check
    from cnnlens.inputs.stream import open_inputs

    how = {name: getattr(options, name) for name in ("scale", "limit", "skip_bad", "allow_nonfinite")}
    inputs = open_inputs(network, inputs_of(options, network), **how)
    found = check(network, recordings=[recording], progress=not options.json)
    return page_of(options, network, inputs, check=found)
