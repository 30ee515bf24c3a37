"""The command ``cnnlens convert``."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import (
    add_architecture,
    add_inputs,
    add_json,
    add_output,
    inputs_of,
    network_of,
    parse_shapes,
    seconds,
)
from cnnlens.cli.printing import output_made
from cnnlens.cli.report import add_page, output_found, page_of, refuse_no_page
from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    from cnnlens.network.network import Network

__all__ = ["add"]

_OUTPUT = (
    "the .py or .keras file (default: named after MODEL); with --into a copy of TARGET, .safetensors for PyTorch "
    "(default: named after TARGET, with -filled); only a file that is named here is overwritten"
)


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    convert = commands.command(
        "convert",
        _convert,
        "write a model for the other framework, and prove that both compute the same",
        "To PyTorch: a Python file with an nn.Module and, beside it, its .safetensors. To Keras: a .keras file. With "
        "--into: the weights alone, into a model that is there. Nothing is written unless the result agrees.",
    )
    convert.add_argument(
        "model",
        metavar="MODEL",
        help="a Keras file, a .pt2, a TorchScript archive, or with --arch a PyTorch state dict",
    )
    convert.add_argument("--config", metavar="FILE", help="the model's config, where MODEL holds weights alone")
    add_architecture(convert)
    convert.add_argument("--to", metavar="FRAMEWORK", help="torch or keras (default: the other one)")
    convert.add_argument(
        "--into",
        metavar="TARGET",
        help="put the weights into a copy of TARGET: a Keras file, a state dict, a .pt2, or code as --arch takes it",
    )
    add_inputs(convert, "what the proof is made on (default: a few inputs drawn from seed 0)")
    convert.add_argument("--backend", "-b", metavar="NAME", help="what runs the result (default: the first installed)")
    convert.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long the backend may be silent")
    add_output(convert, _OUTPUT)
    add_page(convert)
    add_json(convert)


def _convert(options: argparse.Namespace) -> None:
    from cnnlens.conversion import convert, listing

    if options.page is not None:
        refuse_no_page(options.page, "--report")
        if options.into is not None:
            raise CnnlensError("--report shows a conversion; of a copy made with --into, cnnlens check -o FILE.html")
    if options.into is not None:
        _into(options, _source(options))
        return
    network = network_of(options)
    inputs = inputs_of(options, network)
    made = convert(
        network,
        options.to,
        options.output,
        inputs=inputs,
        backend=options.backend,
        timeout=options.timeout,
        progress=not options.json,
    )
    page = partial(page_of, options, network, inputs, twins=made.twins)
    output_found(options, made, listing.as_json, listing.as_page, page, options.page)


def _source(options: argparse.Namespace) -> Network:
    """Where the weights come from; without ``--arch``, ``--input-shape`` speaks of the code that is TARGET."""
    from cnnlens.opening.architecture import names_code
    from cnnlens.opening.opener import open as open_model

    if options.arch is None and names_code(options.into):
        return open_model(options.model, config=options.config, weights=options.weights)
    return network_of(options)


def _into(options: argparse.Namespace, network: Network) -> None:
    from cnnlens.conversion import listing
    from cnnlens.conversion.into import put_into

    made = put_into(
        network,
        options.into,
        options.output,
        inputs=inputs_of(options, network),
        shapes=None if options.input_shape is None else parse_shapes(options.input_shape),
        timeout=options.timeout,
    )
    output_made(options, made, listing.transfer_json, listing.transfer_page, name="transfer")
