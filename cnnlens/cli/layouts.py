"""The command ``layouts``: the table of layouts, one kind of it, or one kind from one framework to another.

With ``--from`` and ``--to`` it works the conversion out with numbers and, with ``-o``, draws the weight read rightly
and in each wrong way. With ``--memory``, or a picture of one kind, it shows what lies at which address.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import add_json, add_output
from cnnlens.cli.layers import layer_with_kernel
from cnnlens.cli.printing import output_json, output_made, output_text
from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.graph import Layer
    from cnnlens.network.network import Network

__all__ = ["add"]

_PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg")


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    parser = commands.command("layouts", _layouts, "print how each framework stores a kind of layer")
    parser.add_argument(
        "kind",
        nargs="?",
        metavar="KIND",
        help="a layer kind such as Conv2D, or feature maps such as NHWC (default: all)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FRAMEWORK",
        help="keras, torch, flax, onnx or tflite, or NHWC and its like: show the way from it",
    )
    parser.add_argument("--to", dest="target", metavar="FRAMEWORK", help="to this framework, with numbers")
    parser.add_argument("--weight", metavar="NAME", help="this weight of the kind alone (default: all)")
    parser.add_argument(
        "--shape",
        type=_numbers,
        metavar="N,N,…",
        help="the weight's shape as --from (else Keras) stores it (default: sizes that differ)",
    )
    parser.add_argument(
        "--flatten", type=_numbers, metavar="H,W,C", help="the feature map in front of a Flatten before this layer"
    )
    parser.add_argument(
        "--sizes", type=_letters, metavar="C=4,…", help="sizes by letter, for axes that hold several together"
    )
    parser.add_argument(
        "--memory", action="store_true", help="which entry of each axis lies at which address, with strides as steps"
    )
    parser.add_argument("--model", metavar="FILE", help="take kind, shape and kernel from a layer of this model")
    parser.add_argument(
        "--layer", "-l", metavar="NAME|INDEX", help="which layer of --model (default: the first kernel)"
    )
    add_json(parser)
    add_output(parser, "write to FILE; FILE.png: the readings with --from and --to, else the memory")


def _numbers(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.strip("()[] ").replace("x", ",").rstrip(",").split(","))
    if any(size < 1 for size in sizes):
        raise argparse.ArgumentTypeError(f"sizes of at least 1 were expected, {printable(text)} came")
    return sizes


def _letters(text: str) -> dict[str, int]:
    pairs = [part.partition("=") for part in text.split(",")]
    return {letter.strip().upper(): int(size) for letter, _, size in pairs}


_numbers.__name__ = "list of sizes"
_letters.__name__ = "list of sizes by letter"


def _layouts(options: argparse.Namespace) -> None:
    from cnnlens.layout import listing

    if (options.source is None) != (options.target is None):
        missing = "--from" if options.source is None else "--to"
        raise CnnlensError(
            f"{missing} is missing: both sides are needed, as in 'layouts --from keras --to torch Conv2D'"
        )
    pictured = options.output is not None and Path(options.output).suffix.lower() in _PICTURES
    if options.source is not None or options.memory or pictured:
        _worked_out(options, memory=options.memory or options.source is None)
        return
    for name in ("weight", "shape", "flatten", "sizes", "model", "layer"):
        if getattr(options, name) is not None:
            raise CnnlensError(
                f"--{name} needs --from and --to, as in 'layouts --from keras --to torch Conv2D', or --memory"
            )
    output_made(options, options.kind, listing.as_json, listing.as_page, options.output)


def _worked_out(options: argparse.Namespace, *, memory: bool) -> None:
    """With numbers: from one side to the other, or what lies in the memory of both or of all."""
    from cnnlens.layout import listing
    from cnnlens.layout.crossing import crossings
    from cnnlens.layout.feature_maps import other_maps
    from cnnlens.layout.names import maps_named, side_named
    from cnnlens.layout.tables import FRAMEWORKS

    kind, model = options.kind, None
    maps = maps_named(kind or "")
    source, targets = maps or "keras", (other_maps(maps),) if maps else FRAMEWORKS[1:]
    if options.source is not None:
        source, targets = side_named(options.source), (side_named(options.target),)
    wanted: dict[str, Any] = {name: getattr(options, name) for name in ("weight", "shape", "flatten", "sizes")}
    if options.model is not None:
        kind, model, wanted = _of_model(options, source)
    elif options.layer is not None:
        raise CnnlensError("--layer needs --model FILE, whose layer it names")
    if memory:
        found = listing.each_crossing(kind, source, targets, **wanted)
    else:
        found = crossings(kind, source, targets[0], **wanted)
    picture = None
    if options.output is not None:
        picture = _draw(options.output, kind, source, targets, wanted, model, memory)
    if options.json:
        if memory:
            output_json("memory", {**listing.memory_json(found), "picture": picture})
        else:
            made = {**listing.crossing_json(found), "from": source, "to": targets[0], "picture": picture}
            output_json("crossing", made)
        return
    text = listing.memory_text(found) if memory else listing.crossing_text(found, source, targets[0])
    output_text(text + (f"\nwrote {picture}\n" if picture else ""))


def _draw(
    output: str,
    kind: str | None,
    source: str,
    targets: Sequence[str],
    wanted: dict[str, Any],
    model: tuple[Network, Layer] | None,
    memory: bool,
) -> str:
    from cnnlens import plot
    from cnnlens.plot import of_layouts

    path = Path(output)
    plot.check_target(path)
    if memory:
        figure = of_layouts.layout_memory(kind, source, targets, **wanted)
    else:
        figure = of_layouts.layout_readings(kind, source, targets[0], model=model, **wanted)
    plot.save(figure, path)
    return str(path)


def _of_model(options: argparse.Namespace, source: str) -> tuple[str, tuple[Network, Layer], dict[str, Any]]:
    """Kind, shape and sizes of a layer in a file."""
    from cnnlens.opening.opener import open as open_model
    from cnnlens.plot import of_layouts

    for name in ("kind", "shape", "flatten", "sizes"):
        if getattr(options, name) is not None:
            shown = "KIND" if name == "kind" else f"--{name}"
            raise CnnlensError(f"{shown} and --model are both given; a layer of a model says it itself")
    network = open_model(options.model)
    layer = layer_with_kernel(network, options.layer)
    weight = of_layouts.weight_named(layer, options.weight)
    shape, sizes = of_layouts.letter_sizes(weight, source)
    flatten = weight.geometry.flatten
    sizes = {letter: size for letter, size in sizes.items() if flatten is None or letter not in "DHWC"}
    return weight.kind, (network, layer), {"weight": weight.role, "shape": shape, "flatten": flatten, "sizes": sizes}
