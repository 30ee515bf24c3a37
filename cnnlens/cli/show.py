"""The commands that look into one model: ``summary``, ``kernels``, ``hist`` and ``maps``."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import add_json, add_model, add_output, add_scale, inputs_given, network_of, whole_number
from cnnlens.cli.layers import layer_named, layer_with_kernel
from cnnlens.cli.printing import output_json, output_made, output_text
from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.graph import Layer
    from cnnlens.network.network import Network

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the four to ``commands``, as ``cnnlens.cli.main`` makes it."""
    summary = commands.command(
        "summary", _summary, "print a model's layers, shapes in every layout, and weight statistics"
    )
    add_model(summary)
    add_json(summary)
    add_output(summary)

    kernels = commands.command("kernels", _kernels, "draw a layer's kernels as one grid")
    add_model(kernels)
    _add_layer(kernels)
    kernels.add_argument(
        "--weight",
        metavar="NAME[:GATE]",
        help="which of its arrays: pointwise_kernel, backward_layer/kernel, recurrent_kernel:forget (default: its "
        "first kernel)",
    )
    kernels.add_argument(
        "--channel",
        metavar="INDEX|all|rgb",
        help="which input channel (default: rgb where there are three, else 0; 1 x 1 kernels as one matrix)",
    )
    add_json(kernels)
    add_output(kernels, "the picture: .png, .pdf, .svg or .jpg (default: MODEL-LAYER-kernels.png)")

    hist = commands.command("hist", _hist, "draw the histogram of a layer's weights")
    add_model(hist)
    _add_layer(hist)
    hist.add_argument("--weight", metavar="NAME[:GATE]", help="which of its arrays (default: its first kernel)")
    hist.add_argument("--all", action="store_true", help="the kernels of all layers on one page")
    hist.add_argument("--untrained", action="store_true", help="beside it, the same array as its initializer draws it")
    hist.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="the seed of that draw (default: 0)")
    add_json(hist)
    add_output(hist, "the picture (default: MODEL-LAYER-hist.png)")

    maps = commands.command("maps", _maps, "draw the feature maps that an image gives")
    add_model(maps)
    maps.add_argument(
        "--image",
        "-i",
        action="append",
        required=True,
        metavar="[NAME=]PATH",
        help="PNG/JPEG, .npy, .npz, IDX (.gz) or a folder; NAME=PATH for each input that the layers need",
    )
    maps.add_argument(
        "--index", type=int, default=0, metavar="N", help="which image, where PATH holds several (default: 0)"
    )
    maps.add_argument(
        "--layer",
        "-l",
        action="append",
        metavar="NAME|INDEX",
        help="which layer; repeat it for more (default: all convolutions, at most two)",
    )
    maps.add_argument("--kernel", type=int, metavar="N", help="draw kernel N beside the map it makes")
    add_scale(maps, "as the summary line says")
    add_json(maps)
    add_output(maps, "the picture; with several layers, the layer's name is added (default: MODEL-LAYER-maps.png)")


def _add_layer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layer", "-l", metavar="NAME|INDEX", help="which layer (default: the first convolution)")


def _summary(options: argparse.Namespace) -> None:
    from cnnlens.network import summary
    from cnnlens.opening.findings import needs, needs_line

    network = network_of(options)
    found = needs(network)
    output_made(
        options,
        network,
        lambda made: {**summary.as_json(made), "needs": [{"where": one.where, "what": one.what} for one in found]},
        lambda made: summary.as_page(made, needs_line(found)),
        options.output,
    )


def _kernels(options: argparse.Namespace) -> None:
    from cnnlens.plot import of_models as pictures

    network = network_of(options)
    layer = layer_with_kernel(network, options.layer, options.weight)
    figure, facts = pictures.kernels(network, layer, _channel(options.channel), options.weight)
    named = "kernels" if options.weight is None else f"{options.weight}-kernels"
    _picture(options, figure, facts, network, layer, named)


