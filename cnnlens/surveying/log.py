"""What a survey has found so far, a line a setting, so that one that was cut short goes on where it stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.surveying.running import Outcome, Under
from cnnlens.surveying.setting import Setting
from cnnlens.text import printable

__all__ = ["Log"]


class Log:
    """Keeps outcomes in a file of JSON lines; without a path in memory alone.

    A line belongs to a backend with its versions, so that nothing is taken over from other versions. The last line of
    a process that was killed may be half a line: it is left out.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._found: dict[str, dict[str, Outcome]] = {}
        if path is not None and path.exists():
            self._read(path)

    def known(self, under: Under, versions: Mapping[str, str]) -> Mapping[str, Outcome]:
        """Give the outcomes that are there of a backend in these versions, by the settings' keys."""
        return self._found.get(_owner(under, versions), {})

    def add(self, under: Under, versions: Mapping[str, str], setting: Setting, outcome: Outcome) -> None:
        """Keep one more."""
        if self._path is None:
            return
        line = [_owner(under, versions), setting.key, outcome.fault, outcome.text, outcome.inputs, outcome.bits]
        self._write(self._path, json.dumps(line) + "\n")

    def _write(self, path: Path, text: str) -> None:
        try:
            with self._lock, open(path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            shown = printable(path, 300)
            raise CnnlensError(f"{shown}: it cannot be written ({error.strerror}); choose another place") from None

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n"):
            self._write(path, "\n")  # so that half a line spoils no other
        for line in text.splitlines():
            try:
                owner, key, fault, text, inputs, bits = json.loads(line)
                outcome = Outcome(str(fault), str(text), tuple(map(str, inputs)), float(bits))
            except (ValueError, TypeError):
                continue
            self._found.setdefault(str(owner), {})[str(key)] = outcome


def _owner(under: Under, versions: Mapping[str, Any]) -> str:
    return json.dumps([under.backend, under.precision, under.device, sorted(versions.items())])
