"""What a framework's exception says, in one line: Keras wraps causes in whole configs and terminal colours."""

from __future__ import annotations

import re
from collections.abc import Collection

from cnnlens.text import printable

__all__ = ["first_line", "layer_of"]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NODE = re.compile(r"\{\{node (\S+?)\}\}")
_AGAIN = re.compile(r"_\d+$")  # behind the name of a scope that is opened a second time
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


def layer_of(error: BaseException, names: Collection[str]) -> str | None:
    """Find which layer ``error`` is about: the one that was noted when it was called, or the one in whose scope a node
    of TensorFlow's graph stands; None where nothing says."""
    scopes = (scope for node in _NODE.findall(str(error)) for scope in node.split("/"))
    said = (*getattr(error, "__notes__", ()), *(one for scope in scopes for one in (scope, _AGAIN.sub("", scope))))
    return next((one for one in said if one in names), None)
