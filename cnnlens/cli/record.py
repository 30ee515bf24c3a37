"""``cnnlens record``: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from cnnlens.cli.arguments import inputs_given, seconds
from cnnlens.opening import architecture

if TYPE_CHECKING:
    from cnnlens.recording.recording import Recording

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands`` (what ``ArgumentParser.add_subparsers`` gives)."""
    text = "run images through a backend and keep the feature maps in a Zarr group"
    record = commands.add_parser(
        "record",
        help=text,
        description=text.capitalize() + ". A run that was cut short goes on where it stopped when it is given again.",
    )
    record.add_argument(
        "model", metavar="MODEL", help="a .keras, .h5, .pt2, .pt, .pth or .safetensors file, or a .keras folder"
    )
    record.add_argument("--config", metavar="FILE", help="the model's config, where MODEL holds weights alone")
    architecture.add_arguments(record)
    record.add_argument(
        *("--inputs", "-i"),
        action="append",
        required=True,
        metavar="[NAME=]PATH",
        help="a folder of PNG/JPEG, .npy, .npz or IDX (.gz); with NAME= for each input where the model has several",
    )
    record.add_argument(
        "--backend", "-b", metavar="NAME", help="NAME or NAME@PYTHON (default: reference; pytorch for its own)"
    )
    record.add_argument(
        *("--layers", "-l"),
        action="append",
        metavar="NAME|INDEX,…",
        help="which layers, separated by commas; repeat it for more (default: all)",
    )
    record.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, gpu or gpu:1 (default: cpu)")
    record.add_argument(
        "--precision", choices=["strict", "native"], default="native", help="default: native, as the framework comes"
    )
    record.add_argument("-o", "--output", required=True, metavar="RUN.zarr", help="the recording's folder")
    record.add_argument(
        "--batch", type=int, metavar="N", help="inputs at once (default: as make 64 MB of feature maps)"
    )
    record.add_argument("--limit", type=int, metavar="N", help="only the first N inputs")
    record.add_argument(
        "--scale",
        default="auto",
        metavar="RANGE",
        help="0..1, -1..1, 0..255 or none (default: said in what is printed)",
    )
    record.add_argument("--allow-nonfinite", action="store_true", help="take inputs that hold NaN or infinity")
    record.add_argument("--overwrite", action="store_true", help="throw away a recording that is there")
    record.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long the backend may be silent")
    record.add_argument(
        "--trust-code", action="store_true", help="run code that comes with the file: only your own files"
    )
    record.add_argument("--json", action="store_true", help="print JSON instead of text")
    record.set_defaults(command=_record)


def _record(options: argparse.Namespace) -> None:
    from cnnlens.cli.printing import output_text
    from cnnlens.cli.progress import Progress
    from cnnlens.recording.recorder import record

    network = architecture.network(options)
    with Progress("inputs") as progress:
        recording = record(
            network,
            inputs_given(options.inputs, [ref.name for ref in network.inputs]),
            backend=options.backend,
            layers=_layers(options.layers, network.tensors, len(network)),
            device=options.device,
            precision=options.precision,
            out=options.output,
            batch=options.batch,
            overwrite=options.overwrite,
            scale=options.scale,
            limit=options.limit,
            allow_nonfinite=options.allow_nonfinite,
            trust_code=options.trust_code,
            timeout=options.timeout,
            progress=progress,
        )
    if options.json:
        output_text(json.dumps(_facts(recording), indent=2, ensure_ascii=True) + "\n")
    else:
        output_text(_text(recording))


def _layers(given: list[str] | None, tensors: Any, count: int) -> list[str | int] | None:
    if given is None:
        return None
    wanted: list[str | int] = []
    for one in given:
        parts = [one] if one in tensors else one.split(",")  # a name may hold a comma
        for part in filter(None, (part.strip() for part in parts)):
            number = part not in tensors and part.lstrip("-").isdigit() and len(part) < 10
            wanted.append(int(part) if number else part)
    return wanted


def _facts(recording: Recording) -> dict[str, Any]:
    return {
        "recording": str(recording.path),
        **recording.info,
        "arrays": {
            name: {"array": one.array_name, "shape": list(one.shape), "dtype": one.dtype.name}
            for name, one in recording.items()
        },
        "bytes": sum(one.nbytes for one in recording.values()),
    }


def _text(recording: Recording) -> str:
    from cnnlens.text import columns, printable

    info = recording.description
    versions = ", ".join(f"{printable(name)} {printable(version)}" for name, version in info.versions.items())
    rows = [("layer", "array", "shape", "dtype")]
    rows += [(printable(name, 40), one.array_name, str(one.shape), one.dtype.name) for name, one in recording.items()]
    lines = [
        f"{recording.count:,} inputs through {printable(info.backend)} on {printable(info.device)}, "
        f"{info.precision} precision ({versions})",
        *(f"  {printable(note, 300)}" for note in (*info.input_notes, *info.notes)),
        *(f"  warning: {line}" for line in info.weights or ()),
        "",
        *columns(rows),
        "",
        f"recorded {sum(one.nbytes for one in recording.values()) / 1e6:,.1f} MB to {printable(recording.path, 300)}",
    ]
    return "\n".join(lines) + "\n"
