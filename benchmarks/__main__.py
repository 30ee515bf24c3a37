"""``python -m benchmarks [speed|applications] [NAME …] [--json FILE]``: measure and print ratios.

Without a name both parts run; ``applications`` takes the models to compare (default: all that are listed).
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import applications, speed


def main() -> int:
    """Exit code 0 when every goal is reached, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("part", nargs="?", choices=["speed", "applications"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="which applications")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    good = True
    if options.part in (None, "speed"):
        rows = speed.run()
        found["speed"] = [asdict(row) for row in rows]
        good &= all(row.ratio >= row.goal for row in rows)
    if options.part in (None, "applications"):
        unknown = [name for name in options.names if name not in applications.NAMES]
        if unknown:
            parser.error(f"no application {unknown[0]}; there are {', '.join(applications.NAMES)}")
        results = applications.run(options.names or applications.NAMES)
        found["applications"] = [asdict(one) for one in results]
        good &= all(one.worst <= applications.LIMIT for one in results)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if good else 1


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import os

    versions = {}
    for name in ("numpy", "keras", "tensorflow_cpu", "tensorflow", "matplotlib"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count(), **versions}


if __name__ == "__main__":
    raise SystemExit(main())
