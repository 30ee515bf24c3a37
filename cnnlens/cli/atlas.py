"""The command ``cnnlens atlas``: its arguments, and its exit code."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cnnlens.cli.arguments import add_json, add_output, listed, seconds
from cnnlens.cli.printing import check_output, output_json, output_text, tell
from cnnlens.text import printable

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add it to ``commands``, as ``cnnlens.cli.main`` makes it."""
    atlas = commands.command(
        "atlas",
        _atlas,
        "sweep every kind of layer under every backend, and show where they do not compute what they should",
        "Exit code 0: nothing disagrees; 1: something does; 2: nothing could be audited.",
    )
    atlas.add_argument("kinds", nargs="*", metavar="KIND", help="kinds of layers, such as Conv2D (default: all)")
    atlas.add_argument("--backends", "-b", metavar="A,B,…", help="which backends (default: all that are installed)")
    atlas.add_argument(
        "--level", default="quick", metavar="quick|full", help="all pairs of settings, or all triples (default: quick)"
    )
    atlas.add_argument(
        "--precision", metavar="A,B,…", help="of strict, native, tf32, bfloat16, float16 (default: the level's)"
    )
    atlas.add_argument("--device", default="cpu", metavar="cpu|gpu|gpu:N", help="cpu, gpu, gpu:1, … (default: cpu)")
    atlas.add_argument(
        "--timeout", type=seconds, metavar="S", help="seconds that a backend may be silent (default: 120)"
    )
    atlas.add_argument("--compare", metavar="OLD.json", help="say what changed since an atlas that --json wrote")
    add_json(atlas)
    add_output(atlas, "write it to FILE: .html, .json, .md or text; an interrupted sweep goes on from FILE.log")


def _atlas(options: argparse.Namespace) -> int:
    from cnnlens.surveying import comparing, listing
    from cnnlens.surveying.surveyor import atlas

    path = options.output
    old = None if options.compare is None else comparing.read(options.compare)
    log = None if path is None else Path(f"{path}.log")
    if path is not None:
        check_output(path)  # before minutes of work
    try:
        made = atlas(
            options.kinds or None,
            backends=None if options.backends is None else listed(options.backends),
            level=options.level,
            precisions=None if options.precision is None else listed(options.precision),
            device=options.device,
            timeout=options.timeout,
            log=log,
            progress=not options.json,
        )
    except KeyboardInterrupt:
        if log is not None and log.exists():
            tell(f"cnnlens: what was found is kept in {printable(log, 300)}; the same command goes on from there")
        raise
    changed = None if old is None else comparing.compared(old, listing.as_json(made))
    suffix = Path(path).suffix.lower() if path is not None else ""
    if options.json or suffix == ".json":
        output_json("atlas", {**listing.as_json(made), "changed": changed}, path)
    elif suffix == ".md":
        output_text(listing.as_markdown(made), path)
    elif suffix in (".html", ".htm"):
        output_text(made.html(), path)
    else:
        output_text(listing.as_page(made), path)
    if changed is not None and not options.json:
        output_text(comparing.as_page(changed))
    if log is not None:
        log.unlink(missing_ok=True)
    if not made.could_audit:
        tell("cnnlens: nothing was audited: no setting gave numbers that could be; the atlas says why")
        return 2
    return 0 if made.agree else 1
