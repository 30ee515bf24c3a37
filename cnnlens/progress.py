"""How far a slow call is, told to whoever waits for it: a bar in a terminal, one in a notebook, nothing elsewhere."""

from __future__ import annotations

import html
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TextIO, TypeAlias

from cnnlens.text import harmless

__all__ = ["Counted", "Progress", "Told", "saying", "telling"]

Counted: TypeAlias = Callable[[int, int], object] | bool | None
"""Whom a call that counts tells how far it is. True: whoever waits, in a terminal or a notebook; False or None: nobody;
or what is called with how much is done, and how much there is."""

Told: TypeAlias = Callable[[str], object] | bool | None
"""The same of a call that has steps: what is called with a line of text at each."""

_EVERY = 0.1  # s between two drawings
_AFTER = 0.5  # s that a call may take in silence where nobody asked to hear of it


class Progress:
    """Call it with what is done and all there is, or with a line, as often as you like, in a ``with``.

    What was counted stays to be read when it is over; a line that only said what came next goes, or stands behind the
    first count.

    Args:
        unit: What is counted, such as ``images``.
        stream: Where it is drawn; nothing is where that is no terminal. None: standard error, or the notebook.
        after: Seconds before the first drawing; what is over by then is not drawn at all.
    """

    def __init__(self, unit: str = "", stream: TextIO | None = None, after: float = 0.0) -> None:
        self._unit = unit
        self._stream = stream or sys.stderr
        self._shell = _notebook() if stream is None else None
        self._shown = self._shell is not None or bool(self._stream and self._stream.isatty())
        self._first: tuple[float, int] | None = None
        self._drawn = 0.0
        self._width = 0
        self._display: Any = None
        self._stays = False
        self._from = time.monotonic() + after
        self._waiting = ""  # a line that came too early to be drawn, and may be the last for long
        self._lock = threading.Lock()
        self._timer = threading.Timer(after, self._late) if after and self._shown else None

    def __enter__(self) -> Progress:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._shown = False
            self._end()

    def _late(self) -> None:
        with self._lock:
            if self._shown and self._waiting:
                self._draw(max(time.monotonic(), self._from), self._waiting, None)

    def _end(self) -> None:
        if self._display is not None and not self._stays:
            self._show("", "")
        elif self._width:
            self._stream.write("\n" if self._stays else "\r" + " " * self._width + "\r")
            self._stream.flush()

    def __call__(self, done: int | str, count: int = 0) -> None:
        with self._lock:
            if self._shown:
                self._tell(done, count)

    def _tell(self, done: int | str, count: int) -> None:
        now = time.monotonic()
        if isinstance(done, str):
            self._waiting = harmless(done)
            if now - self._drawn >= _EVERY:
                self._draw(now, self._waiting, None)
            return
        if self._first is None:  # what a run before has done says nothing of the speed of this one
            self._first = (now, done)
        if done >= count or now - self._drawn >= _EVERY:
            since, before = self._first
            self._stays = True
            self._draw(now, self.line(done, count, done - before, now - since), done / max(count, 1))

    def _draw(self, now: float, line: str, part: float | None) -> None:
        if now < self._from:
            return
        self._drawn = now
        if self._shell is not None:
            words = html.escape(line.partition("] ")[2] or line)
            bar = "" if part is None else f'<progress max="1" value="{part:.4f}"></progress> '
            self._show(line, f"<span style='font-size: 13px'>{bar}{words}</span>")
            return
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r" + line[:width].ljust(min(self._width, width)))
        self._stream.flush()
        self._width = min(len(line), width)

    def _show(self, text: str, page: str) -> None:
        """Put it into the notebook's cell, in the place of what was there."""
        data: dict[str, str] = {"text/plain": text, "text/html": page}
        if self._display is None:
            self._display = import_module("IPython.display").display(data, raw=True, display_id=True)
        else:
            self._display.update(data, raw=True)

    def line(self, done: int, count: int, recently: int, seconds: float) -> str:
        """Write what is drawn: ``[=====     ] 5,000/10,000 images, 1,234/s, 4 s left``."""
        bar = "=" * (20 * done // max(count, 1))
        text = f"[{bar:<20}] {done:,}/{count:,} {self._unit}"
        if recently <= 0 or seconds <= 0:
            return f"{text}, {self._waiting}" if self._waiting and done < count else text
        rate = recently / seconds
        shown = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"
        left = f"{_duration((count - done) / rate)} left" if done < count else f"in {_duration(seconds)}"
        return f"{text}, {shown}, {left}"


@contextmanager
def telling(asked: Callable[..., object] | bool | None, unit: str = "") -> Generator[Callable[..., object] | None]:
    """Give what a call tells how far it is: what the caller ``asked`` for, a ``Progress`` for True, or None."""
    if asked is True:
        with Progress(unit, after=_AFTER) as progress:
            yield progress
    else:
        yield asked or None


def saying(tell: Callable[..., object] | None, line: str) -> None:
    """Say what is waited for, where whoever is told can read; a caller's own function counts alone."""
    if isinstance(tell, Progress):
        tell(line)


def _notebook() -> Any:
    """The shell of a notebook, or of whatever else shows what a kernel displays; None elsewhere, terminals too."""
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if getattr(shell, "kernel", None) is not None else None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
