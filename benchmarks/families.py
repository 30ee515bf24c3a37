"""torchvision's and timm's families: each is checked, converted to Keras, and held against torch by another program.

``python -m benchmarks families`` needs torchvision and timm. A family runs in a process of its own with a time limit:
``check`` of the live module under torch, ``convert`` to Keras; then ``peers/torch_families.py``, which knows nothing of
cnnlens, loads the Keras file and compares it with torch in float64 on other images. Random weights, batch norms
perturbed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.torch_families import SIZES

RESULTS = Path(__file__).parent / "results" / "families-cpu.json"
PEER = Path(__file__).parent / "peers" / "torch_families.py"
TIMEOUT = 900.0
_FINE = ("exact", "float32", "not audited")
LIMIT = 1e-5  # of the largest output, or a few times what torch's own float32 is off


def child(name: str, folder: Path) -> dict[str, Any]:
    """Check and convert one family; what either said, and how long it took."""
    import cnnlens
    from benchmarks.peers.torch_families import images, made

    module, example = made(name), images(name, 2, 1)
    row: dict[str, Any] = {"size": SIZES[name], "parameters": sum(one.numel() for one in module.parameters())}
    start = time.perf_counter()
    try:
        check = cnnlens.check(module, images(name, 2, 3), example=example)
        audits = [(one, audit) for one in check.rows for audit in one.audits.values()]
        counts: dict[str, int] = {}
        for _, audit in audits:
            counts[audit.verdict.value] = counts.get(audit.verdict.value, 0) + 1
        row["check"] = {
            "agrees": check.agree,
            "verdicts": counts,
            "says": [str(run.error) for run in check.runs if run.error],
            "alarms": [
                {"layer": one.name, "kind": one.kind, "verdict": audit.verdict.value, "bits": round(audit.bits, 2),
                 "channel_bits": round(audit.channel_bits, 2), "says": audit.explanation}
                for one, audit in audits if audit.verdict.value not in _FINE
            ],
            "not_audited": sorted({f"{one.kind}: {audit.reason}" for one, audit in audits
                                   if audit.verdict.value == "not audited"})[:20],
        }  # fmt: skip
    except cnnlens.CnnlensError as error:
        row["check"] = {"agrees": False, "says": [str(error)]}
    row["check"]["seconds"] = round(time.perf_counter() - start, 1)
    start = time.perf_counter()
    try:
        made_ = cnnlens.convert(module, "keras", folder / "model.keras", example=example)
        row["convert"] = {"layers": len(made_.result.layers), "arrays": made_.arrays, "notes": list(made_.notes)}
    except cnnlens.CnnlensError as error:
        row["convert"] = {"says": str(error)}
    row["convert"]["seconds"] = round(time.perf_counter() - start, 1)
    return row


def _python(arguments: list[str], timeout: float, **environment: str) -> dict[str, Any]:
    """Run a program that prints JSON at last; what it said where it does not."""
    home = Path(__file__).parent.parent
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *arguments], cwd=home, env={**os.environ, **environment}, text=True,
            capture_output=True, timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"says": f"not done after {timeout:.0f} s"}
    if done.returncode:
        return {"says": f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def good(row: dict[str, Any]) -> bool:
    """Whether the check agreed, and the converted model computes what the family does."""
    peer = row.get("peer", {})
    return row.get("check", {}).get("agrees", False) and peer.get("keras", 1.0) <= max(LIMIT, 4 * peer.get("torch", 0))


def run(names: list[str] | None = None, results: Path | None = RESULTS) -> dict[str, dict[str, Any]]:
    """Every family, one at a time; a line each as it comes, kept in ``results`` as it goes."""
    found: dict[str, dict[str, Any]] = {}
    for name in names or SIZES:
        with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
            row = _python(["-m", "benchmarks.families", name, folder], TIMEOUT)
            path = Path(folder) / "model.keras"
            if path.exists():
                row["peer"] = _python([str(PEER), name, str(path)], TIMEOUT, KERAS_BACKEND="jax", PYTHONPATH="")
        found[name] = row
        check, convert, peer = row.get("check", {}), row.get("convert", {}), row.get("peer", {})
        said = row.get("says") or convert.get("says") or "; ".join(check.get("says", [])) or peer.get("says", "")
        far = f"Keras {peer['keras']:.1e}, torch {peer['torch']:.1e} from float64" if "keras" in peer else ""
        print(
            f"{name:30} {'ok' if good(row) else 'NOT'}  check {check.get('seconds')} s, {len(check.get('alarms', []))} "
            f"alarms; convert {convert.get('seconds')} s; {far} {said[:300]}", flush=True,
        )  # fmt: skip
        if results is not None:
            kept = json.loads(results.read_text()) if results.exists() else {}
            kept.update(found)
            results.write_text(json.dumps({one: kept[one] for one in SIZES if one in kept}, indent=2) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], Path(sys.argv[2]))))
