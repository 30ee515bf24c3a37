"""Two examples for each command's ``--help``, on the bundled sample: they run as they stand, wherever cnnlens lies."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

__all__ = ["examples"]

_EXAMPLES = {
    "": ("demo", "summary MODEL"),
    "summary": ("summary MODEL", "summary MODEL --json -o summary.json"),
    "kernels": ("kernels MODEL", "kernels MODEL --layer conv2d_1 --channel 3 -o kernels.svg"),
    "hist": ("hist MODEL --untrained", "hist MODEL --all -o weights.png"),
    "maps": ("maps MODEL --image IMAGE --layer conv2d_1", "maps MODEL --image IMAGE --layer conv2d --kernel 5"),
    "image": ("image IMAGE --cmap gray_r", "image IMAGES --index 3 -o input.png"),
    "verify": ("verify MODEL", "verify FOLDER --json"),
    "layouts": ("layouts Conv2DTranspose", "layouts --from keras --to torch Conv2D --shape 3,3,1,32 -o layouts.png"),
    "check": ("check MODEL", "check MODEL --inputs IMAGES --backends reference -o check.html"),
    "atlas": ("atlas AveragePooling2D -o averages.html", "atlas Dense --backends reference --json"),
    "backends": ("backends", "backends --devices"),
    "record": (
        "record MODEL --inputs IMAGES -o run.zarr",
        "record MODEL --inputs IMAGES --backend reference --layers conv2d,conv2d_1 -o maps.zarr --overwrite",
    ),
    "stats": ("stats MODEL --inputs IMAGES", "stats MODEL --inputs IMAGES --layers conv2d -o exciting.png"),
    "bench": (
        "bench MODEL --batch 32 --seconds 5 -o speed.png",
        "bench MODEL --backends reference --precision strict --batch 1,8 --seconds 2",
    ),
    "diff": ("diff MODEL MODEL", "diff MODEL MODEL --inputs random"),
    "report": (
        "report MODEL --inputs IMAGES --backends reference --against MODEL -o report.html",
        "report MODEL --layers conv2d --language ko -o report.html",
    ),
    "lesson": ("lesson -o lesson.html", "lesson --language ko -o lesson.html"),
    "convert": ("convert MODEL -o shoes.py", "convert MODEL --into MODEL -o filled.keras"),
    "export": ("export MODEL --layers conv2d --layout torch -o kernels.npz", "export MODEL -o weights.safetensors"),
    "demo": ("demo", "demo -o pictures"),
}


def examples(prog: str) -> list[str]:
    """Write the examples of a command, ``prog`` being ``cnnlens summary``, or of ``cnnlens`` itself."""
    from cnnlens import sample

    places = {
        "MODEL": sample.MODEL,
        "IMAGE": sample.IMAGES / "9-ankle-boot.png",
        "IMAGES": sample.IMAGES,
        "FOLDER": sample.MODEL.parent,
    }
    found = _EXAMPLES.get(prog.partition(" ")[2], ())
    return [
        " ".join(["cnnlens", *(_shown(places[one]) if one in places else one for one in line.split())])
        for line in found
    ]


def _shown(path: Path) -> str:
    """A path as a shell takes it, from here where that is shorter."""
    here = Path.cwd()
    text = os.fspath(path.relative_to(here) if path.is_relative_to(here) else path)
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)
