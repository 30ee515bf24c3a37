"""The whole of cnnlens on the bundled samples, as the course notebook that it grew out of went.

Load a trained Fashion-MNIST CNN, print its shapes and statistics, draw its kernels, hold its weights against an
untrained model's, and look at what each convolution makes of an image. Nothing is downloaded; no framework is needed.
The files are left beside the pictures, so that every line of the README runs there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens import sample
from cnnlens.cli.arguments import add_json
from cnnlens.cli.printing import output_json, output_text
from cnnlens.errors import CnnlensError
from cnnlens.output import replacing
from cnnlens.page import Page
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.network import Network

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    demo = commands.command("demo", _demo, "show it all on the bundled sample: a small CNN trained on Fashion-MNIST")
    demo.add_argument(
        "-o", "--output", metavar="FOLDER", default="cnnlens-demo", help="where the pictures go (default: cnnlens-demo)"
    )
    add_json(demo)


def _demo(options: argparse.Namespace) -> None:
    if options.json:
        pictures = run(Path(options.output), lambda said: None)
        output_json(options.name, {"folder": options.output, "pictures": [str(path) for path in pictures]})
    else:
        run(Path(options.output), lambda said: output_text(said if isinstance(said, Page) else f"{said}\n"))


def run(folder: Path, say: Callable[[str | Page], object]) -> list[Path]:
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
    say(summary.as_page(network))
    say("")

    written: list[Path] = []

    def keep(figure: Any, name: str, command: str, text: str) -> None:
        path = folder / name
        plot.save(figure, path)
        written.append(path)
        indented = text.replace("\n", "\n  ")
        say(f"{command}\n  {indented}\n  wrote {printable(path, 300)}\n")

    first, second = convolutions(network)[:2]
    command, image = f"cnnlens {{}} {sample.MODEL.name}", min(sample.IMAGES.iterdir()).name
    figure, facts = pictures.kernels(first)
    keep(figure, "1-kernels.png", command.format("kernels"), facts["text"])
    figure, facts = pictures.histogram(first, untrained=True)
    keep(figure, "2-trained-against-untrained.png", command.format("hist") + " --untrained", facts["text"])
    command = f"{command.format('maps')} --image {sample.IMAGES.name}/{{}} --layer {{}}"
    for number, (layer, drawn, facts) in enumerate(pictures.feature_maps(network, [first, second], sample.IMAGES), 3):
        keep(drawn, f"{number}-feature-maps-{layer.name}.png", command.format(image, layer.name), facts["text"])
    loudest = _loudest(network, first.name)
    beside = pictures.feature_maps(network, [first], sample.IMAGES, kernel=loudest)
    keep(beside[0][1], "5-a-kernel-and-its-map.png", f"{command.format(image, first.name)} --kernel {loudest}",
         "one kernel beside the map that it makes")  # fmt: skip
    last, image = network.layers[-1], max(sample.IMAGES.iterdir()).name
    ((_, drawn, facts),) = pictures.feature_maps(network, [last], sample.IMAGES, index=-1, labels=sample.LABELS)
    keep(drawn, "6-what-the-model-says.png", f"{command.format(image, last.name)} --labels labels.txt", facts["text"])

    loaded = images.load(sample.IMAGES, shape=(1, 28, 28))
    output = network.outputs[0].name
    guesses = network.run(loaded.array, layers=[output], dtype="float32")[output].argmax(axis=1)
    right = sum(sample.LABELS[int(guess)] == name for guess, name in zip(guesses, sample.NAMES, strict=True))
    say(f"\nThe model names {right} of the {len(guesses)} sample images rightly.")
    left = _leave_files(folder, network)
    shown = printable(folder, 300)
    say(f"{len(written)} pictures are in {shown}, and beside them {', '.join(left)}.")
    say(f"Go there (cd {shown}) and try the lines of the README, or your own: cnnlens summary MODEL.keras")
    return written


def _leave_files(folder: Path, network: Network) -> list[str]:
    """Leave the files that the README's lines use, but none in the place of another; returns their names."""
    files = {one.name: one.read_bytes for one in (sample.MODEL, sample.PAIR, sample.AVERAGE)}
    files |= {f"{sample.IMAGES.name}/{one.name}": one.read_bytes for one in sorted(sample.IMAGES.iterdir())}
    files["labels.txt"] = lambda: "".join(f"{label}\n" for label in sample.LABELS).encode()
    files["ported.safetensors"] = lambda: _ported(network)
    try:
        (folder / sample.IMAGES.name).mkdir(exist_ok=True)
        for name, content in files.items():
            if not (folder / name).exists():
                with replacing(folder / name) as part:
                    part.write_bytes(content())
    except OSError as error:
        raise CnnlensError(
            f"{printable(folder, 300)}: it cannot be written ({error.strerror}); name another folder with -o"
        ) from None
    return list(dict.fromkeys(f"{Path(name).parent}/" if "/" in name else name for name in files))


def _ported(network: Network) -> bytes:
    """The sample as somebody's state dict of PyTorch, with three mistakes for ``cnnlens diff`` to find."""
    import numpy as np
    from safetensors.numpy import save

    held = {name: network[name].stored for name in ("conv2d", "conv2d_1", "dense", "dense_1")}
    arrays = {name: layer["kernel"].read() for name, layer in held.items()}
    state = {
        "conv1.weight": arrays["conv2d"].transpose(3, 2, 0, 1),
        "conv2.weight": arrays["conv2d_1"].transpose(3, 2, 1, 0),  # H and W swapped
        "fc1.weight": arrays["dense"].T,  # the order of the flattened map left as it was
        "fc2.weight": arrays["dense_1"].T.astype(np.float16),  # rounded
    }
    biases = {f"{new}.bias": layer["bias"].read()
              for new, layer in zip(("conv1", "conv2", "fc1", "fc2"), held.values(), strict=True)}  # fmt: skip
    return save({name: np.ascontiguousarray(array) for name, array in {**state, **biases}.items()})


def _loudest(network: Network, layer: str) -> int:
    """The kernel whose map of the first sample image varies most: the one with the most to see."""
    import numpy as np

    from cnnlens.inputs import images

    maps = network.run(images.load(sample.IMAGES, shape=(1, 28, 28)).array[:1], layers=[layer], dtype="float32")[layer]
    return int(np.argmax(maps[0].std(axis=(1, 2))))
