"""What adapters of any framework share: the device by its name, and inputs that fit.

Each is a question about the network or about what the caller asked, and has one answer whatever computes.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend import PRECISIONS
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import Call, Ref, shown_shape, without_graph
from cnnlens.network.network import Network
from cnnlens.text import nearest, printable
from cnnlens_backends._keras_errors import first_line, layer_of

__all__ = ["Array", "checked_inputs", "device_named", "failing", "precisions_on", "runnable", "versions", "wanted_refs"]

Array = NDArray[Any]


def device_named(backend: str, wanted: str, listed: Sequence[str]) -> tuple[str, str]:
    """Write a device as ``gpu:0`` and as people read it, ``gpu:0 NVIDIA H100``.

    Raises:
        CnnlensError: there is none of that name; says which there are.
    """
    named = {one.split(" ", 1)[0]: one for one in listed}
    found = "gpu:0" if wanted == "gpu" else wanted
    if found not in named:
        raise CnnlensError(f"it has no device '{printable(wanted)}' here; it has {', '.join(listed)}", backend)
    return found, named[found]


def precisions_on(device: str) -> tuple[str, ...]:
    """List the precisions that a framework has on ``cpu`` or ``gpu``: TensorFloat-32 is a format of GPUs' alone.

    A CPU may be asked for it too, and computes in float32 (torch's oneDNN, XLA) or in bfloat16 (``"medium"``).
    """
    return PRECISIONS if device != "cpu" else tuple(one for one in PRECISIONS if one != "tf32")


def runnable(network: Network, backend: str, framework: str) -> None:
    """Refuse a network that a backend of ``framework`` cannot run.

    Raises:
        UnsupportedLayerError: the network is of another framework than ``framework``, or holds no graph.
    """
    if not network.calls:
        raise without_graph(network)
    if network.source.framework != framework:
        raise UnsupportedLayerError(
            f"{printable(network.source.path, 300)}: it is a model of {printable(network.source.framework)}, which "
            f"{backend} does not run; convert it first: cnnlens convert MODEL --to {framework}"
        )


def checked_inputs(network: Network, inputs: Sequence[Array], dtype_of: Callable[[Call], str]) -> list[Array]:
    """Convert the inputs to the dtypes of the network's; bfloat16, which NumPy has not, is left to the framework.

    Raises:
        CnnlensError: their number, shapes or lengths do not fit.
    """
    refs = network.inputs
    if len(inputs) != len(refs):
        raise CnnlensError(f"the network has {len(refs)} inputs, and {len(inputs)} arrays came")
    arrays: list[Array] = []
    for ref, array in zip(refs, inputs, strict=True):
        wanted = network.canonical_shape(ref)
        fits = wanted is None or (
            len(wanted) == array.ndim and all(w in (None, s) for w, s in zip(wanted[1:], array.shape[1:], strict=True))
        )
        if not fits or len(array) != len(inputs[0]) or not len(array):
            raise CnnlensError(f"input '{printable(ref.name)}': {shown_shape(wanted)} was expected, {array.shape} came")
        dtype = dtype_of(network.calls_by_name[ref.call])
        arrays.append(array if dtype == "bfloat16" else array.astype(dtype, copy=False))
    return arrays


@contextmanager
def failing(backend: str, inputs: Sequence[Array], layers: Collection[str] = ()) -> Generator[None]:
    """Say in one line what a framework raises on a batch: each has many words for "out of memory", and for all else.

    Args:
        layers: The names of the network's layers; the one that the framework's error is about is told.
    """
    try:
        yield
    except CnnlensError:
        raise
    except Exception as error:
        batch = f" on a batch of {len(inputs[0])}" if inputs else ""
        layer = layer_of(error, layers)
        where = "" if layer is None else f"layer '{printable(layer)}': "
        raise CnnlensError(f"{where}it failed{batch} ({first_line(error)})", backend) from error


def wanted_refs(network: Network, tensors: Sequence[str]) -> list[Ref]:
    """Find the tensors of these names.

    Raises:
        CnnlensError: the network has no such tensor; names the nearest.
    """
    known = network.tensors
    for name in tensors:
        if name not in known:
            raise CnnlensError(f"no tensor is named '{printable(name)}'; {nearest(name, known)}")
    return [known[name] for name in tensors]


def versions(requires: Sequence[str]) -> dict[str, str]:
    """Say what computes, from metadata: Python, NumPy, and what of ``requires`` is installed."""
    found = {"python": platform.python_version(), "numpy": np.__version__}
    for name in (one for alternatives in requires for one in alternatives.split("|")):
        try:
            found[name.removesuffix("-cpu")] = version(name)
        except PackageNotFoundError:
            continue
    return found
