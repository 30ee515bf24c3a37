"""``cnnlens convert``: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import seconds
from cnnlens.opening import architecture

if TYPE_CHECKING:
    from cnnlens.conversion import Conversion
    from cnnlens.conversion.into import Transfer
    from cnnlens.network.graph import Network

__all__ = ["add"]

_OUTPUT = (
    "the .py or .keras file (default: named after MODEL); with --into a copy of TARGET, .safetensors for PyTorch "
    "(default: named after TARGET, with -filled)"
)


def add(commands: Any) -> None:
    """Add it to ``commands`` (what ``ArgumentParser.add_subparsers`` gives)."""
    text = "write a model for the other framework, and prove that both compute the same"
    convert = commands.add_parser(
        "convert",
        help=text,
        description=text.capitalize()
        + ". To PyTorch: a Python file with an nn.Module and, beside it, its .safetensors. To Keras: a .keras file. "
        "With --into: the weights alone, into a model that is there. Nothing is written unless the result agrees.",
    )
    convert.add_argument("model", metavar="MODEL", help="a Keras file, a .pt2, or with --arch a PyTorch state dict")
    convert.add_argument("--config", metavar="FILE", help="the model's config, where MODEL holds weights alone")
    architecture.add_arguments(convert)
    convert.add_argument("--to", metavar="FRAMEWORK", help="torch or keras (default: the other one)")
    convert.add_argument(
        "--into",
        metavar="TARGET",
        help="put the weights into a copy of TARGET: a Keras file, a state dict, a .pt2, or code as --arch takes it",
    )
    convert.add_argument(
        *("--inputs", "-i"),
        action="append",
        metavar="[NAME=]PATH",
        help="what the proof is made on (default: a few inputs drawn from seed 0)",
    )
    convert.add_argument("--backend", "-b", metavar="NAME", help="what runs the result (default: the first installed)")
    convert.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long the backend may be silent")
    convert.add_argument("-o", "--output", metavar="FILE", help=_OUTPUT)
    convert.add_argument("--json", action="store_true", help="print JSON instead of text")
    convert.set_defaults(command=_convert)


def _convert(options: argparse.Namespace) -> None:
    from cnnlens.cli.arguments import inputs_given
    from cnnlens.cli.printing import output_text
    from cnnlens.conversion import convert

    if options.into is not None:
        _into(options, _source(options))
        return
    network = architecture.network(options)
    inputs = inputs_given(options.inputs, [ref.name for ref in network.inputs]) if options.inputs else None
    quiet = options.json or not sys.stderr.isatty()
    made = convert(
        network,
        options.to,
        options.output,
        inputs=inputs,
        backend=options.backend,
        timeout=options.timeout,
        progress=None if quiet else lambda line: print(line, file=sys.stderr),
    )
    output_text(json.dumps(_facts(made), indent=2, allow_nan=False) + "\n" if options.json else _text(made))


def _source(options: argparse.Namespace) -> Network:
    """Where the weights come from; without ``--arch``, ``--input-shape`` speaks of the code that is TARGET."""
    if options.arch is None and ":" in options.into:
        from cnnlens import open as open_model

        return open_model(options.model, config=options.config)
    return architecture.network(options)


def _facts(made: Conversion) -> dict[str, Any]:
    from cnnlens.checking import listing as check_listing

    return {
        "model": str(made.source.source.path),
        "from": made.source.source.framework,
        "to": made.framework,
        "files": [str(path) for path in made.files],
        "arrays_equal": made.arrays,
        "notes": list(made.notes),
        "proof": check_listing.twins_json(made.twins),
    }


def _text(made: Conversion) -> str:
    from cnnlens.checking import listing as check_listing
    from cnnlens.conversion import TITLES
    from cnnlens.text import printable

    source = made.source.source
    found = made.twins
    lines = [
        f"{printable(source.path, 300)} ({TITLES[source.framework]}, {len(made.source.layers)} layers) "
        f"to {TITLES[made.framework]}"
    ]
    for one in found.outputs:
        names = " and ".join(f"'{printable(name, 40)}'" for name in one.names)
        lines.append(f"  float64: {names} are {one.apart or 0.0:.2g} of their largest value apart")
    checked = found.checks[1]
    lines += [f"  float32: {run.label}: {check_listing.sentence(checked, run)}" for run in checked.runs
              if run.backend != "reference"]  # fmt: skip
    lines.append(f"  weights: {made.arrays} arrays hold the original's numbers bit for bit")
    lines += [f"  note: {printable(note, 300)}" for note in made.notes]
    lines.append("wrote " + ", ".join(printable(path, 300) for path in made.files))
    return "\n".join(lines) + "\n"


def _into(options: argparse.Namespace, network: Network) -> None:
    from cnnlens.cli.arguments import inputs_given, parse_shapes
    from cnnlens.cli.printing import output_text
    from cnnlens.conversion.into import put_into

    inputs = inputs_given(options.inputs, [ref.name for ref in network.inputs]) if options.inputs else None
    made = put_into(
        network,
        options.into,
        options.output,
        inputs=inputs,
        shapes=None if options.input_shape is None else parse_shapes(options.input_shape),
        timeout=options.timeout,
    )
    output_text(
        json.dumps(_transfer_facts(made), indent=2, allow_nan=False) + "\n" if options.json else _transfer_text(made)
    )


def _transfer_facts(made: Transfer) -> dict[str, Any]:
    from cnnlens.checking import listing as check_listing
    from cnnlens.checking.twins import Twins

    proof: dict[str, Any] | None = None
    if made.proof is not None:
        proof = (
            check_listing.twins_json(made.proof) if isinstance(made.proof, Twins) else check_listing.as_json(made.proof)
        )
    return {
        "model": str(made.source.source.path),
        "target": str(made.target.source.path),
        "file": str(made.written.path),
        "pairs": [
            {"source": pair.source.name, "target": pair.target.name, "how": pair.how}
            for pair in made.written.applied.matching.pairs
        ],
        "notes": list(made.written.notes),
        "proof": proof,
    }


def _transfer_text(made: Transfer) -> str:
    from cnnlens.checking import listing as check_listing
    from cnnlens.checking.twins import Twins
    from cnnlens.text import columns, printable

    rows = [["from", "into", "paired by"]]
    rows += [
        [printable(pair.source.name, 40), printable(pair.target.name, 40), pair.how]
        for pair in made.written.applied.matching.pairs
    ]
    lines = [*columns(rows), ""]
    if isinstance(made.proof, Twins):
        for one in made.proof.outputs:
            names = " and ".join(f"'{printable(name, 40)}'" for name in one.names)
            lines.append(f"float64: {names} are {one.apart or 0.0:.2g} of their largest value apart")
    elif made.proof is not None:
        lines += check_listing.sentences(made.proof)
        lines.append("the model that the weights came from has no graph, so the two could not be run side by side")
    else:
        lines.append(
            "a state dict has no graph, so nothing could be run; to have it proved name the code that it is for as "
            "TARGET: file.py:Class"
        )
    lines += [f"note: {printable(note, 300)}" for note in made.written.notes]
    lines.append(f"wrote {printable(made.written.path, 300)}")
    return "\n".join(lines) + "\n"
