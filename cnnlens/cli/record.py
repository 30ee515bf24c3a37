"""The command ``cnnlens record``."""

from __future__ import annotations

import argparse
from typing import Any

from cnnlens.cli.arguments import add_inputs, add_json, add_model, add_run, add_scale, inputs_of, network_of, run_of
from cnnlens.cli.layers import layers_listed
from cnnlens.cli.printing import output_made

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
    record.add_argument(
        "--backend", "-b", metavar="NAME", help="NAME or NAME@PYTHON (default: reference; pytorch for its own)"
    )
    record.add_argument(
        *("--layers", "-l"),
        action="append",
        metavar="NAME|INDEX,…",
        help="which layers, separated by commas; repeat it for more (default: all)",
    )
    add_run(record, "native", "default: native, as the framework comes")
    record.add_argument("-o", "--output", required=True, metavar="RUN.zarr", help="the recording's folder")
    record.add_argument(
        "--batch", type=int, metavar="N", help="inputs at once (default: as make 64 MB of feature maps)"
    )
    record.add_argument("--limit", type=int, metavar="N", help="only the first N inputs")
    add_scale(record, "said in what is printed")
    record.add_argument("--overwrite", action="store_true", help="throw away a recording that is there")
    add_json(record)


def _record(options: argparse.Namespace) -> None:
    from cnnlens.cli.progress import Progress
    from cnnlens.recording import listing
    from cnnlens.recording.recorder import record

    network = network_of(options)
    with Progress("inputs") as progress:
        recording = record(
            network,
            inputs_of(options, network),
            backend=options.backend,
            layers=layers_listed(options.layers, network.tensors),
            out=options.output,
            batch=options.batch,
            overwrite=options.overwrite,
            scale=options.scale,
            limit=options.limit,
            progress=progress,
            **run_of(options),
        )
    output_made(options, recording, listing.as_json, listing.as_page)
