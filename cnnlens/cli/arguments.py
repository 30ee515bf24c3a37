"""Types of command-line arguments that several commands share; each refuses in argparse's own words."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.backend import PRECISIONS
from cnnlens.errors import CnnlensError
from cnnlens.text import nearest, printable

if TYPE_CHECKING:
    from cnnlens.network.network import Network
    from cnnlens.opening.architecture import InputShape

__all__ = [
    "add_architecture", "add_inputs", "add_json", "add_model", "add_output", "add_run", "add_scale", "add_streamed",
    "add_trust", "inputs_given", "inputs_of", "listed", "network_of", "networks_of", "parse_shapes", "run_of",
    "seconds", "streamed_of", "whole_number",
]  # fmt: skip


def whole_number(least: int) -> Callable[[str], int]:
    """Make a type of argument: whole numbers of at least ``least``."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"at least {least} was expected, {value} came")
        return value

    number.__name__ = "whole number"
    return number


def seconds(text: str) -> float:
    """Read an argument that is a time above zero, and one that can be waited for."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"more than 0 was expected, {value:g} came")
    if value > 1e9:
        raise argparse.ArgumentTypeError(f"a billion seconds at most were expected, {value:g} came")
    return value


def add_run(parser: argparse.ArgumentParser, precision: str, text: str) -> None:
    """Add what every command takes that runs a backend; ``precision`` is its default, ``text`` its help."""
    parser.add_argument("--precision", choices=PRECISIONS, default=precision, help=text)
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, gpu or gpu:1 (default: cpu)")
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add how long a backend is waited for, and what of a file or of inputs is taken on trust."""
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long a backend may be silent")
    parser.add_argument(
        "--trust-code", action="store_true", help="run code that comes with the file: only your own files"
    )
    parser.add_argument("--allow-nonfinite", action="store_true", help="take inputs that hold NaN or infinity")


def run_of(options: argparse.Namespace) -> dict[str, Any]:
    """Name what ``add_run`` added as the arguments that ``record``, ``check`` and ``check_twins`` take."""
    names = ("precision", "device", "timeout", "trust_code", "allow_nonfinite")
    return {name: getattr(options, name) for name in names}


def add_inputs(parser: argparse.ArgumentParser, text: str, more: str = "", *, required: bool = False) -> None:
    """Add ``--inputs`` to a command, ``text`` its help; ``more`` is what may stand in the place of a path."""
    parser.add_argument(
        *("--inputs", "-i"), action="append", required=required, metavar=f"[NAME=]PATH{more}", help=text
    )


def add_scale(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--scale`` to a command, which says in its help what the ``default`` is."""
    parser.add_argument(
        "--scale", default="auto", metavar="RANGE", help=f"0..1, -1..1, 0..255 or none (default: {default})"
    )


def add_streamed(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes that streams a data set through one backend."""
    parser.add_argument(
        "--backend", "-b", metavar="NAME", help="NAME or NAME@PYTHON (default: reference; pytorch for its own)"
    )
    parser.add_argument(
        *("--layers", "-l"),
        action="append",
        metavar="NAME|INDEX,…",
        help="which layers, separated by commas; repeat it for more (default: all)",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="inputs at once (default: as make 64 MB of feature maps)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N inputs")
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out and count pictures that cannot be read, or differ in size where the model takes any",
    )
    add_scale(parser, "said in what is printed")
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="ray: on the workers of a Ray cluster, that of RAY_ADDRESS or else one on this machine",
    )
    parser.add_argument(
        "--workers", type=whole_number(1), metavar="N", help="with --engine (default: one a GPU, or a machine's CPU)"
    )


def streamed_of(options: argparse.Namespace) -> dict[str, Any]:
    """Name what ``add_streamed`` added, but backend and layers, as the arguments that ``record`` and ``stats`` take."""
    return {name: getattr(options, name) for name in ("batch", "limit", "skip_bad", "scale", "engine", "workers")}


