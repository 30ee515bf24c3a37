"""The command line: parse, call, print.

Each command is a few lines over the public names; what it shows is made elsewhere. Imports stay inside the commands, so
that ``--help`` and ``summary`` load neither matplotlib nor anything else that they do not use.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cnnlens import (
    architecture,
    commands_check,
    commands_convert,
    commands_diff,
    commands_layouts,
    commands_record,
)
from cnnlens.arguments import whole_number
from cnnlens.errors import CnnlensError
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network import Layer, Network

__all__ = ["main", "output_text"]


class _Parser(argparse.ArgumentParser):
    """argparse with our kind of error: one line that ends in the way out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # `--scale -1..1` is a value: what begins with a minus and a digit is no option here.
        self._negative_number_matcher = re.compile(r"-\d")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for a negative result, 2 for an error that the message explains."""
    try:
        parser = _parser()
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_help()
            return 0
        return int(options.command(options) or 0)
    except CnnlensError as error:
        print(f"cnnlens: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader went away (`cnnlens summary … | head`): nothing to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("cnnlens: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cnnlens", description="See what a convolutional network learned, in any framework.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        one.set_defaults(command=run)
        return one

    def model(one: argparse.ArgumentParser) -> None:
        one.add_argument(
            "model", metavar="MODEL", help="a .keras, .h5, .pt2, .pt, .pth or .safetensors file, or a .keras folder"
        )
        one.add_argument(
            "--config", metavar="FILE", help="the model's config, where MODEL holds weights alone (model.to_json())"
        )
        architecture.add_arguments(one)

    def layer(one: argparse.ArgumentParser, text: str) -> None:
        one.add_argument("--layer", "-l", metavar="NAME|INDEX", help=text)

    def output(one: argparse.ArgumentParser, text: str) -> None:
        one.add_argument("-o", "--output", metavar="FILE", help=text)

    def as_json(one: argparse.ArgumentParser) -> None:
        one.add_argument("--json", action="store_true", help="print JSON instead of text")

    summary = command("summary", _summary, "print a model's layers, shapes in every layout, and weight statistics")
    model(summary)
    as_json(summary)
    output(summary, "write to FILE instead of the terminal")

    kernels = command("kernels", _kernels, "draw a layer's kernels as one grid")
    model(kernels)
    layer(kernels, "which layer (default: the first convolution)")
    kernels.add_argument(
        "--channel", metavar="INDEX|all|rgb", help="which input channel (default: rgb where there are three, else 0)"
    )
    as_json(kernels)
    output(kernels, "the picture: .png, .pdf, .svg or .jpg (default: MODEL-LAYER-kernels.png)")

    hist = command("hist", _hist, "draw the histogram of a layer's weights")
    model(hist)
    layer(hist, "which layer (default: the first convolution)")
    hist.add_argument("--weight", metavar="NAME", help="which of its arrays (default: its kernel)")
    hist.add_argument("--untrained", action="store_true", help="beside it, the same array as its initializer draws it")
    hist.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="the seed of that draw (default: 0)")
    as_json(hist)
    output(hist, "the picture (default: MODEL-LAYER-hist.png)")

    maps = command("maps", _maps, "draw the feature maps that an image gives")
    model(maps)
    maps.add_argument(
        "--image", "-i", required=True, metavar="PATH", help="PNG/JPEG, .npy, .npz, IDX (.gz) or a folder"
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
    maps.add_argument(
        "--scale",
        default="auto",
        metavar="RANGE",
        help="0..1, -1..1, 0..255 or none (default: as the summary line says)",
    )
    as_json(maps)
    output(maps, "the picture; with several layers, the layer's name is added (default: MODEL-LAYER-maps.png)")

    layouts = command("layouts", _layouts, "print how each framework stores a kind of layer")
    layouts.add_argument("kind", nargs="?", metavar="KIND", help="a layer kind such as Conv2D (default: all)")
    commands_layouts.arguments(layouts)
    as_json(layouts)
    output(layouts, "write to FILE instead of the terminal; with --from and --to, a picture of the readings")

    commands_check.add(commands)
    commands_record.add(commands)
    commands_diff.add(commands)
    commands_convert.add(commands)

    demo = command("demo", _demo, "show it all on the bundled sample: a small CNN trained on Fashion-MNIST")
    demo.add_argument(
        "-o", "--output", metavar="FOLDER", default="cnnlens-demo", help="where the pictures go (default: cnnlens-demo)"
    )
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import cnnlens

        parser.exit(0, f"cnnlens {cnnlens.__version__}\n")


# -- commands --------------------------------------------------------------------------------------------------------


def _summary(options: argparse.Namespace) -> None:
    from cnnlens import summary

    network = architecture.network(options)
    output_text(_json(summary.as_json(network)) if options.json else summary.as_table(network), options.output)


def _kernels(options: argparse.Namespace) -> None:
    from cnnlens import pictures

    network = architecture.network(options)
    layer = _layer_with_kernel(network, options.layer)
    figure, facts = pictures.kernels(network, layer, _channel(options.channel))
    _picture(options, figure, facts, network, layer, "kernels")


def _hist(options: argparse.Namespace) -> None:
    from cnnlens import pictures

    network = architecture.network(options)
    layer = _layer_with_kernel(network, options.layer, needs_kernel=options.weight is None)
    seed = options.seed if options.untrained else None
    figure, facts = pictures.histogram(network, layer, options.weight, seed)
    _picture(options, figure, facts, network, layer, "hist")


def _maps(options: argparse.Namespace) -> None:
    from cnnlens import pictures

    network = architecture.network(options)
    names: list[str] = options.layer or []
    wanted = [_layer(network, one) for one in names] or pictures.convolutions(network)[:2]
    if not wanted:
        raise CnnlensError(f"{printable(options.model, 300)}: it has no convolution; name a layer with --layer")
    if options.kernel is not None and len(wanted) > 1:
        wanted = wanted[:1]
    results = pictures.feature_maps(
        network, wanted, options.image, index=options.index, scale=options.scale, kernel=options.kernel
    )
    if not options.json or options.output is not None:
        several = len(results) > 1
        paths = [_picture_path(options.output, network, layer, "maps", several) for layer, _, _ in results]
        _save([figure for _, figure, _ in results], paths)
        for path, (_, _, facts) in zip(paths, results, strict=True):
            facts["picture"] = str(path)
    if options.json:
        output_text(_json({"layers": [facts for _, _, facts in results]}))
        return
    for _, _, facts in results:
        output_text(f"{facts['text']}\nwrote {facts['picture']}\n")


def _layouts(options: argparse.Namespace) -> None:
    commands_layouts.run(options, output_text, _layer_with_kernel)


def _demo(options: argparse.Namespace) -> None:
    from cnnlens import demo

    demo.run(Path(options.output), print)


# -- what the commands share -----------------------------------------------------------------------------------------


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def output_text(text: str, path: str | None = None) -> None:
    """Print ``text``, or write it to ``path``, whole or not at all."""
    if path is not None:
        from cnnlens.output import write_text

        write_text(path, text)
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail again when Python ends, and loudly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CnnlensError(f"the output cannot be written ({error.strerror}); choose another place with -o") from None


def _layer(network: Network, wanted: str) -> Layer:
    if wanted not in network.by_name and wanted.lstrip("-").isdigit() and len(wanted) < 10:
        return network[int(wanted)]
    return network[wanted]


def _layer_with_kernel(network: Network, wanted: str | None, needs_kernel: bool = True) -> Layer:
    from cnnlens import pictures

    if wanted is not None:
        layer = _layer(network, wanted)
        if needs_kernel and layer.kernel is None:
            having = [f"'{printable(one.name)}'" for one in network.layers if one.kernel is not None][:6]
            others = "these have: " + ", ".join(having) if having else "no layer of this model has one"
            raise CnnlensError(f"{printable(network.source.path, 300)}: {layer.shown} has no kernel; {others}")
        return layer
    found = pictures.convolutions(network) or [one for one in network.layers if one.kernel is not None]
    if not found:
        raise CnnlensError(f"{printable(network.source.path, 300)}: no layer has a kernel; name a layer and a weight")
    return found[0]


def _channel(value: str | None) -> int | str | None:
    if value is None or value in ("all", "rgb"):
        return value
    if value.isdigit() and len(value) < 10:
        return int(value)
    raise CnnlensError(f"--channel: an index, 'all' or 'rgb' was expected, '{printable(value)}' came")


def _picture(
    options: argparse.Namespace, figure: Any, facts: dict[str, Any], network: Network, layer: Layer, what: str
) -> None:
    if not options.json or options.output is not None:
        path = _picture_path(options.output, network, layer, what)
        _save([figure], [path])
        facts["picture"] = str(path)
    output_text(_json(facts) if options.json else f"{facts['text']}\nwrote {facts['picture']}\n")


def _picture_path(output: str | None, network: Network, layer: Layer, what: str, several: bool = False) -> Path:
    from cnnlens.output import file_name

    if output is None:
        stem = Path(network.source.path).name.split(".")[0]
        return Path(file_name(stem, layer.name, what) + ".png")
    path = Path(output)
    return path.with_name(f"{path.stem}-{file_name(layer.name)}{path.suffix}") if several else path


def _save(figures: Sequence[Any], paths: Sequence[Path]) -> None:
    from cnnlens import plot

    for path in paths:  # all of them before the first is written, so that an error leaves none behind
        plot.check_target(path)
    for figure, path in zip(figures, paths, strict=True):
        plot.save(figure, path)
