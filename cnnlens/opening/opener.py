"""The one door: a path, a live model of a framework, arrays by name or a Network become a Network here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.network.graph import OPEN_SIZE
from cnnlens.network.network import Network

__all__ = ["network_given", "networks_compared", "open"]


@in_one_line()
def open(
    source: str | os.PathLike[str] | Any,
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    example: Any = None,
    weights: str | None = None,
    lambdas: Mapping[str, str] | None = None,
) -> Network:
    """Read a model file into a ``Network``; nothing in it is executed and no framework is imported.

    Args:
        source: A ``.keras`` file or folder, a Keras ``.h5``/``.hdf5`` file, or ``.weights.h5``; a PyTorch state dict
            (``.pt``, ``.pth``, ``.safetensors``, or a ``.safetensors.index.json``), which has no graph, a pickled
            module (``torch.save(model)``), whose class is not needed, a TorchScript archive, or an exported program
            (``.pt2``). What it is is found by its first bytes, for extensions lie. ``ARCHIVE::MEMBER`` is a file in a
            zip or tar archive; it is read in memory, and the digest that is shown is the archive's. Or a live
            ``keras.Model`` or ``torch.nn.Module``.
        config: For a file that holds weights alone, the model's config: a mapping, or a file that has it (what
            ``model.to_json()`` gives, or another model file of the same architecture).
        example: For a live ``torch.nn.Module``, what it is called with: an array or tensor ``(N, C, *spatial)``, a
            tuple of them, or a mapping by argument name. Its numbers do not matter.
        weights: For a checkpoint with several sets of weights, the entry that is wanted: ``"ema"``, ``"state_dict"``.
        lambdas: What Lambda layers of a Keras file compute, by their names: arithmetic on ``x`` such as
            ``{"scale": "x / 255 - 0.5"}``, with numbers, ``+ - * / **``, brackets and abs, exp, log, sqrt, tanh,
            sigmoid, relu, minimum, maximum and clip. It is parsed and never evaluated as Python.

    Returns:
        The network. Only the file's index is read; a layer's arrays are read when they are asked for.

    Raises:
        FileRefusedError: the file is missing, broken or hostile, or of a format that cnnlens does not read; one line
            with the file, the place in it, the reason and the way out.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> net
    <Network Sequential 'fashion_mnist_cnn': 8 layers, 333,526 parameters>
    >>> net.input_shapes  # canonical (N, C, H, W); None: any number
    {'input_layer': (None, 1, 28, 28)}
    >>> net["conv2d"].kernel.shape  # canonical (out, in / groups, H, W)
    (32, 1, 3, 3)
    >>> cnnlens.open("nowhere.keras")
    Traceback (most recent call last):
        ...
    cnnlens.errors.FileRefusedError: nowhere.keras: no such file; check the path; there are none
    """
    if isinstance(source, Network) and (config is not None or example is not None or weights is not None or lambdas):
        raise CnnlensError(f"{source!r} is open already: a config, an example, weights and lambdas are for what is not")
    if weights is not None and not isinstance(source, str | os.PathLike):
        raise CnnlensError("weights names an entry of a file, and a live model came")
    return network_given(source, example=example, config=config, weights=weights, lambdas=lambdas)[0]


def network_given(
    model: Any,
    inputs: Any = None,
    example: Any = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    weights: str | None = None,
    lambdas: Mapping[str, str] | None = None,
) -> tuple[Network, Any]:
    """Turn what a public function was given for a model into a Network, and give with it the model if that is live.

    Args:
        model: An open ``Network``, a path, or a live model.
        inputs: What the model is to be run on.
        example: What a live PyTorch module is exported with; None takes the first of ``inputs``.
        config, weights, lambdas: As ``open`` takes them.

    Raises:
        CnnlensError: it is a file that is refused, or a live model that cannot be read; one line.
    """
    if isinstance(model, Network):
        return model, None
    if not isinstance(model, str | os.PathLike):
        from cnnlens.opening.live import network_of_live

        if lambdas:
            raise CnnlensError("lambdas are for the Lambda layers of a file; a live model runs its own code")
        return network_of_live(model, _first_of(inputs) if example is None else example), model
    from cnnlens.files import network
    from cnnlens.files.keras.config_source import read_config

    if config is not None and not isinstance(config, Mapping):
        config = read_config(config)
    path = os.fspath(cast("str | os.PathLike[str]", model))
    return network(path, config=config, weights=weights, lambdas=lambdas), None


def _first_of(inputs: Any) -> Any:
    """The first examples of arrays as they are given; None of whatever must be read first."""
    if isinstance(inputs, Mapping):
        return {name: _first_of(one) for name, one in cast("Mapping[str, Any]", inputs).items()}
    if isinstance(inputs, list | tuple):
        return tuple(_first_of(one) for one in cast("Sequence[Any]", inputs))
    return inputs[:1] if hasattr(inputs, "shape") and hasattr(inputs, "dtype") else None


def networks_compared(a: Any, b: Any) -> tuple[Network, Network]:
    """Turn two models into Networks, a live PyTorch module called with inputs of the other's shape if it says none.

    Args:
        a, b: What ``network_given`` takes, or arrays by the names that a state dict has.

    Raises:
        CnnlensError: one of them cannot be read; one line.
    """
    one, other = _network_alone(a), _network_alone(b)
    if one is None:
        one = _network_like(a, other)
    return one, _network_like(b, one) if other is None else other


def _network_alone(model: Any) -> Network | None:
    """The network of a model; None for a live PyTorch module that says nothing of its input."""
    from cnnlens.opening.state_dict import has_state_dict, network_of_state

    if isinstance(model, Mapping):
        return network_of_state(model)
    if not has_state_dict(model):
        return open(model)
    try:
        return open(model)
    except CnnlensError:
        return None


def _network_like(model: Any, other: Network | None) -> Network:
    """A live module, called with inputs of the other model's shape; its arrays alone where that does not do."""
    from cnnlens.opening.state_dict import network_of_state

    shapes = [] if other is None else [other.canonical_shape(ref) for ref in other.inputs]
    example = [
        np.zeros((1, *(size or OPEN_SIZE for size in shape[1:])), np.float32) for shape in shapes if shape is not None
    ]
    if example and len(example) == len(shapes):
        try:
            return open(model, example=tuple(example) if len(example) > 1 else example[0])
        except CnnlensError:
            pass
    return network_of_state(model)
