"""The whole of cnnlens on the bundled sample, as the course notebook that it grew out of went.

Load a trained Fashion-MNIST CNN, print its shapes and statistics, draw its kernels, hold its weights against an
untrained model's, and look at what each convolution makes of an image. Nothing is downloaded; no framework is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnlens import sample
from cnnlens.cli.printing import output_text
from cnnlens.errors import CnnlensError
from cnnlens.text import printable

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    demo = commands.command("demo", _demo, "show it all on the bundled sample: a small CNN trained on Fashion-MNIST")
    demo.add_argument(
        "-o", "--output", metavar="FOLDER", default="cnnlens-demo", help="where the pictures go (default: cnnlens-demo)"
    )


def _demo(options: argparse.Namespace) -> None:
    run(Path(options.output), lambda text: output_text(text + "\n"))


def run(folder: Path, say: Callable[[str], object]) -> list[Path]:
    """Make every picture of the sample in ``folder`` and ``say`` what each shows; returns the files, in order.

    Raises:
        CnnlensError: the folder cannot be made or written.
    """
    from cnnlens import plot
    from cnnlens.inputs import images
    from cnnlens.network import summary
    from cnnlens.network.graph import convolutions
    from cnnlens.opening.opener import open as open_model
    from cnnlens.plot import of_models as pictures

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CnnlensError(
            f"{printable(folder, 300)}: a folder was expected ({error.strerror}); name one with -o"
        ) from None
    network = open_model(sample.MODEL)
    say(f"cnnlens summary {sample.MODEL.name}\n")
    say(summary.as_table(network))

    written: list[Path] = []

    def keep(figure: object, name: str, text: str) -> None:
        path = folder / name
        plot.save(figure, path)  # type: ignore[arg-type]
        written.append(path)
        say(f"{printable(path, 300)}\n  {text}")

    first, second = convolutions(network)[:2]
    figure, facts = pictures.kernels(first)
    keep(figure, "1-kernels.png", facts["text"].replace("\n", "\n  "))
    figure, facts = pictures.histogram(first, untrained=True)
    keep(figure, "2-trained-against-untrained.png", facts["text"].replace("\n", "\n  "))
    for number, (layer, drawn, facts) in enumerate(pictures.feature_maps(network, [first, second], sample.IMAGES), 3):
        keep(drawn, f"{number}-feature-maps-{layer.name}.png", facts["text"].replace("\n", "\n  "))
    beside = pictures.feature_maps(network, [first], sample.IMAGES, kernel=_loudest(network, first.name))
    keep(beside[0][1], "5-a-kernel-and-its-map.png", "one kernel beside the map that it makes")
    last = network.layers[-1]
    ((_, drawn, facts),) = pictures.feature_maps(network, [last], sample.IMAGES, index=-1, labels=sample.LABELS)
    keep(drawn, "6-what-the-model-says.png", facts["text"].replace("\n", "\n  "))

    loaded = images.load(sample.IMAGES, shape=(1, 28, 28))
    output = network.outputs[0].name
    guesses = network.run(loaded.array, layers=[output], dtype="float32")[output].argmax(axis=1)
    right = sum(sample.LABELS[int(guess)] == name for guess, name in zip(guesses, sample.NAMES, strict=True))
    say(f"\nThe model names {right} of the {len(guesses)} sample images rightly.")
    say(f"{len(written)} pictures are in {printable(folder, 300)}. Now try your own: cnnlens summary MODEL.keras")
    return written


def _loudest(network: object, layer: str) -> int:
    """The kernel whose map of the first sample image varies most: the one with the most to see."""
    import numpy as np

    from cnnlens.inputs import images
    from cnnlens.network.network import Network

    assert isinstance(network, Network)
    maps = network.run(images.load(sample.IMAGES, shape=(1, 28, 28)).array[:1], layers=[layer], dtype="float32")[layer]
    return int(np.argmax(maps[0].std(axis=(1, 2))))
