"""The atlas of older releases, each swept in an environment of its own, and ``docs/atlas-older.md`` of them.

One thing is changed at a time: an environment holds the versions of ``constraints.txt`` but for its own release. Of an
older PyTorch only builds without CUDA are taken (from PyTorch's own index of CPU wheels, where ``PIP_EXTRA_INDEX_URL``
names it): others pull gigabytes of libraries for a GPU. What pip says where there is none is kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT, Options, Report

__all__ = ["FOLDER", "RELEASES", "Release", "page", "run"]

FOLDER = RESULTS / "older-atlas"
PAGE = ROOT / "docs" / "atlas-older.md"
_KERAS = ("keras-tensorflow", "keras-jax", "keras-torch")


@dataclass(frozen=True)
class Release:
    """Says what is installed in place of today's, and which backends that concerns."""

    requirements: tuple[str, ...]
    backends: tuple[str, ...]


RELEASES: Mapping[str, Release] = {
    "today": Release((), (*_KERAS, "pytorch")),
    "keras-3.12.4": Release(("keras==3.12.4",), _KERAS),
    # The oldest that the adapters ask for; with TensorFlow apart, which asks for a newer one.
    "keras-3.10.0": Release(("keras==3.10.0",), _KERAS[1:]),
    "keras-3.10.0-tensorflow": Release(("keras==3.10.0",), _KERAS[:1]),
    "jax-0.8.3": Release(("jax==0.8.3", "jaxlib==0.8.3"), ("keras-jax",)),
    "jax-0.6.2": Release(("jax==0.6.2", "jaxlib==0.6.2"), ("keras-jax",)),
    "torch-2.9.1": Release(("torch==2.9.1",), ("keras-torch", "pytorch")),  # 3 GB, of which CUDA is the most
    "torch-2.8.0": Release(("torch==2.8.0",), ("keras-torch", "pytorch")),
}
_FRAMEWORKS = {
    "keras-tensorflow": ("keras", "tensorflow-cpu"), "keras-jax": ("keras", "jax", "jaxlib"),
    "keras-torch": ("keras", "torch"), "pytorch": ("torch",),
}  # fmt: skip


def _environment(folder: Path, release: Release) -> str:
    """Make an environment and give its Python.

    Raises:
        ValueError: the release is not to be had; pip's last words.
    """
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=own)
    changed = {one.partition("==")[0] for one in release.requirements}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(line for line in lines if line.partition("==")[0] not in changed))
    needed = dict.fromkeys(name for backend in release.backends for name in _FRAMEWORKS[backend] if name not in changed)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "-c", str(constraints), "numpy", *needed]
    ran = subprocess.run([*command, *release.requirements], capture_output=True, text=True, check=False, env=own)
    if ran.returncode:
        errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR: ")]
        conflict = [line for line in errors if "Cannot install" in line]
        raise ValueError((conflict or errors or [ran.stderr.strip()])[-1][-300:])
    return python


def run(options: Options, report: Report) -> None:
    """Sweep each release under each backend that it concerns.

    Without names what was swept before is left as it is; a sweep that was cut short goes on where it stopped. A small
    one is of the kinds in which ``docs/atlas.md`` shows a fault.
    """
    import cnnlens
    from cnnlens.errors import CnnlensError

    FOLDER.mkdir(parents=True, exist_ok=True)
    report.found = found = dict[str, Any]()
    for name in options.names or RELEASES:
        release = RELEASES[name]
        left = [one for one in release.backends if options.names or not _kept(name, one).exists()]
        if not left:
            continue
        place = Path(tempfile.gettempdir(), "cnnlens-older", name)
        try:
            python = _environment(place, release)
        except ValueError as error:
            found[name] = str(error)
            _kept(name).write_text(f"{error}\n")
            print(f"{name}: {error}", flush=True)
            continue
        _kept(name).unlink(missing_ok=True)  # it could not be made before
        for backend in left:
            kinds, log = (_faulty() if options.small else None), place / f"{backend}.log"
            try:
                made = cnnlens.atlas(kinds, backends=[f"{backend}@{python}"], log=log)
            except CnnlensError as error:
                found[f"{name} {backend}"] = said = str(error).replace(f"@{python}", "")
                _kept(name, backend).with_suffix(".txt").write_text(f"{said}\n")
                print(f"{name} {backend}: {said}", flush=True)
                continue
            found[f"{name} {backend}"] = made.seconds
            print(f"{name} {backend}: {made!r}", flush=True)
            _kept(name, backend).write_text(json.dumps(made.to_json()).replace(f"@{python}", "") + "\n")
        shutil.rmtree(place)
    PAGE.write_text(page())


