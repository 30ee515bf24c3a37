"""``python -m benchmarks [PART [NAME …] …] [--json FILE] [--device cpu|gpu]``: measure, and print ratios and goals."""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Options, Report, machine
from benchmarks.parts import DEFAULT, PARTS


def chosen(words: Sequence[str], device: str) -> dict[str, tuple[str, ...]]:
    """Read parts, each with the names behind it.

    Raises:
        ValueError: there is no such part or name; one line.
    """
    found: dict[str, tuple[str, ...]] = {}
    part = ""
    for word in words:
        if part and word in PARTS[part].names:  # first: memory has a name for each command, and some are parts too
            found[part] += (word,)
        elif word in PARTS:
            part = word
            found.setdefault(part, ())
        else:
            there = (*PARTS[part].names, *PARTS) if part else PARTS
            raise ValueError(f"no {word} here; there are {', '.join(there)}")
    found = found or dict.fromkeys(("gpu",) if device == "gpu" else DEFAULT, ())
    for part in found:
        if device not in PARTS[part].devices:
            raise ValueError(f"{part} measures the CPU alone")
    return found


def main() -> int:
    """Exit code 0 when every goal is reached, 1 otherwise."""
    listed = "\n".join(f"  {name:14} {part.asks}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure and print ratios. Each part runs both of its sides in turn.",
        epilog=f"parts (without one: {' and '.join(DEFAULT)}; with --device gpu: gpu):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="*", metavar="PART [NAME …]", help="what to measure; names: applications, backends, rooms …"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where (default: cpu)")
    parser.add_argument("--small", action="store_true", help="few images and rounds: whether it runs, not how fast")
    parser.add_argument("--mutants", type=int, metavar="N", help="of each room, or of each format")
    parser.add_argument("--seed", type=int, default=Options.seed, metavar="S", help="what fuzz draws its mutants with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    try:
        parts = chosen(options.words, options.device)
    except ValueError as error:
        parser.error(str(error))
    found: dict[str, Any] = {"environment": machine(), "device": options.device, "small": options.small}
    good = True
    for part, names in parts.items():
        print(f"{part}: {PARTS[part].asks}", flush=True)
        report, began, load = Report(), time.perf_counter(), os.getloadavg()[0]

        def keep(part: str = part, report: Report = report, began: float = began, load: float = load) -> None:
            loads = [round(load, 2), round(os.getloadavg()[0], 2)]  # other work beside it makes every rate lower
            found[part] = {**report.to_json(), "seconds": round(time.perf_counter() - began, 1), "load": loads}
            if options.json is not None:
                options.json.write_text(json.dumps(found, indent=2) + "\n")

        report.keep = keep
        given = Options(names, options.device, options.small, options.mutants, options.seed, options.json)
        try:
            PARTS[part].run(given, report)
        except Exception:  # what was measured before is kept, and the other parts go on
            traceback.print_exc()
            report.error = traceback.format_exc(limit=-1)
            report.good = False
        keep()
        good &= report.good
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
