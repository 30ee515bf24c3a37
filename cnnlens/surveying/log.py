"""What a survey has found so far, a line a setting, so that one that was cut short goes on where it stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnlens.checking.finding import FaultClass
from cnnlens.errors import CnnlensError
from cnnlens.surveying.drawing import CLASSES
from cnnlens.surveying.machine import machine
from cnnlens.surveying.running import Outcome, Under
from cnnlens.surveying.setting import Setting
from cnnlens.text import printable

__all__ = ["Log"]

_FAULTS = ("", *FaultClass, "refused", "crashed", "hung", "not audited")
_BEGINS = '["['  # a list, and in it the owner, which is a list in turn


class Log:
    """Keeps outcomes in a file of JSON lines; without a path in memory alone.

    A line belongs to a backend with its versions on a processor, and to the reference that it was held against, which
    is this package's version, so that nothing is taken over from others. The last line of a process that was killed may
    be half a line: it is left out.

    Raises:
        CnnlensError: the file is there and is somebody's own, which would be lost, or cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._here = [machine()["cpu"], machine()["features"], version("cnnlens")]
        self._found: dict[str, dict[str, tuple[Outcome, float]]] = {}
        if path is not None:
            self._read(path)

    def known(self, under: Under, versions: Mapping[str, str]) -> Mapping[str, Outcome]:
        """Give the outcomes that are there of a backend in these versions, by the settings' keys.

        What hung gets another try where it is waited for longer now.
        """
        found = self._found.get(self._owner(under, versions), {})
        return {key: one for key, (one, waited) in found.items() if one.fault != "hung" or waited >= under.timeout}

    def add(self, under: Under, versions: Mapping[str, str], setting: Setting, outcome: Outcome) -> None:
        """Keep one more."""
        if self._path is None:
            return
        said = [outcome.fault, outcome.text, outcome.inputs, outcome.bits]
        line = [self._owner(under, versions), setting.key, *said, under.timeout]
        self._write(self._path, json.dumps(line) + "\n")

    def _write(self, path: Path, text: str) -> None:
        try:
            with self._lock, open(path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            shown = printable(path, 300)
            raise CnnlensError(f"{shown}: it cannot be written ({error.strerror}); choose another place") from None

    def _owner(self, under: Under, versions: Mapping[str, Any]) -> str:
        return json.dumps([under.backend, under.precision, under.device, sorted(versions.items()), *self._here])

    def _read(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            shown = printable(path, 300)
            raise CnnlensError(f"{shown}: it cannot be read ({error.strerror}); choose another place") from None
        if text and not text.startswith(_BEGINS):
            raise CnnlensError(
                f"{printable(path, 300)}: outcomes are kept here while a sweep goes on, and this is no such file; "
                "move it, or choose another place"
            )
        if text and not text.endswith("\n"):
            self._write(path, "\n")  # so that half a line spoils no other
        for line in text.splitlines():
            try:
                owner, key, fault, said, inputs, bits, waited = json.loads(line)
                outcome, waited = Outcome(str(fault), str(said), tuple(map(str, inputs)), float(bits)), float(waited)
            except (ValueError, TypeError, OverflowError, RecursionError):
                continue
            if fault in _FAULTS and CLASSES.keys() >= set(outcome.inputs):
                self._found.setdefault(str(owner), {})[str(key)] = outcome, waited