def _faulty() -> list[str]:
    """The kinds in which ``docs/atlas.md`` shows a fault: a number in brackets stands in their rows."""
    text = (ROOT / "docs" / "atlas.md").read_text(encoding="utf-8")
    return [*dict.fromkeys(re.findall(r"^\| (\w+) \|.*\[[\d, ]+\]", text, re.MULTILINE))]


def _kept(release: str, backend: str = "") -> Path:
    """Where an atlas is kept, or why there is none (.txt); without a backend, why there is no environment."""
    return FOLDER / (f"{release}.{backend}.json" if backend else f"{release}.txt")


def page() -> str:
    """Write ``docs/atlas-older.md`` of what was swept."""
    from cnnlens.surveying import comparing

    atlases = [
        comparing.read(path)
        for name in RELEASES
        for backend in RELEASES[name].backends
        if (path := _kept(name, backend)).exists() and _kept("today", backend).exists()
    ]
    found = comparing.by_release(atlases)
    lines = [_HEAD, *_machines(atlases), *_partly(atlases)]
    lines += [
        f"- {name}: not swept, since pip cannot install it: `{_kept(name).read_text().strip()}`"
        for name in RELEASES
        if _kept(name).exists()
    ]
    alone = [
        (f"{name} under {backend}", kept)
        for name in RELEASES
        for backend in RELEASES[name].backends
        if not (kept := _kept(name, backend)).exists() and not _kept(name).exists()
    ]
    failed = {one: why.read_text().strip() for one, kept in alone if (why := kept.with_suffix(".txt")).exists()}
    lines += [f"- {one}: `{why}`" for one, why in failed.items()]
    missing = [one for one, _ in alone if one not in failed]
    if missing:
        lines.append(f"- Not swept yet, and so without a comparison: {', '.join(missing)}")
    lines += ["", *comparing.release_tables(found), *_scripts(found, atlases)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _machines(atlases: list[Mapping[str, Any]]) -> list[str]:
    """A fault may hang on the processor; where not all were swept on one, that is said."""
    shown = dict.fromkeys(
        f"- {one['machine']['cpu']} ({' '.join(one['machine']['features'])}), {one['machine']['system']}, "
        f"Python {one['machine']['python']}"
        for one in atlases
    )
    note = (
        ["- Not all were swept on one machine: what oneDNN and XLA choose may hang on that."] if len(shown) > 1 else []
    )
    return [*shown, *note]


def _partly(atlases: list[Mapping[str, Any]]) -> list[str]:
    from cnnlens.surveying.table import FAMILIES

    swept = min((len({cell["kind"] for cell in one["cells"]}) for one in atlases), default=0)
    whole = min(len({one.kind for one in FAMILIES if one.framework == name}) for name in ("keras", "torch"))
    if swept >= whole:
        return []
    return [
        "- Not the whole sweep: where a column has few kinds they are those in which the atlas shows a fault "
        "(`--small`), and what an older release does wrong in another kind is not seen."
    ]


def _scripts(found: Mapping[str, Any], atlases: list[Mapping[str, Any]]) -> list[str]:
    """The scripts of what an older release alone shows."""
    from cnnlens.surveying.comparing import fault_of

    lines, seen = ["## What an older release alone shows", ""], set[tuple[str, ...]]()
    for backend, one in found.items():
        newest = {tuple(row[:3]) for row in one["rows"] if not row[3].startswith(("0 of", "not")) and row[3]}
        for atlas in atlases:
            for finding in atlas["findings"]:
                fault = fault_of(finding)
                if not any(side.partition("@")[0] == backend for side in finding["sides"]) or not finding["script"]:
                    continue
                if fault in newest or (backend, *fault) in seen:
                    continue
                seen.add((backend, *fault))
                shown = "" if finding["shown"] else " (run alone, it did not show it)"
                lines += [f"### {finding['kind']} under {backend}: {finding['fault']}{shown}", ""]
                lines += ["```python", finding["script"].rstrip("\n"), "```", ""]
    return lines if seen else []


_HEAD = """# The atlas of older releases

The sweep of [the atlas](atlas.md) under older releases, each in an environment of its own that holds the versions of
`constraints.txt` but for that release: one thing is changed at a time. Older releases of PyTorch are the builds that
PyPI has, with CUDA, and run on the CPU as the newest does, which is a build without.
`python -m benchmarks older-atlas` makes the environments, sweeps, and writes this page;
`benchmarks/results/older-atlas` holds what each sweep found. What is counted as in both, or in one alone, are sorts of
faults of a kind, not settings.

A cell says at how many of a kind's settings the fault shows. `not in it`: the release has no such kind. An empty cell
was not swept. Kinds without a fault in any column are left out.
"""
