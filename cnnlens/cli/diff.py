"""``cnnlens diff``: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cnnlens.opening import architecture

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands`` (what ``ArgumentParser.add_subparsers`` gives)."""
    text = "say why two models differ, layer by layer, with the line of NumPy that turns one into the other"
    one = commands.add_parser(
        "diff",
        help=text,
        description=text[0].upper()
        + text[1:]
        + ". Exit code 0: equal, however stored; 1: they differ; 2: they, or the feature maps that were asked for, "
        "could not be compared.",
    )
    one.add_argument("a", metavar="A", help="a Keras or PyTorch model file, or .safetensors")
    one.add_argument("b", metavar="B", help="another; of the same framework or not")
    one.add_argument("--config", metavar="FILE", help="the config of a Keras model whose file holds weights alone")
    architecture.add_arguments(one, "A or B")
    one.add_argument(
        "--inputs",
        "-i",
        action="append",
        metavar="[NAME=]PATH|random",
        help="compare feature maps too: PNG/JPEG, .npy, .npz, IDX or a folder; 'random' draws a few",
    )
    one.add_argument("--json", action="store_true", help="print JSON instead of text")
    one.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of the terminal")
    one.set_defaults(command=_diff)


def _diff(options: argparse.Namespace) -> int:
    from cnnlens import diff_listing
    from cnnlens.cli.arguments import inputs_given
    from cnnlens.cli.printing import output_text
    from cnnlens.differing.differ import diff

    one, other = architecture.networks(options, [options.a, options.b])
    inputs: Any = None
    if options.inputs == ["random"] or options.inputs == ["drawn"]:
        inputs = "random"
    elif options.inputs:
        inputs = inputs_given(options.inputs, [ref.name for ref in one.inputs])
    result = diff(one, other, inputs)
    if options.json:
        text = json.dumps(diff_listing.as_json(result), indent=2, allow_nan=False) + "\n"
    else:
        text = diff_listing.as_table(result)
    output_text(text, options.output)
    if result.equal and result.activations is not None and not result.activations.compared:
        return 2  # that was asked, and could not be told
    return 0 if result.equal else 1
