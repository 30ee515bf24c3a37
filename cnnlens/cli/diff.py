"""The command ``cnnlens diff``: its arguments, and its exit code."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from cnnlens.cli.arguments import add_architecture, add_inputs, add_json, add_output, inputs_of, networks_of
from cnnlens.cli.report import PAGE_OR_FILE, output_found, page_of

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    one = commands.command(
        "diff",
        _diff,
        "say why two models differ, layer by layer, with the line of NumPy that turns one into the other",
        "Exit code 0: equal, however stored; 1: they differ; 2: they, or the feature maps that were asked for, could "
        "not be compared.",
    )
    one.add_argument("a", metavar="A", help="a Keras or PyTorch model file, or .safetensors")
    one.add_argument("b", metavar="B", help="another; of the same framework or not")
    one.add_argument("--config", metavar="FILE", help="the config of a Keras model whose file holds weights alone")
    add_architecture(one, "A or B")
    add_inputs(one, "compare feature maps too: PNG/JPEG, .npy, .npz, IDX or a folder; 'random' draws a few", "|random")
    add_json(one)
    add_output(one, PAGE_OR_FILE)


def _diff(options: argparse.Namespace) -> int:
    from cnnlens.differing import listing
    from cnnlens.differing.differ import diff

    one, other = networks_of(options, [options.a, options.b])
    inputs = "random" if options.inputs in (["random"], ["drawn"]) else inputs_of(options, one)
    result = diff(one, other, inputs, progress=not options.json)
    page = partial(page_of, options, one, None if inputs == "random" else inputs, diff=result)
    output_found(options, result, listing.as_json, listing.as_page, page, options.output)
    if result.equal and result.activations is not None and not result.activations.compared:
        return 2  # that was asked, and could not be told
    return 0 if result.equal else 1
