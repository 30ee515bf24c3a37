"""What a framework's exception says, in one line: Keras wraps causes in whole configs and terminal colours."""

from __future__ import annotations

import re

from cnnlens.text import printable

__all__ = ["first_line"]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_WRAPPING = (
    "Exception encountered when calling", "Error when deserializing", "Could not automatically infer",
    # TensorFlow's, in front of the frames of a graph and of what it has to say.
    "Graph execution error", "Detected at node", 'File "',
)  # fmt: skip


def first_line(error: BaseException) -> str:
    """Find the first line of ``error`` that says a cause; its class where it says nothing."""
    text = _COLOURS.sub("", str(error))
    # Of a config that cannot be read, the cause is said last.
    said = text.rsplit("Exception encountered:", 1)[-1].splitlines()
    lines = [line.strip() for line in said if line.strip() and not line.strip().startswith(_WRAPPING)]
    return printable(lines[0] if lines else type(error).__name__, 200)