def inputs_of(options: argparse.Namespace, network: Network) -> Any:
    """Read what ``--inputs`` gave for ``network``: paths, or a mapping where they name its inputs; None without it."""
    return inputs_given(options.inputs, [ref.name for ref in network.inputs]) if options.inputs else None


def inputs_given(paths: list[str], names: list[str]) -> Any:
    """Paths as they were given; a mapping where they name the network's inputs."""
    named: dict[str, str] = {}
    for one in paths:
        name, equals, path = one.partition("=")
        if equals and name in names and not Path(one).exists():
            named[name] = path
        elif equals and len(names) > 1 and not Path(one).exists():
            raise CnnlensError(f"the network has no input '{printable(name)}'; {nearest(name, names)}")
    if named and len(named) < len(paths):
        raise CnnlensError("name every input as NAME=PATH, or none")
    return named or (paths[0] if len(paths) == 1 else paths)


def listed(text: str) -> list[str]:
    """Read what stands between commas."""
    return [one for one in map(str.strip, text.split(",")) if one]


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, ``--config``, ``--weights``, ``--arch`` and ``--input-shape`` to a command."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .keras, .h5, .pt2, .pt, .pth or .safetensors file, a .keras folder, or ARCHIVE::MEMBER",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="the model's config, where MODEL holds weights alone (model.to_json())"
    )
    add_architecture(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` to a command."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_output(parser: argparse.ArgumentParser, text: str = "write to FILE instead of the terminal") -> None:
    """Add ``-o`` to a command, ``text`` its help."""
    parser.add_argument("-o", "--output", metavar="FILE", help=text)


def add_architecture(parser: argparse.ArgumentParser, model: str = "MODEL") -> None:
    """Add ``--weights``, ``--arch`` and ``--input-shape`` to a command that takes a MODEL, or what it calls it."""
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help=f"which set of weights, where {model} is a checkpoint of PyTorch with several: ema, state_dict, … "
        "(default: the largest; summary lists them)",
    )
    parser.add_argument(
        "--arch",
        metavar="MODULE:FACTORY",
        help=f"what builds the torch.nn.Module that {model} holds the weights of: package.module:factory, "
        "file.py:Class or module:factory(classes=10). That code is run",
    )
    parser.add_argument(
        "--lambda",
        action="append",
        dest="lambdas",
        metavar="NAME=EXPRESSION",
        help="what a Lambda layer of Keras computes, as arithmetic on x: scale='x / 255 - 0.5'. It is parsed, the "
        "file's own code is not run",
    )
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        help="with --arch: the input's shape without the batch; several inputs as 3,32,32;10, other types as 16:int64 "
        "(default: the module's example_input_array)",
    )


def _lambdas(options: argparse.Namespace) -> dict[str, str]:
    """What ``--lambda`` said, by layer."""
    found: dict[str, str] = {}
    given: list[str] = getattr(options, "lambdas", None) or []
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or not name:
            raise CnnlensError(f"--lambda '{printable(one, 100)}': NAME=EXPRESSION was expected, as in scale=x/255-0.5")
        found[name] = text
    return found


def _with_lambdas(network: Network, path: str, lambdas: dict[str, str], config: str | None) -> Network:
    """Open a model again, with those of ``lambdas`` that it has; those are gone from ``lambdas`` then."""
    from cnnlens.opening.opener import open as open_model

    names = {name for one in network.layers if one.kind == "Lambda" for name in (one.name, *one.path[-1:])}
    own = {name: lambdas.pop(name) for name in names & lambdas.keys()}
    return open_model(path, config=config, lambdas=own) if own else network


def network_of(options: argparse.Namespace) -> Network:
    """Open the network of a command's MODEL, with what ``add_model`` added.

    Raises:
        CnnlensError: the file is refused, or the code does not build what its weights fit; one line.
    """
    from cnnlens.opening.architecture import open_architecture
    from cnnlens.opening.opener import open as open_model

    arch, shape = getattr(options, "arch", None), getattr(options, "input_shape", None)
    weights = getattr(options, "weights", None)
    if arch is None:
        if shape is not None:
            raise CnnlensError("--input-shape says what a module takes; name its factory with --arch")
        config = getattr(options, "config", None)
        return open_model(options.model, config=config, weights=weights, lambdas=_lambdas(options))
    if _lambdas(options):
        raise CnnlensError("--lambda is for Lambda layers of Keras, --arch for weights of PyTorch: give one of them")
    if getattr(options, "config", None) is not None:
        raise CnnlensError("--config is for weights of Keras, --arch for those of PyTorch: give one of them")
    shapes = None if shape is None else parse_shapes(shape)
    return open_architecture(arch, options.model, example_shapes=shapes, weights=weights)


def networks_of(options: argparse.Namespace, paths: Sequence[str]) -> list[Network]:
    """Open the networks of several files of a command; ``--arch`` and ``--config`` go to those with weights alone.

    ``--weights`` goes to those that have a set of this name.

    Raises:
        CnnlensError: as ``network_of`` does; or none of them is a state dict that ``--arch`` could be for.
    """
    from cnnlens.opening.architecture import open_architecture
    from cnnlens.opening.opener import open as open_model

    if options.arch is None and options.input_shape is not None:
        raise CnnlensError("--input-shape says what a module takes; name its factory with --arch")
    shapes = None if options.input_shape is None else parse_shapes(options.input_shape)
    found: list[Network] = []
    lambdas = _lambdas(options)
    wanted = options.arch is not None
    named = dict.fromkeys(paths, options.weights)
    refusals: list[CnnlensError] = []
    for path in paths if options.weights is not None else ():
        try:
            open_model(path, weights=options.weights)
        except CnnlensError as error:
            refusals.append(error)
            named[path] = None
    if refusals and not any(named.values()):
        raise refusals[0]
    for path in paths:
        one = open_model(path, weights=named[path])
        framework = None if one.calls else one.source.framework
        if framework == "torch" and options.arch is not None:
            one, wanted = open_architecture(options.arch, path, example_shapes=shapes, weights=named[path]), False
        elif framework == "keras" and options.config is not None:
            one = open_model(path, config=options.config)
        found.append(_with_lambdas(one, path, lambdas, getattr(options, "config", None) if framework else None))
    if lambdas:
        known = dict.fromkeys(layer.name for one in found for layer in one.layers if layer.kind == "Lambda")
        there = ", ".join(f"'{printable(name, 60)}'" for name in list(known)[:8]) or "none"
        raise CnnlensError(f"no Lambda layer is named '{printable(next(iter(lambdas)))}' in either; there are {there}")
    if wanted:
        shown = " and ".join(printable(path, 300) for path in paths)
        raise CnnlensError(f"--arch is for a state dict of PyTorch, and {shown} are none; leave --arch out")
    return found


def parse_shapes(text: str) -> list[InputShape]:
    """Read ``"3,32,32;16:int64"`` as the shapes of two inputs.

    Raises:
        CnnlensError: it says no shapes.
    """
    from cnnlens.opening.architecture import DTYPES, InputShape

    shapes: list[InputShape] = []
    for part in text.split(";"):
        match = re.fullmatch(r"\s*(\d{1,9}(?:\s*[,x]\s*\d{1,9})*)\s*(?::\s*(\w+))?\s*", part)
        if match is None or (match[2] or "float32") not in DTYPES:
            raise CnnlensError(
                f"--input-shape '{printable(text, 100)}': sizes without the batch were expected, such as 3,32,32; "
                f"several inputs are separated by ';', another type follows a ':' ({', '.join(DTYPES[1:])})"
            )
        sizes = tuple(int(size) for size in re.split(r"[,x]", match[1]))
        shapes.append(InputShape(sizes, match[2] or "float32"))
    return shapes
