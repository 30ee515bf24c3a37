"""The commands that look into one model, ``summary``, ``kernels``, ``hist`` and ``maps``, and at one ``image``."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import add_json, add_model, add_output, add_scale, inputs_given, network_of, whole_number
from cnnlens.cli.layers import layer_with_kernel, layers_listed
from cnnlens.cli.printing import output_json, output_made, output_text
from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.graph import Layer
    from cnnlens.network.network import Network

__all__ = ["add"]

_MOST_LABELS = 1 << 20  # characters of a file of names


def add(commands: Any) -> None:
    """Add the five to ``commands``, as ``cnnlens.cli.main`` makes it."""
    summary = commands.command(
        "summary",
        _summary,
        "print a model's layers with their settings, its arrays with statistics, and what else is in the file",
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
    _add_untrained(kernels, "the same array as its initializer draws it")
    _add_tiles(
        kernels,
        "which kernels",
        "one range for all, or each kernel its own (default: one, without the few weights that are far larger)",
    )
    _add_look(kernels)
    add_json(kernels)
    add_output(kernels, "the picture: .png, .pdf, .svg or .jpg (default: MODEL-LAYER-kernels.png)")

    hist = commands.command("hist", _hist, "draw the histogram of a layer's weights")
    add_model(hist)
    _add_layer(hist)
    hist.add_argument("--weight", metavar="NAME[:GATE]", help="which of its arrays (default: its first kernel)")
    hist.add_argument("--all", action="store_true", help="the kernels of all layers on one page")
    _add_untrained(hist, "beside it, the same array as its initializer draws it")
    hist.add_argument(
        "--bins", type=whole_number(1), metavar="N", help="bins of each array (default: by the number of values)"
    )
    hist.add_argument("--counts", action="store_true", help="how many values are in a bin, instead of the density")
    _add_look(hist, coloured=False)
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
        metavar="NAME|INDEX,…",
        help="which layers, separated by commas; repeat it for more (default: all convolutions, at most two)",
    )
    maps.add_argument("--kernel", type=int, metavar="N", help="draw kernel N beside the map it makes")
    maps.add_argument("--labels", metavar="FILE", help="what the channels of the last layer mean, a name a line")
    add_scale(maps, "as the summary line says")
    _add_tiles(maps, "which channels", "one range for all maps, or each its own (default: each)")
    _add_look(maps)
    add_json(maps)
    add_output(maps, "the picture; with several layers, the layer's name is added (default: MODEL-LAYER-maps.png)")

    image = commands.command("image", _image, "draw one image, as it is stored")
    image.add_argument("image", metavar="PATH", help="PNG/JPEG, .npy, .npz, IDX (.gz) or a folder")
    image.add_argument(
        "--index", type=int, default=0, metavar="N", help="which image, where PATH holds several (default: 0)"
    )
    _add_ends(image)
    _add_look(image)
    add_json(image)
    add_output(image, "the picture (default: NAME-image.png)")


def _add_layer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layer", "-l", metavar="NAME|INDEX", help="which layer (default: the first convolution)")


def _add_untrained(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--untrained", action="store_true", help=text)
    parser.add_argument("--seed", type=whole_number(0), metavar="N", help="the seed of that draw (default: 0)")


def _add_tiles(parser: argparse.ArgumentParser, which: str, limits: str) -> None:
    parser.add_argument("--channels", metavar="LIST", help=f"{which}, as in 0-15,20 (default: all)")
    parser.add_argument("--columns", type=whole_number(1), metavar="N", help="tiles in a row")
    parser.add_argument("--limits", choices=["shared", "each"], help=limits)
    _add_ends(parser)


def _add_ends(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vmin", type=float, metavar="X", help="the value that gets the first colour")
    parser.add_argument("--vmax", type=float, metavar="X", help="the value that gets the last colour")


def _add_look(parser: argparse.ArgumentParser, *, coloured: bool = True) -> None:
    if coloured:
        parser.add_argument("--cmap", metavar="NAME", help="a colour map of matplotlib's, such as gray_r")
    parser.add_argument(
        "--size",
        type=_size,
        metavar="W|WxH",
        help="pixels of the picture: its width, to which it is scaled, or width and height, in which it is laid out",
    )
    parser.add_argument(
        "--dpi", type=float, metavar="N", help="dots per inch; alone, the same picture in more pixels (default: 150)"
    )


def _size(text: str) -> int | tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}': pixels were expected, as 800 or 800x600")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])


_LOOK = ("channels", "columns", "limits", "vmin", "vmax", "cmap", "size", "dpi")


def _look(options: argparse.Namespace) -> dict[str, Any]:
    """What the picture should look like, as Python's functions take it."""
    return {name: getattr(options, name) for name in _LOOK if getattr(options, name, None) is not None}


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
    figure, facts = pictures.kernels(
        layer,
        weight=options.weight,
        channel=_channel(options.channel),
        untrained=options.untrained,
        seed=options.seed,
        look=_look(options),
    )
    named = "kernels" if options.weight is None else f"{options.weight}-kernels"
    named += "-untrained" if options.untrained else ""
    _picture(options, figure, facts, network, layer, named)


def _hist(options: argparse.Namespace) -> None:
    from cnnlens.plot import of_models as pictures

    if options.all and (options.layer is not None or options.weight is not None or options.untrained):
        raise CnnlensError("--all draws the kernels of all layers; leave --layer, --weight and --untrained out")
    if options.all and (options.counts or options.seed is not None):
        raise CnnlensError("--all has no scale for --counts and no draw for --seed; leave them out, or name a --layer")
    network = network_of(options)
    if options.all:
        figure, facts = pictures.histograms(network, bins=options.bins, look=_look(options))
        _picture(options, figure, facts, network, None, "hist")
        return
    layer = layer_with_kernel(network, options.layer, options.weight)
    named = "hist" if options.weight is None else f"{options.weight}-hist"
    figure, facts = pictures.histogram(
        layer,
        weight=options.weight,
        untrained=options.untrained,
        seed=options.seed,
        bins=options.bins,
        counts=options.counts,
        look=_look(options),
    )
    _picture(options, figure, facts, network, layer, named)


