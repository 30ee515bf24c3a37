"""PyTorch's aten operations, as torch.export writes them, computed by the reference's own operations.

``translate`` turns one call into an operation in channels-first order, with what it is called with and how torch's
weights become the operation's. Both dialects are understood: what ``torch.export.export`` gives, and what is left
after ``run_decompositions``. What cannot be computed is refused by name before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import CONFIG_ERRORS
from cnnlens.reference.aten import activations as _activations
from cnnlens.reference.aten import constants as _constants
from cnnlens.reference.aten import elementwise as _elementwise
from cnnlens.reference.aten import linear as _linear
from cnnlens.reference.aten import normalization as _normalization
from cnnlens.reference.aten import pooling as _pooling
from cnnlens.reference.aten import products as _products
from cnnlens.reference.aten import recurrent as _recurrent
from cnnlens.reference.aten import reductions as _reductions
from cnnlens.reference.aten import resizing as _resizing
from cnnlens.reference.aten import selecting as _selecting
from cnnlens.reference.aten import shaping as _shaping
from cnnlens.reference.aten.arguments import Arguments, Tensor, Translation
from cnnlens.reference.aten.registry import TRANSLATORS
from cnnlens.reference.operation import Shape
from cnnlens.text import nearest, printable

__all__ = ["TRANSLATORS", "Tensor", "Translation", "translate"]

# Importing a module fills the table.
_MODULES = (
    *(_activations, _constants, _elementwise, _linear, _normalization, _pooling, _products),
    *(_recurrent, _reductions, _resizing, _selecting, _shaping),
)


def translate(
    target: str, arguments: Mapping[str, Any], weights: Mapping[str, tuple[int, ...]], tensors: Sequence[Shape | None]
) -> Translation:
    """Translate one aten call into an operation of the reference.

    Args:
        target: The operator with its overload, such as ``aten.conv2d.default``.
        arguments: By the names of aten's schema; those left at their default may be absent. ``{"tensor": k}`` stands
            for the k-th tensor, ``{"weight": name}`` for a weight of the layer, ``{"batch": m}`` for a size that is m
            times the batch; ``{"batch": m, "tensor": k}`` says which tensor's first axis shows the batch, which is
            needed where no operand does.
        weights: The shapes of the layer's weights as torch stores them, by name.
        tensors: The shapes of the tensors, None for the batch (or for a size that is not known).

    Returns:
        The operation, its arguments, which weights it uses, and how they are turned into the operation's own axes.
        Of operators that return several tensors of which the rest is of no use at inference (statistics, indices of
        maxima, states), the first alone is computed; those that return lists give lists.

    Raises:
        UnsupportedLayerError: there is no such operation here, or not with these arguments; names it and says why.
    """
    parts = target.removeprefix("torch.ops.").split(".")
    if len(parts) < 2 or parts[0] != "aten":
        raise UnsupportedLayerError(
            f"the reference has no operator {printable(target)}: it is not one of PyTorch's own"
        )
    overload = parts[2] if len(parts) > 2 else "default"
    name = parts[1] if parts[1] in TRANSLATORS else parts[1].removesuffix("_")
    translator = TRANSLATORS.get(name)
    if translator is None:
        raise UnsupportedLayerError(f"the reference has no operator {printable(target)}; {nearest(name, TRANSLATORS)}")
    try:
        return translator(Arguments(name, overload, arguments, weights, tensors))
    except CONFIG_ERRORS as error:
        raise UnsupportedLayerError(
            f"{printable(target)}: its arguments cannot be understood ({printable(error, 200)})"
        ) from error
