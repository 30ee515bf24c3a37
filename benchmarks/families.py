"""torchvision's and timm's families: each is checked, converted to Keras, and held against torch by another program.

``python -m benchmarks families`` needs torchvision and timm. A family runs in a process of its own with a time limit:
``check`` of the live module under torch, ``convert`` to Keras; then ``peers/torch_families.py``, which knows nothing of
cnnlens, loads the Keras file and compares it with torch in float64 on other images. Random weights, batch norms
perturbed. ``floors``: the time of a conversion in units of what its backend alone takes to start, load and compile.
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

from benchmarks.harness import Options, Report
from benchmarks.peers.torch_families import SIZES

NAMES = tuple(SIZES)
PEER = Path(__file__).parent / "peers" / "torch_families.py"
TIMEOUT = 900.0
_FINE = ("exact", "float32", "not audited")
LIMIT = 1e-4  # of the outputs' deviation from image to image, or a few times what torch's own float32 is off
SPREAD = 1e-3  # of the largest output: where images make less difference, the comparison shows nothing


def child(name: str, folder: Path) -> dict[str, Any]:
    """Check and convert one family; what either said, and how long it took."""
    import cnnlens
    from benchmarks.peers.torch_families import images, made
    from cnnlens.backend.worker import close_all

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
    close_all()
    start = time.perf_counter()
    try:
        result = cnnlens.convert(module, "keras", folder / "model.keras", example=example)
    except cnnlens.CnnlensError as error:
        row["convert"] = {"says": str(error), "seconds": round(time.perf_counter() - start, 1)}
        return row
    seconds = time.perf_counter() - start
    least = floor(result.result)
    row["convert"] = {
        "layers": len(result.result.layers),
        "arrays": result.arrays,
        "notes": list(result.notes),
        "seconds": round(seconds, 1),
        "floor_seconds": round(least, 1),
        "floors": round(seconds / least, 2),
    }
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
    near = peer.get("keras", 1.0) <= max(LIMIT, 4 * peer.get("torch", 0.0))
    return row.get("check", {}).get("agrees", False) and near and peer.get("spread", 0.0) >= SPREAD


def run(options: Options, report: Report) -> None:
    """Every family, one at a time; a line each as it comes.

    The families in the file of ``--json`` that are not run now are handed on.
    """
    kept = options.json
    before = json.loads(kept.read_text())["families"]["found"] if kept is not None and kept.exists() else {}
    found: dict[str, dict[str, Any]] = {}
    for name in options.names or NAMES[: 1 if options.small else None]:
        with tempfile.TemporaryDirectory(prefix="cnnlens-bench-") as folder:
            row = _python(["-m", "benchmarks.families", name, folder], TIMEOUT)
            path = Path(folder) / "model.keras"
            if path.exists():
                row["peer"] = _python([str(PEER), name, str(path)], TIMEOUT, KERAS_BACKEND="jax", PYTHONPATH="")
        row["load"] = round(os.getloadavg()[0], 1)  # of this machine: other work beside it makes every time longer
        found[name] = row
        check, convert, peer = row.get("check", {}), row.get("convert", {}), row.get("peer", {})
        said = row.get("says") or convert.get("says") or "; ".join(check.get("says", [])) or peer.get("says", "")
        far = f"Keras {peer['keras']:.1e}, torch {peer['torch']:.1e} from float64" if "keras" in peer else ""
        print(
            f"{name:30} {'ok' if good(row) else 'NOT'}  check {check.get('seconds')} s, {len(check.get('alarms', []))} "
            f"alarms; convert {convert.get('seconds')} s, {convert.get('floors', '-')} floors; {far} {said[:300]}",
            flush=True,
        )
    both = {**before, **found}
    report.found = {name: both[name] for name in NAMES if name in both}
    report.good &= all(map(good, report.found.values()))


def floor(network: Any) -> float:
    """Seconds that a backend of Keras alone takes to start, load the converted network and run it once."""
    from cnnlens.backend.options import RunOptions
    from cnnlens.backend.worker import close_all
    from cnnlens.inputs.drawn import default_inputs
    from cnnlens.inputs.stream import CanonicalStream
    from cnnlens.recording.recorder import record_network

    inputs = CanonicalStream(default_inputs(network), "what the conversion is proved on")
    close_all()  # nothing is warm
    start = time.perf_counter()
    record_network(network, inputs, RunOptions(precision="strict"), backend="keras-jax")
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], Path(sys.argv[2]))))