def _maps(options: argparse.Namespace) -> None:
    from cnnlens.network.graph import convolutions
    from cnnlens.plot import of_models as pictures

    network = network_of(options)
    labels = None if options.labels is None else _labels(options.labels)
    image = inputs_given(options.image, [ref.name for ref in network.inputs])
    named = [network[one] for one in layers_listed(options.layer, network.by_name) or []]
    wanted = list({layer.name: layer for layer in named}.values())  # one named twice is drawn once
    if not wanted:
        found = convolutions(network)
        if isinstance(image, dict):  # those that the inputs given are enough for
            fed = [layer for layer in found if all(name in image for name in pictures.inputs_needed(network, layer))]
            found = fed or found
        wanted = found[:2]
    if not wanted:
        raise CnnlensError(f"{printable(options.model, 300)}: it has no convolution; name a layer with --layer")
    if options.kernel is not None and len(wanted) > 1:
        if options.layer is not None:
            raise CnnlensError("--kernel is drawn of one layer; name one with --layer, or leave --kernel out")
        wanted = wanted[:1]
    results = pictures.feature_maps(
        network,
        wanted,
        image,
        index=options.index,
        scale=options.scale,
        kernel=options.kernel,
        labels=labels,
        look=_look(options),
    )
    if not options.json or options.output is not None:
        path = network.source.path
        paths = _save(options.output, path, path, [([layer.name], figure) for layer, figure, _ in results], "maps")
        for path, (_, _, facts) in zip(paths, results, strict=True):
            facts["picture"] = str(path)
    if options.json:
        output_json(options.name, {"layers": [facts for _, _, facts in results]})
        return
    for _, _, facts in results:
        output_text(f"{facts['text']}\nwrote {facts['picture']}\n")


def _image(options: argparse.Namespace) -> None:
    from cnnlens.plot import of_models as pictures

    figure, facts = pictures.image(options.image, index=options.index, look=_look(options))
    _written(options, figure, facts, options.image, facts["image"], [], "image")


def _labels(path: str) -> list[str]:
    """The names in a file, one a line.

    Raises:
        CnnlensError: it cannot be read, or holds none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST_LABELS + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise CnnlensError(f"--labels {printable(path, 300)}: {reason}; a name a line was expected") from None
    found = text.splitlines()
    while found and not found[-1].strip():
        found.pop()
    if not found or len(text) > _MOST_LABELS:
        raise CnnlensError(
            f"--labels {printable(path, 300)}: a name a line was expected, {len(text):,} characters came"
        )
    return [one.strip() for one in found]


def _channel(value: str | None) -> int | str | None:
    if value is None or value in ("all", "rgb"):
        return value
    if value.isdigit() and len(value) < 10:
        return int(value)
    raise CnnlensError(f"--channel: an index, 'all' or 'rgb' was expected, '{printable(value)}' came")


def _picture(
    options: argparse.Namespace, figure: Any, facts: dict[str, Any], network: Network, layer: Layer | None, what: str
) -> None:
    path = network.source.path
    _written(options, figure, facts, path, path, [] if layer is None else [layer.name], what)


def _written(
    options: argparse.Namespace,
    figure: Any,
    facts: dict[str, Any],
    source: str | os.PathLike[str],
    called: str | os.PathLike[str],
    names: list[str],
    what: str,
) -> None:
    if not options.json or options.output is not None:
        facts["picture"] = str(_save(options.output, source, called, [(names, figure)], what)[0])
    if options.json:
        output_json(options.name if names or what == "image" else f"{options.name}-all", facts)
    else:
        output_text(f"{facts['text']}\nwrote {facts['picture']}\n")


def _save(
    output: str | None,
    source: str | os.PathLike[str],
    called: str | os.PathLike[str],
    drawn: Sequence[tuple[list[str], Any]],
    what: str,
) -> list[Path]:
    """Write each picture: where ``-o`` says, or under a name of ours, which never takes another file's picture.

    Args:
        source: The file that is drawn; ``called``: what the name of a picture of ours begins with.
        drawn: What tells the pictures of one file apart in their names, and each.
    """
    from cnnlens import plot
    from cnnlens.output import file_name, free_path, stem_of

    made_from = f"model {hashlib.sha256(os.path.realpath(source).encode(errors='surrogatepass')).hexdigest()}"
    paths: list[Path] = []

    def taken(path: Path) -> bool:
        twice = str(path).casefold() in (str(one).casefold() for one in paths)  # 'a/b' and 'a_b', 'a' and 'A'
        return twice or (output is None and os.path.lexists(path) and not plot.is_marked(path, made_from))

    for names, _ in drawn:
        if output is None:
            path = free_path(Path(file_name(stem_of(called), *names, what) + ".png"), taken)
        elif len(drawn) > 1:
            path = Path(output)
            path = free_path(path.with_name(f"{path.stem}-{file_name(*names)}{path.suffix}"), taken)
        else:
            path = Path(output)
        plot.check_target(path)  # all of them before the first is written, so that an error leaves none behind
        paths.append(path)
    for (_, figure), path in zip(drawn, paths, strict=True):
        plot.save(figure, path, made_from if output is None else "")
    return paths
