"""Files as old versions of Keras and PyTorch write them, kept in ``tests/data/old`` for the tests of every command.

Nothing of today writes what torch 1.4 or Keras 2.2.4 wrote, and a file made by hand says only what its maker believed.
So each version is installed in an environment of its own, by the Python of its time, and writes its files itself, with
the arrays and outputs that it has for them (``peers/old_keras.py`` and ``peers/old_torch.py``). The environment goes
when the files are there: all together they would be 30 GB.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.harness import Options, Report

__all__ = ["FOLDER", "VERSIONS", "Version", "run"]

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "old"
PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Version:
    """Says how one version is had: ``python`` is the interpreter's (empty: the one that runs this, and what it has)."""

    python: str
    requirements: tuple[str, ...]
    home: str  # the module that is Keras, or torch


def _today(name: str) -> dict[str, Version]:
    try:
        return {f"{name}-{metadata.version(name).partition('+')[0]}": Version("", (), name)}
    except metadata.PackageNotFoundError:
        return {}


VERSIONS: Mapping[str, Version] = {
    "keras-2.2.4": Version(
        "3.7", ("keras==2.2.4", "tensorflow==1.14.0", "h5py<3", "numpy<1.17", "protobuf<3.21"), "keras"
    ),
    # TensorFlow 2.0 to 2.3 alone write TensorFlowOpLayer; their Keras calls itself 2.4.0.
    "keras-2.4.0": Version("3.8", ("tensorflow-cpu==2.3.4", "protobuf<3.21"), "tensorflow.keras"),
    "keras-2.6.0": Version("3.9", ("tensorflow-cpu==2.6.5", "keras==2.6.0", "protobuf<3.21"), "tensorflow.keras"),
    "keras-2.10.0": Version("3.10", ("tensorflow-cpu==2.10.1", "numpy<2"), "tensorflow.keras"),
    "keras-2.15.0": Version("3.11", ("tensorflow-cpu==2.15.1", "numpy<2"), "tensorflow.keras"),
    "keras-3.0.5": Version("3.11", ("tensorflow-cpu==2.16.2", "keras==3.0.5", "numpy<2"), "keras"),
    "keras-3.5.0": Version("3.11", ("tensorflow-cpu==2.17.1", "keras==3.5.0", "numpy<2"), "keras"),
    **_today("keras"),
    "torch-1.4.0": Version("3.8", ("torch==1.4.0", "numpy<1.24"), "torch"),
    "torch-1.13.1": Version("3.10", ("torch==1.13.1", "numpy<2"), "torch"),
    "torch-2.1.2": Version("3.11", ("torch==2.1.2", "numpy<2"), "torch"),
    "torch-2.6.0": Version("3.11", ("torch==2.6.0", "numpy"), "torch"),
    **_today("torch"),
}


def _interpreter(version: str) -> str:
    """Find Python ``version`` on the path or among pyenv's.

    Raises:
        RuntimeError: it is not installed.
    """
    found = shutil.which(f"python{version}")
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(root.glob(f"{version}.*/bin/python"))
    if kept or found:
        return str(kept[-1]) if kept else str(found)
    raise RuntimeError(f"Python {version} is not installed; `pyenv install {version}` has it")


def write(name: str, folder: Path = FOLDER) -> Path:
    """Make the environment, have it write its files, and pack them as FOLDER/NAME.tar.xz."""
    version = VERSIONS[name]
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="cnnlens-old-") as scratch:
        python = sys.executable
        if version.python:
            place = Path(scratch, "environment")
            subprocess.run([_interpreter(version.python), "-m", "venv", place], check=True, env=own)
            python = str(place / "bin" / "python")
            command = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *version.requirements]
            subprocess.run(command, check=True, env=own)
        # Away from its neighbours, whose names are those of packages.
        peer = shutil.copy(PEERS / ("old_torch.py" if version.home == "torch" else "old_keras.py"), scratch)
        made = Path(scratch, name)
        made.mkdir()
        if version.home == "torch":
            command = [python, "-c", f"import old_torch; old_torch.main({str(made)!r})"]
        else:
            command = [python, peer, version.home, str(made)]
        subprocess.run(command, check=True, env=own, cwd=scratch)
        folder.mkdir(parents=True, exist_ok=True)
        packed = folder / f"{name}.tar.xz"
        with tarfile.open(packed, "w:xz", preset=9) as archive:
            for path in sorted(made.iterdir()):
                member = tarfile.TarInfo(path.name)  # of no time and no owner
                member.size = path.stat().st_size
                archive.addfile(member, io.BytesIO(path.read_bytes()))
    return packed


def run(options: Options, report: Report) -> None:
    """Write the files of each version anew, one at a time, and print what they take."""
    report.found = found = dict[str, int]()
    for name in options.names or VERSIONS:
        found[name] = write(name).stat().st_size
        print(f"{name}: {found[name]:,} bytes", flush=True)
