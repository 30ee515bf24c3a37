"""A progress bar on a terminal: how much is done, how fast, how long it still takes. Nothing where nobody looks."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

__all__ = ["Progress"]

_EVERY = 0.1  # s between two drawings


class Progress:
    """Call it with what is done and all there is, as often as you like; use it in a ``with`` so that its line ends.

    Args:
        unit: What is counted, such as ``images``.
        stream: Where it is drawn; nothing is where that is no terminal.
    """

    def __init__(self, unit: str, stream: TextIO | None = None) -> None:
        self._unit = unit
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._first: tuple[float, int] | None = None
        self._drawn = 0.0
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            self._stream.write("\n")
            self._stream.flush()

    def __call__(self, done: int, count: int) -> None:
        if not self._shown:
            return
        now = time.monotonic()
        if self._first is None:  # what a run before has done says nothing of the speed of this one
            self._first = (now, done)
        if done < count and now - self._drawn < _EVERY:
            return
        self._drawn = now
        since, before = self._first
        line = self.line(done, count, done - before, now - since)
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r" + line[:width].ljust(min(self._width, width)))
        self._stream.flush()
        self._width = len(line)

    def line(self, done: int, count: int, recently: int, seconds: float) -> str:
        """Write what is drawn: ``[=====     ] 5,000/10,000 images, 1,234/s, 4 s left``."""
        bar = "=" * (20 * done // max(count, 1))
        text = f"[{bar:<20}] {done:,}/{count:,} {self._unit}"
        if recently <= 0 or seconds <= 0:
            return text
        rate = recently / seconds
        shown = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"
        left = f"{_duration((count - done) / rate)} left" if done < count else f"in {_duration(seconds)}"
        return f"{text}, {shown}, {left}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
