"""The third-party backends of support/plugin, installed as their users would install them, and what is left of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.once import once

PLUGINS = Path(__file__).with_name("plugin")


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both distributions are installed, with their metadata; nothing is fetched."""

    def make(folder: Path) -> None:
        options = "--quiet --no-deps --no-build-isolation --no-index --disable-pip-version-check".split()
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder)]
        places = [str(PLUGINS / name) for name in ("plain", "faulty", "planted")]
        subprocess.run([*command, *places], check=True, capture_output=True)

    return once(tmp_path_factory, "plugins", make)


@pytest.fixture
def plugins(plugin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugins are installed for one test."""
    monkeypatch.syspath_prepend(str(plugin_folder))
    return plugin_folder


@pytest.fixture
def plant(plugins: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says which fault the planted backends plant.

    It is one for all tests of a process: their workers stay warm, and look where their environment said at first.
    """
    path = tmp_path_factory.getbasetemp() / "plant"
    monkeypatch.setenv("CNNLENS_PLANT", str(path))
    return path


class Traces:
    """What the processes of one test leave behind: they inherit a marker, and a temporary folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = f"CNNLENS_TEST={uuid.uuid4()}"

    @property
    def environment(self) -> dict[str, str]:
        name, _, value = self.marker.partition("=")
        return {**os.environ, name: value, "TMPDIR": str(self.folder)}

    def processes(self) -> list[str]:
        """The command lines of live processes with the marker, but for the janitor of this very process."""
        found: list[str] = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.marker.encode() not in (process / "environ").read_bytes().split(b"\0"):
                    continue
                status = (process / "stat").read_text().rsplit(")", 1)[1].split()
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (OSError, IndexError):
                continue
            ours = "janitor.py" in command and int(status[1]) == os.getpid()
            if status[0] != "Z" and not ours:
                found.append(f"{process.name} {command}")
        return found

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def assert_alone(self, seconds: float = 5.0) -> None:
        """One process is left, and what was killed beside it is gone as soon as the system gets to it."""
        end = time.monotonic() + seconds
        while len(self.processes()) > 1 and time.monotonic() < end:
            time.sleep(0.02)
        assert len(self.processes()) == 1

    def assert_none(self, seconds: float = 5.0) -> None:
        """Nothing is left, or at least not for long."""
        end = time.monotonic() + seconds
        while (self.processes() or self.files()) and time.monotonic() < end:
            time.sleep(0.02)
        left = self.processes(), self.files()
        assert left == ([], []), left


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    """Nothing may be left of what a test starts: no process, no file, no shared memory of Python's."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    found = Traces(folder)
    name, _, value = found.marker.partition("=")
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    shared = _shared_memory()
    yield found
    found.assert_none()
    assert _shared_memory() <= shared


def _shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("*") if path.name.startswith(("psm_", "sem.mp-"))}
