"""The command ``layouts``: the table of layouts, one kind of it, or one kind from one framework to another.

With ``--from`` and ``--to`` it works the conversion out with numbers and, with ``-o``, draws the kernel read rightly
and in each wrong way.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("kind", nargs="?", metavar="KIND", help="a layer kind such as Conv2D (default: all)")
    parser.add_argument(
        "--from", dest="source", metavar="FRAMEWORK", help="keras, torch, flax, onnx or tflite: show the way from it"
    )
    parser.add_argument("--to", dest="target", metavar="FRAMEWORK", help="to this framework, with numbers")
    parser.add_argument("--weight", metavar="NAME", help="this weight of the kind alone (default: all)")
    parser.add_argument(
        "--shape",
        type=_numbers,
        metavar="N,N,…",
        help="the weight's shape as --from stores it (default: sizes that differ)",
    )
    parser.add_argument(
        "--flatten", type=_numbers, metavar="H,W,C", help="the feature map in front of a Flatten before this layer"
    )
    parser.add_argument(
        "--sizes", type=_letters, metavar="C=4,…", help="sizes by letter, for axes that hold several together"
    )
    parser.add_argument("--model", metavar="FILE", help="take kind, shape and kernel from a layer of this model")
    parser.add_argument(
        "--layer", "-l", metavar="NAME|INDEX", help="which layer of --model (default: the first kernel)"
    )
    add_json(parser)
    add_output(parser, "write to FILE instead of the terminal; with --from and --to, a picture of the readings")


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

    if options.source is None and options.target is None:
        _refuse_crossing_options(options)
        if options.output is not None and Path(options.output).suffix.lower() in _PICTURES:
            raise CnnlensError(
                f"{printable(options.output, 300)}: a picture needs both sides, as in 'layouts --from keras --to torch "
                "Conv2D'; this is text"
            )
        output_made(options, options.kind, listing.as_json, listing.as_table, options.output)
        return
    if options.source is None or options.target is None:
        missing = "--from" if options.source is None else "--to"
        raise CnnlensError(
            f"{missing} is missing: both sides are needed, as in 'layouts --from keras --to torch Conv2D'"
        )
    _cross(options)


def _refuse_crossing_options(options: argparse.Namespace) -> None:
    for name in ("weight", "shape", "flatten", "sizes", "model", "layer"):
        if getattr(options, name) is not None:
            raise CnnlensError(f"--{name} needs --from and --to, as in 'layouts --from keras --to torch Conv2D'")


def _cross(options: argparse.Namespace) -> None:
    from cnnlens.layout import listing
    from cnnlens.layout.crossing import crossings
    from cnnlens.layout.names import framework_named

    source, target = framework_named(options.source), framework_named(options.target)
    wanted: dict[str, Any] = {
        "weight": options.weight,
        "shape": options.shape,
        "flatten": options.flatten,
        "sizes": options.sizes,
    }
    kind, model = options.kind, None
    if options.model is not None:
        kind, model, wanted = _of_model(options, source)
    elif options.layer is not None:
        raise CnnlensError("--layer needs --model FILE, whose layer it names")
    if kind is None:
        raise CnnlensError(
            "which kind of layer? 'layouts --from keras --to torch Conv2D', or --model FILE --layer NAME"
        )
    found = crossings(kind, source, target, **wanted)
    picture = None
    if options.output is not None:
        picture = _draw(options.output, kind, source, target, wanted, model)
    if options.json:
        output_json("crossing", {**listing.crossing_json(found), "from": source, "to": target, "picture": picture})
        return
    output_text(listing.crossing_text(found, source, target) + (f"\nwrote {picture}\n" if picture else ""))


def _draw(
    output: str, kind: str, source: str, target: str, wanted: dict[str, Any], model: tuple[Network, Layer] | None
) -> str:
    from cnnlens import plot
    from cnnlens.plot import of_layouts

    path = Path(output)
    plot.check_target(path)
    figure = of_layouts.layout_readings(kind, source, target, model=model, **wanted)
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