def _hist(options: argparse.Namespace) -> None:
    from cnnlens.plot import of_models as pictures

    if options.all and (options.layer is not None or options.weight is not None or options.untrained):
        raise CnnlensError("--all draws the kernels of all layers; leave --layer, --weight and --untrained out")
    network = network_of(options)
    if options.all:
        figure, facts = pictures.histograms(network)
        _picture(options, figure, facts, network, None, "hist")
        return
    layer = layer_with_kernel(network, options.layer, options.weight)
    seed = options.seed if options.untrained else None
    named = "hist" if options.weight is None else f"{options.weight}-hist"
    figure, facts = pictures.histogram(network, layer, options.weight, seed)
    _picture(options, figure, facts, network, layer, named)


def _maps(options: argparse.Namespace) -> None:
    from cnnlens.network.graph import convolutions
    from cnnlens.plot import of_models as pictures

    network = network_of(options)
    names: list[str] = options.layer or []
    image = inputs_given(options.image, [ref.name for ref in network.inputs])
    wanted = [layer_named(network, one) for one in names]
    if not wanted:
        found = convolutions(network)
        if isinstance(image, dict):  # those that the inputs given are enough for
            fed = [layer for layer in found if all(name in image for name in pictures.inputs_needed(network, layer))]
            found = fed or found
        wanted = found[:2]
    if not wanted:
        raise CnnlensError(f"{printable(options.model, 300)}: it has no convolution; name a layer with --layer")
    if options.kernel is not None and len(wanted) > 1:
        wanted = wanted[:1]
    results = pictures.feature_maps(
        network, wanted, image, index=options.index, scale=options.scale, kernel=options.kernel
    )
    if not options.json or options.output is not None:
        paths = _save(options.output, network, [(layer, figure) for layer, figure, _ in results], "maps")
        for path, (_, _, facts) in zip(paths, results, strict=True):
            facts["picture"] = str(path)
    if options.json:
        output_json(options.name, {"layers": [facts for _, _, facts in results]})
        return
    for _, _, facts in results:
        output_text(f"{facts['text']}\nwrote {facts['picture']}\n")


def _channel(value: str | None) -> int | str | None:
    if value is None or value in ("all", "rgb"):
        return value
    if value.isdigit() and len(value) < 10:
        return int(value)
    raise CnnlensError(f"--channel: an index, 'all' or 'rgb' was expected, '{printable(value)}' came")


def _picture(
    options: argparse.Namespace, figure: Any, facts: dict[str, Any], network: Network, layer: Layer | None, what: str
) -> None:
    if not options.json or options.output is not None:
        facts["picture"] = str(_save(options.output, network, [(layer, figure)], what)[0])
    if options.json:
        output_json(options.name if layer is not None else f"{options.name}-all", facts)
    else:
        output_text(f"{facts['text']}\nwrote {facts['picture']}\n")


def _save(output: str | None, network: Network, drawn: Sequence[tuple[Layer | None, Any]], what: str) -> list[Path]:
    """Write each picture: where ``-o`` says, or under a name of ours, which never takes another model's picture."""
    from cnnlens import plot
    from cnnlens.output import file_name, free_path, stem_of

    of_model = (
        f"model {hashlib.sha256(os.path.realpath(network.source.path).encode(errors='surrogatepass')).hexdigest()}"
    )
    paths: list[Path] = []

    def taken(path: Path) -> bool:
        twice = str(path).casefold() in (str(one).casefold() for one in paths)  # 'a/b' and 'a_b', 'a' and 'A'
        return twice or (output is None and os.path.lexists(path) and not plot.is_marked(path, of_model))

    for layer, _ in drawn:
        of = [] if layer is None else [layer.name]
        if output is None:
            path = free_path(Path(file_name(stem_of(network.source.path), *of, what) + ".png"), taken)
        elif len(drawn) > 1:
            path = Path(output)
            path = free_path(path.with_name(f"{path.stem}-{file_name(*of)}{path.suffix}"), taken)
        else:
            path = Path(output)
        plot.check_target(path)  # all of them before the first is written, so that an error leaves none behind
        paths.append(path)
    for (_, figure), path in zip(drawn, paths, strict=True):
        plot.save(figure, path, of_model if output is None else "")
    return paths
