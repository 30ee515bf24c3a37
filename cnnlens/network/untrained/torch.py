"""How PyTorch draws a layer's arrays when nobody says otherwise.

A Keras file names each initializer; a PyTorch file never does, for modules draw their parameters in
``reset_parameters`` and forget how. What is here is what those methods of torch.nn do in PyTorch 1.0 to 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnlens.kinds import kind_of

if TYPE_CHECKING:
    from cnnlens.network.weight import Weight

__all__ = ["torch_default"]

_ONES = frozenset({"gamma", "scale", "moving_variance"})
_ZEROS = frozenset({"beta", "moving_mean", "num_batches_tracked"})


def torch_default(weight: Weight, siblings: Mapping[str, Weight]) -> dict[str, Any] | None:
    """Give the distribution of a fresh array, as a Keras initializer's config entry; None where it is not known.

    Args:
        weight: Of a layer whose arrays are in PyTorch's layout.
        siblings: The layer's arrays by name, ``weight`` among them: a bias is drawn from its kernel's fan-in.

    Sources: ``torch.nn.modules.conv._ConvNd.reset_parameters`` and ``torch.nn.Linear.reset_parameters`` (Kaiming
    uniform with a = sqrt(5), which is uniform within 1 / sqrt(fan_in); the bias within the same), ``_BatchNorm``,
    ``LayerNorm``, ``PReLU``, ``Embedding`` and ``RNNBase``. The fan-in is counted on the stored array, whose second
    axis PyTorch takes for the inputs even in a transposed convolution.
    """
    if weight.role in _ONES:
        return _entry("Ones")
    if weight.role in _ZEROS:
        return _entry("Zeros")
    if weight.role == "alpha":
        return _entry("Constant", value=0.25)
    if weight.role == "embeddings":
        return _entry("RandomNormal", mean=0.0, stddev=1.0)
    if kind_of(weight.kind).cell:
        state = next((one for one in siblings.values() if one.role == "recurrent_kernel"), None)
        return None if state is None else _uniform(state.stored.shape[-1])
    kernel = weight if weight.is_kernel else next((one for one in siblings.values() if one.is_kernel), None)
    if kernel is None or weight.role not in (kernel.role, "bias"):
        return None
    return _uniform(math.prod(kernel.stored.shape[1:]))


def _uniform(fan_in: int) -> dict[str, Any]:
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    return _entry("RandomUniform", minval=-bound, maxval=bound)


def _entry(name: str, **config: float) -> dict[str, Any]:
    return {"class_name": name, "config": config}
