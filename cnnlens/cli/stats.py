"""The command ``cnnlens stats``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from cnnlens.cli.arguments import (
    add_inputs,
    add_json,
    add_model,
    add_output,
    add_run,
    add_streamed,
    inputs_of,
    network_of,
    run_of,
    streamed_of,
    whole_number,
)
from cnnlens.cli.layers import layers_listed
from cnnlens.cli.printing import output_made, output_text
from cnnlens.errors import CnnlensError
from cnnlens.page import Page

if TYPE_CHECKING:
    from cnnlens.statistics.comparison import StatsComparison
    from cnnlens.statistics.result import Stats

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    stats = commands.command(
        "stats",
        _stats,
        "statistics of the feature maps over a data set, in one pass: no map is kept",
        "Of each layer and channel: mean, deviation, extremes, quantiles, zeros, whether it is dead, and the inputs "
        "that excite it most. With one layer, a row a channel. Ctrl-C prints what there is by then.",
    )
    add_model(stats)
    add_inputs(
        stats,
        "a folder of PNG/JPEG, .npy, .npz or IDX (.gz); with NAME= for each input where the model has several",
        required=True,
    )
    add_streamed(stats)
    stats.add_argument(
        "--backends", metavar="A,B,…", help="compare backends on the same inputs instead; the first against the others"
    )
    add_run(stats, "native", "default: native, as the framework comes")
    stats.add_argument(
        "--top", type=whole_number(1), default=5, metavar="K", help="exciting inputs of each channel (default: 5)"
    )
    stats.add_argument(
        "--by", choices=["max", "mean"], default="max", help="what makes an input exciting (default: max activation)"
    )
    stats.add_argument("--draw", metavar="LAYER", help="the layer that -o draws (default: the only one asked for)")
    stats.add_argument(
        "--keep", metavar="FILE.npz", help="with --backends: keep the maps of the four inputs that differ most"
    )
    add_json(stats)
    add_output(stats, "draw the most exciting inputs of a layer's channels, a row a channel, to FILE (PNG, SVG, PDF)")


def _stats(options: argparse.Namespace) -> None:
    from cnnlens.progress import Progress
    from cnnlens.statistics.collector import stats

    network = network_of(options)
    layers = layers_listed(options.layers, network.tensors)
    names = None if options.backends is None else [one for one in map(str.strip, options.backends.split(",")) if one]
    draw: str | int | None = options.draw
    if options.output is not None:
        from cnnlens.plot import check_target

        check_target(options.output)
        if names is not None:
            raise CnnlensError("-o draws the inputs that excite one backend's channels; leave --backends out")
        if draw is None and (layers is None or len(layers) != 1):
            raise CnnlensError("-o draws one layer: name it with --draw LAYER, or ask for one alone with --layers")
        draw = layers[0] if draw is None and layers is not None else draw
    elif draw is not None:
        raise CnnlensError("--draw says which layer -o draws; give -o FILE too")
    if options.keep is not None and names is None:
        raise CnnlensError("--keep keeps the maps on which --backends differ; give --backends A,B")
    if isinstance(draw, str) and draw not in network.tensors and draw.lstrip("-").isdigit():
        draw = int(draw)

    def stopped(found: Stats | StatsComparison) -> None:
        if not (options.json and isinstance(sys.exception(), CnnlensError)):  # the error is the one object printed then
            _print(options, found)

    with Progress("inputs") as progress:
        found = stats(
            network,
            inputs_of(options, network),
            backend=options.backend,
            backends=names,
            top=options.top,
            by=options.by,
            draw=draw,
            layers=layers,
            progress=progress,
            on_stop=stopped,
            **streamed_of(options),
            **run_of(options),
        )
    _print(options, found)


def _print(options: argparse.Namespace, found: Stats | StatsComparison) -> None:
    from cnnlens.statistics import listing
    from cnnlens.statistics.comparison import StatsComparison

    compared = isinstance(found, StatsComparison)
    as_page = cast("Callable[[Any], Page]", listing.comparison_page if compared else listing.as_page)
    as_json = cast("Callable[[Any], dict[str, Any]]", listing.comparison_json if compared else listing.as_json)
    wrote: dict[str, str] = {}
    try:
        if isinstance(found, StatsComparison):
            if options.keep is not None:
                wrote["file"] = str(found.save(options.keep))
        elif options.output is not None:
            from cnnlens.plot import save

            wrote["picture"] = str(save(found.draw(), options.output))
    except CnnlensError:
        if not options.json:  # the error is the one object that is printed then
            output_text(as_page(cast("Any", found)))
        raise
    output_made(
        options,
        found,
        lambda made: {**as_json(made), **wrote},
        lambda made: Page([*as_page(made).parts, *(f"wrote {path}" for path in wrote.values())]),
        name="stats-comparison" if compared else None,
    )
