"""Framework models that are alive in this process: which framework they are of, and as Networks.

Core imports no framework, and need not: whoever hands over a model has imported its framework already. What reads the
model stands with the backends, is found by the entry-point group ``cnnlens.live`` (named by the framework's package),
and is imported then.
"""

from __future__ import annotations

import sys
from importlib import metadata

from cnnlens.errors import CnnlensError
from cnnlens.network import Network
from cnnlens.text import printable

__all__ = ["GROUP", "backend_of", "network_of"]

GROUP = "cnnlens.live"


def network_of(model: object) -> Network:
    """A live model as a Network.

    Raises:
        CnnlensError: it is no model of a framework that is known here, or it cannot be read; one line.
    """
    readers = {point.name: point for point in metadata.entry_points(group=GROUP)}
    for package in _packages(model):
        if package in readers:
            return readers[package].load()(model)
    known = " or ".join(["a path", "a Network", *(f"a live model of {name}" for name in sorted(readers))])
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise CnnlensError(f"{known} was expected, a {printable(kind)} came")


def backend_of(model: object) -> str:
    """The backend that a live model can run under: for Keras, the one that its Keras was imported with.

    Raises:
        CnnlensError: it is of no framework that says so.
    """
    keras = sys.modules.get("keras")
    if keras is None or "keras" not in _packages(model):
        raise CnnlensError("name the backend that the live model is to run under")
    return f"keras-{keras.config.backend()}"


def _packages(model: object) -> list[str]:
    """The packages that define the classes that a model is of, its own first."""
    return [one.__module__.partition(".")[0] for one in type(model).__mro__]
