"""Framework models that are alive in this process: which framework they are of, and as Networks.

Core imports no framework, and need not: whoever hands over a model has imported its framework already. What reads the
model stands with the backends, is found by the entry-point group ``cnnlens.live`` (named by the framework's package),
and is imported then.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["GROUP", "backend_of", "network_of_live"]

GROUP = "cnnlens.live"


def network_of_live(model: object, example: Any = None) -> Network:
    """Turn a live model into a Network.

    Args:
        model: A ``keras.Model`` or a ``torch.nn.Module``.
        example: For a PyTorch module, what it is called with: an array or tensor, a tuple of them, or a mapping by
            argument name. A Keras model needs none.

    Raises:
        CnnlensError: it is no model of a framework that is known here, or it cannot be read; one line.
    """
    readers = {point.name: point for point in metadata.entry_points(group=GROUP)}
    package = _framework(model, readers)
    if package == "keras":
        return readers[package].load()(model)
    if package is not None:
        return readers[package].load()(model, example)
    known = " or ".join(["a path", "a Network", *(f"a live model of {name}" for name in sorted(readers))])
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise CnnlensError(f"{known} was expected, a {printable(kind)} came")


def backend_of(model: object) -> str:
    """Name the backend that a live model can run under: for Keras, the one that its Keras was imported with.

    Raises:
        CnnlensError: it is of no framework that says so.
    """
    framework = _framework(model, ("keras", "torch"))
    keras = sys.modules.get("keras")
    if framework == "keras" and keras is not None:
        return f"keras-{keras.config.backend()}"
    if framework == "torch":
        return "pytorch"
    raise CnnlensError("name the backend that the live model is to run under")


def _framework(model: object, known: Any) -> str | None:
    """Which of the ``known`` packages a model's class is built on. Under the torch backend a ``keras.Model`` is a
    ``torch.nn.Module`` as well: Keras then knows more of it."""
    packages = [one.__module__.partition(".")[0] for one in type(model).__mro__]
    for package in ("keras", *packages):
        if package in known and package in packages:
            return package
    return None
