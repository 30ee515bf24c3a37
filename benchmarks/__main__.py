"""``python -m benchmarks [PART] [NAME …] [--json FILE]``: measure and print ratios.

Parts: ``speed`` (whole commands, extraction by the reference, memory), ``applications`` (the reference against Keras on
keras.applications), ``checks`` (the same models audited under every backend), ``networks`` (random networks: any alarm
is false), ``side-by-side`` (three backends together), ``pytorch`` (extraction from native modules, against forward
hooks and TorchLens), ``conversion`` (keras.applications converted to PyTorch, run where there is no Keras),
``roundtrip`` (random networks to PyTorch and back, bit for bit), ``diff`` (two models of 100 MB against reading both),
``families`` (torchvision's and timm's models checked, converted to Keras, and held against torch by another program),
``truth`` (planted faults: whether each is seen, and whether what is said of it is true), ``mutations`` (of the code
that proofs rest on: how many a test notices, room by room), ``fuzz`` (damaged files of every format: each opens or is
refused in one line, within its budgets), ``honest`` (files as people have them: none is refused), ``old-versions``
(measures nothing: has old versions of Keras and PyTorch write the files of ``tests/data/old`` anew). Without a part,
``speed`` and ``applications`` run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import (
    applications,
    checks,
    conversion,
    diff,
    families,
    fuzz,
    honest,
    mutations,
    old_versions,
    pytorch,
    roundtrip,
    speed,
    truth,
)

PARTS = (
    "speed", "applications", "checks", "networks", "side-by-side", "pytorch", "conversion", "roundtrip", "diff",
    "families", "truth", "mutations", "fuzz", "honest", "old-versions",
)  # fmt: skip


def main() -> int:
    """Exit code 0 when every goal is reached, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which applications, families, rooms, formats …")
    parser.add_argument("--mutants", type=int, metavar="N", help="of each room, or of each format")
    parser.add_argument("--seed", type=int, default=fuzz.SEED, metavar="S", help="what fuzz draws its mutants with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    good = True
    others = {"families": families.NAMES, "mutations": mutations.ROOMS, "old-versions": tuple(old_versions.VERSIONS)}
    if options.part == "fuzz":
        others["fuzz"] = fuzz.formats()
    known = others.get(options.part or "", applications.NAMES)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no {unknown[0]}; there are {', '.join(known)}")
    if options.part in (None, "speed"):
        rows = speed.run()
        found["speed"] = [asdict(row) for row in rows]
        good &= all(row.ratio >= row.goal for row in rows)
    if options.part in (None, "applications"):
        results = applications.run(options.names or applications.NAMES)
        found["applications"] = [asdict(one) for one in results]
        good &= all(one.worst <= applications.LIMIT for one in results)
    if options.part == "checks":
        found["checks"] = checks.applications(options.names)
        good &= all(one["agrees"] for one in found["checks"])
    if options.part == "networks":
        found["networks"] = checks.networks()
        good &= not found["networks"]["alarms"]
    if options.part == "side-by-side":
        row = checks.side_by_side()
        print(row)
        found["side_by_side"] = asdict(row)
        good &= row.ratio >= row.goal
    if options.part == "pytorch":
        rows, medians = pytorch.run()
        found["pytorch"] = [asdict(row) for row in rows]
        found["images_s"] = medians
        found["load"] = os.getloadavg()[0]  # of this machine when it ended: other work beside it makes every rate lower
        good &= all(row.ratio >= row.goal for row in rows)
    if options.part == "conversion":
        converted = conversion.run(options.names or None)
        found["conversion"] = [asdict(one) for one in converted]
        good &= all(one.good for one in converted)
    if options.part == "roundtrip":
        found["roundtrip"] = roundtrip.run()
        good &= not found["roundtrip"]["failures"]
    if options.part == "families":
        found["families"] = families.run(options.names or families.NAMES, options.json)
        good &= all(families.good(row) for row in found["families"].values())
        found["load"] = os.getloadavg()[0]
    if options.part == "diff":
        rows = diff.run()
        for row in rows:
            print(row)
        found["diff"] = [asdict(row) for row in rows]
        found["load"] = os.getloadavg()[0]
        good &= all(row.ratio >= row.goal for row in rows)
    if options.part == "truth":
        found["truth"] = truth.run()
        found["load"] = os.getloadavg()[0]
        good &= truth.good(found["truth"])
    if options.part == "mutations":
        scores = mutations.run(options.names, options.mutants or mutations.MUTANTS)
        found["mutations"] = {room: asdict(score) for room, score in scores.items()}
        good &= all(score.share >= mutations.GOAL for score in scores.values())
    if options.part == "fuzz":
        found["fuzz"] = fuzz.run(options.names, options.mutants or fuzz.MUTANTS, options.seed)
        good &= not any(one["failed"] for one in found["fuzz"].values())
    if options.part == "honest":
        found["honest"] = honest.run()
        good &= not found["honest"]["refused"] and found["honest"]["files"] >= 150
    if options.part == "old-versions":
        found["old_versions"] = old_versions.run(options.names or old_versions.VERSIONS)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if good else 1


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    versions = {}
    names = "numpy keras tensorflow_cpu tensorflow jax torch torchvision timm torchlens matplotlib"
    for name in names.split():
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count(), **versions}


if __name__ == "__main__":
    raise SystemExit(main())
