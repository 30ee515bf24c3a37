"""How each Keras layer is written in PyTorch: one rule a family of kinds, found by the layer's class name."""

from __future__ import annotations

from cnnlens.conversion.to_torch.call_site import RULES, CallSite, Results
from cnnlens.conversion.to_torch.rules import activations as _activations
from cnnlens.conversion.to_torch.rules import attention as _attention
from cnnlens.conversion.to_torch.rules import bare
from cnnlens.conversion.to_torch.rules import convolution as _convolution
from cnnlens.conversion.to_torch.rules import dense as _dense
from cnnlens.conversion.to_torch.rules import local as _local
from cnnlens.conversion.to_torch.rules import merging as _merging
from cnnlens.conversion.to_torch.rules import normalization as _normalization
from cnnlens.conversion.to_torch.rules import pooling as _pooling
from cnnlens.conversion.to_torch.rules import recurrent as _recurrent
from cnnlens.conversion.to_torch.rules import resizing as _resizing
from cnnlens.conversion.to_torch.rules import scaling as _scaling
from cnnlens.conversion.to_torch.rules import shaping as _shaping
from cnnlens.conversion.to_torch.rules import transposed as _transposed
from cnnlens.conversion.to_torch.rules import wrappers as _wrappers
from cnnlens.errors import UnsupportedLayerError
from cnnlens.reference.bare.ops import BareOperation, KerasTwoOperation
from cnnlens.text import printable

__all__ = ["REFUSED", "convert", "is_known"]

# Importing a module registers its kinds.
_MODULES = (
    _activations, _attention, _convolution, _dense, _local, _merging, _normalization, _pooling, _recurrent, _resizing,
    _scaling, _shaping, _transposed, _wrappers,
)  # fmt: skip


_CONV_LSTM = "PyTorch has no convolutional LSTM"
# Kinds that the reference computes and PyTorch has nothing for, with the reason that a person is given.
REFUSED: dict[str, str] = {f"ConvLSTM{rank}D": _CONV_LSTM for rank in (1, 2, 3)}


def is_known(kind: str) -> bool:
    """Tell whether there is code for a layer of this kind, or for an operation of this name."""
    return kind in RULES or bare.is_known(kind)


def convert(site: CallSite) -> Results:
    """Write the layer's code through ``site``.

    Raises:
        UnsupportedLayerError: PyTorch cannot express it, or no rule is written for it.
    """
    if isinstance(site.operation, (BareOperation, KerasTwoOperation)):
        return bare.convert(site)
    if site.kind == "SpectralNormalization":
        # At inference Keras calls the inner layer as it is: its stored kernel is the normalised one.
        site.note("spectral", "Spectral normalisation acts in training; the stored kernel is normalised already.")
        site.kind, site.config = site.operation.kind, site.operation.config
    found = RULES.get(site.kind)
    if site.kind in REFUSED:
        raise UnsupportedLayerError(REFUSED[site.kind])
    if found is None:
        raise UnsupportedLayerError(f"no PyTorch code is known for a {printable(site.kind)}")
    return found(site)
