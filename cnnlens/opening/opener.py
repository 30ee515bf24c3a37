"""The one door: a path, a live model of a framework, arrays by name or a Network become a Network here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens import open as open_model
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Network
from cnnlens.opening.live import network_of

__all__ = ["network_given"]


def network_given(model: Any, inputs: Any, example: Any) -> Network:
    """``model`` as a Network; a live PyTorch module is exported with ``example``, or else with the first of ``inputs``.

    Raises:
        CnnlensError: it is a file that is refused, or a live model that cannot be read; one line.
    """
    if isinstance(model, Network):
        return model
    if isinstance(model, str | os.PathLike):
        return open_model(cast(str, model))
    return network_of(model, _first_of(inputs) if example is None else example)


def _first_of(inputs: Any) -> Any:
    """The first examples of arrays as they are given; None of whatever must be read first."""
    if isinstance(inputs, Mapping):
        return {name: _first_of(one) for name, one in cast("Mapping[str, Any]", inputs).items()}
    if isinstance(inputs, list | tuple):
        return tuple(_first_of(one) for one in cast("Sequence[Any]", inputs))
    return inputs[:1] if hasattr(inputs, "shape") and hasattr(inputs, "dtype") else None


_OPEN_SIZE = 96  # pixels, where the other model leaves its image size open


def _network(model: Any) -> Network | None:
    """The network of a model; None for a live PyTorch module that says nothing of its input."""
    from cnnlens import open as open_model
    from cnnlens.opening.state_dict import has_state_dict, network_of_state

    if isinstance(model, Network):
        return model
    if isinstance(model, Mapping):
        return network_of_state(model)
    if not has_state_dict(model):
        return open_model(model)
    try:
        return open_model(model)
    except CnnlensError:
        return None


def _module(model: Any, other: Network | None) -> Network:
    """A live module, called with inputs of the other model's shape; its arrays alone where that does not do."""
    from cnnlens import open as open_model
    from cnnlens.opening.state_dict import network_of_state

    shapes = [] if other is None else [other.canonical_shape(ref) for ref in other.inputs]
    example = [
        np.zeros((1, *(size or _OPEN_SIZE for size in shape[1:])), np.float32) for shape in shapes if shape is not None
    ]
    if example and len(example) == len(shapes):
        try:
            return open_model(model, example=tuple(example) if len(example) > 1 else example[0])
        except CnnlensError:
            pass
    return network_of_state(model)
