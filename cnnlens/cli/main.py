"""The command line: parse, call, print.

Each command is a few lines over the public names; what it shows is made elsewhere. Imports stay inside the commands, so
that ``--help`` and ``summary`` load neither matplotlib nor anything else that they do not use.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cnnlens.cli import check as commands_check
from cnnlens.cli import convert as commands_convert
from cnnlens.cli import diff as commands_diff
from cnnlens.cli import layouts as commands_layouts
from cnnlens.cli import record as commands_record
from cnnlens.cli.arguments import whole_number
from cnnlens.cli.layers import _layer_with_kernel
from cnnlens.cli.printing import output_text
from cnnlens.cli.show import _hist, _kernels, _maps, _summary
from cnnlens.errors import CnnlensError
from cnnlens.opening import architecture

if TYPE_CHECKING:
    pass

__all__ = ["main"]


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


def _layouts(options: argparse.Namespace) -> None:
    commands_layouts.run(options, output_text, _layer_with_kernel)


def _demo(options: argparse.Namespace) -> None:
    from cnnlens.cli import demo

    demo.run(Path(options.output), print)


# -- what the commands share -----------------------------------------------------------------------------------------
