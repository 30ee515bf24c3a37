"""The commands that look into one model: ``summary``, ``kernels``, ``hist`` and ``maps``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.layers import _layer, _layer_with_kernel
from cnnlens.cli.printing import _json, output_text
from cnnlens.errors import CnnlensError
from cnnlens.opening import architecture
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.graph import Layer, Network

__all__ = []


def _summary(options: argparse.Namespace) -> None:
    from cnnlens.network import summary

    network = architecture.network(options)
    output_text(_json(summary.as_json(network)) if options.json else summary.as_table(network), options.output)


def _kernels(options: argparse.Namespace) -> None:
    from cnnlens.plot import of_models as pictures

    network = architecture.network(options)
    layer = _layer_with_kernel(network, options.layer)
    figure, facts = pictures.kernels(network, layer, _channel(options.channel))
    _picture(options, figure, facts, network, layer, "kernels")


def _hist(options: argparse.Namespace) -> None:
    from cnnlens.plot import of_models as pictures

    network = architecture.network(options)
    layer = _layer_with_kernel(network, options.layer, needs_kernel=options.weight is None)
    seed = options.seed if options.untrained else None
    figure, facts = pictures.histogram(network, layer, options.weight, seed)
    _picture(options, figure, facts, network, layer, "hist")


def _maps(options: argparse.Namespace) -> None:
    from cnnlens.plot import of_models as pictures

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
