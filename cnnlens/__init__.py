"""See what a convolutional network learned, in any framework, and prove that the frameworks agree.

``cnnlens.open(path)`` reads a model file into a framework-free ``Network``; ``cnnlens.plot`` draws it. Names are
imported when they are first used, so that ``import cnnlens`` costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from cnnlens.errors import CnnlensError, FileRefusedError, UnsupportedLayerError

if TYPE_CHECKING:
    from cnnlens import layout, plot
    from cnnlens.checking.checker import check
    from cnnlens.checking.result import Check
    from cnnlens.conversion import Conversion, convert
    from cnnlens.differing.differ import diff
    from cnnlens.differing.result import Diff
    from cnnlens.inputs import images
    from cnnlens.network.graph import Call, Layer, Network
    from cnnlens.network.kernel import Kernel, Statistics
    from cnnlens.recording.recorder import record
    from cnnlens.recording.recording import Recording

__all__ = [
    "Call",
    "Check",
    "CnnlensError",
    "Conversion",
    "Diff",
    "FileRefusedError",
    "Kernel",
    "Layer",
    "Network",
    "Recording",
    "Statistics",
    "UnsupportedLayerError",
    "__version__",
    "check",
    "convert",
    "diff",
    "images",
    "layout",
    "open",
    "plot",
    "record",
]

__version__: str  # from the distribution's metadata, when it is asked for

_HOME = {
    "Call": "network",
    "Check": "checking",
    "Conversion": "conversion",
    "Diff": "differing",
    "Kernel": "kernel",
    "Layer": "network",
    "Network": "network",
    "Recording": "recording",
    "Statistics": "kernel",
    "check": "checking",
    "convert": "conversion",
    "diff": "differing",
    "record": "recorder",
}
_MODULES = ("images", "layout", "plot")


def open(
    source: str | os.PathLike[str] | Any,
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    example: Any = None,
) -> Network:
    """Read a model file into a ``Network``; nothing in it is executed and no framework is imported.

    Args:
        source: A ``.keras`` file or folder, a Keras ``.h5``/``.hdf5`` file, or ``.weights.h5``; a PyTorch state dict
            (``.pt``, ``.pth``, ``.safetensors``, or a ``.safetensors.index.json``), which has no graph, or an exported
            program (``.pt2``). What it is is found by its first bytes, for extensions lie. Or a live ``keras.Model``
            or ``torch.nn.Module``.
        config: For a file that holds weights alone, the model's config: a mapping, or a file that has it (what
            ``model.to_json()`` gives, or another model file of the same architecture).
        example: For a live ``torch.nn.Module``, what it is called with: an array or tensor ``(N, C, *spatial)``, a
            tuple of them, or a mapping by argument name. Its numbers do not matter.

    Returns:
        The network. Only the file's index is read; a layer's arrays are read when they are asked for.

    Raises:
        FileRefusedError: the file is missing, broken or hostile, or of a format that cnnlens does not read; one line
            with the file, the place in it, the reason and the way out.
    """
    if not isinstance(source, str | os.PathLike):
        from cnnlens.opening.live import network_of

        return network_of(source, example)
    from cnnlens.files import network
    from cnnlens.files.keras.config_source import read_config

    if config is not None and not isinstance(config, Mapping):
        config = read_config(config)
    return network(os.fspath(cast("str | os.PathLike[str]", source)), config=config)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cnnlens")
    if name in _HOME:
        return getattr(import_module(f"cnnlens.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"cnnlens.{name}")
    raise AttributeError(f"module 'cnnlens' has no attribute '{name}'")
