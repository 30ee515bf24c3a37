"""The command ``cnnlens export``."""

from __future__ import annotations

import argparse
from typing import Any

from cnnlens.cli.arguments import add_json, add_model, add_output, network_of
from cnnlens.cli.layers import layers_listed
from cnnlens.cli.printing import output_made

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    export = commands.command(
        "export",
        _export,
        "write a model's arrays as .npz, .safetensors or .npy",
        "Without a framework, one array at a time, whole or not at all; names say layer and array.",
    )
    add_model(export)
    export.add_argument(
        *("--layers", "-l"),
        action="append",
        metavar="NAME|INDEX,…",
        help="which layers, separated by commas; repeat it for more (default: all)",
    )
    export.add_argument(
        "--layout",
        choices=["stored", "torch", "keras", "canonical"],
        default="stored",
        help="whose axes the arrays have (default: stored, as the file has them)",
    )
    add_output(export, ".npz, .safetensors, or without a suffix a new folder of .npy (default: MODEL-weights.npz)")
    add_json(export)


def _export(options: argparse.Namespace) -> None:
    from pathlib import Path

    from cnnlens.conversion import exporting
    from cnnlens.output import file_name, refuse_taken, stem_of

    network = network_of(options)
    wanted = layers_listed(options.layers, network.by_name)
    layers = None if wanted is None else [network[one] for one in wanted]
    path = options.output if options.output is not None else file_name(stem_of(network.source.path), "weights") + ".npz"
    refuse_taken([Path(path)] if options.output is None else [], False, [network.source.path])
    output_made(options, exporting.export(network, path, layers, options.layout), exporting.as_json, exporting.as_page)
